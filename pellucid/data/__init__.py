"""Data sets and batches (floor 4).

Readers of files stand in the other modules of this folder and are imported where they are needed: DuckDB and scikit-learn
take longer to import than the whole library. `problem_from` is imported when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .loader import DataLoader, Dataset, Subset, TensorDataset, WindowDataset, default_collate, random_split

__all__ = [
    "DataLoader",
    "Dataset",
    "Subset",
    "TensorDataset",
    "WindowDataset",
    "default_collate",
    "problem_from",
    "random_split",
]

if TYPE_CHECKING:
    from .frames import problem_from


def __getattr__(name: str) -> Any:
    if name == "problem_from":
        from .frames import problem_from  # duckdb, narwhals

        return problem_from
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
