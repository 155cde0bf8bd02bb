"""Metrics: scores of predictions with their 95% intervals (floor 7).

They are computed from arrays with NumPy alone. Scores have plain names: `accuracy`, `log_loss`, ... or `rmse`, `mae`, `r2`.
A score that the data cannot give (an ROC area with one class present, r2 of a constant target) is None. A score without a
usable interval is missing from `intervals`. `comparison.py` compares with baselines, `formatting.py` writes scores for people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..errors import IndexRangeError, NonFiniteError, OptionError, ShapeError, format_shape
from ..runs.metric_names import LOWER, UNIT
from ..runs.records import PRIMARY, Metrics

Z = 1.959964  # two-sided 95% of the normal distribution
RESAMPLES = 1000
LARGEST_POWER = 700.0  # of e, that is a number
LARGE = 50_000  # beyond this many examples 200 resamples fix the interval well enough


def primary_metric(metrics: Metrics) -> str:
    """The name of the score that stands first: the one asked for, or one of PRIMARY."""
    if metrics.first is not None:
        return metrics.first
    raise OptionError(
        f"score: metrics with {', '.join(sorted(metrics.scores)) or 'nothing'}; expected one of {', '.join(PRIMARY)} among them."
    )


# ---------------------------------------------------------------- scores


def classification_metrics(
    probabilities: np.typing.ArrayLike, target: np.typing.ArrayLike, classes: Sequence[str] | None = None,
    said: np.ndarray | None = None,
) -> Metrics:  # fmt: skip
    """Scores of class probabilities: accuracy, log_loss, roc_auc, f1_macro, correct, n and intervals.

    probabilities: (N, K) float, rows sum to 1. target: (N,) int in 0..K-1. classes: K names, checked for their number.
    said: (N,) the classes named, where these are not the most probable ones.
    roc_auc is class 1 against class 0 for K = 2, else the mean over the classes present of one against the rest.
    f1_macro averages the classes that were seen or predicted, as scikit-learn does.

    Intervals (95%): accuracy Wilson (1927); log_loss by Student's t on its logarithm; roc_auc Wilson's for as many
    examples as the variance of DeLong, DeLong & Clarke-Pearson (1988), carried to the macro mean through each example's
    influence, or that of Hanley & McNeil (1982) if larger, speaks of; f1_macro bootstrap (Efron 1979), with a fixed seed.

    Raises ShapeError, IndexRangeError (a target outside the classes) or NonFiniteError.
    """
    probabilities, target = checked_classification(probabilities, target, classes)
    n, k = probabilities.shape
    confusion = confusion_matrix(probabilities.argmax(axis=1) if said is None else said, target, k)
    correct = int(np.trace(confusion))
    # As in scikit-learn, a probability of 0 counts as the smallest step of its own precision.
    tiny = float(np.finfo(probabilities.dtype).eps)
    losses = -np.log(np.clip(probabilities[np.arange(n), target].astype(np.float64), tiny, 1.0))
    area, area_interval = _roc_auc(probabilities, target)
    intervals = {
        "accuracy": wilson(correct, n),
        "log_loss": log_interval(float(losses.mean()), _standard_error(losses), n),
        "roc_auc": area_interval,
        "f1_macro": _f1_interval(confusion),
    }
    scores: dict[str, float | None] = {
        "accuracy": correct / n,
        "log_loss": float(losses.mean()),
        "roc_auc": area,
        "f1_macro": float(f1_macro(confusion)),
    }
    return Metrics(scores, n, {name: pair for name, pair in intervals.items() if pair is not None}, correct)


def regression_metrics(prediction: np.typing.ArrayLike, target: np.typing.ArrayLike) -> Metrics:
    """Scores of predicted numbers, in the target's own units: rmse, mae, r2, n and intervals.

    prediction, target: (N,) float. Intervals (95%) are bootstraps over the examples (Efron 1979) with a fixed seed, see
    `bootstrap_interval`. r2 is None when the target is constant. Raises ShapeError or NonFiniteError.
    """
    prediction, target = checked_regression(prediction, target)
    error, centred = prediction - target, target - target.mean()
    rows = np.stack(
        [error**2, np.abs(error), centred, centred**2], axis=1
    )  # (N, 4): all three scores are means of these
    rmse, mae, r2 = _regression_scores(rows.mean(axis=0))
    metrics = Metrics({"rmse": rmse, "mae": mae, "r2": r2}, len(target))
    if len(target) < 2:
        return metrics
    draws = [_regression_scores(mean) for mean in resampled_means(rows)]
    for i, name in enumerate(("rmse", "mae", "r2")):
        values = [draw[i] for draw in draws if draw[i] is not None]
        if metrics[name] is not None and values:
            pair = bootstrap_interval(name, metrics[name], np.array(values, dtype=np.float64), len(target))
            metrics.intervals.update({} if pair is None else {name: pair})
    return metrics


def confusion_matrix(predicted: np.ndarray, target: np.ndarray, k: int) -> np.ndarray:
    """Counts (K, K) int64: row the true class, column the predicted one."""
    return np.bincount(target * k + predicted, minlength=k * k).reshape(k, k)


def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """`precision`, `recall`, `f1` and `support`, each (K,), from a confusion matrix; 0 where there is nothing to divide."""
    hits = np.diag(confusion).astype(np.float64)
    support, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "precision": hits / np.maximum(predicted, 1),
        "recall": hits / np.maximum(support, 1),
        "f1": 2 * hits / np.maximum(support + predicted, 1),
        "support": support,
    }


def f1_macro(confusion: np.ndarray) -> float:
    """Mean F1 over the classes that occur as truth or as prediction."""
    present = confusion.sum(axis=1) + confusion.sum(axis=0) > 0
    return float(per_class(confusion)["f1"][present].mean())


# ---------------------------------------------------------------- intervals


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95% score interval of a proportion (Wilson 1927); never empty, never outside 0..1."""
    return share_interval(successes / n, n, Z)


def share_interval(share: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's interval of a share among n, which may be no whole number; z: the quantile, 1.96 for 95% of many."""
    z2 = z * z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # The ends are exact at 0 and n; rounding would leave 1e-19 there.
    return (0.0 if share == 0 else max(0.0, middle - half)), (1.0 if share == 1 else min(1.0, middle + half))


def t_quantile(freedom: float) -> float:
    """Two-sided 95% of Student's t, to three digits (Abramowitz & Stegun 1964, 26.7.5); Z for infinitely many degrees."""
    if freedom < 3:
        return 12.706 if freedom < 2 else 4.303
    z, v = Z, freedom
    terms = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + sum(term / v ** (i + 1) for i, term in enumerate(terms))


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _normal_interval(value: float, error: float, low: float, high: float) -> tuple[float, float] | None:
    """value +- 1.96 standard errors within low..high; None when the error is 0, which is no evidence of certainty."""
    if error <= 0:
        return None
    return max(low, value - Z * error), min(high, value + Z * error)


def log_interval(value: float, error: float, n: int) -> tuple[float, float] | None:
    """The 95% interval of a positive mean over n by Student's t on its logarithm, as few losses are skewed; None where the
    error is 0.
    """
    if error <= 0 or value <= 0 or n < 2:
        return None
    factor = math.exp(min(t_quantile(n - 1) * error / value, LARGEST_POWER))
    return value / factor, value * factor


def bootstrap_interval(name: str, value: float, drawn: np.ndarray, n: int) -> tuple[float, float] | None:
    """The 95% interval of a score by its resampled values; None where these do not vary.

    What is better where lower, and 1 - r2, spread evenly on a logarithmic scale: Student's t on that. Of others the middle
    95%, as much wider as n examples want by Student's t. Plain percentiles hold the truth of few examples too seldom: an
    rmse of 15 in 71 to 85 of 100 cases, this in 85 to 94.
    """
    wider = t_quantile(n - 1) * math.sqrt(n / (n - 1))
    if name in LOWER or name == "r2":
        level, levels = (1 - value, 1 - drawn) if name == "r2" else (value, drawn)
        if level > 0 and (levels > 0).all():
            factor = math.exp(min(wider * float(np.log(levels).std()), LARGEST_POWER))
            low, high = (1 - level * factor, 1 - level / factor) if name == "r2" else (level / factor, level * factor)
            return (low, high) if high > low else None
    low, high = (value + wider / Z * (end - value) for end in percentile_interval(drawn))
    if name in UNIT:
        low, high = max(low, 0.0), min(high, 1.0)
    return (low, high) if high > low else None


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """The range that holds the middle 95% of resampled `values`."""
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def resampled_means(rows: np.ndarray) -> np.ndarray:
    """Column means (R, C) of R resamples, with replacement, of the rows (N, C)."""
    rng = np.random.default_rng(0)
    n = len(rows)
    count = RESAMPLES if n <= LARGE else RESAMPLES // 5
    return np.stack([rows[rng.integers(0, n, n)].mean(axis=0) for _ in range(count)])


def _f1_interval(confusion: np.ndarray) -> tuple[float, float] | None:
    """Bootstrap of macro F1. Resampling examples is drawing the confusion counts from a multinomial: N drops out."""
    rng = np.random.default_rng(0)
    n = int(confusion.sum())
    if n < 2:
        return None
    rows, columns = np.nonzero(confusion)
    shares = confusion[rows, columns] / n
    values = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = np.zeros_like(confusion)
        drawn[rows, columns] = rng.multinomial(n, shares)
        values[i] = f1_macro(drawn)
    return bootstrap_interval("f1_macro", f1_macro(confusion), values, n)


def _regression_scores(mean: np.ndarray) -> tuple[float, float, float | None]:
    """(rmse, mae, r2) from the means of error^2, |error|, y and y^2 (y centred)."""
    spread = float(mean[3] - mean[2] ** 2)
    return math.sqrt(mean[0]), float(mean[1]), (1 - float(mean[0]) / spread if spread > 0 else None)


def _midranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the middle of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _area_and_influence(score: np.ndarray, positive: np.ndarray) -> tuple[float, np.ndarray]:
    """The ROC area, and (N,) how each example moves it, so that the sum of squares is DeLong's variance."""
    p, q = int(positive.sum()), int((~positive).sum())
    ranks = _midranks(score)
    below = (ranks[positive] - _midranks(score[positive])) / q  # share of negatives under each positive
    above = 1 - (ranks[~positive] - _midranks(score[~positive])) / p
    area = float(below.mean())
    influence = np.zeros(len(score))
    influence[positive] = (below - area) / math.sqrt(p * max(p - 1, 1))
    influence[~positive] = (above - area) / math.sqrt(q * max(q - 1, 1))
    return area, influence


def _roc_auc(probabilities: np.ndarray, target: np.ndarray) -> tuple[float | None, tuple[float, float] | None]:
    n, k = probabilities.shape
    present = [c for c in range(k) if 0 < int((target == c).sum()) < n]
    if not present:
        return None, None
    asked = [1] if k == 2 else present
    parts = [_area_and_influence(probabilities[:, c], target == c) for c in asked]
    area = float(np.mean([part[0] for part in parts]))
    influence = np.mean([part[1] for part in parts], axis=0)
    counts = [int((target == c).sum()) for c in asked]
    model = float(np.mean([_area_variance(part[0], p, n - p) for part, p in zip(parts, counts, strict=True)])) / len(
        asked
    )
    variance = max(float((influence**2).sum()), model)
    worth = area * (1 - area) / variance if 0 < area < 1 else float(min(min(p, n - p) for p in counts))
    return area, share_interval(area, worth, Z)


def _area_variance(area: float, p: int, q: int) -> float:
    """The variance of a ROC area of p positive and q negative examples by Hanley & McNeil (1982)."""
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    return (area * (1 - area) + (p - 1) * (one - area**2) + (q - 1) * (two - area**2)) / (p * q)


# ---------------------------------------------------------------- of text


def text_metrics(losses: np.typing.ArrayLike, characters: np.typing.ArrayLike) -> Metrics:
    """Scores of a language model: negative log-likelihood in nats per character, perplexity (per character), bits per character, n and an interval.

    losses, characters: (N,) of each window or line, the sum of its losses in nats and how many characters it has. The
    interval (95%) takes the windows for independent draws, as a ratio of their sums (Cochran 1977).
    """
    losses, characters = np.asarray(losses, np.float64), np.asarray(characters, np.float64)
    if losses.shape != characters.shape or losses.ndim != 1 or not characters.sum() > 0:
        raise ShapeError(f"text metrics: losses {format_shape(losses.shape)}, characters {format_shape(characters.shape)}; expected (N,) "
                         "both, with at least one character in all; give more text")  # fmt: skip
    _check_finite("text metrics: losses", losses)
    nats, error = ratio_estimate(losses, characters)
    pair = _normal_interval(nats, error, 0.0, math.inf)
    scores: dict[str, float | None] = {
        "nll_per_char": nats,
        "perplexity": math.exp(nats),
        "bits_per_char": nats / math.log(2),
    }
    return Metrics(scores, int(characters.sum()), {"nll_per_char": pair} if pair else {})


def ratio_estimate(values: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """The sum of values (N,) over that of sizes (N,), and its standard error, 0 where there is a single one."""
    n, total = len(values), sizes.sum()
    ratio = float(values.sum() / total)
    return ratio, math.sqrt(float(((values - ratio * sizes) ** 2).sum()) * n / max(n - 1, 1)) / total


# ---------------------------------------------------------------- checks


def checked_classification(
    probabilities: np.typing.ArrayLike, target: np.typing.ArrayLike, classes: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    probabilities, target = np.asarray(probabilities), np.asarray(target)
    if (
        probabilities.ndim != 2
        or probabilities.shape[1] < 2
        or target.shape != probabilities.shape[:1]
        or not len(target)
    ):
        raise ShapeError(
            f"classification metrics: probabilities {format_shape(probabilities.shape)} and targets {format_shape(target.shape)}; "
            "expected (N, K) with at least two classes and (N,) with at least one example."
        )
    if classes is not None and len(classes) != probabilities.shape[1]:
        raise ShapeError(
            f"classification metrics: {len(classes)} class names for {probabilities.shape[1]} columns of probabilities; "
            "pass one name for each column."
        )
    if target.dtype.kind not in "iu" or target.min() < 0 or target.max() >= probabilities.shape[1]:
        raise IndexRangeError(
            f"classification metrics: targets from {target.min()} to {target.max()} ({target.dtype}); "
            f"expected whole numbers from 0 to {probabilities.shape[1] - 1}, the index of a class."
        )
    if probabilities.dtype.kind != "f":
        probabilities = probabilities.astype(np.float64)
    _check_finite("classification metrics: probabilities", probabilities)
    return probabilities, target.astype(np.int64)


def checked_regression(prediction: np.typing.ArrayLike, target: np.typing.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    prediction, target = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if prediction.ndim != 1 or prediction.shape != target.shape or not len(target):
        raise ShapeError(
            f"regression metrics: predictions {format_shape(prediction.shape)} and targets {format_shape(target.shape)}; "
            "expected both (N,) with at least one example. Flatten (N, 1) with prediction[:, 0]."
        )
    _check_finite("regression metrics: predictions", prediction)
    _check_finite("regression metrics: targets", target)
    return prediction, target


def _check_finite(where: str, values: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise NonFiniteError(
            f"{where}: {len(bad)} of {values.size} are NaN or infinite, the first in row {bad[0][0]}; "
            "expected finite numbers. Train again with a lower learning rate."
        )
