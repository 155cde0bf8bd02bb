"""The training loop, on one page; it yields events and does nothing else (floor 10).

It knows no family, file or screen. Between two events no step is half done, and everything is known to be finite: the
caller may save a checkpoint there, show progress, or stop. A step is `Learner.step(batch) -> dict of Tensors`, without
`item()` inside, so that it is recorded and compiled as it stands; its "loss" is watched, its values are averaged over the
epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .learner import Learner
from .nonfinite import REPORT_EVERY, Pace, guarded_chunks


@dataclass(frozen=True)
class BatchDone:
    """After a chunk of steps: where training stands. `seen` of `examples` of this epoch; `loss` is its mean so far."""

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
    is_better: Callable[[dict[str, float], dict[str, float]], bool], report_every: float = REPORT_EVERY,
) -> Iterator[BatchDone | EpochDone]:  # fmt: skip
    """Train from where `learner` stands until `epochs` are done, or `patience` of them went by without a better one.

    validate: gives the validation values of `learner.eval_network`, with the averaged weights where there is an average.
    is_better: says whether its first argument, a result of `validate`, beats its second.
    report_every: seconds between two events, about; 0 for one after every step.
    Raises NonFiniteError, with the state before the step restored, once a loss or weight is NaN or infinite.
    """
    at, pace = learner.state.progress, Pace(report_every)
    if learner.network.starts_fitted and at.best is None:  # then no step at all may be the best
        with learner.judged():
            at.best = validate()
            learner.state.keep_best()
    learner.train_mode()
    while at.epoch < epochs and not (patience and at.waited >= patience):
        began, seen_before, seconds_before = time.perf_counter(), at.seen, at.seconds
        # A run taken up again may stand between the last batch of an epoch and its validation.
        picks = learner.loader.index_batches() if at.seen < learner.loader.examples else ()
        for _ in guarded_chunks(learner, picks, pace):
            at.seconds = seconds_before + time.perf_counter() - began
            yield BatchDone(at.epoch + 1, at.step, at.seen, learner.loader.examples, at.mean("loss"))
        rate = (at.seen - seen_before) / max(time.perf_counter() - began, 1e-9)
        with learner.judged():
            result = validate()
            improved = at.best is None or is_better(result, at.best)
            if improved:
                at.best, at.best_epoch, at.waited = result, at.epoch + 1, 0
                learner.state.keep_best()
            else:
                at.waited += 1
        seconds = seconds_before + time.perf_counter() - began
        train = at.close_epoch()
        yield EpochDone(at.epoch, at.step, train, result, improved, learner.state.lr, seconds, rate)
