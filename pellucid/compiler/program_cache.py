"""The programs of one compiled step: found by the signature of a call and the guards of a trace (floor 4)."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Hashable
from typing import NamedTuple

from ..core.origin import user_origin
from .backends import BACKENDS, Program, Workspaces
from .guard_cost import MIN_GUARD_SECONDS, GuardCost
from .guards import Guard, check_seconds, checker
from .options import StepOptions
from .signature import Signature, fingerprint, is_current, retrace_reason
from .trace.traced_step import TracedStep

RETRACES = 3  # programs of one step before a warning names the cause
MAX_PROGRAMS = 16  # of one signature, for different values of the guarded state


class CachedTrace(NamedTuple):
    """A trace: the check of its guards, the program that runs it, and the guards."""

    check: Callable[[], bool]
    program: Program
    guards: list[Guard]


class ProgramCache:
    """The programs of one step, called `name`.

    by_signature: the traces of each signature; the last used comes first.
    made: programs by the fingerprint of their trace; several signatures may trace to the same program.
    guard_cost: what the guards of the last trace cost, while that is measured.
    workspaces: their memory, by executable: they run one at a time and share it.
    """

    def __init__(self, name: str, options: StepOptions) -> None:
        self.name, self.options = name, options
        self.by_signature: dict[Signature, list[CachedTrace]] = {}
        self.made: dict[Hashable, Program] = {}
        self.workspaces: Workspaces = weakref.WeakKeyDictionary()
        self.guard_cost: GuardCost | None = None

    def find(self, key: Signature) -> Program | None:
        """The program of a signature whose guards hold."""
        cached = self.by_signature.get(key, [])
        for i, trace in enumerate(cached):
            if trace.check() and is_current(trace.program.traced):
                if i:
                    cached.insert(0, cached.pop(i))
                return trace.program
        return None

    def add(self, traced: TracedStep, key: Signature) -> Program:
        """Cache the program of a trace."""
        program = self.program_for(traced, key)
        cached = self.by_signature.setdefault(key, [])
        check = checker(traced.guards)
        cached.insert(0, CachedTrace(check, program, traced.guards))
        for trace in cached[MAX_PROGRAMS:]:
            self._forget(trace.program)
        del cached[MAX_PROGRAMS:]
        cost = check_seconds(check)
        self.guard_cost = GuardCost(program, cost, traced.guards) if cost > MIN_GUARD_SECONDS else None
        return program

    def program_for(self, traced: TracedStep, key: Signature | None = None) -> Program:
        """The program for a trace, shared by equal traces. key: the signature it will be cached under."""
        key_of_trace = fingerprint(traced)
        program = self.made.get(key_of_trace)
        if program is None:
            if key is not None and traced.padding is None:
                self._warn_of_retraces(key)
            program = make_program(traced, self.options.disabled_passes, self.workspaces)
            if key is not None:
                self.made[key_of_trace] = program
        return program

    def _warn_of_retraces(self, key: Signature) -> None:
        """Warn where the step has had RETRACES programs already, and name what differs now."""
        if len(self.made) != RETRACES or self.options.many_shapes:
            return
        origin = user_origin()
        warnings.warn_explicit(
            f"{self.name} has been compiled {RETRACES} times already, each for other arguments "
            f"({retrace_reason(self.by_signature, key)}); pass Tensors of few shapes, and numbers that change as Tensors",
            UserWarning,
            origin.file,
            origin.line,
        )

    def _forget(self, program: Program) -> None:
        """Drop a program that no signature uses any more."""
        used = (trace.program for cached in self.by_signature.values() for trace in cached[:MAX_PROGRAMS])
        if not any(program is other for other in used):
            self.made = {about: other for about, other in self.made.items() if other is not program}


def make_program(traced: TracedStep, disabled_passes: frozenset[str], workspaces: Workspaces) -> Program:
    """A native program. Without llvmlite, or with "native" disabled, an interpreted one."""
    if "native" not in disabled_passes:
        try:
            return BACKENDS["cpu"](traced, disabled_passes, workspaces)
        except ModuleNotFoundError as error:
            if error.name != "llvmlite":
                raise
            warnings.warn(
                "llvmlite is not installed, so compiled steps are interpreted; pip install llvmlite", stacklevel=5
            )
    return BACKENDS["interpreter"](traced, disabled_passes, workspaces)
