"""Gradients of gradients in compiled steps: the families of networks, and what a second derivative asks of the passes.

Random graphs and every operation are differentiated twice in `test_random_graphs.py`, loops in `test_scan.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from random_graphs import DISABLED, Trial, check, wave

import pellucid as P
from pellucid import functional as F
from pellucid import nn
from pellucid.autograd import grad
from pellucid.data.input_spec import ImageSpec, TextSpec
from pellucid.models import cnn, diffusion, gan, lstm, mlp, transformer
from pellucid.models.base import Model
from pellucid.models.zoo import bert, lenet, resnet
from pellucid.ops import contraction
from pellucid.ops.attention import attention_gradient
from pellucid.tensor import Tensor

CLOSE = 1e-5  # of the largest entry of all parameters together: a bias in front of a batch norm has slope zero


def some(*shape: int, seed: int = 0) -> Tensor:
    return P.tensor(np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32))


# ---- families ------------------------------------------------------------------------------------------------------------

IMAGES = ImageSpec((3, 8, 8), mean=[0.5] * 3, std=[0.25] * 3)
CLASSES = P.tensor([0, 1, 2, 0])
TOKENS, NEXT = (P.tensor(np.random.default_rng(seed).integers(0, 11, (3, 6))) for seed in (1, 2))
Case = tuple[Callable[[], nn.Module], tuple[Tensor, ...]]


def images() -> Tensor:
    return P.tensor(np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8)).astype(np.uint8))


class Judged(nn.Module):
    """A network of `models` that leaves its loss to its user, with cross-entropy."""

    def __init__(self, network: nn.Module, answer: Callable[[Any], Tensor] = lambda y: y.flatten(1)) -> None:
        super().__init__()
        self.network, self.answer = network, answer

    def values(self, x: Tensor, target: Tensor) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(self.answer(self.network(x)), target)}


def small_cnn(**options: Any) -> nn.Module:
    return cnn.build(IMAGES, 3, "classification", cnn.Config(channels=(4, 6), **options))


def small_lstm(cell: str) -> nn.Module:
    return lstm.build(
        TextSpec(11), 11, "language", lstm.Config(hidden_sizes=(8, 6), embedding_dim=5, context_length=6, cell=cell)
    )


def small_transformer(**options: Any) -> nn.Module:
    config = transformer.Config(num_layers=2, num_heads=2, d_model=8, context_length=6, **options)
    return transformer.build(TextSpec(11), 11, "language", config)


MODERN = {
    "positions": "rotary",
    "norm": "rms",
    "activation": "silu",
    "bias": False,
    "tie_embeddings": False,
    "d_ff": 12,
}
SMALL_BERT = bert.Config(num_layers=2, num_heads=2, d_model=8, d_ff=12, context_length=6, vocab_size=11, dropout=0.0)
FAMILIES: dict[str, Case] = {
    "cnn": (small_cnn, (images(), CLASSES)),
    "cnn residual": (lambda: small_cnn(residual=True, depth=3, activation="relu"), (images(), CLASSES)),
    "mlp": (
        lambda: mlp.build(IMAGES, 3, "classification", mlp.Config(hidden_sizes=(12, 8), activation="gelu")),
        (images(), CLASSES),
    ),
    "lstm": (lambda: small_lstm("lstm"), (TOKENS, NEXT)),
    "gru": (lambda: small_lstm("gru"), (TOKENS, NEXT)),
    "transformer": (small_transformer, (TOKENS, NEXT)),
    "transformer of today": (lambda: small_transformer(**MODERN), (TOKENS, NEXT)),
    "gan": (
        lambda: gan.build(IMAGES, 3, "classification", gan.Config(latent=5, width=4, critic_width=4)),
        (images(), CLASSES),
    ),
    "diffusion": (
        lambda: diffusion.build(IMAGES, 3, "classification", diffusion.Config(width=8, patch=1)),
        (images(), CLASSES),
    ),
    "lenet": (lambda: Judged(lenet.LeNet1989()), (some(4, 16, 16), CLASSES)),
    "resnet": (lambda: Judged(resnet.stage(resnet.BasicBlock, 3, 4, 2, 2)), (some(4, 3, 9, 9), CLASSES)),
    "bottleneck": (lambda: Judged(resnet.stage(resnet.Bottleneck, 3, 4, 2, 2)), (some(4, 3, 9, 9), CLASSES)),
    "alexnet": (lambda: Judged(small_alexnet()), (some(2, 3, 16, 16), CLASSES[:2])),
    "bert": (lambda: Judged(bert.BERT(SMALL_BERT), lambda y: y[0][:, 0]), (TOKENS, CLASSES[:3])),
}


def small_alexnet() -> nn.Module:
    """The kinds of layers of AlexNet2012: overlapping pools and local response normalisation."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.LocalResponseNorm(3), nn.MaxPool2d(3, 2),
        nn.Conv2d(6, 8, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(), nn.Linear(72, 3),
    )  # fmt: skip


def twice(network: nn.Module) -> Callable[..., list[Tensor]]:
    """For each loss of the network, its gradient as one row, and the gradient of a weighted sum of that row as another."""
    losses = [(turn.training_step, turn.module) for turn in network.phases()] if isinstance(network, Model) else []

    def step(*batch: Tensor) -> list[Tensor]:
        found = []
        for values, module in losses or [(network.values, network)]:
            wanted = list(module.parameters())
            first = grad(values(*batch)["loss"], wanted, create_graph=True, allow_unused=True)
            total = sum(((g * wave(g)).sum() for g in first if g is not None), P.zeros(()))
            second = grad(total, wanted, allow_unused=True)
            found += [P.cat([g.detach().reshape(-1) for g in row if g is not None]) for row in (first, second)]
        return found

    return step


def moved(network: nn.Module) -> nn.Module:
    """The network with other numbers where it starts with none, so that every part of it matters."""
    random = np.random.default_rng(0)
    for parameter in network.parameters():
        if not parameter.detach().numpy().any():
            parameter.assign(random.normal(0, 0.1, parameter.shape).astype(np.float32))
    return network


def misses(name: str) -> list[float]:
    """How far compiled gradients are from eager ones, first and second for each loss, in parts of the largest entry."""
    make, batch = FAMILIES[name]
    P.manual_seed(0)
    network = moved(make())
    one = Trial(twice(network), batch, list(network.buffers()))
    results = len(one.function(*batch))
    found, truth = one.run(P.compile(one.function)), one.run(one.function)
    pairs = list(zip(found, truth, strict=True))[:results]
    assert all(np.isfinite(b).all() and np.abs(b).max() > 0 for _, b in pairs)
    return [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs]


def test_a_convolutional_network_to_second_order() -> None:
    assert max(misses("cnn")) < CLOSE


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_to_second_order(name: str) -> None:
    assert max(misses(name)) < CLOSE


# ---- picks by the position of another value --------------------------------------------------------------------------------


def largest(w: Tensor, x: Tensor, v: Tensor) -> list[Tensor]:
    """The gradient of pooled numbers is picked by their position, and is no maximum of its own."""
    (g,) = grad((F.max_pool2d((w * x).tanh(), 2) ** 2).sum(), w, create_graph=True)
    return [g.detach(), *grad((g * v).sum(), w)]


def test_pooling_to_second_order_by_hand() -> None:
    """d/dw tanh(3w)^2 = 6 t (1 - t^2), and its derivative 18 (1 - t^2) (1 - 3 t^2), with t = tanh(2.1)."""
    w, v = P.tensor(0.7, requires_grad=True), P.tensor(1.0)
    x = P.tensor([[[[1.0, 2.0], [3.0, 0.5]]]])
    t = np.tanh(2.1)
    for run in (largest, P.compile(largest)):
        first, second = run(w, x, v)
        assert first.item() == pytest.approx(6 * t * (1 - t**2), rel=1e-4)
        assert second.item() == pytest.approx(18 * (1 - t**2) * (1 - 3 * t**2), rel=1e-4)


@pytest.mark.parametrize("disable_passes", DISABLED, ids=lambda names: "+".join(names)[:30] or "nothing")
def test_pooled_convolutions_to_second_order_whatever_is_left_out(disable_passes: tuple[str, ...]) -> None:
    weights = [some(3, 2, 3, 3), some(4, 3, 2, 2), some(3, 16)]
    wanted = [w.double().detach().requires_grad_() for w in weights]

    def step(x: Tensor) -> Any:
        a, b, c = wanted
        y = F.max_pool2d(F.conv2d(x, a, padding=1).tanh(), 2)
        y = F.max_pool2d(F.conv2d(y, b, padding=1).tanh(), 2, stride=1)
        first = grad(F.cross_entropy(F.linear(y.flatten(1)[:, :16], c), P.tensor([0, 2])), wanted, create_graph=True)
        return [*(g.detach() for g in first), *grad(sum((g * wave(g)).sum() for g in first), wanted)]

    check(Trial(step, [some(2, 2, 6, 6).double()], []), disable_passes, native=False)


def windows(x: Tensor, kernel: tuple[int, int] = (2, 2)) -> Tensor:
    return contraction.unfold(x, kernel=kernel, stride=kernel, dilation=(1, 1)).flatten(-2)


def picks(x: Tensor, other: Tensor) -> list[Tensor]:
    """Gathers and scatters by the places of the largest of x (2, 3, 4, 4), in all that they may be taken for."""
    seen, beside = windows(x), windows(other)
    flat, place = seen.argmax(-1), seen.argmax(-1, keepdim=True)  # (2, 3, 2, 2) and (2, 3, 2, 2, 1)
    values = other[:, :, :2, :2]
    return [
        seen.gather(4, place), beside.gather(4, place), (seen * 2).gather(4, place), seen.flip(-1).gather(4, place),
        beside.gather(4, seen.argmin(-1, keepdim=True)), windows(other, (1, 2)).repeat(1, 1, 1, 2, 2).gather(4, place % 2),
        windows(other.repeat(1, 1, 2, 4), (4, 4)).gather(4, place), windows(other, (2, 2)).gather(2, place.clamp(0, 1)),
        other[:, :, :2].gather(3, flat), P.zeros(2, 3, 2, 4).scatter_add(3, flat, values),
        P.zeros(2, 3, 2, 2, 4).scatter_add(4, place, values.unsqueeze(-1)),
        P.zeros(2, 3, 2, 2, 6).scatter_add(4, place, values.unsqueeze(-1)),
        P.zeros(4, 3, 2, 2, 1).scatter_add(0, place, values.unsqueeze(-1)),
        other.gather(2, x.argmax(2, keepdim=True)), other.gather(2, x.argmin(2, keepdim=True)),
        x.gather(2, x.argmax(3, keepdim=True)[:, :, :1]), x.gather(2, x.argmin(2, keepdim=True)),
    ]  # fmt: skip


@pytest.mark.parametrize("disable_passes", [(), ("max pooling",), ("gather to one-hot",)])
def test_a_position_found_in_one_value_picks_from_any_other(disable_passes: tuple[str, ...]) -> None:
    check(Trial(picks, [some(2, 3, 4, 4), some(2, 3, 4, 4, seed=1)], []), disable_passes)


def test_a_pick_from_windows_by_the_position_of_others_copies_nothing() -> None:
    function = lambda x, y: windows(y).gather(4, windows(x).argmax(4, keepdim=True)) * 2
    compiled = P.compile(function)
    compiled(some(4, 32, 16, 16), some(4, 32, 16, 16, seed=1))
    assert {kernel.kind for kernel in compiled.kernels(measure=False)} == {"loop"}


# ---- attention -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_attention_to_second_order(causal: bool) -> None:
    """By its rules, for the kernel of its gradient has none: that would be cut off the tape without a word."""
    args = [some(1, 2, 5, 4).requires_grad_(), some(1, 1, 5, 4, seed=1).requires_grad_()]

    def step(q: Tensor, k: Tensor) -> list[Tensor]:
        y = F.scaled_dot_product_attention(q, k, k * 0.5, is_causal=causal, enable_gqa=True)
        first = grad((y * wave(y)).sum(), [q, k], create_graph=True)
        return [*(g.detach() for g in first), *grad(sum((g * wave(g)).sum() for g in first), [q, k])]

    check(Trial(step, args, []), scale=5)
    assert not attention_gradient.gradients
