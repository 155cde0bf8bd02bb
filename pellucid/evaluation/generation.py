"""Evaluation of image generators: the Frechet distance of drawn from real images, and a sample grid every epoch (floor 7).

Features come from a feature network: a classifier trained on the same data (`pellucid train DATA --model cnn`). Its last
hidden layer gives the features, its logits say which class an image shows. Without one the features are coarse pixels, and
classes are not checked. `frechet.py` computes the measures.
"""

from __future__ import annotations

import contextlib
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from ..data.problem import DataModule
from ..errors import OptionError, PellucidError
from ..files import write_bytes
from ..models.base import Model, map_batches
from ..models.heads.generation import ImageGenerator
from ..random import Generator
from ..runs import run as runs
from ..runs.records import EpochRecord, RunConfig
from ..runs.run import Run
from ..runs.settings import Settings
from ..tensor import Tensor
from .compiled import CompiledFunction
from .evaluator import EpochArtifacts, EvaluationResult, Evaluator, Figures, ImageSheet
from .frechet import sample_quality
from .images import as_pixels, image_grid
from .metrics import Metrics

TEST = 10_000  # images drawn to be scored
COLUMNS, ROWS = 10, 6  # of a sample grid
SHOWN = 6  # epochs whose grids are shown
COARSE = 14  # pixels a side, where pixels are the features

Features = Callable[[np.ndarray], np.ndarray]


class GenerationEvaluator(Evaluator):
    """Of an image generator."""

    def __init__(self, run: Run, problem: DataModule, network: Model, settings: Settings) -> None:
        super().__init__(run, problem, network, settings)
        self.generator_forward = CompiledFunction(self.network.generator_forward, settings.eager)

    def draw(self, labels: np.ndarray, stream: int) -> np.ndarray:
        """An image of each class number of `labels` (N,), from random numbers of their own for each `stream`."""
        return cast(
            "np.ndarray", self.network.sample(labels, Generator(self.settings.seed + stream), self.generator_forward)
        )

    def sample_grid(self, stream: int) -> np.ndarray:
        """Images drawn, as one picture with a class in each column."""
        columns = min(self.network.classes, COLUMNS)
        images = self.draw(np.tile(np.arange(columns), ROWS), stream)
        return image_grid(as_pixels(images), columns)

    def epoch_artifacts(self, epoch: int) -> EpochArtifacts:
        """A sample grid from the same random numbers every epoch, as samples/epoch-N.png in the run."""
        folder, name = self.run.folder / "samples", f"epoch-{epoch:03}.png"
        folder.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(self.sample_grid(0)).save(buffer, "PNG", optimize=True)
        write_bytes(folder / name, buffer.getvalue())
        return EpochArtifacts(picture=f"samples/{name}")

    def test(self) -> EvaluationResult:
        problem = self.problem
        train, test = (problem.examples(split).inputs["image"] for split in ("train", "test"))
        # Sample labels from the training labels, so that class frequencies match.
        labels = np.random.default_rng(self.settings.seed).choice(
            problem.examples("train").target, min(TEST, len(train)), replace=False
        )
        began = time.perf_counter()
        images = self.draw(labels, 1)
        seconds = time.perf_counter() - began
        features, logits, notes = self.feature_network()
        problem.notes.extend(notes)
        quality = sample_quality(
            images, labels, train, test, features, logits or (lambda images: np.zeros((len(images), 1)))
        )
        scores: dict[str, float | None] = {
            "frechet": quality.frechet,
            "frechet_real": quality.frechet_real,
            "frechet_relative": quality.frechet_relative,
            "nearest_train_distance": quality.nearest_drawn.mean,
            "nearest_train_distance_real": quality.nearest_test.mean,
            "images_per_second": len(labels) / seconds,
        }
        if logits is not None:
            scores |= {"conditional_accuracy": quality.accuracy} if self.network.conditional else {}
            scores |= {"min_class_share": min(quality.class_shares), "max_class_share": max(quality.class_shares)}
        return EvaluationResult(Metrics(scores, len(labels)), {})

    def feature_network(self) -> tuple[Features, Features | None, list[str]]:
        """Features (N, F) and, if there are any, logits (N, K) of images (N, ...), with notes on where they come from.

        They are of the run that `--feature-network` named, else of the finished run on the same data with the best validation accuracy.
        One that cannot be used any more is passed over with a note: a training that is done must not fail by it.
        """
        run, notes = self.run, []
        if run.config.feature_network:
            try:
                classifier = runs.load_run(Path(run.config.feature_network))
                check_feature_network(classifier, self.network, run.config)
                features, logits, note = network_features(classifier, self.settings.eager)
                return features, logits, [note]
            except PellucidError as error:
                notes.append(f"the judge that was named is passed over: {error}")
        for classifier in _candidates(run):
            with contextlib.suppress(PellucidError):
                features, logits, note = network_features(classifier, self.settings.eager)
                return features, logits, [*notes, note]
        notes.append(
            "judged by coarse pixels, as no trained cnn on the same data was found; train one, and give it as --feature-network RUN"
        )
        return pixel_features, None, notes

    def figures(self) -> Figures:
        """Sample grids of some epochs, and one of the best weights."""
        notes: list[str] = []
        grids = [(record.epoch, self.run.folder / record.picture) for record in self.run.history() if record.picture]
        pictures = [(epoch, path) for epoch, path in grids if path.is_file()]
        chosen = sorted({round(i) for i in np.linspace(0, len(pictures) - 1, min(SHOWN, len(pictures)))})
        sheets = []
        for i in chosen:
            epoch, path = pictures[i]
            try:
                with Image.open(path) as image:
                    sheets.append(ImageSheet(f"epoch {epoch}", np.asarray(image)))
            except (OSError, SyntaxError, ValueError):  # what PIL raises for a damaged file
                notes.append(f"{path.name}: damaged, left out")
        sheets.append(ImageSheet("with the best weights, from new random numbers", self.sample_grid(1)))
        return Figures(sheets=sheets, conditional=self.network.conditional, notes=notes)


def check_feature_network(classifier: Run, network: Model, config: RunConfig) -> str:
    """The path of `classifier`, to be kept in `config`, that of a run whose `network` draws images. Raises OptionError."""
    if not isinstance(network, ImageGenerator):
        raise OptionError(f"--feature-network {classifier.name}: for a {config.family}, which draws nothing; expected a network that draws, such as gan "
                          "or diffusion; leave it out")  # fmt: skip
    if not _fits(classifier, config):
        raise OptionError(f"--feature-network {classifier.name}: a {classifier.config.family} on {classifier.config.data}; expected a cnn on the same data as "
                          f"the images drawn ({config.data}), with the same --seed; make one: pellucid train {config.data} --model cnn")  # fmt: skip
    if classifier.config.settings.ensemble > 1:
        raise OptionError(
            f"--feature-network {classifier.name}: an ensemble of {classifier.config.settings.ensemble} networks; expected one network; write "
            f"--feature-network {classifier.members / '1'}"
        )
    if not classifier.weights.is_file():
        raise OptionError(
            f"--feature-network {classifier.name}: it has no weights yet; expected a run that has finished an epoch; train it first"
        )
    return str(classifier.folder.resolve())


def _fits(classifier: Run, config: RunConfig) -> bool:
    """Whether it is a cnn of the same images, scaled and split alike: it must not have learned from the test part."""
    other = classifier.config
    same = other.fingerprint == config.fingerprint and other.preprocessor == config.preprocessor
    return other.family == "cnn" and same


def _candidates(run: Run) -> list[Run]:
    """The finished runs that fit, best first by their validation: the test images are not for choosing."""
    scored = []
    for folder in runs.folders():
        with contextlib.suppress(PellucidError):
            classifier = runs.load_run(folder)
            result = classifier.result()
            if result is not None and classifier.config.settings.ensemble == 1 and _fits(classifier, run.config):
                scored.append((_validation_accuracy(classifier.history(), result.best_epoch), classifier))
    return [classifier for _, classifier in sorted(scored, key=lambda pair: -pair[0])]


def _validation_accuracy(history: list[EpochRecord], epoch: int) -> float:
    return max((record.validation.get("accuracy") or 0.0 for record in history if record.epoch == epoch), default=0.0)


def network_features(classifier: Run, eager: bool = False) -> tuple[Features, Features, str]:
    """The features and logits of a run's network, and what to know of it."""
    network: Any = classifier.network()

    def batched(function: Callable[..., Tensor]) -> Features:
        native = CompiledFunction(function, eager)

        def of_all(images: np.ndarray) -> np.ndarray:
            take = lambda rows: native(Tensor(images[rows.start : rows.stop])).array
            return map_batches(len(images), network.eval_batch_size, take)

        return of_all

    result = classifier.result()
    accuracy = result.test["accuracy"] if result is not None and "accuracy" in result.test else math.nan
    note = f"judged by {classifier.name}, which names {100 * accuracy:.2f}% of the test images right"
    return batched(network.features), batched(network), note


def pixel_features(images: np.ndarray) -> np.ndarray:
    """Images (N, ..., H, W) as the means of squares of pixels, (N, F) with at most COARSE squares a side."""
    step = max(1, -(-max(images.shape[-2:]) // COARSE))
    height, width = (side // step for side in images.shape[-2:])

    def coarse(rows: range) -> np.ndarray:
        some = np.asarray(images[rows.start : rows.stop], np.float32)
        squares = some[..., : height * step, : width * step].reshape(*some.shape[:-2], height, step, width, step)
        return squares.mean((-3, -1)).reshape(len(some), -1)

    return map_batches(len(images), 2048, coarse)
