"""Recurrent layers: RNN, GRU and LSTM over sequences, and their cells for one position (floor 4).

Each kind has one function for the arithmetic of a position. The loop over time is `ops.loop.scan`; x @ weight_ih^T, which does
not depend on the previous position, is one product for all positions before it.

Letters: T time, B batch, C input size, H hidden size, D directions (1 or 2), L layers, G gates of a kind.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import functional as F
from ..core.value import DTypeLike
from ..creation import arange, cat, empty, stack, where, zeros
from ..errors import DTypeError, OptionError, ShapeError, format_shape
from ..ops.index import check_index
from ..ops.loop import scan
from ..tensor import DeviceLike, Parameter, Tensor, matmul
from . import init
from .linear import check_input, positive_int
from .module import Module

State = tuple[Tensor, ...]  # (h,), or (h, c) for the LSTM; each (B, H)

# ---- one position ----------------------------------------------------------------------------------------------------
# `x` (B, G H) is the input's share of the gates, `past` (B, G H) that of the hidden state, both with their biases.


def _tanh(x: Tensor, past: Tensor, state: State) -> State:
    """h = tanh(x + past) (Elman 1990)."""
    return ((x + past).tanh(),)


def _relu(x: Tensor, past: Tensor, state: State) -> State:
    """h = max(x + past, 0)."""
    return ((x + past).relu(),)


def _lstm(x: Tensor, past: Tensor, state: State) -> State:
    """c = f c + i g, h = o tanh(c), by gates i, f, o (Hochreiter and Schmidhuber 1997; Gers et al. 2000)."""
    i, f, g, o = (x + past).chunk(4, -1)  # (B, H) each
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(x: Tensor, past: Tensor, state: State) -> State:
    """h = (1 - z) n + z h, with n from the input and the part r of the past (Cho et al. 2014)."""
    x_r, x_z, x_n = x.chunk(3, -1)  # (B, H) each
    r, z, n = past.chunk(3, -1)
    z = (x_z + z).sigmoid()
    n = (x_n + (x_r + r).sigmoid() * n).tanh()
    return (n + z * (state[0] - n),)


@dataclass(frozen=True)
class _Kind:
    """The step of a kind of network from one state to the next, and how many gates and states it has.

    joint: both biases are added to the same sum, so they can be added before the loop.
    """

    step: Callable[[Tensor, Tensor, State], State]
    gates: int = 1
    states: tuple[str, ...] = ("h0",)
    joint: bool = True


_LSTM = _Kind(_lstm, 4, ("h0", "c0"))
_GRU = _Kind(_gru, 3, joint=False)


def _elman(nonlinearity: str, owner: str) -> _Kind:
    kinds = {"tanh": _Kind(_tanh), "relu": _Kind(_relu)}
    if nonlinearity not in kinds:
        raise OptionError(f'{owner}: nonlinearity={nonlinearity!r}; expected "tanh" or "relu"; leave it out for tanh')
    return kinds[nonlinearity]


class _Recurrent(Module):
    """Base of layers and cells: weights by suffix, and the step from state to state.

    weight_ih (G H, C), weight_hh (G H, H), bias_ih and bias_hh (G H,); all start uniform within 1/sqrt(H).
    """

    def __init__(self, kind: _Kind, input_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        self.kind, self.bias = kind, bool(bias)
        self.input_size = positive_int(input_size, type(self).__name__, "input_size")
        self.hidden_size = positive_int(hidden_size, type(self).__name__, "hidden_size")

    def _add_weights(self, input_size: int, suffix: str, dtype: DTypeLike | None) -> None:
        rows = self.kind.gates * self.hidden_size
        self.register_parameter(f"weight_ih{suffix}", Parameter(empty(rows, input_size, dtype=dtype)))
        self.register_parameter(f"weight_hh{suffix}", Parameter(empty(rows, self.hidden_size, dtype=dtype)))
        for name in ("bias_ih", "bias_hh") if self.bias else ():
            self.register_parameter(f"{name}{suffix}", Parameter(empty(rows, dtype=dtype)))

    def reset_parameters(self) -> None:
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _parts(self, x: Tensor, suffix: str) -> tuple[Tensor, Callable[[Tensor, State], State]]:
        """The input's share of the gates for x (*, C), (*, G H), and the step from a row of it and a state to the next state."""
        weight, across = getattr(self, f"weight_ih{suffix}"), getattr(self, f"weight_hh{suffix}").T  # (H, G H)
        outer, inner = (getattr(self, f"{name}{suffix}") if self.bias else None for name in ("bias_ih", "bias_hh"))
        if self.kind.joint and outer is not None and inner is not None:
            outer, inner = outer + inner, None
        step = self.kind.step

        def advance(x: Tensor, state: State) -> State:
            past = matmul(state[0], across)
            return step(x, past if inner is None else past + inner, state)

        return F.linear(x, weight, outer), advance

    def _given(self, hx: Tensor | State | None, shape: tuple[int, ...]) -> State | None:
        """The starting states, checked; None where they are zeros."""
        names = self.kind.states
        if hx is None:
            return None
        given: Any = (hx,) if len(names) == 1 else hx  # as it came, for checking
        if not isinstance(given, tuple | list) or len(given) != len(names):
            raise ShapeError(
                f"hx is {type(hx).__name__}; expected the two Tensors (h0, c0); pass both, or None for zeros"
            )
        for name, value in zip(names, given, strict=True):
            check_input(value, self._dtype())
            if value.shape != shape:
                raise ShapeError(
                    f"{name} is {format_shape(value.shape)}; expected {format_shape(shape)}; reshape it, or leave hx out"
                )
        return tuple(given)

    def _dtype(self) -> np.dtype:
        return next(self.parameters()).dtype

    def _check(self, x: Tensor, ranks: tuple[int, int], form: str) -> None:
        check_input(x, self._dtype())
        if x.ndim not in ranks or x.shape[-1] != self.input_size or 0 in x.shape[:-1]:
            fix = f"check the data, or make this one {type(self).__name__}({x.shape[-1] if x.ndim else 1}, ...)"
            if x.ndim < ranks[1] and self.input_size == 1:
                fix = "add the axis of size 1, with x.unsqueeze(-1)"
            raise ShapeError(
                f"input {format_shape(x.shape)}; expected {form} with C = {self.input_size}, none of them 0; {fix}"
            )

    def _describe(self) -> str:
        return f"{type(self).__name__} {self.input_size}→{self.hidden_size}"


# ---- whole sequences -------------------------------------------------------------------------------------------------


class _Layers(_Recurrent):
    """`num_layers` walks over a sequence, each reading the outputs of the one below; abstract over the kind."""

    def __init__(
        self, kind: _Kind, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool,
        dropout: float, bidirectional: bool, dtype: DTypeLike | None,
    ) -> None:  # fmt: skip
        super().__init__(kind, input_size, hidden_size, bias)
        name = type(self).__name__
        self.num_layers = positive_int(num_layers, name, "num_layers")
        if isinstance(dropout, bool) or not isinstance(dropout, int | float) or not 0 <= dropout <= 1:
            raise OptionError(f"{name}: dropout={dropout!r}; expected a probability from 0 to 1; 0.1 to 0.5 are usual")
        if dropout and num_layers == 1:
            warnings.warn(f"{name}: dropout={dropout} with num_layers=1 does nothing: it acts between layers; "
                          "add a layer, or nn.Dropout after this one", UserWarning, stacklevel=3)  # fmt: skip
        self.batch_first, self.dropout, self.bidirectional = batch_first, float(dropout), bidirectional
        self.directions = ("", "_reverse") if bidirectional else ("",)
        for layer in range(self.num_layers):
            width = self.input_size if layer == 0 else self.hidden_size * len(self.directions)
            for direction in self.directions:
                self._add_weights(width, f"_l{layer}{direction}", dtype)
        self.reset_parameters()

    def forward(
        self, x: Tensor, hx: Tensor | State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor | State]:
        form = "(B, T, C) or (T, C)" if self.batch_first else "(T, B, C) or (T, C)"
        self._check(x, (2, 3), form)
        single = x.ndim == 2
        x = x.unsqueeze(1) if single else x.transpose(0, 1) if self.batch_first else x  # (T, B, C)
        rows = self.num_layers * len(self.directions)
        state = self._given(hx, (rows, self.hidden_size) if single else (rows, x.shape[1], self.hidden_size))
        if single and state is not None:
            state = tuple(part.unsqueeze(1) for part in state)  # (L D, 1, H)
        y, final = self._layers(x, state, None if lengths is None else self._counted(lengths, *x.shape[:2]))
        y = y.squeeze(1) if single else y.transpose(0, 1) if self.batch_first else y
        final = tuple(part.squeeze(1) if single else part for part in final)
        return y, final[0] if len(final) == 1 else final

    def _layers(self, x: Tensor, state: State | None, counted: Tensor | None) -> tuple[Tensor, State]:
        finals: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in self.directions:
                if state is None:
                    start = tuple(zeros(x.shape[1], self.hidden_size, dtype=x.dtype) for _ in self.kind.states)
                else:
                    start = tuple(part.select(0, len(finals)) for part in state)
                last, y = self._walk(x, start, counted, f"_l{layer}{direction}", bool(direction))
                finals.append(last)
                outputs.append(y)
            x = cat(outputs, -1) if len(outputs) > 1 else outputs[0]  # (T, B, D H)
            if layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, self.training)
        return x, tuple(stack(parts) for parts in zip(*finals, strict=True))  # (L D, B, H) each

    def _walk(self, x: Tensor, start: State, counted: Tensor | None, suffix: str, back: bool) -> tuple[State, Tensor]:
        """One direction of one layer: the last state, and h at every position (T, B, H)."""
        said, advance = self._parts(x, suffix)  # (T, B, G H)
        if counted is None:

            def body(state: State, x: Tensor) -> tuple[State, Tensor]:
                state = advance(x, state)
                return state, state[0]

            return scan(body, start, said, reverse=back)

        def masked(state: State, both: tuple[Tensor, Tensor]) -> tuple[State, Tensor]:
            x, counts = both
            moved = advance(x, state)
            kept = tuple(where(counts, new, old) for new, old in zip(moved, state, strict=True))
            return kept, where(counts, moved[0], 0)

        return scan(masked, start, (said, counted), reverse=back)

    def _counted(self, lengths: Tensor, steps: int, batch: int) -> Tensor:
        """(T, B, 1): whether a position lies within its example."""
        if not isinstance(lengths, Tensor) or lengths.dtype.kind not in "iu":
            came = lengths.dtype if isinstance(lengths, Tensor) else type(lengths).__name__
            raise DTypeError(f"lengths is {came}; expected an int64 Tensor; pass pellucid.tensor([3, 5, ...])")
        if lengths.shape != (batch,):
            raise ShapeError(
                f"lengths is {format_shape(lengths.shape)}; expected {format_shape((batch,))}; pass one for each example"
            )
        message = f"lengths holds {{}}; expected 0 to {steps}, the positions there are; count them again"
        lengths = check_index(lengths, low=0, high=steps + 1, spare=None, message=message)
        return (arange(steps).unsqueeze(1) < lengths).unsqueeze(-1)

    def flatten_parameters(self) -> None:
        """PyTorch's call, which has nothing to do here."""

    def extra_repr(self) -> str:
        usual = {"num_layers": 1, "bias": True, "batch_first": False, "dropout": 0, "bidirectional": False}
        changed = [f", {name}={getattr(self, name)}" for name, value in usual.items() if getattr(self, name) != value]
        return f"{self.input_size}, {self.hidden_size}{''.join(changed)}"


class RNN(_Layers):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), or relu (Elman 1990).

    (x, hx=None, lengths=None) -> output, final state. x (T, B, C), (B, T, C) with `batch_first`, or (T, C) for one
    example; output (T, B, D H), axes as in x; states (L D, B, H), or (L D, H) for one example.
    lengths (B,) int64: how many positions of each example count. Beyond them the state stays as it is, the output is 0,
    and the way back starts at each example's own end. (Ours; PyTorch has packed sequences for this.)
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        kind = _elman(nonlinearity, "RNN")
        super().__init__(kind, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype)
        self.nonlinearity = nonlinearity


class LSTM(_Layers):
    """Long short-term memory (Hochreiter and Schmidhuber 1997). Shapes as in RNN; hx and the final state are (h, c)."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
        device: DeviceLike | None = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__(_LSTM, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype)
        if proj_size != 0:
            raise OptionError(f"LSTM: proj_size={proj_size!r}; expected 0; put nn.Linear after the layer instead")


class GRU(_Layers):
    """Gated recurrent units (Cho et al. 2014), the reset gate after the product as in PyTorch. Shapes as in RNN."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, device: DeviceLike | None = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__(_GRU, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, dtype)


# ---- one position at a time ------------------------------------------------------------------------------------------


class _Cell(_Recurrent):
    """forward(x, hx=None) -> the next state: x (B, C) or (C,), states (B, H) or (H,); abstract over the kind."""

    def __init__(self, kind: _Kind, input_size: int, hidden_size: int, bias: bool, dtype: DTypeLike | None) -> None:
        super().__init__(kind, input_size, hidden_size, bias)
        self._add_weights(self.input_size, "", dtype)
        self.reset_parameters()

    def forward(self, x: Tensor, hx: Tensor | State | None = None) -> Tensor | State:
        self._check(x, (1, 2), "(B, C) or (C,)")
        shape = (*x.shape[:-1], self.hidden_size)
        state = self._given(hx, shape)
        if state is None:
            state = tuple(zeros(*shape, dtype=x.dtype) for _ in self.kind.states)
        said, advance = self._parts(x, "")
        state = advance(said, state)
        return state[0] if len(state) == 1 else state

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}{'' if self.bias else ', bias=False'}"


class RNNCell(_Cell):
    """One position of an RNN."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
        device: DeviceLike | None = None, dtype: DTypeLike | None = None,
    ) -> None:  # fmt: skip
        super().__init__(_elman(nonlinearity, "RNNCell"), input_size, hidden_size, bias, dtype)
        self.nonlinearity = nonlinearity

    def extra_repr(self) -> str:
        return super().extra_repr() + ("" if self.nonlinearity == "tanh" else f", nonlinearity={self.nonlinearity}")


class LSTMCell(_Cell):
    """One position of an LSTM: hx and the result are (h, c)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(_LSTM, input_size, hidden_size, bias, dtype)


class GRUCell(_Cell):
    """One position of a GRU."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: DeviceLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        super().__init__(_GRU, input_size, hidden_size, bias, dtype)
