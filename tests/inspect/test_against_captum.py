"""Attributions equal those of Captum on the same weights in PyTorch, to 1e-4.

On demand, with an interpreter that has both: `python -m pytest -m torch tests/inspect/test_against_captum.py`.
"""

import numpy as np
import pytest

import pellucid as P
from pellucid import nn
from pellucid.inspect import Question, attribute

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")
captum = pytest.importorskip("captum.attr")

CLOSE = 1e-4


def table_network(nn):
    return nn.Sequential(nn.Linear(7, 12), nn.ReLU(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, 3))


def picture_network(nn):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)
    )  # fmt: skip


NETWORKS = {"table": (table_network, (1, 7)), "picture": (picture_network, (1, 2, 8, 8))}


def pair(kind, seed=0):
    """The same network in both, an input and a baseline."""
    make, shape = NETWORKS[kind]
    P.manual_seed(seed)
    ours, theirs = make(nn), make(torch.nn).eval()
    theirs.load_state_dict({name: torch.tensor(np.array(value.numpy())) for name, value in ours.state_dict().items()})
    random = np.random.default_rng(seed)
    x, base = (random.normal(size=shape).astype(np.float32) * scale for scale in (1.0, 0.3))
    return ours, theirs, x, base


def figures(ours, x, target, method, base=None, **more):
    return attribute(Question.of(ours, P.tensor(x)), target, method, base, **more).figures["input 0"]


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("target", [0, 2])
def test_integrated_gradients(kind, target):
    ours, theirs, x, base = pair(kind)
    found = attribute(Question.of(ours, P.tensor(x)), target, baselines=base)
    expected = captum.IntegratedGradients(theirs).attribute(
        torch.tensor(x), torch.tensor(base), target=target, n_steps=found.n_steps, method="riemann_middle"
    )
    assert np.allclose(found.figures["input 0"], expected.numpy()[0], atol=CLOSE)


@pytest.mark.parametrize("kind", NETWORKS)
def test_saliency_and_input_x_gradient(kind):
    ours, theirs, x, _ = pair(kind)
    given = torch.tensor(x, requires_grad=True)
    for method, theirs_by in (
        ("saliency", captum.Saliency(theirs)),
        ("input_x_gradient", captum.InputXGradient(theirs)),
    ):
        expected = theirs_by.attribute(given, target=1).detach().numpy()[0]
        assert np.allclose(figures(ours, x, 1, method), expected, atol=CLOSE)


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5])
def test_occlusion(window):
    ours, theirs, x, base = pair("picture")
    expected = captum.Occlusion(theirs).attribute(
        torch.tensor(x),
        (2, window, window),
        (2, max(1, window // 2), max(1, window // 2)),
        torch.tensor(base),
        target=1,
    )
    assert np.allclose(figures(ours, x, 1, "occlusion", base, window=window), expected.numpy()[0], atol=CLOSE)


def test_occlusion_of_single_columns():
    ours, theirs, x, base = pair("table")
    expected = captum.Occlusion(theirs).attribute(torch.tensor(x), (1,), 1, torch.tensor(base), target=0)
    assert np.allclose(figures(ours, x, 0, "occlusion", base), expected.numpy()[0], atol=CLOSE)


@pytest.mark.parametrize("kind", NETWORKS)
def test_shapley_values_by_the_same_orders(kind):
    ours, theirs, x, base = pair(kind)
    side, count = (4, 4) if kind == "picture" else (1, 7)  # patches of 4 x 4, or columns
    orders = np.array([np.random.default_rng(i).permutation(count) for i in range(6)])
    by = captum.ShapleyValueSampling(theirs)
    by.permutation_generator = lambda features, samples: iter(orders[:samples].tolist())
    mask = np.arange(7)[None] if kind == "table" else np.kron([[0, 1], [2, 3]], np.ones((4, 4), int))[None, None]
    expected = by.attribute(
        torch.tensor(x), torch.tensor(base), target=1, feature_mask=torch.tensor(mask), n_samples=len(orders)
    ).numpy()[0]
    found = figures(ours, x, 1, "shapley", base, permutations=orders, window=side)
    places = 2 * 16 if kind == "picture" else 1  # a player's value is spread over its places
    assert np.allclose(found * places, expected, atol=CLOSE)


def test_another_baseline_gives_another_result():
    ours, theirs, x, base = pair("table")
    expected = captum.IntegratedGradients(theirs).attribute(
        torch.tensor(x), target=1, n_steps=64, method="riemann_middle"
    )
    assert not np.allclose(figures(ours, x, 1, "integrated_gradients", base), expected.numpy()[0], atol=CLOSE)
