"""DATA, as the command line takes it, turned into a Problem: a known name, a table, a text, or a directory (floor 4).

What `load_problem` decides on the way (the task, the split, the columns left out) is told in the Problem's notes. Splits
are 70/15/15 unless the data bring a test part of their own; statistics come from training rows alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, OptionError, nearest
from .catalogue import Dataset, catalogue, find, locate, unknown
from .decide import decide_task, fit
from .encode import TablePreprocessor, label_text
from .examples import Describe, Examples, Problem
from .files import sha256, unreadable
from .idx import pairs_in, read_bytes, read_pair
from .images import ImagePreprocessor
from .split import THREE_WAY, TWO_WAY, split_rows
from .table import Table, read_table
from .text import text_problem

__all__ = ["catalogue", "find", "load_problem", "read_rows_for_prediction"]

TABLE_ENDINGS = {".csv", ".tsv", ".parquet", ".pq", ".data", ".tab"}
IMAGE_ENDINGS = {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp"}
TEXT_ENDINGS = {".txt", ".md"}
PARTS = ("train", "validation", "test")
TEST_STEMS = ("t10k", "test")
MNIST_VALIDATION = 5000  # the last training images; the choices of the recipe were made on them
LEAST_ROWS = 20
TASKS = ("classification", "regression")
TABLE_OPTIONS = ("target", "header", "test", "drop", "task", "strip_label")
TEXT_OPTIONS = ("lines", "tokenizer", "vocabulary")


def load_problem(
    spec: str, *, target: str | int | None = None, header: bool | None = None, test: str | None = None,
    drop: Sequence[str] = (), task: str | None = None, strip_label: str | None = None, lines: bool | None = None,
    tokenizer: str | None = None, vocabulary: int | None = None, seed: int = 0, path: str | None = None,
) -> Problem:  # fmt: skip
    """The Problem of `spec`: a name from the catalogue, or the path of a table, text or directory.

    target: a column by name or number from 1 (-1 the last). header: overrules what is sniffed. test: a table to test on.
    drop: columns to leave out. strip_label: taken from the end of each label. lines, tokenizer, vocabulary: of a text, see
    `text_problem`; a file is one if it has such an option, or is called .txt or .md and has none of a table's.
    path: where `spec` was found at first, so that `load_problem(**problem.source)` loads it again from any folder.
    Raises DataError or OptionError with the file, line or option, and what to do.
    """
    if task is not None and task not in TASKS:
        raise OptionError(f"--task {task}: no such task; expected classification or regression.{nearest(task, TASKS)}")
    about = {
        "target": target,
        "header": header,
        "test": test,
        "drop": list(drop),
        "task": task,
        "strip_label": strip_label,
        "lines": lines,
        "tokenizer": tokenizer,
        "vocabulary": vocabulary,
    }
    given = {name: value for name, value in about.items() if value not in (None, [])}
    dataset = find(spec)
    if dataset is not None:
        return _named(dataset, given, seed)
    place = Path(path or spec).expanduser()
    if not spec or not _exists(place):
        raise unknown(spec)
    source = {**given, "spec": spec, "path": str(place.resolve()), "seed": seed}
    if place.is_dir():
        pairs, files = _content(place)
        if pairs:
            _refuse(given, spec, "images, whose labels are known", "a table")
            return _idx_problem(place.resolve().name, pairs, source)
        if _kind(files[0]) == "text":
            return _text_problem(place.resolve().name, files, given, source)
        place = files[0]
    if given.keys() & {*TEXT_OPTIONS} or (_kind(place) == "text" and not given):
        return _text_problem(place.name.split(".")[0] or "text", [place], given, source)
    return _table_problem(place.name.split(".")[0] or "table", place, given, source)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def _named(dataset: Dataset, given: dict[str, Any], seed: int) -> Problem:
    if not dataset.trainable:
        able = ", ".join(other.name for other in catalogue() if other.trainable)
        raise DataError(f"{dataset.name}: a data set of {dataset.kind}, which this version does not learn from yet; expected one of "
                        f"{able}, or a table of your own")  # fmt: skip
    source = {**given, "spec": dataset.name, "seed": seed}
    if dataset.kind == "images":
        _refuse(given, dataset.name, "images, whose labels are known", "a table")
    elif dataset.kind != "text":
        _refuse(given, dataset.name, "a table", "a text", TEXT_OPTIONS)
    files = locate(dataset)
    if dataset.name == "digits":
        return _digits(files["digits.csv.gz"], source)
    if dataset.kind == "images":
        return _idx_problem(dataset.name, pairs_in(next(iter(files.values())).parent), source)
    if dataset.kind == "text":
        lines = given.get("lines", dataset.lines)
        own = {"lines": lines, "last": 0.0 if lines else dataset.last}
        return _text_problem(dataset.name, list(files.values()), {**given, **own}, source)
    own = {"target": dataset.target, "strip_label": dataset.strip_label}
    if dataset.test is not None:
        own["test"] = str(files[dataset.test])
    options = {**{name: value for name, value in own.items() if value is not None}, "header": False, **given}
    return _table_problem(dataset.name, files[dataset.files[0].path], options, source, dataset.columns)


def _refuse(given: dict[str, Any], spec: str, holds: str, expected: str, names: Sequence[str] = ()) -> None:
    """Raise OptionError for an option (one of `names`, where there are any) that is for other data."""
    for name in given:
        if not names or name in names:
            with_it = "a text" if name in TEXT_OPTIONS else expected
            raise OptionError(
                f"--{name.replace('_', '-')}: {spec} holds {holds}; expected {with_it} with this option; leave it out"
            )


# ---- text --------------------------------------------------------------------------------------------------------------


def _text_problem(name: str, paths: list[Path], given: dict[str, Any], source: dict[str, Any]) -> Problem:
    """given: the options, those a known data set brings included."""
    _refuse(given, source["spec"], "text", "a table", TABLE_OPTIONS)
    return text_problem(name, paths, source, **given)


# ---- images ------------------------------------------------------------------------------------------------------------


def _digits(path: Path, source: dict[str, Any]) -> Problem:
    """scikit-learn's bundled scans (Alpaydin and Kaynak 1998): 1,797 images 8x8 of 0..16, their label in column 65."""
    text = read_bytes(path)
    try:
        rows = np.array(text.replace(b"\n", b",").rstrip(b",").split(b","), dtype=np.float64).reshape(-1, 65)
    except ValueError:
        raise DataError(f"{path}: not the table of 65 columns it should be; install scikit-learn again") from None
    images = np.rint(rows[:, :64].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = rows[:, 64].astype(np.int64)
    chosen = split_rows(labels, "classification", source["seed"])
    notes = [f"digits: {len(labels):,} scans 8x8, 10 classes; split 70/15/15 by class"]
    parts = [(images[rows], labels[rows]) for rows in chosen]
    return _image_problem("digits", parts, notes, hashlib.sha256(text).hexdigest(), source)


def _idx_problem(name: str, pairs: dict[str, tuple[Path, Path]], source: dict[str, Any]) -> Problem:
    """MNIST's files, or others in that form: with a test pair validation is the end of training, else all is split."""
    test = next((stem for stem in TEST_STEMS if stem in pairs), None)
    rest = [stem for stem in pairs if stem != test]
    if len(rest) != 1:
        raise DataError(f"{name}: image files called {', '.join(pairs)}; expected train-images-idx3-ubyte with its labels, and t10k-... "
                        "for the test images; rename them")  # fmt: skip
    images, labels, hashes = read_pair(*pairs[rest[0]])
    if test is None:
        chosen = split_rows(labels, "classification", source["seed"])
        parts = [(images[rows], labels[rows]) for rows in chosen]
        how = "split 70/15/15 by class"
    else:
        test_images, test_labels, more = read_pair(*pairs[test])
        if test_images.shape[1:] != images.shape[1:]:
            raise DataError(
                f"{pairs[test][0]}: images {test_images.shape[1:]}; expected {images.shape[1:]}, as in training"
            )
        hashes += more
        cut = len(labels) - min(MNIST_VALIDATION, round(0.15 * len(labels)))
        parts = [(images[:cut], labels[:cut]), (images[cut:], labels[cut:]), (test_images, test_labels)]
        how = f"validation is the last {len(labels) - cut:,} training images, test the {len(test_labels):,} of its own"
    if len(labels) < LEAST_ROWS or not all(len(own) for _, own in parts):
        raise DataError(
            f"{name}: {len(labels):,} images; expected {LEAST_ROWS} at least to train, validate and test on; add more"
        )
    size = f"{images.shape[1]}x{images.shape[2]}"
    notes = [f"{name}: {len(labels):,} images {size}, {int(labels.max()) + 1} classes; {how}"]
    return _image_problem(name, parts, notes, hashlib.sha256("".join(hashes).encode()).hexdigest(), source)


def _image_problem(
    name: str, parts: list[tuple[np.ndarray, np.ndarray]], notes: list[str], fingerprint: str, source: dict[str, Any]
) -> Problem:  # fmt: skip
    classes = [str(i) for i in range(max(int(labels.max()) for _, labels in parts) + 1)]
    known = ImagePreprocessor.fit(parts[0][0], classes)
    train, validation, test = (Examples(known.encode(images), labels) for images, labels in parts)
    raw: dict[str, Describe] = {part: images.__getitem__ for part, (images, _) in zip(PARTS, parts, strict=True)}
    return Problem(name, "images", "classification", known, train, validation, test, notes, fingerprint, source, raw)


# ---- directories -------------------------------------------------------------------------------------------------------


def _content(folder: Path) -> tuple[dict[str, tuple[Path, Path]], list[Path]]:
    """MNIST's files in `folder`, by stem, or the one table or all the texts in it; else a DataError with the counts."""
    try:
        files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    except OSError as error:
        raise unreadable(folder, error) from None
    if not files:
        raise DataError(
            f"{folder}: the directory is empty; expected a table, texts or MNIST's files in it; name what to learn from"
        )
    pairs = pairs_in(folder)
    if pairs:
        return pairs, []
    kinds = Counter(_kind(p) for p in files)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    if kinds == {"table": 1} or kinds.keys() == {"text"}:
        return {}, files
    if kinds.keys() == {"table"}:
        raise DataError(
            f"{folder}: {counts} files ({', '.join(p.name for p in files[:5])}); expected one; name the table to learn from"
        )
    if kinds.keys() == {"image"}:
        raise DataError(f"{folder}: {counts} files; a folder of them is recognised, but this version does not learn from it yet; "
                        "expected a table, or a name that `pellucid datasets` lists")  # fmt: skip
    raise DataError(
        f"{folder}: {counts} files; expected one kind, a table, texts or MNIST's files; name the file to learn from"
    )


def _kind(path: Path) -> str:
    known = {"table": TABLE_ENDINGS, "image": IMAGE_ENDINGS, "text": TEXT_ENDINGS}
    endings = [ending.lower() for ending in path.suffixes if ending.lower() != ".gz"]
    return next((kind for kind, some in known.items() if endings and endings[-1] in some), "other")


# ---- tables ------------------------------------------------------------------------------------------------------------


def _table_problem(
    name: str, path: Path, given: dict[str, Any], source: dict[str, Any], columns: Sequence[str] = ()
) -> Problem:  # fmt: skip
    """given: the options, those a known data set brings included. columns: its names, where the file has no header."""
    table = read_table(path, given.get("header"))
    if columns and not table.header:
        table = _renamed(table, list(columns))
    target, drop = _chosen_columns(table, given)
    strip = given.get("strip_label")
    notes: list[str] = []
    table = _with_target(table, target, notes)
    if len(table) < LEAST_ROWS:
        raise DataError(
            f"{path}: {len(table)} rows with a target; expected {LEAST_ROWS} at least to train, validate and test on; collect more"
        )
    task, note = decide_task(table, target, given.get("task"), strip)
    notes.append(note)
    parts = split_rows(
        _strata(table, target, task, strip), task, source["seed"], TWO_WAY if "test" in given else THREE_WAY
    )
    known, more = fit(table, parts[0], target, task, drop, strip)
    every = Examples(known.encode(table), known.encode_target(table))
    encoded, tables, used = [every.take(rows) for rows in parts], [table.take(rows) for rows in parts], [path]
    by = " by class" if task == "classification" else ""
    if "test" in given:
        test_path = Path(given["test"])
        if test_path.is_file() and sha256([test_path]) == sha256([path]):
            raise OptionError(
                f"--test {test_path}: it holds the same bytes as {path}, so the network would be tested on what it learned; "
                "expected rows of its own; leave --test out to have a part held back"
            )
        tables.append(_labelled(test_path, known, given.get("header"), notes))
        encoded.append(Examples(known.encode(tables[-1]), known.encode_target(tables[-1])))
        used.append(test_path)
        more.append(f"split: 85/15{by} into training and validation; test: {test_path.name}")
        if "test" in source:
            source["test"] = str(test_path.resolve())
    else:
        more.append(f"split: 70/15/15{by}")
    raw: dict[str, Describe] = {part: own.row for part, own in zip(PARTS, tables, strict=True)}
    train, validation, last = encoded
    return Problem(name, "table", task, known, train, validation, last, [*notes, *more], sha256(used), source, raw)


def _renamed(table: Table, names: list[str]) -> Table:
    if len(names) != len(table.names):
        raise DataError(
            f"{table.path}: {len(table.names)} columns; expected {len(names)} ({', '.join(names)}); fetch the file again"
        )
    return Table(table.path, names, table.columns, table.header, table.decimal_comma)


def _chosen_columns(table: Table, given: dict[str, Any]) -> tuple[int, list[int]]:
    """The target's place, and those of the columns to drop. Raises OptionError."""
    if len(table.names) == 1:
        raise DataError(f"{table.path}: one column ({table.names[0][:40]}); expected two at least, separated by commas, tabs or semicolons; "
                        "a .txt or .md file is learned from as text if no option for tables, as --target, is given")  # fmt: skip
    if "target" not in given:
        raise OptionError(f"--target: missing; {table.path} has the columns {table.listed()}; expected the one to predict; "
                          f"write --target {table.names[-1]!r}, say")  # fmt: skip
    target = table.position(given["target"])
    drop = [table.position(column, "--drop") for column in given.get("drop", ())]
    if target in drop:
        raise OptionError(
            f"--drop {table.names[target]}: it is the target; expected other columns; leave it out of --drop"
        )
    return target, drop


def _strata(table: Table, target: int, task: str, strip: str | None) -> np.ndarray:
    if task == "regression":
        return table.numbers_and_strays(target)[0]
    return np.array([label_text(value, strip) for value in table.columns[target].tolist()])


def _with_target(table: Table, target: int, notes: list[str]) -> Table:
    """The rows whose target is known."""
    known = np.array([value is not None for value in table.columns[target].tolist()])
    if known.all():
        return table
    if not known.any():
        raise DataError(
            f"{table.path}: the target {table.names[target]} is missing in every row; expected values; choose another --target"
        )
    notes.append(f"{table.path.name}: {int((~known).sum()):,} rows without a value of {table.names[target]} left out")
    return table.take(np.flatnonzero(known))


def _labelled(path: Path, known: TablePreprocessor, header: bool | None, notes: list[str]) -> Table:
    """A table to test on: its columns under the names of training, rows without a target left out."""
    table = read_rows_for_prediction(path, known, header)
    if known.target_name not in table.names:
        raise DataError(f"{path}: the target {known.target_name} is missing; expected the columns of training: {', '.join(known.names)}."
                        f"{nearest(known.target_name, table.names) or ' Add it.'}")  # fmt: skip
    return _with_target(table, table.names.index(known.target_name), notes)


def read_rows_for_prediction(path: Path, preprocessor: TablePreprocessor, header: bool | None = None) -> Table:
    """The rows of `path` under the names of training; the target column may be there or not.

    A header that has the names of training decides; without one, columns go by place. Raises DataError where neither fits.
    """
    table = read_table(path, header)
    names, needed = preprocessor.names, preprocessor.needed
    if header is None and not table.header:
        first = [str(column[0]) for column in table.columns]  # names may look like data: 2019, 2020
        if set(needed) <= set(first):
            table = read_table(path, True)
    if set(needed) <= set(table.names):
        return table
    if table.header and (preprocessor.header or set(table.names) & set(needed)):
        missing = [name for name in needed if name not in table.names]
        hint = nearest(missing[0], table.names)
        raise DataError(f"{path}: column{'s' * (len(missing) > 1)} {', '.join(missing[:8])}{', ...' * (len(missing) > 8)} missing; expected "
                        f"those of training: {', '.join(needed)}; the file has {table.listed()}.{hint}")  # fmt: skip
    without = [name for name in names if name != preprocessor.target_name]
    for candidate in (names, without):
        if len(candidate) == len(table.names):
            return _renamed(table, list(candidate))
    raise DataError(f"{path}: {len(table.names)} columns; expected {len(names)}, or {len(without)} without the target "
                    f"{preprocessor.target_name}: {', '.join(names)}; bring them in that order, or add a header")  # fmt: skip
