"""PyTorch's `torch.utils`, as far as tutorials need it: `utils.data` (floor 5)."""

from . import data

__all__ = ["data"]
