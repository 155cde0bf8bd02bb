"""Tensor files of a run: safetensors whose header holds the SHA-256 of everything in them (floor 6).

The digest stands in the file itself, not in one of its own: a file is replaced by one rename, so no kill can leave a digest
beside numbers that it does not belong to.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .. import serialization
from ..errors import StateError
from .schema import DIGEST, RESTORE, tensor_digest


def save_tensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write `arrays` and the text `metadata` to `path`, with their digest. Raises DataError where the disk refuses."""
    serialization.save(arrays, path, {**metadata, DIGEST: tensor_digest(arrays, metadata)})


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays, metadata) of a file that `save_tensors` wrote.

    Raises DataError where it cannot be read, StateError where anything in it is not what was written.
    """
    arrays = {name: tensor.array for name, tensor in serialization.load(path).items()}
    metadata = serialization.load_metadata(path)
    expected = metadata.pop(DIGEST, None)
    if expected is None:
        raise StateError(
            f"{path}: it has no SHA-256 of its contents; expected a file that `pellucid train` wrote; {RESTORE}"
        )
    if tensor_digest(arrays, metadata) != expected:
        raise StateError(f"{path}: damaged, its contents are not those that were written (SHA-256 {expected[:12]}); "
                         f"expected an unchanged file; {RESTORE}")  # fmt: skip
    return arrays, metadata
