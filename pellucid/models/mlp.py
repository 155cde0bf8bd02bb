"""The multi-layer perceptron (MLP), for images and tables (floor 5).

    images   (B, H, W) -> flattened (B, H*W) ---------------------------------\\
    pictures (B, C, H, W) uint8 -> standardized, flattened (B, C*H*W) ---------\\
    tables   numbers (B, F) -> each column embedded (B, F*D) -------------------> hidden layers -> (B, K)
             categories (B, C) -> each column embedded (B, C*D) ---------------/
             text (B, S, L), weights (B, S, L) -> summed (B, S*E) ------------/

Shapes: B batch, F numeric columns, C categorical columns (of a picture: channels), D embedding size, T bins, S columns of
text, L buckets of each, E their embedding size, K outputs (classes, or 1 for regression). The preprocessors in `data/` turn
a table into numbers, categories and buckets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import functional as F
from .. import nn
from ..creation import cat, tensor, zeros
from ..data.input_spec import ImageSpec, InputSpec, TableSpec
from ..errors import OptionError, suggestion
from ..grad_mode import no_grad
from ..nn.activation import ACTIVATIONS
from ..random import randn
from ..tensor import Tensor
from .base import check_field_types, wrong_spec
from .blocks.augmentation import Augmentation, ImageInput
from .heads.prediction import NUMERIC, PredictionModel

TEXT_DIM = 16  # E
NUMERIC_EMBEDDINGS = ("piecewise", "periodic", "plain")


@dataclass(frozen=True)
class Config:
    """Hyperparameters of an MLP; plain values, so that they can be saved as JSON.

    hidden_sizes: sizes of the hidden layers.        activation: a key of ACTIVATIONS.        dropout: after each hidden layer.
    numeric_embedding: of a table's numeric columns, "piecewise", "periodic", or "plain" for none.    embedding_dim: D.
    shift: the most pixels by which a training image is shifted each way, at random for each image and step.
    label_smoothing: share of a class label spread over all classes (Szegedy et al. 2015).
    """

    hidden_sizes: tuple[int, ...] = (128, 64)
    activation: str = "relu"
    dropout: float = 0.0
    numeric_embedding: str = "piecewise"
    embedding_dim: int = 8
    shift: int = 0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_field_types(self)
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        if not all(isinstance(size, int) and size >= 1 for size in self.hidden_sizes):
            shown = ",".join(map(str, self.hidden_sizes))
            raise OptionError(
                f"hidden_sizes: {shown}; expected whole numbers from 1, the size of each hidden layer; write 128,64"
            )
        for name, choices in (("activation", ACTIVATIONS), ("numeric_embedding", NUMERIC_EMBEDDINGS)):
            value = getattr(self, name)
            if value not in choices:
                raise OptionError(
                    f"{name}: {value!r}; expected one of {', '.join(choices)}.{suggestion(value, choices)}"
                )
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name}: {getattr(self, name)}; expected 0 up to, but not including, 1; write 0.1")
        for name, least in (("embedding_dim", 1), ("shift", 0)):
            if getattr(self, name) < least:
                raise OptionError(f"{name}: {getattr(self, name)}; expected a whole number from {least}; write {least}")


class FlattenedImage(nn.Module):
    """Images as rows (B, C*H*W), standardized and, in training, shifted by up to `shift` pixels: see `ImageInput`."""

    def __init__(self, inputs: ImageSpec, shift: int) -> None:
        super().__init__()
        self.image = ImageInput(inputs, Augmentation(shift=shift))
        self.size = self.image.channels * self.image.height * self.image.width

    def forward(self, image: Tensor) -> Tensor:
        return self.image(image).flatten(1)


class PiecewiseLinearEmbedding(nn.Module):
    """Numbers (B, F) -> (B, F*D): a linear function of each column, plus a change of slope in each of its T bins.

    Piecewise-linear encoding (Gorishniy et al. 2022, arXiv 2203.05556): bin t of a column gives 0 before it, 1 after it, and
    rises linearly inside. The changes of slope start at zero (Gorishniy et al. 2024, arXiv 2410.24210), so the embedding starts
    linear and learns to bend.
    """

    undecayed = ("bias", "bin_slopes")

    def __init__(self, bins: Sequence[Sequence[float]], dim: int) -> None:
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
        self.weight = nn.Parameter(nn.init.uniform_(zeros(len(bins), dim), -bound, bound))  # (F, D)
        self.bias = nn.Parameter(nn.init.uniform_(zeros(len(bins), dim), -bound, bound))  # (F, D)
        self.bin_slopes = nn.Parameter(zeros(len(bins), most, dim))  # (F, T, D)

    def forward(self, numbers: Tensor) -> Tensor:
        x = numbers.T.unsqueeze(-1)  # (F, B, 1)
        encoding = ((x - self.start.unsqueeze(1)) * self.scale.unsqueeze(1)).clamp(0, 1)  # (F, B, T)
        y = encoding @ self.bin_slopes + x * self.weight.unsqueeze(1) + self.bias.unsqueeze(1)  # (F, B, D)
        return y.transpose(0, 1).flatten(1)  # (B, F*D)

    def extra_repr(self) -> str:
        return f"{self.start.shape[0]} numbers, up to {self.start.shape[1]} bins, {self.dim} each"


class PeriodicEmbedding(nn.Module):
    """Numbers (B, F) -> (B, F*D): sines and cosines of learned frequencies, a linear layer for each column, ReLU.

    Periodic embedding (Gorishniy et al. 2022, arXiv 2203.05556): frequencies start normal with standard deviation `sigma`.
    """

    undecayed = ("frequency", "bias")

    def __init__(self, numbers: int, dim: int, frequencies: int = 16, sigma: float = 0.1) -> None:
        super().__init__()
        self.dim = dim
        self.size = numbers * dim
        bound = 1 / math.sqrt(2 * frequencies)
        self.frequency = nn.Parameter(randn(numbers, frequencies) * sigma)  # (F, N)
        self.weight = nn.Parameter(nn.init.uniform_(zeros(numbers, 2 * frequencies, dim), -bound, bound))  # (F, 2N, D)
        self.bias = nn.Parameter(nn.init.uniform_(zeros(numbers, dim), -bound, bound))  # (F, D)

    def forward(self, numbers: Tensor) -> Tensor:
        angle = numbers.T.unsqueeze(-1) * self.frequency.unsqueeze(1) * (2 * math.pi)  # (F, B, N)
        waves = cat([angle.sin(), angle.cos()], -1)  # (F, B, 2N)
        y = F.relu(waves @ self.weight + self.bias.unsqueeze(1))  # (F, B, D)
        return y.transpose(0, 1).flatten(1)  # (B, F*D)

    def extra_repr(self) -> str:
        return f"{self.frequency.shape[0]} numbers, {self.frequency.shape[1]} frequencies, {self.dim} each"


class PlainNumbers(nn.Module):
    """Numbers (B, F), unchanged."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.size = numbers

    def forward(self, numbers: Tensor) -> Tensor:
        return numbers


class CategoricalEmbedding(nn.Module):
    """Categories (B, C) -> (B, C*D): one embedding table for all columns, each column's rows after those of the one before."""

    def __init__(self, cardinalities: Sequence[int], dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.size = len(cardinalities) * dim
        first = np.concatenate([[0], np.cumsum(cardinalities)[:-1]]).astype(np.int64)
        self.register_buffer("first", tensor(first))  # (C,)
        self.table = nn.Embedding(int(sum(cardinalities)), dim)
        with no_grad():
            self.table.weight.mul_(1 / math.sqrt(dim))

    def forward(self, categories: Tensor) -> Tensor:
        return self.table(categories + self.first).flatten(1)  # (B, C*D)


class TextEmbedding(nn.Module):
    """Buckets and their weights (B, S, L) -> (B, S*E): the weighted sum of what is learned of each bucket (a linear text
    classifier's first layer, Joulin et al. 2017, arXiv 1607.01759).

    One table for all columns, each column's rows after those of the one before. The rows start at zero: a bucket that training
    hardly shows then says nothing.
    """

    def __init__(self, buckets: Sequence[int], dim: int = TEXT_DIM) -> None:
        super().__init__()
        self.size = len(buckets) * dim
        first = np.concatenate([[0], np.cumsum(buckets)[:-1]]).astype(np.int64)
        self.register_buffer("first", tensor(first[:, None]))  # (S, 1)
        self.table = nn.EmbeddingBag(int(sum(buckets)) + 1, dim, mode="sum")
        with no_grad():
            self.table.weight.mul_(0)

    def forward(self, text: Tensor, weights: Tensor) -> Tensor:
        rows = (text + self.first).flatten(0, 1)  # (B*S, L); padding has weight 0, whichever row it names
        bags = self.table(rows, per_sample_weights=weights.flatten(0, 1))  # (B*S, E)
        return bags.reshape(text.shape[0], self.size)  # (B, S*E)


class MLP(PredictionModel):
    """The network. `forward` takes the arrays that the preprocessor encodes, in its order, and gives (B, K).

    These are logits of K classes or labels. For one number the output is (B,): in standard deviations of the target, or of
    counts the logarithm of a rate.
    """

    def __init__(self, inputs: ImageSpec | TableSpec, outputs: int, task: str, config: Config) -> None:
        super().__init__()
        self.task, self.label_smoothing = task, config.label_smoothing
        self.embeddings = nn.ModuleDict(input_embeddings(inputs, config))
        self.input_names = tuple(array for name in self.embeddings for array in ARRAYS.get(name, (name,)))
        layers: list[nn.Module] = []
        size = sum(embedding.size for embedding in self.embeddings.values())
        for hidden in config.hidden_sizes:
            layers += [nn.Linear(size, hidden), ACTIVATIONS[config.activation]()]
            layers += [nn.Dropout(config.dropout)] if config.dropout else []
            size = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(size, outputs))

    def forward(self, *inputs: Tensor) -> Tensor:
        arrays = dict(zip(self.input_names, inputs, strict=True))
        rows = [
            embedding(*(arrays[array] for array in ARRAYS.get(name, (name,))))
            for name, embedding in self.embeddings.items()
        ]  # (B, *) each
        y = self.layers(rows[0] if len(rows) == 1 else cat(rows, 1))  # (B, K)
        return y.squeeze(1) if self.task in NUMERIC else y


ARRAYS = {"text": ("text", "text_weights")}  # what a module reads beside the array that it is named after


def input_embeddings(inputs: ImageSpec | TableSpec, config: Config) -> dict[str, nn.Module]:
    """One module for each array that the network reads, by the array's name in the preprocessor's encoding; see ARRAYS."""
    if isinstance(inputs, ImageSpec):
        return {"image": FlattenedImage(inputs, config.shift)}
    modules: dict[str, nn.Module] = {}
    if inputs.numbers:
        if config.numeric_embedding == "piecewise":
            modules["numbers"] = PiecewiseLinearEmbedding(inputs.number_bins, config.embedding_dim)
        elif config.numeric_embedding == "periodic":
            modules["numbers"] = PeriodicEmbedding(inputs.numbers, config.embedding_dim)
        else:
            modules["numbers"] = PlainNumbers(inputs.numbers)
    if inputs.categories:
        modules["categories"] = CategoricalEmbedding(inputs.categories, config.embedding_dim)
    if inputs.texts:
        modules["text"] = TextEmbedding(inputs.texts)
    return modules


def build(inputs: InputSpec, outputs: int, task: str, config: Config) -> MLP:
    """The network for `inputs`, a preprocessor's `input_spec()`; its weights come from the global random stream."""
    if not isinstance(inputs, ImageSpec | TableSpec):
        raise wrong_spec("mlp", inputs, ImageSpec, TableSpec)
    return MLP(inputs, outputs, task, config)
