"""Whether attributions say something of the network: deletion, and weights made random layer by layer (Adebayo et al. 2018).

Both on a CNN for MNIST. Each check has controls, which must fail it: the ink itself, random pixels, guided backpropagation.
"""

import os
from pathlib import Path

import numpy as np
import pytest

import pellucid as P
from pellucid import nn, optim
from pellucid.autograd import grad
from pellucid.data.image.idx import read_idx
from pellucid.inspect import Question, attribute
from pellucid.inspect.ranks import spearman
from pellucid.nn import functional as F

pytestmark = pytest.mark.slow
COUNT = 100  # digits that the network gets right
REMOVED = 0.2  # of the ink


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def images(kind):
    folder = Path(os.environ.get("PELLUCID_DATA", "data")) / "mnist"
    if not folder.is_dir():
        pytest.skip("no MNIST; set PELLUCID_DATA")
    name = {"train": "train", "test": "t10k"}[kind]
    pixels, labels = (
        read_idx(next(folder.glob(f"{name}-{part}*")), rank)[0] for part, rank in (("images", 3), ("labels", 1))
    )
    return pixels[:, None].astype(np.float32) / 255, labels.astype(np.int64)


@pytest.fixture(scope="module")
def trained():
    """The network, and digits that it gets right with their classes."""
    x, y = images("train")
    P.manual_seed(0)
    network = cnn()
    optimizer = optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.0)

    @P.compile
    def step(a, b):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(a), b)
        loss.backward()
        optimizer.step()
        return loss.detach()

    order = np.random.default_rng(0).permutation(20_000)
    for epoch in range(3):
        for start in range(0, len(order) - 63, 64):
            rows = order[start : start + 64]
            step(P.tensor(x[rows]), P.tensor(y[rows]))
        order = np.random.default_rng(epoch + 1).permutation(order)
    network.zero_grad()
    network.eval()
    x, y = images("test")
    x, y = x[:600], y[:600]
    right = np.flatnonzero(answers(network, x) == y)[:COUNT]
    assert len(right) == COUNT
    return network, x[right], y[right]


@pytest.fixture(scope="module")
def by_method(trained):
    """The figures of the trained network by method, which both checks look at."""
    return {method: figures(*trained, method) for method in ("integrated_gradients", "input_x_gradient", "saliency")}


def answers(network, x):
    with P.no_grad():
        return network(P.tensor(x)).numpy().argmax(1)


def figures(network, x, y, method):
    """(N, 28, 28): the figures of each digit for its class."""
    return np.stack(
        [
            attribute(Question.of(network, P.tensor(x[i : i + 1])), int(y[i]), method).map("input 0")
            for i in range(len(x))
        ]
    )


def accuracy_without(network, x, y, ranking):
    """How many are still right without the share of ink that `ranking` (N, 28, 28) puts first."""
    left = x.copy()
    for i in range(len(x)):
        ink = np.flatnonzero(x[i].ravel() > 0)
        first = ink[np.argsort(-ranking[i].ravel()[ink], kind="stable")][: int(len(ink) * REMOVED)]
        left[i].reshape(-1)[first] = 0
    return float((answers(network, left) == y).mean())


def test_without_what_counts_the_network_fails(trained, by_method):
    network, x, y = trained
    left = {method: accuracy_without(network, x, y, ranking) for method, ranking in by_method.items()}
    left["random"] = accuracy_without(network, x, y, np.random.default_rng(0).random((len(x), 28, 28)))
    left["the ink itself"] = accuracy_without(network, x, y, x[:, 0])
    print("\naccuracy without 20% of the ink:", left)
    assert left["integrated_gradients"] <= 0.65
    assert left["random"] >= 0.95
    assert left["the ink itself"] >= left["integrated_gradients"] + 0.25


def randomised(trained_network):
    """The network with random weights from the top down to each layer, as copies."""
    P.manual_seed(5)
    fresh = dict(cnn().named_parameters())
    network = cnn()
    network.load_state_dict(trained_network.state_dict())
    network.eval()
    for layer in ("9", "7", "3", "0"):
        with P.no_grad():
            for name, parameter in network.named_parameters():
                if name.startswith(f"{layer}."):
                    parameter.assign(fresh[name].detach())
        yield layer, network


def alike(a, b, where=None):
    """The mean over digits of the rank correlation of two maps, where there is ink or everywhere."""
    inside = np.ones(a.shape, bool) if where is None else where
    return float(np.mean([spearman(a[i][inside[i]], b[i][inside[i]]) for i in range(len(a))]))


def guided(network, x, y):
    """|gradient| of guided backpropagation (Springenberg et al. 2015), which hardly depends on the weights of the top."""
    hooks = [
        module.register_full_backward_hook(lambda _, given, __: (given[0].relu(),))
        for module in network.modules()
        if isinstance(module, nn.ReLU)
    ]
    given = P.tensor(x).requires_grad_(True)
    try:
        chosen = network(given).gather(1, P.tensor(y).reshape(-1, 1)).sum()
        return np.abs(grad(chosen, given)[0].numpy())[:, 0]
    finally:
        for hook in hooks:
            hook.remove()


def test_random_weights_give_other_figures(trained, by_method):
    network, x, y = trained
    saliency, gradients = by_method["saliency"], by_method["integrated_gradients"]
    by_guided = guided(network, x, y)
    ink, falling = x[:, 0] > 0, []
    for _, other in randomised(network):
        falling.append(alike(saliency, figures(other, x, y, "saliency")))
    by_random = figures(other, x, y, "integrated_gradients")
    signed, sizes = alike(gradients, by_random, ink), alike(np.abs(gradients), np.abs(by_random))
    control = alike(by_guided, guided(other, x, y))
    picture = alike(x[:, 0], x[:, 0], ink)
    print("\nsaliency from the top down:", falling, "IG with sign on ink:", signed, "|IG| everywhere:", sizes)
    print("controls: guided backpropagation", control, "the picture", picture)
    assert all(after <= before + 0.05 for before, after in zip([1.0, *falling], falling, strict=False))
    assert falling[-1] <= 0.35
    assert abs(signed) <= 0.15
    assert control > 0.35  # fails the check of saliency
    assert picture > 0.15  # fails the check of integrated gradients
    assert sizes > 0.5  # the trap: both are zero where there is no ink
