"""Error analysis: the sections of the report about a network's predictions for the test examples (floor 9).

Confusion, calibration and the worst mistakes of a classification; scatter, errors and the worst rows of a regression.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from ..data.problem import RawExample
from ..evaluation.formatting import format_number
from ..evaluation.metrics import confusion_matrix, per_class, wilson
from . import charts
from .html import box, cell, details, figure, part, picture, section, shortened, table

NUMBERED = 15  # classes up to which the confusion matrix shows its counts
DRAWN = 100  # classes up to which it is drawn at all
FEWEST = 5  # examples that a dot of the calibration chart needs
TILES, ROWS, COLUMNS = 24, 15, 14  # worst mistakes shown: pictures; rows; columns of a row
SHORT, LONG = 60, 200  # characters of a value shown; of running text
BLANKS = 4  # that running text has at least


@dataclass(frozen=True)
class Outcome:
    """The network's predictions for the test examples, and the targets.

    output: (N, K) probabilities or (N,) predictions. target: (N,) class indices or numbers. names: K class names, none
    for a regression. describe(i): example i as a person knows it, a row (column -> value) or uint8 (H, W), in colour (H, W, 3).
    files: the name of each example's file, where it is one.      chosen: (N,) the classes named, where they are not the most
    probable ones.
    """

    output: np.ndarray
    target: np.ndarray
    names: Sequence[str]
    target_name: str | None
    describe: RawExample | None
    files: Sequence[str] = ()
    chosen: np.ndarray | None = None

    @property
    def said(self) -> np.ndarray:
        """The class named for each example. (N,)"""
        return self.output.argmax(axis=1) if self.chosen is None else self.chosen

    def described(self, i: int) -> dict[str, str] | np.ndarray | None:
        return self.describe(i) if self.describe else None


def classification_sections(data: Outcome) -> list[Markup]:
    confusion = confusion_matrix(data.said, data.target, len(data.names))
    return [_confusion(data, confusion), _worst_answers(data), _classes(data, confusion), _certainty(data)]


def label_sections(data: Outcome) -> list[Markup]:
    """Of several labels a row: how well each is found."""
    said, truth = data.said, data.target > 0.5
    rows = []
    for i, name in enumerate(data.names[:DRAWN]):
        hits, named, has = int((said & truth)[:, i].sum()), int(said[:, i].sum()), int(truth[:, i].sum())
        f1 = 2 * hits / max(named + has, 1)
        rows.append((name, f"{has:,}", _bar(hits / max(named, 1)), _bar(hits / max(has, 1)), _share(f1)))
    head = ("label", "examples", "precision", "recall", "F1")
    lead = "Precision: how often it was right when it named this label. Recall: how much of this label it found."
    return [section("Label by label", table("On the test examples", head, rows, numeric=(1, 4)), lead=lead)]


def regression_sections(data: Outcome) -> list[Markup]:
    return [_errors(data), _worst_numbers(data)]


# ---------------------------------------------------------------- classification


def _confusion(data: Outcome, confusion: np.ndarray) -> Markup:
    names = data.names
    pairs = _confused_pairs(confusion)
    if not pairs:
        lead = "No test example was taken for another class."
    else:
        true, said, count = pairs[0]
        lead = f"Most often mistaken: {names[true]} for {names[said]}, {count:,} of {confusion[true].sum():,} times."
    parts = []
    if len(names) <= NUMBERED:
        parts.append(_numbered_matrix(confusion, names))
    elif len(names) <= DRAWN:
        chart = charts.heat_map("Confusion matrix", "Rows are true classes, columns predicted ones.", confusion, names)
        parts.append(figure("Rows: what it was; columns: what it said", chart))
    if len(names) > 2 and pairs:
        rows = [(names[t], names[s], f"{c:,}", f"{100 * c / confusion[t].sum():.1f}%") for t, s, c in pairs[:10]]
        head = ("it was", "it said", "times", "of that class")
        listing = table("Most frequent mistakes", head, rows, numeric=(2, 3))
        parts.append(listing)
    if len(names) == 2:
        parts.append(_class_table(names, confusion)[1])
    layout = [box("beside", *parts)] if len(names) <= NUMBERED else parts
    return section("What it confuses", *layout, lead=lead)


def _confused_pairs(confusion: np.ndarray) -> list[tuple[int, int, int]]:
    """(true, said, count) of every kind of mistake, most frequent first."""
    wrong = confusion * ~np.eye(len(confusion), dtype=bool)
    found = [(int(t), int(s), int(wrong[t, s])) for t, s in np.argwhere(wrong)]
    return sorted(found, key=lambda pair: -pair[2])


def _numbered_matrix(confusion: np.ndarray, names: Sequence[str]) -> Markup:
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    rows = []
    for t, name in enumerate(names):
        cells = []
        for s in range(len(names)):
            # Tints stay under half, so that numbers are readable on them in light and in dark.
            depth = 0.5 * shares[t, s] if s == t else min(0.5, 0.12 + 0.9 * math.sqrt(shares[t, s]) * 0.5)
            kind = "none" if not confusion[t, s] else "good" if s == t else "bad"
            cells.append((kind, f"{depth:.2f}", f"{int(confusion[t, s]):,}"))
        rows.append((shortened(name, 24), cells))
    style = "matrix few" if len(names) <= 4 else "matrix"
    head = [shortened(name, 12) for name in names]
    return part("matrix", "Rows: what it was; columns: what it said", style, head, rows)


def _classes(data: Outcome, confusion: np.ndarray) -> Markup:
    """The class table as a section of its own; two classes have it beside their confusion matrix."""
    names, recall = data.names, per_class(confusion)["recall"]
    if len(names) == 2:
        return Markup("")
    present = np.flatnonzero(confusion.sum(axis=1))
    worst = int(present[np.argmin(recall[present])])
    lead = (
        "Precision: how often it was right when it named this class. Recall: how much of this class it found. "
        f"Hardest to find: {names[worst]}, {_share(recall[worst])} of {confusion[worst].sum():,}."
    )
    caption, listing = _class_table(names, confusion)
    return section("Class by class", listing if len(names) <= 20 else details(caption, listing), lead=lead)


def _class_table(names: Sequence[str], confusion: np.ndarray) -> tuple[str, Markup]:
    """(caption, table); of very many classes only the worst."""
    scores, order = per_class(confusion), list(range(len(names)))
    caption = "Per class, on the test examples"
    if len(names) > DRAWN:
        order = np.argsort(scores["f1"], kind="stable")[:DRAWN].tolist()
        caption = f"The {DRAWN} classes with the lowest F1 of {len(names):,}"
    precision, recall, f1, support = (scores[name] for name in ("precision", "recall", "f1", "support"))
    rows = [(names[c], f"{support[c]:,}", _bar(precision[c]), _bar(recall[c]), _share(f1[c])) for c in order]
    head = ("class", "examples", "precision", "recall", "F1")
    return caption, table(caption, head, rows, numeric=(1, 4))


def _share(value: float) -> str:
    return f"{100 * value:.1f}%"


def _bar(value: float) -> Markup:
    return part("share", _share(value))


def _chance(p: float) -> str:
    """A probability for people; it never claims certainty."""
    if p > 0.999:
        return ">99.9%"
    if p < 0.001:
        return "<0.1%"
    return f"{100 * p:.{0 if 0.01 <= p <= 0.99 else 1}f}%"


def _certainty(data: Outcome) -> Markup:
    """How often it was right when it was this sure (reliability diagram; DeGroot & Fienberg 1983)."""
    sure, right = data.output[np.arange(len(data.target)), data.said], data.said == data.target
    bins = _bins(sure, right)
    gap = sum(abs(b.sure - b.right) * b.count for b in bins) / len(sure)
    mean, share = float(sure.mean()), float(right.mean())
    low, high = wilson(int(right.sum()), len(right))
    manner = "the two agree"
    if not low <= mean <= high:
        manner = "it is overconfident" if mean > high else "it is more often right than it thinks"
    lead = f"On average it was {_share(mean)} sure and {_share(share)} right: {manner}."
    spoken = "; ".join(f"{_share(b.sure)} sure: right {_share(b.right)} of {b.count}" for b in bins)
    drawn = [b for b in bins if b.count >= FEWEST] or bins
    chart = charts.calibration_chart("How sure it was against how often it was right", spoken, drawn)
    rows = [(_share(b.sure), _share(b.right), f"{100 * b.low:.0f}–{100 * b.high:.0f}", f"{b.count:,}") for b in bins]
    head = ("sure (mean)", "right", "95% interval", "examples")
    listing = table("By how sure it was", head, rows, numeric=range(4))
    hint = f"Mean gap between the two (expected calibration error): {_share(gap)}."
    hint += f" Groups of fewer than {FEWEST} are not drawn." if len(drawn) < len(bins) else ""
    drawing = figure("Share right, by how sure it was; on the dotted line the two agree", chart)
    layout = box("pair", drawing, box("", listing, part("hint", hint)))
    return section("Can its certainty be trusted?", layout, lead=lead)


def _bins(sure: np.ndarray, right: np.ndarray) -> list[charts.Bin]:
    """The answers in tenths of certainty, empty ones left out."""
    which = np.minimum((sure * 10).astype(int), 9)
    bins = []
    for b in np.unique(which):
        mask = which == b
        count, hits = int(mask.sum()), int(right[mask].sum())
        bins.append(charts.Bin(float(sure[mask].mean()), hits / count, *wilson(hits, count), count))
    return bins


def _worst_answers(data: Outcome) -> Markup:
    """The mistakes it was surest of; without mistakes, the right answers it was least sure of."""
    output, target = data.output, data.target
    said, own = data.said, output[np.arange(len(target)), target]
    wrong = np.flatnonzero(said != target)
    if len(wrong):
        order = wrong[np.argsort(-output[wrong, said[wrong]], kind="stable")]
        title = "Its worst mistakes"
        lead = f"Wrong on {len(wrong):,} of {len(target):,}; here are those it was surest of."
    else:
        order = np.argsort(own, kind="stable")[:ROWS]
        title, lead = "Its least certain answers", "It made no mistake on the test examples; these came closest."
    if isinstance(data.described(int(order[0])), np.ndarray):
        tiles = [_tile(data, i, int(said[i])) for i in order[:TILES].tolist()]
        return section(title, part("tiles", tiles), lead=lead)
    answers = [(i, _quoted(data, i, said[i]), _quoted(data, i, target[i])) for i in order[:ROWS].tolist()]
    return section(title, _row_table(data, ("it said", "it was"), answers), lead=lead)


def _quoted(data: Outcome, i: int, c: int) -> Markup:
    """Class `c` and the probability that example `i` was given for it."""
    return part("quoted", shortened(data.names[c], 40), _chance(data.output[i, c]))


def _tile(data: Outcome, i: int, said: int) -> dict[str, object]:
    was, pixels = int(data.target[i]), data.described(i)
    assert isinstance(pixels, np.ndarray)
    words = [f"{verb} {data.names[c]} ({_chance(data.output[i, c])})" for verb, c in (("said", said), ("was", was))]
    return {
        "picture": picture(pixels, ", ".join(words)), "style": "was" if said == was else "said",
        "said": _quoted(data, i, said), "was": _quoted(data, i, was), "file": data.files[i] if data.files else "",
    }  # fmt: skip


def _row_table(data: Outcome, heads: Sequence[str], answers: Sequence[tuple[int, *tuple[object, ...]]]) -> Markup:
    """Answers (index, *cells) beside the rows they are about; the target's own column is left out, it stands in `it was`."""
    rows = [row if isinstance(row := data.described(answer[0]), Mapping) else {} for answer in answers]
    names = list(dict.fromkeys(name for row in rows for name in row if name != data.target_name))
    prose = {name for name in names if any(_is_prose(row.get(name)) for row in rows)}
    shown = sorted(names, key=lambda name: name not in prose)[:COLUMNS]
    cells = [
        (*answer[1:], *(_value(row.get(name)) for name in shown)) for answer, row in zip(answers, rows, strict=True)
    ]
    if not shown:
        cells = [(*answer[1:], f"{answer[0] + 1:,}") for answer in answers]
    caption = "The rows as they stand in the data" if shown else "Which of the test examples"
    listing = table(caption, (*heads, *(shown or ["number"])), cells, row_heads=False, numeric=_numeric(cells))
    more = len(names) - len(shown)
    return listing + part("hint", f"Columns not shown: {more:,}.") if more > 0 else listing


def _numeric(rows: Sequence[Sequence[object]]) -> list[int]:
    """The columns whose every cell is a number or empty."""

    def is_number(shown: object) -> bool:
        try:
            return not shown or math.isfinite(float(str(shown).replace(",", "")))
        except ValueError:
            return False

    return [i for i, column in enumerate(zip(*rows, strict=True)) if all(map(is_number, column))]


def _value(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    limit = LONG if _is_prose(value) else SHORT
    return str(shortened(cell(value) if isinstance(value, (float, np.floating)) else str(value), limit))


def _is_prose(value: object) -> bool:
    return isinstance(value, str) and value.count(" ") >= BLANKS


# ---------------------------------------------------------------- regression


def _errors(data: Outcome) -> Markup:
    output, target = data.output, data.target
    error, what = output - target, data.target_name or "target"
    spoken = f"{len(target):,} test rows, true values {format_number(target.min())} to {format_number(target.max())}."
    cloud = charts.scatter("Predicted over true values", spoken, target, output, f"true {what}")
    middle = f"Half of the errors lie between {format_number(np.percentile(error, 25))} and {format_number(np.percentile(error, 75))}."
    bars = charts.histogram("Errors", middle, error, "predicted minus true")
    half, most = np.percentile(np.abs(error), [50, 90])
    lead = f"Half of its predictions are within {format_number(half)} of the truth, nine in ten within {format_number(most)}."
    left = figure(f"Predicted over true {what}; on the dotted line it is right", cloud)
    right = figure("How far off, and how often", bars)
    return section("How far off it is", box("pair", left, right), lead=lead)


def _worst_numbers(data: Outcome) -> Markup:
    output, target = data.output, data.target
    order = np.argsort(-np.abs(output - target), kind="stable")[:ROWS].tolist()
    answers = []
    for i in order:
        off = output[i] - target[i]
        answers.append(
            (i, format_number(output[i]), format_number(target[i]), f"{'+' if off > 0 else ''}{format_number(off)}")
        )
    listing = _row_table(data, ("it said", "it was", "off by"), answers)
    lead = "The test rows it was furthest from. Are they odd, or is something missing in the columns?"
    return section("Its worst mistakes", listing, lead=lead)
