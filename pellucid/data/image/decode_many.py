"""Many picture files as one array, read now or when they are asked for, and what a network of them takes in (floor 4).

Where the files are is `folders.py`'s to say, how one becomes pixels `pixels.py`'s, and which train `pictures.py`'s.
N pictures, C channels (1 grey, 3 colours), H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from ...errors import DataError
from ..problem import Preprocessor
from .decode import as_seen, moments, read_pixels
from .folders import ExampleFile

MOST_MEMORY = 2 << 30  # bytes of decoded pictures; of more of them, files are decoded when they are asked for
PHOTO = 30_000  # bytes of a file from which threads are quicker: smaller ones are mostly work that Python does alone
BLOCK = 1024  # pictures decoded at a time
MOST_BROKEN = 0.01  # of the files; one is let pass where there are others

Made = TypeVar("Made")


def each(function: Callable[[ExampleFile], Made], pictures: Sequence[ExampleFile]) -> list[Made]:
    """`function` of every picture, in threads where the files are large."""
    sizes = [_size(picture.content) for picture in pictures[:50]]
    if sum(sizes) < PHOTO * len(sizes) or len(pictures) < 2:
        return [function(picture) for picture in pictures]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(function, pictures))


def _size(content: Path | bytes) -> int:
    if isinstance(content, bytes):
        return len(content)
    return content.stat().st_size if content.exists() else 0


def fits(pictures: int, size: tuple[int, int, int]) -> bool:
    """Whether so many of them are kept in memory once they are decoded."""
    return pictures * int(np.prod(size)) <= MOST_MEMORY


class LazyImages:
    """Pictures as an array uint8 (N, C, H, W) that decodes the files anew whenever it is indexed, and keeps nothing."""

    def __init__(self, pictures: Sequence[ExampleFile], size: tuple[int, int, int]) -> None:
        self.pictures = pictures
        self.shape = (len(pictures), *size)
        self.dtype = np.dtype(np.uint8)
        self.ndim = 4

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        """Raises DataError, with its name, for a file that cannot be read any more."""
        size = self.shape[1:]
        if isinstance(key, int | np.integer):
            return read_pixels(self.pictures[key].content, self.pictures[key].name, size)
        chosen = [self.pictures[i] for i in np.arange(len(self))[key]]
        arrays = each(lambda one: read_pixels(one.content, one.name, size), chosen)
        return np.stack(arrays) if arrays else np.empty((0, *size), np.uint8)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)


@dataclass
class ImageSet:
    """What came of reading pictures. images: (N, C, H, W). rows: which of the files these are, and their names. broken: names
    of the others.

    counts: how often each channel has each value, int64 (C, 256). coloured: whether any pixel is other than grey.
    """

    images: np.ndarray
    rows: np.ndarray
    names: list[str]
    broken: list[str]
    counts: np.ndarray
    coloured: bool

    def seen(self, i: int) -> np.ndarray:
        """Image i as it is shown: (H, W), or (H, W, 3) in colour."""
        return as_seen(self.images[i])

    def grey(self) -> ImageSet:
        """The same, of one channel; right where it is not `coloured`."""
        images = self.images
        if isinstance(images, LazyImages):
            less: Any = LazyImages(images.pictures, (1, *images.shape[2:]))
        else:
            less = np.ascontiguousarray(images[:, :1])
        return replace(self, images=less, counts=self.counts[:1], coloured=False)


def read_images(pictures: Sequence[ExampleFile], size: tuple[int, int, int], keep: bool | None = None) -> ImageSet:
    """All of `pictures`, those left out that cannot be read; where not to `keep` (else as many as `fits`), as PictureFiles."""
    keep = fits(len(pictures), size) if keep is None else keep
    images = np.empty((len(pictures) if keep else 0, *size), np.uint8)
    counts, coloured = np.zeros((size[0], 256), np.int64), False
    rows: list[int] = []
    broken: list[str] = []

    def attempt(picture: ExampleFile) -> np.ndarray | None:
        try:
            return read_pixels(picture.content, picture.name, size)
        except DataError:
            return None

    for start in range(0, len(pictures), BLOCK):
        some = pictures[start : start + BLOCK]
        arrays = each(attempt, some)
        broken += [one.name for one, array in zip(some, arrays, strict=True) if array is None]
        good = [array for array in arrays if array is not None]
        block = np.stack(good) if good else np.empty((0, *size), np.uint8)
        if keep:
            images[len(rows) : len(rows) + len(block)] = block
        rows += [start + i for i, array in enumerate(arrays) if array is not None]
        counts += np.stack([np.bincount(block[:, c].ravel(), minlength=256) for c in range(size[0])])
        coloured = coloured or bool((block != block[:, :1]).any())
    good_files = [pictures[i] for i in rows]
    kept: Any = images[: len(rows)] if keep else LazyImages(good_files, size)
    return ImageSet(kept, np.array(rows, np.int64), [one.name for one in good_files], broken, counts, coloured)


def check_broken(where: object, broken: Sequence[str], files: int) -> None:
    """Raise DataError where more than MOST_BROKEN of `files` cannot be read, or all of them."""
    if len(broken) > max(min(1, files - 1), MOST_BROKEN * files):
        raise DataError(f"{where}: {len(broken):,} of {files:,} pictures cannot be read: {listed(broken)}; expected at most "
                        f"{MOST_BROKEN:.0%} of them, or one of several; copy them again, or remove them")  # fmt: skip


def listed(names: Sequence[str]) -> str:
    """The first five, and how many."""
    return ", ".join(names[:5]) + (f", ... ({len(names):,} in all)" if len(names) > 5 else "")


@dataclass
class PicturePreprocessor(Preprocessor):
    """Pictures of one size. They stay bytes; the network takes `mean` from them and divides by `std`, channel by channel.

    mean, std: (C,) of the training pictures, 0..255.
    """

    kind: ClassVar[str] = "pictures"

    size: tuple[int, int, int]  # C, H, W
    classes: list[str] = field(default_factory=list)  # names, in the order of the label indices
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    task: str = "classification"
    target_name: str | None = None

    @classmethod
    def fit(cls, size: tuple[int, int, int], classes: list[str], counts: np.ndarray) -> PicturePreprocessor:
        """counts: how often each value 0..255 comes in each channel of the training pictures, int64 (C, 256)."""
        found = [moments(channel) for channel in counts]
        return cls(size, classes, [mean for mean, _ in found], [deviation for _, deviation in found])

    def input_spec(self) -> dict[str, Any]:
        """{"image": [C, H, W], "mean": [C], "std": [C]}."""
        return {"image": list(self.size), "mean": list(self.mean), "std": list(self.std)}

    def encode(self, raw: Any) -> dict[str, np.ndarray]:
        """uint8 pictures (N, C, H, W), or PictureFiles, as {"image": the same}. Raises DataError for another shape."""
        images = raw if isinstance(raw, LazyImages) else np.asarray(raw)
        if images.ndim != 4 or images.shape[1:] != self.size or images.dtype != np.uint8:
            wanted = ", ".join(map(str, self.size))
            raise DataError(f"pictures: {images.dtype} of shape {images.shape}; expected uint8 (N, {wanted}), as in training; a picture "
                            "file is brought to that by read_picture")  # fmt: skip
        return {"image": cast("np.ndarray", images)}

    def read_picture(self, path: str | Path) -> np.ndarray:
        """The picture in a file as the training pictures were made: uint8 (C, H, W). Raises DataError."""
        return read_pixels(Path(path), path, self.size)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "task": self.task, "size": list(self.size), "classes": self.classes,
                "mean": self.mean, "std": self.std, "target_name": self.target_name}  # fmt: skip

    @classmethod
    def from_json(cls, known: dict[str, Any]) -> PicturePreprocessor:
        channels, height, width = known["size"]
        fields = {name: known[name] for name in ("classes", "mean", "std", "task", "target_name")}
        return cls((channels, height, width), **fields)
