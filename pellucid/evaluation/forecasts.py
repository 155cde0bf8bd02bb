"""Forecasts of several steps, each from the ones before it, and how far off they were on held-out rows (floor 7).

An interval is measured on the validation part (split conformal prediction: the quantile of the errors there) and its coverage,
the share of values that lie inside, on the test part, for each number of steps ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..creation import tensor
from ..data.problem import Examples
from ..data.series.preprocess import SeriesPreprocessor
from ..grad_mode import no_grad
from ..runs.records import ForecastInterval
from ..tensor import Tensor

LEVEL = 0.9  # share of values that an interval is to hold
LEAST_HORIZON, MOST_HORIZON = 7, 24  # steps ahead that are measured
MOST_STARTS = 300  # forecasts that are measured in each part
LEAST_TEST = 5  # held-out values that a coverage is told of

Network = Callable[[Tensor], Tensor]


def rolling(
    network: Network, preprocessor: SeriesPreprocessor, features: np.ndarray, ends: np.ndarray, horizon: int
) -> np.ndarray:
    """Standardised predictions (N, horizon) of the rows `ends` (N,) of `features` (L, F) and those after.

    Each is taken for the truth by the next; the calendar and what is known ahead are read from `features`, all else stays at
    its last value before the forecast.
    """
    window = preprocessor.window
    x = np.stack([features[end - window : end] for end in ends])  # (N, T, F)
    held, answers = preprocessor.held, []
    for k in range(horizon):
        with no_grad():
            answers.append(np.asarray(network(tensor(x)).array))
        row = features[np.minimum(ends + k, len(features) - 1)].copy()  # (N, F)
        row[:, 0] = answers[-1]
        row[:, held] = x[:, -1, held]
        for place, mark in preprocessor.marks.items():
            row[:, place] = mark
        x = np.concatenate([x[:, 1:], row[:, None]], 1)
    return np.stack(answers, 1)


def measure_interval(
    network: Network, preprocessor: SeriesPreprocessor, validation: Examples, test: Examples
) -> ForecastInterval | None:
    """The interval of forecasts by steps ahead, with its coverage on the test part; None where the parts are too small."""
    most = max(LEAST_HORIZON, min(MOST_HORIZON, preprocessor.season))
    errors = [_errors(network, preprocessor, part, most) for part in (validation, test)]
    halves, coverage, counts = list[float](), list[float](), list[int]()
    for ahead in range(most):
        known, held_out = (each[~np.isnan(each[:, ahead]), ahead] for each in errors)
        rank = int(np.ceil((len(known) + 1) * LEVEL))
        if rank > len(known) or len(held_out) < LEAST_TEST:
            break
        half = float(np.sort(known)[rank - 1])
        halves.append(max(half, halves[-1]) if halves else half)
        coverage.append(float((held_out <= halves[-1]).mean()))
        counts.append(len(held_out))
    return ForecastInterval(LEVEL, halves, coverage, counts) if halves else None


def _errors(network: Network, preprocessor: SeriesPreprocessor, part: Examples, horizon: int) -> np.ndarray:
    """Absolute errors (N, horizon) of forecasts that start within a part, NaN where a step is outside it or has no target."""
    windows: Any = part.inputs["series"]
    truth = np.full(len(windows.features) + horizon, np.nan)
    owner = np.full(len(truth), -1)
    truth[windows.asked], owner[windows.asked] = part.target, windows.starts
    chosen = np.unique(np.linspace(0, len(windows) - 1, MOST_STARTS).round().astype(np.int64))
    starts = windows.asked[chosen]
    predicted = rolling(network, preprocessor, windows.features, starts, horizon)
    rows = starts[:, None] + np.arange(horizon)
    own = owner[rows] == windows.starts[chosen][:, None]
    return np.where(own, np.abs(predicted - truth[rows]), np.nan)


@dataclass(frozen=True)
class ForecastFigure:
    """What a report draws of one series: the past, predictions of the test part one step ahead, and the steps to come.

    times: texts of all steps. actual, predicted, low, high: as long, NaN where there is none. first: the step at which the test
    part begins, below 0 where that is not shown, and `end` the one after the last known.
    """

    name: str
    target: str
    times: list[str]
    actual: np.ndarray
    predicted: np.ndarray
    low: np.ndarray
    high: np.ndarray
    first: int
    end: int


def interval_sentence(interval: ForecastInterval, steps: int | None = None) -> str:
    """What an interval promises, and what it held on the test part; the coverage of one step ahead and of the last."""
    last = min(len(interval.half_widths), steps or len(interval.half_widths))
    words = [f"{100 * interval.coverage[0]:.0f}% of {interval.counts[0]:,} held-out values lay inside one step ahead"]
    if last > 1:
        words.append(f"{100 * interval.coverage[last - 1]:.0f}% of {interval.counts[last - 1]:,} {last} steps ahead")
    return f"meant to hold {100 * interval.level:.0f}% of values; {', '.join(words)}"
