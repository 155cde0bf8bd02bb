"""The memory of Tensors that compiled programs read and write (floor 4).

A Tensor that a program writes has its numbers in aligned memory of its own, in row order, at an address that stays. Its
`array` is then made only when somebody asks for it, as a copy that no later step overwrites. Programs that share the
Tensor share the memory; each is told, through a set of its own, when an array was made or assigned, so that a step in
which nobody looked costs nothing.
"""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from typing import Any

import numpy as np

from ....core.sharing import Cell
from ....tensor import Tensor

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
LARGE_BYTES = 1 << 24  # bytes: a data set that stays where it is


def aligned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros in row order that begin at a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return np.ndarray(shape, dtype, raw.data, start)


def _readable(array: np.ndarray) -> np.ndarray:
    """The numbers in row order and aligned, so that no vector lies on two cache lines; what is large is read where it is."""
    if array.nbytes > LARGE_BYTES and array.flags.c_contiguous:
        return array
    memory = aligned(array.shape, array.dtype)
    memory[...] = array
    return memory


class Buffer:
    """One Tensor's memory.

    owned: written by programs, and so apart from every array anyone holds. lock: held by a program that runs on it, once
    it is owned; Tensors that one program writes share it, so a call takes one or two.
    """

    def __init__(self, tensor: Tensor) -> None:
        self.shape, self.dtype = tensor.array.shape, tensor.array.dtype
        self.memory = _readable(tensor.array)
        self.owned = self.stale = False
        self.watchers: list[set[Tensor]] = []
        self.lock: threading.RLock | None = None
        self.tensor = weakref.ref(tensor)
        tensor.storage = self
        if tensor.cell is not None and tensor.cell.base() is tensor:
            tensor.cell.native = self

    @property
    def address(self) -> int:
        return self.memory.ctypes.data

    def snapshot(self, tensor: Any) -> np.ndarray:
        """What `tensor.array` becomes when it is asked for. Where a program runs on it, the asking thread waits for its end:
        what is copied in the middle of a step would be taken for what the step came to."""
        with self.lock or contextlib.nullcontext():
            array = tensor.__dict__.get("array")
            if array is None:  # else another thread was quicker
                array = self.memory.copy()
                tensor.array = array
                self._tell()
            return array

    def look(self, cell: Cell) -> None:
        """Give `cell`, of Tensors that share these numbers, an array of its own; wait as above."""
        with self.lock or contextlib.nullcontext():
            if cell.array is None:
                cell.array = self.memory.copy()
                self._tell()

    def overwritten(self, tensor: Any) -> None:
        """`tensor.array` has been assigned."""
        array = tensor.array
        if array.shape != self.shape or array.dtype != self.dtype:  # Module.to
            self.shape, self.dtype = array.shape, array.dtype
            self.owned = False
        self.outdated()

    def outdated(self) -> None:
        """The newest numbers are in an array, and not here."""
        self.stale = True
        self._tell()

    def _tell(self) -> None:
        tensor = self.tensor()
        if tensor is not None:  # else no program has it any more
            for watcher in self.watchers:
                watcher.add(tensor)

    def tell_others(self, tensor: Any, mine: set[Tensor]) -> None:
        """Somebody relies on these numbers: every program but the one whose set is `mine` has to know before it writes."""
        for watcher in self.watchers:
            if watcher is not mine:
                watcher.add(tensor)

    def own(self, tensor: Tensor, lock: threading.RLock) -> None:
        """From now on programs write here."""
        if self.lock is None:
            self.lock = tensor.lock or lock
        if not self.owned:
            memory = aligned(self.shape, self.dtype)
            memory[...] = tensor.array
            self.memory, self.owned, self.stale = memory, True, False
            self._tell()

    def refresh(self, tensor: Tensor) -> None:
        """Take over what was assigned."""
        if not self.stale:
            return
        self.stale = False
        if self.owned:
            np.copyto(self.memory, tensor.array)
        else:
            self.memory = _readable(tensor.array)


def buffer_of(tensor: Tensor) -> Buffer:
    return tensor.storage if tensor.storage is not None else Buffer(tensor)
