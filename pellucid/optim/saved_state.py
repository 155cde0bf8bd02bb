"""An optimizer's state as a dict, and back: PyTorch's layout, checked before anything is changed (floor 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ..core.state_version import note_change
from ..creation import full
from ..errors import StateError, format_shape
from ..tensor import Tensor
from . import options as check
from .options import Options
from .param_groups import Group, ParamGroup, StepCounter, normalize_option, summary

if TYPE_CHECKING:
    from ..core.value import TensorLike
    from .optimizer import Optimizer

# What one parameter has in a saved state, by name: Tensors or arrays, and "step".
SavedParameter = Mapping[str, "TensorLike"]

# Switches of PyTorch's that choose an implementation and not a result.
_FOREIGN_KEYS = {"foreach", "fused", "capturable", "differentiable", "decoupled_weight_decay"}


class SavedOptimizer(TypedDict):
    """What `state_dict` gives: Tensors by the number of their parameter, and groups with those numbers for parameters."""

    state: dict[int, dict[str, Tensor]]
    param_groups: list[ParamGroup]


def save_state(optimizer: Optimizer) -> SavedOptimizer:
    """A snapshot of the state and the groups."""
    number = {p: i for i, p in enumerate(optimizer.state_order())}
    state = {
        number[p]: {k: t.detach().clone() for k, t in tensors.items()}
        for p, tensors in optimizer.state.items()
        if tensors
    }
    groups = [{**group, "params": [number[p] for p in group["params"]]} for group in optimizer.param_groups]
    return {"state": dict(sorted(state.items())), "param_groups": groups}


def load_state(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> None:
    """Restore `state_dict`. Raises StateError, before anything is changed, where it does not fit."""
    groups = _matching_groups(optimizer, state_dict)
    loaded: dict[Tensor, SavedParameter] = {}
    for group, saved in zip(optimizer.param_groups, groups, strict=True):
        options = {k: normalize_option(v) for k, v in _options(saved).items()}
        optimizer.check_options(options)
        optimizer.hyperparameters({**group, **options})
        for i, p in zip(saved["params"], group["params"], strict=True):
            saved_state = state_dict["state"].get(i, state_dict["state"].get(str(i))) or {}
            loaded[p] = _matching_state(optimizer, i, p, saved_state, {**group, **options})
    note_change()  # parameters may share other step counts from now on
    for group, saved in zip(optimizer.param_groups, groups, strict=True):
        group.update(_options(saved))
        _restore(optimizer, group, loaded)


def _options(saved: Options) -> Options:
    """The options of a saved group that a group of ours has."""
    return {k: v for k, v in saved.items() if k not in _FOREIGN_KEYS and k != "params"}


def _matching_groups(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> list[ParamGroup]:
    """The saved groups; raises StateError where they do not fit the groups of this optimizer."""
    owner = type(optimizer).__name__
    if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= state_dict.keys():
        raise StateError(
            f"{owner}.load_state_dict: got {summary(state_dict)}; expected a dict with 'state' and 'param_groups', "
            "as optimizer.state_dict() gives it (a network's weights go to model.load_state_dict)"
        )
    sizes = [len(group["params"]) for group in state_dict["param_groups"]]
    expected = [len(group["params"]) for group in optimizer.param_groups]
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
    optimizer: Optimizer, i: int | str, p: Tensor, saved: SavedParameter, options: Options
) -> SavedParameter:
    """The saved Tensors of parameter `i`; empty where it had not been updated yet. StateError where they do not fit."""
    owner = type(optimizer).__name__
    saved = {name: value for name, value in saved.items() if value is not None}
    initial = optimizer.init_state(options)
    if saved and (initial.keys() - saved.keys() or saved.keys() - initial.keys() - {"step"}):
        kept = [*initial, "step"] if optimizer.counts_steps(options) else initial
        raise StateError(
            f"{owner}.load_state_dict: parameter {i} was saved with {sorted(saved)}; {owner} with these options keeps "
            f"{sorted(kept)}; load it into the method that saved it"
        )
    for name in initial.keys() & saved.keys():
        if np.shape(saved[name]) != p.shape:
            raise StateError(
                f"{owner}.load_state_dict: {name} of parameter {i} is {format_shape(np.shape(saved[name]))}, the parameter "
                f"is {format_shape(p.shape)}; build the same network as when it was saved"
            )
    return saved


def _restore(optimizer: Optimizer, group: Group, loaded: Mapping[Tensor, SavedParameter]) -> None:
    """Assign the saved numbers to the existing Tensors, and group the parameters by their step counts."""
    by_step: dict[float, list[Tensor]] = {}
    for p in group["params"]:
        for name, start in optimizer.init_state(group).items():
            optimizer.state[p][name].assign(loaded[p].get(name, full(p.shape, start, dtype=p.dtype)))
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
        if optimizer.counts_steps(group):
            optimizer.publish_steps(counter)
