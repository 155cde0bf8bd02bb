"""A recorded step made ready to run: native code bound to the Tensors it reads and writes (floor 4).

What a call does: look whether anyone touched a Tensor of the step, set the addresses of the arguments, run, copy the
outputs. Everything else was decided when the program was made.
"""

from __future__ import annotations

import ctypes
import dataclasses
import threading
import time
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import numpy as np

from ....core.op import new_value
from ....core.value import Symbol
from ....ops.index import rows
from ....ops.loop import tree_leaves
from ....tensor import Tensor, UsedUp
from ...ir.graph import Input
from ...trace.outputs import GradientBindings, make_unflatten, output_tensor, refusing_nodes
from ...trace.traced_step import IndexFault, TracedStep, ViewRef
from . import thread_pool as runtime
from .executable import Executable, bind, get_executable
from .lower import READY
from .memory_plan import ARENA, INPUTS, OUTPUTS
from .planned_memory import PlannedMemory
from .storage import Buffer, aligned, buffer_of

COPIED = 1 << 14  # bytes: to copy a smaller argument takes less time than to ask NumPy for its address
CHUNK = 0.05  # seconds of native work between two looks at what Python wants


class Workspace:
    """The memory of a run. arena: what is computed on the way, the flag of indices out of range at its beginning.
    outputs: what is given back. results: each output there, as an array that the next run overwrites."""

    def __init__(self, arena: np.ndarray, outputs: np.ndarray) -> None:
        self.arena, self.outputs = arena, outputs
        self.addresses = arena.ctypes.data, outputs.ctypes.data
        self.results: list[np.ndarray] = []
        self.flag = ctypes.c_uint8.from_address(arena.ctypes.data)
        self.flagged_step = ctypes.c_int64.from_address(arena.ctypes.data + 8)  # counted from 1

    def raise_flagged(self) -> None:
        """Raise Flagged if the last run has found an index out of range."""
        if self.flag.value:
            step = max(self.flagged_step.value - 1, 0)
            self.flag.value = self.flagged_step.value = 0
            raise IndexFault(step)


Workspaces = MutableMapping[Executable, Workspace]


class HeldLocks:
    """`with Held(locks):` holds all of them, taken in their order."""

    __slots__ = ("count", "locks")

    def __init__(self, locks: Sequence[Any]) -> None:
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

    def exchange(self, locks: Sequence[Any]) -> None:
        """Hold `locks` instead."""
        self.__exit__()
        self.locks = locks
        self.__enter__()

    def __exit__(self, *error: object) -> None:
        while self.count:
            self.count -= 1
            self.locks[self.count].release()


class Program:
    """One recording, compiled and bound to its Tensors.

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
        if self.plan.keeps_copies:  # copies of these weights
            workspaces = None
        own = zip(shared.graph.inputs, traced.form.graph.inputs, strict=True)
        entries = [dataclasses.replace(mine, symbol=known.symbol) for known, mine in own]
        self.graph = bind(shared.graph, entries)
        self.regions: dict[int, np.ndarray] = {}
        self.memory = PlannedMemory(self.plan, self.layout, self.regions)
        self.context = aligned(
            (2 * (INPUTS + self.plan.input_count) + 1,), np.int64
        )  # and a word for the table of times
        self.context_address = self.context.ctypes.data
        workspace = None if workspaces is None else workspaces.get(shared)
        if workspace is None:
            workspace = self.new_workspace()
            if workspaces is not None:
                workspaces[shared] = workspace
        else:
            self.use(workspace)
        # What the arguments of the last call held: its memory has to last as long as its address is known.
        self.held: list[np.ndarray] = []
        self.dirty: set[Tensor] = set()
        self.memories: dict[int, np.ndarray] = {}  # of the states, by their place in the context
        self.pace = runtime.ThreadBackoff()
        self.lock = threading.RLock()
        self.locks: list[threading.RLock] = [self.lock]
        self._bind()
        self._find_locks()
        self.nodes = refusing_nodes(traced)
        self.unflatten = make_unflatten(traced, self.bindings)

    # ---- making ready ----

    def new_workspace(self) -> Workspace:
        """Memory for a run, in use from now on, with the program's constants in it."""
        workspace = Workspace(
            aligned((self.plan.arena,), np.uint8), aligned((max(self.plan.output_bytes, 1),), np.uint8)
        )
        self.use(workspace)
        for symbol in self.plan.constants:
            self.memory.stored(symbol)[...] = symbol.constant
        workspace.results = [self.memory.stored(symbol) for symbol in self.graph.outputs]
        return workspace

    def use(self, workspace: Workspace) -> None:
        """Let the next run take place in this memory."""
        self.workspace = workspace
        self.regions[ARENA], self.regions[OUTPUTS] = workspace.arena, workspace.outputs
        self.context[ARENA], self.context[OUTPUTS] = workspace.addresses

    def _bind(self) -> None:
        """Give every Tensor of the step its memory, and find out which slots each call has to set."""
        written = {id(entry) for entry, _ in self.graph.writes}
        resident = {s.inputs[0] for s in self.graph.symbols if s.op is rows}  # more lies behind them: never copied
        self.bindings = GradientBindings(self.traced)
        self.number: dict[Tensor, int] = {}
        self.written: set[Tensor] = set()
        self.given: list[tuple[int, int]] = []  # (place in the context, position among the arguments)
        self.grads: list[tuple[int, Tensor, np.ndarray]] = []  # gradients that are read
        self.kept: list[tuple[Input, np.ndarray]] = []  # gradients that are written
        self.copied: list[tuple[int, np.ndarray]] = []  # arguments that are copied here
        self.changed: list[tuple[int, np.ndarray]] = []  # those that the step writes
        self.cotangents: list[tuple[int, int]] = []  # (place in the context, number of the slot)
        for number, entry in enumerate(self.graph.inputs):
            place, extent = INPUTS + number, self.plan.slices[entry.symbol].size
            if entry.kind == "state":
                storage = buffer_of(entry.owner)
                if id(entry) in written:
                    storage.own(entry.owner, self.lock)
                    self.written.add(entry.owner)
                storage.watchers.append(self.dirty)
                self.number[entry.owner] = place
                self.dirty.add(entry.owner)
            elif (
                self.padding is None
                and entry.kind == "argument"
                and id(entry) not in written
                and (extent > COPIED or entry.symbol in resident)
            ):
                self.given.append((place, entry.position))
            elif entry.kind == "cotangent":
                self.cotangents.append((place, number))
            else:
                room = aligned(entry.symbol.shape, entry.symbol.dtype)
                if entry.kind in ("scalar", "length"):
                    room[...] = entry.owner
                self.regions[place] = _bytes(room)
                self.context[place] = room.ctypes.data
                if entry.kind == "argument":
                    within = room if self.padding is None else self.padding.within(entry.position, room)
                    self.copied.append((entry.position, within))
                    if id(entry) in written:
                        self.changed.append((entry.position, room))
                elif id(entry) in written:
                    self.kept.append((entry, room))
                if entry.kind == "gradient":
                    self.grads.append((place, entry.owner, room))

    def __del__(self) -> None:
        """Nobody has to tell this program anything any more."""
        for tensor in self.__dict__.get("number", ()):
            if tensor.storage is not None:
                tensor.storage.watchers = [w for w in tensor.storage.watchers if w is not self.dirty]

    # ---- a call ----

    def __call__(self, tensors: Sequence[Tensor]) -> Any:
        # Others' state, here as arguments, by itself or by way of a view.
        given = [t for t in tensors if t.storage is not None or t.cell is not None]
        natives = [t.storage if t.cell is None else t.cell.native for t in given]
        if natives and (others := {native.lock for native in natives if native is not None and native.owned}):
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
            runtime.run(self.entry_points[0], self.context_address, self.pace.threads)
            self.pace.note(began, time.perf_counter())
        else:
            self.run_segments(0, len(self.entry_points))
        self.workspace.raise_flagged()
        self.finish(tensors)
        return self.unflatten(self.values(), tensors)

    def values(self) -> list[Any]:
        """The outputs of the last run as Tensors."""
        results = self.workspace.results
        if self.padding is not None:
            results = [self.padding.unpad(i, array) for i, array in enumerate(results)]
        return [output_tensor(results[i].copy(), node) for i, node in enumerate(self.nodes)]

    def prepare(self, tensors: Sequence[Tensor]) -> None:
        if self.dirty:
            self._refresh()
        if self.anew:
            self.workspace.arena[READY] = 0
        context = self.context
        self.held = held = [tensors[position].array for _, position in self.given]
        for i, (place, _position) in enumerate(self.given):
            array = held[i]
            if not array.flags.c_contiguous:
                array = held[i] = np.ascontiguousarray(array)
            context[place] = array.__array_interface__["data"][0]
        for position, room in self.copied:
            np.copyto(room, tensors[position].array)
        for _, recorded, room in self.grads:
            owner = self.bindings.resolve(recorded, tensors)
            if owner._grad is not None and owner._grad.__class__ is not UsedUp:
                np.copyto(room, owner._grad.array)

    def _settle(self, held: HeldLocks) -> None:
        """Refresh, holding the locks of all that some program writes: another may just have begun to write a Tensor."""
        while self.dirty or held.locks != self.locks:
            if held.locks != self.locks:
                held.exchange(self.locks)
            if self.dirty:
                self._refresh()

    def _refresh(self) -> None:
        """After somebody looked at a Tensor of the step, or assigned it."""
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
            place = self.number[tensor]
            self.memories[place] = storage.memory  # as long as native code has its address
            self.context[place] = self.memories[place].ctypes.data
        self.workspace.arena[READY] = 0
        self._find_locks()

    def _find_locks(self) -> None:
        """Those of all Tensors that some program writes, in one order for all, so that no two wait for each other."""
        self.locks = sorted({t.storage.lock for t in self.number if t.storage.owned}, key=id) or [self.lock]
        # What programs write they write untold: copies of such weights are made anew at each call.
        self.anew = self.plan.keeps_copies and any(t.storage.owned for t in self.number)

    def finish(self, tensors: Sequence[Tensor]) -> None:
        """What the step did to gradients and arguments."""
        for position, room in self.changed:
            tensors[position].assign(room)
        for entry, room in self.kept:
            self.bindings.store_grad(entry, room.copy(), tensors)
        self.bindings.apply_grad_state(tensors)

    # ---- many steps in one call ----

    @property
    def is_whole(self) -> bool:
        """Whether many steps can run without Python between them."""
        returned = any(isinstance(leaf, Tensor | ViewRef) for leaf in tree_leaves(self.traced.result))
        return len(self.entry_points) == 1 and not (self.changed or self.kept or self.grads or returned)

    def run_steps(self, tensors: Sequence[Tensor], indices: np.ndarray, progress: Callable[[int], Any] | None) -> Any:
        """One step for each row of `indices` (S, B), which take the place of the last of its arguments; the outputs
        stacked, (S, ...).

        Native code runs for about CHUNK seconds at a time; in between come signals and `progress(steps done)`.
        """
        with HeldLocks(self.locks) as held:
            return self._run_steps(held, tensors, indices, progress)

    def _run_steps(
        self, held: HeldLocks, tensors: Sequence[Tensor], indices: np.ndarray, progress: Callable[[int], Any] | None
    ) -> Any:
        steps, width = len(indices), max(self.plan.output_bytes, 1)
        outputs = aligned((steps, width), np.uint8)
        self._settle(held)
        self.prepare(tensors)
        stride, last = INPUTS + self.plan.input_count, len(tensors) - 1
        places = [
            INPUTS + i
            for i, entry in enumerate(self.graph.inputs)
            if entry.kind == "argument" and entry.position == last
        ]
        before = self.context.copy()
        done, count = 0, 1
        try:
            while done < steps:
                self._settle(held)
                if self.anew:  # `progress` may have run a program that writes them
                    self.workspace.arena[READY] = 0
                self.context[OUTPUTS], self.context[stride + OUTPUTS] = outputs.ctypes.data, width
                for place in places:
                    self.context[place], self.context[stride + place] = indices.ctypes.data, indices.strides[0]
                count = min(count, steps - done)
                began = time.perf_counter()
                runtime.run(self.entry_points[0], self.context_address, self.pace.threads, done, count)
                ended = time.perf_counter()
                self.pace.note(began, ended, count)
                passed = ended - began
                self.workspace.raise_flagged()
                done += count
                count = max(1, int(count * min(8.0, CHUNK / max(passed, 1e-6))))
                if progress is not None:
                    progress(done)
        finally:
            self.context[stride:] = 0
            for place in (OUTPUTS, *places):
                self.context[place] = before[place]
        self.finish(())
        return self.unflatten([self._stacked(s, outputs) for s in self.graph.outputs], ())

    def _stacked(self, symbol: Symbol, outputs: np.ndarray) -> Any:
        place, steps = self.plan.slices[symbol], len(outputs)
        part = outputs[:, place.offset : place.offset + place.size]
        return new_value(np.ascontiguousarray(part).view(symbol.dtype).reshape(steps, *symbol.shape))

    def run_segments(self, first: int, end: int) -> None:
        """The segments first..end-1: native parts, and the operations without native code between them."""
        for number, entry in enumerate(self.graph.inputs):
            if entry.kind == "state":
                storage = entry.owner.storage
                self.regions[INPUTS + number] = _bytes(storage.memory)
        for place, _position in [*self.given, *self.cotangents]:
            if self.context[place]:
                size = self.plan.slices[self.graph.inputs[place - INPUTS].symbol].size
                self.regions[place] = _bytes_at(int(self.context[place]), size)
        for entry_point, segment in list(zip(self.entry_points, self.lowered.segments, strict=True))[first:end]:
            runtime.run(entry_point, self.context_address)
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
