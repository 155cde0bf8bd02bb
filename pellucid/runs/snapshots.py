"""Snapshots: the weights of a network at the ends of epochs, kept while it is trained, in RUN/snapshots (floor 6).

They show how a network came to its answers: which training examples moved it (`inspect/influence.py`), and when. Each is a file
of its own, `epoch-0007.safetensors`, written before the checkpoint of its epoch, beside and renamed into place. Which epochs are
kept depends on how many are done alone, so after a kill at any moment `train --resume` ends with the same files.

Weights are stored as float16, other numbers (statistics of batch norms) as they are.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..errors import StateError
from ..models.base import Model
from ..random import fork_rng
from .run import Run, check_shapes
from .schema import damaged, parse_json, read_record
from .settings import Settings

AUTOMATIC_SETS, AUTOMATIC_BYTES = 40, 200_000_000  # by default: so many, and so much in all
ENTRY = "snapshot"  # the key of a file's metadata


@dataclass(frozen=True)
class Taken:
    """epoch: at whose end.      learning_rate: in the middle of it."""

    epoch: int
    learning_rate: float


@dataclass(frozen=True)
class Snapshot:
    """The weights and buffers of a network at the end of `epoch`, as float32 where they were."""

    epoch: int
    learning_rate: float
    weights: Mapping[str, np.ndarray]


def most_snapshots(settings: Settings, network: Model) -> int:
    """How many are kept at most: as many as the settings say, or by default as many as there is room for.

    network: of an ensemble the whole, whose members share the room.
    """
    if settings.snapshots >= 0:
        return settings.snapshots
    size = sum(array.nbytes for array in _stored(network).values())
    return min(AUTOMATIC_SETS, AUTOMATIC_BYTES // max(1, size))


def kept_epochs(done: int, most: int) -> range:
    """The epochs whose weights are kept once so many are done: every one, every second, every fourth, ..., at most `most`."""
    if not most:
        return range(0)
    stride = 1
    while done // stride > most:
        stride *= 2
    return range(stride, done + 1, stride)


def keep_snapshot(run: Run, network: Model, epoch: int, learning_rate: float, most: int) -> None:
    """Write the weights at the end of `epoch` where they are to be kept, and remove those that no longer are."""
    kept = kept_epochs(epoch, most)
    if epoch in kept:
        run.snapshots.mkdir(exist_ok=True)
        taken = json.dumps(asdict(Taken(epoch, learning_rate)))
        run.save_tensors(_path(run, epoch), _stored(network), {ENTRY: taken}, flushed=False)
    if len(kept) < len(kept_epochs(epoch - 1, most)):
        remove_others(run, kept)


def remove_others(run: Run, kept: range) -> None:
    """Remove all snapshots but those of the epochs `kept`: those of epochs that are trained again, and of thinning."""
    for epoch, path in _found(run).items():
        if epoch not in kept:
            with contextlib.suppress(OSError):
                path.unlink()


def load_snapshots(run: Run, most: int | None = None) -> list[Snapshot]:
    """The snapshots of a run by epoch, [] where it has none; of many, `most` of them evenly spread, the last among them.

    Raises StateError for a file that is damaged or of another run.
    """
    found = list(_found(run).items())
    if most is not None and len(found) > most:
        found = [found[i] for i in np.linspace(len(found) - 1, 0, most + 1).round().astype(int)[:most]][::-1]
    if not found:
        return []
    with fork_rng():  # whose random numbers are not needed
        network = run.new_network()
    like = {name: value.array for name, value in network.state_dict().items()}
    return [_load(run, path, epoch, like) for epoch, path in found]


def count_snapshots(run: Run) -> int:
    return len(_found(run))


def _load(run: Run, path: Path, epoch: int, like: Mapping[str, np.ndarray]) -> Snapshot:
    arrays, metadata = run.check_tensors(path)
    where = f"{path}: {ENTRY}"
    if ENTRY not in metadata:
        raise damaged(str(path), "it names no epoch", "one that `pellucid train` wrote")
    taken = read_record(Taken, parse_json(metadata[ENTRY].encode(), where), where)
    if taken.epoch != epoch or not 0 <= taken.learning_rate < np.inf:
        raise StateError(f"{where}: epoch {taken.epoch}, learning rate {taken.learning_rate:g}; expected epoch {epoch}, as the file is "
                         "called, and a number from 0; restore the folder from a copy, or delete it")  # fmt: skip
    weights = {name: array.astype(_wide(array.dtype)) for name, array in arrays.items()}
    check_shapes(path, weights, dict(like))
    return Snapshot(epoch, taken.learning_rate, weights)


def _stored(network: Model) -> dict[str, np.ndarray]:
    """The state of a network as it is written: weights as float16, where they fit into it."""
    parameters = {name for name, _ in network.named_parameters()}
    state = {name: value.array for name, value in network.state_dict().items()}
    return {name: _narrow(array) if name in parameters else array for name, array in state.items()}


def _narrow(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.float32 or (array.size and max(array.max(), -array.min()) > np.finfo(np.float16).max):
        return array
    return array.astype(np.float16)


def _wide(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _path(run: Run, epoch: int) -> Path:
    folder: Path = run.snapshots
    return folder / f"epoch-{epoch:04}.safetensors"


def _found(run: Run) -> dict[int, Path]:
    """The files of snapshots by epoch, in their order."""
    found = {}
    for path in run.snapshots.glob("epoch-*.safetensors"):
        number = path.stem.removeprefix("epoch-")
        if number.isascii() and number.isdigit():
            found[int(number)] = path
    return dict(sorted(found.items()))
