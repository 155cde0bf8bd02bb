"""Sections of the page of `pellucid features`: filters, units with their pictures, and probes over depth (floor 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from ..evaluation.images import image_grid
from ..evaluation.probes import Probes
from ..inspect.feature_view import Features
from .charts import Series, line_chart, percent, show_short
from .html import box, figure, part, picture, section, table
from .inspection import result_sections
from .network_figures import filter_section

SCALE = 64  # pixels a side, about, of a small picture
READING = "Made by gradient ascent from noise: a picture that drives the unit more than any example, and not one that data have."


def feature_sections(
    found: Features,
    examples: Mapping[int, Sequence[np.ndarray]] | None = None,
    words: Sequence[str] = (),
) -> list[Markup]:
    """Everything that `found` says. examples: pictures of the data by unit; words: about examples; both only where asked for."""
    sections = []
    if isinstance(found.probes, Probes):
        sections.append(_probes(found.probes))
    if found.pictures is not None:
        sections.append(_units(found, examples or {}))
    if words:
        rows = [(top.unit, text) for top, text in zip(found.tops, words, strict=True)]
        sections.append(section("What drives each unit", table("Strongest examples", ("unit", "examples"), rows)))
    if found.filters is not None and found.filters.shape[1] in (1, 3):
        sections.append(filter_section(found.filters))
    return [*sections, *result_sections(found)]


def _units(found: Features, examples: Mapping[int, Sequence[np.ndarray]]) -> Markup:
    assert found.pictures is not None
    low, high = found.box
    cards = []
    for i, top in enumerate(found.tops):
        made = pixels_of(
            np.rint((found.pictures.images[i] - low) / max(high - low, 1e-12) * 255).clip(0, 255).astype(np.uint8)
        )
        parts = [picture(enlarged(made), f"a picture that drives unit {top.unit}", largest=4 * SCALE)]
        if top.unit in examples:
            grid = image_grid(np.stack([enlarged(image) for image in examples[top.unit]]), 3)
            parts.append(picture(grid, f"the strongest examples of unit {top.unit}", largest=8 * SCALE))
        pure = "" if top.purity is None else f", purity {top.purity:.0%}"
        cards.append(figure(f"unit {top.unit}{pure} (suggestive)", box("grid", *parts)))
    note = "" if examples else " Its 9 strongest examples stand beside it with --with-examples."
    return section("Pictures that drive a unit", box("maps", *cards), part("hint", note.strip()), lead=READING)


def pixels_of(image: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) of an image (H, W), (1, H, W) or (3, H, W)."""
    if image.ndim == 3 and image.shape[0] in (1, 3):
        image = image.transpose(1, 2, 0)
    return image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image


def enlarged(image: np.ndarray) -> np.ndarray:
    """Small pictures with each pixel as a square of several."""
    times = max(1, SCALE // max(image.shape[:2]))
    return image.repeat(times, 0).repeat(times, 1)


def _probes(found: Probes) -> Markup:
    lines = (
        ("trained", "ours", found.trained),
        ("untrained", "other", found.untrained),
        ("shuffled", "other", found.shuffled),
    )
    curves = [
        Series(name, style, [(float(i), float(v)) for i, v in enumerate(values)]) for name, style, values in lines
    ]
    format_y = percent if found.measure == "accuracy" else show_short
    chart = line_chart(
        f"{found.measure} of linear probes by depth", "", curves, y_format=format_y, x_name="layer (0 is the input)"
    )
    names = ", ".join(f"{i} {name}" for i, name in enumerate(found.layers))
    return section(
        "What each layer knows",
        figure(f"{found.measure} by depth", chart, "card"),
        part("hint", names),
        lead=found.headline(),
    )
