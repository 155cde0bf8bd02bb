"""Sections of pages about training examples: which moved an answer, and whose labels are doubted (floor 9)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from ..data.problem import DataModule
from ..errors import DataError
from ..inference.asked import Asked, RunExamples
from ..inference.influences import Influence, InfluentialRow, influence
from ..inference.label_issues import DoubtedRow, LabelIssues
from ..inference.learned import learned_data, places_of_rows
from ..inspect.result import shown
from .charts import histogram, show_short
from .html import box, figure, picture, section, shortened, table

SHOWN = 12  # examples whose picture or row is shown, of each list


def examples_view(
    examples: RunExamples, asked: Asked, top: int = 20, with_examples: bool = False
) -> tuple[Influence, list[Markup]]:
    """The training examples that moved an answer of a run, and the sections of their page.

    with_examples: let the page show names, labels, pictures and rows of them; without it only where each stands.
    Raises OptionError for a network that draws.
    """
    found = influence(examples, asked, top)
    data = learned_data(examples)
    sections = [
        section(title, _table(data, rows, with_examples), *_seen(data, rows, with_examples))
        for title, rows in (("Towards the answer", found.towards), ("Away from the answer", found.away))
        if rows
    ]
    lines = [*map(str, found.checks), *found.remarks()]
    return found, [*sections, _list("How far to trust this", lines)]


def _table(data: DataModule, rows: Sequence[InfluentialRow], with_examples: bool) -> Markup:
    if with_examples:
        cells = [(r.name, shortened(r.label, 40), shown(r.influence)) for r in rows]
        return table("", ("example", "label", "influence"), cells, numeric=[2])
    places = places_of_rows(data, [r.index for r in rows])
    return table(
        "", ("example", "influence"), [(p, shown(r.influence)) for p, r in zip(places, rows, strict=True)], numeric=[1]
    )


def labels_sections(examples: RunExamples, found: LabelIssues, with_examples: bool = False) -> list[Markup]:
    """The sections of the page about suspected wrong labels. with_examples: as for `examples_view`."""
    data = learned_data(examples)
    scores = found.scores[np.isfinite(found.scores)]
    what = "how many spreads off" if found.is_number else "loss"
    spread = histogram(
        f"{what} of all training examples",
        f"{len(scores):,} examples; the median is {show_short(float(np.median(scores)))}, the largest {show_short(float(scores.max()))}",
        scores,
        what,
    )
    if with_examples:
        head = ["example", "label", "the network says", "off by spreads" if found.is_number else "sure", "loss"]
        rows = [
            (r.name, shortened(r.label, 40), shortened(r.says, 40), shown(r.sure), shown(r.loss)) for r in found.rows
        ]
    else:
        head = ["example", "off by spreads" if found.is_number else "sure of its own answer", "loss"]
        places = places_of_rows(data, [r.index for r in found.rows])
        rows = [(p, shown(r.sure), shown(r.loss)) for p, r in zip(places, found.rows, strict=True)]  # type: ignore[misc]
    doubted = table("", head, rows, numeric=range(len(head) - 2, len(head)))
    return [
        section("The most doubted", doubted, *_seen(data, found.rows, with_examples)),
        section("All examples", figure(f"Those far to the right are the ones to look at: {what}", spread)),
        _list("How far to trust this", found.remarks()),
    ]


def _list(title: str, lines: Sequence[str]) -> Markup:
    items = Markup("").join(Markup("<li>{}</li>").format(line) for line in lines)
    return section(title, Markup("<ul>{}</ul>").format(items))


def _seen(data: DataModule, rows: Sequence[InfluentialRow | DoubtedRow], with_examples: bool) -> list[Markup]:
    """The first examples as a person knows them: pictures side by side, or rows below one another."""
    if not with_examples:
        return []
    tiles, below = [], []
    for row in rows[:SHOWN]:
        try:
            raw = data.raw_example("train", row.index)
        except DataError:
            return []
        if isinstance(raw, np.ndarray):
            tiles.append(
                figure(f"{row.name}: {shortened(row.label, 20)}", picture(raw, f"{row.name}, {row.label}"), "tile")
            )
        else:
            below.append(table(row.name, ("column", "value"), list(raw.items())))
    return ([box("tiles", *tiles)] if tiles else []) + below
