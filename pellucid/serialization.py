"""`save` and `load`: weights in safetensors files, which hold numbers and nothing that could run (floor 4).

A file is written beside its place and renamed into it, so a crash leaves the old one whole. Pickle files, the other
format in use, execute code when they are opened; they are recognised and refused, with the way to convert them.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors import SafetensorError
from safetensors.numpy import save as to_bytes

from .errors import DataError, OptionError, StateError
from .nn import Module
from .shapes import array_of
from .tensor import Tensor

CONVERT = (
    "convert it where PyTorch is installed: import torch; from safetensors.torch import save_file; "
    'save_file(torch.load("FILE", weights_only=True), "model.safetensors")'
)


def save(
    obj: Module | Mapping[str, Any], path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a Module's state, or a dict of Tensors (or arrays) by name, to `path`.

    metadata: text by name, kept in the file's header. Raises OptionError for other contents, DataError where the place
    cannot be written; then what stood there before is untouched.
    """
    state = obj.state_dict() if isinstance(obj, Module) else obj
    if not isinstance(state, Mapping):
        raise OptionError(
            f"save: {type(obj).__name__}; expected a Module or a dict of Tensors by name; pass model.state_dict()"
        )
    arrays = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor | np.ndarray):
            raise OptionError(
                f"save: entry {name!r} is {type(value).__name__}; expected names of Tensors; "
                "keep settings in JSON beside the file"
            )
        array = value.array if isinstance(value, Tensor) else array_of(value)
        # np.asarray keeps 0-d arrays 0-d, which ascontiguousarray would not.
        arrays[name] = array if array.flags.c_contiguous else np.array(array, order="C")
    write_atomically(Path(path), to_bytes(arrays, metadata=dict(metadata) if metadata else None))


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: written beside it, flushed to the disk, renamed into place."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        reason = error.strerror or "it cannot be written"
        raise DataError(
            f"{path}: {reason}; expected a place that can be written; check the folder, its permissions and the disk"
        ) from None


def load(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The Tensors of a safetensors file by name; hand them to `module.load_state_dict`.

    Nothing in the file is executed. Raises DataError where it is absent, StateError where it is damaged or a pickle.
    """
    with open_safely(path) as file:
        return {name: Tensor(array_of(file.get_tensor(name))) for name in file.keys()}  # noqa: SIM118


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text that was saved in the file's header."""
    with open_safely(path) as file:
        return file.metadata() or {}


def open_safely(path: str | os.PathLike[str]) -> Any:
    """The file opened by safetensors, or an error that says what it is instead."""
    place = Path(path)
    if not place.exists():
        raise DataError(f"{place}: no such file; expected a safetensors file; check the path")
    if place.is_dir():
        raise DataError(f"{place}: a directory; expected a safetensors file; name the file in it")
    if looks_like_pickle(place):
        raise StateError(f"{place}: a pickle file, which may run any code when opened; expected safetensors; {CONVERT}")
    try:
        return safetensors.safe_open(str(place), framework="numpy")
    except (SafetensorError, OSError):
        size = place.stat().st_size
        raise StateError(f"{place}: {size} bytes that are not a whole safetensors file; "
"expected one that save() finished; "
                         "it is damaged or cut short: copy or save it again") from None  # fmt: skip


def looks_like_pickle(place: Path) -> bool:
    """Whether the file begins like a pickle, or is a zip with one inside, as PyTorch writes them."""
    with open(place, "rb") as file:
        head = file.read(2)
    if head[:1] == b"\x80" and head[1:] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    if head == b"PK" and zipfile.is_zipfile(place):
        with zipfile.ZipFile(place) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    return False
