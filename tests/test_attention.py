"""Scaled dot-product attention: the numbers of a plain loop, PyTorch's semantics, gradients, and the compiled step."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid.autograd import grad, gradcheck
from pellucid.errors import DTypeError, OptionError, ShapeError
from pellucid.ops import attention
from pellucid.tensor import Tensor

attend = P.functional.scaled_dot_product_attention
Sizes = tuple[int, ...]

CASES: list[tuple[Sizes, Sizes, Sizes, Sizes | None, str]] = [  # query, key, value, mask, kind of mask
    ((2, 3, 5, 4), (2, 3, 5, 4), (2, 3, 5, 4), None, ""),
    ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6), None, ""),
    ((7, 4), (5, 4), (5, 6), None, ""),
    ((3, 1, 4), (3, 19, 4), (3, 19, 1), (3, 1, 19), "bool"),
    ((2, 5, 4), (7, 4), (2, 7, 6), (5, 7), "bool"),
    ((2, 1, 3, 5, 4), (2, 2, 1, 7, 4), (7, 6), (2, 2, 1, 5, 7), "bool"),
    ((2, 1, 3, 5, 4), (2, 2, 1, 7, 4), (7, 6), (2, 1, 1, 5, 1), "float"),
    ((2, 2, 33, 17), (2, 2, 40, 17), (2, 2, 40, 9), (2, 1, 1, 40), "float"),
    ((1, 2, 70, 32), (1, 2, 150, 32), (1, 2, 150, 32), (70, 150), "bool"),
]
GROUPED: list[tuple[Sizes, Sizes, Sizes, Sizes | None, str]] = [
    ((2, 6, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6), None, ""),
    ((6, 5, 4), (1, 7, 4), (1, 7, 6), (5, 7), "float"),
]
ALL = [
    (case, causal, grouped)
    for cases, grouped in ((CASES, False), (GROUPED, True))
    for case, causal in itertools.product(cases, (False, True))
]


def arrays_of(case: Any, dtype: Any = np.float32) -> list[np.ndarray]:
    random = np.random.default_rng(len(repr(case)))
    *sizes, mask, kind = case
    arrays = [random.normal(size=size).astype(dtype) for size in sizes]
    if mask is not None:
        m = random.normal(size=mask)
        arrays.append(m > 0.3 if kind == "bool" else m.astype(dtype))
    return arrays


def by_hand(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: float | None = None) -> np.ndarray:
    """One query at a time, in float64."""
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (np.broadcast_to(x, (*lead, *x.shape[-2:])).astype(np.float64) for x in (q, k, v))
    length, keys = q.shape[-2], k.shape[-2]
    mask = np.zeros(()) if mask is None else np.where(mask, 0.0, -np.inf) if mask.dtype == np.bool_ else mask
    mask = np.broadcast_to(mask, (*lead, length, keys))
    result = np.zeros((*lead, length, v.shape[-1]))
    for place in np.ndindex(*lead, length):
        head, t = place[:-1], place[-1]
        scores = k[head] @ q[place] * (q.shape[-1] ** -0.5 if scale is None else scale) + mask[place]
        seen = np.isfinite(scores) & ((np.arange(keys) <= t) | (not causal))
        e = np.exp(scores[seen] - scores[seen].max(initial=-np.inf))
        if seen.any():
            result[place] = e @ v[head][seen] / e.sum()
    return result


def repeated(x: np.ndarray, heads: int) -> np.ndarray:
    return np.repeat(x, heads // x.shape[-3], axis=-3)


def step(q: Tensor, k: Tensor, v: Tensor, g: Tensor, *mask: Tensor, **how: Any) -> tuple[Tensor, ...]:
    leaves = [x.detach().requires_grad_() for x in (q, k, v)]
    y = attend(*leaves, *mask, **how)
    return (y.detach(), *grad([y], leaves, [g]))


# ---- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "causal", "grouped"), ALL)
def test_equals_a_plain_loop(case: Any, causal: bool, grouped: bool) -> None:
    q, k, v, *mask = arrays_of(case, np.float64)
    y = attend(*map(P.tensor, (q, k, v, *mask)), is_causal=causal, scale=0.3, enable_gqa=grouped)
    if grouped:
        k, v = repeated(k, q.shape[-3]), repeated(v, q.shape[-3])
    np.testing.assert_allclose(y.numpy(), by_hand(q, k, v, *mask, causal=causal, scale=0.3), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("case", "causal", "grouped"), ALL)
def test_the_compiled_step_gives_the_eager_numbers_with_any_threads(case: Any, causal: bool, grouped: bool) -> None:
    arrays = [P.tensor(x) for x in arrays_of(case)]
    how = {"is_causal": causal, "enable_gqa": grouped}
    arrays.insert(3, P.tensor(np.random.default_rng(1).normal(size=attend(*arrays, **how).shape).astype(np.float32)))
    eager = [x.numpy() for x in step(*arrays, **how)]
    before, found = P.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            P.set_num_threads(threads)
            compiled = P.compile(lambda *given: step(*given, **how))
            found.append([x.numpy().copy() for x in compiled(*arrays)])
            kinds = [k.name for k in compiled.kernels(measure=False)]
            assert "python" not in kinds
    finally:
        P.set_num_threads(before)
    for a, b in zip(found[0], eager, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=3e-6)
    for other in found[1:]:
        assert [x.tobytes() for x in other] == [x.tobytes() for x in found[0]]


def test_a_compiled_step_moves_nothing_around_the_kernels() -> None:
    arrays = [P.tensor(np.random.default_rng(i).normal(size=(2, 2, 20, 8)).astype(np.float32)) for i in range(4)]
    compiled = P.compile(step)
    compiled(*arrays)
    names = [name for kernel in compiled.kernels(measure=False) for name, _ in kernel.operations]
    assert "pad" not in names
    assert names.count("attention") == names.count("attention_gradient") == 1


def test_the_default_scale_and_large_heads() -> None:
    random = np.random.default_rng(2)
    channels = attention.LARGEST_HEAD + 1  # done by plain products
    q, k, v = (random.normal(size=(2, 3, channels)) for _ in range(3))
    np.testing.assert_allclose(attend(*map(P.tensor, (q, k, v))).numpy(), by_hand(q, k, v), rtol=1e-12)


def test_large_scores_do_not_overflow() -> None:
    q = P.tensor([[[100.0, 0.0], [0.0, -100.0]]])
    k = P.tensor([[[100.0, 0.0], [0.0, 100.0]]])
    v = P.tensor([[[1.0], [2.0]]])
    for call in (attend, P.compile(attend)):
        np.testing.assert_allclose(call(q, k, v, scale=1.0).numpy(), [[[1.0], [1.0]]])


# ---- what a query may look at --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [[[True, False], [False, False]], [[0.0, -np.inf], [-np.inf, -np.inf]]])
def test_a_query_that_may_look_at_nothing_gives_zeros_and_takes_no_gradient(mask: Any) -> None:
    q, k, v, g = (P.tensor(np.random.default_rng(i).normal(size=(1, 2, 3)).astype(np.float32)) for i in range(4))
    given = P.tensor(np.asarray(mask, None if mask[0][0] is True else np.float32))
    for run in (step, P.compile(step)):
        y, dq, dk, dv = (x.numpy() for x in run(q, k, v, g, given))
        assert (y[0, 1] == 0).all() and (dq[0, 1] == 0).all() and (dk[0, 1] == 0).all() and (dv[0, 1] == 0).all()
        np.testing.assert_allclose(y[0, 0], v.numpy()[0, 0], rtol=1e-6)


def test_no_keys_give_zeros() -> None:
    for call in (attend, P.compile(attend)):
        assert (
            call(P.ones(1, 2, 4, 3), P.zeros(1, 2, 0, 3), P.zeros(1, 2, 0, 3)).numpy() == np.zeros((1, 2, 4, 3))
        ).all()
        assert call(P.zeros(1, 2, 0, 3), P.ones(1, 2, 4, 3), P.ones(1, 2, 4, 3)).shape == (1, 2, 0, 3)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_nan_stays_in_its_head(which: int) -> None:
    arrays = [np.random.default_rng(i).normal(size=(2, 2, 20, 8)).astype(np.float32) for i in range(4)]
    arrays[which][1, 0, 4, 3] = np.nan
    given = [P.tensor(x) for x in arrays]
    for run in (step, P.compile(step)):
        for x in run(*given):
            wrong = np.isnan(x.numpy()).any((2, 3))
            assert not wrong[0].any() and not wrong[1, 1]
        assert np.isnan(run(*given)[0].numpy()[1, 0]).any()


# ---- gradients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_to_second_order_the_masks_too(causal: bool) -> None:
    arrays = arrays_of(((1, 2, 3, 2), (1, 1, 4, 2), (1, 1, 4, 3), (3, 4), "float"), np.float64)
    leaves = [P.tensor(x, requires_grad=True) for x in arrays]
    assert gradcheck(lambda *x: attend(*x, is_causal=causal, enable_gqa=True), leaves, order=2, atol=2e-5)


def test_both_ways_to_the_gradient_agree() -> None:
    arrays = [P.tensor(x, requires_grad=True) for x in arrays_of(GROUPED[0], np.float64)]
    y = attend(*arrays, enable_gqa=True, is_causal=True)
    g = P.tensor(np.random.default_rng(0).normal(size=y.shape))
    plain = grad([y], arrays, [g], retain_graph=True)
    differentiable = grad([y], arrays, [g], create_graph=True)
    for a, b in zip(plain, differentiable, strict=True):
        assert b.requires_grad
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-11, atol=1e-13)


def test_dropout_drops_weights_and_keeps_their_mean() -> None:
    P.manual_seed(0)
    q, v = P.zeros(1, 4, 64, 8), P.ones(1, 4, 64, 8)
    y = attend(q, q, v, dropout_p=0.25).numpy()
    assert len(np.unique(y)) > 10
    assert y.mean() == pytest.approx(1.0, abs=0.03)
    assert (attend(q, q, v, dropout_p=1.0).numpy() == 0).all()


# ---- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "how", "words"),
    [
        ([(3, 4), (3, 5), (3, 5)], {}, "channels"),
        ([(3, 4), (3, 4), (2, 4)], {}, "equal heads and length"),
        ([(2, 3, 4), (3, 3, 4), (3, 3, 4)], {}, "leading axes"),
        ([(2, 4, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4)], {}, "enable_gqa"),
        ([(2, 4, 3, 4), (2, 3, 3, 4), (2, 3, 3, 4)], {"enable_gqa": True}, "multiple of the key's 3 heads"),
        ([(3, 4), (3, 4), (3, 4)], {"enable_gqa": True}, "heads"),
        ([(4,), (3, 4), (3, 4)], {}, "length, channels"),
        ([(3, 4), (5, 4), (5, 4), (3, 3)], {}, "broadcasts to (3, 5)"),
    ],
)
def test_shapes_that_do_not_fit(sizes: list[Sizes], how: dict[str, Any], words: str) -> None:
    with pytest.raises(ShapeError, match="expected") as error:
        attend(*[P.ones(*size) for size in sizes], **how)
    assert words in str(error.value)


def test_dtypes_and_options() -> None:
    x = P.ones(3, 4)
    for given in (
        [x, x.double(), x],
        [x.long()] * 3,
        [x, x, x, P.ones(3, 3, dtype=P.int64)],
        [x, x, x, x.double()[:, :3]],
    ):
        with pytest.raises(DTypeError, match=r"expected.*convert"):
            attend(*given)
    with pytest.raises(OptionError, match="probability"):
        attend(x, x, x, dropout_p=1.5)


# ---- PyTorch -----------------------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize(("case", "causal", "grouped"), ALL)
def test_pytorch_gives_the_same(case: Any, causal: bool, grouped: bool) -> None:
    torch = pytest.importorskip("torch")
    arrays = arrays_of(case)
    if causal and len(arrays) > 3:
        pytest.skip("PyTorch documents a mask and is_causal as exclusive")
    how = {"is_causal": causal, "enable_gqa": grouped}
    theirs = [torch.tensor(x) for x in arrays]
    leaves = [x.requires_grad_() for x in theirs[:3]]
    y = torch.nn.functional.scaled_dot_product_attention(*theirs, **how)
    g = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)
    y.backward(torch.tensor(g))
    ours = step(*map(P.tensor, (*arrays[:3], g, *arrays[3:])), **how)
    for a, b in zip(ours, (y, *(x.grad for x in leaves)), strict=True):
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-4, atol=1e-5)
