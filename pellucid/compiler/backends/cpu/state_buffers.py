"""State buffers: the memory of the Tensors that a program finds by itself, and the locks of those that programs write (floor 4).

A call of a program begins with one question: has anyone read or assigned such a Tensor since the last run (`changed`)?
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ....tensor import Tensor
from .bound_inputs import StateInput
from .context import Context
from .storage import Buffer, buffer_of


class HeldLocks:
    """`with HeldLocks(locks):` holds all of them, acquired in order."""

    __slots__ = ("count", "locks")

    def __init__(self, locks: Sequence[threading.RLock]) -> None:
        self.locks, self.count = locks, 0

    def __enter__(self) -> HeldLocks:
        try:
            for lock in self.locks:
                lock.acquire()
                self.count += 1
        except BaseException:
            self.__exit__()
            raise
        return self

    def exchange(self, locks: Sequence[threading.RLock]) -> None:
        """Release the present locks and hold `locks` instead."""
        self.__exit__()
        self.locks = locks
        self.__enter__()

    def __exit__(self, *error: object) -> None:
        while self.count:
            self.count -= 1
            self.locks[self.count].release()


class StateBuffers:
    """The buffers of the states of one program, at their addresses in its context.

    index_of: of each state in the context. written: those that the program writes. changed: those that were read or assigned
    since the last run. locks: of all states that programs write, or the program's own where there is none.
    """

    def __init__(self, context: Context, states: Sequence[StateInput]) -> None:
        self.context = context
        self.index_of = {state.tensor: state.index for state in states}
        self.written = {state.tensor for state in states if state.is_written}
        self.changed: set[Tensor] = set()
        self.own_lock = threading.RLock()
        self._memories: dict[int, object] = {}  # by index: as long as native code has their addresses
        for state in states:
            buffer = buffer_of(state.tensor)
            if state.is_written:
                buffer.own(state.tensor, self.own_lock)
            buffer.watchers.append(self.changed)
            self.changed.add(state.tensor)
        self._find_locks()

    def release(self) -> None:
        """Unsubscribe from the buffers."""
        for tensor in self.index_of:
            if tensor.storage is not None:
                tensor.storage.watchers = [w for w in tensor.storage.watchers if w is not self.changed]

    def settle(self, held: HeldLocks) -> None:
        """Refresh while holding the locks of all Tensors that programs write: another program may have begun to write one."""
        while self.changed or held.locks != self.locks:
            if held.locks != self.locks:
                held.exchange(self.locks)
            if self.changed:
                self.refresh()

    def refresh(self) -> None:
        """Update the buffers of Tensors that were read or assigned since the last run."""
        while self.changed:  # other threads may add to it meanwhile
            tensor = self.changed.pop()
            buffer: Buffer = tensor.storage
            buffer.refresh(tensor)
            if tensor in self.written:
                if not buffer.owned:
                    buffer.own(tensor, self.own_lock)
                if tensor.cell is not None:
                    tensor.cell.moved()
                else:
                    tensor.__dict__.pop("array", None)
                    tensor.version += 1
            index = self.index_of[tensor]
            self._memories[index] = buffer.memory
            self.context.table[index] = buffer.address
        self.context.stale_copies()
        self._find_locks()

    def _find_locks(self) -> None:
        """Find the locks of all Tensors that programs write, sorted, so that there is no deadlock."""
        owned = {t.storage.lock for t in self.index_of if t.storage.owned}
        self.locks = sorted(owned, key=id) or [self.own_lock]
        # Programs write without notice: copies of such weights are refreshed at each call.
        self.refreshes_copies = self.context.plan.keeps_copies and bool(owned)

    def prepare(self) -> None:
        """Let the next run read the newest numbers."""
        if self.changed:
            self.refresh()
        if self.refreshes_copies:
            self.context.stale_copies()
