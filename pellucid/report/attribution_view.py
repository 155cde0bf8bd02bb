"""The sections of a page that show which parts of its input made an answer (floor 9)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from ..inference.asked import Asked
from ..inspect.attribution import METHODS, Attribution, channel_axes
from ..inspect.entries import entries
from .html import box, figure, part, picture, section
from .inspection import result_sections
from .signed_charts import signed_picture, steps_chart, waterfall

BARS = 14  # of a waterfall; the rest is one bar
SIDE = 280  # pixels of a picture, about
COLOURS = "Red counts for it, blue against it."


def attribution_sections(result: Attribution, asked: Asked) -> list[Markup]:
    """A picture of the figures where it may be shown, then the tables and the checks."""
    drawn = [_map_card(result, asked, name) for name in result.pictures] if result.shows_example else []
    hidden = bool(result.pictures) and not result.shows_example
    if result.columns:
        drawn.append(_waterfall_card(result))
    for name, places in result.maps().items():
        if name in result.pictures or (result.columns and places.ndim and result.figures[name].ndim < 2):
            continue
        if not result.shows_example:
            hidden = True
        elif len(result.labels) == places.size:
            drawn.append(_text_card(result, places))
        elif places.ndim == 1 and places.size > 1:
            drawn.append(_steps_card(result, name, places))
    notes = (
        [part("hint", "The figures of each place show the example itself, so they stand here only --with-examples.")]
        if hidden
        else []
    )
    shown = result if result.shows_example else dataclasses.replace(result, cells={}, labels=())
    title = f"What in the input made it say {result.target_name or result.target}"
    return [section(title, box("pair", *drawn), *notes, lead=shown.headline()), *result_sections(shown)]


def _map_card(result: Attribution, asked: Asked, name: str) -> Markup:
    """The picture with its figures, beside the picture alone."""
    places = result.map(name)
    images = [
        picture(
            signed_picture(places, _ink(asked, name), SIDE),
            f"{METHODS[result.method]} over the {name}",
            largest=2 * SIDE,
        )
    ]
    pixels = _pixels(asked.raw, SIDE)
    if pixels is not None:
        images.append(picture(pixels, f"the {name} itself", largest=2 * SIDE))
    largest = float(np.abs(places).max())
    signed = "The redder, the more it counts." if result.method == "saliency" else f"{COLOURS} White is 0."
    return figure(f"{signed} The strongest place counts {largest:.3g}", Markup("").join(images), "card grid")


def _ink(asked: Asked, name: str) -> np.ndarray:
    """How far each pixel is from the commonest value of the picture, (H, W) from 0 to 1."""
    value = entries(asked.question)[name].value.numpy()[0].astype(np.float64)
    grey = value.mean(channel_axes(value.ndim, True))
    levels, counts = np.unique(grey, return_counts=True)
    distance: np.ndarray = np.abs(grey - levels[counts.argmax()])
    distance /= float(distance.max()) or 1.0
    return distance


def _pixels(raw: Any, side: int) -> np.ndarray | None:
    """An image uint8, enlarged to about `side` pixels."""
    if not isinstance(raw, np.ndarray) or raw.ndim not in (2, 3) or raw.dtype != np.uint8:
        return None
    times = max(1, side // max(raw.shape[:2]))
    return raw.repeat(times, 0).repeat(times, 1)


def _waterfall_card(result: Attribution) -> Markup:
    """From the baseline to the answer, a bar for each column; for what does not add up, the rest is a bar too."""
    parts = sorted(result.columns.items(), key=lambda one: -abs(one[1]))
    shown, others = parts[:BARS], parts[BARS:]
    cells = result.cells if result.shows_example else {}
    bars = [(_bar_name(name, cells), value) for name, value in shown]
    if others:
        bars.append((f"{len(others)} other columns", sum(value for _, value in others)))
    spoken = "; ".join(f"{name} {value:+.3g}" for name, value in bars)
    if result.method == "saliency":
        caption, ends, base, answer = (
            "How much a small change of each column moves the score",
            ("none", "all"),
            0.0,
            0.0,
        )
        answer = sum(value for _, value in bars)
    else:
        caption, ends = f"From the baseline to the answer. {COLOURS}", ("baseline", "answer")
        base, answer = result.base, result.answer
        rest = answer - base - sum(value for _, value in bars)
        if result.method in ("occlusion", "input_x_gradient") and abs(rest) > 1e-6:
            bars.append(("what these do not add up to", rest))
    return figure(caption, waterfall(caption, spoken, bars, base, answer, ends), "card")


def _bar_name(name: str, cells: Mapping[str, str]) -> str:
    """`age = 41`, `age is missing`, or the name alone where cells may not be shown."""
    if name not in cells:
        return name
    return f"{name} = {cells[name]}" if cells[name] else f"{name} is missing"


def _text_card(result: Attribution, places: np.ndarray) -> Markup:
    """The text, each token on its colour."""
    largest = float(np.abs(places).max()) or 1.0
    tokens = [
        {
            "text": text.replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}\n"),
            "depth": f"{0.85 * abs(value) / largest:.2f}",
            "title": f"{value:+.3g}",
            "kind": "for" if value > 0 else "against",
        }
        for text, value in zip(result.labels, places.tolist(), strict=True)
    ]
    caption = (
        f"{COLOURS} The strongest token counts {largest:.3g}"
        if result.method != "saliency"
        else "The redder, the more it counts"
    )
    return figure(caption, part("attributed", tokens), "card")


def _steps_card(result: Attribution, name: str, places: np.ndarray) -> Markup:
    caption = (
        f"What each step of the {name} counts"
        if result.figures[name].ndim == 2
        else f"What each place of the {name} counts"
    )
    spoken = (
        f"From {float(places.min()):.3g} to {float(places.max()):.3g}; the last step counts {float(places[-1]):.3g}."
    )
    return figure(
        f"{caption}. {COLOURS}", steps_chart(caption, spoken, places, "steps before the one predicted"), "card"
    )
