"""Base class of optimizers: parameter groups, state, step counting, saving and loading (floor 4).

A method (`sgd.py`, `adam.py` ...) defines the numbers that its rule reads (`hyperparameters`), the Tensors that it keeps for
each parameter (`init_state`), whether it counts steps (`counts_steps`), and the rule (`prepare`, `update`). The rule uses Tensor
operations only, so the same lines run eagerly or are recorded and compiled.

Everything that changes from step to step is a Tensor made in the constructor: the state, the step count, and each number of
a group. `group["lr"]` reads as the float that was written; a write goes through to the Tensor (`Group`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, overload

import numpy as np

from ..core.state_version import note_change, state_version
from ..core.value import outside_tracing
from ..creation import full, tensor
from ..errors import OptionError, StateError, format_shape, suggestion
from ..grad_mode import enable_grad, no_grad
from ..tensor import Tensor
from . import options as check
from .tracked import TrackedDict, TrackedList, TrackedState

# Methods that a subclass defines, under names that would no longer be called.
_FORMER_NAMES = {"coefficients": "hyperparameters", "moments": "init_state", "counts": "counts_steps"}
# Keys that schedules write into a group, and PyTorch's switches that choose an implementation and not a result.
_SCHEDULE_KEYS = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"}
_FOREIGN_KEYS = {"foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay"}
# What users write for an option that some method has -> that option. As a key that a group ignores, it would do nothing.
_OPTION_WORDS = {"lr": "lr", "learning_rate": "lr", "rate": "lr", "wd": "weight_decay", "decay": "weight_decay",
                 "l2": "weight_decay", "beta": "betas", "beta1": "betas", "beta2": "betas", "epsilon": "eps", "nesterov": "",
                 "betas": "", "momentum": "", "dampening": "", "alpha": "", "centered": "", "amsgrad": "", "lr_decay": "",
                 "weight_decay": "", "initial_accumulator_value": "", "ns_steps": "", "ns_coefficients": "", "eps": "",
                 "adjust_lr_fn": "", "maximize": ""}  # fmt: skip


class StepCounter:
    """A step count, and the parameters that have taken that many steps."""

    __slots__ = ("params", "step")

    def __init__(self, params: list[Tensor], step: float = 0.0) -> None:
        self.params = params
        self.step = tensor(np.asarray(step, np.float32))


class Group(dict[str, Any]):
    """One parameter group: PyTorch's dict of options, and the 0-d Tensors that the update rule reads.

    A write is checked, stored as the plain number, and assigned to the Tensor in `scalars`, which stays the same object: a
    compiled step reads the new value without being recorded again. Raises OptionError for a value out of range.
    """

    def __init__(self, options: Mapping[str, Any], optimizer: Optimizer) -> None:
        super().__init__(options)
        self.counters: list[StepCounter] = []
        self.scalars: dict[str, Tensor] = {}
        self.state_names: tuple[str, ...] | None = None  # of the Tensors that exist for each parameter
        self._optimizer = optimizer
        self._numbers: dict[str, float] = {}
        double = any(p.dtype == np.float64 for p in options["params"])
        self._dtype = np.dtype(np.float64 if double else np.float32)
        self.update(options)

    def __setitem__(self, option: str, value: Any) -> None:
        self.update({option: value})

    def setdefault(self, option: str, default: Any = None) -> Any:
        """The option, set to `default` first where it is missing."""
        if option not in self:
            self[option] = default
        return self[option]

    def update(self, *changes: Any, **more: Any) -> None:
        """Set options, all of them or, where one is refused, none."""
        changed = {option: _normalize_option(value) for option, value in dict(*changes, **more).items()}
        self._optimizer.check_options(changed)
        numbers = self._optimizer.hyperparameters({**self, **changed})
        if any(_changes_structure(self.get(option), value) for option, value in changed.items()):
            note_change()  # a compiled step has to check whether it still holds
        super().update(changed)
        for name, number in numbers.items():
            if name not in self.scalars:
                self.scalars[name] = tensor(np.asarray(number, self._dtype))
            elif number != self._numbers[name]:
                self.scalars[name].assign(number)
        self._numbers = numbers
        self._optimizer._create_state(self)

    def __ior__(self, changes: Any) -> Group:  # type: ignore[override,misc]
        self.update(changes)
        return self


def _changes_structure(before: Any, after: Any) -> bool:
    """Whether a new value may change which operations the rule runs, and not only their numbers."""
    plain = (int, float)
    if isinstance(before, plain) and isinstance(after, plain) and not isinstance(after, bool):
        return bool(before) != bool(after)
    return before is not after and not (isinstance(before, tuple) and isinstance(after, tuple))


def _normalize_option(value: Any) -> Any:
    """An option as the group stores it.

    One-element Tensors become numbers, JSON's `[0.9, 0.999]` becomes `(0.9, 0.999)`, a list of parameters becomes tracked.
    """
    if isinstance(value, list) and any(isinstance(item, Tensor) for item in value):
        return TrackedList(value)
    if isinstance(value, list) and value and not any(isinstance(item, Tensor | str) for item in value):
        return tuple(value)
    return check.plain(value) if isinstance(value, Tensor) else value


class Optimizer:
    """Base of all optimizers, and of your own: define `step`, or `hyperparameters`, `init_state`, `counts_steps` and `update`.

    params: an iterable of leaf Tensors, of `(name, Tensor)` pairs, or of dicts with "params" and options of their own.
    Raises OptionError where there is no parameter, one is no leaf Tensor or comes twice, or an option is out of range.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.state: defaultdict[Tensor, dict[str, Tensor]] = TrackedState(TrackedDict)
        self.param_groups: list[Group] = TrackedList()
        self._checked_version = -1  # the state version at which the groups were last compared with the state
        for group in _as_groups(type(self).__name__, params):
            self.add_param_group(group)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for old, new in _FORMER_NAMES.items():
            if old in vars(cls) and "step" not in vars(cls):
                raise OptionError(
                    f"{cls.__name__}.{old}: an optimizer's former method name; expected {new}; rename the method"
                )

    def __setattr__(self, name: str, value: Any) -> None:
        note_change()  # a compiled step has to check whether it still holds
        super().__setattr__(name, value)

    # ---- what a method defines ----

    def hyperparameters(self, options: Mapping[str, Any]) -> dict[str, float]:
        """The numbers that the rule reads, by name, from checked `options`. Raises OptionError for one out of range."""
        return {}

    def init_state(self, options: Mapping[str, Any]) -> dict[str, float]:
        """The Tensors kept for each parameter, in its shape: their names and initial value."""
        return {}

    def counts_steps(self, options: Mapping[str, Any]) -> bool:
        """Whether the rule, or PyTorch's saved state, has a step count."""
        return False

    def prepare(self, group: Group, step: Tensor) -> Any:
        """What is computed once for all parameters of `group` that share the count `step` (0-d float32, from 1 on)."""
        return group.scalars

    def update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], shared: Any, group: Group) -> None:
        """Update one parameter `p` by its gradient `g`, both of one shape. Write by `assign` only."""
        raise NotImplementedError(f"{type(self).__name__} defines neither step() nor update()")

    # ---- a step ----

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], Any]) -> Any: ...
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
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
        _, params = _parameters(owner, {"params": list(group["params"])}, known=[])
        steps = {p: self.state[p].get("step") if self.counts_steps(group) else step_of.get(p) for p in params}
        by_step: dict[float, list[Tensor]] = {}
        for p, step in steps.items():
            by_step.setdefault(0.0 if step is None else float(check.plain(step)), []).append(p)
        group.counters = [StepCounter(together, step) for step, together in by_step.items()]
        for counter in group.counters if self.counts_steps(group) else ():
            self._publish_steps(counter)
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
        self._publish_steps(rest)

    def _publish_steps(self, counter: StepCounter) -> None:
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

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with options that override the defaults, for example when a frozen layer is to train too.

        Raises OptionError as the constructor does.
        """
        note_change()
        owner = type(self).__name__
        names, params = _parameters(owner, param_group, known=self.state_order())
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

    def state_dict(self) -> dict[str, Any]:
        """`{"state": {i: {name: Tensor}}, "param_groups": [{..., "params": [i, ...]}]}`, PyTorch's layout.

        A snapshot: later steps do not change it.
        """
        number = {p: i for i, p in enumerate(self.state_order())}
        state = {
            number[p]: {k: t.detach().clone() for k, t in tensors.items()}
            for p, tensors in self.state.items()
            if tensors
        }
        groups = [{**group, "params": [number[p] for p in group["params"]]} for group in self.param_groups]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore `state_dict`, of this class or of PyTorch's for the same method, with Tensors or arrays in it.

        Raises StateError, before anything is changed, where it belongs to other parameters or another method.
        """
        groups = self._matching_groups(state_dict)
        loaded: dict[Tensor, Mapping[str, Any]] = {}
        for group, saved in zip(self.param_groups, groups, strict=True):
            options = {k: _normalize_option(v) for k, v in saved.items() if k not in _FOREIGN_KEYS and k != "params"}
            self.check_options(options)
            self.hyperparameters({**group, **options})
            for i, p in zip(saved["params"], group["params"], strict=True):
                saved_state = state_dict["state"].get(i, state_dict["state"].get(str(i))) or {}
                loaded[p] = self._matching_state(i, p, saved_state, {**group, **options})
        note_change()  # parameters may share other step counts from now on
        for group, saved in zip(self.param_groups, groups, strict=True):
            group.update({k: v for k, v in saved.items() if k not in _FOREIGN_KEYS and k != "params"})
            self._restore(group, loaded)

    def _matching_groups(self, state_dict: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """The saved groups; raises StateError where they do not fit the groups of this optimizer."""
        owner = type(self).__name__
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
            raise StateError(
                f"{owner}.load_state_dict: got {_summary(state_dict)}; expected a dict with 'state' and 'param_groups', "
                "as optimizer.state_dict() gives it (a network's weights go to model.load_state_dict)"
            )
        sizes = [len(group["params"]) for group in state_dict["param_groups"]]
        expected = [len(group["params"]) for group in self.param_groups]
        if sizes != expected:
            raise StateError(
                f"{owner}.load_state_dict: the saved groups hold {sizes} parameters, this optimizer's hold {expected}; "
                "build the optimizer over the same network, with the same groups, as when it was saved"
            )
        known = {str(i) for group in state_dict["param_groups"] for i in group["params"]}
        odd = [i for i in state_dict["state"] if str(i) not in known]
        if odd:
            raise StateError(
                f"{owner}.load_state_dict: the state has parameter {odd[0]!r}, which is in no group; expected the numbers in "
                "'params' of the groups; load what optimizer.state_dict() gave"
            )
        return list(state_dict["param_groups"])

    def _matching_state(
        self, i: Any, p: Tensor, saved: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The saved Tensors of parameter `i`; empty where it had not been updated yet. StateError where they do not fit."""
        owner = type(self).__name__
        saved = {name: value for name, value in saved.items() if value is not None}
        initial = self.init_state(options)
        if saved and (initial.keys() - saved.keys() or saved.keys() - initial.keys() - {"step"}):
            raise StateError(
                f"{owner}.load_state_dict: parameter {i} was saved with {sorted(saved)}; {owner} with these options keeps "
                f"{sorted([*initial, 'step'] if self.counts_steps(options) else initial)}; load it into the method that saved it"
            )
        for name in initial.keys() & saved.keys():
            if np.shape(saved[name]) != p.shape:
                raise StateError(
                    f"{owner}.load_state_dict: {name} of parameter {i} is {format_shape(np.shape(saved[name]))}, the parameter "
                    f"is {format_shape(p.shape)}; build the same network as when it was saved"
                )
        return saved

    def _restore(self, group: Group, loaded: Mapping[Tensor, Mapping[str, Any]]) -> None:
        """Assign the saved numbers to the existing Tensors, and group the parameters by their step counts."""
        by_step: dict[float, list[Tensor]] = {}
        for p in group["params"]:
            for name, start in self.init_state(group).items():
                self.state[p][name].assign(loaded[p].get(name, full(p.shape, start, dtype=p.dtype)))
            # PyTorch's SGD saves no count, but a parameter with saved state has taken a step.
            step = float(check.plain(loaded[p].get("step", 1.0 if loaded[p] else 0.0)))
            by_step.setdefault(step, []).append(p)
        reusable = group.counters
        group.counters = []
        for step, params in by_step.items():
            counter = reusable.pop(0) if reusable else StepCounter([])
            counter.params = params
            counter.step.assign(step)
            group.counters.append(counter)
            if self.counts_steps(group):
                self._publish_steps(counter)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [
                f"    {option}: {group[option]}" for option in sorted(group) if option not in ("params", "param_names")
            ]
        return "\n".join([*lines, ")"])


_ONE = tensor(np.asarray(1.0, np.float32))


def _as_groups(owner: str, params: Any) -> list[dict[str, Any]]:
    """The constructor's `params` as a list of groups; raises OptionError for anything else."""
    if hasattr(params, "parameters") and callable(params.parameters):
        raise OptionError(f"{owner}: params is the network {type(params).__name__}; expected its parameters; "
                          f"write {owner}(model.parameters())")  # fmt: skip
    if isinstance(params, Tensor):
        raise OptionError(f"{owner}: params is one Tensor {format_shape(params.shape)}; expected a list of them; "
                          f"write {owner}([x])")  # fmt: skip
    if isinstance(params, Mapping | str) or not isinstance(params, Iterable):
        raise OptionError(f"{owner}: params is {_summary(params)}; expected Tensors or groups in a list; "
                          f"write {owner}(model.parameters()) or {owner}([{{'params': ...}}])")  # fmt: skip
    items = list(params)
    if not items:
        raise OptionError(f"{owner}: params is empty; expected at least one Tensor to train; a generator such as "
                          "model.parameters() can be read only once, and a network without layers has none")  # fmt: skip
    return items if isinstance(items[0], dict) else [{"params": items}]


def _parameters(owner: str, group: Any, known: list[Tensor]) -> tuple[list[str], list[Tensor]]:
    """The names (or none) and the leaf Tensors of a group; raises OptionError for what is none, and for one that is `known`."""
    if not isinstance(group, dict) or "params" not in group:
        raise OptionError(f"{owner}: a parameter group is {_summary(group)}; expected a dict with 'params'; "
                          "write {'params': layer.parameters(), 'lr': 1e-4}")  # fmt: skip
    given = group["params"]
    if isinstance(given, set):
        raise OptionError(f"{owner}: a group's params are a set, whose order changes from run to run; expected a list")
    items: list[Any] = [given] if isinstance(given, Tensor) else list(_as_groups(owner, given)[0]["params"])
    pairs: list[tuple[str, Any]] = [
        item if isinstance(item, tuple) and len(item) == 2 else ("", item) for item in items
    ]
    seen = {id(p) for p in known}
    for i, (name, p) in enumerate(pairs):
        what = f"parameter {i}{f' ({name})' if name else ''}"
        if not isinstance(p, Tensor):
            raise OptionError(f"{owner}: {what} is {_summary(p)}; expected a Tensor; pass model.parameters(), or "
                              "pellucid.tensor(x, requires_grad=True)")  # fmt: skip
        if p.node is not None:
            raise OptionError(f"{owner}: {what} {format_shape(p.shape)} is the result of {p.node.op.name}; expected a leaf, which "
                              "keeps its gradient; pass the Tensor it was computed from, or x.detach().requires_grad_()")  # fmt: skip
        if id(p) in seen:
            raise OptionError(f"{owner}: {what} {format_shape(p.shape)} comes twice and would be updated twice; expected each "
                              "Tensor in one group; take it out of the other")  # fmt: skip
        seen.add(id(p))
    return [name for name, _ in pairs if name], [p for _, p in pairs]


def _summary(value: Any) -> str:
    """`value` in an error message: short, and never pages of numbers."""
    text = repr(value)
    return f"{text} ({type(value).__name__})" if len(text) <= 40 else f"a {type(value).__name__}"
