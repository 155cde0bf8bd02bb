"""Simplifications: constant folding, common subexpressions, dead code, movements that cancel (floor 4).

Each pass is a function from Graph to Graph. The numbers stay those of the interpreter.
"""

from __future__ import annotations

from collections.abc import Hashable

from ...core.value import Symbol
from ...ops.contraction import matmul
from ...ops.elementwise import add, cast
from ...ops.movement import concatenate, pad, permute, reshape, slice_
from ...ops.reduce import expand, sum_
from ..ir.graph import Graph, array_of, compute, read_once, users
from ..ir.rewrite import constant, emit, reading, replace_results, rewrite
from ..ir.views import cut_axes

MAX_FOLDED = 4096  # a larger constant result is computed at every call instead of stored


# ---- the passes --------------------------------------------------------------------------------------------------------


def dead_code(graph: Graph) -> Graph:
    """Dead code elimination. Bounds checks stay, since the eager step would raise."""
    return replace_results(graph, {})


def is_foldable(symbol: Symbol, inputs: tuple[Symbol, ...]) -> bool:
    """Whether an operation on these inputs is arithmetic on constants alone."""
    if not inputs or any(x.constant is None for x in inputs):
        return False
    return symbol.op is not None and symbol.op.kind not in ("movement", "loop")


def fold_constants(graph: Graph) -> Graph:
    """Constant folding. Movements stay, since they are views."""

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        if not is_foldable(symbol, inputs) or symbol.size > MAX_FOLDED:
            return None
        array = compute(symbol, [array_of(x, {}) for x in inputs])
        return Symbol(None, (), {}, symbol.shape, symbol.dtype, symbol.origin, array)

    return rewrite(graph, replacement)


def simplify(graph: Graph) -> Graph:
    """Remove operations that change nothing, and merge consecutive movements."""

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        op = symbol.op
        if not inputs:
            return None
        x = inputs[0]
        if op in (reshape, expand, slice_, permute, cast) and x.shape == symbol.shape:
            identity = op is not permute or symbol.attributes["axes"] == tuple(range(x.ndim))
            identity &= op is not slice_ or all(
                start == 0 and step == 1 for start, _, step in symbol.attributes["slices"]
            )
            if identity and x.dtype == symbol.dtype:
                return x
        if op is permute and x.op is permute:
            axes = tuple(x.attributes["axes"][a] for a in symbol.attributes["axes"])
            if axes == tuple(range(len(axes))):
                return x.inputs[0]
            return emit(permute, x.inputs[0], origin=symbol.origin, axes=axes)
        if op is reshape and x.op is reshape:
            return symbol.with_inputs((x.inputs[0],)) if x.inputs[0].shape != symbol.shape else x.inputs[0]
        if op is slice_ and x.op is pad:
            return _of_placed(symbol, x)
        if op is sum_ and symbol.size == x.size and symbol.dtype == x.dtype:
            return emit(reshape, x, origin=symbol.origin, shape=symbol.shape)
        return None

    return rewrite(graph, replacement)


def _of_placed(symbol: Symbol, x: Symbol) -> Symbol | None:
    """A slice of a padded value: the value itself, or only zeros."""
    wanted, placed = symbol.attributes["slices"], x.attributes["slices"]
    if wanted == placed:
        return x.inputs[0]
    pairs = [(a, b) for a, b in zip(wanted, placed, strict=True) if a[2] == b[2] == 1]
    if any(a[0] + a[1] <= b[0] or b[0] + b[1] <= a[0] for a, b in pairs):
        zero = constant(0, symbol.dtype, symbol.origin)
        return emit(expand, zero, origin=symbol.origin, shape=symbol.shape)
    return None


def common_subexpressions(graph: Graph) -> Graph:
    """Common subexpression elimination."""
    computed: dict[Hashable, Symbol] = {}

    def name_of(x: Symbol) -> Hashable:
        if x.constant is not None and x.size <= 16:
            return x.constant.tobytes(), x.shape, x.dtype
        return id(x)

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        key = (symbol.op, tuple(name_of(x) for x in inputs), repr(sorted(symbol.attributes.items())))
        summands = computed.get(key)
        if summands is None:
            summands = computed[key] = reading(symbol, inputs)
        return summands

    return rewrite(graph, replacement)


def transpose_matmuls(graph: Graph) -> Graph:
    """Replace the transpose of a @ b by b^T @ a^T."""
    once = read_once(graph)

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        if symbol.op is not permute or inputs[0].op is not matmul or symbol.inputs[0] not in once:
            return None
        axes, n = symbol.attributes["axes"], symbol.ndim
        if axes != (*range(n - 2), n - 1, n - 2):
            return None
        a, b = inputs[0].inputs
        return emit(matmul, _swapped(b), _swapped(a), origin=inputs[0].origin)

    return rewrite(graph, replacement)


def _swapped(x: Symbol) -> Symbol:
    n = x.ndim
    axes = (*range(n - 2), n - 1, n - 2)
    if x.op is permute and x.attributes["axes"] == axes:
        return x.inputs[0]
    return emit(permute, x, origin=x.origin, axes=axes)


def pads_to_concatenate(graph: Graph) -> Graph:
    """Replace a sum of padded pieces that fill an axis side by side, the gradient of `chunk` or `unbind`, by concatenate."""
    readers = users(graph)

    def padded_pieces(symbol: Symbol, inputs: tuple[Symbol, ...]) -> list[Symbol]:
        """The summands of an addition, through additions that only it reads; none if one of them is no pad of its shape."""
        pieces, visited = [], set[Symbol]()
        waiting = list(zip(symbol.inputs, inputs, strict=True))
        while waiting:
            old, x = waiting.pop()
            if x.shape != symbol.shape or x in visited:  # it would be broadcast, or overlap itself
                return []
            visited.add(x)
            if x.op is pad:
                pieces.append(x)
            elif x.op is add and old.op is add and len(readers.get(old, ())) == 1:
                waiting.extend(zip(old.inputs, x.inputs, strict=True))
            else:
                return []
        return pieces[::-1]  # as they are written, from left to right

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        pieces = padded_pieces(symbol, inputs) if symbol.op is add else []
        axis = _filled_axis(pieces, symbol.shape) if pieces else None
        if axis is None:
            return None
        pieces.sort(key=lambda x: x.attributes["slices"][axis][0])
        return emit(concatenate, *(x.inputs[0] for x in pieces), origin=symbol.origin, axis=axis)

    return rewrite(graph, replacement)


def _filled_axis(pieces: list[Symbol], shape: tuple[int, ...]) -> int | None:
    """The axis along which padded pieces lie side by side without a gap, whole along all others; None if there is none."""
    slices = [x.attributes["slices"] for x in pieces]
    parted = {axis for s in slices for axis in cut_axes(s, shape)}
    if len(parted) != 1:
        return None
    (axis,) = parted
    end = 0
    for start, count, step in sorted(s[axis] for s in slices):
        if start != end or (step != 1 and count != 1):
            return None
        end += count
    return axis if end == shape[axis] else None
