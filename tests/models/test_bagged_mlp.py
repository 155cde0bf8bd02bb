"""Bagged MLPs: M networks in one, each blind to its own fold; against M separate networks."""

import numpy as np
import pytest

import pellucid
from pellucid import functional as F
from pellucid.data.input_spec import ImageSpec, TableSpec
from pellucid.errors import OptionError
from pellucid.models import mlp
from pellucid.models.mlp import Config

SPEC = TableSpec(3, [[-1.0, 0.0, 1.0], [-2.0, 2.0], [0.0, 1.0]], [3, 4], straight=[1])
FOLDS = 3


def network(task="classification", outputs=3, linear_start=True, seed=0, **more):
    pellucid.manual_seed(seed)
    config = Config(hidden_sizes=(5,), embedding_dim=2, bag_folds=FOLDS, linear_start=linear_start, **more)
    return mlp.build(SPEC, outputs, task, config)


def batch(rows=12, task="classification", seed=0):
    rng = np.random.default_rng(seed)
    arrays = {
        "numbers": rng.normal(size=(rows, 3)).astype(np.float32),
        "categories": np.stack([rng.integers(0, 3, rows), rng.integers(0, 4, rows)], 1),
        "straight": rng.normal(size=(rows, 1)).astype(np.float32),
    }
    targets = {
        "classification": rng.integers(0, 3, rows),
        "regression": rng.normal(size=rows).astype(np.float32),
        "counts": rng.poisson(2, rows).astype(np.float32),
        "multilabel": rng.integers(0, 2, (rows, 3)).astype(np.float32),
    }
    return arrays, np.arange(rows) % FOLDS, targets[task]


def tensors(net, arrays, *more):
    return [pellucid.tensor(a) for a in (*(arrays[name] for name in net.input_names), *more)]


def fill(net, seed=1):
    """Random numbers in all weights, those of the linear models too."""
    rng = np.random.default_rng(seed)
    for name, t in net.state_dict().items():
        if t.dtype == np.float32 and name not in ("mix", "temperature") and "embeddings.numbers.s" not in name:
            t.assign(pellucid.tensor((0.3 * rng.normal(size=t.shape)).astype(np.float32)))


def test_each_fold_is_an_mlp_of_its_own():
    """The outputs of copy m are those of one MLP with its slice of the weights."""
    net = network(linear_start=False)
    fill(net)
    arrays, _, _ = batch()
    outputs, line = net.fold_outputs(*tensors(net, arrays))
    assert line is None and outputs.shape == (FOLDS, 12, 3)
    for m in range(FOLDS):
        one = mlp.build(SPEC, 3, "classification", Config(hidden_sizes=(5,), embedding_dim=2))
        state = {}
        for name, t in one.state_dict().items():
            values = net.state_dict()[name].array
            if name == "embeddings.categories.table.weight":
                values = values.reshape(FOLDS, -1, values.shape[1])[m]
            elif name == "embeddings.categories.first":
                values = values[0, 0]
            elif not name.endswith((".start", ".scale")):
                values = values[m]
            assert values.shape == t.shape, name
            state[name] = pellucid.tensor(values)
        one.load_state_dict(state)
        np.testing.assert_allclose(outputs.array[m], one(*tensors(one, arrays)).array, rtol=2e-5, atol=2e-6)


def test_the_first_answer_is_that_of_the_linear_models():
    net = network().eval()
    rng = np.random.default_rng(3)
    line = net.linear_start
    for t in (line.numbers, line.categories, line.bias):
        t.assign(pellucid.tensor(rng.normal(size=t.shape).astype(np.float32)))
    arrays, fold, _ = batch()
    hot = np.concatenate([np.eye(3)[arrays["categories"][:, 0]], np.eye(4)[arrays["categories"][:, 1]]], axis=1)
    every = np.concatenate([arrays["numbers"], arrays["straight"], hot], axis=1)
    weight = np.concatenate([line.numbers.array, line.categories.array.reshape(FOLDS, 7, 3)], axis=1)
    logits = every @ weight + line.bias.array[:, None]
    probability = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    mean = F.softmax(net(*tensors(net, arrays)), dim=1).array
    np.testing.assert_allclose(mean, probability.mean(0), rtol=1e-4, atol=1e-6)
    own = F.softmax(net(*tensors(net, arrays, fold)), dim=1).array
    np.testing.assert_allclose(own, probability[fold, np.arange(12)], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("task", ["classification", "regression", "counts", "multilabel"])
def test_a_network_learns_nothing_of_its_fold(task):
    """Other targets in fold 0 change no gradient of copy 0, and some of the others."""
    outputs = 3 if task in ("classification", "multilabel") else 1
    net = network(task, outputs)
    fill(net)
    arrays, fold, target = batch(task=task)
    other = target.copy()
    other[fold == 0] = target[fold == 0][::-1] + 1 if task in ("regression", "counts") else 1 - (target[fold == 0] > 0)
    gradients = []
    for own in (target, other):
        net.zero_grad()
        net.training_step(*tensors(net, arrays, fold, own))["loss"].backward()
        gradients.append([layer.weight.grad.array.copy() for layer in net.layers if hasattr(layer, "weight")])
    for before, after in zip(*gradients, strict=True):
        assert np.array_equal(before[0], after[0]) and before[0].any()
        assert not np.array_equal(before[1], after[1])


def test_the_loss_is_the_mean_over_the_networks_of_what_each_learns():
    net = network(label_smoothing=0.0)
    fill(net)
    arrays, fold, target = batch()
    outputs, _ = net.fold_outputs(*tensors(net, arrays))
    own = [
        F.cross_entropy(pellucid.tensor(outputs.array[m][fold != m]), pellucid.tensor(target[fold != m])).item()
        for m in range(FOLDS)
    ]
    values = net.training_step(*tensors(net, arrays, fold, target))
    assert values["loss"].item() == pytest.approx(np.mean(own), rel=1e-5)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_mix_and_temperature(task):
    net = network(task).eval()
    fill(net)
    arrays, _, _ = batch(task=task)
    outputs, line = net.fold_outputs(*tensors(net, arrays))
    natural = F.sigmoid if task == "multilabel" else lambda z: F.softmax(z, dim=-1)
    mixed = 0.3 * natural(outputs).array.mean(0) + 0.7 * natural(line).array.mean(0)
    net.mix.assign(pellucid.tensor(np.float32(0.3)))
    np.testing.assert_allclose(natural(net(*tensors(net, arrays))).array, mixed, rtol=1e-4, atol=1e-6)
    net.temperature.assign(pellucid.tensor(np.float32(2.0)))
    cooled = natural(net(*tensors(net, arrays))).array
    expected = mixed**0.5
    expected = (
        expected / (expected + (1 - mixed) ** 0.5)
        if task == "multilabel"
        else expected / expected.sum(1, keepdims=True)
    )
    np.testing.assert_allclose(cooled, expected, rtol=1e-4, atol=1e-6)


def test_compiled_as_eager():
    net = network()
    fill(net)
    arrays, fold, target = batch()
    given = tensors(net, arrays, fold, target)
    eager = net.training_step(*given)["loss"].item()
    assert pellucid.compile(lambda *a: net.training_step(*a)["loss"])(*given).item() == pytest.approx(eager, rel=1e-5)


def test_members_of_a_fold_answer_by_their_mean():
    net = network(members=2)
    fill(net)
    arrays, fold, target = batch()
    outputs, _ = net.fold_outputs(*tensors(net, arrays))
    assert outputs.shape == (2 * FOLDS, 12, 3) and not np.allclose(outputs.array[0], outputs.array[FOLDS])
    probabilities = F.softmax(outputs, dim=-1).array
    own = F.softmax(net(*tensors(net, arrays, fold)), dim=1).array
    expected = (probabilities[fold, np.arange(12)] + probabilities[fold + FOLDS, np.arange(12)]) / 2
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-6)
    net.training_step(*tensors(net, arrays, fold, target))["loss"].backward()
    before = net.layers[0].weight.grad.array.copy()
    other = np.where(fold == 0, (target + 1) % 3, target)
    net.zero_grad()
    net.training_step(*tensors(net, arrays, fold, other))["loss"].backward()
    same = [np.array_equal(a, b) for a, b in zip(before, net.layers[0].weight.grad.array, strict=True)]
    assert same == [True, False, False, True, False, False]


def test_folds_of_pictures_are_refused():
    with pytest.raises(OptionError, match="bag_folds: 3 for images; expected 0"):
        mlp.build(ImageSpec((1, 4, 4)), 2, "classification", Config(bag_folds=3))
    with pytest.raises(OptionError, match="linear_start: true with bag_folds=0"):
        Config(linear_start=True)
