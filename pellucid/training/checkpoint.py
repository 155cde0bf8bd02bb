"""A Learner on disk: one safetensors file with everything that training goes on from (floor 6).

Arrays are stored as they are, counts and options as JSON in the file's header. The file is replaced as a whole, so after a
kill at any moment the last complete checkpoint is there, and going on from it ends with the same bits.
"""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import StateError
from ..serialization import load, load_metadata, save
from .learner import Learner

FORMAT = 1


def save_checkpoint(path: Path, learner: Learner) -> None:
    """Write where `learner` stands to `path`. Raises DataError for a full disk or a missing permission."""
    arrays, rest = learner.state()
    save(arrays, path, {"format": str(FORMAT), "state": json.dumps(rest)})


def load_checkpoint(path: Path, learner: Learner) -> None:
    """Bring `learner` to where `path` was saved. Raises StateError for a damaged file or another network's."""
    arrays = {name: t.array for name, t in load(path).items()}
    metadata = load_metadata(path)
    if metadata.get("format") != str(FORMAT) or "state" not in metadata:
        raise StateError(f"{path}: checkpoint format {metadata.get('format', 'unknown')}; this version reads {FORMAT}; "
                         "resume with the version of pellucid that wrote it")  # fmt: skip
    learner.load_state(arrays, json.loads(metadata["state"]))
