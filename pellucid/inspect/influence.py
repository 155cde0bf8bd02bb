"""Influence: which training examples moved a network towards an answer, and which away from it (floor 6).

TracInCP (Pruthi, Liu, Kale and Sundararajan 2020, arXiv 2002.08484): over the weights that were kept while the network was
trained, the sum of learning rate times (gradient of the example's loss) . (gradient of the answer). The gradients are those of one
linear layer, by default the last. There the gradient of an example is an outer product, of the error at the layer's output and the
layer's input, so one forward pass for each set of weights gives the gradients of all examples.

Shapes: N training examples, B batch, P places where the layer is applied (time steps), I inputs, O outputs, M stacked copies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..autograd import grad
from ..creation import tensor
from ..errors import OptionError, format_shape
from ..models.blocks.stacked import StackedLinear
from ..nn import Linear, Module
from ..tensor import Tensor
from .cache import first_tensor, unknown_layer
from .undisturbed import restored, undisturbed

MOST_ROWS = 1024  # in one batch


@dataclass(frozen=True)
class TrainingRows:
    """What a network learned from. batch: numbers int64 (B,) -> its Tensors.      losses: of those Tensors, of each row (B,)."""

    count: int
    batch: Callable[[np.ndarray], Sequence[Tensor]]
    losses: Callable[..., Tensor]

    def batches(self, most: int = MOST_ROWS) -> Sequence[np.ndarray]:
        """The numbers of all rows, so many at a time."""
        return [np.arange(i, min(i + most, self.count)) for i in range(0, self.count, most)]


@dataclass(frozen=True)
class WeightSet:
    """The state of a network at a moment of its training, and the learning rate then."""

    weights: Mapping[str, np.ndarray]
    learning_rate: float


def tracin(
    network: Module,
    rows: TrainingRows,
    score: Callable[[], Tensor],
    sets: Sequence[WeightSet],
    layer: str | None = None,
    most: int = MOST_ROWS,
) -> np.ndarray:
    """How far training on each row moved `score()`, a number (1,) that the network gives, up or down: float64 (N,).

    It is the first order of plain gradient descent, up to a factor that all rows share. sets: at least one; the network has its own
    weights again at the end. layer: path of the linear layer whose gradients are meant, by default the last.
    Raises OptionError for a network without one, or a `layer` that is none.
    """
    path = last_linear(network) if layer is None else layer
    module = _linear(network, path)
    total = np.zeros(rows.count)
    with restored(network, grad=True):
        if rows.count:
            _check_first_axis(_factors(module, path, lambda: _each(rows, np.arange(1))), module, path, 1)
        for one in sets:
            network.load_state_dict({name: tensor(array) for name, array in one.weights.items()})
            towards = _Direction(module, _factors(module, path, score))
            for numbers in rows.batches(most):
                found = _factors(module, path, lambda numbers=numbers: _each(rows, numbers))  # type: ignore[misc]
                _check_first_axis(found, module, path, len(numbers))
                total[numbers] -= one.learning_rate * towards.products(found)
    return total


def row_losses(network: Module, rows: TrainingRows, most: int = MOST_ROWS) -> np.ndarray:
    """The loss of each row with the weights that the network has: float64 (N,)."""
    with undisturbed(network):
        parts = [_each(rows, numbers).numpy().astype(np.float64) for numbers in rows.batches(most)]
    return np.concatenate(parts)


def _each(rows: TrainingRows, numbers: np.ndarray) -> Tensor:
    """The loss of each of the rows `numbers`, (B,). Raises OptionError where `rows.losses` gives another shape."""
    losses = rows.losses(*rows.batch(numbers))
    if losses.shape != (len(numbers),):
        raise OptionError(
            f"influence: losses gives {format_shape(losses.shape)} for {len(numbers)} rows; expected the loss of each, "
            f'{format_shape((len(numbers),))}; write reduction="none"'
        )
    return losses


def _check_first_axis(factors: Factors, module: Module, path: str, count: int) -> None:
    """Raises OptionError where a layer does not read `count` rows along its first axis, so that their gradients cannot be told apart."""
    axis = 1 if isinstance(module, StackedLinear) else 0
    for read, error in factors:
        if error.shape[axis] != count:
            raise OptionError(
                f"influence: layer {path!r} reads {format_shape(read.shape)} for {count} rows; expected the rows along axis {axis}, so that the "
                "gradient of each can be told; keep the batch axis there, or pass layer=, the path of another linear layer"
            )


def last_linear(network: Module) -> str:
    """The path of the linear layer that was registered last. Raises OptionError where there is none."""
    paths = [path for path, module in network.named_modules() if isinstance(module, Linear | StackedLinear)]
    if not paths:
        raise OptionError(
            f"influence: {type(network).__name__} has no linear layer; expected one, whose gradients are compared; "
            "end the network with an nn.Linear"
        )
    return paths[-1]


def _linear(network: Module, path: str) -> Module:
    modules = dict(network.named_modules())
    if path not in modules:
        raise unknown_layer("influence", path, modules)
    if not isinstance(modules[path], Linear | StackedLinear):
        raise OptionError(
            f"influence: layer {path!r} is {type(modules[path]).__name__}; expected a linear layer; leave layer= out for the last"
        )
    return modules[path]


Factors = list[tuple[np.ndarray, np.ndarray]]  # of each call of the layer: its input, and the error at its output


def _factors(module: Module, path: str, losses: Callable[[], Tensor]) -> Factors:
    """The inputs of a layer, (B, ..., I) or (M, B, I), and the gradients of the sum of `losses()` with respect to its outputs."""
    calls: list[tuple[Tensor, Tensor]] = []

    def cut(_: Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_()  # what comes before it needs no gradient
        read = first_tensor(inputs)
        assert read is not None
        calls.append((read.detach(), leaf))
        return leaf

    hook = module.register_forward_hook(cut)
    try:
        total = losses().sum()
    finally:
        hook.remove()
    if not calls:
        raise OptionError(
            f"influence: layer {path!r} is never called; expected one that the answer goes through; pass layer=, its path"
        )
    found = grad(total, [leaf for _, leaf in calls], allow_unused=True)
    return [(read.numpy(), error.numpy()) for (read, _), error in zip(calls, found, strict=True) if error is not None]


class _Direction:
    """The gradient of a score with respect to a linear layer's weight (O, I) or (M, O, I) and bias, to be multiplied with those of rows."""

    def __init__(self, module: Module, factors: Factors) -> None:
        self.stacked = isinstance(module, StackedLinear)
        pairs = [self._flat(read, error) for read, error in factors]
        self.weight = sum(np.einsum("gpo,gpi->goi", error, read) for read, error in pairs)
        self.bias = sum(error.sum(1) for _, error in pairs) if getattr(module, "bias", None) is not None else None
        if not self.stacked:
            self.weight = np.sum(self.weight, 0)
            self.bias = None if self.bias is None else np.sum(self.bias, 0)

    @staticmethod
    def _flat(read: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """With the first axis, that of rows or of copies, and the last kept: (B, P, I) and (B, P, O), or (M, B, ...)."""
        of = lambda array: array.reshape(len(array), -1, array.shape[-1]).astype(np.float64)
        return of(read), of(error)

    def products(self, factors: Factors) -> np.ndarray:
        """The product with the gradient of each row: (B,)."""
        total: Any = 0.0
        for read, error in factors:
            reads, errors = self._flat(read, error)
            each = ((errors @ self.weight) * reads).sum(2)  # (B, P) or (M, B)
            if self.bias is not None:
                each = each + (errors * self.bias[:, None]).sum(2) if self.stacked else each + errors @ self.bias
            total = total + each.sum(0 if self.stacked else 1)
        return np.asarray(total, np.float64)
