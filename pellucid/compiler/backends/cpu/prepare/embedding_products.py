"""Embedding products: commute a gather with a matmul, as in an embedding followed by a layer (floor 4).

Where more rows are gathered than the table has, multiply the table and gather rows of the result: the same numbers with
fewer multiplications. Both gradients follow: incoming rows are first added up for each row of the table. This changes the
order of sums, so that the last digits may differ.
"""

from __future__ import annotations

import math

from .....core.value import Symbol
from .....ops.contraction import dot_general, matmul
from .....ops.index import index_add, take
from .....ops.movement import permute, reshape
from ....ir.graph import Graph
from ....ir.rewrite import emit, rewrite
from .contractions import PRODUCTS, labels

MIN_GATHER_RATIO = 2  # gathered rows per row of the table, at least


def commute_gather_matmul(graph: Graph) -> Graph:
    """Use matmul(take(E, i), W) = take(matmul(E, W), i) and index_add(matmul(g, W), i) = matmul(index_add(g, i), W); a sum of
    products over gathered rows becomes one over the table."""

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        op = symbol.op
        if op is index_add:
            return _scatter_of_matmul(symbol, *inputs)
        if op not in PRODUCTS or symbol.ndim < 2:
            return None
        return _matmul_of_gather(symbol, *inputs) if op is matmul else _weight_gradient(symbol, *inputs)

    return rewrite(graph, replacement)


def _gathered(x: Symbol) -> tuple[Symbol, Symbol] | None:
    """(E, i) if x is take(E, i) for a table E (V, C), perhaps with the axes of i moved; None otherwise."""
    if x.op is None:
        return None
    op = x.op
    if op is take and x.inputs[0].ndim == 2 and x.ndim > 1:
        return (x.inputs[0], x.inputs[1]) if x.size >= MIN_GATHER_RATIO * x.inputs[0].size else None
    below = _gathered(x.inputs[0]) if _keeps_rows(x) else None
    if below is None:
        return None
    if op is permute:
        return below[0], emit(permute, below[1], origin=x.origin, axes=x.attributes["axes"][:-1])
    return below[0], emit(reshape, below[1], origin=x.origin, shape=x.shape[:-1])


def _matmul_of_gather(symbol: Symbol, x: Symbol, weight: Symbol) -> Symbol | None:
    gathered = _gathered(x) if weight.ndim == 2 else None
    if gathered is None:
        return None
    table, index = gathered
    return emit(take, emit(matmul, table, weight, origin=symbol.origin), index, origin=symbol.origin)


def _scatter_of_matmul(symbol: Symbol, g: Symbol, index: Symbol) -> Symbol | None:
    """The gradient of the table: add up rows before the product with the weight."""
    rows = symbol.shape[0]
    if math.prod(index.shape) < MIN_GATHER_RATIO * rows or symbol.ndim != 2:
        return None
    g, index = _without_row_moves(g, index)
    if g.op not in PRODUCTS or g.shape[:-1] != index.shape:
        return None
    *sides, y = labels(g)
    for side, other in ((0, 1), (1, 0)):
        summed = [letter for letter in sides[other] if letter not in y]
        if set(sides[other]) == {y[-1], *summed} and len(summed) == 1 and set(sides[side]) == {*y[:-1], *summed}:
            order = tuple(sides[side].index(letter) for letter in (*y[:-1], *summed))
            before = emit(permute, g.inputs[side], origin=symbol.origin, axes=order)
            added = emit(index_add, before, index, origin=symbol.origin, shape=(rows, before.shape[-1]))
            weight = "".join(map(str, sides[other]))
            row = next(letter for letter in "zyx" if letter not in weight)
            return emit(dot_general, added, g.inputs[other], origin=symbol.origin, a=f"{row}{summed[0]}", b=weight,
                         y=f"{row}{y[-1]}")  # fmt: skip
    return None


def _without_row_moves(g: Symbol, index: Symbol) -> tuple[Symbol, Symbol]:
    """g without movements of its rows, and the index moved in the same way."""
    while _keeps_rows(g):
        below = g.inputs[0]
        if g.op is permute:
            back = tuple(g.attributes["axes"].index(axis) for axis in range(g.ndim - 1))
            index = emit(permute, index, origin=g.origin, axes=back)
        else:
            index = emit(reshape, index, origin=g.origin, shape=below.shape[:-1])
        g = below
    return g, index


def _keeps_rows(x: Symbol) -> bool:
    """Whether x is a movement of whole rows."""
    if x.op is None or x.ndim < 2:
        return False
    if x.op is permute:
        return bool(x.attributes["axes"][-1] == x.ndim - 1)
    return x.op is reshape and x.inputs[0].ndim > 1 and x.shape[-1] == x.inputs[0].shape[-1]


def _weight_gradient(symbol: Symbol, a: Symbol, b: Symbol) -> Symbol | None:
    """The gradient of the weight, summed over the gathered rows."""
    *sides, y = labels(symbol)
    for side, other in ((0, 1), (1, 0)):
        x, g = (a, b)[side], (a, b)[other]
        gathered = _gathered_operand(x, sides[side], y)
        if gathered is None or x.ndim < 2:
            continue
        table, index, picked, channel = gathered
        other_letters = [letter for letter in sides[other] if letter not in picked]
        if (
            set(picked) != set(sides[side]) - {channel}
            or not set(picked) <= set(sides[other])
            or len(other_letters) != 1
        ):
            continue
        order = tuple(sides[other].index(letter) for letter in (*picked, *other_letters))
        g = emit(permute, g, origin=symbol.origin, axes=order)
        added = emit(index_add, g, index, origin=symbol.origin, shape=(table.shape[0], g.shape[-1]))
        row = next(letter for letter in "zyxwvut" if letter not in "".join(map(str, (*sides[0], *sides[1]))))
        return emit(
            dot_general,
            table,
            added,
            origin=symbol.origin,
            a=f"{row}{channel}",
            b=f"{row}{other_letters[0]}",
            y="".join(map(str, y)),
        )
    return None


def _gathered_operand(
    x: Symbol, side: tuple[str | None, ...], y: tuple[str | None, ...]
) -> tuple[Symbol, Symbol, list[str], str] | None:
    """x as gathered rows: the table, the index, the letters of its axes in the order of the index, and that of the channels."""
    axes = tuple(range(x.ndim))
    while x.op is permute:
        axes = tuple(x.attributes["axes"][axis] for axis in axes)
        x = x.inputs[0]
    gathered = _gathered(x)
    letters: list[str | None] = [None] * x.ndim
    for position, axis in enumerate(axes):
        letters[axis] = side[position]
    if gathered is None or None in letters or letters[-1] not in y or any(letter in y for letter in letters[:-1]):
        return None
    *picked, channel = (str(letter) for letter in letters)
    return gathered[0], gathered[1], picked, channel
