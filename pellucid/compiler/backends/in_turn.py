"""Many steps, one call after another (floor 4)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ...core.value import Value
from ...ops.loop import tree_map
from ...tensor import Tensor, concatenate


def run_in_turn(call: Callable[[int], Any], steps: int, per_step: Mapping[Tensor, np.ndarray]) -> Any:
    """Make `call` with the number of each step. Returns the results off the tape, each Tensor stacked along a new first axis.

    per_step: the value of a Tensor in each step, (S, ...); it holds what it held before afterwards.
    """
    with kept(per_step):
        rests = ({tensor: values[step:] for tensor, values in per_step.items()} for step in range(steps))
        return joined([one_step(partial(call, step), rest)[0] for step, rest in enumerate(rests)])


def one_step(call: Callable[[], Any], per_step: Mapping[Tensor, np.ndarray]) -> tuple[Any, int]:
    """The result of one step, each Tensor off the tape with a new first axis of 1; a copy, which later steps cannot overwrite."""
    assign_step(per_step, 0)
    result = call()
    return tree_map(lambda leaf: leaf.detach().clone().unsqueeze(0) if isinstance(leaf, Tensor) else leaf, result), 1


def joined(parts: list[Any]) -> Any:
    """The results of steps in turn, each Tensor (S1, ...), (S2, ...) joined along its first axis."""
    if len(parts) == 1:
        return parts[0]
    return tree_map(lambda *values: concatenate(values) if isinstance(values[0], Value) else values[0], *parts)


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
            if tensor.array is not array:
                tensor.assign(array)
