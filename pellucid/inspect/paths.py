"""The ways from a unit to the loss: through one unit of each linear layer after it, each a product of numbers (floor 6).

dL/dy = sum over paths of  w * f'(z) * w * f'(z) * ... * dL/dy of the path's last unit
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .chain_rule import MOST_PATHS, Index, Link, Tape, UnitAt, layer_name
from .chain_rule import links as links_after
from .result import Table, shown

KEPT = 10


@dataclass(frozen=True)
class Path:
    """units: one of each layer.      weights, slopes: of each edge, and of each unit's activation.      last: dL/dy of the last unit."""

    units: Index
    weights: tuple[float, ...]
    slopes: tuple[float, ...]
    last: float
    product: float


@dataclass(frozen=True)
class Paths:
    """layers: that the paths go through.      top: the largest.      rest: the sum of the others.      count: all.      total: their sum.

    whole: how many there are through all linear layers; where it is more than `count`, the paths end earlier, at units whose
    gradient is taken as it arrives there.
    """

    layers: tuple[str, ...]
    top: tuple[Path, ...]
    rest: float
    count: int
    whole: int
    total: float

    def table(self, most: int = KEPT) -> Table:
        """The largest paths, the rest as one number."""
        shown_ones = self.top[:most]
        rows: list[tuple[str, str, float]] = [(_units(p.units), _product(p), p.product) for p in shown_ones]
        others = self.count - len(shown_ones)
        if others:
            rows.append((f"{others:,} others", "", self.rest + sum(p.product for p in self.top[most:])))
        end = (
            ""
            if self.whole == self.count
            else f"; all {self.whole:,} ways are too many, so these end at {self.layers[-1]}"
        )
        title = f"dL/dy = the sum over {self.count:,} paths through units of {', '.join(self.layers)}{end}"
        return Table(title, ("path", "weight * slope, each layer; then dL/dy of the last", "product"), rows)


def paths_from(tape: Tape, unit: UnitAt) -> Paths | None:
    """The paths of a unit's activation; None where what comes after it is no stack of linear layers."""
    links = links_after(tape, unit.exit, unit.index)
    if not links:
        return None
    sizes = [link.weights.shape[1] for link in links]
    whole = int(np.prod([float(size) for size in sizes]))
    kept = [k for k in range(1, len(links) + 1) if np.prod([float(size) for size in sizes[:k]]) <= MOST_PATHS]
    if not kept:
        return None
    links = links[: kept[-1]]
    products = _products(links, unit.index[-1])
    last = tape.arriving[links[-1].exit.sequence][links[-1].lead]
    products = products * last
    flat = products.reshape(-1)
    order = np.argsort(-np.abs(flat), kind="stable")[:KEPT]
    top = tuple(
        _path(links, unit.index[-1], tuple(int(u) for u in np.unravel_index(i, products.shape)), last) for i in order
    )
    total = float(flat.sum())
    rest = float(np.delete(flat, order).sum())
    return Paths(tuple(layer_name(tape, link.total) for link in links), top, rest, flat.size, whole, total)


def _products(links: list[Link], start: int) -> np.ndarray:
    """The product along each path from unit `start`, an axis for each layer, without the gradient at its end."""
    products: np.ndarray = links[0].weights[start] * links[0].slopes
    for link in links[1:]:
        products = products[..., None] * (link.weights * link.slopes)
    return products


def _path(links: list[Link], start: int, units: Index, last: np.ndarray) -> Path:
    before = (start, *units[:-1])
    weights = tuple(float(link.weights[a, b]) for link, a, b in zip(links, before, units, strict=True))
    slopes = tuple(float(link.slopes[b]) for link, b in zip(links, units, strict=True))
    end = float(last[units[-1]])
    return Path(units, weights, slopes, end, float(np.prod(weights) * np.prod(slopes) * end))


def _units(units: Index) -> str:
    return " > ".join(map(str, units))


def _product(path: Path) -> str:
    edges = [f"{shown(w)} * {shown(s)}" for w, s in zip(path.weights, path.slopes, strict=True)]
    return "  ".join([*edges, f"* {shown(path.last)}"])
