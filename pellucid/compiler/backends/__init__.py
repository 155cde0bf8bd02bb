"""Backends: what runs a traced step. `interpreter` runs it in NumPy, `cpu/` as native code through LLVM (floor 4).

To add one, write a module with a class that keeps to `protocol.Program`, and its line in BACKENDS.
"""

from __future__ import annotations

from ..trace.traced_step import TracedStep
from .protocol import Backend, Program, Workspaces

__all__ = ["BACKENDS", "Backend", "Program", "Workspaces"]


def _interpreted(traced: TracedStep, disabled_passes: frozenset[str], workspaces: Workspaces) -> Program:
    from .interpreter import InterpretedProgram

    return InterpretedProgram(traced)


def _native(traced: TracedStep, disabled_passes: frozenset[str], workspaces: Workspaces) -> Program:
    """Imported on use: LLVM takes 0.1 s, and most programs that import pellucid never compile."""
    from .cpu.program import Program
    from .cpu.two_phase_program import TwoPhaseProgram

    if traced.leaves is not None:
        return TwoPhaseProgram(traced, disabled_passes)
    return Program(traced, disabled_passes, workspaces)


BACKENDS: dict[str, Backend] = {"interpreter": _interpreted, "cpu": _native}
