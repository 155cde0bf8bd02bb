"""Vector math library: every elementwise operation on vectors, with the results of NumPy (floor 4).

The operations' `native` rules in `ops/` call the methods here by the operations' own names. To add a function, write it in
`vector_functions.py`, and its line here.
"""

from __future__ import annotations

from . import vector_functions
from .vector_arithmetic import VectorArithmetic


class VectorMath(VectorArithmetic):
    """Elementwise arithmetic on vectors of one dtype, as the `native` rules of the operations use it.

    dtype: of the operands; float32, int64, int32, uint32, uint8 or bool. Comparisons give bool, a vector of i1.
    The functions with a domain of their own (exp, divide, ...) are for float32 only: the operations convert before them.
    """

    sign = vector_functions.sign
    relu = vector_functions.relu
    is_finite = vector_functions.is_finite
    floor_divide = vector_functions.floor_divide
    remainder = vector_functions.remainder
    sqrt = vector_functions.sqrt
    power = vector_functions.power
    exp = vector_functions.exp
    expm1 = vector_functions.expm1
    sigmoid = vector_functions.sigmoid
    tanh = vector_functions.tanh
    log = vector_functions.log
    log1p = vector_functions.log1p
    sin = vector_functions.sin
    cos = vector_functions.cos
    erf = vector_functions.erf
