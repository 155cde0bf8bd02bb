"""Max pooling: rewrite argmax + gather/scatter, and small windows, as elementwise comparisons (floor 4).

max(-1) traces an argmax and a gather; its gradient scatters to the same position. Both are elementwise once the position is
known. For a window of few elements the argmax is elementwise too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .....core.value import Symbol
from .....ops.contraction import fold, unfold
from .....ops.elementwise import bitwise_and, bitwise_or, cast, equal, greater, not_equal, where
from .....ops.index import gather, scatter_add
from .....ops.movement import reshape, slice_
from .....ops.reduce import amax, amin, argmax, argmin, expand
from ....ir.graph import Graph, read_once
from ....ir.rewrite import constant, emit, is_zeros, rewrite
from ....ir.views import whole_slices
from ..costs import UNROLLED_WINDOW


class WindowMax(NamedTuple):
    """An unrolled argmax over the windows of `source`: the maxima, and their positions as uint8."""

    source: Symbol
    best: Symbol
    position: Symbol
    window: tuple[int, int]


WindowMaxima = dict[Symbol, WindowMax]  # by the argmax that it replaces


def lower_max_pooling(graph: Graph) -> Graph:
    """Replace gather(x, argmax(x)) by amax(x), and a gather or scatter_add by an argmax over windows by comparisons.

    A second derivative gathers another value by the same argmax.
    """
    small: WindowMaxima = {}

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        op = symbol.op
        if op is argmax and inputs[0].dtype.kind == "f":
            return _window_argmax(symbol, inputs[0], small)
        if op is gather and inputs[1] in small:
            return _gather_in_window(symbol, inputs, small[inputs[1]])
        if op is gather and _is_argmax_of(inputs[1], inputs[0], symbol.attributes["axis"]):
            extreme = amax if inputs[1].op is argmax else amin
            axes = (symbol.attributes["axis"],)
            return emit(extreme, inputs[0], origin=symbol.origin, axes=axes, keepdims=True)
        if op is scatter_add and inputs[1] in small:
            return _scatter_in_window(symbol, inputs, small[inputs[1]])
        return None

    return rewrite(graph, replacement)


def _is_argmax_of(index: Symbol, x: Symbol, axis: int) -> bool:
    """Whether `index` is the argmax or argmin of x along `axis`."""
    positional = index.op in (argmax, argmin)
    return positional and index.inputs[0] is x and index.attributes == {"axis": axis, "keepdims": True}


def _window_argmax(symbol: Symbol, x: Symbol, small: WindowMaxima) -> Symbol | None:
    """The unrolled argmax over windows, stored in `small`; None where x is no windows."""
    elements = _windows_of(x, symbol.attributes["axis"])
    if not elements:
        return None
    best, position = _unrolled_max(symbol, elements)
    asked = emit(reshape, position, origin=symbol.origin, shape=symbol.shape)
    result = emit(cast, asked, origin=symbol.origin, dtype=symbol.dtype)
    k, l = x.inputs[0].shape[4:]
    small[result] = WindowMax(x, best, position, (k, l))
    return result


def _fits(x: Symbol, index: Symbol, axis: int, window_max: WindowMax) -> bool:
    """Whether `index` has one position for each window, and the windows are the rows of x."""
    return axis == x.ndim - 1 and index.shape == (*x.shape[:-1], 1) and x.shape[-1] == window_max.source.shape[-1]


def _gather_in_window(symbol: Symbol, inputs: tuple[Symbol, ...], window_max: WindowMax) -> Symbol | None:
    """Gather in the windows of x at the argmax: the maximum if it is the argmax of x, else an unrolled selection."""
    x, index = inputs
    axis = symbol.attributes["axis"]
    elements = _windows_of(x, axis) if _fits(x, index, axis, window_max) else []
    if not elements:
        return None
    do = lambda op, *of, **attributes: emit(op, *of, origin=symbol.origin, **attributes)
    picked = window_max.best if x is window_max.source else elements[0]
    for i, element in enumerate(elements[1:] if x is not window_max.source else (), 1):
        matches = do(equal, window_max.position, constant(i, np.uint8, symbol.origin))
        picked = do(where, matches, element, picked)
    return do(reshape, picked, shape=symbol.shape)


def _windows_of(x: Symbol, axis: int) -> list[Symbol]:
    """The elements of each window, by position, where x is small windows flattened along its last axis; else nothing."""
    if axis != x.ndim - 1 or x.op is not reshape or not 0 < x.shape[axis] <= UNROLLED_WINDOW:
        return []
    windows = x.inputs[0]
    if windows.op is not unfold or windows.shape[:4] != x.shape[:-1]:
        return []
    elements = []
    for k in range(windows.shape[4]):
        for l in range(windows.shape[5]):
            cut = (*whole_slices(windows.shape[:4]), (k, 1, 1), (l, 1, 1))
            element = emit(slice_, windows, origin=x.origin, slices=cut)
            elements.append(emit(reshape, element, origin=x.origin, shape=windows.shape[:4]))
    return elements


def _unrolled_max(symbol: Symbol, elements: list[Symbol]) -> tuple[Symbol, Symbol]:
    """The maximum of the elements, or NaN, and the position of its first occurrence (uint8)."""
    do = lambda op, *inputs: emit(op, *inputs, origin=symbol.origin)
    best = elements[0]
    position = constant(0, np.uint8, symbol.origin)
    for i, x in enumerate(elements[1:], 1):
        first_nan = do(bitwise_and, do(not_equal, x, x), do(equal, best, best))
        better = do(bitwise_or, do(greater, x, best), first_nan)
        position = do(where, better, constant(i, np.uint8, symbol.origin), position)
        best = do(where, better, x, best)
    if position.ndim == 0:
        position = emit(expand, position, origin=symbol.origin, shape=best.shape)
    return best, position


def _scatter_in_window(symbol: Symbol, inputs: tuple[Symbol, ...], window_max: WindowMax) -> Symbol | None:
    """Scatter `values` to the argmax of each window, with zeros elsewhere, over the two axes of the window."""
    x, index, values = inputs
    if not _fits(x, index, symbol.attributes["axis"], window_max):
        return None
    if x.op is not expand or not is_zeros(x):
        return None
    do = lambda op, *of, **attributes: emit(op, *of, origin=symbol.origin, **attributes)
    one = (*x.shape[:-1], 1, 1)
    positions = constant(np.arange(x.shape[-1]).reshape(window_max.window), np.uint8, symbol.origin)
    matches = do(equal, positions, do(reshape, window_max.position, shape=one))
    spread = do(where, matches, do(reshape, values, shape=one), constant(0, x.dtype, symbol.origin))
    return do(reshape, spread, shape=symbol.shape)


def mask_pooling_windows(graph: Graph) -> Graph:
    """Apply the mask of where(mask, windows side by side, 0) window by window, so that the gradients of a pool and of the ReLU
    before it are one pass."""
    once = read_once(graph)

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        if symbol.op is not where or symbol.inputs[1] not in once:
            return None
        mask, x, other = inputs
        if not _side_by_side(x) or mask.shape != x.shape or other.size != 1:
            return None
        spread = emit(where, _by_window(mask, x), x.inputs[0], other, origin=symbol.origin)
        return x.with_inputs((spread,)) if spread.shape == x.inputs[0].shape else None

    return rewrite(graph, replacement)


def _side_by_side(x: Symbol) -> bool:
    """Whether x is a fold of windows that tile it without overlap."""
    if x.op is not fold or x.attributes["dilation"] != (1, 1):
        return False
    _, _, p, q, *window = x.inputs[0].shape
    return x.attributes["stride"] == tuple(window) and x.shape[2:] == (p * window[0], q * window[1])


def _by_window(mask: Symbol, x: Symbol) -> Symbol:
    """The mask unfolded into the windows of x; for a comparison with a scalar, the comparison of the unfolded operand."""
    op, of = mask.op, mask.inputs
    if op is not None and op.kind == "elementwise" and len(of) == 2 and of[1].size == 1 and of[0].shape == mask.shape:
        return emit(op, _by_window(of[0], x), of[1], origin=mask.origin, **mask.attributes)
    window = x.inputs[0].shape[4:]
    return emit(unfold, mask, origin=mask.origin, kernel=window, stride=window, dilation=(1, 1))
