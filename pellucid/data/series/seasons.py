"""The season of a series: after how many steps it is alike, from its clock or found in its values (floor 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .timestamps import Clock

PERIODS = 2  # that training must hold
LONGEST = 1000  # steps of a season that is found
NEARLY = 1.05  # times the least error: the shortest season that is as good is the one
ALIKE = 0.3  # autocorrelation of the changes of values one season apart, at least
SURE = 4.0  # standard errors above 0 of the autocorrelation at a lag that may be a season


def find_season(series: Sequence[np.ndarray], clock: Clock) -> int:
    """The season of several series (each (L,), the training part) in steps; 0 where none is possible.

    Of those that the clock suggests (24 hours, 7 days, 12 months, 4 quarters ...) and the one found by autocorrelation, the one
    that predicts the training part best when its value is repeated.
    """
    longest = max(series, key=len, default=np.zeros(0))
    able = [season for season in [*clock_seasons(clock), *_found(longest)] if 2 <= season <= len(longest) // PERIODS]
    errors = {season: _error(series, season) for season in able}
    best = min(errors.values(), default=0.0)
    return min((season for season, error in errors.items() if error <= NEARLY * best + 1e-12), default=0)


def clock_seasons(clock: Clock) -> list[int]:
    """How many steps the usual seasons have: a year of months, a week of days, a day and a week of hours."""
    if not clock.dates or clock.step <= 0:
        return []
    if clock.months:
        return [12 // clock.months] if 12 % clock.months == 0 and clock.months < 12 else []
    days = len(clock.weekdays) or 7
    a_day = len(clock.hours) or 1 / clock.step
    lengths = [a_day, a_day * days] if clock.step < 1 else [days / clock.step, 365.2425 * days / 7 / clock.step]
    return [round(length) for length in lengths if abs(length - round(length)) < 0.03 * length]


def possible_seasons(values: np.ndarray, clock: Clock, longest: int) -> list[int]:
    """All seasons of 2 to `longest` steps that the values (L,) may have: those of the clock, then peaks of the autocorrelation
    of the changes, the shortest first."""
    changes = np.diff(values)
    changes = changes - changes.mean() if len(changes) else changes
    power = float(changes @ changes)
    lags = range(1, min(longest, len(changes) // 3) + 2)
    alike = [float(changes[k:] @ changes[:-k]) / power for k in lags] if power > 0 else []
    least = SURE / np.sqrt(max(1, len(changes)))
    peaks = [
        k + 1 for k in range(1, len(alike) - 1) if alike[k] > least and alike[k] >= max(alike[k - 1], alike[k + 1])
    ]
    return [s for s in dict.fromkeys([*clock_seasons(clock), *peaks]) if 2 <= s <= longest]


def _found(values: np.ndarray) -> list[int]:
    """The lag at which the changes of `values` (L,) are most alike, where they are clearly so."""
    changes = np.diff(values)
    if len(changes) < 8:
        return []
    changes = changes - changes.mean()
    size = 1 << (2 * len(changes) - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(changes, size)) ** 2
    lags = np.arange(min(LONGEST, len(values) // PERIODS) + 1)
    correlation = np.fft.irfft(spectrum)[lags] / (len(changes) - lags)  # each over as many pairs as it has
    below = np.flatnonzero(correlation[1:] <= 0)  # neighbours of a smooth series are alike without a season
    if not len(below) or correlation[0] <= 0:
        return []
    first = 1 + int(below[0])
    lag = first + int(np.argmax(correlation[first:] >= correlation[first:].max() / NEARLY))  # not a multiple of it
    lag += int(np.argmax(correlation[lag : lag + max(1, lag // 4)]))
    return [lag] if correlation[lag] > ALIKE * correlation[0] else []


def _error(series: Sequence[np.ndarray], season: int) -> float:
    """How far values are from those one season before, as a share of each series' spread."""
    errors = [
        np.abs(values[season:] - values[:-season]).mean() / (values.std() or 1.0)
        for values in series
        if len(values) > season
    ]
    return float(np.mean(errors))
