"""What a recording has in common with equal ones: its graph with numbers taken out, and a key of that (floor 4).

Two recordings of one form are one program in native code. They may read other Tensors, and numbers that only stand for
themselves in arithmetic may differ: a dropout rate, a label smoothing, a weight of a loss. Such a number becomes an input
of kind "scalar", whose value each program fills in. What a pass or a kernel might treat in a way of its own stays where it
is and belongs to the key: 0, 1, -1, NaN, infinities, exponents, whole divisors, numbers inside a loop's body.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from ...core.value import Symbol
from ..ir.graph import Graph, Input
from .simplify import fold_constants

# Operations whose native code is the same for any number.
ARITHMETIC = {
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "where", "less", "less_equal", "greater", "greater_equal",
    "equal", "not_equal",
}  # fmt: skip
SCALAR_DTYPES = {
    np.dtype(np.float32),
    np.dtype(np.uint32),
}  # of a uint32 are the thresholds that random bits are compared with
SPECIAL_VALUES = {0.0, 1.0, -1.0}
SHORT_BYTES = 64  # bytes of a constant that stands in a key as it is


class Key:
    """Hashable parts, whose hash is computed once: there are thousands of them, and several tables to look into."""

    __slots__ = ("hash", "parts")

    def __init__(self, parts: Hashable) -> None:
        self.parts, self.hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.hash == other.hash and self.parts == other.parts


class CanonicalForm(NamedTuple):
    """graph: the recorded one, its numbers as slots of kind "scalar" behind the others; the owner of such
    a slot is its value. key: equal for equal forms."""

    graph: Graph
    key: Key

    @property
    def values(self) -> tuple[bytes, ...]:
        return tuple(entry.owner.tobytes() for entry in self.graph.inputs if entry.kind in ("scalar", "length"))


def canonical_form(graph: Graph) -> CanonicalForm:
    if any(_is_known(s) for s in graph.symbols):
        graph = fold_constants(graph)
    graph = _with_scalar_inputs(graph)
    return CanonicalForm(graph, _key(graph))


def _is_known(symbol: Symbol) -> bool:
    """Whether its numbers can be computed now."""
    arithmetic = symbol.op.kind not in ("movement", "loop")  # type: ignore[union-attr]
    return arithmetic and bool(symbol.inputs) and all(x.constant is not None for x in symbol.inputs)


def _with_scalar_inputs(graph: Graph) -> Graph:
    """The graph with an input in place of each number that may differ. One that stands twice in what one place in the user's
    code has recorded, as in a forward and its backward, is one input."""
    entries: dict[Hashable, Input] = {}
    new: dict[Symbol, Symbol] = {}

    def now(reader: Symbol, position: int, x: Symbol) -> Symbol:
        if x.constant is None or not _may_differ(reader, position, x.constant):
            return new.get(x, x)
        about = (x.constant.tobytes(), x.dtype, x.origin)
        if about not in entries:
            symbol = Symbol(None, (), {"scalar": True}, (), x.dtype, x.origin)
            entries[about] = Input("scalar", x.constant, symbol)
        return entries[about].symbol

    for symbol in graph.symbols:
        inputs = tuple(now(symbol, position, x) for position, x in enumerate(symbol.inputs))
        if inputs != symbol.inputs:
            new[symbol] = symbol.with_inputs(inputs)
    if not entries:
        return graph
    symbols = [new.get(s, s) for s in graph.symbols]
    outputs = [new.get(s, s) for s in graph.outputs]
    writes = [(entry, new.get(s, s)) for entry, s in graph.writes]
    return Graph([*graph.inputs, *entries.values()], symbols, outputs, writes)


def _may_differ(reader: Symbol, position: int, number: np.ndarray) -> bool:
    """Whether the native code of `reader` is the same whatever this operand is."""
    name = reader.op_name
    if number.shape != () or number.dtype not in SCALAR_DTYPES or name not in ARITHMETIC:
        return False
    value = float(number)
    if not np.isfinite(value) or value in SPECIAL_VALUES:
        return False
    return not (name == "divide" and position == 1 and value.is_integer())  # to divide by 16 is to multiply


def _key(graph: Graph) -> Key:
    """Everything that graph, plan and native code depend on, and the lines that they name."""
    number = {entry.symbol: i for i, entry in enumerate(graph.inputs)}
    for s in graph.symbols:
        number[s] = len(number)

    def tell(x: Symbol) -> Hashable:
        if x.constant is None:
            return number[x]
        data = x.constant.tobytes()
        return data if len(data) <= SHORT_BYTES else hashlib.sha256(data).digest(), x.shape, x.dtype.str

    places = {id(entry): i for i, entry in enumerate(graph.inputs)}
    inputs = tuple((entry.kind, entry.position, entry.symbol.shape, entry.symbol.dtype.str) for entry in graph.inputs)
    symbols = tuple(
        (s.op_name, tuple(map(tell, s.inputs)), repr(s.attributes), s.shape, s.dtype.str, s.origin)
        for s in graph.symbols
    )
    writes = tuple((places[id(entry)], tell(s)) for entry, s in graph.writes)
    return Key((inputs, symbols, tuple(map(tell, graph.outputs)), writes))
