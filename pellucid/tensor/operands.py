"""Operands: turn what stands beside a Tensor in an expression into a value that operations take (floor 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..arguments import array_of
from ..core.op import new_value
from ..core.value import Operand, Symbol, TensorLike, Value, refuse_array, traced_or_array
from ..errors import DTypeError, ShapeError, format_shape
from ..ops import elementwise, reduce

if TYPE_CHECKING:
    from . import Tensor


def operand(value: Any) -> Operand:
    """`value` as operations take it: a Tensor or a number as it is, an array or a list as a new Tensor.

    Raises TraceError for an array while a step is recorded.
    """
    refuse_array(value)
    return new_value(np.array(array_of(value))) if isinstance(value, (np.ndarray, list, tuple)) else value


def operand_tensor(value: object, function: str, ndim: int | None = None) -> Tensor:
    """`value`; raises DTypeError unless it is a Tensor, ShapeError unless it has `ndim` axes."""
    if not isinstance(value, Value):
        raise DTypeError(
            f"{function}: {value!r:.60} ({type(value).__name__}); expected a Tensor; make one with tensor(...)"
        )
    if ndim is not None and value.ndim != ndim:
        raise ShapeError(
            f"{function}: shape {format_shape(value.shape)}; expected {ndim} axes; use matmul, or reshape it"
        )
    return value  # type: ignore[return-value]  # every Value that a user meets is a Tensor


def as_value_of(data: TensorLike, dtype: np.dtype) -> Tensor:
    """`data` as a Tensor of `dtype`: a Tensor by a differentiable cast, anything else by a copy."""
    refuse_array(data)
    value: Any = data if isinstance(data, Value) else new_value(np.array(array_of(data)))
    return value if value.dtype == dtype else elementwise.cast(value, dtype=dtype)


def traced_value(value: TensorLike, shape: tuple[int, ...], dtype: np.dtype) -> Symbol:
    """The Symbol of `value`, broadcast to `shape` and cast to `dtype`: what `assign` writes into a traced step."""
    refuse_array(value)
    result: Value = value if isinstance(value, Value) else new_value(np.asarray(value, dtype))
    if result.dtype != dtype:
        result = elementwise.cast(result, dtype=dtype)
    return traced_or_array(result if result.shape == shape else reduce.expand(result, shape=shape))
