"""Baselines: simple models fitted to the same training examples as a network (floor 7).

The majority class or the mean, logistic or ridge regression, and for tables boosted trees; for series, those of
`series_baselines.py`.
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
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge, RidgeCV
from sklearn.preprocessing import OneHotEncoder

from ..data.problem import Examples, Inputs
from ..errors import OptionError
from ..threads import one_openmp_thread
from .comparison import paired_difference
from .metrics import Metrics, classification_metrics, regression_metrics
from .series_baselines import series_baselines
from .text_baseline import Texts, with_tfidf

DENSE_COLUMNS = 1000  # more one-hot columns than this stay sparse
BLOCK_VALUES = 20_000_000  # numbers of the rows that are answered for at a time
MOST_VALUES = 200_000_000  # numbers of a dense matrix, 800 MB; of more training rows, evenly spread ones are used
MOST_ROWS = 200_000  # likewise
RIDGE_STRENGTHS = np.logspace(-2, 4, 7)
TREE_VALUES = 500_000  # numbers of the rows that boosted trees learn from
TREES = 100  # of a regression or of two classes; so many in all are shared by more classes
FEWEST_TREES = 10  # for each class
MOST_CODES = 254  # of a category that trees may take apart; one with more is read as a number

_one_at_a_time = threading.Lock()  # scikit-learn sets Python's filters of warnings, which are one for all threads

TABLE = {"numbers", "categories"}  # inputs that only tables have
TFIDF_NAMES = {name: f"tfidf_{name}" for name in ("logistic_regression", "ridge_regression")}  # where there is text
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
    texts: Sequence[Texts] | None = None,
) -> dict[str, Metrics]:
    """Metrics of the baselines on the test examples, by name; everything is fitted to the training examples alone.

    task: "classification" gives `majority` and `logistic_regression`, "regression" gives `mean` and `ridge_regression`;
    tables add `boosted_trees`; series give those of `series_baselines`.
    inputs: what the preprocessor encoded: any of `image` (N, H, W) or uint8 (N, C, H, W), `numbers` (N, F), `categories` (N, C)
    int64, or `series` (N, T, F) whose feature 0 is the target's own past; `decode` brings that into the target's units.
    texts: the raw columns of text of the training and test rows; the linear models read their TF-IDF in place of what the
    network reads, and are called `tfidf_logistic_regression` and `tfidf_ridge_regression`.
    target: (N,) int64 class indices, with `classes` naming all K; or (N,) float in the target's own units.
    network: the network's (N, K) probabilities or (N,) predictions for the test examples; when given, each baseline's
    metrics also hold `gain`, (value, low, high): how much better the network is on these same examples.
    """
    if task not in ("classification", "regression"):
        raise OptionError(f"baseline: task {task!r}; expected 'classification' or 'regression'.")
    test = Examples(dict(test_inputs), np.asarray(test_target))
    if task == "classification" and classes is None:
        classes = [str(c) for c in range(int(max(np.max(train_target), np.max(test_target))) + 1)]
    (outputs,) = baseline_outputs(task, train_inputs, train_target, [test], classes=classes, decode=decode, texts=texts)
    return _scored(task, outputs, test_target, network)


def baseline_outputs(
    task: str,
    train_inputs: Mapping[str, np.ndarray],
    train_target: np.ndarray,
    asked: Sequence[Examples],
    *,
    classes: Sequence[str] | None = None,
    decode: Callable[[np.ndarray], np.ndarray] | None = None,
    weight: np.ndarray | None = None,
    texts: Sequence[Texts] | None = None,
) -> list[dict[str, np.ndarray]]:
    """What each baseline, fitted once, answers for each of the parts `asked`: by name, as a network's outputs are.

    task: besides those of `baselines`, "multilabel" gives `shares` and `one_vs_rest`, "counts" `mean` and `poisson_regression`.
    weight: (N,) of the training rows. texts: as of `baselines`, of the training rows and of each part.
    """
    train_target = np.asarray(train_target)
    train_inputs = without_straight(train_inputs)
    if "series" in train_inputs:
        train = train_inputs["series"]
        return [series_baselines(train, train_target, part.inputs["series"], decode or np.asarray) for part in asked]
    others: list[Inputs] = [without_straight(part.inputs) for part in asked]
    if texts is not None:
        train_inputs, *others = with_tfidf([train_inputs, *others], texts)
    widest, most = _widest(train_inputs), linear_rows(train_inputs)
    if len(train_target) > most:
        rows = np.linspace(0, len(train_target) - 1, most).astype(np.int64)
        train_inputs = {name: array[rows] for name, array in train_inputs.items()}
        train_target, weight = train_target[rows], None if weight is None else weight[rows]
    with _one_at_a_time:
        design = Design(train_inputs)
        matrix = design(train_inputs)
        if task == "classification":
            models = _classifiers(matrix, train_target, len(classes or ()), weight)
        elif task == "multilabel":
            models = _one_vs_rest(matrix, train_target, weight)
        elif task == "counts":
            models = _counts(matrix, train_target, weight)
        else:
            models = _regressions(matrix, train_target, weight)
        block = max(1, BLOCK_VALUES // widest)  # pictures to test on may be more than memory holds
        answers = [
            _answers(models, design, inputs, len(part), block) for inputs, part in zip(others, asked, strict=True)
        ]
        if texts is not None:
            answers = [{TFIDF_NAMES.get(name, name): x for name, x in own.items()} for own in answers]
        if train_inputs.keys() <= TABLE and len(models) > 1 and task in ("classification", "regression"):
            k = len(classes or ()) if task == "classification" else 1
            trees = _boosted_trees(task, train_inputs, train_target, k, weight)
            for part, answer in zip(asked, answers, strict=True):
                answer["boosted_trees"] = trees(without_straight(part.inputs))
        return answers


def without_straight(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs, each column once."""
    return {name: array for name, array in inputs.items() if name != "straight"}


def linear_rows(inputs: Mapping[str, Any]) -> int:
    """How many of the training rows linear models learn from; more of them add nothing to a model with so few weights."""
    return min(MOST_VALUES // _widest(inputs), MOST_ROWS)


def _widest(inputs: Mapping[str, Any]) -> int:
    dense = [array for array in inputs.values() if not sparse.issparse(array)]
    return max([1, *(int(np.prod(array.shape[1:])) for array in dense)])


def _answers(models: dict[str, Model], design: Design, inputs: Inputs, count: int, block: int) -> dict[str, np.ndarray]:
    parts = []
    for start in range(0, count, block):
        matrix = design({name: array[start : start + block] for name, array in inputs.items()})
        parts.append({name: model(matrix) for name, model in models.items()})
    return {name: np.concatenate([answers[name] for answers in parts]) for name in models}


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
    """Encoded inputs as a matrix (N, columns): pixels and numbers as they are, categories one-hot, text as TF-IDF.

    Sparse (CSR) when categories and words make more than a thousand columns. A category that training never saw is all zeros.
    """

    def __init__(self, train: Mapping[str, np.ndarray]) -> None:
        self.encoder = None
        if "categories" in train and train["categories"].shape[1]:
            self.encoder = OneHotEncoder(handle_unknown="ignore", dtype=np.float32).fit(train["categories"])

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Matrix:
        parts: list[Matrix] = [] if self.encoder is None else [self.encoder.transform(inputs["categories"])]
        if "tfidf" in inputs:
            parts.append(inputs["tfidf"])
        for name in sorted(inputs.keys() - {"categories", "tfidf"}):
            values = np.asarray(inputs[name], dtype=np.float32).reshape(len(inputs[name]), -1)  # (N, columns)
            if inputs[name].dtype == np.uint8:
                # On a scale near 1, as all else is: it is what the penalty on weights and the solver are made for.
                values /= 64
                values -= 2
            parts.append(values)
        if not parts:
            raise OptionError(
                "baseline: no inputs; expected at least one of image, numbers, categories, text; give one"
            )
        if not any(map(sparse.issparse, parts)):
            return np.hstack(parts) if len(parts) > 1 else parts[0]
        whole = sparse.hstack(parts, format="csr")
        return whole.toarray() if whole.shape[1] <= DENSE_COLUMNS else whole


def _classifiers(train: Matrix, target: np.ndarray, k: int, weight: np.ndarray | None = None) -> dict[str, Model]:
    """Give (N, K) each. The majority answers with the training shares, so that its log loss means something."""
    shares = np.bincount(target, weights=weight, minlength=k) / (len(target) if weight is None else weight.sum())
    models: dict[str, Model] = {"majority": lambda rows: np.tile(shares, (rows.shape[0], 1))}
    seen = np.unique(target)
    if train.shape[1] and len(seen) > 1:
        with warnings.catch_warnings():
            # Stopped at the limit it is still a baseline, and its score is measured, not assumed.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = LogisticRegression(max_iter=100).fit(train, target, sample_weight=weight)

        def logistic_regression(rows: Matrix) -> np.ndarray:
            probabilities = np.zeros((rows.shape[0], k))
            probabilities[:, seen] = fitted.predict_proba(rows)
            return probabilities

        models["logistic_regression"] = logistic_regression
    return models


def _one_vs_rest(train: Matrix, target: np.ndarray, weight: np.ndarray | None) -> dict[str, Model]:
    """Give (N, L) each: the share of each label in training, and a logistic regression for each label against the rest."""
    labels = [
        _classifiers(train, target[:, i].astype(np.int64), 2, weight) for i in range(target.shape[1])
    ]  # where a label is in every row or in none, its share is the answer
    answer = lambda name: lambda rows: np.stack([m.get(name, m["majority"])(rows)[:, 1] for m in labels], axis=1)
    models = {"shares": answer("majority")}
    if any("logistic_regression" in m for m in labels):
        models["one_vs_rest"] = answer("logistic_regression")
    return models


def _regressions(train: Matrix, target: np.ndarray, weight: np.ndarray | None = None) -> dict[str, Model]:
    """Give (N,) each. The ridge's strength is chosen by leave-one-out error on the training rows."""
    target = np.asarray(target, dtype=np.float64)
    mean = float(np.average(target, weights=weight))
    models: dict[str, Model] = {"mean": lambda rows: np.full(rows.shape[0], mean)}
    if train.shape[1]:
        ridge = Ridge(alpha=1.0) if sparse.issparse(train) or len(target) < 3 else RidgeCV(alphas=RIDGE_STRENGTHS)
        # float64: normal equations of strongly related columns lose all digits of float32.
        ridge.fit(train.astype(np.float64), target, sample_weight=weight)
        models["ridge_regression"] = lambda rows: ridge.predict(rows.astype(np.float64))
    return models


def _counts(train: Matrix, target: np.ndarray, weight: np.ndarray | None) -> dict[str, Model]:
    """Give (N,) each: the mean, and a Poisson regression (Nelder & Wedderburn 1972)."""
    target = np.asarray(target, dtype=np.float64)
    mean = float(np.average(target, weights=weight))
    models: dict[str, Model] = {"mean": lambda rows: np.full(rows.shape[0], mean)}
    if train.shape[1] and target.any():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            poisson = PoissonRegressor(alpha=1e-3, max_iter=300)
            poisson.fit(train.astype(np.float64), target, sample_weight=weight)
        models["poisson_regression"] = lambda rows: poisson.predict(rows.astype(np.float64))
    return models


def tree_rows(inputs: Mapping[str, np.ndarray]) -> int:
    """How many of the training rows boosted trees learn from."""
    count = len(next(iter(inputs.values())))
    columns = sum(array.shape[1] for array in inputs.values())
    return min(count, max(1000, TREE_VALUES // max(columns, 1)))


def _boosted_trees(
    task: str, train: Mapping[str, np.ndarray], target: np.ndarray, k: int, weight: np.ndarray | None
) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
    """From inputs to (N, K) probabilities or (N,) predictions of gradient boosting over histograms (Ke et al. 2017).

    Of many rows it learns from evenly spread ones, see `tree_rows`.
    """
    rows = np.linspace(0, len(target) - 1, tree_rows(train)).astype(np.int64)
    known = {name: array[rows] for name, array in train.items()}
    categories = train.get("categories", np.zeros((len(target), 0), np.int64))
    numbers = sum(array.shape[1] for name, array in train.items() if name != "categories")
    few = [numbers + c for c in range(categories.shape[1]) if categories[:, c].max() <= MOST_CODES]
    model = HistGradientBoostingClassifier if task == "classification" else HistGradientBoostingRegressor
    trees = max(FEWEST_TREES, min(TREES, 2 * TREES // k))
    fitted = model(max_iter=trees, early_stopping=False, categorical_features=few or None, random_state=0)
    with one_openmp_thread():
        fitted.fit(_columns(known), target[rows], None if weight is None else weight[rows])

    def answer(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        with one_openmp_thread():
            if task == "regression":
                return np.asarray(fitted.predict(_columns(inputs)), np.float64)
            probabilities = np.zeros((len(next(iter(inputs.values()))), k))
            probabilities[:, fitted.classes_] = fitted.predict_proba(_columns(inputs))
            return probabilities

    return answer


def _columns(inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Numbers, then categories as their codes: (N, columns)."""
    names = sorted(inputs.keys(), key=lambda name: name == "categories")
    return np.concatenate([inputs[name].reshape(len(inputs[name]), -1).astype(np.float32) for name in names], axis=1)
