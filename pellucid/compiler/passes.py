"""What is done to a graph before it becomes loops: each pass is a function from Graph to Graph (floor 4).

The numbers stay those of the interpreter, except where a pass says so. `PASSES` is the order they run in; those about
products and convolutions stand in `contractions.py`, the walk that all share in `rewriting.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.value import Symbol
from .contractions import absorbed_movements, convolutions
from .extremes import extremes, masked_windows
from .graph import Graph, uses
from .lookups import looked_up
from .partial_writes import partial_writes
from .rewriting import apply, like, number, rewritten, with_results

FOLDED = 4096  # a constant result of more numbers than this is computed at every step rather than kept
SMALL_AXIS = 256  # up to here, picking along an axis is a comparison with every position of it


# ---- the passes --------------------------------------------------------------------------------------------------------


def dead_code(graph: Graph) -> Graph:
    """Leave out what no result depends on. Checks of indices stay: an eager step would have raised."""
    return with_results(graph, {})


def constants(graph: Graph) -> Graph:
    """Compute now what depends on nothing; movements of large constants are left to be views."""

    def rewrite(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        if any(x.constant is None for x in inputs) or symbol.size > FOLDED or symbol.op.kind in ("movement", "loop"):  # type: ignore[union-attr]
            return None
        array = np.asarray(symbol.op.forward(*[x.constant for x in inputs], **symbol.attributes), symbol.dtype)  # type: ignore[union-attr]
        return Symbol(None, (), {}, symbol.shape, symbol.dtype, symbol.origin, array)

    return rewritten(graph, rewrite)


def simplify(graph: Graph) -> Graph:
    """Take out what changes nothing, and join movements that follow each other."""

    def rewrite(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        name = symbol.op.name  # type: ignore[union-attr]
        if not inputs:
            return None
        x = inputs[0]
        if name in ("reshape", "expand", "slice", "permute", "cast") and x.shape == symbol.shape:
            identity = name != "permute" or symbol.attributes["axes"] == tuple(range(x.ndim))
            identity &= name != "slice" or all(
                start == 0 and step == 1 for start, _, step in symbol.attributes["slices"]
            )
            if identity and x.dtype == symbol.dtype:
                return x
        if name == "permute" and _is(x, "permute"):
            axes = tuple(x.attributes["axes"][a] for a in symbol.attributes["axes"])
            if axes == tuple(range(len(axes))):
                return x.inputs[0]
            return apply("permute", x.inputs[0], origin=symbol.origin, axes=axes)
        if name == "reshape" and _is(x, "reshape"):
            return like(symbol, (x.inputs[0],)) if x.inputs[0].shape != symbol.shape else x.inputs[0]
        if name == "slice" and _is(x, "place"):
            return _of_placed(symbol, x)
        if name == "sum" and symbol.size == x.size and symbol.dtype == x.dtype:
            return apply("reshape", x, origin=symbol.origin, shape=symbol.shape)
        return None

    return rewritten(graph, rewrite)


def _of_placed(symbol: Symbol, x: Symbol) -> Symbol | None:
    """A slice of what was placed among zeros: just that, or nothing but zeros."""
    wanted, placed = symbol.attributes["slices"], x.attributes["slices"]
    if wanted == placed:
        return x.inputs[0]
    pairs = [(a, b) for a, b in zip(wanted, placed, strict=True) if a[2] == b[2] == 1]
    if any(a[0] + a[1] <= b[0] or b[0] + b[1] <= a[0] for a, b in pairs):
        zero = number(0, symbol.dtype, symbol.origin)
        return apply("expand", zero, origin=symbol.origin, shape=symbol.shape)
    return None


def _is(symbol: Symbol, name: str) -> bool:
    return symbol.op is not None and symbol.op.name == name


def common_subexpressions(graph: Graph) -> Graph:
    """Compute once what is computed twice from the same inputs."""
    known: dict[Any, Symbol] = {}

    def name_of(x: Symbol) -> Any:
        if x.constant is not None and x.size <= 16:
            return x.constant.tobytes(), x.shape, x.dtype
        return id(x)

    def rewrite(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        key = (symbol.op, tuple(name_of(x) for x in inputs), repr(sorted(symbol.attributes.items())))
        found = known.get(key)
        if found is None:
            found = known[key] = symbol if inputs == symbol.inputs else like(symbol, inputs)
        return found

    return rewritten(graph, rewrite)


def transposed_products(graph: Graph) -> Graph:
    """permute(a @ b) with the last two axes exchanged is b^T @ a^T, which gives the same numbers in that order."""
    readers = uses(graph)

    def rewrite(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        if symbol.op.name != "permute" or not _is(inputs[0], "matmul"):  # type: ignore[union-attr]
            return None
        axes, n = symbol.attributes["axes"], symbol.ndim
        if axes != (*range(n - 2), n - 1, n - 2) or len(readers.get(symbol.inputs[0], ())) > 1:
            return None
        if symbol.inputs[0] in graph.results:
            return None
        a, b = inputs[0].inputs
        return apply("matmul", _swapped(b), _swapped(a), origin=inputs[0].origin)

    return rewritten(graph, rewrite)


def _swapped(x: Symbol) -> Symbol:
    n = x.ndim
    axes = (*range(n - 2), n - 1, n - 2)
    if _is(x, "permute") and x.attributes["axes"] == axes:
        return x.inputs[0]
    return apply("permute", x, origin=x.origin, axes=axes)


def joined_places(graph: Graph) -> Graph:
    """A sum of pieces, each placed among zeros, that fill an axis side by side is their concatenation: what comes back
    through `chunk` or `unbind`."""
    readers = uses(graph)

    def terms(symbol: Symbol, new: Symbol) -> list[Symbol]:
        """The summands of an addition, additions that nobody else reads taken apart."""
        found = []
        for old, x in zip(symbol.inputs, new.inputs, strict=True):
            nested = _is(x, "add") and _is(old, "add") and len(readers.get(old, ())) == 1 and x.shape == new.shape
            found += terms(old, x) if nested else [x]
        return found

    def rewrite(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        if symbol.op.name != "add" or not all(x.shape == symbol.shape for x in inputs):  # type: ignore[union-attr]
            return None
        pieces = terms(symbol, like(symbol, inputs))
        axis = _filled_axis(pieces, symbol.shape)
        if axis is None:
            return None
        pieces.sort(key=lambda x: x.attributes["slices"][axis][0])
        return apply("concatenate", *(x.inputs[0] for x in pieces), origin=symbol.origin, axis=axis)

    return rewritten(graph, rewrite)


def _filled_axis(pieces: list[Symbol], shape: tuple[int, ...]) -> int | None:
    """The axis along which placed pieces lie side by side without a gap, whole along all others; None if there is none."""
    if not all(_is(x, "place") and x.shape == shape for x in pieces):  # one of another shape would be repeated
        return None
    slices = [x.attributes["slices"] for x in pieces]
    parted = [axis for axis, size in enumerate(shape) if any(s[axis] != (0, size, 1) for s in slices)]
    if len(parted) != 1:
        return None
    end = 0
    for start, count, step in sorted(s[parted[0]] for s in slices):
        if start != end or (step != 1 and count != 1):
            return None
        end += count
    return parted[0] if end == shape[parted[0]] else None


def small_axis_picks(graph: Graph) -> Graph:
    """A gather or scatter of one position along a short axis, as in cross-entropy: compare with every position instead.

    where(position == index, x, 0) summed along the axis is an elementwise loop, which fuses; a scatter_add is the same
    without the sum. What is picked is a single number, so the bits are those of the gather, except that -0 becomes 0.
    """

    def rewrite(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        name = symbol.op.name  # type: ignore[union-attr]
        if name not in ("gather", "scatter_add"):
            return None
        x, index, axis, place = inputs[0], inputs[1], symbol.attributes["axis"], symbol.origin
        size = x.shape[axis]
        same = all(i == axis or a == b for i, (a, b) in enumerate(zip(x.shape, index.shape, strict=True)))
        if index.shape[axis] != 1 or not same or size > SMALL_AXIS or size == 0:
            return None
        message = f"index {{}} on axis {axis} of size {size}; expected 0 to {size - 1}; check the labels"
        index = apply("within", index, origin=place, low=-size, high=size, spare=None, message=message)
        if index.dtype.itemsize == 1:  # the size itself may be more than such a number can hold
            index = apply("cast", index, origin=place, dtype=np.dtype(np.int64))
        zero = number(0, index.dtype, place)
        wrapped = apply("add", index, number(size, index.dtype, place), origin=place)
        index = apply("where", apply("less", index, zero, origin=place), wrapped, index, origin=place)
        shape = tuple(size if i == axis else 1 for i in range(x.ndim))
        positions = number(np.arange(size).reshape(shape), index.dtype, place)
        here = apply("equal", positions, index, origin=place)
        nothing = number(0, x.dtype, place)
        if name == "gather":
            picked = apply("where", here, x, nothing, origin=place)
            meet = "any" if x.dtype == np.bool_ else "sum"
            picked = apply(meet, picked, origin=place, axes=(axis,), keepdims=True)
            return apply("cast", picked, origin=place, dtype=x.dtype)  # sums of small integers are int64
        added = apply("where", here, inputs[2], nothing, origin=place)
        if _is(x, "expand") and x.inputs[0].constant is not None and not x.inputs[0].constant.any():
            return added
        return apply("add", x, added, origin=place)

    return rewritten(graph, rewrite)


def long_sums(graph: Graph, by_row: bool = False) -> Graph:
    """A sum of very many numbers into few is cut into pieces first: the pieces can be shared out among threads.

    The cut depends on the shape alone, so the bits do not depend on how many threads there are. by_row: only sums of all
    numbers are cut.
    """

    def rewrite(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        if symbol.op.name != "sum" or symbol.size != 1 or inputs[0].size < LONG:  # type: ignore[union-attr]
            return None
        if by_row and symbol.ndim:  # the sum of a row that is alone
            return None
        n = inputs[0].size
        pieces = next((p for p in range(64, 7, -1) if n % p == 0), 0)
        if not pieces or inputs[0].dtype != symbol.dtype:
            return None
        parts = apply("reshape", inputs[0], origin=symbol.origin, shape=(pieces, n // pieces))
        parts = apply("sum", parts, origin=symbol.origin, axes=(1,), keepdims=False)
        whole = apply("sum", parts, origin=symbol.origin, axes=(0,), keepdims=False)
        return apply("reshape", whole, origin=symbol.origin, shape=symbol.shape)

    return rewritten(graph, rewrite)


LONG = 1 << 15
PASSES: dict[str, Callable[..., Graph]] = {
    "dead code": dead_code,
    "partial writes": partial_writes,
    "constants": constants,
    "extremes": extremes,
    "small axis picks": small_axis_picks,
    "convolutions": convolutions,
    "joined places": joined_places,
    "simplify": simplify,
    "masked windows": masked_windows,
    "transposed products": transposed_products,
    "absorbed movements": absorbed_movements,
    "lookups": looked_up,
    "simplified movements": simplify,
    "long sums": long_sums,
    "common subexpressions": common_subexpressions,
    "simplify again": simplify,
}


BY_ROW = ("convolutions", "absorbed movements", "long sums")  # passes that decide the order of sums


def optimised(graph: Graph, leave_out: frozenset[str] = frozenset(), by_row: bool = False) -> Graph:
    """All passes, in order; `leave_out` names those that a test or a curious reader wants off.

    by_row: how many rows there are changes no order of sums.
    """
    for name, run in PASSES.items():
        if name not in leave_out:
            graph = run(graph, by_row=True) if by_row and name in BY_ROW else run(graph)
    return graph
