"""Image input: standardization, and random augmentation in training (floor 5).

    encoded by a preprocessor  (B, C, H, W) uint8 -> (x - mean) / standard deviation of training -> (B, C, H, W)
    scaled already             (B, H, W) float32                                  -> (B, 1, H, W)

Augmentation is made of ordinary operations, so a compiled step contains it. Shapes: B batch, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from ... import functional as F
from ... import nn
from ...creation import arange, stack, tensor, where
from ...data.input_spec import ImageSpec
from ...errors import OptionError
from ...random import rand, randint
from ...tensor import Tensor
from ..base import check_field_types


@dataclass(frozen=True)
class Augmentation:
    """Limits of the random augmentation, drawn for each training image and step; evaluation has none.

    shift: the most pixels each way; zeros (the mean, for pictures) fill the border.    flip: mirror half of the images.
    rotate: the most degrees each way.    zoom: the largest change in scale, as a share.    shear: the most degrees each way.
    erase: set a square of so many pixels a side to zero, at a random place (DeVries and Taylor 2017); 0 for none.
    """

    shift: int = 0
    flip: bool = False
    rotate: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    erase: int = 0

    def __post_init__(self) -> None:
        check_field_types(self)
        limits = {"shift": math.inf, "rotate": math.inf, "zoom": 1, "shear": 90, "erase": math.inf}
        for name, limit in limits.items():
            if not 0 <= getattr(self, name) < limit:
                below = "or more" if limit == math.inf else f"up to, but not including, {limit}"
                raise OptionError(f"{name}: {getattr(self, name)}; expected 0 {below}; write 0 for none")


class ImageInput(nn.Module):
    """Images as the preprocessor encodes them -> float32 (B, C, H, W), augmented in training."""

    def __init__(self, spec: ImageSpec, augmentation: Augmentation) -> None:
        super().__init__()
        size = spec.size
        self.channels, self.height, self.width = (1, *size) if len(size) == 2 else size
        self.augmentation = augmentation
        buffers: dict[str, np.ndarray] = {}
        if spec.mean:
            mean, std = (
                np.array(values, np.float32).reshape(-1, 1, 1) for values in (spec.mean, spec.std)
            )  # (C, 1, 1)
            buffers = {"mean": mean, "scale": 1 / std} if mean.any() else {"std": std}
        for name in ("mean", "scale", "std"):
            if name in buffers:
                self.register_buffer(name, tensor(buffers[name]), persistent=False)
            else:
                setattr(self, name, None)

    def forward(self, image: Tensor) -> Tensor:
        x = image.unsqueeze(1) if image.ndim == 3 else image
        if self.mean is not None and self.scale is not None:
            x = (x.float() - self.mean) * self.scale
        elif self.std is not None:
            x = x.float() / self.std
        return augment(x, self.augmentation) if self.training else x

    def extra_repr(self) -> str:
        augmentation = ((f.name, getattr(self.augmentation, f.name)) for f in fields(Augmentation))
        return ", ".join(
            [f"{self.channels}x{self.height}x{self.width}", *(f"{name}={by}" for name, by in augmentation if by)]
        )


def augment(x: Tensor, augmentation: Augmentation) -> Tensor:
    """Images (B, C, H, W), each changed at random within the limits of `augmentation`."""
    if augmentation.flip:
        x = where(randint(0, 2, (x.shape[0], 1, 1, 1)) == 1, x.flip(-1), x)
    if augmentation.rotate or augmentation.zoom or augmentation.shear:
        x = _random_affine(x, augmentation)
    elif augmentation.shift:
        x = _random_shift(x, augmentation.shift)
    return _random_erasing(x, augmentation.erase) if augmentation.erase else x


def _uniform(batch: int, most: float) -> Tensor:
    """A random number (B,) from -most to most for each image."""
    return (rand(batch) * 2 - 1) * most


def _random_affine(x: Tensor, augmentation: Augmentation) -> Tensor:
    """Rotate, zoom, shear and shift by one bilinear resampling."""
    batch, _, height, width = x.shape
    angle, lean = (_uniform(batch, math.radians(most)) for most in (augmentation.rotate, augmentation.shear))
    across, down = (1 + _uniform(batch, augmentation.zoom) for _ in range(2))
    cos, sin, slope = angle.cos(), angle.sin(), lean.tan()
    right = _uniform(batch, 2 * augmentation.shift / width)
    below = _uniform(batch, 2 * augmentation.shift / height)
    # Grid coordinates run from -1 to 1 along both sides, whatever their lengths.
    upper = stack([cos * across, (cos * slope - sin) * down * (height / width), right], 1)
    lower = stack([sin * across * (width / height), (sin * slope + cos) * down, below], 1)
    grid = F.affine_grid(stack([upper, lower], 1), x.shape, align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _random_shift(x: Tensor, most: int) -> Tensor:
    """Shift by whole pixels: crop the padded image at a random corner."""
    batch, channels, height, width = x.shape
    wide = width + 2 * most
    padded = F.pad(x, (most, most, most, most)).flatten(2)  # (B, C, (H + 2 most) * (W + 2 most))
    offsets = (arange(height).unsqueeze(1) * wide + arange(width)).reshape(1, 1, -1)  # (1, 1, H * W)
    down, right = randint(0, 2 * most + 1, (2, batch, 1, 1)).unbind(0)
    indices = (offsets + (down * wide + right)).expand(batch, channels, height * width)
    return padded.gather(2, indices).reshape(batch, channels, height, width)


def _random_erasing(x: Tensor, side: int) -> Tensor:
    """Set a square of `side` pixels to zero at a random place, which may reach over the border."""
    batch, _, height, width = x.shape
    rows, columns = (arange(n).reshape(1, 1, n) for n in (height, width))
    top = randint(-(side // 2), height - side // 2, (batch, 1, 1))
    left = randint(-(side // 2), width - side // 2, (batch, 1, 1))
    down, across = rows - top, columns - left  # (B, 1, H), (B, 1, W)
    hole = ((down >= 0) & (down < side)).reshape(batch, 1, height, 1) & ((across >= 0) & (across < side)).reshape(
        batch, 1, 1, width
    )
    return where(hole, x * 0, x)
