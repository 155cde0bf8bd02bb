"""Functions and networks run as native programs, and what to do where that is not possible (floor 6).

A program costs up to a second to compile, the first time on a machine, so a few rows go through a network eagerly.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ..compiler.step import compile
from ..errors import TraceError
from ..modes import no_grad
from ..nn import Module
from ..tensor import Tensor

EVALUATION_BATCH = 2048
WORTH_COMPILING = 2000  # rows


class Native:
    """`function` compiled; from the first call on that cannot be, it runs eagerly, and a warning says so and why."""

    def __init__(self, function: Callable[..., Any], eager: bool = False) -> None:
        self.function = function
        self.eager = eager
        self.compiled = compile(function)

    def __call__(self, *args: Any) -> Any:
        if not self.eager and self.compiled.last is None and importlib.util.find_spec("llvmlite") is None:
            self._give_up("llvmlite is not installed; pip install llvmlite")
        if not self.eager:
            try:
                return self.compiled(*args)
            except TraceError as error:  # and nothing has been written: see compiler/trace.py
                self._give_up(error)
        return self.function(*args)

    def _give_up(self, why: Any) -> None:
        self.eager = True
        warnings.warn(f"not compiled, so it runs operation by operation, more slowly: {why}", stacklevel=1)


class Forward:
    """What a network says of many rows, without gradients, batch by batch: raw outputs (N, ...) from arrays (N, ...)."""

    def __init__(self, network: Module, eager: bool = False) -> None:
        self.network = network
        self.native = Native(network, eager)

    def __call__(self, inputs: list[np.ndarray]) -> np.ndarray:
        # How many rows there are, and nothing else, decides how they run: a training that is resumed has to judge its
        # weights by the same bits.
        n = len(inputs[0])
        run = self.native if n >= WORTH_COMPILING else self.network
        # Batches of one size need one program. The last may begin with rows that the one before it has had.
        size = -(-n // -(-n // EVALUATION_BATCH))
        starts = [min(i, n - size) for i in range(0, n, size)]
        with no_grad():
            parts = [run(*(Tensor(a[i : i + size]) for a in inputs)).array for i in starts]
        return np.concatenate([*parts[:-1], parts[-1][len(parts) * size - n :]])
