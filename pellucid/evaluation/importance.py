"""Permutation importance: how much worse a score gets when one column is shuffled among the rows (Breiman 2001) (floor 7).

A column is one of the data's own: all that it was encoded as moves together. Columns that tell much of one another stand in
for each other, so each alone seems to matter little: they are named, and shuffled together as well.

Shapes: N rows, R shuffles, B resamples, P parts of all columns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.problem import Examples, Parts
from ..random import Generator
from ..runs.metric_names import higher_is_better
from ..threads import one_thread
from .metrics import t_quantile
from .scoring import Scoring, clusters

BUDGET = 100_000  # rows that are predicted in all
MOST_ROWS = 2000
LEAST_ROWS = 100
SCREENED = 20_000  # rows that are predicted to find out which columns are measured
MOST_COLUMNS = 30  # that are measured; of more, those that move the answers most
FEWEST, MOST = 3, 10  # shuffles of each column
RESAMPLES = 200  # of the rows
SLOW_RESAMPLES = 50  # where a score is no mean over rows
SHARED = 0.5  # of a column's variance, which another must tell
FREQUENT = 10  # values of a category that columns are compared by

Predict = Callable[[Examples], np.ndarray]


@dataclass(frozen=True)
class ColumnImportance:
    """How much worse the score gets without a column. names: of it, or of several that were shuffled together.

    worse: in the score's unit, above 0 where the score is worse then; the mean over the shuffles.
    interval: 95%, over rows and shuffles; None where it cannot be told.      shared_with: other columns that tell much of this one, or are told by it.
    """

    names: tuple[str, ...]
    worse: float
    interval: tuple[float, float] | None
    shared_with: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return ", ".join(self.names)

    @property
    def mattered(self) -> bool:
        """Whether the interval lies above 0."""
        return self.interval is not None and self.interval[0] > 0


@dataclass(frozen=True)
class Importances:
    """The importance of each column, the largest first.

    score: its name.      rows, shuffles: how many.      together: of columns that share what they say.
    of: how many columns there are; of more than MOST_COLUMNS those that move the answers most were measured.
    """

    score: str
    columns: tuple[ColumnImportance, ...]
    together: tuple[ColumnImportance, ...]
    rows: int
    shuffles: int
    of: int


def permutation_importance(
    predict: Predict, scoring: Scoring, score: str, columns: Mapping[str, Parts], examples: Examples,
    known: Examples | None = None, seed: int = 0,
) -> Importances | None:  # fmt: skip
    """The importance of each of `columns` for the score called `score`; None where these rows cannot give it.

    predict: from examples to outputs as `scoring` reads them.
    columns: by name, the places in the inputs of what each was encoded as, see `Preprocessor.column_parts`.
    examples: rows that the network did not learn from, the target in its own units.
    known: rows that columns are compared by, those of training say; by default `examples`.
    """
    kept = list(columns)
    rows = _some(len(examples), min(MOST_ROWS, max(LEAST_ROWS, BUDGET // (FEWEST * min(len(kept), MOST_COLUMNS) or 1))))
    part = examples.take(rows)
    if len(part) < 2 or len(kept) < 2:  # of the only column there is nothing to tell apart
        return None
    shuffles = min(MOST, max(FEWEST, BUDGET // (len(part) * min(len(kept), MOST_COLUMNS))))
    judge = Judge.of(scoring, score, part, predict(part), shuffles)
    if judge is None:
        return None
    orders = [np.argsort(Generator(seed + k).bits(len(part)).array, kind="stable") for k in range(shuffles)]

    def measured(*names: str) -> ColumnImportance:
        parts = [place for name in names for place in columns[name]]
        outputs = [predict(_shuffled(part, parts, order)) for order in orders]
        return ColumnImportance(names, *judge.worse(outputs))

    if len(kept) > MOST_COLUMNS:
        kept = _most_moving(predict, part, columns, orders[0])
    related = _related({name: columns[name] for name in kept}, (part if known is None else known).inputs)
    found = [dataclasses.replace(measured(name), shared_with=related.get(name, ())) for name in kept]
    together = [measured(*names) for names in _components(related)]
    found, together = (sorted(own, key=lambda one: -one.worse) for own in (found, together))
    return Importances(score, tuple(found), tuple(together), len(part), shuffles, len(columns))


def _some(count: int, most: int) -> np.ndarray:
    """Row numbers, evenly spread, `most` at most."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _shuffled(examples: Examples, parts: Parts, order: np.ndarray) -> Examples:
    """The examples with some parts of their inputs taken from the rows `order` (N,)."""
    changed = dict(examples.inputs)
    for name in {name for name, _, _ in parts}:
        changed[name] = np.array(examples.inputs[name])
    for name, axis, place in parts:
        at = (slice(None),) * axis + (place,)
        changed[name][at] = examples.inputs[name][at][order]
    return dataclasses.replace(examples, inputs=changed)


def _most_moving(predict: Predict, part: Examples, columns: Mapping[str, Parts], order: np.ndarray) -> list[str]:
    """The MOST_COLUMNS columns whose shuffling moves the outputs most. No target is read, so what is measured of them is not biased."""
    rows = _some(len(part), max(10, SCREENED // len(columns)))
    few = part.take(rows)
    order = np.argsort(order[rows], kind="stable")
    usual = predict(few)
    moved = [float(np.abs(predict(_shuffled(few, places, order)) - usual).mean()) for places in columns.values()]
    first = np.argsort(-np.array(moved), kind="stable")[:MOST_COLUMNS]
    names = list(columns)
    return [names[i] for i in sorted(first.tolist())]


# ---- how much worse ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judge:
    """What outputs are judged by, on the same resampled rows.

    weights: (B + 1, N) of the rows in each resample, those as they are first.      usual: (B + 1,) scores of the outputs as they are.
    times: (B + 1, R) how often each shuffle counts in each resample.
    """

    scoring: Scoring
    score: str
    examples: Examples
    weights: np.ndarray
    usual: np.ndarray
    times: np.ndarray

    @classmethod
    def of(cls, scoring: Scoring, score: str, examples: Examples, output: np.ndarray, shuffles: int) -> Judge | None:
        """None where the rows cannot give the score."""
        mean = _losses(scoring, score, output, examples.target) is not None
        weights = _resampled(examples, RESAMPLES if mean else SLOW_RESAMPLES)
        rng = np.random.default_rng(1)
        drawn = rng.multinomial(shuffles, np.full(shuffles, 1 / shuffles), len(weights) - 1)
        times = np.concatenate([np.ones((1, shuffles)), drawn])
        usual = _scores(scoring, score, output, examples.target, weights)
        return cls(scoring, score, examples, weights, usual, times) if np.isfinite(usual[0]) else None

    def worse(self, outputs: Sequence[np.ndarray]) -> tuple[float, tuple[float, float] | None]:
        """How much worse these outputs (R) are than the usual ones, on average, and its 95% interval."""
        scores = np.stack(
            [_scores(self.scoring, self.score, one, self.examples.target, self.weights) for one in outputs], axis=1
        )  # (B + 1, R)
        sign = 1.0 if higher_is_better(self.score) else -1.0
        lost = sign * (self.usual - (scores * self.times).sum(axis=1) / self.times.sum(axis=1))
        drawn = lost[1:][np.isfinite(lost[1:])]
        n = len(self.examples)
        unit = clusters(self.examples.unit)
        n = n if unit is None else int(unit.max()) + 1
        value = float(lost[0])
        if n < 2 or len(drawn) < 2:
            return value, None
        half = t_quantile(n - 1) * math.sqrt(n / (n - 1)) * float(drawn.std())
        return value, (value - half, value + half)


def _resampled(examples: Examples, count: int) -> np.ndarray:
    """Weights (count + 1, N) of resampled rows, or units where rows belong together; the rows as they are first."""
    usual = np.ones(len(examples)) if examples.weight is None else examples.weight.astype(np.float64)
    unit = clusters(examples.unit)
    n = len(examples) if unit is None else int(unit.max()) + 1
    rng = np.random.default_rng(0)
    times = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(count)])
    return np.concatenate([usual[None], usual * (times if unit is None else times[:, unit])])


def _losses(scoring: Scoring, score: str, output: np.ndarray, target: np.ndarray) -> np.ndarray | None:
    """What a score is the mean of, (N,), or the root of it for an rmse; None for a score that is no mean over rows."""
    if score == "accuracy":
        return (scoring.said(output) == target).astype(np.float64)
    if score not in ("rmse", "mae"):
        return None
    error = (output[:, 1] if scoring.coverage is not None else output) - target
    return error**2 if score == "rmse" else np.abs(error)


def _scores(scoring: Scoring, score: str, output: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The score (B,) under each of `weights` (B, N); NaN where it is not defined."""
    losses = _losses(scoring, score, output, target)
    if losses is not None:
        means = (weights * losses).sum(axis=1) / np.maximum(
            weights.sum(axis=1), 1e-300
        )  # no BLAS: the same bits anywhere
        return np.sqrt(means) if score == "rmse" else means
    scorer = scoring.scorer(output, target)
    found = [scorer(weight).get(score) if weight.sum() > 0 else None for weight in weights]
    return np.array([math.nan if value is None else value for value in found])


# ---- columns that share what they say ----------------------------------------------------------------------------------


def _related(columns: Mapping[str, Parts], inputs: Mapping[str, np.ndarray]) -> dict[str, tuple[str, ...]]:
    """For each column the others that tell more than SHARED of its variance, or of which it tells so much."""
    count = len(next(iter(inputs.values())))
    rows = _some(count, MOST_ROWS)
    blocks = {name: block for name, parts in columns.items() if (block := _standardised(inputs, parts, rows)).shape[1]}
    names, every = list(blocks), np.concatenate(list(blocks.values()), axis=1) if blocks else np.zeros((len(rows), 0))
    ends = np.cumsum([0, *(block.shape[1] for block in blocks.values())])
    found: dict[str, tuple[str, ...]] = dict.fromkeys(names, ())
    with one_thread():
        correlation = every.T @ every / max(len(rows), 1)  # (P, P)
        for a in range(len(names)):
            for b in range(a):
                one, other = slice(ends[a], ends[a + 1]), slice(ends[b], ends[b + 1])
                if max(_told(correlation, one, other, len(rows)), _told(correlation, other, one, len(rows))) > SHARED:
                    found[names[a]] += (names[b],)
                    found[names[b]] += (names[a],)
    return {name: others for name, others in found.items() if others}


def _standardised(inputs: Mapping[str, np.ndarray], parts: Parts, rows: np.ndarray) -> np.ndarray:
    """A column as (n, parts) of mean 0 and variance 1: numbers, and indicators of its frequent categories; none of a text."""
    found = []
    for name, axis, place in parts:
        if axis != 1 or inputs[name].ndim != 2:
            continue
        values = inputs[name][rows, place]
        if values.dtype.kind == "f":
            found.append(values.astype(np.float64))
        else:
            codes, times = np.unique(values, return_counts=True)
            frequent = codes[np.argsort(-times, kind="stable")][:FREQUENT]
            found += [(values == code).astype(np.float64) for code in frequent]
    kept = [values for values in found if values.std() > 1e-9]
    return np.stack([(v - v.mean()) / v.std() for v in kept], axis=1) if kept else np.zeros((len(rows), 0))


def _told(correlation: np.ndarray, by: slice, of: slice, count: int) -> float:
    """The largest share of variance of a part of `of` that a linear model of the parts of `by` explains, adjusted for their number."""
    within, across = correlation[by, by], correlation[by, of]
    parts = len(within)
    if count < 3 * parts + 3:
        return 0.0
    solved = np.linalg.solve(within + 1e-6 * np.eye(parts), across)
    share = float((across * solved).sum(axis=0).max())
    return 1 - (1 - share) * (count - 1) / (count - parts - 1)


def _components(related: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Columns that are related, at any number of removes, in their order."""
    found: list[list[str]] = []
    seen: set[str] = set()
    for first in related:
        if first in seen:
            continue
        members, asked = set[str](), [first]
        while asked:
            name = asked.pop()
            if name not in members:
                members.add(name)
                asked += related[name]
        seen |= members
        found.append([name for name in related if name in members])
    return found
