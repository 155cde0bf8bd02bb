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

from .....ops.reduce import ArgReduce
from ..kernel_ir import KernelSpec, Load, Store, merge_axes
from ..llvm import Builder, Integer, LoopBody, Value, i32
from ..target import Target
from .vector_body import Accumulator, Index, LaneContext, accumulators, thread_range

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


class LoopNest:
    """Emits one loop kernel."""

    def __init__(
        self, builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
    ) -> None:
        self.builder, self.spec, self.pointers, self.flag = builder, collapse_axes(spec), pointers, flag
        self.thread, self.threads, self.lanes = thread, threads, builder.lanes
        self.lane_axis = vector_axis(self.spec, builder.target)
        self.reducing = accumulators(builder, self.spec)
        order = sorted(range(len(self.spec.domain)), key=self._stride, reverse=True)
        self.outer_axes = [axis for axis in order if axis not in self.spec.axes]
        self.reduced_axes = (
            sorted(self.spec.axes) if spec.by_row else [axis for axis in order if axis in self.spec.axes]
        )
        for axes in (self.outer_axes, self.reduced_axes):  # the axis of the lanes is the innermost of its kind
            if self.lane_axis in axes:
                axes.remove(self.lane_axis)
                axes.append(self.lane_axis)
        self.scratch = self._allocate_scratch()
        self.partial_sums = self._allocate_partial_sums()
        self.shared = max(self.outer_axes, key=self._units, default=None)

    def _stride(self, axis: int) -> int:
        return max((abs(x.strides[axis]) for x in accesses(self.spec)), default=0)

    def _units(self, axis: int) -> int:
        size = self.spec.domain[axis]
        return -(-size // self.lanes) if axis == self.lane_axis else size

    def emit(self) -> None:
        if self.shared is None or self._units(self.shared) < 2:
            self.shared = None
            with self.builder.when(self.builder.icmp_unsigned("==", self.thread, self.builder.index(0))):
                self._loop_outer(self.outer_axes, {})
        else:
            self._loop_outer(self.outer_axes, {})

    def _range(self, axis: int) -> tuple[Integer, Integer]:
        units = self._units(axis)
        return thread_range(self.builder, units, self.thread, self.threads) if axis == self.shared else (0, units)

    def _loop_outer(self, axes: list[int], indices: dict[int, Index]) -> None:
        """Loop over the axes that are not reduced, and handle one row inside."""
        if not axes:
            self._row(indices, None)
        elif axes[0] == self.lane_axis:
            self._units_of(axes[0], lambda index, mask: self._row({**indices, axes[0]: index}, mask))
        else:
            first, last = self._range(axes[0])
            self.builder.loop(first, last, 1, lambda i: self._loop_outer(axes[1:], {**indices, axes[0]: (i, 0)}))

    def _units_of(self, axis: int, body: Callable[[Index, Value | None], None]) -> None:
        """Loop over vectors along `axis`. The last one is masked where the size is no multiple of the lanes."""
        builder, size = self.builder, self.spec.domain[axis]
        full, rest = divmod(size, self.lanes)
        first, last = self._range(axis)
        lanes = builder.index(self.lanes)
        if axis != self.shared:
            builder.loop(0, full, 1, lambda u: body((builder.mul(u, lanes), 0), None))
            if rest:
                body((builder.index(full * self.lanes), 0), builder.first_lanes(rest))
            return
        assert not isinstance(first, int) and not isinstance(last, int)
        if not rest:
            builder.loop(first, last, 1, lambda u: body((builder.mul(u, lanes), 0), None))
            return
        has_rest = builder.icmp_signed(">", last, builder.index(full))
        whole = builder.select(has_rest, builder.index(full), last)
        builder.loop(first, whole, 1, lambda u: body((builder.mul(u, lanes), 0), None))
        with builder.when(builder.and_(has_rest, builder.icmp_signed("<", first, last))):
            body((builder.index(full * self.lanes), 0), builder.first_lanes(rest))

    def _context(self, indices: dict[int, Index], mask: Value | None) -> LaneContext:
        return LaneContext(self.builder, self.pointers, self.flag, indices, self.lane_axis, mask)

    def _row(self, indices: dict[int, Index], mask: Value | None) -> None:
        """At one vector of the outer axes: compute and store, or pass over the row as often as its levels need."""
        if not self.reducing:
            self._point(indices, mask, [], 0, {})
            return
        rows: dict[int, Value] = {}
        for level in range(1 + max(instruction.level for instruction in self.spec.instructions)):
            reducing = [acc for acc in self.reducing if acc.instruction.level == level]
            state = [x for acc in self._carried(level) for x in acc.start()]
            for acc in reducing:
                if acc.number in self.partial_sums:
                    self._clear(acc)
            if reducing or any(
                instruction.level == level and not instruction.per_row for instruction in self.spec.instructions
            ):
                state = self._reduce(self.reduced_axes, indices, mask, state, level, rows)
            self._finish(indices, mask, level, reducing, state, rows)

    def _finish(
        self,
        indices: dict[int, Index],
        mask: Value | None,
        level: int,
        reducing: list[Accumulator],
        state: list[Value],
        rows: dict[int, Value],
    ) -> None:
        """Combine the reductions of a pass over the row, and compute what depends on them once per row."""
        across = self.lane_axis in self.reduced_axes
        context = self._context({axis: index for axis, index in indices.items() if axis in self.outer_axes}, mask)
        context.lane_axis = None if across else self.lane_axis
        at = 0
        for acc in reducing:
            if acc.number in self.partial_sums:
                rows[acc.number] = self._sum_of_partials(acc)
                continue
            width = 2 if acc.positional else 1
            mine, at = state[at : at + width], at + width
            rows[acc.number] = acc.result(acc.folded(mine) if across else mine)
        context.run(self.spec, rows, level, per_row=True)
        for store in self.spec.stores:
            instruction = self.spec.instructions[store.instruction]
            if instruction.per_row and instruction.level == level:
                context.store(store, rows[store.instruction])

    def _reduce(
        self,
        axes: list[int],
        indices: dict[int, Index],
        mask: Value | None,
        state: list[Value],
        level: int,
        rows: dict[int, Value],
    ) -> list[Value]:
        if not axes:
            return self._point(indices, mask, state, level, rows)
        axis, builder = axes[0], self.builder
        if axis != self.lane_axis:
            body = lambda i, *carry: self._reduce(axes[1:], {**indices, axis: (i, 0)}, mask, list(carry), level, rows)
            return self._in_blocks(self.spec.domain[axis], body, state, level)
        full, rest = divmod(self.spec.domain[axis], self.lanes)
        lanes = builder.index(self.lanes)
        point = lambda index, mask, state: self._point({**indices, axis: index}, mask, state, level, rows)
        body = lambda u, *carry: point((builder.mul(u, lanes), 0), None, list(carry))
        state = self._in_blocks(full, body, state, level)
        if rest:
            state = point((builder.index(full * self.lanes), 0), builder.first_lanes(rest), state)
        return state

    def _in_blocks(self, count: int, body: LoopBody, state: list[Value], level: int) -> list[Value]:
        """body(i, *state) for 0 ... count-1. Long sums are made in blocks: the rounding error grows with the length of a chain
        of additions, not with the number of chains."""
        builder, reducing = self.builder, self._carried(level)
        if count <= 2 * BLOCK or not reducing:
            return builder.loop(0, count, 1, body, state)

        def block(first: Value, *carry: Value) -> list[Value]:
            end = builder.intrinsic("smin", builder.add(first, builder.index(BLOCK)), builder.index(count))
            block_state = builder.loop(first, end, 1, body, [x for acc in reducing for x in acc.start()])
            result: list[Value] = []
            for acc in reducing:
                mine = slice(len(result), len(result) + (2 if acc.positional else 1))
                result += acc.combine(carry[mine], block_state[mine])
            return result

        return builder.loop(0, count, BLOCK, block, state)

    def _point(
        self, indices: dict[int, Index], mask: Value | None, state: list[Value], level: int, rows: dict[int, Value]
    ) -> list[Value]:
        """One vector of the row in one pass over it. Returns the state of the reductions of that pass."""
        context = self._context(indices, mask)
        values = dict(rows)
        for i, (_, dtype) in self.scratch.items():
            if self.spec.instructions[i].level < level:
                values[i] = self.builder.load_vector(self._in_scratch(i, indices), dtype)
        for earlier in range(0 if not self.scratch else level, level + 1):
            context.run(self.spec, values, earlier)
        for i, (_, dtype) in self.scratch.items():
            if self.spec.instructions[i].level == level:
                self.builder.store_vector(values[i], self._in_scratch(i, indices), dtype)
        for store in self.spec.stores:
            instruction = self.spec.instructions[store.instruction]
            if not instruction.per_row and instruction.level == level:
                context.store(store, values[store.instruction])
        result: list[Value] = []
        at = 0
        for acc in self.reducing:
            if acc.instruction.level != level:
                continue
            if acc.number in self.partial_sums:
                address = self._of_lane(acc, indices[self.reduced_axes[-1]][0])
                total = acc.add([self.builder.load_vector(address, acc.dtype)], context, values, None)
                self.builder.store_vector(total[0], address, acc.dtype)
                continue
            width = 2 if acc.positional else 1
            position = self._position(indices) if acc.positional else None
            result += acc.add(state[at : at + width], context, values, position)
            at += width
        return result

    # ---- sums in the same order, with lanes along a row or across rows ----

    def _allocate_partial_sums(self) -> dict[int, Value]:
        """Where lanes run across rows, memory for the `lanes` partial sums that each row would have with lanes along it."""
        if not self.spec.by_row or self.lane_axis in self.reduced_axes:
            return {}
        sums = [acc for acc in self.reducing if acc.op.rounds and acc.e.is_float]
        return {acc.number: self.builder.room(self._partial * self.lanes, acc.dtype) for acc in sums}

    @property
    def _partial(self) -> int:
        """How many of the partial sums get any element."""
        return min(self.lanes, self.spec.domain[self.reduced_axes[-1]])

    def _carried(self, level: int) -> list[Accumulator]:
        """The reductions of a pass whose state is kept in registers."""
        return [acc for acc in self.reducing if acc.instruction.level == level and acc.number not in self.partial_sums]

    def _of_lane(self, acc: Accumulator, position: Value) -> Value:
        builder = self.builder
        lane = builder.and_(position, builder.index(self.lanes - 1))
        return builder.at(self.partial_sums[acc.number], builder.mul(lane, builder.index(self.lanes)), acc.dtype)

    def _clear(self, acc: Accumulator) -> None:
        builder, (zero,) = self.builder, acc.start()
        for lane in range(self._partial):
            builder.store_vector(zero, self._of_lane(acc, builder.index(lane)), acc.dtype)

    def _sum_of_partials(self, acc: Accumulator) -> Value:
        """Combine the partial sums in the order in which `folded` combines lanes."""
        builder, width = self.builder, self.lanes
        lanes = [self._of_lane(acc, builder.index(lane)) for lane in range(self._partial)]
        sums = [builder.load_vector(address, acc.dtype) for address in lanes]
        while width > 1:
            width //= 2
            for lane in range(min(width, max(0, len(sums) - width))):
                (sums[lane],) = acc.combine([sums[lane]], [sums[lane + width]])
            del sums[width:]
        return acc.result(sums[:1])

    # ---- elements of a row that a later pass reads ----

    def _allocate_scratch(self) -> dict[int, tuple[Value, str]]:
        """Stack memory for one row of each instruction that a later pass reads. None if that is too much; then each pass
        recomputes what it reads."""
        instructions, wanted = self.spec.instructions, set()
        for instruction in instructions:
            wanted |= {
                x for x in instruction.operands
                if isinstance(x, int) and not instructions[x].per_row and instructions[x].level < instruction.level
            }  # fmt: skip
        units = math.prod(self._units(axis) for axis in self.reduced_axes)
        if 4 * units * self.lanes * len(wanted) > self.builder.target.caches.stack:
            return {}
        room = {}
        for i in sorted(wanted):
            room[i] = self.builder.room(units * self.lanes, instructions[i].dtype), instructions[i].dtype
        return room

    def _in_scratch(self, number: int, indices: dict[int, Index]) -> Value:
        builder, offset = self.builder, self.builder.index(0)
        for axis in self.reduced_axes:  # the axis of the lanes counts elements, the others vectors
            if axis == self.lane_axis:
                offset = builder.add(
                    builder.mul(offset, builder.index(self._units(axis) * self.lanes)), indices[axis][0]
                )
            else:
                offset = builder.add(builder.mul(offset, builder.index(self.spec.domain[axis])), indices[axis][0])
        if self.lane_axis not in self.reduced_axes:
            offset = builder.mul(offset, builder.index(self.lanes))
        address, dtype = self.scratch[number]
        return builder.at(address, offset, dtype)

    def _position(self, indices: dict[int, Index]) -> Value:
        """The index of this vector along the reduced axis, as i32."""
        builder = self.builder
        if not self.reduced_axes:
            return builder.bits(0)
        axis = self.reduced_axes[0]
        start = builder.splat(builder.trunc(indices[axis][0], i32))
        return builder.add(start, builder.lane_numbers(i32)) if axis == self.lane_axis else start


def emit_loop(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    LoopNest(builder, spec, pointers, flag, thread, threads).emit()


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
    else:
        TransposeCopy(builder, spec, pointers, flag, rows, columns).emit(thread, threads)


class TransposeCopy:
    """A transposing copy: axis `columns` is contiguous in the source, and axis `rows` in the result."""

    def __init__(
        self, builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, rows: int, columns: int
    ) -> None:
        self.builder, self.spec, self.pointers, self.flag = builder, spec, pointers, flag
        self.rows, self.columns, self.lanes = rows, columns, builder.lanes
        source, self.store = spec.instructions[0].operands[0], spec.stores[0]
        assert isinstance(source, Load)
        self.source = source

    def emit(self, thread: Value, threads: Value) -> None:
        others = [axis for axis in range(len(self.spec.domain)) if axis not in (self.rows, self.columns)]
        blocks = -(-self.spec.domain[self.columns] // self.lanes)
        blocks_of_thread = thread_range(self.builder, blocks, thread, threads)
        self._others(others, {}, blocks_of_thread)

    def _others(self, axes: list[int], indices: dict[int, Index], blocks_of_thread: tuple[Value, Value]) -> None:
        if axes:
            body = lambda i: self._others(axes[1:], {**indices, axes[0]: (i, 0)}, blocks_of_thread)
            self.builder.loop(0, self.spec.domain[axes[0]], 1, body)
            return
        builder, lanes = self.builder, self.lanes
        full, rest = divmod(self.spec.domain[self.columns], lanes)
        has_rest = builder.icmp_signed(">", blocks_of_thread[1], builder.index(full))
        last = builder.select(has_rest, builder.index(full), blocks_of_thread[1])
        at = lambda block: (builder.mul(block, builder.index(lanes)), 0)
        builder.loop(
            blocks_of_thread[0], last, 1, lambda block: self._strip({**indices, self.columns: at(block)}, lanes)
        )
        if rest:
            with builder.when(
                builder.and_(has_rest, builder.icmp_signed("<", blocks_of_thread[0], blocks_of_thread[1]))
            ):
                self._strip({**indices, self.columns: (builder.index(full * lanes), 0)}, rest)

    def _strip(self, indices: dict[int, Index], width: int) -> None:
        builder, lanes = self.builder, self.lanes
        full, rest = divmod(self.spec.domain[self.rows], lanes)
        at = lambda block: (builder.mul(block, builder.index(lanes)), 0)
        builder.loop(0, full, 1, lambda block: self._block({**indices, self.rows: at(block)}, width, lanes))
        if rest:
            self._block({**indices, self.rows: (builder.index(full * lanes), 0)}, width, rest)

    def _block(self, indices: dict[int, Index], width: int, height: int) -> None:
        """A block of up to lanes x lanes elements. Rows beyond the end are read as the last one and not written."""
        builder = self.builder
        context = LaneContext(builder, self.pointers, self.flag, indices, None)
        into = builder.first_lanes(width) if width < self.lanes else None
        lines = []
        for line in range(self.lanes):
            moved = context.moved({self.rows: min(line, height - 1)}, None)
            address = moved.address(self.source.pointer, self.source.offset, self.source.strides, self.source.dtype)
            lines.append(builder.load_vector(address, self.source.dtype, into))
        out = builder.first_lanes(height) if height < self.lanes else None
        for column, transposed in enumerate(builder.transpose(lines)[:width]):
            moved = context.moved({self.columns: column}, None)
            address = moved.address(self.store.pointer, 0, self.store.strides, self.store.dtype)
            builder.store_vector(transposed, address, self.store.dtype, out)
