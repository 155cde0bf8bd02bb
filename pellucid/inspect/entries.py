"""Entries: what comes into a network as real numbers, so that gradients with respect to it exist (floor 6).

Numbers, pixels and series are entries themselves. A token or a category is a whole number, which has no gradient: its entry is
the row that an embedding looks up for it. Positions do not depend on the example, so what is looked up for them is none.

Shapes: B batch, S points of a path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn
from ..creation import cat, zeros_like
from ..errors import OptionError
from ..tensor import Tensor
from .cache import free_name, patched
from .question import Question
from .undisturbed import undisturbed


@dataclass(frozen=True)
class Entry:
    """value: of one example.      batch_axis: where B stands in it.      of: the name of the input that it comes from.

    looked_up: whether it is the output of an embedding, which has the shape of its indices and an axis of channels after them.
    """

    value: Tensor
    of: str
    batch_axis: int = 0
    looked_up: bool = False


@dataclass(frozen=True)
class Entries(Mapping[str, Entry]):
    """The entries of a question by name: that of an input, or the path of an embedding."""

    question: Question
    found: dict[str, Entry]

    def __getitem__(self, name: str) -> Entry:
        return self.found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """The answers (S, ...) to S examples whose entries are `values`, with S where an entry has B."""
        name, value = next(iter(values.items()))
        count = value.shape[self.found[name].batch_axis]
        inputs = [
            values[name] if name in values and not self.found[name].looked_up else repeated
            for name, repeated in zip(self.question.names, self.question.repeated(count), strict=True)
        ]
        patches = {_one_call(name): value for name, value in values.items() if self.found[name].looked_up}
        with patched(self.question.network, patches):
            return self.question.forward(*inputs)

    def baseline(self) -> dict[str, Tensor]:
        """Zeros for each entry: no ink, a mean number, an embedding without a word."""
        return {name: zeros_like(entry.value) for name, entry in self.found.items()}


def entries(question: Question) -> Entries:
    """The entries of `question`. The network is run three times and stays as it was.

    Raises OptionError where there are none: a network that reads whole numbers without an embedding.
    """
    found = {
        name: Entry(value if value.dtype.kind == "f" else value.float(), name)
        for name, value in zip(question.names, question.inputs, strict=True)
        if value.dtype.kind == "f" or value.dtype == np.uint8
    }
    whole = {name: value for name, value in zip(question.names, question.inputs, strict=True) if name not in found}
    if whole:
        found |= _looked_up(question, whole)
    if not found:
        raise OptionError(
            f"entries: {type(question.network).__name__} reads whole numbers without an nn.Embedding; expected numbers, or "
            "embeddings of whole numbers; look them up with nn.Embedding"
        )
    return Entries(question, found)


def _looked_up(question: Question, whole: Mapping[str, Tensor]) -> dict[str, Entry]:
    """The output of each embedding whose indices depend on the inputs `whole`, by path."""
    network = question.network
    tables = {
        path: module
        for path, module in network.named_modules()
        if isinstance(module, nn.Embedding) or getattr(module, "looks_up", False)
    }
    once = _lookups(question, tables, question.inputs)
    twice = _lookups(question, tables, question.repeated(2))
    found: dict[str, Entry] = {}
    for name, value in whole.items():
        changed = tuple(
            (value == 0).to(value.dtype) if n == name else v
            for n, v in zip(question.names, question.inputs, strict=True)
        )
        others = _lookups(question, tables, changed)
        for path, (indices, output) in once.items():
            if path not in found and path in others and not np.array_equal(indices, others[path][0]):
                axis = next(
                    i for i, (a, b) in enumerate(zip(output.shape, twice[path][1].shape, strict=True)) if a != b
                )
                found[path] = Entry(output, name, axis, looked_up=True)
    return found


def _lookups(
    question: Question, tables: Mapping[str, nn.Module], inputs: tuple[Tensor, ...]
) -> dict[str, tuple[np.ndarray, Tensor]]:
    """The indices and the output of each of `tables` in one call with `inputs`."""
    seen: dict[str, tuple[np.ndarray, Tensor]] = {}

    def collect(path: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
            seen[free_name(path, seen)] = (np.array(given[0].numpy()), output.detach())

        return hook

    hooks = [module.register_forward_hook(collect(path)) for path, module in tables.items()]
    try:
        with undisturbed(question.network):
            question.forward(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _one_call(name: str) -> str:
    """The name of a patch for the one call that an entry is of: "path (1)" for the first."""
    return name if name.endswith(")") else f"{name} (1)"


def along(entry: Entry, baseline: Tensor, shares: np.ndarray) -> Tensor:
    """Points on the line from `baseline` to an entry, S of them: share 0 is the baseline, share 1 the entry."""
    points = [baseline + (entry.value - baseline) * float(share) for share in shares]
    return cat(points, entry.batch_axis)
