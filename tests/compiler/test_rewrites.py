"""Graphs just beside what a pass or the memory plan looks for: near enough to be taken for it, and wrong if they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_graphs import Trial, check

import pellucid as P
from pellucid import functional as F
from pellucid.autograd import grad
from pellucid.compiler.ir.graph import interpret
from pellucid.compiler.passes.simplify import pads_to_concatenate
from pellucid.compiler.trace.tracer import trace
from pellucid.errors import IndexRangeError
from pellucid.ops import contraction, index, movement
from pellucid.tensor import Tensor


def some(*shape: int, seed: int = 0) -> Tensor:
    return P.tensor(np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32))


# ---- pieces placed side by side --------------------------------------------------------------------------------------------


def placed(x: Tensor, shape: tuple[int, ...], *start: int) -> Tensor:
    slices = tuple((first, size, 1) for first, size in zip(start, x.shape, strict=True))
    return movement.pad(x, shape=shape, slices=slices)


def repeated_piece(a: Tensor, b: Tensor) -> Tensor:
    """The first piece is (1, 4), repeated along the axis that the pieces fill."""
    return placed(a, (1, 4), 0, 0) + placed(b[:1], (3, 4), 1, 0) + placed(b[1:], (3, 4), 2, 0)


def piece_of_lower_rank(a: Tensor, b: Tensor) -> Tensor:
    return placed(a[0, :2], (4,), 0) + placed(b[:, 2:], (2, 4), 0, 2) + placed(b[:1], (2, 4), 0, 0)


def pieces_that_overlap(a: Tensor, b: Tensor) -> Tensor:
    return placed(a, (3, 4), 0, 0) + placed(b, (3, 4), 1, 0) + placed(a, (3, 4), 1, 0)


@pytest.mark.parametrize("function", [repeated_piece, piece_of_lower_rank, pieces_that_overlap])
def test_sums_that_are_no_concatenation(function: Any) -> None:
    check(Trial(function, [some(1, 4), some(2, 4)], []))


def test_a_sum_of_a_thousand_pieces_is_one_concatenation() -> None:
    def pieces(x: Tensor) -> Tensor:
        total = placed(x[:1], x.shape, 0)
        for i in range(1, x.shape[0]):
            total = total + placed(x[i : i + 1], x.shape, i)
        return total

    x = some(1100)
    graph = pads_to_concatenate(trace(pieces, ((x,), {}), {}).graph)
    assert [s.op for s in graph.symbols].count(movement.concatenate) == 1
    np.testing.assert_array_equal(interpret(graph, [x.numpy()])[0][0], x.numpy())


def test_a_piece_added_to_itself_again_and_again_is_no_concatenation() -> None:
    def doubled(x: Tensor) -> Tensor:
        total = placed(x, (4,), 0)
        for _ in range(40):  # 2 ** 40 paths lead to the piece
            total = total + total
        return total

    graph = trace(doubled, ((some(4),), {}), {}).graph
    assert len(pads_to_concatenate(graph).symbols) == len(graph.symbols)


# ---- masks in front of windows ---------------------------------------------------------------------------------------------


def test_a_mask_whose_number_has_more_axes_than_what_it_is_compared_with() -> None:
    def step(x: Tensor, m: Tensor, level: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        y = contraction.unfold(x, kernel=(2, 2), stride=(2, 2), dilation=(1, 1))
        (g,) = grad((y * y.detach()).sum(), x)
        return P.where(m > level, g, 0.0)

    check(Trial(step, [some(1, 3, 4, 4), some(3, 4, 4), P.zeros(1, 1, 1, 1)], []))


# ---- indices of one byte ---------------------------------------------------------------------------------------------------


def byte_picks(x: Tensor, i: Tensor) -> list[Tensor]:
    """Along an axis of 256, or more: a number that a byte cannot hold."""
    return [
        index.gather(x[:, :256], i, axis=1), index.gather(x, i, axis=1), index.take(x.T, i[:, 0]), F.embedding(i, x.T),
        index.scatter_add(P.zeros(3, 256), i, x[:, :1], axis=1), F.cross_entropy(x, i[:, 0]),
        F.cross_entropy(x[:, :256], i[:, 0], reduction="none"),
    ]  # fmt: skip


def test_bytes_pick_among_256_and_more() -> None:
    check(Trial(byte_picks, [some(3, 300), P.tensor(np.array([[255], [156], [0]], np.uint8))], []))


@pytest.mark.parametrize("function", [
    lambda x, i: index.gather(x[:, :150], i, axis=1), lambda x, i: F.cross_entropy(x[:, :156], i[:, 0]),
    lambda x, i: F.embedding(i, x.T[:150]),
])  # fmt: skip
def test_a_byte_out_of_range_is_an_error_whatever_it_is_modulo_256(function: Any) -> None:
    """156 is -100 in a byte, the class that a loss ignores."""
    for run in (function, P.compile(function)):
        with pytest.raises(IndexRangeError, match="expected"):
            run(some(3, 300), P.tensor(np.array([[3], [0], [156]], np.uint8)))


# ---- state that is read after it has been written --------------------------------------------------------------------------


def flat_and_written(state: Tensor, x: Tensor) -> list[Tensor]:
    """The state under another shape, which is the same memory, before it is given other numbers."""
    before = state.detach().reshape(-1)
    with P.no_grad():
        state.assign(x.detach())
    return [before, before.reshape(4, 15) * 2]


def flat_and_scaled(state: Tensor, x: Tensor) -> list[Tensor]:
    before = state.detach().reshape(-1)
    with P.no_grad():
        state.assign((before * 2 + before.flip(0)).reshape(5, 12))
    return [before.reshape(12, 5) + 1, before.sum()]


def flat_and_added(state: Tensor, x: Tensor) -> list[Tensor]:
    """Each number of the state is read where it is written, under another shape."""
    flat = state.detach().reshape(-1)
    with P.no_grad():
        state.assign((flat * 0.5 + x.reshape(-1)).reshape(5, 12))
    return [flat[:3] * x[0, :3]]


@pytest.mark.parametrize("disable_passes", [(), ("fusion",), ("reuse",), ("simplify", "simplify again")])
@pytest.mark.parametrize("function", [flat_and_written, flat_and_scaled, flat_and_added])
def test_a_flattened_state_holds_what_stood_there_before(function: Any, disable_passes: tuple[str, ...]) -> None:
    state = some(5, 12, seed=1)
    check(Trial(lambda x: function(state, x), [some(5, 12)], [state]), disable_passes)
