"""The state of a training: everything that changes in it, so that it can be restored or saved as a whole (floor 10).

It holds network, optimizers, schedules, averaged weights, the loader's position, the random stream, the best weights so far
and the counts of `Progress`. `loop.py` runs its steps, `checkpoint.py` writes it to disk.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from .. import optim
from ..creation import tensor
from ..data.loader import DataLoader
from ..evaluation.compiled import CompiledFunction
from ..models.base import Model
from ..nn.utils import clip_grad_norm_
from ..random import Generator, use_generator
from ..runs.settings import Settings
from ..tensor import Tensor
from .fine_tuning import frozen_layers
from .optimizers import OptimizerPhase, learning_rate_curve, make_phase

Batch = Sequence[Tensor]


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

    def add(self, values: dict[str, float], count: int) -> None:
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


def is_finite(array: np.ndarray) -> bool:
    """Whether every number is finite. One dot product answers it nearly always, at a tenth of the cost of looking."""
    flat = array.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(flat, flat)) or np.isfinite(flat).all())


@dataclass(frozen=True)
class Snapshot:
    """Where a Learner stood between two steps, its loader apart."""

    arrays: list[tuple[Tensor, np.ndarray]]
    schedules: list[dict[str, Any]]
    progress: Progress


class Learner:
    """A network with everything that trains it, built from Settings.

    generator: what the steps draw from: dropout, augmentation, latents. The one the weights came from, so that no number
        serves twice; without it, one from `settings.seed` that begins far behind any network's weights. Whatever else
        draws meanwhile, in this thread or another, changes nothing here, nor does training phase any other stream.
    eval_network: the same network in evaluation mode. It shares every Tensor, and so always has the newest weights; switching
    the mode of one network to and fro would have each of its programs recorded again every time.
    """

    def __init__(
        self, network: Model, loader: DataLoader, settings: Settings, generator: Generator | None = None
    ) -> None:
        self.generator = generator or _behind_weights(settings.seed)
        self.network = network
        self.loader = loader
        self.settings = settings
        self.examples = loader.examples
        self.frozen = frozen_layers(network, settings.freeze)
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.phases = [make_phase(phase, settings) for phase in network.phases()]
        self.optimizers = [optimizer for phase in self.phases for optimizer in phase.optimizers]
        steps = settings.epochs * len(loader)
        curve = learning_rate_curve(settings.schedule, settings.warmup_fraction, steps)
        self.schedules = [optim.lr_scheduler.LambdaLR(optimizer, curve) for optimizer in self.optimizers]
        self.average = optim.ExponentialMovingAverage(network, settings.ema_decay) if settings.ema_decay else None
        self.best: dict[str, np.ndarray] | None = None
        self.progress = Progress()
        self._step_tensors: list[Tensor] | None = None
        shared = {id(t): t for t in [*network.parameters(), *network.buffers()]}
        self.eval_network: Model = copy.deepcopy(network, shared).eval()
        self._whole = loader.gather_op is not None
        self.native = CompiledFunction(self._picking_step if self._whole else self.step, settings.eager)

    def train_mode(self) -> None:
        """Put the network in training mode, but for frozen layers: their batch norms keep the statistics they have."""
        self.network.train()
        for layer in self.frozen:
            layer.eval()

    @property
    def lr(self) -> float:
        return float(self.optimizers[0].param_groups[0]["lr"])

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update: each phase of the network in order. Gives the values of all phases; "loss" is their sum."""
        with self.drawing():
            values = self._run_phases(batch)
        if self.average:
            self.average.update()
        return values

    def _run_phases(self, batch: Batch) -> dict[str, Tensor]:
        step: dict[str, Tensor] = {}
        for phase in self.phases:
            values = self.run_phase(phase, batch)
            losses = [step["loss"]] if "loss" in step else []
            if phase.phase.name:
                step |= {f"{phase.phase.name}_{name}": value for name, value in values.items()}
            else:
                step |= values
            step["loss"] = sum(losses, values["loss"])
        return step

    def drawing(self) -> use_generator:
        """A context in which random numbers come from this training's generator."""
        return use_generator(self.generator)

    def run_phase(self, phase: OptimizerPhase, batch: Batch) -> dict[str, Tensor]:
        """One phase: forward, backward to the parameters that it updates, and their optimizers' step."""
        for optimizer in phase.optimizers:
            optimizer.zero_grad()
        values = phase.phase.training_step(*batch)
        values["loss"].backward(inputs=phase.parameters)
        if self.settings.clip_grad_norm:
            clip_grad_norm_(phase.parameters, self.settings.clip_grad_norm)
        for optimizer in phase.optimizers:
            optimizer.step()
        return {name: value.detach() for name, value in values.items()}

    def _picking_step(self, picked: Tensor) -> dict[str, Tensor]:
        """`step` on the rows `picked`; taking them is part of it, so that a compiled step reads the data where they are."""
        assert self.loader.gather_op is not None
        return self.step(self.loader.gather_op(picked))

    def run(self, picked: np.ndarray) -> dict[str, float]:
        """`step` on the examples `picked`, natively where that is possible, and its results as numbers."""
        with self.drawing():
            values = self.native(Tensor(picked) if self._whole else self.loader.batch(picked))
        return {name: float(value.array) for name, value in values.items()}

    def count(self, values: dict[str, float], examples: int) -> None:
        """After a step: count it, and set the learning rate of the next one."""
        self.progress.add(values, examples)
        for schedule in self.schedules:
            schedule.step()

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

    def is_finite(self) -> bool:
        return all(is_finite(p.array) for p in self.parameters)

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the network has its averaged weights, where there is an average."""
        with self.average.average_parameters() if self.average else contextlib.nullcontext():
            yield

    def keep_best(self) -> None:
        self.best = {name: t.array for name, t in self.network.state_dict().items()}

    # ---- as arrays and plain values, for a checkpoint --------------------------------------------------------------

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
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
        rest = {
            "progress": asdict(self.progress), "groups": groups, "loader": self.loader.state_dict(),
            "schedules": [schedule.state_dict() for schedule in self.schedules],
        }  # fmt: skip
        return arrays, rest

    def load_state(self, arrays: dict[str, np.ndarray], progress: Progress, rest: dict[str, Any]) -> None:
        """Go on from what `state()` gave. Raises StateError where it belongs to another network."""
        self.network.load_state_dict(_below("network/", arrays))
        self.best = {name: t.array for name, t in _below("best/", arrays).items()} or None
        for i, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in _below(f"optimizer{i}/", arrays).items():
                k, n = name.split("/")
                state.setdefault(int(k), {})[n] = value
            optimizer.load_state_dict({"state": state, "param_groups": rest["groups"][i]})
        for schedule, saved in zip(self.schedules, rest["schedules"], strict=True):
            schedule.load_state_dict(saved)
        if self.average:
            self.average.load_state_dict({**self.average.state_dict(), "count": tensor(arrays["average_count"]),
                                          "averages": _below("average/", arrays)})  # fmt: skip
        self.loader.load_state_dict(rest["loader"])
        self.progress = progress
        self.generator.set_state(tensor(arrays["random"]))


def _behind_weights(seed: int) -> Generator:
    generator = Generator(seed)
    generator.set_state(tensor([generator.initial_seed(), 1 << 32]))
    return generator


def _below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor(array) for name, array in arrays.items() if name.startswith(prefix)}
