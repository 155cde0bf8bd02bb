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

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from ...core.value import Symbol
from ...errors import TraceError, format_shape
from ...ops.attention import attention_gradient
from ...ops.elementwise import add, cast, where
from ...ops.index import check_index
from ...ops.movement import pad, reshape, slice_
from ...ops.random import random_bits
from ..ir.graph import Graph, Input, topological_order
from ..ir.rewrite import constant, emit
from .padded_axes import PADDED, Axes, Axis, Lengths, Padding, canonical_axis, is_padded
from .padding_rules import FREE, rule_for


def pad_graph(true: Graph, bucket: Graph, lengths: Lengths, given: dict[int, int], full: bool) -> tuple[Graph, Padding]:
    """The step at the bucket's size. given: of the arguments that are padded, by position, the axis. full: the length asked
    for is the bucket's own, and `true` another that shows what depends on it.

    Raises TraceError where something depends on the length in a way that is not understood.
    """
    graph, outputs = PaddingWalk(true, bucket, lengths, full).run(given)
    return graph, Padding(Lengths(lengths.size, lengths.size) if full else lengths, given, outputs)


class PaddingWalk:
    """Walks both graphs in parallel and builds the padded one."""

    def __init__(self, true: Graph, bucket: Graph, lengths: Lengths, full: bool) -> None:
        self.true, self.bucket, self.lengths, self.full = true, bucket, lengths, full
        self.checks: list[Symbol] = []
        self.padded_axes: dict[tuple[int, int], Axis] = {}  # by their sizes at both lengths
        self.true_symbol: dict[Symbol, Symbol] = {}  # by Symbol of the bucket's graph
        self.new: dict[Symbol, Symbol] = {}
        self.axes: dict[Symbol, Axes] = {}  # by Symbol of the new graph
        self.bucket_of: dict[Symbol, Symbol] = {}  # by Symbol of the true length's graph
        self.aliases: dict[tuple[Symbol, Symbol], Symbol] = {}  # operations that only the true length's graph has
        self.packed: dict[Symbol, list[Axis]] = {}  # the pieces of what `attention` packs
        self.length_inputs: dict[Hashable, Input] = {}
        self.current: Symbol  # the present operation of the bucket's graph

    def run(self, given: dict[int, int]) -> tuple[Graph, list[Axes]]:
        self._inputs(given)
        left = iter(self.bucket.symbols)
        b = next(left, None)
        for a in self.true.symbols:
            if (b is None or a.op is not b.op or a.ndim != b.ndim) and self._is_whole(a):
                continue
            if (
                b is None
                or a.op is not b.op
                or a.dtype != b.dtype
                or a.ndim != b.ndim
                or len(a.inputs) != len(b.inputs)
            ):
                raise self._differs(b)
            self.current, self.true_symbol[b] = b, a
            self.bucket_of[a] = b
            self._step(a, b)
            b = next(left, None)
        if b is not None:
            raise self._differs(b)
        outputs = [self._read(a, b) for a, b in zip(self.true.outputs, self.bucket.outputs, strict=True)]
        writes = []
        for (_, a), (entry, b) in zip(self.true.writes, self.bucket.writes, strict=True):
            symbol = self._read(a, b)
            if any(map(is_padded, self.axes[symbol])) or symbol in self.packed:
                raise self.refusal(
                    f"a Tensor {format_shape(a.shape)} with the padded axis is written into the step's state", b
                )
            writes.append((entry, symbol))
        for symbol, b in zip(outputs, self.bucket.outputs, strict=True):
            if symbol in self.packed:
                raise self.refusal("what attention packs is returned", b)
        symbols = topological_order([*self.checks, *outputs, *(s for _, s in writes)])
        entries = [*self.bucket.inputs, *self.length_inputs.values()]
        return Graph(entries, symbols, outputs, writes), [self.axes[s] for s in outputs]

    def _inputs(self, given: dict[int, int]) -> None:
        if len(self.true.inputs) != len(self.bucket.inputs) or len(self.true.writes) != len(self.bucket.writes):
            raise self._differs(None)
        for a, b in zip(self.true.inputs, self.bucket.inputs, strict=True):
            same = a.kind == b.kind and (a.kind == "argument" or a.owner is b.owner) and a.position == b.position
            if not same or a.symbol.ndim != b.symbol.ndim:
                raise self._differs(None)
            axis = given.get(b.position) if b.kind == "argument" else None
            axes = tuple((PADDED,) if i == axis else canonical_axis((n,)) for i, n in enumerate(b.symbol.shape))
            self.bucket_of[a.symbol] = b.symbol
            self.true_symbol[b.symbol], self.new[b.symbol], self.axes[b.symbol] = a.symbol, b.symbol, axes

    def axis_of(self, true: int, size: int) -> Axis | None:
        """The axis of these sizes: a plain one, the padded one, or one made of it that has occurred before.

        A repeated or row-major value may fit several of the last. If it gets the wrong one, meeting another axis is refused.
        """
        return (
            self.lengths.axis(true, size) or self.padded_axes.get((true, size)) or (() if true == size == 1 else None)
        )

    # ---- inputs ----

    def _read(self, a: Symbol, b: Symbol) -> Symbol:
        """The new Symbol for `b` of the bucket's graph, which is `a` at the true length."""
        if b.constant is not None:
            if a.constant is None:
                raise self._differs(b)
            return self._constant(a, b)
        if (a, b) in self.aliases:
            return self.aliases[a, b]
        if self.true_symbol.get(b) is not a:
            raise self._differs(b)
        return self.new[b]

    def _is_whole(self, a: Symbol) -> bool:
        """Whether `a`, a slice of a table or its transpose, is the whole table in the bucket, whose graph has no such operation."""
        op = a.op
        b = self.bucket_of.get(a.inputs[0]) if op in (slice_, pad) else None
        if b is None or b not in self.new or self.new[b] in self.packed:
            return False
        x, self.current = self.new[b], b
        axes = list(self.axes[x])
        shapes = zip(a.inputs[0].shape, a.shape, b.shape, a.attributes["slices"], strict=True)
        for i, (before, after, size, (start, _, step)) in enumerate(shapes):
            grows = (after, before) if op is slice_ else (before, after)  # the part, the whole
            if (start, step) != (0, 1) or (before != after and grows != (self.lengths.true, size)):
                return False
            if before != after and (size != self.lengths.size or is_padded(axes[i]) == (op is slice_)):
                return False
            if before != after:
                axes[i] = (PADDED,) if op is slice_ else canonical_axis((size,))
        changed = [i for i, axis in enumerate(axes) if axis != self.axes[x][i]]
        y = self.fill_padding(x, 0, changed) if op is pad else emit(cast, x, origin=b.origin, dtype=x.dtype)
        self.aliases[a, b], self.axes[y] = y, tuple(axes)
        return True

    def _constant(self, a: Symbol, b: Symbol) -> Symbol:
        assert a.constant is not None and b.constant is not None
        if a.ndim != b.ndim or a.dtype != b.dtype:
            raise self._differs(b)
        if a.shape == b.shape and a.constant.tobytes() == b.constant.tobytes():
            self.axes[b] = tuple(canonical_axis((n,)) for n in b.shape)
            return b
        axes = tuple(self.axis_of(*sizes) for sizes in zip(a.shape, b.shape, strict=True))
        if None in axes:
            raise self.refusal(f"a constant {format_shape(a.shape)} depends on the length", b)
        return self.of_length(a.constant, b.constant, axes, b, ("constant", id(b)))  # type: ignore[arg-type]

    def of_length(self, true: np.ndarray, bucket: np.ndarray, axes: Axes, like_: Symbol, key: Hashable) -> Symbol:
        """An input that is filled in for each length."""
        if key not in self.length_inputs:
            spread = bucket if self.full else self.lengths.pad(true, axes)
            about = {"scalar": True} if spread.ndim == 0 else {}
            symbol = Symbol(None, (), about, spread.shape, spread.dtype, like_.origin)
            self.length_inputs[key] = Input("length", spread, symbol)
            self.axes[symbol] = axes
        return self.length_inputs[key].symbol

    def mask(self, axis: Axis) -> Symbol:
        """A mask that is True outside of the padding of an axis."""
        true, size = (np.ones(self.lengths.measure(axis, n), np.bool_) for n in (self.lengths.true, self.lengths.size))
        return self.of_length(true, size, (axis,), self.current, ("mask", axis))

    def fill_padding(self, x: Symbol, fill: float, which: Iterable[int] | None = None) -> Symbol:
        """x with `fill` in the padding of the axes `which`, or of all axes."""
        axes = self.axes[x]
        for i in range(x.ndim) if which is None else which:
            if is_padded(axes[i]):
                shape = tuple(x.shape[i] if k == i else 1 for k in range(x.ndim))
                mask = emit(reshape, self.mask(axes[i]), origin=self.current.origin, shape=shape)
                x = emit(where, mask, x, constant(fill, x.dtype, self.current.origin), origin=self.current.origin)
                self.axes[x] = axes
        return x

    # ---- one operation ----

    def _step(self, a: Symbol, b: Symbol) -> None:
        inputs = [self._read(x, y) for x, y in zip(a.inputs, b.inputs, strict=True)]
        op = b.op
        assert op is not None
        touched = a.shape != b.shape or any(x in self.packed or any(map(is_padded, self.axes[x])) for x in inputs)
        if not touched:
            if _about(a) != _about(b):
                raise self.refusal(f"{op.name} depends on the length", b)
            axes: Any = tuple(canonical_axis((n,)) for n in b.shape)
        else:
            rule = rule_for(op)
            if rule is None:
                raise self.refusal(f"{op.name} of {format_shape(a.shape)} reads or makes the padded axis", b)
            if _about(a, FREE.get(op, ())) != _about(b, FREE.get(op, ())):
                raise self.refusal(f"{op.name} depends on the length", b)
            if any(x in self.packed for x in inputs) and op not in (slice_, attention_gradient, add):
                raise self.refusal(f"{op.name} reads what attention packs", b)
            inputs, axes = rule(self, a, b, inputs)
        symbol = inputs.pop() if len(inputs) > len(b.inputs) and op is random_bits else b.with_inputs(tuple(inputs))
        self.new[b] = symbol
        if isinstance(axes, list):  # a packed result's pieces
            self.packed[symbol], self.axes[symbol] = axes, ((),)
            return
        fitting = len(axes) == b.ndim and all(
            self.lengths.fits(axis, n, size) for axis, n, size in zip(axes, a.shape, b.shape, strict=True)
        )
        if not fitting:
            raise self.refusal(f"{op.name} makes {format_shape(a.shape)}", b)
        self.axes[symbol] = axes
        self.padded_axes |= {
            (n, size): axis for axis, n, size in zip(axes, a.shape, b.shape, strict=True) if is_padded(axis)
        }
        if op is check_index:
            self.checks.append(symbol)

    # ---- errors ----

    def refusal(self, what: str, symbol: Symbol) -> TraceError:
        return TraceError(
            f"compile: {symbol.origin}: {what}, in a step with pad=; expected sums, means, maxima, products, elementwise "
            "operations and whole reshapes along the padded axis; do this before the step, or leave pad= out"
        )

    def _differs(self, symbol: Symbol | None) -> TraceError:
        place = "the step" if symbol is None else str(symbol.origin)
        return TraceError(
            f"compile: {place}: with length {self.lengths.size} the step does something else than with {self.lengths.true}; "
            "expected the same operations for every length; leave pad= out, or keep Python's ifs and loops off the length"
        )


def _about(symbol: Symbol, free: Sequence[str] = ()) -> str:
    return repr(sorted((k, v) for k, v in symbol.attributes.items() if k != "message" and k not in free))
