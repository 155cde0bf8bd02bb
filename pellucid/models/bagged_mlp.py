"""Bagged MLPs for tables: M networks in one, each taught by all rows but its own fold (floor 5).

Each row belongs to a fold. A network of fold f learns from the rows outside it and is judged on those inside (k-fold bagging, as
in AutoGluon, Erickson et al. 2020, arXiv 2003.06505). So all rows teach and all rows validate. Each fold has the same number of
networks, its members, which differ in how they began. The weights of the M networks have a leading axis: one program trains them,
one file holds them, and a row is answered by their mean.

    arrays -> embeddings (M, B, *) -> layers (M, B, K) --(+)--> probabilities -> mean over M --(mix)--> temperature -> (B, K)
        \\---> linear_start (M, B, K) ---------------------/  \\---> those of the linear models alone -/

`linear_start` holds a linear model of each network's rows, which `training/linear_start.py` fits beforehand. The last layer
begins at zero, so that before the first step the answer is the linear model's, and training may end there. Answers of counts stay
between `log_rates`, as the exponential of a line has no end.
`mix` and `temperature` are chosen after training, on the answers that each row got from the network without it.

Shapes: M networks (folds times members), B batch, K outputs, F numeric columns, Q quantile-scaled columns, C categorical columns.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import functional as F
from .. import nn
from ..creation import tensor, zeros
from ..data.input_spec import TableSpec
from ..grad_mode import no_grad
from ..ops.index import take
from ..tensor import Tensor
from .base import StepOutput
from .blocks.table_input import embedded, first_rows, input_names
from .heads.prediction import NUMERIC, PredictionModel

LEAST = 1e-30  # of a probability whose logarithm is taken; float32 has smaller ones
MOST_LOG_RATE = 80.0  # whose exponential float32 holds


class CategoryTerms(nn.Module):
    """The terms of a linear model for categories: a table (rows, K), indices (M, B, C) -> (M, B, C, K)."""

    looks_up = True  # see `inspect/entries.py`

    def forward(self, indices: Tensor, table: Tensor) -> Tensor:
        return take(table, indices)


class LinearStart(nn.Module):
    """Linear models of the networks' folds, fitted beforehand and not trained: arrays -> (M, B, K), logits or predictions.

    numbers: (M, F + Q, K), of the numbers as they are scaled, then of the straight ones. categories: (M, sum of
    cardinalities, K). bias: (M, K).
    """

    def __init__(self, inputs: TableSpec, outputs: int, networks: int) -> None:
        super().__init__()
        straight = len(inputs.straight)
        self.names = [name for name, count in (("numbers", inputs.numbers), ("straight", straight)) if count]
        self.cardinalities = list(inputs.categories)
        every = list(range(inputs.numbers))
        places = {column: inputs.numbers + q for q, column in enumerate(inputs.straight)}
        # Which of the F + Q numbers a model may read: as they are scaled, or in a line where they are scaled by quantiles.
        self.choices = [every, [places.get(column, column) for column in every]][: 1 + bool(straight)]
        self.register_buffer("numbers", zeros(networks, inputs.numbers + straight, outputs))
        self.register_buffer("categories", zeros(networks * sum(inputs.categories), outputs))
        self.register_buffer("first", tensor(first_rows(inputs.categories, (networks,))))  # (M, 1, C)
        self.register_buffer("bias", zeros(networks, outputs))
        self.terms = CategoryTerms()

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        y = self.bias.unsqueeze(1)  # (M, 1, K)
        at = 0
        for name in self.names:
            width = arrays[name].shape[1]
            y = y + arrays[name] @ self.numbers[:, at : at + width]
            at += width
        if self.cardinalities:
            y = y + self.terms(arrays["categories"] + self.first, self.categories).sum(2)
        return y


class BaggedMLP(PredictionModel):
    """The network. `forward` takes the arrays that the preprocessor encodes, and gives (B, K) as an MLP does.

    With one array more, the fold (B,) of each row, int64, the row is answered by the networks that did not learn it; training
    and validation rows come with theirs. Network m is of fold m % folds.
    embeddings: modules that give (M, B, *).      layers: (M, B, *) -> (M, B, K).      linear_start: see above, or None.
    bounded_rates: whether there are `log_rates`, the least and the largest logarithm of a rate that is answered (2,).
    """

    gives_log_probabilities = True

    def __init__(
        self,
        task: str,
        folds: int,
        members: int,
        embeddings: nn.ModuleDict,
        layers: nn.Sequential,
        linear_start: LinearStart | None,
        bounded_rates: bool = False,
    ) -> None:
        super().__init__()
        self.task, self.folds, self.members = task, folds, members
        self.embeddings, self.layers = embeddings, layers
        self.linear_start = linear_start
        self.starts_fitted = linear_start is not None
        names = input_names(embeddings)
        self.input_names = (
            names if linear_start is None else (*names, *(n for n in linear_start.names if n not in names))
        )
        self.register_buffer("fold_of", tensor((np.arange(folds * members) % folds)[:, None]))  # (M, 1)
        self.register_buffer("mix", tensor(np.float32(1)))  # the share of the network, against the linear models alone
        self.register_buffer("temperature", tensor(np.float32(1)))  # by which logits are divided
        widest = np.array([-MOST_LOG_RATE, MOST_LOG_RATE], np.float32)
        self.register_buffer("log_rates", tensor(widest) if bounded_rates and task == "counts" else None)

    def forward(self, *inputs: Tensor) -> Tensor:
        names = self.input_names
        fold = inputs[len(names)] if len(inputs) > len(names) else None
        outputs, line = self.fold_outputs(*inputs[: len(names)])
        answer = self._answer(self._natural(outputs), fold)
        if line is not None:
            answer = answer * self.mix + self._answer(self._natural(line), fold) * (1 - self.mix)
        y = self._raw(answer)  # (B, K)
        return y.squeeze(1) if self.task in NUMERIC else y

    def fold_outputs(self, *inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """The logits or predictions (M, B, K) of each network, and those of its linear model alone."""
        arrays = dict(zip(self.input_names, inputs, strict=True))
        outputs = self.layers(embedded(self.embeddings, arrays))
        if self.linear_start is None:
            return outputs, None
        line = self.linear_start(arrays)
        return outputs + line, line

    def _natural(self, outputs: Tensor) -> Tensor:
        """Logits as probabilities, logarithms of rates as rates; other numbers as they are. What may be averaged."""
        if self.task == "classification":
            return F.softmax(outputs, dim=-1)
        if self.task == "multilabel":
            return F.sigmoid(outputs)
        if self.task == "regression":
            return outputs
        if self.log_rates is not None:
            outputs = outputs.maximum(self.log_rates[0]).minimum(self.log_rates[1])
        return outputs.exp()

    def _raw(self, answer: Tensor) -> Tensor:
        """The inverse of `_natural`, tempered where it gives logits."""
        if self.task == "regression":
            return answer
        logarithm = answer.clamp(min=LEAST).log()
        if self.task == "multilabel":
            logarithm = logarithm - (1 - answer).clamp(min=LEAST).log()
        return logarithm if self.task == "counts" else logarithm / self.temperature

    def _answer(self, natural: Tensor, fold: Tensor | None) -> Tensor:
        """(M, B, K) -> (B, K): the mean of the networks, or of each row that of the networks without it."""
        if fold is None:
            return natural.mean(0)
        own = (fold == self.fold_of).to(natural.dtype) / self.members  # (M, B)
        return (natural * own.unsqueeze(-1)).sum(0)

    def training_step(self, *batch: Tensor) -> StepOutput:
        """The mean over the networks of the mean loss of the rows that each learns from."""
        _, target, weight = self.parts(batch)
        outputs, losses, learned = self._network_losses(*batch)
        share = learned / learned.sum(1, keepdim=True).clamp(min=1)
        if weight is not None:
            share = share * weight
        networks = self.folds * self.members
        values = {"loss": (losses * share).sum() / networks}
        if self.task == "classification":
            with no_grad():
                right = (outputs.detach().argmax(-1) == target).to(share.dtype)
                values["accuracy"] = (right * share).sum() / networks
        return values

    def learned_losses(self, *batch: Tensor) -> Tensor:
        """The sum over the networks that learn each row of its loss, (B,)."""
        weight = self.parts(batch)[2]
        _, losses, learned = self._network_losses(*batch)
        total = (losses * learned).sum(0)
        return total if weight is None else total * weight

    def _network_losses(self, *batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each network and row: outputs (M, B, K), losses (M, B), and 1 where it learns from the row, else 0 (M, B)."""
        inputs, target, _ = self.parts(batch)
        *arrays, fold = inputs
        outputs, _ = self.fold_outputs(*arrays)
        learned = (fold != self.fold_of).to(outputs.dtype)
        rows = outputs.squeeze(-1) if self.task in NUMERIC and not self.levels else outputs  # (M, B, *)
        networks = self.folds * self.members
        copies = target.expand(networks, *target.shape).flatten(0, 1)  # (M * B, *)
        return outputs, self.weighted_losses(rows.flatten(0, 1), copies).reshape(*learned.shape), learned
