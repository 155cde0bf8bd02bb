"""What one recording knows of Python: which objects are foreign, what was read of them, what was written (floor 4).

An object is foreign if it was there before the step and the step has come to it from its function, a cell, a global or a
Module. Identity decides. What the step makes itself is its own: it is never guarded, and freely written.
"""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Iterator
from keyword import iskeyword
from typing import Any, NamedTuple

import numpy as np

from ...core.value import Symbol, Value
from ...errors import TraceError
from .chance import CHANCE, GENERATORS, global_states, state_of
from .guard import Guard, checker, content_guard, holds
from .places import CONTAINERS, MAPPINGS, MISSING, NUMBERS, Place, cell_content, differs, fields_of, in_class

# On the shadow stack: a value that is not known. It may be any foreign object.
UNKNOWN: Any = type("Unknown", (), {"__repr__": lambda self: "?"})()
LIMIT = 64  # items in a guard of content
TENSORS = 4096  # the same where all are Tensors or Modules
# What never changes, or is covered elsewhere.
FIXED = (*NUMBERS, type(None), types.ModuleType, type, np.dtype, slice, range, types.CodeType)


class Write(NamedTuple):
    """Something foreign that the step writes: where it stands, what was there, and how to call it in a message."""

    place: Place
    before: Any
    where: Any
    what: str


class Change(NamedTuple):
    """A write that the step has not taken back, or a draw of others' random numbers."""

    where: Any
    what: str


class State:
    """The books of one recording.

    where: gives the user's line at this moment. is_made_inside: whether a Tensor is the step's own.
    """

    def __init__(self, where: Callable[[], Any], is_made_inside: Callable[[Any], bool]) -> None:
        self.where, self.is_made_inside = where, is_made_inside
        self.guards: dict[Any, Guard] = {}
        self.writes: dict[Any, Write] = {}
        self.refused: TraceError | None = None
        self.foreign: dict[int, Any] = {}  # by id; alive as long as the recording, so that no id is used twice
        self.kinds: set[type] = set()  # classes that were read as values
        self.own: dict[int, Any] = {}  # the same, of objects that were seen when they were made
        self.functions: dict[types.CodeType, list[types.FunctionType]] = {}  # foreign ones, by their code
        self.generators = global_states()
        self.absent: dict[
            int, tuple[Any, set[str]]
        ] = {}  # names that a module does not define: built-in ones are read then

    # ---- what is foreign ----

    def note(self, value: Any) -> Any:
        """`value` is foreign; so is what it is made of and cannot lose."""
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

    def is_foreign(self, value: Any) -> bool:
        """Whether `value` was there before the step, as far as is known. A Module is, if it was not seen to be made."""
        if id(value) in self.foreign:
            return True
        if is_module(value) and id(value) not in self.own:
            self.note(value)
            return True
        return False

    def classes(self) -> set[type]:
        """The classes of foreign objects, and those that were come to themselves."""
        return {type(owner) for owner in self.foreign.values()} | self.kinds

    def with_attribute(self, name: str) -> Iterator[Any]:
        """The foreign objects that have the attribute `name` of their own: one of them may be an object that is not known."""
        for owner in list(self.foreign.values()):
            if isinstance(owner, (Value, types.FunctionType, *CONTAINERS)) and not fields_of(owner):
                continue
            for one in with_layers(owner) if is_module(owner) else (owner,):
                if name in fields_of(one) or isinstance(in_class(type(one), name), types.MemberDescriptorType):
                    yield one

    # ---- reads ----

    def guard(self, form: str, owner: Any, key: Any, value: Any) -> Any:
        """The step reads `value`, which becomes foreign. What it has written itself before is not guarded."""
        if form in ("attribute", "method") and not (key.isidentifier() and not iskeyword(key)):
            form, owner, key = "called", getattr, (owner, key)
        at = (form, id(owner), _hashable(key))
        known = (form if form in ("item", "cell") else "attribute", *at[1:])
        if at not in self.guards and known not in self.writes and ("content", id(owner), None) not in self.writes:
            self.guards[at] = Guard(form, owner, key, value, self.where())
        return self.note(value)

    def not_global(self, space: Any, name: str) -> None:
        """A name is looked for among the globals `space`, and is not there."""
        self.absent.setdefault(id(space), (space, set()))[1].add(name)

    def absences(self) -> list[Guard]:
        """One guard for all such names of a module."""
        where = self.where()
        return [Guard("called", s.keys().isdisjoint, (frozenset(n),), True, where) for s, n in self.absent.values()]

    def content(self, value: Any, direct: bool = True) -> None:
        """The step reads all that a foreign container or array holds, and the containers in it.

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

    def _refuse_size(self, value: Any, size: int) -> None:
        self.refuse(
            f"reads {'an array' if isinstance(value, np.ndarray) else 'a ' + type(value).__name__} of {size} items that the "
            f"step would keep for ever; expected at most {LIMIT}, or Tensors; pass it in as an argument, or make it a Tensor"
        )

    def refuse(self, what: str) -> None:
        """Raise TraceError, and keep it: the step may catch it."""
        self.refuse_with(f"{self.where()}: a compiled step {what}")

    def refuse_with(self, message: str) -> None:
        self.refused = self.refused or TraceError(message)
        raise self.refused

    # ---- writes ----

    def wrote(self, place: Place, what: str) -> None:
        """The step is about to write there; the first time, what stands there now is kept."""
        at = (place.kind, id(place.owner), _hashable(place.key))
        if at not in self.writes and ("content", id(place.owner), None) not in self.writes:
            self.writes[at] = Write(place, place.read(), self.where(), what)

    def changes(self) -> list[Change]:
        """What is not as it was before the step. A guard that holds no longer tells of a write in code not followed."""
        found = [Change(w.where, w.what) for w in self.writes.values() if not w.place.holds(w.before)]
        if self.guards and not checker(self.guards.values())():
            found += [Change(g.place, str(g).partition(" (")[0]) for g in self._unheld()]
        return found

    def _unheld(self) -> list[Guard]:
        return [guard for guard in self.guards.values() if not holds(guard)]

    def undo(self) -> None:
        """Put back what the step has written."""
        for guard in self._unheld():
            if guard.form in ("attribute", "item", "cell", "content"):
                Place(guard.form, guard.owner, guard.key).put(guard.value)
        for write in reversed(self.writes.values()):
            if not write.place.holds(write.before):
                write.place.put(write.before)

    def after_writes(self) -> list[Guard]:
        """Guards on what the step has written: each call would write it again, so it has to stand there already."""
        found = []
        for write in self.writes.values():
            kind, owner, key = write.place
            if kind == "content":
                if (not isinstance(owner, np.ndarray) and len(owner) <= LIMIT) or getattr(owner, "size", LIMIT) < LIMIT:
                    found.append(content_guard(owner, write.where))
                else:
                    found.append(Guard("length", owner, None, len(owner), write.where))
            elif not is_module(owner) and (value := write.place.read()) is not MISSING:
                readable = kind != "attribute" or not differs(getattr(owner, key, MISSING), value)
                if readable or getattr(owner, key, MISSING) is value:
                    found.append(Guard(kind, owner, key, value, write.where))
        return found

    def refuse_draws(self, place: Any) -> None:
        """Raise TraceError, for the step that begins at `place`, where it has drawn from a generator in code that is not
        followed. It cannot be told where other threads run."""
        if threading.active_count() > 1:
            return  # another thread may have drawn
        for name, generator, before in self.generators:
            if state_of(generator) != before:
                raise TraceError(CHANCE.format(place=f"in the function at {place}", source=name))

    def forget(self) -> None:
        """Let go of what is needed while recording only."""
        for book in (self.foreign, self.own, self.kinds, self.functions, self.generators):
            book.clear()


def is_module(x: Any) -> bool:
    """Whether `x` is a network or layer, whose attributes `op.structure` covers."""
    return hasattr(type(x), "named_parameters") and not isinstance(x, type)


def _is_network(x: Any) -> bool:
    return isinstance(x, Value) or is_module(x)


def with_layers(module: Any) -> Iterator[Any]:
    """A Module and all layers in it."""
    yield module
    for layer in fields_of(module).get("_modules", {}).values():
        if layer is not None:
            yield from with_layers(layer)


def items_of(container: Any) -> list[Any]:
    """What a container holds, keys apart."""
    return list(container.values() if isinstance(container, MAPPINGS) else container)


def _parts(value: Any) -> tuple[Any, ...]:
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


def _called(generator: Any) -> str:
    return "random" if type(generator).__module__ == "random" else "numpy.random"


def _hashable(key: Any) -> Any:
    """A key as part of another one: plain ones by value, others by identity."""
    if isinstance(key, tuple):
        return tuple(map(_hashable, key))
    return (type(key), key) if isinstance(key, NUMBERS) else id(key) if key is not None else None
