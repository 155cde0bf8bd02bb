"""Tensor files of a run: safetensors whose header holds the SHA-256 of everything in them (floor 6).

The digest stands in the file itself, not in one of its own: a file is replaced by one rename, so no kill can leave a digest
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
from .schema import DIGEST, RESTORE, damaged, parse_json, read_value, tensor_digest

ENTRY = "pellucid"  # the key of the header's metadata


def save_tensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write `arrays` and the text `metadata` to `path`, with their digest. Raises DataError where the disk refuses."""
    entry = {**metadata, DIGEST: tensor_digest(arrays, metadata)}
    serialization.save(arrays, path, {ENTRY: json.dumps(entry, sort_keys=True)})


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays, metadata) of a file that `save_tensors` wrote.

    Raises DataError where it cannot be read, StateError where anything in it is not what was written.
    """
    arrays = {name: tensor.array for name, tensor in serialization.load(path).items()}
    header = serialization.load_metadata(path)
    if ENTRY not in header:
        raise StateError(
            f"{path}: it has no SHA-256 of its contents; expected a file that `pellucid train` wrote; {RESTORE}"
        )
    entry = parse_json(header[ENTRY].encode(), f"{path}: {ENTRY}")
    metadata: dict[str, str] = read_value(dict[str, str], entry, str(path), ENTRY)
    expected = metadata.pop(DIGEST, "none")
    if tensor_digest(arrays, metadata) != expected:
        raise damaged(str(path), f"damaged, its contents are not those that were written (SHA-256 {expected[:12]})", "an unchanged file")  # fmt: skip
    return arrays, metadata
