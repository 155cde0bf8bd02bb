"""Scan: trace the body of a loop once, as one operation, and its gradient as the transposed scan (floor 4).

What the body reads from outside is the same at every step. A Tensor that it writes, such as the counter of a random
generator, becomes part of the carry. The gradient is traced when it is asked for: the tape of the body is walked once and
becomes the body of a second scan in the other direction. The first scan stacks the values that the second reads, unless
they are cheap to recompute. A gradient that is to be differentiated again is taken through the unrolled loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.op import Node
from ...core.origin import user_origin
from ...core.tape import backward_pass
from ...core.value import Symbol, Value, grad_mode
from ...ops.elementwise import (
    add,
    zeros_like,
)
from ...ops.loop import Cotangents, loop, one_step, part, tree_leaves, tree_map, tree_spec, unrolled
from ...ops.movement import permute, reshape
from ...ops.reduce import expand
from ...tensor import Tensor
from ..ir.scan_body import extract_body, placeholder
from .traced_step import Function

if TYPE_CHECKING:
    from .tracer import Tracer


def value_of(symbol: Symbol) -> Tensor:
    """A value that holds a Symbol."""
    return Tensor(symbol)


def trace_scan(tracer: Tracer, body: Function, carry: object, xs: object, length: int, reverse: bool) -> Any:
    """The result of `scan`, traced as one operation."""
    needs_grad = [x.requires_grad for x in tree_leaves(carry)]
    carried_state: list[Tensor] = []  # Tensors that the body writes
    while True:  # until the carries that need a gradient, and the Tensors that are written, stay the same
        trace = ScanTracer(tracer, body, carry, xs, length, reverse, needs_grad, carried_state)
        needs_after = [a or y.requires_grad for a, y in zip(needs_grad, trace.carry_out, strict=False)]
        if needs_after == needs_grad and len(trace.carried_state) == len(carried_state):
            return trace.finish()
        needs_grad, carried_state = needs_after, trace.carried_state


@dataclass(eq=False)
class ScanTracer:
    """One run of a body on Symbols, and the operation it becomes.

    carry_needs_grad: for each carry. carried_state: Tensors that are carried because the body writes them.
    """

    tracer: Tracer
    body: Function
    carry: Any
    xs: Any
    length: int
    reverse: bool
    carry_needs_grad: list[bool]
    carried_state: list[Tensor]
    symbols: list[Symbol] = field(default_factory=list)
    outer_values: dict[int, Value] = field(default_factory=dict)  # values from outside that the body reads, by id

    def __post_init__(self) -> None:
        self.carry_leaves = tree_leaves(self.carry)
        self.sequences = tree_leaves(self.xs)
        self.since = next(Node.counter)
        self.carry_in = [value_of(placeholder(x)) for x in [*self.carry_leaves, *self.carried_state]]
        self.x = [value_of(Symbol(None, (), {}, x.shape[1:], x.dtype, user_origin())) for x in self.sequences]
        for value, need in zip(self.carry_in, self.carry_needs_grad, strict=False):
            value.requires_grad = need
        for value, sequence in zip(self.x, self.sequences, strict=True):
            value.requires_grad = sequence.requires_grad
        with self.tracing_into(self.symbols), self.carrying_state():
            self._run()

    # ---- running the body ----

    @contextmanager
    def tracing_into(self, symbols: list[Symbol]) -> Iterator[None]:
        """While active, new operations are appended to `symbols`, and reading the symbols of the body is allowed."""
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
    def carrying_state(self) -> Iterator[None]:
        """Let the Tensors that the body writes hold their carry. Restore all Tensors afterwards."""
        entries = self.tracer.inputs
        before = {key: (entry.owner, entry.owner.array, entry.owner.version) for key, entry in entries.items()}
        for owner, value in zip(self.carried_state, self.carry_in[len(self.carry_leaves) :], strict=True):
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
                    self.carried_state = (
                        self.carried_state
                        if any(owner is other for other in self.carried_state)
                        else [*self.carried_state, owner]
                    )
                owner.array, owner.version = array, version
            for owner in self.carried_state:
                self.tracer.forget_views(owner)  # a view that the body has made belongs to the body

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
        self.outer_values = {key: v for key, v in self.outer_values.items() if v.array not in own}
        self.carry_out = tree_leaves(self.result)
        self.stacked = tree_leaves(self.y)

    # ---- the loop as one operation ----

    def finish(self) -> Any:
        """Append the scan as an operation. Returns the last carry and the stacked outputs, which are parts of it."""
        after = [
            self.written.get(id(owner), self.carry_in[i].array)
            for i, owner in enumerate(self.carried_state, len(self.carry_leaves))
        ]
        self.roots = [*(v.array for v in self.carry_out), *after, *(v.array for v in self.stacked)]
        self.carries = len(self.carry_leaves) + len(self.carried_state)
        read = self.tracer.read
        self.operands = [read(v) for v in (*self.carry_leaves, *self.carried_state, *self.sequences)]
        self.outer_symbols = self.tracer.symbols
        self.symbol = self.tracer.append(loop, (), {"body": None}, (), np.dtype(object))
        self._refresh()
        plain = value_of(self.symbol)
        whole = value_of(self.symbol)
        if grad_mode.get() and any(v.requires_grad for v in (*self.carry_out, *self.stacked)):
            whole.node, whole.requires_grad = self._node(), True
        about = lambda v: whole if v.requires_grad else plain
        for position, owner in enumerate(self.carried_state, start=len(self.carry_leaves)):
            owner.rebind(part(plain, what="last", index=position).array)
        last = iter([part(about(v), what="last", index=i) for i, v in enumerate(self.carry_out)])
        stacks = iter([self._stack(about(v), i, v.shape) for i, v in enumerate(self.stacked, start=self.carries)])
        return tree_map(lambda _: next(last), self.result), tree_map(lambda _: next(stacks), self.y)

    def _stack(self, whole: Tensor, index: int, shape: tuple[int, ...]) -> Tensor:
        return reshape(part(whole, what="stack", index=index), shape=(self.length, *shape))

    def _refresh(self) -> None:
        """Rebuild the body from `roots` and `symbols`, to which the gradient appends."""
        inputs = {v.array: v.array for v in (*self.carry_in, *self.x)}
        body, outside = extract_body(self.roots, self.symbols, inputs, self.carries, self.length, self.reverse)
        if self.symbol.attributes["body"] is None:
            self.symbol.attributes["body"] = body
        else:
            self.symbol.attributes["body"].__dict__.update(body.__dict__)  # copies of the operation share the body
        self.symbol.inputs = (*self.operands, *outside)

    def _node(self) -> Node:
        """The Node of the scan. Its parents are the carry, the sequences, and what the body reads from outside."""
        node = Node(loop, [*self.carry_leaves, *self.sequences], {"trace": self}, self.symbol)  # type: ignore[arg-type]  # it has a shape and a dtype
        self.outer_parents = self._outer_parents()
        node.parents = (*node.parents, *self.outer_parents)
        node.inputs = (*node.inputs, *self.outer_values.values())
        node.versions = tuple([v.version for v in node.inputs])
        return node

    def _outer_parents(self) -> list[Node | Value]:
        parents: dict[int, Node | Value] = {}
        visited: set[int] = set()
        own = {id(v) for v in (*self.carry_in, *self.x)}
        waiting = [v.node or v for v in (*self.carry_out, *self.stacked) if v.requires_grad]
        while waiting:
            node = waiting.pop()
            if not isinstance(node, Node) or node.sequence < self.since:
                if id(node) not in own:
                    parents[id(node)] = node
            elif node.sequence not in visited:
                visited.add(node.sequence)
                waiting.extend(parent for parent in node.parents if parent is not None)
        return list(parents.values())

    # ---- the gradient ----

    def backward(self, g: Cotangents) -> Sequence[Value | None]:
        """dL/d of the first carry, of each sequence, and of what the body reads from outside."""
        return self._through_unrolled(g) if grad_mode.get() else ScanTranspose(self, g).finish()

    def _through_unrolled(self, g: Cotangents) -> list[Value | None]:
        """The gradient through the unrolled loop, which can itself be differentiated."""
        since = next(Node.counter)
        states = self.symbol.inputs[len(self.carry_leaves) : self.carries]
        before = [(owner, owner.array, owner.version) for owner in self.carried_state]
        for owner, state in zip(self.carried_state, states, strict=True):
            owner.array = state
        try:
            carry, ys = unrolled(self.body, self.carry, self.xs, self.length, self.reverse)
        finally:
            for owner, array, version in before:
                owner.array, owner.version = array, version
        values = {("last", i): v for i, v in enumerate(tree_leaves(carry))}
        values |= {("stack", self.carries + i): v for i, v in enumerate(tree_leaves(ys))}
        outputs = [values[key] for key in g]
        grads = [reshape(cotangent, shape=v.shape) for cotangent, v in zip(g.values(), outputs, strict=True)]
        gradients = backward_pass(outputs, grads, keep=True, create_graph=True, since=since)
        parents = [v.node or v for v in (*self.carry_leaves, *self.sequences)] + self.outer_parents
        # A Tensor may be the carry, a sequence and an outer value at once: its whole gradient is given once.
        return [gradients.pop(id(p))[1] if id(p) in gradients else None for p in parents]

    def saved(self, needed: set[Symbol]) -> list[Symbol]:
        """The operations of the body to stack, so that `needed` can be recomputed from them."""
        inner = set(self.symbols)
        needed = needed & inner
        for s in reversed(self.symbols):  # stack what a repetition or a permutation reads, not its result
            if s in needed and s.op in (expand, permute, reshape):
                needed.remove(s)
                needed |= {s.inputs[0]} & inner
        own = {v.array for v in (*self.carry_in, *self.x)}
        whole: set[Symbol] = set()  # the same at every step
        free: set[Symbol] = set()
        for s in self.symbols:
            if not any(x in own or (x in inner and x not in whole) for x in s.inputs):
                whole.add(s)
            cheap = s.op is not None and s.op.cheap
            if s in whole or (cheap and all(x not in inner or x in free or x in needed for x in s.inputs)):
                free.add(s)
        return [s for s in self.symbols if s in needed and s not in free]

    def stacked_residual(self, symbol: Symbol) -> Symbol:
        """`symbol` at every step, (T, ...), outside of the scan. The scan stacks it from now on."""
        if symbol not in self.roots[self.carries :]:
            self.roots.append(symbol)
            self._refresh()
        index = self.carries + self.roots[self.carries :].index(symbol)
        tracer = self.tracer
        current, tracer.symbols = tracer.symbols, self.outer_symbols
        try:
            return self._stack(value_of(self.symbol), index, symbol.shape).array
        finally:
            tracer.symbols = current


class ScanTranspose:
    """The gradient of a scan, as a scan in the other direction.

    Its carry is dL/d(carry), and the gradients of outer values summed over the steps so far.
    """

    def __init__(self, trace: ScanTracer, g: Cotangents) -> None:
        self.trace, self.g, self.tracer = trace, g, trace.tracer
        n = trace.carries
        self.carried = [i for i, need in enumerate(trace.carry_needs_grad) if need and ("last", i) in g]
        self.stacks = [index for what, index in g if what == "stack"]
        self.d_y = [value_of(placeholder(trace.stacked[index - n])) for index in self.stacks]
        while True:  # until the set of carries that a gradient reaches stays the same
            self.d_carry = [value_of(placeholder(trace.carry_in[i])) for i in self.carried]
            self.symbols: list[Symbol] = []
            with trace.tracing_into(self.symbols):
                reached = self._walk()
            if reached <= set(self.carried):
                break
            self.carried = sorted(reached | set(self.carried))

    def _walk(self) -> set[int]:
        """Walk the tape of the body. Returns the carries that a gradient has reached."""
        trace = self.trace
        pairs = [(trace.carry_out[i], g) for i, g in zip(self.carried, self.d_carry, strict=True)]
        pairs += [(trace.stacked[i - trace.carries], g) for i, g in zip(self.stacks, self.d_y, strict=True)]
        pairs = [pair for pair in pairs if pair[0].requires_grad]
        gradients = backward_pass([v for v, _ in pairs], [g for _, g in pairs], keep=True, since=trace.since)
        arrived = lambda value: gradients[id(value)][1] if id(value) in gradients else None
        self.reached = {
            i for i, need in enumerate(trace.carry_needs_grad) if need and arrived(trace.carry_in[i]) is not None
        }
        self.d_carry_out = [arrived(trace.carry_in[i]) for i in self.carried]
        self.d_carry_out = [
            zeros_like(before) if g is None else g for g, before in zip(self.d_carry_out, self.d_carry, strict=True)
        ]
        self.d_x = [arrived(value) for value in trace.x]
        self.d_outer = [arrived(parent) for parent in trace.outer_parents]
        found_outer = [g for g in self.d_outer if g is not None]
        self.sums = [value_of(placeholder(g)) for g in found_outer]
        self.sums_out = [add(total, g) for total, g in zip(self.sums, found_outer, strict=True)]
        return self.reached

    def finish(self) -> list[Tensor | None]:
        """dL/d of every parent of the scan on the tape, None where no gradient arrives."""
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

    def _start(self, index: int, like: Value) -> Symbol:
        g = self.g.get(("last", index))
        return (zeros_like(like) if g is None else g).array

    def _read(
        self, roots: list[Symbol], inputs: dict[Symbol, Symbol], given: list[Symbol]
    ) -> tuple[dict[Symbol, Symbol], list[Symbol]]:
        """The inputs that the transposed body reads of the scan: sequences, carries and stacked values."""
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
        sequences = trace.operands[trace.carries :]
        for value, sequence in zip(trace.x, sequences, strict=True):
            if value.array in needed:
                inputs[value.array], given = value.array, [*given, sequence]
        for s in [v.array for v in trace.carry_in if v.array in needed] + saved:
            inputs[s], given = placeholder(s), [*given, trace.stacked_residual(s)]
        return inputs, given

    def _results(self, whole: Tensor) -> list[Tensor | None]:
        trace, at = self.trace, len(self.carried) + len(self.sums)
        results: list[Tensor | None] = [None] * len(trace.carry_leaves)
        for position, i in enumerate(self.carried):
            if i in self.reached and trace.carry_leaves[i].requires_grad:
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
