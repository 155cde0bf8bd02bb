"""Buffers: the memory of Tensors that compiled programs read and write (floor 4).

A Tensor that a program writes gets an aligned, row-major buffer at a fixed address. Its `array` is made only when it is
asked for, as a copy that no later step overwrites. Programs that share the Tensor share the buffer. Each program has a set
of Tensors that were read or assigned since its last run, so that a step in which this did not happen costs nothing.
"""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from typing import TYPE_CHECKING

import numpy as np

from ....core.sharing import Cell
from ....tensor import Tensor
from .costs import CACHE_LINE
from .target import host

if TYPE_CHECKING:
    from numpy.typing import DTypeLike


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """Row-major zeros that begin at a cache line."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    raw = np.zeros(size + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return np.ndarray(shape, dtype, raw.data, start)


def _readable(array: np.ndarray) -> np.ndarray:
    """The array in row-major order and aligned, so that no vector crosses a cache line. A large array is used as it is."""
    if array.nbytes > host().costs.copied_input and array.flags.c_contiguous:
        return array
    memory = aligned(array.shape, array.dtype)
    memory[...] = array
    return memory


class Buffer:
    """The memory of one Tensor.

    owned: written by programs, and shared with no array. lock: held by a program that runs on an owned buffer; the Tensors
    that one program writes share it, so that a call takes one or two locks.
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

    def snapshot(self, tensor: Tensor) -> np.ndarray:
        """Make `tensor.array`, a copy of the buffer. Wait for the end of a program that runs on it, so that no half-done step
        is copied."""
        with self.lock or contextlib.nullcontext():
            array = tensor.__dict__.get("array")
            if array is None:  # else another thread has made it
                array = self.memory.copy()
                tensor.array = array
                self._tell()
            return array

    def look(self, cell: Cell) -> None:
        """Make the array of `cell`, of Tensors that share this buffer. Wait as `snapshot` does."""
        with self.lock or contextlib.nullcontext():
            if cell.array is None:
                cell.array = self.memory.copy()
                self._tell()

    def overwritten(self, tensor: Tensor) -> None:
        """`tensor.array` has been assigned."""
        array = tensor.array
        if array.shape != self.shape or array.dtype != self.dtype:  # Module.to
            self.shape, self.dtype = array.shape, array.dtype
            self.owned = False
        self.outdated()

    def outdated(self) -> None:
        """Note that the newest numbers are in an array, not in the buffer."""
        self.stale = True
        self._tell()

    def _tell(self) -> None:
        tensor = self.tensor()
        if tensor is not None:  # else no program uses it any more
            for watcher in self.watchers:
                watcher.add(tensor)

    def tell_others(self, tensor: Tensor, mine: set[Tensor]) -> None:
        """Notify every program but the one with the set `mine` that these numbers are needed, before it writes them."""
        for watcher in self.watchers:
            if watcher is not mine:
                watcher.add(tensor)

    def own(self, tensor: Tensor, lock: threading.RLock) -> None:
        """Let programs write to the buffer from now on."""
        if self.lock is None:
            self.lock = tensor.lock or lock
        if not self.owned:
            memory = aligned(self.shape, self.dtype)
            memory[...] = tensor.array
            self.memory, self.owned, self.stale = memory, True, False
            self._tell()

    def refresh(self, tensor: Tensor) -> None:
        """Copy an assigned array into the buffer."""
        if not self.stale:
            return
        self.stale = False
        if self.owned:
            np.copyto(self.memory, tensor.array)
        else:
            self.memory = _readable(tensor.array)


def buffer_of(tensor: Tensor) -> Buffer:
    return tensor.storage if tensor.storage is not None else Buffer(tensor)
