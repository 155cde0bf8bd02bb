"""What a run's network learned from, and its weights while it did: what views of training examples read (floor 8).

Shapes: N training examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.loader import WindowDataset
from ..data.problem import DataModule, Examples, TokenSequence
from ..errors import OptionError
from ..inspect.influence import TrainingRows, WeightSet
from ..models.base import Model
from ..models.heads.generation import ImageGenerator
from ..models.heads.prediction import PredictionModel
from ..runs.run import Run, load_run
from ..runs.snapshots import count_snapshots, load_snapshots
from .asked import RunExamples

MOST_PASSES, LEAST_SETS = 200_000, 3  # rows times sets of weights that a view reads; of a large data set, sets at least


@dataclass(frozen=True)
class Learned:
    """network: one of the run's form, whose weights may be changed.      sets: of it, by epoch; `epochs` are theirs, None for the end.

    of: how many epochs were kept, of which these are some.
    """

    network: Model
    sets: Sequence[WeightSet]
    epochs: Sequence[int | None]
    of: int

    @property
    def sentence(self) -> str:
        """Which weights are read, for people."""
        if self.epochs == [None]:
            return "the final weights alone, as no epoch's were kept (train with --snapshots 40)"
        some = (
            f"{len(self.epochs)} of {self.of} kept epochs" if len(self.epochs) < self.of else f"{self.of} kept epochs"
        )
        return f"the weights of {some}, {self.epochs[0]} to {self.epochs[-1]}"


def learned_networks(run: Run, count: int) -> list[Learned]:
    """The networks of a run with the weights that were kept of each; one, or the members of an ensemble. count: N."""
    if run.config.settings.ensemble > 1:
        return [learned_networks(load_run(path), count)[0] for path in sorted(run.members.iterdir()) if path.is_dir()]
    network = run.network()
    if isinstance(network, PredictionModel):  # as `training/head.py` does
        interval = run.preprocessor().interval
        network.levels = () if interval is None else ((1 - interval) / 2, 0.5, (1 + interval) / 2)
    kept = count_snapshots(run)
    found = load_snapshots(run, max(LEAST_SETS, MOST_PASSES // max(1, count)))
    if not found:
        return [Learned(network, [WeightSet(final_weights(network), 1.0)], [None], 0)]
    return [Learned(network, [WeightSet(s.weights, s.learning_rate) for s in found], [s.epoch for s in found], kept)]


def final_weights(network: Model) -> dict[str, np.ndarray]:
    return {name: value.array for name, value in network.state_dict().items()}


def learned_data(examples: RunExamples) -> DataModule:
    """The run's data as its network learned them: of a bagged network, with the fold of each row.

    Raises OptionError for a network that draws: its answers are not right or wrong by an example.
    """
    run = examples.run
    if isinstance(examples.network, ImageGenerator):
        raise OptionError(
            f"{run.name}: a {run.config.family}, whose loss of a training image changes with the noise it is drawn with; expected a "
            "network that answers or writes; choose another run"
        )
    data, folds = examples.data, getattr(run.config.network, "bag_folds", 0)
    return data.bagged(folds)[1] if folds and data.bagged is not None else data


def training_rows(network: Model, part: Examples | TokenSequence) -> TrainingRows:
    """The training part as `network` learned it; of running text, windows end to end."""
    if isinstance(network, PredictionModel):
        network.weighted_rows = isinstance(part, Examples) and part.weight is not None
    dataset: Any
    if isinstance(part, TokenSequence):
        dataset = WindowDataset(part.tokens, min(network.context_length, len(part) - 1), strided=True)
    else:
        dataset = part.dataset(network)
    gather = getattr(dataset, "gather")  # noqa: B009
    return TrainingRows(len(dataset), gather, network.learned_losses)


def names_of_rows(data: DataModule, rows: np.ndarray, window: int = 0) -> list[str]:
    """What a person finds training examples by: a file's name, the row or line in the data's file, or the place in the training part.

    window: tokens of one, of running text.
    """
    if isinstance(data.train, TokenSequence):
        return [f"tokens {i * window + 1:,} to {(i + 1) * window:,}" for i in rows]
    names = data.names.get("train")
    if names is not None:
        return [names[i] for i in rows]
    return places_of_rows(data, rows)


def places_of_rows(data: DataModule, rows: Sequence[int] | np.ndarray) -> list[str]:
    """Where training examples stand: the row in the data's file, else the place in the training part. Nothing of the data."""
    numbers = data.train.row if isinstance(data.train, Examples) else None
    if numbers is not None:
        return [f"row {numbers[i]}" for i in rows]
    return [f"train {i + 1}" for i in rows]
