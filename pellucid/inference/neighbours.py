"""The training examples that are most like an example, as its inputs say (floor 8).

Shapes: N training examples, K neighbours.
"""

from __future__ import annotations

import numpy as np

from ..data.problem import Inputs

SKIPPED = ("straight",)  # columns that stand in "numbers" too


def nearest(row: Inputs, known: Inputs, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The numbers (K,) of the nearest examples, and their distances (K,), the nearest first.

    row: inputs (1, ...).      known: inputs (N, ...).      Distance: the root of the summed squares of the differences, where
    two different categories, tokens or words differ by 1.
    """
    total = np.zeros(len(next(iter(known.values()))))
    for name, own in row.items():
        if name in SKIPPED or name not in known:
            continue
        own, others = np.asarray(own), np.asarray(known[name])
        rows = others.reshape(len(others), -1)
        mine = own.reshape(1, -1)
        if own.dtype.kind in "iu" and own.dtype != np.uint8:
            total += (rows != mine).sum(1)
        else:
            total += ((rows.astype(np.float32) - mine.astype(np.float32)) ** 2).sum(1)
    order = np.argsort(total, kind="stable")[:count]
    return order, np.sqrt(total[order])
