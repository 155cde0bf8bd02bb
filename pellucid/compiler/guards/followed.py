"""Which code is followed while a step is traced: the user's, that of installed packages, and our training code (floor 4).

Not followed are the engine, NumPy, the standard library, modules that are being imported, and generated code of named tuples
and data classes. Objects that are passed to such code are guarded as a whole.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import sysconfig
from types import CodeType, FrameType
from typing import Any

import numpy as np

# The package, three folders up. Rooms whose code could be a user's are followed.
ENGINE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
_FOLLOWED_ROOMS = tuple(os.path.join(*room) for room in (
    ("models", ""), ("training", ""), ("optim", "schedule"), ("optim", "lr_scheduler"),
))  # fmt: skip
_NUMPY = os.path.dirname(os.path.abspath(np.__file__)) + os.sep
_LLVMLITE = os.sep + "llvmlite" + os.sep  # its objects are freed at any time
_STANDARD = tuple({os.path.abspath(sysconfig.get_paths()[key]) + os.sep for key in ("stdlib", "platstdlib")})


@functools.cache
def is_engine(file: str) -> bool:
    """Whether a file is one of this package."""
    return os.path.abspath(file).startswith(ENGINE)


@functools.cache
def is_installed(file: str) -> bool:
    """Whether a file belongs to an installed package."""
    path = os.path.abspath(file)
    return "site-packages" in path or "dist-packages" in path


@functools.cache
def is_followed(file: str) -> bool:
    """Whether the code of a file is followed."""
    path = os.path.abspath(file)
    engine = path.startswith(ENGINE) and not path[len(ENGINE) :].startswith(_FOLLOWED_ROOMS)
    standard = path.startswith(_STANDARD) and not is_installed(file)
    return not (engine or standard or path.startswith(_NUMPY) or _LLVMLITE in path or file.startswith("<frozen"))


class _Followed(dict[int, bool]):
    """Whether frames of a code object are followed, by its id, since its hash takes as long as a call. Every call in a traced
    step looks here."""

    def __init__(self) -> None:
        super().__init__()
        self.codes: list[CodeType] = []  # kept alive, so that no id is reused

    def of(self, frame: FrameType) -> bool:
        code = frame.f_code
        followed = self.get(id(code))
        if followed is None:
            self.codes.append(code)
            followed = self[id(code)] = is_followed(code.co_filename) and not _is_generated(frame)
        return followed


def _is_generated(frame: FrameType) -> bool:
    """Whether a frame runs generated code of the library, the body of a module that is being imported, or code that the
    garbage collector calls at any time."""
    code, module_globals = frame.f_code, frame.f_globals
    if code.co_name == "__del__" or any(code is getattr(f, "__code__", None) for f in gc.callbacks):
        return True
    if code.co_name == "<module>":
        return bool(getattr(module_globals.get("__spec__"), "_initializing", False))
    if code.co_filename != "<string>":
        return False
    if str(module_globals.get("__name__", "")).startswith("namedtuple_"):
        return True
    file = module_globals.get("__file__")
    return file is not None and not is_followed(file)


followed_frames = _Followed()


def is_followed_module(name: Any) -> bool:
    """Whether the classes of the module `name` are the user's."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return (file is None and name not in sys.builtin_module_names) or (file is not None and is_followed(file))
