"""Tensors from outside: those from before the step that it reads or writes, arguments among them (floor 4).

While the step is traced, each holds a Symbol beside its array. Other threads see the array all the time, and every Tensor
is what it was afterwards, whatever happens.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ...core.sharing import Cell, Path, strides_of
from ...core.value import Symbol, Value, active_tracer
from ...errors import TraceError, format_shape
from ...ops.loop import tree_map
from ...tensor import Parameter, Tensor
from ..ir.graph import Input
from ..ir.scan_body import placeholder
from .masked import YIELDING
from .traced_step import SHARED_ARGUMENT, Args, Kwargs, Write

SAVED_ATTRIBUTES = ("version", "node", "requires_grad", "written_at", "hooks")


@functools.cache
def traced_class(kind: type) -> type:
    """A subclass of `kind` for Tensors from outside the step: `array` is the Symbol for the tracer, and the array elsewhere."""

    def get(value: Tensor) -> Symbol | np.ndarray:
        fields = value.__dict__
        active = active_tracer.get()
        if active is not None:
            return fields["symbol"] if "symbol" in fields else active.read(value)
        return fields["array"] if "array" in fields else value.__getattr__("array")

    def put(value: Tensor, array: Symbol | np.ndarray) -> None:
        value.__dict__["array" if active_tracer.get() is None else "symbol"] = array

    def drop(value: Tensor) -> None:  # from a thread that does not trace
        if value.__dict__.pop("array", None) is None:
            raise AttributeError("array")

    array = property(get, put, drop)
    about = {"__slots__": (), "__module__": kind.__module__, "array": array, "__hash__": kind.__hash__}
    return type(kind.__name__, (kind,), about | YIELDING)


class SavedTensor(NamedTuple):
    """A Tensor as it was before the step. shared: its cell, path and base. rest: its SAVED_ATTRIBUTES."""

    owner: Tensor
    kind: type
    array: np.ndarray | None
    shared: tuple[Cell | None, Path, Tensor | None]
    rest: dict[str, Any]


def is_made_inside(value: Value) -> bool:
    """Whether the step made this value, so that it does not exist outside of it."""
    return value.__dict__.get("array").__class__ is Symbol


class OuterTensors:
    """The Tensors from before the step that it uses.

    names: names of Tensors for listings, by id. inputs: by id of the Tensor, which the Input keeps alive.
    saved: what they were, by id. views: those that are views, each with its cell and its base.
    """

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names
        self.inputs: dict[int, Input] = {}
        self.saved: dict[int, SavedTensor] = {}
        self.views: list[tuple[Tensor, Cell, Tensor]] = []

    def add_arguments(self, arguments: tuple[Args, Kwargs]) -> None:
        position = 0

        def take(leaf: object) -> None:
            nonlocal position
            if isinstance(leaf, Tensor):
                if id(leaf) not in self.inputs:  # one Tensor in two arguments is one input, as in the signature
                    self.add_input("argument", leaf, position)
                position += 1

        tree_map(take, list(arguments[0]))
        tree_map(take, dict(arguments[1]))

    def add_input(self, kind: str, value: Tensor, position: int = -1) -> Input:
        entry = Input(kind, value, placeholder(value), position, self.names.get(id(value), ""))
        self.inputs[id(value)] = entry
        self._save(value)
        if kind == "argument":  # the next call gives another Tensor, which may be a view of something else
            strides = strides_of(value)
            value.cell, value.path, value.base, value.array = None, (), None, entry.symbol
            if strides is not None:
                Cell(value).strides = strides
        value.array = entry.symbol
        return entry

    def add_view(self, value: Tensor, base: Tensor) -> None:
        assert value.cell is not None
        self._save(value)
        self.views.append((value, value.cell, base))

    def _save(self, value: Tensor) -> None:
        """Save a Tensor from before the step, and let it hold a Symbol beside its array."""
        if id(value) in self.saved:
            return
        kind: Any = type(value)
        rest = {name: getattr(value, name) for name in SAVED_ATTRIBUTES}
        shared = (value.cell, value.path, value.base)
        self.saved[id(value)] = SavedTensor(value, kind, value.__dict__.get("array"), shared, rest)
        value.__class__ = traced_class(kind)

    def forget_views(self, base: Value, but: Value | None = None) -> None:
        """Forget the Symbols of earlier Tensors that share the memory of `base`, except `but`. The next read finds them again."""
        for view in [] if base.cell is None else base.cell.living():
            if view is not base and view is not but and id(view) in self.saved and id(view) not in self.inputs:
                view.__dict__.pop("symbol", None)

    def restore(self) -> None:
        """Restore every Tensor to what it was before the step."""
        for owner, kind, array, shared, rest in self.saved.values():
            owner.__class__ = kind
            owner.__dict__.pop("symbol", None)
            if id(owner) in self.inputs and self.inputs[id(owner)].kind == "argument":
                owner.cell, owner.path, owner.base = shared
            if array is not None and owner.__dict__.get("array") is not array:  # another thread has assigned it
                del rest["version"], rest["written_at"]
            for name, value in rest.items():
                setattr(owner, name, value)

    # ---- at the end of the step ----

    def writes(self) -> list[Write]:
        """The inputs that the step has written, with their new values."""
        return [(entry, entry.owner.array) for entry in self.inputs.values() if entry.owner.array is not entry.symbol]

    def requires_grad_changes(self) -> list[tuple[Tensor, bool]]:
        """The Tensors whose `requires_grad` the step has set, and to what."""
        saved = self.saved.values()
        return [(x.owner, x.owner.requires_grad) for x in saved if x.owner.requires_grad != x.rest["requires_grad"]]

    def requires_grad_checks(self, writes: list[Write], read_on_tape: set[int]) -> list[tuple[Tensor, bool]]:
        """See `FoundTensors.requires_grad`. Tensors read only with the tape off, as by an optimizer, are not checked."""
        written = {id(entry) for entry, _ in writes}
        wanted = []
        for key, saved in self.saved.items():
            owner, needed, entry = saved.owner, saved.rest["requires_grad"], self.inputs.get(key)
            if entry is not None and entry.kind != "state":
                continue
            plain = owner.dtype.kind == "f" and not isinstance(owner, Parameter) and (key in read_on_tape or needed)
            if plain and (needed or id(entry) not in written):
                wanted.append((owner, needed))
        return wanted

    def check_tape(self) -> None:
        """Raise TraceError where the step has written one of them on the tape."""
        for owner, _, _, _, rest in self.saved.values():
            if owner.node is not rest["node"]:
                raise TraceError(
                    f"compile: a Tensor {format_shape(owner.shape)} from outside the step was written on the tape at "
                    f"{owner.written_at}; expected writes under no_grad(); write x = x + y, or wrap it in no_grad()"
                )

    def check_overlap(self, writes: list[Write]) -> None:
        """Raise TraceError where the step writes memory that an argument shares."""
        written = {id(entry.owner) for entry, _ in writes}
        seen_cells: dict[int, Tensor] = {}
        for entry in self.inputs.values():
            owner, cell = entry.owner, self.saved[id(entry.owner)].shared[0]
            other = seen_cells.setdefault(id(cell), owner) if cell is not None else owner
            if other is not owner and written & {id(other), id(owner)}:
                where = owner.written_at or other.written_at
                raise TraceError(SHARED_ARGUMENT.format(where, format_shape(other.shape), format_shape(owner.shape)))
