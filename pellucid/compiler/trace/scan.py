"""Recording a loop: its body runs once on Symbols, and the whole loop becomes one operation (floor 4).

Whatever the body reads from outside is the same at every position; a Tensor it writes, the counter of a random generator,
goes along in the carry. The gradient is recorded when it is asked for: the tape of the body is walked once, and becomes
the body of a second loop that runs the other way. What that one reads of the first is stacked by the first, unless it
costs little to compute again. A gradient that shall be differentiated again is taken through the unrolled loop instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core.op import Node, new_value
from ...core.origin import user_origin
from ...core.tape import backward_pass
from ...core.value import Symbol, grad_mode
from ...ops.elementwise import add, zeros_like
from ...ops.loop import Cotangents, loop, one_step, part, tree_leaves, tree_map, tree_spec, unrolled
from ...ops.movement import reshape
from ..ir.scan_body import extract_body, placeholder

# Elementwise operations that are computed again rather than stacked, where what they read is at hand.
CHEAP = {
    "add", "subtract", "multiply", "negative", "absolute", "sign", "maximum", "minimum", "relu", "where", "cast", "equal",
    "not_equal", "less", "less_equal", "greater", "greater_equal", "bitwise_and", "bitwise_or", "bitwise_not",
}  # fmt: skip


def value_of(symbol: Any) -> Any:
    """A value that stands for a Symbol."""
    return new_value(symbol)


def trace_scan(tracer: Any, body: Callable[..., Any], carry: Any, xs: Any, length: int, reverse: bool) -> Any:
    """What `scan` gives, with the loop as one operation of the recording."""
    needs = [x.requires_grad for x in tree_leaves(carry)]
    moved: list[Any] = []  # Tensors that the body gives other numbers
    while True:  # until it is known which carries need a gradient, once positions have passed, and what is written
        trace = ScanTracer(tracer, body, carry, xs, length, reverse, needs, moved)
        grown = [a or y.requires_grad for a, y in zip(needs, trace.carry_out, strict=False)]
        if grown == needs and len(trace.moved) == len(moved):
            return trace.finish()
        needs, moved = grown, trace.moved


@dataclass(eq=False)
class ScanTracer:
    """One run of a body on Symbols, and the operation it becomes.

    needs: for each carry, whether it needs a gradient. moved: Tensors that are carried because the body writes them.
    """

    tracer: Any
    body: Callable[..., Any]
    carry: Any
    xs: Any
    length: int
    reverse: bool
    needs: list[bool]
    moved: list[Any]
    symbols: list[Symbol] = field(default_factory=list)
    used: dict[int, Any] = field(default_factory=dict)  # values from outside that the body reads, by id

    def __post_init__(self) -> None:
        self.start = tree_leaves(self.carry)
        self.sequences = tree_leaves(self.xs)
        self.since = next(Node.counter)
        self.carry_in = [value_of(placeholder(x)) for x in [*self.start, *self.moved]]
        self.x = [value_of(Symbol(None, (), {}, x.shape[1:], x.dtype, user_origin())) for x in self.sequences]
        for value, need in zip(self.carry_in, self.needs, strict=False):
            value.requires_grad = need
        for value, sequence in zip(self.x, self.sequences, strict=True):
            value.requires_grad = sequence.requires_grad
        with self.traced(self.symbols), self.counters():
            self._run()

    # ---- running the body ----

    @contextmanager
    def traced(self, symbols: list[Symbol]) -> Iterator[None]:
        """Operations go to `symbols`; those of the body may be read, as nobody may from outside."""
        tracer = self.tracer
        outer, tracer.symbols = tracer.symbols, symbols
        own = [*self.symbols, *(v.array for v in (*self.carry_in, *self.x))]
        tracer.scan_symbols.difference_update(own)
        try:
            yield
        finally:
            tracer.symbols = outer
            tracer.scan_symbols.update(own, self.symbols, symbols)

    @contextmanager
    def counters(self) -> Iterator[None]:
        """The Tensors that the body writes hold their place in the carry; afterwards all hold what they held."""
        entries = self.tracer.inputs
        before = {key: (entry.owner, entry.owner.array, entry.owner.version) for key, entry in entries.items()}
        for owner, value in zip(self.moved, self.carry_in[len(self.start) :], strict=True):
            owner.array = value.array
            self.tracer.forget_views(owner)
        inside = {key: entry.owner.array for key, entry in entries.items()}
        try:
            yield
        finally:
            self.written = {}
            for key, entry in entries.items():
                owner, array, version = before.get(key) or (entry.owner, entry.symbol, entry.owner.version)
                if owner.array is not inside.get(key, entry.symbol):
                    self.written[key] = owner.array
                    self.moved = self.moved if any(owner is known for known in self.moved) else [*self.moved, owner]
                owner.array, owner.version = array, version
            for owner in self.moved:
                self.tracer.forget_views(owner)  # what the body has made of it is of the body

    def _run(self) -> None:
        inputs, xs = iter(self.carry_in), iter(self.x)
        carry, x = tree_map(lambda _: next(inputs), self.carry), tree_map(lambda _: next(xs), self.xs)
        t = self.length - 1 if self.reverse else 0
        self.tracer.scans.append(self)
        try:
            self.result, self.y = one_step(self.body, carry, x, tree_spec(self.carry), t)
        finally:
            self.tracer.scans.pop()
        own = {*self.symbols, *(v.array for v in (*self.carry_in, *self.x))}
        self.used = {key: v for key, v in self.used.items() if v.array not in own}
        self.carry_out = tree_leaves(self.result)
        self.stacked = tree_leaves(self.y)

    # ---- the loop as one operation ----

    def finish(self) -> Any:
        """The last carry and the stacked outputs, as values around parts of the new operation."""
        after = [
            self.written.get(id(owner), self.carry_in[i].array) for i, owner in enumerate(self.moved, len(self.start))
        ]
        self.roots = [*(v.array for v in self.carry_out), *after, *(v.array for v in self.stacked)]
        self.carries = len(self.start) + len(self.moved)
        read = self.tracer.read
        self.given = [read(v) for v in (*self.start, *self.moved, *self.sequences)]
        self.home = self.tracer.symbols
        self.symbol = self.tracer.append(loop, (), {"body": None}, (), np.dtype(object))
        self._refresh()
        plain = value_of(self.symbol)
        whole = value_of(self.symbol)
        if grad_mode.get() and any(v.requires_grad for v in (*self.carry_out, *self.stacked)):
            whole.node, whole.requires_grad = self._node(), True
        about = lambda v: whole if v.requires_grad else plain
        for position, owner in enumerate(self.moved, start=len(self.start)):
            owner.rebind(part(plain, what="last", index=position).array)
        last = iter([part(about(v), what="last", index=i) for i, v in enumerate(self.carry_out)])
        stacks = iter([self._stack(about(v), i, v.shape) for i, v in enumerate(self.stacked, start=self.carries)])
        return tree_map(lambda _: next(last), self.result), tree_map(lambda _: next(stacks), self.y)

    def _stack(self, whole: Any, index: int, shape: tuple[int, ...]) -> Any:
        return reshape(part(whole, what="stack", index=index), shape=(self.length, *shape))

    def _refresh(self) -> None:
        """Make the operation anew from `roots` and `symbols`, to which the gradient adds."""
        inputs = {v.array: v.array for v in (*self.carry_in, *self.x)}
        body, outside = extract_body(self.roots, self.symbols, inputs, self.carries, self.length, self.reverse)
        if self.symbol.attributes["body"] is None:
            self.symbol.attributes["body"] = body
        else:
            self.symbol.attributes["body"].__dict__.update(body.__dict__)  # copies of the operation share it
        self.symbol.inputs = (*self.given, *outside)

    def _node(self) -> Node:
        """The loop on the tape: above it stand the carry, the sequences, and what the body reads from outside."""
        node = Node(loop, [*self.start, *self.sequences], {"trace": self}, self.symbol)
        self.outer = self._outer_parents()
        node.parents = (*node.parents, *self.outer)
        node.inputs = (*node.inputs, *self.used.values())
        node.versions = tuple([v.version for v in node.inputs])
        return node

    def _outer_parents(self) -> list[Any]:
        found: dict[int, Any] = {}
        seen: set[int] = set()
        own = {id(v) for v in (*self.carry_in, *self.x)}
        waiting = [v.node or v for v in (*self.carry_out, *self.stacked) if v.requires_grad]
        while waiting:
            node = waiting.pop()
            if not isinstance(node, Node) or node.sequence < self.since:
                if id(node) not in own:
                    found[id(node)] = node
            elif node.sequence not in seen:
                seen.add(node.sequence)
                waiting.extend(parent for parent in node.parents if parent is not None)
        return list(found.values())

    # ---- the gradient ----

    def backward(self, g: Cotangents) -> list[Any]:
        """dL/d of the carry at the start, of each sequence, and of what the body reads from outside."""
        return self._through_unrolled(g) if grad_mode.get() else ScanTranspose(self, g).finish()

    def _through_unrolled(self, g: Cotangents) -> list[Any]:
        """By the Python loop, computed once more, whose own gradient can be recorded."""
        since = next(Node.counter)
        states = self.symbol.inputs[len(self.start) : self.carries]
        kept = [(owner, owner.array, owner.version) for owner in self.moved]
        for owner, state in zip(self.moved, states, strict=True):
            owner.array = state
        try:
            carry, ys = unrolled(self.body, self.carry, self.xs, self.length, self.reverse)
        finally:
            for owner, array, version in kept:
                owner.array, owner.version = array, version
        values = {("last", i): v for i, v in enumerate(tree_leaves(carry))}
        values |= {("stack", self.carries + i): v for i, v in enumerate(tree_leaves(ys))}
        outputs = [values[key] for key in g]
        grads = [reshape(known, shape=v.shape) for known, v in zip(g.values(), outputs, strict=True)]
        found = backward_pass(outputs, grads, keep=True, create_graph=True, since=since)
        parents = [v.node or v for v in (*self.start, *self.sequences)] + self.outer
        # One Tensor may be the carry, a sequence and read by the body as well: all that came to it is given once.
        return [found.pop(id(p))[1] if id(p) in found else None for p in parents]

    def saved(self, needed: set[Symbol]) -> list[Symbol]:
        """Which of the body's operations to stack, so that `needed` can be computed again from them."""
        inner = set(self.symbols)
        needed = needed & inner
        for s in reversed(self.symbols):  # a repetition or another order is never stacked
            if s in needed and s.op_name in ("expand", "permute", "reshape"):
                needed.remove(s)
                needed |= {s.inputs[0]} & inner
        own = {v.array for v in (*self.carry_in, *self.x)}
        whole: set[Symbol] = set()  # the same at every position
        free: set[Symbol] = set()
        for s in self.symbols:
            if not any(x in own or (x in inner and x not in whole) for x in s.inputs):
                whole.add(s)
            cheap = s.op.kind == "movement" or s.op_name in CHEAP  # type: ignore[union-attr]
            if s in whole or (cheap and all(x not in inner or x in free or x in needed for x in s.inputs)):
                free.add(s)
        return [s for s in self.symbols if s in needed and s not in free]

    def stacked_residual(self, symbol: Symbol) -> Symbol:
        """The outer Symbol of `symbol` at every position, (T, ...); the loop stacks it from now on if it did not yet."""
        if symbol not in self.roots[self.carries :]:
            self.roots.append(symbol)
            self._refresh()
        index = self.carries + self.roots[self.carries :].index(symbol)
        tracer = self.tracer
        here_, tracer.symbols = tracer.symbols, self.home
        try:
            return self._stack(value_of(self.symbol), index, symbol.shape).array
        finally:
            tracer.symbols = here_


class ScanTranspose:
    """The gradient of one loop, as another that runs the other way.

    Its carry is dL/d(carry) and the gradients, summed up so far, of what is the same at every position.
    """

    def __init__(self, trace: ScanTracer, g: Cotangents) -> None:
        self.trace, self.g, self.tracer = trace, g, trace.tracer
        n = trace.carries
        self.carried = [i for i, need in enumerate(trace.needs) if need and ("last", i) in g]
        self.stacks = [index for what, index in g if what == "stack"]
        self.d_y = [value_of(placeholder(trace.stacked[index - n])) for index in self.stacks]
        while True:  # until it is known which carries a gradient reaches, once positions have passed
            self.d_carry = [value_of(placeholder(trace.carry_in[i])) for i in self.carried]
            self.symbols: list[Symbol] = []
            with trace.traced(self.symbols):
                reached = self._walk()
            if reached <= set(self.carried):
                break
            self.carried = sorted(reached | set(self.carried))

    def _walk(self) -> set[int]:
        """Walk the tape of the body; give the carries that a gradient has reached."""
        trace = self.trace
        pairs = [(trace.carry_out[i], g) for i, g in zip(self.carried, self.d_carry, strict=True)]
        pairs += [(trace.stacked[i - trace.carries], g) for i, g in zip(self.stacks, self.d_y, strict=True)]
        pairs = [pair for pair in pairs if pair[0].requires_grad]
        found = backward_pass([v for v, _ in pairs], [g for _, g in pairs], keep=True, since=trace.since)
        arrived = lambda value: found[id(value)][1] if id(value) in found else None
        self.reached = {i for i, need in enumerate(trace.needs) if need and arrived(trace.carry_in[i]) is not None}
        self.d_carry_out = [arrived(trace.carry_in[i]) for i in self.carried]
        self.d_carry_out = [
            zeros_like(before) if g is None else g for g, before in zip(self.d_carry_out, self.d_carry, strict=True)
        ]
        self.d_x = [arrived(value) for value in trace.x]
        self.d_outer = [arrived(parent) for parent in trace.outer]
        found_outer = [g for g in self.d_outer if g is not None]
        self.sums = [value_of(placeholder(g)) for g in found_outer]
        self.sums_out = [add(total, g) for total, g in zip(self.sums, found_outer, strict=True)]
        return self.reached

    def finish(self) -> list[Any]:
        """dL/d of every parent of the loop on the tape, None where nothing arrives."""
        trace = self.trace
        carries = [*self.d_carry, *self.sums]
        roots = [v.array for v in (*self.d_carry_out, *self.sums_out, *(g for g in self.d_x if g is not None))]
        inputs = {v.array: v.array for v in carries}
        given = [self._start(i, v) for i, v in zip(self.carried, self.d_carry, strict=True)]
        given += [zeros_like(v).array for v in self.sums]
        for index, v in zip(self.stacks, self.d_y, strict=True):
            inputs[v.array] = v.array
            given.append(reshape(self.g["stack", index], shape=(trace.length, *v.shape)).array)
        inputs, given = self._read(roots, inputs, given)
        symbols = [*trace.symbols, *self.symbols]
        body, outside = extract_body(roots, symbols, inputs, len(carries), trace.length, not trace.reverse)
        symbol = self.tracer.append(loop, (), {"body": body}, (), np.dtype(object))
        symbol.inputs = (*given, *outside)
        return self._results(value_of(symbol))

    def _start(self, index: int, like: Any) -> Symbol:
        g = self.g.get(("last", index))
        return (zeros_like(like) if g is None else g).array

    def _read(
        self, roots: list[Symbol], inputs: dict[Symbol, Symbol], given: list[Symbol]
    ) -> tuple[dict[Symbol, Symbol], list[Symbol]]:
        """What the gradient reads of the loop: its sequences, its carry and what it stacks for this."""
        trace = self.trace
        needed = set(roots)
        for s in reversed(self.symbols):
            if s in needed:
                needed.update(s.inputs)
        saved = trace.saved(needed)
        held = set(saved)
        for s in reversed(trace.symbols):
            if s in needed and s not in held:
                needed.update(s.inputs)
        inputs = dict(inputs)
        sequences = trace.given[trace.carries :]
        for value, sequence in zip(trace.x, sequences, strict=True):
            if value.array in needed:
                inputs[value.array], given = value.array, [*given, sequence]
        for s in [v.array for v in trace.carry_in if v.array in needed] + saved:
            inputs[s], given = placeholder(s), [*given, trace.stacked_residual(s)]
        return inputs, given

    def _results(self, whole: Any) -> list[Any]:
        trace, at = self.trace, len(self.carried) + len(self.sums)
        results: list[Any] = [None] * len(trace.start)
        for position, i in enumerate(self.carried):
            if i in self.reached and trace.start[i].requires_grad:
                results[i] = part(whole, what="last", index=position)
        for value, g in zip(trace.x, self.d_x, strict=True):
            if g is None:
                results.append(None)
            else:
                stacked = part(whole, what="stack", index=at)
                results.append(reshape(stacked, shape=(trace.length, *value.shape)))
                at += 1
        position = len(self.carried)
        for g in self.d_outer:
            results.append(None if g is None else part(whole, what="last", index=position))
            position += g is not None
        return results
