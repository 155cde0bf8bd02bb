"""A large table encoded a batch at a time, each row into the part where its copies or its group are (floor 4).

The rows that were drawn are split as a small table is; every other row follows a row drawn that has its key (its hash, its
group), or its own key decides. By time, the moments at which the parts of the rows drawn begin decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import DataError
from ..problem import Examples, RawExample
from ..split import THREE_WAY, TWO_WAY
from .duplicates import Duplicates, RowHashes, mixed, text_bits
from .findings import rows_told, shown_cell
from .infer import FEW_STRAYS, target_gaps
from .large import LargeTable, available_memory
from .partition import Choices, Partition, stay_together
from .preprocess import DateColumn, NumberColumn, TablePreprocessor
from .read import Table
from .targets import row_weights
from .time_order import moments_of

BESIDES = 1_000_000_000  # bytes that a process takes beside the encoded rows
BYTES_A_ROW = 40  # for keys and parts, while rows are encoded


@dataclass(frozen=True)
class PartOf:
    """The part of each row of a batch. by: "time", "group", "copy" or "row".

    known, parts: keys of the rows drawn, uint64 ascending, and the part of each. cuts: moments at which parts after the first begin.
    """

    by: str
    choices: Choices
    fractions: Sequence[float]
    seed: int
    known: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    parts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    cuts: tuple[float, ...] = ()

    def __call__(self, table: Table, hashes: np.ndarray) -> np.ndarray:
        """int64 (N,). hashes: uint64 (N,) of the rows."""
        if self.choices.time is not None:
            return np.searchsorted(self.cuts, moments_of(table, self.choices.time), side="right")
        keys = self.keys(table, hashes)
        drawn = mixed(keys, self.seed).astype(np.float64) / 2.0**64
        part = np.searchsorted(np.cumsum(self.fractions)[:-1], drawn, side="right")
        at = np.searchsorted(self.known, keys).clip(max=len(self.known) - 1)
        return np.where(self.known[at] == keys, self.parts[at], part)

    def keys(self, table: Table, hashes: np.ndarray) -> np.ndarray:
        """What rows that stay together share, uint64 (N,)."""
        if self.by == "copy":
            return hashes
        assert table.rows is not None
        rows = mixed(table.rows.astype(np.uint64), 0)
        if self.by == "row" or self.choices.group is None:
            return rows
        cells = table.columns[self.choices.group]
        return np.where(cells == None, rows, text_bits(cells))  # noqa: E711, of each value


def part_of(drawn: Table, hashes: np.ndarray, found: Partition, choices: Choices, seed: int) -> PartOf:
    """The rule by which the rows drawn were split. hashes: of the rows drawn."""
    fractions = TWO_WAY if len(found.rows) == len(TWO_WAY) else THREE_WAY
    if choices.time is not None:
        when = moments_of(drawn, choices.time)
        return PartOf("time", choices, fractions, seed, cuts=tuple(float(when[own].min()) for own in found.rows[1:]))
    by = "group" if choices.group is not None else "copy" if stay_together(choices, found.duplicates) else "row"
    keys = PartOf(by, choices, fractions, seed).keys(drawn, hashes)
    part = np.zeros(len(drawn), np.int64)
    for k, own in enumerate(found.rows):
        part[own] = k
    known, first = np.unique(keys, return_index=True)
    return PartOf(by, choices, fractions, seed, known, part[first])


@dataclass
class Encoded:
    """All rows that have a target: encoded, and of each the row of the file, its part, and its hash without and with the target."""

    examples: Examples
    rows: np.ndarray
    parts: np.ndarray
    hashes: np.ndarray
    whole: np.ndarray
    notes: list[str]

    def split(self, count: int) -> tuple[list[Examples], list[np.ndarray]]:
        """The examples and the rows of each of `count` parts. Takes the arrays one by one: both are never there whole."""
        own = [np.flatnonzero(self.parts == k) for k in range(count)]
        take = lambda array: [array[rows] for rows in own]
        inputs = {name: take(self.examples.inputs.pop(name)) for name in list(self.examples.inputs)}
        targets, weights = take(self.examples.target), [None] * count
        if self.examples.weight is not None:
            weights = take(self.examples.weight)
        parts = [Examples({n: x[k] for n, x in inputs.items()}, targets[k], weights[k]) for k in range(count)]
        return parts, take(self.rows)

    def duplicates(self, coarse: bool) -> Duplicates:
        """The rows whose inputs are those of an earlier row, exactly."""
        different = _different(self.hashes)
        other = _different(self.whole) - different
        return Duplicates(None, len(self.rows) - different, other, coarse)


def _different(hashes: np.ndarray) -> int:
    in_order = np.sort(hashes)
    return 1 + int(np.count_nonzero(in_order[1:] != in_order[:-1]))


class Strays:
    """Cells that the format of their column does not read, where the rows drawn had none: counted, and taken for missing."""

    def __init__(self, preprocessor: TablePreprocessor) -> None:
        every: list[NumberColumn | DateColumn] = [*preprocessor.numbers, *preprocessor.dates]
        self.columns = [column for column in every if not column.strays]
        self.found: dict[str, tuple[int, str, str]] = {}  # how many, the first one, and where

    def count(self, batch: Table) -> None:
        for column in self.columns:
            position = batch.names.index(column.name)
            strays = self._rows(column, batch, position)
            if len(strays):
                column.strays = True  # so that it is encoded as missing, here and in prediction
                i = int(strays[0])
                before = self.found.get(column.name, (0, str(batch.columns[position][i]), batch.where(i)))
                self.found[column.name] = (before[0] + len(strays), *before[1:])

    def _rows(self, column: NumberColumn | DateColumn, batch: Table, position: int) -> np.ndarray:
        if isinstance(column, DateColumn):
            return column.read(batch.columns[position])[1]
        return batch.numbers_like(position, column.format).strays

    def notes(self, count: int) -> list[str]:
        """A note for each column. Raises DataError for one that has many, of `count` rows."""
        for name, (times, cell, where) in self.found.items():
            if times > FEW_STRAYS * count:
                raise DataError(f"{where}, column {name}: {cell!r:.40} is not written as the rows drawn at random are, nor are {times:,} others of "
                                f"{count:,}; expected one form; correct the column, or pass --drop {name}")  # fmt: skip
        return [
            f"numbers: {name}: {shown_cell(cell)} and the like in {rows_told(times)} not drawn, taken for missing; --drop {name}"
            for name, (times, cell, _) in self.found.items()
        ]


def encode_large(
    large: LargeTable, drawn: Table, target: int, weight: tuple[int, float] | None, preprocessor: TablePreprocessor,
    inputs: Sequence[int], parts: PartOf,
) -> Encoded:  # fmt: skip
    """Every row that has a target. drawn: the rows that decided. inputs: columns that are hashed.

    weight: the column of weights and what they are divided by. Raises DataError with the row.
    """
    store, strays, rows = _Arrays(len(large)), Strays(preprocessor), 0
    for batch in large.batches(drawn):
        batch = batch.take(
            np.flatnonzero(~target_gaps(batch, target, preprocessor.task, preprocessor.target_form.sentinels))
        )
        if not len(batch):
            continue
        assert batch.rows is not None
        strays.count(batch)
        hashes = RowHashes(batch, inputs).rows()
        own = {"rows": batch.rows, "parts": parts(batch, hashes).astype(np.int8), "hashes": hashes}
        own["whole"] = hashes + RowHashes(batch, [target]).rows()
        own |= {f"input {name}": array for name, array in preprocessor.encode(batch).items()}
        own["target"] = preprocessor.encode_target(batch)
        if weight is not None:
            own["weight"] = (row_weights(batch, weight[0]) / weight[1]).astype(np.float32)
        store.add(own)
        rows += len(batch)
    found = store.filled()
    encoded = {name.removeprefix("input "): found[name] for name in list(found) if name.startswith("input ")}
    examples = Examples(encoded, found["target"], found.get("weight"))
    notes = strays.notes(rows)
    if rows < len(large):
        notes.append(
            f"rows: left out, without a value of {drawn.names[target]}: {len(large) - rows:,} of {len(large):,}"
        )
    return Encoded(examples, found["rows"], found["parts"], found["hashes"], found["whole"], notes)


class _Arrays:
    """Arrays of at most `count` rows, written from the first row on."""

    def __init__(self, count: int) -> None:
        self.count, self.at = count, 0
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, rows: dict[str, np.ndarray]) -> None:
        stop = self.at + len(next(iter(rows.values())))
        for name, array in rows.items():
            if name not in self.arrays:
                self.arrays[name] = np.empty((self.count, *array.shape[1:]), array.dtype)
            self.arrays[name][self.at : stop] = array
        self.at = stop

    def filled(self) -> dict[str, np.ndarray]:
        return {name: array[: self.at] for name, array in self.arrays.items()}


def check_memory(large: LargeTable, drawn: Examples) -> None:
    """Raise DataError where the encoded rows will not fit, with how many would. drawn: some of them, encoded."""
    arrays = [*drawn.inputs.values(), drawn.target, *([] if drawn.weight is None else [drawn.weight])]
    each = 2 * sum(array.nbytes for array in arrays) / len(drawn) + BYTES_A_ROW  # parts are copied from the whole
    free = available_memory()
    if len(large) * each + BESIDES > free:
        fit = max(0, int((free - BESIDES) / each))
        most = f"about {10 ** (len(str(fit)) - 2) * int(str(fit)[:2]):,} rows" if fit >= 100 else "no such table"
        raise DataError(f"{large.path}: {len(large):,} rows take {(len(large) * each + BESIDES) / 1e9:.1f} GB of memory to learn from, and "
                        f"{free / 1e9:.1f} GB are free; expected a table that fits; {most} would; give fewer rows, or columns (--drop)")  # fmt: skip


def raw_rows(large: LargeTable, rows: np.ndarray) -> RawExample:
    """Row `i` of a part, whose rows of the file are `rows`, as it was."""
    return lambda i: large.take(rows[i : i + 1]).row(0)
