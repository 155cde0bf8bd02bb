"""Images as arrays of pixels: decoded from a network's output, and put side by side in a grid (floor 7)."""

from __future__ import annotations

import numpy as np

from ..data.image.decode import as_seen


def as_pixels(images: np.ndarray) -> np.ndarray:
    """Images in a preprocessor's encoding, (N, C, H, W) from 0 to 255, as uint8 (N, H, W) or (N, H, W, 3)."""
    return as_seen(np.rint(np.asarray(images, np.float32)).clip(0, 255).astype(np.uint8))


def image_grid(images: np.ndarray, columns: int) -> np.ndarray:
    """Images uint8 (N, H, W) or (N, H, W, 3) as one picture, row by row, a line of grey between them."""
    n, height, width = images.shape[:3]
    rows = -(-n // columns)
    grid = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *images.shape[3:]), 96, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + 1), i % columns * (width + 1)
        grid[top : top + height, left : left + width] = image
    return grid
