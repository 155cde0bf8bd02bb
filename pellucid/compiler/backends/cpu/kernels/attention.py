"""Flash attention and its gradient, a block of queries by a block of keys at a time (floor 4).

The lanes are always queries. A block of queries is transposed once; then keys and values are read element by element where
they lie, whatever their strides. A softmax needs no sums across lanes: its maximum, its sum and the logarithm that is saved
are vectors. Block after block of keys the running sums are rescaled when the maximum grows (Milakov and Gimelshein
2018), so what is held are one block of scores, of queries and of results. These lie on the stack, tens of kilobytes that
stay in the nearest caches: a size known beforehand, private to its thread, and free when the kernel returns.

Both kernels are emitted in the same phases: read the operands and sizes, choose the blocks (`choose_blocking`), lay out what
is written and what lies on the stack, then emit the loop over blocks of queries, and in it that over blocks of keys.
The products of a block are in `attention_blocks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .....core.op import Op
from .....ops.attention import attention, attention_gradient
from ..kernel_ir import KernelSpec
from ..llvm import Builder, Integer, Value
from .attention_blocks import (
    Blocking,
    KeyRange,
    QueryBlock,
    Sizes,
    across,
    allocate,
    along,
    choose_blocking,
    clear,
    divided,
    each_key_block,
    each_line,
    head_of,
    into,
    lane_queries,
    least,
    load_line,
    pack,
    plus,
    read_of_queries,
    scale,
    store_line,
    times,
    unpack,
)
from .data_movement import Access, OpOperands, StridedLoop
from .vector_body import Emitter, thread_range
from .vector_math import VectorMath

Finish = Callable[[list[Value], Value], list[Value]]  # finish(products with key s, s) gives the scores of key s


@dataclass(frozen=True)
class Inputs:
    """What both kernels read: query, key and value, and the mask as (B, H, T, S). factor: of the scores."""

    query: Access
    key: Access
    value: Access
    mask: Access | None
    factor: float


class Head(NamedTuple):
    """A head of the query. group: the head of key and value that it reads."""

    batch: Value
    number: Value
    group: Value


def read_inputs(op: OpOperands, first: int, mask: int) -> Inputs:
    """first: which operand is the query; key and value follow. mask: which operand is the mask, if there is one."""
    query, key, value = op.operands[first : first + 3]
    if mask >= len(op.operands):
        return Inputs(query, key, value, None, op.attributes["scale"])
    given = op.operands[mask]
    with_axes = given._replace(strides=(*[0] * (4 - len(given.strides)), *given.strides))
    return Inputs(query, key, value, with_axes, op.attributes["scale"])


def read_sizes(op: OpOperands, first: int) -> Sizes:
    batch, heads, queries, depth = op.shapes[first]
    _, groups, keys, channels = op.shapes[first + 2]
    return Sizes(batch, heads, groups, queries, keys, depth, channels)


def score_finisher(block: QueryBlock, inputs: Inputs, head: Head, queries: list[Value]) -> Finish:
    """A function that turns products into the scores of key s: adds the mask, and hides later keys."""
    builder, nothing = block.builder, block.builder.constant(-np.inf)
    mask = None if inputs.mask is None else head_of(builder, inputs.mask, head.batch, head.number)

    def finish(line: list[Value], s: Value) -> list[Value]:
        if mask is not None:
            of_key = mask.beyond(builder, times(builder, s, mask.strides[1]))
            read = [read_of_queries(builder, of_key, numbers) for numbers in queries]
            if mask.dtype == "bool":
                line = [builder.select(m, x, nothing) for m, x in zip(read, line, strict=True)]
            else:
                line = [builder.fadd(x, m) for m, x in zip(read, line, strict=True)]
        if block.blocking.causal:
            key = builder.splat(s)
            visible = [builder.icmp_signed("<=", key, numbers) for numbers in queries]
            line = [builder.select(m, x, nothing) for m, x in zip(visible, line, strict=True)]
        return line

    return finish


# ---- forward -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ForwardResults:
    """The result (B, T, H, E), seen as (B, H, T, E), then the logarithms (B, H, T)."""

    y: Access
    logarithms: Value


class ForwardScratch(NamedTuple):
    """queries: packed, times the factor. sums: of values, for every query. scores: then their exponentials."""

    queries: Value
    sums: Value
    scores: Value


def emit_attention(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    """`attention`. The blocks of queries of all heads are independent, so that threads share them freely."""
    op = OpOperands(builder, spec, pointers)
    inputs, sizes = read_inputs(op, first=0, mask=3), read_sizes(op, first=0)
    blocking = choose_blocking(sizes, op.attributes["causal"], builder.target)
    results = _forward_results(builder, op.result.address, sizes)
    rows = [blocking.rows(sizes.depth), blocking.rows(sizes.channels), blocking.block_keys]
    scratch = ForwardScratch(*allocate(builder, [n * blocking.width for n in rows]))

    def item(i: Value) -> None:
        rest, number = divided(builder, i, blocking.query_blocks)
        b, h = divided(builder, rest, sizes.heads)
        block = QueryBlock(builder, blocking, times(builder, number, blocking.width))
        logarithms = builder.at(results.logarithms, times(builder, rest, sizes.queries))
        head = Head(b, h, _group(builder, h, sizes))
        _attend(block, inputs, head, scratch, results.y, logarithms)

    count = sizes.batch * sizes.heads * blocking.query_blocks
    builder.loop(*thread_range(builder, count, thread, threads), 1, item)


def _forward_results(builder: Builder, address: Value, sizes: Sizes) -> ForwardResults:
    row = sizes.heads * sizes.channels
    y = Access(address, (sizes.queries * row, sizes.channels, row, 1), "float32")
    return ForwardResults(y, builder.at(address, sizes.batch * sizes.queries * row))


def _group(builder: Builder, h: Value, sizes: Sizes) -> Value:
    """The head of key and value that head h of the query reads."""
    shared = sizes.heads_per_group
    return h if shared == 1 else builder.udiv(h, builder.index(shared))


def _attend(
    block: QueryBlock, inputs: Inputs, head: Head, scratch: ForwardScratch, result: Access, logarithms: Value
) -> None:
    """One block of queries of one head. Its state are the largest score and the sum of exponentials of every query."""
    builder, vectors, sizes = block.builder, block.blocking.vectors, block.blocking.sizes
    key, value = (head_of(builder, x, head.batch, head.group) for x in (inputs.key, inputs.value))
    queries = lane_queries(block)
    finish = score_finisher(block, inputs, head, queries)
    pack(block, head_of(builder, inputs.query, head.batch, head.number), sizes.depth, scratch.queries, inputs.factor)
    clear(block, scratch.sums, block.blocking.rows(sizes.channels))

    def key_block(keys: KeyRange, *state: Value) -> list[Value]:
        old = state[:vectors]
        new = across(block, key, sizes.depth, scratch.queries, keys, scratch.scores, finish, old)
        factor, total = _exponentials(block, old, new, state[vectors:], keys, scratch.scores)
        along(block, value, sizes.channels, scratch.scores, keys, scratch.sums, factor)
        return [*new, *total]

    nothing = [builder.constant(-np.inf)] * vectors + [builder.constant(0.0)] * vectors
    state = each_key_block(block, key_block, nothing)
    total = _save_logarithms(block, state[:vectors], state[vectors:], queries, logarithms)
    one = builder.constant(1)
    scale(block, scratch.sums, sizes.channels, [builder.fdiv(one, x) for x in total])
    unpack(block, scratch.sums, sizes.channels, head_of(builder, result, head.batch, head.number))


def _exponentials(
    block: QueryBlock, old: Sequence[Value], new: Sequence[Value], total: Sequence[Value], keys: KeyRange, scores: Value
) -> tuple[list[Value], list[Value]]:
    """Replace the scores of some keys by their exponentials, and give (what shrinks earlier sums, the sum of all so far).

    old, new: the largest scores before and with these keys.
    """
    builder, e = block.builder, VectorMath(block.builder, np.float32)
    base = _base(e, new)
    factor = [e.exp(builder.fsub(x, y)) for x, y in zip(old, base, strict=True)]

    def row(i: Value, *total: Value) -> list[Value]:
        here = builder.at(scores, i)
        line = [e.exp(builder.fsub(x, y)) for x, y in zip(load_line(block, here), base, strict=True)]
        store_line(block, line, here)
        return [builder.fadd(x, y) for x, y in zip(total, line, strict=True)]

    before = [builder.fmul(x, y) for x, y in zip(total, factor, strict=True)]
    return factor, each_line(block, keys.count, row, before)


def _base(e: VectorMath, largest: Sequence[Value]) -> list[Value]:
    """The offset of the scores: their maximum, or 0 for a query without a visible key."""
    nothing = e.constant(-np.inf)
    return [e.where(e.equal(x, nothing), e.constant(0), x) for x in largest]


def _save_logarithms(
    block: QueryBlock, largest: Sequence[Value], total: Sequence[Value], queries: list[Value], logarithms: Value
) -> list[Value]:
    """Store the logarithm of each query's sum of exponentials, and give the sum; 1 for a query without a visible key."""
    builder, e = block.builder, VectorMath(block.builder, np.float32)
    base = _base(e, largest)
    total = [e.where(e.equal(x, e.constant(0)), e.constant(1), x) for x in total]
    for x, y, numbers in zip(base, total, queries, strict=True):
        builder.scatter(builder.fadd(x, e.log(y)), logarithms, numbers)
    return total


# ---- backward ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GradientOperands:
    """What the gradient reads besides, as (B, H, T, .): dL/dy, dL/d(logarithms), y, and the logarithms."""

    g: Access
    h: Access
    y: Access
    logarithms: Access


@dataclass(frozen=True)
class GradientResults:
    """dq (B, T, H, D), dk (B, S, G, D), dv (B, S, G, E), seen as (B, H, T, D), (B, G, S, D) and (B, G, S, E)."""

    dq: Access
    dk: Access
    dv: Access


class GradientScratch(NamedTuple):
    """queries, g: packed. query_rows, g_rows: the same, one row for each query. sums: of dq; of y before.

    weights: the attention of the block. slopes: the gradient of its scores.
    """

    queries: Value
    g: Value
    sums: Value
    query_rows: Value
    g_rows: Value
    weights: Value
    slopes: Value


def emit_gradient(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    """`attention_gradient`. Each thread owns a group of heads, so that gradients of keys and values are added in one order."""
    op = OpOperands(builder, spec, pointers)
    inputs, sizes = read_inputs(op, first=2, mask=6), read_sizes(op, first=2)
    blocking = choose_blocking(sizes, op.attributes["causal"], builder.target)
    given = _gradient_operands(builder, op, sizes)
    results = _gradient_results(builder, op.result.address, sizes)
    scratch = _gradient_scratch(builder, blocking)

    def item(i: Value) -> None:
        b, group = divided(builder, i, sizes.groups)
        for target, columns in ((results.dk, sizes.depth), (results.dv, sizes.channels)):
            StridedLoop(builder, (sizes.keys, columns), [head_of(builder, target, b, group)]).clear()

        def one_head(j: Value) -> None:
            head = Head(b, plus(builder, times(builder, group, sizes.heads_per_group), j), group)

            def one_block(number: Value) -> None:
                block = QueryBlock(builder, blocking, times(builder, number, blocking.width))
                _differentiate(block, inputs, given, head, scratch, results)

            builder.loop(0, blocking.query_blocks, 1, one_block)

        builder.loop(0, sizes.heads_per_group, 1, one_head)

    builder.loop(*thread_range(builder, sizes.batch * sizes.groups, thread, threads), 1, item)


def _gradient_operands(builder: Builder, op: OpOperands, sizes: Sizes) -> GradientOperands:
    """What was saved of the forward pass is one array: y (B, T, H, E), then the logarithms (B, H, T)."""
    b, h, _, t, _, _, e = sizes
    g, dl, saved = op.operands[0], op.operands[1], op.operands[5]
    step = saved.strides[0]
    y = saved._replace(strides=tuple(n * step for n in (t * h * e, e, h * e, 1)))
    address = builder.at(saved.address, b * t * h * e * step)
    logarithms = Access(address, (h * t * step, t * step, step, 0), saved.dtype)
    return GradientOperands(g, dl._replace(strides=(*dl.strides, 0)), y, logarithms)


def _gradient_results(builder: Builder, address: Value, sizes: Sizes) -> GradientResults:
    b, h, g, t, s, d, e = sizes
    dk = builder.at(address, b * t * h * d)
    dv = builder.at(dk, b * s * g * d)
    return GradientResults(
        Access(address, (t * h * d, d, h * d, 1), "float32"),
        Access(dk, (s * g * d, d, g * d, 1), "float32"),
        Access(dv, (s * g * e, e, g * e, 1), "float32"),
    )


def _gradient_scratch(builder: Builder, blocking: Blocking) -> GradientScratch:
    d, e = blocking.sizes.depth, blocking.sizes.channels
    columns = [blocking.rows(d), blocking.rows(e), blocking.rows(max(d, e)), blocking.padded(d), blocking.padded(e)]
    rows = [*columns, blocking.block_keys, blocking.block_keys]
    return GradientScratch(*allocate(builder, [n * blocking.width for n in rows]))


def _differentiate(
    block: QueryBlock, inputs: Inputs, given: GradientOperands, head: Head, scratch: GradientScratch,
    results: GradientResults,
) -> None:  # fmt: skip
    """One block of queries of one head."""
    builder, (*_, depth, channels) = block.builder, block.blocking.sizes
    of_head = lambda access: head_of(builder, access, head.batch, head.number)
    queries = lane_queries(block)
    finish = score_finisher(block, inputs, head, queries)
    pack(block, of_head(inputs.query), depth, scratch.queries, inputs.factor, scratch.query_rows)
    pack(block, of_head(given.g), channels, scratch.g, 1, scratch.g_rows)
    logarithms = [read_of_queries(builder, of_head(given.logarithms), numbers) for numbers in queries]
    shares = _shares_of_results(block, given, head, queries, scratch)
    clear(block, scratch.sums, block.blocking.rows(depth))
    count = least(builder, builder.sub(builder.index(block.blocking.sizes.queries), block.start), block.blocking.width)
    of_group = (inputs.key, inputs.value, results.dk, results.dv)
    key, value, dk, dv = (head_of(builder, x, head.batch, head.group) for x in of_group)

    def key_block(keys: KeyRange) -> None:
        across(block, key, depth, scratch.queries, keys, scratch.weights, finish)
        across(block, value, channels, scratch.g, keys, scratch.slopes, lambda line, _: line)
        _weights_and_slopes(block, scratch, keys.count, logarithms, shares)
        along(block, key, depth, scratch.slopes, keys, scratch.sums, [])
        into(block, dk, depth, scratch.slopes, keys, scratch.query_rows, count)
        into(block, dv, channels, scratch.weights, keys, scratch.g_rows, count)

    each_key_block(block, key_block)
    scale(block, scratch.sums, depth, [builder.constant(inputs.factor)] * block.blocking.vectors)
    unpack(block, scratch.sums, depth, of_head(results.dq))


def _weights_and_slopes(
    block: QueryBlock, scratch: GradientScratch, count: Integer, logarithms: list[Value], shares: list[Value]
) -> None:
    """Replace the scores of `count` keys by weights, and dL/d(weights) by dL/d(scores)."""
    builder, e = block.builder, VectorMath(block.builder, np.float32)

    def row(i: Value) -> None:
        here, there = builder.at(scratch.weights, i), builder.at(scratch.slopes, i)
        p = [e.exp(builder.fsub(x, y)) for x, y in zip(load_line(block, here), logarithms, strict=True)]
        away = [builder.fsub(x, y) for x, y in zip(load_line(block, there), shares, strict=True)]
        store_line(block, p, here)
        store_line(block, [builder.fmul(x, y) for x, y in zip(p, away, strict=True)], there)

    each_line(block, count, row)


def _shares_of_results(
    block: QueryBlock, given: GradientOperands, head: Head, queries: list[Value], scratch: GradientScratch
) -> list[Value]:
    """The sum of dL/dy y of every query of the block, less dL/d(its logarithm)."""
    builder, channels = block.builder, block.blocking.sizes.channels
    pack(block, head_of(builder, given.y, head.batch, head.number), channels, scratch.sums, 1)

    def add(i: Value, *sums: Value) -> list[Value]:
        g, y = load_line(block, builder.at(scratch.g, i)), load_line(block, builder.at(scratch.sums, i))
        return [builder.multiply_add(a, b, total) for a, b, total in zip(g, y, sums, strict=True)]

    sums = each_line(block, channels, add, [builder.constant(0.0)] * block.blocking.vectors)
    h = head_of(builder, given.h, head.batch, head.number)
    return [builder.fsub(x, read_of_queries(builder, h, n)) for x, n in zip(sums, queries, strict=True)]


def flops(spec: KernelSpec) -> int:
    """Additions and multiplications of the products, over the scores that are looked at."""
    gradient = spec.instructions[0].op is attention_gradient
    (b, h, t, d), _, (*_, s, e) = spec.shapes[2:5] if gradient else spec.shapes[:3]
    short = min(t, s)
    visible = short * (short + 1) // 2 + (t - short) * s if dict(spec.instructions[0].attributes)["causal"] else t * s
    return 2 * b * h * visible * (3 * d + 2 * e if gradient else d + e)


ATTENTION_EMITTERS: dict[Op, Emitter] = {attention: emit_attention, attention_gradient: emit_gradient}
