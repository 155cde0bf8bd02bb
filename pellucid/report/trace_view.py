"""The page of a trace: the network drawn once, with the factors along one path, then the four moves as tables (floor 9)."""

from __future__ import annotations

import dataclasses

from markupsafe import Markup, escape

from ..inspect.layer_values import LayerTrace
from ..inspect.result import Table
from ..inspect.trace import Trace
from .html import box, figure, printable, section
from .inspection import ViewPage, markup_of, result_sections

MOST_COLUMNS = 4  # of layers in the picture
PITCH, TOP, RADIUS, COLUMN = 56, 92, 17, 160
FORWARD = (
    "Each unit adds up its inputs times its weights (z), and its activation makes y of that. An arrow marks the path."
)
LOSS = "The answer is compared with the right one: one number says how wrong it is."
BACKWARD = (
    "How the loss moves with the weight: three factors, each read off the layer it belongs to, by the chain rule."
)
STEP = "The weight moves against its gradient, by the learning rate times it."
READ = "From left to right is forward, along the thick line; backward multiplies the numbers on it from right to left."


def trace_page(found: Trace, name: str, command: str) -> ViewPage:
    """The page of `found` about the example `name`."""
    lead = (
        READ if found.paths is not None else f"{READ} The dashed part stands for all ways through the layers between."
    )
    drawn = [figure(found.weight, box("wide broad", trace_picture(found)))] if found.factors else []
    sections = [section("One weight's way to the loss", *drawn, lead=lead)] if drawn else []
    backward = [_under(table) for table in (*found.backward_tables(), found.units_table())]
    factors, *others = backward if found.factors else [Markup(""), *backward]
    sections += [
        section("1 forward", _under(found.forward_table()), lead=FORWARD),
        section("2 loss", _under(found.loss_table()), lead=LOSS),
        section("3 backward", factors, *others, lead=BACKWARD),
        section("4 step", _under(found.step_table()), lead=STEP),
        *result_sections(found)[len(found.tables()) :],
    ]
    return ViewPage("trace", f"One step of training on {name}", found.headline(), sections, command=command)


def _under(table: Table) -> Markup:
    """A table whose move is named by its section."""
    return markup_of(dataclasses.replace(table, title=table.title.partition(": ")[2] or table.title))


def trace_picture(found: Trace) -> Markup:
    """The network as columns of units: the input of the weight, the layers after it, the loss; the path's factors on its edges."""
    f = found.factors
    assert f is not None
    layers = (
        found.layers if len(found.layers) <= MOST_COLUMNS else (*found.layers[: MOST_COLUMNS - 1], found.layers[-1])
    )
    width = COLUMN * (len(layers) + 2)
    height = TOP + PITCH * max(len(layer.units) for layer in layers) if layers else TOP + PITCH
    xs = [COLUMN * (k + 0.5) for k in range(len(layers) + 2)]
    parts = _faint(layers, xs[1:-1])
    parts += _way(found, layers, xs)
    parts += [_head(xs[0], "input", "of the weight"), _unit(xs[0], 0, "x", f"{f.local:.4g}", True)]
    for x, layer in zip(xs[1:-1], layers, strict=True):
        parts.append(_head(x, layer.path, f"{layer.kind}, {layer.size:,} units"))
        for row, unit in enumerate(layer.units):
            value = unit.z if unit.y is None else unit.y
            parts.append(_unit(x, row, unit.name, f"{value:.4g}", unit.traced))
    parts += [_head(xs[-1], "loss", ""), _unit(xs[-1], 0, "L", f"{found.loss:.4g}", True)]
    label = escape(printable(f"{found.weight}: {found.headline()}"))
    return Markup(f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">{"".join(parts)}</svg>')


def _faint(layers: tuple[LayerTrace, ...], xs: list[float]) -> list[str]:
    """Thin lines between the units of neighbouring layers."""
    return [
        f'<line class="axis" x1="{x + RADIUS:g}" y1="{_y(a):g}" x2="{next_x - RADIUS:g}" y2="{_y(b):g}"/>'
        for x, next_x, layer, after in zip(xs, xs[1:], layers, layers[1:], strict=False)
        for a in range(len(layer.units))
        for b in range(len(after.units))
    ]


def _way(found: Trace, layers: tuple[LayerTrace, ...], xs: list[float]) -> list[str]:
    """The thick line from the input to the loss, a factor on each edge; dashed where no single path is meant."""
    f = found.factors
    assert f is not None
    y = _y(0)
    parts = [_edge(xs[0], xs[1], f"dz/dw = {f.local:.4g}", f"dy/dz = {f.slope:.4g}")]
    whole = found.paths is not None and len(found.paths.layers) == len(layers) - 1
    if found.paths is None or not whole:
        text = _text((xs[1] + xs[2]) / 2, y - 10, f"dL/dy = {f.arriving:.4g}", "strong")
        return [
            *parts,
            f'<line class="ours way dashed" x1="{xs[1] + RADIUS:g}" y1="{y}" x2="{xs[-1] - RADIUS:g}" y2="{y}"/>',
            text,
        ]
    path = found.paths.top[0]
    for k, (weight, slope) in enumerate(zip(path.weights, path.slopes, strict=True)):
        parts.append(_edge(xs[k + 1], xs[k + 2], f"w = {weight:.4g}", f"slope {slope:.4g}"))
    return [*parts, _edge(xs[-2], xs[-1], f"dL/dy = {path.last:.4g}", "")]


def _edge(x: float, to: float, above: str, below: str) -> str:
    y = _y(0)
    line = f'<line class="ours way" x1="{x + RADIUS:g}" y1="{y}" x2="{to - RADIUS:g}" y2="{y}"/>'
    return line + _text((x + to) / 2, y - 10, above, "strong") + _text((x + to) / 2, y + 20, below, "")


def _unit(x: float, row: int, name: str, value: str, on_path: bool) -> str:
    y = _y(row)
    style = "unit ours" if on_path else "unit plain"
    back = f'<circle cx="{x:g}" cy="{y}" r="{RADIUS}" class="{style}"/>'
    inside, below = (name, value) if len(name) <= 3 else ("", f"{name}: {value}")
    return back + _text(x, y + 4, inside, "strong" if on_path else "") + _text(x, y + RADIUS + 13, below, "")


def _head(x: float, name: str, below: str) -> str:
    shown = name if len(name) <= 22 else "…" + name[-21:]
    return _text(x, 16, shown, "strong") + _text(x, 34, below, "")


def _text(x: float, y: float, content: str, style: str) -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle"{kind}>{escape(printable(content))}</text>'


def _y(row: int) -> int:
    return TOP - RADIUS + PITCH * row
