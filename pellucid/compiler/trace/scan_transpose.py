"""The gradient of a scan: a scan in the other direction (floor 4).

The tape of the body is walked once and becomes the body of the second scan. It carries dL/d(carry), and the gradients of
what the first body reads from outside, summed over the steps so far. The first scan stacks the values that the second
reads, unless they are cheap to recompute. A gradient that is to be differentiated again is taken through the unrolled loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from ...core.op import Node
from ...core.tape import backward_pass
from ...core.value import Symbol, Value, grad_mode
from ...ops.elementwise import add, zeros_like
from ...ops.loop import Cotangents, part, tree_leaves, unrolled
from ...ops.movement import permute, reshape
from ...ops.reduce import expand
from ...tensor import Tensor
from ..ir.scan_body import extract_body, placeholder, scan_symbol
from .recording import Recording, current_origin
from .traced_scan import BodyRun, TracedScan, stack


def scan_gradient(scan: TracedScan, recording: Recording, g: Cotangents) -> Sequence[Value | None]:
    """dL/d of every parent of the scan on the tape, None where no gradient arrives.

    The parents are the first carry, the sequences, and what the body reads from outside.
    """
    if grad_mode.get():
        return _through_unrolled(scan, g)
    seeds, gradient = _differentiate_body(scan, recording, g)
    whole = _append_transpose(scan, recording, g, seeds, gradient)
    return _results(scan, seeds, gradient, whole)


def _through_unrolled(scan: TracedScan, g: Cotangents) -> list[Value | None]:
    """The gradient through the unrolled loop, which can itself be differentiated."""
    since, call, state = next(Node.counter), scan.call, scan.run.state
    before = [(owner, owner.array, owner.version) for owner in state]
    for owner, first in zip(state, scan.symbol.inputs[len(scan.run.needs_grad) : scan.carries], strict=True):
        owner.array = first
    try:
        carry, ys = unrolled(call.body, call.carry, call.xs, call.length, call.reverse)
    finally:
        for owner, array, version in before:
            owner.array, owner.version = array, version
    values = {("last", i): v for i, v in enumerate(tree_leaves(carry))}
    values |= {("stack", scan.carries + i): v for i, v in enumerate(tree_leaves(ys))}
    outputs = [values[key] for key in g]
    grads = [reshape(cotangent, shape=v.shape) for cotangent, v in zip(g.values(), outputs, strict=True)]
    gradients = backward_pass(outputs, grads, keep=True, create_graph=True, since=since)
    parents = [*(v.node or v for v in (*call.carry_leaves, *call.sequences)), *scan.outer_parents]
    # A Tensor may be the carry, a sequence and an outer value at once: its whole gradient is given once.
    return [gradients.pop(id(p))[1] if id(p) in gradients else None for p in parents]


# ---- the gradient of one step ----


@dataclass(frozen=True)
class Seeds:
    """The gradients that a step of the transposed scan starts from.

    carried: the carries with a gradient, by index, and `d_carry`, the values that stand for it. stacked, d_y: the same for
    outputs at every step.
    """

    carried: list[int]
    d_carry: list[Tensor]
    stacked: list[int]
    d_y: list[Tensor]


@dataclass(frozen=True)
class StepGradient:
    """The gradient of one step of the body.

    symbols: its operations. reached: the carries where a gradient arrives.
    d_carry: for each carry of the seeds. d_x: for each sequence. d_outer: for each outer parent.
    sums, next_sums: for each gradient of `d_outer`, the value that stands for the sum so far, and the sum with this step.
    """

    symbols: list[Symbol]
    reached: set[int]
    d_carry: list[Value]
    d_x: list[Value | None]
    d_outer: list[Value | None]
    sums: list[Tensor]
    next_sums: list[Tensor]


def _differentiate_body(scan: TracedScan, recording: Recording, g: Cotangents) -> tuple[Seeds, StepGradient]:
    """Walk the tape of the body, until every carry that a gradient reaches is carried."""
    run = scan.run
    carried = [i for i, need in enumerate(run.needs_grad) if need and ("last", i) in g]
    stacked = [index for what, index in g if what == "stack"]
    d_y = [Tensor(placeholder(run.stacked[index - scan.carries])) for index in stacked]
    while True:
        d_carry = [Tensor(placeholder(run.carry[i])) for i in carried]
        seeds = Seeds(carried, d_carry, stacked, d_y)
        symbols: list[Symbol] = []
        with recording.inside_body(run.inputs, run.symbols, symbols):
            gradient = _walk(scan, seeds, symbols)
        if gradient.reached <= set(carried):
            return seeds, gradient
        carried = sorted(gradient.reached | set(carried))


def _walk(scan: TracedScan, seeds: Seeds, symbols: list[Symbol]) -> StepGradient:
    """Walk the tape of the body once. symbols: where its operations are being appended."""
    run = scan.run
    pairs = [(run.carry_out[i], g) for i, g in zip(seeds.carried, seeds.d_carry, strict=True)]
    pairs += [(run.stacked[i - scan.carries], g) for i, g in zip(seeds.stacked, seeds.d_y, strict=True)]
    pairs = [pair for pair in pairs if pair[0].requires_grad]
    gradients = backward_pass([v for v, _ in pairs], [g for _, g in pairs], keep=True, since=run.since)
    arrived = lambda value: gradients[id(value)][1] if id(value) in gradients else None
    reached = {i for i, need in enumerate(run.needs_grad) if need and arrived(run.carry[i]) is not None}
    d_carry = [
        zeros_like(before) if (g := arrived(run.carry[i])) is None else g
        for i, before in zip(seeds.carried, seeds.d_carry, strict=True)
    ]
    d_outer = [arrived(parent) for parent in scan.outer_parents]
    added = [g for g in d_outer if g is not None]
    sums = [Tensor(placeholder(g)) for g in added]
    next_sums = [add(total, g) for total, g in zip(sums, added, strict=True)]
    return StepGradient(symbols, reached, d_carry, [arrived(v) for v in run.x], d_outer, sums, next_sums)


# ---- the transposed scan ----


def _append_transpose(
    scan: TracedScan, recording: Recording, g: Cotangents, seeds: Seeds, gradient: StepGradient
) -> Tensor:
    """Append the transposed scan. Returns a value that holds all of its outputs."""
    call, run = scan.call, scan.run
    d_x = [g for g in gradient.d_x if g is not None]
    roots = [v.array for v in (*gradient.d_carry, *gradient.next_sums, *d_x)]
    given = {v.array: v.array for v in (*seeds.d_carry, *gradient.sums, *seeds.d_y)}
    operands = [_first(g, i, v) for i, v in zip(seeds.carried, seeds.d_carry, strict=True)]
    operands += [zeros_like(v).array for v in gradient.sums]
    for index, v in zip(seeds.stacked, seeds.d_y, strict=True):
        operands.append(reshape(g["stack", index], shape=(call.length, *v.shape)).array)
    elements, residuals = _needed_of_body(run, roots, gradient.symbols)
    for value, sequence in zip(run.x, scan.operands[scan.carries :], strict=True):
        if value.array in elements:
            given[value.array] = value.array
            operands.append(sequence)
    for s in residuals:
        given[s] = placeholder(s)
        operands.append(scan.stacked_residual(s, recording))
    carries = len(seeds.carried) + len(gradient.sums)
    symbols = [*run.symbols, *gradient.symbols]
    body, outside = extract_body(roots, symbols, given, carries, call.length, not call.reverse)
    symbol = scan_symbol(body, [*operands, *outside], current_origin())
    recording.symbols.append(symbol)
    return Tensor(symbol)


def _first(g: Cotangents, index: int, like: Value) -> Symbol:
    """The gradient of a carry after the last step."""
    last = g.get(("last", index))
    return (zeros_like(like) if last is None else last).array


def _needed_of_body(
    run: BodyRun, roots: Sequence[Symbol], symbols: Sequence[Symbol]
) -> tuple[set[Symbol], list[Symbol]]:
    """What `roots`, computed by `symbols`, need of the body: all Symbols, and those that the scan has to stack."""
    needed = set(roots)
    for s in reversed(symbols):
        if s in needed:
            needed.update(s.inputs)
    stacked = _kept(run, needed)
    held = set(stacked)
    for s in reversed(run.symbols):
        if s in needed and s not in held:
            needed.update(s.inputs)
    return needed, [*(v.array for v in run.carry if v.array in needed), *stacked]


def _kept(run: BodyRun, needed: set[Symbol]) -> list[Symbol]:
    """The operations of the body to stack, so that `needed` can be recomputed from them."""
    inner, own = set(run.symbols), set(run.inputs)
    needed = needed & inner
    for s in reversed(run.symbols):  # stack what a repetition or a permutation reads, not its result
        if s in needed and s.op in (expand, permute, reshape):
            needed.remove(s)
            needed |= {s.inputs[0]} & inner
    whole: set[Symbol] = set()  # the same at every step
    free: set[Symbol] = set()
    for s in run.symbols:
        if not any(x in own or (x in inner and x not in whole) for x in s.inputs):
            whole.add(s)
        cheap = s.op is not None and s.op.cheap
        if s in whole or (cheap and all(x not in inner or x in free or x in needed for x in s.inputs)):
            free.add(s)
    return [s for s in run.symbols if s in needed and s not in free]


def _results(scan: TracedScan, seeds: Seeds, gradient: StepGradient, whole: Tensor) -> list[Tensor | None]:
    """The parts of the transposed scan, in the order of the parents."""
    carry_leaves, length = scan.call.carry_leaves, scan.call.length
    results: list[Tensor | None] = [None] * len(carry_leaves)
    for position, i in enumerate(seeds.carried):
        if i in gradient.reached and carry_leaves[i].requires_grad:
            results[i] = part(whole, what="last", index=position)
    carries = len(seeds.carried) + len(gradient.sums)
    stacks, sums = count(carries), count(len(seeds.carried))
    results += [
        None if g is None else stack(whole, next(stacks), length, value.shape)
        for value, g in zip(scan.run.x, gradient.d_x, strict=True)
    ]
    results += [None if g is None else part(whole, what="last", index=next(sums)) for g in gradient.d_outer]
    return results
