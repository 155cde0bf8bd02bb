"""Slices, lines and curvature: beside whole Hessians, networks that are the same, and controls that must fail."""

import itertools

import numpy as np
import pytest
from family_runs import FAMILIES
from untouched import untouched

import pellucid as torch
from pellucid import functional as F
from pellucid import nn, optim
from pellucid.autograd import grad
from pellucid.cli.landscape import batch
from pellucid.data.input_spec import ImageSpec
from pellucid.errors import OptionError
from pellucid.inference.asked import RunExamples
from pellucid.inspect import curvature, loss_line, loss_slice, restored
from pellucid.inspect.curvature import lanczos
from pellucid.inspect.landscape import _random_walk, barrier
from pellucid.inspect.matching import links_of, matched, reordered, shuffled
from pellucid.inspect.objective import Objective, flattened, numbers_of, shaped
from pellucid.models.cnn import Config, build
from pellucid.runs.run import load_run

SMOOTH = nn.Tanh


def small(activation=SMOOTH, seed=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 8), activation(), nn.Linear(8, 3))


def rows(count=64, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal((count, 8)).astype(np.float32), random.integers(0, 3, count)


def whole_hessian(network, x, y):
    """(N, N), a row at a time, by eager gradients of each number of the gradient."""
    weights = list(network.parameters())
    loss = F.cross_entropy(network(torch.tensor(x)), torch.tensor(y))
    flat = torch.cat([g.reshape(-1) for g in grad(loss, weights, create_graph=True)])
    found = [grad(one, weights, retain_graph=True, allow_unused=True) for one in flat]
    return np.stack(
        [
            np.concatenate(
                [np.zeros(w.numel()) if g is None else g.numpy().reshape(-1) for g, w in zip(row, weights, strict=True)]
            )
            for row in found
        ]
    )


def trained(sizes, data, seed, steps=300, norm=False):
    torch.manual_seed(seed)
    layers = []
    for size, following in itertools.pairwise(sizes[:-1]):
        layers += [nn.Linear(size, following), *([nn.BatchNorm1d(following)] if norm else []), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(*sizes[-2:]))
    optimizer = optim.Adam(network.parameters(), lr=2e-3)
    x, y = (torch.tensor(value) for value in data)

    @torch.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    random = np.random.default_rng(seed)
    for _ in range(steps):
        at = torch.tensor(random.integers(0, len(x), 128))
        step(x[at], y[at])
    network.zero_grad()
    return network


def blobs(count=600, features=20, classes=5):
    """Classes that a line does not part: each is two clouds."""
    random = np.random.default_rng(1)
    centres = random.standard_normal((2 * classes, features)) * 1.2
    cloud = random.integers(0, 2 * classes, count)
    return (centres[cloud] + random.standard_normal((count, features))).astype(np.float32), cloud % classes


# ---- curvature -------------------------------------------------------------------------------------------------------------


def test_the_extreme_eigenvalues_are_those_of_the_whole_hessian():
    network, (x, y) = small(), rows()
    hessian = whole_hessian(network, x, y)
    assert np.abs(hessian - hessian.T).max() < 1e-6
    values = np.linalg.eigvalsh((hessian + hessian.T) / 2)
    with untouched(network):
        found = curvature(network, (x, y))
    assert found.top == pytest.approx(values[-1], rel=1e-4)
    assert found.bottom == pytest.approx(values[0], rel=1e-4)
    assert found.spectrum[:, 1].sum() == pytest.approx(1)
    assert (found.spectrum[:, 1] @ found.spectrum[:, 0]) != pytest.approx(values[-1])
    assert all(check.holds for check in found.checks)
    assert "Hv" not in str(found) and f"{found.top:.4g}" in str(found)


def test_the_product_is_the_difference_of_gradients():
    network, (x, y) = small().double(), rows()
    objective = Objective(network, (x.astype(np.float64), y))
    here = numbers_of(network)
    weights, v = flattened(here), np.random.default_rng(0).standard_normal(99)
    sides = []
    with restored(network, grad=True):
        product, slope = objective.product()(v), objective.slope()
        for sign in (1, -1):
            for name, array in shaped(weights + sign * 1e-5 * v, here).items():
                objective.trained[name].assign(array)
            sides.append(slope())
    expected = (sides[0] - sides[1]) / 2e-5
    assert np.abs(product - expected).max() < 1e-3 * np.abs(expected).max()
    assert np.abs(product - v).max() > 0.1 * np.abs(expected).max()  # the control


def test_examples_in_several_batches_have_one_mean(monkeypatch):
    network, (x, y) = small(), rows()
    whole = curvature(network, (x, y), 20)
    monkeypatch.setattr("pellucid.inspect.objective.MOST_AT_ONCE", 16)
    parts = curvature(network, (x, y), 20)
    assert parts.examples == whole.examples == 64
    assert parts.top == pytest.approx(whole.top, rel=1e-4)


def test_twice_as_many_products_change_little(family_run):
    examples = RunExamples(load_run(family_run("mlp")))
    data = batch(examples, 500)
    some, more = (curvature(examples.network, data, k) for k in (40, 80))
    assert some.top == pytest.approx(more.top, rel=0.01)
    assert some.bottom == pytest.approx(more.bottom, rel=0.01)
    assert curvature(examples.network, data, 4).bottom != pytest.approx(more.bottom, rel=0.01)  # the control
    assert some.kinked == ("ReLU",)


def test_lanczos_of_a_known_matrix():
    wanted = np.array([-2.0, -0.5, 0, 0, 0.1, 0.2, 3, 10])
    turned, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((8, 8)))
    tridiagonal, basis = lanczos(lambda v: turned @ (wanted * (turned.T @ v)), np.ones(8), 40)
    values, vectors = np.linalg.eigh(tridiagonal)
    assert np.allclose(values, [-2, -0.5, 0, 0.1, 0.2, 3, 10], atol=1e-9)  # a double one is found once
    assert np.allclose(basis @ basis.T, np.eye(7), atol=1e-12)
    top = vectors[:, -1] @ basis
    assert np.allclose(turned @ (wanted * (turned.T @ top)), 10 * top, atol=1e-8)


def test_a_loss_that_is_linear_in_the_weights_does_not_bend():
    network = nn.Linear(8, 1)
    found = curvature(network, rows(), losses=lambda output, target: output[:, 0])
    assert found.top == found.bottom == 0


# ---- slices ----------------------------------------------------------------------------------------------------------------


def test_networks_that_compute_the_same_have_the_same_slice():
    network, (x, y) = small(nn.ReLU), rows()
    plain = loss_slice(network, (x, y), points=5)
    for value, factor in ((network[0].weight, 7), (network[0].bias, 7), (network[2].weight, 1 / 7)):
        value.assign(value.detach() * factor)
    scaled = loss_slice(network, (x, y), points=5)
    assert np.abs(scaled.losses - plain.losses).max() < 1e-4 * plain.losses.max()
    network[2].weight.assign(network[2].weight.detach() * 7)  # another network: the control
    assert np.abs(loss_slice(network, (x, y), points=5).losses - plain.losses).max() > 0.1


def test_the_weights_of_a_trained_network_are_the_lowest_place(family_run):
    examples = RunExamples(load_run(family_run("mlp")))
    data = batch(examples, 2000)
    with untouched(examples.network):
        found = loss_slice(examples.network, data, points=11)
    assert found.losses[5, 5] == found.lowest == pytest.approx(found.centre)
    assert found.checks[0].holds
    shown = float(found.checks[0].control.split()[-2].rstrip("%"))
    assert shown > 0, "the control must have a lower place"
    assert "2 of" in str(found) and f"{found.parameters:,} directions" in str(found)


def test_a_slice_is_the_loss_of_networks_with_those_weights():
    network, (x, y) = small(), rows()
    found = loss_slice(network, (x, y), extent=0.5, points=3, seed=4)
    assert found.losses[1, 1] == pytest.approx(
        F.cross_entropy(network(torch.tensor(x)), torch.tensor(y)).item(), rel=1e-6
    )
    again = loss_slice(network, (x, y), extent=0.5, points=3, seed=4)
    assert np.array_equal(found.losses, again.losses)
    assert not np.allclose(found.losses, loss_slice(network, (x, y), extent=0.5, points=3, seed=5).losses)


def test_a_path_is_seen_in_the_plane_of_its_main_axes():
    network, (x, y) = small(), rows()
    here = numbers_of(network)
    random = np.random.default_rng(0)
    a, b = (random.standard_normal(99) for _ in range(2))
    steps = [(3.0, 1.0), (2.0, -1.0), (1.0, 0.5), (0.0, 0.0)]
    path = [shaped(flattened(here) + s * a + t * b, here) for s, t in steps]
    found = loss_slice(network, (x, y), points=5, path=path)
    assert found.held == pytest.approx(1, abs=1e-5)
    lengths = [np.linalg.norm(s * a + t * b) for s, t in steps]
    assert np.allclose(np.linalg.norm(found.path, axis=1), lengths, rtol=1e-4, atol=1e-4)
    assert found.xs[0] < found.path[:, 0].min() and found.xs[-1] > found.path[:, 0].max()
    with pytest.raises(OptionError, match="2 sets of weights; expected at least 3"):
        loss_slice(network, (x, y), path=path[:2])


def test_a_random_walk_has_two_main_axes_too():
    walk = np.random.default_rng(0).standard_normal((20, 20000)).cumsum(0)
    away = walk - (walk[-1] + np.random.default_rng(1).standard_normal(20000))
    values = np.linalg.eigvalsh(away @ away.T)
    assert _random_walk(20) == pytest.approx(values[-2:].sum() / values.sum(), abs=0.01)
    assert _random_walk(20) > 0.8


# ---- lines -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch norm"])
def test_matching_undoes_a_change_of_places_exactly(norm):
    data = blobs()
    network = trained((20, 32, 16, 5), data, 0, steps=20, norm=norm)
    objective = Objective(network, data)
    links = links_of(objective)
    ours = numbers_of(network, buffers=True)
    moved = reordered(ours, links, shuffled(links, 5))
    assert not np.array_equal(moved["0.weight"], ours["0.weight"])
    back = reordered(moved, links, matched(ours, moved, links))
    assert all(np.array_equal(back[name], ours[name]) for name in ours)


def digits(family_run):
    """The training part of the digits as rows (N, 64), and their classes."""
    inputs, target = batch(RunExamples(load_run(family_run("mlp"))), 2000)
    pixels = inputs[0].reshape(len(target), -1).astype(np.float32)
    return (pixels - pixels.mean()) / pixels.std(), target


SIZES = (64, 128, 64, 10)


@pytest.mark.slow
def test_two_trainings_are_joined_once_their_units_are_matched(family_run):
    data = digits(family_run)
    a, b = (trained(SIZES, data, seed, steps=400) for seed in (0, 1))
    with untouched(a), untouched(b):
        line = loss_line(a, b, data, align=True, points=11)
    print(f"barrier {line.barrier:.3f}, matched {barrier(line.aligned):.3f}, random order {barrier(line.shuffled):.3f}")
    assert line.barrier > 0.3
    assert barrier(line.aligned) <= 0.25 * line.barrier
    assert barrier(line.shuffled) > 0.5 * line.barrier  # the control
    assert all(check.holds for check in line.checks)
    assert np.allclose(line.aligned[[0, -1]], line.losses[[0, -1]], rtol=1e-4)


@pytest.mark.slow
def test_a_network_that_has_learned_nothing_is_not_joined_by_matching(family_run):
    """Half way to it most is forgotten all the same; half way to a trained one hardly anything."""
    data = digits(family_run)
    a, learned, nothing = (trained(SIZES, data, seed, steps) for seed, steps in ((0, 400), (1, 400), (2, 0)))
    left = []
    for other in (learned, nothing):
        line = loss_line(a, other, data, align=True, points=3)
        left.append((line.aligned[1] - line.losses[0]) / (line.losses[1] - line.losses[0]))
    assert left[0] < 0.1 < 0.25 < left[1]


def test_where_units_cannot_be_matched_it_says_so():
    torch.manual_seed(0)
    x = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8)).astype(np.uint8)
    spec = ImageSpec((1, 8, 8), mean=[0.5], std=[0.25])
    make = lambda **options: build(spec, 3, "classification", Config(channels=(4, 6), **options))
    y = np.arange(8) % 3
    a, b = (make(residual=True, depth=3) for _ in range(2))
    with untouched(a), untouched(b), pytest.raises(OptionError, match="without skip connections; leave align out"):
        loss_line(a, b, (x, y), align=True)
    a, b = nn.Sequential(nn.LSTM(8, 4), Last(), nn.Linear(4, 3)), nn.Sequential(nn.LSTM(8, 4), Last(), nn.Linear(4, 3))
    with pytest.raises(OptionError, match="has LSTM at 0; expected a stack of Linear or Conv2d"):
        loss_line(a, b, (np.zeros((8, 5, 8), np.float32), y), align=True)
    with pytest.raises(OptionError, match=r"0.weight is \(8, 8\) in one network and \(6, 8\)"):
        loss_line(small(), nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3)), rows())
    with pytest.raises(OptionError, match="is in one of the networks alone"):
        loss_line(small(), nn.Sequential(nn.Linear(8, 8)), rows())


class Last(nn.Module):
    def forward(self, given):
        return given[0][:, -1]


# ---- every network ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=pytest.mark.slow) if name == "text lstm" else name for name in FAMILIES]
)
def test_every_family_has_a_landscape_and_keeps_no_trace(family_run, family):
    run = load_run(family_run(family))
    examples, other = RunExamples(run), RunExamples(run)
    network = examples.network.train()
    data = batch(examples, 24)
    with untouched(network):
        slice_ = loss_slice(network, data, points=3)
        bend = curvature(network, data, 3)
    assert np.isfinite(slice_.losses).all()
    assert np.isfinite(bend.spectrum).all()
    with untouched(network), untouched(other.network):
        line = loss_line(network, other.network, data, points=3)
        assert np.allclose(line.losses, line.losses[0], rtol=1e-5)
        try:
            aligned = loss_line(network, other.network, data, align=True, points=3)
        except OptionError as error:
            assert family not in ("mlp", "cnn", "plain table"), error
            assert "leave align out" in str(error)
        else:
            assert np.allclose(aligned.aligned, line.losses, rtol=1e-4)  # a copy stays where it is


def test_a_view_that_raises_leaves_no_trace():
    network = small()
    calls = []

    def losses(output, target):
        calls.append(output)
        if len(calls) > 1:
            raise ValueError("stop")
        return F.cross_entropy(output, target, reduction="none")

    other = small(seed=4)
    for view in (loss_slice, curvature, lambda *a, **b: loss_line(a[0], other, a[1], **b)):
        calls.clear()
        with untouched(network), pytest.raises(ValueError, match="stop"):
            view(network, rows(), losses=losses)


def test_what_cannot_be_shown_is_told():
    with pytest.raises(OptionError, match="arrays of 64, 63 examples"):
        loss_slice(small(), (rows()[0], rows()[1][:63]))
    with pytest.raises(OptionError, match="has no Parameters that require a gradient"):
        curvature(nn.ReLU(), rows())
    with pytest.raises(OptionError, match="expected at least 2 points"):
        loss_slice(small(), rows(), points=1)
