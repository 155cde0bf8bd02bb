"""The training step: the phases of a network with their optimizers, eager or compiled, built from Settings (floor 10).

What a step changes is in `state.py`. `loop.py` runs the steps.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence

import numpy as np

from .. import optim
from ..compiler.backends.in_turn import run_in_turn
from ..creation import tensor
from ..data.loader import DataLoader
from ..evaluation.compiled import CompiledFunction
from ..models.base import Model
from ..nn.utils import clip_grad_norm_
from ..random import Generator
from ..runs.settings import Settings
from ..tensor import Tensor
from .batch_statistics import BatchStatistics
from .fine_tuning import frozen_layers
from .optimizers import OptimizerPhase, learning_rate_curve, make_phase
from .state import TrainingState

Batch = Sequence[Tensor]


def is_finite(array: np.ndarray) -> bool:
    """Whether every number is finite. One dot product answers it nearly always, at a tenth of the cost of looking."""
    flat = array.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(flat, flat)) or np.isfinite(flat).all())


class Learner:
    """The training step of a network, built from Settings, and the state that it changes.

    generator: what the steps draw from: dropout, augmentation, latents. The one the weights came from, so that no number
        serves twice; without it, one from `settings.seed` that begins far behind any network's weights. Whatever else
        draws meanwhile, in this thread or another, changes nothing here, nor does training phase any other stream.
    eval_network: the same network in evaluation mode. It shares every Tensor, and so always has the newest weights; switching
    the mode of one network to and fro would have each of its programs recorded again every time.
    """

    def __init__(
        self, network: Model, loader: DataLoader, settings: Settings, generator: Generator | None = None
    ) -> None:
        self.network = network
        self.loader = loader
        self.settings = settings
        self.frozen = frozen_layers(network, settings.freeze)
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.phases = [make_phase(phase, settings) for phase in network.phases()]
        optimizers = [optimizer for phase in self.phases for optimizer in phase.optimizers]
        steps = settings.epochs * len(loader)
        curve = learning_rate_curve(settings.schedule, settings.warmup_fraction, steps)
        schedules = [optim.lr_scheduler.LambdaLR(optimizer, curve) for optimizer in optimizers]
        average = optim.ExponentialMovingAverage(network, settings.ema_decay) if settings.ema_decay else None
        generator = generator or _behind_weights(settings.seed)
        self.state = TrainingState(network, loader, optimizers, schedules, average, generator)
        shared = {id(t): t for t in [*network.parameters(), *network.buffers()]}
        self.eval_network: Model = copy.deepcopy(network, shared).eval()
        self.batch_statistics = BatchStatistics(network, loader, settings.eager, self.frozen)
        self.native = CompiledFunction(self._step_on if self._takes_rows else self.step, settings.eager)

    @property
    def _takes_rows(self) -> bool:
        """Whether the data are in memory, so that a step takes its rows by itself."""
        return self.loader.gather_op is not None

    def train_mode(self) -> None:
        """Put the network in training mode, but for frozen layers: their batch norms keep the statistics they have."""
        self.network.train()
        for layer in self.frozen:
            layer.eval()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update: each phase of the network in order. Gives the values of all phases; "loss" is their sum."""
        with self.state.drawing():
            values = self._run_phases(batch)
        if self.state.average:
            self.state.average.update()
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

    def _step_on(self, picked: Tensor) -> dict[str, Tensor]:
        """`step` on the examples `picked`; taking them is part of it, so that a compiled step reads the data where they are."""
        assert self.loader.gather_op is not None
        return self.step(self.loader.gather_op(picked))

    def run_steps(self, picked: np.ndarray) -> dict[str, np.ndarray]:
        """`step` on the examples of each row of `picked`, int64 (S, B). Gives each of its values by step, (S,).

        They run natively where that is possible, without Python in between where the data are in memory. The learning rate
        follows its schedule from one to the next.
        """
        per_step = self.state.look_ahead(len(picked))
        with self.state.drawing():
            if self._takes_rows:
                values = self.native.run_steps(picked, per_step)
            else:
                values = run_in_turn(lambda s: self.native(self.loader.batch(picked[s])), len(picked), per_step)
        return {name: value.array for name, value in values.items()}

    def run(self, picked: np.ndarray) -> dict[str, float]:
        """`run_steps` of one step, on the examples `picked`, int64 (B,); its values as numbers."""
        return {name: float(values[0]) for name, values in self.run_steps(picked[None]).items()}

    @contextlib.contextmanager
    def judged(self) -> Iterator[None]:
        """Inside, the network is what is validated and saved: averaged weights where there is an average, and their statistics."""
        with self.state.averaged(), self.batch_statistics.recomputed():
            yield

    def is_finite(self) -> bool:
        return all(is_finite(p.array) for p in self.parameters)


def _behind_weights(seed: int) -> Generator:
    generator = Generator(seed)
    generator.set_state(tensor([generator.initial_seed(), 1 << 32]))
    return generator
