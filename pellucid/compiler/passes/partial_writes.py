"""Partial writes: join writes into parts of a Tensor, such as a loop of `x[i] = ...`, into one pass (floor 4).

A traced write into a part is where(inside, pad(part), old), of the size of the whole. A slice that reads a written part is
replaced by that part. Several writes along one axis become one concatenation of the parts and of what lies between.
"""

from __future__ import annotations

from typing import NamedTuple

from ...core.value import Symbol
from ...ops.elementwise import where
from ...ops.movement import Slices, concatenate, pad, slice_
from ...ops.reduce import expand
from ..ir.graph import Graph, users
from ..ir.rewrite import emit, rewrite
from ..ir.views import cut_axes, whole_slices


class PartialWrite(NamedTuple):
    """`old` with `part` in place of old[window]."""

    window: Slices
    part: Symbol
    old: Symbol


def join_partial_writes(graph: Graph) -> Graph:
    """Replace reads of written parts, and join writes along one axis."""
    readers = users(graph)
    results = set(graph.results)

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        if symbol.op is slice_:
            return _read(symbol, inputs[0])
        if symbol.op is not where:
            return None
        write = _write(inputs)
        if write is None:
            return None
        inner = all(r.op is slice_ or (r.op is where and r.inputs[2] is symbol) for r in readers.get(symbol, ()))
        if inner and symbol not in results:
            return None  # its readers only read parts, or write more of them
        return _joined(symbol, write)

    return rewrite(graph, replacement)


def _write(inputs: tuple[Symbol, ...]) -> PartialWrite | None:
    """The partial write that a `where` of `inputs` is; None if it is none."""
    inside, placed, old = inputs
    if not (inside.op is pad and placed.op is pad and old.shape == placed.shape):
        return None
    window, mask = placed.attributes["slices"], inside.inputs[0]
    if inside.attributes["slices"] != window or mask.op is not expand:
        return None
    fill = mask.inputs[0].constant
    all_true = fill is not None and fill.dtype == bool and bool(fill.all())
    return PartialWrite(window, placed.inputs[0], old) if all_true else None


def _read(symbol: Symbol, x: Symbol) -> Symbol | None:
    """A slice of a written value: the part, or a slice of the value before the write."""
    wanted, first = symbol.attributes["slices"], x
    while x.op is where and (write := _write(x.inputs)) is not None:
        if write.window == wanted:
            return write.part
        if not _apart(write.window, wanted):
            break
        x = write.old
    return emit(slice_, x, origin=symbol.origin, slices=wanted) if x is not first else None


def _apart(a: Slices, b: Slices) -> bool:
    """Whether two windows are known to be disjoint."""
    return any(
        one[2] == two[2] == 1 and (one[0] + one[1] <= two[0] or two[0] + two[1] <= one[0])
        for one, two in zip(a, b, strict=True)
    )


def _axis(window: Slices, shape: tuple[int, ...]) -> int | None:
    """The one axis that a window cuts, in one piece; None if there is no such axis."""
    cut = cut_axes(window, shape)
    return cut[0] if len(cut) == 1 and window[cut[0]][2] == 1 and window[cut[0]][1] else None


def _joined(symbol: Symbol, write: PartialWrite) -> Symbol | None:
    """One concatenation of the parts written along an axis, and of what lies between them."""
    axis = _axis(write.window, symbol.shape)
    if axis is None:
        return None
    parts: dict[tuple[int, int], Symbol] = {}  # by start and end; the last write counts
    base: Symbol | None = None
    current: PartialWrite | None = write
    while current is not None and _axis(current.window, symbol.shape) == axis:
        start, count, _ = current.window[axis]
        if (start, start + count) not in parts:
            if any(start < end and first < start + count for first, end in parts):
                break
            parts[start, start + count] = current.part
        base = current.old
        current = _write(base.inputs) if base.op is where else None
    assert base is not None
    pieces, end_of_last = [], 0
    for (start, end), part in sorted(parts.items(), key=lambda item: item[0]):
        if start > end_of_last:
            pieces.append(_between(symbol, base, axis, end_of_last, start))
        pieces.append(part)
        end_of_last = end
    if end_of_last < symbol.shape[axis]:
        pieces.append(_between(symbol, base, axis, end_of_last, symbol.shape[axis]))
    return emit(concatenate, *pieces, origin=symbol.origin, axis=axis)


def _between(symbol: Symbol, base: Symbol, axis: int, start: int, end: int) -> Symbol:
    window = (*whole_slices(symbol.shape[:axis]), (start, end - start, 1), *whole_slices(symbol.shape[axis + 1 :]))
    return emit(slice_, base, origin=symbol.origin, slices=window)
