"""Many steps, one call after another (floor 4)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
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

    per_step: the value of a Tensor in each step, (S, ...); it holds what it held before afterwards. Raises IndexFault with the number of the first bad step.
    """
    results: list[Any] = []
    told = time.perf_counter()
    with kept(per_step):
        for number in range(steps):
            assign_step(per_step, number)
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


def assign_step(per_step: Mapping[Tensor, np.ndarray], step: int) -> None:
    """Assign each Tensor its value in this step."""
    for tensor, values in per_step.items():
        tensor.assign(values[step])


@contextlib.contextmanager
def kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Afterwards the Tensors hold what they held before."""
    before = [(tensor, tensor.array) for tensor in tensors]
    try:
        yield
    finally:
        for tensor, array in before:
            tensor.assign(array)
