"""Data sets and batches (floor 4).

Readers of files stand in the other modules of this folder and are imported where they are needed: DuckDB and scikit-learn
take longer to import than the whole library.
"""

from .loader import DataLoader, Dataset, Subset, TensorDataset, WindowDataset, default_collate, random_split

__all__ = ["DataLoader", "Dataset", "Subset", "TensorDataset", "WindowDataset", "default_collate", "random_split"]
