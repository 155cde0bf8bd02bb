"""Suspected wrong labels of a run's training part (floor 8).

A label that contradicts what all other examples teach is learned late, or never: its loss stays high while the others' falls. So the
mean loss over the epochs that were kept finds wrong labels about as well as retraining without each fold does, for one forward
pass an epoch (Swayamdipta et al. 2020; Pleiss et al. 2020). A bagged network of a table has better: each row's loss by the networks
that did not learn it. Of a number, the residual stands in place of the loss.

Shapes: N training examples, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..creation import tensor
from ..data.problem import DataModule, Examples
from ..errors import OptionError
from ..files import Json
from ..inspect.influence import TrainingRows
from ..inspect.result import Result, Table
from ..inspect.undisturbed import restored, undisturbed
from ..models.bagged_mlp import BaggedMLP
from ..models.heads.prediction import PredictionModel
from .asked import RunExamples
from .influences import Labels
from .learned import learned_data, learned_networks, names_of_rows, training_rows

FAR = 4.0  # standard deviations from which a residual is called far; of a normal law 1 of 16,000 are
TO_NORMAL = 1.4826  # the standard deviation of a normal law over its median absolute deviation
LEAST = 1e-12  # of a probability


@dataclass(frozen=True)
class DoubtedRow:
    """A training example. index: in the training part, from 0.      name: what a person finds it by.      label: as given.

    says: what the network holds for likeliest, or its number, in words.      sure: the probability of that; of a number, by how many spreads it is off.
    loss: by which rows are ranked.
    """

    index: int
    name: str
    label: str
    says: str
    sure: float
    loss: float


@dataclass(frozen=True)
class LabelIssues(Result):
    """The training examples whose label the network doubts, the most doubted first.

    count: N, of which `judged` have a score.      how: where the losses are from, in words.      out_of_fold: whether each is judged by
    networks that did not learn it.      doubted: examples of which the network says another label; of a number, FAR off.
    confident: how many of them it doubts with confidence (confident learning, Northcutt et al. 2021).
    scores: float64 (N,), larger where the label is likelier wrong; NaN where an example cannot be judged.
    """

    run: str
    count: int
    judged: int
    how: str
    out_of_fold: bool
    doubted: int
    confident: int
    rows: Sequence[DoubtedRow]
    is_number: bool = False
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)

    @property
    def expected(self) -> int:
        """How many labels are wrong, by what is known: confident ones out of fold; among those learned, all doubted ones."""
        return self.confident if self.out_of_fold else self.doubted

    def without_data(self) -> LabelIssues:
        return dataclasses.replace(
            self, rows=tuple(dataclasses.replace(row, name="", label="", says="") for row in self.rows)
        )

    def headline(self) -> str:
        if self.is_number:
            return f"{self.run}: {self.doubted:,} of {self.judged:,} training examples are {FAR:g} spreads and more from what the network says"
        return (
            f"{self.run}: the network doubts {self.doubted:,} of {self.judged:,} training labels ({self.doubted / max(1, self.judged):.1%}), "
            f"{self.confident:,} of them with confidence"
        )

    def tables(self) -> Sequence[Table]:
        last = ("off by spreads",) if self.is_number else ("sure", "loss")
        rows = [(r.name, r.label, r.says, *((r.sure,) if self.is_number else (r.sure, r.loss))) for r in self.rows]
        return [Table("", ("example", "label", "the network says" if self.is_number else "likeliest", *last), rows)]

    def remarks(self) -> Sequence[str]:
        lines = [f"Ranked by {self.how}."]
        if not self.out_of_fold:
            lines.append(
                "The network has learned these labels, wrong ones too: the ranking is good, and the number doubted is a rough one."
            )
        lines.append("Doubt is no proof: rare and hard examples look alike. Look at each before you change it.")
        return lines

    def to_dict(self) -> dict[str, Json]:
        return {name: value for name, value in super().to_dict().items() if name != "scores"} | {
            "expected": self.expected
        }


@dataclass(frozen=True)
class Judged:
    """What a network says of its training examples: the loss of each (N,), and probabilities (N, K) or numbers (N,)."""

    losses: np.ndarray
    says: np.ndarray
    how: str
    out_of_fold: bool = False


def label_issues(examples: RunExamples, top: int | None = 30) -> LabelIssues:
    """The training examples whose labels a run's network doubts; `top` rows of them, None for all.

    The network of `examples` is not touched. Raises OptionError where no example has one label or one number.
    """
    data, run = learned_data(examples), examples.run
    part = data.train
    if not isinstance(examples.network, PredictionModel) or not isinstance(part, Examples) or part.target.ndim != 1:
        raise OptionError(
            f"{run.name}: its examples have no label each; expected a run on classes or numbers; choose another run"
        )
    found = [
        _judged(one.network, one.sets, one.sentence, part)
        for one in learned_networks(run, len(part))
        if isinstance(one.network, PredictionModel)
    ]
    losses, says = (np.mean([getattr(one, name) for one in found], axis=0) for name in ("losses", "says"))
    how = found[0].how + (f", mean of {len(found)} networks" if len(found) > 1 else "")
    if part.target.dtype.kind in "iu" and says.ndim == 2:
        return _of_classes(data, part, run.name, Judged(losses, says, how, found[0].out_of_fold), top)
    return _of_numbers(data, part, run.name, Judged(losses, says, how, found[0].out_of_fold), top)


def _judged(network: PredictionModel, sets: Sequence[Any], sentence: str, part: Examples) -> Judged:
    rows = training_rows(network, part)
    held_out = part.fold is not None and (part.fold >= 0).mean() > 0.5
    if isinstance(network, BaggedMLP) and held_out:
        losses, says = _answers(network, rows, with_fold=True)
        losses[part.fold < 0] = np.nan  # type: ignore[operator]  # learned by all
        return Judged(losses, says, "the loss by the networks that did not learn the row", True)
    total: list[tuple[np.ndarray, np.ndarray]] = []
    with restored(network):
        for one in sets:
            network.load_state_dict({name: tensor(array) for name, array in one.weights.items()})
            total.append(_answers(network, rows, with_fold=False))
    losses, says = (np.mean([pair[k] for pair in total], axis=0) for k in (0, 1))
    return Judged(losses, says, f"mean loss, by {sentence}")


def _answers(network: PredictionModel, rows: TrainingRows, with_fold: bool) -> tuple[np.ndarray, np.ndarray]:
    """The loss (N,) of each row's label, and probabilities (N, K) or predicted numbers (N,), in evaluation mode."""
    losses, says = [], []
    with undisturbed(network):
        for numbers in rows.batches(network.eval_batch_size):
            inputs, target, _ = network.parts(tuple(rows.batch(numbers)))
            output = network(*inputs[: len(network.input_names) + with_fold])
            losses.append(network.losses(output, target).numpy().astype(np.float64))
            if network.task == "classification":
                says.append(output.softmax(-1).numpy().astype(np.float64))
            else:
                number = output if output.ndim == 1 else output[:, output.shape[1] // 2]
                says.append((number.exp() if network.task == "counts" else number).numpy().astype(np.float64))
    return np.concatenate(losses), np.concatenate(says)


def confident(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Which labels (N,) are wrong by confident learning, bool (N,): another class is the likeliest of those that reach the mean
    probability of their own examples (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068). probabilities: (N, K), out of fold.
    """
    classes = probabilities.shape[1]
    own = [probabilities[labels == k, k] for k in range(classes)]
    thresholds = np.array([of.mean() if len(of) else np.inf for of in own])
    reaches = probabilities >= thresholds
    best = np.where(reaches, probabilities, -1.0).argmax(1)
    return np.asarray(reaches.any(1) & (best != labels))


def _of_classes(data: DataModule, part: Examples, run: str, found: Judged, top: int | None) -> LabelIssues:
    good = np.isfinite(found.losses)
    labels, said = part.target, found.says.argmax(1)
    other = good & (said != labels)
    sure = np.zeros(len(labels), bool)
    sure[good] = confident(found.says[good], labels[good])
    names = data.preprocessor.classes or []
    order = _ranked(found.losses, top)
    rows = [
        DoubtedRow(
            int(i), name, names[labels[i]], names[said[i]], float(found.says[i, said[i]]), float(found.losses[i])
        )
        for i, name in zip(order, names_of_rows(data, order), strict=True)
    ]
    return LabelIssues(
        run, len(labels), int(good.sum()), found.how, found.out_of_fold, int(other.sum()), int((sure & other).sum()), rows,
        scores=found.losses,
    )  # fmt: skip


def _of_numbers(data: DataModule, part: Examples, run: str, found: Judged, top: int | None) -> LabelIssues:
    residuals = part.target - found.says
    residuals[~np.isfinite(found.losses)] = np.nan
    centre = np.nanmedian(residuals)
    spread = max(TO_NORMAL * float(np.nanmedian(np.abs(residuals - centre))), LEAST)
    scores = np.abs(residuals - centre) / spread
    far = int(np.nansum(scores >= FAR))
    labels, order = Labels(data), _ranked(scores, top)
    rows = []
    for i, name in zip(order.tolist(), names_of_rows(data, order), strict=True):
        says = labels.number(part, i, float(found.says[i]))
        rows.append(DoubtedRow(i, name, labels.of(i), f"{says:.6g}", float(scores[i]), float(found.losses[i])))
    how = found.how.replace("mean loss", "the residual of the mean prediction").replace("the loss", "the residual")
    judged = int(np.isfinite(scores).sum())
    return LabelIssues(run, len(scores), judged, how, found.out_of_fold, far, far, rows, True, scores)


def _ranked(scores: np.ndarray, top: int | None) -> np.ndarray:
    """The numbers of the rows with the largest scores, the largest first, without NaN."""
    order: np.ndarray = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    return np.asarray(order[np.isfinite(scores[order])][:top])
