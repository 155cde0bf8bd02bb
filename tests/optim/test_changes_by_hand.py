"""What is done by hand to an optimizer's lists, state and methods, and to a weight's hooks, is followed: eagerly as in PyTorch,
and by a compiled step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

import pellucid as P
from pellucid import optim

Change = Callable[[Any, list[Any]], None]


def drop(op: Any, params: list[Any]) -> None:
    op.param_groups[0]["params"] = params[:1]


def delete(op: Any, params: list[Any]) -> None:
    del op.param_groups[0]["params"][1]


def append(op: Any, params: list[Any]) -> None:
    op.param_groups[0]["params"].append(params[2])


def replace(op: Any, params: list[Any]) -> None:
    op.param_groups[0]["params"][0] = params[2]


def pop_group(op: Any, params: list[Any]) -> None:
    op.param_groups.pop()


def forget(op: Any, params: list[Any]) -> None:
    op.state.clear()


def forget_one(op: Any, params: list[Any]) -> None:
    op.state.pop(params[0], None)


def new_state(op: Any, params: list[Any]) -> None:
    op.state = defaultdict(dict)


def new_moment(op: Any, params: list[Any]) -> None:
    for kept in op.state.values():
        for name in kept:
            kept[name] = kept[name] * 0


def later_step(op: Any, params: list[Any]) -> None:
    for kept in op.state.values():
        if "step" in kept:
            kept["step"] = kept["step"] * 0 + 100


def no_step(op: Any, params: list[Any]) -> None:
    op.step = lambda: None


CHANGES: list[Change] = [
    drop, delete, append, replace, pop_group, forget, forget_one, new_state, new_moment, later_step, no_step,
]  # fmt: skip
MAKE: dict[str, Callable[[Any], Any]] = {
    "sgd": lambda optim: lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "plain": lambda optim: lambda p: optim.SGD(p, lr=0.1),
    "adam": lambda optim: lambda p: optim.Adam(p, lr=0.1),
    "rmsprop": lambda optim: lambda p: optim.RMSprop(p, lr=0.01),
}


def course(T: Any, make: Any, change: Change, compiled: bool) -> list[float]:
    params = [T.tensor([1.0 + i], requires_grad=True) for i in range(3)]
    op = make(T.optim)(params[:2])

    def step() -> Any:
        for p in params:
            p.grad = None
        loss = sum((p * p * (i + 1)).sum() for i, p in enumerate(params))
        loss.backward()
        op.step()
        return loss

    run = T.compile(step) if compiled else step
    for _ in range(3):
        run()
    change(op, params)
    for _ in range(3):
        run()
    return [p.item() for p in params]


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_compiled_as_eager(change: Change, name: str) -> None:
    assert course(P, MAKE[name], change, True) == pytest.approx(course(P, MAKE[name], change, False), rel=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__)
def test_as_in_pytorch(change: Change, name: str) -> None:
    import torch

    assert course(P, MAKE[name], change, False) == pytest.approx(course(torch, MAKE[name], change, False), rel=1e-5)


def test_some_courses_by_their_numbers() -> None:
    """PyTorch's, for a run without it."""
    for change, expected in ((drop, 1), (append, 2)):
        before = course(P, MAKE["plain"], lambda op, params: None, False)
        after = course(P, MAKE["plain"], change, False)
        assert [a != b for a, b in zip(before, after, strict=True)] == [i == expected for i in range(3)]


@pytest.mark.parametrize("compiled", [False, True])
def test_hooks_of_a_weight_come_and_go(compiled: bool) -> None:
    w = P.ones(1, requires_grad=True)
    op = optim.SGD([w], lr=0.1)

    def step() -> None:
        op.zero_grad()
        (w * 2).sum().backward()
        op.step()

    run = P.compile(step) if compiled else step
    run()
    hook = w.register_hook(lambda g: g * 0)
    run()
    run()
    assert w.item() == pytest.approx(0.8)
    hook.remove()
    run()
    assert w.item() == pytest.approx(0.6)
