"""LeNet of 1989, the first convolutional network trained by backpropagation, on handwritten digits (floor 5).

After LeCun et al. 1989, "Backpropagation applied to handwritten zip code recognition" (Neural Computation 1(4)):

    image (B, 16, 16) -> H1 (B, 12, 8, 8) -> H2 (B, 12, 4, 4) -> H3 (B, 30) -> (B, 10)

Its 9,760 parameters are those of the paper: a map shares its weights over all positions, each unit has its own bias.
    H1    12 maps of 5 x 5 weights, 768 biases            1,068
    H2    12 maps of 8 x 5 x 5 weights, 192 biases        2,592
    H3    192 x 30 weights, 30 biases                     5,790
    out   30 x 10 weights, 10 biases                        310
The paper does not say which eight maps of H1 a map of H2 reads; here map j reads j, j + 1, ..., j + 7, modulo 12.
"""

from __future__ import annotations

import math

import numpy as np

from ... import functional as F
from ... import nn
from ...creation import empty, tensor, zeros
from ...errors import ShapeError, format_shape
from ...tensor import Tensor

BACKGROUND = -1.0  # the padding value: white paper


def scaled_tanh(x: Tensor) -> Tensor:
    """1.7159 tanh(2x/3), which is 1 at 1 and -1 at -1 (LeCun 1989, "Generalization and network design strategies")."""
    return F.tanh(x * (2 / 3)) * 1.7159


def initial_weight(fan_in: int, *shape: int) -> nn.Parameter:
    """Weights uniform between -2.4 / fan_in and 2.4 / fan_in, as in the paper."""
    return nn.Parameter(nn.init.uniform_(empty(*shape), -2.4 / fan_in, 2.4 / fan_in))


class FeatureMaps(nn.Module):
    """x (B, C, H, W) -> (B, 12, H/2, W/2): 5 x 5 convolution with stride 2; each output map reads `fan_in` of the C maps."""

    undecayed = ("bias",)

    def __init__(self, channels: int, fan_in: int, size: int) -> None:
        super().__init__()
        self.weight = initial_weight(25 * fan_in, 12, fan_in, 5, 5)
        self.bias = nn.Parameter(zeros(12, size, size))
        sources = (np.arange(12)[:, None] + np.arange(fan_in)) % channels  # (12, fan_in)
        self.register_buffer("sources", tensor(sources.reshape(-1)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (2, 2, 2, 2), value=BACKGROUND)[:, self.sources]  # (B, 12 * fan_in, H+4, W+4)
        return scaled_tanh(F.conv2d(x, self.weight, stride=2, groups=12) + self.bias)


class FullyConnected(nn.Module):
    """x (B, in) -> (B, out): a linear layer and a scaled tanh."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.weight = initial_weight(inputs, units, inputs)
        self.bias = nn.Parameter(zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        return scaled_tanh(F.linear(x, self.weight, self.bias))


class LeNet1989(nn.Module):
    """image (B, 16, 16) or (B, 1, 16, 16), from -1 (white) to 1 -> (B, 10), trained towards 1 for the digit and -1 elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.h1, self.h2 = FeatureMaps(1, 1, 8), FeatureMaps(12, 8, 4)
        self.h3, self.output = FullyConnected(192, 30), FullyConnected(30, 10)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-2:] != (16, 16) or math.prod(image.shape[1:]) != 256:
            raise ShapeError(f"input {format_shape(image.shape)}; expected (B, 16, 16); resize the images")
        x = self.h2(self.h1(image.reshape(-1, 1, 16, 16)))  # (B, 12, 4, 4)
        return self.output(self.h3(x.flatten(1)))  # (B, 10)
