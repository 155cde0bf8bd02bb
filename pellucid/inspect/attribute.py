"""`attribute(question)`: which parts of an input made the answer, by five methods, each with its own check (floor 6).

    found = inspect.attribute(Question.of(network, x))
    print(found)  # the table, how complete it is, and what a control says

The methods are integrated gradients (Sundararajan et al. 2017), saliency (Simonyan et al. 2014), input x gradient, occlusion
(Zeiler and Fergus 2014) and Shapley values (by permutation sampling, or exactly for few players).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..data.problem import Parts
from ..errors import OptionError
from .attribution import Attribution, channel_axes, check_method
from .baselines import as_baseline
from .entries import Entries, entries
from .explained import Absent, Explained
from .players import (
    ENUMERATED,
    Players,
    exact_shapley,
    in_tables,
    occlusion,
    permutations_of,
    players_of,
    sampled_shapley,
)
from .question import Question, said
from .ranks import spearman
from .result import Check
from .undisturbed import undisturbed

MOST_STEPS = 512  # points on the line, to which `n_steps` is doubled
RELATIVE, ABSOLUTE = 0.01, 1e-4  # what completeness allows
EFFICIENT = 1e-5  # the same of Shapley values, beside the size of the answer
CLOSE = 1e-3  # of a score: how far it may be from that of the same inputs as float numbers
REMOVED = 0.2  # the share of the strongest parts that the deletion check takes away
DRAWS = 10  # of as many at random
PADDED = "text_weights"  # an input whose zeros are padding, which cannot change

Figures = dict[str, np.ndarray]


def attribute(
    question: Question, target: int | None = None, method: str = "integrated_gradients", baselines: Any = None,
    n_steps: int = 64, columns: Mapping[str, Parts] | None = None, *, window: int | None = None,
    permutations: int | np.ndarray | None = None, seed: int = 0,
) -> Attribution:  # fmt: skip
    """How much each part of the example counts towards one number of the answer. The network stays as it was.

    target: the index of that number; by default what the answer says.      baselines: from what it counts: None for zeros, a
    number, an array, those by name of an entry, or a `Baseline`.      n_steps: points of integrated gradients, doubled to
    MOST_STEPS until they add up.      columns: of a table, by name, its places in the inputs: each gets one figure.
    window: the side of a patch or length of a stretch, of occlusion and Shapley values; occlusion moves it by half.
    permutations: how many are sampled for Shapley values, or themselves (R, P); up to 10 players all sets are tried instead.
    Raises OptionError for a method, target or baseline that does not exist.
    """
    check_method(method)
    found = entries(question)
    index, own = _index(question, target)
    baseline = as_baseline(baselines, found)
    explained = Explained(found, baseline.of(found), index)
    answer, base = explained.ends()
    if abs(answer - own) > CLOSE * max(1.0, abs(own)):
        raise OptionError(
            f"attribute: the score is {own:.6g}, and {answer:.6g} with the inputs as float numbers; expected one answer to both, as "
            "only numbers have gradients; pass the input as the float numbers that the first layer reads"
        )
    shapes = _asked_about(explained)
    pictures = tuple(name for name, shape in shapes.items() if _is_picture(name, shape, found))
    table = in_tables(shapes, columns or {})
    checks: list[Check] = []
    steps = 0
    if method in ("occlusion", "shapley"):
        players = players_of(shapes, pictures, table, window, method == "occlusion")
        if method == "occlusion":
            values = occlusion(explained, players)
            figures = _averaged(players, values)
        else:
            values = _shapley(explained, players, permutations, seed, answer, base, checks)
            figures = _spread(players, values)
        sums = dict(zip(players.names, values.tolist(), strict=True)) if table else {}
    else:
        figures, steps = _by_gradients(explained, method, n_steps, answer, base, checks)
        sums = _column_sums(figures, columns or {})
    error = None
    if method not in ("saliency", "occlusion"):
        error = abs(sum(float(array.sum()) for array in figures.values()) - (answer - base))
    figures = {name: array for name, array in figures.items() if name in shapes}
    result = Attribution(method, figures, sums, pictures, index, answer, base, baseline.said, steps, error)
    checks += _deletion(explained, result, table, seed)
    return Attribution(method, figures, sums, pictures, index, answer, base, baseline.said, steps, error, tuple(checks))


def _asked_about(explained: Explained) -> dict[str, tuple[int, ...]]:
    """The shapes of the inputs that are not the baseline already, such as a class that is kept; of all where none differs."""
    shapes, differs = explained.shapes(), explained.differs()
    moved = {name: shape for name, shape in shapes.items() if differs[name].any()}
    return moved or shapes


def _index(question: Question, target: int | None) -> tuple[int, float]:
    """The index that is explained, and its number as the network gives it."""
    with undisturbed(question.network):
        output = question.output()
    count = 1 if output.ndim == 1 else output.flatten(1).shape[1]
    if target is None:
        target = said(output)
    if not 0 <= target < count:
        raise OptionError(f"target: {target}; expected 0 to {count - 1}, an index of the answer; choose one of them")
    return target, float(output.numpy().reshape(-1)[target])


def _is_picture(name: str, shape: tuple[int, ...], found: Entries) -> bool:
    """A picture is called so, or has channels before its height and width."""
    looked_up = any(entry.looked_up for entry in found.values() if entry.of == name)
    return not looked_up and (len(shape) >= 3 or (name == "image" and len(shape) == 2))


def _by_gradients(
    explained: Explained, method: str, n_steps: int, answer: float, base: float, checks: list[Check]
) -> tuple[Figures, int]:
    """The figures by gradients, and how many points they took."""
    moved = {
        name: entry.value.numpy().astype(np.float64) - explained.baseline[name].numpy()
        for name, entry in explained.found.items()
    }
    at_example = explained.mean_gradients(np.ones(1))
    product = explained.by_input({name: at_example[name] * moved[name] for name in moved})
    if method == "saliency":
        sizes = {name: np.abs(gradient) for name, gradient in at_example.items()}
        if PADDED in sizes:
            sizes[PADDED] *= explained.found[PADDED].value.numpy() != 0
        return explained.by_input(sizes), 0
    if method == "input_x_gradient":
        checks.append(Check("completeness", "measured", f"{_missed(product, answer - base)}, with one gradient alone"))
        return product, 0
    figures, steps = _integrated(explained, moved, n_steps, answer - base)
    holds = abs(_total(figures) - (answer - base)) <= _allowed(answer - base)
    said_so = f"{_missed(figures, answer - base)} with {steps} points"
    control = f"input x gradient {_missed(product, answer - base)}"
    checks.append(Check("completeness", "measured", said_so, holds, control))
    return figures, steps


def _integrated(explained: Explained, moved: Figures, n_steps: int, difference: float) -> tuple[Figures, int]:
    """Integrated gradients by the midpoint rule, with twice the points until they add up to `difference`."""
    if n_steps < 1:
        raise OptionError(f"n_steps: {n_steps}; expected 1 or more points on the line; write n_steps=64")
    while True:
        mean = explained.mean_gradients((np.arange(n_steps) + 0.5) / n_steps)
        figures = explained.by_input({name: mean[name] * moved[name] for name in moved})
        if 2 * n_steps > MOST_STEPS or abs(_total(figures) - difference) <= _allowed(difference):
            return figures, n_steps
        n_steps *= 2


def _allowed(difference: float) -> float:
    return RELATIVE * abs(difference) + ABSOLUTE


def _total(figures: Figures) -> float:
    return sum(float(array.sum()) for array in figures.values())


def _missed(figures: Figures, difference: float) -> str:
    """`off by 0.02 (0.4%)`: how far the figures are from adding up to the difference."""
    error = abs(_total(figures) - difference)
    percent = 100 * error / abs(difference) if difference else 0.0
    share = f" ({percent:,.0f}%)" if percent >= 10 else f" ({percent:.2g}%)" if difference else ""
    return f"off by {error:.2g}{share}"


def _averaged(players: Players, values: np.ndarray) -> Figures:
    """What the windows over each place do, on average."""
    found = {}
    for name, mask in players.masks.items():
        times = mask.sum(0)
        found[name] = np.tensordot(values, mask.astype(np.float64), 1) / np.maximum(times, 1)
    return found


def _spread(players: Players, values: np.ndarray) -> Figures:
    """What each player adds, in equal parts over its places."""
    sizes = sum(mask.reshape(len(mask), -1).sum(1) for mask in players.masks.values())
    shares = values / np.maximum(sizes, 1)
    return {name: np.tensordot(shares, mask.astype(np.float64), 1) for name, mask in players.masks.items()}


def _shapley(
    explained: Explained, players: Players, permutations: int | np.ndarray | None, seed: int, answer: float, base: float,
    checks: list[Check],
) -> np.ndarray:  # fmt: skip
    """The Shapley value of each player, exactly for few of them; and how far they can be trusted."""
    count = len(players)
    if permutations is None and count <= ENUMERATED:
        values: np.ndarray = exact_shapley(explained, players)
        checks.append(_efficiency(values, answer, base, "proven", f"exact, all {2**count:,} sets of {count} players"))
        return values
    given = permutations if isinstance(permutations, np.ndarray) else permutations_of(count, permutations, seed)
    if given.ndim != 2 or not np.array_equal(np.sort(given, 1), np.tile(np.arange(count), (len(given), 1))):
        raise OptionError(
            f"permutations: an array of shape {given.shape}; expected orders of the {count} players, (R, {count}); "
            "write permutations=20"
        )
    samples = sampled_shapley(explained, players, given)
    values = samples.mean(0)
    checks.append(_efficiency(values, answer, base, "proven", f"{len(given)} orders of {count} players"))
    if len(given) > 1:
        half = len(given) // 2
        rank = spearman(samples[:half].mean(0), samples[half:].mean(0))
        chance = np.random.default_rng(seed)
        mixed = spearman(samples[:half].mean(0), chance.permutation(samples[half:].mean(0)))
        checks.append(
            Check("two halves of the orders", "measured", f"rank correlation {rank:.2f}",
                  bool(rank >= 0.5 or not np.ptp(samples)), f"with shuffled players {mixed:.2f}")
        )  # fmt: skip
    return values


def _efficiency(values: np.ndarray, answer: float, base: float, tag: Any, how: str) -> Check:
    error = abs(float(values.sum()) - (answer - base))
    allowed = EFFICIENT * max(1.0, abs(answer - base))
    return Check("efficiency", tag, f"{how}, off by {error:.1g}", error <= allowed)


def _column_sums(figures: Figures, columns: Mapping[str, Parts]) -> dict[str, float]:
    """Each column's places added up."""
    found = {}
    for column, parts in columns.items():
        kept = [(name, axis, place) for name, axis, place in parts if name in figures]
        found[column] = sum(float(np.take(figures[name], place, axis - 1).sum()) for name, axis, place in kept)
    return found


def _deletion(explained: Explained, result: Attribution, table: Mapping[str, Parts], seed: int) -> list[Check]:
    """What happens to the score without the strongest parts, and without as many at random: only parts that are not the baseline."""
    if table:
        players = players_of(_asked_about(explained), (), table, None, False)
        masks = players.masks
        values = np.array([result.columns[name] for name in players.names])
    else:
        maps = result.maps()
        values = np.concatenate([np.ravel(one) for one in maps.values()])
        masks = None
    there = _there(explained, result, masks)
    candidates = np.flatnonzero(there)
    count = max(1, round(REMOVED * len(candidates)))
    if len(candidates) < 2:
        return []
    chance = np.random.default_rng(seed)
    strongest = candidates[np.argsort(-values[candidates], kind="stable")][:count]
    chosen = np.zeros((1 + DRAWS, len(values)), bool)
    chosen[0, strongest] = True
    for row in chosen[1:]:
        row[chance.choice(candidates, count, replace=False)] = True
    absent = players.absent(~chosen) if masks is not None else _places_absent(explained, result, chosen)
    scores = explained.without(len(chosen), lambda rows: {name: rows_of[rows] for name, rows_of in absent.items()})
    falls = result.answer - scores
    verb = "falls"
    if result.method == "saliency":  # which has no sign
        falls, verb = np.abs(falls), "moves"
    noun = "columns" if masks is not None else "places"
    said = f"without the strongest {count} of {len(candidates)} {noun} it {verb} by {falls[0]:.3g}"
    control = f"random ones {falls[1:].mean():.3g}"
    return [Check("deletion", "measured", said, bool(falls[0] >= falls[1:].mean()), control)]


def _there(explained: Explained, result: Attribution, masks: Mapping[str, np.ndarray] | None) -> np.ndarray:
    """Which columns, or places of the maps, differ from the baseline, (n,)."""
    differs = explained.differs()
    if masks is not None:
        moved = [(mask & differs[name]).reshape(len(mask), -1).any(1) for name, mask in masks.items()]
        return np.stack(moved).max(0)  # type: ignore[no-any-return]
    parts = [differs[name].any(channel_axes(differs[name].ndim, name in result.pictures)) for name in result.figures]
    return np.concatenate([np.ravel(part) for part in parts])


def _places_absent(explained: Explained, result: Attribution, chosen: np.ndarray) -> Absent:
    """Places of the maps, (S, n) of all inputs after one another, as what is missing of each input."""
    found, start = {}, 0
    for name, shape in _asked_about(explained).items():
        picture = name in result.pictures
        over = channel_axes(len(shape), picture)
        places = tuple(1 if axis in over else side for axis, side in enumerate(shape))
        count = math.prod(places)
        own = chosen[:, start : start + count].reshape(len(chosen), *places)
        found[name] = np.broadcast_to(own, (len(chosen), *shape))
        start += count
    return found
