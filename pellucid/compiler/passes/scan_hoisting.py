"""Scan hoisting: compute outside of a scan what the loop does not need from one step to the next (floor 4).

A scan is a loop: each step reads the carry (the values passed from step to step) and one element of every input sequence.
Three kinds of work leave the loop. T is the number of steps.

    before the scan     a matmul of a sequence element with a weight: T matmuls become one
    after the scan      an output that the next carry does not depend on: it is computed for all steps at once
    after the scan      a carry that only adds up a value, such as the gradient of a weight: T matmuls that are added
                        become one matmul of the concatenated matrices

Results are equal to those of the loop, except for rounding: such a sum is added up in another order.
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
    """Run a pipeline on a graph. Hoist from its scans, and run the pipeline on their bodies.

    disabled: names of passes to leave out; "scan hoisting" leaves out the hoisting. by_row: see `Pipeline.run`.
    """
    graph = dead_code(graph)
    done: set[ScanBody] = set()  # bodies that are rewritten already
    while True:
        loops = [s for s in graph.symbols if s.op is loop and s.attributes["body"] not in done]
        if not loops:
            return pipeline.run(graph, disabled, by_row)
        # The last one first: a scan may read the outputs of an earlier scan, and only the outputs that are read are kept.
        graph = ScanHoisting(graph, loops[-1], pipeline, disabled, done, by_row).graph()


def ancestors(roots: Iterable[Symbol], ends: Collection[Symbol] = ()) -> set[Symbol]:
    """`roots` and all Symbols that they depend on. The inputs of a Symbol in `ends` are not followed."""
    visited: set[Symbol] = set()
    waiting = list(roots)
    while waiting:
        s = waiting.pop()
        if s not in visited:
            visited.add(s)
            waiting.extend(s.inputs if s not in ends else ())
    return visited


def is_hoistable(s: Symbol) -> bool:
    """Whether the operation of `s` can be applied to the values of all steps at once."""
    return s.op is not None and s.op.batched(s.attributes, 1) is not None


def _is_linear(s: Symbol) -> bool:
    """Whether the operation of `s` may be applied to the sums over all steps of its inputs, in place of the sum after it."""
    return (
        s.op is not None and s.op.linear and (s.op.kind != "elementwise" or all(x.shape == s.shape for x in s.inputs))
    )


def _is_zero(x: Symbol) -> bool:
    x = x.inputs[0] if x.op is expand else x
    return x.constant is not None and not x.constant.any()


class ScanHoisting:
    """The rewrite of one scan: `__init__` decides what stays in the loop, `graph()` builds the new graph.

    Carries and stacked outputs are known by their index in the old body. `part` is the operation that takes one output of a
    scan: the "last" value of a carry, or an output at every step, "stack".

    carry, next: by index of a carry, the Symbol that a step reads, and the one that it passes to the next step.
    stacked: by index of an output, its Symbol.
    slices: the Symbols that stand for one element of each sequence.
    outer: for each input of the body, the Symbol in the surrounding graph.
    inside: the Symbols of the body that stay in the loop.
    varying: the Symbols that depend on a carry.
    sums: carries that are replaced by a sum outside, and the value v that each step adds.
    precomputed: matmuls that are computed before the scan, and the placeholder that the body reads in place of each.
    histories: carries that are needed at every step, not only after the last one.
    """

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
        last = {index for what, index in used if what == "last"}
        inputs = [entry.symbol for entry in body.graph.inputs]
        live = self._live_carries(body, last, stacked)
        roots = [body.graph.outputs[i] for i in (*live, *stacked)]  # an output that nothing reads is dropped
        self.pipeline, self.disabled = pipeline, disabled
        # Passes that replace a matmul must not run yet: hoisting looks for matmuls.
        disabled_now = disabled | set(pipeline.after_hoisting)
        self.body = run_passes(Graph(body.graph.inputs, body.graph.symbols, roots), pipeline, disabled_now, by_row)
        results = self.body.outputs
        self.carry = {i: inputs[i] for i in live}
        self.next = dict(zip(live, results[: len(live)], strict=True))
        self.stacked = dict(zip(stacked, results[len(live) :], strict=True))
        self.outer = dict(zip(inputs, symbol.inputs, strict=True))
        self.slices = inputs[body.carries : body.carries + body.slices]
        self.enabled = "scan hoisting" not in disabled
        self.sums: dict[int, Symbol] = {}
        self.outputs: list[Symbol] = []
        self.histories: dict[int, Symbol] = {}
        self.hoisted_values: dict[Symbol, tuple[Symbol, bool]] = {}
        self._decide()

    def _live_carries(self, body: ScanBody, last: set[int], stacked: list[int]) -> list[int]:
        """The carries that an output depends on. last, stacked: the outputs that are read."""
        live = set(last)
        while True:
            needed = ancestors(body.graph.outputs[i] for i in (*live, *stacked))
            read = {i for i in range(body.carries) if body.graph.inputs[i].symbol in needed}
            if read <= live:
                return sorted(live)
            live |= read

    # ---- what stays in the loop ----

    def _decide(self) -> None:
        if self.enabled:
            self.sums = {i: v for i in self.carry if (v := self._summand(i)) is not None and self._can_sum_outside(v)}
        # An index that is out of range has to be found in the step that reads it.
        checks = [s for s in self.body.symbols if s.op is check_index]
        self.inside = ancestors([*(s for i, s in self.next.items() if i not in self.sums), *checks])
        for y in self.stacked.values():
            if not (self.enabled and self._is_worth_hoisting(y)):
                self.inside |= ancestors([y])
        for v in self.sums.values():
            self._keep_inputs_of_sum(v)
        self.varying = set(self.carry.values())
        for s in self.body.symbols:
            if any(x in self.varying for x in s.inputs):
                self.varying.add(s)
        self.precomputed: dict[Symbol, Symbol] = {}
        for s in self.body.symbols if self.enabled else ():
            if s in self.inside and s.op is matmul and s not in self.varying and self._reads_sequence(s):
                self.precomputed[s] = placeholder(s)

    def _reads_sequence(self, s: Symbol) -> bool:
        """Whether `s` depends on a sequence, through operations that can all be hoisted."""
        below = ancestors([s])
        return bool(below & set(self.slices)) and all(is_hoistable(x) for x in below if x.op is not None)

    def _summand(self, index: int) -> Symbol | None:
        """The value v, if the only use of a carry is carry + v, the next carry; else None."""
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
        """Whether the sum of `v` over all steps can be computed outside of the scan; see `sum_over_steps`."""
        op = v.op
        if _is_linear(v):
            return all(self._can_sum_outside(x) for x in v.inputs)
        return (op is matmul and v.inputs[0].ndim == v.inputs[1].ndim == 2) or op is sum_

    def _keep_inputs_of_sum(self, v: Symbol) -> None:
        """Keep in the loop what `sum_over_steps` needs of it."""
        if _is_linear(v):
            for x in v.inputs:
                self._keep_inputs_of_sum(x)
        else:
            for x in v.inputs:
                self._keep_unhoistable(x)

    def _keep_unhoistable(self, s: Symbol) -> None:
        """Keep in the loop what `s` depends on and what cannot be hoisted."""
        if s.op is not None and s not in self.inside:
            for x in s.inputs:
                self._keep_unhoistable(x)
            if not is_hoistable(s):
                self.inside |= ancestors([s])

    def _is_worth_hoisting(self, y: Symbol) -> bool:
        """Whether to compute an output after the scan.

        It must be possible. It pays if a matmul leaves the loop, or if the values that have to be stacked for it are not
        larger than the output itself.
        """
        if y.op is None or y in self.inside:
            return False
        needed: set[Symbol] = set()  # Symbols of the loop that the computation after it reads
        waiting, visited = [y], set[Symbol]()
        while waiting:
            s = waiting.pop()
            if s.op is None or s in visited:
                continue
            visited.add(s)
            if s in self.inside:
                needed.add(s)
            elif not is_hoistable(s):
                return False
            else:
                waiting.extend(s.inputs)
        stacked_anyway = {*self.next.values(), *(x for x in self.stacked.values() if x in self.inside)}
        hoists_matmul = any(s.op is matmul for s in visited - needed)
        return hoists_matmul or sum(s.size for s in needed - stacked_anyway) <= y.size

    # ---- the new graph ----

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
            start, total = self.outer[self.carry[index]], self.sum_over_steps(v)
            results["last", index] = total if _is_zero(start) else emit(add, start, total, origin=v.origin)
        for index in self.carries:
            results["last", index] = self._last(index)
        self._set_body()
        replacements = {s: results[s.attributes["what"], s.attributes["index"]] for s in self.parts}
        return rewrite(self.graph_before, lambda s, inputs: replacements.get(s))

    def _set_body(self) -> None:
        """Give the new scan its body and its inputs. Called last: only now it is known which outputs the graph reads."""
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
        # A carry has a state before each step and one after the last. Two are enough if only the last one is read.
        body.state_counts = [self.length + 1 if i in self.histories else 2 for i in self.carries]
        self.done.add(body)
        self.new.attributes["body"] = body
        self.new.inputs = (*sources, *(self.outer[x] for x in outside))

    def _part(self, what: str, index: int, size: int, dtype: np.dtype) -> Symbol:
        """One output of the new scan, flattened to (size,)."""
        return Symbol(part, (self.new,), {"what": what, "index": index}, (size,), dtype, self.symbol.origin)

    def _range(self, flat: Symbol, start: int, shape: Sequence[int]) -> Symbol:
        """The elements of `flat` from `start` on, as an array of `shape`."""
        count = int(np.prod(shape))
        elements = emit(slice_, flat, origin=flat.origin, slices=((start, count, 1),))
        return emit(reshape, elements, origin=flat.origin, shape=tuple(shape))

    def _flat(self, x: Symbol) -> Symbol:
        return emit(reshape, x, origin=x.origin, shape=(x.size,))

    def _history(self, index: int, written: bool) -> Symbol:
        """A carry at every step (T, ...). written: the value that the step writes; else the one that it reads."""
        x = self.carry[index]
        if index not in self.histories:
            size = (self.length + 1) * x.size
            self.histories[index] = self._part("states", self.carries.index(index), size, x.dtype)
        # Of the T + 1 states, step t reads state t and writes state t + 1; in a reversed scan the other way round.
        start = x.size if written != self.reverse else 0
        return self._range(self.histories[index], start, (self.length, *x.shape))

    def _last(self, index: int) -> Symbol:
        """A carry after the last step."""
        x, end = self.carry[index], 0 if self.reverse else self.length
        states = self.histories.get(index)
        if states is None:
            states = self._part("states", self.carries.index(index), 2 * x.size, x.dtype)
            end %= 2  # state t is stored at t % 2
        return self._range(states, end * x.size, x.shape)

    def _stack(self, s: Symbol) -> Symbol:
        """`s`, which stays in the loop, at every step (T, ...). It becomes an output of the scan, unless it is a carry."""
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
        """The value of `s` in the surrounding graph, and whether it has a first axis for the steps.

        Without that axis, the value is the same at every step.
        """
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
        return self._add_step_axis(s, inputs), True

    def _add_step_axis(self, s: Symbol, inputs: list[tuple[Symbol, bool]]) -> Symbol:
        """The operation of `s` for all steps at once. inputs: pairs as `hoisted` returns them."""
        op, t, origin = s.op, self.length, s.origin
        assert op is not None
        attributes = op.batched(s.attributes, t)
        assert attributes is not None, "is_hoistable"
        if op is matmul:
            return self._matmul(s, inputs)
        if op is concatenate:
            every = [x if stacked else emit(expand, x, origin=origin, shape=(t, *x.shape)) for x, stacked in inputs]
            return emit(op, *every, origin=origin, **attributes)
        if op.kind != "elementwise":
            x, rank = inputs[0][0], s.inputs[0].ndim
            if op is expand:
                x = self._with_rank(x, rank, s.ndim)
            return emit(op, x, origin=origin, **attributes)
        ranks = [x.ndim for x in s.inputs]
        operands = [
            self._with_rank(x, rank, s.ndim) if stacked else x for (x, stacked), rank in zip(inputs, ranks, strict=True)
        ]
        return emit(op, *operands, origin=origin, **attributes)

    def _with_rank(self, x: Symbol, rank: int, new_rank: int) -> Symbol:
        """x (T, ...) with `new_rank` axes after the first, of which it has `rank`. The new ones follow the first, of size 1.

        Broadcasting aligns axes from the last one, and would otherwise align the first axis with another one.
        """
        if rank == new_rank:
            return x
        return emit(reshape, x, origin=x.origin, shape=(x.shape[0], *[1] * (new_rank - rank), *x.shape[1:]))

    def _matmul(self, s: Symbol, inputs: list[tuple[Symbol, bool]]) -> Symbol:
        (a, a_stacked), (b, b_stacked) = inputs
        if s.inputs[0].ndim == s.inputs[1].ndim == 2 and a_stacked and not b_stacked:
            t, m, k = a.shape  # one matmul for the rows of all steps
            a = emit(reshape, a, origin=s.origin, shape=(t * m, k))
            return emit(reshape, emit(matmul, a, b, origin=s.origin), origin=s.origin, shape=(t, *s.shape))
        if a_stacked:
            a = self._with_rank(a, s.inputs[0].ndim, s.ndim)
        if b_stacked:
            b = self._with_rank(b, s.inputs[1].ndim, s.ndim)
        return emit(matmul, a, b, origin=s.origin)

    # ---- sums over the steps ----

    def sum_over_steps(self, v: Symbol) -> Symbol:
        """The sum of `v` over all steps, outside of the scan. `_can_sum_outside(v)` must hold."""
        op, origin = v.op, v.origin
        if op is not None and _is_linear(v):
            return emit(op, *(self.sum_over_steps(x) for x in v.inputs), origin=origin, **v.attributes)
        if not any(self.hoisted(x)[1] for x in v.inputs):
            steps = constant(self.length, v.dtype, origin)  # `v` is the same at every step
            return emit(multiply, self.hoisted(v)[0], steps, origin=origin)
        if op is sum_:
            x = self.at_every_step(v.inputs[0])
            axes = (0, *(axis + 1 for axis in v.attributes["axes"]))
            total = emit(sum_, x, origin=origin, axes=axes, keepdims=False)
            return emit(reshape, total, origin=origin, shape=v.shape)
        # a_1 b_1 + a_2 b_2 + ... = [a_1 a_2 ...] [b_1; b_2; ...]
        a, b = v.inputs
        return emit(matmul, self._concatenated(a, 1), self._concatenated(b, 0), origin=origin)

    def _concatenated(self, x: Symbol, axis: int) -> Symbol:
        """The matrices of all steps, concatenated along `axis`."""
        if x.op is permute and x.attributes["axes"] == (1, 0):
            return emit(permute, self._concatenated(x.inputs[0], 1 - axis), origin=x.origin, axes=(1, 0))
        matrices, (m, n) = self.at_every_step(x), x.shape  # (T, m, n)
        if axis == 0:
            return emit(reshape, matrices, origin=x.origin, shape=(self.length * m, n))
        side_by_side = emit(permute, matrices, origin=x.origin, axes=(1, 0, 2))
        return emit(reshape, side_by_side, origin=x.origin, shape=(m, self.length * n))
