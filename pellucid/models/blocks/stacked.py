"""Layers with a leading axis: M sets of weights that read the same rows at once (floor 5).

Shapes: M copies, B batch, I inputs, O outputs.
"""

from __future__ import annotations

import math

from ... import nn
from ...creation import zeros
from ...tensor import Tensor


class StackedLinear(nn.Module):
    """M linear layers as one: (M, B, I) -> (M, B, O), copy m by `weight[m]` (O, I) and `bias[m]` (O,).

    The layout is that of `torch.func.stack_module_state`; each copy begins as an `nn.Linear` does. zero: begin at 0 instead.
    """

    def __init__(self, copies: int, in_features: int, out_features: int, zero: bool = False) -> None:
        super().__init__()
        bound = 0.0 if zero else 1 / math.sqrt(max(in_features, 1))
        weight, bias = zeros(copies, out_features, in_features), zeros(copies, out_features)
        self.weight = nn.Parameter(nn.init.uniform_(weight, -bound, bound))  # (M, O, I)
        self.bias = nn.Parameter(nn.init.uniform_(bias, -bound, bound))  # (M, O)

    undecayed = ("bias",)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.transpose(1, 2) + self.bias.unsqueeze(1)

    def extra_repr(self) -> str:
        copies, outputs, inputs = self.weight.shape
        return f"{copies} x ({inputs} -> {outputs})"
