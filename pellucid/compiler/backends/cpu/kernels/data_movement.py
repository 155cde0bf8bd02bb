"""Data movement kernels: pad, concatenate, fold and cumulative_sum, one operation each (floor 4).

StridedLoop, which `gather_scatter.py` uses too, is a loop nest over axes of any strides, with lanes along a contiguous one.
Threads share an axis along which no two of them write the same element. One thread adds what is added up, in a fixed order,
so that the number of threads never changes a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from llvmlite import ir

from .....core.op import Attributes, Op
from .....ops.contraction import fold
from .....ops.movement import concatenate, pad
from .....ops.reduce import cumulative_sum
from ..costs import ENOUGH_UNITS
from ..kernel_ir import KernelSpec, Load, Operand
from ..llvm import Builder, Integer, Value
from .vector_body import Emitter, thread_range
from .vector_math import VectorMath

Bounds = tuple[Integer, Integer]  # first and last + 1: ints, or i64 values


class Access(NamedTuple):
    """An operand in memory: the address of its first element, and its strides."""

    address: Value
    strides: tuple[int, ...]
    dtype: str

    def along(self, axes: Sequence[int]) -> Access:
        return self._replace(strides=tuple(self.strides[axis] for axis in axes))

    def beyond(self, builder: Builder, offset: Integer) -> Access:
        """The same, `offset` elements further on."""
        return self._replace(address=builder.at(self.address, offset, self.dtype))

    def backward(self, builder: Builder, axis: int, size: int) -> Access:
        """The same with `axis` reversed."""
        strides = tuple(-s if i == axis else s for i, s in enumerate(self.strides))
        return self.beyond(builder, (size - 1) * self.strides[axis])._replace(strides=strides)


class OpOperands:
    """Attributes, shapes, operands and result of a spec with a single operation.

    moving: elements are only moved, so that booleans may stay bytes.
    """

    def __init__(self, builder: Builder, spec: KernelSpec, pointers: Sequence[Value], *, moving: bool = False) -> None:
        (instruction,), (store,) = spec.instructions, spec.stores
        *self.shapes, self.shape = spec.shapes
        self.attributes: Attributes = dict(instruction.attributes)
        as_moved = lambda dtype: "uint8" if moving and dtype == "bool" else dtype

        def access(x: Operand) -> Access:
            assert isinstance(x, Load)
            return Access(builder.at(pointers[x.pointer], x.offset, x.dtype), x.strides, as_moved(x.dtype))

        self.operands = [access(x) for x in instruction.operands]
        self.result = Access(pointers[store.pointer], store.strides, as_moved(store.dtype))


def collapse_axes(
    sizes: Sequence[int], strides: Sequence[tuple[int, ...]], fixed: int | None = None
) -> tuple[tuple[int, ...], list[tuple[int, ...]], int | None]:
    """Merge adjacent axes that every access steps through as one, and drop axes of size 1; at least one axis remains.

    The order of the elements stays. fixed: an axis that is not merged; the last result is its new index.
    """
    merged: list[tuple[int, list[int]]] = []
    fixed_index = None
    for axis, size in enumerate(sizes):
        along = [s[axis] for s in strides]
        if axis == fixed:
            fixed_index = len(merged)
            merged.append((size, along))
        elif size != 1:
            joins = merged and fixed_index != len(merged) - 1
            if joins and all(outer == size * inner for outer, inner in zip(merged[-1][1], along, strict=True)):
                merged[-1] = (merged[-1][0] * size, along)
            else:
                merged.append((size, along))
    merged = merged or [(1, [0] * len(strides))]
    return (
        tuple(n for n, _ in merged),
        [tuple(along[i] for _, along in merged) for i in range(len(strides))],
        fixed_index,
    )


def long_axis(units: Sequence[int]) -> int:
    """The axis to share among threads: the first long one, else the longest."""
    return next(
        (axis for axis, n in enumerate(units) if n >= ENOUGH_UNITS), max(range(len(units)), key=units.__getitem__)
    )


def aligned_thread_range(builder: Builder, size: int, unit: int, thread: Value, threads: Value) -> Bounds:
    """The range of this thread in 0 ... size-1, in whole units except at the end."""
    first, last = thread_range(builder, -(-size // unit), thread, threads)
    if unit == 1:
        return first, last
    cut = lambda n: builder.intrinsic("smin", builder.mul(n, builder.index(unit)), builder.index(size))
    return cut(first), cut(last)


class StridedLoop:
    """A loop nest over `sizes`. Its body gets the address of every access, and the mask of the lanes that exist.

    fixed: an axis that `limit` gives bounds. lanes: False runs in row order, element by element. spaced: the lanes may run
    along an axis that no access has contiguous. The access that is written is the last of `accesses`.
    """

    def __init__(
        self, builder: Builder, sizes: Sequence[int], accesses: Sequence[Access], *, fixed: int | None = None,
        lanes: bool = True, spaced: bool = False,
    ) -> None:  # fmt: skip
        self.builder = builder
        self.sizes, strides, self.fixed_axis = collapse_axes(sizes, [a.strides for a in accesses], fixed)
        self.accesses = [a._replace(strides=s) for a, s in zip(accesses, strides, strict=True)]
        self.bounds: list[Bounds] = [(0, size) for size in self.sizes]
        self.lane = self._lane_axis(spaced) if lanes else None

    def _lane_axis(self, spaced: bool) -> int | None:
        """The axis that most accesses have contiguous. The result counts twice, and empty lanes count against an axis."""
        best: tuple[float, int | None] = (float("-inf"), None)
        for axis, size in enumerate(self.sizes):
            strides = [a.strides[axis] for a in self.accesses]
            gain = strides.count(1) + (strides[-1] == 1)
            if size < 2 or not (gain or spaced):
                continue
            waste = -(-size // self.builder.lanes) * self.builder.lanes / size - 1
            best = max(best, (gain - waste / 2, axis), key=lambda candidate: candidate[0])
        return best[1]

    def unit(self, axis: int) -> int:
        return self.builder.lanes if axis == self.lane else 1

    def units(self) -> list[int]:
        """The units of work along every axis."""
        return [-(-size // self.unit(axis)) for axis, size in enumerate(self.sizes)]

    def share(self, thread: Value, threads: Value) -> None:
        """Restrict this thread to its range of one axis."""
        axis = long_axis(self.units())
        self.bounds[axis] = aligned_thread_range(self.builder, self.sizes[axis], self.unit(axis), thread, threads)

    def limit(self, bounds: Bounds) -> None:
        """Bounds for the axis `fixed`."""
        assert self.fixed_axis is not None
        self.bounds[self.fixed_axis] = bounds

    def run(self, body: Callable[[list[Value], Value | None], None], addresses: Sequence[Value] | None = None) -> None:
        """Emit the loop nest. addresses: of the accesses, in place of their own."""
        start = [a.address for a in self.accesses] if addresses is None else list(addresses)
        self._axes([axis for axis in range(len(self.sizes)) if axis != self.lane], body, start)

    def _axes(self, axes: list[int], body: Callable[[list[Value], Value | None], None], addresses: list[Value]) -> None:
        if axes:
            inside = lambda i: self._axes(axes[1:], body, self._moved(addresses, axes[0], i))
            self.builder.loop(*self.bounds[axes[0]], 1, inside)
        elif self.lane is None:
            body(addresses, None)
        else:
            self._line(self.lane, body, addresses)

    def _moved(self, addresses: list[Value], axis: int, i: Value) -> list[Value]:
        return self.stepped(addresses, [a.strides[axis] for a in self.accesses], i)

    def stepped(self, addresses: Sequence[Value], strides: Sequence[int], i: Value) -> list[Value]:
        """The addresses `i` strides further on."""
        builder = self.builder
        return [
            builder.at(address, builder.mul(i, builder.index(stride)), a.dtype) if stride else address
            for address, stride, a in zip(addresses, strides, self.accesses, strict=True)
        ]

    def _line(self, axis: int, body: Callable[[list[Value], Value | None], None], addresses: list[Value]) -> None:
        """Loop over vectors along `axis`; the last one is masked where lanes are left over."""
        builder, (first, last) = self.builder, self.bounds[axis]
        lanes = builder.index(builder.lanes)
        start, stop = (builder.index(n) if isinstance(n, int) else n for n in (first, last))
        at = lambda unit: self._moved(addresses, axis, builder.add(start, builder.mul(unit, lanes)))
        if isinstance(first, int) and isinstance(last, int):
            full, rest = divmod(last - first, builder.lanes)
            builder.loop(0, full, 1, lambda unit: body(at(unit), None))
            if rest:
                body(at(builder.index(full)), builder.first_lanes(rest))
            return
        count = builder.sub(stop, start)
        whole = builder.sdiv(count, lanes)
        builder.loop(0, whole, 1, lambda unit: body(at(unit), None))
        left = builder.sub(count, builder.mul(whole, lanes))
        with builder.when(builder.icmp_signed(">", left, builder.index(0))):
            body(at(whole), builder.first_lanes(left))

    # ---- elements -----------------------------------------------------------------------------------------------------

    def stride(self, number: int) -> int:
        """The stride of the lanes of an access; 0 where the nest runs element by element."""
        return 0 if self.lane is None else self.accesses[number].strides[self.lane]

    def spaced(self, number: int) -> Value:
        """The offsets of the lanes of an access from the first."""
        stride = self.stride(number)
        return ir.Constant(self.builder.lane_numbers().type, [lane * stride for lane in range(self.builder.lanes)])

    def read(self, number: int, addresses: Sequence[Value], mask: Value | None) -> Value:
        builder, address, dtype = self.builder, addresses[number], self.accesses[number].dtype
        if self.stride(number) == 0:
            return builder.splat(builder.load_scalar(address, dtype))
        if self.stride(number) == 1:
            return builder.load_vector(address, dtype, mask)
        return builder.gather(address, self.spaced(number), dtype, mask)

    def write(self, number: int, addresses: Sequence[Value], value: Value, mask: Value | None) -> None:
        builder, address, dtype = self.builder, addresses[number], self.accesses[number].dtype
        if self.stride(number) == 0:
            builder.store_scalar(builder.extract_element(value, ir.IntType(32)(0)), address, dtype)
        elif self.stride(number) == 1:
            builder.store_vector(value, address, dtype, mask)
        else:
            builder.scatter(value, address, self.spaced(number), dtype, mask)

    def copy(self, addresses: Sequence[Value] | None = None) -> None:
        """Copy access 0 to access 1."""
        self.run(lambda here, mask: self.write(1, here, self.read(0, here, mask), mask), addresses)

    def clear(self) -> None:
        """Fill the only access with zeros."""
        zero = self.builder.constant(0, self.accesses[0].dtype)
        self.run(lambda here, mask: self.write(0, here, zero, mask))

    def add(self, addresses: Sequence[Value] | None = None) -> None:
        """Add access 0 to access 1."""
        e = VectorMath(self.builder, np.dtype(self.accesses[1].dtype))

        def body(here: list[Value], mask: Value | None) -> None:
            self.write(1, here, e.add(self.read(1, here, mask), self.read(0, here, mask)), mask)

        self.run(body, addresses)


# ---- pad, concatenate ------------------------------------------------------------------------------------------------


def _copy_shared(
    builder: Builder, sizes: Sequence[int], source: Access, target: Access, thread: Value, threads: Value
) -> None:
    sweep = StridedLoop(builder, sizes, [source, target])
    sweep.share(thread, threads)
    sweep.copy()


def emit_pad(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    """Each thread owns a range of the result along one axis: it clears the range, then copies its part of x."""
    single = OpOperands(builder, spec, pointers, moving=True)
    (source,), target, shape = single.operands, single.result, single.shape
    if "inside" in single.attributes:
        _clear_borders(builder, single, thread, threads)
        return
    if not shape:
        _copy_shared(builder, (), source, target, thread, threads)
        return
    axis = long_axis(shape)
    mine = thread_range(builder, shape[axis], thread, threads)
    zeros = StridedLoop(builder, shape, [target], fixed=axis)
    zeros.limit(mine)
    zeros.clear()
    counts = [count for _, count, _ in single.attributes["slices"]]
    if 0 in counts:
        return
    starts, steps = [], []
    for i, (start, count, step) in enumerate(single.attributes["slices"]):
        if step < 0:  # the same elements in reversed order
            source, start = source.backward(builder, i, count), start + (count - 1) * step
        starts.append(start)
        steps.append(abs(step) if count > 1 else 1)
    target = target.beyond(builder, sum(n * s for n, s in zip(starts, target.strides, strict=True)))
    target = target._replace(strides=tuple(n * s for n, s in zip(steps, target.strides, strict=True)))
    moved = StridedLoop(builder, counts, [source, target], fixed=axis)
    first, last = (_before(builder, n, starts[axis], steps[axis], counts[axis]) for n in mine)
    moved.limit((first, last))
    moved.copy()


def _clear_borders(builder: Builder, single: OpOperands, thread: Value, threads: Value) -> None:
    """Zeros around a value that has been computed into the result."""
    filled, shape = single.attributes["inside"], single.shape
    for axis, (start, count) in enumerate(filled):
        for first, end in ((0, start), (start + count, shape[axis])):
            bounds = [*filled[:axis], (first, end - first), *((0, n) for n in shape[axis + 1 :])]
            sizes = [n for _, n in bounds]
            if 0 not in sizes:
                begin = sum(at * s for (at, _), s in zip(bounds, single.result.strides, strict=True))
                slab = StridedLoop(builder, sizes, [single.result.beyond(builder, begin)])
                slab.share(thread, threads)
                slab.clear()


def _before(builder: Builder, end: Value, start: int, step: int, count: int) -> Value:
    """How many of the `count` positions start, start + step, ... lie before `end`."""
    distance = builder.intrinsic("smax", builder.sub(end, builder.index(start)), builder.index(0))
    number = builder.udiv(builder.add(distance, builder.index(step - 1)), builder.index(step))
    return builder.intrinsic("smin", number, builder.index(count))


def emit_concatenate(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    single = OpOperands(builder, spec, pointers, moving=True)
    axis, start = single.attributes["axis"], 0
    for source, shape in zip(single.operands, single.shapes, strict=True):
        target = single.result.beyond(builder, start * single.result.strides[axis])
        _copy_shared(builder, shape, source, target, thread, threads)
        start += shape[axis]


# ---- sums ------------------------------------------------------------------------------------------------------------


def emit_fold(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    """Each thread owns whole planes (one image, one channel): zeros, then the taps of the window in order."""
    single = OpOperands(builder, spec, pointers)
    (source,), target, attributes = single.operands, single.result, single.attributes
    if "inside" in attributes:
        _clear_borders(builder, single, thread, threads)
        return
    batch, channels, p, q, kernel_h, kernel_w = single.shapes[0]
    stride, dilation = attributes["stride"], attributes["dilation"]
    height, width = target.strides[2:]
    zeros = StridedLoop(builder, single.shape[2:], [target.along((2, 3))])
    strides = (height * stride[0], width * stride[1])
    taps = StridedLoop(builder, (p, q), [source.along((2, 3)), target._replace(strides=strides)])

    def at(access: Access, axis: int, i: Value, step: int = 1) -> Access:
        return access.beyond(builder, builder.mul(i, builder.index(step * access.strides[axis])))

    def tap(source: Access, target: Access, k: Value, l: Value) -> None:
        x = at(at(source, 4, k), 5, l)
        y = at(at(target, 2, k, dilation[0]), 3, l, dilation[1])
        taps.add([x.address, y.address])

    def plane(i: Value) -> None:
        image, channel = builder.udiv(i, builder.index(channels)), builder.urem(i, builder.index(channels))
        x, y = (at(at(access, 0, image), 1, channel) for access in (source, target))
        zero = builder.constant(0, y.dtype)
        zeros.run(lambda here, mask: zeros.write(0, here, zero, mask), [y.address])
        builder.loop(0, kernel_h, 1, lambda k: _loop(builder, kernel_w, lambda l: tap(x, y, k, l)))

    if batch * channels:
        builder.loop(*thread_range(builder, batch * channels, thread, threads), 1, plane)


def _loop(builder: Builder, count: int, body: Callable[[Value], None]) -> None:
    builder.loop(0, count, 1, body)


def emit_cumulative_sum(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    """The lanes run along another axis, each with its own running sum; one sum at a time where there is no other axis."""
    single = OpOperands(builder, spec, pointers)
    (source,), target, axis = single.operands, single.result, single.attributes["axis"]
    count = single.shape[axis]
    if count == 0:
        return
    if single.attributes["reverse"]:
        source, target = (x.backward(builder, axis, count) for x in (source, target))
    others = [i for i in range(len(single.shape)) if i != axis]
    sizes = [single.shape[i] for i in others]
    sweep = StridedLoop(builder, sizes, [source.along(others), target.along(others)], spaced=True)
    sweep.share(thread, threads)
    before, after = (VectorMath(builder, np.dtype(x.dtype)) for x in (source, target))
    strides = (source.strides[axis], target.strides[axis])

    def body(addresses: list[Value], mask: Value | None) -> None:
        def add(i: Value, total: Value) -> Value:
            here = sweep.stepped(addresses, strides, i)
            total = after.add(total, before.cast(sweep.read(0, here, mask), target.dtype))
            sweep.write(1, here, total, mask)
            return total

        # -0.0 + x is x for every x, -0.0 among them.
        builder.loop(0, count, 1, add, [after.constant(-0.0 if after.is_float else 0)])

    sweep.run(body)


MOVEMENT_EMITTERS: dict[Op, Emitter] = {
    pad: emit_pad,
    concatenate: emit_concatenate,
    fold: emit_fold,
    cumulative_sum: emit_cumulative_sum,
}
