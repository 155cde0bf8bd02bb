"""How a network that draws is judged: by eye every epoch, at the end by how like its images are to real ones (floor 6).

The judge is a network that was trained to tell the classes of the same data apart (`pellucid train DATA --model cnn`): it
names what was drawn, and its last features are where distances are taken. Without such a run the features are the pixels
themselves, coarsened, and nothing is named. The measures are `likeness.py`'s.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import OptionError, PellucidError
from ..files import write_bytes
from ..models.network import Drawing, Network
from ..random import Generator
from . import run as runs
from .examination import Examination, Examined
from .likeness import likeness
from .metrics import Metrics
from .native import Forward, Native
from .page import Markup, picture, section, text
from .run import Run
from .sampling import as_pixels, grid

TEST = 10_000  # images drawn to be judged
COLUMNS, ROWS = 10, 6  # of an epoch's picture
SHOWN = 6  # epochs whose pictures are shown
COARSE = 14  # pixels a side, where pixels are the features

Judging = Callable[[np.ndarray], np.ndarray]


class Draws(Examination):
    """Of a network that draws."""

    def keep(self, epoch: int) -> dict[str, Any]:
        """A grid of drawings from the same chance every epoch, as samples/epoch-N.png in the run."""
        columns = min(self.network.classes, COLUMNS)
        labels = np.tile(np.arange(columns), ROWS)
        drawn = self.network.draw(labels, Generator(self.settings.seed))
        return {"picture": self._save(f"epoch-{epoch:03}", grid(as_pixels(self.problem.preprocessor, drawn), columns))}

    def _save(self, name: str, pixels: np.ndarray) -> str:
        folder = self.run.folder / "samples"
        folder.mkdir(exist_ok=True)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
        write_bytes(folder / f"{name}.png", buffer.getvalue())
        return f"samples/{name}.png"

    def test(self) -> Examined:
        problem = self.problem
        train, test = (getattr(problem, part).inputs["image"] for part in ("train", "test"))
        labels = np.arange(min(TEST, len(train))) % self.network.classes
        began = time.perf_counter()
        drawn = self.network.draw(labels, Generator(self.settings.seed + 1))
        seconds = time.perf_counter() - began
        judge = find_judge(self.run)
        features, logits, note = _by_pixels() if judge is None else _by_network(judge)
        problem.notes.append(note)
        found = likeness(drawn, labels, train, test, features, logits)
        metrics: Metrics = {
            "frechet": found.frechet, "floor": found.floor, "ratio": found.ratio, "nearest": found.drawn_nearest.mean,
            "nearest_test": found.test_nearest.mean, "images_per_second": len(labels) / seconds, "n": len(labels), "intervals": {},
        }  # fmt: skip
        if judge is not None:
            metrics |= {
                "named_right": found.right,
                "smallest_class": min(found.shares),
                "largest_class": max(found.shares),
            }
        return Examined(metrics, {}, {"sections": [self._pictures(drawn)]})

    def _pictures(self, drawn: np.ndarray) -> Markup:
        """What it drew after some of the epochs, and at the end with its best weights."""
        lines = [line for line in self.run.history() if "picture" in line]
        chosen = sorted({round(i) for i in np.linspace(0, len(lines) - 1, min(SHOWN, len(lines)))})
        shown = []
        for i in chosen:
            with Image.open(self.run.folder / lines[i]["picture"]) as image:
                shown.append((f"epoch {lines[i]['epoch']}", np.asarray(image)))
        columns = min(self.network.classes, COLUMNS)
        best = grid(as_pixels(self.problem.preprocessor, drawn[: columns * ROWS]), columns)
        shown.append(("with the weights that were kept, from new chance", best))
        figures = "".join(
            f'<figure class="card grid"><figcaption>{text(name)}</figcaption>{picture(pixels, name, largest=2000)}</figure>'
            for name, pixels in shown
        )
        return section("What it draws", Markup(f'<div class="pair">{figures}</div>'), lead="The same chance in every epoch: a column is a class.")  # fmt: skip


def named_judge(judge: Run, network: Network, config: dict[str, Any]) -> str:
    """The path of `judge`, to be kept in the `config` of a run whose `network` it is to judge. Raises OptionError."""
    if not isinstance(network, Drawing):
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


def find_judge(run: Run) -> Run | None:
    """The run that `--judge` named, else the finished one on the same data that tells its classes apart best; or None."""
    if named := run.config.get("judge"):
        return runs.load(Path(named))
    best: tuple[float, Run] | None = None
    for folder in runs.folders():
        try:
            other = runs.load(folder)
        except PellucidError:
            continue
        result = other.result()
        if result is None or not _fits(other, run.config):
            continue
        accuracy = result["test"].get("accuracy", 0.0)
        if best is None or accuracy > best[0]:
            best = accuracy, other
    return best[1] if best else None


def _by_network(judge: Run) -> tuple[Judging, Judging, str]:
    network: Any = judge.network()
    logits, features = Forward(network), Forward(network)
    features.native = Native(network.features)
    scored = (judge.result() or {}).get("test", {}).get("accuracy", float("nan"))
    note = f"judged by {judge.name}, which names {100 * scored:.2f}% of the test images right"
    return (lambda images: features([images])), (lambda images: logits([images])), note


def _by_pixels() -> tuple[Judging, Judging, str]:
    def features(images: np.ndarray) -> np.ndarray:
        step = max(1, -(-max(images.shape[-2:]) // COARSE))
        height, width = (side // step * step for side in images.shape[-2:])
        cut = images[..., :height, :width].astype(np.float32)
        squares = cut.reshape(*images.shape[:-2], height // step, step, width // step, step)
        return squares.mean((-3, -1)).reshape(len(images), -1)

    note = (
        "judged by coarse pixels, as no trained cnn on the same data was found; train one, and give it as --judge RUN"
    )
    return features, (lambda images: np.zeros((len(images), 1))), note
