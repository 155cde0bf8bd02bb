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
from dataclasses import dataclass

import numpy as np

from .delimited import MISSING_INPUT, as_number

LOOKED_AT = 20_000  # different values that a format is inferred from first; all of them where some then cannot be read
GLANCE = 200  # values that show whether a column is of numbers at all
LEAST_GROUPED = 3  # different whole numbers under 1,000 that make 1.234 beside them a thousand
MAX_UNIT = 15  # characters

# Three powers of ten by the words after a number. m, b and t may be units as well: see `NumberFormat.short`.
MAGNITUDES = {
    "k": 3, "K": 3, "thousand": 3, "tsd": 3,
    "M": 6, "mn": 6, "mio": 6, "mln": 6, "million": 6, "millions": 6, "mill": 6, "MM": 6,
    "bn": 9, "B": 9, "mrd": 9, "billion": 9, "billions": 9,
    "tn": 12, "trillion": 12,
}  # fmt: skip
SHORT_MAGNITUDES = {"m": 6, "b": 9, "t": 12, "T": 12, "G": 9}
CODES = {"usd": "$", "us$": "$", "eur": "€", "euro": "€", "gbp": "£", "jpy": "¥", "inr": "₹", "rs": "₹"}
ORDINALS = ("st", "nd", "rd", "th")

CURRENCY = (r"(?:(?:US|R|A|C|AU|CA|NZ|HK|S)?\$|[€£¥₹₩₽₺₪฿₫₴₦₱₡₵₸₼]|(?:USD|EUR|GBP|JPY|CHF|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|INR|CNY|RMB|BRL|ZAR|MXN|"
            r"TRY|RUB|KRW|SGD|HKD|THB|AED|Euro|Rs|Fr|kr)\b\.?)")  # fmt: skip
CELL = re.compile(
    rf"(?P<sign>[-+]?) ?(?P<prefix>{CURRENCY}|%)? ?(?P<inner>[-+]?)(?P<digits>(?:\d+(?:[.,' ]\d+)*[.,]?|[.,]\d+)(?:[eE][-+]?\d+)?)"
    r" ?(?P<suffix>[^\W\d_%°][^\d+<>=;:()|]*?[23²³]?|[%‰°$€£¥₹₩₽₺₪฿₫₴₦₱\"'″′][^\d+<>=;:()|]*?)?(?P<behind> ?-)?", re.IGNORECASE
)  # fmt: skip
ENCLOSED = re.compile(r"(\D*?)\(([^()]*)\)(\D*)")
GROUPED = re.compile(r"[1-9]\d{0,2}[.,]\d{3}")
SPACED = re.compile(r"[1-9]\d{0,2}(?:[ ']\d{3})+")
NOT_DIGITS = str.maketrans("−–‒﹣－’ʼ`´", "-----''''")


@dataclass(frozen=True)
class NumberFormat:
    """How a column writes its numbers. Thousands may be set apart by any sign that is not the decimal one, in groups of three.

    decimal: "." or ",". unit: the currency, percent sign or unit of its numbers, empty for none. short: whether m, b and t
    after a number mean millions, billions and trillions, as they do beside other such words or a currency.
    """

    decimal: str = "."
    unit: str = ""
    short: bool = False

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
    """What a column's values say. doubtful: whether they leave the decimal sign open, so that a rule has decided."""

    format: NumberFormat
    doubtful: bool


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
    if len(suffix) > MAX_UNIT or suffix.count(" ") > 2:
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
    if parts is None or not _fits(parts, form):
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


def infer_format(texts: Iterable[str], others: Others, commas: bool = False) -> Inferred | None:
    """The format of a column of these different values; None where fewer than half of them are numbers.

    others: the decimal sign that the user or the file's other columns say, asked only where this column leaves it open.
    commas: whether 1,234 is then 1.234, as it is where semicolons separate.
    """
    split = [split_cell(text) for text in texts]
    cells = [parts for parts in split if parts is not None]
    if 2 * len(cells) <= len(split):
        return None
    short = _short_magnitudes(cells)
    unit = _shared_unit(cells, short)
    fitting = [p for p in cells if unit_of(p, short) in ("", unit)]
    sign = _decimal_sign([p.digits for p in fitting])
    open_ones = sign is None and any(GROUPED.fullmatch(p.digits) for p in fitting)
    told = others() if open_ones else None
    rule = "," if commas and any("," in p.digits for p in fitting) else "."
    return Inferred(NumberFormat(sign or told or rule, unit, short), open_ones and told is None)


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
    open_ones = {found for each in digits if GROUPED.fullmatch(each) for found in each if found in ".,"}
    if len(open_ones) != 1:
        return None
    whole = {each for each in digits if each.isdecimal() and int(each)}
    if len(whole) >= LEAST_GROUPED and all(len(each) <= 3 for each in whole):  # 1.234 beside 567, 89 and 912
        return "," if open_ones == {"."} else "."
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


# ---- reading one -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReadNumbers:
    """A column read as numbers. values: float64 (N,), NaN where missing or text. strays: int64 rows of what is text."""

    values: np.ndarray
    strays: np.ndarray
    format: NumberFormat = PLAIN
    doubtful: bool = False


def read_column(column: np.ndarray, others: Others, commas: bool = False) -> ReadNumbers | None:
    """The numbers of a column of text (N,), None where missing; None where fewer than half of what is there are numbers.

    others, commas: as for `infer_format`.
    """
    texts = column.tolist()
    plain = read_plain(texts)
    glance = _present(texts, GLANCE)
    if plain is not None and not len(plain.strays) and not may_be_grouped(glance):
        return plain
    if infer_format(glance, others, commas) is None:
        return plain
    different = list(dict.fromkeys(_present(texts)))
    sample = different[:: 1 + len(different) // LOOKED_AT]
    found = _inferred(texts, sample, others, commas)
    if len(sample) < len(different) and (found is None or len(found.strays)):
        found = _inferred(texts, different, others, commas)
    if found is None or (plain is not None and len(plain.strays) < len(found.strays)):
        return plain
    return found if np.count_nonzero(~np.isnan(found.values)) > len(found.strays) else None


def _inferred(texts: list[str | None], looked_at: list[str], others: Others, commas: bool) -> ReadNumbers | None:
    inferred = infer_format(looked_at, others, commas)
    return None if inferred is None else read_as(texts, inferred.format, inferred.doubtful)


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


def read_as(texts: list[str | None], form: NumberFormat, doubtful: bool = False) -> ReadNumbers:
    """A column read in this format; each different text once."""
    if form == PLAIN and (plain := _all_plain(texts)) is not None:
        return ReadNumbers(plain, np.empty(0, dtype=np.int64), form, doubtful)
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
    return ReadNumbers(values, np.array(strays, dtype=np.int64), form, doubtful)


def decimal_sign_of(column: np.ndarray) -> str | None:
    """The decimal sign that a column's first values say, or None."""
    split = [parts for parts in map(split_cell, dict.fromkeys(_present(column, GLANCE))) if parts is not None]
    return _decimal_sign([parts.digits for parts in split])


def _present(texts: Iterable[str | None], most: int | None = None) -> list[str]:
    """The first `most` values that are there."""
    return list(itertools.islice((t for t in texts if t is not None and t.lower() not in MISSING_INPUT), most))
