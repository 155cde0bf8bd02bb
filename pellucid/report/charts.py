"""SVG charts of the report: lines, intervals, scatter, histogram, calibration, heat map (floor 9).

Each function gives one <svg> with a title and a description for readers who cannot see it. Colours are classes of
`templates/style.css`, so charts follow the page into dark mode. Only positions are computed here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from markupsafe import Markup, escape

from ..evaluation.forecasts import ForecastFigure
from ..evaluation.formatting import format_number
from .html import printable

Format = Callable[[float], str]
WIDE = 720  # of a chart over time, in SVG units
DATES = 4  # times below it
MOST_POINTS = 1500  # of a scatter or a curve; more would only thicken the file


def percent(value: float) -> str:
    """A share as an axis label: `95%`, `97.5%`."""
    return f"{100 * value:.6g}%"


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (steps of 1, 2 or 5 times a power of ten) within low..high."""
    if not high > low:
        return [low]
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = min((m * size for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / raw)))
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within low..high; powers alone once there are more than eight."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        found = [float(f"{f}e{e}") for e in exponents for f in factors if low <= float(f"{f}e{e}") <= high]
        if len(found) <= 8:
            break
    return found[:: -(-len(found) // 8)]


@dataclass(frozen=True)
class Frame:
    """Where data stands in a chart: ranges of the data, size and margins in SVG units."""

    x0: float
    x1: float
    y0: float
    y1: float
    width: float = 460
    height: float = 270
    left: float = 52
    right: float = 18
    top: float = 24
    bottom: float = 42
    log: bool = False

    def x(self, value: float) -> float:
        share = (value - self.x0) / (self.x1 - self.x0) if self.x1 > self.x0 else 0.5
        return round(self.left + share * (self.width - self.left - self.right), 1)

    def y(self, value: float) -> float:
        low, high, at = (math.log(v) for v in (self.y0, self.y1, value)) if self.log else (self.y0, self.y1, value)
        share = (at - low) / (high - low) if high > low else 0.5
        return round(self.height - self.bottom - share * (self.height - self.top - self.bottom), 1)

    def axes(
        self, x_name: str, x_ticks: Sequence[float], y_ticks: Sequence[float], x_format: Format, y_format: Format
    ) -> str:
        """Grid lines, tick labels and the name of the horizontal axis."""
        end, floor = self.width - self.right, self.height - self.bottom
        parts = [f'<line class="axis" x1="{self.left}" x2="{end}" y1="{floor}" y2="{floor}"/>']
        for tick in y_ticks:
            at = self.y(tick)
            parts.append(f'<line class="grid" x1="{self.left}" x2="{end}" y1="{at}" y2="{at}"/>')
            parts.append(_label(self.left - 8, at + 4, y_format(tick), anchor="end"))
        parts += [_label(self.x(tick), floor + 17, x_format(tick), anchor="middle") for tick in x_ticks]
        parts.append(_label((self.left + end) / 2, self.height - 4, x_name, anchor="middle"))
        return "".join(parts)


def _label(x: float, y: float, content: str, anchor: str = "start", style: str = "", turn: int = 0) -> str:
    kind = f' class="{style}"' if style else ""
    rotate = f' transform="rotate({turn} {x:.1f} {y:.1f})"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}{rotate}>{escape(printable(content))}</text>'


def _svg(width: float, height: float, title: str, description: str, content: str) -> Markup:
    label = escape(printable(f"{title}. {description}".strip()))
    return Markup(f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{label}">{content}</svg>')


@dataclass(frozen=True)
class Series:
    """A curve: its name, its style (`ours` or `other`), and points (x, y) without gaps."""

    name: str
    style: str
    points: list[tuple[float, float]]


def line_chart(
    title: str,
    description: str,
    series: Sequence[Series],
    *,
    best: float | None = None,
    y_format: Format = format_number,
    x_name: str = "epoch",
) -> Markup:
    """Curves over epochs, named at their ends; `best` marks one epoch. A range over 30-fold is drawn on a log scale."""
    series = [Series(one.name, one.style, _thinned(one.points)) for one in series if one.points]
    if not series:
        return Markup("")
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    low, high = min(ys), max(ys)
    log = low > 0 and high / low > 30
    pad = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    y0, y1 = (low / 1.15, high * 1.15) if log else (low - pad, high + pad)
    frame = Frame(min(xs), max(xs), y0, y1, right=78, log=log)
    x_ticks = [tick for tick in ticks(frame.x0, frame.x1, 6) if tick == int(tick)]
    parts = [frame.axes(x_name, x_ticks, log_ticks(y0, y1) if log else ticks(y0, y1), lambda v: f"{v:g}", y_format)]
    if log:
        parts.append(_label(0, frame.top - 12, "log scale"))
    if best is not None:
        at = frame.x(best)
        parts.append(
            f'<line class="mark" x1="{at}" x2="{at}" y1="{frame.top - 6}" y2="{frame.height - frame.bottom}"/>'
        )
        anchor = "start" if at < frame.width * 0.3 else "end" if at > frame.width * 0.7 else "middle"
        parts.append(_label(at, frame.top - 12, f"best: epoch {best:g}", anchor))
    parts += [_curve(frame, one) for one in series]
    parts += _end_labels(frame, series)
    return _svg(frame.width, frame.height, title, description + (" Logarithmic scale." if log else ""), "".join(parts))


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    step = max(1, -(-len(points) // MOST_POINTS))
    return points[::step] + (points[-1:] if (len(points) - 1) % step else [])


def _curve(frame: Frame, one: Series) -> str:
    dashed = " dashed" if one.style == "other" else ""  # told apart without colour too
    path = " ".join(f"{frame.x(x)},{frame.y(y)}" for x, y in one.points)
    dots = one.points if len(one.points) == 1 else []
    return f'<polyline class="curve {one.style}{dashed}" points="{path}"/>' + "".join(
        f'<circle class="dot {one.style}" cx="{frame.x(x)}" cy="{frame.y(y)}" r="4"/>' for x, y in dots
    )


def _end_labels(frame: Frame, series: Sequence[Series]) -> list[str]:
    """Names beside the last points, pushed apart when they would overlap."""
    ends = sorted(series, key=lambda one: frame.y(one.points[-1][1]))
    parts, above = [], -math.inf
    for one in ends:
        above = max(frame.y(one.points[-1][1]) + 4, above + 14)
        parts.append(_label(frame.x(one.points[-1][0]) + 7, above, one.name, style=one.style))
    return parts


@dataclass(frozen=True)
class Estimate:
    """A score with its interval (None without one) and the words shown for it."""

    name: str
    style: str
    value: float
    interval: tuple[float, float] | None
    shown: str


def interval_chart(title: str, description: str, estimates: Sequence[Estimate], value_format: Format) -> Markup:
    """Scores one above the other with their intervals; the first is the network. One far off is an arrow at the edge."""
    width, row = 460, 46
    first = estimates[0]
    # The axis is made for the network and its closest rival: beside a majority class at 11%, 97 and 98 would be one dot.
    near = [first, *sorted(estimates[1:], key=lambda one: abs(one.value - first.value))[:1]]
    ends = [end for one in near for end in (one.interval or (one.value, one.value))]
    pad = (max(ends) - min(ends)) * 0.12 or abs(first.value) * 0.02 or 1.0
    top, floor = 10, 10 + row * len(estimates)
    frame = Frame(min(ends) - pad, max(ends) + pad, 0, 1, width=width, height=floor + 24, left=0, right=0)
    parts = []
    for tick in ticks(frame.x0, frame.x1, 5):
        at = frame.x(tick)
        parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="{top}" y2="{floor}"/>')
        parts.append(_label(at, floor + 16, value_format(tick), anchor="middle"))
    for i, one in enumerate(estimates):
        at = top + row * i + 14
        parts.append(_label(0, at, one.name, style="strong" if i == 0 else ""))
        parts.append(_label(width, at, one.shown, anchor="end", style="strong" if i == 0 else ""))
        parts.append(_estimate(frame, one, at + 14))
    return _svg(width, frame.height, title, description, "".join(parts))


def _estimate(frame: Frame, one: Estimate, y: float) -> str:
    if not frame.x0 <= one.value <= frame.x1:
        edge, way = (frame.left, 1) if one.value < frame.x0 else (frame.width - frame.right, -1)
        return f'<path class="dot {one.style}" d="M{edge} {y}l{9 * way} -5v10z"/>'
    low, high = one.interval or (one.value, one.value)
    x0, x1 = frame.x(max(low, frame.x0)), frame.x(min(high, frame.x1))
    return (
        f'<line class="whisker {one.style}" x1="{x0}" x2="{x1}" y1="{y}" y2="{y}"/>'
        f'<circle class="dot {one.style}" cx="{frame.x(one.value)}" cy="{y}" r="5"/>'
    )


def bar_chart(title: str, description: str, estimates: Sequence[Estimate], value_format: Format) -> Markup:
    """A bar from 0 for each estimate, one above the other, with its interval as a line."""
    width, row, top = 460, 38, 10
    ends = [end for one in estimates for end in (one.value, *(one.interval or ()))]
    low, high = min(0.0, *ends), max(0.0, *ends)
    pad = (high - low) * 0.04 or 1.0
    floor = top + row * len(estimates)
    frame = Frame(low - pad * (low < 0), high + pad, 0, 1, width=width, height=floor + 24, left=0, right=0)
    parts = []
    for tick in ticks(frame.x0, frame.x1, 5):
        at = frame.x(tick)
        parts.append(f'<line class="{"axis" if tick == 0 else "grid"}" x1="{at}" x2="{at}" y1="{top}" y2="{floor}"/>')
        anchor = "start" if at < 12 else "end" if at > width - 12 else "middle"
        parts.append(_label(at, floor + 16, value_format(tick), anchor=anchor))
    for i, one in enumerate(estimates):
        at = top + row * i + 12
        parts.append(_label(0, at, one.name))
        parts.append(_label(width, at, one.shown, anchor="end"))
        x0, x1 = sorted((frame.x(0), frame.x(one.value)))
        parts.append(f'<rect class="bar" x="{x0}" width="{max(0.5, x1 - x0):.1f}" y="{at + 6}" height="10"/>')
        if one.interval is not None:
            start, end = map(frame.x, one.interval)
            parts.append(f'<line class="whisker {one.style}" x1="{start}" x2="{end}" y1="{at + 11}" y2="{at + 11}"/>')
    return _svg(width, frame.height, title, description, "".join(parts))


def scatter(title: str, description: str, x: np.ndarray, y: np.ndarray, x_name: str) -> Markup:
    """Predicted (y) over true (x) on equal axes with the diagonal of perfect answers; at most 1,500 points, evenly taken."""
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    pad = (high - low) * 0.04 or 1.0
    frame = Frame(low - pad, high + pad, low - pad, high + pad, height=400, left=62, top=14)
    step = max(1, -(-len(x) // MOST_POINTS))
    points = "".join(f"M{frame.x(float(a))} {frame.y(float(b))}h0" for a, b in zip(x[::step], y[::step], strict=True))
    marks, depth = ticks(frame.x0, frame.x1), 0.7 if len(x) < 300 else 0.4
    diagonal = f'<line class="mark" x1="{frame.x(frame.x0)}" x2="{frame.x(frame.x1)}" y1="{frame.y(frame.x0)}" y2="{frame.y(frame.x1)}"/>'
    content = (
        frame.axes(x_name, marks, marks, show_short, show_short)
        + diagonal
        + f'<path class="cloud" opacity="{depth}" d="{points}"/>'
    )
    return _svg(frame.width, frame.height, title, description, content)


def histogram(title: str, description: str, values: np.ndarray, x_name: str) -> Markup:
    """How often each size of `values` occurs, with a line at 0; bins by Freedman & Diaconis (1981), 8 to 40 of them."""
    edges = np.histogram_bin_edges(values, bins="fd") if np.ptp(values) > 0 else np.array([0.0, 1.0])
    counts, edges = np.histogram(values, bins=min(40, max(8, len(edges) - 1)))
    frame = Frame(
        min(float(edges[0]), 0), max(float(edges[-1]), 0), 0, float(counts.max()) * 1.05, height=400, left=52, top=14
    )
    floor = frame.y(0)
    bars = "".join(
        f'<rect class="bar" x="{frame.x(a) + 0.5:.1f}" width="{max(0.5, frame.x(b) - frame.x(a) - 1):.1f}" y="{frame.y(c)}" '
        f'height="{floor - frame.y(c):.1f}"/>'
        for a, b, c in zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
        if c
    )
    heights = [tick for tick in ticks(0, frame.y1) if tick == int(tick)]
    zero = f'<line class="mark" x1="{frame.x(0)}" x2="{frame.x(0)}" y1="{frame.top}" y2="{floor}"/>'
    content = frame.axes(x_name, ticks(frame.x0, frame.x1), heights, show_short, lambda v: f"{v:,.0f}") + bars + zero
    return _svg(frame.width, frame.height, title, description, content)


def show_short(value: float) -> str:
    """A tick label: `1,500`, `0.25`, `2.5M`."""
    for size, mark in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if mark == 'k' else size):.4g}{mark}"
    return f"{value:,.4g}" if abs(value) < 1e3 else f"{value:,.0f}"


@dataclass(frozen=True)
class Bin:
    """Answers of like certainty: the mean probability given, the share right with its interval, and how many."""

    sure: float
    right: float
    low: float
    high: float
    count: int


def calibration_chart(title: str, description: str, bins: Sequence[Bin]) -> Markup:
    """Share right over how sure the network was; on the diagonal, 80% sure is right 80% of the time. Bigger dots: more answers."""
    frame = Frame(0, 1, 0, 1, height=400, left=52, top=14)
    marks = [0, 0.2, 0.4, 0.6, 0.8, 1]
    most = max((one.count for one in bins), default=1)
    diagonal = f'<line class="mark" x1="{frame.x(0)}" x2="{frame.x(1)}" y1="{frame.y(0)}" y2="{frame.y(1)}"/>'
    parts = [frame.axes("how sure it was", marks, marks, percent, percent), diagonal]
    for one in bins:
        x = frame.x(one.sure)
        parts.append(
            f'<line class="whisker ours" x1="{x}" x2="{x}" y1="{frame.y(one.low)}" y2="{frame.y(one.high)}" opacity=".45"/>'
        )
        parts.append(
            f'<circle class="dot ours" cx="{x}" cy="{frame.y(one.right)}" r="{3 + 6 * math.sqrt(one.count / most):.1f}"/>'
        )
    return _svg(frame.width, frame.height, title, description, "".join(parts))


def heat_map(title: str, description: str, confusion: np.ndarray, names: Sequence[str]) -> Markup:
    """A confusion matrix too big for numbers: rows true, columns said, darker for a larger share of the row."""
    k = len(names)
    cell = max(9, min(24, 720 // k))
    margin = 8 + min(14, max(len(name) for name in names)) * 7
    shares = np.sqrt(confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1))  # square root: rare mistakes show
    levels = np.ceil(shares * 8).astype(int)
    size = margin + k * cell + 4
    parts = [f'<rect class="axis" fill="none" x="{margin}" y="{margin}" width="{k * cell}" height="{k * cell}"/>']
    for kind, mask in (("good", np.eye(k, dtype=bool)), ("bad", ~np.eye(k, dtype=bool))):
        for level in range(1, 9):  # one path for each depth of colour keeps 10,000 cells small
            where = np.argwhere((levels == level) & mask)
            path = "".join(
                f"M{margin + c * cell} {margin + r * cell}h{cell}v{cell}h-{cell}z" for r, c in where.tolist()
            )
            if path:
                parts.append(f'<path class="{kind}" fill-opacity="{level / 8:.3g}" d="{path}"/>')
    font = f'<g font-size="{min(12, cell)}">'
    for i, name in enumerate(names):
        short, at = name if len(name) <= 14 else name[:13] + "…", margin + (i + 0.5) * cell
        font += _label(margin - 6, at + cell * 0.35, short, anchor="end")
        font += _label(at + cell * 0.35, margin - 6, short, turn=-90)
    return _svg(size, size, title, description, "".join(parts) + font + "</g>")


MOST_CELLS = 48  # of a side of a weight map; more are averaged


def weight_map(title: str, description: str, weights: np.ndarray, names: Sequence[str] = ()) -> Markup:
    """Weights (T, S) from 0 on as squares, darker for larger ones; `names` of both axes, where T and S are the same."""
    shrunk = _averaged(_averaged(weights, 0), 1)
    rows, columns = shrunk.shape
    size = max(4, min(16, 160 // max(rows, columns)))
    names = names if len(names) == rows == columns else ()
    if names:
        size = 16
    margin = (8 + 8 * min(6, max(map(len, names)))) if names else 2
    levels = np.ceil(np.sqrt(shrunk / max(float(shrunk.max()), 1e-12)) * 8).astype(
        int
    )  # the square root shows small ones
    width, height = margin + columns * size + 2, margin + rows * size + 2
    parts = [
        f'<rect class="axis" fill="none" x="{margin}" y="{margin}" width="{columns * size}" height="{rows * size}"/>'
    ]
    for level in range(1, 9):
        cells = np.argwhere(levels == level).tolist()
        path = "".join(f"M{margin + c * size} {margin + r * size}h{size}v{size}h-{size}z" for r, c in cells)
        if path:
            parts.append(f'<path class="good" stroke="none" fill-opacity="{level / 8:.3g}" d="{path}"/>')
    for i, name in enumerate(names):
        short, at = name if len(name) <= 6 else name[:5] + "…", margin + (i + 0.5) * size
        parts.append(_label(margin - 4, at + 4, short, anchor="end"))
        parts.append(_label(at + 4, margin - 4, short, turn=-90))
    return _svg(width, height, title, description, "".join(parts))


def _averaged(weights: np.ndarray, axis: int) -> np.ndarray:
    """`weights` with at most MOST_CELLS along an axis, the mean of neighbours."""
    count = weights.shape[axis]
    if count <= MOST_CELLS:
        return weights
    edges = np.linspace(0, count, MOST_CELLS + 1).round().astype(int)[:-1]
    sums: np.ndarray = np.add.reduceat(weights, edges, axis)
    sizes = np.diff([*edges.tolist(), count])
    return sums / (sizes[:, None] if axis == 0 else sizes[None])


def forecast_chart(one: ForecastFigure) -> Markup:
    """One series: what came, what was predicted, the interval as a band, and where the test part and the future begin."""
    steps = np.arange(len(one.times))
    every = np.concatenate([one.actual, one.predicted, one.low, one.high])
    every = every[np.isfinite(every)]
    pad = 0.06 * float(np.ptp(every)) or 1.0
    low, high = float(every.min()) - pad, float(every.max()) + pad
    frame = Frame(0, float(len(steps) - 1), low, high, width=WIDE, right=86)
    at = np.unique(np.linspace(0, len(steps) - 1, DATES).round().astype(int)).tolist()
    parts = [frame.axes("", at, ticks(low, high), lambda step: one.times[int(step)], show_short)]
    for run in _runs(np.isfinite(one.low)):
        edge = [(frame.x(i), frame.y(one.high[i])) for i in run] + [
            (frame.x(i), frame.y(one.low[i])) for i in run[::-1]
        ]
        parts.append(f'<polygon class="band" points="{" ".join(f"{x},{y}" for x, y in edge)}"/>')
    marks = ([(one.first, "test")] if one.first >= 0 else []) + ([(one.end, "to come")] if one.end < len(steps) else [])
    for step, name in marks:
        x = frame.x(step)
        parts.append(f'<line class="mark" x1="{x}" x2="{x}" y1="{frame.top - 6}" y2="{frame.height - frame.bottom}"/>')
        parts.append(_label(x, frame.top - 12, name, anchor="middle"))
    for values, style in ((one.actual, "other"), (one.predicted, "ours")):
        for run in _runs(np.isfinite(values)):
            parts.append(_curve(frame, Series("", style, [(float(i), float(values[i])) for i in run])))
    title = f"{one.target} over time{f', {one.name}' if one.name else ''}"
    known = one.actual[np.isfinite(one.actual)]
    spoken = f"From {one.times[0]} to {one.times[-1]}; the last known value is {show_short(float(known[-1]))}."
    return _svg(frame.width, frame.height, title, spoken, "".join(parts))


def _runs(present: np.ndarray) -> list[list[int]]:
    """The steps at which `present` (L,) holds, those that follow one another together."""
    return [
        [i for i, _ in group]
        for there, group in groupby(enumerate(present.tolist()), key=lambda pair: pair[1])
        if there
    ]
