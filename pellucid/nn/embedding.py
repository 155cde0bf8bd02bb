"""Embeddings: a learned vector for each of V indices, alone or added up in bags (floor 4)."""

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


class _EmbeddingTable(Module):
    """What embeddings share: weight (V, C), which starts standard normal, and the check of an index."""

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None, dtype: DTypeLike | None
    ) -> None:
        super().__init__()
        self.num_embeddings = positive_int(num_embeddings, type(self).__name__, "num_embeddings")
        self.embedding_dim = positive_int(embedding_dim, type(self).__name__, "embedding_dim")
        if padding_idx is not None and (
            not isinstance(padding_idx, int) or not -num_embeddings <= padding_idx < num_embeddings
        ):
            raise OptionError(
                f"{type(self).__name__}: padding_idx={padding_idx}; expected {-num_embeddings} to {num_embeddings - 1}; "
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

    def _checked(self, index: Tensor) -> Tensor:
        """`index`, its numbers those of rows. Raises DTypeError and IndexRangeError."""
        check_input(index)
        if index.dtype.kind not in "iu":
            raise DTypeError(
                f"input {format_shape(index.shape)} is {index.dtype}; expected int64 row numbers, 0 to {self.num_embeddings - 1}; "
                "convert with .long()"
            )
        message = (f"input {format_shape(index.shape)} holds {{}}; expected row numbers 0 to {self.num_embeddings - 1}; "
                   "check the encoding, or make num_embeddings larger")  # fmt: skip
        return check_index(index, low=0, high=self.num_embeddings, spare=None, message=message)

    def _describe(self) -> str:
        return f"{type(self).__name__} {self.num_embeddings}→{self.embedding_dim}"

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Embedding(_EmbeddingTable):
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
        super().__init__(num_embeddings, embedding_dim, padding_idx, dtype)

    def forward(self, index: Tensor) -> Tensor:
        return F.embedding(self._checked(index), self.weight, self.padding_idx)  # (*, C)


class EmbeddingBag(_EmbeddingTable):
    """index int64 (B, L) -> (B, C): the mean or sum of the rows of weight (V, C) in each bag, PyTorch's.

    Or index (N,) with offsets (B,), where each bag begins; see `functional.embedding_bag`. mode: "mean" or "sum".
    include_last_offset: whether the last of the offsets is the end of the last bag. padding_idx: a row that starts at zero,
    is not trained, and is in no bag. Raises OptionError for another mode; PyTorch's "max" is not here.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        mode: str = "mean",
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, dtype)
        if mode not in ("mean", "sum"):
            raise OptionError(
                f'EmbeddingBag: mode={mode!r}; expected "mean" or "sum"; for a maximum, use Embedding and max'
            )
        self.mode = mode
        self.include_last_offset = include_last_offset

    def forward(self, index: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        return F.embedding_bag(self._checked(index), self.weight, offsets, mode=self.mode, per_sample_weights=per_sample_weights,
                               include_last_offset=self.include_last_offset, padding_idx=self.padding_idx)  # fmt: skip

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mode={self.mode!r}"
