"""How a file is to be read, where its own signs are overruled: `--read encoding=cp1252,delimiter=;,decimal=,` (floor 4).

None in a field means that the file decides. The options of training are kept in the preprocessor, so that new files are
read in the same way.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass

from ...errors import OptionError, suggestion
from .delimited import as_number

SIGNS = {"tab": "\t", "\\t": "\t", "space": " ", "comma": ",", "semicolon": ";", "pipe": "|", "point": ".", "dot": ".",
         "apostrophe": "'"}  # fmt: skip
NONE = ("none", "no")
DATES = ("dayfirst", "monthfirst")
PART = re.compile(r",\s*(?=[A-Za-z_ -]+=)")  # a comma that the next KEY= follows; any other belongs to a value
HEADER_MOST = 1000  # the last line that may be named as the header
FOOTER_MOST = 100  # lines below the rows


@dataclass(frozen=True)
class ReadOptions:
    """What the user said of a file.

    encoding: as Python names it. delimiter: one character between fields. decimal: "," or ".". thousands: the character
    between groups of digits, "" for none. dates: one of DATES. comment: what a line to skip begins with, "" for none.
    sheet: of a workbook, its name, or its number from 1. header: the line that names the columns, from 1, what stands above it being skipped;
    0 where no line does. footer: how many last lines that are not blank are no rows; 0 where all are, totals of other rows too.
    exact: columns, separated by |, whose cells are taken as they are written: plain numbers and text alone.
    missing: words and numbers, separated by | or commas, that stand for a missing value in any column.
    """

    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    dates: str | None = None
    comment: str | None = None
    sheet: str | None = None
    header: int | None = None
    footer: int | None = None
    exact: str | None = None
    missing: str | None = None

    def is_exact(self, column: str) -> bool:
        """Whether the cells of `column` are to be taken as they are written."""
        return self.exact is not None and column in self.exact.split("|")

    def missing_words(self) -> frozenset[str]:
        """The words of `missing` in lower case, numbers as Python writes them."""
        words = re.split(r"[|,]", self.missing) if self.missing else []
        return frozenset(word_of_gap(word) for word in words if word.strip())

    @property
    def decimal_sign(self) -> str | None:
        """The decimal sign that was said, by itself or by the sign between thousands; "" where there are no thousands."""
        if self.decimal is None and self.thousands is not None:
            return {",": ".", ".": ",", "": ""}.get(self.thousands)
        return self.decimal

    @property
    def separator(self) -> str | None:
        """The delimiter of the copy that `plain_text` makes: tabs where any number of blanks stands between fields."""
        return "\t" if self.delimiter == " " else self.delimiter

    @classmethod
    def parse(cls, text: str | None) -> ReadOptions:
        """The options that `KEY=VALUE,KEY=VALUE` spells; a comma may be a value. None overrules nothing. Raises OptionError."""
        values: dict[str, str | int] = {}
        if text is None:
            return cls()
        for part in PART.split(text.strip(" \n")):
            key, _, value = part.partition("=")
            key = key.strip().lower()
            if key not in PARSERS:
                hint = suggestion(key, PARSERS)
                raise OptionError(f"--read {text}: {key or part!r} is no part of how a file is read; expected {', '.join(PARSERS)}, each "
                                  f"with a value; write --read {EXAMPLE}{'.' * bool(hint)}{hint}")  # fmt: skip
            if key in values:
                raise OptionError(f"--read {text}: {key} comes twice; expected each once; leave one out")
            expected, example, parser = PARSERS[key]
            parsed = parser(value if value.isspace() else value.strip())
            if parsed is None:
                came = f"{key}={value}: {value!r}" if value else f"{key}: no value"
                comma = f" (where it is a comma, two: --read {key}=,,dates=dayfirst)" * (not value and key in COMMAS)
                raise OptionError(f"--read {came}; expected {expected}; write --read {key}={example}{comma}")
            values[key] = parsed
        options = cls(**values)  # type: ignore[arg-type]
        options._check_signs(text)
        return options

    def _check_signs(self, text: str) -> None:
        """Raise OptionError where one character would mean two things."""
        pairs = (("decimal", "thousands"), ("delimiter", "comment"))
        for one, other in pairs:
            sign = getattr(self, one)
            if sign and sign == getattr(self, other):
                raise OptionError(f"--read {text}: {sign!r} is both {one} and {other}; expected two signs; change one")

    def __str__(self) -> str:
        """As `parse` reads it; empty where nothing is overruled."""
        words = {"\t": "tab", " ": "space", "": "none"}
        given = [(name, value) for name, value in asdict(self).items() if value is not None]
        return ",".join(f"{name}={'none' if value == 0 else words.get(value, value)}" for name, value in given)

    def of_text(self, text: str | None) -> str | None:
        """The encoding, where no rows are read. Raises OptionError for any other option."""
        if self != ReadOptions(encoding=self.encoding):
            raise OptionError(
                f"--read {text}: DATA is a text without rows; expected encoding alone; write --read encoding={self.encoding or 'cp1252'}"
            )
        return self.encoding

    def over(self, other: ReadOptions) -> ReadOptions:
        """These options, and those of `other` where these say nothing."""
        return ReadOptions(**{**asdict(other), **{k: v for k, v in asdict(self).items() if v is not None}})


def word_of_gap(text: str) -> str:
    """A cell as `missing_words` has it: -999.0 and -999 are one."""
    number = as_number(text)
    return text.strip().lower() if number is None else repr(number)


def _encoding(value: str) -> str | None:
    try:
        info = codecs.lookup(value)
    except (LookupError, ValueError):
        return None
    return info.name if getattr(info, "_is_text_encoding", True) else None


def _delimiter(value: str) -> str | None:
    sign = SIGNS.get(value.lower(), value)
    return sign if len(sign) == 1 and sign not in '"\r\n' and not sign.isalnum() else None


def _one_of(*choices: str) -> Callable[[str], str | None]:
    def parser(value: str) -> str | None:
        word = SIGNS.get(value.lower(), value.lower())
        return word if word in choices else None

    return parser


def _thousands(value: str) -> str | None:
    return "" if value.lower() in NONE else _one_of(",", ".", " ", "'", "_")(value)


def _comment(value: str) -> str | None:
    if value.lower() in NONE:
        return ""
    return value if 1 <= len(value) <= 3 and not any(c.isalnum() or c in "\"'" for c in value) else None


def _missing(value: str) -> str | None:
    return value if re.sub(r"[|,\s]", "", value) else None


def _sheet(value: str) -> str | None:
    return value or None


def _header(value: str) -> int | None:
    if value.lower() in NONE:
        return 0
    return int(value) if re.fullmatch(r"[0-9]{1,4}", value) and int(value) <= HEADER_MOST else None


def _footer(value: str) -> int | None:
    if value.lower() in NONE:
        return 0
    return int(value) if re.fullmatch(r"[0-9]{1,4}", value) and int(value) <= FOOTER_MOST else None


# What is expected of each key, an example, and what reads the value: None where it does not fit.
PARSERS: dict[str, tuple[str, str, Callable[[str], str | int | None]]] = {
    "encoding": ("the name of an encoding", "cp1252", _encoding),
    "delimiter": ("one character, or tab, space, comma, semicolon, pipe", ";", _delimiter),
    "decimal": ("a comma or a point", ",", _one_of(",", ".")),
    "thousands": ("a comma, a point, a blank (space), an apostrophe, or none", ".", _thousands),
    "dates": (" or ".join(DATES), DATES[0], _one_of(*DATES)),
    "comment": ("the one to three signs that a line to skip begins with, or none", "#", _comment),
    "sheet": ("the name of a sheet, or its number from 1", "Sheet2", _sheet),
    "header": (f"the line of the file that names the columns, from 1 to {HEADER_MOST}, or none", "3", _header),
    "footer": (f"how many lines stand below the rows, up to {FOOTER_MOST}, or none", "2", _footer),
    "exact": ("columns to take as they are written, separated by |", "NAME", _sheet),
    "missing": ("words or numbers that stand for a missing value, separated by |", "unknown|-999", _missing),
}
EXAMPLE = "encoding=cp1252,delimiter=;,decimal=,,dates=dayfirst"
COMMAS = ("delimiter", "decimal", "thousands")  # keys whose value may be a comma
