"""`x[mask]` in compiled steps: values and gradients of the eager lines, or a refusal that says what to write."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid import autograd, nn, optim
from pellucid.compiler.trace.masked import EACH, REFUSED, MaskedSelection
from pellucid.errors import PellucidError, ShapeError, TraceError
from pellucid.ops.loop import scan
from pellucid.tensor import Tensor
from pellucid.tensor.arithmetic import Arithmetic

# Functions of x, y (4, 3), w () and v (3,) with a mask (4, 3) or (4,).
REDUCED: dict[str, Callable[..., Any]] = {
    "sum": lambda x, y, w, v, m: x[m].sum(),
    "mean": lambda x, y, w, v, m: x[m].mean(),
    "max": lambda x, y, w, v, m: x[m].max(),
    "min": lambda x, y, w, v, m: x[m].min(),
    "amax": lambda x, y, w, v, m: x[m].amax(),
    "functions": lambda x, y, w, v, m: P.sum(x[m]) + P.mean(x[m]) + P.amin(P.exp(x[m])),
    "masked_select": lambda x, y, w, v, m: x.masked_select(m if m.ndim == 2 else m.unsqueeze(1)).mean(),
    "a tuple": lambda x, y, w, v, m: x[(m,)].sum(),
    "a logarithm of what is above 0": lambda x, y, w, v, m: x[m & _like(x > 0, m)].log().sum(),
    "squared error": lambda x, y, w, v, m: ((x[m] - y[m]) ** 2).mean(),
    "scaled": lambda x, y, w, v, m: (w * x[m] / 2 + w).clamp(min=-1.0).sum(),
    "from the left": lambda x, y, w, v, m: (1 - x[m] + w * 3 - 2 ** x[m]).mean(),
    "one weight under a power": lambda x, y, w, v, m: (w.abs() ** x[m]).sum(),
    "accuracy": lambda x, y, w, v, m: (x[m] > y[m]).float().mean(),
    "how many": lambda x, y, w, v, m: (x[m] > w).sum(),
    "any and all": lambda x, y, w, v, m: (x[m] > 0).any().long() + (x[m] > -9).all() * 2,
    "whole numbers": lambda x, y, w, v, m: (x * 9).long()[m].max() + (x * 9).long()[m].sum(),
    "by name twice": lambda x, y, w, v, m: (x[m].square() + y[m].relu()).sqrt().mean(),
    "another dtype": lambda x, y, w, v, m: x[m].double().sum(),
}  # fmt: skip

ROWS: dict[str, Callable[..., Any]] = {
    "over the rows": lambda x, y, w, v, m: x[m].mean(0),
    "over the rows, kept": lambda x, y, w, v, m: x[m].amax(0, keepdim=True) + x[m].sum(dim=0, keepdim=True),
    "inside the rows first": lambda x, y, w, v, m: (x[m] - y[m]).square().sum(-1).sqrt().mean(),
    "inside the rows, kept": lambda x, y, w, v, m: (x[m] / x[m].abs().sum(1, keepdim=True)).sum((0, 1)),
    "beside a Tensor for each column": lambda x, y, w, v, m: (x[m] * v + v).mean(),
    "a list": lambda x, y, w, v, m: (x[m] * [1.0, 2.0, 3.0]).sum(),
    "a mean inside": lambda x, y, w, v, m: x[m].mean(1).amin(),
}  # fmt: skip

WRITTEN: dict[str, Callable[..., Any]] = {
    "a number": lambda x, y, w, v, m: 0.5,
    "a Tensor of one number": lambda x, y, w, v, m: w * 2,
    "another selection": lambda x, y, w, v, m: y[m] * w + 1,
    "itself": lambda x, y, w, v, m: x[m] / 2,
}  # fmt: skip


def _like(mask: Tensor, other: Tensor) -> Tensor:
    return mask if other.ndim == 2 else mask.all(1)


def inputs(seed: int = 0) -> list[Tensor]:
    random = np.random.default_rng(seed)
    return [P.tensor(random.normal(size=shape).astype(np.float32)) for shape in [(4, 3), (4, 3), (), (3,)]]


def outcome(function: Callable[..., Any], given: list[Tensor], mask: Tensor, run: Any) -> list[Any]:
    given = [x.detach().clone().requires_grad_() for x in given]
    return [None if t is None else np.array(t.detach().numpy()) for t in run(*given, mask)]


def graded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Value and gradients of `function`; columns have different weights, so that no gradient is right by accident."""

    def run(x: Tensor, y: Tensor, w: Tensor, v: Tensor, mask: Tensor) -> Any:
        result = function(x, y, w, v, mask)
        if not result.requires_grad:
            return [result]
        total = (
            result.sum() if not result.ndim else (result * P.arange(1, result.numel() + 1).reshape(result.shape)).sum()
        )
        return [result.detach(), *autograd.grad(total, [x, y, w, v], allow_unused=True)]

    return run


def same(function: Callable[..., Any], masks: list[Tensor], empty: bool = True) -> None:
    eager, compiled = graded(function), P.compile(graded(function))
    for seed, mask in enumerate(masks):
        given = inputs(seed)
        try:
            expected = outcome(function, given, mask, eager)
        except ShapeError as error:
            with pytest.raises(ShapeError, match="expected at least one"):
                outcome(function, given, mask, compiled)
            assert not mask.any(), error
            continue
        for a, b in zip(expected, outcome(function, given, mask, compiled), strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                assert a.dtype == b.dtype
                np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
    assert len(compiled.made) == 1


def masks(shape: tuple[int, ...]) -> list[Tensor]:
    random = np.random.default_rng(1)
    some = [P.tensor(random.random(shape) < share) for share in (0.5, 0.7, 0.3)]
    return [*some, P.tensor(np.ones(shape, bool)), P.tensor(np.zeros(shape, bool))]


@pytest.mark.parametrize("shape", [(4, 3), (4,)])
@pytest.mark.parametrize("name", REDUCED)
def test_reduced_to_a_number(name, shape):
    same(REDUCED[name], masks(shape))


@pytest.mark.parametrize("name", ROWS)
def test_whole_rows(name):
    same(ROWS[name], masks((4,)))


@pytest.mark.parametrize("shape", [(4, 3), (4,)])
@pytest.mark.parametrize("name", WRITTEN)
def test_written(name, shape):
    def function(x, y, w, v, m):
        z = x * 1
        z[m] = WRITTEN[name](x, y, w, v, m)
        return z * y

    same(function, masks(shape))


def test_a_tensor_from_outside_is_written_in_place():
    kept = P.zeros(4, 3)

    @P.compile
    def step(x, m):
        with P.no_grad():
            kept[m] = P.tensor([[1.0, 2.0, 3.0]])
            kept[m] += x[m]
            kept[~m] -= 1
        return x.sum()

    step(P.ones(4, 3), P.tensor([True, False, True, False]))
    assert kept.tolist() == [[2, 3, 4], [-1, -1, -1], [2, 3, 4], [-1, -1, -1]]


def test_rows_left_out_reach_no_gradient_with_nan_or_infinity_in_them():
    """Each is NaN, infinite or at the edge of a domain, and is read by every operand."""
    x = P.tensor([2.0, math.nan, math.inf, 0.0, -1.0])
    y = P.tensor([3.0, 1.0, math.nan, 0.0, -1.0])

    def step(x, y, w, m):
        loss = ((x[m].log() / y[m]).sqrt() * w).sum() + x[m].max() + y[m].mean()
        return [loss.detach(), *autograd.grad(loss, [x, y, w])]

    leaves = lambda: [t.detach().clone().requires_grad_() for t in (x, y, P.tensor(0.0))]
    mask = P.tensor([True, False, False, False, False])
    for a, b in zip(step(*leaves(), mask), P.compile(step)(*leaves(), mask), strict=True):
        assert np.isfinite(b.detach().numpy()).all()
        np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-5)


def test_training_on_masked_losses_is_the_eager_training():
    losses = []
    for compiled in (False, True):
        P.manual_seed(0)
        model = nn.Linear(5, 1)
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        x, target = P.randn(16, 5), P.randn(16)

        def step(x, target, mask, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            each = nn.functional.mse_loss(model(x).squeeze(1), target, reduction="none")
            loss = each[mask].mean()
            loss.backward()
            optimizer.step()
            return loss

        run = P.compile(step) if compiled else step
        losses.append([run(x, target, P.randn(16) > 0).item() for _ in range(20)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4, atol=1e-6)


# ---- what is refused -----------------------------------------------------------------------------------------------------

MASKED_ELSEWHERE: dict[str, Callable[..., Any]] = {
    "returned": lambda x, y, m: x[m],
    "its shape": lambda x, y, m: x[m].shape[0],
    "its length": lambda x, y, m: len(x[m]),
    "a row of it": lambda x, y, m: x[m][0],
    "walked": lambda x, y, m: list(x[m]),
    "its spread": lambda x, y, m: x[m].std(),
    "sorted": lambda x, y, m: x[m].sort(),
    "reshaped": lambda x, y, m: x[m].reshape(-1),
    "stacked": lambda x, y, m: P.cat([x[m], y[m]]),
    "multiplied": lambda x, y, m: x[m] @ y.T,
    "a loss": lambda x, y, m: nn.functional.mse_loss(x[m], y[m]),
    "a layer": lambda x, y, m: nn.Linear(3, 2)(x[m]),
    "an operation on two": lambda x, y, m: P.where(x[m] > 0, x[m], 0),
    "beside whole rows": lambda x, y, m: (x[m] + y).sum(),
    "beside whole rows, from the left": lambda x, y, m: (y + x[m]).sum(),
    "beside another mask": lambda x, y, m: (x[m] - y[~m]).mean(),
    "beside the same mask made twice": lambda x, y, m: (x[m & m] - y[m & m]).mean(),
    "beside fewer axes": lambda x, y, m: (x[m] - x[m].sum(1)).mean(),
    "positions": lambda x, y, m: x[m].max(0),
    "a hook": lambda x, y, m: x[m].register_hook(lambda g: None),
    "another axis": lambda x, y, m: x[:, m].sum(),
    "written from rows that are counted": lambda x, y, m: x.clone().__setitem__(m, P.ones(2, 3)),
    "written from a longer Tensor": lambda x, y, m: x.clone().__setitem__(m, y),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKED_ELSEWHERE)
def test_anything_else_is_refused_by_line_and_with_the_words_to_write(name):
    function = MASKED_ELSEWHERE[name]
    x, y, _, _ = inputs()
    if name == "another axis":
        x, y = x.T, y.T
    with pytest.raises(TraceError, match=r"where|write mask = |write amax") as caught:
        P.compile(lambda x, y, m: function(x, y, m))(x, y, P.tensor([True, False, True, False]))
    assert str(caught.value).removeprefix("Linear 3→2: Linear 3→2 at ").startswith("test_masked.py:")
    assert f"test_masked.py:{function.__code__.co_firstlineno}" in str(caught.value)


def test_every_method_of_a_tensor_works_on_each_number_or_is_refused():
    """A method that is added to Tensor belongs to the lists of `compiler/trace/masked.py`, or ends in a refusal."""
    fine = {"sum", "mean", "max", "min", "amax", "amin", "any", "all", "dim", "is_floating_point", "element_size", "refuse",
            "is_contiguous", "array_from", "check_floating", "in_own_dtype", "as_floating"}  # fmt: skip
    arguments = {"new_tensor": ([1.0],), "new_zeros": (2,), "new_ones": (2,)}
    missed = []

    def step(x, m):
        for name, method in inspect.getmembers(Tensor, callable):
            if name.startswith("_") or name in fine or name in EACH or inspect.isclass(method) or name in arguments:
                continue
            needed = [p for p in inspect.signature(method).parameters.values() if p.default is p.empty and p.kind == 1][
                1:
            ]
            try:
                getattr(x[m], name)(*[0] * len(needed))
            except TraceError:
                continue
            except (PellucidError, AttributeError, TypeError):
                continue  # refused for the 0 that it was given
            missed.append(name)
        return x.sum()

    P.compile(step)(P.ones(4, 3), P.tensor([True, False, True, False]))
    assert missed == []
    for name in (*EACH, *REFUSED):
        assert hasattr(Tensor, name) and name in vars(MaskedSelection), name


def test_every_elementwise_method_works_on_a_masked_selection():
    methods = [name for name, value in vars(Arithmetic).items() if callable(value) and not name.startswith("_")]
    missing = [name for name in methods if name not in EACH and name not in REFUSED]
    assert missing == [], "add them to EACH in pellucid/compiler/trace/masked.py"


def test_masked_select_broadcasts_as_in_pytorch():
    x = P.arange(6).reshape(2, 3)
    assert x.masked_select(P.tensor([True, False, True])).tolist() == [0, 2, 3, 5]
    assert x.masked_select(P.tensor([[True], [False]])).tolist() == [0, 1, 2]
    with pytest.raises(ShapeError, match="expected equal sizes, or 1"):
        x.masked_select(P.tensor([True, False]))


def test_in_a_loop_in_many_steps_and_without_native_code():
    x, mask = inputs()[0], P.tensor(np.random.default_rng(2).random((4, 3)) < 0.6)
    mask[:, 0] = True

    def walk(x, m):
        return scan(lambda total, row: (total + row[0][row[1]].sum(), row[0][row[1]].amax()), P.zeros(()), (x, m))

    for a, b in zip(walk(x, mask), P.compile(walk)(x, mask), strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-6)
    largest = P.compile(lambda x, m: x[m].max())
    found = largest.run_steps((x, mask), np.array([[0, 1], [2, 3]]))
    assert found.tolist() == [x[:2][mask[:2]].max().item(), x[2:][mask[2:]].max().item()]
    interpreted = P.compile(lambda x, m: x[m].max(), disable_passes="native")
    assert interpreted(x, mask).item() == x[mask].max().item()
    for run in (largest, interpreted):
        with pytest.raises(ShapeError, match="expected at least one"):
            run(x, mask & False)
