"""A linear forecast of series as a frozen layer: the mean of seasonal autoregressions (floor 5).

The mean of linear models is a linear model, so the layer holds two lines: the mean of those of the value, and the mean of those
of its logarithm. What is fitted to the change from step to step is a line of the values too, whose weights add up to 1.
`training/linear_forecast.py` fits them.

Shapes: B batch, T steps of a window, F features, the target's own past first.
"""

from __future__ import annotations

import numpy as np

from ... import nn
from ...creation import tensor, zeros
from ...tensor import Parameter, Tensor


class WindowLine(nn.Module):
    """A linear function of a window: its past values (B, T), and what the last step says of the next (B, F - 1) -> (B,).

    past: (T,) weights, that of the last step last.      ahead: (F - 1,) weights of the other features of the last step.
    """

    def __init__(self, steps: int, features: int) -> None:
        super().__init__()
        self.past = Parameter(zeros(steps), requires_grad=False)
        self.ahead = Parameter(zeros(features - 1), requires_grad=False) if features > 1 else None
        self.bias = Parameter(zeros(()), requires_grad=False)

    def forward(self, past: Tensor, ahead: Tensor | None) -> Tensor:
        y = past @ self.past + self.bias  # (B,)
        return y if self.ahead is None or ahead is None else y + ahead @ self.ahead

    def set(self, past: np.ndarray, ahead: np.ndarray, bias: float) -> None:
        """Give the line its weights."""
        for own, found in ((self.past, past), (self.ahead, ahead), (self.bias, np.array(bias))):
            if own is not None:
                own.assign(tensor(found.astype(np.float32)))


class LinearForecast(nn.Module):
    """Windows (B, T, F) -> the standardised step after each, (B,): `value`, and for a share `log_share` exp(`logarithm`).

    zero: what 0 in the target's own units is when standardised.      least: values nearer to it than this, or below, count as
    so near when their logarithm is taken.      lowest, highest: limits of a predicted logarithm.
    """

    def __init__(self, steps: int, features: int) -> None:
        super().__init__()
        self.value = WindowLine(steps, features)
        self.logarithm = WindowLine(steps, features)
        for name, start in (("log_share", 0.0), ("zero", 0.0), ("least", 1.0), ("lowest", 0.0), ("highest", 0.0)):
            self.register_buffer(name, tensor(np.float32(start)))

    def forward(self, series: Tensor) -> Tensor:
        past = series[:, :, 0]  # (B, T)
        ahead = series[:, -1, 1:] if series.shape[2] > 1 else None  # (B, F - 1)
        logs = (past - self.zero).maximum(self.least).log()  # (B, T)
        from_logs = self.logarithm(logs, ahead).maximum(self.lowest).minimum(self.highest).exp() + self.zero  # (B,)
        return (1 - self.log_share) * self.value(past, ahead) + self.log_share * from_logs
