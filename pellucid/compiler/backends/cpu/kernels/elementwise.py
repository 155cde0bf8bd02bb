"""Elementwise and reduction kernels, and transposing copies (floor 4).

The lanes run along the axis that most operands have contiguous. If that axis is not reduced, a reduction keeps one sum per
lane and loops over the reduced axes; otherwise the lanes are partial sums, combined at the end in a fixed tree. Threads share
axes that are not reduced, so that the number of threads never changes a bit.

In inference the order of a row's sum may not depend on the number of rows (`KernelSpec.by_row`). It is then the order of lanes
along the last reduced axis, and of the other axes one after another. Lanes across rows keep as many partial sums for each row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from .....ops.reduce import ArgReduce
from ..kernel_ir import KernelSpec, Load, Store, merge_axes
from ..llvm import Builder, LoopBody, Value, i32
from ..target import Target
from .vector_body import (
    Accumulator,
    Indices,
    LaneContext,
    PointAt,
    accumulators,
    loop_axes,
    loop_blocks,
    split_state,
    thread_range,
)  # fmt: skip

BLOCK = 256  # elements of a chain of additions


def accesses(spec: KernelSpec) -> list[Load | Store]:
    """Every operand and result in memory."""
    return [x for instruction in spec.instructions for x in instruction.operands if isinstance(x, Load)] + list(
        spec.stores
    )


def collapse_axes(spec: KernelSpec) -> KernelSpec:
    """The same kernel over fewer axes: merge two axes that every access steps through as one."""
    rank = len(spec.domain)
    positional = any(isinstance(instruction.op, ArgReduce) for instruction in spec.instructions)
    for outer in range(rank):
        for inner in range(rank):
            is_outer = outer not in spec.axes
            if outer == inner or (inner not in spec.axes) != is_outer or ((positional or spec.by_row) and not is_outer):
                continue
            size = spec.domain[inner]
            if all(x.strides[outer] == size * x.strides[inner] for x in accesses(spec)):
                return collapse_axes(merge_axes(spec, outer, inner))
    return spec


def vector_axis(spec: KernelSpec, target: Target) -> int | None:
    """The axis of the lanes: contiguous for most accesses, and long enough to fill them."""
    lanes, costs = target.lanes, target.costs
    gains = {0: 0, 1: costs.contiguous_access}  # by stride
    best: tuple[float, int | None] = (float("-inf"), None)
    allowed = _allowed(spec, lanes) if spec.by_row else range(len(spec.domain))
    for axis in allowed:
        size = spec.domain[axis]
        gain = sum(gains.get(x.strides[axis], -costs.strided_access) for x in accesses(spec))
        waste = -(-size // lanes) * lanes / max(size, 1)
        score = gain - costs.wasted_lanes * (waste - 1) * len(accesses(spec))
        if score > best[0]:
            best = (score, axis)
    return best[1]


def _allowed(spec: KernelSpec, lanes: int) -> list[int]:
    """The axes that lanes may run along where each sum has to keep its order: the last reduced axis, and axes that are not
    reduced, unless the sums are so long that they are made in blocks."""
    *others, last = sorted(spec.axes)
    counts = [*(spec.domain[axis] for axis in others), spec.domain[last] // lanes]
    short = max(counts) <= 2 * BLOCK
    return [axis for axis in range(len(spec.domain)) if axis == last or (short and axis not in spec.axes)]


# ---- which axis is looped over where -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LoopOrder:
    """The loops of a kernel, outermost first: over the axes that are not reduced, then over the others.

    lane_axis: the axis of the lanes, the innermost of its kind.
    """

    spec: KernelSpec
    lanes: int
    lane_axis: int | None
    outer_axes: tuple[int, ...]
    reduced_axes: tuple[int, ...]

    @property
    def along_rows(self) -> bool:
        """Whether the lanes are parts of one row."""
        return self.lane_axis in self.reduced_axes

    @property
    def shared(self) -> int | None:
        """The outer axis that threads share. None if one thread does everything."""
        longest = max(self.outer_axes, key=self.units, default=None)
        return None if longest is None or self.units(longest) < 2 else longest

    def units(self, axis: int) -> int:
        """Steps along an axis: vectors along the axis of the lanes."""
        size = self.spec.domain[axis]
        return -(-size // self.lanes) if axis == self.lane_axis else size


def order_loops(spec: KernelSpec, target: Target) -> LoopOrder:
    """Long strides outside, short ones inside."""
    lane_axis = vector_axis(spec, target)
    stride = lambda axis: max((abs(x.strides[axis]) for x in accesses(spec)), default=0)
    order = sorted(range(len(spec.domain)), key=stride, reverse=True)
    outer = [axis for axis in order if axis not in spec.axes]
    reduced = sorted(spec.axes) if spec.by_row else [axis for axis in order if axis in spec.axes]
    inner_last = lambda axes: tuple(sorted(axes, key=lambda axis: axis == lane_axis))
    return LoopOrder(spec, target.lanes, lane_axis, inner_last(outer), inner_last(reduced))


def emit_loop(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    loops = order_loops(collapse_axes(spec), builder.target)
    reductions = accumulators(builder, loops.spec)
    scratch = RowScratch(builder, loops, _allocate_scratch(builder, loops))
    partial_sums = PartialSums(builder, loops, _allocate_partial_sums(builder, loops, reductions))
    row = Row(builder, loops, partial(LaneContext, builder, pointers, flag), reductions, scratch, partial_sums)
    if loops.shared is None:
        with builder.when(builder.icmp_unsigned("==", thread, builder.index(0))):
            _loop_outer(builder, loops, thread, threads, row.emit)
    else:
        _loop_outer(builder, loops, thread, threads, row.emit)


def _loop_outer(
    builder: Builder, loops: LoopOrder, thread: Value, threads: Value, row: Callable[[Indices, Value | None], None]
) -> None:
    """Loop over the axes that are not reduced: row(indices, mask of the lanes) at each vector."""

    def nest(axes: Sequence[int], indices: Indices) -> None:
        if not axes:
            row(indices, None)
            return
        axis, inside, size = axes[0], axes[1:], loops.spec.domain[axes[0]]
        bounds = thread_range(builder, loops.units(axis), thread, threads) if axis == loops.shared else None
        if axis == loops.lane_axis:
            _loop_vectors(builder, size, bounds, lambda start, mask: row({**indices, axis: (start, 0)}, mask))
        else:
            first, last = bounds or (0, size)
            builder.loop(first, last, 1, lambda i: nest(inside, {**indices, axis: (i, 0)}))

    nest(loops.outer_axes, {})


def _loop_vectors(
    builder: Builder, size: int, bounds: tuple[Value, Value] | None, body: Callable[[Value, Value | None], None]
) -> None:
    """`loop_blocks` with a mask of the lanes that a vector has, None for all, in place of their number."""
    lanes = builder.lanes
    if bounds is not None and size % lanes == 0:  # no short vector to look for
        builder.loop(*bounds, 1, lambda u: body(builder.mul(u, builder.index(lanes)), None))
        return
    masked = lambda start, count: body(start, builder.first_lanes(count) if count < lanes else None)
    loop_blocks(builder, size, bounds, masked)


# ---- one row -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowScratch:
    """Stack memory for one row of each instruction that a later pass reads: its address and dtype."""

    builder: Builder
    loops: LoopOrder
    room: dict[int, tuple[Value, str]]

    def load(self, number: int, indices: Indices) -> Value:
        return self.builder.load_vector(self._address(number, indices), self.room[number][1])

    def store(self, number: int, indices: Indices, value: Value) -> None:
        self.builder.store_vector(value, self._address(number, indices), self.room[number][1])

    def _address(self, number: int, indices: Indices) -> Value:
        builder, loops, offset = self.builder, self.loops, self.builder.index(0)
        for axis in loops.reduced_axes:  # the axis of the lanes counts elements, the others vectors
            size = loops.units(axis) * loops.lanes if axis == loops.lane_axis else loops.spec.domain[axis]
            offset = builder.add(builder.mul(offset, builder.index(size)), indices[axis][0])
        if not loops.along_rows:
            offset = builder.mul(offset, builder.index(loops.lanes))
        address, dtype = self.room[number]
        return builder.at(address, offset, dtype)


def _allocate_scratch(builder: Builder, loops: LoopOrder) -> dict[int, tuple[Value, str]]:
    """None if that is too much; then each pass recomputes what it reads."""
    instructions, wanted = loops.spec.instructions, set()
    for instruction in instructions:
        wanted |= {
            x for x in instruction.operands
            if isinstance(x, int) and not instructions[x].per_row and instructions[x].level < instruction.level
        }  # fmt: skip
    units = math.prod(loops.units(axis) for axis in loops.reduced_axes)
    if 4 * units * loops.lanes * len(wanted) > builder.target.caches.stack:
        return {}
    return {
        i: (builder.room(units * loops.lanes, instructions[i].dtype), instructions[i].dtype) for i in sorted(wanted)
    }


@dataclass(frozen=True)
class PartialSums:
    """Sums in the same order, with lanes along a row or across rows.

    Where lanes run across rows, memory for the `lanes` partial sums that each row would have with lanes along it: the address
    for each reduction.
    """

    builder: Builder
    loops: LoopOrder
    room: dict[int, Value]

    def clear(self, acc: Accumulator) -> None:
        (zero,) = acc.start()
        for lane in range(_partial_sum_count(self.loops)):
            self.builder.store_vector(zero, self._address(acc, self.builder.index(lane)), acc.dtype)

    def add(self, acc: Accumulator, context: LaneContext, values: dict[int, Value], indices: Indices) -> None:
        """Add the vector at the point `indices`."""
        address = self._address(acc, indices[self.loops.reduced_axes[-1]][0])
        total = acc.add([self.builder.load_vector(address, acc.dtype)], context, values, None)
        self.builder.store_vector(total[0], address, acc.dtype)

    def total(self, acc: Accumulator) -> Value:
        """Combine the partial sums in the order in which `folded` combines lanes."""
        builder, width = self.builder, self.loops.lanes
        lanes = [self._address(acc, builder.index(lane)) for lane in range(_partial_sum_count(self.loops))]
        sums = [builder.load_vector(address, acc.dtype) for address in lanes]
        while width > 1:
            width //= 2
            for lane in range(min(width, max(0, len(sums) - width))):
                (sums[lane],) = acc.combine([sums[lane]], [sums[lane + width]])
            del sums[width:]
        return acc.result(sums[:1])

    def _address(self, acc: Accumulator, position: Value) -> Value:
        """Of the partial sum that the element at `position` of the row is added to."""
        builder, lanes = self.builder, self.loops.lanes
        lane = builder.and_(position, builder.index(lanes - 1))
        return builder.at(self.room[acc.number], builder.mul(lane, builder.index(lanes)), acc.dtype)


def _partial_sum_count(loops: LoopOrder) -> int:
    """How many of the partial sums get any element."""
    return min(loops.lanes, loops.spec.domain[loops.reduced_axes[-1]])


def _allocate_partial_sums(builder: Builder, loops: LoopOrder, reductions: list[Accumulator]) -> dict[int, Value]:
    if not loops.spec.by_row or loops.along_rows:
        return {}
    sums = [acc for acc in reductions if acc.op.rounds and acc.e.is_float]
    return {acc.number: builder.room(_partial_sum_count(loops) * loops.lanes, acc.dtype) for acc in sums}


@dataclass(frozen=True)
class Row:
    """One vector of the outer axes: a row, or `lanes` rows side by side. It is passed over as often as its levels need.

    point_at(indices, lane_axis, mask): makes a point of the nest. The state of a pass is that of its reductions, one after
    another. rows: what has been computed once per row.
    """

    builder: Builder
    loops: LoopOrder
    point_at: PointAt
    reductions: list[Accumulator]
    scratch: RowScratch
    partial_sums: PartialSums

    def emit(self, indices: Indices, mask: Value | None) -> None:
        """Compute and store everything at that vector of the outer axes."""
        if not self.reductions:
            self._point(indices, mask, [], 0, {})
            return
        instructions, rows = self.loops.spec.instructions, dict[int, Value]()
        for level in range(1 + max(instruction.level for instruction in instructions)):
            of_level = [acc for acc in self.reductions if acc.instruction.level == level]
            state = [x for acc in self._carried(level) for x in acc.start()]
            for acc in of_level:
                if acc.number in self.partial_sums.room:
                    self.partial_sums.clear(acc)
            if of_level or any(x.level == level and not x.per_row for x in instructions):
                state = self._pass(self.loops.reduced_axes, indices, mask, state, level, rows)
            rows |= self._reduced(of_level, state)
            self._finish(indices, mask, level, rows)

    def _carried(self, level: int) -> list[Accumulator]:
        """The reductions of a pass whose state is kept in registers."""
        carried = (acc for acc in self.reductions if acc.number not in self.partial_sums.room)
        return [acc for acc in carried if acc.instruction.level == level]

    def _pass(
        self, axes: Sequence[int], indices: Indices, mask: Value | None, state: list[Value], level: int,
        rows: dict[int, Value],
    ) -> list[Value]:  # fmt: skip
        """One pass over the row, along `axes`. Returns the state after it."""
        if not axes:
            return self._point(indices, mask, state, level, rows)
        axis, builder, lanes, size = axes[0], self.builder, self.loops.lanes, self.loops.spec.domain[axes[0]]
        if axis != self.loops.lane_axis:
            step = lambda i, *carry: self._pass(axes[1:], {**indices, axis: (i, 0)}, mask, list(carry), level, rows)
            return self._in_blocks(size, step, state, level)
        full, rest = divmod(size, lanes)
        point = lambda start, mask, state: self._point({**indices, axis: (start, 0)}, mask, state, level, rows)
        vector = lambda u, *carry: point(builder.mul(u, builder.index(lanes)), None, list(carry))
        state = self._in_blocks(full, vector, state, level)
        return point(builder.index(full * lanes), builder.first_lanes(rest), state) if rest else state

    def _in_blocks(self, count: int, body: LoopBody, state: list[Value], level: int) -> list[Value]:
        """body(i, *state) for 0 ... count-1. Long sums are made in blocks: the rounding error grows with the length of a chain
        of additions, not with the number of chains."""
        builder, carried = self.builder, self._carried(level)
        if count <= 2 * BLOCK or not carried:
            return builder.loop(0, count, 1, body, state)

        def block(first: Value, *carry: Value) -> list[Value]:
            end = builder.intrinsic("smin", builder.add(first, builder.index(BLOCK)), builder.index(count))
            block_state = builder.loop(first, end, 1, body, [x for acc in carried for x in acc.start()])
            before, after = split_state(carried, carry), split_state(carried, block_state)
            return [x for acc, a, b in zip(carried, before, after, strict=True) for x in acc.combine(a, b)]

        return builder.loop(0, count, BLOCK, block, state)

    def _point(
        self, indices: Indices, mask: Value | None, state: list[Value], level: int, rows: dict[int, Value]
    ) -> list[Value]:
        """One vector of the row in one pass over it. Returns the state after it."""
        loops, scratch = self.loops, self.scratch
        instructions = loops.spec.instructions
        context = self.point_at(indices, loops.lane_axis, mask)
        values = dict(rows)
        for i in scratch.room:
            if instructions[i].level < level:
                values[i] = scratch.load(i, indices)
        for earlier in range(level if scratch.room else 0, level + 1):
            context.run(loops.spec, values, earlier)
        for i in scratch.room:
            if instructions[i].level == level:
                scratch.store(i, indices, values[i])
        self._store(context, values, level, per_row=False)
        of_level = [acc for acc in self.reductions if acc.instruction.level == level]
        states = iter(split_state(self._carried(level), state))
        result: list[Value] = []
        for acc in of_level:
            if acc.number in self.partial_sums.room:
                self.partial_sums.add(acc, context, values, indices)
            else:
                result += acc.add(next(states), context, values, self._position(indices) if acc.positional else None)
        return result

    def _position(self, indices: Indices) -> Value:
        """The index of this vector along the reduced axis, as i32."""
        builder = self.builder
        if not self.loops.reduced_axes:
            return builder.bits(0)
        axis = self.loops.reduced_axes[0]
        start = builder.splat(builder.trunc(indices[axis][0], i32))
        return builder.add(start, builder.lane_numbers(i32)) if axis == self.loops.lane_axis else start

    def _finish(self, indices: Indices, mask: Value | None, level: int, rows: dict[int, Value]) -> None:
        """Compute what depends on the reductions of a pass once per row."""
        loops = self.loops
        outer = {axis: index for axis, index in indices.items() if axis in loops.outer_axes}
        context = self.point_at(outer, None if loops.along_rows else loops.lane_axis, mask)
        context.run(loops.spec, rows, level, per_row=True)
        self._store(context, rows, level, per_row=True)

    def _reduced(self, of_level: list[Accumulator], state: list[Value]) -> dict[int, Value]:
        """The results of the reductions of a pass."""
        carried = [acc for acc in of_level if acc.number not in self.partial_sums.room]
        states = iter(split_state(carried, state))
        results = {}
        for acc in of_level:
            if acc.number in self.partial_sums.room:
                results[acc.number] = self.partial_sums.total(acc)
            else:
                mine = next(states)
                results[acc.number] = acc.result(acc.folded(mine) if self.loops.along_rows else mine)
        return results

    def _store(self, context: LaneContext, values: dict[int, Value], level: int, *, per_row: bool) -> None:
        for store in self.loops.spec.stores:
            instruction = self.loops.spec.instructions[store.instruction]
            if (instruction.level, instruction.per_row) == (level, per_row):
                context.store(store, values[store.instruction])


# ---- copies --------------------------------------------------------------------------------------------------------------


def emit_copy(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    """A copy. Where the contiguous axis changes, blocks of lanes x lanes are transposed in registers."""
    spec = collapse_axes(spec)
    source, store = spec.instructions[0].operands[0], spec.stores[0]
    rows = next((axis for axis, s in enumerate(store.strides) if s == 1), None)  # the lanes of the result
    strides = source.strides if isinstance(source, Load) and source.dtype == store.dtype != "bool" else ()
    columns = next((axis for axis, s in enumerate(strides) if s == 1), None)
    if rows is None or columns is None or rows == columns:
        emit_loop(builder, spec, pointers, flag, thread, threads)
        return
    assert isinstance(source, Load)
    copy = Transposition(spec.domain, source, store, rows, columns)
    bounds = thread_range(builder, -(-spec.domain[columns] // builder.lanes), thread, threads)
    _transpose(builder, copy, bounds, partial(LaneContext, builder, pointers, flag))


class Transposition(NamedTuple):
    """A transposing copy: axis `columns` is contiguous in the source, and axis `rows` in the result."""

    domain: tuple[int, ...]
    source: Load
    store: Store
    rows: int
    columns: int


def _transpose(builder: Builder, copy: Transposition, bounds: tuple[Value, Value], point_at: PointAt) -> None:
    """bounds: the blocks of columns of this thread."""
    rows, columns = copy.rows, copy.columns

    def plane(indices: Indices) -> None:
        loop_blocks(builder, copy.domain[columns], bounds, lambda start, width: strip(indices, start, width))

    def strip(indices: Indices, column: Value, width: int) -> None:
        def block(row: Value, height: int) -> None:
            context = point_at({**indices, columns: (column, 0), rows: (row, 0)}, None, None)
            _transpose_block(builder, copy, context, width, height)

        loop_blocks(builder, copy.domain[rows], None, block)

    others = [axis for axis in range(len(copy.domain)) if axis not in (rows, columns)]
    loop_axes(builder, copy.domain, others, plane)


def _transpose_block(builder: Builder, copy: Transposition, context: LaneContext, width: int, height: int) -> None:
    """A block of up to lanes x lanes elements. Rows beyond the end are read as the last one and not written."""
    source, store = copy.source, copy.store
    into = builder.first_lanes(width) if width < builder.lanes else None
    lines = []
    for line in range(builder.lanes):
        moved = context.moved({copy.rows: min(line, height - 1)}, None)
        address = moved.address(source.pointer, source.offset, source.strides, source.dtype)
        lines.append(builder.load_vector(address, source.dtype, into))
    out = builder.first_lanes(height) if height < builder.lanes else None
    for column, transposed in enumerate(builder.transpose(lines)[:width]):
        moved = context.moved({copy.columns: column}, None)
        address = moved.address(store.pointer, 0, store.strides, store.dtype)
        builder.store_vector(transposed, address, store.dtype, out)
