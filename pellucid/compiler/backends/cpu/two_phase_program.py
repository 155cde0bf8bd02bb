"""Two-phase programs: forward and backward in one memory plan, run by separate calls (floor 4).

What the forward phase has saved has to stay until the backward phase has read it. So each call takes a free workspace, and
returns it when its Node on the tape is gone.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....core.op import new_value
from ....core.value import traced_or_array
from ....errors import PellucidError
from ....tensor import Tensor
from ...trace.tape_node import put_on_tape
from ...trace.traced_step import IndexFault, TracedStep
from . import thread_pool
from .context import Workspace
from .program import Program
from .state_buffers import HeldLocks


class PendingBackward:
    """A call whose backward may still come. arguments: as they were at the call."""

    def __init__(self, program: TwoPhaseProgram, workspace: Workspace, arguments: Sequence[Tensor]) -> None:
        self.program, self.workspace, self.arguments = program, workspace, arguments

    def __call__(self, cotangents: Mapping[int, Tensor]) -> Sequence[Tensor | None]:
        return self.program.backward(self, cotangents)


class TwoPhaseProgram(Program):
    """A Program whose results stay on the tape."""

    is_whole = False  # each step is a call of its own

    def __init__(self, traced: TracedStep, disabled: frozenset[str] = frozenset()) -> None:
        super().__init__(traced, disabled)  # without shared workspaces: calls keep theirs
        assert traced.leaves is not None
        self.backward_backoff = thread_pool.ThreadBackoff()
        self.workspaces: list[tuple[Workspace, weakref.ref[PendingBackward] | None]] = [(self.context.workspace, None)]
        late = {s for launch in self.plan.launches[self.plan.forward_count :] for s in launch.reads}
        read = [entry.owner for entry in self.graph.inputs if entry.kind == "state" and entry.symbol in late]
        traced_entry = set(map(id, traced.leaves))
        # The inputs of the Node: Tensors that get a gradient, and Tensors that may not change before the backward.
        self.leaves, self.read = traced.leaves, [x for x in read if id(x) not in traced_entry]
        self.fixed = read

    def _call(self, tensors: Sequence[Tensor]) -> Any:
        number = self._idle()
        self.context.use(self.workspaces[number][0])
        self.prepare(tensors)
        self._run(0, self.executable.lowered.forward, self.backoff)
        self.context.workspace.raise_flagged()
        values = self.values()
        waiting = PendingBackward(self, self.context.workspace, [new_value(traced_or_array(x)) for x in tensors])
        self.workspaces[number] = self.context.workspace, weakref.ref(waiting)
        inputs = [self.bindings.resolve(leaf, tensors) for leaf in self.leaves] + self.read
        put_on_tape(values, self.traced.tracked, inputs, waiting)
        for tensor in self.fixed:  # a later write raises its version, so that the backward is refused
            tensor.storage.tell_others(tensor, self.state.changed)
        self.inputs.store_written(self.bindings, tensors)
        return self.unflatten(values, tensors)

    def _idle(self) -> int:
        """The number of a free workspace."""
        for number, (_, user) in enumerate(self.workspaces):
            if user is None or user() is None:
                return number
        self.workspaces.append((self.context.new_workspace(), None))
        return len(self.workspaces) - 1

    def _run(self, first: int, end: int, pace: thread_pool.ThreadBackoff) -> None:
        if end - first > 1:
            return self.run_segments(first, end)
        began = time.perf_counter()
        thread_pool.run(self.entry_points[first], self.context.address, pace.threads)
        pace.note(began, time.perf_counter())

    def values(self) -> list[Tensor]:
        """The results of the last run as Tensors, not on the tape yet."""
        return [new_value(view.copy()) for view in self.context.workspace.results[: len(self.traced.tracked)]]

    def backward(self, waiting: PendingBackward, cotangents: Mapping[int, Tensor]) -> Sequence[Tensor | None]:
        """dL/d(leaf) for each leaf, and None for Tensors that are only read, from dL/d(output) by output."""
        with HeldLocks(self.state.locks):
            self.context.use(waiting.workspace)
            self.prepare(waiting.arguments)
            held = []
            for index, number in self.inputs.cotangents:
                entry = self.graph.inputs[number]
                given = cotangents.get(entry.position)
                array = np.zeros(entry.symbol.shape, entry.symbol.dtype) if given is None else given.array
                held.append(np.ascontiguousarray(array, entry.symbol.dtype))
                self.context.table[index] = held[-1].ctypes.data
            self._run(self.executable.lowered.forward, len(self.entry_points), self.backward_backoff)
            try:
                self.context.workspace.raise_flagged()
            except IndexFault:
                raise PellucidError(
                    "backward through a compiled function: an index was out of range there and was not in the forward; "
                    "expected both to look at the same indices; please report it"
                ) from None
            gradients = self.context.workspace.results[len(self.traced.tracked) :]
            return [new_value(view.copy()) for view in gradients] + [None] * len(self.read)
