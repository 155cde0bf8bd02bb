"""Parameter groups: their parameters, their options, and the Tensors that an update rule reads (floor 4)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.state_version import note_change
from ..creation import tensor
from ..errors import OptionError, format_shape
from ..tensor import Tensor
from . import options as check
from .options import Options
from .tracked import TrackedList

if TYPE_CHECKING:
    from .optimizer import Optimizer

# A group as it is given: {"params": [...], and options of its own}.
ParamGroup = dict[str, Any]
# What an optimizer is made over: Tensors, Tensors with names, or groups.
ParamsT = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[ParamGroup]


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

    def __init__(self, options: Options, optimizer: Optimizer) -> None:
        super().__init__(options)
        self.counters: list[StepCounter] = []
        self.scalars: dict[str, Tensor] = {}
        self.state_names: tuple[str, ...] | None = None  # of the Tensors that exist for each parameter
        self._optimizer = optimizer
        self.numbers: dict[str, float] = {}
        self._ahead: dict[str, Any] | None = (
            None  # options written since the Tensors were, while they are to stay behind
        )
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
        changed = {option: normalize_option(value) for option, value in dict(*changes, **more).items()}
        self._optimizer.check_options(changed)
        if self._ahead is not None:
            self._ahead |= changed
            super().update(changed)
            return
        numbers = self._optimizer.hyperparameters({**self, **changed})
        if any(changes_structure(self.get(option), value) for option, value in changed.items()):
            note_change()  # a compiled step has to check whether it still holds
        super().update(changed)
        for name, number in numbers.items():
            if name not in self.scalars:
                self.scalars[name] = tensor(np.asarray(number, self._dtype))
            elif number != self.numbers[name]:
                self.scalars[name].assign(number)
        self.numbers = numbers
        self._optimizer._create_state(self)

    @contextlib.contextmanager
    def ahead(self) -> Iterator[Callable[[], dict[str, float]]]:
        """Inside, writes change the options alone; afterwards the Tensors have the last ones.

        Gives a function that says what the Tensors would hold now, by name.
        """
        self._ahead = {}
        try:
            yield lambda: self._optimizer.hyperparameters(self)
        finally:
            written, self._ahead = self._ahead, None
            self.update(written)

    def __ior__(self, changes: Options | Iterable[tuple[str, Any]]) -> Group:  # type: ignore[override,misc]
        self.update(changes)
        return self


def changes_structure(before: object, after: object) -> bool:
    """Whether a new value may change which operations the rule runs, and not only their numbers."""
    plain = (int, float)
    if isinstance(before, plain) and isinstance(after, plain) and not isinstance(after, bool):
        return bool(before) != bool(after)
    return before is not after and not (isinstance(before, tuple) and isinstance(after, tuple))


def normalize_option(value: Any) -> Any:
    """An option as the group stores it.

    One-element Tensors become numbers, JSON's `[0.9, 0.999]` becomes `(0.9, 0.999)`, a list of parameters becomes tracked.
    """
    if isinstance(value, list) and any(isinstance(item, Tensor) for item in value):
        return TrackedList(value)
    if isinstance(value, list) and value and not any(isinstance(item, Tensor | str) for item in value):
        return tuple(value)
    return check.plain(value) if isinstance(value, Tensor) else value


def as_groups(owner: str, params: object) -> list[ParamGroup]:
    """The constructor's `params` as a list of groups; raises OptionError for anything else."""
    if hasattr(params, "parameters") and callable(params.parameters):
        raise OptionError(f"{owner}: params is the network {type(params).__name__}; expected its parameters; "
                          f"write {owner}(model.parameters())")  # fmt: skip
    if isinstance(params, Tensor):
        raise OptionError(f"{owner}: params is one Tensor {format_shape(params.shape)}; expected a list of them; "
                          f"write {owner}([x])")  # fmt: skip
    if isinstance(params, Mapping | str) or not isinstance(params, Iterable):
        raise OptionError(f"{owner}: params is {summary(params)}; expected Tensors or groups in a list; "
                          f"write {owner}(model.parameters()) or {owner}([{{'params': ...}}])")  # fmt: skip
    items = list(params)
    if not items:
        raise OptionError(f"{owner}: params is empty; expected at least one Tensor to train; a generator such as "
                          "model.parameters() can be read only once, and a network without layers has none")  # fmt: skip
    return items if isinstance(items[0], dict) else [{"params": items}]


def parameters_of(owner: str, group: object, known: list[Tensor]) -> tuple[list[str], list[Tensor]]:
    """The names (or none) and the leaf Tensors of a group; raises OptionError for what is none, and for one that is `known`."""
    if not isinstance(group, dict) or "params" not in group:
        raise OptionError(f"{owner}: a parameter group is {summary(group)}; expected a dict with 'params'; "
                          "write {'params': layer.parameters(), 'lr': 1e-4}")  # fmt: skip
    given = group["params"]
    if isinstance(given, set):
        raise OptionError(f"{owner}: a group's params are a set, whose order changes from run to run; expected a list")
    items: list[Any] = [given] if isinstance(given, Tensor) else list(as_groups(owner, given)[0]["params"])
    pairs: list[tuple[str, Any]] = [
        item if isinstance(item, tuple) and len(item) == 2 else ("", item) for item in items
    ]
    seen = {id(p) for p in known}
    for i, (name, p) in enumerate(pairs):
        what = f"parameter {i}{f' ({name})' if name else ''}"
        if not isinstance(p, Tensor):
            raise OptionError(f"{owner}: {what} is {summary(p)}; expected a Tensor; pass model.parameters(), or "
                              "pellucid.tensor(x, requires_grad=True)")  # fmt: skip
        if p.node is not None:
            raise OptionError(f"{owner}: {what} {format_shape(p.shape)} is the result of {p.node.op.name}; expected a leaf, which "
                              "keeps its gradient; pass the Tensor it was computed from, or x.detach().requires_grad_()")  # fmt: skip
        if id(p) in seen:
            raise OptionError(f"{owner}: {what} {format_shape(p.shape)} comes twice and would be updated twice; expected each "
                              "Tensor in one group; take it out of the other")  # fmt: skip
        seen.add(id(p))
    return [name for name, _ in pairs if name], [p for _, p in pairs]


def summary(value: object) -> str:
    """`value` in an error message: short, and never pages of numbers."""
    text = repr(value)
    return f"{text} ({type(value).__name__})" if len(text) <= 40 else f"a {type(value).__name__}"
