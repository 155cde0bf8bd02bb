"""How the cells of a series' columns are read: decided by the whole table in training, and as then ever after (floor 4).

The rules and the notes are those of tables: numbers as people write them, words and numbers that stand for gaps, labels that
differ by case and blanks alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import DataError
from ..table.findings import Findings, rows_told
from ..table.infer import sentinels_of, stand_for_gaps, tell_format, tell_gaps, tell_merged
from ..table.labels import folded, merge_labels
from ..table.number_format import PLAIN, NumberFormat
from ..table.read import Table, check_finite


@dataclass(frozen=True)
class Cells:
    """Of one column. format: how its numbers are written. strays: whether text among them stands for gaps. sentinels: numbers
    that do, such as -999. spellings: of labels, by `labels.folded`."""

    format: NumberFormat = PLAIN
    strays: bool = False
    sentinels: Sequence[float] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)


def number_cells(table: Table, position: int, findings: Findings) -> Cells:
    """How the column of numbers at `position` is written; what is not plain is told."""
    found, name = table.read_numbers(position), table.names[position]
    if found is None:
        return Cells()
    exact = table.options.is_exact(name)
    tell_format(table, position, found, findings)
    strays = bool(len(found.strays)) and stand_for_gaps(table, position, found.strays, found.values, exact)
    if strays:
        tell_gaps(table, position, found.strays, findings)
    sentinels = [] if exact else sentinels_of(found.values)
    findings.sentinels.extend(f"{name}: {x:g} in {rows_told(int(np.sum(found.values == x)))}" for x in sentinels)
    return Cells(found.format, strays, sentinels)


def numbers(table: Table, position: int, cells: Cells) -> np.ndarray:
    """A column of numbers (L,), NaN where missing. Raises DataError with the line of the first text that stands for no gap."""
    found = table.numbers_like(position, cells.format)
    if len(found.strays) and not cells.strays:
        i = int(found.strays[0])
        raise DataError(f"{table.where(i)}, column {table.names[position]}: {table.columns[position][i]!r} is not a number; expected one{cells.format.told} "
                        "in every row of a series; correct it, or leave it empty")  # fmt: skip
    check_finite(table, position)
    return np.where(np.isin(found.values, cells.sentinels), np.nan, found.values) if cells.sentinels else found.values


def label_cells(table: Table, position: int, findings: Findings, yes_no: bool = True) -> Cells:
    """The spellings of a column of labels, told where some are merged. yes_no: whether `y` and `Yes` may become one."""
    name = table.names[position]
    if table.options.is_exact(name):
        return Cells()
    merged = merge_labels(Counter(text for text in table.columns[position].tolist() if text is not None))
    if not yes_no and any(folded(text) != folded(one) for text, one in merged.names.items()):
        return Cells()  # series called T, F and Y are no answers
    tell_merged(name, merged, findings)
    return Cells(spellings=merged.spellings)


def labels(table: Table, position: int, cells: Cells) -> np.ndarray:
    """A column of labels (L,), None where missing, those that are one under one name."""
    column = table.columns[position]
    if not cells.spellings:
        return column
    one = {text: cells.spellings.get(folded(text), text) for text in set(column.tolist()) - {None}}
    result = np.empty(len(column), dtype=object)
    result[:] = [None if text is None else one[text] for text in column.tolist()]
    return result


def changed_notes(table: Table, position: int, cells: Cells) -> list[str]:
    """A line where a column of numbers is written otherwise than in training."""
    found, name = table.numbers_like(position, cells.format), table.names[position]
    known = np.flatnonzero(~np.isnan(found.values))
    if found.format == cells.format or not len(known):
        return []
    i = int(known[0])
    return [
        f"numbers: {name} written otherwise than in training, {table.columns[position][i]!r} is {found.values[i]:.12g}"
    ]
