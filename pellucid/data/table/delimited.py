"""Comma- and tab-separated text: its separator, its header, its records one by one, each problem with its line (floor 4).

This is the plain twin of `table.py`'s reader: DuckDB reads the fields, fast; where DuckDB stumbles, these records are
read instead, and say what is wrong and on which line. No types here: fields are text with the blanks around it stripped.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import DataError
from ..files import open_bytes

SEPARATORS = (",", "\t", ";", "|")
BLANK = " "  # one or more of them, tabs too, with columns aligned or not
BLANK_FIELD = re.compile(r'"[^"]*"|\S+')
ALIGNED, LEAST_ALIGNED = (
    0.9,
    5,
)  # the share of lines of one width, and how many, that blanks are taken for separators by
BLANKS = " \t\r\n\v\f\u00a0"
# Words for a value that is missing. A target may well be "none" or "-", so those count in inputs alone.
MISSING = frozenset({"", "?", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "(null)", "\\n"})
MISSING_INPUT = MISSING | {"none", "nil", "-", "--", "missing", "."}
YEARS = range(1900, 2101)  # that may name columns
MOST_TITLES = 30  # records above a header
MOST_NOTES = 30  # records below the rows
SENTENCE = re.compile(
    r"[*(©†]|--|[^\W\d_][^:]*:( |$)|.*[^\W\d_]{2}.* [^\W\d_].* [^\W\d_]"
)  # what a line below a table begins with
LOOKED_AT = 1000  # records that separator and header are sniffed from


@dataclass(frozen=True)
class Dialect:
    """How a file is cut: separator, fields a row, and the line end DuckDB has to be told."""

    separator: str
    width: int
    newline: str

    @property
    def shown(self) -> str:
        return {"\t": "tabs"}.get(self.separator, repr(self.separator))


def records(path: Path, separator: str, width: int = 0) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, fields) of every record that is not blank, of a file in UTF-8.

    width: the number of columns where it is known: in one column alone, an empty field in quotes is a record.
    """
    with io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="") as file:
        yield from records_of(file, separator, path, width)


def records_of(file: Iterable[str], separator: str, path: Path, width: int = 0) -> Iterator[tuple[int, list[str]]]:
    """`records` of lines. path: for messages."""
    quotes = 0  # in the lines of this record

    def lines() -> Iterator[str]:
        nonlocal quotes
        for text in file:
            quotes += text.count('"')
            yield text

    reader = csv.reader(lines(), delimiter=separator, skipinitialspace=separator not in "\t ")
    line = 1
    try:
        for record in reader:
            if reader.line_num > line and quotes % 2:  # one that spans lines has its quotes in pairs
                raise DataError(f"{path}, line {line}: a quote is opened and never closed; expected quotes in pairs; close it, or "
                                "double one that is text")  # fmt: skip
            quotes = 0
            fields = [field.strip(BLANKS) for field in record]
            if any(fields) or (width == 1 and len(fields) == 1):
                yield line, fields
            line = reader.line_num + 1
    except csv.Error:
        raise DataError(f"{path}, line {line}: a field of more than {csv.field_size_limit():,} characters; expected a row of "
                        "short fields; is a quote on that line opened and never closed?") from None  # fmt: skip


def sniff(path: Path, separator: str | None = None) -> tuple[Dialect, list[list[str]]]:
    """The dialect of a text file, and its first records. The first row says how many fields there are.

    separator: where it is known.
    """
    samples = {s: _sample(records(path, s)) for s in ([separator] if separator else SEPARATORS)}
    separator, sample = _evenest(samples)
    if not sample:
        next(records(path, separator), None)  # raises where a quote is to blame
        raise DataError(f"{path}: only blanks and separators; expected rows of data; check how it was made")
    with open_bytes(path) as file:
        start = file.read(1 << 16)
    newline = "\r\n" if b"\r\n" in start else "\n" if b"\n" in start else "\r" if b"\r" in start else "\n"
    return Dialect(separator, len(sample[0][1]), newline), [fields for _, fields in sample]


Sample = list[tuple[int, list[str]]]


def sniff_lines(lines: Sequence[str], separator: str | None, path: Path) -> tuple[str, Sample]:
    """The separator of a file's first lines, and their records, each with its line. A blank stands for any number of them."""
    if separator != BLANK:
        separators = [separator] if separator else SEPARATORS
        found, sample = _evenest({s: _sample(records_of(lines, s, path)) for s in separators})
        if separator or not lines or (found != "\t" and widest([fields for _, fields in sample]) > 1):
            return found, sample
    aligned = [(line, fields) for line, text in enumerate(lines, start=1) if (fields := split_line(text, BLANK))]
    if separator == BLANK or _is_aligned([fields for _, fields in aligned], widest([fields for _, fields in sample])):
        return BLANK, aligned
    return found, sample


def _is_aligned(rows: list[list[str]], width: int) -> bool:
    """Whether blanks cut rows into more than twice `width` fields, nearly all into as many, one column being numbers."""
    wide = widest(rows)
    even = [row for row in rows if len(row) == wide]
    if wide < 2 or wide <= 2 * width - 2 or len(even) < max(LEAST_ALIGNED, ALIGNED * len(rows)):
        return False
    return any(all(as_number(field) is not None for field in column) for column in zip(*even[1:], strict=True))


def split_line(line: str, separator: str) -> list[str]:
    """The fields of one line, which ends with it."""
    if separator == BLANK:
        return [field.strip('"') if field[0] == '"' else field for field in BLANK_FIELD.findall(line)]
    return [field.strip(BLANKS) for field in next(csv.reader([line], delimiter=separator), [])]


def _sample(found: Iterator[tuple[int, list[str]]]) -> Sample:
    sample: Sample = []
    with contextlib.suppress(DataError):  # a wrong separator may see quotes that are none
        sample += itertools.islice(found, LOOKED_AT)
    return sample


def _evenest(samples: dict[str, Sample]) -> tuple[str, Sample]:
    separator = max(samples, key=lambda s: _evenness([fields for _, fields in samples[s]]))
    return separator, samples[separator]


def _evenness(sample: list[list[str]]) -> tuple[float, int]:
    """How well a separator cuts: the share of records with the commonest number of fields, then that number."""
    if not sample:
        return (-1.0, 0)
    width, times = Counter(map(len, sample)).most_common(1)[0]
    return (times / len(sample) if width > 1 else 0.0, width)


def checked_records(path: Path, dialect: Dialect) -> Iterator[tuple[int, list[str]]]:
    """`records`, each of `dialect.width` fields; DataError with line and counts at the first that is not."""
    found = records(path, dialect.separator, dialect.width)
    first = next(found, None)
    if first is None:
        return
    yield first
    before = found
    for position, (line, fields) in enumerate(before):
        if len(fields) != dialect.width:
            raise _ragged(path, dialect, line, fields, found, position == 0)
        yield line, fields


def _ragged(
    path: Path, dialect: Dialect, line: int, fields: list[str], rest: Iterator[tuple[int, list[str]]], second: bool
) -> DataError:
    came = f"{len(fields)} field{'s' * (len(fields) != 1)}"
    where = f"{path}, line {line}"
    following = Counter(len(record) for _, record in itertools.islice(rest, 20))
    if second and following and following.keys() == {len(fields)}:
        return DataError(f"{path}, line 1: {dialect.width} field{'s' * (dialect.width != 1)}, but the rows after it have "
                         f"{len(fields)}; expected as many in each; mend the header, or remove a title above it")  # fmt: skip
    return DataError(f"{where}: {came}; expected {dialect.width}, as in the first row (separated by {dialect.shown}); "
                     "mend the row, or put quotes around a field that holds the separator")  # fmt: skip


# ---- is the first row a header? ------------------------------------------------------------------------------------------


def looks_like_header(sample: Sequence[Sequence[str]]) -> bool:
    """Whether the first record names the columns: no numbers in it but years or numbers in order, and unlike the rows below.

    Where a column is all numbers below its first field, that field is a name. With text alone, the first row is data if
    one of its fields comes again below it.
    """
    first, below = sample[0], [row for row in sample[1:] if len(row) == len(sample[0])]
    numbered = [k for k, field in enumerate(first) if as_number(field) is not None]
    if numbered and not (below and _are_names(sample, numbered)):
        return False
    if not below:
        return True
    columns = [[field for field in column if field.lower() not in MISSING_INPUT] for column in zip(*below, strict=True)]
    named = [field.lower() not in MISSING and k not in numbered for k, field in enumerate(first)]
    if any(
        name and column and all(as_number(field) is not None for field in column)
        for name, column in zip(named, columns, strict=True)
    ):
        return True
    if len(numbered) == 1:
        return False
    return not any(name and field in column for name, field, column in zip(named, first, columns, strict=True))


def _are_names(sample: Sequence[Sequence[str]], numbered: Sequence[int]) -> bool:
    """Whether the numbers in the first record may name columns, beside texts: years, or three and more one by one; not so below."""
    first, second = sample[0], sample[1]
    if len(numbered) == len(first) or len(second) != len(first) or not all(first[k].isdecimal() for k in numbered):
        return False
    names = [int(first[k]) for k in numbered]
    steps = {after - before for before, after in itertools.pairwise(names)}
    if not steps <= {1} and not steps <= {-1}:
        return False
    years = all(year in YEARS for year in names)
    same = [second[k].isdecimal() and int(second[k]) in YEARS for k in numbered]
    follow = {after - before for before, after in itertools.pairwise([as_number(second[k]) or 0.0 for k in numbered])}
    return (years and not all(same)) or (len(names) >= 3 and follow != steps)


def widest(rows: Sequence[Sequence[str]]) -> int:
    """The commonest number of fields, the larger of two that are as common; 0 without rows."""
    return max(Counter(map(len, rows)).items(), key=lambda item: item[::-1], default=(0, 0))[0]


def titles_above(rows: Sequence[Sequence[str]]) -> int:
    """How many of the first records are titles above a header: of other widths than the rest, or with all but one field blank.

    None where what follows does not begin with a header, nor where the header may only lack a name, as R writes it.
    """
    width = widest(rows)
    filled = [sum(field.lower() not in MISSING for field in row) for row in rows[: MOST_TITLES + 1]]
    if width < 2:
        return 0
    for k, row in enumerate(rows[: MOST_TITLES + 1]):
        alone = len(row) == width and filled[k] <= max(1, width // 3) and (width > 2 or bool(row[0]))
        if len(row) != width or alone:
            continue
        if k and filled[k] == width and looks_like_header(rows[k:]) and not 2 < width == len(rows[k - 1]) + 1:
            return k
        return 0
    return 0


def notes_below(rows: Sequence[Sequence[str]], width: int) -> int:
    """How many of the last records are notes below a table of `width` columns; blank ones count, as records without fields.

    They are of other widths than rows, or with all but one field blank; a blank record stands above them, or they begin as a
    sentence does. A last row that is cut off is none.
    """
    filled = [[field for field in fields if field.lower() not in MISSING] for fields in rows]
    below = 0
    for fields, own in zip(reversed(rows), reversed(filled), strict=True):
        padded = width > 2 and len(own) == 1
        if own and ((len(fields) == width and not padded) or as_number(own[0]) is not None):
            break
        below += 1
    if not below or below >= min(len(rows), MOST_NOTES):
        return 0
    first = next((k for k in range(len(rows) - below, len(rows)) if filled[k]), None)
    if first is None or (filled[-below] and not SENTENCE.match(filled[first][0])):
        return 0
    padded = len(rows[first]) == width
    return (
        0
        if padded and ((filled[-below] and _has_sentences(rows[:-below], rows[first])) or _has_sparse(filled[:-below]))
        else below
    )


def _has_sparse(filled: Sequence[Sequence[str]]) -> bool:
    return any(len(own) == 1 for own in filled)


def _has_sentences(rows: Sequence[Sequence[str]], note: Sequence[str]) -> bool:
    """Whether rows hold sentences in the column of a note."""
    at = next(k for k, field in enumerate(note) if field.lower() not in MISSING)
    return any(len(row) == len(note) and SENTENCE.match(row[at]) for row in rows[1:])


def notes_told(count: int, noun: str, first: str) -> str:
    """The note on notes below a table."""
    return f"file: {count:,} {noun}{'s' * (count > 1)} below the table skipped, {first[:40]!r} first (--read footer=none keeps all)"


def as_number(field: str) -> float | None:
    """The number a field spells, or None: no `1_000`; `inf` and 1e400 are numbers, infinite ones."""
    if "_" in field:
        return None
    try:
        return float(field)
    except ValueError:
        return None
