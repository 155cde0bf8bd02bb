"""Input specs: the sizes that a network is built from, one class for each form of input (floor 4).

A preprocessor gives one (`input_spec()`), a family of models builds a network for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class ImageSpec:
    """Images of one size, the array "image".

    size: (C, H, W) of bytes, to be standardised by the training pixels' mean and std, (C,) each; without these, or (H, W),
    of numbers that are scaled already.      white: the number that stands for white.
    """

    title: ClassVar[str] = "images"

    size: tuple[int, ...]
    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    white: float = 255.0


@dataclass(frozen=True)
class TableSpec:
    """Rows of a table, the arrays "numbers", "categories", and "text" with "text_weights".

    numbers: F, how many columns of numbers.      number_bins: the edges of bins of each.
    straight: which Q of those columns are scaled by quantiles; the array "straight" has them scaled in a line.
    categories: the cardinality of each column of categories.
    texts: the buckets of each column of text, the padding not counted; "text" has those of each row, 0 for padding.
    """

    title: ClassVar[str] = "a table"

    numbers: int
    number_bins: Sequence[Sequence[float]] = ()
    categories: Sequence[int] = ()
    texts: Sequence[int] = ()
    straight: Sequence[int] = ()


@dataclass(frozen=True)
class SeriesSpec:
    """Windows of a series, the array "series": T steps of F features."""

    title: ClassVar[str] = "a series"

    steps: int
    features: int


@dataclass(frozen=True)
class TextSpec:
    """Text, the array "tokens". vocab_size: V.      length: tokens of the longest line; 0 for running text."""

    title: ClassVar[str] = "text"

    vocab_size: int
    length: int = 0


InputSpec = ImageSpec | TableSpec | SeriesSpec | TextSpec
