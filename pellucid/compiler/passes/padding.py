"""Padding pass: a graph of the bucket's size that computes the results of the true length (floor 4).

The step is traced twice, at the true length n and at the size L of the bucket. What differs between the two graphs depends
on the length: a size that is n in one and L in the other is a padded axis, and a constant that differs belongs to this
length. The padded graph is the one at L, changed so that no padding reaches a result:

- Elementwise operations and movements keep the padding. It may hold anything, NaN too.
- A sum, maximum, product or other operation that reduces a padded axis reads its neutral element in the padding.
- Constants of the length, masks among them, become inputs of kind "length", which are filled in for each length.

Anything else, such as a reversed axis or a convolution along it, raises TraceError.

An axis is described by its factors, such as (8, PADDED) for a batch and a sequence that a reshape has made one axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...core.value import Symbol
from ...errors import TraceError, format_shape
from ...ops.attention import attention_gradient
from ...ops.elementwise import add
from ...ops.index import check_index
from ...ops.movement import pad, slice_
from ...ops.random import random_bits
from ..ir.graph import Graph, Input, topological_order
from ..ir.rewrite import copy_of
from .padded_axes import PADDED, Lengths, Padding, canonical_axis, is_padded
from .padded_values import PaddedValues, refusal
from .padding_rules import FREE, Ruled, rule_for

# By a Symbol of the true length's graph and the same in the bucket's: that of the padded graph.
New = dict[tuple[Symbol, Symbol], Symbol]


def pad_graph(true: Graph, bucket: Graph, lengths: Lengths, given: dict[int, int], full: bool) -> tuple[Graph, Padding]:
    """The step at the bucket's size. given: of the arguments that are padded, by position, the axis. full: the length asked
    for is the bucket's own, and `true` another that shows what depends on it.

    Raises TraceError where something depends on the length in a way that is not understood.
    """
    values = PaddedValues(lengths, full)
    new = _inputs(true, bucket, values, given)
    for pair in matched(true, bucket, lengths):
        new[pair.true, pair.bucket] = _whole(pair, new, values) if pair.is_part else _operation(pair, new, values)
    outputs, writes = _results(true, bucket, new, values)
    checks = [symbol for symbol in new.values() if symbol.op is check_index]
    symbols = topological_order([*checks, *outputs, *(s for _, s in writes)])
    graph = Graph([*bucket.inputs, *values.length_inputs.values()], symbols, outputs, writes)
    used = Lengths(lengths.size, lengths.size) if full else lengths
    return graph, Padding(used, given, [values.axes[s] for s in outputs])


def _inputs(true: Graph, bucket: Graph, values: PaddedValues, given: dict[int, int]) -> New:
    """The inputs of both graphs, which have to be the same, and their axes."""
    if len(true.inputs) != len(bucket.inputs) or len(true.writes) != len(bucket.writes):
        raise _differs(values.lengths, None)
    new: New = {}
    for a, b in zip(true.inputs, bucket.inputs, strict=True):
        same = a.kind == b.kind and (a.kind == "argument" or a.owner is b.owner) and a.position == b.position
        if not same or a.symbol.ndim != b.symbol.ndim:
            raise _differs(values.lengths, None)
        axis = given.get(b.position) if b.kind == "argument" else None
        axes = tuple((PADDED,) if i == axis else canonical_axis((n,)) for i, n in enumerate(b.symbol.shape))
        new[a.symbol, b.symbol], values.axes[b.symbol] = b.symbol, axes
    return new


# ---- which operations are the same ---------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """An operation of the true length's graph, and the same in the bucket's.

    is_part: the true one is a slice or pad that the bucket's graph does not have; `bucket` is what it is the whole of.
    following: the next operation of the bucket's graph.
    """

    true: Symbol
    bucket: Symbol
    is_part: bool
    following: Symbol | None


def matched(true: Graph, bucket: Graph, lengths: Lengths) -> Iterator[Pair]:
    """The operations of both graphs in pairs, in order. Raises TraceError at the first that differ."""
    bucket_of = {a.symbol: b.symbol for a, b in zip(true.inputs, bucket.inputs, strict=True)}
    left = iter(bucket.symbols)
    b = next(left, None)
    for a in true.symbols:
        if b is not None and a.op is b.op and a.ndim == b.ndim:
            if a.dtype != b.dtype or len(a.inputs) != len(b.inputs):
                raise _differs(lengths, b)
            bucket_of[a] = b
            yield Pair(a, b, False, None)
            b = next(left, None)
        elif a.op in (slice_, pad) and a.inputs[0] in bucket_of:
            yield Pair(a, bucket_of[a.inputs[0]], True, b)
        else:
            raise _differs(lengths, b)
    if b is not None:
        raise _differs(lengths, b)


# ---- the padded graph, operation by operation ----------------------------------------------------------------------------


def _read(a: Symbol, b: Symbol, new: New, values: PaddedValues) -> Symbol:
    """The padded Symbol for `b` of the bucket's graph, which is `a` at the true length."""
    if b.constant is not None and a.constant is not None:
        return _constant(a, b, values)
    if b.constant is not None or (a, b) not in new:
        raise _differs(values.lengths, b)
    return new[a, b]


def _constant(a: Symbol, b: Symbol, values: PaddedValues) -> Symbol:
    """A constant; an input that is filled in for each length where it differs."""
    assert a.constant is not None and b.constant is not None
    if a.ndim != b.ndim or a.dtype != b.dtype:
        raise _differs(values.lengths, b)
    if a.shape == b.shape and a.constant.tobytes() == b.constant.tobytes():
        values.axes[b] = tuple(canonical_axis((n,)) for n in b.shape)
        return b
    axes = tuple(values.axis_of(*sizes) for sizes in zip(a.shape, b.shape, strict=True))
    if None in axes:
        raise refusal(f"a constant {format_shape(a.shape)} depends on the length", b)
    return values.of_length(a.constant, b.constant, axes, b, ("constant", id(b)))  # type: ignore[arg-type]


def _whole(pair: Pair, new: New, values: PaddedValues) -> Symbol:
    """What stands for a slice of a table, or its transpose, that is the whole table in the bucket."""
    a, b, lengths = pair.true, pair.bucket, values.lengths
    x = new[a.inputs[0], b]
    axes = list(values.axes[x])
    differs = x in values.packed
    shapes = () if differs else zip(a.inputs[0].shape, a.shape, b.shape, a.attributes["slices"], strict=True)
    for i, (before, after, size, (start, _, step)) in enumerate(shapes):
        grows = (after, before) if a.op is slice_ else (before, after)  # the part, the whole
        differs |= (start, step) != (0, 1) or (before != after and grows != (lengths.true, size))
        if before != after:
            differs |= size != lengths.size or is_padded(axes[i]) == (a.op is slice_)
            axes[i] = (PADDED,) if a.op is slice_ else canonical_axis((size,))
    if differs:
        raise _differs(lengths, pair.following)
    changed = [i for i, axis in enumerate(axes) if axis != values.axes[x][i]]
    y = values.fill_padding(b, x, 0, changed) if a.op is pad else copy_of(x, b.origin)
    values.axes[y] = tuple(axes)
    return y


def _operation(pair: Pair, new: New, values: PaddedValues) -> Symbol:
    """The padded form of an operation."""
    a, b, op = pair.true, pair.bucket, pair.bucket.op
    assert op is not None
    inputs = [_read(x, y, new, values) for x, y in zip(a.inputs, b.inputs, strict=True)]
    if a.shape != b.shape or any(map(values.has_padding, inputs)):
        inputs, axes = _ruled(a, b, inputs, values)
    else:
        if _about(a) != _about(b):
            raise refusal(f"{op.name} depends on the length", b)
        axes = tuple(canonical_axis((n,)) for n in b.shape)
    symbol = inputs.pop() if len(inputs) > len(b.inputs) and op is random_bits else b.with_inputs(tuple(inputs))
    if isinstance(axes, list):  # a packed result's pieces
        values.packed[symbol], values.axes[symbol] = axes, ((),)
        return symbol
    sizes = list(zip(a.shape, b.shape, strict=True))
    if len(axes) != b.ndim or not all(values.lengths.fits(axis, *size) for axis, size in zip(axes, sizes, strict=True)):
        raise refusal(f"{op.name} makes {format_shape(a.shape)}", b)
    values.axes[symbol] = axes
    values.padded_axes |= {size: axis for axis, size in zip(axes, sizes, strict=True) if is_padded(axis)}
    return symbol


def _ruled(a: Symbol, b: Symbol, inputs: list[Symbol], values: PaddedValues) -> Ruled:
    """The inputs and axes that the rule of an operation gives."""
    op = b.op
    assert op is not None
    rule = rule_for(op)
    if rule is None:
        raise refusal(f"{op.name} of {format_shape(a.shape)} reads or makes the padded axis", b)
    if _about(a, FREE.get(op, ())) != _about(b, FREE.get(op, ())):
        raise refusal(f"{op.name} depends on the length", b)
    if any(x in values.packed for x in inputs) and op not in (slice_, attention_gradient, add):
        raise refusal(f"{op.name} reads what attention packs", b)
    return rule(values, a, b, inputs)


def _results(
    true: Graph, bucket: Graph, new: New, values: PaddedValues
) -> tuple[list[Symbol], list[tuple[Input, Symbol]]]:
    """The outputs and writes of the padded graph."""
    outputs = [_read(a, b, new, values) for a, b in zip(true.outputs, bucket.outputs, strict=True)]
    writes = []
    for (_, a), (entry, b) in zip(true.writes, bucket.writes, strict=True):
        symbol = _read(a, b, new, values)
        if values.has_padding(symbol):
            what = f"a Tensor {format_shape(a.shape)} with the padded axis is written into the step's state"
            raise refusal(what, b)
        writes.append((entry, symbol))
    for symbol, b in zip(outputs, bucket.outputs, strict=True):
        if symbol in values.packed:
            raise refusal("what attention packs is returned", b)
    return outputs, writes


# ---- what differs --------------------------------------------------------------------------------------------------------


def _differs(lengths: Lengths, symbol: Symbol | None) -> TraceError:
    """The error of a step that does something else, at `symbol`, with another length."""
    place = "the step" if symbol is None else str(symbol.origin)
    return TraceError(
        f"compile: {place}: with length {lengths.size} the step does something else than with {lengths.true}; "
        "expected the same operations for every length; leave pad= out, or keep Python's ifs and loops off the length"
    )


def _about(symbol: Symbol, free: Sequence[str] = ()) -> str:
    return repr(sorted((k, v) for k, v in symbol.attributes.items() if k != "message" and k not in free))
