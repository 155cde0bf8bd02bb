"""Time loops in compiled steps: one operation whatever the length, its gradient another, and the numbers of the eager loop."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from random_graphs import Trial, check, planned_run, second_gradients, wave

import pellucid as P
from pellucid import nn, optim
from pellucid.compiler.backends.cpu.lower import emit_module
from pellucid.compiler.backends.cpu.memory_plan import iter_launches
from pellucid.compiler.ir.graph import interpret
from pellucid.compiler.ir.scan_body import body_of
from pellucid.compiler.trace.tracer import trace
from pellucid.errors import GradientError, IndexRangeError, ShapeError, TraceError
from pellucid.ops.loop import loop, tree_leaves
from pellucid.tensor import Tensor

T, B, H = 7, 3, 5
DISABLED: list[tuple[str, ...]] = [
    (),
    ("scan hoisting",),
    ("fusion",),
    ("reuse", "scan hoisting"),
    ("simplify", "simplify again"),
]


def some(*shape: int, seed: int = 0, grad: bool = True) -> Tensor:
    """Numbers small enough that rounding does not grow from position to position."""
    numbers = np.random.default_rng([seed, *shape]).normal(size=shape) / 2 / max(1, shape[-1] / 4) ** 0.5
    return P.tensor(numbers.astype(np.float32), requires_grad=grad)


# ---- three cells ---------------------------------------------------------------------------------------------------------


def rnn(w: Tensor) -> Callable[..., Any]:
    def body(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = (x + h @ w.T).tanh()
        return h, h

    return body


def lstm(w: Tensor) -> Callable[..., Any]:
    def body(state: tuple[Tensor, Tensor], x: Tensor) -> tuple[Any, Tensor]:
        h, c = state
        i, f, g, o = (x + h @ w.T).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        return (h, c), h

    return body


def gru(w: Tensor) -> Callable[..., Any]:
    def body(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        (xr, xz, xn), (hr, hz, hn) = x.chunk(3, -1), (h @ w.T).chunk(3, -1)
        r, z = (xr + hr).sigmoid(), (xz + hz).sigmoid()
        h = (1 - z) * (xn + r * hn).tanh() + z * h
        return h, h

    return body


CELLS = {"rnn": (rnn, 1), "lstm": (lstm, 4), "gru": (gru, 3)}


def trial(cell: str, reverse: bool = False, length: int = T, batch: int = B, width: int = H) -> Trial:
    """Outputs and gradients of one layer, for the weight, the sequence and the first state."""
    make, gates = CELLS[cell]

    def function(w: Tensor, xs: Tensor, h: Tensor, wave: Tensor) -> list[Tensor]:
        carry = (h, P.zeros(*h.shape)) if cell == "lstm" else h
        last, ys = P.scan(make(w), carry, xs, reverse=reverse)
        last = last[0] if cell == "lstm" else last
        loss = (ys * wave).sum() + (last * last).sum()
        return [ys.detach(), last.detach(), *P.autograd.grad(loss, [w, xs, h])]

    args = [some(gates * width, width), some(length, batch, gates * width), some(batch, width)]
    return Trial(function, [*args, some(length, batch, width, seed=1, grad=False)], [])


@pytest.mark.parametrize("disable_passes", DISABLED, ids=lambda names: "+".join(names) or "nothing")
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_cells_agree_with_every_oracle(cell: str, reverse: bool, disable_passes: tuple[str, ...]) -> None:
    check(trial(cell, reverse), disable_passes)


@pytest.mark.parametrize("cell", CELLS)
def test_the_numbers_are_those_of_the_eager_loop_to_six_digits(cell: str) -> None:
    one = trial(cell, batch=17, width=33)
    truth = one.run(one.function)
    traced = trace(one.function, (tuple(one.args), {}), {})
    graph = traced.graph
    interpreted = one.spread(traced, *interpret(graph, one.inputs(graph)))
    for found in (one.run(P.compile(one.function)), interpreted):
        for a, b in zip(found, truth, strict=True):
            assert np.abs(a - b).max() <= 1e-6 * max(1.0, np.abs(b).max())


def size_of(one: Trial) -> tuple[int, int]:
    """Recorded operations and native kernels."""
    run = P.compile(one.function)
    run(*one.args)
    program = run.last
    assert program is not None
    return len(program.traced.graph.symbols), sum(1 for _ in iter_launches(program.plan.launches))


@pytest.mark.parametrize("cell", CELLS)
def test_a_program_does_not_grow_with_the_length(cell: str) -> None:
    short, long = size_of(trial(cell, length=4)), size_of(trial(cell, length=96))
    assert short[0] == long[0] < 110
    assert abs(short[1] - long[1]) <= 1  # a long sum is cut in two


@pytest.mark.parametrize("length", [1, 2, 3, 512])
def test_any_length(length: int) -> None:
    check(trial("lstm", length=length, batch=2, width=3), scale=20)


def test_the_same_bits_on_any_number_of_threads() -> None:
    before, one = P.get_num_threads(), trial("lstm", length=9, batch=33, width=80)
    run = P.compile(one.function)
    found = set()
    try:
        for threads in (1, 2, 4, 2, 3, 2):
            P.set_num_threads(threads)
            found.add(hashlib.sha256(b"".join(a.tobytes() for a in one.run(run))).hexdigest())
        P.set_num_threads(3)
        check(one, scale=20)
    finally:
        P.set_num_threads(before)
    assert len(found) == 1


# ---- what a loop may look like -------------------------------------------------------------------------------------------


class State(NamedTuple):
    total: Tensor
    more: dict[str, Tensor]


def nests(xs: Tensor, start: Tensor) -> list[Tensor]:
    def body(state: State, x: tuple[Tensor, list[Tensor]]) -> tuple[State, dict[str, Any]]:
        first, (second,) = x
        new = State(state.total * 0.9 + first, {"count": state.more["count"] + 1, "before": state.total})
        return new, {"sum": new.total, "pair": (first * second, None), "whole": start, "count": state.more["count"]}

    carry = State(start, {"count": P.tensor(0), "before": start * 2})
    last, ys = P.scan(body, carry, (xs, [xs.flip(0)]))
    loss = (ys["sum"] * ys["pair"][0]).sum() + last.more["before"].sum() + (ys["whole"] ** 2).sum()
    assert isinstance(last, State) and ys["pair"][1] is None
    grads = P.autograd.grad(loss, [xs, start])
    return [last.total.detach(), last.more["count"], ys["count"], ys["sum"].detach(), *grads]


def without_sequence(x: Tensor) -> list[Tensor]:
    last, ys = P.scan(lambda c, _: (c * x + 0.25, None), x * 0.5, length=6)
    assert ys is None
    return [last.detach(), *P.autograd.grad(last.sum(), [x])]


def two_layers(xs: Tensor, w: Tensor, v: Tensor) -> list[Tensor]:
    """A layer on a layer, the second backwards and with a product on its input and one on its output."""
    h = P.zeros(B, H)
    _, ys = P.scan(rnn(w), h, xs)

    def second(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = (x.relu() @ v + h @ w).tanh()
        return h, (h @ v.T).sigmoid()

    last, zs = P.scan(second, h, ys, reverse=True)
    loss = (zs * zs).mean() + last.sum()
    return [loss.detach(), zs.detach(), *P.autograd.grad(loss, [xs, w, v])]


def loop_in_a_loop(xs: Tensor, w: Tensor) -> list[Tensor]:
    """xs (T, B, H): for every position a loop over the batch."""

    def inner(c: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        c = (c * 0.5 + row.unsqueeze(0) @ w).sin()
        return c, c.sum()

    def outer(c: Tensor, x: Tensor) -> tuple[Tensor, Any]:
        last, ys = P.scan(inner, c.tanh(), x)
        return c + last, (ys * ys, last)

    last, (ys, lasts) = P.scan(outer, xs[0, :1] * 2, xs)
    loss = (ys.sum(0) * ys[0]).sum() + (last * last).sum() + lasts.mean()
    return [ys.detach(), last.detach(), *P.autograd.grad(loss, [xs, w])]


def uneven(xs: Tensor, w: Tensor, v: Tensor) -> list[Tensor]:
    """Reductions, choices, peepholes, a weight read twice and in parts, an accumulator, views and steps backwards."""

    def body(state: tuple[Tensor, Tensor, Tensor], x: Tensor) -> tuple[Any, Any]:
        h, total, old = state
        a = x[:, ::2] @ w[:3] + (h * w[0]).amax(1, keepdim=True)
        h = P.where(a > 0.1, a, h * w[1]).softmax(-1) @ w
        return (h, total + (h * h).sum(), x.flip(1)), (h.mean(0), a > 0, v.sum() * h[0] * old[1])

    (h, total, old), ys = P.scan(body, (xs[0], P.zeros(()), xs[1]), xs.permute(0, 1, 2)[::-1])
    loss = (ys[0] * 3).sum() + total + (old * h).sum() + (ys[2] ** 2).sum()
    return [total.detach(), ys[0].detach(), ys[1], *P.autograd.grad(loss, [xs, w, v])]


SHAPES: list[tuple[Callable[..., Any], list[tuple[int, ...]]]] = [
    (nests, [(6, 2), (2,)]),
    (without_sequence, [(4,)]),
    (two_layers, [(T, B, H), (H, H), (H, H)]),
    (loop_in_a_loop, [(6, 4, H), (H, H)]),
    (uneven, [(6, 4, H), (H, H), (3,)]),
]


@pytest.mark.parametrize("disable_passes", DISABLED, ids=lambda names: "+".join(names) or "nothing")
@pytest.mark.parametrize(("function", "shapes"), SHAPES, ids=lambda x: getattr(x, "__name__", ""))
def test_loops_of_many_forms(function: Any, shapes: Any, disable_passes: tuple[str, ...]) -> None:
    check(Trial(function, [some(*shape, seed=i) for i, shape in enumerate(shapes)], []), disable_passes)


MOVES: list[Callable[..., Tensor]] = [
    lambda a, b, w: a + b, lambda a, b, w: a * b, lambda a, b, w: a.tanh(), lambda a, b, w: b.sigmoid() - a,
    lambda a, b, w: (a @ w).sin(), lambda a, b, w: (a @ w.T).cos(), lambda a, b, w: P.where(a > b, a, w[1] * b),
    lambda a, b, w: a.softmax(-1) * 2, lambda a, b, w: a - b.mean(0), lambda a, b, w: (a * w[0]).amax(1, keepdim=True) + b,
    lambda a, b, w: P.cat([a[:, 2:].tanh(), b[:, :2]], 1), lambda a, b, w: (a.T @ b).sigmoid()[:1] + a.flip(0),
    lambda a, b, w: P.scan(lambda c, x: (c * 0.5 + x, c), a[0], b)[1] if len(b) > 2 else a,
]  # fmt: skip


def random_loop(seed: int, twice: bool = False) -> Trial:
    """A loop whose body is made of random moves, over a carry of two, with some outputs and a gradient, perhaps two."""
    random = np.random.default_rng(seed)
    choices = [(random.integers(len(MOVES)), random.random(2)) for _ in range(random.integers(3, 9))]
    ends, flags = random.random(4), random.random(3) < 0.5

    def function(xs: Tensor, w: Tensor, h: Tensor) -> list[Tensor]:
        def body(state: tuple[Tensor, Tensor], x: Tensor) -> tuple[Any, Any]:
            values = [*state, x]
            for number, (a, b) in choices:
                values.append(MOVES[number](values[int(a * len(values))], values[int(b * len(values))], w))
            first, second, *ys = [values[int(end**0.5 * len(values))] for end in ends]
            carry = (
                (first.tanh(), second * 0.3 + state[1] * 0.5) if flags[0] else (first.tanh(), state[1] + second.sin())
            )
            return carry, ys

        (last, total), ys = P.scan(body, (h, h * 0.5), xs, reverse=bool(flags[1]))
        loss = (last * last).sum() + (ys[0] * ys[1]).sum() + (total.sum() if flags[2] else 0)
        grads = P.autograd.grad(loss, [xs, w, h], create_graph=twice, allow_unused=True)
        values = [v.detach() for v in (last, total, *ys, *grads) if v is not None]
        return [*values, *(second_gradients(grads, [xs, w, h]) if twice else [])]

    return Trial(function, [some(4, 3, 4), some(4, 4, seed=1), some(3, 4, seed=2)], [])


@pytest.mark.parametrize("seed", range(40))
def test_random_bodies_agree_with_every_oracle(seed: int) -> None:
    check(random_loop(seed), DISABLED[seed // 2 % len(DISABLED)] if seed % 2 else (), scale=20)


@pytest.mark.parametrize("seed", range(6))
def test_random_bodies_to_second_order(seed: int) -> None:
    check(random_loop(seed, twice=True), DISABLED[seed % len(DISABLED)], scale=200)


def test_hundreds_of_operations_leave_the_loop() -> None:
    def body(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = y = h * 0.5 + x
        for _ in range(200):
            y = (y * 1.01).tanh()
        return h, y

    check(Trial(lambda xs: P.scan(body, P.zeros(3), xs), [some(T, 3, grad=False)], []), native=False)


def test_what_a_sum_over_the_steps_reads_many_times_is_added_up_once() -> None:
    def doubled(xs: Tensor, w: Tensor) -> Tensor:
        def body(total: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            g = x @ w
            for _ in range(40):  # 2 ** 40 paths lead to the product
                g = g + g
            return total + g, x

        return P.scan(body, P.zeros(B, H), xs)[0]

    check(Trial(doubled, [some(T, B, H, grad=False), some(H, H, grad=False)], []), native=False)


def test_only_what_needs_a_gradient_has_one() -> None:
    def function(w: Tensor, xs: Tensor) -> list[Tensor]:
        carry = (P.zeros(2), P.zeros(2))
        (h, count), ys = P.scan(lambda c, x: ((c[0] * w + x, c[1] + x), (c[0], c[1])), carry, xs)
        assert h.requires_grad and ys[0].requires_grad and not count.requires_grad and not ys[1].requires_grad
        with P.no_grad():
            free, _ = P.scan(lambda c, x: (c * w + x, None), P.zeros(2), xs)
        assert not free.requires_grad
        return [count, free, *P.autograd.grad(h.sum() + ys[0].sum(), [w])]

    check(Trial(function, [some(2), some(5, 2, grad=False)], []))


def test_a_gradient_of_a_gradient() -> None:
    def function(w: Tensor, xs: Tensor, h: Tensor) -> list[Tensor]:
        _, ys = P.scan(rnn(w), h, xs)
        first = P.autograd.grad((ys * ys).sum(), [w, xs, h], create_graph=True)
        size = sum(((g * g).sum() for g in first), P.tensor(0.0))
        return [size.detach(), *P.autograd.grad(size, [w, xs, h])]

    check(Trial(function, [some(H, H), some(4, B, H), some(B, H)], []), scale=20)


def one_in_three_roles(x: Tensor, w: Tensor) -> Any:
    """x is the sequence, its first rows the carry, and the body reads x itself; the two carries begin as one Tensor."""
    start = x[0] * 2

    def body(state: tuple[Tensor, Tensor], row: Tensor) -> tuple[Any, Tensor]:
        h, total = state
        h = (row * w + h * x[0] + x.mean()).tanh()
        return (h, total + h * start), h * row

    return P.scan(body, (start, start), x)


@pytest.mark.parametrize("function", [one_in_three_roles, lambda x, w: P.scan(rnn(x[0] * w), x[0], x)])
def test_what_a_loop_reads_in_several_roles_counts_each_once_in_a_second_gradient(function: Any) -> None:
    def step(x: Tensor, w: Tensor) -> list[Tensor]:
        last, ys = function(x, w)
        loss = (ys * ys).sum() + sum(((y * y).sum() for y in tree_leaves(last)), P.tensor(0.0))
        first = P.autograd.grad(loss, [x, w], create_graph=True)
        return [*(g.detach() for g in first), *P.autograd.grad(sum((g * wave(g)).sum() for g in first), [x, w])]

    check(Trial(step, [some(5, H, H), some(H)], []), scale=20)


def test_a_loop_over_nothing_wide_agrees_with_every_oracle() -> None:
    def function(xs: Tensor) -> list[Tensor]:
        last, ys = P.scan(lambda c, x: (c + x, c * x), P.zeros(3, 0), xs)
        return [last, ys]

    check(Trial(function, [some(6, 3, 0, grad=False)], []))


def test_two_walks_of_one_tape() -> None:
    def function(w: Tensor, xs: Tensor) -> list[Tensor]:
        last, ys = P.scan(rnn(w), P.zeros(B, H), xs)
        one = P.autograd.grad(ys.sum(), [w], retain_graph=True)
        return [*one, *P.autograd.grad((last * last).sum(), [w, xs])]

    check(Trial(function, [some(H, H), some(T, B, H)], []))


def test_hooks_run_once() -> None:
    def function(w: Tensor, xs: Tensor) -> list[Tensor]:
        v = w * 0.5
        v.register_hook(lambda g: g * 3)
        _, ys = P.scan(rnn(v), P.zeros(B, H), xs)
        return list(P.autograd.grad(ys.sum(), [w]))

    check(Trial(function, [some(H, H), some(T, B, H)], []))


# ---- state and chance ----------------------------------------------------------------------------------------------------


def test_dropout_inside_draws_what_the_eager_loop_draws() -> None:
    layer = nn.Dropout(0.3)

    def function(w: Tensor, xs: Tensor) -> list[Tensor]:
        def body(h: Tensor, x: Tensor) -> tuple[Tensor, Any]:
            h = layer((x + h @ w).tanh())
            return h, (h, P.rand(2))

        _, (ys, drawn) = P.scan(body, P.zeros(B, H), xs)
        return [ys.detach(), drawn, P.rand(3), *P.autograd.grad((ys * ys).sum(), [w, xs])]

    one = Trial(function, [some(H, H), some(T, B, H)], [])
    check(one)
    check(one, ("scan hoisting",))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input, self.output = nn.Linear(4, 4 * H), nn.Linear(H, 2)
        self.weight = nn.Parameter(some(4 * H, H).detach())

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, T, 4)."""
        zx = self.input(x.permute(1, 0, 2))
        start = P.zeros(x.shape[0], H)
        (h, _), _ = P.scan(lstm(self.weight), (start, start), zx)
        return self.output(h)


def test_training_with_adam() -> None:
    def losses(compiled: bool) -> list[float]:
        P.manual_seed(3)
        model = Network()
        optimizer = optim.Adam(model.parameters(), lr=0.02)

        def step(x: Tensor, y: Tensor) -> Tensor:
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            return loss

        run = P.compile(step) if compiled else step
        x, y = some(6, 12, 4, grad=False), some(6, 2, grad=False)
        return [float(run(x, y)) for _ in range(25)]

    eager, native = losses(False), losses(True)
    np.testing.assert_allclose(native, eager, rtol=1e-4)
    assert native[-1] < 0.5 * native[0]


def test_many_steps_in_one_call() -> None:
    model = Network()
    data = some(20, 12, 4, grad=False)
    run = P.compile(lambda x: model(x).detach())
    rows = np.arange(20).reshape(5, 4)
    found = run.run_steps(data, rows).numpy()
    eager = [model(data[row.tolist()]).detach().numpy() for row in rows]
    np.testing.assert_allclose(found, eager, rtol=1e-5, atol=1e-6)


def test_the_listing_counts_runs() -> None:
    one = trial("lstm", length=20, batch=16, width=64)
    run = P.compile(one.function)
    run(*one.args)
    listed = run.kernels()
    products = [k for k in listed if k.kind == "product"]
    assert [k.runs for k in products] == [20, 20, 1]  # forward, backward, and one for the weight
    assert sum(k.flops for k in products) == pytest.approx(3 * 2 * 20 * 16 * 64 * 256, rel=0.05)
    assert all(k.microseconds is not None for k in listed) and "20 times 16x256" in str(listed)


def test_each_kernel_of_a_loop_has_its_own_entry_in_the_table_of_times() -> None:
    """Copies of weights run before those of the carry, which stand before them in the listing."""
    P.manual_seed(0)
    model = nn.LSTM(24, 40)

    @P.compile
    def run(x: Tensor) -> Tensor:
        with P.no_grad():
            return model(x)[0]

    run(P.rand(9, 2, 24))
    program = run.last
    launches = [launch for launch, _ in iter_launches(program.plan.launches)]
    assert launches[0].kernel.packed and any(launch.kernel.packed for launch in launches[1:])
    names: dict[Any, str] = {}
    expected = [names.setdefault(launch.spec, f"kernel{len(names)}") for launch in launches]
    text = str(emit_module(program.executable.lowered, timed=True))
    calls = re.findall(r'call void @"(kernel\d+)"(.*?)store i64', text[text.index('@"program0"') :], re.DOTALL)
    found = {int(re.findall(r"getelementptr i64, .*, i64 (\d+)", after)[-1]): name for name, after in calls[1:]}
    assert found == dict(enumerate(expected[1:], 1))  # the address of entry 0 is that of the table


# ---- what is not possible ------------------------------------------------------------------------------------------------


def test_a_lost_index_is_found_inside_a_loop() -> None:
    table, state = some(5, 3), P.zeros(1)

    def step(indices: Tensor) -> Tensor:
        _, ys = P.scan(lambda c, i: (c + 1, nn.functional.embedding(i, table) + c), P.zeros(()), indices)
        state.add_(1)
        return ys.detach()

    run = P.compile(step)
    good = P.tensor([[0, 4], [1, 2], [3, 3], [2, 2]])
    np.testing.assert_allclose(run(good).numpy(), step(good).numpy(), atol=1e-6)
    with pytest.raises(IndexRangeError):
        run(P.tensor([[0, 4], [1, 2], [3, 5], [2, 2]]))
    assert state.item() == 2.0
    np.testing.assert_allclose(run(good).numpy(), step(good).numpy(), atol=1e-6)


def test_float64_is_interpreted() -> None:
    def function(xs: Tensor) -> list[Tensor]:
        last, ys = P.scan(lambda c, x: (c * 0.5 + x, c), P.zeros(3, dtype=P.float64), xs)
        return [last, ys]

    check(Trial(function, [some(5, 3, grad=False).double()], []))


def test_what_is_made_inside_stays_inside() -> None:
    kept: list[Tensor] = []

    def step(xs: Tensor) -> Tensor:
        last, _ = P.scan(lambda c, x: (kept.append(c) or c + x, None), P.zeros(2), xs)  # type: ignore[func-returns-value]
        return last + kept.pop()

    with pytest.raises(TraceError, match=r"made inside the loop.*read outside.*make it part of the carry or of y"):
        P.compile(step)(some(5, 2, grad=False))


def test_the_same_refusals_as_eagerly() -> None:
    outside = P.zeros(1)

    def assigning(c: Tensor, x: Tensor) -> tuple[Tensor, None]:
        outside.add_(1)
        return c, None

    with pytest.raises(TraceError, match="assigning assigns a Tensor"):
        P.compile(lambda c: P.scan(assigning, c, length=4)[0])(P.zeros(2))
    assert outside.item() == 0
    with pytest.raises(ShapeError, match="the body turned the carry"):
        P.compile(lambda c: P.scan(lambda c, x: (c[:1], None), c, length=4)[0])(P.zeros(2))


def test_a_weight_overwritten_before_backward_is_refused() -> None:
    def step(w: Tensor, xs: Tensor) -> Tensor:
        loss = P.scan(rnn(w), P.zeros(B, H), xs)[0].sum()
        with P.no_grad():
            w.mul_(2)
        return P.autograd.grad(loss, [w])[0]

    with pytest.raises(GradientError, match="was overwritten"):
        P.compile(step)(some(H, H), some(T, B, H))


def test_another_body_is_another_program() -> None:
    """Loops are compared by what their bodies do: two that differ in a number alone must not be taken for one."""

    def function(xs: Tensor) -> list[Tensor]:
        bodies = [lambda c, x, k=k: (c * k + x, None) for k in (0.5, 0.25, 0.5)]
        return [P.scan(body, P.zeros(2), xs)[0] for body in bodies]

    one = Trial(function, [some(5, 2, grad=False)], [])
    check(one)
    graph = trace(function, (tuple(one.args), {}), {}).graph
    planned_run(graph, one.inputs(graph))


def test_operations_of_a_body_tell_the_line_of_the_user() -> None:
    """A class that ran the body in its generated `__init__` put a line of no file, `<string>`, in their place."""
    layer = nn.LSTM(2, 3)
    xs = some(T, B, 2, grad=False)

    def step(xs: Tensor) -> Tensor:
        loss = layer(xs)[0].sum()
        loss.backward()
        return loss

    graph = trace(step, ((xs,), {}), {}).graph
    loops = [s for s in graph.symbols if s.op is loop]
    assert len(loops) == 2  # the second is the gradient
    here = Path(__file__).name
    origins = {str(s.origin) for scan in loops for s in (scan, *body_of(scan).graph.symbols)}
    assert all(f"{here}:" in origin for origin in origins), origins
