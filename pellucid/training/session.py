"""A training from data to finished run: begin or resume it, read its events, and finish it (floor 6).

    training = begin(problem, "mlp", values)        or        training = resume(run)
    for event in training.events(): ...             every epoch is logged and saved before its event comes out
    result = training.finish()                      test scores, baselines and the report

The loop is in `loop.py`, the files in `run.py`; what is shown to a person while it runs is the command line's.
"""

from __future__ import annotations

import dataclasses
import datetime
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import models
from ..creation import tensor
from ..data.loader import DataLoader
from ..data.problem import DataModule
from ..errors import NonFiniteError, OptionError, StateError
from ..evaluation.evaluator import EvaluationResult, Evaluator, NonFiniteLoss, PredictionEvaluator
from ..evaluation.generation import GenerationEvaluator, named_judge
from ..evaluation.language import LanguageEvaluator
from ..evaluation.metrics import Metrics, primary_metric
from ..models.base import Model
from ..models.heads.generation import ImageGenerator
from ..models.heads.language import LanguageModel
from ..random import Generator, use_generator
from ..report.report import ReportData, write_report
from ..runs import run as runs
from ..runs.run import Run
from ..runs.settings import Settings, choose
from ..threads import set_num_threads
from .checkpoint import load_checkpoint, save_checkpoint
from .fine_tuning import load_pretrained
from .learner import Learner
from .loop import BatchDone, EpochDone, fit
from .nonfinite import explain_validation

PREPARED = 2000  # training examples that a network sees before its first step


@dataclass
class Result:
    """What a finished run tells: test metrics, each baseline's, and the seconds training took."""

    metrics: Metrics
    baselines: dict[str, Metrics]
    seconds: float
    epochs: int
    best_epoch: int


class TrainingSession:
    """A run under way: `events()` trains it, `finish()` closes it.

    generator: what everything in it draws from, its weights included; the stream of who calls is never moved.
    """

    def __init__(
        self,
        run: Run,
        problem: DataModule,
        network: Model,
        settings: Settings,
        generator: Generator,
        fresh: bool = False,
    ) -> None:
        self.run = run
        self.problem = problem
        self.network = network
        self.settings = settings
        dataset = problem.train.dataset(network)
        if fresh:
            network.initialize_from_data(*dataset.gather(np.linspace(0, len(dataset) - 1, PREPARED).astype(np.int64)))
        loader = DataLoader(
            dataset, batch_size=settings.batch_size, shuffle=True, seed=settings.seed, steps=settings.steps_per_epoch
        )
        self.learner = Learner(network, loader, settings, generator)
        self.examination = examination(network)(run, problem, self.learner.judged, settings)

    def events(self) -> Iterator[BatchDone | EpochDone]:
        """Train; every epoch is in metrics.jsonl and the checkpoint, and its weights saved, before its event comes out."""
        return self.learner.drawing()(self._events)()

    def _events(self) -> Iterator[BatchDone | EpochDone]:
        epochs, patience = self.settings.epochs, self.settings.patience
        first = {name: t.array for name, t in self.network.state_dict().items()}
        try:
            judge = self.examination
            for event in fit(self.learner, self._validate, epochs=epochs, patience=patience, better=judge.better):
                if isinstance(event, EpochDone):
                    event = dataclasses.replace(event, train=judge.in_units(event.train))
                    with self.learner.averaged():
                        kept = judge.keep(event.epoch)
                    self.run.log({**as_line(event), **kept})
                    self.save()
                yield event
        except NonFiniteError:
            # Without a validated epoch the only weights known to be good are those it began with: the ones just before
            # the bad step may be finite and useless.
            self.run.save_weights(self.learner.best or first)
            raise

    def _validate(self) -> dict[str, float]:
        try:
            return self.examination.validate()
        except NonFiniteLoss as bad:
            raise explain_validation(self.learner, bad.batch) from None

    def is_done(self) -> bool:
        """Whether no epoch is left to train: all are done, or too many went by without a better one."""
        at, patience = self.learner.progress, self.settings.patience
        return at.epoch >= self.settings.epochs or bool(patience and at.waited >= patience)

    def save(self) -> None:
        """Write the checkpoint, and the best weights so far beside it. Call it between two events only."""
        if self.learner.native.eager:  # maybe only since its step could not be compiled; a resumed run keeps to that
            self.remember(eager=True)
        save_checkpoint(self.run.checkpoint, self.learner)
        if self.learner.best is not None:
            self.run.save_weights(self.learner.best)

    def remember(self, **settings: Any) -> None:
        """Have config.json say so where `settings` are no longer those it has."""
        self.run.remember(settings={**self.run.config["settings"], **settings})

    def finish(self) -> Result:
        """Read the test data, for the first and only time, with the best weights; log the scores and write the report."""
        assert self.learner.best is not None
        self.network.load_state_dict({name: tensor(array) for name, array in self.learner.best.items()})
        self.network.eval()
        self.run.save_weights(self.learner.best)
        with self.learner.drawing():
            found = self.examination.test()
        history = self.run.history()
        at = self.learner.progress
        result = Result(
            found.metrics, found.baselines, sum(line["seconds"] for line in history), at.epoch, at.best_epoch
        )
        with self.learner.drawing():
            self._report(result, found)
        self.run.log({"test": result.metrics, "baselines": result.baselines, "seconds": result.seconds,
                      "best_epoch": result.best_epoch})  # fmt: skip
        return result

    def _report(self, result: Result, found: EvaluationResult) -> None:
        problem, run = self.problem, self.run
        score = primary_metric(result.metrics)
        shown = {**found.shown, "sections": [*found.shown.get("sections", []), *self.examination.sections()]}
        renamed = {f"train_{score}": "train_score", f"validation_{score}": "validation_score"}
        write_report(run.report, ReportData(
            title=f"{run.config['family']} on {problem.name}", run=run.name, task=run.config["task"], metrics=result.metrics,
            baselines=result.baselines, history=[{renamed.get(k, k): v for k, v in line.items()} for line in run.history()],
            best_epoch=result.best_epoch, settings={**run.config["network"], **asdict(self.settings)},
            network=str(self.network).splitlines(), notes=problem.notes, created=run.config["created"], **shown,
        ))  # fmt: skip


def as_line(event: EpochDone) -> dict[str, Any]:
    """An epoch as metrics.jsonl has it: flat, `train_loss`, `validation_accuracy` and so on."""
    values = {f"{part}_{name}": v for part in ("train", "validation") for name, v in getattr(event, part).items()}
    return {"epoch": event.epoch, "step": event.step, **values, "learning_rate": event.lr, "best": event.improved,
            "seconds": event.seconds, "examples_per_second": event.examples_per_second}  # fmt: skip


def examination(network: Model) -> type[Evaluator]:
    """How a network of that kind is judged."""
    return (
        GenerationEvaluator
        if isinstance(network, ImageGenerator)
        else LanguageEvaluator
        if isinstance(network, LanguageModel)
        else PredictionEvaluator
    )


def examine(run: Run, problem: DataModule, judge: Run | None = None) -> EvaluationResult:
    """The scores of a trained run on its test part, once more; what is worth knowing of them is added to `problem.notes`.

    judge: of a network that draws, in place of the run's own. Raises DataError where the data have changed since.
    """
    run.check_unchanged(problem)
    network = run.network()
    if judge is not None:
        run = Run(run.folder, {**run.config, "judge": named_judge(judge, network, run.config)})
    return examination(network)(run, problem, network, Settings(**run.config["settings"])).test()


# ---- beginning and going on ----------------------------------------------------------------------------------------------


def start(
    problem: DataModule, family: str, values: dict[str, Any], out: Path | None = None, *, source: Run | None = None,
    judge: Run | None = None,
) -> TrainingSession:  # fmt: skip
    """Start a new run on `problem` with `values` for settings and network; its folder is made here, once nothing is refused.

    source: a run whose weights the network begins with, as far as they fit. judge: of a network that draws, see `drawing.py`.
    """
    settings, config = choose(family, values)
    preprocessor = problem.preprocessor
    set_num_threads(settings.num_threads)
    about: dict[str, Any] = {
        "data": problem.name, "kind": problem.kind, "task": problem.task, "family": family, "network": asdict(config),
        "settings": asdict(settings), "inputs": preprocessor.input_spec(), "outputs": len(preprocessor.classes or [0]),
        "preprocessor": preprocessor.to_json(), "source": problem.source, "fingerprint": problem.fingerprint,
        "notes": problem.notes, "machine": platform.machine(),
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }  # fmt: skip
    generator = Generator(settings.seed)
    with use_generator(generator):
        network = models.family(family).build(about["inputs"], about["outputs"], problem.task, config)
        if source is not None:
            problem.notes += load_pretrained(source, network, about["preprocessor"])
            about["from"] = str(source.folder.resolve())
        if judge is not None:
            about["judge"] = named_judge(judge, network, about)
        training = TrainingSession(
            Run(runs.RUNS_DIR, about), problem, network, settings, generator, fresh=source is None
        )
    made = runs.create(about, out)
    training.run.folder, training.run.config = made.folder, made.config
    return training


def resume(
    run: Run, problem: DataModule, epochs: int | None = None, num_threads: int | None = None, judge: Run | None = None
) -> TrainingSession:
    """Go on with `run` where its checkpoint stands; with `judge`, in place of the one it was begun with.

    Raises DataError where the data have changed since.
    """
    run.check_unchanged(problem)
    stored = run.config["settings"]
    settings = Settings(
        **{**stored, "epochs": epochs or stored["epochs"], "num_threads": num_threads or stored["num_threads"]}
    )
    again = not run.checkpoint.exists()  # without one, it was stopped before its first checkpoint and begins again
    if again and run.result():
        raise StateError(
            f"{run.checkpoint}: missing, though the run is finished; expected it beside model.safetensors; train anew"
        )
    set_num_threads(settings.num_threads)
    generator = Generator(settings.seed)
    with use_generator(generator):
        network, source = run.new_network(), run.config.get("from")
        if again and source:
            load_pretrained(runs.load(Path(source)), network, run.config["preprocessor"])
        training = TrainingSession(run, problem, network, settings, generator, fresh=again and not source)
    if not again:
        load_checkpoint(run.checkpoint, training.learner)
    if training.learner.progress.epoch > settings.epochs:
        done = training.learner.progress.epoch
        raise OptionError(f"epochs: {settings.epochs}, and {run.name} has done {done} already; expected --epochs of at least that many; "
                          f"write --epochs {2 * done}, say, or leave it out")  # fmt: skip
    if judge is not None:
        run.remember(judge=named_judge(judge, network, run.config))
    training.remember(epochs=settings.epochs)  # a later resume goes on to the same end
    run.keep_history_to(training.learner.progress.epoch)
    return training
