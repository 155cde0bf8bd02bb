"""Tape nodes of a compiled call, so that `backward()` can be called outside of it (floor 4).

A call is one Node, and each of its results another Node behind it. Each result collects its cotangent, dL/d(result). Then
the Node of the call passes them to the backward phase of the program, which gives the gradients of what the call has read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...core.op import Node, Op
from ...core.origin import origin, user_origin
from ...core.value import Symbol, grad_mode
from ...errors import GradientError
from ...ops.loop import Cotangents
from ...tensor import Tensor

# From cotangents by output to dL/d(input) for every input; None where there is none.
Backward = Callable[[Mapping[int, Tensor]], Sequence[Tensor | None]]


class _Compiled(Op):
    """Base of the operations that stand on the tape for compiled calls. They are not in the registry."""

    name = "compiled"
    saves_inputs = saves_output = False

    def __init__(self) -> None:
        self.gradients = ()


class _Call(_Compiled):
    """A call of a compiled function. backward: its backward phase, on the values that this call has saved."""

    saves_inputs = True

    def backward(self, node: Node, g: Cotangents) -> list[Tensor | None]:
        if grad_mode.get():
            raise GradientError(
                f"{node.origin}: the gradient of a compiled function is to be differentiated again (create_graph=True); "
                "expected one gradient outside of it; compile the whole step, with both gradients in it, or call the "
                "function that is not compiled"
            )
        gradients = node.attributes["backward"](g)
        return [None if parent is None else x for parent, x in zip(node.parents, gradients, strict=True)]


class _Result(_Compiled):
    """One result of a call."""

    def backward(self, node: Node, g: Tensor) -> list[Cotangents]:
        return [Cotangents({node.attributes["position"]: g})]


class _Walked(_Compiled):
    """A result whose tape the compiled function has walked itself."""

    def backward(self, node: Node, g: Tensor) -> list[Any]:
        raise GradientError(
            "backward through the result of a compiled function that calls backward() itself; expected one of the two; "
            "leave this backward() out, or take the one inside out"
        )


_CALL, _RESULT, _WALKED = _Call(), _Result(), _Walked()


def put_on_tape(
    values: Sequence[Tensor], tracked: Sequence[bool], inputs: Sequence[Tensor], backward: Backward
) -> None:
    """Put the tracked ones of `values` on the tape: their backward calls `backward` and continues in `inputs`."""
    token = origin.set(user_origin())  # find it once for all Nodes
    try:
        call = Node(_CALL, inputs, {"backward": backward}, values[0].array)
        for position, value in enumerate(values):
            if tracked[position]:
                value.node, value.requires_grad = Node(_RESULT, (), {"position": position}, value.array), True
                value.node.parents = (call,)
    finally:
        origin.reset(token)


def refusing_node(symbol: Symbol) -> Node:
    """A Node that refuses `backward()`, for a result whose tape the function has walked itself."""
    return Node(_WALKED, (), {}, symbol)  # type: ignore[arg-type]  # it has a shape and a dtype
