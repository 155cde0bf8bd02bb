"""The model families by name, one line each; the command line and saved runs read this list (floor 5).

A family is a module with `KINDS` of data it learns from, `Config` (a frozen dataclass of plain values) and
`build(inputs, outputs, task, config)`, which gives a `Network`; `inputs` is a preprocessor's `input_spec()`.
"""

from __future__ import annotations

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
DEFAULTS = {
    "table": "mlp",
    "images": "mlp",
    "pictures": "cnn",
    "text": "transformer",
    "series": "lstm",
}  # by kind of data


def family(name: str) -> ModuleType:
    """The module of the family called `name`; raises OptionError for an unknown one."""
    if name not in FAMILIES:
        raise OptionError(
            f"model: {name!r} is unknown; expected one of {', '.join(FAMILIES)}.{suggestion(name, FAMILIES)}"
        )
    return FAMILIES[name]


def family_for(kind: str, name: str | None) -> str:
    """The name of the family to train on data of `kind`: `name`, else the default. Raises OptionError where they do not fit."""
    chosen = name or DEFAULTS[kind]
    able = [one for one, module in FAMILIES.items() if kind in module.KINDS]
    if kind not in family(chosen).KINDS:
        raise OptionError(
            f"model: {chosen} learns from {', '.join(family(chosen).KINDS)}, the data are of kind {kind}; expected one of "
            f"{', '.join(able)}; leave --model out for {DEFAULTS[kind]}"
        )
    return chosen


__all__ = ["DEFAULTS", "FAMILIES", "family", "family_for"]
