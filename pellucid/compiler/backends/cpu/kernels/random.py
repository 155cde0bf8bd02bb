"""Random bits in native code: the Philox-4x32-10 of `ops/random.py`, one block of four words in every lane (floor 4).

Every word is a function of the seed, the call and its own position, so threads share the blocks freely.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .....core.op import Op
from .....ops.random import MULTIPLIERS, ROUNDS, WEYL, random_bits
from ..kernel_ir import KernelSpec, Load
from ..llvm import Builder, Value, i32, i64
from .vector_body import Emitter, thread_range


def emit_random_bits(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    (state,), store = spec.instructions[0].operands, spec.stores[0]
    assert isinstance(state, Load)
    count, lanes = math.prod(spec.shapes[-1]), builder.lanes
    base, target = pointers[state.pointer], pointers[store.pointer]
    seed, call = (
        builder.load_scalar(builder.at(base, state.offset + i * state.strides[0], state.dtype), state.dtype)
        for i in range(2)
    )
    full, rest = divmod(count, 4 * lanes)

    def fill(unit: Value, width: int) -> None:
        """One block per lane; `width` of their words are stored."""
        blocks = builder.add(builder.splat(builder.mul(unit, builder.index(lanes))), builder.lane_numbers())
        words = interleaved(builder, _rounds(builder, _counter(builder, blocks, call), seed))
        start = builder.mul(unit, builder.index(4 * lanes))
        for number, vector in enumerate(words):
            exist = min(width - number * lanes, lanes)
            if exist > 0:
                address = builder.at(target, builder.add(start, builder.index(number * lanes)), store.dtype)
                builder.store_vector(
                    vector, address, store.dtype, None if exist == lanes else builder.first_lanes(exist)
                )

    first, last = thread_range(builder, full + (rest > 0), thread, threads)
    end = builder.index(full)
    builder.loop(first, builder.intrinsic("smin", last, end), 1, lambda unit: fill(unit, 4 * lanes))
    if rest:  # the thread with the last unit does the ragged end
        has_end = builder.and_(builder.icmp_signed(">", last, end), builder.icmp_signed("<=", first, end))
        with builder.when(has_end):
            fill(end, rest)


def _counter(builder: Builder, blocks: Value, call: Value) -> list[Value]:
    """Four words of 32 bits, each in a lane of 64: a product of two fits there, and nothing has to be repacked."""
    wide = [blocks, builder.splat(call)]
    return [half(builder, number) for number in wide for half in (_low, _high)]


def _low(builder: Builder, number: Value) -> Value:
    return builder.and_(number, builder.constant(0xFFFFFFFF, np.int64))


def _high(builder: Builder, number: Value) -> Value:
    return builder.lshr(number, builder.constant(32, np.int64))


def _rounds(builder: Builder, words: list[Value], seed: Value) -> list[Value]:
    """The ten rounds, then the words as 32 bits."""
    a, b, c, d = words
    keys = builder.trunc(seed, i32), builder.trunc(builder.lshr(seed, builder.index(32)), i32)
    for number in range(ROUNDS):
        left, right = (
            builder.mul(x, builder.constant(int(m), np.int64)) for x, m in zip((a, c), MULTIPLIERS, strict=True)
        )
        key0, key1 = (
            builder.splat(builder.zext(builder.add(key, i32(number * weyl & 0xFFFFFFFF)), i64))
            for key, weyl in zip(keys, WEYL, strict=True)
        )
        a = builder.xor(builder.xor(_high(builder, right), b), key0)
        c = builder.xor(builder.xor(_high(builder, left), d), key1)
        b, d = _low(builder, right), _low(builder, left)
    return [builder.trunc(word, builder.vector(np.uint32)) for word in (a, b, c, d)]


def interleaved(builder: Builder, words: Sequence[Value]) -> list[Value]:
    """Four vectors, one number of each in turn: element i of the four together is word i % 4 of lane i // 4."""
    a, b, c, d = words
    lanes = builder.lanes
    pairs = [lane + word * lanes for lane in range(lanes) for word in range(2)]
    left, right = builder.shuffle(a, b, pairs), builder.shuffle(c, d, pairs)
    source_lane = lambda i: 2 * (i // 4) + i % 2 + (2 * lanes if i % 4 > 1 else 0)
    return [
        builder.shuffle(left, right, [source_lane(number * lanes + lane) for lane in range(lanes)])
        for number in range(4)
    ]


RANDOM_EMITTERS: dict[Op, Emitter] = {random_bits: emit_random_bits}
