"""What a compiled call gives back: Tensors in the structure that was recorded, and what it leaves in `.grad` (floor 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import GradientError, TraceError
from ..op import Node, Op, new_value
from ..tensor import Tensor, UsedUp
from .trace import Position, Recording

USED_UP = UsedUp()


class Owners:
    """Whose `.grad` a recorded one stands for: a Tensor of the step's own, or whatever a call gives as that argument."""

    def __init__(self, recording: Recording) -> None:
        slots = recording.graph.inputs
        self.positions = {id(slot.owner): slot.position for slot in slots if slot.kind == "argument"}
        self.cleared, self.used = recording.cleared, recording.used

    def now(self, owner: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        position = self.positions.get(id(owner))
        return owner if position is None else tensors[position]

    def leave(self, tensors: Sequence[Tensor]) -> None:
        """Gradients that the step cleared are gone; reading one that its optimizer used up says so."""
        for owner in self.cleared:
            self.now(owner, tensors)._grad = None
        for owner in self.used:
            self.now(owner, tensors)._grad = USED_UP


def maker(array: Callable[[], np.ndarray], tracked: bool) -> Callable[[], Any]:
    """A function that makes the Tensor of one output. tracked: a backward through it would be asked for."""
    if not tracked:
        return lambda: new_value(array())

    def make() -> Any:
        value = new_value(array())
        value.node, value.requires_grad = Node(_COMPILED, (), {}, value.array), True
        return value

    return make


class _Compiled(Op):
    """Stands on the tape for a whole compiled function, whose inside was not recorded for eager gradients."""

    name = "compiled"
    reads_inputs = reads_output = False

    def __init__(self) -> None:  # not in the registry: it is no operation
        self.gradients = ()

    def backward(self, node: Node, g: Any) -> list[Any]:
        raise GradientError(
            "backward through the result of a compiled function; expected the backward inside it, where it is compiled "
            "too; compile the whole step, with loss.backward() and optimizer.step() in it"
        )


_COMPILED = _Compiled()


def rebuilder(result: Any, makers: list[Callable[[], Any]]) -> Callable[[], Any]:
    """A function that gives the step's return value anew, in the structure that was recorded."""
    if isinstance(result, Position):
        return makers[result]
    if isinstance(result, dict):
        parts = {key: rebuilder(value, makers) for key, value in result.items()}
        return lambda: {key: make() for key, make in parts.items()}
    if isinstance(result, tuple | list):
        items = [rebuilder(value, makers) for value in result]
        if hasattr(result, "_fields"):
            return lambda: type(result)(*[make() for make in items])
        return lambda: type(result)([make() for make in items])
    if result is None or isinstance(result, int | float | str | bool):
        return lambda: result
    raise TraceError(
        f"compile: the step returns a {type(result).__name__}; expected Tensors, or dicts, lists and tuples of them; "
        "return those, and compute the rest outside"
    )
