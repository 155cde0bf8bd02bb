"""The split into training, validation and test rows: seeded, stratified, the same on every machine (floor 4).

Only row numbers: nothing here sees an input. Random numbers are the library's own counter-based bits, so a split does not
change with NumPy's version.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..random import Generator

THREE_WAY = (0.70, 0.15, 0.15)  # train, validation, test
TWO_WAY = (0.85, 0.15)  # train, validation: the test rows are a file of their own
LEAST_TABLE_ROWS = 10  # of a table, which is scored over folds
LEAST_ROWS = 20  # examples in all; with fewer there is nothing to hold back
BANDS = 10  # a regression target is stratified by its deciles


def split_rows(target: np.ndarray, task: str, seed: int, fractions: Sequence[float] = THREE_WAY) -> list[np.ndarray]:
    """Row numbers (int64, ascending) of each part, the first part being the training rows.

    `target` (N,) is stratified: by class, or by tenths of its range of ranks for "regression". Part k > 0 has exactly
    round(N * fractions[k]) rows, and every class keeps at least one row in the first part.
    """
    strata = _bands(target) if task in ("regression", "counts") else target
    bits = Generator(seed).bits(len(strata)).array  # (N,) uint32
    order = np.lexsort((bits, strata))  # by stratum, shuffled within
    first = np.concatenate([[True], strata[order][1:] != strata[order][:-1]])
    part = np.zeros(len(strata), dtype=np.int64)
    free = order[~first]  # the first of each stratum stays in training
    for k in range(len(fractions) - 1, 0, -1):
        chosen = _every(len(free), min(round(len(strata) * fractions[k]), len(free)))
        part[free[chosen]] = k
        free = free[~chosen]
    return [np.flatnonzero(part == k) for k in range(len(fractions))]


def _bands(target: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(target), dtype=np.int64)
    ranks[np.argsort(target, kind="stable")] = np.arange(len(target))
    return ranks * max(1, min(BANDS, len(target) // 2)) // len(target)  # a band keeps one row in training


def _every(length: int, count: int) -> np.ndarray:
    """A mask (length,) with exactly `count` True, evenly spread: neighbours in the order share a stratum."""
    steps = np.arange(length + 1) * count // max(length, 1)
    return np.asarray(steps[1:] > steps[:-1])
