"""The formula of a loss, written out in the numbers of one example (floor 6)."""

from __future__ import annotations

import math

import numpy as np

from ..tensor import Tensor

MOST_TERMS = 3  # of a sum that are written out


def loss_formula(output: Tensor, target: Tensor | None, loss: float) -> str:
    """What the loss of an answer (1, K) or (1,) is in numbers: the first known formula whose value it is.

    A class absent from the sum, or another loss, is told without a formula.
    """
    o = output.detach().numpy().astype(np.float64).reshape(-1)
    t = None if target is None else target.detach().numpy().reshape(-1)
    if t is not None:
        for value, words in _formulas(o, t, target is not None and target.dtype.kind in "iu"):
            if math.isclose(value, loss, rel_tol=1e-9, abs_tol=1e-12):
                return f"{words} = {loss:.6g}"
    return f"the loss of the network's {len(o)} output{'s' if len(o) > 1 else ''} = {loss:.6g}"


def _formulas(o: np.ndarray, t: np.ndarray, classes: bool) -> list[tuple[float, str]]:
    """(value, words) of the losses that fit: of a class among K scores, or of numbers."""
    found: list[tuple[float, str]] = []
    with np.errstate(all="ignore"):
        if classes and t.size == 1 and 0 <= int(t[0]) < o.size > 1:
            right = int(t[0])
            total = np.exp(o - o.max()).sum()
            p = float(np.exp(o[right] - o.max()) / total)
            others = [k for k in np.argsort(-o) if k != right][: MOST_TERMS - 1]
            terms = " + ".join(f"e^{o[k]:.4g}" for k in (right, *others))
            more = " + ..." if o.size > MOST_TERMS else ""
            if not math.isclose(float(np.exp(o).sum()), 1, rel_tol=1e-9):
                value = float(o.max() + math.log(total) - o[right])
                found.append((value, f"class {right}: -log(e^{o[right]:.4g} / ({terms}{more})) = -log({p:.6g})"))
            found.append(
                (float(-o[right]), f"class {right}: -log p = -({o[right]:.6g}), p = {math.exp(min(o[right], 0)):.6g}")
            )
        if t.size == o.size:
            t = t.astype(np.float64)
            away = o - t
            found.append(
                (float((away**2).mean()), _mean([f"({a:.6g} - {b:.6g})^2" for a, b in zip(o, t, strict=True)]))
            )
            found.append((float((np.exp(o) - t * o).mean()), f"e^{o[0]:.6g} - {t[0]:.6g} * {o[0]:.6g}"))
            cross = np.logaddexp(0, o) - t * o
            s = 1 / (1 + np.exp(-o))
            found.append(
                (
                    float(cross.mean()),
                    _mean([f"-log({a if b > 0.5 else 1 - a:.6g})" for a, b in zip(s, t, strict=True)]),
                )
            )
        if o.size == 1:
            found.append((float(np.logaddexp(0, -o[0])), f"log(1 + e^-({o[0]:.6g}))"))
            found.append((max(1 - float(o[0]), 0.0), f"1 - {o[0]:.6g}, at least 0"))
            found.append((float(-o[0]), f"-({o[0]:.6g})"))
            found.append((float(o[0]), f"{o[0]:.6g}, the answer itself"))
    return found


def _mean(terms: list[str]) -> str:
    """The mean of terms, the first of them written out."""
    if len(terms) == 1:
        return terms[0]
    return f"({' + '.join(terms[:MOST_TERMS])}{' + ...' if len(terms) > MOST_TERMS else ''}) / {len(terms)}"
