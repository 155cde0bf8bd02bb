"""Weight initialization, in place, each with its paper (floor 4).

`fan_in` is how many numbers feed one output, `fan_out` how many outputs one number feeds; for a weight
(out, in, *kernel) they are in x kernel and out x kernel. All give the Tensor they were given, and inside `init_empty_weights()`,
under which a network is made without memory, leave it as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec

import numpy as np

from ..errors import OptionError, ShapeError, format_shape, suggestion
from ..grad_mode import has_empty_weights
from ..grad_mode import (
    init_empty_weights as init_empty_weights,
)  # the mode stands below; this is where networks are begun
from ..random import Generator, rand, randn
from ..tensor import Tensor

How = ParamSpec("How")  # the options of an initialiser

GAINS = {"linear": 1.0, "conv1d": 1.0, "conv2d": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through `nonlinearity`; `param` is leaky_relu's slope (0.01)."""
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in GAINS:
        names = ", ".join([*GAINS, "leaky_relu"])
        raise OptionError(
            f"nonlinearity: {nonlinearity!r}; expected one of {names}.{suggestion(nonlinearity, [*GAINS, 'leaky_relu'])}"
        )
    return GAINS[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight with two axes or more."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"init: shape {format_shape(tensor.shape)}; expected a weight with two axes or more; "
            "use uniform_ or zeros_ for a bias"
        )
    kernel = math.prod(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def _start(fill: Callable[Concatenate[Tensor, How], Tensor]) -> Callable[Concatenate[Tensor, How], Tensor]:
    """An initialiser that fills nothing inside `init_empty_weights()`."""

    @wraps(fill)
    def started(tensor: Tensor, *how: How.args, **options: How.kwargs) -> Tensor:
        return tensor if has_empty_weights() else fill(tensor, *how, **options)

    return started


@_start
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [a, b)."""
    return tensor.assign(rand(*tensor.shape, dtype=tensor.dtype, generator=generator) * (b - a) + a)


@_start
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    return tensor.assign(randn(*tensor.shape, dtype=tensor.dtype, generator=generator) * std + mean)


@_start
def constant_(tensor: Tensor, val: float) -> Tensor:
    """`val` everywhere."""
    return tensor.assign(np.full(tensor.shape, val, tensor.dtype))


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant_(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant_(tensor, 1)


@_start
def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix; 1 on the diagonal, 0 elsewhere. Raises OptionError unless there are two axes."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: shape {format_shape(tensor.shape)}; expected two axes; reshape it")
    return tensor.assign(np.eye(*tensor.shape, dtype=tensor.dtype))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform within gain sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    bound = gain * math.sqrt(6 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with deviation gain sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor))), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise OptionError(f'mode: {mode!r}; expected "fan_in" or "fan_out"; leave it out for fan_in')
    return calculate_gain(nonlinearity, a) / math.sqrt(fans(tensor)[mode == "fan_out"])


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform with deviation gain / sqrt(fan) (He et al. 2015)."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with deviation gain / sqrt(fan) (He et al. 2015)."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


@_start
def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Rows (or columns) of length `gain` at right angles to each other (Saxe et al. 2014)."""
    fans(tensor)
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    square = randn(max(rows, columns), min(rows, columns), dtype=np.float64, generator=generator).array
    q, r = np.linalg.qr(square)
    q = q * np.sign(np.diag(r))  # makes the draw uniform over all rotations (Mezzadri 2007)
    return tensor.assign(gain * (q if rows >= columns else q.T).reshape(tensor.shape))


@_start
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, drawn again wherever it falls outside [a, b]."""
    draw = lambda *size: randn(*size, dtype=tensor.dtype, generator=generator).array * std + mean
    values = draw(*tensor.shape)
    for _ in range(1000):
        outside = (values < a) | (values > b)
        if not outside.any():
            return tensor.assign(values)
        values = values.copy()
        values[outside] = draw(int(outside.sum()))
    raise OptionError(
        f"trunc_normal_: [{a}, {b}] holds almost nothing of mean {mean}, std {std}; "
        "expected a wider interval; move a and b"
    )
