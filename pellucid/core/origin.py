"""Origin of an operation: the user's line and the layer that called it (floor 1)."""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

module_path: ContextVar[str] = ContextVar("module_path", default="")
# Set during a backward pass, so that the Nodes of a gradient rule inherit the origin of the Node they come from.
origin: ContextVar[Origin | None] = ContextVar("origin", default=None)


class Origin(NamedTuple):
    """The layer's dotted path, and an instruction in the user's code, from which `line` is found on demand."""

    path: str
    code: CodeType | None
    instruction: int

    @property
    def file(self) -> str:
        """The file of the code, or "?"."""
        return self.code.co_filename if self.code else "?"

    @property
    def line(self) -> int:
        """The line number, looked up only when it is read: the look-up costs more than an operation."""
        if self.code is None:
            return 0
        positions = list(self.code.co_positions())
        return positions[self.instruction // 2][0] or 0

    def __str__(self) -> str:
        position = f"{os.path.basename(self.file)}:{self.line}" if self.code else "?"
        return f"{self.path} at {position}" if self.path else position


_ENGINE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_NUMPY = os.path.dirname(os.path.abspath(np.__file__)) + os.sep
_engine_files: dict[str, bool] = {}
# Rooms that count as the user's code: in a run from the command line, a network's arithmetic is written there. The frames of
# all other rooms are skipped.
_USER_ROOMS = tuple(
    room + os.sep
    for room in (
        "models",
        "training",
        "evaluation",
        "inference",
        "inspect",
        "report",
        "runs",
        "data",
        "cli",
    )
)


def _is_engine(file: str) -> bool:
    """Whether a frame of `file` is skipped: one of the engine or of NumPy."""
    cached = _engine_files.get(file)
    if cached is None:
        path = os.path.abspath(file)
        engine = path.startswith(_ENGINE) and not path[len(_ENGINE) :].startswith(_USER_ROOMS)
        cached = engine or path.startswith(_NUMPY)
        _engine_files[file] = cached
    return cached


def user_origin() -> Origin:
    """The innermost frame outside the engine that led to this call, with the active layer's path."""
    frame: Any = sys._getframe(1)
    while frame is not None and _is_engine(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return Origin(module_path.get(), None, 0)
    return Origin(module_path.get(), frame.f_code, frame.f_lasti)
