"""Contractions: lower convolutions to einsum-like products, and fold reshapes into products (floor 4).

A convolution is a contraction of the patches under its kernel, which are a view of its input, with its weight. A matrix
product of a reshaped value, or one summed over its batch, is a contraction over the axes from before the reshape, so that
nothing is copied.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Sequence

from .....core.op import Attributes, Op
from .....core.origin import Origin
from .....core.value import Symbol
from .....ops.contraction import (
    convolution,
    convolution_input_gradient,
    convolution_weight_gradient,
    dot_general,
    matmul,
    unfold,
)
from .....ops.elementwise import multiply
from .....ops.movement import pad, permute, reshape, slice_
from .....ops.reduce import sum_
from ....ir.graph import Graph, read_once, users
from ....ir.rewrite import emit, rewrite
from ....ir.views import split_axes, view_of, whole_slices

PRODUCTS = {matmul, dot_general}
Labels = tuple[str | None, ...]


def labels(symbol: Symbol) -> tuple[Labels, Labels, Labels]:
    """A letter for each axis of a, of b and of the result of a product, as in einsum; None for a broadcast axis of size 1."""
    if symbol.op is dot_general:
        attributes = symbol.attributes
        return tuple(attributes["a"]), tuple(attributes["b"]), tuple(attributes["y"])
    *outer, m, n, k = list(string.ascii_letters[: symbol.ndim + 1])

    def batch(x: Symbol) -> Labels:
        batch_axes = zip(
            outer[len(outer) - (x.ndim - 2) :], x.shape[:-2], symbol.shape[len(outer) - (x.ndim - 2) :], strict=False
        )
        return tuple(letter if size == whole else None for letter, size, whole in batch_axes)

    a, b = symbol.inputs
    return (*batch(a), m, k), (*batch(b), k, n), (*outer, m, n)


def contraction_size(product: Symbol) -> int:
    """K: the number of terms of each sum of a product."""
    side, _, whole = labels(product)
    return math.prod(size for size, letter in zip(product.inputs[0].shape, side, strict=True) if letter not in whole)


# ---- convolutions ----------------------------------------------------------------------------------------------------


def lower_convolutions(graph: Graph, by_row: bool = False) -> Graph:
    """Lower convolutions to contractions with a view of the patches; depthwise ones to sums of products.

    by_row: the channels are summed over last, if they are many, since that order stays whatever the layout.
    """

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        lowering = _CONVOLUTIONS.get(symbol.op)
        if not (lowering and symbol.size and all(x.size for x in inputs)):
            return None
        return lowering(symbol, *inputs, by_row) if lowering is _forward else lowering(symbol, *inputs)

    return rewrite(graph, replacement)


def _padded(x: Symbol, size: Sequence[int], start: Sequence[int], step: Sequence[int]) -> Symbol:
    """x (B, C, H, W) padded to (B, C, *size): element i of an axis at start + step i, where that is inside."""
    cut, slices = [], []
    for n, whole, first, s in zip(x.shape[2:], size, start, step, strict=True):
        skipped = max(0, -(first // s))
        count = max(0, min(n, -(-(whole - first) // s)) - skipped)
        cut.append((skipped, count, 1))
        slices.append((first + skipped * s, count, s))
    outer = whole_slices(x.shape[:2])
    x = emit(slice_, x, origin=x.origin, slices=(*outer, *cut))
    return emit(pad, x, origin=x.origin, shape=(*x.shape[:2], *size), slices=(*outer, *slices))


def _patches(x: Symbol, kernel: tuple[int, ...], attributes: Attributes) -> Symbol:
    """x (B, C, H, W), zero-padded, as (B, C, P, Q, K, L): the patch under the kernel at every output position."""
    pad = attributes["padding"]
    if any(pad):
        size = [n + 2 * p for n, p in zip(x.shape[2:], pad, strict=True)]
        x = _padded(x, size, pad, (1, 1))
    return emit(
        unfold,
        x,
        origin=x.origin,
        kernel=tuple(kernel),
        stride=attributes["stride"],
        dilation=attributes["dilation"],
    )


def _split_groups(x: Symbol, axis: int, groups: int) -> Symbol:
    """The channels along `axis` as (groups, channels of a group)."""
    shape = (*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])
    return emit(reshape, x, origin=x.origin, shape=shape)


def _grouped_contract(
    s: Symbol, a: Symbol, b: Symbol, letters: tuple[str, str, str], channels: tuple[int, int]
) -> Symbol:
    """The contraction, batched over groups. channels: the axes of a and b that groups divide."""
    groups = s.attributes["groups"]
    if groups > 1:
        a, b = (_split_groups(x, axis, groups) for x, axis in zip((a, b), channels, strict=True))
        letters = tuple(_grouped(side) for side in letters)  # type: ignore[assignment]
    sizes = dict(zip(letters[0] + letters[1], a.shape + b.shape, strict=True))
    if groups > 1 and sizes["c"] == sizes["o"] == 1 and a.dtype.kind == "f":
        y = _channel_by_channel(s, a, b, letters)
    else:
        y = emit(dot_general, a, b, origin=s.origin, **dict(zip("aby", letters, strict=True)))
    return emit(reshape, y, origin=s.origin, shape=s.shape) if groups > 1 else y


def _grouped(side: str) -> str:
    """The letters with that of the group in front of the channel that groups divide."""
    return side.replace("o", "go") if "o" in side else side.replace("c", "gc")


def _channel_by_channel(s: Symbol, a: Symbol, b: Symbol, letters: tuple[str, str, str]) -> Symbol:
    """A depthwise convolution: elementwise products and a sum."""
    whole = letters[2] + "".join(dict.fromkeys(c for c in letters[0] + letters[1] if c not in letters[2]))
    sizes = dict(zip(letters[0] + letters[1], a.shape + b.shape, strict=True))

    def broadcast(x: Symbol, side: str) -> Symbol:
        order = tuple(side.index(c) for c in whole if c in side)
        x = emit(permute, x, origin=s.origin, axes=order)
        shape = tuple(sizes[c] if c in side else 1 for c in whole)
        return emit(reshape, x, origin=s.origin, shape=shape)

    y = emit(multiply, broadcast(a, letters[0]), broadcast(b, letters[1]), origin=s.origin)
    gone = tuple(range(len(letters[2]), len(whole)))
    return emit(sum_, y, origin=s.origin, axes=gone, keepdims=False)


def _forward(s: Symbol, x: Symbol, w: Symbol, by_row: bool = False) -> Symbol:
    patches = _patches(x, w.shape[2:], s.attributes)
    if by_row and w.shape[1] > max(w.shape[2:]):
        patches = emit(permute, patches, origin=patches.origin, axes=(0, 2, 3, 4, 5, 1))
        return _grouped_contract(s, patches, w, ("bpqklc", "ockl", "bopq"), (5, 0))
    return _grouped_contract(s, patches, w, ("bcpqkl", "ockl", "bopq"), (1, 0))


def _for_weight(s: Symbol, g: Symbol, x: Symbol) -> Symbol:
    patches = _patches(x, s.attributes["kernel"], s.attributes)
    return _grouped_contract(s, g, patches, ("bopq", "bcpqkl", "ockl"), (1, 1))


def _for_input(s: Symbol, g: Symbol, w: Symbol) -> Symbol:
    """A convolution of the gradient, dilated by `stride`, with the flipped weight."""
    attributes, taps = s.attributes, w.shape[2:]
    extent = [d * (n - 1) for d, n in zip(attributes["dilation"], taps, strict=True)]
    size = [n + r for n, r in zip(attributes["size"], extent, strict=True)]
    start = [r - pad for r, pad in zip(extent, attributes["padding"], strict=True)]
    g = _padded(g, size, start, attributes["stride"])
    patches = emit(unfold, g, origin=s.origin, kernel=taps, stride=(1, 1), dilation=attributes["dilation"])
    turned = tuple((n - 1, n, -1) for n in taps)
    w = emit(slice_, w, origin=s.origin, slices=(*whole_slices(w.shape[:2]), *turned))
    return _grouped_contract(s, patches, w, ("bopqkl", "ockl", "bcpq"), (1, 0))


_CONVOLUTIONS: dict[Op | None, Callable[..., Symbol]] = {
    convolution: _forward, convolution_weight_gradient: _for_weight, convolution_input_gradient: _for_input,
}  # fmt: skip


# ---- reshapes around products ---------------------------------------------------------------------------------------


def fold_reshapes_into_contractions(graph: Graph, by_row: bool = False) -> Graph:
    """Fold a sum over the batch, a reshape or permutation of the result, and reshapes of summed axes into the product.

    by_row: sums are not folded, since whether one follows its product directly may depend on the other rows.
    """
    readers = users(graph)
    once = read_once(graph, readers)

    def replacement(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol | None:
        op, below = symbol.op, inputs[0] if inputs else None
        if op in PRODUCTS:
            return _without_reshapes(symbol, inputs, readers)
        if below is None or below.op not in PRODUCTS or symbol.inputs[0] not in once:
            return None
        if op is sum_:
            return None if by_row else _summed(symbol, below)
        if op is reshape:
            return _reshaped(symbol, below)
        if op is permute:
            a, b, y = labels(below)
            return _emit_contraction(
                below.origin, *_pair(below), (a, b, tuple(y[axis] for axis in symbol.attributes["axes"]))
            )
        return None

    return rewrite(graph, replacement)


def _emit_contraction(origin: Origin, a: Symbol, b: Symbol, sides: tuple[Labels, Labels, Labels]) -> Symbol:
    """A contraction of axes by letters. Axes without a letter, of size 1, are dropped."""
    inputs = []
    for x, side in zip((a, b), sides[:2], strict=True):
        shape = tuple(size for size, letter in zip(x.shape, side, strict=True) if letter is not None)
        inputs.append(x if shape == x.shape else emit(reshape, x, origin=x.origin, shape=shape))
    words = ["".join(letter for letter in side if letter is not None) for side in sides]
    return emit(dot_general, *inputs, origin=origin, a=words[0], b=words[1], y=words[2])


def _pair(product: Symbol) -> tuple[Symbol, Symbol]:
    a, b = product.inputs
    return a, b


def _summed(symbol: Symbol, product: Symbol) -> Symbol | None:
    """Fold a sum over axes that both operands have."""
    a, b, y = labels(product)
    gone = [y[axis] for axis in symbol.attributes["axes"]]
    if not all(letter in a and letter in b for letter in gone) or symbol.dtype != product.dtype:
        return None
    retained = tuple(letter for letter in y if letter not in gone)
    result = _emit_contraction(product.origin, *_pair(product), (a, b, retained))
    return result if result.shape == symbol.shape else emit(reshape, result, origin=symbol.origin, shape=symbol.shape)


def groups_of(old: Sequence[int], new: Sequence[int]) -> list[tuple[int, ...]] | None:
    """For each axis of `old` the sizes in `new`, but for 1, that it is split into; None where they do not align."""
    groups = split_axes(old, new)
    if groups is None:
        return None
    return [tuple(new[axis] for axis in group if new[axis] != 1) for group in groups]


def _cut(
    x: Symbol, side: Labels, letter: str | None, sizes: tuple[int, ...], letters: Sequence[str]
) -> tuple[Symbol, Labels]:
    """x with the axis `letter` split into `sizes`, named by `letters`."""
    if letter not in side:
        return x, side
    axis = side.index(letter)
    shape = (*x.shape[:axis], *sizes, *x.shape[axis + 1 :])
    return emit(reshape, x, origin=x.origin, shape=shape), (*side[:axis], *letters, *side[axis + 1 :])


def _new_letters(count: int, sides: Sequence[Labels]) -> list[str]:
    taken = {letter for side in sides for letter in side}
    return [letter for letter in string.ascii_letters if letter not in taken][:count]


def _reshaped(symbol: Symbol, product: Symbol) -> Symbol | None:
    """Fold a reshape that splits axes of the result: split the operands instead, which only changes strides."""
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
    y = _emit_contraction(product.origin, a, b, tuple(sides))  # type: ignore[arg-type]
    return y if y.shape == symbol.shape else emit(reshape, y, origin=symbol.origin, shape=symbol.shape)


def _without_reshapes(symbol: Symbol, inputs: tuple[Symbol, ...], readers: dict[Symbol, list[Symbol]]) -> Symbol | None:
    """Sum over the axes from before a reshape, if no reader needs the reshaped axis."""
    sides, operands, changed = list(labels(symbol)), list(inputs), False
    for side in (0, 1):
        old, x = symbol.inputs[side], operands[side]
        merging = x.op is reshape and view_of(x).source is x
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
    return _emit_contraction(symbol.origin, operands[0], operands[1], tuple(sides)) if changed else None  # type: ignore[arg-type]


def _sums_over(reader: Symbol, x: Symbol) -> bool:
    """Whether `reader` is a product that sums over each axis of x which a reshape has merged."""
    if reader.op not in PRODUCTS:
        return False
    groups = groups_of(x.shape, x.inputs[0].shape)
    sides = labels(reader)
    if groups is None:
        return False
    for operand, side in zip(reader.inputs, sides, strict=False):
        if operand is x and any(len(g) > 1 and letter in sides[2] for letter, g in zip(side, groups, strict=True)):
            return False
    return True
