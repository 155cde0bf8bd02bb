"""Prediction with a saved run: rows or files in, predictions or scores out (floor 8).

The kind of data reads what comes in, with the preprocessor saved in the run: exactly as the training data were read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..data.base import NewExamples, PredictionForm, Source
from ..data.files import sha256
from ..data.kinds import kind_named
from ..data.load import open_source
from ..data.problem import Inputs, Preprocessor
from ..data.table.partition import group_units
from ..data.table.read import Table
from ..errors import NonFiniteError, PellucidError
from ..evaluation.compiled import Forward
from ..evaluation.ensembles import MemberAnswers, spread_of
from ..evaluation.evaluator import inverse_transform, predict_outputs, scoring_of
from ..evaluation.metrics import Metrics
from ..models.base import Model
from ..models.ensemble import Ensemble
from ..runs.run import Run
from .known_rows import rows_of_training


@dataclass
class Predictions:
    """output: (N, K) probabilities, (N,) numbers, or (N, 3) lower end, median and upper end. names: of each row or file. view(i): what the network sees of example i,
    as an image uint8 (H, W), in colour (H, W, 3). table: the rows that came in. target: encoded, where it was there and
    asked for, and the weight and the group of each row then. notes: what was left out. inputs: what the network read.
    spread: of an ensemble, the standard deviation over its networks of each number of `output`."""

    output: np.ndarray
    names: list[str]
    view: Callable[[int], np.ndarray] | None = None
    table: Table | None = None
    target: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    weight: np.ndarray | None = None
    unit: np.ndarray | None = None
    inputs: Inputs = field(default_factory=dict, repr=False)
    spread: np.ndarray | None = None


class Predictor:
    """A run's network and preprocessor, loaded once."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.kind = kind_named(run.config.kind)
        self.preprocessor: Preprocessor = run.preprocessor()
        self.network: Model = run.network()
        self.scoring = scoring_of(run.config, self.preprocessor)
        self.forward = Forward(self.network, eager=run.config.settings.eager)
        self.members = (
            MemberAnswers(self.network, self.preprocessor, run.config.settings.eager)
            if isinstance(self.network, Ensemble)
            else None
        )

    @property
    def classes(self) -> list[str] | None:
        return self.preprocessor.classes

    def predict_test(self) -> Predictions:
        """Predictions for the run's own test split, loaded again. Raises DataError where the data have changed since."""
        data = self.run.load_problem()
        self.run.check_fingerprint(data)
        test = data.examples("test")
        names = data.names.get("test") or [f"test {i + 1}" for i in range(len(test))]
        output = self._forward(test.inputs)
        return Predictions(output, names, target=test.target, weight=test.weight, unit=test.unit, inputs=test.inputs)

    def predict(self, data: Sequence[str], read: str | None = None) -> Predictions:
        """Predictions for files, folders, archives, or one data set known by name. Raises DataError or OptionError.

        read: how files are to be read, where otherwise than those of training.
        """
        return self._with_spread(self._predictions(self.kind.read_new(self.preprocessor, self._sources(data, read))))

    def predict_in_parts(
        self, data: Sequence[str], read: str | None = None, labelled: bool = False
    ) -> Iterator[Predictions]:
        """`predict`, one part after another where the data are large. labelled: with the right answers; else DataError."""
        for new in self.kind.read_in_parts(self.preprocessor, self._sources(data, read), labelled=labelled):
            yield self._with_spread(self._predictions(new))

    def _sources(self, data: Sequence[str], read: str | None) -> list[Source]:
        return [self._open(name, read) for name in data]

    def predict_labelled(self, data: str, read: str | None = None) -> Predictions:
        """`predict` for data with the right answers in them; of large data without the rows themselves. Raises DataError."""
        parts = self.kind.read_in_parts(self.preprocessor, self._sources([data], read), labelled=True)
        pieces: list[Predictions] = []
        told: dict[str, str] = {}
        for new in parts:
            if len(pieces) == 1:
                pieces = [self._without_rows(pieces[0], told)]
            pieces.append(self._predictions(new))
            if len(pieces) > 1:
                pieces[-1] = self._without_rows(pieces[-1], told)
        if len(pieces) == 1:
            return pieces[0]
        target, weight = ([getattr(piece, name) for piece in pieces] for name in ("target", "weight"))
        return Predictions(
            np.concatenate([piece.output for piece in pieces]), [], target=np.concatenate(target), notes=list(told.values()),
            weight=None if weight[0] is None else np.concatenate(weight),
        )  # fmt: skip

    def _without_rows(self, piece: Predictions, told: dict[str, str]) -> Predictions:
        """A piece of large data to keep; `told` gets its notes, where there are none yet on what they are about."""
        for about, note in notes_by_column(self.unseen_values(piece)).items():
            told.setdefault(about, note)
        return Predictions(piece.output, [], target=piece.target, weight=piece.weight)

    def _open(self, name: str, read: str | None) -> Source:
        """Data to predict for. A data set known by name that the run learned from is split as it was then."""
        source = open_source(name, self.kind, self.run.config.settings.seed, read)
        if source.dataset is not None and name == self.run.config.source.get("spec"):
            own = self.run.data_source()
            source.record.update(own)
            source.options = {option: own[option] for option in own if option not in ("spec", "seed", "path")}
        return source

    def rows_of_training(self, predictions: Predictions) -> tuple[np.ndarray | None, list[str]]:
        """Which rows (N,) of `predictions`, of another table, the run learned from; None where there are none, or notes why
        that cannot be told.
        """
        if self.kind.prediction is not PredictionForm.ROWS or predictions.target is None or not predictions.inputs:
            return None, []
        try:
            data = self.run.load_problem()
            self.run.check_fingerprint(data)
        except PellucidError:
            return None, ["rows: the data of training are gone or changed, so rows that stand there too are not told"]
        return rows_of_training(data, predictions.inputs, predictions.target), []

    def _predictions(self, new: NewExamples) -> Predictions:
        output = self._forward(new.inputs)
        group = self.run.config.source.get("group")
        unit = group_units(new.table, group) if new.table is not None and isinstance(group, str) else None
        return Predictions(output, new.names, new.view, new.table, new.target, new.notes, new.weight, unit, new.inputs)

    def _forward(self, inputs: Inputs) -> np.ndarray:
        arrays = [inputs[name] for name in self.network.input_names]
        output = predict_outputs(self.forward, self.preprocessor, arrays, self.run.config.margin)
        bad = int((~np.isfinite(output.reshape(len(output), -1)).all(1)).sum())
        if bad:
            raise NonFiniteError(
                f"{self.run.name}: its network gives NaN or infinity for {bad:,} of {len(output):,} examples; expected finite "
                "numbers; its training blew up: train again with a lower --lr"
            )
        return output

    def _with_spread(self, predictions: Predictions) -> Predictions:
        if self.members is not None:
            inputs = [predictions.inputs[name] for name in self.network.input_names]
            predictions.spread = spread_of(self.members(inputs))
        return predictions

    def targets(self, predictions: Predictions) -> np.ndarray:
        """The targets of `predictions` as the data wrote them, (N,)."""
        assert predictions.target is not None
        return inverse_transform(self.preprocessor, predictions.target, list(predictions.inputs.values()))

    def score(self, predictions: Predictions, rows: np.ndarray | None = None) -> Metrics:
        """The scores of all predictions, or of those at `rows`, a mask (N,)."""
        assert predictions.target is not None
        chosen = slice(None) if rows is None else rows
        weight, unit = (None if of is None else of[chosen] for of in (predictions.weight, predictions.unit))
        return self.scoring.metrics(predictions.output[chosen], self.targets(predictions)[chosen], weight, unit)

    def unseen_values(self, predictions: Predictions) -> list[str]:
        """What was left out, and columns with values the network has never seen, a line each."""
        table = predictions.table
        return [*predictions.notes, *([] if table is None else self.preprocessor.unseen_values(table))]


def notes_by_column(notes: Sequence[str]) -> dict[str, str]:
    """The first of the notes on each column of a batch of rows, and every other note, by what they are about."""
    found: dict[str, str] = {}
    for note in notes:
        kind, about, *_ = [*note.split(": "), ""]
        found.setdefault(f"{kind}: {about}" if kind in ("columns", "numbers") else note, note)
    return found


def caveats(run: Run, data: str | None) -> list[str]:
    """What a reader of scores of `run` should know: training not finished, or `data` it has learned from."""
    notes = []
    if run.result() is None:
        notes.append(f"{run.name} is not finished ({run.progress()}): "
                     f"its scores will change; go on with: pellucid train --resume {run.name}")  # fmt: skip
    own = run.config.source.get("path")
    if data is not None and own and Path(data).exists() and _same(Path(data), Path(str(own))):
        notes.append(f"{data} is what {run.name} was trained on, so this score flatters it; `pellucid evaluate {run.name}` "
                     "scores the rows it has never seen")  # fmt: skip
    return notes


def _same(one: Path, other: Path) -> bool:
    """Whether two files are the same one, or hold the same bytes; of directories, whether they are one."""
    if not other.exists() or one.is_dir() != other.is_dir():
        return False
    return one.samefile(other) or (
        one.is_file() and (one.stat().st_size == other.stat().st_size and sha256([one]) == sha256([other]))
    )
