"""Scan hoisting: move work that the next carry does not need out of a scan (floor 4).

A product of the sequence with a weight becomes one large product before the scan. An output that nothing in the body reads
is computed after it, from stacked values. A sum of products over the steps, such as the gradient of a weight, becomes one
product with the steps end to end. The numbers are those of the loop, except for the order of such sums.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np

from ...core.value import Symbol
from ...ops.contraction import matmul
from ...ops.elementwise import add, multiply
from ...ops.index import check_index
from ...ops.loop import loop, part
from ...ops.movement import concatenate, permute, reshape, slice_
from ...ops.reduce import expand, sum_
from ..ir.graph import Graph
from ..ir.rewrite import constant, emit, rewrite
from ..ir.scan_body import ScanBody, extract_body, placeholder
from .pipeline import Pipeline
from .simplify import dead_code


def run_passes(graph: Graph, pipeline: Pipeline, disabled: frozenset[str] = frozenset(), by_row: bool = False) -> Graph:
    """Run a pipeline on a step and on the bodies of its scans. disabled: names of passes, or "scan hoisting"."""
    graph = dead_code(graph)
    done: set[ScanBody] = set()
    while True:
        loops = [s for s in graph.symbols if s.op is loop and s.attributes["body"] not in done]
        if not loops:
            return pipeline.run(graph, disabled, by_row)
        # The last one first: its readers tell what is needed of those before it.
        graph = ScanHoisting(graph, loops[-1], pipeline, disabled, done, by_row).graph()


def ancestors(roots: Iterable[Symbol], ends: Collection[Symbol] = ()) -> set[Symbol]:
    """`roots` and all Symbols that they depend on, but nothing beyond `ends`."""
    visited: set[Symbol] = set()
    waiting = list(roots)
    while waiting:
        s = waiting.pop()
        if s not in visited:
            visited.add(s)
            waiting.extend(s.inputs if s not in ends else ())
    return visited


def is_hoistable(s: Symbol) -> bool:
    """Whether the operation works alike on the values of all steps at once."""
    return s.op is not None and s.op.batched(s.attributes, 1) is not None


def _is_linear(s: Symbol) -> bool:
    """Whether it gives the sum over steps, where its inputs are sums over steps. No input may be broadcast."""
    return (
        s.op is not None and s.op.linear and (s.op.kind != "elementwise" or all(x.shape == s.shape for x in s.inputs))
    )


def _is_zero(x: Symbol) -> bool:
    x = x.inputs[0] if x.op is expand else x
    return x.constant is not None and not x.constant.any()


class ScanHoisting:
    """The rewrite of one scan. `inside`: the Symbols that stay in its body."""

    def __init__(
        self,
        graph: Graph,
        symbol: Symbol,
        pipeline: Pipeline,
        disabled: frozenset[str],
        done: set[ScanBody],
        by_row: bool,
    ) -> None:
        self.graph_before, self.symbol, self.done, self.by_row = graph, symbol, done, by_row
        body: ScanBody = symbol.attributes["body"]
        self.length, self.reverse = body.length, body.reverse
        self.parts = [s for s in graph.symbols if s.op is part and s.inputs[0] is symbol]
        used = {(s.attributes["what"], s.attributes["index"]) for s in self.parts}
        stacked = sorted(index for what, index in used if what == "stack")
        inputs = [entry.symbol for entry in body.graph.inputs]
        live = self._live_carries(body, {index for what, index in used if what == "last"}, stacked)
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
        self.enabled = "scan hoisting" not in disabled
        self.sums: dict[int, Symbol] = {}
        self.outputs: list[Symbol] = []
        self.histories: dict[int, Symbol] = {}
        self.hoisted_values: dict[Symbol, tuple[Symbol, bool]] = {}
        self._decide()

    def _live_carries(self, body: ScanBody, wanted: set[int], stacked: list[int]) -> list[int]:
        """The carries that a result depends on."""
        while True:
            needed = ancestors(body.graph.outputs[i] for i in (*wanted, *stacked))
            more = {i for i in range(body.carries) if body.graph.inputs[i].symbol in needed}
            if more <= wanted:
                return sorted(wanted)
            wanted |= more

    # ---- what stays inside ----

    def _decide(self) -> None:
        if self.enabled:
            self.sums = {i: v for i in self.carry if (v := self._summand(i)) is not None and self._can_sum_outside(v)}
        checks = [s for s in self.body.symbols if s.op is check_index]
        self.inside = ancestors([*(s for i, s in self.next.items() if i not in self.sums), *checks])
        for y in self.stacked.values():
            if not (self.enabled and self._is_worth_hoisting(y)):
                self.inside |= ancestors([y])
        for v in self.sums.values():
            self._keep_below_sum(v)
        carried = set(self.carry.values())
        self.varying = carried  # what depends on a carry
        for s in self.body.symbols:
            if any(x in self.varying for x in s.inputs):
                self.varying.add(s)
        self.precomputed: dict[
            Symbol, Symbol
        ] = {}  # products of a sequence, computed before the scan, and their placeholders
        for s in self.body.symbols if self.enabled else ():
            if s in self.inside and s.op is matmul and s not in self.varying and self._sliced(s):
                self.precomputed[s] = placeholder(s)

    def _sliced(self, s: Symbol) -> bool:
        """Whether it depends on a sequence, through operations that can all be hoisted."""
        below = ancestors([s])
        return bool(below & set(self.slices)) and all(is_hoistable(x) for x in below if x.op is not None)

    def _summand(self, index: int) -> Symbol | None:
        """v, where the body does nothing with a carry but add v to it."""
        before, after = self.carry[index], self.next[index]
        others = [s for i, s in self.next.items() if i != index]
        if after.op is not add or after.dtype.kind != "f" or before not in after.inputs:
            return None
        if after in ancestors([*others, *self.stacked.values()]) or before in (*others, *self.stacked.values()):
            return None
        if sum(s.inputs.count(before) for s in self.body.symbols) != 1:
            return None
        v = after.inputs[1] if after.inputs[0] is before else after.inputs[0]
        return v if v.shape == before.shape else None

    def _can_sum_outside(self, v: Symbol) -> bool:
        """Whether the sum of `v` over all steps can be computed outside of the scan."""
        op = v.op
        if _is_linear(v):
            return all(self._can_sum_outside(x) for x in v.inputs)
        return (op is matmul and v.inputs[0].ndim == v.inputs[1].ndim == 2) or op is sum_

    def _keep_below_sum(self, v: Symbol) -> None:
        if _is_linear(v):
            for x in v.inputs:
                self._keep_below_sum(x)
        else:
            for x in v.inputs:
                self._keep_unhoistable(x)

    def _keep_unhoistable(self, s: Symbol) -> None:
        """Keep in the body what cannot be hoisted."""
        if s.op is not None and s not in self.inside:
            for x in s.inputs:
                self._keep_unhoistable(x)
            if not is_hoistable(s):
                self.inside |= ancestors([s])

    def _is_worth_hoisting(self, y: Symbol) -> bool:
        """Whether to compute an output after the scan: where that is possible and hoists a product, or stacks no more numbers
        than the output has."""
        if y.op is None or y in self.inside:
            return False
        stacks: set[Symbol] = set()
        waiting, visited = [y], set[Symbol]()
        while waiting:
            s = waiting.pop()
            if s.op is None or s in visited:
                continue
            visited.add(s)
            if s in self.inside:
                stacks.add(s)
            elif not is_hoistable(s):
                return False
            else:
                waiting.extend(s.inputs)
        there = {*self.next.values(), *(x for x in self.stacked.values() if x in self.inside)}
        product = any(s.op is matmul for s in visited - stacks)
        return product or sum(s.size for s in stacks - there) <= y.size

    # ---- values outside ----

    def graph(self) -> Graph:
        """The graph with the rewritten scan."""
        origin = self.symbol.origin
        self.carries = [i for i in self.carry if i not in self.sums]
        self.new = Symbol(loop, (), {}, (), self.symbol.dtype, origin)
        self.precomputed_outer = {s: self.hoisted(s)[0] for s in self.precomputed}
        results: dict[tuple[str, int], Symbol] = {}
        for index, y in self.stacked.items():
            results["stack", index] = self._flat(self.at_every_step(y))
        for index, v in self.sums.items():
            begin, sum_over_steps = self.outer[self.carry[index]], self.sum_over_steps(v)
            results["last", index] = (
                sum_over_steps if _is_zero(begin) else emit(add, begin, sum_over_steps, origin=v.origin)
            )
        for index in self.carries:
            results["last", index] = self._last(index)
        self._finish()
        table = {s: results[s.attributes["what"], s.attributes["index"]] for s in self.parts}
        return rewrite(self.graph_before, lambda s, inputs: table.get(s))

    def _finish(self) -> None:
        given = {self.carry[i]: self.carry[i] for i in self.carries}
        sources = [self.outer[self.carry[i]] for i in self.carries]
        roots = [*(self.next[i] for i in self.carries), *self.outputs]
        needed = ancestors(roots, set(self.precomputed))
        for x in self.slices:
            if x in needed:
                given[x] = x
                sources.append(self.outer[x])
        for s in (s for s in self.precomputed if s in needed):
            given[s] = self.precomputed[s]
            sources.append(self.precomputed_outer[s])
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
        rows = emit(slice_, flat, origin=flat.origin, slices=((start, count, 1),))
        return emit(reshape, rows, origin=flat.origin, shape=tuple(shape))

    def _flat(self, x: Symbol) -> Symbol:
        return emit(reshape, x, origin=x.origin, shape=(x.size,))

    def _history(self, index: int, written: bool) -> Symbol:
        """A carry at every step: the value that the step writes, or the one that it reads."""
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
        return emit(reshape, flat, origin=s.origin, shape=(self.length, *s.shape))

    def at_every_step(self, s: Symbol) -> Symbol:
        """`s` at every step, (T, ...)."""
        x, stacked = self.hoisted(s)
        return x if stacked else emit(expand, x, origin=x.origin, shape=(self.length, *x.shape))

    def hoisted(self, s: Symbol) -> tuple[Symbol, bool]:
        """`s` outside of the scan, and whether it has a first axis for the steps. Without that axis it is the same at every step."""
        if s not in self.hoisted_values:
            self.hoisted_values[s] = self._hoist(s)
        return self.hoisted_values[s]

    def _hoist(self, s: Symbol) -> tuple[Symbol, bool]:
        if s.constant is not None:
            return s, False
        for index in self.carries:
            if s is self.carry[index]:
                return self._history(index, False), True
        if s.op is None:
            return self.outer[s], s in self.slices
        if s in self.inside and s in self.varying:
            return self._stack(s), True
        if s in self.inside and not all(is_hoistable(x) for x in ancestors([s]) if x.op is not None):
            return self._stack(s), True
        inputs = [self.hoisted(x) for x in s.inputs]
        if not any(stacked for _, stacked in inputs):
            return emit(s.op, *(x for x, _ in inputs), origin=s.origin, **s.attributes), False
        return self._along(s, inputs), True

    def _along(self, s: Symbol, inputs: list[tuple[Symbol, bool]]) -> Symbol:
        """The operation of `s` on values with a first axis for the steps."""
        op, t, origin = s.op, self.length, s.origin
        assert op is not None
        attributes = op.batched(s.attributes, t)
        assert attributes is not None
        if op is matmul:
            return self._product(s, inputs)
        if op is concatenate:
            wide = [x if stacked else emit(expand, x, origin=origin, shape=(t, *x.shape)) for x, stacked in inputs]
            return emit(op, *wide, origin=origin, **attributes)
        if op.kind != "elementwise":
            x, rank = inputs[0][0], s.inputs[0].ndim
            if op is expand:
                x = self._ranked(x, rank, s.ndim)
            return emit(op, x, origin=origin, **attributes)
        ranks = [x.ndim for x in s.inputs]
        fitted = [self._ranked(x, r, s.ndim) if d else x for (x, d), r in zip(inputs, ranks, strict=True)]
        return emit(op, *fitted, origin=origin, **attributes)

    def _ranked(self, x: Symbol, rank: int, wanted: int) -> Symbol:
        """x (T, ...) with axes of size 1 behind the first, so that it has `wanted` other axes."""
        if rank == wanted:
            return x
        return emit(reshape, x, origin=x.origin, shape=(x.shape[0], *[1] * (wanted - rank), *x.shape[1:]))

    def _product(self, s: Symbol, inputs: list[tuple[Symbol, bool]]) -> Symbol:
        (a, rows), (b, columns) = inputs
        if s.inputs[0].ndim == s.inputs[1].ndim == 2 and rows and not columns:
            t, m, k = a.shape  # the rows of all steps in one product
            a = emit(reshape, a, origin=s.origin, shape=(t * m, k))
            return emit(reshape, emit(matmul, a, b, origin=s.origin), origin=s.origin, shape=(t, *s.shape))
        if rows:
            a = self._ranked(a, s.inputs[0].ndim, s.ndim)
        if columns:
            b = self._ranked(b, s.inputs[1].ndim, s.ndim)
        return emit(matmul, a, b, origin=s.origin)

    # ---- sums over the steps ----

    def sum_over_steps(self, v: Symbol) -> Symbol:
        """The sum of `v` over all steps."""
        op, origin = v.op, v.origin
        if op is not None and _is_linear(v):
            return emit(op, *(self.sum_over_steps(x) for x in v.inputs), origin=origin, **v.attributes)
        if not any(self.hoisted(x)[1] for x in v.inputs):
            times = constant(self.length, v.dtype, origin)
            return emit(multiply, self.hoisted(v)[0], times, origin=origin)
        if op is sum_:
            x = self.at_every_step(v.inputs[0])
            axes = (0, *(axis + 1 for axis in v.attributes["axes"]))
            whole = emit(sum_, x, origin=origin, axes=axes, keepdims=False)
            return emit(reshape, whole, origin=origin, shape=v.shape)
        a, b = v.inputs
        return emit(matmul, self._end_to_end(a, 1), self._end_to_end(b, 0), origin=origin)

    def _end_to_end(self, x: Symbol, axis: int) -> Symbol:
        """The matrices of all steps as one matrix, end to end along `axis`."""
        if x.op is permute and x.attributes["axes"] == (1, 0):
            return emit(permute, self._end_to_end(x.inputs[0], 1 - axis), origin=x.origin, axes=(1, 0))
        at_every_step, (m, n) = self.at_every_step(x), x.shape
        if axis == 0:
            return emit(reshape, at_every_step, origin=x.origin, shape=(self.length * m, n))
        across = emit(permute, at_every_step, origin=x.origin, axes=(1, 0, 2))
        return emit(reshape, across, origin=x.origin, shape=(m, self.length * n))
