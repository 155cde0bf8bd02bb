"""Gradient slots: `.grad` of the Tensors from before the step, read and written like Tensors (floor 4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ...core.value import Symbol, traced_or_array
from ...errors import TraceError, format_shape
from ...tensor import ConsumedGradient, Tensor
from ..ir.graph import Input
from ..ir.scan_body import placeholder
from .outer_tensors import OuterTensors, is_made_inside
from .traced_step import GIVEN_GRADIENT, SHARED_GRADIENT, Write


@dataclass(frozen=True)
class GradientWrites:
    """What a step has done to the slots: the gradients that it stores, the Tensors whose `.grad` it has cleared, and those
    whose `.grad` its optimizer has consumed."""

    stored: list[Write]
    cleared: list[Tensor]
    consumed: list[Tensor]


class GradientSlots:
    """The slots that the step has looked at or written. All are kept by id of the owner.

    before: the owner, and its `.grad` before the step, for slots that are written or whose gradient is read.
    inputs: the gradients that are read. placeholders: the traced Tensors that stand in these slots.
    presence: owners whose `.grad` was looked at before any write, and whether there was one.
    """

    def __init__(self, tensors: OuterTensors) -> None:
        self.tensors = tensors
        self.before: dict[int, tuple[Tensor, Tensor | ConsumedGradient | None]] = {}
        self.inputs: dict[int, Input] = {}
        self.placeholders: dict[int, Tensor] = {}
        self.presence: dict[int, tuple[Tensor, bool]] = {}

    def before_write(self, owner: Tensor) -> None:
        """`owner.grad` is about to be written."""
        if not is_made_inside(owner):
            self.before.setdefault(id(owner), (owner, owner._grad))

    def read(self, owner: Tensor) -> Tensor | ConsumedGradient | None:
        """`owner.grad`. A gradient from before the step becomes an input; that it was there is noted for later calls."""
        grad = owner._grad
        if grad.__class__ is ConsumedGradient or is_made_inside(owner):
            return grad
        if grad is not None and id(grad) in self.tensors.inputs:
            raise TraceError(GIVEN_GRADIENT.format(format_shape(owner.shape)))
        if id(owner) not in self.before:
            self.presence[id(owner)] = (owner, grad is not None)
            if grad is None:
                return None
            self.before_write(owner)
            traced = self.placeholders[id(owner)] = Tensor(placeholder(grad))
            self.inputs[id(owner)] = self._input(owner, traced.array)
            owner._grad = traced
        return owner._grad

    def has(self, owner: Tensor) -> bool:
        """Whether `owner` has a gradient. This alone makes it no input."""
        there = owner._grad is not None
        if not is_made_inside(owner) and id(owner) not in self.before:
            self.presence[id(owner)] = (owner, there)
        return there

    def _input(self, owner: Tensor, symbol: Symbol) -> Input:
        return Input("gradient", owner, symbol, -1, f"{self.tensors.names.get(id(owner), '')}.grad")

    def restore(self) -> None:
        """Put back every gradient from before the step."""
        for owner, grad in self.before.values():
            owner._grad = grad
        self.placeholders.clear()

    # ---- at the end of the step ----

    def presence_besides(self, arguments: Iterable[Tensor]) -> list[tuple[Tensor, bool]]:
        """See `FoundTensors.grad_presence`."""
        given = set(map(id, arguments))
        return [state for key, state in self.presence.items() if key not in given]

    def writes(self, written: Iterable[Tensor], keep_grads: bool) -> GradientWrites:
        """What the step has done to the slots.

        written: the Tensors that it writes. Their new gradients are consumed, unless `keep_grads`.
        """
        stored: list[Write] = []
        cleared: list[Tensor] = []
        consumed: list[Tensor] = []
        updated = set(map(id, written))
        seen: set[int] = set()
        for key, (owner, _) in self.before.items():
            grad = owner._grad
            entry = self.inputs.get(key)
            if grad is None:
                cleared.append(owner)
            elif entry is not None and grad.array is entry.symbol:
                continue
            elif key in updated and not keep_grads and entry is None and not _is_filled(grad.array):
                consumed.append(owner)
            else:
                entry = entry or self._input(owner, placeholder(grad))
                entry.in_place = grad is self.placeholders.get(key)
                base = grad if grad.cell is None else grad.cell.base()
                if id(base) in self.tensors.saved or id(base) in seen:
                    raise TraceError(SHARED_GRADIENT.format(format_shape(owner.shape)))
                seen.add(id(base))
                stored.append((entry, traced_or_array(grad)))
        return GradientWrites(stored, cleared, consumed)


def _is_filled(symbol: Symbol) -> bool:
    """Whether it is one constant repeated, as after `p.grad.zero_()`."""
    while symbol.op is not None and symbol.op.kind == "movement" and len(symbol.inputs) == 1:
        symbol = symbol.inputs[0]
    return symbol.constant is not None and symbol.constant.size == 1
