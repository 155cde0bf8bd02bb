"""Scores over the folds of a cross-validation: means, with intervals that know that the folds share rows (floor 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..data.table.folds import FOLDS, REPEATS
from ..runs.metric_names import UNIT, higher_is_better
from ..runs.records import FoldScores, Metrics
from .metrics import primary_metric, wilson

# Two-sided 95% of Student's t by degrees of freedom; of fewer folds, where some were left out, the larger of the two.
T = {FOLDS - 1: 2.776, FOLDS * REPEATS - 1: 2.145}
SHARED = 1 / (FOLDS - 1)  # test rows for each training row


def fold_scores(network: Sequence[Metrics], baselines: Sequence[Mapping[str, Metrics]]) -> FoldScores:
    """The mean scores of a network and of its baselines. network, baselines: of each fold."""
    first = primary_metric(network[0])
    first = first if all(m.get(first) is not None for m in network) else next(iter(network[0].scores))
    sign = 1 if higher_is_better(first) else -1
    others = {}
    for name in [name for name in baselines[0] if all(name in fold for fold in baselines)]:
        own = [fold[name] for fold in baselines]
        mean = _mean(own, first)
        ahead = np.array([sign * (ours[first] - theirs[first]) for ours, theirs in zip(network, own, strict=True)])
        low, high = fold_interval(ahead) or (-abs(float(ahead.mean())), abs(float(ahead.mean())))
        others[name] = Metrics(
            mean.scores, mean.n, mean.intervals, gain=(float(ahead.mean()), low, high), headline=first
        )
    return FoldScores(len(network), _mean(network, first), others)


def _mean(folds: Sequence[Metrics], first: str) -> Metrics:
    scores: dict[str, float | None] = {}
    intervals = {}
    rows = sum(m.n for m in folds) * FOLDS // len(folds)  # each is tested once a repeat
    for name in folds[0].scores:
        values = [value for m in folds if (value := m.get(name)) is not None]
        scores[name] = float(np.mean(values)) if values else None
        if len(values) < len(folds):
            continue
        # Folds that happen to agree are no certainty: the interval is no narrower than that of as many rows.
        pairs = [pair for pair in (fold_interval(np.array(values)), _of_rows(folds, name, rows)) if pair]
        if pairs:
            low, high = min(pair[0] for pair in pairs), max(pair[1] for pair in pairs)
            intervals[name] = (max(low, 0.0), min(high, 1.0)) if name in UNIT else (low, high)
    groups = [m.groups for m in folds if m.groups is not None]
    of = sum(groups) * FOLDS // len(folds) if len(groups) == len(folds) else None
    return Metrics(scores, rows, intervals, headline=first, groups=of)


def _of_rows(folds: Sequence[Metrics], name: str, rows: int) -> tuple[float, float] | None:
    """The interval of a mean score that comes from how many rows there are, by the intervals of single folds."""
    mean = float(np.mean([m[name] for m in folds]))
    if name == "accuracy" and all(m.groups is None for m in folds):
        return wilson(round(mean * rows), rows)
    widths = [pair[1] - pair[0] for m in folds if (pair := m.intervals.get(name)) is not None]
    half = float(np.mean(widths)) / 2 / math.sqrt(FOLDS) if widths else 0.0
    return (mean - half, mean + half) if half else None


def fold_interval(values: np.ndarray) -> tuple[float, float] | None:
    """The 95% interval of the mean over folds, by the corrected resampled t-test (Nadeau & Bengio 2003); None without spread."""
    k = len(values)
    deviation = float(values.std(ddof=1)) if k > 1 else 0.0
    if not deviation > 1e-12:
        return None
    half = T.get(k - 1, T[FOLDS - 1]) * deviation * math.sqrt(1 / k + SHARED)
    return float(values.mean()) - half, float(values.mean()) + half
