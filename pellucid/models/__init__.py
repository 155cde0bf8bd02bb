"""The model families by name, one line each; the command line and saved runs read this list (floor 5).

A family is a module with `INPUTS`, the encodings it learns from ("pixels" are images that can be drawn), `Config` (a frozen dataclass of plain values) and
`build(inputs, outputs, task, config)`, which gives a `Network`; `inputs` is a preprocessor's `input_spec()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from ..errors import OptionError, suggestion
from . import cnn, diffusion, gan, lstm, mlp, transformer

FAMILIES: dict[str, ModuleType] = {
    "mlp": mlp,
    "cnn": cnn,
    "lstm": lstm,
    "transformer": transformer,
    "gan": gan,
    "diffusion": diffusion,
}


def family(name: str) -> ModuleType:
    """The module of the family called `name`; raises OptionError for an unknown one."""
    if name not in FAMILIES:
        raise OptionError(
            f"model: {name!r} is unknown; expected one of {', '.join(FAMILIES)}.{suggestion(name, FAMILIES)}"
        )
    return FAMILIES[name]


def family_for(data: str, inputs: Sequence[str], default: str, name: str | None) -> str:
    """The name of the family to train: `name`, else `default`. Raises OptionError where it does not learn from the data.

    data: their kind, for messages. inputs: what they are encoded as, in the words of INPUTS.
    """
    chosen = name or default
    able = [one for one, module in FAMILIES.items() if set(inputs) & set(module.INPUTS)]
    family(chosen)  # which refuses a name that is none
    if chosen not in able:
        raise OptionError(
            f"model: {chosen} learns from {', '.join(family(chosen).INPUTS)}, the data are of kind {data}; expected one of "
            f"{', '.join(able)}; leave --model out for {default}"
        )
    return chosen


__all__ = ["FAMILIES", "family", "family_for"]
