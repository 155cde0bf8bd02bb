"""Labelled files as splits: which of the files train, validate and test, and what of them is left out (floor 4).

Pictures and sounds share it. Labels come from class folders, or as `file_labels.py` says. No two files of equal bytes end up in different splits, and what the folders do not give is
split off from training, by class. Every choice is a note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from ..errors import DataError, suggestion
from .base import Source
from .file_labels import labelled_by, names_files
from .folders import ExampleFile, FileType, FolderSplit, Listing, by_split, list_files
from .problem import SPLITS
from .split import LEAST_ROWS, THREE_WAY, TWO_WAY, split_rows

CLASS_FOLDERS = "expected a folder for each class, such as cats/ and dogs/"
OR_NAMES = ", names such as cat.1.jpg and dog.1.jpg, or a table of files and labels beside them"
MAX_VALIDATION = 5000  # files taken from training, where a test split is given
MAX_BROKEN = 0.01  # of the files; one is let pass where there are others
THREADED_SIZE = (
    30_000  # bytes of a file from which threads are quicker: smaller ones are mostly work that Python does alone
)

Result = TypeVar("Result")


@dataclass
class FileHeader:
    """What is known of a file before it is decoded. readable: whether it looks as if it could be."""

    file: ExampleFile
    digest: bytes
    readable: bool = False


Header = TypeVar("Header", bound=FileHeader)


@dataclass
class LabelledFiles(Generic[Header]):
    """A folder's files by split, none decoded yet.

    splits: a list of headers for each of SPLITS. broken: names of files that cannot be read. count: of all files.
    fingerprint: SHA-256 over names and bytes. notes: how it was split, and what was left out.
    """

    path: Path
    type: FileType
    classes: list[str]
    splits: dict[str, list[Header]]
    broken: list[str]
    count: int
    fingerprint: str
    notes: list[str]
    left_out: dict[str, int] = field(default_factory=dict)

    def labels(self, split: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Class numbers, int64, of the files of a split at `rows`."""
        number = {label: i for i, label in enumerate(self.classes)}
        return np.array([number[self.splits[split][i].file.label] for i in rows], np.int64)

    def check_decoded(self, rows: Sequence[np.ndarray]) -> None:
        """Raise DataError where decoding has left too many files broken, a split empty, or training without a class.

        rows: for each of SPLITS, which of its files could be decoded.
        """
        noun = self.type.noun
        check_broken(self.path, self.broken, self.count, noun)
        empty = next((use for use, own in zip(("train", "validate", "test"), rows, strict=True) if not len(own)), None)
        if empty:
            raise DataError(
                f"{self.path}: no {noun} is left to {empty} on; expected some that can be read and are no copies; add more"
            )
        missing = np.setdiff1d(np.arange(len(self.classes)), self.labels("train", rows[0]))
        if len(missing):
            raise DataError(f"{self.path}: no {noun} of the class {self.classes[missing[0]]} is left to train on; expected some that can be "
                            "read and are no copies; add some, or take its folder away")  # fmt: skip

    def all_notes(self, summary: str) -> list[str]:
        """`summary`, then how the files were split, then what was left out."""
        broken = (
            [f"file: left out, {self.type.noun}s that cannot be read: {listed(self.broken)}"] if self.broken else []
        )
        others = [f"file: left aside, files {reason}: {count:,}" for reason, count in self.left_out.items() if count]
        return [summary, *self.notes, *broken, *others]


def labelled_files(
    source: Source, type: FileType, read_header: Callable[[ExampleFile], Header]
) -> LabelledFiles[Header]:
    """The files in a folder or archive, or those that a table names, split. Raises DataError for what cannot be learned from."""
    path, way = labels_place(source, type)
    listing = list_files(path, type)
    folders, told = labelled_by(path, listing, by_split(listing), way, source.options.get("target"))
    classes = _class_names(path, folders, listing)
    headers = {split: map_files(read_header, folder.files) for split, folder in folders.items()}
    everything = [header for split in sorted(headers) for header in headers[split]]
    broken = [header.file.name for header in everything if not header.readable]
    check_broken(path, broken, len(everything), type.noun)
    digest = hashlib.sha256(b"".join(header.file.name.encode() + header.digest for header in everything))
    if told:  # the names do not say the labels
        digest.update("\n".join(header.file.label for header in everything).encode())
    copies = _drop_copies(headers)
    splits, division = _divide(path, headers, source.seed, type.noun)
    notes = [division, *told, *copies]
    return LabelledFiles(
        path, type, classes, splits, broken, len(everything), digest.hexdigest(), notes, listing.left_out
    )


def labels_place(source: Source, type: FileType) -> tuple[Path, str | None]:
    """The folder or archive of a source's files, and where their labels are told: a table names those that lie beside it."""
    way = source.options.get("labels")
    if names_files(source.path, type):
        return source.path.parent, way or str(source.path)
    return source.path, way


def files_to_score(source: Source, type: FileType, classes: Sequence[str]) -> list[ExampleFile]:
    """The labelled files of a folder or archive: of its test split where it has one, else all.

    Raises DataError where there are none, and for a class that is not among `classes`.
    """
    path, way = labels_place(source, type)
    listing = list_files(path, type)
    splits, _ = labelled_by(path, listing, by_split(listing), way, source.options.get("target"), tuple(classes))
    used = [splits["test"]] if "test" in splits else list(splits.values())
    files = [file for split in used for file in split.files]
    if not files:
        raise DataError(
            f"{path}: no class folders with {type.noun}s; {CLASS_FOLDERS}{OR_NAMES}; sort them, or use pellucid predict"
        )
    unseen = next((file for file in files if file.label not in classes), None)
    if unseen is not None:
        raise DataError(f"{path}: {unseen.name} is of the class {unseen.label!r}, never seen in training; expected {some(classes)}."
                        f"{suggestion(unseen.label, classes) or ' Rename its folder, or take it away.'}")  # fmt: skip
    return files


def map_files(function: Callable[[ExampleFile], Result], files: Sequence[ExampleFile]) -> list[Result]:
    """`function` of every file, in threads where the files are large."""
    sizes = [_size(file.content) for file in files[:50]]
    if sum(sizes) < THREADED_SIZE * len(sizes) or len(files) < 2:
        return [function(file) for file in files]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(function, files))


def _size(content: Path | bytes) -> int:
    if isinstance(content, bytes):
        return len(content)
    return content.stat().st_size if content.exists() else 0


def check_broken(where: object, broken: Sequence[str], count: int, noun: str) -> None:
    """Raise DataError where more than MAX_BROKEN of `count` files cannot be read, or all of them."""
    if len(broken) > max(min(1, count - 1), MAX_BROKEN * count):
        raise DataError(f"{where}: {len(broken):,} of {count:,} {noun}s cannot be read: {listed(broken)}; expected at most "
                        f"{MAX_BROKEN:.0%} of them, or one of several; copy them again, or remove them")  # fmt: skip


def listed(names: Sequence[str]) -> str:
    """The first five, and how many."""
    return ", ".join(names[:5]) + (f", ... ({len(names):,} in all)" if len(names) > 5 else "")


def some(names: Sequence[str]) -> str:
    """The first six."""
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def _class_names(path: Path, splits: dict[str, FolderSplit], listing: Listing) -> list[str]:
    """The classes of the training files, sorted."""
    noun = listing.type.noun
    if not splits:
        came = f"{len(listing.files):,} {noun}s and no class folders" if listing.files else f"no {noun}s"
        raise DataError(f"{path}: {came}; {CLASS_FOLDERS}{OR_NAMES}; sort the {noun}s into folders")
    training = splits.get("train") or splits.get("") or FolderSplit()
    classes = sorted(training.classes)
    if len(classes) < 2:
        raise DataError(f"{path}: {f'one class ({classes[0]})' if classes else f'no {noun}s in train'}; {CLASS_FOLDERS}; "
                        f"add {noun}s of another kind")  # fmt: skip
    empty = training.classes - {file.label for file in training.files}
    if empty:
        raise DataError(f"{path}: no {noun}s in the class folder {min(empty)}; expected some in each of {some(classes)}; add some, or "
                        "take the folder away")  # fmt: skip
    for split, folder in splits.items():
        unknown = {file.label for file in folder.files} - set(classes)
        if unknown:
            raise DataError(f"{path}: {split} has the class {min(unknown)!r}, which train has not; expected {some(classes)}."
                            f"{suggestion(min(unknown), classes) or ' Add it to train, or take it away.'}")  # fmt: skip
    return classes


def _drop_copies(headers: dict[str, list[Header]]) -> list[str]:
    """Leave out what cannot be read, and all but one of the files of equal bytes where they could land in two splits."""
    notes: list[str] = []
    earlier: set[bytes] = set()  # digests of the splits before: what is tested on is not trained on
    for split in ("test", "validation", "train", ""):
        good = [header for header in headers.get(split, ()) if header.readable]
        labels: dict[bytes, set[str]] = {}
        for header in good:
            labels.setdefault(header.digest, set()).add(header.file.label)
        first = {header.digest: header for header in reversed(good)}
        divided = split in ("train", "")  # test and validation stay as they were given
        retained = [
            header
            for header in good
            if header.digest not in earlier
            and not (divided and (first[header.digest] is not header or len(labels[header.digest]) > 1))
        ]
        if len(retained) < len(good):
            ambiguous = sum(len(own) > 1 for own in labels.values()) if divided else 0
            more = f"; under two classes, so both are left out: {ambiguous:,}" if ambiguous else ""
            notes.append(
                f"rows: left out, files{f' of {split}' if split else ''} that are copies of others, byte for byte: {len(good) - len(retained):,}{more}"
            )
        earlier |= labels.keys()
        if split in headers:
            headers[split] = retained
    return notes


def _divide(
    path: Path, headers: dict[str, list[Header]], seed: int, noun: str
) -> tuple[dict[str, list[Header]], str]:  # fmt: skip
    """The files of each of SPLITS, and how that came about; what the folders do not give is split off from training."""
    given = [split for split in ("validation", "test") if headers.get(split)]
    training = headers[""] if "" in headers else headers["train"]
    if len(training) < LEAST_ROWS:
        raise DataError(f"{path}: {len(training):,} {noun}s to train on; expected {LEAST_ROWS} at least that can be read and are no copies; "
                        "add more")  # fmt: skip
    labels = np.unique([header.file.label for header in training], return_inverse=True)[1]
    wanted = [split for split in ("validation", "test") if split not in given]
    share = min(TWO_WAY[1], MAX_VALIDATION / len(training)) if given else THREE_WAY[1]
    rows = split_rows(labels, "classification", seed, [1 - share * len(wanted), *[share] * len(wanted)])
    splits = {split: headers.get(split, []) for split in SPLITS}
    for split, own in zip(("train", *wanted), rows, strict=True):
        splits[split] = [training[i] for i in own]
    if not given:
        return splits, "split: 70/15/15 by class"
    words = [f"{split} the {len(splits[split]):,} of its own" for split in given]
    words += [f"{split} {len(splits[split]):,} of the training {noun}s by class" for split in wanted]
    return splits, f"split: {', '.join(words)}"
