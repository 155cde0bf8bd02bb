"""Comparison of a network with its baselines: paired differences with intervals, and what to conclude (floor 7).

`baselines.py` and `kneser_ney.py` make the baselines, `metrics.py` scores them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..runs.metric_names import higher_is_better
from .formatting import BASELINE_NAMES, decimals, short_name, value_text
from .metrics import (
    Metrics,
    Z,
    checked_classification,
    checked_regression,
    percentile_interval,
    primary_metric,
    ratio_estimate,
    resampled_means,
)


def paired_difference(
    task: str, network: np.typing.ArrayLike, baseline: np.typing.ArrayLike, target: np.typing.ArrayLike
) -> tuple[float, float, float]:
    """How much better the network's headline score is on the same examples: (value, low, high), above 0 is better.

    Classification ((N, K) probabilities): difference of accuracies with the paired interval of Bonett & Price (2012),
    which counts only where the two disagree. Regression ((N,) predictions): baseline rmse minus network rmse, paired
    bootstrap. Language ((N,) nats of each window, target (N,) its characters): baseline minus network, nats per character,
    with the interval of `text_metrics`. Far sharper than asking whether the two scores' own intervals overlap.
    """
    target = np.asarray(target)
    if task == "language":
        value, error = ratio_estimate(np.asarray(baseline) - network, target)
        return (value, value - Z * error, value + Z * error) if len(target) > 1 else _unproven(value)
    if task == "classification":
        ours, labels = checked_classification(network, target, None)
        theirs, _ = checked_classification(baseline, target, None)
        right, other = ours.argmax(axis=1) == labels, theirs.argmax(axis=1) == labels
        n, won, lost = len(labels), int((right & ~other).sum()), int((other & ~right).sum())
        up, down = (won + 1) / (n + 2), (lost + 1) / (n + 2)
        half = Z * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
        return (won - lost) / n, max(-1.0, up - down - half), min(1.0, up - down + half)
    ours, truth = checked_regression(network, target)
    theirs, _ = checked_regression(baseline, target)
    squares = np.stack([(theirs - truth) ** 2, (ours - truth) ** 2], axis=1)
    value = float(np.subtract(*np.sqrt(squares.mean(axis=0))))
    if len(truth) < 2:
        return _unproven(value)
    drawn = np.sqrt(resampled_means(squares))
    return (value, *percentile_interval(drawn[:, 0] - drawn[:, 1]))


def _unproven(value: float) -> tuple[float, float, float]:
    """The gain on one example, which proves nothing: an interval around 0."""
    return value, -abs(value), abs(value)


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


def compare_with_baselines(metrics: Metrics, baselines: Mapping[str, Metrics]) -> BaselineComparison:
    """Whether the network beats the strongest of its baselines, in one or two plain sentences.

    Uses each baseline's paired `gain` where present (see `baselines.baselines`), else whether the intervals overlap.
    """
    if not baselines:
        return BaselineComparison("alone", "No baseline was measured beside it", ".")
    name = primary_metric(metrics)
    strongest = (max if higher_is_better(name) else min)(baselines, key=lambda key: baselines[key][name])
    other = baselines[strongest]
    label = f"{BASELINE_NAMES.get(strongest, strongest)} ({value_text(other, name)})"
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
    evidence = f", as far as {metrics.n:,} examples can tell: {by}, which may be chance."
    return BaselineComparison(
        "unclear", f"{'Not clearly' if value > 0 else 'No'} better than {label}", evidence, strongest
    )


def _difference(metrics: Metrics, other: Metrics, name: str) -> tuple[float, float, float]:
    if other.gain is not None:
        return other.gain
    sign = 1 if higher_is_better(name) else -1
    value = sign * (metrics[name] - other[name])
    ours, theirs = (m.intervals.get(name, (m[name], m[name])) for m in (metrics, other))
    if sign < 0:
        ours, theirs = (-ours[1], -ours[0]), (-theirs[1], -theirs[0])
    # Overlapping intervals straddle 0 here, separate ones do not.
    return value, ours[0] - theirs[1], ours[1] - theirs[0]


def _difference_words(value: float, low: float, high: float, name: str) -> str:
    side = (
        ("ahead", "behind") if higher_is_better(name) else (f"{short_name(name)} lower", f"{short_name(name)} higher")
    )
    which = side[value < 0]
    if value < 0:
        value, low, high = -value, -high, -low
    scale, unit = (100, " points") if name == "accuracy" else (1, "")
    digits = decimals((high - low) * scale / 2)
    text = [f"{part * scale:,.{digits}f}" for part in (value, low, high)]
    return f"{which} by {text[0]}{unit} (95% interval {text[1]} to {text[2]})"
