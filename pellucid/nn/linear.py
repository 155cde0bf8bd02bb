"""Linear, and the layers that only rearrange (floor 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .. import functional as F
from ..creation import empty
from ..errors import OptionError, ShapeError, words
from ..tensor import Parameter, Tensor
from . import init
from .module import Module


def whole(value: Any, owner: str, option: str, least: int = 1) -> int:
    """`value` as a size; raises OptionError below `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptionError(f"{owner}: {option}={value!r}; expected a whole number from {least}; check the sizes")
    return value


class Linear(Module):
    """y = x W^T + b: x (*, in_features) -> (*, out_features). weight (out, in), bias (out,).

    Both start uniform within 1/sqrt(in), which is what kaiming_uniform_(a=sqrt(5)) comes to.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.in_features = whole(in_features, "Linear", "in_features")
        self.out_features = whole(out_features, "Linear", "out_features")
        self.weight = Parameter(empty(out_features, in_features, dtype=dtype))
        self.bias = Parameter(empty(out_features, dtype=dtype)) if bias else None
        if not bias:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            fix = (
                "flatten the examples first, with nn.Flatten()"
                if _flattens(x.shape, self.in_features)
                else "give the layer that many inputs, or the data"
            )
            raise ShapeError(f"input {words(x.shape)}; expected last axis {self.in_features}; {fix}")
        return F.linear(x, self.weight, self.bias)  # (*, out)

    def _describe(self) -> str:
        return f"Linear {self.in_features}→{self.out_features}"

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


def _flattens(shape: tuple[int, ...], size: int) -> bool:
    return any(math.prod(shape[i:]) == size for i in range(len(shape)))


class Identity(Module):
    """Gives what it gets; takes and ignores any arguments."""

    def __init__(self, *ignored: Any, **also_ignored: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """Axes start_dim to end_dim made one: (B, H, W) -> (B, H*W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Axis `dim` split into `unflattened_size`."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
