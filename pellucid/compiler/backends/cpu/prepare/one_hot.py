"""One-hot: rewrite gathers and scatters along a short axis as comparisons with every position (floor 4)."""

from __future__ import annotations

import numpy as np

from .....core.value import Symbol
from .....ops.elementwise import add, cast, equal, less, where
from .....ops.index import check_index, gather, scatter_add
from .....ops.reduce import any_, expand, sum_
from ....ir.graph import Graph
from ....ir.rewrite import constant, emit, is_zeros, rewrite
from ..costs import SMALL_AXIS


def gather_to_onehot(graph: Graph) -> Graph:
    """Replace a gather or scatter of one position along a short axis, as in cross-entropy, by a one-hot comparison.

    where(position == index, x, 0) summed along the axis is an elementwise loop, which fuses; a scatter_add is the same
    without the sum. One element is selected, so that the bits are those of the gather, except that -0 becomes 0.
    """

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        op = symbol.op
        if op not in (gather, scatter_add):
            return None
        x, index, axis, origin = inputs[0], inputs[1], symbol.attributes["axis"], symbol.origin
        size = x.shape[axis]
        same = all(i == axis or a == b for i, (a, b) in enumerate(zip(x.shape, index.shape, strict=True)))
        if index.shape[axis] != 1 or not same or size > SMALL_AXIS or size == 0:
            return None
        message = f"index {{}} on axis {axis} of size {size}; expected 0 to {size - 1}; check the labels"
        index = emit(check_index, index, origin=origin, low=-size, high=size, spare=None, message=message)
        if index.dtype.itemsize == 1:  # the size may not fit the dtype
            index = emit(cast, index, origin=origin, dtype=np.dtype(np.int64))
        zero = constant(0, index.dtype, origin)
        wrapped = emit(add, index, constant(size, index.dtype, origin), origin=origin)
        index = emit(where, emit(less, index, zero, origin=origin), wrapped, index, origin=origin)
        shape = tuple(size if i == axis else 1 for i in range(x.ndim))
        positions = constant(np.arange(size).reshape(shape), index.dtype, origin)
        matches = emit(equal, positions, index, origin=origin)
        zero_value = constant(0, x.dtype, origin)
        if op is gather:
            picked = emit(where, matches, x, zero_value, origin=origin)
            reduction = any_ if x.dtype == np.bool_ else sum_
            picked = emit(reduction, picked, origin=origin, axes=(axis,), keepdims=True)
            return emit(cast, picked, origin=origin, dtype=x.dtype)  # sums of small integers are int64
        added = emit(where, matches, inputs[2], zero_value, origin=origin)
        if x.op is expand and is_zeros(x):
            return added
        return emit(add, x, added, origin=origin)

    return rewrite(graph, replacement)
