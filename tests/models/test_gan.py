"""The GAN: its pieces against what they stand for, its turns, its judgement, its drawings, and that it learns."""

import numpy as np
import pytest
from drawing import SPECS, batch, check_compiled_step, digits, learn

import pellucid as P
from pellucid import functional as F
from pellucid.autograd import grad
from pellucid.data.image.preprocess import ImagePreprocessor
from pellucid.errors import OptionError, ShapeError
from pellucid.models import gan
from pellucid.models.blocks import image_scaling

SMALL = gan.Config(latent=5, width=4, critic_width=4)


def build(spec, config=SMALL, classes=3):
    P.manual_seed(0)
    return gan.build(SPECS[spec], classes, "classification", config)


# ---- canvas ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", SPECS)
def test_a_canvas_shows_black_as_minus_one_and_white_as_one_and_back(spec):
    image, _ = batch(SPECS[spec])
    easel = image_scaling.ImageScaling(SPECS[spec])
    seen = easel.normalize(image)
    assert seen.shape == (6, *easel.shape)
    assert -1 <= seen.min().item() < -0.9 and 0.9 < seen.max().item() <= 1
    np.testing.assert_allclose(easel.denormalize(seen).numpy(), image.numpy(), atol=1e-4)
    assert easel.denormalize(seen * 9).max().item() == (3 if easel.grey else 255)
    with pytest.raises(ShapeError, match=r"expected \(B, "):
        easel.normalize(image[..., 1:])


@pytest.mark.parametrize("kind", ["arrays", "files"])
def test_the_brightest_pixel_there_is_is_white_whatever_the_preprocessor(kind):
    pixels = np.zeros((4, 8, 8), np.uint8)
    pixels[:, 2:5, 3] = 255, 80, 33
    known = ImagePreprocessor.fit_arrays(pixels, ["0"])
    pixels = pixels[:, None]
    if kind == "files":
        known = ImagePreprocessor.fit_files((1, 8, 8), ["0"], np.bincount(pixels.ravel(), minlength=256)[None])
    seen = image_scaling.ImageScaling(known.input_spec()).normalize(P.tensor(known.encode(pixels)["image"])).numpy()
    np.testing.assert_allclose(seen, pixels.reshape(4, 1, 8, 8) / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("sides", [(8, 6), (7, 5)])
def test_halving_is_a_convolution_of_kernel_4_and_stride_2(sides):
    P.manual_seed(1)
    x = P.randn(2, 3, *sides)
    halve = image_scaling.Downsample(3, 5)
    parts = halve.conv.weight.reshape(
        5, 3, 2, 2, 2, 2
    )  # (out, in, row in a square, column in it, square's row, column)
    weight = parts.permute(0, 1, 4, 2, 5, 3).reshape(5, 3, 4, 4)
    even = F.pad(x, (0, sides[1] % 2, 0, sides[0] % 2))
    expected = F.conv2d(even, weight, halve.conv.bias, stride=2, padding=1)
    np.testing.assert_allclose(halve(x).detach().numpy(), expected.detach().numpy(), atol=1e-5)


def test_doubling_is_a_transposed_convolution_of_kernel_4_and_stride_2():
    P.manual_seed(1)
    x = P.randn(2, 3, 4, 5)
    double = image_scaling.Upsample(3, 2)
    parts = double.conv.weight.reshape(2, 2, 2, 3, 2, 2)  # (out, row in a square, column in it, in, kernel)
    weight = parts.flip(-1, -2).permute(3, 0, 4, 1, 5, 2).reshape(3, 2, 4, 4)
    expected = F.conv_transpose2d(x, weight, stride=2, padding=1)
    assert expected.shape == (2, 2, 8, 10)
    np.testing.assert_allclose(double(x).detach().numpy(), expected.detach().numpy(), atol=1e-5)


def test_squares_of_pixels_become_channels_and_pixels_again():
    x = P.arange(2 * 3 * 4 * 6).float().reshape(2, 3, 4, 6)
    assert image_scaling.pixel_unshuffle(x, 2)[0, :4, 1, 2].tolist() == [
        16,
        17,
        22,
        23,
    ]  # rows 2, 3 and columns 4, 5 of the first channel
    assert (image_scaling.pixel_shuffle(image_scaling.pixel_unshuffle(x, 2), 2) == x).all()


# ---- the networks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("spec", SPECS)
def test_images_of_any_size_are_drawn_in_the_encodings_scale(spec, conditional):
    network = build(spec, gan.Config(latent=5, width=4, critic_width=4, conditional=conditional)).eval()
    drawn = network.sample(np.array([0, 2, 1, 1]), P.Generator(3))
    assert drawn.shape == (4, *SPECS[spec].size) and drawn.dtype == np.float32
    assert drawn.min() >= 0 and drawn.max() <= network.scaling.white
    assert network.critic(
        network.scaling.normalize(batch(SPECS[spec])[0]), P.tensor([0, 1, 2] * 2) * conditional
    ).shape == (6,)
    assert (network.sample(np.array([0, 2, 1, 1]), P.Generator(3)) == drawn).all()
    assert (network.sample(np.array([0, 2, 1, 1]), P.Generator(4)) != drawn).any()


def test_what_is_drawn_natively_and_in_several_goes_is_what_one_go_draws():
    network, labels = build("digits").eval(), np.array([0, 2, 1, 1, 0])
    whole = network.sample(labels, P.Generator(3))
    network.sample_batch_size = 2
    np.testing.assert_allclose(network.sample(labels, P.Generator(3)), whole, atol=1e-5)
    paint = P.compile(network.generator_forward)
    np.testing.assert_allclose(network.sample(labels, P.Generator(3), paint), whole, atol=1e-5)
    assert len(paint.made) == 1


@pytest.mark.parametrize("labels", [[], [[1]], [3], [-1], [0.5]])
def test_labels_that_name_no_class_are_refused(labels):
    with pytest.raises(OptionError, match="sample: labels"):
        build("digits").sample(np.array(labels))


def test_options_that_make_no_network_are_refused():
    with pytest.raises(OptionError, match="hinge"):
        gan.Config(loss="hnge")
    with pytest.raises(OptionError, match="latent: 0"):
        gan.Config(latent=0)


# ---- learning --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", gan.LOSSES)
def test_each_turn_follows_its_own_loss(loss):
    network = build("digits", gan.Config(latent=5, width=4, critic_width=4, loss=loss))
    image, target = batch(SPECS["digits"])
    for turn in network.phases():
        parameters = list(turn.module.parameters())
        gradients = [g.numpy() for g in grad(turn.training_step(image, target)["loss"], parameters)]
        assert all(np.isfinite(g).all() for g in gradients)
        assert all(abs(g).max() > 0 for g in gradients if g.ndim > 1)
    critic, generator = network.phases()
    network.critic.forward = lambda x, classes: classes * 0.0 + 9  # takes all for real: right with half of what it sees
    assert critic.training_step(image, target)["accuracy"].item() == 0.5
    assert generator.training_step(image, target)["loss"].item() == pytest.approx(
        -9 if loss == "hinge" else np.exp(-9), rel=1e-3
    )


@pytest.mark.parametrize("spec", ["digits", "odd"])
def test_a_whole_step_is_the_same_eagerly_and_compiled(spec):
    check_compiled_step(lambda: gan.build(SPECS[spec], 3, "classification", SMALL), *batch(SPECS[spec]))


@pytest.mark.parametrize("conditional", [True, False])
def test_the_energy_score_is_least_where_drawings_are_spread_as_the_data_are(conditional):
    image, target = digits()
    network = build("digits", gan.Config(latent=5, width=4, critic_width=4, conditional=conditional), classes=10).eval()
    per_class = [np.flatnonzero(target.numpy() == k)[:64] for k in range(10)]
    rows = np.concatenate(per_class) if conditional else np.arange(640)
    real = network.scaling.normalize(image[P.tensor(rows)])
    held = slice(1000, None)
    scores = {}
    for name, drawn in {"real": real, "pale": real * 0.5, "one": real[:1] + real * 0, "mixed": real.flip(0)}.items():
        network.generator.forward = lambda latent, classes, drawn=drawn: drawn
        scores[name] = network.evaluation_step(image[held], target[held])["loss"].mean().item()
    assert network.evaluation_step(image[:7], target[:7])["loss"].shape == (7,)
    assert scores["real"] < min(scores["pale"], scores["one"])
    assert (
        scores["real"] < scores["mixed"] if conditional else scores["real"] == pytest.approx(scores["mixed"], rel=1e-4)
    )


def test_judging_does_not_touch_the_random_stream():
    network = build("digits").eval()
    before = P.get_rng_state().tolist()
    first = network.evaluation_step(*batch(SPECS["digits"]))["loss"].tolist()
    assert P.get_rng_state().tolist() == before
    assert network.evaluation_step(*batch(SPECS["digits"]))["loss"].tolist() == first


def test_a_small_one_learns_to_draw_digits():
    image, target = digits()
    network = build("digits", gan.Config(latent=16, width=16, critic_width=16), classes=10)
    judge = lambda: network.eval().evaluation_step(image[1500:], target[1500:])["loss"].mean().item()
    before = judge()
    batches = np.random.default_rng(0).integers(0, 1500, (250, 32))
    learn(network, (image, target), batches, optimizer="adam", lr=2e-3, momentum=0.0, beta2=0.99)
    assert judge() < 0.8 * before


def test_what_judges_has_a_gradient():
    """A drawing is at distance 0 from itself, where a square root has no slope."""
    model = build(next(iter(SPECS)))
    image, target = batch(SPECS[next(iter(SPECS))])
    weights = list(model.generator.parameters())
    found = grad(model.evaluation_step(image, target)["loss"].mean(), weights, allow_unused=True)
    assert all(g is None or g.isfinite().all().item() for g in found)
    assert any(g is not None and (g != 0).any().item() for g in found)
