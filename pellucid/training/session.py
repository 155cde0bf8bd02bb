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
from ..data.examples import Examples, Problem
from ..data.loader import DataLoader
from ..errors import DataError, NonFiniteError, StateError
from ..files import write_json
from ..modes import no_grad
from ..nn import Module
from ..random import manual_seed
from ..tensor import Tensor
from ..threads import set_num_threads
from . import run as runs
from .checkpoint import load_checkpoint, save_checkpoint
from .learner import Learner
from .loop import BatchDone, EpochDone, fit
from .metrics import Metrics, classification_metrics, headline, regression_metrics
from .native import Forward
from .nonfinite import explain_validation
from .report import ReportData, write_report
from .run import Run
from .settings import Settings, choose


@dataclass
class Result:
    """What a finished run tells: test metrics, each baseline's, and the seconds training took."""

    metrics: Metrics
    baselines: dict[str, Metrics]
    seconds: float
    epochs: int
    best_epoch: int


class Training:
    """A run under way: `events()` trains it, `finish()` closes it."""

    def __init__(self, run: Run, problem: Problem, network: Module, settings: Settings) -> None:
        self.run = run
        self.problem = problem
        self.network = network
        self.settings = settings
        dataset = problem.train.dataset(network)
        loader = DataLoader(dataset, batch_size=settings.batch_size, shuffle=True, seed=settings.seed)
        self.learner = Learner(network, loader, settings)
        self.forward = Forward(self.learner.judged, settings.eager)

    def events(self) -> Iterator[BatchDone | EpochDone]:
        """Train; every epoch is in metrics.jsonl and the checkpoint, and its weights saved, before its event comes out."""
        epochs, patience = self.settings.epochs, self.settings.patience
        first = {name: t.array for name, t in self.network.state_dict().items()}
        try:
            for event in fit(self.learner, self._validate, epochs=epochs, patience=patience, better=self._better):
                if isinstance(event, EpochDone):
                    event = dataclasses.replace(event, train=self._in_units(event.train))
                    self.run.log(as_line(event))
                    self.save()
                yield event
        except NonFiniteError:
            # Without a validated epoch the only weights known to be good are those it began with: the ones just before
            # the bad step may be finite and useless.
            self.run.save_weights(self.learner.best or first)
            raise

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
        stored = self.run.config["settings"]
        if {**stored, **settings} != stored:
            self.run.config["settings"] = {**stored, **settings}
            write_json(self.run.folder / "config.json", self.run.config)

    def finish(self) -> Result:
        """Read the test data, for the first and only time, with the best weights; log the scores and write the report."""
        from .baseline import baselines  # scikit-learn takes a second to import

        assert self.learner.best is not None
        self.network.load_state_dict({name: tensor(array) for name, array in self.learner.best.items()})
        self.network.eval()
        self.run.save_weights(self.learner.best)
        problem, test = self.problem, self.problem.test
        output = self.answers(test)
        metrics = score(problem, output, test.target)
        others = baselines(problem.task, problem.train.inputs, self._targets(problem.train), test.inputs,
                           self._targets(test), classes=problem.preprocessor.classes, network=output)  # fmt: skip
        history = self.run.history()
        at = self.learner.progress
        result = Result(metrics, others, sum(line["seconds"] for line in history), at.epoch, at.best_epoch)
        self._report(result, output)
        self.run.log({"test": metrics, "baselines": others, "seconds": result.seconds, "best_epoch": result.best_epoch})
        return result

    def _report(self, result: Result, output: np.ndarray) -> None:
        problem, run = self.problem, self.run
        score = headline(result.metrics)
        renamed = {f"train_{score}": "train_score", f"validation_{score}": "validation_score"}
        write_report(run.report, ReportData(
            title=f"{run.config['family']} on {problem.name}", run=run.name, task=problem.task, output=output,
            target=self._targets(problem.test), metrics=result.metrics, classes=problem.preprocessor.classes,
            baselines=result.baselines, history=[{renamed.get(k, k): v for k, v in line.items()} for line in run.history()],
            best_epoch=result.best_epoch, target_name=problem.preprocessor.target_name,
            settings={**run.config["network"], **asdict(self.settings)}, network=str(self.network).splitlines(),
            notes=problem.notes, describe=lambda i: problem.describe("test", i), created=run.config["created"],
        ))  # fmt: skip

    def answers(self, examples: Examples) -> np.ndarray:
        """What the network says of `examples`: (N, K) probabilities, or (N,) numbers in the target's units."""
        return answers(self.forward, self.problem.preprocessor, arrays_for(self.network, examples))

    def _targets(self, examples: Examples) -> np.ndarray:
        return in_units(self.problem.preprocessor, examples.target)

    def _validate(self) -> dict[str, float]:
        examples = self.problem.validation
        raw = self.forward(arrays_for(self.network, examples))
        with no_grad():
            loss = float(self.learner.judged.loss(tensor(raw), tensor(examples.target)).array)
        if not np.isfinite(loss):
            raise explain_validation(
                self.learner, [Tensor(a) for a in (*arrays_for(self.network, examples), examples.target)]
            )
        if self.problem.task == "classification":
            return {"loss": loss, "accuracy": float((raw.argmax(1) == examples.target).mean())}
        return self._in_units({"loss": loss})

    def _in_units(self, values: dict[str, float]) -> dict[str, float]:
        """`values` with the root of a regression's loss, as RMSE in the target's units."""
        if self.problem.task == "classification":
            return values
        zero, one = in_units(self.problem.preprocessor, np.array([0.0, 1.0]))
        return {**values, "rmse": float(values["loss"] ** 0.5 * (one - zero))}

    def _better(self, a: dict[str, float], b: dict[str, float]) -> bool:
        if self.settings.monitor == "score" and "accuracy" in a and a["accuracy"] != b["accuracy"]:
            return a["accuracy"] > b["accuracy"]
        return a["loss"] < b["loss"]


def as_line(event: EpochDone) -> dict[str, Any]:
    """An epoch as metrics.jsonl has it: flat, `train_loss`, `validation_accuracy` and so on."""
    values = {f"{part}_{name}": v for part in ("train", "validation") for name, v in getattr(event, part).items()}
    return {"epoch": event.epoch, "step": event.step, **values, "learning_rate": event.lr, "best": event.improved,
            "seconds": event.seconds, "examples_per_second": event.examples_per_second}  # fmt: skip


# ---- beginning and going on ----------------------------------------------------------------------------------------------


def begin(problem: Problem, family: str, values: dict[str, Any], out: Path | None = None) -> Training:
    """Start a new run on `problem` with `values` for settings and network; its folder is made here."""
    settings, config = choose(family, values)
    preprocessor = problem.preprocessor
    set_num_threads(settings.threads)
    manual_seed(settings.seed)
    about = {
        "data": problem.name, "kind": problem.kind, "task": problem.task, "family": family, "network": asdict(config),
        "settings": asdict(settings), "inputs": preprocessor.input_spec(), "outputs": len(preprocessor.classes or [0]),
        "preprocessor": preprocessor.to_json(), "source": problem.source, "fingerprint": problem.fingerprint,
        "notes": problem.notes, "machine": platform.machine(),
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }  # fmt: skip
    network = models.family(family).build(about["inputs"], about["outputs"], problem.task, config)
    return Training(runs.create(about, out), problem, network, settings)


def resume(run: Run, problem: Problem, epochs: int | None = None, threads: int | None = None) -> Training:
    """Go on with `run` where its checkpoint stands. Raises DataError where the data have changed since."""
    if problem.fingerprint != run.config["fingerprint"]:
        raise DataError(f"{run.name}: its data have changed since it was begun (SHA-256 {problem.fingerprint[:12]}, was "
                        f"{run.config['fingerprint'][:12]}); expected the same files; put them back, or train anew")  # fmt: skip
    stored = {"eager": True, **run.config["settings"]}  # what was begun before there was a compiler goes on without it
    settings = Settings(**{**stored, "epochs": epochs or stored["epochs"], "threads": threads or stored["threads"]})
    set_num_threads(settings.threads)
    manual_seed(settings.seed)
    training = Training(run, problem, run.new_network(), settings)
    if run.checkpoint.exists():
        load_checkpoint(run.checkpoint, training.learner)
    elif run.result():  # without one, it was stopped before its first checkpoint and begins again
        raise StateError(
            f"{run.checkpoint}: missing, though the run is finished; expected it beside model.safetensors; train anew"
        )
    if training.learner.progress.epoch > settings.epochs:
        raise DataError(
            f"{run.name}: {training.learner.progress.epoch} epochs are done; expected --epochs of at least that many"
        )
    training.remember(epochs=settings.epochs)  # a later resume goes on to the same end
    run.keep_history_to(training.learner.progress.epoch)
    return training


# ---- a network's answers -------------------------------------------------------------------------------------------------


def arrays_for(network: Module, examples: Examples) -> list[np.ndarray]:
    """The arrays of `examples` that `network` reads, in its order."""
    return [examples.inputs[name] for name in network.order]


def answers(forward: Forward, preprocessor: Any, inputs: list[np.ndarray]) -> np.ndarray:
    """(N, K) probabilities in float64, or (N,) predictions in the target's units."""
    raw = forward(inputs)
    if preprocessor.classes is None:
        return in_units(preprocessor, raw)
    shifted = np.exp(raw.astype(np.float64) - raw.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def in_units(preprocessor: Any, target: np.ndarray) -> np.ndarray:
    """Regression targets as the data wrote them; class indices stay what they are."""
    return target if preprocessor.classes is not None else np.asarray(preprocessor.decode(target), np.float64)


def score(problem: Problem, output: np.ndarray, target: np.ndarray) -> Metrics:
    """The metrics of `output`, as `answers` gives it, against encoded targets."""
    if problem.task == "classification":
        return classification_metrics(output, target, problem.preprocessor.classes)
    return regression_metrics(output, in_units(problem.preprocessor, target))
