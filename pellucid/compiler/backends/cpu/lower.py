"""Lowering: a memory plan as an LLVM module, with one function per distinct spec and a program that calls them (floor 4).

A program has the signature `program(team, context, thread, threads, step)`. The context holds the addresses of all regions
(arena, outputs, inputs), and behind them the bytes that each advances from step to step. Small kernels run on thread 0
alone. A barrier separates kernels that use the same bytes on different threads. Kernels without native code cut the program
into segments; Python runs them in between.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from ....core.value import Symbol
from .fusion import has_bounds_check
from .kernel_ir import KernelSpec, Load, Scalar
from .kernels import attention
from .kernels.attention import ATTENTION_EMITTERS
from .kernels.elementwise import accesses, emit_copy, emit_loop
from .kernels.matmul import emit_product
from .kernels.single import Emitter, emit_single
from .llvm import Function, Integer, Value, compile_module, i8, i64, ir, new_function, new_module, pointer
from .memory_plan import ARENA, INPUTS, OUTPUTS, BufferSlice, Launch, MemoryPlan, ScanLaunch, iter_launches
from .target import Target
from .thread_pool import PROGRAM, emit_barrier

EMITTERS: dict[str, Emitter] = {
    "loop": emit_loop, "copy": emit_copy, "product": emit_product, "single": emit_single,
}  # fmt: skip
READY = 1  # the byte of the arena that says whether the copies of weights are up to date
MIN_PARALLEL_FLOPS = 1 << 15  # a kernel with fewer operations runs faster on one thread


def flops(spec: KernelSpec) -> int:
    """Additions, multiplications and function values of one launch."""
    size = math.prod(spec.domain)
    if spec.contraction is not None:
        return size * (2 * math.prod(spec.contraction.sizes) + len(spec.instructions) - 1)
    if spec.kind == "single" and spec.instructions[0].op in ATTENTION_EMITTERS:
        return attention.flops(spec)
    return 0 if spec.kind == "copy" else size * len(spec.instructions)


def traffic(spec: KernelSpec) -> int:
    """Bytes of the domain read and written, each operand once."""
    total = 0
    for x in accesses(spec):
        moved = math.prod(n for n, stride in zip(spec.domain, x.strides, strict=False) if stride)
        total += moved * np.dtype(x.dtype).itemsize
    return total


@dataclass
class Segment:
    """Consecutive native launches, then one interpreted one (or none, at the end)."""

    launches: list[Launch] = field(default_factory=list)
    interpreted: Launch | None = None


@dataclass
class LoweredProgram:
    """A program to compile. Its LLVM text is made only where no object code is cached for `key`."""

    plan: MemoryPlan
    target: Target
    segments: list[Segment]
    slices: list[list[list[BufferSlice]]]  # the slices that each native launch uses, by segment
    forward: int  # how many segments the forward phase has
    key: str = ""

    def module(self) -> ir.Module:
        return emit_module(self)

    def object_code(self) -> bytes:
        return compile_module(self.module(), self.target)


def lower(plan: MemoryPlan, target: Target) -> LoweredProgram:
    segments, forward = [Segment()], 0
    for number, launch in enumerate(plan.launches):
        if number == plan.forward_count:
            forward = len(segments)
            segments.append(Segment())
        if launch.spec is None and launch.loop is None:
            segments[-1].interpreted = launch
            segments.append(Segment())
        else:
            segments[-1].launches.append(launch)
    slices = [[_slices_touched(launch, plan) for launch in segment.launches] for segment in segments]
    result = LoweredProgram(plan, target, segments, slices, forward or len(segments))
    described = repr([[_launch_key(j) for j in s.launches] for s in segments])
    described += repr([slices, _deferred(result), plan.input_count, result.forward])
    result.key = hashlib.sha256(described.encode()).hexdigest()
    return result


def _slices_touched(launch: Launch, plan: MemoryPlan) -> list[BufferSlice]:
    return [plan.slices[s] for s in (launch.pointers if launch.loop is None else [*launch.reads, *launch.writes])]


def _launch_key(launch: Launch) -> Hashable:
    """What the code of a launch depends on besides the slices that it uses."""
    loop = launch.loop
    if loop is None:
        return (launch.spec, "packed") if launch.kernel.packed else launch.spec
    sources = [(launch.reads.index(s), offset, step) for s, offset, step in loop.sources]
    inner = [(_launch_key(j), _slices_touched(j, loop.plan)) for j in loop.plan.launches]
    about = (
        loop.body.length,
        loop.body.reverse,
        loop.body.state_counts,
        loop.body.slices,
        loop.once_count,
        loop.outputs,
    )
    return about, sources, [_launch_key(j) for j in loop.starts], inner


def _deferred(program: LoweredProgram) -> list[tuple[BufferSlice, BufferSlice]]:
    slices = program.plan.slices
    return [(slices[symbol], slices[entry.symbol]) for symbol, entry in program.plan.deferred_writes]


def is_single_threaded(spec: KernelSpec) -> bool:
    """Whether one thread runs the whole kernel, since that is faster than sharing it."""
    if spec.contraction is not None:
        return flops(spec) < 2 * MIN_PARALLEL_FLOPS
    largest = max((math.prod(shape) for shape in spec.shapes), default=0)
    return max(flops(spec), traffic(spec) // 2, largest) < MIN_PARALLEL_FLOPS


def emit_module(program: LoweredProgram, timed: bool = False) -> ir.Module:
    """The whole program as one LLVM module: its kernels as `kernel0` ..., its segments as `program0` ...

    timed: between barriers, the processor's clock is read around each kernel; what passed is added to the table whose
    address stands behind the context.
    """
    module = new_module("pellucid", program.target)
    functions: dict[KernelSpec, Function] = {}
    for segment in program.segments:
        for launch, _ in iter_launches(segment.launches):
            assert launch.spec is not None
            if launch.spec not in functions:
                functions[launch.spec] = _kernel(module, f"kernel{len(functions)}", launch.spec, program.target)
    for number in range(len(program.segments)):
        ProgramEmitter(module, program, number, functions, timed).emit()
    return module


def _kernel(module: ir.Module, name: str, spec: KernelSpec, target: Target) -> Function:
    """kernel(pointers..., flag, thread, threads)."""
    count = 1 + max([s.pointer for s in spec.stores] + [x.pointer for x in _loads(spec)], default=-1)
    function, builder = new_function(module, name, [pointer] * (count + 1) + [i64, i64], target)
    function.linkage = "internal"
    function.attributes.add("noinline")
    arguments: list[Value] = [*function.args]
    *pointers, flag, thread, threads = arguments
    for x in dict.fromkeys(
        x for instruction in spec.instructions for x in instruction.operands if isinstance(x, Scalar)
    ):
        pointers[x.pointer] = builder.splat(builder.load_scalar(pointers[x.pointer], x.dtype))
    if 0 not in spec.domain or spec.axes or spec.kind not in ("loop", "copy", "product"):
        EMITTERS[spec.kind](builder, spec, pointers, flag, thread, threads)
    builder.ret_void()
    return function


def _loads(spec: KernelSpec) -> list[Load | Scalar]:
    operands = (x for instruction in spec.instructions for x in instruction.operands)
    loads = [x for x in operands if isinstance(x, Load | Scalar)]
    return loads + ([spec.contraction.splat, spec.contraction.vectors] if spec.contraction is not None else [])


class ScanAddressing:
    """Addresses of the Symbols in the body of a scan at step t. outer: the addressing around it. t is None before the scan."""

    def __init__(
        self, driver: ProgramEmitter, loop: ScanLaunch, outer: ProgramEmitter | ScanAddressing, t: Value | None
    ) -> None:
        self.builder, self.loop, self.outer, self.plan, self.t = driver.builder, loop, outer, loop.plan, t
        self.outputs = loop.outputs

    def address(self, buffer_slice: BufferSlice) -> Value:
        body = self.loop.body
        offset: Integer = buffer_slice.offset
        holder = self._holder(buffer_slice)
        base = self.outer.address(self.outer.plan.slices[holder])
        if buffer_slice.region == OUTPUTS:
            index = self.outputs[buffer_slice.offset]
            offset = self._state_offset(index, body.step if index < body.carries else 0, buffer_slice.size)
        elif buffer_slice.region >= INPUTS:
            index = buffer_slice.region - INPUTS
            if index < body.carries:
                offset = self._state_offset(index, 0, buffer_slice.size)
            else:
                _, offset, step = self.loop.sources[index - body.carries]
                offset = self._advanced(self.t, step, offset) if step else offset
        return self.builder.at(base, offset, "uint8")

    def _state_offset(self, index: int, ahead: int, size: int) -> Value:
        """Bytes from the first state or stacked value of a result to that of this step, or `ahead` steps later."""
        body, builder = self.loop.body, self.builder
        if index >= body.carries:
            return self._advanced(self.t, size, 0)
        shift = ahead + int(body.reverse)
        if body.state_counts[index] > 2:
            return self._advanced(self.t, size, shift * size)
        assert self.t is not None
        parity = builder.and_(builder.add(self.t, builder.index(shift)), builder.index(1))
        return self._advanced(parity, size, 0)

    def _advanced(self, t: Value | None, step: int, offset: int) -> Value:
        assert t is not None
        builder = self.builder
        return builder.add(builder.mul(t, builder.index(step)), builder.index(offset))

    def _holder(self, buffer_slice: BufferSlice) -> Symbol:
        """The Symbol of the outer plan that holds it."""
        loop = self.loop
        if buffer_slice.region == ARENA:
            return loop.scratch
        if buffer_slice.region == OUTPUTS:
            return loop.results[self.outputs[buffer_slice.offset]]
        index = buffer_slice.region - INPUTS
        return loop.results[index] if index < loop.body.carries else loop.sources[index - loop.body.carries][0]

    def enclosing(self, buffer_slice: BufferSlice) -> BufferSlice:
        """The bytes of the program that hold `buffer_slice` at any step."""
        within = self.outer.enclosing(self.outer.plan.slices[self._holder(buffer_slice)])
        if buffer_slice.region == ARENA and within.size >= buffer_slice.offset + buffer_slice.size:
            return BufferSlice(within.region, within.offset + buffer_slice.offset, buffer_slice.size)
        return within


class ProgramEmitter:
    """Emits one segment: loads addresses, calls kernels, and puts barriers where bytes pass between threads."""

    def __init__(
        self,
        module: ir.Module,
        program: LoweredProgram,
        number: int,
        functions: dict[KernelSpec, Function],
        timed: bool,
    ) -> None:
        self.program, self.number, self.functions, self.timed = program, number, functions, timed
        self.plan = program.plan
        self.keeps_copies = program.plan.keeps_copies and len(program.segments) == 1
        self.changed: Value | None = None
        self.called = sum(1 for segment in program.segments[:number] for _ in iter_launches(segment.launches))
        _, self.builder = new_function(module, f"program{number}", PROGRAM, program.target)
        self.team, self.context, self.thread, self.threads, self.step = self.builder.function.args
        self.bases: dict[int, Value] = {}
        self.since: list[
            tuple[list[BufferSlice], list[BufferSlice], bool]
        ] = []  # reads, writes, single-threaded: since the last barrier

    def emit(self) -> None:
        builder = self.builder
        segment, slices = self.program.segments[self.number], self.program.slices[self.number]
        regions = {
            ARENA,
            *(p.region for row in slices for p in row),
            *(p.region for pair in _deferred(self.program) for p in pair),
        }
        for region in sorted(regions):
            self.bases[region] = self._base(region)
        leave = builder.function.append_basic_block("leave")
        checked = False
        ready = builder.at(self.bases[ARENA], READY, "uint8")
        if self.keeps_copies:
            self.changed = builder.icmp_unsigned("==", builder.load(ready, typ=i8), i8(0))
        self._pack([launch for launch in segment.launches if launch.kernel.packed], self)
        for launch in (launch for launch in segment.launches if not launch.kernel.packed):
            if checked and any(self.plan.slices[s].region >= INPUTS for s in launch.writes):
                self._leave_if_flagged(leave)
                checked = False
            checked |= has_bounds_check(launch.kernel)
            self._run(launch, self)
        if self.number == self.program.forward - 1:
            if checked and self.program.plan.deferred_writes:
                self._leave_if_flagged(leave)
            self._emit_deferred_writes()
        if self.keeps_copies:
            with builder.when(builder.icmp_unsigned("==", self.thread, builder.index(0))):
                builder.store(i8(1), ready)
        builder.branch(leave)
        builder.position_at_end(leave)
        emit_barrier(builder, self.team, self.threads)
        builder.ret_void()

    def _base(self, region: int) -> Value:
        """The address of a region at this step."""
        builder, count = self.builder, INPUTS + self.program.plan.input_count
        base = builder.load(builder.at(self.context, region, "int64"), typ=i64)
        if region != ARENA:
            stride = builder.load(builder.at(self.context, count + region, "int64"), typ=i64)
            base = builder.add(base, builder.mul(self.step, stride))
        return builder.inttoptr(base, pointer)

    def address(self, buffer_slice: BufferSlice) -> Value:
        return self.builder.gep(
            self.bases[buffer_slice.region], [self.builder.index(buffer_slice.offset)], source_etype=i8
        )

    def enclosing(self, buffer_slice: BufferSlice) -> BufferSlice:
        return buffer_slice

    def _run(self, launch: Launch, where: ProgramEmitter | ScanAddressing) -> None:
        """Emit a kernel or a scan. where: the addressing of its Symbols."""
        if launch.loop is None:
            self._call(launch, where)
        else:
            self._repeat(launch.loop, where)

    def _pack(self, launches: list[Launch], where: ProgramEmitter | ScanAddressing) -> None:
        """Emit copies of weights, which run where the weights have changed. All threads get here, or none."""
        if not launches:
            return
        if not self.keeps_copies:
            for launch in launches:
                self._run(launch, where)
            return
        before = self.since
        assert self.changed is not None
        with self.builder.when(self.changed):
            self._barrier()
            for launch in launches:
                self._run(launch, where)
            self._barrier()
        self.since = before

    def _repeat(self, loop: ScanLaunch, where: ProgramEmitter | ScanAddressing) -> None:
        """Emit a scan as a loop. Where threads share its work, a barrier follows every step."""
        builder, body = self.builder, loop.body
        first = [(launch, where) for launch in loop.starts]
        before = ScanAddressing(self, loop, where, None)
        once = loop.plan.launches[: loop.once_count]
        self._pack([launch for launch in once if launch.kernel.packed], before)
        for launch, addressing in first + [(launch, before) for launch in once if not launch.kernel.packed]:
            self._run(launch, addressing)
        repeated = loop.plan.launches[loop.once_count :]
        shared = not all(
            launch.spec is not None and is_single_threaded(launch.spec) for launch, _ in iter_launches(repeated)
        )
        if shared or not all(single for _, _, single in self.since):
            self._barrier()

        def position(i: Value) -> None:
            t = builder.sub(builder.index(body.length - 1), i) if body.reverse else i
            for launch in repeated:
                self._run(launch, ScanAddressing(self, loop, where, t))
            if shared:
                self._barrier()

        builder.loop(0, body.length, 1, position)

    def _call(self, launch: Launch, where: ProgramEmitter | ScanAddressing) -> None:
        assert launch.spec is not None
        builder, slices = self.builder, where.plan.slices
        reads, writes = ([where.enclosing(slices[s]) for s in symbols] for symbols in (launch.reads, launch.writes))
        single = is_single_threaded(launch.spec)
        self._barrier_if_needed(reads, writes, single)
        arguments = [*(where.address(slices[s]) for s in launch.pointers), self.bases[ARENA]]
        function = self.functions[launch.spec]
        before = self._clock() if self.timed else None
        if single:
            with builder.when(builder.icmp_unsigned("==", self.thread, builder.index(0))):
                builder.call(function, [*arguments, builder.index(0), builder.index(1)])
        else:
            builder.call(function, [*arguments, self.thread, self.threads])
        if before is not None:
            self._note(before)

    def _clock(self) -> Value:
        self._barrier()
        return self.builder.call(self.builder.declare("llvm.readcyclecounter", i64, []), [])

    def _note(self, before: Value) -> None:
        """Add the time since `before` to the entry of the kernel in the table."""
        builder = self.builder
        passed = builder.sub(self._clock(), before)
        with builder.when(builder.icmp_unsigned("==", self.thread, builder.index(0))):
            behind = 2 * (INPUTS + self.program.plan.input_count)
            table = builder.load(builder.at(self.context, behind, "int64"), typ=pointer)
            entry = builder.at(table, self.called, "int64")
            builder.store(builder.add(builder.load(entry, typ=i64), passed), entry)
        self.called += 1

    def _barrier_if_needed(self, reads: list[BufferSlice], writes: list[BufferSlice], single: bool) -> None:
        """Emit a barrier if the next kernel uses bytes that another thread may still use."""
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

    def _leave_if_flagged(self, leave: ir.Block) -> None:
        """Emit the exit of a step whose index was out of range, before it writes into a Tensor."""
        builder = self.builder
        self._barrier()
        flagged = builder.icmp_unsigned("!=", builder.load(self.bases[ARENA], typ=i8), i8(0))
        with builder.when(flagged):
            noted = builder.at(self.bases[ARENA], 1, "int64")  # the first step that ended so, counted from 1
            first = builder.icmp_unsigned("==", builder.load(noted, typ=i64), builder.index(0))
            mine = builder.icmp_unsigned("==", self.thread, builder.index(0))
            with builder.when(builder.and_(first, mine)):
                builder.store(builder.add(self.step, builder.index(1)), noted)
            builder.branch(leave)

    def _emit_deferred_writes(self) -> None:
        """Emit the deferred writes, now that every reader of the old values has run."""
        deferred = _deferred(self.program)
        if not deferred:
            return
        builder = self.builder
        self._barrier()
        with builder.when(builder.icmp_unsigned("==", self.thread, builder.index(0))):
            for source, entry in deferred:
                arguments = [self.address(entry), self.address(source), builder.index(source.size)]
                memcpy = builder.declare("memcpy", pointer, [pointer, pointer, i64])
                builder.call(memcpy, arguments)


def _touch(a: list[BufferSlice], b: list[BufferSlice]) -> bool:
    return any(x.overlaps(y) for x in a for y in b)
