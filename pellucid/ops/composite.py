"""Composites with a custom gradient, and standardization (mean 0, variance 1), which is one (floor 2).

A function composed of operations gets its gradient from theirs. `CustomGradient` states a shorter one where it is known, as
for normalization. It is one node on the tape, and computes by ordinary operations, forward and backward, so it records,
fuses and differentiates again like any other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.op import Node, Op, new_value
from ..core.value import Value, grad_mode
from .elementwise import sqrt
from .movement import reshape
from .reduce import expand, sum_


class CustomGradient(Op):
    """A function composed of operations, with a gradient stated beside it. It is not in the registry.

    compute(*inputs, **attributes): the value. gradient(g, y, *inputs, **attributes): dL/dinput for each input, None where
    there is none, by operations; under `create_graph` it must depend on the inputs as the true gradient does.
    """

    kind = "composite"

    def __init__(
        self, name: str, compute: Callable[..., Value], gradient: Callable[..., Sequence[Value | None]]
    ) -> None:
        self.name, self.compute, self.gradient = name, compute, gradient

    def __call__(self, *inputs: Any, **attributes: Any) -> Any:
        mode = grad_mode.set(False)
        try:
            y = self.compute(*inputs, **attributes)
        finally:
            grad_mode.reset(mode)
        if grad_mode.get() and any(x.requires_grad for x in inputs):
            y.node, y.requires_grad = Node(self, inputs, attributes, y.array), True
        return y

    def forward(self, *arrays: np.ndarray, **attributes: Any) -> np.ndarray:
        mode = grad_mode.set(False)
        try:
            return self.compute(*[new_value(array) for array in arrays], **attributes).array
        finally:
            grad_mode.reset(mode)

    def backward(self, node: Node, g: Value) -> list[Value | None]:
        grads = self.gradient(g, node.output(), *node.inputs, **node.attributes)
        return [None if parent is None else grad for parent, grad in zip(node.parents, grads, strict=True)]


def _mean(x: Value, axes: tuple[int, ...], groups: int) -> Value:
    """The mean of x along `axes`, which stay with size 1; with groups, of each group of channels (axis 1) together.

    Each channel is summed by itself first, so a channel may lie anywhere in memory.
    """
    total = sum_(x, axes=axes, keepdims=True) if axes else x
    count = math.prod(x.shape[axis] for axis in axes)
    if groups:
        grouped = reshape(total, shape=(x.shape[0], groups, x.shape[1] // groups))
        summed = expand(sum_(grouped, axes=(2,), keepdims=True), shape=grouped.shape)
        total, count = reshape(summed, shape=total.shape), count * grouped.shape[2]
    return total / max(count, 1)


def statistics(x: Value, axes: tuple[int, ...], groups: int = 0) -> tuple[Value, Value]:
    """Mean and variance of x along `axes` (non-negative), which stay with size 1.

    groups: also over the channels (axis 1) of each of so many groups; each channel gets the numbers of its group.
    Over a batch of images, the statistics of each image are computed first and then combined (Chan, Golub and LeVeque 1979):
    an image is read twice while it is in the cache, and sums stay short.
    """
    if len(axes) > 1 and axes[0] == 0:
        means, variances = statistics(x, axes[1:])
        mean, between = statistics(means, (0,))
        return mean, sum_(variances, axes=(0,), keepdims=True) / max(x.shape[0], 1) + between
    mean = _mean(x, axes, groups)
    deviation = x - mean
    return mean, _mean(deviation * deviation, axes, groups)


def _standardize(x: Value, mean: Value, variance: Value, axes: tuple[int, ...], groups: int, eps: float) -> Value:
    return (x - mean) * (1 / sqrt(variance + eps))


def _gradient(
    g: Value, y: Value, x: Value, mean: Value, variance: Value, axes: tuple[int, ...], groups: int, eps: float
) -> list[Value | None]:
    """(g - mean(g) - y mean(g y)) / deviation: two sums, where the chain rule through mean and variance takes four."""
    if grad_mode.get():
        mean, variance = statistics(x, axes, groups)
        y = _standardize(x, mean, variance, axes, groups, eps)

    def mean_of(value: Value) -> Value:
        return _mean(value, axes, groups)

    return [(g - mean_of(g) - y * mean_of(g * y)) * (1 / sqrt(variance + eps)), None, None]


standardize = CustomGradient("standardise", _standardize, _gradient)
"""standardize(x, mean, variance, axes=..., groups=..., eps=...): x with mean 0 and variance 1 along `axes`.

mean, variance: `statistics(x, axes, groups)`. They get no gradient: that they depend on x is part of x's gradient (Ioffe and
Szegedy 2015, section 3).
"""
