"""Linear models of the folds of a bagged network, fitted before its first step (floor 10).

Each network begins with a generalized linear model of the rows that it learns from: a logistic regression of classes or of each
label, a Poisson regression of counts, ridge regression of numbers; quantiles begin as the ridge's line, moved by its errors. How
numbers are scaled, and how strongly weights are pulled to zero, is chosen once for all folds, by the loss of the rows held out of
each.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Lasso, LogisticRegression, PoissonRegressor, Ridge

from ..creation import tensor
from ..data.problem import Examples
from ..models.bagged_mlp import MOST_LOG_RATE, BaggedMLP, LinearStart
from ..models.blocks.table_input import first_rows
from ..threads import one_thread
from .bagging import natural, row_losses, row_weights

LOGISTIC_STRENGTHS = (0.03, 0.3, 3.0)  # C of scikit-learn's: larger pulls less
RIDGE_STRENGTHS = tuple(float(x) for x in np.logspace(-2, 4, 7))  # against the sum over rows of the loss
SPARSE_STRENGTHS = (0.03, 0.1, 0.3)  # C, where some weights are pulled all the way
LASSO_STRENGTHS = (0.05, 0.1, 0.2)  # against half the mean squared error
MANY = 10_000  # rows from which one strength is enough, as all are alike
MANY_LABELS = 10  # likewise: there is a model for each
MOST_ROWS = 100_000
UNSEEN = -20.0  # the logit of a class that a fold's rows lack, the logarithm of a rate where they have no count
MOST_STEPS = 300  # of the solver
NEWTON_COLUMNS = 300  # up to which a step solves for all of them at once
MARGIN = 10.0  # times the largest rate that training had, and the least that it can tell

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, float, BaggedMLP], tuple[np.ndarray, np.ndarray]]


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
    if line is None or any(buffer.array.any() for buffer in (line.numbers, line.categories, line.bias)):
        return
    train, judged = _fewer(train), _fewer(judged)
    with one_thread():
        found = [
            (lines, np.array(choice, dtype=np.int64))
            for choice in line.choices
            if len(choice) + sum(line.cardinalities)
            for lines in fitted(network, design(line, train, choice), train, design(line, judged, choice), judged)
            if math.isfinite(lines.loss)
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


def bound_rates(network: BaggedMLP, train: Examples) -> None:
    """Set `network.log_rates`, unless they are those of the run that training begins with.

    The largest rate is ten times the largest count of the training rows; the least a tenth of one count in all of them.
    """
    if network.log_rates is None or network.log_rates.array[1] < MOST_LOG_RATE:
        return
    seen = train.target[train.target > 0]
    if len(seen):
        ends = math.log(seen.min() / len(train) / MARGIN), math.log(seen.max() * MARGIN)
        network.log_rates.assign(tensor(np.array(ends, np.float32)))


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
    network: BaggedMLP, x: np.ndarray, train: Examples, x_judged: np.ndarray, judged: Examples
) -> Iterator[Lines]:
    """The linear models of the folds for each strength of the penalty. x, x_judged: (N, columns) of the examples."""
    assert train.fold is not None and judged.fold is not None and network.linear_start is not None
    folds, outputs = network.folds, network.linear_start.bias.shape[1]
    counted, counted_judged = row_weights(network, train), row_weights(network, judged)
    for fit, strength in _fits(network, len(x), x.shape[1], outputs):
        weight, bias = np.zeros((folds, x.shape[1], outputs)), np.zeros((folds, outputs))
        loss = 0.0
        for m in range(folds):
            learned, held = (train.fold != m) & (counted > 0), judged.fold == m
            if learned.any():
                weight[m], bias[m] = fit(x[learned], train.target[learned], counted[learned], strength, network)
            answer = natural(network, x_judged[held] @ weight[m] + bias[m])
            loss += float(row_losses(network, answer, judged.target[held]) @ counted_judged[held])
        yield Lines(weight, bias, loss)


def _fits(network: BaggedMLP, rows: int, columns: int, outputs: int) -> list[tuple[Fit, float]]:
    """How linear models are fitted, with each strength of the penalty that is tried.

    Where columns outnumber rows, and two classes or numbers are asked for, some are tried that read few of them (the lasso,
    Tibshirani 1996): a penalty on squares leaves a little weight on each, which drowns those that matter.
    """
    one_is_enough, is_wide = rows >= MANY, columns > rows
    if network.task == "regression":
        fit = _quantiles if network.levels else _ridge
        sparse: list[tuple[Fit, float]] = [] if network.levels else [(_lasso, s) for s in LASSO_STRENGTHS]
        return [(fit, s) for s in RIDGE_STRENGTHS] + (sparse if is_wide else [])
    if network.task == "counts":
        return [(_poisson, s) for s in ((1.0,) if one_is_enough else RIDGE_STRENGTHS)]
    if network.task == "multilabel":
        return [(_labels, s) for s in ((1.0,) if one_is_enough or outputs > MANY_LABELS else LOGISTIC_STRENGTHS)]
    sparse = [(_sparse_logistic, s) for s in SPARSE_STRENGTHS] if is_wide and outputs == 2 else []
    return [(_logistic, s) for s in ((1.0,) if one_is_enough else LOGISTIC_STRENGTHS)] + sparse


# Each takes the matrix (N, columns), the target, the weights of rows (N,), a strength and the network; it gives weights
# (columns, K) and biases (K,).


def _ridge(
    x: np.ndarray, target: np.ndarray, counted: np.ndarray, strength: float, network: BaggedMLP
) -> tuple[np.ndarray, np.ndarray]:
    model = Ridge(alpha=strength).fit(x, target.astype(np.float64), sample_weight=counted)
    return model.coef_[:, None], np.array([float(model.intercept_)])


def _lasso(
    x: np.ndarray, target: np.ndarray, counted: np.ndarray, strength: float, network: BaggedMLP
) -> tuple[np.ndarray, np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = Lasso(alpha=strength, max_iter=MOST_STEPS).fit(x, target.astype(np.float64), sample_weight=counted)
    return model.coef_[:, None], np.array([float(model.intercept_)])


def _quantiles(
    x: np.ndarray, target: np.ndarray, counted: np.ndarray, strength: float, network: BaggedMLP
) -> tuple[np.ndarray, np.ndarray]:
    """The ridge's line, moved by the quantiles of its errors."""
    weight, bias = _ridge(x, target, counted, strength, network)
    errors = target - (x @ weight + bias)[:, 0]
    order = np.argsort(errors, kind="stable")
    share = np.cumsum(counted[order]) / counted.sum()
    places = np.searchsorted(share, network.levels).clip(max=len(errors) - 1)
    return np.repeat(weight, len(network.levels), axis=1), bias + errors[order[places]]


def _poisson(
    x: np.ndarray, target: np.ndarray, counted: np.ndarray, strength: float, network: BaggedMLP
) -> tuple[np.ndarray, np.ndarray]:
    if not target.any():
        return np.zeros((x.shape[1], 1)), np.array([UNSEEN])
    solver = "newton-cholesky" if x.shape[1] <= NEWTON_COLUMNS else "lbfgs"
    model = PoissonRegressor(alpha=strength / counted.sum(), solver=solver, max_iter=MOST_STEPS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps too long and of solvers that take another's place
        model.fit(x, target.astype(np.float64), sample_weight=counted)
    return model.coef_[:, None], np.array([float(model.intercept_)])


def _labels(
    x: np.ndarray, target: np.ndarray, counted: np.ndarray, strength: float, network: BaggedMLP
) -> tuple[np.ndarray, np.ndarray]:
    """A logistic regression of each label; of its two classes' logits the difference counts."""
    weight, bias = np.zeros((x.shape[1], target.shape[1])), np.zeros(target.shape[1])
    for i, own in enumerate(target.T.astype(np.int64)):
        both, biases = _two_or_more(x, own, counted, strength, 2)
        weight[:, i], bias[i] = both[:, 1] - both[:, 0], biases[1] - biases[0]
    return weight, bias


def _logistic(
    x: np.ndarray, target: np.ndarray, counted: np.ndarray, strength: float, network: BaggedMLP
) -> tuple[np.ndarray, np.ndarray]:
    assert network.linear_start is not None
    return _two_or_more(x, target, counted, strength, network.linear_start.bias.shape[1])


def _sparse_logistic(
    x: np.ndarray, target: np.ndarray, counted: np.ndarray, strength: float, network: BaggedMLP
) -> tuple[np.ndarray, np.ndarray]:
    return _two_or_more(x, target, counted, strength, 2, sparse=True)


def _two_or_more(
    x: np.ndarray, target: np.ndarray, counted: np.ndarray, strength: float, classes: int, sparse: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = np.zeros((x.shape[1], classes)), np.full(classes, UNSEEN)
    seen = np.unique(target)
    if len(seen) == 1:
        bias[seen] = 0.0
        return weight, bias
    given = {"penalty": "l1", "l1_ratio": 1.0, "solver": "liblinear", "random_state": 0, "intercept_scaling": 10.0}
    model = LogisticRegression(C=strength, max_iter=MOST_STEPS, **(given if sparse else {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of steps that end early, and of the penalty's two names across versions
        model.fit(x, target, sample_weight=counted)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(seen) == 2:  # scikit-learn has one line for two classes
        coefficients, intercepts = (
            np.stack([-coefficients[0], coefficients[0]]) / 2,
            np.stack([-intercepts[0], intercepts[0]]) / 2,
        )
    weight[:, seen], bias[seen] = coefficients.T, intercepts
    return weight, bias
