"""Selection from a Tensor: `x[key]`, gather and scatter, masks, sorting (floor 3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import ops
from ..arguments import axis_of, axis_of_one, bool_
from ..core.op import new_value
from ..core.value import Value, traced_or_array
from ..errors import DTypeError, OptionError, ShapeError, format_shape
from ..indexing import Key
from ..indexing import index as index_by
from ..ops import elementwise
from .conversion import Conversion
from .operands import operand_tensor
from .shapes import Shapes

if TYPE_CHECKING:
    from . import Tensor


class MinMax(NamedTuple):
    """What `max(dim)`, `min(dim)`, `sort` and `topk` give: the values, and their int64 positions, of one shape."""

    values: Tensor
    indices: Tensor


class Selection(Shapes, Conversion):
    """Numbers picked by position, by mask or by order. The dtype stays; positions are int64.

    Positions out of range raise IndexRangeError, and a `dim` outside the Tensor ShapeError.
    """

    def __getitem__(self, key: Key) -> Tensor:
        """x[key] by whole numbers, slices, `...`, None, integer and bool Tensors.

        A view where no Tensor picks. Raises IndexRangeError, DTypeError for another kind of key, ShapeError for a mask or
        positions of shapes that do not fit.
        """
        return index_by(self, key)

    def __iter__(self) -> Iterator[Tensor]:
        """The slices along the first axis."""
        return (self[i] for i in range(len(self)))

    def select(self, dim: int, index: int) -> Tensor:
        """Position `index` of the axis `dim`, which is dropped; a view."""
        dim = axis_of(self, dim, "select")
        return self[(slice(None),) * dim + (index,)]

    def unbind(self, dim: int = 0) -> tuple[Tensor, ...]:
        """The slices along `dim`, which is dropped."""
        return tuple(self.select(dim, i) for i in range(self.shape[axis_of(self, dim, "unbind")]))

    def gather(self, dim: int, index: Tensor) -> Tensor:
        """y[..., i, ...] = x[..., index[..., i, ...], ...] along `dim`: the shape of `index`, which has as many axes as x."""
        return ops.index.gather(self, index, axis=axis_of(self, dim, "gather"))

    def scatter_add(self, dim: int, index: Tensor, src: Tensor) -> Tensor:
        """x with src[..., i, ...] added at index[..., i, ...] along `dim`; repeated positions add up. x's shape and dtype."""
        return ops.index.scatter_add(
            self, index, self.cast_like(operand_tensor(src, "scatter_add")), axis=axis_of(self, dim, "scatter_add")
        )

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """The positions `index` (K,) or () along `dim`: that axis becomes K long."""
        dim = axis_of(self, dim, "index_select")
        positions = operand_tensor(index, "index_select")
        positions = positions.reshape(-1) if positions.ndim == 0 else operand_tensor(positions, "index_select", 1)
        return ops.index.take(self.movedim(dim, 0), positions).movedim(0, dim)

    def repeat_interleave(self, repeats: int | Tensor, dim: int | None = None) -> Tensor:
        """Each element `repeats` times in a row along `dim`; as one flat row where `dim` is None.

        repeats: a number, or an integer Tensor with one for each position. Raises OptionError below 0, ShapeError for
        repeats of another shape.
        """
        if dim is None:
            return self.reshape(-1).repeat_interleave(repeats, 0)
        dim = axis_of(self, dim, "repeat_interleave")
        if isinstance(repeats, Value) and repeats.ndim:
            if repeats.shape != (self.shape[dim],) or repeats.dtype.kind not in "iu":
                raise ShapeError(f"repeat_interleave: repeats {format_shape(repeats.shape)} {repeats.dtype}; expected integers "
                                 f"({self.shape[dim]},), one for each place of axis {dim}; or pass one number")  # fmt: skip
            positions = np.repeat(np.arange(self.shape[dim]), traced_or_array(repeats))
            return self.index_select(dim, new_value(positions))
        repeats = int(repeats)
        if repeats < 0:
            raise OptionError(f"repeat_interleave: {repeats} times; expected 0 or more; check the number")
        x = self.unsqueeze(dim + 1).expand(*self.shape[: dim + 1], repeats, *self.shape[dim + 1 :])
        return x.flatten(dim, dim + 1)

    # ---- by mask and value -----------------------------------------------------------------------------------------

    def masked_select(self, mask: Tensor) -> Tensor:
        """The numbers where the bool `mask` holds, in row-major order, after both have been broadcast: (K,)."""
        if mask.dtype != bool_:
            raise DTypeError(f"masked_select: mask is {mask.dtype}; expected bool; compare first, such as x > 0")
        shape = elementwise.where.broadcast([self.shape, mask.shape])
        x, chosen = (t if t.shape == shape else t.expand(shape) for t in (self, mask))
        return x[chosen]

    def nonzero(self) -> Tensor:
        """The positions of the numbers other than 0, in row-major order: int64 (K, number of axes). Off the tape."""
        return new_value(np.argwhere(self.array))

    def unique(self) -> Tensor:
        """The different numbers in ascending order: (K,). Off the tape."""
        return new_value(np.unique(self.array))

    # ---- by order --------------------------------------------------------------------------------------------------

    def argsort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
        """The int64 positions that sort x along `dim`; always stable, NaN counts as the largest."""
        if not self.ndim:
            axis_of_one(dim, "argsort")
            return new_value(np.zeros((), np.int64))
        return ops.index.argsort(self, axis=axis_of(self, dim, "argsort"), descending=descending)

    def sort(self, dim: int = -1, descending: bool = False, stable: bool = True) -> MinMax:
        """The numbers in ascending (or descending) order along `dim`, and their positions."""
        positions = self.argsort(dim, descending)
        values: Any = self.gather(dim, positions) if self.ndim else self
        return MinMax(values, positions)

    def topk(self, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> MinMax:
        """The `k` largest (or smallest) numbers along `dim` in order, and their positions; that axis becomes k long.

        Raises OptionError where k is below 0 or above the size of the axis.
        """
        size = self.shape[axis_of(self, dim, "topk")]
        if not 0 <= k <= size:
            raise OptionError(
                f"topk: k = {k}; expected 0 to {size}, the size of axis {dim} of {format_shape(self.shape)}; ask for fewer"
            )
        positions = self.argsort(dim, descending=largest).narrow(dim, 0, k)
        return MinMax(self.gather(dim, positions), positions)
