"""Scan hoisting: compute outside of a scan what the loop does not need from one step to the next (floor 4).

A scan is a loop: each step reads the carry (the values passed from step to step) and one element of every input sequence.
Three kinds of work leave the loop. T is the number of steps.

    before the scan     a matmul of a sequence element with a weight: T matmuls become one
    after the scan      an output that the next carry does not depend on: it is computed for all steps at once
    after the scan      a carry that only adds up a value, such as the gradient of a weight: T matmuls that are added
                        become one matmul of the concatenated matrices

Results are equal to those of the loop, except for rounding: such a sum is added up in another order.

Four phases: `live_scan` reads the scan and leaves out what nobody reads, `split_work` decides what stays in the loop,
`HoistedValues` builds the rest outside and finds what it reads of the loop, `remaining_body` makes the loop that gives it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.value import Symbol
from ...ops.contraction import matmul
from ...ops.elementwise import add, multiply
from ...ops.index import check_index
from ...ops.loop import loop, part
from ...ops.movement import permute, reshape, slice_
from ...ops.reduce import sum_
from ..ir.graph import Graph, ancestors, descendants, topological_order
from ..ir.rewrite import Pass, constant, emit, is_zeros, rewrite
from ..ir.scan_body import ScanBody, body_of, extract_body, output_of, part_symbol, placeholder, update_scan
from .step_axis import AtSteps, at_all_steps, is_hoistable, repeated


def hoist(graph: Graph, scan: Symbol, passes: Pass, passes_after: Pass, enabled: bool) -> tuple[Graph, ScanBody]:
    """The graph with one of its scans rewritten, and the body of the new scan.

    passes, passes_after: for the old body before it is looked at, and for the new body. enabled: whether to hoist; otherwise
    the scan only loses what nobody reads.
    """
    live = live_scan(graph, scan, passes)
    split = split_work(live, enabled)
    remaining = RemainingLoop(live, [i for i in live.carry if i not in split.sums])
    values = HoistedValues(live, split.stacked, remaining)
    before = {s: values.at_steps(s).symbol for s in split.precomputed}
    results = outer_results(live, split, values)
    body, inputs = remaining_body(live, split, remaining, before)
    body.graph = passes_after(body.graph)
    update_scan(remaining.symbol, body, inputs)
    replacements = {s: results[output_of(s)] for s in live.parts}
    return rewrite(graph, lambda s, _: replacements.get(s)), body


# ---- 1. what the graph reads of the scan ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LiveScan:
    """A scan without the outputs that nobody reads. Carries and stacked outputs keep their index in the old body.

    parts: the operations that take one output of the scan: the "last" value of a carry, or an output at every step, "stack".
    body: its operations, after the passes. slices: the Symbols that stand for one element of each sequence.
    carry, next: by index of a carry, the Symbol that a step reads, and the one that it passes to the next step.
    stacked: by index of an output, its Symbol. outer: for each input of the body, the Symbol in the surrounding graph.
    """

    symbol: Symbol
    parts: list[Symbol]
    body: list[Symbol]
    slices: list[Symbol]
    carry: dict[int, Symbol]
    next: dict[int, Symbol]
    stacked: dict[int, Symbol]
    outer: dict[Symbol, Symbol]
    length: int
    reverse: bool


def live_scan(graph: Graph, symbol: Symbol, passes: Pass) -> LiveScan:
    """What the graph reads of a scan, with its body after `passes`."""
    body: ScanBody = body_of(symbol)
    parts = [s for s in graph.symbols if s.op is part and s.inputs[0] is symbol]
    used = {output_of(s) for s in parts}
    stacked = sorted(index for what, index in used if what == "stack")
    carries = _live_carries(body, {index for what, index in used if what == "last"}, stacked)
    results = [body.graph.outputs[i] for i in (*carries, *stacked)]  # an output that nothing reads is dropped
    after = passes(Graph(body.graph.inputs, body.graph.symbols, results))
    inputs = [entry.symbol for entry in body.graph.inputs]
    return LiveScan(
        symbol,
        parts,
        after.symbols,
        slices=inputs[body.carries : body.carries + body.slices],
        carry={i: inputs[i] for i in carries},
        next=dict(zip(carries, after.outputs[: len(carries)], strict=True)),
        stacked=dict(zip(stacked, after.outputs[len(carries) :], strict=True)),
        outer=dict(zip(inputs, symbol.inputs, strict=True)),
        length=body.length,
        reverse=body.reverse,
    )


def _live_carries(body: ScanBody, last: set[int], stacked: list[int]) -> list[int]:
    """The carries that an output depends on. last, stacked: the outputs that are read."""
    live = set(last)
    while True:
        needed = ancestors(body.graph.outputs[i] for i in (*live, *stacked))
        read = {i for i in range(body.carries) if body.graph.inputs[i].symbol in needed}
        if read <= live:
            return sorted(live)
        live |= read


# ---- 2. what stays in the loop -------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Split:
    """How the work of a scan is divided.

    stacked: the Symbols of the loop that cannot be computed outside: what reads them outside reads an output of the loop.
    sums: by index, the carries that are replaced by a sum outside, with the value v that each step adds.
    precomputed: matmuls that are computed before the scan, with the placeholder that the body reads in place of each.
    """

    stacked: set[Symbol]
    sums: dict[int, Symbol]
    precomputed: dict[Symbol, Symbol]


def split_work(scan: LiveScan, enabled: bool) -> Split:
    """Take out of the loop what can be computed outside, and pays; if not enabled, nothing."""
    summable = _summable(scan) if enabled else set()
    sums = {i: v for i in scan.carry if (v := _summand(scan, i)) is not None and v in summable}
    # An index that is out of range has to be found in the step that reads it.
    checks = [s for s in scan.body if s.op is check_index]
    inside = ancestors([*(s for i, s in scan.next.items() if i not in sums), *checks])
    for y in scan.stacked.values():
        if not (enabled and _is_worth_hoisting(scan, y, inside)):
            inside |= ancestors([y])
    for v in sums.values():
        inside |= _unhoistable(v, inside)
    varying = descendants(scan.body, scan.carry.values())
    bound = descendants(scan.body, [s for s in scan.body if not is_hoistable(s)])
    stacked = inside & (varying | bound)
    of_sequence = descendants(scan.body, scan.slices) & (inside - stacked) if enabled else ()
    return Split(stacked, sums, {s: placeholder(s) for s in scan.body if s.op is matmul and s in of_sequence})


def _summand(scan: LiveScan, index: int) -> Symbol | None:
    """The value v, if the only use of a carry is carry + v, the next carry; else None."""
    before, after = scan.carry[index], scan.next[index]
    others = [*(s for i, s in scan.next.items() if i != index), *scan.stacked.values()]
    if after.op is not add or after.dtype.kind != "f" or before not in after.inputs:
        return None
    if before in others or after in ancestors(others):
        return None
    if sum(s.inputs.count(before) for s in scan.body) != 1:
        return None
    v = after.inputs[1] if after.inputs[0] is before else after.inputs[0]
    return v if v.shape == before.shape else None


def _is_term(s: Symbol) -> bool:
    """Whether the operation of `s` may not be applied to the sums over all steps of its inputs, in place of the sum after it."""
    elementwise = s.op is not None and s.op.kind == "elementwise"
    return s.op is None or not s.op.linear or (elementwise and any(x.shape != s.shape for x in s.inputs))


def _summable(scan: LiveScan) -> set[Symbol]:
    """The values whose sum over all steps can be computed outside of the scan; see `HoistedValues.sum_over_steps`."""
    summable: set[Symbol] = set()
    for s in scan.body:
        if _is_term(s):
            fits = s.op is sum_ or (s.op is matmul and s.inputs[0].ndim == s.inputs[1].ndim == 2)
        else:
            fits = all(x in summable for x in s.inputs)
        if fits:
            summable.add(s)
    return summable


def _unhoistable(v: Symbol, inside: set[Symbol]) -> set[Symbol]:
    """What the products and sums that `v` is made of read and that cannot be hoisted, with all that it depends on."""
    terms = filter(_is_term, topological_order([v], _is_term))
    needed = topological_order([x for s in terms for x in s.inputs], inside.__contains__)
    return ancestors(s for s in needed if s not in inside and not is_hoistable(s))


def _is_worth_hoisting(scan: LiveScan, y: Symbol, inside: set[Symbol]) -> bool:
    """Whether to compute an output after the scan.

    It must be possible. It pays if a matmul leaves the loop, or if the values that have to be stacked for it are not
    larger than the output itself.
    """
    if y.op is None or y in inside:
        return False
    reached = topological_order([y], inside.__contains__)
    needed = {s for s in reached if s in inside}  # Symbols of the loop that the computation after it reads
    leaving = [s for s in reached if s not in inside]
    if not all(map(is_hoistable, leaving)):
        return False
    stacked_anyway = {*scan.next.values(), *(x for x in scan.stacked.values() if x in inside)}
    return any(s.op is matmul for s in leaving) or sum(s.size for s in needed - stacked_anyway) <= y.size


# ---- 3. the values outside -----------------------------------------------------------------------------------------------


class RemainingLoop:
    """The new scan, as the graph outside reads it.

    carries: the indices of its carries in the old scan. outputs: the Symbols of the body that it has to stack. histories: the
    carries that are needed at every step, not only after the last one.
    """

    def __init__(self, scan: LiveScan, carries: list[int]) -> None:
        self.scan, self.carries = scan, carries
        self.symbol = Symbol(loop, (), {}, (), scan.symbol.dtype, scan.symbol.origin)
        self.outputs: list[Symbol] = []
        self.histories: dict[int, Symbol] = {}

    def _part(self, what: str, index: int, size: int, dtype: np.dtype) -> Symbol:
        """One output of the scan, flattened to (size,)."""
        return part_symbol(self.symbol, what, index, size, dtype)

    def history(self, index: int, written: bool) -> Symbol:
        """A carry at every step (T, ...). written: the value that the step writes; else the one that it reads."""
        x, length = self.scan.carry[index], self.scan.length
        if index not in self.histories:
            self.histories[index] = self._part("states", self.carries.index(index), (length + 1) * x.size, x.dtype)
        # Of the T + 1 states, step t reads state t and writes state t + 1; in a reversed scan the other way round.
        start = x.size if written != self.scan.reverse else 0
        return _range(self.histories[index], start, (length, *x.shape))

    def last(self, index: int) -> Symbol:
        """A carry after the last step."""
        x, end = self.scan.carry[index], 0 if self.scan.reverse else self.scan.length
        states = self.histories.get(index)
        if states is None:
            states = self._part("states", self.carries.index(index), 2 * x.size, x.dtype)
            end %= 2  # state t is stored at t % 2
        return _range(states, end * x.size, x.shape)

    def stack(self, s: Symbol) -> Symbol:
        """`s`, which stays in the loop, at every step (T, ...). It becomes an output of the scan, unless it is a carry."""
        for index in self.carries:
            if s is self.scan.next[index]:
                return self.history(index, True)
        if s not in self.outputs:
            self.outputs.append(s)
        position, length = len(self.carries) + self.outputs.index(s), self.scan.length
        flat = self._part("stack", position, length * s.size, s.dtype)
        return emit(reshape, flat, origin=s.origin, shape=(length, *s.shape))


def _range(flat: Symbol, start: int, shape: tuple[int, ...]) -> Symbol:
    """The elements of `flat` from `start` on, as an array of `shape`."""
    count = int(np.prod(shape))
    elements = emit(slice_, flat, origin=flat.origin, slices=((start, count, 1),))
    return emit(reshape, elements, origin=flat.origin, shape=shape)


class HoistedValues:
    """Values of the body in the surrounding graph, at all steps at once."""

    def __init__(self, scan: LiveScan, stacked: set[Symbol], remaining: RemainingLoop) -> None:
        self.scan, self.stacked, self.remaining = scan, stacked, remaining
        self.known: dict[Symbol, AtSteps] = {}

    def at_steps(self, s: Symbol) -> AtSteps:
        """`s` at all steps: an output of the loop where it has to be one, else computed outside."""
        if s.op is None:
            return self._input(s)
        if s not in self.known:
            for x in topological_order([s], lambda x: x in self.known or x in self.stacked):
                if x in self.stacked:
                    self.known[x] = AtSteps(self.remaining.stack(x), True)
                elif x not in self.known:
                    self.known[x] = at_all_steps(x, [self.at_steps(y) for y in x.inputs], self.scan.length)
        return self.known[s]

    def _input(self, s: Symbol) -> AtSteps:
        """A constant, or an input of the body."""
        if s.constant is not None:
            return AtSteps(s, False)
        for index in self.remaining.carries:
            if s is self.scan.carry[index]:
                return AtSteps(self.remaining.history(index, False), True)
        return AtSteps(self.scan.outer[s], s in self.scan.slices)

    def at_every_step(self, s: Symbol) -> Symbol:
        """`s` at every step, (T, ...)."""
        x = self.at_steps(s)
        return repeated(x, self.scan.length, x.symbol.origin)

    def sum_over_steps(self, v: Symbol) -> Symbol:
        """The sum of `v`, which is summable, over all steps: a linear function of sums is that of its terms."""
        sums: dict[Symbol, Symbol] = {}
        for s in topological_order([v], _is_term):
            if s.op is None or _is_term(s):
                sums[s] = self._sum_of_term(s)
            else:
                sums[s] = emit(s.op, *(sums[x] for x in s.inputs), origin=s.origin, **s.attributes)
        return sums[v]

    def _sum_of_term(self, v: Symbol) -> Symbol:
        """The sum of a product or of a sum over all steps."""
        origin = v.origin
        if not any(self.at_steps(x).stacked for x in v.inputs):
            steps = constant(self.scan.length, v.dtype, origin)  # `v` is the same at every step
            return emit(multiply, self.at_steps(v).symbol, steps, origin=origin)
        if v.op is sum_:
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
        matrices, (m, n), length = self.at_every_step(x), x.shape, self.scan.length  # (T, m, n)
        if axis == 0:
            return emit(reshape, matrices, origin=x.origin, shape=(length * m, n))
        side_by_side = emit(permute, matrices, origin=x.origin, axes=(1, 0, 2))
        return emit(reshape, side_by_side, origin=x.origin, shape=(m, length * n))


def outer_results(scan: LiveScan, split: Split, values: HoistedValues) -> dict[tuple[str, int], Symbol]:
    """For each output of the old scan that the graph reads, (what, index), the value outside that replaces it."""
    results: dict[tuple[str, int], Symbol] = {}
    for index, y in scan.stacked.items():
        every = values.at_every_step(y)
        results["stack", index] = emit(reshape, every, origin=every.origin, shape=(every.size,))
    for index, v in split.sums.items():
        start, total = scan.outer[scan.carry[index]], values.sum_over_steps(v)
        results["last", index] = total if is_zeros(start) else emit(add, start, total, origin=v.origin)
    for index in values.remaining.carries:
        results["last", index] = values.remaining.last(index)
    return results


# ---- 4. the loop that remains --------------------------------------------------------------------------------------------


def remaining_body(
    scan: LiveScan, split: Split, remaining: RemainingLoop, before: dict[Symbol, Symbol]
) -> tuple[ScanBody, list[Symbol]]:
    """The body of the new scan and its inputs, now that it is known which outputs the graph reads.

    before: the values of `split.precomputed`, as sequences outside.
    """
    given = {scan.carry[i]: scan.carry[i] for i in remaining.carries}
    sources = [scan.outer[x] for x in given]
    roots = [*(scan.next[i] for i in remaining.carries), *remaining.outputs]
    needed = ancestors(roots, split.precomputed)
    for x in scan.slices:
        if x in needed:
            given[x] = x
            sources.append(scan.outer[x])
    for s, stand_in in split.precomputed.items():
        if s in needed:
            given[s] = stand_in
            sources.append(before[s])
    body, outside = extract_body(roots, scan.body, given, len(remaining.carries), scan.length, scan.reverse)
    # A carry has a state before each step and one after the last. Two are enough if only the last one is read.
    body.state_counts = [scan.length + 1 if i in remaining.histories else 2 for i in remaining.carries]
    return body, [*sources, *(scan.outer[x] for x in outside)]
