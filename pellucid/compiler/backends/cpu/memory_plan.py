"""Where everything lies: the arena, its reuse, what is written in place; and a run of the plan in NumPy (floor 4).

A value gets its bytes when it is computed and gives them back after its last reader. What a step writes into a Tensor is
computed right there if every reader of the old numbers has run; else it is copied there at the end. `run_planned`
executes the kernels in NumPy over views of the planned memory, with freed bytes poisoned: a plan that overlaps two living
values fails in it without any native code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ....core.origin import user_origin
from ....core.value import Symbol
from ...ir.graph import Graph, Input
from ...ir.rewrite import emit
from ...ir.scan_body import ScanBody
from ...ir.views import row_major, squeezed_shape, view_of
from .fusion import Kernel, dtype_size, external_operands, has_bounds_check
from .kernel_builder import KernelSpecBuilder, padding_extents
from .kernel_ir import KernelSpec, Load, Scalar
from .layout import Layout
from .storage import ALIGNMENT

ARENA, OUTPUTS, INPUTS = 0, 1, 2  # regions: slot i is region SLOTS + i
FLAG = ALIGNMENT  # the arena begins with a line for the flag of indices out of range, and the step that raised it


class BufferSlice(NamedTuple):
    """Bytes offset ... offset+size-1 of a region."""

    region: int
    offset: int
    size: int

    def overlaps(self, other: BufferSlice) -> bool:
        return self.region == other.region and self.offset < other.offset + other.size and (
            other.offset < self.offset + self.size
        )  # fmt: skip


@dataclass(eq=False)
class Launch:
    """A kernel with its recipe (None: a loop, or interpreted), and the Symbols whose memory it touches."""

    kernel: Kernel
    recipe: KernelSpec | None
    pointers: list[Symbol]
    reads: list[Symbol]
    writes: list[Symbol]
    loop: ScanLaunch | None = None


@dataclass(eq=False)
class ScanLaunch:
    """What a loop does. plan: of its body, whose regions are the memory `scratch`, the results and the inputs.

    starts: copies of the carry into the first of its states. once: how many of the body's jobs run before the first
    position only. sources: of the inputs behind the carry, and of the constants, where each lies: in which Symbol, how many
    bytes behind its beginning, and how many more from position to position. results: the states of each carry, then the
    stacks.
    """

    body: ScanBody
    plan: MemoryPlan
    layout: Layout
    once: int
    starts: list[Launch]
    sources: list[tuple[Symbol, int, int]]
    results: list[Symbol]
    scratch: Symbol

    @property
    def outputs(self) -> dict[int, int]:
        """Which output lies where in the body's own plan."""
        outputs = self.plan.outputs
        return {self.plan.places[symbol].offset: index for index, symbol in enumerate(outputs)}


@dataclass
class MemoryPlan:
    """places: of every stored Symbol, input and constant.
    late: writes that are copied into their slot at the end.
    boundary: how many of the jobs belong to the forward phase: all, unless the backward is asked for outside.
    keeps: whether copies of weights are kept from call to call."""

    jobs: list[Launch]
    places: dict[Symbol, BufferSlice]
    outputs: list[Symbol]
    constants: list[Symbol]
    late: list[tuple[Symbol, Input]]
    slots: int
    arena: int = FLAG
    output_bytes: int = 0
    boundary: int = 0
    keeps: bool = False
    freed: dict[int, list[BufferSlice]] = field(default_factory=dict)  # after job number: what nobody reads any more


def make_launches(kernels: list[Kernel], layout: Layout, reuse: bool = True) -> list[Launch]:
    jobs = []
    for kernel in kernels:
        if kernel.kind == "reshape" and kernel.anchor in layout.same:
            continue
        if kernel.kind == "add_windows" and layout.contains(kernel.anchor) and not padding_extents(kernel.anchor):
            continue
        if kernel.kind == "interpreted":
            jobs.append(Launch(kernel, None, [], list(external_operands(kernel)), list(kernel.stored)))
            continue
        jobs.append(_scan_launch(kernel, layout, reuse) if kernel.kind == "scan" else _launch(kernel, layout))
    return jobs


def _launch(kernel: Kernel, layout: Layout) -> Launch:
    writer = KernelSpecBuilder(kernel, layout)
    recipe = writer.recipe()
    loads = {x.pointer for step in recipe.steps for x in step.operands if isinstance(x, Load | Scalar)}
    if recipe.product is not None:
        loads |= {recipe.product.splat.pointer, recipe.product.vectors.pointer}
    reads = [s for i, s in enumerate(writer.pointers) if i in loads]
    return Launch(kernel, recipe, writer.pointers, reads, list(kernel.stored))


def _scan_launch(kernel: Kernel, layout: Layout, reuse: bool) -> Launch:
    """A loop: its body planned by itself, and where what goes in and out lies."""
    inner, inputs = kernel.loop_body, kernel.anchor.inputs
    assert inner is not None
    body, carries = inner.body, inner.body.carries
    once, rest = _hoisted(inner.graph, inner.kernels, carries + body.slices)
    plan = plan_memory(inner.graph, once + rest, inner.layout, reuse, once)
    count = sum(job.kernel in once for job in plan.jobs)
    starts = [_start(x, layout) for x in inputs[:carries]]
    places = []
    for i, x in enumerate(inputs[carries:]):
        seen = view_of(x)
        offset, along = seen.address(layout.strides.get(seen.source) or row_major(seen.source.shape), x.ndim)
        size = dtype_size(x)
        places.append((seen.source, offset * size, along[0] * size if i < body.slices else 0))
    places += [(constant, 0, 0) for constant in plan.constants]
    made = {(s.attributes["what"], s.attributes["index"]): s for s in kernel.stored}
    keys = [("states" if i < carries else "stack", i) for i in range(len(inner.graph.outputs))]
    results = [made[key] if key in made else _temporary(*body.part(*key)) for key in keys]
    scratch = _temporary((plan.arena,), np.dtype(np.uint8))
    reads = list(dict.fromkeys([*(s for start in starts for s in start.reads), *(s for s, _, _ in places)]))
    loop = ScanLaunch(body, plan, inner.layout, count, starts, places, results, scratch)
    return Launch(kernel, None, [], reads, [*results, scratch], loop)


def _temporary(shape: tuple[int, ...], dtype: np.dtype) -> Symbol:
    return Symbol(None, (), {}, shape, dtype, user_origin())


def _start(x: Symbol, layout: Layout) -> Launch:
    """A copy of the carry a loop begins with; its place is decided with that of the states."""
    begin = emit("cast", x, origin=x.origin, dtype=x.dtype)
    layout.strides[begin] = row_major(x.shape)
    return _launch(Kernel("copy", [begin], squeezed_shape(x.shape), stored=[begin]), layout)


def _hoisted(graph: Graph, kernels: list[Kernel], first: int) -> tuple[list[Kernel], list[Kernel]]:
    """The kernels of a body that read nothing but inputs from number `first` on, and the others."""
    known = {slot.symbol for slot in graph.inputs[first:]}
    once, rest = [], []
    for kernel in kernels:
        same = all(s in known or s.constant is not None for s in external_operands(kernel))
        if same and not has_bounds_check(kernel) and not set(kernel.stored) & set(graph.outputs):
            once.append(kernel)
            known.update(kernel.stored)
        else:
            rest.append(kernel)
    return once, rest


def iter_launches(jobs: list[Launch], times: int = 1) -> Iterator[tuple[Launch, int]]:
    """The jobs that are one kernel each, in order, those in loops too, and how often each runs."""
    for job in jobs:
        if job.loop is None:
            yield job, times
        else:
            yield from iter_launches([*job.loop.starts, *job.loop.plan.jobs[: job.loop.once]], times)
            yield from iter_launches(job.loop.plan.jobs[job.loop.once :], times * job.loop.body.length)


def nbytes(symbol: Symbol, layout: Layout) -> int:
    """Bytes from the first to the last number of a stored Symbol."""
    strides = layout.strides.get(symbol) or row_major(symbol.shape)
    if not symbol.size:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(symbol.shape, strides, strict=True))
    return (last + 1) * dtype_size(symbol)


def plan_memory(
    graph: Graph, kernels: list[Kernel], layout: Layout, reuse: bool = True, once: list[Kernel] | None = None
) -> MemoryPlan:
    """The plan of a program, or of what a loop repeats; of that, the kernels `once` run before the first position only, so
    that nobody may overwrite their results."""
    kernels = sorted(kernels, key=lambda kernel: not kernel.packed)
    plan = MemoryPlan(make_launches(kernels, layout, reuse), {}, graph.outputs, [], [], len(graph.inputs))
    plan.boundary = sum(not job.kernel.late for job in plan.jobs)
    root = layout.home
    for number, slot in enumerate(graph.inputs):
        plan.places[slot.symbol] = BufferSlice(INPUTS + number, 0, nbytes(slot.symbol, layout))
    _place_constants(plan, layout, once is not None)
    _place_results(graph, plan, layout)
    last: dict[Symbol, int] = {}
    for number, job in enumerate(plan.jobs):
        for symbol in (*job.reads, *job.writes):
            last[root(symbol)] = number
    kept = _kept(plan)
    plan.keeps = bool(kept)
    lasting = [s for s, _ in plan.late] + [s for kernel in once or () for s in kernel.stored] + kept
    for symbol in lasting + [
        s for job in plan.jobs[: plan.boundary] for s in job.writes if last[root(s)] >= plan.boundary
    ]:
        last[root(symbol)] = len(plan.jobs)  # what the backward phase reads stays: it may be run twice
    arena = Arena(plan.arena)
    for symbol in kept:  # before all others: nothing else may ever lie there
        plan.places[symbol] = arena.take(nbytes(symbol, layout))
    for number, job in enumerate(plan.jobs):
        for symbol in job.writes:
            if root(symbol) not in plan.places:
                plan.places[root(symbol)] = arena.take(nbytes(root(symbol), layout))
        if job.loop is not None:
            _place_starts(plan, job.loop)
        done = [s for s in dict.fromkeys(root(x) for x in (*job.reads, *job.writes)) if last[s] == number]
        for symbol in done:
            place = plan.places[symbol]
            if reuse and place.region == ARENA and symbol.constant is None:
                arena.give(place)
                plan.freed.setdefault(number, []).append(place)
    for symbol in (*layout.same, *layout.inside):
        plan.places[symbol] = _inner_place(symbol, plan, layout)
    plan.arena = arena.size
    return plan


def _kept(plan: MemoryPlan) -> list[Symbol]:
    """What keeps its numbers from call to call: copies of weights, and the memory of loops that have made some."""
    kept = [s for job in plan.jobs if job.kernel.packed for s in job.writes]
    return kept + [job.loop.scratch for job in plan.jobs if job.loop is not None and job.loop.plan.keeps]


def _inner_place(symbol: Symbol, plan: MemoryPlan, layout: Layout) -> BufferSlice:
    """The place of a Symbol that lies in the memory of another."""
    if symbol in layout.same:
        return _inner_place(layout.same[symbol], plan, layout)
    if symbol not in layout.inside:
        return plan.places[symbol]
    container, start = layout.inside[symbol]
    region, offset, _ = _inner_place(container, plan, layout)
    return BufferSlice(region, offset + start * dtype_size(symbol), nbytes(symbol, layout))


def _place_starts(plan: MemoryPlan, loop: ScanLaunch) -> None:
    for i, start in enumerate(loop.starts):
        (begin,), states = start.writes, plan.places[loop.results[i]]
        size = begin.size * dtype_size(begin)
        where = states.offset + loop.body.state(i, loop.body.first) * size
        plan.places[begin] = BufferSlice(states.region, where, size)


def _place_constants(plan: MemoryPlan, layout: Layout, outside: bool) -> None:
    """outside: the constants of a body are constants of the program, and here like inputs behind the others."""
    for job in plan.jobs:
        for symbol in job.reads:
            if symbol.constant is not None and symbol not in plan.places:
                if outside:
                    plan.places[symbol] = BufferSlice(
                        INPUTS + plan.slots + len(plan.constants), 0, nbytes(symbol, layout)
                    )
                    plan.constants.append(symbol)
                    continue
                plan.places[symbol] = BufferSlice(ARENA, plan.arena, nbytes(symbol, layout))
                plan.constants.append(symbol)
                plan.arena += _align_up(nbytes(symbol, layout))


def _place_results(graph: Graph, plan: MemoryPlan, layout: Layout) -> None:
    """Outputs in a region of their own; writes in their slot, where they may."""
    for symbol in graph.outputs:
        plan.places[symbol] = BufferSlice(OUTPUTS, plan.output_bytes, nbytes(symbol, layout))
        plan.output_bytes += _align_up(nbytes(symbol, layout))
    for slot, symbol in graph.writes:
        if _in_place(plan, slot, symbol, layout):
            plan.places[symbol] = plan.places[slot.symbol]
        else:
            plan.late.append((symbol, slot))


def _in_place(plan: MemoryPlan, slot: Input, symbol: Symbol, layout: Layout) -> bool:
    """Whether `symbol` may be computed into the memory of `slot`, whose old numbers are then gone."""
    writer = next(i for i, job in enumerate(plan.jobs) if symbol in job.writes)
    seen = lambda job: [x for x in job.reads if layout.home(x) is slot.symbol]  # a reshape may be the same memory
    if any(seen(job) or has_bounds_check(job.kernel) for job in plan.jobs[writer + 1 :]):
        return False  # a check that fails must find everything unwritten
    job = plan.jobs[writer]
    if not seen(job):
        return True
    if seen(job) != [slot.symbol]:
        return False
    if job.recipe is None or job.kernel.kind not in ("loop", "product", "copy"):
        return False
    pointer, target = job.pointers.index(slot.symbol), job.pointers.index(symbol)
    store = next(s for s in job.recipe.stores if s.pointer == target)
    loads = [x for step in job.recipe.steps for x in step.operands if isinstance(x, Load) and x.pointer == pointer]
    product = job.recipe.product
    if any(step.level for step in job.recipe.steps):
        return False  # it goes over its rows again
    if product is not None and pointer in (product.splat.pointer, product.vectors.pointer):
        return False
    return all(x.offset == 0 and x.strides == store.strides for x in loads)


class Arena:
    """Bytes handed out and given back: the first gap that is wide enough."""

    def __init__(self, start: int) -> None:
        self.size = start
        self.gaps: list[tuple[int, int]] = []  # (offset, size), ascending

    def take(self, size: int) -> BufferSlice:
        want = _align_up(size)
        for i, (offset, gap) in enumerate(self.gaps):
            if gap >= want:
                self.gaps[i : i + 1] = [(offset + want, gap - want)] if gap > want else []
                return BufferSlice(ARENA, offset, size)
        place = BufferSlice(ARENA, self.size, size)
        self.size += want
        return place

    def give(self, place: BufferSlice) -> None:
        self.gaps.append((place.offset, _align_up(place.size)))
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


# ---- the plan in NumPy ---------------------------------------------------------------------------------------------------
