"""Recording: the operations of a step in order, and apart from them those of the bodies of scans (floor 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from ...core.op import Node
from ...core.origin import Origin, origin, user_origin
from ...core.value import Symbol, Value
from ...errors import TraceError, format_shape
from ...ops.reduce import expand


def current_origin() -> Origin:
    """The line that an operation comes from: of the forward operation in a backward pass, else the user's."""
    return origin.get() or user_origin()


# Where operations go, and what the bodies being traced read.
Position = tuple[list[Symbol], list[dict[int, Value]]]


class Recording:
    """The operations of a step.

    outermost: those outside of any scan. symbols: where operations go now, `outermost` or the list of a body being traced.
    hidden: the Symbols of bodies that are not being traced now. Nothing may read them.
    reads: for each body being traced, outermost first, the values that it reads, by id.
    """

    def __init__(self) -> None:
        self.outermost: list[Symbol] = []
        self.symbols = self.outermost
        self.hidden: set[Symbol] = set()
        self.reads: list[dict[int, Value]] = []

    def constant(self, array: np.ndarray) -> Symbol:
        """The Symbol of a constant. An array that repeats one number is recorded as that number, expanded."""
        where = current_origin()
        if array.size > 1 and (not any(array.strides) or (array == array.flat[0]).all()):
            scalar = Symbol(None, (), {}, (), array.dtype, where, np.asarray(array.flat[0]))
            symbol = Symbol(expand, (scalar,), {"shape": array.shape}, array.shape, array.dtype, where)
            self.symbols.append(symbol)
            return symbol
        return Symbol(None, (), {}, array.shape, array.dtype, where, array.copy())

    def refuse_hidden(self, symbol: Symbol) -> NoReturn:
        """Raise TraceError for a Symbol of a body that is read outside of it."""
        raise TraceError(
            f"scan: a Tensor {format_shape(symbol.shape)} made inside the loop at {symbol.origin} is read outside of it; "
            "expected what leaves the body to be returned; make it part of the carry or of y"
        )

    # ---- where operations go ----

    @contextmanager
    def into(self, symbols: list[Symbol]) -> Iterator[None]:
        """While active, operations are appended to `symbols`."""
        around, self.symbols = self.symbols, symbols
        try:
            yield
        finally:
            self.symbols = around

    def leave_scans(self) -> Position:
        """From now on, operations belong to the step itself, and no body reads what is read. Gives what `return_to` takes."""
        before = self.symbols, self.reads
        self.symbols, self.reads = self.outermost, []
        return before

    def return_to(self, before: Position) -> None:
        """Go on where `leave_scans` was called."""
        self.symbols, self.reads = before

    @contextmanager
    def inside_body(self, inputs: Sequence[Symbol], *lists: list[Symbol]) -> Iterator[None]:
        """While active, operations are appended to the last of `lists`, and the Symbols of a body may be read.

        inputs, lists: all Symbols of the body. They are hidden afterwards.
        """
        self.hidden.difference_update(inputs, *lists)
        try:
            with self.into(lists[-1]):
                yield
        finally:
            self.hidden.update(inputs, *lists)

    @contextmanager
    def noting_reads(self) -> Iterator[dict[int, Value]]:
        """While active, note the values that are read, by id."""
        self.reads.append({})
        try:
            yield self.reads[-1]
        finally:
            self.reads.pop()


@dataclass
class TapeUse:
    """What a step does with the tape.

    since: Nodes of the step have this sequence number or a higher one. read: ids of the values read with the tape on.
    written: whether an operation has been put on the tape.
    """

    since: int = field(default_factory=lambda: next(Node.counter))
    read: set[int] = field(default_factory=set)
    written: bool = False
