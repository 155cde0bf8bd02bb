"""Forecasting: the next steps of a series, each predicted from the ones before it, predictions included (floor 8)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..creation import tensor
from ..data.series.preprocess import SeriesPreprocessor, Timeline
from ..data.table.read import Table
from ..errors import DataError, NonFiniteError
from ..grad_mode import no_grad
from ..tensor import Tensor


def forecast(
    network: Callable[[Tensor], Tensor], preprocessor: SeriesPreprocessor, table: Table, horizon: int
) -> list[tuple[str, float]]:  # fmt: skip
    """The `horizon` steps after the end of `table`, as (time, prediction in the target's units).

    Each answer is taken for the truth by the steps after it; every other column stays at its last known value. Raises
    DataError where the table is shorter than a window.
    """
    timeline, window = preprocessor.read(table), preprocessor.window
    if len(timeline) < window:
        raise DataError(f"{table.path}: {len(timeline):,} steps; expected {window} at least, the window that the network looks at; give more "
                        "rows")  # fmt: skip
    times, values = timeline.times[-window - 1 :], timeline.values[-window - 1 :].copy()
    values[:-window] = preprocessor.filled(timeline)[-window - 1 : -window]  # what is known before the window
    steps = []
    for k in range(1, horizon + 1):
        series = preprocessor.encode(Timeline(times, values))["series"][-1:]  # (1, T, F)
        with no_grad():
            answer = float(preprocessor.decode(network(tensor(series)).array)[0])
        if not np.isfinite(answer):
            raise NonFiniteError(f"{table.path}: step {k} after its end is predicted as {answer}; expected a finite number; the network's "
                                 "training blew up: train again with a lower --lr")  # fmt: skip
        time = preprocessor.clock.after(float(timeline.times[-1]), k)
        steps.append((preprocessor.clock.text(time), answer))
        upcoming = np.full(values.shape[1], np.nan)
        upcoming[0] = answer
        times, values = np.append(times, time), np.vstack([values, upcoming])
    return steps
