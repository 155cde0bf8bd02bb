"""Rows that are totals of other rows, as reports have them at the end and between groups (floor 4).

They are no examples: a row is left out where a word says so and its numbers are the sum or the mean of those above it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from .delimited import MISSING_INPUT
from .findings import shown_cell

if TYPE_CHECKING:
    from .read import Table

SUMS = r"totals?|sum|summe|gesamt|gesamtsumme|insgesamt|zwischensumme|somme|totale|totaal|suma|summa|итого|всего|合计|合計|总计"
MEANS = r"average|avg|mean|mittelwert|durchschnitt|moyenne|media|promedio|gemiddelde"
BEFORE = r"(?:(?:grand|overall|sub|column|report)[ -]?)?"
LABEL = re.compile(rf"{BEFORE}(?:{SUMS}|{MEANS})[:.]?", re.IGNORECASE)  # the whole cell
LABEL_AMONG = re.compile(rf"(?:.* )?{BEFORE}(?:{SUMS}|{MEANS})\b.*", re.IGNORECASE)  # `North Total`, `Total 2023`
CLOSE = 1e-3  # of the sum, by which one of numbers that were rounded may differ
EXACT = 1e-9
LONGEST = 40  # characters of a label
LEAST_ROWS = 10  # above a row of totals without a label
LEAST_ADDED = 3  # numbers, not zero, that a sum is of


def without_totals(table: Table) -> Table:
    """The table without rows that are totals of others, and a note on them; by `--read footer=none` all rows are kept."""
    if table.options.footer == 0 or len(table) < LEAST_ADDED + 1:
        return table
    last = len(table) - 1
    if not _label(table, last) and not _is_unlabelled(table, last):
        return table
    numbers = _numbers(table)
    totals: list[int] = []
    if _is_unlabelled(table, last) and _all_sums(numbers, last):
        totals = [last]
    elif _label(table, last):
        totals = _labelled_totals(table, numbers)
    if not totals or len(table) - len(totals) < LEAST_ADDED:
        return table
    kept = table.take(np.setdiff1d(np.arange(len(table)), totals))
    label = _label(table, totals[-1])
    which = "the last row is" if totals == [last] else f"{len(totals):,} rows are"
    shown = f" ({shown_cell(label)})" if label else ""
    kept.notes.append(f"rows: {which} the totals of others{shown}, left out; --read footer=none to keep all")
    return kept


def _label(table: Table, row: int, form: re.Pattern[str] = LABEL_AMONG) -> str | None:
    """The cell of a row that calls it a total."""
    return next((cell for cell in (column[row] for column in table.columns) if _is_label(cell, form)), None)


def _is_label(cell: str | None, form: re.Pattern[str]) -> bool:
    return cell is not None and len(cell) <= LONGEST and form.fullmatch(cell) is not None


def _is_unlabelled(table: Table, row: int) -> bool:
    """Whether the first cell of the last row, and another, are missing, where no row above misses its first."""
    if len(table) <= LEAST_ROWS or table.columns[0][row] is not None:
        return False
    return all(value is not None for value in table.columns[0][:row].tolist())


def _numbers(table: Table) -> list[np.ndarray]:
    """The columns of numbers, float64 (N,), NaN where a cell is missing or text."""
    found = (table.read_numbers(position) for position in range(len(table.names)))
    return [one.values for one in found if one is not None]


def _all_sums(numbers: list[np.ndarray], row: int) -> bool:
    """Whether all numbers of a row are the exact sums of those above, one at least."""
    present = [values for values in numbers if not np.isnan(values[row])]
    return bool(present) and all(_is_sum(values[:row], values[row], EXACT) for values in present)


def _is_sum(above: np.ndarray, total: float, close: float, mean: bool = False) -> bool:
    """Whether a number is the sum, or the mean, of those above, NaN left out."""
    if np.count_nonzero(np.nan_to_num(above)) < LEAST_ADDED - 1 or not total:
        return False
    parts = above[~np.isnan(above)]
    found, scale = (parts.mean(), np.abs(parts).mean()) if mean else (parts.sum(), np.abs(parts).sum())
    return bool(abs(found - total) <= close * scale)


def _labelled_totals(table: Table, numbers: list[np.ndarray]) -> list[int]:
    """Rows with such a word of which a number is the total of the rows since the last of them, or of all rows that are none.

    Either all their numbers are such totals, or a cell is missing that no other row misses. The very last row needs no such proof where the word is alone in its cell, comes there alone, and other cells are missing.
    """
    plain = np.ones(len(table), dtype=bool)
    totals: list[int] = []
    start = 0
    for row in _labelled_rows(table):
        label = _label(table, row) or ""
        mean = re.search(rf"\b(?:{MEANS})\b", label, re.IGNORECASE) is not None
        own, everything = np.flatnonzero(plain[start:row]) + start, np.flatnonzero(plain[:row])
        present = [values for values in numbers if not np.isnan(values[row])]
        said, means = (
            [any(_is_sum(v[rows], v[row], CLOSE, form) for rows in (own, everything)) for v in present]
            for form in (mean, True)
        )
        whole = all(sums or averages for sums, averages in zip(said, means, strict=True))  # beside a sum, a mean price
        if any(said) and (whole or _misses_alone(table, row, everything)):
            plain[row] = False
            totals.append(row)
            start = start if mean else row + 1
    last = len(table) - 1
    if last not in totals and _stands_alone(table, last):
        totals.append(last)
    return totals


def _labelled_rows(table: Table) -> list[int]:
    found: set[int] = set()
    for column in table.columns:
        found.update(k for k, cell in enumerate(column.tolist()) if _is_label(cell, LABEL_AMONG))
    return sorted(found)


def _misses_alone(table: Table, row: int, others: np.ndarray) -> bool:
    """Whether a cell of the row is missing in a column where no other row, of those above, misses one."""
    missed = [column for column in table.columns if column[row] is None]
    return any(all(value is not None for value in column[others].tolist()) for column in missed)


def _stands_alone(table: Table, row: int) -> bool:
    label = _label(table, row, LABEL)
    missing = sum(column[row] is None or column[row].lower() in MISSING_INPUT for column in table.columns)
    return label is not None and missing > 0 and not any(label in column[:row] for column in table.columns)
