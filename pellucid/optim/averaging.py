"""Weight averaging: an exponential moving average of the weights, for evaluation (floor 4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol, TypedDict

import numpy as np

from ..creation import tensor
from ..errors import OptionError, StateError, format_shape
from ..grad_mode import no_grad
from ..ops.update import add_scaled
from ..tensor import Tensor
from . import options as check


class Network(Protocol):
    """What is read of a network, which stands in `nn`."""

    def state_dict(self) -> Mapping[str, Tensor]: ...
    def named_parameters(self) -> Iterable[tuple[str, Tensor]]: ...
    def named_buffers(self) -> Iterable[tuple[str, Tensor]]: ...


# What is averaged: a network, its parameters, or Tensors with names.
Source = Network | Iterable[Tensor] | Iterable[tuple[str, Tensor]]


class SavedAverage(TypedDict):
    """What `state_dict` gives."""

    decay: float
    warmup: bool
    count: Tensor
    averages: dict[str, Tensor]


class ExponentialMovingAverage:
    """The exponential moving average of weights: a <- d a + (1 - d) p after every step (Polyak and Juditsky 1992).

        ema = ExponentialMovingAverage(model, decay=0.999)
        for ...:  ...; optimizer.step(); ema.update()
        with ema.average_parameters():
            evaluate(model)          # the model has the averaged weights in here

    source: a network, whose saved floating-point buffers (the statistics of batch norm) are averaged too; or its parameters,
        or `(name, Tensor)` pairs.
    decay: d, from 0 up to but not including 1; about 1 - 1 / (the number of last steps that shall count).
    warmup: after t updates d is at most (1 + t) / (10 + t), so that the initial weights are soon forgotten.
    Raises OptionError for an option out of range or a source without Tensors.
    """

    def __init__(self, source: Source, decay: float = 0.999, warmup: bool = True) -> None:
        name = "ExponentialMovingAverage"
        self.decay = check.number(name, "decay", decay, "a number from 0 up to, but not including, 1", example=0.999)
        self.warmup = check.flag(name, "warmup", warmup)
        self._tensors = dict(_named(source))
        if not self._tensors:
            raise OptionError(f"{name}: source has no floating-point Tensors; expected a network or its parameters; "
                              "write ExponentialMovingAverage(model)")  # fmt: skip
        with no_grad():
            self.averages: dict[str, Tensor] = {key: t.detach().clone() for key, t in self._tensors.items()}
        # State and coefficients are Tensors, so that an update can be recorded together with the step it follows.
        single = np.dtype(np.float32)
        self._count = tensor(0.0, dtype=single)
        self._new = tensor(1 - self.decay, dtype=single)
        self._one, self._nine = tensor(1.0, dtype=single), tensor(9.0, dtype=single)
        self._originals: dict[str, Tensor] | None = None

    def update(self) -> None:
        """Include the current weights in the average; call it after `optimizer.step()`. StateError inside a block."""
        if self._originals is not None:
            raise StateError("ExponentialMovingAverage: update() inside average_parameters(), where the weights are the average itself; "
                             "expected trained weights; call it after the block")  # fmt: skip
        with no_grad():
            self._count.assign(self._count + self._one)
            new = self._new
            if self.warmup:  # 1 - (1 + t) / (10 + t) = 9 / (10 + t)
                new = (self._nine / (self._count + self._nine + self._one)).clamp(min=1 - self.decay)
            for key, t in self._tensors.items():
                average = self.averages[key]
                average.assign(add_scaled(average, new, t.detach() - average))

    @contextmanager
    def average_parameters(self) -> Iterator[None]:
        """A block with the averaged weights in the network; after it the trained ones are back, bit for bit.

        Raises StateError inside another such block.
        """
        if self._originals is not None:
            raise StateError("ExponentialMovingAverage: average_parameters() inside average_parameters(); expected one block; "
                             "the weights are the average already")  # fmt: skip
        self._originals = {key: t.detach().clone() for key, t in self._tensors.items()}
        try:
            with no_grad():
                for key, t in self._tensors.items():
                    t.assign(self.averages[key])
            yield
        finally:
            with no_grad():
                for key, t in self._tensors.items():
                    t.assign(self._originals[key])
            self._originals = None

    def __getattr__(self, name: str) -> NoReturn:
        former = "; it is average_parameters() now" if name == "applied" else ""
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}{former}")

    def state_dict(self) -> SavedAverage:
        """`{"decay", "warmup", "count": Tensor, "averages": {name: Tensor}}`, a snapshot."""
        averages = {key: t.detach().clone() for key, t in self.averages.items()}
        return {"decay": self.decay, "warmup": self.warmup, "count": self._count.detach().clone(), "averages": averages}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore `state_dict`, with Tensors or arrays in it. Raises StateError where it belongs to another network."""
        if not isinstance(state_dict, Mapping) or state_dict.keys() != {"decay", "warmup", "count", "averages"}:
            raise StateError("ExponentialMovingAverage.load_state_dict: expected a dict with 'decay', 'warmup', 'count' and "
                             "'averages', as state_dict() gives it")  # fmt: skip
        saved = state_dict["averages"]
        if saved.keys() != self.averages.keys():
            odd = sorted(saved.keys() ^ self.averages.keys())
            raise StateError(f"ExponentialMovingAverage.load_state_dict: {', '.join(odd[:3])} stand on one side only; expected "
                             "the same names; build the same network as when it was saved")  # fmt: skip
        for key, average in self.averages.items():
            if np.shape(saved[key]) != average.shape:
                raise StateError(f"ExponentialMovingAverage.load_state_dict: {key} was saved as {format_shape(np.shape(saved[key]))}, "
                                 f"here it is {format_shape(average.shape)}; build the same network as when it was saved")  # fmt: skip
        self.decay = check.number("ExponentialMovingAverage", "decay", state_dict["decay"],
                                  "a number from 0 up to, but not including, 1", example=0.999)  # fmt: skip
        self.warmup = bool(state_dict["warmup"])
        self._new.assign(1 - self.decay)
        self._count.assign(state_dict["count"])
        for key, average in self.averages.items():
            average.assign(saved[key])


def _named(source: Any) -> Iterator[tuple[str, Tensor]]:
    """Every floating-point Tensor that a network saves or an iterable holds, by name, or by its number where it has none."""
    if hasattr(source, "named_parameters"):
        saved = source.state_dict()  # buffers that are not saved are constants or caches
        items: Iterable[Any] = [*source.named_parameters(), *((k, t) for k, t in source.named_buffers() if k in saved)]
    elif isinstance(source, Iterable) and not isinstance(source, Tensor | str):
        items = source
    else:
        raise OptionError(f"ExponentialMovingAverage: source is a {type(source).__name__}; expected a network or its parameters; "
                          "write ExponentialMovingAverage(model)")  # fmt: skip
    for i, item in enumerate(items):
        key, t = item if isinstance(item, tuple) else (str(i), item)
        if not isinstance(t, Tensor):
            raise OptionError(f"ExponentialMovingAverage: source has a {type(t).__name__} at {key}; expected Tensors; "
                              "write ExponentialMovingAverage(model)")  # fmt: skip
        if t.dtype.kind == "f":
            yield key, t
