"""Learning-rate schedules, with PyTorch's names and values (floor 4).

A schedule is made after its optimizer and stepped after it, once per epoch or once per batch:

    schedule = lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    for epoch in range(epochs):
        ...; optimizer.step(); ...; schedule.step()

Most are defined as PyTorch's are, by how the rate changes from one step to the next (`get_lr`), so that several can act on
one optimizer. The new rate is written into `group["lr"]`, which carries it to the Tensor that the update rule reads.
"""

from __future__ import annotations

import contextlib
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import OptionError, StateError
from ..tensor import Tensor
from . import options as check
from .optimizer import Optimizer
from .param_groups import Group, changes_structure

__all__ = [
    "CosineAnnealingLR",
    "ExponentialLR",
    "LRScheduler",
    "LambdaLR",
    "LinearLR",
    "MultiStepLR",
    "OneCycleLR",
    "ReduceLROnPlateau",
    "SequentialLR",
    "StepLR",
    "look_ahead",
]


def look_ahead(schedules: Iterable[LRScheduler], steps: int) -> dict[Tensor, np.ndarray]:
    """Step each schedule `steps` times, and say what the update rules have to read meanwhile: `run_steps(..., per_step=...)`.

    Returns the Tensors of the optimizers that hold other numbers now than in some of these steps, each with its value in
    every step, (S,); a step of the schedules follows each. They stay so far ahead where the steps then fail. Raises OptionError,
    with everything as it was, for a schedule that needs to be told a metric, and where an option such as momentum becomes 0 or
    ceases to be, which changes what the update rule does and not only its numbers.
    """
    schedules = list(schedules)
    for schedule in schedules:
        if schedule.needs_metrics:
            raise OptionError(
                f"look_ahead: got a {type(schedule).__name__}; expected schedules that are functions of the step; step this one "
                "yourself, after each call"
            )
    groups = list({id(group): group for schedule in schedules for group in schedule.optimizer.param_groups}.values())
    saved = [(schedule, schedule.state_dict()) for schedule in schedules]
    numbers: list[list[dict[str, float]]] = [[] for _ in groups]
    with contextlib.ExitStack() as entered:
        read = [entered.enter_context(group.ahead()) for group in groups]
        options = [dict(group) for group in groups]
        for _ in range(steps):
            for own, now in zip(numbers, read, strict=True):
                own.append(now())
            for schedule in schedules:
                schedule.step()
            changed = next(filter(None, map(_changed_rule, options, groups)), None)
            if changed:
                for schedule, state in saved:
                    schedule.load_state_dict(state)
                for group, before in zip(groups, options, strict=True):
                    group.update({name: before[name] for name in before if group[name] is not before[name]})
                raise OptionError(
                    f"look_ahead: {changed} becomes 0 or ceases to be 0 within {steps} steps; expected its updates to be of one "
                    "kind; look ahead up to there, or call the step and the schedule in a loop"
                )
    ahead = {}
    for group, own in zip(groups, numbers, strict=True):
        for name, number in group.numbers.items():
            if any(earlier[name] != number for earlier in own):
                tensor = group.scalars[name]
                ahead[tensor] = np.array([earlier[name] for earlier in own], tensor.dtype)
    return ahead


def _changed_rule(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """An option, the rate apart, by which another update rule runs now; a rate of 0 is a number as any other."""
    changed = (name for name in before if name != "lr" and changes_structure(before[name], now[name]))
    return next(changed, None)


class LRScheduler:
    """Base of all schedules, and of your own: define `get_lr`, which gives the rate of each group for `self.last_epoch`.

    optimizer: its groups' rates, at this moment, are the `base_lrs`.
    last_epoch: -1 to begin; the number of steps taken to go on (an optimizer loaded from its `state_dict` knows the rest).
    """

    needs_metrics = False  # whether `step` is told how well the network does
    # What `state_dict` leaves out: it is given to the constructor again.
    _not_saved: tuple[str, ...] = ("optimizer",)

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = _optimizer_of(self, optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise OptionError(
                    f"{self._name}: last_epoch is {last_epoch}, but group {i} of the optimizer has no 'initial_lr'; expected an "
                    "optimizer that has had a schedule; load its state_dict first, or leave last_epoch at -1"
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._begin()

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def _groups(self) -> list[Group]:
        return self.optimizer.param_groups

    def _current(self) -> list[float]:
        return [group["lr"] for group in self._groups]

    def _begin(self) -> None:
        """Set the rates for the first step; one that resumes finds them in its groups."""
        self._starting = True
        self.step()
        self._starting = False

    def _undo(self) -> None:
        """Take back the step that the constructor took."""
        self.last_epoch -= 1

    def get_lr(self) -> list[float]:
        """The rate of each group at step `self.last_epoch`, from its current rate."""
        raise NotImplementedError(f"{self._name} does not define get_lr()")

    def _lr_at_start(self) -> list[float]:
        """The rate of each group where `SequentialLR` lets this schedule begin."""
        return self.base_lrs

    def get_last_lr(self) -> list[float]:
        """The rate of each group, as last set by this schedule."""
        return self._last_lr

    def step(self) -> None:
        """Go on to the next step's rates; call it after `optimizer.step()`."""
        self.last_epoch += 1
        self._write(self.get_lr())

    def _restart(self) -> None:
        """Begin at step 0 now, whatever has happened to the rates before."""
        self.last_epoch = 0
        self._write(self._lr_at_start())

    def _write(self, rates: Sequence[float]) -> None:
        for group, rate in zip(self._groups, rates, strict=True):
            group["lr"] = rate
        self._last_lr = self._current()

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer and functions, as numbers and lists (it can be written as JSON)."""
        return {k: list(v) if isinstance(v, list) else v for k, v in vars(self).items() if k not in self._not_saved}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from `state_dict`, taken from a schedule of the same class. Raises StateError otherwise.

        The rates themselves are in the optimizer's state: load that after making the schedule, which writes its first ones.
        """
        expected = vars(self).keys() - set(self._not_saved)
        if not isinstance(state_dict, Mapping) or state_dict.keys() != expected:
            found = sorted(state_dict) if isinstance(state_dict, Mapping) else type(state_dict).__name__
            raise StateError(
                f"{self._name}.load_state_dict: got {found}; expected {sorted(expected)}; "
                "load it into the class of schedule that saved it"
            )
        vars(self).update({k: list(v) if isinstance(v, list) else v for k, v in state_dict.items()})


class LambdaLR(LRScheduler):
    """lr = base lr x lr_lambda(step); one function, or a list with one for each group. Functions are not saved."""

    _not_saved = ("optimizer", "lr_lambdas")

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        groups = len(_optimizer_of(self, optimizer).param_groups)
        many = isinstance(lr_lambda, list | tuple)
        self.lr_lambdas: list[Callable[[int], float]] = list(lr_lambda) if many else [lr_lambda] * groups  # type: ignore
        if len(self.lr_lambdas) != groups or not all(callable(f) for f in self.lr_lambdas):
            raise OptionError(f"LambdaLR: lr_lambda is {lr_lambda!r}; expected one function of the step, or a list of {groups}, "
                              "one for each group; write for example lr_lambda=lambda step: 0.95**step")  # fmt: skip
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [base * f(self.last_epoch) for f, base in zip(self.lr_lambdas, self.base_lrs, strict=True)]

    def _lr_at_start(self) -> list[float]:
        return self.get_lr()


class StepLR(LRScheduler):
    """The rate is multiplied by `gamma` every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self.step_size = check.integer("StepLR", "step_size", step_size, example=30)
        self.gamma = check.number("StepLR", "gamma", gamma, "a number above 0", example=0.1)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        due = self.last_epoch > 0 and self.last_epoch % self.step_size == 0
        return [lr * self.gamma for lr in self._current()] if due else self._current()


class MultiStepLR(LRScheduler):
    """The rate is multiplied by `gamma` at each of the steps in `milestones` (twice where one is given twice)."""

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.milestones = _milestones("MultiStepLR", milestones)
        self.gamma = check.number("MultiStepLR", "gamma", gamma, "a number above 0", example=0.1)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        times = self.milestones.count(self.last_epoch)
        return [lr * self.gamma**times for lr in self._current()] if times else self._current()


class ExponentialLR(LRScheduler):
    """The rate is multiplied by `gamma` at every step."""

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = check.number("ExponentialLR", "gamma", gamma, "a number above 0", example=0.95)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return self._current() if self._starting else [lr * self.gamma for lr in self._current()]


class LinearLR(LRScheduler):
    """Warm-up: from `start_factor` x the base rate in a straight line to `end_factor` x it, in `total_iters` steps."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = check.number(
            "LinearLR", "start_factor", start_factor, "a number above 0, at most 1", example=0.1
        )
        self.end_factor = check.number("LinearLR", "end_factor", end_factor, "a number from 0 to 1", example=1.0)
        self.total_iters = check.integer("LinearLR", "total_iters", total_iters, example=5)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        if self.last_epoch == 0:
            return [lr * self.start_factor for lr in self._current()]
        if self._starting or self.last_epoch > self.total_iters:
            return self._current()
        rise = self.end_factor - self.start_factor
        before = (
            self.total_iters * self.start_factor + (self.last_epoch - 1) * rise
        )  # in units of base lr / total_iters
        return [lr * (1.0 + rise / before) for lr in self._current()]

    def _lr_at_start(self) -> list[float]:
        return [base * self.start_factor for base in self.base_lrs]


class CosineAnnealingLR(LRScheduler):
    """From the base rate to `eta_min` along half a cosine in `T_max` steps, then up again (Loshchilov and Hutter 2017)."""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self.T_max = check.integer("CosineAnnealingLR", "T_max", T_max, example=100)
        self.eta_min = check.number("CosineAnnealingLR", "eta_min", eta_min, "a number of 0 or more", example=0.0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t = self.last_epoch
        if t == 0:
            return self._current()
        if self._starting:
            return [self.eta_min + (base - self.eta_min) * (1 + math.cos(t * math.pi / self.T_max)) / 2
                    for base in self.base_lrs]  # fmt: skip
        if (t - 1 - self.T_max) % (2 * self.T_max) == 0:  # just past the bottom, where the ratio below would be 0 / 0
            return [lr + (base - self.eta_min) * (1 - math.cos(math.pi / self.T_max)) / 2
                    for base, lr in zip(self.base_lrs, self._current(), strict=True)]  # fmt: skip
        now, before = 1 + math.cos(math.pi * t / self.T_max), 1 + math.cos(math.pi * (t - 1) / self.T_max)
        return [now / before * (lr - self.eta_min) + self.eta_min for lr in self._current()]


class OneCycleLR(LRScheduler):
    """One cycle: up from `max_lr / div_factor` to `max_lr` in the first `pct_start` of all steps, then down to the initial
    rate / `final_div_factor` (Smith and Topin 2018). Momentum, or Adam's first beta, goes the other way.

    total_steps, or `epochs` and `steps_per_epoch`: how often `step` will be called; it refuses to go on after that.
    max_lr, base_momentum, max_momentum: a number, or a list with one for each group.
    three_phase: back to the initial rate first, and only then further down.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self.optimizer = _optimizer_of(self, optimizer)
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        self.pct_start = check.number("OneCycleLR", "pct_start", pct_start, "a number from 0 to 1", example=0.3)
        self.anneal_strategy = check.choice("OneCycleLR", "anneal_strategy", anneal_strategy, ("cos", "linear"))
        self.cycle_momentum = check.flag("OneCycleLR", "cycle_momentum", cycle_momentum)
        self.three_phase = check.flag("OneCycleLR", "three_phase", three_phase)
        div_factor = check.number("OneCycleLR", "div_factor", div_factor, "a number above 0", example=25.0)
        final = check.number("OneCycleLR", "final_div_factor", final_div_factor, "a number above 0", example=1e4)
        highest = self._per_group("max_lr", max_lr, "a number above 0", 0.1)
        if last_epoch == -1:
            for group, top in zip(self._groups, highest, strict=True):
                group.update(initial_lr=top / div_factor, max_lr=top, min_lr=top / div_factor / final)
        if cycle_momentum:
            self._prepare_momentum(base_momentum, max_momentum, write=last_epoch == -1)
        super().__init__(optimizer, last_epoch)

    def _per_group(self, option: str, value: float | Sequence[float], expected: str, example: float) -> list[float]:
        values = list(value) if isinstance(value, list | tuple) else [value] * len(self._groups)
        if len(values) != len(self._groups):
            raise OptionError(f"OneCycleLR: {option} has {len(values)} values; expected one number, or one for each of the "
                              f"optimizer's {len(self._groups)} groups; write for example {option}={example}")  # fmt: skip
        return [check.number("OneCycleLR", option, v, expected, example=example) for v in values]

    def _prepare_momentum(self, low: float | Sequence[float], high: float | Sequence[float], *, write: bool) -> None:
        known = self.optimizer.defaults
        if "betas" not in known and "momentum" not in known:
            raise OptionError(f"OneCycleLR: cycle_momentum=True, but {type(self.optimizer).__name__} has neither momentum nor "
                              "betas; write cycle_momentum=False")  # fmt: skip
        lowest = self._per_group("base_momentum", low, "a number from 0 to 1", 0.85)
        highest = self._per_group("max_momentum", high, "a number from 0 to 1", 0.95)
        if write:
            for group, bottom, top in zip(self._groups, lowest, highest, strict=True):
                group.update(max_momentum=top, base_momentum=bottom)
                self._write_momentum(group, top)

    def _write_momentum(self, group: Group, momentum: float) -> None:
        if "betas" in self.optimizer.defaults:
            group["betas"] = (momentum, *group["betas"][1:])
        else:
            group["momentum"] = momentum

    def _phases(self) -> list[tuple[float, str, str, str, str]]:
        """(last step, rate at its start and end, momentum at its start and end) of each phase."""
        rise = self.pct_start * self.total_steps
        up = (rise - 1, "initial_lr", "max_lr", "max_momentum", "base_momentum")
        if not self.three_phase:
            return [up, (self.total_steps - 1, "max_lr", "min_lr", "base_momentum", "max_momentum")]
        # 2 p n is multiplied in this order for PyTorch's last bit.
        down = (2 * self.pct_start * self.total_steps - 2, "max_lr", "initial_lr", "base_momentum", "max_momentum")
        return [up, down, (self.total_steps - 1, "initial_lr", "min_lr", "max_momentum", "max_momentum")]

    def _between(self, start: float, end: float, part: float) -> float:
        if self.anneal_strategy == "linear":
            return (end - start) * part + start
        return end + (start - end) / 2.0 * (math.cos(math.pi * part) + 1)

    def get_lr(self) -> list[float]:
        if self.last_epoch > self.total_steps:
            raise OptionError(f"OneCycleLR: step {self.last_epoch} of a cycle of total_steps={self.total_steps}; expected no call "
                              "after its end; give the number of optimizer steps of the whole training")  # fmt: skip
        phases = self._phases()
        begin = 0.0
        for phase in phases:
            if self.last_epoch <= phase[0] or phase is phases[-1]:
                break
            begin = phase[0]
        end, lr_from, lr_to, momentum_from, momentum_to = phase
        part = (self.last_epoch - begin) / (end - begin) if end != begin else 1.0
        if self.cycle_momentum:
            for group in self._groups:
                self._write_momentum(group, self._between(group[momentum_from], group[momentum_to], part))
        return [self._between(group[lr_from], group[lr_to], part) for group in self._groups]

    def _lr_at_start(self) -> list[float]:
        return self.get_lr()


class SequentialLR(LRScheduler):
    """One schedule after another: `schedulers[i + 1]` takes over at step `milestones[i]`, from its own beginning."""

    _not_saved = ("optimizer", "schedulers")

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        self.optimizer = _optimizer_of(self, optimizer)
        self.schedulers = list(schedulers)
        if not self.schedulers:
            raise OptionError("SequentialLR: schedulers is empty; expected at least one; write for example "
                              "[LinearLR(optimizer), CosineAnnealingLR(optimizer, 100)]")  # fmt: skip
        for i, schedule in enumerate(self.schedulers):
            if not isinstance(schedule, LRScheduler) or isinstance(schedule, ReduceLROnPlateau):
                raise OptionError(f"SequentialLR: schedulers[{i}] is a {type(schedule).__name__}; expected a schedule whose step() "
                                  "takes no metric; step a ReduceLROnPlateau beside this one")  # fmt: skip
            if schedule.optimizer is not optimizer:
                raise OptionError(f"SequentialLR: schedulers[{i}] ({schedule._name}) belongs to another optimizer; expected all "
                                  "to share one; make it with the optimizer given here")  # fmt: skip
        self.milestones = _milestones("SequentialLR", milestones)
        if len(self.milestones) != len(self.schedulers) - 1:
            raise OptionError(f"SequentialLR: {len(self.schedulers)} schedulers with {len(self.milestones)} milestones; expected "
                              "one milestone between each and the next; write for example milestones=[5] for two")  # fmt: skip
        self.last_epoch = last_epoch + 1
        # Each of them has set its first rates when it was made; undo that, and let the first begin alone.
        for group in self._groups:
            group["lr"] = group["initial_lr"]
        for schedule in self.schedulers:
            schedule._undo()
        self.schedulers[0]._begin()
        self._last_lr = self._current()

    def _undo(self) -> None:
        for schedule in self.schedulers:
            schedule._undo()

    def _begin(self) -> None:
        self.schedulers[0]._begin()

    def step(self) -> None:
        """Advance the schedule that is active; at a milestone, start the next one."""
        self.last_epoch += 1
        i = bisect_right(self.milestones, self.last_epoch)
        if i > 0 and self.milestones[i - 1] == self.last_epoch:
            self.schedulers[i]._restart()
        else:
            self.schedulers[i].step()
        self._last_lr = self._current()

    def state_dict(self) -> dict[str, Any]:
        """As the base class gives it, with the states of the inner schedules."""
        return {**super().state_dict(), "schedulers": [schedule.state_dict() for schedule in self.schedulers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore `state_dict`. Raises StateError for another number or other classes of schedules."""
        inner = list(state_dict.get("schedulers", ())) if isinstance(state_dict, Mapping) else []
        if len(inner) != len(self.schedulers):
            raise StateError(f"SequentialLR.load_state_dict: got {len(inner)} schedules; expected {len(self.schedulers)}; "
                             "build the same sequence as when it was saved")  # fmt: skip
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "schedulers"})
        for schedule, saved in zip(self.schedulers, inner, strict=True):
            schedule.load_state_dict(saved)


class ReduceLROnPlateau(LRScheduler):
    """The rate is multiplied by `factor` once the metric has not improved for more than `patience` steps.

    `step(metric)` wants the validation loss (mode "min") or score ("max"). Better means by more than `threshold`, of the
    best so far ("rel") or as such ("abs"). After a reduction `cooldown` steps are not judged.
    """

    needs_metrics = True

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        name = "ReduceLROnPlateau"
        self.optimizer = _optimizer_of(self, optimizer)
        self.mode = check.choice(name, "mode", mode, ("min", "max"))
        self.factor = check.number(name, "factor", factor, "a number above 0 and below 1", example=0.1)
        self.patience = check.integer(name, "patience", patience, least=0, example=10)
        self.threshold = check.number(name, "threshold", threshold, "a number of 0 or more", example=1e-4)
        self.threshold_mode = check.choice(name, "threshold_mode", threshold_mode, ("rel", "abs"))
        self.cooldown = check.integer(name, "cooldown", cooldown, least=0)
        self.eps = check.number(name, "eps", eps, "a number of 0 or more", example=1e-8)
        floors = list(min_lr) if isinstance(min_lr, list | tuple) else [min_lr] * len(self._groups)
        if len(floors) != len(self._groups):
            raise OptionError(f"{name}: min_lr has {len(floors)} values; expected one number, or one for each of the optimizer's "
                              f"{len(self._groups)} groups; write for example min_lr=0")  # fmt: skip
        self.min_lrs = [check.number(name, "min_lr", x, "a number of 0 or more", example=0) for x in floors]
        self.last_epoch = 0
        self.best = math.inf if mode == "min" else -math.inf
        self.cooldown_counter = 0
        self.num_bad_epochs = 0
        self._last_lr = self._current()

    def step(self, metrics: float | np.ndarray | Tensor) -> None:  # type: ignore[override]
        """Judge `metrics`, a number or a one-element Tensor; NaN is never an improvement."""
        current = float(check.plain(metrics))
        self.last_epoch += 1
        if self._better(current):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = self._current()

    def _better(self, current: float) -> bool:
        relative = self.threshold_mode == "rel"
        if self.mode == "min":
            return current < (self.best * (1.0 - self.threshold) if relative else self.best - self.threshold)
        return current > (self.best * (self.threshold + 1.0) if relative else self.best + self.threshold)

    def _reduce(self) -> None:
        floors = self.min_lrs + self.min_lrs[-1:] * (len(self._groups) - len(self.min_lrs))  # a group added since
        for group, floor in zip(self._groups, floors, strict=True):
            reduced = max(group["lr"] * self.factor, floor)
            if group["lr"] - reduced > self.eps:
                group["lr"] = reduced


def _optimizer_of(schedule: LRScheduler, optimizer: object) -> Optimizer:
    if isinstance(optimizer, Optimizer):
        return optimizer
    raise OptionError(f"{type(schedule).__name__}: optimizer is a {type(optimizer).__name__}; expected one of pellucid.optim; "
                      "make the optimizer first, then the schedule over it")  # fmt: skip


def _milestones(owner: str, milestones: Iterable[int]) -> list[int]:
    if isinstance(milestones, str) or not isinstance(milestones, Iterable):
        raise OptionError(
            f"{owner}: milestones is {milestones!r}; expected a list of steps; write for example milestones=[30, 60]"
        )
    given = list(milestones)
    checked = [check.integer(owner, f"milestones[{i}]", m, example=30) for i, m in enumerate(given)]
    if checked != sorted(checked):
        raise OptionError(f"{owner}: milestones is {given}; expected steps in rising order; write {sorted(checked)}")
    return checked


def _total_steps(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    if total_steps is not None:
        return check.integer("OneCycleLR", "total_steps", total_steps, example=1000)
    if epochs is None or steps_per_epoch is None:
        raise OptionError("OneCycleLR: neither total_steps nor both epochs and steps_per_epoch are given; it needs to know where "
                          "the cycle ends; write for example total_steps=epochs * len(loader)")  # fmt: skip
    return check.integer("OneCycleLR", "epochs", epochs, example=10) * check.integer(
        "OneCycleLR", "steps_per_epoch", steps_per_epoch, example=100
    )
