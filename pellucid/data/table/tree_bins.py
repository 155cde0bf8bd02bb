"""The edges of bins where a small tree on the target would cut a column, for tables of many rows (floor 4).

Bins of equal numbers of rows are wasted on a value that fills most rows, such as zero. A tree of one column puts them where the
target changes (target-aware piecewise-linear encoding, Gorishniy et al. 2022, arXiv 2203.05556).
"""

from __future__ import annotations

import numpy as np
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from .preprocess import TablePreprocessor

MANY = 10_000  # training rows from which trees are fitted
LEAVES, ROWS_A_LEAF = 48, 8
MOST_ROWS = 50_000  # that a tree is fitted to, evenly spread
NARROWEST = 1e-4  # a bin, in scaled numbers


def cut_by_trees(preprocessor: TablePreprocessor, numbers: np.ndarray, target: np.ndarray) -> None:
    """Give each column of numbers the bins of its tree. numbers: the training rows as encoded, (N, F); target: (N,)."""
    rows = np.linspace(0, len(target) - 1, min(len(target), MOST_ROWS)).astype(np.int64)
    kind = DecisionTreeClassifier if preprocessor.task == "classification" else DecisionTreeRegressor
    place = 0
    for _, column in preprocessor.scaled_columns():
        x = numbers[rows, place].astype(np.float64)
        tree = kind(max_leaf_nodes=LEAVES, min_samples_leaf=ROWS_A_LEAF, random_state=0).fit(x[:, None], target[rows])
        cuts = tree.tree_.threshold[tree.tree_.feature >= 0]
        edges = np.unique(np.concatenate([column.bins[:1], cuts, column.bins[-1:]]).astype(np.float32))
        edges = edges[np.concatenate([[True], np.diff(edges) > NARROWEST])]
        if len(edges) > 1:
            column.bins = [float(edge) for edge in edges]
        place += 2 if column.missing_indicator else 1
