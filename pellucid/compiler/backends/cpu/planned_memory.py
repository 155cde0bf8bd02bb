"""Planned memory as NumPy views: how Python reads it, and runs a kernel without native code in it (floor 4)."""

from __future__ import annotations

import numpy as np

from ....core.value import Symbol
from ...ir.views import is_view, row_major
from .blocked_matmul import blocked_matmul
from .fusion import dtype_size
from .layout import Layout
from .memory_plan import ARENA, Launch, MemoryPlan, ScanLaunch
from .prepare.contractions import PRODUCTS


class PlannedMemory:
    """Regions as NumPy bytes, and Symbols as views of them."""

    def __init__(
        self,
        plan: MemoryPlan,
        layout: Layout,
        regions: dict[int, np.ndarray],
        given: dict[Symbol, np.ndarray] | None = None,
    ) -> None:
        self.plan, self.layout, self.regions, self.given = plan, layout, regions, given or {}

    def stored(self, symbol: Symbol) -> np.ndarray:
        """The writable view of a stored Symbol."""
        root = symbol
        while root in self.layout.alias_of:
            root = self.layout.alias_of[root]
        if root in self.given:
            return self.given[root].reshape(symbol.shape)
        buffer_slice = self.plan.slices[symbol]
        strides = self.layout.strides.get(symbol) or row_major(symbol.shape)
        size = dtype_size(symbol)
        return np.ndarray(symbol.shape, symbol.dtype, self.regions[buffer_slice.region].data, buffer_slice.offset,
                          tuple(s * size for s in strides))  # fmt: skip

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
            return self._repeat(launch, launch.loop)
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

    def _repeat(self, launch: Launch, loop: ScanLaunch) -> None:
        """Run a scan, step by step, each in the same planned memory."""
        body, graph_inputs = loop.body, launch.kernel.scan_kernels.graph.inputs  # type: ignore[union-attr]
        n, outputs = body.carries, loop.plan.outputs
        for start in loop.starts:
            self.run(start)
        scratch = self.stored(loop.scratch)
        scratch[...] = 255
        values = [self.read(x, {}) for x in launch.kernel.root.inputs[n:]]
        counts = [*body.state_counts, *[body.length] * (len(outputs) - n)]
        results = [
            self.stored(r).reshape(count, *s.shape) for r, count, s in zip(loop.results, counts, outputs, strict=True)
        ]
        for t in range(body.length)[:: body.step]:
            now = [results[i][body.state(i, t), ...] for i in range(n)]
            now += [x[t, ...] if j < body.slices else x for j, x in enumerate(values)]
            given = {entry.symbol: x for entry, x in zip(graph_inputs, now, strict=True)}
            for i, symbol in enumerate(outputs):
                given[symbol] = results[i][body.state(i, t + body.step) if i < n else t, ...]
            inner = PlannedMemory(loop.plan, loop.layout, {ARENA: scratch}, given)
            for number, inner_launch in enumerate(loop.plan.launches):
                if number >= loop.once_count or t == body.first:
                    inner.run(inner_launch)
                for buffer_slice in loop.plan.freed.get(number, ()):
                    scratch[buffer_slice.offset : buffer_slice.offset + buffer_slice.size] = 255
