"""Many steps, one call after another (floor 4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...core.value import Value
from ...creation import stack
from ...ops.loop import tree_map
from ...tensor import Tensor
from ..trace.traced_step import IndexFault

Progress = Callable[[int], object]
CHUNK = 0.05  # seconds between two calls of `progress`, about


def run_in_turn(
    call: Callable[[int], Any], steps: int, per_step: Mapping[Tensor, np.ndarray], progress: Progress | None
) -> Any:
    """Make `call` with the number of each step. Returns the results off the tape, each Tensor stacked along a new first axis.

    per_step: the value of a Tensor in each step, (S, ...). Raises IndexFault with the number of the first bad step.
    """
    results: list[Any] = []
    told = time.perf_counter()
    for number in range(steps):
        for tensor, values in per_step.items():
            tensor.assign(values[number])
        try:
            result = call(number)
        except IndexFault:
            raise IndexFault(number) from None
        # A copy, which later steps cannot overwrite.
        results.append(tree_map(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, result))
        if progress is not None and (number == steps - 1 or time.perf_counter() - told > CHUNK):
            progress(number + 1)
            told = time.perf_counter()
    return tree_map(lambda *values: stack(values) if isinstance(values[0], Value) else values[0], *results)
