"""The data module that training is given: examples as arrays in three splits, and the preprocessor that made them (floor 4).

Nothing here reads a file: `load.py` finds the kind of data, and each kind has a folder beside it that reads and encodes.
N examples, L tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from ..creation import tensor
from ..errors import DataError
from ..files import Json
from .input_spec import InputSpec
from .loader import RowDataset, TensorDataset, WindowDataset

SPLITS = ("train", "validation", "test")


Raw = TypeVar("Raw")
Network = Any  # a `Model`, of a room above
Parts = Sequence[tuple[str, int, int]]  # of an input: its name, an axis, and a place on that axis
Inputs = dict[str, Any]  # arrays by name; some are only indexed like one, and read their rows then


@dataclass
class Examples:
    """Encoded rows: every array's first axis is N. `target` is int64 class indices (N,), float32 (N,), or (N, L) of labels.

    weight: how much each row counts, float32 (N,); None where all count the same.
    fold: the fold of each row, int64 (N,), where a network is bagged: it is judged by the network that did not learn it.
    unit: int64 (N,), equal for rows that belong together, as those of a patient; None where each row is its own.
    row: int64 (N,), where each stands in the file of the data, from 1, a header not counted; None where it is no row of one.
    An input may also be an object that is indexed like an array and reads its rows only then (`image_set.LazyImages`).
    """

    inputs: dict[str, np.ndarray]
    target: np.ndarray
    weight: np.ndarray | None = None
    fold: np.ndarray | None = None
    unit: np.ndarray | None = None
    row: np.ndarray | None = None

    def __post_init__(self) -> None:
        lengths = {name: len(array) for name, array in self.inputs.items()} | {"target": len(self.target)}
        for name, array in (("weight", self.weight), ("fold", self.fold)):
            if array is not None:
                lengths[name] = len(array)
        if len(set(lengths.values())) > 1:
            raise DataError(f"examples: arrays of different lengths {lengths}; expected one example per entry in each")

    def __len__(self) -> int:
        return len(self.target)

    def dataset(self, network: Network) -> TensorDataset | RowDataset:
        """Example i is the i-th row of each array in `network.input_names`, its fold if it has one, its target, its weight."""
        arrays = [*self.arrays(network), self.target]
        if self.weight is not None:
            arrays.append(self.weight)
        if all(isinstance(array, np.ndarray) for array in arrays):
            return TensorDataset(*map(tensor, arrays))
        return RowDataset(*arrays)

    def arrays(self, network: Network) -> list[np.ndarray]:
        """What `network` is called with: the arrays of its `input_names`, and the fold of each row where there is one."""
        return [*(self.inputs[name] for name in network.input_names), *([] if self.fold is None else [self.fold])]

    def eval_dataset(self, network: Network) -> TensorDataset | RowDataset:
        """The data set that `network` is evaluated on: the same."""
        return self.dataset(network)

    def take(self, rows: np.ndarray) -> Examples:
        """The examples at `rows` (int64), in that order, copied."""
        others = [None if of is None else of[rows] for of in (self.weight, self.fold, self.unit, self.row)]
        return Examples({name: array[rows] for name, array in self.inputs.items()}, self.target[rows], *others)


@dataclass
class TokenSequence:
    """Running text: `tokens` (L,), of the smallest unsigned dtype that holds the vocabulary."""

    tokens: np.ndarray

    def __len__(self) -> int:
        return len(self.tokens)

    def dataset(self, network: Network) -> WindowDataset:
        """To train on: a window of `network.context_length` tokens at every position. Raises DataError for a shorter text."""
        if len(self) <= network.context_length:
            raise DataError(f"text: {len(self):,} tokens to learn from; expected more than the {network.context_length:,} of a window; "
                            f"write --set context_length={max(1, len(self) // 10)}, say, or give more text")  # fmt: skip
        return WindowDataset(self.tokens, network.context_length)

    def eval_dataset(self, network: Network) -> WindowDataset:
        """To score: windows of `network.eval_context_length` tokens, or fewer in a shorter text.

        Every token after the first is scored once.
        """
        length = min(network.eval_context_length, len(self) - 1)
        return WindowDataset(self.tokens, length, strided=True, warm=min(network.burn_in, length - 1))


def plain_fields(json: Json) -> dict[str, Any]:
    """What `to_json` gave without its `kind`, to be passed to a class whose fields are checked afterwards."""
    if not isinstance(json, dict):
        raise TypeError("a preprocessor is a JSON object")
    return {name: value for name, value in json.items() if name != "kind"}


class Preprocessor(ABC, Generic[Raw]):
    """Encode raw input as arrays, with statistics of the training rows, and decode a network's output into units.

    `to_json()` gives all of it as plain JSON; `from_json` reads that back, and `kinds.preprocessor_from_json` for any kind.
    """

    kind: ClassVar[str]  # a key of `kinds.KINDS`
    task: str  # "classification", "multilabel", "regression", "counts" or "language"
    classes: list[str] | None  # class names, or labels, in index order
    target_name: str | None

    @property
    def interval(self) -> float | None:
        """The share of rows that a predicted interval holds; None where one number is predicted."""
        return None

    @property
    def outputs(self) -> int:
        """How many outputs a network has: one a class or label, one number, or the ends of an interval and its median."""
        return len(self.classes) if self.classes is not None else 1 if self.interval is None else 3

    @property
    def recipe(self) -> str:
        """What recipes for such data are called, after the family."""
        return self.kind

    @abstractmethod
    def input_spec(self) -> InputSpec:
        """The sizes, cardinalities and bin edges that a network for such input is built from."""

    @abstractmethod
    def encode(self, raw: Raw) -> Inputs:
        """Raw input as the arrays of `Examples.inputs`."""

    def column_parts(self) -> dict[str, Parts]:
        """Of each column of the data that is learned from, by name: all places in the arrays of `encode` that come from it.

        Empty where data have no columns, as pictures.
        """
        return {}

    def decode(self, output: np.ndarray) -> np.ndarray:
        """A regression network's output in the target's own units, float64; classification has none to undo."""
        return np.asarray(output, dtype=np.float64)

    def decode_for(self, output: np.ndarray, inputs: Sequence[Any]) -> np.ndarray:
        """`decode` for outputs (N,) of these inputs, arrays (N, ...), where a kind has units of their own for examples."""
        return self.decode(output)

    @abstractmethod
    def to_json(self) -> dict[str, Json]:
        """All fields, and `kind`, as plain JSON."""

    def encoding(self) -> dict[str, Json]:
        """The fields that say how examples are encoded: two preprocessors that agree in them make the same arrays."""
        return self.to_json()

    @classmethod
    @abstractmethod
    def from_json(cls, json: dict[str, Json]) -> Preprocessor:
        """The preprocessor that `to_json` gave. Raises KeyError, TypeError or ValueError for other JSON."""

    def unseen_values(self, raw: Raw) -> list[str]:
        """A line about each part of `raw` that training never saw, where there are some. By default none."""
        return []


Split = Examples | TokenSequence
RawExample = Callable[[int], "dict[str, str] | np.ndarray"]


@dataclass
class DataModule:
    """A data set, split and encoded, with what training needs to know of it. Statistics come from the training rows alone."""

    name: str  # the run is called runs/NAME-MODEL-N
    kind: str  # a key of `kinds.KINDS`
    task: str  # that of the preprocessor
    preprocessor: Preprocessor
    train: Split
    validation: Split
    test: Split
    notes: list[str]  # choices to print, one line each
    fingerprint: str  # SHA-256 over the source files' bytes
    source: dict[str, Json]  # plain JSON: `load.load_problem(**source)` gives this module again
    raw: dict[str, RawExample] = field(default_factory=dict, repr=False)
    names: dict[str, list[str]] = field(default_factory=dict, repr=False)  # of a split's files, where an example is one
    large: bool = False  # whether raw examples are read from the file, which takes too long for all of them
    folds: Callable[[], Iterator[DataModule]] | None = field(
        default=None, repr=False
    )  # of a table too small for one split
    # Of a table: for so many folds, how many there can be, and the module whose rows to learn from have each its fold.
    bagged: Callable[[int], tuple[int, DataModule]] | None = field(default=None, repr=False)

    def examples(self, split: str) -> Examples:
        """The encoded examples of `split`, a word of SPLITS. Raises DataError for running text, which has none."""
        part = {"train": self.train, "validation": self.validation, "test": self.test}[split]
        if not isinstance(part, Examples):
            raise DataError(
                f"{self.name}: its {split} part is running text; expected examples; learn a text line by line for those"
            )
        return part

    def raw_example(self, split: str, i: int) -> dict[str, str] | np.ndarray:
        """Example `i` of `split` before encoding: column -> text, or an image uint8 (H, W), in colour (H, W, 3)."""
        if split not in self.raw:
            splits = " or ".join(self.raw) or "none, as running text has no examples"
            raise DataError(f"raw_example: no split {split!r}; expected {splits}; ask for such a split")
        return self.raw[split](i)
