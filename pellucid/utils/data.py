"""The loader and data sets of `pellucid.data` under the name PyTorch's users import them from (floor 4)."""

from ..data.loader import DataLoader, Dataset, Subset, TensorDataset, default_collate, random_split

__all__ = ["DataLoader", "Dataset", "Subset", "TensorDataset", "default_collate", "random_split"]
