"""Linear models of the folds of a bagged network, fitted before its first step (floor 10).

Each network begins with a logistic or ridge regression of the rows that it learns from. How numbers are scaled, and how
strongly weights are pulled to zero, is chosen once for all folds, by the loss of the rows held out of each.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from ..creation import tensor
from ..data.problem import Examples
from ..models.bagged_mlp import BaggedMLP, LinearStart
from ..models.blocks.table_input import first_rows
from ..threads import one_thread

LOGISTIC_STRENGTHS = (0.03, 0.3, 3.0)  # C of scikit-learn's: larger pulls less
RIDGE_STRENGTHS = tuple(float(x) for x in np.logspace(-2, 4, 7))
MANY = 10_000  # rows from which one strength is enough, as all are alike
MOST_ROWS = 100_000
UNSEEN = -20.0  # the logit of a class that a fold's rows lack
MOST_STEPS = 300  # of the solver


@dataclass(frozen=True)
class Lines:
    """A linear model for each of M folds, weights (M, columns, K) and biases (M, K), and the loss of the rows held out."""

    weight: np.ndarray
    bias: np.ndarray
    loss: float


def fit_linear_start(network: BaggedMLP, train: Examples, judged: Examples) -> None:
    """Give `network.linear_start` the linear models of its folds, unless it has some, of the run that training begins with.

    train, judged: rows with their folds; a fold's model learns the train rows outside it and is judged on those inside.
    Tables without numbers or categories keep zeros.
    """
    line = network.linear_start
    if line is None or network.task not in ("classification", "regression") or network.levels:
        return
    if any(buffer.array.any() for buffer in (line.numbers, line.categories, line.bias)):
        return
    train, judged = _fewer(train), _fewer(judged)
    if network.class_weight is not None:
        own = network.class_weight.array[train.target]
        train = replace(train, weight=own if train.weight is None else own * train.weight)
    outputs = line.bias.shape[1]
    with one_thread():
        found = [
            (lines, np.array(choice, dtype=np.int64))
            for choice in line.choices
            if len(choice) + sum(line.cardinalities)
            for lines in fitted(
                design(line, train, choice), train, design(line, judged, choice), judged, network, outputs
            )
        ]
    if not found:
        return
    best, columns = min(found, key=lambda pair: pair[0].loss)
    weight, bias = (np.tile(array, (network.members, *[1] * (array.ndim - 1))) for array in (best.weight, best.bias))
    numbers = np.zeros(line.numbers.shape, np.float32)
    numbers[:, columns] = weight[:, : len(columns)]
    line.numbers.assign(tensor(numbers))
    line.categories.assign(tensor(weight[:, len(columns) :].reshape(line.categories.shape).astype(np.float32)))
    line.bias.assign(tensor(bias.astype(np.float32)))


def _fewer(examples: Examples) -> Examples:
    """Evenly spread examples; more of them add nothing to a model with so few weights."""
    if len(examples) <= MOST_ROWS:
        return examples
    return examples.take(np.linspace(0, len(examples) - 1, MOST_ROWS).astype(np.int64))


def design(line: LinearStart, examples: Examples, choice: Sequence[int]) -> np.ndarray:
    """The matrix (N, columns) of a linear model: the numbers at the places `choice`, then one-hot categories; float64."""
    rows = len(examples)
    numbers = [examples.inputs[name] for name in line.names]
    every = np.concatenate(numbers, axis=1).astype(np.float64) if numbers else np.zeros((rows, 0))
    hot = np.zeros((rows, sum(line.cardinalities)))
    if line.cardinalities:
        places = examples.inputs["categories"] + first_rows(line.cardinalities)
        hot[np.arange(rows)[:, None], places] = 1
    return np.concatenate([every[:, list(choice)], hot], axis=1)


def fitted(
    x: np.ndarray, train: Examples, x_judged: np.ndarray, judged: Examples, network: BaggedMLP, outputs: int
) -> Iterator[Lines]:
    """The linear models of the folds for each strength of the penalty. x, x_judged: (N, columns) of the examples."""
    assert train.fold is not None and judged.fold is not None
    task, folds = network.task, network.folds
    strengths = RIDGE_STRENGTHS if task == "regression" else LOGISTIC_STRENGTHS
    for strength in (1.0,) if len(train) >= MANY and task != "regression" else strengths:
        weight, bias = np.zeros((folds, x.shape[1], outputs)), np.zeros((folds, outputs))
        losses = []
        for m in range(folds):
            learned, held = train.fold != m, judged.fold == m
            rows = None if train.weight is None else train.weight[learned]
            one = _ridge if task == "regression" else _logistic
            weight[m], bias[m] = one(x[learned], train.target[learned], rows, strength, outputs)
            losses.append(_losses(x_judged[held] @ weight[m] + bias[m], judged.target[held], task))
        yield Lines(weight, bias, float(np.mean(np.concatenate(losses))))


def _ridge(
    design: np.ndarray, target: np.ndarray, rows: np.ndarray | None, strength: float, outputs: int
) -> tuple[np.ndarray, np.ndarray]:
    model = Ridge(alpha=strength).fit(design, target.astype(np.float64), sample_weight=rows)
    return model.coef_[:, None], np.array([float(model.intercept_)])


def _logistic(
    design: np.ndarray, target: np.ndarray, rows: np.ndarray | None, strength: float, outputs: int
) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = np.zeros((design.shape[1], outputs)), np.full(outputs, UNSEEN)
    seen = np.unique(target)
    if len(seen) == 1:
        bias[seen] = 0.0
        return weight, bias
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=MOST_STEPS).fit(design, target, sample_weight=rows)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(seen) == 2:  # scikit-learn has one line for two classes
        coefficients, intercepts = (
            np.stack([-coefficients[0], coefficients[0]]) / 2,
            np.stack([-intercepts[0], intercepts[0]]) / 2,
        )
    weight[:, seen], bias[seen] = coefficients.T, intercepts
    return weight, bias


def _losses(output: np.ndarray, target: np.ndarray, task: str) -> np.ndarray:
    """Squared errors, or negative log-likelihoods, (N,)."""
    if task == "regression":
        return np.asarray((output[:, 0] - target) ** 2)
    top = output.max(axis=1)
    total = np.log(np.exp(output - top[:, None]).sum(axis=1)) + top
    return np.asarray(total - output[np.arange(len(target)), target])
