"""Reading tables: CSV, TSV, JSON, Parquet or workbooks as columns of text, by DuckDB, with file and line in every error (floor 4).

All fields are read as text; types are inferred from whole columns in `infer.py`. DuckDB is given one strict dialect; what it
refuses goes to `delimited.py`, which reads it or says what is wrong.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import numpy as np

from ...errors import DataError, OptionError, suggestion
from ..files import GZIP, PARQUET, ZIP, existing_file, starts_with
from .delimited import (
    BLANKS,
    LOOKED_AT,
    MISSING,
    MOST_NOTES,
    Dialect,
    checked_records,
    looks_like_header,
    notes_below,
    notes_told,
    records,
    sniff,
    titles_above,
)
from .header import two_rows, unique_names
from .json_rows import is_json, read_json
from .number_format import PLAIN, NumberFormat, ReadNumbers, decimal_sign_of, read_as, read_column, read_plain
from .plain import plain_text, unpacked
from .read_options import ReadOptions, word_of_gap
from .totals import without_totals
from .workbook import is_workbook, read_workbook

SHOWN = 20  # columns that a message lists
BLANK = re.compile(f"[{BLANKS}]")
LONGEST_MISSING = max(map(len, MISSING))
LARGEST = 1e150
ROWS = np.array([], dtype=np.int64)  # places of rows that are counted from 1
ENDINGS = frozenset({".csv", ".tsv", ".parquet", ".pq", ".data", ".tab", ".json", ".jsonl", ".ndjson", ".xlsx", ".xlsm", ".xlsb",
                     ".xls", ".ods"})  # fmt: skip
NESTED = ("STRUCT", "MAP", "UNION", "BLOB")


@dataclass(frozen=True)
class Table:
    """names: one a column. columns: as many object arrays (N,) of text, None where a value is missing.

    options: how the file was to be read. notes: what was found in it and decided, a line each.
    """

    path: Path
    names: list[str]
    columns: list[np.ndarray]
    header: bool
    decimal_comma: bool = False  # whether 3,14 is a number
    rows: np.ndarray | None = None  # which rows of the file these are, where some were left out
    options: ReadOptions = field(default_factory=ReadOptions)
    notes: list[str] = field(default_factory=list)
    places: np.ndarray | None = None  # where the rows of the file have no lines: the rows of its sheet, or none
    drawn_from: int | None = None  # how many rows the file has, where these were drawn from it at random
    like: Table | None = (
        None  # the rows by which it is decided how columns write their numbers; these ones by themselves
    )
    _numbers: dict[int, ReadNumbers | None] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def position(self, column: str | int, option: str = "--target") -> int:
        """The position of a column given by name, or by number from 1 (-1 is the last)."""
        if isinstance(column, str) and column in self.names:
            return self.names.index(column)
        try:
            number = int(column)
        except ValueError:
            number = 0
        count = len(self.names)
        if number and -count <= number <= count:
            return number - 1 if number > 0 else count + number
        hint = suggestion(str(column), self.names) or " Check the spelling."
        raise OptionError(f"{option} {column}: {self.path} has no such column; expected {self.listed()}, or a number "
                          f"from 1 to {count} (-1 is the last).{hint}")  # fmt: skip

    def listed(self) -> str:
        """The columns' names, for messages."""
        return ", ".join(self.names[:SHOWN]) + (f", ... ({len(self.names)} in all)" if len(self.names) > SHOWN else "")

    def take(self, rows: np.ndarray) -> Table:
        """The table of these rows; messages still give their lines in the file."""
        rows_of_file = rows if self.rows is None else self.rows[rows]
        return replace(self, columns=[c[rows] for c in self.columns], rows=rows_of_file, _numbers={})

    def row_numbers(self) -> np.ndarray:
        """Where each row stands in its file, from 1, a header not counted: int64 (N,). Of a workbook, the rows of its sheet."""
        rows = np.arange(len(self)) if self.rows is None else np.asarray(self.rows)
        return rows + 1 if self.places is None or not len(self.places) else np.asarray(self.places)[rows]

    def where(self, i: int) -> str:
        """`people.csv, line 17`, where row `i` begins; Parquet, JSON and workbooks have rows, not lines."""
        index = int(i if self.rows is None else self.rows[i])
        if self.places is not None:
            return f"{self.path}, row {self.places[index] if len(self.places) else index + 1}"
        return f"{self.path}, line {line_of(self.path, index + self.header, self.options)}"

    def row(self, i: int) -> dict[str, str]:
        """Row `i` as it was: column -> text, empty where missing."""
        return {
            name: "" if column[i] is None else str(column[i])
            for name, column in zip(self.names, self.columns, strict=True)
        }

    def parsed(self, position: int) -> tuple[np.ndarray, np.ndarray] | None:
        """(float64 values (N,), NaN where missing or not a number; int64 rows of what is text), or None for a text column.

        Text is a column of which fewer than half the values are numbers, however the column writes them.
        """
        found = self.read_numbers(position)
        return None if found is None else (found.values, found.strays)

    def read_numbers(self, position: int) -> ReadNumbers | None:
        """`parsed`, with the format that the whole column decided; only plain numbers where the user wants it exact."""
        if position not in self._numbers:
            self._numbers[position] = self._read_numbers(position)
        return self._numbers[position]

    def _read_numbers(self, position: int) -> ReadNumbers | None:
        texts = self.columns[position]
        if self.like is not None:
            known = self.like.read_numbers(position)
            return None if known is None else read_as(texts.tolist(), known.format)
        if self.options.is_exact(self.names[position]):
            return read_plain(texts.tolist())
        return read_column(texts, self._decimal_sign, self.decimal_comma, self.options.decimal_sign)

    def numbers_like(self, position: int, form: NumberFormat) -> ReadNumbers:
        """A column that was so written in training; where it cannot be read so, as it says itself, if in the same unit.

        Where it can be read both ways, the user and semicolons between decimal commas overrule training.
        """
        own = self.read_numbers(position)
        if own is not None and own.format == form:
            return own
        found = read_as(self.columns[position].tolist(), form)
        if own is not None and own.format.comparable(form) and len(own.strays) < len(found.strays) + own.told:
            return own
        return found

    def _decimal_sign(self) -> str | None:
        """The decimal sign of a column that leaves it open: that of most columns."""
        votes = Counter(vote for vote in (decimal_sign_of(column) for column in self.columns) if vote)
        if votes[","] != votes["."]:
            return max(votes, key=votes.__getitem__)
        return None

    def numbers_and_strays(self, position: int) -> tuple[np.ndarray, np.ndarray]:
        """`parsed`, where the column must be numbers: a column of text is all strays, a column without values none."""
        found = self.read_numbers(position) or read_as(self.columns[position].tolist(), PLAIN)
        return found.values, found.strays


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")


def numbers_of(table: Table, position: int) -> np.ndarray | None:
    """A column of numbers as float64, NaN where missing; None where any of it is text.

    Raises DataError with the line of a number beyond range.
    """
    found = table.parsed(position)
    if found is None or len(found[1]):
        return None
    check_finite(table, position)
    return found[0]


def check_finite(table: Table, position: int) -> None:
    """Raise DataError for the first number of a column that is infinite, as 1e400 is, or nearly (its square must not be)."""
    found = table.parsed(position)
    if found is not None and (huge := np.flatnonzero(np.abs(found[0]) > LARGEST)).size:
        i = int(huge[0])
        raise DataError(f"{table.where(i)}, column {table.names[position]}: {table.columns[position][i]} is beyond the range of "
                        f"numbers; expected at most {LARGEST:g}; correct it, or leave the field empty")  # fmt: skip


# ---- reading -----------------------------------------------------------------------------------------------------------


def read_table(path: Path, header: bool | None = None, options: ReadOptions | None = None) -> Table:
    """The table in `path`: CSV, TSV, JSON, Parquet, a workbook, or one of these packed by zip or gzip.

    header, options: overrule what is sniffed. Raises DataError with file and line.
    """
    options = options or ReadOptions()
    existing_file(path, "table")
    if header is None and options.header is not None:
        header = options.header > 0
    table = replace(_read(path, header, options), options=options)
    if gaps := options.missing_words():
        table = replace(table, columns=[_without(column, gaps) for column in table.columns])
    if not len(table):
        raise DataError(
            f"{path}: a header and no rows; expected rows of data; if the only row is data, pass --no-header"
        )
    names, notes = unique_names(table.names)
    return without_totals(replace(table, names=names, notes=table.notes + notes))


def _read(path: Path, header: bool | None, options: ReadOptions) -> Table:
    if starts_with(path, PARQUET):
        return _read_parquet(path)
    if is_workbook(path):
        return _read_workbook(path, header, options)
    if starts_with(path, ZIP):
        with unpacked(path, options, ENDINGS) as (inner, notes):
            table = _read(inner, header, options)
        return replace(table, path=path, notes=notes + table.notes)
    if is_json(path):
        columns, notes = read_json(path, options.encoding)
        texts = [none_for_missing(_objects([v.strip(BLANKS) for v in c])) for c in columns.values()]
        return Table(path, list(columns), texts, True, options.decimal == ",", notes=notes, places=ROWS)
    with plain_text(path, options) as (plain, notes):
        table = _read_text(plain, header, options)
        return replace(table, path=path, notes=notes + table.notes)


def _read_text(path: Path, header: bool | None, options: ReadOptions) -> Table:
    dialect, sample = sniff(path, options.separator)
    decimal_comma = dialect.separator == ";" if options.decimal is None else options.decimal == ","
    columns = _fast(path, dialect)
    if columns is None:
        columns = _plain(path, dialect)
    return _named_columns(path, columns, sample, header, decimal_comma, options.header is not None)


def _named_columns(
    path: Path,
    columns: list[np.ndarray],
    sample: list[list[str]],
    header: bool | None,
    decimal_comma: bool,
    plain: bool,
) -> Table:
    """The table of columns of which the first record may name them. sample: the first records. plain: whether no second one does."""
    two = None if plain or header is False else two_rows(sample)
    has_header = two is not None or (looks_like_header(sample) if header is None else header)
    if not has_header:
        names = [f"column{i + 1}" for i in range(len(columns))]
        return Table(path, names, [none_for_missing(c) for c in columns], False, decimal_comma)
    named = [(i, name) for i, name in enumerate(sample[0] if two is None else two.names)]
    kept = [none_for_missing(c[1:]) for c in columns]
    # A separator at the end of every row makes a column without name or value: that is no column.
    named = [(i, name) for i, name in named if name or any(value is not None for value in kept[i])]
    names = [name or f"column{i + 1}" for i, name in named]
    table = Table(path, names, [kept[i] for i, _ in named], True, decimal_comma)
    return table if two is None else replace(table.take(np.arange(1, len(table))), notes=[two.note])


def _read_workbook(path: Path, header: bool | None, options: ReadOptions) -> Table:
    found, notes = read_workbook(path, options.sheet)
    if options.header:
        found = [(row, fields) for row, fields in found if row >= options.header]
    elif options.header is None and (titles := titles_above([fields for _, fields in found[:LOOKED_AT]])):
        notes.append(
            f"file: {titles} row{'s' * (titles > 1)} above the header skipped (--read header={found[0][0]} keeps them)"
        )
        found = found[titles:]
    found = _without_notes(found, options.footer, notes)
    rows = [fields for _, fields in found]
    columns = [_objects(column) for column in zip(*rows, strict=True)]
    table = _named_columns(path, columns, rows[:LOOKED_AT], header, options.decimal == ",", options.header is not None)
    places = np.array([row for row, _ in found[table.header :]], dtype=np.int64)
    return replace(table, notes=notes + table.notes, places=places)


def _without_notes(
    found: list[tuple[int, list[str]]], footer: int | None, notes: list[str]
) -> list[tuple[int, list[str]]]:
    """The records (row of the sheet, fields) without those below the table, which are told."""
    if footer is not None:
        return found[: len(found) - footer]
    spaced: list[list[str]] = []  # blank rows among the last records
    for (before, _), (row, fields) in itertools.pairwise(found[-MOST_NOTES - 1 :]):
        spaced += [[], fields] if row > before + 1 else [fields]
    below = sum(bool(fields) for fields in spaced[len(spaced) - notes_below(spaced, len(found[0][1])) :])
    if below:
        notes.append(notes_told(below, "row", next(filter(None, found[-below][1]))))
    return found[: len(found) - below]


def _objects(values: Sequence[str]) -> np.ndarray:
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result


def _fast(path: Path, dialect: Dialect) -> list[np.ndarray] | None:
    """Every field by DuckDB, stripped, header included; None where it finds the file not plain enough."""
    query = csv_query(path, dialect)
    if query is None:
        return None
    with duckdb.connect() as connection:
        try:
            found = connection.execute(*query).fetchnumpy()
        except duckdb.Error:
            return None
    columns = [stripped(column) for column in found.values()]
    blank = np.logical_and.reduce([column == "" for column in columns])
    return [column[~blank] for column in columns] if blank.any() else columns


def csv_query(path: Path, dialect: Dialect) -> tuple[str, dict[str, str]] | None:
    """DuckDB's query of every field of a text, c0, c1, ..., header included, and its parameters; None where it cannot read it."""
    if dialect.width < 2 or any(c in str(path) for c in "*?["):  # those are patterns to DuckDB
        return None
    fields = ", ".join(f"'c{i}': 'VARCHAR'" for i in range(dialect.width))
    trimmed = ", ".join(f"trim(c{i}) AS c{i}" for i in range(dialect.width))
    # DuckDB reads Windows' line ends soundly only where it finds them itself; all else is said, so nothing is guessed.
    detect = "true, skip=0, comment=''" if dialect.newline == "\r\n" else "false"
    query = (
        f"SELECT {trimmed} FROM read_csv($path, auto_detect={detect}, header=false, delim=$separator, quote='\"', "
        f"escape='\"', compression='{'gzip' if starts_with(path, GZIP) else 'none'}', columns={{{fields}}}, "
        "strict_mode=true, null_padding=false)"
    )
    return query, {"path": str(path), "separator": dialect.separator}


def stripped(column: np.ndarray) -> np.ndarray:
    """A column of DuckDB's as object array of str without blanks around it, empty where null."""
    result = np.array(np.ma.getdata(column), dtype=object)
    gone = np.ma.getmaskarray(column)  # `filled` would put a question mark
    if gone.any() or column.dtype != object:
        result[gone | (result == None)] = ""  # noqa: E711, of each value
    texts = result.tolist()
    if BLANK.search("".join(texts)):
        result[:] = [text.strip(BLANKS) for text in texts]
    if len(result):
        result[0] = result[0].removeprefix("\ufeff").strip(BLANKS)
    return result


def _plain(path: Path, dialect: Dialect) -> list[np.ndarray]:
    """The same fields record by record: slower, takes what DuckDB does not, and raises with the line what is wrong."""
    rows = [fields for _, fields in checked_records(path, dialect)]
    return [np.array(column, dtype=object) for column in zip(*rows, strict=True)]


def none_for_missing(column: np.ndarray) -> np.ndarray:
    """A column of str with None where a value is missing."""
    texts = column.tolist()
    words = {text for text in set(texts) if len(text) <= LONGEST_MISSING and text.lower() in MISSING}
    if not words:
        return column
    result = np.empty(len(column), dtype=object)
    result[:] = [None if text in words else text for text in texts]
    return result


def _without(column: np.ndarray, gaps: frozenset[str]) -> np.ndarray:
    """A column with None for the words of `gaps`, as `ReadOptions.missing_words` has them."""
    gone = {text for text in set(column.tolist()) if text is not None and word_of_gap(text) in gaps}
    return np.array([None if text in gone else text for text in column.tolist()], dtype=object)


def _read_parquet(path: Path) -> Table:
    names, fields, notes = parquet_fields(path)
    with duckdb.connect() as connection:
        try:
            found = connection.execute(
                f"SELECT {fields} FROM read_parquet($path)", {"path": one_file(path)}
            ).fetchnumpy()
        except duckdb.Error:
            raise damaged_parquet(path) from None
    columns = [none_for_missing(stripped(column)) for column in found.values()]
    return Table(path, names, columns, True, notes=notes, places=ROWS)


def parquet_fields(path: Path) -> tuple[list[str], str, list[str]]:
    """The names of a Parquet file's columns, what to select for their text, c0, c1, ..., and notes on what is left out."""
    with duckdb.connect() as connection:
        try:
            source = connection.from_parquet(one_file(path))
            names, types = list(source.columns), [str(kind) for kind in source.types]
        except duckdb.Error:
            raise damaged_parquet(path) from None
    nested = [n for n, kind in zip(names, types, strict=True) if kind.endswith("]") or kind.startswith(NESTED)]
    kept = [name for name in names if name not in nested]
    notes = [f"columns: {_some(nested)} hold lists or records, left out; take them apart to use them"] * bool(nested)
    if not kept:
        raise DataError(f"{path}: all of its columns hold lists or records; expected numbers or text; take them apart")
    quoted = [name.replace('"', '""') for name in kept]
    return kept, ", ".join(f'CAST("{name}" AS VARCHAR) AS c{i}' for i, name in enumerate(quoted)), notes


def one_file(path: Path) -> str:
    """A path to DuckDB, to which some characters make a pattern of it."""
    return str(path).replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")


def damaged_parquet(path: Path) -> DataError:
    return DataError(f"{path}: not a whole Parquet file; expected one that its writer finished; write or copy it again")


def line_of(path: Path, index: int, options: ReadOptions) -> int:
    """The line on which record `index` (from 0, the header counted, blank ones not) of a text file begins."""
    if starts_with(path, ZIP):
        with unpacked(path, options, ENDINGS) as (inner, _):
            return line_of(inner, index, options)
    with plain_text(path, options) as (plain, _):
        dialect = sniff(plain, options.separator)[0]
        for k, (line, _) in enumerate(records(plain, dialect.separator, dialect.width)):
            if k == index:
                return line
    return index + 1
