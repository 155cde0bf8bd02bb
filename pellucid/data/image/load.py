"""Images as a data module: a folder or archive of pictures, MNIST's files, or scikit-learn's digits (floor 4).

Decided here: the one size they are brought to, grey or colour, and how MNIST's files are split. Every choice is a note.
Which picture files train, validate and test is decided in `labelled_files.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import DataError, OptionError
from ..base import Source
from ..file_kind import data_module
from ..folders import ExampleFile, FileType
from ..labelled_files import FileHeader, LabelledFiles, labelled_files, some
from ..problem import SPLITS, DataModule, Examples, RawExample
from ..split import LEAST_ROWS, split_rows
from .decode import FOREIGN, IMAGE_ENDINGS, measure
from .idx import pairs_in, read_bytes, read_pair
from .image_set import ImageSet, fits, read_images
from .preprocess import ImagePreprocessor

PICTURES = FileType("picture", frozenset(IMAGE_ENDINGS), FOREIGN)
SIDE = 64  # pixels a side at most of pictures of mixed sizes, unless told otherwise
LARGEST_KEPT = 128  # pixels a side up to which pictures that share one size stay as they are
STEP = 8  # sides are multiples of it: halving them three times leaves no remainder
LARGEST_SIZE = 1024  # pixels a side
TEST_STEMS = ("t10k", "test")
MNIST_VALIDATION = 5000  # the last training images; the choices of the recipe were made on them


@dataclass
class ImageHeader(FileHeader):
    """size: height and width, upright, without decoding; None where it cannot be read. grey: whether it has no colours."""

    size: tuple[int, int] | None = None
    grey: bool = False


def read_header(file: ExampleFile) -> ImageHeader:
    try:
        content = file.read()
        digest = hashlib.sha256(content).digest()
    except OSError:
        return ImageHeader(file, b"")
    try:
        return ImageHeader(file, digest, True, *measure(content, file.name))
    except DataError:
        return ImageHeader(file, digest)


# ---- pictures --------------------------------------------------------------------------------------------------------------


def load_pictures(source: Source, side: int | None = None) -> DataModule:
    """The pictures in a folder or archive. side: pixels, in place of what is decided from the pictures.

    Raises DataError for what cannot be learned from, OptionError for a side out of range.
    """
    if side is not None and not 4 <= side <= LARGEST_SIZE:
        raise OptionError(f"image_size: {side}; expected pixels a side, 4 to {LARGEST_SIZE}; write --image-size 32")
    files = labelled_files(source, PICTURES, read_header)
    size, change = _common_size(files.splits["train"], side)
    sets = _decode(files, size)
    files.check_decoded([one.rows for one in sets])
    size = (sets[0].images.shape[1], size[1], size[2])
    preprocessor = ImagePreprocessor.fit_files(size, files.classes, sets[0].counts)
    colour, classes = "colour" if size[0] == 3 else "grey", files.classes
    count = sum(len(one.rows) for one in sets)
    summary = f"{source.name}: {count:,} pictures, {colour}, {len(classes)} classes ({some(classes)}); {change}"
    return data_module(source, files, sets, preprocessor, summary)


def _common_size(headers: Sequence[ImageHeader], side: int | None) -> tuple[tuple[int, int, int], str]:
    """C, H, W of the training pictures as the network will see them, and what was done."""
    sizes = sorted({header.size for header in headers if header.size is not None})
    channels = 1 if all(header.grey for header in headers) else 3
    low = sizes[0]
    if len(sizes) == 1 and (max(low) <= LARGEST_KEPT if side is None else low == (side, side)):
        return (channels, *low), f"{low[0]}x{low[1]}"
    shorter = int(np.median([min(header.size) for header in headers if header.size is not None]))
    side = side or min(max(shorter // STEP * STEP, STEP), SIDE)
    sides = [pixels for size in sizes for pixels in size]
    came = f"{min(sides)} to {max(sides)} pixels a side" if len(sizes) > 1 else f"{low[0]}x{low[1]}"
    return (channels, side, side), f"{came}, brought to {side}x{side} (the middle of each)"


def _decode(files: LabelledFiles[ImageHeader], size: tuple[int, int, int]) -> list[ImageSet]:
    """An image set for each split; what turns out broken is added to `files.broken`.

    Training pictures whose colours are all greys are taken for grey, and the other splits with them.
    """
    evaluated = len(files.splits["validation"]) + len(
        files.splits["test"]
    )  # kept first: read again and again, in one order
    keep = {
        split: fits(evaluated + (len(files.splits["train"]) if split == "train" else 0), size) for split in SPLITS
    }  # fmt: skip
    sets = []
    for split in SPLITS:
        images = read_images([header.file for header in files.splits[split]], size, keep=keep[split])
        if split == "train" and size[0] == 3 and not images.coloured:
            images, size = images.grey(), (1, size[1], size[2])
        sets.append(images)
        files.broken += images.broken
    return sets


# ---- arrays: MNIST's files and scikit-learn's digits -----------------------------------------------------------------------


def load_digits(source: Source) -> DataModule:
    """scikit-learn's bundled scans (Alpaydin and Kaynak 1998): 1,797 images 8x8 of 0..16, their label in column 65."""
    text = read_bytes(source.path)
    try:
        rows = np.array(text.replace(b"\n", b",").rstrip(b",").split(b","), dtype=np.float64).reshape(-1, 65)
    except ValueError:
        raise DataError(
            f"{source.path}: not the table of 65 columns it should be; install scikit-learn again"
        ) from None
    images = np.rint(rows[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = rows[:, 64].astype(np.int64)
    splits = [(images[rows], labels[rows]) for rows in split_rows(labels, "classification", source.seed)]
    notes = [f"digits: {len(labels):,} scans 8x8, 10 classes", "split: 70/15/15 by class"]
    return _array_module(source, splits, notes, hashlib.sha256(text).hexdigest())


def load_idx(source: Source, folder: Path) -> DataModule:
    """MNIST's files, or others in that form: with a test pair validation is the end of training, else all is split."""
    name, pairs = source.name, pairs_in(folder)
    test = next((stem for stem in TEST_STEMS if stem in pairs), None)
    others = [stem for stem in pairs if stem != test]
    if len(others) != 1:
        raise DataError(f"{name}: image files called {', '.join(pairs)}; expected train-images-idx3-ubyte with its labels, and t10k-... "
                        "for the test images; rename them")  # fmt: skip
    images, labels, hashes = read_pair(*pairs[others[0]])
    if test is None:
        splits = [(images[rows], labels[rows]) for rows in split_rows(labels, "classification", source.seed)]
        division = "split: 70/15/15 by class"
    else:
        test_images, test_labels, test_hashes = read_pair(*pairs[test])
        if test_images.shape[1:] != images.shape[1:]:
            raise DataError(
                f"{pairs[test][0]}: images {test_images.shape[1:]}; expected {images.shape[1:]}, as in training"
            )
        hashes += test_hashes
        cut = len(labels) - min(MNIST_VALIDATION, round(0.15 * len(labels)))
        splits = [(images[:cut], labels[:cut]), (images[cut:], labels[cut:]), (test_images, test_labels)]
        division = f"split: validation is the last {len(labels) - cut:,} training images, test the {len(test_labels):,} of its own"
    if len(labels) < LEAST_ROWS or not all(len(own) for _, own in splits):
        raise DataError(
            f"{name}: {len(labels):,} images; expected {LEAST_ROWS} at least to train, validate and test on; add more"
        )
    size = f"{images.shape[1]}x{images.shape[2]}"
    notes = [f"{name}: {len(labels):,} images {size}, {int(labels.max()) + 1} classes", division]
    return _array_module(source, splits, notes, hashlib.sha256("".join(hashes).encode()).hexdigest())


def _array_module(
    source: Source, splits: list[tuple[np.ndarray, np.ndarray]], notes: list[str], fingerprint: str
) -> DataModule:  # fmt: skip
    """The data module of grey images (N, H, W) and labels (N,), a pair for each of SPLITS."""
    classes = [str(i) for i in range(max(int(labels.max()) for _, labels in splits) + 1)]
    preprocessor = ImagePreprocessor.fit_arrays(splits[0][0], classes)
    train, validation, test = (Examples(preprocessor.encode(images[:, None]), labels) for images, labels in splits)
    views: dict[str, RawExample] = {
        split: images.__getitem__ for split, (images, _) in zip(SPLITS, splits, strict=True)
    }
    return DataModule(
        source.name, "image", "classification", preprocessor, train, validation, test, notes, fingerprint,
        source.record, views,
    )  # fmt: skip
