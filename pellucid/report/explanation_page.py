"""The page of `pellucid explain`: one answer and all that is known of it (floor 9)."""

from __future__ import annotations

from markupsafe import Markup

from ..inference.asked import Asked
from ..inference.explanation import Explanation
from .attribution_view import attribution_sections
from .blame_view import blame_sections, example_section
from .inspection import ViewPage, result_sections


def explanation_page(found: Explanation, asked: Asked, with_examples: bool, command: str) -> ViewPage:
    """with_examples: whether the page may show the example itself, and values of other rows."""
    shown = found if with_examples else found.without_data()
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
