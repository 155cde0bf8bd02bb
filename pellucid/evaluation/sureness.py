"""How sure an answer is, and how often the network was right on validation rows when it was about as sure (floor 7).

A network's probability is only what it says of itself. What it is worth is counted: on the validation rows whose probability
comes nearest. For numbers it is how far off the answers were on those rows.

Shapes: N validation rows, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .formatting import format_number
from .metrics import wilson

NEAREST = 100  # validation rows that are counted, or a tenth of them where there are more
FEW = 20  # rows that are counted at least, however unlike they are
WITHIN = 0.1  # of the probability, where there are more than FEW


@dataclass(frozen=True)
class Sureness:
    """probability: of the answer, None for a number.      n: validation rows that were about as sure.      right: of them.

    interval: 95%, of the share that was right.      between: their lowest and highest probability.
    off: for a number, how far off nine in ten of those answers were at most, in the target's units.
    """

    n: int
    probability: float | None = None
    right: int = 0
    interval: tuple[float, float] | None = None
    between: tuple[float, float] | None = None
    off: float | None = None

    def __str__(self) -> str:
        if not self.n:
            return "no validation rows to count how often such an answer was right"
        if self.probability is None:
            return f"9 in 10 of the {self.n:,} validation answers nearest to this one were off by at most {format_number(self.off or 0.0)}"
        assert self.interval is not None and self.between is not None
        low, high = (100 * end for end in self.interval)
        ends = " to ".join(dict.fromkeys(f"{100 * end:.0f}%" for end in self.between))
        few = "; few rows, so this says little" if self.n < FEW else ""
        return (
            f"{100 * self.probability:.1f}% sure. On the {self.n:,} validation rows that it was about as sure of ({ends}), it was "
            f"right {100 * self.right / self.n:.0f}% of the time (95%: {low:.0f} to {high:.0f}%){few}"
        )


def sureness_of_class(probability: float, known: np.ndarray, said: np.ndarray, target: np.ndarray) -> Sureness:
    """Of an answer whose class has `probability`.

    known: the probabilities (N, K) of validation rows.      said: the class that is named for each (N,), by a threshold perhaps.
    target: their classes (N,).
    """
    if not len(known):
        return Sureness(0, probability)
    largest = known[np.arange(len(known)), said]
    apart = np.abs(largest - probability)
    near = np.argsort(apart, kind="stable")[: max(NEAREST, len(known) // 10)]
    near = near[: max(FEW, int((apart[near] <= WITHIN).sum()))]
    right = int((said[near] == target[near]).sum())
    return Sureness(
        len(near),
        probability,
        right,
        wilson(right, len(near)),
        (float(largest[near].min()), float(largest[near].max())),
    )


def sureness_of_number(answer: float, known: np.ndarray, target: np.ndarray) -> Sureness:
    """Of an answer that is a number; known: those to validation rows (N,), whose targets are `target` (N,)."""
    if not len(known):
        return Sureness(0)
    near = np.argsort(np.abs(known - answer), kind="stable")[: max(NEAREST, len(known) // 10)]
    return Sureness(len(near), off=float(np.quantile(np.abs(known[near] - target[near]), 0.9, method="higher")))
