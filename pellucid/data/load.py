"""DATA, as the command line takes it, turned into a Problem: a known name, a table, a text, a directory or an archive.

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

from ..errors import DataError, OptionError, names_of, suggestion
from .datasets import Dataset, catalogue, find, locate, unknown
from .files import sha256, unreadable
from .image.decode import IMAGE_ENDINGS
from .image.folders import is_archive
from .image.idx import pairs_in, read_bytes, read_pair
from .image.preprocess import ImagePreprocessor
from .image.problem import picture_problem
from .problem import SPLITS, DataModule, Describe, Examples
from .series.preprocess import series_problem
from .split import LEAST_ROWS, THREE_WAY, TWO_WAY, split_rows
from .table.infer import decide_task, fit
from .table.preprocess import TablePreprocessor, label_text
from .table.read import Table, read_table
from .text.read import text_problem

__all__ = ["catalogue", "find", "load_problem", "read_rows_for_prediction"]

TABLE_ENDINGS = {".csv", ".tsv", ".parquet", ".pq", ".data", ".tab"}
TEXT_ENDINGS = {".txt", ".md"}
TEST_STEMS = ("t10k", "test")
LARGEST_SIZE = 1024  # pixels a side
MNIST_VALIDATION = 5000  # the last training images; the choices of the recipe were made on them
TASKS = ("classification", "regression")
# The options that data of each kind can take, what such data are called, and what an option asks for.
_TABLE = ("target", "header", "test", "drop", "task", "strip_label")
OPTIONS = {
    "table": _TABLE,
    "images": (),
    "pictures": ("size",),
    "text": ("lines", "tokenizer", "vocabulary"),
    "series": ("target", "header", "drop", "task", "time", "window"),
}
HOLDS = {
    "table": "a table of separate rows",
    "images": "images, whose labels are known",
    "pictures": "images, whose labels are known",
    "text": "text",
    "series": "a series, split by time",
}
HOLDERS = {
    "table": "a table",
    "pictures": "a folder of pictures",
    "text": "a text",
    "series": "a series, a table with --time-column,",
}


def load_problem(
    spec: str, *, target: str | int | None = None, header: bool | None = None, test: str | None = None,
    drop: Sequence[str] = (), task: str | None = None, strip_label: str | None = None, lines: bool | None = None,
    tokenizer: str | None = None, vocabulary: int | None = None, time: str | int | None = None,
    window: int | None = None, size: int | None = None, seed: int = 0, path: str | None = None,
) -> DataModule:  # fmt: skip
    """The Problem of `spec`: a name from the catalogue, or the path of a table, text, directory or archive.

    target: a column by name or number from 1 (-1 the last). header: overrules what is sniffed. test: a table to test on.
    drop: columns to leave out. strip_label: taken from the end of each label. time: the column that says when a row was,
    which makes the table a series, of whose past the last `window` steps are read. lines, tokenizer, vocabulary: of a text,
    see `text_problem`; a file is one if it has such an option, or is called .txt or .md and has none of a table's.
    size: pixels a side that a folder's pictures are brought to.
    path: where `spec` was found at first, so that `load_problem(**problem.source)` loads it again from any folder.
    Raises DataError or OptionError with the file, line or option, and what to do.
    """
    if task is not None and task not in TASKS:
        raise OptionError(
            f"--task {task}: no such task; expected classification or regression.{suggestion(task, TASKS)}"
        )
    about = {
        "target": target,
        "header": header,
        "test": test,
        "drop": list(names_of("load_problem", "drop", drop)),
        "task": task,
        "strip_label": strip_label,
        "lines": lines,
        "tokenizer": tokenizer,
        "vocabulary": vocabulary,
        "time": time,
        "window": window,
        "size": size,
    }
    given = {name: value for name, value in about.items() if value not in (None, [])}
    dataset = find(spec)
    if dataset is not None:
        return _named(dataset, given, seed)
    place = Path(path or spec).expanduser()
    if not spec or not _exists(place):
        raise unknown(spec)
    source = {**given, "spec": spec, "path": str(place.resolve()), "seed": seed}
    if is_archive(place):
        return _picture_problem(_stem(place), place, given, source)
    if place.is_dir():
        kind, what = _content(place)
        if kind == "pictures":
            return _picture_problem(place.resolve().name, place, given, source)
        if kind == "images":
            _refuse(given, "images", spec)
            return _idx_problem(place.resolve().name, what, source)
        if kind == "text":
            return _text_problem(place.resolve().name, what, given, source)
        place = what
    if given.keys() & {*OPTIONS["text"]} or (_kind(place) == "text" and not given):
        return _text_problem(_stem(place), [place], given, source)
    if "time" in given:
        return _series(_stem(place), place, given, source)
    _refuse(given, "table", spec)
    return _table_problem(_stem(place), place, given, source)


def _stem(path: Path) -> str:
    return path.name.split(".")[0] or "data"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a NUL
        return False


def _named(dataset: Dataset, given: dict[str, Any], seed: int) -> DataModule:
    source = {**given, "spec": dataset.name, "seed": seed}
    _refuse(given, dataset.kind, dataset.name)
    files = locate(dataset)
    if dataset.name == "digits":
        return _digits(files["digits.csv.gz"], source)
    if dataset.kind == "images":
        return _idx_problem(dataset.name, pairs_in(next(iter(files.values())).parent), source)
    if dataset.kind == "pictures":
        return _picture_problem(dataset.name, files[dataset.files[0].path], given, source)
    if dataset.kind == "text":
        lines = given.get("lines", dataset.lines)
        own = {"lines": lines, "last": 0.0 if lines else dataset.last}
        return _text_problem(dataset.name, list(files.values()), {**given, **own}, source)
    if dataset.kind == "series":
        own = {"target": dataset.target, "time": dataset.time}
        return _series(dataset.name, next(iter(files.values())), {**own, **given}, source)
    own = {"target": dataset.target, "strip_label": dataset.strip_label}
    if dataset.test is not None:
        own["test"] = str(files[dataset.test])
    options = {**{name: value for name, value in own.items() if value is not None}, "header": False, **given}
    return _table_problem(dataset.name, files[dataset.files[0].path], options, source, dataset.columns)


def _refuse(given: dict[str, Any], kind: str, spec: str) -> None:
    """Raise OptionError for the first option that data of this `kind` cannot take."""
    for name in given:
        if name not in OPTIONS[kind]:
            able = next(other for other, options in OPTIONS.items() if name in options)
            raise OptionError(f"--{name.replace('_', '-')}: {spec} holds {HOLDS[kind]}; expected {HOLDERS[able]} with this option; "
                              "leave it out")  # fmt: skip


# ---- text --------------------------------------------------------------------------------------------------------------


def _text_problem(name: str, paths: list[Path], given: dict[str, Any], source: dict[str, Any]) -> DataModule:
    """given: the options, those a known data set brings included."""
    own = {option: value for option, value in given.items() if option != "last"}
    _refuse(own, "text", source["spec"])
    return text_problem(name, paths, source, **given)


# ---- images ------------------------------------------------------------------------------------------------------------


def _digits(path: Path, source: dict[str, Any]) -> DataModule:
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


def _idx_problem(name: str, pairs: dict[str, tuple[Path, Path]], source: dict[str, Any]) -> DataModule:
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
) -> DataModule:  # fmt: skip
    classes = [str(i) for i in range(max(int(labels.max()) for _, labels in parts) + 1)]
    known = ImagePreprocessor.fit(parts[0][0], classes)
    train, validation, test = (Examples(known.encode(images), labels) for images, labels in parts)
    raw: dict[str, Describe] = {part: images.__getitem__ for part, (images, _) in zip(SPLITS, parts, strict=True)}
    return DataModule(name, "images", "classification", known, train, validation, test, notes, fingerprint, source, raw)


# ---- pictures ----------------------------------------------------------------------------------------------------------


def _picture_problem(name: str, path: Path, given: dict[str, Any], source: dict[str, Any]) -> DataModule:
    _refuse(given, "pictures", source["spec"])
    size = given.get("size")
    if size is not None and not 4 <= size <= LARGEST_SIZE:
        raise OptionError(f"size: {size}; expected pixels a side, 4 to {LARGEST_SIZE}; write --image-size 32")
    return picture_problem(name, path, source, size)


# ---- directories -------------------------------------------------------------------------------------------------------


def _content(folder: Path) -> tuple[str, Any]:
    """What is in `folder`: ("images", MNIST's files by stem), ("pictures", None), ("text", all of them) or ("table", the one
    in it); else a DataError."""
    try:
        files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".")]
        pairs = pairs_in(folder)
    except OSError as error:
        raise unreadable(folder, error) from None
    if pairs:
        return "images", pairs
    kinds = Counter(_kind(p) for p in files)
    if 2 * kinds["image"] > len(files):
        return "pictures", None
    if not files:
        raise DataError(f"{folder}: the directory is empty; expected a table, MNIST's files, or a folder of pictures for each class in it; "
                        "name what to learn from")  # fmt: skip
    counts = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    if kinds == {"table": 1}:
        return "table", files[0]
    if kinds.keys() == {"text"}:
        return "text", files
    if kinds.keys() == {"table"}:
        raise DataError(
            f"{folder}: {counts} files ({', '.join(p.name for p in files[:5])}); expected one; name the table to learn from"
        )
    raise DataError(f"{folder}: {counts} files; expected one kind: a table, texts, MNIST's files, or a folder of pictures for each "
                    "class; name the file to learn from")  # fmt: skip


def _kind(path: Path) -> str:
    known = {"table": TABLE_ENDINGS, "image": IMAGE_ENDINGS, "text": TEXT_ENDINGS}
    endings = [ending.lower() for ending in path.suffixes if ending.lower() != ".gz"]
    return next((kind for kind, some in known.items() if endings and endings[-1] in some), "other")


# ---- tables ------------------------------------------------------------------------------------------------------------


def _table_problem(
    name: str, path: Path, given: dict[str, Any], source: dict[str, Any], columns: Sequence[str] = ()
) -> DataModule:  # fmt: skip
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
                f"--test-data {test_path}: it holds the same bytes as {path}, so the network would be tested on what it learned; "
                "expected rows of its own; leave --test-data out to have a part held back"
            )
        tables.append(_labelled(test_path, known, given.get("header"), notes))
        encoded.append(Examples(known.encode(tables[-1]), known.encode_target(tables[-1])))
        used.append(test_path)
        more.append(f"split: 85/15{by} into training and validation; test: {test_path.name}")
        if "test" in source:
            source["test"] = str(test_path.resolve())
    else:
        more.append(f"split: 70/15/15{by}")
    raw: dict[str, Describe] = {part: own.row for part, own in zip(SPLITS, tables, strict=True)}
    train, validation, last = encoded
    return DataModule(name, "table", task, known, train, validation, last, [*notes, *more], sha256(used), source, raw)


def _series(name: str, path: Path, given: dict[str, Any], source: dict[str, Any]) -> DataModule:
    _refuse(given, "series", path.name)
    table = read_table(path, given.get("header"))
    return series_problem(name, table, *_chosen_columns(table, given), given, source)


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
    drop = [table.position(column, "--drop-columns") for column in given.get("drop", ())]
    if target in drop:
        raise OptionError(
            f"--drop-columns {table.names[target]}: it is the target; expected other columns; leave it out of --drop-columns"
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
    notes.append(f"{table.path.name}: left out, rows without a value of {table.names[target]}: {int((~known).sum()):,}")
    return table.take(np.flatnonzero(known))


def _labelled(path: Path, known: TablePreprocessor, header: bool | None, notes: list[str]) -> Table:
    """A table to test on: its columns under the names of training, rows without a target left out."""
    table = read_rows_for_prediction(path, known, header)
    if known.target_name not in table.names:
        raise DataError(f"{path}: the target {known.target_name} is missing; expected the columns of training: {', '.join(known.names)}."
                        f"{suggestion(known.target_name, table.names) or ' Add it.'}")  # fmt: skip
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
        hint = suggestion(missing[0], table.names)
        raise DataError(f"{path}: column{'s' * (len(missing) > 1)} {', '.join(missing[:8])}{', ...' * (len(missing) > 8)} missing; expected "
                        f"those of training: {', '.join(needed)}; the file has {table.listed()}.{hint}")  # fmt: skip
    without = [name for name in names if name != preprocessor.target_name]
    for candidate in (names, without):
        if len(candidate) == len(table.names):
            return _renamed(table, list(candidate))
    raise DataError(f"{path}: {len(table.names)} columns; expected {len(names)}, or {len(without)} without the target "
                    f"{preprocessor.target_name}: {', '.join(names)}; bring them in that order, or add a header")  # fmt: skip
