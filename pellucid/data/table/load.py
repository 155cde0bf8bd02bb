"""A table of separate rows as a data module, and the rows of other tables under the names of training (floor 4).

What is decided on the way (the task, the split, the columns left out) is told in the module's notes. The split is 70/15/15
unless there is a table to test on; statistics come from the training rows alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...errors import DataError, OptionError, suggestion
from ..base import OptionValue, Source
from ..files import sha256
from ..problem import SPLITS, DataModule, Examples, RawExample
from ..split import LEAST_ROWS, THREE_WAY, TWO_WAY
from .infer import decide_task, fit
from .partition import Choices, partition, shared_rows_note
from .preprocess import TablePreprocessor
from .read import Table, read_table


def load_table(source: Source, columns: Sequence[str] = ()) -> DataModule:
    """The table at `source.path`. columns: its names, where the file has no header."""
    path, options = source.path, source.options
    table = read_table(path, options.get("header"))
    if columns and not table.header:
        table = _renamed(table, list(columns))
    target, drop = chosen_columns(table, options)
    strip = options.get("strip_label")
    notes: list[str] = []
    table = _with_target(table, target, notes)
    if len(table) < LEAST_ROWS:
        raise DataError(
            f"{path}: {len(table)} rows with a target; expected {LEAST_ROWS} at least to train, validate and test on; collect more"
        )
    task, note = decide_task(table, target, options.get("task"), strip)
    notes.append(note)
    fractions = TWO_WAY if "test_data" in options else THREE_WAY
    found = partition(table, task, strip, source.seed, fractions, Choices.of(table, target, drop, options))
    source.record["split"] = options.get("split", "auto")
    rows = found.rows
    preprocessor, fit_notes = fit(table, rows[0], target, task, [*drop, *found.left_out], strip)
    notes += found.notes + fit_notes
    encoded = Examples(preprocessor.encode(table), preprocessor.encode_target(table))
    splits, tables, used = [encoded.take(own) for own in rows], [table.take(own) for own in rows], [path]
    if "test_data" in options:
        test_path = _test_path(source)
        tables.append(_labelled(test_path, preprocessor, options.get("header"), notes))
        splits.append(Examples(preprocessor.encode(tables[-1]), preprocessor.encode_target(tables[-1])))
        used.append(test_path)
        notes.append(f"split: {found.how} into training and validation; test: {test_path.name}")
        if source.dataset is None:
            notes += shared_rows_note(table, tables[-1], found, preprocessor.needed)
    else:
        notes.append(f"split: {found.how}")
    raw: dict[str, RawExample] = {split: own.row for split, own in zip(SPLITS, tables, strict=True)}
    train, validation, test = splits
    return DataModule(
        source.name, "table", task, preprocessor, train, validation, test, notes, sha256(used), source.record, raw
    )  # fmt: skip


def _test_path(source: Source) -> Path:
    """The table to test on, which `source.record` then names from any folder. Raises OptionError for that of training."""
    path = Path(source.options["test_data"])
    if path.is_file() and sha256([path]) == sha256([source.path]):
        raise OptionError(
            f"--test-data {path}: it holds the same bytes as {source.path}, so the network would be tested on what it learned; "
            "expected rows of its own; leave --test-data out to have a part held back"
        )
    if "test_data" in source.record:
        source.record["test_data"] = str(path.resolve())
    return path


def _renamed(table: Table, names: list[str]) -> Table:
    if len(names) != len(table.names):
        raise DataError(
            f"{table.path}: {len(table.names)} columns; expected {len(names)} ({', '.join(names)}); fetch the file again"
        )
    return Table(table.path, names, table.columns, table.header, table.decimal_comma)


def chosen_columns(table: Table, options: Mapping[str, OptionValue]) -> tuple[int, list[int]]:
    """Position of the target, and of the columns to drop. Raises OptionError."""
    if len(table.names) == 1:
        raise DataError(f"{table.path}: one column ({table.names[0][:40]}); expected two at least, separated by commas, tabs or semicolons; "
                        "a .txt or .md file is learned from as text if no option for tables, as --target, is given")  # fmt: skip
    if "target" not in options:
        raise OptionError(f"--target: missing; {table.path} has the columns {table.listed()}; expected the one to predict; "
                          f"write --target {table.names[-1]!r}, say")  # fmt: skip
    target = table.position(options["target"])
    drop = [table.position(column, "--drop") for column in options.get("drop", ())]
    if target in drop:
        raise OptionError(
            f"--drop {table.names[target]}: it is the target; expected other columns; leave it out of --drop"
        )
    return target, drop


def _with_target(table: Table, target: int, notes: list[str]) -> Table:
    """The rows that have a target."""
    present = np.array([value is not None for value in table.columns[target].tolist()])
    if present.all():
        return table
    if not present.any():
        raise DataError(
            f"{table.path}: the target {table.names[target]} is missing in every row; expected values; choose another --target"
        )
    notes.append(
        f"{table.path.name}: left out, rows without a value of {table.names[target]}: {int((~present).sum()):,}"
    )
    return table.take(np.flatnonzero(present))


def _labelled(path: Path, preprocessor: TablePreprocessor, header: bool | None, notes: list[str]) -> Table:
    """A table to test on: its columns under the names of training, rows without a target left out."""
    table = read_rows_for_prediction(path, preprocessor, header)
    if preprocessor.target_name not in table.names:
        raise DataError(f"{path}: the target {preprocessor.target_name} is missing; expected the columns of training: "
                        f"{', '.join(preprocessor.names)}.{suggestion(preprocessor.target_name, table.names) or ' Add it.'}")  # fmt: skip
    return _with_target(table, table.names.index(preprocessor.target_name), notes)


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
