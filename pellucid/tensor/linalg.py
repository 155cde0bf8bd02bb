"""Linear algebra of a Tensor: matrix products, and triangles of matrices (floor 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..core.op import new_value
from ..core.value import TensorLike
from ..errors import ShapeError, format_shape
from ..ops import contraction, elementwise
from .arithmetic import Arithmetic
from .operands import operand, operand_tensor

if TYPE_CHECKING:
    from . import Tensor


def matmul(a: TensorLike, b: TensorLike) -> Tensor:
    """a @ b: (..., M, K) @ (..., K, N) -> (..., M, N), the leading axes broadcast. Dtypes are promoted.

    A vector is a row on the left and a column on the right, whose axis is taken out of the result again: (K,) @ (K,) -> ().
    Raises ShapeError for a 0-d Tensor, and where the two sizes K differ; DTypeError for what is no Tensor, array or list.
    """
    x, y = operand_tensor(operand(a), "matmul"), operand_tensor(operand(b), "matmul")
    if x.ndim == 0 or y.ndim == 0:
        raise ShapeError(
            f"matmul: {format_shape(x.shape)} @ {format_shape(y.shape)}; expected at least one axis on each side; use * for numbers"
        )
    left = x.unsqueeze(0) if x.ndim == 1 else x
    right = y.unsqueeze(1) if y.ndim == 1 else y
    result = contraction.matmul(left, right)
    if y.ndim == 1:
        result = result.squeeze(-1)
    return result.squeeze(-2 if y.ndim > 1 else -1) if x.ndim == 1 else result


class LinearAlgebra(Arithmetic):
    """Products and triangles. Sizes: B batch, M rows, K what is summed over, N columns. Dtypes are promoted.

    Each product raises ShapeError for another number of axes and where sizes disagree.
    """

    def __matmul__(self, other: TensorLike) -> Tensor:
        """x @ other; see `matmul`."""
        return matmul(self, other)

    def __rmatmul__(self, other: TensorLike) -> Tensor:
        """other @ x; see `matmul`."""
        return matmul(operand(other), self)

    def matmul(self, other: TensorLike) -> Tensor:
        """(..., M, K) @ (..., K, N) -> (..., M, N); vectors and broadcasting as in `pellucid.matmul`."""
        return matmul(self, other)

    def dot(self, other: Tensor) -> Tensor:
        """(K,), (K,) -> (): the sum of the products."""
        return matmul(operand_tensor(self, "dot", 1), operand_tensor(other, "dot", 1))

    def mv(self, other: Tensor) -> Tensor:
        """Matrix times vector: (M, K), (K,) -> (M,)."""
        return matmul(operand_tensor(self, "mv", 2), operand_tensor(other, "mv", 1))

    def mm(self, other: Tensor) -> Tensor:
        """Matrix times matrix: (M, K), (K, N) -> (M, N)."""
        return matmul(operand_tensor(self, "mm", 2), operand_tensor(other, "mm", 2))

    def bmm(self, other: Tensor) -> Tensor:
        """Batch of matrices: (B, M, K), (B, K, N) -> (B, M, N). The batches must be equal, they do not broadcast."""
        x, y = operand_tensor(self, "bmm", 3), operand_tensor(other, "bmm", 3)
        if x.shape[0] != y.shape[0]:
            raise ShapeError(
                f"bmm: {format_shape(x.shape)}, {format_shape(y.shape)}; expected equal batches; use matmul to broadcast"
            )
        return matmul(x, y)

    def outer(self, other: Tensor) -> Tensor:
        """Every product: (M,), (N,) -> (M, N)."""
        x, y = operand_tensor(self, "outer", 1), operand_tensor(other, "outer", 1)
        return x.unsqueeze(1) * y.unsqueeze(0)

    def tril(self, diagonal: int = 0) -> Tensor:
        """The lower triangle of the last two axes, up to `diagonal` (0 the main one), zeros elsewhere."""
        return elementwise.where(_triangle(self, diagonal, lower=True), self, self.in_own_dtype(0))

    def triu(self, diagonal: int = 0) -> Tensor:
        """The upper triangle of the last two axes, from `diagonal` (0 the main one) on, zeros elsewhere."""
        return elementwise.where(_triangle(self, diagonal, lower=False), self, self.in_own_dtype(0))


def _triangle(x: LinearAlgebra, diagonal: int, lower: bool) -> Tensor:
    """A bool mask (M, N) of the triangle. Raises ShapeError below two axes."""
    if x.ndim < 2:
        raise ShapeError(f"triangle of {format_shape(x.shape)}; expected two axes or more; unsqueeze it first")
    rows, columns = new_value(np.arange(x.shape[-2])).unsqueeze(1), new_value(np.arange(x.shape[-1]))
    return columns <= rows + diagonal if lower else columns >= rows + diagonal
