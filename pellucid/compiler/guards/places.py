"""One place of Python's state: how it is read without running the user's code, compared, and written back (floor 4)."""

from __future__ import annotations

import array
import operator
import threading
import types
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

MISSING: Any = type(
    "Missing", (), {"__repr__": lambda self: "nothing"}
)()  # what stands in an attribute that is not there
NUMBERS = (int, float, bool, str, bytes, complex, np.generic)  # compared by value
VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
MAPPINGS = (dict, types.MappingProxyType)
# What has a content: objects that C code may read without a frame of Python's being seen.
CONTAINERS = (list, set, deque, bytearray, memoryview, array.array, *MAPPINGS, *VIEWS)
_BYTES = (bytearray, memoryview)


def differs(now: Any, then: Any) -> bool:
    """Whether two values that are not the same object differ: plain ones may be equal. 2, 2.0 and True differ, and so do
    0.0 and -0.0."""
    kind = type(then)
    if type(now) is not kind:
        return True
    if kind is float or kind is complex:
        return repr(now) != repr(then)  # tells -0.0 from 0.0, and finds NaN again
    if isinstance(then, np.generic):
        return now.tobytes() != then.tobytes()
    if issubclass(kind, int | str | bytes) and kind.__eq__ in (int.__eq__, str.__eq__, bytes.__eq__):
        return bool(now != then)
    if isinstance(then, tuple):
        return len(now) != len(then) or any(map(_apart, now, then))
    if kind is types.MethodType:
        return now.__self__ is not then.__self__ or now.__func__ is not then.__func__
    if kind is types.BuiltinMethodType:  # obj.append, made anew each time
        return now.__self__ is not then.__self__ or now.__name__ != then.__name__
    if kind is slice or kind is range:
        return repr(now) != repr(then)
    return True


def _apart(now: Any, then: Any) -> bool:
    return now is not then and differs(now, then)


def kept(container: Any) -> Any:
    """A copy of what a container or an array holds, to be compared with later."""
    if isinstance(container, np.ndarray):
        return container.shape, container.tobytes() if container.dtype != object else container.tolist()
    if isinstance(container, MAPPINGS):
        return tuple(container.keys()), tuple(container.values())
    if isinstance(container, set):
        return set(container)
    return bytes(container) if isinstance(container, _BYTES) else tuple(container)


def same_content(container: Any, then: Any) -> bool:
    """Whether a container still holds what `kept` gave: the same objects, or equal plain ones."""
    if isinstance(container, (set, np.ndarray, *_BYTES)):
        return bool(kept(container) == then)
    if isinstance(container, MAPPINGS):
        return _alike(container.keys(), then[0]) and _alike(container.values(), then[1])
    return _alike(container, then)


def _alike(now: Any, then: tuple[Any, ...]) -> bool:
    return len(now) == len(then) and (all(map(operator.is_, now, then)) or not any(map(_apart, now, then)))


class Place(NamedTuple):
    """kind: "attribute", "item" (of a dict or list), "cell" or "content"; key: the name or key there."""

    kind: str
    owner: Any
    key: Any = None

    def read(self) -> Any:
        """What stands there, or MISSING; of a content, a copy."""
        kind, owner, key = self
        if kind == "content":
            return kept(owner)
        if kind == "cell":
            return cell_content(owner)
        if kind == "item":
            if isinstance(owner, dict):
                return dict.get(owner, key, MISSING)
            return owner[key] if -len(owner) <= key < len(owner) else MISSING
        return attribute_of(owner, key)

    def holds(self, value: Any) -> bool:
        """Whether `value`, which `read` once gave, still stands there."""
        if self.kind == "content":
            return same_content(self.owner, value)
        now = self.read()
        return now is value or not differs(now, value)

    def put(self, value: Any) -> None:
        """Write back what `read` gave."""
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
    """What a closure's cell holds; MISSING where it is not filled yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def in_class(kind: type, name: str) -> Any:
    """What a class has under `name`, itself or by inheritance, as it stands there: no descriptor is asked."""
    for base in kind.__mro__:
        fields = base.__dict__
        if name in fields:
            return fields[name]
    return MISSING


def fields_of(owner: Any) -> Mapping[str, Any]:
    """The attributes of an object itself; none where it has slots only."""
    try:
        plain = not isinstance(owner, threading.local)
        fields = object.__getattribute__(owner, "__dict__") if plain else owner.__dict__
    except (AttributeError, TypeError):
        return {}
    return fields if isinstance(fields, Mapping) else {}


def attribute_of(owner: Any, name: str) -> Any:
    """The attribute `name` of an object, read without running any code of the user's; MISSING where that is not to be had."""
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
