"""Every entry of the registry, through its own samples: shape rule, forward, gradients to second order, and manners.

An operation added to `ops/` is tested here without a line being written: that is what `samples` are for.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid.autograd import gradcheck
from pellucid.core.op import REGISTRY, Op
from pellucid.errors import GradientError, ShapeError
from pellucid.tensor import Tensor

DIFFERENTIABLE = [op for op in REGISTRY.values() if op.gradients]


def samples_of(op: Op) -> list[tuple[list[np.ndarray], dict[str, Any]]]:
    """The operation's samples, the same at every run; whole numbers where it is not defined on others."""
    found = list(op.sample_inputs(np.random.default_rng(zlib.crc32(op.name.encode()))))
    if getattr(op, "floats", True):
        return [([np.asarray(a) for a in arrays], attributes) for arrays, attributes in found]
    return [([np.asarray(np.rint(4 * a), np.int64) for a in arrays], attributes) for arrays, attributes in found]


CASES = [
    pytest.param(op, arrays, attributes, id=f"{op.name}-{i}")
    for op in REGISTRY.values()
    for i, (arrays, attributes) in enumerate(samples_of(op))
]
GRADIENT_CASES = [case for case in CASES if case.values[0].gradients]


def locked(array: np.ndarray) -> np.ndarray:
    """A copy that raises when it is written to."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def leaf(array: np.ndarray) -> Tensor:
    value = Tensor(locked(array))
    value.requires_grad = array.dtype.kind == "f"
    return value


def strided(array: np.ndarray) -> np.ndarray:
    """The same numbers, every second of a wider block, its first axis running backwards."""
    wide = np.repeat(array[..., None], 2, axis=-1)
    wide[..., 1] = 99
    view = wide[::-1][..., 0] if array.ndim else wide[..., 0]
    return view[::-1] if array.ndim else view


# ---- shape rule and forward ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "arrays", "attributes"), CASES)
def test_the_shape_rule_tells_what_forward_gives(op: Op, arrays: list[np.ndarray], attributes: dict[str, Any]) -> None:
    for kind in (np.float64, np.float32):
        given = [a.astype(kind) if a.dtype.kind == "f" else a for a in arrays]
        spec = tuple(op.infer(*[Tensor(a) for a in given], **attributes))
        result = np.asarray(op.forward(*given, **attributes))
        assert spec == (result.shape, result.dtype)
        value = op(*[Tensor(a) for a in given], **attributes)
        assert (value.shape, value.dtype) == spec
        assert type(value.array) is np.ndarray


@pytest.mark.parametrize(("op", "arrays", "attributes"), CASES)
def test_whole_numbers_give_what_the_shape_rule_says_or_a_dtype_error(
    op: Op, arrays: list[np.ndarray], attributes: dict[str, Any]
) -> None:
    for kind in (np.int64, np.int32, np.uint8, np.bool_):
        values = [Tensor(np.abs(a).astype(kind) if a.dtype.kind == "f" else a) for a in arrays]
        try:
            result = op(*values, **attributes)
        except P.errors.DTypeError as error:
            assert "expected" in str(error)
        else:
            assert result.array.dtype == result.dtype
            assert not result.requires_grad


@pytest.mark.parametrize(("op", "arrays", "attributes"), CASES)
def test_strided_inputs_give_the_same_numbers(op: Op, arrays: list[np.ndarray], attributes: dict[str, Any]) -> None:
    plain = op(*[Tensor(a) for a in arrays], **attributes).array
    views = [strided(a) for a in arrays]
    assert all(np.array_equal(v, a) for v, a in zip(views, arrays, strict=True))
    np.testing.assert_allclose(op(*[Tensor(v) for v in views], **attributes).array, plain, rtol=1e-12, atol=1e-12)
    columns = [np.array(a, order="F") for a in arrays]
    np.testing.assert_allclose(op(*[Tensor(c) for c in columns], **attributes).array, plain, rtol=1e-12, atol=1e-12)


# ---- gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "arrays", "attributes"), GRADIENT_CASES)
def test_gradients_to_second_order(op: Op, arrays: list[np.ndarray], attributes: dict[str, Any]) -> None:
    assert gradcheck(lambda *values: op(*values, **attributes), [leaf(a) for a in arrays], order=2, atol=2e-5)


@pytest.mark.parametrize(("op", "arrays", "attributes"), GRADIENT_CASES)
def test_gradients_through_strided_inputs(op: Op, arrays: list[np.ndarray], attributes: dict[str, Any]) -> None:
    def gradients(given: list[np.ndarray]) -> list[np.ndarray]:
        values = [leaf(a) for a in given]
        result = op(*values, **attributes)
        weights = np.random.default_rng(5).normal(size=result.shape)
        result.backward(Tensor(weights))
        return [v.grad.array for v in values if v.grad is not None]

    plain, others = gradients(arrays), gradients([strided(a) for a in arrays])
    assert len(plain) == len(others) > 0
    for a, b in zip(plain, others, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("op", "arrays", "attributes"), GRADIENT_CASES)
def test_a_gradient_has_the_shape_and_dtype_of_its_input(
    op: Op, arrays: list[np.ndarray], attributes: dict[str, Any]
) -> None:
    values = [leaf(a.astype(np.float32) if a.dtype.kind == "f" else a) for a in arrays]
    result = op(*values, **attributes)
    result.backward(P.ones_like(result), create_graph=True)
    for value in values:
        if value.requires_grad:
            assert (value.grad.shape, value.grad.dtype) == (value.shape, np.float32)


@pytest.mark.parametrize(("op", "arrays", "attributes"), CASES)
def test_inputs_are_never_written(op: Op, arrays: list[np.ndarray], attributes: dict[str, Any]) -> None:
    values = [leaf(a) for a in arrays]  # locked: writing would raise
    result = op(*values, **attributes)
    if result.requires_grad:
        result.array = locked(result.array)
        result.backward(Tensor(locked(np.ones(result.shape, result.dtype))), create_graph=True)
    for value, array in zip(values, arrays, strict=True):
        assert value.array.tobytes() == np.ascontiguousarray(array).tobytes()


# ---- the registry itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_every_gradient_rule_is_reached_by_a_sample(op: Op) -> None:
    reached: set[int] = set()
    rules = None
    for arrays, attributes in samples_of(op):
        values = [leaf(a) for a in arrays]
        result = op(*values, **attributes)
        rules = op.rules(result.node)
        assert len(rules) == len(values)
        result.backward(P.ones_like(result))
        reached |= {i for i, v in enumerate(values) if v.grad is not None and v.grad.array.size}
    assert rules is not None
    assert {i for i, rule in enumerate(rules) if rule is not None} <= reached


def test_samples_cover_the_odd_cases() -> None:
    for op in REGISTRY.values():
        shapes = [tuple(a.shape for a in arrays) for arrays, _ in samples_of(op)]
        assert shapes, f"{op.name} has no samples"
        if op.kind == "elementwise":
            assert any(0 in shape for group in shapes for shape in group), f"{op.name}: no sample without numbers"
            assert any(shape == () for group in shapes for shape in group), f"{op.name}: no 0-d sample"
            if len(shapes[0]) > 1:
                assert any(len(set(group)) > 1 for group in shapes), f"{op.name}: no broadcast sample"
    for name, position in [("take", 1), ("index_add", 1), ("gather", 1), ("scatter_add", 1)]:
        indices = [arrays[position].reshape(-1).tolist() for arrays, _ in samples_of(REGISTRY[name])]
        assert any(len(set(index)) < len(index) for index in indices), f"{name}: no repeated index"


def test_an_operation_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        Op("add")
    assert REGISTRY["add"].name == "add" and REGISTRY["add"].gradients


def test_a_wrong_gradient_rule_is_found() -> None:
    x = P.tensor([0.3, 0.8], dtype=P.float64, requires_grad=True)

    def halved(x: Tensor) -> Tensor:  # values of x * x, gradient of x * x / 2
        return x * x * 0.5 + (x * x * 0.5).detach()

    with pytest.raises(GradientError, match="gradcheck: input 0"):
        gradcheck(halved, [x])

    def first_right_second_wrong(
        x: Tensor,
    ) -> Tensor:  # x**2 + 2 c (x - c) - (x - c)**2 is x**2 to first order at c = x
        c = x.detach()
        return (x - c) * 2 * c + c * c

    with pytest.raises(GradientError):
        gradcheck(lambda x: first_right_second_wrong(x) * x, [x], order=2)
    with pytest.raises(GradientError, match="float64"):
        gradcheck(lambda x: x * x, [P.ones(2, requires_grad=True)])


# ---- the corners that no smooth domain reaches ----------------------------------------------------------------------


def gradient(function: Any, *numbers: Any) -> list[Any]:
    values = [P.tensor(n, dtype=P.float64, requires_grad=True) for n in numbers]
    function(*values).sum().backward()
    return [v.grad.tolist() for v in values]


def test_relu_and_abs_left_of_zero_and_at_it() -> None:
    assert gradient(lambda x: x.relu(), [-2.0, 0.0, 3.0]) == [[0.0, 0.0, 1.0]]
    assert gradient(lambda x: x.abs(), [-2.0, 0.0, 3.0]) == [[-1.0, 0.0, 1.0]]


def test_clamp_at_its_bounds() -> None:
    """At the bound itself the number was not changed, so its gradient is 1, as in PyTorch."""
    assert gradient(lambda x: x.clamp(-1, 1), [-2.0, -1.0, 0.0, 1.0, 2.0]) == [[0.0, 1.0, 1.0, 1.0, 0.0]]


def test_ties_share_the_gradient() -> None:
    assert gradient(lambda a, b: a.maximum(b), [1.0, 2.0, 5.0], [1.0, 3.0, 4.0]) == [[0.5, 0.0, 1.0], [0.5, 1.0, 0.0]]
    assert gradient(lambda a, b: a.minimum(b), [1.0, 2.0, 5.0], [1.0, 3.0, 4.0]) == [[0.5, 1.0, 0.0], [0.5, 0.0, 1.0]]
    assert gradient(lambda x: x.amax(), [1.0, 7.0, 7.0]) == [[0.0, 0.5, 0.5]]
    assert gradient(lambda x: x.amin(0), [[1.0, 7.0], [1.0, 8.0]]) == [[[0.5, 1.0], [0.5, 0.0]]]
    assert gradient(lambda x: x.max(0).values, [1.0, 7.0, 7.0]) == [[0.0, 1.0, 0.0]]  # along dim: the first of equals


def test_power_where_its_textbook_rule_breaks() -> None:
    assert gradient(lambda x: x**0, [0.0, 2.0]) == [[0.0, 0.0]]
    assert gradient(lambda x: x**1.0, [0.0, 2.0]) == [[1.0, 1.0]]
    assert gradient(lambda x: x**3, [-2.0, 0.0]) == [[12.0, 0.0]]
    assert gradient(lambda x, p: x**p, [0.0, 1.0], [2.0, 2.0])[1] == [0.0, 0.0]


def test_where_keeps_the_other_branch_out_nan_included() -> None:
    def safe_log(x: Tensor) -> Tensor:
        return P.where(x > 0, P.where(x > 0, x, 1.0).log(), 0.0)

    assert gradient(safe_log, [0.0, 2.0]) == [[0.0, 0.5]]
    assert P.where(P.tensor([True, False]), P.tensor([1.0, 2.0]), float("nan")).isnan().tolist() == [False, True]


def test_a_repeated_index_adds_up() -> None:
    weight = P.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    weight[P.tensor([1, 1, -2, 0])].sum().backward()
    assert weight.grad.tolist() == [[1.0, 1.0], [3.0, 3.0], [0.0, 0.0]]


def test_convolution_equals_the_sum_it_stands_for() -> None:
    random = np.random.default_rng(3)
    x, w = random.normal(size=(2, 4, 7, 6)), random.normal(size=(6, 2, 3, 2))
    stride, padding, dilation = (2, 1), (1, 2), (1, 2)
    wide = np.pad(x, ((0, 0), (0, 0), (1, 1), (2, 2)))
    y = P.functional.conv2d(P.tensor(x), P.tensor(w), None, stride, padding, dilation, groups=2).array
    for b, o, p, q in np.ndindex(*y.shape):
        group = o // 3
        total = sum(
            wide[b, group * 2 + c, p * 2 + k, q + l * 2] * w[o, c, k, l]
            for c in range(2)
            for k in range(3)
            for l in range(2)
        )
        assert y[b, o, p, q] == pytest.approx(total)
    assert y.shape == (2, 6, 4, 8)


def test_a_transposed_convolution_is_the_transpose() -> None:
    """<conv(x), g> = <x, conv_transpose(g)> for every x and g: the definition, whatever the code does."""
    random = np.random.default_rng(4)
    for stride, padding, extra in [(1, 0, 0), (2, 1, 1), (3, 0, 2)]:
        w, x = P.tensor(random.normal(size=(3, 2, 3, 3))), P.tensor(random.normal(size=(2, 2, 8, 8)))
        y = P.functional.conv2d(x, w, stride=stride, padding=padding)
        g = P.tensor(random.normal(size=y.shape))
        back = P.functional.conv_transpose2d(g, w, stride=stride, padding=padding, output_padding=extra)
        assert back.shape == x.shape
        assert (y * g).sum().item() == pytest.approx((x * back).sum().item())


def test_shape_errors_come_from_the_shape_rule() -> None:
    for call in (
        lambda: P.ones(2, 3) + P.ones(2, 4),
        lambda: P.ones(2, 3) @ P.ones(4, 5),
        lambda: P.ones(6).reshape(4, 2),
        lambda: P.ones(2, 3).expand(4, 3),
        lambda: P.cat([P.ones(2, 3), P.ones(2, 4)]),
        lambda: P.functional.conv2d(P.ones(1, 3, 4, 4), P.ones(2, 2, 3, 3)),
        lambda: P.functional.conv2d(P.ones(1, 3, 2, 2), P.ones(2, 3, 3, 3)),
        lambda: P.ones(0, 3).amax(0),
        lambda: P.ones(2, 2).gather(1, P.zeros(3, 1, dtype=P.int64)),
    ):
        with pytest.raises(ShapeError, match=r"expected|neither|only"):
            call()
