"""Rows that nearly repeat others: rounded anew, with noise added, or different in one column of many (floor 4).

In a cloud of D dimensions (d1 / d2)^D is even between 0 and 1 by chance, d1 and d2 being the distances of a row to its
nearest and second nearest one (Facco et al. 2017). A copy is much nearer than that: far more rows than the share t then have
a value below t. No unit of distance enters, so that neighbours in a dense cloud are no copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Places = Callable[[np.ndarray, int | None], np.ndarray]  # of rows (n,) in space (n, columns), or in one column alone

BLOCK = 2000  # rows that are compared with one another
MOST_AXES = 8  # columns that rows are halved by
LEAST = 20  # rows
NEIGHBOURS = 10
MOST_COPIES = 3  # beside a row
SHARES = np.array([0.005, 0.01, 0.02, 0.05, 0.1])
MORE_THAN_CHANCE = 3.0
SURPLUS = 0.03  # of the rows, beyond that
FEWEST = 6  # rows
FINE = 0.3  # of the rows, or FINE_VALUES: so many different values make a column fine
FINE_VALUES = 100
STILL_COPIES = 4.0  # times as many rows as by chance, up to where single ones are taken for copies


def near_copies(rows: np.ndarray, places: Places) -> np.ndarray | None:
    """int64 (N,), equal for those of `rows` that nearly repeat one another; None where chance makes neighbours as near."""
    sample = places(rows[:: max(1, len(rows) // BLOCK)], None)
    axes = np.argsort([-len(np.unique(column)) for column in sample.T], kind="stable")[:MOST_AXES]  # the finest columns
    halving = Halving(rows, places, axes.tolist())
    blocks = [rows] if len(rows) <= BLOCK else [rows[own] for own in halving.some_blocks()]
    shares = [found for block in blocks if (found := _share(places(block, None))) is not None]
    if not shares or 2 * len(shares) < len(blocks):
        return None
    share = max(shares)
    units = np.arange(len(rows))
    for own in halving.blocks(np.arange(len(rows))):
        for members in _copies(places(rows[own], None), share):
            units[own[members]] = own[members].min(axis=1, keepdims=True)
    return units


def _share(x: np.ndarray) -> float | None:
    """The largest share of SHARES below which most rows are copies; None where there are none. x: (N, columns).

    Coarse columns make near neighbours of some rows and far ones of others. So there must be far more near ones than where
    the fine columns are shuffled as well.
    """
    fine = [c for c in range(x.shape[1]) if len(np.unique(x[:, c])) >= min(FINE * len(x), FINE_VALUES)]
    if len(x) < LEAST or not fine:
        return None
    found = _shares(x)
    if not any(_exceeds(f, share, len(x)) for f, share in zip(found, SHARES, strict=True)):
        return None
    shuffled, rng = x.copy(), np.random.default_rng(0)
    for c in fine:
        shuffled[:, c] = rng.permutation(x[:, c])
    usual = np.maximum(_shares(shuffled), SHARES)
    if not any(_exceeds(f, share, len(x)) for f, share in zip(found, usual, strict=True)):
        return None
    return max(float(s) for f, u, s in zip(found, usual, SHARES, strict=True) if f >= min(STILL_COPIES * u, found[0]))


def _shares(x: np.ndarray) -> np.ndarray:
    """Of the rows, how many have a value below each of SHARES."""
    chance = _closed_sets(x)[1].min(axis=1)
    return np.array([float(np.mean(chance <= share)) for share in SHARES])


def _exceeds(found: float, usual: float, count: int) -> bool:
    return found * count >= FEWEST and found >= MORE_THAN_CHANCE * usual + SURPLUS


def _copies(x: np.ndarray, share: float) -> Iterator[np.ndarray]:
    """Sets of rows that are copies of one another, (sets, rows of each)."""
    if len(x) < LEAST:
        return
    nearest, chance = _closed_sets(x)
    for k in range(MOST_COPIES, 0, -1):
        rows = np.flatnonzero(chance[:, k - 1] <= share)
        yield np.column_stack([rows, nearest[rows, :k]])


def _closed_sets(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, k) the nearest rows of each, and (N, MOST_COPIES) how likely its 1, 2, ... nearest are so near by chance.

    Only where they are the nearest of one another as well; else 1.
    """
    nearest, distance = _nearest(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        steps = np.log(distance[:, 1:] / distance[:, :-1]) * np.arange(1, distance.shape[1])
    beyond = steps[:, MOST_COPIES + 1 :]
    beyond = beyond[np.isfinite(beyond)]
    dimension = 1 / max(float(beyond.mean()), 1e-9) if len(beyond) else 1.0
    chance = np.ones((len(x), MOST_COPIES))
    for k in range(1, MOST_COPIES + 1):
        members = np.sort(np.column_stack([np.arange(len(x)), nearest[:, :k]]), axis=1)
        _, of, size = np.unique(members, axis=0, return_inverse=True, return_counts=True)
        closed = size[of.reshape(-1)] == k + 1
        with np.errstate(over="ignore"):
            chance[closed, k - 1] = np.exp(-np.nan_to_num(steps[closed, k - 1], nan=0.0) * dimension)
    return nearest, chance


def _nearest(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, NEIGHBOURS) row numbers of the nearest, and their distances, ascending."""
    squares = (x**2).sum(axis=1)
    all_pairs = squares[:, None] + squares - 2 * (x @ x.T)
    np.fill_diagonal(all_pairs, np.inf)
    k = min(NEIGHBOURS, len(x) - 1)
    nearest = np.argpartition(all_pairs, k - 1, axis=1)[:, :k]
    distance = np.empty(nearest.shape)
    for i in range(k):  # anew, since differences of squares lose digits
        distance[:, i] = np.sqrt(((x[nearest[:, i]] - x) ** 2).sum(axis=1))
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(nearest, order, axis=1), np.take_along_axis(distance, order, axis=1)


# ---- blocks of many rows -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Halving:
    """Blocks of neighbours, at most BLOCK positions in `rows` in each: halves by one of `axes` after another."""

    rows: np.ndarray
    places: Places
    axes: list[int]

    def blocks(self, own: np.ndarray, depth: int = 0) -> Iterator[np.ndarray]:
        if len(own) <= BLOCK:
            yield own
            return
        for half in self._halves(own, depth):
            yield from self.blocks(half, depth + 1)

    def some_blocks(self) -> Iterator[np.ndarray]:
        """One block on either side of the first halving, without making the others."""
        for own in self._halves(np.arange(len(self.rows)), 0):
            depth = 1
            while len(own) > BLOCK:
                own = self._halves(own, depth)[depth % 2]
                depth += 1
            yield own

    def _halves(self, own: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        values = self.places(self.rows[own], self.axes[depth % len(self.axes)])[:, 0]
        order = np.argpartition(values, len(own) // 2)
        return own[order[: len(own) // 2]], own[order[len(own) // 2 :]]
