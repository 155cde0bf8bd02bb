"""`blame(question)`: which weights, units, heads or layers made an answer wrong (floor 6).

The effect of a part is what the loss would be with it set to zero, minus the loss: below zero for one to blame. It is measured
by doing so (ablation). Where that takes too long for all of them, they are ranked by the first order of it, -g w for a weight and
-g a for a unit (Molchanov et al. 2017, arXiv 1611.06440; 2019, arXiv 1906.10771), and the first ones are measured.

    >>> print(blame(Question.of(network, x[:1], 3)))
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ..errors import NonFiniteError, OptionError, suggestion
from ..functional import one_hot
from ..tensor import Tensor
from .ablation import Measure, Observed, observe
from .parts import PARTS, Found, Group
from .question import Question
from .ranks import spearman
from .result import Check, Result, Table
from .twin import twin

Of = Literal["weights", "units", "heads", "layers"]
LEAST = 0.9  # rank correlation of the first order with ablation, below which it is not trusted
SHOWN_LAYERS = 4


@dataclass(frozen=True)
class Part:
    """One part of a network. effect: measured, None where it was not. estimate: the first order, None where there is none.

    value: of a weight, or of a unit with one position. done: what was done to measure it.
    """

    name: str
    layer: str
    effect: float | None
    estimate: float | None
    value: float | None = None
    done: str = "set to 0"


@dataclass(frozen=True)
class Share:
    """A layer: how many parts, and the sums of the effects of those that are to blame and those that are not."""

    layer: str
    parts: int
    lowers: float
    raises: float
    share: float


@dataclass(frozen=True)
class Blame(Result):
    """What an answer, or the mean over several, would lose without each part.

    value: the loss or margin now.      rows: the parts to blame first.      against: those without which it would be worse, the
    worst first.      layers: sums of single effects, estimates where nothing was measured.      parts, measured: how many.
    rank_agreement: Spearman's of the first order with ablation; None where there is no first order.
    about: the example in words.
    """

    of: str
    measure: str
    method: str
    examples: int
    value: float
    rows: tuple[Part, ...]
    against: tuple[Part, ...]
    layers: tuple[Share, ...]
    parts: int
    measured: int
    rank_agreement: float | None
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = field(default=(), repr=False)
    about: str = ""

    def headline(self) -> str:
        what = f"the {self.measure} is {self.value:.4g}"
        if self.examples > 1:
            what = f"the mean {self.measure} over {self.examples} answers is {self.value:.4g}"
        start = f"{self.about}: {what}." if self.about else f"{what[0].upper()}{what[1:]}."
        first = self.rows[0] if self.rows else None
        if first is None or first.effect is None or first.effect >= 0:
            return f"{start} No measured part would lower it by being left out."
        return f"{start} Without {first.name} it would be {-first.effect:.3g} lower."

    def tables(self) -> Sequence[Table]:
        one, title = self.of[:-1], f"{self.of.capitalize()} to blame (the {self.measure} without it, minus now)"
        if self.of in ("weights", "units"):
            rows = [(row.name, row.value, row.estimate, row.effect) for row in self.rows]
            first = Table(title, (one, "value", "first order", "measured"), rows)
        else:
            first = Table(title, (one, "measured", "done"), [(r.name, r.effect, r.done) for r in self.rows])
        if len(self.layers) < 2 or self.of == "layers":
            return [first]
        shares = sorted(self.layers, key=lambda one: -one.share)[:SHOWN_LAYERS]
        cells = [(s.layer, s.parts, s.lowers, s.raises, f"{100 * s.share:.1f}%") for s in shares]
        return [first, Table("Single effects added up", ("layer", self.of, "to blame", "against", "share"), cells)]

    def remarks(self) -> Sequence[str]:
        return self.notes


def blame(
    question: Question | Sequence[Question],
    of: Of = "weights",
    top: int = 20,
    measure: Literal["loss", "margin"] = "loss",
    method: Literal["auto", "gradient", "exact"] = "auto",
) -> Blame:
    """The `top` parts of a network without which the answer would be less wrong, the first one first.

    question: one, or several to one network, whose mean effect is taken.
    measure: "loss", or "margin", by how much the best wrong score is above the right one.
    method: "exact" measures every part; "gradient" ranks by the first order and measures the first ones; "auto" is exact where
    that takes about a second. Heads and layers are always measured.
    Raises NonFiniteError for a loss that is not finite; OptionError for an unknown word, a right answer that is not known, and a network without such parts.
    """
    for name, value, choices in (
        ("of", of, tuple(PARTS)), ("measure", measure, tuple(MEASURES)), ("method", method, ("auto", "gradient", "exact")),
    ):  # fmt: skip
        if value not in choices:
            raise OptionError(
                f"blame: {name}={value!r}; expected one of {', '.join(choices)}.{suggestion(value, choices)}"
            )
    asked = _twins([question] if isinstance(question, Question) else list(question))
    said = MEASURES[measure]
    runs = [observe(one, said) for one in asked]
    if not all(math.isfinite(run.value) for run in runs):
        bad = next(run.value for run in runs if not math.isfinite(run.value))
        raise NonFiniteError(
            f"blame: the {measure} of this answer is {bad}; expected a finite number; look for NaN in the inputs and the weights, "
            "or train again with a lower learning rate"
        )
    found = PARTS[of](runs, said, method, top)
    return _result(found, runs, of, measure, top)


def _twins(questions: list[Question]) -> list[Question]:
    """The questions, to one twin of their network. Raises OptionError for none, and for two networks."""
    if not questions or any(one.network is not questions[0].network for one in questions):
        raise OptionError(f"blame: {len(questions)} questions; expected one or more, to one network; ask them in turn")
    first = twin(questions[0])
    if first is questions[0]:
        return questions
    others = []
    for one in questions[1:]:
        lifted = [value.double() if value.dtype.kind == "f" else value for value in one.inputs]
        target = one.target.double() if one.target is not None and one.target.dtype.kind == "f" else one.target
        others.append(dataclasses.replace(first, inputs=tuple(lifted), target=target))
    return [first, *others]


def loss(question: Question, output: Tensor) -> Tensor:
    """(B,): the loss of each answer."""
    return question.loss(output)


def margin(question: Question, output: Tensor) -> Tensor:
    """(B,): the best wrong score minus the right one. Raises OptionError where the answer is not a class."""
    target = question.target
    if target is None or target.ndim != 1 or target.dtype.kind not in "iu" or output.ndim != 2 or output.shape[1] < 2:
        raise OptionError(
            'measure: "margin" needs the right class among two or more; expected an answer in classes; write measure="loss"'
        )
    right = one_hot(target.long(), output.shape[1]) == 1  # (B, K)
    wrong = output.masked_fill(right, -np.inf).max(1).values
    return wrong - output.masked_fill(~right, 0).sum(1)


MEASURES: dict[str, Measure] = {"loss": loss, "margin": margin}


def _result(found: Found, runs: list[Observed], of: str, measure: str, top: int) -> Blame:
    groups = found.groups
    effect = np.concatenate([group.effect for group in groups])
    measured = np.flatnonzero(np.concatenate([group.measured for group in groups]))
    order = measured[np.argsort(effect[measured], kind="stable")]
    rows = [_part(groups, k) for k in order[:top].tolist()]
    against = [_part(groups, k) for k in order[::-1][:top].tolist() if effect[k] > 0]
    agreement, check = _agreement(found, effect, of)
    return Blame(
        of=of,
        measure=measure,
        method=found.method,
        examples=len(runs),
        value=float(np.mean([run.value for run in runs])),
        rows=tuple(rows),
        against=tuple(against),
        layers=tuple(_shares(groups)),
        parts=len(effect),
        measured=len(measured),
        rank_agreement=agreement,
        checks=(*check, *found.checks),
        notes=(_method_note(len(measured), len(effect), of), *found.notes),
    )


def _method_note(measured: int, parts: int, of: str) -> str:
    if measured == parts:
        return f"All {parts:,} {of} were measured, each by leaving it out."
    return f"{measured:,} of {parts:,} {of} were measured: the first of the first order and a sample; all rows are."


def _part(groups: list[Group], k: int) -> Part:
    for group in groups:
        if k < len(group.effect):
            estimate = None if group.estimate is None else float(group.estimate[k])
            value = None if group.value is None else float(group.value[k])
            return Part(group.name(k), group.layer, float(group.effect[k]), estimate, value, group.done(k))
        k -= len(group.effect)
    raise IndexError(k)


def _shares(groups: list[Group]) -> list[Share]:
    """Of each group the sums below and above zero: effects where all were measured, else the first order."""
    sums = []
    for group in groups:
        numbers = group.effect if group.estimate is None or group.measured.all() else group.estimate
        numbers = numbers[np.isfinite(numbers)]
        sums.append((group, float(numbers[numbers < 0].sum()), float(numbers[numbers > 0].sum())))
    whole = sum(high - low for _, low, high in sums) or 1.0
    return [Share(group.layer, len(group.effect), low, high, (high - low) / whole) for group, low, high in sums]


def _agreement(found: Found, effect: np.ndarray, of: str) -> tuple[float | None, tuple[Check, ...]]:
    """How well the first order ranks the parts of the sample whose removal changes anything; beside it two shorter ways."""
    groups = found.groups
    if any(group.estimate is None or group.size is None for group in groups):
        return None, ()
    estimate = np.concatenate([group.estimate for group in groups if group.estimate is not None])
    size = np.concatenate([group.size for group in groups if group.size is not None])
    value = np.concatenate([abs(group.value) for group in groups if group.value is not None])
    sample = found.sample[np.isfinite(effect[found.sample]) & (effect[found.sample] != 0)]
    if len(sample) < 4:
        return None, (Check("first order", "open", f"{len(sample)} parts have an effect, too few to compare"),)
    rank = spearman(estimate[sample], effect[sample])
    shorter = [spearman(other[sample], abs(effect[sample])) for other in (size, value)]
    said = f"Spearman {rank:.3f}, n {len(sample):,}, least {LEAST}"
    control = f"|gradient| {shorter[0]:.2f}, {'|weight|' if of == 'weights' else '|output|'} {shorter[1]:.2f}"
    return rank, (Check("first order", "measured", said, rank >= LEAST, control),)
