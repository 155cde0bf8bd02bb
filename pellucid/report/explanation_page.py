"""The page of `pellucid explain`: one answer and all that is known of it (floor 9)."""

from __future__ import annotations

import dataclasses

from markupsafe import Markup

from ..inference.asked import Asked
from ..inference.explanation import Explanation
from .inspection import ViewPage, result_sections


def explanation_page(found: Explanation, asked: Asked, with_examples: bool, command: str) -> ViewPage:
    """with_examples: whether the page may show the example itself, and values of other rows."""
    shown = found if with_examples else without_data(found)
    sections: list[Markup] = list(result_sections(shown))
    lead = shown.headline()
    return ViewPage(
        "explain", f"Why did it say {found.answer}?", lead, sections, f"{found.name}" if with_examples else "", command
    )


def without_data(found: Explanation) -> Explanation:
    """`found` without a cell of the data: neither the right answer, nor what other rows say, nor from what to what a column changes."""
    change = found.change
    if change is not None:
        change = dataclasses.replace(change, values=tuple((column, "", "") for column, _, _ in change.values))
    neighbours = tuple(dataclasses.replace(one, target="") for one in found.neighbours)
    return dataclasses.replace(found, right=None, neighbours=neighbours, change=change)
