"""The loss around a network's weights, in a plane and on a line to another network (floor 6).

A plane shows two of N directions, and its picture depends on the scale of both. Each direction is therefore scaled filter by filter
to the length of the weights (Li et al. 2018), so that networks that compute the same have the same picture; biases and norms
stay. Shapes: P points of an axis, S sets of weights, N weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import OptionError, format_shape
from ..models.blocks.stacked import StackedLinear
from ..nn import Module
from .curvature import Curvature
from .matching import check_same, links_of, matched, reordered, shuffled
from .objective import Data, Numbers, Objective, Plane, flattened, numbers_of, shaped
from .question import Losses
from .result import Check, Result, Table
from .undisturbed import restored

COARSE = 7  # points of an axis, for the control
BENDS = 1e-5  # of the range of losses: less is rounding
FLAT = 1e-3  # of the loss: a picture without relief
LEFT = 0.25  # of a barrier after matching, at most
LEAST = 0.01  # a barrier worth the name


@dataclass(frozen=True)
class Slice(Result):
    """losses: (P, P) at `centre + x a + y b`, row by y.      xs, ys: (P,).      lowest: of them.

    centre: the loss at the weights themselves.      bends_down: share of places along rows and columns where the loss bends down.
    path: (S, 2) the sets of weights projected into the plane, where some were given; then a and b are the main axes of the path,
    and `held` is the share of its variance that they hold; of a random walk of as many steps, `walk`.
    """

    xs: np.ndarray
    ys: np.ndarray
    losses: np.ndarray
    centre: float
    bends_down: float
    parameters: int
    examples: int
    path: np.ndarray | None = None
    held: float | None = None
    walk: float | None = None
    checks: Sequence[Check] = ()

    @property
    def lowest(self) -> float:
        return float(self.losses.min())

    def headline(self) -> str:
        highest = float(np.nanmax(self.losses))
        if np.ptp(self.losses) <= FLAT * abs(self.centre):
            return f"Around the weights the loss hardly changes: it is {self.centre:.4g} in the whole picture."
        if self.lowest < self.centre - FLAT * abs(self.centre):
            return (
                f"Around the weights the loss lies between {self.lowest:.4g} and {highest:.4g}; at them it is {self.centre:.4g}, "
                "and not the lowest."
            )
        return f"Around the weights the loss rises from {self.centre:.4g} to {highest:.4g} at the edges of the picture."

    def tables(self) -> Sequence[Table]:
        rows = [("at the weights", self.centre), ("lowest in the picture", self.lowest), ("highest in the picture", float(np.nanmax(self.losses))),
                ("share of places where it bends down", self.bends_down)]  # fmt: skip
        if self.held is not None:
            rows.append(("share of the path's variance in this plane", self.held))
        where = "the two main axes of the path of training" if self.path is not None else "two random directions"
        return [Table(f"Loss along {where}, {self.examples:,} examples", ("slice", "value"), rows)]

    def remarks(self) -> Sequence[str]:
        seen = "It looks convex" if not self.bends_down else f"It bends down in {self.bends_down:.1%} of its places"
        lines = [
            f"{seen}; but a slice shows 2 of {self.parameters:,} directions, and says nothing of the others (see the curvature for those)."
        ]
        if self.held is not None:
            lines.append(
                f"The plane holds {self.held:.0%} of the path's variance; of a random walk of as many steps two axes would hold {self.walk:.0%}."
            )
        return lines


@dataclass(frozen=True)
class Line(Result):
    """Losses (P,) between two networks: `shares` of the way from the first (0) to the second (1).

    aligned: with the units of the second matched to those of the first; shuffled: with its units in a random order.
    """

    shares: np.ndarray
    losses: np.ndarray
    examples: int
    aligned: np.ndarray | None = None
    shuffled: np.ndarray | None = None
    checks: Sequence[Check] = ()

    @property
    def barrier(self) -> float:
        """How far the loss rises above the higher of both ends."""
        return barrier(self.losses)

    def headline(self) -> str:
        if self.aligned is None:
            return f"On the way from one network to the other the loss rises {self.barrier:.4g} above the higher end."
        return f"Between the two networks stands a barrier of {self.barrier:.4g}; with their units matched, of {barrier(self.aligned):.4g}."

    def tables(self) -> Sequence[Table]:
        named = [
            ("as they are", self.losses),
            ("units matched", self.aligned),
            ("units in a random order", self.shuffled),
        ]
        rows = [
            (name, float(one[0]), float(one.max()), float(one[-1]), barrier(one))
            for name, one in named
            if one is not None
        ]
        return [
            Table(
                f"Loss on the line, {self.examples:,} examples",
                ("second network", "first", "highest", "second", "barrier"),
                rows,
            )
        ]

    def remarks(self) -> Sequence[str]:
        return [
            "A line is one way of many: two networks with a barrier here may still be joined by a curve of low loss."
        ]


def barrier(losses: np.ndarray) -> float:
    """The highest of `losses` above the higher of both ends."""
    return float(losses.max() - max(losses[0], losses[-1]))


@dataclass(frozen=True)
class Landscape(Result):
    """The views of one network: a slice, one along the path of training where it was kept, a line, and the curvature."""

    slice: Slice
    curvature: Curvature
    path: Slice | None = None
    line: Line | None = None
    note: str = ""  # on what the loss is of

    @property
    def views(self) -> list[Result]:
        return [view for view in (self.slice, self.path, self.line, self.curvature) if view is not None]

    @property
    def checks(self) -> Sequence[Check]:  # type: ignore[override]
        return [check for view in self.views for check in view.checks]

    def headline(self) -> str:
        return " ".join(view.headline() for view in (self.slice, self.line, self.curvature) if view is not None)

    def tables(self) -> Sequence[Table]:
        rows = [row for view in (self.slice, self.curvature) for row in view.tables()[0].rows]
        if self.path is not None:
            rows.append(self.path.tables()[0].rows[-1])
        found = [
            Table(f"{self.slice.examples:,} training examples, {self.slice.parameters:,} weights", ("", "value"), rows)
        ]
        return found if self.line is None else [*found, *self.line.tables()]

    def remarks(self) -> Sequence[str]:
        down = ""
        if not self.slice.bends_down and self.curvature.bottom < 0:
            down = f"The slice looks convex although the Hessian has eigenvalues below 0, down to {self.curvature.bottom:.4g}."
        lines = [line for view in self.views for line in view.remarks()]
        return [*(line for line in (self.note, down) if line), *dict.fromkeys(lines)]


def loss_slice(
    network: Module, data: Data, extent: float = 1.0, points: int = 21, seed: int = 0, *,
    losses: Losses | None = None, path: Sequence[Mapping[str, np.ndarray]] | None = None,
) -> Slice:  # fmt: skip
    """The mean loss over `data`, (inputs, target), in a plane through the weights, `points` a side, in eval mode.

    The plane is spanned by two random directions, each filter as long as the weights' own, and goes `extent` of that each way.
    path: sets of weights by name, as training had them; then it is spanned by the two main axes of their way to the weights.
    losses: as in `curvature`. The network stays as it was. Raises OptionError for fewer than 2 points or 3 sets of weights.
    """
    if points < 2 or not extent > 0:
        raise OptionError(
            f"points, extent: {points}, {extent}; expected at least 2 points and an extent above 0; write 21 and 1.0"
        )
    objective = Objective(network, data, losses)
    here = numbers_of(network)
    held = walk = places = None
    if path is None:
        directions = [filter_direction(network, here, np.random.default_rng([seed, i])) for i in range(2)]
        xs = ys = np.linspace(-extent, extent, points)
    else:
        directions, places, held = path_axes(here, path)
        walk = _random_walk(len(path))
        xs, ys = (_covering(places[:, i], points) for i in range(2))
    with restored(network):
        plane = Plane(objective, here, directions)
        found = _grid(plane, xs, ys)
        centre = plane(0.0, 0.0)
        if not np.isfinite(centre):
            raise OptionError(
                f"slice: the loss at the weights is {centre}; expected a finite number; look for NaN or infinity in the data and in the weights"
            )
        checks = _slice_checks(network, plane, here, found, centre, extent, seed) if path is None else []
    size = sum(array.size for array in here.values())
    return Slice(xs, ys, found, centre, _bends_down(found), size, objective.examples, places, held, walk, checks)


def filter_direction(network: Module, here: Numbers, random: np.random.Generator) -> Numbers:
    """A random direction, each filter of it as long as that of the weights; nothing for biases and norms."""
    found = {}
    for path, module in network.named_modules():
        for own, value in module.named_parameters(recurse=False):
            name = f"{path}.{own}" if path else own
            if name not in here or value.ndim < 2 or own in module.undecayed:
                continue
            axes = tuple(range(2 if isinstance(module, StackedLinear) else 1, value.ndim))
            drawn = random.standard_normal(value.shape)
            length = np.sqrt((here[name].astype(np.float64) ** 2).sum(axes, keepdims=True))
            found[name] = (drawn * length / np.sqrt((drawn**2).sum(axes, keepdims=True))).astype(here[name].dtype)
    if not found:
        raise OptionError(
            f"slice: {type(network).__name__} has biases and norms alone; expected weights of two axes or more; leave it out"
        )
    return found


def path_axes(here: Numbers, path: Sequence[Mapping[str, np.ndarray]]) -> tuple[list[Numbers], np.ndarray, float]:
    """Two directions of length 1, the places (S, 2) of the sets of weights along them, and the share of variance they hold."""
    if len(path) < 3:
        raise OptionError(
            f"path: {len(path)} sets of weights; expected at least 3, to lay a plane through; leave it out"
        )
    end = flattened(here)
    away = np.stack([flattened({name: np.asarray(one[name]) for name in here}) for one in path]) - end
    values, vectors = np.linalg.eigh(away @ away.T)
    lengths = np.sqrt(np.maximum(values[::-1], 1e-30))[:2]
    axes = (vectors[:, ::-1][:, :2] / lengths).T @ away  # (2, N)
    return [shaped(axis, here) for axis in axes], away @ axes.T, float(lengths @ lengths / max(values.sum(), 1e-30))


def _random_walk(steps: int) -> float:
    """The share of variance, seen from its end, that two main axes hold of a random walk in very many dimensions."""
    left = np.minimum.outer(np.arange(steps), np.arange(steps))[::-1, ::-1] + 1.0
    values = np.linalg.eigvalsh(left)
    return float(values[-2:].sum() / values.sum())


def _covering(places: np.ndarray, points: int) -> np.ndarray:
    low, high = min(0.0, float(places.min())), max(0.0, float(places.max()))
    pad = 0.25 * (high - low) or 1.0
    return np.linspace(low - pad, high + pad, points)


def _grid(plane: Plane, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    return np.array([[plane(float(x), float(y)) for x in xs] for y in ys])


def _bends_down(losses: np.ndarray) -> float:
    """The share of second differences along rows and columns that are below 0."""
    seconds = [np.diff(losses, 2, axis).reshape(-1) for axis in (0, 1)]
    least = BENDS * float(np.ptp(losses[np.isfinite(losses)])) if np.isfinite(losses).any() else 0.0
    every = np.concatenate(seconds)
    return float((every < -least).mean()) if every.size else 0.0


def _slice_checks(
    network: Module, plane: Plane, here: Numbers, found: np.ndarray, centre: float, extent: float, seed: int
) -> list[Check]:
    """Whether the weights are the lowest place; the control has the same numbers in a random order."""
    random = np.random.default_rng([seed, 2])
    mixed = {name: random.permuted(array.reshape(-1)).reshape(array.shape) for name, array in here.items()}
    plane.move(mixed, [filter_direction(network, mixed, random) for _ in range(2)])
    coarse = np.linspace(-extent, extent, COARSE)
    other, least = plane(0.0, 0.0), float(_grid(plane, coarse, coarse).min())
    lowest = bool(centre <= found.min() + 1e-6 * abs(centre))
    said = (
        "no place in the picture is lower" if lowest else f"the lowest place is {centre - float(found.min()):.3g} below"
    )
    lower = (other - least) / max(abs(other), 1e-30)
    beside = f"around the same numbers in a random order one is {lower:.1%} lower"
    return [Check("the weights are the lowest place", "measured", said, lowest, beside)]


def loss_line(
    a: Module, b: Module, data: Data, align: bool = False, points: int = 21, *, losses: Losses | None = None
) -> Line:
    """The mean loss over `data`, (inputs, target), on the line from the weights of `a` to those of `b`, in eval mode.

    Statistics of batch norms move along. align: match the units of `b` to those of `a` first, for stacks of Linear or Conv2d
    layers. Both networks stay as they were. Raises OptionError for networks of other shapes, and for others with `align`.
    """
    if points < 2:
        raise OptionError(f"points: {points}; expected at least 2, both ends of the line; write points=21")
    objective = Objective(a, data, losses)
    ours, theirs = (numbers_of(network, buffers=True) for network in (a, b))
    _check_shapes(ours, theirs)
    ends, checks = [theirs], list[Check]()
    if align:
        links = links_of(objective)
        aligned = reordered(theirs, links, matched(ours, theirs, links))
        missed = check_same(objective, b, aligned)
        ends += [aligned, reordered(theirs, links, shuffled(links))]
        checks.append(
            Check(
                "the matched network answers as before",
                "measured",
                f"within {missed:.1e} of the largest answer, at most 1e-3",
            )
        )
    differences = [{name: end[name] - ours[name] for name in ours} for end in ends]
    shares = np.linspace(0, 1, points)
    with restored(a):
        plane = Plane(objective, ours, differences)
        rows = [
            np.array([plane(*(float(share) * (i == j) for j in range(len(ends)))) for share in shares])
            for i in range(len(ends))
        ]
    line = Line(shares, rows[0], objective.examples, *(rows[1:] or (None, None)))
    if line.aligned is not None and line.shuffled is not None:
        before, after, chance = barrier(line.losses), barrier(line.aligned), barrier(line.shuffled)
        said = f"{after:.3g} of {before:.3g} is left, at most a quarter" if before > 0 else "there was none"
        checks.append(
            Check(
                "matching units lowers the barrier",
                "measured",
                said,
                after <= LEFT * max(before, 0) or after <= LEAST,
                f"with units in a random order {chance:.3g}",
            )
        )
    return Line(shares, rows[0], objective.examples, line.aligned, line.shuffled, checks)


def _check_shapes(ours: Numbers, theirs: Numbers) -> None:
    """Raise OptionError unless both have the same names and shapes."""
    if list(ours) != list(theirs):
        other = next((name for name in (*ours, *theirs) if name not in ours or name not in theirs), "their order")
        raise OptionError(
            f"line: {other} is in one of the networks alone; expected two trainings of one architecture; choose another"
        )
    for name, array in ours.items():
        if array.shape != theirs[name].shape:
            raise OptionError(
                f"line: {name} is {format_shape(array.shape)} in one network and {format_shape(theirs[name].shape)} in the other; "
                "expected two trainings of one architecture; choose another"
            )
