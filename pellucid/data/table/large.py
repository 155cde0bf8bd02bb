"""Tables of too many rows to hold as text: a Parquet file that is read a batch of rows at a time (floor 4).

Text is written to such a file first, in a temporary folder. What is decided about a large table is decided on rows that are
drawn from it at random; `in_batches.py` then encodes all of them.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb
import numpy as np

from ...errors import DataError
from ...random import Generator
from ..files import GZIP, PARQUET, ZIP, existing_file, starts_with
from .delimited import checked_records, looks_like_header, sniff
from .header import two_rows, unique_names
from .json_rows import is_json
from .plain import plain_text, unpacked
from .read import (
    ENDINGS,
    ROWS,
    Table,
    csv_query,
    damaged_parquet,
    none_for_missing,
    one_file,
    parquet_fields,
    stripped,
)
from .read_options import ReadOptions
from .workbook import is_workbook

LARGE_BYTES = 300_000_000  # of text, from which a table is not held in memory
LARGE_CELLS = 20_000_000  # of a Parquet file
PACKED = 8  # times smaller a text may be packed
DRAWN = 500_000  # rows that are decided on
LARGEST_GROUP = 2_000_000  # rows of a group of a Parquet file
BATCH_CELLS = 3_000_000
MOST_VALUES = 10_000  # different ones of a target, each of which is drawn once at least
DUCKDB_MEMORY = "600MB"


@dataclass(frozen=True)
class LargeTable:
    """A table in `file`, a Parquet file of `rows` rows, which `fields` selects as text, c0, c1, ... of `names`.

    first: the row of the file that is row 0, after the header. lines: whether rows have lines, as text has.
    folder: is removed with this object.
    """

    path: Path
    file: Path
    names: list[str]
    fields: str
    rows: int
    header: bool
    decimal_comma: bool
    options: ReadOptions
    notes: list[str]
    first: int = 0
    lines: bool = False
    folder: tempfile.TemporaryDirectory[str] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.rows

    @functools.cached_property
    def _connection(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        connection.execute(f"SET memory_limit = '{DUCKDB_MEMORY}'")
        return connection

    def take(self, rows: np.ndarray) -> Table:
        """The table of these rows (int64, ascending)."""
        drawn = {"n": rows + self.first}  # which the query names
        where = "file_row_number IN (SELECT n FROM drawn)"
        found = self._select(where, drawn) if len(rows) else {f"c{i}": np.array([]) for i in range(len(self.names))}
        return self._table(list(found.values()), rows)

    def batches(self, like: Table | None = None) -> Iterator[Table]:
        """All rows in order, a batch at a time. like: rows by which it is decided how columns write their numbers."""
        size = max(1, BATCH_CELLS // len(self.names))
        for start in range(0, self.rows, size):
            stop = min(start + size, self.rows)
            where = f"file_row_number >= {start + self.first} AND file_row_number < {stop + self.first}"
            yield replace(self._table(list(self._select(where).values()), np.arange(start, stop)), like=like)

    def drawn(self, seed: int, target: int | None = None) -> Table:
        """DRAWN of the rows at random, and the first row of each value of the column `target`, where they are few."""
        count = min(DRAWN, self.rows)
        rows = np.arange(self.rows)
        if count < self.rows:
            bits = Generator(seed).bits(self.rows).array
            rows = np.argpartition(bits, count)[:count]
            rows = np.union1d(rows, self._first_of_each(target) if target is not None else [])
        return replace(self.take(rows.astype(np.int64)), drawn_from=self.rows)

    def _first_of_each(self, position: int) -> np.ndarray:
        source = f"(SELECT {self.fields}, file_row_number FROM read_parquet($path, file_row_number = true)) WHERE file_row_number >= {self.first}"
        (about,) = self._fetch(f"SELECT approx_count_distinct(c{position}) AS n FROM {source}").values()
        if about[0] > MOST_VALUES:
            return ROWS
        (rows,) = self._fetch(f"SELECT min(file_row_number) AS n FROM {source} GROUP BY c{position}").values()
        return np.asarray(rows, np.int64) - self.first

    def _select(self, where: str, drawn: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        query = f"SELECT {self.fields} FROM read_parquet($path, file_row_number = true) WHERE {where}"
        return self._fetch(query + " ORDER BY file_row_number" * (drawn is not None), drawn)

    def _fetch(self, query: str, drawn: dict[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
        try:
            return self._connection.execute(query, {"path": one_file(self.file)}).fetchnumpy()  # reads `drawn`
        except duckdb.IOException:
            raise damaged_parquet(self.path) from None

    def _table(self, columns: list[np.ndarray], rows: np.ndarray) -> Table:
        texts = [none_for_missing(stripped(column)) for column in columns]
        return Table(self.path, list(self.names), texts, self.header, self.decimal_comma, rows, self.options,
                     list(self.notes), None if self.lines else ROWS)  # fmt: skip


def open_large(path: Path, header: bool | None = None, options: ReadOptions | None = None) -> LargeTable | None:
    """The table in `path` if it is large and may be read in batches: CSV and the like, perhaps packed, or Parquet. Else None.

    Raises DataError or OptionError, as `read_table` does.
    """
    options = options or ReadOptions()
    existing_file(path, "table")
    if header is None and options.header is not None:
        header = options.header > 0
    if starts_with(path, ZIP) and not is_workbook(path) and path.stat().st_size > LARGE_BYTES // PACKED:
        with unpacked(path, options, ENDINGS) as (inner, notes):
            found = (
                _parquet(inner, options, passing=True)
                if starts_with(inner, PARQUET)
                else _plain(inner, header, options)
            )
        return found if found is None else replace(found, path=path, notes=notes + found.notes)
    return _parquet(path, options) if starts_with(path, PARQUET) else _plain(path, header, options)


def _parquet(path: Path, options: ReadOptions, passing: bool = False) -> LargeTable | None:
    """passing: whether the file will not stay there. Of that, and of one in few large pieces, a copy is made."""
    names, fields, notes = parquet_fields(path)
    rows, largest = _size(path)
    if rows * len(names) <= LARGE_CELLS:
        return None
    names, repeated = unique_names(names)
    found = LargeTable(path, path, names, fields, rows, True, False, options, notes + repeated)
    if not passing and largest <= LARGEST_GROUP:
        return found
    folder, file = _folder()
    if not _written(f"SELECT {fields} FROM read_parquet($path)", {"path": one_file(path)}, file, path):
        raise damaged_parquet(path)
    return replace(found, file=file, folder=folder, fields=", ".join(f"c{i}" for i in range(len(names))))


def _size(file: Path) -> tuple[int, int]:
    """The rows of a Parquet file, and of its largest group, each of which is unpacked as one."""
    query = "SELECT sum(n), max(n) FROM (SELECT DISTINCT row_group_id, row_group_num_rows AS n FROM parquet_metadata($path))"
    with duckdb.connect() as connection:
        rows, largest = connection.execute(query, {"path": one_file(file)}).fetchone() or (0, 0)
    return int(rows or 0), int(largest or 0)


def _folder() -> tuple[tempfile.TemporaryDirectory[str], Path]:
    folder = tempfile.TemporaryDirectory(prefix="pellucid-")
    return folder, Path(folder.name, "table.parquet")


def _plain(path: Path, header: bool | None, options: ReadOptions) -> LargeTable | None:
    least = LARGE_BYTES // (PACKED if starts_with(path, GZIP) else 1)
    if path.stat().st_size <= least or is_workbook(path) or is_json(path):
        return None
    with plain_text(path, options) as (plain, notes):
        found = _text(path, plain, header, options)
    return replace(found, notes=notes + found.notes)


def _text(path: Path, plain: Path, header: bool | None, options: ReadOptions) -> LargeTable:
    """The text in `plain` as Parquet. path: the file that the user gave."""
    dialect, sample = sniff(plain, options.delimiter)
    decimal_comma = dialect.separator == ";" if options.decimal is None else options.decimal == ","
    has_header = looks_like_header(sample) if header is None else header
    if options.header is None and has_header and two_rows(sample) is not None:
        raise DataError(f"{path}: two rows of header, and so large a table is read in batches; expected one row of names; remove a row, or "
                        "say --read header=1 where the second row is data")  # fmt: skip
    folder, file = _folder()
    query, filled = csv_query(plain, dialect), " OR ".join(f"coalesce(c{i}, '') <> ''" for i in range(dialect.width))
    if query is None or not _written(f"SELECT * FROM ({query[0]}) WHERE {filled}", query[1], file, plain):
        for _ in checked_records(plain, dialect):  # raises, with the line, where a row is to blame
            pass
        raise DataError(f"{path}: so large a table is read in batches, which needs plain rows; expected as many fields in each, and quotes "
                        "in pairs; save it as Parquet")  # fmt: skip
    rows = _size(file)[0] - has_header
    if rows < 1:
        raise DataError(
            f"{path}: a header and no rows; expected rows of data; if the only row is data, pass --no-header"
        )
    names = list(sample[0]) if has_header else [f"column{i + 1}" for i in range(dialect.width)]
    whole = LargeTable(path, file, names, ", ".join(f"c{i}" for i in range(dialect.width)), rows, has_header, decimal_comma,
                       options, [], int(has_header), True, folder)  # fmt: skip
    kept = [i for i, name in enumerate(names) if name or not _is_empty(whole, i)]
    fields = ", ".join(f"c{i} AS c{k}" for k, i in enumerate(kept))
    names = [names[i] or f"column{i + 1}" for i in kept]
    names, notes = unique_names(names)
    return replace(whole, names=names, fields=fields, notes=notes)


def _written(query: str, parameters: dict[str, str], file: Path, plain: Path) -> bool:
    """Write the rows that a query gives to a Parquet file; whether DuckDB could read them."""
    free = shutil.disk_usage(file.parent).free
    if free < plain.stat().st_size:
        raise DataError(f"{file.parent}: {free / 1e9:.1f} GB are free; expected {plain.stat().st_size / 1e9:.1f} GB for a copy of the table, which "
                        "is read in batches; free some space, or name another folder: TMPDIR=FOLDER")  # fmt: skip
    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{DUCKDB_MEMORY}'; SET temp_directory = '{file.parent}'")
        try:
            target = str(file).replace("'", "''")
            connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet)", parameters)
        except duckdb.Error:
            return False
    return True


def _is_empty(table: LargeTable, position: int) -> bool:
    """Whether no row has a value in a column: a separator at the end of every row makes one."""
    return all(value is None for batch in table.batches() for value in batch.columns[position].tolist())


def available_memory() -> int:
    """Bytes of memory that programs may still take; all there are where the system says no more, and no limit where it says nothing."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) << 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 60
