"""Memory planning: arena allocation by liveness, in-place writes, and the order of launches (floor 4).

A value takes its bytes when it is computed and frees them after its last reader. A write into a Tensor is computed in place
if every reader of the old value has run; otherwise it is copied at the end. `plan_check.py` runs the plan in NumPy, with
freed bytes poisoned: a plan that overlaps two live values fails there without any native code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ....core.origin import user_origin
from ....core.value import Symbol
from ....ops.contraction import fold
from ....ops.elementwise import cast
from ...ir.graph import Graph, Input
from ...ir.rewrite import emit
from ...ir.scan_body import ScanBody
from ...ir.views import row_major, squeezed_shape, view_of
from .fusion import Kernel, dtype_size, external_operands, has_bounds_check
from .kernel_builder import KernelSpecBuilder, padding_extents
from .kernel_ir import KernelSpec, Load, Scalar
from .layout import Layout
from .storage import ALIGNMENT

ARENA, OUTPUTS, INPUTS = 0, 1, 2  # regions: input i is region INPUTS + i
FLAG = ALIGNMENT  # the arena begins with a cache line for the fault flag and the step that raised it


class BufferSlice(NamedTuple):
    """Bytes offset ... offset + size - 1 of a region."""

    region: int
    offset: int
    size: int

    def overlaps(self, other: BufferSlice) -> bool:
        return self.region == other.region and self.offset < other.offset + other.size and (
            other.offset < self.offset + self.size
        )  # fmt: skip


@dataclass(eq=False)
class Launch:
    """A kernel, its spec (None for a scan or an interpreted one), and the Symbols whose memory it uses."""

    kernel: Kernel
    spec: KernelSpec | None
    pointers: list[Symbol]
    reads: list[Symbol]
    writes: list[Symbol]
    loop: ScanLaunch | None = None


@dataclass(eq=False)
class ScanLaunch:
    """The launch of a scan. plan: of its body, whose regions are the memory `scratch`, the results and the inputs.

    starts: copies of the carry into its first state. once_count: how many launches of the body are loop-invariant and run
    before the first step. sources: for the inputs behind the carry and for constants the Symbol that holds each, its offset
    there in bytes, and the bytes from step to step. results: the states of each carry, then the stacked values.
    """

    body: ScanBody
    plan: MemoryPlan
    layout: Layout
    once_count: int
    starts: list[Launch]
    sources: list[tuple[Symbol, int, int]]
    results: list[Symbol]
    scratch: Symbol

    @property
    def outputs(self) -> dict[int, int]:
        """By offset in the output region of the body: the output that lies there."""
        outputs = self.plan.outputs
        return {self.plan.slices[symbol].offset: index for index, symbol in enumerate(outputs)}


@dataclass
class MemoryPlan:
    """The memory plan of a graph.

    slices: of every stored Symbol, input and constant.
    deferred_writes: writes that are copied into their input at the end.
    forward_count: how many of the launches belong to the forward phase.
    keeps_copies: whether copies of weights are reused between calls.
    """

    launches: list[Launch]
    slices: dict[Symbol, BufferSlice]
    outputs: list[Symbol]
    constants: list[Symbol]
    deferred_writes: list[tuple[Symbol, Input]]
    input_count: int
    arena: int = FLAG
    output_bytes: int = 0
    forward_count: int = 0
    keeps_copies: bool = False
    freed: dict[int, list[BufferSlice]] = field(default_factory=dict)  # by launch: what it reads last


def make_launches(kernels: list[Kernel], layout: Layout, reuse: bool = True) -> list[Launch]:
    launches = []
    for kernel in kernels:
        if kernel.kind == "reshape" and kernel.root in layout.alias_of:
            continue
        if kernel.single_op is fold and layout.holds_source_of(kernel.root) and not padding_extents(kernel.root):
            continue
        if kernel.kind == "interpreted":
            launches.append(Launch(kernel, None, [], list(external_operands(kernel)), list(kernel.stored)))
            continue
        launches.append(_scan_launch(kernel, layout, reuse) if kernel.kind == "scan" else _launch(kernel, layout))
    return launches


def _launch(kernel: Kernel, layout: Layout) -> Launch:
    writer = KernelSpecBuilder(kernel, layout)
    spec = writer.spec()
    loads = {
        x.pointer for instruction in spec.instructions for x in instruction.operands if isinstance(x, Load | Scalar)
    }
    if spec.contraction is not None:
        loads |= {spec.contraction.splat.pointer, spec.contraction.vectors.pointer}
    reads = [s for i, s in enumerate(writer.pointers) if i in loads]
    return Launch(kernel, spec, writer.pointers, reads, list(kernel.stored))


def _scan_launch(kernel: Kernel, layout: Layout, reuse: bool) -> Launch:
    """The launch of a scan: plan its body, and locate its inputs and outputs."""
    inner, inputs = kernel.scan_kernels, kernel.root.inputs
    assert inner is not None and inner.layout is not None
    body, carries = inner.body, inner.body.carries
    once, rest = _split_invariant(inner.graph, inner.kernels, carries + body.slices)
    plan = plan_memory(inner.graph, once + rest, inner.layout, reuse, once)
    count = sum(launch.kernel in once for launch in plan.launches)
    starts = [_start(x, layout) for x in inputs[:carries]]
    locations = []
    for i, x in enumerate(inputs[carries:]):
        view = view_of(x)
        offset, along = view.address(layout.strides.get(view.source) or row_major(view.source.shape), x.ndim)
        size = dtype_size(x)
        locations.append((view.source, offset * size, along[0] * size if i < body.slices else 0))
    locations += [(constant, 0, 0) for constant in plan.constants]
    results_by_key = {(s.attributes["what"], s.attributes["index"]): s for s in kernel.stored}
    keys = [("states" if i < carries else "stack", i) for i in range(len(inner.graph.outputs))]
    results = [results_by_key[key] if key in results_by_key else _temporary(*body.part(*key)) for key in keys]
    scratch = _temporary((plan.arena,), np.dtype(np.uint8))
    reads = list(dict.fromkeys([*(s for start in starts for s in start.reads), *(s for s, _, _ in locations)]))
    loop = ScanLaunch(body, plan, inner.layout, count, starts, locations, results, scratch)
    return Launch(kernel, None, [], reads, [*results, scratch], loop)


def _temporary(shape: tuple[int, ...], dtype: np.dtype) -> Symbol:
    return Symbol(None, (), {}, shape, dtype, user_origin())


def _start(x: Symbol, layout: Layout) -> Launch:
    """The launch that copies the first carry. Its slice is assigned with that of the states."""
    begin = emit(cast, x, origin=x.origin, dtype=x.dtype)
    layout.strides[begin] = row_major(x.shape)
    return _launch(Kernel("copy", [begin], squeezed_shape(x.shape), stored=[begin]), layout)


def _split_invariant(graph: Graph, kernels: list[Kernel], first: int) -> tuple[list[Kernel], list[Kernel]]:
    """The kernels of a body that only depend on inputs from number `first` on, which are loop-invariant; and the others."""
    invariant = {entry.symbol for entry in graph.inputs[first:]}
    once, rest = [], []
    for kernel in kernels:
        same = all(s in invariant or s.constant is not None for s in external_operands(kernel))
        if same and not has_bounds_check(kernel) and not set(kernel.stored) & set(graph.outputs):
            once.append(kernel)
            invariant.update(kernel.stored)
        else:
            rest.append(kernel)
    return once, rest


def iter_launches(launches: list[Launch], times: int = 1) -> Iterator[tuple[Launch, int]]:
    """The launches of single kernels, in order, in scans too, and how often each runs."""
    for launch in launches:
        if launch.loop is None:
            yield launch, times
        else:
            yield from iter_launches([*launch.loop.starts, *launch.loop.plan.launches[: launch.loop.once_count]], times)
            yield from iter_launches(
                launch.loop.plan.launches[launch.loop.once_count :], times * launch.loop.body.length
            )


def nbytes(symbol: Symbol, layout: Layout) -> int:
    """Bytes from the first to the last element of a stored Symbol."""
    strides = layout.strides.get(symbol) or row_major(symbol.shape)
    if not symbol.size:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(symbol.shape, strides, strict=True))
    return (last + 1) * dtype_size(symbol)


def plan_memory(
    graph: Graph, kernels: list[Kernel], layout: Layout, reuse: bool = True, once: list[Kernel] | None = None
) -> MemoryPlan:
    """Plan the memory of a program or of the body of a scan.

    once: loop-invariant kernels of a body. They run before the first step, so that their results may not be overwritten.
    """
    kernels = sorted(kernels, key=lambda kernel: not kernel.packed)
    plan = MemoryPlan(make_launches(kernels, layout, reuse), {}, graph.outputs, [], [], len(graph.inputs))
    plan.forward_count = sum(not launch.kernel.in_backward for launch in plan.launches)
    root = layout.root_buffer
    for number, entry in enumerate(graph.inputs):
        plan.slices[entry.symbol] = BufferSlice(INPUTS + number, 0, nbytes(entry.symbol, layout))
    _assign_constants(plan, layout, once is not None)
    _assign_results(graph, plan, layout)
    last: dict[Symbol, int] = {}
    for number, launch in enumerate(plan.launches):
        for symbol in (*launch.reads, *launch.writes):
            last[root(symbol)] = number
    persistent = _persistent(plan)
    plan.keeps_copies = bool(persistent)
    lasting = [s for s, _ in plan.deferred_writes] + [s for kernel in once or () for s in kernel.stored] + persistent
    for symbol in lasting + [
        s
        for launch in plan.launches[: plan.forward_count]
        for s in launch.writes
        if last[root(s)] >= plan.forward_count
    ]:
        last[root(symbol)] = len(plan.launches)  # the backward phase may run twice: keep what it reads
    arena = Arena(plan.arena)
    for symbol in persistent:  # first: these bytes are never reused
        plan.slices[symbol] = arena.allocate(nbytes(symbol, layout))
    for number, launch in enumerate(plan.launches):
        for symbol in launch.writes:
            if root(symbol) not in plan.slices:
                plan.slices[root(symbol)] = arena.allocate(nbytes(root(symbol), layout))
        if launch.loop is not None:
            _assign_starts(plan, launch.loop)
        done = [s for s in dict.fromkeys(root(x) for x in (*launch.reads, *launch.writes)) if last[s] == number]
        for symbol in done:
            buffer_slice = plan.slices[symbol]
            if reuse and buffer_slice.region == ARENA and symbol.constant is None:
                arena.free(buffer_slice)
                plan.freed.setdefault(number, []).append(buffer_slice)
    for symbol in (*layout.alias_of, *layout.subview_of):
        plan.slices[symbol] = _inner_slice(symbol, plan, layout)
    plan.arena = arena.size
    return plan


def _persistent(plan: MemoryPlan) -> list[Symbol]:
    """Symbols that keep their numbers between calls: copies of weights, and the scratch memory of scans with such copies."""
    persistent = [s for launch in plan.launches if launch.kernel.packed for s in launch.writes]
    return persistent + [
        launch.loop.scratch for launch in plan.launches if launch.loop is not None and launch.loop.plan.keeps_copies
    ]


def _inner_slice(symbol: Symbol, plan: MemoryPlan, layout: Layout) -> BufferSlice:
    """The slice of a Symbol in the memory of another."""
    if symbol in layout.alias_of:
        return _inner_slice(layout.alias_of[symbol], plan, layout)
    if symbol not in layout.subview_of:
        return plan.slices[symbol]
    container, start = layout.subview_of[symbol]
    region, offset, _ = _inner_slice(container, plan, layout)
    return BufferSlice(region, offset + start * dtype_size(symbol), nbytes(symbol, layout))


def _assign_starts(plan: MemoryPlan, loop: ScanLaunch) -> None:
    for i, start in enumerate(loop.starts):
        (begin,), states = start.writes, plan.slices[loop.results[i]]
        size = begin.size * dtype_size(begin)
        where = states.offset + loop.body.state(i, loop.body.first) * size
        plan.slices[begin] = BufferSlice(states.region, where, size)


def _assign_constants(plan: MemoryPlan, layout: Layout, outside: bool) -> None:
    """Assign slices to constants. outside: constants of a body belong to the program; here they are inputs behind the others."""
    for launch in plan.launches:
        for symbol in launch.reads:
            if symbol.constant is not None and symbol not in plan.slices:
                if outside:
                    plan.slices[symbol] = BufferSlice(
                        INPUTS + plan.input_count + len(plan.constants), 0, nbytes(symbol, layout)
                    )
                    plan.constants.append(symbol)
                    continue
                plan.slices[symbol] = BufferSlice(ARENA, plan.arena, nbytes(symbol, layout))
                plan.constants.append(symbol)
                plan.arena += _align_up(nbytes(symbol, layout))


def _assign_results(graph: Graph, plan: MemoryPlan, layout: Layout) -> None:
    """Assign outputs to their own region, and writes to their input where they can be in place."""
    for symbol in graph.outputs:
        plan.slices[symbol] = BufferSlice(OUTPUTS, plan.output_bytes, nbytes(symbol, layout))
        plan.output_bytes += _align_up(nbytes(symbol, layout))
    for entry, symbol in graph.writes:
        if _in_place(plan, entry, symbol, layout):
            plan.slices[symbol] = plan.slices[entry.symbol]
        else:
            plan.deferred_writes.append((symbol, entry))


def _in_place(plan: MemoryPlan, entry: Input, symbol: Symbol, layout: Layout) -> bool:
    """Whether `symbol` may be computed into the memory of `entry`, which loses the old value."""
    writer = next(i for i, launch in enumerate(plan.launches) if symbol in launch.writes)
    view = lambda launch: [
        x for x in launch.reads if layout.root_buffer(x) is entry.symbol
    ]  # a reshape may be an alias
    if any(view(launch) or has_bounds_check(launch.kernel) for launch in plan.launches[writer + 1 :]):
        return False  # a failing bounds check must leave everything unwritten
    launch = plan.launches[writer]
    if not view(launch):
        return True
    if view(launch) != [entry.symbol]:
        return False
    if launch.spec is None or launch.kernel.kind not in ("loop", "product", "copy"):
        return False
    pointer, target = launch.pointers.index(entry.symbol), launch.pointers.index(symbol)
    store = next(s for s in launch.spec.stores if s.pointer == target)
    loads = [
        x
        for instruction in launch.spec.instructions
        for x in instruction.operands
        if isinstance(x, Load) and x.pointer == pointer
    ]
    product = launch.spec.contraction
    if any(instruction.level for instruction in launch.spec.instructions):
        return False  # it passes over its rows again
    if product is not None and pointer in (product.splat.pointer, product.vectors.pointer):
        return False
    return all(x.offset == 0 and x.strides == store.strides for x in loads)


class Arena:
    """First-fit allocation of bytes."""

    def __init__(self, start: int) -> None:
        self.size = start
        self.gaps: list[tuple[int, int]] = []  # (offset, size), ascending

    def allocate(self, size: int) -> BufferSlice:
        want = _align_up(size)
        for i, (offset, gap) in enumerate(self.gaps):
            if gap >= want:
                self.gaps[i : i + 1] = [(offset + want, gap - want)] if gap > want else []
                return BufferSlice(ARENA, offset, size)
        buffer_slice = BufferSlice(ARENA, self.size, size)
        self.size += want
        return buffer_slice

    def free(self, buffer_slice: BufferSlice) -> None:
        self.gaps.append((buffer_slice.offset, _align_up(buffer_slice.size)))
        self.gaps.sort()
        merged: list[tuple[int, int]] = []
        for offset, size in self.gaps:
            if merged and merged[-1][0] + merged[-1][1] == offset:
                merged[-1] = (merged[-1][0], merged[-1][1] + size)
            elif size:
                merged.append((offset, size))
        self.gaps = merged


def _align_up(size: int) -> int:
    return -(-max(size, 1) // ALIGNMENT) * ALIGNMENT
