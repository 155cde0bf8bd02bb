"""Parts of an input that are taken away together: patches, columns, tokens, stretches; occlusion and Shapley values (floor 6).

Shapes: P players, S inputs, R permutations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.problem import Parts
from .explained import Absent, Explained

SIDES = 7  # patches along a side of a picture
STRETCHES = 50  # the most of a series or a text that are players
ENUMERATED = 10  # players of which all sets are tried
BUDGET = 512  # inputs that are run to sample permutations


@dataclass(frozen=True)
class Players:
    """masks: by the name of an input bool (P, *its shape): the places of each player. They may overlap."""

    names: tuple[str, ...]
    masks: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.names)

    def absent(self, present: np.ndarray) -> Absent:
        """What is missing where the players `present`, bool (S, P), are there and the others are not."""
        away = (~present).astype(np.float32)
        return {
            name: (away @ mask.reshape(len(mask), -1).astype(np.float32) > 0).reshape(len(away), *mask.shape[1:])
            for name, mask in self.masks.items()
        }


def players_of(
    shapes: Mapping[str, tuple[int, ...]], pictures: Sequence[str], columns: Mapping[str, Parts], window: int | None,
    overlapping: bool,
) -> Players:  # fmt: skip
    """The players of inputs of these shapes. window: the side of a patch, or the length of a stretch.

    columns: of a table, each a player. overlapping: whether windows move by half their side, not by all of it.
    """
    if columns:
        return _columns(shapes, columns)
    names: list[str] = []
    found: list[tuple[str, np.ndarray]] = []
    for name, shape in shapes.items():
        for label, mask in _windows(name, shape, name in pictures, window, overlapping):
            names.append(label)
            found.append((name, mask))
    masks = {
        name: np.stack([mask if of == name else np.zeros(shape, bool) for of, mask in found])
        for name, shape in shapes.items()
    }
    return Players(tuple(names), masks)


def in_tables(shapes: Mapping[str, tuple[int, ...]], columns: Mapping[str, Parts]) -> dict[str, Parts]:
    """The columns whose places are single numbers of an example, axis 1; with those parts that are entries."""
    kept = {name: [part for part in parts if part[0] in shapes and part[1] == 1] for name, parts in columns.items()}
    flat = all(part[1] == 1 for parts in columns.values() for part in parts)
    return {name: parts for name, parts in kept.items() if parts} if flat else {}


def _columns(shapes: Mapping[str, tuple[int, ...]], columns: Mapping[str, Parts]) -> Players:
    masks = {name: np.zeros((len(columns), *shape), bool) for name, shape in shapes.items()}
    for i, parts in enumerate(columns.values()):
        for name, axis, place in parts:
            np.moveaxis(masks[name], axis, 0)[place, i] = True
    return Players(tuple(columns), masks)


def _windows(
    name: str, shape: tuple[int, ...], picture: bool, window: int | None, overlapping: bool
) -> list[tuple[str, np.ndarray]]:
    """(name, mask) of each window of an input."""
    if not shape:
        return [(name, np.ones((), bool))]
    sides = shape[-2:] if picture else shape[:1]
    most = SIDES if picture else STRETCHES
    if window is not None:
        size = window
    elif len(shape) == 1 and shape[0] <= 2 * STRETCHES:
        size = 1
    elif not picture and overlapping:
        size = max(1, -(-shape[0] // 10))
    else:
        size = max(1, -(-max(sides) // most))
    stride = max(1, size // 2) if overlapping else size
    found = []
    for at in itertools.product(
        *(range(0, 1 + stride * max(0, -(-(side - size) // stride)), stride) for side in sides)
    ):
        mask = np.zeros(shape, bool)
        last = mask if picture else np.moveaxis(mask, 0, -1)  # the sides that windows move along stand last
        if picture:
            last[..., at[0] : at[0] + size, at[1] : at[1] + size] = True
        else:
            last[..., at[0] : at[0] + size] = True
        found.append((f"{name}[{', '.join(map(str, at))}]", mask))
    return found


def occlusion(explained: Explained, players: Players) -> np.ndarray:
    """(P,): how much lower the number is without each player."""
    present = ~np.eye(len(players) + 1, len(players), dtype=bool)  # the last row has all of them
    numbers = explained.without(len(present), lambda rows: players.absent(present[rows]))
    falls: np.ndarray = numbers[-1] - numbers[:-1]
    return falls


def permutations_of(count: int, wanted: int | None, seed: int) -> np.ndarray:
    """Random orders of `count` players, int64 (R, P); by default as many as BUDGET allows, an even number."""
    number = wanted or max(4, min(20, 2 * (BUDGET // (2 * max(1, count)))))
    chance = np.random.default_rng(seed)
    return np.array([chance.permutation(count) for _ in range(number)], np.int64)


def sampled_shapley(explained: Explained, players: Players, orders: np.ndarray) -> np.ndarray:
    """(R, P): what each player adds when the players come in these orders (Castro 2009, Strumbelj 2010); the mean estimates its
    Shapley value.
    """
    count, players_count = orders.shape
    places = np.argsort(orders, axis=1)  # when each player comes
    steps = np.arange(1, players_count)  # players there so far
    present = (places[:, None, :] < steps[:, None]).reshape(-1, players_count)
    nobody_and_all = np.arange(2)[:, None] > np.zeros(players_count)
    present = np.concatenate([present, nobody_and_all])
    numbers = explained.without(len(present), lambda rows: players.absent(present[rows]))
    ends = [np.full((count, 1), number) for number in numbers[-2:]]
    values = np.concatenate([ends[0], numbers[:-2].reshape(count, -1), ends[1]], axis=1)
    return np.take_along_axis(np.diff(values, axis=1), places, axis=1)


def exact_shapley(explained: Explained, players: Players) -> np.ndarray:
    """(P,): the Shapley values (1953), from the numbers of all 2^P sets of players."""
    count = len(players)
    present = (np.arange(2**count)[:, None] >> np.arange(count)) % 2 == 1
    values = explained.without(2**count, lambda rows: players.absent(present[rows]))
    sizes = present.sum(1)
    shares = np.array([math.factorial(s) * math.factorial(count - s - 1) / math.factorial(count) for s in range(count)])
    found = np.zeros(count)
    for player in range(count):
        before = np.flatnonzero(~present[:, player])
        found[player] = (shares[sizes[before]] * (values[before + 2**player] - values[before])).sum()
    return found
