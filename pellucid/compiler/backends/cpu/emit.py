"""Emission: the steps of a program as one LLVM module, with a function for each distinct kernel (floor 4).

A segment has the signature `program(team, context, thread, threads, step)`. The context holds the addresses of all regions
(arena, outputs, inputs), and behind them the bytes that each advances from step to step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ....core.value import Symbol
from .kernel_ir import KernelSpec, Load, Scalar
from .kernels.elementwise import emit_copy, emit_loop
from .kernels.matmul import emit_product
from .kernels.single import Emitter, emit_single
from .llvm import Builder, Function, Integer, Value, i8, i64, ir, new_function, pointer
from .memory_plan import ARENA, INPUTS, READY, Launch, Location, MemoryPlan, ScanLaunch, iter_launches
from .synchronize import Barrier, Call, LeaveIfFlagged, RepeatScan, SegmentSteps, Step, WhenChanged, WriteDeferred
from .target import Target
from .thread_pool import PROGRAM, emit_barrier

EMITTERS: dict[str, Emitter] = {
    "loop": emit_loop, "copy": emit_copy, "product": emit_product, "single": emit_single,
}  # fmt: skip


def emit_kernels(module: ir.Module, launches: Sequence[Launch], target: Target) -> dict[KernelSpec, Function]:
    """Functions `kernel0` ... for the distinct specs of `launches`."""
    functions: dict[KernelSpec, Function] = {}
    for launch, _ in iter_launches(launches):
        assert launch.spec is not None
        if launch.spec not in functions:
            functions[launch.spec] = _kernel(module, f"kernel{len(functions)}", launch.spec, target)
    return functions


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


# ---- a segment -----------------------------------------------------------------------------------------------------------

# The address of a Symbol of a plan, at this step.
Address = Callable[[Symbol], Value]


class Arguments(NamedTuple):
    """The arguments of a segment's function."""

    team: Value
    context: Value
    thread: Value
    threads: Value
    step: Value


@dataclass(frozen=True)
class SegmentFunction:
    """The function of a segment, while it is emitted.

    plan: of the program. kernels: what it calls. regions: the address of each at this step. leave: the block that ends it. changed: whether weights
    have changed since the last call; None where it makes their copies at each call. entries: the numbers of launches in the
    table of times; None where none are measured.
    """

    builder: Builder
    arguments: Arguments
    plan: MemoryPlan
    kernels: dict[KernelSpec, Function]
    regions: dict[int, Value]
    leave: ir.Block
    changed: Value | None
    entries: dict[Launch, int] | None


def emit_segment(
    module: ir.Module, name: str, segment: SegmentSteps, kernels: dict[KernelSpec, Function], target: Target,
    entries: dict[Launch, int] | None = None,
) -> None:  # fmt: skip
    """The function of a segment: run its steps on each thread, and end at a barrier."""
    _, builder = new_function(module, name, PROGRAM, target)
    arguments, plan = Arguments(*builder.function.args), segment.plan
    regions = {r: _region(builder, arguments, plan.input_count, r) for r in sorted(segment.regions)}
    leave = builder.function.append_basic_block("leave")
    ready = builder.at(regions[ARENA], READY, "uint8")
    changed = builder.icmp_unsigned("==", builder.load(ready, typ=i8), i8(0)) if segment.keeps_copies else None
    function = SegmentFunction(builder, arguments, plan, kernels, regions, leave, changed, entries)

    def address(symbol: Symbol) -> Value:
        region, offset, _ = plan.slices[symbol]
        return builder.gep(regions[region], [builder.index(offset)], source_etype=i8)

    _emit(function, segment.steps, address)
    if segment.keeps_copies:
        with builder.when(_on_first_thread(function)):
            builder.store(i8(1), ready)
    builder.branch(leave)
    builder.position_at_end(leave)
    _barrier(function)
    builder.ret_void()


def _region(builder: Builder, arguments: Arguments, input_count: int, region: int) -> Value:
    """The address of a region at this step."""
    count, context = INPUTS + input_count, arguments.context
    base = builder.load(builder.at(context, region, "int64"), typ=i64)
    if region != ARENA:
        stride = builder.load(builder.at(context, count + region, "int64"), typ=i64)
        base = builder.add(base, builder.mul(arguments.step, stride))
    return builder.inttoptr(base, pointer)


def _emit(function: SegmentFunction, steps: Sequence[Step], address: Address) -> None:
    """Emit steps, whose Symbols lie at `address`."""
    for step in steps:
        match step:
            case Call():
                _call(function, step, address)
            case Barrier():
                _barrier(function)
            case WhenChanged():
                assert function.changed is not None
                with function.builder.when(function.changed):
                    _emit(function, step.steps, address)
            case RepeatScan():
                _repeat(function, step, address)
            case LeaveIfFlagged():
                _leave_if_flagged(function)
            case WriteDeferred():
                _write_deferred(function, address)


def _barrier(function: SegmentFunction) -> None:
    emit_barrier(function.builder, function.arguments.team, function.arguments.threads)


def _on_first_thread(function: SegmentFunction) -> Value:
    return function.builder.icmp_unsigned("==", function.arguments.thread, function.builder.index(0))


def _call(function: SegmentFunction, call: Call, address: Address) -> None:
    builder, launch = function.builder, call.launch
    assert launch.spec is not None
    pointers = [*(address(s) for s in launch.pointers), function.regions[ARENA]]
    kernel = function.kernels[launch.spec]
    before = _clock(function) if function.entries is not None else None
    if call.single:
        with builder.when(_on_first_thread(function)):
            builder.call(kernel, [*pointers, builder.index(0), builder.index(1)])
    else:
        builder.call(kernel, [*pointers, function.arguments.thread, function.arguments.threads])
    if before is not None:
        _add_time(function, launch, before)


def _clock(function: SegmentFunction) -> Value:
    _barrier(function)
    return function.builder.call(function.builder.declare("llvm.readcyclecounter", i64, []), [])


def _add_time(function: SegmentFunction, launch: Launch, before: Value) -> None:
    """Add the time since `before` to the entry of the kernel in the table, whose address stands behind the context."""
    builder = function.builder
    assert function.entries is not None
    passed = builder.sub(_clock(function), before)
    with builder.when(_on_first_thread(function)):
        behind = 2 * (INPUTS + function.plan.input_count)
        table = builder.load(builder.at(function.arguments.context, behind, "int64"), typ=pointer)
        entry = builder.at(table, function.entries[launch], "int64")
        builder.store(builder.add(builder.load(entry, typ=i64), passed), entry)


def _leave_if_flagged(function: SegmentFunction) -> None:
    builder, arena, step = function.builder, function.regions[ARENA], function.arguments.step
    flagged = builder.icmp_unsigned("!=", builder.load(arena, typ=i8), i8(0))
    with builder.when(flagged):
        noted = builder.at(arena, 1, "int64")  # the first step that ended so, counted from 1
        first = builder.icmp_unsigned("==", builder.load(noted, typ=i64), builder.index(0))
        mine = _on_first_thread(function)
        with builder.when(builder.and_(first, mine)):
            builder.store(builder.add(step, builder.index(1)), noted)
        builder.branch(function.leave)


def _write_deferred(function: SegmentFunction, address: Address) -> None:
    builder, plan = function.builder, function.plan
    with builder.when(_on_first_thread(function)):
        for symbol, entry in plan.deferred_writes:
            arguments = [address(entry.symbol), address(symbol), builder.index(plan.slices[symbol].size)]
            memcpy = builder.declare("memcpy", pointer, [pointer, pointer, i64])
            builder.call(memcpy, arguments)


# ---- a scan --------------------------------------------------------------------------------------------------------------


def _repeat(function: SegmentFunction, scan: RepeatScan, outer: Address) -> None:
    """A scan as a loop."""
    builder, loop = function.builder, scan.loop
    before = _address_in_body(builder, loop, outer, None)
    _emit(function, scan.copies, before)
    _emit(function, scan.starts, outer)
    _emit(function, scan.once, before)

    def turn(i: Value) -> None:
        t = builder.sub(builder.index(loop.body.length - 1), i) if loop.body.reverse else i
        _emit(function, scan.turn, _address_in_body(builder, loop, outer, t))

    builder.loop(0, loop.body.length, 1, turn)


def _address_in_body(builder: Builder, loop: ScanLaunch, outer: Address, t: Value | None) -> Address:
    """The addresses of the Symbols of a body at step t. t is None before the first step."""

    def address(symbol: Symbol) -> Value:
        location = loop.locate(loop.plan.slices[symbol])
        return builder.at(outer(location.holder), _offset(builder, location, t), "uint8")

    return address


def _offset(builder: Builder, location: Location, t: Value | None) -> Integer:
    """`Location.at(t)` for a number t that the program counts."""
    if location.step is None:
        return location.offset
    assert t is not None
    turns = t
    if location.phase is not None:
        turns = builder.and_(builder.add(t, builder.index(location.phase)), builder.index(1))
    return builder.add(builder.mul(turns, builder.index(location.step)), builder.index(location.offset))
