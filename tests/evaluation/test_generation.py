"""How drawings are judged: by lot of the data's own classes, by features, natively or not, with the pictures there are."""

import shutil

import numpy as np
import pytest
from small_runs import epoch_record, small_config

from pellucid.data.image.preprocess import ImagePreprocessor
from pellucid.data.input_spec import ImageSpec
from pellucid.data.problem import DataModule, Examples
from pellucid.evaluation.generation import GenerationEvaluator
from pellucid.models import gan
from pellucid.models.heads.generation import ImageGenerator
from pellucid.report.network_figures import figure_sections
from pellucid.runs.run import Run
from pellucid.runs.settings import Settings

INPUTS = ImageSpec((8, 8), white=4.0)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def unequal() -> DataModule:
    """Of two classes, nine dark images for each bright one."""
    random = np.random.default_rng(0)

    def part(n: int) -> Examples:
        target = (np.arange(n) % 10 == 0).astype(np.int64)
        image = 3.0 * target[:, None, None, None] + random.random((n, 1, 8, 8))
        return Examples({"image": image.astype(np.float32)}, target)

    known = ImagePreprocessor((1, 8, 8), ["dark", "bright"], [0.0], [63.75])
    return DataModule("shades", "image", "classification", known, part(1500), part(50), part(500), [], "", {})


class Perfect(ImageGenerator):
    """Draws images of the classes it is asked for, as they are in the data."""

    classes = 2

    def __init__(self, examples: Examples) -> None:
        super().__init__()
        self.images, self.target = examples.inputs["image"], examples.target

    def sample(self, labels, generator=None, generator_forward=None):
        random = np.random.default_rng(1)
        return self.images[[random.choice(np.flatnonzero(self.target == label)) for label in labels]]


def test_a_perfect_drawer_is_as_like_as_real_images_where_classes_are_unequal(tmp_path):
    problem = unequal()
    found = GenerationEvaluator(
        Run(tmp_path, small_config()), problem, Perfect(problem.train), Settings(eager=True)
    ).test()
    assert found.metrics.n == 1500 and found.metrics["frechet_relative"] < 2
    assert "coarse pixels" in problem.notes[-1]


@pytest.mark.parametrize("eager", [True, False])
def test_epochs_are_drawn_by_one_program_or_eagerly(tmp_path, eager):
    network = gan.build(INPUTS, 2, "classification", gan.Config(latent=3, width=2, critic_width=2)).eval()
    draws = GenerationEvaluator(Run(tmp_path, small_config()), unequal(), network, Settings(eager=eager))
    for epoch in (1, 2):
        draws.run.log(epoch_record(epoch, picture=draws.epoch_artifacts(epoch).picture))
        network.train()
        network.load_state_dict(network.state_dict())
        network.eval()
    assert len(draws.generator_forward.compiled.made) == (0 if eager else 1)
    (tmp_path / "samples/epoch-001.png").unlink()
    second, kept = draws.figures().sheets
    assert second.title == "epoch 2" and "best weights" in kept.title
    shown = figure_sections(draws.figures())[0]
    assert "epoch 2" in shown and "epoch 1" not in shown and "best weights" in shown
    (tmp_path / "samples/epoch-002.png").write_bytes(b"no picture")
    assert len(draws.figures().sheets) == 1 and draws.figures().notes == ["epoch-002.png: damaged, left out"]
    shutil.rmtree(tmp_path / "samples")
    assert [sheet.title for sheet in draws.figures().sheets] == [kept.title]
