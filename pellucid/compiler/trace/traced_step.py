"""What one run of a step came to: the graph, and what it found, gave and left behind (floor 4).

A Recording crosses from `trace.py`, which makes it, to the programs, which are bound to its Tensors.
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


class IndexFault(Exception):
    """An index was out of range. The compiled step has written nothing; run eagerly, it tells what is wrong."""


class Retrace(BaseException):
    """Ends a recording that cannot go on; no `except Exception` of the user's holds it up."""


class OutputRef(int):
    """Stands in a recorded result for the output of that number."""


@dataclass(frozen=True)
class ViewRef:
    """Stands in a recorded result for a view of an argument, or of a Tensor that was there before.

    tracked: whether it is on the tape.
    """

    base: Tensor
    path: Path
    tracked: bool


@dataclass
class TracedStep:
    """What one run of a step came to.

    result: the step's return value with the position in `graph.outputs` in place of each Tensor, or the Tensor itself
        where the step gives back an argument or a Tensor that was there before.
    tracked: for each position, whether a backward through that output would be asked for.
    wanted: plain Tensors of the step's own, and whether they require a gradient (a Parameter tells of a change by itself).
    presence: gradients whose being there, or not, the step has looked at: (Tensor, there); arguments are not among them.
    cleared: Tensors whose `.grad` the step has set to None.
    used: Tensors whose `.grad` the optimizer has used up.
    trained: arguments and Tensors from before whose `requires_grad` the step has changed: (Tensor, requires_grad).
    grown: results that are leaves of their own, made inside, and which output is their `.grad`: {position: position, or
        None}.
    inference: whether nothing of the step went on the tape, so that the bits of a row do not depend on the rows beside it.
    handed: results that are a gradient which the step leaves behind: the output's position, and whose gradient it is.
    leaves: where the backward is asked for outside, the Tensors that get a gradient; the graph's last outputs are these
        gradients, and slots of kind "cotangent" are what they are computed from. Else None.
    padding: where the graph is that of a padded axis, what arguments go in and what comes out at the true length.
    guards: what the step has read of Python's state. changes: what it has written there and not put back; `undo` does.
    met: ids of the Tensors that the step has come to by itself; an argument may be among them.
    views: Tensors from before the step that it reads as views of others: each with its cell, and the base of that.
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
    values: list[Any]
    positions: dict[int, OutputRef]
    new_leaves: dict[int, int | None]
