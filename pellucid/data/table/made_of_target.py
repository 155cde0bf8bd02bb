"""Columns that are made of the target: parts of its sum, the target of the next row, its mean by category (floor 4).

Each is an identity that chance does not make, so it is looked for in all rows of the file. What is found is told, and left to
the user to drop.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from ...threads import one_thread
from .leaks import Probe

UNEXPLAINED = 1e-4  # of the target's variance, by the columns whose sum it is
MOST_SUMMED = 100  # columns that are tried
MOST_PARTS = 5  # of a sum
LEAST_SHARE = 0.01  # of the target's deviation, that a part brings
ROWS_A_COLUMN = 3
SAME = 0.99  # of the rows, in which a column is the target of the next one
BEYOND = 0.1  # of the rows, by which that must exceed chance, and those in which it is the row's own target
LEAST_ROWS = 20
MEANS = 0.95  # of the rows, whose value is the mean target of all that share it
LEAST_MEANS = 3  # different ones
SHARING = 0.5  # of the rows, that share their value with another
NEAR = 1e-3  # deviations of the target, by which a mean may be rounded
MOST_ROWS = 200_000
MOST_CLASSES = 10


@dataclass(frozen=True)
class Sum:
    """Columns of which the target is a sum. words: as `casual + registered`, or their names where they are weighted."""

    positions: list[int]
    words: str


def find_sum(probe: Probe, columns: Sequence[int]) -> Sum | None:
    """Two to MOST_PARTS of `columns` of which a number is the weighted sum; None where others are not left, or there are none."""
    if probe.task != "regression" or len(columns) > MOST_SUMMED:
        return None
    found = [(p, values) for p in columns if (values := probe.values(p)) is not None and np.isfinite(values).all()]
    found = [(p, values) for p, values in found if values.std() > 0]
    deviation = float(probe.target.std())
    if len(found) < 2 or deviation == 0 or len(probe) < ROWS_A_COLUMN * (len(found) + 1):
        return None
    x = np.stack([values for _, values in found], axis=1)
    weights = _exact(probe, x)
    if weights is None:
        return None
    brings = np.abs(weights) * x.std(axis=0) / deviation
    kept = [k for k in np.argsort(-brings, kind="stable").tolist() if brings[k] > LEAST_SHARE]
    if not 2 <= len(kept) <= MOST_PARTS or len(kept) >= len(columns):
        return None
    kept = sorted(kept)
    weights = _exact(probe, x[:, kept])
    if weights is None:
        return None
    names = [probe.table.names[found[k][0]] for k in kept]
    return Sum([found[k][0] for k in kept], _sum_words(names, weights))


def _exact(probe: Probe, x: np.ndarray) -> np.ndarray | None:
    """The weights (columns,) of a sum that is the target, learned on some of the rows and true of the others; else None."""
    known = probe.fold != 0
    middle, spread = x[known].mean(axis=0), x[known].std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    mean = probe.target[known].mean()
    scaled = (x - middle) / spread
    with one_thread():
        weights = np.linalg.lstsq(scaled[known], probe.target[known] - mean, rcond=1e-10)[0]
        left = probe.target[~known] - mean - scaled[~known] @ weights
    variance = float(probe.target.var())
    return np.asarray(weights / spread) if float((left**2).mean()) <= UNEXPLAINED * variance else None


def _sum_words(names: Sequence[str], weights: np.ndarray) -> str:
    if not np.allclose(np.abs(weights), 1, atol=0.01):
        return f"a weighted sum of {', '.join(names[:-1])} and {names[-1]}"
    order = np.argsort(-weights, kind="stable").tolist()  # what is added first
    words = "".join(f" {'+' if weights[k] > 0 else '-'} {names[k]}" for k in order)
    return words.removeprefix(" + ").strip()


def next_targets(probe: Probe, columns: Sequence[int], target: int) -> list[int]:
    """The columns that hold the target of the row below, which is not known yet where rows stand in time."""
    table = probe.whole
    if table.drawn_from is not None or len(table) < LEAST_ROWS:
        return []
    cells = table.columns[target]
    usual = float((np.unique(cells.astype(str), return_counts=True)[1] ** 2).sum()) / len(cells) ** 2
    numbers, found = table.parsed(target), []
    for position in columns:
        own = table.parsed(position)
        if (own is None) != (numbers is None):
            continue
        x, y = (table.columns[position], cells) if own is None or numbers is None else (own[0], numbers[0])
        below = float(np.mean(x[:-1] == y[1:]))
        if below >= SAME and below > max(usual, float(np.mean(x == y))) + BEYOND:
            found.append(position)
    return found


def target_means(probe: Probe, columns: Sequence[int], target: int, without: Collection[int] = ()) -> list[int]:
    """The columns in which each value is the mean of the target over the rows that share it, as of their category.

    Of classes it is the share of one of them.
    """
    table = probe.whole
    if len(table) > MOST_ROWS or table.drawn_from is not None:
        return []
    if probe.task == "regression":
        wanted = table.numbers_and_strays(target)[0][:, None]
    else:
        labels = np.unique(table.columns[target].astype(str), return_inverse=True)[1].reshape(-1)
        wanted = np.eye(int(labels.max()) + 1)[labels] if labels.max() < MOST_CLASSES else np.zeros((len(labels), 0))
    found = []
    for position in columns:
        own = table.parsed(position) if position not in without else None
        if own is not None and not len(own[1]) and np.isfinite(own[0]).all() and _holds_means(own[0], wanted):
            found.append(position)
    return found


def _holds_means(values: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether values (N,) are the means of one column of `wanted` (N, K) over the rows with the same value."""
    different, of, times = np.unique(values, return_inverse=True, return_counts=True)
    of = of.reshape(-1)
    if len(different) < LEAST_MEANS or float((times[of] > 1).mean()) < SHARING:
        return False
    for column in wanted.T:
        mean = np.bincount(of, column) / times
        near = np.abs(mean - different) <= NEAR * max(float(column.std()), 1e-300)
        if float(near[of].mean()) >= MEANS:
            return True
    return False
