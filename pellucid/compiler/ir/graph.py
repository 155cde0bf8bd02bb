"""The graph IR: inputs, operations in order, outputs and writes of a traced step; and its interpreter (floor 4).

Nodes are the Symbols of `core/value.py`. `interpret` runs the operations one after another on NumPy arrays. It defines what
a compiled program has to compute.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core.value import Symbol
from ...errors import format_shape


@dataclass(eq=False)
class Input:
    """An input of a graph. A step may also write to it.

    kind: "argument" (its owner is given with every call), "state" (a Tensor that the step finds by itself), "gradient" (the
        `.grad` of its owner), "cotangent" (dL/d(output), given when `backward()` is called; it has no owner), "scalar" (its
        owner is a number, which may differ between programs of one executable), or "length" (its owner is an array, which
        differs between the lengths of a padded axis).
    name: its name in listings. in_place: whether a written gradient goes into the Tensor that is there.
    """

    kind: str
    owner: Any
    symbol: Symbol
    position: int = -1  # of an argument among the Tensors of a call, of a cotangent's output among the outputs
    name: str = ""
    in_place: bool = False


@dataclass
class Graph:
    """A traced step.

    inputs: all inputs, read or not. symbols: the operations in topological order, without inputs and constants. outputs:
    the leaves of what the step returns. writes: the new value of each input that the step writes.
    """

    inputs: list[Input]
    symbols: list[Symbol]
    outputs: list[Symbol]
    writes: list[tuple[Input, Symbol]] = field(default_factory=list)

    @property
    def results(self) -> list[Symbol]:
        return [*self.outputs, *(symbol for _, symbol in self.writes)]

    def __str__(self) -> str:
        names = name_nodes(self)
        lines = [
            f"{names[entry.symbol]:>5} = {entry.kind} {_input_name(entry)} {_type_text(entry.symbol)}"
            for entry in self.inputs
        ]
        for s in self.symbols:
            reads = ", ".join(names[x] if x in names else _literal(x) for x in s.inputs)
            attributes = "".join(f", {key}={_shortened(value)}" for key, value in s.attributes.items())
            lines.append(f"{names[s]:>5} = {s.op_name}({reads}{attributes}) {_type_text(s)}   # {s.origin}")
        name_of = lambda x: names.get(x) or _literal(x)
        lines += [f"return {', '.join(name_of(s) for s in self.outputs)}"] if self.outputs else []
        lines += [f"{entry.kind} {entry.name} <- {name_of(symbol)}" for entry, symbol in self.writes]
        return "\n".join(lines)


def name_nodes(graph: Graph) -> dict[Symbol, str]:
    """Names %0, %1, ... for inputs and operations, in order."""
    everything = [entry.symbol for entry in graph.inputs] + graph.symbols
    return {symbol: f"%{i}" for i, symbol in enumerate(everything)}


def _input_name(entry: Input) -> str:
    return _shortened(entry.owner.item()) if entry.kind == "scalar" and entry.owner is not None else entry.name


def _type_text(symbol: Symbol) -> str:
    return f"{format_shape(symbol.shape)} {symbol.dtype}"


def _literal(symbol: Symbol) -> str:
    array = symbol.constant
    assert array is not None
    return _shortened(array.item()) if array.size == 1 else f"constant {format_shape(array.shape)}"


def _shortened(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) < 60 else text[:57] + "..."


# ---- walks ---------------------------------------------------------------------------------------------------------------


def topological_order(results: Iterable[Symbol], is_end: Callable[[Symbol], bool] | None = None) -> list[Symbol]:
    """The operations that `results` depend on, each after its inputs. The inputs of one that `is_end` are not followed."""
    order: list[Symbol] = []
    visited: set[Symbol] = set()
    waiting = [(symbol, False) for symbol in reversed(list(results))]
    while waiting:
        symbol, done = waiting.pop()
        if done:
            order.append(symbol)
        elif symbol.op is not None and symbol not in visited:
            visited.add(symbol)
            waiting.append((symbol, True))
            if is_end is None or not is_end(symbol):
                waiting.extend((x, False) for x in reversed(symbol.inputs))
    return order


def ancestors(roots: Iterable[Symbol], ends: Container[Symbol] = ()) -> set[Symbol]:
    """`roots` and all Symbols that they depend on, inputs and constants too. The inputs of one in `ends` are not followed."""
    visited: set[Symbol] = set()
    waiting = list(roots)
    while waiting:
        symbol = waiting.pop()
        if symbol not in visited:
            visited.add(symbol)
            if symbol not in ends:
                waiting.extend(symbol.inputs)
    return visited


def descendants(symbols: Iterable[Symbol], starts: Iterable[Symbol]) -> set[Symbol]:
    """`starts`, and those of `symbols`, which are in topological order, that depend on one of them."""
    reached = set(starts)
    for symbol in symbols if reached else ():
        if any(x in reached for x in symbol.inputs):
            reached.add(symbol)
    return reached


def users(graph: Graph) -> dict[Symbol, list[Symbol]]:
    """The operations that read each Symbol, in order."""
    readers: dict[Symbol, list[Symbol]] = {}
    for symbol in graph.symbols:
        for x in dict.fromkeys(symbol.inputs):
            readers.setdefault(x, []).append(symbol)
    return readers


def read_once(graph: Graph, readers: Mapping[Symbol, list[Symbol]] | None = None) -> set[Symbol]:
    """The Symbols that one operation reads, and that are no result. readers: `users(graph)`, where it is known."""
    readers = users(graph) if readers is None else readers
    return {symbol for symbol, reading in readers.items() if len(reading) == 1}.difference(graph.results)


def needed_of(symbols: Sequence[Symbol], roots: Iterable[Symbol], given: Container[Symbol] = ()) -> set[Symbol]:
    """`roots` and what they depend on through `symbols`, which are in topological order: the Symbols from outside too, but not
    what these depend on. What a Symbol in `given` depends on is not followed."""
    needed = set(roots)
    for symbol in reversed(symbols):
        if symbol in needed and symbol not in given:
            needed.update(symbol.inputs)
    return needed


def dependents(graph: Graph, kind: str) -> set[Symbol]:
    """The operations that depend on an input of this kind."""
    starts = {entry.symbol for entry in graph.inputs if entry.kind == kind}
    return descendants(graph.symbols, starts) - starts


# ---- running -------------------------------------------------------------------------------------------------------------


def array_of(symbol: Symbol, arrays: Mapping[Symbol, np.ndarray]) -> np.ndarray:
    """The numbers of a Symbol: those of a constant, or what is in `arrays`."""
    return arrays[symbol] if symbol.constant is None else symbol.constant


def compute(symbol: Symbol, inputs: Sequence[np.ndarray]) -> np.ndarray:
    """The result of the operation of `symbol`."""
    assert symbol.op is not None
    return np.asarray(symbol.op.forward(*inputs, **symbol.attributes), symbol.dtype)


def evaluate(symbols: Iterable[Symbol], arrays: dict[Symbol, np.ndarray]) -> None:
    """Run `symbols` one after another. `arrays` holds their inputs and gets their results."""
    for symbol in symbols:
        arrays[symbol] = compute(symbol, [array_of(x, arrays) for x in symbol.inputs])


def interpret(graph: Graph, values: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The outputs and the written arrays of `graph`, computed operation by operation.

    values: one array for each of `graph.inputs`.
    """
    arrays = {entry.symbol: value for entry, value in zip(graph.inputs, values, strict=True)}
    evaluate(graph.symbols, arrays)
    return [array_of(s, arrays) for s in graph.outputs], [array_of(s, arrays) for _, s in graph.writes]
