"""The results of a compiled function on the tape: a backward that is asked for outside of it (floor 4).

On the tape the whole call is one Node, and each result another one behind it. What comes back to a result is a cotangent;
once all have come, the call's Node hands them to the program's backward phase, which gives the gradients of everything
that the function has read.
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

# From the cotangents by output to dL/d(input) for every input, None where there is none.
Backward = Callable[[Mapping[Any, Tensor]], Sequence[Tensor | None]]


class _Compiled(Op):
    """What of a compiled function stands on the tape. It is no operation of the registry."""

    name = "compiled"
    saves_inputs = saves_output = False

    def __init__(self) -> None:
        self.gradients = ()


class _Call(_Compiled):
    """A call of a compiled function. backward: its backward phase, on what this call has kept."""

    saves_inputs = True

    def backward(self, node: Node, g: Cotangents) -> list[Any]:
        if grad_mode.get():
            raise GradientError(
                f"{node.origin}: the gradient of a compiled function is to be differentiated again (create_graph=True); "
                "expected one gradient outside of it; compile the whole step, with both gradients in it, or call the "
                "function that is not compiled"
            )
        found = node.attributes["backward"](g)
        return [None if parent is None else x for parent, x in zip(node.parents, found, strict=True)]


class _Result(_Compiled):
    """One result of a call."""

    def backward(self, node: Node, g: Any) -> list[Any]:
        return [Cotangents({node.attributes["position"]: g})]


class _Walked(_Compiled):
    """Stands on the tape for a result whose tape the compiled function has walked itself."""

    def backward(self, node: Node, g: Any) -> list[Any]:
        raise GradientError(
            "backward through the result of a compiled function that calls backward() itself; expected one of the two; "
            "leave this backward() out, or take the one inside out"
        )


_CALL, _RESULT, _WALKED = _Call(), _Result(), _Walked()


def put_on_tape(values: Sequence[Any], tracked: Sequence[bool], inputs: Sequence[Any], backward: Backward) -> None:
    """Let a backward through those `values` that are tracked call `backward`, and go on in `inputs`."""
    place = origin.set(user_origin())  # looked for once
    try:
        call = Node(_CALL, inputs, {"backward": backward}, values[0].array)
        for position, value in enumerate(values):
            if tracked[position]:
                value.node, value.requires_grad = Node(_RESULT, (), {"position": position}, value.array), True
                value.node.parents = (call,)
    finally:
        origin.reset(place)


def refusing_node(symbol: Symbol) -> Node:
    """The Node of a result whose tape the function has walked itself; one for all calls, as it leads nowhere."""
    return Node(_WALKED, (), {}, symbol)  # type: ignore[arg-type]  # it has a shape and a dtype
