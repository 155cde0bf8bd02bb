"""Base class of optimizers: parameter groups, state, step counting, saving and loading (floor 4).

A method (`sgd.py`, `adam.py` ...) defines the numbers that its rule reads (`hyperparameters`), the Tensors that it keeps for
each parameter (`init_state`), whether it counts steps (`counts_steps`), and the rule (`prepare`, `update`). The rule uses Tensor
operations only, so the same lines run eagerly or are recorded and compiled.

Everything that changes from step to step is a Tensor made in the constructor: the state, the step count, and each number of
a group. `group["lr"]` reads as the float that was written; a write goes through to the Tensor (`param_groups.py`).
How the state is saved and loaded stands in `saved_state.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar, overload

import numpy as np

from ..core.state_version import note_change, state_version
from ..core.value import outside_tracing
from ..creation import full, tensor
from ..errors import OptionError, suggestion
from ..grad_mode import enable_grad, no_grad
from ..tensor import Tensor
from . import options as check
from .options import Options
from .param_groups import Group, ParamGroup, ParamsT, StepCounter, as_groups, parameters_of
from .saved_state import SavedOptimizer, load_state, save_state
from .tracked import TrackedDict, TrackedList, TrackedState

Loss = TypeVar("Loss")

# Methods that a subclass defines, under names that would no longer be called.
_FORMER_NAMES = {"coefficients": "hyperparameters", "moments": "init_state", "counts": "counts_steps"}
# Keys that schedules write into a group.
_SCHEDULE_KEYS = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"}
# What users write for an option that some method has -> that option. As a key that a group ignores, it would do nothing.
_OPTION_WORDS = {"lr": "lr", "learning_rate": "lr", "rate": "lr", "wd": "weight_decay", "decay": "weight_decay",
                 "l2": "weight_decay", "beta": "betas", "beta1": "betas", "beta2": "betas", "epsilon": "eps", "nesterov": "",
                 "betas": "", "momentum": "", "dampening": "", "alpha": "", "centered": "", "amsgrad": "", "lr_decay": "",
                 "weight_decay": "", "initial_accumulator_value": "", "ns_steps": "", "ns_coefficients": "", "eps": "",
                 "adjust_lr_fn": "", "maximize": ""}  # fmt: skip


class Optimizer:
    """Base of all optimizers, and of your own: define `step`, or `hyperparameters`, `init_state`, `counts_steps` and `update`.

    params: an iterable of leaf Tensors, of `(name, Tensor)` pairs, or of dicts with "params" and options of their own.
    Raises OptionError where there is no parameter, one is no leaf Tensor or comes twice, or an option is out of range.
    """

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.state: defaultdict[Tensor, dict[str, Tensor]] = TrackedState(TrackedDict)
        self.param_groups: list[Group] = TrackedList()
        self._checked_version = -1  # the state version at which the groups were last compared with the state
        for group in as_groups(type(self).__name__, params):
            self.add_param_group(group)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for old, new in _FORMER_NAMES.items():
            if old in vars(cls) and "step" not in vars(cls):
                raise OptionError(
                    f"{cls.__name__}.{old}: an optimizer's former method name; expected {new}; rename the method"
                )

    def __setattr__(self, name: str, value: object) -> None:
        note_change()  # a compiled step has to check whether it still holds
        super().__setattr__(name, value)

    # ---- what a method defines ----

    def hyperparameters(self, options: Options) -> dict[str, float]:
        """The numbers that the rule reads, by name, from checked `options`. Raises OptionError for one out of range."""
        return {}

    def init_state(self, options: Options) -> dict[str, float]:
        """The Tensors kept for each parameter, in its shape: their names and initial value."""
        return {}

    def counts_steps(self, options: Options) -> bool:
        """Whether the rule, or PyTorch's saved state, has a step count."""
        return False

    def prepare(self, group: Group, step: Tensor) -> dict[str, Tensor]:
        """What is computed once for all parameters of `group` that share the count `step` (0-d float32, from 1 on)."""
        return group.scalars

    def update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], shared: dict[str, Tensor], group: Group) -> None:
        """Update one parameter `p` by its gradient `g`, both of one shape. Write by `assign` only."""
        raise NotImplementedError(f"{type(self).__name__} defines neither step() nor update()")

    # ---- a step ----

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...
    def step(self, closure: Callable[[], Loss] | None = None) -> Loss | None:
        """Update every parameter that has a gradient; the others keep their numbers and state.

        closure: computes the loss again, with gradients; `step` returns its value.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            if self._checked_version != state_version[0]:
                self._follow_edits()
            for group in self.param_groups:
                ascend = group.get("maximize", False)
                for counter, ready in self._advance_counters(group):
                    shared = self.prepare(group, counter.step)
                    for p in ready:
                        g = p.grad
                        self.update(p, -g if ascend else g, self.state[p], shared, group)
        return loss

    def _follow_edits(self) -> None:
        """Follow edits by hand of the lists of parameters and of the state."""
        for group in self.param_groups:
            if not self._is_consistent(group):
                outside_tracing(partial(self._rebuild_counters, group), at_once=True)
        object.__setattr__(self, "_checked_version", state_version[0])  # without counting as a change

    def _is_consistent(self, group: Group) -> bool:
        """Whether the parameters of the list are those with a counter, and their state is complete and shows that counter."""
        counter_of = {p: counter for counter in group.counters for p in counter.params}
        listed, counting, initial = group["params"], self.counts_steps(group), self.init_state(group)
        if len(counter_of) != len(listed) or not all(p in counter_of for p in listed):
            return False
        if not counting and not initial:
            return True
        return all(
            initial.keys() <= self.state[p].keys() and (not counting or self.state[p].get("step") is counter_of[p].step)
            for p in listed
        )

    def _rebuild_counters(self, group: Group) -> None:
        """Make the counters anew from the list of parameters and their state, and create missing state."""
        note_change()
        owner, step_of = type(self).__name__, {p: counter.step for counter in group.counters for p in counter.params}
        _, params = parameters_of(owner, {"params": list(group["params"])}, known=[])
        steps = {p: self.state[p].get("step") if self.counts_steps(group) else step_of.get(p) for p in params}
        by_step: dict[float, list[Tensor]] = {}
        for p, step in steps.items():
            by_step.setdefault(0.0 if step is None else float(check.plain(step)), []).append(p)
        group.counters = [StepCounter(together, step) for step, together in by_step.items()]
        for counter in group.counters if self.counts_steps(group) else ():
            self.publish_steps(counter)
        group.state_names = None
        self._create_state(group)

    def _advance_counters(self, group: Group) -> Iterator[tuple[StepCounter, list[Tensor]]]:
        """The parameters with a gradient, by the step count they share, which is advanced here.

        Parameters with the same number of updates share a counter, so bias corrections are computed once for them. Those
        without a gradient for the first time get a separate counter; a step that is being traced is repeated with it.
        """
        counting = self.counts_steps(group)
        for counter in tuple(group.counters):
            ready = [p for p in counter.params if p.has_grad()]
            if not ready:
                continue
            if counting:
                if len(ready) < len(counter.params):
                    outside_tracing(partial(self._split, group, counter, ready))
                counter.step.assign(counter.step + _ONE)
            yield counter, ready

    def _split(self, group: Group, counter: StepCounter, ready: list[Tensor]) -> None:
        """Leave `ready` on `counter`, and give its other parameters another one with the same count."""
        note_change()  # a compiled step that advances them together is no longer right
        stays = set(ready)
        rest = StepCounter([p for p in counter.params if p not in stays], counter.step.item())
        counter.params = ready
        group.counters.append(rest)
        self.publish_steps(rest)

    def publish_steps(self, counter: StepCounter) -> None:
        """Show the count in the state of each parameter, as PyTorch does."""
        for p in counter.params:
            self.state[p]["step"] = counter.step

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients of all parameters to None; with `set_to_none=False`, fill them with zeros."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                else:
                    p.fill_grad_with_zeros()

    # ---- groups ----

    def check_options(self, options: Iterable[str]) -> None:
        """Raise OptionError for a key that looks like an option and is not one of this method: `Lr`, `wd`, `momentum` for Adam.

        Other keys are the user's, as in PyTorch.
        """
        owner = type(self).__name__
        for option in options:
            if option in self.defaults or option in _SCHEDULE_KEYS or option in ("params", "param_names"):
                continue
            word = str(option).lower()
            meant = _OPTION_WORDS.get(word)
            hint = f" Did you mean {meant!r}?" if meant in self.defaults else suggestion(word, self.defaults)
            if hint or (meant is not None and self.defaults):
                raise OptionError(
                    f"{owner}: a parameter group has the option {option!r}; {owner} knows {', '.join(self.defaults)}.{hint}"
                )

    def add_param_group(self, param_group: ParamGroup) -> None:
        """Add parameters, with options that override the defaults, for example when a frozen layer is to train too.

        Raises OptionError as the constructor does.
        """
        note_change()
        owner = type(self).__name__
        names, params = parameters_of(owner, param_group, known=self.state_order())
        options = {**self.defaults, **param_group, "params": TrackedList(params)}
        if names:
            options["param_names"] = names
        group = Group(options, self)
        trained = [p for p in params if p.requires_grad]
        frozen = [p for p in params if not p.requires_grad]
        group.counters = [StepCounter(some) for some in (trained, frozen) if some]
        self.param_groups.append(group)
        self._create_state(group)

    def _create_state(self, group: Group) -> None:
        """Create the Tensors that `group` keeps for each parameter, where they are missing."""
        initial = self.init_state(group)
        counting = self.counts_steps(group)
        names = (*initial, "step") if counting else tuple(initial)
        if names == group.state_names or not group.counters:
            return
        if counting and group.state_names and "step" not in group.state_names:
            self._count_updated(group)
        group.state_names = names
        for counter in group.counters:
            for p in counter.params:
                state = self.state[p] if initial or counting else {}
                if counting and "step" not in state:
                    state["step"] = counter.step
                for name, start in initial.items():
                    if name not in state:
                        state[name] = full(p.shape, start, dtype=p.dtype)

    def _count_updated(self, group: Group) -> None:
        """Start counting in a method that has not counted so far: parameters whose state is not 0 have taken a step."""
        for counter in tuple(group.counters):
            updated = [p for p in counter.params if any(t.array.any() for t in self.state[p].values())]
            if updated:
                if len(updated) < len(counter.params):
                    self._split(group, counter, updated)
                counter.step.assign(1.0)

    def state_order(self) -> list[Tensor]:
        """All parameters, in the order of their numbers in `state_dict`."""
        return [p for group in self.param_groups for p in group["params"]]

    # ---- saving and loading ----

    def state_dict(self) -> SavedOptimizer:
        """`{"state": {i: {name: Tensor}}, "param_groups": [{..., "params": [i, ...]}]}`, PyTorch's layout.

        A snapshot: later steps do not change it.
        """
        return save_state(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore `state_dict`, of this class or of PyTorch's for the same method, with Tensors or arrays in it.

        Raises StateError, before anything is changed, where it belongs to other parameters or another method.
        """
        load_state(self, state_dict)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [
                f"    {option}: {group[option]}" for option in sorted(group) if option not in ("params", "param_names")
            ]
        return "\n".join([*lines, ")"])


_ONE = tensor(np.asarray(1.0, np.float32))
