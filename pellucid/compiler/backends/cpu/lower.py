"""Lowering: a memory plan as segments of native code, and their LLVM module (floor 4).

Kernels without native code cut the program into segments; Python runs them in between. `synchronize.py` turns a segment into
steps, `emit.py` turns steps into code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, field

from .emit import emit_kernels, emit_segment
from .llvm import compile_module, ir, new_module
from .memory_plan import ARENA, BufferSlice, Launch, MemoryPlan, iter_launches
from .synchronize import Rules, SegmentSteps, synchronize
from .target import Target


@dataclass
class Segment:
    """Consecutive native launches, then one interpreted one (or none, at the end)."""

    launches: list[Launch] = field(default_factory=list)
    interpreted: Launch | None = None


@dataclass(frozen=True)
class LoweredProgram:
    """A program to compile. Its LLVM text is made only where no object code is cached for `key`.

    forward: how many segments the forward phase has.
    """

    plan: MemoryPlan
    target: Target
    segments: list[Segment]
    forward: int
    key: str

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
        if launch.is_native:
            segments[-1].launches.append(launch)
        else:
            segments[-1].interpreted = launch
            segments.append(Segment())
    forward = forward or len(segments)
    return LoweredProgram(plan, target, segments, forward, _key(plan, segments, forward))


def _key(plan: MemoryPlan, segments: list[Segment], forward: int) -> str:
    """Of all that the code depends on."""
    slices = [[_slices_used(launch, plan) for launch in segment.launches] for segment in segments]
    deferred = [(plan.slices[symbol], plan.slices[entry.symbol]) for symbol, entry in plan.deferred_writes]
    described = repr([[_launch_key(launch) for launch in segment.launches] for segment in segments])
    described += repr([slices, deferred, plan.input_count, forward])
    return hashlib.sha256(described.encode()).hexdigest()


def _slices_used(launch: Launch, plan: MemoryPlan) -> list[BufferSlice]:
    return [plan.slices[s] for s in (launch.pointers if launch.loop is None else [*launch.reads, *launch.writes])]


def _launch_key(launch: Launch) -> Hashable:
    """What the code of a launch depends on besides the slices that it uses."""
    loop = launch.loop
    if loop is None:
        return (launch.spec, "packed") if launch.kernel.packed else launch.spec
    body, plan = loop.body, loop.plan
    sources = [(launch.reads.index(s), offset, step) for s, offset, step in loop.sources]
    inner = [(_launch_key(each), _slices_used(each, plan)) for each in plan.launches]
    about = (body.length, body.reverse, body.state_counts, body.slices, loop.once_count, loop.outputs)
    return about, sources, [_launch_key(start) for start in loop.starts], inner


def emit_module(program: LoweredProgram, timed: bool = False) -> ir.Module:
    """The whole program as one LLVM module: its kernels as `kernel0` ..., its segments as `program0` ...

    timed: between barriers, the processor's clock is read around each kernel; what passed is added to the table whose
    address stands behind the context.
    """
    target = program.target
    module = new_module("pellucid", target)
    launches = [launch for segment in program.segments for launch in segment.launches]
    kernels = emit_kernels(module, launches, target)
    entries = {launch: i for i, (launch, _) in enumerate(iter_launches(launches))} if timed else None
    for number in range(len(program.segments)):
        emit_segment(module, f"program{number}", _steps(program, number, timed), kernels, target, entries)
    return module


def _steps(program: LoweredProgram, number: int, timed: bool) -> SegmentSteps:
    plan, launches = program.plan, program.segments[number].launches
    keeps_copies = plan.keeps_copies and len(program.segments) == 1
    rules = Rules(program.target.costs, keeps_copies, timed)
    steps = synchronize(plan, launches, rules, writes_deferred=number == program.forward - 1)
    deferred = [s for symbol, entry in plan.deferred_writes for s in (symbol, entry.symbol)]
    slices = [*(x for launch in launches for x in _slices_used(launch, plan)), *(plan.slices[s] for s in deferred)]
    return SegmentSteps(plan, steps, {ARENA, *(x.region for x in slices)}, keeps_copies)
