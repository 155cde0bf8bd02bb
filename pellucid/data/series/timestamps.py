"""Timestamps of a series: a column of dates or growing numbers parsed to numbers, and formatted back (floor 4).

A date is days since 1970-01-01 UTC as float64, the time of day its fraction. The form of a column is inferred from all of it:
day or month first, and the template that its texts follow, so that a forecast is written as the column is (`2024-03`, `2024Q1`,
`31.12.2024`, `2024-01-01T05:00+01:00`).
"""

from __future__ import annotations

import datetime
import functools
import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from ...errors import DataError
from ..table.dates import MILLISECONDS, MONTHS, WEEKDAY, form_of_numbers
from ..table.dates import SECONDS as EPOCH_SECONDS
from ..table.read import Table

# The forms of a column; dates that begin with the year are read in the first two alike.
DAY_FIRST, MONTH_FIRST, NUMBERS = "day first", "month first", "numbers"
WEEKS = "yyyyww"  # numbers such as 202053, of a year and a week of ISO 8601
EPOCHS = {
    EPOCH_SECONDS: 86_400,
    MILLISECONDS: 86_400_000,
}  # numbers that count from 1970-01-01, and how many make a day
COUNTED = (NUMBERS, WEEKS, *EPOCHS)  # forms of numbers
ASKED = {"dayfirst": DAY_FIRST, "monthfirst": MONTH_FIRST}  # by `--read dates=`
ENGLISH = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
           "december")  # fmt: skip
# One name a part: Y year, y its last two digits, q quarter, m month, d day, b month by name, a and c day and month in either
# order, G and w year and week of ISO 8601; H M S f p z of the time.
CLOCK = r"(?:(?:[ ]+|T)(?P<H>\d{1,2})(?::(?P<M>\d\d)(?::(?P<S>\d\d)(?P<f>[.,]\d{1,9})?)?)?[ ]?(?P<p>[AaPp][Mm])?[ ]?(?P<z>Z|UTC|GMT|[+-]\d\d(?::?\d\d)?)?)?"
NAMED = r"(?P<b>[^\W\d_]{3,10})\.?"
PATTERNS = [re.compile(pattern) for pattern in (
    r"(?P<Y>\d{4})[-/.](?P<m>\d{1,2})(?:[-/.](?P<d>\d{1,2}))?" + CLOCK,
    r"(?P<Y>(?:1[89]|20)\d\d)(?P<m>\d\d)(?P<d>\d\d)" + CLOCK,
    r"(?P<Y>(?:19|20)\d\d)(?P<m>0[1-9]|1[0-2])",
    r"(?P<G>\d{4})-?[Ww](?P<w>\d\d)",
    r"(?P<a>\d{1,2})[-/.](?P<c>\d{1,2})[-/.](?P<Y>\d{4})" + CLOCK,
    r"(?P<a>\d{1,2})[-/.](?P<c>\d{1,2})[-/.](?P<y>\d\d)" + CLOCK,
    r"(?P<Y>\d{4})[-/ ]?[Qq](?P<q>[1-4])",
    r"[Qq](?P<q>[1-4])[-/ ]?(?P<Y>\d{4})",
    NAMED + r"[-/ ](?P<Y>\d{4})",
    NAMED + r"[-/](?P<y>\d\d)",
    r"(?P<Y>\d{4})[-/ ]" + NAMED,
    r"(?P<d>\d{1,2})[-/. ]+" + NAMED + r"[-/, ]+(?P<Y>\d{4})" + CLOCK,
    NAMED + r" (?P<d>\d{1,2}), ?(?P<Y>\d{4})" + CLOCK,
)]  # fmt: skip
ISO_FORM = re.compile(r"\d{4}[-Q]\d.*|\d{4}(?:-?W)?\d\d", re.IGNORECASE)  # that can be read in one way
PLAIN = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?)?")
EPOCH = datetime.datetime(1970, 1, 1)
DAY = datetime.timedelta(days=1)
SECONDS = 86400
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
LEAST_WEEKS = 2  # that stamps must cover before a weekday that never comes is taken for a rule
REGULAR = 1.5  # times the usual step: a longer one is a gap
SAMPLE = 200  # texts that the template of a column is chosen by


@dataclass
class Clock:
    """How a series counts time. form: DAY_FIRST, MONTH_FIRST or NUMBERS. step: from one row to the next, in days or as is.

    months: where a step is so many calendar months; 0 where it always lasts equally long. late: steps fall on months' ends.
    template: how a time is written, as `template_of` gives it; "" writes ISO dates. offset: of the time zone, in days.
    weekdays: those on which steps fall, Monday 0, where some never come. hours: seconds of the day, where some never come.
    """

    name: str
    form: str
    step: float
    months: int = 0
    late: bool = False
    template: str = ""
    offset: float = 0.0
    weekdays: list[int] = field(default_factory=list)
    hours: list[int] = field(default_factory=list)

    @property
    def is_even(self) -> bool:
        """Whether each step lasts as long as the others."""
        return not (self.months or self.weekdays or self.hours)

    @property
    def dates(self) -> bool:
        return self.form != NUMBERS

    @property
    def zoned(self) -> bool:
        """Whether its times are written with a time zone."""
        return "{z" in self.template or self.offset != 0

    @property
    def order(self) -> str | None:
        """The form that a new column of times must have; None where training said nothing of day and month."""
        return None if self.template.startswith(("{Y", "{G", "{q")) else self.form

    def local(self, times: np.ndarray) -> np.ndarray:
        """Times as clocks on the wall show them, in days."""
        return times + self.offset

    def after(self, time: float, steps: int = 1) -> float:
        """The time so many steps after `time`."""
        if self.months:
            local = time + self.offset
            month = (
                _months(np.array([local]))[0] + self.late
            )  # the end of a month is counted from the first of the next
            within = local % 1 - 1 if self.late else local - _first(month)
            time = _first(month + steps * self.months) + within - self.offset
            while self.weekdays and _weekday(time + self.offset) not in self.weekdays:
                time -= 1
            return time
        if not (self.weekdays or self.hours):
            return time + steps * self.step
        for _ in range(steps):
            time = self._next_open(time)
        return time

    def _next_open(self, time: float) -> float:
        """The first step after `time` on a weekday and at an hour that the data have."""
        for k in range(1, 1 + max(8, round(8 / self.step))):
            then = round((time + k * self.step) * SECONDS, 3) / SECONDS
            local = then + self.offset
            second = round((local % 1) * SECONDS) % SECONDS
            if (not self.weekdays or _weekday(local) in self.weekdays) and (not self.hours or second in self.hours):
                return then
        return time + self.step

    def text(self, time: float) -> str:
        """The time as the column has it; `2024-02-29`, with the time of day where there is one, in older runs; or the number."""
        if not self.dates:
            return f"{time:.15g}"
        if self.form == WEEKS:
            week = (EPOCH + datetime.timedelta(days=round(time))).isocalendar()
            return f"{week.year}{week.week:02}"
        if self.form in EPOCHS:
            return f"{round(time * EPOCHS[self.form], 3):.16g}"
        if self.template:
            digits = 3 if "{f" in self.template else 0
            exact = datetime.timedelta(seconds=round((time + self.offset) * SECONDS, digits))
            return written(EPOCH + exact, self.template, self.offset)
        return self.wall_text(time)

    def wall_text(self, time: float) -> str:
        """The time by the clock on the wall as `2024-12-31`, with the time of day where there is one."""
        whole = datetime.timedelta(seconds=round((time + self.offset) * SECONDS))
        return str(EPOCH + whole).removesuffix(" 00:00:00")


@dataclass
class Stamps:
    """A column of times. times: (L,) in the rows' order. form: as Clock has it. texts: as they were. offsets: (L,) in days.

    zoned: whether they were written with a time zone. ambiguous: whether day and month can be read in either order.
    """

    times: np.ndarray
    form: str
    texts: list[str] = field(default_factory=list)
    offsets: np.ndarray = field(default_factory=lambda: np.zeros(0))
    zoned: bool = False
    ambiguous: bool = False


def fit_clock(name: str, form: str, times: np.ndarray, stamps: Stamps | None = None) -> Clock:
    """The usual step of ascending `times` (L,): calendar months where they always fall on one day of the month.

    stamps: the column as it was, from which the template and the time zone are taken.
    """
    step = float(np.median(np.diff(times)))
    clock = Clock(name, form, step)
    if form == NUMBERS:
        return clock
    if stamps is not None and len(stamps.texts):
        last = int(np.argmax(stamps.times))
        clock.offset = float(stamps.offsets[last])
        clock.template = template_of(stamps.texts, form, stamps.texts[last])
    local = clock.local(times) if not _moves(stamps) else np.sort(stamps.times + stamps.offsets)  # type: ignore[union-attr]
    local = np.unique(local)
    for late in (False, True):
        months = _months(local + late)
        days = np.unique(local + late - _firsts(months))
        if len(days) == 1 and days[0] < 28 and len(months) > 1 and np.diff(months).min() > 0:
            clock.months, clock.late = int(np.median(np.diff(months))), late
            return clock
    if _business_month_ends(local):
        clock.months, clock.late = int(np.median(np.diff(_months(local)))), True
        clock.weekdays = [0, 1, 2, 3, 4]
        return clock
    clock.step = round(step * SECONDS, 3) / SECONDS
    if clock.step > 0:
        _fit_openings(clock, local)
    return clock


def _fit_openings(clock: Clock, local: np.ndarray) -> None:
    """Note the weekdays and the hours that never come, of steps of a day or less."""
    if clock.step > 1 or local[-1] - local[0] < 7 * LEAST_WEEKS:
        return
    weekdays = np.unique((np.floor(local).astype(np.int64) + 3) % 7).tolist()
    if len(weekdays) < 7:
        clock.weekdays = weekdays
    if clock.step < 1:
        seconds = np.unique(np.round((local % 1) * SECONDS).astype(int) % SECONDS)
        # Hours that never come are a rule only where those that do follow one another by the step.
        if len(seconds) < round(1 / clock.step) * 0.9 and not (np.diff(seconds) % round(clock.step * SECONDS)).any():
            clock.hours = seconds.tolist()


def _business_month_ends(local: np.ndarray) -> bool:
    """Whether each of the days is the last of its month from Monday to Friday."""
    if len(local) < 3 or np.diff(_months(local)).min() < 1:
        return False
    ends = _firsts(_months(local) + 1) - 1
    weekday = (ends.astype(np.int64) + 3) % 7
    return bool((np.floor(local) == ends - np.maximum(weekday - 4, 0)).all())


def _moves(stamps: Stamps | None) -> bool:
    return stamps is not None and len(stamps.offsets) > 0 and len(np.unique(stamps.offsets)) > 1


def clocks_change(times: np.ndarray) -> bool:
    """Whether times in days all lie where clocks are moved: in the first hours of Sundays in spring or autumn."""
    days = np.floor(times).astype(np.int64)
    months = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64) % 12 + 1
    early = (times % 1 < 4 / 24) & (times % 1 > 0)
    return len(times) > 0 and bool(
        ((days + 3) % 7 == 6).all() and early.all() and np.isin(months, (3, 4, 9, 10, 11)).all()
    )


def _weekday(time: float) -> int:
    return (int(np.floor(time)) + 3) % 7


def _months(times: np.ndarray) -> np.ndarray:
    """Months since 1970-01 of days (L,)."""
    return np.floor(times).astype(np.int64).astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)


def _firsts(months: np.ndarray) -> np.ndarray:
    """The days (L,) on which months since 1970-01 begin."""
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64).astype(np.float64)


def _first(month: int) -> float:
    """The day on which a month since 1970-01 begins."""
    return float(np.datetime64(int(month), "M").astype("datetime64[D]").astype(np.int64))


# ---- reading -----------------------------------------------------------------------------------------------------------


def read_times(table: Table, position: int, form: str | None = None) -> tuple[np.ndarray, str]:
    """The times (L,) of the column at `position` in the rows' order, and the column's form; see `read_stamps`."""
    stamps = read_stamps(table, position, form)
    return stamps.times, stamps.form


def read_stamps(table: Table, position: int, form: str | None = None) -> Stamps:
    """The column of times at `position`.

    form: the one that training found; else `--read dates=` may say which of day and month comes first. Raises DataError with the
    line of a time that is missing or cannot be read, and of the first without a time zone where others have one.
    """
    texts = table.columns[position].tolist()
    gone = next((i for i, text in enumerate(texts) if text is None), None)
    if gone is not None:
        raise _not_a_time(table, position, gone, "is missing")
    if form not in COUNTED and (plain := _plain_days(texts)) is not None:
        return Stamps(plain, form or DAY_FIRST, texts, np.zeros(len(texts)))
    distinct = {text: _match(text) for text in dict.fromkeys(texts)}  # of a panel each stamp comes many times
    behind = any(parts is not None and parts["a"] is not None for parts in distinct.values())
    told = ASKED.get(table.options.dates or "") if behind else None
    forms = (form,) if form else (told,) if told else (DAY_FIRST, MONTH_FIRST) if behind else (DAY_FIRST,)
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for each in forms if form not in COUNTED else ():
        read = {text: _moment(parts, each == DAY_FIRST) for text, parts in distinct.items()}
        pairs = np.array([read[text] for text in texts], dtype=np.float64).reshape(-1, 2)
        found[each] = pairs[:, 0], pairs[:, 1]
    sound = {each: pair for each, pair in found.items() if not np.isnan(pair[0]).any()}
    if sound:
        chosen = _plausible(table, position, {each: times for each, (times, _) in sound.items()})
        zoned = _all_zoned(table, position, texts, distinct)
        return Stamps(sound[chosen][0], chosen, texts, sound[chosen][1], zoned, len(sound) > 1)
    return _numbered(table, position, form, np.isnan(found[forms[0]][0]) if found else np.ones(len(texts), bool))


def _numbered(table: Table, position: int, form: str | None, unread: np.ndarray) -> Stamps:
    """Times that are numbers: of seconds or milliseconds since 1970, or as they are. unread: rows (L,) that are no dates."""
    texts = table.columns[position].tolist()
    values, strays = table.numbers_and_strays(position)
    if form in (None, *COUNTED) and not len(strays) and np.isfinite(values).all():
        epoch = form if form else form_of_numbers("time", values)
        if epoch in EPOCHS:
            return Stamps(values / EPOCHS[epoch], epoch, texts, np.zeros(len(texts)))
        if form in (None, WEEKS) and (weeks := _weeks(values)) is not None:
            return Stamps(weeks, WEEKS, texts, np.zeros(len(texts)))
        return Stamps(values, NUMBERS)
    bad = strays if form in (None, *COUNTED) and len(strays) < len(texts) else np.flatnonzero(unread)
    raise _not_a_time(table, position, int(bad[0]), f"is {texts[int(bad[0])]!r}")


def _weeks(values: np.ndarray) -> np.ndarray | None:
    """The days (L,) on which weeks such as 202053 begin; None where numbers (L,) are not of several years' weeks."""
    years, weeks = np.divmod(values, 100)
    if (values % 1 != 0).any() or values.min() < 190001 or values.max() > 209953 or weeks.min() < 1 or weeks.max() > 53:
        return None
    if len(np.unique(years)) < 2 or weeks.max() < 13:
        return None
    days = np.array([_monday(int(year), int(week)) for year, week in zip(years, weeks, strict=True)])
    return None if np.isnan(days).any() else days


def _all_zoned(table: Table, position: int, texts: list[str], parts: dict[str, dict[str, str] | None]) -> bool:
    """Whether the times have a time zone. Raises DataError where some have, and others, with a time of day, have not."""
    zoned = {text for text, part in parts.items() if part and part.get("z")}
    if not zoned:
        return False
    without = next((i for i, text in enumerate(texts) if text not in zoned), None)
    if without is not None:
        other = next(text for text in texts if text in zoned)
        raise DataError(f"{table.where(without)}: the time {table.names[position]} is {texts[without]!r}, without a time zone, where others have one, "
                        f"as {other!r}; expected one in every row or in none, since hours would be mixed up; add it, or leave it out everywhere")  # fmt: skip
    return True


def _plausible(table: Table, position: int, sound: dict[str, np.ndarray]) -> str:
    """Of two readings of 03/04/2024 the one in which days come in order, or evenly; dots put the day first."""
    first = next(iter(sound))
    if len(sound) == 1 or "." in str(table.columns[position][0]):
        return first
    ascending = [form for form, times in sound.items() if (np.diff(times) >= 0).all()]
    if len(ascending) == 1:
        return ascending[0]
    even = [form for form, times in sound.items() if _is_even(np.unique(times))]
    if len(even) == 1:
        return even[0]
    raise DataError(f"{table.path}, column {table.names[position]}: {table.columns[position][0]!r} may begin with the day or with the "
                    "month; expected dates that can be read in one way; write them as 2024-12-31, or pass --read dates=dayfirst or monthfirst")  # fmt: skip


def _is_even(times: np.ndarray) -> bool:
    """Whether four steps at least are of nearly one length."""
    steps = np.diff(times)
    return len(steps) >= 4 and bool(steps.max() <= REGULAR * np.median(steps))


def _not_a_time(table: Table, position: int, row: int, came: str) -> DataError:
    return DataError(f"{table.where(row)}: the time {table.names[position]} {came}; expected a date such as 2024-12-31 or "
                     "2024-12-31 18:00+01:00, or a number, in every row; correct it, leave the row out, or choose another --time-column")  # fmt: skip


def _match(text: str) -> dict[str, str] | None:
    """The parts of a date by name, those that are not there None; None where it is no date."""
    found = _found(text)
    return None if found is None else {"a": None, **found.groupdict()}  # type: ignore[dict-item]


@functools.lru_cache(4096)
def _found(text: str) -> re.Match[str] | None:
    named = WEEKDAY.fullmatch(text)
    text = named[1] if named else text
    return next((found for pattern in PATTERNS if (found := pattern.fullmatch(text))), None)


def _month_named(name: str) -> int:
    """1 to 12 of `Jan`, `Sept` or `Januar`; 0 of another word."""
    return MONTHS.get(name.lower(), 0)


def _plain_days(texts: list[str]) -> np.ndarray | None:
    """The days (L,) of a column of `2024-12-31` or `2024-12-31 18:00`, all alike, in one go; None for any other."""
    if len(set(map(len, texts))) > 1 or not PLAIN.fullmatch(texts[0]):
        return None
    try:
        seconds = np.array(texts, dtype="datetime64[s]").astype(np.int64)
    except ValueError:
        return None
    return seconds / SECONDS


def moment(text: str, day_first: bool) -> tuple[float, float]:
    """A date as days since 1970-01-01 UTC, and the offset of its time zone in days; NaN where it is none."""
    return _moment(_match(text), day_first)


def _moment(parts: dict[str, str] | None, day_first: bool) -> tuple[float, float]:
    if parts is None:
        return np.nan, 0.0
    get = parts.get
    day, month = get("d") or "1", get("m") or "1"
    if get("a"):
        day, month = (parts["a"], parts["c"]) if day_first else (parts["c"], parts["a"])
    if get("b"):
        month = str(_month_named(parts["b"]))
    if get("q"):
        month = str(3 * int(parts["q"]) - 2)
    if get("w"):
        return _monday(int(parts["G"]), int(parts["w"])), 0.0
    year = int(get("Y") or 0) or 2000 + int(parts["y"]) - 100 * (int(parts["y"]) >= 70)
    hour, offset = int(get("H") or 0), _offset(get("z") or "")
    if get("p"):
        if not 1 <= hour <= 12:
            return np.nan, 0.0
        hour = hour % 12 + 12 * (parts["p"].lower() == "pm")
    elif get("H") and not get("M"):
        return np.nan, 0.0  # an hour alone needs am or pm
    try:
        when = datetime.datetime(year, int(month), int(day), hour, int(get("M") or 0), int(get("S") or 0))
    except ValueError:
        return np.nan, 0.0
    fraction = float("0." + parts["f"][1:]) if get("f") else 0.0
    return (when - EPOCH) / DAY + fraction / SECONDS - offset, offset


def _monday(year: int, week: int) -> float:
    """The day on which a week of ISO 8601 begins; NaN for a 53rd that its year has not."""
    try:
        return float((datetime.date.fromisocalendar(year, week, 1) - EPOCH.date()).days)
    except ValueError:
        return np.nan


def _offset(zone: str) -> float:
    """The offset of `+01:00` in days; 0 of `Z`."""
    if zone[:1] not in ("+", "-"):
        return 0.0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return (-1 if zone[0] == "-" else 1) * (int(digits[:2]) * 60 + int(digits[2:])) / 1440


# ---- writing -----------------------------------------------------------------------------------------------------------


def template_of(texts: list[str], form: str, last: str) -> str:
    """How the column writes its times: `last` with each part replaced by its name in braces, as `{Y}-{m2}`.

    Numbers are padded to two digits if no text says otherwise, but for `Feb 1, 2024`. Empty where a template does not give the texts back.
    """
    found = _found(last)
    step = max(1, len(texts) // SAMPLE)
    sample = [*texts[::step], last]
    if found is None or WEEKDAY.fullmatch(last) or not all(map(_is_english, sample)):
        return ""
    spelled = "{b" in _template(found, form, True) and " " in last  # `Feb 1, 2024` has no zero by custom
    candidates = [_template(found, form, padded) for padded in ((False, True) if spelled else (True, False))]
    scores = Counter({template: _restored(sample, form, template) for template in candidates})
    template, score = scores.most_common(1)[0]
    return template if score and _restored([last], form, template) else ""


def _is_english(text: str) -> bool:
    """Whether a time has no month by a name of another language, which could not be written again."""
    name = (_match(text) or {}).get("b")
    return name is None or name.lower() == "sept" or any(month.startswith(name.lower()) for month in ENGLISH)


def _template(found: re.Match[str], form: str, padded: bool) -> str:
    names = {"a": "d", "c": "m"} if form == DAY_FIRST else {"a": "m", "c": "d"}
    spans = sorted(
        (found.start(name), found.end(name), name) for name, part in found.groupdict().items() if part is not None
    )
    text, pieces, at = found.group(), [], 0
    for start, end, name in spans:
        part = found[name]
        word = names.get(name, name)
        if word == "H" and found.groupdict().get("p"):
            word = "h"
        if word in ("m", "d", "H", "h", "w"):
            word += "2" if padded or word == "w" else ""
        elif word == "b":
            word += ("l" if part.islower() else "u" if part.isupper() else "t") + ("f" if len(part) > 4 else "")
        elif word == "f":
            word += str(end - start - 1)
        elif word == "z":
            word += "Z" if part in ("Z", "UTC", "GMT") else ":" if ":" in part else "2" if len(part) == 3 else ""
            word += part if part in ("UTC", "GMT") else ""
        pieces += [text[at:start].replace("{", "").replace("}", ""), "{" + word + "}"]
        at = end
    return "".join(pieces) + text[at:]


def _restored(texts: list[str], form: str, template: str) -> int:
    """How many of the texts a template gives back."""
    count = 0
    for text in texts:
        time, offset = moment(text, form == DAY_FIRST)
        if not np.isnan(time):
            local = EPOCH + datetime.timedelta(microseconds=round((time + offset) * SECONDS * 1e6, -2))
            count += written(local, template, offset) == text
    return count


def written(when: datetime.datetime, template: str, offset: float = 0.0) -> str:
    """A local time as a template of `template_of` says."""
    return re.sub(r"\{(\w)([^}]*)\}", lambda part: _part(when, part[1], part[2], offset), template)


def _part(when: datetime.datetime, name: str, how: str, offset: float) -> str:
    if name == "b":
        month = ENGLISH[when.month - 1] if "f" in how else ENGLISH[when.month - 1][:3]
        return month if "l" in how else month.upper() if "u" in how else month.title()
    if name == "f":
        return "." + f"{when.microsecond:06}"[: int(how)].ljust(int(how), "0")
    if name == "p":
        return "AM" if when.hour < 12 else "PM"
    if name == "z":
        minutes = round(abs(offset) * 1440)
        if how[:1] == "Z":
            return how[1:] or "Z"
        colon = ":" if how == ":" else ""
        return f"{'-' if offset < 0 else '+'}{minutes // 60:02}" + ("" if how == "2" else f"{colon}{minutes % 60:02}")
    iso = when.isocalendar()
    value = {"Y": when.year, "G": iso.year, "w": iso.week, "y": when.year % 100, "q": (when.month + 2) // 3, "m": when.month, "d": when.day,
             "H": when.hour, "h": (when.hour - 1) % 12 + 1, "M": when.minute, "S": when.second}[name]  # fmt: skip
    return f"{value:0{4 if name in 'YG' else 2 if how == '2' or name in 'yMS' else 1}}"
