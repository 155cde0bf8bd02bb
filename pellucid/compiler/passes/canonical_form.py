"""Canonical form: a graph with its scalar constants as inputs, and a key; equal forms share native code (floor 4).

Traces of one form may read different Tensors and differ in numbers that only enter arithmetic: a dropout rate, a label
smoothing, a weight of a loss. Such a number becomes an input of kind "scalar", which each program fills in. A number that a
pass or a kernel may treat specially stays a constant and belongs to the key: 0, 1, -1, NaN, infinities, exponents, whole
divisors, and numbers inside the body of a scan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from typing import NamedTuple

import numpy as np

from ...core.value import Symbol
from ...ops.elementwise import (
    add,
    divide,
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    maximum,
    minimum,
    multiply,
    not_equal,
    subtract,
    where,
)
from ..ir.graph import Graph, Input
from ..ir.rewrite import with_replaced
from .simplify import fold_constants, is_foldable

# Operations whose native code is the same for every number.
ARITHMETIC = {
    add, subtract, multiply, divide, maximum, minimum, where, less, less_equal, greater, greater_equal,
    equal, not_equal,
}  # fmt: skip
SCALAR_DTYPES = {
    np.dtype(np.float32),
    np.dtype(np.uint32),
}  # of a uint32 are the thresholds that random bits are compared with
SPECIAL_VALUES = {0.0, 1.0, -1.0}
SHORT_BYTES = 64  # a shorter constant is in the key itself, a longer one by its hash


class Key:
    """Hashable parts, whose hash is computed once, since they are thousands and looked up often."""

    __slots__ = ("hash", "parts")

    def __init__(self, parts: Hashable) -> None:
        self.parts, self.hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.hash == other.hash and self.parts == other.parts


class CanonicalForm(NamedTuple):
    """graph: the traced one, with inputs of kind "scalar" behind the others; their owner is the number. key: equal for equal
    forms."""

    graph: Graph
    key: Key

    @property
    def values(self) -> tuple[bytes, ...]:
        return tuple(entry.owner.tobytes() for entry in self.graph.inputs if entry.kind in ("scalar", "length"))


def canonical_form(graph: Graph) -> CanonicalForm:
    if any(is_foldable(s, s.inputs) for s in graph.symbols):
        graph = fold_constants(graph)
    graph = _with_scalar_inputs(graph)
    return CanonicalForm(graph, _key(graph))


def _with_scalar_inputs(graph: Graph) -> Graph:
    """The graph with an input in place of each number that may differ. A number that one line of the user's code has used
    twice, as in a forward and its backward, is one input."""
    entries: dict[Hashable, Input] = {}
    new: dict[Symbol, Symbol] = {}

    def replaced(reader: Symbol, position: int, x: Symbol) -> Symbol:
        if x.constant is None or not _may_differ(reader, position, x.constant):
            return new.get(x, x)
        about = (x.constant.tobytes(), x.dtype, x.origin)
        if about not in entries:
            symbol = Symbol(None, (), {"scalar": True}, (), x.dtype, x.origin)
            entries[about] = Input("scalar", x.constant, symbol)
        return entries[about].symbol

    for symbol in graph.symbols:
        inputs = tuple(replaced(symbol, position, x) for position, x in enumerate(symbol.inputs))
        if inputs != symbol.inputs:
            new[symbol] = symbol.with_inputs(inputs)
    if not entries:
        return graph
    result = with_replaced(graph, new, [new.get(s, s) for s in graph.symbols])
    result.inputs += entries.values()
    return result


def _may_differ(reader: Symbol, position: int, number: np.ndarray) -> bool:
    """Whether the native code of `reader` is the same for every value of this operand."""
    op = reader.op
    if number.shape != () or number.dtype not in SCALAR_DTYPES or op not in ARITHMETIC:
        return False
    value = float(number)
    if not np.isfinite(value) or value in SPECIAL_VALUES:
        return False
    return not (op is divide and position == 1 and value.is_integer())  # to divide by 16 is to multiply


def _key(graph: Graph) -> Key:
    """Everything that graph, plan and native code depend on, and the lines of the user's code."""
    number = {entry.symbol: i for i, entry in enumerate(graph.inputs)}
    for s in graph.symbols:
        number[s] = len(number)

    def operand_key(x: Symbol) -> Hashable:
        if x.constant is None:
            return number[x]
        data = x.constant.tobytes()
        return data if len(data) <= SHORT_BYTES else hashlib.sha256(data).digest(), x.shape, x.dtype.str

    numbers = {id(entry): i for i, entry in enumerate(graph.inputs)}
    inputs = tuple((entry.kind, entry.position, entry.symbol.shape, entry.symbol.dtype.str) for entry in graph.inputs)
    symbols = tuple(
        (s.op, tuple(map(operand_key, s.inputs)), repr(s.attributes), s.shape, s.dtype.str, s.origin)
        for s in graph.symbols
    )
    writes = tuple((numbers[id(entry)], operand_key(s)) for entry, s in graph.writes)
    return Key((inputs, symbols, tuple(map(operand_key, graph.outputs)), writes))
