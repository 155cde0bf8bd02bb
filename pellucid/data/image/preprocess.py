"""The image preprocessor: what a network of images takes in, and how a picture file becomes such an image (floor 4).

A picture from a folder of pictures is scaled and its centre cropped, as those of training were. A data set without
picture files (MNIST's form) says nothing of how a file becomes an image: there a handwritten digit is prepared the way
the training images were (LeCun et al. 1998): grey, bright ink on black, the ink's bounding box scaled into a box of
fixed size, its centre of mass in the middle.

Shapes: N images, C channels (1 grey, 3 colours), H x W pixels; h x w those of a picture not yet brought to size.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from ...errors import DataError
from ...files import Json
from ..input_spec import ImageSpec
from ..problem import Inputs, Preprocessor, plain_fields
from .decode import deep_levels, moments, on_white, read_pixels, upright
from .image_set import LazyImages

INK = 0.05  # of the brightest: what counts as drawn when the box around the ink is sought, where paper is even
LARGEST = 1024  # pixels a side: a photo is brought down to this before its ink is sought
FINER = 8  # a drawing is brought to so many times the size of its box before its lines are made thicker
FAINT = 24  # of 255: a picture with less contrast than this shows nothing
SAMPLE = 2000  # training images that are looked at for ink


@dataclass
class ImagePreprocessor(Preprocessor[np.ndarray | LazyImages]):
    """Images uint8 (C, H, W) of one size. They stay bytes; the network subtracts `mean` and divides by `std`, by channel.

    mean, std: (C,), of the training images' pixels, 0..255. A mean of 0 leaves black at 0, so that shifting and padding
    bring in background; images in MNIST's form have it.
    framing: how a picture file becomes such an image. "crop": its shorter side is scaled, its centre cropped. "pad": all of
    it is scaled, its shorter sides filled up with the grey of its border. "ink": its ink, bright on black whichever it was,
    is scaled into a box and centred.
    box: the ink's longer side as a share of the shorter side of the image (20/28 for MNIST), in training images.
    stroke_width: of the thinner quarter of their lines, in pixels; lines drawn with a finer pen are made thicker.
    """

    kind: ClassVar[str] = "image"

    size: tuple[int, int, int]  # C, H, W
    classes: list[str] = field(default_factory=list)  # names, in the order of the label indices
    mean: list[float] = field(default_factory=lambda: [0.0])
    std: list[float] = field(default_factory=lambda: [255.0])
    task: str = "classification"
    target_name: str | None = None
    framing: str = "crop"
    box: float = 20 / 28
    stroke_width: float = 0.0

    @classmethod
    def fit_files(cls, size: tuple[int, int, int], classes: list[str], counts: np.ndarray) -> ImagePreprocessor:
        """For pictures from files. counts: how often each channel of the training images has each value, int64 (C, 256)."""
        by_channel = [moments(channel) for channel in counts]
        return cls(size, classes, [mean for mean, _ in by_channel], [std for _, std in by_channel])

    @classmethod
    def fit_arrays(cls, images: np.ndarray, classes: list[str]) -> ImagePreprocessor:
        """For grey training images (N, H, W) uint8 that come without picture files."""
        sample = images[:SAMPLE]
        border = np.concatenate([sample[:, 0], sample[:, -1], sample[:, :, 0], sample[:, :, -1]], axis=1)
        drawn = np.greater(sample, 0)
        tall = _extent(np.any(drawn, axis=2))  # (N,) rows of ink
        wide = _extent(np.any(drawn, axis=1))
        height, width = images.shape[1:]
        box = float(np.median(np.maximum(tall, wide))) / min(height, width)
        # Ink on black: nothing at most of the border. Photographs, clothes and faces run to the edge.
        ink = bool((border == 0).mean() > 0.5)
        strokes = [_stroke_width(image) for image in sample.astype(np.float32) / 255 if image.any()] if ink else []
        thin = float(np.quantile(strokes, 0.25)) if strokes else 0.0
        std = moments(np.bincount(images.ravel(), minlength=256))[1]
        return cls(
            (1, height, width), classes, [0.0], [std], framing="ink" if ink else "pad", box=min(max(box, 0.1), 1.0),
            stroke_width=thin,
        )  # fmt: skip

    @property
    def recipe(self) -> str:
        """Grey images have recipes of their own."""
        return "image-grey" if self.size[0] == 1 else "image"

    def input_spec(self) -> ImageSpec:
        """Of size (C, H, W), with mean and std (C,)."""
        return ImageSpec(self.size, tuple(self.mean), tuple(self.std))

    def encode(self, raw: np.ndarray | LazyImages) -> Inputs:
        """uint8 images (N, C, H, W) as {"image": the same}. Raises DataError for another shape or dtype."""
        images = raw if isinstance(raw, LazyImages) else np.asarray(raw)
        if images.ndim != 4 or images.shape[1:] != self.size or images.dtype != np.uint8:
            wanted = ", ".join(map(str, self.size))
            raise DataError(f"images: {images.dtype} of shape {images.shape}; expected uint8 (N, {wanted}), as in training; a picture "
                            "file is brought to that by read_picture")  # fmt: skip
        return {"image": images}

    def read_picture(self, content: Path | bytes, name: object) -> np.ndarray:
        """The picture in a file (or its bytes) as an image of this network: uint8 (C, H, W). Raises DataError."""
        if self.framing == "crop":
            return read_pixels(content, name, self.size)
        grey = _grey(content, name)
        if grey.max() - grey.min() < FAINT:
            raise DataError(f"{name}: nothing is drawn on it, all of it is nearly one grey; expected ink on a plain ground; "
                            "draw darker, or crop the picture")  # fmt: skip
        return (self._ink_image(grey) if self.framing == "ink" else self._padded_image(grey))[None]

    def _ink_image(self, grey: np.ndarray) -> np.ndarray:
        """Ink on black, scaled into the box, its centre of mass in the middle, its lines as thick as in training."""
        side = max(1, round(self.box * min(self.size[1:])))
        drawing = _fitted(_cropped(_ink(grey)), FINER * side)
        small = _fitted(drawing, side)
        for width in range(3, 2 * FINER, 2):
            if _stroke_width(small) >= self.stroke_width:
                break
            small = _fitted(_thicker(drawing, width), side)
        _, height, breadth = self.size
        rows, columns = np.arange(small.shape[0]), np.arange(small.shape[1])
        mass = small.sum()
        top = round((height - 1) / 2 - float((small.sum(axis=1) * rows).sum() / mass))
        left = round((breadth - 1) / 2 - float((small.sum(axis=0) * columns).sum() / mass))
        top = min(max(top, 0), height - small.shape[0])
        left = min(max(left, 0), breadth - small.shape[1])
        image = np.zeros((height, breadth), dtype=np.float32)
        image[top : top + small.shape[0], left : left + small.shape[1]] = small
        return np.rint(image * 255).astype(np.uint8)

    def _padded_image(self, grey: np.ndarray) -> np.ndarray:
        """All of the picture, its shorter sides filled up with the grey of its border."""
        _, height, width = self.size
        scale = min(height / grey.shape[0], width / grey.shape[1])
        small = _resized(grey, max(1, round(grey.shape[0] * scale)), max(1, round(grey.shape[1] * scale)))
        image = np.full((height, width), _ground(grey), dtype=np.float32)
        top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
        image[top : top + small.shape[0], left : left + small.shape[1]] = small
        return np.rint(image.clip(0, 255)).astype(np.uint8)

    def to_json(self) -> dict[str, Json]:
        return {"kind": self.kind, **asdict(self), "size": list(self.size)}

    @classmethod
    def from_json(cls, json: dict[str, Json]) -> ImagePreprocessor:
        fields = plain_fields(json)
        channels, height, width = fields.pop("size")
        return cls((channels, height, width), **fields)


def _extent(any_ink: np.ndarray) -> np.ndarray:
    """The distance from the first True to the last in each row of (N, L), both counted; 0 where there is none."""
    length = any_ink.shape[1]
    first, last = any_ink.argmax(axis=1), length - 1 - any_ink[:, ::-1].argmax(axis=1)
    return np.where(any_ink.any(axis=1), last - first + 1, 0)


# ---- picture files -----------------------------------------------------------------------------------------------------


def _grey(content: Path | bytes, name: object) -> np.ndarray:
    """Grey values float32 (h, w), 0 black to 255 white; what is transparent counts as white paper."""
    picture = upright(content, name)
    if max(picture.size) > LARGEST:
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
    deep = deep_levels(picture, name)
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


def _stroke_width(ink: np.ndarray) -> float:
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
    method = Image.Resampling.BOX if shrink else Image.Resampling.BILINEAR
    return np.asarray(picture.resize((width, height), method), dtype=np.float32)
