"""The diffusion model: the paper's formulas and numbers, the sampler where the answer is known, and that it learns."""

import math

import numpy as np
import pytest
from drawing import SPECS, batch, check_compiled_step, digits, learn

import pellucid as P
from pellucid.errors import OptionError
from pellucid.models import diffusion

SMALL = diffusion.Config(width=8, patch=1, sampling_steps=3)


def build(spec, config=SMALL, classes=3):
    P.manual_seed(0)
    return diffusion.build(SPECS[spec], classes, "classification", config)


def moved(network):
    """The network with weights where it starts with zeros, as after some training."""
    random = np.random.default_rng(0)
    for parameter in network.parameters():
        if not parameter.detach().numpy().any():
            parameter.data = P.tensor(random.normal(0, 0.1, parameter.shape).astype(np.float32))
    return network


# ---- formulas --------------------------------------------------------------------------------------------------------------


def test_preconditioning_has_the_papers_numbers():
    found = diffusion.preconditioning(P.tensor([0.5, 1e-6, 1e6]))
    skip, out, enters, told = (values.tolist() for values in found)
    assert skip == pytest.approx([0.5, 1, 0], abs=1e-6)
    assert out == pytest.approx([0.5 / math.sqrt(2), 1e-6, 0.5], rel=1e-5)
    assert enters == pytest.approx([math.sqrt(2), 2, 1e-6], rel=1e-5)
    assert told == pytest.approx([math.log(0.5) / 4, math.log(1e-6) / 4, math.log(1e6) / 4], rel=1e-5)


@pytest.mark.parametrize("level", [0.01, 0.5, 3.0])
def test_what_enters_and_what_is_to_be_said_have_variance_one(level):
    random = np.random.default_rng(0)
    clean, noise = random.normal(0, diffusion.SIGMA_DATA, 200_000), random.normal(0, level, 200_000)
    skip, out, enters, _ = (values.item() for values in diffusion.preconditioning(P.tensor([level])))
    assert np.var((clean + noise) * enters) == pytest.approx(1, rel=0.02)
    assert np.var((clean - skip * (clean + noise)) / out) == pytest.approx(1, rel=0.02)
    assert diffusion.loss_weight(P.tensor([level])).item() * out**2 == pytest.approx(1, rel=1e-4)


def test_noise_levels_are_those_of_the_paper():
    levels = diffusion.sigma_schedule(18)
    assert levels[:5] == pytest.approx([80, 57.586, 40.786, 28.375, 19.353], rel=1e-4)
    assert levels[-2:] == pytest.approx([0.002, 0]) and len(levels) == 19 and (np.diff(levels) < 0).all()
    with pytest.raises(OptionError, match="sampling_steps: 1"):
        diffusion.sigma_schedule(1)


@pytest.mark.parametrize("spec", ["digits", "odd"])
@pytest.mark.parametrize("deviation", [0.0, 0.5])
def test_the_loss_begins_at_one_where_the_data_have_the_deviation_it_assumes_and_lower_for_all_grey(spec, deviation):
    network = build(spec).train()
    easel = network.scaling
    canvas = P.randn(400, *easel.shape).sign() * deviation  # half grey is 0 on the canvas
    begins = network.training_step(easel.denormalize(canvas), P.zeros(400, dtype=P.int64))["loss"].item()
    levels = np.exp(np.random.default_rng(0).normal(diffusion.NOISE_MEAN, diffusion.NOISE_SPREAD, 100_000))
    grey = np.mean(diffusion.SIGMA_DATA**2 / (levels**2 + diffusion.SIGMA_DATA**2))  # c_skip^2 s^2 / c_out^2
    assert begins == (pytest.approx(1, rel=0.02) if deviation else pytest.approx(grey, rel=0.15))
    assert grey < 0.8


# ---- the sampler -----------------------------------------------------------------------------------------------------------


def test_the_sampler_finds_the_exact_answer_of_a_normal_distribution():
    mean, deviation = 0.3, 0.2
    evaluations = []

    def denoise(x, level):
        evaluations.append(level)
        return (x * deviation**2 + mean * level**2) * (1 / (deviation**2 + level**2))

    start = P.tensor(np.random.default_rng(0).normal(0, 80, 1000))
    # The path is a straight scaling: (x - mean) / sqrt(deviation^2 + level^2) stays as it is.
    exact = mean + (start.numpy() - mean) * deviation / math.sqrt(deviation**2 + 80**2)
    errors = []
    for steps in (9, 18, 36):
        evaluations.clear()
        drawn = diffusion.heun_sampler(denoise, start, diffusion.sigma_schedule(steps)).numpy()
        assert len(evaluations) == 2 * steps - 1 and 0 not in evaluations
        errors.append(abs(drawn - exact).max())
    assert errors[1] < 0.06
    assert errors[0] > 2.5 * errors[1] > 6 * errors[2]  # of second order


def test_the_sampler_returns_the_only_image_there_is():
    only = P.tensor(np.linspace(-1, 1, 12).reshape(1, 1, 3, 4).astype(np.float32))
    drawn = diffusion.heun_sampler(
        lambda x, level: only + x * 0, P.randn(2, 1, 3, 4) * 80, diffusion.sigma_schedule(18)
    )
    np.testing.assert_allclose(drawn.numpy(), np.broadcast_to(only.numpy(), drawn.shape), atol=1e-4)


# ---- the network -----------------------------------------------------------------------------------------------------------


DEEP = diffusion.Config(width=8, patch=2, depth=3, blocks=2, attention=True, sampling_steps=2)


@pytest.mark.parametrize(("spec", "config"), [*((spec, SMALL) for spec in SPECS), ("odd", DEEP), ("mnist", DEEP)])
def test_images_of_any_size_are_drawn_in_the_encodings_scale(spec, config):
    network = moved(build(spec, config)).eval()
    labels = np.array([0, 2, 1, 1])
    drawn = network.sample(labels, P.Generator(3))
    assert drawn.shape == (4, *SPECS[spec].size) and drawn.dtype == np.float32
    assert drawn.min() >= 0 and drawn.max() <= network.scaling.white
    assert (network.sample(labels, P.Generator(3)) == drawn).all()
    assert (network.sample(labels[::-1].copy(), P.Generator(3)) != drawn).any()  # it listens to the class


def test_what_is_drawn_natively_and_in_several_goes_is_what_one_go_draws():
    network, labels = moved(build("digits")).eval(), np.array([0, 2, 1, 1, 0])
    whole = network.sample(labels, P.Generator(3))
    network.sample_batch_size = 2
    np.testing.assert_allclose(network.sample(labels, P.Generator(3)), whole, atol=1e-3)
    paint = P.compile(network.generator_forward)
    np.testing.assert_allclose(network.sample(labels, P.Generator(3), paint), whole, atol=1e-3)
    assert len(paint.made) == 1


def test_guidance_goes_from_no_class_through_the_class_and_beyond():
    x, noise, classes = P.randn(4, 1, 8, 8), P.tensor([0.1, 0.5, 1.0, 2.0]), P.tensor([0, 1, 2, 0])

    def guided(much):
        config = diffusion.Config(width=8, patch=1, guidance=much)
        with P.no_grad():
            return moved(build("digits", config)).eval().generator_forward(x, noise, classes).numpy()

    network = moved(build("digits")).eval()
    none = network(x, noise, classes * 0 + 3).detach().numpy()
    own = network(x, noise, classes).detach().numpy()
    assert abs(own - none).max() > 1e-3
    np.testing.assert_allclose(guided(0.0), none, atol=1e-5)
    np.testing.assert_allclose(guided(1.0), own, atol=1e-5)
    np.testing.assert_allclose(guided(3.0), none + 3 * (own - none), atol=1e-4)


def test_without_classes_labels_change_nothing():
    network = moved(build("digits", diffusion.Config(width=8, patch=1, sampling_steps=2, conditional=False))).eval()
    first = network.sample(np.array([0, 1, 2]), P.Generator(1))
    assert (network.sample(np.array([2, 2, 2]), P.Generator(1)) == first).all()
    assert network.training_step(*batch(SPECS["digits"]))["loss"].item() > 0


def test_judging_depends_on_neither_luck_nor_mode():
    network = moved(build("digits"))
    before = P.get_rng_state().tolist()
    first = network.evaluation_step(*batch(SPECS["digits"], 40))["loss"]
    assert first.shape == (40,) and P.get_rng_state().tolist() == before
    assert network.eval().evaluation_step(*batch(SPECS["digits"], 40))["loss"].tolist() == first.tolist()


@pytest.mark.parametrize(
    ("option", "value"),
    [("width", 12), ("depth", 0), ("sampling_steps", 1), ("class_dropout", 1.0), ("guidance", -1.0), ("noise_mean", math.inf),
     ("noise_spread", math.nan), ("noise_spread", -1.0)],
)  # fmt: skip
def test_options_that_make_no_network_are_refused(option, value):
    with pytest.raises(OptionError, match=option):
        diffusion.Config(**{option: value})


# ---- learning --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ["digits", "odd"])
def test_a_whole_step_is_the_same_eagerly_and_compiled(spec):
    config = diffusion.Config(width=8, patch=2, attention=True)
    build = lambda: moved(diffusion.build(SPECS[spec], 3, "classification", config))
    check_compiled_step(build, *batch(SPECS[spec]))


def test_a_small_one_learns_to_clean_digits():
    image, target = digits()
    network = build("digits", diffusion.Config(width=8, patch=2), classes=10)
    judge = lambda: network.eval().evaluation_step(image[1500:], target[1500:])["loss"].mean().item()
    before = judge()
    batches = np.random.default_rng(0).integers(0, 1500, (100, 32))
    learn(network, (image, target), batches, optimizer="adam", lr=3e-3, beta2=0.99)
    assert judge() < 0.7 * before
