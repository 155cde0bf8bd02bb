"""PyTorch's `torch.utils`, as far as tutorials need it: `utils.data` (floor 4)."""

from . import data

__all__ = ["data"]
