"""Ensembles: the settings of each network, and the log of all of them as one (floor 10).

`session.EnsembleSession` trains them.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..runs.records import EpochRecord
from ..runs.settings import Settings


@dataclass(frozen=True)
class MemberStarted:
    """Before the first step of a network: `number` of `count`, from 1, and its seed."""

    number: int
    count: int
    seed: int


def member_settings(settings: Settings, k: int) -> Settings:
    """The settings of network `k`. Ensembles of one size and different seeds have no network in common."""
    return dataclasses.replace(settings, ensemble=1, folds=0, seed=settings.seed * settings.ensemble + k)


def mean_history(histories: Sequence[Sequence[EpochRecord]]) -> list[EpochRecord]:
    """The epochs of all networks as those of one: means over the networks that trained so long, and the sum of their seconds.

    The best epoch is the median of the networks' best ones.
    """
    best = statistics.median_low([max((r.epoch for r in history if r.best), default=0) for history in histories])
    longest = max(histories, key=len)
    records = []
    for at, record in enumerate(longest):
        those = [history[at] for history in histories if len(history) > at]
        seconds = sum(one.seconds for one in those)
        records.append(dataclasses.replace(
            record, train=_means([one.train for one in those]), validation=_means([one.validation for one in those]),
            best=record.epoch == best, seconds=seconds, sample=None, picture=None,
        ))  # fmt: skip
    return records


def _means(values: Sequence[dict[str, float | None]]) -> dict[str, float | None]:
    """The mean of each value that all have."""
    found: dict[str, float | None] = {}
    for name in values[0]:
        known = [value for one in values if (value := one.get(name)) is not None]
        found[name] = statistics.fmean(known) if len(known) == len(values) else None
    return found
