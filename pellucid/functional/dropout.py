"""Dropout (floor 3)."""

from __future__ import annotations

from ..creation import where
from ..errors import OptionError
from ..random import Generator, keep_mask
from ..tensor import Tensor


def dropout(
    x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, generator: Generator | None = None
) -> Tensor:
    """Each number 0 with probability p, the others divided by 1 - p (Srivastava et al. 2014); x itself outside training."""
    if not 0 <= p <= 1:
        raise OptionError(f"dropout: p = {p}; expected a probability from 0 to 1; 0.1 to 0.5 are usual")
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0
    return where(keep_mask(x.shape, 1 - p, generator), x * (1 / (1 - p)), 0)
