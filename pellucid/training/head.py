"""What a network's loss takes from the data and the settings: weights of classes and rows, quantiles (floor 10)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..creation import tensor
from ..data.problem import DataModule, Examples
from ..errors import OptionError, suggestion
from ..evaluation.scoring import rarer_class
from ..models.base import Model
from ..models.heads.prediction import PredictionModel
from ..runs.records import Decision
from ..runs.settings import Settings

RARE = 0.1  # share of the rarer class from which a note names the options for it


def prepare_head(network: Model, problem: DataModule, settings: Settings) -> None:
    """Give the network's loss what it takes from the data. Raises OptionError for a setting that these data do not take."""
    weighted = settings.class_weight != "none"
    if not isinstance(network, PredictionModel):
        for name, given in (("class_weight", weighted), ("metric", bool(settings.metric))):
            if given:
                raise OptionError(f"{name}: {problem.name} is learned by a network that predicts no class or number; expected one that "
                                  "does, such as an mlp; leave it out")  # fmt: skip
        return
    interval = problem.preprocessor.interval
    network.levels = () if interval is None else ((1 - interval) / 2, 0.5, (1 + interval) / 2)
    train = problem.train
    network.weighted_rows = isinstance(train, Examples) and train.weight is not None
    network.class_weight = None
    if weighted:
        if problem.task != "classification":
            raise OptionError(
                f"class_weight: the target is learned as {problem.task}; expected classes, one a row; leave it out"
            )
        examples = problem.examples("train")
        weights = class_weights(
            settings.class_weight, examples.target, problem.preprocessor.classes or [], examples.weight
        )
        network.class_weight = tensor(weights)


def class_weights(written: str, target: np.ndarray, classes: Sequence[str], weight: np.ndarray | None) -> np.ndarray:
    """Weights (K,) float32 of "balanced" or "a=1,b=5", scaled to be 1 on average over the training rows.

    target: (N,) class indices.      weight: (N,) of the rows. A class that is not written weighs 1. Raises OptionError.
    """
    counts = np.bincount(target, weights=weight, minlength=len(classes)).astype(np.float64)
    if written == "balanced":
        weights = 1 / np.maximum(counts, 1e-12) * (counts > 0)
    else:
        weights = np.ones(len(classes))
        for part in written.split(","):
            name, equals, number = (piece.strip() for piece in part.rpartition("="))
            if not equals:
                raise OptionError(f"class_weight: {written}; expected balanced, none, or a weight for classes; write "
                                  f"{classes[0]}=1,{classes[-1]}=5")  # fmt: skip
            if name not in classes:
                raise OptionError(
                    f"class_weight: no class {name!r}; expected one of {', '.join(classes[:20])}.{suggestion(name, classes)}"
                )
            weights[list(classes).index(name)] = _positive(number, written)
    scaled: np.ndarray = weights * (counts.sum() / float(weights @ counts))
    return scaled.astype(np.float32)


def _positive(number: str, written: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not 0 < value < np.inf:
        raise OptionError(
            f"class_weight: {number!r} in {written}; expected a number above 0, how much the class counts; write 5"
        )
    return value


def first_decision(problem: DataModule, settings: Settings) -> Decision | None:
    """Of two classes with a metric, the one that is looked for, the rarer in training, with the threshold 0.5 for now."""
    classes = problem.preprocessor.classes
    if not settings.metric or problem.task != "classification" or classes is None or len(classes) != 2:
        return None
    return Decision(rarer_class(problem.examples("train").target))


def head_notes(
    problem: DataModule, settings: Settings, decision: Decision | None, weights: np.ndarray | None
) -> list[str]:
    """What was decided about classes, one line each."""
    classes = problem.preprocessor.classes
    if problem.task != "classification" or classes is None:
        return []
    notes = []
    if weights is not None:
        shown = ", ".join(f"{name:.12} {weight:.3g}" for name, weight in list(zip(classes, weights, strict=True))[:3])
        more = ", ..." if len(classes) > 3 else ""
        notes.append(f"weights: classes count {shown}{more} in both losses (--class-weight none: all alike)")
    if decision is not None:
        notes.append(
            f"metric: {settings.metric}, with {classes[decision.positive]!r}, the rarer class, as the one looked for"
        )
    counts = np.bincount(problem.examples("train").target, minlength=len(classes))
    rare = int(counts.argmin())
    if len(classes) == 2 and weights is None and decision is None and counts[rare] < RARE * counts.sum():
        notes.append(f"labels: {counts[rare]:,} of {counts.sum():,} training rows are {classes[rare]!r}; to find them try --metric f1 or "
                     "--class-weight balanced")  # fmt: skip
    return notes
