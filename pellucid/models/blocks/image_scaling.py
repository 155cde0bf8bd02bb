"""What the families that draw share: pixels between -1 and 1, halving and doubling of sides, labels to draw (floor 5).

Shapes: N images, B batch, C channels, H x W pixels, P Q output positions. What is learned stands in `gan.py` and
`diffusion.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ... import functional as F
from ... import nn
from ...errors import OptionError, ShapeError, format_shape
from ...tensor import Tensor


class ImageScaling(nn.Module):
    """Images as the data encode them, and as networks that draw see them: (B, C, H, W), black -1 and white 1.

    inputs: a preprocessor's `input_spec()`: {"image": [H, W], "white": ...} of numbers (B, H, W) from 0 to white, or
    {"image": [C, H, W], ...} of bytes (B, C, H, W).
    """

    def __init__(self, inputs: dict[str, Any]) -> None:
        super().__init__()
        *channels, height, width = inputs["image"]
        self.grey = not channels
        self.shape = (*(channels or [1]), height, width)
        self.white = float(inputs.get("white", 255))

    def seen(self, image: Tensor) -> Tensor:
        """Encoded images, as a network sees them. Raises ShapeError for another size."""
        expected = self.shape[1:] if self.grey else self.shape
        if image.shape[1:] != expected:
            raise ShapeError(
                f"input {format_shape(image.shape)}; expected (B, {', '.join(map(str, expected))}); "
                "pass images as the preprocessor encodes them"
            )
        return image.reshape(-1, *self.shape).float() * (2 / self.white) - 1  # (B, C, H, W)

    def encoded(self, x: Tensor) -> Tensor:
        """What a network drew, as the data are encoded, float32; beyond black and white is cut off."""
        image = (x.clamp(-1, 1) + 1) * (self.white / 2)
        return image.squeeze(1) if self.grey else image


class Halve(nn.Module):
    """x (B, in, H, W) -> (B, out, H/2, W/2): a convolution of kernel 4, stride 2, padding 1; an odd side counts as one more.

    It is computed as one of kernel 2 and stride 1 over squares of 2x2 pixels, whose gradients take no detours.
    wrap: what to put around the convolution.
    """

    def __init__(self, inputs: int, outputs: int, wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer) -> None:
        super().__init__()
        self.squares = wrap(nn.Conv2d(4 * inputs, outputs, 2))

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        return self.squares(squares(F.pad(x, (1, 1 + w % 2, 1, 1 + h % 2)), 2))


class Double(nn.Module):
    """x (B, in, H, W) -> (B, out, 2H, 2W): a transposed convolution of kernel 4, stride 2, padding 1, without bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.squares = nn.Conv2d(inputs, 4 * outputs, 2, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return pixels(self.squares(x), 2)[:, :, 1:-1, 1:-1]


def squares(x: Tensor, side: int) -> Tensor:
    """(B, C, H, W) -> (B, C side side, H/side, W/side): the pixels of each square as channels (Shi et al. 2016)."""
    b, c, h, w = x.shape
    parts = x.reshape(b, c, h // side, side, w // side, side).permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(b, c * side**2, h // side, w // side)


def pixels(x: Tensor, side: int) -> Tensor:
    """(B, C side side, H, W) -> (B, C, H side, W side): what `squares` does, undone."""
    b, c, h, w = x.shape
    parts = x.reshape(b, c // side**2, side, side, h, w).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(b, c // side**2, h * side, w * side)


def checked_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """int64 (N,), the classes to draw. Raises OptionError where there is none, or one that is not known."""
    wanted = np.asarray(labels)
    if wanted.ndim != 1 or not wanted.size or wanted.dtype.kind not in "iu":
        raise OptionError(f"draw: labels {format_shape(wanted.shape)} of {wanted.dtype}; expected whole numbers (N,), a class for each "
                          "image; write numpy.arange(10)")  # fmt: skip
    if wanted.min() < 0 or wanted.max() >= classes:
        raise OptionError(f"draw: labels from {wanted.min()} to {wanted.max()}; expected classes 0 to {classes - 1}; "
                          "check how classes are numbered")  # fmt: skip
    return wanted.astype(np.int64)
