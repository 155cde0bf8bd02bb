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
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import models
from ..creation import tensor
from ..data.loader import DataLoader
from ..data.problem import DataModule
from ..errors import NonFiniteError, OptionError, StateError
from ..evaluation.ensembles import EnsembleScores, MemberAnswers, ensemble_scores
from ..evaluation.evaluator import (
    EvaluationResult,
    Evaluator,
    NonFiniteLoss,
    PredictionEvaluator,
    scoring_of,
)
from ..evaluation.generation import GenerationEvaluator, check_feature_network
from ..evaluation.importance import Importances
from ..evaluation.language import LanguageEvaluator
from ..evaluation.metrics import Metrics
from ..evaluation.series import SeriesEvaluator
from ..models.base import Model
from ..models.ensemble import Ensemble
from ..models.heads.generation import ImageGenerator
from ..models.heads.language import LanguageModel
from ..models.heads.prediction import PredictionModel
from ..nn.activation import ACTIVATION_NOTES
from ..random import Generator, use_generator
from ..report.report import ReportData, write_report
from ..runs import run as runs
from ..runs.records import EpochRecord, FoldScores, RunConfig, TestRecord
from ..runs.run import Run
from ..runs.settings import Setting, Settings, resolve_config, with_least_steps
from ..runs.snapshots import keep_snapshot, kept_epochs, most_snapshots, remove_others
from ..threads import set_num_threads
from .bagging import bag
from .checkpoint import load_checkpoint, save_checkpoint
from .cross_validation import cross_validate
from .ensemble import MemberStarted, mean_history, member_settings
from .fine_tuning import load_pretrained
from .fitted_parts import choose_after, fit_before
from .head import first_decision, head_notes, prepare_head
from .learner import Learner
from .loop import BatchDone, EpochDone, fit
from .nonfinite import explain_validation

Event = BatchDone | EpochDone | MemberStarted
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
    ensemble: of several networks, how far they differ on the validation part.
    importances: how much each column mattered for the first score, of data that have columns.
    worst: the number, from 1, of the test example that was answered worst; None of a network that does not answer.
    """

    metrics: Metrics
    baselines: dict[str, Metrics]
    seconds: float
    epochs: int
    best_epoch: int
    notes: list[str] = field(default_factory=list)
    folds: FoldScores | None = None
    ensemble: EnsembleScores | None = None
    importances: Importances | None = None
    worst: int | None = None


def _from_one(row: int | None) -> int | None:
    """A row as people count."""
    return None if row is None else row + 1


class TrainingSession:
    """A run in training: `events()` trains the network, `finish()` tests it and writes the report.

    generator: all random numbers of the run come from it, from the initial weights on. The global generator is not used.
    fresh: whether the weights are newly initialised; the network is then given training examples to initialise the rest.
    begins: whether training starts here, rather than goes on from a checkpoint; by default where the weights are fresh.
    """

    def __init__(
        self,
        run: Run,
        problem: DataModule,
        network: Model,
        settings: Settings,
        generator: Generator,
        fresh: bool = False,
        begins: bool | None = None,
    ) -> None:
        self.run = run
        self.problem = problem
        self.network = network
        self.settings = settings
        prepare_head(network, problem, settings)
        problem.notes += fit_before(network, problem, fresh if begins is None else begins)
        dataset = problem.train.dataset(network)
        if fresh:
            network.initialize_from_data(
                *dataset.gather(np.linspace(0, len(dataset) - 1, INITIAL_EXAMPLES).astype(np.int64))
            )
        loader = DataLoader(
            dataset,
            batch_size=settings.batch_size,
            shuffle=True,
            seed=settings.seed,
            steps=settings.steps_per_epoch,
            passes=settings.passes,
        )
        self.learner = Learner(network, loader, settings, generator)
        self.evaluator = evaluator_class(network, problem.kind)(run, problem, self.learner.eval_network, settings)

    def events(self) -> Iterator[Event]:
        """Train. When the event of an epoch is yielded, the epoch is in metrics.jsonl and in the checkpoint already."""
        # Decorated: the run's generator is in use while it runs.
        events: Callable[[], Iterator[Event]] = self.learner.state.drawing()(self._events)
        return events()

    def _events(self) -> Iterator[Event]:
        epochs, patience = self.settings.epochs, self.settings.patience
        initial_weights = {name: t.array for name, t in self.network.state_dict().items()}
        snapshots = most_snapshots(self.settings, self.network)
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
                    keep_snapshot(self.run, self.network, event.epoch, self._rate_of(event.epoch), snapshots)
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

    def _rate_of(self, epoch: int) -> float:
        """The learning rate in the middle of an epoch."""
        schedule = self.learner.state.schedules[0]
        step = round((epoch - 0.5) * len(self.learner.loader))
        return float(schedule.base_lrs[0] * schedule.lr_lambdas[0](step))

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
        chosen = self.restore_best()
        self.run.save_weights({name: t.array for name, t in self.network.state_dict().items()})
        with self.learner.state.drawing():
            changes, notes = self.evaluator.calibrate()
            notes = [*chosen, *notes]
            self.run.update_config(**changes)
            evaluation = self.evaluator.test()
            first = evaluation.metrics.first
            importances = None if first is None else self.evaluator.importance(first)
        folds, fold_notes = cross_validate(self.problem, self._start_fold) if self.is_cross_validated else (None, [])
        notes += fold_notes
        history = self.run.history()
        seconds, best_epoch = sum(record.seconds for record in history), last_best(history)
        result = Result(
            evaluation.metrics,
            evaluation.baselines,
            seconds,
            len(history),
            best_epoch,
            notes,
            folds,
            importances=importances,
            worst=None if evaluation.predictions is None else _from_one(evaluation.predictions.worst()),
        )
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

    def restore_best(self) -> list[str]:
        """Give the network the best weights by validation, and what is chosen once they are final; notes of that."""
        best = self.learner.state.best
        assert best is not None
        self.network.load_state_dict({name: tensor(array) for name, array in best.items()})
        self.network.eval()
        return choose_after(self.network, self.problem, self.evaluator, self.learner.state.progress.best_epoch)

    def _start_fold(self, problem: DataModule) -> TrainingSession:
        """The same training on a fold; it has no folder and writes nothing."""
        config, preprocessor, generator = self.run.config, problem.preprocessor, Generator(self.settings.seed)
        problem, _ = bag(problem, config.network)
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


class EnsembleSession(TrainingSession):
    """An ensemble in training: one network after another, each by a session of its own, with a folder below the run's.

    learner: that of the network in training.      scores: how far the networks differ, once they are trained.
    """

    network: Ensemble

    def __init__(self, run: Run, problem: DataModule, network: Ensemble, settings: Settings) -> None:
        self.run, self.problem, self.network, self.settings = run, problem, network.eval(), settings
        prepare_head(network, problem, settings)
        self.evaluator = evaluator_class(network, problem.kind)(run, problem, network, settings)
        self.scores: EnsembleScores | None = None

    def begin_member(self, k: int) -> TrainingSession:
        """Start training network `k`, or go on with it."""
        folder = self.run.members / str(k + 1)
        problem = dataclasses.replace(self.problem, notes=[])
        if (folder / "config.json").exists():
            member = resume(runs.load_run(folder), problem, self.settings.epochs, self.settings.num_threads)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # a kill may have left it empty
            config = self.run.config
            source = None if config.init_from is None else runs.load_run(Path(config.init_from))
            own = dataclasses.replace(self.settings, snapshots=most_snapshots(self.settings, self.network))
            values = {**asdict(config.network), **asdict(member_settings(own, k))}
            member = start(problem, config.family, values, folder, source=source)
        self.member, self.learner = member, member.learner
        return member

    def events(self) -> Iterator[Event]:
        """Train one network after another. What is saved of one is in its own folder."""
        singly, histories, count = [], [], self.settings.ensemble
        for k in range(count):
            member = self.begin_member(k) if k else self.member
            if not member.is_done():
                yield MemberStarted(k + 1, count, member.settings.seed)
            yield from member.events()
            member.restore_best()
            member.run.save_weights({name: t.array for name, t in member.network.state_dict().items()})
            singly.append(member.evaluator.validate())
            histories.append(member.run.history())
            self.network.members[k].load_state_dict(member.network.state_dict())
            if member.learner.native.eager:
                self.update_settings(eager=True)
        self.run.replace_log(mean_history(histories))
        self.scores = self._compare(singly)

    def _compare(self, singly: list[dict[str, float]]) -> EnsembleScores:
        rows = self.problem.examples("validation")
        answers = MemberAnswers(self.network, self.problem.preprocessor, self.settings.eager)(rows.arrays(self.network))
        return ensemble_scores(self.evaluator.validate(), singly, answers, self.problem.preprocessor)

    def is_done(self) -> bool:
        """Whether all networks are trained and tested."""
        return self.run.result() is not None

    def save(self) -> None:
        """Write the checkpoint of the network in training. Call it only between two events."""
        self.member.save()

    @property
    def is_cross_validated(self) -> bool:
        """Never: that would be as many trainings as networks times folds."""
        return False

    def restore_best(self) -> list[str]:
        """Nothing is left to do: each network has its best weights already."""
        return []

    def finish(self) -> Result:
        """As of one network. The networks are trained: `events` has come to its end."""
        assert self.scores is not None
        result = super().finish()
        return dataclasses.replace(result, ensemble=self.scores, notes=[*result.notes, self.scores.sentence])


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
    problem, _ = bag(problem, run.config.network)
    network = run.network()
    if feature_network is not None:
        path = check_feature_network(feature_network, network, run.config)
        run = Run(run.folder, dataclasses.replace(run.config, feature_network=path))
    return evaluator_class(network, problem.kind)(run, problem, network, run.config.settings).test()


def last_best(history: Sequence[EpochRecord]) -> int:
    """The epoch whose weights are kept."""
    return max((record.epoch for record in history if record.best), default=0)


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
    problem, network_config = bag(problem, network_config)
    settings = with_least_steps(settings, len(problem.train))
    problem.notes += activation_notes(network_config)
    preprocessor = problem.preprocessor
    set_num_threads(settings.num_threads)
    config = RunConfig(
        data=problem.name, kind=problem.kind, task=problem.task, family=family, network=network_config, settings=settings,
        preprocessor=preprocessor.to_json(), source=problem.source, fingerprint=problem.fingerprint, notes=list(problem.notes),
        machine=platform.machine(), created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    )  # fmt: skip
    generator = Generator(settings.seed)
    with use_generator(generator):
        network = models.build_network(
            family, preprocessor.input_spec(), preprocessor.outputs, problem.task, network_config, settings.ensemble
        )
        if source is not None:
            first: Any = network.members[0] if isinstance(network, Ensemble) else network
            problem.notes += load_pretrained(source, first, config.preprocessor)
            config = dataclasses.replace(config, init_from=str(source.folder.resolve()), notes=list(problem.notes))
        if feature_network is not None:
            path = check_feature_network(feature_network, network, config)
            config = dataclasses.replace(config, feature_network=path)
        run = Run(runs.RUNS_DIR, config)  # without a folder of its own yet
        training: TrainingSession
        if isinstance(network, Ensemble):
            training = EnsembleSession(run, problem, network, settings)
        else:
            training = TrainingSession(run, problem, network, settings, generator, fresh=source is None, begins=True)
    run.config = with_head(config, problem, network)
    run.folder = runs.create_run(run.config, out).folder
    if isinstance(training, EnsembleSession):
        if problem.folds is not None and settings.folds:
            problem.notes.append("split: an ensemble is scored on this one split, not over folds")
        training.begin_member(0)
    return training


def activation_notes(network_config: Any) -> list[str]:
    """What the network's activation keeps it from learning; nothing of most, nor of a family without that option."""
    note = ACTIVATION_NOTES.get(getattr(network_config, "activation", ""))
    return [note] if note and getattr(network_config, "hidden_sizes", True) else []


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
    problem, _ = bag(problem, run.config.network)
    stored = run.config.settings
    settings = dataclasses.replace(
        stored, epochs=epochs or stored.epochs, num_threads=num_threads or stored.num_threads
    )
    if stored.ensemble > 1:
        return _resume_ensemble(run, problem, settings, feature_network)
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
        fresh = restart and not source
        training = TrainingSession(run, problem, network, settings, generator, fresh=fresh, begins=restart)
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
    remove_others(run, kept_epochs(done, most_snapshots(settings, network)))
    return training


def _resume_ensemble(run: Run, problem: DataModule, settings: Settings, feature_network: Run | None) -> EnsembleSession:
    """Continue an ensemble; networks that are trained stay as they are, but where `settings` has more epochs."""
    set_num_threads(settings.num_threads)
    with use_generator(Generator(settings.seed)):
        network = run.new_network()
    assert isinstance(network, Ensemble)
    if feature_network is not None:
        check_feature_network(feature_network, network, run.config)  # raises: an ensemble draws nothing
    training = EnsembleSession(run, problem, network, settings)
    training.begin_member(0)  # refuses fewer epochs than are done
    if settings.epochs != run.config.settings.epochs:
        run.replace_log([])
        training.update_settings(epochs=settings.epochs)
    return training
