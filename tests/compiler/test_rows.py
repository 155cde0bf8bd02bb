"""In inference a row's answer has the same bits alone and among others, in whatever batch and on however many threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid import nn
from pellucid.data.input_spec import ImageSpec, SeriesSpec, TableSpec, TextSpec
from pellucid.functional import log_softmax, scaled_dot_product_attention
from pellucid.models import cnn, lstm, mlp, transformer
from pellucid.ops.contraction import dot_general
from pellucid.tensor import Tensor
from pellucid.threads import set_num_threads

SIZES = (1, 2, 3, 8, 32, 33, 128, 2000)
BINS = [list(np.linspace(-2, 2, 6)) for _ in range(8)]
Draw = Callable[[np.random.Generator, int], list[np.ndarray]]


def numbers(*shape: int, dtype: Any = np.float32) -> Draw:
    return lambda random, n: [random.normal(size=(n, *shape)).astype(dtype)]


def whole(most: int, *shape: int) -> Draw:
    return lambda random, n: [random.integers(0, most, (n, *shape))]


def table(random: np.random.Generator, n: int) -> list[np.ndarray]:
    return [random.normal(size=(n, 8)).astype(np.float32), random.integers(0, 4, (n, 3))]


FAMILIES: dict[str, tuple[Callable[[], Any], Draw]] = {
    "mlp": (lambda: mlp.build(ImageSpec((28, 28), white=3.0), 10, "classification", mlp.Config((33,))),
            lambda random, n: [random.integers(0, 255, (n, 28, 28)).astype(np.float32)]),
    "table": (lambda: mlp.build(TableSpec(8, BINS, [4, 4, 4]), 1, "regression", mlp.Config()),
              table),
    "cnn": (lambda: cnn.build(ImageSpec((12, 12), white=3.0), 10, "classification", cnn.Config(channels=(4, 6))),
            lambda random, n: [random.integers(0, 255, (n, 12, 12)).astype(np.float32)]),
    "lstm": (lambda: lstm.build(SeriesSpec(9, 3), 1, "regression", lstm.Config((12,))), numbers(9, 3)),
    "transformer": (
        lambda: transformer.build(TextSpec(65), 65, "language", transformer.Config(num_layers=1, num_heads=2, d_model=32, context_length=10)), whole(65, 10)),
}  # fmt: skip


class Fn(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, *x: Tensor) -> Any:
        return self.function(*self.layers, *x)


def started(network: Any, seed: int = 3) -> Any:
    """`network` in evaluation mode, its weights and what it has kept drawn anew, so that nothing in it is 0 or 1."""
    P.manual_seed(seed)
    with P.no_grad():
        for weight in network.parameters():
            weight.copy_(P.randn(*weight.shape) * 0.7 / max(1.0, weight.shape[-1] if weight.ndim else 1) ** 0.5)
        for kept in network.buffers():
            if kept.dtype == np.float32:
                kept.copy_(P.rand(*kept.shape) + 0.5)
    return network.eval()


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = P.get_num_threads()
    yield
    set_num_threads(before)


def answers(run: Any, data: list[np.ndarray], start: int, end: int) -> np.ndarray:
    with P.no_grad():
        return run(*(Tensor(x[start:end].copy()) for x in data)).array.copy()


def check_rows(run: Any, data: list[np.ndarray], sizes: tuple[int, ...]) -> None:
    """Each of the rows in batches of each size, at the beginning and at the end of the data, against the row alone."""
    most = len(data[0])
    rows = sorted({*range(min(most, 40)), most // 2, *range(max(0, most - 3), most)})
    alone = {i: answers(run, data, i, i + 1).tobytes() for i in rows}
    for n in sizes:
        for start in (0, most - n):
            among = answers(run, data, start, start + n)
            for i in rows:
                assert not start <= i < start + n or among[i - start].tobytes() == alone[i], (
                    f"row {i} of {n} from {start}"
                )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore:.*has been compiled:UserWarning")
def test_a_row_has_the_same_bits_alone_and_among_others(family: str) -> None:
    P.manual_seed(0)
    build, draw = FAMILIES[family]
    data, run = draw(np.random.default_rng(0), max(SIZES)), P.compile(started(build()))
    set_num_threads(1)
    check_rows(run, data, SIZES)
    once = [answers(run, data, 0, n).tobytes() for n in SIZES]
    set_num_threads(2)
    assert [answers(run, data, 0, n).tobytes() for n in SIZES] == once


def attended(layer: Any, x: Tensor) -> Tensor:
    """Attention where each row hides other positions."""
    hidden = x.sum(2) > 1.0  # (B, T)
    return layer(x, x, x, key_padding_mask=hidden & (P.arange(x.shape[1]) > 0))[0]


def cut(layer: Any, x: Tensor) -> Tensor:
    """Rows of unequal lengths."""
    return layer(x, lengths=(x[:, :, 0] > 0).sum(1).clamp(min=1))[0]


def gated(x: Tensor) -> Tensor:
    y = x.reshape(x.shape[0], 5, 4, 3).transpose(1, 2)
    return scaled_dot_product_attention(y, y, y, is_causal=True).transpose(1, 2).flatten(2)


SIBLINGS: dict[str, tuple[Any, Draw]] = {
    **{f"linear {k} to {o}": (lambda k=k, o=o: nn.Linear(k, o), numbers(k))
       for k, o in ((1, 1), (7, 10), (10, 33), (33, 1), (784, 10), (5000, 3))},
    "over time": (lambda: nn.Sequential(nn.Linear(7, 10), nn.GELU(), nn.LayerNorm(10)), numbers(5, 7)),
    "one position": (lambda: nn.Sequential(nn.LayerNorm(33), nn.Linear(33, 10)), numbers(1, 33)),
    "dropout, batch norm": (lambda: nn.Sequential(nn.Linear(10, 33), nn.BatchNorm1d(33), nn.Dropout(0.5)), numbers(10)),
    "embedding": (lambda: nn.Sequential(nn.Embedding(11, 7, padding_idx=0), nn.Flatten(), nn.Linear(35, 3)), whole(11, 5)),
    "embedding, few rows": (lambda: nn.Sequential(nn.Embedding(3, 7), nn.Linear(7, 10)), whole(3, 5)),
    "softmax": (lambda: Fn(lambda x: (x * 3).softmax(1)), numbers(33)),
    "log softmax": (lambda: Fn(lambda x: log_softmax(x * 3, 1)), numbers(10)),
    "softmax over time": (lambda: Fn(lambda x: x.softmax(1).sum(2)), numbers(17, 3)),
    "argmax": (lambda: Fn(lambda layer, x: layer(x).argmax(1), nn.Linear(7, 10)), numbers(7)),
    "cumulative sum": (lambda: Fn(lambda layer, x: layer(x).cumsum(1), nn.Linear(7, 33)), numbers(7)),
    "sums": (lambda: Fn(lambda x: x.square().sum((1, 2)) + x.var(2).sum(1) + x.mean((1, 2))), numbers(5, 19)),
    "a sum of products": (lambda: Fn(lambda x: (x @ x.transpose(1, 2)).sum(1)), numbers(4, 9)),
    "a long sum": (lambda: Fn(lambda x: x.sum((1, 2)) + x.mean(1).sum(1)), numbers(3, 20000)),
    "pooling": (lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.AvgPool2d(2), nn.MaxPool2d(2)), numbers(3, 11, 11)),
    "channels": (lambda: nn.Sequential(nn.Conv2d(16, 17, 3, padding=1), nn.ReLU(), nn.Conv2d(17, 3, 1)), numbers(16, 7, 7)),
    "each channel": (lambda: nn.Sequential(nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 8, 3, groups=2)), numbers(6, 9, 9)),
    "turned convolution": (lambda: nn.ConvTranspose2d(6, 5, 3, stride=2), numbers(6, 4, 4)),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(4, 6, 1), nn.GroupNorm(2, 6), nn.Flatten(), nn.Linear(150, 3)), numbers(4, 5, 5)),
    "RNN": (lambda: Fn(lambda layer, x: layer(x)[0], nn.RNN(3, 7, batch_first=True)), numbers(6, 3)),
    "GRU": (lambda: Fn(lambda layer, x: layer(x)[0].sum(1), nn.GRU(3, 33, batch_first=True)), numbers(6, 3)),
    "unequal lengths": (lambda: Fn(cut, nn.LSTM(3, 10, batch_first=True)), numbers(6, 3)),
    "masked attention": (lambda: Fn(attended, nn.MultiheadAttention(12, 3, batch_first=True)), numbers(5, 12)),
    "attention of one": (lambda: Fn(attended, nn.MultiheadAttention(12, 3, batch_first=True)), numbers(1, 12)),
    "causal attention": (lambda: Fn(gated), numbers(5, 12)),
    "einsum": (lambda: Fn(lambda x: dot_general(x, x, a="btc", b="bsc", y="bts")), numbers(6, 33)),
    "float64": (lambda: Fn(lambda x: (x @ P.ones(33, 9, dtype=P.float64) / 7).softmax(1) @ P.ones(9, 1, dtype=P.float64)),
                numbers(33, dtype=np.float64)),
    "float64 layers": (lambda: nn.Sequential(nn.Linear(64, 33), nn.ReLU(), nn.Linear(33, 10)).double(),
                       numbers(64, dtype=np.float64)),
    "float64 images": (lambda: Fn(lambda layer, x: layer(x).mean((2, 3)), nn.Conv2d(3, 4, 3).double()),
                       numbers(3, 6, 6, dtype=np.float64)),
}  # fmt: skip


@pytest.mark.parametrize("name", SIBLINGS)
@pytest.mark.filterwarnings("ignore:.*has been compiled:UserWarning")
def test_every_layer_keeps_rows_apart(name: str) -> None:
    P.manual_seed(0)
    build, draw = SIBLINGS[name]
    check_rows(P.compile(started(build())), draw(np.random.default_rng(1), 200), (1, 3, 8, 33, 200))


def test_rows_of_a_larger_tensor_and_padding_change_nothing() -> None:
    network = started(nn.Sequential(nn.Linear(33, 20), nn.LayerNorm(20), nn.Linear(20, 3)))
    x = P.randn(50, 33)
    pick = P.compile(lambda rows: network(x[rows]))
    padded = P.compile(lambda some: network(P.cat([some, P.zeros(13, 33)]))[: some.shape[0]])
    with P.no_grad():
        one, many = pick(P.tensor([7])).array, pick(P.arange(50)).array
        beside = padded(x[7:8]).array
    assert one[0].tobytes() == many[7].tobytes() == beside[0].tobytes()


def test_a_mode_inside_and_weights_that_are_frozen_count_as_inference() -> None:
    network = started(nn.Sequential(nn.Linear(33, 5), nn.Softmax(1)))
    x = P.randn(20, 33)

    @P.compile
    def inside(x: Tensor) -> Tensor:
        with P.no_grad():
            return network(x)

    for run in (inside, P.compile(network.requires_grad_(False))):
        assert run(x).array[7].tobytes() == run(x[7:8]).array[0].tobytes()


def changes(network: Any) -> dict[str, Callable[[], None]]:
    """Ways to change the weights of a network, each as far as a program can tell."""
    optimizer = P.optim.SGD(network.parameters(), lr=0.5)
    x = P.randn(4, 30, 5)

    def step() -> None:
        optimizer.zero_grad()
        network(x).square().mean().backward()
        optimizer.step()

    compiled = P.compile(step)
    other = {name: value * 1.5 for name, value in network.state_dict().items()}

    def in_place() -> None:
        with P.no_grad():
            for weight in network.parameters():
                weight.mul_(0.9)

    def part() -> None:
        with P.no_grad():
            for weight in network.parameters():
                weight[..., 0] = 0.25

    return {"load_state_dict": lambda: network.load_state_dict(other), "in place": in_place, "eager step": step,
            "a part": part, "compiled step": compiled, "once more": compiled, "in place again": in_place}  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.filterwarnings("ignore:.*has been compiled:UserWarning")
def test_copies_of_weights_follow_every_change(count: int) -> None:
    set_num_threads(count)
    P.manual_seed(0)
    lstm_layer, head = nn.LSTM(5, 64, batch_first=True), nn.Linear(64, 64)
    convolution = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3))
    network = started(Fn(lambda a, b, c, x: c(b(a(x)[0]).unsqueeze(1)).mean((1, 2)), lstm_layer, head, convolution))
    run, x = P.compile(network), P.randn(1, 30, 5)
    for name, change in changes(network).items():
        for _ in range(2):
            with P.no_grad():
                found = run(x).array.tobytes()
                assert found == P.compile(network)(x).array.tobytes(), name
        assert run.last.plan.keeps_copies
        change()
        with P.no_grad():
            assert run(x).array.tobytes() != found, name
