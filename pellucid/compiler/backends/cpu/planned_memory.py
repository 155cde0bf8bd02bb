"""Planned memory as NumPy views: how Python reads it, and runs a kernel without native code in it (floor 4)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ....core.value import Symbol
from ...ir.views import is_view
from .blocked_matmul import blocked_matmul
from .kernel import dtype_size
from .layout import Layout
from .memory_plan import BufferSlice, Launch, MemoryPlan, ScanLaunch
from .prepare.contractions import PRODUCTS


class Bytes(NamedTuple):
    """Memory, and where in it a Symbol begins."""

    memory: np.ndarray
    start: int


class PlannedMemory:
    """Regions as NumPy bytes, and Symbols as views of them."""

    def __init__(self, plan: MemoryPlan, layout: Layout, regions: dict[int, np.ndarray]) -> None:
        self.plan, self.layout, self.regions = plan, layout, regions

    def bytes_of(self, buffer_slice: BufferSlice) -> Bytes:
        return Bytes(self.regions[buffer_slice.region], buffer_slice.offset)

    def stored(self, symbol: Symbol) -> np.ndarray:
        """The writable view of a stored Symbol."""
        memory, start = self.bytes_of(self.plan.slices[symbol])
        size = dtype_size(symbol)
        strides = tuple(s * size for s in self.layout.strides_of(symbol))
        return np.ndarray(symbol.shape, symbol.dtype, memory.data, start, strides)

    def read(self, symbol: Symbol, computed: dict[Symbol, np.ndarray]) -> np.ndarray:
        if symbol in computed:
            return computed[symbol]
        if symbol.constant is not None:
            return symbol.constant
        if symbol in self.plan.slices:
            return self.stored(symbol)
        assert symbol.op is not None and is_view(symbol), symbol
        view: np.ndarray = symbol.op.forward(self.read(symbol.inputs[0], computed), **symbol.attributes)
        return view

    def run(self, launch: Launch) -> None:
        """Run one kernel, operation by operation, into its planned slices."""
        if launch.loop is not None:
            return self._repeat(launch.loop)
        computed: dict[Symbol, np.ndarray] = {}
        for symbol in launch.kernel.symbols:
            copies = [self.layout.operand_copies.get((launch.kernel, side)) for side in range(len(symbol.inputs))]
            copies = copies if symbol is launch.kernel.root else []
            inputs = [self.read(x, computed) for x in symbol.inputs]
            for side, copy in enumerate(copies):
                if copy is not None:
                    inputs[side] = self.stored(copy)
            blocked = self.layout.by_row and symbol.op in PRODUCTS and symbol.dtype.kind == "f"
            array = blocked_matmul(symbol, *inputs) if blocked else symbol.op.forward(*inputs, **symbol.attributes)  # type: ignore[union-attr]
            computed[symbol] = np.array(array, symbol.dtype)
        for symbol in launch.writes:
            self.stored(symbol)[...] = computed[symbol]

    def _repeat(self, loop: ScanLaunch) -> None:
        """Run a scan, step by step, each in the same planned memory."""
        for start in loop.starts:
            self.run(start)
        scratch = self.stored(loop.scratch)
        scratch[...] = 255
        for t in range(loop.body.length)[:: loop.body.step]:
            inner = BodyMemory(self, loop, t)
            for number, launch in enumerate(loop.plan.launches):
                if number >= loop.once_count or t == loop.body.first:
                    inner.run(launch)
                for buffer_slice in loop.plan.freed.get(number, ()):
                    scratch[buffer_slice.offset : buffer_slice.offset + buffer_slice.size] = 255


class BodyMemory(PlannedMemory):
    """The memory of the body of a scan at step t, in that around it."""

    def __init__(self, outer: PlannedMemory, loop: ScanLaunch, t: int) -> None:
        super().__init__(loop.plan, loop.layout, {})
        self.outer, self.loop, self.t = outer, loop, t

    def bytes_of(self, buffer_slice: BufferSlice) -> Bytes:
        location = self.loop.locate(buffer_slice)
        memory, start = self.outer.bytes_of(self.outer.plan.slices[location.holder])
        return Bytes(memory, start + location.at(self.t))
