"""Elementwise operations: arithmetic, functions of each number, comparisons, `where` and `cast` (floor 2).

An entry is a name, the forward, one gradient rule per input (`g` is dL/dy, `y` the output), and `domain`, the interval that
the gradient checks draw from. Inputs broadcast as in NumPy. `Elementwise.backward` sums the gradient of an input that was
broadcast back to its shape, for all entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.op import Attributes, Node, Op, Rule, SampleInputs, apply, new_value, promote_inputs
from ..core.value import DTYPES, Operand, Shaped, Spec, Value
from ..errors import DTypeError, format_shape
from .reduce import expand, sum_to


class Elementwise(Op):
    """y[i] = f(a[i], b[i], ...), after broadcasting.

    saves: which of "inputs" and "output" the gradient rules read; the tape keeps those.
    result: the output's dtype where it is not the inputs' (bool for comparisons).
    floats: whether the operation is defined on floating-point numbers.
    native: `native(e, *vectors, **attributes)`, the same function on vectors of numbers, where `e` is the arithmetic of
        `compiler/backends/cpu/kernels/vector_math.py` for the inputs' dtype (the last one's, where they differ). The compiler calls
        it; nothing here imports that file.
    ulps: how many units in the last place native float32 code may differ from NumPy's.
    """

    kind = "elementwise"

    def __init__(
        self,
        name: str,
        forward: Callable[..., np.ndarray],
        gradients: Sequence[Rule | None] = (),
        *,
        inputs: int = 1,
        saves: str = "inputs output",
        result: type | None = None,
        floating: bool = False,
        floats: bool = True,
        domain: tuple[float, float] = (-2.0, 2.0),
        traits: str = "",
        native: Callable[..., Any] | None = None,
        ulps: int = 0,
    ) -> None:
        super().__init__(name, gradients, traits)
        self.forward = forward
        self.count = inputs
        self.result = None if result is None else np.dtype(result)
        self.saves_inputs = "inputs" in saves
        self.saves_output = "output" in saves
        self.floating = floating
        self.floats = floats
        self.domain = domain
        self.native = native
        self.ulps = ulps

    def infer(self, *inputs: Any, **attributes: Any) -> tuple[tuple[int, ...], np.dtype]:
        first = inputs[0].array
        shape, dtype = first.shape, first.dtype
        for other in inputs[1:]:
            size = other.array.shape
            if size and size != shape:  # a 0-d input fits everything
                if shape:
                    shape = self.broadcast([v.shape for v in inputs])
                    break
                shape = size
        if dtype.kind == "f" and not self.floats:
            raise DTypeError(
                f"{self.name}: input is {dtype}; expected bool or integers; compare first (x > 0) or cast with .to()"
            )
        return shape, self.result or dtype  # a bare pair: making a Spec would cost as much as adding two small arrays

    def broadcast(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """The common shape; raises ShapeError, which names the axis, where there is none."""
        try:
            return np.broadcast_shapes(*shapes)
        except ValueError:
            axis = _disagreeing_axis(shapes)
            sizes = " and ".join(str(shape[axis]) for shape in shapes if len(shape) >= -axis)
            raise self.fail(
                f"shapes {' and '.join(format_shape(shape) for shape in shapes)}, axis {axis} has {sizes}",
                "expected equal sizes, or 1 where one is to be repeated",
                "reshape or unsqueeze one of them",
            ) from None

    def backward(self, node: Node, g: Value) -> list[Value | None]:
        grads = super().backward(node, g)
        return [
            grad if grad is None or grad.shape == value.shape else sum_to(grad, value.shape)
            for grad, value in zip(grads, node.inputs, strict=True)
        ]

    def batched(self, attributes: Attributes, size: int) -> Attributes | None:
        return attributes

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        low, high = self.domain
        shapes: list[list[tuple[int, ...]]]
        if self.count == 1:
            shapes = [[()], [(5,)], [(0,)], [(2, 3)], [(3, 0, 2)]]
        else:
            pairs = [((), ()), ((4,), ()), ((2, 3), (3,)), ((2, 1), (1, 3)), ((0, 3), (1, 3)), ((2, 3), (2, 3))]
            shapes = [list(pair) + [pair[-1]] * (self.count - 2) for pair in pairs]
        for group in shapes:
            yield [random.uniform(low, high, shape) for shape in group], {}


def _disagreeing_axis(shapes: Sequence[tuple[int, ...]]) -> int:
    """The last axis, counted from the end, on which two sizes other than 1 differ."""
    for axis in range(-1, -1 - max(len(shape) for shape in shapes), -1):
        sizes = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(sizes) > 1:
            return axis
    raise AssertionError("the shapes broadcast")


# ---- arithmetic ------------------------------------------------------------------------------------------------------

add = Elementwise(
    "add", np.add, [lambda g, y, a, b: g, lambda g, y, a, b: g], inputs=2, saves="",
    traits="linear cheap", native=lambda e, a, b: e.add(a, b),
)  # fmt: skip
"""a + b."""
subtract = Elementwise(
    "subtract", np.subtract, [lambda g, y, a, b: g, lambda g, y, a, b: -g], inputs=2, saves="",
    traits="linear cheap", native=lambda e, a, b: e.subtract(a, b),
)  # fmt: skip
"""a - b; not of bool."""
multiply = Elementwise(
    "multiply", np.multiply, [lambda g, y, a, b: g * b, lambda g, y, a, b: g * a], inputs=2, saves="inputs",
    traits="cheap", native=lambda e, a, b: e.multiply(a, b),
)  # fmt: skip
"""a * b."""
divide = Elementwise(
    "divide", np.divide, [lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b],
    inputs=2, floating=True, domain=(0.5, 2.0),
    native=lambda e, a, b: e.divide(a, b),
)  # fmt: skip
"""a / b; integers are read as float32."""
negative = Elementwise(
    "negative", np.negative, [lambda g, y, x: -g], saves="", traits="linear cheap", native=lambda e, x: e.negative(x)
)
"""-x; not of bool."""
absolute = Elementwise(
    "absolute", np.abs, [lambda g, y, x: g * sign(x)], saves="inputs", domain=(0.2, 2.0),
    traits="cheap", native=lambda e, x: e.absolute(x),
)  # fmt: skip
"""|x|; the gradient at 0 is 0."""
sign: Op = Elementwise("sign", np.sign, traits="cheap", native=lambda e, x: e.sign(x))
"""-1, 0 or 1; no gradient."""
floor_divide = Elementwise(
    "floor_divide", np.floor_divide, inputs=2, domain=(0.5, 5.0),
    native=lambda e, a, b: e.floor_divide(a, b),
)  # fmt: skip
"""a / b rounded down; no gradient."""
remainder = Elementwise(
    "remainder", np.remainder, [lambda g, y, a, b: g, lambda g, y, a, b: -g * floor_divide(a, b)],
    inputs=2, saves="inputs", domain=(0.6, 1.1),
    native=lambda e, a, b: e.remainder(a, b),
)  # fmt: skip
"""a - b * floor(a / b): it has the sign of b."""


def _base_gradient(g: Value, y: Value, x: Value, p: Value) -> Value:
    # p * x**(p-1), but 0 for p = 0: there x**(p-1) may be infinite while the power is constant.
    return where(equal(p, 0), 0, g * p * power(x, p - 1))


def _exponent_gradient(g: Value, y: Value, x: Value, p: Value) -> Value:
    # log(x) at x = 0 is -inf, but 0**p is 0 for every positive p, so its slope is 0.
    constant = bitwise_and(equal(x, 0), greater_equal(p, 0))
    return where(constant, 0, g * y * log(where(constant, 1, x)))


power = Elementwise(
    "power", np.power, [_base_gradient, _exponent_gradient], inputs=2, domain=(0.4, 2.0),
    ulps=4, native=lambda e, a, b: e.power(a, b),
)  # fmt: skip
"""x ** p. The gradient for p at x = 0 is 0, where p is not negative."""

maximum = Elementwise(
    "maximum", np.maximum, [lambda g, y, a, b: _unless(less, a, b, g), lambda g, y, a, b: _unless(less, b, a, g)],
    inputs=2, saves="inputs",
    traits="cheap", native=lambda e, a, b: e.maximum(a, b),
)  # fmt: skip
"""The larger of a and b, NaN where one is NaN; equal numbers share the gradient by halves."""
minimum = Elementwise(
    "minimum", np.minimum, [lambda g, y, a, b: _unless(greater, a, b, g), lambda g, y, a, b: _unless(greater, b, a, g)],
    inputs=2, saves="inputs",
    traits="cheap", native=lambda e, a, b: e.minimum(a, b),
)  # fmt: skip
"""The smaller of a and b, NaN where one is NaN; equal numbers share the gradient by halves."""


def _unless(loses: Op, a: Value, b: Value, g: Value) -> Value:
    """g where `a` wins, 0 where it loses, half of g where the two are equal. By `where`: 0 times an infinite g is NaN."""
    return where(loses(a, b), 0, where(equal(a, b), g * 0.5, g))


# ---- functions of one number -----------------------------------------------------------------------------------------


def _sigmoid(x: np.ndarray) -> np.ndarray:
    # 1 / (1 + exp(-x)) overflows to a harmless infinity for very negative x; NaN stays NaN.
    return 1 / (1 + np.exp(-x))


def _erf(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf  # on first use: importing it takes 0.3 s, more than all of pellucid

    return erf(x)


exp = Elementwise(
    "exp", np.exp, [lambda g, y, x: g * y], saves="output", floating=True, ulps=2, native=lambda e, x: e.exp(x)
)
"""e ** x."""
expm1 = Elementwise(
    "expm1", np.expm1, [lambda g, y, x: g * (y + 1)], saves="output", floating=True,
    ulps=4, native=lambda e, x: e.expm1(x),
)  # fmt: skip
"""e ** x - 1, exact near 0."""
log: Op = Elementwise(
    "log", np.log, [lambda g, y, x: g / x], saves="inputs", floating=True, domain=(0.3, 3.0),
    ulps=2, native=lambda e, x: e.log(x),
)  # fmt: skip
"""The natural logarithm: -inf at 0, NaN below."""
log1p = Elementwise(
    "log1p", np.log1p, [lambda g, y, x: g / (x + 1)], saves="inputs", floating=True, domain=(-0.5, 3.0),
    ulps=4, native=lambda e, x: e.log1p(x),
)  # fmt: skip
"""log(1 + x), exact near 0."""
sqrt = Elementwise(
    "sqrt", np.sqrt, [lambda g, y, x: g / (y * 2)], saves="output", floating=True, domain=(0.3, 3.0),
    native=lambda e, x: e.sqrt(x),
)  # fmt: skip
"""The square root; the gradient at 0 is infinite."""
length = Elementwise(
    "length", np.sqrt, [lambda g, y, x: where(equal(y, 0), 0, g / (where(equal(y, 0), 1, y) * 2))],
    saves="output", floating=True, domain=(0.3, 3.0),
    native=lambda e, x: e.sqrt(x),
)  # fmt: skip
"""The square root of a sum of squares; the gradient at 0 is 0, as the field takes it for norms."""
sin = Elementwise(
    "sin", np.sin, [lambda g, y, x: g * cos(x)], saves="inputs", floating=True,
    ulps=3, native=lambda e, x: e.sin(x),
)  # fmt: skip
"""The sine of an angle in radians."""
cos: Op = Elementwise(
    "cos", np.cos, [lambda g, y, x: -g * sin(x)], saves="inputs", floating=True,
    ulps=3, native=lambda e, x: e.cos(x),
)  # fmt: skip
"""The cosine of an angle in radians."""
tanh = Elementwise(
    "tanh", np.tanh, [lambda g, y, x: g * (1 - y * y)], saves="output", floating=True,
    ulps=4, native=lambda e, x: e.tanh(x),
)  # fmt: skip
"""The hyperbolic tangent."""
sigmoid = Elementwise(
    "sigmoid", _sigmoid, [lambda g, y, x: g * y * (1 - y)], saves="output", floating=True,
    ulps=5, native=lambda e, x: e.sigmoid(x),
)  # fmt: skip
"""1 / (1 + e ** -x)."""
erf = Elementwise(
    "erf", _erf, [lambda g, y, x: g * exp(-x * x) * (2 / math.sqrt(math.pi))], saves="inputs", floating=True,
    ulps=3, native=lambda e, x: e.erf(x),
)  # fmt: skip
"""The error function."""
relu = Elementwise(
    "relu", lambda x: np.maximum(x, 0), [lambda g, y, x: where(not_equal(y, 0), g, 0)], saves="output", domain=(0.1, 2.0),
    traits="cheap", native=lambda e, x: e.relu(x),
)  # fmt: skip
"""x where it is positive, else 0. A primitive, since the gradient of maximum(x, 0) at 0 would be a half and not 0."""
floor = Elementwise("floor", np.floor, native=lambda e, x: e.floor(x))
"""Rounded down; no gradient."""
ceil = Elementwise("ceil", np.ceil, native=lambda e, x: e.ceil(x))
"""Rounded up; no gradient."""
trunc = Elementwise("trunc", np.trunc, native=lambda e, x: e.trunc(x))
"""Rounded towards 0; no gradient."""
round_ = Elementwise("round", np.round, native=lambda e, x: e.round(x))
"""Rounded to the nearest whole number, halves to the even one; no gradient."""

# ---- comparisons and logic: bool, no gradient ------------------------------------------------------------------------

equal: Op = Elementwise("equal", np.equal, inputs=2, result=bool, traits="cheap", native=lambda e, a, b: e.equal(a, b))
"""a == b."""
not_equal: Op = Elementwise(
    "not_equal", np.not_equal, inputs=2, result=bool, traits="cheap", native=lambda e, a, b: e.not_equal(a, b)
)
"""a != b."""
less: Op = Elementwise("less", np.less, inputs=2, result=bool, traits="cheap", native=lambda e, a, b: e.less(a, b))
"""a < b."""
less_equal = Elementwise(
    "less_equal", np.less_equal, inputs=2, result=bool, traits="cheap", native=lambda e, a, b: e.less_equal(a, b)
)
"""a <= b."""
greater: Op = Elementwise(
    "greater", np.greater, inputs=2, result=bool, traits="cheap", native=lambda e, a, b: e.greater(a, b)
)
"""a > b."""
greater_equal = Elementwise(
    "greater_equal", np.greater_equal, inputs=2, result=bool,
    traits="cheap", native=lambda e, a, b: e.greater_equal(a, b),
)  # fmt: skip
"""a >= b."""
is_finite = Elementwise("is_finite", np.isfinite, result=bool, native=lambda e, x: e.is_finite(x))
"""Neither infinite nor NaN."""
bitwise_and = Elementwise(
    "bitwise_and", np.bitwise_and, inputs=2, floats=False,
    traits="cheap", native=lambda e, a, b: e.bitwise_and(a, b),
)  # fmt: skip
"""Of integers and bools."""
bitwise_or = Elementwise(
    "bitwise_or", np.bitwise_or, inputs=2, floats=False, traits="cheap", native=lambda e, a, b: e.bitwise_or(a, b)
)
"""Of integers and bools."""
bitwise_xor = Elementwise(
    "bitwise_xor", np.bitwise_xor, inputs=2, floats=False,
    native=lambda e, a, b: e.bitwise_xor(a, b),
)  # fmt: skip
"""Of integers and bools."""
bitwise_not = Elementwise("bitwise_not", np.invert, floats=False, traits="cheap", native=lambda e, x: e.bitwise_not(x))
"""Of integers and bools."""


# ---- where and cast: inputs of more than one dtype -------------------------------------------------------------------


class Where(Elementwise):
    """a where the condition holds, else b; a NaN in the branch not taken reaches neither the result nor a gradient."""

    same_dtype = False

    def __call__(  # type: ignore[override]  # three inputs, no fewer
        self, condition: Value, a: Operand, b: Operand
    ) -> Any:
        return apply(
            self, condition, *promote_inputs(self, (a, b))
        )  # the branches share a dtype, the condition is bool

    def infer(self, condition: Shaped, a: Shaped, b: Shaped) -> Spec:
        if condition.dtype.kind != "b":
            raise DTypeError(f"where: condition is {condition.dtype}; expected bool; compare first, such as x > 0")
        shape = condition.shape
        if not shape == a.shape == b.shape:
            shape = self.broadcast([condition.shape, a.shape, b.shape])
        return Spec(shape, a.dtype)

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        for shapes in [((), (), ()), ((2, 3), (3,), (2, 1)), ((1, 3), (2, 3), ()), ((0,), (0,), (1,))]:
            condition, a, b = (random.uniform(-1, 1, shape) for shape in shapes)
            yield [np.asarray(condition > 0), a, b], {}


where: Where = Where(
    "where", np.where,
    [None, lambda g, y, c, a, b: where(c, g, 0), lambda g, y, c, a, b: where(c, 0, g)],
    inputs=3, saves="inputs",
    traits="cheap", native=lambda e, c, a, b: e.where(c, a, b),
)  # fmt: skip
"""where(condition, a, b): a where the bool condition holds, else b."""


class Cast(Elementwise):
    """The same numbers in another dtype; fractions are cut off for integers."""

    same_dtype = False

    def infer(self, x: Shaped, *, dtype: np.dtype) -> Spec:
        if dtype not in DTYPES:
            names = ", ".join(sorted(str(known) for known in DTYPES))
            raise DTypeError(f"cast: to {dtype}; expected one of {names}; convert with NumPy first")
        return Spec(x.shape, dtype)

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        for shape in [(), (3,), (2, 0)]:
            yield [random.uniform(-2, 2, shape)], {"dtype": np.dtype(np.float64)}


cast: Op = Cast(
    "cast", lambda x, dtype: x.astype(dtype), [lambda g, y, x, dtype: cast(g, dtype=x.dtype)], saves="",
    traits="cheap", native=lambda e, x, dtype: e.cast(x, dtype),
)  # fmt: skip
"""cast(x, dtype=...): x in another dtype; the gradient is cast back."""


# ---- constants of a given shape, which the rules above use -----------------------------------------------------------


def full_like(x: Shaped, number: float) -> Value:
    """`number` in the shape and dtype of x: one stored number, read everywhere."""
    return expand(new_value(np.asarray(number, x.dtype)), shape=x.shape)


def zeros_like(x: Shaped) -> Value:
    """Zeros in the shape and dtype of x."""
    return full_like(x, 0)


def ones_like(x: Shaped) -> Value:
    """Ones in the shape and dtype of x."""
    return full_like(x, 1)
