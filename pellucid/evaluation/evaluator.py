"""Evaluators: score a network on validation data every epoch, and on the test data at the end (floor 7).

One class for each kind of network: `PredictionEvaluator` here, `LanguageEvaluator` in `language.py`, `GenerationEvaluator` in
`generation.py`. The loop and the session ask any of them for validation values, which of two results is better, what to keep
of an epoch, the test scores, and the figures of a report. All of it is data; `report/` shows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.loader import GatheredDataset
from ..data.problem import DataModule, Examples, Preprocessor, RawExample
from ..inspect.attention import AttentionFigure
from ..inspect.filters import first_filters
from ..models.base import Model
from ..runs.records import ForecastInterval
from ..runs.run import Run
from ..runs.settings import Settings
from ..tensor import Tensor
from .compiled import EvaluationStep, Forward, means
from .forecasts import ForecastFigure
from .metrics import Metrics, classification_metrics, regression_metrics


@dataclass(frozen=True)
class TestPredictions:
    """What a network predicts for the test examples, and what they are.

    output: (N, K) probabilities or (N,) predictions.      target: (N,) class indices, or numbers in the target's own units.
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

    def test(self) -> EvaluationResult:
        """Score the network on the test part, with the weights it has now."""
        raise NotImplementedError(f"{type(self).__name__} does not define test()")

    def figures(self) -> Figures:
        """What a report shows of the network beside its scores. By default, nothing."""
        return Figures()


class PredictionEvaluator(Evaluator):
    """Of a classifier or a regression: accuracy or RMSE, beside the models of `baselines.py`."""

    def __init__(self, run: Run, problem: DataModule, network: Model, settings: Settings) -> None:
        super().__init__(run, problem, network, settings)
        self.forward = Forward(network, settings.eager)

    def inverse_transform(self, values: dict[str, float]) -> dict[str, float]:
        """Add the root of a regression's loss, as RMSE in the target's units."""
        if self.problem.task == "classification":
            return values
        zero, one = inverse_transform(self.problem.preprocessor, np.array([0.0, 1.0]))
        return {**values, "rmse": float(values["loss"] ** 0.5 * (one - zero))}

    def is_better(self, a: Mapping[str, float], b: Mapping[str, float]) -> bool:
        if self.settings.monitor == "score" and "accuracy" in a and a["accuracy"] != b["accuracy"]:
            return a["accuracy"] > b["accuracy"]
        return super().is_better(a, b)

    def test(self) -> EvaluationResult:
        from .baselines import baselines  # scikit-learn takes a second to import

        problem, preprocessor = self.problem, self.problem.preprocessor
        train, test = problem.examples("train"), problem.examples("test")
        output = predict_outputs(self.forward, preprocessor, arrays_for(self.network, test))
        target, classes = self._targets(test), preprocessor.classes
        others = baselines(problem.task, train.inputs, self._targets(train), test.inputs, target,
                           classes=classes, network=output, decode=preprocessor.decode)  # fmt: skip
        predictions = TestPredictions(output, target, classes, preprocessor.target_name,
                                      lambda i: problem.raw_example("test", i), problem.names.get("test", ()))  # fmt: skip
        return EvaluationResult(
            score(preprocessor, output, test.target, list(test.inputs.values())), others, predictions
        )

    def _targets(self, examples: Examples) -> np.ndarray:
        return inverse_transform(self.problem.preprocessor, examples.target, list(examples.inputs.values()))

    def figures(self) -> Figures:
        """The filters of the first convolution."""
        return Figures(filters=first_filters(self.network))


# ---- predictions ---------------------------------------------------------------------------------------------------------


def arrays_for(network: Model, examples: Examples) -> list[np.ndarray]:
    """The arrays of `examples` that `network` reads, in its order."""
    return [examples.inputs[name] for name in network.input_names]


def predict_outputs(forward: Forward, preprocessor: Preprocessor, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """(N, K) probabilities in float64, or (N,) predictions in the target's units."""
    raw = forward(list(inputs))
    if preprocessor.classes is None:
        return inverse_transform(preprocessor, raw, inputs)
    shifted = np.exp(raw.astype(np.float64) - raw.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def inverse_transform(preprocessor: Preprocessor, target: np.ndarray, inputs: Sequence[np.ndarray] = ()) -> np.ndarray:
    """Regression targets as the data wrote them; class indices stay what they are.

    inputs: those of the same examples, for kinds of data whose examples have units of their own.
    """
    return (
        target if preprocessor.classes is not None else np.asarray(preprocessor.decode_for(target, inputs), np.float64)
    )


def score(
    preprocessor: Preprocessor, output: np.ndarray, target: np.ndarray, inputs: Sequence[np.ndarray] = ()
) -> Metrics:
    """Metrics of predictions; `target` as it is encoded, `inputs` as in `inverse_transform`."""
    if preprocessor.classes is None:
        return regression_metrics(output, inverse_transform(preprocessor, target, inputs))
    return classification_metrics(output, target, preprocessor.classes)
