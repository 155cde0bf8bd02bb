"""What the readers hand to training: examples as arrays, the preprocessor that made them, and the problem as a whole.

Nothing here reads a file. `sources.py` finds out what was asked for; `table.py`, `idx.py`, `pictures.py`, `text.py` and
`series.py` read it; `encode.py`, `images.py`, `gallery.py`, `tokens.py` and `series.py` hold the preprocessors.
N examples, F numbers, C categories, H x W pixels.
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

    An input may also be what is indexed like an array and reads its rows only then (`gallery.PictureFiles`).
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
        """Example i is the i-th row of each array in `network.order`, then its target."""
        arrays = [*(self.inputs[name] for name in network.order), self.target]
        if all(isinstance(array, np.ndarray) for array in arrays):
            return TensorDataset(*map(tensor, arrays))
        return RowDataset(*arrays)

    def eval_dataset(self, network: Any) -> Dataset[Any]:
        """What `network` is judged on: the same."""
        return self.dataset(network)

    def take(self, rows: np.ndarray) -> Examples:
        """The examples at `rows` (int64), in that order, copied."""
        return Examples({name: array[rows] for name, array in self.inputs.items()}, self.target[rows])


@dataclass
class TokenSequence:
    """A stretch of running text: `tokens` (L,), of the smallest unsigned dtype that holds the vocabulary."""

    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def dataset(self, network: Any) -> WindowDataset:
        """To learn from: a window of `network.context` tokens at every place. Raises DataError for a shorter text."""
        if len(self) <= network.context:
            raise DataError(f"text: {len(self):,} tokens to learn from; expected more than the {network.context:,} of a window; "
                            f"write --set context={max(1, len(self) // 10)}, say, or give more text")  # fmt: skip
        return WindowDataset(self.tokens, network.context)

    def eval_dataset(self, network: Any) -> WindowDataset:
        """To score: windows of `network.judged_context` tokens (less in a shorter text), each token after the first once."""
        length = min(network.judged_context, len(self) - 1)
        return WindowDataset(self.tokens, length, strided=True, warm=min(network.warm, length - 1))


class Preprocessor(ABC):
    """Turns raw input into arrays with what was learned from the training rows, and a network's output into units.

    Everything it knows goes into `to_json()` (plain JSON); `encode.preprocessor_from_json` reads it back.
    """

    kind: ClassVar[str]  # "images", "pictures", "table", "text" or "series"
    task: str  # "classification", "regression" or "language"
    classes: list[str] | None  # class names in index order
    target_name: str | None

    @abstractmethod
    def input_spec(self) -> dict[str, Any]:
        """What a network must take in: sizes, cardinalities, bin edges."""

    @abstractmethod
    def encode(self, raw: Any) -> dict[str, np.ndarray]:
        """Raw input as the arrays of `Examples.inputs`."""

    def decode(self, output: np.ndarray) -> np.ndarray:
        """A regression network's output in the target's own units, float64; classification has none to undo."""
        return np.asarray(output, dtype=np.float64)

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """All it knows, as plain JSON."""


Describe = Callable[[int], "dict[str, str] | np.ndarray"]


@dataclass
class DataModule:
    """Everything training needs, split and encoded; statistics come from the training rows alone."""

    name: str  # the run is called runs/NAME-MODEL-N
    kind: str  # "images", "pictures", "table", "text" or "series"
    task: str  # "classification", "regression" or "language"
    preprocessor: Preprocessor
    train: Any  # Examples, or a Passage of text
    validation: Any
    test: Any
    notes: list[str]  # choices to print, one line each
    fingerprint: str  # SHA-256 over the source files' bytes
    source: dict[str, Any]  # plain JSON: `sources.load_problem(**source)` gives this problem again
    describers: dict[str, Describe] = field(default_factory=dict, repr=False)
    names: dict[str, list[str]] = field(default_factory=dict, repr=False)  # of a part's files, where an example is one

    def raw_example(self, part: str, i: int) -> dict[str, str] | np.ndarray:
        """Example `i` of `part` ("train", "validation" or "test") as it was: column -> text, or uint8 (H, W), in colour (H, W, 3)."""
        if part not in self.describers:
            known = " or ".join(self.describers) or "none, as running text has no examples"
            raise DataError(f"describe: no part {part!r}; expected {known}; ask for such a part")
        return self.describers[part](i)
