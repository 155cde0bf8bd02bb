"""`pellucid features`: what the units of a network answer to, and what each layer knows (floor 11)."""

from __future__ import annotations

import dataclasses
from typing import Any

import click
import numpy as np

from ..data.input_spec import ImageSpec
from ..data.problem import Examples, TokenSequence
from ..errors import OptionError
from ..evaluation.probes import Probes, probe
from ..inference.asked import RunExamples
from ..inspect.feature_view import Features, features
from ..inspect.features import TopExamples, unit_layers
from ..models.diffusion import Diffusion
from ..models.heads.generation import ImageGenerator
from ..models.heads.language import LanguageModel
from ..random import fork_rng, manual_seed
from ..report.features_view import feature_sections
from ..report.inspection import ViewPage
from ..runs.run import find_run
from ..tensor import Tensor
from .inspecting import WITH_EXAMPLES, pasted, show
from .options import JSON, option

MOST = 2000  # examples of the test part
MOST_PROBED = 4  # hidden layers, of more evenly taken with the last
AROUND = 12  # tokens shown before a unit's strongest one

LAYER = option("--layer", metavar="PATH", common=True, help="Whose units.  [default: the last hidden layer]")
PROBE = option("--probe", is_flag=True, common=True, help="Measure what a linear model reads from each layer.")


@click.command("features")
@click.argument("run")
@LAYER
@PROBE
@WITH_EXAMPLES
@JSON
def command(run: str, layer: str | None, probe: bool, with_examples: bool, as_json: bool) -> None:
    """Show what the units of RUN answer to: filters, strongest examples, pictures that drive them."""
    trained = find_run(run)
    examples = RunExamples(trained)
    network = examples.network
    if isinstance(network, Diffusion):
        raise OptionError(
            f"{trained.name}: its units answer to noise of many levels, so no example drives one; expected a network that predicts, "
            "writes or judges; see `pellucid attention` for this one"
        )
    part, rows = _some(examples, "test", MOST)
    inputs = _arrays(examples, part)
    labels = (
        part.target
        if examples.classes is not None and part.target.dtype.kind in "iu" and part.target.ndim == 1
        else None
    )
    labels = None if isinstance(network, LanguageModel) else labels
    forward = network.answer if isinstance(network, ImageGenerator) else None
    spec = examples.preprocessor.input_spec()
    with fork_rng():
        manual_seed(0)
        fresh = trained.new_network()
    found = features(
        network, tuple(inputs), labels, layer=layer, size=spec.size if isinstance(spec, ImageSpec) else None, untrained=fresh, forward=forward, classes=examples.classes or () if labels is not None else (),
    )  # fmt: skip
    words = tuple(_words(examples, part, rows, top) for top in found.tops)
    found = dataclasses.replace(found, words=words, probes=_probes(examples, fresh) if probe else None)
    images = _images(examples, rows, found) if with_examples else {}
    view = ViewPage(
        "features",
        f"What the units of {trained.name} answer to",
        found.headline(),
        feature_sections(dataclasses.replace(found, words=()), images, words if with_examples and not images else ()),
        "the strongest examples of each unit" if with_examples else "",
        pasted(
            "features", run, None, None, None, *(["--layer", layer] if layer else []), *(["--probe"] if probe else [])
        ),
    )
    following = (
        pasted("explain", run)
        if probe or isinstance(network, LanguageModel | ImageGenerator)
        else pasted("features", run, None, None, None, "--probe")
    )
    show(trained, found, view, as_json, with_examples=with_examples, next_command=following)


def _some(examples: RunExamples, name: str, most: int) -> tuple[Examples, np.ndarray]:
    """At most so many examples of a part, evenly taken, and where they stand in it; of running text windows."""
    split: Any = {"train": examples.data.train, "test": examples.data.test}[name]
    if isinstance(split, TokenSequence):
        network = examples.network
        assert isinstance(network, LanguageModel)
        length = min(network.context_length, len(split))
        first = np.arange(0, len(split) - length + 1, length)[:most]
        windows = np.stack([np.asarray(split.tokens[i : i + length], np.int64) for i in first.tolist()])
        return Examples({"tokens": windows}, windows[:, -1]), first
    rows = np.unique(np.linspace(0, len(split) - 1, min(most, len(split))).round().astype(np.int64))
    return split.take(rows), rows


def _arrays(examples: RunExamples, part: Examples) -> list[np.ndarray]:
    network = examples.network
    arrays = [np.asarray(part.inputs[name]) for name in network.input_names]
    return [*arrays, part.target] if isinstance(network, ImageGenerator) else arrays


def _words(examples: RunExamples, part: Examples, rows: np.ndarray, top: TopExamples) -> str:
    """What the strongest examples of a unit are, in a few words."""
    if isinstance(examples.network, LanguageModel) and top.steps is not None:
        decode = examples.preprocessor.tokenizer.decode  # type: ignore[attr-defined]
        texts = []
        for row, step in zip(top.rows[:5].tolist(), top.steps.tolist(), strict=False):
            tokens = part.inputs["tokens"][row][: step + 1]
            texts.append(repr(decode(tokens[-AROUND:]))[1:-1])
        return "  ".join(dict.fromkeys(texts))[:60]
    places = rows[top.rows] + 1
    if top.labels is not None and examples.classes is not None:
        return " ".join(str(examples.classes[label]) for label in top.labels.tolist())[:44]
    raw = examples.data.raw_example("test", int(places[0]) - 1) if "test" in examples.data.raw else None
    if isinstance(raw, dict):
        return ", ".join(f"{name} {value}" for name, value in list(raw.items())[:4])[:60]
    where = f", step {top.steps[0] + 1}" if top.steps is not None else ""
    return f"test {', '.join(str(place) for place in places[:5].tolist())}{where}"


def _images(examples: RunExamples, rows: np.ndarray, found: Features) -> dict[int, list[np.ndarray]]:
    """The strongest examples of each unit as pictures; none for other data."""
    if "test" not in examples.data.raw or found.pictures is None:
        return {}
    raw = {top.unit: [examples.data.raw_example("test", int(rows[row])) for row in top.rows] for top in found.tops}
    return {unit: images for unit, images in raw.items() if all(isinstance(image, np.ndarray) for image in images)}  # type: ignore[misc]


def _probes(examples: RunExamples, fresh: Any) -> Probes:
    """Probes of each hidden layer. Raises OptionError where an example has no one answer."""
    network = examples.network
    if isinstance(network, LanguageModel | ImageGenerator):
        raise OptionError(
            f"--probe: {examples.run.name} has no one answer for an example; expected a network that predicts a class or a number; "
            "leave it out"
        )
    learn, test = (_some(examples, name, 1500)[0] for name in ("train", "test"))
    if test.target.ndim > 1:
        raise OptionError("--probe: an example has several answers; expected one class or number; leave it out")
    parts = [(_arrays(examples, part), part.target) for part in (learn, test)]
    layers = unit_layers(network, *(Tensor(value[:1]) for value in parts[0][0]))
    spread = np.unique(np.linspace(0, len(layers) - 1, MOST_PROBED).round().astype(int))
    layers = [layers[i] for i in spread.tolist()]
    return probe(network, layers, parts[0], parts[1], untrained=fresh)
