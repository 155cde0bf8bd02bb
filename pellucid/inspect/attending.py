"""`attending(question)`: where every head looks, what it is worth, and what the network says block by block (floor 6).

A map alone is suggestive: beside each stands what the loss becomes without the head.

Shapes: H heads, T queries, S values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import OptionError
from ..files import Json
from ..models.heads.language import LanguageModel
from ..tensor import Tensor
from .attention import maps_of, rollout, with_heads
from .head_ablation import HeadAblation, finite, head_ablation, no_attention
from .induction import InductionHeads, induction_heads
from .logit_lens import LogitLens, logit_lens
from .question import Question
from .result import Check, Result, Table

MOST_ROWS = 10  # heads in the table
TOLERANCE = 1e-5  # of the sum of a row


@dataclass(frozen=True)
class Attending(Result):
    """maps: (H, T, S) of each layer by path.      rollout: (T, T); None where positions change from layer to layer.

    ablation: of every head, on `measured`.      induction, lens: None where the network is not one of tokens, or says why in `notes`.
    spelled: the tokens as text, where the inputs are tokens; neither in `to_dict` nor on a page unless asked for.
    """

    maps: dict[str, np.ndarray]
    rollout: np.ndarray | None
    ablation: HeadAblation
    measured: str
    induction: InductionHeads | None = None
    lens: LogitLens | None = None
    notes: tuple[str, ...] = ()
    spelled: tuple[str, ...] = field(default=(), repr=False)

    def headline(self) -> str:
        first = self.ablation.headline()
        return f"{first} {self.induction.headline()}" if self.induction is not None else first

    def tables(self) -> Sequence[Table]:
        copies = {} if self.induction is None else {(s.layer, s.head): s.induction for s in self.induction.scores}
        rows = []
        for e in sorted(self.ablation.effects, key=lambda e: -abs(e.zero))[:MOST_ROWS]:
            places = looks_at(self.maps[e.layer][e.head])
            effect = (e.zero, finite(e.zero_error), e.mean)
            rows.append((e.layer, e.head, *places, *effect, *([copies[e.layer, e.head]] if copies else [])))
        head = (
            "layer",
            "head",
            "itself",
            "before",
            "first",
            "loss without",
            "+-",
            "by its mean",
            *(["induction"] if copies else []),
        )
        more = (
            f"; the {MOST_ROWS} strongest of {len(self.ablation.effects)}"
            if len(rows) < len(self.ablation.effects)
            else ""
        )
        a = self.ablation
        title = f"Where each head looks, and the rise of the loss ({a.loss:.3f}) without it on {self.measured}, {a.n} {a.unit}{more}"
        return [Table(title, head, rows), *(self.lens.tables() if self.lens is not None else ())]

    @property
    def checks(self) -> Sequence[Check]:  # type: ignore[override]
        rows = max(float(np.abs(w.sum(-1) - 1).max()) for w in self.maps.values())
        columns = max(float(np.abs(w.sum(-2) - 1).max()) for w in self.maps.values())
        sums = Check(
            "rows of the maps",
            "proven",
            f"sum to 1 within {rows:.1g}",
            rows <= TOLERANCE,
            f"columns are off by {columns:.2g}",
        )
        parts = [part for part in (self.ablation, self.induction, self.lens) if part is not None]
        return [sums, *(check for part in parts for check in part.checks)]

    def remarks(self) -> Sequence[str]:
        return (
            "A map alone is suggestive: a head may look without its result mattering.",
            *self.ablation.remarks(),
            *self.notes,
        )

    def to_dict(self) -> dict[str, Json]:
        """All numbers. What the text of the data would show, its tokens and the likeliest ones, is left out."""
        numbers = super().to_dict()
        numbers.pop("spelled")
        if isinstance(lens := numbers["lens"], dict):
            lens.pop("said")
        return numbers


def looks_at(weights: np.ndarray) -> tuple[float, float, float]:
    """Of a map (T, S), the mean weight on the position itself, the one before, and the first; over queries that have one before."""
    queries = np.arange(1, min(weights.shape))
    if not len(queries):
        return (float(weights[0, 0]), 0.0, float(weights[0, 0]))
    return tuple(float(weights[queries, at].mean()) for at in (queries, queries - 1, queries * 0))  # type: ignore[return-value]


def attending(
    question: Question,
    measured_on: tuple[tuple[Any, ...], Any] | None = None,
    measured: str = "this example",
    spelled: Sequence[str] = (),
) -> Attending:
    """Maps of the example of `question`, the ablation of every head, and of a language model its induction heads and lens.

    measured_on: inputs and right answers of many examples, on which heads are left out; by default the example itself.
    Raises OptionError for a network without attention.
    """
    network, inputs = question.network, question.inputs
    try:
        found = maps_of(network, lambda: question.forward(*inputs))
    except OptionError:
        raise no_attention(network) from None
    maps = {path: with_heads(value.numpy()) for path, value in found.items()}
    language = isinstance(network, LanguageModel)
    if measured_on is None:
        target = None if language and inputs[0].shape[1] > 1 else question.target
        measured_on = (inputs, target)
    if (
        language and measured_on[1] is not None and np.ndim(_array(measured_on[1])) == 1
    ):  # one token: its target stands last
        measured_on = (measured_on[0], _array(measured_on[1])[:, None])
    given, right = measured_on
    losses = None if question.losses is getattr(network, "losses", None) else question.losses
    ablation = head_ablation(network, *given, target=right, losses=losses if not language else None)
    notes: list[str] = []
    induction = _or_note(notes, lambda: induction_heads(network)) if language else None
    lens = _or_note(notes, lambda: logit_lens(network, *inputs)) if language else None
    whole = _or_note(notes, lambda: rollout(maps)[0])
    return Attending(
        {path: value[0] for path, value in maps.items()}, whole, ablation, measured, induction, lens, tuple(notes),
        tuple(spelled),
    )  # fmt: skip


def _array(value: Any) -> np.ndarray:
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)


def _or_note(notes: list[str], make: Any) -> Any:
    """What `make` gives, or None and a note why not."""
    try:
        return make()
    except OptionError as error:
        notes.append(str(error))
        return None
