"""Data sets and batches (floor 4).

Reading files stands in the other modules of this folder, each imported by whoever needs it: DuckDB and scikit-learn take
longer to import than the whole library.
"""

from .loader import DataLoader, Dataset, Subset, TensorDataset, WindowDataset, default_collate, random_split

__all__ = ["DataLoader", "Dataset", "Subset", "TensorDataset", "WindowDataset", "default_collate", "random_split"]
