"""Atomic file writing: after a crash, a kill or a full disk there is the old file or the new one, never half of one (floor 1)."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from .errors import DataError

if TYPE_CHECKING:  # what JSON can hold
    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
else:
    Json = Any  # the schema of saved runs reads annotations: a field of this type may hold anything


@contextlib.contextmanager
def writing(path: Path, flushed: bool = True) -> Iterator[BinaryIO]:
    """A file to write to: beside `path`, flushed to the disk and renamed into place at the end. Of several writers, one wins.

    flushed: without it the file survives a kill, and a power cut only some seconds later; it costs milliseconds less.

    Raises DataError for a full disk or a missing permission. After any error the old file is still there.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            if flushed:
                os.fsync(file.fileno())
        os.replace(partial, path)
        if flushed:
            _sync_folder(path.parent)
    except OSError as error:
        raise disk_error(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes, flushed: bool = True) -> None:
    """Write `content` to `path`, as `writing` does."""
    with writing(path, flushed) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: object) -> None:
    """`write_text` of JSON; numbers that are not finite become null."""
    write_text(path, json.dumps(plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: Any) -> Json:
    """`value` as JSON can hold it: numbers that are not finite become None."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def append_line(path: Path, line: str) -> None:
    """Append a line to `path`, flushed to the disk. A kill may leave it incomplete; `read_lines` drops it then."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise disk_error(path, error) from None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file with one per line; none where there is no file. An incomplete last line is left out."""
    records = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for line in text.splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records


def disk_error(path: Path, error: OSError) -> DataError:
    """A DataError that says what to do about `error`."""
    where = f"{path}: "
    if error.errno in (errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC):
        return DataError(
            f"{where}the disk is full; what was saved before is intact; free some space, or choose another place (--out)"
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return DataError(
            f"{where}no permission to write here; expected a folder of your own; choose another place (--out)"
        )
    reason = (error.strerror or type(error).__name__).lower()
    return DataError(
        f"{where}cannot be written ({reason}); expected a folder that exists; choose another place (--out)"
    )


def _sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; Windows cannot open folders, and does not need it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
