"""All that changes while a network trains, gathered so that it can be put back or saved as a whole (floor 6).

`loop.py` moves it, `checkpoint.py` writes it to disk. What it holds: network, optimizers, schedules, average of weights,
the loader's place, the random stream, the best weights so far, and the counts of `Progress`.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from .. import nn, optim
from ..creation import tensor
from ..data.loader import DataLoader
from ..evaluation.compiled import CompiledFunction
from ..models.base import Model, Phase
from ..nn import Module, Parameter
from ..nn.utils import clip_grad_norm_
from ..random import Generator, use_generator
from ..runs.settings import Settings
from ..tensor import Tensor
from .fine_tuning import frozen_layers

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


@dataclass
class OptimizerPhase:
    """A turn of the network with what takes it: its module's parameters and their optimizers."""

    turn: Phase
    parameters: list[Parameter]
    optimizers: list[optim.Optimizer]


class Learner:
    """A network with everything that trains it, built from Settings.

    generator: what the steps draw from: dropout, augmentation, latents. The one the weights came from, so that no number
        serves twice; without it, one from `settings.seed` that begins far behind any network's weights. Whatever else
        draws meanwhile, in this thread or another, changes nothing here, nor does training move any other stream.
    judged: the same network in evaluation mode. It shares every Tensor, and so always has the newest weights; switching
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
        self.moves = [make_move(turn, settings) for turn in network.turns()]
        self.optimizers = [optimizer for move in self.moves for optimizer in move.optimizers]
        steps = settings.epochs * len(loader)
        curve = learning_rate_curve(settings.schedule, settings.warmup, steps)
        self.schedules = [optim.lr_scheduler.LambdaLR(optimizer, curve) for optimizer in self.optimizers]
        self.average = optim.ExponentialMovingAverage(network, settings.average) if settings.average else None
        self.best: dict[str, np.ndarray] | None = None
        self.progress = Progress()
        self._written: list[Tensor] | None = None
        shared = {id(t): t for t in [*network.parameters(), *network.buffers()]}
        self.judged: Model = copy.deepcopy(network, shared).eval()
        self._whole = loader.gather_op is not None
        self.native = CompiledFunction(self._picking_step if self._whole else self.step, settings.eager)

    def to_learning(self) -> None:
        """The network in training mode, but for layers that are frozen: their batch norms keep the statistics they have."""
        self.network.train()
        for layer in self.frozen:
            layer.eval()

    @property
    def lr(self) -> float:
        return float(self.optimizers[0].param_groups[0]["lr"])

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update: each turn of the network in order. Gives what the turns tell; "loss" is their sum."""
        with self.drawing():
            told = self._turns(batch)
        if self.average:
            self.average.update()
        return told

    def _turns(self, batch: Batch) -> dict[str, Tensor]:
        told: dict[str, Tensor] = {}
        for move in self.moves:
            values = self.take(move, batch)
            losses = [told["loss"]] if "loss" in told else []
            if move.turn.name:
                told |= {f"{move.turn.name}_{name}": value for name, value in values.items()}
            else:
                told |= values
            told["loss"] = sum(losses, values["loss"])
        return told

    def drawing(self) -> use_generator:
        """Inside, what draws random numbers draws from this training's."""
        return use_generator(self.generator)

    def take(self, move: OptimizerPhase, batch: Batch) -> dict[str, Tensor]:
        """One turn: forward, blame sent back to the parameters whose turn it is, and their update."""
        for optimizer in move.optimizers:
            optimizer.zero_grad()
        values = move.turn.values(*batch)
        values["loss"].backward(inputs=move.parameters)
        if self.settings.clip:
            clip_grad_norm_(move.parameters, self.settings.clip)
        for optimizer in move.optimizers:
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

    # ---- putting back, and the best so far -------------------------------------------------------------------------

    def tensors(self) -> list[Tensor]:
        """Every Tensor that a step writes; all of them exist before the first."""
        if self._written is not None:
            return self._written
        found = [*self.network.parameters(), *self.network.buffers(), self.generator.state]
        for optimizer in self.optimizers:
            found += [t for kept in optimizer.state.values() for t in kept.values()]
        if self.average:
            found += [*self.average.averages.values(), self.average._count]
        self._written = list({id(t): t for t in found}.values())
        return self._written

    def snapshot(self) -> Snapshot:
        """What `put_back` needs. After a compiled step it copies every array, after an eager one none."""
        arrays = [(t, t.array) for t in self.tensors()]
        progress = replace(self.progress, sums=dict(self.progress.sums))
        return Snapshot(arrays, [schedule.state_dict() for schedule in self.schedules], progress)

    def put_back(self, snapshot: Snapshot) -> None:
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
        with self.average.applied() if self.average else contextlib.nullcontext():
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
            state = self.average.state_dict()
            arrays |= {f"average/{name}": t.array for name, t in state["averages"].items()}
            arrays["average_count"] = state["count"].array
        rest = {
            "progress": asdict(self.progress), "groups": groups, "loader": self.loader.state_dict(),
            "schedules": [schedule.state_dict() for schedule in self.schedules],
        }  # fmt: skip
        return arrays, rest

    def load_state(self, arrays: dict[str, np.ndarray], rest: dict[str, Any]) -> None:
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
        self.progress = Progress(**rest["progress"])
        self.generator.set_state(tensor(arrays["random"]))


def _behind_weights(seed: int) -> Generator:
    generator = Generator(seed)
    generator.set_state(tensor([generator.initial_seed(), 1 << 32]))
    return generator


def _below(prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor(array) for name, array in arrays.items() if name.startswith(prefix)}


def learning_rate_curve(schedule: str, warmup: float, steps: int) -> Callable[[int], float]:
    """The learning rate of each step as a share of the highest.

    "cosine": in a line from 0 to 1 in the first `warmup` of all steps, then down half a cosine (Loshchilov and Hutter
    2017). "onecycle": up and down by half cosines, from 1/25 and to 1/10,000 (Smith and Topin 2018). "constant": a line, then 1.
    """
    rise = max(1, round(warmup * steps))

    def curve(step: int) -> float:
        t = min(1.0, (step - rise) / max(1, steps - rise))
        if schedule == "onecycle":
            if step < rise:
                return 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * step / rise)) / 2
            return 1e-4 + (1 - 1e-4) * (1 + math.cos(math.pi * t)) / 2
        if step < rise:
            return (step + 1) / (rise + 1)
        return 1.0 if schedule == "constant" else (1 + math.cos(math.pi * t)) / 2

    return curve


def make_move(turn: Phase, settings: Settings) -> OptimizerPhase:
    parameters = [p for p in turn.module.parameters() if p.requires_grad]
    return OptimizerPhase(turn, parameters, make_optimizers(turn.module, settings))


def make_optimizers(network: Module, settings: Settings) -> list[optim.Optimizer]:
    """The optimizer the settings name. Matrices are decayed; biases, the scales of norms and other vectors are not.

    Muon moves the matrices of hidden layers only, so an AdamW stands beside it for the rest.
    """
    lr, decay = settings.lr, settings.weight_decay
    betas = (settings.momentum, settings.momentum2)
    matrices = hidden_matrices(network) if settings.optimizer == "muon" else []
    rest = [
        (name, p) for name, p in network.named_parameters() if p.requires_grad and not any(p is m for m in matrices)
    ]
    weights = [p for name, p in rest if is_matrix(name, p)]
    others = [p for name, p in rest if not is_matrix(name, p)]
    groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    makers: dict[str, Callable[[], optim.Optimizer]] = {
        "adamw": lambda: optim.AdamW(groups, lr=lr, betas=betas),
        "adam": lambda: optim.Adam(groups, lr=lr, betas=betas),
        "sgd": lambda: optim.SGD(groups, lr=lr, momentum=settings.momentum, nesterov=settings.momentum > 0),
        "rmsprop": lambda: optim.RMSprop(groups, lr=lr),
        "adagrad": lambda: optim.Adagrad(groups, lr=lr),
    }
    if settings.optimizer != "muon":
        return [makers[settings.optimizer]()]
    found: list[optim.Optimizer] = []
    if matrices:
        found.append(optim.Muon(matrices, lr=lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw"))
    if groups:
        found.append(makers["adamw"]())
    return found


def is_matrix(name: str, parameter: Parameter) -> bool:
    """Whether it multiplies what comes in: `weight`, `weight_ih_l0`, `weight_orig`, `in_proj_weight`, of two axes or more."""
    return parameter.ndim > 1 and "weight" in name.rpartition(".")[2]


MATRICES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.RNN, nn.GRU, nn.LSTM, nn.MultiheadAttention)


def hidden_matrices(network: Module) -> list[Parameter]:
    """The weights between one layer and the next, first to last; not the embeddings, and not the layer that answers."""
    layers = [m for m in network.modules() if isinstance(m, MATRICES)]
    if layers and isinstance(layers[-1], nn.Linear):  # it answers; a tied head is an embedding
        layers.pop()
    own = [p for m in layers for name, p in m.named_parameters(recurse=False) if is_matrix(name, p)]
    return [p for p in own if p.requires_grad]
