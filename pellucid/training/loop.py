"""The training loop, on one page; it yields events and leaves everything else to who reads them (floor 6).

There is no family, file or screen in it. Between two events nothing is half done, and all is known to be finite: whoever
reads them may save a checkpoint there, show progress, or stop. A step is `Learner.step(batch) -> dict of Tensors`, without
`item()` inside, so that it is recorded and compiled as it stands; its "loss" is watched, its values are averaged over the
epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .learner import Learner
from .nonfinite import STRETCH, stretches


@dataclass(frozen=True)
class BatchDone:
    """After a stretch of steps: where training stands. `seen` of `examples` of this epoch; `loss` is its mean so far."""

    epoch: int
    step: int
    seen: int
    examples: int
    loss: float


@dataclass(frozen=True)
class EpochDone:
    """After each epoch: mean training values, validation values, whether this is the best epoch so far."""

    epoch: int
    step: int
    train: dict[str, float]
    validation: dict[str, float]
    improved: bool
    lr: float
    seconds: float
    examples_per_second: float


def fit(
    learner: Learner, validate: Callable[[], dict[str, float]], *, epochs: int, patience: int = 0,
    better: Callable[[dict[str, float], dict[str, float]], bool], stretch: float = STRETCH,
) -> Iterator[BatchDone | EpochDone]:  # fmt: skip
    """Train from where `learner` stands until `epochs` are done, or `patience` of them went by without a better one.

    validate: gives the validation values of `learner.judged`, with the averaged weights where there is an average.
    better: says whether its first argument, a result of `validate`, beats its second.
    stretch: seconds between two events, about; 0 for one after every step.
    Raises NonFiniteError, with the state before the step put back, once a loss or weight is NaN or infinite.
    """
    at = learner.progress
    learner.to_learning()
    while at.epoch < epochs and not (patience and at.waited >= patience):
        began, seen_before, seconds_before = time.perf_counter(), at.seen, at.seconds
        # A run taken up again may stand between the last batch of an epoch and its validation.
        picks = learner.loader.index_batches() if at.seen < learner.examples else ()
        for _ in stretches(learner, picks, stretch):
            at.seconds = seconds_before + time.perf_counter() - began
            yield BatchDone(at.epoch + 1, at.step, at.seen, learner.examples, at.mean("loss"))
        rate = (at.seen - seen_before) / max(time.perf_counter() - began, 1e-9)
        with learner.averaged():
            result = validate()
            improved = at.best is None or better(result, at.best)
            if improved:
                at.best, at.best_epoch, at.waited = result, at.epoch + 1, 0
                learner.keep_best()
            else:
                at.waited += 1
        seconds = seconds_before + time.perf_counter() - began
        train = at.close_epoch()
        yield EpochDone(at.epoch, at.step, train, result, improved, learner.lr, seconds, rate)
