"""The split into training, validation and test rows: seeded, stratified, the same on every machine (floor 4).

Only row numbers: nothing here sees an input. Rows of one unit (copies of a row, a patient's rows) stay on one side. Random numbers are the library's own counter-based bits, so a split does not
change with NumPy's version.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import DataError
from ..random import Generator

THREE_WAY = (0.70, 0.15, 0.15)  # train, validation, test
TWO_WAY = (0.85, 0.15)  # train, validation: the test rows are a file of their own
LEAST_TABLE_ROWS = 10  # of a table, which is scored over folds
LEAST_ROWS = 20  # examples in all; with fewer there is nothing to hold back
BANDS = 10  # a regression target is stratified by its deciles


def split_rows(
    target: np.ndarray,
    task: str,
    seed: int,
    fractions: Sequence[float] = THREE_WAY,
    units: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Row numbers (int64, ascending) of each part, the first part being the training rows.

    `target` (N,) is stratified: by class, or by tenths of its range of ranks for "regression". Part k > 0 has exactly
    round(N * fractions[k]) rows, and every class keeps at least one row in the first part.
    units: int64 (N,), a number for each row; rows of the same number come into the same part. Sizes then hold as nearly
    as units allow. Raises DataError for fewer units than parts.
    """
    strata = _bands(target) if task in ("regression", "counts") else target
    if units is not None:
        return _split_units(strata, units, seed, fractions)
    part = _assign(strata, Generator(seed).bits(len(strata)).array, fractions)
    return [np.flatnonzero(part == k) for k in range(len(fractions))]


def split_in_order(order: np.ndarray, fractions: Sequence[float] = THREE_WAY) -> list[np.ndarray]:
    """Row numbers (int64, ascending) of each part: the first rows by `order` (N,) train, the last ones test.

    Rows of equal order come into one part. Raises DataError where a part would be empty.
    """
    moments, rank = np.unique(order, return_inverse=True)
    if len(moments) < len(fractions):
        raise DataError(f"{len(moments)} different times; expected {len(fractions)} at least")
    before = np.concatenate([[0], np.cumsum(np.bincount(rank))])  # rows before each moment
    starts = [0]
    for k in range(1, len(fractions)):
        wanted = len(order) * sum(fractions[:k])
        latest = len(moments) - (len(fractions) - k)  # a moment must be left for each part after this
        nearest = int(np.argmin(np.abs(before - wanted)))
        starts.append(min(max(nearest, starts[-1] + 1), latest))
    part = np.searchsorted(starts, rank, side="right") - 1
    return [np.flatnonzero(part == k) for k in range(len(fractions))]


def _assign(strata: np.ndarray, bits: np.ndarray, fractions: Sequence[float]) -> np.ndarray:
    """The part of each of N: int64 (N,). Neighbours by stratum, then by random bits, are spread over the parts."""
    order = np.lexsort((bits, strata))  # by stratum, shuffled within
    first = np.concatenate([[True], strata[order][1:] != strata[order][:-1]])
    part = np.zeros(len(strata), dtype=np.int64)
    free = order[~first]  # the first of each stratum stays in training
    for k in range(len(fractions) - 1, 0, -1):
        chosen = _every(len(free), min(round(len(strata) * fractions[k]), len(free)))
        part[free[chosen]] = k
        free = free[~chosen]
    return part


def _split_units(strata: np.ndarray, units: np.ndarray, seed: int, fractions: Sequence[float]) -> list[np.ndarray]:
    """The parts where whole units move. A unit counts to the stratum that most of its rows are of."""
    _, stratum = np.unique(strata, return_inverse=True)
    _, first_row, unit, sizes = np.unique(units, return_index=True, return_inverse=True, return_counts=True)
    if len(sizes) < len(fractions):
        raise DataError(f"{len(sizes)} groups; expected {len(fractions)} at least, one for each part")
    own = _most_frequent(unit, stratum, len(sizes))
    bits = Generator(seed).bits(len(strata)).array[first_row]
    # Large units first, each to the part that lacks most rows: what follows evens out what they leave.
    order = np.lexsort((bits, own, -sizes))
    large = int(np.count_nonzero(sizes > max(1.0, len(strata) * min(fractions) / 20)))
    part, filled = np.zeros(len(sizes), dtype=np.int64), np.zeros(len(fractions))
    for u in order[:large].tolist():
        part[u] = int(np.argmax(np.array(fractions) - filled / len(strata)))
        filled[part[u]] += sizes[u]
    rest = np.sort(order[large:])
    if len(rest):
        left = np.maximum(np.array(fractions) * len(strata) - filled, 0)
        part[rest] = _assign(own[rest] * (sizes.max() + 1) + sizes[rest], bits[rest], list(left / left.sum()))
    _fill_empty(part, sizes, len(fractions))
    _train_on_every_class(part, unit, stratum)
    return [np.flatnonzero(part[unit] == k) for k in range(len(fractions))]


def _most_frequent(unit: np.ndarray, stratum: np.ndarray, count: int) -> np.ndarray:
    """The stratum that most rows of each unit are of, the lower of two: int64 (count,)."""
    width = int(stratum.max()) + 1
    pairs, times = np.unique(unit * width + stratum, return_counts=True)
    best = np.lexsort((-pairs, times))  # the last one written wins
    result = np.zeros(count, dtype=np.int64)
    result[pairs[best] // width] = pairs[best] % width
    return result


def _fill_empty(part: np.ndarray, sizes: np.ndarray, count: int) -> None:
    """Give a part without rows the smallest unit of the part that has most units."""
    for k in range(count):
        if not (part == k).any():
            others = np.flatnonzero(part == np.bincount(part, minlength=count).argmax())
            part[others[sizes[others].argmin()]] = k


def _train_on_every_class(part: np.ndarray, unit: np.ndarray, stratum: np.ndarray) -> None:
    """Move a unit into training for each class that has no row there, while others are left in its part."""
    for missing in np.setdiff1d(stratum, stratum[part[unit] == 0]).tolist():
        for u in np.unique(unit[stratum == missing]).tolist():
            if (part == part[u]).sum() > 1:
                part[u] = 0
                break


def _bands(target: np.ndarray) -> np.ndarray:
    ranks = np.empty(len(target), dtype=np.int64)
    ranks[np.argsort(target, kind="stable")] = np.arange(len(target))
    return ranks * max(1, min(BANDS, len(target) // 2)) // len(target)  # a band keeps one row in training


def _every(length: int, count: int) -> np.ndarray:
    """A mask (length,) with exactly `count` True, evenly spread: neighbours in the order share a stratum."""
    steps = np.arange(length + 1) * count // max(length, 1)
    return np.asarray(steps[1:] > steps[:-1])
