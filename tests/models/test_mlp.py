"""The MLP's numbers, shapes and configuration."""

import dataclasses

import numpy as np
import pytest

import pellucid as pl
from pellucid.data.input_spec import ImageSpec, TableSpec
from pellucid.data.loader import DataLoader, TensorDataset
from pellucid.errors import OptionError
from pellucid.models import family, mlp
from pellucid.models.blocks import table_input
from pellucid.runs.settings import Settings
from pellucid.training.learner import Learner

IMAGES = ImageSpec((28, 28))
TABLE = TableSpec(2, [[-1.0, 0.0, 1.0], [-2.0, 2.0]], [3, 2])


def rows(count=5):
    random = np.random.default_rng(0)
    numbers = pl.tensor(random.normal(size=(count, 2)).astype(np.float32))
    categories = pl.tensor(np.stack([random.integers(0, 3, count), random.integers(0, 2, count)], 1))
    return numbers, categories


def test_the_default_network_for_mnist_has_the_textbooks_109386_parameters():
    network = mlp.build(IMAGES, 10, "classification", mlp.Config())
    assert sum(p.numel() for p in network.parameters()) == 109_386
    assert [tuple(p.shape) for p in network.parameters()][::2] == [(128, 784), (64, 128), (10, 64)]
    assert network(pl.zeros(3, 28, 28)).shape == (3, 10)


@pytest.mark.parametrize("numbers", mlp.NUMERIC_EMBEDDINGS)
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_tables_of_numbers_and_categories(numbers, task):
    network = mlp.build(
        TABLE, 4 if task == "classification" else 1, task, mlp.Config(hidden_sizes=(8,), numeric_embedding=numbers)
    )
    output = network(*rows())
    assert output.shape == ((5, 4) if task == "classification" else (5,))
    target = pl.tensor(np.array([0, 1, 2, 3, 0])) if task == "classification" else pl.zeros(5)
    network.loss(output, target).backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("missing", ["numbers", "categories"])
def test_a_table_without_numbers_or_without_categories(missing):
    spec = dataclasses.replace(TABLE, **{missing: 0 if missing == "numbers" else []})
    network = mlp.build(spec, 2, "classification", mlp.Config(hidden_sizes=()))
    numbers, categories = rows()
    assert network.input_names == (("categories",) if missing == "numbers" else ("numbers",))
    assert network(categories if missing == "numbers" else numbers).shape == (5, 2)


def test_piecewise_numbers_are_a_line_plus_a_slope_of_its_own_in_each_bin():
    layer = table_input.PiecewiseLinearEmbedding([[-1.0, 0.0, 2.0]], 1)
    layer.weight.data, layer.bias.data = pl.zeros(1, 1), pl.zeros(1, 1)
    layer.bin_slopes.data = pl.tensor([[[1.0], [10.0]]])
    x = pl.tensor([[-3.0], [-1.0], [-0.5], [0.0], [1.0], [2.0], [9.0]])
    expected = [0, 0, 0.5, 1, 6, 11, 11]
    assert layer(x).detach().numpy()[:, 0].tolist() == pytest.approx(expected)


def test_shifting_moves_each_image_as_a_whole_and_only_while_training():
    pl.manual_seed(0)
    layer = mlp.FlattenedImage(ImageSpec((5, 5)), 1)
    image = pl.zeros(200, 5, 5)
    image[:, 2, 2] = 1.0
    moved = layer(image).reshape(200, 5, 5).numpy()
    assert (moved.sum((1, 2)) == 1).all()
    places = {tuple(map(int, np.argwhere(picture)[0])) for picture in moved}
    assert places == {(i, j) for i in (1, 2, 3) for j in (1, 2, 3)}
    assert layer.eval()(image).equal(image.flatten(1))


def test_pictures_are_standardised_by_channel_and_their_channels_move_together():
    spec = ImageSpec((3, 4, 5), mean=[10.0, 20.0, 30.0], std=[2.0, 4.0, 5.0])
    image = np.random.default_rng(0).integers(0, 256, (200, 3, 4, 5)).astype(np.uint8)
    layer = mlp.build(spec, 7, "classification", mlp.Config(shift=1)).embeddings["image"]
    assert layer.size == 60
    expected = (image - np.array([10, 20, 30]).reshape(3, 1, 1)) / np.array([2, 4, 5]).reshape(3, 1, 1)
    np.testing.assert_allclose(layer.eval()(pl.tensor(image)).numpy(), expected.reshape(200, 60), rtol=1e-6)
    padded = np.pad(expected, [(0, 0), (0, 0), (1, 1), (1, 1)])
    moved = {(d, r): padded[:, :, d : d + 4, r : r + 5] for d in range(3) for r in range(3)}
    found = []
    for i, row in enumerate(layer.train()(pl.tensor(image)).numpy().reshape(200, 3, 4, 5)):
        where = [by for by, all_of_them in moved.items() if np.allclose(all_of_them[i], row, rtol=1e-5)]
        assert len(where) == 1
        found += where
    assert set(found) == moved.keys()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"hidden_sizes": (0,)}, "hidden_sizes: 0"),
        ({"activation": "rely"}, "Did you mean 'relu'"),
        ({"dropout": 1.0}, "dropout: 1.0"),
        ({"numeric_embedding": "piecwise"}, "Did you mean 'piecewise'"),
    ],
)
def test_a_wrong_configuration_is_named(values, words):
    with pytest.raises(OptionError, match=words):
        mlp.Config(**values)


def test_an_unknown_family_suggests_the_near_one():
    with pytest.raises(OptionError, match="Did you mean 'mlp'"):
        family("mpl")


def test_changes_of_slope_are_not_decayed():
    network = mlp.build(TABLE, 1, "regression", mlp.Config(hidden_sizes=()))
    data = TensorDataset(pl.zeros(4, 2), pl.zeros(4, 2).long(), pl.zeros(4))
    (optimizer,) = Learner(network, DataLoader(data, 4), Settings(weight_decay=0.1)).state.optimizers
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    layer = network.embeddings["numbers"]
    assert id(layer.weight) in decayed and id(layer.bin_slopes) not in decayed
