"""The section of the report on the columns that mattered (floor 9)."""

from __future__ import annotations

from markupsafe import Markup

from ..evaluation.formatting import PERCENT, importance_text, short_name
from ..evaluation.importance import Importances
from ..runs.metric_names import higher_is_better
from . import charts
from .html import box, figure, part, section, shortened

DRAWN = 15  # columns
DASH = "\N{EN DASH}"


def importance_section(found: Importances) -> Markup:
    """A bar for each column: how much worse the score gets when the column is shuffled among validation rows."""
    way = "lost" if higher_is_better(found.score) else "added"
    points = found.score in PERCENT
    lead = (
        f"{short_name(found.score).capitalize()} {way} when a column is shuffled among {found.rows:,} validation rows, the mean of "
        f"{found.shuffles} shuffles; lines are 95% intervals. Where a line reaches 0, the column may not matter."
    )
    estimates = []
    for one in [*found.columns[:DRAWN], *found.together]:
        shared = f", shares with {', '.join(one.shared_with)}" if one.shared_with else ""
        name = f"{' and '.join(one.names)}, together" if len(one.names) > 1 else f"{one.name}{shared}"
        estimates.append(charts.Estimate(shortened(name, 44), "ours" if one.mattered else "plain", one.worse, one.interval,
                                         importance_text(one, found.score, DASH)))  # fmt: skip
    caption = f"{short_name(found.score).capitalize()} {way}{', in points' * points}"
    spoken = "; ".join(f"{one.name} {one.shown}" for one in estimates)
    value_format = (lambda value: f"{100 * value:.6g}") if points else charts.show_short
    notes = []
    if found.together:
        notes.append("Columns that share what they say stand in for each other, so each alone seems to matter less.")
    if found.of > len(found.columns):
        notes.append(f"Of {found.of:,} columns the {len(found.columns)} that move the answers most were shuffled so.")
    if len(found.columns) > DRAWN:
        notes.append(f"The {len(found.columns) - DRAWN} others mattered less.")
    hints = [part("hint", " ".join(notes))] if notes else []
    chart = figure(caption, charts.bar_chart(caption, spoken, estimates, value_format))
    return section("Inputs that mattered", box("", chart), *hints, lead=lead)
