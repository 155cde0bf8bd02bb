"""Access log of one trace: which objects are foreign, what was read of them, and what was written (floor 4).

An object is foreign if it was there before the step and the step has come to it from its function, a cell, a global or a
Module. Identity decides. What the step makes itself is its own: it is never guarded, and freely written.
"""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Hashable, Iterator, Mapping
from keyword import iskeyword
from typing import Any, NamedTuple

import numpy as np

from ...core.origin import Origin
from ...core.value import Symbol, Value
from ...errors import TraceError
from .guard import Guard, checker, content_guard, holds
from .impure import GENERATORS, RANDOM_DRAW_ERROR, global_states, state_of
from .locations import CONTAINERS, MAPPINGS, MISSING, NUMBERS, Location, cell_content, differs, fields_of, in_class

# On the shadow stack: a value that is not known. It may be any foreign object.
UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda self: "?"})()
LIMIT = 64  # items in a guard of content
TENSORS = 4096  # the same where all are Tensors or Modules
# What never changes, or is covered elsewhere.
FIXED = (*NUMBERS, type(None), types.ModuleType, type, np.dtype, slice, range, types.CodeType)


class Write(NamedTuple):
    """A write to a foreign object: its location, the value before, and its name in a message."""

    location: Location
    before: Any
    where: Origin
    what: str


class Change(NamedTuple):
    """A write that the step has not undone, or a draw from another random generator."""

    where: Origin
    what: str


class AccessLog:
    """The access log of one trace.

    where: gives the user's line at this moment. is_made_inside: whether a Tensor is the step's own.
    """

    def __init__(self, where: Callable[[], Origin], is_made_inside: Callable[[Value], bool]) -> None:
        self.where, self.is_made_inside = where, is_made_inside
        self.guards: dict[Hashable, Guard] = {}
        self.writes: dict[Hashable, Write] = {}
        self.refused: TraceError | None = None
        self.foreign: dict[int, Any] = {}  # by id; alive as long as the trace, so that no id is reused
        self.kinds: set[type] = set()  # classes that were read as values
        self.own: dict[int, Any] = {}  # the same, of objects that were seen when they were made
        self.functions: dict[types.CodeType, list[types.FunctionType]] = {}  # foreign ones, by their code
        self.generators = global_states()
        self.absent: dict[
            int, tuple[Mapping[str, object], set[str]]
        ] = {}  # names that a module does not define: built-in ones are read then

    # ---- what is foreign ----

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

    # ---- reads ----

    def guard(self, form: str, owner: Any, key: Any, value: Any) -> Any:
        """The step reads `value`, which becomes foreign. A location that the step has written before is not guarded."""
        if form in ("attribute", "method") and not (key.isidentifier() and not iskeyword(key)):
            form, owner, key = "called", getattr, (owner, key)
        at = (form, id(owner), _hashable(key))
        known = (form if form in ("item", "cell") else "attribute", *at[1:])
        if at not in self.guards and known not in self.writes and ("content", id(owner), None) not in self.writes:
            self.guards[at] = Guard(form, owner, key, value, self.where())
        return self.note(value)

    def not_global(self, space: Mapping[str, object], name: str) -> None:
        """A global name is looked up in `space` and is missing."""
        self.absent.setdefault(id(space), (space, set()))[1].add(name)

    def absences(self) -> list[Guard]:
        """One guard for all missing names of a module."""
        where = self.where()
        return [Guard("called", s.keys().isdisjoint, (frozenset(n),), True, where) for s, n in self.absent.values()]

    def content(self, value: Any, direct: bool = True) -> None:
        """The step reads the whole content of a foreign container or array, and the containers in it.

        direct: refuse what is too large; else, in the depth of an object that goes to code that is not followed, leave it.
        """
        at = ("content", id(value), None)
        if at in self.guards:
            return
        is_array = isinstance(value, np.ndarray)
        size = value.size if is_array else len(value)
        if size > LIMIT and (is_array or size > TENSORS or not all(_is_network(x) for x in items_of(value))):
            if direct:
                self._refuse_size(value, size)
            return
        if at not in self.writes:
            self.guards[at] = content_guard(value, self.where())
        if is_array:
            return
        for x in items_of(value):
            if isinstance(self.note(x), CONTAINERS) or (isinstance(x, np.ndarray) and x.size <= LIMIT):
                self.content(x, direct)

    def _refuse_size(self, value: object, size: int) -> None:
        self.refuse(
            f"reads {'an array' if isinstance(value, np.ndarray) else 'a ' + type(value).__name__} of {size} items that the "
            f"step would keep for ever; expected at most {LIMIT}, or Tensors; pass it in as an argument, or make it a Tensor"
        )

    def refuse(self, what: str) -> None:
        """Raise TraceError, and store it, since the step may catch it."""
        self.refuse_with(f"{self.where()}: a compiled step {what}")

    def refuse_with(self, message: str) -> None:
        self.refused = self.refused or TraceError(message)
        raise self.refused

    # ---- writes ----

    def wrote(self, location: Location, what: str) -> None:
        """The step is about to write there. The first time, the value before is saved."""
        at = (location.kind, id(location.owner), _hashable(location.key))
        if at not in self.writes and ("content", id(location.owner), None) not in self.writes:
            self.writes[at] = Write(location, location.read(), self.where(), what)

    def changes(self) -> list[Change]:
        """What differs from before the step. A failing guard shows a write in code that is not followed."""
        found = [Change(w.where, w.what) for w in self.writes.values() if not w.location.holds(w.before)]
        if self.guards and not checker(self.guards.values())():
            found += [Change(g.origin, str(g).partition(" (")[0]) for g in self._unheld()]
        return found

    def _unheld(self) -> list[Guard]:
        return [guard for guard in self.guards.values() if not holds(guard)]

    def undo(self) -> None:
        """Restore what the step has written."""
        for guard in self._unheld():
            if guard.form in ("attribute", "item", "cell", "content"):
                Location(guard.form, guard.owner, guard.key).put(guard.value)
        for write in reversed(self.writes.values()):
            if not write.location.holds(write.before):
                write.location.put(write.before)

    def after_writes(self) -> list[Guard]:
        """Guards on what the step has written: each eager call would write it again, so it has to be there already."""
        found = []
        for write in self.writes.values():
            kind, owner, key = write.location
            if kind == "content":
                if (not isinstance(owner, np.ndarray) and len(owner) <= LIMIT) or getattr(owner, "size", LIMIT) < LIMIT:
                    found.append(content_guard(owner, write.where))
                else:
                    found.append(Guard("length", owner, None, len(owner), write.where))
            elif not is_module(owner) and (value := write.location.read()) is not MISSING:
                readable = kind != "attribute" or not differs(getattr(owner, key, MISSING), value)
                if readable or getattr(owner, key, MISSING) is value:
                    found.append(Guard(kind, owner, key, value, write.where))
        return found

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


def _is_network(x: object) -> bool:
    return isinstance(x, Value) or is_module(x)


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


def _hashable(key: object) -> Hashable:
    """A key as part of another one: plain ones by value, others by identity."""
    if isinstance(key, tuple):
        return tuple(map(_hashable, key))
    return (type(key), key) if isinstance(key, NUMBERS) else id(key) if key is not None else None
