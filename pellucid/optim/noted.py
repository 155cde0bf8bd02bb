"""Lists and dicts that tell of a change, as setting an attribute of a Module does: compiled steps and the optimizer look again
(floor 4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from ..core.state_version import note_change


def _noting(kind: type, names: Iterable[str]) -> dict[str, Any]:
    """The methods of `kind` with these names, each with `note_change` in front."""

    def noting(method: Callable[..., Any]) -> Callable[..., Any]:
        def changing(self: Any, *args: Any, **kwargs: Any) -> Any:
            note_change()
            return method(self, *args, **kwargs)

        return changing

    return {name: noting(getattr(kind, name)) for name in names}


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

NotedList: type[list[Any]] = type("NotedList", (list,), _noting(list, _OF_LISTS))
NotedDict: type[dict[Any, Any]] = type("NotedDict", (dict,), _noting(dict, _OF_DICTS))
NotedState: type[defaultdict[Any, Any]] = type("NotedState", (defaultdict,), _noting(defaultdict, _OF_DICTS))
