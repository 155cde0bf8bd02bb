"""Dates and times as people write them, read from text and taken apart (floor 4).

`read_moments` reads a column's different values, each by its own form; whether 03/04/2021 begins with the day or with the month
is decided for the whole column by `date_order`. A moment is days since 1970-01-01, by the clock on the wall and in UTC: hours,
weekdays and months are those on the wall, days from one to the next those between the instants. A time without a zone, or with
one known by letters, such as CET, counts as UTC there; `zones_told` says so where others have zones.
"""

from __future__ import annotations

import datetime
import functools
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

DAY_FIRST, MONTH_FIRST = "dayfirst", "monthfirst"
DATES, CLOCK, SECONDS, MILLISECONDS, COMPACT = "dates", "clock", "epoch seconds", "epoch milliseconds", "yyyymmdd"
FIRST_YEAR, LAST_YEAR = 1500, 2200  # of dates that are meant
LEAST_ASCENDING = 5  # different dates whose order in the file shows which of two readings is meant
CENTURY = 69  # two digits from here on are of the last century, as POSIX has it
DAY = 86400

MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "jan january januar janvier janv enero ene gennaio januari", "feb february februar février fevrier févr fév febrero febbraio februari",
            "mar march märz maerz mär mrz mars marzo maart", "apr april avril avr abril abr aprile",
            "may mai mayo maggio mei", "jun june juni juin junio giugno", "jul july juli juillet juil julio luglio",
            "aug august août aout agosto ago augustus", "sep sept september septembre septiembre settembre",
            "oct october oktober okt octobre octubre ottobre", "nov november novembre noviembre",
            "dec december dezember dez décembre decembre déc diciembre dic dicembre",
        ),
        start=1,
    )
    for name in names.split()
}  # fmt: skip
WEEKDAY = re.compile(r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?|mo|di|mi|do|fr|sa|so|"
           r"montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonntag)\.?,? (.+)", re.IGNORECASE)  # fmt: skip

ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)?")
TIME = re.compile(
    r"(\d{1,3})(?:[:h](\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)? ?([ap]\.?m\.?)? ?(uhr|h)? ?"
    r"(z|utc|gmt|[a-z]{3,4}|[+-]\d\d:?(?:\d\d)?)?", re.IGNORECASE
)  # fmt: skip
BARE_CLOCK = re.compile(r"\d{1,3}:\d\d|\d{1,2} ?[ap]\.?m\.?", re.IGNORECASE)  # what a time without a date begins with
YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})")
YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4}|\d\d)")
YEAR_MONTH = re.compile(r"(\d{4})[-/](\d{1,2})|(\d{1,2})[/](\d{4})")
QUARTER = re.compile(r"(\d{4})[ -]?q([1-4])|q([1-4])[ -/]?(\d{4})", re.IGNORECASE)
WEEK = re.compile(r"(\d{4})-?w(\d\d)(?:-?([1-7]))?", re.IGNORECASE)
YYYYMMDD = re.compile(r"((?:1[89]|20|21)\d\d)(\d\d)(\d\d)")
DAY_NAME = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?[ .-]{1,2}([^\W\d_]{3,10})[ .,-]{1,2}(\d{4}|\d\d)", re.IGNORECASE)
NAME_DAY = re.compile(r"([^\W\d_]{3,10})[ .-]{1,2}(\d{1,2})(?:st|nd|rd|th)?,? ?[ -]?(\d{4})", re.IGNORECASE)
NAME_YEAR = re.compile(
    r"([^\W\d_]{3,10})(?:[ .,-]{1,2}(\d{4})|(?:-| ?')(\d\d))", re.IGNORECASE
)  # `May 21` may be a day
CTIME = re.compile(r"([^\W\d_]{3,9} \d{1,2}) (\d\d:\d\d:\d\d)( [+-]\d{4}| [A-Z]{3,4})? (\d{4})")  # Aug 11 10:47:00 2021
# Where the date ends and a time begins: a T, or blanks or a comma before digits and a colon, or before an hour with am or pm.
SPLIT = re.compile(
    r"(.*?\d)(?:T|,? +(?:at |um |à )?)(\d{1,2}(?::\d\d.*| ?[ap]\.?m\.?(?: .*)?)|\d{4,6}Z?)", re.IGNORECASE
)  # fmt: skip
# Of a date with a time: the zone behind the time, or nothing.
CLOCK_END = re.compile(
    r"\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?[ap]\.?m\.?)? ?(z|utc|gmt|[a-z]{3,4}|[+-]\d\d(?::?\d\d)?)?(?: \d{4})?$",
    re.IGNORECASE,
)
EPOCH_NAME = re.compile(r"(?:^|.*[^a-z])(time|timestamp|date|datetime|epoch|unix|ts|created|updated|modified|at)(?:[^a-z].*|$)|.*(?:time|date|stamp)(?:s|utc|ms)?$",
                        re.IGNORECASE)  # fmt: skip


MONTH_NAME = re.compile(r".*(?:month|period|yyyymm|date)|ym", re.IGNORECASE)


@dataclass(frozen=True)
class Moments:
    """Different values read. wall: days since 1970 by the clock on the wall (N,), NaN where unread. utc: the same instants in UTC."""

    wall: np.ndarray
    utc: np.ndarray


# ---- one cell ----------------------------------------------------------------------------------------------------------


def read_date(text: str, day_first: bool) -> tuple[float, float] | None:
    """(days since 1970-01-01 on the wall, how many of them the zone is ahead of UTC) of a date with or without time."""
    head, _, tail = text.partition(" ")  # the common form, fast
    if tail and (day := days_of(head, day_first)) is not None and (time := read_time(tail)) and time[0] <= 24:
        return day + time[0] / 24, time[1] / 24
    text = " ".join(text.split())
    named = WEEKDAY.fullmatch(text)
    text = named[1] if named else text
    if year_last := CTIME.fullmatch(text):
        text = "{0} {3} {1}{2}".format(*(part or "" for part in year_last.groups()))
    day = days_of(text, day_first)
    if day is not None:
        return day, 0.0
    apart = SPLIT.fullmatch(text)
    if apart is None or (day := days_of(apart[1], day_first)) is None:
        return None
    time = read_time(apart[2])
    return None if time is None or time[0] > 24 else (day + time[0] / 24, time[1] / 24)


@functools.lru_cache(1 << 16)
def days_of(text: str, day_first: bool) -> float | None:
    """A date alone as days since 1970-01-01; months, quarters and weeks as their first day."""
    if found := YEAR_FIRST.fullmatch(text):
        return _day(int(found[1]), int(found[3]), int(found[4]))
    if found := YEAR_LAST.fullmatch(text):
        day, month = (int(found[1]), int(found[3])) if day_first else (int(found[3]), int(found[1]))
        return _day(_year(found[4]), month, day)
    if found := YEAR_MONTH.fullmatch(text):
        return _day(int(found[1] or found[4]), int(found[2] or found[3]), 1)
    if found := QUARTER.fullmatch(text):
        return _day(int(found[1] or found[4]), 3 * int(found[2] or found[3]) - 2, 1)
    if found := YYYYMMDD.fullmatch(text):
        return _day(int(found[1]), int(found[2]), int(found[3]))
    if found := WEEK.fullmatch(text):
        return _of_week(int(found[1]), int(found[2]), int(found[3] or 1))
    if found := DAY_NAME.fullmatch(text):
        return _named(found[2], _year(found[3]), int(found[1]))
    if found := NAME_DAY.fullmatch(text):
        return _named(found[1], int(found[3]), int(found[2]))
    if found := NAME_YEAR.fullmatch(text):
        return _named(found[1], _year(found[2] or found[3]), 1)
    return None


def _year(text: str) -> int:
    return int(text) if len(text) == 4 else int(text) + (2000 if int(text) < CENTURY else 1900)


def _day(year: int, month: int, day: int) -> float | None:
    """None for a day that there is not, or one such as 9999-12-31, which stands for none."""
    if not FIRST_YEAR <= year < LAST_YEAR:
        return None
    try:
        return float(datetime.date(year, month, day).toordinal() - 719163)
    except ValueError:
        return None


def _named(month: str, year: int, day: int) -> float | None:
    number = MONTHS.get(month.lower())
    return None if number is None else _day(year, number, day)


def _of_week(year: int, week: int, day: int) -> float | None:
    try:
        return float(datetime.date.fromisocalendar(year, week, day).toordinal() - 719163)
    except ValueError:
        return None


@functools.lru_cache(1 << 17)
def read_time(text: str) -> tuple[float, float] | None:
    """(hours, hours that the zone is ahead of UTC) of `08:15`, `22:40:05.5`, `8:15 PM`, `221005` or `08:15+01:00`.

    Hours beyond 24 are a duration's. A zone known by letters only, but for UTC, counts as none.
    """
    compact = re.fullmatch(r"(\d\d)(\d\d)(\d\d)?(Z?)", text)
    if compact:
        text = ":".join(part for part in compact.groups()[:3] if part) + compact[4]
    found = TIME.fullmatch(text)
    if found is None or (found[2] is None and not found[5]):
        return None
    hour, minute, second = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    if minute > 59 or second > 60:
        return None
    if found[5]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (found[5][0] in "pP")
    fraction = float(f"0.{found[4]}") if found[4] else 0.0
    zone, ahead = found[7] or "", 0.0
    if zone[:1] in ("+", "-") and zone:
        digits = zone[1:].replace(":", "")
        ahead = (int(digits[:2]) + int(digits[2:] or 0) / 60) * (-1 if zone[0] == "-" else 1)
    return hour + minute / 60 + (second + fraction) / 3600, ahead


# ---- a column ----------------------------------------------------------------------------------------------------------


def date_order(texts: Iterable[str]) -> tuple[str | None, bool]:
    """(DAY_FIRST or MONTH_FIRST, whether that is doubtful) of a column's different values; (None, False) where the order is moot.

    A part above 12 is a day. Where none is, the reading in which the values ascend, as they come, is meant; else points and
    hyphens put the day first, slashes the month, and that is doubtful.
    """
    texts = list(texts)
    votes: Counter[str] = Counter()
    signs: Counter[str] = Counter()
    for text in texts:
        found = YEAR_LAST.match(text)
        if found is None:
            continue
        first, second = int(found[1]), int(found[3])
        signs[found[2]] += 1
        if (first > 12) != (second > 12):
            votes[DAY_FIRST if first > 12 else MONTH_FIRST] += 1
    if votes:
        return votes.most_common(1)[0][0], False
    if not signs:
        return None, False
    ascending = [order for order in (DAY_FIRST, MONTH_FIRST) if _ascends(texts, order)]
    if len(ascending) == 1:
        return ascending[0], False
    sign = signs.most_common(1)[0][0]
    return (MONTH_FIRST if sign == "/" else DAY_FIRST), sign != "."


def _ascends(texts: list[str], order: str) -> bool:
    days = read_moments(texts, DATES, order == DAY_FIRST).wall
    days = days[np.isfinite(days)]
    return len(days) >= LEAST_ASCENDING and bool((np.diff(days) > 0).all() or (np.diff(days) < 0).all())


def read_moments(texts: list[str], form: str, day_first: bool) -> Moments:
    """Different values of a column of this form; those that it does not fit are NaN. Clock times are hours / 24."""
    if form in (SECONDS, MILLISECONDS):
        days = np.array([_number(text) for text in texts], dtype=np.float64) / (DAY if form == SECONDS else 1000 * DAY)
        return Moments(days, days)
    if form == DATES and texts and all(map(ISO.fullmatch, texts)):
        try:
            moments = np.array(texts, dtype="datetime64[us]")
            years = moments.astype("datetime64[Y]").astype(np.int64) + 1970
            days = moments.astype(np.int64) / (DAY * 1e6)
            days[(years < FIRST_YEAR) | (years >= LAST_YEAR)] = np.nan
            return Moments(days, days)
        except ValueError:  # the 30th of February
            pass
    wall, ahead = np.full(len(texts), np.nan), np.zeros(len(texts))
    for i, text in enumerate(texts):
        found = _clock(text) if form == CLOCK else read_date(_whole(text) if form == COMPACT else text, day_first)
        if found is not None:
            wall[i], ahead[i] = found
    return Moments(wall, wall - ahead)


def _clock(text: str) -> tuple[float, float] | None:
    """A time without date; not its zone, which moves all alike."""
    found = read_time(text.strip()) if BARE_CLOCK.match(text.strip()) else None
    return None if found is None else (found[0] / 24, 0.0)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _whole(text: str) -> str:
    """20210321.0, as a column with gaps is often written, without its point; 202103 as its first day."""
    digits = text.removesuffix(".0")
    return digits + "01" if len(digits) == 6 else digits


def form_of_texts(texts: list[str]) -> str | None:
    """DATES or CLOCK where most of a text column's different values are such; a glance at the first ones is enough."""
    if not texts:
        return None
    for form in (DATES, CLOCK):
        known = max(np.isfinite(read_moments(texts, form, order).wall).sum() for order in (True, False))
        if 2 * known > len(texts):
            return form
    return None


def form_of_numbers(name: str, values: np.ndarray) -> str | None:
    """COMPACT, SECONDS or MILLISECONDS where a column's numbers (N,), NaN where missing, are dates; else None.

    Eight digits are a date where every one of them is, six a month where the column's name says so; seconds since 1970 where the column's name says a time as well.
    """
    if np.isnan(values).all():
        return None
    compact = np.nanmin(values) >= 18000101 and np.nanmax(values) <= 21991231
    if not compact and not EPOCH_NAME.fullmatch(name) and not MONTH_NAME.fullmatch(name):
        return None
    present = np.unique(values[~np.isnan(values)])
    if present[0] >= 190001 and present[-1] <= 219912 and len(present) > 1 and MONTH_NAME.fullmatch(name):
        return COMPACT if np.isin(present % 100, np.arange(1, 13)).all() else None
    if compact and len(present) > 1 and not (present % 1 != 0).any():
        days = [days_of(str(int(value)), True) for value in present.tolist()]
        return COMPACT if all(day is not None for day in days) else None
    for form, unit in ((SECONDS, 1.0), (MILLISECONDS, 1000.0)):
        if _seconds_of(name, present, unit):
            return form
    return None


def moment_told(days: float, form: str) -> str:
    """`2021-03-21`, with the time where there is one; a time alone as `22:40`."""
    moment = datetime.timedelta(seconds=round(days * DAY))
    if form == CLOCK:
        return f"the time {moment}".removesuffix(":00")
    return str(datetime.datetime(1970, 1, 1) + moment).removesuffix(" 00:00:00")


def _seconds_of(name: str, present: np.ndarray, unit: float) -> bool:
    """Whether ascending numbers are seconds times `unit` between 1980 and 2050, and their column's name says a time."""
    if len(present) < 2 or not EPOCH_NAME.fullmatch(name):
        return False
    return bool(present[0] >= 3.15e8 * unit and present[-1] <= 2.53e9 * unit)


# ---- time zones --------------------------------------------------------------------------------------------------------


def zones_told(name: str, texts: Mapping[str, int]) -> str | None:
    """Which zones a column's times have, where several, or where some have none; None where all are alike.

    texts: how often each comes.

    `start has +01:00 and Z or none (3 of 9 read as UTC)`.
    """
    zones: Counter[str] = Counter()
    for text, count in texts.items():
        time = CLOCK_END.search(text)
        if time is not None:
            zones[_one_spelling((time[1] or "").upper())] += count
    without = sum(count for zone, count in zones.items() if _is_zoneless(zone))
    known = [zone for zone, _ in zones.most_common() if not _is_zoneless(zone)]
    letters = [zone for zone in zones if zone and _is_zoneless(zone)]
    if len(known) + len(letters) + ("" in zones) < 2 and not letters:
        return None
    told = f"{name} has {' and '.join([*known, *letters][:3])}{', ...' * (len(known) + len(letters) > 3)}"
    if not without:
        return told
    return f"{told}{' or none' * ('' in zones)} ({without:,} of {sum(zones.values()):,} read as UTC)"


def _one_spelling(zone: str) -> str:
    """`+01:00` of `+0100` and `+01`."""
    if zone[:1] not in ("+", "-"):
        return zone
    return f"{zone[:3]}:{zone[3:].lstrip(':') or '00'}"


def _is_zoneless(zone: str) -> bool:
    """Whether a zone says no offset: none, or one by letters, which several countries may share."""
    return zone not in ("Z", "UTC", "GMT") and zone[:1] not in ("+", "-")


# ---- taken apart -------------------------------------------------------------------------------------------------------


def date_parts(moments: Moments, form: str, first: float) -> dict[str, np.ndarray]:
    """What is learned from moments (N,), by name; cyclic ones as sine and cosine. first: the day that days are counted from.

    Weekdays and months are those on the wall; days are counted in UTC.
    """
    wall = moments.wall
    hours = np.round((wall - np.floor(wall)) * DAY) / 3600
    if form == CLOCK:
        whole = np.round(wall * DAY) / 3600
        return {"hours": whole, **cyclic("hour", hours, 24)}
    day = np.floor(np.round(wall * DAY) / DAY)
    dates = np.where(
        np.isnan(day), np.datetime64("NaT", "D"), np.nan_to_num(day).astype(np.int64).astype("datetime64[D]")
    )
    months = np.where(np.isnan(day), np.nan, dates.astype("datetime64[M]").astype(np.int64).astype(np.float64))
    parts = {"days": moments.utc - first, "year": 1970 + np.floor(months / 12), **cyclic("month", months % 12, 12)}
    return parts | cyclic("weekday", (day + 3) % 7, 7) | cyclic("hour", hours, 24)


def meaningless_parts(moments: Moments, form: str) -> set[str]:
    """The parts that say nothing of such moments: the hour of durations over a day, the weekday of whole months."""
    wall = moments.wall[~np.isnan(moments.wall)]
    if form == CLOCK:
        return set(cyclic("hour", wall, 24)) if (wall > 1).any() else set()
    days = np.floor(np.round(wall * DAY) / DAY).astype(np.int64).astype("datetime64[D]")
    of_month = days - days.astype("datetime64[M]").astype("datetime64[D]")
    return set() if len(np.unique(of_month)) > 1 else set(cyclic("weekday", wall, 7))


def cyclic(name: str, values: np.ndarray, period: float) -> dict[str, np.ndarray]:
    """Values that begin again after `period`, as a point on the circle; rounded, so that equal ones are equal."""
    angle = 2 * np.pi * values / period
    return {f"{name} (sine)": np.round(np.sin(angle), 12), f"{name} (cosine)": np.round(np.cos(angle), 12)}
