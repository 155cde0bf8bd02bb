"""Evaluators: score a network on validation data every epoch, and on the test data at the end (floor 7).

One class for each kind of network: `PredictionEvaluator` here, `LanguageEvaluator` in `language.py`, `GenerationEvaluator` in
`generation.py`. The loop and the session ask any of them for validation values, which of two results is better, what to keep
of an epoch, the test scores, and the figures of a report. All of it is data; `report/` shows it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.loader import GatheredDataset
from ..data.problem import DataModule, Examples, Preprocessor, RawExample
from ..inspect.attention import AttentionFigure
from ..inspect.filters import first_filters
from ..models.base import Model
from ..runs.metric_names import higher_is_better
from ..runs.records import ForecastInterval, RunConfig
from ..runs.run import Run
from ..runs.settings import Settings
from ..tensor import Tensor
from .compiled import EvaluationStep, Forward, means
from .forecasts import ForecastFigure
from .importance import Importances, permutation_importance
from .metrics import Metrics, primary_metric
from .scoring import Scoring

Rows = tuple[str, np.ndarray | None]  # a split, and which of its rows, None for all
LARGEST_LOG = 30.0  # of a predicted rate: beyond it exp() says nothing that data could


@dataclass(frozen=True)
class TestPredictions:
    """What a network predicts for the test examples, and what they are.

    output: (N, K) probabilities, (N,) predictions, or (N, 3) the ends of an interval and the median between them.
    target: (N,) class indices, numbers in the target's own units, or (N, K) of 0 and 1 where a row has several labels.
    said: (N,) the classes named, of a classification; (N, K) bool where a row has several labels.
    classes: K names, None for a regression.      describe(i): example i as a person knows it, a row (column -> value) or a
    uint8 image (H, W), in colour (H, W, 3).      files: the name of each example's file, where it is one.
    """

    __test__ = False  # no test of pytest's

    output: np.ndarray
    target: np.ndarray
    classes: Sequence[str] | None = None
    target_name: str | None = None
    describe: RawExample | None = None
    files: Sequence[str] = ()
    said: np.ndarray | None = None

    def worst(self) -> int | None:
        """The example whose answer is farthest from right: the surest wrong class, the largest error; None without examples."""
        if not len(self.target):
            return None
        if self.classes is None:
            middle = self.output if self.output.ndim == 1 else self.output[:, 1]
            return int(np.abs(middle - self.target).argmax())
        if self.target.ndim == 2:
            return int(np.abs(self.output - self.target).max(1).argmax())
        return int(self.output[np.arange(len(self.target)), self.target].argmin())


@dataclass(frozen=True)
class EvaluationResult:
    """The test scores, those of the baselines, and the predictions of a network that answers."""

    metrics: Metrics
    baselines: dict[str, Metrics]
    predictions: TestPredictions | None = None
    interval: ForecastInterval | None = None  # of forecasts


@dataclass(frozen=True)
class TextSample:
    """Text written after an epoch, and the validation loss then, in nats per character where that is known."""

    epoch: int
    loss: float
    text: str


@dataclass(frozen=True)
class TokenLoss:
    """A token of a text, as it is spelled, and its negative log-likelihood in nats."""

    text: str
    nll: float


@dataclass(frozen=True)
class ImageSheet:
    """Images drawn by a network, as one picture: uint8 (H, W) or (H, W, 3)."""

    title: str
    pixels: np.ndarray


@dataclass(frozen=True)
class Figures:
    """What a report shows of a network beside its scores; each is empty where there is none.

    filters: weights (N, C, h, w) of the first convolution.      conditional: whether a column of each sheet is a class.
    forecasts: of series, with their interval.
    """

    filters: np.ndarray | None = None
    text_samples: Sequence[TextSample] = ()
    passage: Sequence[TokenLoss] = ()
    attention: AttentionFigure | None = None
    sheets: Sequence[ImageSheet] = ()
    conditional: bool = False
    forecasts: Sequence[ForecastFigure] = ()
    interval: ForecastInterval | None = None
    notes: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True)
class EpochArtifacts:
    """What is kept of an epoch. sample: text.      picture: images, a file of the run."""

    sample: str | None = None
    picture: str | None = None


class NonFiniteLoss(Exception):
    """A validation loss that is not finite, with a batch that has it; the caller finds out which layer gave it."""

    def __init__(self, batch: list[Tensor]) -> None:
        super().__init__("a validation loss is not finite")
        self.batch = batch


class Evaluator:
    """Base of the evaluators. network: in evaluation mode, with the weights to score at the time of each call."""

    def __init__(self, run: Run, problem: DataModule, network: Model, settings: Settings) -> None:
        self.run = run
        self.problem = problem
        self.network: Any = network
        self.settings = settings
        self.step = EvaluationStep(network, settings.eager)
        self.validation_set: GatheredDataset = problem.validation.eval_dataset(network)

    def validate(self) -> dict[str, float]:
        """The means over the validation part; "loss" is among them. Raises NonFiniteLoss where it is not finite."""
        values = self.step(self.validation_set)
        mean_values = means(values)
        if not np.isfinite(mean_values["loss"]):
            raise NonFiniteLoss(self.validation_set.gather(np.argsort(np.isfinite(values["loss"]), kind="stable")[:1]))
        return self.inverse_transform(mean_values)

    def inverse_transform(self, values: dict[str, float]) -> dict[str, float]:
        """Means of training or validation, with those in the data's own units added."""
        return values

    def is_better(self, a: Mapping[str, float], b: Mapping[str, float]) -> bool:
        """Whether validation values `a` beat `b`."""
        return a["loss"] < b["loss"]

    def epoch_artifacts(self, epoch: int) -> EpochArtifacts:
        """Make what is kept of this epoch. Files go into the run's folder."""
        return EpochArtifacts()

    def calibrate(self) -> tuple[dict[str, Any], list[str]]:
        """What to choose on the validation part once the weights are final: changes of the run's config, and notes. By default none."""
        return {}, []

    def test(self) -> EvaluationResult:
        """Score the network on the test part, with the weights it has now."""
        raise NotImplementedError(f"{type(self).__name__} does not define test()")

    def importance(self, score: str) -> Importances | None:
        """How much each column of the data matters for `score`, on validation rows; None for data without columns. By default none."""
        return None

    def figures(self) -> Figures:
        """What a report shows of the network beside its scores. By default, nothing."""
        return Figures()


class PredictionEvaluator(Evaluator):
    """Of a classifier or a regression: accuracy or RMSE, beside the models of `baselines.py`."""

    def __init__(self, run: Run, problem: DataModule, network: Model, settings: Settings) -> None:
        super().__init__(run, problem, network, settings)
        self.forward = Forward(network, settings.eager)

    def validate(self) -> dict[str, float]:
        """The means, and the score that was asked for by `metric`; of two classes that of the best threshold."""
        values = super().validate()
        scoring = self.scoring()
        if scoring.metric and scoring.score not in values:
            part = self.problem.examples("validation")
            values[scoring.score] = scoring.value(self._output(part), self._targets(part), part.weight)
        return values

    def scoring(self) -> Scoring:
        return scoring_of(self.run.config, self.problem.preprocessor)

    def inverse_transform(self, values: dict[str, float]) -> dict[str, float]:
        """Add the root of a squared error, as RMSE in the target's units."""
        if self.problem.task != "regression" or self.problem.preprocessor.interval is not None:
            return values
        zero, one = inverse_transform(self.problem.preprocessor, np.array([0.0, 1.0]))
        return {**values, "rmse": float(values["loss"] ** 0.5 * (one - zero))}

    def is_better(self, a: Mapping[str, float], b: Mapping[str, float]) -> bool:
        score = self.scoring().score or ("accuracy" if self.settings.monitor == "score" else "")
        ours, theirs = a.get(score, math.nan), b.get(score, math.nan)
        if math.isfinite(ours) and math.isfinite(theirs) and ours != theirs:
            return ours > theirs if higher_is_better(score) else ours < theirs
        return super().is_better(a, b)

    def calibrate(self) -> tuple[dict[str, Any], list[str]]:
        """The threshold of two classes, or of labels, for the metric asked for, and how far the ends of intervals are moved apart."""
        part, scoring = self.problem.examples("validation"), self.scoring()
        if scoring.has_threshold and scoring.classes is not None:
            chosen = scoring.with_threshold(self._output(part), self._targets(part), part.weight)
            if scoring.task == "multilabel":
                told = threshold_words(scoring.classes, chosen.thresholds)
                return {"thresholds": list(chosen.thresholds)}, [
                    f"threshold: {told}, best {scoring.metric} on {len(part):,} validation rows"
                ]
            found = chosen.decision
            assert found is not None
            name, rows = scoring.classes[found.positive], int((part.target == found.positive).sum())
            note = f"threshold: {name} from a probability of {found.threshold:.3g}, best {scoring.metric} on {len(part):,} validation rows"
            return {"decision": found}, [f"{note}, {rows:,} of them {name}"]
        if scoring.coverage is not None:
            raw = self._output(part, margin=0.0)
            margin = conformal_margin(raw, self._targets(part), scoring.coverage, part.weight)
            how = f"{abs(margin):.4g} {'further out' if margin > 0 else 'further in'}"
            return {"margin": margin}, [
                f"interval: each end {how}, to hold {100 * scoring.coverage:g}% of the validation rows"
            ]
        return {}, []

    def test(self) -> EvaluationResult:
        problem, scoring, test = self.problem, self.scoring(), self.problem.examples("test")
        output, target = self._output(test), self._targets(test)
        metrics = scoring.metrics(output, target, test.weight, test.unit)
        others = self._baselines(output, metrics)
        self._note_trees(others)
        said = scoring.said(output) if scoring.task in ("classification", "multilabel") else None
        predictions = TestPredictions(output, target, scoring.classes, problem.preprocessor.target_name,
                                      lambda i: problem.raw_example("test", i), problem.names.get("test", ()), said)  # fmt: skip
        return EvaluationResult(metrics, others, predictions)

    def _baselines(self, network: np.ndarray, metrics: Metrics) -> dict[str, Metrics]:
        """Metrics of the baselines on the test part; each has a threshold of its own, chosen as the network's is."""
        from .baselines import baseline_outputs, baselines  # scikit-learn takes a second to import

        problem, preprocessor, scoring = self.problem, self.problem.preprocessor, self.scoring()
        train, part, test = (self._without_text(problem.examples(split)) for split in ("train", "validation", "test"))
        if not train.inputs:
            return {}
        learned, target = self._targets(train), self._targets(test)
        usual = metrics.headline is None and metrics.groups is None
        if usual and test.weight is None and problem.task != "counts":
            return baselines(problem.task, train.inputs, learned, test.inputs, target,
                             classes=preprocessor.classes, network=network, decode=preprocessor.decode, texts=self._texts([("train", None), ("test", None)]))  # fmt: skip
        rows: list[Rows] = [("train", None), ("test", None), ("validation", None)]
        if train.fold is not None and (train.fold == 0).any():  # what thresholds are chosen on must not be learned
            known, held = np.flatnonzero(train.fold != 0), np.flatnonzero(train.fold == 0)
            rows = [("train", known), ("test", None), ("train", held)]
            train, part = train.take(known), train.take(held)
            learned = self._targets(train)
        outputs, chosen = baseline_outputs(
            problem.task, train.inputs, learned, [test, part], classes=preprocessor.classes, decode=preprocessor.decode,
            weight=train.weight, texts=self._texts(rows),
        )  # fmt: skip
        name, plain = primary_metric(metrics), dataclasses.replace(scoring, coverage=None)
        found = {}
        for key, output in outputs.items():
            own = plain.with_threshold(chosen[key], self._targets(part), part.weight)
            scored = own.metrics(output, target, test.weight)
            # The network's median is compared with the one number of a baseline.
            ours = network[:, 1] if scoring.coverage is not None else network
            gain = plain.gain(name, ours, output, own, target, test.weight, test.unit)
            found[key] = dataclasses.replace(scored, gain=gain, headline=name)
        return found

    def _note_trees(self, others: Mapping[str, Metrics]) -> None:
        """Note where baselines learned from some of the training rows alone."""
        from .baselines import linear_rows, tree_rows  # scikit-learn, as above

        whole, said = self.problem.examples("train"), []
        train = self._without_text(whole)
        if "boosted_trees" in others and (rows := tree_rows(train.inputs)) < len(train):
            said.append(f"boosted trees learned from {rows:,}")
        if len(others) > 1 and (rows := linear_rows(train.inputs)) < len(train):
            said.append(f"the linear model from {rows:,}" if said else f"the linear model learned from {rows:,}")
        if said:
            self.problem.notes.append(f"baseline: {', '.join(said)} of {len(train):,} training rows")
        if self.problem.large and whole.inputs.keys() != train.inputs.keys():
            self.problem.notes.append("baseline: columns of text are left to the network, as the table is large")

    def _output(self, examples: Examples, margin: float | None = None) -> np.ndarray:
        preprocessor, margin = self.problem.preprocessor, self.run.config.margin if margin is None else margin
        return predict_outputs(self.forward, preprocessor, examples.arrays(self.network), margin)

    def importance(self, score: str) -> Importances | None:
        columns = self.problem.preprocessor.column_parts()
        if not columns:
            return None
        part = self.problem.examples("validation")
        known = dataclasses.replace(part, target=self._targets(part))
        return permutation_importance(
            self._output, self.scoring(), score, columns, known, self.problem.examples("train"), self.settings.seed
        )

    def _without_text(self, examples: Examples) -> Examples:
        """The examples as baselines read them: of a large table without its columns of text."""
        if not self.problem.large:
            return examples
        inputs = {name: array for name, array in examples.inputs.items() if not name.startswith("text")}
        return dataclasses.replace(examples, inputs=inputs)

    def _texts(self, parts: Sequence[Rows]) -> list[list[list[str]]] | None:
        """The raw columns of text of each of the `parts`, as baselines read them; None where there are none."""
        problem, names = self.problem, [column.name for column in getattr(self.problem.preprocessor, "texts", ())]
        if not names or problem.large:
            return None
        found = []
        for split, rows in parts:
            own = np.arange(len(problem.examples(split))) if rows is None else rows
            raw = [problem.raw_example(split, int(i)) for i in own]
            found.append([[str(row[name]) for row in raw] for name in names])
        return found

    def _targets(self, examples: Examples) -> np.ndarray:
        return inverse_transform(self.problem.preprocessor, examples.target, list(examples.inputs.values()))

    def figures(self) -> Figures:
        """The filters of the first convolution."""
        return Figures(filters=first_filters(self.network))


# ---- predictions ---------------------------------------------------------------------------------------------------------


def predict_outputs(
    forward: Forward, preprocessor: Preprocessor, inputs: Sequence[np.ndarray], margin: float = 0.0
) -> np.ndarray:
    """(N, K) probabilities in float64, (N,) predictions in the target's units, or (N, 3): lower end, median, upper end.

    margin: by which both ends of an interval are moved outwards.
    """
    return answers_of(forward(list(inputs)), preprocessor, inputs, margin)


def answers_of(
    raw: np.ndarray, preprocessor: Preprocessor, inputs: Sequence[np.ndarray], margin: float = 0.0
) -> np.ndarray:
    """`predict_outputs` of what a network gives for `inputs`, (N, ...)."""
    if preprocessor.task == "multilabel":
        return np.asarray((1 + np.tanh(raw.astype(np.float64) / 2)) / 2)  # the sigmoid, which never overflows so
    if preprocessor.classes is not None:
        shifted = np.exp(raw.astype(np.float64) - raw.max(axis=1, keepdims=True))
        return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
    if preprocessor.task == "counts":
        return inverse_transform(preprocessor, np.exp(np.minimum(raw.astype(np.float64), LARGEST_LOG)), inputs)
    if preprocessor.interval is None:
        return inverse_transform(preprocessor, raw, inputs)
    ends = np.sort(inverse_transform(preprocessor, raw, inputs), axis=1)  # quantiles that cross are put in order
    low, high = ends[:, 0] - margin, ends[:, 2] + margin
    return np.stack([np.minimum(low, ends[:, 1]), ends[:, 1], np.maximum(high, ends[:, 1])], axis=1)


def threshold_words(labels: Sequence[str], thresholds: Sequence[float], most: int = 3) -> str:
    """`news from 0.42, sport from 0.31, ... (8 in all)`; one number where all have the same."""
    if len(set(thresholds)) == 1:
        return f"each label from a probability of {thresholds[0]:.3g}"
    shown = [f"{name:.20} from {value:.3g}" for name, value in list(zip(labels, thresholds, strict=True))[:most]]
    return ", ".join(shown) + (f", ... ({len(labels)} in all)" if len(labels) > most else "")


def conformal_margin(output: np.ndarray, target: np.ndarray, share: float, weight: np.ndarray | None = None) -> float:
    """How far outwards the ends (N, 3) must move to hold `share` of the targets (N,) (Romano, Patterson & Candes 2019)."""
    outside = np.maximum(output[:, 0] - target, target - output[:, 2])
    order = np.argsort(outside, kind="stable")
    held = np.cumsum(np.ones(len(target)) if weight is None else weight[order].astype(np.float64))
    needed = share * (1 + 1 / len(target)) * held[-1]
    return float(outside[order[min(np.searchsorted(held, needed * (1 - 1e-9)), len(target) - 1)]])


def inverse_transform(preprocessor: Preprocessor, target: np.ndarray, inputs: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Regression targets as the data wrote them; class indices stay what they are.

    inputs: those of the same examples, for kinds of data whose examples have units of their own.
    """
    return (
        target if preprocessor.classes is not None else np.asarray(preprocessor.decode_for(target, inputs), np.float64)
    )


def scoring_of(config: RunConfig, preprocessor: Preprocessor) -> Scoring:
    """What the predictions of a run are scored by. Raises OptionError for a metric of another task."""
    task, classes = preprocessor.task, preprocessor.classes
    return Scoring(
        task, classes, config.settings.metric, config.decision, preprocessor.interval, tuple(config.thresholds)
    )
