"""The preprocessor of series: windows of past steps, standardised, and the number that came next (floor 4).

A window holds nothing that was not known before the step it predicts: a missing value is the last one before it, statistics
are those of the training part, and of the step itself there is only its date, and the columns that the user says are known
ahead. `load.py` makes a data module, `read.py` reads tables.

Shapes: L steps of a series, C columns of numbers (the target first, those known ahead last), G columns of categories, T steps
in a window, F features, N examples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from ...errors import DataError
from ...files import Json
from ..input_spec import SeriesSpec
from ..problem import Examples, Inputs, Parts, Preprocessor, plain_fields
from ..table.findings import shown_cell
from ..table.number_format import PLAIN, NumberFormat
from ..table.read import Table
from ..table.read_options import ReadOptions
from .cells import Cells, changed_notes
from .read import Columns, read_lines
from .spacing import check_stamps, check_step
from .timestamps import Clock, fit_clock, read_stamps
from .windows import SlidingWindows, Timeline, units_of

YEAR = 365.2425  # days
CYCLES = {"year": YEAR, "week": 7.0, "day": 1.0}  # in days
HARMONICS = 2  # sines and cosines of each cycle
CALENDAR = ("weekday", "month", "hour")  # what a category may follow from


@dataclass
class Column:
    """A column of numbers. missing_indicator: whether training had missing values, so that a mark of them stands beside it.

    format: how training wrote it. strays: whether it had text for gaps. sentinels: numbers that stand for gaps, such as -999.
    """

    name: str
    mean: float
    std: float
    missing_indicator: bool
    format: NumberFormat = PLAIN
    strays: bool = False
    sentinels: list[float] = field(default_factory=list)


@dataclass
class Category:
    """A column of categories. values: those of training. known: whether the user knows it ahead.

    calendar: "weekday", "month" or "hour" where the time tells the category; by: the code for each, -1 for one never seen.
    spellings: other ways in which a value may be written, by `labels.folded`.
    """

    name: str
    values: list[str]
    known: bool = False
    calendar: str = ""
    by: list[int] = field(default_factory=list)
    spellings: dict[str, str] = field(default_factory=dict)

    @property
    def ahead(self) -> bool:
        """Whether its value is there for the step to be predicted."""
        return self.known or bool(self.calendar)


@dataclass
class Scale:
    """One of several series: the mean and standard deviation of each column of numbers in its training part.

    folded: its name by `labels.folded`, where training had several spellings of it.
    """

    name: str
    means: list[float]
    stds: list[float]
    folded: str = ""


@dataclass
class SeriesPreprocessor(Preprocessor[Timeline]):
    """How windows are made.

    columns: of numbers, the target first. cycles: keys of CYCLES, encoded for the step to predict. known: columns of numbers
    known ahead. series_name: the column that says which of several series a row is of; scales: of each. season: steps.
    read_options: how new files are to be read, as that of training was.
    """

    kind: ClassVar[str] = "series"
    task: ClassVar[str] = "regression"  # type: ignore[misc]
    classes: ClassVar[None] = None  # type: ignore[misc]

    header: bool
    target_name: str
    clock: Clock
    window: int
    columns: list[Column]
    cycles: list[str]
    known: list[Column] = field(default_factory=list)
    categories: list[Category] = field(default_factory=list)
    series_name: str = ""
    scales: list[Scale] = field(default_factory=list)
    season: int = 0
    read_options: ReadOptions = field(default_factory=ReadOptions)

    @property
    def layout(self) -> Columns:
        """The columns that are read from a table."""
        numbers = [*self.columns, *self.known]
        cells = {column.name: Cells(column.format, column.strays, column.sentinels) for column in numbers}
        cells |= {each.name: Cells(spellings=each.spellings) for each in self.categories}
        cells[self.series_name] = Cells(spellings={scale.folded: scale.name for scale in self.scales if scale.folded})
        names = [column.name for column in numbers], [each.name for each in self.categories]
        return Columns(self.clock.name, *names, self.series_name, cells)

    @property
    def known_names(self) -> list[str]:
        """The columns that a forecast needs of the steps to come."""
        return [*(column.name for column in self.known), *(each.name for each in self.categories if each.known)]

    def input_spec(self) -> SeriesSpec:
        """T steps of F features."""
        return SeriesSpec(self.window, len(self.input_names()))

    def input_names(self) -> list[str]:
        """What each of the F features of a step is; the calendar's and the known ones are those of the step after it."""
        marks = [f"{column.name} is missing" for column in self.columns if column.missing_indicator]
        waves = [f"{wave} {k} of the {cycle}" for cycle in self.cycles for k in range(1, HARMONICS + 1) for wave in ("sine", "cosine")]  # fmt: skip
        known = [f"{column.name} of the next step" for column in self.known]
        ahead = [f"{each.name} of the next step is {value}" for each in self.categories if each.ahead for value in each.values]  # fmt: skip
        past = [f"{each.name} is {value}" for each in self.categories if not each.ahead for value in each.values]
        return [*(column.name for column in self.columns), *marks, *waves, *known, *ahead, *past]

    def column_parts(self) -> dict[str, Parts]:
        """Of one series: its columns with their whole windows; the calendar is the column of time. Of several, none: units differ."""
        if self.series_name:
            return {}
        marked = [column.name for column in self.columns if column.missing_indicator]
        waves = [self.clock.name] * (2 * HARMONICS * len(self.cycles))
        categories = [each for ahead in (True, False) for each in self.categories if each.ahead == ahead]
        owners = [column.name for column in self.columns] + marked + waves + [column.name for column in self.known]
        owners += [each.name for each in categories for _ in each.values]
        found: dict[str, list[tuple[str, int, int]]] = {}
        for place, name in enumerate(owners):
            found.setdefault(name, []).append(("series", 2, place))
        return dict(found)

    @property
    def held(self) -> np.ndarray:
        """The features (int64) that stay at their last known value in steps to come: other columns, and categories."""
        count = len(self.input_names())
        past = sum(len(each.values) for each in self.categories if not each.ahead)
        return np.array([*range(1, len(self.columns)), *range(count - past, count)], dtype=np.int64)

    @property
    def calendar(self) -> np.ndarray:
        """The features (int64) that are sines and cosines of the calendar."""
        first = len(self.columns) + len(self.marks)
        return np.arange(first, first + 2 * HARMONICS * len(self.cycles))

    @property
    def marks(self) -> dict[int, float]:
        """The marks of gaps by feature, with their value in steps to come: there is a target, and nothing else."""
        marked = [k for k, column in enumerate(self.columns) if column.missing_indicator]
        return {len(self.columns) + i: float(k > 0) for i, k in enumerate(marked)}

    # ---- encoding

    def encode(self, raw: Timeline | Sequence[Timeline]) -> Inputs:
        """{"series": SlidingWindows (N, T, F)}: of one series window i ends with step i + T - 1 and asks for the one after it.

        Of several series, the windows of one come after those of another, and none crosses from one into the next.
        """
        lines = [raw] if isinstance(raw, Timeline) else list(raw)
        features = np.concatenate([self.features(line) for line in lines])
        starts = np.cumsum([0, *(len(line) for line in lines)])
        counts = [max(0, len(line) - self.window + 1) for line in lines]
        begins = np.concatenate([start + np.arange(n) for start, n in zip(starts[:-1], counts, strict=True)])
        units = None
        if self.series_name:
            own = [self.scale(line) for line in lines]
            units = np.repeat([(means[0], stds[0]) for means, stds in own], counts, axis=0).reshape(-1, 2)
        return {
            "series": SlidingWindows(features, self.window, begins, units, np.repeat(starts[:-1], counts), self.season)
        }

    def scale(self, raw: Timeline) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (C,) of each column: of one of several series its own, also where training had it not."""
        every = (*self.columns, *self.known)
        means, stds = (np.array([getattr(column, name) for column in every]) for name in ("mean", "std"))
        if not self.series_name:
            return means, stds
        found = next((scale for scale in self.scales if scale.name == raw.name), None)
        if found is not None:
            return np.array(found.means), np.array(found.stds)
        return own_scale(raw.values, means, stds)

    def features(self, raw: Timeline) -> np.ndarray:
        """(L, F) float32: columns, marks of gaps, the calendar and what is known of the step that comes next, categories."""
        missing, count = np.isnan(raw.values), len(self.columns)
        means, stds = self.scale(raw)
        scaled = (self.filled(raw) - means) / stds  # (L, C)
        marks = missing[:, [k for k, column in enumerate(self.columns) if column.missing_indicator]]
        upcoming = np.append(raw.times[1:], self.clock.after(raw.times[-1]))
        parts = [scaled[:, :count], marks, calendar(upcoming, self.cycles), _next(scaled[:, count:])]
        codes = raw.codes if raw.codes.shape[1] else np.full((len(raw), len(self.categories)), -1)
        for k, each in enumerate(self.categories):
            if each.ahead:
                parts.append(one_hot(self._codes_ahead(each, upcoming, codes[:, k]), len(each.values)))
        parts += [one_hot(codes[:, k], len(each.values)) for k, each in enumerate(self.categories) if not each.ahead]
        return np.concatenate(parts, 1).astype(np.float32)

    def _codes_ahead(self, each: Category, upcoming: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """The codes (L,) of the step that comes next: from its date, or as they stand in the table."""
        if each.calendar:
            return np.array(each.by)[calendar_keys(self.clock, upcoming, each.calendar)]
        return _next(codes)

    def filled(self, raw: Timeline) -> np.ndarray:
        """values (L, C), missing ones replaced by the last before them, or by the mean of training where there is none."""
        present = ~np.isnan(raw.values)
        at = np.maximum.accumulate(np.where(present, np.arange(len(raw))[:, None], -1))  # (L, C)
        return np.where(at < 0, self.scale(raw)[0], np.take_along_axis(raw.values, np.maximum(at, 0), 0))

    def encode_target(self, raw: Timeline) -> np.ndarray:
        """float32 (L - T,): the standardised target after each window but the last; NaN where it is missing."""
        means, stds = self.scale(raw)
        return ((raw.values[self.window :, 0] - means[0]) / stds[0]).astype(np.float32)

    def target_rows(self, raw: Timeline) -> np.ndarray:
        """The rows (N,) that can be predicted: with a window before them and a target."""
        return self.window + np.flatnonzero(~np.isnan(raw.values[self.window :, 0]))

    def examples(self, raw: Timeline | Sequence[Timeline]) -> Examples:
        """An example for each row that can be predicted, of one series after another."""
        lines = [raw] if isinstance(raw, Timeline) else list(raw)
        windows: Any = self.encode(lines)["series"]
        chosen, targets, first = [], [], 0
        for line in lines:
            at = self.target_rows(line) - self.window
            chosen.append(first + at)
            targets.append(self.encode_target(line)[at])
            first += max(0, len(line) - self.window + 1)
        return Examples({"series": windows.take(np.concatenate(chosen))}, np.concatenate(targets))

    def decode(self, output: np.ndarray) -> np.ndarray:
        """Standardised numbers in the target's own units, float64; of several series, by the statistics of them all."""
        return np.asarray(output, dtype=np.float64) * self.columns[0].std + self.columns[0].mean

    def decode_for(self, output: np.ndarray, inputs: Sequence[Any]) -> np.ndarray:
        """Of several series, each example by the statistics of its own."""
        units = units_of(inputs)
        if units is None:
            return self.decode(output)
        return np.asarray(output, dtype=np.float64) * units[:, 1] + units[:, 0]

    # ---- reading

    def read(self, table: Table) -> Timeline:
        """The one series of another table. Raises DataError for a column that is missing or cannot be read."""
        return self.read_lines(table)[0]

    def read_lines(self, table: Table, notes: list[str] | None = None) -> list[Timeline]:
        """The series of another table, in order; what was found in it goes to `notes`.

        Raises DataError for a column that is missing or cannot be read, and for steps of another length than in training.
        """
        notes = [] if notes is None else notes
        lines, stamps, texts = read_lines(table, self.layout, notes, self.clock.order)
        check_stamps(table, self.clock, stamps)
        for line in lines:
            check_step(table, self._of(line), line, self.clock, notes)
        for column in (*self.columns, *self.known):
            notes += changed_notes(table, table.names.index(column.name), self.layout.cells_of(column.name))
        for k, each in enumerate(self.categories):
            codes = {value: code for code, value in enumerate(each.values)}
            lookup = np.array([codes.get(text, -1) for text in texts[k]] + [-1], dtype=np.int64)
            new = [text for text in texts[k] if text not in codes]
            if new:
                notes.append(f"labels: {each.name} {_some(new)} never seen in training, taken for missing")
            for line in lines:
                line.codes[:, k] = lookup[line.codes[:, k]]
        return lines

    def in_zone_of(self, table: Table) -> SeriesPreprocessor:
        """This preprocessor with a clock as the table's own: its time zone at the end, and where in a month its steps fall."""
        if self.clock.name not in table.names:
            return self
        stamps = read_stamps(table, table.names.index(self.clock.name), self.clock.order)
        clock, times = self.clock, np.unique(stamps.times)
        if stamps.zoned and clock.zoned:
            clock = replace(clock, offset=float(stamps.offsets[int(np.argmax(stamps.times))]))
        own = fit_clock(clock.name, stamps.form, times, stamps) if clock.months and len(times) > 2 else clock
        if own.months == clock.months:
            clock = replace(clock, late=own.late, weekdays=own.weekdays)
        return self if clock == self.clock else replace(self, clock=clock)

    def ahead(self, line: Timeline) -> int:
        """How many steps at the end of a series are those to come: without a target, where columns are known ahead."""
        if not self.known_names:
            return 0
        present = np.flatnonzero(~np.isnan(line.values[:, 0]))
        return len(line) - (int(present[-1]) + 1 if len(present) else 0)

    def extended(self, table: Table, line: Timeline, horizon: int) -> Timeline:
        """The series with `horizon` steps to come after its last; what is known of them is read from the rows for them.

        Raises DataError where those rows are not there, or not the steps that come next.
        """
        ahead = self.ahead(line)
        past = line.take(slice(0, len(line) - ahead))
        if not len(past):
            raise DataError(
                f"{table.path}: {self._of(line)}no row has a {self.target_name}; expected past steps to go on from; give them"
            )
        times = [past.times[-1]]
        for _ in range(horizon):
            times.append(self.clock.after(times[-1]))
        values = np.full((horizon, past.values.shape[1]), np.nan)
        codes = np.full((horizon, past.codes.shape[1]), -1, dtype=np.int64)
        if self.known_names:
            self._check_ahead(table, line, ahead, times[1:])
            count = len(self.columns)
            to_come = line.take(slice(len(past), len(past) + horizon))
            values[:, count:], codes = to_come.values[:, count:], to_come.codes
        return Timeline(
            np.append(past.times, times[1:]),
            np.vstack([past.values, values]),
            np.vstack([past.codes, codes]),
            line.name,
        )

    def long_enough(self, table: Table, lines: Sequence[Timeline]) -> tuple[list[Timeline], list[str]]:
        """The series that hold a window, and a line about those of several that do not. Raises DataError where none does."""
        sizes = [len(line) - self.ahead(line) for line in lines]
        kept = [line for line, size in zip(lines, sizes, strict=True) if size >= self.window]
        if not kept:
            raise DataError(f"{table.path}: {max(sizes):,} steps; expected {self.window} at least, the window that the network looks at; "
                            "give more rows")  # fmt: skip
        short = [line.name for line, size in zip(lines, sizes, strict=True) if size < self.window]
        shown = ", ".join(short[:5]) + ", ..." * (len(short) > 5)
        notes = (
            [
                f"series: {len(short):,} by {self.series_name} shorter than the window of {self.window}, left out: {shown}"
            ]
            if short
            else []
        )
        return kept, [*self.unseen_series(kept), *notes]

    def step_name(self, line: Timeline, row: int) -> str:
        """`2024-01-31`, or `north 2024-01-31` of one of several series."""
        return " ".join(filter(None, [line.name, self.clock.text(line.times[row])]))

    def unseen_series(self, lines: Sequence[Timeline]) -> list[str]:
        """A line about series that training had not."""
        names = {scale.name for scale in self.scales}
        new = [line.name for line in lines if line.name not in names] if self.series_name else []
        shown = ", ".join(new[:5]) + ", ..." * (len(new) > 5)
        return (
            [f"series: {len(new):,} by {self.series_name} that training had not, scaled by their own rows: {shown}"]
            if new
            else []
        )

    def _of(self, line: Timeline) -> str:
        return f"{self.series_name} {line.name}: " if self.series_name else ""

    def _check_ahead(self, table: Table, line: Timeline, ahead: int, times: Sequence[float]) -> None:
        """Raise DataError where rows for the steps to come are missing, at other times, or without a known value."""
        known, start = ", ".join(self.known_names), len(line) - ahead
        if ahead < len(times):
            came = (
                f"{ahead} row{'s' * (ahead != 1)} after {self.clock.text(line.times[start - 1])}"
                if ahead
                else "no row to come"
            )
            raise DataError(f"{table.path}: {self._of(line)}{came}; expected {len(times)}, with {self.clock.name} and {known} filled in and "
                            f"{self.target_name} empty, since {known} was said to be known ahead; add them, from "
                            f"{self.clock.text(times[ahead])} on")  # fmt: skip
        for k, time in enumerate(times):
            row, at = int(line.rows[start + k]), line.times[start + k]
            if abs(at - time) > 0.5 * self.clock.step:
                raise DataError(f"{table.where(row)}: the step to come is {self.clock.text(at)}; expected {self.clock.text(time)}, the one "
                                "after the row before it; put in the rows between")  # fmt: skip
            gone = [column.name for column, value in zip(self.known, line.values[start + k, len(self.columns) :], strict=True)
                    if np.isnan(value)]  # fmt: skip
            gone += [
                each.name
                for each in self.categories
                if each.known and table.columns[table.names.index(each.name)][row] is None
            ]
            if gone:
                raise DataError(
                    f"{table.where(row)}: {gone[0]} is missing; expected its value, which was said to be known ahead; fill it in"
                )

    def to_json(self) -> dict[str, Json]:
        return {"kind": self.kind, **asdict(self)}

    def encoding(self) -> dict[str, Json]:
        """Without the season, which baselines read, and how times and numbers are written, which older runs do not say."""
        fields = asdict(self)
        for column in (*fields["columns"], *fields["known"]):
            del column["format"]
            _without_empty(column, "strays", "sentinels")
        for category in fields["categories"]:
            _without_empty(category, "spellings")
        for scale in fields["scales"]:
            _without_empty(scale, "folded")
        del fields["season"]
        for name in ("template", "offset", "weekdays", "hours"):
            del fields["clock"][name]
        return {"kind": self.kind, **fields}

    @classmethod
    def from_json(cls, json: dict[str, Json]) -> SeriesPreprocessor:
        fields = plain_fields(json)
        fields["clock"] = Clock(**fields["clock"])
        parts: dict[str, Callable[..., Any]] = {
            "columns": _column,
            "known": _column,
            "categories": Category,
            "scales": Scale,
        }
        for name, part in parts.items():
            fields[name] = [part(**each) for each in fields.get(name, [])]
        fields["read_options"] = ReadOptions(**fields.get("read_options", {}))
        return cls(**fields)


def _without_empty(fields: dict[str, Any], *names: str) -> None:
    """Leave out what says nothing, as runs of an earlier version do."""
    for name in names:
        if not fields[name]:
            del fields[name]


def _some(texts: Sequence[str]) -> str:
    """`'a', 'b' and 3 more`."""
    return ", ".join(map(shown_cell, texts[:3])) + f" and {len(texts) - 3:,} more" * (len(texts) > 3)


def _column(**fields: Any) -> Column:
    """Runs of an earlier version do not say how numbers were written."""
    return Column(**{**fields, "format": NumberFormat(**fields.get("format", {}))})


def own_scale(values: np.ndarray, means: np.ndarray, stds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (C,) of the columns of one series, values (L, C); `means` and `stds` where it has none."""
    own_means, own_stds = means.copy(), stds.copy()
    for k, column in enumerate(values.T):
        present = column[~np.isnan(column)]
        if len(present):
            own_means[k] = present.mean()
            own_stds[k] = present.std() if present.std() > 1e-9 * max(1e-290, np.abs(present).max()) else stds[k]
    return own_means, own_stds


def _next(rows: np.ndarray) -> np.ndarray:
    """Each row's successor; the last is its own."""
    return np.concatenate([rows[1:], rows[-1:]])


def one_hot(codes: np.ndarray, count: int) -> np.ndarray:
    """(L, count): a 1 at each code, none at -1."""
    return codes[:, None] == np.arange(count)


def calendar_keys(clock: Clock, times: np.ndarray, calendar: str) -> np.ndarray:
    """The weekday, month or hour (L,) of times, from 0, as clocks on the wall show it."""
    local = clock.local(times) + 1e-7  # so that rounding does not end in the hour before
    if calendar == "weekday":
        return (np.floor(local).astype(np.int64) + 3) % 7
    if calendar == "hour":
        return np.floor((local % 1) * 24).astype(np.int64)
    return np.floor(local).astype(np.int64).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12


def calendar(times: np.ndarray, cycles: list[str]) -> np.ndarray:
    """(L, 2 * HARMONICS * cycles): sine and cosine of each harmonic of each cycle, at times (L,) in days."""
    waves = [wave(2 * np.pi * k * times / CYCLES[c]) for c in cycles for k in range(1, HARMONICS + 1) for wave in (np.sin, np.cos)]  # fmt: skip
    return np.stack(waves, 1) if waves else np.zeros((len(times), 0))
