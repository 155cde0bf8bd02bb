"""The multi-layer perceptron, for images and for tables: its configuration, network and loss (floor 5).

    images   (B, H, W) -> flat (B, H*W) ------------------------------------\\
    pictures (B, C, H, W) bytes -> by mean and deviation, flat (B, C*H*W) ---\\
    tables   numbers (B, F) -> each number embedded (B, F*D) -----------------> hidden layers -> (B, K)
             categories (B, C) -> each category embedded (B, C*D) ----------/

Shapes: B batch, F numbers, C categorical columns (of a picture: channels), D embedding size, T bins, K outputs (classes, or 1 for regression).
How a table becomes numbers and categories is the preprocessor's business (`data/`), training that of `training/`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import functional as F
from .. import nn
from ..creation import cat, tensor, zeros
from ..errors import OptionError, suggestion
from ..grad_mode import no_grad
from ..nn.activation import ACTIVATIONS
from ..random import randn
from ..tensor import Tensor
from .base import PredictionModel, check_kinds, joined
from .blocks.augmentation import Augmentation, ImageInput

NUMBERS = ("piecewise", "periodic", "plain")
INPUTS = ("table", "image")


@dataclass(frozen=True)
class Config:
    """What makes one MLP differ from another; plain values, so that it can be saved as JSON.

    layers: sizes of the hidden layers.        activation: a key of ACTIVATIONS.        dropout: after each hidden layer.
    numbers: how a table's numbers enter, "piecewise", "periodic" or "plain".    embedding: D, numbers each becomes.
    shift: images move by up to so many pixels each way while training, chosen anew for each image and step.
    label_smoothing: the share of a class label spread over all classes (Szegedy et al. 2015).
    """

    layers: tuple[int, ...] = (128, 64)
    activation: str = "relu"
    dropout: float = 0.0
    numbers: str = "piecewise"
    embedding: int = 8
    shift: int = 0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_kinds(self)
        object.__setattr__(self, "layers", tuple(self.layers))
        if not all(isinstance(size, int) and size >= 1 for size in self.layers):
            shown = ",".join(map(str, self.layers))
            raise OptionError(
                f"layers: {shown}; expected whole numbers from 1, the size of each hidden layer; write 128,64"
            )
        if self.activation not in ACTIVATIONS:
            raise OptionError(f"activation: {self.activation!r}; expected one of {', '.join(ACTIVATIONS)}."
                              f"{suggestion(self.activation, ACTIVATIONS)}")  # fmt: skip
        if self.numbers not in NUMBERS:
            raise OptionError(
                f"numbers: {self.numbers!r}; expected one of {', '.join(NUMBERS)}.{suggestion(self.numbers, NUMBERS)}"
            )
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise OptionError(f"{name}: {getattr(self, name)}; expected 0 up to, but not including, 1; write 0.1")
        if self.embedding < 1 or self.shift < 0:
            raise OptionError(f"embedding, shift: {self.embedding}, {self.shift}; expected at least 1 and 0")


class Pixels(nn.Module):
    """Images as rows (B, C*H*W), scaled and, while training, moved by up to `shift` pixels: see `Pictures`."""

    def __init__(self, inputs: dict[str, Any], shift: int) -> None:
        super().__init__()
        self.pictures = ImageInput(inputs, Augmentation(shift=shift))
        self.size = self.pictures.channels * self.pictures.height * self.pictures.width

    def forward(self, image: Tensor) -> Tensor:
        return self.pictures(image).flatten(1)


class PiecewiseNumbers(nn.Module):
    """Numbers (B, F) -> (B, F*D): a straight line in x, plus one slope of its own in each of T bins per column.

    Piecewise-linear encoding of Gorishniy et al. 2022 (arXiv 2203.05556): bin t of a column gives 0 before it, 1 after
    it, and rises inside. The bins' weights begin at zero, as in Gorishniy et al. 2024 (arXiv 2410.24210), so a network
    starts out straight and bends where the data asks for it.
    """

    def __init__(self, bins: list[list[float]], dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.size = len(bins) * dim
        most = max(1, *(len(edges) - 1 for edges in bins)) if bins else 1
        start, scale = np.zeros((len(bins), most)), np.zeros((len(bins), most))  # scale 0: a bin that is not there
        for f, edges in enumerate(bins):
            widths = np.diff(edges)
            start[f, : len(widths)] = edges[:-1]
            scale[f, : len(widths)] = 1 / np.maximum(widths, 1e-6)
        self.register_buffer("start", tensor(start.astype(np.float32)))  # (F, T)
        self.register_buffer("scale", tensor(scale.astype(np.float32)))  # (F, T)
        bound = 1 / math.sqrt(dim)
        self.weight = nn.Parameter(nn.init.uniform_(zeros(len(bins), dim), -bound, bound))  # (F, D)
        self.bias = nn.Parameter(nn.init.uniform_(zeros(len(bins), dim), -bound, bound))  # (F, D)
        self.bends = nn.Parameter(zeros(len(bins), most, dim))  # (F, T, D)

    def forward(self, numbers: Tensor) -> Tensor:
        x = numbers.T.unsqueeze(-1)  # (F, B, 1)
        inside = ((x - self.start.unsqueeze(1)) * self.scale.unsqueeze(1)).clamp(0, 1)  # (F, B, T)
        y = inside @ self.bends + x * self.weight.unsqueeze(1) + self.bias.unsqueeze(1)  # (F, B, D)
        return y.transpose(0, 1).flatten(1)  # (B, F*D)

    def extra_repr(self) -> str:
        return f"{self.start.shape[0]} numbers, up to {self.start.shape[1]} bins, {self.dim} each"


class PeriodicNumbers(nn.Module):
    """Numbers (B, F) -> (B, F*D): sines and cosines of learned frequencies, a layer of its own per column, ReLU.

    Periodic embeddings of Gorishniy et al. 2022 (arXiv 2203.05556): frequencies start normal with deviation `sigma`.
    """

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
    """Numbers (B, F) as they are."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.size = numbers

    def forward(self, numbers: Tensor) -> Tensor:
        return numbers


class Categories(nn.Module):
    """Categories (B, C) -> (B, C*D): one table for all columns, each column's rows after the last one's."""

    def __init__(self, cardinalities: list[int], dim: int) -> None:
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


class MLP(PredictionModel):
    """The network. `forward` takes the arrays of one preprocessor's encoding, in its order, and gives (B, K).

    K is the number of classes, their logits; for regression the output is (B,), in units of the target's deviation.
    """

    def __init__(self, inputs: dict[str, Any], outputs: int, task: str, config: Config) -> None:
        super().__init__()
        self.task, self.label_smoothing = task, config.label_smoothing
        self.parts = nn.ModuleDict(input_parts(inputs, config))
        self.order = tuple(self.parts)
        layers: list[nn.Module] = []
        size = sum(part.size for part in self.parts.values())
        for hidden in config.layers:
            layers += [nn.Linear(size, hidden), ACTIVATIONS[config.activation]()]
            layers += [nn.Dropout(config.dropout)] if config.dropout else []
            size = hidden
        self.layers = nn.Sequential(*layers, nn.Linear(size, outputs))

    def forward(self, *inputs: Tensor) -> Tensor:
        rows = [self.parts[name](x) for name, x in zip(self.order, inputs, strict=True)]
        y = self.layers(joined(rows))  # (B, K)
        return y.squeeze(1) if self.task == "regression" else y


def input_parts(inputs: dict[str, Any], config: Config) -> dict[str, nn.Module]:
    """One module for each array the network reads, by the array's name in the preprocessor's encoding."""
    parts: dict[str, nn.Module] = {}
    if "image" in inputs:
        parts["image"] = Pixels(inputs, config.shift)
    if inputs.get("numbers"):
        if config.numbers == "piecewise":
            parts["numbers"] = PiecewiseNumbers(inputs["number_bins"], config.embedding)
        elif config.numbers == "periodic":
            parts["numbers"] = PeriodicNumbers(inputs["numbers"], config.embedding)
        else:
            parts["numbers"] = PlainNumbers(inputs["numbers"])
    if inputs.get("categories"):
        parts["categories"] = Categories(inputs["categories"], config.embedding)
    return parts


def build(inputs: dict[str, Any], outputs: int, task: str, config: Config) -> MLP:
    """The network for `inputs`, a preprocessor's `input_spec()`; its weights come from the global random stream."""
    return MLP(inputs, outputs, task, config)
