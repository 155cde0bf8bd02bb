"""Flash attention and its gradient, a block of queries by a block of keys at a time (floor 4).

The lanes are always queries. A block of queries is transposed once; then keys and values are read element by element where
they lie, whatever their strides. A softmax needs no sums across lanes: its maximum, its sum and the logarithm that is saved
are vectors. Block after block of keys the running sums are rescaled when the maximum grows (Milakov and Gimelshein
2018), so what is held are one block of scores, of queries and of results. These lie on the stack, tens of kilobytes that
stay in the nearest caches: a size known beforehand, private to its thread, and free when the kernel returns.

Queries and keys need no masks at a ragged end. The query beyond the last is the last again, and so is the key: what is
computed for it twice is stored twice, the same bits in the same place. Sums over keys and queries run over those there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .....core.op import Op
from .....ops.attention import attention, attention_gradient
from ..costs import CACHE_LINE
from ..kernel_ir import KernelSpec
from ..llvm import Builder, Integer, LoopBody, Value
from .data_movement import Access, OpOperands, StridedLoop
from .vector_body import Emitter, thread_range
from .vector_math import VectorMath

Offsets = Sequence[Integer]  # of a tile's rows from its first, in elements: ints, or i64 values at a ragged end


class FlashAttention:
    """What both kernels share. Scratch memory is `[row][query]` unless stated otherwise."""

    def __init__(self, builder: Builder, op: OpOperands, q: int) -> None:
        """q: which operand is the query; key, value and the mask follow it, in the gradient after what was packed."""
        self.builder, self.lanes, self.attributes = builder, builder.lanes, op.attributes
        self.e = VectorMath(builder, np.dtype(np.float32))
        self.q, self.k, self.v = op.operands[q : q + 3]
        self.mask = self._mask(op, 6 if q else 3)
        self.batch, self.heads, self.queries, self.depth = op.shapes[q]
        _, self.groups, self.keys, self.channels = op.shapes[q + 2]
        target = builder.target
        self.high = min(target.tiles.attention_rows, target.rows)
        self.wide = max(
            1, min(target.vectors, target.tiles.attention_queries // self.lanes, -(-self.queries // self.lanes))
        )
        self.width = self.wide * self.lanes  # queries in a block
        self.block = (
            max(1, min(target.tiles.attention_tiles, -(-self.keys // self.high))) * self.high
        )  # keys in a block
        self.blocks = -(-self.queries // self.width)

    def _mask(self, op: OpOperands, number: int) -> Access | None:
        if number >= len(op.operands):
            return None
        mask = op.operands[number]
        return mask._replace(strides=(*[0] * (4 - len(mask.strides)), *mask.strides))

    # ---- addresses -------------------------------------------------------------------------------------------------------

    def scratch(self, *sizes: int) -> list[Value]:
        """Room on the stack for numbers, one address per size."""
        line = CACHE_LINE // 4  # float32 numbers
        whole = [-(-size // line) * line for size in sizes]
        start = self.builder.room(sum(whole))
        return [self.builder.at(start, sum(whole[:i])) for i in range(len(sizes))]

    def rows(self, columns: int) -> int:
        """How many rows of scratch the tiles over `columns` run through."""
        return self.padded(columns) + self.high

    def padded(self, columns: int) -> int:
        return -(-columns // self.lanes) * self.lanes

    def head(self, access: Access, b: Value, h: Value) -> Access:
        """One head of (B, H, ., .)."""
        offset = self.sum(self.times(b, access.strides[0]), self.times(h, access.strides[1]))
        return Access(self.builder.at(access.address, offset, access.dtype), access.strides[2:], access.dtype)

    def group(self, h: Value) -> Value:
        """The head of key and value that head h of the query reads."""
        shared = self.heads // max(self.groups, 1)
        return h if shared == 1 else self.builder.udiv(h, self.builder.index(shared))

    def divided(self, i: Value, size: int) -> tuple[Value, Value]:
        return self.builder.udiv(i, self.builder.index(size)), self.builder.urem(i, self.builder.index(size))

    def times(self, a: Value, n: int) -> Value:
        return self.builder.mul(a, self.builder.index(n))

    def sum(self, a: Value, b: Integer) -> Value:
        return self.builder.add(a, self.builder.index(b) if isinstance(b, int) else b)

    def least(self, a: Value, b: Integer) -> Value:
        return self.builder.intrinsic("smin", a, self.builder.index(b) if isinstance(b, int) else b)

    def upwards(self, a: Integer, unit: int) -> Integer:
        """How many units hold `a`."""
        if isinstance(a, int):
            return -(-a // unit)
        return self.builder.udiv(self.sum(a, unit - 1), self.builder.index(unit))

    def offsets(self, start: Value, count: int, size: Integer, stride: int) -> Offsets:
        """Of `count` rows from `start` on; beyond the last of `size` it is the last again."""
        if isinstance(size, int) and size % count == 0:
            return [m * stride for m in range(count)]
        last = self.builder.sub(self.builder.index(size) if isinstance(size, int) else size, self.sum(start, 1))
        return [self.times(self.least(self.builder.index(m), last), stride) for m in range(count)]

    def lane_queries(self, start: Value) -> list[Value]:
        """The numbers of the block's queries, vectors of i64."""
        builder = self.builder
        last = builder.constant(self.queries - 1, np.int64)
        first = builder.add(builder.splat(start), builder.lane_numbers())
        numbers = [builder.add(first, builder.constant(u * self.lanes, np.int64)) for u in range(self.wide)]
        return [builder.intrinsic("smin", n, last) for n in numbers]

    def spread(self, numbers: Value, stride: int) -> Value:
        return self.builder.mul(numbers, self.builder.constant(stride, np.int64))

    # ---- scratch ---------------------------------------------------------------------------------------------------------

    def line(self, address: Value) -> list[Value]:
        """A row of scratch: one number for every query of the block."""
        return [self.builder.load_vector(self.builder.at(address, u * self.lanes)) for u in range(self.wide)]

    def put_line(self, values: Sequence[Value], address: Value) -> None:
        for u, value in enumerate(values):
            self.builder.store_vector(value, self.builder.at(address, u * self.lanes))

    def each(self, count: Integer, body: LoopBody, carry: Sequence[Value] = ()) -> list[Value]:
        """body(offset of row i, *carry) for `count` rows of scratch."""
        return self.builder.loop(0, count, 1, lambda i, *c: body(self.times(i, self.width), *c), carry)

    def clear(self, address: Value, rows: int) -> None:
        zeros = [self.builder.constant(0.0)] * self.wide
        self.each(rows, lambda i: self.put_line(zeros, self.builder.at(address, i)))

    def scale(self, address: Value, rows: int, factor: Sequence[Value]) -> None:
        def row(i: Value) -> None:
            here = self.builder.at(address, i)
            self.put_line([self.builder.fmul(x, y) for x, y in zip(self.line(here), factor, strict=True)], here)

        self.each(rows, row)

    def pack(
        self, source: Access, columns: int, start: Value, target: Value, factor: float, plain: Value | None = None
    ) -> None:
        """A block of the rows of `source`, times factor, to scratch; and as rows to `plain`, whose row is a query."""
        builder, lanes = self.builder, self.lanes

        def square(u: Value, c: Value) -> None:
            first, column = self.sum(start, self.times(u, lanes)), self.times(c, lanes)
            mask = builder.first_lanes(builder.sub(builder.index(columns), column)) if columns % lanes else None
            here = builder.at(source.address, self.offset_of(source, first, column))
            lines = []
            for i, offset in enumerate(self._query_offsets(first, source.strides[0])):
                number = self._read(builder.at(here, offset), source.strides[1], mask)
                lines.append(builder.fmul(number, builder.constant(factor)) if factor != 1 else number)
                if plain is not None:
                    row = self.times(self.sum(self.times(u, lanes), i), self.padded(columns))
                    builder.store_vector(lines[-1], builder.at(plain, self.sum(row, column)))
            there = builder.at(target, self.sum(self.times(column, self.width), self.times(u, lanes)))
            for i, line in enumerate(builder.transpose(lines)):
                builder.store_vector(line, builder.at(there, i * self.width))

        builder.loop(0, self.wide, 1, lambda u: self._loop(self.upwards(columns, lanes), lambda c: square(u, c)))

    def unpack(self, source: Value, columns: int, start: Value, target: Access) -> None:
        """A block of results from scratch to its rows, which lie contiguous."""
        builder, lanes = self.builder, self.lanes

        def square(u: Value, c: Value) -> None:
            first, column = self.sum(start, self.times(u, lanes)), self.times(c, lanes)
            mask = builder.first_lanes(builder.sub(builder.index(columns), column)) if columns % lanes else None
            there = builder.at(source, self.sum(self.times(column, self.width), self.times(u, lanes)))
            lines = [builder.load_vector(builder.at(there, i * self.width)) for i in range(lanes)]
            here = builder.at(target.address, self.offset_of(target, first, column))
            offsets = self._query_offsets(first, target.strides[0])
            for line, offset in zip(builder.transpose(lines), offsets, strict=True):
                builder.store_vector(line, builder.at(here, offset), mask=mask)

        builder.loop(0, self.wide, 1, lambda u: self._loop(self.upwards(columns, lanes), lambda c: square(u, c)))

    def _loop(self, count: Integer, body: Callable[[Value], None]) -> None:
        self.builder.loop(0, count, 1, body)

    def offset_of(self, access: Access, i: Value, j: Value) -> Value:
        return self.sum(self.times(i, access.strides[0]), self.times(j, access.strides[1]))

    def _query_offsets(self, first: Value, stride: int) -> Offsets:
        if self.queries % self.width == 0:
            return [i * stride for i in range(self.lanes)]
        last = self.builder.index(self.queries - 1)
        beyond = [self.builder.sub(self.least(self.sum(first, i), last), first) for i in range(self.lanes)]
        return [self.times(i, stride) for i in beyond]

    def _read(self, address: Value, stride: int, mask: Value | None) -> Value:
        if stride == 1:
            return self.builder.load_vector(address, mask=mask)
        return self.builder.gather(address, self.spread(self.builder.lane_numbers(), stride), mask=mask)

    # ---- products --------------------------------------------------------------------------------------------------------

    def multiply(
        self,
        base: Value,
        offsets: Offsets,
        step: int,
        count: Integer,
        vectors: Value,
        stride: int,
        sums: Sequence[Value],
    ) -> list[Value]:
        """The microkernel: sums[m][v] += base[offsets[m] + k step] * vectors[k stride][v], along k."""
        builder, wide = self.builder, len(sums) // len(offsets)

        def body(_: Value, base: Value, vectors: Value, *sums: Value) -> list[Value]:
            lines = [builder.load_vector(builder.at(vectors, v * self.lanes)) for v in range(wide)]
            new = []
            for m, offset in enumerate(offsets):
                number = builder.splat(builder.load_scalar(builder.at(base, offset)))
                new += [builder.multiply_add(number, lines[v], sums[m * wide + v]) for v in range(wide)]
            return [builder.at(base, step), builder.at(vectors, stride), *new]

        return builder.loop(0, count, 1, body, [base, vectors, *sums])[2:]

    def across(
        self, source: Access, depth: int, packed: Value, start: Value, count: Integer, target: Value,
        finish: Callable[[list[Value], Value], list[Value]], carry: Sequence[Value] = (),
    ) -> list[Value]:  # fmt: skip
        """target[s] = finish(sum over d of source[s, d] packed[d], s) for `count` keys s from `start` on.

        carry: the largest number so far of every query, if they are wanted.
        """
        builder = self.builder

        def tile(i: Value, *carry: Value) -> list[Value]:
            largest = list(carry)
            row = self.times(i, self.high)
            s = self.sum(start, row)
            offsets = self.offsets(s, self.high, self.keys, 1)
            places = [
                self.times(n, source.strides[0]) if not isinstance(n, int) else n * source.strides[0] for n in offsets
            ]
            base = builder.at(source.address, self.times(s, source.strides[0]))
            zeros = [builder.constant(0.0)] * (self.high * self.wide)
            sums = self.multiply(base, places, source.strides[1], depth, packed, self.width, zeros)
            for m, offset in enumerate(offsets):
                line = finish(sums[m * self.wide : (m + 1) * self.wide], self.sum(s, offset))
                self.put_line(line, builder.at(target, self.times(self.sum(row, m), self.width)))
                largest = [self.larger(x, y) for x, y in zip(line, largest, strict=False)]
            return largest

        return builder.loop(0, self.upwards(count, self.high), 1, tile, carry)

    def along(
        self,
        source: Access,
        columns: int,
        weights: Value,
        start: Value,
        count: Integer,
        target: Value,
        factor: Sequence[Value],
    ) -> None:
        """target[c] = factor target[c] + sum over `count` keys s from `start` on of source[s, c] weights[s]."""
        builder = self.builder
        base = builder.at(source.address, self.times(start, source.strides[0]))

        def tile(i: Value) -> None:
            c = self.times(i, self.high)
            offsets = self.offsets(c, self.high, columns, source.strides[1])
            there = [builder.at(target, self.times(self.sum(c, m), self.width)) for m in range(self.high)]
            old = [x for address in there for x in self.line(address)]
            sums = [builder.fmul(x, factor[n % self.wide]) for n, x in enumerate(old)] if factor else old
            first = builder.at(base, self.times(c, source.strides[1]))
            sums = self.multiply(first, offsets, source.strides[0], count, weights, self.width, sums)
            for m, address in enumerate(there):
                self.put_line(sums[m * self.wide : (m + 1) * self.wide], address)

        builder.loop(0, self.upwards(columns, self.high), 1, tile)

    def into(
        self, target: Access, columns: int, weights: Value, start: Value, count: Integer, rows: Value, queries: Value
    ) -> None:
        """target[s, c] += sum over `queries` t of weights[s][t] rows[t, c] for `count` keys s from `start` on."""
        builder, lanes, units = self.builder, self.lanes, self.padded(columns) // self.lanes
        wide = next(n for n in range(builder.target.vectors, 0, -1) if units % n == 0) if units else 1
        exact = self.keys % self.high == 0 and not (self.attributes["causal"] and self.width % self.high)

        def tile(i: Value, j: Value) -> None:
            row, column = self.times(i, self.high), self.times(j, wide * lanes)
            near = self.offsets(row, self.high, self.high if exact else count, 1)
            stepped = lambda stride: [self.times(n, stride) if not isinstance(n, int) else n * stride for n in near]
            left = [self.sum(builder.sub(builder.index(columns), column), -v * lanes) for v in range(wide)]
            masks = [builder.first_lanes(n) if columns % lanes else None for n in left]
            first = builder.at(target.address, self.offset_of(target, self.sum(start, row), column))
            there = [
                builder.at(builder.at(first, n), v * lanes) for n in stepped(target.strides[0]) for v in range(wide)
            ]
            sums = [builder.load_vector(address, mask=masks[n % wide]) for n, address in enumerate(there)]
            base = builder.at(weights, self.times(row, self.width))
            vectors = builder.at(rows, column)
            sums = self.multiply(base, stepped(self.width), 1, queries, vectors, self.padded(columns), sums)
            for n, address in enumerate(there):
                builder.store_vector(sums[n], address, mask=masks[n % wide])

        tiles = self.upwards(count, self.high)
        builder.loop(0, units // wide, 1, lambda j: builder.loop(0, tiles, 1, lambda i: tile(i, j)))

    # ---- softmax ---------------------------------------------------------------------------------------------------------

    def larger(self, a: Value, b: Value) -> Value:
        """The larger number; b where a is NaN, which shows in the sum that follows."""
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def visible(self, b: Value, h: Value, queries: list[Value]) -> Callable[[list[Value], Value], list[Value]]:
        """A function that turns products into the scores of key s: adds the mask, and hides later keys."""
        builder, nothing = self.builder, self.builder.constant(-np.inf)
        mask = None if self.mask is None else self.head(self.mask, b, h)

        def finish(line: list[Value], s: Value) -> list[Value]:
            if mask is not None:
                here = builder.at(mask.address, self.times(s, mask.strides[1]), mask.dtype)
                read = [self._of_queries(here, mask, numbers) for numbers in queries]
                if mask.dtype == "bool":
                    line = [builder.select(m, x, nothing) for m, x in zip(read, line, strict=True)]
                else:
                    line = [builder.fadd(x, m) for m, x in zip(read, line, strict=True)]
            if self.attributes["causal"]:
                key = builder.splat(s)
                visible = [builder.icmp_signed("<=", key, numbers) for numbers in queries]
                line = [builder.select(m, x, nothing) for m, x in zip(visible, line, strict=True)]
            return line

        return finish

    def _of_queries(self, address: Value, access: Access, numbers: Value) -> Value:
        if access.strides[0] == 0:
            return self.builder.splat(self.builder.load_scalar(address, access.dtype))
        return self.builder.gather(address, self.spread(numbers, access.strides[0]), access.dtype)

    def limit(self, start: Value) -> Integer:
        """How many keys a block of queries attends to."""
        return self.least(self.sum(start, self.width), self.keys) if self.attributes["causal"] else self.keys

    def key_blocks(self, limit: Integer, body: LoopBody, carry: Sequence[Value] = ()) -> list[Value]:
        """body(first key, how many, *carry) for every block of keys."""

        def block(i: Value, *carry: Value) -> Value | Sequence[Value] | None:
            start = self.times(i, self.block)
            left = self.builder.sub(self.builder.index(limit) if isinstance(limit, int) else limit, start)
            whole = isinstance(limit, int) and limit % self.block == 0
            return body(start, self.block if whole else self.least(left, self.block), *carry)

        count = min(1, self.keys) if self.keys <= self.block else self.upwards(limit, self.block)
        return self.builder.loop(0, count, 1, block, carry)


class FlashForward(FlashAttention):
    """`attention`: the result (B, T, H, E), then the logarithms (B, H, T)."""

    def __init__(self, builder: Builder, op: OpOperands) -> None:
        super().__init__(builder, op, 0)
        e, address = self.channels, op.result.address
        self.result = Access(address, (self.queries * self.heads * e, e, self.heads * e, 1), "float32")
        self.logarithms = builder.at(address, self.batch * self.queries * self.heads * e)
        sizes = [self.rows(self.depth), self.rows(e), self.block]
        self.packed, self.sums, self.scores = self.scratch(*(n * self.width for n in sizes))

    def emit(self, thread: Value, threads: Value) -> None:
        """The blocks of queries of all heads are independent, so that threads share them freely."""
        builder = self.builder

        def item(i: Value) -> None:
            rest, block = self.divided(i, self.blocks)
            b, h = self.divided(rest, self.heads)
            self.one(b, h, self.times(block, self.width), builder.at(self.logarithms, self.times(rest, self.queries)))

        builder.loop(*thread_range(builder, self.batch * self.heads * self.blocks, thread, threads), 1, item)

    def one(self, b: Value, h: Value, start: Value, logarithms: Value) -> None:
        """One block of queries, from number `start` on, of one head."""
        builder, e = self.builder, self.e
        group = self.group(h)
        key, value = self.head(self.k, b, group), self.head(self.v, b, group)
        queries = self.lane_queries(start)
        visible = self.visible(b, h, queries)
        self.pack(self.head(self.q, b, h), self.depth, start, self.packed, self.attributes["scale"])
        self.clear(self.sums, self.rows(self.channels))

        def block(first: Value, count: Integer, *state: Value) -> list[Value]:
            old = state[: self.wide]
            new = self.across(key, self.depth, self.packed, first, count, self.scores, visible, old)
            base = self.base(new)
            factor = [e.exp(builder.fsub(x, y)) for x, y in zip(old, base, strict=True)]

            def row(i: Value, *total: Value) -> list[Value]:
                here = builder.at(self.scores, i)
                line = [e.exp(builder.fsub(x, y)) for x, y in zip(self.line(here), base, strict=True)]
                self.put_line(line, here)
                return [builder.fadd(x, y) for x, y in zip(total, line, strict=True)]

            before = [builder.fmul(x, y) for x, y in zip(state[self.wide :], factor, strict=True)]
            total = self.each(count, row, before)
            self.along(value, self.channels, self.scores, first, count, self.sums, factor)
            return [*new, *total]

        nothing = [builder.constant(-np.inf)] * self.wide + [builder.constant(0.0)] * self.wide
        state = self.key_blocks(self.limit(start), block, nothing)
        top = self.base(state[: self.wide])
        total = [builder.select(e.equal(x, e.constant(0)), e.constant(1), x) for x in state[self.wide :]]
        for x, y, numbers in zip(top, total, queries, strict=True):
            builder.scatter(builder.fadd(x, e.log(y)), logarithms, numbers)
        self.scale(self.sums, self.channels, [builder.fdiv(e.constant(1), x) for x in total])
        self.unpack(self.sums, self.channels, start, self.head(self.result, b, h))

    def base(self, top: Sequence[Value]) -> list[Value]:
        """The offset of the scores: their maximum, or 0 for a query without a visible key."""
        nothing = self.e.constant(-np.inf)
        return [self.builder.select(self.e.equal(x, nothing), self.e.constant(0), x) for x in top]


class FlashBackward(FlashAttention):
    """`attention_gradient`: dq (B, T, H, D), dk (B, S, G, D), dv (B, S, G, E)."""

    def __init__(self, builder: Builder, op: OpOperands) -> None:
        super().__init__(builder, op, 2)
        self.g, self.h = op.operands[:2]
        y, (b, t, s) = op.operands[5], (self.batch, self.queries, self.keys)
        h, g, d, e = self.heads, self.groups, self.depth, self.channels
        step = y.strides[0]
        self.y = y._replace(strides=tuple(n * step for n in (t * h * e, e, h * e, 1)))
        self.logarithms = Access(
            builder.at(y.address, b * t * h * e * step), (h * t * step, t * step, step, 0), y.dtype
        )
        dq, dk = op.result.address, builder.at(op.result.address, b * t * h * d)
        dv = builder.at(dk, b * s * g * d)
        self.dq = Access(dq, (t * h * d, d, h * d, 1), "float32")
        self.dk, self.dv = (
            Access(dk, (s * g * d, d, g * d, 1), "float32"),
            Access(dv, (s * g * e, e, g * e, 1), "float32"),
        )
        rows = [
            self.rows(d),
            self.rows(e),
            self.rows(max(d, e)),
            self.padded(d),
            self.padded(e),
            self.block,
            self.block,
        ]
        scratch = self.scratch(*(n * self.width for n in rows))
        self.packed, self.packed_g, self.sums, self.plain, self.plain_g, self.weights, self.slopes = scratch

    def emit(self, thread: Value, threads: Value) -> None:
        """Each thread owns a group of heads, so that gradients of keys and values are added in one order."""
        builder = self.builder

        def item(i: Value) -> None:
            b, group = self.divided(i, self.groups)
            for target, columns in ((self.dk, self.depth), (self.dv, self.channels)):
                StridedLoop(builder, (self.keys, columns), [self.head(target, b, group)]).clear()
            shared = self.heads // max(self.groups, 1)

            def one(j: Value) -> None:
                h = self.sum(self.times(group, shared), j)
                self._loop(self.blocks, lambda block: self.one(b, h, group, self.times(block, self.width)))

            self._loop(shared, one)

        builder.loop(*thread_range(builder, self.batch * self.groups, thread, threads), 1, item)

    def one(self, b: Value, h: Value, group: Value, start: Value) -> None:
        """One block of queries, from number `start` on, of one head."""
        builder, e = self.builder, self.e
        queries = self.lane_queries(start)
        visible = self.visible(b, h, queries)
        self.pack(self.head(self.q, b, h), self.depth, start, self.packed, self.attributes["scale"], self.plain)
        self.pack(self.head(self.g, b, h), self.channels, start, self.packed_g, 1, self.plain_g)
        logarithms = [self._of_queries(*self.head_of_rows(self.logarithms, b, h), numbers) for numbers in queries]
        rows = self.rows_of_products(b, h, start, queries)
        self.clear(self.sums, self.rows(self.depth))
        count = self.least(builder.sub(builder.index(self.queries), start), self.width)
        key, value, dk, dv = (self.head(x, b, group) for x in (self.k, self.v, self.dk, self.dv))

        def block(first: Value, keys: Integer) -> None:
            self.across(key, self.depth, self.packed, first, keys, self.weights, visible)
            self.across(value, self.channels, self.packed_g, first, keys, self.slopes, lambda line, _: line)

            def row(i: Value) -> None:
                here, there = builder.at(self.weights, i), builder.at(self.slopes, i)
                p = [e.exp(builder.fsub(x, y)) for x, y in zip(self.line(here), logarithms, strict=True)]
                away = [builder.fsub(x, y) for x, y in zip(self.line(there), rows, strict=True)]
                self.put_line(p, here)
                self.put_line([builder.fmul(x, y) for x, y in zip(p, away, strict=True)], there)

            self.each(keys, row)
            self.along(key, self.depth, self.slopes, first, keys, self.sums, [])
            self.into(dk, self.depth, self.slopes, first, keys, self.plain, count)
            self.into(dv, self.channels, self.weights, first, keys, self.plain_g, count)

        self.key_blocks(self.limit(start), block)
        self.scale(self.sums, self.depth, [e.constant(self.attributes["scale"])] * self.wide)
        self.unpack(self.sums, self.depth, start, self.head(self.dq, b, h))

    def rows_of_products(self, b: Value, h: Value, start: Value, queries: list[Value]) -> list[Value]:
        """The sum of dL/dy y of every query of the block, less dL/d(its logarithm)."""
        builder = self.builder
        self.pack(self.head(self.y, b, h), self.channels, start, self.sums, 1)

        def add(i: Value, *sums: Value) -> list[Value]:
            lines = zip(self.line(builder.at(self.packed_g, i)), self.line(builder.at(self.sums, i)), sums, strict=True)
            return [builder.multiply_add(x, y, total) for x, y, total in lines]

        sums = self.each(self.channels, add, [builder.constant(0.0)] * self.wide)
        h_here = self.head_of_rows(self.h._replace(strides=(*self.h.strides, 0)), b, h)
        return [builder.fsub(x, self._of_queries(*h_here, n)) for x, n in zip(sums, queries, strict=True)]

    def head_of_rows(self, access: Access, b: Value, h: Value) -> tuple[Value, Access]:
        """One head of (B, H, T), and its address."""
        access_of_head = self.head(access, b, h)
        return access_of_head.address, access_of_head


def emit_attention(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    FlashForward(builder, OpOperands(builder, spec, pointers)).emit(thread, threads)


def emit_gradient(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    FlashBackward(builder, OpOperands(builder, spec, pointers)).emit(thread, threads)


def flops(spec: KernelSpec) -> int:
    """Additions and multiplications of the products, over the scores that are looked at."""
    gradient = spec.instructions[0].op is attention_gradient
    (b, h, t, d), _, (*_, s, e) = spec.shapes[2:5] if gradient else spec.shapes[:3]
    short = min(t, s)
    visible = short * (short + 1) // 2 + (t - short) * s if dict(spec.instructions[0].attributes)["causal"] else t * s
    return 2 * b * h * visible * (3 * d + 2 * e if gradient else d + e)


ATTENTION_EMITTERS: dict[Op, Emitter] = {attention: emit_attention, attention_gradient: emit_gradient}
