"""Random stacks of layers in inference: every row alone, in batches of four sizes, and in the last, ragged one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid import nn
from pellucid.functional import scaled_dot_product_attention
from pellucid.ops.contraction import dot_general
from pellucid.tensor import Tensor

NETWORKS = 16
WIDTHS = (1, 2, 3, 5, 7, 8, 10, 15, 16, 17, 31, 33, 40, 64, 100)
Shape = tuple[int, ...]
Choice = tuple[nn.Module, Shape]


class Fn(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Callable[[Any], Any], *layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def divisor(random: np.random.Generator, n: int) -> int:
    return int(random.choice([d for d in range(1, n + 1) if n % d == 0]))


def of_vectors(random: np.random.Generator, k: int) -> list[Choice]:
    """Layers over (B, k), each with the shape of a row after it."""
    o, a = int(random.choice(WIDTHS)), divisor(random, k)
    return [
        *[(nn.Linear(k, o), (o,))] * 4, (nn.LayerNorm(k), (k,)), (nn.BatchNorm1d(k), (k,)), (nn.GELU(), (k,)),
        (nn.Tanh(), (k,)), (Fn(lambda x: x.softmax(-1)), (k,)), (Fn(lambda x: x.log_softmax(-1)), (k,)),
        (Fn(lambda x: x.cumsum(-1)), (k,)), (Fn(lambda x: x / (x.square().sum(-1, keepdim=True) + 1).sqrt()), (k,)),
        (Fn(lambda x: P.cat([x.sin(), x.clamp(max=1.0).exp()], -1)), (2 * k,)),
        (Fn(lambda x: x.unsqueeze(1) * x.unsqueeze(2)), (k, k)), (Fn(lambda x: x.reshape(x.shape[0], a, k // a)), (a, k // a)),
    ]  # fmt: skip


def of_sequences(random: np.random.Generator, t: int, k: int) -> list[Choice]:
    """Layers over (B, t, k)."""
    o, h, causal = int(random.choice(WIDTHS)), divisor(random, k), bool(random.integers(2))
    cell = (nn.LSTM, nn.GRU, nn.RNN)[int(random.integers(3))](k, min(o, 33), batch_first=True)

    def attended(x: Any) -> Any:
        y = x.reshape(x.shape[0], t, h, k // h).transpose(1, 2)
        return scaled_dot_product_attention(y, y, y, is_causal=causal).transpose(1, 2).reshape(x.shape)

    found: list[Choice] = [
        *[(nn.Linear(k, o), (t, o))] * 2, (nn.LayerNorm(k), (t, k)), (Fn(lambda x: x.transpose(1, 2)), (k, t)),
        (Fn(lambda x: x.mean(1)), (k,)), (Fn(lambda x: x.sum(2)), (t,)), (Fn(lambda x: x.softmax(1)), (t, k)),
        (Fn(lambda x: x @ x.transpose(1, 2) / k), (t, t)), (Fn(attended), (t, k)), (Fn(lambda x: x.flatten(1)), (t * k,)),
        (Fn(lambda x: dot_general(x, x, a="btc", b="bsc", y="bts") / k), (t, t)), (Fn(lambda x: x.unsqueeze(1)), (1, t, k)),
        (Fn(lambda x: x.flatten(0, 1).reshape(-1, t, k) * 0.5), (t, k)), (Fn(lambda x: x[:, -1]), (k,)),
        (Fn(lambda x: x.sum((1, 2)).unsqueeze(1)), (1,)),
    ]  # fmt: skip
    return found + ([(Fn(lambda x: cell(x)[0], cell), (t, min(o, 33)))] * 2 if t <= 20 else [])


def of_images(random: np.random.Generator, c: int, h: int, w: int) -> list[Choice]:
    """Layers over (B, c, h, w)."""
    o, size = int(random.choice(WIDTHS[:10])), min(3, h, w)
    found: list[Choice] = [
        *[(nn.Conv2d(c, o, size), (o, h - size + 1, w - size + 1))] * 3, (nn.BatchNorm2d(c), (c, h, w)),
        (nn.GroupNorm(divisor(random, c), c), (c, h, w)), (Fn(lambda x: x.flatten(1)), (c * h * w,)),
        (Fn(lambda x: x.mean((2, 3))), (c,)), (nn.Conv2d(c, c, size, groups=c), (c, h - size + 1, w - size + 1)),
    ]  # fmt: skip
    return found + [(pool(2), (c, h // 2, w // 2)) for pool in (nn.MaxPool2d, nn.AvgPool2d) if min(h, w) > 1]


def random_network(random: np.random.Generator) -> tuple[nn.Module, Shape]:
    """A stack of two to seven layers in evaluation mode, and the shape of a row."""
    starts: list[Shape] = [(7,), (33,), (784,), (5, 7), (13, 33), (2, 1), (3, 9, 9), (16, 7, 4)]
    first = shape = starts[int(random.integers(len(starts)))]
    layers: list[nn.Module] = []
    for _ in range(int(random.integers(2, 8))):
        choices = (of_vectors, of_sequences, of_images)[len(shape) - 1](random, *shape)
        layer, after = choices[int(random.integers(len(choices)))]
        if np.prod(after) <= 4000:
            layers.append(layer)
            shape = after
    network = nn.Sequential(*layers).eval()
    with P.no_grad():
        for weight in network.parameters():
            weight.copy_(P.randn(*weight.shape) * 0.5 / weight.shape[-1] ** 0.5)
    return network, first


@pytest.mark.parametrize("seed", range(NETWORKS))
@pytest.mark.filterwarnings("ignore:.*has been compiled:UserWarning")
def test_a_row_of_a_random_network_has_the_same_bits_in_every_batch(seed: int) -> None:
    random = np.random.default_rng(seed)
    P.manual_seed(seed)
    network, shape = random_network(random)
    run = P.compile(network)
    sizes = [
        1,
        *(int(random.choice(some)) for some in ((2, 3, 4, 5, 6, 7), (8, 9, 15, 16, 17), (31, 32, 33, 100, 300))),
    ]
    rows = random.normal(size=(sizes[-1], *shape)).astype(np.float32)
    with P.no_grad():
        answers = lambda some: run(Tensor(some.copy())).array.copy()
        among = answers(rows)
        assert np.isfinite(among).all()
        for i in (0, 1, len(rows) // 2, len(rows) - 1):
            assert answers(rows[i : i + 1])[0].tobytes() == among[i].tobytes(), f"row {i}: {network}"
        for n in sizes[1:-1]:
            assert answers(rows[:n]).tobytes() == among[:n].tobytes(), f"the first {n}: {network}"
            assert answers(rows[-n:]).tobytes() == among[-n:].tobytes(), f"the last {n}: {network}"
