"""Shape methods of a Tensor: sizes, views in another shape or axis order, pieces and repetitions (floor 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..arguments import Dims, Sizes, axes_of, axis_of, flatten_varargs, whole_shape
from ..core.sharing import viewed
from ..errors import OptionError, ShapeError, format_shape
from ..ops import movement, reduce
from .state import TensorState

if TYPE_CHECKING:
    from . import Tensor


def concatenate(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The Tensors one after another along `dim`: (N1, C), (N2, C) -> (N1 + N2, C). Dtypes are promoted.

    Raises OptionError for no Tensors, ShapeError where sizes other than that of `dim` differ.
    """
    if not len(tensors):
        raise OptionError("cat: no Tensors; expected at least one; check the list")
    return movement.concatenate(*tensors, axis=axis_of(tensors[0], dim, "cat"))


class Shapes(TensorState):
    """Sizes, and the same numbers in another shape.

    `reshape`, `permute`, `expand`, `narrow` and what is made of them give views; `flip`, `roll` and `repeat` give new
    Tensors. All keep the dtype. A `dim` outside the Tensor raises ShapeError.
    """

    # ---- sizes -----------------------------------------------------------------------------------------------------

    def dim(self) -> int:
        """The number of axes."""
        return self.ndim

    @overload
    def size(self, dim: None = None) -> tuple[int, ...]: ...
    @overload
    def size(self, dim: int) -> int: ...
    def size(self, dim: int | None = None) -> int | tuple[int, ...]:
        """The shape; with `dim`, the size of that axis."""
        return self.shape if dim is None else self.shape[axis_of(self, dim, "size")]

    def numel(self) -> int:
        """How many numbers it holds."""
        return self.array.size

    nelement = numel

    def element_size(self) -> int:
        """Bytes of one number."""
        return self.dtype.itemsize

    def is_floating_point(self) -> bool:
        """Whether the dtype is float32 or float64."""
        return self.dtype.kind == "f"

    def is_contiguous(self) -> bool:
        """Always true: every operation reads a Tensor as if it lay in row-major order."""
        return True

    def __len__(self) -> int:
        """The size of the first axis. Raises ShapeError for a 0-d Tensor."""
        if not self.ndim:
            raise ShapeError("len: a 0-d Tensor has no first axis; expected at least one axis; use item()")
        return self.shape[0]

    # ---- another shape ---------------------------------------------------------------------------------------------

    def reshape(self, *shape: Sizes) -> Tensor:
        """The numbers in row-major order in another shape; one size may be -1 and is worked out.

        Raises ShapeError where the counts differ.
        """
        return viewed(movement.reshape, self, shape=whole_shape(self, shape))

    view = reshape

    def view_as(self, other: Tensor) -> Tensor:
        """In the shape of `other`. Raises ShapeError where the counts differ."""
        return viewed(movement.reshape, self, shape=other.shape)

    reshape_as = view_as

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """The axes from `start_dim` to `end_dim` as one: (B, C, H, W).flatten(1) -> (B, C * H * W)."""
        if not self.ndim:
            return self.reshape(1)
        start, end = axis_of(self, start_dim, "flatten"), axis_of(self, end_dim, "flatten")
        if start > end:
            raise ShapeError(
                f"flatten: dims {start_dim} to {end_dim} of {format_shape(self.shape)}; expected the first before the last; exchange them"
            )
        return self.reshape(*self.shape[:start], math.prod(self.shape[start : end + 1]), *self.shape[end + 1 :])

    def unflatten(self, dim: int, sizes: Sequence[int]) -> Tensor:
        """The axis `dim` as several of `sizes`, one of which may be -1: (B, 12).unflatten(1, (3, -1)) -> (B, 3, 4)."""
        dim = axis_of(self, dim, "unflatten")
        rest = -1 if -1 not in sizes else self.shape[dim] // max(-math.prod(sizes), 1)
        filled = [rest if size == -1 else size for size in sizes]
        return self.reshape(*self.shape[:dim], *filled, *self.shape[dim + 1 :])

    def squeeze(self, dim: Dims = None) -> Tensor:
        """Without the axes of size 1: all of them, or those in `dim`."""
        axes = set(axes_of(self, dim, "squeeze"))
        return self.reshape(tuple(size for i, size in enumerate(self.shape) if size != 1 or i not in axes))

    def unsqueeze(self, dim: int) -> Tensor:
        """With a new axis of size 1 at `dim`: (M, N).unsqueeze(1) -> (M, 1, N)."""
        dim = dim + self.ndim + 1 if dim < 0 else dim
        if not 0 <= dim <= self.ndim:
            raise ShapeError(
                f"unsqueeze: dim {dim} of shape {format_shape(self.shape)}; expected {-self.ndim - 1} to {self.ndim}; "
                "count the axes"
            )
        return self.reshape(*self.shape[:dim], 1, *self.shape[dim:])

    def expand(self, *shape: Sizes) -> Tensor:
        """Axes of size 1 repeated to `shape`, new ones in front; -1 leaves a size as it is. Copies nothing.

        Raises ShapeError where another size than 1 would change.
        """
        sizes = flatten_varargs(shape)
        new = len(sizes) - self.ndim
        target = tuple(self.shape[i - new] if size == -1 and i >= new else size for i, size in enumerate(sizes))
        return viewed(reduce.expand, self, shape=target)

    def expand_as(self, other: Tensor) -> Tensor:
        """Expanded to the shape of `other`."""
        return self.expand(other.shape)

    broadcast_to = expand

    # ---- another order of axes -------------------------------------------------------------------------------------

    @property
    def T(self) -> Tensor:
        """The axes in reverse order: (M, N) -> (N, M)."""
        return viewed(movement.permute, self, axes=tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged: (..., M, N) -> (..., N, M)."""
        return self.transpose(-1, -2)

    def t(self) -> Tensor:
        """The transpose of a matrix: (M, N) -> (N, M). Raises ShapeError above two axes."""
        if self.ndim > 2:
            raise ShapeError(
                f"t: shape {format_shape(self.shape)}; expected two axes at most; use mT or transpose(dim0, dim1)"
            )
        return self.T

    def permute(self, *dims: Sizes) -> Tensor:
        """The axes in the order `dims`: (B, H, W, C).permute(0, 3, 1, 2) -> (B, C, H, W)."""
        axes = tuple(axis_of(self, dim, "permute") for dim in flatten_varargs(dims))
        return viewed(movement.permute, self, axes=axes)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """The axes `dim0` and `dim1` exchanged."""
        axes = list(range(self.ndim))
        i, j = axis_of(self, dim0, "transpose"), axis_of(self, dim1, "transpose")
        axes[i], axes[j] = axes[j], axes[i]
        return viewed(movement.permute, self, axes=tuple(axes))

    swapaxes = transpose

    def movedim(self, source: int, destination: int) -> Tensor:
        """The axis `source` at `destination`, the others in their order."""
        axes = [i for i in range(self.ndim) if i != axis_of(self, source, "movedim")]
        axes.insert(axis_of(self, destination, "movedim"), axis_of(self, source, "movedim"))
        return viewed(movement.permute, self, axes=tuple(axes))

    # ---- pieces ----------------------------------------------------------------------------------------------------

    def narrow(self, dim: int, start: int, length: int) -> Tensor:
        """`length` positions of the axis `dim` from `start` on. Raises ShapeError where they reach beyond it."""
        dim = axis_of(self, dim, "narrow")
        size, start = self.shape[dim], int(start)
        start = start + size if start < 0 else start
        if not 0 <= start <= start + length <= size:
            raise ShapeError(
                f"narrow: {length} from {start} on axis {dim} of {format_shape(self.shape)}; expected places up to {size}; check both"
            )
        slices = [(0, size, 1) for size in self.shape]
        slices[dim] = (start, length, 1)
        return viewed(movement.slice_, self, slices=tuple(slices))

    def split(self, split_size: int | Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
        """Pieces of `split_size` along `dim`, the last one smaller; or pieces of the sizes in a list.

        Raises ShapeError where those do not add up to the axis, OptionError for a size below 1.
        """
        dim = axis_of(self, dim, "split")
        total = self.shape[dim]
        if isinstance(split_size, int):
            if split_size < 1:
                raise OptionError(
                    f"split: pieces of {split_size} on axis {dim} of {format_shape(self.shape)}; expected 1 or more; pass another"
                )
            sizes = [min(split_size, total - i) for i in range(0, max(total, 1), split_size)]
        else:
            sizes = list(split_size)
        if sum(sizes) != total:
            raise ShapeError(
                f"split: sizes {sizes} add up to {sum(sizes)}; "
                f"expected {total}, axis {dim} of {format_shape(self.shape)}; adjust them"
            )
        starts = np.cumsum([0, *sizes[:-1]]).tolist()
        return tuple(self.narrow(dim, start, length) for start, length in zip(starts, sizes, strict=True))

    def chunk(self, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
        """At most `chunks` pieces of one size along `dim`, the last one smaller. Raises OptionError below 1."""
        if chunks < 1:
            raise OptionError(f"chunk: {chunks} pieces of {format_shape(self.shape)}; expected 1 or more; pass another")
        size = self.shape[axis_of(self, dim, "chunk")]
        return self.split(max(-(-size // chunks), 1), dim) if size else self.split([0] * chunks, dim)

    # ---- new Tensors -----------------------------------------------------------------------------------------------

    def flip(self, *dim: Sizes, dims: Sequence[int] = ()) -> Tensor:
        """The order of the numbers reversed along the axes named."""
        axes = {axis_of(self, d, "flip") for d in (*flatten_varargs(dim), *dims)}
        slices = [(size - 1, size, -1) if i in axes else (0, size, 1) for i, size in enumerate(self.shape)]
        return movement.slice_(self, slices=tuple(slices))

    def roll(self, shifts: Sizes, dims: Dims = None) -> Tensor:
        """Moved on by `shifts` along `dims`, around the end; as one flat row where `dims` is None.

        Raises OptionError unless there is one shift for each dim.
        """
        if dims is None:
            return self.reshape(-1).roll(shifts, 0).reshape(self.shape)
        moves, along = flatten_varargs([shifts]), flatten_varargs([dims])
        if len(moves) != len(along):
            raise OptionError(f"roll: shifts={shifts!r}, dims={dims!r}; expected one shift for each dim; pair them")
        rolled: Any = self
        for shift, dim in zip(moves, along, strict=True):
            size = self.shape[axis_of(self, dim, "roll")]
            cut = (-shift) % size if size else 0
            rolled = concatenate([rolled.narrow(dim, cut, size - cut), rolled.narrow(dim, 0, cut)], dim)
        return rolled

    def repeat(self, *times: Sizes) -> Tensor:
        """The whole Tensor laid out `times` along each axis: (2, 3).repeat(2, 1) -> (4, 3).

        Raises ShapeError unless there is a number from 0 for each axis.
        """
        counts = flatten_varargs(times)
        if len(counts) < self.ndim or min(counts, default=0) < 0:
            raise ShapeError(
                f"repeat: {counts} of shape {format_shape(self.shape)}; expected a number from 0 for each axis; name them all"
            )
        x = self.reshape(*(1,) * (len(counts) - self.ndim), *self.shape)
        for dim, n in enumerate(counts):
            x = concatenate([x] * n, dim) if n > 1 else x.narrow(dim, 0, n * x.shape[dim])
        return x.clone() if x.cell is not None else x
