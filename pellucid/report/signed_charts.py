"""Charts of figures with a sign: what counts for a number and what against it (floor 9).

Red counts for it, blue against it, zero is white or no bar, and a scale is the same on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from .charts import Frame, _label, _svg, show_short, ticks
from .html import shortened

RED, BLUE = np.array([178.0, 24, 43]), np.array([33.0, 102, 172])  # at full strength
INK = 0.25  # how dark the picture itself is drawn beneath
NAMED = 44  # letters of the name of a bar
FIGURES = 76  # what the figures beside bars take


def diverging(figures: np.ndarray, largest: float) -> np.ndarray:
    """Colours (..., 3), 0 to 255: white at 0, red at `largest`, blue at its negative."""
    share = np.clip(figures / largest if largest else np.zeros_like(figures), -1, 1)[..., None]
    colours: np.ndarray = 255 + np.abs(share) * (np.where(share > 0, RED, BLUE) - 255)
    return colours


def signed_picture(figures: np.ndarray, ink: np.ndarray, side: int = 280) -> np.ndarray:
    """uint8 (h, w, 3): the figures (H, W) as colours over the picture in grey; `ink` (H, W) is 0 at its baseline, 1 at most."""
    colours = diverging(figures, float(np.abs(figures).max())) * (1 - INK * ink[..., None])
    times = max(1, side // max(figures.shape))
    return np.rint(colours).astype(np.uint8).repeat(times, 0).repeat(times, 1)


def waterfall(
    title: str, description: str, parts: Sequence[tuple[str, float]], base: float, answer: float, ends: tuple[str, str]
) -> Markup:
    """Bars from `base` to `answer`, each beginning where the one above ends. parts: (name, figure). ends: what these two are called."""
    levels = base + np.concatenate([[0.0], np.cumsum([value for _, value in parts])])
    low, high = float(min(levels.min(), answer)), float(max(levels.max(), answer))
    pad = 0.03 * (high - low) or 1.0
    row, top, width = 40, 6, 460
    floor = top + row * (len(parts) + 2)
    frame = Frame(low - pad, high + pad, 0, 1, width=width, height=floor + 22, left=0, right=FIGURES)
    drawn = [
        f'<line class="grid" x1="{frame.x(tick)}" x2="{frame.x(tick)}" y1="{top}" y2="{floor}"/>'
        + _label(frame.x(tick), floor + 16, show_short(tick), "start" if frame.x(tick) < 14 else "middle")
        for tick in ticks(low, high)
    ]  # fmt: skip
    drawn += _end(frame, top, ends[0], base)
    for i, (name, value) in enumerate(parts):
        at = top + row * (i + 1) + 12
        x0, x1 = sorted((frame.x(levels[i]), frame.x(levels[i + 1])))
        drawn.append(_label(0, at, shortened(name, NAMED)))
        drawn.append(_label(width, at, f"{value:+.3g}", anchor="end", style="strong"))
        drawn.append(
            f'<rect class="{"for" if value > 0 else "against"}" x="{x0}" width="{max(0.8, x1 - x0):.1f}" y="{at + 6}" height="11"/>'
        )
        link = frame.x(levels[i + 1])
        drawn.append(f'<line class="mark" x1="{link}" x2="{link}" y1="{at + 17}" y2="{at + row + 6}"/>')
    drawn += _end(frame, top + row * (len(parts) + 1), ends[1], answer)
    return _svg(width, frame.height, title, description, "".join(drawn))


def _end(frame: Frame, top: float, name: str, value: float) -> list[str]:
    """A row of one mark: where the bars begin or end."""
    x = frame.x(value)
    return [
        _label(0, top + 12, name, style="strong"),
        _label(frame.width, top + 12, show_short(value), anchor="end", style="strong"),
        f'<line class="whisker plain" x1="{x}" x2="{x}" y1="{top + 16}" y2="{top + 31}"/>',
    ]


def steps_chart(title: str, description: str, figures: np.ndarray, x_name: str) -> Markup:
    """A line over steps (T,), with what lies above and below zero filled."""
    low, high = min(0.0, float(figures.min())), max(0.0, float(figures.max()))
    pad = 0.06 * (high - low) or 1.0
    last = len(figures) - 1
    frame = Frame(0, float(max(1, last)), low - pad, high + pad, width=720, left=58)
    marks = [tick for tick in ticks(0, last, 8) if tick == int(tick)]
    parts = [frame.axes(x_name, marks, ticks(low, high), lambda step: f"{int(step) - last - 1:d}", show_short)]
    zero, points = frame.y(0), _with_crossings(figures.tolist())
    for kind, clip in (("for", max), ("against", min)):
        path = " ".join(f"{frame.x(at)},{frame.y(clip(value, 0.0))}" for at, value in points)
        parts.append(f'<polygon class="{kind} faint" points="{frame.x(0)},{zero} {path} {frame.x(last)},{zero}"/>')
    line = " ".join(f"{frame.x(i)},{frame.y(float(value))}" for i, value in enumerate(figures))
    parts.append(f'<polyline class="curve plain" points="{line}"/>')
    parts.append(f'<line class="mark" x1="{frame.x(0)}" x2="{frame.x(last)}" y1="{zero}" y2="{zero}"/>')
    return _svg(frame.width, frame.height, title, description, "".join(parts))


def _with_crossings(values: list[float]) -> list[tuple[float, float]]:
    """Points (step, value) of a line, and those where it crosses zero."""
    points: list[tuple[float, float]] = []
    for i, value in enumerate(values):
        before = values[i - 1] if i else value
        if before * value < 0:
            points.append((i - 1 + before / (before - value), 0.0))
        points.append((float(i), value))
    return points
