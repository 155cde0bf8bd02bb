"""Axes of which only the true length counts: their factors, buckets of lengths, and arrays that go in and out (floor 4)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

MIN_BUCKET = 8
PADDED = -1  # the factor that is n of the true length and L of the bucket
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
        """The axis that has this size at the true length and that one in the bucket; None where that is another."""
        if true == size:
            return canonical_axis((true,))
        return (PADDED,) if (true, size) == (self.true, self.size) else None

    def spread(self, array: np.ndarray, axes: Axes) -> np.ndarray:
        """What is there at the true length as it lies in the bucket, zeros behind it."""
        inner = [tuple(self.true if f == PADDED else f for f in axis) for axis in axes]
        outer = [tuple(self.size if f == PADDED else f for f in axis) for axis in axes]
        result = np.zeros([f for axis in outer for f in axis], array.dtype)
        result[self._within(axes)] = array.reshape([f for axis in inner for f in axis])
        return result.reshape([math.prod(axis) for axis in outer])

    def cut(self, array: np.ndarray, axes: Axes) -> np.ndarray:
        """Without the padding: the way back."""
        outer = [self.size if f == PADDED else f for axis in axes for f in axis]
        return array.reshape(outer)[self._within(axes)].reshape([self.measure(axis, self.true) for axis in axes])

    def _within(self, axes: Axes) -> tuple[slice, ...]:
        return tuple(slice(self.true if f == PADDED else None) for axis in axes for f in axis)


def canonical_axis(factors: Iterable[int]) -> Axis:
    """The factors in their one form: without ones, plain neighbours as one."""
    found: list[int] = []
    for f in factors:
        if f == 1:
            continue
        if found and f != PADDED and found[-1] != PADDED:
            found[-1] *= f
        else:
            found.append(f)
    return tuple(found)


def is_padded(axis: Axis) -> bool:
    return PADDED in axis


def bucket_size(length: int) -> int:
    """The size that a length is padded to: a quarter of a power of two apart, so at most a quarter is padding."""
    step = max(2 ** ((length - 1).bit_length() - 3), 1)
    return max(-(-length // step) * step, MIN_BUCKET)


@dataclass
class Padding:
    """What a Program does for a padded recording. arguments: the padded ones by position, and the axis. outputs: for each
    its axes."""

    lengths: Lengths
    arguments: dict[int, int]
    outputs: list[Axes]

    def within(self, position: int, room: np.ndarray) -> np.ndarray:
        """The part of an argument's memory that a call fills; the rest stays zeros."""
        if position not in self.arguments:
            return room
        axis = self.arguments[position]
        return room[(slice(None),) * axis + (slice(self.lengths.true),)]

    def cut(self, number: int, array: np.ndarray) -> np.ndarray:
        axes = self.outputs[number]
        return self.lengths.cut(array, axes) if any(map(is_padded, axes)) else array
