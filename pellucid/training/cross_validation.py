"""Cross-validation of a run on a table too small for one split: the same training on each fold (floor 10).

The network of the run stays the one of the usual split. The folds only say how well such a training does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from ..data.problem import DataModule
from ..errors import DataError, NonFiniteError
from ..evaluation.evaluator import EvaluationResult
from ..evaluation.folds import fold_scores
from ..runs.records import FoldScores
from .loop import fit

Start = Callable[[DataModule], Any]  # a TrainingSession on a fold, which writes nothing


def cross_validate(problem: DataModule, start: Start) -> tuple[FoldScores | None, list[str]]:
    """The scores over the folds of `problem`, None where it has none, and a note where a fold could not be learned."""
    if problem.folds is None:
        return None, []
    try:
        results = [_train(start(fold)) for fold in problem.folds()]
    except (DataError, NonFiniteError) as error:
        return None, [f"split: no folds, one could not be learned: {error}"[:110]]
    return fold_scores([result.metrics for result in results], [result.baselines for result in results]), []


def _train(training: Any) -> EvaluationResult:
    """Train to the end on a fold and score its test rows."""
    learner, settings, evaluator = training.learner, training.settings, training.evaluator
    with learner.state.drawing():
        for _ in fit(
            learner,
            training._validate,
            epochs=settings.epochs,
            patience=settings.patience,
            is_better=evaluator.is_better,
        ):
            pass
        training.restore_best()
        changes, _ = evaluator.calibrate()
        training.run.config = dataclasses.replace(training.run.config, **changes)
        result: EvaluationResult = evaluator.test()
    return result
