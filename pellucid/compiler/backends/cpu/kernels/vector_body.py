"""Vector code inside a loop nest: loads, instructions and stores (floor 4).

A LaneContext is one point of the loop nest. An index is (value, extra): the i64 of a loop plus a constant, so that the rows
of a tile share one address computation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

from .....ops.elementwise import Elementwise, where
from .....ops.index import check_index
from .....ops.reduce import ArgReduce, Reducing
from ..kernel_ir import Constant, Instruction, KernelSpec, Load, Operand, Scalar, Store
from ..llvm import Builder, Value, i8, i32, ir
from .vector_math import VectorMath

# emitter(builder, spec, pointers, flag, thread, threads) writes the code of one kernel.
Emitter = Callable[[Builder, KernelSpec, Sequence[Value], Value, Value, Value], None]
Index = tuple[Value, int]
Indices = dict[int, Index]  # of the axes of the domain


class LaneContext:
    """Addresses and values at one point of a loop nest. lane_axis: the axis of the lanes. mask: the lanes that exist.

    pointers: an address for each pointer of the spec; for a Scalar the vector of its value.
    """

    def __init__(
        self, builder: Builder, pointers: Sequence[Value], flag: Value, indices: Indices, lane_axis: int | None,
        mask: Value | None = None,
    ) -> None:  # fmt: skip
        self.builder, self.pointers, self.flag = builder, pointers, flag
        self.indices, self.lane_axis, self.mask = indices, lane_axis, mask
        self.bases: dict[tuple[int, str, tuple[int, ...]], Value] = {}
        self.loaded: dict[Load, Value] = {}

    def moved(self, extras: dict[int, int], mask: Value | None) -> LaneContext:
        """This point with constants added to some indices. Base addresses are shared."""
        indices = {axis: (value, extra + extras.get(axis, 0)) for axis, (value, extra) in self.indices.items()}
        context = LaneContext(self.builder, self.pointers, self.flag, indices, self.lane_axis, mask)
        context.bases = self.bases
        return context

    def address(self, pointer: int, offset: int, strides: Sequence[int], dtype: str) -> Value:
        builder = self.builder
        key = (pointer, dtype, tuple(strides))
        if key not in self.bases:
            base_offset = builder.index(0)
            for axis, stride in enumerate(strides):
                value = self.indices[axis][0] if axis in self.indices and stride else None
                if value is not None:
                    base_offset = builder.add(base_offset, builder.mul(value, builder.index(stride)))
            self.bases[key] = builder.at(self.pointers[pointer], base_offset, dtype)
        extra = offset + sum(s * self.indices[a][1] for a, s in enumerate(strides) if a in self.indices)
        return builder.at(self.bases[key], extra, dtype)

    def load(self, operand: Load) -> Value:
        if operand not in self.loaded:
            self.loaded[operand] = self._load(operand)
        return self.loaded[operand]

    def _load(self, operand: Load) -> Value:
        builder, (pointer, offset, strides, dtype) = self.builder, operand
        address = self.address(pointer, offset, strides, dtype)
        stride = 0 if self.lane_axis is None else strides[self.lane_axis]
        if stride == 0:
            return builder.splat(builder.load_scalar(address, dtype))
        if stride == 1:
            return builder.load_vector(address, dtype, self.mask)
        return builder.gather(address, _spaced(builder, stride), dtype, self.mask)

    def store(self, store: Store, value: Value) -> None:
        builder = self.builder
        address = self.address(store.pointer, 0, store.strides, store.dtype)
        stride = 0 if self.lane_axis is None else store.strides[self.lane_axis]
        if stride == 0:
            builder.store_scalar(builder.extract_element(value, i32(0)), address, store.dtype)
        elif stride == 1:
            builder.store_vector(value, address, store.dtype, self.mask)
        else:
            builder.scatter(value, address, _spaced(builder, stride), store.dtype, self.mask)

    # ---- instructions ----

    def operand(self, operand: Operand, values: dict[int, Value]) -> Value:
        if isinstance(operand, Load):
            return self.load(operand)
        if isinstance(operand, Constant):
            return self.builder.constant(operand.value, operand.dtype)
        if isinstance(operand, Scalar):
            return self.pointers[operand.pointer]
        return values[operand]

    def run(
        self, spec: KernelSpec, values: dict[int, Value], level: int = 0, per_row: bool = False
    ) -> dict[int, Value]:
        """Emit every instruction of that level that is not a reduction. `values` holds the results so far."""
        for i, instruction in enumerate(spec.instructions):
            if (
                i in values
                or isinstance(instruction.op, Reducing)
                or (instruction.level, instruction.per_row) != (level, per_row)
            ):
                continue
            operands = [self.operand(x, values) for x in instruction.operands]
            if instruction.op is check_index:
                values[i] = self._checked(instruction, operands[0], operand_dtype(spec, instruction.operands[0]))
                continue
            kind = operand_dtype(spec, instruction.operands[1 if instruction.op is where else 0])
            op = instruction.op
            assert isinstance(op, Elementwise) and op.native is not None
            values[i] = op.native(VectorMath(self.builder, np.dtype(kind)), *operands, **dict(instruction.attributes))
        return values

    def _checked(self, instruction: Instruction, index: Value, dtype: str) -> Value:
        """A bounds check. An index out of range raises the flag, and is replaced by 0."""
        attributes, e = dict(instruction.attributes), VectorMath(self.builder, np.dtype(dtype))
        builder, (least, largest) = self.builder, _range(dtype)
        allowed = e.greater_equal(index, e.constant(max(attributes["low"], least)))
        if attributes["high"] <= largest:  # a bound may not fit the dtype
            allowed = builder.and_(allowed, e.less(index, e.constant(attributes["high"])))
        if attributes["spare"] is not None and least <= attributes["spare"] <= largest:
            allowed = builder.or_(allowed, e.equal(index, e.constant(attributes["spare"])))
        outside = builder.not_(allowed)
        if self.mask is not None:
            outside = builder.and_(outside, self.mask)
        with builder.when(builder.fold_lanes(outside, builder.or_)):
            builder.store(i8(1), self.flag)
        return builder.select(allowed, index, e.constant(0))


# point_at(indices, lane_axis, mask): a LaneContext of the kernel that is emitted.
PointAt = Callable[[Indices, int | None, Value | None], LaneContext]


def _range(dtype: str) -> tuple[float, float]:
    """The smallest and the largest value of a dtype."""
    if np.dtype(dtype).kind == "f":
        return -math.inf, math.inf
    return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)


def _spaced(builder: Builder, stride: int) -> Value:
    return ir.Constant(builder.lane_numbers().type, [lane * stride for lane in range(builder.lanes)])


def operand_dtype(spec: KernelSpec, operand: Operand) -> str:
    return operand.dtype if isinstance(operand, Load | Constant | Scalar) else spec.instructions[operand].dtype


def thread_range(builder: Builder, count: int, thread: Value, threads: Value) -> tuple[Value, Value]:
    """The range of 0 ... count-1 that `thread` works on: contiguous, and all of it for one thread."""
    whole = builder.index(count)
    first = builder.udiv(builder.mul(whole, thread), threads)
    last = builder.udiv(builder.mul(whole, builder.add(thread, builder.index(1))), threads)
    return first, last


def loop_axes(builder: Builder, domain: Sequence[int], axes: Sequence[int], body: Callable[[Indices], None]) -> None:
    """body(indices) at every point of some axes of the domain."""

    def nest(axes: Sequence[int], indices: Indices) -> None:
        if axes:
            builder.loop(0, domain[axes[0]], 1, lambda i: nest(axes[1:], {**indices, axes[0]: (i, 0)}))
        else:
            body(indices)

    nest(axes, {})


def loop_blocks(
    builder: Builder, size: int, bounds: tuple[Value, Value] | None, body: Callable[[Value, int], None]
) -> None:
    """body(first element, how many) for the blocks of `lanes` elements of an axis; the last may be short, in code of its own.

    bounds: the blocks of this thread, the first and the last + 1. None for all.
    """
    lanes = builder.lanes
    full, rest = divmod(size, lanes)
    whole = lambda u: body(builder.mul(u, builder.index(lanes)), lanes)
    if bounds is None:
        builder.loop(0, full, 1, whole)
        if rest:
            body(builder.index(full * lanes), rest)
        return
    first, last = bounds
    has_rest = builder.icmp_signed(">", last, builder.index(full))
    builder.loop(first, builder.select(has_rest, builder.index(full), last), 1, whole)
    if rest:
        with builder.when(builder.and_(has_rest, builder.icmp_signed("<", first, last))):
            body(builder.index(full * lanes), rest)


# ---- reductions ----------------------------------------------------------------------------------------------------------


class Accumulator:
    """The state of a reduction: one vector, or two for argmax and argmin."""

    def __init__(self, builder: Builder, spec: KernelSpec, number: int) -> None:
        self.builder, self.instruction = builder, spec.instructions[number]
        op = self.instruction.op
        assert isinstance(op, Reducing)
        self.number, self.op = number, op
        self.source = operand_dtype(spec, self.instruction.operands[0])
        self.positional = isinstance(self.op, ArgReduce)
        self.dtype = self.source if self.positional else self.instruction.dtype
        self.e = VectorMath(builder, np.dtype(self.dtype))

    @property
    def width(self) -> int:
        """How many vectors its state has."""
        return 2 if self.positional else 1

    def start(self) -> list[Value]:
        value = self.builder.constant(self.op.identity(np.dtype(self.dtype)), self.dtype)
        return [value, self.builder.bits(2**31 - 1)] if self.positional else [value]

    def add(
        self, state: Sequence[Value], context: LaneContext, values: dict[int, Value], position: Value | None
    ) -> list[Value]:
        """The state after one more vector; `position`: a vector of i32, its index along the reduced axis."""
        x = context.operand(self.instruction.operands[0], values)
        if not self.positional:
            x = VectorMath(self.builder, np.dtype(self.source)).cast(x, self.dtype)
        if context.mask is not None:
            x = self.builder.select(
                context.mask, x, self.builder.constant(self.op.identity(np.dtype(self.dtype)), self.dtype)
            )
            if position is not None:
                position = self.builder.select(context.mask, position, self.builder.bits(2**31 - 1))
        return self.combine(state, [x] if position is None else [x, position])

    def combine(self, a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
        if self.positional:
            return self._first_best(a, b)
        return [self.op.native(self.e, a[0], b[0])]

    def _first_best(self, a: Sequence[Value], b: Sequence[Value]) -> list[Value]:
        builder, e = self.builder, self.e
        better, same = self.op.native(e, b[0], a[0]), e.equal(a[0], b[0])
        if e.is_float:  # the first NaN wins over everything
            nan_a, nan_b = e.not_equal(a[0], a[0]), e.not_equal(b[0], b[0])
            better = builder.or_(builder.and_(better, builder.not_(nan_a)), builder.and_(nan_b, builder.not_(nan_a)))
            same = builder.or_(same, builder.and_(nan_a, nan_b))
        earlier = builder.icmp_signed("<", b[1], a[1])
        take = builder.or_(better, builder.and_(same, earlier))
        return [builder.select(take, b[0], a[0]), builder.select(take, b[1], a[1])]

    def folded(self, state: Sequence[Value]) -> list[Value]:
        """All lanes combined, in every lane."""
        builder, width, state = self.builder, self.builder.lanes, list(state)
        while width > 1:
            width //= 2
            order = [(lane + width) % builder.lanes for lane in range(builder.lanes)]
            state = self.combine(state, [builder.shuffle(x, x, order) for x in state])
        return state

    def result(self, state: Sequence[Value]) -> Value:
        if self.positional:
            return self.builder.sext(state[1], self.builder.vector(self.instruction.dtype))
        return state[0]


def accumulators(builder: Builder, spec: KernelSpec) -> list[Accumulator]:
    return [
        Accumulator(builder, spec, i)
        for i, instruction in enumerate(spec.instructions)
        if isinstance(instruction.op, Reducing)
    ]


def split_state(reductions: Sequence[Accumulator], state: Sequence[Value]) -> list[Sequence[Value]]:
    """The state of each reduction, of their states one after another."""
    ends = list(itertools.accumulate(acc.width for acc in reductions))
    return [state[end - acc.width : end] for acc, end in zip(reductions, ends, strict=True)]
