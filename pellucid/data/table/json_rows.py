"""JSON as columns of text: a list of records, a record a line, or a column for each key (floor 4).

Records within records are flattened by one level, as `address.city`; what lies deeper, and lists, are left out by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from ..files import chunks, find_encoding
from .as_text import as_text
from .plain import open_text

ENDINGS = (".json", ".jsonl", ".ndjson")
LINES = (".jsonl", ".ndjson")
BEGINS = re.compile(rb'(\xef\xbb\xbf)?\s*(\[\s*\{\s*"|\{\s*"([^"\\]|\\.)*"\s*:)')
NESTED = (dict, list, tuple, set, np.ndarray)
FORMS = "a list of records, a record a line, or a column for each key"


def is_json(path: Path) -> bool:
    """Whether a file is JSON by its name, or by how it begins."""
    name = path.name.lower().removesuffix(".gz")
    return name.endswith(ENDINGS) or bool(BEGINS.match(next(chunks(path), b"")))


def read_json(path: Path, encoding: str | None = None) -> tuple[dict[str, list[str]], list[str]]:
    """The columns as text, "" where a value is missing, and notes. Raises DataError with the line of what is no JSON."""
    with open_text(path, find_encoding(path, encoding)) as file:
        text = file.read().removeprefix("\ufeff")
    value, notes = _parsed(path, text), list[str]()
    if isinstance(value, dict) and not _is_columns(value):
        value = _unwrapped(path, value, notes)
    columns = _by_key(path, value) if isinstance(value, dict) else _by_record(path, value)
    return {name: as_text(values) for name, values in flattened(columns, notes).items()}, notes


def _parsed(path: Path, text: str) -> Any:
    """One JSON value, or where each line holds one the list of them."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        lines = text.split("\n")
        first = next((line for line in lines if line.strip()), "")
        each_line = _is_whole(first) and (len(lines) > 1)
        if not each_line:
            if not isinstance(error, json.JSONDecodeError):
                raise DataError(f"{path}: JSON nested too deep; expected {FORMS}; write it flat, or as CSV") from None
            raise DataError(f"{path}, line {error.lineno}: no JSON from character {error.colno} on; expected {FORMS}; mend it, or fetch the whole "
                            "file again") from None  # fmt: skip
    values = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values.append(json.loads(line))
        except (json.JSONDecodeError, RecursionError):
            raise DataError(f"{path}, line {number}: {line.strip()[:30]!r} is no whole JSON record; expected one a line; mend the line, or fetch the "
                            "whole file again") from None  # fmt: skip
    return values


def _is_whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict | list)
    except (json.JSONDecodeError, RecursionError):
        return False


def _is_columns(value: dict[str, Any]) -> bool:
    """Whether each key holds a column: lists of one length, or objects with the same keys."""
    if not value or _is_split(value):
        return False
    first = next(iter(value.values()))
    if isinstance(first, list):
        return all(isinstance(column, list) and len(column) == len(first) for column in value.values())
    return isinstance(first, dict) and all(isinstance(c, dict) and c.keys() == first.keys() for c in value.values())


def _is_split(value: dict[str, Any]) -> bool:
    """Whether it is pandas' form of names, index and rows."""
    names, rows = value.get("columns"), value.get("data")
    if not isinstance(names, list) or not isinstance(rows, list) or not rows:
        return False
    return all(isinstance(row, list) and len(row) == len(names) for row in rows)


def _unwrapped(path: Path, value: dict[str, Any], notes: list[str]) -> Any:
    """The table inside an object: pandas' "split" form, or the one list of records in it."""
    if _is_split(value):
        names = [str(name) for name in value["columns"]]
        return [dict(zip(names, row, strict=False)) for row in value["data"]]
    lists = [key for key, inner in value.items() if isinstance(inner, list) and inner and isinstance(inner[0], dict)]
    if len(lists) != 1:
        inside = [key for key, inner in value.items() if isinstance(inner, dict) and _has_records(inner)]
        if not lists and len(inside) == 1:
            return _unwrapped(path, value[inside[0]], notes)
        if any(isinstance(inner, dict | list) for inner in value.values()):
            raise DataError(f"{path}: a JSON object with {', '.join(map(repr, list(value)[:8]))} in it; expected {FORMS}; write the table in it to a "
                            "file of its own")  # fmt: skip
        return [value]
    if len(value) > 1:
        notes.append(
            f"file: the records in {lists[0]!r} of the JSON read; left out: {_shown([key for key in value if key != lists[0]])}"
        )
    return value[lists[0]]


def _has_records(value: dict[str, Any]) -> bool:
    return any(isinstance(inner, list) and inner and isinstance(inner[0], dict) for inner in value.values())


def _by_key(path: Path, value: dict[str, Any]) -> dict[str, list[Any]]:
    first = next(iter(value.values()))
    if isinstance(first, list):
        return value
    rows_by_key = all(key.isdecimal() for key in value) and not all(key.isdecimal() for key in first)
    if rows_by_key:
        return spread(value.values())
    return {name: list(column.values()) for name, column in value.items()}


def _by_record(path: Path, value: Any) -> dict[str, list[Any]]:
    if not isinstance(value, list) or not value:
        came = "an empty list" if value == [] else f"the value {str(value)[:30]!r}"
        raise DataError(f"{path}: JSON of {came}; expected {FORMS}; check how it was made")
    if all(isinstance(record, dict) for record in value):
        return spread(value)
    if all(isinstance(record, list) for record in value):
        names, rows = [f"column{k + 1}" for k in range(len(value[0]))], value
        if len(value) > 1 and all(isinstance(name, str) for name in value[0]):
            names, rows = value[0], value[1:]
        uneven = next((k for k, row in enumerate(value) if len(row) != len(names)), None)
        if uneven is not None:
            raise DataError(
                f"{path}, record {uneven + 1}: {len(value[uneven])} values; expected {len(names)}, as in the first; mend it"
            )
        return {name: [row[k] for row in rows] for k, name in enumerate(names)}
    odd = next(k for k, record in enumerate(value) if not isinstance(record, dict))
    raise DataError(f"{path}, record {odd + 1}: {str(value[odd])[:30]!r}; expected a record, as {{\"name\": value}}; mend it, or remove it")  # fmt: skip


def spread(records: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Records as columns; a key that a record lacks is missing there."""
    columns: dict[str, list[Any]] = {}
    count = 0
    for count, record in enumerate(records, start=1):
        for key, value in record.items():
            column = columns.setdefault(str(key), [])
            column.extend([None] * (count - 1 - len(column)))
            column.append(value)
    for column in columns.values():
        column.extend([None] * (count - len(column)))
    return columns


def flattened(columns: Mapping[str, list[Any]], notes: list[str]) -> dict[str, list[Any]]:
    """Columns of plain values: records flattened by one level; lists and what lies deeper left out, with a note."""
    flat: dict[str, list[Any]] = {}
    nested: list[str] = []
    for name, column in columns.items():
        kinds = {type(value) for value in column}
        if dict in kinds and not kinds & {*NESTED[1:]}:
            inner = spread([value if isinstance(value, dict) else {} for value in column])
            parts = {f"{name}.{key}": values for key, values in inner.items()}
        else:
            parts = {name: column}
        for part, values in parts.items():
            if any(isinstance(value, NESTED) for value in values):
                nested.append(part)
            else:
                flat[part] = values
    if nested:
        notes.append(f"columns: {_shown(nested)} hold{'s' * (len(nested) == 1)} lists or records, left out; take them apart to use them")  # fmt: skip
    return flat


def _shown(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f", ... ({len(names)} in all)" if len(names) > 5 else "")
