"""Pooling and resizing as layers; what they compute stands in `functional/convolution.py` (floor 4)."""

from __future__ import annotations

from collections.abc import Sequence

from .. import functional as F
from ..arguments import Sizes, sizes_of
from ..errors import OptionError
from ..tensor import Tensor
from .linear import check_input
from .module import Module


class _Pool(Module):
    """A window that moves along `axes` axes; abstract over what is kept. stride: the kernel's size unless given."""

    axes = 0

    def __init__(self, kernel_size: Sizes, stride: Sizes | None, padding: Sizes, ceil_mode: bool) -> None:
        super().__init__()
        name = type(self).__name__
        stride = kernel_size if stride is None else stride
        for value, option, least in ((kernel_size, "kernel_size", 1), (stride, "stride", 1), (padding, "padding", 0)):
            sizes_of(value, self.axes, f"{name}: {option}", least)
        if ceil_mode:
            raise OptionError(f"{name}: ceil_mode=True; expected False; pad the input so that the windows fill it")
        self.kernel_size, self.stride, self.padding, self.ceil_mode = kernel_size, stride, padding, ceil_mode

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _MaxPool(_Pool):
    """The largest number under each window; abstract over the number of axes."""

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, dilation: Sizes = 1,
        return_indices: bool = False, ceil_mode: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode)
        if return_indices:
            raise OptionError(f"{type(self).__name__}: return_indices=True; expected False; positions are not kept")
        sizes_of(dilation, self.axes, f"{type(self).__name__}: dilation", 1)
        self.dilation, self.return_indices = dilation, return_indices

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class MaxPool1d(_MaxPool):
    """x (B, C, T) or (C, T) -> (B, C, P): the largest number under each window."""

    axes = 1

    def forward(self, x: Tensor) -> Tensor:
        check_input(x)
        return F.max_pool1d(x, self.kernel_size, self.stride, self.padding, self.dilation)


class MaxPool2d(_MaxPool):
    """x (B, C, H, W) or (C, H, W) -> (B, C, P, Q): the largest number under each window."""

    axes = 2

    def forward(self, x: Tensor) -> Tensor:
        check_input(x)
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation)


class AvgPool1d(_Pool):
    """x (B, C, T) or (C, T) -> (B, C, P): the mean under each window."""

    axes = 1

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.kernel_size, self.stride = sizes_of(self.kernel_size, 1, "kernel_size"), sizes_of(self.stride, 1, "stride")
        self.padding, self.count_include_pad = sizes_of(self.padding, 1, "padding"), count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        check_input(x)
        return F.avg_pool1d(x, self.kernel_size, self.stride, self.padding, False, self.count_include_pad)


class AvgPool2d(_Pool):
    """x (B, C, H, W) or (C, H, W) -> (B, C, P, Q): the mean under each window.

    count_include_pad: the padding's zeros count; divisor_override: divide each sum by this instead.
    """

    axes = 2

    def __init__(
        self, kernel_size: Sizes, stride: Sizes | None = None, padding: Sizes = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, x: Tensor) -> Tensor:
        check_input(x)
        return F.avg_pool2d(
            x, self.kernel_size, self.stride, self.padding, False, self.count_include_pad, self.divisor_override
        )


class AdaptiveAvgPool2d(Module):
    """x (B, C, H, W) or (C, H, W) -> (B, C, *output_size), whatever H and W are; None keeps a size."""

    def __init__(self, output_size: int | Sequence[int | None] | None) -> None:
        super().__init__()
        given = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
        sizes_of([1 if n is None else n for n in given], 2, "AdaptiveAvgPool2d: output_size", 1)
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        check_input(x)
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class Upsample(Module):
    """x (B, C, *) with each number repeated `scale_factor` times along every further axis, or up to `size`."""

    def __init__(
        self,
        size: Sizes | None = None,
        scale_factor: float | Sequence[float] | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        super().__init__()
        if isinstance(scale_factor, tuple):
            scale_factor = tuple(map(float, scale_factor))
        self.size, self.mode, self.align_corners = size, mode, align_corners
        self.scale_factor = float(scale_factor) if isinstance(scale_factor, int) else scale_factor
        if mode != "nearest" or (size is None) == (scale_factor is None):
            raise OptionError(
                f'Upsample: mode={mode!r}, size={size}, scale_factor={scale_factor}; expected "nearest" and '
                "either size or scale_factor; give one of the two"
            )

    def forward(self, x: Tensor) -> Tensor:
        check_input(x)
        return F.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        size = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{size}, mode={self.mode!r}"
