"""Sections of the report with figures of a network: filters, attention weights, generated text and images (floor 9).

The data come from an evaluator, as `evaluation.evaluator.Figures`. Here they become HTML.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from ..evaluation.evaluator import Figures, ImageSheet, TextSample, TokenLoss
from ..evaluation.images import image_grid
from ..inspect.attention import AttentionFigure
from .forecast_section import forecast_section
from .html import box, figure, part, picture, section, table

MAX_FILTERS = 64  # filters that are shown
FILTER_SCALE = 8  # pixels a side for each weight of a filter
ATTENTION_SCALE = 4  # pixels a side for each attention weight
MAX_SIDE = 2000  # pixels a side of a picture; a larger one is scaled down
HIGH_LOSS = 6  # nats; a token with this loss or more has the darkest background


def figure_sections(figures: Figures) -> list[Markup]:
    """One section for each kind of figure that `figures` contains."""
    sections = []
    if figures.forecasts:
        sections.append(forecast_section(figures.forecasts, figures.interval))
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
    """The filters (N, C, h, w) of the first convolution, each as a small picture."""
    weight = filters[:MAX_FILTERS]
    largest_weight = np.abs(weight).max(axis=(1, 2, 3), keepdims=True).clip(1e-12)
    pixels = np.rint((weight / largest_weight + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    grid = image_grid(pixels.repeat(FILTER_SCALE, 1).repeat(FILTER_SCALE, 2), 16)
    lead = "Each square shows the weights of one filter. Grey is a weight of zero; each square has its own scale."
    image = picture(grid, "filters of the first layer", largest=MAX_SIDE)
    return section("What its first layer sees", part("picture_card", image), lead=lead)


def attention_section(attention: AttentionFigure) -> Markup:
    """The attention weights of each head of each layer, over the tokens of one text."""
    cards = []
    for path, heads in attention.maps.items():  # (H, T, T)
        relative = heads / heads.max(axis=(1, 2), keepdims=True).clip(1e-12)
        pixels = np.rint(255 * np.sqrt(relative)).astype(np.uint8)  # the square root makes small weights visible
        enlarged = pixels.repeat(ATTENTION_SCALE, 1).repeat(ATTENTION_SCALE, 2)
        grid = image_grid(enlarged, min(len(heads), 8))
        image = picture(grid, f"attention of {path}", largest=MAX_SIDE)
        cards.append(figure(f"{path}, {len(heads)} heads", image, "card grid"))
    lead = "A row is a token that attends, a column the token that it attends to. Brightness is the square root of the weight."
    text = part("hint", f"The text: {''.join(attention.tokens)!r}")
    return section("Where attention looks", text, box("pair", *cards), lead=lead)


def _text_samples(samples: Sequence[TextSample]) -> Markup:
    rows = [(sample.epoch, f"{sample.loss:.3f}", part("wrapped", sample.text)) for sample in samples]
    listing = table(
        "Text generated after each of these epochs", ("epoch", "validation loss (nats)", "generated text"), rows
    )
    return section(
        "What it writes", listing, lead="Each token is sampled from the probabilities that the network predicts."
    )


def _passage(passage: Sequence[TokenLoss]) -> Markup:
    """A test text, each token with a background as dark as its loss is high."""
    tokens = [
        {"text": token.text, "depth": f"{min(token.nll / HIGH_LOSS, 1):.2f}", "title": f"{token.nll:.2f} nats"}
        for token in passage
    ]
    lead = "The darker a token, the lower the probability that the network gave it, after all tokens before it."
    return section("Where it is surprised", part("tinted", tokens), lead=lead)


def _image_sheets(sheets: Sequence[ImageSheet], conditional: bool) -> Markup:
    """Images that the network generated. conditional: whether each column of a sheet is one class."""
    cards = [figure(sheet.title, picture(sheet.pixels, sheet.title, largest=MAX_SIDE), "card grid") for sheet in sheets]
    lead = "Generated from the same random numbers after every epoch." + (
        " A column is a class." if conditional else ""
    )
    return section("What it draws", box("pair", *cards), lead=lead)
