"""What a compiled step refuses: errors that name the user's line, after which everything is as it was."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid import nn, optim
from pellucid.core.value import current_tracer
from pellucid.errors import GradientError, ShapeError, TraceError
from pellucid.nn.functional import cross_entropy
from pellucid.random import default_generator
from pellucid.tensor import Tensor

Step = Callable[..., Any]


class World:
    """A small network in training, and everything about it that an error may not change."""

    def __init__(self) -> None:
        P.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.1)
        self.x, self.y = P.randn(8, 4), P.randint(0, 3, (8,))
        self.found: list[Any] = []

    def loss(self) -> Tensor:
        self.optimizer.zero_grad()
        loss = cross_entropy(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss

    def tensors(self) -> list[Tensor]:
        moments = [t for kept in self.optimizer.state.values() for t in kept.values()]
        buffers = [b for _, b in self.model.named_buffers()]
        return [*self.model.parameters(), *buffers, *moments, self.x, self.y, default_generator.state]

    def picture(self) -> list[Any]:
        return [(np.array(t.array), t.version, t._grad, t.node, t.requires_grad) for t in self.tensors()]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.loss()  # moments, statistics and gradients are there
    yield world
    assert current_tracer() is None


def unchanged(world: World, before: list[Any]) -> None:
    for (array, *rest), (known, *others) in zip(world.picture(), before, strict=True):
        np.testing.assert_array_equal(array, known)
        assert all(a is b or a == b for a, b in zip(rest, others, strict=True))


def line_of(function: Any, marked: str = "# here") -> int:
    source, start = inspect.getsourcelines(function)
    return start + next(i for i, line in enumerate(source) if marked in line)


def refused(world: World, step: Step, error: type[Exception] = TraceError) -> str:
    """The message of the error, once it is sure that nothing has changed; twice, as the second call records again."""
    before = world.picture()
    run = P.compile(step)
    for _ in range(2):
        with pytest.raises(error) as caught:
            run()
        unchanged(world, before)
    return str(caught.value)


def asks_if(world: World) -> Step:
    def step() -> Tensor:
        loss = world.loss()
        if loss > 1:  # here
            return loss * 2
        return loss

    return step


def asks_item(world: World) -> Step:
    def step() -> Any:
        loss = world.loss()
        return loss.item()  # here

    return step


def asks_numpy(world: World) -> Step:
    def step() -> Any:
        loss = world.loss().detach()
        return loss.numpy().mean()  # here

    return step


def asks_float(world: World) -> Step:
    def step() -> Any:
        loss = world.loss()
        return {"loss": float(loss)}  # here

    return step


def asks_print(world: World) -> Step:
    def step() -> Tensor:
        loss = world.loss()
        print(f"{loss:.3f}")  # here
        return loss

    return step


def asks_tolist(world: World) -> Step:
    def step() -> Any:
        world.loss()
        return world.model[0].weight.detach().tolist()  # here

    return step


def asks_numpy_function(world: World) -> Step:
    def step() -> Any:
        loss = world.loss().detach()
        return P.tensor(np.exp(loss))  # here

    return step


def asks_range(world: World) -> Step:
    def step() -> Any:
        count = (world.x > 0).sum()
        return [world.x * i for i in range(count)]  # here

    return step


def asks_mask(world: World) -> Step:
    def step() -> Any:
        world.loss()
        return world.x[world.x > 0]  # here

    return step


def asks_state(world: World) -> Step:
    def step() -> Any:
        world.loss()
        if world.x.sum() > 0:  # here
            return world.x
        return None

    return step


def asks_nonzero(world: World) -> Step:
    def step() -> Any:
        world.loss()
        return world.x.nonzero()  # here

    return step


def asks_unique(world: World) -> Step:
    def step() -> Any:
        world.loss()
        return (world.x * 2).unique()  # here

    return step


def asks_allclose(world: World) -> Step:
    def step() -> Any:
        world.loss()
        return (world.x * 2).allclose(world.x)  # here

    return step


ASKING = [asks_if, asks_item, asks_numpy, asks_float, asks_print, asks_tolist, asks_numpy_function, asks_range, asks_mask,
          asks_state, asks_nonzero, asks_unique, asks_allclose]  # fmt: skip


@pytest.mark.parametrize("make", ASKING, ids=lambda f: f.__name__)
def test_a_step_that_asks_for_numbers_is_refused_by_line(make: Callable[[World], Step], world: World) -> None:
    message = refused(world, make(world))
    assert f"test_step_errors.py:{line_of(make)}" in message
    assert "expected" in message


def keeps_in_a_list(world: World) -> Step:
    def step() -> None:
        loss = world.loss()  # at least one line of this function
        world.found.append(loss.detach() * 2)  # here

    return step


def keeps_in_an_attribute(world: World) -> Step:
    def step() -> None:
        world.loss()
        world.last = world.x + 1  # type: ignore[attr-defined]  # here

    return step


def keeps_on_the_module(world: World) -> Step:
    def step() -> None:
        world.loss()
        hidden = world.model[0](world.x).detach()  # here
        world.model.hidden = hidden

    return step


def keeps_in_a_closure(world: World) -> Step:
    total: Any = 0

    def step() -> Tensor:
        nonlocal total
        loss = world.loss()
        total = total + loss.detach()  # here
        return loss

    return step


def keeps_a_tape(world: World) -> Step:
    def step() -> None:
        y = (world.model(world.x) * 3).sum()  # here
        world.found.append(y)

    return step


KEEPING = [keeps_in_a_list, keeps_in_an_attribute, keeps_on_the_module, keeps_in_a_closure, keeps_a_tape]


@pytest.mark.parametrize("make", KEEPING, ids=lambda f: f.__name__)
def test_a_value_that_stays_behind_is_named_by_the_line_that_made_it(
    make: Callable[[World], Step], world: World
) -> None:
    before = world.picture()
    with pytest.raises(TraceError, match="outlives the step") as caught:
        P.compile(make(world))()
    assert f"test_step_errors.py:{line_of(make)}" in str(caught.value)
    unchanged(world, before)


def test_after_an_error_the_step_can_be_mended_and_runs(world: World) -> None:
    wrong, right = asks_if(world), world.loss
    refused(world, wrong)
    twin, told = World(), []
    twin.loss()  # as the fixture did
    for call in (P.compile(right), twin.loss):
        P.manual_seed(7)
        told.append([float(call()) for _ in range(3)])
    np.testing.assert_allclose(told[0], told[1], rtol=1e-3)


def test_the_users_own_error_comes_through_and_changes_nothing(world: World) -> None:
    def step() -> Tensor:
        world.loss()
        raise KeyError("mine")

    assert "mine" in refused(world, step, KeyError)

    def misshaped() -> Tensor:
        world.loss()
        return world.x @ world.x

    message = refused(world, misshaped, ShapeError)
    with pytest.raises(ShapeError) as eager:
        _ = world.x @ world.x
    assert message == str(eager.value)


def test_an_error_in_a_later_recording_leaves_the_programs_there(world: World) -> None:
    def step(x: Tensor) -> Tensor:
        if x.shape[0] == 3:
            raise ValueError("three")
        world.x.add_(x.sum())
        return x * 2

    run = P.compile(step)
    run(P.ones(2))
    kept = world.x.tolist()
    with pytest.raises(ValueError, match="three"):
        run(P.ones(3))
    assert world.x.tolist() == kept
    assert run(P.ones(2)).tolist() == [2, 2]


def test_a_write_on_the_tape_to_a_tensor_from_outside_is_refused(world: World) -> None:
    outside = P.ones(4)

    def step() -> Tensor:
        w = world.model[0].weight
        outside.add_(w.sum())  # here
        loss = outside.sum()
        loss.backward()
        return loss

    before = world.picture()
    with pytest.raises(TraceError, match=r"no_grad\(\)") as caught:
        P.compile(step)()
    assert f"test_step_errors.py:{line_of(step)}" in str(caught.value)
    unchanged(world, before)
    assert outside.tolist() == [1, 1, 1, 1] and not outside.requires_grad


def test_writing_a_weight_before_its_gradient_is_taken_is_the_eager_error(world: World) -> None:
    def step() -> Tensor:
        w = world.model[0].weight
        loss = (w * w).sum()
        with P.no_grad():
            w.mul_(2)
        loss.backward()
        return loss

    message = refused(world, step, GradientError)
    with pytest.raises(GradientError) as eager:
        step()
    assert re.sub(r"\d+", "", message) == re.sub(r"\d+", "", str(eager.value))


def test_a_leaf_written_on_the_tape_is_the_eager_error(world: World) -> None:
    def step() -> None:
        world.model[0].weight.mul_(2)

    refused(world, step, GradientError)


def test_a_result_of_another_kind_is_refused(world: World) -> None:
    assert "returns a" in refused(world, lambda: {"array": np.ones(2), "loss": world.loss()})
    assert "returns a" in refused(world, lambda: world.loss)


def test_shapes_may_decide_and_numbers_of_python_too() -> None:
    def step(x: Tensor, depth: int) -> Tensor:
        for _ in range(depth):
            x = x * 2 if len(x) > 2 else x + 1
        assert bool(x.shape[0]) and x.ndim == 1
        return x

    run = P.compile(step)
    assert run(P.ones(3), 2).tolist() == [4, 4, 4]
    assert run(P.ones(2), 3).tolist() == [4, 4]


def test_repr_of_a_recorded_tensor_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    def step(x: Tensor) -> Tensor:
        print(x, "and", x * 2)
        return x * 2

    assert P.compile(step)(P.ones(2)).tolist() == [2, 2]
    assert capsys.readouterr().out.count("being traced") == 2


def test_a_dead_cycle_is_no_leak() -> None:
    def step(x: Tensor) -> Tensor:
        loop: list[Any] = [x * 3]
        loop.append(loop)
        return x * 2

    assert P.compile(step)(P.ones(2)).tolist() == [2, 2]


def test_an_array_made_a_tensor_inside_the_step_is_refused_and_a_literal_is_a_constant() -> None:
    """The next batch of an iterator would be the first one, at every step, in silence."""
    batches = iter([np.ones(3), np.zeros(3)])
    with pytest.raises(TraceError, match=r"advances an iterator from outside.*pass next\(...\) in"):
        P.compile(lambda x: x + P.tensor(next(batches)))(P.ones(3))
    for careless in (
        lambda x: P.tensor(np.ones(3)),
        lambda x: x * np.arange(3.0),
        lambda x: x[np.array([0, 2])],
        lambda x: np.ones(3) + x,
    ):
        with pytest.raises(TraceError, match="keep for ever"):
            P.compile(careless)(P.ones(3))
    w = P.ones(3)
    step = P.compile(lambda x: x * P.tensor([1.0, 2.0, 3.0]) + P.tensor(w))
    assert step(P.ones(3)).tolist() == [2, 3, 4]
    w.assign(5)
    assert step(P.ones(3)).tolist() == [6, 7, 8]  # a Tensor made of a Tensor reads it at every call
    ruled = P.compile(lambda x: x * P.arange(3) + P.linspace(0, 1, 3))  # arrays too, but the same ones at every call
    assert ruled(P.ones(3)).tolist() == [0, 1.5, 3]
