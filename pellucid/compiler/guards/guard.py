"""What has to be as it was for a program to be used again (floor 4)."""

from __future__ import annotations

import operator
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from .places import MAPPINGS, VIEWS, differs, kept, same_content


class Guard(NamedTuple):
    """`form` of `owner` at `key` is `value`: the same object, or an equal plain one.

    form: one of FORMS, or "content", where `value` is what `kept` gives of the container or array `owner`.
    place: where the step reads it.
    """

    form: str
    owner: Any
    key: Any
    value: Any
    place: Any

    def __str__(self) -> str:
        owner = getattr(self.owner, "__self__", self.owner) if self.form == "called" else self.owner
        owner = self.key[0] if isinstance(owner, ModuleType) and self.form == "called" and self.key else owner
        kind = owner.__name__ if isinstance(owner, type | ModuleType) else type(owner).__name__
        what = {
            "attribute": f"{kind}.{self.key}", "method": f"{kind}.{self.key}", "item": f"an item of {kind}",
            "cell": f"the variable {self.key}", "length": f"the length of {kind}", "content": f"the content of {kind}",
            "called": f"what is looked up in {kind}",
        }  # fmt: skip
        return f"{what[self.form]} ({self.place})"


# How each form is read, for guard number {i}.
FORMS = {
    "attribute": "o{i}.{key}",
    "method": "o{i}.{key}.__func__",
    "item": "o{i}[k{i}]",
    "cell": "o{i}.cell_contents",
    "length": "len(o{i})",
    "called": "o{i}(*k{i})",
}


def checker(guards: Iterable[Guard]) -> Callable[[], bool]:
    """One function that tells whether all guards hold."""
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
    """The usual case of a guard on a content: the same objects, in the same order."""
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
    """Whether one guard holds, by itself."""
    return checker([guard])()


def seconds(check: Callable[[], bool]) -> float:
    """How long the guards of a program take, the best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        check()
        best = min(best, time.perf_counter() - start)
    return best


def content_guard(owner: Any, place: Any) -> Guard:
    """A guard on all that a container or array holds now."""
    return Guard("content", owner, None, kept(owner), place)


def costly(guards: Iterable[Guard]) -> list[Guard]:
    """The guards that cost most, as a rule: contents of many items first."""
    weight = {"content": 8, "called": 4, "length": 2, "item": 2, "method": 2}
    size = lambda g: len(g.value[1]) if isinstance(g.owner, (*MAPPINGS, np.ndarray)) else len(g.value)
    cost = lambda g: weight.get(g.form, 1) + (size(g) if g.form == "content" else 0)
    return sorted(guards, key=cost, reverse=True)
