"""Scan: trace the body of a loop once, as one operation (floor 4).

What the body reads from outside is the same at every step. A Tensor that it writes, such as the counter of a random
generator, becomes part of the carry. The gradient is traced when it is asked for, see `scan_transpose.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ...core.op import Node
from ...core.value import Spec, Symbol, grad_mode, traced_or_array
from ...ops.loop import Nest, loop, one_step, part, tree_map, tree_spec
from ...tensor import Tensor
from ..ir.scan_body import placeholder, scan_symbol
from .outer_tensors import OuterTensors
from .recording import Recording, current_origin
from .scan_transpose import scan_gradient
from .traced_scan import BodyRun, ScanCall, TracedScan, body_graph, stack


def trace_scan(call: ScanCall, recording: Recording, tensors: OuterTensors) -> tuple[Nest, Nest]:
    """The result of `scan`, traced as one operation."""
    needs_grad = [x.requires_grad for x in call.carry_leaves]
    state: list[Tensor] = []  # Tensors that the body writes
    while True:  # until the carries that need a gradient, and the Tensors that are written, stay the same
        run, written = _run_body(call, needs_grad, state, recording, tensors)
        needs_after = [a or y.requires_grad for a, y in zip(needs_grad, run.carry_out, strict=False)]
        if needs_after == needs_grad and len(written) == len(state):
            return _results(_append(call, run, recording), recording)
        needs_grad, state = needs_after, written


# ---- running the body ----


def _run_body(
    call: ScanCall, needs_grad: list[bool], state: list[Tensor], recording: Recording, tensors: OuterTensors
) -> tuple[BodyRun, list[Tensor]]:
    """Run the body once. Also returns `state`, and behind it the other Tensors that the body has written."""
    since = next(Node.counter)
    carry = [Tensor(placeholder(x)) for x in (*call.carry_leaves, *state)]
    x = [Tensor(placeholder(Spec(xs.shape[1:], xs.dtype))) for xs in call.sequences]
    for value, need in zip(carry, needs_grad, strict=False):
        value.requires_grad = need
    for value, sequence in zip(x, call.sequences, strict=True):
        value.requires_grad = sequence.requires_grad
    inputs = [v.array for v in (*carry, *x)]
    carried_state = carry[len(needs_grad) :]
    symbols: list[Symbol] = []
    with recording.inside_body(inputs, symbols), _carrying(carried_state, state, tensors) as written:
        with recording.noting_reads() as reads:
            next_carry, y = _one_step(call, carry, x)
        own = {*symbols, *inputs}
        outer_values = [v for v in reads.values() if v.array not in own]
    after = {id(owner): symbol for owner, symbol in written}
    next_state = [after.get(id(owner), v.array) for owner, v in zip(state, carried_state, strict=True)]
    run = BodyRun(needs_grad, state, carry, x, symbols, since, next_carry, y, next_state, outer_values)
    return run, _union(state, written)


def _one_step(call: ScanCall, carry: Sequence[Tensor], x: Sequence[Tensor]) -> tuple[Nest, Nest]:
    leaves, elements = iter(carry), iter(x)
    nests = tree_map(lambda _: next(leaves), call.carry), tree_map(lambda _: next(elements), call.xs)
    return one_step(call.body, *nests, tree_spec(call.carry), call.length - 1 if call.reverse else 0)


Written = list[tuple[Tensor, Symbol]]  # Tensors that a body has written, and what they held at its end


@contextmanager
def _carrying(carry: Sequence[Tensor], state: list[Tensor], tensors: OuterTensors) -> Iterator[Written]:
    """While active, the Tensors of `state` hold their `carry`. Restores all Tensors and gives those that were written."""
    inputs = tensors.inputs
    before = {key: (entry.owner.array, entry.owner.version) for key, entry in inputs.items()}
    for owner, value in zip(state, carry, strict=True):
        owner.array = value.array
        tensors.forget_views(owner)
    inside = {key: entry.owner.array for key, entry in inputs.items()}
    written: Written = []
    try:
        yield written
    finally:
        for key, entry in inputs.items():
            owner = entry.owner
            array, version = before.get(key) or (entry.symbol, owner.version)
            if owner.array is not inside.get(key, entry.symbol):
                written.append((owner, owner.array))
            owner.array, owner.version = array, version
        for owner in _union(state, written):
            tensors.forget_views(owner)  # a view that the body has made belongs to the body


def _union(state: list[Tensor], written: Written) -> list[Tensor]:
    known = set(map(id, state))
    return [*state, *(owner for owner, _ in written if id(owner) not in known)]


# ---- the loop as one operation ----


def _append(call: ScanCall, run: BodyRun, recording: Recording) -> TracedScan:
    """Append the scan as an operation."""
    roots = [*(v.array for v in run.carry_out), *run.next_state, *(v.array for v in run.stacked)]
    operands = [traced_or_array(v) for v in (*call.carry_leaves, *run.state, *call.sequences)]
    symbol = scan_symbol(*body_graph(call, run, roots, operands), current_origin())
    recording.symbols.append(symbol)
    return TracedScan(call, run, symbol, operands, roots, recording.symbols, run.outer_parents())


def _results(scan: TracedScan, recording: Recording) -> tuple[Nest, Nest]:
    """The last carry and the stacked outputs, which are parts of the scan. Gives the state its last carry."""
    run, length = scan.run, scan.call.length
    plain, whole = Tensor(scan.symbol), Tensor(scan.symbol)
    if grad_mode.get() and any(v.requires_grad for v in (*run.carry_out, *run.stacked)):
        whole.node, whole.requires_grad = _node(scan, recording), True
    about = lambda v: whole if v.requires_grad else plain
    for position, owner in enumerate(run.state, start=len(run.needs_grad)):
        owner.rebind(part(plain, what="last", index=position).array)
    last = iter([part(about(v), what="last", index=i) for i, v in enumerate(run.carry_out)])
    stacks = iter([stack(about(v), i, length, v.shape) for i, v in enumerate(run.stacked, start=scan.carries)])
    return tree_map(lambda _: next(last), run.next_carry), tree_map(lambda _: next(stacks), run.y)


def _node(scan: TracedScan, recording: Recording) -> Node:
    """The Node of the scan. Its parents are the carry, the sequences, and what the body reads from outside."""
    gradient = functools.partial(scan_gradient, scan, recording)
    node = Node(loop, [*scan.call.carry_leaves, *scan.call.sequences], {"gradient": gradient}, scan.symbol)  # type: ignore[arg-type]  # it has a shape and a dtype
    node.parents = (*node.parents, *scan.outer_parents)
    node.inputs = (*node.inputs, *scan.run.outer_values)
    node.versions = tuple([v.version for v in node.inputs])
    return node
