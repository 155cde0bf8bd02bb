"""Scores that would flatter: a column that alone gives the target, and groups of rows on both sides (floor 4).

Columns are tried one by one with the simplest predictor there is, the target of the nearest value, and all together with a
linear model by least squares. Both are scored on rows held back from the training and validation rows: nothing here reads
a test row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...random import Generator
from .delimited import MISSING_INPUT
from .identifiers import MEASURES, name_words
from .preprocess import label_text
from .read import Table

MOST_ROWS = 10_000  # that are looked at
UNEXPLAINED = 0.01  # a column that leaves less of a class's rows, or of a number's variance, gives the target away
COUNTED = 0.25  # likewise, of a column that counts the rows
EXPECTED_ERRORS = 8  # that guessing would make, without which nothing can be said
PRESENT = 0.2  # of the rows, in which a column must have a value to be judged by these alone
FOLDS = 5
MOST_CATEGORIES = 50  # of a column, in the linear model
MOST_COLUMNS = 400  # of the linear model's matrix
RIDGE = 1.0
MOST_GROUP_ROWS = 2000
LEAST_GROUPS = 10
MOST_GROUP_COLUMNS = 3
FALLS = 0.1  # of accuracy or of the variance explained, that a group column takes from a score
GROUP_NAMES = (
    "patient customer user subject session client person participant household family donor animal speaker author student "
    "employee player account driver writer respondent device machine sensor batch site"
)
MEASURED = (
    "temperature temp precip precipitation rain rainfall snow snowfall wind humidity pressure depth height weight width length size "
    "distance speed price amount cost income salary score rate age percent pct count total"
)  # of numbers that no group is called
UNIT = re.compile(r"[(\[][^()\[\]]{1,8}[)\]]\s*$")  # as (in), at the end of a name
ROWS_A_GROUP = 2.5  # at least, on average

Model = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]  # known rows, what they are, rows that are asked


@dataclass(frozen=True)
class Leak:
    """A column that gives the target: its share of right answers, or of variance explained, where it has a value.

    counts: whether it only counts the rows in the order of the file, which stand by their target then.
    """

    position: int
    score: float
    everywhere: bool
    counts: bool = False


class Probe:
    """The rows that questions about leaks are answered by: of `rows` some thousands at most, in FOLDS folds.

    rows: int64, without copies of one another.      target: int64 classes or float64 numbers (N,).
    """

    def __init__(
        self,
        table: Table,
        rows: np.ndarray,
        target: int,
        task: str,
        strip: str | None,
        seed: int,
        most: int = MOST_ROWS,
    ) -> None:
        bits = Generator(seed).bits(len(rows)).array
        self.rows = np.sort(rows[np.argsort(bits, kind="stable")[:most]])
        self.whole, self.table = table, table.take(self.rows)
        self.task = task
        if task == "classification":
            labels = [label_text(value, strip) for value in self.table.columns[target].tolist()]
            self.target = np.unique(labels, return_inverse=True)[1].reshape(-1)
        else:
            self.target = table.numbers_and_strays(target)[0][self.rows]
        self.fold = np.argsort(np.argsort(Generator(seed + 1).bits(len(self.rows)).array, kind="stable")) % FOLDS

    def __len__(self) -> int:
        return len(self.rows)

    def values(self, position: int) -> np.ndarray | None:
        """float64 (N,), NaN where missing; None for a column of text."""
        found = self.whole.parsed(position)
        return None if found is None or len(found[1]) else found[0][self.rows]

    def codes(self, position: int) -> np.ndarray:
        """int64 (N,), equal for equal texts; 0 where missing."""
        known: dict[str | None, int] = {None: 0}
        cells = [None if v is None or v.lower() in MISSING_INPUT else v for v in self.table.columns[position].tolist()]
        return np.array([known.setdefault(value, len(known)) for value in cells], dtype=np.int64)

    def unexplained(self, predicted: np.ndarray, rows: np.ndarray | None = None) -> float | None:
        """Errors, as a share of those of always giving the most frequent class or the mean; None for too few rows."""
        target = self.target if rows is None else self.target[rows]
        if self.task == "classification":
            if len(target) == 0:
                return None
            base = len(target) - int(np.bincount(target).max())
            return None if base < EXPECTED_ERRORS else float(np.count_nonzero(predicted != target)) / base
        variance = float(((target - target.mean()) ** 2).sum()) if len(target) >= 2 * EXPECTED_ERRORS else 0.0
        return None if variance == 0 else float(((predicted - target) ** 2).sum()) / variance

    def score(self, predicted: np.ndarray, rows: np.ndarray | None = None) -> float:
        """Accuracy, or the share of variance explained (not below 0)."""
        target = self.target if rows is None else self.target[rows]
        if self.task == "classification":
            return float((predicted == target).mean())
        return max(0.0, 1 - (self.unexplained(predicted, rows) or 0.0))


# ---- one column --------------------------------------------------------------------------------------------------------


def find_leaks(probe: Probe, columns: Sequence[int]) -> list[Leak]:
    """The columns that alone give the target; none where only one is there to learn from."""
    leaks = []
    for position in columns if len(columns) > 1 else ():
        leak = _leak(probe, position)
        if leak is not None:
            leaks.append(leak)
    return leaks if len(leaks) < len(columns) else []


def _leak(probe: Probe, position: int) -> Leak | None:
    numbers = probe.values(position)
    values = probe.codes(position).astype(np.float64) if numbers is None else numbers
    missing = values == 0 if numbers is None else np.isnan(values)
    present = np.flatnonzero(~missing)
    if numbers is None and len(set(values.tolist())) > len(values) // 2:
        return None  # texts that name rows
    filled = np.where(missing, np.inf, values)  # a gap is a value of its own: some columns are filled afterwards
    predicted = _nearest(probe, filled, np.arange(len(filled)), numbers is None)
    if _gives_away(probe.unexplained(predicted)):
        return Leak(position, probe.score(predicted), True)
    if _counts_rows(probe, position) and (probe.unexplained(predicted) or 1.0) <= COUNTED:
        return Leak(position, probe.score(predicted), True, counts=True)
    if PRESENT * len(values) <= len(present) < len(values):
        predicted = _nearest(probe, values[present], present, numbers is None)
        if _gives_away(probe.unexplained(predicted, present)):
            return Leak(position, probe.score(predicted, present), False)
    return None


def _counts_rows(probe: Probe, position: int) -> bool:
    """Whether whole numbers fill a range in the order of the file; one that may be a measure only says so beside classes."""
    found = probe.whole.parsed(position)
    if found is None or len(found[1]) or probe.whole.drawn_from is not None:
        return False
    steps = np.diff(found[0])
    if not (np.all(found[0] % 1 == 0) and (np.all(steps > 0) or np.all(steps < 0))):
        return False
    dense = abs(float(found[0][-1] - found[0][0])) < 2 * len(found[0])
    named = set(name_words(probe.table.names[position])) & set(MEASURES.split())
    return dense and (probe.task == "classification" or not named)


def _gives_away(unexplained: float | None) -> bool:
    return unexplained is not None and unexplained <= UNEXPLAINED


def _nearest(probe: Probe, values: np.ndarray, rows: np.ndarray, names: bool) -> np.ndarray:
    """What held-out `rows` would be by the nearest of `values` in the other folds, or by lines between two of them.

    names: the values only have equals, no neighbours; those that are new get the most frequent class or the mean.
    """
    target, fold = probe.target[rows], probe.fold[rows]
    result = np.zeros(len(rows), dtype=target.dtype)
    for k in range(FOLDS):
        known, asked = fold != k, fold == k
        if known.any() and asked.any():
            different, of = np.unique(values[known], return_inverse=True)
            answers, usual = _answers(probe.task, of.reshape(-1), target[known])
            result[asked] = _looked_up(different, answers, values[asked], usual if names else None)
    return result


def _answers(task: str, of: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """The most frequent class or the mean for each value, and for all of them."""
    if task == "regression":
        return np.bincount(of, target) / np.bincount(of), float(target.mean())
    width = int(target.max()) + 1
    pairs, times = np.unique(of * width + target, return_counts=True)
    order = np.lexsort((-pairs, times))
    answers = np.zeros(int(of.max()) + 1, dtype=np.int64)
    answers[pairs[order] // width] = pairs[order] % width
    return answers, int(np.bincount(target).argmax())


def _looked_up(different: np.ndarray, answers: np.ndarray, asked: np.ndarray, usual: float | None) -> np.ndarray:
    right = np.searchsorted(different, asked).clip(0, len(different) - 1)
    if usual is not None:
        return np.where(different[right] == asked, answers[right], usual).astype(answers.dtype)
    if answers.dtype.kind == "f" and np.isfinite(different[-1]):
        return np.interp(asked, different, answers)
    left = (right - 1).clip(0)
    with np.errstate(invalid="ignore"):
        nearer = np.abs(asked - different[left]) < np.abs(different[right] - asked)
    return np.asarray(answers[np.where(nearer, left, right)])


# ---- all columns -------------------------------------------------------------------------------------------------------


def linear_score(probe: Probe, columns: Sequence[int], fold: np.ndarray | None = None) -> float:
    """Accuracy, or the share of variance explained, of ridge regression on held-out folds (on indicators of the classes)."""
    matrix = _matrix(probe, columns)
    return _cross_validated(probe, matrix, probe.fold if fold is None else fold, _ridge)


def _cross_validated(probe: Probe, matrix: np.ndarray, fold: np.ndarray, model: Model) -> float:
    target = probe.target
    if probe.task == "classification":
        wanted = np.eye(int(target.max()) + 1)[target]
    else:
        wanted = target[:, None].astype(np.float64)
    output = np.zeros_like(wanted)
    for k in range(FOLDS):
        known, asked = fold != k, fold == k
        if known.any() and asked.any():
            output[asked] = model(matrix[known], wanted[known], matrix[asked])
    return probe.score(output.argmax(axis=1) if probe.task == "classification" else output[:, 0])


def _ridge(known: np.ndarray, wanted: np.ndarray, asked: np.ndarray) -> np.ndarray:
    mean, center = wanted.mean(axis=0), known.mean(axis=0)
    x = known - center
    gram = x.T @ x + RIDGE * np.eye(x.shape[1])
    return np.asarray((asked - center) @ np.linalg.solve(gram, x.T @ (wanted - mean)) + mean)


def _neighbour(known: np.ndarray, wanted: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """What the nearest known row is. Rows of one patient are near one another."""
    squares = (known**2).sum(axis=1)
    nearest = [int(np.argmin(squares - 2 * (known @ row))) for row in asked]
    return np.asarray(wanted[nearest])


def _matrix(probe: Probe, columns: Sequence[int]) -> np.ndarray:
    """Numbers standardised, the frequent texts of a column as indicators: float64 (N, at most MOST_COLUMNS)."""
    parts: list[np.ndarray] = []
    for position in columns:
        values = probe.values(position)
        if values is None:
            codes = probe.codes(position)
            frequent = [code for code, times in Counter(codes.tolist()).most_common(MOST_CATEGORIES) if times > 1]
            parts += [(codes == code).astype(np.float64) for code in frequent]
        elif not np.isnan(values).all():
            filled = np.where(np.isnan(values), np.nanmedian(values), values)
            deviation = float(filled.std())
            if deviation > 0:
                parts.append(((filled - filled.mean()) / deviation).clip(-10, 10))
        if len(parts) >= MOST_COLUMNS:
            break
    return np.stack(parts[:MOST_COLUMNS], axis=1) if parts else np.zeros((len(probe), 1))


# ---- groups ------------------------------------------------------------------------------------------------------------


def group_columns(probe: Probe, columns: Sequence[int]) -> list[int]:
    """The columns that may be those of a group, as of patients: many rows share a value. Named ones stand first."""
    found = []
    for position in columns:
        numbers = probe.whole.parsed(position)
        if numbers is not None and np.any(numbers[0][probe.rows] % 1 != 0):  # a gap too is no group, nor a word for one
            continue
        if numbers is not None and _is_measure(probe.table.names[position]):
            continue
        codes = probe.codes(position)
        different = len(set(codes.tolist()))
        if LEAST_GROUPS <= different <= len(codes) / ROWS_A_GROUP:
            found.append(position)
    return sorted(found, key=lambda position: not named_as_group(probe.table.names[position]))[:MOST_GROUP_COLUMNS]


def _is_measure(name: str) -> bool:
    """`Precip (in)`, `max temp`."""
    return UNIT.search(name) is not None or bool(set(MEASURED.split()) & set(name_words(name)))


def named_as_group(name: str) -> bool:
    """`patient_id`, `Customer`."""
    return bool(set(GROUP_NAMES.split()) & set(name_words(name)))


def score_on_folds(probe: Probe, columns: Sequence[int], fold: np.ndarray, beside: np.ndarray) -> float:
    """The better score of a linear model and the nearest row on rows held back by `fold` (N,).

    beside: more columns float64 (N, any), of about the same scale.
    """
    matrix = np.concatenate([_matrix(probe, columns), beside], axis=1)
    return max(_cross_validated(probe, matrix, fold, model) for model in (_ridge, _neighbour))


def score_by_group(probe: Probe, columns: Sequence[int], group: int) -> tuple[float, float]:
    """(on rows held back at random, on whole groups held back): the better score of a linear model and the nearest row.

    Without the group's own column, which nobody could learn from in new groups.
    """
    codes = probe.codes(group)
    order = np.argsort(np.argsort(Generator(1).bits(int(codes.max()) + 1).array, kind="stable"))
    matrix = _matrix(probe, [position for position in columns if position != group])
    apart = order[codes] % FOLDS
    random, kept_apart = (
        max(_cross_validated(probe, matrix, fold, model) for model in (_ridge, _neighbour))
        for fold in (probe.fold, apart)
    )
    return random, kept_apart
