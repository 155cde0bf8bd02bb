"""Timestamps of a series: a column of dates or growing numbers parsed to numbers, and formatted back (floor 4).

A date is days since 1970-01-01 as float64, the time of day its fraction. The form of a column is inferred from all of it.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

import numpy as np

from ...errors import DataError
from ..table.read import Table

# The forms of a column; ISO dates are read in the first two alike.
DAY_FIRST, MONTH_FIRST, NUMBERS = "day first", "month first", "numbers"
YEAR_AHEAD = re.compile(r"(\d{4})[-/.](\d{1,2})(?:[-/.](\d{1,2}))?(?:[ T]+(.+))?|((?:1[89]|20)\d\d)(\d\d)(\d\d)")
YEAR_BEHIND = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})(?:[ T]+(.+))?")
EPOCH = datetime.datetime(1970, 1, 1)
DAY = datetime.timedelta(days=1)
SECONDS = 86400


@dataclass
class Clock:
    """How a series counts time. form: DAY_FIRST, MONTH_FIRST or NUMBERS. step: from one row to the next, in days or as is.

    months: where a step is so many calendar months; 0 where it always lasts equally long. late: steps fall on months' ends.
    """

    name: str
    form: str
    step: float
    months: int = 0
    late: bool = False

    @property
    def dates(self) -> bool:
        return self.form != NUMBERS

    def after(self, time: float, steps: int = 1) -> float:
        """The time so many steps after `time`."""
        if not self.months:
            return time + steps * self.step
        time += self.late  # the ends of months are counted as the firsts of the next
        month = _months(np.array([time]))[0]
        return _first(month + steps * self.months) + (time - _first(month)) - self.late

    def text(self, time: float) -> str:
        """`2024-02-29`, with the time of day where there is one; or the number."""
        if not self.dates:
            return f"{time:.10g}"
        whole = datetime.timedelta(seconds=round(time * SECONDS))
        return str(EPOCH + whole).removesuffix(" 00:00:00")


def fit_clock(name: str, form: str, times: np.ndarray) -> Clock:
    """The usual step of ascending `times` (L,): calendar months where they always fall on one day of the month."""
    step = float(np.median(np.diff(times)))
    if form == NUMBERS:
        return Clock(name, form, step)
    for late in (False, True):
        months = _months(times + late)
        days = np.unique([time - _first(month) for time, month in zip(times + late, months, strict=True)])
        if len(days) == 1 and days[0] < 28 and np.diff(months).min() > 0:
            return Clock(name, form, step, int(np.median(np.diff(months))), late)
    return Clock(name, form, round(step * SECONDS) / SECONDS)


def _months(times: np.ndarray) -> np.ndarray:
    """Months since 1970-01 of days (L,)."""
    return np.floor(times).astype(np.int64).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _first(month: int) -> float:
    """The day on which a month since 1970-01 begins."""
    return float(np.datetime64(int(month), "M").astype("datetime64[D]").astype(np.int64))


# ---- reading -----------------------------------------------------------------------------------------------------------


def read_times(table: Table, position: int, form: str | None = None) -> tuple[np.ndarray, str]:
    """The times (L,) of the column at `position` in the rows' order, and the column's form.

    form: the one that training found. Raises DataError with the line of a time that is missing or cannot be read.
    """
    texts = table.columns[position].tolist()
    gone = next((i for i, text in enumerate(texts) if text is None), None)
    if gone is not None:
        raise _not_a_time(table, position, gone, "is missing")
    forms = (form,) if form else (DAY_FIRST, MONTH_FIRST) if any(map(YEAR_BEHIND.fullmatch, texts)) else (DAY_FIRST,)
    found: dict[str, np.ndarray] = {}
    if form != NUMBERS:
        for each in forms:
            found[each] = np.array([_days(text, each == DAY_FIRST) for text in texts], dtype=np.float64)
    sound = {each: times for each, times in found.items() if not np.isnan(times).any()}
    if sound:
        return _plausible(table, position, sound)
    values, strays = table.numbers_and_strays(position)
    if form in (None, NUMBERS) and not len(strays) and np.isfinite(values).all():
        return values, NUMBERS
    bad = strays if form in (None, NUMBERS) and len(strays) < len(texts) else np.flatnonzero(np.isnan(found[forms[0]]))
    raise _not_a_time(table, position, int(bad[0]), f"is {texts[int(bad[0])]!r}")


def _plausible(table: Table, position: int, sound: dict[str, np.ndarray]) -> tuple[np.ndarray, str]:
    """Of two readings of 03/04/2024 the one in which days come in order; dots put the day first."""
    first = next(iter(sound))
    if len(sound) == 1 or "." in str(table.columns[position][0]):
        return sound[first], first
    ascending = [form for form, times in sound.items() if (np.diff(times) >= 0).all()]
    if len(ascending) == 1:
        return sound[ascending[0]], ascending[0]
    raise DataError(f"{table.path}, column {table.names[position]}: {table.columns[position][0]!r} may begin with the day or with the "
                    "month; expected dates that can be read in one way; write them as 2024-12-31")  # fmt: skip


def _not_a_time(table: Table, position: int, row: int, came: str) -> DataError:
    return DataError(f"{table.where(row)}: the time {table.names[position]} {came}; expected a date such as 2024-12-31 or "
                     "2024-12-31 18:00, or a number, in every row; correct it, or choose another --time-column")  # fmt: skip


def _days(text: str, day_first: bool) -> float:
    """A date as days since 1970-01-01, NaN where it is none."""
    if found := YEAR_AHEAD.fullmatch(text):
        year, month, day, clock, *compact = found.groups()
        if compact[0]:
            year, month, day = compact
    elif found := YEAR_BEHIND.fullmatch(text):
        day, month, year, clock = found.groups()
        day, month = (day, month) if day_first else (month, day)
    else:
        return np.nan
    try:
        moment = datetime.datetime(int(year), int(month), int(day or 1))
        if clock:
            hour = datetime.time.fromisoformat(clock if clock[1:2] != ":" else "0" + clock)
            moment = datetime.datetime.combine(moment, hour.replace(tzinfo=None)) - (hour.utcoffset() or 0 * DAY)
    except ValueError:
        return np.nan
    return (moment - EPOCH) / DAY
