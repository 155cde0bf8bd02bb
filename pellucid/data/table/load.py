"""A table of separate rows as a data module, and the rows of other tables under the names of training (floor 4).

What is decided on the way (the task, the split, the columns left out) is told in the module's notes. The split is 70/15/15
unless there is a table to test on; statistics come from the training rows alone.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import DataError, OptionError, suggestion
from ..base import OptionValue, Source
from ..files import sha256
from ..problem import SPLITS, DataModule, Examples, RawExample
from ..split import LEAST_TABLE_ROWS, THREE_WAY, TWO_WAY
from .duplicates import RowHashes
from .folds import FOLDS, SMALL, bag_folds, fold_rows
from .in_batches import check_memory, encode_large, part_of, raw_rows
from .infer import NUMERIC, TargetWords, clean_target, fit
from .large import LargeTable, open_large
from .partition import Choices, Partition, duplicate_notes, partition, shared_rows_note
from .preprocess import TablePreprocessor
from .read import ROWS, Table, read_table
from .read_options import ReadOptions
from .targets import decide_target, fit_target, row_weights, scaled_weights, weight_position
from .tree_bins import MANY, cut_by_trees


def load_table(source: Source, columns: Sequence[str] = ()) -> DataModule:
    """The table at `source.path`. columns: its names, where the file has no header."""
    table, large = open_table(source, columns)
    return table_module(source, plan_table(source, table), large)


def open_table(source: Source, columns: Sequence[str] = ()) -> tuple[Table, LargeTable | None]:
    """The table at `source.path`, read as the options say: all rows; or of a large one those drawn from it, and itself."""
    path, options = source.path, source.options
    header, read = options.get("header"), ReadOptions.parse(options.get("read"))
    large = None if columns else open_large(path, header, read)
    if large is not None:
        target = chosen_columns(large.take(ROWS), options)[0] if "target" in options else None
        return large.drawn(source.seed, target), large
    table = read_table(path, header, read)
    return (_renamed(table, list(columns)) if columns and not table.header else table), None


def plan_table(source: Source, table: Table) -> TablePlan:
    """What is learned from a table, and who is in which split."""
    path, options = source.path, source.options
    target, drop = chosen_columns(table, options)
    strip = options.get("strip_label")
    notes = [*table.notes]
    table = _with_target(table, target, notes if table.drawn_from is None else [])
    table, words = clean_target(table, target, options.get("task"), strip, notes)
    if len(table) < LEAST_TABLE_ROWS:
        raise DataError(
            f"{path}: {len(table)} rows with a target; expected {LEAST_TABLE_ROWS} at least to train, validate and test on; collect more"
        )
    task, separator, note = decide_target(table, target, options, strip)
    notes.append(note)
    weight = weight_position(table, options, target)
    drop = drop if weight is None else [*drop, weight]
    fractions = TWO_WAY if "test_data" in options else THREE_WAY
    choices = Choices.of(table, target, drop, options)
    found = partition(table, task, strip, source.seed, fractions, choices)
    source.record["split"] = options.get("split", "auto")
    rows = found.rows
    if not all(map(len, rows)):
        raise DataError(f"{path}: {len(table)} rows with a target, too few for {len(np.unique(found.strata))} different values to train, "
                        "validate and test on; expected more rows for each; collect more, or merge rare values")  # fmt: skip
    question = Question(
        table, target, task, separator, [*drop, *found.left_out], strip, weight, options, words, found.units
    )
    return TablePlan(question, found, choices, notes)


def table_module(source: Source, plan: TablePlan, large: LargeTable | None = None) -> DataModule:
    """The data module of a plan: the preprocessor learned from its training rows, and all splits encoded.

    large: the table that the plan's rows were drawn from.
    """
    question, found, notes = plan.question, plan.partition, [*plan.notes]
    path, options = source.path, source.options
    table, task, weight, rows = question.table, question.task, question.weight, found.rows
    preprocessor, fit_notes, encoded = question.learn(rows[0])
    encoded.unit, encoded.row = found.units, table.row_numbers()
    notes += found.notes + fit_notes
    if weight is not None:
        notes.append(f"weights: rows count by {table.names[weight]} (--row-weight), in the loss and in the scores")
    raw: list[RawExample] = [table.take(own).row for own in rows]
    splits, used = [encoded.take(own) for own in rows], [path]
    if large is not None:
        check_memory(large, encoded)
        splits, raw = question.in_batches(large, preprocessor, found, plan.choices, source.seed, notes)
    if "test_data" in options:
        test_path = _test_path(source)
        own = _labelled(test_path, preprocessor, options.get("header"), notes)
        raw.append(own.row)
        splits.append(
            Examples(preprocessor.encode(own), preprocessor.encode_target(own), weights_of(preprocessor, own))
        )
        notes += preprocessor.unseen_values(own)
        used.append(test_path)
        notes.append(f"split: {found.how} into training and validation; test: {test_path.name}")
        if source.dataset is None:
            notes += shared_rows_note(table, own, found, preprocessor.needed)
    else:
        notes.append(f"split: {found.how}")
    train, validation, test = splits
    data = DataModule(
        source.name, "table", task, preprocessor, train, validation, test, notes, sha256(used), source.record,
        dict(zip(SPLITS, raw, strict=True)), large=large is not None,
    )  # fmt: skip

    bag = Bag(found.strata, found.units, found.in_order, source.seed)
    if large is None:
        data.bagged = functools.partial(bag.module, data, table, encoded, rows)
    if "test_data" not in options and large is None and has_folds(found):
        data.folds = lambda: question.folds(data, fold_rows(found.strata, task, source.seed, found.units), bag)
    return data


@dataclass(frozen=True)
class Bag:
    """What the folds of bagged networks are made by: strata and units (N,) of all rows, see `split_rows`."""

    strata: np.ndarray
    units: np.ndarray | None
    in_order: bool
    seed: int

    def module(
        self, data: DataModule, table: Table, encoded: Examples, rows: Sequence[np.ndarray], folds: int
    ) -> tuple[int, DataModule]:
        """The number of folds, and `data` with training and validation rows together, each with its fold.

        Where rows are in order of time, or one fold is asked for, that fold is the validation part.
        """
        units = (
            len(rows[0]) + len(rows[1]) if self.units is None else len(np.unique(self.units[np.concatenate(rows[:2])]))
        )
        if self.in_order or folds == 1 or units < folds:
            of = [replace(encoded.take(rows[k]), fold=np.full(len(rows[k]), k - 1)) for k in (0, 1)]
            return 1, replace(data, train=of[0], validation=of[1], bagged=None)
        together = np.concatenate(rows[:2])
        kept = None if self.units is None else self.units[together]
        own = bag_folds(folds, self.strata[together], data.task, self.seed, kept)
        train, judged = replace(encoded.take(together), fold=own), np.flatnonzero(own >= 0)
        raw = {**data.raw, "train": table.take(together).row, "validation": table.take(together[judged]).row}
        return folds, replace(data, train=train, validation=train.take(judged), raw=raw, bagged=None)


def has_folds(found: Partition) -> bool:
    """Whether the rows are few, in no order of time, and of units enough to be tested on in turn."""
    units = len(found.strata) if found.units is None else len(np.unique(found.units))
    return len(found.strata) < SMALL and not found.in_order and units >= 2 * FOLDS


@dataclass(frozen=True)
class Question:
    """What is learned from a table's rows, all of which have a target. target, drop, weight: positions of columns.

    units: int64 (N,) of the rows, see `split_rows`.
    """

    table: Table
    target: int
    task: str
    separator: str | None
    drop: list[int]
    strip: str | None
    weight: int | None
    options: Mapping[str, OptionValue]
    words: TargetWords
    units: np.ndarray | None

    def learn(self, train: np.ndarray) -> tuple[TablePreprocessor, list[str], Examples]:
        """The preprocessor by the rows `train` alone, notes, and all rows encoded."""
        table = self.table
        preprocessor, notes = fit(table, train, self.target, self.task, self.drop, self.strip)
        preprocessor.read_options, form = table.options, preprocessor.target_form
        form.spellings, form.sentinels = self.words.spellings, self.words.sentinels
        fit_target(preprocessor, table, self.target, train, self.separator, self.options)
        weights = None
        if self.weight is not None:
            preprocessor.target_form.weights = table.names[self.weight]
            weights = scaled_weights(row_weights(table, self.weight), train, table, self.weight)
        inputs, target = preprocessor.encode(table), preprocessor.encode_target(table)
        if len(train) >= MANY and "numbers" in inputs and target.ndim == 1:
            cut_by_trees(preprocessor, inputs["numbers"][train], target[train])
        return preprocessor, notes, Examples(inputs, target, weights)

    def in_batches(
        self, large: LargeTable, preprocessor: TablePreprocessor, found: Partition, choices: Choices, seed: int,
        notes: list[str],
    ) -> tuple[list[Examples], list[RawExample]]:  # fmt: skip
        """All rows of the table that `self.table` was drawn from, in their parts, and what gives each row as it was."""
        table, target = self.table, self.target
        inputs = [p for p in range(len(table.names)) if p != target and p not in self.drop]
        rule = part_of(table, RowHashes(table, inputs).rows(), found, choices, seed)
        weight = None
        if self.weight is not None:
            weight = (self.weight, float(row_weights(table, self.weight)[found.rows[0]].mean()))
        encoded = encode_large(large, table, target, weight, preprocessor, inputs, rule)
        notes.append(f"rows: {len(large):,}; what is decided is decided on {len(table):,} drawn at random")
        notes += encoded.notes + duplicate_notes(encoded.duplicates(found.duplicates.coarse), len(large), choices)
        parts, rows = encoded.split(len(found.rows))
        for part, own in zip(parts, rows, strict=True):
            part.row = own + 1
        return parts, [raw_rows(large, own) for own in rows]

    def folds(self, whole: DataModule, parts: Iterable[list[np.ndarray]], bag: Bag) -> Iterator[DataModule]:
        """The data module of each fold; `parts` are its rows to train, validate and test on."""
        for rows in parts:
            preprocessor, _, encoded = self.learn(rows[0])
            encoded.unit, encoded.row = self.units, self.table.row_numbers()
            train, validation, test = (encoded.take(own) for own in rows)
            fold = dataclasses.replace(
                whole,
                preprocessor=preprocessor,
                train=train,
                validation=validation,
                test=test,
                folds=None,
                raw={split: self.table.take(own).row for split, own in zip(SPLITS, rows, strict=True)},
            )
            fold.bagged = functools.partial(bag.module, fold, self.table, encoded, rows)
            yield fold


@dataclass(frozen=True)
class TablePlan:
    """What is known of a table before anything is learned from it. notes: on reading, and on the target."""

    question: Question
    partition: Partition
    choices: Choices
    notes: list[str]


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
    return replace(table, names=names, _numbers={})


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
    notes.append(f"rows: left out, without a value of {table.names[target]}: {int((~present).sum()):,}")
    return table.take(np.flatnonzero(present))


def weights_of(preprocessor: TablePreprocessor, table: Table) -> np.ndarray | None:
    """The weights (N,) of another table's rows, where training had some. Raises DataError."""
    name = preprocessor.target_form.weights
    if name is None:
        return None
    if name not in table.names:
        raise DataError(f"{table.path}: the weights {name} are missing; expected the columns of training, this one too: rows count by "
                        f"it in the scores.{suggestion(name, table.names) or ' Add it.'}")  # fmt: skip
    return row_weights(table, table.names.index(name)).astype(np.float32)


def _labelled(path: Path, preprocessor: TablePreprocessor, header: bool | None, notes: list[str]) -> Table:
    """A table to test on: its columns under the names of training, rows without a target left out."""
    table = read_rows_for_prediction(path, preprocessor, header)
    if preprocessor.target_name not in table.names:
        raise DataError(f"{path}: the target {preprocessor.target_name} is missing; expected the columns of training: "
                        f"{', '.join(preprocessor.names)}.{suggestion(preprocessor.target_name, table.names) or ' Add it.'}")  # fmt: skip
    target = table.names.index(preprocessor.target_name)
    table = _with_target(table, target, notes)
    if preprocessor.task not in NUMERIC:
        return table
    return clean_target(table, target, preprocessor.task, None, notes, preprocessor.target_form.sentinels)[0]


def read_rows_for_prediction(
    path: Path, preprocessor: TablePreprocessor, header: bool | None = None, read: str | None = None
) -> Table:
    """The rows of `path` under the names of training; the target column may be there or not.

    read: the option of that name, over what was said at training.

    A header that has the names of training decides; without one, columns go by place. Raises DataError where neither fits.
    """
    options = ReadOptions.parse(read).over(preprocessor.read_options)
    table = read_table(path, header, options)
    if header is None and _has_names_first(table, preprocessor):
        table = read_table(path, True, options)
    return _as_trained(table, preprocessor, header)


def batches_for_prediction(
    path: Path, preprocessor: TablePreprocessor, header: bool | None = None, read: str | None = None
) -> Iterator[Table]:
    """`read_rows_for_prediction`, a batch at a time where the table is large."""
    options = ReadOptions.parse(read).over(preprocessor.read_options)
    large = open_large(path, header, options)
    if large is None:
        yield read_rows_for_prediction(path, preprocessor, header, read)
        return
    if header is None and _has_names_first(large.take(np.arange(1)), preprocessor):
        large = open_large(path, True, options) or large
    large = replace(large, names=_as_trained(large.take(ROWS), preprocessor, header).names)
    like = large.drawn(0)
    for batch in large.batches(like):
        yield replace(batch, notes=batch.notes if int(batch.rows[0]) == 0 else [])  # type: ignore[index]


def _has_names_first(table: Table, preprocessor: TablePreprocessor) -> bool:
    """Whether the first row holds the names of training: names may look like data, as 2019 and 2020 do."""
    return not table.header and set(preprocessor.needed) <= {str(column[0]) for column in table.columns}


def _as_trained(table: Table, preprocessor: TablePreprocessor, header: bool | None) -> Table:
    """The table under the names of training."""
    path, names, needed = table.path, preprocessor.names, preprocessor.needed
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
