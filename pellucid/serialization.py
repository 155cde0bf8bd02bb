"""`save` and `load`: weights as safetensors files, which hold numbers and no code (floor 4).

A file is written beside its path and renamed into place, so a crash leaves the old one whole. Pickle files, the other format
in use, execute code when they are opened; they are recognised by their contents and refused, with the way to
convert them. A file's name does not matter: `save(state, "model.pt")` writes safetensors too.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from .arguments import array_of
from .errors import DataError, DTypeError, OptionError, StateError
from .files import write_bytes
from .nn import Module
from .tensor import DeviceLike, Tensor

# The format's element types that NumPy has; what the library has no dtype for widens in `array_of`.
DTYPES = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U8", "U16", "U32", "U64", "BOOL")
_PICKLES = tuple(b"\x80" + bytes([protocol]) for protocol in (2, 3, 4, 5))


def save(
    obj: Module | Mapping[str, Tensor | np.ndarray],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a Module's state, or a dict of Tensors (or arrays) by name, to `path`.

    metadata: text by name, kept in the file's header. Raises OptionError for other contents, DataError where the place
    cannot be written; the old file is then untouched.
    """
    state = obj.state_dict() if isinstance(obj, Module) else obj
    if not isinstance(state, Mapping):
        raise OptionError(
            f"save: {type(obj).__name__}; expected a Module or a dict of Tensors by name; pass model.state_dict()"
        )
    for name in state:
        if isinstance(name, str) and (name == "__metadata__" or not _is_utf8(name)):
            raise OptionError(
                f"save: an entry is called {name!r}, which the file's header cannot hold; expected other text in UTF-8; rename it"
            )
    for name, text in (metadata or {}).items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise OptionError(
                f"save: metadata {name!r} is {type(text).__name__}; expected text; write it with json.dumps"
            )
    arrays = {name: _array(name, value) for name, value in state.items()}
    write_bytes(Path(path), to_bytes(arrays, metadata=dict(metadata) if metadata else None))


def save_arrays(
    arrays: Mapping[str, np.ndarray], path: Path, metadata: Mapping[str, str], flushed: bool = True
) -> None:
    """Write arrays by name as they are, float16 too, which `save` widens. flushed: see `files.writing`."""
    in_rows = {name: a if a.flags.c_contiguous else np.array(a, order="C") for name, a in arrays.items()}
    write_bytes(path, to_bytes(in_rows, metadata=dict(metadata)), flushed)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, each in the dtype that it is stored as. Raises as `load`."""
    with _opened(path) as opened:
        names = opened.keys()  # not a dict: it cannot be iterated over
        return {name: _read_stored(path, name, opened) for name in names}


def _is_utf8(text: str) -> bool:
    """Whether no half of a surrogate pair stands in it."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _array(name: object, value: object) -> np.ndarray:
    """One entry as the writer wants it: in one of our dtypes, its numbers in a row."""
    if not isinstance(name, str) or not isinstance(value, Tensor | np.ndarray):
        raise OptionError(
            f"save: entry {name!r} is {type(value).__name__}; expected Tensors by name; "
            "save each state_dict to its own file, and keep settings in `metadata` or in JSON beside it"
        )
    try:
        array = value.array if isinstance(value, Tensor) else array_of(value)
    except DTypeError as error:
        raise DTypeError(f"save: entry {name!r}: {error}") from None
    # Not ascontiguousarray, which would turn a 0-d array into a 1-d one.
    return array if array.flags.c_contiguous else np.array(array, order="C")


def load(
    path: str | os.PathLike[str], map_location: DeviceLike | None = None, weights_only: bool = True
) -> dict[str, Tensor]:
    """The Tensors of a safetensors file by name; hand them to `module.load_state_dict`.

    Nothing in the file is executed, whatever `weights_only` says (it and `map_location` are there for programs written
    for PyTorch). Raises DataError where the file cannot be read, StateError where it is damaged or a pickle.
    """
    file = Path(path)
    with _opened(file) as opened:
        names = opened.keys()  # not a dict: it cannot be iterated over
        return {name: Tensor(_read_array(file, name, opened)) for name in names}


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The text that was saved in the file's header. Raises as `load`, where its numbers are cut off too."""
    with _opened(Path(path)) as opened:
        return opened.metadata() or {}


@contextmanager
def _opened(file: Path) -> Iterator[safe_open]:
    """The file, mapped into memory and its header checked by safetensors, or an error that says what it is instead."""
    if file.is_dir():
        raise DataError(f"{file}: a directory; expected a safetensors file; name the file in it")
    try:
        with open(file, "rb") as beginning:
            head = beginning.read(4096)
        opened = safe_open(file, framework="numpy")
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; expected a safetensors file; check the path") from None
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise DataError(f"{file}: {reason}; expected a file to read; check its permissions and the disk") from None
    except SafetensorError:
        raise _refusal(file, head) from None
    with opened:
        yield opened


def _refusal(file: Path, head: bytes) -> StateError:
    # Asked only now: the length of a safetensors header may have the two bytes that a pickle begins with.
    if is_pickle(head):
        return StateError(
            f"{file}: a pickle file, as torch.save writes them, which may run any code when opened; expected "
            "safetensors; convert it where PyTorch is installed: import torch; from safetensors.torch import save_file; "
            f'save_file(torch.load("{file.name}", weights_only=True), "{file.stem}.safetensors")'
        )
    return StateError(
        f"{file}: {file.stat().st_size:,} bytes that are not a whole safetensors file; expected one that save() finished; "
        "it is damaged or cut short: copy it again, or save it again"
    )


def is_pickle(content: bytes) -> bool:
    """Whether a file begins like a pickle, or like a zip archive whose first entries are one, as torch.save writes it."""
    return content.startswith(_PICKLES) or (content.startswith(b"PK\x03\x04") and b".pkl" in content[:4096])


def _read_array(file: Path, name: str, opened: safe_open) -> np.ndarray:
    return array_of(_read_stored(file, name, opened))


def _read_stored(file: Path, name: str, opened: safe_open) -> np.ndarray:
    kind = opened.get_slice(name).get_dtype()
    if kind == "BF16":
        return _read_bfloat16(file, name)
    if kind not in DTYPES:
        raise StateError(
            f"{file}: {name!r} is stored as {kind}; expected one of {', '.join([*DTYPES, 'BF16'])}; save it as F32"
        )
    array: np.ndarray = opened.get_tensor(name)
    return array


def _read_bfloat16(file: Path, name: str) -> np.ndarray:
    """bfloat16, which NumPy has not, as float32, of which it is the upper half."""
    with open(file, "rb") as content:
        size = int.from_bytes(content.read(8), "little")
        entry = json.loads(content.read(size))[name]
        content.seek(8 + size + entry["data_offsets"][0])
        halves = np.fromfile(content, "<u2", math.prod(entry["shape"]))
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])
