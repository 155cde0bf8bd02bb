"""Rows that stand in an order of time: when each was, and whether a split at random flatters (floor 4).

Rows of one day are alike, and what drifts is guessed from the rows before and behind. So a column of dates that rows are in
the order of, or that is named as their time, is tried: a simple model is scored on rows held back at random, and on whole
spans of time held back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...errors import DataError
from .dates import CLOCK, DATES, DAY_FIRST, Moments, date_order, date_parts
from .delimited import MISSING_INPUT
from .identifiers import name_words
from .infer import date_form
from .leaks import FALLS, FOLDS, Probe, score_on_folds
from .preprocess import read_dates
from .read import Table

LEAST_MOMENTS = 10  # different times of rows that are dated
IN_ORDER = 0.95  # of neighbours in the file, that come one after the other in time
MOST_COLUMNS = 2  # that are tried
TIME_NAMES = (
    "time timestamp date datetime day month week quarter period hour ts when datum zeit tag monat recorded measured observed logged "
    "reading start begin"
)
NOT_NAMES = "birth birthday birthdate dob born geb geburt geburtsdatum geburtstag expiry expires due"


def time_notes(probe: Probe, inputs: Sequence[int]) -> list[str]:
    """A note for a column of dates, where a split at random flatters rows that are dated by it."""
    for position, moments in _dated(probe, inputs)[:MOST_COLUMNS]:
        name = probe.table.names[position]
        random, apart = _scores(probe, [p for p in inputs if p != position], moments)
        if random - apart > max(FALLS, 3 * math.sqrt(0.5 / len(probe))):
            what = "right" if probe.task == "classification" else "explained"
            scores = f"{100 * apart:.0f}% {what} on other times, {100 * random:.0f}% at random"
            return [f"split: dated by {name}; a simple model: {scores}; --split time:{name}"]
    return []


def _dated(probe: Probe, inputs: Sequence[int]) -> list[tuple[int, Moments]]:
    """The columns of dates that rows stand in the order of, and those that are named as a time."""
    ordered, named = [], []
    for position in inputs:
        words = set(name_words(probe.table.names[position]))
        form = date_form(probe.whole, position, probe.whole.read_numbers(position))
        if form is None or form == CLOCK or words & set(NOT_NAMES.split()):
            continue
        moments = _moments(probe.table, position, form)
        known = moments.utc[~np.isnan(moments.utc)]
        if len(known) < len(probe) // 2 or len(np.unique(known)) < LEAST_MOMENTS:
            continue
        steps = np.diff(known)  # the probe's rows are in the file's order
        if max(np.mean(steps >= 0), np.mean(steps <= 0)) >= IN_ORDER:
            ordered.append((position, moments))
        elif words & set(TIME_NAMES.split()):
            named.append((position, moments))
    return ordered + named


def _scores(probe: Probe, others: Sequence[int], moments: Moments) -> tuple[float, float]:
    """(on rows held back at random, on whole spans of time held back): the better score of two simple models."""
    utc = np.where(np.isnan(moments.utc), np.nanmedian(moments.utc), moments.utc)
    wall = np.where(np.isnan(moments.wall), np.nanmedian(moments.wall), moments.wall)
    parts = np.stack(list(date_parts(Moments(wall, utc), DATES, float(utc.min())).values()), 1)  # (N, parts)
    differ = parts.std(0) > 0
    scaled = (parts[:, differ] - parts[:, differ].mean(0)) / parts[:, differ].std(0)
    span = np.unique(utc, return_inverse=True)[1].reshape(-1)
    before = np.cumsum(np.bincount(span)) - np.bincount(span)
    apart = before[span] * FOLDS // len(utc)  # rows of one time stay together
    return score_on_folds(probe, others, probe.fold, scaled), score_on_folds(probe, others, apart, scaled)


def _moments(table: Table, position: int, form: str) -> Moments:
    column, deciding = table.columns[position], (table.like or table).columns[position]
    order = table.options.dates or date_order(dict.fromkeys(text for text in deciding.tolist() if text))[0]
    return read_dates(column, form, order or DAY_FIRST)[0]


def moments_of(table: Table, position: int) -> np.ndarray:
    """When each row was, float64 (N,): numbers as they are, dates in days. Raises DataError with the line of anything else."""
    found = table.parsed(position)
    if found is not None and not len(found[1]) and not np.isnan(found[0]).any():
        return found[0]
    days = _moments(table, position, DATES).utc
    bad = np.flatnonzero(np.isnan(days))
    if len(bad):
        i, cell = int(bad[0]), table.columns[position][bad[0]]
        what = "is missing" if cell is None or cell.lower() in MISSING_INPUT else f"is {cell!r:.40}"
        raise DataError(
            f"{table.where(i)}: {table.names[position]} {what}; expected numbers, or dates as 2024-03-01, in every row"
        )
    return days
