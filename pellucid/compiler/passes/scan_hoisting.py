"""Taking out of a loop what need not stay in it, and the form of loops that kernels are made of (floor 4).

Only what the next carry needs has to happen position by position. A product of the sequence with a weight is one large
product before the loop; an output that nothing inside waits for is computed after it, from stacks; and a sum over
positions of products, the gradient of a weight, is one product with the positions laid end to end. The numbers are those
of the loop but for the order of such sums.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from ...core.value import Symbol
from ...ops.loop import loop, part
from ..ir.graph import Graph
from ..ir.rewrite import constant, emit, rewrite
from ..ir.scan_body import ScanBody, extract_body, placeholder
from .pipeline import Pipeline
from .simplify import dead_code

REDUCED = {"sum", "amax", "amin", "any", "all"}
ALONG = {"argmax", "argmin", "cumulative_sum"}
MOVED = {"reshape", "permute", "expand", "slice", "place"}
LINEAR = {"reshape", "permute", "slice", "place", "negative"}


def run_passes(graph: Graph, pipeline: Pipeline, disabled: frozenset[str] = frozenset(), by_row: bool = False) -> Graph:
    """Run a pipeline on a step and on the bodies of its scans. disabled: names of passes, or "scan hoisting"."""
    graph = dead_code(graph)
    done: set[Any] = set()
    while True:
        loops = [s for s in graph.symbols if s.op is loop and s.attributes["body"] not in done]
        if not loops:
            return pipeline.run(graph, disabled, by_row)
        # The last one first: its readers tell what is needed of those before it.
        graph = ScanHoisting(graph, loops[-1], pipeline, disabled, done, by_row).graph()


def ancestors(roots: Iterable[Symbol], ends: Collection[Symbol] = ()) -> set[Symbol]:
    """All that `roots` depend on, and they themselves; nothing beyond `ends`."""
    seen: set[Symbol] = set()
    waiting = list(roots)
    while waiting:
        s = waiting.pop()
        if s not in seen:
            seen.add(s)
            waiting.extend(s.inputs if s not in ends else ())
    return seen


def is_hoistable(s: Symbol) -> bool:
    known = REDUCED | ALONG | MOVED | {"matmul", "concatenate"}
    return s.op is not None and (s.op.kind == "elementwise" or s.op_name in known)


def _is_zero(x: Symbol) -> bool:
    x = x.inputs[0] if x.op_name == "expand" else x
    return x.constant is not None and not x.constant.any()


class ScanHoisting:
    """One loop being rewritten. `inside` is what stays in it; a value is "whole" if it is the same at every position."""

    def __init__(
        self, graph: Graph, symbol: Symbol, pipeline: Pipeline, disabled: frozenset[str], done: set[Any], by_row: bool
    ) -> None:
        self.before, self.symbol, self.done, self.by_row = graph, symbol, done, by_row
        body: ScanBody = symbol.attributes["body"]
        self.length, self.reverse = body.length, body.reverse
        self.parts = [s for s in graph.symbols if s.op is part and s.inputs[0] is symbol]
        used = {(s.attributes["what"], s.attributes["index"]) for s in self.parts}
        stacked = sorted(index for what, index in used if what == "stack")
        inputs = [entry.symbol for entry in body.graph.inputs]
        live = self._live(body, {index for what, index in used if what == "last"}, stacked)
        roots = [body.graph.outputs[i] for i in (*live, *stacked)]
        self.pipeline, self.disabled = pipeline, disabled
        early = disabled | set(pipeline.after_hoisting)
        self.body = run_passes(Graph(body.graph.inputs, body.graph.symbols, roots), pipeline, early, by_row)
        results = self.body.outputs
        self.carry = {i: inputs[i] for i in live}
        self.next = dict(zip(live, results, strict=False))
        self.stacked = dict(zip(stacked, results[len(live) :], strict=True))
        self.outer = dict(zip(inputs, symbol.inputs, strict=True))
        self.slices = inputs[body.carries : body.carries + body.slices]
        self.lift = "scan hoisting" not in disabled
        self.sums: dict[int, Symbol] = {}
        self.outputs: list[Symbol] = []
        self.histories: dict[int, Symbol] = {}
        self.known: dict[Symbol, tuple[Symbol, bool]] = {}
        self._decide()

    def _live(self, body: ScanBody, wanted: set[int], stacked: list[int]) -> list[int]:
        """The carries that anything depends on."""
        while True:
            needed = ancestors(body.graph.outputs[i] for i in (*wanted, *stacked))
            more = {i for i in range(body.carries) if body.graph.inputs[i].symbol in needed}
            if more <= wanted:
                return sorted(wanted)
            wanted |= more

    # ---- what stays inside ----

    def _decide(self) -> None:
        if self.lift:
            self.sums = {i: v for i in self.carry if (v := self._added(i)) is not None and self._can_total(v)}
        checks = [s for s in self.body.symbols if s.op_name == "within"]
        self.inside = ancestors([*(s for i, s in self.next.items() if i not in self.sums), *checks])
        for y in self.stacked.values():
            if not (self.lift and self._worth(y)):
                self.inside |= ancestors([y])
        for v in self.sums.values():
            self._settle_total(v)
        carried = set(self.carry.values())
        self.moving = carried  # what differs from position to position otherwise than by the sequences
        for s in self.body.symbols:
            if any(x in self.moving for x in s.inputs):
                self.moving.add(s)
        self.ahead: dict[Symbol, Symbol] = {}  # products of the sequence, which are made before the loop
        for s in self.body.symbols if self.lift else ():
            if s in self.inside and s.op_name == "matmul" and s not in self.moving and self._sliced(s):
                self.ahead[s] = placeholder(s)

    def _sliced(self, s: Symbol) -> bool:
        """Whether it depends on a sequence, by operations that can all leave the loop."""
        below = ancestors([s])
        return bool(below & set(self.slices)) and all(is_hoistable(x) for x in below if x.op is not None)

    def _added(self, index: int) -> Symbol | None:
        """v, where all that happens to a carry is that v is added to it."""
        before, after = self.carry[index], self.next[index]
        others = [s for i, s in self.next.items() if i != index]
        if after.op_name != "add" or after.dtype.kind != "f" or before not in after.inputs:
            return None
        if after in ancestors([*others, *self.stacked.values()]) or before in (*others, *self.stacked.values()):
            return None
        if sum(s.inputs.count(before) for s in self.body.symbols) != 1:
            return None
        v = after.inputs[1] if after.inputs[0] is before else after.inputs[0]
        return v if v.shape == before.shape else None

    def _can_total(self, v: Symbol) -> bool:
        """Whether the sum of `v` over all positions can be had without summing position by position."""
        name = v.op_name
        if name in LINEAR:
            return self._can_total(v.inputs[0])
        if name in ("add", "subtract"):
            return all(x.shape == v.shape and self._can_total(x) for x in v.inputs)
        return (name == "matmul" and v.inputs[0].ndim == v.inputs[1].ndim == 2) or name == "sum"

    def _settle_total(self, v: Symbol) -> None:
        if v.op_name in LINEAR or v.op_name in ("add", "subtract"):
            for x in v.inputs:
                self._settle_total(x)
        else:
            for x in v.inputs:
                self._settle(x)

    def _settle(self, s: Symbol) -> None:
        """Keep inside what cannot be lifted."""
        if s.op is not None and s not in self.inside:
            for x in s.inputs:
                self._settle(x)
            if not is_hoistable(s):
                self.inside |= ancestors([s])

    def _worth(self, y: Symbol) -> bool:
        """Whether to compute an output after the loop: it can be, and no more has to be stacked than the output itself,
        or a product leaves the loop."""
        if y.op is None or y in self.inside:
            return False
        stacks: set[Symbol] = set()
        waiting, seen = [y], set[Symbol]()
        while waiting:
            s = waiting.pop()
            if s.op is None or s in seen:
                continue
            seen.add(s)
            if s in self.inside:
                stacks.add(s)
            elif not is_hoistable(s):
                return False
            else:
                waiting.extend(s.inputs)
        there = {*self.next.values(), *(x for x in self.stacked.values() if x in self.inside)}
        product = any(s.op_name == "matmul" for s in seen - stacks)
        return product or sum(s.size for s in stacks - there) <= y.size

    # ---- values outside ----

    def graph(self) -> Graph:
        """The step with the loop as it is now."""
        place = self.symbol.origin
        self.carries = [i for i in self.carry if i not in self.sums]
        self.new = Symbol(loop, (), {}, (), self.symbol.dtype, place)
        self.ahead_outer = {s: self.lifted(s)[0] for s in self.ahead}
        found: dict[tuple[str, int], Symbol] = {}
        for index, y in self.stacked.items():
            found["stack", index] = self._flat(self.every(y))
        for index, v in self.sums.items():
            begin, total = self.outer[self.carry[index]], self.total(v)
            found["last", index] = total if _is_zero(begin) else emit("add", begin, total, origin=v.origin)
        for index in self.carries:
            found["last", index] = self._last(index)
        self._finish()
        table = {s: found[s.attributes["what"], s.attributes["index"]] for s in self.parts}
        return rewrite(self.before, lambda s, inputs: table.get(s))

    def _finish(self) -> None:
        given = {self.carry[i]: self.carry[i] for i in self.carries}
        sources = [self.outer[self.carry[i]] for i in self.carries]
        roots = [*(self.next[i] for i in self.carries), *self.outputs]
        needed = ancestors(roots, set(self.ahead))
        for x in self.slices:
            if x in needed:
                given[x] = x
                sources.append(self.outer[x])
        for s in (s for s in self.ahead if s in needed):
            given[s] = self.ahead[s]
            sources.append(self.ahead_outer[s])
        body, outside = extract_body(roots, self.body.symbols, given, len(self.carries), self.length, self.reverse)
        body.graph = self.pipeline.run(body.graph, self.disabled, self.by_row)
        body.state_counts = [self.length + 1 if i in self.histories else 2 for i in self.carries]
        self.done.add(body)
        self.new.attributes["body"] = body
        self.new.inputs = (*sources, *(self.outer[x] for x in outside))

    def _part(self, what: str, index: int, size: int, dtype: np.dtype) -> Symbol:
        return Symbol(part, (self.new,), {"what": what, "index": index}, (size,), dtype, self.symbol.origin)

    def _range(self, flat: Symbol, start: int, shape: Sequence[int]) -> Symbol:
        count = int(np.prod(shape))
        rows = emit("slice", flat, origin=flat.origin, slices=((start, count, 1),))
        return emit("reshape", rows, origin=flat.origin, shape=tuple(shape))

    def _flat(self, x: Symbol) -> Symbol:
        return emit("reshape", x, origin=x.origin, shape=(x.size,))

    def _history(self, index: int, written: bool) -> Symbol:
        """A carry at every position, as it is written there or as it is read."""
        x = self.carry[index]
        if index not in self.histories:
            size = (self.length + 1) * x.size
            self.histories[index] = self._part("states", self.carries.index(index), size, x.dtype)
        start = x.size if written != self.reverse else 0
        return self._range(self.histories[index], start, (self.length, *x.shape))

    def _last(self, index: int) -> Symbol:
        x, end = self.carry[index], 0 if self.reverse else self.length
        states = self.histories.get(index)
        if states is None:
            states = self._part("states", self.carries.index(index), 2 * x.size, x.dtype)
            end %= 2
        return self._range(states, end * x.size, x.shape)

    def _stack(self, s: Symbol) -> Symbol:
        for index in self.carries:
            if s is self.next[index]:
                return self._history(index, True)
        if s not in self.outputs:
            self.outputs.append(s)
        flat = self._part("stack", len(self.carries) + self.outputs.index(s), self.length * s.size, s.dtype)
        return emit("reshape", flat, origin=s.origin, shape=(self.length, *s.shape))

    def every(self, s: Symbol) -> Symbol:
        """`s` at every position, (T, ...)."""
        x, stacked = self.lifted(s)
        return x if stacked else emit("expand", x, origin=x.origin, shape=(self.length, *x.shape))

    def lifted(self, s: Symbol) -> tuple[Symbol, bool]:
        """`s` as the step sees it, and whether with a first axis for the positions; without, it is whole."""
        if s not in self.known:
            self.known[s] = self._lifted(s)
        return self.known[s]

    def _lifted(self, s: Symbol) -> tuple[Symbol, bool]:
        if s.constant is not None:
            return s, False
        for index in self.carries:
            if s is self.carry[index]:
                return self._history(index, False), True
        if s.op is None:
            return self.outer[s], s in self.slices
        if s in self.inside and s in self.moving:
            return self._stack(s), True
        if s in self.inside and not all(is_hoistable(x) for x in ancestors([s]) if x.op is not None):
            return self._stack(s), True
        inputs = [self.lifted(x) for x in s.inputs]
        if not any(stacked for _, stacked in inputs):
            return emit(s.op_name, *(x for x, _ in inputs), origin=s.origin, **s.attributes), False
        return self._along(s, inputs), True

    def _along(self, s: Symbol, inputs: list[tuple[Symbol, bool]]) -> Symbol:
        """The operation of `s` on values with a first axis for the positions."""
        name, how, t, place = s.op_name, dict(s.attributes), self.length, s.origin
        if name == "matmul":
            return self._product(s, inputs)
        if name == "concatenate":
            wide = [x if stacked else emit("expand", x, origin=place, shape=(t, *x.shape)) for x, stacked in inputs]
            return emit(name, *wide, origin=place, axis=how["axis"] + 1)
        if name in MOVED or name in REDUCED or name in ALONG:
            x, rank = inputs[0][0], s.inputs[0].ndim
            if name == "expand":
                x = self._ranked(x, rank, s.ndim)
            how |= {key: (t, *how[key]) for key in ("shape",) if key in how}
            how |= {"slices": ((0, t, 1), *how["slices"])} if "slices" in how else {}
            if "axes" in how:
                axes = tuple(axis + 1 for axis in how["axes"])
                how["axes"] = (0, *axes) if name == "permute" else axes
            how |= {"axis": how["axis"] + 1} if "axis" in how else {}
            return emit(name, x, origin=place, **how)
        ranks = [x.ndim for x in s.inputs]
        fitted = [self._ranked(x, r, s.ndim) if d else x for (x, d), r in zip(inputs, ranks, strict=True)]
        return emit(name, *fitted, origin=place, **how)

    def _ranked(self, x: Symbol, rank: int, wanted: int) -> Symbol:
        """x (T, ...) with axes of size 1 behind the first, so that it has `wanted` others."""
        if rank == wanted:
            return x
        return emit("reshape", x, origin=x.origin, shape=(x.shape[0], *[1] * (wanted - rank), *x.shape[1:]))

    def _product(self, s: Symbol, inputs: list[tuple[Symbol, bool]]) -> Symbol:
        (a, rows), (b, columns) = inputs
        if s.inputs[0].ndim == s.inputs[1].ndim == 2 and rows and not columns:
            t, m, k = a.shape  # all positions are rows of one product
            a = emit("reshape", a, origin=s.origin, shape=(t * m, k))
            return emit("reshape", emit("matmul", a, b, origin=s.origin), origin=s.origin, shape=(t, *s.shape))
        if rows:
            a = self._ranked(a, s.inputs[0].ndim, s.ndim)
        if columns:
            b = self._ranked(b, s.inputs[1].ndim, s.ndim)
        return emit("matmul", a, b, origin=s.origin)

    # ---- sums over the positions ----

    def total(self, v: Symbol) -> Symbol:
        """The sum of `v` over all positions."""
        name, place = v.op_name, v.origin
        if name in LINEAR or name in ("add", "subtract"):
            return emit(name, *(self.total(x) for x in v.inputs), origin=place, **v.attributes)
        if not any(self.lifted(x)[1] for x in v.inputs):
            times = constant(self.length, v.dtype, place)
            return emit("multiply", self.lifted(v)[0], times, origin=place)
        if name == "sum":
            x = self.every(v.inputs[0])
            axes = (0, *(axis + 1 for axis in v.attributes["axes"]))
            whole = emit("sum", x, origin=place, axes=axes, keepdims=False)
            return emit("reshape", whole, origin=place, shape=v.shape)
        a, b = v.inputs
        return emit("matmul", self._end_to_end(a, 1), self._end_to_end(b, 0), origin=place)

    def _end_to_end(self, x: Symbol, axis: int) -> Symbol:
        """A matrix at every position as one matrix, the positions end to end along `axis`."""
        if x.op_name == "permute" and x.attributes["axes"] == (1, 0):
            return emit("permute", self._end_to_end(x.inputs[0], 1 - axis), origin=x.origin, axes=(1, 0))
        every, (m, n) = self.every(x), x.shape
        if axis == 0:
            return emit("reshape", every, origin=x.origin, shape=(self.length * m, n))
        across = emit("permute", every, origin=x.origin, axes=(1, 0, 2))
        return emit("reshape", across, origin=x.origin, shape=(m, self.length * n))
