"""Linear, Identity, Flatten and Unflatten, and the argument checks that layers share (floor 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import functional as F
from ..core.value import DTypeLike
from ..creation import empty
from ..errors import DTypeError, OptionError, ShapeError, format_shape
from ..tensor import DeviceLike, Parameter, Tensor
from . import init
from .module import Module


def positive_int(value: object, owner: str, option: str, least: int = 1) -> int:
    """Check an option that counts something. Returns `value` as an int.

    owner, option: the names that an error message gives. Raises OptionError for a value below `least`, and for anything that
    is not a whole number.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise OptionError(f"{owner}: {option}={value!r}; expected a whole number from {least}; check the sizes")
    return int(value)


def check_input(x: object, dtype: np.dtype | None = None) -> None:
    """Raise DTypeError unless x is a Tensor. dtype: of the layer's weights; where it is given, x must have it too."""
    if not isinstance(x, Tensor):
        raise DTypeError(f"input is {type(x).__name__}; expected a Tensor; make it one with pellucid.tensor(...)")
    if dtype is not None and x.dtype != dtype:
        fix = "convert the input with .float()" if dtype == np.float32 else f"convert one of them with .to({dtype})"
        raise DTypeError(f"input {format_shape(x.shape)} is {x.dtype}; expected {dtype}, as the weights are; {fix}")


class Linear(Module):
    """y = x W^T + b: x (*, in_features) -> (*, out_features).

    weight W (out_features, in_features) and bias b (out_features,) are initialised from the uniform distribution on
    [-k, k], k = 1/sqrt(in_features). `kaiming_uniform_(a=sqrt(5))` is the same distribution for the weight.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.in_features = positive_int(in_features, "Linear", "in_features")
        self.out_features = positive_int(out_features, "Linear", "out_features")
        self.weight = Parameter(empty(self.out_features, self.in_features, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(self.out_features, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        check_input(x, weight.dtype)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            fix = "check the data, or the size of the layer before"
            if any(math.prod(x.shape[i:]) == self.in_features for i in range(1, x.ndim)):
                fix = "flatten the examples first, with nn.Flatten()"
            elif x.shape == (self.in_features, 1):
                fix = "transpose it, with x.T"
            elif x.ndim:
                fix += f", or make this one Linear({x.shape[-1]}, {self.out_features})"
            raise ShapeError(f"input {format_shape(x.shape)}, last axis must be {self.in_features}; {fix}")
        return F.linear(x, weight, self.bias)  # (*, out)

    def _describe(self) -> str:
        """How error messages and summaries name this layer."""
        return f"{type(self).__name__} {self.in_features}→{self.out_features}"

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Identity(Module):
    """Returns its input unchanged. Any arguments of the constructor are ignored."""

    def __init__(self, *ignored: Any, **also_ignored: Any) -> None:
        super().__init__()

    def forward(self, x: Any) -> Any:
        return x


class Flatten(Module):
    """Merge the axes start_dim to end_dim, both included, into one: (B, H, W) -> (B, H*W)."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(self.start_dim, self.end_dim)

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Split the axis `dim` into axes of the sizes `unflattened_size`: (B, 6) -> (B, 2, 3). One size may be -1."""

    def __init__(self, dim: int, unflattened_size: Sequence[int]) -> None:
        super().__init__()
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(self.dim, self.unflattened_size)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
