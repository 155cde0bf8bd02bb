"""Data sets and batches (floor 4).

Readers of files stand in the other modules of this folder and are imported where they are needed: DuckDB and scikit-learn
take longer to import than the whole library. `describe` and `problem_from` are imported when they are asked for.
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
    "describe",
    "problem_from",
    "random_split",
]

if TYPE_CHECKING:
    from .frames import describe, problem_from


def __getattr__(name: str) -> Any:
    if name in ("describe", "problem_from"):
        from . import frames  # duckdb, narwhals

        return getattr(frames, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
