"""How a network is trained: the settings, the recipes that fill them in, and what of them a user may say (floor 6).

A setting comes from the command line, else from `--config FILE.toml`, else from the recipe of the data set, else from the
recipe of its kind and size, else from the default here. Recipes were chosen on validation data alone.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import models
from ..errors import DataError, OptionError, nearest

OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "adagrad", "muon")
SCHEDULES = ("onecycle", "cosine", "constant")
MONITORS = ("score", "loss")


@dataclass(frozen=True)
class Settings:
    """What training needs beside data and network; plain values, saved in a run's config.json.

    lr: the highest learning rate; `schedule` says how it is reached and left, in `warmup`, a share of all steps.
    average: decay of the moving average of weights that is validated and saved; 0 for none.
    clip: largest norm of the gradient; 0 for no limit.
    patience: epochs without a better validation result after which training stops; 0 for never.
    monitor: what "better" means on validation data: "score" (accuracy, RMSE) or "loss".
    eager: run operation by operation; else whole steps are compiled.
    """

    optimizer: str = "adamw"
    lr: float = 2e-3
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    warmup: float = 0.1
    epochs: int = 30
    batch_size: int = 128
    average: float = 0.99
    clip: float = 1.0
    patience: int = 0
    monitor: str = "loss"
    seed: int = 0
    threads: int = 1
    eager: bool = False

    def __post_init__(self) -> None:
        for name, choices in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("monitor", MONITORS)):
            value = getattr(self, name)
            if value not in choices:
                raise OptionError(
                    f"{name}: {value!r}; expected one of {', '.join(choices)}.{nearest(str(value), choices)}"
                )
        for name in ("epochs", "batch_size", "threads"):
            self._check(name, getattr(self, name) >= 1, "a whole number from 1")
        for name in ("patience", "seed", "clip", "weight_decay"):
            self._check(name, getattr(self, name) >= 0 and math.isfinite(getattr(self, name)), "0 or more")
        self._check("lr", 0 < self.lr < math.inf, "a number above 0")
        self._check("average", 0 <= self.average < 1, "0 up to, but not including, 1")
        self._check("warmup", 0 <= self.warmup <= 1, "a share of all steps, 0 to 1")

    def _check(self, name: str, fits: bool, expected: str) -> None:
        if not fits:
            default = next(f.default for f in dataclasses.fields(self) if f.name == name)
            raise OptionError(f"{name}: {getattr(self, name)}; expected {expected}; write {default}")


# A recipe holds settings and the network's configuration side by side, as a --config file does. The more particular one
# overrules: kind, then "large" from LARGE training examples on, then the data set's own name.
LARGE = 10_000
RECIPES: dict[str, dict[str, Any]] = {
    "images": {"layers": [128, 64], "shift": 1, "weight_decay": 0.1, "epochs": 30, "threads": 2},
    "pictures": {"layers": [256, 128], "shift": 2, "weight_decay": 0.1, "epochs": 30, "threads": 2},
    "table": {"layers": [128, 64], "dropout": 0.1, "epochs": 100, "batch_size": 32, "patience": 20},
    "table large": {"epochs": 15, "batch_size": 256, "average": 0.995, "weight_decay": 0.1, "patience": 6},
    "digits": {
        "shift": 0,
        "dropout": 0.1,
        "label_smoothing": 0.05,
        "lr": 4e-3,
        "epochs": 40,
        "batch_size": 32,
        "threads": 1,
    },
    "abalone": {"numbers": "plain"},
}

_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    tuple: "a list of whole numbers",
    bool: "true or false",
}


def recipe(name: str, kind: str, examples: int) -> dict[str, Any]:
    """The shipped values for the data set `name`, of `kind` ("images", "pictures", "table") and with so many training `examples`."""
    found: dict[str, Any] = {}
    for key in (kind, f"{kind} large" if examples >= LARGE else "", name):
        found.update(RECIPES.get(key, {}))
    return found


def choose(family: str, values: dict[str, Any]) -> tuple[Settings, Any]:
    """`values` as (Settings, the family's Config). Raises OptionError for a name or value that neither takes."""
    config = models.family(family).Config
    fields = {f.name: f for f in (*dataclasses.fields(Settings), *dataclasses.fields(config))}
    checked = {}
    for name, value in values.items():
        if name not in fields:
            raise OptionError(
                f"{name}: no such setting; expected one of {', '.join(sorted(fields))}.{nearest(name, fields)}"
            )
        checked[name] = _typed(name, value, type(fields[name].default))
    mine = {f.name for f in dataclasses.fields(Settings)}
    settings = Settings(**{name: value for name, value in checked.items() if name in mine})
    return settings, config(**{name: value for name, value in checked.items() if name not in mine})


def _typed(name: str, value: Any, kind: type) -> Any:
    """`value` as `kind`; an int will do for a float, a list for a tuple."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise OptionError(f"{name}: {value!r} is a {type(value).__name__}; expected {_KINDS.get(kind, kind.__name__)}")
    return value


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a TOML file, as written; raises DataError where it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a TOML file with settings, such as lr = 0.001") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: {_first_line(error)}; expected TOML, one setting a line, such as lr = 0.001"
        ) from None


def _first_line(error: Exception) -> str:
    return "it is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).splitlines()[0]
