"""Tensor's methods, each against NumPy's word for the same thing; then making, printing, copying and leaving."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import pellucid as P
from pellucid.autograd import gradcheck
from pellucid.errors import DTypeError, GradientError, OptionError, ShapeError
from pellucid.tensor import Parameter, Tensor

X = np.random.default_rng(1).normal(size=(3, 4, 2)) * 2
ABOVE = np.abs(X) + 0.1

# expression over `x` (a Tensor) : the same over `a` (its array), with `np`; `p` and `b` are the positive ones
METHODS = {
    "x.exp()": "np.exp(a)", "x.expm1()": "np.expm1(a)", "p.log()": "np.log(b)", "p.log1p()": "np.log1p(b)",
    "p.log2()": "np.log2(b)", "p.log10()": "np.log10(b)", "p.sqrt()": "np.sqrt(b)", "p.rsqrt()": "b ** -0.5",
    "x.square()": "a * a", "p.reciprocal()": "1 / b", "x.sin()": "np.sin(a)", "x.cos()": "np.cos(a)",
    "x.tanh()": "np.tanh(a)", "x.abs()": "abs(a)", "abs(x)": "abs(a)", "-x": "-a", "+x": "a",
    "x.floor()": "np.floor(a)", "x.ceil()": "np.ceil(a)", "x.trunc()": "np.trunc(a)", "x.round()": "np.round(a)",
    "x.sign()": "np.sign(a)", "x.maximum(p - 1)": "np.maximum(a, b - 1)", "x.minimum(0.3)": "np.minimum(a, 0.3)",
    "x.clamp(-1, 0.5)": "a.clip(-1, 0.5)", "x.clamp(min=0)": "a.clip(0)", "x + 1": "a + 1", "1 - x": "1 - a",
    "x * x": "a * a", "2 / p": "2 / b", "x // 0.7": "a // 0.7", "7 // p": "7 // b", "x % 0.7": "a % 0.7",
    "5 % p": "5 % b", "x ** 3": "a ** 3", "p ** 0.5": "b ** 0.5", "p ** 2.5": "b ** 2.5", "2 ** x": "2 ** a",
    "p.pow(x)": "b ** a", "x.lerp(p, 0.25)": "a + (b - a) * 0.25", "x > 0.2": "a > 0.2", "x >= p": "a >= b",
    "x < 0": "a < 0", "x <= p": "a <= b", "x == x": "a == a", "x != p": "a != b", "~(x > 0)": "~(a > 0)",
    "(x > 0) & (p > 1)": "(a > 0) & (b > 1)", "(x > 0) | (p > 1)": "(a > 0) | (b > 1)",
    "(x > 0) ^ (p > 1)": "(a > 0) ^ (b > 1)", "x.logical_not()": "~(a != 0)", "True & (x > 0)": "a > 0",
    "x.isnan()": "np.isnan(a)", "x.isinf()": "np.isinf(a)", "x.isfinite()": "np.isfinite(a)",
    "x.masked_fill(x > 0, 9.0)": "np.where(a > 0, 9.0, a)", "x.sum()": "a.sum()", "x.sum(1)": "a.sum(1)",
    "x.sum((0, -1), keepdim=True)": "a.sum((0, 2), keepdims=True)", "x.mean(-1)": "a.mean(-1)",
    "x.mean()": "a.mean()", "x.var(1)": "a.var(1, ddof=1)", "x.var()": "a.var(ddof=1)",
    "x.std(0, unbiased=False)": "a.std(0)", "x.var((0, 1), correction=2)": "a.var((0, 1), ddof=2)",
    "x.amax(1)": "a.max(1)", "x.amin((0, 2), keepdim=True)": "a.min((0, 2), keepdims=True)", "x.max()": "a.max()",
    "x.min()": "a.min()", "x.max(1).values": "a.max(1)", "x.max(1).indices": "a.argmax(1)",
    "x.min(0, keepdim=True)[1]": "a.argmin(0)[None]", "x.argmax()": "a.argmax()", "x.argmin(2)": "a.argmin(2)",
    "x.prod(1)": "a.prod(1)", "x.prod()": "a.prod()", "x.cumsum(1)": "a.cumsum(1)",
    "x.logsumexp((0, 1))": "np.log(np.exp(a).sum((0, 1)))", "x.norm()": "np.linalg.norm(a)",
    "x.norm(1, 0)": "abs(a).sum(0)", "x.norm(3, 1, True)": "(abs(a) ** 3).sum(1, keepdims=True) ** (1 / 3)",
    "x.norm(math.inf)": "abs(a).max()", "(x > 0).any(1)": "(a > 0).any(1)", "(x > 0).all()": "(a > 0).all()",
    "x.reshape(4, -1)": "a.reshape(4, -1)", "x.view(24)": "a.reshape(24)", "x.flatten(1)": "a.reshape(3, 8)",
    "x.unflatten(1, (2, -1))": "a.reshape(3, 2, 2, 2)", "x.T": "a.T", "x.mT": "a.transpose(0, 2, 1)",
    "x.permute(2, 0, 1)": "a.transpose(2, 0, 1)", "x.transpose(0, -1)": "a.swapaxes(0, 2)",
    "x.movedim(0, 2)": "np.moveaxis(a, 0, 2)", "x.unsqueeze(-1)": "a[..., None]", "x.unsqueeze(1).squeeze(1)": "a",
    "x[:1].squeeze()": "a[0]", "x[:, :1].expand(-1, 4, 2)": "np.broadcast_to(a[:, :1], (3, 4, 2))",
    "x[0].repeat(2, 3)": "np.tile(a[0], (2, 3))", "x.repeat_interleave(2, 1)": "a.repeat(2, 1)",
    "x.narrow(1, 1, 2)": "a[:, 1:3]", "x.split(3, 1)[1]": "a[:, 3:]", "x.split([1, 3], 1)[0]": "a[:, :1]",
    "x.chunk(2, 1)[1]": "a[:, 2:]", "x.unbind(2)[1]": "a[..., 1]", "x.select(1, -1)": "a[:, -1]",
    "x.flip(0, 2)": "a[::-1, :, ::-1]", "x.flip(dims=(1,))": "a[:, ::-1]", "x.roll(1, 1)": "np.roll(a, 1, 1)",
    "x.roll(-3)": "np.roll(a, -3)", "x.roll(shifts=(1, 2), dims=(0, 1))": "np.roll(a, (1, 2), (0, 1))",
    "x.tril()": "np.tril(a)", "x.triu(1)": "np.triu(a, 1)", "x[0].t()": "a[0].T", "x.sort(1).values": "np.sort(a, 1)",
    "x.sort(0, descending=True).values": "-np.sort(-a, 0)", "x.argsort(2)": "np.argsort(a, 2)",
    "x.topk(2, 1).values": "-np.sort(-a, 1)[:, :2]", "x.topk(1, 0, largest=False).values": "a.min(0)[None]",
    "x.gather(1, i)": "np.take_along_axis(a, i.array, 1)", "x.index_select(1, P.tensor([3, 0]))": "a[:, [3, 0]]",
    "x.masked_select(x > 0)": "a[a > 0]", "x.nonzero()": "np.argwhere(a)",
    "x.round().unique()": "np.unique(np.round(a))", "x @ x.mT": "a @ a.swapaxes(1, 2)",
    "x[0] @ x[0, 1]": "a[0] @ a[0, 1]", "x[:, 0, 0] @ x[:, 1, 1]": "a[:, 0, 0] @ a[:, 1, 1]",
    "x[0, :, 0] @ x": "a[0, :, 0] @ a", "P.cat([x, p], 1)": "np.concatenate([a, b], 1)",
    "P.stack([x, p], -1)": "np.stack([a, b], -1)", "P.where(x > 0, x, p)": "np.where(a > 0, a, b)",
    "x.scatter_add(1, i, P.ones(3, 2, 2))": "scattered(a, i.array)", "x.where(x > 0, 0)": "np.where(a > 0, a, 0)",
}  # fmt: skip


def scattered(a: np.ndarray, index: np.ndarray) -> np.ndarray:
    result = a.copy()
    for place in np.ndindex(index.shape):
        result[place[0], index[place], place[2]] += 1
    return result


@pytest.mark.parametrize("expression", METHODS)
def test_methods_against_numpy(expression: str) -> None:
    index = P.tensor(np.random.default_rng(2).integers(0, 4, (3, 2, 2)))
    names = {"np": np, "P": P, "math": math, "i": index, "scattered": scattered}
    result = eval(expression, {**names, "x": P.tensor(X), "p": P.tensor(ABOVE)})
    expected = np.asarray(eval(METHODS[expression], {**names, "a": X, "b": ABOVE}))
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    np.testing.assert_allclose(result.array, expected, rtol=1e-12, atol=1e-12)


STEPS = [
    "floor",
    "ceil",
    "trunc",
    "round",
    "sign",
    "//",
    "is",
    "arg",
    "indices",
    "keepdim=True)[1]",
    "nonzero",
    "unique",
    "logical",
    ">",
    "<",
    "==",
    "!=",
]
SMOOTH = [name for name in METHODS if not any(word in name for word in STEPS)]


@pytest.mark.parametrize("expression", SMOOTH)
def test_methods_have_right_gradients(expression: str) -> None:
    index = P.tensor(np.random.default_rng(2).integers(0, 4, (3, 2, 2)))

    def function(x: Tensor, p: Tensor) -> Tensor:
        return eval(expression, {"P": P, "math": math, "i": index, "x": x, "p": p})

    assert gradcheck(function, [P.tensor(X, requires_grad=True), P.tensor(ABOVE, requires_grad=True)], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3, min_side=0), st.sampled_from("+-*/"))
def test_broadcasting_follows_numpy_there_and_back(shapes: Any, sign: str) -> None:
    random = np.random.default_rng(3)
    a, b = (random.uniform(0.5, 2, shape) for shape in shapes.input_shapes)
    x, y = P.tensor(a, requires_grad=True), P.tensor(b, requires_grad=True)
    result = eval(f"x {sign} y")
    expected = np.asarray(eval(f"a {sign} b"))
    assert result.shape == expected.shape
    np.testing.assert_array_equal(result.array, expected)
    result.sum().backward()
    assert x.grad.shape == a.shape and y.grad.shape == b.shape
    if sign == "+":  # each number counts once for every place it was repeated to
        assert x.grad.array.sum() == y.grad.array.sum() == expected.size


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_matmul_follows_numpy(data: st.DataObject) -> None:
    m, k, n = (data.draw(st.integers(0, 3)) for _ in range(3))
    batch = data.draw(arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=3))
    random = np.random.default_rng(4)
    left = random.normal(size=(*batch.input_shapes[0], m, k)) if data.draw(st.booleans()) else random.normal(size=(k,))
    right = random.normal(size=(*batch.input_shapes[1], k, n)) if data.draw(st.booleans()) else random.normal(size=(k,))
    result = P.tensor(left) @ P.tensor(right)
    expected = left @ right
    assert result.shape == expected.shape
    np.testing.assert_allclose(result.array, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    arrays.arrays(np.float64, arrays.array_shapes(max_dims=3, max_side=4), elements=st.integers(0, 3).map(float)),
    st.data(),
)
def test_sorting_is_stable_with_ties_and_nan_last(a: np.ndarray, data: st.DataObject) -> None:
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    a.flat[data.draw(st.integers(0, a.size - 1))] = np.nan
    up, down = P.tensor(a).sort(axis), P.tensor(a).sort(axis, descending=True)
    np.testing.assert_array_equal(up.indices.array, np.argsort(a, axis, kind="stable"))
    np.testing.assert_array_equal(up.values.array, np.sort(a, axis))
    np.testing.assert_array_equal(np.take_along_axis(a, down.indices.array, axis), down.values.array)
    kept = np.moveaxis(np.where(np.isnan(down.values.array), -1, down.values.array), axis, 0)
    finite = kept[:-1][(kept[:-1] >= 0) & (kept[1:] >= 0)] - kept[1:][(kept[:-1] >= 0) & (kept[1:] >= 0)]
    assert (finite >= 0).all()
    ties = np.moveaxis(down.indices.array, axis, 0)
    equal = np.moveaxis(down.values.array, axis, 0)
    assert (np.diff(ties, axis=0)[np.diff(equal, axis=0) == 0] > 0).all()


# ---- numbers with no axis, blocks with no numbers --------------------------------------------------------------------


def test_a_number_takes_part_in_everything() -> None:
    x = P.tensor(3.0, requires_grad=True)
    for value in (
        x.sum(),
        x.mean(-1),
        x.amax(0),
        x.softmax(0).log() + x,
        x.logsumexp(0),
        x.cumsum(0),
        x.prod(0),
        x.sort().values,
        x.max(0).values,
        x.squeeze(),
        x.flatten()[0],
        x.T,
        x.t(),
        x.reshape(()),
        x[...],
        x[None][0],
        x.norm(),
    ):
        assert value.item() == 3.0 and value.requires_grad
    assert x.argmax(0).item() == x.max(0).indices.item() == x.argsort().item() == 0
    assert (x.numel(), x.dim(), x.shape, x.tolist(), len(x.nonzero())) == (1, 0, (), 3.0, 1)
    for call in (x.size, x.unbind, x.narrow, x.select, x.split, x.flip, x.topk, x.index_select):
        with pytest.raises((ShapeError, P.errors.IndexRangeError), match="0-d"):
            call(
                *{
                    "narrow": (0, 0, 1),
                    "select": (0, 0),
                    "split": (1,),
                    "topk": (1,),
                    "index_select": (0, P.tensor([0])),
                }.get(call.__name__, (0,))
            )


def test_no_numbers_at_all() -> None:
    x = P.zeros(0, 3, requires_grad=True)
    y = (x.exp() @ P.ones(3, 2)).relu().reshape(2, 0).T
    assert y.shape == (0, 2) and y.sum().item() == 0.0
    (y.sum() + x.prod() + x.norm(1)).backward()
    assert x.grad.shape == (0, 3)
    assert x.sum(0).tolist() == [0.0, 0.0, 0.0] and x.prod(0).tolist() == [1.0, 1.0, 1.0] and x.mean().isnan()
    assert (
        P.cat([x, P.ones(1, 3)]).shape == (1, 3) and x.sort(0).values.shape == (0, 3) and x.T.softmax(0).shape == (3, 0)
    )
    assert not x.any() and x.all() and x.nonzero().shape == (0, 2) and x.tolist() == []
    for call in (x.max, x.argmax, x.amin, lambda: x.max(0)):
        with pytest.raises(ShapeError, match="no numbers"):
            call()


# ---- making ----------------------------------------------------------------------------------------------------------


def test_tensor_from_data() -> None:
    for data, dtype, shape in [
        (3, P.int64, ()),
        (3.5, P.float32, ()),
        (True, P.bool, ()),
        ([1, 2], P.int64, (2,)),
        ([[1.0], [2]], P.float32, (2, 1)),
        ([], P.float32, (0,)),
        (np.float64(2), P.float64, ()),
        (np.zeros(2), P.float64, (2,)),
        (np.zeros(2, np.float16), P.float32, (2,)),
        (np.zeros(2, np.int8), P.int32, (2,)),
        (np.zeros(2, np.int16), P.int32, (2,)),
        (np.zeros(2, np.uint16), P.int64, (2,)),
        ((1, 2.5), P.float32, (2,)),
        ([True, False], P.bool, (2,)),
        (np.zeros((2, 0), np.uint8), P.uint8, (2, 0)),
        ([P.tensor(1.0), 2], P.float32, (2,)),
        (range(3), P.int64, (3,)),
        (P.ones(2, dtype=P.int32), P.int32, (2,)),
    ]:
        made = P.tensor(data)
        assert (made.dtype, made.shape) == (dtype, shape), data
    assert P.tensor([1.9, -1.9], dtype=P.int64).tolist() == [1, -1]
    assert P.tensor([1, 2], dtype=P.float64, requires_grad=True).requires_grad


@pytest.mark.parametrize(
    "data", ["text", None, 1j, [[1, 2], [3]], ["a"], {"a": 1}, 2**70, np.array([2**63], np.uint64), object()]
)
def test_what_is_no_tensor(data: Any) -> None:
    with pytest.raises((DTypeError, ShapeError), match=r"^tensor: .*expected"):
        P.tensor(data)


def test_makers() -> None:
    assert P.zeros(2, 3).shape == P.zeros((2, 3)).shape == P.ones([2, 3]).shape == (2, 3)
    assert P.zeros(2).dtype == P.float32 and P.zeros(2, dtype=P.bool).dtype == P.bool and P.zeros(()).shape == ()
    assert (
        P.full((2,), 3).dtype == P.int64 and P.full((2,), 3.0).dtype == P.float32 and P.full((1,), True).dtype == P.bool
    )
    assert (
        P.arange(3).tolist() == [0, 1, 2]
        and P.arange(1, 2, 0.5).tolist() == [1.0, 1.5]
        and P.arange(2.0).dtype == P.float32
    )
    assert P.arange(3, 0, -1).tolist() == [3, 2, 1] and P.arange(1, 0).shape == (0,)
    assert P.linspace(0, 1, 3).tolist() == [0.0, 0.5, 1.0] and P.eye(2, 3).tolist() == [[1, 0, 0], [0, 1, 0]]
    x = P.ones(2, dtype=P.int32)
    assert (
        P.zeros_like(x).dtype == P.int32
        and P.ones_like(x, dtype=P.float64).dtype == P.float64
        and P.full_like(x, 7).tolist() == [7, 7]
    )
    assert (
        x.new_zeros(3).dtype == P.int32 and x.new_ones(2, 2).sum().item() == 4 and x.new_tensor([1.5]).tolist() == [1]
    )
    assert P.as_tensor(x) is x and P.as_tensor([1, 2]).tolist() == [1, 2] and P.is_tensor(x) and not P.is_tensor([1])
    for call, error in [
        (lambda: P.zeros(-1), ShapeError),
        (lambda: P.zeros(2.5), ShapeError),
        (lambda: P.eye(-1), ShapeError),
        (lambda: P.arange(0, 3, 0), OptionError),
        (lambda: P.zeros(2, dtype="complex64"), DTypeError),
        (lambda: P.zeros(2, dtype="bogus"), DTypeError),
        (lambda: P.cat([]), OptionError),
        (lambda: P.stack([]), OptionError),
        (lambda: P.stack([P.ones(2), P.ones(3)]), ShapeError),
        (lambda: P.ones(2, dtype=P.int64).requires_grad_(), DTypeError),
    ]:
        with pytest.raises(error, match="expected"):
            call()


def test_dtypes_and_devices() -> None:
    x = P.tensor([1.7, -0.2, 0.0])
    assert (x.double().dtype, x.long().tolist(), x.int().dtype, x.bool().tolist()) == (
        P.float64,
        [1, 0, 0],
        P.int32,
        [True, True, False],
    )
    assert (
        x.to(P.float32) is x
        and x.to("cpu") is x
        and x.cpu() is x
        and x.to(P.device("cpu"), P.float64).dtype == P.float64
    )
    assert x.to(P.ones(1, dtype=P.float64)).dtype == P.float64 and x.type_as(P.ones(1, dtype=P.int64)).dtype == P.int64
    assert str(x.device) == "cpu" and x.device == "cpu" and x.device == P.device("cpu:0") and not P.cuda.is_available()
    y = P.tensor([1.0, 2.0], requires_grad=True)
    y.double().sum().backward()
    assert y.grad.dtype == P.float32
    with pytest.raises(OptionError, match=r'device: \'cuda\'; expected "cpu".*is_available'):
        x.to("cuda")
    with pytest.raises(DTypeError, match="complex"):
        x.to(np.complex64)


# ---- leaving ---------------------------------------------------------------------------------------------------------


def test_out_to_python() -> None:
    x = P.tensor([[1.5]])
    assert (x.item(), float(x), int(x), bool(x), x.tolist(), f"{x:.2f}") == (1.5, 1.5, 1, True, [[1.5]], "1.50")
    assert [10, 20, 30][P.tensor(1)] == 20 and list(range(P.tensor(2))) == [0, 1]
    assert [row.tolist() for row in P.tensor([[1, 2], [3, 4]])] == [[1, 2], [3, 4]] and len(P.ones(3, 2)) == 3
    assert 2.0 in P.tensor([1.0, 2.0]) and 5.0 not in P.tensor([1.0])
    a, b = P.tensor([1, 2])
    assert (a.item(), b.item()) == (1, 2)
    for call, error in [
        (lambda: P.ones(2).item(), ShapeError),
        (lambda: bool(P.ones(2)), ShapeError),
        (lambda: len(P.tensor(1.0)), ShapeError),
        (lambda: [1, 2][P.tensor(1.0)], DTypeError),
        (lambda: P.ones(1, requires_grad=True).numpy(), GradientError),
    ]:
        with pytest.raises(error, match="expected"):
            call()


def test_numpy_meets_tensors() -> None:
    x = P.tensor([1.0, 2.0])
    assert np.asarray(x).dtype == np.float32 and np.asarray(x, np.float64).tolist() == [1.0, 2.0]
    assert isinstance(np.array([1.0, 1.0], np.float32) + x, Tensor) and isinstance(np.float32(2) * x, Tensor)
    assert isinstance(x * np.ones(2), Tensor) and (x * np.ones(2)).dtype == P.float64
    assert np.array(x).flags.writeable


def test_printing() -> None:
    assert (
        repr(P.tensor([1.0, 2.5])) == "tensor([1.0000, 2.5000])" or repr(P.tensor([1.0, 2.5])) == "tensor([1.0, 2.5])"
    )
    assert repr(P.tensor([1, 2])) == "tensor([1, 2])" and repr(P.tensor(True)) == "tensor(True)"
    assert "dtype=float64" in repr(P.zeros(1, dtype=P.float64)) and "requires_grad=True" in repr(
        P.ones(1, requires_grad=True)
    )
    assert "made by exp" in repr(P.ones(1, requires_grad=True).exp())
    assert repr(Parameter(P.ones(1))).startswith("Parameter containing:\ntensor(")
    html = P.tensor([[1.0]])._repr_html_()
    assert "Tensor (1, 1) float32" in html and "<pre>" in html
    assert len(repr(P.zeros(1000, 1000))) < 2000


def test_copies() -> None:
    x = P.tensor([1.0, 2.0], requires_grad=True)
    (x * 2).sum().backward()
    twin = copy.deepcopy({"a": x, "b": x})
    assert twin["a"] is twin["b"] and twin["a"] is not x
    assert twin["a"].requires_grad and twin["a"].grad.tolist() == [2.0, 2.0]
    with P.no_grad():
        twin["a"].add_(5)
        twin["a"].grad.zero_()
    assert x.tolist() == [1.0, 2.0] and x.grad.tolist() == [2.0, 2.0]
    assert isinstance(copy.deepcopy(Parameter(P.ones(2))), Parameter)
    with pytest.raises(GradientError, match=r"deepcopy.*multiply.*detach"):
        copy.deepcopy(x * 2)
    assert len({x, P.ones(2)}) == 2 and x in {x: 1}


def test_parameter() -> None:
    p = Parameter(np.ones(2, np.float32))
    assert (
        p.requires_grad
        and p.is_leaf
        and isinstance(p, Tensor)
        and not Parameter(P.ones(1), requires_grad=False).requires_grad
    )
    assert type(p * 2) is Tensor and not isinstance(p.detach(), Parameter)
    with pytest.raises(DTypeError, match="Parameter: int64; expected floating-point"):
        Parameter(P.arange(3))


# ---- changing --------------------------------------------------------------------------------------------------------


def test_assign() -> None:
    x = P.zeros(2, 2)
    source = np.ones((2, 2), np.float32)
    x.assign(source)
    source[0, 0] = 9
    assert x.tolist() == [[1, 1], [1, 1]]
    assert x.assign(3).tolist() == [[3, 3], [3, 3]] and x.assign(P.tensor([1, 2])).tolist() == [[1, 2], [1, 2]]
    assert x.assign(np.zeros((2, 2))).dtype == P.float32
    with pytest.raises(ShapeError, match=r"assign: \(3,\) into a Tensor \(2, 2\); expected the same shape"):
        x.assign(P.ones(3))
    with pytest.raises(ShapeError, match="assign"):
        x.assign(P.ones(1, 2, 2))
    other = P.ones(2, 2)
    x.assign(other)
    other.mul_(5)
    assert x.sum().item() == 4


IN_PLACE: list[tuple[Callable[[Tensor], Any], list[float]]] = [
    (lambda x: x.add_(1), [2.0, -1.0]),
    (lambda x: x.sub_(P.tensor([1.0, 1.0]), alpha=2), [-1.0, -4.0]),
    (lambda x: x.mul_(3), [3.0, -6.0]),
    (lambda x: x.div_(2), [0.5, -1.0]),
    (lambda x: x.zero_(), [0.0, 0.0]),
    (lambda x: x.fill_(7), [7.0, 7.0]),
    (lambda x: x.copy_(5), [5.0, 5.0]),
    (lambda x: x.copy_([8, 9]), [8.0, 9.0]),
    (lambda x: x.clamp_(-1, 0), [0.0, -1.0]),
    (lambda x: x.relu_(), [1.0, 0.0]),
    (lambda x: x.detach_(), [1.0, -2.0]),
]


@pytest.mark.parametrize("case", range(len(IN_PLACE)))
def test_underscore_methods_change_and_return_the_same_tensor(case: int) -> None:
    method, expected = IN_PLACE[case]
    x = P.tensor([1.0, -2.0])
    assert method(x) is x and x.tolist() == expected


def test_what_in_place_methods_refuse() -> None:
    x, n = P.ones(2), P.ones(2, dtype=P.int64)
    for call, error in [
        (lambda: x.add_(P.ones(3, 2)), ShapeError),
        (lambda: x.copy_(P.ones(3)), ShapeError),
        (lambda: n.add_(0.5), DTypeError),
        (lambda: n.div_(2), DTypeError),
        (lambda: (n > 0).add_(1), DTypeError),
        (lambda: x.__setattr__("grad", P.ones(3)), ShapeError),
        (lambda: x.__setattr__("grad", 3), ShapeError),
    ]:
        with pytest.raises(error, match=r"expected|only axes"):
            call()
    assert n.tolist() == [1, 1] and n.add_(P.tensor(2)).tolist() == [3, 3] and x.add_(n).dtype == P.float32


def test_alpha_scales_what_is_no_tensor_yet() -> None:
    x = P.tensor([1.0, 2.0, 3.0, 4.0])
    for other in ([1.0, 2.0, 3.0, 4.0], (1.0, 2.0, 3.0, 4.0), np.arange(1.0, 5.0, dtype=np.float32)):
        assert x.add(other, alpha=2).tolist() == [3.0, 6.0, 9.0, 12.0]
        assert x.sub(other, alpha=2).tolist() == [-1.0, -2.0, -3.0, -4.0]
        assert x.clone().add_(other, alpha=2).tolist() == [3.0, 6.0, 9.0, 12.0]
    with pytest.raises(ShapeError):  # a list times 2 is the list twice
        x.add([1.0, 2.0], alpha=2)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x @ 2, lambda x: 2 @ x, lambda x: P.matmul(x, None), lambda x: P.where(True, x, 0),
        lambda x: P.where([True], x, 0), lambda x: x.gather(0, [0]), lambda x: x.index_select(0, [0]),
        lambda x: x.scatter_add(0, P.tensor([0]), [1.0]), lambda x: x.scatter_add(0, [0], P.tensor([1.0])),
        lambda x: x.masked_fill([True, False], 0), lambda x: P.functional.embedding([0], x.reshape(2, 1)),
    ],
)  # fmt: skip
def test_numbers_and_lists_in_place_of_tensors_are_refused(call: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(DTypeError, match="expected a Tensor"):
        call(P.tensor([1.0, 2.0]))


def test_roll_pairs_shifts_with_dims() -> None:
    x = P.tensor([[1, 2, 3], [4, 5, 6]])
    for shifts, dims in [(1, (1,)), ([1], 1), (1, 1), ((1, -1), (0, 1)), ((4,), None)]:
        assert np.array_equal(x.roll(shifts, dims).numpy(), np.roll(x.numpy(), shifts, dims)), (shifts, dims)
    with pytest.raises(OptionError, match="one shift for each dim"):
        x.roll((1, 2), 0)
