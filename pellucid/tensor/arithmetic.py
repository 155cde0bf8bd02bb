"""Arithmetic of a Tensor: operators, comparisons, and functions of each number (floor 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

from ..core.value import Operand, Scalar, TensorLike, Value
from ..errors import DTypeError, OptionError, ShapeError, format_shape
from ..ops import elementwise
from .conversion import Conversion
from .operands import operand, operand_tensor

if TYPE_CHECKING:
    from . import Tensor


class Arithmetic(Conversion):
    """Element by element; the two sides of an operator are broadcast, and their dtypes promoted by PyTorch's table.

    Raises ShapeError where shapes do not broadcast, DTypeError where the operation is not defined on the dtypes.
    """

    # ---- operators -------------------------------------------------------------------------------------------------

    def __add__(self, other: TensorLike) -> Tensor:
        """x + other."""
        return elementwise.add(self, operand(other))

    def __radd__(self, other: TensorLike) -> Tensor:
        """other + x."""
        return elementwise.add(operand(other), self)

    def __sub__(self, other: TensorLike) -> Tensor:
        """x - other."""
        return elementwise.subtract(self, operand(other))

    def __rsub__(self, other: TensorLike) -> Tensor:
        """other - x."""
        return elementwise.subtract(operand(other), self)

    def __mul__(self, other: TensorLike) -> Tensor:
        """x * other."""
        return elementwise.multiply(self, operand(other))

    def __rmul__(self, other: TensorLike) -> Tensor:
        """other * x."""
        return elementwise.multiply(operand(other), self)

    def __truediv__(self, other: TensorLike) -> Tensor:
        """x / other; integers are divided as float32."""
        return elementwise.divide(self, operand(other))

    def __rtruediv__(self, other: TensorLike) -> Tensor:
        """other / x; integers are divided as float32."""
        return elementwise.divide(operand(other), self)

    def __floordiv__(self, other: TensorLike) -> Tensor:
        """x / other rounded down."""
        return elementwise.floor_divide(self, operand(other))

    def __rfloordiv__(self, other: TensorLike) -> Tensor:
        """other / x rounded down."""
        return elementwise.floor_divide(operand(other), self)

    def __mod__(self, other: TensorLike) -> Tensor:
        """The remainder of x / other rounded down; it has the sign of `other`."""
        return elementwise.remainder(self, operand(other))

    def __rmod__(self, other: TensorLike) -> Tensor:
        """The remainder of other / x rounded down; it has the sign of x."""
        return elementwise.remainder(operand(other), self)

    def __pow__(self, exponent: TensorLike) -> Tensor:
        """x ** exponent. Raises DTypeError for an integer Tensor and a negative integer exponent."""
        if isinstance(exponent, int | float) and (self.dtype.kind == "f" or exponent.__class__ is int):
            if exponent < 0 and self.dtype.kind != "f":
                raise DTypeError(f"power: {self.dtype} to the {exponent}; expected floating-point numbers for a negative "
                                 "exponent; convert with .float()")  # fmt: skip
            if exponent == 2 and self.dtype.kind != "b":
                return elementwise.multiply(self, self)  # a third of the time of the general power
            if exponent == 0.5:
                return elementwise.sqrt(self)
        return elementwise.power(self, operand(exponent))

    def __rpow__(self, base: TensorLike) -> Tensor:
        """base ** x."""
        return elementwise.power(operand(base), self)

    def __neg__(self) -> Tensor:
        """-x. Raises DTypeError for bool."""
        return elementwise.negative(self)

    def __pos__(self) -> Self:
        """x itself."""
        return self

    def __abs__(self) -> Tensor:
        """|x|; the gradient at 0 is 0."""
        return elementwise.absolute(self)

    def __and__(self, other: TensorLike) -> Tensor:
        """Bitwise and; logical and of bools."""
        return elementwise.bitwise_and(self, operand(other))

    def __or__(self, other: TensorLike) -> Tensor:
        """Bitwise or; logical or of bools."""
        return elementwise.bitwise_or(self, operand(other))

    def __xor__(self, other: TensorLike) -> Tensor:
        """Bitwise exclusive or; whether two bools differ."""
        return elementwise.bitwise_xor(self, operand(other))

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __invert__(self) -> Tensor:
        """Bitwise not; logical not of bools."""
        return elementwise.bitwise_not(self)

    # ---- comparisons: bool Tensors ---------------------------------------------------------------------------------

    def __eq__(self, other: Any) -> Any:
        """x == other, element by element; False beside None."""
        return False if other is None else elementwise.equal(self, operand(other))

    def __ne__(self, other: Any) -> Any:
        """x != other, element by element; True beside None."""
        return True if other is None else elementwise.not_equal(self, operand(other))

    def __lt__(self, other: TensorLike) -> Tensor:
        """x < other."""
        return elementwise.less(self, operand(other))

    def __le__(self, other: TensorLike) -> Tensor:
        """x <= other."""
        return elementwise.less_equal(self, operand(other))

    def __gt__(self, other: TensorLike) -> Tensor:
        """x > other."""
        return elementwise.greater(self, operand(other))

    def __ge__(self, other: TensorLike) -> Tensor:
        """x >= other."""
        return elementwise.greater_equal(self, operand(other))

    def __hash__(self) -> int:
        """By identity, since == compares numbers: a Tensor can be a key of a dict."""
        return id(self)

    # ---- operators under their names -------------------------------------------------------------------------------

    def add(self, other: TensorLike, *, alpha: Scalar = 1) -> Tensor:
        """x + alpha * other."""
        return self + (other if alpha == 1 else elementwise.multiply(operand(other), alpha))

    def sub(self, other: TensorLike, *, alpha: Scalar = 1) -> Tensor:
        """x - alpha * other."""
        return self - (other if alpha == 1 else elementwise.multiply(operand(other), alpha))

    mul = __mul__
    div = true_divide = __truediv__
    pow = __pow__
    neg = __neg__
    abs = __abs__
    eq = __eq__
    ne = __ne__
    lt = __lt__
    le = __le__
    gt = __gt__
    ge = __ge__
    remainder = __mod__

    def logical_and(self, other: Tensor) -> Tensor:
        """Where both are not 0: bool. Raises DTypeError unless `other` is a Tensor."""
        return self.bool() & operand_tensor(other, "logical_and").bool()

    def logical_or(self, other: Tensor) -> Tensor:
        """Where one of the two is not 0: bool. Raises DTypeError unless `other` is a Tensor."""
        return self.bool() | operand_tensor(other, "logical_or").bool()

    def logical_not(self) -> Tensor:
        """Where x is 0: bool."""
        return self == 0

    def maximum(self, other: TensorLike) -> Tensor:
        """The larger of the two; NaN where one is NaN. Equal numbers share the gradient by halves."""
        return elementwise.maximum(self, operand(other))

    def minimum(self, other: TensorLike) -> Tensor:
        """The smaller of the two; NaN where one is NaN. Equal numbers share the gradient by halves."""
        return elementwise.minimum(self, operand(other))

    def lerp(self, end: TensorLike, weight: TensorLike) -> Tensor:
        """x + weight * (end - x): linear interpolation from x (weight 0) to `end` (weight 1)."""
        x = self.as_floating()
        return x + (end - x) * weight

    # ---- exponentials, roots, angles: integers are read as float32 -------------------------------------------------

    def exp(self) -> Tensor:
        """e ** x."""
        return elementwise.exp(self)

    def expm1(self) -> Tensor:
        """e ** x - 1, exact near 0."""
        return elementwise.expm1(self)

    def log(self) -> Tensor:
        """The natural logarithm: -inf at 0, NaN below."""
        return elementwise.log(self)

    def log1p(self) -> Tensor:
        """log(1 + x), exact near 0."""
        return elementwise.log1p(self)

    def log2(self) -> Tensor:
        """The logarithm to base 2."""
        return elementwise.log(self) * (1 / math.log(2))

    def log10(self) -> Tensor:
        """The logarithm to base 10."""
        return elementwise.log(self) * (1 / math.log(10))

    def sqrt(self) -> Tensor:
        """The square root: NaN below 0."""
        return elementwise.sqrt(self)

    def rsqrt(self) -> Tensor:
        """1 / sqrt(x)."""
        return 1 / elementwise.sqrt(self)

    def square(self) -> Tensor:
        """x ** 2, in this dtype."""
        return self**2

    def reciprocal(self) -> Tensor:
        """1 / x."""
        return 1 / self

    def sin(self) -> Tensor:
        """The sine of an angle in radians."""
        return elementwise.sin(self)

    def cos(self) -> Tensor:
        """The cosine of an angle in radians."""
        return elementwise.cos(self)

    def tan(self) -> Tensor:
        """The tangent of an angle in radians."""
        return elementwise.sin(self) / elementwise.cos(self)

    def tanh(self) -> Tensor:
        """The hyperbolic tangent: -1 to 1."""
        return elementwise.tanh(self)

    def sigmoid(self) -> Tensor:
        """1 / (1 + e ** -x): 0 to 1."""
        return elementwise.sigmoid(self)

    def relu(self) -> Tensor:
        """x where it is positive, else 0, in this dtype; the gradient at 0 is 0."""
        return elementwise.relu(self)

    def erf(self) -> Tensor:
        """The error function: 2 / sqrt(pi) times the integral of e ** -t**2 from 0 to x."""
        return elementwise.erf(self)

    # ---- sign and rounding: the dtype stays, the gradient is 0 -----------------------------------------------------

    def sign(self) -> Tensor:
        """-1, 0 or 1."""
        return elementwise.sign(self)

    def floor(self) -> Tensor:
        """Rounded down."""
        return elementwise.floor(self)

    def ceil(self) -> Tensor:
        """Rounded up."""
        return elementwise.ceil(self)

    def trunc(self) -> Tensor:
        """Rounded towards 0."""
        return elementwise.trunc(self)

    def round(self) -> Tensor:
        """Rounded to the nearest whole number, halves to the even one."""
        return elementwise.round_(self)

    # ---- tests of each number: bool Tensors ------------------------------------------------------------------------

    def isfinite(self) -> Tensor:
        """Where x is neither infinite nor NaN."""
        return elementwise.is_finite(self)

    def isnan(self) -> Tensor:
        """Where x is NaN."""
        return elementwise.not_equal(self, self)

    def isinf(self) -> Tensor:
        """Where x is infinite, of either sign."""
        return elementwise.equal(elementwise.absolute(self), math.inf)

    def isclose(self, other: TensorLike, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
        """Where |x - other| <= atol + rtol |other|; infinities are close to themselves alone, NaN with `equal_nan`."""
        other = operand(other)
        distance = abs(self - other)
        close = (self == other) | (distance.isfinite() & (distance <= abs(other) * rtol + atol))
        return close | (self.isnan() & (other != other)) if equal_nan else close

    # ---- bounds and masks ------------------------------------------------------------------------------------------

    def clamp(self, min: Operand | None = None, max: Operand | None = None) -> Self | Tensor:
        """Numbers below `min` become `min`, above `max` become `max`; NaN stays. The gradient is 1 from min to max.

        Raises OptionError without a bound, and for a bound that is NaN.
        """
        if min is None and max is None:
            raise OptionError("clamp: neither min nor max; expected one of them or both; pass min=0, say")
        if any(isinstance(bound, float) and math.isnan(bound) for bound in (min, max)):
            raise OptionError("clamp: a bound is NaN; expected a number; leave it out for none")
        x = self
        if min is not None:
            x = elementwise.where(x < min, min, x)
        return x if max is None else elementwise.where(x > max, max, x)

    clip = clamp

    def masked_fill(self, mask: Tensor, value: TensorLike) -> Tensor:
        """`value`, a single number in this dtype, where the mask holds, else x. Raises ShapeError for several numbers."""
        if isinstance(value, Value) and value.ndim:
            raise ShapeError(
                f"masked_fill: value {format_shape(value.shape)}; expected a single number; use where(mask, value, x)"
            )
        return elementwise.where(mask, self.in_own_dtype(value), self)

    def where(self, condition: Tensor, other: TensorLike) -> Tensor:
        """x where the bool `condition` holds, else `other`; all three are broadcast."""
        return elementwise.where(condition, self, operand(other))
