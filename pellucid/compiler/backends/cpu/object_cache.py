"""Object cache: compiled code on disk, so that a program compiled once starts fast the next time (floor 4).

The key is everything the code depends on: the kernel specs and slices of the program, the source of the compiler and of the
operations, the versions of LLVM and its binding, and the processor. A file begins with the SHA-256 of the rest; one that
does not match, or lies in a folder that others may write to, is not used. This is the one place where pellucid loads
something that runs: `PELLUCID_CACHE=off` turns it off, `PELLUCID_CACHE=folder` moves it.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from ....errors import DataError
from ....files import write_bytes
from .llvm import versions

DIGEST = 32  # bytes of a SHA-256


def object_code(key: str, make: Callable[[], bytes]) -> bytes:
    """The object code for `key`, from the cache, or made now and stored there."""
    file = _file(key)
    cached = _read(file) if file is not None else None
    if cached is None:
        cached = make()
        if file is not None:
            _write(file, cached)
    return cached


def folder() -> Path | None:
    """The folder of the cache; None where the cache is off or no private folder can be had."""
    setting = os.environ.get("PELLUCID_CACHE", "")
    if setting.lower() in ("off", "0", "none"):
        return None
    base = Path(setting) if setting else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pellucid"
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = base.stat()
    except OSError:
        return None
    if sys.platform != "win32" and (about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return None
    return base


@functools.cache
def _source() -> str:
    """A hash of the compiler and the operations: code made by another version of them is never loaded."""
    package = Path(__file__).parents[3]  # pellucid/
    digest = hashlib.sha256()
    for file in sorted([*(package / "compiler").rglob("*.py"), *(package / "ops").glob("*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _file(key: str) -> Path | None:
    base = folder()
    if base is None:
        return None
    name = hashlib.sha256(f"{key} {_source()} {versions()}".encode()).hexdigest()
    return base / f"{name}.o"


def _read(file: Path) -> bytes | None:
    try:
        data = file.read_bytes()
    except OSError:
        return None
    digest, code = data[:DIGEST], data[DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(file: Path, code: bytes) -> None:
    try:
        write_bytes(file, hashlib.sha256(code).digest() + code)
    except DataError:
        return  # a full or read-only disk costs the next start its time, nothing else
