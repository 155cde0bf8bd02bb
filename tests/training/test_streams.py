"""A training has a random stream of its own: others may run beside it, and the user's stream stands where it stood."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.style  # noqa: F401  # draws a number of Python's when it is first imported, as scikit-learn does

import pellucid as pl
from pellucid.data.input_spec import ImageSpec
from pellucid.data.load import load_problem
from pellucid.data.loader import DataLoader, TensorDataset
from pellucid.inference.predictor import Predictor
from pellucid.models import mlp
from pellucid.random import Generator, use_generator
from pellucid.runs import run as runs
from pellucid.runs.settings import Settings
from pellucid.training import session
from pellucid.training.learner import Learner

both_ways = pytest.mark.parametrize("eager", [True, False], ids=["eager", "compiled"])
FAMILIES = {  # with something in each that is drawn at every step
    "mlp": {"hidden_sizes": (16,), "dropout": 0.3},
    "cnn": {"dropout": 0.3, "channels": (4, 8), "depth": 1},
    "gan": {"width": 8, "latent": 4},
    "diffusion": {"width": 8, "depth": 1, "sampling_steps": 3},
}


@pytest.fixture(scope="module")
def digits() -> Any:
    return load_problem("digits", seed=0)


def begun(problem: Any, folder: Path, seed: int, family: str = "mlp", **changes: Any) -> session.TrainingSession:
    values = {"epochs": 1, "steps_per_epoch": 4, "batch_size": 32, "num_threads": 1, "seed": seed}
    config = {
        name: value for name, value in FAMILIES[family].items() if hasattr(session.models.family(family).config(), name)
    }
    return session.start(problem, family, {**values, **config, **changes}, folder)


def trained(training: session.TrainingSession) -> bytes:
    for _ in training.events():
        pass
    return b"".join(t.array.tobytes() for _, t in sorted(training.network.state_dict().items()))


@both_ways
@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_four_trainings_at_once_come_to_the_bits_of_each_alone(
    digits: Any, tmp_path: Path, at_once: Any, eager: bool, family: str
) -> None:
    alone = [trained(begun(digits, tmp_path / f"alone{seed}", seed, family, eager=eager)) for seed in range(4)]
    assert len(set(alone)) == 4

    def fit(seed: int) -> bytes:
        return trained(begun(digits, tmp_path / f"beside{seed}", seed, family, eager=eager))

    assert at_once(fit, threads=4) == alone


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_a_training_moves_another_stream(digits: Any, tmp_path: Path, family: str) -> None:
    pl.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = (pl.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())
    training = begun(digits, tmp_path / "run", 0, family, eager=True)
    for _ in training.events():
        assert pl.get_rng_state().tolist() == [5, 0]  # also between two of its events
    training.finish()
    stood = training.learner.state.generator.get_state().tolist()
    assert stood[1] > 0
    again = session.resume(runs.load_run(tmp_path / "run"), digits, epochs=2)
    assert again.learner.state.generator.get_state().tolist() == stood
    trained(again)
    if family in ("mlp", "cnn"):
        Predictor(runs.load_run(tmp_path / "run"))
    assert (pl.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()) == before


@both_ways
def test_what_the_user_draws_meanwhile_changes_no_bit(digits: Any, tmp_path: Path, eager: bool) -> None:
    whole = trained(begun(digits, tmp_path / "whole", 3, eager=eager, epochs=2))
    training = begun(digits, tmp_path / "run", 3, eager=eager, epochs=2)
    for _ in training.events():
        pl.manual_seed(1)
        pl.rand(5)
    assert trained(training) == whole


def test_a_run_has_the_bits_of_one_stream_seeded_by_hand(digits: Any, tmp_path: Path) -> None:
    """So the weights of a run can be made again with `manual_seed(seed)`."""
    training = begun(digits, tmp_path / "run", 7)
    pl.manual_seed(7)
    config = training.run.config
    network = mlp.build(training.run.preprocessor().input_spec(), 10, "classification", config.network)
    for name, t in training.network.state_dict().items():
        assert t.array.tobytes() == network.state_dict()[name].array.tobytes(), name
    assert training.learner.state.generator.get_state().tolist() == pl.get_rng_state().tolist()


def a_learner(generator: Generator | None = None) -> Learner:
    chance = np.random.default_rng(0)
    data = TensorDataset(pl.tensor(chance.normal(size=(32, 4, 4)).astype("f")), pl.tensor(chance.integers(0, 2, 32)))
    network = mlp.build(ImageSpec((4, 4)), 2, "classification", mlp.Config(hidden_sizes=(8,), dropout=0.5))
    return Learner(network, DataLoader(data, 16, shuffle=True, seed=0), Settings(batch_size=16, eager=True), generator)


def test_a_learner_has_a_stream_of_its_own_that_no_weight_came_from() -> None:
    pl.manual_seed(0)  # the settings' seed too
    learner = a_learner()
    stood = pl.get_rng_state().tolist()
    for picked in learner.loader.index_batches():
        learner.run(picked)
    assert pl.get_rng_state().tolist() == stood
    seed, calls = learner.state.generator.get_state().tolist()
    assert seed == 0 and calls > 1 << 32
    own = Generator(3)
    learner = a_learner(own)
    with use_generator(Generator(9)):
        learner.run(np.arange(16))
    assert learner.state.generator is own and own.get_state().tolist()[1] > 0
