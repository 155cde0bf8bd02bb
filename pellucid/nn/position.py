"""Positional embeddings: learned, sinusoidal and rotary (floor 4).

The position of the first token can be given, as a number or a 0-d Tensor. It is needed where a sequence is generated token by
token with a `KeyValueCache`.

Shapes: B batch, T tokens, C channels, H heads, D channels of a head, S positions in a table.
"""

from __future__ import annotations

import numpy as np

from ..core.value import DTypeLike
from ..creation import arange, empty, tensor
from ..errors import IndexRangeError, OptionError, ShapeError, format_shape
from ..ops.index import check_index, take
from ..tensor import Parameter, Tensor
from . import init
from .linear import check_input, positive_int
from .module import Module


def _rows(table: Tensor, positions: int | Tensor, count: int, owner: str) -> Tensor:
    """Rows of a table (S, C).

    positions: a number or a 0-d Tensor for `count` rows from this position on, (count, C); or a Tensor (*) with the position
        of each row, (*, C).
    owner: the layer that an error message names. Raises IndexRangeError for a position that the table does not have.
    """
    size = table.shape[0]
    message = f"{owner}: position {{}}; expected 0 to {size - 1}; make it for longer sequences, or cut this one"
    if not isinstance(positions, Tensor):
        end = int(positions) + count
        if positions < 0 or end > size:
            raise IndexRangeError(message.format(positions if positions < 0 else end - 1))
        return table[positions:end]
    indices = positions.long() if positions.ndim else positions.long() + arange(count)
    return take(table, check_index(indices, low=0, high=size, spare=None, message=message))


class _PositionalEmbedding(Module):
    """Base of embeddings that are added to x: one row of `weight` for each position. A subclass makes `weight`."""

    weight: Tensor

    def forward(self, x: Tensor, offset: int | Tensor = 0) -> Tensor:
        """x (*, T, C) plus the rows of positions offset ... offset + T - 1."""
        check_input(x, self.weight.dtype)
        if x.ndim < 2 or x.shape[-1] != self.weight.shape[1]:
            raise ShapeError(
                f"input {format_shape(x.shape)}; expected (*, T, {self.weight.shape[1]}); check the channels"
            )
        return x + _rows(self.weight, offset, x.shape[-2], type(self).__name__)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.weight.shape))


class LearnedPositionalEmbedding(_PositionalEmbedding):
    """x (*, T, C) plus a row of `weight` (length, C) for each position.

    `weight` is trained. It is initialised from a normal distribution with standard deviation 0.02.
    """

    def __init__(self, length: int, dim: int, *, dtype: DTypeLike | None = None) -> None:
        super().__init__()
        sizes = (
            positive_int(length, "LearnedPositionalEmbedding", "length"),
            positive_int(dim, "LearnedPositionalEmbedding", "dim"),
        )
        self.weight = Parameter(empty(*sizes, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.normal_(self.weight, std=0.02)


class SinusoidalPositionalEmbedding(_PositionalEmbedding):
    """x (*, T, C) plus sines and cosines of the position (Vaswani et al. 2017, section 3.5).

    Channels 2i and 2i + 1 are the sine and the cosine of position / base^(2i / C). `weight` (length, C) is not trained and
    not saved.
    """

    def __init__(self, length: int, dim: int, base: float = 10_000, *, dtype: DTypeLike | None = None) -> None:
        super().__init__()
        angles = _angles("SinusoidalPositionalEmbedding", length, dim, base)  # (S, C / 2)
        waves = np.stack([np.sin(angles), np.cos(angles)], 2).reshape(len(angles), -1)
        self.register_buffer("weight", tensor(waves, dtype=dtype or np.float32), persistent=False)


class RotaryEmbedding(Module):
    """Rotary position embedding of queries or keys (B, T, H, D) (Su et al. 2021, arXiv 2104.09864).

    Each pair of channels 2i and 2i + 1 is rotated by the angle position / base^(2i / D). The dot product of a query and a
    key then depends on the difference of their positions only.
    """

    def __init__(
        self, dim: int, max_seq_len: int = 4096, base: float = 10_000, *, dtype: DTypeLike | None = None
    ) -> None:
        super().__init__()
        self.dim, self.max_seq_len, self.base = dim, max_seq_len, base
        pair_angles = _angles("RotaryEmbedding", max_seq_len, dim, base)  # (S, D / 2)
        angles = np.repeat(pair_angles, 2, axis=1)  # (S, D)
        sines = np.sin(angles) * np.tile([-1.0, 1.0], dim // 2)  # with the signs that `forward` needs
        self.register_buffer("cosines", tensor(np.cos(angles), dtype=dtype or np.float32), persistent=False)
        self.register_buffer("sines", tensor(sines, dtype=dtype or np.float32), persistent=False)

    def forward(self, x: Tensor, *, input_pos: int | Tensor = 0) -> Tensor:
        """input_pos: the position of the first token, a number or a 0-d Tensor; or of every token, (T,) or (B, T)."""
        check_input(x, self.cosines.dtype)
        if x.ndim != 4 or x.shape[3] != self.dim:
            raise ShapeError(f"input {format_shape(x.shape)}; expected (B, T, H, {self.dim}); transpose heads and time, "
                             "or check dim")  # fmt: skip
        cosines, sines = (
            _rows(table, input_pos, x.shape[1], "RotaryEmbedding").unsqueeze(-2) for table in (self.cosines, self.sines)
        )  # (T, 1, D) or (B, T, 1, D)
        # A pair (a, b) becomes (a cos - b sin, b cos + a sin). `swapped` is a copy of x; with it, the step compiles to
        # faster code.
        swapped = x.unflatten(3, (-1, 2)).flip(4).flatten(3)  # (b, a) for each pair (a, b)
        return x * cosines + swapped * sines

    def extra_repr(self) -> str:
        return f"{self.dim}, max_seq_len={self.max_seq_len}, base={self.base}"


def _angles(owner: str, length: int, dim: int, base: float) -> np.ndarray:
    """The angles position / base^(2i / dim), for each position and each pair i of channels: (length, dim / 2)."""
    if positive_int(dim, owner, "dim", 2) % 2:
        raise OptionError(f"{owner}: dim={dim}; expected an even number, channels go in pairs; take {dim + 1}")
    positions = np.arange(positive_int(length, owner, "length"))
    return np.outer(positions, float(base) ** (-np.arange(0, dim, 2) / dim))
