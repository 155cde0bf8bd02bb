"""The folder of a run: where it is, what it is called, and what its files mean (floor 6).

config.json              format version, data, settings: enough to rebuild network and preprocessing
model.safetensors        the best weights by validation
metrics.jsonl            one line an epoch, then one with the test scores
checkpoint.safetensors   where training stands; `train --resume` goes on from it
report.html              written at the end
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from .. import models, serialization
from ..data.problem import DataModule
from ..errors import DataError, OptionError, StateError, suggestion
from ..files import append_line, disk_error, plain, read_lines, write_bytes, write_json
from ..models.base import Model
from ..random import fork_rng
from .settings import choose

FORMAT = 1
RUNS_DIR = Path("runs")


class Run:
    """A run on disk; `config` is what config.json holds."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder = folder
        self.config = config

    weights = property(lambda self: self.folder / "model.safetensors")
    checkpoint = property(lambda self: self.folder / "checkpoint.safetensors")
    metrics = property(lambda self: self.folder / "metrics.jsonl")
    report = property(lambda self: self.folder / "report.html")

    @property
    def name(self) -> str:
        """What a user types to name this run: its folder's name under runs/, else its path."""
        return self.folder.name if self.folder.parent.resolve() == RUNS_DIR.resolve() else str(self.folder)

    def log(self, line: dict[str, Any]) -> None:
        append_line(self.metrics, json.dumps(plain(line), allow_nan=False))

    def history(self) -> list[dict[str, Any]]:
        """The epochs, as logged."""
        return [line for line in read_lines(self.metrics) if "epoch" in line]

    def result(self) -> dict[str, Any] | None:
        """The line with the test scores; None while the run is not finished."""
        return next((line for line in reversed(read_lines(self.metrics)) if "test" in line), None)

    def keep_history_to(self, epoch: int) -> None:
        """Forget what was logged after `epoch`, which is where the checkpoint stands."""
        lines = [line for line in self.history() if line["epoch"] <= epoch]
        write_bytes(self.metrics, "".join(json.dumps(line) + "\n" for line in lines).encode())

    def remember(self, **changes: Any) -> None:
        """Have config.json say so where `changes` are not what it has."""
        if {**self.config, **changes} != self.config:
            self.config.update(changes)
            write_json(self.folder / "config.json", self.config)

    def check_unchanged(self, problem: DataModule) -> None:
        """Raise DataError where `problem`, its data loaded again, is not what the run was begun on."""
        known = self.config["fingerprint"]
        if problem.fingerprint != known:
            raise DataError(f"{self.name}: its data have changed since it was begun (SHA-256 {problem.fingerprint[:12]}, was {known[:12]}); "
                            "expected the same files; put them back, or train anew; other files are scored by: pellucid evaluate RUN DATA")  # fmt: skip
        if problem.preprocessor.to_json() != self.config["preprocessor"]:
            raise DataError(f"{self.name}: its data are read otherwise than when it was begun, by another version of a library perhaps; "
                            "expected the same preprocessing; train anew")  # fmt: skip

    # ---- rebuilding what was trained ---------------------------------------------------------------------------------

    def new_network(self) -> Model:
        """The run's network with fresh weights."""
        config = self.config
        _, network = choose(config["family"], config["network"])
        return models.family(config["family"]).build(config["inputs"], config["outputs"], config["task"], network)

    def network(self) -> Model:
        """The run's network with its saved weights, ready to predict. Raises StateError where they do not fit."""
        if not self.weights.is_file():
            raise StateError(f"{self.weights}: no such file; expected a run that has finished an epoch; train it first")
        arrays = serialization.load(self.weights)
        with fork_rng():  # what is drawn here is overwritten below
            network = self.new_network()
        own = {name: t.shape for name, t in network.state_dict().items()}
        saved = {name: a.shape for name, a in arrays.items()}
        for name in sorted(own.keys() | saved.keys()):
            if own.get(name) != saved.get(name):
                raise StateError(
                    f"{self.weights}: {name} is {saved.get(name, 'missing')}, but config.json asks for "
                    f"{own.get(name, 'no such weight')}; expected weights and config of the same run; restore both from a copy"
                )
        network.load_state_dict(arrays)
        return network.eval()

    def save_weights(self, weights: dict[str, np.ndarray]) -> None:
        serialization.save(weights, self.weights)


# ---- making and finding runs ---------------------------------------------------------------------------------------------


def create(config: dict[str, Any], out: Path | None = None) -> Run:
    """A new folder for `config`: `out`, else runs/DATA-MODEL-N with the next free N. Nothing is ever overwritten."""
    folder = out or RUNS_DIR
    try:
        if out is not None:
            if out.exists():
                raise OptionError(f"--run-dir {out}: exists already; expected a new folder; choose another name")
            out.mkdir(parents=True)
        else:
            folder = _next_free(f"{config['data']}-{config['family']}")
        run = Run(folder, {"format": FORMAT, **config})
        write_json(folder / "config.json", run.config)
    except OSError as error:
        raise disk_error(folder, error) from None
    return run


def _next_free(stem: str) -> Path:
    RUNS_DIR.mkdir(exist_ok=True)
    taken = [int(m[1]) for path in RUNS_DIR.iterdir() if (m := re.fullmatch(re.escape(stem) + r"-(\d+)", path.name))]
    n = max(taken, default=0) + 1
    while True:
        try:
            (RUNS_DIR / f"{stem}-{n}").mkdir()
            return RUNS_DIR / f"{stem}-{n}"
        except FileExistsError:  # another process was quicker
            n += 1


def find(name: str) -> Run:
    """The run that `name` means: a path, a name under runs/, or `last`. Raises DataError where there is none."""
    names = [path.name for path in folders()]
    if name == "last":
        if not names:
            raise DataError(
                "last: there are no runs here yet; expected some under runs/; make one: pellucid train digits"
            )
        return load(max(folders(), key=_last_touched))
    for folder in (RUNS_DIR / name, Path(name)):
        if (folder / "config.json").is_file():
            return load(folder)
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


def load(folder: Path) -> Run:
    """The run in `folder`. Raises StateError for a damaged config.json or one of a newer format."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        version = config["format"]
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({(error.strerror or 'unknown').lower()}); check its permissions"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise StateError(
            f"{path}: damaged; expected the JSON that `pellucid train` wrote; restore it from a copy, or train again"
        ) from None
    if not isinstance(version, int) or version > FORMAT:
        raise StateError(
            f"{path}: format {version}, made by a newer pellucid; this version reads up to {FORMAT}; update pellucid"
        )
    needed = {"family", "network", "inputs", "outputs", "task", "kind", "preprocessor", "settings", "data", "source"}
    missing = sorted(needed - config.keys())
    if missing:
        raise StateError(
            f"{path}: {', '.join(missing)} missing; expected a complete config; restore it from a copy, or train again"
        )
    return Run(folder, config)
