"""Views: reshapes, permutations and slices as affine index arithmetic instead of copies (floor 4).

A View maps the indices of a reader to the indices of a stored Symbol: each index of the source is `start` plus multiples of
the reader's indices. A reshape that is not affine needs memory in row-major order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...core.value import Symbol
from ...ops.contraction import unfold
from ...ops.movement import Slices, permute, reshape, slice_
from ...ops.reduce import expand


def is_view(symbol: Symbol) -> bool:
    """Whether it holds its input's numbers at other indices."""
    return symbol.op is not None and symbol.op.is_view


class AffineIndex(NamedTuple):
    """start + sum of step * (the reader's index on axis), over `terms` = ((axis, step), ...)."""

    start: int
    terms: tuple[tuple[int, int], ...]

    def times(self, factor: int) -> AffineIndex:
        return AffineIndex(self.start * factor, tuple((axis, step * factor) for axis, step in self.terms))

    def plus(self, other: AffineIndex) -> AffineIndex:
        return AffineIndex(self.start + other.start, self.terms + other.terms)


ZERO = AffineIndex(0, ())


class View(NamedTuple):
    """source: a Symbol that is stored, or computed in the same kernel. indices: one AffineIndex per axis of the source."""

    source: Symbol
    indices: tuple[AffineIndex, ...]

    def address(self, strides: Sequence[int], rank: int) -> tuple[int, tuple[int, ...]]:
        """Offset and strides, in elements, along the reader's `rank` axes, for a source that lies with `strides`."""
        offset, along = 0, [0] * rank
        for index, stride in zip(self.indices, strides, strict=True):
            offset += index.start * stride
            for axis, step in index.terms:
                along[axis] += step * stride
        return offset, tuple(along)


def view_of(symbol: Symbol, stored: frozenset[Symbol] | set[Symbol] = frozenset()) -> View:
    """`symbol` as a view of the Symbol below its movements: one that is computed, an input, or in `stored`."""
    indices: tuple[AffineIndex, ...] = tuple(
        AffineIndex(0, ((axis, 1),)) if size != 1 else ZERO for axis, size in enumerate(symbol.shape)
    )
    while is_view(symbol) and symbol not in stored:
        below = _step(symbol, indices)
        if below is None:
            break
        symbol, indices = symbol.inputs[0], below
    return View(symbol, indices)


def beneath(source: Symbol) -> Iterator[Symbol]:
    """`source`, and the Symbols whose memory it may be, where it is a reshape without a copy."""
    yield source
    while source.op is reshape:
        source = view_of(source.inputs[0]).source
        yield source


def _step(symbol: Symbol, indices: tuple[AffineIndex, ...]) -> tuple[AffineIndex, ...] | None:
    """The indices into the input of a movement; None for a reshape that is not affine."""
    x, attributes = symbol.inputs[0], symbol.attributes
    op = symbol.op
    if op is permute:
        below = [ZERO] * x.ndim
        for axis, index in zip(attributes["axes"], indices, strict=True):
            below[axis] = index
        return tuple(below)
    if op is expand:
        new = symbol.ndim - x.ndim
        return tuple(ZERO if size == 1 else indices[new + axis] for axis, size in enumerate(x.shape))
    if op is slice_:
        moved = zip(attributes["slices"], indices, strict=True)
        return tuple(index.times(step).plus(AffineIndex(start, ())) for (start, _, step), index in moved)
    if op is unfold:
        (stride, dilation), (b, c, p, q, k, l) = (attributes["stride"], attributes["dilation"]), indices
        rows = p.times(stride[0]).plus(k.times(dilation[0]))
        return (b, c, rows, q.times(stride[1]).plus(l.times(dilation[1])))
    return _reshaped(x.shape, symbol.shape, indices)


def _reshaped(
    old: tuple[int, ...], new: tuple[int, ...], indices: tuple[AffineIndex, ...]
) -> tuple[AffineIndex, ...] | None:
    """Indices into `old` for indices into `new`: possible where every old axis is one new axis, or split into several."""
    groups = split_axes(old, new)
    if groups is None:
        return None
    below: list[AffineIndex] = []
    for group in groups:
        index = ZERO
        for axis in group:
            index = index.times(new[axis]).plus(indices[axis])
        below.append(index)
    return tuple(below)


def split_axes(old: Sequence[int], new: Sequence[int]) -> list[list[int]] | None:
    """For each axis of the shape `old` the axes of `new` that it is split into; None where they do not align."""
    groups: list[list[int]] = []
    at = 0
    for size in old:
        group: list[int] = []
        have = 1
        while have < size and at < len(new):
            group.append(at)
            have *= new[at]
            at += 1
        if have != size:
            return None
        groups.append(group)
    return groups


def cut_axes(slices: Slices, shape: Sequence[int]) -> list[int]:
    """The axes that slices of a value of this shape do not take whole."""
    return [axis for axis, (piece, size) in enumerate(zip(slices, shape, strict=True)) if piece != (0, size, 1)]


def whole_slices(shape: Sequence[int]) -> Slices:
    """The slices that take a value of this shape whole."""
    return tuple((0, size, 1) for size in shape)


def long_axes(shape: Sequence[int]) -> list[int]:
    """The axes of a shape that are not of size 1."""
    return [axis for axis, size in enumerate(shape) if size != 1]


def squeezed_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without its axes of size 1."""
    return tuple(size for size in shape if size != 1)


def is_identity(view: View, reader: Symbol) -> bool:
    """Whether the reader reads the source at its own index (axes of size 1 aside)."""
    if squeezed_shape(view.source.shape) != squeezed_shape(reader.shape):
        return False
    indices = [view.indices[axis] for axis in long_axes(view.source.shape)]
    return all(
        index == AffineIndex(0, ((axis, 1),)) for axis, index in zip(long_axes(reader.shape), indices, strict=True)
    )


def broadcast(view: View, reader_shape: Sequence[int], shape: Sequence[int]) -> View:
    """The view of an operand of `reader_shape` as a result of `shape` reads it, broadcast as in NumPy."""
    new = len(shape) - len(reader_shape)
    moved = []
    for index in view.indices:
        terms = tuple((axis + new, step) for axis, step in index.terms)
        moved.append(AffineIndex(index.start, terms))
    return View(view.source, tuple(moved))


def is_scalar(symbol: Symbol) -> bool:
    """Whether it is one number that no kernel computes: a constant, or an input of kind "scalar"."""
    return "scalar" in symbol.attributes or (symbol.constant is not None and symbol.size == 1)


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))
