"""Tables of series: one row a step, read into the order of time, several series apart (floor 4).

What is out of order, comes twice or leaves gaps is told with its line and what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...errors import DataError, OptionError, suggestion
from ..table.delimited import MISSING_INPUT
from ..table.number_format import NumberFormat
from ..table.read import Table, check_finite
from .timestamps import REGULAR, SECONDS, WEEKDAYS, Clock, Stamps, read_stamps
from .windows import Timeline

MAX_DUPLICATE_TIMESTAMPS = 0.1  # of all rows: more that share their time mean that several series stand in one table
IRREGULAR = 0.1  # of all steps: more that are of other lengths are told as irregular


@dataclass
class Columns:
    """The columns of a table that are read. numbers: the target first. series: which series a row is of, or "".

    formats: how training wrote each column of numbers, by name.
    """

    time: str
    numbers: list[str]
    categories: list[str]
    series: str = ""
    formats: dict[str, NumberFormat] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [*filter(None, [self.time, self.series]), *self.numbers, *self.categories]


def read_lines(
    table: Table, columns: Columns, notes: list[str], form: str | None = None
) -> tuple[list[Timeline], Stamps, list[list[str]]]:
    """The series of a table, by name, their stamps as they were, and the texts of each category that `codes` count.

    Raises DataError for a column that is missing or cannot be read, and where one series has many rows of one time.
    """
    missing = [name for name in columns.names if name not in table.names]
    if missing:
        hint = suggestion(missing[0], table.names) or " Add it."
        raise DataError(f"{table.path}: column {missing[0]!r} is missing; expected those of training: {', '.join(columns.names)}; "
                        f"the file has {table.listed()}.{hint}")  # fmt: skip
    at = table.names.index
    stamps = read_stamps(table, at(columns.time), form)
    values = np.stack([numbers(table, at(name), columns.formats.get(name)) for name in columns.numbers], 1)
    coded = [codes_of(table.columns[at(name)]) for name in columns.categories]
    codes = np.stack([code for code, _ in coded], 1) if coded else np.zeros((len(table), 0), dtype=np.int64)
    whole = Timeline(stamps.times, values, codes)
    lines, own = [], list[str]()
    for name, rows in _by_series(table, columns.series):
        part = Timeline(whole.times[rows], values[rows], codes[rows], name, rows)
        lines.append(in_order(table, columns, part, own))
    notes += first_few(own)
    return lines, stamps, [texts for _, texts in coded]


def first_few(notes: list[str]) -> list[str]:
    """The first two notes on several series, and how many more there are."""
    more = len(notes) - 2
    return notes if more < 2 else [*notes[:2], f"rows: {more:,} more notes like these, on other series"]


def codes_of(column: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The codes (L,) of a column of texts, -1 where missing, and the texts that they count, in order."""
    texts = sorted({text for text in column.tolist() if text is not None})
    lookup: dict[str | None, int] = {text: i for i, text in enumerate(texts)}
    return np.array([lookup.get(text, -1) for text in column.tolist()], dtype=np.int64), texts


def _by_series(table: Table, series: str) -> list[tuple[str, np.ndarray]]:
    """The rows (L,) of each series, in the order in which they first come."""
    if not series:
        return [("", np.arange(len(table)))]
    column = table.columns[table.names.index(series)].tolist()
    gone = next((i for i, name in enumerate(column) if name is None), None)
    if gone is not None:
        raise DataError(f"{table.where(gone)}: {series} is missing, which says which series a row is of; expected a name in every row; "
                        "fill it in, or leave the row out")  # fmt: skip
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(column):
        rows.setdefault(name, []).append(i)
    return [(name, np.array(own)) for name, own in rows.items()]


def in_order(table: Table, columns: Columns, line: Timeline, notes: list[str]) -> Timeline:
    """Steps sorted by time; those that share one become their mean, unless they are many."""
    times = line.times
    back = np.flatnonzero(np.diff(times) < 0)
    of = f"{columns.series} {line.name}, " if columns.series else ""
    if len(back):
        notes.append(f"rows: {of}not in the order of time; sorted (first at {_line(table, line.rows[back[0] + 1])})")
    unique, first, at, counts = np.unique(times, return_index=True, return_inverse=True, return_counts=True)
    duplicates = len(times) - len(unique)
    if not duplicates:
        order = np.argsort(times, kind="stable")
        return Timeline(times[order], line.values[order], line.codes[order], line.name, line.rows[order])
    where = int(line.rows[np.flatnonzero(counts[at] > 1)[1]])
    advice = separating_column(table, columns, line)
    if duplicates > MAX_DUPLICATE_TIMESTAMPS * len(times):
        raise _several(table, columns, line, where, duplicates, advice)
    hint = f"; if they are several series: --series {advice}" if advice else ""
    notes.append(
        f"rows: {of}{duplicates:,} with the time of another ({_line(table, where)}); their mean is taken{hint}"
    )
    present = ~np.isnan(line.values)
    sums, present_counts = np.zeros((len(unique), present.shape[1])), np.zeros((len(unique), present.shape[1]))
    np.add.at(sums, at, np.where(present, line.values, 0))
    np.add.at(present_counts, at, present)
    means = np.where(present_counts > 0, sums / np.maximum(present_counts, 1), np.nan)
    return Timeline(unique, means, line.codes[first], line.name, line.rows[first])


def _line(table: Table, row: int) -> str:
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


def numbers(table: Table, position: int, form: NumberFormat | None = None) -> np.ndarray:
    """A column of numbers (L,), NaN where missing; DataError with the line of the first text in it.

    form: how training wrote it.
    """
    if form is None:
        values, own = table.numbers_and_strays(position)
    else:
        found = table.numbers_like(position, form)
        values, own = found.values, found.strays
    strays = np.array([i for i in own if str(table.columns[position][i]).lower() not in MISSING_INPUT], dtype=np.int64)
    if len(strays):
        i = int(strays[0])
        raise DataError(f"{table.where(i)}, column {table.names[position]}: {table.columns[position][i]!r} is not a number; expected one{form.told if form else ''} "
                        "in every row of a series; correct it, or leave it empty")  # fmt: skip
    check_finite(table, position)
    return values


def column_named(table: Table, column: str | int, option: str, others: dict[int, str]) -> int:
    """The position of a column that an option names. Raises OptionError where it is one of `others`: position -> what it is."""
    position = table.position(column, option)
    if position in others:
        raise OptionError(f"{option} {column}: it is {others[position]}; expected another column; choose one")
    return position


# ---- notes -------------------------------------------------------------------------------------------------------------


def spacing_notes(table: Table, line: Timeline, clock: Clock, stamps: Stamps) -> list[str]:
    """How far apart the steps of a series are, where they are further, and what else its stamps do."""
    steps = np.diff(line.times)
    before = [] if clock.is_even else line.times[:-1].tolist()
    expected = (
        np.full(len(steps), clock.step) if clock.is_even else np.array([clock.after(time) - time for time in before])
    )
    far = np.flatnonzero(steps > REGULAR * np.maximum(expected, 1e-12))
    uneven = np.abs(steps - expected) > 0.05 * expected
    gaps = (
        f"; {len(far):,} gap{'s' * (len(far) > 1)}, the first after {clock.text(line.times[far[0]])}, stepped over"
        if len(far)
        else ""
    )
    notes = [
        f"dates: {len(line):,} steps of {step_text(clock)}, {clock.text(line.times[0])} to {clock.text(line.times[-1])}{gaps}"
    ]
    if uneven.mean() > IRREGULAR and not clock.months:
        i = int(np.flatnonzero(uneven)[0])
        notes.append(f"dates: irregular, {100 * uneven.mean():.0f}% of the steps are not {step_text(clock)} (first at "
                     f"{_line(table, line.rows[i + 1])}); forecasts step by that; bring rows to an even step")  # fmt: skip
    elif len(far):
        notes.append(f"dates: a gap before {_line(table, line.rows[far[0] + 1])}; a window reads on across it; add rows, the target "
                     "left empty, to keep the time")  # fmt: skip
    if clock.weekdays:
        never = ", ".join(name for i, name in enumerate(WEEKDAYS) if i not in clock.weekdays)
        notes.append(f"dates: none falls on {never}; forecasts skip these")
    if clock.hours and not clock.months:
        notes.append(f"dates: only at {len(clock.hours)} times of the day; forecasts skip the others")
    return notes + _zone_notes(clock, stamps)


def _zone_notes(clock: Clock, stamps: Stamps) -> list[str]:
    offsets = np.unique(stamps.offsets) if len(stamps.offsets) else np.zeros(1)
    names = [
        f"{'-' if offset < 0 else '+'}{round(abs(offset) * 1440) // 60:02}:{round(abs(offset) * 1440) % 60:02}"
        for offset in offsets
    ]
    last = names[int(np.searchsorted(offsets, clock.offset))] if clock.dates and len(stamps.offsets) else names[0]
    if len(offsets) > 1:
        return [
            f"dates: offsets {' and '.join(names)}, as with daylight saving; steps are counted in UTC, forecasts written with {last}"
        ]
    return [f"dates: time zone {last} is kept"] if offsets[0] else []


def step_text(clock: Clock) -> str:
    """`1 hour`, `3 months`, `1`."""
    if clock.months:
        return f"{clock.months} month{'s' * (clock.months > 1)}"
    return _duration(clock.step) if clock.dates else f"{clock.step:.6g}"


def _duration(days: float) -> str:
    for unit, length in (("day", 1.0), ("hour", 1 / 24), ("minute", 1 / 1440)):
        if days >= length * 0.999:
            return f"{days / length:.4g} {unit}{'s' * (days / length > 1.001)}"
    return f"{days * SECONDS:.4g} seconds"
