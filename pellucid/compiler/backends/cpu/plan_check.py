"""Check of the memory plan: run its kernels in NumPy, with freed bytes poisoned (floor 4)."""

from __future__ import annotations

import numpy as np

from ...ir.graph import Graph
from .layout import Layout
from .memory_plan import ARENA, INPUTS, OUTPUTS, MemoryPlan
from .planned_memory import PlannedMemory


def run_planned(
    graph: Graph, plan: MemoryPlan, layout: Layout, values: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What `interpret` gives, computed in the planned memory. A value read after it was freed comes out as NaN or -1."""
    regions = {ARENA: np.full(plan.arena, 255, np.uint8), OUTPUTS: np.full(max(plan.output_bytes, 1), 255, np.uint8)}
    for number, (entry, value) in enumerate(zip(graph.inputs, values, strict=True)):
        raw = np.ascontiguousarray(value, entry.symbol.dtype).reshape(-1).view(np.uint8).copy()
        regions[INPUTS + number] = raw if raw.size else np.zeros(1, np.uint8)
    memory = PlannedMemory(plan, layout, regions)
    for symbol in plan.constants:
        memory.stored(symbol)[...] = symbol.constant
    for number, launch in enumerate(plan.launches):
        memory.run(launch)
        for buffer_slice in plan.freed.get(number, ()):
            regions[ARENA][buffer_slice.offset : buffer_slice.offset + buffer_slice.size] = 255
        if number == plan.forward_count - 1:
            late = [(entry, memory.read(symbol, {}).copy()) for symbol, entry in plan.deferred_writes]
            for entry, array in late:
                memory.stored(entry.symbol)[...] = array
    return [memory.stored(s).copy() for s in graph.outputs], [
        memory.stored(entry.symbol).copy() for entry, _ in graph.writes
    ]
