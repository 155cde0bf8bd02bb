"""LeNet of 1989, the first convolutional network taught by backpropagation to read: handwritten digits (floor 5).

After LeCun et al. 1989, "Backpropagation applied to handwritten zip code recognition" (Neural Computation 1(4)):

    image (B, 16, 16) -> H1 (B, 12, 8, 8) -> H2 (B, 12, 4, 4) -> H3 (B, 30) -> (B, 10)

Its 9,760 parameters are those of the paper: every map shares its weights over all places, every unit has a bias of its own.
    H1    12 maps of 5 x 5 weights, 768 biases            1,068
    H2    12 maps of 8 x 5 x 5 weights, 192 biases        2,592
    H3    192 x 30 weights, 30 biases                     5,790
    out   30 x 10 weights, 10 biases                        310
The paper does not tell which eight maps of H1 a map of H2 sees; here map j sees j, j + 1, ..., j + 7, counted round.
"""

from __future__ import annotations

import math

import numpy as np

from ... import functional as F
from ... import nn
from ...creation import empty, tensor, zeros
from ...errors import ShapeError, format_shape
from ...tensor import Tensor

BACKGROUND = -1.0  # what units beyond the border are said to hold: white paper


def squash(x: Tensor) -> Tensor:
    """1.7159 tanh(2x/3), which is 1 at 1 and -1 at -1 (LeCun 1989, "Generalization and network design strategies")."""
    return F.tanh(x * (2 / 3)) * 1.7159


def start(fan_in: int, *shape: int) -> nn.Parameter:
    """Weights uniform within 2.4 / (inputs of a unit), as in the paper."""
    return nn.Parameter(nn.init.uniform_(empty(*shape), -2.4 / fan_in, 2.4 / fan_in))


class Maps(nn.Module):
    """x (B, C, H, W) -> (B, 12, H/2, W/2): 5 x 5 windows two apart, each map over `seen` of the maps before it."""

    def __init__(self, before: int, seen: int, size: int) -> None:
        super().__init__()
        self.weight = start(25 * seen, 12, seen, 5, 5)
        self.bias = nn.Parameter(zeros(12, size, size))
        looks = (np.arange(12)[:, None] + np.arange(seen)) % before  # (12, seen)
        self.register_buffer("looks", tensor(looks.reshape(-1)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (2, 2, 2, 2), value=BACKGROUND)[:, self.looks]  # (B, 12 * seen, H+4, W+4)
        return squash(F.conv2d(x, self.weight, stride=2, groups=12) + self.bias)


class Units(nn.Module):
    """x (B, in) -> (B, out): every unit sees everything before it."""

    def __init__(self, before: int, units: int) -> None:
        super().__init__()
        self.weight = start(before, units, before)
        self.bias = nn.Parameter(zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        return squash(F.linear(x, self.weight, self.bias))


class LeNet1989(nn.Module):
    """image (B, 16, 16) or (B, 1, 16, 16), from -1, white, to 1 -> (B, 10), trained towards 1 for the digit and -1 elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.h1, self.h2 = Maps(1, 1, 8), Maps(12, 8, 4)
        self.h3, self.output = Units(192, 30), Units(30, 10)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-2:] != (16, 16) or math.prod(image.shape[1:]) != 256:
            raise ShapeError(f"input {format_shape(image.shape)}; expected (B, 16, 16); resize the images")
        x = self.h2(self.h1(image.reshape(-1, 1, 16, 16)))  # (B, 12, 4, 4)
        return self.output(self.h3(x.flatten(1)))  # (B, 10)
