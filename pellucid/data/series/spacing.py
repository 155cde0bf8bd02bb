"""How far apart the steps of series are: told in training, and compared with that ever after (floor 4)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from ...errors import DataError
from ..table.findings import shown_cell
from ..table.read import Table
from .read import line_told
from .timestamps import (
    DAY_FIRST,
    EPOCHS,
    ISO_FORM,
    MONTH_FIRST,
    NUMBERS,
    REGULAR,
    SECONDS,
    WEEKDAYS,
    WEEKS,
    Clock,
    Stamps,
    clocks_change,
    fit_clock,
)
from .windows import Timeline

IRREGULAR = 0.1  # of all steps: more that are of other lengths are told as irregular
LEAST_STEPS = 3  # of a series, that its step is told from
LATEST = 1000  # steps at its end that this is told from
UNLIKE = 1.25  # times the step of the clock: longer or shorter ones are others
LEAST_DAYS = 14  # that show on which weekdays none falls
HOUR = 1 / 24
ZEROS = str.maketrans("123456789", "0" * 9)
OFFSET = re.compile(r"(?<=:\d\d)[-+]\d\d(?::?\d\d)?$")


def clock_of(name: str, lines: Sequence[Timeline], stamps: Stamps) -> Clock:
    """The clock of series: by the times of them all, or of the longest where these lie between one another's."""
    times = np.unique(np.concatenate([line.times for line in lines]))
    clock = fit_clock(name, stamps.form, times, stamps)
    steps = np.concatenate([np.diff(line.times) for line in lines])
    if len(lines) == 1 or np.median(np.diff(times)) * UNLIKE > np.median(steps):
        return clock
    return fit_clock(name, stamps.form, max(lines, key=len).times, stamps)


def expected_steps(clock: Clock, times: np.ndarray) -> np.ndarray:
    """How far each of times (L,) but the last is from the next, by the clock (L - 1,)."""
    if clock.is_even:
        return np.full(len(times) - 1, clock.step)
    return np.array([clock.after(time) - time for time in times[:-1].tolist()])


# ---- compared ----------------------------------------------------------------------------------------------------------


def check_stamps(table: Table, clock: Clock, stamps: Stamps) -> None:
    """Raise DataError where another table has numbers for dates, or times with a time zone where training had none, or none."""
    column = f"{table.path}: the times {clock.name}"
    if clock.dates and stamps.form == NUMBERS:
        raise DataError(f"{column} are numbers; expected dates, as in training; write them so")
    if not clock.dates or stamps.form in EPOCHS or not (clock.template or clock.offset):
        return
    if stamps.zoned and not clock.zoned:
        raise DataError(f"{column} have a time zone, as {stamps.texts[0]!r}; expected none, as in training; leave it out, the hour by the same "
                        "clock as there")  # fmt: skip
    if clock.zoned and not stamps.zoned:
        raise DataError(f"{column} have no time zone, as {stamps.texts[0]!r}; expected one, as in training, such as "
                        f"{clock.text(stamps.times[0])!r}; add it")  # fmt: skip


def check_step(
    table: Table, of: str, line: Timeline, clock: Clock, notes: list[str], whose: str = "as in training"
) -> None:
    """Raise DataError where the steps of a series are mostly longer or shorter than those of the clock; uneven ones are told.

    of: "shop north: ", say. whose: whom the clock is of.
    """
    if len(line) <= LEAST_STEPS or clock.step <= 0:
        return
    times = line.times[-LATEST:]
    steps = np.diff(times)
    shares = steps / expected_steps(clock, times)
    share = float(np.median(shares))
    own = fit_clock(clock.name, clock.form, times + clock.offset)
    if 1 / UNLIKE < share < UNLIKE:
        if times[-1] - times[0] >= LEAST_DAYS and own.weekdays != clock.weekdays and clock.step <= 1:
            days = [_fall_on(each.weekdays) for each in (own, clock)]
            notes.append(f"dates: {of}{days[0]}; {whose} {days[1]}, and so do forecasts")
        return
    came, step = step_text(own), step_text(clock)
    if not (own.months or _is_even(steps) or _is_even(shares)):
        notes.append(f"dates: {of}most steps are {came}, {whose} {step}, by which forecasts step")
        return
    to_do = (
        "bring its rows to these, or train a run on rows like these"
        if "training" in whose
        else "leave it out, and train a run on it alone"
    )
    raise DataError(
        f"{table.path}: {of}most steps are {came}; expected {step}, {whose}, by which forecasts step; {to_do}"
    )


def _is_even(steps: np.ndarray) -> bool:
    usual = np.median(steps)
    return bool(np.mean(np.abs(steps - usual) > 0.05 * usual) < IRREGULAR)


def _fall_on(weekdays: list[int]) -> str:
    never = [name for i, name in enumerate(WEEKDAYS) if weekdays and i not in weekdays]
    return f"none falls on {', '.join(never)}" if never else "steps fall on all days"


# ---- notes -------------------------------------------------------------------------------------------------------------


def spacing_notes(table: Table, line: Timeline, clock: Clock, stamps: Stamps) -> list[str]:
    """How the times of a series are read, how far apart its steps are, where they are further, and what else its stamps do."""
    steps = np.diff(line.times)
    expected = expected_steps(clock, line.times)
    far = np.flatnonzero(steps > REGULAR * np.maximum(expected, 1e-12))
    uneven = np.abs(steps - expected) > 0.05 * expected
    first, last = (clock.text(line.times[i]) for i in (0, -1))
    notes = [*_form_notes(clock, stamps), f"dates: {len(line):,} steps of {step_text(clock)}, {first} to {last}"]
    if uneven.mean() > IRREGULAR and not clock.months:
        i = int(np.flatnonzero(uneven)[0])
        notes.append(f"dates: irregular, {100 * uneven.mean():.0f}% of the steps are not {step_text(clock)} (first at "
                     f"{line_told(table, line.rows[i + 1])}); forecasts step by that; even them out")  # fmt: skip
    elif len(far):
        where = f"(after {clock.text(line.times[far[0]])}, {line_told(table, line.rows[far[0] + 1])})"
        many = f"dates: {len(far):,} gap{'s' * (len(far) > 1)}"
        if clock.step < 1 and clocks_change(line.times[far + 1]):
            notes.append(f"{many}, as when daylight saving begins {where}, stepped over")
        else:
            notes.append(f"{many} {where}, stepped over; add rows without a target to keep the time")
    if clock.weekdays:
        notes.append(f"dates: {_fall_on(clock.weekdays)}; forecasts skip these")
    if clock.hours and not clock.months:
        notes.append(f"dates: only at {len(clock.hours)} times of the day; forecasts skip the others")
    return notes + _zone_notes(clock, stamps)


def _form_notes(clock: Clock, stamps: Stamps) -> list[str]:
    """How times are read that are written otherwise than 2024-12-31, or in several forms."""
    if not clock.dates:
        return []
    shapes: dict[str, str] = {}
    for text in stamps.texts:
        shapes.setdefault(text.translate(ZEROS), text)
    forms = {_form_of(text): text for text in reversed(shapes.values())}  # the first of each
    last = stamps.texts[int(np.argmax(stamps.times))]
    if len(forms) > 1:
        first = next(text for text in shapes.values() if _form_of(text) != _form_of(last))
        shown = f"{clock.name} in {len(forms)} forms, {shown_cell(first)} is {iso_text(stamps, first)}"
        return [f"dates: {shown}; forecasts are written as {shown_cell(last)}"]
    if ISO_FORM.fullmatch(last) and clock.form != WEEKS:
        return []
    other = {DAY_FIRST: "monthfirst", MONTH_FIRST: "dayfirst"}.get(clock.form, "")
    order = f"; --read dates={other} for the other order" if stamps.ambiguous else ""
    return [f"dates: {clock.name} {shown_cell(last)} is {iso_text(stamps, last)}{order}"]


def _form_of(text: str) -> str:
    """A time with a 0 for each number and an a for each word: those of one form are alike."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", OFFSET.sub("+00:00", text)))


def iso_text(stamps: Stamps, text: str) -> str:
    """The time that a text was read as, as 2024-12-31 18:00."""
    i = stamps.texts.index(text)
    return Clock("", stamps.form, 1.0, offset=float(stamps.offsets[i])).wall_text(stamps.times[i])


def _zone_notes(clock: Clock, stamps: Stamps) -> list[str]:
    offsets = np.unique(stamps.offsets) if len(stamps.offsets) else np.zeros(1)
    names = [
        f"{'-' if offset < 0 else '+'}{round(abs(offset) * 1440) // 60:02}:{round(abs(offset) * 1440) % 60:02}"
        for offset in offsets
    ]
    last = names[int(np.searchsorted(offsets, clock.offset))] if clock.dates and len(stamps.offsets) else names[0]
    if len(offsets) > 1:
        saving = len(offsets) == 2 and np.ptp(offsets) < 1.01 * HOUR
        which = (
            f"{' and '.join(names)}, as with daylight saving"
            if saving
            else f"{', '.join(names[:4])}{', ...' * (len(names) > 4)}"
        )
        return [f"dates: offsets {which}; steps in UTC, forecasts written with {last}"]
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
