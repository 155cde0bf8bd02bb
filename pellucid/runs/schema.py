"""Schema validation: JSON of a run read into dataclasses, with checks on types, depth and size (floor 6).

Everything that a run holds as JSON goes through `parse_json` and `read_record`: config.json, the lines of metrics.jsonl, the
state of a checkpoint. The annotations of a dataclass are its schema. What does not fit raises StateError, which names the
file and the field.

Digests tell what a schema cannot: a digit that is still a digit. `field_digests` and `record_digest` are SHA-256 of JSON,
`tensor_digest` of named arrays.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import StateError, suggestion
from ..files import Json

MAX_BYTES = 1 << 28  # of a JSON file; the largest hold a vocabulary or a million notes
MAX_DEPTH = 32  # lists and objects inside one another
MAX_INTEGER = 1 << 63
SHOWN = 60  # characters of a value that a message quotes
DIGEST = "sha256"  # the key under which a record or file keeps its digest
RESTORE = "restore it from a copy, or train again"

Record = typing.TypeVar("Record")


def damaged(where: str, what: str, expected: str) -> StateError:
    """The error for `what` at `where`: a file, or a file and a field."""
    return StateError(f"{where}: {what}; expected {expected}; {RESTORE}")


# ---- from bytes to JSON ------------------------------------------------------------------------------------------------


def parse_json(content: bytes, where: str, finite: bool = True) -> Json:
    """The value that `content` spells. Raises StateError for what is no JSON, too large or nested too deep.

    Integers beyond 64 bits, keys that come twice and, where all is `finite`, NaN and infinities are refused: nothing that
    pellucid writes has them.
    """
    if len(content) > MAX_BYTES:
        raise damaged(where, f"{len(content):,} bytes", f"at most {MAX_BYTES:,}")
    try:
        value: Json = json.loads(
            content.decode("utf-8"),
            parse_constant=_refuse_constant if finite else float,
            object_pairs_hook=_unique_keys,
        )
        check_json(value, where, finite)
    except RecursionError:
        raise damaged(where, "damaged, nested too deep", f"at most {MAX_DEPTH} levels") from None
    except (ValueError, UnicodeDecodeError):
        raise damaged(where, "damaged", "the JSON that `pellucid train` wrote") from None
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _unique_keys(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a key comes twice")
    return record


def check_json(value: Json, where: str, finite: bool = True, depth: int = 0) -> None:
    """Raise StateError for a number out of range, or lists and objects nested too deep."""
    if depth > MAX_DEPTH:
        raise damaged(where, "damaged, nested too deep", f"at most {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            check_json(item, f"{where}: {_short(key)}" if depth == 0 else where, finite, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_json(item, where, finite, depth + 1)
    elif isinstance(value, int) and not -MAX_INTEGER <= value < MAX_INTEGER:
        raise damaged(where, "an integer beyond 64 bits", "a smaller one")
    elif finite and isinstance(value, float) and not math.isfinite(value):
        raise damaged(where, "a number too large", "a finite one")


def _short(value: Json) -> str:
    shown = str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= SHOWN else shown[: SHOWN - 1] + "…"


# ---- from JSON to dataclasses ------------------------------------------------------------------------------------------


def read_record(cls: type[Record], value: Json, path: str, field: str = "") -> Record:
    """`value` as an instance of the dataclass `cls`, its fields read by their annotations.

    path, field: where `value` stands, for messages. A field without a value takes its default. Raises StateError for a
    field that is missing, unknown or of another type.
    """
    if not isinstance(value, dict):
        raise _mismatch(path, field, value, "an object")
    hints = field_types(cls)
    prefix = f"{field}." if field else ""
    for name in value:
        if name not in hints:
            known = ", ".join(sorted(hints))
            raise damaged(f"{path}: {prefix}{_short(name)}", "no such field",
                          f"one of {known}.{suggestion(str(name), hints)}")  # fmt: skip
    for one in dataclasses.fields(cls):  # type: ignore[arg-type]
        if one.name not in value and one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            raise damaged(f"{path}: {prefix}{one.name}", "missing", "a complete record")
    return cls(**{name: read_value(hints[name], item, path, prefix + name) for name, item in value.items()})


def field_types(cls: Any) -> dict[str, Any]:
    """The type of each field of a dataclass, by name."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def read_value(hint: Any, value: Json, path: str, field: str) -> Any:
    """`value` as the type `hint` describes. Raises StateError where it is of another."""
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return read_record(typing.cast("type[Any]", hint), value, path, field)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _read_union(inner, value, path, field)
    if origin is dict:
        if not isinstance(value, dict):
            raise _mismatch(path, field, value, "an object")
        return {key: read_value(inner[1], item, path, f"{field}.{_short(key)}") for key, item in value.items()}
    if origin in (list, tuple, Sequence):
        return _read_sequence(origin, inner, value, path, field)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint not in SCALARS:
        raise TypeError(f"schema: the type {hint} of {field} cannot be read from JSON")
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise _mismatch(path, field, value, SCALARS[hint])
    return value


SCALARS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _read_union(choices: tuple[Any, ...], value: Json, path: str, field: str) -> Any:
    if value is None and types.NoneType in choices:
        return None
    others = [choice for choice in choices if choice is not types.NoneType]
    for choice in others[:-1]:
        try:
            return read_value(choice, value, path, field)
        except StateError:
            continue
    return read_value(others[-1], value, path, field)


def _read_sequence(origin: Any, inner: tuple[Any, ...], value: Json, path: str, field: str) -> Any:
    if not isinstance(value, list):
        raise _mismatch(path, field, value, "a list")
    fixed = origin is tuple and inner[-1:] != (Ellipsis,)
    if fixed and len(value) != len(inner):
        raise _mismatch(path, field, value, f"a list of {len(inner)}")
    hints = inner if fixed else inner[:1] * len(value)
    items = [read_value(hint, item, path, f"{field}[{i}]") for i, (hint, item) in enumerate(zip(hints, value, strict=True))]  # fmt: skip
    return tuple(items) if origin is tuple else items


def _mismatch(path: str, field: str, value: Json, expected: str) -> StateError:
    return damaged(f"{path}: {field}" if field else path, f"it is {_short(value)}", expected)


def check_alike(value: Json, like: Json, path: str, field: str) -> None:
    """Raise StateError where `value` has other keys, lengths or types than `like`, which is known to be right."""
    number = lambda x: isinstance(x, int | float) and not isinstance(x, bool)
    if isinstance(like, dict):
        if not isinstance(value, dict) or value.keys() != like.keys():
            raise _mismatch(path, field, value, f"an object with {', '.join(map(str, like)) or 'nothing'} in it")
        for name in like:
            check_alike(value[name], like[name], path, f"{field}.{name}")
    elif isinstance(like, list | tuple):
        if not isinstance(value, list) or len(value) != len(like):
            raise _mismatch(path, field, value, f"a list of {len(like)}")
        for i, item in enumerate(like):
            check_alike(value[i], item, path, f"{field}[{i}]")
    elif not (number(value) and number(like)) and type(value) is not type(like):
        raise _mismatch(path, field, value, SCALARS.get(type(like), "nothing"))


def check_instance(instance: Any, path: str, field: str) -> None:
    """Raise StateError where a dataclass, made from JSON by its own class, holds values of other types than it says."""
    for name, hint in field_types(type(instance)).items():
        for place, value, expected in _checked_values(hint, getattr(instance, name), f"{field}.{name}"):
            read_value(expected, value, path, place)


def _checked_values(hint: Any, value: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    """(place, value, hint) of what `read_value` can check; dataclasses are taken apart, tuples are read as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for name, inner in field_types(type(value)).items():
            yield from _checked_values(inner, getattr(value, name), f"{place}.{name}")
    elif isinstance(value, list) and any(dataclasses.is_dataclass(item) for item in value):
        for i, item in enumerate(value):
            yield from _checked_values(type(item), item, f"{place}[{i}]")
    else:
        yield place, list(value) if isinstance(value, tuple) else value, hint


# ---- digests -----------------------------------------------------------------------------------------------------------


def record_digest(value: Json) -> str:
    """SHA-256 of a JSON value, the same however it is laid out in its file."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def field_digests(record: Mapping[str, Json]) -> dict[str, str]:
    """The digest of each field of a record."""
    return {name: record_digest(value) for name, value in record.items()}


def tensor_digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """SHA-256 of named arrays, with their shapes and dtypes, and of the text saved with them."""
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
