"""A Learner on disk: one safetensors file with everything that training goes on from (floor 6).

Arrays are stored as they are, counts and options as JSON in the file's header. The file is replaced as a whole, so after a
kill at any moment the last complete checkpoint is there, and going on from it ends with the same bits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from ..errors import StateError
from .files import write_bytes
from .learner import Learner

FORMAT = 1


def save_checkpoint(path: Path, learner: Learner) -> None:
    """Write where `learner` stands to `path`. Raises DataError for a full disk or a missing permission."""
    arrays, rest = learner.state()
    content = to_bytes({name: np.asarray(a, order="C") for name, a in arrays.items()},
                       {"format": str(FORMAT), "state": json.dumps(rest)})  # fmt: skip
    write_bytes(path, content)


def load_checkpoint(path: Path, learner: Learner) -> None:
    """Bring `learner` to where `path` was saved. Raises StateError for a damaged file or another network's."""
    arrays, metadata = read_arrays(path)
    if metadata.get("format") != str(FORMAT) or "state" not in metadata:
        raise StateError(f"{path}: checkpoint format {metadata.get('format', 'unknown')}; this version reads {FORMAT}; "
                         "resume with the version of pellucid that wrote it")  # fmt: skip
    learner.load_state(arrays, json.loads(metadata["state"]))


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and header entries of a safetensors file. Raises StateError where it is missing or damaged."""
    if not path.is_file():
        raise StateError(f"{path}: no such file; expected a run that has finished at least one epoch; train it first")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:80]
        raise StateError(f"{path}: damaged or cut short ({reason}); expected a complete safetensors file; restore it from a copy, "
                         "or train again") from None  # fmt: skip
