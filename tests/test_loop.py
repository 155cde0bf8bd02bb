"""scan: the same numbers as the Python loop it stands for, gradients through time, nests, and what it refuses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import pellucid as P
from pellucid.autograd import gradcheck
from pellucid.errors import ShapeError, TraceError
from pellucid.tensor import Tensor

RANDOM = np.random.default_rng(0)
W = RANDOM.normal(size=(3, 3)) / 2
U = RANDOM.normal(size=(2, 3))
XS = RANDOM.normal(size=(5, 4, 2))  # (T, B, F)
H0 = RANDOM.normal(size=(4, 3))


def recurrent(w: Any, u: Any) -> Any:
    def body(h: Any, x: Any) -> tuple[Any, Any]:
        h = (h @ w + x @ u).tanh()
        return h, h * 2

    return body


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_is_the_python_loop(reverse: bool) -> None:
    last, ys = P.scan(recurrent(P.tensor(W), P.tensor(U)), P.tensor(H0), P.tensor(XS), reverse=reverse)
    h, outputs = H0, [np.empty(0)] * 5
    for t in reversed(range(5)) if reverse else range(5):
        h = np.tanh(h @ W + XS[t] @ U)
        outputs[t] = 2 * h
    assert ys.shape == (5, 4, 3)
    np.testing.assert_allclose(last.array, h, rtol=1e-12)
    np.testing.assert_allclose(ys.array, np.stack(outputs), rtol=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_to_second_order(reverse: bool) -> None:
    def function(h: Tensor, xs: Tensor, w: Tensor, u: Tensor) -> Tensor:
        last, ys = P.scan(recurrent(w, u), h, xs, reverse=reverse)
        return P.cat([last.reshape(-1), ys.reshape(-1)])

    inputs = [P.tensor(a, requires_grad=True) for a in (H0[:1], XS[:3, :1], W, U)]
    assert gradcheck(function, inputs, order=2, atol=5e-5)


def test_gradients_equal_those_of_the_loop() -> None:
    def run(looped: bool) -> list[np.ndarray]:
        h, xs, w, u = leaves = [P.tensor(a, requires_grad=True) for a in (H0, XS, W, U)]
        body = recurrent(w, u)
        if looped:
            outputs = []
            for t in range(5):
                h, y = body(h, xs[t])
                outputs.append(y)
            ys = P.stack(outputs)
        else:
            h, ys = P.scan(body, h, xs)
        ((ys * ys).sum() + h.sum()).backward()
        return [leaf.grad.array for leaf in leaves]

    for scanned, looped in zip(run(False), run(True), strict=True):
        np.testing.assert_allclose(scanned, looped, rtol=1e-12)


class State(NamedTuple):
    total: Tensor
    steps: dict[str, Tensor]


def test_nests_keep_their_structure() -> None:
    def body(state: State, x: tuple[Tensor, list[Tensor]]) -> tuple[State, dict[str, Any]]:
        first, (second,) = x
        state = State(state.total + first, {"count": state.steps["count"] + 1})
        return state, {"sum": state.total, "pair": (first * second, None)}

    start = State(P.zeros(2), {"count": P.tensor(0)})
    xs = (P.ones(3, 2), [P.arange(6).reshape(3, 2).float()])
    state, ys = P.scan(body, start, xs)
    assert isinstance(state, State) and state.total.tolist() == [3.0, 3.0] and state.steps["count"].item() == 3
    assert ys["sum"].tolist() == [[1, 1], [2, 2], [3, 3]] and ys["pair"][0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert ys["pair"][1] is None


def test_without_a_sequence_or_without_outputs() -> None:
    last, ys = P.scan(lambda c, x: (c * 2, None), P.tensor(1.0), length=10)
    assert last.item() == 1024.0 and ys is None
    last, ys = P.scan(lambda c, x: (c + x, c), P.tensor(0.0), P.arange(4).float(), length=4)
    assert last.item() == 6.0 and ys.tolist() == [0.0, 0.0, 1.0, 3.0]
    last, ys = P.scan(lambda c, x: (c + x, c), P.tensor(5.0), P.zeros(0))
    assert last.item() == 5.0 and ys is None


def test_scans_nest() -> None:
    def outer(c: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        c, ys = P.scan(lambda c, x: (c + x, c + x), c, row)
        return c, ys

    last, ys = P.scan(outer, P.tensor(0.0), P.arange(6).reshape(2, 3).float())
    assert last.item() == 15.0 and ys.tolist() == [[0, 1, 3], [6, 10, 15]]


def test_a_long_sequence_is_no_deep_recursion() -> None:
    x = P.full((5000,), 1e-4, requires_grad=True)
    last, _ = P.scan(lambda c, x: (c + x * c, None), P.tensor(1.0), x)
    last.backward()
    assert last.item() == pytest.approx(np.exp(0.5), rel=1e-3) and x.grad.array.min() > 1


def test_chance_inside_a_scan_goes_on_counting() -> None:
    P.manual_seed(0)
    _, drawn = P.scan(lambda c, x: (c, P.rand(2)), P.tensor(0.0), length=3)
    P.manual_seed(0)
    assert drawn.tolist() == [P.rand(2).tolist() for _ in range(3)]


def test_lengths_must_agree() -> None:
    body = lambda c, x: (c, None)
    for xs, length in [((P.ones(3), P.ones(4)), None), (None, None), (P.ones(3), 4), (P.tensor(1.0), None)]:
        with pytest.raises(ShapeError, match=r"scan: lengths \[.*\]; expected one length T.*slice or stack"):
            P.scan(body, P.tensor(0.0), xs, length=length)


def test_the_carry_keeps_shape_dtype_and_structure() -> None:
    for body in (
        lambda c, x: (P.ones(2), None),
        lambda c, x: (c.double(), None),
        lambda c, x: ((c, c), None),
    ):
        with pytest.raises(ShapeError, match=r"scan: the body turned the carry \(\) float32 into .* at position 0"):
            P.scan(body, P.tensor(0.0), length=2)
    with pytest.raises(
        ShapeError, match=r"the carry holds 0\.0 \(float\); expected Tensors; wrap it in pellucid\.tensor"
    ):
        P.scan(lambda c, x: (c, None), 0.0, length=2)


def test_the_body_assigns_nothing() -> None:
    outside = P.zeros(1)

    def counting(c: Tensor, x: Tensor) -> tuple[Tensor, None]:
        outside.add_(1)
        return c, None

    with pytest.raises(TraceError, match=r"scan: counting assigns a Tensor.*through the carry"):
        P.scan(counting, P.tensor(0.0), length=2)
    assert outside.item() == 0.0
    outside.add_(1)  # after the error it is allowed again
    assert outside.item() == 1.0


def test_an_error_in_the_body_leaves_nothing_switched() -> None:
    def failing(c: Tensor, x: Tensor) -> tuple[Tensor, None]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        P.scan(failing, P.tensor(0.0), length=2)
    P.zeros(1).add_(1)
