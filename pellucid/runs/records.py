"""The records of a run: its configuration, an epoch, the test scores (floor 6).

Each is a dataclass; `schema.py` reads it from JSON by its annotations. Another record that a later version adds, or a field
with a default, needs no new format; anything else does, and `run.py` then reads both.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import models
from ..errors import PellucidError, StateError
from ..files import plain
from .schema import (
    DIGEST,
    RESTORE,
    Json,
    damaged,
    field_digests,
    parse_json,
    read_record,
    record_digest,
)
from .settings import Settings

FORMAT = 2

# The score that stands first of a run's, whichever of these it has, and its unit. Accuracy is in percent and better where
# higher, the others where lower.
PRIMARY = {"accuracy": "", "rmse": "", "nll_per_char": " nats per character", "frechet": ""}

# What a network was trained on and as: fixed for the life of a run. Tensor files keep these digests too.
IDENTITY = ("kind", "task", "family", "network", "preprocessor", "source", "fingerprint")


@dataclass(frozen=True)
class Decision:
    """How one of two classes is named: `positive` where its probability is at least `threshold`, chosen on validation.

    positive: index of the class that F1 and the precision-recall area are of.
    """

    positive: int
    threshold: float = 0.5


@dataclass(frozen=True)
class RunConfig:
    """Everything about a run but its numbers: enough to rebuild data, preprocessing and network.

    data: the data set's name.      kind, task: as `DataModule` says.      network: the `Config` of the family.
    preprocessor: what `Preprocessor.to_json` gave.      source: the arguments of `load_problem`.
    fingerprint: SHA-256 of the data's files.      notes: choices made on the way, one line each.
    created: date and time.      init_from: the run whose weights it began with, a path.
    feature_network: the run whose features measure the Frechet distance, a path.
    decision: of two classes with a metric asked for.      margin: by which the ends of an interval are moved apart, in the
    target's units, so that it covers the share of validation rows that was asked for. thresholds: the probability from which
    each of several labels is named; empty where none was chosen.
    """

    data: str
    kind: str
    task: str
    family: str
    network: Any
    settings: Settings
    preprocessor: dict[str, Json]
    source: dict[str, Json]
    fingerprint: str
    notes: list[str] = field(default_factory=list)
    machine: str = ""
    created: str = ""
    init_from: str | None = None
    feature_network: str | None = None
    decision: Decision | None = None
    margin: float = 0.0
    thresholds: list[float] = field(default_factory=list)

    def to_json(self) -> dict[str, Json]:
        """As config.json has it: the format, the fields, and the digest of each field."""
        fields = _plain_fields(self)
        return {"format": FORMAT, **fields, DIGEST: {**field_digests(fields)}}

    @cached_property  # read at every saving; a preprocessor of thousands of columns takes long to digest
    def identity(self) -> dict[str, str]:
        """The digest of each field that tensor files are bound to."""
        fields = _plain_fields(self)
        return field_digests({name: fields[name] for name in IDENTITY})


def _plain_fields(record: RunConfig | LogRecord) -> dict[str, Json]:
    """The fields of a record, as JSON can hold them."""
    return {name: plain(value) for name, value in dataclasses.asdict(record).items()}


def read_config_json(content: bytes, path: Path) -> RunConfig:
    """The RunConfig that config.json at `path` holds. Raises StateError, which names the field, for anything else."""
    record = parse_json(content, str(path))
    if not isinstance(record, dict) or "format" not in record:
        raise damaged(str(path), "damaged, it names no format", "the JSON that `pellucid train` wrote")
    _check_format(record.pop("format"), record, path)
    digests = record.pop(DIGEST, None)
    if not isinstance(digests, dict):
        raise damaged(f"{path}: {DIGEST}", "missing, or no object", "the digest of each field")
    family = record.get("family")
    if not isinstance(family, str) or family not in models.FAMILIES:
        raise damaged(f"{path}: family", f"it is {family!r:.60}", f"one of {', '.join(models.FAMILIES)}")
    try:
        config = read_record(RunConfig, record, str(path))
        network = read_record(models.FAMILIES[family].config, config.network, str(path), "network")
    except StateError:
        raise
    except PellucidError as error:  # what Settings or a family's Config refuses
        raise StateError(f"{path}: {error}; or {RESTORE}") from None
    for name in sorted(record.keys() | digests.keys()):
        if name not in record or record_digest(record[name]) != digests.get(name):
            raise damaged(f"{path}: {name}", "changed since pellucid wrote it",
                          f"the value whose SHA-256 begins with {str(digests.get(name))[:12]}")  # fmt: skip
    return dataclasses.replace(config, network=network)


def _check_format(version: Json, record: dict[str, Json], path: Path) -> None:
    if type(version) is not int:
        raise damaged(f"{path}: format", f"it is {version!r:.60}", f"a whole number up to {FORMAT}")
    if version > FORMAT:
        raise StateError(f"{path}: format {version}, made by a newer pellucid; this version reads up to {FORMAT}; update pellucid")  # fmt: skip
    if version < FORMAT:
        source = record.get("source")
        spec = source.get("spec", "DATA") if isinstance(source, dict) else "DATA"
        raise StateError(f"{path}: format {version}, of a pellucid before saved runs were checked; expected format {FORMAT}, which this and "
                         f"every later version reads; train it again: pellucid train {spec!s:.100} --model {record.get('family')!s:.40}")  # fmt: skip


# ---- the log -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Metrics:
    """The scores of a model, by name.

    scores: None for one that the data cannot give.      n: of how many examples, characters or images.
    intervals: the 95% interval of each score that has a usable one.      correct: right answers, of a classification.
    gain: of a baseline: how much better the network is on the same examples, and the 95% interval of that.
    headline: the score that stands first, where it is not the first of PRIMARY.
    groups: of how many groups the examples are, where the intervals are over groups.
    """

    scores: dict[str, float | None]
    n: int
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    correct: int | None = None
    gain: tuple[float, float, float] | None = None
    headline: str | None = None
    groups: int | None = None

    def __getitem__(self, name: str) -> Any:
        return self.scores[name]

    def __contains__(self, name: str) -> bool:
        return name in self.scores

    def get(self, name: str) -> float | None:
        return self.scores.get(name)

    @property
    def first(self) -> str | None:
        """The name of the score that stands first; None without one."""
        return self.headline or next((name for name in PRIMARY if name in self.scores), None)


@dataclass(frozen=True)
class EpochRecord:
    """An epoch, a line of metrics.jsonl: mean values in training, and of the validation part after it.

    best: whether it is the best so far.      seconds: of this epoch.      sample: text written after it.
    picture: images drawn after it, a file of the run.
    """

    epoch: int
    step: int
    train: dict[str, float | None]
    validation: dict[str, float | None]
    learning_rate: float
    best: bool
    seconds: float
    examples_per_second: float
    sample: str | None = None
    picture: str | None = None


@dataclass(frozen=True)
class FoldScores:
    """Mean scores over the folds of a cross-validation, with their intervals; `gain` of a baseline is over the folds too.

    count: of trainings.
    """

    count: int
    network: Metrics
    baselines: dict[str, Metrics]


@dataclass(frozen=True)
class ForecastInterval:
    """The interval of forecasts of a series, by steps ahead.

    level: share of values that it is to hold.      half_widths: standardised, measured on the validation part.
    coverage: share of the values of the test part that lay inside.      counts: of how many.
    """

    level: float
    half_widths: list[float]
    coverage: list[float]
    counts: list[int]


@dataclass(frozen=True)
class TestRecord:
    """The last line of metrics.jsonl: scores on the test part, those of the baselines, seconds of all epochs.

    folds: those of a cross-validation, of a small table.      interval: of forecasts of a series.
    """

    __test__ = False  # no test of pytest's

    test: Metrics
    baselines: dict[str, Metrics]
    seconds: float
    best_epoch: int
    folds: FoldScores | None = None
    interval: ForecastInterval | None = None


PICTURE = r"samples/[\w-]{1,100}\.png"  # what `EpochRecord.picture` may be
LogRecord = EpochRecord | TestRecord


def to_line(record: LogRecord) -> dict[str, Json]:
    """A record as a line of metrics.jsonl has it: without fields that are None, and with its digest."""
    fields: dict[str, Json] = {name: value for name, value in _plain_fields(record).items() if value is not None}
    return {**fields, DIGEST: record_digest(fields)}


def read_line(content: bytes, where: str) -> LogRecord:
    """The record of a line of metrics.jsonl. Raises StateError for anything else."""
    fields = parse_json(content, where)
    if not isinstance(fields, dict):
        raise damaged(where, "damaged", "the JSON that `pellucid train` wrote")
    expected = fields.pop(DIGEST, None)
    record: LogRecord = read_record(TestRecord if "test" in fields else EpochRecord, fields, where)  # type: ignore[assignment]
    if record_digest(fields) != expected:
        raise damaged(where, "changed since pellucid wrote it", "an unchanged line")
    if isinstance(record, TestRecord):
        _check_scores(record, where)
    elif record.picture is not None and not re.fullmatch(PICTURE, record.picture):  # no file outside the run is read
        raise damaged(f"{where}: picture", f"it is {record.picture[:60]}", "a file such as samples/epoch-001.png")
    return record


def _check_scores(record: TestRecord, where: str) -> None:
    """Raise StateError where the scores of a run and its baselines are not of one kind, so that they cannot be compared."""
    first = record.test.first
    if first is None:
        raise damaged(
            f"{where}: test.scores",
            f"it has {', '.join(record.test.scores)[:60] or 'none'}",
            f"one of {', '.join(PRIMARY)}",
        )
    for name, metrics in {
        "test": record.test,
        **{f"baselines.{name}": m for name, m in record.baselines.items()},
    }.items():
        if metrics.get(first) is None:
            raise damaged(f"{where}: {name}.scores.{first}", "missing", "a number")
        if first == "accuracy" and metrics.correct is None:
            raise damaged(f"{where}: {name}.correct", "missing", "a whole number")
        if first == "frechet" and metrics.get("frechet_relative") is None:
            raise damaged(f"{where}: {name}.scores.frechet_relative", "missing", "a number")
