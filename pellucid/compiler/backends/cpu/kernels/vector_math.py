"""Vector math library: every elementwise operation on vectors, with the results of NumPy (floor 4).

The operations' `native` rules in `ops/` call the methods here by the operations' own names. Integers and booleans are
NumPy's to the bit. Functions of float32 are polynomials over a short interval after a reduction to it; they are
within a few units in the last place of the truth (`tests/compiler/test_vector_math.py` measures each), and NaN,
infinities and poles propagate as in NumPy: a network that diverged must not look sound in native code. Results below
the smallest normal number (1.2e-38) may come out as 0.

Three tricks recur. A comparison with NaN is false, and in `_at_most` and `_at_least` that choice keeps the number
itself, so NaN passes for the price of one instruction. Adding 1.5 * 2**23 rounds a number to an integer and leaves that
integer in the low bits of the sum, so it needs no conversion (which is undefined for NaN). And a power of two is made
by shifting its exponent into place.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..llvm import Builder, Value, float32, i1, ir

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Vector = Value  # an LLVM value: a vector of `builder.lanes` numbers

LOG2_E = 1.4426950408889634
LN_2 = 0.6931471805599453
ROUND = 1.5 * 2.0**23  # added to a float32 below 2**22 in size, it leaves no place for a fraction
ROUND_DOUBLE = 1.5 * 2.0**52
SMALLEST_NORMAL = 2.0**-126

# The first part of ln 2 has few bits, so its product with an exponent is exact even without a fused multiply-add.
# Cephes, exp.c and logf.c (S. Moshier), which split it in two different places.
EXP_LN_2 = (0.693145751953125, 1.428606820309417e-6)
LOG_LN_2 = (0.693359375, -2.12194440e-4)

# (e**r - 1 - r) / r**2 on [-0.347, 0.701], highest power first; fitted for the relative error of e**r - 1, at most
# 5.2e-9 (minimax by Lawson's method: least squares, reweighted by the error until it is level).
EXP = (2.3097670e-4, 1.3848668e-3, 8.3273854e-3, 4.1667726e-2, 1.6666694e-1, 4.9999997e-1)

# (log(1 + f) - f + f**2 / 2) / f**3 on [sqrt(1/2) - 1, sqrt(2) - 1]. Cephes, logf.c.
LOG = (
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip

# (sin(r) - r) / r**3 and (cos(r) - 1 + r**2 / 2) / r**4 in powers of r**2, for |r| <= pi / 4. Cephes, sinf.c.
SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
# pi / 2 in three float32 (Cody and Waite), all of 24 bits: a fused multiply-add needs no room for the products.
HALF_PI = (1.57079637050628662109375, -4.37113900018624283e-8, -1.71512449468008e-15)
SIN_LIMIT = 8192.0  # up to here the reduction costs one unit in the last place

# erf(x) = x + x P(x**2) for |x| < 0.9275, and 1 - exp(-|x| + |x| Q(|x|)) beyond; both fitted as EXP is, for erf's
# relative error, on [0, 0.93] (1.7e-8) and [0.925, 4] (7e-10). Beyond 4 erf is 1 in float32, and Q only has to sink.
ERF_NEAR = (-5.95375488e-4, 4.98594390e-3, -2.67617218e-2, 1.12816826e-1, -3.76124799e-1, 1.28379151e-1)
ERF_FAR = (-1.14232789e-5, 3.24725901e-4, -3.65027646e-3, 2.37786025e-2, -1.06256083e-1, -6.35139704e-1, -1.28651351e-1)
ERF_SPLIT = 0.9275

# In double precision for `power`, where plain Taylor series are short enough: log2(m) = 2 / ln 2 * atanh(s) with
# s = (m - 1) / (m + 1), |s| < 0.172, in powers of s**2 (error 2e-13); and e**z for |z| < 0.347 (error 8e-12).
LOG2_DOUBLE = tuple(2 * LOG2_E / n for n in (15, 13, 11, 9, 7, 5, 3, 1))
EXP_DOUBLE = (1 / 362880, 1 / 40320, 1 / 5040, 1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0)

# Of a quotient's bits, those that `fmod` takes at once: their product with a float32 is exact in double precision.
QUOTIENT_BITS = 28
FMOD_ROUNDS = -(-278 // QUOTIENT_BITS)  # float32 quotients end below 2**278


def _bits_of(number: float) -> int:
    bits: int = struct.unpack("<i", struct.pack("<f", float32(number)))[0]
    return bits


class VectorMath:
    """Elementwise arithmetic on vectors of one dtype, as the `native` rules of the operations use it.

    dtype: of the operands; float32, int64, int32, uint32, uint8 or bool. Comparisons give bool, a vector of i1.
    The methods on a function's own domain (exp, divide, ...) are for float32 only: the operations convert before them.
    """

    def __init__(self, builder: Builder, dtype: DTypeLike) -> None:
        self.builder = builder
        self.dtype = np.dtype(dtype)
        if self.dtype == np.float64:
            raise TypeError("float64 has no native arithmetic; run it with NumPy")
        self.is_float = self.dtype.kind == "f"
        self.is_bool = self.dtype.kind == "b"
        self.is_signed = self.dtype.kind == "i"

    # ---- constants, choices, casts -----------------------------------------------------------------------------------

    def constant(self, number: float) -> Vector:
        """`number` in every lane."""
        return self.builder.constant(number, self.dtype)

    def where(self, condition: Vector, a: Vector, b: Vector) -> Vector:
        return self.builder.select(condition, a, b)

    def cast(self, x: Vector, to: DTypeLike) -> Vector:
        """The same numbers in the dtype `to`."""
        builder, to = self.builder, np.dtype(to)
        if to == self.dtype:
            return x
        target, element = builder.vector(to), builder.element(to)
        if to.kind == "b":
            return self.not_equal(x, self.constant(0))
        if to.kind == "f":
            return builder.sitofp(x, target) if self.is_signed else builder.uitofp(x, target)
        if self.is_float:
            # NumPy goes to a wider signed integer on the way to an unsigned one, so -1.0 becomes the largest there is.
            wide = builder.vector(to if to.kind == "i" else np.int32 if to.itemsize == 1 else np.int64)
            number = builder.fptosi(x, wide)
            return number if wide == target else builder.trunc(number, target)
        here = builder.element(self.dtype)
        assert isinstance(here, ir.IntType) and isinstance(element, ir.IntType)
        if here.width >= element.width:
            return x if here.width == element.width else builder.trunc(x, target)
        return builder.sext(x, target) if self.is_signed else builder.zext(x, target)

    # ---- arithmetic --------------------------------------------------------------------------------------------------

    def add(self, a: Vector, b: Vector) -> Vector:
        if self.is_bool:
            return self.builder.or_(a, b)
        return self.builder.fadd(a, b) if self.is_float else self.builder.add(a, b)

    def subtract(self, a: Vector, b: Vector) -> Vector:
        return self.builder.fsub(a, b) if self.is_float else self.builder.sub(a, b)

    def multiply(self, a: Vector, b: Vector) -> Vector:
        if self.is_bool:
            return self.builder.and_(a, b)
        return self.builder.fmul(a, b) if self.is_float else self.builder.mul(a, b)

    def multiply_add(self, a: Vector, b: Vector, c: Vector) -> Vector:
        """a b + c, rounded once where the machine can."""
        return self.builder.multiply_add(a, b, c) if self.is_float else self.add(self.multiply(a, b), c)

    def divide(self, a: Vector, b: Vector) -> Vector:
        return self.builder.fdiv(a, b)

    def negative(self, x: Vector) -> Vector:
        return self.builder.fneg(x) if self.is_float else self.builder.neg(x)

    def absolute(self, x: Vector) -> Vector:
        if self.is_float:
            return self.builder.intrinsic("fabs", x)
        return self.where(self.less(x, self.constant(0)), self.negative(x), x) if self.is_signed else x

    def sign(self, x: Vector) -> Vector:
        """-1, 0 or 1; x + 0 where it is neither above nor below 0, which keeps NaN and makes 0 of -0, as NumPy does."""
        zero, one = self.constant(0), self.constant(1)
        if not (self.is_float or self.is_signed):
            return self.minimum(x, one)
        return self.where(self.less(zero, x), one, self.where(self.less(x, zero), self.constant(-1), self.add(x, zero)))

    def maximum(self, a: Vector, b: Vector) -> Vector:
        return self.builder.or_(a, b) if self.is_bool else self._winner(self.greater, a, b)

    def minimum(self, a: Vector, b: Vector) -> Vector:
        return self.builder.and_(a, b) if self.is_bool else self._winner(self.less, a, b)

    def _winner(self, beats: Callable[[Vector, Vector], Vector], a: Vector, b: Vector) -> Vector:
        # The comparison is false for NaN on either side and gives b, so only a NaN in `a` is still to be seen to.
        winner = self.where(beats(a, b), a, b)
        return self.where(self.builder.fcmp_unordered("uno", a, a), a, winner) if self.is_float else winner

    def relu(self, x: Vector) -> Vector:
        """max(x, 0); NaN is not below 0 and stays."""
        return self._at_least(x, 0) if self.is_float or self.is_signed else x

    def _at_least(self, x: Vector, bound: float) -> Vector:
        """x, or `bound` where x is below; NaN stays NaN. One instruction: the operands' order is x86's own."""
        limit = self.constant(bound)
        return self.where(self.greater(limit, x), limit, x)

    def _at_most(self, x: Vector, bound: float) -> Vector:
        limit = self.constant(bound)
        return self.where(self.less(limit, x), limit, x)

    # ---- comparisons and bits ----------------------------------------------------------------------------------------

    def equal(self, a: Vector, b: Vector) -> Vector:
        return self._compare("==", a, b)

    def not_equal(self, a: Vector, b: Vector) -> Vector:
        return self.builder.fcmp_unordered("!=", a, b) if self.is_float else self._compare("!=", a, b)

    def less(self, a: Vector, b: Vector) -> Vector:
        return self._compare("<", a, b)

    def less_equal(self, a: Vector, b: Vector) -> Vector:
        return self._compare("<=", a, b)

    def greater(self, a: Vector, b: Vector) -> Vector:
        return self._compare(">", a, b)

    def greater_equal(self, a: Vector, b: Vector) -> Vector:
        return self._compare(">=", a, b)

    def _compare(self, sign: str, a: Vector, b: Vector) -> Vector:
        """Ordered: false where either is NaN."""
        if self.is_float:
            return self.builder.fcmp_ordered(sign, a, b)
        return (self.builder.icmp_signed if self.is_signed else self.builder.icmp_unsigned)(sign, a, b)

    def is_finite(self, x: Vector) -> Vector:
        if not self.is_float:
            return self.builder.all_lanes()
        return self.less(self.absolute(x), self.constant(np.inf))

    def bitwise_and(self, a: Vector, b: Vector) -> Vector:
        return self.builder.and_(a, b)

    def bitwise_or(self, a: Vector, b: Vector) -> Vector:
        return self.builder.or_(a, b)

    def bitwise_xor(self, a: Vector, b: Vector) -> Vector:
        return self.builder.xor(a, b)

    def bitwise_not(self, x: Vector) -> Vector:
        return self.builder.not_(x)

    # ---- rounding ----------------------------------------------------------------------------------------------------

    def floor(self, x: Vector) -> Vector:
        return self._rounded("floor", x)

    def ceil(self, x: Vector) -> Vector:
        return self._rounded("ceil", x)

    def trunc(self, x: Vector) -> Vector:
        return self._rounded("trunc", x)

    def round(self, x: Vector) -> Vector:
        """To the nearest integer, of two equally near the even one."""
        return self._rounded("rint", x)

    def _rounded(self, intrinsic: str, x: Vector) -> Vector:
        return self.builder.intrinsic(intrinsic, x) if self.is_float else x

    # ---- quotient and remainder --------------------------------------------------------------------------------------

    def floor_divide(self, a: Vector, b: Vector) -> Vector:
        """The quotient rounded down; by 0 it is 0 for integers, and a / 0 for floats."""
        zero = self.constant(0)
        if self.is_bool:
            return self.builder.and_(a, b)
        if not self.is_float:
            quotient, _ = self._divmod_integers(a, b)
            return self.where(self.equal(b, zero), zero, quotient)
        # NumPy's npy_divmodf step by step, roundings included.
        ratio, rest = self.divide(a, b), self._fmod(a, b)
        quotient = self.divide(self.subtract(a, rest), b)
        below = self.subtract(quotient, self.constant(1))
        quotient = self.where(self._on_the_wrong_side(rest, b), below, quotient)
        down = self.floor(quotient)
        too_low = self.greater(self.subtract(quotient, down), self.constant(0.5))
        down = self.where(too_low, self.add(down, self.constant(1)), down)
        down = self.where(self.equal(quotient, zero), self._with_sign_of(zero, ratio), down)
        return self.where(self.equal(b, zero), ratio, down)

    def remainder(self, a: Vector, b: Vector) -> Vector:
        """a - b floor(a / b), with the sign of b; by 0 it is 0 for integers, and NaN for floats."""
        if self.is_bool:
            return self.constant(False)
        if not self.is_float:
            return self._divmod_integers(a, b)[1]
        rest = self._fmod(a, b)
        moved = self.where(self._on_the_wrong_side(rest, b), self.add(rest, b), rest)
        zero = self.constant(0)
        return self.where(self.equal(rest, zero), self._with_sign_of(zero, b), moved)

    def _divmod_integers(self, a: Vector, b: Vector) -> tuple[Vector, Vector]:
        """Quotient and remainder for b != 0; for b = 0 those of division by 1."""
        builder, zero, one = self.builder, self.constant(0), self.constant(1)
        undefined = self.equal(b, zero)
        if not self.is_signed:
            b = self.where(undefined, one, b)
            quotient = builder.udiv(a, b)
            return quotient, self.subtract(a, self.multiply(quotient, b))
        # The machine traps on lowest / -1 as on division by 0; NumPy gives the lowest again, as division by 1 does.
        lowest = self.equal(a, self.constant(np.iinfo(self.dtype).min))
        overflows = builder.and_(lowest, self.equal(b, self.constant(-1)))
        b = self.where(builder.or_(undefined, overflows), one, b)
        quotient = builder.sdiv(a, b)
        rest = self.subtract(a, self.multiply(quotient, b))
        wrong = self._on_the_wrong_side(rest, b)
        return (
            self.where(wrong, self.subtract(quotient, one), quotient),
            self.where(wrong, self.add(rest, b), rest),
        )

    def _on_the_wrong_side(self, rest: Vector, b: Vector) -> Vector:
        """Where a truncated division's remainder is not 0 and has the other sign than the divisor."""
        zero = self.constant(0)
        differ = self.builder.xor(self.less(rest, zero), self.less(b, zero))
        return self.builder.and_(differ, self._compare("!=", rest, zero))

    def _fmod(self, a: Vector, b: Vector) -> Vector:
        """a - b trunc(a / b), exactly, with the sign of a.

        Long division in double precision, QUOTIENT_BITS of the quotient a round: every product and difference is exact.
        One round is enough unless some lane's quotient is huge.
        """
        builder = self.builder
        size_a, size_b = self.absolute(a), self.absolute(b)
        double, integer = builder.vector(np.float64), builder.vector(np.int64)
        dividend, divisor = builder.fpext(size_a, double), builder.fpext(size_b, double)
        high_bits = builder.constant(-1 << (53 - QUOTIENT_BITS), np.int64)

        def take_away(_: Value, rest: Vector) -> Vector:
            quotient = builder.intrinsic("trunc", builder.fdiv(rest, divisor))
            leading = builder.bitcast(builder.and_(builder.bitcast(quotient, integer), high_bits), double)
            return builder.fsub(rest, builder.fmul(leading, divisor))

        once = self.multiply(size_b, self.constant(2.0 ** (QUOTIENT_BITS - 1)))
        huge = self._any(self.builder.fcmp_unordered(">=", size_a, once))
        rounds = builder.select(huge, builder.index(FMOD_ROUNDS), builder.index(1))
        (rest,) = builder.loop(0, rounds, 1, take_away, [dividend])
        # A quotient just below an integer may have been rounded up to it.
        negative = builder.fcmp_ordered("<", rest, self._double(0))
        rest = builder.select(negative, builder.fadd(rest, divisor), rest)
        rest = self.where(self.less(size_a, size_b), size_a, builder.fptrunc(rest, a.type))
        return self._with_sign_of(rest, a)

    # ---- roots and powers --------------------------------------------------------------------------------------------

    def sqrt(self, x: Vector) -> Vector:
        return self.builder.intrinsic("sqrt", x)

    def power(self, x: Vector, y: Vector) -> Vector:
        """x ** y. Integers wrap around; to a negative power (which NumPy refuses) they are 1 / x cut to an integer."""
        if self.is_bool:
            return self.builder.or_(x, self.builder.not_(y))
        return self._power_of_floats(x, y) if self.is_float else self._power_of_integers(x, y)

    def _power_of_integers(self, x: Vector, y: Vector) -> Vector:
        builder, zero, one = self.builder, self.constant(0), self.constant(1)

        def square_and_multiply(_: Value, result: Vector, square: Vector, rest: Vector) -> list[Vector]:
            odd = self.equal(builder.and_(rest, one), one)
            result = self.where(odd, self.multiply(result, square), result)
            return [result, self.multiply(square, square), builder.lshr(rest, one)]

        result, _, _ = builder.loop(0, 8 * self.dtype.itemsize, 1, square_and_multiply, [one, x, y])
        if not self.is_signed:
            return result
        vanishes = builder.and_(self.less(y, zero), self.not_equal(self.absolute(x), one))
        return self.where(vanishes, zero, result)

    def _power_of_floats(self, x: Vector, y: Vector) -> Vector:
        """2 ** (y log2 |x|) in double precision, and the sign and the special cases of C99's powf."""
        builder = self.builder
        zero, one, infinity = self.constant(0), self.constant(1), self.constant(np.inf)
        size = self.absolute(x)
        exponent = builder.fmul(builder.fpext(y, builder.vector(np.float64)), self._log2_double(size))
        result = builder.fptrunc(self._exp2_double(exponent), x.type)

        half = self.multiply(y, self.constant(0.5))
        whole = self.equal(self.trunc(y), y)  # as are all infinities and all numbers beyond 2**24, even ones
        odd = builder.and_(whole, self.not_equal(self.trunc(half), half))
        result = self.where(odd, self._with_sign_of(result, x), result)

        finite_below_zero = builder.and_(self.less(x, zero), self.is_finite(x))
        result = self.where(builder.and_(finite_below_zero, builder.not_(whole)), self.constant(np.nan), result)
        turning = builder.and_(self.equal(x, self.constant(-1)), self.equal(self.absolute(y), infinity))
        unit = builder.or_(turning, builder.or_(self.equal(y, zero), self.equal(x, one)))
        return self.where(unit, one, result)

    def _log2_double(self, x: Vector) -> Vector:
        """log2 of float32 numbers that are not negative, in double precision."""
        builder, number = self.builder, self._double
        double, integer = builder.vector(np.float64), builder.vector(np.int64)
        wide = builder.fpext(x, double)
        bits = builder.bitcast(wide, integer)
        root = builder.constant(0x3FE6A09E667F3BCD, np.int64)  # sqrt(1/2): mantissas end up around 1
        places = builder.constant(52, np.int64)
        exponent = builder.ashr(builder.sub(bits, root), places)
        mantissa = builder.bitcast(builder.sub(bits, builder.shl(exponent, places)), double)
        s = builder.fdiv(builder.fsub(mantissa, number(1)), builder.fadd(mantissa, number(1)))
        series = self._polynomial(builder.fmul(s, s), LOG2_DOUBLE, number)
        scale = builder.sitofp(builder.trunc(exponent, builder.vector(np.int32)), double)
        result = builder.multiply_add(s, series, scale)
        result = self.where(self.less(x, self.constant(np.inf)), result, wide)  # infinity and NaN are their own
        return self.where(self.equal(x, self.constant(0)), number(-np.inf), result)

    def _exp2_double(self, x: Vector) -> Vector:
        """2 ** x in double precision, for use as float32: beyond 2 ** +-1000 it stays there."""
        builder, number = self.builder, self._double
        x = builder.select(builder.fcmp_ordered("<", number(1000), x), number(1000), x)
        x = builder.select(builder.fcmp_ordered(">", number(-1000), x), number(-1000), x)
        rounded = builder.fadd(x, number(ROUND_DOUBLE + 1023))
        fraction = builder.fsub(x, builder.fsub(rounded, number(ROUND_DOUBLE + 1023)))
        series = self._polynomial(builder.fmul(fraction, number(LN_2)), EXP_DOUBLE, number)
        bits = builder.bitcast(rounded, builder.vector(np.int64))
        shifted = builder.shl(bits, builder.constant(52, np.int64))
        return builder.fmul(series, builder.bitcast(shifted, x.type))

    def _double(self, number: float) -> Vector:
        return self.builder.constant(number, np.float64)

    # ---- exponentials ------------------------------------------------------------------------------------------------

    def exp(self, x: Vector) -> Vector:
        scaled, scale = self._exponential(x)
        return self.multiply_add(scaled, scale, scale)

    def expm1(self, x: Vector) -> Vector:
        """exp(x) - 1, exact for tiny x."""
        scaled, scale = self._exponential(x)
        result = self.multiply_add(scaled, scale, self.subtract(scale, self.constant(1)))
        return self._with_sign_of(result, x)

    def sigmoid(self, x: Vector) -> Vector:
        one = self.constant(1)
        return self.divide(one, self.add(one, self.exp(self.negative(x))))

    def tanh(self, x: Vector) -> Vector:
        """-e / (e + 2) with e = exp(-2 |x|) - 1: no cancellation anywhere, and exactly 1 at the end."""
        below = self.multiply(self.absolute(x), self.constant(-2))
        scaled, scale = self._exponential(below, bounded=True)
        e = self.multiply_add(scaled, scale, self.subtract(scale, self.constant(1)))
        return self._with_sign_of(self.divide(e, self.add(e, self.constant(2))), x)

    def _exponential(self, x: Vector, bounded: bool = False) -> tuple[Vector, Vector]:
        """(e**r - 1, 2**n) with x = r + n ln 2, so that exp(x) = 2**n + 2**n (e**r - 1). bounded: x is not above 88.

        n ends at 127, the largest power there is; r then grows up to 0.7, until the product overflows to infinity by
        itself. At the other end n = -127 stands for 2**n = 0.
        """
        x = self._at_least(x, -88.0)
        if not bounded:
            x = self._at_most(x, 88.73)
        rounder = ROUND + 127
        rounded = self.multiply_add(x, self.constant(LOG2_E), self.constant(rounder))
        if not bounded:
            rounded = self._at_most(rounded, rounder + 127)
        n = self.subtract(rounded, self.constant(rounder))
        for part in EXP_LN_2:
            x = self.multiply_add(n, self.constant(-part), x)
        scaled = self.multiply_add(self._polynomial(x, EXP), self.multiply(x, x), x)
        shifted = self.builder.shl(self._as_integers(rounded), self.builder.bits(23))
        return scaled, self._as_floats(shifted)

    # ---- logarithms --------------------------------------------------------------------------------------------------

    def log(self, x: Vector) -> Vector:
        tiny = self.less(x, self.constant(SMALLEST_NORMAL))
        scaled = self.where(tiny, self.multiply(x, self.constant(2.0**23)), x)
        exponent, mantissa = self._split(scaled)
        n = self.builder.sitofp(exponent, x.type)
        n = self.where(tiny, self.subtract(n, self.constant(23)), n)
        result = self._log_of_parts(n, self.subtract(mantissa, self.constant(1)))
        return self._with_log_limits(result, x, 0.0)

    def log1p(self, x: Vector) -> Vector:
        """log(1 + x), exact for tiny x: what 1 + x loses to rounding is added to the mantissa again."""
        builder, one = self.builder, self.constant(1)
        sum = self.add(x, one)
        lost = self.subtract(x, self.subtract(sum, one))
        exponent, mantissa = self._split(sum)
        # 2 ** -exponent; beyond 126 it would leave the range, and nothing of `lost` is seen there.
        bounded = builder.select(builder.icmp_signed("<", exponent, builder.bits(126)), exponent, builder.bits(126))
        scale = self._as_floats(builder.sub(builder.bits(_bits_of(1.0)), builder.shl(bounded, builder.bits(23))))
        fraction = self.multiply_add(lost, scale, self.subtract(mantissa, one))
        result = self._log_of_parts(builder.sitofp(exponent, x.type), fraction)
        return self._with_sign_of(self._with_log_limits(result, x, -1.0), x)

    def _split(self, x: Vector) -> tuple[Vector, Vector]:
        """Integer n and m in [sqrt(1/2), sqrt(2)) with x = m 2**n, for normal x > 0."""
        builder, root, places = self.builder, self.builder.bits(_bits_of(0.5**0.5)), self.builder.bits(23)
        bits = self._as_integers(x)
        exponent = builder.ashr(builder.sub(bits, root), places)
        return exponent, self._as_floats(builder.sub(bits, builder.shl(exponent, places)))

    def _log_of_parts(self, n: Vector, f: Vector) -> Vector:
        """n ln 2 + log(1 + f), the small terms first."""
        square = self.multiply(f, f)
        result = self.multiply(self.multiply(f, square), self._polynomial(f, LOG))
        result = self.multiply_add(n, self.constant(LOG_LN_2[1]), result)
        result = self.multiply_add(square, self.constant(-0.5), result)
        return self.multiply_add(n, self.constant(LOG_LN_2[0]), self.add(f, result))

    def _with_log_limits(self, result: Vector, x: Vector, pole: float) -> Vector:
        """The result where pole < x < infinity, and the limits and NaN elsewhere."""
        at_pole = self.where(self.equal(x, self.constant(pole)), self.constant(-np.inf), self.constant(np.nan))
        result = self.where(self.greater(x, self.constant(pole)), result, at_pole)
        return self.where(self.equal(x, self.constant(np.inf)), x, result)

    # ---- sine and cosine ---------------------------------------------------------------------------------------------

    def sin(self, x: Vector) -> Vector:
        return self.where(self.equal(x, self.constant(0)), x, self._sine(x, "sin", 0))  # -0 stays -0

    def cos(self, x: Vector) -> Vector:
        return self._sine(x, "cos", 1)

    def _sine(self, x: Vector, name: str, quarters: int) -> Vector:
        """sin(x + quarters pi / 2); the C library's function where the reduction would lose bits.

        Without a fused multiply-add the reduction in float32 loses them everywhere.
        """
        builder = self.builder
        if not builder.target.fma:
            return builder.intrinsic(name, x)
        near = self._sine_near(x, quarters)
        far = self.greater(self.absolute(x), self.constant(SIN_LIMIT))
        start = builder.block
        with builder.if_then(self._any(far), likely=False):
            exact = builder.select(far, builder.intrinsic(name, x), near)
            end = builder.block
        result = builder.phi(x.type)
        result.add_incoming(near, start)
        result.add_incoming(exact, end)
        return result

    def _sine_near(self, x: Vector, quarters: int) -> Vector:
        """x = r + n pi / 2; the quarter of the circle, n mod 4, picks sine or cosine of r and the sign."""
        builder = self.builder
        rounder = ROUND + quarters
        rounded = self.multiply_add(x, self.constant(2 / np.pi), self.constant(rounder))
        n = self.subtract(rounded, self.constant(rounder))
        for part in HALF_PI:
            x = self.multiply_add(n, self.constant(-part), x)
        square = self.multiply(x, x)
        sine = self.multiply_add(self._polynomial(square, SIN), self.multiply(square, x), x)
        cosine = self.multiply_add(square, self.constant(-0.5), self.constant(1))
        cosine = self.multiply_add(self._polynomial(square, COS), self.multiply(square, square), cosine)
        quarter = self._as_integers(rounded)
        odd = builder.trunc(quarter, builder.vector(bool))
        turned = builder.shl(builder.and_(quarter, builder.bits(2)), builder.bits(30))
        return self._as_floats(builder.xor(self._as_integers(self.where(odd, cosine, sine)), turned))

    # ---- error function ----------------------------------------------------------------------------------------------

    def erf(self, x: Vector) -> Vector:
        size = self.absolute(x)
        near = self.multiply_add(self._polynomial(self.multiply(x, x), ERF_NEAR), x, x)
        exponent = self.multiply_add(self._polynomial(size, ERF_FAR), size, self.negative(size))
        scaled, scale = self._exponential(exponent, bounded=True)
        far = self.subtract(self.constant(1), self.multiply_add(scaled, scale, scale))
        return self.where(self.less(size, self.constant(ERF_SPLIT)), near, self._with_sign_of(far, x))

    # ---- pieces ------------------------------------------------------------------------------------------------------

    def _polynomial(
        self, x: Vector, coefficients: Sequence[float], number: Callable[[float], Vector] | None = None
    ) -> Vector:
        """Horner's rule, the coefficient of the highest power first."""
        number = number or self.constant
        result = number(coefficients[0])
        for coefficient in coefficients[1:]:
            result = self.builder.multiply_add(result, x, number(coefficient))
        return result

    def _with_sign_of(self, size: Vector, x: Vector) -> Vector:
        return self.builder.intrinsic("copysign", size, x)

    def _as_integers(self, x: Vector) -> Vector:
        return self.builder.bitcast(x, self.builder.vector(np.int32))

    def _as_floats(self, bits: Vector) -> Vector:
        return self.builder.bitcast(bits, self.builder.vector(np.float32))

    def _any(self, mask: Vector) -> Vector:
        """Whether any lane of the mask is true, as a scalar."""
        return self.builder.intrinsic("vector.reduce.or", mask, result=i1)
