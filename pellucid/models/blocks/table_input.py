"""The columns of a table as rows of numbers that hidden layers read: embeddings of numbers, categories and text (floor 5).

A module with `copies` (M,) holds M sets of weights and gives (M, B, ...); the * in shapes below stands for M, or for nothing.

Shapes: B batch, F numeric columns, C categorical columns, D embedding size, T bins, S columns of text, L buckets of each,
E their embedding size. The preprocessors in `data/` turn a table into numbers, categories and buckets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ... import functional as F
from ... import nn
from ...creation import cat, tensor, zeros
from ...data.input_spec import TableSpec
from ...grad_mode import no_grad
from ...random import randn
from ...tensor import Tensor

TEXT_DIM = 16  # E
NUMERIC_EMBEDDINGS = ("piecewise", "periodic", "plain")
ARRAYS = {"text": ("text", "text_weights")}  # what a module reads beside the array that it is named after


class PiecewiseLinearEmbedding(nn.Module):
    """Numbers (B, F) -> (B, F*D): a linear function of each column, plus a change of slope in each of its T bins.

    Piecewise-linear encoding (Gorishniy et al. 2022, arXiv 2203.05556): bin t of a column gives 0 before it, 1 after it, and
    rises linearly inside. The changes of slope start at zero (Gorishniy et al. 2024, arXiv 2410.24210), so the embedding starts
    linear and learns to bend.
    """

    undecayed = ("bias", "bin_slopes")

    def __init__(self, bins: Sequence[Sequence[float]], dim: int, copies: Sequence[int] = ()) -> None:
        super().__init__()
        self.dim = dim
        self.size = len(bins) * dim
        most = max(1, *(len(edges) - 1 for edges in bins)) if bins else 1
        start, scale = np.zeros((len(bins), most)), np.zeros((len(bins), most))  # scale 0: padding, not a bin
        for f, edges in enumerate(bins):
            widths = np.diff(edges)
            start[f, : len(widths)] = edges[:-1]
            scale[f, : len(widths)] = 1 / np.maximum(widths, 1e-6)
        self.register_buffer("start", tensor(start.astype(np.float32)))  # (F, T)
        self.register_buffer("scale", tensor(scale.astype(np.float32)))  # (F, T)
        bound = 1 / math.sqrt(dim)
        shape = (*copies, len(bins), dim)
        self.weight = nn.Parameter(nn.init.uniform_(zeros(*shape), -bound, bound))  # (*, F, D)
        self.bias = nn.Parameter(nn.init.uniform_(zeros(*shape), -bound, bound))  # (*, F, D)
        self.bin_slopes = nn.Parameter(zeros(*copies, len(bins), most, dim))  # (*, F, T, D)

    def forward(self, numbers: Tensor) -> Tensor:
        x = numbers.T.unsqueeze(-1)  # (F, B, 1)
        encoding = ((x - self.start.unsqueeze(1)) * self.scale.unsqueeze(1)).clamp(0, 1)  # (F, B, T)
        y = encoding @ self.bin_slopes + x * self.weight.unsqueeze(-2) + self.bias.unsqueeze(-2)  # (*, F, B, D)
        return y.transpose(-3, -2).flatten(-2)  # (*, B, F*D)

    def extra_repr(self) -> str:
        return f"{self.start.shape[0]} numbers, up to {self.start.shape[1]} bins, {self.dim} each"


class PeriodicEmbedding(nn.Module):
    """Numbers (B, F) -> (B, F*D): sines and cosines of learned frequencies, a linear layer for each column, ReLU.

    Periodic embedding (Gorishniy et al. 2022, arXiv 2203.05556): frequencies start normal with standard deviation `sigma`.
    """

    undecayed = ("frequency", "bias")

    def __init__(
        self, numbers: int, dim: int, frequencies: int = 16, sigma: float = 0.1, copies: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.dim = dim
        self.size = numbers * dim
        bound = 1 / math.sqrt(2 * frequencies)
        self.frequency = nn.Parameter(randn(*copies, numbers, frequencies) * sigma)  # (*, F, N)
        slopes, shifts = zeros(*copies, numbers, 2 * frequencies, dim), zeros(*copies, numbers, dim)
        self.weight = nn.Parameter(nn.init.uniform_(slopes, -bound, bound))  # (*, F, 2N, D)
        self.bias = nn.Parameter(nn.init.uniform_(shifts, -bound, bound))  # (*, F, D)

    def forward(self, numbers: Tensor) -> Tensor:
        angle = numbers.T.unsqueeze(-1) * self.frequency.unsqueeze(-2) * (2 * math.pi)  # (*, F, B, N)
        waves = cat([angle.sin(), angle.cos()], -1)  # (*, F, B, 2N)
        y = F.relu(waves @ self.weight + self.bias.unsqueeze(-2))  # (*, F, B, D)
        return y.transpose(-3, -2).flatten(-2)  # (*, B, F*D)

    def extra_repr(self) -> str:
        return f"{self.frequency.shape[-2]} numbers, {self.frequency.shape[-1]} frequencies, {self.dim} each"


class PlainNumbers(nn.Module):
    """Numbers (B, F), unchanged; the same for each copy."""

    def __init__(self, numbers: int, copies: Sequence[int] = ()) -> None:
        super().__init__()
        self.size = numbers
        self.copies = tuple(copies)

    def forward(self, numbers: Tensor) -> Tensor:
        return numbers.expand(*self.copies, *numbers.shape)


class CategoricalEmbedding(nn.Module):
    """Categories (B, C) -> (B, C*D): one embedding table for all columns, each column's rows after those of the one before."""

    def __init__(self, cardinalities: Sequence[int], dim: int, copies: Sequence[int] = ()) -> None:
        super().__init__()
        self.dim = dim
        self.size = len(cardinalities) * dim
        self.register_buffer("first", tensor(first_rows(cardinalities, copies)))  # (*, C), or (*, 1, C)
        self.table = nn.Embedding(math.prod(copies) * int(sum(cardinalities)), dim)
        with no_grad():
            self.table.weight.mul_(1 / math.sqrt(dim))

    def forward(self, categories: Tensor) -> Tensor:
        return self.table(categories + self.first).flatten(-2)  # (*, B, C*D)


class TextEmbedding(nn.Module):
    """Buckets and their weights (B, S, L) -> (B, S*E): the weighted sum of what is learned of each bucket (a linear text
    classifier's first layer, Joulin et al. 2017, arXiv 1607.01759).

    One table for all columns, each column's rows after those of the one before. The rows start at zero: a bucket that training
    hardly shows then says nothing.
    """

    def __init__(self, buckets: Sequence[int], dim: int = TEXT_DIM, copies: Sequence[int] = ()) -> None:
        super().__init__()
        self.size = len(buckets) * dim
        self.copies = tuple(copies)
        self.register_buffer("first", tensor(first_rows(buckets, copies)[..., None]))  # (*, S, 1), or (*, 1, S, 1)
        self.table = nn.EmbeddingBag(math.prod(copies) * int(sum(buckets)) + 1, dim, mode="sum")
        with no_grad():
            self.table.weight.mul_(0)

    def forward(self, text: Tensor, weights: Tensor) -> Tensor:
        rows = text + self.first  # (*, B, S, L); padding has weight 0, whichever row it names
        length, shape = rows.shape[-1], rows.shape
        bags = self.table(
            rows.reshape(-1, length), per_sample_weights=weights.expand(shape).reshape(-1, length)
        )  # (*B*S, E)
        return bags.reshape(*self.copies, text.shape[0], self.size)  # (*, B, S*E)


def first_rows(sizes: Sequence[int], copies: Sequence[int] = ()) -> np.ndarray:
    """Where each column's rows begin in a table that has those of all columns, int64 (C,); with M copies (M, 1, C)."""
    first = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    for count in copies:
        first = first + (np.arange(count) * int(sum(sizes)))[:, None, None]
    return first


def table_embeddings(
    inputs: TableSpec, numeric_embedding: str, dim: int, copies: Sequence[int] = ()
) -> dict[str, nn.Module]:
    """One module for each array that a network reads of a table, by the array's name in the encoding; see ARRAYS.

    numeric_embedding: a word of NUMERIC_EMBEDDINGS.      dim: D.
    """
    modules: dict[str, nn.Module] = {}
    if inputs.numbers:
        if numeric_embedding == "piecewise":
            modules["numbers"] = PiecewiseLinearEmbedding(inputs.number_bins, dim, copies)
        elif numeric_embedding == "periodic":
            modules["numbers"] = PeriodicEmbedding(inputs.numbers, dim, copies=copies)
        else:
            modules["numbers"] = PlainNumbers(inputs.numbers, copies)
    if inputs.categories:
        modules["categories"] = CategoricalEmbedding(inputs.categories, dim, copies)
    if inputs.texts:
        modules["text"] = TextEmbedding(inputs.texts, copies=copies)
    return modules


def input_names(embeddings: Iterable[str]) -> tuple[str, ...]:
    """The arrays that the modules of these names read, in order."""
    return tuple(array for name in embeddings for array in ARRAYS.get(name, (name,)))


def embedded(embeddings: nn.ModuleDict, arrays: Mapping[str, Tensor]) -> Tensor:
    """The outputs of the modules side by side, (*, B, sizes)."""
    rows = [
        embedding(*(arrays[array] for array in ARRAYS.get(name, (name,)))) for name, embedding in embeddings.items()
    ]
    return rows[0] if len(rows) == 1 else cat(rows, -1)
