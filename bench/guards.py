"""What guards cost: tracing an MLP step with and without following Python, finding its program, and one guard of each form.

    python bench/guards.py
    python bench/guards.py --rounds 30

Rounds with and without alternate. Other work on the machine disturbs the figures: run it on a quiet one.
"""

from __future__ import annotations

import argparse
import statistics
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np

import pellucid as P
from pellucid import nn
from pellucid.compiler.guards import Guard, checker
from pellucid.compiler.guards.guard import content_guard
from pellucid.compiler.trace import tracer


class Unwatched:
    """In place of `StateMonitor`: follows nothing, so that the rest of a trace is measured."""

    guards: tuple[Guard, ...] = ()

    def __init__(self, roots: Any, is_made_inside: Any) -> None:
        self.found_ids: set[int] = set()

    def __enter__(self) -> Unwatched:
        return self

    def __exit__(self, *error: Any) -> None: ...

    def changes(self) -> list[Any]:
        return []

    def undo(self) -> None: ...


def mlp_step() -> tuple[Any, tuple[Any, Any]]:
    """The step of bench/compiled.py, compiled, and its arguments."""
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = P.optim.Adam(model.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return P.compile(step), (P.rand(64, 784), P.randint(0, 10, (64,)))


def seconds(function: Callable[[], Any], repeats: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def tracing(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of traces of the MLP step, alternating."""
    step, given = mlp_step()
    step(*given)
    followed, found = tracer.StateMonitor, {"followed": [], "not followed": []}
    for _ in range(rounds):
        for name, monitor in (("followed", followed), ("not followed", Unwatched)):
            tracer.StateMonitor = monitor  # type: ignore[assignment,misc]
            found[name].append(seconds(lambda: step._trace(given, {})) * 1e3)
    tracer.StateMonitor = followed  # type: ignore[misc]
    return found


def one_of_each() -> dict[str, Guard]:
    box, numbers, array = types.SimpleNamespace(w=1.0), {"w": 1.0}, np.arange(8.0)
    cell = (lambda: numbers).__closure__[0]  # type: ignore[index]
    return {
        "attribute": Guard("attribute", box, "w", box.w, None),
        "variable in a cell": Guard("cell", cell, "numbers", numbers, None),
        "item of a dict": Guard("item", numbers, "w", numbers["w"], None),
        "length": Guard("length", numbers, None, 1, None),
        "in": Guard("called", numbers.__contains__, ("w",), True, None),
        "content of 8 items": content_guard([object() for _ in range(8)], None),
        "content of 64 items": content_guard([object() for _ in range(64)], None),
        "array of 8 numbers": content_guard(array, None),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=15)
    rounds = options.parse_args().rounds
    for name, times in tracing(rounds).items():
        print(f"tracing an MLP step, {name}: {statistics.median(times):.1f} ms ({min(times):.1f} to {max(times):.1f})")
    step, given = mlp_step()
    step(*given)
    found = min(seconds(lambda: step._lookup(given, {}), 2000) for _ in range(rounds))
    call = min(seconds(lambda: step(*given), 200) for _ in range(rounds))
    print(f"finding its program: {found * 1e9:.0f} ns of a call of {call * 1e6:.0f} us")
    empty = min(seconds(checker([]), 20000) for _ in range(rounds))
    for name, guard in one_of_each().items():
        cost = min(seconds(checker([guard]), 20000) for _ in range(rounds)) - empty
        print(f"one guard, {name}: {cost * 1e9:.0f} ns")


if __name__ == "__main__":
    main()
