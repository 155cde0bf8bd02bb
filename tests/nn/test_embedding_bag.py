"""nn.EmbeddingBag: bags by rows or by offsets, weights, padding, gradients, compiled; beside PyTorch where it is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layer_checks import check_gradients

import pellucid as P
from pellucid import nn, optim
from pellucid.autograd import gradcheck
from pellucid.errors import DTypeError, IndexRangeError, OptionError, ShapeError

random = np.random.default_rng(0)
BAGS = np.array([[1, 2, 0, 0], [4, 4, 3, 0], [0, 0, 0, 0]])
FLAT = np.array([1, 2, 4, 4, 3, 0])
WEIGHTS = random.normal(size=BAGS.shape)


def summed(table: np.ndarray, bags: list[list[int]]) -> np.ndarray:
    return np.array([table[bag].sum(0) if bag else np.zeros(table.shape[1]) for bag in bags])


def test_a_bag_is_the_sum_or_mean_of_its_rows_and_padding_is_in_none() -> None:
    layer = nn.EmbeddingBag(5, 3, mode="sum", padding_idx=0)
    table = layer.weight.array
    assert not table[0].any()
    np.testing.assert_allclose(layer(P.tensor(BAGS)).array, summed(table, [[1, 2], [4, 4, 3], []]), rtol=1e-6)
    mean = P.nn.functional.embedding_bag(P.tensor(BAGS), layer.weight, padding_idx=0).array
    np.testing.assert_allclose(mean, summed(table, [[1, 2], [4, 4, 3], []]) / [[2], [3], [1]], rtol=1e-6)
    weighted = layer(P.tensor(BAGS), per_sample_weights=P.tensor(WEIGHTS.astype(np.float32))).array
    by_hand = (table[BAGS] * WEIGHTS[..., None] * (BAGS != 0)[..., None]).sum(1)
    np.testing.assert_allclose(weighted, by_hand, rtol=1e-5)


def test_offsets_begin_the_bags_and_an_empty_bag_is_zero() -> None:
    layer = nn.EmbeddingBag(5, 3)
    table = layer.weight.array
    y = layer(P.tensor(FLAT), P.tensor(np.array([0, 2, 2, 5])))
    np.testing.assert_allclose(y.array, summed(table, [[1, 2], [], [4, 4, 3], [0]]) / [[2], [1], [3], [1]], rtol=1e-6)
    last = nn.EmbeddingBag(5, 3, mode="sum", include_last_offset=True)
    y = last(P.tensor(FLAT), P.tensor(np.array([0, 2, 4])))
    np.testing.assert_allclose(y.array, summed(last.weight.array, [[1, 2], [4, 4]]), rtol=1e-6)


@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("offsets", [None, np.array([0, 2, 2])])
def test_gradients_to_second_order(mode: str, offsets: np.ndarray | None) -> None:
    layer = nn.EmbeddingBag(5, 3, mode=mode, padding_idx=2, dtype=np.float64)
    index = P.tensor(BAGS if offsets is None else FLAT)
    more = () if offsets is None else (P.tensor(offsets),)
    assert check_gradients(layer, call=lambda: layer(index, *more))

    def curved(table: Any) -> Any:
        options = {"mode": mode, "padding_idx": 2}
        return P.nn.functional.embedding_bag(index, table, *more, **options).square().sum()

    assert gradcheck(curved, [layer.weight], order=2)


def test_gradients_of_the_weights_of_samples() -> None:
    table = P.tensor(random.normal(size=(5, 3)), requires_grad=True)
    weights = P.tensor(WEIGHTS, requires_grad=True)

    def weighted(table: Any, weights: Any) -> Any:
        return P.nn.functional.embedding_bag(P.tensor(BAGS), table, mode="sum", per_sample_weights=weights).sin()

    assert gradcheck(weighted, [table, weights], order=2)


@pytest.mark.parametrize("offsets", [None, np.array([0, 2, 2, 5])])
def test_a_compiled_step_gives_the_eager_losses(offsets: np.ndarray | None) -> None:
    found = []
    for native in (False, True):
        P.manual_seed(3)
        layer = nn.EmbeddingBag(5, 3, padding_idx=0)
        optimizer = optim.Adam(layer.parameters(), lr=0.05)

        def step(index: Any, *more: Any, layer: Any = layer, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = (layer(index, *more) - 1).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = P.compile(step) if native else step
        arguments = [P.tensor(BAGS)] if offsets is None else [P.tensor(FLAT), P.tensor(offsets)]
        found.append([run(*arguments).item() for _ in range(4)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)
    assert found[0][-1] < found[0][0]


def test_what_it_refuses_is_told() -> None:
    layer, index = nn.EmbeddingBag(5, 3), P.tensor(BAGS)
    with pytest.raises(OptionError, match='mode=\'max\'; expected "mean" or "sum"'):
        nn.EmbeddingBag(5, 3, mode="max")
    with pytest.raises(OptionError, match="EmbeddingBag: padding_idx=5; expected -5 to 4"):
        nn.EmbeddingBag(5, 3, padding_idx=5)
    with pytest.raises(OptionError, match="per_sample_weights with mode='mean'; expected mode=\"sum\""):
        layer(index, per_sample_weights=P.ones(3, 4))
    with pytest.raises(IndexRangeError, match="holds 5; expected row numbers 0 to 4"):
        layer(index + 1)
    with pytest.raises(DTypeError, match="expected int64 row numbers"):
        layer(index.float())
    with pytest.raises(ShapeError, match=r"input \(6,\) without offsets; expected 2 axes; pass offsets"):
        layer(P.tensor(FLAT))
    with pytest.raises(ShapeError, match=r"input \(3, 4\) with offsets; expected 1 axes; leave offsets out"):
        layer(index, P.tensor(np.array([0])))
    sums = nn.EmbeddingBag(5, 3, mode="sum")
    with pytest.raises(ShapeError, match=r"per_sample_weights \(3,\), input \(3, 4\)"):
        sums(index, per_sample_weights=P.ones(3))
    for offsets, message in (
        ([1, 2], "begin at 1"),
        ([0, 3, 2], "an offset is -1 beside"),
        ([0, 9], "an offset is 9;"),
    ):
        with pytest.raises(IndexRangeError, match=message):
            layer(P.tensor(FLAT), P.tensor(np.array(offsets)))


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["sum", "mean"])
@pytest.mark.parametrize("padding", [None, 2, -1])
@pytest.mark.parametrize("offsets", [None, [0, 2, 2, 5], [0, 3]])
@pytest.mark.parametrize("last", [False, True])
def test_it_agrees_with_pytorch(mode: str, padding: int | None, offsets: list[int] | None, last: bool) -> None:
    torch = pytest.importorskip("torch")
    if offsets is None and last:
        pytest.skip("bags by rows have no offsets")
    options = {"mode": mode, "padding_idx": padding, "include_last_offset": last}
    ours, theirs = nn.EmbeddingBag(5, 3, **options), torch.nn.EmbeddingBag(5, 3, **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    table = random.normal(size=(5, 3)).astype(np.float32)
    ours.weight.assign(table)
    theirs.weight.data = torch.tensor(table)
    if last and offsets is not None:
        offsets = [*offsets, len(FLAT)]
    index, more = (BAGS, []) if offsets is None else (FLAT, [np.array(offsets)])
    weights = [{}, {"per_sample_weights": random.normal(size=index.shape).astype(np.float32)}][: 1 + (mode == "sum")]
    for extra in weights:
        y = ours(*(P.tensor(a) for a in (index, *more)), **{k: P.tensor(v) for k, v in extra.items()})
        z = theirs(*(torch.tensor(a) for a in (index, *more)), **{k: torch.tensor(v) for k, v in extra.items()})
        np.testing.assert_allclose(y.array, z.detach().numpy(), rtol=1e-5, atol=1e-6)
        ours.zero_grad(), theirs.zero_grad()
        y.sin().sum().backward()
        z.sin().sum().backward()
        np.testing.assert_allclose(ours.weight.grad.array, theirs.weight.grad.numpy(), rtol=1e-5, atol=1e-6)
