"""Settings of a training, and the recipes that give their values (floor 6).

A setting comes from the command line, else from `--config FILE.toml`, else from the recipe of the data set, else from the
recipe of its kind and size, else from the default here. Recipes were chosen on validation data alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import models
from ..errors import DataError, OptionError, suggestion
from ..models.base import TYPE_NAMES, check_field_types
from .metric_names import METRIC_TASKS
from .renamed import new_name

# What a setting may be given as: a field of Settings or of a Config, or a value of a TOML file, checked before it is used.
Setting = bool | int | float | str | Sequence["Setting"] | Path | None

OPTIMIZERS = ("adamw", "adam", "sgd", "rmsprop", "adagrad", "muon")
SCHEDULES = ("onecycle", "cosine", "constant")
MONITORS = ("score", "loss")
METRICS = ("", *METRIC_TASKS)


@dataclass(frozen=True)
class Settings:
    """The hyperparameters of a training; plain values, saved in a run's config.json.

    lr: the peak learning rate.      schedule: its course, after a warm-up over the share `warmup_fraction` of all steps.
    ema_decay: decay of the exponential moving average of the weights, which is validated and saved; 0 for no average.
    clip_grad_norm: the largest norm of the gradient; 0 for no limit.
    momentum: SGD's momentum, or Adam's beta1 (decay of the mean gradient).      beta2: decay of the mean squared gradient.
    steps_per_epoch: steps of an epoch, on examples drawn anew for each; 0 for all examples.
    passes: how often an epoch goes through all examples.
    least_steps: steps of a training at least: epochs and passes are added for them. 0 for as many as the epochs have.
    patience: epochs without a better validation result after which training stops; 0 for never.
    monitor: the validation result to compare: "score" (accuracy, RMSE) or "loss".
    metric: the score by which validation selects and `patience` waits, in place of `monitor`; it is told first. "" for none.
    class_weight: weights of the classes in the loss: "none", "balanced" (each class the same in all), or "a=1,b=5".
    num_threads: threads for compiled steps and matrix products.
    eager: run operation by operation instead of compiling whole steps.
    folds: whether a table of few rows is scored over folds too: 0 for never.
    freeze: paths of layers that are not trained.
    ensemble: networks of the run, each trained from a seed of its own, whose mean is the answer.
    snapshots: epochs whose weights are kept, see `snapshots.py`; 0 for none, -1 for as many as there is room for.
    """

    optimizer: str = "adamw"
    lr: float = 2e-3
    weight_decay: float = 1e-2
    schedule: str = "cosine"
    warmup_fraction: float = 0.1
    epochs: int = 30
    batch_size: int = 128
    ema_decay: float = 0.99
    clip_grad_norm: float = 1.0
    momentum: float = 0.9
    beta2: float = 0.999
    steps_per_epoch: int = 0
    passes: int = 1
    least_steps: int = 0
    patience: int = 0
    monitor: str = "loss"
    metric: str = ""
    class_weight: str = "none"
    seed: int = 0
    num_threads: int = 1
    eager: bool = False
    folds: int = 5
    freeze: tuple[str, ...] = ()
    ensemble: int = 1
    snapshots: int = -1

    def __post_init__(self) -> None:
        check_field_types(self)
        object.__setattr__(self, "freeze", (self.freeze,) if isinstance(self.freeze, str) else tuple(self.freeze))
        words = (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES), ("monitor", MONITORS), ("metric", METRICS))
        for name, choices in words:
            value = getattr(self, name)
            if value not in choices:
                raise OptionError(
                    f"{name}: {value!r}; expected one of {', '.join(filter(None, choices))}.{suggestion(str(value), choices)}"
                )
        for name in ("epochs", "batch_size", "num_threads", "passes", "ensemble"):
            self._check(name, getattr(self, name) >= 1, "a whole number from 1")
        for name in ("patience", "seed", "clip_grad_norm", "weight_decay", "steps_per_epoch", "least_steps"):
            self._check(name, getattr(self, name) >= 0 and math.isfinite(getattr(self, name)), "0 or more")
        self._check("snapshots", self.snapshots >= -1, "a number of epochs, 0 for none, or -1 for as many as fit")
        self._check("folds", self.folds in (0, 5), "5, or 0 for none")
        self._check("lr", 0 < self.lr < math.inf, "a number above 0")
        for name in ("ema_decay", "momentum", "beta2"):
            self._check(name, 0 <= getattr(self, name) < 1, "0 up to, but not including, 1")
        self._check("warmup_fraction", 0 <= self.warmup_fraction <= 1, "a share of all steps, 0 to 1")
        if not all(isinstance(path, str) for path in self.freeze):
            raise OptionError(f'freeze: {list(self.freeze)}; expected paths of layers; write freeze = ["stages.0"]')

    def _check(self, name: str, fits: bool, expected: str) -> None:
        if not fits:
            default = next(f.default for f in dataclasses.fields(self) if f.name == name)
            raise OptionError(f"{name}: {getattr(self, name)}; expected {expected}; write {default}")


LEAST_EPOCHS = 30  # where steps are added: how often a training is validated


def with_least_steps(settings: Settings, examples: int) -> Settings:
    """`settings` with the epochs and passes that `least_steps` needs on so many examples, and 0 in its place.

    Short epochs become several passes, so that there are about LEAST_EPOCHS of them.
    """
    batches = -(-examples // settings.batch_size)
    steps = max(settings.least_steps, settings.epochs * settings.passes * batches)
    passes = max(settings.passes, round(steps / LEAST_EPOCHS / batches)) if settings.least_steps else settings.passes
    epochs = -(-steps // (passes * batches))
    return dataclasses.replace(settings, epochs=epochs, passes=passes, least_steps=0)


# A recipe is a file in pellucid/recipes: settings and the network's configuration side by side, as in a --config file.
# The more particular one overrules: FAMILY-DATA KIND, then FAMILY-DATA KIND-over-1k, -over-10k and -over-100k from so many training examples
# on, then FAMILY-DATA SET. Grey images are a kind of their own here, "image-grey".
RECIPES = Path(__file__).parent.parent / "recipes"
SIZES = {"over-1k": 1_000, "over-10k": 10_000, "over-100k": 100_000}
RENAMED_RECIPES = {
    "cnn-images": "cnn-image-grey", "cnn-images-large": "cnn-image-grey-over-10k", "cnn-pictures": "cnn-image",
    "cnn-pictures-large": "cnn-image-over-10k", "mlp-images": "mlp-image-grey", "mlp-pictures": "mlp-image",
    "mlp-table-large": "mlp-table-over-10k", "gan-images": "gan-image-grey", "diffusion-images": "diffusion-image-grey",
    "transformer-6x384": "transformer-nanogpt-char",
}  # fmt: skip


def load_recipe(family: str, data: str, kind: str, examples: int) -> dict[str, Setting]:
    """The shipped values of `family` for the data set `data` with so many training `examples`.

    kind: what recipes for such data are called, `Preprocessor.recipe`.
    """
    values: dict[str, Setting] = {}
    sizes = [f"{kind}-{size}" for size, least in SIZES.items() if examples >= least]
    for name in (kind, *sizes, data):
        path = RECIPES / f"{family}-{name}.toml"
        if name and path.is_file():
            values.update(read_config(path))
    return values


def resolve_config(family: str, values: Mapping[str, Setting]) -> tuple[Settings, Any]:
    """`values` as (Settings, the family's Config). Raises OptionError for a name or value that neither takes."""
    config = models.family(family).config
    fields = {f.name: f for f in (*dataclasses.fields(Settings), *dataclasses.fields(config))}
    checked: dict[str, Any] = {}  # each of its field's type
    for name, value in values.items():
        if name not in fields:
            renamed = new_name(name, fields)
            if renamed:
                shown = ",".join(map(str, value)) if isinstance(value, list | tuple) else value
                raise OptionError(f"{name}: no such setting; it is called {renamed}; write {renamed}={shown}")
            raise OptionError(f"{name}: no such setting of {family}; expected one of {', '.join(sorted(fields))}."
                              f"{suggestion(name, fields)}")  # fmt: skip
        checked[name] = _typed(name, value, fields[name].default)
    own = {f.name for f in dataclasses.fields(Settings)}
    settings = Settings(**{name: value for name, value in checked.items() if name in own})
    return settings, config(**{name: value for name, value in checked.items() if name not in own})


def parse_overrides(written: Iterable[str]) -> dict[str, Setting]:
    """NAME=VALUE, each as a line of TOML would say it; a bare word is text, and 128,64 a list."""
    overrides = {}
    for line in written:
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name or not value:
            raise OptionError(f"--set {line}: no NAME=VALUE; expected one setting; write --set lr=0.001")
        overrides[name.replace("-", "_")] = _parse_value(value)
    return overrides


def _parse_value(value: str) -> Setting:
    for text in (value, f"[{value}]"):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            parsed: Setting = tomllib.loads(f"x = {text}")["x"]
            return parsed
    return [_parse_value(part.strip()) for part in value.split(",")] if "," in value else value


def _typed(name: str, value: Setting, default: Any) -> Setting:
    """`value` as the type of `default`; an int will do for a float, a list for a tuple."""
    kind = type(default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    if kind is tuple and isinstance(value, int | str) and not isinstance(value, bool):
        return (value,)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        shown = str(default).lower() if kind is bool else ",".join(map(str, default)) if kind is tuple else default
        raise OptionError(f"{name}: {value!r} is a {type(value).__name__}; expected {TYPE_NAMES.get(kind, kind.__name__)}; "
                          f"write {shown}")  # fmt: skip
    typed: Setting = value
    return typed


def read_config(path: Path) -> dict[str, Setting]:
    """The settings of a TOML file, as written; or of a shipped recipe by its name, and then its family is their `model`.

    Raises DataError.
    """
    recipes = [shipped.stem for shipped in RECIPES.glob("*.toml")]
    if str(path) == "plain" and not path.exists():
        return read_config(Path("mlp-plain"))
    if str(path) in recipes and not path.exists():
        return {"model": str(path).partition("-")[0], **read_config(RECIPES / f"{path}.toml")}
    if str(path) in RENAMED_RECIPES and not path.exists():
        new = RENAMED_RECIPES[str(path)]
        raise DataError(f"{path}: this recipe is now called {new}; expected that name; write --config {new}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; expected a TOML file with settings, such as lr = 0.001, or a recipe; write one of "
                        f"{', '.join(sorted(recipes))}.{suggestion(str(path), recipes)}") from None  # fmt: skip
    except IsADirectoryError:
        raise DataError(f"{path}: a directory; expected a TOML file with settings; name one in it") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: {_first_line(error)}; expected TOML, one setting a line, such as lr = 0.001"
        ) from None


def _first_line(error: Exception) -> str:
    return "it is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).splitlines()[0]
