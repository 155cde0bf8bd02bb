"""Ensembles on validation rows: how far the members differ, and how good their mean is beside each of them (floor 7).

Shapes: R rows, N members, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..data.problem import Preprocessor
from ..models.ensemble import Ensemble
from .compiled import Forward
from .evaluator import answers_of
from .formatting import short_name


class MemberAnswers:
    """What each member of an ensemble answers: arrays -> (N, R), (N, R, K) or (N, R, 3), as `answers_of` gives one's."""

    def __init__(self, network: Ensemble, preprocessor: Preprocessor, eager: bool = False) -> None:
        self.preprocessor = preprocessor
        self.forward = Forward(network, eager, network.member_outputs)

    def __call__(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        raw = self.forward(list(inputs))  # (R, N, ...)
        return np.stack([answers_of(raw[:, k], self.preprocessor, inputs) for k in range(raw.shape[1])])


def spread_of(answers: np.ndarray) -> np.ndarray:
    """The standard deviation over the members, of (N, ...) answers: (...), N - 1 degrees of freedom."""
    return np.asarray(answers.std(axis=0, ddof=1))


@dataclass(frozen=True)
class EnsembleScores:
    """An ensemble on the validation part.

    together: values of the mean, by name.      singly: those of each member.      spread: the mean over the rows of the
    standard deviation over the members, of the named class's probability or of the prediction.      disagreement: share of rows
    for which not all members name the same; None where numbers are predicted.
    """

    together: dict[str, float]
    singly: list[dict[str, float]]
    spread: float
    disagreement: float | None

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        names = [name for name in self.together if name != "loss" and all(name in one for one in self.singly)]
        parts = [self._beside(name) for name in [*names[:2], "loss"]]
        count = len(self.singly)
        differ = f"predictions of the {count} networks spread by {self.spread:.3g} on average"
        if self.disagreement is not None:
            differ = f"the {count} networks disagree on {100 * self.disagreement:.1f}% of the rows, their probabilities spread by {self.spread:.3g}"
        return f"ensemble: on validation {', '.join(parts)}; {differ}"

    def _beside(self, name: str) -> str:
        values = [one[name] for one in self.singly]
        text = lambda value: f"{100 * value:.1f}%" if name == "accuracy" else f"{value:.4g}"
        singly = f"each alone {text(min(values))} to {text(max(values))}"
        return f"{short_name(name)} {text(self.together[name])} ({singly})"


def ensemble_scores(
    together: Mapping[str, float],
    singly: Sequence[Mapping[str, float]],
    answers: np.ndarray,
    preprocessor: Preprocessor,
) -> EnsembleScores:
    """Compare what members (N, ...) answer for the same rows. together, singly: validation values."""
    spread, disagreement = spread_of(answers), None
    if preprocessor.task == "multilabel":
        disagreement = float(((answers > 0.5).any(0) != (answers > 0.5).all(0)).any(-1).mean())
    elif preprocessor.classes is not None:
        named, mean = answers.argmax(-1), answers.mean(0).argmax(-1)
        disagreement = float((named != named[0]).any(0).mean())
        spread = spread[np.arange(len(mean)), mean]
    elif preprocessor.interval is not None:
        spread = spread[:, 1]  # of the median
    return EnsembleScores(dict(together), [dict(one) for one in singly], float(spread.mean()), disagreement)
