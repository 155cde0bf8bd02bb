"""Columns that name rows and say nothing of them: row numbers, customer numbers, UUIDs, hashes (floor 4).

A column is judged by its name and by its values: different in (nearly) every row and, as names of rows are, whole numbers
that fill a range, or codes of one form. A price is neither. Copies of a row are looked at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from .delimited import MISSING_INPUT
from .read import Table

DIFFERENT = 0.95  # of the values, in a column that names rows
SAMPLE = 1000  # values that a column must pass before all are looked at
LEAST = 10  # values
FIRST = 30  # times as far in as expected the first of numbers drawn from those from 0 on hardly is
DENSE = 10  # numbers that a range may have for each row, where the name alone is a weak sign
# The last word of a name, in a column of any whole numbers or codes.
NAMES_ROWS = "id ids uid uuid guid idx index key pk rowid rownum rownumber serial isbn ssn imei iban hash token"
# And in one of whole numbers that fill a range.
MAY_NAME_ROWS = (
    "number no nr num row record ref reference case sample subject patient customer user client account member employee "
    "student person passenger respondent participant transaction invoice ticket session device observation obs unnamed"
)
# Words of what is counted or ordered: such numbers may fill a range and mean something.
MEASURES = (
    "rank ranking position place order level year month week day date hour minute second time timestamp epoch step period age "
    "x t rate score price amount size length distance temperature"
)
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
UUID = re.compile(r"\{?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\}?", re.IGNORECASE)
HASH = re.compile(r"(0x)?(?=[0-9a-f]*\d)(?=[0-9]*[a-f])[0-9a-f]{12,128}", re.IGNORECASE)
EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
CODE = re.compile(r"[A-Za-z]{1,8}[-_#/ ]?\d{2,}([-_/]?[A-Za-z0-9]+)*")  # A0017, CUST-00123
TEXT_FORMS = ((UUID, "UUIDs"), (EMAIL, "addresses of e-mail"), (HASH, "hashes"), (CODE, "codes"))


def find_identifiers(table: Table, columns: Sequence[int], rows: np.ndarray) -> dict[int, str]:
    """What each of `columns` that names rows holds, by its position: "row numbers", "UUIDs", ...

    rows: int64, those that repeat no earlier one. Where no other column would be left, there are none: then the numbers
    are what there is to learn from.
    """
    found = {}
    for position in columns:
        what = _identifier(table, position, rows)
        if what is not None:
            found[position] = what
    return found if len(found) < len(columns) else {}


def name_words(name: str) -> list[str]:
    """`PassengerId` as ["passenger", "id"]."""
    return [word.lower() for word in WORDS.findall(name)]


def _identifier(table: Table, position: int, rows: np.ndarray) -> str | None:
    cells = table.columns[position]
    if not _mostly_different(cells[rows[:: max(1, len(rows) // SAMPLE)]]):
        return None
    parsed = table.parsed(position)
    if parsed is None:
        return _text_identifier(table, position, rows)
    values = parsed[0][rows]
    if len(parsed[1]) or len(values) < LEAST or not np.all(values % 1 == 0) or not _mostly_different(cells[rows]):
        return None
    return _number_identifier(table, position, values)


def _mostly_different(cells: np.ndarray) -> bool:
    present = [value for value in cells.tolist() if value is not None and value.lower() not in MISSING_INPUT]
    return len(present) >= LEAST and len(set(present)) >= DIFFERENT * len(present)


def _number_identifier(table: Table, position: int, values: np.ndarray) -> str | None:
    """What whole numbers are, which differ from one another."""
    ordered = np.sort(values)
    steps = np.diff(ordered)
    counts = bool(np.all(steps == steps[0]) and steps[0] > 0)  # equally spaced, in any order
    step, first, of = steps[0], ordered[0], max(len(values), table.drawn_from or 0)
    if of > len(values):  # drawn from a column of numbers one apart
        counts, step = bool(np.all(steps > 0) and ordered[-1] - first < of), 1.0
        first = 0.0 if 0 <= first < FIRST * of / len(values) else first
    in_order = bool(np.all(np.diff(values) > 0))
    words = name_words(table.names[position])
    last = words[-1] if words else ""
    if _nameless(table, position) and (counts or in_order):
        return "row numbers"
    if last in NAMES_ROWS.split() or words[:1] == ["id"]:
        return "row numbers" if counts and in_order else "identifiers"
    if set(words) & set(MEASURES.split()):
        return None
    dense = ordered[-1] - ordered[0] < DENSE * of
    if last in MAY_NAME_ROWS.split() and dense:
        return "row numbers" if counts and in_order else "identifiers"
    if counts and step == 1 and first in (0, 1):
        return "row numbers" if in_order else "identifiers"
    return None


def _nameless(table: Table, position: int) -> bool:
    """Whether a column has no name of its own, as pandas writes its index: the first of a file with a header."""
    name = table.names[position]
    unnamed = table.header and position == 0 and name in ("", "column1")
    return unnamed or re.fullmatch(r"unnamed:? ?_?\d+(_level_\d+)?(\.\d+)?", name, re.IGNORECASE) is not None


def _text_identifier(table: Table, position: int, rows: np.ndarray) -> str | None:
    """What texts are, which differ from one another."""
    cells = table.columns[position][rows]
    sample = [v for v in cells[:: max(1, len(rows) // SAMPLE)].tolist() if v is not None]
    for form, what in TEXT_FORMS:
        if sum(form.fullmatch(value) is not None for value in sample) >= DIFFERENT * len(sample):
            return what if _mostly_different(cells) else None
    words = name_words(table.names[position])
    single = sum(not re.search(r"\s", value) for value in sample) >= DIFFERENT * len(sample)
    if words and words[-1] in NAMES_ROWS.split() and single and _mostly_different(cells):
        return "identifiers"
    return None
