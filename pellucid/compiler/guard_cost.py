"""What the guards of a compiled step cost, and a warning where that is much (floor 4)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

from ..core.origin import user_origin
from .backends import Program
from .guards import Guard, most_costly

# A warning names guards that take more than this share of a step, and more than this many seconds.
MAX_GUARD_SHARE, MIN_GUARD_SECONDS = 0.02, 5e-6
CALLS = 3  # of a program that are measured


class GuardCost:
    """Compares the check of `guards`, which takes `cost` seconds, with the calls of `program`."""

    def __init__(self, program: Program, cost: float, guards: list[Guard]) -> None:
        self.program, self.cost, self.guards = program, cost, guards
        self.best, self.runs = float("inf"), 0

    @property
    def is_known(self) -> bool:
        """Whether enough calls were measured."""
        return self.runs >= CALLS

    def run(self, name: str, call: Callable[[], Any]) -> Any:
        """Call the program by `call`. The last measured call of the step `name` warns where the guards cost too much."""
        start = time.perf_counter()
        result = call()
        self.best, self.runs = min(self.best, time.perf_counter() - start), self.runs + 1
        if self.is_known and self.cost > MAX_GUARD_SHARE * self.best:
            self._warn(name)
        return result

    def _warn(self, name: str) -> None:
        origin, most = user_origin(), ", ".join(map(str, most_costly(self.guards)[:3]))
        warnings.warn_explicit(
            f"{name}: each call of this compiled step spends {self.cost * 1e6:.0f} us on looking again at the Python "
            f"state it reads, {self.cost / self.best:.0%} of its time; most of it is {most}; keep numbers in a few "
            "attributes or in Tensors",
            UserWarning,
            origin.file,
            origin.line,
        )
