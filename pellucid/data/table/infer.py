"""Schema inference for tables: the task, and whether a column is numbers, categories or left out (floor 4).

Every choice is a note for the user. How a column is encoded is decided in `preprocess.py`.
"""

from __future__ import annotations

import re

import numpy as np

from ...errors import DataError, OptionError
from .delimited import MISSING_INPUT
from .preprocess import CategoryColumn, NumberColumn, TablePreprocessor, fit_category, fit_number, label_text
from .read import Table, check_finite
from .text_column import TextColumn, fit_text, is_text

MAX_CLASSES_FROM_NUMBERS = 20  # whole numbers of at most so many values mean classes
CONSTANT = "the same in all training rows"
FEW_STRAYS = 0.05  # of a column's values: so little text among numbers is taken for missing, with a note
NAMES_FROM = 20  # different texts from which a column that hardly repeats itself names its rows
DATE = re.compile(r"\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?([ T]\d.*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}([ T]\d.*)?")
ROW_NUMBER = re.compile(r"|unnamed: ?0|index|row[ _]?(names?|number|id)?|(.*[ _-])?id", re.IGNORECASE)


# ---- the target --------------------------------------------------------------------------------------------------------


def decide_task(table: Table, position: int, task: str | None, strip: str | None) -> tuple[str, str]:
    """("classification" | "regression", a note saying why) for the target column at `position`, which has no gaps."""
    name, column = table.names[position], table.columns[position]
    labels = {label_text(value, strip) for value in column.tolist()}
    if len(labels) < 2:
        raise DataError(f"{table.path}: the target {name} is {next(iter(labels))!r} in every row; expected two different values at "
                        "least; choose another --target")  # fmt: skip
    values, strays = table.numbers_and_strays(position)
    if len(strays) or strip:
        inferred, reason = "classification", "text"
    else:
        check_finite(table, position)
        whole = bool(np.all(values % 1 == 0))
        inferred = "classification" if whole and len(labels) <= MAX_CLASSES_FROM_NUMBERS else "regression"
        reason = "whole numbers" if whole else "numbers"
    _check_strays(table, position, task, strays, len(labels))
    chosen = task or inferred
    if chosen == "classification" and len(labels) > len(table) // 2:
        raise DataError(f"{table.path}: the target {name} has {len(labels):,} different values in {len(table):,} rows; expected classes "
                        "that come again; choose another --target, or --task regression where it is numbers")  # fmt: skip
    override = f" (asked for; {inferred} by itself)" if task and task != inferred else ""
    return chosen, f"target {name}: {reason}, {len(labels):,} different values -> {chosen}{override}"


def _check_strays(table: Table, position: int, task: str | None, strays: np.ndarray, labels: int) -> None:
    """Refuse text in a regression's target, asked for or meant: a few words among many different numbers are mistakes."""
    if not len(strays):
        return
    i = int(strays[0])
    what = f"{table.where(i)}: the target {table.names[position]} is {table.columns[position][i]!r}"
    if task == "regression":
        raise OptionError(
            f"{what}; expected a number for --task regression; correct the row, or use --task classification"
        )
    few = table.parsed(position) is not None and len(strays) <= FEW_STRAYS * len(table)
    if task is None and few and labels > MAX_CLASSES_FROM_NUMBERS:
        raise DataError(
            f"{what}, where nearly all others are numbers; expected a number; correct the row, or say --task classification"
        )


def class_names(table: Table, position: int, strip: str | None) -> list[str]:
    """The classes in order: numbers by size, then text by alphabet."""
    labels = {label_text(value, strip) for value in table.columns[position].tolist()}
    whole = {label for label in labels if label.removeprefix("-").isdecimal()}
    return sorted(whole, key=int) + sorted(labels - whole)


# ---- the inputs --------------------------------------------------------------------------------------------------------


def fit(
    table: Table, rows: np.ndarray, target: int, task: str, drop: list[int], strip: str | None
) -> tuple[TablePreprocessor, list[str]]:
    """The preprocessor learned from the training `rows`, and notes on what was left out and how numbers are scaled."""
    inputs = [i for i in range(len(table.names)) if i != target and i not in drop]
    _refuse_all_missing(table, inputs)
    numbers: list[NumberColumn] = []
    categories: list[CategoryColumn] = []
    texts: list[TextColumn] = []
    notes: list[str] = []
    for position in inputs:
        column = _infer_column(table, position, rows, notes)
        if isinstance(column, NumberColumn):
            numbers.append(column)
        elif isinstance(column, CategoryColumn):
            categories.append(column)
        elif isinstance(column, TextColumn):
            texts.append(column)
        else:
            notes.append(f"column {table.names[position]}: {column}, left out")
    if not numbers and not categories and not texts:
        left_out = f" ({'; '.join(notes)})" if notes else ""
        raise DataError(f"{table.path}: no column is left to learn from{left_out}; expected one at least beside the target "
                        f"{table.names[target]}; check --target and --drop-columns")  # fmt: skip
    notes += _scaling_notes(numbers, categories, texts)
    preprocessor = TablePreprocessor(
        list(table.names), table.header, table.names[target], task, None, numbers, categories, strip_label=strip,
        texts=texts,
    )  # fmt: skip
    if task == "classification":
        preprocessor.classes = class_names(table, target, strip)
    else:
        values = table.numbers_and_strays(target)[0][rows]
        preprocessor.mean, preprocessor.std = float(values.mean()), float(values.std()) or 1.0
    return preprocessor, notes


def _refuse_all_missing(table: Table, inputs: list[int]) -> None:
    empty = [table.names[i] for i in inputs if all(_is_missing(value) for value in table.columns[i].tolist())]
    if empty:
        columns = f"column{'s' * (len(empty) > 1)} {', '.join(empty)}"
        raise DataError(
            f"{table.path}: {columns}: every value is missing; expected some; fill them, or pass --drop-columns {','.join(empty)}"
        )


def _is_missing(value: str | None) -> bool:
    return value is None or value.lower() in MISSING_INPUT


def _infer_column(
    table: Table, position: int, rows: np.ndarray, notes: list[str]
) -> NumberColumn | CategoryColumn | TextColumn | str:
    """The encoder of the column at `position`; where there is nothing to learn from it, the reason."""
    name = table.names[position]
    parsed = table.parsed(position)
    if parsed is not None and len(parsed[1]) <= FEW_STRAYS * len(table):
        values, strays = parsed
        if ROW_NUMBER.fullmatch(name) and np.array_equal(values, np.arange(len(values)) + values[0]):
            return "numbers the rows"
        check_finite(table, position)
        if len(strays):
            i = int(strays[0])
            notes.append(f"column {name}: {len(strays):,} of {len(table):,} are no numbers ({table.columns[position][i]!r} first, "
                         f"{table.where(i)}), taken for missing")  # fmt: skip
        column = fit_number(name, values[rows], strays=bool(len(strays)))
        return column or CONSTANT
    present = [value for value in table.columns[position].tolist() if not _is_missing(value)]
    if all(DATE.fullmatch(value) for value in present[:200]):
        return "dates, which this version does not learn from"
    if is_text(present):
        return fit_text(name, table.columns[position], rows, notes) or CONSTANT
    different = len(set(present))
    if (different == len(present) >= 5) or different > max(NAMES_FROM, len(present) // 2):
        return f"{different:,} different texts in {len(present):,} rows, names the rows"
    return fit_category(name, table.columns[position][rows]) or CONSTANT


def _scaling_notes(numbers: list[NumberColumn], categories: list[CategoryColumn], texts: list[TextColumn]) -> list[str]:
    incomplete = sum(column.missing_indicator for column in numbers)
    notes = [
        f"inputs: {len(numbers)} of numbers, {len(categories)} of categories"
        + (f", {len(texts)} of text" if texts else "")
        + (f"; {incomplete} of numbers with gaps" if incomplete else "")
    ]
    for scale, words in (("standard", "mean and deviation"), ("quantile", "quantiles, being skewed")):
        names = [column.name for column in numbers if column.scale == scale]
        if names:
            more = f", ... ({len(names)} in all)" if len(names) > 8 else ""
            notes.append(f"scaled by {words}: {', '.join(names[:8])}{more}")
    return notes
