"""Programs: native code bound to the Tensors that a traced step reads and writes (floor 4).

What a call does: look whether anyone touched a Tensor of the step, set the addresses of the arguments, run, copy the
outputs. Everything else was decided when the program was made.
"""

from __future__ import annotations

import ctypes
import dataclasses
import threading
import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ....core.value import Symbol
from ....ops.index import rows
from ....ops.loop import tree_leaves
from ....tensor import ConsumedGradient, Tensor
from ...ir.graph import Input
from ...trace.outputs import GradientBindings, make_unflatten, output_tensor, refusing_nodes
from ...trace.traced_step import IndexFault, TracedStep, ViewRef
from . import thread_pool
from .executable import Executable, bind, get_executable
from .memory_plan import ARENA, INPUTS, OUTPUTS, READY
from .planned_memory import PlannedMemory
from .storage import Buffer, aligned, buffer_of

if TYPE_CHECKING:
    from .profile import Kernels

COPIED = 1 << 14  # bytes: copying a smaller argument is faster than asking NumPy for its address
CHUNK = 0.05  # seconds of native work between checks for signals


class Workspace:
    """The memory of a run.

    arena: intermediate values, with the flag of indices out of range at its beginning. outputs: the memory of the results.
    results: each output in it, as an array that the next run overwrites.
    """

    def __init__(self, arena: np.ndarray, outputs: np.ndarray) -> None:
        self.arena, self.outputs = arena, outputs
        self.addresses = arena.ctypes.data, outputs.ctypes.data
        self.results: list[np.ndarray] = []
        self.flag = ctypes.c_uint8.from_address(arena.ctypes.data)
        self.flagged_step = ctypes.c_int64.from_address(arena.ctypes.data + 8)  # counted from 1

    def raise_flagged(self) -> None:
        """Raise IndexFault if the last run has found an index out of range."""
        if self.flag.value:
            step = max(self.flagged_step.value - 1, 0)
            self.flag.value = self.flagged_step.value = 0
            raise IndexFault(step)


Workspaces = MutableMapping[Executable, Workspace]


class HeldLocks:
    """`with HeldLocks(locks):` holds all of them, acquired in order."""

    __slots__ = ("count", "locks")

    def __init__(self, locks: Sequence[threading.RLock]) -> None:
        self.locks, self.count = locks, 0

    def __enter__(self) -> HeldLocks:
        try:
            for lock in self.locks:
                lock.acquire()
                self.count += 1
        except BaseException:
            self.__exit__()
            raise
        return self

    def exchange(self, locks: Sequence[threading.RLock]) -> None:
        """Release the present locks and hold `locks` instead."""
        self.__exit__()
        self.locks = locks
        self.__enter__()

    def __exit__(self, *error: object) -> None:
        while self.count:
            self.count -= 1
            self.locks[self.count].release()


class Program:
    """A traced step, compiled and bound to its Tensors.

    workspaces: of programs that never run at the same time; those of one executable share their memory.
    """

    def __init__(
        self, traced: TracedStep, disabled: frozenset[str] = frozenset(), workspaces: Workspaces | None = None
    ) -> None:
        self.traced, self.padding = traced, traced.padding
        self.executable = shared = get_executable(traced.form, disabled, traced.inference)
        self.layout, self.plan, self.lowered, self.entry_points = (
            shared.layout,
            shared.plan,
            shared.lowered,
            shared.entry_points,
        )
        if self.plan.keeps_copies:  # its copies of weights stay in the arena
            workspaces = None
        own = zip(shared.graph.inputs, traced.form.graph.inputs, strict=True)
        entries = [dataclasses.replace(shared_entry, symbol=traced_entry.symbol) for traced_entry, shared_entry in own]
        self.graph = bind(shared.graph, entries)
        self.regions: dict[int, np.ndarray] = {}
        self.memory = PlannedMemory(self.plan, self.layout, self.regions)
        self.context = aligned(
            (2 * (INPUTS + self.plan.input_count) + 1,), np.int64
        )  # and a word for the address of the table of times
        self.context_address = self.context.ctypes.data
        workspace = None if workspaces is None else workspaces.get(shared)
        if workspace is None:
            workspace = self.new_workspace()
            if workspaces is not None:
                workspaces[shared] = workspace
        else:
            self.use(workspace)
        # The arrays of the arguments of the last call. They live as long as native code has their addresses.
        self.held_arrays: list[np.ndarray] = []
        self.dirty: set[Tensor] = set()
        self.memories: dict[int, np.ndarray] = {}  # of the states, by index in the context
        self.backoff = thread_pool.ThreadBackoff()
        self.lock = threading.RLock()
        self.locks: list[threading.RLock] = [self.lock]
        self._bind()
        self._find_locks()
        self.refusing_nodes = refusing_nodes(traced)
        self.unflatten = make_unflatten(traced, self.bindings)

    # ---- binding ----

    def new_workspace(self) -> Workspace:
        """New memory for runs, with the constants of the program. It is used from now on."""
        workspace = Workspace(
            aligned((self.plan.arena,), np.uint8), aligned((max(self.plan.output_bytes, 1),), np.uint8)
        )
        self.use(workspace)
        for symbol in self.plan.constants:
            self.memory.stored(symbol)[...] = symbol.constant
        workspace.results = [self.memory.stored(symbol) for symbol in self.graph.outputs]
        return workspace

    def use(self, workspace: Workspace) -> None:
        """Use this memory from the next run on."""
        self.workspace = workspace
        self.regions[ARENA], self.regions[OUTPUTS] = workspace.arena, workspace.outputs
        self.context[ARENA], self.context[OUTPUTS] = workspace.addresses

    def _bind(self) -> None:
        """Give every Tensor of the step its buffer, and find the inputs that each call has to set."""
        written = {id(entry) for entry, _ in self.graph.writes}
        resident = {s.inputs[0] for s in self.graph.symbols if s.op is rows}  # more rows lie behind them: never copied
        self.bindings = GradientBindings(self.traced)
        self.context_index: dict[Tensor, int] = {}
        self.written: set[Tensor] = set()
        self.passed_arguments: list[tuple[int, int]] = []  # (index in the context, position among the arguments)
        self.grads: list[tuple[int, Tensor, np.ndarray]] = []  # gradients that are read
        self.written_grads: list[tuple[Input, np.ndarray]] = []  # gradients that are written
        self.copied_arguments: list[tuple[int, np.ndarray]] = []  # arguments that are copied here
        self.written_arguments: list[tuple[int, np.ndarray]] = []  # those that the step writes
        self.cotangents: list[tuple[int, int]] = []  # (index in the context, number of the input)
        for number, entry in enumerate(self.graph.inputs):
            index, extent = INPUTS + number, self.plan.slices[entry.symbol].size
            if entry.kind == "state":
                storage = buffer_of(entry.owner)
                if id(entry) in written:
                    storage.own(entry.owner, self.lock)
                    self.written.add(entry.owner)
                storage.watchers.append(self.dirty)
                self.context_index[entry.owner] = index
                self.dirty.add(entry.owner)
            elif (
                self.padding is None
                and entry.kind == "argument"
                and id(entry) not in written
                and (extent > COPIED or entry.symbol in resident)
            ):
                self.passed_arguments.append((index, entry.position))
            elif entry.kind == "cotangent":
                self.cotangents.append((index, number))
            else:
                memory = aligned(entry.symbol.shape, entry.symbol.dtype)
                if entry.kind in ("scalar", "length"):
                    memory[...] = entry.owner
                self.regions[index] = _bytes(memory)
                self.context[index] = memory.ctypes.data
                if entry.kind == "argument":
                    within = memory if self.padding is None else self.padding.within(entry.position, memory)
                    self.copied_arguments.append((entry.position, within))
                    if id(entry) in written:
                        self.written_arguments.append((entry.position, memory))
                elif id(entry) in written:
                    self.written_grads.append((entry, memory))
                if entry.kind == "gradient":
                    self.grads.append((index, entry.owner, memory))

    def __del__(self) -> None:
        """Unsubscribe from the buffers of its Tensors."""
        for tensor in self.__dict__.get("number", ()):
            if tensor.storage is not None:
                tensor.storage.watchers = [w for w in tensor.storage.watchers if w is not self.dirty]

    # ---- a call ----

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        # Arguments that are the state of other programs, or views of it.
        given = [t for t in tensors if t.storage is not None or t.cell is not None]
        natives = [t.storage if t.cell is None else t.cell.native for t in given]
        if natives and (
            others := {native.lock for native in natives if native is not None and native.owned and native.lock}
        ):
            with HeldLocks(sorted({*self.locks, *others}, key=id)):
                return self._call(tensors)
        with self.locks[0] if len(self.locks) == 1 else HeldLocks(self.locks):
            if not self.dirty:
                return self._call(tensors)
        with HeldLocks(self.locks) as held:
            self._settle(held)
            return self._call(tensors)

    def _call(self, tensors: Sequence[Tensor]) -> Any:
        self.prepare(tensors)
        if len(self.entry_points) == 1:
            began = time.perf_counter()
            thread_pool.run(self.entry_points[0], self.context_address, self.backoff.threads)
            self.backoff.note(began, time.perf_counter())
        else:
            self.run_segments(0, len(self.entry_points))
        self.workspace.raise_flagged()
        self.finish(tensors)
        return self.unflatten(self.values(), tensors)

    def values(self) -> list[Tensor]:
        """The outputs of the last run as Tensors."""
        results = self.workspace.results
        if self.padding is not None:
            results = [self.padding.unpad(i, array) for i, array in enumerate(results)]
        return [output_tensor(results[i].copy(), node) for i, node in enumerate(self.refusing_nodes)]

    def prepare(self, tensors: Sequence[Tensor]) -> None:
        if self.dirty:
            self._refresh()
        if self.refresh_copies:
            self.workspace.arena[READY] = 0
        context = self.context
        self.held_arrays = held = [tensors[position].array for _, position in self.passed_arguments]
        for i, (index, _position) in enumerate(self.passed_arguments):
            array = held[i]
            if not array.flags.c_contiguous:
                array = held[i] = np.ascontiguousarray(array)
            context[index] = array.__array_interface__["data"][0]
        for position, memory in self.copied_arguments:
            np.copyto(memory, tensors[position].array)
        for _, traced_owner, memory in self.grads:
            owner = self.bindings.resolve(traced_owner, tensors)
            if owner._grad is not None and owner._grad.__class__ is not ConsumedGradient:
                np.copyto(memory, owner._grad.array)

    def _settle(self, held: HeldLocks) -> None:
        """Refresh while holding the locks of all Tensors that programs write: another program may have begun to write one."""
        while self.dirty or held.locks != self.locks:
            if held.locks != self.locks:
                held.exchange(self.locks)
            if self.dirty:
                self._refresh()

    def _refresh(self) -> None:
        """Update the buffers of Tensors that were read or assigned since the last run."""
        while self.dirty:  # other threads may add to it meanwhile
            tensor = self.dirty.pop()
            storage: Buffer = tensor.storage
            storage.refresh(tensor)
            if tensor in self.written:
                if not storage.owned:
                    storage.own(tensor, self.lock)
                if tensor.cell is not None:
                    tensor.cell.moved()
                else:
                    tensor.__dict__.pop("array", None)
                    tensor.version += 1
            index = self.context_index[tensor]
            self.memories[index] = storage.memory  # as long as native code has its address
            self.context[index] = self.memories[index].ctypes.data
        self.workspace.arena[READY] = 0
        self._find_locks()

    def _find_locks(self) -> None:
        """Find the locks of all Tensors that programs write, sorted, so that there is no deadlock."""
        self.locks = sorted({t.storage.lock for t in self.context_index if t.storage.owned}, key=id) or [self.lock]
        # Programs write without notice: copies of such weights are refreshed at each call.
        self.refresh_copies = self.plan.keeps_copies and any(t.storage.owned for t in self.context_index)

    def finish(self, tensors: Sequence[Tensor]) -> None:
        """Store what the step wrote into gradients and arguments."""
        for position, memory in self.written_arguments:
            tensors[position].assign(memory)
        for entry, memory in self.written_grads:
            self.bindings.store_grad(entry, memory.copy(), tensors)
        self.bindings.apply_grad_state(tensors)

    # ---- many steps in one call ----

    def kernels(self, measure: bool, name: str) -> Kernels:
        """What it runs, kernel by kernel; measure=False runs nothing."""
        from .profile import kernels  # only for looking; it imports this file

        return kernels(self, measure)

    @property
    def is_whole(self) -> bool:
        """Whether many steps can run without Python between them."""
        returned = any(isinstance(leaf, Tensor | ViewRef) for leaf in tree_leaves(self.traced.result))
        return len(self.entry_points) == 1 and not (
            self.written_arguments or self.written_grads or self.grads or returned
        )

    def run_steps(
        self, tensors: Sequence[Tensor], indices: np.ndarray, progress: Callable[[int], object] | None
    ) -> Any:
        """Run one step for each row of `indices` (S, B), which replaces the last argument. Returns the outputs stacked, (S, ...).

        Native code runs for about CHUNK seconds at a time; in between come signals and `progress(steps done)`.
        """
        with HeldLocks(self.locks) as held:
            return self._run_steps(held, tensors, indices, progress)

    def _run_steps(
        self, held: HeldLocks, tensors: Sequence[Tensor], indices: np.ndarray, progress: Callable[[int], object] | None
    ) -> Any:
        steps, width = len(indices), max(self.plan.output_bytes, 1)
        outputs = aligned((steps, width), np.uint8)
        self._settle(held)
        self.prepare(tensors)
        stride, last = INPUTS + self.plan.input_count, len(tensors) - 1
        indices_in_context = [
            INPUTS + i
            for i, entry in enumerate(self.graph.inputs)
            if entry.kind == "argument" and entry.position == last
        ]
        before = self.context.copy()
        done, count = 0, 1
        try:
            while done < steps:
                self._settle(held)
                if self.refresh_copies:  # `progress` may have run a program that writes them
                    self.workspace.arena[READY] = 0
                self.context[OUTPUTS], self.context[stride + OUTPUTS] = outputs.ctypes.data, width
                for index in indices_in_context:
                    self.context[index], self.context[stride + index] = indices.ctypes.data, indices.strides[0]
                count = min(count, steps - done)
                began = time.perf_counter()
                thread_pool.run(self.entry_points[0], self.context_address, self.backoff.threads, done, count)
                ended = time.perf_counter()
                self.backoff.note(began, ended, count)
                passed = ended - began
                self.workspace.raise_flagged()
                done += count
                count = max(1, int(count * min(8.0, CHUNK / max(passed, 1e-6))))
                if progress is not None:
                    progress(done)
        finally:
            self.context[stride:] = 0
            for index in (OUTPUTS, *indices_in_context):
                self.context[index] = before[index]
        self.finish(())
        return self.unflatten([self._stacked(s, outputs) for s in self.graph.outputs], ())

    def _stacked(self, symbol: Symbol, outputs: np.ndarray) -> Tensor:
        index, steps = self.plan.slices[symbol], len(outputs)
        rows_of_output = outputs[:, index.offset : index.offset + index.size]
        return Tensor(np.ascontiguousarray(rows_of_output).view(symbol.dtype).reshape(steps, *symbol.shape))

    def run_segments(self, first: int, end: int) -> None:
        """Run the segments first..end-1: native code, and between them operations without native code."""
        for number, entry in enumerate(self.graph.inputs):
            if entry.kind == "state":
                storage = entry.owner.storage
                self.regions[INPUTS + number] = _bytes(storage.memory)
        for index, _position in [*self.passed_arguments, *self.cotangents]:
            if self.context[index]:
                size = self.plan.slices[self.graph.inputs[index - INPUTS].symbol].size
                self.regions[index] = _bytes_at(int(self.context[index]), size)
        for entry_point, segment in list(zip(self.entry_points, self.lowered.segments, strict=True))[first:end]:
            thread_pool.run(entry_point, self.context_address)
            if self.workspace.flag.value:
                return
            if segment.interpreted is not None:
                self.memory.run(segment.interpreted)


def _bytes(array: np.ndarray) -> np.ndarray:
    flat = array.reshape(-1)
    return flat.view(np.uint8) if flat.size else np.zeros(1, np.uint8)


def _bytes_at(address: int, size: int) -> np.ndarray:
    if not size:
        return np.zeros(1, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
