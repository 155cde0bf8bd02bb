"""Baselines of series: persistence, drift, seasonal naive and a linear autoregression (floor 7).

They read the same windows as a network and never the network.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..data.series.windows import SlidingWindows

ORDER = 15  # past values that the autoregression weighs

Windows = np.ndarray | SlidingWindows  # (N, T, F), feature 0 the target's own past


def series_baselines(
    train: Windows, target: np.ndarray, test: Windows, decode: Callable[[np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """name -> predictions (N test,) in the target's own units.

    train, test: windows. target: (N train,) in the target's own units. decode: brings feature 0 into them, of windows whose
    series have no units of their own.

    persistence: the last value again.      drift: the last value, and the mean step of the series' training part.
    seasonal_naive: the value one season before, where the windows have a season.
    autoregression (Yule 1927): least squares on the last ORDER values, the other columns' last value, and the calendar and
    what is known of the step that is asked for.
    """
    own, others = _units(train), _units(test)
    target = np.asarray(target, np.float64)
    scaled = target if own is None else (target - own[:, 0]) / own[:, 1]
    weights = np.linalg.lstsq(_design(train), scaled, rcond=None)[0]
    answers = _design(test) @ weights  # in own units, or of each series'
    in_units = (lambda x: x) if others is None else lambda x: x * others[:, 1] + others[:, 0]
    if others is not None:
        decode = in_units
    last = np.asarray(test[:, -1, 0], np.float64)
    found = {"persistence": np.asarray(decode(test[:, -1, 0]), np.float64)}
    if isinstance(test, SlidingWindows) and test.season > 1:
        found["seasonal_naive"] = np.asarray(decode(_one_season_before(test, test.season)), np.float64)
    if isinstance(train, SlidingWindows) and isinstance(test, SlidingWindows):
        found["drift"] = np.asarray(decode(last + _mean_steps(train, test)), np.float64)
    return {**found, "autoregression": np.asarray(in_units(answers), np.float64)}


def _units(windows: Windows) -> np.ndarray | None:
    return windows.units if isinstance(windows, SlidingWindows) else None


def _design(x: Windows) -> np.ndarray:
    """(N, columns): 1, the last values of the target, and the other features of the last step."""
    return np.concatenate([np.ones((len(x), 1)), x[:, -ORDER:, 0], x[:, -1, 1:]], 1, dtype=np.float64)


def _one_season_before(windows: SlidingWindows, season: int) -> np.ndarray:
    """Feature 0 (N,) one season before the step that is asked for; the last value where the series is not that old."""
    at = windows.asked - season
    return windows.features[np.where(at >= windows.starts, at, windows.asked - 1), 0]


def _mean_steps(train: SlidingWindows, test: SlidingWindows) -> np.ndarray:
    """The mean change (N test,) from step to step in the training part of each one's series; of all where it has none."""
    changes = train.features[train.asked, 0].astype(np.float64) - train.features[train.asked - 1, 0]
    starts, at = np.unique(train.starts, return_inverse=True)
    means = np.bincount(at, changes) / np.bincount(at)
    place = np.clip(np.searchsorted(starts, test.starts), 0, len(starts) - 1)
    return np.where(starts[place] == test.starts, means[place], changes.mean())
