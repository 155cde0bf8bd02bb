"""Modes: blocks, plain calls and decorators, in one thread and in many; every decorated function of the library at once."""

from __future__ import annotations

import ast
import asyncio
import contextvars
import importlib
import inspect
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pellucid as P
from pellucid import nn
from pellucid.errors import OptionError, TraceError
from pellucid.grad_mode import Mode, has_empty_weights, init_empty_weights
from pellucid.random import Generator, stream, use_generator

ROOT = Path(P.__file__).parent
MODES = {  # each kind, and a look at whether it is on
    "no_grad": (P.no_grad, lambda: not P.is_grad_enabled()),
    "inference_mode": (P.inference_mode, lambda: not P.is_grad_enabled()),
    "set_grad_enabled": (lambda: P.set_grad_enabled(False), lambda: not P.is_grad_enabled()),
    "init_empty_weights": (init_empty_weights, has_empty_weights),
    "use_generator": (lambda: use_generator(Generator(987_654)), lambda: stream().initial_seed() == 987_654),
    "path_relative_to": (
        lambda: nn.module.path_relative_to(nn.Sequential()),
        lambda: isinstance(nn.module._root.get(), nn.Sequential),
    ),
}
each_mode = pytest.mark.parametrize("name", MODES)


# ---- every kind ----------------------------------------------------------------------------------------------------------


def test_every_kind_of_mode_is_tested_here() -> None:
    for file in ROOT.rglob("*.py"):  # so that all of them are defined
        if "Mode" in file.read_text(encoding="utf-8") and "__main__" not in file.name:
            importlib.import_module(".".join(["pellucid", *file.relative_to(ROOT).with_suffix("").parts]))

    def kinds(kind: type) -> Iterator[str]:
        for below in kind.__subclasses__():
            if below.__name__ != "PlainMode":
                yield below.__name__
            yield from kinds(below)

    assert set(kinds(Mode)) == {*MODES, "enable_grad"}


@each_mode
def test_one_decorated_function_in_many_threads(name: str, at_once: Any) -> None:
    make, on = MODES[name]

    @make()
    def look(depth: int) -> bool:
        assert on()
        return look(depth - 1) if depth else on()

    assert not on()
    assert all(all(found) for found in at_once(lambda i: [look(i % 3) and not on() for _ in range(200)]))
    assert not on()


@each_mode
def test_one_object_as_a_block_in_many_threads_and_within_itself(name: str, at_once: Any) -> None:
    make, on = MODES[name]
    mode = make()
    with mode:  # what a plain call of `set_grad_enabled` did is undone here
        pass

    def nest(i: int) -> None:
        for _ in range(200):
            with mode:
                assert on()
                with mode:
                    assert on()
                assert on()
            assert not on()

    at_once(nest)
    assert not on()


@each_mode
def test_an_error_leaves_the_mode(name: str) -> None:
    make, on = MODES[name]

    @make()
    def fails() -> None:
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fails()
        with pytest.raises(ZeroDivisionError), make():
            raise ZeroDivisionError
        assert not on()


@each_mode
def test_a_decorated_generator_has_its_mode_only_while_it_runs(name: str) -> None:
    make, on = MODES[name]
    seen = []

    @make()
    def numbers(count: int) -> Any:
        try:
            for i in range(count):
                seen.append(on())
                try:
                    seen.append((yield i))
                except KeyError:
                    seen.append("thrown")
            return "end"
        finally:
            seen.append(on())

    def delegated() -> Any:
        assert (yield from numbers(2)) == "end"

    for _ in numbers(2):
        assert not on()
    assert seen == [True, None, True, None, True] and not on()
    seen.clear()
    assert list(delegated()) == [0, 1]
    seen.clear()
    run = numbers(3)
    assert (next(run), run.send("told"), run.throw(KeyError)) == (0, 1, 2) and not on()
    run.close()
    assert seen == [True, "told", True, "thrown", True, True] and not on()
    with make():  # and one that is begun inside, and gone on with outside
        run = numbers(2)
        next(run)
    assert not on()
    seen.clear()
    next(run)
    assert seen == [None, True] and not on()
    assert inspect.isgeneratorfunction(numbers)


@each_mode
def test_a_decorated_generator_handed_from_thread_to_thread(name: str) -> None:
    make, on = MODES[name]

    @make()
    def numbers() -> Iterator[bool]:
        while True:
            yield on()

    run = numbers()
    for _ in range(20):
        found = []
        worker = threading.Thread(target=lambda found=found: found.extend([next(run), on()]))
        worker.start()
        worker.join()
        assert found == [True, False] and next(run) and not on()


@each_mode
def test_coroutines_that_take_turns(name: str) -> None:
    make, on = MODES[name]

    @make()
    async def inside() -> list[bool]:
        seen = []
        for _ in range(5):
            seen.append(on())
            await asyncio.sleep(0)
        return seen

    async def outside() -> list[bool]:
        seen = []
        for _ in range(5):
            seen.append(on())
            await asyncio.sleep(0)
        return seen

    async def both() -> Any:
        return await asyncio.gather(inside(), outside(), inside())

    assert asyncio.run(both()) == [[True] * 5, [False] * 5, [True] * 5]
    assert not on()


@each_mode
def test_a_block_that_ends_in_another_context_changes_nothing_there(name: str) -> None:
    make, on = MODES[name]

    def numbers() -> Iterator[int]:
        with make():
            yield 1

    run = numbers()
    contextvars.copy_context().run(next, run)  # the block begins there
    assert not on()
    run.close()  # and ends here
    assert not on()
    with make():
        other = make()
        elsewhere = contextvars.Context()
        elsewhere.run(other.__enter__)
        other.__exit__(None, None, None)
        assert on()
        assert elsewhere.run(on)
    assert not on()


@each_mode
def test_blocks_that_end_out_of_order(name: str) -> None:
    """As two generators with a block in each do it: the mode is on until both are over. (PyTorch leaves it on for ever.)"""
    make, on = MODES[name]

    def numbers() -> Iterator[int]:
        with make():
            yield 1

    a, b, c = numbers(), numbers(), numbers()
    next(a), next(b)
    with P.enable_grad():  # of another kind, or not
        pass
    a.close()
    assert on()
    next(c)
    b.close()
    assert on()
    c.close()
    assert not on()


@each_mode
def test_what_is_not_decorated(name: str) -> None:
    make, _ = MODES[name]

    async def numbers() -> Any:
        yield 1

    for what, words in ((nn.Linear, "decorate its methods"), (numbers, "asynchronous"), (5, "expected a function")):
        with pytest.raises(OptionError, match=words):
            make()(what)
    assert P.is_grad_enabled()


def test_a_decorated_function_keeps_its_name_and_methods_their_self() -> None:
    class Counter:
        """Of calls."""

        count = 0

        @P.no_grad()
        def more(self, by: int = 1) -> int:
            """Count."""
            assert not P.is_grad_enabled()
            self.count += by
            return self.count

        @staticmethod
        @P.no_grad
        def on() -> bool:
            return P.is_grad_enabled()

    counter = Counter()
    assert (counter.more(), counter.more(by=2), counter.on()) == (1, 3, False)
    assert (Counter.more.__name__, Counter.more.__doc__) == ("more", "Count.")


# ---- one by one ----------------------------------------------------------------------------------------------------------


def test_without_parentheses() -> None:
    for kind in (P.no_grad, P.inference_mode):

        @kind
        def look() -> bool:
            return P.is_grad_enabled()

        assert look() is False and P.is_grad_enabled()

    @P.no_grad
    def outer() -> tuple[bool, bool]:
        return P.is_grad_enabled(), inner()

    @P.enable_grad
    def inner() -> bool:
        return P.is_grad_enabled()

    @init_empty_weights
    def network() -> nn.Module:
        return nn.Linear(1000, 1000)

    assert outer() == (False, True)
    assert network().weight.array.strides == (0, 0)


def test_set_grad_enabled_acts_when_it_is_called() -> None:
    try:
        P.set_grad_enabled(False)
        assert not P.is_grad_enabled() and not (P.ones(1, requires_grad=True) * 2).requires_grad
        with P.set_grad_enabled(True):
            assert P.is_grad_enabled()
        assert not P.is_grad_enabled()
    finally:
        P.set_grad_enabled(True)
    assert P.is_grad_enabled()
    off = P.set_grad_enabled(False)
    assert not P.is_grad_enabled()
    with off:
        assert not P.is_grad_enabled()
    assert P.is_grad_enabled()  # as it was before the call
    with off, P.enable_grad():
        assert P.is_grad_enabled()
    assert P.is_grad_enabled()

    @P.set_grad_enabled(False)
    def look() -> bool:
        return P.is_grad_enabled()

    assert P.is_grad_enabled() and not look() and P.is_grad_enabled()


def test_set_grad_enabled_in_one_thread_is_not_heard_in_another(at_once: Any) -> None:
    def switch(i: int) -> None:
        for _ in range(100):
            P.set_grad_enabled(bool(i % 2))
            assert P.is_grad_enabled() is bool(i % 2)

    at_once(switch)
    assert P.is_grad_enabled()


def test_inference_mode_takes_a_mode() -> None:
    with P.no_grad(), P.inference_mode(False):
        assert P.is_grad_enabled()
    with P.inference_mode(True):
        assert not P.is_grad_enabled()
    assert P.inference_mode(False)(P.is_grad_enabled)()


@pytest.mark.parametrize("make", [P.set_grad_enabled, P.inference_mode])
@pytest.mark.parametrize("what", [0, 1, None, "off"])
def test_what_is_no_bool(make: Any, what: Any) -> None:
    with pytest.raises(OptionError, match="expected True or False"):
        make(what)
    assert P.is_grad_enabled()
    if what is not None:
        with pytest.raises(OptionError, match="no_grad: decorates .*expected a function"):
            P.no_grad(what)  # takes nothing, so it would be on whatever was meant


def test_a_compiled_step_leaves_gradients_as_they_were() -> None:
    """A plain call inside would act when the step is recorded and never again."""

    def step(x: Any) -> Any:
        P.set_grad_enabled(False)
        return x * 2

    def block(x: Any) -> Any:
        with P.set_grad_enabled(False):
            y = x * 2
        return y + x

    with pytest.raises(TraceError, match=r"leaves gradients off .*with set_grad_enabled\(False\)"):
        P.compile(step)(P.ones(2))
    assert P.is_grad_enabled()
    assert P.compile(block)(P.ones(2)).tolist() == [3, 3]


def test_a_compiled_function_is_seen_through_its_decorator() -> None:
    factor = 2.0

    @P.no_grad()
    def scaled(x: Any) -> Any:
        return x * factor

    run = P.compile(scaled)
    assert run(P.ones(1)).item() == 2
    factor = 3.0
    assert run(P.ones(1)).item() == 3


# ---- the library's own ---------------------------------------------------------------------------------------------------


def decorated() -> Iterator[tuple[str, Any]]:
    """Every function of the library with a mode for a decorator, by its name."""
    for file in sorted(ROOT.rglob("*.py")):
        name = ".".join(["pellucid", *file.relative_to(ROOT).with_suffix("").parts])
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for decorator in getattr(node, "decorator_list", ()):
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                word = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                if word in {*MODES, "enable_grad"}:
                    yield f"{name}.{node.name}", importlib.import_module(name)


def weights() -> Any:
    layer = nn.Linear(3, 2)
    for p in layer.parameters():
        nn.init.constant_(p, 0.5)
        p.grad = p.detach() + 1.5
    return layer


def clipped(function: Any, limit: float) -> list[Any]:
    layer = weights()
    function(layer.parameters(), limit)
    return [p.grad.tolist() for p in layer.parameters()]


def refilled(function: Any) -> list[Any]:
    layer = weights()
    function(P.arange(8, dtype=P.float32), layer.parameters())
    return [p.tolist() for p in layer.parameters()]


# For each decorated function a call that gives what it did, to be compared.
CALLS: dict[str, Callable[[Any], Any]] = {
    "pellucid.nn.utils.clip_grad_norm_": lambda f: clipped(f, 1.0),
    "pellucid.nn.utils.clip_grad_value_": lambda f: clipped(f, 0.25),
    "pellucid.nn.utils.vector_to_parameters": refilled,
}


def test_every_decorated_function_in_many_threads(at_once: Any) -> None:
    found = dict(decorated())
    assert found.keys() == CALLS.keys(), "a function with a mode for a decorator has no call in CALLS, or is gone"
    for name, module in found.items():
        function = getattr(module, name.rpartition(".")[2])
        alone = CALLS[name](function)

        def job(i: int, call: Any = CALLS[name], function: Any = function) -> list[Any]:
            return [(call(function), P.is_grad_enabled()) for _ in range(20)]

        for results in at_once(job):
            assert results == [(alone, True)] * 20, name


def test_tokens_stay_in_the_frame_that_got_them() -> None:
    """A token of a context variable is good in its own context alone, so none is kept in an object, or over a yield."""
    wrong = []
    for file in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "reset":
                around: Any = node
                while not isinstance(around, ast.FunctionDef):
                    around = parents[around]
                yields = any(isinstance(n, ast.Yield | ast.YieldFrom | ast.Await) for n in ast.walk(around))
                if yields or not all(isinstance(token, ast.Name) for token in node.args):
                    wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert not wrong
