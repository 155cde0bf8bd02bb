"""Synchronization: the launches of a segment as steps, with barriers where bytes pass between threads (floor 4).

Small kernels run on thread 0 alone; the others are shared. A barrier stands before a kernel that uses the same bytes as an
earlier one on other threads. Nothing here depends on LLVM: `emit.py` turns the steps into code, one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ....core.value import Symbol
from .costs import Costs
from .kernel_cost import is_single_threaded
from .memory_plan import ARENA, INPUTS, BufferSlice, Launch, MemoryPlan, ScanLaunch, iter_launches


@dataclass(frozen=True)
class Call:
    """Call the kernel of a launch, on thread 0 alone or on all threads."""

    launch: Launch
    single: bool


@dataclass(frozen=True)
class Barrier:
    """Wait until all threads are here."""


@dataclass(frozen=True)
class WhenChanged:
    """Steps that run where weights have changed since the last call: copies of them."""

    steps: Sequence[Step]


@dataclass(frozen=True)
class RepeatScan:
    """A scan: copies of weights, copies of the carry into its first state, what is loop-invariant, and the steps of each turn."""

    loop: ScanLaunch
    copies: Sequence[Step]
    starts: Sequence[Step]
    once: Sequence[Step]
    turn: Sequence[Step]


@dataclass(frozen=True)
class LeaveIfFlagged:
    """Leave the program if an index was out of range, before it writes into a Tensor."""


@dataclass(frozen=True)
class WriteDeferred:
    """Copy the deferred writes into their inputs, now that every reader of the old values has run."""


Step = Call | Barrier | WhenChanged | RepeatScan | LeaveIfFlagged | WriteDeferred


@dataclass(frozen=True)
class SegmentSteps:
    """The steps of a segment of a program.

    plan: of the program. regions: those that it uses. keeps_copies: whether copies of weights stay until these change.
    """

    plan: MemoryPlan
    steps: Sequence[Step]
    regions: set[int]
    keeps_copies: bool


class Use(NamedTuple):
    """The bytes that a kernel uses."""

    reads: list[BufferSlice]
    writes: list[BufferSlice]
    single: bool


# The bytes of the program that a Symbol of a plan, of a body too, uses.
Bytes = Callable[[Symbol], BufferSlice]


@dataclass(frozen=True)
class Rules:
    """keeps_copies: copies of weights are made only where these have changed. timed: a barrier stands around each kernel."""

    costs: Costs
    keeps_copies: bool
    timed: bool = False


def synchronize(plan: MemoryPlan, launches: Sequence[Launch], rules: Rules, writes_deferred: bool) -> list[Step]:
    """The steps of consecutive native launches of a program.

    writes_deferred: whether the deferred writes follow them. Where an index may be out of range, the program is left before
    it writes into a Tensor.
    """
    used: list[Use] = []  # since the last barrier
    steps = _copies([launch for launch in launches if launch.kernel.packed], plan.slices.__getitem__, used, rules)
    checked = False
    for launch in (launch for launch in launches if not launch.kernel.packed):
        if checked and any(plan.slices[s].region >= INPUTS for s in launch.writes):
            steps += [_barrier(used), LeaveIfFlagged()]
            checked = False
        checked |= launch.kernel.has_check
        steps += _launch(launch, plan.slices.__getitem__, used, rules)
    if writes_deferred and plan.deferred_writes:
        steps += [_barrier(used), LeaveIfFlagged()] if checked else []
        steps += [_barrier(used), WriteDeferred()]
    return steps


def _barrier(used: list[Use]) -> Barrier:
    used.clear()
    return Barrier()


def _launch(launch: Launch, bytes_of: Bytes, used: list[Use], rules: Rules) -> list[Step]:
    if launch.loop is not None:
        return _scan(launch.loop, bytes_of, used, rules)
    assert launch.spec is not None
    use = Use(
        [bytes_of(s) for s in launch.reads],
        [bytes_of(s) for s in launch.writes],
        is_single_threaded(launch.spec, rules.costs),
    )
    steps: list[Step] = [_barrier(used)] if any(_conflict(earlier, use) for earlier in used) else []
    if not rules.timed:
        used.append(use)
    return [*steps, Call(launch, use.single)]


def _conflict(earlier: Use, use: Use) -> bool:
    """Whether a kernel uses bytes that another thread may still use."""
    if use.single and earlier.single:
        return False
    return _overlap(earlier.writes, use.reads + use.writes) or _overlap(earlier.reads, use.writes)


def _overlap(a: list[BufferSlice], b: list[BufferSlice]) -> bool:
    return any(x.overlaps(y) for x in a for y in b)


def _copies(launches: list[Launch], bytes_of: Bytes, used: list[Use], rules: Rules) -> list[Step]:
    """Copies of weights, which run where the weights have changed. All threads run them, or none."""
    apart: list[Use] = []
    steps = [
        step for launch in launches for step in _launch(launch, bytes_of, apart if rules.keeps_copies else used, rules)
    ]
    return [WhenChanged([Barrier(), *steps, Barrier()])] if steps and rules.keeps_copies else steps


def _scan(loop: ScanLaunch, outer: Bytes, used: list[Use], rules: Rules) -> list[Step]:
    """A scan. Where threads share its work, a barrier follows every turn."""
    once, repeated = loop.once, loop.repeated
    inner = _bytes_of_body(loop, outer)
    copies = _copies([launch for launch in once if launch.kernel.packed], inner, used, rules)
    starts = [step for launch in loop.starts for step in _launch(launch, outer, used, rules)]
    first = [step for launch in once if not launch.kernel.packed for step in _launch(launch, inner, used, rules)]
    shared = not all(
        launch.spec is not None and is_single_threaded(launch.spec, rules.costs)
        for launch, _ in iter_launches(repeated)
    )
    if shared or not all(use.single for use in used):
        first.append(_barrier(used))
    turn = [step for launch in repeated for step in _launch(launch, inner, used, rules)]
    if shared:
        turn.append(_barrier(used))
    return [RepeatScan(loop, copies, starts, first, turn)]


def _bytes_of_body(loop: ScanLaunch, outer: Bytes) -> Bytes:
    """The bytes of the program that hold a Symbol of the body at any step."""

    def bytes_of(symbol: Symbol) -> BufferSlice:
        buffer_slice = loop.plan.slices[symbol]
        within = outer(loop.locate(buffer_slice).holder)
        if buffer_slice.region == ARENA and within.size >= buffer_slice.offset + buffer_slice.size:
            return BufferSlice(within.region, within.offset + buffer_slice.offset, buffer_slice.size)
        return within

    return bytes_of
