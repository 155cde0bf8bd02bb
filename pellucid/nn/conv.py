"""Convolution layers; the arithmetic stands in `functional/convolution.py` (floor 4).

Letters: B batch, T time, H W height and width, P Q those of the output.
"""

from __future__ import annotations

import math

from .. import functional as F
from ..arguments import Sizes, sizes_of
from ..core.value import DTypeLike
from ..creation import empty
from ..errors import OptionError, ShapeError, format_shape
from ..tensor import DeviceLike, Parameter, Tensor
from . import init
from .linear import check_input, positive_int
from .module import Module


class _Convolution(Module):
    """What the convolutions share; abstract over the number of `axes` they slide along.

    weight (out, in / groups, *kernel), where `transposed` (in, out / groups, *kernel); bias (out,). Both start uniform
    within 1 / sqrt(fan_in), which is what kaiming_uniform_(a=sqrt(5)) comes to.
    """

    axes = 0
    form = ""
    transposed = False

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes, padding: Sizes | str,
        dilation: Sizes, output_padding: Sizes, groups: int, bias: bool, padding_mode: str, dtype: DTypeLike | None,
    ) -> None:  # fmt: skip
        super().__init__()
        name = type(self).__name__
        sizes = lambda value, option, least: sizes_of(value, self.axes, f"{name}: {option}", least)
        self.in_channels, self.out_channels = (
            positive_int(in_channels, name, "in_channels"),
            positive_int(out_channels, name, "out_channels"),
        )
        self.groups = positive_int(groups, name, "groups")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise OptionError(
                f"{name}: groups={groups} for {in_channels} channels in and {out_channels} out; expected a number that "
                "divides both; leave it out, or change the channels"
            )
        if padding_mode != "zeros":
            raise OptionError(
                f'{name}: padding_mode={padding_mode!r}; expected "zeros"; pad the input before the layer where it '
                "should be otherwise"
            )
        self.kernel_size, self.stride = sizes(kernel_size, "kernel_size", 1), sizes(stride, "stride", 1)
        self.dilation, self.output_padding = sizes(dilation, "dilation", 1), sizes(output_padding, "output_padding", 0)
        self.padding = self._checked_padding(padding) if isinstance(padding, str) else sizes(padding, "padding", 0)
        self.padding_mode = padding_mode
        outer, inner = self.out_channels, self.in_channels // self.groups
        if self.transposed:
            outer, inner = self.in_channels, self.out_channels // self.groups
        self.weight = Parameter(empty(outer, inner, *self.kernel_size, dtype=dtype))
        self.register_parameter("bias", Parameter(empty(self.out_channels, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def _checked_padding(self, padding: str) -> str:
        if self.transposed or padding not in ("same", "valid") or (padding == "same" and set(self.stride) != {1}):
            expected = "numbers" if self.transposed else '"valid", "same" with stride 1, or numbers'
            raise OptionError(
                f"{type(self).__name__}: padding={padding!r}, stride={self.stride}; expected {expected}; "
                "padding=(kernel_size - 1) // 2 keeps the size at stride 1 and divides it at others"
            )
        return padding

    def reset_parameters(self) -> None:
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(init.fans(self.weight)[0])
            init.uniform_(self.bias, -bound, bound)

    def _weight_for(self, x: Tensor) -> Tensor:
        """The weight, read once: under spectral norm it is computed. Raises ShapeError where x does not fit it."""
        weight = self.weight
        check_input(x, weight.dtype)
        batched, c = self.axes + 2, self.in_channels
        if x.ndim in (batched - 1, batched) and x.shape[x.ndim - self.axes - 1] == c:
            return weight
        fix = "check the data, or the layer before"
        if c == 1 and x.ndim == batched - 1:
            fix = "add the channel axis, with x.unsqueeze(1)"
        elif x.ndim == batched and x.shape[-1] == c:
            fix = "the channels come before the positions: x.movedim(-1, 1)"
        elif x.ndim == batched:
            fix += f", or make this one {type(self).__name__}({x.shape[1]}, {self.out_channels}, ...)"
        raise ShapeError(f"input {format_shape(x.shape)}; expected (B, {c}, {self.form}) or ({c}, {self.form}); {fix}")

    def _describe(self) -> str:
        kernel = "x".join(map(str, self.kernel_size))
        return f"{type(self).__name__} {self.in_channels}→{self.out_channels}, kernel {kernel}"

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        zeros, ones = (0,) * self.axes, (1,) * self.axes
        text += f", padding={self.padding}" if self.padding != zeros else ""
        text += f", dilation={self.dilation}" if self.dilation != ones else ""
        text += f", output_padding={self.output_padding}" if self.output_padding != zeros else ""
        text += f", groups={self.groups}" if self.groups != 1 else ""
        return text + (", bias=False" if self.bias is None else "")


class Conv1d(_Convolution):
    """x (B, in, T) or (in, T) -> (B, out, P): the same weights at every position of a sequence."""

    axes, form = 1, "T"

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes | str = 0,
        dilation: Sizes = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
        device: DeviceLike | None = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode, dtype
        )

    def forward(self, x: Tensor) -> Tensor:
        weight = self._weight_for(x)
        return F.conv1d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)  # (B, out, P)


class Conv2d(_Convolution):
    """x (B, in, H, W) or (in, H, W) -> (B, out, P, Q): the same weights at every position of an image.

    padding: zeros on each side, "same" for P, Q = H, W (LeCun et al. 1989).
    """

    axes, form = 2, "H, W"

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes | str = 0,
        dilation: Sizes = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros",
        device: DeviceLike | None = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode, dtype
        )

    def forward(self, x: Tensor) -> Tensor:
        weight = self._weight_for(x)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)  # (B, out, P, Q)


class ConvTranspose2d(_Convolution):
    """x (B, in, P, Q) or (in, P, Q) -> (B, out, H, W): what a convolution's gradient does, from small to large.

    output_padding: rows and columns beyond the smallest output that convolves back to P, Q.
    """

    axes, form = 2, "P, Q"
    transposed = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes | str = 0,
        output_padding: Sizes = 0, groups: int = 1, bias: bool = True, dilation: Sizes = 1, padding_mode: str = "zeros",
        device: DeviceLike | None = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias,
            padding_mode, dtype,
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        weight = self._weight_for(x)
        return F.conv_transpose2d(
            x, weight, self.bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )  # (B, out, H, W)
