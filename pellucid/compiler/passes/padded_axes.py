"""Padded axes: their factors, the buckets of lengths, and padding and unpadding of arrays (floor 4)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

MIN_BUCKET = 8
PADDED = -1  # the factor that is n at the true length and L in the bucket
Axis = tuple[int, ...]
Axes = tuple[Axis, ...]


class Lengths:
    """The true length and the size of the bucket."""

    def __init__(self, true: int, size: int) -> None:
        self.true, self.size = true, size

    def measure(self, axis: Iterable[int], padded: int) -> int:
        return math.prod(padded if factor == PADDED else factor for factor in axis)

    def fits(self, axis: Axis | None, true: int, size: int) -> bool:
        return axis is not None and (self.measure(axis, self.true), self.measure(axis, self.size)) == (true, size)

    def axis(self, true: int, size: int) -> Axis | None:
        """The axis of size `true` at the true length and `size` in the bucket; None where no plain or padded axis has these."""
        if true == size:
            return canonical_axis((true,))
        return (PADDED,) if (true, size) == (self.true, self.size) else None

    def pad(self, array: np.ndarray, axes: Axes) -> np.ndarray:
        """An array of the true length in one of the size of the bucket, with zeros in the padding."""
        inner = [tuple(self.true if f == PADDED else f for f in axis) for axis in axes]
        outer = [tuple(self.size if f == PADDED else f for f in axis) for axis in axes]
        result = np.zeros([f for axis in outer for f in axis], array.dtype)
        result[self._within(axes)] = array.reshape([f for axis in inner for f in axis])
        return result.reshape([math.prod(axis) for axis in outer])

    def unpad(self, array: np.ndarray, axes: Axes) -> np.ndarray:
        """Remove the padding."""
        outer = [self.size if f == PADDED else f for axis in axes for f in axis]
        return array.reshape(outer)[self._within(axes)].reshape([self.measure(axis, self.true) for axis in axes])

    def _within(self, axes: Axes) -> tuple[slice, ...]:
        return tuple(slice(self.true if f == PADDED else None) for axis in axes for f in axis)


def canonical_axis(factors: Iterable[int]) -> Axis:
    """The canonical factors of an axis: without ones, and adjacent plain factors merged."""
    merged: list[int] = []
    for f in factors:
        if f == 1:
            continue
        if merged and f != PADDED and merged[-1] != PADDED:
            merged[-1] *= f
        else:
            merged.append(f)
    return tuple(merged)


def is_padded(axis: Axis) -> bool:
    return PADDED in axis


def bucket_size(length: int) -> int:
    """The size that a length is padded to. Sizes are a quarter of a power of two apart, so at most a quarter is padding."""
    step: int = max(2 ** ((length - 1).bit_length() - 3), 1)
    return max(-(-length // step) * step, MIN_BUCKET)


@dataclass
class Padding:
    """How arguments and outputs of a padded graph are padded. arguments: position to padded axis. outputs: axes of each."""

    lengths: Lengths
    arguments: dict[int, int]
    outputs: list[Axes]

    def within(self, position: int, room: np.ndarray) -> np.ndarray:
        """The part of an argument's memory that a call fills. The rest stays zero."""
        if position not in self.arguments:
            return room
        axis = self.arguments[position]
        return room[(slice(None),) * axis + (slice(self.lengths.true),)]

    def unpad(self, number: int, array: np.ndarray) -> np.ndarray:
        axes = self.outputs[number]
        return self.lengths.unpad(array, axes) if any(map(is_padded, axes)) else array
