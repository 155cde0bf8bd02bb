"""Products with rows that a lookup has picked, as in an embedding followed by a layer (floor 4).

Where more rows are picked than the table has, the table is multiplied instead, and rows of the result are picked: the
same numbers, with fewer multiplications. Both gradients follow: what comes back is first added up for each row of the
table. Sums are so taken in another order; the last digits may differ.
"""

from __future__ import annotations

import math

from .....core.value import Symbol
from ....ir.graph import Graph
from ....ir.rewrite import emit, rewrite
from .contractions import PRODUCTS, labels

MIN_GATHER_RATIO = 2  # times as many rows picked as the table has, at least


def commute_gather_matmul(graph: Graph) -> Graph:
    """matmul(take(E, i), W) = take(matmul(E, W), i); add_at(matmul(g, W), i) = matmul(add_at(g, i), W); and a sum over what
    was picked, of products with it, is one over the table."""

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        name = symbol.op_name
        if name == "add_at":
            return _scatter_of_matmul(symbol, *inputs)
        if name not in PRODUCTS or symbol.ndim < 2:
            return None
        return _matmul_of_gather(symbol, *inputs) if name == "matmul" else _weight_gradient(symbol, *inputs)

    return rewrite(graph, replacement)


def _gathered(x: Symbol) -> tuple[Symbol, Symbol] | None:
    """(E, i) if x is take(E, i) for a table E (V, C), perhaps with the axes of i moved; None otherwise."""
    if x.op is None:
        return None
    name = x.op_name
    if name == "take" and x.inputs[0].ndim == 2 and x.ndim > 1:
        return (x.inputs[0], x.inputs[1]) if x.size >= MIN_GATHER_RATIO * x.inputs[0].size else None
    below = _gathered(x.inputs[0]) if _keeps_rows(x) else None
    if below is None:
        return None
    if name == "permute":
        return below[0], emit("permute", below[1], origin=x.origin, axes=x.attributes["axes"][:-1])
    return below[0], emit("reshape", below[1], origin=x.origin, shape=x.shape[:-1])


def _matmul_of_gather(symbol: Symbol, x: Symbol, weight: Symbol) -> Symbol | None:
    found = _gathered(x) if weight.ndim == 2 else None
    if found is None:
        return None
    table, index = found
    return emit("take", emit("matmul", table, weight, origin=symbol.origin), index, origin=symbol.origin)


def _scatter_of_matmul(symbol: Symbol, g: Symbol, index: Symbol) -> Symbol | None:
    """The gradient of the table: rows are added up before the product with the weight."""
    rows = symbol.shape[0]
    if math.prod(index.shape) < MIN_GATHER_RATIO * rows or symbol.ndim != 2:
        return None
    g, index = _without_row_moves(g, index)
    if g.op_name not in PRODUCTS or g.shape[:-1] != index.shape:
        return None
    *sides, y = labels(g)
    for side, other in ((0, 1), (1, 0)):
        summed = [letter for letter in sides[other] if letter not in y]
        if set(sides[other]) == {y[-1], *summed} and len(summed) == 1 and set(sides[side]) == {*y[:-1], *summed}:
            order = tuple(sides[side].index(letter) for letter in (*y[:-1], *summed))
            before = emit("permute", g.inputs[side], origin=symbol.origin, axes=order)
            added = emit("add_at", before, index, origin=symbol.origin, shape=(rows, before.shape[-1]))
            weight = "".join(map(str, sides[other]))
            row = next(letter for letter in "zyx" if letter not in weight)
            return emit("contract", added, g.inputs[other], origin=symbol.origin, a=f"{row}{summed[0]}", b=weight,
                         y=f"{row}{y[-1]}")  # fmt: skip
    return None


def _without_row_moves(g: Symbol, index: Symbol) -> tuple[Symbol, Symbol]:
    """What g is made of by moving its rows, with the index moved alike."""
    while _keeps_rows(g):
        below = g.inputs[0]
        if g.op_name == "permute":
            back = tuple(g.attributes["axes"].index(axis) for axis in range(g.ndim - 1))
            index = emit("permute", index, origin=g.origin, axes=back)
        else:
            index = emit("reshape", index, origin=g.origin, shape=below.shape[:-1])
        g = below
    return g, index


def _keeps_rows(x: Symbol) -> bool:
    """Whether x is another symbol with its rows moved, each row as it was."""
    if x.op is None or x.ndim < 2:
        return False
    if x.op_name == "permute":
        return bool(x.attributes["axes"][-1] == x.ndim - 1)
    return x.op_name == "reshape" and x.inputs[0].ndim > 1 and x.shape[-1] == x.inputs[0].shape[-1]


def _weight_gradient(symbol: Symbol, a: Symbol, b: Symbol) -> Symbol | None:
    """The gradient of the weight, summed over all that was picked."""
    *sides, y = labels(symbol)
    for side, other in ((0, 1), (1, 0)):
        x, g = (a, b)[side], (a, b)[other]
        found = _gathered_operand(x, sides[side], y)
        if found is None or x.ndim < 2:
            continue
        table, index, picked, channel = found
        kept = [letter for letter in sides[other] if letter not in picked]
        if set(picked) != set(sides[side]) - {channel} or not set(picked) <= set(sides[other]) or len(kept) != 1:
            continue
        order = tuple(sides[other].index(letter) for letter in (*picked, *kept))
        g = emit("permute", g, origin=symbol.origin, axes=order)
        added = emit("add_at", g, index, origin=symbol.origin, shape=(table.shape[0], g.shape[-1]))
        row = next(letter for letter in "zyxwvut" if letter not in "".join(map(str, (*sides[0], *sides[1]))))
        return emit(
            "contract",
            table,
            added,
            origin=symbol.origin,
            a=f"{row}{channel}",
            b=f"{row}{kept[0]}",
            y="".join(map(str, y)),
        )
    return None


def _gathered_operand(
    x: Symbol, side: tuple[str | None, ...], y: tuple[str | None, ...]
) -> tuple[Symbol, Symbol, list[str], str] | None:
    """x as picked rows: the table, the index, the letters of its axes in the index's order, and that of the channels."""
    axes = tuple(range(x.ndim))
    while x.op_name == "permute":
        axes = tuple(x.attributes["axes"][axis] for axis in axes)
        x = x.inputs[0]
    found = _gathered(x)
    letters: list[str | None] = [None] * x.ndim
    for place, axis in enumerate(axes):
        letters[axis] = side[place]
    if found is None or None in letters or letters[-1] not in y or any(letter in y for letter in letters[:-1]):
        return None
    *picked, channel = (str(letter) for letter in letters)
    return found[0], found[1], picked, channel
