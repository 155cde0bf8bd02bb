"""Blocks of the image generators: scaling of pixels, downsampling, upsampling, and a check of labels (floor 5).

Shapes: N images, B batch, C channels, H x W pixels, P Q output positions. `gan.py` and `diffusion.py` use them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ... import functional as F
from ... import nn
from ...data.input_spec import ImageSpec
from ...errors import OptionError, ShapeError, format_shape
from ...tensor import Tensor


class ImageScaling(nn.Module):
    """Scales images between the data's encoding and the range -1 (black) to 1 (white), (B, C, H, W).

    inputs: of size (H, W), numbers (B, H, W) from 0 to white; or (C, H, W), bytes (B, C, H, W).
    """

    def __init__(self, inputs: ImageSpec) -> None:
        super().__init__()
        *channels, height, width = inputs.size
        self.grey = not channels
        self.shape = (*(channels or [1]), height, width)
        self.white = float(inputs.white)

    def normalize(self, image: Tensor) -> Tensor:
        """Encoded images as float32, or their own float dtype, (B, C, H, W) from -1 to 1. Raises ShapeError for another size."""
        expected = self.shape[1:] if self.grey else self.shape
        if image.shape[1:] != expected:
            raise ShapeError(
                f"input {format_shape(image.shape)}; expected (B, {', '.join(map(str, expected))}); "
                "pass images as the preprocessor encodes them"
            )
        return image.reshape(-1, *self.shape).as_floating() * (2 / self.white) - 1  # (B, C, H, W)

    def denormalize(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) from -1 to 1 in the data's encoding, float32; values outside are clamped."""
        image = (x.clamp(-1, 1) + 1) * (self.white / 2)
        return image.squeeze(1) if self.grey else image


class Downsample(nn.Module):
    """x (B, in, H, W) -> (B, out, H/2, W/2): a convolution of kernel 4, stride 2, padding 1; odd sides are padded by one.

    Compute it as a convolution of kernel 2 and stride 1 over `pixel_unshuffle(x, 2)`, whose gradients are faster.
    wrap: applied to the convolution, such as spectral norm.
    """

    def __init__(self, inputs: int, outputs: int, wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer) -> None:
        super().__init__()
        self.conv = wrap(nn.Conv2d(4 * inputs, outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        return self.conv(pixel_unshuffle(F.pad(x, (1, 1 + w % 2, 1, 1 + h % 2)), 2))


class Upsample(nn.Module):
    """x (B, in, H, W) -> (B, out, 2H, 2W): a transposed convolution of kernel 4, stride 2, padding 1, without bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, 4 * outputs, 2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return pixel_shuffle(self.conv(x), 2)[:, :, 1:-1, 1:-1]


def pixel_unshuffle(x: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, C side side, H/side, W/side): move the pixels of each square into channels (Shi et al. 2016)."""
    b, c, h, w = x.shape
    split = x.reshape(b, c, h // side, side, w // side, side).permute(0, 1, 3, 5, 2, 4)
    return split.reshape(b, c * side**2, h // side, w // side)


def pixel_shuffle(x: Tensor, side: int) -> Tensor:
    """(B, C side side, H, W) -> (B, C, H side, W side): the inverse of `pixel_unshuffle`."""
    b, c, h, w = x.shape
    split = x.reshape(b, c // side**2, side, side, h, w).permute(0, 1, 4, 2, 5, 3)
    return split.reshape(b, c // side**2, h * side, w * side)


def check_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """The classes to generate, int64 (N,). Raises OptionError for an empty list, or a label outside 0 to classes - 1."""
    labels = np.asarray(labels)
    if labels.ndim != 1 or not labels.size or labels.dtype.kind not in "iu":
        raise OptionError(f"sample: labels {format_shape(labels.shape)} of {labels.dtype}; expected whole numbers (N,), a class for each "
                          "image; write numpy.arange(10)")  # fmt: skip
    if labels.min() < 0 or labels.max() >= classes:
        raise OptionError(f"sample: labels from {labels.min()} to {labels.max()}; expected classes 0 to {classes - 1}; "
                          "check how the classes are numbered")  # fmt: skip
    return labels.astype(np.int64)
