"""Scoring: the scores that a run is judged by, for each task, with weights of rows and a chosen threshold (floor 7).

`Scoring` says what is scored and which score stands first. Plain accuracy and RMSE come from `metrics.py` with their own
intervals; every other score, and all scores of weighted rows, have bootstraps over the rows (Efron 1979).

Shapes: N rows, K classes, L labels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import OptionError
from ..runs.metric_names import DECIDED, METRIC_TASKS, higher_is_better
from ..runs.records import Decision, Metrics
from .metrics import (
    bootstrap_interval,
    checked_classification,
    checked_regression,
    classification_metrics,
    regression_metrics,
    share_interval,
    t_quantile,
    wilson,
)

Scores = dict[str, float | None]
Scorer = Callable[[np.ndarray], Scores]  # from the weights (N,) of the rows to the scores

RESAMPLES = 1000
LARGE = 5000  # beyond this many rows 200 resamples fix the interval well enough
MOSTLY_OWN = 0.95  # units for each row, beyond which rows are taken for independent
NAMED = 0.5  # probability from which a label is named, where rows have several and no threshold was chosen
LEAST_POSITIVE = 10  # rows with a label, from which it has a threshold of its own


@dataclass(frozen=True)
class Scoring:
    """What predictions are scored by.

    metric: as `--metric` says it, "" for none.      decision: of two classes, where a metric is asked for.
    coverage: the share of rows that an interval should hold; outputs are then (N, 3), lower end, median and upper end.
    thresholds: where rows have several labels, the probability from which each is named; empty for NAMED.
    """

    task: str
    classes: Sequence[str] | None = None
    metric: str = ""
    decision: Decision | None = None
    coverage: float | None = None
    thresholds: Sequence[float] = ()

    def __post_init__(self) -> None:
        if self.metric and self.task not in METRIC_TASKS[self.metric]:
            fitting = [name for name, tasks in METRIC_TASKS.items() if self.task in tasks]
            raise OptionError(f"metric: {self.metric} is no score of a {self.task} task; expected one of {', '.join(fitting)}; "
                              f"write --metric {fitting[0]}")  # fmt: skip

    @property
    def score(self) -> str:
        """The name of the score that is asked for; of more than two classes F1 is the mean over the classes."""
        if self.metric != "f1" or (len(self.classes or ()) == 2 and self.task == "classification"):
            return self.metric
        return "f1_macro" if self.task == "classification" else "f1_micro"

    @property
    def has_threshold(self) -> bool:
        if self.task == "multilabel":
            return self.metric in DECIDED
        return self.decision is not None and self.metric in DECIDED

    def said(self, output: np.ndarray) -> np.ndarray:
        """The class named for each row: (N,) indices from (N, K) probabilities; of several labels whether each is named, (N, L)."""
        if self.task == "multilabel":
            return output >= np.array(self.thresholds or NAMED)
        return decided(output, self.decision)

    def scorer(self, output: np.ndarray, target: np.ndarray) -> Scorer:
        """A function from the weights of the rows (N,) to the scores."""
        if self.task == "classification":
            return classification_scorer(output, target, self.said(output), self.decision)
        if self.task == "multilabel":
            return multilabel_scorer(output, target, self.classes or (), self.said(output))
        if self.coverage is not None:
            return interval_scorer(output, target)
        return count_scorer(output, target) if self.task == "counts" else regression_scorer(output, target)

    def metrics(
        self,
        output: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None = None,
        unit: np.ndarray | None = None,
    ) -> Metrics:
        """All scores with their intervals. target: (N,), or (N, L) of 0 and 1.      weight: (N,) of the rows.

        unit: int64 (N,), equal for rows that belong together; where many do, intervals are over units.
        A score that was asked for stands first, unless the rows cannot give it. Raises ShapeError or NonFiniteError.
        """
        plain = self._plain(output, target) if weight is None else None
        usual = "f1_micro" if self.task == "multilabel" else "mae" if self.coverage is not None else None
        unit = clusters(unit)
        if plain is not None and not self.metric and usual is None and self.task != "counts":
            return plain if unit is None else self._over_units(plain, output, target, unit)
        n, correct = len(target), None
        scorer = self.scorer(output, target)
        weight = np.ones(n) if weight is None else np.asarray(weight, np.float64)
        scores = scorer(weight)
        intervals = bootstrap_intervals(scorer, weight, unit)
        if plain is not None:
            scores, intervals = {**scores, **plain.scores}, {**intervals, **(plain.intervals if unit is None else {})}
        if self.task == "classification":
            correct = int((self.said(output) == target).sum())
        if self.coverage is not None and plain is not None and unit is None:
            intervals["coverage"] = wilson(round(float(scores["coverage"] or 0) * n), n)
        first = self.score if scores.get(self.score) is not None else usual
        kept = {name: pair for name, pair in intervals.items() if scores.get(name) is not None}
        return Metrics(scores, n, kept, correct, headline=first, groups=None if unit is None else int(unit.max()) + 1)

    def _over_units(self, plain: Metrics, output: np.ndarray, target: np.ndarray, unit: np.ndarray) -> Metrics:
        """The same scores with intervals over units."""
        found = bootstrap_intervals(self.scorer(output, target), np.ones(len(target)), unit)
        if self.task == "classification":
            found["accuracy"] = clustered_share(self.said(output) == target, unit)
        kept = {name: found[name] for name, value in plain.scores.items() if value is not None and name in found}
        return dataclasses.replace(plain, intervals=kept, groups=int(unit.max()) + 1)

    def _plain(self, output: np.ndarray, target: np.ndarray) -> Metrics | None:
        if self.task == "classification":
            said = self.said(output) if self.decision is not None else None
            return classification_metrics(output, target, self.classes, said)
        if self.task == "multilabel":
            return None
        return regression_metrics(output[:, 1] if self.coverage is not None else output, target)

    def gain(
        self, name: str, network: np.ndarray, other: np.ndarray, others: Scoring, target: np.ndarray,
        weight: np.ndarray | None, unit: np.ndarray | None = None,
    ) -> tuple[float, float, float] | None:  # fmt: skip
        """How much better the network's score `name` is than another model's on the same rows: (value, low, high).

        others: how the other model is scored, with a threshold of its own. The interval is a paired bootstrap.
        """
        ours, theirs = self.scorer(network, target), others.scorer(other, target)
        sign = 1.0 if higher_is_better(name) else -1.0
        weight = np.ones(len(target)) if weight is None else np.asarray(weight, np.float64)

        def difference(w: np.ndarray) -> Scores:
            one, two = ours(w)[name], theirs(w)[name]
            return {"gain": None if one is None or two is None else sign * (one - two)}

        value = difference(weight)["gain"]
        if value is None:
            return None
        low, high = bootstrap_intervals(difference, weight, clusters(unit)).get("gain", (-abs(value), abs(value)))
        return value, low, high

    def value(self, output: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> float:
        """The score asked for; of two classes that of the best threshold. NaN where the rows cannot give it."""
        weight = np.ones(len(target)) if weight is None else np.asarray(weight, np.float64)
        scoring = self.with_threshold(output, target, weight) if self.has_threshold else self
        found = scoring.scorer(output, target)(weight)[self.score]
        return math.nan if found is None else found

    def with_threshold(self, output: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> Scoring:
        """The same with the threshold that is best for the metric on these rows, where it has one."""
        if not self.has_threshold:
            return self
        weight = np.ones(len(target)) if weight is None else np.asarray(weight, np.float64)
        if self.task == "multilabel":
            return dataclasses.replace(self, thresholds=best_label_thresholds(output, target > 0.5, weight))
        assert self.decision is not None
        positive = self.decision.positive
        threshold = best_threshold(output[:, positive], target == positive, weight, self.metric)
        return dataclasses.replace(self, decision=Decision(positive, threshold))


def decided(output: np.ndarray, decision: Decision | None) -> np.ndarray:
    """The class named for each row, (N,) indices: the most probable one, or of two classes what the threshold says."""
    if decision is None:
        return output.argmax(axis=1)
    return np.where(output[:, decision.positive] >= decision.threshold, decision.positive, 1 - decision.positive)


def rarer_class(target: np.ndarray) -> int:
    """Which of two classes is the rarer one: the one that is looked for. 1 where both are as frequent."""
    counts = np.bincount(target, minlength=2)
    return int(counts[1] <= counts[0])


# ---- the threshold ---------------------------------------------------------------------------------------------------


class Ranking:
    """Rows by falling score, equal scores together.

    score: (N,).      positive: (N,) bool.
    """

    def __init__(self, score: np.ndarray, positive: np.ndarray) -> None:
        self.order = np.argsort(-score, kind="stable")
        ranked = score[self.order]
        self.ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the last row of each score
        self.cuts = ranked[self.ends]
        self.positive = positive[self.order]

    def counts(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights of the positive and of the negative rows at or above each different score, highest first, from none on."""
        ordered = weight[self.order]
        true = np.cumsum(ordered * self.positive)[self.ends]
        return np.append(0.0, true), np.append(0.0, np.cumsum(ordered * ~self.positive)[self.ends])

    def roc_auc(self, weight: np.ndarray) -> float | None:
        true, false = self.counts(weight)
        if not true[-1] > 0 or not false[-1] > 0:
            return None
        return float((np.diff(false) * (true[1:] + true[:-1]) / 2).sum() / (true[-1] * false[-1]))

    def pr_auc(self, weight: np.ndarray) -> float | None:
        """Average precision, as scikit-learn computes it."""
        true, false = self.counts(weight)
        if not true[-1] > 0 or not false[-1] > 0:
            return None
        precision = true[1:] / np.maximum(true[1:] + false[1:], 1e-300)
        return float((np.diff(true) * precision).sum() / true[-1])


def best_threshold(score: np.ndarray, positive: np.ndarray, weight: np.ndarray, metric: str) -> float:
    """The threshold on `score` (N,) that gives the best `metric`, one of DECIDED; 0.5 where one class is absent.

    It lies halfway between two scores that occur; of equally good ones the nearest to 0.5 is taken.
    """
    ranking = Ranking(score, positive)
    true, false = ranking.counts(weight)
    everyone, others = true[-1], false[-1]
    if not everyone > 0 or not others > 0:
        return 0.5
    if metric == "f1":
        values = 2 * true / (true + false + everyone)
    elif metric == "accuracy":
        values = (true + others - false) / (everyone + others)
    else:
        values = (true / everyone + 1 - false / others) / 2
    # Between the scores; one above the highest names nothing, one below the lowest names everything.
    bounds = np.concatenate([[1.0], ranking.cuts, [0.0]])
    between = (bounds[1:] + bounds[:-1]) / 2
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return float(between[best[np.argmin(np.abs(between[best] - 0.5))]])


def best_label_thresholds(output: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> list[float]:
    """The thresholds (L,) on `output` (N, L) for the best micro-averaged F1: one for all labels, or each label's own.

    Of probabilities that are right, one for all is best (Koyejo et al. 2015); each label's own makes up for those that are not,
    and is taken where it scores higher. A label that few rows have takes the one for all. truth: (N, L) bool.
    """
    common = best_threshold(output.ravel(), truth.ravel(), np.repeat(weight, output.shape[1]), "f1")
    own = [
        best_threshold(output[:, k], truth[:, k], weight, "f1") if truth[:, k].sum() >= LEAST_POSITIVE else common
        for k in range(output.shape[1])
    ]
    alike = [common] * output.shape[1]
    scores = [
        multilabel_scorer(output, truth, (), output >= np.array(each))(weight)["f1_micro"] for each in (alike, own)
    ]
    return own if (scores[1] or 0.0) > (scores[0] or 0.0) else alike


# ---- scores of weighted rows -------------------------------------------------------------------------------------------


def classification_scorer(
    output: np.ndarray, target: np.ndarray, said: np.ndarray, decision: Decision | None
) -> Scorer:
    """Of two classes with a decision, F1 and the precision-recall area are of its positive class; else means over classes."""
    output, target = checked_classification(output, target, None)
    k = output.shape[1]
    tiny = float(np.finfo(output.dtype).eps)
    losses = -np.log(np.clip(output[np.arange(len(target)), target].astype(np.float64), tiny, 1.0))
    positive = decision.positive if decision is not None else 1
    ranked = [positive] if k == 2 else [c for c in range(k) if (target == c).any()]
    rankings = [Ranking(output[:, c], target == c) for c in ranked]

    def scores(weight: np.ndarray) -> Scores:
        confusion = np.bincount(target * k + said, weights=weight, minlength=k * k).reshape(k, k)
        support = confusion.sum(axis=1)
        recall = np.diag(confusion)[support > 0] / support[support > 0]
        found: Scores = {
            "accuracy": float(np.trace(confusion) / weight.sum()),
            "log_loss": float((losses * weight).sum() / weight.sum()),
            "roc_auc": _mean([ranking.roc_auc(weight) for ranking in rankings]),
            "f1_macro": f1_macro_weighted(confusion),
            "balanced_accuracy": float(recall.mean()),
            "pr_auc": _mean([ranking.pr_auc(weight) for ranking in rankings]),
        }
        if k == 2 and decision is not None:
            both = confusion[positive].sum() + confusion[:, positive].sum()
            found["f1"] = float(2 * confusion[positive, positive] / both) if both else 0.0
        return found

    return scores


def f1_macro_weighted(confusion: np.ndarray) -> float:
    """`metrics.f1_macro` of a confusion matrix of weights, which may be below 1."""
    hits, both = np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1)
    return float((2 * hits[both > 0] / both[both > 0]).mean())


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def multilabel_scorer(output: np.ndarray, target: np.ndarray, labels: Sequence[str], said: np.ndarray) -> Scorer:
    """output: (N, L) probabilities.      target: (N, L) of 0 and 1.      said: (N, L) bool. F1 of each of `labels` is called `f1 LABEL`."""
    truth = target > 0.5
    tiny = 1e-7
    losses = -np.log(np.clip(np.where(truth, output, 1 - output), tiny, 1.0)).mean(axis=1)
    exact = (said == truth).all(axis=1)

    def scores(weight: np.ndarray) -> Scores:
        hits, both = weight @ (said & truth), weight @ said + weight @ truth  # (L,)
        single = np.divide(2 * hits, both, out=np.zeros(len(hits)), where=both > 0)
        found: Scores = {
            "f1_micro": float(2 * hits.sum() / both.sum()) if both.sum() else 0.0,
            "f1_macro": float(single.mean()),
            "exact": float((exact * weight).sum() / weight.sum()),
            "log_loss": float((losses * weight).sum() / weight.sum()),
        }
        return found | {f"f1 {name}": float(value) for name, value in zip(labels, single, strict=bool(labels))}

    return scores


def regression_scorer(output: np.ndarray, target: np.ndarray) -> Scorer:
    output, target = checked_regression(output, target)
    error = output - target

    def scores(weight: np.ndarray) -> Scores:
        share = weight / weight.sum()
        squares = float(share @ error**2)
        spread = float(share @ (target - share @ target) ** 2)
        return {
            "rmse": math.sqrt(squares),
            "mae": float(share @ np.abs(error)),
            "r2": 1 - squares / spread if spread > 0 else None,
        }

    return scores


def count_scorer(output: np.ndarray, target: np.ndarray) -> Scorer:
    """Those of a regression, and the mean Poisson deviance, which weighs an error by how large the count is."""
    numbers = regression_scorer(output, target)
    expected = np.maximum(np.asarray(output, np.float64), 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(target > 0, target * np.log(target / expected), 0.0)
    deviance = 2 * (terms - target + expected)
    return lambda weight: {**numbers(weight), "deviance": float((deviance * weight).sum() / weight.sum())}


def interval_scorer(output: np.ndarray, target: np.ndarray) -> Scorer:
    """Those of the median, and of the interval: the share of rows that it holds, and its mean width. output: (N, 3)."""
    numbers = regression_scorer(output[:, 1], target)
    inside, width = (target >= output[:, 0]) & (target <= output[:, 2]), output[:, 2] - output[:, 0]

    def scores(weight: np.ndarray) -> Scores:
        share = weight / weight.sum()
        return {**numbers(weight), "coverage": float(share @ inside), "interval_width": float(share @ width)}

    return scores


# ---- intervals ---------------------------------------------------------------------------------------------------------


def bootstrap_intervals(
    scorer: Scorer, weight: np.ndarray, unit: np.ndarray | None = None
) -> dict[str, tuple[float, float]]:
    """95% intervals of scores over resampled rows, with a fixed seed; those without any width are left out.

    unit: int64 (N,) from 0, see `clusters`: then whole units are drawn (Davison & Hinkley 1997).
    """
    n = len(weight) if unit is None else int(unit.max()) + 1
    if n < 2:
        return {}
    rng = np.random.default_rng(0)
    drawn: dict[str, list[float]] = {}
    for _ in range(RESAMPLES if n <= LARGE else RESAMPLES // 5):
        times = np.bincount(rng.integers(0, n, n), minlength=n)
        resampled = weight * (times if unit is None else times[unit])
        if not resampled.sum() > 0:
            continue
        for name, value in scorer(resampled).items():
            if value is not None:
                drawn.setdefault(name, []).append(value)
    values = scorer(weight)
    found = {}
    for name, draws in drawn.items():
        if (value := values.get(name)) is not None:
            found[name] = bootstrap_interval(name, value, np.array(draws), n)
    return {name: pair for name, pair in found.items() if pair is not None}


def clusters(unit: np.ndarray | None) -> np.ndarray | None:
    """Units as int64 (N,) from 0; None where (nearly) each row is its own, and intervals are over rows."""
    if unit is None:
        return None
    different, of = np.unique(unit, return_inverse=True)
    return of.reshape(-1) if len(different) <= MOSTLY_OWN * len(unit) else None


def clustered_share(right: np.ndarray, unit: np.ndarray) -> tuple[float, float]:
    """The 95% interval of the share of `right` (N,), whose rows are of units: Wilson's, of the rows that as many independent
    ones would be worth (Kish 1965), at most all of them and at least one a unit.
    """
    share, sizes = float(right.mean()), np.bincount(unit)
    count = len(sizes)
    if count < 2:
        return 0.0, 1.0
    if not 0 < share < 1:
        return share_interval(share, count, t_quantile(count - 1))
    error = np.bincount(unit, right - share)
    variance = float((error**2).sum()) * count / max(count - 1, 1) / len(right) ** 2
    worth = share * (1 - share) / max(variance, 1e-300)
    return share_interval(share, min(max(worth, 1.0), float(len(right))), t_quantile(count - 1))
