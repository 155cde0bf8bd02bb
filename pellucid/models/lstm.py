"""Recurrent networks (LSTM or GRU): a language model for text and a forecaster for series (floor 5).

    text     tokens (B, T) -> embedding (B, T, E) -> recurrent layers (B, T, H) -> logits (B, T, V) of each next token
    series   window (B, T, F) -> recurrent layers (B, T, H) -> last position (B, H) -> (B, K)
                 \\-------- linear shortcut from the whole window, if asked for --------/
                 \\-------- seasonal autoregressions, fitted before and frozen --------/

Shapes: B batch, T time steps, V vocabulary size, E embedding size, H hidden size of the last layer, F features per time
step, K outputs (classes, or 1 for regression). The recurrent layers are `nn.LSTM` or `nn.GRU`. The preprocessor of
`data/series/` computes the features.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from .. import nn
from ..creation import cat, empty, tensor
from ..data.input_spec import InputSpec, SeriesSpec, TextSpec
from ..errors import OptionError, suggestion
from ..grad_mode import no_grad
from ..tensor import Tensor
from .base import Model, added, check_field_types, require_spec
from .blocks.linear_forecast import LinearForecast
from .heads.language import LanguageModel
from .heads.prediction import NUMERIC, PredictionModel

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
FAR = 3.0  # times what a linear forecast leaves: a change that is large
EVAL_CONTEXTS = 4  # an evaluation window is this many times as long as a training window


@dataclass(frozen=True)
class Config:
    """Hyperparameters of a recurrent network; plain values, so that they can be saved as JSON.

    hidden_sizes: sizes of the recurrent layers, first to last.
    cell: a key of CELLS.
    dropout: the probability, after each recurrent layer.
    embedding_dim: E, for text.
    context_length: tokens in a training window, for text.
    shortcut: add a linear function of the whole window (a linear autoregression) to the forecast, for series. It helps where
        values leave the range of the training data: recurrent layers saturate there, a linear function does not.
    linear: begin with the mean of seasonal autoregressions, for series. They are fitted before the first step; the network
        learns what they leave, and has a share in the answer where validation is better for it.
    """

    hidden_sizes: tuple[int, ...] = (256,)
    cell: str = "lstm"
    dropout: float = 0.0
    embedding_dim: int = 64
    context_length: int = 128
    shortcut: bool = False
    linear: bool = added(False)

    def __post_init__(self) -> None:
        check_field_types(self)
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        if not self.hidden_sizes or not all(isinstance(size, int) and size >= 1 for size in self.hidden_sizes):
            shown = ",".join(map(str, self.hidden_sizes))
            raise OptionError(f"hidden_sizes: {shown or 'none'}; expected at least one whole number from 1, the size of each layer; "
                              "write 256,256")  # fmt: skip
        if self.cell not in CELLS:
            raise OptionError(f"cell: {self.cell!r}; expected one of {', '.join(CELLS)}.{suggestion(self.cell, CELLS)}")
        if not 0 <= self.dropout < 1:
            raise OptionError(f"dropout: {self.dropout}; expected 0 up to, but not including, 1; write 0.1")
        for name in ("embedding_dim", "context_length"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name}: {getattr(self, name)}; expected a whole number from 1; write 64")


class RecurrentStack(nn.Module):
    """A stack of recurrent layers: (B, T, C) -> (B, T, H), and the last state of each layer.

    The bias of an LSTM's forget gate and of a GRU's update gate is initialised to 1. The state is then kept for many steps
    before anything is learned, so gradients reach far back (Jozefowicz et al. 2015). The recurrent weights of each gate are
    initialised orthogonal.
    """

    def __init__(self, size: int, config: Config) -> None:
        super().__init__()
        cell = CELLS[config.cell]
        sizes = pairwise((size, *config.hidden_sizes))
        self.layers = nn.ModuleList(cell(inputs, hidden, batch_first=True) for inputs, hidden in sizes)
        self.dropout = nn.Dropout(config.dropout)
        self.size = config.hidden_sizes[-1]
        for layer in self.layers:
            self._initialize(layer)

    @staticmethod
    def _initialize(layer: Any) -> None:
        size, gates = layer.hidden_size, layer.kind.gates
        layer.weight_hh_l0.assign(cat([nn.init.orthogonal_(empty(size, size)) for _ in range(gates)]))
        with no_grad():  # the forget gate and the update gate are both the second one
            layer.bias_ih_l0[size : 2 * size] = 1.0
        nn.init.zeros_(layer.bias_hh_l0)

    def forward(self, x: Tensor, state: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        states = []
        for i, layer in enumerate(self.layers):
            x, final = layer(x, None if state is None else state[i])
            x = self.dropout(x)
            states.append(final)
        return x, states


class RecurrentLanguageModel(LanguageModel):
    """The language model.

    Every window starts from a zero state. In evaluation, the first `burn_in` tokens of a window are read without being
    scored, so that the state is filled.
    """

    eval_batch_size = 64

    def __init__(self, vocab_size: int, config: Config) -> None:
        super().__init__()
        self.vocab_size, self.context_length, self.burn_in = vocab_size, config.context_length, config.context_length
        self.embedding = nn.Embedding(vocab_size, config.embedding_dim)
        self.recurrent = RecurrentStack(config.embedding_dim, config)
        self.head = nn.Linear(self.recurrent.size, vocab_size)

    @property
    def eval_context_length(self) -> int:
        return EVAL_CONTEXTS * self.context_length

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.recurrent(self.embedding(tokens))[0])  # (B, T, V)

    def next_logits(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        y, state = self.recurrent(self.embedding(tokens), state)  # (B, T, H)
        return self.head(y[:, -1]), state


class RecurrentForecaster(PredictionModel):
    """The forecaster: windows (B, T, F) -> standardised predictions (B,) for regression, or logits (B, K) for classification.

    steps: T.      features: F.      outputs: K.
    With `config.linear` the answer is that of `linear`, and `share` of what the recurrent layers add, which is in units of
    `spread`, the standard deviation of what the linear forecast leaves. The network alone is trained. It reads the past relative
    to the last value too, in those units: so it knows again what happens at another level.
    """

    input_names = ("series",)

    def __init__(self, steps: int, features: int, outputs: int, task: str, config: Config) -> None:
        super().__init__()
        self.task = task
        self.recurrent = RecurrentStack(features + 1 if config.linear else features, config)
        self.shortcut = nn.Linear(steps * features, outputs, bias=False) if config.shortcut else None
        if config.linear and task != "regression":
            raise OptionError(f"linear: a series is learned as {task}; expected regression; write linear = false")
        self.linear = LinearForecast(steps, features) if config.linear else None
        if config.linear:
            self.register_buffer("share", tensor(np.float32(1)))
            self.register_buffer("spread", tensor(np.float32(1)))
        # Registered last: Muon and fine-tuning take the last layer of a network for the output layer.
        self.head = nn.Linear(self.recurrent.size, outputs)
        if self.shortcut is not None:
            nn.init.zeros_(self.shortcut.weight)
        if self.linear is not None:  # then the first answer is the linear one
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(self, series: Tensor) -> Tensor:
        y = self.head(self.recurrent(self._read(series))[0][:, -1])  # (B, K)
        if self.shortcut is not None:
            y = y + self.shortcut(series.flatten(1))
        if self.linear is not None:
            return self.linear(series) + self.share * self.spread * y.squeeze(1)
        return y.squeeze(1) if self.task in NUMERIC else y

    def _read(self, series: Tensor) -> Tensor:
        """What the recurrent layers read of a window."""
        if self.linear is None:
            return series
        past = series[:, :, :1]  # (B, T, 1)
        return cat([series, (past - past[:, -1:]) / (FAR * self.spread)], 2)  # (B, T, F + 1)


def build(inputs: InputSpec, outputs: int, task: str, config: Config) -> Model:
    """The network for `inputs`, the `input_spec()` of a preprocessor. Weights are drawn from the generator in use."""
    if isinstance(inputs, TextSpec):
        return RecurrentLanguageModel(inputs.vocab_size, config)
    series = require_spec("lstm", inputs, SeriesSpec)
    return RecurrentForecaster(series.steps, series.features, outputs, task, config)
