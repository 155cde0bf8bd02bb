"""The convolutional network: images moved by chance, whitened patches, its features, and Muon on its filters."""

import numpy as np
import pytest

import pellucid as P
from pellucid import functional as F
from pellucid import nn
from pellucid.data.input_spec import ImageSpec, TableSpec
from pellucid.errors import OptionError
from pellucid.models import cnn
from pellucid.models.blocks.augmentation import Augmentation, ImageInput, augment
from pellucid.models.cnn import WHITENING_EPSILON, Config, Whitening

COLOUR = ImageSpec((3, 6, 5), mean=[10.0, 20.0, 30.0], std=[1.0, 2.0, 4.0])
ALL = Augmentation(shift=1, flip=True, rotate=10.0, zoom=0.1, shear=5.0, erase=2)


def images(*shape, seed=0):
    return P.tensor(np.random.default_rng(seed).random(shape).astype(np.float32) + 1)


# ---- movements -----------------------------------------------------------------------------------------------------------


def test_images_enter_in_their_scale():
    grey = ImageInput(ImageSpec((4, 5)), ALL).eval()
    x = images(2, 4, 5)
    assert grey(x).shape == (2, 1, 4, 5) and grey(x)[:, 0].equal(x), "evaluation moves nothing"
    colour = ImageInput(COLOUR, ALL).eval()
    pixels = P.tensor(np.random.default_rng(0).integers(0, 256, (2, 3, 6, 5)).astype(np.uint8))
    expected = (pixels.array - np.array([10, 20, 30]).reshape(3, 1, 1)) / np.array([1, 2, 4]).reshape(3, 1, 1)
    np.testing.assert_allclose(colour(pixels).array, expected, rtol=1e-6)
    P.manual_seed(0)
    assert colour.train()(pixels).shape == (2, 3, 6, 5) and not colour(pixels).equal(colour.eval()(pixels))


def test_shifts_are_whole_pixels_with_zeros_coming_in_and_the_same_for_all_channels():
    P.manual_seed(0)
    x = images(1, 2, 5, 6).expand(300, 2, 5, 6)
    found = augment(x, Augmentation(shift=2)).array
    padded = np.pad(x.array[0], ((0, 0), (2, 2), (2, 2)))
    places = set()
    for picture in found:
        match = [(i, j) for i in range(5) for j in range(5) if (padded[:, i : i + 5, j : j + 6] == picture).all()]
        assert len(match) == 1
        places.add(match[0])
    assert len(places) == 25


def test_half_of_the_images_are_mirrored():
    P.manual_seed(0)
    x = images(400, 1, 3, 4)
    found = augment(x, Augmentation(flip=True)).array
    mirrored = (found == x.array[..., ::-1]).all((1, 2, 3))
    assert (mirrored | (found == x.array).all((1, 2, 3))).all() and 0.4 < mirrored.mean() < 0.6


def test_turning_keeps_the_distance_to_the_middle_of_images_that_are_not_square():
    rows, columns = np.mgrid[:21, :31].astype(np.float32)
    dot = np.exp(-((rows - 10) ** 2 + (columns - 21) ** 2) / 4)  # 6 pixels right of the middle
    P.manual_seed(0)
    found = augment(P.tensor(dot).expand(60, 1, 21, 31), Augmentation(rotate=180.0)).array[:, 0]
    mass = found.sum((1, 2))
    down, right = ((found * place).sum((1, 2)) / mass for place in (rows - 10, columns - 15))
    np.testing.assert_allclose(np.hypot(down, right), 6, atol=0.1)
    np.testing.assert_allclose(mass, dot.sum(), rtol=0.02)
    assert down.min() < -5 and down.max() > 5 and right.min() < -5


@pytest.mark.parametrize("moves", [Augmentation(zoom=0.2), Augmentation(shear=20.0), Augmentation(rotate=5.0, shift=1)])
def test_a_warped_image_is_near_what_it_was_and_never_beyond_its_range(moves):
    P.manual_seed(0)
    rows, columns = np.mgrid[:16, :16] - 7.5
    blob = np.exp(-(rows**2 + columns**2) / 18).astype(np.float32)
    found = augment(P.tensor(blob).expand(50, 1, 16, 16), moves).array
    assert found.min() >= 0 and found.max() <= blob.max() + 1e-6
    away = np.abs(found - blob).max((1, 2, 3))
    assert (away > 1e-3).all() and (away < 0.3).all() and len(np.unique(away)) == 50


def test_a_square_is_erased_somewhere_within():
    P.manual_seed(0)
    gone = augment(images(300, 2, 7, 6), Augmentation(erase=3)).array == 0
    assert (gone[:, 0] == gone[:, 1]).all()
    counts = gone[:, 0].sum((1, 2))
    assert counts.max() == 9 and counts.min() == 4, "cut off at a corner, its middle stays inside"
    assert gone.any(0).all()


def test_movements_compiled_are_those_of_eager_steps():
    x = images(8, 3, 9, 7)
    step = P.compile(lambda x: augment(x, ALL))
    for seed in range(3):
        P.manual_seed(seed)
        eager = augment(x, ALL).array
        P.manual_seed(seed)
        np.testing.assert_allclose(step(x).array, eager, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"shift": -1}, "shift: -1; expected 0 or more"),
        ({"rotate": float("nan")}, "rotate: nan"),
        ({"shear": 90.0}, "shear: 90.0; expected 0 up to, but not including, 90"),
        ({"zoom": 1.0}, "zoom: 1.0"),
        ({"channels": ()}, "channels: "),
        ({"depth": 0}, "depth: 0"),
        ({"whiten": -1}, "whiten: -1"),
        ({"activation": "rely"}, "Did you mean 'relu'"),
        ({"dropout": 1.0}, "dropout: 1.0"),
        ({"mixup": -0.1}, "mixup: -0.1; expected 0 up to, but not including, 1"),
    ],
)
def test_a_wrong_configuration_is_named(values, words):
    with pytest.raises(OptionError, match=words):
        Config(**values)


def test_what_does_not_fit_the_images_is_refused():
    with pytest.raises(OptionError, match="whiten: 7; expected at most the 5 pixels"):
        cnn.build(COLOUR, 2, "classification", Config(whiten=7))
    with pytest.raises(OptionError, match="cnn for regression of a table; .*--model mlp"):
        cnn.build(TableSpec(3), 1, "regression", Config())


# ---- the network ---------------------------------------------------------------------------------------------------------


def test_whitened_patches_have_unit_covariance():
    random = np.random.default_rng(0)
    smooth = random.normal(size=(500, 2, 9, 9))
    smooth = (smooth[:, :, 1:, 1:] + smooth[:, :, :-1, 1:] + smooth[:, ::-1, 1:, :-1] * 0.5).astype(np.float32)
    layer = Whitening(2, 2, "relu")
    layer.fit(smooth)
    said = layer.convolution(P.tensor(smooth)).array[:, :, ::2, ::2]  # the patches it was fitted to
    assert said.shape[1] == 16
    np.testing.assert_allclose(said[:, 8:], -said[:, :8], atol=1e-4)
    rows = said[:, :8].transpose(0, 2, 3, 1).reshape(-1, 8)
    np.testing.assert_allclose(rows.T @ rows / len(rows), np.eye(8), atol=100 * WHITENING_EPSILON)
    assert not layer.convolution.weight.requires_grad and layer.convolution.bias.requires_grad


@pytest.mark.parametrize("spec", [COLOUR, ImageSpec((9, 4))])
@pytest.mark.parametrize("changes", [{}, {"whiten": 2, "residual": True, "depth": 3}])
def test_features_are_what_the_head_reads(spec, changes):
    P.manual_seed(0)
    network = cnn.build(spec, 4, "classification", Config(channels=(4, 6), **changes)).eval()
    x = P.tensor(np.random.default_rng(0).integers(0, 256, (5, *spec.size)).astype(np.float32))
    assert network.features(x).shape == (5, 6)
    np.testing.assert_allclose(network.head(network.features(x)).array, network(x).array, rtol=1e-5, atol=1e-6)


def test_with_a_mirror_an_image_and_its_mirror_image_have_one_answer():
    network = cnn.build(ImageSpec((6, 6)), 3, "classification", Config(channels=(4,), flip_tta=True)).eval()
    x = images(3, 6, 6)
    np.testing.assert_allclose(network(x).array, network(x.flip(-1)).array, rtol=1e-5, atol=1e-6)
    network.flip_tta = False
    assert not np.allclose(network(x).array, network(x.flip(-1)).array, rtol=1e-3)


def test_mixup_gives_each_image_a_share_of_another_one_and_of_its_label():
    P.manual_seed(1)
    network = cnn.build(ImageSpec((6, 6)), 3, "classification", Config(channels=(4,), mixup=0.4)).train()
    x, target = images(5, 6, 6), P.tensor([0, 1, 2, 1, 0])
    P.manual_seed(7)
    found = network.training_step(x, target)
    P.manual_seed(7)
    share = P.rand(5) * 0.4
    mixed = x.array + (x.array[::-1] - x.array) * share.array[:, None, None]
    logits = network.head(network._features(P.tensor(mixed).unsqueeze(1)))
    own, other = (F.cross_entropy(logits, t, reduction="none").array for t in (target, target.flip(0)))
    np.testing.assert_allclose(found["loss"].item(), np.mean((1 - share.array) * own + share.array * other), rtol=1e-5)
    assert found["accuracy"].item() == np.mean(logits.array.argmax(1) == target.array)
    P.manual_seed(7)
    np.testing.assert_allclose(
        P.compile(network.training_step)(x, target)["loss"].item(), found["loss"].item(), rtol=1e-5
    )
    network.eval()
    assert network.evaluation_step(x, target)["loss"].shape == (5,)


def test_it_is_prepared_with_the_images_it_sees_in_evaluation():
    network = cnn.build(COLOUR, 2, "classification", Config(channels=(4,), whiten=2, shift=2, erase=3))
    pixels = P.tensor(np.random.default_rng(0).integers(0, 256, (20, 3, 6, 5)).astype(np.uint8))
    network.train().initialize_from_data(pixels, P.zeros(20))
    expected = Whitening(3, 2, "gelu")
    expected.fit(network.image.eval()(pixels).array)
    assert network.whitening.convolution.weight.equal(expected.convolution.weight)


def test_muon_moves_filters_as_the_matrix_of_their_patches():
    random = np.random.default_rng(0)
    start, gradients = random.normal(size=(6, 2, 3, 3)), random.normal(size=(4, 6, 2, 3, 3))
    for rule in (None, "match_rms_adamw"):
        found = []
        for shape in ((6, 2, 3, 3), (6, 18)):
            p = nn.Parameter(P.tensor(start.reshape(shape).astype(np.float32)))
            optimizer = P.optim.Muon([p], lr=0.1, adjust_lr_fn=rule)
            for gradient in gradients:
                p.grad = P.tensor(gradient.reshape(shape).astype(np.float32))
                optimizer.step()
            found.append(p.array.reshape(6, 18))
        np.testing.assert_array_equal(*found)
        assert np.abs(found[0] - start.reshape(6, 18)).max() > 0.01
