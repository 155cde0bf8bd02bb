"""Tables of series: one row a step, read into the order of time, several series apart (floor 4).

What is out of order, comes twice or leaves gaps is told with its line and what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...errors import DataError, OptionError, suggestion
from ..table.delimited import MISSING_INPUT
from ..table.read import Table
from .cells import Cells, labels, numbers
from .timestamps import Stamps, clocks_change, read_stamps
from .windows import Timeline

MAX_DUPLICATE_TIMESTAMPS = 0.1  # of all rows: more that share their time mean that several series stand in one table


@dataclass
class Columns:
    """The columns of a table that are read. numbers: the target first. series: which series a row is of, or "".

    cells: how each is written, by name.
    """

    time: str
    numbers: list[str]
    categories: list[str]
    series: str = ""
    cells: dict[str, Cells] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [*filter(None, [self.time, self.series]), *self.numbers, *self.categories]

    def cells_of(self, name: str) -> Cells:
        return self.cells.get(name, Cells())


def read_lines(
    table: Table, columns: Columns, notes: list[str], form: str | None = None
) -> tuple[list[Timeline], Stamps, list[list[str]]]:
    """The series of a table, by name, their stamps as they were, and the texts of each category that `codes` count.

    Raises DataError for a column that is missing or cannot be read, and where one series has many rows of one time.
    """
    missing = [name for name in columns.names if name not in table.names]
    if missing:
        raise _missing(table, columns, missing)
    at = table.names.index
    stamps = read_stamps(table, at(columns.time), form)
    values = np.stack([numbers(table, at(name), columns.cells_of(name)) for name in columns.numbers], 1)
    coded = [codes_of(labels(table, at(name), columns.cells_of(name))) for name in columns.categories]
    codes = np.stack([code for code, _ in coded], 1) if coded else np.zeros((len(table), 0), dtype=np.int64)
    whole = Timeline(stamps.times, values, codes)
    lines, own = [], list[str]()
    for name, rows in _by_series(table, columns):
        part = Timeline(whole.times[rows], values[rows], codes[rows], name, rows)
        lines.append(in_order(table, columns, part, own))
    notes += first_few(own)
    return lines, stamps, [texts for _, texts in coded]


def _missing(table: Table, columns: Columns, missing: list[str]) -> DataError:
    """Of a file without columns of training; one without the target holds steps to come alone, perhaps."""
    target, many = columns.numbers[0], "s" * (len(missing) > 1)
    hint = suggestion(missing[0], table.names) or f" Add {'them' if many else 'it'}."
    if missing == [target] and hint.startswith(" Add"):
        return DataError(f"{table.path}: the target {target} is missing; expected past steps with {', '.join(columns.names)}, since a forecast "
                         f"goes on from them, and behind these any steps to come with {target} empty; the file has {table.listed()}; "
                         "put both into one file")  # fmt: skip
    return DataError(f"{table.path}: column{many} {', '.join(map(repr, missing))} {'are' if many else 'is'} missing; expected those of training: "
                     f"{', '.join(columns.names)}; the file has {table.listed()}.{hint}")  # fmt: skip


def first_few(notes: list[str]) -> list[str]:
    """The first two notes on several series, and how many more there are."""
    more = len(notes) - 2
    kind = notes[0].partition(":")[0] if notes else ""
    return notes if more < 2 else [*notes[:2], f"{kind}: {more:,} more notes like these, on other series"]


def codes_of(column: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The codes (L,) of a column of texts, -1 where missing, and the texts that they count, in order."""
    texts = sorted({text for text in column.tolist() if text is not None and text.lower() not in MISSING_INPUT})
    lookup: dict[str | None, int] = {text: i for i, text in enumerate(texts)}
    return np.array([lookup.get(text, -1) for text in column.tolist()], dtype=np.int64), texts


def _by_series(table: Table, columns: Columns) -> list[tuple[str, np.ndarray]]:
    """The rows (L,) of each series, in the order in which they first come."""
    series = columns.series
    if not series:
        return [("", np.arange(len(table)))]
    column = labels(table, table.names.index(series), columns.cells_of(series)).tolist()
    gone = next((i for i, name in enumerate(column) if name is None), None)
    if gone is not None:
        raise DataError(f"{table.where(gone)}: {series} is missing, which says which series a row is of; expected a name in every row; "
                        "fill it in, or leave the row out")  # fmt: skip
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(column):
        rows.setdefault(name, []).append(i)
    return [(name, np.array(own)) for name, own in rows.items()]


def has_twins(table: Table, series: int, time: int, cells: Cells) -> bool:
    """Whether two rows that differ in the name of their series have one time once `cells` makes the names one."""
    times = table.columns[time].tolist()
    own = set(zip(times, table.columns[series].tolist(), strict=True))
    return len(set(zip(times, labels(table, series, cells).tolist(), strict=True))) < len(own)


def in_order(table: Table, columns: Columns, line: Timeline, notes: list[str]) -> Timeline:
    """Steps sorted by time, without copies of another; those that share a time become their mean, unless they are many."""
    of = f"{columns.series} {line.name}, " if columns.series else ""
    copies = _copies(table, line)
    if len(copies):
        place = line_told(table, line.rows[copies[0]])
        notes.append(f"rows: {of}{len(copies):,} repeat another of the same time, left out (first at {place})")
        line = line.take(np.setdiff1d(np.arange(len(line)), copies))
    back = np.flatnonzero(np.diff(line.times) < 0)
    if len(back):
        how = "newest first" if len(back) == len(line) - 1 else "not in the order of time"
        notes.append(f"rows: {of}{how}; sorted (first at {line_told(table, line.rows[back[0] + 1])})")
    unique, first, at, counts = np.unique(line.times, return_index=True, return_inverse=True, return_counts=True)
    duplicates = len(line) - len(unique)
    if not duplicates:
        return line.take(np.argsort(line.times, kind="stable"))
    where = int(line.rows[np.flatnonzero(counts[at] > 1)[1]])
    advice = separating_column(table, columns, line)
    if duplicates > MAX_DUPLICATE_TIMESTAMPS * len(line):
        raise _several(table, columns, line, where, duplicates, advice)
    hint = f"; if they are several series: --series {advice}" if advice else ""
    saving = ", as when daylight saving ends" if clocks_change(unique[counts > 1]) else ""
    notes.append(
        f"rows: {of}{duplicates:,} with the time of another ({line_told(table, where)}){saving}; their mean is taken{hint}"
    )
    present = ~np.isnan(line.values)
    sums, present_counts = np.zeros((len(unique), present.shape[1])), np.zeros((len(unique), present.shape[1]))
    np.add.at(sums, at, np.where(present, line.values, 0))
    np.add.at(present_counts, at, present)
    means = np.where(present_counts > 0, sums / np.maximum(present_counts, 1), np.nan)
    return Timeline(unique, means, line.codes[first], line.name, line.rows[first])


def _copies(table: Table, line: Timeline) -> np.ndarray:
    """The steps (int64) whose row is an earlier one again, in all columns of the table."""
    _, at, counts = np.unique(line.times, return_inverse=True, return_counts=True)
    seen: set[tuple[str | None, ...]] = set()
    copies = []
    for i in np.flatnonzero(counts[at] > 1).tolist():
        row = tuple(column[line.rows[i]] for column in table.columns)
        if row in seen:
            copies.append(i)
        seen.add(row)
    return np.array(copies, dtype=np.int64)


def line_told(table: Table, row: int) -> str:
    """`line 17`, without the file's name."""
    return table.where(int(row)).rpartition(", ")[2]


def _several(
    table: Table, columns: Columns, line: Timeline, where: int, duplicates: int, advice: str | None
) -> DataError:
    if columns.series:
        return DataError(f"{table.where(where)}: {duplicates:,} of {len(line):,} rows of {columns.series} {line.name} have a time that another "
                         "has; expected one row for each time in each series; leave the others out, or choose another --series")  # fmt: skip
    to_do = f"column {advice} tells them apart: write --series {advice}" if advice else "give them one at a time"
    return DataError(f"{table.where(where)}: {duplicates:,} of {len(line):,} rows have a time that another has, as if there were several "
                     f"series; expected one row for each; {to_do}")  # fmt: skip


def separating_column(table: Table, columns: Columns, line: Timeline) -> str | None:
    """The column of fewest values that, with the time, no two rows share: it tells several series apart."""
    found = []
    stamps = np.unique(line.times, return_inverse=True)[1]
    for name, column in zip(table.names, table.columns, strict=True):
        if name in (columns.time, columns.series, columns.numbers[0]):
            continue
        codes = codes_of(column[line.rows])[0]
        count = int(codes.max()) + 1
        if 1 < count <= len(line) // 4 and len(np.unique(stamps * (count + 1) + codes)) == len(line):
            found.append((count, name))
    return min(found)[1] if found else None


def column_named(table: Table, column: str | int, option: str, others: dict[int, str]) -> int:
    """The position of a column that an option names. Raises OptionError where it is one of `others`: position -> what it is."""
    position = table.position(column, option)
    if position in others:
        raise OptionError(f"{option} {column}: it is {others[position]}; expected another column; choose one")
    return position
