"""Recurrent networks, LSTM or GRU: one that writes text, one that says how a series of numbers goes on (floor 5).

    text     tokens (B, T) -> embedded (B, T, E) -> layers (B, T, H) -> logits (B, T, V) of each next token
    series   window (B, T, F) -> layers (B, T, H) -> its last position (B, H) -> (B, K)
                 \\------------- a straight line through the whole window, where asked for -----/

Shapes: B batch, T time, V vocabulary, E embedding size, H size of the last layer, F features, K outputs (1 for regression).
The recurrence itself is `nn.LSTM` and `nn.GRU`; what a series' features are is the preprocessor's business (`data/`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .. import nn
from ..creation import cat, empty
from ..errors import OptionError, suggestion
from ..grad_mode import no_grad
from ..tensor import Tensor
from .base import LanguageModel, Model, PredictionModel, check_kinds

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
INPUTS = ("text", "series")
READ = 4  # a text is judged in windows of so many contexts


@dataclass(frozen=True)
class Config:
    """What makes one recurrent network differ from another; plain values, so that it can be saved as JSON.

    layers: sizes of the layers, each reading the one before.      cell: a key of CELLS.      dropout: after each layer.
    embedding: E, numbers each token becomes.      context: tokens in a training window of text.
    shortcut: a series' answer also has a straight line through its window, a linear autoregression: for series that leave
    the range they were trained in, where the layers alone saturate.
    """

    layers: tuple[int, ...] = (256,)
    cell: str = "lstm"
    dropout: float = 0.0
    embedding: int = 64
    context: int = 128
    shortcut: bool = False

    def __post_init__(self) -> None:
        check_kinds(self)
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers or not all(isinstance(size, int) and size >= 1 for size in self.layers):
            shown = ",".join(map(str, self.layers))
            raise OptionError(f"layers: {shown or 'none'}; expected one whole number from 1 at least, the size of each layer; "
                              "write 256,256")  # fmt: skip
        if self.cell not in CELLS:
            raise OptionError(f"cell: {self.cell!r}; expected one of {', '.join(CELLS)}.{suggestion(self.cell, CELLS)}")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout: {self.dropout}; expected 0 up to, but not including, 1; write 0.1")
        for name in ("embedding", "context"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name}: {getattr(self, name)}; expected a whole number from 1; write 64")


class Layers(nn.Module):
    """Layers over (B, T, C), each reading the one before: (B, T, H), and the last state of each.

    The gate that keeps the past, the second of an LSTM and of a GRU, starts with a bias of 1, so that from the beginning
    a gradient reaches far back (Jozefowicz et al. 2015); the recurrent weights start orthogonal, each gate by itself.
    """

    def __init__(self, size: int, config: Config) -> None:
        super().__init__()
        cell = CELLS[config.cell]
        sizes = pairwise((size, *config.layers))
        self.layers = nn.ModuleList(cell(one, other, batch_first=True) for one, other in sizes)
        self.dropout = nn.Dropout(config.dropout)
        self.size = config.layers[-1]
        for layer in self.layers:
            self._start(layer)

    @staticmethod
    def _start(layer: Any) -> None:
        size, gates = layer.hidden_size, layer.kind.gates
        layer.weight_hh_l0.assign(cat([nn.init.orthogonal_(empty(size, size)) for _ in range(gates)]))
        with no_grad():
            layer.bias_ih_l0[size : 2 * size] = 1.0
        nn.init.zeros_(layer.bias_hh_l0)

    def forward(self, x: Tensor, state: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        last = []
        for i, layer in enumerate(self.layers):
            x, final = layer(x, None if state is None else state[i])
            x = self.dropout(x)
            last.append(final)
        return x, last


class Text(LanguageModel):
    """The network that writes. It is trained on windows that begin with an empty state, and judged with one that is warm."""

    judged_batch = 64

    def __init__(self, vocabulary: int, config: Config) -> None:
        super().__init__()
        self.vocabulary, self.context, self.warm = vocabulary, config.context, config.context
        self.embedding = nn.Embedding(vocabulary, config.embedding)
        self.recurrent = Layers(config.embedding, config)
        self.head = nn.Linear(self.recurrent.size, vocabulary)

    @property
    def judged_context(self) -> int:
        return READ * self.context

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.recurrent(self.embedding(tokens))[0])  # (B, T, V)

    def next_logits(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, state = self.recurrent(self.embedding(tokens), state)  # (B, T, H)
        return self.head(y[:, -1]), state


class Series(PredictionModel):
    """The network that goes on with a series: windows (B, T, F) -> (B,) in units of the target's deviation, or (B, K)."""

    order = ("series",)

    def __init__(self, steps: int, features: int, outputs: int, task: str, config: Config) -> None:
        super().__init__()
        self.task = task
        self.recurrent = Layers(features, config)
        self.shortcut = nn.Linear(steps * features, outputs, bias=False) if config.shortcut else None
        self.head = nn.Linear(self.recurrent.size, outputs)  # last, as the layer that answers
        if self.shortcut is not None:
            nn.init.zeros_(self.shortcut.weight)

    def forward(self, series: Tensor) -> Tensor:
        y = self.head(self.recurrent(series)[0][:, -1])  # (B, K)
        if self.shortcut is not None:
            y = y + self.shortcut(series.flatten(1))
        return y.squeeze(1) if self.task == "regression" else y


def build(inputs: dict[str, Any], outputs: int, task: str, config: Config) -> Model:
    """The network for `inputs`, a preprocessor's `input_spec()`; its weights come from the global random stream."""
    if "tokens" in inputs:
        return Text(inputs["tokens"], config)
    steps, features = inputs["series"]
    return Series(steps, features, outputs, task, config)
