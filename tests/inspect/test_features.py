"""Filters, strongest examples, inputs that drive a unit, and probes; each beside what must fail."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from family_runs import FAMILIES
from untouched import untouched

import pellucid as torch
from pellucid import functional as F
from pellucid import nn, optim
from pellucid.cli import cli
from pellucid.data.load import load_problem
from pellucid.errors import OptionError
from pellucid.evaluation.probes import probe
from pellucid.inspect import features, filters, maximize, top_examples, unit_layers
from pellucid.inspect.features import activations, by_unit, purity
from pellucid.runs.run import load_run

OWN_SIZE = (1, 8, 8)


def own(seed=0):
    """A user's own network of pictures."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 3)
    )  # fmt: skip


@pytest.fixture
def images():
    return np.random.default_rng(0).random((30, *OWN_SIZE)).astype(np.float32)


def test_filters_of_a_convolution_and_of_a_layer_that_reads_pixels():
    network = own()
    assert np.array_equal(filters(network), network[0].weight.detach().numpy())
    flat = nn.Sequential(nn.Flatten(), nn.Linear(48, 5), nn.ReLU())
    assert filters(flat) is None
    found = filters(flat, (3, 4, 4))
    assert found.shape == (5, 3, 4, 4)
    assert np.array_equal(found[2].reshape(-1), flat[1].weight.detach().numpy()[2])
    assert filters(flat, (5, 5)) is None


def test_the_strongest_examples_are_those_of_the_largest_activation(images):
    network, labels = own(), np.arange(30) % 3
    with untouched(network):
        found = top_examples(network, "1", 2, images, labels=labels)
    with torch.no_grad():
        expected = np.maximum(network[0](torch.tensor(images)).numpy()[:, 2], 0).max((1, 2))
    assert np.allclose(found.values, np.sort(expected)[::-1][:9])
    assert np.allclose(expected[found.rows], found.values)
    assert np.array_equal(found.labels, labels[found.rows])
    with untouched(network), pytest.raises(OptionError, match="it has 4 units; expected 0 to 3"):
        top_examples(network, "1", 4, images)
    with untouched(network), pytest.raises(OptionError, match="no layer '9'"):
        top_examples(network, "9", 0, images)


def test_layers_whose_units_are_shown():
    assert unit_layers(own(), torch.zeros(1, *OWN_SIZE)) == ["1", "5"]
    assert unit_layers(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)), torch.zeros(1, 2)) == ["0", "1"]


def test_a_picture_that_drives_a_unit_follows_the_sign_of_its_weights():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2), nn.ReLU())
    with torch.no_grad():
        sign = np.where(np.arange(64).reshape(8, 8) % 8 < 4, 1.0, -1.0).astype(np.float32)
        network[1].weight.assign(np.stack([sign.reshape(-1), -sign.reshape(-1)]))
        network[1].bias.assign(np.full(2, -5.0, np.float32))  # off for noise: the slope is that of the sum before
    with untouched(network):
        found = maximize(network, "2", [0, 1], (8, 8))
    left, right = found.images[0], found.images[1]
    assert (found.values > 20).all() and (found.start == 0).all()
    assert left[:, :3].min() > 0.9 and left[:, 5:].max() < 0.1
    assert right[:, 5:].min() > 0.9 and right[:, :3].max() < 0.1
    wide = maximize(network, "2", 0, (8, 8), box=(-3.0, 9.0))
    assert wide.images.min() >= -3 and wide.images.max() <= 9 and wide.values[0] > found.values[0]
    with untouched(network), pytest.raises(OptionError, match="it has 2 units"):
        maximize(network, "2", 2, (8, 8))
    with pytest.raises(OptionError, match="no layer 'relu'"):
        maximize(network, "relu", 0, (8, 8))


def test_a_probe_reads_what_is_there_and_not_what_is_not():
    chance = np.random.default_rng(0)
    x = chance.normal(size=(600, 4)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(np.int64)  # no linear model reads it from the input

    class Product(nn.Module):
        def __init__(self):
            super().__init__()
            self.product, self.other = nn.Identity(), nn.Identity()

        def forward(self, x):
            return self.product(x[:, :1] * x[:, 1:2]) + self.other(x[:, 2:3])

    network = Product()
    with untouched(network):
        found = probe(network, ["product", "other"], ([x[:400]], y[:400]), ([x[400:]], y[400:]))
    assert found.layers == ("input", "product", "other")
    assert found.trained[1] > 0.95 and found.trained[[0, 2]].max() < 0.62 and found.shuffled.max() < 0.62
    number = probe(network, ["product"], ([x[:400]], x[:400, 2]), ([x[400:]], x[400:, 2]))
    assert number.measure == "R2" and number.trained[0] > 0.99 and number.trained[1] < 0.1


def test_a_user_s_own_network_shows_its_features(images):
    network = own()
    with untouched(network):
        found = features(network, images, np.arange(30) % 3)
    assert found.layer == "5" and found.units == 12 and len(found.tops) == 8
    assert found.pictures.images.shape == (8, *OWN_SIZE)
    assert "made picture" in str(found) and found.to_dict()["tops"]
    with untouched(network), pytest.raises(OptionError, match="no layer 'head'"):
        features(network, images, layer="head")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_shows_its_features(family_run, family):
    folder = family_run(family)
    network = load_run(folder).network()
    with untouched(network):
        result = CliRunner().invoke(cli, ["features", str(folder)])
    if family == "diffusion":
        assert result.exit_code == 2 and "answer to noise" in result.output
        return
    assert result.exit_code == 0, result.output
    assert len(result.output.splitlines()) <= 40
    assert result.output.splitlines()[-1].startswith("next    pellucid")
    page = (folder / "inspect" / "features.html").read_text()
    assert "This page holds no row, picture or text of your data" in page
    assert ("made picture" in result.output) == (family in ("mlp", "cnn", "gan"))
    assert ("purity" in result.output) == (family in ("mlp", "cnn", "table", "plain table"))
    assert "words" not in json.loads((folder / "inspect" / "features.json").read_text())


def test_probes_and_examples_stand_on_the_page_when_asked(family_run):
    folder = family_run("mlp")
    before = CliRunner().invoke(cli, ["features", str(folder)])
    page = folder / "inspect" / "features.html"
    plain = page.read_text().count("<img")
    result = CliRunner().invoke(cli, ["features", str(folder), "--probe", "--with-examples"])
    assert before.exit_code == result.exit_code == 0, result.output
    assert "Linear probes, accuracy on" in result.output
    assert "holds examples of your data (the strongest examples of each unit)" in page.read_text()
    assert page.read_text().count("<img") == plain + 8 and "linear probes by depth" in page.read_text()
    text = CliRunner().invoke(cli, ["features", str(family_run("transformer")), "--probe"])
    assert text.exit_code == 2 and "no one answer for an example" in text.output


def trained_on_mnist(make, size, x, y, epochs, seed=0):
    torch.manual_seed(seed)
    network = make()
    optimizer = optim.AdamW(network.parameters(), lr=1e-3)

    @torch.compile
    def step(a, b):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(a), b)
        loss.backward()
        optimizer.step()
        return loss.detach()

    chance = np.random.default_rng(seed)
    for _ in range(epochs):
        order = chance.permutation(len(x))
        for start in range(0, len(x) - 63, 64):
            rows = order[start : start + 64]
            step(torch.tensor(x[rows].reshape(-1, *size)), torch.tensor(y[rows]))
    network.zero_grad()
    return network.eval()


def mnist_mlp():
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def mnist_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 49, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


@pytest.fixture(scope="module")
def mnist():
    """((x, y) to learn from, (x, y) to test on, {name: (trained network, how to make another, size)})."""
    data = load_problem("mnist")
    part = lambda split: (
        split.inputs["image"].astype(np.float32) / max(1.0, float(split.inputs["image"].max())),
        split.target,
    )
    learn, test = tuple(value[:30000] for value in part(data.train)), part(data.test)
    networks = {}
    for name, make, size, epochs in (("mlp", mnist_mlp, (784,), 3), ("cnn", mnist_cnn, (1, 28, 28), 2)):
        networks[name] = (trained_on_mnist(make, size, *learn, epochs), make, size)
    return learn, test, networks


@pytest.mark.slow
@pytest.mark.parametrize("name, layer", [("mlp", "3"), ("cnn", "8")])
def test_units_of_a_trained_network_are_purer(mnist, name, layer):
    _, (x, y), networks = mnist
    network, make, size = networks[name]
    torch.manual_seed(9)
    pure = [
        purity(by_unit(activations(each, [layer], [x[:5000].reshape(-1, *size)])[layer], each)[0], y[:5000])
        for each in (network, make())
    ]
    print(name, pure)
    assert pure[0] - pure[1] >= 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_made_pictures_beat_the_best_example_and_another_network_reads_them(mnist, name):
    _, (x, _), networks = mnist
    network, _, size = networks[name]
    other, _, other_size = networks["cnn" if name == "mlp" else "mlp"]
    best = by_unit(activations(network, [""], [x.reshape(-1, *size)])[""], network)[0].max(0)
    flat = lambda images: images.reshape(10, 28, 28)
    call = lambda images: network(images.reshape(-1, *size))
    with untouched(network):
        found = maximize(network, "", list(range(10)), (28, 28), forward=call)
    with torch.no_grad():
        read = other(torch.tensor(flat(found.images).reshape(-1, *other_size))).numpy().argmax(1)
    print(name, (found.values > best).sum(), (read == np.arange(10)).sum())
    assert (found.values > best).sum() >= 9 and (found.start > best).sum() == 0
    assert (read == np.arange(10)).sum() >= 7


@pytest.mark.slow
@pytest.mark.parametrize("name, layers", [("mlp", ["1", "3"]), ("cnn", ["1", "2", "4", "5", "8"])])
def test_probes_rise_with_depth_above_both_controls(mnist, name, layers):
    (x, y), (tx, ty), networks = mnist
    network, make, size = networks[name]
    torch.manual_seed(9)
    found = probe(network, layers, ([x.reshape(-1, *size)], y), ([tx.reshape(-1, *size)], ty), untrained=make())
    print(name, found.trained, found.untrained, found.shuffled)
    assert found.trained[-1] >= found.trained[0] + 0.08 and found.trained[-1] >= found.untrained[-1] + 0.15
    assert np.diff(found.trained).min() >= -0.01
    assert found.shuffled.max() <= 0.20
