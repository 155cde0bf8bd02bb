"""Matrix products: a tile of sums in registers, and what follows elementwise while they are there (floor 4).

One microkernel: sum[m][v] += splat(a[m]) * b[v], for the rows m of a tile and a few vectors v, along k. It serves every
orientation, as the operand with its own axis contiguous gives the vectors and the other is read number by number, where
it lies; and products over several axes, convolutions among them, since every axis is only a stride. For a handful of
rows, such as one example, vectors along k are used instead. k is never shared among threads.

A tile adds up the terms of each sum one after another, whatever its size and the layout. In inference all products do: a
row's bits are then the same whether it is alone or one of many (`KernelSpec.by_row`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..kernel_ir import KernelSpec, Load
from ..llvm import Builder
from ..prepare.contractions import LONG_CONTRACTION
from ..target import L2_BYTES
from .vector_body import Index, LaneContext, thread_range

SHORT = (
    5  # instructions: what follows a product with more is a loop over the rows of the tile, not written out each time
)
K_BLOCK_TERMS = 512  # terms of a part, about


class KBlocking(NamedTuple):
    """How long sums are cut: along summed axis `axis`, `length` numbers at a time, which makes `terms` terms in all."""

    axis: int
    length: int
    terms: int


class KBlock(NamedTuple):
    """One part of all sums: where its operands begin, in elements; how many numbers it takes along the cut axis; begun: an
    i64 that is 0 for the first part."""

    splat: Any
    vectors: Any
    axis: int
    count: Any
    begun: Any


def is_long(spec: KernelSpec) -> bool:
    """Whether the sums are made in parts, which meet in memory; nothing else may then be computed with the result."""
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
            length = -(-sizes[axis] // -(-sizes[axis] // length))  # near-equal parts
            return KBlocking(axis, length, length * inner)
        inner *= sizes[axis]
    return KBlocking(0, sizes[0], inner)


def tile_shape(rows: int, units: int, most_rows: int, most_vectors: int) -> tuple[int, int]:
    """Rows and vectors of a tile: as high as registers allow; wider where there are few rows, higher where few vectors."""
    registers = most_rows * most_vectors
    wide = min(most_vectors, units)
    while rows * (wide + 1) <= registers - wide and wide < units:
        wide += 1
    return min(2 * most_rows, registers // wide), wide


def collapse_axes(spec: KernelSpec) -> KernelSpec:
    """The same product over fewer axes: neighbours of one kind that everything runs through as if they were one are one."""
    product = spec.contraction
    assert product is not None
    rank, domain = len(spec.domain), spec.domain
    loads = [x for instruction in spec.instructions for x in instruction.operands if isinstance(x, Load)]
    lying: list[Any] = [product.splat, product.vectors, *loads, *spec.stores]
    kind = lambda axis: (product.splat.strides[axis] == 0, product.vectors.strides[axis] == 0)
    for outer, inner in itertools.permutations(range(rank), 2):
        joined = all(x.strides[outer] == domain[inner] * x.strides[inner] for x in lying)
        if joined and kind(outer) == kind(inner):
            return collapse_axes(_without(spec, outer, inner))
    for outer in range(len(product.sizes) - 1):
        both = [x.strides[rank:] for x in (product.splat, product.vectors)]
        if all(s[outer] == product.sizes[outer + 1] * s[outer + 1] for s in both):
            return collapse_axes(_summed_as_one(spec, outer))
    return spec


def _without(spec: KernelSpec, outer: int, inner: int) -> KernelSpec:
    """Axis `outer` of the domain as part of axis `inner`."""
    assert spec.contraction is not None
    drop = lambda x: x._replace(strides=tuple(s for axis, s in enumerate(x.strides) if axis != outer))

    def number(axis: int | None) -> int | None:
        axis = inner if axis == outer else axis
        return None if axis is None else axis - (axis > outer)

    sizes = [n * spec.domain[outer] if axis == inner else n for axis, n in enumerate(spec.domain) if axis != outer]
    product = spec.contraction._replace(
        splat=drop(spec.contraction.splat), vectors=drop(spec.contraction.vectors),
        rows=number(spec.contraction.rows), lanes=number(spec.contraction.lanes),
    )  # fmt: skip
    instructions = tuple(
        instruction._replace(operands=tuple(drop(x) if isinstance(x, Load) else x for x in instruction.operands))
        for instruction in spec.instructions
    )
    return spec._replace(
        domain=tuple(sizes), contraction=product, instructions=instructions, stores=tuple(map(drop, spec.stores))
    )


def _summed_as_one(spec: KernelSpec, outer: int) -> KernelSpec:
    """Axis `outer` of what is summed over and the one behind it as one."""
    product, rank = spec.contraction, len(spec.domain)
    assert product is not None
    drop = lambda x: x._replace(strides=tuple(s for axis, s in enumerate(x.strides) if axis != rank + outer))
    sizes = (*product.sizes[:outer], product.sizes[outer] * product.sizes[outer + 1], *product.sizes[outer + 2 :])
    return spec._replace(
        contraction=product._replace(splat=drop(product.splat), vectors=drop(product.vectors), sizes=sizes)
    )


def tiles(size: int, most: int) -> list[tuple[int, int, int]]:
    """`size` cut into parts of at most `most`: (where a run of equal parts begins, how many, their size).

    Equal parts where they are not much smaller, since each size is code of its own; else near-equal ones.
    """
    if size == 0:
        return []
    for part in range(most, (most + 1) // 2, -1):
        if size % part == 0:
            return [(0, size // part, part)]
    count = -(-size // most)
    small, larger = divmod(size, count)
    runs = [(0, larger, small + 1)] if larger else []
    return [*runs, (larger * (small + 1), count - larger, small)] if count - larger else runs


class MatmulEmitter:
    """One product kernel being written."""

    def __init__(
        self, builder: Builder, spec: KernelSpec, pointers: Sequence[Any], flag: Any, thread: Any, threads: Any
    ) -> None:
        spec = collapse_axes(spec)
        assert spec.contraction is not None
        self.builder, self.spec, self.pointers, self.flag = builder, spec, pointers, flag
        self.thread, self.threads, self.lanes = thread, threads, builder.lanes
        self.product = spec.contraction

    def size(self, axis: int | None) -> int:
        return 1 if axis is None else self.spec.domain[axis]

    def summed(self, operand: Load) -> tuple[int, ...]:
        """The strides of an operand along what is summed over."""
        return operand.strides[len(self.spec.domain) :]

    def address(self, context: LaneContext, operand: Load) -> Any:
        return context.address(operand.pointer, operand.offset, operand.strides[: len(self.spec.domain)], operand.dtype)


class TiledMatmul(MatmulEmitter):
    """Tiles of sums: rows of the `splat` operand against vectors of the other, shared out among threads one by one.

    Tiles are numbered: axes that both operands have come first; then blocks of panels (a panel is as wide as a tile, a block
    of them stays in the cache), in a block the rows, for each row of tiles the panels of the block.
    """

    def __init__(self, builder: Builder, spec: KernelSpec, *rest: Any) -> None:
        super().__init__(builder, spec, *rest)
        product, target = self.product, builder.target
        self.outer = [axis for axis in range(len(self.spec.domain)) if axis not in (product.rows, product.lanes)]
        self.columns = self.size(product.lanes)
        units = -(-self.columns // self.lanes)
        high, wide = tile_shape(self.size(product.rows), units, target.rows, target.vectors)
        self.row_runs, self.column_runs = tiles(self.size(product.rows), high), tiles(units, wide)
        self.row_tiles, self.panels = (sum(count for _, count, _ in runs) for runs in (self.row_runs, self.column_runs))
        terms = math.prod(product.sizes)
        self.parts = k_blocking(product.sizes) if is_long(spec) else None
        terms = terms if self.parts is None else self.parts.terms
        self.scratch = builder.room(high * wide * self.lanes, "float32") if len(spec.instructions) > SHORT else None
        self.near = max(1, min(self.panels, L2_BYTES // (4 * max(terms, 1) * wide * self.lanes)))

    def emit(self) -> None:
        builder = self.builder
        count = math.prod(self.size(axis) for axis in self.outer) * self.row_tiles * self.panels
        first, last = thread_range(builder, count, self.thread, self.threads)
        if self.parts is None:
            self._tiles(first, last, None)
        else:
            self._in_parts(lambda part: self._tiles(first, last, part))

    def _tiles(self, first: Any, last: Any, part: KBlock | None) -> None:
        self.builder.loop(first, last, 1, lambda tile: self._numbered(tile, part))

    def _in_parts(self, body: Callable[[KBlock], None]) -> None:
        """Call body for each part of the sums, in order."""
        assert self.parts is not None
        builder, (axis, length) = self.builder, self.parts[:2]
        sizes, strides = self.product.sizes, [self.summed(x) for x in (self.product.splat, self.product.vectors)]

        def nest(k: int, offsets: list[Any], so_far: Any) -> None:
            step = length if k == axis else 1

            def inside(i: Any) -> None:
                moved = [
                    builder.add(o, builder.mul(i, builder.index(s[k]))) for o, s in zip(offsets, strides, strict=True)
                ]
                begun = builder.or_(so_far, i)
                if k < axis:
                    nest(k + 1, moved, begun)
                    return
                left = builder.sub(builder.index(sizes[k]), i)
                whole = sizes[k] % length == 0
                count = length if whole else builder.intrinsic("smin", left, builder.index(length))
                body(KBlock(moved[0], moved[1], axis, count, begun))

            builder.loop(0, sizes[k], step, inside)

        nest(0, [builder.index(0), builder.index(0)], builder.index(0))

    # ---- which tile ----

    def _numbered(self, tile: Any, part: KBlock | None) -> None:
        """The tile of that number."""
        builder, near = self.builder, self.near
        plane = self.row_tiles * self.panels
        outer, rest = self._divided(tile, plane)
        indices: dict[int, Index] = {}
        for axis in reversed(self.outer):
            outer, index = self._divided(outer, self.size(axis))
            indices[axis] = (index, 0)
        if near == self.panels:
            row, panel = self._divided(rest, self.panels)
        else:
            block, rest = self._divided(rest, self.row_tiles * near)
            begin = builder.mul(block, builder.index(near))
            width = builder.intrinsic("smin", builder.index(near), builder.sub(builder.index(self.panels), begin))
            row = builder.udiv(rest, width)
            panel = builder.add(begin, builder.urem(rest, width))
        ragged = self.columns % self.lanes != 0
        self._of_run(self.row_runs, row, False, lambda start, high, _: self._of_run(
            self.column_runs, panel, ragged,
            lambda unit, wide, last: self._tile(indices, start, high, unit, wide, last, part)))  # fmt: skip

    def _divided(self, number: Any, size: int) -> tuple[Any, Any]:
        builder = self.builder
        if size == 1:
            return number, builder.index(0)
        return builder.udiv(number, builder.index(size)), builder.urem(number, builder.index(size))

    def _of_run(
        self, runs: list[tuple[int, int, int]], number: Any, apart: bool, body: Callable[[Any, int, bool], None]
    ) -> None:
        """Call body(start, size, last) for part `number` of the runs; apart: the last part of all is another."""
        builder, seen, cases = self.builder, 0, []
        for run, (start, count, size) in enumerate(runs):
            final = apart and run == len(runs) - 1
            cases += [(seen, count - 1, start, size, False)] if final and count > 1 else []
            at = (count - 1) if final else 0
            cases.append((seen + at, count - at, start + at * size, size, final))
            seen += count
        for first, count, start, size, last in cases:
            place = builder.index(start)
            if count > 1:
                passed = builder.sub(number, builder.index(first))
                place = builder.add(place, builder.mul(passed, builder.index(size)))
            if len(cases) == 1:
                body(place, size, last)
                return
            inside = builder.icmp_unsigned("<", builder.sub(number, builder.index(first)), builder.index(count))
            with builder.when(inside):
                body(place, size, last)

    # ---- one tile ----

    def _tile(
        self, indices: dict[int, Index], row: Any, high: int, unit: Any, wide: int, last: bool, part: KBlock | None
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
        sums = [builder.constant(0.0)] * len(points) if part is None else self._begun(points, part)
        sums = self._sums(context, high, wide, masks, sums, part)
        if self.scratch is None:
            for point, total in zip(points, sums, strict=True):
                self._finish(point, total)
            return
        for i, total in enumerate(sums):
            builder.store_vector(total, builder.at(self.scratch, i * self.lanes))
        builder.loop(0, high, 1, lambda m: self._finish_row(indices, m, wide, masks))

    def _finish(self, point: LaneContext, total: Any) -> None:
        """What follows the sums, at one vector of them, and what is stored of it."""
        values = point.run(self.spec, {0: total})
        for store in self.spec.stores:
            point.store(store, values[store.instruction])

    def _finish_row(self, indices: dict[int, Index], m: Any, wide: int, masks: list[Any]) -> None:
        """The same for row m of the tile, whose sums wait in the scratch."""
        builder, product = self.builder, self.product
        if product.rows is not None:
            indices = {**indices, product.rows: (builder.add(indices[product.rows][0], m), 0)}
        context = LaneContext(builder, self.pointers, self.flag, indices, product.lanes)
        first = builder.at(self.scratch, builder.mul(m, builder.index(wide * self.lanes)))
        for v in range(wide):
            point = context.moved({} if product.lanes is None else {product.lanes: v * self.lanes}, masks[v])
            self._finish(point, builder.load_vector(builder.at(first, v * self.lanes)))

    def _begun(self, points: list[LaneContext], part: KBlock) -> list[Any]:
        """The sums of the parts before, which stand where the result will; zeros for the first."""
        builder, (store,) = self.builder, self.spec.stores
        load = Load(store.pointer, 0, store.strides, store.dtype)
        before = builder.block
        with builder.when(builder.icmp_unsigned("!=", part.begun, builder.index(0))):
            loaded = [point.load(load) for point in points]
            after = builder.block
        sums = []
        for value in loaded:
            total = builder.phi(value.type)
            total.add_incoming(builder.constant(0.0), before)
            total.add_incoming(value, after)
            sums.append(total)
        for point in points:
            point.bases = {}  # those computed inside are not known out here
        return sums

    def _sums(
        self, context: LaneContext, high: int, wide: int, masks: list[Any], sums: list[Any], part: KBlock | None
    ) -> list[Any]:
        """The microkernel, inside the loops over what is summed over."""
        builder, product, dtype = self.builder, self.product, self.product.vectors.dtype
        counts: list[Any] = list(product.sizes)
        a, b = self.address(context, product.splat), self.address(context, product.vectors)
        if part is not None:
            a, b = builder.at(a, part.splat, dtype), builder.at(b, part.vectors, dtype)
            counts = [*[1] * part.axis, part.count, *counts[part.axis + 1 :]]
        step = 0 if product.rows is None else product.splat.strides[product.rows]
        steps = list(zip(counts, self.summed(product.splat), self.summed(product.vectors), strict=True))
        steps = [each for each in steps if not (isinstance(each[0], int) and each[0] == 1)] or [(1, 0, 0)]

        def nest(k: int, a: Any, b: Any, sums: Sequence[Any]) -> list[Any]:
            count, along_a, along_b = steps[k]

            def body(_: Any, a: Any, b: Any, *sums: Any) -> list[Any]:
                new = inner(a, b, sums) if k == len(steps) - 1 else nest(k + 1, a, b, sums)
                return [builder.at(a, along_a), builder.at(b, along_b), *new]

            return builder.loop(0, count, 1, body, [a, b, *sums])[2:]

        def inner(a: Any, b: Any, sums: Sequence[Any]) -> list[Any]:
            lines = [self._line(builder.at(b, v * self.lanes), dtype, masks[v]) for v in range(wide)]
            new = []
            for m in range(high):
                number = builder.splat(builder.load_scalar(builder.at(a, m * step), dtype))
                new += [builder.multiply_add(number, lines[v], sums[m * wide + v]) for v in range(wide)]
            return new

        return nest(0, a, b, sums)

    def _line(self, address: Any, dtype: str, mask: Any) -> Any:
        if self.product.lanes is None:
            return self.builder.splat(self.builder.load_scalar(address, dtype))
        return self.builder.load_vector(address, dtype, mask)


class DotMatmul(MatmulEmitter):
    """A product of few rows: each result is a sum over k in lanes, `lanes` results at a time."""

    def __init__(self, builder: Builder, spec: KernelSpec, *rest: Any) -> None:
        super().__init__(builder, spec, *rest)
        self.lane_axis = self.product.lanes
        self.outer = [axis for axis in range(len(self.spec.domain)) if axis != self.lane_axis]

    def emit(self) -> None:
        size = 1 if self.lane_axis is None else self.spec.domain[self.lane_axis]
        part = thread_range(self.builder, -(-size // self.lanes), self.thread, self.threads)
        self._outer(self.outer, {}, size, part)

    def _outer(self, axes: list[int], indices: dict[int, Index], size: int, part: Any) -> None:
        builder, lanes = self.builder, self.lanes
        if axes:
            body = lambda i: self._outer(axes[1:], {**indices, axes[0]: (i, 0)}, size, part)
            builder.loop(0, self.spec.domain[axes[0]], 1, body)
            return
        full, rest = divmod(size, lanes)
        has_rest = builder.icmp_signed(">", part[1], builder.index(full))
        last = builder.select(has_rest, builder.index(full), part[1])
        builder.loop(part[0], last, 1, lambda u: self._block(indices, builder.mul(u, builder.index(lanes)), lanes))
        if rest:
            with builder.when(builder.and_(has_rest, builder.icmp_signed("<", part[0], part[1]))):
                self._block(indices, builder.index(full * lanes), rest)

    def _block(self, indices: dict[int, Index], start: Any, count: int) -> None:
        builder = self.builder
        if self.lane_axis is not None:
            indices = {**indices, self.lane_axis: (start, 0)}
        mask = builder.first_lanes(count) if count < self.lanes else None
        context = LaneContext(builder, self.pointers, self.flag, indices, self.lane_axis, mask)
        values = context.run(self.spec, {0: self._sums(context, count)})
        for store in self.spec.stores:
            context.store(store, values[store.instruction])

    def _sums(self, context: LaneContext, count: int) -> Any:
        """`count` sums over k, one in each lane."""
        builder, lanes = self.builder, self.lanes
        one, many = self.address(context, self.product.splat), self.address(context, self.product.vectors)
        step = 0 if self.lane_axis is None else self.product.vectors.strides[self.lane_axis]

        def add(k: Any, sums: Sequence[Any], mask: Any) -> list[Any]:
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


class Turned(DotMatmul):
    """The same products, with every sum in the order of its terms, as in a tile: blocks of `lanes` results by `lanes` terms
    are turned in registers, each for all rows."""

    def __init__(self, builder: Builder, spec: KernelSpec, *rest: Any) -> None:
        super().__init__(builder, spec, *rest)
        self.outer = [axis for axis in self.outer if axis != self.product.rows]

    def _block(self, indices: dict[int, Index], start: Any, count: int) -> None:
        builder, rows = self.builder, self.product.rows
        indices = dict(indices)
        if self.lane_axis is not None:
            indices[self.lane_axis] = (start, 0)
        if rows is not None:
            indices[rows] = (builder.index(0), 0)
        mask = builder.first_lanes(count) if count < self.lanes else None
        context = LaneContext(builder, self.pointers, self.flag, indices, self.lane_axis, mask)
        for m, total in enumerate(self._turned(context, count)):
            point = context.moved({} if rows is None else {rows: m}, mask)
            values = point.run(self.spec, {0: total})
            for store in self.spec.stores:
                point.store(store, values[store.instruction])

    def _turned(self, context: LaneContext, count: int) -> list[Any]:
        """For each row a vector of `count` sums over k."""
        builder, lanes, rows = self.builder, self.lanes, self.product.rows
        one, many = self.address(context, self.product.splat), self.address(context, self.product.vectors)
        step = 0 if self.lane_axis is None else self.product.vectors.strides[self.lane_axis]
        row = 0 if rows is None else self.product.splat.strides[rows]

        def add(k: Any, sums: Sequence[Any], terms: int) -> list[Any]:
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


def emit_product(builder: Builder, spec: KernelSpec, pointers: Any, flag: Any, thread: Any, threads: Any) -> None:
    assert spec.contraction is not None
    writer = (Turned if spec.by_row else DotMatmul) if spec.contraction.dots else TiledMatmul
    writer(builder, spec, pointers, flag, thread, threads).emit()
