"""Blocks of attention: how queries and keys are cut, their rows in scratch memory, and the products of a block (floor 4).

A block of queries lies in the lanes. Scratch memory is `[row][query]` unless stated otherwise: a row, here a line, holds one
number for every query of the block. Queries and keys need no masks at a ragged end. The query beyond the last is the last
again, and so is the key: what is computed for it twice is stored twice, the same bits in the same place. Sums over keys and
queries run over those there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..costs import CACHE_LINE
from ..llvm import Builder, Integer, LoopBody, Value
from ..target import Target
from .data_movement import Access

Offsets = Sequence[Integer]  # of a tile's rows from its first, in elements: ints, or i64 values at a ragged end


# ---- how it is cut -------------------------------------------------------------------------------------------------------


class Sizes(NamedTuple):
    """Query (batch, heads, queries, depth), key (batch, groups, keys, depth) and value (batch, groups, keys, channels)."""

    batch: int
    heads: int
    groups: int
    queries: int
    keys: int
    depth: int
    channels: int

    @property
    def heads_per_group(self) -> int:
        return self.heads // max(self.groups, 1)


@dataclass(frozen=True)
class Blocking:
    """Blocks of queries by blocks of keys, and those in tiles.

    vectors: of queries in a block. tile_rows: keys, or columns of the result, of a tile. block_keys: keys in a block. causal:
    a query sees the keys up to its own number.
    """

    sizes: Sizes
    causal: bool
    lanes: int
    vectors: int
    tile_rows: int
    block_keys: int

    @property
    def width(self) -> int:
        """Queries in a block."""
        return self.vectors * self.lanes

    @property
    def query_blocks(self) -> int:
        return -(-self.sizes.queries // self.width)

    def padded(self, columns: int) -> int:
        return -(-columns // self.lanes) * self.lanes

    def rows(self, columns: int) -> int:
        """How many rows of scratch the tiles over `columns` run through."""
        return self.padded(columns) + self.tile_rows


def choose_blocking(sizes: Sizes, causal: bool, target: Target) -> Blocking:
    rows = min(target.tiles.attention_rows, target.rows)
    vectors = max(
        1, min(target.vectors, target.tiles.attention_queries // target.lanes, -(-sizes.queries // target.lanes))
    )
    tiles = max(1, min(target.tiles.attention_tiles, -(-sizes.keys // rows)))
    return Blocking(sizes, causal, target.lanes, vectors, rows, tiles * rows)


@dataclass(frozen=True)
class QueryBlock:
    """The block of queries that code is emitted for. start: the number of its first query, an i64."""

    builder: Builder
    blocking: Blocking
    start: Value


@dataclass(frozen=True)
class KeyRange:
    """Keys of a block, `count` from number `start` on."""

    start: Value
    count: Integer


# ---- whole numbers -------------------------------------------------------------------------------------------------------


def times(builder: Builder, a: Value, n: int) -> Value:
    return builder.mul(a, builder.index(n))


def plus(builder: Builder, a: Value, b: Integer) -> Value:
    return builder.add(a, builder.index(b) if isinstance(b, int) else b)


def least(builder: Builder, a: Value, b: Integer) -> Value:
    return builder.intrinsic("smin", a, builder.index(b) if isinstance(b, int) else b)


def divided(builder: Builder, i: Value, size: int) -> tuple[Value, Value]:
    """Quotient and remainder."""
    return builder.udiv(i, builder.index(size)), builder.urem(i, builder.index(size))


def upwards(builder: Builder, a: Integer, unit: int) -> Integer:
    """How many units hold `a`."""
    if isinstance(a, int):
        return -(-a // unit)
    return builder.udiv(plus(builder, a, unit - 1), builder.index(unit))


# ---- addresses -----------------------------------------------------------------------------------------------------------


def head_of(builder: Builder, access: Access, b: Value, h: Value) -> Access:
    """One head of (B, H, ., .)."""
    offset = plus(builder, times(builder, b, access.strides[0]), times(builder, h, access.strides[1]))
    return Access(builder.at(access.address, offset, access.dtype), access.strides[2:], access.dtype)


def offset_of(builder: Builder, access: Access, i: Value, j: Value) -> Value:
    """Of element (i, j), in elements."""
    return plus(builder, times(builder, i, access.strides[0]), times(builder, j, access.strides[1]))


def tile_offsets(builder: Builder, start: Value, count: int, size: Integer, stride: int) -> Offsets:
    """Of `count` rows from `start` on; beyond the last of `size` it is the last again."""
    if isinstance(size, int) and size % count == 0:
        return [m * stride for m in range(count)]
    last = builder.sub(builder.index(size) if isinstance(size, int) else size, plus(builder, start, 1))
    return [times(builder, least(builder, builder.index(m), last), stride) for m in range(count)]


def spaced(builder: Builder, offsets: Offsets, stride: int) -> Offsets:
    """The offsets times a stride."""
    return [n * stride if isinstance(n, int) else times(builder, n, stride) for n in offsets]


def lane_queries(block: QueryBlock) -> list[Value]:
    """The numbers of the block's queries, vectors of i64."""
    builder, blocking = block.builder, block.blocking
    last = builder.constant(blocking.sizes.queries - 1, np.int64)
    first = builder.add(builder.splat(block.start), builder.lane_numbers())
    numbers = [builder.add(first, builder.constant(u * blocking.lanes, np.int64)) for u in range(blocking.vectors)]
    return [builder.intrinsic("smin", n, last) for n in numbers]


def _spread(builder: Builder, numbers: Value, stride: int) -> Value:
    return builder.mul(numbers, builder.constant(stride, np.int64))


def read_of_queries(builder: Builder, access: Access, numbers: Value) -> Value:
    """One number of (T, ...) for each of the queries `numbers`."""
    if access.strides[0] == 0:
        return builder.splat(builder.load_scalar(access.address, access.dtype))
    return builder.gather(access.address, _spread(builder, numbers, access.strides[0]), access.dtype)


# ---- lines of scratch ----------------------------------------------------------------------------------------------------


def allocate(builder: Builder, sizes: Sequence[int]) -> list[Value]:
    """Room on the stack for numbers, one address per size."""
    line = CACHE_LINE // 4  # float32 numbers
    whole = [-(-size // line) * line for size in sizes]
    start = builder.room(sum(whole))
    return [builder.at(start, sum(whole[:i])) for i in range(len(sizes))]


def load_line(block: QueryBlock, address: Value) -> list[Value]:
    builder, lanes = block.builder, block.blocking.lanes
    return [builder.load_vector(builder.at(address, u * lanes)) for u in range(block.blocking.vectors)]


def store_line(block: QueryBlock, values: Sequence[Value], address: Value) -> None:
    builder, lanes = block.builder, block.blocking.lanes
    for u, value in enumerate(values):
        builder.store_vector(value, builder.at(address, u * lanes))


def each_line(block: QueryBlock, count: Integer, body: LoopBody, carry: Sequence[Value] = ()) -> list[Value]:
    """body(offset of line i, *carry) for `count` lines."""
    builder, width = block.builder, block.blocking.width
    return builder.loop(0, count, 1, lambda i, *c: body(times(builder, i, width), *c), carry)


def clear(block: QueryBlock, address: Value, rows: int) -> None:
    builder = block.builder
    zeros = [builder.constant(0.0)] * block.blocking.vectors
    each_line(block, rows, lambda i: store_line(block, zeros, builder.at(address, i)))


def scale(block: QueryBlock, address: Value, rows: int, factor: Sequence[Value]) -> None:
    builder = block.builder

    def line(i: Value) -> None:
        here = builder.at(address, i)
        store_line(block, [builder.fmul(x, y) for x, y in zip(load_line(block, here), factor, strict=True)], here)

    each_line(block, rows, line)


# ---- a block of queries to scratch and back ------------------------------------------------------------------------------


def pack(
    block: QueryBlock, source: Access, columns: int, target: Value, factor: float, plain: Value | None = None
) -> None:
    """A block of the rows of `source`, times factor, to scratch; and as rows to `plain`, whose row is a query."""
    builder, blocking, lanes = block.builder, block.blocking, block.blocking.lanes

    def square(u: Value, c: Value) -> None:
        first, column, mask = _square(block, columns, u, c)
        here = builder.at(source.address, offset_of(builder, source, first, column))
        lines = []
        for i, offset in enumerate(_query_offsets(block, first, source.strides[0])):
            number = _read(builder, builder.at(here, offset), source.strides[1], mask)
            lines.append(builder.fmul(number, builder.constant(factor)) if factor != 1 else number)
            if plain is not None:
                row = times(builder, plus(builder, times(builder, u, lanes), i), blocking.padded(columns))
                builder.store_vector(lines[-1], builder.at(plain, plus(builder, row, column)))
        there = builder.at(target, _in_scratch(block, u, column))
        for i, line in enumerate(builder.transpose(lines)):
            builder.store_vector(line, builder.at(there, i * blocking.width))

    _each_square(block, columns, square)


def unpack(block: QueryBlock, source: Value, columns: int, target: Access) -> None:
    """A block of results from scratch to its rows, which lie contiguous."""
    builder, blocking = block.builder, block.blocking

    def square(u: Value, c: Value) -> None:
        first, column, mask = _square(block, columns, u, c)
        there = builder.at(source, _in_scratch(block, u, column))
        lines = [builder.load_vector(builder.at(there, i * blocking.width)) for i in range(blocking.lanes)]
        here = builder.at(target.address, offset_of(builder, target, first, column))
        offsets = _query_offsets(block, first, target.strides[0])
        for line, offset in zip(builder.transpose(lines), offsets, strict=True):
            builder.store_vector(line, builder.at(here, offset), mask=mask)

    _each_square(block, columns, square)


def _each_square(block: QueryBlock, columns: int, body: Callable[[Value, Value], None]) -> None:
    """body(u, c) for the squares of lanes by lanes: queries of vector u, columns of vector c."""
    builder = block.builder
    count = upwards(builder, columns, block.blocking.lanes)

    def line(u: Value) -> None:
        builder.loop(0, count, 1, lambda c: body(u, c))

    builder.loop(0, block.blocking.vectors, 1, line)


def _square(block: QueryBlock, columns: int, u: Value, c: Value) -> tuple[Value, Value, Value | None]:
    """The first query and the first column of a square, and which of its columns there are."""
    builder, lanes = block.builder, block.blocking.lanes
    first, column = plus(builder, block.start, times(builder, u, lanes)), times(builder, c, lanes)
    mask = builder.first_lanes(builder.sub(builder.index(columns), column)) if columns % lanes else None
    return first, column, mask


def _in_scratch(block: QueryBlock, u: Value, column: Value) -> Value:
    """The offset of a square in scratch."""
    builder, blocking = block.builder, block.blocking
    return plus(builder, times(builder, column, blocking.width), times(builder, u, blocking.lanes))


def _query_offsets(block: QueryBlock, first: Value, stride: int) -> Offsets:
    """Of the rows of `lanes` queries from number `first` on."""
    builder, blocking = block.builder, block.blocking
    if blocking.sizes.queries % blocking.width == 0:
        return [i * stride for i in range(blocking.lanes)]
    last = builder.index(blocking.sizes.queries - 1)
    beyond = [builder.sub(least(builder, plus(builder, first, i), last), first) for i in range(blocking.lanes)]
    return [times(builder, i, stride) for i in beyond]


def _read(builder: Builder, address: Value, stride: int, mask: Value | None) -> Value:
    if stride == 1:
        return builder.load_vector(address, mask=mask)
    return builder.gather(address, _spread(builder, builder.lane_numbers(), stride), mask=mask)


# ---- products ------------------------------------------------------------------------------------------------------------


def multiply(
    builder: Builder, base: Value, offsets: Offsets, step: int, count: Integer, vectors: Value, stride: int,
    sums: Sequence[Value],
) -> list[Value]:  # fmt: skip
    """The microkernel: sums[m][v] += base[offsets[m] + k step] * vectors[k stride][v], along k."""
    wide = len(sums) // len(offsets)

    def body(_: Value, base: Value, vectors: Value, *sums: Value) -> list[Value]:
        lines = [builder.load_vector(builder.at(vectors, v * builder.lanes)) for v in range(wide)]
        new = []
        for m, offset in enumerate(offsets):
            number = builder.splat(builder.load_scalar(builder.at(base, offset)))
            new += [builder.multiply_add(number, lines[v], sums[m * wide + v]) for v in range(wide)]
        return [builder.at(base, step), builder.at(vectors, stride), *new]

    return builder.loop(0, count, 1, body, [base, vectors, *sums])[2:]


def across(
    block: QueryBlock, source: Access, depth: int, packed: Value, keys: KeyRange, target: Value,
    finish: Callable[[list[Value], Value], list[Value]], carry: Sequence[Value] = (),
) -> list[Value]:  # fmt: skip
    """target[s] = finish(sum over d of source[s, d] packed[d], s) for the keys s.

    carry: the largest number so far of every query, if they are wanted.
    """
    builder, blocking = block.builder, block.blocking
    high, wide = blocking.tile_rows, blocking.vectors

    def tile(i: Value, *carry: Value) -> list[Value]:
        largest = list(carry)
        row = times(builder, i, high)
        s = plus(builder, keys.start, row)
        offsets = tile_offsets(builder, s, high, blocking.sizes.keys, 1)
        places = spaced(builder, offsets, source.strides[0])
        base = builder.at(source.address, times(builder, s, source.strides[0]))
        zeros = [builder.constant(0.0)] * (high * wide)
        sums = multiply(builder, base, places, source.strides[1], depth, packed, blocking.width, zeros)
        for m, offset in enumerate(offsets):
            line = finish(sums[m * wide : (m + 1) * wide], plus(builder, s, offset))
            store_line(block, line, builder.at(target, times(builder, plus(builder, row, m), blocking.width)))
            largest = [larger(builder, x, y) for x, y in zip(line, largest, strict=False)]
        return largest

    return builder.loop(0, upwards(builder, keys.count, high), 1, tile, carry)


def along(
    block: QueryBlock,
    source: Access,
    columns: int,
    weights: Value,
    keys: KeyRange,
    target: Value,
    factor: Sequence[Value],
) -> None:
    """target[c] = factor target[c] + sum over the keys s of source[s, c] weights[s]."""
    builder, blocking = block.builder, block.blocking
    high, wide, width = blocking.tile_rows, blocking.vectors, blocking.width
    base = builder.at(source.address, times(builder, keys.start, source.strides[0]))

    def tile(i: Value) -> None:
        c = times(builder, i, high)
        offsets = tile_offsets(builder, c, high, columns, source.strides[1])
        there = [builder.at(target, times(builder, plus(builder, c, m), width)) for m in range(high)]
        old = [x for address in there for x in load_line(block, address)]
        sums = [builder.fmul(x, factor[n % wide]) for n, x in enumerate(old)] if factor else old
        first = builder.at(base, times(builder, c, source.strides[1]))
        sums = multiply(builder, first, offsets, source.strides[0], keys.count, weights, width, sums)
        for m, address in enumerate(there):
            store_line(block, sums[m * wide : (m + 1) * wide], address)

    builder.loop(0, upwards(builder, columns, high), 1, tile)


def into(
    block: QueryBlock, target: Access, columns: int, weights: Value, keys: KeyRange, rows: Value, queries: Value
) -> None:
    """target[s, c] += sum over `queries` t of weights[s][t] rows[t, c] for the keys s."""
    builder, blocking = block.builder, block.blocking
    lanes, high, padded = blocking.lanes, blocking.tile_rows, blocking.padded(columns)
    units = padded // lanes
    wide = next(n for n in range(builder.target.vectors, 0, -1) if units % n == 0) if units else 1
    exact = blocking.sizes.keys % high == 0 and not (blocking.causal and blocking.width % high)

    def tile(i: Value, j: Value) -> None:
        row, column = times(builder, i, high), times(builder, j, wide * lanes)
        near = tile_offsets(builder, row, high, high if exact else keys.count, 1)
        left = [plus(builder, builder.sub(builder.index(columns), column), -v * lanes) for v in range(wide)]
        masks = [builder.first_lanes(n) if columns % lanes else None for n in left]
        first = builder.at(target.address, offset_of(builder, target, plus(builder, keys.start, row), column))
        there = [
            builder.at(builder.at(first, n), v * lanes)
            for n in spaced(builder, near, target.strides[0])
            for v in range(wide)
        ]
        sums = [builder.load_vector(address, mask=masks[n % wide]) for n, address in enumerate(there)]
        base = builder.at(weights, times(builder, row, blocking.width))
        vectors = builder.at(rows, column)
        sums = multiply(builder, base, spaced(builder, near, blocking.width), 1, queries, vectors, padded, sums)
        for n, address in enumerate(there):
            builder.store_vector(sums[n], address, mask=masks[n % wide])

    tiles = upwards(builder, keys.count, high)
    builder.loop(0, units // wide, 1, lambda j: builder.loop(0, tiles, 1, lambda i: tile(i, j)))


def larger(builder: Builder, a: Value, b: Value) -> Value:
    """The larger number; b where a is NaN, which shows in the sum that follows."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


# ---- blocks of keys ------------------------------------------------------------------------------------------------------


def each_key_block(
    block: QueryBlock, body: Callable[..., Value | Sequence[Value] | None], carry: Sequence[Value] = ()
) -> list[Value]:
    """body(keys, *carry) for every block of the keys that the queries may see."""
    builder, blocking = block.builder, block.blocking
    size, limit = blocking.block_keys, _visible_keys(block)

    def key_block(i: Value, *carry: Value) -> Value | Sequence[Value] | None:
        start = times(builder, i, size)
        left = builder.sub(builder.index(limit) if isinstance(limit, int) else limit, start)
        whole = isinstance(limit, int) and limit % size == 0
        return body(KeyRange(start, size if whole else least(builder, left, size)), *carry)

    keys = blocking.sizes.keys
    count = min(1, keys) if keys <= size else upwards(builder, limit, size)
    return builder.loop(0, count, 1, key_block, carry)


def _visible_keys(block: QueryBlock) -> Integer:
    """How many keys a block of queries attends to."""
    builder, blocking = block.builder, block.blocking
    keys = blocking.sizes.keys
    return least(builder, plus(builder, block.start, blocking.width), keys) if blocking.causal else keys
