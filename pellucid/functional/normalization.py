"""Batch, layer, group, RMS and local response normalization, and `normalize` to length 1 (floor 3).

Letters: B batch, C channels, F features, H W size; `*` any further axes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ShapeError, format_shape
from ..grad_mode import no_grad
from ..ops.composite import standardize, statistics
from ..tensor import Tensor
from .convolution import pad


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(variance + eps) over the last axes, then scale and shift (Ba et al. 2016)."""
    axes = _last_axes(x, normalized_shape, "layer_norm")
    with no_grad():
        mean, variance = statistics(x, axes)
    return _scaled(standardize(x, mean, variance, axes=axes, groups=0, eps=eps), weight, bias)


def rms_norm(
    x: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:  # fmt: skip
    """x / sqrt(mean of squares + eps) over the last axes, then scale (Zhang and Sennrich 2019)."""
    axes = _last_axes(x, normalized_shape, "rms_norm")
    eps = float(np.finfo(x.dtype).eps) if eps is None else eps
    return _scaled(x / ((x * x).mean(axes, keepdim=True) + eps).sqrt(), weight, None)


def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """x (B, C, *), each example normalised over each of `num_groups` groups of channels (Wu and He 2018)."""
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ShapeError(
            f"group_norm: input {format_shape(x.shape)}, {num_groups} groups; expected (B, C, *) with C a multiple of them; "
            "check num_groups"
        )
    axes = tuple(range(2, x.ndim))
    with no_grad():
        mean, variance = statistics(x, axes, num_groups)
    y = standardize(x, mean, variance, axes=axes, groups=num_groups, eps=eps)
    return _scaled(y, _column(weight, x), _column(bias, x))


def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:  # fmt: skip
    """x (B, C, *) over (k + alpha mean of squares)^beta, the mean over `size` channels around each (Krizhevsky et al. 2012).

    Beyond the first and the last channel stand zeros, which count in the mean.
    """
    if x.ndim < 3 or size < 1:
        raise ShapeError(
            f"local_response_norm: input {format_shape(x.shape)}, size {size}; expected (B, C, *) and at least 1 channel; "
            "check the axes and size"
        )
    x.check_floating("local_response_norm")
    squares = pad(x * x, (0, 0) * (x.ndim - 2) + (size // 2, (size - 1) // 2))
    total = squares[:, : x.shape[1]]
    for i in range(1, size):
        total = total + squares[:, i : i + x.shape[1]]
    return x / (total * (alpha / size) + k) ** beta


def _column(values: Tensor | None, like: Tensor) -> Tensor | None:
    """(C,) so that it broadcasts along the channels of (B, C, *)."""
    return None if values is None else values.reshape(1, -1, *(1,) * (like.ndim - 2))


def _last_axes(x: Tensor, normalized_shape: Sequence[int], what: str) -> tuple[int, ...]:
    shape = tuple(normalized_shape)
    if x.shape[max(x.ndim - len(shape), 0) :] != shape:
        raise ShapeError(
            f"{what}: input {format_shape(x.shape)}; expected it to end in {format_shape(shape)}; check normalized_shape"
        )
    return tuple(range(x.ndim - len(shape), x.ndim))


def _scaled(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def batch_norm(
    x: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """x (B, C, *) with each channel brought to mean 0 and variance 1 (Ioffe and Szegedy 2015), then scale and shift.

    In training by the batch's own statistics, which also move `running_mean` and `running_var` (unbiased) by `momentum`;
    otherwise by the running ones.
    """
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: input {format_shape(x.shape)}; expected (B, C, *); unsqueeze it")
    column = (1, -1, *(1,) * (x.ndim - 2))
    if training or running_mean is None or running_var is None:
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        n = x.numel() // max(x.shape[1], 1)
        if training and n < 2:
            raise ShapeError(
                f"batch_norm: input {format_shape(x.shape)} has {n} value a channel; expected at least 2 in training; "
                "use a larger batch, or eval()"
            )
        with no_grad():
            mean, variance = statistics(x, axes)
            if training and running_mean is not None and running_var is not None:
                running_mean.assign(running_mean.lerp(mean.reshape(-1), momentum))
                running_var.assign(running_var.lerp(variance.reshape(-1) * (n / (n - 1)), momentum))
        y = standardize(x, mean, variance, axes=axes, groups=0, eps=eps)
    else:
        y = (x - running_mean.reshape(column)) * (running_var.reshape(column) + eps).rsqrt()
    return _scaled(y, _column(weight, x), _column(bias, x))


def normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x divided by its p-norm along `dim`, or by eps where that is larger."""
    return x / x.norm(p, dim, keepdim=True).clamp(min=eps)
