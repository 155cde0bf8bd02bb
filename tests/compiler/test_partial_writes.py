"""Writes into parts of a Tensor in a compiled step: joined into one pass, with the numbers of the eager step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as P


def operations(step: Any) -> list[str]:
    return [s.op.name for s in step.graph.symbols]


def test_a_loop_over_rows_is_one_concatenation() -> None:
    buffer = P.zeros(64, 8)

    @P.compile
    def step(x: Any) -> None:
        for i in range(20):
            buffer[i].add_(x[i])

    for _ in range(2):
        step(P.ones(64, 8))
    assert buffer.sum(1).tolist() == [16.0] * 20 + [0.0] * 44
    names = operations(step)
    assert names.count("concatenate") == 1 and "where" not in names and "pad" not in names


def test_outputs_collected_by_a_loop() -> None:
    @P.compile
    def step(x: Any) -> Any:
        out = P.zeros(5, 3)
        for t in range(5):
            out[t] = x[t] * (t + 1)
        return out

    assert step(P.ones(5, 3)).tolist() == [[t + 1.0] * 3 for t in range(5)]
    assert operations(step).count("concatenate") == 1 and "where" not in operations(step)


def random_window(random: np.random.Generator, size: int) -> slice:
    start, end = sorted(random.integers(0, size + 1, 2))
    return slice(int(start), int(end), int(random.choice([1, 1, 1, 2])))


def program(seed: int, state: Any) -> Callable[[Any], Any]:
    """Random writes into windows of `state` along one axis or two, with reads in between."""
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(8):
        rows = random_window(random, 6)
        columns = random_window(random, 5) if random.random() < 0.4 else slice(None)
        lines.append((rows, columns, float(random.integers(1, 4)), random.random() < 0.5))

    def step(x: Any) -> Any:
        found = []
        for rows, columns, number, read in lines:
            if read:
                found.append(state[rows, columns].sum() * number)
            state[rows, columns] = state[rows, columns] * number + x[rows, columns]
        return P.stack(found) if found else state.sum()

    return step


@pytest.mark.parametrize("disable_passes", [(), ("partial writes",)], ids=["joined", "apart"])
@pytest.mark.parametrize("seed", range(30))
def test_random_windows(seed: int, disable_passes: tuple[str, ...]) -> None:
    start = np.random.default_rng(seed).normal(size=(6, 5)).astype(np.float32)
    states = [P.tensor(start), P.tensor(start)]
    eager, compiled = program(seed, states[0]), P.compile(program(seed, states[1]), disable_passes=disable_passes)
    x = P.tensor(start[::-1].copy())
    for _ in range(2):
        np.testing.assert_allclose(compiled(x).numpy(), eager(x).numpy(), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(states[1].numpy(), states[0].numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_gradients_through_written_windows(seed: int) -> None:
    random = np.random.default_rng(seed)
    windows = [random_window(random, 6) for _ in range(5)]
    start = P.tensor(random.normal(size=(6, 4)).astype(np.float32))

    def gradient(w: Any) -> Any:
        h = w * 2
        for k, rows in enumerate(windows):
            h[rows] = h[rows] + w[rows] * k
        (h * h).sum().backward()
        grad, w.grad = w.grad, None
        return grad

    expected = gradient(start.clone().requires_grad_())
    found = P.compile(gradient)(start.clone().requires_grad_())
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-4)
