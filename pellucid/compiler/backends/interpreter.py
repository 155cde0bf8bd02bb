"""A recorded step run by the plain interpreter: where llvmlite is not installed, and where a test wants an oracle (floor 4).

It keeps what compiling promises besides speed: the same calls, the same errors, the same state afterwards.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...core.op import new_value
from ...core.value import Symbol
from ...errors import IndexRangeError
from ...tensor import ConsumedGradient, Tensor
from ..ir.graph import Graph, Input, dependents, evaluate
from ..trace.outputs import GradientBindings, make_unflatten, output_tensor, refusing_nodes
from ..trace.tape_node import put_on_tape
from ..trace.traced_step import IndexFault, TracedStep

_one_at_a_time = threading.RLock()  # interpreted programs take turns, as compiled ones do that share state


class InterpretedProgram:
    """One recording, interpreted. It takes the place of a `Program`."""

    is_whole = False  # many steps are so many calls

    def __init__(self, recording: TracedStep) -> None:
        self.recording = recording
        self.graph: Graph = recording.graph
        self.owners = GradientBindings(recording)
        self.nodes = refusing_nodes(recording)
        self.rebuild = make_unflatten(recording, self.owners)
        locks = {slot.owner.lock for slot in self.graph.inputs if slot.owner is not None and slot.owner.lock}
        self.locks = [_one_at_a_time, *sorted(locks, key=id)]

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        with contextlib.ExitStack() as held:
            for lock in self.locks:
                held.enter_context(lock)
            return self._call(tensors)

    def _call(self, tensors: Sequence[Tensor]) -> Any:
        graph = self.graph
        arrays = {slot.symbol: self._array(slot, tensors) for slot in graph.inputs if slot.kind != "cotangent"}
        late = dependents(graph, "cotangent")
        try:
            evaluate([s for s in graph.symbols if s not in late], arrays)
        except IndexRangeError:
            raise IndexFault(0) from None
        read = lambda symbol: arrays[symbol] if symbol.constant is None else symbol.constant
        tracked = self.recording.tracked
        results = [np.array(read(s)) for s in graph.outputs[: len(tracked)]]
        for (slot, _), array in zip(graph.writes, [read(s) for _, s in graph.writes], strict=True):
            if slot.kind == "gradient":
                self.owners.keep(slot, np.array(array), tensors)
            else:
                owner = slot.owner if slot.kind == "state" else tensors[slot.position]
                owner.rebind(np.array(array))
        self.owners.leave(tensors)
        if self.recording.leaves is None:
            return self.rebuild([output_tensor(*result) for result in zip(results, self.nodes, strict=True)], tensors)
        values = [new_value(array) for array in results]
        inputs = [self.owners.now(leaf, tensors) for leaf in self.recording.leaves]
        put_on_tape(values, tracked, inputs, lambda given: self._backward(arrays, given))
        return self.rebuild(values, tensors)

    def _backward(self, arrays: dict[Symbol, np.ndarray], cotangents: Mapping[Any, Tensor]) -> list[Tensor]:
        """dL/d(leaf) for each leaf, on the numbers that the forward phase has left."""
        graph, known = self.graph, dict(arrays)
        late = dependents(graph, "cotangent")
        for slot in graph.inputs:
            if slot.kind == "cotangent":
                given = cotangents.get(slot.position)
                known[slot.symbol] = np.zeros(slot.symbol.shape, slot.symbol.dtype) if given is None else given.array
        evaluate([s for s in graph.symbols if s in late], known)
        read = lambda symbol: known[symbol] if symbol.constant is None else symbol.constant
        return [new_value(np.array(read(s))) for s in graph.outputs[len(self.recording.tracked) :]]

    def _array(self, slot: Input, tensors: Sequence[Tensor]) -> np.ndarray:
        if slot.kind == "argument":
            return tensors[slot.position].array
        if slot.kind == "state":
            return slot.owner.array
        grad = self.owners.now(slot.owner, tensors)._grad
        return (
            np.zeros(slot.symbol.shape, slot.symbol.dtype)
            if grad is None or isinstance(grad, ConsumedGradient)
            else grad.array
        )
