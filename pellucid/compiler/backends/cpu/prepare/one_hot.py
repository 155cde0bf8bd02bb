"""Gathers and scatters along a short axis as comparisons with every position of it (floor 4)."""

from __future__ import annotations

import numpy as np

from .....core.value import Symbol
from ....ir.graph import Graph
from ....ir.rewrite import constant, emit, rewrite

SMALL_AXIS = 256  # up to here, picking along an axis is a comparison with every position of it


def gather_to_onehot(graph: Graph) -> Graph:
    """A gather or scatter of one position along a short axis, as in cross-entropy: compare with every position instead.

    where(position == index, x, 0) summed along the axis is an elementwise loop, which fuses; a scatter_add is the same
    without the sum. What is picked is a single number, so the bits are those of the gather, except that -0 becomes 0.
    """

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        name = symbol.op_name
        if name not in ("gather", "scatter_add"):
            return None
        x, index, axis, place = inputs[0], inputs[1], symbol.attributes["axis"], symbol.origin
        size = x.shape[axis]
        same = all(i == axis or a == b for i, (a, b) in enumerate(zip(x.shape, index.shape, strict=True)))
        if index.shape[axis] != 1 or not same or size > SMALL_AXIS or size == 0:
            return None
        message = f"index {{}} on axis {axis} of size {size}; expected 0 to {size - 1}; check the labels"
        index = emit("within", index, origin=place, low=-size, high=size, spare=None, message=message)
        if index.dtype.itemsize == 1:  # the size itself may be more than such a number can hold
            index = emit("cast", index, origin=place, dtype=np.dtype(np.int64))
        zero = constant(0, index.dtype, place)
        wrapped = emit("add", index, constant(size, index.dtype, place), origin=place)
        index = emit("where", emit("less", index, zero, origin=place), wrapped, index, origin=place)
        shape = tuple(size if i == axis else 1 for i in range(x.ndim))
        positions = constant(np.arange(size).reshape(shape), index.dtype, place)
        here = emit("equal", positions, index, origin=place)
        nothing = constant(0, x.dtype, place)
        if name == "gather":
            picked = emit("where", here, x, nothing, origin=place)
            meet = "any" if x.dtype == np.bool_ else "sum"
            picked = emit(meet, picked, origin=place, axes=(axis,), keepdims=True)
            return emit("cast", picked, origin=place, dtype=x.dtype)  # sums of small integers are int64
        added = emit("where", here, inputs[2], nothing, origin=place)
        if x.op_name == "expand" and x.inputs[0].constant is not None and not x.inputs[0].constant.any():
            return added
        return emit("add", x, added, origin=place)

    return rewrite(graph, replacement)
