"""Forecasting: the next steps of series, each predicted from the ones before it, predictions included (floor 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..data.series.preprocess import SeriesPreprocessor
from ..data.series.windows import Timeline
from ..data.table.read import Table
from ..errors import NonFiniteError
from ..evaluation.ensembles import spread_of
from ..evaluation.forecasts import rolling
from ..runs.records import ForecastInterval
from ..tensor import Tensor


@dataclass(frozen=True)
class Step:
    """A predicted step. series: its name, of several. value, low, high: in the target's units; low and high are None where no
    interval was measured so many steps ahead. spread: of an ensemble, the standard deviation over its networks."""

    series: str
    time: str
    value: float
    low: float | None = None
    high: float | None = None
    spread: float | None = None


def forecast(
    network: Callable[[Tensor], Tensor], preprocessor: SeriesPreprocessor, table: Table, horizon: int | None = None,
    interval: ForecastInterval | None = None,
) -> list[Step]:  # fmt: skip
    """The `horizon` steps after the end of each series in `table`.

    Each answer is taken for the truth by the steps after it; every other column stays at its last known value, but for those
    known ahead, which are read from the rows for the steps to come. Without `horizon`, as many steps as there are such rows, or
    one. Of several series those shorter than a window are left out. Raises DataError where none is as long, or where rows with
    known columns are missing.
    """
    steps, preprocessor = [], preprocessor.in_zone_of(table)
    for line in preprocessor.long_enough(table, preprocessor.read_lines(table))[0]:
        ahead = preprocessor.ahead(line)
        steps += _forecast_one(network, preprocessor, table, line, horizon or ahead or 1, interval)
    return steps


def with_spread(steps: Sequence[Step], singly: Sequence[Sequence[Step]]) -> list[Step]:
    """`steps` with how far the forecasts of single networks differ there, each of which goes on from its own answers."""
    values = np.array([[step.value for step in own] for own in singly])  # (N, steps)
    spread = spread_of(values).tolist()
    return [replace(step, spread=far) for step, far in zip(steps, spread, strict=True)]


def _forecast_one(
    network: Callable[[Tensor], Tensor], preprocessor: SeriesPreprocessor, table: Table, line: Timeline, horizon: int,
    interval: ForecastInterval | None,
) -> list[Step]:  # fmt: skip
    whole = preprocessor.extended(table, line, horizon)
    features = preprocessor.features(whole)
    end = len(whole) - horizon
    scaled = rolling(network, preprocessor, features, np.array([end]), horizon)[0].astype(np.float64)
    means, stds = preprocessor.scale(line)
    values = scaled * stds[0] + means[0]
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise NonFiniteError(f"{table.path}: step {bad[0] + 1} after its end is predicted as {values[bad[0]]}; expected a finite number; the "
                             "network's training blew up: train again with a lower --lr")  # fmt: skip
    steps = []
    for k, value in enumerate(values.tolist()):
        half = interval.half_widths[k] * stds[0] if interval and k < len(interval.half_widths) else None
        low, high = (None, None) if half is None else (value - half, value + half)
        steps.append(Step(line.name, preprocessor.clock.text(float(whole.times[end + k])), value, low, high))
    return steps
