"""The page of `pellucid explain`: one answer and all that is known of it (floor 9)."""

from __future__ import annotations

import dataclasses

from markupsafe import Markup

from ..inference.asked import Asked
from ..inference.explanation import Explanation
from .attribution_view import attribution_sections
from .blame_view import blame_sections, example_section
from .inspection import ViewPage, result_sections


def explanation_page(found: Explanation, asked: Asked, with_examples: bool, command: str) -> ViewPage:
    """with_examples: whether the page may show the example itself, and values of other rows."""
    shown = found if with_examples else without_data(found)
    drawn = shown.attribution is not None and shown.attribution.pictures  # then the picture stands beside what counted
    example = example_section(asked.raw, asked.name) if with_examples and not drawn else None
    sections: list[Markup] = [] if example is None else [example]
    if shown.attribution is not None:
        sections += attribution_sections(shown.attribution, asked)[:1]
    if shown.blamed is not None:
        sections += blame_sections(shown.blamed)[:1]
    sections += result_sections(shown)
    holds = f"{found.name}, and cells of the rows that are compared with it" if with_examples else ""
    return ViewPage("explain", f"Why did it say {found.answer}?", shown.headline(), sections, holds, command)


def without_data(found: Explanation) -> Explanation:
    """`found` without a cell of the data: neither the right answer, nor what other rows say, nor from what to what a column changes."""
    change, attribution = found.change, found.attribution
    if change is not None:
        change = dataclasses.replace(change, values=tuple((column, "", "") for column, _, _ in change.values))
    if attribution is not None:
        attribution = dataclasses.replace(attribution, cells={}, labels=(), shows_example=False)
        if attribution.pictures:
            attribution = dataclasses.replace(attribution, figures={})
    neighbours = tuple(dataclasses.replace(one, target="") for one in found.neighbours)
    return dataclasses.replace(found, right=None, neighbours=neighbours, change=change, attribution=attribution)
