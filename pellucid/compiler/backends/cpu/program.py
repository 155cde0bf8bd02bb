"""Programs: native code bound to the Tensors that a traced step reads and writes (floor 4).

What a call does: look whether anyone touched a Tensor of the step, set the addresses of the arguments, run, copy the
outputs. Everything else was decided when the program was made.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ....ops.loop import tree_leaves
from ....tensor import Tensor
from ...ir.graph import Graph
from ...passes.padded_axes import Padding
from ...trace.outputs import GradientBindings, make_unflatten, output_tensor, refusing_nodes
from ...trace.traced_step import TracedStep, ViewRef
from . import thread_pool
from .bound_inputs import bind_inputs
from .context import Context, Workspaces, as_bytes
from .executable import Executable, bind, get_executable
from .many_steps import run_many
from .memory_plan import MemoryPlan
from .state_buffers import HeldLocks, StateBuffers

if TYPE_CHECKING:
    from .profile import Kernels


class Program:
    """A traced step, compiled and bound to its Tensors.

    workspaces: of programs that never run at the same time; those of one executable share their memory.
    """

    def __init__(
        self, traced: TracedStep, disabled: frozenset[str] = frozenset(), workspaces: Workspaces | None = None
    ) -> None:
        self.traced = traced
        self.executable = get_executable(traced.form, disabled, traced.inference)
        self.graph = _own_graph(self.executable, traced)
        self.bindings = GradientBindings(traced)
        self.unflatten = make_unflatten(traced, self.bindings)
        self.refusing_nodes = refusing_nodes(traced)
        self.context = Context(self.executable, self.graph)
        if self.plan.keeps_copies:  # its copies of weights stay in the arena
            workspaces = None
        if workspaces is None or self.executable not in workspaces:
            workspace = self.context.new_workspace()
            if workspaces is not None:
                workspaces[self.executable] = workspace
        else:
            self.context.use(workspaces[self.executable])
        self.inputs = bind_inputs(self.graph, self.padding, self.context)
        self.state = StateBuffers(self.context, self.inputs.states)
        self.backoff = thread_pool.ThreadBackoff()

    def __del__(self) -> None:
        if "state" in self.__dict__:  # else it was never made
            self.state.release()

    @property
    def padding(self) -> Padding | None:
        return self.traced.padding

    @property
    def plan(self) -> MemoryPlan:
        return self.executable.plan

    @property
    def entry_points(self) -> list[int]:
        return self.executable.entry_points

    # ---- a call ----

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        # Arguments that are the state of other programs, or views of it.
        given = [t for t in tensors if t.storage is not None or t.cell is not None]
        natives = [t.storage if t.cell is None else t.cell.native for t in given]
        state = self.state
        if natives and (
            others := {native.lock for native in natives if native is not None and native.owned and native.lock}
        ):
            with HeldLocks(sorted({*state.locks, *others}, key=id)):
                return self._call(tensors)
        with state.locks[0] if len(state.locks) == 1 else HeldLocks(state.locks):
            if not state.changed:
                return self._call(tensors)
        with HeldLocks(state.locks) as held:
            state.settle(held)
            return self._call(tensors)

    def _call(self, tensors: Sequence[Tensor]) -> Any:
        self.prepare(tensors)
        entry_points = self.executable.entry_points
        if len(entry_points) == 1:
            began = time.perf_counter()
            thread_pool.run(entry_points[0], self.context.address, self.backoff.threads)
            self.backoff.note(began, time.perf_counter())
        else:
            self.run_segments(0, len(entry_points))
        self.context.workspace.raise_flagged()
        self.inputs.store_written(self.bindings, tensors)
        return self.unflatten(self.values(), tensors)

    def prepare(self, tensors: Sequence[Tensor]) -> None:
        """Let the next run read the newest numbers of the states, and these arguments."""
        self.state.prepare()
        self.inputs.set_arguments(self.context, tensors)
        self.inputs.set_gradients(self.bindings, tensors)

    def values(self) -> list[Tensor]:
        """The outputs of the last run as Tensors."""
        results = self.context.workspace.results
        if self.padding is not None:
            results = [self.padding.unpad(i, array) for i, array in enumerate(results)]
        return [output_tensor(results[i].copy(), node) for i, node in enumerate(self.refusing_nodes)]

    def run_segments(self, first: int, end: int) -> None:
        """Run the segments first..end-1: native code, and between them operations without native code."""
        for state in self.inputs.states:
            self.context.regions[state.index] = as_bytes(state.tensor.storage.memory)
        self.context.find_regions([index for index, _ in (*self.inputs.passed, *self.inputs.cotangents)])
        segments = self.executable.lowered.segments
        for entry_point, segment in list(zip(self.entry_points, segments, strict=True))[first:end]:
            thread_pool.run(entry_point, self.context.address)
            if self.context.workspace.flag.value:
                return
            if segment.interpreted is not None:
                self.context.memory.run(segment.interpreted)

    # ---- many steps in one call, and looking inside ----

    @property
    def is_whole(self) -> bool:
        """Whether many steps can run without Python between them."""
        returned = any(isinstance(leaf, Tensor | ViewRef) for leaf in tree_leaves(self.traced.result))
        return len(self.entry_points) == 1 and self.inputs.leaves_nothing_to_python and not returned

    def run_steps(
        self, tensors: Sequence[Tensor], indices: np.ndarray, per_step: Mapping[Tensor, np.ndarray]
    ) -> tuple[Any, int]:
        """Steps of the first rows of `indices` (S, B), for about 50 ms, see `protocol.Program`."""
        with HeldLocks(self.state.locks) as held:
            return run_many(self, held, tensors, indices, per_step)

    def kernels(self, measure: bool, name: str) -> Kernels:
        """What it runs, kernel by kernel; measure=False runs nothing."""
        from .profile import kernels  # only for looking; it imports this file

        return kernels(self, measure)


def _own_graph(executable: Executable, traced: TracedStep) -> Graph:
    """The graph of an executable with the inputs of one of its traces."""
    pairs = zip(executable.graph.inputs, traced.form.graph.inputs, strict=True)
    return bind(executable.graph, [dataclasses.replace(own, symbol=shared.symbol) for shared, own in pairs])
