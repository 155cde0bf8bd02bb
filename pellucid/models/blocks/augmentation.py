"""How images enter a network: their scale, and chance movements while training, so that each is never seen twice alike.

    encoded by a preprocessor  (B, C, H, W) uint8 -> (x - mean) / std of training -> (B, C, H, W)
    scaled already             (B, H, W) float32                                  -> (B, 1, H, W)

Movements are operations like any other: a compiled step makes them itself, on the batch it has just read (floor 5).
B batch, C channels, H x W pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ... import functional as F
from ... import nn
from ...creation import arange, stack, tensor, where
from ...errors import OptionError
from ...random import rand, randint
from ...tensor import Tensor
from ..base import check_kinds


@dataclass(frozen=True)
class Augmentation:
    """How far a training image may be moved, chosen anew for each image and step; none of it in evaluation.

    shift: up to so many pixels each way, zeros (the mean, for pictures) coming in.    flip: left for right, half of them.
    rotate: degrees each way.    zoom: share by which it grows or shrinks.    shear: degrees each way.
    erase: a square of so many pixels a side, somewhere, becomes zero (DeVries and Taylor 2017).
    """

    shift: int = 0
    flip: bool = False
    rotate: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    erase: int = 0

    def __post_init__(self) -> None:
        check_kinds(self)
        limits = {"shift": math.inf, "rotate": math.inf, "zoom": 1, "shear": 90, "erase": math.inf}
        for name, limit in limits.items():
            if not 0 <= getattr(self, name) < limit:
                below = "or more" if limit == math.inf else f"up to, but not including, {limit}"
                raise OptionError(f"{name}: {getattr(self, name)}; expected 0 {below}; write 0 for none")


class ImageInput(nn.Module):
    """Images as the preprocessor encodes them -> float32 (B, C, H, W), moved while training."""

    def __init__(self, spec: dict[str, Any], moves: Augmentation) -> None:
        super().__init__()
        size = spec["image"]
        self.channels, self.height, self.width = (1, *size) if len(size) == 2 else size
        self.moves = moves
        buffers: dict[str, np.ndarray] = {}
        if "mean" in spec:
            mean, std = (np.array(spec[name], np.float32).reshape(-1, 1, 1) for name in ("mean", "std"))  # (C, 1, 1)
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
        return moved(x, self.moves) if self.training else x

    def extra_repr(self) -> str:
        moves = ((f.name, getattr(self.moves, f.name)) for f in fields(Augmentation))
        return ", ".join([f"{self.channels}x{self.height}x{self.width}", *(f"{name}={by}" for name, by in moves if by)])


def moved(x: Tensor, moves: Augmentation) -> Tensor:
    """Images (B, C, H, W), each moved by chance as far as `moves` allows."""
    if moves.flip:
        x = where(randint(0, 2, (x.shape[0], 1, 1, 1)) == 1, x.flip(-1), x)
    if moves.rotate or moves.zoom or moves.shear:
        x = _warped(x, moves)
    elif moves.shift:
        x = _shifted(x, moves.shift)
    return _erased(x, moves.erase) if moves.erase else x


def _uniform(batch: int, most: float) -> Tensor:
    """A number (B,) in -most..most for each image."""
    return (rand(batch) * 2 - 1) * most


def _warped(x: Tensor, moves: Augmentation) -> Tensor:
    """Turned, zoomed, sheared and shifted in one reading of the image, between its pixels."""
    batch, _, height, width = x.shape
    angle, lean = (_uniform(batch, math.radians(most)) for most in (moves.rotate, moves.shear))
    across, down = (1 + _uniform(batch, moves.zoom) for _ in range(2))
    cos, sin, slope = angle.cos(), angle.sin(), lean.tan()
    right = _uniform(batch, 2 * moves.shift / width)
    below = _uniform(batch, 2 * moves.shift / height)
    # The grid counts both sides from -1 to 1, whichever is longer.
    upper = stack([cos * across, (cos * slope - sin) * down * (height / width), right], 1)
    lower = stack([sin * across * (width / height), (sin * slope + cos) * down, below], 1)
    grid = F.affine_grid(stack([upper, lower], 1), x.shape, align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def _shifted(x: Tensor, most: int) -> Tensor:
    """Moved by whole pixels: a window of the padded image, its corner chosen by chance."""
    batch, channels, height, width = x.shape
    wide = width + 2 * most
    padded = F.pad(x, (most, most, most, most)).flatten(2)  # (B, C, (H + 2 most) * (W + 2 most))
    places = (arange(height).unsqueeze(1) * wide + arange(width)).reshape(1, 1, -1)  # (1, 1, H * W)
    down, right = randint(0, 2 * most + 1, (2, batch, 1, 1)).unbind(0)
    picked = (places + (down * wide + right)).expand(batch, channels, height * width)
    return padded.gather(2, picked).reshape(batch, channels, height, width)


def _erased(x: Tensor, side: int) -> Tensor:
    batch, _, height, width = x.shape
    rows, columns = (arange(n).reshape(1, 1, n) for n in (height, width))
    top = randint(-(side // 2), height - side // 2, (batch, 1, 1))
    left = randint(-(side // 2), width - side // 2, (batch, 1, 1))
    down, across = rows - top, columns - left  # (B, 1, H), (B, 1, W)
    hole = ((down >= 0) & (down < side)).reshape(batch, 1, height, 1) & ((across >= 0) & (across < side)).reshape(
        batch, 1, 1, width
    )
    return where(hole, x * 0, x)
