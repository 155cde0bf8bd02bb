"""A self-contained HTML page: escaping, tables, inline pictures, and the one style sheet, light and dark.

What stands on the page is its caller's affair (`report.py`). No scripts, and a content policy that forbids the browser
every request, so that a page opened offline, or from a stranger, can load nothing.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..evaluation.metrics import show

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is HTML already; everything else is escaped by `text`."""

    __slots__ = ()


def text(value: Any, limit: int = 0) -> Markup:
    """`value` safe between tags and inside a quoted attribute; Markup passes unchanged. limit: cut longer text with an ellipsis."""
    if isinstance(value, Markup):
        return value
    plain = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(value))
    if limit and len(plain) > limit:
        plain = plain[: limit - 1] + "…"
    return Markup(html.escape(plain))


def joined(parts: Iterable[str]) -> Markup:
    """Markup put together from pieces that are markup already."""
    return Markup("".join(parts))


def section(title: str, *content: str, lead: str = "") -> Markup:
    """A part of the page; `lead` is the one sentence that a hurried reader takes away, plain text."""
    anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    opening = f'<section aria-labelledby="{anchor}"><h2 id="{anchor}">{text(title)}</h2>'
    return Markup(opening + (f'<p class="lead">{text(lead)}</p>' if lead else "") + "".join(content) + "</section>")


def details(summary: str, content: str) -> Markup:
    return Markup(f"<details><summary>{text(summary)}</summary>{content}</details>")


def figure(caption: str, chart: str) -> Markup:
    """A card around a chart, under its caption."""
    return Markup(f'<figure class="card"><figcaption>{text(caption)}</figcaption>{chart}</figure>')


def cell(value: Any) -> str:
    """A value from data or a history: numbers with four digits, None as nothing, text as it is."""
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return "" if value is None else show(float(value)) if isinstance(value, (float, np.floating)) else str(value)


def table(
    caption: str, head: Sequence[Any], rows: Iterable[Sequence[Any]], *, numeric: Iterable[int] = (), row_heads: bool = True,
    style: str = "",
) -> Markup:  # fmt: skip
    """A table whose cells are escaped unless Markup. numeric: columns set flush right. row_heads: the first cell names the row."""
    right = set(numeric)
    align = [' class="n"' if i in right else "" for i in range(len(head))]
    top = "".join(f'<th scope="col"{align[i]}>{text(cell)}</th>' for i, cell in enumerate(head))
    body = []
    for row in rows:
        cells = [f"<td{align[i]}>{text(cell)}</td>" for i, cell in enumerate(row)]
        if row_heads and row:
            cells[0] = f'<th scope="row"{align[0]}>{text(row[0])}</th>'
        body.append(f"<tr>{''.join(cells)}</tr>")
    return Markup(
        f'<div class="wide" role="region" tabindex="0" aria-label="{text(caption)}">'
        f'<table class="{text(style)}"><caption>{text(caption)}</caption>'
        f"<thead><tr>{top}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def picture(pixels: np.ndarray, alt: str, *, largest: int = 112) -> Markup:
    """An image as an inline PNG. pixels: uint8 (H, W) or (H, W, 3); bigger than `largest` pixels a side is scaled down."""
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    exact = "" if max(image.size) > largest else ' class="pixels"'
    if not exact:
        image.thumbnail((largest, largest))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Markup(f'<img{exact} alt="{text(alt)}" src="data:image/png;base64,{data}">')


def page(title: str, body: str) -> str:
    """The whole document around `body`."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        # Nothing may be fetched, whatever stands in the data; data: pictures and the style below are all there is.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head>\n<body><main>{body}</main></body></html>\n"
    )


# Colours come in pairs, light and dark. `ours` is the network, right answers, validation; `other` mistakes and training.
STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf8; --card: #fff; --ink: #1b2226; --soft: #59656c; --line: #dfe2de;
  --grid: #ebedea; --ours: #0b6f7f; --ours-rgb: 16 132 150; --other: #b2500b; --other-rgb: 216 110 30; --plain-rgb:
  110 120 126; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #12171a; --card: #1a2024; --ink: #e7ecee; --soft: #9fabb1; --line: #303a40; --grid: #262f34;
    --ours: #5fcbd9; --ours-rgb: 64 190 206; --other: #f2a25c; --other-rgb: 236 140 66; --plain-rgb: 160 172 178; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%; font: 16px/1.55
  system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Noto Sans", sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -.015em; margin: .15rem 0 1.6rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; letter-spacing: -.01em; line-height: 1.3; margin: 0 0 .35rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
section { margin-top: 3.25rem; }
p { margin: .5rem 0; max-width: 50rem; }
.eyebrow, .lead, .hint { color: var(--soft); }
.eyebrow { font-size: .85rem; margin: 0; overflow-wrap: anywhere; }
.lead { margin: 0 0 1.1rem; }
.hint { font-size: .85rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1.4rem 1.5rem; }
.hero { display: grid; grid-template-columns: minmax(15rem, 2fr) 3fr; gap: 1.2rem 2.2rem; align-items: center; }
.score { font-size: 3.6rem; font-weight: 650; line-height: 1; letter-spacing: -.03em; margin: 0 0 .6rem; color:
  var(--ours); font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.score small { display: block; font-size: .95rem; font-weight: 600; letter-spacing: 0; color: var(--soft);
  margin-bottom: .4rem; }
.verdict { grid-column: 1 / -1; margin: 0; max-width: none; border-top: 1px solid var(--line); padding-top: 1rem; }
.verdict b { color: var(--ours); }
.verdict.unclear b, .verdict.worse b { color: var(--other); }
.facts { display: flex; flex-wrap: wrap; gap: .4rem 2.2rem; margin: 1.2rem 0 0; }
.facts div { display: flex; flex-direction: column; }
.facts dt { font-size: .8rem; color: var(--soft); }
.facts dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.beside { display: flex; flex-wrap: wrap; gap: 1.2rem 2.4rem; align-items: flex-start; }
.beside > * { max-width: 100%; }
.pair { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); gap: 1.2rem;
  align-items: start; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .95rem; font-weight: 600; margin-bottom: .5rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; font: 12px/1 system-ui, -apple-system, "Segoe UI",
  sans-serif; }
svg text { fill: var(--soft); font-variant-numeric: tabular-nums; }
svg text.strong { fill: var(--ink); font-weight: 600; }
svg .grid { stroke: var(--grid); }
svg .axis { stroke: var(--line); }
svg .mark { stroke: var(--soft); stroke-dasharray: 2 3; }
svg .ours { stroke: var(--ours); }
svg .other { stroke: var(--other); }
svg .plain { stroke: var(--soft); }
svg text.ours { fill: var(--ours); stroke: none; }
svg text.other { fill: var(--other); stroke: none; }
svg .curve { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .dashed { stroke-dasharray: 5 4; }
svg .whisker { stroke-width: 2; }
svg .hidden { fill: none; stroke: none; }
svg .dot { stroke: none; }
svg .dot.ours { fill: var(--ours); }
svg .dot.other { fill: var(--other); }
svg .dot.plain { fill: var(--soft); }
svg .cloud { fill: none; stroke: var(--ours); stroke-linecap: round; stroke-width: 5; }
svg .bar { fill: rgb(var(--ours-rgb) / .6); }
svg .good { fill: rgb(var(--ours-rgb)); }
svg .bad { fill: rgb(var(--other-rgb)); }
.wide { overflow-x: auto; }
.wide:focus-visible { outline: 2px solid var(--ours); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; font-size: .95rem; padding-bottom: .5rem; white-space: nowrap; }
th, td { padding: .38rem .8rem .38rem 0; text-align: left; vertical-align: baseline; border-bottom: 1px solid
  var(--line); unicode-bidi: isolate; }
thead th { font-weight: 600; color: var(--soft); font-size: .82rem; vertical-align: bottom; white-space: nowrap; }
tbody th { font-weight: 500; }
.scores tbody th { white-space: nowrap; }
.n { text-align: right; padding-left: .4rem; padding-right: 1.1rem; white-space: nowrap; }
.nb { white-space: nowrap; }
td small { color: var(--soft); font-size: .82rem; white-space: nowrap; }
td small.span { display: block; }
td small.gloss { white-space: normal; }
.share { display: inline-block; width: 3.2rem; height: .5rem; border-radius: 2px; margin-right: .55rem; background:
  var(--grid); }
.share i { display: block; height: 100%; border-radius: 2px; width: var(--w); background: var(--ours); }
.matrix th, .matrix td { border: 0; padding: .3rem .25rem; text-align: center; min-width: 2.2rem; }
.matrix.few td { min-width: 4.5rem; padding: .8rem .5rem; }
.matrix tbody td { border: 1px solid var(--card); background: rgb(var(--tint, var(--plain-rgb)) / var(--s, 0)); }
.matrix .good { --tint: var(--ours-rgb); font-weight: 600; }
.matrix .bad { --tint: var(--other-rgb); }
.matrix .none { color: transparent; }
.matrix tbody th { text-align: right; padding-right: .6rem; white-space: nowrap; }
.matrix .corner { font-weight: 400; text-align: right; padding-right: .6rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.6rem, 1fr)); gap: .9rem; padding: 0; margin:
  0; list-style: none; }
.tiles li { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .6rem; font-size:
  .82rem; line-height: 1.4; overflow-wrap: anywhere; }
.tiles img { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 5px; background: #000; margin-bottom:
  .45rem; display: block; }
.pixels { image-rendering: pixelated; }
.said { color: var(--other); font-weight: 600; }
.was { font-weight: 600; }
.tiles small { color: var(--soft); font-weight: 400; overflow-wrap: anywhere; }
.settings { display: grid; grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr)); gap: 0 2rem; margin: 0 0
  1.2rem; }
.settings div { display: flex; justify-content: space-between; gap: 1rem; border-bottom: 1px solid var(--line);
  padding: .35rem 0; font-size: .9rem; }
.settings dt { color: var(--soft); }
.settings dd { margin: 0; text-align: right; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .75rem 1rem; margin: .3rem
  0 .9rem; overflow-x: auto; font: .85rem/1.5 ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, monospace; }
pre.wrap { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.surprise span { background: rgb(var(--other-rgb) / var(--s)); }
.grid img { width: 100%; max-width: 34rem; image-rendering: pixelated; border-radius: 8px; }
ul { margin: .4rem 0; padding-left: 1.3rem; }
.card + .wide { margin-top: 1.6rem; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--soft); font-size: .9rem; padding: .2rem 0; }
summary:focus-visible { outline: 2px solid var(--ours); outline-offset: 2px; }
details > .wide { margin-top: .6rem; }
footer { margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size:
  .85rem; }
@media (max-width: 44rem) {
  main { padding: 1.5rem 1rem 3rem; }
  .hero { grid-template-columns: 1fr; }
  .score { font-size: 3rem; }
  svg { font-size: 14.5px; }
}
@media print {
  body { background: #fff; }
  main { max-width: none; }
  .card, figure, tr, .tiles li { break-inside: avoid; }
}
"""
