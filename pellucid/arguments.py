"""Argument checking: dtypes, dims, sizes and data, with their error messages (floor 2).

`dim` counts from 0, or from the end when negative; `axes` are counted from 0 and sorted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .core.promotion import result_type
from .core.value import DTYPES, DTypeLike, Shaped, Value, default_dtype
from .errors import DTypeError, OptionError, ShapeError, format_shape

float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)
int64 = np.dtype(np.int64)
int32 = np.dtype(np.int32)
uint8 = np.dtype(np.uint8)
bool_ = np.dtype(np.bool_)

# One axis or several; None stands for all of them.
Dims = int | tuple[int, ...] | list[int] | None
# A whole number for every axis, or one for each: a kernel's size, a stride.
Sizes = int | Sequence[int]


def as_dtype(dtype: DTypeLike) -> np.dtype:
    """`dtype` as one of ours; raises DTypeError for others."""
    try:
        result = np.dtype(dtype)
    except TypeError:
        result = None
    if result is None or result not in DTYPES:
        names = "float32, float64, int64, int32, uint8, bool"
        raise DTypeError(
            f"dtype {dtype if result is None else result}; expected one of {names}; convert the data with NumPy's astype first"
        )
    return result


def axis_of(x: Shaped, dim: int, what: str) -> int:
    """`dim` counted from 0; raises ShapeError outside the Tensor."""
    ndim = x.ndim
    if not ndim:
        raise ShapeError(f"{what}: dim {dim} of a 0-d Tensor; expected at least one axis; reshape it to (1,) first")
    if type(dim) is not int and (isinstance(dim, bool) or not isinstance(dim, int | np.integer)):
        raise ShapeError(
            f"{what}: dim {dim!r}; expected a whole number; count the axes from 0, and name flags: keepdim=True"
        )
    if not -ndim <= dim < ndim:
        raise ShapeError(
            f"{what}: dim {dim} of shape {format_shape(x.shape)}; expected {-ndim} to {ndim - 1}; count the axes from 0"
        )
    return dim % ndim


def axes_of(x: Shaped, dim: Dims, what: str) -> tuple[int, ...]:
    """`dim` (None for all, a number, or several) as sorted axes counted from 0."""
    if dim is None:
        return tuple(range(x.ndim))
    if x.ndim == 0:
        axis_of_one(dim, what)
        return ()
    if not isinstance(dim, tuple | list):
        return (axis_of(x, dim, what),)
    axes = sorted(axis_of(x, d, what) for d in dim)
    if len(set(axes)) < len(axes):
        raise ShapeError(
            f"{what}: dim {tuple(dim)} of shape {format_shape(x.shape)}; expected each axis once; remove the repeated one"
        )
    return tuple(axes)


def reduced_axes(x: Shaped, dim: Dims, what: str) -> tuple[int, ...]:
    """`axes_of` for a reduction, where no axes at all, `()`, are all of them (as in PyTorch)."""
    return axes_of(x, None if isinstance(dim, tuple | list) and not dim else dim, what)


def axis_of_one(dim: Dims, what: str) -> None:
    """Raise ShapeError unless `dim` is 0 or -1: a 0-d Tensor is accepted as if it had one axis of size 1."""
    for d in dim if isinstance(dim, tuple | list) else (dim,):
        if isinstance(d, bool) or d not in (0, -1):
            raise ShapeError(f"{what}: dim {d!r} of a 0-d Tensor; expected 0, -1 or none; leave it out")


def count(x: Shaped, axes: Sequence[int]) -> int:
    """How many numbers lie along `axes` together."""
    return math.prod(x.shape[axis] for axis in axes)


def whole_shape(x: Value, shape: Sequence[Sizes]) -> tuple[int, ...]:
    """`shape` with one -1 worked out. Raises ShapeError for two, and where the sizes do not divide the count."""
    sizes = flatten_varargs(shape)
    if -1 not in sizes:
        return sizes
    others = -math.prod(sizes)
    if sizes.count(-1) > 1 or others <= 0 or x.array.size % others:
        raise ShapeError(
            f"reshape: {format_shape(x.shape)} to {format_shape(sizes)}; "
            f"expected at most one -1 and sizes that divide {x.array.size}; check them"
        )
    return tuple(x.array.size // others if size == -1 else size for size in sizes)


def flatten_varargs(arguments: Sequence[Any]) -> tuple[Any, ...]:
    """Numbers given one by one, or as one tuple or list, as a tuple."""
    if len(arguments) == 1 and isinstance(arguments[0], tuple | list):
        return tuple(arguments[0])
    return tuple(arguments)


def broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether `shape` broadcasts to `target`."""
    return all(have in (1, want) for have, want in zip(reversed(shape), reversed(target), strict=False))


def shape_of(sizes: Sequence[Sizes]) -> tuple[int, ...]:
    """The sizes of a new Tensor, given one by one or as one tuple; raises ShapeError for a negative one."""
    sizes = flatten_varargs(sizes)
    for size in sizes:
        if not isinstance(size, int | np.integer) or size < 0:
            raise ShapeError(
                f"size {size!r} in shape {tuple(sizes)}; expected whole numbers from 0; check the arguments"
            )
    return tuple(int(size) for size in sizes)


def sizes_of(value: Sizes | str, count: int, what: str, least: int = 0) -> tuple[int, ...]:
    """`value`, one whole number for all of `count` axes or one for each; raises OptionError below `least`."""
    sizes: tuple[Any, ...] = tuple(value) if isinstance(value, tuple | list) else (value,) * count
    if len(sizes) != count or not all(isinstance(n, int | np.integer) and n is not True and n >= least for n in sizes):
        each = {1: "", 2: " or two of them, (height, width)"}.get(count, f" or {count} of them")
        raise OptionError(f"{what}={value!r}; expected a whole number from {least}{each}; check the sizes")
    return tuple(int(n) for n in sizes)


def _check_fit(array: np.ndarray, dtype: np.dtype) -> None:
    """Raise DTypeError where an integer dtype cannot hold the numbers; -1 may wrap around in uint8."""
    largest = np.iinfo(dtype).max
    least, most = array.min(), array.max()
    if not (-largest - 1 <= least and most <= largest):
        raise DTypeError(
            f"tensor: {least} to {most} as {dtype}; expected numbers that {dtype} holds; choose another dtype"
        )


def array_of(data: Any, dtype: np.dtype | None = None) -> np.ndarray:
    """`data` as an array of a supported dtype: Python floats become float32, small integers widen, unless `dtype` is given.

    Not always a copy. Raises ShapeError for ragged lists, DTypeError for text and for numbers that `dtype` cannot hold.
    """
    from_numpy = isinstance(data, np.ndarray | np.generic)
    if isinstance(data, list | tuple) and any(isinstance(item, Value) for item in data):
        kind = result_type(*data)
        data = [np.asarray(item.array if isinstance(item, Value) else item, kind) for item in data]
        from_numpy = True
    try:
        array = np.asarray(data)
    except ValueError:
        raise ShapeError(
            "tensor: nested lists of unequal length; expected a rectangular block of numbers; pad or drop the odd rows"
        ) from None
    if array.dtype.kind not in "fiub":
        raise DTypeError(
            f"tensor: {type(data).__name__} of {array.dtype}; expected numbers; encode text and dates as numbers first"
        )
    if dtype is not None:
        if dtype.kind in "iu" and not from_numpy and array.size and array.dtype != dtype:
            _check_fit(array, dtype)
        return array.astype(dtype, copy=False)
    if array.dtype in DTYPES and (from_numpy or array.dtype.kind != "f"):
        return array
    if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
        raise DTypeError(
            f"tensor: uint64 up to {array.max()}; expected at most {np.iinfo(np.int64).max}; scale or hash it first"
        )
    widened = {"f": default_dtype, "i": int64 if array.dtype.itemsize > 2 else int32, "u": int64, "b": bool_}
    return array.astype(widened[array.dtype.kind])
