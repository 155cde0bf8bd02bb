"""Large reductions: split them into two stages, so that threads can share them (floor 4)."""

from __future__ import annotations

from .....core.value import Symbol
from .....ops.movement import reshape
from .....ops.reduce import sum_
from ....ir.graph import Graph
from ....ir.rewrite import emit, rewrite
from ..costs import LARGE_REDUCTION


def split_large_reductions(graph: Graph, by_row: bool = False) -> Graph:
    """Split a sum of very many numbers into one number into two stages, whose first one threads can share.

    The cut depends on the shape alone, so that the bits do not depend on the number of threads. by_row: only full
    reductions to a scalar are split, not the sum of a single row.
    """

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        if symbol.op is not sum_ or symbol.size != 1 or inputs[0].size < LARGE_REDUCTION:
            return None
        if by_row and symbol.ndim:  # the sum of a single row
            return None
        n = inputs[0].size
        pieces = next((p for p in range(64, 7, -1) if n % p == 0), 0)
        if not pieces or inputs[0].dtype != symbol.dtype:
            return None
        parts = emit(reshape, inputs[0], origin=symbol.origin, shape=(pieces, n // pieces))
        parts = emit(sum_, parts, origin=symbol.origin, axes=(1,), keepdims=False)
        whole = emit(sum_, parts, origin=symbol.origin, axes=(0,), keepdims=False)
        return emit(reshape, whole, origin=symbol.origin, shape=symbol.shape)

    return rewrite(graph, replacement)
