"""Pictures of what a network has inside, for reports: the first layer's filters, where attention looks (floor 6).

What is read out of the network is `inspect`'s affair, how a page looks `page.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn
from ..errors import OptionError
from ..inference.sampler import grid
from ..inspect.attention import attention_maps
from ..nn import Module
from .html import Markup, picture, section, text

FILTERS = 64  # shown at most
LARGER = 8  # times each weight is enlarged
TOKENS = 32  # of a text whose attention is shown


def filters(network: Module) -> Markup:
    """The filters of the first convolution, each as a small picture; nothing where there is none that sees pixels."""
    found = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    if found is None or found.weight.shape[1] not in (1, 3) or max(found.weight.shape[2:]) < 2:
        return Markup("")
    weight = found.weight.detach().numpy()[:FILTERS]  # (N, C, h, w)
    most = np.abs(weight).max(axis=(1, 2, 3), keepdims=True).clip(1e-12)
    pixels = np.rint((weight / most + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    whole = grid(pixels.repeat(LARGER, 1).repeat(LARGER, 2), 16)
    lead = "Each square is what one filter of the first layer looks for; grey is a weight of zero, each square has its own scale."
    drawn = picture(whole, "filters of the first layer", largest=2000)
    return section("What its first layer sees", Markup(f'<figure class="card grid">{drawn}</figure>'), lead=lead)


def attention(network: Module, tokens: Any, letters: Sequence[str]) -> Markup:
    """Where each head of each layer looks on the first tokens (1, T) of a text, spelled `letters`; nothing without attention."""
    try:
        maps = attention_maps(network, tokens)
    except OptionError:  # nothing in it attends
        return Markup("")
    rows = []
    for path, heads in maps.items():
        shares = heads.detach().numpy()[0]  # (H, T, S)
        brightest = shares / shares.max(axis=(1, 2), keepdims=True).clip(1e-12)
        whole = grid(np.rint(255 * np.sqrt(brightest)).astype(np.uint8).repeat(4, 1).repeat(4, 2), min(len(shares), 8))
        rows.append(
            f'<figure class="card grid"><figcaption>{text(path)}, {len(shares)} heads</figcaption>'
            f"{picture(whole, f'attention of {path}', largest=2000)}</figure>"
        )
    lead = "A row is a character, a column one that stands before it; the brighter, the more it is looked at (as a square root)."
    shown = Markup(f'<p class="hint">The text: {text(repr("".join(letters)))}</p>')
    return section("Where attention looks", shown, Markup(f'<div class="pair">{"".join(rows)}</div>'), lead=lead)
