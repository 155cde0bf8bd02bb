"""Who is in which split of a table, and what may not be learned from; every decision is a note (floor 4).

Copies of a row, or the rows of a group, stay on one side. Columns that name rows are left out. Columns that give the target
away are named, and left to the user to drop.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import DataError, OptionError, suggestion
from ..base import OptionValue
from ..description_text import shell_word
from ..problem import SPLITS
from ..split import TWO_WAY, split_in_order, split_rows
from .duplicates import Duplicates, RowHashes, find_duplicates, first_rows, joined
from .identifiers import find_identifiers
from .leaks import (
    FALLS,
    MOST_GROUP_ROWS,
    Leak,
    Probe,
    find_leaks,
    group_columns,
    linear_score,
    named_as_group,
    score_by_group,
)
from .made_of_target import find_sum, next_targets, target_means
from .preprocess import label_text
from .read import Table, numbers_of
from .time_order import moments_of, time_notes

HOW = ("auto", "together", "random", "time:NAME")
FEW = 5  # rows of a class, with fewer of which scores of it say little
MOST_NAMED = 4  # columns that give the target away, in notes of their own


@dataclass
class Partition:
    """rows: the row numbers of each part.      left_out: columns not to learn from, beside those dropped, and what they hold.

    strata, units: what rows are split by, see `split_rows`. in_order: whether they were split by time instead.
    how: `70/15/15 by class`, for a note.
    """

    rows: list[np.ndarray]
    left_out: dict[int, str]
    duplicates: Duplicates
    strata: np.ndarray
    units: np.ndarray | None
    in_order: bool
    how: str
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Choices:
    """What the user said: columns by their positions; how: "auto", "together", "random" or "time"."""

    target: int
    drop: list[int]
    keep: list[int]
    group: int | None
    how: str
    time: int | None

    @classmethod
    def of(cls, table: Table, target: int, drop: list[int], options: Mapping[str, OptionValue]) -> Choices:
        """Raises OptionError for columns that are not there, and for choices that exclude one another."""
        keep = [table.position(column, "--keep") for column in options.get("keep", ())]
        for position in keep:
            if position == target or position in drop:
                what = "the target" if position == target else "left out by --drop"
                raise OptionError(
                    f"--keep {table.names[position]}: it is {what}; expected an input; leave it out of --keep"
                )
        group = table.position(options["group"], "--group") if "group" in options else None
        if group == target:
            raise OptionError(
                f"--group {table.names[target]}: it is the target; expected another column, as of patients; leave --group out"
            )
        how = str(options.get("split", "auto"))
        time = None
        if how.startswith("time:"):
            time, how = table.position(how.removeprefix("time:"), "--split time:"), "time"
        elif how not in HOW[:3]:
            raise OptionError(f"--split {how}: no such way; expected {', '.join(HOW[:3])}, or time: and the name of a column."
                              f"{suggestion(how, HOW) or ' Write --split time:NAME, say.'}")  # fmt: skip
        if time is not None and (group is not None or time == target):
            what = "--group is given too" if group is not None else "it is the target"
            raise OptionError(
                f"--split time:{table.names[time]}: {what}; expected one way to split, by an input; leave one of them out"
            )
        return cls(target, drop, keep, group, how, time)


def partition(
    table: Table, task: str, strip: str | None, seed: int, fractions: Sequence[float], choices: Choices
) -> Partition:
    """The parts of `table`, whose rows all have a target. Raises DataError or OptionError."""
    target, notes = choices.target, list[str]()
    kind = {"counts": "regression", "multilabel": "classification"}.get(task, task)  # numbers, or labels
    inputs = [p for p in range(len(table.names)) if p != target and p not in choices.drop]
    for position in inputs:
        numbers_of(table, position)  # raises DataError for one beyond range
    named = find_identifiers(table, [p for p in inputs if p not in choices.keep and p != choices.group],
                             first_rows(table, [*inputs, target]))  # fmt: skip
    notes += [
        f"columns: {table.names[p]} holds {what}, left out; --keep {shell_word(table.names[p])}"
        for p, what in named.items()
    ]
    left_out = dict(named)
    if choices.group is not None and choices.group in inputs and choices.group not in choices.keep:
        left_out[choices.group] = "groups"
        notes.append(
            f"columns: {table.names[choices.group]} names groups, left out; --keep {shell_word(table.names[choices.group])}"
        )
    inputs = [p for p in inputs if p not in left_out]
    duplicates = find_duplicates(table, inputs, target)
    strata = _strata(table, target, kind, strip)
    units = _units(table, choices, duplicates)
    rows = _split(table, strata, units, kind, seed, fractions, choices)
    if table.drawn_from is None:
        notes += duplicate_notes(duplicates, len(table), choices)
    seen = np.concatenate(rows[:2])  # training and validation
    if duplicates.units is not None and not duplicates.coarse:
        seen = seen[np.unique(duplicates.units[seen], return_index=True)[1]]
    groups: dict[int, str] = {}
    if choices.group is None and choices.time is None:
        probe = Probe(table, seen, target, kind, strip, seed, MOST_GROUP_ROWS)
        groups = _group_notes(probe, inputs)
        notes += time_notes(probe, [p for p in inputs if p not in groups])
    notes += _leak_notes(Probe(table, seen, target, kind, strip, seed), inputs, groups, target)
    notes += groups.values()
    notes += _few_notes(table.columns[target], strata, rows) if task == "classification" else []
    how = _how(table, task, rows, choices)
    return Partition(rows, left_out, duplicates, strata, units, choices.time is not None, how, notes)


def _strata(table: Table, target: int, task: str, strip: str | None) -> np.ndarray:
    if task == "regression":
        return table.numbers_and_strays(target)[0]
    cells = table.columns[target].tolist()
    labels = {text: label_text(text, strip) for text in set(cells)}
    number = {label: i for i, label in enumerate(sorted(set(labels.values())))}
    numbers = {text: number[label] for text, label in labels.items()}
    return np.array([numbers[text] for text in cells], dtype=np.int64)


def stay_together(choices: Choices, duplicates: Duplicates) -> bool:
    """Whether copies of a row come into one part."""
    return choices.how == "together" or (choices.how == "auto" and not duplicates.coarse)


def _units(table: Table, choices: Choices, duplicates: Duplicates) -> np.ndarray | None:
    """The number of the unit of each row, int64 (N,): copies and groups stay together. None where each row is its own."""
    units = duplicates.units if stay_together(choices, duplicates) else None
    if choices.group is None:
        return units
    groups = _groups(table, choices.group)
    return groups if units is None else joined(units, groups)


def _split(
    table: Table,
    strata: np.ndarray,
    units: np.ndarray | None,
    task: str,
    seed: int,
    fractions: Sequence[float],
    choices: Choices,
) -> list[np.ndarray]:
    try:
        if choices.time is not None:
            return split_in_order(moments_of(table, choices.time), fractions)
        return split_rows(strata, task, seed, fractions, units)
    except DataError as error:
        column = choices.time if choices.group is None else choices.group
        if column is None:
            raise DataError(
                f"{table.path}: its rows are so few, without copies: {error}; give more rows, or --split random"
            ) from None
        option = f"--split time:{table.names[column]}" if choices.time is not None else f"--group {table.names[column]}"
        raise OptionError(f"{option}: {error}; name another column, or leave it out") from None


def _groups(table: Table, position: int) -> np.ndarray:
    """int64 (N,), equal for rows of a group; a row without a value is a group of its own."""
    known: dict[str, int] = {}
    cells = table.columns[position].tolist()
    return np.array([len(cells) + i if v is None else known.setdefault(v, len(known)) for i, v in enumerate(cells)])


def group_units(table: Table, name: str) -> np.ndarray | None:
    """int64 (N,), equal for rows of a group of the column `name`; None where the table has no such column."""
    return _groups(table, table.names.index(name)) if name in table.names else None


# ---- notes -------------------------------------------------------------------------------------------------------------


def _how(table: Table, task: str, rows: list[np.ndarray], choices: Choices) -> str:
    shares = "85/15" if len(rows) == len(TWO_WAY) else "70/15/15"
    if choices.time is not None:
        return f"{shares} in the order of {table.names[choices.time]}"
    by_class = {"classification": " by class", "multilabel": " by labels"}.get(task, "")
    if choices.group is None:
        return f"{shares}{by_class}"
    groups = _groups(table, choices.group)
    counts = "/".join(f"{len(np.unique(groups[part])):,}" for part in rows)
    return f"{shares}{by_class}, whole groups of {table.names[choices.group]} ({counts})"


def duplicate_notes(duplicates: Duplicates, count: int, choices: Choices) -> list[str]:
    """What is done with repeated rows."""
    if not duplicates.repeats:
        return []
    what = f"rows: {duplicates.repeats:,} of {count:,} {_how_alike(duplicates)}"
    if choices.time is not None:
        return [f"{what}, and may be on both sides of a split by time"]
    if choices.how == "random":
        return [f"{what}, and may be on both sides, as --split random says"]
    if choices.how == "auto" and duplicates.coarse:
        return [f"{what}, as coarse values do by chance; split at random; --split together"]
    return [f"{what}, kept on one side of the split; --split random"]


def _few_notes(targets: np.ndarray, strata: np.ndarray, rows: list[np.ndarray]) -> list[str]:
    """A note where the rarer of two classes stands in so few rows that scores of it say little."""
    labels, counts = np.unique(strata, return_counts=True)
    if len(labels) != 2:
        return []
    rarer = labels[counts.argmin()]
    name = targets[int(np.argmax(strata == rarer))]
    found = [int((strata[part] == rarer).sum()) for part in rows[1:]]
    if min(found) >= FEW:
        return []
    shown = " and ".join(
        f"{k:,} of {len(part):,} {name}" for k, part, name in zip(found, rows[1:], SPLITS[1:], strict=False)
    )
    return [f"labels: {str(name)[:20]} stands in {shown} rows, too few to judge by; --metric pr_auc, or more rows"]


def _how_alike(duplicates: Duplicates) -> str:
    """`repeat others but for noise`: in which ways rows are copies."""
    names = duplicates.but_for
    ways = {
        f" ({duplicates.other_target:,} with another target)" if duplicates.other_target else "": duplicates.exact > 0,
        f" but for {names[0] if len(names) == 1 else 'one column'}"[:40]: bool(names),
        " but for last digits": duplicates.last_digits,
        " nearly": duplicates.near,
    }
    found = [way for way, holds in ways.items() if holds]
    if found == [" but for last digits"]:
        return "differ from others in last digits alone"
    return "nearly repeat others" if found == [" nearly"] else f"repeat others{' or'.join(found)}"


def _leak_notes(probe: Probe, inputs: list[int], groups: Collection[int], target: int) -> list[str]:
    """What alone gives the target, groups apart: those have a note of their own. Then what is made of the target."""
    leaks = [leak for leak in find_leaks(probe, inputs) if leak.position not in groups]
    lines = _alone_notes(probe, inputs, leaks) if leaks else []
    return lines + _made_notes(probe, [p for p in inputs if p not in [leak.position for leak in leaks]], target)


def _made_notes(probe: Probe, inputs: list[int], target: int) -> list[str]:
    """Which columns are made of the target, one by one or together."""
    names, y, lines = probe.table.names, probe.table.names[target], []
    below = next_targets(probe, inputs, target)
    for p in below[:MOST_NAMED]:
        lines.append(
            f"leak: {names[p]} is {y} of the next row, unknown yet where rows stand in time; --drop {shell_word(names[p])}"
        )
    means = target_means(probe, inputs, target, below)
    for p in means[:MOST_NAMED]:
        lines.append(
            f"leak: {names[p]} is the mean of {y} over the rows that share it, their own too; --drop {shell_word(names[p])}"
        )
    others = [p for p in inputs if p not in {*below, *means}]
    if (found := find_sum(probe, others)) is not None:
        rest = _share(linear_score(probe, [p for p in inputs if p not in found.positions]), probe.task)
        dropped = shell_word(",".join(names[p] for p in found.positions))
        lines.append(f"leak: {y} is {found.words}; without these, a linear model: {rest}; --drop {dropped}")
    return lines


def _alone_notes(probe: Probe, inputs: list[int], leaks: list[Leak]) -> list[str]:
    positions = [leak.position for leak in leaks]
    rest = _share(linear_score(probe, [p for p in inputs if p not in positions]), probe.task)
    without = "it" if len(leaks) == 1 else "these"
    lines = [_leak_line(probe, leak, f"without {without}, a linear model: {rest}") for leak in leaks[:MOST_NAMED]]
    more = positions[MOST_NAMED:]
    names = [probe.table.names[p] for p in more]
    if more:
        lines.append(f"leak: {len(more)} more columns each give the target; --drop {shell_word(','.join(names))}")
    return lines


def _leak_line(probe: Probe, leak: Leak, rest: str) -> str:
    name = probe.table.names[leak.position]
    where = "" if leak.everywhere else ", where it has a value"
    if leak.counts:
        told = f"counts the file's rows, so that it tells the target ({_share(leak.score, probe.task)})"
        return f"leak: {name} {told}; {rest}; --drop {shell_word(name)}"
    return f"leak: {name} alone tells the target ({_share(leak.score, probe.task)}{where}); {rest}; --drop {shell_word(name)}"


def _share(score: float, task: str) -> str:
    shown = f"{100 * score:.0f}%" if score <= 0.99 or score == 1 else f"{math.floor(1000 * score) / 10:.1f}%"
    return f"{shown} right" if task == "classification" else f"{shown} explained"


def _group_notes(probe: Probe, inputs: list[int]) -> dict[int, str]:
    """A note for each column that looks like a group's, by its position."""
    notes = {}
    for position in group_columns(probe, inputs):
        name = probe.table.names[position]
        random, apart = score_by_group(probe, inputs, position)
        if random - apart > max(FALLS, 3 * math.sqrt(0.5 / len(probe))):
            scores = f"a simple model gets {_share(apart, probe.task)} on new ones, {_share(random, probe.task)} on old"
            notes[position] = f"split: many rows share a {name}; {scores}; --group {shell_word(name)}"
        elif named_as_group(name):
            notes[position] = f"split: many rows share a {name}; to keep each on one side: --group {shell_word(name)}"
    return notes


def shared_rows_note(table: Table, other: Table, found: Partition, columns: Sequence[str]) -> list[str]:
    """A note where rows of `other`, a table to test on, are rows of `table` too, unless chance makes them so."""
    if found.duplicates.coarse:
        return []
    own, theirs = (
        RowHashes(t, range(len(columns))).rows() for t in (_selected(table, columns), _selected(other, columns))
    )
    shared = int(np.isin(theirs, own).sum())
    name = other.path.name
    what = f"rows: {shared:,} of {len(other):,} of {name} stand in {table.path.name} too: its score flatters"
    return [f"{what}; take them out, or leave --test-data out"] if shared else []


def _selected(table: Table, columns: Sequence[str]) -> Table:
    positions = [table.names.index(name) for name in columns]
    return Table(table.path, list(columns), [table.columns[p] for p in positions], table.header, table.decimal_comma)
