"""Calls: what a call in the user's code reads and writes of foreign objects (floor 4).

Functions of the user's are followed, so a call of them reads nothing by itself. What goes to any other code is read as a
whole, but for the functions and methods in C that are known here.
"""

from __future__ import annotations

import functools
import inspect
import os
import types
import weakref
from collections import UserDict
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from enum import EnumMeta
from typing import Any

import numpy as np

from ...core.value import Symbol, Value
from .followed import is_followed, is_followed_module
from .foreign import UNKNOWN, is_module, items_of, with_layers
from .locations import CONTAINERS, MISSING, Location, attribute_of, fields_of, in_class
from .reader import Bound, Reader, is_iterator, is_key

# Methods in C of list, dict, set, deque and array that write, and those that keep an argument as it is.
WRITERS = {
    "append", "extend", "insert", "pop", "remove", "clear", "sort", "reverse", "update", "setdefault", "popitem", "add",
    "discard", "appendleft", "popleft", "rotate", "extendleft", "__setitem__", "__delitem__", "__iadd__", "__ior__",
    "move_to_end", "put", "fill", "resize", "itemset", "partition", "difference_update", "intersection_update",
    "symmetric_difference_update", "frombytes", "byteswap",
}  # fmt: skip
KEEPERS = {"append", "appendleft", "insert", "add", "setdefault", "__setitem__"}
# Functions in C that look at no content.
LOOKERS = {
    print,
    isinstance,
    issubclass,
    id,
    callable,
    hash,
    vars,
    exec,
    eval,
    weakref.ref,
    weakref.proxy,
    staticmethod,
}


class Calls:
    """Handles the calls of one trace."""

    def __init__(self, reader: Reader) -> None:
        self.reader, self.log, self.objects = reader, reader.log, reader.objects

    def call(self, function: object, args: list[object], names: tuple[str, ...] = ()) -> object:
        """The result of a call, or UNKNOWN. names: of the keyword arguments, which come last."""
        owner = None
        if isinstance(function, functools.partial):
            args = [*function.args, *args, *function.keywords.values()]
            return self.call(function.func, args, (*names, *function.keywords))
        if isinstance(function, Bound):
            owner, function = function.owner, function.function
        elif isinstance(function, types.MethodType):
            owner, function = function.__self__, function.__func__
        elif isinstance(function, types.BuiltinFunctionType | types.MethodWrapperType):
            owner = function.__self__
        name = function if isinstance(function, str) else getattr(function, "__name__", "")
        self.reader.refuse_call(function, owner, name)
        if isinstance(function, types.FunctionType):
            return self._call_function(function, owner, args)
        if function is UNKNOWN or not (callable(function) or isinstance(function, str)):
            for x in args:
                self.reader.consume(x)
            return UNKNOWN
        if name in _BY_NAME and (isinstance(function, str) or owner is not None or len(args) > 1):
            found = self._slot_wrapper(name, owner, args)
            if found is not MISSING:
                return found
        if owner is not None and not isinstance(owner, types.ModuleType | type):
            return self._method(owner, name, args)
        if isinstance(function, type) or not isinstance(function, types.BuiltinFunctionType):
            return self._callable(function, args, names)
        return self._builtin(function, args, names)

    def _call_function(self, function: types.FunctionType, owner: object, args: list[object]) -> object:
        self.reader.expected, self.reader.calling = function.__code__, function
        if is_followed(function.__code__.co_filename):
            if function.__defaults__ and self.objects.is_foreign(function):
                self.log.guard("attribute", function, "__defaults__", function.__defaults__)
            return UNKNOWN  # its own frame tells
        if is_module(owner) and function.__name__ in ("train", "eval"):
            for layer in with_layers(owner):
                self.log.wrote(Location("attribute", layer, "training"), "a Module's training mode")
        lookup = _module_lookup(function, owner)
        if lookup is not None and all(map(is_key, args)):
            self.reader.expected = None
            return self.reader.reads_again(lookup, tuple(args))
        for x in args:
            self.reader.consume(x)
        if owner is not None and not is_module(owner) and not isinstance(owner, type):
            self.reader.consume(owner)
        return UNKNOWN

    def _callable(self, function: object, args: list[object], names: tuple[str, ...]) -> object:
        """A class, or an object that can be called."""
        log, objects = self.log, self.objects
        if function is super:
            return UNKNOWN
        if isinstance(function, weakref.ref):
            return log.guard("called", function, (), function())
        if isinstance(function, functools._lru_cache_wrapper):
            return self._cached(function, args, names)
        if isinstance(function, EnumMeta):
            return UNKNOWN
        attribute = "__init__" if isinstance(function, type) else "__call__"
        runs = in_class(function if isinstance(function, type) else type(function), attribute)
        if isinstance(runs, types.FunctionType):
            objects.note(runs)
            if not isinstance(function, type):
                self.reader.expected, self.reader.calling = runs.__code__, runs
            if is_followed(runs.__code__.co_filename):
                return UNKNOWN
        elif isinstance(function, type) and _keeps_arguments(function):
            return UNKNOWN
        if not is_module(function):
            self.reader.consume(function)
        return self._builtin(function, args, names)

    def _cached(self, function: Any, args: list[object], names: tuple[str, ...]) -> object:
        """A function with a cache, guarded by calling it again, as the eager step does."""
        known = all(is_key(x) or self.objects.is_foreign(x) for x in args) and not names
        if known and not any(isinstance(x, Value) for x in args):
            try:
                value = function(*args)
            except Exception:  # the step meets it as well
                return UNKNOWN
            if not isinstance(value, Value) or not self.objects.is_made_inside(value):
                return self.log.guard("called", function, tuple(args), value)
        return UNKNOWN

    def _method(self, owner: object, name: str, args: list[object]) -> object:
        """A C method of an object."""
        if name == "__next__" or (name == "send" and inspect.isgenerator(owner)):
            self.advance(owner)
        if owner is UNKNOWN or not self.objects.is_foreign(owner):
            if name not in KEEPERS:
                for x in args:
                    self.reader.consume(x)
                self.reader.consume(owner)
            return UNKNOWN
        if isinstance(owner, ContextVar):
            return self.reader.reads_again(owner.get, (None,)) if name == "get" else UNKNOWN
        if isinstance(owner, (*CONTAINERS, np.ndarray)):
            return self._of_container(owner, name, args)
        self.reader.consume(owner)
        for x in args:
            self.reader.consume(x)
        return UNKNOWN

    def _of_container(self, owner: object, name: str, args: list[object]) -> object:
        first = args[0] if args else UNKNOWN
        if name in ("get", "__getitem__", "setdefault") and isinstance(owner, dict) and is_key(first):
            if first in owner:
                getter = in_class(type(owner), "__getitem__")
                value = dict.__getitem__(owner, first)
                if isinstance(getter, types.FunctionType):
                    return self.log.guard("called", owner.get, (first,), value)
                return self.log.guard("item", owner, first, value)
            self.reader.guard_absence(owner, first)
            if name == "get":
                return args[1] if len(args) > 1 else None
        if name in WRITERS:
            if name in ("pop", "popleft", "popitem", "remove", "sort", "reverse", "rotate", "extend", "update"):
                for x in items_of(owner) if not isinstance(owner, np.ndarray) else ():
                    self.objects.note(x)
            self.reader.wrote_content(owner, name)
            if name not in KEEPERS:
                for x in args:
                    self.reader.consume(x)
            return UNKNOWN
        if name == "__contains__":
            self.reader.contains(first, owner)
            return UNKNOWN
        if name == "__len__":
            return self.reader.length(owner)
        self.reader.consume(owner)
        for x in args:
            self.reader.consume(x)
        return UNKNOWN

    def advance(self, iterator: object) -> object:
        """`next(iterator)`. An UNKNOWN iterator may be a foreign one."""
        if iterator is not UNKNOWN:
            self.reader.consume(iterator)
        elif any(is_iterator(x) for x in self.objects.foreign.values()):
            self.reader.refuse_iterator()
        return UNKNOWN

    def _slot_wrapper(self, name: str, owner: object, args: list[object]) -> object:
        """`object.__getattribute__(x, "n")`, `super().__setattr__("n", 1)`, `dict.__getitem__(d, k)`, and their like."""
        if owner is None or isinstance(owner, type):
            owner, args = (args[0], args[1:]) if args else (UNKNOWN, [])
        first = args[0] if args else UNKNOWN
        if name == "__getattribute__" and isinstance(first, str) and owner is not UNKNOWN:
            return self._plain_attribute(owner, first)
        if name in ("__setattr__", "__delattr__") and isinstance(first, str):
            self.reader.store_attribute(owner, first)
            return None
        if name == "__getitem__" and isinstance(owner, dict) and self.objects.is_foreign(owner):
            if is_key(first) and first in owner:
                value = dict.__getitem__(owner, first)
                return self.log.guard("called", dict.__getitem__, (owner, first), value)
            self.reader.consume(owner)
            return UNKNOWN
        if name in ("__setitem__", "__delitem__") and isinstance(owner, dict | list):
            self.reader.wrote_content(owner, name)
            return None
        return MISSING

    def _plain_attribute(self, owner: object, name: str) -> object:
        value = attribute_of(owner, name)
        if value is MISSING or not self.objects.is_foreign(owner):
            return UNKNOWN if value is MISSING else value
        return self.log.guard("called", object.__getattribute__, (owner, name), value)

    def _builtin(self, function: Any, args: list[object], names: tuple[str, ...]) -> object:
        first = args[0] if args else UNKNOWN
        special = _BUILTINS.get(function) if _can_hash(function) else None
        if special is not None and args:
            return special(self, first, args)
        if _can_hash(function) and function in LOOKERS:
            return self._vars(first) if function is vars and args else UNKNOWN
        if function is type and len(args) == 1:
            return UNKNOWN if first is UNKNOWN else type(first)
        home = getattr(function, "__self__", None)
        if (
            not args
            and isinstance(home, types.ModuleType)
            and home.__name__ in _SETTINGS
            and function.__name__[:3] == "get"
        ):
            return self.reader.reads_again(function, ())
        for x in args:
            self.reader.iterate(x) if _can_hash(function) and function in _ITERATING else self.reader.consume(x)
        return UNKNOWN

    def _vars(self, owner: object) -> object:
        if owner is UNKNOWN or not self.objects.is_foreign(owner) or is_module(owner):
            return UNKNOWN
        return self.objects.note(fields_of(owner))

    def _getattr(self, owner: object, args: list[object]) -> object:
        if not isinstance(args[1], str):
            self.reader.consume(owner)
            return UNKNOWN
        value = self.reader.attribute(owner, args[1])
        log, objects = self.log, self.objects
        if (
            value is not UNKNOWN
            or self.reader.expected is not None
            or owner is UNKNOWN
            or isinstance(owner, Value | Symbol)
        ):
            return value
        if objects.is_foreign(owner) and not is_module(owner) and not hasattr(owner, args[1]):
            log.guard("called", hasattr, (owner, args[1]), False)
            return args[2] if len(args) > 2 else UNKNOWN
        return UNKNOWN

    def _hasattr(self, owner: object, args: list[object]) -> object:
        self._getattr(owner, [*args, None])
        self.reader.expected = None
        return UNKNOWN

    def _setattr(self, owner: object, args: list[object]) -> object:
        if isinstance(args[1], str):
            self.reader.store_attribute(owner, args[1])
        elif owner is not UNKNOWN and self.objects.is_foreign(owner) and fields_of(owner):
            self.reader.wrote_content(fields_of(owner), "setattr")
        return None


_BUILTINS: dict[Callable[..., Any], Callable[[Calls, object, list[object]], object]] = {
    len: lambda calls, first, args: calls.reader.length(first),
    getattr: lambda calls, first, args: calls._getattr(first, args) if len(args) > 1 else UNKNOWN,
    hasattr: lambda calls, first, args: calls._hasattr(first, args) if len(args) > 1 else UNKNOWN,
    setattr: lambda calls, first, args: calls._setattr(first, args) if len(args) > 1 else UNKNOWN,
    delattr: lambda calls, first, args: calls._setattr(first, args) if len(args) > 1 else UNKNOWN,
    next: lambda calls, first, args: calls.advance(first),
    bool: lambda calls, first, args: calls.reader.truth(first),
}
_SETTINGS = {"sys", "gc", "posix", "nt", "_locale"}  # modules in C with functions like sys.getrecursionlimit()
_BY_NAME = {"__getattribute__", "__setattr__", "__delattr__", "__getitem__", "__setitem__", "__delitem__"}
_ITERATING = {
    iter,
    list,
    tuple,
    set,
    frozenset,
    dict,
    zip,
    map,
    enumerate,
    filter,
    sorted,
    sum,
    max,
    min,
    any,
    all,
    reversed,
}


def _keeps_arguments(kind: type) -> bool:
    """Whether a class of the user stores its arguments, such as a named tuple."""
    makes = in_class(kind, "__new__")
    return isinstance(makes, types.FunctionType | staticmethod) and is_followed_module(kind.__module__)


def _module_lookup(function: object, owner: object) -> Callable[..., object] | None:
    """A lookup function of the standard library that is cheap to call again; or None."""
    if function is os.getenv:
        return function
    reads = owner is os.environ or isinstance(owner, UserDict)
    return getattr(owner, "get") if reads and function is Mapping.get else None  # noqa: B009  mypy knows no get of it


def _can_hash(x: object) -> bool:
    return type(x) in (type, types.BuiltinFunctionType)
