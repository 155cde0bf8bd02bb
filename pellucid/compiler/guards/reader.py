"""Reader: what each instruction of the user's code reads and writes of foreign objects (floor 4).

Attributes, items and calls are looked at here a second time, without running any code of the user's: the object's own
dict, its class and the classes above, its slots. Each read becomes a guard. What comes out is what the shadow stack holds
next: the value, or UNKNOWN. UNKNOWN may be any foreign object: reading an attribute of it guards that attribute of all
foreign objects that have it. So whatever is not known makes guards more, and never fewer.
"""

from __future__ import annotations

import os
import sys
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from enum import EnumMeta
from typing import Any

import numpy as np

from ...core.value import Symbol, Value
from .access_log import LIMIT, AccessLog
from .followed import is_engine, is_followed, is_followed_module
from .foreign import FIXED, UNKNOWN, is_module, items_of
from .impure import GENERATORS, refusal
from .locations import CONTAINERS, MISSING, NUMBERS, Location, attribute_of, fields_of, in_class

_SHAPES = ("shape", "ndim", "dtype", "size")


class Bound:
    """A bound method: a Python function, or the name of a C function, and its owner."""

    __slots__ = ("function", "owner")

    def __init__(self, function: object, owner: object) -> None:
        self.function, self.owner = function, owner


class Super:
    """The result of super()."""

    __slots__ = ("owner", "start")

    def __init__(self, start: type, owner: object) -> None:
        self.start, self.owner = start, owner


class Reader:
    """Reads for one trace.

    expected: after a read or a call, the code object whose return value is what came out, or None. calling: the function
    that is about to be called, where it is known.
    """

    def __init__(self, log: AccessLog) -> None:
        self.log, self.objects = log, log.objects
        self.expected: types.CodeType | None = None
        self.calling: types.FunctionType | None = None
        self._sought: dict[str, int] = {}

    # ---- what goes where it cannot be followed ----

    def consume(self, x: object, direct: bool = True, seen: set[int] | None = None) -> None:
        """`x` is passed to code that is not followed: all foreign objects in it are read."""
        seen = set() if seen is None else seen
        if x is UNKNOWN or isinstance(x, (*FIXED, Value, Symbol, Super)) or id(x) in seen:
            return
        seen.add(id(x))
        log, objects = self.log, self.objects
        if isinstance(x, Bound):
            if isinstance(x.function, str):
                self.consume(x.owner, direct, seen)
        elif isinstance(x, tuple | frozenset):
            for y in x:
                self.consume(y, direct, seen)
        elif not objects.is_foreign(x):
            self._consume_own(x, direct, seen)
        elif isinstance(x, (*CONTAINERS, np.ndarray)):
            log.content(x, direct)
            if not isinstance(x, np.ndarray):
                for y in items_of(x)[:LIMIT]:
                    self.consume(y, False, seen)
        elif isinstance(x, GENERATORS) and direct:
            self.refuse_call(None, x, "")
        elif is_iterator(x):
            if direct:
                self.refuse_iterator()
        else:
            self._consume_object(x, seen)

    def _consume_own(self, x: object, direct: bool, seen: set[int]) -> None:
        """Read the foreign objects in an object that the step has made."""
        if isinstance(x, CONTAINERS):
            for y in items_of(x)[:4096]:
                self.consume(y, direct, seen)
        elif not callable(x) and not is_module(x):
            for y in list(fields_of(x).values())[:LIMIT]:
                self.consume(y, False, seen)

    def _consume_object(self, x: object, seen: set[int]) -> None:
        if isinstance(x, types.FunctionType) and x.__defaults__:
            self.log.guard("attribute", x, "__defaults__", x.__defaults__)
        if is_library_object(x) or callable(x):
            return
        for name, value in own_attributes(x):
            self.log.guard("attribute", x, name, value)
            self.consume(value, False, seen)

    def refuse_iterator(self) -> None:
        self.log.refuse(
            "advances an iterator from outside, whose value it would keep for ever; expected what changes from call to call "
            "as an argument; pass next(...) in"
        )

    def iterate(self, x: object) -> None:
        """A loop over `x` begins, or something else that reads all its items."""
        iterates = in_class(type(x), "__iter__")
        if isinstance(iterates, types.FunctionType) and is_followed(iterates.__code__.co_filename):
            return
        ours = is_library_object(x) and self.objects.is_foreign(x) and not is_module(x)
        if ours and not isinstance(x, (Value, *CONTAINERS)) and iterates is not MISSING:
            self.refuse_iterator()  # a DataLoader, whose order is drawn here
        self.consume(x)

    # ---- attributes ----

    def attribute(self, owner: object, name: str) -> object:
        """The value of `owner.name`, guarded where it can change."""
        if owner is UNKNOWN:
            return self._attribute_of_any(name)
        if isinstance(owner, Super):
            return self._above(owner, name)
        if isinstance(owner, Symbol | Bound):
            return UNKNOWN
        if isinstance(owner, Value):
            return self._of_tensor(owner, name)
        if isinstance(owner, types.ModuleType):
            return self._of_python_module(owner, name)
        if isinstance(owner, type):
            return self._of_class(owner, name)
        if not self.objects.is_foreign(owner):
            return self._of_own(owner, name)
        return self._of_object(owner, name)

    def _attribute_of_any(self, name: str) -> object:
        known = len(self.objects.foreign)
        if self._sought.get(name) != known:  # once for so many objects
            for owner in list(self.objects.with_attribute(name)):
                value = attribute_of(owner, name)
                if value is not MISSING and not is_module(owner):
                    self.log.guard("attribute", owner, name, value)
                else:
                    self.objects.note(value)
            for kind in self.objects.classes():
                self._of_class(kind, name)
            self._sought[name] = len(self.objects.foreign)
        return UNKNOWN

    def _of_tensor(self, owner: Value, name: str) -> object:
        if is_user_attribute(owner, name) and not self.objects.is_made_inside(owner):
            return self.log.guard("attribute", owner, name, owner.__dict__[name])
        return UNKNOWN

    def _of_python_module(self, owner: object, name: str) -> object:
        value = owner.__dict__.get(name, UNKNOWN)
        file = getattr(owner, "__file__", None) or "<frozen"
        if value is UNKNOWN or not is_followed(file) or is_engine(file):
            return value if value is UNKNOWN else self.objects.note(value)
        return self.log.guard("attribute", owner, name, value)

    def _of_class(self, owner: type, name: str) -> object:
        if isinstance(owner, EnumMeta) and name in owner.__members__:
            return self.objects.note(owner.__members__[name])
        value = in_class(owner, name)
        if value is MISSING:
            getter = in_class(type(owner), name)
            return Bound(getter, owner) if isinstance(getter, types.FunctionType) else UNKNOWN
        if isinstance(value, classmethod | staticmethod):
            return self.objects.note(getattr(owner, name))
        if not is_followed_module(owner.__module__):
            return Bound(name, owner) if hasattr(type(value), "__get__") else value
        if isinstance(value, property) or (
            hasattr(type(value), "__get__") and not isinstance(value, types.FunctionType)
        ):
            return UNKNOWN
        return self.log.guard("attribute", owner, name, value)

    def _of_object(self, owner: object, name: str) -> object:
        log, objects, kind = self.log, self.objects, type(owner)
        if isinstance(owner, np.ndarray):
            return getattr(owner, name) if name in _SHAPES else Bound(name, owner)
        found, asks = in_class(kind, name), in_class(kind, "__getattribute__")
        if isinstance(asks, types.FunctionType):
            return self.comes_from(asks)
        if isinstance(found, types.MemberDescriptorType | types.GetSetDescriptorType):
            value = attribute_of(owner, name)
            if value is MISSING or name == "__dict__":
                return UNKNOWN if value is MISSING else objects.note(fields_of(owner))
            return log.guard("attribute", owner, name, value)
        if found is not MISSING and hasattr(type(found), "__set__"):
            return self._by_descriptor(owner, found)
        fields = fields_of(owner)
        if name in fields:
            return objects.note(fields[name]) if is_module(owner) else log.guard("attribute", owner, name, fields[name])
        if is_module(owner) and (value := attribute_of(owner, name)) is not MISSING:
            return objects.note(value) if found is MISSING else log.guard("attribute", owner, name, value)
        return self._missing(owner, name) if found is MISSING else self._on_class(owner, name, found)

    def _by_descriptor(self, owner: object, found: object) -> object:
        getter = found.fget if isinstance(found, property) else in_class(type(found), "__get__")
        self.objects.note(found)
        if isinstance(getter, types.FunctionType) and is_followed(getter.__code__.co_filename):
            return self.comes_from(getter)
        self.consume(owner, False)
        return self.comes_from(getter)

    def _missing(self, owner: object, name: str) -> object:
        """An attribute that only `__getattr__` can give."""
        getter = in_class(type(owner), "__getattr__")
        if isinstance(owner, weakref.ProxyTypes):
            return self._plain_read(owner, name)
        if is_module(owner) or isinstance(owner, Value):
            return UNKNOWN
        if isinstance(getter, types.FunctionType):
            return self.comes_from(getter)
        return self._plain_read(owner, name)  # a getter in C, as dict.__getitem__, or none

    def _plain_read(self, owner: object, name: str) -> object:
        try:
            value = getattr(owner, name)
        except Exception:  # it is not there
            self.log.guard("called", hasattr, (owner, name), False)
            return UNKNOWN
        if isinstance(value, types.MethodType):
            return self.objects.note(value)
        return self.log.guard("attribute", owner, name, value)

    def _on_class(self, owner: object, name: str, found: object) -> object:
        log, objects = self.log, self.objects
        if isinstance(found, types.FunctionType):
            objects.note(found)
            if not is_library_object(owner) and is_followed_module(type(owner).__module__):
                log.guard("method", owner, name, found)
            return Bound(found, owner)
        if isinstance(found, classmethod | staticmethod):
            return objects.note(getattr(owner, name))
        if isinstance(owner, tuple) and type(found).__name__ == "_tuplegetter":
            return objects.note(getattr(owner, name))
        if hasattr(type(found), "__get__"):
            getter = in_class(type(found), "__get__")
            if isinstance(getter, types.FunctionType):
                return self._by_descriptor(owner, found)
            return Bound(name, owner)
        return log.guard("attribute", owner, name, found)

    def _of_own(self, owner: object, name: str) -> object:
        """An attribute of an object that the step has made. It needs no guard, but its value and its class may be foreign."""
        found = in_class(type(owner), name)
        if isinstance(found, property):
            return self.comes_from(found.fget)
        fields = fields_of(owner)
        if name in fields:
            return fields[name]
        if isinstance(found, types.FunctionType):
            self.objects.note(found)
            return Bound(found, owner)
        if isinstance(found, types.MemberDescriptorType):
            value = attribute_of(owner, name)
            return UNKNOWN if value is MISSING else value
        if isinstance(owner, tuple) and type(found).__name__ == "_tuplegetter":
            return getattr(owner, name)
        if found is not MISSING and not hasattr(type(found), "__get__"):
            return self.log.guard("attribute", type(owner), name, found)
        if isinstance(found, classmethod | staticmethod):
            return self.objects.note(getattr(owner, name))
        if found is MISSING:
            return self._attribute_of_any(name)
        return Bound(name, owner)

    def _above(self, owner: Super, name: str) -> object:
        """The attribute of super()."""
        classes = type(owner.owner).__mro__ if not isinstance(owner.owner, type) else owner.owner.__mro__
        after = classes[classes.index(owner.start) + 1 :] if owner.start in classes else classes
        found = next((base.__dict__[name] for base in after if name in base.__dict__), MISSING)
        if isinstance(found, types.FunctionType):
            self.objects.note(found)
            return Bound(found, owner.owner)
        if isinstance(found, property):
            return self.comes_from(found.fget)
        if found is MISSING or hasattr(type(found), "__get__"):
            return UNKNOWN if found is MISSING else Bound(name, owner.owner)
        base = next(base for base in after if name in base.__dict__)
        return self.log.guard("attribute", base, name, found)

    def comes_from(self, function: object) -> object:
        """A value that a Python function is about to return."""
        if isinstance(function, types.FunctionType):
            self.expected = self.objects.note(function).__code__
            self.calling = function
        return UNKNOWN

    # ---- items ----

    def item(self, owner: Any, key: Any) -> object:
        """The value of `owner[key]`."""
        if owner is UNKNOWN or isinstance(owner, (Value, Symbol)):
            self.consume(key)
            return self._item_of_any(key) if owner is UNKNOWN else UNKNOWN
        if isinstance(owner, tuple | str | bytes | range):
            return self._plain_item(owner, key) if in_class(type(owner), "__getitem__") in _PLAIN_ITEMS else UNKNOWN
        getter = in_class(type(owner), "__getitem__")
        if not self.objects.is_foreign(owner):
            if isinstance(getter, types.FunctionType):
                return self.comes_from(getter)
            return self._plain_item(owner, key) if type(owner) in (list, dict, OrderedDict) else UNKNOWN
        if isinstance(getter, types.FunctionType) and (is_module(owner) or is_followed(getter.__code__.co_filename)):
            return self.comes_from(getter)
        if owner is os.environ and isinstance(key, str):
            return self.reads_again(os.environ.get, (key,))
        is_view = isinstance(owner, np.ndarray) and isinstance(key, slice)
        if isinstance(getter, types.FunctionType) or not (is_key(key) or is_view):
            self._consume_all(owner)
            return UNKNOWN
        try:
            value = owner[key]
        except Exception:  # the step meets it as well
            self.guard_absence(owner, key)
            return UNKNOWN
        if isinstance(owner, np.ndarray) and isinstance(value, np.ndarray):
            return self.objects.note(value)
        return self.log.guard("item", owner, key, value)

    def _plain_item(self, owner: Any, key: Any) -> object:
        try:
            return owner[key] if is_key(key) else UNKNOWN
        except Exception:  # the step meets it as well
            return UNKNOWN

    def _item_of_any(self, key: object) -> object:
        """An item of an UNKNOWN object: guard it in each foreign container or array that it may be."""
        if not is_key(key):
            return UNKNOWN
        for owner in list(self.objects.foreign.values()):
            if isinstance(owner, dict):
                if key in owner and not isinstance(in_class(type(owner), "__getitem__"), types.FunctionType):
                    self.log.guard("item", owner, key, dict.__getitem__(owner, key))
            elif isinstance(owner, list) and type(key) is int and -len(owner) <= key < len(owner):
                self.log.guard("item", owner, key, owner[key])
            elif isinstance(owner, np.ndarray) and owner.size <= LIMIT:
                self.log.content(owner)
        return UNKNOWN

    def guard_absence(self, owner: object, key: object) -> None:
        if isinstance(owner, dict):
            self.log.guard("called", owner.__contains__, (key,), False)
        else:
            self._consume_all(owner)

    def _consume_all(self, owner: object) -> None:
        """Read all of a container, or of an object of the standard library that is one."""
        if isinstance(owner, (*CONTAINERS, np.ndarray)):
            self.log.content(owner)
        else:
            self.consume(owner)

    def contains(self, x: Any, container: Any) -> None:
        """`x in container`."""
        if container is UNKNOWN or isinstance(container, NUMBERS):
            return
        plain = isinstance(container, dict | set) and in_class(type(container), "__contains__") in _PLAIN_CONTAINS
        if plain and self.objects.is_foreign(container) and is_key(x) and x is not UNKNOWN:
            self.log.guard("called", container.__contains__, (x,), x in container)
        elif container is os.environ and isinstance(x, str):
            self.reads_again(os.environ.get, (x,))
        elif not has_followed(container, "__contains__", "__iter__"):
            self.consume(container)

    def truth(self, x: object) -> object:
        """`if x`."""
        if isinstance(x, CONTAINERS) and self.objects.is_foreign(x):
            self.log.guard("called", bool, (x,), bool(x))
        elif isinstance(x, np.ndarray):
            self.consume(x)
        return UNKNOWN

    def length(self, x: object) -> object:
        """`len(x)`."""
        if isinstance(x, (*CONTAINERS, np.ndarray)) and self.objects.is_foreign(x):
            return self.log.guard("length", x, None, len(x))  # type: ignore[arg-type]
        if isinstance(x, tuple | str | bytes):
            return len(x)
        own = in_class(type(x), "__len__")
        if isinstance(own, types.FunctionType) and not is_library_object(x):
            if not is_followed(own.__code__.co_filename):
                self.consume(x)
            return self.comes_from(own)
        return UNKNOWN

    def operand(self, *operands: object) -> None:
        """Foreign objects are operands of a comparison or of arithmetic."""
        for x in operands:
            if isinstance(x, (*CONTAINERS, np.ndarray, tuple)):
                self.consume(x)
            elif x is not UNKNOWN and not isinstance(x, (*FIXED, Value)):
                compares = in_class(type(x), "__eq__")
                if compares is not object.__eq__ and not has_followed(x, "__eq__"):
                    self.consume(x)

    def shown(self, x: object) -> None:
        """A foreign object is formatted."""
        shows = in_class(type(x), "__repr__")
        if shows is not object.__repr__ and not has_followed(x, "__format__", "__str__", "__repr__"):
            self.consume(x)

    def matched(self, subject: object, kind: object, names: object) -> None:
        """A class pattern reads attributes of the subject."""
        positions = in_class(kind, "__match_args__") if isinstance(kind, type) else ()
        for each in (names, positions):
            for name in each if isinstance(each, tuple) else ():
                self.attribute(subject, name)
        self.expected = None
        self.consume(subject)

    def imported(self, name: str, names: object, level: int, space: Mapping[str, object]) -> object:
        """The result of `import name`, or `from name import names`, inside a function."""
        if level:
            package = str(space.get("__package__") or space.get("__name__", "")).split(".")
            name = ".".join([*package[: len(package) - level + 1], *([name] if name else [])])
        return sys.modules.get(name if names else name.partition(".")[0], UNKNOWN)

    def reads_again(self, function: Callable[..., object], args: tuple[object, ...]) -> object:
        """A lookup function of the standard library without side effects: guarded by calling it again."""
        try:
            return self.log.guard("called", function, args, function(*args))
        except Exception:  # the step meets it as well
            return UNKNOWN

    def refuse_call(self, function: object, owner: object, name: str) -> None:
        refused = refusal(function, owner, name)
        if refused is not None:
            message, source = refused
            self.log.refuse_with(message.format(place=self.log.where(), source=source))

    # ---- writes ----

    def store_attribute(self, owner: object, name: str) -> None:
        """`owner.name = ...` or `del owner.name`."""
        log, objects = self.log, self.objects
        if owner is UNKNOWN:
            for one in [*objects.with_attribute(name), *(kind for kind in objects.classes() if name in kind.__dict__)]:
                log.wrote(Location("attribute", one, name), f"{getattr(one, '__name__', type(one).__name__)}.{name}")
            return
        if isinstance(owner, Symbol | Bound | Super):
            return
        if isinstance(owner, Value):
            if not hasattr(type(owner), name) and not objects.is_made_inside(owner):
                log.wrote(Location("attribute", owner, name), f"{type(owner).__name__}.{name}")
            return
        if isinstance(owner, types.ModuleType | type) or objects.is_foreign(owner):
            kind = owner.__name__ if isinstance(owner, types.ModuleType | type) else type(owner).__name__
            log.wrote(Location("attribute", owner, name), f"{kind}.{name}")

    def store_item(self, owner: object, key: object) -> None:
        """`owner[key] = ...` or `del owner[key]`."""
        if owner is UNKNOWN:
            for one in list(self.objects.foreign.values()):
                if isinstance(one, dict | list | np.ndarray):
                    self.wrote_content(one, "[...]")
            return
        if isinstance(owner, Value | Symbol) or not self.objects.is_foreign(owner):
            return
        what = f"{type(owner).__name__}[{'...' if key is UNKNOWN else repr(key)}]"
        if isinstance(owner, dict) and is_key(key):
            self.log.wrote(Location("item", owner, key), what)
        elif isinstance(owner, (*CONTAINERS, np.ndarray)):
            self.log.wrote(Location("content", owner), what)
        elif not has_followed(owner, "__setitem__"):
            for _, value in own_attributes(owner):  # os.environ, a UserDict, a ChainMap
                for one in value if isinstance(value, list) else [value]:
                    if isinstance(one, CONTAINERS):
                        self.log.wrote(Location("content", one), what)

    def wrote(self, kind: str, owner: object, key: object) -> None:
        """A variable is about to be written."""
        self.log.wrote(Location(kind, owner, key), f"the variable {key}")

    def wrote_content(self, owner: object, name: str) -> None:
        """A container or array is changed in place by the method or operator `name`."""
        if isinstance(owner, (*CONTAINERS, np.ndarray)) and self.objects.is_foreign(owner):
            self.log.wrote(Location("content", owner), f"{type(owner).__name__}.{name}")


_PLAIN_ITEMS = [kind.__getitem__ for kind in (tuple, str, bytes, range)]
_PLAIN_CONTAINS = [dict.__contains__, set.__contains__]


def is_key(key: object) -> bool:
    """Whether a value is known and can be a key: a plain value, a class, or a tuple of these."""
    if isinstance(key, tuple):
        return all(map(is_key, key))
    return (key is not UNKNOWN and isinstance(key, (*NUMBERS, type(None), type))) or _is_member(key)


def _is_member(key: object) -> bool:
    return isinstance(type(key), EnumMeta)


def has_followed(x: object, *names: str) -> bool:
    """Whether one of these methods of an object is Python code that is followed."""
    found = [in_class(type(x), name) for name in names]
    return any(isinstance(f, types.FunctionType) and is_followed(f.__code__.co_filename) for f in found)


def is_iterator(x: object) -> bool:
    """Whether taking the next item of `x` changes it."""
    return hasattr(type(x), "__next__") and not isinstance(x, Value)


def is_library_object(x: object) -> bool:
    """Whether an object belongs to this package, or is a network: its state is tracked elsewhere."""
    return (
        is_module(x)
        or type(x).__module__.partition(".")[0] == __package__.partition(".")[0]
        or "param_groups" in fields_of(x)
    )


def is_user_attribute(tensor: object, name: str) -> bool:
    """Whether the user has set this attribute of a Tensor."""
    return name in tensor.__dict__ and not hasattr(type(tensor), name) and name not in ("array", "symbol")


def own_attributes(x: object) -> Iterable[tuple[str, object]]:
    """The attributes of an object itself, in its dict and its slots."""
    for name, value in list(fields_of(x).items()):
        if isinstance(name, str):
            yield name, value
    for base in type(x).__mro__:
        for name, found in base.__dict__.items():
            if isinstance(found, types.MemberDescriptorType) and (value := attribute_of(x, name)) is not MISSING:
                yield name, value
