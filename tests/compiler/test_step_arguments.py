"""What goes into a compiled step and what comes out of it: structures, memory orders, modules, indices out of range."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
import pytest
from small_networks import batch, mlp, state_of, train_step

import pellucid as P
from pellucid import nn, optim
from pellucid.compiler import many_steps
from pellucid.compiler.backends.cpu import many_steps as native_steps
from pellucid.errors import DTypeError, OptionError, PellucidError, TraceError
from pellucid.nn.functional import cross_entropy
from pellucid.random import default_generator
from pellucid.tensor import Tensor

Pair = namedtuple("Pair", "first second")


def test_every_structure_is_returned_as_it_was() -> None:
    def nest(x: Tensor) -> Any:
        return {"a": [x + 1, (x * 2, None)], "b": Pair(x - 1, 3), "c": ({}, [], "name", True, 2.5), "d": x}

    x = P.tensor([1.0, 2])
    result = P.compile(nest)(x)
    assert list(result) == ["a", "b", "c", "d"]
    assert isinstance(result["a"], list) and isinstance(result["a"][1], tuple) and isinstance(result["b"], Pair)
    assert result["a"][0].tolist() == [2, 3] and result["a"][1][0].tolist() == [2, 4] and result["a"][1][1] is None
    assert result["b"].first.tolist() == [0, 1] and result["b"].second == 3
    assert result["c"] == ({}, [], "name", True, 2.5)
    assert result["d"].tolist() == [1, 2]
    assert P.compile(lambda x: None)(x) is None
    assert P.compile(lambda x: x)(x).tolist() == [1, 2]


def test_the_same_tensor_returned_twice_and_a_written_one_returned() -> None:
    state = P.zeros(2)

    def function(x: Tensor) -> Any:
        y = x + 1
        state.add_(y)
        return y, y, state, state * 1, x

    run = P.compile(function)
    for i in (1, 2):
        y, z, written, again, given = run(P.tensor([1.0, 2]))
        assert y.tolist() == z.tolist() == [2, 3]
        assert written.tolist() == again.tolist() == [2 * i, 3 * i] == state.tolist()
        assert given.tolist() == [1, 2]
        assert z is y and written is state and again is not state  # which of them are one is as in eager code


def test_an_argument_or_a_state_that_is_returned_is_the_same_tensor() -> None:
    kept, p, x = P.zeros(2), P.ones(2), P.tensor([3.0, 4.0])
    for _ in range(2):
        first, second, third = P.compile(lambda p, x: (p.add_(x), [kept.assign(p)], x))(p, x)
        assert first is p and second[0] is kept and third is x
    assert p.tolist() == [7, 9] == kept.tolist()


def test_which_arguments_are_one_tensor_belongs_to_the_signature() -> None:
    def step(x: Tensor, y: Tensor) -> Tensor:
        x.add_(1)
        return y - x

    def nested(pair: Any, *, scale: Tensor) -> Tensor:
        pair[0].mul_(2)
        return pair[1] + scale

    for calls in (["ab", "aa", "ba", "bb"], ["aa", "ab", "bb"]):
        run, other = P.compile(step), P.compile(nested)
        a, b = P.tensor([1.0, 2]), P.tensor([3.0, 4])
        c, d = P.tensor([1.0, 2]), P.tensor([3.0, 4])
        eager = {"a": c, "b": d}
        native = {"a": a, "b": b}
        for first, second in calls:
            assert run(native[first], native[second]).tolist() == step(eager[first], eager[second]).tolist()
            found = other((native[first], native[second]), scale=native[first])
            assert found.tolist() == nested((eager[first], eager[second]), scale=eager[first]).tolist()
            assert (a.tolist(), b.tolist()) == (c.tolist(), d.tolist())


def test_one_tensor_as_argument_and_as_what_the_step_reads_itself() -> None:
    kept, other = P.tensor([1.0, 2]), P.tensor([5.0, 6])

    def step(x: Tensor) -> Tensor:
        kept.add_(1)
        return x - kept

    for order in ((kept, other, kept), (other, kept, other)):
        run = P.compile(step)
        for x in order:
            kept.assign([1.0, 2])
            expected = step(x).tolist()
            kept.assign([1.0, 2])
            assert run(x).tolist() == expected


def test_a_gradient_that_is_an_argument_and_read_as_grad_is_refused() -> None:
    w = P.ones(2, requires_grad=True)
    (w * w).sum().backward()

    def step(g: Tensor) -> Tensor:
        g.mul_(2)
        return w.grad + g

    with pytest.raises(TraceError, match=r"is an argument and read as \.grad too.*inside the step"):
        P.compile(step)(w.grad)
    run = P.compile(step)
    assert run(P.tensor([1.0, 2])).tolist() == [4, 6]
    with pytest.raises(TraceError, match="is an argument and read"):
        run(w.grad)
    assert w.grad.tolist() == [2, 2]


def test_a_leaf_that_is_made_inside() -> None:
    """The gradient penalty of WGAN-GP in both spellings, and an adversarial example."""
    w = P.tensor([[0.5, -0.3], [0.2, 0.7]], requires_grad=True)

    def penalty(x: Tensor, y: Tensor, *, detached: bool) -> Tensor:
        mix = 0.3 * x + 0.7 * y
        mix = mix.detach().requires_grad_(True) if detached else mix.requires_grad_(True)
        (slope,) = P.autograd.grad((mix @ w).tanh().sum(), mix, create_graph=True)
        loss = ((slope * slope).sum() - 1) ** 2
        loss.backward()
        return loss

    def attack(x: Tensor, **_: Any) -> Tensor:
        adversary = x.detach().requires_grad_(True)
        (adversary @ w).tanh().sum().backward()
        return (adversary + 0.1 * adversary.grad.sign()).detach()

    random = np.random.default_rng(0)
    x, y = (P.tensor(random.normal(size=(3, 2)).astype(np.float32)) for _ in range(2))
    for function, args in ((penalty, (x, y)), (attack, (x,))):
        run = P.compile(function)
        for detached in (True, False, True):
            results = []
            for call in (function, run):
                w.grad = None
                results.append((call(*args, detached=detached).detach().numpy(), w.grad.numpy()))
            np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-5)
            np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-4, atol=1e-6)


def test_a_leaf_that_is_returned_has_its_gradient() -> None:
    def attack(x: Tensor) -> list[Tensor]:
        adversary, other = x.detach().requires_grad_(True), (x * 2).detach().requires_grad_(True)
        (adversary**3).sum().backward()
        return [adversary, other, x * 1]

    run = P.compile(attack)
    for _ in range(2):
        adversary, other, plain = run(P.tensor([1.0, 2]))
        assert adversary.is_leaf and adversary.requires_grad and adversary.grad.tolist() == [3, 12]
        assert other.is_leaf and other.requires_grad and other.grad is None and not plain.requires_grad


def test_the_sign_of_a_zero_and_nan_as_arguments() -> None:
    run = P.compile(lambda x, a: x / a)
    found = [run(P.ones(1), a).item() for a in (0.0, -0.0, np.nan, np.nan, 0.0, 1, True, 1.0)]
    assert str(found) == str([np.inf, -np.inf, np.nan, np.nan, np.inf, 1.0, 1.0, 1.0])
    assert len(run.programs) == 6


def test_the_kind_of_a_number_in_a_closure_and_the_sign_of_its_zero() -> None:
    factor: Any = 2
    run, x = P.compile(lambda x: x * factor), P.tensor([3])
    found = []
    for factor in (2, 2.0, 2, True, 1):  # noqa: B007  # the closure reads it
        found.append(run(x).dtype)
    assert found == [np.int64, np.float32, np.int64, np.int64, np.int64]
    divisor = 0.0
    divided = P.compile(lambda x: x / divisor)
    results = []
    for divisor in (0.0, -0.0, 0.0):  # noqa: B007
        results.append(divided(P.ones(1)).item())
    assert results == [np.inf, -np.inf, np.inf]


@pytest.mark.parametrize("function", [lambda b: b - b, lambda b: -b, lambda b: True - b, lambda b: b.long() ** -1,
                                      lambda b: b.byte() ** -2])  # fmt: skip
def test_what_whole_numbers_do_not_have_is_refused_compiled_as_eager(function: Any) -> None:
    b = P.tensor([True, False])
    for call in (function, P.compile(function)):
        with pytest.raises(DTypeError):
            call(b)


def test_the_largest_whole_number_is_round() -> None:
    assert P.tensor([2**63 - 1]).round().tolist() == [2**63 - 1]


def test_requires_grad_set_on_an_argument_stays_set() -> None:
    def step(x: Tensor) -> Tensor:
        x.requires_grad_(True)
        (x * x).sum().backward()
        return x.grad * 1

    run = P.compile(step)
    for _ in range(3):
        x = P.tensor([1.0, 2])
        assert run(x).tolist() == [2, 4] and x.requires_grad and x.grad.tolist() == [2, 4]


def test_arguments_of_every_kind() -> None:
    def function(x: Tensor, parts: Any, *, scale: Tensor, power: int = 2, flags: Any = ()) -> Tensor:
        return (x + parts["a"][0] * parts["b"]) * scale ** (power + len(flags))

    run = P.compile(function)
    for k in (1, 2):
        x, a, s = P.ones(3) * k, P.arange(3).float(), P.tensor(2.0)
        for flags in ((), ("deep",))[:k]:
            options: Any = {"scale": s, "power": k, "flags": flags}
            args = (x, {"a": [a, None], "b": 3})
            np.testing.assert_allclose(run(*args, **options).numpy(), function(*args, **options).numpy(), rtol=1e-6)
    np.testing.assert_allclose(P.compile(function)(x, {"a": [a], "b": 1}, scale=s).numpy(), [8, 12, 16])


def test_arguments_in_every_memory_order_and_dtype() -> None:
    random = np.random.default_rng(0)
    block = random.normal(size=(6, 8)).astype(np.float32)
    function = lambda x: (x @ x.mT, x.sum(0), x * 2)
    run = P.compile(function)
    for array in (
        block,
        block.T.copy().T,
        block[::-1],
        np.repeat(block, 2, 1)[:, ::2],
        np.broadcast_to(block[:1], (6, 8)),
    ):
        for a, b in zip(run(Tensor(array)), function(Tensor(array)), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5)
    for dtype in (np.float64, np.int64, np.int32, np.uint8):
        x = Tensor((10 * abs(block)).astype(dtype))
        for a, b in zip(P.compile(function)(x), function(x), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


def test_a_float64_step_trains_in_the_interpreter() -> None:
    losses = []
    for native in (False, True):
        model = mlp().double()
        step: Any = train_step(model, optim.Adam(model.parameters(), lr=0.05))
        run = P.compile(step) if native else step
        losses.append([float(run(batch(seed=i)[0].double(), batch(seed=i)[1])) for i in range(4)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-10)


def test_an_argument_may_be_written() -> None:
    def function(x: Tensor, y: Tensor) -> Tensor:
        x.add_(1)
        y[0] = 9
        return x * y

    run = P.compile(function)
    x, y = P.tensor([1.0, 2]), P.tensor([3.0, 4])
    for i in (1, 2, 3):
        held = x.numpy()
        assert run(x, y).tolist() == [9 * (1 + i), 4 * (2 + i)]
        assert (x.tolist(), y.tolist()) == ([1 + i, 2 + i], [9, 4])
        assert held.tolist() == [i, 1 + i]


def test_state_given_as_an_argument_is_that_state() -> None:
    """A Tensor that one compiled function writes as its state is an argument of another."""
    counter = P.zeros(2)
    count, read = P.compile(lambda: counter.add_(1)), P.compile(lambda x: x * 10)
    for i in (1, 2, 3):
        count()
        assert read(counter).tolist() == [10 * i, 10 * i]


def test_an_argument_of_no_known_kind_is_refused() -> None:
    with pytest.raises(OptionError, match="make an array a Tensor"):
        P.compile(lambda x: x)(np.ones(3))
    with pytest.raises(OptionError, match="expected a function or a Module"):
        P.compile(3)  # type: ignore[arg-type]


def test_a_module_is_compiled_for_prediction() -> None:
    model = mlp(nn.BatchNorm1d(7), nn.ReLU()).eval()
    predict = P.compile(model)
    for size in (1, 4, 1):
        x = batch(size)[0]
        with P.no_grad():
            np.testing.assert_allclose(predict(x).numpy(), model(x).numpy(), rtol=1e-4, atol=1e-6)


class Doubled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2 if isinstance(self, Doubled) else 1)  # reads its own class, in two ways


def test_a_method_may_speak_of_its_class() -> None:
    network, x = Doubled(3, 2), P.ones(4, 3)
    compiled, eager = P.compile(network.forward)(x).detach().numpy(), network(x).detach().numpy()
    np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-6)


def test_a_compiled_function_inside_another_is_part_of_it() -> None:
    model = mlp()
    forward = P.compile(lambda x: model(x))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    run = P.compile(train_step(forward, optimizer))
    truth = mlp()
    step = train_step(truth, optim.SGD(truth.parameters(), lr=0.1))
    for i in range(3):
        np.testing.assert_allclose(float(run(*batch(seed=i))), float(step(*batch(seed=i))), rtol=1e-5)
    assert not forward.made


def test_an_empty_batch_and_a_single_row() -> None:
    model = mlp().eval()
    predict = P.compile(model)
    assert predict(P.zeros(0, 5)).shape == (0, 3)
    np.testing.assert_allclose(
        predict(P.zeros(1, 5)).detach().numpy(), model(P.zeros(1, 5)).detach().numpy(), rtol=1e-5, atol=1e-6
    )


def test_an_index_out_of_range_is_the_eager_error_and_changes_nothing() -> None:
    model = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    step = train_step(model, optimizer)
    run = P.compile(step)
    good, label = P.tensor([0, 5, 2]), P.tensor([0, 1, 2])
    for _ in range(3):
        run(good, label)
    kept = [*state_of(model, optimizer), default_generator.state.array.copy()]
    for x, y in [(P.tensor([0, 6, 2]), label), (good, P.tensor([0, 3, 1])), (P.tensor([-7, 0, 0]), label)]:
        with pytest.raises(PellucidError) as eager:
            cross_entropy(model(x), y)
        with pytest.raises(PellucidError) as native:
            run(x, y)
        assert type(native.value) is type(eager.value)
        assert str(native.value) == str(eager.value)
        for a, b in zip([*state_of(model, optimizer), default_generator.state.array], kept, strict=True):
            np.testing.assert_array_equal(a, b)
    run(good, label)
    assert not np.array_equal(state_of(model)[0], kept[0])


def test_an_index_out_of_range_is_found_before_anything_is_written() -> None:
    """Where the state would be written first, and where the index itself is computed."""
    counter, table, rows = P.zeros(2), P.arange(8).float().reshape(4, 2), P.zeros(4, 2)

    def early(i: Tensor) -> Tensor:
        counter.add_(1)
        with P.no_grad():
            rows.assign(P.ops.index.index_put(rows, i, P.ones(2, 2)))
        return counter + P.ops.index.take(table, i).sum(0)

    def computed(i: Tensor) -> Tensor:
        counter.add_(1)
        place = (i + counter.sum().long()).reshape(2, 1)  # depends on what is written
        rows.add_(1)
        return P.cat([table, rows], 1).gather(0, place.expand(2, 4))

    for function, good, wrong in ((early, [0, 3], [1, 4]), (computed, [-6, -5], [2, 0])):
        for state in (counter, rows):
            state.assign(0)
        run = P.compile(function)
        for _ in range(2):
            truth = counter.tolist(), rows.tolist()
            with pytest.raises(PellucidError, match="index 4|index [68]"):
                run(P.tensor(wrong))
            assert (counter.tolist(), rows.tolist()) == truth
            run(P.tensor(good))
            assert counter.tolist() == [truth[0][0] + 1] * 2


def test_run_steps_in_one_call_are_the_same_as_one_by_one() -> None:
    results = []
    order = np.random.default_rng(0).integers(0, 50, (40, 8))
    for whole in (False, True):
        model = mlp(nn.ReLU(), nn.Dropout(0.3))
        x, y = batch(50)
        run = P.compile(train_step(model, optim.Adam(model.parameters(), lr=0.05)))
        P.manual_seed(5)
        losses = (
            run.run_steps((x, y), order).numpy()
            if whole
            else [float(run(x[P.tensor(i)], y[P.tensor(i)])) for i in order]
        )
        results.append([np.asarray(losses, np.float32), *state_of(model)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_learning_rate_for_each_step_of_run_steps() -> None:
    """As the schedule's step after each call; afterwards the optimizer has the rate of the step to come."""
    results = []
    order = np.random.default_rng(0).integers(0, 50, (23, 8))
    for whole in (False, True):
        model = mlp(nn.ReLU(), nn.Dropout(0.3))
        groups = [{"params": [model[0].weight]}, {"params": [*model.parameters()][1:], "weight_decay": 0.0}]
        optimizer = optim.AdamW(groups, lr=0.05)
        schedule = optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=40)  # it changes a beta as well
        x, y = batch(50)
        run = P.compile(train_step(model, optimizer))
        P.manual_seed(5)
        losses = []
        for some in np.split(order, [1, 9, 10]):  # steps of 1, 8, 1 and 13
            if whole:
                per_step = optim.lr_scheduler.look_ahead([schedule], len(some))
                losses += run.run_steps((x, y), some, per_step=per_step).tolist()
                continue
            for rows in some:
                losses.append(run(x[P.tensor(rows)], y[P.tensor(rows)]).item())
                schedule.step()
        held = [t.item() for group in optimizer.param_groups for t in group.scalars.values()]
        results.append([np.asarray(losses, np.float32), *state_of(model), np.array(held), schedule.get_last_lr()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert results[0][-1] == results[1][-1]


def test_run_steps_of_a_function_of_the_indices_share_the_program_of_a_call() -> None:
    x, total = P.randn(20, 3), P.zeros(3)
    run = P.compile(lambda index: total.add_(x[index].sum(0)).clone())
    expected = [run(P.tensor(rows)).tolist() for rows in [[0, 1], [5, 19], [7, 7]]]
    total.zero_()
    told: list[int] = []
    found = run.run_steps(None, [[0, 1], [5, 19], [7, 7]], told.append)
    assert found.tolist() == expected and len(run.made) == 1 and told[-1] == 3
    with pytest.raises(PellucidError, match="index 20"):
        run.run_steps(None, [[0, 1], [5, 20]])


def test_a_value_for_each_step_is_checked_and_leaves_the_tensor_as_it_was() -> None:
    factor, x, state = P.tensor(2.0), P.ones(4, 2), P.zeros(2)
    run = P.compile(lambda batch: state.add_(batch.sum(0) * factor).clone())
    found = run.run_steps(x, [[0, 1], [2, 3], [0, 0]], per_step={factor: [1.0, 10.0, 100.0]})
    assert found.tolist() == [[2, 2], [22, 22], [222, 222]] and factor.item() == 2
    with pytest.raises(PellucidError, match="index 4"):
        run.run_steps(x, [[0, 1], [2, 4]], per_step={factor: [1.0, 10.0]})
    assert factor.item() == 2 and state.tolist() == [224, 224]
    assert run.run_steps(x, [[0, 1]]).tolist() == [[228, 228]]
    with pytest.raises(
        OptionError, match=r"per_step has \(2,\) for Tensor 0 \(\); expected \(3,\), one value for each step"
    ):
        run.run_steps(x, [[0, 1], [2, 3], [0, 0]], per_step={factor: [1.0, 10.0]})
    with pytest.raises(OptionError, match=r"the step writes per_step 0 \(2,\)"):
        run.run_steps(x, [[0, 1]], per_step={state: [[1.0, 2.0]]})
    with pytest.raises(OptionError, match="per_step names a view"):
        run.run_steps(x, [[0, 1]], per_step={P.ones(3)[0]: [1.0]})
    with pytest.raises(OptionError, match="per_step names a str"):
        run.run_steps(x, [[0, 1]], per_step={"lr": [1.0]})


def test_a_weight_for_each_step_where_copies_of_weights_are_kept() -> None:
    """Inference copies its weights once; another weight in each step is copied anew."""
    lstm, x, order = nn.LSTM(5, 64, batch_first=True), P.randn(8, 30, 5), [[0], [3], [3], [7]]
    weights = np.random.default_rng(0).uniform(-0.1, 0.1, size=(4, 256, 64)).astype(np.float32)
    with P.no_grad():
        run = P.compile(lambda batch: lstm(batch)[0])
        found = run.run_steps(x, order, per_step={lstm.weight_hh_l0: weights}).numpy()
        assert run.last.plan.keeps_copies
        for rows, w, one in zip(order, weights, found, strict=True):
            lstm.weight_hh_l0.copy_(P.tensor(w))
            np.testing.assert_allclose(one, lstm(x[P.tensor(rows)])[0].numpy(), rtol=1e-4, atol=1e-5)


def test_what_progress_does_counts_from_the_next_step_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_steps, "CHUNK", 0.0)  # after each chunk, and a chunk is one step
    monkeypatch.setattr(native_steps, "CHUNK", 0.0)
    order = np.zeros((20, 2), int)
    x, w, once = P.ones(8, 1), P.zeros(1), [True]

    def first(act: Any) -> Any:
        """A progress that acts at its first call alone; it tells how many steps were done then."""
        told: list[int] = []
        return told, lambda done: told or (told.append(done), act())

    add = P.compile(lambda rows: w.add_(rows.sum()).clone())
    for other in (P.full((8, 1), 5.0), P.full((1, 1), 5.0)):  # validation by the same step, on more and on fewer rows
        w.zero_()
        told, progress = first(lambda other=other: (add.run_steps(other, [[0, 0]] * 3), w.sub_(30.0)))
        found = add.run_steps(x, order, progress).numpy()
        assert found[-1] == w.item() == 40 and told[0] < len(order)
    told, progress = first(lambda: x.assign(P.full((8, 1), 3.0)))
    found = P.compile(lambda rows: rows.sum()).run_steps(x, order, progress).numpy()
    assert (found[: told[0]] == 2).all() and (found[told[0] :] == 6).all()
    told, progress = first(lambda: once.__setitem__(0, False))
    found = P.compile(lambda rows: rows.sum() if once[0] else rows.sum() * 10).run_steps(x, order, progress).numpy()
    assert (found[: told[0]] == 6).all() and (found[told[0] :] == 60).all()
    k = P.tensor(5.0)
    _, progress = first(lambda: k.assign(77.0))
    found = P.compile(lambda rows: rows[0, 0] * k).run_steps(x, order, progress, {k: np.arange(len(order))}).numpy()
    assert k.item() == 5 and (found == 3 * np.arange(len(order), dtype=np.float32)).all()
    with pytest.raises(OptionError, match=r"per_step names data 0 \(8, 1\)"):
        add.run_steps(x, [[0, 1]], per_step={x: np.ones((1, 8, 1))})


def test_run_steps_stop_at_an_index_out_of_range() -> None:
    total, x = P.zeros(3), P.ones(5, 3)
    run = P.compile(lambda x: total.add_(x.sum(0)))
    with pytest.raises(PellucidError, match="index 5"):
        run.run_steps(x, [[0, 1], [2, 3], [4, 5], [0, 0]])
    assert total.tolist() == [4, 4, 4]  # the two steps before it


def test_an_argument_that_is_also_state() -> None:
    w = P.tensor([2.0])
    scale = P.compile(lambda x: x * w)
    assert scale(w).tolist() == [4]
    assert scale(P.tensor([3.0])).tolist() == [6]
    assert scale(w).tolist() == [4]
    written = P.compile(lambda x: (w.add_(1), x * w)[1])
    assert written(P.tensor([3.0])).tolist() == [9]
    assert written(w).tolist() == [16]
    assert w.tolist() == [4]


def test_the_gradient_of_an_argument_goes_to_that_argument() -> None:
    run = P.compile(lambda x: (x * x).sum().backward())
    first, second = P.tensor([1.0], requires_grad=True), P.tensor([5.0], requires_grad=True)
    run(first)
    run(second)
    assert (first.grad.tolist(), second.grad.tolist()) == ([2], [10])
    run(first)
    assert (first.grad.tolist(), second.grad.tolist()) == ([4], [10])


def test_run_steps_sees_variables_and_names_as_a_single_call_does() -> None:
    scale, layer = 1.0, nn.Linear(2, 1)
    run = P.compile(lambda x: (layer(x) * scale).sum())
    rows = np.array([[0, 1], [2, 3]])
    first = run.run_steps(P.ones(4, 2), rows)
    scale = 3.0
    np.testing.assert_allclose(run.run_steps(P.ones(4, 2), rows).numpy(), 3 * first.numpy(), rtol=1e-6)
    assert {"weight", "bias"} <= {slot.name for slot in run.graph.inputs}
    layer = nn.Linear(2, 1)
    np.testing.assert_allclose(
        run.run_steps(P.ones(4, 2), rows)[0].item(), 3 * layer(P.ones(2, 2)).sum().item(), rtol=1e-5
    )


def test_a_number_anywhere_in_an_operation_makes_another_program() -> None:
    x = P.arange(12**6).reshape(12, 12, 12, 12, 12, 12)
    start = 0

    def step(x: Tensor) -> Tensor:
        return x[10:, 10:, 10:, 10:, 10:, start : start + 5]

    run = P.compile(step)
    first = run(x).tolist()
    start = 3
    assert run(x).tolist() == step(x).tolist() != first
