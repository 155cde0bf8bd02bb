"""Which training examples spoke for an answer of a run, and which against it (floor 8).

Shapes: N training examples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..data.loader import IGNORE_INDEX
from ..data.problem import DataModule, Examples, TokenSequence
from ..files import Json
from ..functional import logsigmoid
from ..inspect.influence import last_linear, tracin
from ..inspect.question import score
from ..inspect.result import Check, Result, Table
from ..models.base import Model
from ..models.heads.language import LanguageModel
from ..models.heads.prediction import PredictionModel
from ..tensor import Tensor
from .asked import Asked, RunExamples
from .learned import learned_data, learned_networks, names_of_rows, training_rows

ON_SCREEN = 8  # rows of each table


@dataclass(frozen=True)
class InfluentialRow:
    """A training example. index: in the training part, from 0.      name: what a person finds it by.      label: its target, in words.

    influence: how far it moved the answer; the strongest of all has 1 or -1.
    """

    index: int
    name: str
    label: str
    influence: float


@dataclass(frozen=True)
class Influence(Result):
    """The training examples that moved a network most towards an answer, and away from it.

    answer: in words.      count: N.      layer: whose gradients are compared.      weights: which kept weights were read, in words.
    every: the influence of each training example, float64 (N,), in units of the strongest.
    """

    asked: str
    answer: str
    count: int
    layer: str
    weights: str
    towards: Sequence[InfluentialRow]
    away: Sequence[InfluentialRow]
    checks: Sequence[Check] = ()
    every: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)

    def without_data(self) -> Influence:
        hidden = lambda rows: tuple(dataclasses.replace(row, name="", label="") for row in rows)
        return dataclasses.replace(self, asked="", towards=hidden(self.towards), away=hidden(self.away))

    def headline(self) -> str:
        return f"{self.asked}: which of {self.count:,} training examples moved the network towards {self.answer}, and which away from it"

    def tables(self) -> Sequence[Table]:
        return [
            Table(title, ("example", "label", "influence"), [(r.name, r.label, r.influence) for r in rows[:ON_SCREEN]])
            for title, rows in (("towards", self.towards), ("away from it", self.away))
        ]

    def remarks(self) -> Sequence[str]:
        nothing = ["No example moved it: what the network says does not go through that layer."]
        return (
            *(nothing if not len(self.towards) + len(self.away) else []),
            f"By {self.weights}; gradients of {self.layer} alone (TracInCP, Pruthi et al. 2020).",
            "The list as a whole is to be trusted more than its order: what one example did is suggestive, others would have stood in for it.",
        )

    def to_dict(self) -> dict[str, Json]:
        return {name: value for name, value in super().to_dict().items() if name != "every"}


def influence(examples: RunExamples, asked: Asked, top: int = 20) -> Influence:
    """The `top` training examples that moved a run's network most towards its answer to `asked`, and as many away from it.

    Towards means: training on the example made what the network says likelier, or the number that it predicts larger. The network
    of `examples` is not touched. Raises OptionError for a network that draws.
    """
    data, (index, _) = learned_data(examples), asked.answer()
    window = getattr(examples.network, "context_length", 0)
    count = len(data.train) // (window if isinstance(data.train, TokenSequence) else 1)
    total, weights, layer, found = np.zeros(0), "", "", 0
    for one in learned_networks(examples.run, count):
        rows = training_rows(one.network, data.train)
        own = tracin(
            one.network, rows, _score_of(one.network, asked, index), one.sets, most=one.network.eval_batch_size
        )
        total = own if not found else total + own
        found, weights, layer = found + 1, one.sentence, last_linear(one.network)
    if found > 1:
        weights = f"{weights}, of each of {found} networks"
    every = total / max(float(np.abs(total).max(initial=0)), np.finfo(float).tiny)
    order = np.argsort(-every, kind="stable")
    towards, away = order[:top][every[order[:top]] > 0], order[::-1][:top][every[order[::-1][:top]] < 0]
    labels = Labels(data)
    row = lambda i, name: InfluentialRow(int(i), name, labels.of(int(i)), float(every[i]))
    lists = [
        [row(i, name) for i, name in zip(part, names_of_rows(data, part, window), strict=True)]
        for part in (towards, away)
    ]
    said = _in_words(asked, index)
    checks = _label_check(data, towards, index) if asked.classes is not None else []
    return Influence(asked.name, said, len(every), layer, weights, lists[0], lists[1], checks, every)


def _score_of(network: Model, asked: Asked, index: int) -> Callable[[], Tensor]:
    """What is explained, (1,), on the tape: the log-probability of what was said, or the predicted number."""
    inputs = asked.question.inputs

    def of() -> Tensor:
        output = network.answer(*inputs)
        if isinstance(network, LanguageModel) or (
            isinstance(network, PredictionModel) and network.task == "classification"
        ):
            return score(output.log_softmax(-1), index)
        if isinstance(network, PredictionModel) and network.task == "multilabel":
            return logsigmoid(score(output, index))
        middle = len(network.levels) // 2 if isinstance(network, PredictionModel) and network.levels else 0
        return score(output, middle)

    return of


def _in_words(asked: Asked, index: int) -> str:
    return repr(asked.class_name(index)) if asked.classes is not None else "a larger number"


class Labels:
    """The targets of a training part, in words."""

    def __init__(self, data: DataModule) -> None:
        self.data = data
        self.classes = data.preprocessor.classes

    def of(self, i: int) -> str:
        """Of example `i`: a class, labels, a number in the target's own units, or the text of a line or window."""
        part = self.data.train
        if isinstance(part, TokenSequence):
            return ""
        target = part.target[i]
        if isinstance(target, np.ndarray) and self.classes is not None:
            return ", ".join(name for name, on in zip(self.classes, target, strict=True) if on) or "none"
        if isinstance(target, np.ndarray):  # a line of text
            tokens = target[target != IGNORE_INDEX]
            text: str = self.data.preprocessor.tokenizer.decode(tokens)  # type: ignore[attr-defined]
            return repr(text.rstrip("\n"))
        return self.classes[int(target)] if self.classes is not None else f"{self.number(part, i):.6g}"

    def number(self, part: Examples, i: int, output: float | None = None) -> float:
        """The target of example `i`, or a network's `output` for it, in the target's own units."""
        rows = slice(i, i + 1)
        value = part.target[rows] if output is None else np.array([output], np.float32)
        return float(self.data.preprocessor.decode_for(value, [np.asarray(x[rows]) for x in part.inputs.values()])[0])


def _label_check(data: DataModule, towards: np.ndarray, index: int) -> list[Check]:
    """How many of the strongest have the label that was said, against how many of all have it."""
    part = data.train
    if (
        not isinstance(part, Examples)
        or part.target.ndim != 1
        or part.target.dtype.kind not in "iu"
        or not len(towards)
    ):
        return []
    same, base = part.target[towards] == index, float((part.target == index).mean())
    return [
        Check(
            "same label",
            "suggestive",
            f"{int(same.sum())} of the {len(towards)} strongest towards the answer have it as their label",
            float(same.mean()) > base,
            f"{base:.0%} of all examples have it",
        )
    ]
