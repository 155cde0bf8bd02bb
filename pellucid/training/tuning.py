"""Tuning: random search with successive halving over the settings of a family (floor 10).

Successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943): all trials train for a few epochs, the best third of them goes
on for three times as many, and so on, until one is left and has done all of its epochs. Each trial is a run in the tuning's
folder. It is validated as any run is, on the validation part; the test part is read once, by the best trial, at the end.

    tuner = start_tuning(problem, plan)        or        tuner = resume_tuning(name)
    for event in tuner.events(): ...           events of the trials' trainings, and a TrialPaused where one has done its share
    for event in tuner.complete_best(): ...    the best one's last epochs, where time was up
    result = tuner.open_best().finish()

What is known lies in the folder: the plan in tuning.json, and of each trial what its run has logged.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.load import load_problem
from ..data.problem import DataModule
from ..errors import DataError, NonFiniteError, OptionError, suggestion
from ..evaluation.evaluator import Evaluator
from ..files import Json, disk_error, write_json, write_text
from ..runs import run as runs
from ..runs.records import EpochRecord
from ..runs.run import Run
from ..runs.schema import parse_json, read_record
from ..runs.settings import Setting, resolve_config
from ..runs.space import Draw, as_toml, sample
from . import session
from .loop import EpochDone

ETA = 3  # of so many trials one goes on
BRACKET = 9  # trials that are compared at once where their number is not given: shares 1/9, 1/3 and 1 of the epochs
STATE = "tuning.json"
BEST = "best.toml"


@dataclass(frozen=True)
class TuningPlan:
    """What is to be tuned, and what has become of it; plain values, saved in tuning.json.

    source: the arguments of `load_problem`.      values: settings of all trials, the recipe's among them.
    given: what best.toml has beside the drawn settings: options and settings that the user gave.
    space: how settings are drawn.      seed: of the draws.      trials, minutes: how many, how long; None without such a limit.
    seconds: spent so far.      failed: why, of trials that cannot go on, by number.      finished: whether the test part was read.
    """

    name: str
    family: str
    source: dict[str, Json]
    values: dict[str, Any]
    given: dict[str, Any]
    space: dict[str, Draw]
    seed: int = 0
    trials: int | None = None
    minutes: float | None = None
    seconds: float = 0.0
    failed: dict[str, str] = field(default_factory=dict)
    finished: bool = False


@dataclass(frozen=True)
class TrialPaused:
    """After a trial has done its share of the epochs, or has failed.

    rung: from 1, of `rungs`.      epochs: done so far, of `total`.      drawn: its settings.      validation: its best result.
    best: whether it is the best of those that came as far.      failed: why it cannot go on; "" where it can.
    """

    number: int
    rung: int
    rungs: int
    epochs: int
    total: int
    drawn: dict[str, Setting]
    validation: dict[str, float | None]
    best: bool
    failed: str = ""


def brackets(trials: int | None) -> Iterator[list[int]]:
    """The numbers of the trials that are compared with each other: all `trials` at once, or BRACKET after BRACKET without end."""
    if trials is not None:
        yield list(range(1, trials + 1))
        return
    for k in itertools.count():
        yield list(range(k * BRACKET + 1, (k + 1) * BRACKET + 1))


def rung_shares(trials: int) -> list[float]:
    """The shares of the epochs after which the best third of so many trials goes on; the last is 1."""
    rungs = 1
    while ETA**rungs <= trials:
        rungs += 1
    return [float(ETA) ** -k for k in reversed(range(rungs))]


def epochs_for(total: int, share: float) -> int:
    return max(1, round(total * share))


class Tuner:
    """A tuning: `events()` trains its trials, `complete_best()` the last epochs of the best, and `finish()` tests it.

    current: the training at work.      evaluator: of some trial; it says which of two results is better.
    reserve: seconds that the last epochs of the best trial take; None before there is one.
    """

    def __init__(self, folder: Path, plan: TuningPlan, problem: DataModule) -> None:
        self.folder, self.plan, self.problem = folder, plan, problem
        self.current: session.TrainingSession | None = None
        self.evaluator: Evaluator | None = None
        self.began = time.monotonic()
        self.reserve: float | None = None

    @property
    def name(self) -> str:
        """What a user types to name this tuning."""
        inside = self.folder.parent.resolve() == runs.RUNS_DIR.resolve()
        return self.folder.name if inside else str(self.folder)

    # ---- the search ----------------------------------------------------------------------------------------------

    def events(self) -> Iterator[session.Event | TrialPaused]:
        """Train trials, until as many are done as were asked for, or no time is left but for the best one's last epochs.

        The first does its share however long that takes.
        """
        self.save()
        for numbers in brackets(self.plan.trials):
            shares = rung_shares(len(numbers))
            for rung, share in enumerate(shares, 1):
                for number in numbers:
                    if self.is_late():
                        return
                    yield from self._train(number, share, rung, len(shares))
                numbers = self.ranked(numbers, share)[: max(1, len(numbers) // ETA)]

    def complete_best(self) -> Iterator[session.Event | TrialPaused]:
        """Train the last epochs of the best trial, where time was up before them.

        Raises NonFiniteError where no trial could be trained.
        """
        best = self.best()
        if best is None:
            why = next(iter(self.plan.failed.values()), "none was begun")
            raise NonFiniteError(f"{self.name}: no trial could be trained; the first one: {why}")
        yield from self._train(best, 1.0, 1, 1, to_the_end=True)

    def _train(
        self, number: int, share: float, rung: int, rungs: int, to_the_end: bool = False
    ) -> Iterator[session.Event | TrialPaused]:
        """Train a trial until it has done `share` of its epochs, or time is up."""
        if str(number) in self.plan.failed or self._has_done(number, share):
            return
        failed, late = "", False
        try:
            self.current = training = self._session(number)
            target = epochs_for(training.settings.epochs, share)
            for event in training.events():
                yield event
                if isinstance(event, EpochDone) and event.epoch >= target:
                    break
                late = not to_the_end and self.is_late()
                if late:
                    training.save()
                    break
        except NonFiniteError as error:
            failed = str(error)
        except OptionError as error:
            if number == 1:  # what ships, and what the user gave
                if not self.begun():
                    shutil.rmtree(self.folder, ignore_errors=True)
                raise
            failed = str(error)
        self._note(number, failed)
        if not late:
            yield self._paused(number, share, rung, rungs, failed)

    def _session(self, number: int) -> session.TrainingSession:
        """The training of a trial, begun or gone on with."""
        folder = self.trial_folder(number)
        problem = dataclasses.replace(self.problem, notes=list(self.problem.notes))
        if (folder / "config.json").exists():
            training = session.resume(runs.load_run(folder), problem)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # a kill may have left it empty
            values: dict[str, Any] = {**self.plan.values, **self.drawn(number)}
            training = session.start(problem, self.plan.family, values, folder)
        self.evaluator = self.evaluator or training.evaluator
        return training

    def _note(self, number: int, failed: str) -> None:
        """Save what has become of the trial at work."""
        self.current = None
        if failed:
            self.plan = dataclasses.replace(self.plan, failed={**self.plan.failed, str(number): failed})
        self._count_time()
        self.save()

    def _paused(self, number: int, share: float, rung: int, rungs: int, failed: str) -> TrialPaused:
        trial, record = self.run(number), self.result(number, share)
        alike = [other for other in self.begun() if self._has_done(other, share)]
        total = trial.config.settings.epochs if trial else 0
        return TrialPaused(
            number, rung, rungs, len(trial.history()) if trial else 0, total, self.drawn(number),
            record.validation if record else {}, bool(record) and self.ranked(alike, share)[:1] == [number], failed,
        )  # fmt: skip

    def pause(self) -> None:
        """Save everything. Call it only between two events."""
        if self.current is not None:
            self.current.save()
        self._count_time()
        self.save()

    def _count_time(self) -> None:
        now = time.monotonic()
        self.plan = dataclasses.replace(self.plan, seconds=self.plan.seconds + now - self.began)
        self.began = now

    def save(self) -> None:
        """Write tuning.json, and best.toml once there is a best trial."""
        write_json(self.folder / STATE, dataclasses.asdict(self.plan))
        best = self.best()
        self.reserve = None if best is None else self._seconds_left(best)
        if best is not None:
            about = f"# Trial {best} of {self.name}: the best on the validation part.\n"
            write_text(self.folder / BEST, about + as_toml(self.best_values(best)))

    # ---- what is known of trials ---------------------------------------------------------------------------------

    def trial_folder(self, number: int) -> Path:
        return self.folder / f"trial-{number}"

    def drawn(self, number: int) -> dict[str, Setting]:
        """The settings that trial `number` was drawn to have."""
        return sample(self.plan.space, self.plan.seed, number, self.plan.given)

    def best_values(self, number: int) -> dict[str, Any]:
        """All that a --config file needs for the same training as that of trial `number`."""
        return {"model": self.plan.family, **self.plan.given, **self.drawn(number)}

    def begun(self) -> list[int]:
        """The numbers of the trials that have a run."""
        folders = self.folder.glob("trial-*/config.json")
        return sorted(int(path.parent.name.removeprefix("trial-")) for path in folders)

    def run(self, number: int) -> Run | None:
        """The run of a trial; None before it has begun."""
        folder = self.trial_folder(number)
        return runs.load_run(folder) if (folder / "config.json").exists() else None

    def result(self, number: int, share: float = 1.0) -> EpochRecord | None:
        """The best epoch of a trial in its first `share`; None where there is none, or it has failed.

        Where the weights before the first step were better than all of them, the one of the lowest loss stands for the trial.
        """
        trial = None if str(number) in self.plan.failed else self.run(number)
        if trial is None:
            return None
        records = trial.history()[: epochs_for(trial.config.settings.epochs, share)]
        lowest = min(records, key=lambda record: record.validation.get("loss") or math.inf, default=None)
        return next((record for record in reversed(records) if record.best), lowest)

    def _has_done(self, number: int, share: float) -> bool:
        """Whether a trial has done `share` of its epochs, or has stopped by patience before."""
        trial = self.run(number)
        if trial is None:
            return False
        history, settings = trial.history(), trial.config.settings
        waited = len(history) - session.last_best(history)
        return len(history) >= epochs_for(settings.epochs, share) or 0 < settings.patience <= waited

    def ranked(self, numbers: Sequence[int], share: float = 1.0) -> list[int]:
        """Those of the trials `numbers` that have a result, best first; of equal ones the earlier first."""
        found = {number: record for number in numbers if (record := self.result(number, share)) is not None}
        if len(found) < 2:
            return list(found)
        evaluator = self.evaluator or self._session(next(iter(found))).evaluator

        def compare(a: int, b: int) -> int:
            ours, theirs = ({k: v for k, v in found[x].validation.items() if v is not None} for x in (a, b))
            return -1 if evaluator.is_better(ours, theirs) else int(evaluator.is_better(theirs, ours))

        return sorted(found, key=functools.cmp_to_key(compare))

    def best(self) -> int | None:
        """The best of the trials that came furthest; None before one has a result."""
        begun = self.begun()
        for share in [*reversed(rung_shares(self.plan.trials or BRACKET)), 0.0]:
            ranked = self.ranked([number for number in begun if self._has_done(number, share)], share)
            if ranked:
                return ranked[0]
        return None

    def is_late(self) -> bool:
        """Whether no time is left but for the last epochs of the best trial so far."""
        if self.plan.minutes is None or self.reserve is None:
            return False
        return self.plan.seconds + time.monotonic() - self.began + self.reserve >= 60 * self.plan.minutes

    def _seconds_left(self, number: int) -> float:
        """What the rest of a trial's epochs will take."""
        trial = self.run(number)
        assert trial is not None
        history = trial.history()
        left = 0 if self._has_done(number, 1.0) else trial.config.settings.epochs - len(history)
        return left * sum(record.seconds for record in history) / max(len(history), 1)

    # ---- the end -------------------------------------------------------------------------------------------------

    def open_best(self) -> session.TrainingSession:
        """The training of the best trial, to finish: it alone reads the test part."""
        best = self.best()
        assert best is not None
        return self._session(best)

    def close(self) -> None:
        """Note that the test part was read."""
        self._count_time()
        self.plan = dataclasses.replace(self.plan, finished=True)
        self.save()


# ---- starting and resuming -----------------------------------------------------------------------------------------------


def start_tuning(problem: DataModule, plan: TuningPlan, out: Path | None = None) -> Tuner:
    """A new tuning, in the new folder `out`, else in runs/tune-DATA-MODEL-N. Raises OptionError for a setting that cannot be, or that is not tuned."""
    if plan.values.get("ensemble", 1) != 1:
        raise OptionError(f"ensemble: {plan.values['ensemble']}; expected one network a trial, and an ensemble of the best one afterwards; leave it out here, "
                          "and write: pellucid train DATA --config best.toml --ensemble 5")  # fmt: skip
    if not set(plan.space) - set(plan.given):
        raise OptionError(f"space: {', '.join(plan.space) or 'it is empty'}: nothing is left to draw, all of it was given; expected a setting that is not; give "
                          "fewer by --set")  # fmt: skip
    # Folds would score on the rows that settings were chosen by.
    plan = dataclasses.replace(plan, values={**plan.values, "folds": 0})
    resolve_config(plan.family, plan.values)
    try:
        if out is not None:
            out.mkdir(parents=True)
        folder = out or runs.next_free(f"tune-{plan.name}-{plan.family}")
    except OSError as error:
        raise disk_error(out or runs.RUNS_DIR, error) from None
    tuner = Tuner(folder, plan, problem)
    tuner.save()
    return tuner


def resume_tuning(name: str, trials: int | None = None, minutes: float | None = None) -> Tuner:
    """Go on with the tuning called `name`, a path or a name under runs/. trials, minutes: in place of those it began with."""
    folder = next((f for f in (runs.RUNS_DIR / name, Path(name)) if (f / STATE).is_file()), None)
    if folder is None:
        known = [path.parent.name for path in runs.RUNS_DIR.glob(f"*/{STATE}")]
        raise DataError(f"{name}: no such tuning; expected a path, or a name under runs/, of a folder that `pellucid tune` made: "
                        f"{', '.join(known) or 'there is none here'}.{suggestion(name, known)}")  # fmt: skip
    path = folder / STATE
    plan = read_record(TuningPlan, parse_json(path.read_bytes(), str(path)), str(path))
    if plan.finished:
        raise OptionError(f"--resume {name}: it is finished, and its best trial has been tested; expected one that was stopped, since a test part that is "
                          "read again and again is no test; start a new one, with another --seed")  # fmt: skip
    plan = dataclasses.replace(plan, trials=trials or plan.trials, minutes=minutes or plan.minutes)
    first = folder / "trial-1"
    begun = (first / "config.json").exists()
    problem = runs.load_run(first).load_problem() if begun else load_problem(**plan.source)  # type: ignore[arg-type]
    return Tuner(folder, plan, problem)
