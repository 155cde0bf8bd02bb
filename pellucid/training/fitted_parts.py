"""Parts of a network that are fitted rather than trained: before its first step, and after its last (floor 10).

A family with such a part has a line in both functions; `session.py` knows none.
"""

from __future__ import annotations

from ..data.problem import DataModule
from ..evaluation.evaluator import Evaluator, PredictionEvaluator
from ..models.bagged_mlp import BaggedMLP
from ..models.base import Model
from ..models.lstm import RecurrentForecaster
from .bagging import choose_mix
from .linear_forecast import choose_share, fit_linear_forecast

STARTED = "linear: no step made the held-out answers better, so the answer is that of the linear start alone"


def fit_before(network: Model, problem: DataModule, begins: bool) -> list[str]:
    """Fit what training begins with; notes on it. begins: whether training does, rather than going on from a checkpoint."""
    if isinstance(network, RecurrentForecaster) and network.linear is not None:
        # For weights of another run too: its lines are of other data. A run taken up again has its own in the checkpoint.
        return fit_linear_forecast(network, problem)
    if isinstance(network, BaggedMLP) and begins:
        from .linear_start import bound_rates, fit_linear_start  # scikit-learn takes a second to import

        bound_rates(network, problem.examples("train"))
        fit_linear_start(network, problem.examples("train"), problem.examples("validation"))
    return []


def choose_after(network: Model, problem: DataModule, evaluator: Evaluator, best_epoch: int) -> list[str]:
    """Choose on the validation part what the answers of a network with its final weights are mixed with; notes on it."""
    if isinstance(network, BaggedMLP):
        notes = choose_mix(network, problem.examples("validation"), evaluator.settings.eager)
        return [STARTED] if notes and best_epoch == 0 else notes
    if isinstance(network, RecurrentForecaster) and network.linear is not None:
        assert isinstance(evaluator, PredictionEvaluator)
        return choose_share(network, evaluator.forward, problem.examples("validation"))
    return []
