"""Where in the user's code an operation was asked for (floor 1)."""

from __future__ import annotations

import os
import sys
from contextvars import ContextVar
from types import CodeType
from typing import Any, NamedTuple

import numpy as np

module_path: ContextVar[str] = ContextVar("module_path", default="")
# Set while the tape is walked, so that nodes made by a gradient rule inherit the place of the node they come from.
origin: ContextVar[Origin | None] = ContextVar("origin", default=None)


class Origin(NamedTuple):
    """Where an operation was asked for: the layer's dotted path, and a place in the user's code."""

    path: str
    code: CodeType | None
    instruction: int

    @property
    def file(self) -> str:
        return self.code.co_filename if self.code else "?"

    @property
    def line(self) -> int:
        """The line number, looked up only when somebody reads it (it costs more than the operation)."""
        if self.code is None:
            return 0
        positions = list(self.code.co_positions())
        return positions[self.instruction // 2][0] or 0

    def __str__(self) -> str:
        place = f"{os.path.basename(self.file)}:{self.line}" if self.code else "?"
        return f"{self.path} at {place}" if self.path else place


_ENGINE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_NUMPY = os.path.dirname(os.path.abspath(np.__file__)) + os.sep
_engine_files: dict[str, bool] = {}
# Rooms that count as "the user" when looking for the user's line: in a run from the command line they are where a network's
# arithmetic is written down. The frames of everything else here are skipped.
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
    known = _engine_files.get(file)
    if known is None:
        path = os.path.abspath(file)
        ours = path.startswith(_ENGINE) and not path[len(_ENGINE) :].startswith(_USER_ROOMS)
        known = ours or path.startswith(_NUMPY)
        _engine_files[file] = known
    return known


def user_origin() -> Origin:
    """The innermost place outside the engine that led to this call, with the active layer's path."""
    frame: Any = sys._getframe(1)
    while frame is not None and _is_engine(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return Origin(module_path.get(), None, 0)
    return Origin(module_path.get(), frame.f_code, frame.f_lasti)
