"""How the loss bends at a network's weights: the extreme eigenvalues of its Hessian, and its spectrum (floor 6).

The Hessian H (N, N) is never written down: the Lanczos method needs products H v alone, which compiled second derivatives give.
What it finds after k products lies between the least and the greatest eigenvalue, and comes closest to these two. All of its
vectors are kept orthogonal, without which eigenvalues come up twice (Golub and Van Loan 2013, 10.3; Yao et al. 2020).

Shapes: N weights, k products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import OptionError
from ..nn import Module
from .objective import Data, Objective, flattened, numbers_of, shaped
from .question import Losses
from .result import Check, Result, Table
from .undisturbed import restored

KINKED = ("ReLU", "LeakyReLU", "MaxPool1d", "MaxPool2d", "MaxPool3d")
STEP = 1e-4  # of the weights' length, for differences of gradients
CLOSE, SETTLED = 0.01, 0.05
Product = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Curvature(Result):
    """top, bottom: the greatest and the least eigenvalue.      spectrum: (k, 2), eigenvalues found and the share of directions at each.

    parameters: N.      examples: of the loss.      kinked: kinds of layers whose kinks the Hessian does not see.
    """

    top: float
    bottom: float
    spectrum: np.ndarray
    parameters: int
    examples: int
    kinked: tuple[str, ...] = ()
    checks: Sequence[Check] = ()

    def headline(self) -> str:
        shape = (
            "there are directions in which it bends down"
            if self.bottom < -1e-3 * abs(self.top)
            else "no direction was found in which it bends down"
        )
        return f"The loss bends most steeply with {self.top:.4g}, and least with {self.bottom:.4g}: {shape}."

    def tables(self) -> Sequence[Table]:
        k = len(self.spectrum)
        rows = [
            ("greatest eigenvalue", self.top),
            ("least eigenvalue", self.bottom),
            ("least / greatest", self.bottom / self.top if self.top else None),
            ("share of directions below 0", float(self.spectrum[self.spectrum[:, 0] < 0, 1].sum())),
        ]
        return [
            Table(
                f"Hessian of {self.parameters:,} weights, {self.examples:,} examples, {k} products",
                ("curvature", "value"),
                rows,
            )
        ]

    def remarks(self) -> Sequence[str]:
        lines = [
            "The true extremes lie at or beyond both (proven). The share of directions is an estimate from one random vector."
        ]
        if self.kinked:
            lines.append(
                f"{', '.join(self.kinked)}: the Hessian is that of the smooth piece at these weights; what lies across a kink is not in it."
            )
        return lines


def curvature(network: Module, data: Data, k: int = 40, *, losses: Losses | None = None, seed: int = 0) -> Curvature:
    """The extreme eigenvalues of the Hessian of the mean loss over `data`, (inputs, target), in eval mode, by `k` products.

    losses: from output and target to the loss of each example (B,); without it a `Model` has that of its validation, another
    network cross-entropy or the squared error. The network stays as it was.
    Raises OptionError where nothing requires a gradient.
    """
    if k < 1:
        raise OptionError(f"k: {k}; expected 1 or more products with the Hessian; write k=40")
    objective = Objective(network, data, losses)
    with restored(network, grad=True):
        product, size = objective.product(), sum(value.numel() for value in objective.trained.values())
        random = np.random.default_rng(seed).standard_normal(size)
        random /= np.linalg.norm(random)
        tridiagonal, basis = lanczos(product, random, k)
        if not np.isfinite(tridiagonal).all():
            raise OptionError(
                f"curvature: the second derivatives of {type(network).__name__}'s loss are not finite; expected numbers; look for NaN or "
                "infinity in the data and in the weights"
            )
        values, vectors = np.linalg.eigh(tridiagonal)
        top, bottom = (Pair(float(values[i]), vectors[:, i] @ basis) for i in (-1, 0))
        checks = [_converged(tridiagonal), *_checks(objective, product, top, bottom, random)]
    kinds = dict.fromkeys(type(module).__name__ for module in network.modules())
    return Curvature(
        top.value,
        bottom.value,
        np.stack([values, vectors[0] ** 2], 1),
        size,
        objective.examples,
        tuple(kind for kind in kinds if kind in KINKED),
        checks,
    )


@dataclass(frozen=True)
class Pair:
    """An eigenvalue and its eigenvector (N,), of length 1."""

    value: float
    vector: np.ndarray


def _converged(tridiagonal: np.ndarray) -> Check:
    """Whether both ends had settled before the last products; the control has the first products alone."""
    size, ends = len(tridiagonal), [0, -1]
    last, before, first = (
        np.linalg.eigvalsh(tridiagonal[:n, :n])[ends] for n in (size, max(1, size * 3 // 4), max(1, size // 8))
    )
    scale = np.maximum(np.abs(last), 1e-3 * np.abs(last).max()) + 1e-30
    late, early = (np.abs(last - one) / scale for one in (before, first))
    said = f"the last quarter of the products moved the greatest by {late[1]:.1%} and the least by {late[0]:.1%}, at most {SETTLED:.0%}"
    beside = f"those after the first eighth by {early[1]:.0%} and {early[0]:.0%}"
    return Check("settled", "measured", said, bool(late.max() <= SETTLED), beside)


def _checks(objective: Objective, product: Product, top: Pair, bottom: Pair, random: np.ndarray) -> list[Check]:
    """How far the products at both eigenvectors are from a multiple of them, and whether gradients differ as they say."""
    scale = abs(top.value) or 1.0

    def missed(one: Pair) -> float:  # of its own size, or of a thousandth of the greatest
        return float(np.linalg.norm(product(one.vector) - one.value * one.vector)) / max(abs(one.value), 1e-3 * scale)

    along = product(random)
    misses = [missed(one) for one in (top, bottom)]
    eigen = Check(
        "eigenvector",
        "measured",
        f"H v differs from c v by {misses[0]:.1e} of c for the greatest, at most {CLOSE:g}; by {misses[1]:.1e} for the least",
        misses[0] <= CLOSE,
        f"for a random v by {missed(Pair(float(along @ random), random)):.2g}",
    )
    slope, here = objective.slope(), numbers_of(objective.network)
    weights = flattened(here)
    step = STEP * (float(np.linalg.norm(weights)) or 1.0)

    def bends(direction: np.ndarray) -> float:
        sides = []
        for sign in (1, -1):
            for name, array in shaped(weights + sign * step * direction, here).items():
                objective.trained[name].assign(array)
            sides.append(float(slope() @ direction))
        return (sides[0] - sides[1]) / (2 * step)

    found, beside = bends(top.vector), bends(random)
    for name, array in here.items():
        objective.trained[name].assign(array)
    differences = Check(
        "differences of gradients",
        "measured",
        f"along the steepest direction they bend with {found:.4g}, {abs(found - top.value) / scale:.1%} off",
        abs(found - top.value) <= 0.1 * scale,
        f"along a random one with {beside:.2g}",
    )
    return [eigen, differences]


def lanczos(product: Product, start: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """From H v as `product`: a tridiagonal matrix (k, k), which is H in the orthonormal basis (k, N) that begins with `start`.

    There are fewer than k where the space is used up.
    """
    basis = [start / np.linalg.norm(start)]
    diagonal, beside = list[float](), list[float]()
    for _ in range(min(k, len(start))):
        w = product(basis[-1])
        diagonal.append(float(w @ basis[-1]))
        rows = np.stack(basis)
        for _ in range(2):  # twice is enough (Kahan and Parlett)
            w = w - (rows @ w) @ rows
        length = float(np.linalg.norm(w))
        if length <= 1e-7 * max(map(abs, [*diagonal, *beside, 1e-30])):
            break
        beside.append(length)
        basis.append(w / length)
    size = len(diagonal)
    tridiagonal = np.diag(diagonal) + np.diag(beside[: size - 1], 1) + np.diag(beside[: size - 1], -1)
    return tridiagonal, np.stack(basis[:size])
