"""Tensor creation: from data, by a rule (zeros, arange, ...), and from other Tensors (cat, stack, where) (floor 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arguments import Sizes, array_of, as_dtype, float32, int64, shape_of
from .core.promotion import as_number
from .core.value import DTypeLike, Scalar, TensorLike, current_tracer, refuse_array
from .errors import OptionError
from .grad_mode import has_empty_weights
from .ops import elementwise
from .tensor import DeviceLike, Tensor, check_device, concatenate, operand


def tensor(
    data: Any, *, dtype: DTypeLike | None = None, requires_grad: bool = False, device: DeviceLike | None = None
) -> Tensor:
    """A Tensor with a copy of `data`: numbers, nested lists, NumPy arrays.

    Without `dtype`, Python floats become float32 and integers int64; NumPy arrays keep theirs (float16 widens to float32,
    small integers to int64 or int32). Raises ShapeError for ragged lists, DTypeError for what is not numbers.
    """
    check_device(device)
    kind = None if dtype is None else as_dtype(dtype)
    if current_tracer() is not None:
        recorded = _recorded(data, kind)
        return recorded.requires_grad_() if requires_grad else recorded
    if isinstance(data, Tensor):
        array = data.array if kind is None else data.array.astype(kind)
    else:
        array = array_of(data, kind)
    result = Tensor(np.array(array, copy=True))
    return result.requires_grad_() if requires_grad else result


def _recorded(data: Any, kind: np.dtype | None) -> Tensor:
    """`tensor(data)` inside a traced step: literals become constants of it; an array raises TraceError."""
    if isinstance(data, Tensor):
        return data.detach().clone() if kind is None else data.detach().clone().to(kind)
    refuse_array(data)
    return Tensor(array_of(data, kind))


def as_tensor(data: Any, *, dtype: DTypeLike | None = None, device: DeviceLike | None = None) -> Tensor:
    """`data` itself where it is a Tensor (cast to `dtype`), else `tensor(data)`."""
    check_device(device)
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    return tensor(data, dtype=dtype, device=device)


def from_numpy(array: np.ndarray) -> Tensor:
    """A Tensor with a copy of `array`; unlike PyTorch's, it shares no memory with it."""
    return tensor(array)


def full(
    size: Sizes,
    fill_value: Scalar,
    *,
    dtype: DTypeLike | None = None,
    requires_grad: bool = False,
    device: DeviceLike | None = None,
) -> Tensor:
    """`fill_value` everywhere, in shape `size`; in the dtype of `fill_value` unless another is given."""
    check_device(device)
    kind = as_dtype(dtype) if dtype is not None else tensor(fill_value).dtype
    shape = shape_of((size,) if isinstance(size, int) else tuple(size))
    number = as_number(fill_value, kind)
    result = Tensor(np.broadcast_to(number, shape) if has_empty_weights() else np.full(shape, number, kind))
    return result.requires_grad_() if requires_grad else result


def zeros(
    *size: Sizes, dtype: DTypeLike | None = float32, requires_grad: bool = False, device: DeviceLike | None = None
) -> Tensor:
    """Zeros of the sizes given."""
    return full(shape_of(size), 0, dtype=dtype or float32, requires_grad=requires_grad, device=device)


def ones(
    *size: Sizes, dtype: DTypeLike | None = float32, requires_grad: bool = False, device: DeviceLike | None = None
) -> Tensor:
    """Ones of the sizes given."""
    return full(shape_of(size), 1, dtype=dtype or float32, requires_grad=requires_grad, device=device)


def empty(
    *size: Sizes, dtype: DTypeLike | None = float32, requires_grad: bool = False, device: DeviceLike | None = None
) -> Tensor:
    """Zeros: memory that is not initialised would differ from run to run."""
    return zeros(*size, dtype=dtype, requires_grad=requires_grad, device=device)


def zeros_like(x: Tensor, *, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Zeros in the shape of x, and in its dtype unless another is given."""
    return full(x.shape, 0, dtype=dtype or x.dtype, requires_grad=requires_grad)


def ones_like(x: Tensor, *, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """Ones in the shape of x, and in its dtype unless another is given."""
    return full(x.shape, 1, dtype=dtype or x.dtype, requires_grad=requires_grad)


def full_like(x: Tensor, fill_value: Scalar, *, dtype: DTypeLike | None = None, requires_grad: bool = False) -> Tensor:
    """`fill_value` in the shape of x, and in its dtype unless another is given."""
    return full(x.shape, fill_value, dtype=dtype or x.dtype, requires_grad=requires_grad)


empty_like = zeros_like


def arange(
    start: Any, end: Any = None, step: Any = 1, *, dtype: DTypeLike | None = None, device: DeviceLike | None = None
) -> Tensor:
    """start, start + step, ... below `end` (from 0 with one argument).

    int64 for integers, else float32; an integer `dtype` drops the fractions of all three. Raises OptionError for a step of 0.
    """
    check_device(device)
    start, end = (0, start) if end is None else (start, end)
    start, end, step = (x.item() if isinstance(x, Tensor) else x for x in (start, end, step))
    kind = as_dtype(dtype or (int64 if all(isinstance(x, int | np.integer) for x in (start, end, step)) else float32))
    if kind.kind == "b" or not math.isfinite(start + end + step):
        raise OptionError(f"arange: from {start} to {end} by {step} as {kind}; expected numbers; count, then compare")
    if kind == int64:
        start, end, step = int(start), int(end), int(step)
    if not (step if kind.kind == "f" else int(step)):
        raise OptionError(f"arange: step {step} as {kind}; expected another number than 0; leave it out for 1")
    if kind.kind == "f":
        return Tensor(array_of(np.arange(start, end, step), kind))
    count = len(range(start, end, step)) if kind == int64 else max(math.ceil((end - start) / step), 0)
    return Tensor(array_of(int(start) + int(step) * np.arange(count), kind))


def linspace(
    start: Any, end: Any, steps: int, *, dtype: DTypeLike | None = None, device: DeviceLike | None = None
) -> Tensor:
    """`steps` numbers at equal distances from `start` to `end`, both included; for an integer `dtype` their fractions are
    cut off."""
    check_device(device)
    kind = as_dtype(dtype or float32)
    if kind.kind == "b" or steps < 0:
        raise OptionError(f"linspace: {steps} steps as {kind}; expected 0 or more, and numbers; check the arguments")
    start, end = (x.item() if isinstance(x, Tensor) else x for x in (start, end))
    start, end = (start, end) if kind.kind == "f" else (int(start), int(end))
    index, step = np.arange(steps), (end - start) / max(steps - 1, 1)
    # Counted from the nearer end, so that both ends are exact.
    return Tensor(
        array_of(np.where(index < max(steps // 2, 1), start + step * index, end - step * (steps - 1 - index)), kind)
    )


def eye(n: int, m: int | None = None, *, dtype: DTypeLike | None = None, device: DeviceLike | None = None) -> Tensor:
    """The identity matrix (n, n), or (n, m) with ones on its diagonal."""
    check_device(device)
    rows, columns = shape_of((n, n if m is None else m))
    return Tensor(np.eye(rows, columns, dtype=as_dtype(dtype or float32)))


cat = concat = concatenate


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The Tensors side by side along a new axis `dim`."""
    return cat([x.unsqueeze(dim) for x in tensors], dim % (tensors[0].ndim + 1) if len(tensors) else dim)


def where(condition: Tensor, a: TensorLike, b: TensorLike) -> Tensor:
    """a where the bool condition holds, else b; all three are broadcast. Raises DTypeError for another condition."""
    return elementwise.where(condition, operand(a), operand(b))


def is_tensor(value: object) -> bool:
    """Whether `value` is a Tensor."""
    return isinstance(value, Tensor)
