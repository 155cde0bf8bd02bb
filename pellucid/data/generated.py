"""Data sets that are made rather than fetched: points of a plane that show what a network can and cannot learn (floor 4).

Each function gives the same bytes every time: seeds are fixed, and coordinates are rounded, so that the last bits of a
processor's sines do not show. A row is x1, x2 and the class, without a header, as other named tables have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.datasets import make_circles, make_moons
from sklearn.utils import check_random_state

ROWS = 1000  # training takes seconds, and the test part (150) tells chance from skill
DECIMALS = 4


def table(points: np.ndarray, classes: np.ndarray, names: Sequence[str]) -> bytes:
    """CSV of points float (N, 2) and classes int (N,), which `names` names."""
    rows = zip(points.round(DECIMALS).tolist(), classes.tolist(), strict=True)
    return "".join(f"{a:.{DECIMALS}f},{b:.{DECIMALS}f},{names[k]}\n" for (a, b), k in rows).encode("ascii")


def xor() -> bytes:
    """The four corners of the unit square, equally often, each with normal noise; 1 where one coordinate is near 1, not both.

    Noise of 0.15 leaves the corners apart: a network can tell nearly all points, a line three corners of four at the most.
    """
    random = check_random_state(0)  # whose stream is frozen
    corner = random.permutation(np.arange(ROWS) % 4)
    a, b = corner // 2, corner % 2
    return table(np.stack([a, b], 1) + random.normal(scale=0.15, size=(ROWS, 2)), a ^ b, ("0", "1"))


def moons() -> bytes:
    """Two half circles, each reaching into the other."""
    points, classes = make_moons(ROWS, noise=0.15, random_state=0)
    return table(points, classes, ("upper", "lower"))


def circles() -> bytes:
    """A circle inside a circle of twice its radius."""
    points, classes = make_circles(ROWS, noise=0.1, factor=0.5, random_state=0)
    return table(points, classes, ("outer", "inner"))


def spiral() -> bytes:
    """Three arms, each of two thirds of a turn, with noise along it."""
    random = check_random_state(0)
    arm = random.permutation(np.arange(ROWS) % 3)
    radius = random.uniform(0.1, 1.0, ROWS)
    angle = 2 * np.pi * arm / 3 + 4 * radius + random.normal(scale=0.15, size=ROWS)
    return table(radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), arm, ("a", "b", "c"))


GENERATORS: dict[str, Callable[[], bytes]] = {"xor": xor, "moons": moons, "circles": circles, "spiral": spiral}
