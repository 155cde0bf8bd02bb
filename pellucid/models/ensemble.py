"""Ensembles: several networks of one family, each trained from a seed of its own, that answer together (floor 5).

Deep ensembles (Lakshminarayanan, Pritzel & Blundell 2017, arXiv 1612.01474). The answer is the mean of the members' answers:
of their probabilities, rates or numbers. How far the members differ tells how much of an answer depends on the seed.

Shapes: B batch, N members, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import functional as F
from .. import nn
from ..creation import stack
from ..errors import OptionError
from ..tensor import Tensor
from .base import Model
from .heads.prediction import PredictionModel


class Ensemble(PredictionModel):
    """The members as one network. `forward` gives what a member gives: logits (B, K), numbers (B,), logarithms of rates (B,).

    It is not trained: its members are, each alone. Their paths are `members.0`, `members.1`, ...
    """

    gives_log_probabilities = True

    def __init__(self, members: Sequence[PredictionModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        first = members[0]
        self.task, self.input_names, self.eval_batch_size = first.task, first.input_names, first.eval_batch_size

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._together(self.member_outputs(*inputs))

    def member_outputs(self, *inputs: Tensor) -> Tensor:
        """What each member gives, (B, N, ...)."""
        return stack([member(*inputs) for member in self.members], 1)

    def _together(self, y: Tensor) -> Tensor:
        """(B, N, ...) -> (B, ...): what stands for the mean of the members' probabilities, rates or numbers."""
        if self.task == "classification":
            return y.log_softmax(-1).logsumexp(1)  # up to a constant, which softmax does not see
        if self.task == "multilabel":
            return F.logsigmoid(y).logsumexp(1) - F.logsigmoid(-y).logsumexp(1)
        return y.logsumexp(1) - math.log(len(self.members)) if self.task == "counts" else y.mean(1)


def ensemble(members: Sequence[Model], family: str) -> Ensemble:
    """`members` as one network. Raises OptionError where they are networks that do not answer: that write or draw."""
    answering = [member for member in members if isinstance(member, PredictionModel)]
    if len(answering) < len(members):
        raise OptionError(
            f"ensemble: {len(members)} networks whose mean is the answer, and this {family} writes or draws; expected a network that predicts "
            "a class or a number, such as an mlp; leave it out"
        )
    return Ensemble(answering)
