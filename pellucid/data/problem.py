"""The data module that training is given: examples as arrays in three splits, and the preprocessor that made them.

Nothing here reads a file: `load.py` finds the kind of data, and each kind has a folder beside it that reads and encodes.
N examples, L tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..creation import tensor
from ..errors import DataError
from .loader import Dataset, RowDataset, TensorDataset, WindowDataset

SPLITS = ("train", "validation", "test")


@dataclass
class Examples:
    """Encoded rows: every array's first axis is N. `target` is int64 class indices (N,) or float32 (N,).

    An input may also be an object that is indexed like an array and reads its rows only then (`image_set.LazyImages`).
    """

    inputs: dict[str, np.ndarray]
    target: np.ndarray

    def __post_init__(self) -> None:
        lengths = {name: len(array) for name, array in self.inputs.items()} | {"target": len(self.target)}
        if len(set(lengths.values())) > 1:
            raise DataError(f"examples: arrays of different lengths {lengths}; expected one example per entry in each")

    def __len__(self) -> int:
        return len(self.target)

    def dataset(self, network: Any) -> Dataset[Any]:
        """Example i is the i-th row of each array in `network.input_names`, then its target."""
        arrays = [*(self.inputs[name] for name in network.input_names), self.target]
        if all(isinstance(array, np.ndarray) for array in arrays):
            return TensorDataset(*map(tensor, arrays))
        return RowDataset(*arrays)

    def eval_dataset(self, network: Any) -> Dataset[Any]:
        """The data set that `network` is evaluated on: the same."""
        return self.dataset(network)

    def take(self, rows: np.ndarray) -> Examples:
        """The examples at `rows` (int64), in that order, copied."""
        return Examples({name: array[rows] for name, array in self.inputs.items()}, self.target[rows])


@dataclass
class TokenSequence:
    """Running text: `tokens` (L,), of the smallest unsigned dtype that holds the vocabulary."""

    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def dataset(self, network: Any) -> WindowDataset:
        """To train on: a window of `network.context_length` tokens at every position. Raises DataError for a shorter text."""
        if len(self) <= network.context_length:
            raise DataError(f"text: {len(self):,} tokens to learn from; expected more than the {network.context_length:,} of a window; "
                            f"write --set context_length={max(1, len(self) // 10)}, say, or give more text")  # fmt: skip
        return WindowDataset(self.tokens, network.context_length)

    def eval_dataset(self, network: Any) -> WindowDataset:
        """To score: windows of `network.eval_context_length` tokens, or fewer in a shorter text.

        Every token after the first is scored once.
        """
        length = min(network.eval_context_length, len(self) - 1)
        return WindowDataset(self.tokens, length, strided=True, warm=min(network.burn_in, length - 1))


class Preprocessor(ABC):
    """Encode raw input as arrays, with statistics of the training rows, and decode a network's output into units.

    `to_json()` gives all of it as plain JSON; `from_json` reads that back, and `kinds.preprocessor_from_json` for any kind.
    """

    kind: ClassVar[str]  # a key of `kinds.KINDS`
    task: str  # "classification", "regression" or "language"
    classes: list[str] | None  # class names in index order
    target_name: str | None

    @property
    def recipe(self) -> str:
        """What recipes for such data are called, after the family."""
        return self.kind

    @abstractmethod
    def input_spec(self) -> dict[str, Any]:
        """The sizes, cardinalities and bin edges that a network for such input is built from."""

    @abstractmethod
    def encode(self, raw: Any) -> dict[str, np.ndarray]:
        """Raw input as the arrays of `Examples.inputs`."""

    def decode(self, output: np.ndarray) -> np.ndarray:
        """A regression network's output in the target's own units, float64; classification has none to undo."""
        return np.asarray(output, dtype=np.float64)

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All fields, and `kind`, as plain JSON."""

    @classmethod
    @abstractmethod
    def from_json(cls, json: dict[str, Any]) -> Preprocessor:
        """The preprocessor that `to_json` gave. Raises KeyError, TypeError or ValueError for other JSON."""

    def unseen_values(self, raw: Any) -> list[str]:
        """A line about each part of `raw` that training never saw, where there are some. By default none."""
        return []


RawExample = Callable[[int], "dict[str, str] | np.ndarray"]


@dataclass
class DataModule:
    """A data set, split and encoded, with what training needs to know of it. Statistics come from the training rows alone."""

    name: str  # the run is called runs/NAME-MODEL-N
    kind: str  # a key of `kinds.KINDS`
    task: str  # "classification", "regression" or "language"
    preprocessor: Preprocessor
    train: Any  # Examples, or a TokenSequence
    validation: Any
    test: Any
    notes: list[str]  # choices to print, one line each
    fingerprint: str  # SHA-256 over the source files' bytes
    source: dict[str, Any]  # plain JSON: `load.load_problem(**source)` gives this module again
    raw: dict[str, RawExample] = field(default_factory=dict, repr=False)
    names: dict[str, list[str]] = field(default_factory=dict, repr=False)  # of a split's files, where an example is one

    def raw_example(self, split: str, i: int) -> dict[str, str] | np.ndarray:
        """Example `i` of `split` before encoding: column -> text, or an image uint8 (H, W), in colour (H, W, 3)."""
        if split not in self.raw:
            splits = " or ".join(self.raw) or "none, as running text has no examples"
            raise DataError(f"raw_example: no split {split!r}; expected {splits}; ask for such a split")
        return self.raw[split](i)
