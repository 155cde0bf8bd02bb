"""Reductions of a Tensor: sums, moments, norms, extremes, truth values, softmax (floor 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..arguments import Dims, axes_of, axis_of, axis_of_one, count, reduced_axes, uint8
from ..core.op import Op, new_value
from ..core.value import DTypeLike, TensorLike, Value
from ..errors import OptionError
from ..ops import elementwise, reduce
from .arithmetic import Arithmetic
from .selection import MinMax, Selection
from .shapes import concatenate

if TYPE_CHECKING:
    from . import Tensor


class Reductions(Selection, Arithmetic):
    """Along the axes `dim` (all where it is None), which are dropped; with `keepdim` they stay, of size 1.

    A `dim` outside the Tensor or named twice raises ShapeError.
    """

    # ---- sums and moments ------------------------------------------------------------------------------------------

    def sum(self, dim: Dims = None, keepdim: bool = False, dtype: DTypeLike | None = None) -> Tensor:
        """The sum, in this dtype or in `dtype`; of integers and bools as int64."""
        x = self if dtype is None else self.to(dtype)
        total = reduce.sum_(x, axes=reduced_axes(self, dim, "sum"), keepdims=keepdim)
        return total if dtype is None else total.to(dtype)

    def mean(self, dim: Dims = None, keepdim: bool = False, dtype: DTypeLike | None = None) -> Tensor:
        """The mean, in this dtype or in `dtype`; NaN of nothing. Raises DTypeError for integers and bools."""
        x = self if dtype is None else self.to(dtype)
        x.check_floating("mean")
        axes = reduced_axes(x, dim, "mean")
        return reduce.sum_(x, axes=axes, keepdims=keepdim) / count(x, axes)

    def var(
        self, dim: Dims | bool = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
    ) -> Tensor:
        """The variance; divided by n - 1, or by n with `correction=0` (`unbiased=False`, alone or first in line too).

        Raises DTypeError for integers and bools.
        """
        if isinstance(dim, bool | np.bool_):
            unbiased, dim = bool(dim), None
        axes = reduced_axes(self, dim, "var")
        correction = (1 if unbiased else 0) if correction is None else correction
        deviation = self - self.mean(axes, keepdim=True)
        total = reduce.sum_(deviation * deviation, axes=axes, keepdims=keepdim)
        return total / max(count(self, axes) - correction, 0)

    def std(
        self, dim: Dims | bool = None, unbiased: bool = True, keepdim: bool = False, *, correction: float | None = None
    ) -> Tensor:
        """The standard deviation, the square root of `var`; its gradient where all numbers are equal is 0."""
        return elementwise.length(self.var(dim, unbiased, keepdim, correction=correction))

    def norm(self, p: float | str = 2, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """(sum of |x|**p)**(1/p) along `dim`; the largest |x| for p infinite. "fro" is 2. The gradient at length 0 is 0.

        Raises DTypeError for integers and bools, OptionError for p that is not above 0.
        """
        self.check_floating("norm")
        axes = reduced_axes(self, dim, "norm")
        p = 2 if p == "fro" or p is None else p
        if not isinstance(p, int | float):
            raise OptionError(f'norm: p = {p!r}; expected a number, or "fro" for 2; write math.inf for the largest')
        if p == math.inf:
            return reduce.amax(abs(self), axes=axes, keepdims=keepdim)
        if p == 1:
            return reduce.sum_(abs(self), axes=axes, keepdims=keepdim)
        if isinstance(p, str) or not p > 0:
            raise OptionError(
                f'norm: p = {p!r}; expected a number above 0, infinity or "fro"; count numbers with (x != 0).sum()'
            )
        if p != 2:
            return _root(reduce.sum_(_power(abs(self), p), axes=axes, keepdims=keepdim), 1 / p)
        return elementwise.length(reduce.sum_(self * self, axes=axes, keepdims=keepdim))

    def prod(self, dim: int | None = None, keepdim: bool = False, dtype: DTypeLike | None = None) -> Tensor:
        """The product; of integers and bools as int64. Halves are multiplied, so that a zero has its right gradient."""
        if dim is None or not self.ndim:
            product = self.reshape(-1).prod(0, dtype=dtype)
            return product.reshape((1,) * self.ndim) if keepdim else product
        dim = axis_of(self, dim, "prod")
        x: Any = self.to(dtype) if dtype is not None else self if self.dtype.kind == "f" else self.long()
        if not self.shape[dim]:
            x = new_value(np.ones([1 if i == dim else size for i, size in enumerate(self.shape)], x.dtype))
        while x.shape[dim] > 1:
            half = x.shape[dim] // 2
            product = x.narrow(dim, 0, half) * x.narrow(dim, half, half)
            x = concatenate([product, x.narrow(dim, 2 * half, 1)], dim) if x.shape[dim] % 2 else product
        return x if keepdim else x.squeeze(dim)

    def cumsum(self, dim: int, dtype: DTypeLike | None = None) -> Tensor:
        """The sum of the numbers up to each position along `dim`: the same shape; of integers and bools as int64."""
        if not self.ndim:
            return self.sum(dim, dtype=dtype)
        x = self if dtype is None else self.to(dtype)
        total = reduce.cumulative_sum(x, axis=axis_of(self, dim, "cumsum"), reverse=False)
        return total if dtype is None else total.to(dtype)

    # ---- extremes --------------------------------------------------------------------------------------------------

    def amax(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """The largest number; equal ones share the gradient. Raises ShapeError where there is none."""
        return reduce.amax(self, axes=reduced_axes(self, dim, "amax"), keepdims=keepdim)

    def amin(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """The smallest number; equal ones share the gradient. Raises ShapeError where there is none."""
        return reduce.amin(self, axes=reduced_axes(self, dim, "amin"), keepdims=keepdim)

    @overload
    def max(self, dim: Value | None = None, keepdim: bool = False) -> Tensor: ...
    @overload
    def max(self, dim: int, keepdim: bool = False) -> MinMax: ...
    def max(self, dim: Value | int | None = None, keepdim: bool = False) -> Tensor | MinMax:
        """The largest number; along `dim`, values and positions; of two Tensors, the larger number by number.

        Raises OptionError for `keepdim` without `dim`.
        """
        if isinstance(dim, Value):
            return self.maximum(dim)
        if dim is None:
            _check_keepdim("max", keepdim)
            return self.amax()
        return self._values_at(self.argmax(dim, keepdim=True), dim, keepdim)

    @overload
    def min(self, dim: Value | None = None, keepdim: bool = False) -> Tensor: ...
    @overload
    def min(self, dim: int, keepdim: bool = False) -> MinMax: ...
    def min(self, dim: Value | int | None = None, keepdim: bool = False) -> Tensor | MinMax:
        """The smallest number; along `dim`, values and positions; of two Tensors, the smaller number by number.

        Raises OptionError for `keepdim` without `dim`.
        """
        if isinstance(dim, Value):
            return self.minimum(dim)
        if dim is None:
            _check_keepdim("min", keepdim)
            return self.amin()
        return self._values_at(self.argmin(dim, keepdim=True), dim, keepdim)

    def _values_at(self, positions: Tensor, dim: int, keepdim: bool) -> MinMax:
        values: Any = self.gather(dim, positions) if self.ndim else self
        return MinMax(values, positions) if keepdim else MinMax(values.squeeze(dim), positions.squeeze(dim))

    def argmax(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """The int64 position of the largest number, the first of equal ones; in row-major order where `dim` is None."""
        return self._arg_reduce(reduce.argmax, dim, keepdim)

    def argmin(self, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """The int64 position of the smallest number, the first of equal ones; in row-major order where `dim` is None."""
        return self._arg_reduce(reduce.argmin, dim, keepdim)

    def _arg_reduce(self, op: Op, dim: int | None, keepdim: bool) -> Tensor:
        if not self.ndim and dim is not None:
            axis_of_one(dim, op.name)
        if dim is None or not self.ndim:
            position = op(self.reshape(-1), axis=0, keepdims=False)
            return position.reshape((1,) * self.ndim) if keepdim else position
        return op(self, axis=axis_of(self, dim, op.name), keepdims=keepdim)

    # ---- truth values ----------------------------------------------------------------------------------------------

    def any(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """Whether a number is not 0: bool, or uint8 of uint8."""
        return self._as_truth(reduce.any_(self, axes=axes_of(self, dim, "any"), keepdims=keepdim))

    def all(self, dim: Dims = None, keepdim: bool = False) -> Tensor:
        """Whether no number is 0: bool, or uint8 of uint8."""
        return self._as_truth(reduce.all_(self, axes=axes_of(self, dim, "all"), keepdims=keepdim))

    def _as_truth(self, result: Tensor) -> Tensor:
        return result.to(uint8) if self.dtype == uint8 else result  # uint8 was PyTorch's bool once

    def __contains__(self, value: TensorLike) -> bool:
        """Whether a number equals `value`."""
        return bool((self == value).any().item())

    def allclose(self, other: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
        """Whether `isclose` holds everywhere: a Python bool."""
        return self.isclose(other, rtol, atol, equal_nan).all().item()

    def equal(self, other: TensorLike) -> bool:
        """Whether `other` has this shape and these numbers: a Python bool."""
        return bool(np.array_equal(self.array, np.asarray(other)))

    # ---- softmax: integers are read as float32 ---------------------------------------------------------------------

    def logsumexp(self, dim: Dims, keepdim: bool = False) -> Tensor:
        """log(sum(exp(x))) without overflow: the largest number is taken out first."""
        x: Any = self.as_floating()
        axes = axes_of(x, dim, "logsumexp")
        top = reduce.amax(x.detach(), axes=axes, keepdims=True)
        top = elementwise.where(top.isfinite(), top, 0)
        total = reduce.sum_((x - top).exp(), axes=axes, keepdims=True).log() + top
        return total if keepdim else total.squeeze(axes)

    def softmax(self, dim: int) -> Tensor:
        """exp(x) / sum(exp(x)) along `dim`: the same shape. Computed from x minus its largest, so that nothing overflows."""
        x, axes = self.as_floating(), _softmax_axes(self, dim, "softmax")
        e = (x - reduce.amax(x.detach(), axes=axes, keepdims=True)).exp()
        result = e / reduce.sum_(e, axes=axes, keepdims=True)
        result.made_by = "softmax"
        return result

    def log_softmax(self, dim: int) -> Tensor:
        """log(softmax(x)) along `dim`: the same shape, exact where a probability is near 0."""
        x, axes = self.as_floating(), _softmax_axes(self, dim, "log_softmax")
        x = x - reduce.amax(x.detach(), axes=axes, keepdims=True)
        return x - reduce.sum_(x.exp(), axes=axes, keepdims=True).log()


def _softmax_axes(x: Value, dim: int, function: str) -> tuple[int, ...]:
    """The one axis `dim`; none of a 0-d Tensor."""
    return (axis_of(x, dim, function),) if x.ndim else axes_of(x, dim, function)


def _check_keepdim(function: str, keepdim: bool) -> None:
    if keepdim:
        raise OptionError(f"{function}: keepdim without dim; expected both; write a{function}(keepdim=True)")


def _power(size: Tensor, p: float) -> Tensor:
    """size ** p for a norm, with gradient 0 at 0, also for p below 1, where it would be infinite."""
    return size**p if p > 1 else elementwise.where(size == 0, 0, elementwise.where(size == 0, 1, size) ** p)


def _root(total: Tensor, exponent: float) -> Tensor:
    """total ** exponent, with gradient 0 at 0, as `length` has it."""
    return elementwise.where(total == 0, 0, elementwise.where(total == 0, 1, total) ** exponent)
