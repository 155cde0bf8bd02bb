"""Each fused sum gives the bits of the operations it stands for, in every broadcasting and with its inputs untouched."""

from __future__ import annotations

import numpy as np
import pytest

import pellucid
from pellucid.ops import update as fused

CASES = {
    "add_scaled": (fused.add_scaled, lambda x, a, y: x + a * y, 3),
    "axpby": (fused.axpby, lambda a, x, b, y: a * x + b * y, 4),
    "ema_square": (fused.ema_square, lambda a, x, b, y: a * x + b * y * y, 4),
    "adam_update": (fused.adam_update, lambda p, s, m, v, e: p - m / (v.sqrt() + e) * s, 5),
}
SHAPES = [(), (5,), (4, 1), (1, 5), (4, 5), (0, 5)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_as_the_composition(name, dtype):
    op, composed, count = CASES[name]
    random = np.random.default_rng(0)
    for _ in range(60):
        tall = [s for s in SHAPES if (s != ((0, 5) if random.random() < 0.8 else (4, 5)) and s != (4, 1)) or not s]
        inputs = [
            pellucid.tensor(random.uniform(0.1, 2, tall[random.integers(len(tall))]).astype(dtype))
            for _ in range(count)
        ]
        before = [x.array.copy() for x in inputs]
        try:
            expected = composed(*inputs)
        except pellucid.errors.ShapeError:
            with pytest.raises(pellucid.errors.ShapeError):
                op(*inputs)
            continue
        got = op(*inputs)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got.array, expected.array, strict=True)
        for x, old in zip(inputs, before, strict=True):
            np.testing.assert_array_equal(x.array, old)


@pytest.mark.parametrize("name", CASES)
def test_same_gradients_as_the_composition(name):
    op, composed, count = CASES[name]
    random = np.random.default_rng(1)
    arrays = [random.uniform(0.5, 2, (3, 2) if i % 2 else ()) for i in range(count)]
    grads = []
    for function in (op, composed):
        inputs = [pellucid.tensor(a).requires_grad_() for a in arrays]
        (function(*inputs) ** 2).sum().backward()
        grads.append([x.grad.array for x in inputs])
    for got, expected in zip(*grads, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)
