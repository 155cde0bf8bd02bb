"""Programs that recordings share: any number of resident rows, other Tensors, other numbers; and what is not kept alive."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from small_networks import train_step

import pellucid as P
from pellucid import Tensor, nn, optim
from pellucid.compiler.backends.cpu import executable, lower
from pellucid.compiler.passes import canonical_form
from pellucid.errors import OptionError, PellucidError, TraceError


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How often LLVM has compiled a program, and a graph has gone through the passes; no program is there before."""
    done = {"compiled": 0, "scheduled": 0}
    compile_module, schedule = lower.compile_module, executable.schedule

    def compiling(*args: Any, **kwargs: Any) -> Any:
        done["compiled"] += 1
        return compile_module(*args, **kwargs)

    def scheduling(*args: Any, **kwargs: Any) -> Any:
        done["scheduled"] += 1
        return schedule(*args, **kwargs)

    monkeypatch.setenv("PELLUCID_CACHE", "off")
    monkeypatch.setattr(lower, "compile_module", compiling)
    monkeypatch.setattr(executable, "schedule", scheduling)
    forget()
    yield done
    forget()


def forget() -> None:
    executable._cached.clear()
    executable._codes.clear()


def network(dropout: float = 0.3) -> nn.Module:
    P.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))


def training(model: nn.Module, smoothing: float = 0.1) -> Callable[[Tensor, Tensor], Tensor]:
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    return train_step(model, optimizer, nn.CrossEntropyLoss(label_smoothing=smoothing))


def data(count: int) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(count)
    return P.tensor(random.normal(size=(count, 6)).astype(np.float32)), P.tensor(random.integers(0, 3, count))


def order(count: int, steps: int = 5, batch: int = 8) -> np.ndarray:
    return np.random.default_rng(1).integers(-count, count, (steps, batch))


# ---- resident rows ---------------------------------------------------------------------------------------------------


def test_folds_of_any_number_of_rows_are_one_program(work: dict[str, int]) -> None:
    model = network()
    run, plain = P.compile(training(model)), network()
    eager = training(plain)
    for count in (37, 38, 39, 8, 1):
        x, y = data(count)
        rows = order(count)
        P.manual_seed(count)
        losses = run.run_steps((x, y), rows).tolist()
        P.manual_seed(count)
        expected = [eager(x[P.tensor(row)], y[P.tensor(row)]).item() for row in rows]
        np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)
    assert work == {"compiled": 1, "scheduled": 1}
    assert len(run._on_rows.made) == 1  # nor another recording


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "uint8", "bool"])
@pytest.mark.parametrize("row", [(), (1,), (3,), (2, 5), (40,)])
def test_rows_are_those_that_indexing_gives(dtype: str, row: tuple[int, ...]) -> None:
    run = P.compile(lambda x: x + x if dtype != "bool" else x | x)
    for count in (1, 2, 7, 300):
        array = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, (count, *row)).astype(dtype)
        rows = order(count)
        for given in (array, array[::-1], np.asfortranarray(array)):
            found = run.run_steps(P.tensor(given), rows)
            expected = given[rows] + given[rows] if dtype != "bool" else given[rows]
            assert found.numpy().dtype == expected.dtype and found.numpy().tobytes() == expected.tobytes()


def test_data_of_different_lengths_count_from_their_own_ends() -> None:
    x, y = P.arange(5), P.arange(9)
    run = P.compile(lambda x, y: x * 10 + y)
    assert run.run_steps((x, y), [[-1, 4], [0, -5]]).tolist() == [[48, 44], [0, 4]]
    with pytest.raises(PellucidError, match="index 5 on axis 0 of size 5"):
        run.run_steps((x, y), [[0, 0], [5, 0]])


def test_the_bound_is_that_of_the_data_of_this_call() -> None:
    total = P.zeros(3)
    run = P.compile(lambda x: total.add_(x.sum(0)))
    run.run_steps(P.ones(9, 3), [[8, -9]])
    for wrong in (5, -6, 8):
        before = total.tolist()
        with pytest.raises(PellucidError, match=f"index {wrong} on axis 0 of size 5"):
            run.run_steps(P.ones(5, 3), [[0, 1], [wrong, 0], [1, 1]])
        assert total.tolist() == [n + 2 for n in before]  # the step before it
    with pytest.raises(PellucidError, match="size 0"):
        run.run_steps(P.ones(0, 3), [[0]])


def test_data_that_were_assigned_are_read_as_they_are_now() -> None:
    x = P.tensor([1.0, 2.0, 3.0])
    run = P.compile(lambda x: x * 2)
    assert run.run_steps(x, [[0, 2]]).tolist() == [[2, 6]]
    x.assign(P.tensor([4.0, 5.0, 6.0]))
    assert run.run_steps(x, [[0, 2]]).tolist() == [[8, 12]]


def test_data_that_a_compiled_step_wrote_are_read_as_they_are_now() -> None:
    x = P.tensor([1.0, 2.0, 3.0])
    move, run = P.compile(lambda: x.add_(1)), P.compile(lambda x: x * 2)
    for k in (1, 2):
        move()
        assert run.run_steps(x, [[0, 2]]).tolist() == [[2 * (1 + k), 2 * (3 + k)]]


def test_steps_that_need_python_in_between_are_the_same() -> None:
    model = network(0.0)
    x, y = data(20)
    rows = order(20)
    run = P.compile(training(model), keep_grads=True)  # gradients are written: not one native loop
    losses = run.run_steps((x, y), rows)
    eager = training(network(0.0))
    np.testing.assert_allclose(losses.tolist(), [eager(x[P.tensor(i)], y[P.tensor(i)]).item() for i in rows], rtol=1e-5)
    with pytest.raises(PellucidError, match="index 20"):
        run.run_steps((x, y), [[0, 1], [20, 1]])


def test_data_that_the_step_writes_or_trains_are_refused() -> None:
    x = P.tensor([1.0, 2.0])
    with pytest.raises(OptionError, match=r"run_steps: the step writes data 0 \(2,\).*x.clone"):
        P.compile(lambda batch: (x.add_(1), batch.sum())[1]).run_steps(x, [[0]])
    with pytest.raises(OptionError, match="data 0 is a ndarray; expected a Tensor"):
        P.compile(lambda batch: batch.sum()).run_steps((np.ones(3),), [[0]])
    with pytest.raises(TraceError, match="run_steps inside a step that is being traced"):
        P.compile(lambda x: P.compile(lambda batch: batch.sum()).run_steps(x, [[0]]))(x)
    with pytest.raises(OptionError, match=r"run_steps: data 0 \(2,\) requires a gradient.*detach"):
        P.compile(lambda batch: batch.sum()).run_steps(P.tensor([1.0, 2.0], requires_grad=True), [[0]])


@pytest.mark.parametrize(
    ("indices", "said"),
    [
        ([[0.5, 1.5]], "indices are float64; expected whole numbers"),
        ([[True, False]], "indices are bool; expected whole numbers"),
        ([[0, 1], [0]], "indices of different lengths"),
        ([0, 1], r"expected \(steps, batch\)"),
        (np.zeros((0, 2), np.int64), r"expected \(steps, batch\)"),
    ],
)
def test_indices_that_are_no_rows_are_refused(indices: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        P.compile(lambda x: x.sum()).run_steps(P.ones(3), indices)


def test_data_are_not_kept_alive(work: dict[str, int]) -> None:
    model = network()
    run = P.compile(training(model))
    seen = []
    for count in (20, 30):
        given = data(count)
        seen += map(weakref.ref, given)
        run.run_steps(given, order(count))
        del given
    gc.collect()
    assert [ref() for ref in seen] == [None] * 4


# ---- other Tensors ---------------------------------------------------------------------------------------------------


def test_an_equal_step_of_other_tensors_compiles_nothing(work: dict[str, int]) -> None:
    x, y = data(16)
    found = []
    for fold in range(3):
        model = network()
        with P.no_grad():
            model[0].weight.mul_(fold + 1)
        run = P.compile(training(model))
        P.manual_seed(7)
        found.append([run(x, y).item() for _ in range(3)])
        assert work == {"compiled": 1, "scheduled": 1}
        eager_model = network()
        with P.no_grad():
            eager_model[0].weight.mul_(fold + 1)
        eager = training(eager_model)
        P.manual_seed(7)
        np.testing.assert_allclose(found[-1], [eager(x, y).item() for _ in range(3)], rtol=1e-4)
    assert len({tuple(losses) for losses in found}) == 3


def test_what_is_shared_holds_no_tensors(work: dict[str, int]) -> None:
    model = network()
    run = P.compile(training(model))
    run(*data(16))
    seen = [weakref.ref(p) for p in model.parameters()] + [weakref.ref(run.last)]
    assert len(executable._cached) == 1
    del model, run
    gc.collect()
    assert [ref() for ref in seen] == [None] * len(seen)
    assert len(executable._cached) == 1


def test_no_more_executables_are_kept_than_a_few(work: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executable, "MAX_IDLE", 2)
    run = P.compile(lambda x: x + 1)
    for n in (2, 3, 4, 5):
        assert run(P.ones(n)).tolist() == [2] * n
    assert len(executable._cached) == 2
    assert run(P.zeros(2)).tolist() == [1] * 2  # its program keeps what it needs
    again = P.compile(lambda x: x + 1)  # on another line: other places in its listing, the same native code
    before = work["compiled"]
    assert again(P.zeros(5)).tolist() == [1] * 5
    assert work["compiled"] == before


def test_a_backward_outside_shares_its_program_too(work: dict[str, int]) -> None:
    for scale in (1.0, 2.0):
        model = network(0.0)
        with P.no_grad():
            model[0].weight.mul_(scale)
        plain = network(0.0)
        with P.no_grad():
            plain[0].weight.mul_(scale)
        x, _ = data(16)
        P.compile(model)(x).sum().backward()
        plain(x).sum().backward()
        for a, b in zip(model.parameters(), plain.parameters(), strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-4, atol=1e-5)
    assert work == {"compiled": 1, "scheduled": 1}


# ---- other numbers ---------------------------------------------------------------------------------------------------


def losses_with(dropout: float, smoothing: float) -> tuple[list[float], list[np.ndarray]]:
    model = network(dropout)
    run = P.compile(training(model, smoothing))
    P.manual_seed(11)
    losses = [run(*data(16)).item() for _ in range(4)]
    return losses, [p.detach().numpy() for p in model.parameters()]


RATES = [(0.3, 0.1), (0.2, 0.1), (0.5, 0.1), (0.75, 0.05), (0.9, 0.25)]


def test_another_dropout_rate_or_smoothing_compiles_nothing(
    work: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = [losses_with(*rates) for rates in RATES]
    assert work == {"compiled": 1, "scheduled": 1}
    monkeypatch.setattr(canonical_form, "_may_differ", lambda *_: False)
    forget()
    alone = [losses_with(*rates) for rates in RATES]
    assert work == {"compiled": 1 + len(RATES), "scheduled": 1 + len(RATES)}
    assert [losses for losses, _ in shared] == [losses for losses, _ in alone]
    for (_, a), (_, b) in zip(shared, alone, strict=True):
        assert [x.tobytes() for x in a] == [x.tobytes() for x in b]


def test_a_changed_attribute_of_a_module_compiles_nothing(work: dict[str, int]) -> None:
    model = network(0.1)
    run = P.compile(training(model))
    run(*data(16))
    model[2].p = 0.4
    P.manual_seed(5)
    loss = run(*data(16)).item()
    assert work["compiled"] == 1
    assert np.isfinite(loss)


NUMBERS = [0.3, 0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0, 16.0, 1e-5, 1e-40, 3e38, np.inf, -np.inf, np.nan, 0.1 + 0.2]
OPERATIONS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "add": lambda x, c: x + c, "subtract": lambda x, c: x - c, "from": lambda x, c: c - x, "multiply": lambda x, c: x * c,
    "divide": lambda x, c: x / c, "divided": lambda x, c: c / x, "power": lambda x, c: x.abs() ** c,
    "maximum": lambda x, c: P.maximum(x, P.tensor(c)), "less": lambda x, c: x < c, "equal": lambda x, c: x == c,
    "where": lambda x, c: P.where(x > 0, x, c), "full": lambda x, c: x + P.full((50,), c),
    "sum": lambda x, c: (x * c).sum(), "product": lambda x, c: (x.reshape(10, 5) @ x.reshape(5, 10)) * c + c,
}  # fmt: skip


def test_a_number_that_may_differ_gives_the_bits_of_a_constant(monkeypatch: pytest.MonkeyPatch) -> None:
    x = P.tensor(np.random.default_rng(0).normal(size=50).astype(np.float32))

    def results(c: float) -> dict[str, bytes]:
        run = P.compile(lambda x: {name: function(x, c) for name, function in OPERATIONS.items()})
        return {name: result.numpy().tobytes() for name, result in run(x).items()}

    shared = [results(c) for c in NUMBERS]
    forget()
    monkeypatch.setattr(canonical_form, "_may_differ", lambda *_: False)
    for c, found in zip(NUMBERS, shared, strict=True):
        expected = results(c)
        assert [name for name in OPERATIONS if found[name] != expected[name]] == [], c


def test_numbers_that_differ_in_one_program_stay_apart() -> None:
    run = P.compile(lambda x, y: (x * 0.3, y * 0.7, x + 0.0, y + (-0.0), x * 0.3 + 0.7))
    x, y = P.tensor(np.full(40, -0.0, np.float32)), P.tensor(np.full(40, -0.0, np.float32))
    found = [t.numpy().tobytes() for t in run(x, y)]
    plain = [x * 0.3, y * 0.7, x + 0.0, y + (-0.0), x * 0.3 + 0.7]
    assert found == [t.numpy().tobytes() for t in plain]


def test_a_listing_shows_the_numbers_of_its_own_program(work: dict[str, int]) -> None:
    x = P.ones(20)
    for c in (0.25, 0.125):
        run = P.compile(lambda x, c=c: x * c)
        assert run(x).tolist() == [c] * 20
        assert f"scalar {c}" in str(run.graph)
    assert work["compiled"] == 1
