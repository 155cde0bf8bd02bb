"""Tracked lists and dicts, whose changes raise the state version, so that compiled steps and the optimizer notice them (floor 4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from ..core.state_version import note_change


def _tracking(kind: type, names: Iterable[str]) -> dict[str, Any]:
    """The methods of `kind` with these names, each with `note_change` in front."""

    def tracking(method: Callable[..., Any]) -> Callable[..., Any]:
        def changing(self: Any, *args: Any, **kwargs: Any) -> Any:
            note_change()
            return method(self, *args, **kwargs)

        return changing

    return {name: tracking(getattr(kind, name)) for name in names}


_OF_LISTS = (
    "append",
    "extend",
    "insert",
    "pop",
    "remove",
    "clear",
    "sort",
    "reverse",
    "__setitem__",
    "__delitem__",
    "__iadd__",
)
_OF_DICTS = ("__setitem__", "__delitem__", "pop", "popitem", "clear", "update", "setdefault", "__ior__")

TrackedList: type[list[Any]] = type("TrackedList", (list,), _tracking(list, _OF_LISTS))
TrackedDict: type[dict[Any, Any]] = type("TrackedDict", (dict,), _tracking(dict, _OF_DICTS))
TrackedState: type[defaultdict[Any, Any]] = type("TrackedState", (defaultdict,), _tracking(defaultdict, _OF_DICTS))
