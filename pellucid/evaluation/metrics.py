"""Scores of predictions with their 95% intervals, and the plain verdict of a network beside its baselines.

NumPy alone: what made the predictions is not its affair. A metrics dict is JSON-ready: plain names (`accuracy`,
`log_loss`, ... or `rmse`, `mae`, `r2`), `n`, and `intervals`, name -> [low, high]. A score that the data cannot give
(an ROC area with one class present, r2 of a constant target) is None; a score without a usable interval is missing from
`intervals`. `baseline.py` makes the baselines; `report.py` and the command line show them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import IndexRangeError, NonFiniteError, OptionError, ShapeError, format_shape

Metrics = dict[str, Any]
Z = 1.959964  # two-sided 95% of the normal distribution
RESAMPLES = 1000
LARGE = 50_000  # beyond this many examples 200 resamples fix the interval well enough

# What stands first of a run's scores: accuracy is in percent and better where higher, the others where lower.
HEADLINES = {"accuracy": "", "rmse": "", "nats": " nats per character", "frechet": ""}

BASELINE_NAMES = {
    "majority": "majority class",
    "logistic_regression": "logistic regression",
    "mean": "mean of the training rows",
    "ridge_regression": "ridge regression",
    "persistence": "the last value again",
    "autoregression": "linear autoregression",
    "unigram": "how often each character comes",
    "bigram": "pairs of characters",
    "kneser_ney_5": "Kneser-Ney 5-grams",
}


# ---------------------------------------------------------------- scores


def classification_metrics(probabilities: Any, target: Any, classes: Sequence[str] | None = None) -> Metrics:
    """Scores of class probabilities: accuracy, log_loss, roc_auc, f1_macro, correct, n and intervals.

    probabilities: (N, K) float, rows sum to 1. target: (N,) int in 0..K-1. classes: K names, checked for their number.
    roc_auc is class 1 against class 0 for K = 2, else the mean over the classes present of one against the rest.
    f1_macro averages the classes that were seen or predicted, as scikit-learn does.

    Intervals (95%): accuracy Wilson (1927); log_loss normal; roc_auc DeLong, DeLong & Clarke-Pearson (1988), carried to
    the macro mean through each example's influence; f1_macro percentile bootstrap (Efron 1979), with a fixed seed.

    Raises ShapeError, IndexRangeError (a target outside the classes) or NonFiniteError.
    """
    probabilities, target = _checked_classification(probabilities, target, classes)
    n, k = probabilities.shape
    confusion = confusion_matrix(probabilities.argmax(axis=1), target, k)
    correct = int(np.trace(confusion))
    # As in scikit-learn, a probability of 0 counts as the smallest step of its own precision.
    tiny = float(np.finfo(probabilities.dtype).eps)
    losses = -np.log(np.clip(probabilities[np.arange(n), target].astype(np.float64), tiny, 1.0))
    area, area_interval = _roc_auc(probabilities, target)
    intervals = {
        "accuracy": wilson(correct, n),
        "log_loss": _normal_interval(float(losses.mean()), _standard_error(losses), 0.0, math.inf),
        "roc_auc": area_interval,
        "f1_macro": _f1_interval(confusion),
    }
    return {
        "accuracy": correct / n,
        "log_loss": float(losses.mean()),
        "roc_auc": area,
        "f1_macro": float(f1_macro(confusion)),
        "correct": correct,
        "n": n,
        "intervals": {name: list(pair) for name, pair in intervals.items() if pair is not None},
    }


def regression_metrics(prediction: Any, target: Any) -> Metrics:
    """Scores of predicted numbers, in the target's own units: rmse, mae, r2, n and intervals.

    prediction, target: (N,) float. Intervals (95%) are percentile bootstraps over the examples (Efron 1979) with a
    fixed seed. r2 is None when the target is constant. Raises ShapeError or NonFiniteError.
    """
    prediction, target = _checked_regression(prediction, target)
    error, centred = prediction - target, target - target.mean()
    rows = np.stack(
        [error**2, np.abs(error), centred, centred**2], axis=1
    )  # (N, 4): all three scores are means of these
    rmse, mae, r2 = _regression_scores(rows.mean(axis=0))
    metrics: Metrics = {"rmse": rmse, "mae": mae, "r2": r2, "n": len(target), "intervals": {}}
    if len(target) < 2:
        return metrics
    draws = [_regression_scores(mean) for mean in _resampled_means(rows)]
    for i, name in enumerate(("rmse", "mae", "r2")):
        values = [draw[i] for draw in draws if draw[i] is not None]
        if metrics[name] is not None and values:
            metrics["intervals"][name] = _percentiles(np.array(values, dtype=np.float64))
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
    share, z2 = successes / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # The ends are exact at 0 and n; rounding would leave 1e-19 there.
    return (0.0 if successes == 0 else max(0.0, middle - half)), (1.0 if successes == n else min(1.0, middle + half))


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _normal_interval(value: float, error: float, low: float, high: float) -> tuple[float, float] | None:
    """value +- 1.96 standard errors within low..high; None when the error is 0, which is no evidence of certainty."""
    if error <= 0:
        return None
    return max(low, value - Z * error), min(high, value + Z * error)


def _percentiles(values: np.ndarray) -> list[float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def _resampled_means(rows: np.ndarray) -> np.ndarray:
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
    low, high = _percentiles(values)
    return (low, high) if high > low else None


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
    parts = [_area_and_influence(probabilities[:, c], target == c) for c in ([1] if k == 2 else present)]
    area = float(np.mean([part[0] for part in parts]))
    influence = np.mean([part[1] for part in parts], axis=0)
    return area, _normal_interval(area, math.sqrt(float((influence**2).sum())), 0.0, 1.0)


# ---------------------------------------------------------------- of text


def text_metrics(losses: Any, characters: Any) -> Metrics:
    """Scores of a model that writes: nats per character, perplexity (per character), bits, n and an interval of nats.

    losses, characters: (N,) of each window or line, the sum of its losses in nats and how many characters it has. The
    interval (95%) takes the windows for independent draws, as a ratio of their sums (Cochran 1977).
    """
    losses, characters = np.asarray(losses, np.float64), np.asarray(characters, np.float64)
    if losses.shape != characters.shape or losses.ndim != 1 or not characters.sum() > 0:
        raise ShapeError(f"text metrics: losses {format_shape(losses.shape)}, characters {format_shape(characters.shape)}; expected (N,) "
                         "both, with at least one character in all; give more text")  # fmt: skip
    _check_finite("text metrics: losses", losses)
    nats, error = _ratio(losses, characters)
    pair = _normal_interval(nats, error, 0.0, math.inf)
    return {
        "nats": nats,
        "perplexity": math.exp(nats),
        "bits": nats / math.log(2),
        "n": int(characters.sum()),
        "intervals": {"nats": list(pair)} if pair else {},
    }


def _ratio(values: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """The sum of values (N,) over that of sizes (N,), and its standard error, 0 where there is a single one."""
    n, total = len(values), sizes.sum()
    ratio = float(values.sum() / total)
    return ratio, math.sqrt(float(((values - ratio * sizes) ** 2).sum()) * n / max(n - 1, 1)) / total


# ---------------------------------------------------------------- against a baseline


def paired_difference(task: str, network: Any, baseline: Any, target: Any) -> list[float]:
    """How much better the network's headline score is on the same examples: [value, low, high], above 0 is better.

    Classification ((N, K) probabilities): difference of accuracies with the paired interval of Bonett & Price (2012),
    which counts only where the two disagree. Regression ((N,) predictions): baseline rmse minus network rmse, paired
    bootstrap. Language ((N,) nats of each window, target (N,) its characters): baseline minus network, nats per character,
    with the interval of `text_metrics`. Far sharper than asking whether the two scores' own intervals overlap.
    """
    if task == "language":
        value, error = _ratio(np.asarray(baseline) - network, np.asarray(target))
        return [value, value - Z * error, value + Z * error] if len(target) > 1 else _unproven(value)
    if task == "classification":
        ours, labels = _checked_classification(network, target, None)
        theirs, _ = _checked_classification(baseline, target, None)
        right, other = ours.argmax(axis=1) == labels, theirs.argmax(axis=1) == labels
        n, won, lost = len(labels), int((right & ~other).sum()), int((other & ~right).sum())
        up, down = (won + 1) / (n + 2), (lost + 1) / (n + 2)
        half = Z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
        return [(won - lost) / n, max(-1.0, up - down - half), min(1.0, up - down + half)]
    ours, truth = _checked_regression(network, target)
    theirs, _ = _checked_regression(baseline, target)
    squares = np.stack([(theirs - truth) ** 2, (ours - truth) ** 2], axis=1)
    value = float(np.subtract(*np.sqrt(squares.mean(axis=0))))
    if len(truth) < 2:
        return _unproven(value)
    drawn = np.sqrt(_resampled_means(squares))
    return [value, *_percentiles(drawn[:, 0] - drawn[:, 1])]


def _unproven(value: float) -> list[float]:
    """The gain on one example, which proves nothing: an interval around 0."""
    return [value, -abs(value), abs(value)]


@dataclass(frozen=True)
class BaselineComparison:
    """`level` is "better", "unclear", "worse" or "alone" (nothing to compare with); the rest says it to a person."""

    level: str
    claim: str
    evidence: str = ""
    against: str | None = None  # key of the strongest baseline

    @property
    def relation(self) -> str:
        """`better than`, `not clearly better than`, ...: the claim up to what it compares with."""
        return self.claim.partition(" than ")[0].lower() + " than" if self.against else "beside"

    @property
    def sentence(self) -> str:
        """Claim and evidence, in one or two sentences."""
        return self.claim + self.evidence


def verdict(metrics: Metrics, baselines: Mapping[str, Metrics]) -> BaselineComparison:
    """Whether the network beats the strongest of its baselines, in one or two plain sentences.

    Uses each baseline's paired `gain` where present (see `baseline.baselines`), else whether the intervals overlap.
    """
    if not baselines:
        return BaselineComparison("alone", "No baseline was measured beside it", ".")
    name = primary_metric(metrics)
    strongest = (max if name == "accuracy" else min)(baselines, key=lambda key: baselines[key][name])
    other = baselines[strongest]
    label = f"{BASELINE_NAMES.get(strongest, strongest)} ({_score_only(other)})"
    value, low, high = _difference(metrics, other, name)
    by = _difference_words(value, low, high, name)
    if low > 0:
        return BaselineComparison("better", f"Better than {label}", f": {by}.", strongest)
    if high < 0:
        return BaselineComparison(
            "worse", f"Worse than {label}", f": {by}. The simpler model does this job better.", strongest
        )
    if value == 0:
        return BaselineComparison("unclear", f"No better than {label}", ": the two scores are the same.", strongest)
    evidence = f", as far as {metrics['n']:,} examples can tell: {by}, which may be chance."
    return BaselineComparison(
        "unclear", f"{'Not clearly' if value > 0 else 'No'} better than {label}", evidence, strongest
    )


def _difference(metrics: Metrics, other: Metrics, name: str) -> tuple[float, float, float]:
    if "gain" in other:
        value, low, high = other["gain"]
        return value, low, high
    sign = 1 if name == "accuracy" else -1
    value = sign * (metrics[name] - other[name])
    ours, theirs = (m["intervals"].get(name, [m[name], m[name]]) for m in (metrics, other))
    if sign < 0:
        ours, theirs = [-ours[1], -ours[0]], [-theirs[1], -theirs[0]]
    # Overlapping intervals straddle 0 here, separate ones do not.
    return value, ours[0] - theirs[1], ours[1] - theirs[0]


def _difference_words(value: float, low: float, high: float, name: str) -> str:
    side = ("ahead", "behind") if name == "accuracy" else (f"{name} lower", f"{name} higher")
    which = side[value < 0]
    if value < 0:
        value, low, high = -value, -high, -low
    scale, unit = (100, " points") if name == "accuracy" else (1, "")
    digits = _decimals((high - low) * scale / 2)
    text = [f"{part * scale:,.{digits}f}" for part in (value, low, high)]
    return f"{which} by {text[0]}{unit} (95% interval {text[1]} to {text[2]})"


# ---------------------------------------------------------------- in words


def primary_metric(metrics: Mapping[str, Any]) -> str:
    """The name of the score that stands first: one of HEADLINES."""
    for name in HEADLINES:
        if name in metrics:
            return name
    raise OptionError(
        f"score: metrics with {', '.join(sorted(metrics)) or 'nothing'}; expected one of {', '.join(HEADLINES)} among them."
    )


def score_line(metrics: Metrics, dash: str = "-") -> str:
    """The headline score on one line: `97.2% (350 of 360, 95-98)`, or `rmse 3.21 (n 76, 2.61-3.95)`."""
    n, name = metrics["n"], primary_metric(metrics)
    if name == "frechet":
        named = f", {100 * metrics['named_right']:.1f}% named right" if "named_right" in metrics else ""
        return f"frechet {_score_only(metrics)}, {metrics['ratio']:.1f} times that of real images (n {n:,}{named})"
    count = f"{metrics['correct']:,} of {n:,}" if name == "accuracy" else f"n {n:,}"
    span = interval_text(metrics, name, dash)
    lead = "" if HEADLINES[name] or name == "accuracy" else f"{name} "
    return f"{lead}{_score_only(metrics)}{HEADLINES[name]} ({count}{', ' + span if span else ''})"


def value_text(metrics: Metrics, name: str) -> str:
    """One score with the digits its interval justifies; `accuracy` in percent, `not defined` for None."""
    value = metrics.get(name)
    if value is None:
        return "not defined"
    pair = metrics.get("intervals", {}).get(name)
    if name == "accuracy":
        return f"{100 * value:.{2 if pair and pair[1] - pair[0] < 0.002 else 1}f}%"
    return f"{value:,.{_decimals((pair[1] - pair[0]) / 2)}f}" if pair else show(value)


def interval_text(metrics: Metrics, name: str, dash: str = "-") -> str:
    """The interval alone, `95-98` (percent, for accuracy) or `2.61-3.95`; empty when there is none."""
    pair = metrics.get("intervals", {}).get(name)
    if pair is None:
        return ""
    if name == "accuracy":
        width = 100 * (pair[1] - pair[0])
        digits = 0 if width >= 2 else 1 if width >= 0.2 else 2
        return dash.join(f"{100 * end:.{digits}f}" for end in pair)
    digits = _decimals((pair[1] - pair[0]) / 2)
    low, high = (f"{end:,.{digits}f}" for end in pair)
    return f"{low} to {high}" if pair[0] < 0 else f"{low}{dash}{high}"


def show(value: float) -> str:
    """A number of unknown size for people: four significant digits, thousands set apart."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    size = math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, 3 - size)}f}" if -4 <= size < 9 else f"{value:.3e}"


def _score_only(metrics: Metrics) -> str:
    return value_text(metrics, primary_metric(metrics))


def _decimals(half_width: float) -> int:
    """Decimal places that leave two significant digits of an interval's half width."""
    if not math.isfinite(half_width) or half_width <= 0:
        return 3
    return min(8, max(0, 1 - math.floor(math.log10(half_width))))


# ---------------------------------------------------------------- checks


def _checked_classification(probabilities: Any, target: Any, classes: Any) -> tuple[np.ndarray, np.ndarray]:
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


def _checked_regression(prediction: Any, target: Any) -> tuple[np.ndarray, np.ndarray]:
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
