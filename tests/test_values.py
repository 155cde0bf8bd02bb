"""Values, dtypes and gradients that went wrong in silence once: each line states what PyTorch gives.

`tests/test_operator_samples.py` looks for others, with PyTorch at hand; what it found is written down here by kind.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid import functional as F
from pellucid.autograd import grad
from pellucid.errors import OptionError, PellucidError

inf, nan = math.inf, math.nan


def same(found: Any, values: Any, dtype: Any) -> None:
    assert found.dtype == dtype
    np.testing.assert_allclose(found.numpy(), values, rtol=1e-6)
    assert found.shape == np.shape(values)


def slopes(function: Any, *numbers: Any) -> list[Any]:
    """The gradients of the sum of `function` at `numbers`."""
    leaves = [P.tensor(x, dtype=P.float64, requires_grad=True) for x in numbers]
    return [g.tolist() for g in grad(function(*leaves).sum(), leaves)]


# ---- dtypes ----------------------------------------------------------------------------------------------------------

MASK, WHOLE, BYTES = P.tensor([True, False]), P.tensor([1, 2]), P.tensor([1, 200], dtype=P.uint8)


@pytest.mark.parametrize(
    ("call", "values", "dtype"),
    [
        (lambda: P.ones(2, 2, dtype=P.bool).tril(), [[True, False], [True, True]], P.bool),
        (lambda: P.ones(2, 2, dtype=P.bool).triu(), [[True, True], [False, True]], P.bool),
        (lambda: ~P.ones(2, 2, dtype=P.bool).tril(), [[False, True], [False, False]], P.bool),
        (lambda: P.ones(2, 2, dtype=P.uint8).tril(), [[1, 0], [1, 1]], P.uint8),
        (lambda: P.where(MASK, MASK, 0), [1, 0], P.int64),
        (lambda: P.where(MASK, WHOLE, 1.5), [1, 1.5], P.float32),
        (lambda: MASK.masked_fill(MASK, 0), [False, False], P.bool),
        (lambda: MASK.masked_fill(~MASK, 0.5), [True, True], P.bool),
        (lambda: WHOLE.masked_fill(MASK, 1.5), [1, 2], P.int64),
        (lambda: WHOLE.masked_fill(MASK, P.tensor(1.5)), [1, 2], P.int64),
        (lambda: BYTES.masked_fill(MASK, -1), [255, 200], P.uint8),
        (lambda: F.pad(WHOLE, (1, 0), value=1.0), [1, 1, 2], P.int64),
        (lambda: F.pad(MASK, (1, 0), value=2), [True, True, False], P.bool),
        (lambda: F.pad(WHOLE.float(), (1, 0), value=None), [0, 1, 2], P.float32),
        (lambda: MASK.square(), [1, 0], P.int64),
        (lambda: MASK**2, [1, 0], P.int64),
        (lambda: WHOLE**2.0, [1, 4], P.float32),
        (lambda: BYTES.all(), 1, P.uint8),
        (lambda: BYTES.any(0), 1, P.uint8),
        (lambda: BYTES.sum(dtype=P.uint8), 201, P.uint8),
        (lambda: WHOLE.cumsum(0, dtype=P.int32), [1, 3], P.int32),
        (lambda: BYTES - 1, [0, 199], P.uint8),
        (lambda: BYTES + -1, [0, 199], P.uint8),
        (lambda: P.full((2,), -1, dtype=P.uint8), [255, 255], P.uint8),
        (lambda: F.hardtanh(P.tensor([-3, 3]), -1.5, 1.5), [-1, 1], P.int64),
    ],
)
def test_a_choice_keeps_its_dtype(call: Any, values: Any, dtype: Any) -> None:
    same(call(), values, dtype)


def test_a_mask_from_tril_picks_as_a_mask() -> None:
    mask = P.ones(2, 2, dtype=P.bool).tril()
    assert P.tensor([[1, 2], [3, 4]])[~mask].tolist() == [2]


@pytest.mark.parametrize(
    ("call", "values", "dtype"),
    [
        (lambda: P.arange(0.5, 5, dtype=P.int64), [0, 1, 2, 3, 4], P.int64),
        (lambda: P.arange(1, 5.5, 1.5, dtype=P.int64), [1, 2, 3, 4], P.int64),
        (lambda: P.arange(2**53, 2**53 + 2, dtype=P.int64), [2**53, 2**53 + 1], P.int64),
        (lambda: P.linspace(0, 10, 4, dtype=P.int64), [0, 3, 6, 10], P.int64),
        (lambda: P.linspace(4.3, -3, 8, dtype=P.int64), [4, 3, 2, 1, 0, -1, -2, -3], P.int64),
        (lambda: P.linspace(0, 1, 1), [0], P.float32),
        (lambda: P.Tensor([1, 2]), [1, 2], P.float32),
        (lambda: P.Tensor([[True]]), [[1]], P.float32),
        (lambda: P.Tensor(2, 3), np.zeros((2, 3)), P.float32),
        (lambda: P.Tensor(), np.zeros(0), P.float32),
        (lambda: P.Tensor(WHOLE), [1, 2], P.int64),
    ],
)
def test_making(call: Any, values: Any, dtype: Any) -> None:
    same(call(), values, dtype)


def test_a_tensor_of_numbers_is_a_whole_one() -> None:
    x = P.Tensor([1, 2])
    assert (x + 1).tolist() == [2, 3] and repr(x) == "tensor([1., 2.])" and len(x) == 2


REFUSED = {
    "a number that uint8 does not hold": lambda: BYTES + 300,
    "filling with it": lambda: P.zeros(2, dtype=P.uint8).fill_(300),
    "making of it": lambda: P.tensor([300], dtype=P.uint8),
    "NaN among integers": lambda: P.tensor([1, nan], dtype=P.int64),
    "full of infinity": lambda: P.full((2,), inf, dtype=P.int64),
    "a flag as dim": lambda: P.ones(2, 2).sum(True),
    "keepdim without dim": lambda: P.ones(2, 2).max(keepdim=True),
    "an axis that a number does not have": lambda: P.tensor(1.0).sum(1),
    "its position": lambda: P.tensor(1.0).argmax(1),
    "its sum so far": lambda: P.tensor(1.0).cumsum(1),
    "softmax over no dim": lambda: P.ones(2, 2).softmax(None),
    "a step of 0": lambda: P.arange(0, 5, 0.5, dtype=P.int64),
    "counting in truths": lambda: P.arange(3, dtype=P.bool),
    "sizes and numbers": lambda: P.Tensor(2.5),
    "norm of integers": lambda: BYTES.norm(),
    "a pool of integers": lambda: F.avg_pool1d(P.ones(1, 1, 4).long(), 2),
    "a batch without channels": lambda: F.batch_norm(P.ones(3), None, None, training=True),
    "fewer repeats than axes": lambda: P.ones(2, 2).repeat(2),
    "repeating less than never": lambda: P.ones(2).repeat_interleave(-1),
    "past the end": lambda: P.ones(2).narrow(0, 3, 0),
    "rows by a matrix": lambda: P.ones(2, 2).index_select(0, P.tensor([[1]])),
    "a vector as matrix": lambda: P.ones(2, 2).mm(P.ones(2)),
    "a matrix as vector": lambda: P.ones(2).dot(P.ones(2, 2)),
    "matrices as batch": lambda: P.ones(2, 2).bmm(P.ones(2, 2)),
    "outer of a matrix": lambda: P.ones(2).outer(P.ones(2, 2)),
    "filling with many": lambda: P.ones(2, 2).masked_fill(MASK, P.ones(2)),
    "weights of other classes": lambda: F.cross_entropy(P.ones(2, 2), P.tensor([0, 1]), P.ones(3)),
    "weights of other classes, nll": lambda: F.nll_loss(P.ones(2, 2), P.tensor([0, 1]), P.ones(2, 2)),
    "a class below 0": lambda: F.one_hot(P.tensor([-1, 0])),
    "a class too many": lambda: F.one_hot(P.tensor([0, 3]), 2),
    "classes of nothing": lambda: F.one_hot(P.tensor([], dtype=P.int64)),
    "a bound of NaN": lambda: P.ones(2).clamp(min=nan),
    "a number first": lambda: P.exp(1.0),
}


@pytest.mark.parametrize("call", REFUSED.values(), ids=REFUSED)
def test_what_has_no_answer_is_refused(call: Any) -> None:
    with pytest.raises(PellucidError, match="expected"):
        call()


@pytest.mark.parametrize(
    "make",
    [
        lambda where: P.zeros(2, device=where), lambda where: P.ones(2, device=where),
        lambda where: P.empty(2, device=where), lambda where: P.full((2,), 1, device=where),
        lambda where: P.tensor([1], device=where), lambda where: P.as_tensor([1], device=where),
        lambda where: P.as_tensor(P.ones(1), device=where), lambda where: P.arange(2, device=where),
        lambda where: P.linspace(0, 1, 2, device=where), lambda where: P.eye(2, device=where),
    ],
)  # fmt: skip
def test_there_is_no_other_device(make: Any) -> None:
    assert make("cpu").device == make(P.device("cpu")).device == P.device("cpu")
    with pytest.raises(OptionError, match="cuda"):
        make("cuda")


# ---- values ----------------------------------------------------------------------------------------------------------

PAIR, BLOCK = P.tensor([1.0, 2.0]), P.tensor([[1.0, -2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("call", "values"),
    [
        (lambda: PAIR.var(False), 0.25),
        (lambda: PAIR.var(True), 0.5),
        (lambda: PAIR.std(False), 0.5),
        (lambda: PAIR.std(True), 0.5**0.5),
        (lambda: PAIR.var(0, False), 0.25),
        (lambda: F.cosine_similarity(P.ones(3, 1), P.ones(1, 4)), [1, 1, 1]),
        (lambda: F.cosine_similarity(P.tensor([1e-9, 0]), PAIR * 1e9, dim=0), 0.1 / 5**0.5),
        (lambda: P.masked_select(P.ones(2, 1), P.tensor([True, False, True])), [1, 1, 1, 1]),
        (lambda: P.masked_select(P.tensor([3.0, 4]), P.tensor([[True], [False]])), [3, 4]),
        (lambda: P.ones(0, 3).prod(0, keepdim=True), [[1, 1, 1]]),
        (lambda: P.ones(0).prod(), 1),
        (lambda: BLOCK.sum(()), 6),
        (lambda: BLOCK.mean(dim=()), 1.5),
        (lambda: BLOCK.amax(()), 4),
        (lambda: BLOCK.var(()), 7),
        (lambda: BLOCK.norm("fro"), 30**0.5),
        (lambda: BYTES.logsumexp(0), 200),
        (lambda: BYTES.softmax(0), [0, 1]),
        (lambda: F.huber_loss(P.tensor([1, 200], dtype=P.uint8), P.tensor([3, 201], dtype=P.uint8)), 1.0),
        (lambda: BYTES.lerp(P.tensor([1, 0], dtype=P.uint8), 0.5), [1, 100]),
        (lambda: BLOCK.repeat_interleave(P.tensor([1, 2]), dim=0), [[1, -2], [3, 4], [3, 4]]),
        (lambda: BLOCK.repeat(0, 1), np.zeros((0, 2))),
        (lambda: BLOCK.narrow(0, -1, 1), [[3, 4]]),
        (lambda: BLOCK.index_select(0, P.tensor(1)), [[3, 4]]),
    ],
)
def test_values(call: Any, values: Any) -> None:
    same(call(), values, P.float32)


def test_close_to_infinity_is_infinity_alone() -> None:
    x = P.tensor([1.0, inf, inf, -inf, nan])
    other = P.tensor([inf, inf, 1.0, inf, nan])
    assert x.isclose(other).tolist() == [False, True, False, False, False]
    assert x.isclose(other, equal_nan=True).tolist() == [False, True, False, False, True]
    assert not P.allclose(P.tensor(1.0), P.tensor(inf)) and P.allclose(x, x, equal_nan=True)
    assert not P.tensor([1]).isclose(1.5).item()


def test_chunks_of_nothing_are_as_many_as_asked_for() -> None:
    assert [x.shape for x in P.zeros(0, 3).chunk(2)] == [(0, 3), (0, 3)]


# ---- probabilities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "target"), [(1.5, 1.0), (-0.1, 1.0), (nan, 1.0), (0.5, 2.0), (0.5, nan)])
def test_binary_cross_entropy_takes_probabilities(p: float, target: float) -> None:
    x, t = P.tensor([0.5, p]), P.tensor([1.0, target])
    with pytest.raises(OptionError, match="expected probabilities"):
        F.binary_cross_entropy(x, t)
    step = P.compile(lambda x, t: P.nn.BCELoss()(x, t))
    assert step(P.tensor([0.5, 1.0]), P.tensor([1.0, 0.0])).item() == pytest.approx((math.log(2) + 100) / 2)
    with pytest.raises(OptionError, match="expected probabilities"):
        step(x, t)


def test_binary_cross_entropy_has_finite_slopes_at_0_and_1() -> None:
    p, target = [0.0, 1.0, 0.0, 1.0, 0.25], P.tensor([0.0, 1.0, 1.0, 0.0, 1.0], dtype=P.float64)
    (found,) = slopes(lambda p: F.binary_cross_entropy(p, target, reduction="sum"), p)
    assert found == pytest.approx([0, 0, -1e12, 1e12, -4])


# ---- gradients -------------------------------------------------------------------------------------------------------


def test_the_slope_of_0_to_a_power() -> None:
    assert slopes(lambda p: 0**p, [0.0, 1.0, 2.0]) == [[0, 0, 0]]
    assert slopes(lambda p: P.tensor(0.0, dtype=P.float64) ** p, [-1.0]) == [[-inf]]
    base, exponent = slopes(lambda x, p: x**p, [0.0, 2.0, 0.0], [0.0, 0.0, 1.0])
    assert base == [0, 0, 1] and exponent == pytest.approx([0, math.log(2), 0])
    assert slopes(lambda x: x**0, [0.0, nan]) == [[0, 0]]


@pytest.mark.parametrize(
    ("function", "numbers", "expected"),
    [
        (P.maximum, [[2.0], [1.0]], [[inf], [0]]),
        (P.minimum, [[2.0], [1.0]], [[0], [inf]]),
        (lambda a: a.amax(0), [[1.0, 2.0]], [[0, inf]]),
        (lambda a: a.max(0).values, [[1.0, 2.0]], [[0, inf]]),
        (lambda a: a.clamp(0, 1), [[-1.0, 0.5]], [[0, inf]]),
        (lambda a: a.relu(), [[-1.0, 0.5]], [[0, inf]]),
        (lambda a: a.masked_fill(P.tensor([True, False]), 3.0), [[1.0, 2.0]], [[0, inf]]),
        (lambda a, b: P.where(P.tensor([True, False]), a, b), [[1.0, 2.0], [1.0, 2.0]], [[inf, 0], [0, inf]]),
    ],
)
def test_an_infinite_gradient_does_not_reach_what_was_not_chosen(function: Any, numbers: Any, expected: Any) -> None:
    leaves = [P.tensor(x, requires_grad=True) for x in numbers]
    y = function(*leaves)
    assert [g.tolist() for g in grad(y, leaves, P.full(y.shape, inf))] == expected


def test_what_wins_over_nan_and_relu_of_nan_pass_the_gradient_on() -> None:
    assert slopes(P.maximum, [nan], [1.0]) == [[1], [1]]
    assert slopes(lambda a: a.relu(), [nan, 1.0]) == [[1, 1]]


def test_softplus_has_its_slope_at_0_too() -> None:
    assert slopes(F.softplus, [0.0, -1.0]) == [pytest.approx([0.5, 1 / (1 + math.e)])]
    assert slopes(F.logsigmoid, [0.0]) == [[0.5]]
    zero_one = P.tensor([0.0, 1.0], dtype=P.float64)
    assert slopes(lambda x: F.binary_cross_entropy_with_logits(x, zero_one, reduction="sum"), [0.0, 0.0]) == [
        [0.5, -0.5]
    ]
    x = P.tensor([0.0, 0.5, -3.0], dtype=P.float64, requires_grad=True)
    assert P.autograd.gradcheck(F.softplus, [x], order=2)


def test_an_infinite_distance_has_the_slope_of_the_straight_part() -> None:
    target = P.tensor([0.0, 0.0, 0.0], dtype=P.float64)
    assert slopes(lambda x: F.huber_loss(x, target, "sum"), [inf, -inf, 0.5]) == [[1, -1, 0.5]]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.norm(), lambda x: x.norm(2, 0), lambda x: x.norm(1), lambda x: x.norm(3), lambda x: x.norm(0.5),
        lambda x: x.norm(inf), lambda x: x.std(), lambda x: x.std(0, unbiased=False), lambda x: F.normalize(x, dim=0),
        lambda x: F.normalize(x, 3.0, dim=0), lambda x: F.cosine_similarity(x, x, dim=0),
    ],
)  # fmt: skip
def test_a_length_of_0_has_no_slope(function: Any) -> None:
    (found,) = slopes(function, [0.0, 0.0, 0.0])
    assert np.isfinite(found).all()
    if function(P.zeros(3)).ndim == 0:
        assert found == [0, 0, 0]


def test_a_length_has_its_slope_elsewhere() -> None:
    for p in (0.5, 1, 2, 3, inf):
        x = P.tensor([0.4, -0.7, 1.1], dtype=P.float64, requires_grad=True)
        assert P.autograd.gradcheck(lambda x, p=p: x.norm(p), [x], order=2)


def test_hardtanh_is_flat_at_its_ends() -> None:
    assert slopes(F.hardtanh, [-1.0, 0.0, 1.0]) == [[0, 1, 0]]


# ---- whose gradient it is --------------------------------------------------------------------------------------------


def test_every_leaf_owns_its_gradient() -> None:
    x, y = P.ones(2, requires_grad=True), P.ones(2, requires_grad=True)
    (x + y).sum().backward()
    x.grad.zero_()
    assert y.grad.tolist() == [1, 1]
    given = P.ones(2)
    (x + y).backward(given)
    x.grad.fill_(7)
    assert given.tolist() == [1, 1] and y.grad.tolist() == [2, 2]
    x.grad = None
    x.backward(given)
    x.grad.fill_(5)
    assert given.tolist() == [1, 1]
    a, b = grad((x + y).sum(), [x, y])
    a.zero_()
    assert b.tolist() == [1, 1]


def test_a_hook_writes_into_a_gradient_of_its_own() -> None:
    x, y, kept = P.ones(2, requires_grad=True), P.ones(2, requires_grad=True), P.full((2,), 3.0)
    x.register_hook(lambda g: g.mul_(2))
    y.register_hook(lambda g: kept)
    (x + y).sum().backward()
    assert x.grad.tolist() == [2, 2]
    y.grad.zero_()
    assert kept.tolist() == [3, 3]


def test_in_a_compiled_step_too() -> None:
    x, y = P.ones(2, requires_grad=True), P.ones(2, requires_grad=True)

    def step() -> Any:
        x.grad = y.grad = None
        loss = (x + y).sum()
        loss.backward()
        with P.no_grad():
            x.grad.zero_()
        return loss

    P.compile(step)()
    assert x.grad.tolist() == [0, 0] and y.grad.tolist() == [1, 1]


# ---- writing from the tape -------------------------------------------------------------------------------------------


def test_what_is_on_the_tape_can_be_written_into_a_tensor_that_is_not() -> None:
    h = P.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    out = P.zeros(2, 2)
    for t in range(2):
        out[t] = h[t]
    (out * out).sum().backward()
    assert h.grad.tolist() == [[2, 4], [6, 8]]


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda x, h: x.add_(h), [6, 8]),
        (lambda x, h: x.sub_(h), [-2, 0]),
        (lambda x, h: x.mul_(h), [8, 16]),
        (lambda x, h: x.div_(h), [-8, -1]),
        (lambda x, h: x.copy_(h), [2, 4]),
        (lambda x, h: x.__setitem__(slice(None), h), [2, 4]),
        (lambda x, h: x.__setitem__(P.tensor([1]), h[1]), [0, 4]),
        (lambda x, h: x.__setitem__(P.tensor([True, False]), h[:1]), [2, 0]),
        (lambda x, h: x.masked_fill_(P.tensor([True, False]), h[0]), [2, 0]),
        (lambda x, h: x.fill_(h[1]), [0, 8]),
    ],
)
def test_in_place_methods_take_from_the_tape(write: Any, expected: list[float]) -> None:
    h, x = P.tensor([1.0, 2.0], requires_grad=True), P.full((2,), 2.0)
    write(x, h)
    (x * x).sum().backward()
    assert h.grad.tolist() == expected


def test_a_tensor_written_into_itself() -> None:
    x = P.tensor([1.0, 2.0])
    x[:] = x
    x.copy_(x)
    x.add_(x)
    assert x.tolist() == [2, 4]


# ---- other people's objects ------------------------------------------------------------------------------------------


def test_compile_asks_nothing_of_the_objects_it_meets() -> None:
    class Options(dict):  # type: ignore[type-arg]
        __getattr__ = dict.__getitem__

    options = Options(scale=2.0)
    step = P.compile(lambda x: x * options.scale)
    assert step(P.ones(2)).tolist() == [2, 2]
    assert P.compile(lambda x: x * options["scale"], capture=()) is not None
