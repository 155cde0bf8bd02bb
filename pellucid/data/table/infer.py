"""Schema inference for tables: the task, and whether a column is numbers, categories or left out (floor 4).

Every choice is a note for the user. How a column is encoded is decided in `preprocess.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...errors import DataError, OptionError, suggestion
from ..description_text import shell_word
from .dates import DATES, DAY_FIRST, date_order, form_of_numbers, form_of_texts, moment_told, zones_told
from .delimited import MISSING_INPUT, as_number
from .findings import Findings, rows_told, shown_cell
from .labels import Merged, merge_labels
from .number_format import CODE, GLANCE, PLAIN, ReadNumbers, mixed_units, split_cell
from .preprocess import (
    LEVELS,
    CategoryColumn,
    DateColumn,
    NumberColumn,
    TablePreprocessor,
    fit_category,
    fit_dates,
    fit_number,
    label_text,
    read_dates,
)
from .read import Table, check_finite
from .text_column import TextColumn, fit_text, is_text

NUMERIC = ("regression", "counts")  # tasks whose target is numbers
MAX_CLASSES_FROM_NUMBERS = 20  # whole numbers of at most so many values mean classes
CONSTANT = "the same in all training rows"
FEW_STRAYS = 0.05  # of a column's values: so little text among numbers is taken for missing, with a note
NAMES_FROM = 20  # different texts from which a column that hardly repeats itself names its rows
FEW_WORDS = 3  # different words without digits that stand for gaps in a column of numbers or dates, however often
GAP_WORDS = frozenset(
    {"unknown", "unk", "n.a.", "not available", "not known", "no data", "tbd", "k.a.", "undefined", "blank"}
)
SENTINELS = [sign * int("9" * digits) for digits in range(2, 9) for sign in (1, -1)]
LEAST_SENTINELS = 3  # times that a sentinel comes
LEAST_LONELY = 999  # the size from which a sentinel that comes less often is told
LEAST_CODE = 3  # characters of a number with leading zeros that may be a code; 03 is a month or a day


@dataclass(frozen=True)
class TargetWords:
    """What else stands for a target's values.

    spellings: of classes, as `merge_labels` has them. sentinels: numbers that stand for a gap, whose rows are left out.
    """

    spellings: dict[str, str] = field(default_factory=dict)
    sentinels: list[float] = field(default_factory=list)


# ---- the target --------------------------------------------------------------------------------------------------------


def clean_target(
    table: Table,
    position: int,
    task: str | None,
    strip: str | None,
    notes: list[str],
    sentinels: list[float] | None = None,
) -> tuple[Table, TargetWords]:
    """The rows whose target is a value, labels that are one under one name; and what else stands for them.

    sentinels: numbers that stand for a gap, where training has found them.
    """
    name, column, findings = table.names[position], table.columns[position], Findings()
    if table.options.is_exact(name):
        return table, TargetWords()
    found = table.read_numbers(position)
    if found is not None and task != "classification" and not _are_labels(table, position, found):
        gaps = _gaps(column, found.values)
        if task in NUMERIC or not _class_numbers(found.values):
            sentinels = sentinels_of(found.values) if sentinels is None else sentinels
            return _without_gaps(table, position, found, gaps, sentinels, notes), TargetWords(sentinels=sentinels)
        if not gaps.any() and not len(found.strays) and not _codes(column, found.values):
            return table, TargetWords()
    if task in NUMERIC:
        return table, TargetWords()
    texts = Counter(column.tolist())
    labels = {text: label_text(text, strip) for text in texts}
    counts: Counter[str] = Counter()
    for text, count in texts.items():
        counts[labels[text]] += count
    merged = merge_labels(counts)
    tell_merged(name, merged, findings)
    notes += findings.notes()
    if not merged.names:
        return table, TargetWords()
    columns = list(table.columns)
    one = {text: merged.names.get(label, text) for text, label in labels.items()}
    columns[position] = np.array([one[text] for text in column.tolist()], dtype=object)
    return replace(table, columns=columns, _numbers={}), TargetWords(merged.spellings)


def _without_gaps(
    table: Table, position: int, found: ReadNumbers, gaps: np.ndarray, sentinels: list[float], notes: list[str]
) -> Table:
    """The rows where a target of numbers is one: no word for a gap, nor a number such as -999 that stands for one."""
    name = table.names[position]
    many = lambda rows: f": {int(rows.sum()):,}" if table.drawn_from is None else ""  # of drawn rows that says nothing
    if gaps.any():
        words = ", ".join(shown_cell(word) for word in dict.fromkeys(table.columns[position][gaps].tolist()))
        notes.append(f"rows: left out, {name} is {words}{many(gaps)}; --read exact={name} for text")
    held = np.isin(found.values, sentinels)
    if held.any():
        numbers = ", ".join(f"{number:g}" for number in sentinels if np.any(found.values == number))
        notes.append(f"rows: left out, {name} is {numbers}, far from all others, as a gap{many(held)}; --read exact={name} keeps them")  # fmt: skip
    return table.take(np.flatnonzero(~(gaps | held))) if gaps.any() or held.any() else table


def _are_labels(table: Table, position: int, found: ReadNumbers) -> bool:
    """Whether a target's limits, as <=50K and >50K, are few enough to be classes."""
    return found.format.limits and len(set(table.columns[position].tolist())) <= MAX_CLASSES_FROM_NUMBERS


def _codes(column: np.ndarray, values: np.ndarray, least: int = 2) -> list[str]:
    """The different whole numbers of a column with leading zeros, of `least` characters or more. values: float64 (N,)."""
    if np.isnan(values).all() or np.any(values[~np.isnan(values)] % 1):
        return []
    starting = dict.fromkeys(text for text in column.tolist() if text and text[0] in "0+-" and len(text) >= least)
    return [text for text in starting if CODE.fullmatch(text)]


def target_gaps(table: Table, position: int, task: str, sentinels: Sequence[float]) -> np.ndarray:
    """Which rows (N,) have no target: those without a value, and for numbers those with a word or a number for that."""
    column = table.columns[position]
    if task in ("regression", "counts") and (found := table.read_numbers(position)) is not None:
        return _gaps(column, found.values) | np.isin(found.values, sentinels)
    return np.asarray(column == None)  # noqa: E711, of each value


def _gaps(column: np.ndarray, values: np.ndarray) -> np.ndarray:
    gaps = np.isnan(values)
    gaps[gaps] = [_is_missing(text) or text.lower() in GAP_WORDS for text in column[gaps].tolist()]
    return gaps


def _class_numbers(values: np.ndarray) -> bool:
    """Whether numbers (N,), NaN where missing, are as few and whole as those of classes."""
    present = np.unique(values[~np.isnan(values)])
    return len(present) <= MAX_CLASSES_FROM_NUMBERS and bool(np.all(present % 1 == 0))


def tell_merged(name: str, merged: Merged, findings: Findings) -> None:
    for label in dict.fromkeys(merged.names.values()):
        others = [shown_cell(other) for other, one in merged.names.items() if one == label]
        verb = "is" if len(others) == 1 else "are"
        findings.merged.append(f"{name}: {' and '.join(others)} {verb} {shown_cell(label)}")
    findings.apart.extend(f"{name}: {' and '.join(map(shown_cell, labels))}" for labels in merged.apart)


def decide_task(table: Table, position: int, task: str | None, strip: str | None) -> tuple[str, str]:
    """("classification" | "regression", a note saying why) for the target column at `position`, which has no gaps."""
    name, column = table.names[position], table.columns[position]
    labels = {label_text(value, strip) for value in set(column.tolist())}
    if len(labels) < 2:
        raise DataError(f"{table.path}: the target {name} is {next(iter(labels))!r} in every row; expected two different values at "
                        "least; choose another --target")  # fmt: skip
    values, strays = table.numbers_and_strays(position)
    found, other = table.read_numbers(position), ""
    if len(strays) or strip or np.isnan(values).any() or (found and _are_labels(table, position, found)):
        inferred, reason = "classification", "text"
    elif codes := [label for label in labels if CODE.fullmatch(label)]:
        inferred, reason = "classification", f"codes such as {min(codes)!r}"
    else:
        check_finite(table, position)
        whole = bool(np.all(values % 1 == 0))
        inferred = "classification" if whole and len(labels) <= MAX_CLASSES_FROM_NUMBERS else "regression"
        reason = "whole numbers" if whole else "numbers"
        if task is None and inferred == "classification":
            other = "; --task regression where they are amounts"
    _check_strays(table, position, task, strays, len(labels))
    chosen = task or inferred
    if chosen == "classification" and len(labels) > len(table) // 2:
        raise DataError(f"{table.path}: the target {name} has {len(labels):,} different values in {len(table):,} rows; expected classes "
                        "that come again; choose another --target, or --task regression where it is numbers")  # fmt: skip
    override = f" (asked for; {inferred} by itself)" if task and task != inferred else ""
    return chosen, f"target {name}: {reason}, {len(labels):,} different values -> {chosen}{override}{other}"


def _check_strays(table: Table, position: int, task: str | None, strays: np.ndarray, labels: int) -> None:
    """Refuse text in a regression's target, asked for or meant: a few words among many different numbers are mistakes."""
    if not len(strays):
        return
    if task == "regression":
        raise OptionError(
            f"{_first_stray(table, position, strays)}; expected a number for --task regression; correct the row, or use --task classification"
        )
    if task is not None or labels <= MAX_CLASSES_FROM_NUMBERS:
        return
    if (mixed := mixed_units(dict.fromkeys(table.columns[position].tolist()))) is not None:
        raise DataError(f"{table.path}: the target {table.names[position]} mixes units, as {mixed[0]!r} and {mixed[1]!r}; expected numbers in "
                        "one; write all in one unit, or say --task classification")  # fmt: skip
    found = table.read_numbers(position)
    if found is None:
        return
    known = found.values[~np.isnan(found.values)]
    if len(strays) <= FEW_STRAYS * len(table) or np.any(known % 1):
        raise DataError(
            f"{_first_stray(table, position, strays)}, where {'nearly all' if len(strays) <= FEW_STRAYS * len(table) else 'most'} others are numbers; expected a number; "
            "correct the row, or say --task classification"
        )


def _first_stray(table: Table, position: int, strays: np.ndarray) -> str:
    i = int(strays[0])
    return f"{table.where(i)}: the target {table.names[position]} is {table.columns[position][i]!r}"


def class_names(table: Table, position: int, strip: str | None) -> list[str]:
    """The classes in order: numbers by size, then text by alphabet."""
    labels = {label_text(value, strip) for value in set(table.columns[position].tolist())}
    whole = {label for label in labels if label.removeprefix("-").isdecimal()}
    return sorted(whole, key=int) + sorted(labels - whole)


# ---- the inputs --------------------------------------------------------------------------------------------------------


def fit(
    table: Table, rows: np.ndarray, target: int, task: str, drop: list[int], strip: str | None
) -> tuple[TablePreprocessor, list[str]]:
    """The preprocessor learned from the training `rows`, and notes on what was left out and how numbers are scaled."""
    inputs = [i for i in range(len(table.names)) if i != target and i not in drop]
    _check_exact(table)
    _refuse_all_missing(table, inputs)
    numbers: list[NumberColumn] = []
    dates: list[DateColumn] = []
    categories: list[CategoryColumn] = []
    texts: list[TextColumn] = []
    notes: list[str] = []
    findings = Findings()
    _tell_target(table, target, task, findings)
    for position in inputs:
        column = infer_column(table, position, rows, findings)
        if isinstance(column, NumberColumn):
            numbers.append(column)
        elif isinstance(column, DateColumn):
            dates.append(column)
        elif isinstance(column, CategoryColumn):
            categories.append(column)
        elif isinstance(column, TextColumn):
            texts.append(column)
        else:
            notes.append(f"columns: {table.names[position]} left out, {column}")
    if not numbers and not dates and not categories and not texts:
        reasons = "; ".join(note.removeprefix("columns: ") for note in notes)
        left_out = f" ({reasons})" if notes else ""
        raise DataError(f"{table.path}: no column is left to learn from{left_out}; expected one at least beside the target "
                        f"{table.names[target]}; check --target and --drop")  # fmt: skip
    preprocessor = TablePreprocessor(
        list(table.names), table.header, table.names[target], task, None, numbers, categories, strip_label=strip, dates=dates,
        texts=texts
    )  # fmt: skip
    if task == "classification":
        preprocessor.classes = class_names(table, target, strip)
    elif task != "multilabel":  # which `targets.fit_target` completes
        found = table.read_numbers(target)
        values = table.numbers_and_strays(target)[0][rows]
        preprocessor.mean, preprocessor.std = float(values.mean()), float(values.std()) or 1.0
        preprocessor.target_form.format = PLAIN if found is None else found.format
    notes += findings.notes()
    notes += _scaling_notes(numbers, dates, categories, texts)
    return preprocessor, notes


def _tell_target(table: Table, target: int, task: str, findings: Findings) -> None:
    """Note how the target writes its numbers, and what of it may be a gap."""
    name, found = table.names[target], table.read_numbers(target)
    if task == "classification":
        counts = Counter(table.columns[target].tolist())
        words = [word for word in counts if word.lower() in GAP_WORDS or _is_missing(word)]
        findings.gap_classes.extend(f"{name}: {shown_cell(word)} in {rows_told(counts[word])}" for word in words)
        if found is None or len(found.strays):
            return
        numbers = sentinels_of(found.values, others=1)
        findings.gap_classes.extend(f"{name}: {x:g} in {rows_told(int(np.sum(found.values == x)))}" for x in numbers)
    if found is None or not (task in NUMERIC or found.doubtful):
        return
    tell_format(table, target, found, findings)
    if task in NUMERIC:
        _tell_lonely(name, found.values, findings)
    if task == "regression" and form_of_numbers(name, found.values):
        findings.date_targets.append(f"{name} {shown_cell(str(table.columns[target][0]))}")


def _tell_lonely(name: str, values: np.ndarray, findings: Findings) -> None:
    """Note numbers such as -999 that come too seldom to be taken for gaps."""
    for number in sentinels_of(values, 1):
        count = int(np.sum(values == number))
        if count < LEAST_SENTINELS and abs(number) >= LEAST_LONELY:
            findings.lonely.append(f"{name}: {number:g} in {rows_told(count)}")


def _check_exact(table: Table) -> None:
    """Raise OptionError for a column of `--read exact=` that the table does not have."""
    for name in table.options.exact.split("|") if table.options.exact else ():
        if name not in table.names:
            hint = suggestion(name, table.names) or " Check the spelling."
            raise OptionError(f"--read exact={table.options.exact}: {table.path} has no column {name!r}; expected columns of "
                              f"{table.listed()}, separated by |.{hint}")  # fmt: skip


def _refuse_all_missing(table: Table, inputs: list[int]) -> None:
    empty = [table.names[i] for i in inputs if all(_is_missing(value) for value in table.columns[i].tolist())]
    if empty:
        columns = f"column{'s' * (len(empty) > 1)} {', '.join(empty)}"
        raise DataError(
            f"{table.path}: {columns}: every value is missing; expected some; fill them, or pass --drop {shell_word(','.join(empty))}"
        )


def _counts(column: np.ndarray) -> Counter[str]:
    """How often each value comes that is there."""
    return Counter({value: count for value, count in Counter(column.tolist()).items() if not _is_missing(value)})


def _is_missing(value: str | None) -> bool:
    return value is None or value.lower() in MISSING_INPUT


def infer_column(
    table: Table, position: int, rows: np.ndarray, findings: Findings
) -> NumberColumn | DateColumn | CategoryColumn | TextColumn | str:
    """The encoder of the column at `position`; where there is nothing to learn from it, the reason."""
    name = table.names[position]
    found, exact = table.read_numbers(position), table.options.is_exact(name)
    if not exact and (form := date_form(table, position, found)):
        dates = _fit_dates(table, position, rows, form, findings)
        if dates is not None:
            return dates
    as_text = exact and found is not None and bool(_codes(table.columns[position], found.values))
    if found is not None and not as_text and stand_for_gaps(table, position, found.strays, found.values, exact):
        return _fit_number(table, position, rows, found, findings) or CONSTANT
    counts = _counts(table.columns[position])
    present = sum(counts.values())
    different = len(counts)
    if not exact and is_text(list(counts), present):
        return fit_text(name, table.columns[position], rows, findings.texts) or CONSTANT
    mixed = None if exact else mixed_units(counts)
    if (different == present >= 5) or different > max(NAMES_FROM, present // 2):
        if mixed is not None:
            return f"it mixes units, as {shown_cell(mixed[0])} and {shown_cell(mixed[1])}; write one unit"
        if found is not None and len(found.strays):
            i = int(found.strays[0])
            return f"numbers, but {len(found.strays):,} of {present:,} are not, as {shown_cell(table.columns[position][i])}"
        return f"{different:,} different texts in {present:,} rows, names the rows"
    if mixed is not None:
        findings.mixed.append(f"{name} {shown_cell(mixed[0])} and {shown_cell(mixed[1])}")
    merged = None if exact else merge_labels(_counts(table.columns[position][rows]))
    if merged is not None:
        tell_merged(name, merged, findings)
    return fit_category(name, table.columns[position][rows], merged) or CONSTANT


def stand_for_gaps(table: Table, position: int, strays: np.ndarray, values: np.ndarray, exact: bool = False) -> bool:
    """Whether the text in a column of numbers or dates stands for gaps: little of it, or few words without digits, again and again."""
    if not len(strays) or exact:
        return not len(strays)
    if len(strays) <= FEW_STRAYS * len(table):
        return True
    words = Counter(table.columns[position][strays].tolist())
    if all(word.lower() in GAP_WORDS for word in words):
        return True
    if len(words) > FEW_WORDS or any(re.search(r"\d", word) for word in words):
        return False
    return len(np.unique(values[~np.isnan(values)])) > LEVELS


def _fit_number(
    table: Table, position: int, rows: np.ndarray, found: ReadNumbers, findings: Findings
) -> NumberColumn | None:
    name = table.names[position]
    check_finite(table, position)
    tell_format(table, position, found, findings)
    tell_gaps(table, position, found.strays, findings)
    exact = table.options.is_exact(name)
    sentinels = [] if exact else sentinels_of(found.values[rows])
    if not exact:
        _tell_lonely(name, found.values[rows], findings)
        if codes := _codes(table.columns[position], found.values, LEAST_CODE):
            findings.zeros.append(f"{name} {shown_cell(codes[0])} is {int(codes[0])}")
    findings.sentinels.extend(f"{name}: {x:g} in {rows_told(int(np.sum(found.values == x)))}" for x in sentinels)
    return fit_number(name, found.values[rows], bool(len(found.strays)), found.format, sentinels)


def sentinels_of(values: np.ndarray, least: int = LEAST_SENTINELS, others: int = 3) -> list[float]:
    """The numbers such as -999 and 9999 that stand for a missing value among training values (N,), NaN where missing.

    Such a number comes `least` times or more, far from all others, of which there are so many different ones: a positive one
    ten times as large, a negative one among positive numbers, or further away than others are from one another.
    """
    found: list[float] = []
    while True:
        ends = (np.nanmin(values), np.nanmax(values)) if not np.isnan(values).all() else ()
        end = next((float(x) for x in ends if x in SENTINELS and _is_sentinel(values, float(x), least, others)), None)
        if end is None:
            return found
        found.append(end)
        values = np.where(values == end, np.nan, values)


def _is_sentinel(values: np.ndarray, number: float, least: int, different: int) -> bool:
    others = values[~np.isnan(values) & ~np.isin(values, SENTINELS)]
    if np.sum(values == number) < least or len(np.unique(others)) < different:
        return False
    if number > 0:  # 99999 may be the most that was written down of 41310
        return bool(10 * np.abs(others).max() <= number)
    return bool(others.min() >= 0 or others.min() - number > others.max() - others.min())


def tell_format(table: Table, position: int, found: ReadNumbers, findings: Findings) -> None:
    """Note how a column writes its numbers, by the first that shows it, and whether that was clear."""
    name, texts = table.names[position], table.columns[position].tolist()
    if found.format == PLAIN and not found.doubtful and all(map(_plain, texts[:GLANCE])):
        return
    known = [i for i, x in enumerate(found.values.tolist()) if x == x and not _plain(texts[i])]
    limited = [i for i in known if split_cell(texts[i]) is None] if found.format.limits else []
    others = sorted(set(known) - set(limited)) if limited else known
    for told, rows in ((findings.limits, limited), (findings.written, others)):
        if rows and not (found.doubtful and told is findings.written):
            told.append(f"{name} {shown_cell(texts[rows[0]])} is {found.values[rows[0]]:.12g}")
    if found.doubtful:
        first = next(i for i, text in enumerate(texts) if text and found.values[i] == found.values[i] and re.search(r"[.,]", text))  # fmt: skip
        told = findings.doubtful_comma if found.format.decimal == "," else findings.doubtful
        told.append(f"{name} {shown_cell(texts[first])} is {found.values[first]:.12g}")


def _plain(text: str | None) -> bool:
    return text is None or as_number(text) is not None or _is_missing(text)


def tell_gaps(table: Table, position: int, strays: np.ndarray, findings: Findings) -> None:
    words = Counter(table.columns[position][strays].tolist())
    for word, count in words.most_common(2):
        line = f" (line {table.where(int(strays[0])).rpartition(' ')[2]})" if count == len(strays) == 1 else ""
        findings.gaps.append(f"{table.names[position]}: {shown_cell(word)} in {rows_told(count)}{line}")
    if len(words) > 2:
        findings.gaps.append(f"{table.names[position]}: {len(words) - 2} other texts")


# ---- dates -------------------------------------------------------------------------------------------------------------


def date_form(table: Table, position: int, found: ReadNumbers | None) -> str | None:
    """The form of a column of dates, as `dates.py` calls it, or None."""
    if found is not None and found.format == PLAIN:
        return form_of_numbers(table.names[position], found.values) if len(found.strays) <= len(table) // 2 else None
    present = dict.fromkeys(
        value for value in table.columns[position][: 10 * GLANCE].tolist() if not _is_missing(value)
    )
    return form_of_texts(list(present)[:GLANCE])


def _fit_dates(table: Table, position: int, rows: np.ndarray, form: str, findings: Findings) -> DateColumn | None:
    """The encoder of a column of dates; None where too much of it is none."""
    name, column = table.names[position], table.columns[position]
    order, doubtful = date_order(dict.fromkeys(v for v in column.tolist() if v)) if form == DATES else (None, False)
    if table.options.dates and order:
        order, doubtful = table.options.dates, False
    moments, strays = read_dates(column, form, order or DAY_FIRST)
    if not stand_for_gaps(table, position, strays, moments.utc):
        return None
    dates = fit_dates(name, moments, rows, form, order or DAY_FIRST, bool(len(strays)))
    if dates is None:
        return None
    tell_gaps(table, position, strays, findings)
    i = int(np.flatnonzero(~np.isnan(moments.wall))[0])
    told = f"{name} {shown_cell(column[i])} is {moment_told(float(moments.wall[i]), form)}"
    in_doubt = findings.doubtful_days if order == DAY_FIRST else findings.date_doubts
    (in_doubt if doubtful else findings.dates).append(told)
    texts = _counts(column)
    zoned = not np.array_equal(moments.wall, moments.utc, equal_nan=True) or any(text[-1].isalpha() for text in texts)
    if form == DATES and zoned and (zones := zones_told(name, texts)):
        findings.zones.append(zones)
    return dates


def _scaling_notes(
    numbers: list[NumberColumn], dates: list[DateColumn], categories: list[CategoryColumn], texts: list[TextColumn]
) -> list[str]:
    incomplete = sum(column.missing_indicator for column in numbers)
    notes = [
        f"columns: {len(numbers)} of numbers, "
        + f"{len(dates)} of dates, " * bool(dates)
        + f"{len(categories)} of categories"
        + f", {len(texts)} of text" * bool(texts)
        + (f"; {incomplete} of numbers with gaps" if incomplete else "")
    ]
    for scale, words in (("standard", "mean and deviation"), ("quantile", "quantiles, being skewed")):
        names = [column.name for column in numbers if column.scale == scale]
        if names:
            more = f", ... ({len(names)} in all)" if len(names) > 8 else ""
            notes.append(f"columns: scaled by {words}, {', '.join(names[:8])}{more}")
    return notes
