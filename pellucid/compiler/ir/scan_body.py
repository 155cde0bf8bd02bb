"""Scans in a graph: what a scan is made of, its body as a graph, and how that is cut out of what was traced (floor 4).

A scan is one operation, `loop` of `ops/loop.py`, and each of its outputs an operation `part` that reads it. Passes and
backends ask the functions here; they do not know the attributes of these operations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...core.origin import Origin, origin, user_origin
from ...core.value import Spec, Symbol, Value
from ...ops.index import check_index
from ...ops.loop import loop, part
from .graph import Graph, Input, interpret, name_nodes, needed_of


@dataclass(eq=False)
class ScanBody:
    """The body of a scan: one step of the loop.

    graph: its inputs are `carries` carries, then `slices` elements of sequences, then values that are the same at every
        step. Its outputs are the next carries, then the values to stack.
    state_counts: for each carry how many states are stored: length + 1, or only the last two.
    """

    graph: Graph
    carries: int
    slices: int
    length: int
    reverse: bool
    state_counts: list[int]

    def part(self, what: str, index: int) -> Spec:
        symbol = self.graph.outputs[index]
        if what == "last":
            return Spec(symbol.shape, symbol.dtype)
        return Spec(((self.state_counts[index] if what == "states" else self.length) * symbol.size,), symbol.dtype)

    def state(self, index: int, t: int) -> int:
        """The index of the state of carry `index` that step t reads. Step t writes state t + 1, or t - 1 in a reversed scan."""
        return (t + int(self.reverse)) % self.state_counts[index]

    @property
    def first(self) -> int:
        """The index of the first step."""
        return self.length - 1 if self.reverse else 0

    @property
    def step(self) -> int:
        return -1 if self.reverse else 1

    def __call__(self, *arrays: np.ndarray) -> dict[tuple[str, int], np.ndarray]:
        """Run the scan by the interpreter. Returns all of its parts."""
        n, outputs = self.carries, self.graph.outputs
        carry, xs, invariant = list(arrays[:n]), arrays[n : n + self.slices], arrays[n + self.slices :]
        states = [np.empty((k, *s.shape), s.dtype) for k, s in zip(self.state_counts, outputs, strict=False)]
        stacks = [np.empty((self.length, *s.shape), s.dtype) for s in outputs[n:]]
        for i, x in enumerate(carry):
            states[i][self.state(i, self.first)] = x
        for t in range(self.length)[:: self.step]:
            results, _ = interpret(self.graph, [*carry, *(x[t] for x in xs), *invariant])
            carry = results[:n]
            for i, x in enumerate(carry):
                states[i][self.state(i, t + self.step)] = x
            for stack, y in zip(stacks, results[n:], strict=True):
                stack[t] = y
        parts = {("last", i): x for i, x in enumerate(carry)}
        parts |= {("states", i): x.reshape(-1) for i, x in enumerate(states)}
        return parts | {("stack", n + j): x.reshape(-1) for j, x in enumerate(stacks)}

    def __repr__(self) -> str:
        """Equal for equal bodies: keys of programs contain it."""
        names = name_nodes(self.graph)
        name_of = lambda x: names[x] if x.constant is None else (x.constant.tobytes(), x.shape, x.dtype)
        lines = [(s.op, [name_of(x) for x in s.inputs], s.attributes, s.shape, s.dtype) for s in names if s.op]
        about = repr([lines, [name_of(s) for s in self.graph.outputs], self.carries, self.slices, self.state_counts])
        digest = hashlib.sha256(about.encode()).hexdigest()[:16]
        return f"<{self.length} times {'backwards ' * self.reverse}{digest}>"


# ---- scans as operations ----


def scan_symbol(body: ScanBody, inputs: Sequence[Symbol], where: Origin) -> Symbol:
    """A scan as an operation. inputs: for each input of the body, in its order, the whole of it."""
    return Symbol(loop, tuple(inputs), {"body": body}, (), np.dtype(object), where)


def part_symbol(scan: Symbol, what: str, index: int, size: int, dtype: np.dtype) -> Symbol:
    """One output of a scan as an operation, flattened to (size,)."""
    return Symbol(part, (scan,), {"what": what, "index": index}, (size,), dtype, scan.origin)


def body_of(scan: Symbol) -> ScanBody:
    """The body of a scan."""
    body: ScanBody = scan.attributes["body"]
    return body


def output_of(part: Symbol) -> tuple[str, int]:
    """Which output of a scan an operation `part` is: "last", "states" or "stack", and its index; see `ScanOutput`."""
    return part.attributes["what"], part.attributes["index"]


def update_scan(scan: Symbol, body: ScanBody, inputs: Sequence[Symbol]) -> None:
    """Give a scan a body. Where it had one, copies of the operation get the new one too: they share the object."""
    scan.attributes.setdefault("body", body).__dict__.update(body.__dict__)
    scan.inputs = tuple(inputs)


# ---- cutting a body out ----


def placeholder(like: Value | Symbol | Spec) -> Symbol:
    """A Symbol without an operation, with the shape and dtype of `like`."""
    return Symbol(None, (), {}, like.shape, like.dtype, origin.get() or user_origin())


def extract_subgraph(
    roots: Sequence[Symbol], symbols: Sequence[Symbol], given: dict[Symbol, Symbol]
) -> tuple[list[Symbol], list[Symbol], dict[Symbol, Symbol]]:
    """Copy the part of `symbols` that `roots` need.

    given: Symbols that have a placeholder already. Returns the operations, the roots, and the placeholder of each outer
    Symbol that they read.
    """
    needed = needed_of(symbols, roots, given)
    new, outside = dict(given), dict[Symbol, Symbol]()

    def find(x: Symbol) -> Symbol:
        if x.constant is not None:
            return x
        if x not in new:
            new[x] = outside[x] = placeholder(x)
        return new[x]

    operations = []
    for s in symbols:
        if s in needed and s not in given:
            new[s] = s.with_inputs(tuple([find(x) for x in s.inputs]))
            operations.append(new[s])
    return operations, [find(s) for s in roots], outside


def extract_body(
    roots: Sequence[Symbol], symbols: Sequence[Symbol], given: dict[Symbol, Symbol], carries: int, length: int, reverse: bool
) -> tuple[ScanBody, list[Symbol]]:  # fmt: skip
    """A ScanBody whose inputs are those of `given`, then the outer Symbols that it reads. Returns these too."""
    checks = [s for s in symbols if s.op is check_index]
    operations, results, outside = extract_subgraph([*roots, *checks], symbols, given)
    inputs = [Input("state", None, s) for s in (*given.values(), *outside.values())]
    graph = Graph(inputs, operations, results[: len(roots)])
    return ScanBody(graph, carries, len(given) - carries, length, reverse, [length + 1] * carries), list(outside)
