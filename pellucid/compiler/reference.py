"""A recorded step run by the plain interpreter: where llvmlite is not installed, and where a test wants an oracle (floor 4).

It keeps what compiling promises besides speed: the same calls, the same errors, the same state afterwards.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import IndexRangeError
from ..op import new_value
from ..tensor import Tensor, UsedUp
from .graph import Graph, Slot, run_reference
from .results import Owners, maker, rebuilder
from .trace import Flagged, Recording

_one_at_a_time = threading.RLock()  # interpreted programs take turns, as compiled ones do that share state


class ReferenceProgram:
    """One recording, interpreted. It takes the place of a `Program`."""

    is_whole = False  # many steps are so many calls

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.graph: Graph = recording.graph
        self.owners = Owners(recording)
        self.results: list[np.ndarray] = []
        self.locks = [_one_at_a_time, *sorted({s.owner.lock for s in self.graph.inputs if s.owner.lock}, key=id)]
        makers = [maker(lambda i=i: self.results[i].copy(), tracked) for i, tracked in enumerate(recording.tracked)]  # type: ignore[misc]
        self.rebuild = rebuilder(recording.result, makers)

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        with contextlib.ExitStack() as held:
            for lock in self.locks:
                held.enter_context(lock)
            return self._call(tensors)

    def _call(self, tensors: Sequence[Tensor]) -> Any:
        values = [self._array(slot, tensors) for slot in self.graph.inputs]
        try:
            self.results, written = run_reference(self.graph, values)
        except IndexRangeError:
            raise Flagged(0) from None
        for (slot, _), array in zip(self.graph.writes, written, strict=True):
            if slot.kind == "gradient":
                self.owners.now(slot.owner, tensors)._grad = new_value(array)
            else:
                owner = slot.owner if slot.kind == "state" else tensors[slot.position]
                owner.rebind(np.array(array))
        self.owners.leave(tensors)
        return self.rebuild()

    def _array(self, slot: Slot, tensors: Sequence[Tensor]) -> np.ndarray:
        if slot.kind == "argument":
            return tensors[slot.position].array
        if slot.kind == "state":
            return slot.owner.array
        grad = self.owners.now(slot.owner, tensors)._grad
        return (
            np.zeros(slot.symbol.shape, slot.symbol.dtype) if grad is None or isinstance(grad, UsedUp) else grad.array
        )
