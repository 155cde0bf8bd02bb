"""Memory planning: arena allocation by liveness, in-place writes, and the order of launches (floor 4).

A value takes its bytes when it is computed and frees them after its last reader. A write into a Tensor is computed in place
if every reader of the old value has run; otherwise it is copied at the end. `plan_check.py` runs the plan in NumPy, with
freed bytes poisoned: a plan that overlaps two live values fails there without any native code.

The phases: the launches of the kernels; what lies outside the arena, or at its beginning; the last use of each Symbol; the
bytes of the arena, launch by launch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ....core.origin import user_origin
from ....core.value import Symbol
from ....ops.contraction import fold
from ...ir.graph import Graph, Input
from ...ir.rewrite import copy_of
from ...ir.scan_body import ScanBody, output_of
from ...ir.views import squeezed_shape, view_of
from .costs import CACHE_LINE
from .kernel import Kernel, dtype_size, external_operands
from .kernel_builder import build_spec, padding_extents
from .kernel_ir import KernelSpec, Load, Scalar
from .layout import Layout

ARENA, OUTPUTS, INPUTS = 0, 1, 2  # regions: input i is region INPUTS + i
FLAG = CACHE_LINE  # the arena begins with a cache line for the fault flag and the step that raised it
READY = 1  # the byte of the arena that says whether the copies of weights are up to date


class BufferSlice(NamedTuple):
    """Bytes offset ... offset + size - 1 of a region."""

    region: int
    offset: int
    size: int

    def overlaps(self, other: BufferSlice) -> bool:
        return self.region == other.region and self.offset < other.offset + other.size and (
            other.offset < self.offset + self.size
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Launch:
    """A kernel, its spec (None for a scan or an interpreted one), and the Symbols whose memory it uses."""

    kernel: Kernel
    spec: KernelSpec | None
    pointers: list[Symbol]
    reads: list[Symbol]
    writes: list[Symbol]
    loop: ScanLaunch | None = None

    @property
    def is_native(self) -> bool:
        return self.spec is not None or self.loop is not None


class Location(NamedTuple):
    """Where bytes of the body of a scan lie at step t: in the memory of `holder`, a Symbol of the plan around it.

    They are `offset` bytes from its beginning, and `step` bytes further at each step (None: the same at all steps). phase: of
    two states that take turns, at step t the one with the number (t + phase) % 2; None where all are stored.
    """

    holder: Symbol
    offset: int
    step: int | None = None
    phase: int | None = None

    def at(self, t: int) -> int:
        """The offset at step t."""
        turns = t if self.phase is None else (t + self.phase) % 2
        return self.offset + (self.step or 0) * turns


@dataclass(frozen=True, eq=False)
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
    def once(self) -> list[Launch]:
        """What runs before the first step."""
        return self.plan.launches[: self.once_count]

    @property
    def repeated(self) -> list[Launch]:
        """What runs at each step."""
        return self.plan.launches[self.once_count :]

    @functools.cached_property
    def outputs(self) -> dict[int, int]:
        """By offset in the output region of the body: the output that lies there."""
        outputs = self.plan.outputs
        return {self.plan.slices[symbol].offset: index for index, symbol in enumerate(outputs)}

    def locate(self, buffer_slice: BufferSlice) -> Location:
        """Where bytes of the body's plan lie at each step."""
        region, offset, size = buffer_slice
        if region == ARENA:
            return Location(self.scratch, offset)
        if region == OUTPUTS:
            index = self.outputs[offset]
            return self._state(index, self.body.step, size) if index < self.body.carries else self._stacked(index, size)
        index = region - INPUTS
        if index < self.body.carries:
            return self._state(index, 0, size)
        holder, offset, step = self.sources[index - self.body.carries]
        return Location(holder, offset, step or None)

    def _state(self, index: int, ahead: int, size: int) -> Location:
        """The state of a carry that step t reads, or that step t + ahead reads."""
        shift = ahead + int(self.body.reverse)
        if self.body.state_counts[index] > 2:
            return Location(self.results[index], shift * size, size)
        return Location(self.results[index], 0, size, shift)

    def _stacked(self, index: int, size: int) -> Location:
        return Location(self.results[index], 0, size)


@dataclass(frozen=True)
class MemoryPlan:
    """The memory plan of a graph.

    slices: of every stored Symbol, input and constant.
    deferred_writes: writes that are copied into their input at the end.
    arena, output_bytes: the sizes of these regions.
    freed: by launch, the bytes that it reads last.
    """

    launches: list[Launch]
    slices: dict[Symbol, BufferSlice]
    outputs: list[Symbol]
    constants: list[Symbol]
    deferred_writes: list[tuple[Symbol, Input]]
    input_count: int
    arena: int
    output_bytes: int
    freed: dict[int, list[BufferSlice]]

    @functools.cached_property
    def forward_count(self) -> int:
        """How many of the launches belong to the forward phase."""
        return _forward_count(self.launches)

    @functools.cached_property
    def keeps_copies(self) -> bool:
        """Whether copies of weights are reused between calls."""
        return bool(_persistent(self.launches))


def iter_launches(launches: Sequence[Launch], times: int = 1) -> Iterator[tuple[Launch, int]]:
    """The launches of single kernels, in order, in scans too, and how often each runs."""
    for launch in launches:
        if launch.loop is None:
            yield launch, times
        else:
            yield from iter_launches([*launch.loop.starts, *launch.loop.once], times)
            yield from iter_launches(launch.loop.repeated, times * launch.loop.body.length)


# ---- launches ------------------------------------------------------------------------------------------------------------


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
    spec, pointers = build_spec(kernel, layout)
    loads = {
        x.pointer for instruction in spec.instructions for x in instruction.operands if isinstance(x, Load | Scalar)
    }
    if spec.contraction is not None:
        loads |= {spec.contraction.splat.pointer, spec.contraction.vectors.pointer}
    reads = [s for i, s in enumerate(pointers) if i in loads]
    return Launch(kernel, spec, pointers, reads, list(kernel.stored))


def _scan_launch(kernel: Kernel, layout: Layout, reuse: bool) -> Launch:
    """The launch of a scan: plan its body, and locate its inputs and outputs."""
    scan, inputs = kernel.scan, kernel.root.inputs
    assert scan is not None
    body, carries = scan.body, scan.body.carries
    kernels, inner = layout.bodies[kernel]
    once, rest = _split_invariant(scan.graph, kernels, carries + body.slices)
    plan = plan_memory(scan.graph, once + rest, inner, reuse, once)
    count = sum(launch.kernel in once for launch in plan.launches)
    starts = [_start(x, layout) for x in inputs[:carries]]
    sources = []
    for i, x in enumerate(inputs[carries:]):
        offset, along = layout.locate(x)
        size = dtype_size(x)
        sources.append((view_of(x).source, offset * size, along[0] * size if i < body.slices else 0))
    sources += [(constant, 0, 0) for constant in plan.constants]
    results_by_key = {output_of(s): s for s in kernel.stored}
    keys = [("states" if i < carries else "stack", i) for i in range(len(scan.graph.outputs))]
    results = [results_by_key[key] if key in results_by_key else _temporary(*body.part(*key)) for key in keys]
    scratch = _temporary((plan.arena,), np.dtype(np.uint8))
    reads = list(dict.fromkeys([*(s for start in starts for s in start.reads), *(s for s, _, _ in sources)]))
    loop = ScanLaunch(body, plan, inner, count, starts, sources, results, scratch)
    return Launch(kernel, None, [], reads, [*results, scratch], loop)


def _temporary(shape: tuple[int, ...], dtype: np.dtype) -> Symbol:
    return Symbol(None, (), {}, shape, dtype, user_origin())


def _start(x: Symbol, layout: Layout) -> Launch:
    """The launch that copies the first carry. Its slice is assigned with that of the states."""
    begin = copy_of(x)
    return _launch(Kernel("copy", [begin], squeezed_shape(x.shape), stored=[begin]), layout)


def _split_invariant(graph: Graph, kernels: Sequence[Kernel], first: int) -> tuple[list[Kernel], list[Kernel]]:
    """The kernels of a body that only depend on inputs from number `first` on, which are loop-invariant; and the others."""
    invariant = {entry.symbol for entry in graph.inputs[first:]}
    once, rest = [], []
    for kernel in kernels:
        same = all(s in invariant or s.constant is not None for s in external_operands(kernel))
        if same and not kernel.has_check and not set(kernel.stored) & set(graph.outputs):
            once.append(kernel)
            invariant.update(kernel.stored)
        else:
            rest.append(kernel)
    return once, rest


# ---- the phases ----------------------------------------------------------------------------------------------------------


def plan_memory(
    graph: Graph, kernels: list[Kernel], layout: Layout, reuse: bool = True, once: list[Kernel] | None = None
) -> MemoryPlan:
    """Plan the memory of a program or of the body of a scan.

    once: loop-invariant kernels of a body. They run before the first step, so that their results may not be overwritten.
    """
    launches = make_launches(sorted(kernels, key=lambda kernel: not kernel.packed), layout, reuse)
    outside = _outside_arena(graph, launches, layout, is_body=once is not None)
    last = _last_uses(launches, outside, layout, once or [])
    slices, size, freed = _allocate(launches, outside, layout, last, reuse)
    for symbol in (*layout.alias_of, *layout.subview_of):
        slices[symbol] = _inner_slice(symbol, slices, layout)
    for loop in (launch.loop for launch in launches if launch.loop is not None):
        slices |= _start_slices(loop, slices)
    return MemoryPlan(
        launches, slices, graph.outputs, outside.constants, outside.deferred_writes, len(graph.inputs), size,
        outside.output_bytes, freed,
    )  # fmt: skip


def nbytes(symbol: Symbol, layout: Layout) -> int:
    """Bytes from the first to the last element of a stored Symbol."""
    if not symbol.size:
        return 0
    strides = layout.strides_of(symbol)
    last = sum((size - 1) * stride for size, stride in zip(symbol.shape, strides, strict=True))
    return (last + 1) * dtype_size(symbol)


@dataclass(frozen=True)
class OutsideArena:
    """What does not take part in the allocation of the arena.

    slices: of inputs, outputs, constants, and writes in place. constant_bytes: of the arena, which begins with the flag and the
    constants of a program; those of a body are inputs behind the others.
    """

    slices: dict[Symbol, BufferSlice]
    constants: list[Symbol]
    deferred_writes: list[tuple[Symbol, Input]]
    output_bytes: int
    constant_bytes: int


def _outside_arena(graph: Graph, launches: list[Launch], layout: Layout, is_body: bool) -> OutsideArena:
    slices: dict[Symbol, BufferSlice] = {}
    for number, entry in enumerate(graph.inputs):
        slices[entry.symbol] = BufferSlice(INPUTS + number, 0, nbytes(entry.symbol, layout))
    read = (symbol for launch in launches for symbol in launch.reads)
    constants = list(dict.fromkeys(s for s in read if s.constant is not None and s not in slices))
    end = FLAG
    for number, symbol in enumerate(constants):
        size = nbytes(symbol, layout)
        if is_body:
            slices[symbol] = BufferSlice(INPUTS + len(graph.inputs) + number, 0, size)
        else:
            slices[symbol] = BufferSlice(ARENA, end, size)
            end += _align_up(size)
    output_bytes = 0
    for symbol in graph.outputs:
        slices[symbol] = BufferSlice(OUTPUTS, output_bytes, nbytes(symbol, layout))
        output_bytes += _align_up(nbytes(symbol, layout))
    deferred = []
    for entry, symbol in graph.writes:
        if _in_place(launches, entry, symbol, layout):
            slices[symbol] = slices[entry.symbol]
        else:
            deferred.append((symbol, entry))
    return OutsideArena(slices, constants, deferred, output_bytes, end)


def _last_uses(launches: list[Launch], outside: OutsideArena, layout: Layout, once: list[Kernel]) -> dict[Symbol, int]:
    """The number of the launch that uses the memory of a Symbol last; len(launches) where it has to stay."""
    root, forward = layout.root_buffer, _forward_count(launches)
    last: dict[Symbol, int] = {}
    for number, launch in enumerate(launches):
        for symbol in (*launch.reads, *launch.writes):
            last[root(symbol)] = number
    lasting = [s for s, _ in outside.deferred_writes] + [s for kernel in once for s in kernel.stored]
    lasting += _persistent(launches)
    # The backward phase may run twice: keep what it reads.
    lasting += [s for launch in launches[:forward] for s in launch.writes if last[root(s)] >= forward]
    for symbol in lasting:
        last[root(symbol)] = len(launches)
    return last


def _forward_count(launches: list[Launch]) -> int:
    return sum(not launch.kernel.in_backward for launch in launches)


def _persistent(launches: list[Launch]) -> list[Symbol]:
    """Symbols that keep their numbers between calls: copies of weights, and the scratch memory of scans with such copies."""
    persistent = [s for launch in launches if launch.kernel.packed for s in launch.writes]
    return persistent + [
        launch.loop.scratch for launch in launches if launch.loop is not None and launch.loop.plan.keeps_copies
    ]


def _allocate(
    launches: list[Launch], outside: OutsideArena, layout: Layout, last: dict[Symbol, int], reuse: bool
) -> tuple[dict[Symbol, BufferSlice], int, dict[int, list[BufferSlice]]]:
    """All slices, the size of the arena, and by launch the bytes that are free behind it."""
    root, slices, arena = layout.root_buffer, dict(outside.slices), Arena(outside.constant_bytes)
    freed: dict[int, list[BufferSlice]] = {}
    for symbol in _persistent(launches):  # first: these bytes are never reused
        slices[symbol] = arena.allocate(nbytes(symbol, layout))
    for number, launch in enumerate(launches):
        for symbol in map(root, launch.writes):
            if symbol not in slices:
                slices[symbol] = arena.allocate(nbytes(symbol, layout))
        done = [s for s in dict.fromkeys(map(root, (*launch.reads, *launch.writes))) if last[s] == number]
        for symbol in done:
            if reuse and slices[symbol].region == ARENA and symbol.constant is None:
                arena.free(slices[symbol])
                freed.setdefault(number, []).append(slices[symbol])
    return slices, arena.size, freed


def _inner_slice(symbol: Symbol, slices: dict[Symbol, BufferSlice], layout: Layout) -> BufferSlice:
    """The slice of a Symbol in the memory of another."""
    if symbol in layout.alias_of:
        return _inner_slice(layout.alias_of[symbol], slices, layout)
    if symbol not in layout.subview_of:
        return slices[symbol]
    container, start = layout.subview_of[symbol]
    region, offset, _ = _inner_slice(container, slices, layout)
    return BufferSlice(region, offset + start * dtype_size(symbol), nbytes(symbol, layout))


def _start_slices(loop: ScanLaunch, slices: dict[Symbol, BufferSlice]) -> dict[Symbol, BufferSlice]:
    """The slices of the first states of a scan, which its starts write."""
    starts = {}
    for i, start in enumerate(loop.starts):
        (begin,) = start.writes
        first = BufferSlice(INPUTS + i, 0, begin.size * dtype_size(begin))
        holder, *_ = location = loop.locate(first)
        starts[begin] = first._replace(
            region=slices[holder].region, offset=slices[holder].offset + location.at(loop.body.first)
        )
    return starts


def _in_place(launches: list[Launch], entry: Input, symbol: Symbol, layout: Layout) -> bool:
    """Whether `symbol` may be computed into the memory of `entry`, which loses the old value."""
    writer = next(i for i, launch in enumerate(launches) if symbol in launch.writes)
    view = lambda launch: [
        x for x in launch.reads if layout.root_buffer(x) is entry.symbol
    ]  # a reshape may be an alias
    if any(view(launch) or launch.kernel.has_check for launch in launches[writer + 1 :]):
        return False  # a failing bounds check must leave everything unwritten
    launch = launches[writer]
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
    return -(-max(size, 1) // CACHE_LINE) * CACHE_LINE
