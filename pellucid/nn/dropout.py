"""Dropout (floor 4)."""

from __future__ import annotations

from .. import functional as F
from ..errors import OptionError
from ..tensor import Tensor
from .module import Module


class Dropout(Module):
    """While training, each number 0 with probability p, the others divided by 1 - p (Srivastava et al. 2014)."""

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        super().__init__()
        if not isinstance(p, int | float) or not 0 <= p <= 1:
            raise OptionError(f"Dropout: p={p!r}; expected a probability from 0 to 1; 0.1 to 0.5 are usual")
        self.p, self.inplace = p, inplace

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"
