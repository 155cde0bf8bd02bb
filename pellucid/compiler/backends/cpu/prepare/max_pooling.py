"""The largest of a few, as in pooling: picks of a maximum, and windows that are looked through number by number (floor 4).

max(-1) records the position of the maximum and a pick by it; the gradient puts numbers at that position. Both are
elementwise once the position is known, and for a window of a few numbers so is the position.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .....core.value import Symbol
from ....ir.graph import Graph, users
from ....ir.rewrite import constant, emit, rewrite

MAX_UNROLLED = 16  # numbers of a window that is looked through one by one


class WindowMax(NamedTuple):
    """What an argmax over the windows of `source` has found: the largest numbers, and as uint8 where each stands."""

    source: Symbol
    best: Symbol
    position: Symbol
    window: tuple[int, int]


WindowMaxima = dict[Symbol, WindowMax]  # by the position as it was asked for


def lower_max_pooling(graph: Graph) -> Graph:
    """gather(x, argmax(x)) is amax(x); a gather or scatter_add by an argmax over windows compares positions, place by place.

    Only the x whose argmax it is has its largest number there. A second derivative picks another value by the position.
    """
    small: WindowMaxima = {}

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        name = symbol.op_name
        if name == "argmax" and inputs[0].dtype.kind == "f":
            return _window_argmax(symbol, inputs[0], small)
        if name == "gather" and inputs[1] in small:
            return _gather_in_window(symbol, inputs, small[inputs[1]])
        if name == "gather" and _is_argmax_of(inputs[1], inputs[0], symbol.attributes["axis"]):
            extreme = {"argmax": "amax", "argmin": "amin"}[inputs[1].op_name]
            axes = (symbol.attributes["axis"],)
            return emit(extreme, inputs[0], origin=symbol.origin, axes=axes, keepdims=True)
        if name == "scatter_add" and inputs[1] in small:
            return _scatter_in_window(symbol, inputs, small[inputs[1]])
        return None

    return rewrite(graph, replacement)


def _is_argmax_of(index: Symbol, x: Symbol, axis: int) -> bool:
    """Whether `index` is where the largest or smallest numbers of x, and of nothing else, stand along `axis`."""
    positional = index.op_name in ("argmax", "argmin")
    return positional and index.inputs[0] is x and index.attributes == {"axis": axis, "keepdims": True}


def _window_argmax(symbol: Symbol, x: Symbol, small: WindowMaxima) -> Symbol | None:
    """The argmax over windows, kept in `small`; None where x is anything else."""
    places = _windows_of(x, symbol.attributes["axis"])
    if not places:
        return None
    best, position = _unrolled_max(symbol, places)
    asked = emit("reshape", position, origin=symbol.origin, shape=symbol.shape)
    result = emit("cast", asked, origin=symbol.origin, dtype=symbol.dtype)
    k, l = x.inputs[0].shape[4:]
    small[result] = WindowMax(x, best, position, (k, l))
    return result


def _fits(x: Symbol, index: Symbol, axis: int, found: WindowMax) -> bool:
    """Whether `index` says, for each window that lies in a row of x, one place in that row."""
    return axis == x.ndim - 1 and index.shape == (*x.shape[:-1], 1) and x.shape[-1] == found.source.shape[-1]


def _gather_in_window(symbol: Symbol, inputs: tuple[Symbol, ...], found: WindowMax) -> Symbol | None:
    """What stands in the windows of x at the position: the largest if it is that of x itself, else the place that it says."""
    x, index = inputs
    axis = symbol.attributes["axis"]
    places = _windows_of(x, axis) if _fits(x, index, axis, found) else []
    if not places:
        return None
    do = lambda name, *of, **how: emit(name, *of, origin=symbol.origin, **how)
    picked = found.best if x is found.source else places[0]
    for i, place in enumerate(places[1:] if x is not found.source else (), 1):
        here = do("equal", found.position, constant(i, np.uint8, symbol.origin))
        picked = do("where", here, place, picked)
    return do("reshape", picked, shape=symbol.shape)


def _windows_of(x: Symbol, axis: int) -> list[Symbol]:
    """The numbers of each window, place by place, where x is a few windows' numbers put in a row along its last axis."""
    if axis != x.ndim - 1 or x.op_name != "reshape" or not 0 < x.shape[axis] <= MAX_UNROLLED:
        return []
    windows = x.inputs[0]
    if windows.op_name != "windows" or windows.shape[:4] != x.shape[:-1]:
        return []
    found = []
    for k in range(windows.shape[4]):
        for l in range(windows.shape[5]):
            cut = (*((0, n, 1) for n in windows.shape[:4]), (k, 1, 1), (l, 1, 1))
            place = emit("slice", windows, origin=x.origin, slices=cut)
            found.append(emit("reshape", place, origin=x.origin, shape=windows.shape[:4]))
    return found


def _unrolled_max(symbol: Symbol, places: list[Symbol]) -> tuple[Symbol, Symbol]:
    """The largest of the places, NaN above all, and the number of the first that holds it (uint8)."""
    do = lambda name, *inputs: emit(name, *inputs, origin=symbol.origin)
    best = places[0]
    position = constant(0, np.uint8, symbol.origin)
    for i, x in enumerate(places[1:], 1):
        first_nan = do("bitwise_and", do("not_equal", x, x), do("equal", best, best))
        better = do("bitwise_or", do("greater", x, best), first_nan)
        position = do("where", better, constant(i, np.uint8, symbol.origin), position)
        best = do("where", better, x, best)
    if position.ndim == 0:
        position = emit("expand", position, origin=symbol.origin, shape=best.shape)
    return best, position


def _scatter_in_window(symbol: Symbol, inputs: tuple[Symbol, ...], found: WindowMax) -> Symbol | None:
    """`values` at that position of each window, zeros elsewhere, computed over the window's own two axes."""
    x, index, values = inputs
    if not _fits(x, index, symbol.attributes["axis"], found):
        return None
    if x.op_name != "expand" or x.inputs[0].constant is None or x.inputs[0].constant.any():
        return None
    do = lambda name, *of, **how: emit(name, *of, origin=symbol.origin, **how)
    one = (*x.shape[:-1], 1, 1)
    positions = constant(np.arange(x.shape[-1]).reshape(found.window), np.uint8, symbol.origin)
    here = do("equal", positions, do("reshape", found.position, shape=one))
    spread = do("where", here, do("reshape", values, shape=one), constant(0, x.dtype, symbol.origin))
    return do("reshape", spread, shape=symbol.shape)


def mask_pooling_windows(graph: Graph) -> Graph:
    """where(mask, windows side by side, 0) with the mask seen window by window: the gradients of a pool and of the ReLU in
    front of it are one pass."""
    readers = users(graph)

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        if symbol.op_name != "where" or len(readers.get(symbol.inputs[1], ())) != 1:
            return None
        mask, x, other = inputs
        if not _side_by_side(x) or mask.shape != x.shape or other.size != 1 or symbol.inputs[1] in graph.results:
            return None
        spread = emit("where", _by_window(mask, x), x.inputs[0], other, origin=symbol.origin)
        return x.with_inputs((spread,)) if spread.shape == x.inputs[0].shape else None

    return rewrite(graph, replacement)


def _side_by_side(x: Symbol) -> bool:
    """Whether x is put together from windows that neither overlap nor leave anything out."""
    if x.op_name != "add_windows" or x.attributes["dilation"] != (1, 1):
        return False
    _, _, p, q, *window = x.inputs[0].shape
    return x.attributes["stride"] == tuple(window) and x.shape[2:] == (p * window[0], q * window[1])


def _by_window(mask: Symbol, x: Symbol) -> Symbol:
    """The mask as the windows that x is made of; a comparison with a number compares those of what it compares."""
    op, of = mask.op, mask.inputs
    if op is not None and op.kind == "elementwise" and len(of) == 2 and of[1].size == 1 and of[0].shape == mask.shape:
        return emit(op.name, _by_window(of[0], x), of[1], origin=mask.origin, **mask.attributes)
    window = x.inputs[0].shape[4:]
    return emit("windows", mask, origin=mask.origin, kernel=window, stride=window, dilation=(1, 1))
