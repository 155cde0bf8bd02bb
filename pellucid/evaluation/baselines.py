"""Baselines: simple models fitted to the same training examples as a network (floor 7).

The majority class or the mean, and logistic or ridge regression; for series, those of `series_baselines.py`.
Scikit-learn is imported at the top, which is slow: import this module only where baselines are fitted. It reads arrays,
never networks; `metrics.py` scores what it gives, `comparison.py` compares.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge, RidgeCV
from sklearn.preprocessing import OneHotEncoder

from ..errors import OptionError
from .comparison import paired_difference
from .metrics import Metrics, classification_metrics, regression_metrics
from .series_baselines import series_baselines

DENSE_COLUMNS = 1000  # more one-hot columns than this stay sparse
BLOCK_VALUES = 20_000_000  # numbers of the rows that are answered for at a time
MOST_VALUES = 200_000_000  # numbers of a dense matrix, 800 MB; of more training rows, evenly spread ones are used
RIDGE_STRENGTHS = np.logspace(-2, 4, 7)

_one_at_a_time = threading.Lock()  # scikit-learn sets Python's filters of warnings, which are one for all threads

Matrix = Any  # (N, columns), an array, or sparse where it is wide
Model = Callable[[Matrix], np.ndarray]  # fitted: from a matrix of N rows to what it says of each


def baselines(
    task: str,
    train_inputs: Mapping[str, np.ndarray],
    train_target: np.ndarray,
    test_inputs: Mapping[str, np.ndarray],
    test_target: np.ndarray,
    *,
    classes: Sequence[str] | None = None,
    network: np.ndarray | None = None,
    decode: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, Metrics]:
    """Metrics of the baselines on the test examples, by name; everything is fitted to the training examples alone.

    task: "classification" gives `majority` and `logistic_regression`, "regression" gives `mean` and `ridge_regression`, or
    for series those of `series_baselines`.
    inputs: what the preprocessor encoded: any of `image` (N, H, W) or uint8 (N, C, H, W), `numbers` (N, F), `categories` (N, C)
    int64, or `series` (N, T, F) whose feature 0 is the target's own past; `decode` brings that into the target's units.
    target: (N,) int64 class indices, with `classes` naming all K; or (N,) float in the target's own units.
    network: the network's (N, K) probabilities or (N,) predictions for the test examples; when given, each baseline's
    metrics also hold `gain`, (value, low, high): how much better the network is on these same examples.
    """
    if task not in ("classification", "regression"):
        raise OptionError(f"baseline: task {task!r}; expected 'classification' or 'regression'.")
    train_target = np.asarray(train_target)
    if "series" in train_inputs:
        outputs = series_baselines(train_inputs["series"], train_target, test_inputs["series"], decode or np.asarray)
        return _scored(task, outputs, test_target, network)
    widest = max([1, *(int(np.prod(array.shape[1:])) for array in train_inputs.values())])
    most = MOST_VALUES // widest
    if len(train_target) > most:
        rows = np.linspace(0, len(train_target) - 1, most).astype(np.int64)
        train_inputs = {name: array[rows] for name, array in train_inputs.items()}
        train_target = train_target[rows]
    with _one_at_a_time:
        design = Design(train_inputs)
        if task == "classification":
            k = len(classes) if classes is not None else int(max(train_target.max(), np.max(test_target))) + 1
            models = _classifiers(design(train_inputs), train_target, k)
        else:
            models = _regressions(design(train_inputs), train_target)
        block = max(1, BLOCK_VALUES // widest)  # pictures to test on may be more than memory holds
        parts = []
        for start in range(0, len(test_target), block):
            matrix = design({name: array[start : start + block] for name, array in test_inputs.items()})
            parts.append({name: model(matrix) for name, model in models.items()})
        outputs = {name: np.concatenate([part[name] for part in parts]) for name in models}
    return _scored(task, outputs, test_target, network)


def _scored(
    task: str, outputs: dict[str, np.ndarray], target: np.ndarray, network: np.ndarray | None
) -> dict[str, Metrics]:
    result = {}
    for name, output in outputs.items():
        score = classification_metrics if task == "classification" else regression_metrics
        metrics = score(output, target)
        gain = None if network is None else paired_difference(task, network, output, target)
        result[name] = replace(metrics, gain=gain)
    return result


class Design:
    """Encoded inputs as a matrix (N, columns): pixels and numbers as they are, categories one-hot.

    Sparse (CSR) when the categories make more than a thousand columns. A category that training never saw is all zeros.
    """

    def __init__(self, train: Mapping[str, np.ndarray]) -> None:
        self.encoder = None
        if "categories" in train and train["categories"].shape[1]:
            self.encoder = OneHotEncoder(handle_unknown="ignore", dtype=np.float32).fit(train["categories"])

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Matrix:
        parts: list[Matrix] = [] if self.encoder is None else [self.encoder.transform(inputs["categories"])]
        for name in sorted(inputs.keys() - {"categories"}):
            values = np.asarray(inputs[name], dtype=np.float32).reshape(len(inputs[name]), -1)  # (N, columns)
            if inputs[name].dtype == np.uint8:
                # On a scale near 1, as all else is: it is what the penalty on weights and the solver are made for.
                values /= 64
                values -= 2
            parts.append(values)
        if not parts:
            raise OptionError("baseline: no inputs; expected at least one of image, numbers, categories; give one")
        if self.encoder is None:
            return np.hstack(parts) if len(parts) > 1 else parts[0]
        whole = sparse.hstack(parts, format="csr")
        return whole.toarray() if whole.shape[1] <= DENSE_COLUMNS else whole


def _classifiers(train: Matrix, target: np.ndarray, k: int) -> dict[str, Model]:
    """Give (N, K) each. The majority answers with the training shares, so that its log loss means something."""
    shares = np.bincount(target, minlength=k) / len(target)
    models: dict[str, Model] = {"majority": lambda rows: np.tile(shares, (rows.shape[0], 1))}
    seen = np.unique(target)
    if train.shape[1] and len(seen) > 1:
        with warnings.catch_warnings():
            # Stopped at the limit it is still a baseline, and its score is measured, not assumed.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = LogisticRegression(max_iter=100).fit(train, target)

        def logistic_regression(rows: Matrix) -> np.ndarray:
            probabilities = np.zeros((rows.shape[0], k))
            probabilities[:, seen] = fitted.predict_proba(rows)
            return probabilities

        models["logistic_regression"] = logistic_regression
    return models


def _regressions(train: Matrix, target: np.ndarray) -> dict[str, Model]:
    """Give (N,) each. The ridge's strength is chosen by leave-one-out error on the training rows."""
    target = np.asarray(target, dtype=np.float64)
    models: dict[str, Model] = {"mean": lambda rows: np.full(rows.shape[0], target.mean())}
    if train.shape[1]:
        ridge = Ridge(alpha=1.0) if sparse.issparse(train) or len(target) < 3 else RidgeCV(alphas=RIDGE_STRENGTHS)
        # float64: normal equations of strongly related columns lose all digits of float32.
        ridge.fit(train.astype(np.float64), target)
        models["ridge_regression"] = lambda rows: ridge.predict(rows.astype(np.float64))
    return models
