"""Ranks and their correlation (floor 6)."""

from __future__ import annotations

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each of `values` (N,), from 0; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of the ranks of `a` and `b` (N,); NaN where one of them is constant."""
    x, y = (one - one.mean() for one in (ranks(a), ranks(b)))
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / size if size else float("nan")
