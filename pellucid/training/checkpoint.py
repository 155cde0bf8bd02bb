"""Checkpoints: a Learner on disk, one safetensors file with everything that training goes on from (floor 10).

Arrays are stored as they are, counts and options as JSON in the file's header. The file is replaced as a whole, so after a
kill at any moment the last complete checkpoint is there, and going on from it ends with the same bits.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from ..errors import StateError
from ..runs.run import Run, check_shapes
from ..runs.schema import check_alike, damaged, parse_json, read_record
from ..runs.tensor_file import load_tensors, save_tensors
from .learner import Learner
from .state import CheckpointState, Progress

STATE = "state"  # the key of the file's metadata


def save_checkpoint(path: Path, learner: Learner, run: Run | None = None) -> None:
    """Write where `learner`, of `run`, stands to `path`. Raises DataError for a full disk or a missing permission."""
    arrays, rest = learner.state.to_arrays()
    (run.save_tensors if run else save_tensors)(path, arrays, {STATE: json.dumps(asdict(rest))})


def load_checkpoint(path: Path, learner: Learner, run: Run | None = None) -> None:
    """Bring `learner` to where `path` was saved. Raises StateError for a damaged file, or one of another network or run."""
    arrays, metadata = (run.check_tensors if run else load_tensors)(path)
    if STATE not in metadata:
        raise damaged(str(path), "it holds no state", "one that `pellucid train` wrote")
    where = f"{path}: {STATE}"
    state = read_record(CheckpointState, parse_json(metadata[STATE].encode(), where, finite=False), where)
    own, rest = learner.state.to_arrays()
    for name in (field.name for field in fields(state) if field.name != "progress"):
        check_alike(getattr(state, name), getattr(rest, name), where, name)
    check_shapes(path, arrays, _expected(own, arrays))
    _check_progress(state.progress, learner, where)
    try:
        learner.state.load_arrays(arrays, state)
    except StateError as error:
        raise StateError(f"{path}: {error}") from None


def _expected(own: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that a checkpoint must hold: those of the learner, and the best weights where there are any."""
    network = {name.removeprefix("network/"): array for name, array in own.items() if name.startswith("network/")}
    best = any(name.startswith("best/") for name in arrays)
    return own | ({f"best/{name}": array for name, array in network.items()} if best else {})


def _check_progress(progress: Progress, learner: Learner, where: str) -> None:
    """Raise StateError for counts that no training comes to."""
    steps = len(learner.loader)
    counts: dict[str, tuple[float, bool]] = {
        "epoch": (progress.epoch, progress.epoch >= 0),
        "step": (progress.step, progress.epoch * steps <= progress.step <= (progress.epoch + 1) * steps),
        "seen": (progress.seen, 0 <= progress.seen <= learner.loader.examples),
        "seconds": (progress.seconds, progress.seconds >= 0),
        "best_epoch": (progress.best_epoch, 0 <= progress.best_epoch <= progress.epoch + 1),
        "waited": (progress.waited, 0 <= progress.waited <= progress.epoch),
    }
    for name, (value, fits) in counts.items():
        if not fits:
            raise damaged(f"{where}: progress.{name}", f"it is {value}", f"a count that {steps} steps an epoch come to")
