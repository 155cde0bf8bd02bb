"""What becomes of programs and their guards: how many are kept, what a refusal leaves behind, what is told, and whole programs."""

from __future__ import annotations

import copy
import cProfile
import dis
import gc
import re
import sys
import time
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from guard_kinds import Box, vector

import pellucid as P
from pellucid import nn
from pellucid.compiler import guard_cost, program_cache
from pellucid.compiler import step as step_module
from pellucid.compiler.guards import checker, handlers, shadow_stack
from pellucid.compiler.guards.guard import Guard, content_guard
from pellucid.compiler.guards.locations import Location, differs
from pellucid.errors import TraceError


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one at every recording."""
    count: list[int] = []
    real = step_module.trace
    monkeypatch.setattr(step_module, "trace", lambda *a, **o: (count.append(1), real(*a, **o))[1])
    return count


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*has been compiled 3 times already")
        yield


# ---- what comes at any time


def test_what_the_garbage_collector_calls_is_no_part_of_the_step() -> None:
    """A callback that looks at the clock, and a user's generator in a cycle that is closed, in the middle of a recording."""
    seen: list[float] = []

    def callback(phase: str, info: dict[str, Any]) -> None:
        seen.append(time.perf_counter())

    def waiting() -> Iterator[int]:
        try:
            yield 1
        finally:
            seen.append(0.0)

    class Cycle:
        def __init__(self) -> None:
            self.me, self.generator = self, waiting()
            next(self.generator)

    threshold = gc.get_threshold()
    gc.callbacks.append(callback)
    gc.set_threshold(1)
    try:
        for _ in range(20):
            Cycle()
            assert P.compile(lambda x: sum((x * i for i in range(30)), x))(P.ones(1)).item() == 436
        assert gc.isenabled()
    finally:
        gc.set_threshold(*threshold)
        gc.callbacks.remove(callback)
    assert seen


def test_a_generator_that_is_let_go_of_in_the_step() -> None:
    def numbers() -> Iterator[float]:
        yield 2.0
        yield 3.0

    @P.compile
    def step(x: Any) -> Any:
        found = numbers()
        y = x * next(found)
        del found
        return y

    assert [step(P.ones(1)).item() for _ in range(2)] == [2, 2]


# ---- programs


def test_a_value_that_comes_back_finds_its_program(records: list[int]) -> None:
    box = Box(w=1.0)
    step = P.compile(lambda x: x * box.w)
    for w in (1.0, 2.0, 1.0, 2.0, 1.0):
        box.w = w
        assert step(P.ones(1)).item() == w
    assert len(records) == 2


def test_sixteen_programs_of_a_signature_are_kept_the_last_used_first(records: list[int]) -> None:
    box = Box(w=0)
    step = P.compile(lambda x: x * box.w)
    for box.w in range(20):
        assert step(P.ones(1)).item() == box.w
    (entries,) = step.programs.values()
    assert len(entries) == len(step.made) == 16
    box.w = 19
    step(P.ones(1))
    assert len(records) == 20
    box.w = 0  # dropped long ago
    assert step(P.ones(1)).item() == 0 and len(records) == 21


def test_what_the_step_does_not_read_may_change(records: list[int]) -> None:
    box = Box(w=2.0, other=[1])
    step = P.compile(lambda x: x * box.w)
    for i in range(5):
        box.other = [i]
        step(vector())
    assert len(records) == 1


def test_the_first_call_runs_what_only_the_first_call_does(records: list[int]) -> None:
    """A layer that sets itself by its first batch: later calls leave its scale alone."""

    class Setting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(P.ones(3))
            self.ready = False

        def forward(self, x: P.Tensor) -> P.Tensor:
            if not self.ready:
                with P.no_grad():
                    self.scale.assign(1 / x.abs().reshape(3))
                self.ready = True
            return x * self.scale

    layer = Setting()
    step = P.compile(lambda x: layer(x).detach())
    np.testing.assert_allclose(step(vector()).numpy(), [1, -1, 1], rtol=1e-6)
    np.testing.assert_allclose(step(vector() * 2).numpy(), [2, -2, 2], rtol=1e-6)
    assert len(records) == 2

    many = Setting()
    rows = P.tensor([[1.0, -2.0, 3.0], [2.0, -4.0, 6.0], [3.0, -6.0, 9.0]])
    results = P.compile(lambda x: many(x).detach()).run_steps(rows, P.tensor([[0], [1], [2]]))
    np.testing.assert_allclose(results.numpy()[:, 0], [[1, -1, 1], [2, -2, 2], [3, -3, 3]], rtol=1e-6)


# ---- refusals


def test_a_refused_write_is_put_back() -> None:
    box, seen, table = Box(n=0), [], {"n": 0}

    def step(x: P.Tensor) -> P.Tensor:
        box.n += 1
        seen.append(box.n)
        table["n"] += 1
        table["new"] = 1
        box.new = 1
        return x * box.n

    for _ in range(2):
        with pytest.raises(TraceError, match=r"test_guards_programs.py:\d+: a compiled step writes Box.n"):
            P.compile(step)(vector())
        assert (vars(box), seen, table) == ({"n": 0}, [], {"n": 0})


def test_a_refusal_that_the_step_catches_is_raised_all_the_same() -> None:
    iterator = iter([1.0, 2.0])

    def step(x: P.Tensor) -> P.Tensor:
        try:
            return x * next(iterator)
        except Exception:
            return x

    with pytest.raises(TraceError, match="advances an iterator from outside"):
        P.compile(step)(vector())


def test_an_error_of_the_users_own_stays_what_it_is() -> None:
    def step(x: P.Tensor) -> P.Tensor:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        P.compile(step)(vector())


@pytest.mark.parametrize("fails", [False, True])
def test_trace_functions_are_put_back(fails: bool) -> None:
    def trace(*_: Any) -> None: ...

    def profile(*_: Any) -> None: ...

    def step(x: P.Tensor) -> P.Tensor:
        if fails:
            raise ValueError
        return x

    before = sys.gettrace(), sys.getprofile()
    try:
        sys.settrace(trace)
        sys.setprofile(profile)
        try:
            P.compile(step)(vector())
        except ValueError:
            assert fails
        found = sys.gettrace(), sys.getprofile()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    assert found == (trace, profile)


def test_an_instruction_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(w=1.0)
    monkeypatch.delitem(handlers.HANDLERS, "LOAD_ATTR")
    with pytest.raises(TraceError, match=r"test_guards_programs.py:\d+: .*the instruction LOAD_ATTR of Python.*report"):
        P.compile(lambda x: x * box.w)(vector())


def test_a_python_that_does_not_tell_of_its_instructions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_stack.ShadowStack, "step", lambda self, frame: None)
    with pytest.raises(TraceError, match="does not tell of its instructions"):
        P.compile(lambda x: x * 2)(vector())


def test_every_instruction_of_this_python_has_a_handler() -> None:
    specialized = re.compile("INSTRUMENTED|SETUP_(?!ANN)|__|LOAD_SUPER_METHOD|LOAD_ZERO")
    names = [name for name in dis.opmap if not specialized.match(name) and "__" not in name]
    assert [name for name in names if name not in handlers.HANDLERS] == []


# ---- guards


def test_guards_that_cost_much_are_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program_cache, "MIN_GUARD_SECONDS", 0.0)
    monkeypatch.setattr(guard_cost, "MAX_GUARD_SHARE", 0.0)
    box = Box(numbers=[float(i) for i in range(60)])
    step = P.compile(lambda x: x * sum(box.numbers))
    with pytest.warns(UserWarning, match=r"most of it is the content of list \(test_guards_programs.py:\d+\), "):
        for _ in range(3):
            step(vector())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(vector())  # once


@pytest.mark.parametrize(
    ("now", "then", "differ"),
    [
        (2, 2, False), (2, 2.0, True), (1, True, True), (0.0, -0.0, True), (float("nan"), float("nan"), False),
        (10**20, 10**20, False), ("a" * 50, "a" * 50, False), ((1, 2.5), (1, 2.5), False), ((1,), (1, 2), True),
        (np.float32(1), np.float32(1), False), (np.float32(1), np.float64(1), True), ([1], [1], True), (None, 0, True),
        ([].append, [].append, True),
    ],
)  # fmt: skip
def test_values_are_compared_by_identity_and_then_by_value(now: Any, then: Any, differ: bool) -> None:
    assert differs(now, then) is differ


@pytest.mark.parametrize("container", [[1, 2], {"a": 1}, {1, 2}, bytearray(b"ab"), np.arange(3.0)], ids=repr)
def test_a_content_is_compared_and_put_back(container: Any) -> None:
    place, guard = Location("content", container), content_guard(container, None)
    before, first, check = place.read(), copy.deepcopy(container), checker([guard])
    assert check() and place.holds(before)
    if isinstance(container, dict | np.ndarray | bytearray):
        container["a" if isinstance(container, dict) else 0] = 7
    else:
        getattr(container, "append", getattr(container, "add", None))(7)
    assert not check() and not place.holds(before)
    place.put(before)
    assert check() and (container == first if not isinstance(container, np.ndarray) else (container == first).all())


def test_a_guard_whose_owner_has_lost_the_attribute_does_not_hold() -> None:
    box = Box(w=1)
    check = checker([Guard("attribute", box, "w", 1, None)])
    assert check()
    del box.w
    assert not check()


# ---- whole programs


def test_a_target_network_replaced_by_a_copy() -> None:
    """The target of a DQN, in a plain object: each copy is the target from then on."""
    run = []
    for compiled in (lambda f: f, P.compile):
        P.manual_seed(0)
        agent = SimpleNamespace(q=nn.Linear(3, 2))
        agent.target = copy.deepcopy(agent.q)
        optimizer = P.optim.Adam(agent.q.parameters(), lr=0.1)

        def learn(x: P.Tensor, agent: Any = agent, optimizer: Any = optimizer) -> P.Tensor:
            optimizer.zero_grad()
            wanted = 1 + 0.9 * agent.target(x).detach().max(1).values
            loss = (agent.q(x)[:, 0] - wanted).square().mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        step, losses = compiled(learn), []
        for i in range(9):
            losses.append(step(P.ones(4, 3)).item())
            if i % 3 == 2:
                agent.target = copy.deepcopy(agent.q)
        run.append(losses)
    np.testing.assert_allclose(run[1], run[0], rtol=1e-4)


def test_an_annealed_coefficient_of_a_plain_object() -> None:
    run = []
    for compiled in (lambda f: f, P.compile):
        P.manual_seed(0)
        trainer = SimpleNamespace(model=nn.Linear(3, 1), beta=0.0)
        optimizer = P.optim.SGD(trainer.model.parameters(), lr=0.1)

        def train(x: P.Tensor, trainer: Any = trainer, optimizer: Any = optimizer) -> P.Tensor:
            optimizer.zero_grad()
            y = trainer.model(x)
            loss = y.square().mean() + trainer.beta * y.abs().mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        step, losses = compiled(train), []
        for epoch in range(5):
            trainer.beta = epoch / 4
            losses += [step(P.ones(4, 3)).item() for _ in range(3)]
        run.append(losses)
    np.testing.assert_allclose(run[1], run[0], rtol=1e-4)


def test_a_mask_that_forward_makes_once_for_each_length(records: list[int]) -> None:
    class Causal(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.masks: dict[int, P.Tensor] = {}

        def forward(self, x: P.Tensor) -> P.Tensor:
            n = x.shape[0]
            if n not in self.masks:
                self.masks[n] = P.tril(P.ones(n, n))
            return self.masks[n] @ x

    layer = Causal()
    step = P.compile(lambda x: layer(x))
    for n in (3, 3, 4, 3, 4):
        assert step(P.ones(n)).tolist() == list(range(1, n + 1))
    assert len(records) == 4 and sorted(layer.masks) == [3, 4]
    assert layer.masks[3].tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_a_schedule_stepped_inside_is_refused_and_outside_is_seen() -> None:
    weight = nn.Parameter(P.ones(1))
    optimizer = P.optim.SGD([weight], lr=1.0)
    schedule = P.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)

    def train(x: P.Tensor, inside: bool) -> P.Tensor:
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()
        if inside:
            schedule.step()
        return weight.detach()

    step = P.compile(train)
    with pytest.raises(TraceError, match=r"test_guards_programs.py:\d+: a compiled step writes StepLR"):
        step(P.ones(1), True)
    assert schedule.get_last_lr() == [1.0]
    found = []
    for _ in range(3):
        found.append(step(P.ones(1), False).item())
        schedule.step()
    assert found == [0.0, -0.5, -0.75]


def test_a_step_is_recorded_under_a_profiler() -> None:
    profiler, state = cProfile.Profile(), {"k": 2.0}
    run = P.compile(lambda x: x * state["k"])

    def after() -> float:
        return run(P.ones(2)).sum().item()

    profiler.enable()
    first = run(P.ones(2)).tolist()
    total = after()
    profiler.disable()
    assert (first, total) == ([2, 2], 4)
    assert any(entry.code is after.__code__ for entry in profiler.getstats())  # it goes on after the trace
