"""Images of one size: what a network of them takes in, and how any picture file is made into such an image.

A picture for a network of handwritten digits is prepared the way its training images were (LeCun et al. 1998): grey,
bright ink on black, the ink's bounding box scaled into a box of fixed size, its centre of mass in the middle.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from ...errors import DataError
from ..problem import Preprocessor
from .decode import deep_levels, moments, on_white, upright

INK = 0.05  # of the brightest: what counts as drawn when the box around the ink is sought, where paper is even
LARGEST = 1024  # pixels a side: a photo is brought down to this before its ink is sought
FINER = 8  # a drawing is brought to so many times the size of its box before its lines are made thicker
FAINT = 24  # of 255: a picture with less contrast than this shows nothing


@dataclass
class ImagePreprocessor(Preprocessor):
    """Grey images (H, W), uint8 0..255, as float32: black is 0, and training pixels have standard deviation 1.

    Black stays 0 (the mean is not taken off), so that shifting and padding bring in background.
    deviation: of the training images' pixels, 0..255.

    ink: whether the images are bright ink on black (digits, letters); then pictures are centred, and inverted if dark on
    light. box: the ink's longer side as a share of the shorter side of the image (20/28 for MNIST), in training images.
    stroke: how thick the thinner quarter of their lines is, in pixels; pictures drawn with a finer pen are made thicker.
    """

    kind: ClassVar[str] = "images"

    size: tuple[int, int]  # H, W
    classes: list[str] = field(default_factory=list)  # names, in the order of the label indices
    deviation: float = 255.0
    task: str = "classification"
    target_name: str | None = None
    ink: bool = True
    box: float = 20 / 28
    stroke: float = 0.0

    @classmethod
    def fit(cls, images: np.ndarray, classes: list[str]) -> ImagePreprocessor:
        """What there is to know about `images` (N, H, W) uint8, the training ones."""
        sample = images[:2000]
        border = np.concatenate([sample[:, 0], sample[:, -1], sample[:, :, 0], sample[:, :, -1]], axis=1)
        drawn = np.greater(sample, 0)
        tall = _extent(np.any(drawn, axis=2))  # (N,) rows of ink
        wide = _extent(np.any(drawn, axis=1))
        height, width = images.shape[1:]
        box = float(np.median(np.maximum(tall, wide))) / min(height, width)
        # Ink on black: nothing at most of the border. Photographs, clothes and faces run to the edge.
        ink = bool((border == 0).mean() > 0.5)
        strokes = [_stroke(image) for image in sample.astype(np.float32) / 255 if image.any()] if ink else []
        thin = float(np.quantile(strokes, 0.25)) if strokes else 0.0
        deviation = moments(np.bincount(images.ravel(), minlength=256))[1]
        return cls((height, width), classes, deviation, ink=ink, box=min(max(box, 0.1), 1.0), stroke=thin)

    def input_spec(self) -> dict[str, Any]:
        """{"image": [H, W], "white": what 255 is encoded as}."""
        return {"image": list(self.size), "white": 255 / self.deviation}

    def encode(self, raw: Any) -> dict[str, np.ndarray]:
        """uint8 images (N, H, W) as {"image": float32 (N, H, W)}. Raises DataError for another shape."""
        images = np.asarray(raw)
        if images.ndim != 3 or images.shape[1:] != self.size or images.dtype != np.uint8:
            raise DataError(f"images: {images.dtype} of shape {images.shape}; expected uint8 (N, {self.size[0]}, {self.size[1]}), "
                            "as in training; a picture file is brought to that by read_picture")  # fmt: skip
        return {"image": images.astype(np.float32) / np.float32(self.deviation)}

    def read_picture(self, path: str | Path) -> np.ndarray:
        """The picture in a file as this network's training images looked: uint8 (H, W). Raises DataError."""
        grey = _grey(Path(path))
        if grey.max() - grey.min() < FAINT:
            raise DataError(f"{path}: nothing is drawn on it, all of it is nearly one grey; expected ink on a plain ground; "
                            "draw darker, or crop the picture")  # fmt: skip
        return self._ink_image(grey) if self.ink else self._whole_image(grey)

    def _ink_image(self, grey: np.ndarray) -> np.ndarray:
        """Ink on black, scaled into the box, its centre of mass in the middle, its lines as thick as in training."""
        side = max(1, round(self.box * min(self.size)))
        drawing = _fitted(_cropped(_ink(grey)), FINER * side)
        small = _fitted(drawing, side)
        for width in range(3, 2 * FINER, 2):
            if _stroke(small) >= self.stroke:
                break
            small = _fitted(_thicker(drawing, width), side)
        height, breadth = self.size
        rows, columns = np.arange(small.shape[0]), np.arange(small.shape[1])
        mass = small.sum()
        top = round((height - 1) / 2 - float((small.sum(axis=1) * rows).sum() / mass))
        left = round((breadth - 1) / 2 - float((small.sum(axis=0) * columns).sum() / mass))
        top = min(max(top, 0), height - small.shape[0])
        left = min(max(left, 0), breadth - small.shape[1])
        image = np.zeros(self.size, dtype=np.float32)
        image[top : top + small.shape[0], left : left + small.shape[1]] = small
        return np.rint(image * 255).astype(np.uint8)

    def _whole_image(self, grey: np.ndarray) -> np.ndarray:
        """All of the picture, its shorter sides filled up with the grey of its border."""
        height, width = self.size
        scale = min(height / grey.shape[0], width / grey.shape[1])
        small = _resized(grey, max(1, round(grey.shape[0] * scale)), max(1, round(grey.shape[1] * scale)))
        image = np.full(self.size, _ground(grey), dtype=np.float32)
        top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
        image[top : top + small.shape[0], left : left + small.shape[1]] = small
        return np.rint(image.clip(0, 255)).astype(np.uint8)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "task": self.task, "size": list(self.size), "classes": self.classes,
                "deviation": self.deviation, "target_name": self.target_name, "ink": self.ink, "box": self.box, "stroke": self.stroke}  # fmt: skip

    @classmethod
    def from_json(cls, known: dict[str, Any]) -> ImagePreprocessor:
        fields = {name: known[name] for name in ("classes", "deviation", "task", "target_name", "ink", "box", "stroke")}
        height, width = known["size"]
        return cls((height, width), **fields)


def read_picture(path: str | Path, preprocessor: Preprocessor) -> np.ndarray:
    """The picture in a file as `preprocessor`'s training images looked: uint8 (H, W). Raises DataError."""
    if not isinstance(preprocessor, ImagePreprocessor):
        raise DataError(
            f"{path}: a picture, for a network of tables; expected a table; name a CSV, TSV or Parquet file"
        )
    return preprocessor.read_picture(path)


def _extent(any_ink: np.ndarray) -> np.ndarray:
    """How far the True of each row of (N, L) reach, first to last; 0 where there are none."""
    length = any_ink.shape[1]
    first, last = any_ink.argmax(axis=1), length - 1 - any_ink[:, ::-1].argmax(axis=1)
    return np.where(any_ink.any(axis=1), last - first + 1, 0)


# ---- picture files -----------------------------------------------------------------------------------------------------


def _grey(path: Path) -> np.ndarray:
    """Grey values float32 (h, w), 0 black to 255 white; what is transparent counts as white paper."""
    picture = upright(path, path)
    if max(picture.size) > LARGEST:
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
    deep = deep_levels(picture, path)
    if deep is not None:
        return deep.astype(np.float32)
    if picture.has_transparency_data:
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"), dtype=np.float32)
        grey = np.asarray(on_white(picture).convert("L"), dtype=np.float32)
        white_ink = grey.max() - grey.min() < FAINT <= alpha.max() - alpha.min()
        return 255 - alpha if white_ink else grey  # white ink on nothing would vanish on white paper
    return np.asarray(picture.convert("L"), dtype=np.float32)


def _ground(grey: np.ndarray) -> float:
    """The grey of the background: the median along the border."""
    return float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))


def _ink(grey: np.ndarray) -> np.ndarray:
    """How much ink, 0..1, bright or dark, lies on each pixel (h, w), whichever of the two the background is not."""
    ground = _ground(grey)
    low, high = float(grey.min()), float(grey.max())
    signed = grey - ground if high - ground > ground - low else ground - grey
    ink = signed / float(signed.max())
    border = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
    uneven = 1.4826 * float(np.median(np.abs(border)))  # the deviation of paper, photographed: mostly not of ink
    floor = min(max(INK, 5 * uneven), 0.5)
    return np.where(ink < floor, 0, ink).clip(0, 1).astype(np.float32)


def _cropped(ink: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _fitted(ink: np.ndarray, side: int) -> np.ndarray:
    """Ink (h, w) with its longer side `side`; the darkest stays 1, as thin lines grow faint when made small."""
    scale = side / max(ink.shape)
    small = _resized(ink, max(1, round(ink.shape[0] * scale)), max(1, round(ink.shape[1] * scale)))
    return small / max(float(small.max()), 1e-6)


def _stroke(ink: np.ndarray) -> float:
    """About how thick the lines in (h, w), 0..1, are: a long bar of thickness t has area t * length, and edges 2 * length."""
    edged = np.pad(ink, 1)
    edges = np.hypot(np.diff(edged, axis=0)[:, 1:], np.diff(edged, axis=1)[1:, :]).sum()
    return 2 * float(ink.sum()) / max(float(edges), 1e-6)


def _thicker(ink: np.ndarray, width: int) -> np.ndarray:
    """Every pixel becomes the brightest in a square `width` (odd) pixels wide around it; (h, w) grows by width - 1."""
    for axis in (0, 1):
        padded = np.pad(ink, [(width - 1, width - 1) if a == axis else (0, 0) for a in (0, 1)])
        ink = np.lib.stride_tricks.sliding_window_view(padded, width, axis=axis).max(axis=-1)
    return ink


def _resized(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Float values (h, w) at another size; area-weighted, so a line keeps its share of ink."""
    picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32), mode=None)
    shrink = height < values.shape[0] or width < values.shape[1]
    how = Image.Resampling.BOX if shrink else Image.Resampling.BILINEAR
    return np.asarray(picture.resize((width, height), how), dtype=np.float32)
