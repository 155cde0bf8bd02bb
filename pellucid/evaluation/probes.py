"""`probe(network, layers, data)`: what a linear model can read from each layer (floor 7).

Linear probes after Alain and Bengio 2016 (arXiv 1610.01644). Beside each layer stand two controls: the same layer of a network that was not trained, and shuffled labels (Hewitt and Liang
2019). Every layer gets the same examples and at most 400 numbers, by a random projection, so depths are compared fairly.

Shapes: N examples, F numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from ..inspect.control import shuffled_weights
from ..inspect.features import activations
from ..inspect.result import Check, Result, Table
from ..nn import Module

EXAMPLES, PROJECTED = 1500, 400
CHANCE_ABOVE = 0.1  # how far above the commonest class shuffled labels may get
INPUT = "input"


@dataclass(frozen=True)
class Probes(Result):
    """layers: "input", then paths.      trained, untrained, shuffled: the score of each, on `tested` examples it did not learn from.

    measure: "accuracy", or "R2" where the target is a number.      chance: the score of the commonest class, or of the mean.
    """

    layers: tuple[str, ...]
    trained: np.ndarray
    untrained: np.ndarray
    shuffled: np.ndarray
    measure: str
    chance: float
    learned: int
    tested: int

    def headline(self) -> str:
        best = int(self.trained.argmax())
        return (
            f"A linear model reads the answer best from {self.layers[best]}: {self.measure} {self.trained[best]:.3f}, from the input "
            f"{self.trained[0]:.3f}, from the same layer untrained {self.untrained[best]:.3f}."
        )

    def tables(self) -> Sequence[Table]:
        rows = list(
            zip(
                self.layers, *(values.tolist() for values in (self.trained, self.untrained, self.shuffled)), strict=True
            )
        )
        title = f"Linear probes, {self.measure} on {self.tested:,} examples after {self.learned:,}"
        return [Table(title, ("layer", "trained", "untrained", "shuffled labels"), rows)]

    @property
    def checks(self) -> Sequence[Check]:  # type: ignore[override]
        worst = float(self.shuffled.max())
        error = 1.96 * float(np.sqrt(self.trained[-1] * max(0.0, 1 - self.trained[-1]) / self.tested))
        control = (
            f"untrained {self.untrained[-1]:.3f}, input {self.trained[0]:.3f}, shuffled labels at most {worst:.3f}"
        )
        said = f"{self.measure} {self.trained[-1]:.3f} +- {error:.3f} at {self.layers[-1]}, n {self.tested:,}"
        return [Check("probe", "measured", said, worst <= self.chance + CHANCE_ABOVE, control)]

    def remarks(self) -> Sequence[str]:
        return ("A probe says what could be read from a layer, not what the network makes of it.",)


def probe(
    network: Module,
    layers: Sequence[str],
    learn: tuple[Sequence[np.ndarray], np.ndarray],
    test: tuple[Sequence[np.ndarray], np.ndarray],
    *,
    untrained: Module | None = None,
    forward: Callable[..., Any] | None = None,
    seed: int = 0,
) -> Probes:
    """Probes of `layers` and of the input. learn, test: inputs (N, ...) as the network takes them, and the answers (N,).

    untrained: a network of the same form with fresh weights; by default this one with its weights shuffled.
    The network is not trained and stays as it was; only the linear models learn.
    """
    learn, test = (_some(part, EXAMPLES) for part in (learn, test))
    mine = _both(network, layers, learn[0], test[0], forward)
    if untrained is None:
        with shuffled_weights(network, seed):
            other = _both(network, layers, learn[0], test[0], forward)
    else:
        own = None if forward is None else getattr(untrained, getattr(forward, "__name__", ""), None)
        other = _both(untrained, layers, learn[0], test[0], own)
    y, truth = learn[1], test[1]
    mixed = np.random.default_rng(seed + 1).permutation(y)
    classes = y.dtype.kind in "iub"
    score = lambda both, answers: _score(both[0], both[1], answers, truth, classes, seed)
    names = (INPUT, *layers)
    return Probes(
        names,
        np.array([score(mine[name], y) for name in names]),
        np.array([score(other[name], y) for name in names]),
        np.array([score(mine[name], mixed) for name in names]),
        "accuracy" if classes else "R2",
        float(np.bincount(truth).max() / len(truth)) if classes else 0.0,
        len(y),
        len(truth),
    )


def _some(part: tuple[Sequence[np.ndarray], np.ndarray], most: int) -> tuple[list[np.ndarray], np.ndarray]:
    """At most so many examples, drawn without the order of the file."""
    inputs, answers = part
    rows = np.random.default_rng(0).permutation(len(answers))[:most]
    return [np.asarray(value)[rows] for value in inputs], np.asarray(answers)[rows]


def _both(
    network: Module, layers: Sequence[str], learn: list[np.ndarray], test: list[np.ndarray], forward: Any
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{layer: (what the probe learns from (N, F), what it is tested on)}."""
    flat = lambda values: np.concatenate(
        [np.reshape(value, (len(value), -1)).astype(np.float32) for value in values], 1
    )
    one, two = (activations(network, layers, part, forward) for part in (learn, test))
    return {INPUT: (flat(learn), flat(test)), **{path: (flat([one[path]]), flat([two[path]])) for path in layers}}


def _score(a: np.ndarray, b: np.ndarray, y: np.ndarray, truth: np.ndarray, classes: bool, seed: int) -> float:
    """The score on (b, truth) of a linear model of (a, y), both standardised and projected."""
    if a.shape[1] > PROJECTED:
        projection = np.random.default_rng(seed).standard_normal((a.shape[1], PROJECTED)) / np.sqrt(PROJECTED)
        a, b = (np.asarray(each @ projection, np.float32) for each in (a, b))
    scaler = StandardScaler().fit(a)
    model = LogisticRegression(C=0.1, max_iter=100) if classes else Ridge(10.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(model.fit(scaler.transform(a), y).score(scaler.transform(b), truth))
