"""An attribution: how much each part of an input counts towards one number of the answer (floor 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from ..errors import OptionError
from ..files import Json
from .result import Check, Result, Table, as_json

METHODS = {
    "integrated_gradients": "integrated gradients",
    "saliency": "saliency",
    "input_x_gradient": "input x gradient",
    "occlusion": "occlusion",
    "shapley": "Shapley values",
}
ROWS = 12  # of a table
THIRDS = (("top", "middle", "bottom"), ("left", "centre", "right"))
NOTES = {
    "saliency": "It has no sign and no sum: where a small change moves the score, not what it is made of.",
    "input_x_gradient": "Its parts need not add up to the difference; integrated gradients do.",
    "occlusion": "Each figure is how much the score falls without that part alone; they need not add up.",
}


@dataclass(frozen=True)
class Attribution(Result):
    """How much each part of an example counts towards a number of the answer.

    figures: by the name of an input, in its shape without the batch axis; above 0 speaks for the number.
    columns: of a table, all of a column added up; {} without columns.      pictures: names of the inputs that are pictures.
    target: index of the number.      answer, base: it for the example, and for the baseline.      baseline: in words.
    n_steps: points on the line, 0 for methods without one.      error: |sum - (answer - base)|, None where no sum is meant.
    target_name, labels, cells: for people: what the number stands for, the tokens as they are spelled, the cells of columns.
    shows_example: whether `to_dict` holds what shows the example: figures of a picture or a series, labels and cells.
    """

    method: str
    figures: dict[str, np.ndarray]
    columns: dict[str, float]
    pictures: tuple[str, ...]
    target: int
    answer: float
    base: float
    baseline: str
    n_steps: int = 0
    error: float | None = None
    checks: tuple[Check, ...] = ()
    target_name: str = ""
    labels: tuple[str, ...] = ()
    cells: Mapping[str, str] = field(default_factory=dict)
    shows_example: bool = True

    def maps(self) -> dict[str, np.ndarray]:
        """A figure for each place of an input: a pixel (H, W), a step, a token, a number, with all channels of it together."""
        return {name: self.map(name) for name in self.figures}

    def map(self, name: str) -> np.ndarray:
        """The figure of each place of one input. Channels add up; occlusion takes them away at once and has one figure."""
        array = self.figures[name]
        over = channel_axes(array.ndim, name in self.pictures)
        places: np.ndarray = array.mean(over) if self.method == "occlusion" else array.sum(over)
        return places

    def named_parts(self) -> list[tuple[str, float]]:
        """(name, figure) of each part that people name: columns, tokens, steps; none for pictures."""
        if self.columns:
            return list(self.columns.items())
        parts = []
        for name, places in self.maps().items():
            if name not in self.pictures:
                flat = np.atleast_1d(places)
                parts += [(self._place(name, i, len(flat)), float(value)) for i, value in enumerate(flat)]
        return parts

    def _place(self, name: str, i: int, count: int) -> str:
        if self.figures[name].ndim == 2:
            return f"step {i - count}" if i < count - 1 else "last step"
        if len(self.labels) == count:
            return f"{i + 1} {self.labels[i]!r}"
        return f"{name}[{i}]" if count > 1 else name

    def headline(self) -> str:
        title = METHODS[self.method]
        what = self.target_name or f"output {self.target}"
        return (
            f"{title[0].upper()}{title[1:]}: the score of {what} is {self.answer:.4g}, and {self.base:.4g} for the baseline: "
            f"{self.answer - self.base:+.4g} to explain."
        )

    def tables(self) -> Sequence[Table]:
        found = [self._thirds(name) for name in self.pictures if name in self.figures]
        named = sorted(self.named_parts(), key=lambda part: -abs(part[1]))
        if named:
            found.append(self._parts(named))
        return found

    def _parts(self, named: list[tuple[str, float]]) -> Table:
        """The strongest parts; the others as one row, so that the column adds up."""
        shown, others = named[:ROWS], named[ROWS:]
        with_cells = any(name in self.cells for name, _ in shown)
        row = lambda name, value: (name, self.cells.get(name, ""), value) if with_cells else (name, value)
        rows = [row(name, value) for name, value in shown]
        if others:
            rows.append(row(f"{len(others)} others", sum(value for _, value in others)))
        title = "What counted" if self.method == "saliency" else "What counted for it (+) and against it (-)"
        return Table(title, ("part", "value", "counts") if with_cells else ("part", "counts"), rows)

    def _thirds(self, name: str) -> Table:
        """Where in a picture: the sums over its thirds; for occlusion their means."""
        places = self.map(name)
        edges = [np.linspace(0, side, 4).round().astype(int) for side in places.shape]
        mean = self.method == "occlusion"
        rows: list[tuple[str | float, ...]] = []
        for i, label in enumerate(THIRDS[0]):
            cells = [places[edges[0][i] : edges[0][i + 1], edges[1][j] : edges[1][j + 1]] for j in range(3)]
            rows.append((label, *(float(one.mean() if mean else one.sum()) if one.size else 0.0 for one in cells)))
        return Table(
            f"Where it counted in the {name}, {'means' if mean else 'sums'} of its thirds", ("", *THIRDS[1]), rows
        )

    def remarks(self) -> Sequence[str]:
        return [f"baseline: {self.baseline}", *([NOTES[self.method]] if self.method in NOTES else [])]

    def to_dict(self) -> dict[str, Json]:
        hidden = set() if self.shows_example else {"labels", "cells"}
        found = {f.name: as_json(getattr(self, f.name)) for f in fields(self) if f.name not in hidden}
        if not self.shows_example:
            drawn = [name for name, array in self.figures.items() if name in self.pictures or array.ndim > 1]
            found["figures"] = {name: as_json(array) for name, array in self.figures.items() if name not in drawn}
        return {**found, "tables": as_json(self.tables() if self.shows_example else ())}


def channel_axes(ndim: int, picture: bool) -> tuple[int, ...]:
    """The axes of an input, without the batch axis, that lie within one place: channels of a pixel, features of a step."""
    return tuple(range(ndim - 2)) if picture else tuple(range(1, ndim))


def check_method(method: str) -> None:
    """Raise OptionError for a method that does not exist."""
    if method not in METHODS:
        raise OptionError(
            f"method: {method!r}; expected one of {', '.join(METHODS)}; write method='integrated_gradients'"
        )
