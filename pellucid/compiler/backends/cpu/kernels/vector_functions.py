"""Functions of vectors, by kind (floor 4). `VectorMath` offers them to the operations under the same names.

Integers and booleans are NumPy's to the bit. Functions of float32 are polynomials over a short interval after a reduction to
it; they are within a few units in the last place of the truth (`tests/compiler/test_vector_math.py` measures each), and NaN,
infinities and poles propagate as in NumPy: a network that diverged must not look sound in native code. Results below
the smallest normal number (1.2e-38) may come out as 0. Where nothing else is said, x is float32: the operations convert before.

Three tricks recur. A comparison with NaN is false, and in `_at_most` and `_at_least` that choice keeps the number
itself, so NaN passes for the price of one instruction. Adding 1.5 * 2**23 rounds a number to an integer and leaves that
integer in the low bits of the sum, so it needs no conversion (which is undefined for NaN). And a power of two is made
by shifting its exponent into place.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ..llvm import Value, float32, i1
from .vector_arithmetic import Vector, VectorArithmetic

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


# ---- signs and limits --------------------------------------------------------------------------------------------------


def sign(e: VectorArithmetic, x: Vector) -> Vector:
    """-1, 0 or 1; x + 0 where it is neither above nor below 0, which keeps NaN and makes 0 of -0, as NumPy does."""
    zero, one = e.constant(0), e.constant(1)
    if not (e.is_float or e.is_signed):
        return e.minimum(x, one)
    return e.where(e.less(zero, x), one, e.where(e.less(x, zero), e.constant(-1), e.add(x, zero)))


def relu(e: VectorArithmetic, x: Vector) -> Vector:
    """max(x, 0); NaN is not below 0 and stays."""
    return _at_least(e, x, 0) if e.is_float or e.is_signed else x


def is_finite(e: VectorArithmetic, x: Vector) -> Vector:
    if not e.is_float:
        return e.builder.all_lanes()
    return e.less(e.absolute(x), e.constant(np.inf))


# ---- quotient and remainder --------------------------------------------------------------------------------------------


def floor_divide(e: VectorArithmetic, a: Vector, b: Vector) -> Vector:
    """The quotient rounded down; by 0 it is 0 for integers, and a / 0 for floats."""
    zero = e.constant(0)
    if e.is_bool:
        return e.builder.and_(a, b)
    if not e.is_float:
        quotient, _ = _divmod_integers(e, a, b)
        return e.where(e.equal(b, zero), zero, quotient)
    # NumPy's npy_divmodf step by step, roundings included.
    ratio, rest = e.divide(a, b), _fmod(e, a, b)
    quotient = e.divide(e.subtract(a, rest), b)
    below = e.subtract(quotient, e.constant(1))
    quotient = e.where(_on_the_wrong_side(e, rest, b), below, quotient)
    down = e.floor(quotient)
    too_low = e.greater(e.subtract(quotient, down), e.constant(0.5))
    down = e.where(too_low, e.add(down, e.constant(1)), down)
    down = e.where(e.equal(quotient, zero), _with_sign_of(e, zero, ratio), down)
    return e.where(e.equal(b, zero), ratio, down)


def remainder(e: VectorArithmetic, a: Vector, b: Vector) -> Vector:
    """a - b floor(a / b), with the sign of b; by 0 it is 0 for integers, and NaN for floats."""
    if e.is_bool:
        return e.constant(False)
    if not e.is_float:
        return _divmod_integers(e, a, b)[1]
    rest = _fmod(e, a, b)
    moved = e.where(_on_the_wrong_side(e, rest, b), e.add(rest, b), rest)
    zero = e.constant(0)
    return e.where(e.equal(rest, zero), _with_sign_of(e, zero, b), moved)


def _divmod_integers(e: VectorArithmetic, a: Vector, b: Vector) -> tuple[Vector, Vector]:
    """Quotient and remainder for b != 0; for b = 0 those of division by 1."""
    builder, zero, one = e.builder, e.constant(0), e.constant(1)
    undefined = e.equal(b, zero)
    if not e.is_signed:
        b = e.where(undefined, one, b)
        quotient = builder.udiv(a, b)
        return quotient, e.subtract(a, e.multiply(quotient, b))
    # The machine traps on lowest / -1 as on division by 0; NumPy gives the lowest again, as division by 1 does.
    lowest = e.equal(a, e.constant(np.iinfo(e.dtype).min))
    overflows = builder.and_(lowest, e.equal(b, e.constant(-1)))
    b = e.where(builder.or_(undefined, overflows), one, b)
    quotient = builder.sdiv(a, b)
    rest = e.subtract(a, e.multiply(quotient, b))
    wrong = _on_the_wrong_side(e, rest, b)
    return (
        e.where(wrong, e.subtract(quotient, one), quotient),
        e.where(wrong, e.add(rest, b), rest),
    )


def _on_the_wrong_side(e: VectorArithmetic, rest: Vector, b: Vector) -> Vector:
    """Where a truncated division's remainder is not 0 and has the other sign than the divisor."""
    zero = e.constant(0)
    differ = e.builder.xor(e.less(rest, zero), e.less(b, zero))
    return e.builder.and_(differ, e.compare("!=", rest, zero))


def _fmod(e: VectorArithmetic, a: Vector, b: Vector) -> Vector:
    """a - b trunc(a / b), exactly, with the sign of a.

    Long division in double precision, QUOTIENT_BITS of the quotient a round: every product and difference is exact.
    One round is enough unless some lane's quotient is huge.
    """
    builder = e.builder
    size_a, size_b = e.absolute(a), e.absolute(b)
    double, integer = builder.vector(np.float64), builder.vector(np.int64)
    dividend, divisor = builder.fpext(size_a, double), builder.fpext(size_b, double)
    high_bits = builder.constant(-1 << (53 - QUOTIENT_BITS), np.int64)

    def take_away(_: Value, rest: Vector) -> Vector:
        quotient = builder.intrinsic("trunc", builder.fdiv(rest, divisor))
        leading = builder.bitcast(builder.and_(builder.bitcast(quotient, integer), high_bits), double)
        return builder.fsub(rest, builder.fmul(leading, divisor))

    once = e.multiply(size_b, e.constant(2.0 ** (QUOTIENT_BITS - 1)))
    huge = _any(e, e.builder.fcmp_unordered(">=", size_a, once))
    rounds = builder.select(huge, builder.index(FMOD_ROUNDS), builder.index(1))
    (rest,) = builder.loop(0, rounds, 1, take_away, [dividend])
    # A quotient just below an integer may have been rounded up to it.
    negative = builder.fcmp_ordered("<", rest, builder.constant(0, np.float64))
    rest = builder.select(negative, builder.fadd(rest, divisor), rest)
    rest = e.where(e.less(size_a, size_b), size_a, builder.fptrunc(rest, a.type))
    return _with_sign_of(e, rest, a)


# ---- roots and powers --------------------------------------------------------------------------------------------------


def sqrt(e: VectorArithmetic, x: Vector) -> Vector:
    return e.builder.intrinsic("sqrt", x)


def power(e: VectorArithmetic, x: Vector, y: Vector) -> Vector:
    """x ** y. Integers wrap around; to a negative power (which NumPy refuses) they are 1 / x cut to an integer."""
    if e.is_bool:
        return e.builder.or_(x, e.builder.not_(y))
    return _power_of_floats(e, x, y) if e.is_float else _power_of_integers(e, x, y)


def _power_of_integers(e: VectorArithmetic, x: Vector, y: Vector) -> Vector:
    builder, zero, one = e.builder, e.constant(0), e.constant(1)

    def square_and_multiply(_: Value, result: Vector, square: Vector, rest: Vector) -> list[Vector]:
        odd = e.equal(builder.and_(rest, one), one)
        result = e.where(odd, e.multiply(result, square), result)
        return [result, e.multiply(square, square), builder.lshr(rest, one)]

    result, _, _ = builder.loop(0, 8 * e.dtype.itemsize, 1, square_and_multiply, [one, x, y])
    if not e.is_signed:
        return result
    vanishes = builder.and_(e.less(y, zero), e.not_equal(e.absolute(x), one))
    return e.where(vanishes, zero, result)


def _power_of_floats(e: VectorArithmetic, x: Vector, y: Vector) -> Vector:
    """2 ** (y log2 |x|) in double precision, and the sign and the special cases of C99's powf."""
    builder = e.builder
    zero, one, infinity = e.constant(0), e.constant(1), e.constant(np.inf)
    size = e.absolute(x)
    exponent = builder.fmul(builder.fpext(y, builder.vector(np.float64)), _log2_double(e, size))
    result = builder.fptrunc(_exp2_double(e, exponent), x.type)

    half = e.multiply(y, e.constant(0.5))
    whole = e.equal(e.trunc(y), y)  # as are all infinities and all numbers beyond 2**24, even ones
    odd = builder.and_(whole, e.not_equal(e.trunc(half), half))
    result = e.where(odd, _with_sign_of(e, result, x), result)

    finite_below_zero = builder.and_(e.less(x, zero), is_finite(e, x))
    result = e.where(builder.and_(finite_below_zero, builder.not_(whole)), e.constant(np.nan), result)
    turning = builder.and_(e.equal(x, e.constant(-1)), e.equal(e.absolute(y), infinity))
    unit = builder.or_(turning, builder.or_(e.equal(y, zero), e.equal(x, one)))
    return e.where(unit, one, result)


def _log2_double(e: VectorArithmetic, x: Vector) -> Vector:
    """log2 of float32 numbers that are not negative, in double precision."""
    builder, number = e.builder, partial(e.builder.constant, dtype=np.float64)
    double, integer = builder.vector(np.float64), builder.vector(np.int64)
    wide = builder.fpext(x, double)
    bits = builder.bitcast(wide, integer)
    root = builder.constant(0x3FE6A09E667F3BCD, np.int64)  # sqrt(1/2): mantissas end up around 1
    places = builder.constant(52, np.int64)
    exponent = builder.ashr(builder.sub(bits, root), places)
    mantissa = builder.bitcast(builder.sub(bits, builder.shl(exponent, places)), double)
    s = builder.fdiv(builder.fsub(mantissa, number(1)), builder.fadd(mantissa, number(1)))
    series = _polynomial(e, builder.fmul(s, s), LOG2_DOUBLE, number)
    scale = builder.sitofp(builder.trunc(exponent, builder.vector(np.int32)), double)
    result = builder.multiply_add(s, series, scale)
    result = e.where(e.less(x, e.constant(np.inf)), result, wide)  # infinity and NaN are their own
    return e.where(e.equal(x, e.constant(0)), number(-np.inf), result)


def _exp2_double(e: VectorArithmetic, x: Vector) -> Vector:
    """2 ** x in double precision, for use as float32: beyond 2 ** +-1000 it stays there."""
    builder, number = e.builder, partial(e.builder.constant, dtype=np.float64)
    x = builder.select(builder.fcmp_ordered("<", number(1000), x), number(1000), x)
    x = builder.select(builder.fcmp_ordered(">", number(-1000), x), number(-1000), x)
    rounded = builder.fadd(x, number(ROUND_DOUBLE + 1023))
    fraction = builder.fsub(x, builder.fsub(rounded, number(ROUND_DOUBLE + 1023)))
    series = _polynomial(e, builder.fmul(fraction, number(LN_2)), EXP_DOUBLE, number)
    bits = builder.bitcast(rounded, builder.vector(np.int64))
    shifted = builder.shl(bits, builder.constant(52, np.int64))
    return builder.fmul(series, builder.bitcast(shifted, x.type))


# ---- exponentials ------------------------------------------------------------------------------------------------------


def exp(e: VectorArithmetic, x: Vector) -> Vector:
    scaled, scale = _exponential(e, x)
    return e.multiply_add(scaled, scale, scale)


def expm1(e: VectorArithmetic, x: Vector) -> Vector:
    """exp(x) - 1, exact for tiny x."""
    scaled, scale = _exponential(e, x)
    result = e.multiply_add(scaled, scale, e.subtract(scale, e.constant(1)))
    return _with_sign_of(e, result, x)


def sigmoid(e: VectorArithmetic, x: Vector) -> Vector:
    one = e.constant(1)
    return e.divide(one, e.add(one, exp(e, e.negative(x))))


def tanh(e: VectorArithmetic, x: Vector) -> Vector:
    """-p / (p + 2) with p = exp(-2 |x|) - 1: no cancellation anywhere, and exactly 1 at the end."""
    below = e.multiply(e.absolute(x), e.constant(-2))
    scaled, scale = _exponential(e, below, bounded=True)
    power = e.multiply_add(scaled, scale, e.subtract(scale, e.constant(1)))
    return _with_sign_of(e, e.divide(power, e.add(power, e.constant(2))), x)


def _exponential(e: VectorArithmetic, x: Vector, bounded: bool = False) -> tuple[Vector, Vector]:
    """(e**r - 1, 2**n) with x = r + n ln 2, so that exp(x) = 2**n + 2**n (e**r - 1). bounded: x is not above 88.

    n ends at 127, the largest power there is; r then grows up to 0.7, until the product overflows to infinity by
    itself. At the other end n = -127 stands for 2**n = 0.
    """
    x = _at_least(e, x, -88.0)
    if not bounded:
        x = _at_most(e, x, 88.73)
    rounder = ROUND + 127
    rounded = e.multiply_add(x, e.constant(LOG2_E), e.constant(rounder))
    if not bounded:
        rounded = _at_most(e, rounded, rounder + 127)
    n = e.subtract(rounded, e.constant(rounder))
    for part in EXP_LN_2:
        x = e.multiply_add(n, e.constant(-part), x)
    scaled = e.multiply_add(_polynomial(e, x, EXP), e.multiply(x, x), x)
    shifted = e.builder.shl(_as_integers(e, rounded), e.builder.bits(23))
    return scaled, _as_floats(e, shifted)


# ---- logarithms --------------------------------------------------------------------------------------------------------


def log(e: VectorArithmetic, x: Vector) -> Vector:
    tiny = e.less(x, e.constant(SMALLEST_NORMAL))
    scaled = e.where(tiny, e.multiply(x, e.constant(2.0**23)), x)
    exponent, mantissa = _split(e, scaled)
    n = e.builder.sitofp(exponent, x.type)
    n = e.where(tiny, e.subtract(n, e.constant(23)), n)
    result = _log_of_parts(e, n, e.subtract(mantissa, e.constant(1)))
    return _with_log_limits(e, result, x, 0.0)


def log1p(e: VectorArithmetic, x: Vector) -> Vector:
    """log(1 + x), exact for tiny x: what 1 + x loses to rounding is added to the mantissa again."""
    builder, one = e.builder, e.constant(1)
    sum = e.add(x, one)
    lost = e.subtract(x, e.subtract(sum, one))
    exponent, mantissa = _split(e, sum)
    # 2 ** -exponent; beyond 126 it would leave the range, and nothing of `lost` is seen there.
    bounded = builder.select(builder.icmp_signed("<", exponent, builder.bits(126)), exponent, builder.bits(126))
    scale = _as_floats(e, builder.sub(builder.bits(_bits_of(1.0)), builder.shl(bounded, builder.bits(23))))
    fraction = e.multiply_add(lost, scale, e.subtract(mantissa, one))
    result = _log_of_parts(e, builder.sitofp(exponent, x.type), fraction)
    return _with_sign_of(e, _with_log_limits(e, result, x, -1.0), x)


def _split(e: VectorArithmetic, x: Vector) -> tuple[Vector, Vector]:
    """Integer n and m in [sqrt(1/2), sqrt(2)) with x = m 2**n, for normal x > 0."""
    builder, root, places = e.builder, e.builder.bits(_bits_of(0.5**0.5)), e.builder.bits(23)
    bits = _as_integers(e, x)
    exponent = builder.ashr(builder.sub(bits, root), places)
    return exponent, _as_floats(e, builder.sub(bits, builder.shl(exponent, places)))


def _log_of_parts(e: VectorArithmetic, n: Vector, f: Vector) -> Vector:
    """n ln 2 + log(1 + f), the small terms first."""
    square = e.multiply(f, f)
    result = e.multiply(e.multiply(f, square), _polynomial(e, f, LOG))
    result = e.multiply_add(n, e.constant(LOG_LN_2[1]), result)
    result = e.multiply_add(square, e.constant(-0.5), result)
    return e.multiply_add(n, e.constant(LOG_LN_2[0]), e.add(f, result))


def _with_log_limits(e: VectorArithmetic, result: Vector, x: Vector, pole: float) -> Vector:
    """The result where pole < x < infinity, and the limits and NaN elsewhere."""
    at_pole = e.where(e.equal(x, e.constant(pole)), e.constant(-np.inf), e.constant(np.nan))
    result = e.where(e.greater(x, e.constant(pole)), result, at_pole)
    return e.where(e.equal(x, e.constant(np.inf)), x, result)


# ---- sine and cosine ---------------------------------------------------------------------------------------------------


def sin(e: VectorArithmetic, x: Vector) -> Vector:
    return e.where(e.equal(x, e.constant(0)), x, _sine(e, x, "sin", 0))  # -0 stays -0


def cos(e: VectorArithmetic, x: Vector) -> Vector:
    return _sine(e, x, "cos", 1)


def _sine(e: VectorArithmetic, x: Vector, name: str, quarters: int) -> Vector:
    """sin(x + quarters pi / 2); the C library's function where the reduction would lose bits.

    Without a fused multiply-add the reduction in float32 loses them everywhere.
    """
    builder = e.builder
    if not builder.target.fma:
        return builder.intrinsic(name, x)
    near = _sine_near(e, x, quarters)
    far = e.greater(e.absolute(x), e.constant(SIN_LIMIT))
    start = builder.block
    with builder.if_then(_any(e, far), likely=False):
        exact = builder.select(far, builder.intrinsic(name, x), near)
        end = builder.block
    result = builder.phi(x.type)
    result.add_incoming(near, start)
    result.add_incoming(exact, end)
    return result


def _sine_near(e: VectorArithmetic, x: Vector, quarters: int) -> Vector:
    """x = r + n pi / 2; the quarter of the circle, n mod 4, picks sine or cosine of r and the sign."""
    builder = e.builder
    rounder = ROUND + quarters
    rounded = e.multiply_add(x, e.constant(2 / np.pi), e.constant(rounder))
    n = e.subtract(rounded, e.constant(rounder))
    for part in HALF_PI:
        x = e.multiply_add(n, e.constant(-part), x)
    square = e.multiply(x, x)
    sine = e.multiply_add(_polynomial(e, square, SIN), e.multiply(square, x), x)
    cosine = e.multiply_add(square, e.constant(-0.5), e.constant(1))
    cosine = e.multiply_add(_polynomial(e, square, COS), e.multiply(square, square), cosine)
    quarter = _as_integers(e, rounded)
    odd = builder.trunc(quarter, builder.vector(bool))
    turned = builder.shl(builder.and_(quarter, builder.bits(2)), builder.bits(30))
    return _as_floats(e, builder.xor(_as_integers(e, e.where(odd, cosine, sine)), turned))


# ---- error function ----------------------------------------------------------------------------------------------------


def erf(e: VectorArithmetic, x: Vector) -> Vector:
    size = e.absolute(x)
    near = e.multiply_add(_polynomial(e, e.multiply(x, x), ERF_NEAR), x, x)
    exponent = e.multiply_add(_polynomial(e, size, ERF_FAR), size, e.negative(size))
    scaled, scale = _exponential(e, exponent, bounded=True)
    far = e.subtract(e.constant(1), e.multiply_add(scaled, scale, scale))
    return e.where(e.less(size, e.constant(ERF_SPLIT)), near, _with_sign_of(e, far, x))


# ---- pieces ------------------------------------------------------------------------------------------------------------


def _polynomial(
    e: VectorArithmetic, x: Vector, coefficients: Sequence[float], number: Callable[[float], Vector] | None = None
) -> Vector:
    """Horner's rule, the coefficient of the highest power first."""
    number = number or e.constant
    result = number(coefficients[0])
    for coefficient in coefficients[1:]:
        result = e.builder.multiply_add(result, x, number(coefficient))
    return result


def _with_sign_of(e: VectorArithmetic, size: Vector, x: Vector) -> Vector:
    return e.builder.intrinsic("copysign", size, x)


def _as_integers(e: VectorArithmetic, x: Vector) -> Vector:
    return e.builder.bitcast(x, e.builder.vector(np.int32))


def _as_floats(e: VectorArithmetic, bits: Vector) -> Vector:
    return e.builder.bitcast(bits, e.builder.vector(np.float32))


def _any(e: VectorArithmetic, mask: Vector) -> Vector:
    """Whether any lane of the mask is true, as a scalar."""
    return e.builder.intrinsic("vector.reduce.or", mask, result=i1)


def _at_least(e: VectorArithmetic, x: Vector, bound: float) -> Vector:
    """x, or `bound` where x is below; NaN stays NaN. One instruction: the operands' order is x86's own."""
    limit = e.constant(bound)
    return e.where(e.greater(limit, x), limit, x)


def _at_most(e: VectorArithmetic, x: Vector, bound: float) -> Vector:
    limit = e.constant(bound)
    return e.where(e.less(limit, x), limit, x)
