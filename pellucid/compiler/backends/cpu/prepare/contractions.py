"""Convolutions, and products between movements, as contractions over the axes that the numbers really have (floor 4).

A convolution is a contraction of the patches under its kernel, which are a view of its input, with its weight. A matrix
product of something reshaped, or summed over its batch, is a contraction over the axes from before the reshape: so
nothing has to be copied into the order in which the matrix would lie.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence
from typing import Any

from .....core.value import Symbol
from ....ir.graph import Graph, users
from ....ir.rewrite import emit, rewrite
from ....ir.views import view_of

PRODUCTS = {"matmul", "contract"}
LONG_CONTRACTION = (
    4096  # terms: a sum of more is made in parts, so that what a part reads stays near; nothing joins its kernel
)
Labels = tuple[str | None, ...]


def labels(symbol: Symbol) -> tuple[Labels, Labels, Labels]:
    """A letter for each axis of a, of b and of the result of a product; None for an axis of size 1 that is repeated."""
    if symbol.op_name == "contract":
        how = symbol.attributes
        return tuple(how["a"]), tuple(how["b"]), tuple(how["y"])
    *outer, m, n, k = list(string.ascii_letters[: symbol.ndim + 1])

    def batch(x: Symbol) -> Labels:
        own = zip(
            outer[len(outer) - (x.ndim - 2) :], x.shape[:-2], symbol.shape[len(outer) - (x.ndim - 2) :], strict=False
        )
        return tuple(letter if size == whole else None for letter, size, whole in own)

    a, b = symbol.inputs
    return (*batch(a), m, k), (*batch(b), k, n), (*outer, m, n)


def contraction_size(product: Symbol) -> int:
    """How many numbers each result of a product is the sum of."""
    side, _, whole = labels(product)
    return math.prod(size for size, letter in zip(product.inputs[0].shape, side, strict=True) if letter not in whole)


# ---- convolutions ----------------------------------------------------------------------------------------------------


def lower_convolutions(graph: Graph, by_row: bool = False) -> Graph:
    """Convolutions as contractions with a view of the patches; with one channel to a group, as sums of products.

    by_row: the channels are summed over last, if they are many, since that order stays whatever the layout.
    """

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        lowering = _CONVOLUTIONS.get(symbol.op_name)
        if not (lowering and symbol.size and all(x.size for x in inputs)):
            return None
        return lowering(symbol, *inputs, by_row) if lowering is _forward else lowering(symbol, *inputs)

    return rewrite(graph, replacement)


def _padded(x: Symbol, size: Sequence[int], start: Sequence[int], step: Sequence[int]) -> Symbol:
    """x (B, C, H, W) in zeros (B, C, *size): its number i along an axis at start + step i, where that lies inside."""
    cut, slices = [], []
    for n, whole, first, s in zip(x.shape[2:], size, start, step, strict=True):
        skipped = max(0, -(first // s))
        count = max(0, min(n, -(-(whole - first) // s)) - skipped)
        cut.append((skipped, count, 1))
        slices.append((first + skipped * s, count, s))
    outer = tuple((0, n, 1) for n in x.shape[:2])
    x = emit("slice", x, origin=x.origin, slices=(*outer, *cut))
    return emit("place", x, origin=x.origin, shape=(*x.shape[:2], *size), slices=(*outer, *slices))


def _patches(x: Symbol, kernel: Any, how: dict[str, Any]) -> Symbol:
    """x (B, C, H, W), zero-padded, as (B, C, P, Q, K, L): the patch under the kernel at every output position."""
    pad = how["padding"]
    if any(pad):
        size = [n + 2 * p for n, p in zip(x.shape[2:], pad, strict=True)]
        x = _padded(x, size, pad, (1, 1))
    return emit("windows", x, origin=x.origin, kernel=tuple(kernel), stride=how["stride"], dilation=how["dilation"])


def _split_groups(x: Symbol, axis: int, groups: int) -> Symbol:
    """The channels along `axis` as (groups, channels of a group)."""
    shape = (*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])
    return emit("reshape", x, origin=x.origin, shape=shape)


def _grouped_contract(
    s: Symbol, a: Symbol, b: Symbol, letters: tuple[str, str, str], channels: tuple[int, int]
) -> Symbol:
    """The contraction, group by group; channels: the axes of a and b that groups divide."""
    groups = s.attributes["groups"]
    if groups > 1:
        a, b = (_split_groups(x, axis, groups) for x, axis in zip((a, b), channels, strict=True))
        letters = tuple(_grouped(side) for side in letters)  # type: ignore[assignment]
    sizes = dict(zip(letters[0] + letters[1], a.shape + b.shape, strict=True))
    if groups > 1 and sizes["c"] == sizes["o"] == 1 and a.dtype.kind == "f":
        y = _channel_by_channel(s, a, b, letters)
    else:
        y = emit("contract", a, b, origin=s.origin, **dict(zip("aby", letters, strict=True)))
    return emit("reshape", y, origin=s.origin, shape=s.shape) if groups > 1 else y


def _grouped(side: str) -> str:
    """With the letter of the group in front of the channel that groups divide; the weight's own inputs stay whole."""
    return side.replace("o", "go") if "o" in side else side.replace("c", "gc")


def _channel_by_channel(s: Symbol, a: Symbol, b: Symbol, letters: tuple[str, str, str]) -> Symbol:
    """One input and one output to a group: numbers are multiplied where they lie and summed, with no matrix in it."""
    whole = letters[2] + "".join(dict.fromkeys(c for c in letters[0] + letters[1] if c not in letters[2]))
    sizes = dict(zip(letters[0] + letters[1], a.shape + b.shape, strict=True))

    def seen(x: Symbol, side: str) -> Symbol:
        order = tuple(side.index(c) for c in whole if c in side)
        x = emit("permute", x, origin=s.origin, axes=order)
        shape = tuple(sizes[c] if c in side else 1 for c in whole)
        return emit("reshape", x, origin=s.origin, shape=shape)

    y = emit("multiply", seen(a, letters[0]), seen(b, letters[1]), origin=s.origin)
    gone = tuple(range(len(letters[2]), len(whole)))
    return emit("sum", y, origin=s.origin, axes=gone, keepdims=False)


def _forward(s: Symbol, x: Symbol, w: Symbol, by_row: bool = False) -> Symbol:
    patches = _patches(x, w.shape[2:], s.attributes)
    if by_row and w.shape[1] > max(w.shape[2:]):
        patches = emit("permute", patches, origin=patches.origin, axes=(0, 2, 3, 4, 5, 1))
        return _grouped_contract(s, patches, w, ("bpqklc", "ockl", "bopq"), (5, 0))
    return _grouped_contract(s, patches, w, ("bcpqkl", "ockl", "bopq"), (1, 0))


def _for_weight(s: Symbol, g: Symbol, x: Symbol) -> Symbol:
    patches = _patches(x, s.attributes["kernel"], s.attributes)
    return _grouped_contract(s, g, patches, ("bopq", "bcpqkl", "ockl"), (1, 1))


def _for_input(s: Symbol, g: Symbol, w: Symbol) -> Symbol:
    """A convolution of the gradient, its numbers `stride` apart, with the weight turned around."""
    how, taps = s.attributes, w.shape[2:]
    reach = [d * (n - 1) for d, n in zip(how["dilation"], taps, strict=True)]
    size = [n + r for n, r in zip(how["size"], reach, strict=True)]
    start = [r - pad for r, pad in zip(reach, how["padding"], strict=True)]
    g = _padded(g, size, start, how["stride"])
    patches = emit("windows", g, origin=s.origin, kernel=taps, stride=(1, 1), dilation=how["dilation"])
    turned = tuple((n - 1, n, -1) for n in taps)
    w = emit("slice", w, origin=s.origin, slices=(*((0, n, 1) for n in w.shape[:2]), *turned))
    return _grouped_contract(s, patches, w, ("bopqkl", "ockl", "bcpq"), (1, 0))


_CONVOLUTIONS: dict[str, Callable[..., Symbol]] = {
    "convolution": _forward, "convolution_weight": _for_weight, "convolution_input": _for_input,
}  # fmt: skip


# ---- movements around products ---------------------------------------------------------------------------------------


def fold_reshapes_into_contractions(graph: Graph, by_row: bool = False) -> Graph:
    """Take a sum over the batch, a reshape or permutation of the result, and reshapes of what is summed over, into the
    product itself. by_row: a sum stays apart, as whether it stands right behind its product may depend on the other rows."""
    readers = users(graph)
    results = set(graph.results)

    def alone(x: Symbol) -> bool:
        return len(readers.get(x, ())) == 1 and x not in results

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        name, below = symbol.op_name, inputs[0] if inputs else None
        if name in PRODUCTS:
            return _without_reshapes(symbol, inputs, readers)
        if below is None or below.op_name not in PRODUCTS or not alone(symbol.inputs[0]):
            return None
        if name == "sum":
            return None if by_row else _summed(symbol, below)
        if name == "reshape":
            return _reshaped(symbol, below)
        if name == "permute":
            a, b, y = labels(below)
            return _contract(below.origin, *_pair(below), (a, b, tuple(y[axis] for axis in symbol.attributes["axes"])))
        return None

    return rewrite(graph, replacement)


def _contract(origin: Any, a: Symbol, b: Symbol, sides: tuple[Labels, Labels, Labels]) -> Symbol:
    """A contraction of axes by letters; those without a letter, of size 1, are left out."""
    inputs = []
    for x, side in zip((a, b), sides[:2], strict=True):
        shape = tuple(size for size, letter in zip(x.shape, side, strict=True) if letter is not None)
        inputs.append(x if shape == x.shape else emit("reshape", x, origin=x.origin, shape=shape))
    words = ["".join(letter for letter in side if letter is not None) for side in sides]
    return emit("contract", *inputs, origin=origin, a=words[0], b=words[1], y=words[2])


def _pair(product: Symbol) -> tuple[Symbol, Symbol]:
    a, b = product.inputs
    return a, b


def _summed(symbol: Symbol, product: Symbol) -> Symbol | None:
    """sum over axes that both sides have: the product sums over them as well."""
    a, b, y = labels(product)
    gone = [y[axis] for axis in symbol.attributes["axes"]]
    if not all(letter in a and letter in b for letter in gone) or symbol.dtype != product.dtype:
        return None
    kept = tuple(letter for letter in y if letter not in gone)
    result = _contract(product.origin, *_pair(product), (a, b, kept))
    return result if result.shape == symbol.shape else emit("reshape", result, origin=symbol.origin, shape=symbol.shape)


def groups_of(old: Sequence[int], new: Sequence[int]) -> list[tuple[int, ...]] | None:
    """For each axis of `old` the sizes in `new` that it is cut into; None where the cuts do not fall on its ends."""
    found, at = [], 0
    for size in old:
        mine: list[int] = []
        have = 1
        while have < size and at < len(new):
            mine.append(new[at])
            have *= new[at]
            at += 1
        if have != size:
            return None
        found.append(tuple(n for n in mine if n != 1))
    return found


def _cut(
    x: Symbol, side: Labels, letter: str | None, sizes: tuple[int, ...], letters: Sequence[str]
) -> tuple[Symbol, Labels]:
    """x with the axis `letter` cut into `sizes`, named by `letters`."""
    if letter not in side:
        return x, side
    axis = side.index(letter)
    shape = (*x.shape[:axis], *sizes, *x.shape[axis + 1 :])
    return emit("reshape", x, origin=x.origin, shape=shape), (*side[:axis], *letters, *side[axis + 1 :])


def _new_letters(count: int, sides: Sequence[Labels]) -> list[str]:
    taken = {letter for side in sides for letter in side}
    return [letter for letter in string.ascii_letters if letter not in taken][:count]


def _reshaped(symbol: Symbol, product: Symbol) -> Symbol | None:
    """A reshape that cuts axes of the result: the sides are cut instead, which is a matter of strides."""
    groups = groups_of(product.shape, symbol.shape)
    if groups is None or all(len(group) <= 1 for group in groups) or 1 in product.shape:
        return None
    (a, b), sides = product.inputs, list(labels(product))
    for letter, group in zip(sides[2], groups, strict=True):
        if len(group) > 1:
            new = _new_letters(len(group), sides)
            a, sides[0] = _cut(a, sides[0], letter, group, new)
            b, sides[1] = _cut(b, sides[1], letter, group, new)
            at = sides[2].index(letter)
            sides[2] = (*sides[2][:at], *new, *sides[2][at + 1 :])
    y = _contract(product.origin, a, b, tuple(sides))  # type: ignore[arg-type]
    return y if y.shape == symbol.shape else emit("reshape", y, origin=symbol.origin, shape=symbol.shape)


def _without_reshapes(symbol: Symbol, inputs: tuple[Symbol, ...], readers: dict[Symbol, list[Symbol]]) -> Symbol | None:
    """Sums over an axis that a reshape has put together run over the axes from before, if nobody wants it in one piece."""
    sides, operands, changed = list(labels(symbol)), list(inputs), False
    for side in (0, 1):
        old, x = symbol.inputs[side], operands[side]
        merging = x.op_name == "reshape" and view_of(x).source is x
        if not merging or any(not _sums_over(r, old) for r in readers.get(old, ())):
            continue
        groups = groups_of(x.shape, x.inputs[0].shape)
        if groups is None:
            continue
        for letter, group in zip(sides[side], groups, strict=True):
            if len(group) > 1 and letter is not None:
                new = _new_letters(len(group), sides)
                for each in (0, 1):
                    operands[each], sides[each] = _cut(operands[each], sides[each], letter, group, new)
                changed = True
    return _contract(symbol.origin, operands[0], operands[1], tuple(sides)) if changed else None  # type: ignore[arg-type]


def _sums_over(reader: Symbol, x: Symbol) -> bool:
    """Whether `reader` is a product that sums over each axis of x which a reshape has put together."""
    if reader.op_name not in PRODUCTS:
        return False
    groups = groups_of(x.shape, x.inputs[0].shape)
    sides = labels(reader)
    if groups is None:
        return False
    for operand, side in zip(reader.inputs, sides, strict=False):
        if operand is x and any(len(g) > 1 and letter in sides[2] for letter, g in zip(side, groups, strict=True)):
            return False
    return True
