"""The preprocessor of a series: windows of past steps, standardised, and the number that came next (floor 4).

Also here: the data module of a table whose rows follow one another in time. A window holds nothing that was not known
before the step it predicts: a missing value is the last one before it, statistics are those of the training part, and of
the step itself there is only its date. Training comes first, then validation, then test; a window may reach back into the
part before.

Shapes: L rows of the table, C columns of numbers (the target first), T steps in a window, F features, N examples.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from ...errors import DataError, OptionError, suggestion
from ...files import Json
from ..base import Source
from ..files import sha256
from ..input_spec import SeriesSpec
from ..problem import DataModule, Examples, Inputs, Preprocessor, RawExample, plain_fields
from ..table.delimited import MISSING_INPUT
from ..table.read import Table, check_finite
from ..table.read_options import ReadOptions
from .timestamps import Clock, fit_clock, read_times

WINDOW = 30
YEAR = 365.2425  # days
CYCLES = {"year": YEAR, "week": 7.0, "day": 1.0}  # in days
HARMONICS = 2  # sines and cosines of each cycle
SHARES = (0.8, 0.1)  # of the steps, for training and validation, where the data are no whole years
YEARS = 4  # from so many years on, the last one is the test part and the one before it validation
STEPS_A_YEAR = 50  # but only where a year has so many steps
LEAST_STEPS = 20  # to learn from, beside the first window
FEW_STRAYS = 0.05  # so little text in a column of numbers is taken for missing
MAX_DUPLICATE_TIMESTAMPS = 0.1  # of all rows: more that share their time mean that several series stand in one table


@dataclass
class Column:
    """A column of numbers. missing_indicator: whether training had missing values, so that a mark of them stands beside it."""

    name: str
    mean: float
    std: float
    missing_indicator: bool


@dataclass
class Timeline:
    """Rows in the order of time: times (L,), values (L, C) float64, NaN where missing."""

    times: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.times)


class SlidingWindows:
    """Overlapping windows of features as an array float32 (N, T, F) that is a view of the rows (L, F): a copy would be T times
    as large."""

    def __init__(self, features: np.ndarray, window: int, begins: np.ndarray) -> None:
        self.features, self.window, self.begins = features, window, begins
        self.every = np.lib.stride_tricks.sliding_window_view(features, window, axis=0).transpose(0, 2, 1)  # a view
        self.shape = (len(begins), window, features.shape[1])
        self.dtype, self.ndim = features.dtype, 3

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Key: of the first axis, or of several."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        return self.every[(self.begins[first], *rest)]

    def __array__(self, dtype: np.typing.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def take(self, rows: np.ndarray) -> SlidingWindows:
        """The windows at `rows` (int64)."""
        return SlidingWindows(self.features, self.window, self.begins[rows])


@dataclass
class SeriesPreprocessor(Preprocessor[Timeline]):
    """How windows are made. columns: of numbers, the target first. cycles: keys of CYCLES, encoded for the step to predict."""

    kind: ClassVar[str] = "series"
    task: ClassVar[str] = "regression"  # type: ignore[misc]
    classes: ClassVar[None] = None  # type: ignore[misc]

    header: bool
    target_name: str
    clock: Clock
    window: int
    columns: list[Column]
    cycles: list[str]
    read_options: ReadOptions = field(
        default_factory=ReadOptions
    )  # how new files are to be read, as that of training was

    @property
    def needed(self) -> list[str]:
        """The columns that a table must have for a forecast."""
        return [self.clock.name, *(column.name for column in self.columns)]

    def input_spec(self) -> SeriesSpec:
        """T steps of F features."""
        return SeriesSpec(self.window, len(self.input_names()))

    def input_names(self) -> list[str]:
        """What each of the F features of a step is; the calendar's are those of the step after it."""
        marks = [f"{column.name} is missing" for column in self.columns if column.missing_indicator]
        waves = [f"{wave} {k} of the {cycle}" for cycle in self.cycles for k in range(1, HARMONICS + 1) for wave in ("sine", "cosine")]  # fmt: skip
        return [*(column.name for column in self.columns), *marks, *waves]

    def encode(self, raw: Timeline) -> Inputs:
        """{"series": SlidingWindows (L - T + 1, T, F)}: window i ends with step i + T - 1 and predicts the one after it."""
        return {"series": SlidingWindows(self._features(raw), self.window, np.arange(len(raw) - self.window + 1))}

    def _features(self, raw: Timeline) -> np.ndarray:
        """(L, F) float32: columns, marks of gaps, and the calendar of the step that comes next."""
        missing = np.isnan(raw.values)
        means, stds = (np.array([getattr(column, name) for column in self.columns]) for name in ("mean", "std"))
        scaled = (self.filled(raw) - means) / stds  # (L, C)
        marks = missing[:, [column.missing_indicator for column in self.columns]]
        upcoming = np.append(raw.times[1:], self.clock.after(raw.times[-1]))
        waves = calendar(upcoming, self.cycles)
        return np.concatenate([scaled, marks, waves], 1).astype(np.float32)

    def filled(self, raw: Timeline) -> np.ndarray:
        """values (L, C), missing ones replaced by the last before them, or by the mean of training where there is none."""
        present = ~np.isnan(raw.values)
        at = np.maximum.accumulate(np.where(present, np.arange(len(raw))[:, None], -1))  # (L, C)
        means = [column.mean for column in self.columns]
        return np.where(at < 0, means, np.take_along_axis(raw.values, np.maximum(at, 0), 0))

    def encode_target(self, raw: Timeline) -> np.ndarray:
        """float32 (L - T,): the standardised target after each window but the last; NaN where it is missing."""
        return ((raw.values[self.window :, 0] - self.columns[0].mean) / self.columns[0].std).astype(np.float32)

    def target_rows(self, raw: Timeline) -> np.ndarray:
        """The rows (N,) that can be predicted: with a window before them and a target."""
        return self.window + np.flatnonzero(~np.isnan(raw.values[self.window :, 0]))

    def examples(self, raw: Timeline) -> Examples:
        """An example for each row that can be predicted."""
        at = self.target_rows(raw) - self.window
        return Examples({"series": self.encode(raw)["series"].take(at)}, self.encode_target(raw)[at])

    def decode(self, output: np.ndarray) -> np.ndarray:
        """Standardised numbers in the target's own units, float64."""
        return np.asarray(output, dtype=np.float64) * self.columns[0].std + self.columns[0].mean

    def read(self, table: Table) -> Timeline:
        """The rows of another table, in order. Raises DataError for a column that is missing or cannot be read."""
        missing = [name for name in self.needed if name not in table.names]
        if missing:
            hint = suggestion(missing[0], table.names) or " Add it."
            raise DataError(f"{table.path}: column {missing[0]!r} is missing; expected those of training: {', '.join(self.needed)}; "
                            f"the file has {table.listed()}.{hint}")  # fmt: skip
        positions = [table.names.index(column.name) for column in self.columns]
        times, _ = read_times(table, table.names.index(self.clock.name), self.clock.form)
        return in_order(table, times, np.stack([_numbers(table, at) for at in positions], 1), [])

    def to_json(self) -> dict[str, Json]:
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_json(cls, json: dict[str, Json]) -> SeriesPreprocessor:
        fields = plain_fields(json)
        fields["clock"] = Clock(**fields["clock"])
        fields["columns"] = [Column(**column) for column in fields["columns"]]
        fields["read_options"] = ReadOptions(**fields.get("read_options", {}))
        return cls(**fields)


def calendar(times: np.ndarray, cycles: list[str]) -> np.ndarray:
    """(L, 2 * HARMONICS * cycles): sine and cosine of each harmonic of each cycle, at times (L,) in days."""
    waves = [wave(2 * np.pi * k * times / CYCLES[c]) for c in cycles for k in range(1, HARMONICS + 1) for wave in (np.sin, np.cos)]  # fmt: skip
    return np.stack(waves, 1) if waves else np.zeros((len(times), 0))


# ---- from a table to a data module --------------------------------------------------------------------------------------


def series_module(source: Source, table: Table, target: int, drop: list[int]) -> DataModule:
    """The data module of a table; the option `time_column` names its column of times, `lookback` says how many past steps to read.

    target, drop: positions of columns. Raises DataError or OptionError with the file, line or option, and what to do.
    """
    options = source.options
    time = table.position(options["time_column"], "time_column:")
    window = options.get("lookback", WINDOW)
    if time == target:
        raise OptionError(
            f"time_column: {options['time_column']}; it is the target; expected the column that says when a row was; choose another"
        )
    if options.get("task", "regression") != "regression":
        raise OptionError(
            f"task: {options['task']}; a series is asked for its next number; expected regression; leave it out, or the time"
        )
    if not isinstance(window, int) or window < 1:
        raise OptionError(f"lookback: {window!r}; expected a whole number of steps from 1; write {WINDOW}")
    notes: list[str] = []
    times, form = read_times(table, time)
    names, values = _columns(table, target, {time, *drop}, notes)
    timeline = in_order(table, times, values, notes)
    if len(timeline) < window + LEAST_STEPS:
        raise _too_short(table, timeline, window)
    clock = fit_clock(table.names[time], form, timeline.times)
    notes.append(_spacing_note(timeline, clock))
    ends = _ends(timeline, clock)
    if ends[0] < window + LEAST_STEPS:
        raise _too_short(table, timeline, window)
    preprocessor = _fit(table, names, timeline, ends[0], clock, window, notes)
    timeline = Timeline(
        timeline.times, timeline.values[:, [names.index(column.name) for column in preprocessor.columns]]
    )
    every, rows = preprocessor.examples(timeline), preprocessor.target_rows(timeline)
    windows: Any = every.inputs["series"]
    bounds = [0, *np.searchsorted(rows, ends).tolist(), len(rows)]
    splits, raw = [], dict[str, RawExample]()
    for split, (start, end) in zip(("train", "validation", "test"), pairwise(bounds), strict=True):
        if start == end:
            raise DataError(f"{table.path}: {preprocessor.target_name} is missing in all of the {split} part; expected values in training, "
                            "validation and test; fill them, or give more rows")  # fmt: skip
        splits.append(Examples({"series": windows.take(np.arange(start, end))}, every.target[start:end]))
        raw[split] = _RawSteps(preprocessor, timeline, rows[start:end])
        first, last = (clock.text(timeline.times[row]) for row in (rows[start], rows[end - 1]))
        notes.append(f"{split}: {first} to {last}, {end - start:,} steps to be predicted")
    missing = int(np.isnan(timeline.values[:, 0]).sum())
    if missing:
        notes.append(
            f"{preprocessor.target_name}: {missing:,} missing; these are not predicted, and windows hold the last value before them"
        )
    train, validation, test = splits
    return DataModule(
        source.name, "series", "regression", preprocessor, train, validation, test, notes, sha256([table.path]), source.record, raw
    )  # fmt: skip


def _too_short(table: Table, timeline: Timeline, window: int) -> DataError:
    return DataError(f"{table.path}: {len(timeline):,} steps; expected {LEAST_STEPS} to learn from beside a window of {window}, and some to "
                     "validate and test on; give more rows, or a smaller --lookback")  # fmt: skip


class _RawSteps:
    """Example i of a split before encoding: its time, the last values before it, and the target."""

    def __init__(self, preprocessor: SeriesPreprocessor, timeline: Timeline, rows: np.ndarray) -> None:
        self.preprocessor, self.timeline, self.rows = preprocessor, timeline, rows

    def __call__(self, i: int) -> dict[str, str]:
        row, values = int(self.rows[i]), self.timeline.values[:, 0]
        before = ", ".join(f"{value:.6g}" for value in values[max(0, row - 5) : row])
        name, clock = self.preprocessor.target_name, self.preprocessor.clock
        return {clock.name: clock.text(self.timeline.times[row]), f"{name} before": before, name: f"{values[row]:.6g}"}


def in_order(table: Table, times: np.ndarray, values: np.ndarray, notes: list[str]) -> Timeline:
    """Rows sorted by time; those that share one become their mean, unless they are many."""
    if (np.diff(times) < 0).any():
        notes.append("rows: not in the order of time; sorted")
    unique, at, counts = np.unique(times, return_inverse=True, return_counts=True)
    duplicates = len(times) - len(unique)
    if duplicates > MAX_DUPLICATE_TIMESTAMPS * len(times):
        first = int(np.flatnonzero(counts[at] > 1)[1])
        raise DataError(f"{table.where(first)}: {duplicates:,} of {len(times):,} rows have a time that another has, as if there were several "
                        "series; expected one row for each; give them one at a time")  # fmt: skip
    order = np.argsort(times, kind="stable")
    if not duplicates:
        return Timeline(times[order], values[order])
    notes.append(f"rows: {duplicates:,} with the time of another; their mean is taken")
    present = ~np.isnan(values)
    sums, present_counts = np.zeros((len(unique), values.shape[1])), np.zeros((len(unique), values.shape[1]))
    np.add.at(sums, at, np.where(present, values, 0))
    np.add.at(present_counts, at, present)
    return Timeline(unique, np.where(present_counts > 0, sums / np.maximum(present_counts, 1), np.nan))


def _columns(table: Table, target: int, others: set[int], notes: list[str]) -> tuple[list[str], np.ndarray]:
    """Names and values (L, C) of the columns of numbers, the target first."""
    chosen, columns = [table.names[target]], [_numbers(table, target)]
    for position, name in enumerate(table.names):
        if position in others or position == target:
            continue
        parsed = table.parsed(position)
        if parsed is None or len(parsed[1]) > FEW_STRAYS * len(table):
            notes.append(f"column {name}: no numbers, left out")
            continue
        check_finite(table, position)
        chosen.append(name)
        columns.append(parsed[0])
    return chosen, np.stack(columns, 1)


def _numbers(table: Table, position: int) -> np.ndarray:
    """A column of numbers (L,), NaN where missing; DataError with the line of the first text in it."""
    values, strays = table.numbers_and_strays(position)
    strays = np.array(
        [i for i in strays if str(table.columns[position][i]).lower() not in MISSING_INPUT], dtype=np.int64
    )
    if len(strays):
        i = int(strays[0])
        raise DataError(f"{table.where(i)}, column {table.names[position]}: {table.columns[position][i]!r} is not a number; expected one "
                        "in every row of a series; correct it, or leave it empty")  # fmt: skip
    check_finite(table, position)
    return values


def _spacing_note(line: Timeline, clock: Clock) -> str:
    """How far apart rows are, and where they are further."""
    if clock.months:
        months = np.round(np.diff(line.times) / (YEAR / 12))
        gaps, unit = np.flatnonzero(months > clock.months), f"{clock.months} month{'s' * (clock.months > 1)}"
    else:
        gaps = np.flatnonzero(np.diff(line.times) > 1.5 * clock.step)
        unit = _duration(clock.step) if clock.dates else f"{clock.step:.6g}"
    summary = f"{len(line):,} steps of {unit}, {clock.text(line.times[0])} to {clock.text(line.times[-1])}"
    if not len(gaps):
        return summary
    return f"{summary}; {len(gaps):,} gap{'s' * (len(gaps) > 1)}, the first after {clock.text(line.times[gaps[0]])}, stepped over"


def _duration(days: float) -> str:
    for unit, length in (("day", 1.0), ("hour", 1 / 24), ("minute", 1 / 1440)):
        if days >= length * 0.999:
            return f"{days / length:.4g} {unit}{'s' * (days / length > 1.001)}"
    return f"{days * 86400:.4g} seconds"


def _ends(line: Timeline, clock: Clock) -> list[int]:
    """Where training and validation end: before the last two years of four at least, else by shares of the steps."""
    last = line.times[-1]
    years = (clock.after(last) - line.times[0]) / YEAR
    if clock.dates and years >= YEARS - 0.01 and len(line) / years >= STEPS_A_YEAR:
        back = lambda count: int(np.searchsorted(line.times, _years_before(last, count), "right"))
        return [back(2), back(1)]
    return [round(SHARES[0] * len(line)), round(sum(SHARES) * len(line))]


def _years_before(time: float, years: int) -> float:
    """The same date so many years earlier; the end of February where there is no 29th."""
    day = np.datetime64(int(np.floor(time)), "D")
    month = day.astype("datetime64[M]")
    moved = month - 12 * years
    length = ((moved + 1).astype("datetime64[D]") - moved.astype("datetime64[D]")).astype(int)
    within = min(int((day - month.astype("datetime64[D]")).astype(int)), int(length) - 1)
    return float(moved.astype("datetime64[D]").astype(int) + within) + time % 1


def _fit(
    table: Table, names: list[str], line: Timeline, end: int, clock: Clock, window: int, notes: list[str]
) -> SeriesPreprocessor:  # fmt: skip
    """What the training part, the steps before `end`, says of each column and of the calendar."""
    columns = []
    for k, name in enumerate(names):
        values = line.values[:end, k]
        present = values[~np.isnan(values)]
        std = float(present.std()) if len(present) else 0.0
        if std > 1e-290:
            columns.append(Column(name, float(present.mean()), std, bool(len(present) < len(values))))
        elif k == 0:
            raise DataError(f"{table.path}: the target {name} is the same, or missing, in all of the training part; expected values "
                            "that differ; choose another --target")  # fmt: skip
        else:
            notes.append(f"column {name}: the same in all of the training part, left out")
    present = ~np.isnan(line.values[:end, 0])
    cycles = _cycles(line.times[:end][present], line.values[:end, 0][present], clock)
    inputs = ", ".join([*(column.name for column in columns), *(f"the time of the {cycle}" for cycle in cycles)])
    notes.append(f"inputs: the last {window} steps of {inputs}")
    return SeriesPreprocessor(table.header, names[0], clock, window, columns, cycles)


def _cycles(times: np.ndarray, target: np.ndarray, clock: Clock) -> list[str]:
    """Cycles worth telling: they hold four steps at least, come twice or nearly, and what is shorter than a year shows in the data."""
    span = times[-1] - times[0]
    able = [
        c for c, length in CYCLES.items() if clock.dates and 4 * clock.step <= length * 1.01 and span >= 1.9 * length
    ]
    return [cycle for cycle in able if cycle == "year" or _shows(cycle, times[1:], np.diff(target))]


def _shows(cycle: str, times: np.ndarray, changes: np.ndarray) -> bool:
    """Whether a cycle explains more of the target's changes than chance would, by four deviations of what chance explains."""
    waves = np.column_stack([np.ones(len(times)), calendar(times, [cycle])])
    waves, free = waves - waves.mean(0), waves.shape[1] - 1
    centred = changes - changes.mean()
    fitted = waves @ np.linalg.lstsq(waves, centred, rcond=None)[0]
    return bool((fitted @ fitted) * len(times) > (free + 4 * np.sqrt(2 * free)) * (centred @ centred))
