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
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from ..costs import K_BLOCK_TERMS, LONG_CONTRACTION
from ..kernel_ir import Contraction, KernelSpec, Load, Store, merge_axes
from ..llvm import Builder, Integer, Value
from ..target import Target
from .vector_body import Indices, LaneContext, PointAt, loop_axes, loop_blocks, thread_range

Run = tuple[int, int, int]  # equal tiles one after another: where they start, how many, and the size of each


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


def tiles(size: int, most: int) -> list[Run]:
    """Cut `size` into tiles of at most `most`: runs of equal tiles.

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


def tile_count(runs: list[Run]) -> int:
    return sum(count for _, count, _ in runs)


# ---- what the strategies share -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """A product to emit. point_at(indices, lane_axis, mask): makes a point of its domain."""

    spec: KernelSpec
    terms: Contraction
    point_at: PointAt

    def size(self, axis: int | None) -> int:
        return 1 if axis is None else self.spec.domain[axis]

    def along_sums(self, operand: Load) -> tuple[int, ...]:
        """The strides of an operand along the summed axes."""
        return operand.strides[len(self.spec.domain) :]

    def stride(self, operand: Load, axis: int | None) -> int:
        return 0 if axis is None else operand.strides[axis]

    def addresses(self, point: LaneContext) -> tuple[Value, Value]:
        """Of the first terms of `splat` and `vectors` at a point."""
        rank, operands = len(self.spec.domain), (self.terms.splat, self.terms.vectors)
        splat, vectors = (point.address(x.pointer, x.offset, x.strides[:rank], x.dtype) for x in operands)
        return splat, vectors

    def finish(self, point: LaneContext, total: Value) -> None:
        """Emit the epilogue and the stores at one vector of sums."""
        values = point.run(self.spec, {0: total})
        for store in self.spec.stores:
            point.store(store, values[store.instruction])


def emit_product(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    spec = collapse_axes(spec)
    assert spec.contraction is not None
    product = Product(spec, spec.contraction, partial(LaneContext, builder, pointers, flag))
    if spec.contraction.dots:
        _emit_dots(builder, product, thread, threads)
    else:
        _emit_tiles(builder, product, cut_into_tiles(product, builder.target), thread, threads)


# ---- tiles ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tiling:
    """Register-tiled GEMM: rows of the `splat` operand times vectors of the other, in tiles. Threads share the tiles.

    Tiles are numbered: axes that both operands have (`outer`) come first; then blocks of panels (a panel is as wide as a tile,
    `panels_in_cache` of them stay in the cache), in a block the rows, for each row of tiles the panels of the block.
    high, wide: rows and vectors of a tile, at most. row_runs, panel_runs: see `tiles`.
    """

    outer: tuple[int, ...]
    high: int
    wide: int
    row_runs: list[Run]
    panel_runs: list[Run]
    panels_in_cache: int
    k_blocking: KBlocking | None

    @property
    def rows(self) -> int:
        return tile_count(self.row_runs)

    @property
    def panels(self) -> int:
        return tile_count(self.panel_runs)


def cut_into_tiles(product: Product, target: Target) -> Tiling:
    terms = product.terms
    outer = tuple(axis for axis in range(len(product.spec.domain)) if axis not in (terms.rows, terms.lanes))
    rows, units = product.size(terms.rows), -(-product.size(terms.lanes) // target.lanes)
    high, wide = tile_shape(rows, units, target.rows, target.vectors)
    row_runs, panel_runs = tiles(rows, high), tiles(units, wide)
    blocking = k_blocking(terms.sizes) if is_long(product.spec) else None
    depth = math.prod(terms.sizes) if blocking is None else blocking.terms
    in_cache = target.caches.l2 // (4 * max(depth, 1) * wide * target.lanes)
    return Tiling(outer, high, wide, row_runs, panel_runs, max(1, min(tile_count(panel_runs), in_cache)), blocking)


@dataclass(frozen=True)
class Tile:
    """One tile: its first point, its rows and vectors, and the lanes that each vector has."""

    indices: Indices
    high: int
    masks: list[Value | None]

    @property
    def wide(self) -> int:
        return len(self.masks)


def _emit_tiles(builder: Builder, product: Product, tiling: Tiling, thread: Value, threads: Value) -> None:
    scratch = None
    if len(product.spec.instructions) > builder.target.tiles.unrolled_epilogue:
        scratch = builder.room(tiling.high * tiling.wide * builder.lanes, "float32")
    count = math.prod(product.size(axis) for axis in tiling.outer) * tiling.rows * tiling.panels
    first, last = thread_range(builder, count, thread, threads)

    def in_block(k_block: KBlock | None) -> None:
        one = lambda tile: _emit_tile(builder, product, tile, scratch, k_block)
        builder.loop(first, last, 1, lambda number: _find_tile(builder, product, tiling, number, one))

    if tiling.k_blocking is None:
        in_block(None)
    else:
        _loop_k_blocks(builder, product, tiling.k_blocking, in_block)


def _loop_k_blocks(builder: Builder, product: Product, blocking: KBlocking, body: Callable[[KBlock], None]) -> None:
    """Call `body` for each K block, in order."""
    sizes = product.terms.sizes
    strides = [product.along_sums(x) for x in (product.terms.splat, product.terms.vectors)]

    def nest(k: int, offsets: list[Value], so_far: Value) -> None:
        def inside(i: Value) -> None:
            moved = [builder.add(o, builder.mul(i, builder.index(s[k]))) for o, s in zip(offsets, strides, strict=True)]
            is_later = builder.or_(so_far, i)
            if k < blocking.axis:
                nest(k + 1, moved, is_later)
                return
            left = builder.sub(builder.index(sizes[k]), i)
            whole = sizes[k] % blocking.length == 0
            count = blocking.length if whole else builder.intrinsic("smin", left, builder.index(blocking.length))
            body(KBlock(moved[0], moved[1], k, count, is_later))

        builder.loop(0, sizes[k], blocking.length if k == blocking.axis else 1, inside)

    nest(0, [builder.index(0), builder.index(0)], builder.index(0))


def _find_tile(builder: Builder, product: Product, tiling: Tiling, number: Value, body: Callable[[Tile], None]) -> None:
    """Emit `body` for the tile with that number."""
    terms = product.terms
    indices, row, panel = _place_of_tile(builder, product, tiling, number)
    rest = product.size(terms.lanes) % builder.lanes

    def tile(start: Value, high: int, unit: Value, wide: int, last: bool) -> None:
        here = dict(indices)
        if terms.rows is not None:
            here[terms.rows] = (start, 0)
        if terms.lanes is not None:
            here[terms.lanes] = (builder.mul(unit, builder.index(builder.lanes)), 0)
        masks = [builder.first_lanes(rest) if last and v == wide - 1 else None for v in range(wide)]
        body(Tile(here, high, masks))

    def in_row(start: Value, high: int, _: bool) -> None:
        in_panel = lambda unit, wide, last: tile(start, high, unit, wide, last)
        _of_run(builder, tiling.panel_runs, panel, rest != 0, in_panel)

    _of_run(builder, tiling.row_runs, row, False, in_row)


def _place_of_tile(builder: Builder, product: Product, tiling: Tiling, number: Value) -> tuple[Indices, Value, Value]:
    """The indices of the outer axes, the row of tiles and the panel."""
    rows, panels, in_cache = tiling.rows, tiling.panels, tiling.panels_in_cache
    outer, rest = _divided(builder, number, rows * panels)
    indices: Indices = {}
    for axis in reversed(tiling.outer):
        outer, index = _divided(builder, outer, product.size(axis))
        indices[axis] = (index, 0)
    if in_cache == panels:
        return indices, *_divided(builder, rest, panels)
    block, rest = _divided(builder, rest, rows * in_cache)
    begin = builder.mul(block, builder.index(in_cache))
    width = builder.intrinsic("smin", builder.index(in_cache), builder.sub(builder.index(panels), begin))
    row = builder.udiv(rest, width)
    return indices, row, builder.add(begin, builder.urem(rest, width))


def _divided(builder: Builder, number: Value, size: int) -> tuple[Value, Value]:
    if size == 1:
        return number, builder.index(0)
    return builder.udiv(number, builder.index(size)), builder.urem(number, builder.index(size))


def _of_run(
    builder: Builder, runs: list[Run], number: Value, apart: bool, body: Callable[[Value, int, bool], None]
) -> None:
    """Call body(start, size, last) for tile `number` of the runs. apart: the last tile of all needs its own code."""
    earlier, cases = 0, []
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


# ---- one tile ------------------------------------------------------------------------------------------------------------


def _emit_tile(builder: Builder, product: Product, tile: Tile, scratch: Value | None, k_block: KBlock | None) -> None:
    """scratch: where the sums of the tile lie while the epilogue goes over its rows; None where it is unrolled."""
    terms = product.terms
    context = product.point_at(tile.indices, terms.lanes, None)
    points = []
    for m in range(tile.high):
        for v, mask in enumerate(tile.masks):
            axes = ((terms.rows, m), (terms.lanes, v * builder.lanes))
            points.append(context.moved({axis: n for axis, n in axes if axis is not None}, mask))
    sums = [builder.constant(0.0)] * len(points)
    if k_block is not None:
        sums = _previous_sums(builder, product, points, k_block)
    sums = _sums_of_tile(builder, product, tile, product.addresses(context), sums, k_block)
    if scratch is None:
        for point, total in zip(points, sums, strict=True):
            product.finish(point, total)
        return
    for i, total in enumerate(sums):
        builder.store_vector(total, builder.at(scratch, i * builder.lanes))
    builder.loop(0, tile.high, 1, lambda m: _finish_row(builder, product, tile, m, scratch))


def _finish_row(builder: Builder, product: Product, tile: Tile, m: Value, scratch: Value) -> None:
    """The epilogue and the stores of row m of the tile, whose sums are in the scratch memory."""
    terms, indices = product.terms, tile.indices
    if terms.rows is not None:
        indices = {**indices, terms.rows: (builder.add(indices[terms.rows][0], m), 0)}
    context = product.point_at(indices, terms.lanes, None)
    first = builder.at(scratch, builder.mul(m, builder.index(tile.wide * builder.lanes)))
    for v, mask in enumerate(tile.masks):
        point = context.moved({} if terms.lanes is None else {terms.lanes: v * builder.lanes}, mask)
        product.finish(point, builder.load_vector(builder.at(first, v * builder.lanes)))


def _previous_sums(builder: Builder, product: Product, points: list[LaneContext], k_block: KBlock) -> list[Value]:
    """The sums of the K blocks before, which are in the result; zeros for the first block."""
    (store,) = product.spec.stores
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


def _sums_of_tile(
    builder: Builder,
    product: Product,
    tile: Tile,
    addresses: tuple[Value, Value],
    sums: list[Value],
    k_block: KBlock | None,
) -> list[Value]:
    """The microkernel, inside loops over the summed axes."""
    terms, dtype, (a, b) = product.terms, product.terms.vectors.dtype, addresses
    counts: list[Integer] = list(terms.sizes)
    if k_block is not None:
        a, b = builder.at(a, k_block.splat, dtype), builder.at(b, k_block.vectors, dtype)
        counts = [*[1] * k_block.axis, k_block.length, *counts[k_block.axis + 1 :]]
    step = product.stride(terms.splat, terms.rows)
    steps = list(zip(counts, product.along_sums(terms.splat), product.along_sums(terms.vectors), strict=True))
    steps = [each for each in steps if not (isinstance(each[0], int) and each[0] == 1)] or [(1, 0, 0)]

    def nest(k: int, a: Value, b: Value, sums: Sequence[Value]) -> list[Value]:
        count, along_a, along_b = steps[k]

        def body(_: Value, a: Value, b: Value, *sums: Value) -> list[Value]:
            new = inner(a, b, sums) if k == len(steps) - 1 else nest(k + 1, a, b, sums)
            return [builder.at(a, along_a), builder.at(b, along_b), *new]

        return builder.loop(0, count, 1, body, [a, b, *sums])[2:]

    def inner(a: Value, b: Value, sums: Sequence[Value]) -> list[Value]:
        lines = [line(builder.at(b, v * builder.lanes), mask) for v, mask in enumerate(tile.masks)]
        new = []
        for m in range(tile.high):
            number = builder.splat(builder.load_scalar(builder.at(a, m * step), dtype))
            new += [builder.multiply_add(number, x, sums[m * tile.wide + v]) for v, x in enumerate(lines)]
        return new

    def line(address: Value, mask: Value | None) -> Value:
        if terms.lanes is None:
            return builder.splat(builder.load_scalar(address, dtype))
        return builder.load_vector(address, dtype, mask)

    return nest(0, a, b, sums)


# ---- dot products --------------------------------------------------------------------------------------------------------


def _emit_dots(builder: Builder, product: Product, thread: Value, threads: Value) -> None:
    """Dot-product GEMM for few rows: each result is a sum over k in lanes, `lanes` results at a time.

    In inference every sum is made in the order of its terms, as in a tile, and a block has all rows.
    """
    terms, domain, by_row = product.terms, product.spec.domain, product.spec.by_row
    inside = (terms.lanes, terms.rows) if by_row else (terms.lanes,)
    size = product.size(terms.lanes)
    bounds = thread_range(builder, -(-size // builder.lanes), thread, threads)

    def block(indices: Indices, start: Value, count: int) -> None:
        if terms.lanes is not None:
            indices = {**indices, terms.lanes: (start, 0)}
        mask = builder.first_lanes(count) if count < builder.lanes else None
        (_block_in_order if by_row else _block_of_dots)(builder, product, indices, count, mask)

    others = [axis for axis in range(len(domain)) if axis not in inside]
    along = lambda indices: loop_blocks(builder, size, bounds, lambda start, count: block(indices, start, count))
    loop_axes(builder, domain, others, along)


def _block_of_dots(builder: Builder, product: Product, indices: Indices, count: int, mask: Value | None) -> None:
    """`count` sums over k, one in each lane."""
    terms, lanes = product.terms, builder.lanes
    context = product.point_at(indices, terms.lanes, mask)
    one, many = product.addresses(context)
    step = product.stride(terms.vectors, terms.lanes)

    def add(k: Value, sums: Sequence[Value], mask: Value | None) -> list[Value]:
        x = builder.load_vector(builder.at(one, k), mask=mask)
        lines = [builder.load_vector(builder.at(builder.at(many, k), r * step), mask=mask) for r in range(count)]
        return [builder.multiply_add(x, line, total) for line, total in zip(lines, sums, strict=True)]

    full, rest = divmod(math.prod(terms.sizes), lanes)
    body = lambda u, *sums: add(builder.mul(u, builder.index(lanes)), sums, None)
    sums = builder.loop(0, full, 1, body, [builder.constant(0.0)] * count)
    if rest:
        sums = add(builder.index(full * lanes), sums, builder.first_lanes(rest))
    columns = builder.transpose([*sums, *[sums[0]] * (lanes - count)])
    while len(columns) > 1:
        columns = [builder.fadd(x, y) for x, y in zip(columns[::2], columns[1::2], strict=True)]
    product.finish(context, columns[0])


def _block_in_order(builder: Builder, product: Product, indices: Indices, count: int, mask: Value | None) -> None:
    """For each row a vector of `count` sums over k, in the order of their terms: blocks of `lanes` results by `lanes` terms
    are transposed in registers, each for all rows."""
    terms, lanes = product.terms, builder.lanes
    if terms.rows is not None:
        indices = {**indices, terms.rows: (builder.index(0), 0)}
    context = product.point_at(indices, terms.lanes, mask)
    one, many = product.addresses(context)
    step, row = product.stride(terms.vectors, terms.lanes), product.stride(terms.splat, terms.rows)

    def add(k: Value, sums: Sequence[Value], count_of_terms: int) -> list[Value]:
        mask = builder.first_lanes(count_of_terms) if count_of_terms < lanes else None
        here, there = builder.at(one, k), builder.at(many, k)
        lines = [builder.load_vector(builder.at(there, r * step), mask=mask) for r in range(count)]
        columns = builder.transpose([*lines, *[lines[0]] * (lanes - count)])
        for i, line in enumerate(columns[:count_of_terms]):
            numbers = [builder.splat(builder.load_scalar(builder.at(here, m * row + i))) for m in range(len(sums))]
            sums = [builder.multiply_add(x, line, total) for x, total in zip(numbers, sums, strict=True)]
        return list(sums)

    full, rest = divmod(math.prod(terms.sizes), lanes)
    sums = [builder.constant(0.0)] * product.size(terms.rows)
    sums = builder.loop(0, full, 1, lambda u, *sums: add(builder.mul(u, builder.index(lanes)), sums, lanes), sums)
    sums = add(builder.index(full * lanes), sums, rest) if rest else sums
    for m, total in enumerate(sums):
        product.finish(context.moved({} if terms.rows is None else {terms.rows: m}, mask), total)
