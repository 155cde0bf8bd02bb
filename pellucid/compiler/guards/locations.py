"""Locations of Python state: read them without running user code, compare them, and write them back (floor 4)."""

from __future__ import annotations

import array
import operator
import threading
import types
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "nothing"})()  # the value of a missing attribute
NUMBERS = (int, float, bool, str, bytes, complex, np.generic)  # compared by value
VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
MAPPINGS = (dict, types.MappingProxyType)
# Containers, which C code may read without a Python frame.
CONTAINERS = (list, set, deque, bytearray, memoryview, array.array, *MAPPINGS, *VIEWS)
_BYTES = (bytearray, memoryview)


def differs(now: Any, then: Any) -> bool:
    """Whether two different objects differ in value. 2, 2.0 and True differ, and so do 0.0 and -0.0."""
    kind = type(then)
    if type(now) is not kind:
        return True
    if kind is float or kind is complex:
        return repr(now) != repr(then)  # -0.0 differs from 0.0, and NaN equals NaN
    if isinstance(then, np.generic):
        return bool(now.tobytes() != then.tobytes())
    if issubclass(kind, int | str | bytes) and kind.__eq__ in (int.__eq__, str.__eq__, bytes.__eq__):
        return bool(now != then)
    if isinstance(then, tuple):
        return len(now) != len(then) or any(map(_differ, now, then))
    if kind is types.MethodType:
        return now.__self__ is not then.__self__ or now.__func__ is not then.__func__
    if kind is types.BuiltinMethodType:  # obj.append, made anew each time
        return now.__self__ is not then.__self__ or now.__name__ != then.__name__
    if kind is slice or kind is range:
        return repr(now) != repr(then)
    return True


def _differ(now: object, then: object) -> bool:
    return now is not then and differs(now, then)


def snapshot(container: Any) -> Any:
    """A copy of the content of a container or an array, for a later comparison."""
    if isinstance(container, np.ndarray):
        return container.shape, container.tobytes() if container.dtype != object else container.tolist()
    if isinstance(container, MAPPINGS):
        return tuple(container.keys()), tuple(container.values())
    if isinstance(container, set):
        return set(container)
    return bytes(container) if isinstance(container, _BYTES) else tuple(container)


def same_content(container: Any, then: Any) -> bool:
    """Whether a container still holds a snapshot: the same objects, or equal plain values."""
    if isinstance(container, (set, np.ndarray, *_BYTES)):
        return bool(snapshot(container) == then)
    if isinstance(container, MAPPINGS):
        return _alike(container.keys(), then[0]) and _alike(container.values(), then[1])
    return _alike(container, then)


def _alike(now: Any, then: tuple[Any, ...]) -> bool:
    return len(now) == len(then) and (all(map(operator.is_, now, then)) or not any(map(_differ, now, then)))


class Location(NamedTuple):
    """kind: "attribute", "item" (of a dict or list), "cell" or "content"; key: the name or key there."""

    kind: str
    owner: Any
    key: Any = None

    def read(self) -> Any:
        """The value there, or MISSING; for a content, a copy."""
        kind, owner, key = self
        if kind == "content":
            return snapshot(owner)
        if kind == "cell":
            return cell_content(owner)
        if kind == "item":
            if isinstance(owner, dict):
                return dict.get(owner, key, MISSING)
            return owner[key] if -len(owner) <= key < len(owner) else MISSING
        return attribute_of(owner, key)

    def holds(self, value: object) -> bool:
        """Whether the location still has `value`, which `read` gave."""
        if self.kind == "content":
            return same_content(self.owner, value)
        now = self.read()
        return now is value or not differs(now, value)

    def put(self, value: object) -> None:
        """Write back a value that `read` gave."""
        kind, owner, key = self
        if kind == "content":
            _put_content(owner, value)
        elif kind == "cell":
            if value is MISSING:
                del owner.cell_contents
            else:
                owner.cell_contents = value
        elif kind == "item":
            if value is not MISSING:
                owner[key] = value
            elif isinstance(owner, dict):
                dict.pop(owner, key, None)
        elif value is not MISSING:
            setattr(owner, key, value)
        elif key in vars(owner):
            delattr(owner, key)


def _put_content(owner: Any, value: Any) -> None:
    if isinstance(owner, dict):
        dict.clear(owner)
        dict.update(owner, zip(*value, strict=True))
    elif isinstance(owner, np.ndarray):
        if owner.dtype != object:
            owner[...] = np.frombuffer(value[1], owner.dtype).reshape(value[0])
    elif isinstance(owner, set | deque):
        owner.clear()
        (owner.update if isinstance(owner, set) else owner.extend)(value)
    elif isinstance(owner, list | bytearray):
        owner[:] = value


def cell_content(cell: Any) -> Any:
    """The content of a closure cell; MISSING where it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def in_class(kind: type, name: str) -> Any:
    """The entry `name` of a class or its bases, without calling a descriptor."""
    for base in kind.__mro__:
        fields = base.__dict__
        if name in fields:
            return fields[name]
    return MISSING


def fields_of(owner: object) -> Mapping[str, Any]:
    """The instance dict of an object; empty where it has slots only."""
    try:
        plain = not isinstance(owner, threading.local)
        fields = object.__getattribute__(owner, "__dict__") if plain else owner.__dict__
    except (AttributeError, TypeError):
        return {}
    return fields if isinstance(fields, Mapping) else {}


def attribute_of(owner: object, name: str) -> Any:
    """The attribute `name` of an object, read without running user code; MISSING where that is not possible."""
    if isinstance(owner, type):
        return in_class(owner, name)
    fields = fields_of(owner)
    if name in fields:
        return fields[name]
    for home in ("_parameters", "_modules", "_buffers"):  # where a Module keeps them
        if name in fields.get(home, ()):
            return fields[home][name]
    found = in_class(type(owner), name)
    if isinstance(found, types.MemberDescriptorType | types.GetSetDescriptorType):
        try:
            return found.__get__(owner)
        except AttributeError:
            return MISSING
    return MISSING if hasattr(type(found), "__get__") else found
