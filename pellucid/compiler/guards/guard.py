"""Guards: conditions on Python state under which a program may be used again (floor 4)."""

from __future__ import annotations

import operator
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ...core.origin import Origin
from .locations import MAPPINGS, VIEWS, differs, same_content, snapshot


class Guard(NamedTuple):
    """`form` of `owner` at `key` is `value`: the same object, or an equal plain one.

    form: one of FORMS, or "content", where `value` is a snapshot of the container or array `owner`.
    origin: the line of the step that reads it.
    """

    form: str
    owner: Any
    key: Any
    value: Any
    origin: Origin

    def __str__(self) -> str:
        owner = getattr(self.owner, "__self__", self.owner) if self.form == "called" else self.owner
        owner = self.key[0] if isinstance(owner, ModuleType) and self.form == "called" and self.key else owner
        kind = owner.__name__ if isinstance(owner, type | ModuleType) else type(owner).__name__
        what = {
            "attribute": f"{kind}.{self.key}", "method": f"{kind}.{self.key}", "item": f"an item of {kind}",
            "cell": f"the variable {self.key}", "length": f"the length of {kind}", "content": f"the content of {kind}",
            "called": f"what is looked up in {kind}",
        }  # fmt: skip
        return f"{what[self.form]} ({self.origin})"


# The code that reads each form, for guard number {i}.
FORMS = {
    "attribute": "o{i}.{key}",
    "method": "o{i}.{key}.__func__",
    "item": "o{i}[k{i}]",
    "cell": "o{i}.cell_contents",
    "length": "len(o{i})",
    "called": "o{i}(*k{i})",
}


def checker(guards: Iterable[Guard]) -> Callable[[], bool]:
    """Compile the guards to one function, which gives whether all of them hold."""
    space: dict[str, Any] = {"differs": differs, "same_content": same_content, "is_": operator.is_}
    lines = ["def check():", "  try:", "    pass"]
    for i, guard in enumerate(guards):
        space[f"o{i}"], space[f"k{i}"], space[f"v{i}"] = guard.owner, guard.key, guard.value
        if guard.form == "content":
            lines.append(f"    if not ({_quick(i, guard)}) and not same_content(o{i}, v{i}): return False")
        else:
            lines.append(f"    x = {FORMS[guard.form].format(i=i, key=guard.key)}")
            lines.append(f"    if x is not v{i} and differs(x, v{i}): return False")
    lines += ["  except Exception: return False", "  return True"]
    exec("\n".join(lines), space)
    check: Callable[[], bool] = space["check"]
    return check


def _quick(i: int, guard: Guard) -> str:
    """A fast check of a content guard, for the usual case: the same objects in the same order."""
    if isinstance(guard.owner, MAPPINGS):
        return (
            f"len(o{i}) == {len(guard.value[0])} and all(map(is_, o{i}, v{i}[0]))"
            f" and all(map(is_, o{i}.values(), v{i}[1]))"
        )
    if isinstance(guard.owner, (list, deque, *VIEWS)):
        return f"len(o{i}) == {len(guard.value)} and all(map(is_, o{i}, v{i}))"
    return "False"


def failing(guards: Iterable[Guard]) -> Guard | None:
    """The first guard that does not hold."""
    return next((guard for guard in guards if not holds(guard)), None)


def holds(guard: Guard) -> bool:
    """Whether one guard holds."""
    return checker([guard])()


def check_seconds(check: Callable[[], bool]) -> float:
    """The seconds that the guards of a program take, the best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        check()
        best = min(best, time.perf_counter() - start)
    return best


def content_guard(owner: object, origin: Origin) -> Guard:
    """A guard on the present content of a container or array."""
    return Guard("content", owner, None, snapshot(owner), origin)


def most_costly(guards: Iterable[Guard]) -> list[Guard]:
    """The guards by estimated cost, contents of many items first."""
    weight = {"content": 8, "called": 4, "length": 2, "item": 2, "method": 2}
    size = lambda g: len(g.value[1]) if isinstance(g.owner, (*MAPPINGS, np.ndarray)) else len(g.value)
    cost = lambda g: weight.get(g.form, 1) + (size(g) if g.form == "content" else 0)
    return sorted(guards, key=cost, reverse=True)
