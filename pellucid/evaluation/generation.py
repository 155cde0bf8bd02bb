"""How a network that draws is judged: by eye every epoch, at the end by how like its images are to real ones (floor 6).

The judge is a network that was trained to tell the classes of the same data apart (`pellucid train DATA --model cnn`): it
names what was drawn, and its last features are where distances are taken. Without such a run the features are the pixels
themselves, coarsened, and nothing is named. The measures are `likeness.py`'s.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from PIL import Image

from ..data.problem import DataModule
from ..errors import OptionError, PellucidError
from ..files import write_bytes
from ..inference.sampler import as_pixels, grid
from ..models.base import ImageGenerator, Model, in_batches
from ..random import Generator
from ..report.html import Markup, picture, section, text
from ..runs import run as runs
from ..runs.run import Run
from ..runs.settings import Settings
from ..tensor import Tensor
from .compiled import CompiledFunction
from .evaluator import EvaluationResult, Evaluator
from .frechet import sample_quality
from .metrics import Metrics

TEST = 10_000  # images drawn to be judged
COLUMNS, ROWS = 10, 6  # of an epoch's picture
SHOWN = 6  # epochs whose pictures are shown
COARSE = 14  # pixels a side, where pixels are the features

Features = Callable[[np.ndarray], np.ndarray]


class GenerationEvaluator(Evaluator):
    """Of a network that draws."""

    def __init__(self, run: Run, problem: DataModule, network: Model, settings: Settings) -> None:
        super().__init__(run, problem, network, settings)
        self.paint = CompiledFunction(self.network.paint, settings.eager)

    def draw(self, labels: np.ndarray, chance: int) -> np.ndarray:
        return cast("np.ndarray", self.network.draw(labels, Generator(self.settings.seed + chance), self.paint))

    def sheet(self, chance: int) -> np.ndarray:
        """Drawings as one picture, a class in each column."""
        columns = min(self.network.classes, COLUMNS)
        drawn = self.draw(np.tile(np.arange(columns), ROWS), chance)
        return grid(as_pixels(drawn), columns)

    def keep(self, epoch: int) -> dict[str, Any]:
        """A grid of drawings from the same chance every epoch, as samples/epoch-N.png in the run."""
        folder, name = self.run.folder / "samples", f"epoch-{epoch:03}.png"
        folder.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(self.sheet(0)).save(buffer, "PNG", optimize=True)
        write_bytes(folder / name, buffer.getvalue())
        return {"picture": f"samples/{name}"}

    def test(self) -> EvaluationResult:
        problem = self.problem
        train, test = (getattr(problem, part).inputs["image"] for part in ("train", "test"))
        # By lot from the data's own labels, so that the classes have the shares that they have among real images.
        lot = np.random.default_rng(self.settings.seed)
        labels = lot.choice(problem.train.target, min(TEST, len(train)), replace=False)
        began = time.perf_counter()
        drawn = self.draw(labels, 1)
        seconds = time.perf_counter() - began
        features, logits, notes = self.judging()
        problem.notes.extend(notes)
        found = sample_quality(
            drawn, labels, train, test, features, logits or (lambda images: np.zeros((len(images), 1)))
        )
        metrics: Metrics = {
            "frechet": found.frechet, "floor": found.floor, "ratio": found.ratio, "nearest": found.drawn_nearest.mean,
            "nearest_test": found.test_nearest.mean, "images_per_second": len(labels) / seconds, "n": len(labels), "intervals": {},
        }  # fmt: skip
        if logits is not None:
            metrics |= {"named_right": found.right} if self.network.conditional else {}
            metrics |= {"smallest_class": min(found.shares), "largest_class": max(found.shares)}
        return EvaluationResult(metrics, {})

    def judging(self) -> tuple[Features, Features | None, list[str]]:
        """The judge's features (N, F) and, if it has any, logits (N, K) of images (N, ...), and what to know of it.

        It is the run that `--judge` named, else the finished one on the same data that tells its classes apart best. One that
        cannot be used any more is passed over: a training that is done must not fail by it.
        """
        run, notes = self.run, []
        if named := run.config.get("judge"):
            try:
                judge = runs.load(Path(named))
                named_judge(judge, self.network, run.config)
                features, logits, note = by_network(judge, self.settings.eager)
                return features, logits, [note]
            except PellucidError as error:
                notes.append(f"the judge that was named is passed over: {error}")
        for judge in _judges(run):
            with contextlib.suppress(PellucidError):
                features, logits, note = by_network(judge, self.settings.eager)
                return features, logits, [*notes, note]
        notes.append(
            "judged by coarse pixels, as no trained cnn on the same data was found; train one, and give it as --judge RUN"
        )
        return by_pixels, None, notes

    def sections(self) -> list[Markup]:
        """What it drew after some of the epochs, and with its best weights."""
        lines = [line for line in self.run.history() if (self.run.folder / line.get("picture", "")).is_file()]
        chosen = sorted({round(i) for i in np.linspace(0, len(lines) - 1, min(SHOWN, len(lines)))})
        shown = []
        for i in chosen:
            with Image.open(self.run.folder / lines[i]["picture"]) as image:
                shown.append((f"epoch {lines[i]['epoch']}", np.asarray(image)))
        shown.append(("with the weights that were kept, from new chance", self.sheet(1)))
        figures = "".join(
            f'<figure class="card grid"><figcaption>{text(name)}</figcaption>{picture(pixels, name, largest=2000)}</figure>'
            for name, pixels in shown
        )
        lead = "The same chance in every epoch" + (": a column is a class." if self.network.conditional else ".")
        return [section("What it draws", Markup(f'<div class="pair">{figures}</div>'), lead=lead)]


def named_judge(judge: Run, network: Model, config: dict[str, Any]) -> str:
    """The path of `judge`, to be kept in the `config` of a run whose `network` it is to judge. Raises OptionError."""
    if not isinstance(network, ImageGenerator):
        raise OptionError(f"--judge {judge.name}: for a {config['family']}, which draws nothing; expected a network that draws, such as gan "
                          "or diffusion; leave it out")  # fmt: skip
    if not _fits(judge, config):
        raise OptionError(f"--judge {judge.name}: a {judge.config['family']} on {judge.config['data']}; expected a cnn on the same data as "
                          f"the images drawn ({config['data']}), with the same --seed; make one: pellucid train {config['data']} --model cnn")  # fmt: skip
    if not judge.weights.is_file():
        raise OptionError(
            f"--judge {judge.name}: it has no weights yet; expected a run that has finished an epoch; train it first"
        )
    return str(judge.folder.resolve())


def _fits(judge: Run, config: dict[str, Any]) -> bool:
    """Whether `judge` is a cnn of the same images, scaled and split alike: it must not have learned from the test part."""
    same = ("fingerprint", "preprocessor")
    return judge.config["family"] == "cnn" and all(judge.config.get(name) == config[name] for name in same)


def _judges(run: Run) -> list[Run]:
    """The finished runs that fit, best first by their validation: the test images are not for choosing."""
    scored = []
    for folder in runs.folders():
        with contextlib.suppress(PellucidError):
            judge = runs.load(folder)
            result = judge.result()
            if result is not None and _fits(judge, run.config):
                best = [line for line in judge.history() if line["epoch"] == result.get("best_epoch")]
                scored.append((max((line.get("validation_accuracy", 0.0) for line in best), default=0.0), judge))
    return [judge for _, judge in sorted(scored, key=lambda pair: -pair[0])]


def by_network(judge: Run, eager: bool = False) -> tuple[Features, Features, str]:
    """The features and logits of a run's network, and what to know of it."""
    network: Any = judge.network()

    def of(function: Callable[..., Any]) -> Features:
        native = CompiledFunction(function, eager)

        def of_all(images: np.ndarray) -> np.ndarray:
            take = lambda rows: native(Tensor(images[rows.start : rows.stop])).array
            return in_batches(len(images), network.judged_batch, take)

        return of_all

    scored = (judge.result() or {}).get("test", {}).get("accuracy", float("nan"))
    note = f"judged by {judge.name}, which names {100 * scored:.2f}% of the test images right"
    return of(network.features), of(network), note


def by_pixels(images: np.ndarray) -> np.ndarray:
    """Images (N, ..., H, W) as the means of squares of pixels, (N, F) with at most COARSE squares a side."""
    step = max(1, -(-max(images.shape[-2:]) // COARSE))
    height, width = (side // step for side in images.shape[-2:])

    def coarse(rows: range) -> np.ndarray:
        some = np.asarray(images[rows.start : rows.stop], np.float32)
        squares = some[..., : height * step, : width * step].reshape(*some.shape[:-2], height, step, width, step)
        return squares.mean((-3, -1)).reshape(len(some), -1)

    return in_batches(len(images), 2048, coarse)
