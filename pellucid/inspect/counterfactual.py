"""The least change of a row that turns the answer (Wachter, Mittelstadt & Russell 2017, arXiv 1711.00399) (floor 6).

A column is changed to a value that another row has, so that each value is one that occurs. One column at a time is tried first,
then two, then three; what turns the answer is then made smaller, column by column. It says what the network would answer, not
what would happen.

Shapes: N known rows, V values of a column, S rows tried at once, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.problem import Inputs, Parts
from ..errors import OptionError, suggestion
from .result import Check, Result, Table

MOST_COLUMNS = 3  # that are changed together
MOST_VALUES = 48  # of a column that are tried at once, spread from the nearest to the farthest
MOST_ALONE = 4096  # the same where no smaller number of a column alone was enough
BEAM = 12  # changes of fewer columns that another is added to
MOST_ADDED = 24  # columns that are tried as the second and the third
BATCH = 2048  # rows answered at once

Answers = Callable[[Inputs], np.ndarray]  # inputs (S, ...) -> (S, K) or (S,)
Gain = Callable[[np.ndarray], np.ndarray]  # answers (S, ...) -> (S,), above 0 where the answer has turned


@dataclass(frozen=True)
class Change:
    """A column that takes the value of another row. donor: that row's number among the known ones.      distance: of the values."""

    column: str
    donor: int
    distance: float


@dataclass(frozen=True)
class Counterfactual(Result):
    """changes: what is changed, the largest first; empty where nothing that was tried turns the answer.

    before, after: the answers (K,) or ().      distance: the sum over the changes, in standard deviations for numbers, 1 for a
    category.      changeable, fixed: which columns might be changed, and which not.      tried: rows that were answered.
    values: of each change, as a person knows them: (column, now, then).      holds: whether the changed row, made anew and answered
    alone, is answered otherwise.
    """

    changes: tuple[Change, ...]
    before: np.ndarray
    after: np.ndarray | None
    distance: float
    changeable: tuple[str, ...]
    fixed: tuple[str, ...]
    tried: int
    values: tuple[tuple[str, str, str], ...] = ()
    turned: tuple[str, str] = ("", "")
    holds: bool = True

    @property
    def checks(self) -> Sequence[Check]:  # type: ignore[override]
        if not self.changes:
            return ()
        said = f"the changed row, made anew, {'is answered otherwise' if self.holds else 'gets the same answer'}"
        return (Check("turned", "proven", said, self.holds),)

    def headline(self) -> str:
        if not self.changes:
            return f"no change of up to {MOST_COLUMNS} columns to values of other rows turns the answer ({self.tried:,} rows tried)"
        count = len(self.changes)
        of = f" from {self.turned[0]} to {self.turned[1]}" if self.turned[0] else ""
        return f"least change: {count} column{'s' * (count > 1)} turn{'s' * (count == 1)} the answer{of}"

    def tables(self) -> Sequence[Table]:
        if not self.changes:
            return ()
        rows = self.values or tuple((change.column, "", f"as row {change.donor + 1}") for change in self.changes)
        return (Table("", ("column", "now", "would be"), rows),)

    def remarks(self) -> Sequence[str]:
        held = (
            f"held fixed: {', '.join(self.fixed)}"
            if self.fixed
            else "no column was held fixed; write --fixed for what cannot change"
        )
        return (
            f"{len(self.changeable)} columns were taken as changeable: {_some(self.changeable)}; {held}",
            "this is what the network would answer, not what would happen",
        )


@dataclass(frozen=True)
class _Tried:
    """Changes of some columns, and how far each is from turning the answer: above 0 where it does."""

    changes: tuple[Change, ...]
    gain: float

    @property
    def distance(self) -> float:
        return sum(change.distance for change in self.changes)


def counterfactual(
    answers: Answers, row: Inputs, columns: Mapping[str, Parts], known: Inputs, gain: Gain, fixed: Sequence[str] = ()
) -> Counterfactual:
    """The least change of `row` that turns the answer.

    answers: from inputs (S, ...) to answers.      row: the inputs (1, ...).      columns: where each stands in them.
    known: inputs (N, ...) of the rows whose values may be taken.      gain: above 0 where an answer has turned.
    fixed: columns that cannot change. Raises OptionError for a name that is no column's.
    """
    for name in fixed:
        if name not in columns:
            raise unknown_column(name, columns)
    free = {name: parts for name, parts in columns.items() if name not in fixed}
    search = _Search(answers, row, free, known, gain)
    changes = _least(search, {name: _values(name, row, parts, known) for name, parts in free.items()})
    before = np.asarray(answers(row))[0]
    after = np.asarray(answers(search.changed(changes))) if changes else None
    holds = after is None or bool(gain(after)[0] > 0)
    ordered = tuple(sorted(changes, key=lambda change: -change.distance))
    return Counterfactual(
        ordered, before, None if after is None else after[0], sum(c.distance for c in changes), tuple(free), tuple(fixed),
        search.tried, holds=holds,
    )  # fmt: skip


def unknown_column(name: str, columns: Mapping[str, Parts]) -> OptionError:
    """The error for a fixed column that is none."""
    if not columns:
        return OptionError(f"--fixed {name}: the run reads no table; expected a run on a table; leave it out")
    return OptionError(
        f"--fixed {name}: no such column; expected one of {_some(list(columns))}.{suggestion(name, columns)}"
    )


class _Search:
    """Rows with some columns changed, answered in batches."""

    def __init__(self, answers: Answers, row: Inputs, columns: Mapping[str, Parts], known: Inputs, gain: Gain) -> None:
        self.answers, self.row, self.columns, self.known, self.gain = answers, row, columns, known, gain
        self.tried = 0

    def changed(self, changes: Sequence[Change]) -> Inputs:
        """The row (1, ...) with `changes` made."""
        row = {name: np.array(array) for name, array in self.row.items()}
        for change in changes:
            self._write(row, change.column, [change.donor])
        return row

    def answered(self, starts: Sequence[tuple[Change, ...]], options: Mapping[str, Sequence[Change]]) -> list[_Tried]:
        """Every start with one more column changed, to each of its values."""
        wanted: list[tuple[Change, ...]] = []
        blocks: list[Inputs] = []
        for start in starts:
            begun, taken = self.changed(start), {change.column for change in start}
            for name, values in options.items():
                if name in taken or not values:
                    continue
                block = {key: np.repeat(array, len(values), axis=0) for key, array in begun.items()}
                self._write(block, name, [change.donor for change in values])
                blocks.append(block)
                wanted += [(*start, change) for change in values]
        if not wanted:
            return []
        rows = {key: np.concatenate([block[key] for block in blocks]) for key in self.row}
        batches = [{key: array[i : i + BATCH] for key, array in rows.items()} for i in range(0, len(wanted), BATCH)]
        gains = np.concatenate([self.gain(np.asarray(self.answers(batch))) for batch in batches])
        self.tried += len(wanted)
        return [_Tried(changes, float(gain)) for changes, gain in zip(wanted, gains, strict=True)]

    def _write(self, rows: Inputs, column: str, donors: Sequence[int]) -> None:
        """Give rows (V, ...) the values of a column that the rows `donors` (V,) have."""
        for name, axis, place in self.columns[column]:
            where = (slice(None),) * axis + (place,)
            rows[name][where] = np.asarray(self.known[name])[donors][where]


def _least(search: _Search, values: Mapping[str, _Values]) -> tuple[Change, ...]:
    """The nearest changes of as few columns as turn the answer; none where nothing does."""
    spread = {name: own.spread() for name, own in values.items()}
    tried = search.answered([()], spread)
    if not any(one.gain > 0 for one in tried):  # two columns only where no value of one is enough
        tried += search.answered([()], {name: own.others() for name, own in values.items()})
    for _ in range(MOST_COLUMNS - 1):
        if any(one.gain > 0 for one in tried):
            break
        moving = _most_moving(tried)
        tried = search.answered([one.changes for one in _varied(tried)], {name: spread[name] for name in moving})
    turned = [one for one in tried if one.gain > 0]
    if not turned:
        return ()
    least = min(turned, key=lambda one: one.distance)
    for change in least.changes:  # all values that are nearer, where a few were tried
        others = tuple(other for other in least.changes if other.column != change.column)
        now = next(one for one in least.changes if one.column == change.column)
        nearer = values[change.column].spread(now.distance)
        again = [one for one in search.answered([others], {change.column: nearer}) if one.gain > 0]
        least = min([least, *again], key=lambda one: one.distance)
    return least.changes


def _most_moving(tried: Sequence[_Tried]) -> list[str]:
    """The MOST_ADDED columns whose change, made last, came nearest to turning the answer."""
    best: dict[str, float] = {}
    for one in tried:
        name = one.changes[-1].column
        best[name] = max(best.get(name, one.gain), one.gain)
    return sorted(best, key=lambda name: -best[name])[:MOST_ADDED]


def _varied(tried: Sequence[_Tried]) -> list[_Tried]:
    """The BEAM changes that come nearest to turning the answer, at most two that change the same columns."""
    kept: list[_Tried] = []
    counts: dict[frozenset[str], int] = {}
    for one in sorted(tried, key=lambda one: -one.gain):
        names = frozenset(change.column for change in one.changes)
        if counts.get(names, 0) < 2:
            counts[names] = counts.get(names, 0) + 1
            kept.append(one)
        if len(kept) == BEAM:
            break
    return kept


@dataclass(frozen=True)
class _Values:
    """The V different values that a column has in other rows and not in this one, the nearest first: donors (V,), distances (V,)."""

    column: str
    donors: np.ndarray
    distances: np.ndarray

    def spread(self, below: float = math.inf) -> list[Change]:
        """At most MOST_VALUES of those nearer than `below`, from the first to the last."""
        count = int(np.searchsorted(self.distances, below))
        if not count:
            return []
        kept = np.unique(np.linspace(0, count - 1, min(count, MOST_VALUES)).round().astype(int))
        return [Change(self.column, int(self.donors[i]), float(self.distances[i])) for i in kept]

    def others(self) -> list[Change]:
        """Those that `spread` leaves out, at most MOST_ALONE of them."""
        kept = {change.donor for change in self.spread()}
        left = [i for i, donor in enumerate(self.donors.tolist()) if donor not in kept]
        chosen = np.unique(np.linspace(0, len(left) - 1, min(len(left), MOST_ALONE)).round().astype(int)).tolist()
        return [Change(self.column, int(self.donors[left[i]]), float(self.distances[left[i]])) for i in chosen]


def _values(column: str, row: Inputs, parts: Parts, known: Inputs) -> _Values:
    own, others = (_flat(arrays, parts) for arrays in (row, known))
    if others.shape[1] == 1:  # sorts numbers, not rows
        different, first = np.unique(others[:, 0], return_index=True)
        different = different[:, None]
    else:
        different, first = np.unique(others, axis=0, return_index=True)
    gap = np.abs(different - own)
    whole = all(row[name].dtype.kind in "iu" for name, _, _ in parts)
    distance = (gap > 0).any(1).astype(float) if whole else gap.max(1)
    order = np.argsort(distance, kind="stable")
    order = order[distance[order] > 0]
    return _Values(column, first[order], distance[order])


def _flat(arrays: Inputs, parts: Parts) -> np.ndarray:
    """The numbers (N, P) of a column, all its places side by side."""
    places = [np.take(np.asarray(arrays[name]), place, axis=axis) for name, axis, place in parts]
    return np.concatenate([place.reshape(len(place), -1).astype(np.float64) for place in places], axis=1)


def _some(names: Sequence[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)} in all)" if len(names) > most else "")
