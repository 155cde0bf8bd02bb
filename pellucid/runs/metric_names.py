"""The scores that `--metric` asks for: which way is better, and for which task each is (floor 6).

`evaluation/scoring.py` computes them.
"""

from __future__ import annotations

METRIC_TASKS: dict[str, tuple[str, ...]] = {
    "accuracy": ("classification",),
    "f1": ("classification", "multilabel"),
    "balanced_accuracy": ("classification",),
    "roc_auc": ("classification",),
    "pr_auc": ("classification",),
    "log_loss": ("classification", "multilabel"),
    "rmse": ("regression", "counts"),
    "mae": ("regression", "counts"),
    "deviance": ("counts",),
}
LOWER = {"log_loss", "rmse", "mae", "deviance", "nll_per_char", "frechet", "interval_width"}  # better where lower
DECIDED = {"accuracy", "f1", "balanced_accuracy"}  # scores of the class that is named, and so of a threshold
UNIT = {
    "accuracy",
    "f1",
    "f1_macro",
    "f1_micro",
    "balanced_accuracy",
    "roc_auc",
    "pr_auc",
    "exact",
    "coverage",
}  # 0 to 1


def higher_is_better(name: str) -> bool:
    return name not in LOWER
