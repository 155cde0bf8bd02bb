"""How a column writes its numbers: currency signs, separators of thousands, percent, units, decided by the whole column (floor 4).

`infer_format` looks at a column's different values, `read_number` reads one cell. A cell is cut into sign, unit and digits;
whether a comma or a point is the decimal sign is a decision about the column, and for one that leaves it open about the file.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from .delimited import MISSING_INPUT, as_number
from .limits import cut_limit, place

LOOKED_AT = 20_000  # different values that a format is inferred from first; all of them where some then cannot be read
GLANCE = 200  # values that show whether a column is of numbers at all
LEAST_GROUPED = 3  # different whole numbers under 1,000 that make 1.234 beside them a thousand
MAX_UNIT = 15  # characters
FEW_OTHERS = 0.05  # of a column's different values: the most that may be neither number nor limit where limits are read
MOST_UNITS = 4  # of a column in mixed units; more are no units, as the letters of seats 12A to 30F
LEAST_LIMITED = 3  # different values of a column in which limits are read

# Three powers of ten by the words after a number. m, b and t may be units as well: see `NumberFormat.short`.
MAGNITUDES = {
    "k": 3, "K": 3, "thousand": 3, "tsd": 3,
    "M": 6, "mn": 6, "mio": 6, "mln": 6, "million": 6, "millions": 6, "mill": 6, "MM": 6,
    "bn": 9, "B": 9, "mrd": 9, "billion": 9, "billions": 9,
    "tn": 12, "trillion": 12,
}  # fmt: skip
SHORT_MAGNITUDES = {"m": 6, "b": 9, "t": 12, "T": 12, "G": 9}
CODES = {"usd": "$", "us$": "$", "eur": "€", "euro": "€", "gbp": "£", "jpy": "¥", "inr": "₹", "rs": "₹"}
NO_UNITS = ("and", "or", "to")  # 65 and over
ORDINALS = ("st", "nd", "rd", "th")

CURRENCY = (r"(?:(?:US|R|A|C|AU|CA|NZ|HK|S)?\$|[€£¥₹₩₽₺₪฿₫₴₦₱₡₵₸₼]|(?:USD|EUR|GBP|JPY|CHF|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|INR|CNY|RMB|BRL|ZAR|MXN|"
            r"TRY|RUB|KRW|SGD|HKD|THB|AED|Euro|Rs|Fr|kr)\b\.?)")  # fmt: skip
CELL = re.compile(
    rf"(?P<sign>[-+]?) ?(?P<prefix>{CURRENCY}|%)? ?(?P<inner>[-+]?)(?P<digits>(?:\d+(?:[.,' ]\d+)*[.,]?|[.,]\d+)(?:[eE][-+]?\d+)?)"
    r" ?(?P<suffix>[^\W\d_%°][^\d+<>=;:()|]*?[23²³]?|[%‰°$€£¥₹₩₽₺₪฿₫₴₦₱\"'″′][^\d+<>=;:()|]*?)?(?P<behind> ?-)?", re.IGNORECASE
)  # fmt: skip
ENCLOSED = re.compile(r"(\D*?)\(([^()]*)\)(\D*)")
CODE = re.compile(r"[-+]?0\d+")  # 007
GROUPED = re.compile(r"[1-9]\d{0,2}[.,]\d{3}")
SPACED = re.compile(r"[1-9]\d{0,2}(?:[ ']\d{3})+")
NOT_DIGITS = str.maketrans("−–‒﹣－’ʼ`´", "-----''''")


@dataclass(frozen=True)
class NumberFormat:
    """How a column writes its numbers. Thousands may be set apart by any sign that is not the decimal one, in groups of three.

    decimal: "." or ",". unit: the currency, percent sign or unit of its numbers, empty for none. short: whether m, b and t
    after a number mean millions, billions and trillions, as they do beside other such words or a currency. limits: whether
    `<7`, `51+` and `15-25` are numbers, as `limits.place` says. doubtful: whether a rule alone has chosen the decimal sign.
    """

    decimal: str = "."
    unit: str = ""
    short: bool = False
    limits: bool = False
    doubtful: bool = field(default=False, compare=False)

    @property
    def told(self) -> str:
        """What messages add to "expected a number": its unit and decimal comma, where there are."""
        words = [f"in {self.unit}"] * bool(self.unit) + ["with a decimal comma"] * (self.decimal == ",")
        return f" {' and '.join(words)}" if words else ""

    def comparable(self, other: NumberFormat) -> bool:
        """Whether numbers of the two mean the same: a unit may be left out, but not percent."""
        units = {self.unit, other.unit}
        return len(units) == 1 or ("" in units and "%" not in units)


PLAIN = NumberFormat()
Others = Callable[[], str | None]


@dataclass(frozen=True)
class Parts:
    """A cell, cut. digits: with its separators as they were written."""

    negative: bool
    digits: str
    unit: str
    power: int  # of ten, by a word such as k
    short: bool  # whether that word may be a unit as well


@dataclass(frozen=True)
class Inferred:
    """What a column's values say.

    told: whether the user or semicolons between fields said the decimal sign of a column that leaves it open.
    """

    format: NumberFormat
    told: bool = False


# ---- one cell ----------------------------------------------------------------------------------------------------------


def split_cell(text: str) -> Parts | None:
    """Sign, digits and unit of a cell, or None where it is no number however it be read."""
    text = " ".join((text if text.isascii() and "`" not in text else text.translate(NOT_DIGITS)).split())
    enclosed = ENCLOSED.fullmatch(text) if "(" in text else None
    if enclosed:  # (300), $(300), (300) €
        text = "".join(enclosed.groups()).strip()
    found = CELL.fullmatch(text)
    if found is None:
        return None
    signs = [found["sign"], found["inner"], (found["behind"] or "").strip(), "-" if enclosed else ""]
    if sum(map(bool, signs)) > 1:
        return None
    unit, power, short = _split_suffix(found["suffix"] or "")
    if unit is None:
        return None
    unit = _same_unit((found["prefix"] or "").rstrip(".")) + unit
    return Parts("-" in signs, found["digits"], unit, power, short)


@functools.lru_cache(1 << 12)
def _split_suffix(suffix: str) -> tuple[str | None, int, bool]:
    """Unit, power of ten and whether that may be a unit, of what follows the digits; None for a text that is no unit."""
    suffix = suffix.strip()
    word = re.match(r"[^\W\d_]+", suffix)
    name = word[0] if word else ""
    rest = suffix[len(name) :].lstrip(".")
    key = name if len(name) <= 1 or name == "MM" else name.lower()
    power = MAGNITUDES.get(key) or SHORT_MAGNITUDES.get(key)
    money = re.match(CURRENCY, rest.strip(), re.IGNORECASE)
    if power and (not rest.strip() or rest[0] == " " or money):
        return _same_unit(rest.strip()), power, key in SHORT_MAGNITUDES
    joined = re.fullmatch(rf"([kKMBm]|bn)((?i:{CURRENCY}))", suffix)
    if joined:  # 3.2kUSD
        return _same_unit(joined[2]), (MAGNITUDES | SHORT_MAGNITUDES)[joined[1]], False
    if len(suffix) > MAX_UNIT or suffix.count(" ") > 2 or name.lower() in NO_UNITS:
        return None, 0, False
    return _same_unit(suffix), 0, False


@functools.lru_cache(1 << 12)
def _same_unit(unit: str) -> str:
    """One name for a unit's spellings: KG and kg, year and years. MW and mW stay two."""
    unit = unit.strip().rstrip(".")
    if unit in ORDINALS:
        return "th"
    lower = unit.lower() if unit[:1] not in "mM" else unit[:1] + unit[1:].lower()
    if lower in CODES:
        return CODES[lower]
    return lower[:-1] if len(lower) > 2 and lower.endswith("s") and not lower.endswith("ss") else lower


def read_number(text: str, form: NumberFormat) -> float | None:
    """The number that a cell spells in a column so written, or None."""
    if form == PLAIN or ("." not in text and form == NumberFormat(",")):  # the common ones, fast
        number = as_number(text.replace(",", ".") if form.decimal == "," else text)
        if number is not None:
            return number
    parts = split_cell(text)
    if parts is not None:
        return _number(parts, form)
    ends = _split_limit(text) if form.limits else None
    if ends is None:
        return None
    numbers = [None if end is None else _number(end, form) for end in ends]
    unread = any(number is None and end is not None for number, end in zip(numbers, ends, strict=True))
    return None if unread else place(*numbers)


def _split_limit(text: str) -> tuple[Parts | None, Parts | None] | None:
    """The lower and the upper limit that a cell names, None where it is open; a unit that one has is the other's too."""
    found = cut_limit(text)
    if found is None:
        return None
    low, high = (None if end is None else split_cell(end) for end in (found.low, found.high))
    for parts, end in ((low, found.low), (high, found.high)):
        if (end is not None and parts is None) or (parts is not None and CODE.fullmatch(parts.digits)):
            return None
    if low is not None and high is not None:
        low, high = _with_unit(low, high), _with_unit(high, low)
    return low, high


def _with_unit(parts: Parts, other: Parts) -> Parts:
    if parts.unit or parts.power:
        return parts
    return replace(parts, unit=other.unit, power=other.power, short=other.short)


def _number(parts: Parts, form: NumberFormat) -> float | None:
    if not _fits(parts, form):
        return None
    plain = plain_digits(parts.digits, form.decimal)
    if plain is None:
        return None
    if power := _power(parts, form):
        mantissa, _, exponent = plain.lower().partition("e")
        plain = f"{mantissa}e{int(exponent or 0) + power}"  # a product would round a second time
    number = float(plain)
    return -number if parts.negative else number


def _power(parts: Parts, form: NumberFormat) -> int:
    return 0 if parts.short and not form.short else parts.power


def _fits(parts: Parts, form: NumberFormat) -> bool:
    """Whether a cell has the column's unit. It may leave it out, but for percent: 0.12 beside 12% may be either."""
    unit = unit_of(parts, form.short)
    if not unit and form.unit == "%":
        return not parts.digits.strip("0.,")
    return unit in ("", form.unit)


def unit_of(parts: Parts, short: bool) -> str:
    """The unit of a cell; `5 m` are metres where m is no magnitude, and the magnitudes of others are no units."""
    if parts.short and not short:
        return f"{parts.unit} short {parts.power}".strip()
    return parts.unit


def plain_digits(digits: str, decimal: str) -> str | None:
    """`1.234,50` as `1234.50` where `decimal` is a comma; None where groups are not of three digits."""
    number, letter, exponent = digits.lower().partition("e")
    whole, point, fraction = number.partition(decimal)
    if fraction and not fraction.isdecimal():
        return None
    if whole and not whole.isdecimal():
        sign = next(c for c in whole if not c.isdecimal())
        first, *groups = whole.split(sign)
        least = 2 if sign == "," else 3  # 12,34,567 as India writes it
        sound = all(least <= len(group) <= 3 and group.isdecimal() for group in groups)
        if not sound or not 1 <= len(first) <= 3 or not first.isdecimal() or first[0] == "0" or len(groups[-1]) != 3:
            return None
        whole = first + "".join(groups)
    plain = f"{whole or '0'}.{fraction}" if point else whole
    return f"{plain}e{exponent}" if letter else plain


# ---- a whole column ----------------------------------------------------------------------------------------------------


def infer_format(
    texts: Iterable[str], others: Others, commas: bool = False, said: str | None = None, limits: bool = True
) -> Inferred | None:
    """The format of a column of these different values; None where fewer than half of them are numbers.

    others: the decimal sign that the file's other columns say, asked only where this column leaves it open.
    commas: whether 1,234 is then 1.234, as it is where semicolons separate. said: the decimal sign by the user, "" for the one
    that occurs. limits: whether `<7` and `15-25` may be numbers, where all the column is so written.
    """
    texts = list(texts)
    split = {text: split_cell(text) for text in texts}
    cells = [parts for parts in split.values() if parts is not None]
    limited = _limits([text for text, parts in split.items() if parts is None], len(split)) if limits else {}
    if 2 * (len(cells) + len(limited)) <= len(split):
        return None
    cells += [end for ends in limited.values() for end in ends if end is not None]
    short = _short_magnitudes(cells)
    unit = _shared_unit(cells, short)
    digits = [p.digits for p in cells if unit_of(p, short) in ("", unit)]
    sign, doubtful, told = _chosen_sign(digits, others, commas, said)
    form = NumberFormat(sign, unit, short, bool(limited), doubtful)
    if limited and not _all_differ(limited, form):
        return infer_format(texts, others, commas, said, limits=False)
    return Inferred(form, told)


def _chosen_sign(digits: list[str], others: Others, commas: bool, said: str | None) -> tuple[str, bool, bool]:
    """The decimal sign of a column, whether a rule alone has decided, and whether the user or the file's separator has."""
    votes = Counter(vote for vote in map(decimal_vote, digits) if vote)
    if votes:
        return ("," if votes[","] > votes["."] else "."), False, False
    open_ones = [each for each in digits if GROUPED.fullmatch(each)]
    if not open_ones:
        return said or ".", False, False
    own = {found for each in open_ones for found in each if found in ".,"}
    if said == "" and len(own) == 1:
        return own.pop(), False, True
    if said:
        return said, False, True
    sign = others() or _grouping_vote(digits, own)
    if sign is not None:
        return sign, False, False
    rule = commas and any("," in each for each in digits)
    return ("," if rule else "."), True, rule


def _limits(texts: list[str], count: int) -> dict[str, tuple[Parts | None, Parts | None]]:
    """The limits among values that are no numbers; none where much of it is neither. count: of all values of the column."""
    found = {text: ends for text in texts if (ends := _split_limit(text)) is not None}
    others = len(texts) - len(found)
    return found if count >= LEAST_LIMITED and others <= max(1, FEW_OTHERS * count) else {}


def _all_differ(limited: dict[str, tuple[Parts | None, Parts | None]], form: NumberFormat) -> bool:
    """Whether all limits can be read, and no two that are open at one end are read as one number."""
    numbers = {text: read_number(text, form) for text in limited}
    open_ended = {cut_limit(text): numbers[text] for text, ends in limited.items() if None in ends}
    return None not in numbers.values() and len(set(open_ended.values())) == len(open_ended)


def _short_magnitudes(cells: list[Parts]) -> bool:
    """Whether m, b and t are millions and so on: beside other such words, or after a currency."""
    words = {p.power for p in cells if p.power}
    money = any(p.short and re.fullmatch(CURRENCY, p.unit, re.IGNORECASE) for p in cells)
    return money or (len(words) > 1 and any(p.short for p in cells))


def _shared_unit(cells: list[Parts], short: bool) -> str:
    """The unit of most cells that have one. Where most numbers are bare it counts only if it is money, which is often left out."""
    counts = Counter(unit_of(p, short) for p in cells)
    bare = counts.pop("", 0)
    if not counts:
        return ""
    unit, times = counts.most_common(1)[0]
    return unit if times >= bare or re.fullmatch(CURRENCY, unit, re.IGNORECASE) else ""


def _decimal_sign(digits: list[str]) -> str | None:
    """The decimal sign that the digits of a column say by themselves, or None."""
    votes = Counter(vote for vote in map(decimal_vote, digits) if vote)
    if votes:
        return "," if votes[","] > votes["."] else "."
    return _grouping_vote(
        digits, {found for each in digits if GROUPED.fullmatch(each) for found in each if found in ".,"}
    )


def _grouping_vote(digits: list[str], signs: set[str]) -> str | None:
    """The decimal sign of a column whose `signs` may part thousands: whole numbers under 1,000 alone beside them say that they do."""
    if len(signs) != 1:
        return None
    whole = {each for each in digits if each.isdecimal() and int(each)}
    if len(whole) >= LEAST_GROUPED and all(len(each) <= 3 for each in whole):  # 1.234 beside 567, 89 and 912
        return "," if signs == {"."} else "."
    return None


@functools.lru_cache(1 << 14)
def decimal_vote(digits: str) -> str | None:
    """ "." or "," where digits can be read with that decimal sign alone; None where with both, or with none."""
    can = [sign for sign in ".," if plain_digits(digits, sign) is not None]
    return can[0] if len(can) == 1 and ("." in digits or "," in digits) else None


def may_be_grouped(texts: list[str]) -> bool:
    """Whether plain numbers may be thousands: some as 1.234, and no other form among them but whole numbers under 1,000."""
    bare = [text.lstrip("+-") for text in texts]
    if not any("." in text for text in bare):
        return False
    return all(GROUPED.fullmatch(text) or (text.isdecimal() and len(text) <= 3) for text in bare)


def mixed_units(texts: Iterable[str]) -> tuple[str, str] | None:
    """Two values in different units of a column of numbers in more than one; None for any other column.

    A bare number among others in percent is one in another unit: 0.12 beside 12% may be either.
    """
    texts = list(texts)
    cells = {text: parts for text in texts if (parts := split_cell(text)) is not None}
    if len(texts) - len(cells) > FEW_OTHERS * len(texts):
        return None
    short = _short_magnitudes(list(cells.values()))
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for text, parts in cells.items():
        unit = unit_of(parts, short)
        if unit or parts.digits.strip("0.,"):
            first.setdefault(unit, text)
            counts[unit] += 1
    if "%" not in counts:
        counts.pop("", None)
    if not 2 <= len(counts) <= MOST_UNITS:
        return None
    one, other = sorted((unit for unit, _ in counts.most_common(2)), key=list(first).index)
    return first[one], first[other]


# ---- reading one -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadNumbers:
    """A column read as numbers. values: float64 (N,), NaN where missing or text. strays: int64 rows of what is text."""

    values: np.ndarray
    strays: np.ndarray
    format: NumberFormat = PLAIN
    told: bool = False  # as of `Inferred`

    @property
    def doubtful(self) -> bool:
        return self.format.doubtful


def read_column(
    column: np.ndarray, others: Others, commas: bool = False, said: str | None = None
) -> ReadNumbers | None:
    """The numbers of a column of text (N,), None where missing; None where fewer than half of what is there are numbers.

    others, commas, said: as for `infer_format`.
    """
    texts = column.tolist()
    plain = read_plain(texts)
    glance = _present(texts, GLANCE)
    grouped = may_be_grouped(glance) or (said == "," and any("." in text for text in texts if text))
    if plain is not None and not len(plain.strays) and not grouped:
        return plain
    infer = functools.partial(infer_format, others=others, commas=commas, said=said)
    if infer(glance) is None:
        return plain
    different = list(dict.fromkeys(_present(texts)))
    sample = different[:: 1 + len(different) // LOOKED_AT]
    found = _inferred(texts, infer(sample))
    if len(sample) < len(different) and (found is None or len(found.strays)):
        found = _inferred(texts, infer(different))
    if found is None or (plain is not None and len(plain.strays) < len(found.strays)):
        return plain
    return found if np.count_nonzero(~np.isnan(found.values)) > len(found.strays) else None


def _inferred(texts: list[str | None], inferred: Inferred | None) -> ReadNumbers | None:
    if inferred is None:
        return None
    return replace(read_as(texts, inferred.format), told=inferred.told)


def other_reading(texts: list[str | None], found: ReadNumbers) -> ReadNumbers | None:
    """A column as the other decimal sign reads it, where that is possible too and gives other numbers."""
    split = [parts for parts in map(split_cell, dict.fromkeys(_present(texts, GLANCE))) if parts is not None]
    if any(decimal_vote(parts.digits) for parts in split):
        return None
    other = read_as(texts, replace(found.format, decimal="." if found.format.decimal == "," else ","))
    if len(other.strays) > len(found.strays) or np.array_equal(other.values, found.values, equal_nan=True):
        return None
    return other


def read_plain(texts: list[str | None]) -> ReadNumbers | None:
    """A column of plain numbers, or None as soon as it is not one."""
    if (numbers := _all_plain(texts)) is not None:
        return ReadNumbers(numbers, np.empty(0, dtype=np.int64))
    values = np.full(len(texts), np.nan)
    strays: list[int] = []
    known = 0
    for i, text in enumerate(texts):
        if text is None:
            continue
        number = as_number(text)
        if number is not None:
            values[i] = number
            known += 1
        elif text.lower() not in MISSING_INPUT:
            strays.append(i)
            if len(strays) > 100 + known:
                return None
    return ReadNumbers(values, np.array(strays, dtype=np.int64)) if known > len(strays) else None


def _all_plain(texts: list[str | None]) -> np.ndarray | None:
    """The numbers of a column that has no others, fast; None where it has, or where none is there."""
    try:
        values = np.array(texts, dtype=object).astype(np.float64)  # as float() does, and None is NaN
    except ValueError:
        return None
    if np.isnan(values).all() or "_" in "".join(filter(None, texts)):
        return None
    return values


def read_as(texts: list[str | None], form: NumberFormat) -> ReadNumbers:
    """A column read in this format; each different text once."""
    if form == PLAIN and (plain := _all_plain(texts)) is not None:
        return ReadNumbers(plain, np.empty(0, dtype=np.int64), form)
    numbers: dict[str | None, float] = {None: np.nan}
    unread: set[str] = set()
    for text in dict.fromkeys(texts):
        if text is None:
            continue
        number = read_number(text, form)
        numbers[text] = np.nan if number is None else number
        if number is None and text.lower() not in MISSING_INPUT:
            unread.add(text)
    values = np.array([numbers[text] for text in texts], dtype=np.float64)
    strays = [i for i, text in enumerate(texts) if text in unread] if unread else []
    return ReadNumbers(values, np.array(strays, dtype=np.int64), form)


def decimal_sign_of(column: np.ndarray) -> str | None:
    """The decimal sign that a column's first values say, or None."""
    split = [parts for parts in map(split_cell, dict.fromkeys(_present(column, GLANCE))) if parts is not None]
    return _decimal_sign([parts.digits for parts in split])


def _present(texts: Iterable[str | None], most: int | None = None) -> list[str]:
    """The first `most` values that are there."""
    return list(itertools.islice((t for t in texts if t is not None and t.lower() not in MISSING_INPUT), most))
