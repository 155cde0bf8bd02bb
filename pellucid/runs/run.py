"""A run's folder: where it is, what it is called, and what its files hold (floor 6).

config.json              a RunConfig: data, settings, preprocessing; enough to rebuild network and data
model.safetensors        the best weights by validation
metrics.jsonl            an EpochRecord a line, then a TestRecord
checkpoint.safetensors   where training stands; `train --resume` goes on from it
snapshots/epoch-0007.safetensors, ...   weights at the ends of epochs, see `snapshots.py`
samples/                 images drawn after each epoch, of a network that draws
report.html              written at the end, never read
members/1, 2, ...        of an ensemble: the run of each of its networks, which has no report and is not tested

All but the report and the samples are checked when they are read; see `schema.py`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import models
from ..creation import tensor
from ..data.problem import DataModule, Preprocessor
from ..errors import DataError, OptionError, StateError, suggestion
from ..files import append_line, disk_error, write_bytes, write_json
from ..grad_mode import init_empty_weights
from ..models.base import Model
from ..random import fork_rng
from ..tensor import Tensor
from .records import EpochRecord, LogRecord, RunConfig, TestRecord, read_config_json, read_line, to_line
from .renamed import new_name
from .schema import RESTORE, check_instance, damaged, parse_json, read_value
from .tensor_file import load_tensors, read_metadata, save_tensors

RUNS_DIR = Path("runs")
SAME_RUN = "config"  # the key of a tensor file's metadata that holds the digests of the config it belongs to


class Run:
    """A run on disk; `config` is what config.json holds."""

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder = folder
        self.config = config

    weights = property(lambda self: self.folder / "model.safetensors")
    checkpoint = property(lambda self: self.folder / "checkpoint.safetensors")
    metrics = property(lambda self: self.folder / "metrics.jsonl")
    report = property(lambda self: self.folder / "report.html")
    members = property(lambda self: self.folder / "members")
    snapshots = property(lambda self: self.folder / "snapshots")

    @property
    def name(self) -> str:
        """What a user types to name this run: its folder's name under runs/, else its path."""
        return self.folder.name if self.folder.parent.resolve() == RUNS_DIR.resolve() else str(self.folder)

    # ---- the log -------------------------------------------------------------------------------------------------

    def log(self, record: LogRecord) -> None:
        """Add a line to metrics.jsonl."""
        append_line(self.metrics, json.dumps(to_line(record), allow_nan=False))

    def records(self) -> list[LogRecord]:
        """What metrics.jsonl holds; nothing where there is none. A last line that a kill cut short is left out.

        Raises StateError for any other line that is damaged.
        """
        try:
            lines = self.metrics.read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _unreadable(self.metrics, error) from None
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        return [read_line(line, f"{self.metrics}: line {i}") for i, line in enumerate(lines, 1)]

    def history(self) -> list[EpochRecord]:
        """The epochs, as logged. Raises StateError where one is missing between them."""
        epochs = [record for record in self.records() if isinstance(record, EpochRecord)]
        for i, record in enumerate(epochs, 1):
            if record.epoch != i:
                raise damaged(f"{self.metrics}: line {i}", f"it is of epoch {record.epoch}", f"epoch {i}")
        return epochs

    def result(self) -> TestRecord | None:
        """The test scores; None while the run is not finished."""
        return next((record for record in reversed(self.records()) if isinstance(record, TestRecord)), None)

    def truncate_log(self, epoch: int) -> None:
        """Remove what was logged after `epoch`, where the checkpoint stands. Raises StateError where epochs are missing."""
        kept = [record for record in self.history() if record.epoch <= epoch]
        if len(kept) < epoch:
            raise damaged(
                str(self.metrics), f"it ends after epoch {len(kept)}", f"{epoch} epochs, as many as the checkpoint has"
            )
        self.replace_log(kept)

    def replace_log(self, records: Sequence[LogRecord]) -> None:
        """Write metrics.jsonl anew."""
        write_bytes(self.metrics, "".join(json.dumps(to_line(record)) + "\n" for record in records).encode())

    def progress(self) -> str:
        """How much is trained, in words: `3 of 30 epochs`, or `1 of 5 networks`."""
        settings = self.config.settings
        if settings.ensemble == 1:
            return f"{len(self.history())} of {settings.epochs} epochs"
        begun = len(list(self.members.glob("*/config.json")))
        return f"{max(begun - 1, 0)} of {settings.ensemble} networks"

    # ---- the config ----------------------------------------------------------------------------------------------

    def update_config(self, **changes: Any) -> None:
        """Write config.json anew where `changes` are not what it has."""
        config = dataclasses.replace(self.config, **changes)
        if config != self.config:
            self.config = config
            write_json(self.folder / "config.json", config.to_json())

    def check_fingerprint(self, problem: DataModule) -> None:
        """Raise DataError where `problem`, its data loaded again, is not what the run was started on."""
        expected = self.config.fingerprint
        if problem.fingerprint != expected:
            raise DataError(f"{self.name}: its data have changed since it was begun (SHA-256 {problem.fingerprint[:12]}, was {expected[:12]}); "
                            "expected the same files; put them back, or train anew; other files are scored by: pellucid evaluate RUN DATA")  # fmt: skip
        # Through this version's fields: a run of an earlier one lacks those that have come since.
        if problem.preprocessor.encoding() != self.preprocessor().encoding():
            raise DataError(f"{self.name}: its data are read otherwise than when it was begun, by another version of a library perhaps; "
                            "expected the same preprocessing; train anew")  # fmt: skip

    # ---- rebuilding what was trained -----------------------------------------------------------------------------

    def load_problem(self) -> DataModule:
        """The run's data, loaded again. Raises DataError, or StateError where config.json does not say which."""
        from ..data.load import load_problem  # duckdb

        return load_problem(**self.data_source())

    def data_source(self) -> dict[str, Any]:
        """The arguments of `load_problem` for the run's data. Raises StateError where config.json does not say which."""
        from ..data.kinds import data_options, kind_named  # duckdb

        self.check_identity()
        path, source = self.folder / "config.json", {}
        options = {name: option.hint for name, option in data_options().items()}
        types = {"spec": str, "seed": int, "path": str | None, **options}
        for stored, value in self.config.source.items():
            name = new_name(stored, options) or stored
            if name not in types:
                raise damaged(f"{path}: source.{stored:.60}", "no such field", f"one of {', '.join(types)}")
            source[name] = read_value(types[name], value, str(path), f"source.{name}")
        if "spec" not in source:
            raise damaged(f"{path}: source.spec", "missing", "the name or path of the data")
        return kind_named(self.config.kind).earlier_source(source, self.config.preprocessor)

    def preprocessor(self) -> Preprocessor:
        """The run's preprocessor. Raises StateError, which names config.json, where it cannot be read."""
        from ..data.kinds import preprocessor_from_json  # duckdb

        self.check_identity()
        path, known = self.folder / "config.json", self.config.preprocessor
        if known.get("kind") != self.config.kind:
            raise damaged(
                f"{path}: preprocessor.kind", f"it is {known.get('kind')!r:.60}", f"{self.config.kind!r}, the run's"
            )
        try:
            preprocessor: Preprocessor = preprocessor_from_json(known)
        except StateError as error:
            raise StateError(f"{path}: {error}") from None
        except (TypeError, ValueError, LookupError, AttributeError):
            raise damaged(f"{path}: preprocessor", "its fields are not those that this version writes", "an unchanged one") from None  # fmt: skip
        if dataclasses.is_dataclass(preprocessor):
            check_instance(preprocessor, str(path), "preprocessor")
        return preprocessor

    def new_network(self) -> Model:
        """The run's network with fresh weights."""
        config, preprocessor = self.config, self.preprocessor()
        try:
            return models.build_network(
                config.family, preprocessor.input_spec(), preprocessor.outputs, config.task, config.network,
                config.settings.ensemble,
            )  # fmt: skip
        except OptionError as error:
            raise StateError(f"{self.folder / 'config.json'}: network: {error}; or {RESTORE}") from None

    def network(self) -> Model:
        """The run's network with its saved weights, ready to predict. Raises StateError where they do not fit."""
        if not self.weights.is_file():
            done = "finished an epoch" if self.config.settings.ensemble == 1 else "trained all of its networks"
            raise StateError(f"{self.weights}: no such file; expected a run that has {done}; train it first, or go on "
                             f"with: pellucid train --resume {self.name}")  # fmt: skip
        arrays, _ = self.check_tensors(self.weights)
        with fork_rng(), init_empty_weights():  # what would be drawn is overwritten below
            network = self.new_network()
        check_shapes(self.weights, arrays, {name: t.array for name, t in network.state_dict().items()})
        network.load_state_dict({name: tensor(array) for name, array in arrays.items()})
        return network.eval()

    def load_weights(self) -> dict[str, Tensor]:
        """The best weights by name. Raises StateError where the file is damaged or of another run."""
        return {name: tensor(array) for name, array in self.check_tensors(self.weights)[0].items()}

    def save_weights(self, weights: dict[str, np.ndarray]) -> None:
        self.save_tensors(self.weights, weights, {})

    def save_tensors(
        self, path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str], flushed: bool = True
    ) -> None:
        """Write a tensor file that belongs to this run's config. flushed: see `files.writing`."""
        save_tensors(path, arrays, {**metadata, SAME_RUN: json.dumps(self.config.identity)}, flushed)

    def check_tensors(self, path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """(arrays, metadata) of a tensor file. Raises StateError where it is damaged or belongs to another config."""
        arrays, metadata = load_tensors(path)
        self._check_same_run(path, metadata)
        return arrays, metadata

    def check_identity(self) -> None:
        """Raise StateError where config.json is not what the tensor files were trained with.

        Called before anything is built from it, which could be as large as a changed config.json says.
        """
        for path in (self.weights, self.checkpoint):
            if path.is_file():
                self._check_same_run(path, read_metadata(path))

    def _check_same_run(self, path: Path, metadata: dict[str, str]) -> None:
        saved, own = parse_json(metadata.get(SAME_RUN, "{}").encode(), f"{path}: metadata"), self.config.identity
        for name, digest in own.items():
            if not isinstance(saved, dict) or saved.get(name) != digest:
                raise damaged(f"{self.folder / 'config.json'}: {name}", f"not what {path.name} was trained with",
                              "both files of the same run")  # fmt: skip


def check_shapes(path: Path, arrays: dict[str, np.ndarray], like: dict[str, np.ndarray]) -> None:
    """Raise StateError where `arrays`, loaded from `path`, have other names, shapes or dtypes than `like`."""
    describe = lambda arrays, name: f"{arrays[name].shape} {arrays[name].dtype}" if name in arrays else "missing"
    for name in sorted(like.keys() | arrays.keys()):
        saved, expected = describe(arrays, name), describe(like, name)
        if saved != expected:
            raise StateError(f"{path}: {name} is {saved}, but config.json asks for {expected}; expected weights and config of the same "
                             "run; restore both from a copy")  # fmt: skip


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be read ({(error.strerror or 'unknown').lower()}); check its permissions")


# ---- making and finding runs ---------------------------------------------------------------------------------------------


def create_run(config: RunConfig, out: Path | None = None) -> Run:
    """A new folder for `config`: `out`, else runs/DATA-MODEL-N with the next free N. Nothing is ever overwritten."""
    folder = out or RUNS_DIR
    try:
        if out is not None:
            if out.exists():
                raise OptionError(f"--run-dir {out}: exists already; expected a new folder; choose another name")
            out.mkdir(parents=True)
        else:
            folder = next_free(f"{config.data}-{config.family}")
        write_json(folder / "config.json", config.to_json())
    except OSError as error:
        raise disk_error(folder, error) from None
    return Run(folder, config)


def next_free(stem: str) -> Path:
    """A new folder runs/STEM-N, with the next free N."""
    RUNS_DIR.mkdir(exist_ok=True)
    taken = [int(m[1]) for path in RUNS_DIR.iterdir() if (m := re.fullmatch(re.escape(stem) + r"-(\d+)", path.name))]
    n = max(taken, default=0) + 1
    while True:
        try:
            (RUNS_DIR / f"{stem}-{n}").mkdir()
            return RUNS_DIR / f"{stem}-{n}"
        except FileExistsError:  # another process was quicker
            n += 1


def find_run(name: str) -> Run:
    """The run that `name` means: a path, a name under runs/, or `last`. Raises DataError where there is none."""
    names = [path.name for path in folders()]
    if name == "last":
        if not names:
            raise DataError(
                "last: there are no runs here yet; expected some under runs/; make one: pellucid train digits"
            )
        return load_run(max(folders(), key=_last_touched))
    for folder in (RUNS_DIR / name, Path(name)):
        if (folder / "config.json").is_file():
            return load_run(folder)
    hint = suggestion(name, names)
    if Path(name).is_dir():
        raise DataError(f"{name}: no run, it has no config.json; expected a folder that `pellucid train` made.{hint}")
    raise DataError(f"{name}: no such run; expected a path, a name under runs/, or last; see `pellucid runs`.{hint}")


def _last_touched(folder: Path) -> int:
    return max(path.stat().st_mtime_ns for path in folder.iterdir())


def folders() -> list[Path]:
    """The folders of the runs under runs/, by name and number."""
    found = [path.parent for path in RUNS_DIR.glob("*/config.json")]
    return sorted(found, key=lambda path: [int(s) if s.isdigit() else s for s in re.split(r"(\d+)", path.name)])


def load_run(folder: Path) -> Run:
    """The run in `folder`. Raises StateError for a config.json that is damaged, or of a format that is not read."""
    path = folder / "config.json"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    return Run(folder, read_config_json(content, path))
