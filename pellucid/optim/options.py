"""Validation of options: numbers, integers, choices and flags of optimizers and schedules (floor 4).

Each function returns the value in its plain Python type, or raises an OptionError that says whose option it is, what came,
what was expected and what to write instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.value import Value
from ..errors import OptionError, suggestion

# Options by name, as a parameter group holds them: the method's own, and whatever else its user puts there.
Options = Mapping[str, Any]


def plain(value: Any) -> Any:
    """A Tensor or array of one element as the Python number in it; anything else as it is."""
    if isinstance(value, Value):
        value = value.array
    if isinstance(value, np.ndarray | np.generic) and value.size == 1:
        return value.item()
    return value


def number(owner: str, option: str, value: object, expected: str, *, example: float | str) -> float:
    """`value` as a float that satisfies `expected`, one of the ranges in RANGES; NaN and infinities never do."""
    given = plain(value)
    if (
        isinstance(given, int | float)
        and not isinstance(given, bool)
        and math.isfinite(given)
        and RANGES[expected](given)
    ):
        return float(given)
    raise OptionError(f"{owner}: {option} is {value!r}; expected {expected}; write for example {option}={example}")


RANGES = {
    "a finite number": lambda x: True,
    "a number of 0 or more": lambda x: x >= 0,
    "a number above 0": lambda x: x > 0,
    "a number from 0 up to, but not including, 1": lambda x: 0 <= x < 1,
    "a number above 0 and below 1": lambda x: 0 < x < 1,
    "a number from 0 to 1": lambda x: 0 <= x <= 1,
    "a number above 0, at most 1": lambda x: 0 < x <= 1,
}


def integer(owner: str, option: str, value: object, *, least: int = 1, example: int | str | None = None) -> int:
    """`value` as an int of at least `least`; 3.0 is not one, True is not one."""
    given = plain(value)
    if isinstance(given, int) and not isinstance(given, bool) and given >= least:
        return given
    suggestion = least if example is None else example
    raise OptionError(
        f"{owner}: {option} is {value!r}; expected a whole number of at least {least}; "
        f"write for example {option}={suggestion}"
    )


def choice(owner: str, option: str, value: object, choices: Sequence[str]) -> str:
    """`value` if it is one of `choices`."""
    if isinstance(value, str) and value in choices:
        return value
    listed = " or ".join(repr(name) for name in choices)
    hint = suggestion(value, choices) if isinstance(value, str) else ""
    raise OptionError(f"{owner}: {option} is {value!r}; expected {listed}.{hint}")


def flag(owner: str, option: str, value: object) -> bool:
    """`value` if it is True or False."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise OptionError(f"{owner}: {option} is {value!r}; expected True or False; write for example {option}=True")
