"""Data sets, subsets, and the loader that shuffles, batches and resumes (floor 4).

The order of an epoch is a function of (seed, epoch) alone, the same on every machine, so a run can be taken up again in
the middle of an epoch, and a compiled loop can be given the whole order at once (`DataLoader.indices`).
Reading examples from files is left to the other files of `data/`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from .. import random
from ..core.op import new_value
from ..creation import tensor, where
from ..errors import DataError, OptionError, ShapeError, StateError, format_shape
from ..grad_mode import no_grad
from ..ops.index import take
from ..tensor import Tensor

IGNORE_INDEX = -100  # a target that is not scored, as PyTorch's ignore_index
Example = TypeVar("Example", covariant=True)


class Dataset(Generic[Example]):
    """Numbered examples: define `__getitem__(i)` and `__len__()`.

    A data set may also have `gather(indices)`, int64 (B,) -> a list of Tensors (B, ...), one for each part of an example;
    the loader then takes whole batches from it. Where all of it is in memory, `gather_op` does the same with operations on
    Tensors, so that a compiled step takes its batch itself, from where the data are.
    """

    def __getitem__(self, index: int) -> Example:
        raise NotImplementedError(f"{type(self).__name__} does not define __getitem__(index)")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not define __len__()")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Example i is `(a[i], b[i], ...)` for the Tensors (N, ...) given. Raises ShapeError where their N differ."""

    def __init__(self, *tensors: Tensor) -> None:
        if not tensors:
            raise OptionError("TensorDataset: no Tensors; expected at least one; write TensorDataset(inputs, targets)")
        for i, t in enumerate(tensors):
            if not isinstance(t, Tensor):
                raise OptionError(f"TensorDataset: argument {i} is a {type(t).__name__}; expected a Tensor; "
                                  "write TensorDataset(tensor(x), tensor(y))")  # fmt: skip
            if t.ndim == 0 or t.shape[0] != tensors[0].shape[0]:
                raise ShapeError(f"TensorDataset: argument {i} has shape {format_shape(t.shape)}, argument 0 {format_shape(tensors[0].shape)}; "
                                 "expected the same first axis, one entry an example; check that both hold all rows")  # fmt: skip
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def gather(self, indices: np.ndarray) -> list[Tensor]:
        # Straight from the arrays: a batch is data and has no place on the tape.
        return [new_value(np.take(t.array, indices, axis=0)) for t in self.tensors]

    def gather_op(self, indices: Tensor) -> list[Tensor]:
        """`gather` made of operations: int64 (B,) -> Tensors (B, ...)."""
        return [take(t, indices) for t in self.tensors]


class WindowDataset(Dataset[tuple[Tensor, Tensor]]):
    """Windows of running text: example i is (tokens, targets), both int64 (T,), each target the token after its own.

    The text lies there once, however much the windows overlap; `gather_op` reads them from it by operations, so that a
    compiled step takes its own batch.

    tokens: whole numbers (L,).      length: T, which needs L > T.
    strided: False for training, a window at every position, N = L - T. True for scoring every token after the first exactly
    once: windows end to end, each beginning with `warm` tokens that the one before has scored, whose targets are IGNORE_INDEX;
    the last one begins earlier, to end with the text.
    Raises OptionError for a `length` or `warm` out of range.
    """

    def __init__(self, tokens: np.ndarray, length: int, *, strided: bool = False, warm: int = 0) -> None:
        last = len(tokens) - 1 - length  # where the last window begins
        if length < 1 or last < 0:
            raise OptionError(f"WindowDataset: length {length} of {len(tokens):,} tokens; expected 1 up to {len(tokens) - 1}, as each "
                              "token needs the one after it; make the windows shorter, or the text longer")  # fmt: skip
        if not 0 <= warm < length:
            raise OptionError(
                f"WindowDataset: warm {warm} of length {length}; expected 0 up to {length - 1}; make it less"
            )
        # Texts of up to 256 different tokens stay bytes; Tensors have no 16-bit numbers.
        self.stream = tensor(np.asarray(tokens, tokens.dtype if tokens.dtype == np.uint8 else np.int32))  # (L,)
        self.steps = tensor(np.arange(length, dtype=np.int64))  # (T,)
        self.windows: tuple[Tensor, Tensor] | None = None  # (N,) each: where they begin, targets not scored
        self._count = last + 1
        if strided:
            stride = length - warm
            ideal = stride * np.arange(1 - -last // stride, dtype=np.int64)
            begins = np.minimum(ideal, last)
            skipped = np.where(ideal > 0, warm + ideal - begins, 0)
            self.windows, self._count = (tensor(begins), tensor(skipped)), len(begins)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        tokens, target = self.gather(np.array([index % len(self)]))
        return tokens[0], target[0]

    def __len__(self) -> int:
        return self._count

    def gather_op(self, picked: Tensor) -> list[Tensor]:
        """The windows `picked`, int64 (B,) -> [tokens (B, T), targets (B, T)], both int64."""
        begins = picked if self.windows is None else take(self.windows[0], picked)
        places = begins.unsqueeze(1) + self.steps  # (B, T)
        tokens, target = take(self.stream, places).long(), take(self.stream, places + 1).long()
        if self.windows is not None:
            target = where(self.steps < take(self.windows[1], picked).unsqueeze(1), IGNORE_INDEX, target)
        return [tokens, target]

    def gather(self, indices: np.ndarray) -> list[Tensor]:
        with no_grad():
            return self.gather_op(new_value(np.asarray(indices, np.int64)))


class RowDataset(Dataset[tuple[Tensor, ...]]):
    """Example i is row i of each of the arrays (N, ...) given, which need not be in memory: anything indexed like an array."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays = arrays

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        return tuple(Tensor(np.asarray(a[index])) for a in self.arrays)

    def __len__(self) -> int:
        return len(self.arrays[0])

    def gather(self, indices: np.ndarray) -> list[Tensor]:
        return [new_value(np.asarray(a[indices])) for a in self.arrays]


class GatheredDataset(Protocol):
    """A data set that gives whole batches."""

    def __len__(self) -> int: ...

    def gather(self, indices: np.ndarray) -> list[Tensor]: ...


class Subset(Dataset[Example]):
    """The examples `indices` of another data set, in that order."""

    def __init__(self, dataset: Dataset[Example], indices: Sequence[int] | np.ndarray) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: int) -> Example:
        return self.dataset[int(self.indices[index])]

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def gather(self) -> Callable[[np.ndarray], list[Tensor]] | None:
        """Whole batches, where the other data set gives them."""
        gather = getattr(self.dataset, "gather", None)
        return None if gather is None else lambda indices: gather(np.asarray(self.indices, np.int64)[indices])


def random_split(
    dataset: Dataset[Example], lengths: Sequence[float], generator: random.Generator | None = None
) -> list[Subset[Example]]:
    """Disjoint random subsets of `dataset`: `lengths` are counts that add up to its length, or fractions that add up to 1.

    With fractions, what rounding down leaves over goes to the first subsets, one example each. Raises OptionError.
    """
    n = len(dataset)
    counts = [int(x) for x in lengths]
    if all(0 <= x <= 1 for x in lengths) and math.isclose(sum(lengths), 1):
        counts = [math.floor(n * x) for x in lengths]
        for i in range(n - sum(counts)):
            counts[i % len(counts)] += 1
    if sum(counts) != n or any(x < 0 for x in counts):
        raise OptionError(f"random_split: lengths is {list(lengths)}; expected counts that add up to the {n} examples, or fractions "
                          "that add up to 1; write for example [0.8, 0.2]")  # fmt: skip
    order = random.randperm(n, generator=generator).array
    ends = np.cumsum([0, *counts])
    return [Subset(dataset, order[a:b]) for a, b in pairwise(ends)]


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The shuffled order of `n` examples in `epoch`, int64 (n,): a function of its arguments, the same bits everywhere."""
    generator = random.Generator(seed)
    # The generator's state is (seed, calls so far); starting at `epoch` calls makes every epoch's order one call away.
    generator.state.assign(np.array([generator.initial_seed(), epoch]))
    return random.randperm(n, generator=generator).array


@dataclass(frozen=True)
class EpochLength:
    """passes: how often an epoch goes through all examples. steps: its batches, 0 for all of those."""

    steps: int
    passes: int


class DataLoader:
    """Batches of a data set, an epoch for each `for batch in loader`.

    A batch is what `collate_fn` makes of a list of examples; by default a list of Tensors (B, ...), one for each part of an
    example. The last batch is smaller where `batch_size` does not divide the number of examples, unless `drop_last`.

    shuffle: a new order each epoch, by (seed, epoch).
    passes: how often an epoch goes through all examples, each time in another order where they are shuffled.
    steps: batches of an epoch, the first of its order; 0 for as many as go through all examples so often.
    seed: of the order; drawn from `generator`, or from the default generator (`manual_seed`), where it is not given.
    num_workers: 0, since batches are made in this process; `pin_memory` concerns GPUs and changes nothing here.
    Raises OptionError for an option out of range.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        generator: random.Generator | None = None,
        seed: int | None = None,
        steps: int = 0,
        passes: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise OptionError(f"DataLoader: dataset is a {type(dataset).__name__}; expected one with a length and numbered examples; "
                              "write for example DataLoader(TensorDataset(x, y))")  # fmt: skip
        whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
        if not whole or batch_size < 1:
            raise OptionError(f"DataLoader: batch_size is {batch_size!r}; expected a whole number of at least 1; "
                              "write for example batch_size=64")  # fmt: skip
        if not isinstance(steps, int | np.integer) or isinstance(steps, bool) or steps < 0:
            raise OptionError(f"DataLoader: steps is {steps!r}; expected a whole number of batches, or 0 for as many as there are; "
                              "leave it out")  # fmt: skip
        if not isinstance(passes, int | np.integer) or isinstance(passes, bool) or passes < 1:
            raise OptionError(f"DataLoader: passes is {passes!r}; expected a whole number of at least 1; leave it out")
        if num_workers != 0:
            raise OptionError(f"DataLoader: num_workers is {num_workers!r}; expected 0, since batches are made in this process; "
                              "leave it out")  # fmt: skip
        for name, flag in (("shuffle", shuffle), ("drop_last", drop_last)):
            if not isinstance(flag, int | np.bool_):
                raise OptionError(f"DataLoader: {name} is {flag!r}; expected True or False; write {name}=True")
        if collate_fn is not None and not callable(collate_fn):
            raise OptionError(
                f"DataLoader: collate_fn is {collate_fn!r}; expected a function of a list of examples; leave it out"
            )
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = bool(shuffle)
        self.drop_last = bool(drop_last)
        self.length = EpochLength(int(steps), int(passes))
        self.collate_fn = collate_fn
        self.generator = generator
        if seed is None:
            seed = int(random.randint(2**31, (1,), generator=generator).item()) if self.shuffle else 0
        self.seed = random.Generator(seed).initial_seed()
        self._next = (0, 0)  # where the next `for` begins: epoch, batch
        self._given = (0, 0)  # what the last one has given out: epoch, batches of it

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        n = len(self.dataset) * self.length.passes
        most = n // self.batch_size if self.drop_last else -(-n // self.batch_size)
        return min(self.length.steps, most) if self.length.steps else most

    @property
    def examples(self) -> int:
        """The number of examples in an epoch."""
        return min(len(self.dataset) * self.length.passes, len(self) * self.batch_size)

    def indices(self, epoch: int = 0) -> np.ndarray:
        """The order of the examples in `epoch`, int64 (N * passes,); batch k is its k-th run of `batch_size`."""
        n, first = len(self.dataset), epoch * self.length.passes
        if not self.shuffle:
            return np.tile(np.arange(n, dtype=np.int64), self.length.passes)
        return np.concatenate([epoch_order(n, self.seed, first + k) for k in range(self.length.passes)])

    def __iter__(self) -> Iterator[Any]:
        """The batches of the next epoch; after `load_state_dict`, what is left of the saved one."""
        return map(self.batch, self.index_batches())

    def index_batches(self) -> Iterator[np.ndarray]:
        """What `for` goes through, as the numbers of the examples, int64 (B,), in place of the batches."""
        epoch, first = self._given = self._next
        self._next = (epoch + 1, 0)  # a loop left early is over, as in PyTorch
        return self._index_batches(epoch, first)

    def _index_batches(self, epoch: int, first: int) -> Iterator[np.ndarray]:
        order, size = self.indices(epoch), self.batch_size
        for k in range(first, len(self)):
            self._given = (epoch, k + 1) if k + 1 < len(self) else (epoch + 1, 0)
            yield order[k * size : (k + 1) * size]

    def batch(self, indices: np.ndarray) -> Any:
        """The batch of the examples `indices`."""
        gather = getattr(self.dataset, "gather", None)
        if self.collate_fn is None and gather is not None:
            return gather(indices)
        examples = [self.dataset[int(i)] for i in indices]
        return default_collate(examples) if self.collate_fn is None else self.collate_fn(examples)

    @property
    def gather_op(self) -> Callable[[Tensor], list[Tensor]] | None:
        """The data set's way to take a batch with operations (see `Dataset`); None where it has none."""
        return getattr(self.dataset, "gather_op", None) if self.collate_fn is None else None

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands, in plain numbers: the next batch is `batch` of `epoch`. What must agree is noted too."""
        epoch, batch = self._given
        return {"seed": self.seed, "epoch": epoch, "batch": batch, **self._layout()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Let the next `for` go on where `state_dict` was taken. Raises StateError where the batches would be others."""
        layout = self._layout()
        if not isinstance(state_dict, Mapping) or state_dict.keys() != {"seed", "epoch", "batch"} | layout.keys():
            raise StateError(
                "DataLoader.load_state_dict: expected a dict as DataLoader.state_dict() gives it; pass that one"
            )
        for name, here in layout.items():
            if state_dict[name] != here:
                raise StateError(f"DataLoader.load_state_dict: {name} was {state_dict[name]} when it was saved, here it is {here}; "
                                 "expected the same batches; build the loader as then")  # fmt: skip
        self.seed = int(state_dict["seed"])
        self._next = self._given = (int(state_dict["epoch"]), int(state_dict["batch"]))

    def _layout(self) -> dict[str, Any]:
        return {
            "examples": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
            "steps": self.length.steps,
            **({"passes": self.length.passes} if self.length.passes > 1 else {}),
        }


def default_collate(examples: list[Any]) -> Any:
    """A list of B examples as one batch: Tensors, arrays and numbers become a Tensor (B, ...); tuples, lists and dicts are
    collated part by part; text stays a list.

    Python floats become float64, as in PyTorch. Raises ShapeError where shapes differ and DataError for other types.
    """
    first = examples[0]
    if isinstance(first, Tensor | np.ndarray | np.generic):
        shapes = {np.shape(x) for x in examples}
        if len(shapes) > 1:
            listed = " and ".join(format_shape(shape) for shape in sorted(shapes)[:2])
            raise ShapeError(f"DataLoader: examples of shapes {listed} in one batch; expected one shape; "
                             "pad or resize them in the data set, or pass a collate_fn")  # fmt: skip
        arrays = [x.array if isinstance(x, Tensor) else x for x in examples]
        return tensor(np.stack(arrays))
    if isinstance(first, bool | int | float):
        return tensor(np.array(examples))
    if isinstance(first, str | bytes):
        return list(examples)
    if isinstance(first, Mapping):
        return {key: default_collate([x[key] for x in examples]) for key in first}
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*(default_collate(list(part)) for part in zip(*examples, strict=True)))
    if isinstance(first, tuple | list):
        if len({len(x) for x in examples}) > 1:
            raise ShapeError("DataLoader: examples with different numbers of parts in one batch; expected the same parts in each; "
                             "make __getitem__ give one form, or pass a collate_fn")  # fmt: skip
        return [default_collate(list(part)) for part in zip(*examples, strict=True)]
    raise DataError(f"DataLoader: an example holds a {type(first).__name__}; expected Tensors, arrays, numbers, text, or tuples, "
                    "lists and dicts of those; convert it in __getitem__, or pass a collate_fn")  # fmt: skip
