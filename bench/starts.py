"""The shipped recipes that bench/recipes.py measures, and what every side of a row begins with.

Imports NumPy alone: a fresh process of PyTorch or JAX gets a `Start` from a file and holds nothing of pellucid.
Making one is left to `recipes_pellucid.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

EXAMPLES = 60_000  # as many as MNIST's, which decides for recipes of large data
CHECKED = 10  # steps whose losses are compared, and batches
STILL = {"shift": 0, "flip": False, "rotate": 0.0, "zoom": 0.0}

Numbers = tuple[str, tuple[int, ...]]  # "normal" or "uniform", and the shape for one example


@dataclass(frozen=True)
class Recipe:
    """A recipe FAMILY-KIND on data of one size.

    changed: settings that switch chance off.      drawn: by turn, the numbers that a network draws; here every side gets
    the same ones with its batch.      images: whether layouts matter to PyTorch.      pace: rounds, steps in each.      apart: by
    how much the first losses may differ, relatively.
    """

    family: str
    kind: str
    inputs: dict[str, Any]
    outputs: int
    changed: dict[str, Any]
    pace: tuple[int, int]
    images: bool = True
    apart: float = 1e-3
    drawn: tuple[tuple[Numbers, ...], ...] = ()


MNIST: dict[str, Any] = {"image": [28, 28], "white": 3.0}
RECIPES = {
    "cnn-image-grey": Recipe("cnn", "image-grey", MNIST, 10, STILL, (7, 6)),
    "cnn-image": Recipe(
        "cnn", "image", {"image": [3, 32, 32], "mean": [128.0] * 3, "std": [74.0] * 3}, 10, STILL, (5, 1)
    ),
    "lstm-text": Recipe("lstm", "text", {"tokens": 65}, 65, {"dropout": 0.0}, (5, 3), images=False),
    "transformer-text": Recipe("transformer", "text", {"tokens": 65}, 65, {}, (7, 16), images=False),
    # The network alone: the linear part is fitted before the first step, and no other side has one.
    "lstm-series": Recipe(
        "lstm", "series", {"series": [30, 5]}, 1, {"dropout": 0.0, "linear": False}, (7, 50), images=False
    ),
    "gan-image-grey": Recipe(
        "gan", "image-grey", MNIST, 10, {}, (7, 6), apart=5e-3, drawn=((("normal", (64,)),), (("normal", (64,)),))
    ),
    "diffusion-image-grey": Recipe(
        "diffusion",
        "image-grey",
        MNIST,
        10,
        {},
        (5, 3),
        drawn=((("normal", ()), ("uniform", ()), ("normal", (1, 28, 28))),),
    ),
}


@dataclass
class Start:
    """recipe: a key of RECIPES.      settings, config: of training and of the network, by name.
    weights: the network's state_dict.      batches: inputs, drawn numbers, target of each step.
    shares: of the highest learning rate, by step; the last one stays.      matrices: the weights that Muon moves, if it does.
    decayed: those that weight decay is for.
    """

    recipe: str
    settings: dict[str, Any]
    config: dict[str, Any]
    weights: dict[str, np.ndarray]
    batches: list[tuple[np.ndarray, ...]]
    shares: list[float]
    matrices: list[str]
    decayed: list[str]

    @property
    def inputs(self) -> dict[str, Any]:
        return RECIPES[self.recipe].inputs

    @property
    def outputs(self) -> int:
        return RECIPES[self.recipe].outputs

    def rate(self, step: int) -> float:
        return float(self.settings["lr"]) * self.shares[min(step, len(self.shares) - 1)]

    def renewed(self, step: int) -> float:
        """The share of the newest weights in their moving average after `step` (0 the first): more in the first steps."""
        return max(1 - float(self.settings["ema_decay"]), 9 / (step + 11))


def drawn_numbers(recipe: Recipe, examples: int) -> list[np.ndarray]:
    """What a network would draw for so many examples, (N, ...) each."""
    random = np.random.default_rng(2)
    draw: dict[str, Callable[..., np.ndarray]] = {
        "normal": lambda shape: random.standard_normal(shape, np.float32),
        "uniform": lambda shape: random.random(shape, np.float32),
    }
    return [draw[kind]((examples, *shape)) for numbers in recipe.drawn for kind, shape in numbers]
