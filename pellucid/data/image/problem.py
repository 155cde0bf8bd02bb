"""A folder or archive of pictures, a folder for each class, as a Problem (floor 4).

Decided here: which pictures train, validate and test (no two of equal bytes on different sides), the one size they are
brought to, grey or colour. Every choice is a note. Where files are is told by `folders.py`; `gallery.py` decodes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError, suggestion
from ..problem import SPLITS, DataModule, Describe, Examples
from ..split import LEAST_ROWS, THREE_WAY, TWO_WAY, split_rows
from .decode import measure
from .decode_many import ImageSet, PicturePreprocessor, check_broken, each, fits, listed, read_images
from .folders import ExampleFile, Listing, Part, by_part, list_pictures

SIDE = 64  # pixels a side at most of pictures of mixed sizes, unless told otherwise
KEPT = 128  # pixels a side up to which pictures that share one size stay as they are
STEP = 8  # sides are multiples of it: halving them three times leaves no remainder
MOST_VALIDATION = 5000  # pictures taken from training, where a test part is given

CLASS_FOLDERS = "expected a folder for each class, such as cats/ and dogs/"


@dataclass
class ImageHeader:
    """What is known of a picture before it is decoded; size is None where it cannot be."""

    picture: ExampleFile
    digest: bytes
    size: tuple[int, int] | None = None
    grey: bool = False


def picture_problem(name: str, path: Path, source: dict[str, Any], size: int | None = None) -> DataModule:
    """The pictures in the folder or archive `path`. size: pixels a side, in place of what is decided from the pictures.

    Raises DataError for what cannot be learned from, with what to do about it.
    """
    found = list_pictures(path)
    parts = by_part(found)
    classes = _classes(path, parts, found)
    looks = {part: each(_look, one.pictures) for part, one in parts.items()}
    every = [look for part in sorted(looks) for look in looks[part]]
    broken = [look.picture.name for look in every if look.size is None]
    check_broken(path, broken, len(every))
    fingerprint = hashlib.sha256(b"".join(look.picture.name.encode() + look.digest for look in every)).hexdigest()
    notes = _without_copies(looks)
    sides, how = _divided(path, looks, source["seed"])
    form, change = _form(sides["train"], size)
    galleries, labels = _decoded(path, sides, form, classes, broken, len(every))
    _check_enough(path, classes, labels)
    form = (galleries[0].images.shape[1], *form[1:])
    known = PicturePreprocessor.fit(form, classes, galleries[0].counts)
    total = sum(map(len, labels))
    colour = "colour" if form[0] == 3 else "grey"
    notes = [f"{name}: {total:,} pictures, {colour}, {len(classes)} classes ({_some(classes)}); {change}", how, *notes]
    notes += [f"left out, pictures that cannot be read: {listed(broken)}"] if broken else []
    notes += [f"left aside, files {reason}: {count:,}" for reason, count in found.aside.items() if count]
    train, validation, test = (Examples(known.encode(g.images), own) for g, own in zip(galleries, labels, strict=True))
    seen: dict[str, Describe] = {part: g.seen for part, g in zip(SPLITS, galleries, strict=True)}
    names = {part: g.names for part, g in zip(SPLITS, galleries, strict=True)}
    return DataModule(
        name, "pictures", "classification", known, train, validation, test, notes, fingerprint, source, seen, names
    )


def labelled_pictures(path: Path, known: PicturePreprocessor) -> tuple[ImageSet, np.ndarray]:
    """Pictures that can be read, to score a network on, and their classes int64 (N,).

    The test part of `path` where it has one, else all of it. Raises DataError for a class that `known` has not.
    """
    parts = by_part(list_pictures(path))
    used = [parts["test"]] if "test" in parts else list(parts.values())
    pictures = [picture for part in used for picture in part.pictures]
    if not pictures:
        raise DataError(f"{path}: no class folders with pictures; {CLASS_FOLDERS}; sort them, or use pellucid predict")
    number = {label: i for i, label in enumerate(known.classes)}
    unseen = next((picture for picture in pictures if picture.label not in number), None)
    if unseen is not None:
        raise DataError(f"{path}: {unseen.name} is of the class {unseen.label!r}, never seen in training; expected {_some(known.classes)}."
                        f"{suggestion(unseen.label, known.classes) or ' Rename its folder, or take it away.'}")  # fmt: skip
    gallery = read_images(pictures, known.size)
    check_broken(path, gallery.broken, len(pictures))
    return gallery, np.array([number[pictures[i].label] for i in gallery.rows], np.int64)


# ---- before decoding -----------------------------------------------------------------------------------------------------


def _classes(path: Path, parts: dict[str, Part], found: Listing) -> list[str]:
    """The classes of the training pictures, sorted."""
    if not parts:
        came = f"{len(found.files):,} pictures and no class folders" if found.files else "no pictures"
        raise DataError(f"{path}: {came}; {CLASS_FOLDERS}; sort the pictures into folders")
    training = parts.get("train") or parts.get("") or Part()
    classes = sorted(training.classes)
    if len(classes) < 2:
        raise DataError(f"{path}: {f'one class ({classes[0]})' if classes else 'no pictures in train'}; {CLASS_FOLDERS}; "
                        "add pictures of another kind")  # fmt: skip
    empty = training.classes - {picture.label for picture in training.pictures}
    if empty:
        raise DataError(f"{path}: no pictures in the class folder {min(empty)}; expected some in each of {_some(classes)}; add some, or "
                        "take the folder away")  # fmt: skip
    for part, one in parts.items():
        strange = {picture.label for picture in one.pictures} - set(classes)
        if strange:
            raise DataError(f"{path}: {part} has the class {min(strange)!r}, which train has not; expected {_some(classes)}."
                            f"{suggestion(min(strange), classes) or ' Add it to train, or take it away.'}")  # fmt: skip
    return classes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def _look(picture: ExampleFile) -> ImageHeader:
    try:
        content = picture.read()
        digest = hashlib.sha256(content).digest()
    except OSError:
        return ImageHeader(picture, b"")
    try:
        return ImageHeader(picture, digest, *measure(content, picture.name))
    except DataError:
        return ImageHeader(picture, digest)


def _without_copies(looks: dict[str, list[ImageHeader]]) -> list[str]:
    """Leave out what cannot be read, and all but one of the files of equal bytes where they could land on two sides."""
    notes: list[str] = []
    seen: set[bytes] = set()  # in the parts before: what is tested on is not trained on
    for part in ("test", "validation", "train", ""):
        good = [look for look in looks.get(part, ()) if look.size is not None]
        labels: dict[bytes, set[str]] = {}
        for look in good:
            labels.setdefault(look.digest, set()).add(look.picture.label)
        once = {look.digest: look for look in reversed(good)}
        splits = part in ("train", "")  # test and validation stay as they were given
        kept = [
            look
            for look in good
            if look.digest not in seen
            and not (splits and (once[look.digest] is not look or len(labels[look.digest]) > 1))
        ]
        if len(kept) < len(good):
            apart = sum(len(own) > 1 for own in labels.values()) if splits else 0
            more = f"; under two classes, so both are left out: {apart:,}" if apart else ""
            notes.append(
                f"left out, files{f' of {part}' if part else ''} that are copies of others, byte for byte: {len(good) - len(kept):,}{more}"
            )
        seen |= labels.keys()
        if part in looks:
            looks[part] = kept
    return notes


def _divided(path: Path, looks: dict[str, list[ImageHeader]], seed: int) -> tuple[dict[str, list[ImageHeader]], str]:
    """The pictures of each of PARTS, and how that came about; what the folders do not give is split off from training."""
    given = [part for part in ("validation", "test") if looks.get(part)]
    training = looks[""] if "" in looks else looks["train"]
    if len(training) < LEAST_ROWS:
        raise DataError(f"{path}: {len(training):,} pictures to train on; expected {LEAST_ROWS} at least that can be read and are no copies; "
                        "add more")  # fmt: skip
    labels = np.unique([look.picture.label for look in training], return_inverse=True)[1]
    wanted = [part for part in ("validation", "test") if part not in given]
    share = min(TWO_WAY[1], MOST_VALIDATION / len(training)) if given else THREE_WAY[1]
    rows = split_rows(labels, "classification", seed, [1 - share * len(wanted), *[share] * len(wanted)])
    sides = {part: looks.get(part, []) for part in SPLITS}
    for part, own in zip(("train", *wanted), rows, strict=True):
        sides[part] = [training[i] for i in own]
    if not given:
        return sides, "split 70/15/15 by class"
    said = [f"{part}: the {len(sides[part]):,} of its own" for part in given]
    said += [f"{part}: {len(sides[part]):,} of the training pictures, by class" for part in wanted]
    return sides, "; ".join(said)


def _check_enough(path: Path, classes: list[str], labels: list[np.ndarray]) -> None:
    """Raise DataError where a part has become empty, or training has lost a class."""
    if not all(len(own) for own in labels):
        raise DataError(f"{path}: no picture is left to {('train', 'validate', 'test')[[len(own) > 0 for own in labels].index(False)]} on; "
                        "expected some that can be read and are no copies; add more")  # fmt: skip
    lost = np.setdiff1d(np.arange(len(classes)), labels[0])
    if len(lost):
        raise DataError(f"{path}: no picture of the class {classes[lost[0]]} is left to train on; expected some that can be read and are "
                        "no copies; add some, or take its folder away")  # fmt: skip


def _form(looks: Sequence[ImageHeader], size: int | None) -> tuple[tuple[int, int, int], str]:
    """C, H, W of the training pictures as the network will see them, and what was done."""
    sizes = sorted({look.size for look in looks if look.size is not None})
    channels = 1 if all(look.grey for look in looks) else 3
    low = sizes[0]
    if len(sizes) == 1 and (max(low) <= KEPT if size is None else low == (size, size)):
        return (channels, *low), f"{low[0]}x{low[1]}"
    shorter = int(np.median([min(look.size) for look in looks if look.size is not None]))
    side = size or min(max(shorter // STEP * STEP, STEP), SIDE)
    sides = [pixels for each_size in sizes for pixels in each_size]
    came = f"{min(sides)} to {max(sides)} pixels a side" if len(sizes) > 1 else f"{low[0]}x{low[1]}"
    return (channels, side, side), f"{came}, brought to {side}x{side} (the middle of each)"


# ---- decoding ------------------------------------------------------------------------------------------------------------


def _decoded(
    path: Path, sides: dict[str, list[ImageHeader]], form: tuple[int, int, int], classes: list[str], broken: list[str], files: int
) -> tuple[list[ImageSet], list[np.ndarray]]:  # fmt: skip
    """A gallery and the labels of each part; what turns out broken is added to `broken`.

    Training pictures whose colours are all greys are taken for grey, and the other parts with them.
    """
    number = {label: i for i, label in enumerate(classes)}
    judged = len(sides["validation"]) + len(sides["test"])  # kept first: they are read again and again, in one order
    keep = {part: fits(judged + (len(sides["train"]) if part == "train" else 0), form) for part in SPLITS}
    galleries, labels = [], []
    for part in SPLITS:
        pictures = [look.picture for look in sides[part]]
        gallery = read_images(pictures, form, keep=keep[part])
        if part == "train" and form[0] == 3 and not gallery.coloured:
            gallery, form = gallery.grey(), (1, *form[1:])
        galleries.append(gallery)
        labels.append(np.array([number[pictures[i].label] for i in gallery.rows], np.int64))
        broken += gallery.broken
    check_broken(path, broken, files)
    return galleries, labels
