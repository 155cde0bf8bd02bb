"""The interpreter backend: runs a traced step in NumPy, without llvmlite and as the oracle of tests (floor 4).

Calls, errors and state afterwards are those of a compiled program.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from ...core.op import new_value
from ...core.value import Symbol
from ...errors import IndexRangeError, OptionError
from ...tensor import ConsumedGradient, Tensor
from ..ir.graph import Graph, Input, array_of, dependents, evaluate
from ..trace.outputs import GradientBindings, make_unflatten, output_tensor, refusing_nodes
from ..trace.tape_node import put_on_tape
from ..trace.traced_step import IndexFault, TracedStep
from .in_turn import one_step

NUMBERS = ("scalar", "length")  # kinds of input whose owner is the number itself
_one_at_a_time = threading.RLock()  # one interpreted program runs at a time


class InterpretedProgram:
    """An interpreted step. It has the interface of a `Program`."""

    is_whole = False  # each step is a call of its own

    def __init__(self, traced: TracedStep) -> None:
        self.traced = traced
        self.graph: Graph = traced.graph
        self.bindings = GradientBindings(traced)
        self.nodes = refusing_nodes(traced)
        self.unflatten = make_unflatten(traced, self.bindings)
        owners = [entry.owner for entry in self.graph.inputs if entry.owner is not None and entry.kind not in NUMBERS]
        locks = {owner.lock for owner in owners if owner.lock}
        self.locks = [_one_at_a_time, *sorted(locks, key=id)]

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        with contextlib.ExitStack() as held:
            for lock in self.locks:
                held.enter_context(lock)
            return self._call(tensors)

    def _call(self, tensors: Sequence[Tensor]) -> Any:
        graph = self.graph
        arrays = {entry.symbol: self._array(entry, tensors) for entry in graph.inputs if entry.kind != "cotangent"}
        late = dependents(graph, "cotangent")
        try:
            evaluate([s for s in graph.symbols if s not in late], arrays)
        except IndexRangeError:
            raise IndexFault(0) from None
        tracked = self.traced.tracked
        results = [np.array(array_of(s, arrays)) for s in graph.outputs[: len(tracked)]]
        if self.traced.padding is not None:
            results = [self.traced.padding.unpad(i, array) for i, array in enumerate(results)]
        for (entry, _), array in zip(graph.writes, [array_of(s, arrays) for _, s in graph.writes], strict=True):
            if entry.kind == "gradient":
                self.bindings.store_grad(entry, np.array(array), tensors)
            else:
                owner = entry.owner if entry.kind == "state" else tensors[entry.position]
                owner.rebind(np.array(array))
        self.bindings.apply_grad_state(tensors)
        if self.traced.leaves is None:
            return self.unflatten([output_tensor(*result) for result in zip(results, self.nodes, strict=True)], tensors)
        values = [new_value(array) for array in results]
        inputs = [self.bindings.resolve(leaf, tensors) for leaf in self.traced.leaves]
        put_on_tape(values, tracked, inputs, lambda given: self._backward(arrays, given))
        return self.unflatten(values, tensors)

    def _backward(self, arrays: dict[Symbol, np.ndarray], cotangents: Mapping[int, Tensor]) -> list[Tensor]:
        """dL/d(leaf) for each leaf, from the values of the forward phase."""
        graph, values_of = self.graph, dict(arrays)
        late = dependents(graph, "cotangent")
        for entry in graph.inputs:
            if entry.kind == "cotangent":
                given = cotangents.get(entry.position)
                values_of[entry.symbol] = (
                    np.zeros(entry.symbol.shape, entry.symbol.dtype) if given is None else given.array
                )
        evaluate([s for s in graph.symbols if s in late], values_of)
        return [new_value(np.array(array_of(s, values_of))) for s in graph.outputs[len(self.traced.tracked) :]]

    def run_steps(
        self, tensors: Sequence[Tensor], indices: np.ndarray, per_step: Mapping[Tensor, np.ndarray]
    ) -> tuple[Any, int]:
        """One step, see `protocol.Program`."""
        return one_step(lambda: self([*tensors[:-1], new_value(indices[0])]), per_step)

    def kernels(self, measure: bool, name: str) -> NoReturn:
        """Raise OptionError."""
        raise OptionError(
            f"{name}: kernels() of a program that is interpreted, without native code; expected llvmlite "
            'installed, and no "native" in disable_passes; look at its operations with print(step.graph)'
        )

    def _array(self, entry: Input, tensors: Sequence[Tensor]) -> np.ndarray:
        if entry.kind in NUMBERS:
            return entry.owner
        if entry.kind == "argument":
            array = tensors[entry.position].array
            if self.traced.padding is None:
                return array
            padded = np.zeros(entry.symbol.shape, entry.symbol.dtype)
            self.traced.padding.within(entry.position, padded)[...] = array
            return padded
        if entry.kind == "state":
            return entry.owner.array
        grad = self.bindings.resolve(entry.owner, tensors)._grad
        return (
            np.zeros(entry.symbol.shape, entry.symbol.dtype)
            if grad is None or isinstance(grad, ConsumedGradient)
            else grad.array
        )
