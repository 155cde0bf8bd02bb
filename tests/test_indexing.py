"""`x[key]` and `x[key] = value`: random keys against NumPy where the rules agree, gradients, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import pellucid as P
from pellucid.autograd import gradcheck
from pellucid.errors import DTypeError, IndexRangeError, PellucidError, ShapeError

SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


def block(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(float(np.prod(shape))).reshape(shape) + 1


@st.composite
def basic_keys(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Whole numbers, slices with any step, `...` and None."""
    return draw(arrays.basic_indices(shape, allow_newaxis=True))


@st.composite
def picking_keys(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """A key with slices and integer arrays (broadcasting, negative, repeated), once for NumPy and once for us.

    No whole number stands beside an array: there PyTorch, whose rule this is, drops the axis first and NumPy does not.
    """
    picked = draw(arrays.array_shapes(min_dims=1, max_dims=2, max_side=3))
    ours: list[Any] = []
    theirs: list[Any] = []
    for size in shape[: draw(st.integers(1, len(shape)))]:
        if draw(st.booleans()):
            part = draw(st.slices(size))
            ours.append(part)
            theirs.append(part)
        else:
            shape_here = tuple(draw(st.sampled_from([n, 1])) for n in picked)
            index = draw(arrays.arrays(np.int64, shape_here, elements=st.integers(-size, size - 1)))
            theirs.append(index)
            ours.append(draw(st.sampled_from([P.tensor(index), index, index.tolist()])))
    return tuple(ours), tuple(theirs)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_reading_with_slices_follows_numpy(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    key = data.draw(basic_keys(shape))
    a = block(shape)
    result = P.tensor(a)[key]
    assert result.shape == a[key].shape
    np.testing.assert_array_equal(result.array, a[key])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_reading_with_positions_follows_numpy(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    ours, theirs = data.draw(picking_keys(shape))
    a = block(shape)
    x = P.tensor(a, requires_grad=True)
    result = x[ours]
    np.testing.assert_array_equal(result.array, a[theirs])
    weights = np.random.default_rng(0).normal(size=result.shape)
    result.backward(P.tensor(weights))
    expected = np.zeros(shape)
    np.add.at(expected, theirs, weights)  # a place read twice gets both
    np.testing.assert_allclose(x.grad.array, expected, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_masks_follow_numpy(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    covered = data.draw(st.integers(1, len(shape)))
    mask = data.draw(arrays.arrays(np.bool_, shape[:covered]))
    a = block(shape)
    x = P.tensor(a)
    np.testing.assert_array_equal(x[P.tensor(mask)].array, a[mask])
    np.testing.assert_array_equal(x[mask].array, a[mask])
    x[P.tensor(mask)] = -1
    a[mask] = -1
    np.testing.assert_array_equal(x.array, a)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_setting_follows_numpy(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    if data.draw(st.booleans()):
        ours = theirs = data.draw(basic_keys(shape))
    else:
        ours, theirs = data.draw(picking_keys(shape))
        flat = np.arange(np.prod(shape)).reshape(shape)[theirs]
        assume(len(np.unique(flat)) == flat.size)  # which of two writes to one place stays is nobody's promise
    a = block(shape)
    x = P.tensor(a)
    place = a[theirs].shape
    cut = data.draw(st.integers(0, len(place)))
    value = np.random.default_rng(1).normal(size=tuple(1 if data.draw(st.booleans()) else n for n in place[cut:]))
    x[ours] = P.tensor(value)
    a[theirs] = value
    np.testing.assert_array_equal(x.array, a)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_gradients_of_setting(data: st.DataObject) -> None:
    """Of the whole: what was overwritten gets none, the value gets what stands in its place."""
    shape = data.draw(SHAPES)
    key = data.draw(basic_keys(shape))
    a = block(shape)
    x, value = P.tensor(a, requires_grad=True), P.tensor(np.ones(a[key].shape), requires_grad=True)
    y = x * 1
    y[key] = value * 2
    weights = np.random.default_rng(2).normal(size=shape)
    ((y * P.tensor(weights)).sum() + (x * 0).sum()).backward()
    kept = weights.copy()
    kept[key] = 0
    np.testing.assert_allclose(x.grad.array, kept)
    np.testing.assert_allclose(value.grad.array, 2 * weights[key])


KEYS: list[Any] = [
    0,
    -1,
    slice(None, None, -1),
    (slice(1, None), None, 0),
    ...,
    None,
    (..., slice(None, None, 2)),
    P.tensor([0, 2, 2]),
    (slice(None), P.tensor([[1, 0], [1, 1]])),
    (P.tensor([0, 1]), P.tensor([3, 3])),
    (P.tensor([0, 2]), slice(None), P.tensor([1, 0])),
    [2, 0],
    (P.tensor([True, False, True]), 1),
    np.array([0, 0]),
    (slice(0, 0), P.tensor([1])),
    P.tensor(1),
    ([], slice(None)),
]


@pytest.mark.parametrize("position", range(len(KEYS)))
def test_gradients_to_second_order(position: int) -> None:
    key = KEYS[position]
    x = P.tensor(np.random.default_rng(3).normal(size=(3, 4, 2)), requires_grad=True)
    value = P.tensor(np.random.default_rng(4).normal(size=x[key].shape), requires_grad=True)
    assert gradcheck(lambda x: x[key] ** 2, [x], order=2)

    def written(x: Any, value: Any) -> Any:
        y = x * x
        y[key] = value * value
        return y * y

    positions = np.arange(24).reshape(3, 4, 2)
    picked = P.tensor(positions)[key].array
    if len(np.unique(picked)) == picked.size:
        assert gradcheck(written, [x, value], order=2, atol=1e-4)


def test_a_position_beside_a_whole_number_keeps_its_place() -> None:
    """PyTorch's rule: the whole number's axis goes first, so the picked one stays where it stood (NumPy moves it)."""
    x = P.tensor(block((2, 3, 4)))
    assert x[0, :, P.tensor([1, 3])].shape == (3, 2)
    assert x.array[0, :, [1, 3]].shape == (2, 3)


def test_the_index_may_change_after_reading() -> None:
    x = P.tensor([1.0, 2.0, 3.0], requires_grad=True)
    index = np.array([0, 0])
    y = x[index]
    index[:] = 2
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 0.0]


def test_the_value_may_change_after_setting() -> None:
    x, y, z = P.zeros(3), P.zeros(3), P.zeros(3)
    value = np.ones(3, np.float32)
    x[:] = value
    y[[0, 1, 2]] = value
    z.copy_(value)
    value[:] = 7
    assert x.tolist() == y.tolist() == z.tolist() == [1.0, 1.0, 1.0]


def test_setting_casts_to_the_tensor_s_own_dtype() -> None:
    x = P.zeros(3, dtype=P.int64)
    x[0] = 2.7
    x[1:] = P.tensor([True, False])
    assert x.tolist() == [2, 1, 0] and x.dtype == P.int64


@pytest.mark.parametrize(
    ("key", "error", "text"),
    [
        (3, IndexRangeError, r"index: 3 on axis 0 of \(3, 4\); expected -3 to 2"),
        ((0, -5), IndexRangeError, r"index: -5 on axis 1 of \(3, 4\); expected -4 to 3"),
        ((0, 0, 0), IndexRangeError, r"index: 3 positions for shape \(3, 4\); expected at most 2"),
        ((..., ...), IndexRangeError, r"2 times `\.\.\.`; expected it once"),
        (slice(None, None, 0), IndexRangeError, "a step that is not 0"),
        (slice("a", None), IndexRangeError, "expected whole numbers"),
        (P.tensor([0, 3]), IndexRangeError, r"index 3 on axis 0 of size 3; expected 0 to 2"),
        ((slice(None), P.tensor([[9]])), IndexRangeError, r"index: 9 on axis 1 of \(3, 4\); expected -4 to 3"),
        (1.5, DTypeError, r"index: 1\.5 \(float\); expected whole numbers"),
        ("column", DTypeError, r"index: 'column' \(str\); expected whole numbers"),
        (True, DTypeError, r"index: True \(bool\)"),
        (P.tensor(True), DTypeError, r"index: True \(bool\)"),
        (P.tensor([1.0]), DTypeError, r"index: float32; expected whole numbers or bool; convert with \.long\(\)"),
        (P.tensor([True, False]), ShapeError, r"mask \(2,\) on axes \(3,\); expected equal shapes"),
        (
            (P.tensor([0, 1]), P.tensor([0, 1, 2])),
            ShapeError,
            r"positions of shapes \(2,\) and \(3,\); expected shapes that broadcast",
        ),
        ([[1], [2, 3]], PellucidError, "unequal length"),
    ],
)
def test_refused_keys(key: Any, error: type[Exception], text: str) -> None:
    x = P.ones(3, 4)
    with pytest.raises(error, match=text):
        x[key]
    with pytest.raises(error):
        x[key] = 1.0
    assert x.tolist() == np.ones((3, 4)).tolist() and x.version == 0


def test_a_value_that_does_not_fit() -> None:
    x = P.ones(3, 4)
    for key, value in [
        (0, P.ones(3)),
        ((slice(None), 1), P.ones(4)),
        (P.tensor([0, 1]), P.ones(3, 4)),
        (..., P.ones(1, 3, 4)),
    ]:
        with pytest.raises(
            ShapeError, match=r"value .* into a place of .* in \(3, 4\); expected a shape that broadcasts"
        ):
            x[key] = value
