"""Type promotion: the dtype an operation computes in, by PyTorch's table (floor 1)."""

from __future__ import annotations

import numpy as np

from ..errors import DTypeError
from .value import Operand, Scalar, Value, default_dtype


def as_number(number: Scalar, dtype: np.dtype) -> np.ndarray:
    """A plain number as a 0-d array of `dtype`: a fraction is cut off for integers, -1 is the largest of uint8 (as in PyTorch).

    Raises DTypeError where the dtype cannot hold the number.
    """
    try:
        return np.asarray(number, dtype)
    except (OverflowError, ValueError):  # what NumPy raises for integers out of range, and for NaN among integers
        if dtype.kind == "u" and -np.iinfo(dtype).max <= number < 0:
            return np.asarray(int(number) % (np.iinfo(dtype).max + 1), dtype)
        raise DTypeError(
            f"number {number!r} as {dtype}; expected one that {dtype} holds; convert the Tensor first, with .long() or .float()"
        ) from None


_KIND_RANK = {"b": 0, "u": 1, "i": 1, "f": 2}
_NUMBER_DTYPE = {bool: np.dtype(bool), int: np.dtype(np.int64), float: default_dtype}


def result_type(*operands: Operand) -> np.dtype:
    """The dtype an operation on `operands` computes in, as PyTorch decides it.

    The category comes first (bool < integer < float), from whichever operand. Within the highest category, a Tensor with
    dimensions decides before a 0-d Tensor, and that before a Python number; equals meet by NumPy's lattice.
    """
    best: np.dtype | None = None
    best_rank = (-1, -1)
    for operand in operands:
        dtype, weight = _dtype_and_weight(operand)
        rank = (_KIND_RANK[dtype.kind], weight)
        if best is None or rank > best_rank:
            best, best_rank = dtype, rank
        elif rank == best_rank:
            best = np.promote_types(best, dtype)
    assert best is not None
    return best


def _dtype_and_weight(operand: Operand) -> tuple[np.dtype, int]:
    if isinstance(operand, Value):
        return operand.dtype, 2 if operand.ndim else 1
    kind = bool if isinstance(operand, bool | np.bool_) else int if isinstance(operand, int | np.integer) else float
    if kind is float and not isinstance(operand, float | np.floating):
        raise DTypeError(f"an operand is {operand!r} ({type(operand).__name__}); expected a Tensor or a number; "
                         "make it one with pellucid.tensor(...)")  # fmt: skip
    return _NUMBER_DTYPE[kind], 0
