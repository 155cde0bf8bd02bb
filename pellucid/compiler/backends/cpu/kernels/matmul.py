"""Matmul kernels: register-tiled and dot-product GEMM, with an elementwise epilogue (floor 4).

One microkernel: sum[m][v] += splat(a[m]) * b[v], for the rows m of a tile and a few vectors v, along k. It serves every
orientation: the operand with its own axis contiguous gives the vectors, and the other is read element by element where it
lies. It serves products over several axes too, convolutions among them, since an axis is only a stride. For few rows, such as
one example, vectors along k are used instead. k is never shared among threads.

A tile adds the terms of each sum in order, whatever its size and the layout. In inference all products do, so that the bits
of a row are the same alone and among others (`KernelSpec.by_row`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..costs import K_BLOCK_TERMS, LONG_CONTRACTION
from ..kernel_ir import KernelSpec, Load, Store, merge_axes
from ..llvm import Builder, Integer, Value
from .vector_body import Index, LaneContext, thread_range


class KBlocking(NamedTuple):
    """How long sums are cut into blocks: along summed axis `axis`, `length` elements each, `terms` terms in all."""

    axis: int
    length: int
    terms: int


class KBlock(NamedTuple):
    """A block of all sums: the offsets of its operands in elements, and its length along the cut axis. is_later: an i64 that
    is 0 for the first block."""

    splat: Value
    vectors: Value
    axis: int
    length: Integer
    is_later: Value


def is_long(spec: KernelSpec) -> bool:
    """Whether the sums are made in K blocks, which are added in memory. There is no epilogue then."""
    product = spec.contraction
    return (
        product is not None
        and not product.dots
        and math.prod(product.sizes) >= LONG_CONTRACTION
        and len(spec.instructions) == 1
    )


def k_blocking(sizes: Sequence[int]) -> KBlocking:
    inner = 1
    for axis in reversed(range(len(sizes))):
        if inner * sizes[axis] > K_BLOCK_TERMS:
            length = max(1, K_BLOCK_TERMS // inner)
            length = -(-sizes[axis] // -(-sizes[axis] // length))  # near-equal blocks
            return KBlocking(axis, length, length * inner)
        inner *= sizes[axis]
    return KBlocking(0, sizes[0], inner)


def tile_shape(rows: int, units: int, most_rows: int, most_vectors: int) -> tuple[int, int]:
    """Rows and vectors of a tile: as many as registers allow; wider where there are few rows, higher where there are few vectors."""
    registers = most_rows * most_vectors
    wide = min(most_vectors, units)
    while rows * (wide + 1) <= registers - wide and wide < units:
        wide += 1
    return min(2 * most_rows, registers // wide), wide


def collapse_axes(spec: KernelSpec) -> KernelSpec:
    """Merge adjacent axes of one kind that every operand traverses contiguously."""
    product = spec.contraction
    assert product is not None
    rank, domain = len(spec.domain), spec.domain
    loads = [x for instruction in spec.instructions for x in instruction.operands if isinstance(x, Load)]
    lying: list[Load | Store] = [product.splat, product.vectors, *loads, *spec.stores]
    kind = lambda axis: (product.splat.strides[axis] == 0, product.vectors.strides[axis] == 0)
    for outer, inner in itertools.permutations(range(rank), 2):
        joined = all(x.strides[outer] == domain[inner] * x.strides[inner] for x in lying)
        if joined and kind(outer) == kind(inner):
            return collapse_axes(merge_axes(spec, outer, inner))
    for outer in range(len(product.sizes) - 1):
        both = [x.strides[rank:] for x in (product.splat, product.vectors)]
        if all(s[outer] == product.sizes[outer + 1] * s[outer + 1] for s in both):
            return collapse_axes(_merge_summed_axes(spec, outer))
    return spec


def _merge_summed_axes(spec: KernelSpec, outer: int) -> KernelSpec:
    """Merge the summed axis `outer` into the one behind it."""
    product, rank = spec.contraction, len(spec.domain)
    assert product is not None
    drop = lambda x: x._replace(strides=tuple(s for axis, s in enumerate(x.strides) if axis != rank + outer))
    sizes = (*product.sizes[:outer], product.sizes[outer] * product.sizes[outer + 1], *product.sizes[outer + 2 :])
    return spec._replace(
        contraction=product._replace(splat=drop(product.splat), vectors=drop(product.vectors), sizes=sizes)
    )


def tiles(size: int, most: int) -> list[tuple[int, int, int]]:
    """Cut `size` into tiles of at most `most`: runs of equal tiles as (start, count, size of a tile).

    Equal tiles where they are not much smaller, since each size needs its own code; else near-equal ones.
    """
    if size == 0:
        return []
    for tile in range(most, (most + 1) // 2, -1):
        if size % tile == 0:
            return [(0, size // tile, tile)]
    count = -(-size // most)
    small, larger = divmod(size, count)
    runs = [(0, larger, small + 1)] if larger else []
    return [*runs, (larger * (small + 1), count - larger, small)] if count - larger else runs


class MatmulEmitter:
    """Emits one product kernel: what both strategies share."""

    def __init__(
        self, builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
    ) -> None:
        spec = collapse_axes(spec)
        assert spec.contraction is not None
        self.builder, self.spec, self.pointers, self.flag = builder, spec, pointers, flag
        self.thread, self.threads, self.lanes = thread, threads, builder.lanes
        self.product = spec.contraction

    def size(self, axis: int | None) -> int:
        return 1 if axis is None else self.spec.domain[axis]

    def summed(self, operand: Load) -> tuple[int, ...]:
        """The strides of an operand along the summed axes."""
        return operand.strides[len(self.spec.domain) :]

    def address(self, context: LaneContext, operand: Load) -> Value:
        return context.address(operand.pointer, operand.offset, operand.strides[: len(self.spec.domain)], operand.dtype)


class TiledMatmul(MatmulEmitter):
    """Register-tiled GEMM: rows of the `splat` operand times vectors of the other. Threads share the tiles.

    Tiles are numbered: axes that both operands have come first; then blocks of panels (a panel is as wide as a tile, a block
    of them stays in the cache), in a block the rows, for each row of tiles the panels of the block.
    """

    def __init__(
        self, builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
    ) -> None:
        super().__init__(builder, spec, pointers, flag, thread, threads)
        product, target = self.product, builder.target
        self.outer = [axis for axis in range(len(self.spec.domain)) if axis not in (product.rows, product.lanes)]
        self.columns = self.size(product.lanes)
        units = -(-self.columns // self.lanes)
        high, wide = tile_shape(self.size(product.rows), units, target.rows, target.vectors)
        self.row_runs, self.column_runs = tiles(self.size(product.rows), high), tiles(units, wide)
        self.row_tiles, self.panels = (sum(count for _, count, _ in runs) for runs in (self.row_runs, self.column_runs))
        terms = math.prod(product.sizes)
        self.k_blocking = k_blocking(product.sizes) if is_long(spec) else None
        terms = terms if self.k_blocking is None else self.k_blocking.terms
        self.scratch = (
            builder.room(high * wide * self.lanes, "float32")
            if len(spec.instructions) > target.tiles.unrolled_epilogue
            else None
        )
        self.panels_in_cache = max(1, min(self.panels, target.caches.l2 // (4 * max(terms, 1) * wide * self.lanes)))

    def emit(self) -> None:
        builder = self.builder
        count = math.prod(self.size(axis) for axis in self.outer) * self.row_tiles * self.panels
        first, last = thread_range(builder, count, self.thread, self.threads)
        if self.k_blocking is None:
            self._tiles(first, last, None)
        else:
            self._in_k_blocks(lambda k_block: self._tiles(first, last, k_block))

    def _tiles(self, first: Value, last: Value, k_block: KBlock | None) -> None:
        self.builder.loop(first, last, 1, lambda tile: self._numbered(tile, k_block))

    def _in_k_blocks(self, body: Callable[[KBlock], None]) -> None:
        """Call `body` for each K block, in order."""
        assert self.k_blocking is not None
        builder, (axis, length) = self.builder, self.k_blocking[:2]
        sizes, strides = self.product.sizes, [self.summed(x) for x in (self.product.splat, self.product.vectors)]

        def nest(k: int, offsets: list[Value], so_far: Value) -> None:
            step = length if k == axis else 1

            def inside(i: Value) -> None:
                moved = [
                    builder.add(o, builder.mul(i, builder.index(s[k]))) for o, s in zip(offsets, strides, strict=True)
                ]
                is_later = builder.or_(so_far, i)
                if k < axis:
                    nest(k + 1, moved, is_later)
                    return
                left = builder.sub(builder.index(sizes[k]), i)
                whole = sizes[k] % length == 0
                count = length if whole else builder.intrinsic("smin", left, builder.index(length))
                body(KBlock(moved[0], moved[1], axis, count, is_later))

            builder.loop(0, sizes[k], step, inside)

        nest(0, [builder.index(0), builder.index(0)], builder.index(0))

    # ---- which tile ----

    def _numbered(self, tile: Value, k_block: KBlock | None) -> None:
        """Emit the tile with that number."""
        builder, panels_in_cache = self.builder, self.panels_in_cache
        plane = self.row_tiles * self.panels
        outer, rest = self._divided(tile, plane)
        indices: dict[int, Index] = {}
        for axis in reversed(self.outer):
            outer, index = self._divided(outer, self.size(axis))
            indices[axis] = (index, 0)
        if panels_in_cache == self.panels:
            row, panel = self._divided(rest, self.panels)
        else:
            block, rest = self._divided(rest, self.row_tiles * panels_in_cache)
            begin = builder.mul(block, builder.index(panels_in_cache))
            width = builder.intrinsic(
                "smin", builder.index(panels_in_cache), builder.sub(builder.index(self.panels), begin)
            )
            row = builder.udiv(rest, width)
            panel = builder.add(begin, builder.urem(rest, width))
        ragged = self.columns % self.lanes != 0
        self._of_run(self.row_runs, row, False, lambda start, high, _: self._of_run(
            self.column_runs, panel, ragged,
            lambda unit, wide, last: self._tile(indices, start, high, unit, wide, last, k_block)))  # fmt: skip

    def _divided(self, number: Value, size: int) -> tuple[Value, Value]:
        builder = self.builder
        if size == 1:
            return number, builder.index(0)
        return builder.udiv(number, builder.index(size)), builder.urem(number, builder.index(size))

    def _of_run(
        self, runs: list[tuple[int, int, int]], number: Value, apart: bool, body: Callable[[Value, int, bool], None]
    ) -> None:
        """Call body(start, size, last) for tile `number` of the runs. apart: the last tile of all needs its own code."""
        builder, earlier, cases = self.builder, 0, []
        for run, (start, count, size) in enumerate(runs):
            final = apart and run == len(runs) - 1
            cases += [(earlier, count - 1, start, size, False)] if final and count > 1 else []
            at = (count - 1) if final else 0
            cases.append((earlier + at, count - at, start + at * size, size, final))
            earlier += count
        for first, count, start, size, last in cases:
            first_unit = builder.index(start)
            if count > 1:
                passed = builder.sub(number, builder.index(first))
                first_unit = builder.add(first_unit, builder.mul(passed, builder.index(size)))
            if len(cases) == 1:
                body(first_unit, size, last)
                return
            inside = builder.icmp_unsigned("<", builder.sub(number, builder.index(first)), builder.index(count))
            with builder.when(inside):
                body(first_unit, size, last)

    # ---- one tile ----

    def _tile(
        self,
        indices: dict[int, Index],
        row: Value,
        high: int,
        unit: Value,
        wide: int,
        last: bool,
        k_block: KBlock | None,
    ) -> None:
        builder, product = self.builder, self.product
        indices = dict(indices)
        if product.rows is not None:
            indices[product.rows] = (row, 0)
        if product.lanes is not None:
            indices[product.lanes] = (builder.mul(unit, builder.index(self.lanes)), 0)
        rest = self.columns % self.lanes
        masks = [builder.first_lanes(rest) if last and v == wide - 1 and rest else None for v in range(wide)]
        context = LaneContext(builder, self.pointers, self.flag, indices, product.lanes)
        points = []
        for m in range(high):
            for v in range(wide):
                axes = ((product.rows, m), (product.lanes, v * self.lanes))
                points.append(context.moved({axis: n for axis, n in axes if axis is not None}, masks[v]))
        sums = [builder.constant(0.0)] * len(points) if k_block is None else self._previous_sums(points, k_block)
        sums = self._sums(context, high, wide, masks, sums, k_block)
        if self.scratch is None:
            for point, total in zip(points, sums, strict=True):
                self._finish(point, total)
            return
        for i, total in enumerate(sums):
            builder.store_vector(total, builder.at(self.scratch, i * self.lanes))
        builder.loop(0, high, 1, lambda m: self._finish_row(indices, m, wide, masks))

    def _finish(self, point: LaneContext, total: Value) -> None:
        """Emit the epilogue and the stores at one vector of sums."""
        values = point.run(self.spec, {0: total})
        for store in self.spec.stores:
            point.store(store, values[store.instruction])

    def _finish_row(self, indices: dict[int, Index], m: Value, wide: int, masks: list[Value | None]) -> None:
        """The same for row m of the tile, whose sums are in the scratch memory."""
        builder, product = self.builder, self.product
        assert self.scratch is not None
        if product.rows is not None:
            indices = {**indices, product.rows: (builder.add(indices[product.rows][0], m), 0)}
        context = LaneContext(builder, self.pointers, self.flag, indices, product.lanes)
        first = builder.at(self.scratch, builder.mul(m, builder.index(wide * self.lanes)))
        for v in range(wide):
            point = context.moved({} if product.lanes is None else {product.lanes: v * self.lanes}, masks[v])
            self._finish(point, builder.load_vector(builder.at(first, v * self.lanes)))

    def _previous_sums(self, points: list[LaneContext], k_block: KBlock) -> list[Value]:
        """The sums of the K blocks before, which are in the result; zeros for the first block."""
        builder, (store,) = self.builder, self.spec.stores
        load = Load(store.pointer, 0, store.strides, store.dtype)
        before = builder.block
        with builder.when(builder.icmp_unsigned("!=", k_block.is_later, builder.index(0))):
            loaded = [point.load(load) for point in points]
            after = builder.block
        sums: list[Value] = []
        for value in loaded:
            total = builder.phi(value.type)
            total.add_incoming(builder.constant(0.0), before)
            total.add_incoming(value, after)
            sums.append(total)
        for point in points:
            point.bases = {}  # addresses computed in the branch are not valid outside
        return sums

    def _sums(
        self,
        context: LaneContext,
        high: int,
        wide: int,
        masks: list[Value | None],
        sums: list[Value],
        k_block: KBlock | None,
    ) -> list[Value]:
        """The microkernel, inside loops over the summed axes."""
        builder, product, dtype = self.builder, self.product, self.product.vectors.dtype
        counts: list[Integer] = list(product.sizes)
        a, b = self.address(context, product.splat), self.address(context, product.vectors)
        if k_block is not None:
            a, b = builder.at(a, k_block.splat, dtype), builder.at(b, k_block.vectors, dtype)
            counts = [*[1] * k_block.axis, k_block.length, *counts[k_block.axis + 1 :]]
        step = 0 if product.rows is None else product.splat.strides[product.rows]
        steps = list(zip(counts, self.summed(product.splat), self.summed(product.vectors), strict=True))
        steps = [each for each in steps if not (isinstance(each[0], int) and each[0] == 1)] or [(1, 0, 0)]

        def nest(k: int, a: Value, b: Value, sums: Sequence[Value]) -> list[Value]:
            count, along_a, along_b = steps[k]

            def body(_: Value, a: Value, b: Value, *sums: Value) -> list[Value]:
                new = inner(a, b, sums) if k == len(steps) - 1 else nest(k + 1, a, b, sums)
                return [builder.at(a, along_a), builder.at(b, along_b), *new]

            return builder.loop(0, count, 1, body, [a, b, *sums])[2:]

        def inner(a: Value, b: Value, sums: Sequence[Value]) -> list[Value]:
            lines = [self._line(builder.at(b, v * self.lanes), dtype, masks[v]) for v in range(wide)]
            new = []
            for m in range(high):
                number = builder.splat(builder.load_scalar(builder.at(a, m * step), dtype))
                new += [builder.multiply_add(number, lines[v], sums[m * wide + v]) for v in range(wide)]
            return new

        return nest(0, a, b, sums)

    def _line(self, address: Value, dtype: str, mask: Value | None) -> Value:
        if self.product.lanes is None:
            return self.builder.splat(self.builder.load_scalar(address, dtype))
        return self.builder.load_vector(address, dtype, mask)


class DotMatmul(MatmulEmitter):
    """Dot-product GEMM for few rows: each result is a sum over k in lanes, `lanes` results at a time."""

    def __init__(
        self, builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
    ) -> None:
        super().__init__(builder, spec, pointers, flag, thread, threads)
        self.lane_axis = self.product.lanes
        self.outer = [axis for axis in range(len(self.spec.domain)) if axis != self.lane_axis]

    def emit(self) -> None:
        size = 1 if self.lane_axis is None else self.spec.domain[self.lane_axis]
        bounds = thread_range(self.builder, -(-size // self.lanes), self.thread, self.threads)
        self._outer(self.outer, {}, size, bounds)

    def _outer(self, axes: list[int], indices: dict[int, Index], size: int, bounds: tuple[Value, Value]) -> None:
        builder, lanes = self.builder, self.lanes
        if axes:
            body = lambda i: self._outer(axes[1:], {**indices, axes[0]: (i, 0)}, size, bounds)
            builder.loop(0, self.spec.domain[axes[0]], 1, body)
            return
        full, rest = divmod(size, lanes)
        has_rest = builder.icmp_signed(">", bounds[1], builder.index(full))
        last = builder.select(has_rest, builder.index(full), bounds[1])
        builder.loop(bounds[0], last, 1, lambda u: self._block(indices, builder.mul(u, builder.index(lanes)), lanes))
        if rest:
            with builder.when(builder.and_(has_rest, builder.icmp_signed("<", bounds[0], bounds[1]))):
                self._block(indices, builder.index(full * lanes), rest)

    def _block(self, indices: dict[int, Index], start: Value, count: int) -> None:
        builder = self.builder
        if self.lane_axis is not None:
            indices = {**indices, self.lane_axis: (start, 0)}
        mask = builder.first_lanes(count) if count < self.lanes else None
        context = LaneContext(builder, self.pointers, self.flag, indices, self.lane_axis, mask)
        values = context.run(self.spec, {0: self._sums(context, count)})
        for store in self.spec.stores:
            context.store(store, values[store.instruction])

    def _sums(self, context: LaneContext, count: int) -> Value:
        """`count` sums over k, one in each lane."""
        builder, lanes = self.builder, self.lanes
        one, many = self.address(context, self.product.splat), self.address(context, self.product.vectors)
        step = 0 if self.lane_axis is None else self.product.vectors.strides[self.lane_axis]

        def add(k: Value, sums: Sequence[Value], mask: Value | None) -> list[Value]:
            x = builder.load_vector(builder.at(one, k), mask=mask)
            lines = [builder.load_vector(builder.at(builder.at(many, k), r * step), mask=mask) for r in range(count)]
            return [builder.multiply_add(x, line, total) for line, total in zip(lines, sums, strict=True)]

        full, rest = divmod(math.prod(self.product.sizes), lanes)
        body = lambda u, *sums: add(builder.mul(u, builder.index(lanes)), sums, None)
        sums = builder.loop(0, full, 1, body, [builder.constant(0.0)] * count)
        if rest:
            sums = add(builder.index(full * lanes), sums, builder.first_lanes(rest))
        columns = builder.transpose([*sums, *[sums[0]] * (lanes - count)])
        while len(columns) > 1:
            columns = [builder.fadd(x, y) for x, y in zip(columns[::2], columns[1::2], strict=True)]
        return columns[0]


class TransposedDotMatmul(DotMatmul):
    """Dot-product GEMM with every sum in the order of its terms, as in a tile: blocks of `lanes` results by `lanes` terms are
    transposed in registers, each for all rows."""

    def __init__(
        self, builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
    ) -> None:
        super().__init__(builder, spec, pointers, flag, thread, threads)
        self.outer = [axis for axis in self.outer if axis != self.product.rows]

    def _block(self, indices: dict[int, Index], start: Value, count: int) -> None:
        builder, rows = self.builder, self.product.rows
        indices = dict(indices)
        if self.lane_axis is not None:
            indices[self.lane_axis] = (start, 0)
        if rows is not None:
            indices[rows] = (builder.index(0), 0)
        mask = builder.first_lanes(count) if count < self.lanes else None
        context = LaneContext(builder, self.pointers, self.flag, indices, self.lane_axis, mask)
        for m, total in enumerate(self._transposed_sums(context, count)):
            point = context.moved({} if rows is None else {rows: m}, mask)
            values = point.run(self.spec, {0: total})
            for store in self.spec.stores:
                point.store(store, values[store.instruction])

    def _transposed_sums(self, context: LaneContext, count: int) -> list[Value]:
        """For each row a vector of `count` sums over k."""
        builder, lanes, rows = self.builder, self.lanes, self.product.rows
        one, many = self.address(context, self.product.splat), self.address(context, self.product.vectors)
        step = 0 if self.lane_axis is None else self.product.vectors.strides[self.lane_axis]
        row = 0 if rows is None else self.product.splat.strides[rows]

        def add(k: Value, sums: Sequence[Value], terms: int) -> list[Value]:
            mask = builder.first_lanes(terms) if terms < lanes else None
            here, there = builder.at(one, k), builder.at(many, k)
            lines = [builder.load_vector(builder.at(there, r * step), mask=mask) for r in range(count)]
            for i, line in enumerate(builder.transpose([*lines, *[lines[0]] * (lanes - count)])[:terms]):
                numbers = [builder.splat(builder.load_scalar(builder.at(here, m * row + i))) for m in range(len(sums))]
                sums = [builder.multiply_add(x, line, total) for x, total in zip(numbers, sums, strict=True)]
            return list(sums)

        full, rest = divmod(math.prod(self.product.sizes), lanes)
        sums = [builder.constant(0.0)] * self.size(rows)
        sums = builder.loop(0, full, 1, lambda u, *sums: add(builder.mul(u, builder.index(lanes)), sums, lanes), sums)
        return add(builder.index(full * lanes), sums, rest) if rest else sums


def emit_product(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    assert spec.contraction is not None
    writer = (TransposedDotMatmul if spec.by_row else DotMatmul) if spec.contraction.dots else TiledMatmul
    writer(builder, spec, pointers, flag, thread, threads).emit()
