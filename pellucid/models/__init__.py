"""The registry of model families; the command line, saved runs and the docs read it (floor 5).

A family is a file with a `Config` (a frozen dataclass of plain values) and a function `build(inputs, outputs, task, config)`
that gives a `Model`, and one entry here. `inputs` is a preprocessor's `input_spec()`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError, suggestion
from . import cnn, diffusion, gan, lstm, mlp, transformer
from .base import Model


@dataclass(frozen=True)
class Family:
    """A family of networks.

    config: the dataclass of its hyperparameters.      build: makes a network from (inputs, outputs, task, config).
    data_kinds: kinds of data that it learns from.      default_for: those of them for which it is the default.
    """

    config: type[Any]
    build: Callable[[dict[str, Any], int, str, Any], Model]
    data_kinds: tuple[str, ...]
    default_for: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
    "mlp": Family(mlp.Config, mlp.build, ("table", "images", "pictures"), default_for=("table", "images")),
    "cnn": Family(cnn.Config, cnn.build, ("images", "pictures"), default_for=("pictures",)),
    "lstm": Family(lstm.Config, lstm.build, ("text", "series"), default_for=("series",)),
    "transformer": Family(transformer.Config, transformer.build, ("text",), default_for=("text",)),
    "gan": Family(gan.Config, gan.build, ("images", "pictures")),
    "diffusion": Family(diffusion.Config, diffusion.build, ("images", "pictures")),
}
DEFAULTS = {kind: name for name, entry in FAMILIES.items() for kind in entry.default_for}  # by kind of data


def family(name: str) -> Family:
    """The family called `name`; raises OptionError for an unknown one."""
    if name not in FAMILIES:
        raise OptionError(
            f"model: {name!r} is unknown; expected one of {', '.join(FAMILIES)}.{suggestion(name, FAMILIES)}"
        )
    return FAMILIES[name]


def family_for(kind: str, name: str | None) -> str:
    """The name of the family to train on data of `kind`: `name`, or the default. Raises OptionError where they do not fit."""
    chosen = name or DEFAULTS[kind]
    kinds = family(chosen).data_kinds
    if kind not in kinds:
        suitable = [other for other, entry in FAMILIES.items() if kind in entry.data_kinds]
        raise OptionError(
            f"model: {chosen} learns from {', '.join(kinds)}, the data are of kind {kind}; expected one of "
            f"{', '.join(suitable)}; leave --model out for {DEFAULTS[kind]}"
        )
    return chosen


__all__ = ["DEFAULTS", "FAMILIES", "Family", "family", "family_for"]
