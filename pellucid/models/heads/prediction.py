"""Prediction heads: classes, labels, numbers, counts and quantiles, with their losses (floor 5).

Shapes: B batch, K classes, L labels, Q quantiles.
"""

from __future__ import annotations

from ... import functional as F
from ...grad_mode import no_grad
from ...ops.index import take
from ...tensor import Tensor
from ..base import Model, StepOutput

NUMERIC = ("regression", "counts")  # tasks whose one output is a number (B,)


class PredictionModel(Model):
    """A network that answers. What `forward(*inputs)` gives depends on the task.

    "classification": logits (B, K).      "multilabel": a logit for each label (B, L), which are independent.
    "regression": numbers (B,), or (B, Q) where `levels` names Q quantiles.      "counts": the logarithm of a rate (B,).
    A batch ends with the target, and with the weights of the rows (B,) where `weighted_rows` says so.
    """

    task = "classification"
    label_smoothing = 0.0  # share of a class label spread over all classes in training (Szegedy et al. 2015)
    levels: tuple[float, ...] = ()  # of the quantiles that are predicted, each above 0 and below 1
    class_weight: Tensor | None = None  # (K,) factor of each class in the loss
    weighted_rows = False
    gives_log_probabilities = False  # whether logits are log-probabilities, up to a constant

    def answer(self, *inputs: Tensor) -> Tensor:
        """The output; log-probabilities as logits whose mean is 0, as those of a class that is sure hardly move."""
        y: Tensor = self(*inputs)
        return y - y.mean(-1, keepdim=True) if self.gives_log_probabilities and self.task == "classification" else y

    def loss(self, output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The number to minimize (): the mean of `losses`, each times the weights of its class and its row (B,)."""
        if weight is None and self.class_weight is None:
            return self.losses(output, target, "mean")
        losses = self.weighted_losses(output, target)
        return (losses if weight is None else losses * weight).mean()

    def weighted_losses(self, output: Tensor, target: Tensor) -> Tensor:
        """`losses` times the weights of the classes. (B,)"""
        losses = self.losses(output, target)
        if self.class_weight is None:
            return losses
        shares = target.dtype.kind == "f"  # each row's share in each class (B, K), of mixed images
        return losses * (target @ self.class_weight if shares else take(self.class_weight, target))

    def losses(self, output: Tensor, target: Tensor, reduction: str = "none") -> Tensor:
        """The loss of each row (B,), or with "mean" their mean ().

        Cross-entropy with classes (B,); with labels (B, L), its mean over the labels; squared error; pinball loss of the
        quantiles (Koenker & Bassett 1978), summed over them; negative log-likelihood of a Poisson rate, up to a constant.
        """
        if self.task == "multilabel":
            losses = F.binary_cross_entropy_with_logits(output, target, reduction="none").mean(1)
        elif self.task == "counts":
            losses = output.exp() - target * output
        elif self.levels:
            over = [target - output[:, i] for i in range(len(self.levels))]  # (B,) each, how far above the quantile
            parts = [y * level + (-y).clamp(min=0) for y, level in zip(over, self.levels, strict=True)]
            losses = sum(parts[1:], parts[0])
        elif self.task == "regression":
            return F.mse_loss(output, target, reduction=reduction)
        else:
            smoothing = self.label_smoothing if self.training else 0.0
            return F.cross_entropy(output, target, reduction=reduction, label_smoothing=smoothing)
        return losses.mean() if reduction == "mean" else losses

    def training_step(self, *batch: Tensor) -> StepOutput:
        inputs, target, weight = self.parts(batch)
        output = self(*inputs)
        values = {"loss": self.loss(output, target, weight)}
        if self.task == "classification":
            with no_grad():
                values["accuracy"] = (output.detach().argmax(1) == target).float().mean()
        return values

    def evaluation_step(self, *batch: Tensor) -> StepOutput:
        inputs, target, weight = self.parts(batch)
        output = self(*inputs)
        values = {"loss": self.weighted_losses(output, target)}
        if self.task == "classification":
            values["accuracy"] = (output.argmax(1) == target).float()
        if weight is None:
            return values
        return {**{name: value * weight for name, value in values.items()}, "count": weight}

    def parts(self, batch: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor, Tensor | None]:
        """The inputs, the target, and the weights of the rows where there are some."""
        return (batch[:-2], batch[-2], batch[-1]) if self.weighted_rows else (batch[:-1], batch[-1], None)
