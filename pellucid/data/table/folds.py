"""The folds of a table that is too small for one split: which rows train, validate and test in each (floor 4)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..split import TWO_WAY, split_rows

SMALL = 500  # rows below which one test part says too little
FOLDS = 5
VERY_SMALL = 100  # rows below which all folds are drawn again
REPEATS = 3


def fold_count(rows: int) -> int:
    """How many trainings the folds of a table of so many rows are."""
    return FOLDS * (REPEATS if rows < VERY_SMALL else 1)


def fold_note(rows: int) -> str:
    """What is told of a table that is scored over folds."""
    again = f", {REPEATS} times" if fold_count(rows) > FOLDS else ""
    return f"folds: under {SMALL} rows, so scored over {FOLDS} folds{again}; --set folds=0 for none"


def fold_rows(strata: np.ndarray, task: str, seed: int, units: np.ndarray | None = None) -> Iterator[list[np.ndarray]]:
    """Row numbers (int64, ascending) of training, validation and test, for each fold; every row is tested on once a repeat.

    strata, units: (N,) as for `split_rows`. A fold with an empty part, of a handful of rows with many classes, is left out.
    """
    everyone = np.arange(len(strata))
    own = _bands(strata) if task in ("regression", "counts") else strata
    for repeat in range(fold_count(len(strata)) // FOLDS):
        for held in split_rows(own, "classification", seed + repeat, [1 / FOLDS] * FOLDS, units):
            rest = np.setdiff1d(everyone, held)
            of_rest = None if units is None else units[rest]
            train, validation = split_rows(strata[rest], task, seed + repeat, TWO_WAY, of_rest)
            if len(held) and len(validation):
                yield [rest[train], rest[validation], held]


def bag_folds(folds: int, strata: np.ndarray, task: str, seed: int, units: np.ndarray | None = None) -> np.ndarray:
    """The fold of each row for bagging, int64 (N,); -1 for rows of a class of fewer rows than folds, which all networks learn.

    strata, units: (N,) as for `split_rows`.
    """
    own = _bands(strata) if task in ("regression", "counts") else strata
    found = np.full(len(strata), -1)
    for number, held in enumerate(split_rows(own, "classification", seed, [1 / folds] * folds, units)):
        found[held] = number
    _, which, counts = np.unique(own, return_inverse=True, return_counts=True)
    rare = counts[which] < folds
    if units is not None:
        rare = np.isin(units, units[rare])  # a unit stays whole
    if 2 * rare.sum() <= len(rare):  # where most rows are of rare classes, they are judged as all others
        found[rare] = -1
    return found


def _bands(values: np.ndarray) -> np.ndarray:
    """Bands of ten rows or more by rank, up to ten of them: int64 (N,)."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return ranks * max(1, min(10, len(values) // 10)) // len(values)
