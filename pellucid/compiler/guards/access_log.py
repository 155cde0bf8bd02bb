"""Access log of one trace: what was read of foreign objects, and what was written (floor 4)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from keyword import iskeyword
from typing import Any, NamedTuple

import numpy as np

from ...core.origin import Origin
from ...core.value import Value
from ...errors import TraceError
from .foreign import ForeignObjects, is_module, items_of
from .guard import Guard, checker, content_guard, holds
from .locations import CONTAINERS, MISSING, NUMBERS, Location, differs

LIMIT = 64  # items in a guard of content
TENSORS = 4096  # the same where all are Tensors or Modules


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

    where: gives the user's line at this moment. guards: what was read. writes: what was written, first to last.
    absent: by id of a module's names, those that it does not define: built-in ones are read then.
    refused: the first refusal, since the step may catch it.
    """

    def __init__(self, objects: ForeignObjects, where: Callable[[], Origin]) -> None:
        self.objects, self.where = objects, where
        self.guards: dict[Hashable, Guard] = {}
        self.writes: dict[Hashable, Write] = {}
        self.refused: TraceError | None = None
        self.absent: dict[int, tuple[Mapping[str, object], set[str]]] = {}

    # ---- reads ----

    def guard(self, form: str, owner: Any, key: Any, value: Any) -> Any:
        """The step reads `value`, which becomes foreign. A location that the step has written before is not guarded."""
        if form in ("attribute", "method") and not (key.isidentifier() and not iskeyword(key)):
            form, owner, key = "called", getattr, (owner, key)
        at = (form, id(owner), _hashable(key))
        known = (form if form in ("item", "cell") else "attribute", *at[1:])
        if at not in self.guards and known not in self.writes and ("content", id(owner), None) not in self.writes:
            self.guards[at] = Guard(form, owner, key, value, self.where())
        return self.objects.note(value)

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
            if isinstance(self.objects.note(x), CONTAINERS) or (isinstance(x, np.ndarray) and x.size <= LIMIT):
                self.content(x, direct)

    def _refuse_size(self, value: object, size: int) -> None:
        self.refuse(
            f"reads {'an array' if isinstance(value, np.ndarray) else 'a ' + type(value).__name__} of {size} items that the "
            f"step would keep for ever; expected at most {LIMIT}, or Tensors; pass it in as an argument, or make it a Tensor"
        )

    def refuse(self, what: str) -> None:
        """Raise TraceError, and store it."""
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


def _is_network(x: object) -> bool:
    return isinstance(x, Value) or is_module(x)


def _hashable(key: object) -> Hashable:
    """A key as part of another one: plain ones by value, others by identity."""
    if isinstance(key, tuple):
        return tuple(map(_hashable, key))
    return (type(key), key) if isinstance(key, NUMBERS) else id(key) if key is not None else None
