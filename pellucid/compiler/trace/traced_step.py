"""A traced step: its graph, the state it reads and writes, and the structure of its result (floor 4).

`tracer.py` makes a TracedStep. Programs are bound to its Tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ...core.sharing import Cell, Path
from ...core.value import Symbol
from ...tensor import Tensor
from ..guards import Change, Guard
from ..ir.graph import Graph, Input
from ..passes.canonical_form import CanonicalForm, canonical_form
from ..passes.padded_axes import Padding

SHARED_ARGUMENT = (
    "{}: the step writes a Tensor {} that shares its numbers with an argument, or the argument {} itself; expected what is "
    "written to be one argument, or none; pass the whole once, or a clone()"
)
GIVEN_GRADIENT = (
    "compile: the gradient of a Tensor {} is an argument and read as .grad too; expected one of the two; read x.grad inside "
    "the step, or pass x.grad.clone()"
)
SHARED_GRADIENT = (
    "compile: the gradient of a Tensor {} shares its numbers with another gradient, with an argument or with a Tensor that the step "
    "reads; expected numbers of its own; write p.grad = g.clone(), or do this outside of the compiled step"
)


# The function of a step, and what a call gives it: any nests of Tensors and plain values, and any result.
Function = Callable[..., Any]
Args = tuple[Any, ...]
Kwargs = dict[str, Any]
# An input that a step writes, and its new value.
Write = tuple[Input, Symbol]


class IndexFault(Exception):
    """An index was out of range. The compiled step has written nothing; the eager step raises the error that explains it."""


class Retrace(BaseException):
    """Ends a trace that cannot go on. It is no Exception, so that the user's `except Exception` does not catch it."""


class OutputRef(int):
    """An output of the graph, by number, in the structure of a result."""


@dataclass(frozen=True)
class ViewRef:
    """A view of an argument, or of a Tensor from before the step, in the structure of a result.

    tracked: whether it is on the tape.
    """

    base: Tensor
    path: Path
    tracked: bool


@dataclass(frozen=True)
class FoundTensors:
    """How a step has found the Tensors that are no arguments. A later call must find them alike.

    requires_grad: plain Tensors, and whether they require a gradient. (A Parameter announces a change.)
    grad_presence: Tensors whose `.grad` the step has looked at, and whether there was one.
    views: Tensors that it reads as views, each with its cell and the base of that cell.
    """

    requires_grad: list[tuple[Tensor, bool]]
    grad_presence: list[tuple[Tensor, bool]]
    views: list[tuple[Tensor, Cell, Tensor]]


@dataclass(frozen=True)
class GradientChanges:
    """What a step changes in Tensors from outside, besides numbers.

    cleared: Tensors whose `.grad` it sets to None.
    consumed: Tensors whose `.grad` the optimizer consumes, so that it cannot be read afterwards.
    requires_grad: Tensors whose `requires_grad` it sets, and to what.
    """

    cleared: list[Tensor]
    consumed: list[Tensor]
    requires_grad: list[tuple[Tensor, bool]]


@dataclass(frozen=True)
class TracedStep:
    """What one trace of a step has found.

    result: the return value, with an OutputRef in place of each Tensor made by the step, a ViewRef in place of a view, and
        the Tensor itself where the step returns an argument or an earlier Tensor.
    tracked: for each output, whether `backward()` may be called through it.
    new_leaves: results that are leaves made by the step: {output: the output that is its `.grad`, or None}.
    returned_grads: results that are a gradient which the step leaves behind: the output, and the Tensor it belongs to.
    inference: whether nothing went on the tape, so that the bits of a row may not depend on the rows beside it.
    leaves: where `backward()` comes from outside, the Tensors that get a gradient. The last outputs of the graph are these
        gradients, computed from inputs of kind "cotangent". Else None.
    padding: for a graph with a padded axis, how arguments go in and results come out at the true length.
    guards: the Python state that the step has read. state_changes: what it has written there and not restored; `undo`
        restores it.
    found_ids: ids of the Tensors that the step finds by itself; an argument may be among them.
    """

    graph: Graph
    result: Any
    tracked: list[bool]
    new_leaves: dict[int, int | None]
    returned_grads: list[tuple[int, Tensor]]
    found: FoundTensors
    gradient_changes: GradientChanges
    inference: bool
    leaves: list[Tensor] | None
    padding: Padding | None = None
    guards: list[Guard] = field(default_factory=list)
    state_changes: list[Change] = field(default_factory=list)
    undo: Callable[[], None] = lambda: None
    found_ids: set[int] = field(default_factory=set)

    @functools.cached_property
    def form(self) -> CanonicalForm:
        return canonical_form(self.graph)
