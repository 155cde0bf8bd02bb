"""Training sessions: start or resume a run, read its events, and finish it (floor 10).

    training = start(problem, "mlp", values)        or        training = resume(run)
    for event in training.events(): ...             every epoch is logged and saved before its event comes out
    result = training.finish()                      test scores, baselines and the report

The loop is in `loop.py`, the files in `runs/run.py`; the command line shows progress.
"""

from __future__ import annotations

import dataclasses
import datetime
import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import models
from ..creation import tensor
from ..data.loader import DataLoader
from ..data.problem import DataModule
from ..errors import NonFiniteError, OptionError, StateError
from ..evaluation.evaluator import EvaluationResult, Evaluator, NonFiniteLoss, PredictionEvaluator, scoring_of
from ..evaluation.generation import GenerationEvaluator, check_feature_network
from ..evaluation.importance import Importances
from ..evaluation.language import LanguageEvaluator
from ..evaluation.metrics import Metrics
from ..evaluation.series import SeriesEvaluator
from ..models.base import Model
from ..models.heads.generation import ImageGenerator
from ..models.heads.language import LanguageModel
from ..models.heads.prediction import PredictionModel
from ..random import Generator, use_generator
from ..report.report import ReportData, write_report
from ..runs import run as runs
from ..runs.records import EpochRecord, FoldScores, RunConfig, TestRecord
from ..runs.run import Run
from ..runs.settings import Setting, Settings, resolve_config
from ..threads import set_num_threads
from .checkpoint import load_checkpoint, save_checkpoint
from .cross_validation import cross_validate
from .fine_tuning import load_pretrained
from .head import first_decision, head_notes, prepare_head
from .learner import Learner
from .loop import BatchDone, EpochDone, fit
from .nonfinite import explain_validation

INITIAL_EXAMPLES = 2000  # training examples that `Model.initialize_from_data` gets


@dataclass
class Result:
    """The result of a finished run.

    metrics: of the network on the test data.
    baselines: of each baseline on the test data.
    seconds: how long training took, over all sessions of the run.
    epochs: how many were trained.
    best_epoch: the one whose weights were tested.
    notes: what was chosen on validation once the weights were final, one line each.
    folds: the scores over folds, of a table too small for one split.
    importances: how much each column mattered for the first score, of data that have columns.
    """

    metrics: Metrics
    baselines: dict[str, Metrics]
    seconds: float
    epochs: int
    best_epoch: int
    notes: list[str] = field(default_factory=list)
    folds: FoldScores | None = None
    importances: Importances | None = None


class TrainingSession:
    """A run in training: `events()` trains the network, `finish()` tests it and writes the report.

    generator: all random numbers of the run come from it, from the initial weights on. The global generator is not used.
    fresh: whether the weights are newly initialised; the network is then given training examples to initialise the rest.
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
        prepare_head(network, problem, settings)
        dataset = problem.train.dataset(network)
        if fresh:
            network.initialize_from_data(
                *dataset.gather(np.linspace(0, len(dataset) - 1, INITIAL_EXAMPLES).astype(np.int64))
            )
        loader = DataLoader(
            dataset, batch_size=settings.batch_size, shuffle=True, seed=settings.seed, steps=settings.steps_per_epoch
        )
        self.learner = Learner(network, loader, settings, generator)
        self.evaluator = evaluator_class(network, problem.kind)(run, problem, self.learner.eval_network, settings)

    def events(self) -> Iterator[BatchDone | EpochDone]:
        """Train. When the event of an epoch is yielded, the epoch is in metrics.jsonl and in the checkpoint already."""
        # Decorated: the run's generator is in use while it runs.
        events: Callable[[], Iterator[BatchDone | EpochDone]] = self.learner.state.drawing()(self._events)
        return events()

    def _events(self) -> Iterator[BatchDone | EpochDone]:
        epochs, patience = self.settings.epochs, self.settings.patience
        initial_weights = {name: t.array for name, t in self.network.state_dict().items()}
        try:
            evaluator = self.evaluator
            for event in fit(
                self.learner, self._validate, epochs=epochs, patience=patience, is_better=evaluator.is_better
            ):
                if isinstance(event, EpochDone):
                    event = dataclasses.replace(event, train=evaluator.inverse_transform(event.train))
                    with self.learner.state.averaged():
                        artifacts = evaluator.epoch_artifacts(event.epoch)
                    self.run.log(
                        dataclasses.replace(as_record(event), sample=artifacts.sample, picture=artifacts.picture)
                    )
                    self.save()
                yield event
        except NonFiniteError:
            # The weights just before the bad step may be finite and yet useless. Save the best validated ones, or those
            # that this session started from.
            self.run.save_weights(self.learner.state.best or initial_weights)
            raise

    def _validate(self) -> dict[str, float]:
        try:
            return self.evaluator.validate()
        except NonFiniteLoss as bad:
            raise explain_validation(self.learner, bad.batch) from None

    def is_done(self) -> bool:
        """Whether training is complete: all epochs are done, or `patience` epochs went by without an improvement."""
        progress, patience = self.learner.state.progress, self.settings.patience
        return progress.epoch >= self.settings.epochs or bool(patience and progress.waited >= patience)

    def save(self) -> None:
        """Write the checkpoint and the best weights so far. Call it only between two events."""
        # A step that could not be compiled runs eagerly. Note it: a resumed run must compute in the same way.
        if self.learner.native.eager:
            self.update_settings(eager=True)
        save_checkpoint(self.run.checkpoint, self.learner, self.run)
        if self.learner.state.best is not None:
            self.run.save_weights(self.learner.state.best)

    @property
    def metric(self) -> str:
        """The score of the validation part that was asked for, "" for none."""
        evaluator = self.evaluator
        return evaluator.scoring().score if isinstance(evaluator, PredictionEvaluator) else ""

    def update_settings(self, **changes: Any) -> None:
        """Change settings in config.json. The file is written only if one of them differs."""
        self.run.update_config(settings=dataclasses.replace(self.run.config.settings, **changes))

    def finish(self) -> Result:
        """Score the best weights on the test data, log the scores and write the report. Nothing before reads the test data."""
        self.run.save_weights(self.restore_best())
        with self.learner.state.drawing():
            changes, notes = self.evaluator.calibrate()
            self.run.update_config(**changes)
            evaluation = self.evaluator.test()
            first = evaluation.metrics.first
            importances = None if first is None else self.evaluator.importance(first)
        folds, fold_notes = cross_validate(self.problem, self._start_fold) if self.is_cross_validated else (None, [])
        notes += fold_notes
        seconds = sum(record.seconds for record in self.run.history())
        progress = self.learner.state.progress
        result = Result(
            evaluation.metrics, evaluation.baselines, seconds, progress.epoch, progress.best_epoch, notes, folds,
            importances,
        )  # fmt: skip
        with self.learner.state.drawing():
            self._report(result, evaluation)
        record = TestRecord(
            result.metrics, result.baselines, result.seconds, result.best_epoch, folds, evaluation.interval
        )
        self.run.log(record)
        return result

    @property
    def is_cross_validated(self) -> bool:
        """Whether `finish` scores over folds too. Weights taken from another run may have seen the rows of any fold."""
        return self.problem.folds is not None and self.settings.folds > 0 and self.run.config.init_from is None

    def restore_best(self) -> dict[str, np.ndarray]:
        """Give the network the best weights by validation, and return them."""
        best = self.learner.state.best
        assert best is not None
        self.network.load_state_dict({name: tensor(array) for name, array in best.items()})
        self.network.eval()
        return best

    def _start_fold(self, problem: DataModule) -> TrainingSession:
        """The same training on a fold; it has no folder and writes nothing."""
        config, preprocessor, generator = self.run.config, problem.preprocessor, Generator(self.settings.seed)
        with use_generator(generator):
            network = models.family(config.family).build(
                preprocessor.input_spec(), preprocessor.outputs, problem.task, config.network
            )
            decision = first_decision(problem, self.settings)
            run = Run(self.run.folder, dataclasses.replace(config, decision=decision, thresholds=[]))
            # What could not be compiled on all rows cannot be on some: it is not tried, nor told, again.
            settings = dataclasses.replace(self.settings, eager=self.settings.eager or self.learner.native.eager)
            return TrainingSession(run, problem, network, settings, generator, fresh=True)

    def _report(self, result: Result, evaluation: EvaluationResult) -> None:
        problem, run, config = self.problem, self.run, self.run.config
        figures = self.evaluator.figures()
        write_report(run.report, ReportData(
            title=f"{config.family} on {problem.name}", run=run.name, task=config.task, metrics=result.metrics,
            baselines=result.baselines, predictions=evaluation.predictions, figures=figures, history=run.history(),
            best_epoch=result.best_epoch, settings={**asdict(config.network), **asdict(self.settings)},
            network=str(self.network).splitlines(), notes=[*problem.notes, *result.notes, *figures.notes], created=config.created,
            folds=result.folds, importances=result.importances,
        ))  # fmt: skip


def as_record(event: EpochDone) -> EpochRecord:
    """The record of an epoch, as it is logged in metrics.jsonl."""
    return EpochRecord(event.epoch, event.step, dict(event.train), dict(event.validation), event.lr, event.improved,
                       event.seconds, event.examples_per_second)  # fmt: skip


def evaluator_class(network: Model, kind: str) -> type[Evaluator]:
    """The evaluator class for this kind of network, on this kind of data."""
    if isinstance(network, ImageGenerator):
        return GenerationEvaluator
    if isinstance(network, LanguageModel):
        return LanguageEvaluator
    return SeriesEvaluator if kind == "series" else PredictionEvaluator


def evaluate_run(run: Run, problem: DataModule, feature_network: Run | None = None) -> EvaluationResult:
    """Score a trained run on its test data again. Remarks on the scores are added to `problem.notes`.

    feature_network: for an image generator, the run whose network computes the features that images are compared by; by
        default the one that the run has. Raises DataError if the data have changed since training.
    """
    run.check_fingerprint(problem)
    network = run.network()
    if feature_network is not None:
        path = check_feature_network(feature_network, network, run.config)
        run = Run(run.folder, dataclasses.replace(run.config, feature_network=path))
    return evaluator_class(network, problem.kind)(run, problem, network, run.config.settings).test()


# ---- starting and resuming -----------------------------------------------------------------------------------------------


def start(
    problem: DataModule, family: str, values: Mapping[str, Setting], out: Path | None = None, *, source: Run | None = None,
    feature_network: Run | None = None,
) -> TrainingSession:  # fmt: skip
    """Start a new run of a model family on `problem`. Its folder is created last, when all arguments have been accepted.

    values: training settings and hyperparameters of the network, by name.
    out: the run's folder; by default a new one in the folder of runs.
    source: a run whose weights the network starts from (fine-tuning). If the classes or the target are others, the output
        layer is new.
    feature_network: for an image generator, see `evaluate_run`.
    """
    settings, network_config = resolve_config(family, values)
    preprocessor = problem.preprocessor
    set_num_threads(settings.num_threads)
    config = RunConfig(
        data=problem.name, kind=problem.kind, task=problem.task, family=family, network=network_config, settings=settings,
        preprocessor=preprocessor.to_json(), source=problem.source, fingerprint=problem.fingerprint, notes=list(problem.notes),
        machine=platform.machine(), created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    )  # fmt: skip
    generator = Generator(settings.seed)
    with use_generator(generator):
        network = models.family(family).build(
            preprocessor.input_spec(), preprocessor.outputs, problem.task, network_config
        )
        if source is not None:
            problem.notes += load_pretrained(source, network, config.preprocessor)
            config = dataclasses.replace(config, init_from=str(source.folder.resolve()), notes=list(problem.notes))
        if feature_network is not None:
            path = check_feature_network(feature_network, network, config)
            config = dataclasses.replace(config, feature_network=path)
        run = Run(runs.RUNS_DIR, config)  # without a folder of its own yet
        training = TrainingSession(run, problem, network, settings, generator, fresh=source is None)
    run.config = with_head(config, problem, network)
    run.folder = runs.create_run(run.config, out).folder
    return training


def with_head(config: RunConfig, problem: DataModule, network: Model) -> RunConfig:
    """`config` with what is decided about classes before training; notes on it are added to `problem.notes`."""
    if not isinstance(network, PredictionModel):
        return config
    config = dataclasses.replace(config, decision=first_decision(problem, config.settings))
    scoring_of(config, problem.preprocessor)  # raises OptionError for a metric of another task
    weights = None if network.class_weight is None else network.class_weight.array
    problem.notes += head_notes(problem, config.settings, config.decision, weights)
    return dataclasses.replace(config, notes=list(problem.notes))


def resume(
    run: Run, problem: DataModule, epochs: int | None = None, num_threads: int | None = None, feature_network: Run | None = None
) -> TrainingSession:  # fmt: skip
    """Continue `run` from its checkpoint. If it was stopped before its first checkpoint, it starts again.

    epochs, num_threads, feature_network: in place of those that the run was started with.
    Raises DataError if the data have changed since the start, StateError if a file of the run is damaged.
    """
    run.check_fingerprint(problem)
    stored = run.config.settings
    settings = dataclasses.replace(
        stored, epochs=epochs or stored.epochs, num_threads=num_threads or stored.num_threads
    )
    restart = not run.checkpoint.exists()
    if restart and run.result():
        raise StateError(
            f"{run.checkpoint}: missing, though the run is finished; expected it beside model.safetensors; train anew"
        )
    set_num_threads(settings.num_threads)
    generator = Generator(settings.seed)
    with use_generator(generator):
        network, source = run.new_network(), run.config.init_from
        if restart and source:
            load_pretrained(runs.load_run(Path(source)), network, run.config.preprocessor)
        training = TrainingSession(run, problem, network, settings, generator, fresh=restart and not source)
    if not restart:
        load_checkpoint(run.checkpoint, training.learner, run)
    done = training.learner.state.progress.epoch
    if done > settings.epochs:
        raise OptionError(f"epochs: {settings.epochs}, and {run.name} has done {done} already; expected --epochs of at least that many; "
                          f"write --epochs {2 * done}, say, or leave it out")  # fmt: skip
    if feature_network is not None:
        run.update_config(feature_network=check_feature_network(feature_network, network, run.config))
    training.update_settings(epochs=settings.epochs)  # so that a later resume trains to the same epoch
    run.truncate_log(done)  # epochs after the checkpoint are trained again
    return training
