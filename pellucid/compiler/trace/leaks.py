"""Leaked Symbols: find values of a trace that the user's objects still hold after it (floor 4)."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import numpy as np

from ...core.value import Symbol, Value
from ...errors import TraceError, format_shape
from ..guards import Change
from ..ir.graph import evaluate, topological_order


def check_leaks(made: list[tuple[weakref.ref[Value], Symbol]]) -> list[Change]:
    """Raise TraceError where a value that a trace has `made` is still alive.

    A value that depends on no input, such as a mask or a table that the step caches for later calls, gets its numbers
    instead. Returns a Change for each of these.
    """
    if all(ref() is None for ref, _ in made):
        return []
    _collect()  # a cycle of dead objects is no leak
    alive = [(value, symbol) for ref, symbol in made if (value := ref()) is not None]
    arrays = [constant_value(value.array) if value.node is None else None for value, _ in alive]
    cached = []
    for (value, symbol), array in zip(alive, arrays, strict=True):
        if array is None:
            raise TraceError(
                f"compile: a Tensor {format_shape(value.array.shape)} made at {symbol.origin} outlives the step; expected what "
                "is kept to be returned, or assigned to a Tensor that was there before (x.assign(y)); return it"
            )
        value.array = array
        if value.cell is not None:  # it keeps sharing memory with other survivors
            if value.cell.array.__class__ is Symbol:
                value.cell.array = constant_value(value.cell.array)
            del value.array
        cached.append(Change(symbol.origin, f"a Tensor {format_shape(array.shape)} that outlives the step"))
    return cached


def constant_value(symbol: Symbol) -> np.ndarray | None:
    """The numbers of a Symbol that depends on no input, else None."""
    symbols = topological_order([symbol])
    leaves = [x for s in symbols for x in s.inputs if x.op is None] or [symbol]
    if any(x.op is None and x.constant is None for x in leaves):
        return None
    arrays: dict[Symbol, np.ndarray] = {}
    evaluate(symbols, arrays)
    return np.array(arrays.get(symbol, symbol.constant))  # a copy, which may be written


def _collect() -> None:
    """Collect garbage. Repeat `gc.collect()`, which does nothing while another thread collects."""
    ran: list[str] = []
    me = threading.get_ident()
    note = lambda phase, info: ran.append(phase) if threading.get_ident() == me else None
    gc.callbacks.append(note)
    try:
        for _ in range(1000):
            gc.collect()
            if ran:
                return
            time.sleep(1e-3)
    finally:
        gc.callbacks.remove(note)
