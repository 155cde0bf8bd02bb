"""A compiled function whose backward is asked for outside: the same gradients as eager code, whatever comes in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from random_graphs import DISABLED, Grower, planned_run, same
from small_networks import batch, mlp

import pellucid as P
from pellucid import nn, optim
from pellucid.compiler.ir.graph import interpret
from pellucid.compiler.trace.tracer import trace
from pellucid.errors import GradientError, TraceError
from pellucid.nn import functional as F
from pellucid.ops.loop import tree_leaves
from pellucid.random import default_generator
from pellucid.tensor import Tensor

Function = Callable[..., Any]


def both(
    function: Function, *args: Any, wanted: Sequence[Tensor], disable_passes: Sequence[str] = ()
) -> list[np.ndarray]:
    """The results of `function`, and the gradients of a loss computed outside of it."""
    results = [y for y in tree_leaves(function(*args)) if y.requires_grad]
    loss = sum((((y + 0.4) * y).mean() for y in results), P.tensor(0.0))
    grads = P.autograd.grad(loss, list(wanted), allow_unused=True)
    zero = lambda x, g: np.zeros(x.shape, np.float32) if g is None else g.numpy()
    return [y.detach().numpy() for y in results] + [zero(x, g) for x, g in zip(wanted, grads, strict=True)]


# ---- random graphs -------------------------------------------------------------------------------------------------------


def many_graphs(seed: int, graphs: int, moves: int) -> tuple[Function, list[Tensor], list[Tensor]]:
    """One function that gives the last values of many random graphs, its arguments, and the states that it writes."""
    random = np.random.default_rng(seed)
    growers = [Grower(random) for _ in range(graphs)]
    for grower in growers:
        grower.grow(int(random.integers(2, moves + 1)))
    states = [s for grower in growers for s in grower.states]

    def function(*args: Tensor) -> list[Tensor]:
        found, at = [], 0
        for grower in growers:
            values = list(args[at : at + len(grower.leaves)])
            at += len(grower.leaves)
            for move, positions, _ in grower.moves:
                values.append(move(*[values[i] for i in positions]))
            found += [y for y in values[len(grower.leaves) :] if y.requires_grad][-2:]
        return found

    return function, [x for grower in growers for x in grower.leaves], [*states, default_generator.state]


@pytest.mark.parametrize("seed", range(24))
def test_random_graphs_give_the_gradients_of_eager_code(seed: int) -> None:
    disable_passes = DISABLED[seed // 2 % len(DISABLED)] if seed % 2 else ()
    function, args, states = many_graphs(5000 + seed, 16, 3 + seed % 5)
    wanted = [x for x in args if x.requires_grad]
    start = [s.array for s in states]

    def run(call: Function) -> list[np.ndarray]:
        for state, array in zip(states, start, strict=True):
            state.assign(array)
        with np.errstate(all="ignore"):
            return both(call, *args, wanted=wanted) + [s.array.copy() for s in states]

    truth = run(function)
    compiled = P.compile(function, disable_passes=disable_passes)
    same(run(compiled), truth, f"native without {disable_passes}")
    same(run(compiled), truth, f"a second call without {disable_passes}")
    same(run(P.compile(function, disable_passes=["native"])), truth, "interpreter")


@pytest.mark.parametrize("seed", range(6))
def test_both_phases_in_poisoned_memory(seed: int) -> None:
    """The backward phase reads nothing that the forward phase has freed or overwritten."""
    function, args, _ = many_graphs(6000 + seed, 16, 8)
    traced = trace(function, (tuple(args), {}), {}, differentiable=True)
    graph = traced.graph
    random = np.random.default_rng(seed)
    cotangent = lambda slot: random.normal(size=slot.symbol.shape).astype(np.float32)
    values = [cotangent(s) if s.kind == "cotangent" else np.asarray(s.owner.array) for s in graph.inputs]
    with np.errstate(all="ignore"):
        truth = [a for arrays in interpret(graph, values) for a in arrays]
        for disable_passes in ((), ("reuse",), ("fusion",), ("rematerialization",)):
            found = [a for arrays in planned_run(graph, values, disable_passes) for a in arrays]
            same(found, truth, f"plan without {disable_passes}")


# ---- what happens between forward and backward -----------------------------------------------------------------------------


@pytest.fixture(params=[(), ("native",)], ids=["native", "interpreter"])
def disable_passes(request: Any) -> Any:
    return request.param


def test_a_state_that_is_read_and_written(disable_passes: Any) -> None:
    """The backward phase sees what stood there when it was read, though the forward phase has written since."""
    state, x = P.zeros(200, 100), P.tensor(np.linspace(-1, 1, 100, dtype=np.float32), requires_grad=True)

    def function(x: Tensor) -> Tensor:
        state.add_(1)
        y = (x * state.clone()).tanh() * state.clone().T.reshape(200, 100)
        with P.no_grad():
            state.mul_(3)
            state.add_(x)
        return y

    found = []
    for call in (function, P.compile(function, disable_passes=disable_passes)):
        state.zero_()
        found.append([a for _ in range(3) for a in both(call, x, wanted=[x])] + [state.array.copy()])
    same(found[1], found[0], "state")


def test_a_state_seen_through_a_reshape_that_both_phases_read() -> None:
    """The reshape has no memory of its own; what the backward phase reads is still what stood there before the write."""
    state, x = P.zeros(40, 30), P.tensor(np.linspace(-1, 1, 40, dtype=np.float32), requires_grad=True)

    def function(x: Tensor) -> Tensor:
        seen = state.clone().T[:, ::2].reshape(3, 10, 20).permute(1, 0, 2).reshape(15, 40)
        whole = state.clone().reshape(30, 40)
        y = (seen * x).tanh().sum() + (whole * x).exp() @ whole.T
        with P.no_grad():
            state.add_(0.1)
        return y

    found = []
    for call in (function, P.compile(function)):
        state.fill_(0.2)
        found.append([a for _ in range(3) for a in both(call, x, wanted=[x])] + [state.array.copy()])
    same(found[1], found[0], "reshaped")


def test_dropout_has_one_mask_for_both_phases(disable_passes: Any) -> None:
    drop = nn.Dropout(0.5)
    x = P.ones(64, 64, requires_grad=True)
    compiled = P.compile(lambda x: drop(x) * 1, disable_passes=disable_passes)
    masks = []
    for _ in range(3):
        y = compiled(x)
        (g,) = P.autograd.grad(y.sum(), x)
        np.testing.assert_array_equal(y.detach().numpy(), g.numpy())
        masks.append(g.numpy())
    assert (masks[0] != masks[1]).any() and (masks[1] != masks[2]).any()


def test_several_calls_wait_for_their_backward(disable_passes: Any) -> None:
    model = mlp()
    net = P.compile(model, disable_passes=disable_passes)
    parts = [batch(8, seed)[0] for seed in range(4)]

    def gradient(call: Function) -> list[np.ndarray]:
        model.zero_grad()
        results = [call(x) for x in parts]
        results[2].square().sum().backward()
        results[1] = call(parts[2] * 2)  # the first one's part of the tape goes with it
        sum((y.sum() * i for i, y in enumerate(results) if i != 2), P.tensor(0.0)).backward()
        return [p.grad.numpy() for p in model.parameters()]

    truth = gradient(model)
    same(gradient(net), truth, "waiting")
    same(gradient(net), truth, "again")
    out = net(parts[0])
    out.sum().backward()
    with pytest.raises(GradientError, match="released"):
        out.sum().backward()


def test_the_tape_may_be_walked_twice(disable_passes: Any) -> None:
    model, (x, _) = mlp(nn.GELU(), nn.BatchNorm1d(7)), batch(16)
    found = []
    for call in (model, P.compile(model, disable_passes=disable_passes)):
        model.zero_grad()
        y = call(x)
        y.sum().backward(retain_graph=True)
        (y * y).sum().backward()
        found.append([p.grad.numpy() for p in model.parameters()])
    same(found[1], found[0], "walked twice")


def test_the_gradient_goes_on_in_what_the_argument_was_computed_from(disable_passes: Any) -> None:
    first, second, (x, _) = nn.Linear(5, 5), mlp(), batch()
    compiled = P.compile(second, disable_passes=disable_passes)
    found = []
    for call in (second, compiled):
        first.zero_grad()
        second.zero_grad()
        call(first(x).tanh()).square().mean().backward()
        found.append([p.grad.numpy() for p in (*first.parameters(), *second.parameters())])
    same(found[1], found[0], "two networks")


def test_one_of_several_results_and_some_of_the_inputs(disable_passes: Any) -> None:
    w, v = P.tensor([1.0, 2], requires_grad=True), P.tensor([3.0, 4], requires_grad=True)

    def function(x: Tensor) -> dict[str, Any]:
        return {"a": x * w, "b": (x * v, w * v), "none": x * 2, "number": 3}

    x = P.tensor([5.0, 6])
    result = P.compile(function, disable_passes=disable_passes)(x)
    assert not result["none"].requires_grad and result["number"] == 3
    assert [g.tolist() for g in P.autograd.grad(result["b"][1].sum(), [w, v], retain_graph=True)] == [[3, 4], [1, 2]]
    assert P.autograd.grad(result["a"].sum(), w, retain_graph=True)[0].tolist() == [5, 6]
    result["b"][0].sum().backward(inputs=[v])
    assert v.grad.tolist() == [5, 6] and w.grad is None


def test_weights_that_changed_before_the_backward_are_refused(disable_passes: Any) -> None:
    model, (x, y) = mlp(), batch()
    net, optimizer = P.compile(model, disable_passes=disable_passes), optim.SGD(model.parameters(), 0.1)

    @P.compile
    def update(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def assigned() -> None:
        with P.no_grad():
            model[0].weight.mul_(2)

    for change in (assigned, lambda: update(x, y), lambda: update(x, y)):
        out = net(x)
        change()
        with pytest.raises(GradientError, match="overwritten"):
            out.sum().backward()


def test_a_second_derivative_is_refused_by_name() -> None:
    net, (x, _) = P.compile(mlp()), batch()
    out = net(x)
    with pytest.raises(GradientError, match=r"create_graph=True.*compile the whole step"):
        P.autograd.grad(out.sum(), list(net.parameters()), create_graph=True)


def test_a_backward_after_the_one_inside_is_refused() -> None:
    model, (x, y) = mlp(), batch()

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    with pytest.raises(GradientError, match="calls backward\\(\\) itself"):
        P.compile(step)(x, y).backward()


def test_a_step_that_walks_back_into_a_tape_from_outside_is_refused() -> None:
    """It would find the first call's tape again in every later call."""
    w = P.tensor([1.0, 2], requires_grad=True)

    @P.compile
    def step(x: Tensor) -> Tensor:
        (x * x).sum().backward()
        return x * 1

    with pytest.raises(TraceError, match=r"outside the step.*x\.detach\(\)"):
        step(w * 2)


def test_a_leaf_keeps_its_hooks_for_the_walk_outside(disable_passes: Any) -> None:
    seen: list[Any] = []
    w = P.tensor([1.0, 2], requires_grad=True)
    w.register_hook(lambda g: seen.append(g.tolist()) or g * 10)
    P.compile(lambda x: x * w, disable_passes=disable_passes)(P.tensor([3.0, 4])).sum().backward()
    assert seen == [[3, 4]] and w.grad.tolist() == [30, 40]


def test_numbers_without_native_code() -> None:
    """In float64 the interpreter runs between the native parts, in both phases."""
    x = P.tensor(np.linspace(-2, 2, 40).reshape(8, 5))
    model = mlp(nn.Tanh(), nn.LayerNorm(7)).double()
    found = []
    for call in (model, P.compile(model)):
        for _ in range(2):
            model.zero_grad()
            out = call(x)
            out.sort(0)[0].square().mean().backward()
            found.append([out.detach().numpy(), *(p.grad.numpy() for p in model.parameters())])
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    mixed = P.compile(lambda x: (x.float() @ model[0].weight.float().T).sort(0)[0].double() * model[0].bias)
    plain = mixed.function
    wanted = list(model[0].parameters())
    for a, b in zip(both(mixed, x, wanted=wanted), both(plain, x, wanted=wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_wrong_index_is_the_eager_error_with_the_backward_outside() -> None:
    table = nn.Embedding(4, 3)
    run = P.compile(lambda i: table(i) * 2)
    assert run(P.tensor([0, 3])).shape == (2, 3)
    with pytest.raises(IndexError, match="4"):
        run(P.tensor([0, 4]))
    run(P.tensor([1, 1])).sum().backward()
    assert table.weight.grad.numpy()[:, 0].tolist() == [0, 4, 0, 0]


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, 3)),
        lambda: nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(64, 4, 32, 0.2, batch_first=True), nn.Flatten()),
        lambda: nn.Sequential(nn.Flatten(2), nn.LSTM(64, 7, batch_first=True)),
    ],
    ids=["convolutions", "attention", "recurrent"],
)  # fmt: skip
def test_networks_train_as_in_eager_code(build: Callable[[], nn.Module]) -> None:
    def losses(compiled: bool) -> list[float]:
        P.manual_seed(3)
        model = build()
        net = P.compile(model) if compiled else model
        optimizer = optim.SGD(net.parameters(), 0.05)
        found = []
        for _ in range(5):
            x = P.randn(10, 2, 8, 8)
            out = net(x)
            out = out[0] if isinstance(out, tuple) else out
            loss = out.square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    np.testing.assert_allclose(losses(True), losses(False), rtol=2e-5)
