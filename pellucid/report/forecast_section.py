"""The section of the report that draws forecasts over time, with their interval (floor 9)."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ..evaluation.forecasts import ForecastFigure, interval_sentence
from ..runs.records import ForecastInterval
from . import charts
from .html import box, figure, section


def forecast_section(figures: Sequence[ForecastFigure], interval: ForecastInterval | None) -> Markup:
    """A chart for each series. The interval is drawn, and told with its coverage, where it was measured."""
    lead = (
        "Solid: what was predicted, one step ahead in the test part, then from its own predictions. Dashed: what came."
    )
    if interval is not None:
        lead += f" Shaded: an interval {interval_sentence(interval)}."
    cards = [figure(one.name or one.target, charts.forecast_chart(one)) for one in figures]
    return section("The forecast over time", box("", *cards), lead=lead)
