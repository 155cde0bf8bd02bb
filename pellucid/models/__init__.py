"""The model families by name, one line each; the command line and saved runs read this list (floor 5).

A family is a module with `Config` (a frozen dataclass of plain values) and `build(inputs, outputs, task, config)`, which
gives a network with `loss(output, target)`. `inputs` is a preprocessor's `input_spec()`.
"""

from __future__ import annotations

from types import ModuleType

from ..errors import OptionError, nearest
from . import mlp

FAMILIES: dict[str, ModuleType] = {
    "mlp": mlp,
}


def family(name: str) -> ModuleType:
    """The module of the family called `name`; raises OptionError for an unknown one."""
    if name not in FAMILIES:
        raise OptionError(
            f"model: {name!r} is unknown; expected one of {', '.join(FAMILIES)}.{nearest(name, FAMILIES)}"
        )
    return FAMILIES[name]


__all__ = ["FAMILIES", "family"]
