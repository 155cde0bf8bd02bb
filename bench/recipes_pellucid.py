"""Our side of bench/recipes.py: the step that `Learner` compiles for a shipped recipe, and the `Start` for all sides.

The step is the library's own, with the recipe's settings. Only chance is out of it: movements of images and dropout are
switched off, and what a network would draw it finds in its batch.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import Any
from unittest import mock

import numpy as np
from starts import CHECKED, EXAMPLES, RECIPES, Recipe, Start, drawn_numbers

import pellucid
from pellucid.data.input_spec import ImageSpec, InputSpec, SeriesSpec, TextSpec
from pellucid.data.loader import DataLoader, TensorDataset, WindowDataset
from pellucid.models import family
from pellucid.models.base import Model, StepOutput
from pellucid.runs.settings import load_recipe, resolve_config
from pellucid.training.learner import Learner
from pellucid.training.optimizers import decayed_parameters, hidden_matrices, learning_rate_curve
from pellucid.training.session import INITIAL_EXAMPLES

TEXT = 100_000  # tokens
# The share of the highest learning rate to begin with. At the beginning of a warm-up, losses would agree whatever the
# optimizer did; at its end, rounding grows until they differ.
RISEN = 0.1


class Ours:
    """A recipe's training. chance: with movements, dropout and drawing, as the recipe has them."""

    def __init__(self, name: str, chance: bool = False) -> None:
        self.name, about = name, RECIPES[name]
        if chance:
            about = dataclasses.replace(about, changed={}, drawn=())
        settings, self.config = resolve_config(
            about.family, {**load_recipe(about.family, "", about.kind, EXAMPLES), **about.changed}
        )
        pellucid.manual_seed(0)
        task = "regression" if about.kind == "series" else "classification"
        network = family(about.family).build(input_spec(about.inputs), about.outputs, task, self.config)
        dataset = make_dataset(about, settings.batch_size, network)
        network.initialize_from_data(*dataset.gather(np.arange(min(INITIAL_EXAMPLES, len(dataset)))))
        if about.drawn:
            tell(network, about)
        loader = DataLoader(dataset, settings.batch_size, steps=settings.steps_per_epoch)
        self.learner = Learner(network, loader, settings)
        self.learner.train_mode()
        steps = settings.epochs * len(loader)
        curve = learning_rate_curve(settings.schedule, settings.warmup_fraction, steps)
        risen = next(step for step in range(steps) if curve(step) >= RISEN)
        self.shares = [curve(step) for step in range(risen, steps + 1)]
        for schedule in self.learner.state.schedules * risen:
            schedule.step()
        order = np.random.default_rng(3).permutation(len(dataset))
        self.picks = [order[i * settings.batch_size :][: settings.batch_size] for i in range(CHECKED)]

    def step(self, picked: np.ndarray) -> np.float64:
        """One step on the examples `picked` (B,); gives the loss. Raises RuntimeError where it is not compiled."""
        values = self.learner.run(picked)
        if self.learner.native.eager:
            raise RuntimeError("the step was not compiled")
        return np.float64(values["loss"])

    def start(self) -> Start:
        """To be taken before the first step."""
        learner = self.learner
        matrices = hidden_matrices(learner.network) if learner.settings.optimizer == "muon" else []
        decayed = {id(p) for p in decayed_parameters(learner.network)}
        return Start(
            self.name,
            dataclasses.asdict(learner.settings),
            dataclasses.asdict(self.config),
            {key: t.array.copy() for key, t in learner.network.state_dict().items()},
            [tuple(t.array for t in learner.loader.batch(picked)) for picked in self.picks],
            self.shares,
            [name for name, p in learner.network.named_parameters() if any(p is m for m in matrices)],
            [name for name, p in learner.network.named_parameters() if id(p) in decayed],
        )


def input_spec(inputs: dict[str, Any]) -> InputSpec:
    """The inputs of a `Recipe`, which imports nothing of pellucid, as a family of models takes them."""
    if "tokens" in inputs:
        return TextSpec(inputs["tokens"])
    if "series" in inputs:
        return SeriesSpec(*inputs["series"])
    return ImageSpec(
        tuple(inputs["image"]), **{name: inputs[name] for name in ("mean", "std", "white") if name in inputs}
    )


def make_dataset(recipe: Recipe, batch: int, network: Model) -> Any:
    """Made-up examples with something to learn in them, enough for CHECKED batches, as a preprocessor would encode them.

    In pure noise the gradients are so close to nothing that rounding decides Adam's steps, and any two runs drift apart.
    """
    random, n = np.random.default_rng(1), CHECKED * batch
    if recipe.kind == "text":
        drawn = random.integers(0, recipe.outputs, (3, TEXT), np.uint8)
        return WindowDataset(drawn.min(0), network.context_length)  # some tokens more often than others
    if recipe.kind == "series":
        inputs = random.standard_normal((n, *recipe.inputs["series"]), np.float32)
        target = inputs[:, -1, 0] + random.standard_normal(n, np.float32)
    else:
        *channels, height, width = recipe.inputs["image"]
        target = random.integers(0, recipe.outputs, n)
        coarse = random.random((recipe.outputs, *channels, height // 4, width // 4), np.float32)
        squares = coarse.repeat(4, -1).repeat(4, -2)  # each class has its pattern of large squares

        def some(classes: np.ndarray) -> np.ndarray:
            images = 0.3 * squares[classes] + 0.7 * random.random((len(classes), *squares.shape[1:]), np.float32)
            return images * recipe.inputs["white"] if recipe.kind == "image-grey" else (images * 255).astype(np.uint8)

        # Batch by batch: the peak memory of a fresh process shall be that of training.
        inputs = np.concatenate([some(classes) for classes in np.split(target, CHECKED)])
    return TensorDataset(*map(pellucid.tensor, (inputs, *drawn_numbers(recipe, n), target)))


def tell(network: Model, recipe: Recipe) -> None:
    """Have the network take from its batch what it would draw, turn by turn, in the order in which it asks."""
    turns, first = [], 0
    for turn, numbers in zip(network.phases(), recipe.drawn, strict=True):
        values = functools.partial(told, turn.training_step, sys.modules[type(network).__module__], first)
        turns.append(dataclasses.replace(turn, training_step=values))
        first += len(numbers)
    network.phases = lambda: turns  # type: ignore[method-assign]


def told(values: Any, home: Any, first: int, image: Any, *rest: Any) -> StepOutput:
    """`values(image, target)`, with the numbers from the `first` on wherever the module `home` draws some."""
    *numbers, target = rest
    given = iter(numbers[first:])
    drawing = [name for name in ("randn", "rand") if hasattr(home, name)]
    with mock.patch.multiple(home, **dict.fromkeys(drawing, lambda *shape: next(given))):
        return values(image, target)
