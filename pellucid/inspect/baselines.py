"""Baselines: the input from which an attribution counts, as numbers for each entry and in words (floor 6).

An answer is explained as far as it differs from the answer to the baseline, so each view says which one it took.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import OptionError, ShapeError, format_shape
from ..tensor import Tensor
from .cache import run_with_cache
from .entries import Entries


@dataclass(frozen=True)
class Baseline:
    """values: by the name of an entry, in the entry's shape; zeros for an entry that is not there.      said: in words."""

    values: Mapping[str, Tensor] = field(default_factory=dict)
    said: str = "zeros"

    def of(self, found: Entries) -> dict[str, Tensor]:
        """The baseline of each entry. Raises OptionError for a name that is no entry's, ShapeError for another shape."""
        full = found.baseline()
        for name, value in self.values.items():
            if name not in full:
                raise OptionError(
                    f"baselines: {name!r}; expected names among {', '.join(full)}; see inspect.entries(question)"
                )
            entry = found[name].value
            if value.shape != entry.shape:
                raise ShapeError(
                    f"baselines: {name!r} is {format_shape(value.shape)}; expected {format_shape(entry.shape)}, as the "
                    "example has; give a baseline of the same shape"
                )
            full[name] = value.to(entry.dtype)
        return full


def as_baseline(given: Any, found: Entries) -> Baseline:
    """What `attribute` takes as `baselines`: None for zeros, a number, a Tensor or an array, such by name, or a Baseline."""
    if given is None:
        return Baseline()
    if isinstance(given, Baseline):
        return given
    if isinstance(given, Mapping):
        return Baseline({name: _as_tensor(value, found, name) for name, value in given.items()}, "as given")
    if not isinstance(given, int | float) and len(found) > 1:
        raise OptionError(
            f"baselines: one {type(given).__name__} for {len(found)} entries; expected one for each of "
            f"{', '.join(found)}; write baselines={{name: value}}"
        )
    said = f"{given:g} everywhere" if isinstance(given, int | float) else "as given"
    return Baseline({name: _as_tensor(given, found, name) for name in found}, said)


def mean_baseline(found: Entries, inputs: Sequence[Tensor], said: str) -> Baseline:
    """The mean over many examples: of numbers, and of what is looked up for categories.

    inputs: Tensors (N, ...), as the question's network takes them. said: of which examples, in words.
    """
    question = found.question
    values = {
        name: Tensor(np.asarray(value.detach().numpy(), np.float64).mean(0, keepdims=True)).to(found[name].value.dtype)
        for name, value in zip(question.names, inputs, strict=True)
        if name in found
    }
    if any(entry.looked_up for entry in found.values()):
        _, cache = run_with_cache(question.network, *inputs, forward=question.forward)
        for name, entry in found.items():
            if entry.looked_up:
                values[name] = cache[name].mean(entry.batch_axis, keepdim=True)
    return Baseline(values, said)


def _as_tensor(value: Any, found: Entries, name: str) -> Tensor:
    if isinstance(value, int | float) and name in found:
        return Tensor(np.full_like(found[name].value.numpy(), value))
    return value if isinstance(value, Tensor) else Tensor(np.asarray(value))
