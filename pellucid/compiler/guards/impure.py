"""Impure functions, which a compiled step cannot repeat: other random generators, clocks, files, iterators (floor 4)."""

from __future__ import annotations

import random
from datetime import date
from types import ModuleType
from typing import Any

import numpy as np

GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, np.random.BitGenerator)
_RANDOM_MODULES = {"random", "_random", "secrets", "uuid"}
_CLOCKS = {"time"}
# Names that look outside, by the module or class that has them.
_OUTSIDE = {
    "os": {"urandom", "getrandom", "listdir", "scandir", "stat", "times", "getloadavg", "popen", "system", "walk"},
    "posix": {"urandom", "getrandom", "listdir", "scandir", "stat", "times", "getloadavg", "system"},
    "posixpath": {"exists", "getmtime", "getsize", "isfile", "isdir"},
    "genericpath": {"exists", "getmtime", "getsize", "isfile", "isdir"},
    "pathlib": {"read_text", "read_bytes", "exists", "stat", "is_file", "is_dir", "iterdir", "glob", "rglob", "open"},
    "io": {"open"},
    "_io": {"open"},
    "builtins": {"open", "input"},
    "numpy": {"load", "loadtxt", "genfromtxt", "fromfile", "memmap"},
    "subprocess": {"run", "call", "check_call", "check_output", "Popen"},
}  # fmt: skip
_OUTSIDE["pathlib._local"] = _OUTSIDE["pathlib._abc"] = _OUTSIDE["pathlib"]

RANDOM_DRAW_ERROR = (
    "{place}: a compiled step draws from {source}, whose numbers it would keep for ever; expected chance from pellucid; "
    "write torch.rand(...), or pass the number in"
)
CLOCK = (
    "{place}: a compiled step looks at the clock with {source}, whose value it would keep for ever; expected what changes "
    "from call to call as an argument; look at it outside of the step, and pass it in"
)
OUTSIDE = (
    "{place}: a compiled step calls {source}, which it would do once and never again; expected what it reads as an "
    "argument; call it outside of the step, and pass in what it gives"
)


def refusal(function: object, owner: object, name: str) -> tuple[str, str] | None:
    """Why a step may not call `function`, or the method `name` of `owner`: a message, and its name in it."""
    if isinstance(owner, GENERATORS):
        return RANDOM_DRAW_ERROR, "random" if isinstance(owner, random.Random) else "numpy.random"
    if isinstance(owner, type) and issubclass(owner, date) and name in ("now", "utcnow", "today"):
        return CLOCK, f"{owner.__name__}.{name}()"
    home = owner.__name__ if isinstance(owner, ModuleType) else getattr(function, "__module__", None)
    home = home if isinstance(home, str) else ""
    if home in _RANDOM_MODULES or home.startswith("numpy.random"):
        return RANDOM_DRAW_ERROR, f"{home}.{name}"
    if home in _CLOCKS:
        return CLOCK, f"{home}.{name}()"
    if name in _OUTSIDE.get(home, ()):
        return OUTSIDE, f"{name}()"
    return None


def state_of(generator: Any) -> Any:
    """The state of a random generator, which changes with every draw."""
    if isinstance(generator, random.Random):
        try:
            return generator.getstate()
        except NotImplementedError:  # SystemRandom has none
            return None
    if isinstance(generator, np.random.RandomState):
        return _flat(generator.get_state(legacy=False))
    bits = generator.bit_generator if isinstance(generator, np.random.Generator) else generator
    return _flat(bits.state)


def _flat(state: object) -> Any:
    """The dicts and arrays of a state in a form that can be compared."""
    if isinstance(state, dict):
        return {key: _flat(value) for key, value in state.items()}
    return state.tobytes() if isinstance(state, np.ndarray) else state


def global_states() -> list[tuple[str, Any, Any]]:
    """The global random generators and their states."""
    # The module's functions are methods of one hidden object.
    shared = ("random", random.random.__self__), ("numpy.random", np.random.mtrand._rand)  # type: ignore[attr-defined]
    return [(name, generator, state_of(generator)) for name, generator in shared]
