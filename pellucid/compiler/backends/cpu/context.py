"""The context of a program: the table of addresses that its native code is given, and the memory behind it (floor 4)."""

from __future__ import annotations

import ctypes
from collections.abc import MutableMapping

import numpy as np

from ...ir.graph import Graph
from ...trace.traced_step import IndexFault
from .executable import Executable
from .memory_plan import ARENA, INPUTS, OUTPUTS, READY, MemoryPlan
from .planned_memory import PlannedMemory
from .storage import aligned


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


class Context:
    """The addresses of the regions of a memory plan: arena, outputs, and one for each input of the graph.

    table: int64; first the address of each region, then by how many bytes each moves from one step to the next, then the
        address of the table of times, for a profile. address: the table's own.
    held: arrays that live as long as native code has their addresses.
    regions: the bytes of each region, for operations that run in NumPy. memory: the Symbols in them.
    """

    def __init__(self, executable: Executable, graph: Graph) -> None:
        self.plan: MemoryPlan = executable.plan
        self.graph = graph
        self.table = aligned((2 * self.stride_offset + 1,), np.int64)
        self.address: int = self.table.ctypes.data
        self.regions: dict[int, np.ndarray] = {}
        self.memory = PlannedMemory(self.plan, executable.layout, self.regions)
        self.workspace: Workspace
        self.held: list[np.ndarray] = []

    @property
    def stride_offset(self) -> int:
        """How far behind the address of a region the table has its stride."""
        return INPUTS + self.plan.input_count

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
        self.table[ARENA], self.table[OUTPUTS] = workspace.addresses

    def set_input(self, index: int, memory: np.ndarray) -> None:
        """Let an input be read from `memory`, which the caller keeps."""
        self.regions[index] = as_bytes(memory)
        self.table[index] = memory.ctypes.data

    def stale_copies(self) -> None:
        """Let the next run make its copies of weights again."""
        self.workspace.arena[READY] = 0

    def find_regions(self, indices: list[int]) -> None:
        """Make `regions` of inputs whose address alone was set."""
        for index in indices:
            if self.table[index]:
                symbol = self.graph.inputs[index - INPUTS].symbol
                self.regions[index] = bytes_at(int(self.table[index]), self.plan.slices[symbol].size)


def as_bytes(array: np.ndarray) -> np.ndarray:
    flat = array.reshape(-1)
    return flat.view(np.uint8) if flat.size else np.zeros(1, np.uint8)


def bytes_at(address: int, size: int) -> np.ndarray:
    if not size:
        return np.zeros(1, np.uint8)
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
