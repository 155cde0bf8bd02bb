"""A table of series as a data module: what its columns are, the split by time, and the statistics of training (floor 4).

Training comes first, then validation, then test; a window may reach back into the part before. Several series are cut at the
same times, and each is scaled by its own statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import DataError, OptionError
from ..base import OptionValue, Source
from ..description_text import shell_word
from ..files import sha256
from ..problem import SPLITS, DataModule, Examples
from ..table.findings import Findings
from ..table.infer import stand_for_gaps
from ..table.read import Table, check_finite
from .cells import Cells, label_cells, number_cells
from .preprocess import (
    CALENDAR,
    CYCLES,
    YEAR,
    Category,
    Column,
    Scale,
    SeriesPreprocessor,
    calendar,
    calendar_keys,
    own_scale,
)
from .read import Columns, codes_of, column_named, first_few, has_twins, read_lines
from .seasons import find_season
from .spacing import check_step, clock_of, spacing_notes
from .timestamps import Clock, Stamps
from .windows import Timeline

WINDOW = 30
SHARES = (0.8, 0.1)  # of the steps, for training and validation, where the data are no whole years
YEARS = 4  # from so many years on, the last one is the test part and the one before it validation
STEPS_A_YEAR = 50  # but only where a year has so many steps
LEAST_STEPS = 20  # to learn from, beside the first window
MOST_CATEGORIES = 30  # of a column of text; more are left out
LISTED = 5  # series that a note lists


@dataclass
class RawSteps:
    """Example i of a split before encoding: its time, the last values before it, and the target.

    lines: all series. owners, rows (N,): the series and the step that each example asks for.
    """

    preprocessor: SeriesPreprocessor
    table: Table
    lines: list[Timeline]
    owners: np.ndarray
    rows: np.ndarray

    def row_numbers(self) -> np.ndarray:
        """The row of the table that each example asks for, from 1: int64 (N,)."""
        starts = np.cumsum([0, *(len(line) for line in self.lines)])
        places = np.concatenate([line.rows for line in self.lines])[starts[self.owners] + self.rows]
        return self.table.row_numbers()[places]

    def __call__(self, i: int) -> dict[str, str]:
        line, row = self.lines[int(self.owners[i])], int(self.rows[i])
        values = line.values[:, 0]
        before = ", ".join(f"{value:.6g}" for value in values[max(0, row - 5) : row])
        name, clock = self.preprocessor.target_name, self.preprocessor.clock
        which = {self.preprocessor.series_name: line.name} if self.preprocessor.series_name else {}
        return {**which, clock.name: clock.text(line.times[row]), f"{name} before": before, name: f"{values[row]:.6g}"}


def series_module(source: Source, table: Table, target: int, drop: list[int]) -> DataModule:
    """The data module of a table; the option `time_column` names its column of times, `lookback` says how many past steps to
    read, `series` names the column that tells several series apart, and `known` those that are known ahead.

    target, drop: positions of columns. Raises DataError or OptionError with the file, line or option, and what to do.
    """
    window = _checked_window(source.options)
    notes: list[str] = []
    columns, known = _columns(table, target, drop, source.options, notes)
    lines, stamps, texts = read_lines(table, columns, notes)
    if known:
        of_lines: list[str] = []
        lines = [_without_steps_to_come(line, columns, of_lines) for line in lines]
        notes += first_few(of_lines)
    lines = _long_enough(table, columns, lines, window, notes)
    clock = clock_of(columns.time, lines, stamps)
    notes += _line_notes(table, columns, lines, clock, stamps)
    times = np.unique(np.concatenate([line.times for line in lines]))
    cuts = _cuts(times, clock)
    ends = [np.searchsorted(line.times, cuts).tolist() for line in lines]
    preprocessor, lines = _fit(table, columns, known, lines, ends, clock, window, texts, notes)
    splits, raw = _split(table, preprocessor, lines, ends, notes)
    train, validation, test = splits
    return DataModule(
        source.name, "series", "regression", preprocessor, train, validation, test, notes, sha256([table.path]), source.record, {**raw},
    )  # fmt: skip


def _checked_window(options: Mapping[str, OptionValue]) -> int:
    if options.get("task", "regression") != "regression":
        raise OptionError(
            f"task: {options['task']}; a series is asked for its next number; expected regression; leave it out, or the time"
        )
    window = options.get("lookback", WINDOW)
    if not isinstance(window, int) or window < 1:
        raise OptionError(f"lookback: {window!r}; expected a whole number of steps from 1; write {WINDOW}")
    return window


# ---- columns -----------------------------------------------------------------------------------------------------------


def _columns(
    table: Table, target: int, drop: list[int], options: Mapping[str, OptionValue], notes: list[str]
) -> tuple[Columns, list[str]]:
    """The columns to read, numbers known ahead last, and the names of all that are known ahead."""
    time = table.position(options["time_column"], "time_column:")
    if time == target:
        raise OptionError(
            f"time_column: {options['time_column']}; it is the target; expected the column that says when a row was; choose another"
        )
    taken = {time: "the column of times", target: "the target"}
    series = None
    if "series" in options:
        series = column_named(table, options["series"], "--series", taken)
        taken[series] = "the column of --series"
    known = [column_named(table, name, "--known", taken) for name in options.get("known", ())]
    past, ahead, categories = [table.names[target]], list[str](), list[str]()
    findings = Findings()
    cells = {table.names[target]: number_cells(table, target, findings)}
    for position, name in enumerate(table.names):
        if position in drop or position in taken:
            continue
        if _is_number(table, position):
            check_finite(table, position)
            (ahead if position in known else past).append(name)
            cells[name] = number_cells(table, position, findings)
        elif _is_category(table, position, position in known, notes):
            categories.append(name)
            cells[name] = label_cells(table, position, findings)
    names = [table.names[position] for position in known if position not in drop]
    columns = Columns(table.names[time], [*past, *ahead], categories, cells=cells)
    if series is not None:
        columns.series = table.names[series]
        cells[columns.series] = _series_cells(table, series, time, findings)
    notes += findings.notes()
    return columns, names


def _series_cells(table: Table, series: int, time: int, findings: Findings) -> Cells:
    """The spellings of the series' names; none where two that differ by case alone have steps of the same times."""
    told = Findings()
    found = label_cells(table, series, told, yes_no=False)
    if found.spellings and has_twins(table, series, time, found):
        findings.apart.extend(item.replace(" are ", " and ").replace(" is ", " and ") for item in told.merged)
        return Cells()
    findings.merged.extend(told.merged)
    findings.apart.extend(told.apart)
    return found


def _is_number(table: Table, position: int) -> bool:
    parsed = table.parsed(position)
    return parsed is not None and stand_for_gaps(
        table, position, parsed[1], parsed[0], table.options.is_exact(table.names[position])
    )


def _is_category(table: Table, position: int, known: bool, notes: list[str]) -> bool:
    name, count = table.names[position], len(codes_of(table.columns[position])[1])
    if 1 < count <= MOST_CATEGORIES:
        return True
    what = "no values" if count == 0 else "the same in all rows" if count == 1 else f"{count:,} different texts"
    if known:
        raise OptionError(
            f"--known {name}: {what}; expected numbers, or 2 to {MOST_CATEGORIES} categories; leave it out"
        )
    notes.append(f"columns: {name} left out, {what}")
    return False


# ---- series ------------------------------------------------------------------------------------------------------------


def _without_steps_to_come(line: Timeline, columns: Columns, notes: list[str]) -> Timeline:
    """A series up to its last target: rows behind it are for `pellucid predict`."""
    present = np.flatnonzero(~np.isnan(line.values[:, 0]))
    end = int(present[-1]) + 1 if len(present) else 0
    if end < len(line):
        of = f"{columns.series} {line.name}, " if columns.series else ""
        notes.append(
            f"rows: {of}{len(line) - end:,} steps to come, without {columns.numbers[0]}; pellucid predict reads them"
        )
    return line.take(slice(0, end))


def _long_enough(
    table: Table, columns: Columns, lines: list[Timeline], window: int, notes: list[str]
) -> list[Timeline]:
    """The series that are longer than a window."""
    if not columns.series:
        if len(lines[0]) < window + LEAST_STEPS:
            raise _too_short(table, len(lines[0]), window)
        return lines
    kept = [line for line in lines if len(line) > window]
    left_out = [line.name for line in lines if len(line) <= window]
    if left_out:
        shown = ", ".join(left_out[:LISTED]) + ", ..." * (len(left_out) > LISTED)
        notes.append(
            f"rows: {len(left_out):,} of {len(lines):,} series left out, no longer than --lookback {window}: {shown}"
        )
    if not kept:
        raise _too_short(table, max(map(len, lines)), window, " in the longest series")
    return kept


def _too_short(table: Table, steps: int, window: int, of: str = "") -> DataError:
    return DataError(f"{table.path}: {steps:,} steps{of}; expected {LEAST_STEPS} to learn from beside a window of {window}, and some to "
                     "validate and test on; give more rows, or a smaller --lookback")  # fmt: skip


def _line_notes(table: Table, columns: Columns, lines: list[Timeline], clock: Clock, stamps: Stamps) -> list[str]:
    """How many series there are, and how the steps of the longest follow one another."""
    longest = max(lines, key=len)
    notes = spacing_notes(table, longest, clock, stamps)
    if not columns.series:
        return notes
    steps = sorted(len(line) for line in lines)
    uneven: list[str] = []
    for line in lines:
        check_step(table, f"{columns.series} {line.name}, ", line, clock, uneven, "as in most other series")
    notes += first_few(uneven)
    each = f"{steps[0]:,}" if steps[0] == steps[-1] else f"{steps[0]:,} to {steps[-1]:,}"
    return [
        f"series: {len(lines):,} by {columns.series}, of {each} steps each; each is scaled by itself, one model learns all",
        *notes,
    ]


def _cuts(times: np.ndarray, clock: Clock) -> np.ndarray:
    """The times (2,) at which validation and test begin, of all distinct `times` (L,): the last two years of four at least,
    else by shares of the steps."""
    last = times[-1]
    years = (clock.after(last) - times[0]) / YEAR
    if clock.dates and years >= YEARS - 0.01 and len(times) / years >= STEPS_A_YEAR:
        back = lambda count: int(np.searchsorted(times, _years_before(last, count), "right"))
        ends = [back(2), back(1)]
    else:
        ends = [round(SHARES[0] * len(times)), round(sum(SHARES) * len(times))]
    return times[np.minimum(ends, len(times) - 1)]


def _years_before(time: float, years: int) -> float:
    """The same date so many years earlier; the end of February where there is no 29th."""
    day = np.datetime64(int(np.floor(time)), "D")
    month = day.astype("datetime64[M]")
    moved = month - 12 * years
    length = ((moved + 1).astype("datetime64[D]") - moved.astype("datetime64[D]")).astype(int)
    within = min(int((day - month.astype("datetime64[D]")).astype(int)), int(length) - 1)
    return float(moved.astype("datetime64[D]").astype(int) + within) + time % 1


def _split(
    table: Table, preprocessor: SeriesPreprocessor, lines: list[Timeline], ends: list[list[int]], notes: list[str]
) -> tuple[list[Examples], dict[str, RawSteps]]:
    """Training, validation and test: the examples whose step lies in each, of all series."""
    every = preprocessor.examples(lines)
    windows: Any = every.inputs["series"]
    own = [preprocessor.target_rows(line) for line in lines]
    owners, rows = np.repeat(np.arange(len(lines)), [len(each) for each in own]), np.concatenate(own)
    first, second = np.array(ends)[owners].T
    part = (rows >= first).astype(int) + (rows >= second)
    asked = np.concatenate([line.times[each] for line, each in zip(lines, own, strict=True)])
    splits, raw = [], dict[str, RawSteps]()
    spans = []
    for k, split in enumerate(SPLITS):
        at = np.flatnonzero(part == k)
        if not len(at):
            raise DataError(f"{table.path}: {preprocessor.target_name} is missing in all of the {split} part; expected values in training, "
                            "validation and test; fill them, or give more rows")  # fmt: skip
        steps = RawSteps(preprocessor, table, lines, owners[at], rows[at])
        splits.append(Examples({"series": windows.take(at)}, every.target[at], row=steps.row_numbers()))
        raw[split] = steps
        last = asked[at].max()
        spans.append(f"{split} up to {preprocessor.clock.text(last)}")
    notes.append(f"split: by time, {', '.join(spans[:-1])}, then test")
    missing = sum(int(np.isnan(line.values[:, 0]).sum()) for line in lines)
    if missing:
        notes.append(
            f"rows: {missing:,} missing values of {preprocessor.target_name} are not predicted; windows hold the last one before"
        )
    return splits, raw


# ---- statistics --------------------------------------------------------------------------------------------------------


def _fit(
    table: Table, columns: Columns, known: list[str], lines: list[Timeline], ends: list[list[int]], clock: Clock,
    window: int, texts: list[list[str]], notes: list[str],
) -> tuple[SeriesPreprocessor, list[Timeline]]:  # fmt: skip
    """What the training part, the steps before the first of `ends`, says of each column and of the calendar.

    The series come back with the columns that are used alone.
    """
    parts = [line.take(slice(0, own[0])) for line, own in zip(lines, ends, strict=True)]
    if sum(max(0, len(part) - window) for part in parts) < LEAST_STEPS:
        raise _too_short(table, max(map(len, lines)), window)
    used, chosen = _fit_numbers(table, columns, parts, notes)
    categories = _fit_categories(columns, known, parts, clock, texts, notes)
    lines = [_with(line, chosen, categories, columns, texts) for line in lines]
    parts = [line.take(slice(0, own[0])) for line, own in zip(lines, ends, strict=True)]
    targets = [(part.times[ok], part.values[ok, 0]) for part in parts if (ok := ~np.isnan(part.values[:, 0])).sum() > 2]
    past = [column for column in used if column.name not in known]
    ahead = [column for column in used if column.name in known]
    scales: list[Scale] = []
    if columns.series:
        means, stds = (np.array([getattr(column, name) for column in used]) for name in ("mean", "std"))
        scales = [Scale(part.name, *(each.tolist() for each in own_scale(part.values, means, stds))) for part in parts]
        names = {name: form for form, name in columns.cells_of(columns.series).spellings.items()}
        for scale in scales:
            scale.folded = names.get(scale.name, "")
    cycles = _cycles(targets, clock)
    preprocessor = SeriesPreprocessor(
        table.header, columns.numbers[0], clock, window, past, cycles, ahead, categories, columns.series, scales,
        find_season([values for _, values in targets], clock),
    )  # fmt: skip
    inputs = [*(column.name for column in past), *(f"the time of the {cycle}" for cycle in cycles)]
    inputs += [each.name for each in categories if not each.ahead]
    notes.append(f"inputs: the last {window} steps of {', '.join(inputs)}")
    of_next = [*(column.name for column in ahead), *(each.name for each in categories if each.known)]
    if of_next:
        notes.append(
            f"known: {', '.join(of_next)} of the step to be predicted; predict needs rows with them and no {columns.numbers[0]}"
        )
    return preprocessor, lines


def _fit_numbers(
    table: Table, columns: Columns, parts: list[Timeline], notes: list[str]
) -> tuple[list[Column], list[int]]:
    """The columns of numbers that differ in training, and their positions; the target first."""
    used, chosen = [], []
    values = np.concatenate([part.values for part in parts])
    for k, name in enumerate(columns.numbers):
        present = values[~np.isnan(values[:, k]), k]
        std = float(present.std()) if len(present) else 0.0
        if std > 1e-290:
            cells = columns.cells_of(name)
            used.append(
                Column(
                    name,
                    float(present.mean()),
                    std,
                    bool(len(present) < len(values)),
                    cells.format,
                    cells.strays,
                    list(cells.sentinels),
                )
            )
            chosen.append(k)
        elif k == 0:
            raise DataError(f"{table.path}: the target {name} is the same, or missing, in all of the training part; expected values "
                            "that differ; choose another --target")  # fmt: skip
        else:
            notes.append(f"columns: {name} left out, the same in all of the training part")
    return used, chosen


def _fit_categories(
    columns: Columns, known: list[str], parts: list[Timeline], clock: Clock, texts: list[list[str]], notes: list[str]
) -> list[Category]:
    """The categories that come in training, and whether they are known ahead, or follow from the calendar."""
    found = []
    times = np.concatenate([part.times for part in parts])
    for k, name in enumerate(columns.categories):
        codes = np.concatenate([part.codes[:, k] for part in parts])
        seen = np.unique(codes[codes >= 0])
        if len(seen) < 2:
            notes.append(f"columns: {name} left out, the same in all of the training part")
            continue
        own = np.searchsorted(seen, codes)
        own[~np.isin(codes, seen)] = -1
        spellings = dict(columns.cells_of(name).spellings)
        category = Category(name, [texts[k][code] for code in seen], name in known, spellings=spellings)
        if clock.dates and not category.known:
            category.calendar, category.by = _calendar_of(own, times, clock)
        if category.calendar:
            notes.append(
                f"columns: {name} follows from the {category.calendar} of {clock.name}, so forecasts know it ahead"
            )
        elif not category.known:
            notes.append(
                f"columns: {name}, {len(seen)} categories, read from the past; --known {shell_word(name)} if it is known ahead"
            )
        found.append(category)
    return found


def _calendar_of(codes: np.ndarray, times: np.ndarray, clock: Clock) -> tuple[str, list[int]]:
    """The part of the calendar from which categories (L,) follow in every row, and the code for each; ("", []) for none."""
    for name in CALENDAR:
        keys = calendar_keys(clock, times, name)
        pairs = np.unique(np.stack([keys, codes]), axis=1)
        counts = np.bincount(keys)
        often = counts[counts > 0].min() >= 3 and len(np.unique(keys)) > 1
        if often and len(pairs[0]) == len(np.unique(keys)) and codes.min() >= 0:
            by = np.full({"weekday": 7, "month": 12, "hour": 24}[name], -1)
            by[pairs[0]] = pairs[1]
            return name, by.tolist()
    return "", []


def _with(
    line: Timeline, chosen: list[int], categories: list[Category], columns: Columns, texts: list[list[str]]
) -> Timeline:
    """A series with the chosen columns alone, its codes those of training."""
    codes = np.full((len(line), len(categories)), -1, dtype=np.int64)
    for k, each in enumerate(categories):
        at = columns.categories.index(each.name)
        lookup = np.array([each.values.index(text) if text in each.values else -1 for text in texts[at]] + [-1])
        codes[:, k] = lookup[line.codes[:, at]]
    return Timeline(line.times, line.values[:, chosen], codes, line.name, line.rows)


def _cycles(targets: list[tuple[np.ndarray, np.ndarray]], clock: Clock) -> list[str]:
    """Cycles worth telling: they hold four steps at least, come twice or nearly, and what is shorter than a year shows in the
    data, of the longest series."""
    times, target = max(targets, key=lambda each: len(each[0]), default=(np.zeros(2), np.zeros(2)))
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
