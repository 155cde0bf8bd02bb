"""Padded values: what is known of the Symbols of a padded graph while it is built (floor 4)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np

from ...core.value import Symbol
from ...errors import TraceError
from ...ops.elementwise import where
from ...ops.movement import reshape
from ..ir.graph import Input
from ..ir.rewrite import constant, emit
from .padded_axes import Axes, Axis, Lengths, is_padded


class PaddedValues:
    """The axes of each Symbol of the padded graph, and the inputs that are filled in for each length.

    axes: of each Symbol. packed: of the Symbols that `attention` packs, the pieces. padded_axes: those that have occurred, by
    their sizes at both lengths. full: whether the length asked for is the bucket's own.
    """

    def __init__(self, lengths: Lengths, full: bool) -> None:
        self.lengths, self.full = lengths, full
        self.axes: dict[Symbol, Axes] = {}
        self.packed: dict[Symbol, list[Axis]] = {}
        self.padded_axes: dict[tuple[int, int], Axis] = {}
        self.length_inputs: dict[Hashable, Input] = {}

    def has_padding(self, x: Symbol) -> bool:
        return x in self.packed or any(map(is_padded, self.axes[x]))

    def axis_of(self, true: int, size: int) -> Axis | None:
        """The axis of these sizes: a plain one, the padded one, or one made of it that has occurred before.

        A repeated or row-major value may fit several of the last. If it gets the wrong one, meeting another axis is refused.
        """
        return (
            self.lengths.axis(true, size) or self.padded_axes.get((true, size)) or (() if true == size == 1 else None)
        )

    def of_length(self, true: np.ndarray, bucket: np.ndarray, axes: Axes, reader: Symbol, key: Hashable) -> Symbol:
        """An input that is filled in for each length."""
        if key not in self.length_inputs:
            spread = bucket if self.full else self.lengths.pad(true, axes)
            about = {"scalar": True} if spread.ndim == 0 else {}
            symbol = Symbol(None, (), about, spread.shape, spread.dtype, reader.origin)
            self.length_inputs[key] = Input("length", spread, symbol)
            self.axes[symbol] = axes
        return self.length_inputs[key].symbol

    def mask(self, axis: Axis, reader: Symbol) -> Symbol:
        """A mask that is True outside of the padding of an axis."""
        true, size = (np.ones(self.lengths.measure(axis, n), np.bool_) for n in (self.lengths.true, self.lengths.size))
        return self.of_length(true, size, (axis,), reader, ("mask", axis))

    def fill_padding(self, reader: Symbol, x: Symbol, fill: float, which: Iterable[int] | None = None) -> Symbol:
        """x with `fill` in the padding of the axes `which`, or of all axes, as `reader` needs it."""
        axes, origin = self.axes[x], reader.origin
        for i in range(x.ndim) if which is None else which:
            if is_padded(axes[i]):
                shape = tuple(x.shape[i] if k == i else 1 for k in range(x.ndim))
                mask = emit(reshape, self.mask(axes[i], reader), origin=origin, shape=shape)
                x = emit(where, mask, x, constant(fill, x.dtype, origin), origin=origin)
                self.axes[x] = axes
        return x


def refusal(what: str, symbol: Symbol) -> TraceError:
    """The error of a step that does `what` with the padded axis."""
    return TraceError(
        f"compile: {symbol.origin}: {what}, in a step with pad=; expected sums, means, maxima, products, elementwise "
        "operations and whole reshapes along the padded axis; do this before the step, or leave pad= out"
    )
