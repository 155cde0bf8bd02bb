"""Vector arithmetic: what is one instruction or a few, with the results of NumPy (floor 4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..llvm import Builder, Value, ir

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

Vector = Value  # an LLVM value: a vector of `builder.lanes` numbers


class VectorArithmetic:
    """Arithmetic, comparisons and rounding of vectors of one dtype.

    dtype: of the operands; float32, int64, int32, uint32, uint8 or bool. Comparisons give bool, a vector of i1.
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

    def maximum(self, a: Vector, b: Vector) -> Vector:
        return self.builder.or_(a, b) if self.is_bool else self._winner(self.greater, a, b)

    def minimum(self, a: Vector, b: Vector) -> Vector:
        return self.builder.and_(a, b) if self.is_bool else self._winner(self.less, a, b)

    def _winner(self, beats: Callable[[Vector, Vector], Vector], a: Vector, b: Vector) -> Vector:
        # The comparison is false for NaN on either side and gives b, so only a NaN in `a` is still to be seen to.
        winner = self.where(beats(a, b), a, b)
        return self.where(self.builder.fcmp_unordered("uno", a, a), a, winner) if self.is_float else winner

    # ---- comparisons and bits ----------------------------------------------------------------------------------------

    def equal(self, a: Vector, b: Vector) -> Vector:
        return self.compare("==", a, b)

    def not_equal(self, a: Vector, b: Vector) -> Vector:
        return self.builder.fcmp_unordered("!=", a, b) if self.is_float else self.compare("!=", a, b)

    def less(self, a: Vector, b: Vector) -> Vector:
        return self.compare("<", a, b)

    def less_equal(self, a: Vector, b: Vector) -> Vector:
        return self.compare("<=", a, b)

    def greater(self, a: Vector, b: Vector) -> Vector:
        return self.compare(">", a, b)

    def greater_equal(self, a: Vector, b: Vector) -> Vector:
        return self.compare(">=", a, b)

    def compare(self, sign: str, a: Vector, b: Vector) -> Vector:
        """Ordered: false where either is NaN."""
        if self.is_float:
            return self.builder.fcmp_ordered(sign, a, b)
        return (self.builder.icmp_signed if self.is_signed else self.builder.icmp_unsigned)(sign, a, b)

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
