"""One suite over every registered backend: what a compiled step promises, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid import Tensor, nn, optim
from pellucid.compiler import program_cache
from pellucid.compiler.backends import BACKENDS, Backend
from pellucid.errors import IndexRangeError, PellucidError

Train = Callable[..., Any]


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Every compiled step runs on this backend, and at least one did."""
    chosen, made = BACKENDS[request.param], []

    def make(*args: Any) -> Any:
        made.append(chosen(*args))
        return made[-1]

    monkeypatch.setattr(program_cache, "make_program", make)
    yield chosen
    assert made


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return P.tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def classifier() -> tuple[nn.Module, Train]:
    P.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 4))
    optimizer = optim.AdamW(model.parameters(), lr=0.01)

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, step


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(np.asarray(a.tolist()), np.asarray(b.tolist()), rtol=2e-5, atol=2e-6)


def test_a_training_is_that_of_the_eager_step(backend: Backend) -> None:
    x, y = numbers(32, 6), P.tensor(np.arange(32) % 4)
    (eager, eager_step), losses = classifier(), []
    P.manual_seed(5)
    for _ in range(6):
        losses.append(eager_step(x, y))
    model, step = classifier()
    compiled = P.compile(step)
    P.manual_seed(5)
    for loss in losses:
        close(compiled(x, y), loss)
    for a, b in zip(model.parameters(), eager.parameters(), strict=True):
        close(a, b)


def test_an_epoch_in_one_call_is_the_calls_in_turn(backend: Backend) -> None:
    x, y = numbers(40, 6), P.tensor(np.arange(40) % 4)
    order = np.random.default_rng(1).permutation(40).reshape(5, 8)
    (one, one_step), (other, other_step) = classifier(), classifier()
    P.manual_seed(7)
    compiled = P.compile(one_step)
    expected = [compiled(x[rows], y[rows]).item() for rows in map(P.tensor, order)]
    P.manual_seed(7)
    losses = P.compile(other_step).run_steps((x, y), order)
    np.testing.assert_allclose(losses.tolist(), expected, rtol=1e-6)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        close(a, b)


def test_a_value_for_each_step(backend: Backend) -> None:
    rate, state, x = P.tensor(0.5), P.zeros(2), numbers(6, 2)
    told: list[int] = []
    rates, order = np.array([1, 0.1, 10], np.float32), np.arange(6).reshape(3, 2)
    step = P.compile(lambda rows: state.add_(rows.sum(0) * rate).sum())
    found = step.run_steps(x, order, told.append, per_step={rate: rates})
    expected = np.cumsum(np.asarray(x.tolist())[order].sum(1) * rates[:, None], axis=0)
    np.testing.assert_allclose(found.tolist(), expected.sum(1), rtol=1e-5)
    np.testing.assert_allclose(state.tolist(), expected[-1], rtol=1e-5)
    assert rate.item() == 0.5 and told[-1] == 3


def test_a_step_with_an_index_out_of_range_writes_nothing(backend: Backend) -> None:
    table, count = nn.Embedding(10, 3), P.zeros(())

    def step(index: Tensor) -> Tensor:
        count.add_(1)
        return table(index).sum()

    compiled = P.compile(step)
    compiled(P.tensor([1, 2, 3]))
    with pytest.raises(IndexRangeError, match="10"):
        compiled(P.tensor([1, 10, 3]))
    assert count.item() == 1
    with pytest.raises(IndexRangeError, match="12"):
        compiled.run_steps(P.tensor([1, 2, 12, 3]), np.array([[0, 1], [2, 3], [0, 1]]))
    assert count.item() == 2


def test_a_backward_outside_the_step(backend: Backend) -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))
    x = numbers(12, 5).requires_grad_()
    loss = (model(x) ** 2).sum()
    expected = P.autograd.grad(loss, [x, *model.parameters()])
    compiled = P.compile(model)
    for _ in range(2):
        found = P.autograd.grad((compiled(x) ** 2).sum(), [x, *model.parameters()])
        for a, b in zip(found, expected, strict=True):
            close(a, b)


def test_a_scan_and_its_gradient(backend: Backend) -> None:
    weight = numbers(4, 4).requires_grad_()

    def step(xs: Tensor) -> tuple[Tensor, Tensor]:
        weight.grad = None
        last, all_ = P.scan(lambda h, x: ((h @ weight + x).tanh(),) * 2, P.zeros(2, 4), xs)
        (last.sum() + all_.square().sum()).backward()
        return last, weight.grad

    xs = numbers(7, 2, 4, seed=2)
    for a, b in zip(P.compile(step)(xs), step(xs), strict=True):
        close(a, b)


def test_writes_through_views_and_results_that_are_views(backend: Backend) -> None:
    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        x[1:3] = x[0] * 2
        return x[:, 1], x.sum()

    a, b = numbers(4, 3), numbers(4, 3)
    view, total = P.compile(step)(a)
    expected, expected_total = step(b)
    close(a, b)
    close(total, expected_total)
    view += 1
    expected += 1
    close(a, b)  # the result is a view of the argument


def test_varying_lengths_by_few_programs(backend: Backend) -> None:
    run = P.compile(lambda x: (x.softmax(1).sum(0), x.mean(1)), pad={"x": 1})
    for length in (13, 9, 16, 5):
        x = numbers(3, length, seed=length)
        results, expected = run(x), (x.softmax(1).sum(0), x.mean(1))
        for a, b in zip(results, expected, strict=True):
            assert a.shape == b.shape
            close(a, b)


def test_state_that_is_written_from_outside_between_calls(backend: Backend) -> None:
    state = numbers(3)

    def step(x: Tensor) -> Tensor:
        state.mul_(0.5).add_(x)
        return state.sum()

    compiled = P.compile(step)
    mirror = np.asarray(state.tolist(), np.float32)
    for number in range(4):
        x = numbers(3, seed=number)
        if number == 2:
            state.assign(P.ones(3))
            mirror = np.ones(3, np.float32)
        mirror = mirror * np.float32(0.5) + np.asarray(x.tolist(), np.float32)
        np.testing.assert_allclose(compiled(x).item(), mirror.sum(), rtol=1e-5)
        np.testing.assert_allclose(state.tolist(), mirror, rtol=1e-6)


def test_whole_numbers_flags_and_doubles(backend: Backend) -> None:
    def step(i: Tensor, d: Tensor) -> tuple[Tensor, ...]:
        return (i * 3) % 5, i > 2, i.sum(), (i > 2).any(), d.exp().sum(1), d.argmax(1), i.float() / 2

    i, d = P.tensor([1, 2, 3, 4]), numbers(3, 4).double()
    results, expected = P.compile(step)(i, d), step(i, d)
    for a, b in zip(results, expected, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        close(a, b)


def test_what_it_runs_can_be_looked_at(backend: Backend) -> None:
    compiled = P.compile(lambda x: (x * 2).relu())
    compiled(numbers(3))
    assert "relu" in str(compiled.graph)
    try:
        kernels = compiled.kernels(measure=False)
    except PellucidError as error:  # says that there is no native code, and what to do
        assert "print(step.graph)" in str(error)
    else:
        assert [name for name, _ in kernels[0].operations] == ["multiply", "relu"]
