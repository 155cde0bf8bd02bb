"""Activation functions (floor 3).

Composites like those in `functional/`, from where they are called. Names and arguments are PyTorch's; `*` any axes.
"""

from __future__ import annotations

import math

from ..core.value import DTypeLike
from ..creation import where, zeros_like
from ..errors import OptionError
from ..ops import elementwise
from ..ops.composite import CustomGradient
from ..tensor import Tensor


def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """x where it is positive, else 0; the gradient at 0 is 0."""
    return elementwise.relu(x)


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return elementwise.sigmoid(x)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return elementwise.tanh(x)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x (Hendrycks and Gimpel 2016), exact or by tanh."""
    if approximate == "tanh":
        return x * 0.5 * (1 + elementwise.tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)))
    if approximate != "none":
        raise OptionError(
            f'gelu: approximate={approximate!r}; expected "none" or "tanh"; leave it out for the exact form'
        )
    return x * 0.5 * (1 + elementwise.erf(x * (1 / math.sqrt(2))))


def silu(x: Tensor, inplace: bool = False) -> Tensor:
    """x sigmoid(x) (Hendrycks and Gimpel 2016; Elfwing et al. 2017)."""
    return x * elementwise.sigmoid(x)


def leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where it is positive, else negative_slope x (Maas et al. 2013)."""
    return where(x > 0, x, x * negative_slope)


def elu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, alpha (exp(x) - 1) below (Clevert et al. 2015); the branch not taken does not overflow."""
    return where(x > 0, x, elementwise.expm1(where(x > 0, 0, x)) * alpha)


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, as max(z, 0) + log(1 + exp(-|z|)); x itself where beta x > threshold."""
    return _softplus(x, beta=beta, threshold=threshold)


def _softplus_of(x: Tensor, beta: float, threshold: float) -> Tensor:
    z = x * beta
    return where(z > threshold, x, (elementwise.relu(z) + elementwise.log1p(elementwise.exp(-abs(z)))) / beta)


def _softplus_gradient(g: Tensor, y: Tensor, x: Tensor, beta: float, threshold: float) -> list[Tensor]:
    # Each term of the form above has a kink at 0, their sum has none: the gradient there would be wrong.
    z = x * beta
    return [where(z > threshold, g, g * elementwise.sigmoid(z))]


_softplus = CustomGradient("softplus", _softplus_of, _softplus_gradient)


def logsigmoid(x: Tensor) -> Tensor:
    """log(sigmoid(x)), exact also where the sigmoid is near 0."""
    return -softplus(-x)


def hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    """x cut off to [min_val, max_val], in its dtype; the gradient at both bounds is 0, as in PyTorch."""
    return where(x <= min_val, x.in_own_dtype(min_val), where(x >= max_val, x.in_own_dtype(max_val), x))


def step(x: Tensor) -> Tensor:
    """1 where x is positive, else 0 (Heaviside). Its gradient is exactly 0 everywhere, so no weight learns through it."""
    return _step(x)


# A gradient of zeros, not none: the weights below have one that can be looked at, and it says why they stay.
_step = CustomGradient("step", lambda x: elementwise.relu(elementwise.sign(x)), lambda g, y, x: [zeros_like(g)])


def softmax(x: Tensor, dim: int, dtype: DTypeLike | None = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`."""
    return (x if dtype is None else x.to(dtype)).softmax(dim)


def log_softmax(x: Tensor, dim: int, dtype: DTypeLike | None = None) -> Tensor:
    """log(softmax(x)) along `dim`."""
    return (x if dtype is None else x.to(dtype)).log_softmax(dim)
