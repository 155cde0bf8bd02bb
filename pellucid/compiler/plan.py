"""Where everything lies: the arena, its reuse, what is written in place; and a run of the plan in NumPy (floor 4).

A value gets its bytes when it is computed and gives them back after its last reader. What a step writes into a Tensor is
computed right there if every reader of the old numbers has run; else it is copied there at the end. `run_planned`
executes the kernels in NumPy over views of the planned memory, with freed bytes poisoned: a plan that overlaps two living
values fails in it without any native code.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..op import Symbol
from .fuse import Kernel, checks, dtype_size, sources
from .graph import Graph, Slot
from .layout import Layout
from .recipe import Load, Recipe, Writer, borders
from .storage import ALIGNED
from .views import VIEWS, row_major

ARENA, OUTPUTS, SLOTS = 0, 1, 2  # regions: slot i is region SLOTS + i
FLAG = ALIGNED  # the arena begins with a line for the flag of indices out of range, and the step that raised it


class Place(NamedTuple):
    """Bytes offset ... offset+size-1 of a region."""

    region: int
    offset: int
    size: int

    def overlaps(self, other: Place) -> bool:
        return self.region == other.region and self.offset < other.offset + other.size and (
            other.offset < self.offset + self.size
        )  # fmt: skip


@dataclass(eq=False)
class Job:
    """A kernel with its recipe (None: interpreted), and the Symbols whose memory it touches."""

    kernel: Kernel
    recipe: Recipe | None
    pointers: list[Symbol]
    reads: list[Symbol]
    writes: list[Symbol]


@dataclass
class Plan:
    """places: of every stored Symbol, input and constant.
    late: writes that are copied into their slot at the end."""

    jobs: list[Job]
    places: dict[Symbol, Place]
    constants: list[Symbol]
    late: list[tuple[Symbol, Slot]]
    slots: int
    arena: int = FLAG
    output_bytes: int = 0
    freed: dict[int, list[Place]] = field(default_factory=dict)  # after job number: what nobody reads any more


def make_jobs(kernels: list[Kernel], layout: Layout) -> list[Job]:
    jobs = []
    for kernel in kernels:
        if kernel.kind == "reshape" and kernel.anchor in layout.same:
            continue
        if kernel.kind == "add_windows" and layout.contains(kernel.anchor) and not borders(kernel.anchor):
            continue
        if kernel.kind == "interpreted":
            jobs.append(Job(kernel, None, [], list(sources(kernel)), list(kernel.stored)))
            continue
        writer = Writer(kernel, layout)
        recipe = writer.recipe()
        loads = {x.pointer for step in recipe.steps for x in step.operands if isinstance(x, Load)}
        if recipe.product is not None:
            loads |= {recipe.product.splat.pointer, recipe.product.vectors.pointer}
        reads = [s for i, s in enumerate(writer.pointers) if i in loads]
        jobs.append(Job(kernel, recipe, writer.pointers, reads, list(kernel.stored)))
    return jobs


def extent(symbol: Symbol, layout: Layout) -> int:
    """Bytes from the first to the last number of a stored Symbol."""
    strides = layout.strides.get(symbol) or row_major(symbol.shape)
    if not symbol.size:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(symbol.shape, strides, strict=True))
    return (last + 1) * dtype_size(symbol)


def planned(graph: Graph, kernels: list[Kernel], layout: Layout, reuse: bool = True) -> Plan:
    plan = Plan(make_jobs(kernels, layout), {}, [], [], len(graph.inputs))

    root = layout.home
    for number, slot in enumerate(graph.inputs):
        plan.places[slot.symbol] = Place(SLOTS + number, 0, extent(slot.symbol, layout))
    _place_constants(plan, layout)
    _place_results(graph, plan, layout)
    last: dict[Symbol, int] = {}
    for number, job in enumerate(plan.jobs):
        for symbol in (*job.reads, *job.writes):
            last[root(symbol)] = number
    for symbol, _ in plan.late:
        last[root(symbol)] = len(plan.jobs)
    arena = Arena(plan.arena)
    for number, job in enumerate(plan.jobs):
        for symbol in job.writes:
            if root(symbol) not in plan.places:
                plan.places[root(symbol)] = arena.take(extent(root(symbol), layout))
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


def _inner_place(symbol: Symbol, plan: Plan, layout: Layout) -> Place:
    """The place of a Symbol that lies in the memory of another."""
    if symbol in layout.same:
        return _inner_place(layout.same[symbol], plan, layout)
    if symbol not in layout.inside:
        return plan.places[symbol]
    container, start = layout.inside[symbol]
    region, offset, _ = _inner_place(container, plan, layout)
    return Place(region, offset + start * dtype_size(symbol), extent(symbol, layout))


def _place_constants(plan: Plan, layout: Layout) -> None:
    for job in plan.jobs:
        for symbol in job.reads:
            if symbol.constant is not None and symbol not in plan.places:
                plan.places[symbol] = Place(ARENA, plan.arena, extent(symbol, layout))
                plan.constants.append(symbol)
                plan.arena += _whole(extent(symbol, layout))


def _place_results(graph: Graph, plan: Plan, layout: Layout) -> None:
    """Outputs in a region of their own; writes in their slot, where they may."""
    for symbol in graph.outputs:
        plan.places[symbol] = Place(OUTPUTS, plan.output_bytes, extent(symbol, layout))
        plan.output_bytes += _whole(extent(symbol, layout))
    for slot, symbol in graph.writes:
        if _in_place(plan, slot, symbol):
            plan.places[symbol] = plan.places[slot.symbol]
        else:
            plan.late.append((symbol, slot))


def _in_place(plan: Plan, slot: Slot, symbol: Symbol) -> bool:
    """Whether `symbol` may be computed into the memory of `slot`, whose old numbers are then gone."""
    writer = next(i for i, job in enumerate(plan.jobs) if symbol in job.writes)
    if any(slot.symbol in job.reads or checks(job.kernel) for job in plan.jobs[writer + 1 :]):
        return False  # a check that fails must find everything unwritten
    job = plan.jobs[writer]
    if slot.symbol not in job.reads:
        return True
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

    def take(self, size: int) -> Place:
        want = _whole(size)
        for i, (offset, gap) in enumerate(self.gaps):
            if gap >= want:
                self.gaps[i : i + 1] = [(offset + want, gap - want)] if gap > want else []
                return Place(ARENA, offset, size)
        place = Place(ARENA, self.size, size)
        self.size += want
        return place

    def give(self, place: Place) -> None:
        self.gaps.append((place.offset, _whole(place.size)))
        self.gaps.sort()
        merged: list[tuple[int, int]] = []
        for offset, size in self.gaps:
            if merged and merged[-1][0] + merged[-1][1] == offset:
                merged[-1] = (merged[-1][0], merged[-1][1] + size)
            elif size:
                merged.append((offset, size))
        self.gaps = merged


def _whole(size: int) -> int:
    return -(-max(size, 1) // ALIGNED) * ALIGNED


# ---- the plan in NumPy ---------------------------------------------------------------------------------------------------


class Memory:
    """Regions as NumPy bytes, and Symbols as views of them."""

    def __init__(self, plan: Plan, layout: Layout, regions: dict[int, np.ndarray]) -> None:
        self.plan, self.layout, self.regions = plan, layout, regions

    def stored(self, symbol: Symbol) -> np.ndarray:
        """The writable view of a stored Symbol."""
        place = self.plan.places[symbol]
        strides = self.layout.strides.get(symbol) or row_major(symbol.shape)
        size = dtype_size(symbol)
        return np.ndarray(symbol.shape, symbol.dtype, self.regions[place.region].data, place.offset,
                          tuple(s * size for s in strides))  # fmt: skip

    def read(self, symbol: Symbol, known: dict[Symbol, Any]) -> np.ndarray:
        if symbol in known:
            return known[symbol]
        if symbol.constant is not None:
            return symbol.constant
        if symbol in self.plan.places:
            return self.stored(symbol)
        assert symbol.op is not None and symbol.op.name in VIEWS, symbol
        return symbol.op.forward(self.read(symbol.inputs[0], known), **symbol.attributes)

    def run(self, job: Job) -> None:
        """One kernel, operation by operation, into its planned places."""
        known: dict[Symbol, Any] = {}
        for symbol in job.kernel.symbols:
            copies = [self.layout.operand.get((job.kernel, side)) for side in range(len(symbol.inputs))]
            copies = copies if symbol is job.kernel.anchor else []
            inputs = [self.read(x, known) for x in symbol.inputs]
            for side, copy in enumerate(copies):
                if copy is not None:
                    inputs[side] = self.stored(copy)
            known[symbol] = np.array(symbol.op.forward(*inputs, **symbol.attributes), symbol.dtype)  # type: ignore[union-attr]
        for symbol in job.writes:
            self.stored(symbol)[...] = known[symbol]


def run_planned(
    graph: Graph, plan: Plan, layout: Layout, values: list[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What `run_reference` gives, computed in the planned memory. A value read after it was freed comes out as NaN or -1."""
    regions = {ARENA: np.full(plan.arena, 255, np.uint8), OUTPUTS: np.full(max(plan.output_bytes, 1), 255, np.uint8)}
    for number, (slot, value) in enumerate(zip(graph.inputs, values, strict=True)):
        raw = np.ascontiguousarray(value, slot.symbol.dtype).reshape(-1).view(np.uint8).copy()
        regions[SLOTS + number] = raw if raw.size else np.zeros(1, np.uint8)
    memory = Memory(plan, layout, regions)
    for symbol in plan.constants:
        memory.stored(symbol)[...] = symbol.constant
    for number, job in enumerate(plan.jobs):
        memory.run(job)
        for place in plan.freed.get(number, ()):
            regions[ARENA][place.offset : place.offset + place.size] = 255
    late = [(slot, memory.read(symbol, {}).copy()) for symbol, slot in plan.late]
    for slot, array in late:
        memory.stored(slot.symbol)[...] = array
    return [memory.stored(s).copy() for s in graph.outputs], [
        memory.stored(slot.symbol).copy() for slot, _ in graph.writes
    ]
