"""What each column of a table is: the target and its task, numbers, categories, or nothing to learn from (floor 4).

Every choice is a note for the user. What a column then becomes, and its statistics, are `encode.py`'s.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ...errors import DataError, OptionError
from .delimited import MISSING_INPUT
from .preprocess import CategoryColumn, NumberColumn, TablePreprocessor, fit_category, fit_number, label_text
from .read import Table, check_finite

MOST_CLASSES_FROM_NUMBERS = 20  # whole numbers of at most so many values mean classes
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
        found, why = "classification", "text"
    else:
        check_finite(table, position)
        whole = bool(np.all(values % 1 == 0))
        found = "classification" if whole and len(labels) <= MOST_CLASSES_FROM_NUMBERS else "regression"
        why = "whole numbers" if whole else "numbers"
    _check_strays(table, position, task, strays, len(labels))
    chosen = task or found
    if chosen == "classification" and len(labels) > len(table) // 2:
        raise DataError(f"{table.path}: the target {name} has {len(labels):,} different values in {len(table):,} rows; expected classes "
                        "that come again; choose another --target, or --task regression where it is numbers")  # fmt: skip
    asked = f" (asked for; {found} by itself)" if task and task != found else ""
    return chosen, f"target {name}: {why}, {len(labels):,} different values -> {chosen}{asked}"


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
    if task is None and few and labels > MOST_CLASSES_FROM_NUMBERS:
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
    notes: list[str] = []
    for position in inputs:
        found = _infer_column(table, position, rows, notes)
        if isinstance(found, NumberColumn):
            numbers.append(found)
        elif found is not None:
            categories.append(found)
    if not numbers and not categories:
        left_out = f" ({'; '.join(notes)})" if notes else ""
        raise DataError(f"{table.path}: no column is left to learn from{left_out}; expected one at least beside the target "
                        f"{table.names[target]}; check --target and --drop-columns")  # fmt: skip
    notes += _scaling_notes(numbers, categories)
    known = TablePreprocessor(
        list(table.names), table.header, table.names[target], task, None, numbers, categories, strip_label=strip
    )
    if task == "classification":
        known.classes = class_names(table, target, strip)
    else:
        values = table.numbers_and_strays(target)[0][rows]
        known.mean, known.std = float(values.mean()), float(values.std()) or 1.0
    return known, notes


def _refuse_all_missing(table: Table, inputs: list[int]) -> None:
    empty = [table.names[i] for i in inputs if all(_gone(value) for value in table.columns[i].tolist())]
    if empty:
        columns = f"column{'s' * (len(empty) > 1)} {', '.join(empty)}"
        raise DataError(
            f"{table.path}: {columns}: every value is missing; expected some; fill them, or pass --drop-columns {','.join(empty)}"
        )


def _gone(value: str | None) -> bool:
    return value is None or value.lower() in MISSING_INPUT


def _infer_column(
    table: Table, position: int, rows: np.ndarray, notes: list[str]
) -> NumberColumn | CategoryColumn | None:
    """What the column at `position` becomes; None, and a note, where there is nothing to learn from it."""
    name = table.names[position]
    parsed = table.parsed(position)
    if parsed is not None and len(parsed[1]) <= FEW_STRAYS * len(table):
        values, strays = parsed
        if ROW_NUMBER.fullmatch(name) and np.array_equal(values, np.arange(len(values)) + values[0]):
            return _left_out(name, "numbers the rows", notes)
        check_finite(table, position)
        if len(strays):
            i = int(strays[0])
            notes.append(f"column {name}: {len(strays):,} of {len(table):,} are no numbers ({table.columns[position][i]!r} first, "
                         f"{table.where(i)}), taken for missing")  # fmt: skip
        column = fit_number(name, values[rows], strays=bool(len(strays)))
        return column or _left_out(name, "the same in all training rows", notes)
    known = [value for value in table.columns[position].tolist() if not _gone(value)]
    if all(DATE.fullmatch(value) for value in known[:200]):
        return _left_out(name, "dates, which this version does not learn from", notes)
    different = len(set(known))
    if (different == len(known) >= 5) or different > max(NAMES_FROM, len(known) // 2):
        return _left_out(name, f"{different:,} different texts in {len(known):,} rows, names the rows", notes)
    return fit_category(name, table.columns[position][rows]) or _left_out(name, "the same in all training rows", notes)


def _left_out(name: str, why: str, notes: list[str]) -> Any:
    """None, with a note."""
    notes.append(f"column {name}: {why}, left out")
    return None


def _scaling_notes(numbers: list[NumberColumn], categories: list[CategoryColumn]) -> list[str]:
    gaps = sum(column.missing_indicator for column in numbers)
    notes = [
        f"inputs: {len(numbers)} of numbers, {len(categories)} of categories"
        + (f"; {gaps} of numbers with gaps" if gaps else "")
    ]
    for scale, words in (("standard", "mean and deviation"), ("quantile", "quantiles, being skewed")):
        names = [column.name for column in numbers if column.scale == scale]
        if names:
            more = f", ... ({len(names)} in all)" if len(names) > 8 else ""
            notes.append(f"scaled by {words}: {', '.join(names[:8])}{more}")
    return notes
