"""How a network is judged: every epoch on validation data, at the end on the test data (floor 6).

One class for each thing a network does: it answers (`Answers`, here), writes (`writing.py`) or draws (`drawing.py`). The
loop and the session know none of them; they ask for validation values, which of two results is better, something to keep
of each epoch, and at the end for the test scores with what a report shows of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..data.problem import DataModule, Examples
from ..models.base import Model
from ..report.html import Markup
from ..report.network_figures import filters
from ..runs.run import Run
from ..runs.settings import Settings
from ..tensor import Tensor
from .compiled import EvaluationStep, Forward, means
from .metrics import Metrics, classification_metrics, regression_metrics


@dataclass
class EvaluationResult:
    """The test scores, those of the baselines, and what a report shows: fields of `ReportData`."""

    metrics: Metrics
    baselines: dict[str, Metrics]
    shown: dict[str, Any] = field(default_factory=dict)


class NonFiniteLoss(Exception):
    """A validation loss that is not finite, and a batch that has it; whoever trains can say which layer gave it."""

    def __init__(self, batch: list[Tensor]) -> None:
        super().__init__("a validation loss is not finite")
        self.batch = batch


class Evaluator:
    """What every kind of judging has in common. network: in evaluation mode, with the weights to judge when it is asked."""

    def __init__(self, run: Run, problem: DataModule, network: Model, settings: Settings) -> None:
        self.run = run
        self.problem = problem
        self.network: Any = network
        self.settings = settings
        self.judge = EvaluationStep(network, settings.eager)
        self.judged: Any = problem.validation.eval_dataset(network)

    def validate(self) -> dict[str, float]:
        """The means over the validation part; "loss" is among them. Raises BadLoss where it is not finite."""
        values = self.judge(self.judged)
        found = means(values)
        if not np.isfinite(found["loss"]):
            raise NonFiniteLoss(self.judged.gather(np.argsort(np.isfinite(values["loss"]), kind="stable")[:1]))
        return self.in_units(found)

    def in_units(self, values: dict[str, float]) -> dict[str, float]:
        """Means of training or validation with what a person reads beside the loss."""
        return values

    def better(self, a: Mapping[str, float], b: Mapping[str, float]) -> bool:
        """Whether validation values `a` beat `b`."""
        return a["loss"] < b["loss"]

    def keep(self, epoch: int) -> dict[str, Any]:
        """Something of this epoch for the report: what is added to its line of metrics.jsonl; files go into the run."""
        return {}

    def test(self) -> EvaluationResult:
        """Read the test part, for the first and only time, with the weights the network has now."""
        raise NotImplementedError(f"{type(self).__name__} does not define test()")

    def sections(self) -> list[Markup]:
        """What only the report shows, of the network as it was tested. By default, nothing."""
        return []


class PredictionEvaluator(Evaluator):
    """Of a network that answers: accuracy or RMSE beside the plain models of `baseline.py`."""

    def __init__(self, run: Run, problem: DataModule, network: Model, settings: Settings) -> None:
        super().__init__(run, problem, network, settings)
        self.forward = Forward(network, settings.eager)

    def in_units(self, values: dict[str, float]) -> dict[str, float]:
        """With the root of a regression's loss, as RMSE in the target's units."""
        if self.problem.task == "classification":
            return values
        zero, one = in_units(self.problem.preprocessor, np.array([0.0, 1.0]))
        return {**values, "rmse": float(values["loss"] ** 0.5 * (one - zero))}

    def better(self, a: Mapping[str, float], b: Mapping[str, float]) -> bool:
        if self.settings.monitor == "score" and "accuracy" in a and a["accuracy"] != b["accuracy"]:
            return a["accuracy"] > b["accuracy"]
        return super().better(a, b)

    def test(self) -> EvaluationResult:
        from .baselines import baselines  # scikit-learn takes a second to import

        problem, test = self.problem, self.problem.test
        output = answers(self.forward, problem.preprocessor, arrays_for(self.network, test))
        target, known = self._targets(test), problem.preprocessor
        others = baselines(problem.task, problem.train.inputs, self._targets(problem.train), test.inputs, target,
                           classes=known.classes, network=output, decode=known.decode)  # fmt: skip
        shown = {
            "output": output, "target": target, "classes": known.classes, "target_name": known.target_name,
            "describe": lambda i: problem.raw_example("test", i), "files": problem.names.get("test", ()), "sections": [part for part in [filters(self.network)] if part],
        }  # fmt: skip
        return EvaluationResult(score(known, output, test.target), others, shown)

    def _targets(self, examples: Examples) -> np.ndarray:
        return in_units(self.problem.preprocessor, examples.target)


# ---- a network's answers -------------------------------------------------------------------------------------------------


def arrays_for(network: Any, examples: Examples) -> list[np.ndarray]:
    """The arrays of `examples` that `network` reads, in its order."""
    return [examples.inputs[name] for name in network.order]


def answers(forward: Forward, preprocessor: Any, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """(N, K) probabilities in float64, or (N,) predictions in the target's units."""
    raw = forward(list(inputs))
    if preprocessor.classes is None:
        return in_units(preprocessor, raw)
    shifted = np.exp(raw.astype(np.float64) - raw.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def in_units(preprocessor: Any, target: np.ndarray) -> np.ndarray:
    """Regression targets as the data wrote them; class indices stay what they are."""
    return target if preprocessor.classes is not None else np.asarray(preprocessor.decode(target), np.float64)


def score(preprocessor: Any, output: np.ndarray, target: np.ndarray) -> Metrics:
    """The metrics of `output`, as `answers` gives it, against encoded targets."""
    if preprocessor.classes is None:
        return regression_metrics(output, in_units(preprocessor, target))
    return classification_metrics(output, target, preprocessor.classes)
