"""`pellucid.compile` on whole training steps: the numbers of eager code, state found by itself, programs that share it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_networks import Step, batch, mlp, state_of, train_step

import pellucid as P
from pellucid import nn, optim
from pellucid.core.state_version import state_version
from pellucid.errors import GradientError
from pellucid.nn.functional import cross_entropy
from pellucid.random import default_generator
from pellucid.tensor import Tensor

STEPS = 30


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    P.manual_seed(0)
    yield


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one at every recording."""
    from pellucid.compiler import step as module

    count: list[int] = []
    real = module.trace

    def counted(*args: Any, **options: Any) -> Any:
        count.append(1)
        return real(*args, **options)

    monkeypatch.setattr(module, "trace", counted)
    return count


# ---- training is what it is eagerly --------------------------------------------------------------------------------------


def plain(make: Callable[[Any], Any], *between: nn.Module) -> Callable[[], tuple[Step, list[Any]]]:
    def build() -> tuple[Step, list[Any]]:
        model = mlp(*copy.deepcopy(between))
        optimizer = make(model.parameters())
        return train_step(model, optimizer), [model, optimizer]

    return build


def clipped() -> tuple[Step, list[Any]]:
    model = mlp()
    optimizer = optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

    def step(x: Tensor, y: Tensor) -> Any:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        return loss, norm

    return step, [model, optimizer]


def averaged() -> tuple[Step, list[Any]]:
    model = mlp(nn.BatchNorm1d(7), nn.Tanh())
    optimizer = optim.SGD(model.parameters(), lr=0.05)
    ema = optim.ExponentialMovingAverage(model, decay=0.9)

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()  # at the end, this time
        ema.update()
        return loss

    return step, [model, optimizer, ema]


def with_metrics() -> tuple[Step, list[Any]]:
    model = mlp(nn.GELU(), nn.LayerNorm(7), nn.Dropout(0.2))
    optimizer = optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)

    def step(x: Tensor, y: Tensor) -> Any:
        optimizer.zero_grad(set_to_none=True)
        logits = model(x)
        loss = cross_entropy(logits, y, label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        with P.no_grad():
            right = (logits.argmax(1) == y).float().mean()
        return {"loss": loss, "accuracy": right, "steps": 1}

    return step, [model, optimizer]


TRAININGS: dict[str, Callable[[], tuple[Step, list[Any]]]] = {
    "adam": plain(lambda p: optim.Adam(p, lr=0.01)),
    "amsgrad": plain(lambda p: optim.Adam(p, lr=0.01, amsgrad=True, weight_decay=0.01)),
    "adamw": plain(lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1), nn.Tanh()),
    "momentum": plain(lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)),
    "rmsprop": plain(lambda p: optim.RMSprop(p, lr=0.01, centered=True), nn.Sigmoid()),
    "adagrad": plain(lambda p: optim.Adagrad(p, lr=0.05)),
    "dropout": plain(lambda p: optim.SGD(p, lr=0.1), nn.ReLU(), nn.Dropout(0.4)),
    "batch norm": plain(lambda p: optim.SGD(p, lr=0.1, momentum=0.5), nn.BatchNorm1d(7), nn.ReLU()),
    "clipping": clipped,
    "averaging": averaged,
    "metrics": with_metrics,
}


@pytest.mark.parametrize("name", list(TRAININGS))
def test_thirty_steps_are_the_eager_ones(name: str) -> None:
    """Losses, weights, moments, running statistics, and the state of the random generator."""
    results = []
    for native in (False, True):
        step, owners = TRAININGS[name]()
        run = P.compile(step) if native else step
        P.manual_seed(9)
        told = [run(*batch(seed=i)) for i in range(STEPS)]
        results.append((numbers(told), [*state_of(*owners), default_generator.state.array.copy()]))
    (losses, states), (found, others) = results
    np.testing.assert_allclose(found, losses, rtol=1e-4, atol=1e-5)
    for a, b in zip(others, states, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
    assert losses[-1] != losses[0]


def numbers(results: Any) -> list[float]:
    if isinstance(results, dict):
        results = list(results.values())
    return [x for part in results for x in numbers(part)] if isinstance(results, list | tuple) else [float(results)]


def test_random_masks_are_the_eager_ones_bit_by_bit() -> None:
    ones = P.ones(33, 7)
    function = lambda x: (nn.functional.dropout(x, 0.5), P.rand(5), P.randint(0, 100, (9,)))
    compiled = P.compile(function)
    P.manual_seed(3)
    eager = [[np.array(t.numpy()) for t in function(ones)] for _ in range(3)]
    P.manual_seed(3)
    for truth in eager:
        for a, b in zip(compiled(ones), truth, strict=True):
            np.testing.assert_array_equal(a.numpy(), b)
    assert not np.array_equal(eager[0][0], eager[1][0])


def test_gradients_accumulate_over_two_compiled_functions() -> None:
    """A micro-step that only adds to `.grad`, and a last one that uses what has gathered."""

    def build(native: bool) -> tuple[list[float], list[np.ndarray]]:
        model = mlp()
        optimizer = optim.Adam(model.parameters(), lr=0.02)

        def micro(x: Tensor, y: Tensor) -> Tensor:
            loss = cross_entropy(model(x), y) / 2
            loss.backward()
            return loss

        def last(x: Tensor, y: Tensor) -> Tensor:
            loss = micro(x, y)
            optimizer.step()
            optimizer.zero_grad()
            return loss

        first, second = (P.compile(micro), P.compile(last)) if native else (micro, last)
        losses = [float(f(*batch(seed=2 * i + j))) for i in range(6) for j, f in enumerate((first, second))]
        first(*batch(seed=99))
        return losses, [*state_of(model, optimizer), *(p.grad.numpy().copy() for p in model.parameters())]

    (eager, truth), (native, found) = build(False), build(True)
    np.testing.assert_allclose(native, eager, rtol=1e-4)
    for a, b in zip(found, truth, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


# ---- what is recorded again, and what is not -----------------------------------------------------------------------------


def test_a_learning_rate_schedule_is_seen_without_recording_again(records: list[int]) -> None:
    losses = []
    for native in (False, True):
        model = mlp()
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        schedule = optim.lr_scheduler.StepLR(optimizer, 3, 0.1)
        run: Any = train_step(model, optimizer)
        run = P.compile(run) if native else run
        told = []
        for i in range(9):
            told.append(float(run(*batch(seed=i))))
            schedule.step()
        optimizer.param_groups[0]["lr"] = 0.5
        told += [float(run(*batch(seed=i))) for i in range(2)]
        losses.append(told)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert len(records) <= 2  # the step, and what the first step changed: that gradients are there


def test_the_steady_state_records_once(records: list[int]) -> None:
    model = mlp()
    run = P.compile(train_step(model, optim.Adam(model.parameters())))
    for i in range(10):
        run(*batch(seed=i))
    assert len(records) <= 2
    assert len(run.made) == 1


def test_train_and_eval_and_a_smaller_last_batch_alternate(records: list[int]) -> None:
    results = []
    for native in (False, True):
        model = mlp(nn.BatchNorm1d(7), nn.ReLU(), nn.Dropout(0.5))
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        train: Any = train_step(model, optimizer)
        evaluate: Any = lambda x, model=model: model(x).softmax(1)
        if native:
            train, evaluate = P.compile(train), P.compile(evaluate)
        P.manual_seed(5)
        told: list[Any] = []
        for epoch in range(4):
            model.train()
            told += [train(*batch(8, epoch)).detach().numpy(), train(*batch(5, epoch)).detach().numpy()]
            model.eval()
            with P.no_grad():
                told.append(evaluate(batch(8)[0]).numpy().copy())
            if native and epoch == 1:
                known = len(records)
        results.append(told)
    for a, b in zip(results[1], results[0], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert (
        len(train.made) == 2 and len(evaluate.made) == 1
    )  # nothing is compiled again for a mode that was there before
    assert len(records) >= known


def test_eval_and_train_mode_are_two_programs_of_one_function() -> None:
    model = mlp(nn.Dropout(0.5))
    forward = P.compile(lambda x: model(x))
    x = batch()[0]
    for _ in range(3):
        model.train()
        P.manual_seed(1)
        trained = forward(x).detach().numpy()
        model.eval()
        still = forward(x).detach().numpy()
        assert not np.allclose(trained, still)
        np.testing.assert_allclose(still, model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert len(forward.made) == 2


def test_a_number_in_the_closure_that_changes_makes_another_program() -> None:
    factor = 2.0
    double = P.compile(lambda x: x * factor)
    x = P.arange(3).float()
    assert double(x).tolist() == [0, 2, 4]
    factor = 3.0
    assert double(x).tolist() == [0, 3, 6]
    factor = 2.0
    assert double(x).tolist() == [0, 2, 4]
    assert len(double.made) == 2


def test_the_warning_about_many_programs_names_the_cause() -> None:
    scaled = P.compile(lambda x, by: x * by)
    with pytest.warns(
        UserWarning, match=r"argument 1 was .*1.5.*now it is .*3.5|argument 1 was .*2.5.*now it is .*3.5"
    ):
        for by in (0.5, 1.5, 2.5, 3.5):
            scaled(P.ones(2), by)
    shaped = P.compile(lambda x: x * 2)
    with pytest.warns(UserWarning, match=r"argument 0 was .*now it is"):
        for size in (1, 2, 3, 4):
            shaped(P.ones(size))


def test_an_attribute_set_inside_the_step_does_not_record_for_ever(records: list[int]) -> None:
    class Remembering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.shape: Any = None
            self.inner = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            self.shape = tuple(x.shape)
            return self.inner(x)

    model = Remembering()
    run = P.compile(lambda x: model(x))
    start = state_version[0]
    for _ in range(6):
        run(batch()[0])
    assert len(records) <= 2
    assert state_version[0] - start <= 2


def test_a_variable_bound_to_another_tensor_or_network() -> None:
    w, model = P.ones(2), nn.Linear(5, 4)
    add = P.compile(lambda x: x + w)
    predict = P.compile(lambda x: model(x))
    x = batch()[0]
    assert add(P.ones(2)).tolist() == [2, 2]
    predict(x)
    w, model = P.ones(2) * 5, nn.Linear(5, 2)
    assert add(P.ones(2)).tolist() == [6, 6]
    np.testing.assert_allclose(predict(x).detach().numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_the_warning_of_many_programs_names_a_tensor_or_gradient_that_changes() -> None:
    w, v = P.ones(3), P.ones(3).requires_grad_()
    add = P.compile(lambda x: x + w)
    with pytest.warns(UserWarning, match=r"the variable w \(.*test_step.py:\d+\) has changed"):
        for i in range(4):
            w = P.ones(3) * i
            assert add(P.ones(3)).tolist() == [i + 1] * 3

    @P.compile
    def scaled(by: int) -> Tensor:
        return v.detach() * by if v.grad is None else v.grad * by

    for by in (1, 2, 3):
        scaled(by)
    v.grad = P.ones(3) * 5
    with pytest.warns(UserWarning, match="was there in one call and not in the next"):
        assert scaled(3).tolist() == [15] * 3


def test_a_frozen_layer_stays() -> None:
    model = mlp()
    run = P.compile(train_step(model, optim.SGD(model.parameters(), lr=0.5)))
    run(*batch())
    model[0].requires_grad_(False)
    kept = state_of(model)
    run(*batch())
    now = state_of(model)
    np.testing.assert_array_equal(now[0], kept[0])
    assert not np.array_equal(now[2], kept[2])


def test_options_of_the_optimizer_and_new_groups_are_seen() -> None:
    weights = []
    for native in (False, True):
        model = mlp()
        optimizer = optim.AdamW(model[0].parameters(), lr=0.1, weight_decay=0.0)
        step: Any = train_step(model, optimizer)
        run = P.compile(step) if native else step
        run(*batch())
        optimizer.param_groups[0]["weight_decay"] = 0.5
        run(*batch())
        optimizer.param_groups[0]["betas"] = (0.5, 0.5)
        run(*batch())
        optimizer.add_param_group({"params": list(model[2].parameters()), "lr": 0.2})
        run(*batch())
        weights.append(state_of(model))
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-5)


# ---- state and who else holds it -----------------------------------------------------------------------------------------


def test_numbers_taken_out_before_are_not_overwritten() -> None:
    model = mlp()
    run = P.compile(train_step(model, optim.SGD(model.parameters(), lr=0.5)))
    weight = model[0].weight
    start = weight.detach().numpy()
    kept, detached = start.copy(), weight.detach().clone()
    first = run(*batch())
    after = weight.detach().numpy()
    changed, told = after.copy(), float(first)
    for i in range(3):
        run(*batch(seed=i))
    np.testing.assert_array_equal(start, kept)
    np.testing.assert_array_equal(detached.numpy(), kept)
    np.testing.assert_array_equal(after, changed)
    assert float(first) == told
    assert not np.array_equal(weight.detach().numpy(), changed)


def test_what_is_assigned_from_outside_is_seen_by_the_next_call() -> None:
    weight = P.zeros(3)
    add = P.compile(lambda x: weight.add_(x))
    x = P.ones(3)
    assert add(x).tolist() == [1, 1, 1]
    with P.no_grad():
        weight.assign(np.array([5.0, 6, 7]))
    assert add(x).tolist() == [6, 7, 8]
    weight[1] = 0
    assert add(x).tolist() == [7, 1, 9]
    assert weight.tolist() == [7, 1, 9]


def test_versions_move_with_every_write() -> None:
    weight = P.zeros(3)
    add = P.compile(lambda x: weight.add_(x))
    before = weight.version
    for _ in range(3):
        add(P.ones(3))
        weight.tolist()
    assert weight.version > before


def test_an_eager_backward_over_a_weight_that_a_compiled_step_wrote_is_refused() -> None:
    model = mlp()
    run = P.compile(train_step(model, optim.SGD(model.parameters(), lr=0.5)))
    run(*batch())
    run(*batch())
    loss = (model[0].weight * model[0].weight).sum()  # reads the numbers of now
    run(*batch())
    with pytest.raises(GradientError):
        loss.backward()


def test_two_tensors_swapped_and_a_chain_of_writes() -> None:
    a, b = P.tensor([1.0, 2]), P.tensor([3.0, 4])

    def swap() -> None:
        kept = a.clone()
        a.assign(b)
        b.assign(kept)

    def chain(x: Tensor) -> Tensor:
        a.add_(x)
        b.assign(a * 2)
        a.mul_(b)
        return a + b

    run, go = P.compile(swap), P.compile(chain)
    run()
    assert (a.tolist(), b.tolist()) == ([3, 4], [1, 2])
    run()
    assert (a.tolist(), b.tolist()) == ([1, 2], [3, 4])
    assert go(P.ones(2)).tolist() == [12, 24]
    assert (a.tolist(), b.tolist()) == ([8, 18], [4, 6])
    run()
    assert (a.tolist(), b.tolist()) == ([4, 6], [8, 18])


def test_load_state_dict_between_steps_and_training_goes_on() -> None:
    def build() -> tuple[Any, Any, Any]:
        model = mlp()
        optimizer = optim.Adam(model.parameters(), lr=0.05)
        return model, optimizer, P.compile(train_step(model, optimizer))

    model, optimizer, run = build()
    for i in range(3):
        run(*batch(seed=i))
    kept, moments = copy.deepcopy(model.state_dict()), copy.deepcopy(optimizer.state_dict())
    truth = [float(run(*batch(seed=i))) for i in range(3)]
    model.load_state_dict(kept)
    optimizer.load_state_dict(moments)
    assert [float(run(*batch(seed=i))) for i in range(3)] == truth
    other, another, go = build()
    other.load_state_dict(kept)
    another.load_state_dict(moments)
    np.testing.assert_allclose([float(go(*batch(seed=i))) for i in range(3)], truth, rtol=1e-6)


def test_a_trained_model_is_copied_and_saved_as_it_is(tmp_path: Path) -> None:
    model = mlp(nn.BatchNorm1d(7), nn.ReLU())
    run = P.compile(train_step(model, optim.Adam(model.parameters(), lr=0.05)))
    for i in range(3):
        run(*batch(seed=i))
    twin = copy.deepcopy(model)
    P.save(model.state_dict(), str(tmp_path / "weights.safetensors"))
    truth = state_of(model)
    run(*batch())
    loaded = P.load(str(tmp_path / "weights.safetensors"))
    for a, b, name in zip(truth, state_of(twin), model.state_dict(), strict=True):
        np.testing.assert_array_equal(b, a)
        np.testing.assert_array_equal(loaded[name].numpy(), a)
    twin_run = P.compile(train_step(twin, optim.Adam(twin.parameters(), lr=0.05)))
    twin_run(*batch())
    assert not np.array_equal(state_of(twin)[0], truth[0])


def test_gradients_are_kept_on_request_and_otherwise_say_so() -> None:
    model = mlp()
    step = train_step(model, optim.SGD(model.parameters(), lr=0.1))
    truth = mlp()
    cross_entropy(truth(batch()[0]), batch()[1]).backward()
    P.compile(step)(*batch())
    with pytest.raises(GradientError, match="keep_grads=True"):
        _ = model[0].weight.grad
    model.load_state_dict(truth.state_dict())
    P.compile(step, keep_grads=True)(*batch())
    for p, q in zip(model.parameters(), truth.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-4, atol=1e-6)


def test_a_step_that_only_computes_gradients_leaves_them() -> None:
    model = mlp()

    def backward(x: Tensor, y: Tensor) -> None:
        cross_entropy(model(x), y).backward()

    run = P.compile(backward)
    for _ in range(3):
        run(*batch())
    once = [p.grad.numpy() / 3 for p in model.parameters()]
    model.zero_grad()
    backward(*batch())
    for a, p in zip(once, model.parameters(), strict=True):
        np.testing.assert_allclose(a, p.grad.numpy(), rtol=1e-4, atol=1e-6)
    optim.SGD(model.parameters(), lr=0.1).step()  # an eager optimizer takes them
