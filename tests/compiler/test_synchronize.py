"""Where threads wait: a barrier stands between kernels that use the same bytes on different threads, and nowhere else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import pellucid as P
from pellucid.compiler.backends.cpu.memory_plan import MemoryPlan, plan_memory
from pellucid.compiler.backends.cpu.schedule import schedule
from pellucid.compiler.backends.cpu.synchronize import Barrier, Call, RepeatScan, Rules, Step, synchronize
from pellucid.compiler.backends.cpu.target import Target, host
from pellucid.compiler.trace.tracer import trace
from pellucid.ops.loop import scan
from pellucid.tensor import Tensor


def processor(parallel_flops: int) -> Target:
    """This one, with threads that share kernels of so many operations and more."""
    costs = dataclasses.replace(host().costs, parallel_flops=parallel_flops, parallel_product_flops=parallel_flops)
    return host()._replace(costs=costs)


def planned(function: Callable[..., Any], args: Sequence[Tensor], target: Target) -> MemoryPlan:
    return plan_memory(*schedule(trace(function, (tuple(args), {}), {}).graph, target))


def steps_of(function: Callable[..., Any], *args: Tensor, parallel_flops: int, timed: bool = False) -> list[Step]:
    target = processor(parallel_flops)
    plan = planned(function, args, target)
    return synchronize(plan, plan.launches, Rules(target.costs, False, timed), writes_deferred=True)


def chain(x: Tensor) -> Tensor:
    """Three kernels, each of which reads the result of the one before."""
    return (x @ x) @ x @ x


def apart(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return x @ x, y @ y


def loop(x: Tensor, w: Tensor) -> Tensor:
    return scan(lambda h, row: (((h + row) @ w).tanh(), h), P.zeros(4, 5), x)[0]


@pytest.mark.parametrize(("parallel_flops", "barriers"), [(1 << 60, 0), (0, 2)])
def test_a_barrier_stands_between_kernels_that_threads_share(parallel_flops: int, barriers: int) -> None:
    steps = steps_of(chain, P.rand(9, 9), parallel_flops=parallel_flops)
    calls = [step for step in steps if isinstance(step, Call)]
    assert len(calls) == 3 and {call.single for call in calls} == {barriers == 0}
    assert [type(step) for step in steps] == ([Call, Barrier] * 3)[:-1] if barriers else [Call] * 3


def test_kernels_that_share_no_bytes_need_none() -> None:
    steps = steps_of(apart, P.rand(9, 9), P.rand(9, 9), parallel_flops=0)
    assert [type(step) for step in steps] == [Call, Call]


def test_a_measurement_waits_around_each_kernel_by_itself() -> None:
    steps = steps_of(chain, P.rand(9, 9), parallel_flops=0, timed=True)
    assert [type(step) for step in steps] == [Call] * 3


@pytest.mark.parametrize("shared", [False, True])
def test_every_turn_of_a_loop_ends_at_a_barrier_where_threads_share_it(shared: bool) -> None:
    steps = steps_of(loop, P.rand(7, 4, 5), P.rand(5, 5), parallel_flops=0 if shared else 1 << 60)
    (repeated,) = [step for step in steps if isinstance(step, RepeatScan)]
    assert isinstance(repeated.turn[-1], Barrier) == shared
    assert any(isinstance(step, Barrier) for step in (*repeated.once, *repeated.starts)) == shared


def test_bytes_of_a_body_lie_where_each_step_finds_them() -> None:
    """Step t reads the state that step t - 1 has written; states and stacked values are one after another."""
    plan = planned(loop, (P.rand(7, 4, 5), P.rand(5, 5)), host())
    (turns,) = [launch.loop for launch in plan.launches if launch.loop is not None]
    outputs = {s: turns.locate(turns.plan.slices[s]) for s in turns.plan.outputs}
    (carry,) = list(outputs.values())[: turns.body.carries]
    (start,) = turns.starts
    assert plan.slices[start.writes[0]].offset - plan.slices[carry.holder].offset == carry.at(-1)
    size = 4 * 5 * 4
    for location in outputs.values():
        offsets = [location.at(t) for t in range(turns.body.length)]
        assert len(set(offsets)) in (2, turns.body.length) and {offset % size for offset in offsets} == {0}
