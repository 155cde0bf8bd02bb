"""HTML of the report: escaping, tables, inline pictures, and the templates they come from (floor 9).

The structure of the page is in `templates/` (Jinja2, everything escaped); numbers and wording come from the modules beside
this one. No scripts, and a content policy that forbids the browser every request: a page opened offline, or from a
stranger, can load nothing.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from ..evaluation.formatting import format_number

_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(value: object) -> str:
    """`value` as text that HTML can hold; Markup stays as it is."""
    return value if isinstance(value, Markup) else _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(value))


def shortened(value: object, limit: int) -> str:
    """`value` as text of at most `limit` characters, cut with an ellipsis; Markup stays as it is."""
    if isinstance(value, Markup):
        return value
    shown = printable(value)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


TEMPLATES = Environment(
    loader=PackageLoader("pellucid.report"), autoescape=True, finalize=printable, undefined=StrictUndefined,
    trim_blocks=True, keep_trailing_newline=False,
)  # fmt: skip


def part(name: str, *values: object) -> Markup:
    """The macro `name` of templates/parts.html, filled with `values`."""
    macro = getattr(TEMPLATES.get_template("parts.html").module, name)
    return Markup(macro(*values))


def page(template: str, **values: object) -> str:
    """The whole document that `template` makes of `values`."""
    return TEMPLATES.get_template(template).render(**values)


def section(title: str, *content: Markup, lead: str = "") -> Markup:
    """A section of the page; `lead` is the one sentence that a hurried reader takes away, plain text."""
    anchor = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return part("section", anchor, title, lead, Markup("").join(content))


def details(summary: str, content: Markup) -> Markup:
    """Content that is folded away under its summary."""
    return part("details", summary, content)


def figure(caption: str, content: Markup, style: str = "card") -> Markup:
    """A card around a chart or picture, under its caption."""
    return part("figure", caption, content, style)


def box(style: str, *content: Markup) -> Markup:
    """Parts side by side or below one another, as the class `style` says."""
    return part("box", style, content)


def cell(value: object) -> str:
    """A value from data or a history: numbers with four digits, None as nothing, text as it is."""
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    return (
        "" if value is None else format_number(float(value)) if isinstance(value, (float, np.floating)) else str(value)
    )


def table(
    caption: str, head: Sequence[object], rows: Iterable[Sequence[object]], *, numeric: Iterable[int] = (), row_heads: bool = True,
    style: str = "",
) -> Markup:  # fmt: skip
    """A table. numeric: columns set flush right. row_heads: the first cell names the row."""
    return part("table", caption, head, list(rows), set(numeric), row_heads, style)


def picture(pixels: np.ndarray, alt: str, *, largest: int = 112) -> Markup:
    """An image as an inline PNG. pixels: uint8 (H, W) or (H, W, 3); bigger than `largest` pixels a side is scaled down."""
    image = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8))
    exact = max(image.size) <= largest
    if not exact:
        image.thumbnail((largest, largest))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return part("picture", base64.b64encode(buffer.getvalue()).decode("ascii"), alt, exact)
