"""The registry of model families; the command line, saved runs and the docs read it (floor 5).

A family is a file with a `Config` (a frozen dataclass of plain values) and a function `build(inputs, outputs, task, config)`
that gives a `Model`, and one entry here. `inputs` is a preprocessor's `input_spec()`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..data.input_spec import InputSpec
from ..errors import OptionError, suggestion
from . import cnn, diffusion, gan, lstm, mlp, transformer
from .base import Model
from .ensemble import ensemble


@dataclass(frozen=True)
class Family:
    """A family of networks.

    config: the dataclass of its hyperparameters.      build: makes a network from (inputs, outputs, task, config).
    inputs: what it learns from, of "table", "image" (pixels, or what lies in rows and columns like them, such as a
    spectrogram), "pixels" (of an image that can be shown), "text" and "series". A kind of data says what it is encoded as.
    """

    config: type[Any]
    build: Callable[[InputSpec, int, str, Any], Model]
    inputs: tuple[str, ...]


FAMILIES: dict[str, Family] = {
    "mlp": Family(mlp.Config, mlp.build, ("table", "image")),
    "cnn": Family(cnn.Config, cnn.build, ("image",)),
    "lstm": Family(lstm.Config, lstm.build, ("text", "series")),
    "transformer": Family(transformer.Config, transformer.build, ("text",)),
    "gan": Family(gan.Config, gan.build, ("pixels",)),
    "diffusion": Family(diffusion.Config, diffusion.build, ("pixels",)),
}


def family(name: str) -> Family:
    """The family called `name`; raises OptionError for an unknown one."""
    if name not in FAMILIES:
        raise OptionError(
            f"model: {name!r} is unknown; expected one of {', '.join(FAMILIES)}.{suggestion(name, FAMILIES)}"
        )
    return FAMILIES[name]


def build_network(name: str, inputs: InputSpec, outputs: int, task: str, config: Any, members: int = 1) -> Model:
    """A network of the family called `name` with fresh weights; an ensemble of so many `members` where they are several."""
    build = family(name).build
    if members == 1:
        return build(inputs, outputs, task, config)
    return ensemble([build(inputs, outputs, task, config) for _ in range(members)], name)


def family_for(data: str, inputs: Sequence[str], default: str, name: str | None) -> str:
    """The name of the family to train: `name`, else `default`. Raises OptionError where it does not learn from the data.

    data: their kind, for messages. inputs: what they are encoded as, in the words of `Family.inputs`.
    """
    chosen = name or default
    suitable = [other for other, entry in FAMILIES.items() if set(inputs) & set(entry.inputs)]
    expected = family(chosen).inputs
    if chosen not in suitable:
        raise OptionError(
            f"model: {chosen} learns from {', '.join(expected)}, the data are of kind {data}; expected one of "
            f"{', '.join(suitable)}; leave --model out for {default}"
        )
    return chosen


__all__ = ["FAMILIES", "Family", "build_network", "family", "family_for"]
