"""Search spaces: from where `pellucid tune` draws the settings of its trials (floor 6).

A space is a TOML file, one setting a line:  lr = { log = [1e-4, 1e-2] }  dropout = { uniform = [0, 0.5] }  cell = { choice = ["gru", "lstm"] }.
One ships with each family whose validation loss tells which of two networks is better.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import models
from ..errors import DataError, OptionError, suggestion
from ..files import Json
from .settings import Setting, Settings, read_config, resolve_config

SPACES = Path(__file__).parent.parent / "spaces"
FORMS = ("log", "uniform", "choice")
DIGITS = 3  # of a drawn number
NOT_SEARCHED = (
    "seed",
    "num_threads",
    "eager",
    "folds",
    "ensemble",
    "metric",
    "monitor",
    "class_weight",
    "epochs",
    "freeze",
)


@dataclass(frozen=True)
class Draw:
    """How a setting is drawn. form: "log" and "uniform" between two `values`, "choice" one of them."""

    form: str
    values: list[Json]

    def draw(self, rng: np.random.Generator) -> Any:
        """A value; a number has DIGITS digits, so that a file can say it as it is."""
        if self.form == "choice":
            return self.values[int(rng.integers(len(self.values)))]
        low, high = (float(value) for value in self.values)  # type: ignore[arg-type]
        if self.form == "log":
            value = math.exp(rng.uniform(math.log(low), math.log(high)))
        else:
            value = rng.uniform(low, high)
        return min(max(float(f"{value:.{DIGITS}g}"), low), high)


Space = Mapping[str, Draw]


def load_space(family: str, path: Path | None = None) -> dict[str, Draw]:
    """The space that ships with `family`, or that of a file. Raises DataError for no TOML, OptionError for what fits no setting."""
    where = SPACES / f"{family}.toml" if path is None else path
    if path is None and not where.is_file():
        shipped = ", ".join(sorted(space.stem for space in SPACES.glob("*.toml")))
        raise OptionError(f"model: {family} has no search space, since its validation loss does not tell which network is better; expected one of "
                          f"{shipped}; choose another --model, or write a space and give it by --space FILE")  # fmt: skip
    if not where.is_file():
        raise DataError(
            f"{where}: no such file; expected a TOML file that says how settings are drawn; write lines such as lr = {{ log = [0.001, 0.1] }}"
        )
    return {name: _draw(where, family, name, written) for name, written in read_config(where).items()}


def _draw(where: Path, family: str, name: str, written: object) -> Draw:
    """The draw that a line of the file means."""
    fields = {f.name: f for f in (*dataclasses.fields(Settings), *dataclasses.fields(models.family(family).config))}
    known = sorted(fields.keys() - set(NOT_SEARCHED))
    if name not in known:
        why = "not searched" if name in fields else f"no such setting of {family}"
        raise OptionError(
            f"space: {where}: {name}: {why}; expected one of {', '.join(known)}.{suggestion(name, known)} Leave the line out"
        )
    if not isinstance(written, dict) or len(written) != 1 or not isinstance(next(iter(written.values())), list):
        raise DataError(f"{where}: {name} = {written!s:.60}; expected how it is drawn; write {name} = {{ choice = [...] }}, or log or uniform with "
                        "two numbers")  # fmt: skip
    [(form, values)] = written.items()
    if form not in FORMS:
        raise DataError(f"{where}: {name}: {form!r}; expected one of {', '.join(FORMS)}.{suggestion(form, FORMS)}")
    if form != "choice" and not isinstance(fields[name].default, float):
        raise DataError(f"{where}: {name}: {form} draws any number between two, which {name} does not take; expected choice; write {name} = "
                        "{ choice = [...] }")  # fmt: skip
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if form == "choice" and not values:
        raise DataError(
            f"{where}: {name}: no values to choose from; expected at least one; write {name} = {{ choice = [...] }}"
        )
    if form != "choice" and not (
        numbers and len(values) == 2 and values[0] < values[1] and (form != "log" or values[0] > 0)
    ):
        least = ", the lower above 0" if form == "log" else ""
        raise DataError(f"{where}: {name}: {values!s:.60}; expected two numbers, the lower first{least}; write {name} = {{ {form} = [0.001, 0.1] }}")  # fmt: skip
    for value in values:
        try:
            resolve_config(family, {name: value})
        except OptionError as error:
            raise OptionError(f"space: {where}: {error}") from None
    return Draw(form, values)


def sample(space: Space, seed: int, trial: int, fixed: Collection[str] = ()) -> dict[str, Setting]:
    """The settings of a trial, counted from 1, without those that are `fixed`. The first has none: it is what ships.

    Each is drawn by (seed, trial), so neither how many trials there are nor what is fixed changes another value.
    """
    if trial == 1:
        return {}
    rng = np.random.default_rng([seed, trial])
    drawn = {name: draw.draw(rng) for name, draw in space.items()}
    return {name: value for name, value in drawn.items() if name not in fixed}


def as_toml(values: Mapping[str, Setting]) -> str:
    """`values` as a --config file has them, one a line."""
    return "".join(f"{name} = {_toml_value(value)}\n" for name, value in values.items())


def _toml_value(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    return repr(value)


def _quoted(text: str) -> str:
    """A TOML string: control characters are escaped, everything else stands as it is."""
    escaped = "".join(
        f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else c
        for c in text.replace("\\", "\\\\").replace('"', '\\"')
    )
    return f'"{escaped}"'
