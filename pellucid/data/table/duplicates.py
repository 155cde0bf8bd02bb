"""Rows that come more than once: found before the split, so that no copy of a training row is tested on (floor 4).

Rows are compared by hashes of what their cells say: 1 and 1.0 are the same number. Where the columns are so coarse that
chance repeats rows (three categories, say), repeats are data and no copies. Then come rows that repeat others but for one
column, those that differ only in their last digits, found by rounding every number to a grid, and those that are nearer to
one another than neighbours are.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .near_copies import near_copies
from .read import Table

MORE_THAN_CHANCE = 3.0  # times as many pairs of equal rows as independent columns would make
COPIES = 0.5  # of the pairs of equal rows, the share that is no chance where repeats are taken for copies
SAMPLE = 100_000  # rows that shares and near copies are judged by
JUDGED = 20  # columns left out one by one
GRID = 0.01  # of a column's spread: rows on the same point of the grid in every column are nearly equal
FINER = 4  # near copies are found on a grid so many times finer too; neighbours by chance are not
KEPT_OF_NEAR = 0.6
NEAR_FROM = 0.01  # of all rows, that near copies must make up
FEW_DIFFERENT = 10  # rows: fewer may well come equally often by chance
OFTEN = 0.02  # of the rows, from which a value is counted by itself
FAR = 10.0  # spreads of a column, as which a gap lies away from its numbers
TEXTS = 3.0  # spreads, over which the texts of a column are strewn


@dataclass(frozen=True)
class Duplicates:
    """What is known of repeated rows among N.

    units: int64 (N,), equal for rows that are copies; None where there are none.
    repeats: rows that repeat an earlier one, in one of the ways below.      exact: how many of them in every column.
    other_target: how many of these have another target.      coarse: whether chance makes such repeats.
    but_for: names of columns, one of which alone tells some copies apart.
    last_digits: some differ in last digits alone.      near: some only nearly agree.
    """

    units: np.ndarray | None
    repeats: int = 0
    exact: int = 0
    other_target: int = 0
    coarse: bool = False
    but_for: tuple[str, ...] = ()
    last_digits: bool = False
    near: bool = False


class RowHashes:
    """Hashes of a table's cells: uint64 (N,) a column, equal where the cells say the same."""

    def __init__(self, table: Table, columns: Sequence[int]) -> None:
        self.table = table
        self.columns = list(columns)

    def __len__(self) -> int:
        return len(self.table)

    def numbers(self, position: int) -> np.ndarray | None:
        """A column's float64 numbers, NaN where missing; None where some of it is text."""
        found = self.table.parsed(position)
        return None if found is None or len(found[1]) else found[0]

    def column(self, position: int, rows: np.ndarray | None = None) -> np.ndarray:
        numbers = self.numbers(position)
        if numbers is not None:
            return mixed(_bits(numbers if rows is None else numbers[rows]), position)
        cells = self.table.columns[position] if rows is None else self.table.columns[position][rows]
        return mixed(text_bits(cells), position)

    def rows(self, rows: np.ndarray | None = None) -> np.ndarray:
        """The hash of each row, uint64 (N,): the sum of its cells'."""
        total = np.zeros(len(self) if rows is None else len(rows), dtype=np.uint64)
        for position in self.columns:
            total += self.column(position, rows)
        return total

    def rounded(self, grid: dict[int, float], shift: float, rows: np.ndarray | None = None) -> np.ndarray:
        """The hash of each row with the numbers of the columns in `grid` rounded to multiples of its step."""
        total = np.zeros(len(self) if rows is None else len(rows), dtype=np.uint64)
        for position in self.columns:
            numbers = self.numbers(position)
            if position in grid and numbers is not None:
                own = numbers if rows is None else numbers[rows]
                total += mixed(_bits(np.floor(own / grid[position] + shift)), position)
            else:
                total += self.column(position, rows)
        return total


def _bits(numbers: np.ndarray) -> np.ndarray:
    """uint64 (N,), one for all NaN and for both zeros."""
    return np.where(np.isnan(numbers), np.nan, numbers + 0.0).view(np.uint64)


def text_bits(cells: np.ndarray) -> np.ndarray:
    """uint64 (N,) of text, None where missing, the same in every process: a split is drawn from it."""
    texts = cells.tolist()
    known = {text: _digest(text) for text in set(texts)}
    return np.fromiter(map(known.__getitem__, texts), np.uint64, len(texts))


def _digest(text: str | None) -> int:
    return 0 if text is None else int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest())


def mixed(bits: np.ndarray, salt: int) -> np.ndarray:
    """Bits of splitmix64 (Steele et al. 2014), so that sums of them collide by chance alone."""
    x = bits + np.uint64((salt + 1) * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def first_rows(table: Table, columns: Sequence[int]) -> np.ndarray:
    """The rows (int64, ascending) that repeat no earlier one in `columns`."""
    return np.sort(np.unique(RowHashes(table, columns).rows(), return_index=True)[1])


def find_duplicates(table: Table, inputs: Sequence[int], target: int) -> Duplicates:
    """Rows whose inputs are copies of one another, exactly or nearly, whatever their target."""
    hashes = RowHashes(table, inputs)
    if not inputs:
        return Duplicates(None)
    rows = hashes.rows()
    in_order = np.sort(rows)
    units, repeats, other = np.arange(len(rows)), int(np.count_nonzero(in_order[1:] == in_order[:-1])), 0
    if repeats:
        _, units, sizes = np.unique(rows, return_inverse=True, return_counts=True)
        units = units.reshape(-1)
        whole = np.unique(rows + hashes.column(target))
        other = len(whole) - len(sizes)
        if not _stands_several_times(rows + hashes.column(target)) and _chance_repeats(hashes, sizes):
            return Duplicates(units, repeats, repeats, other, coarse=True)
    units, but_for = _but_for_one(hashes, rows, units, hashes.column(target))
    told = [p for p in inputs if (table.names[p],) != but_for]  # what is left says which rows nearly agree
    units, last_digits = _merged(units, _last_digits(RowHashes(table, told), _firsts(units)))
    units, near = _merged(units, near_copies(_firsts(units), Space(RowHashes(table, told), _sample(len(table)))))
    count = len(units) - len(_firsts(units))
    return Duplicates(units if count else None, count, repeats, other, False, but_for, last_digits, near)


def _firsts(units: np.ndarray) -> np.ndarray:
    """The first row of each unit, int64, ascending."""
    first = np.full(int(units.max()) + 1, -1)
    first[units[::-1]] = np.arange(len(units))[::-1]
    return np.sort(first[first >= 0])


def _merged(units: np.ndarray, of_firsts: np.ndarray | None) -> tuple[np.ndarray, bool]:
    """Units of all rows, those joined whose first rows are `of_firsts` of one unit, and whether there are such."""
    if of_firsts is None:
        return units, False
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first, kind="stable"), kind="stable")  # of each unit among the first rows
    return of_firsts[place[unit.reshape(-1)]], True


def _pairs(sizes: np.ndarray) -> float:
    return float((sizes.astype(np.float64) * (sizes - 1)).sum() / 2)


def _stands_several_times(rows: np.ndarray) -> bool:
    """Whether every row comes equally often, or a multiple of that: a file that was appended to itself."""
    sizes = np.unique(rows, return_counts=True)[1]
    return len(sizes) >= FEW_DIFFERENT and int(np.gcd.reduce(sizes)) > 1


# ---- copies, or chance -------------------------------------------------------------------------------------------------


def _chance_repeats(hashes: RowHashes, sizes: np.ndarray) -> bool:
    """Whether columns are so coarse that chance makes as many equal rows, `sizes` being how often each comes."""
    sample = _sample(len(hashes))
    counts = {position: _counts(hashes, position, sample) for position in hashes.columns}
    possible = [_possible(hashes, position, own, sample) for position, own in counts.items()]
    if float(np.prod(possible)) <= len(sample):
        return True
    agree = {position: _agreement(hashes, position, own, sample) for position, own in counts.items()}
    expected = len(hashes) * (len(hashes) - 1) / 2 * float(np.prod(list(agree.values())))
    if _pairs(sizes) <= MORE_THAN_CHANCE * expected:
        return True
    # Columns that depend on one another repeat more often than independent ones. So ask of each: of the pairs that agree in
    # all others, how many agree here too, and how many of these by chance? Copies all do.
    rows = hashes.rows(sample)
    pairs = _pairs(np.unique(rows, return_counts=True)[1])
    if not pairs:
        return False
    for position in sorted(agree, key=lambda p: agree[p])[:JUDGED]:
        without = _pairs(np.unique(rows - hashes.column(position, sample), return_counts=True)[1])
        chance = agree[position]
        if chance < 1 and (pairs - chance * without) / (1 - chance) < COPIES * pairs:
            return True
    return False


def _sample(count: int) -> np.ndarray:
    """Row numbers, evenly spread; pairs stay pairs since no row is left out of a small table."""
    if count <= SAMPLE:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, SAMPLE, replace=False))


def _counts(hashes: RowHashes, position: int, rows: np.ndarray) -> np.ndarray:
    """How often each value of a column comes."""
    return np.unique(hashes.column(position, rows), return_counts=True)[1]


def _possible(hashes: RowHashes, position: int, counts: np.ndarray, rows: np.ndarray) -> float:
    """How many values a column may have: those that it has, or the numbers of its step in its range."""
    step, spread = _step_and_spread(hashes, position, rows)
    return max(float(len(counts)), spread / step if step else 0.0)


def _agreement(hashes: RowHashes, position: int, counts: np.ndarray, rows: np.ndarray) -> float:
    """The chance that two rows that are no copies agree in a column.

    Values that come often are counted. The others of a column of numbers are taken as spread over its range, since copies
    would count as agreement.
    """
    shares = counts / int(counts.sum())
    step, spread = _step_and_spread(hashes, position, rows)
    if not step:
        return float((shares**2).sum())
    often = (shares >= OFTEN) & (counts >= 5)
    rest = 1 - float(shares[often].sum())
    return float((shares[often] ** 2).sum()) + rest**2 * min(1.0, step / spread)


def _step_and_spread(hashes: RowHashes, position: int, rows: np.ndarray) -> tuple[float, float]:
    """The usual least distance of a column's numbers, and their range, outliers apart; zeros for text."""
    numbers = hashes.numbers(position)
    values = np.zeros(0) if numbers is None else np.unique(numbers[rows][~np.isnan(numbers[rows])])
    if len(values) < 2:
        return 0.0, 0.0
    step = float(np.quantile(np.diff(values), 0.05))
    low, high = np.quantile(values, [0.1, 0.9])
    return step, max(float(high - low) / 0.8, step)


# ---- the same but for one column ------------------------------------------------------------------------------------


def _but_for_one(
    hashes: RowHashes, rows: np.ndarray, units: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Units joined where rows agree in all columns but one, more often than chance makes them; the names of such columns.

    A number of the row that was not recognised, or a column of noise, would hide copies else. Rows that differ in that column
    and in their target too are no copies: they are of one patient, say, or of one category. target: hashes (N,).
    """
    if len(hashes.columns) < 3:
        return units, ()
    firsts = _firsts(units)
    sample = _sample(len(rows))
    agree = {p: float(((_counts(hashes, p, sample) / len(sample)) ** 2).sum()) for p in hashes.columns}
    names = []
    for position in sorted(hashes.columns, key=lambda p: agree[p])[:JUDGED]:
        without = rows - hashes.column(position)
        without_firsts = without if len(firsts) == len(without) else without[firsts]
        in_order = np.sort(without_firsts)
        if np.count_nonzero(in_order[1:] == in_order[:-1]) < max(3.0, NEAR_FROM * len(rows) / 2):
            continue
        _, sizes = np.unique(without_firsts, return_counts=True)
        others = RowHashes(hashes.table, [p for p in hashes.columns if p != position])
        if _targets_agree(without, target) and not _chance_repeats(others, sizes):
            names.append(hashes.table.names[position])
            units = joined(units, without)
    return units, tuple(names)


def _targets_agree(rows: np.ndarray, target: np.ndarray) -> bool:
    """Whether pairs of equal `rows` (N,) have the same target, nearer to always than to what chance gives."""
    pairs = _pairs(np.unique(rows, return_counts=True)[1])
    agreeing = _pairs(np.unique(rows + target, return_counts=True)[1])
    chance = _pairs(np.unique(target, return_counts=True)[1]) / _pairs(np.array([len(target)]))
    return agreeing >= (1 + chance) / 2 * pairs


# ---- nearly the same ---------------------------------------------------------------------------------------------------


def _last_digits(hashes: RowHashes, rows: np.ndarray) -> np.ndarray | None:
    """Units of `rows` that differ in last digits alone. They are as near on a finer grid; mere neighbours are not."""
    sample = rows[_sample(len(rows))]
    grid = _grid(hashes, sample)
    if not grid:
        return None
    share = len(sample) / len(rows)
    finer = {position: step / FINER for position, step in grid.items()}
    sizes = np.unique(hashes.rounded(grid, 0.5, sample), return_counts=True)[1]
    wanted = max(3.0, NEAR_FROM * len(rows) / 2) * share**2
    pairs = _pairs(sizes)
    if pairs < wanted or pairs * KEPT_OF_NEAR > _pairs(
        np.unique(hashes.rounded(finer, 0.5, sample), return_counts=True)[1]
    ):
        return None
    one, other = (
        np.unique(hashes.rounded(grid, shift, rows), return_inverse=True)[1].reshape(-1) for shift in (0.5, 0.0)
    )  # two grids: neighbours that one of them parts are together in the other
    return joined(one, other)


def _grid(hashes: RowHashes, sample: np.ndarray) -> dict[int, float]:
    """The step for each column of numbers that is finer than it."""
    grid = {}
    for position in hashes.columns:
        numbers = hashes.numbers(position)
        if numbers is None:
            continue
        values = np.unique(numbers[sample][~np.isnan(numbers[sample])])
        if len(values) < 2:
            continue
        low, high = np.quantile(values, [0.1, 0.9])
        step = GRID * float(high - low) / 0.8
        if float(np.diff(values).min()) < step / FINER:
            grid[position] = step
    return grid


def joined(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """int64 (N,): equal for rows that share a number in `one` or in `other`, at any number of removes."""
    unit = np.unique(one, return_inverse=True)[1].reshape(-1)
    other = np.unique(other, return_inverse=True)[1].reshape(-1)
    while True:
        lowest = np.full(int(other.max()) + 1, len(unit), dtype=np.int64)
        np.minimum.at(lowest, other, unit)
        merged = np.full(int(unit.max()) + 1, len(unit), dtype=np.int64)
        np.minimum.at(merged, unit, lowest[other])
        after = merged[unit]
        if np.array_equal(after, unit):
            return unit
        unit = after


class Space:
    """Rows as points: numbers in spreads of their column, texts as places that are far from one another."""

    def __init__(self, hashes: RowHashes, sample: np.ndarray) -> None:
        self.hashes = hashes
        self.scales: dict[int, tuple[float, float]] = {}  # middle and spread of a column of numbers; nothing of a text
        for position in hashes.columns:
            numbers = hashes.numbers(position)
            values = np.zeros(0) if numbers is None else numbers[sample][~np.isnan(numbers[sample])]
            if len(values):
                low, middle, high = np.quantile(values, [0.1, 0.5, 0.9])
                self.scales[position] = float(middle), float(high - low) / 0.8 or float(values.std()) or 1.0

    def __call__(self, rows: np.ndarray, column: int | None) -> np.ndarray:
        columns = self.hashes.columns if column is None else [self.hashes.columns[column]]
        return np.stack([self._places(position, rows) for position in columns], axis=1)

    def _places(self, position: int, rows: np.ndarray) -> np.ndarray:
        numbers = self.hashes.numbers(position)
        if numbers is None or position not in self.scales:
            cells = self.hashes.table.columns[position][rows].tolist()
            return np.array([zlib.crc32(str(cell).encode()) for cell in cells]) * (TEXTS / 2**32)
        middle, spread = self.scales[position]
        return np.nan_to_num((numbers[rows] - middle) / spread, nan=-FAR)
