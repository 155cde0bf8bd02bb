"""Foreign objects: those that were there before the step (floor 4).

An object is foreign if the step has come to it from its function, a cell, a global or a Module. Identity decides. What the
step makes itself is its own: it is never guarded, and freely written.
"""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...core.origin import Origin
from ...core.value import Symbol, Value
from ...errors import TraceError
from .impure import GENERATORS, RANDOM_DRAW_ERROR, global_states, state_of
from .locations import CONTAINERS, MAPPINGS, MISSING, NUMBERS, cell_content, fields_of, in_class

# On the shadow stack: a value that is not known. It may be any foreign object.
UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda self: "?"})()
# What never changes, or is covered elsewhere.
FIXED = (*NUMBERS, type(None), types.ModuleType, type, np.dtype, slice, range, types.CodeType)


class ForeignObjects:
    """The foreign objects that a step has come to.

    is_made_inside: whether a Tensor is the step's own. foreign: by id; alive as long as the trace, so that no id is reused.
    own: the same, of objects that were seen when they were made. kinds: classes that were read as values.
    functions: foreign ones, by their code. generators: random ones, each with its name and its state before the step.
    """

    def __init__(self, is_made_inside: Callable[[Value], bool]) -> None:
        self.is_made_inside = is_made_inside
        self.foreign: dict[int, Any] = {}
        self.own: dict[int, Any] = {}
        self.kinds: set[type] = set()
        self.functions: dict[types.CodeType, list[types.FunctionType]] = {}
        self.generators = global_states()

    def note(self, value: object) -> Any:
        """Note that `value` is foreign, and what it is permanently made of."""
        if isinstance(value, type):
            self.kinds.add(value)
        if isinstance(value, (*FIXED, Symbol)) or value is MISSING or value is UNKNOWN or id(value) in self.foreign:
            return value
        if isinstance(value, Value) and self.is_made_inside(value):
            return value
        self.foreign[id(value)] = value
        if isinstance(value, types.FunctionType):
            self._note_function(value)
        elif isinstance(value, GENERATORS):
            self.generators.append((_called(value), value, state_of(value)))
        else:
            for part in _parts(value):
                self.note(part)
        return value

    def _note_function(self, function: types.FunctionType) -> None:
        self.functions.setdefault(function.__code__, []).append(function)
        for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self.note(default)
        for cell in function.__closure__ or ():
            inner = cell_content(cell)
            if isinstance(inner, types.FunctionType | types.MethodType):
                self.note(inner)

    def is_foreign(self, value: object) -> bool:
        """Whether `value` is known to be from before the step. A Module is, if it was not seen to be made."""
        if id(value) in self.foreign:
            return True
        if is_module(value) and id(value) not in self.own:
            self.note(value)
            return True
        return False

    def classes(self) -> set[type]:
        """The classes of foreign objects, and foreign classes."""
        return {type(owner) for owner in self.foreign.values()} | self.kinds

    def with_attribute(self, name: str) -> Iterator[Any]:
        """The foreign objects with an attribute `name` of their own. An unknown object may be one of them."""
        for owner in list(self.foreign.values()):
            if isinstance(owner, (Value, types.FunctionType, *CONTAINERS)) and not fields_of(owner):
                continue
            for one in with_layers(owner) if is_module(owner) else (owner,):
                if name in fields_of(one) or isinstance(in_class(type(one), name), types.MemberDescriptorType):
                    yield one

    def refuse_draws(self, origin: Origin) -> None:
        """Raise TraceError, for the step that begins at `origin`, where it has drawn from a generator in code that is not
        followed. It cannot be told where other threads run."""
        if threading.active_count() > 1:
            return  # another thread may have drawn
        for name, generator, before in self.generators:
            if state_of(generator) != before:
                raise TraceError(RANDOM_DRAW_ERROR.format(place=f"in the function at {origin}", source=name))

    def forget(self) -> None:
        """Drop what is needed only while tracing."""
        for book in (self.foreign, self.own, self.kinds, self.functions, self.generators):
            book.clear()


def is_module(x: object) -> bool:
    """Whether `x` is a network or layer, whose attributes `state_version` covers."""
    return hasattr(type(x), "named_parameters") and not isinstance(x, type)


def with_layers(module: object) -> Iterator[Any]:
    """A Module and all layers in it."""
    yield module
    for layer in fields_of(module).get("_modules", {}).values():
        if layer is not None:
            yield from with_layers(layer)


def items_of(container: Any) -> list[Any]:
    """The items of a container, without keys."""
    return list(container.values() if isinstance(container, MAPPINGS) else container)


def _parts(value: object) -> tuple[Any, ...]:
    if isinstance(value, types.MethodType):
        return value.__func__, value.__self__
    if isinstance(value, types.BuiltinMethodType):
        return (value.__self__,)
    if isinstance(value, functools.partial):
        return value.func, *value.args, *value.keywords.values()
    if isinstance(value, tuple | frozenset):
        return tuple(value)
    if is_module(value):
        fields = fields_of(value)
        return tuple(x for name in ("_pre_hooks", "_hooks", "_backward_hooks") for x in fields.get(name, ()))
    wrapped = fields_of(value).get("__wrapped__")
    return () if wrapped is None else (wrapped,)


def _called(generator: object) -> str:
    return "random" if type(generator).__module__ == "random" else "numpy.random"
