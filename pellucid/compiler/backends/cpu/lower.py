"""A plan as native code: one function per distinct recipe, and a driver that calls them in order (floor 4).

The driver is the program: `program(team, context, thread, threads, step)`. context holds the addresses of all regions
(arena, outputs, slots), and behind them how many bytes each moves on from step to step. Small kernels run on thread 0
alone, one after another; between two kernels that touch the same bytes on different threads stands a barrier. Kernels
without native code cut the program into segments, between which Python runs them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .fusion import has_bounds_check
from .kernel_ir import KernelSpec, Scalar
from .kernels import attention
from .kernels.attention import ATTENTION_EMITTERS
from .kernels.data_movement import MOVEMENT_EMITTERS
from .kernels.elementwise import accesses, emit_copy, emit_loop
from .kernels.gather_scatter import INDEXED_EMITTERS
from .kernels.matmul import emit_product
from .kernels.random import RANDOM_EMITTERS
from .llvm import compile_module, i8, i64, new_function, new_module, pointer
from .memory_plan import ARENA, INPUTS, OUTPUTS, BufferSlice, Launch, MemoryPlan, ScanLaunch, iter_launches
from .target import Target
from .thread_pool import PROGRAM, emit_barrier

EMITTERS: dict[str, Callable[..., None]] = {
    "loop": emit_loop, "copy": emit_copy, "reshape": emit_copy, "product": emit_product, **MOVEMENT_EMITTERS, **INDEXED_EMITTERS, **RANDOM_EMITTERS,
    **ATTENTION_EMITTERS,
}  # fmt: skip
READY = 1  # the byte of the arena that says whether the copies of weights are those of now
MIN_PARALLEL_FLOPS = 1 << 15  # a kernel of fewer operations than this costs less than sharing it out


def flops(recipe: KernelSpec) -> int:
    """Additions, multiplications and function values of one run."""
    size = math.prod(recipe.domain)
    if recipe.product is not None:
        return size * (2 * math.prod(recipe.product.sizes) + len(recipe.steps) - 1)
    if recipe.kind in ATTENTION_EMITTERS:
        return attention.flops(recipe)
    return 0 if recipe.kind in ("copy", "reshape") else size * len(recipe.steps)


def traffic(recipe: KernelSpec) -> int:
    """Bytes of the domain read and written, each operand once."""
    total = 0
    for x in accesses(recipe):
        moved = math.prod(n for n, stride in zip(recipe.domain, x.strides, strict=False) if stride)
        total += moved * np.dtype(x.dtype).itemsize
    return total


@dataclass
class Segment:
    """Consecutive native jobs, then one interpreted one (or none, at the end)."""

    jobs: list[Launch] = field(default_factory=list)
    interpreted: Launch | None = None


@dataclass
class LoweredProgram:
    """What there is to compile: the text is made only where no object code is kept for `key`."""

    plan: MemoryPlan
    target: Target
    segments: list[Segment]
    places: list[list[list[BufferSlice]]]  # of all that every native job touches, by segment
    forward: int  # how many of the segments are the forward phase: all, unless the backward is asked for outside
    key: str = ""

    def module(self) -> Any:
        return emit_module(self)

    def object_code(self) -> bytes:
        return compile_module(self.module(), self.target)


def lower(plan: MemoryPlan, target: Target) -> LoweredProgram:
    segments, forward = [Segment()], 0
    for number, job in enumerate(plan.jobs):
        if number == plan.boundary:
            forward = len(segments)
            segments.append(Segment())
        if job.recipe is None and job.loop is None:
            segments[-1].interpreted = job
            segments.append(Segment())
        else:
            segments[-1].jobs.append(job)
    places = [[_slices_touched(job, plan) for job in segment.jobs] for segment in segments]
    result = LoweredProgram(plan, target, segments, places, forward or len(segments))
    described = repr([[_launch_key(j) for j in s.jobs] for s in segments])
    described += repr([places, _deferred(result), plan.slots, result.forward])
    result.key = hashlib.sha256(described.encode()).hexdigest()
    return result


def _slices_touched(job: Launch, plan: MemoryPlan) -> list[BufferSlice]:
    return [plan.places[s] for s in (job.pointers if job.loop is None else [*job.reads, *job.writes])]


def _launch_key(job: Launch) -> Any:
    """All that the code of a job depends on besides the places it touches."""
    loop = job.loop
    if loop is None:
        return (job.recipe, "packed") if job.kernel.packed else job.recipe
    sources = [(job.reads.index(s), offset, step) for s, offset, step in loop.sources]
    inner = [(_launch_key(j), _slices_touched(j, loop.plan)) for j in loop.plan.jobs]
    about = (loop.body.length, loop.body.reverse, loop.body.kept, loop.body.slices, loop.once, loop.outputs)
    return about, sources, [_launch_key(j) for j in loop.starts], inner


def _deferred(program: LoweredProgram) -> list[tuple[BufferSlice, BufferSlice]]:
    places = program.plan.places
    return [(places[symbol], places[slot.symbol]) for symbol, slot in program.plan.late]


def is_single_threaded(recipe: KernelSpec) -> bool:
    """Whether one thread runs the whole kernel, since sharing it out would cost more than it saves."""
    if recipe.product is not None:
        return flops(recipe) < 2 * MIN_PARALLEL_FLOPS
    largest = max((math.prod(shape) for shape in recipe.shapes), default=0)
    return max(flops(recipe), traffic(recipe) // 2, largest) < MIN_PARALLEL_FLOPS


def emit_module(program: LoweredProgram, timed: bool = False) -> Any:
    """The whole program as one LLVM module: its kernels as `kernel0` ..., its segments as `program0` ...

    timed: between barriers, the processor's clock is read around each kernel; what passed is added to the table whose
    address stands behind the context.
    """
    module = new_module("pellucid", program.target)
    functions: dict[KernelSpec, Any] = {}
    for segment in program.segments:
        for job, _ in iter_launches(segment.jobs):
            assert job.recipe is not None
            if job.recipe not in functions:
                functions[job.recipe] = _kernel(module, f"kernel{len(functions)}", job.recipe, program.target)
    for number in range(len(program.segments)):
        ProgramEmitter(module, program, number, functions, timed).emit()
    return module


def _kernel(module: Any, name: str, recipe: KernelSpec, target: Target) -> Any:
    """kernel(pointers..., flag, thread, threads)."""
    count = 1 + max([s.pointer for s in recipe.stores] + [x.pointer for x in _loads(recipe)], default=-1)
    function, builder = new_function(module, name, [pointer] * (count + 1) + [i64, i64], target)
    function.linkage = "internal"
    function.attributes.add("noinline")
    *pointers, flag, thread, threads = function.args
    for x in dict.fromkeys(x for step in recipe.steps for x in step.operands if isinstance(x, Scalar)):
        pointers[x.pointer] = builder.splat(builder.load_scalar(pointers[x.pointer], x.dtype))
    if 0 not in recipe.domain or recipe.axes or recipe.kind not in ("loop", "copy", "product"):
        EMITTERS[recipe.kind](builder, recipe, pointers, flag, thread, threads)
    builder.ret_void()
    return function


def _loads(recipe: KernelSpec) -> list[Any]:
    loads: list[Any] = [x for step in recipe.steps for x in step.operands if hasattr(x, "pointer")]
    return loads + ([recipe.product.splat, recipe.product.vectors] if recipe.product is not None else [])


class ScanAddressing:
    """Where the Symbols of a loop's body lie at position t, as seen from `outer`, which runs the loop; t is None before."""

    def __init__(self, driver: ProgramEmitter, loop: ScanLaunch, outer: Any, t: Any) -> None:
        self.builder, self.loop, self.outer, self.plan, self.t = driver.builder, loop, outer, loop.plan, t
        self.outputs = loop.outputs

    def address(self, place: BufferSlice) -> Any:
        body, offset = self.loop.body, place.offset
        known = self._symbol(place)
        base = self.outer.address(self.outer.plan.places[known])
        if place.region == OUTPUTS:
            index = self.outputs[place.offset]
            offset = self._slot(index, body.step if index < body.carries else 0, place.size)
        elif place.region >= INPUTS:
            index = place.region - INPUTS
            if index < body.carries:
                offset = self._slot(index, 0, place.size)
            else:
                _, offset, step = self.loop.sources[index - body.carries]
                offset = self._moved(self.t, step, offset) if step else offset
        return self.builder.at(base, offset, "uint8")

    def _slot(self, index: int, ahead: int, size: int) -> Any:
        """Bytes from the first state, or output, of a result to that of this position, or the next."""
        body, builder = self.loop.body, self.builder
        if index >= body.carries:
            return self._moved(self.t, size, 0)
        shift = ahead + int(body.reverse)
        if body.kept[index] > 2:
            return self._moved(self.t, size, shift * size)
        parity = builder.and_(builder.add(self.t, builder.index(shift)), builder.index(1))
        return self._moved(parity, size, 0)

    def _moved(self, t: Any, step: int, offset: int) -> Any:
        builder = self.builder
        return builder.add(builder.mul(t, builder.index(step)), builder.index(offset))

    def _symbol(self, place: BufferSlice) -> Any:
        """What of the outer plan it is a piece of."""
        loop = self.loop
        if place.region == ARENA:
            return loop.scratch
        if place.region == OUTPUTS:
            return loop.results[self.outputs[place.offset]]
        index = place.region - INPUTS
        return loop.results[index] if index < loop.body.carries else loop.sources[index - loop.body.carries][0]

    def whole(self, place: BufferSlice) -> BufferSlice:
        """Bytes of the program that `place` lies in, at whatever position."""
        within = self.outer.whole(self.outer.plan.places[self._symbol(place)])
        if place.region == ARENA and within.size >= place.offset + place.size:
            return BufferSlice(within.region, within.offset + place.offset, place.size)
        return within


class ProgramEmitter:
    """One segment being written: loads addresses, calls kernels, puts barriers where bytes pass between threads."""

    def __init__(
        self, module: Any, program: LoweredProgram, number: int, functions: dict[KernelSpec, Any], timed: bool
    ) -> None:
        self.program, self.number, self.functions, self.timed = program, number, functions, timed
        self.plan = program.plan
        self.keeps = program.plan.keeps and len(program.segments) == 1
        self.changed: Any = None
        self.called = sum(1 for segment in program.segments[:number] for _ in iter_launches(segment.jobs))
        _, self.builder = new_function(module, f"program{number}", PROGRAM, program.target)
        self.team, self.context, self.thread, self.threads, self.step = self.builder.function.args
        self.bases: dict[int, Any] = {}
        self.since: list[
            tuple[list[BufferSlice], list[BufferSlice], bool]
        ] = []  # reads, writes, alone: since the last barrier

    def emit(self) -> None:
        builder = self.builder
        segment, places = self.program.segments[self.number], self.program.places[self.number]
        regions = {
            ARENA,
            *(p.region for row in places for p in row),
            *(p.region for pair in _deferred(self.program) for p in pair),
        }
        for region in sorted(regions):
            self.bases[region] = self._base(region)
        leave = builder.function.append_basic_block("leave")
        checked = False
        ready = builder.at(self.bases[ARENA], READY, "uint8")
        if self.keeps:
            self.changed = builder.icmp_unsigned("==", builder.load(ready, typ=i8), i8(0))
        self._pack([job for job in segment.jobs if job.kernel.packed], self)
        for job in (job for job in segment.jobs if not job.kernel.packed):
            if checked and any(self.plan.places[s].region >= INPUTS for s in job.writes):
                self._leave_if_flagged(leave)
                checked = False
            checked |= has_bounds_check(job.kernel)
            self._run(job, self)
        if self.number == self.program.forward - 1:
            if checked and self.program.plan.late:
                self._leave_if_flagged(leave)
            self._copy_late()
        if self.keeps:
            with builder.when(builder.icmp_unsigned("==", self.thread, builder.index(0))):
                builder.store(i8(1), ready)
        builder.branch(leave)
        builder.position_at_end(leave)
        emit_barrier(builder, self.team, self.threads)
        builder.ret_void()

    def _base(self, region: int) -> Any:
        """The address of a region at this step."""
        builder, count = self.builder, INPUTS + self.program.plan.slots
        base = builder.load(builder.at(self.context, region, "int64"), typ=i64)
        if region != ARENA:
            stride = builder.load(builder.at(self.context, count + region, "int64"), typ=i64)
            base = builder.add(base, builder.mul(self.step, stride))
        return builder.inttoptr(base, pointer)

    def address(self, place: BufferSlice) -> Any:
        return self.builder.gep(self.bases[place.region], [self.builder.index(place.offset)], source_etype=i8)

    def whole(self, place: BufferSlice) -> BufferSlice:
        return place

    def _run(self, job: Launch, where: ProgramEmitter | ScanAddressing) -> None:
        """A kernel or a loop, whose Symbols lie where `where` says."""
        if job.loop is None:
            self._call(job, where)
        else:
            self._repeat(job.loop, where)

    def _pack(self, jobs: list[Launch], where: ProgramEmitter | ScanAddressing) -> None:
        """Copies of weights, where there are none or the weights have changed. All threads come here, or none."""
        if not jobs:
            return
        if not self.keeps:
            for job in jobs:
                self._run(job, where)
            return
        before = self.since
        with self.builder.when(self.changed):
            self._barrier()
            for job in jobs:
                self._run(job, where)
            self._barrier()
        self.since = before

    def _repeat(self, loop: ScanLaunch, where: ProgramEmitter | ScanAddressing) -> None:
        """A loop: its body stands here once. Where threads share its work they meet after every position."""
        builder, body = self.builder, loop.body
        first = [(job, where) for job in loop.starts]
        before = ScanAddressing(self, loop, where, None)
        once = loop.plan.jobs[: loop.once]
        self._pack([job for job in once if job.kernel.packed], before)
        for job, place in first + [(job, before) for job in once if not job.kernel.packed]:
            self._run(job, place)
        repeated = loop.plan.jobs[loop.once :]
        shared = not all(
            job.recipe is not None and is_single_threaded(job.recipe) for job, _ in iter_launches(repeated)
        )
        if shared or not all(single for _, _, single in self.since):
            self._barrier()

        def position(i: Any) -> None:
            t = builder.sub(builder.index(body.length - 1), i) if body.reverse else i
            for job in repeated:
                self._run(job, ScanAddressing(self, loop, where, t))
            if shared:
                self._barrier()

        builder.loop(0, body.length, 1, position)

    def _call(self, job: Launch, where: ProgramEmitter | ScanAddressing) -> None:
        assert job.recipe is not None
        builder, places = self.builder, where.plan.places
        reads, writes = ([where.whole(places[s]) for s in symbols] for symbols in (job.reads, job.writes))
        single = is_single_threaded(job.recipe)
        self._meet(reads, writes, single)
        arguments = [*(where.address(places[s]) for s in job.pointers), self.bases[ARENA]]
        function = self.functions[job.recipe]
        before = self._clock() if self.timed else None
        if single:
            with builder.when(builder.icmp_unsigned("==", self.thread, builder.index(0))):
                builder.call(function, [*arguments, builder.index(0), builder.index(1)])
        else:
            builder.call(function, [*arguments, self.thread, self.threads])
        if self.timed:
            self._note(before)

    def _clock(self) -> Any:
        self._barrier()
        return self.builder.call(self.builder.declare("llvm.readcyclecounter", i64, []), [])

    def _note(self, before: Any) -> None:
        """Add what has passed since `before` to the kernel's entry in the table."""
        builder = self.builder
        passed = builder.sub(self._clock(), before)
        with builder.when(builder.icmp_unsigned("==", self.thread, builder.index(0))):
            behind = 2 * (INPUTS + self.program.plan.slots)
            table = builder.load(builder.at(self.context, behind, "int64"), typ=pointer)
            entry = builder.at(table, self.called, "int64")
            builder.store(builder.add(builder.load(entry, typ=i64), passed), entry)
        self.called += 1

    def _meet(self, reads: list[BufferSlice], writes: list[BufferSlice], single: bool) -> None:
        """A barrier, if what comes touches bytes that another thread may still be at."""
        for earlier_reads, earlier_writes, earlier_single in self.since:
            if single and earlier_single:
                continue
            if _touch(earlier_writes, reads + writes) or _touch(earlier_reads, writes):
                self._barrier()
                break
        self.since.append((reads, writes, single))

    def _barrier(self) -> None:
        emit_barrier(self.builder, self.team, self.threads)
        self.since = []

    def _leave_if_flagged(self, leave: Any) -> None:
        """An index was out of range: end the step before it writes anything that lasts."""
        builder = self.builder
        self._barrier()
        flagged = builder.icmp_unsigned("!=", builder.load(self.bases[ARENA], typ=i8), i8(0))
        with builder.when(flagged):
            noted = builder.at(self.bases[ARENA], 1, "int64")  # the first step that was left, counted from 1
            first = builder.icmp_unsigned("==", builder.load(noted, typ=i64), builder.index(0))
            mine = builder.icmp_unsigned("==", self.thread, builder.index(0))
            with builder.when(builder.and_(first, mine)):
                builder.store(builder.add(self.step, builder.index(1)), noted)
            builder.branch(leave)

    def _copy_late(self) -> None:
        """What could not be computed in its place is copied there, now that nobody reads the old numbers."""
        late = _deferred(self.program)
        if not late:
            return
        builder = self.builder
        self._barrier()
        with builder.when(builder.icmp_unsigned("==", self.thread, builder.index(0))):
            for source, slot in late:
                arguments = [self.address(slot), self.address(source), builder.index(source.size)]
                memcpy = builder.declare("memcpy", pointer, [pointer, pointer, i64])
                builder.call(memcpy, arguments)


def _touch(a: list[BufferSlice], b: list[BufferSlice]) -> bool:
    return any(x.overlaps(y) for x in a for y in b)
