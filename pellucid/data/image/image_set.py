"""Many picture files as one array, decoded now or when rows are asked for (floor 4).

Where the files are is known to `folders.py`; how one becomes pixels, to `decode.py`.
N images, C channels (1 grey, 3 colours), H x W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import DataError
from ..folders import ExampleFile
from ..labelled_files import map_files
from .decode import as_seen, read_pixels

MAX_MEMORY = 2 << 30  # bytes of decoded images; of more of them, files are decoded when they are asked for
BLOCK = 1024  # images decoded at a time

Size = tuple[int, int, int]  # C, H, W


def fits(count: int, size: Size) -> bool:
    """Whether so many images are kept in memory once they are decoded."""
    return count * int(np.prod(size)) <= MAX_MEMORY


class LazyImages:
    """Images as an array uint8 (N, C, H, W) that decodes the files anew whenever it is indexed, and keeps nothing."""

    def __init__(self, files: Sequence[ExampleFile], size: Size) -> None:
        self.files = files
        self.size = size
        self.shape = (len(files), *size)
        self.dtype = np.dtype(np.uint8)
        self.ndim = 4

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, key: int | slice | np.ndarray) -> np.ndarray:
        """Raises DataError, with its name, for a file that cannot be read any more."""
        size = self.size
        if isinstance(key, int | np.integer):
            return read_pixels(self.files[key].content, self.files[key].name, size)
        chosen = [self.files[i] for i in np.arange(len(self))[key]]
        arrays = map_files(lambda file: read_pixels(file.content, file.name, size), chosen)
        return np.stack(arrays) if arrays else np.empty((0, *size), np.uint8)

    def __array__(self, dtype: np.typing.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)


@dataclass
class ImageSet:
    """Decoded files. images: (N, C, H, W). rows: which of the files these are. names: theirs. broken: names of the others.

    counts: how often each channel has each value, int64 (C, 256). coloured: whether any pixel is other than grey.
    """

    images: np.ndarray | LazyImages
    rows: np.ndarray
    names: list[str]
    broken: list[str]
    counts: np.ndarray
    coloured: bool

    def view(self, i: int) -> np.ndarray:
        """Image i as it is shown: (H, W), or (H, W, 3) in colour."""
        return as_seen(self.images[i])

    def grey(self) -> ImageSet:
        """The same images with one channel; right where the set is not `coloured`."""
        images = self.images
        one: np.ndarray | LazyImages
        if isinstance(images, LazyImages):
            one = LazyImages(images.files, (1, images.shape[2], images.shape[3]))
        else:
            one = np.ascontiguousarray(images[:, :1])
        return replace(self, images=one, counts=self.counts[:1], coloured=False)


def read_images(
    files: Sequence[ExampleFile],
    size: Size,
    keep: bool | None = None,
    read: Callable[[ExampleFile], np.ndarray] | None = None,
) -> ImageSet:
    """All of `files` that can be read.

    keep: in memory; else as LazyImages; by default where they fit. read: makes uint8 (C, H, W) of a file, and raises
    DataError where it cannot; by default it is scaled and its centre cropped. Images that `read` made are always kept.
    """
    keep = read is not None or (fits(len(files), size) if keep is None else keep)
    decode = read or (lambda file: read_pixels(file.content, file.name, size))
    images = np.empty((len(files) if keep else 0, *size), np.uint8)
    counts, coloured = np.zeros((size[0], 256), np.int64), False
    rows: list[int] = []
    broken: list[str] = []

    def attempt(file: ExampleFile) -> np.ndarray | None:
        try:
            return decode(file)
        except DataError:
            return None

    for start in range(0, len(files), BLOCK):
        block_files = files[start : start + BLOCK]
        arrays = map_files(attempt, block_files)
        broken += [file.name for file, array in zip(block_files, arrays, strict=True) if array is None]
        good = [array for array in arrays if array is not None]
        block = np.stack(good) if good else np.empty((0, *size), np.uint8)
        if keep:
            images[len(rows) : len(rows) + len(block)] = block
        rows += [start + i for i, array in enumerate(arrays) if array is not None]
        counts += np.stack([np.bincount(block[:, c].ravel(), minlength=256) for c in range(size[0])])
        coloured = coloured or bool((block != block[:, :1]).any())
    good_files = [files[i] for i in rows]
    decoded = images[: len(rows)] if keep else LazyImages(good_files, size)
    return ImageSet(decoded, np.array(rows, np.int64), [file.name for file in good_files], broken, counts, coloured)
