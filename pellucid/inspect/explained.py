"""One number of an answer as a function of the entries: its values and its gradients, for many inputs at once (floor 6).

What is explained is the answer to the example, as it differs from the answer to a baseline. Parts of the example may be absent:
then the baseline stands in their place.

Shapes: S inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..autograd import grad
from ..errors import OptionError, format_shape
from ..tensor import Tensor
from .entries import Entries, Entry, along
from .question import score
from .undisturbed import undisturbed

CHUNK = 64  # inputs that are run at once

Absent = Mapping[str, np.ndarray]  # by the name of an input bool (S, *its shape): what is missing of the example


@dataclass(frozen=True)
class Explained:
    """The number `index` of the answers. baseline: of each entry, in its shape."""

    found: Entries
    baseline: Mapping[str, Tensor]
    index: int

    def scores(self, points: Mapping[str, Tensor]) -> np.ndarray:
        """Float64 (S,), of entries that are `points`."""
        with undisturbed(self.found.question.network):
            return score(self.found.forward(points), self.index).detach().numpy().astype(np.float64)

    def ends(self) -> tuple[float, float]:
        """The number for the example, and for the baseline."""
        example = self.scores({name: entry.value for name, entry in self.found.items()})
        return float(example[0]), float(self.scores(self.baseline)[0])

    def mean_gradients(self, shares: np.ndarray) -> dict[str, np.ndarray]:
        """The mean gradient with respect to each entry, float64, over points on the line: 0 is the baseline, 1 the example."""
        sums = {name: np.zeros(entry.value.shape) for name, entry in self.found.items()}
        for start in range(0, len(shares), CHUNK):
            chunk = shares[start : start + CHUNK]
            with undisturbed(self.found.question.network, grad=True):
                points = {
                    name: along(entry, self.baseline[name], chunk).detach().requires_grad_(True)
                    for name, entry in self.found.items()
                }
                number = score(self.found.forward(points), self.index).sum()
                given = list(points.values())
                gradients = grad(number, given, allow_unused=True) if number.requires_grad else [None] * len(given)
            for (name, entry), gradient in zip(self.found.items(), gradients, strict=True):
                if gradient is not None:
                    sums[name] += gradient.numpy().astype(np.float64).sum(entry.batch_axis, keepdims=True)
        return {name: total / len(shares) for name, total in sums.items()}

    def without(self, count: int, absent: Callable[[slice], Absent]) -> np.ndarray:
        """Float64 (count,): the number where parts are absent. absent: what is missing in these rows of the `count`.

        All batches are of one size, the last one with rows of the one before: a sum has other last bits in another batch.
        """
        numbers = np.zeros(count)
        size = -(-count // -(-count // CHUNK))
        for start in range(0, count, size):
            rows = slice(min(start, count - size), min(start, count - size) + size)
            missing = absent(rows)
            numbers[rows] = self.scores({n: self._replaced(n, entry, missing) for n, entry in self.found.items()})
        return numbers

    def _replaced(self, name: str, entry: Entry, absent: Absent) -> Tensor:
        value, base = entry.value.numpy(), self.baseline[name].numpy()
        if entry.of not in absent:  # nobody's: it stays
            return entry.value.expand(
                *value.shape[: entry.batch_axis], len(next(iter(absent.values()))), *value.shape[entry.batch_axis + 1 :]
            )
        rows = absent[entry.of]
        own = value.shape[entry.batch_axis + 1 : value.ndim - entry.looked_up]
        if own != rows.shape[1:]:
            raise OptionError(
                f"{name}: looks up {format_shape(own)} for an input {format_shape(rows.shape[1:])}; expected equal shapes, so that "
                "parts of the input can be left out; write method='integrated_gradients'"
            )
        rows = rows.reshape((1,) * entry.batch_axis + rows.shape + (1,) * entry.looked_up)
        return Tensor(np.where(rows, base, value))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each input that has entries, without its batch axis."""
        inputs = dict(zip(self.found.question.names, self.found.question.inputs, strict=True))
        return {entry.of: inputs[entry.of].shape[1:] for entry in self.found.values()}

    def differs(self) -> dict[str, np.ndarray]:
        """By input, bool in its shape: where the example is not the baseline."""
        moved = {
            name: (entry.value.numpy() != self.baseline[name].numpy()).astype(np.float64)
            for name, entry in self.found.items()
        }
        return {name: amount > 0 for name, amount in self.by_input(moved).items()}

    def by_input(self, per_entry: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Figures of entries added up for each input, in its shape: over channels of an embedding, copies and embeddings."""
        shapes = self.shapes()
        figures = {name: np.zeros(shape) for name, shape in shapes.items()}
        for name, array in per_entry.items():
            entry = self.found[name]
            summed = array.sum(-1) if entry.looked_up else array
            summed = summed.sum(tuple(range(entry.batch_axis)))[0]
            if summed.size != figures[entry.of].size:
                raise OptionError(
                    f"{name}: looks up {format_shape(summed.shape)} for an input {format_shape(shapes[entry.of])}; expected as many rows "
                    "as the input has numbers; look each of them up once"
                )
            figures[entry.of] += summed.reshape(shapes[entry.of])
        return figures
