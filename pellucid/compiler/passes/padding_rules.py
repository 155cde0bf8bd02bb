"""Padding rules: for each operation, the inputs it needs and the axes of its result where an axis is padded (floor 4).

A rule is a function of (what is known of the padded graph, the operation at the true length, the same in the bucket, its new
inputs).
It returns the inputs with which the result is right outside of the padding, and the axes of the result; or it refuses.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...core.op import Op
from ...core.value import Symbol
from ...errors import format_shape
from ...ops.attention import attention, attention_gradient, gradient_shapes, result_shapes
from ...ops.contraction import convolution, convolution_input_gradient, convolution_weight_gradient, dot_general, matmul
from ...ops.elementwise import add
from ...ops.index import argsort, check_index, gather, index_add, scatter_add, take
from ...ops.movement import concatenate, pad, permute, reshape, slice_
from ...ops.random import random_bits
from ...ops.reduce import Reducing, cumulative_sum, expand
from ..ir.rewrite import emit
from .padded_axes import PADDED, Axes, Axis, canonical_axis, is_padded
from .padded_values import PaddedValues, refusal

# Attributes that may differ between the two lengths; the rules compare them.
FREE: dict[Op, tuple[str, ...]] = {reshape: ("shape",), expand: ("shape",), random_bits: ("shape",), index_add: ("shape",), slice_: ("slices",),
        pad: ("shape", "slices")}  # fmt: skip
Ruled = tuple[list[Symbol], Any]  # the inputs, and the axes of the result; of a packed one a list of its pieces
Rule = Callable[[PaddedValues, Symbol, Symbol, list[Symbol]], Ruled]


def _same(p: PaddedValues, symbol: Symbol, operand_axes: Sequence[Axes]) -> Axes:
    """The axes that operands broadcast to."""
    rank = max(len(axes) for axes in operand_axes)
    result: list[Axis] = []
    for i in range(rank):
        here = {axes[i - rank] for axes in operand_axes if len(axes) >= rank - i} - {()}
        if len(here) > 1:
            raise refusal("the padded axis meets another one", symbol)
        result.append(here.pop() if here else ())
    return tuple(result)


def _elementwise(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    if any(x in p.packed for x in inputs):  # gradients of what was packed meet
        pieces = p.packed.get(inputs[0], [])
        if any(p.packed.get(x) != pieces for x in inputs):
            raise refusal(f"{b.op_name} reads what attention packs", b)
        return inputs, pieces
    return inputs, _same(p, b, [p.axes[x] for x in inputs])


def _permute(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    return inputs, tuple(p.axes[inputs[0]][axis] for axis in b.attributes["axes"])


def _expand(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    before = ((),) * (b.ndim - inputs[0].ndim) + p.axes[inputs[0]]
    return inputs, tuple(
        axis if axis else p.axis_of(n, size) for axis, n, size in zip(before, a.shape, b.shape, strict=True)
    )


def _reshape(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    """Distribute the factors, in order, over the new axes."""
    if 0 in b.shape:
        raise refusal(f"reshape to {format_shape(a.shape)}", b)
    left = list(canonical_axis(f for axis in p.axes[inputs[0]] for f in axis))[::-1]
    axes_of_result: list[Axis] = []
    for target in zip(a.shape, b.shape, strict=True):
        axis: list[int] = []
        while not p.lengths.fits(tuple(axis), *target):
            if not left:
                raise refusal(f"reshape to {format_shape(a.shape)}", b)
            factor = left.pop()
            wanted = target[1] // max(p.lengths.measure(axis, p.lengths.size), 1)
            if factor != PADDED and factor > wanted > 1 and factor % wanted == 0:  # part of it
                left.append(factor // wanted)
                factor = wanted
            axis.append(factor)
            if p.lengths.measure(axis, p.lengths.size) > target[1]:
                raise refusal(f"reshape to {format_shape(a.shape)}", b)
        axes_of_result.append(canonical_axis(axis))
    if left:
        raise refusal(f"reshape to {format_shape(a.shape)}", b)
    return inputs, tuple(axes_of_result)


def _slice(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    (x,), axes_of_result = inputs, list[Axis | None]()
    if x in p.packed:
        return inputs, (_piece(p, a, b, p.packed[x]),)
    pairs = zip(p.axes[x], a.inputs[0].shape, x.shape, _slices(a), _slices(b), strict=True)
    for axis, n, size, true, bucket in pairs:
        if (true, bucket) == ((0, n, 1), (0, size, 1)):
            axes_of_result.append(axis)
        elif true == bucket and (not is_padded(axis) or axis == (PADDED,)):  # elements that exist at every length
            axes_of_result.append(canonical_axis((true[1],)))
        elif not is_padded(axis) and (true[0], true[2]) == (bucket[0], bucket[2]) and true[2] > 0:
            axes_of_result.append(p.lengths.axis(true[1], bucket[1]))
        else:
            raise refusal("slice along the padded axis", b)
    return inputs, tuple(axes_of_result)


def _slices(symbol: Symbol) -> tuple[tuple[int, int, int], ...]:
    slices: tuple[tuple[int, int, int], ...] = symbol.attributes["slices"]
    return slices


def _piece(p: PaddedValues, a: Symbol, b: Symbol, pieces: Sequence[Axis]) -> Axis:
    """The piece of a packed result that a slice takes, or a pad puts back."""
    true, bucket = _slices(a)[0], _slices(b)[0]
    start = [0, 0]
    for axis in pieces:
        sizes = [p.lengths.measure(axis, length) for length in (p.lengths.true, p.lengths.size)]
        if (true, bucket) == ((start[0], sizes[0], 1), (start[1], sizes[1], 1)):
            return axis
        start = [x + size for x, size in zip(start, sizes, strict=True)]
    raise refusal("slice of what attention packs", b)


def _pad(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    (x,), axes_of_result, clean = inputs, list[Axis | None](), list[int]()
    if a.ndim == 1 and a.shape != b.shape and not p.lengths.axis(*a.shape, *b.shape):
        for pieces in p.packed.values():
            total = tuple(sum(p.lengths.measure(axis, n) for axis in pieces) for n in (p.lengths.true, p.lengths.size))
            if total == (a.shape[0], b.shape[0]) and _piece(p, a, b, pieces) == p.axes[x][0]:
                return inputs, pieces
    into = zip(a.attributes["shape"], b.attributes["shape"], strict=True)
    pairs = zip(p.axes[x], a.inputs[0].shape, x.shape, _slices(a), _slices(b), into, strict=True)
    for i, (axis, n, size, true, bucket, target) in enumerate(pairs):
        whole = (true, bucket) == ((0, n, 1), (0, size, 1))
        if whole and target == (n, size):
            axes_of_result.append(axis)
        elif is_padded(axis) and whole and target[0] == target[1]:  # the padding stays zero
            axes_of_result.append(canonical_axis((target[0],)))
            clean.append(i)
        elif not is_padded(axis) and true == bucket:
            axes_of_result.append(p.lengths.axis(*target))
        else:
            raise refusal("pad along the padded axis", b)
    return [p.fill_padding(b, x, 0, clean)], tuple(axes_of_result)


def _concatenate(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    axis = b.attributes["axis"]
    if any(is_padded(p.axes[x][axis]) for x in inputs):
        raise refusal("concatenate along the padded axis", b)
    others = [(*p.axes[x][:axis], (), *p.axes[x][axis + 1 :]) for x in inputs]
    if len(set(others)) > 1:
        raise refusal("concatenate beside the padded axis", b)
    return inputs, (*others[0][:axis], canonical_axis((b.shape[axis],)), *others[0][axis + 1 :])


# ---- reductions ----


def _reduction(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    (x,), attributes, op = inputs, b.attributes, b.op
    assert isinstance(op, Reducing)
    gone = op.along(attributes)
    axes = p.axes[x]
    if "axis" in attributes and is_padded(axes[gone[0]]) and axes[gone[0]] != (PADDED,):
        raise refusal(f"{op.name} along an axis that the padded one is a part of", b)
    keep = attributes["keepdims"]
    axes_of_result = tuple(() if i in gone else axis for i, axis in enumerate(axes) if keep or i not in gone)
    return [p.fill_padding(b, x, op.identity(x.dtype), gone)], axes_of_result


def _cumulative_sum(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    return [p.fill_padding(b, inputs[0], 0, [b.attributes["axis"]])], p.axes[inputs[0]]


def _argsort(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    if is_padded(p.axes[inputs[0]][b.attributes["axis"]]):
        raise refusal("a sort along the padded axis", b)
    return inputs, p.axes[inputs[0]]


def _matmul(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    x, y = inputs
    left, right = p.axes[x], p.axes[y]
    if left[-1] != right[-2]:
        raise refusal("a product of the padded axis with another", b)
    axes = (*_same(p, b, [left[:-2], right[:-2]]), left[-2], right[-1])
    return [p.fill_padding(b, x, 0, [x.ndim - 1]), p.fill_padding(b, y, 0, [y.ndim - 2])], axes


def _dot_general(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    sides, result = (b.attributes["a"], b.attributes["b"]), b.attributes["y"]
    axis_of_letter: dict[str, Axis] = {}
    for letters, x in zip(sides, inputs, strict=True):
        for letter, axis in zip(letters, p.axes[x], strict=True):
            if axis_of_letter.setdefault(letter, axis) != axis:
                raise refusal("a product of the padded axis with another", b)
    clean = [
        p.fill_padding(b, x, 0, [i for i, letter in enumerate(letters) if letter not in result])
        for letters, x in zip(sides, inputs, strict=True)
    ]
    return clean, tuple(axis_of_letter[letter] for letter in result)


# ---- gather and scatter ----


def _check_index(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    return [p.fill_padding(b, inputs[0], b.attributes["low"])], p.axes[inputs[0]]


def _take(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    x, index = inputs
    if is_padded(p.axes[x][0]):
        raise refusal("indexing along the padded axis", b)
    return [x, p.fill_padding(b, index, 0)], p.axes[index] + p.axes[x][1:]


def _index_add(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    g, index = inputs
    axis = p.axis_of(a.shape[0], b.shape[0])
    if axis is None or is_padded(axis):
        raise refusal("indexing along the padded axis", b)
    _check_alike(p, b, p.axes[index], p.axes[g][: index.ndim])
    clean = p.fill_padding(b, g, 0, range(index.ndim))
    return [clean, p.fill_padding(b, index, 0)], (axis, *p.axes[g][index.ndim :])


def _gather(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    x, index = inputs
    _check_picks(p, b, x, index)
    return [x, p.fill_padding(b, index, 0)], p.axes[index]


def _scatter_add(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    x, index, g = inputs
    _check_picks(p, b, x, index)
    _check_alike(p, b, p.axes[index], p.axes[g])
    return [x, p.fill_padding(b, index, 0), p.fill_padding(b, g, 0)], p.axes[x]


def _check_alike(p: PaddedValues, b: Symbol, index: Axes, values: Axes) -> None:
    """Refuse an index whose padding lies elsewhere than that of the values it places, as (n, 2) and (2, n) do when merged."""
    if index != values and any(map(is_padded, (*index, *values))):
        raise refusal(f"{b.op_name} of values in another order than their index", b)


def _check_picks(p: PaddedValues, b: Symbol, x: Symbol, index: Symbol) -> None:
    axis = b.attributes["axis"]
    for i, (one, other) in enumerate(zip(p.axes[x], p.axes[index], strict=True)):
        if is_padded(one) if i == axis else one != other and (is_padded(one) or is_padded(other)):
            raise refusal("indexing along the padded axis", b)


# ---- random numbers, convolutions, attention ----


def _random_bits(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    """The random bits of the true length, each at its index: they are counted in row-major order."""
    axes = tuple(p.axis_of(n, size) for n, size in zip(a.shape, b.shape, strict=True))
    if None in axes:
        raise refusal(f"random numbers {format_shape(a.shape)}", b)
    flat = emit(random_bits, inputs[0], origin=b.origin, shape=(b.size,))
    index = None
    for i in reversed(range(b.ndim)):
        true, size = (np.arange(s.shape[i], dtype=np.int64) * math.prod(s.shape[i + 1 :]) for s in (a, b))
        vector = p.of_length(true, size, (axes[i],), b, ("steps", id(b), i))  # type: ignore[arg-type]
        vector = emit(reshape, vector, origin=b.origin, shape=(b.shape[i], *(1,) * (b.ndim - 1 - i)))
        index = vector if index is None else emit(add, vector, index, origin=b.origin)
    assert index is not None
    return [inputs[0], emit(take, flat, index, origin=b.origin)], axes


def _convolution(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    """Only the batch may be padded."""
    for x in inputs:
        if any(map(is_padded, p.axes[x][1:])):
            raise refusal("a convolution along the padded axis", b)
    axes = [canonical_axis((n,)) for n in b.shape]
    if b.op is convolution_weight_gradient:
        if p.axes[inputs[0]][0] != p.axes[inputs[1]][0]:
            raise refusal("a convolution of the padded axis with another", b)
        return [p.fill_padding(b, x, 0, [0]) for x in inputs], tuple(axes)
    if any(is_padded(p.axes[x][0]) for x in inputs[1:]):
        raise refusal("a convolution along the padded axis", b)
    axes[0] = p.axes[inputs[0]][0]
    return inputs, tuple(axes)


class _Shaped:
    """A Symbol with axes in place of sizes."""

    def __init__(self, axes: Axes) -> None:
        self.shape = axes


def _flat(shapes: Sequence[tuple[Axis, ...]]) -> list[Axis]:
    return [canonical_axis(f for axis in shape for f in axis) for shape in shapes]


def _attention(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    """Fill the padding of q, k and v with zeros, so that every score is finite, and mask its keys."""
    q, k, v, *masks = inputs
    _check_attention(p, b, q, k, v)
    clean = [p.fill_padding(b, x, 0, [2]) for x in (q, k, v)]
    return [*clean, *_key_masks(p, b, q, k, masks)], _flat(result_shapes(_Shaped(p.axes[q]), _Shaped(p.axes[v])))  # type: ignore[arg-type]


def _attention_gradient(p: PaddedValues, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    g, h, q, k, v, packed, *masks = inputs
    _check_attention(p, b, q, k, v)
    clean = [p.fill_padding(b, x, 0, [2]) for x in (g, h, q, k, v)]
    shapes = gradient_shapes(*(_Shaped(p.axes[x]) for x in (q, k, v)))
    return [*clean, packed, *_key_masks(p, b, q, k, masks)], _flat(shapes)  # type: ignore[arg-type]


def _check_attention(p: PaddedValues, b: Symbol, q: Symbol, k: Symbol, v: Symbol) -> None:
    for x in (q, k, v):
        axes = p.axes[x]
        if any(is_padded(axis) for axis in (*axes[:2], axes[3])) or axes[2] not in (
            (PADDED,),
            canonical_axis((x.shape[2],)),
        ):
            raise refusal("attention with the padded axis elsewhere than among queries and keys", b)


def _key_masks(p: PaddedValues, b: Symbol, q: Symbol, k: Symbol, masks: list[Symbol]) -> list[Symbol]:
    """The mask, without the keys of the padding."""
    axis = p.axes[k][2]
    if not is_padded(axis):
        return masks
    if not masks:
        if b.attributes["causal"] and p.axes[q][2] == axis:  # no query outside of the padding attends to it
            return []
        return [emit(reshape, p.mask(axis, b), origin=b.origin, shape=(1, 1, 1, k.shape[2]))]
    mask = masks[0]
    fill = False if mask.dtype.kind == "b" else -np.inf
    return [p.fill_padding(b, _with_keys(p, b, mask, axis, k.shape[2]), fill)]


def _with_keys(p: PaddedValues, b: Symbol, mask: Symbol, axis: Axis, size: int) -> Symbol:
    """The mask with an axis of keys."""
    if p.axes[mask] and p.axes[mask][-1] == axis:
        return mask
    shape = (*mask.shape[:-1], size) if mask.ndim else (size,)
    wide = emit(expand, mask, origin=b.origin, shape=shape)
    p.axes[wide] = (*p.axes[mask][:-1], axis)
    return wide


RULES: dict[Op, Rule] = {
    reshape: _reshape, permute: _permute, slice_: _slice, pad: _pad, concatenate: _concatenate,
    expand: _expand, cumulative_sum: _cumulative_sum, argsort: _argsort,
    matmul: _matmul, dot_general: _dot_general, check_index: _check_index, take: _take, index_add: _index_add, gather: _gather,
    scatter_add: _scatter_add, random_bits: _random_bits, convolution: _convolution, convolution_input_gradient: _convolution,
    convolution_weight_gradient: _convolution, attention: _attention, attention_gradient: _attention_gradient,
}  # fmt: skip


def rule_for(op: Op) -> Rule | None:
    """The rule of an operation; None where it is never right along a padded axis."""
    if op.kind == "elementwise":
        return _elementwise
    return _reduction if isinstance(op, Reducing) else RULES.get(op)
