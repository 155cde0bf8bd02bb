"""Gather and scatter kernels: take, rows, gather, scatter_add, index_add and index_put (floor 4).

A negative index counts from the end. An index out of range raises the flag; it is read as 0 and nothing is written for it,
so that memory is safe. Elements are added or put in the order of the index, and those that may collide by one thread:
threads share axes along which no two indices collide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from llvmlite import ir

from .....core.op import Op
from .....ops.index import gather, index_add, index_put, rows, scatter_add, take
from ..costs import ENOUGH_UNITS
from ..kernel_ir import KernelSpec
from ..llvm import Builder, Integer, Value, i8, i32, i64
from .data_movement import Access, OpOperands, StridedLoop, aligned_thread_range, collapse_axes, long_axis
from .vector_body import Emitter, thread_range
from .vector_math import VectorMath


def _positions(
    builder: Builder, index: Value, dtype: str, size: Integer, flag: Value, mask: Value | None = None
) -> tuple[Value, Value]:
    """(the position of `index` along an axis of `size`, whether it is in range), for one index or a vector of them.

    size: an int, or an i64 that is known when the program runs. One that lies outside raises the flag and points to 0.
    """
    vector = isinstance(index.type, ir.VectorType)

    def constant(n: Integer) -> Value:
        if isinstance(n, int):
            return builder.constant(n, np.int64) if vector else builder.index(n)
        return builder.splat(n) if vector else n

    wide = builder.vector(np.int64) if vector else i64
    if index.type != wide:
        index = builder.sext(index, wide) if np.dtype(dtype).kind == "i" else builder.zext(index, wide)
    from_end = builder.icmp_signed("<", index, constant(0))
    position = builder.select(from_end, builder.add(index, constant(size)), index)
    inside = builder.icmp_unsigned("<", position, constant(size))  # a negative number is huge as an unsigned one
    outside = builder.not_(inside)
    if mask is not None:
        outside = builder.and_(outside, mask)
    with builder.when(builder.fold_lanes(outside, builder.or_) if vector else outside):
        builder.store(i8(1), flag)
    return builder.select(inside, position, constant(0)), inside


# ---- reading ---------------------------------------------------------------------------------------------------------


def _pick(
    builder: Builder, sizes: Sequence[int], index: Access, source: Access, step: int, size: Integer, target: Access,
    flag: Value, thread: Value, threads: Value,
) -> None:  # fmt: skip
    """target[i] = source[i] moved by index[i] steps, for every i of `sizes`: vectors of single elements."""
    sweep = StridedLoop(builder, sizes, [index, source, target], spaced=True)
    sweep.share(thread, threads)

    def body(addresses: list[Value], mask: Value | None) -> None:
        position, inside = _positions(builder, sweep.read(0, addresses, mask), index.dtype, size, flag, mask)
        offsets = builder.add(builder.mul(position, builder.constant(step, np.int64)), sweep.spaced(1))
        there = inside if size == 0 else mask  # an axis of size 0 has no element 0 to read for a wrong index
        sweep.write(2, addresses, builder.gather(addresses[1], offsets, source.dtype, there), mask)

    sweep.run(body)


def emit_take(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    single = OpOperands(builder, spec, pointers, moving=True)
    size = single.shapes[0][0]
    if size == 0 and math.prod(single.shapes[0][1:]) != 1:  # every index is out of range, and there is no row 0 to read
        if math.prod(single.shapes[1]):
            builder.store(i8(1), flag)
        return
    _take_rows(builder, single, single.operands[0].strides[0], size, flag, thread, threads)


def emit_rows(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    """`take` with a number of rows, at least 1, that is known at run time."""
    single = OpOperands(builder, spec, pointers, moving=True)
    count, step = single.operands[2], math.prod(single.shapes[0])
    _take_rows(builder, single, step, builder.load_scalar(count.address, count.dtype), flag, thread, threads)


def _take_rows(
    builder: Builder, single: OpOperands, step: int, size: Integer, flag: Value, thread: Value, threads: Value
) -> None:  # fmt: skip
    """Copy rows, `step` elements apart, as vectors. Rows of one element are gathered as vectors."""
    (x, index), target = single.operands[:2], single.result
    row, sizes = single.shapes[0][1:], single.shapes[1]
    first, rest = range(len(sizes)), range(len(sizes), len(single.shape))
    if math.prod(row) == 1:
        source = Access(x.address, (0,) * len(sizes), x.dtype)
        _pick(builder, sizes, index, source, step, size, target.along(first), flag, thread, threads)
        return
    lines = StridedLoop(builder, sizes, [index, target.along(first)], lanes=False)
    columns = StridedLoop(builder, row, [x.along(range(1, len(row) + 1)), target.along(rest)])
    most = max(lines.units())
    (lines if most >= ENOUGH_UNITS or most >= max(columns.units()) else columns).share(thread, threads)

    def line(addresses: list[Value], _: Value | None) -> None:
        position, _ = _positions(builder, builder.load_scalar(addresses[0], index.dtype), index.dtype, size, flag)
        row = builder.at(x.address, builder.mul(position, builder.index(step)), x.dtype)
        columns.copy([row, addresses[1]])

    lines.run(line)


def emit_gather(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    single = OpOperands(builder, spec, pointers, moving=True)
    (x, index), axis = single.operands, single.attributes["axis"]
    source = x._replace(strides=tuple(0 if i == axis else s for i, s in enumerate(x.strides)))
    size = single.shapes[0][axis]
    _pick(builder, single.shape, index, source, x.strides[axis], size, single.result, flag, thread, threads)


# ---- writing ---------------------------------------------------------------------------------------------------------


def emit_scatter_add(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    """Each thread owns a range of an axis other than `axis`: it copies x there, then adds g along `axis` in order."""
    single = OpOperands(builder, spec, pointers)
    (x, index, g), target, axis = single.operands, single.result, single.attributes["axis"]
    shape, sizes = [list(s) for s in single.shapes[:2]]
    if len(shape) == 1:  # a new axis, which one thread owns
        shape, sizes, axis = [1, *shape], [1, *sizes], 1
        x, index, g, target = (a._replace(strides=(0, *a.strides)) for a in (x, index, g, target))
    others = [i for i in range(len(shape)) if i != axis]
    own = others[long_axis([shape[i] for i in others])]
    mine = thread_range(builder, shape[own], thread, threads)
    copied = StridedLoop(builder, shape, [x, target], fixed=own)
    copied.limit(mine)
    copied.copy()
    along = [sizes[i] for i in others]
    added = StridedLoop(
        builder, along, [a.along(others) for a in (index, g, target)], fixed=others.index(own), spaced=True
    )
    limit = builder.index(sizes[own])
    added.limit((builder.intrinsic("smin", mine[0], limit), builder.intrinsic("smin", mine[1], limit)))
    _add_along(builder, added, sizes[axis], [a.strides[axis] for a in (index, g, target)], shape[axis], flag)


def _add_along(
    builder: Builder, sweep: StridedLoop, count: int, strides: Sequence[int], size: int, flag: Value
) -> None:
    """Add access 1 to access 2 where access 0 points, `count` times along `strides`; the lanes lie across that."""
    index, _, target = sweep.accesses
    e = VectorMath(builder, np.dtype(target.dtype))

    def body(addresses: list[Value], mask: Value | None) -> None:
        def add(i: Value) -> None:
            here = sweep.stepped(addresses, (*strides[:2], 0), i)
            if sweep.lane is None:
                add_one(here)
            else:
                add_lanes(here, mask)

        builder.loop(0, count, 1, add)

    def add_one(here: list[Value]) -> None:
        position, inside = _positions(builder, builder.load_scalar(here[0], index.dtype), index.dtype, size, flag)
        with builder.when(inside):
            there = builder.at(here[2], builder.mul(position, builder.index(strides[2])), target.dtype)
            sum_ = e.add(builder.splat(builder.load_scalar(there, target.dtype)), sweep.read(1, here, None))
            builder.store_scalar(builder.extract_element(sum_, i32(0)), there, target.dtype)

    def add_lanes(here: list[Value], mask: Value | None) -> None:
        position, inside = _positions(builder, sweep.read(0, here, mask), index.dtype, size, flag, mask)
        offsets = builder.add(builder.mul(position, builder.constant(strides[2], np.int64)), sweep.spaced(2))
        there = inside if mask is None else builder.and_(inside, mask)
        sum_ = e.add(builder.gather(here[2], offsets, target.dtype, there), sweep.read(1, here, mask))
        builder.scatter(sum_, here[2], offsets, target.dtype, there)

    sweep.run(body)


def emit_index_add(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    single = OpOperands(builder, spec, pointers)
    g, index = single.operands
    _write_rows(builder, single, None, index, single.shapes[1], g, flag, thread, threads)


def emit_index_put(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    single = OpOperands(builder, spec, pointers, moving=True)
    x, index, rows = single.operands
    _write_rows(builder, single, x, index, single.shapes[1], rows, flag, thread, threads)


def _write_rows(
    builder: Builder, single: OpOperands, x: Access | None, index: Access, sizes: Sequence[int], rows: Access, flag: Value,
    thread: Value, threads: Value,
) -> None:  # fmt: skip
    """x with `rows` put at `index`, or zeros with `rows` added. Each thread owns some columns of every row."""
    target, (size, *row) = single.result, single.shape
    within = range(1, len(row) + 1)
    behind = range(len(sizes), len(sizes) + len(row))
    parts = [a.along(within) for a in ([target] if x is None else [target, x])] + [rows.along(behind)]
    columns, strides, _ = collapse_axes(row, [a.strides for a in parts])
    units = [builder.lanes if stride == 1 else 1 for stride in strides[0]]
    own = long_axis([-(-n // unit) for n, unit in zip(columns, units, strict=True)])
    mine = aligned_thread_range(builder, columns[own], units[own], thread, threads)
    whole = target._replace(strides=(target.strides[0], *strides[0]))
    if x is None:
        before = StridedLoop(builder, (size, *columns), [whole], fixed=own + 1)
        before.limit(mine)
        before.clear()
    else:
        old = x._replace(strides=(x.strides[0], *strides[1]))
        before = StridedLoop(builder, (size, *columns), [old, whole], fixed=own + 1)
        before.limit(mine)
        before.copy()
    line = StridedLoop(
        builder, columns, [rows._replace(strides=strides[-1]), target._replace(strides=strides[0])], fixed=own
    )
    line.limit(mine)

    def body(addresses: list[Value], _: Value | None) -> None:
        position, inside = _positions(builder, builder.load_scalar(addresses[0], index.dtype), index.dtype, size, flag)
        with builder.when(inside):
            there = builder.at(target.address, builder.mul(position, builder.index(target.strides[0])), target.dtype)
            (line.add if x is None else line.copy)([addresses[1], there])

    StridedLoop(builder, sizes, [index, rows.along(range(len(sizes)))], lanes=False).run(body)


INDEXED_EMITTERS: dict[Op, Emitter] = {
    take: emit_take,
    rows: emit_rows,
    gather: emit_gather,
    scatter_add: emit_scatter_add,
    index_add: emit_index_add,
    index_put: emit_index_put,
}
