"""In-place methods of a Tensor: `x += y`, `x[key] = value`, `fill_`, `copy_`, and what they share (floor 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from ..core.op import aside
from ..core.origin import user_origin
from ..core.sharing import follow, is_view_along, refuse_without_grad, write_on_tape, write_part
from ..core.value import Operand, TensorLike, current_tracer, grad_mode
from ..errors import DTypeError, GradientError, format_shape
from ..indexing import Key, path_to, with_index
from ..ops import elementwise, movement, reduce
from .conversion import Conversion
from .operands import as_value_of

if TYPE_CHECKING:
    from . import Tensor


class InPlace(Conversion):
    """Writes into this Tensor, seen by all that share its numbers; each gives the Tensor itself.

    The other side is broadcast to this shape. Raises ShapeError where it does not fit, DTypeError where this dtype cannot
    hold the result, GradientError for a leaf that requires a gradient while the tape is on.
    """

    # Attached by `random.py`, which stands above this file.
    uniform_: Callable[..., Tensor]
    normal_: Callable[..., Tensor]

    def add_(self, other: TensorLike, *, alpha: float = 1) -> Self:
        """x += alpha * other."""
        return self.change(lambda x, other: x.add(other, alpha=alpha), other)

    def sub_(self, other: TensorLike, *, alpha: float = 1) -> Self:
        """x -= alpha * other."""
        return self.change(lambda x, other: x.sub(other, alpha=alpha), other)

    def mul_(self, other: TensorLike) -> Self:
        """x *= other."""
        return self.change(lambda x, other: x * other, other)

    def div_(self, other: TensorLike) -> Self:
        """x /= other."""
        return self.change(lambda x, other: x / other, other)

    def __iadd__(self, other: TensorLike) -> Self:
        return self.add_(other)

    def __isub__(self, other: TensorLike) -> Self:
        return self.sub_(other)

    def __imul__(self, other: TensorLike) -> Self:
        return self.mul_(other)

    def __itruediv__(self, other: TensorLike) -> Self:
        return self.div_(other)

    def zero_(self) -> Self:
        """Write 0 everywhere."""
        return self.fill_(0)

    def fill_(self, number: TensorLike) -> Self:
        """Write `number` everywhere."""
        return self.write(reduce.expand(self.in_own_dtype(number), shape=self.shape))

    def copy_(self, other: TensorLike) -> Self:
        """Write the numbers of `other`, cast to this dtype."""
        part = as_value_of(self.now() if other is self else other, self.dtype)
        return self.write(reduce.expand(part, shape=self.shape))

    def clamp_(self, min: Operand | None = None, max: Operand | None = None) -> Self:
        """Write `clamp(min, max)`."""
        return self.write(self.now().clamp(min, max))

    def masked_fill_(self, mask: Tensor, value: TensorLike) -> Self:
        """Write `value`, a single number, where the bool `mask` holds."""
        return self.write(self.now().masked_fill(mask, value))

    def relu_(self) -> Self:
        """Write 0 over negative numbers."""
        return self.write(elementwise.relu(self.now()))

    def __setitem__(self, key: Key, value: TensorLike) -> None:
        """x[key] = value, cast to this dtype and broadcast. Raises what `x[key]` raises, ShapeError where it does not fit."""
        source = aside(self) if value is self else self.in_own_dtype(value)
        if self.base_without_grad is not None and grad_mode.get():
            refuse_without_grad(self, source)
        path = path_to(self, key, source)
        if path is not None and is_view_along(source, self, path):
            return  # `x[i] += v` has already written through the view that it now sets
        if (
            path is None
            or current_tracer() is not None
            or (grad_mode.get() and (self.requires_grad or source.requires_grad))
        ):
            self.write(with_index(aside(self), key, source))
        else:
            write_part(self, path, source.array, user_origin())

    # ---- what they share -------------------------------------------------------------------------------------------

    def change(self, compute: Callable[..., Tensor], other: TensorLike) -> Self:
        """Write `compute(self, other)`. Raises DTypeError where this dtype cannot hold the result."""
        before = self.now()
        result = compute(before, before if other is self else other)
        del before  # it holds the numbers that the write may go over
        lost = {"b": "iuf", "u": "f", "i": "f", "f": ""}[self.dtype.kind]
        if result.dtype.kind in lost:
            raise DTypeError(
                f"in-place arithmetic: the result is {result.dtype}, this Tensor {format_shape(self.shape)} {self.dtype}; expected one "
                "that holds it; write x = x + y, or convert x first"
            )
        return self.write(result)

    def now(self) -> Self | Tensor:
        """This Tensor as an in-place method reads it: with the tape on a value of its own, which keeps the old numbers."""
        return aside(self) if grad_mode.get() else self

    def write(self, value: Tensor) -> Self:
        """Take over `value`, a Tensor: by `assign` off the tape; on the tape, its Node too."""
        if self.base_without_grad is not None and grad_mode.get():
            refuse_without_grad(self, value)
        if not grad_mode.get() or not (self.requires_grad or value.requires_grad):
            return self.assign(value)
        if self.node is None and self.requires_grad:
            raise GradientError(
                f"in-place write into a leaf {format_shape(self.shape)} that requires a gradient; "
                "expected the tape to be off for an "
                "update; wrap it in `with no_grad():`"
            )
        value = movement.reshape(self.cast_like(value), shape=self.shape)
        if self.base is not None:
            write_on_tape(self, value)
            return self
        self.assign(value)
        self.node, self.requires_grad = value.node, value.requires_grad
        follow(self)
        return self
