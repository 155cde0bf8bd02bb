"""Compiled inference: functions and networks run as native programs, eagerly where they cannot be compiled (floor 7).

Whether it is compiled is decided once for a run, never by how many rows there are: compiled, a row's answer has the same
bits alone and among others. A program costs up to a second to compile, the first time on a machine. Eagerly NumPy adds up
one row in another order than several, and the last bits differ.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import numpy as np

from ..compiler.backends.in_turn import run_in_turn
from ..compiler.compile import compile_with
from ..compiler.options import StepOptions
from ..data.loader import GatheredDataset
from ..errors import TraceError
from ..models.base import Model, map_batches
from ..tensor import Tensor

Result = TypeVar("Result")


class CompiledFunction(Generic[Result]):
    """`function` compiled; from the first call on that cannot be, it runs eagerly, and a warning says so and why."""

    def __init__(self, function: Callable[..., Result], eager: bool = False) -> None:
        self.function = function
        self.eager = eager
        # A file has as many rows as it has.
        self.compiled: Any = compile_with(function, StepOptions(many_shapes=True))

    def __call__(self, *args: Tensor) -> Result:
        if self._is_native():
            try:
                return self.compiled(*args)
            except TraceError as error:  # and nothing has been written: see compiler/trace/tracer.py
                self._give_up(error)
        return self.function(*args)

    def run_steps(self, indices: np.ndarray, per_step: Mapping[Tensor, np.ndarray]) -> Any:
        """`function` on each row of `indices`, (S, B): the results stacked, as `CompiledStep.run_steps` gives them."""
        if self._is_native():
            try:
                return self.compiled.run_steps(None, indices, per_step=per_step)
            except TraceError as error:  # and nothing has been written: see compiler/trace/tracer.py
                self._give_up(error)
        return run_in_turn(lambda number: self.function(Tensor(indices[number])), len(indices), per_step)

    def _is_native(self) -> bool:
        if not self.eager and self.compiled.last is None and importlib.util.find_spec("llvmlite") is None:
            self._give_up("llvmlite is not installed; pip install llvmlite")
        return not self.eager

    def _give_up(self, why: object) -> None:
        self.eager = True
        warnings.warn(f"not compiled, so it runs operation by operation, more slowly: {why}", stacklevel=1)


class Forward:
    """Raw outputs (N, ...) of a network for arrays (N, ...), without gradients, batch by batch.

    function: what is called in place of the network itself, a method of it.
    """

    def __init__(self, network: Model, eager: bool = False, function: Callable[..., Tensor] | None = None) -> None:
        self.network = network
        self.native = CompiledFunction(function or network, eager)

    def __call__(self, inputs: list[np.ndarray]) -> np.ndarray:
        take = lambda rows: self.native(*(Tensor(a[rows.start : rows.stop]) for a in inputs)).array
        return map_batches(len(inputs[0]), self.network.eval_batch_size, take)


class EvaluationStep:
    """Values (N,) by name of each example of a data set, as the network's `judge` gives them."""

    def __init__(self, network: Model, eager: bool = False) -> None:
        self.network = network
        self.native = CompiledFunction(network.evaluation_step, eager)

    def __call__(self, dataset: GatheredDataset) -> dict[str, np.ndarray]:
        names: list[str] = []

        def take(rows: range) -> np.ndarray:
            results = self.native(*dataset.gather(np.arange(rows.start, rows.stop)))
            names[:] = results
            return np.stack([value.array for value in results.values()], axis=1).astype(np.float64)

        values = map_batches(len(dataset), self.network.eval_batch_size, take)
        return {name: values[:, i] for i, name in enumerate(names)}


def means(values: dict[str, np.ndarray]) -> dict[str, float]:
    """The mean of each value that an `EvaluationStep` gave, over all scored positions."""
    count = values.get("count", np.ones(len(values["loss"])))
    return {name: float(value.sum() / count.sum()) for name, value in values.items() if name != "count"}
