"""What a table's target may be beside classes and numbers: several labels a row, counts; and the weights of rows (floor 4).

How classes and numbers are told apart is in `infer.py`.

Shapes: N rows, L labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from ...errors import DataError, OptionError
from ..base import OptionValue
from .infer import decide_task
from .preprocess import TablePreprocessor, split_labels
from .read import Table, check_finite

SEPARATORS = (";", "|", ",")  # between the labels of a row
MOST_LABELS = 200
MOST_COMBINATIONS = 50_000  # different values of the column: beyond that they are no labels
ROWS_A_LABEL = 10  # rows for each different label, on average: labels come again
NO_LABELS = frozenset({"none", "nothing", "no label", "no labels", "-", "--"})  # said of a row without labels


def decide_target(
    table: Table, position: int, options: Mapping[str, OptionValue], strip: str | None
) -> tuple[str, str | None, str]:
    """(task, separator of labels or None, a note saying why). Raises DataError or OptionError."""
    name, asked, interval = table.names[position], options.get("task"), options.get("interval")
    if asked == "counts":
        _check_counts(table, position)
        decide_task(table, position, "regression", strip)
        task, separator, note = (
            "counts",
            None,
            f"target {name}: counts (asked for), learned by their Poisson likelihood",
        )
    elif (
        asked in (None, "multilabel")
        and not strip
        and (separator := label_separator(table.columns[position], asked is not None))
    ):
        task = "multilabel"
        labels = label_names(table.columns[position], separator)
        note = f"labels: {name} has {len(labels)} labels with {separator!r} between; --task classification for one class a row"
    elif asked == "multilabel":
        raise OptionError(f"task: multilabel; no value of {name} holds several labels; expected some such as 'news; sport', with "
                          f"{' or '.join(SEPARATORS)} between; leave --task out")  # fmt: skip
    else:
        (task, note), separator = decide_task(table, position, asked, strip), None
    if interval is not None:
        _check_interval(interval, task, name)
        note += f", with the interval that holds {100 * interval:g}%"
    return task, separator, note


def _check_counts(table: Table, position: int) -> None:
    check_finite(table, position)
    values, strays = table.numbers_and_strays(position)
    wrong = np.union1d(strays, np.flatnonzero((values < 0) | (values % 1 != 0)))
    if len(wrong):
        i = int(wrong[0])
        raise DataError(f"{table.where(i)}: the target {table.names[position]} is {table.columns[position][i]!r}; expected a whole number "
                        "from 0 for --task counts; correct the row, or use --task regression")  # fmt: skip


def _check_interval(interval: float, task: str, name: str) -> None:
    if not 0 < interval < 1:
        raise OptionError(f"interval: {interval:g}; expected the share of rows it holds, above 0 and below 1; write --interval 0.9")  # fmt: skip
    if task != "regression":
        raise OptionError(f"interval: the target {name} is learned as {task}; expected numbers; leave --interval out, or say "
                          "--task regression")  # fmt: skip


# ---- several labels a row ----------------------------------------------------------------------------------------------


def label_separator(column: np.ndarray, asked: bool = False) -> str | None:
    """What stands between the labels of a target without gaps, or None where each value is one label.

    The whole column decides: how many labels a row has must differ, they must be few and come again, and most must stand
    both alone and beside others, or beside different others. Asked for, any separator that occurs will do.
    """
    counts = Counter(column.tolist())
    if not asked and len(counts) > MOST_COMBINATIONS:
        return None
    for separator in SEPARATORS:
        if any(separator in value for value in counts) and (asked or _are_labels(counts, separator)):
            return separator
    return None


def _are_labels(counts: Counter[str], separator: str) -> bool:
    sets = {value: split_labels(value, separator) for value in counts}
    rows: Counter[str] = Counter()
    for value, labels in sets.items():
        rows.update(dict.fromkeys(labels, counts[value]))
    combined = [set(labels) for labels in sets.values() if len(labels) > 1]
    if not combined or len({len(labels) for labels in sets.values()}) < 2 or any(map(_is_number, rows)):
        return False
    few = len(rows) <= MOST_LABELS and len(rows) * ROWS_A_LABEL <= counts.total() and min(rows.values()) > 1
    if not few:
        return False
    alone = {labels[0] for labels in sets.values() if len(labels) == 1}
    again = Counter(label for labels in combined for label in labels)
    free = [label in alone or times > 1 for label, times in again.items()]
    return sum(free) * 2 > len(free) and len(alone & again.keys()) > 0


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def label_names(column: np.ndarray, separator: str) -> list[str]:
    """The labels by alphabet; without the word for none of them."""
    names = {label for value in set(column.tolist()) for label in split_labels(value, separator)}
    combined = {x for value in set(column.tolist()) if len(parts := split_labels(value, separator)) > 1 for x in parts}
    return sorted(name for name in names if name in combined or name.lower() not in NO_LABELS)


def fit_target(
    preprocessor: TablePreprocessor, table: Table, position: int, rows: np.ndarray, separator: str | None,
    options: Mapping[str, OptionValue],
) -> None:  # fmt: skip
    """Complete the preprocessor with what the target needs: labels, the scale of counts, the share an interval holds."""
    preprocessor.target_form.interval = options.get("interval")
    if separator is not None:
        preprocessor.classes, preprocessor.target_form.separator = (
            label_names(table.columns[position], separator),
            separator,
        )
        words = {label for value in set(table.columns[position].tolist()) for label in split_labels(value, separator)}
        preprocessor.target_form.no_label = next(iter(sorted(words - set(preprocessor.classes))), "")
    if preprocessor.task == "counts":  # a rate is learned as a multiple of the mean
        preprocessor.mean, preprocessor.std = 0.0, float(table.numbers_and_strays(position)[0][rows].mean()) or 1.0


# ---- weights of rows ---------------------------------------------------------------------------------------------------


def weight_position(table: Table, options: Mapping[str, OptionValue], target: int) -> int | None:
    """The position of the column of weights, or None. Raises OptionError."""
    if "row_weight" not in options:
        return None
    position = table.position(options["row_weight"], "--row-weight")
    if position == target:
        raise OptionError(
            f"--row-weight {table.names[position]}: it is the target; expected a column of weights; choose another"
        )
    return position


def row_weights(table: Table, position: int) -> np.ndarray:
    """The weights of the rows, float64 (N,). Raises DataError, with the line, where one is missing, no number or negative."""
    name, column = table.names[position], table.columns[position]
    values, strays = table.numbers_and_strays(position)
    check_finite(table, position)
    bad = np.isnan(values) | (values < 0)
    bad[strays] = True
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        what = "missing" if column[i] is None else repr(column[i])
        raise DataError(f"{table.where(i)}: the weight {name} is {what}; expected a number from 0, how much the row counts; correct "
                        "it, or leave --row-weight out")  # fmt: skip
    return values


def scaled_weights(weights: np.ndarray, rows: np.ndarray, table: Table, position: int) -> np.ndarray:
    """Weights (N,) float32 that are 1 on average over the training `rows`, so that the learning rate means the same."""
    mean = float(weights[rows].mean())
    if not mean > 0:
        raise DataError(f"{table.path}: the weights {table.names[position]} of the training rows are all 0; expected some above 0; "
                        "choose another column, or leave --row-weight out")  # fmt: skip
    return (weights / mean).astype(np.float32)
