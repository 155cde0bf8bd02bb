"""A series in the order of time, and the windows of past steps that a network reads (floor 4).

Shapes: L steps of a series, C columns of numbers (the target first), G columns of categories, T steps in a window, F features,
N examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Timeline:
    """One series in the order of time.

    times (L,), values (L, C) float64, NaN where missing. codes (L, G): of categories, -1 where missing or never seen.
    name: which series it is, of several. rows (L,): the row of the table that each step stands in.
    """

    times: np.ndarray
    values: np.ndarray
    codes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    name: str = ""
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        if not len(self.codes):
            self.codes = np.zeros((len(self.times), self.codes.shape[1]), dtype=np.int64)
        if not len(self.rows):
            self.rows = np.arange(len(self.times))

    def __len__(self) -> int:
        return len(self.times)

    def take(self, steps: slice | np.ndarray) -> Timeline:
        """The steps at these places, in this order."""
        return Timeline(self.times[steps], self.values[steps], self.codes[steps], self.name, self.rows[steps])


class SlidingWindows:
    """Overlapping windows of features as an array float32 (N, T, F) that is a view of the rows (L, F): a copy would be T times
    as large.

    units (N, 2): mean and standard deviation of each window's series, where several series have their own. starts (N,): the
    row in which a window's series begins. season: steps after which the series is alike; 0 where there is no such number.
    """

    def __init__(
        self,
        features: np.ndarray,
        window: int,
        begins: np.ndarray,
        units: np.ndarray | None = None,
        starts: np.ndarray | None = None,
        season: int = 0,
    ) -> None:
        self.features, self.window, self.begins = features, window, begins
        self.units, self.season = units, season
        self.starts = np.zeros(len(begins), dtype=np.int64) if starts is None else starts
        self.every = np.lib.stride_tricks.sliding_window_view(features, window, axis=0).transpose(0, 2, 1)  # a view
        self.shape = (len(begins), window, features.shape[1])
        self.dtype, self.ndim = features.dtype, 3

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Key: of the first axis, or of several."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        return self.every[(self.begins[first], *rest)]

    def __array__(self, dtype: np.typing.DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:] if dtype is None else self[:].astype(dtype)

    def take(self, rows: np.ndarray) -> SlidingWindows:
        """The windows at `rows` (int64)."""
        units = None if self.units is None else self.units[rows]
        return SlidingWindows(self.features, self.window, self.begins[rows], units, self.starts[rows], self.season)

    @property
    def asked(self) -> np.ndarray:
        """The rows of `features` (N,) that follow the windows: those to be predicted."""
        return self.begins + self.window


def units_of(inputs: Sequence[Any]) -> np.ndarray | None:
    """The units (N, 2) of each example of a network's inputs, where its series has its own."""
    return next((array.units for array in inputs if isinstance(array, SlidingWindows)), None)
