"""The state of a training: everything that changes in it, so that it can be restored or saved as a whole (floor 10).

It holds the weights, the optimizers' and schedules' own numbers, averaged weights, the loader's position, the random stream,
the best weights so far and the counts of `Progress`. `learner.py` changes it step by step, `checkpoint.py` writes it to disk.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from .. import optim
from ..creation import tensor
from ..data.loader import DataLoader
from ..models.base import Model
from ..random import Generator, use_generator
from ..runs.schema import Json
from ..tensor import Tensor


@dataclass
class Progress:
    """Counts: epochs and steps done, sums over the epoch under way, and the best validation result so far."""

    epoch: int = 0
    step: int = 0
    seen: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    best: dict[str, float] | None = None
    best_epoch: int = 0
    waited: int = 0

    def add(self, values: Mapping[str, float], count: int) -> None:
        """Count a step on `count` examples."""
        self.step += 1
        self.seen += count
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * count

    def mean(self, name: str) -> float:
        return self.sums[name] / max(self.seen, 1)

    def close_epoch(self) -> dict[str, float]:
        means = {name: self.mean(name) for name in self.sums}
        self.epoch, self.seen, self.seconds, self.sums = self.epoch + 1, 0, 0.0, {}
        return means


@dataclass(frozen=True)
class Snapshot:
    """Where a training stood between two steps, its loader apart."""

    arrays: list[tuple[Tensor, np.ndarray]]
    schedules: list[dict[str, Json]]
    progress: Progress


@dataclass(frozen=True)
class CheckpointState:
    """What a checkpoint holds beside arrays. groups: each optimizer's parameter groups without their parameters.

    loader, schedules: as their `state_dict` gives them.
    """

    progress: Progress
    groups: list[list[dict[str, Json]]]
    loader: dict[str, Json]
    schedules: list[dict[str, Json]]


class TrainingState:
    """All that changes while `network` is trained on the batches of `loader`.

    average: of the weights, or None.      generator: what the steps draw from.      best: the best weights by validation so
    far, None before there are any.
    """

    def __init__(
        self, network: Model, loader: DataLoader, optimizers: list[optim.Optimizer],
        schedules: list[optim.lr_scheduler.LambdaLR], average: optim.ExponentialMovingAverage | None, generator: Generator,
    ) -> None:  # fmt: skip
        self.network = network
        self.loader = loader
        self.optimizers = optimizers
        self.schedules = schedules
        self.average = average
        self.generator = generator
        self.best: dict[str, np.ndarray] | None = None
        self.progress = Progress()
        self._step_tensors: list[Tensor] | None = None

    @property
    def lr(self) -> float:
        return float(self.optimizers[0].param_groups[0]["lr"])

    def drawing(self) -> use_generator:
        """A context in which random numbers come from this training's generator."""
        return use_generator(self.generator)

    def look_ahead(self, steps: int) -> dict[Tensor, np.ndarray]:
        """What the optimizers read in each of the next `steps` steps, (S,); the learning rate is that after them now."""
        return optim.lr_scheduler.look_ahead(self.schedules, steps)

    # ---- restoring, and the best so far -------------------------------------------------------------------------

    def tensors(self) -> list[Tensor]:
        """Every Tensor that a step writes; all of them exist before the first."""
        if self._step_tensors is not None:
            return self._step_tensors
        tensors = [*self.network.parameters(), *self.network.buffers(), self.generator.state]
        for optimizer in self.optimizers:
            tensors += [t for state in optimizer.state.values() for t in state.values()]
        if self.average:
            tensors += [*self.average.averages.values(), self.average._count]
        self._step_tensors = list({id(t): t for t in tensors}.values())
        return self._step_tensors

    def snapshot(self) -> Snapshot:
        """What `restore` needs. After a compiled step it copies every array, after an eager one none."""
        arrays = [(t, t.array) for t in self.tensors()]
        progress = replace(self.progress, sums=dict(self.progress.sums))
        return Snapshot(arrays, [schedule.state_dict() for schedule in self.schedules], progress)

    def restore(self, snapshot: Snapshot) -> None:
        for t, array in snapshot.arrays:
            t.assign(array)
        for schedule, saved in zip(self.schedules, snapshot.schedules, strict=True):
            schedule.load_state_dict(saved)
            for group, lr in zip(schedule.optimizer.param_groups, schedule.get_last_lr(), strict=True):
                group["lr"] = lr
        self.progress = replace(snapshot.progress, sums=dict(snapshot.progress.sums))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the network has its averaged weights, where there is an average."""
        with self.average.average_parameters() if self.average else contextlib.nullcontext():
            yield

    def keep_best(self) -> None:
        self.best = {name: t.array for name, t in self.network.state_dict().items()}

    # ---- as arrays and plain values, for a checkpoint --------------------------------------------------------------

    def to_arrays(self) -> tuple[dict[str, np.ndarray], CheckpointState]:
        """Everything as arrays by name, and the rest as plain values that JSON can hold."""
        arrays = {f"network/{name}": t.array for name, t in self.network.state_dict().items()}
        arrays |= {f"best/{name}": array for name, array in (self.best or {}).items()}
        arrays["random"] = self.generator.get_state().array
        groups = []
        for i, optimizer in enumerate(self.optimizers):
            state = optimizer.state_dict()
            arrays |= {f"optimizer{i}/{k}/{n}": t.array for k, kept in state["state"].items() for n, t in kept.items()}
            groups.append(state["param_groups"])
        if self.average:
            average = self.average.state_dict()
            arrays |= {f"average/{name}": t.array for name, t in average["averages"].items()}
            arrays["average_count"] = average["count"].array
        schedules = [schedule.state_dict() for schedule in self.schedules]
        return arrays, CheckpointState(self.progress, groups, self.loader.state_dict(), schedules)

    def load_arrays(self, arrays: dict[str, np.ndarray], saved: CheckpointState) -> None:
        """Go on from what `to_arrays` gave. Raises StateError where it belongs to another network."""
        self.network.load_state_dict(_below("network/", arrays))
        self.best = {name: t.array for name, t in _below("best/", arrays).items()} or None
        for i, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in _below(f"optimizer{i}/", arrays).items():
                k, n = name.split("/")
                state.setdefault(int(k), {})[n] = value
            optimizer.load_state_dict({"state": state, "param_groups": saved.groups[i]})
        for schedule, values in zip(self.schedules, saved.schedules, strict=True):
            schedule.load_state_dict(values)
        if self.average:
            self.average.load_state_dict({**self.average.state_dict(), "count": tensor(arrays["average_count"]),
                                          "averages": _below("average/", arrays)})  # fmt: skip
        self.loader.load_state_dict(saved.loader)
        self.progress = saved.progress
        self.generator.set_state(tensor(arrays["random"]))


def _below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor(array) for name, array in arrays.items() if name.startswith(prefix)}
