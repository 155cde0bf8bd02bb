"""Prediction heads: classification and regression, with their losses (floor 5).

Shapes: B batch, K classes.
"""

from __future__ import annotations

from ... import functional as F
from ...grad_mode import no_grad
from ...tensor import Tensor
from ..base import Model, StepOutput


class PredictionModel(Model):
    """A classifier or regressor: `forward(*inputs)` gives logits (B, K), or numbers (B,) for a regression."""

    label_smoothing = 0.0  # share of a class label spread over all classes in training (Szegedy et al. 2015)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy of logits (B, K) with classes (B,), or mean squared error of (B,) against (B,); a scalar ()."""
        if output.ndim == 1:
            return F.mse_loss(output, target)
        return F.cross_entropy(output, target, label_smoothing=self.label_smoothing if self.training else 0.0)

    def training_step(self, *batch: Tensor) -> StepOutput:
        *inputs, target = batch
        output = self(*inputs)
        values = {"loss": self.loss(output, target)}
        if output.ndim > 1:
            with no_grad():
                values["accuracy"] = (output.detach().argmax(1) == target).float().mean()
        return values

    def evaluation_step(self, *batch: Tensor) -> StepOutput:
        *inputs, target = batch
        output = self(*inputs)
        if output.ndim == 1:
            return {"loss": F.mse_loss(output, target, reduction="none")}
        correct = (output.argmax(1) == target).float()
        return {"loss": F.cross_entropy(output, target, reduction="none"), "accuracy": correct}
