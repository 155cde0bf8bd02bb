"""Composites against small NumPy and SciPy formulas; extreme values; the errors and warnings that losses give."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import scipy.special as special
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import pellucid as P
from pellucid import functional as F
from pellucid.autograd import gradcheck
from pellucid.errors import DTypeError, IndexRangeError, OptionError, ShapeError
from pellucid.functional import losses
from pellucid.functional.methods import METHODS
from pellucid.tensor import Tensor
from pellucid.tensor.arithmetic import Arithmetic

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(5, 4)) * 3
Y = RANDOM.normal(size=(5, 4))
CLASSES = np.array([3, 0, 2, 2, 1])
WEIGHT = np.array([0.5, 1.0, 2.0, 0.1])


def t(array: Any, grad: bool = False) -> Tensor:
    return P.tensor(np.asarray(array), requires_grad=grad)


def same(result: Tensor, expected: Any, rtol: float = 1e-10) -> None:
    np.testing.assert_allclose(result.array, expected, rtol=rtol, atol=1e-12)


# ---- activations -----------------------------------------------------------------------------------------------------

ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[np.ndarray], np.ndarray]]] = {
    "relu": (F.relu, lambda x: np.maximum(x, 0)),
    "sigmoid": (F.sigmoid, special.expit),
    "tanh": (F.tanh, np.tanh),
    "gelu": (F.gelu, lambda x: x * special.ndtr(x)),
    "silu": (F.silu, lambda x: x * special.expit(x)),
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "elu": (lambda x: F.elu(x, 1.5), lambda x: np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0)))),
    "softplus": (lambda x: F.softplus(x, 2.0, 1e9), lambda x: np.logaddexp(0, 2 * x) / 2),
    "logsigmoid": (F.logsigmoid, special.log_expit),
    "hardtanh": (F.hardtanh, lambda x: np.clip(x, -1, 1)),
    "step": (F.step, lambda x: np.where(np.isnan(x), x, np.heaviside(x, 0))),
    "softmax": (lambda x: F.softmax(x, -1), lambda x: special.softmax(x, axis=-1)),
    "log_softmax": (lambda x: F.log_softmax(x, 0), lambda x: special.log_softmax(x, axis=0)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    ours, formula = ACTIVATIONS[name]
    same(ours(t(X)), formula(X))
    assert ours(t(X.astype(np.float32))).dtype == P.float32
    assert gradcheck(ours, [t(X, grad=True)], order=2, atol=3e-5)


def test_gelu_by_tanh() -> None:
    cubic = np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)
    same(F.gelu(t(X), approximate="tanh"), X * 0.5 * (1 + np.tanh(cubic)))
    with pytest.raises(OptionError, match='"none" or "tanh"'):
        F.gelu(t(X), approximate="erf")


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_activations_stay_finite_where_their_values_are(name: str, size: float) -> None:
    ours, formula = ACTIVATIONS[name]
    x = np.array([[-size, -1.0, 0.0, 1.0, size]], np.float32)
    with np.errstate(all="ignore"):
        expected = formula(x.astype(np.float64))
    value = t(x, grad=True)
    y = ours(value)
    np.testing.assert_allclose(y.array, expected.astype(np.float32), rtol=1e-5, atol=1e-6)
    y.sum().backward()
    assert np.isfinite(value.grad.array).all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_stays_nan(name: str) -> None:
    assert np.isnan(ACTIVATIONS[name][0](t([[np.nan]])).array).all()


@settings(max_examples=30, deadline=None)
@given(
    arrays.arrays(np.float64, arrays.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=st.floats(-1e4, 1e4))
)
def test_softmax_is_a_distribution(x: np.ndarray) -> None:
    p = t(x).softmax(-1).array
    assert (p >= 0).all() and np.allclose(p.sum(-1), 1)
    np.testing.assert_allclose(t(x).logsumexp(-1).array, special.logsumexp(x, axis=-1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(t(x + 7.0).softmax(-1).array, p, atol=1e-9)


def test_softmax_of_infinities_as_elsewhere() -> None:
    inf = math.inf
    assert t([-inf, 0.0, 0.0]).softmax(0).tolist() == [0.0, 0.5, 0.5]
    assert t([-inf, -inf]).softmax(0).isnan().all()
    assert t([inf, 0.0]).softmax(0).isnan().any()
    assert t([-inf, -inf]).logsumexp(0).item() == -inf and t([inf, 0.0]).logsumexp(0).item() == inf


# ---- layers' arithmetic ----------------------------------------------------------------------------------------------


def test_linear() -> None:
    w, b = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=3)
    same(F.linear(t(X), t(w), t(b)), X @ w.T + b)
    same(F.linear(t(X[0]), t(w)), w @ X[0])
    same(F.linear(t(X.reshape(1, 5, 1, 4)), t(w), t(b)), (X @ w.T + b).reshape(1, 5, 1, 3))


def test_layer_norm() -> None:
    scale, shift = RANDOM.normal(size=4), RANDOM.normal(size=4)
    expected = (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(1, keepdims=True) + 1e-5) * scale + shift
    same(F.layer_norm(t(X), (4,), t(scale), t(shift)), expected)
    same(F.layer_norm(t(X), (5, 4), eps=0.1), (X - X.mean()) / np.sqrt(X.var() + 0.1))
    assert gradcheck(lambda x, s, b: F.layer_norm(x, (4,), s, b), [t(X, True), t(scale, True), t(shift, True)], order=2)
    with pytest.raises(ShapeError, match=r"layer_norm: input \(5, 4\); expected it to end in \(3,\)"):
        F.layer_norm(t(X), (3,))
    constant = F.layer_norm(P.full((2, 4), 1e4), (4,))
    assert np.abs(constant.array).max() == 0


def test_batch_norm() -> None:
    x = RANDOM.normal(size=(6, 3, 2)) + 5
    mean, variance = P.zeros(3, dtype=P.float64), P.ones(3, dtype=P.float64)
    expected = (x - x.mean((0, 2), keepdims=True)) / np.sqrt(x.var((0, 2), keepdims=True) + 1e-5)
    same(F.batch_norm(t(x), mean, variance, training=True, momentum=0.1), expected)
    same(mean, 0.1 * x.mean((0, 2)))
    same(variance, 0.9 + 0.1 * x.var((0, 2), ddof=1))
    frozen = (x - mean.array[:, None]) / np.sqrt(variance.array[:, None] + 1e-5)
    same(F.batch_norm(t(x), mean, variance), frozen)
    assert mean.version == variance.version == 1 and not mean.requires_grad
    assert gradcheck(lambda x: F.batch_norm(x, None, None, training=True), [t(x[:3], True)], order=2, atol=1e-4)
    with pytest.raises(ShapeError, match="at least 2 in training; use a larger batch"):
        F.batch_norm(P.ones(1, 3), None, None, training=True)


def test_embedding() -> None:
    table = t(X, grad=True)
    index = P.tensor([[1, 1], [4, 0]])
    same(F.embedding(index, table), X[[[1, 1], [4, 0]]])
    F.embedding(index, table, padding_idx=4).sum().backward()
    assert table.grad.array[:, 0].tolist() == [1, 2, 0, 0, 0]
    with pytest.raises(
        P.errors.IndexRangeError, match=r"index 5 on axis 0 of size 5; expected 0 to 4.*labels or tokens"
    ):
        F.embedding(P.tensor([5]), table)
    with pytest.raises(DTypeError, match=r"index is float32; expected integers"):
        F.embedding(P.tensor([1.0]), table)


def test_one_hot_normalize_pad_cosine() -> None:
    assert F.one_hot(P.tensor([[2, 0]]), 4).tolist() == [[[0, 0, 1, 0], [1, 0, 0, 0]]]
    assert F.one_hot(P.tensor([2, 0])).dtype == P.int64
    same(F.normalize(t(X)), X / np.linalg.norm(X, axis=1, keepdims=True))
    assert F.normalize(P.zeros(1, 3)).tolist() == [[0.0, 0.0, 0.0]]
    same(F.cosine_similarity(t(X), t(Y)), (X * Y).sum(1) / np.linalg.norm(X, axis=1) / np.linalg.norm(Y, axis=1))
    same(F.pad(t(X), (1, 2, 0, 3), value=7.0), np.pad(X, ((0, 3), (1, 2)), constant_values=7.0))
    assert gradcheck(lambda x: F.pad(x, (1, 0), value=2.0), [t(Y, True)], order=2)
    for wrong in ({"padding": (1,)}, {"padding": (-1, 0)}, {"padding": (1, 1), "mode": "reflect"}):
        with pytest.raises(OptionError, match="pad: "):
            F.pad(t(X), **wrong)


def test_pooling() -> None:
    x = RANDOM.normal(size=(2, 3, 6, 4))
    blocks = x.reshape(2, 3, 3, 2, 2, 2)
    same(F.max_pool2d(t(x), 2), blocks.max((3, 5)))
    same(F.avg_pool2d(t(x), 2), blocks.mean((3, 5)))
    assert F.max_pool2d(-P.ones(1, 1, 2, 2), 2, 1, 1).array.max() == -1  # padding never wins
    same(F.avg_pool2d(P.ones(1, 1, 2, 2), 2, 2, 1), np.full((1, 1, 2, 2), 0.25))
    ties = P.ones(1, 1, 2, 2, requires_grad=True)
    F.max_pool2d(ties, 2).sum().backward()
    assert ties.grad.array.reshape(-1).tolist() == [1, 0, 0, 0]  # the first of equals
    assert gradcheck(lambda x: F.max_pool2d(x, 3, 2, 1), [t(x[:1, :1], True)], order=2)
    assert gradcheck(lambda x: F.avg_pool2d(x, (2, 1), 1), [t(x[:1, :1], True)], order=2)
    with pytest.raises(ShapeError, match="no larger than the input"):
        F.max_pool2d(t(x), 7)
    with pytest.raises(OptionError, match="kernel_size"):
        F.max_pool2d(t(x), (2, 2, 2))


# ---- losses ----------------------------------------------------------------------------------------------------------

P1, P2 = special.softmax(X, axis=1), special.softmax(Y, axis=1)
LOG_P = special.log_softmax(X, axis=1)
PICKED = -LOG_P[np.arange(5), CLASSES]
BITS = (Y > 0).astype(float)
HUBER = np.where(abs(X - Y) < 0.8, 0.5 * (X - Y) ** 2, 0.8 * (abs(X - Y) - 0.4))
SMOOTH = 0.9 * PICKED + 0.1 * -LOG_P.mean(1)

LOSSES: dict[str, tuple[Callable[..., Tensor], np.ndarray]] = {
    "mse": (lambda x, **r: F.mse_loss(x, t(Y), **r), (X - Y) ** 2),
    "l1": (lambda x, **r: F.l1_loss(x, t(Y), **r), abs(X - Y)),
    "huber": (lambda x, **r: F.huber_loss(x, t(Y), delta=0.8, **r), HUBER),
    "smooth l1": (lambda x, **r: F.smooth_l1_loss(x, t(Y), beta=0.8, **r), HUBER / 0.8),
    "cross-entropy": (lambda x, **r: F.cross_entropy(x, t(CLASSES), **r), PICKED),
    "label smoothing": (lambda x, **r: F.cross_entropy(x, t(CLASSES), label_smoothing=0.1, **r), SMOOTH),
    "soft targets": (lambda x, **r: F.cross_entropy(x, t(P2), **r), -(P2 * LOG_P).sum(1)),
    "nll": (lambda x, **r: F.nll_loss(x, t(CLASSES), **r), -X[np.arange(5), CLASSES]),
    "bce logits": (
        lambda x, **r: F.binary_cross_entropy_with_logits(x, t(BITS), **r),
        np.logaddexp(0, np.where(BITS > 0, -X, X)),
    ),
    "bce": (
        lambda x, **r: F.binary_cross_entropy(x.sigmoid(), t(BITS), **r),
        np.logaddexp(0, np.where(BITS > 0, -X, X)),
    ),
    "kl": (lambda x, **r: F.kl_div(x.log_softmax(1), t(P2), **r), P2 * (np.log(P2) - LOG_P)),
    "kl of logs": (
        lambda x, **r: F.kl_div(x.log_softmax(1), t(np.log(P2)), log_target=True, **r),
        P2 * (np.log(P2) - LOG_P),
    ),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_reductions(name: str) -> None:
    loss, expected = LOSSES[name]
    same(loss(t(X), reduction="none"), expected, 1e-7)
    same(loss(t(X), reduction="sum"), expected.sum(), 1e-7)
    same(loss(t(X), reduction="mean"), expected.mean(), 1e-7)
    assert loss(t(X)).shape == ()
    assert gradcheck(loss, [t(X[:, :], grad=True)], order=2, atol=3e-5)
    with pytest.raises(OptionError, match=r'reduction=.*expected "mean", "sum" or "none"'):
        loss(t(X), reduction="average")


def test_class_weights_weigh_the_mean() -> None:
    w = WEIGHT[CLASSES]
    same(F.cross_entropy(t(X), t(CLASSES), t(WEIGHT)), (w * PICKED).sum() / w.sum())
    same(F.cross_entropy(t(X), t(CLASSES), t(WEIGHT), reduction="none"), w * PICKED)
    positive = 3.0
    expected = np.where(BITS > 0, positive * np.logaddexp(0, -X), np.logaddexp(0, X))
    same(F.binary_cross_entropy_with_logits(t(X), t(BITS), pos_weight=t([positive]), reduction="none"), expected)


def test_ignored_targets_count_nowhere() -> None:
    counted = CLASSES != 2
    target = np.where(counted, CLASSES, -100)
    x = t(X, grad=True)
    loss = F.cross_entropy(x, t(target), label_smoothing=0.1)
    same(loss, SMOOTH[counted].mean())
    loss.backward()
    assert (x.grad.array[~counted] == 0).all() and (x.grad.array[counted] != 0).all()
    same(F.nll_loss(t(LOG_P), t(CLASSES), ignore_index=2), PICKED[counted].mean())
    assert F.cross_entropy(t(X), P.full((5,), -100)).isnan()  # a mean over nothing


def test_kl_batchmean_and_zero_targets() -> None:
    same(F.kl_div(t(LOG_P), t(P2), reduction="batchmean"), (P2 * (np.log(P2) - LOG_P)).sum() / 5)
    one = np.array([[1.0, 0.0]])
    target = t(one, grad=True)
    loss = F.kl_div(t([[-0.5, -3.0]]), target, reduction="sum")
    assert loss.item() == pytest.approx(0.5)  # 0 log 0 is 0
    loss.backward()
    assert np.isfinite(target.grad.array).all()


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_losses_at_extremes(size: float) -> None:
    x = P.tensor([[size, 0.0, -size], [-size, size, 0.0]], requires_grad=True)
    right, wrong = P.tensor([0, 1]), P.tensor([2, 0])
    assert F.cross_entropy(x, right).item() == 0.0
    loss = F.cross_entropy(x, wrong)
    assert loss.item() == pytest.approx(2 * size, rel=1e-6)
    loss.backward()
    assert np.allclose(x.grad.array, [[0.5, 0, -0.5], [-0.5, 0.5, 0]])
    logits = P.tensor([size, -size], requires_grad=True)
    hit = F.binary_cross_entropy_with_logits(logits, P.tensor([1.0, 0.0]))
    miss = F.binary_cross_entropy_with_logits(logits, P.tensor([0.0, 1.0]))
    assert hit.item() == 0.0 and miss.item() == pytest.approx(size, rel=1e-6)
    miss.backward()
    assert np.allclose(logits.grad.array, [0.5, -0.5])
    sure = P.tensor([0.0, 1.0], requires_grad=True)
    certain = F.binary_cross_entropy(sure, P.tensor([1.0, 0.0]))
    assert certain.item() == 100.0  # each logarithm is held at -100


def test_bce_with_logits_keeps_the_last_digits_beyond_softplus_s_threshold() -> None:
    loss = F.binary_cross_entropy_with_logits(t([-25.0]), t([1.0]))
    assert loss.item() == pytest.approx(np.logaddexp(0, 25.0), rel=1e-15)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_losses_pass_nan_on(bad: float) -> None:
    x = P.tensor([[bad, 0.0], [1.0, 2.0]])
    assert F.cross_entropy(x, P.tensor([0, 1])).isnan()
    assert not F.mse_loss(x, P.zeros(2, 2)).isfinite()
    assert F.layer_norm(x, (2,))[0].isnan().all()


# ---- what losses refuse, and the one warning -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "loss",
    [
        F.mse_loss,
        F.l1_loss,
        F.huber_loss,
        F.smooth_l1_loss,
        F.binary_cross_entropy_with_logits,
        F.binary_cross_entropy,
        F.kl_div,
    ],
)
def test_a_column_against_a_row_is_refused_with_the_fix(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(
        ShapeError, match=r"input \(3, 1\), target \(3,\); expected equal shapes; write input\.squeeze\(-1\)"
    ):
        loss(P.rand(3, 1), P.rand(3))
    with pytest.raises(
        ShapeError, match=r"input \(3,\), target \(3, 1\); expected equal shapes; write target\.squeeze\(-1\)"
    ):
        loss(P.rand(3), P.rand(3, 1))
    with pytest.raises(ShapeError, match=r"input \(3,\), target \(4,\); expected equal shapes; reshape"):
        loss(P.rand(3), P.rand(4))


def test_what_cross_entropy_refuses() -> None:
    x = P.randn(4, 3)
    for target, error, text in [
        (
            P.tensor([0, 1, 2, 3]),
            IndexRangeError,
            r"a target is 3; expected 0 to 2 for 3 classes; number the classes from 0",
        ),
        (P.tensor([0, 1, 2, -1]), IndexRangeError, r"a target is -1; expected 0 to 2"),
        (P.tensor([0, 1, 2]), ShapeError, r"input \(4, 3\), target \(3,\); expected a target \(4,\)"),
        (
            P.tensor([[0], [1], [2], [0]]),
            ShapeError,
            r"target \(4, 1\); expected a target \(4,\); write target\.squeeze\(-1\)",
        ),
        (P.ones(4) > 0, DTypeError, r"target is bool; expected int64 class numbers.*\.long\(\)"),
        (P.ones(4), ShapeError, r"probabilities \(4,\) for input \(4, 3\); expected equal shapes.*\.long\(\)"),
    ]:
        with pytest.raises(error, match=text):
            F.cross_entropy(x, target)
    with pytest.raises(OptionError, match=r"label_smoothing = 1.5; expected 0 to 1"):
        F.cross_entropy(x, P.tensor([0, 1, 2, 0]), label_smoothing=1.5)


@pytest.fixture
def unwarned() -> Iterator[None]:
    before = set(losses._warned)
    losses._warned.clear()
    yield
    losses._warned.update(before)


def test_softmax_before_cross_entropy_warns_once(unwarned: None) -> None:
    x, target = P.randn(4, 3), P.tensor([0, 1, 2, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F.cross_entropy(x, target)
        F.cross_entropy(x.log_softmax(1), target)  # harmless: the softmax of a log-softmax is the same
    with pytest.warns(UserWarning, match=r"softmax before cross-entropy.*remove it from the network"):
        F.cross_entropy(x.softmax(1), target)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F.cross_entropy(x.softmax(1), target)


# ---- methods as functions --------------------------------------------------------------------------------------------


def test_methods_as_functions() -> None:
    x = P.tensor([[1.0, -2.0], [3.0, 0.5]])
    assert P.exp(x).equal(x.exp()) and P.mean(x, 0).equal(x.mean(0)) and P.sum(x, dim=1).equal(x.sum(1))
    values, indices = P.max(x, 1)
    assert values.tolist() == [1.0, 3.0] and indices.tolist() == [0, 0]
    assert P.cat is P.concat and P.exp.__name__ == "exp" and "x.exp" in (P.exp.__doc__ or "")
    for name in METHODS:
        assert callable(getattr(P.Tensor, name)) and callable(getattr(P, name)), name


def test_every_elementwise_method_is_a_function_too() -> None:
    methods = [name for name, value in vars(Arithmetic).items() if callable(value) and not name.startswith("_")]
    missing = [name for name in methods if not hasattr(P, name)]
    assert missing == [], "add them to METHODS in pellucid/functional/methods.py"
