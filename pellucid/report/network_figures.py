"""Figures of a network: filters, attention, samples of text and images, as sections of the report (floor 9).

The evaluators and `inspect/` give the data, as `evaluation.evaluator.Figures`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from ..evaluation.evaluator import Figures, ImageSheet, TextSample, TokenLoss
from ..evaluation.images import image_grid
from ..inspect.attention import AttentionFigure
from .html import box, figure, part, picture, section, table

FILTERS = 64  # shown at most
LARGER = 8  # times each weight of a filter is enlarged
LARGEST = 2000  # pixels a side of a picture
HIGH_LOSS = 6  # nats, from which a token has the darkest tint


def figure_sections(figures: Figures) -> list[Markup]:
    """A section for each kind of figure that there is."""
    sections = []
    if figures.filters is not None:
        sections.append(filter_section(figures.filters))
    if figures.text_samples:
        sections.append(_text_samples(figures.text_samples))
    if figures.passage:
        sections.append(_passage(figures.passage))
    if figures.attention is not None:
        sections.append(attention_section(figures.attention))
    if figures.sheets:
        sections.append(_image_sheets(figures.sheets, figures.conditional))
    return sections


def filter_section(filters: np.ndarray) -> Markup:
    """The filters (N, C, h, w) of a first convolution, each as a small picture."""
    weight = filters[:FILTERS]
    largest = np.abs(weight).max(axis=(1, 2, 3), keepdims=True).clip(1e-12)
    pixels = np.rint((weight / largest + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    grid = image_grid(pixels.repeat(LARGER, 1).repeat(LARGER, 2), 16)
    lead = "Each square is what one filter of the first layer looks for; grey is a weight of zero, each square has its own scale."
    drawn = picture(grid, "filters of the first layer", largest=LARGEST)
    return section("What its first layer sees", part("picture_card", drawn), lead=lead)


def attention_section(attention: AttentionFigure) -> Markup:
    """Where each head of each layer looks, on the tokens of one text."""
    cards = []
    for path, heads in attention.maps.items():  # (H, T, T)
        brightest = heads / heads.max(axis=(1, 2), keepdims=True).clip(1e-12)
        pixels = np.rint(255 * np.sqrt(brightest)).astype(np.uint8)
        grid = image_grid(pixels.repeat(4, 1).repeat(4, 2), min(len(heads), 8))
        drawn = picture(grid, f"attention of {path}", largest=LARGEST)
        cards.append(figure(f"{path}, {len(heads)} heads", drawn, "card grid"))
    lead = "A row is a character, a column one that stands before it; the brighter, the more it is looked at (as a square root)."
    text = part("hint", f"The text: {''.join(attention.tokens)!r}")
    return section("Where attention looks", text, box("pair", *cards), lead=lead)


def _text_samples(samples: Sequence[TextSample]) -> Markup:
    rows = [(sample.epoch, f"{sample.loss:.3f}", part("wrapped", sample.text)) for sample in samples]
    listing = table("Written from nothing, by the weights of that epoch", ("epoch", "nats", "it wrote"), rows)
    return section("What it writes", listing, lead="Drawn character by character from its own probabilities.")


def _passage(passage: Sequence[TokenLoss]) -> Markup:
    """A passage of the test part, each token tinted by its loss."""
    tokens = [
        {"text": token.text, "depth": f"{min(token.nll / HIGH_LOSS, 1):.2f}", "title": f"{token.nll:.2f} nats"}
        for token in passage
    ]
    lead = "The darker a character, the less it was expected after all that stands before it."
    return section("Where it is surprised", part("tinted", tokens), lead=lead)


def _image_sheets(sheets: Sequence[ImageSheet], conditional: bool) -> Markup:
    cards = [figure(one.title, picture(one.pixels, one.title, largest=LARGEST), "card grid") for one in sheets]
    lead = "The same chance in every epoch" + (": a column is a class." if conditional else ".")
    return section("What it draws", box("pair", *cards), lead=lead)
