"""Making Tensors: from data, from a rule (zeros, arange, ...), and from other Tensors (cat, stack, where) (floor 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .arguments import array_of, as_dtype, float32, int64, shape_of
from .core.promotion import as_number
from .core.value import current_tracer, refuse_array
from .errors import OptionError
from .grad_mode import has_empty_weights
from .ops import elementwise
from .tensor import Tensor, check_device, concatenate, operand


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """A Tensor with a copy of `data`: numbers, nested lists, NumPy arrays.

    Without `dtype`, Python floats become float32 and integers int64; NumPy arrays keep theirs (float16 and the like
    widen to float32, small integers to int64 or int32).
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


def _recorded(data: Any, kind: Any) -> Tensor:
    """`tensor(data)` inside a step that is being traced: literals are constants of it, an array would be by mistake."""
    if isinstance(data, Tensor):
        return data.detach().clone() if kind is None else data.detach().clone().to(kind)
    refuse_array(data)
    return Tensor(array_of(data, kind))


def as_tensor(data: Any, *, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` itself where it is a Tensor (cast to `dtype`), else `tensor(data)`."""
    check_device(device)
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    return tensor(data, dtype=dtype, device=device)


def from_numpy(array: np.ndarray) -> Tensor:
    """A Tensor with a copy of `array`: unlike PyTorch's, it shares nothing with it."""
    return tensor(array)


def full(size: Any, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False, device: Any = None) -> Tensor:
    """`fill_value` everywhere."""
    check_device(device)
    kind = as_dtype(dtype) if dtype is not None else tensor(fill_value).dtype
    shape = shape_of((size,) if isinstance(size, int) else tuple(size))
    number = as_number(fill_value, kind)
    result = Tensor(np.broadcast_to(number, shape) if has_empty_weights() else np.full(shape, number, kind))
    return result.requires_grad_() if requires_grad else result


def zeros(*size: Any, dtype: Any = float32, requires_grad: bool = False, device: Any = None) -> Tensor:
    return full(shape_of(size), 0, dtype=dtype or float32, requires_grad=requires_grad, device=device)


def ones(*size: Any, dtype: Any = float32, requires_grad: bool = False, device: Any = None) -> Tensor:
    return full(shape_of(size), 1, dtype=dtype or float32, requires_grad=requires_grad, device=device)


def empty(*size: Any, dtype: Any = float32, requires_grad: bool = False, device: Any = None) -> Tensor:
    """Zeros: what is not yet written should at least be the same each time."""
    return zeros(*size, dtype=dtype, requires_grad=requires_grad, device=device)


def zeros_like(x: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    return full(x.shape, 0, dtype=dtype or x.dtype, requires_grad=requires_grad)


def ones_like(x: Tensor, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    return full(x.shape, 1, dtype=dtype or x.dtype, requires_grad=requires_grad)


def full_like(x: Tensor, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    return full(x.shape, fill_value, dtype=dtype or x.dtype, requires_grad=requires_grad)


empty_like = zeros_like


def arange(start: Any, end: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Tensor:
    """start, start + step, ... below `end` (from 0 with one argument).

    An integer `dtype` counts in whole numbers, without the fractions of the three.
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


def linspace(start: Any, end: Any, steps: int, *, dtype: Any = None, device: Any = None) -> Tensor:
    """`steps` numbers at equal distances from `start` to `end`, both included; for an integer `dtype` their fractions are
    cut off."""
    check_device(device)
    kind = as_dtype(dtype or float32)
    if kind.kind == "b" or steps < 0:
        raise OptionError(f"linspace: {steps} steps as {kind}; expected 0 or more, and numbers; check the arguments")
    start, end = (x.item() if isinstance(x, Tensor) else x for x in (start, end))
    start, end = (start, end) if kind.kind == "f" else (int(start), int(end))
    places, step = np.arange(steps), (end - start) / max(steps - 1, 1)
    # Counted from the nearer end, so that both are met exactly.
    return Tensor(
        array_of(np.where(places < max(steps // 2, 1), start + step * places, end - step * (steps - 1 - places)), kind)
    )


def eye(n: int, m: int | None = None, *, dtype: Any = None, device: Any = None) -> Tensor:
    check_device(device)
    rows, columns = shape_of((n, n if m is None else m))
    return Tensor(np.eye(rows, columns, dtype=as_dtype(dtype or float32)))


cat = concat = concatenate


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The Tensors side by side along a new axis `dim`."""
    return cat([x.unsqueeze(dim) for x in tensors], dim % (tensors[0].ndim + 1) if len(tensors) else dim)


def where(condition: Tensor, a: Any, b: Any) -> Tensor:
    """a where the condition holds, else b."""
    return elementwise.where(condition, operand(a), operand(b))


def is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)
