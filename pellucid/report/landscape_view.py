"""The page of `pellucid landscape`: contours of the loss, the line to another network, the spectrum of the Hessian (floor 9)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from ..inspect.curvature import Curvature
from ..inspect.landscape import Landscape, Line, Slice
from ..inspect.result import Result
from .charts import Frame, Series, _curve, _end_labels, _label, _svg, log_ticks, show_short, ticks
from .html import figure, section
from .inspection import result_sections

LEVELS = 10  # of a contour
LEAST_SHARE = 1e-9  # of the spectrum
Segment = tuple[float, float, float, float]


def landscape_sections(result: Landscape) -> list[Markup]:
    """The pictures, each with what it cannot show below it, then the numbers."""
    sections = [
        _part("Around the weights", contour_chart(result.slice), result.slice, "Loss along two random directions")
    ]
    if result.path is not None:
        sections.append(
            _part("The way of training", contour_chart(result.path), result.path, "Loss along the path's main axes")
        )
    if result.line is not None:
        sections.append(_part("Towards the other network", line_chart(result.line), result.line, "Loss on the line"))
    sections.append(
        _part("How it bends", spectrum_chart(result.curvature), result.curvature, "Eigenvalues of the Hessian")
    )
    return [*sections, *result_sections(result)]


def _part(title: str, chart: Markup, view: Result, caption: str) -> Markup:
    below = Markup("").join(Markup('<p class="hint">{}</p>').format(line) for line in view.remarks())
    return section(title, figure(caption, chart), below, lead=view.headline())


def contour_chart(one: Slice) -> Markup:
    """Lines of equal loss, darker where it is higher, the weights as a dot; the way of training, where it is known."""
    losses = np.where(np.isfinite(one.losses), one.losses, np.nanmax(one.losses[np.isfinite(one.losses)], initial=0.0))
    levels = contour_levels(losses)
    half = [(axis[1] - axis[0]) / 2 for axis in (one.xs, one.ys)]
    frame = Frame(
        one.xs[0] - half[0], one.xs[-1] + half[0], one.ys[0] - half[1], one.ys[-1] + half[1],
        height=430, left=44, right=14, top=22,
    )  # fmt: skip
    parts = _cells(frame, one, losses, levels)
    names = (
        ("along the first direction", "along the second")
        if one.path is None
        else ("along the first main axis", "along the second")
    )
    parts.append(frame.axes(names[0], ticks(frame.x0, frame.x1), ticks(frame.y0, frame.y1), show_short, show_short))
    parts.append(_label(0, 12, names[1]))
    for i, level in enumerate(levels):
        lines = [
            (frame.x(a), frame.y(b), frame.x(c), frame.y(d)) for a, b, c, d in segments(one.xs, one.ys, losses, level)
        ]
        if lines:
            path = "".join(f"M{a} {b}L{c} {d}" for a, b, c, d in lines)
            parts.append(f'<path class="plain" fill="none" stroke-opacity=".55" d="{path}"/>')
            if i % 2:
                x, y = _place(lines, frame, i)
                parts.append(_label(x, y + 4, f"{level:.2g}", anchor="middle", style="strong"))
    if one.path is not None:
        way = [*((float(x), float(y)) for x, y in one.path), (0.0, 0.0)]
        parts.append(_curve(frame, Series("", "other", way)))
        parts += [f'<circle class="dot other" cx="{frame.x(x)}" cy="{frame.y(y)}" r="3"/>' for x, y in way[:-1]]
    parts.append(f'<circle class="dot ours" cx="{frame.x(0)}" cy="{frame.y(0)}" r="5"/>')
    spoken = f"{one.headline()} The weights are the dot." + (
        " The line is the way of training." if one.path is not None else ""
    )
    return _svg(frame.width, frame.height, "Contours of the loss", spoken, "".join(parts))


def contour_levels(losses: np.ndarray) -> list[float]:
    """LEVELS losses between the lowest and the highest, spread by logarithm where they span more than tenfold."""
    low, high = float(losses.min()), float(losses.max())
    if not high > low:
        return []
    log = low > 0 and high > 10 * low
    spread = np.geomspace if log else np.linspace
    return [float(level) for level in spread(low, high, LEVELS + 2)[1:-1]]


def segments(xs: np.ndarray, ys: np.ndarray, z: np.ndarray, level: float) -> list[Segment]:
    """The line z = level through the cells of a grid, by marching squares; z (Y, X)."""
    found: list[Segment] = []
    above = z > level
    sums = above[:-1, :-1].astype(int) + above[:-1, 1:] + above[1:, :-1] + above[1:, 1:]
    for j, i in np.argwhere((sums > 0) & (sums < 4)).tolist():
        corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
        cuts = []
        for (i0, j0), (i1, j1) in zip(corners, corners[1:] + corners[:1], strict=True):
            a, b = float(z[j0, i0]), float(z[j1, i1])
            if (a > level) != (b > level):
                t = (level - a) / (b - a)
                cuts.append((float(xs[i0] + t * (xs[i1] - xs[i0])), float(ys[j0] + t * (ys[j1] - ys[j0]))))
        found += [(*cuts[n], *cuts[n + 1]) for n in range(0, len(cuts), 2)]
    return found


def _cells(frame: Frame, one: Slice, losses: np.ndarray, levels: Sequence[float]) -> list[str]:
    """A square for each place, one path for each depth of colour."""
    depth = np.searchsorted(levels, losses)
    wide = frame.x(one.xs[1]) - frame.x(one.xs[0])
    tall = frame.y(one.ys[0]) - frame.y(one.ys[1])
    parts = []
    for level in range(1, len(levels) + 1):
        path = "".join(
            f"M{frame.x(one.xs[i]) - wide / 2:.1f} {frame.y(one.ys[j]) - tall / 2:.1f}h{wide:.1f}v{tall:.1f}h-{wide:.1f}z"
            for j, i in np.argwhere(depth == level).tolist()
        )
        if path:
            parts.append(f'<path class="good" fill-opacity="{0.55 * level / len(levels):.3g}" d="{path}"/>')
    return parts


def _place(lines: Sequence[Segment], frame: Frame, turn: int) -> tuple[float, float]:
    """Where a line is labelled: away from the weights by an angle that turns from line to line, so that labels do not meet."""
    x, y, angle = frame.x(0), frame.y(0), 0.9 + 0.35 * turn
    middle = [((a + c) / 2, (b + d) / 2) for a, b, c, d in lines]
    inside = [
        at
        for at in middle
        if frame.left + 20 < at[0] < frame.width - frame.right - 20
        and frame.top + 10 < at[1] < frame.height - frame.bottom - 10
    ]
    return max(inside or middle, key=lambda at: math.cos(math.atan2(y - at[1], at[0] - x) - angle))


def line_chart(one: Line) -> Markup:
    """The loss over the share of the way from the first network to the second."""
    named = [("as they are", "other", one.losses), ("matched", "ours", one.aligned), ("random", "plain", one.shuffled)]
    series = [
        Series(name, style, list(zip(one.shares.tolist(), values.tolist(), strict=True)))
        for name, style, values in named
        if values is not None
    ]
    highest = max(y for each in series for _, y in each.points)
    frame = Frame(0, 1, min(0.0, *(y for each in series for _, y in each.points)), highest * 1.06 or 1.0, right=86)
    parts = [
        frame.axes(
            "share of the way to the second network", ticks(0, 1), ticks(frame.y0, frame.y1), show_short, show_short
        )
    ]
    parts += [_curve(frame, each) for each in series]
    parts += _end_labels(frame, series)
    return _svg(frame.width, frame.height, "Loss between two networks", one.headline(), "".join(parts))


def spectrum_chart(one: Curvature) -> Markup:
    """A line for each eigenvalue that was found, as high as the share of directions at it, on a logarithmic scale."""
    values, shares = one.spectrum[:, 0], np.maximum(one.spectrum[:, 1], LEAST_SHARE)
    pad = 0.05 * float(np.ptp(values)) or 1.0
    frame = Frame(
        min(float(values.min()), 0.0) - pad,
        max(float(values.max()), 0.0) + pad,
        float(shares.min()) / 2,
        1.0,
        left=58,
        log=True,
    )
    floor = frame.height - frame.bottom
    parts = [
        frame.axes("eigenvalue", ticks(frame.x0, frame.x1), log_ticks(frame.y0, 1.0), show_short, lambda v: f"{v:.0e}")
    ]
    parts.append(f'<line class="mark" x1="{frame.x(0)}" x2="{frame.x(0)}" y1="{frame.top}" y2="{floor}"/>')
    parts.append(_label(0, 12, "share of directions, log scale"))
    for value, share in zip(values.tolist(), shares.tolist(), strict=True):
        style, x = "ours" if value >= 0 else "other", frame.x(value)
        parts.append(f'<line class="whisker {style}" x1="{x}" x2="{x}" y1="{floor}" y2="{frame.y(share)}"/>')
        parts.append(f'<circle class="dot {style}" cx="{x}" cy="{frame.y(share)}" r="3"/>')
    return _svg(frame.width, frame.height, "Spectrum of the Hessian", one.headline(), "".join(parts))
