"""A traced step: its graph, the state it reads and writes, and the structure of its result (floor 4).

`tracer.py` makes a TracedStep. Programs are bound to its Tensors.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...core.sharing import Cell, Path
from ...core.value import Symbol
from ...tensor import Tensor
from ..guards import Change, Guard
from ..ir.graph import Graph
from ..passes.canonical_form import CanonicalForm, canonical_form
from ..passes.padded_axes import Padding

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


@dataclass
class TracedStep:
    """What one trace of a step has found.

    result: the return value, with an OutputRef in place of each Tensor made by the step, a ViewRef in place of a view, and
        the Tensor itself where the step returns an argument or an earlier Tensor.
    tracked: for each output, whether `backward()` may be called through it.
    requires_grad_checks: plain Tensors that the step finds, and their `requires_grad`. (A Parameter announces a change.)
    grad_presence: Tensors whose `.grad` the step has looked at, and whether there was one; arguments are not among them.
    cleared_grads: Tensors whose `.grad` the step sets to None.
    consumed_grads: Tensors whose `.grad` the optimizer consumes, so that it cannot be read afterwards.
    requires_grad_changes: Tensors from outside whose `requires_grad` the step sets, and to what.
    new_leaves: results that are leaves made by the step: {output: the output that is its `.grad`, or None}.
    inference: whether nothing went on the tape, so that the bits of a row may not depend on the rows beside it.
    leaves: where `backward()` comes from outside, the Tensors that get a gradient. The last outputs of the graph are these
        gradients, computed from inputs of kind "cotangent". Else None.
    padding: for a graph with a padded axis, how arguments go in and results come out at the true length.
    guards: the Python state that the step has read. state_changes: what it has written there and not restored; `undo`
        restores it.
    found_ids: ids of the Tensors that the step finds by itself; an argument may be among them.
    known_views: Tensors from before the step that it reads as views, each with its cell and the base of that cell.
    returned_grads: results that are a gradient which the step leaves behind: the output, and the Tensor it belongs to.
    """

    graph: Graph
    result: Any
    tracked: list[bool]
    requires_grad_checks: list[tuple[Tensor, bool]]
    grad_presence: list[tuple[Tensor, bool]]
    cleared_grads: list[Tensor]
    consumed_grads: list[Tensor]
    requires_grad_changes: list[tuple[Tensor, bool]]
    new_leaves: dict[int, int | None]
    inference: bool = False
    leaves: list[Tensor] | None = None
    padding: Padding | None = None
    guards: list[Guard] = field(default_factory=list)
    state_changes: list[Change] = field(default_factory=list)
    undo: Callable[[], None] = lambda: None
    found_ids: set[int] = field(default_factory=set)
    known_views: list[tuple[Tensor, Cell, Tensor]] = field(default_factory=list)
    returned_grads: list[tuple[int, Tensor]] = field(default_factory=list)

    @functools.cached_property
    def form(self) -> CanonicalForm:
        return canonical_form(self.graph)


class TracedResults(NamedTuple):
    """What a step returns.

    structure: the return value with references to outputs in place of Tensors. outputs, tracked, new_leaves: see
        `TracedStep`. values: the Tensors behind `outputs`. positions: the output of each, by id.
    """

    structure: Any
    outputs: list[Symbol]
    tracked: list[bool]
    values: list[Tensor]
    positions: dict[int, OutputRef]
    new_leaves: dict[int, int | None]
