"""Data in memory as a data module: DataFrames, arrays and lists, read as the same data in a CSV file would be (floor 4)."""

from __future__ import annotations

import contextlib
import csv
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import narwhals as nw
import numpy as np

from ..errors import DataError, OptionError
from .base import OptionValue
from .description import Description
from .load import describe_source, load_problem
from .problem import DataModule
from .table.as_text import as_text
from .table.json_rows import flattened, spread
from .table.plain import named
from .table.read_options import ReadOptions

BOOLEANS = ("False", "True")
EXPECTED = "a DataFrame (pandas, polars, Arrow), an array (N, F), rows, records, or a dict of columns"
TARGET = "target"  # what a target without a name is called
Columns = dict[str, list[Any]]


def problem_from(X: Any, y: Any = None, *, name: str = "data", seed: int = 0, **options: OptionValue) -> DataModule:
    """The data module of data in memory, the same as that of a CSV file with these columns.

    X: a DataFrame of pandas, polars or Arrow, an array (N, F) or (N,), a list of rows or of records, or a dict of columns.
    y: the target (N,), or the name of a column of X; else the option `target` names it. name: what runs are called after.
    seed, options: as for `load_problem`. The module's `source` cannot load the data again: keep them for that.
    Raises DataError or OptionError with what to do; rows are counted from the header, line 1.
    """
    said = ReadOptions.parse(options.pop("read", None))
    with _as_file(X, y, name, said, options) as (path, read, notes):
        data = load_problem(str(path), seed=seed, read=read, **options)
    data.notes[:0] = notes
    data.preprocessor.read_options = said  # type: ignore[attr-defined]
    data.source = {"spec": name, "seed": seed}
    return data


def describe(X: Any, y: Any = None, *, name: str = "data", seed: int = 0, **options: OptionValue) -> Description:
    """What is found in data, and what training would decide of them, without training; `pellucid doctor` shows the same.

    X: what `load_problem` takes, a path or a name from the catalogue; or data in memory, with y and name as for `problem_from`.
    seed, options: as for `load_problem`; of a table without a target, there are its columns and what looks like a target.
    `str()` of the result is a page of text, `to_dict()` plain JSON. Raises DataError or OptionError for data that cannot be read;
    where they can be read but not learned from, `refusal` says why.
    """
    if isinstance(X, str | Path):
        return describe_source(str(X), seed=seed, **options)
    said = ReadOptions.parse(options.pop("read", None))
    with _as_file(X, y, name, said, options) as (path, read, notes):
        found = describe_source(str(path), seed=seed, read=read, **options)
    target = "" if found.target is None else f", {found.target!r}" if y is None or isinstance(y, str) else ", y"
    then = f"pellucid.data.problem_from(X{target})"
    return replace(found, data=name, notes=(*notes, *found.notes), next=then)


@contextlib.contextmanager
def _as_file(
    X: Any, y: Any, name: str, said: ReadOptions, options: dict[str, OptionValue]
) -> Iterator[tuple[Path, str, list[str]]]:
    """Data in memory as a CSV file, how it is to be read, and notes; messages call it `name`. The target goes into `options`."""
    notes: list[str] = []
    columns, header = _columns(X)
    rows = {len(values) for values in columns.values()}
    if len(rows) != 1:
        lengths = {key: len(values) for key, values in columns.items()}
        raise DataError(f"problem_from: X has columns of lengths {lengths}; expected one length; make them alike")
    if isinstance(y, str):
        options["target"] = y
    elif y is not None:
        header = _add_target(columns, y, header)
        options["target"] = -1
    text = {key: as_text(values, BOOLEANS) for key, values in flattened(columns, notes).items()}
    fixed = f"encoding=utf-8,delimiter=,,decimal=.,comment=none,header={1 if header else 'none'}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if header:
                writer.writerow(text)
            writer.writerows(zip(*text.values(), strict=True))
        with named(path, Path(name)):
            yield path, str(said.over(ReadOptions.parse(fixed))), notes


def _add_target(columns: Columns, y: Any, header: bool) -> bool:
    """Put the target last among the columns; whether columns have names."""
    found, y_header = _columns(y)
    if len(found) != 1:
        raise DataError(f"problem_from: y has {len(found)} columns; expected one, the target; choose it")
    ((key, values),) = found.items()
    count = len(next(iter(columns.values())))
    if len(values) != count:
        raise DataError(
            f"problem_from: y has {len(values):,} values and X {count:,} rows; expected as many; bring them together"
        )
    if not header:
        key = f"column{len(columns) + 1}"
    elif not y_header:
        key = TARGET
    if key in columns:
        raise OptionError(f"problem_from: y is called {key!r}, as is a column of X; expected another name; rename y, or write y={key!r}")  # fmt: skip
    columns[key] = values
    return header


def _columns(data: Any) -> tuple[Columns, bool]:
    """Columns by name, and whether the names are the data's own. Raises DataError."""
    if nw.dependencies.is_into_dataframe(data):
        frame = nw.from_native(data, eager_only=True)
        return {str(series.name): _values(series) for series in frame.iter_columns()}, True
    if nw.dependencies.is_into_series(data):
        series = nw.from_native(data, series_only=True)
        return {str(series.name or TARGET): _values(series)}, bool(series.name)
    if isinstance(data, Mapping):
        return {str(key): _plain(values) for key, values in data.items()}, True
    rows = _plain(data)
    if not rows:
        raise DataError(f"problem_from: no rows; expected {EXPECTED}; give some")
    if all(isinstance(row, Mapping) for row in rows):
        return spread(rows), True
    wide = [row if isinstance(row, list | tuple) else [row] for row in rows]
    uneven = next((k for k, row in enumerate(wide) if len(row) != len(wide[0])), None)
    if uneven is not None:
        raise DataError(
            f"problem_from: row {uneven} has {len(wide[uneven])} values; expected {len(wide[0])}, as the first; mend it"
        )
    return {f"column{k + 1}": [row[k] for row in wide] for k in range(len(wide[0]))}, False


def _values(series: Any) -> list[Any]:
    if series.dtype == nw.Float32:  # 0.1, not 0.10000000149011612
        return [str(value) if value == value else None for value in series.to_numpy()]
    return list(series.to_list())


def _plain(data: Any) -> list[Any]:
    """An array or sequence as a list, of lists where it has two axes. Raises DataError for what is neither."""
    if isinstance(data, np.ndarray):
        if not 1 <= data.ndim <= 2:
            raise DataError(f"problem_from: an array of shape {data.shape}; expected (N, F) or (N,); reshape it")
        return list(data.astype(str).tolist() if data.dtype in (np.float32, np.float16) else data.tolist())
    if isinstance(data, str | bytes) or not hasattr(data, "__iter__"):
        raise DataError(f"problem_from: a {type(data).__name__}; expected {EXPECTED}; convert it")
    return list(data)
