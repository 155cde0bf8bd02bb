"""Formatting of scores for people: one line, a value with the digits its interval justifies, an interval (floor 7)."""

from __future__ import annotations

import math

from ..runs.metric_names import higher_is_better
from ..runs.records import PRIMARY, FoldScores
from .importance import ColumnImportance, Importances
from .metrics import Metrics, primary_metric

PERCENT = ("accuracy", "coverage")  # shares that are written so

BASELINE_NAMES = {
    "majority": "majority class",
    "logistic_regression": "logistic regression",
    "shares": "how often each label comes",
    "one_vs_rest": "logistic regression",
    "poisson_regression": "Poisson regression",
    "tfidf_logistic_regression": "TF-IDF with logistic regression",
    "tfidf_ridge_regression": "TF-IDF with ridge regression",
    "mean": "mean of the training rows",
    "ridge_regression": "ridge regression",
    "boosted_trees": "boosted trees",
    "persistence": "the last value again",
    "drift": "the last value and the mean step",
    "seasonal_naive": "the value one season before",
    "autoregression": "linear autoregression",
    "unigram": "how often each character comes",
    "bigram": "pairs of characters",
    "kneser_ney_5": "Kneser-Ney 5-grams",
}


SHORT_NAMES = {
    "nll_per_char": "nats",
    "f1_micro": "F1",
    "f1": "F1",
    "f1_macro": "F1 (mean of classes)",
}  # of scores that are spoken of by their unit


def short_name(name: str) -> str:
    """A score's name as a sentence or a chart has it."""
    return SHORT_NAMES.get(name, name)


def score_line(metrics: Metrics, dash: str = "-") -> str:
    """The headline score on one line: `97.2% (350 of 360, 95-98)`, or `rmse 3.21 (n 76, 2.61-3.95)`."""
    n, name = metrics.n, primary_metric(metrics)
    if name == "frechet":
        named = (
            f", {100 * metrics['conditional_accuracy']:.1f}% named right" if "conditional_accuracy" in metrics else ""
        )
        return f"frechet {value_text(metrics, name)}, {metrics['frechet_relative']:.1f} times that of real images (n {n:,}{named})"
    of = f"{n:,}{groups_text(metrics)}"
    count = f"{metrics.correct:,} of {of}" if name == "accuracy" else f"n {of}"
    span = interval_text(metrics, name, dash)
    unit = PRIMARY.get(name, "")
    lead = "" if unit or name == "accuracy" else f"{short_name(name)} "
    return f"{lead}{value_text(metrics, name)}{unit} ({count}{', ' + span if span else ''})"


def groups_text(metrics: Metrics, rows: str = " rows") -> str:
    """` rows in 12 groups`, where the interval is over groups; else nothing."""
    return "" if metrics.groups is None else f"{rows} in {metrics.groups:,} groups"


def fold_line(folds: FoldScores, dash: str = "-") -> str:
    """The mean over folds on one line: `95.3% (mean of 5 folds of 150 rows, 91-99)`."""
    m = folds.network
    name, span = primary_metric(m), interval_text(m, primary_metric(m), dash)
    lead = "" if name == "accuracy" else f"{short_name(name)} "
    return f"{lead}{value_text(m, name)} (mean of {folds.count} folds, {m.n:,} rows{groups_text(m, '')}{', ' + span if span else ''})"


def value_text(metrics: Metrics, name: str) -> str:
    """One score with the digits its interval justifies; `accuracy` in percent, `not defined` for None."""
    value = metrics.get(name)
    if value is None:
        return "not defined"
    pair = metrics.intervals.get(name)
    if name in PERCENT:
        return f"{100 * value:.{2 if pair and pair[1] - pair[0] < 0.002 else 1}f}%"
    return f"{value:,.{decimals((pair[1] - pair[0]) / 2)}f}" if pair else format_number(value)


def interval_text(metrics: Metrics, name: str, dash: str = "-") -> str:
    """The interval alone, `95-98` (percent, for accuracy) or `2.61-3.95`; empty when there is none."""
    pair = metrics.intervals.get(name)
    if pair is None:
        return ""
    if name in PERCENT:
        width = 100 * (pair[1] - pair[0])
        digits = 0 if width >= 2 else 1 if width >= 0.2 else 2
        return dash.join(f"{100 * end:.{digits}f}" for end in pair)
    digits = decimals((pair[1] - pair[0]) / 2)
    low, high = (f"{end:,.{digits}f}" for end in pair)
    return f"{low} to {high}" if pair[0] < 0 else f"{low}{dash}{high}"


def importance_text(one: ColumnImportance, score: str, dash: str = "-") -> str:
    """How much worse the score gets without a column: `4.1 points (3.0-5.2)`, or `0.31 (0.22-0.40)`."""
    scale, unit = (100, " points") if score in PERCENT else (1, "")
    if one.interval is None:
        return f"{format_number(scale * one.worse)}{unit}"
    low, high = (scale * end for end in one.interval)
    digits = decimals((high - low) / 2) if high > low else 1
    value, low_text, high_text = (f"{x + 0.0:,.{digits}f}" for x in (scale * one.worse, low, high))
    return f"{value}{unit} ({low_text}{' to ' if low < 0 else dash}{high_text})"


def importance_line(found: Importances, most: int = 4) -> str:
    """The columns that mattered on one line: `that mattered: age 4.1 points (3.0-5.2); accuracy lost when shuffled`."""
    what = f"{short_name(found.score)} {'lost' if higher_is_better(found.score) else 'added'} when shuffled, {found.rows:,} validation rows"
    told = [f"{one.name[:40]} {importance_text(one, found.score)}" for one in found.columns if one.mattered]
    more = f", {len(told) - most} more" if len(told) > most else ""
    joint = [f"{' and '.join(one.names[:3])[:80]}{', ...' * (len(one.names) > 3)} together {importance_text(one, found.score)}"
             for one in found.together if one.mattered][:1]  # fmt: skip
    if not told and not joint:
        return f"none mattered for certain ({what})"
    return f"that mattered: {', '.join(told[:most])}{more}{'; ' * bool(told and joint)}{''.join(joint)} ({what})"


def format_number(value: float) -> str:
    """A number of unknown size for people: four significant digits, thousands set apart."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    size = math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, 3 - size)}f}" if -4 <= size < 9 else f"{value:.3e}"


def decimals(half_width: float) -> int:
    """Decimal places that leave two significant digits of an interval's half width."""
    if not math.isfinite(half_width) or half_width <= 0:
        return 3
    return min(8, max(0, 1 - math.floor(math.log10(half_width))))
