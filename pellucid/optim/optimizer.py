"""What every optimizer shares: parameter groups, state, step counting, saving and loading (floor 4).

A method (`sgd.py`, `adam.py` ...) says four things of itself: the numbers its rule reads (`coefficients`), the Tensors it
keeps for each parameter (`moments`), whether it counts steps (`counts`), and the rule (`prepare`, `update`), in Tensor
operations only, so that the same lines run as they come or are recorded and compiled.

All that changes from step to step is a Tensor made in the constructor: the moments, the step count, and each number of a
group. `group["lr"]` still reads as the float that was written; a write goes through to the Tensor (`Group`).
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
from .noted import NotedDict, NotedList, NotedState

# Keys that schedules write into a group, and PyTorch's switches that choose an implementation and not a result.
_SCHEDULE_KEYS = {"initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum"}
_FOREIGN_KEYS = {"foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay"}
# Words for options that some method has; a group's own key of that name would be taken for one, and do nothing.
_OPTION_WORDS = {"lr": "lr", "learning_rate": "lr", "rate": "lr", "wd": "weight_decay", "decay": "weight_decay",
                 "l2": "weight_decay", "beta": "betas", "beta1": "betas", "beta2": "betas", "epsilon": "eps", "nesterov": "",
                 "betas": "", "momentum": "", "dampening": "", "alpha": "", "centered": "", "amsgrad": "", "lr_decay": "",
                 "weight_decay": "", "initial_accumulator_value": "", "ns_steps": "", "ns_coefficients": "", "eps": "",
                 "adjust_lr_fn": "", "maximize": ""}  # fmt: skip


class Clock:
    """A step count, and the parameters that have taken exactly that many steps."""

    __slots__ = ("params", "step")

    def __init__(self, params: list[Tensor], step: float = 0.0) -> None:
        self.params = params
        self.step = tensor(np.asarray(step, np.float32))


class Group(dict[str, Any]):
    """One parameter group: PyTorch's dict of options, and the 0-d Tensors that the update rule reads.

    A write is checked, kept as the plain number, and carried to `scalars`, whose Tensors stay the same objects: a compiled
    step sees the new value without being traced again.
    """

    def __init__(self, options: Mapping[str, Any], optimizer: Optimizer) -> None:
        super().__init__(options)
        self.clocks: list[Clock] = []
        self.scalars: dict[str, Tensor] = {}
        self.kept: tuple[str, ...] | None = None  # the names of the moments that are there
        self._optimizer = optimizer
        self._numbers: dict[str, float] = {}
        double = any(p.dtype == np.float64 for p in options["params"])
        self._dtype = np.dtype(np.float64 if double else np.float32)
        self.update(options)

    def __setitem__(self, option: str, value: Any) -> None:
        self.update({option: value})

    def setdefault(self, option: str, default: Any = None) -> Any:
        if option not in self:
            self[option] = default
        return self[option]

    def update(self, *changes: Any, **more: Any) -> None:
        """Take over new options, all of them or, where one is refused, none."""
        changed = {option: _tidy(value) for option, value in dict(*changes, **more).items()}
        self._optimizer.check_options(changed)
        numbers = self._optimizer.coefficients({**self, **changed})
        if any(_decides(self.get(option), value) for option, value in changed.items()):
            note_change()  # a compiled step looks again
        super().update(changed)
        for name, number in numbers.items():
            if name not in self.scalars:
                self.scalars[name] = tensor(np.asarray(number, self._dtype))
            elif number != self._numbers[name]:
                self.scalars[name].assign(number)
        self._numbers = numbers
        self._optimizer._create_moments(self)

    def __ior__(self, changes: Any) -> Group:  # type: ignore[override,misc]
        self.update(changes)
        return self


def _decides(before: Any, after: Any) -> bool:
    """Whether a new value of an option may change what the rule computes, and not only with which numbers."""
    plain = (int, float)
    if isinstance(before, plain) and isinstance(after, plain) and not isinstance(after, bool):
        return bool(before) != bool(after)
    return before is not after and not (isinstance(before, tuple) and isinstance(after, tuple))


def _tidy(value: Any) -> Any:
    """An option as the group keeps it: plain numbers for one-element Tensors, `(0.9, 0.999)` for JSON's `[0.9, 0.999]`, and a
    list of parameters that tells of a change."""
    if isinstance(value, list) and any(isinstance(item, Tensor) for item in value):
        return NotedList(value)
    if isinstance(value, list) and value and not any(isinstance(item, Tensor | str) for item in value):
        return tuple(value)
    return check.plain(value) if isinstance(value, Tensor) else value


class Optimizer:
    """Base of all optimizers, and of your own: give it the parameters and the default options, and define `step`, or the
    four methods below it.

    params: an iterable of leaf Tensors, of `(name, Tensor)` pairs, or of dicts with "params" and options of their own.
    Raises OptionError where there is no parameter, one is no leaf Tensor or comes twice, or an option is out of range.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        self.defaults = dict(defaults)
        self.state: defaultdict[Tensor, dict[str, Tensor]] = NotedState(NotedDict)
        self.param_groups: list[Group] = NotedList()
        self._looked = -1  # the count of changes at which the groups were last compared with the state
        for group in _as_groups(type(self).__name__, params):
            self.add_param_group(group)

    def __setattr__(self, name: str, value: Any) -> None:
        note_change()  # compiled steps look again
        super().__setattr__(name, value)

    # ---- what a method says of itself ----

    def coefficients(self, options: Mapping[str, Any]) -> dict[str, float]:
        """Check `options` and give the numbers that the rule reads, by the names it reads them under."""
        return {}

    def moments(self, options: Mapping[str, Any]) -> dict[str, float]:
        """The Tensors kept for each parameter, in its shape: their names and the value they start from."""
        return {}

    def counts(self, options: Mapping[str, Any]) -> bool:
        """Whether the rule, or PyTorch's state, has a step count."""
        return False

    def prepare(self, group: Group, step: Tensor) -> Any:
        """What the parameters of `group` share in this step, the `step`-th (0-d float32, from 1 on)."""
        return group.scalars

    def update(self, p: Tensor, g: Tensor, state: dict[str, Tensor], shared: Any, group: Group) -> None:
        """Move one parameter `p` along its gradient `g`, both of one shape; write by `assign` only."""
        raise NotImplementedError(f"{type(self).__name__} defines neither step() nor update()")

    # ---- a step ----

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], Any]) -> Any: ...
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; those without are left alone, and so are their moments.

        closure: computes the loss again, with gradients; its value is given back.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        with no_grad():
            if self._looked != state_version[0]:
                self._take_over_changes()
            for group in self.param_groups:
                ascend = group.get("maximize", False)
                for clock, ready in self._due(group):
                    shared = self.prepare(group, clock.step)
                    for p in ready:
                        g = p.grad
                        self.update(p, -g if ascend else g, self.state[p], shared, group)
        return loss

    def _take_over_changes(self) -> None:
        """Follow what was done by hand to the lists of parameters and to the state."""
        for group in self.param_groups:
            if not self._is_in_line(group):
                outside_tracing(partial(self._bring_into_line, group), at_once=True)
        object.__setattr__(self, "_looked", state_version[0])  # is no change itself

    def _is_in_line(self, group: Group) -> bool:
        """Whether each parameter of the list, and no other, has a step count and moments that are those of its state."""
        clocks = {p: clock for clock in group.clocks for p in clock.params}
        listed, counting, moments = group["params"], self.counts(group), self.moments(group)
        if len(clocks) != len(listed) or not all(p in clocks for p in listed):
            return False
        if not counting and not moments:
            return True
        return all(
            moments.keys() <= self.state[p].keys() and (not counting or self.state[p].get("step") is clocks[p].step)
            for p in listed
        )

    def _bring_into_line(self, group: Group) -> None:
        note_change()
        owner, kept = type(self).__name__, {p: clock.step for clock in group.clocks for p in clock.params}
        _, params = _parameters(owner, {"params": list(group["params"])}, known=[])
        steps = {p: self.state[p].get("step") if self.counts(group) else kept.get(p) for p in params}
        by_step: dict[float, list[Tensor]] = {}
        for p, step in steps.items():
            by_step.setdefault(0.0 if step is None else float(check.plain(step)), []).append(p)
        group.clocks = [Clock(together, step) for step, together in by_step.items()]
        for clock in group.clocks if self.counts(group) else ():
            self._show_steps(clock)
        group.kept = None
        self._create_moments(group)

    def _due(self, group: Group) -> Iterator[tuple[Clock, list[Tensor]]]:
        """The parameters with a gradient, by the step count they share, which is advanced here.

        One count serves all parameters that have moved together, so the bias corrections are computed once for them. Those
        left out for the first time get a clock of their own; a step that is being traced begins anew with it.
        """
        counting = self.counts(group)
        for clock in tuple(group.clocks):
            ready = [p for p in clock.params if p.has_grad()]
            if not ready:
                continue
            if counting:
                if len(ready) < len(clock.params):
                    outside_tracing(partial(self._split, group, clock, ready))
                clock.step.assign(clock.step + _ONE)
            yield clock, ready

    def _split(self, group: Group, clock: Clock, ready: list[Tensor]) -> None:
        """Leave `ready` on `clock`, and give the rest of its parameters another, which shows the same count now."""
        note_change()  # a compiled step that advances them together is no longer right
        stays = set(ready)
        late = Clock([p for p in clock.params if p not in stays], clock.step.item())
        clock.params = ready
        group.clocks.append(late)
        self._show_steps(late)

    def _show_steps(self, clock: Clock) -> None:
        for p in clock.params:
            self.state[p]["step"] = clock.step

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters (or fill them with zeros, with `set_to_none=False`)."""
        for group in self.param_groups:
            for p in group["params"]:
                if set_to_none:
                    p.grad = None
                else:
                    p.fill_grad_with_zeros()

    # ---- groups ----

    def check_options(self, options: Iterable[str]) -> None:
        """Raise OptionError for a key that is meant as an option and is none of this method's: `Lr`, `wd`, `momentum` for
        Adam. Other keys are the user's own, as in PyTorch."""
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
        """Add parameters, with options that overrule the defaults, for example when a frozen layer is to train too."""
        note_change()
        owner = type(self).__name__
        names, params = _parameters(owner, param_group, known=self.state_order())
        options = {**self.defaults, **param_group, "params": NotedList(params)}
        if names:
            options["param_names"] = names
        group = Group(options, self)
        trained = [p for p in params if p.requires_grad]
        frozen = [p for p in params if not p.requires_grad]
        group.clocks = [Clock(part) for part in (trained, frozen) if part]
        self.param_groups.append(group)
        self._create_moments(group)

    def _create_moments(self, group: Group) -> None:
        """Make the Tensors that `group` keeps for each parameter, where they are not there yet."""
        wanted = self.moments(group)
        counting = self.counts(group)
        names = (*wanted, "step") if counting else tuple(wanted)
        if names == group.kept or not group.clocks:
            return
        if counting and group.kept and "step" not in group.kept:
            self._count_the_moved(group)
        group.kept = names
        for clock in group.clocks:
            for p in clock.params:
                state = self.state[p] if wanted or counting else {}
                if counting and "step" not in state:
                    state["step"] = clock.step
                for name, start in wanted.items():
                    if name not in state:
                        state[name] = full(p.shape, start, dtype=p.dtype)

    def _count_the_moved(self, group: Group) -> None:
        """Begin to count in a method that has not until now: what has left moments has taken a step."""
        for clock in tuple(group.clocks):
            moved = [p for p in clock.params if any(t.array.any() for t in self.state[p].values())]
            if moved:
                if len(moved) < len(clock.params):
                    self._split(group, clock, moved)
                clock.step.assign(1.0)

    def state_order(self) -> list[Tensor]:
        """All parameters, in the order in which `state_dict` numbers them."""
        return [p for group in self.param_groups for p in group["params"]]

    # ---- saving and loading ----

    def state_dict(self) -> dict[str, Any]:
        """`{"state": {i: {name: Tensor}}, "param_groups": [{..., "params": [i, ...]}]}`, PyTorch's layout.

        A snapshot: later steps do not change it.
        """
        number = {p: i for i, p in enumerate(self.state_order())}
        state = {number[p]: {k: t.detach().clone() for k, t in kept.items()} for p, kept in self.state.items() if kept}
        groups = [{**group, "params": [number[p] for p in group["params"]]} for group in self.param_groups]
        return {"state": dict(sorted(state.items())), "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from `state_dict`, one of this class or PyTorch's for the same method, with Tensors or arrays in it.

        Raises StateError, before anything is changed, where it belongs to other parameters or another method.
        """
        groups = self._matching_groups(state_dict)
        kept: dict[Tensor, Mapping[str, Any]] = {}
        for group, saved in zip(self.param_groups, groups, strict=True):
            options = {k: _tidy(v) for k, v in saved.items() if k not in _FOREIGN_KEYS and k != "params"}
            self.check_options(options)
            self.coefficients({**group, **options})
            for i, p in zip(saved["params"], group["params"], strict=True):
                found = state_dict["state"].get(i, state_dict["state"].get(str(i))) or {}
                kept[p] = self._matching_state(i, p, found, {**group, **options})
        note_change()  # which parameters share a step count may be another matter now
        for group, saved in zip(self.param_groups, groups, strict=True):
            group.update({k: v for k, v in saved.items() if k not in _FOREIGN_KEYS and k != "params"})
            self._restore(group, kept)

    def _matching_groups(self, state_dict: Mapping[str, Any]) -> list[Mapping[str, Any]]:
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
        self, i: Any, p: Tensor, found: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """The saved Tensors of parameter `i`, or nothing where it had not been stepped yet."""
        owner = type(self).__name__
        found = {name: value for name, value in found.items() if value is not None}
        wanted = self.moments(options)
        if found and (wanted.keys() - found.keys() or found.keys() - wanted.keys() - {"step"}):
            raise StateError(
                f"{owner}.load_state_dict: parameter {i} was saved with {sorted(found)}; {owner} with these options keeps "
                f"{sorted([*wanted, 'step'] if self.counts(options) else wanted)}; load it into the method that saved it"
            )
        for name in wanted.keys() & found.keys():
            if np.shape(found[name]) != p.shape:
                raise StateError(
                    f"{owner}.load_state_dict: {name} of parameter {i} is {format_shape(np.shape(found[name]))}, the parameter "
                    f"is {format_shape(p.shape)}; build the same network as when it was saved"
                )
        return found

    def _restore(self, group: Group, kept: Mapping[Tensor, Mapping[str, Any]]) -> None:
        """Write the saved numbers into the Tensors that are there, and sort the parameters by their step counts."""
        by_step: dict[float, list[Tensor]] = {}
        for p in group["params"]:
            for name, start in self.moments(group).items():
                self.state[p][name].assign(kept[p].get(name, full(p.shape, start, dtype=p.dtype)))
            # PyTorch's SGD saves no count, but whatever it saved has taken a step.
            step = float(check.plain(kept[p].get("step", 1.0 if kept[p] else 0.0)))
            by_step.setdefault(step, []).append(p)
        spare = group.clocks
        group.clocks = []
        for step, params in by_step.items():
            clock = spare.pop(0) if spare else Clock([])
            clock.params = params
            clock.step.assign(step)
            group.clocks.append(clock)
            if self.counts(group):
                self._show_steps(clock)

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
    """What the constructor was given as a list of groups."""
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
    """The names (or none) and the leaf Tensors of a group."""
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
