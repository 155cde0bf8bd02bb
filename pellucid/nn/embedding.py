"""Embedding: a learned vector for each of V indices (floor 4)."""

from __future__ import annotations

from .. import functional as F
from ..core.value import DTypeLike
from ..creation import empty
from ..errors import DTypeError, OptionError, format_shape
from ..grad_mode import has_empty_weights
from ..ops.index import check_index
from ..tensor import DeviceLike, Parameter, Tensor
from . import init
from .linear import check_input, positive_int
from .module import Module


class Embedding(Module):
    """index int64 (*) -> (*, C): row `index` of weight (V, C), which starts standard normal.

    padding_idx: a row that starts at zero and is not trained.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__()
        self.num_embeddings = positive_int(num_embeddings, "Embedding", "num_embeddings")
        self.embedding_dim = positive_int(embedding_dim, "Embedding", "embedding_dim")
        if padding_idx is not None and (
            not isinstance(padding_idx, int) or not -num_embeddings <= padding_idx < num_embeddings
        ):
            raise OptionError(
                f"Embedding: padding_idx={padding_idx}; expected {-num_embeddings} to {num_embeddings - 1}; "
                "check the vocabulary"
            )
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = Parameter(empty(self.num_embeddings, self.embedding_dim, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.weight)
        if self.padding_idx is not None and not has_empty_weights():
            rows = self.weight.array.copy()
            rows[self.padding_idx] = 0
            self.weight.assign(rows)

    def forward(self, index: Tensor) -> Tensor:
        check_input(index)
        if index.dtype.kind not in "iu":
            raise DTypeError(
                f"input {format_shape(index.shape)} is {index.dtype}; expected int64 row numbers, 0 to {self.num_embeddings - 1}; "
                "convert with .long()"
            )
        message = (f"input {format_shape(index.shape)} holds {{}}; expected row numbers 0 to {self.num_embeddings - 1}; "
                   "check the encoding, or make num_embeddings larger")  # fmt: skip
        index = check_index(index, low=0, high=self.num_embeddings, spare=None, message=message)
        return F.embedding(index, self.weight, self.padding_idx)  # (*, C)

    def _describe(self) -> str:
        return f"{type(self).__name__} {self.num_embeddings}→{self.embedding_dim}"

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"
