"""The page of `pellucid blame`: signed bars of the parts, the share of each layer, and what the example is (floor 9)."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from ..inspect.blame import Blame
from .charts import Estimate, bar_chart, percent, show_short
from .html import box, figure, picture, section, table
from .inspection import result_sections

Sections = list[Markup]
MOST_BARS, MOST_AGAINST, MOST_LAYERS = 14, 8, 12


def blame_sections(found: Blame) -> list[Markup]:
    """The charts, then the tables and how far to trust them. Nothing of the data."""
    rows = [*found.rows[:MOST_BARS], *reversed(found.against[:MOST_AGAINST])]
    bars = {row.name: row.effect for row in rows if row.effect is not None}
    estimates = [Estimate(name, "ours", value, None, f"{value:+.3g}") for name, value in bars.items()]
    lead = f"To the left: without the part the {found.measure} would be lower, so it is to blame. To the right: it would be higher."
    sections = []
    if estimates:
        chart = bar_chart(f"What leaving each of the {found.of} out does", lead, estimates, show_short)
        sections.append(
            section("To blame, and against", figure(f"The {found.measure} without each, minus now", chart), lead=lead)
        )
    shares = sorted(found.layers, key=lambda one: -one.share)[:MOST_LAYERS]
    if len(shares) > 1 and found.of != "layers":
        parts = [Estimate(one.layer, "ours", one.share, None, f"{100 * one.share:.1f}%") for one in shares]
        chart = bar_chart("Share of each layer", "Sizes of single effects, added up.", parts, percent)
        sections.append(section("By layer", figure("Share of the sizes of all single effects", chart)))
    return sections + result_sections(found)


def example_section(raw: object, name: str) -> Markup | None:
    """The example itself: a picture, a row or a text; None where it cannot be shown."""
    if isinstance(raw, np.ndarray) and raw.dtype == np.uint8 and raw.ndim in (2, 3):
        return section("The example", box("example", picture(raw, name)))
    if isinstance(raw, dict):
        return section("The example", table(name, ("column", "value"), list(raw.items())))
    if isinstance(raw, list | str):
        text = "".join(map(str, raw))
        return section("The example", Markup("<p><code>{}</code></p>").format(text))
    return None
