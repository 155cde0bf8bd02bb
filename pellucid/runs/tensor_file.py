"""Tensor files of a run: safetensors whose header holds the SHA-256 of everything in them (floor 6).

The digest stands in the file itself, not in another beside it: a file is replaced by one rename, so no kill can leave a digest
beside numbers that it does not belong to. All that is not tensors is one entry of the header: of several, safetensors
chooses the order anew each time, and equal files would differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .. import serialization
from ..errors import StateError
from ..files import Json
from .schema import DIGEST, MAX_BYTES, RESTORE, damaged, parse_json, read_value, tensor_digest

ENTRY = "pellucid"  # the key of the header's metadata


def save_tensors(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str], flushed: bool = True
) -> None:
    """Write `arrays` and the text `metadata` to `path`, with their digest. Raises DataError where the disk refuses.

    flushed: see `files.writing`.
    """
    entry = {**metadata, DIGEST: tensor_digest(arrays, metadata)}
    serialization.save_arrays(arrays, path, {ENTRY: json.dumps(entry, sort_keys=True)}, flushed)


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays, metadata) of a file that `save_tensors` wrote.

    Raises DataError where it cannot be read, StateError where anything in it is not what was written.
    """
    arrays = serialization.load_arrays(path)
    metadata = _entry(path, serialization.load_metadata(path))
    expected = metadata.pop(DIGEST, "none")
    if tensor_digest(arrays, metadata) != expected:
        raise damaged(str(path), f"damaged, its contents are not those that were written (SHA-256 {expected[:12]})", "an unchanged file")  # fmt: skip
    return arrays, metadata


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata alone, from the file's header and unchecked, however large the tensors are. Raises as `load_tensors`."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = file.read(min(size, MAX_BYTES))
    except OSError as error:
        raise StateError(
            f"{path}: cannot be read ({(error.strerror or 'unknown').lower()}); check its permissions"
        ) from None
    if len(header) < size or not size:
        raise damaged(str(path), "not a whole safetensors file", "one that `pellucid train` finished")
    content = parse_json(header, f"{path}: header")
    metadata = content.get("__metadata__") if isinstance(content, dict) else None
    return _entry(path, metadata if isinstance(metadata, dict) else {})


def _entry(path: Path, header: Mapping[str, Json]) -> dict[str, str]:
    content = header.get(ENTRY)
    if not isinstance(content, str):
        raise StateError(
            f"{path}: it has no SHA-256 of its contents; expected a file that `pellucid train` wrote; {RESTORE}"
        )
    entry = parse_json(content.encode(), f"{path}: {ENTRY}")
    metadata: dict[str, str] = read_value(dict[str, str], entry, str(path), ENTRY)
    return metadata
