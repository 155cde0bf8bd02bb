"""The loss of a network over a batch as a function of its weights: along lines and planes, and its second derivatives (floor 6).

Shapes: B batch, N weights, D directions.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .. import nn
from ..autograd import grad
from ..compiler.compile import compile
from ..creation import cat, zeros
from ..errors import OptionError, TraceError
from ..models.base import Model
from ..models.blocks.stacked import StackedLinear
from ..nn import Module
from ..tensor import Tensor
from .cache import first_tensor
from .question import Losses, default_losses
from .undisturbed import undisturbed

Data = Sequence[
    Any
]  # (inputs, target), inputs a Tensor (B, ...) or a tuple of them; (inputs, target, weight) where rows have one
Numbers = dict[str, np.ndarray]  # by the name of a Parameter or buffer
RECURRENT = 8  # times the cost of a layer that reads all at once
MOST_AT_ONCE = 2048  # examples, of a network that does not say


class Objective:
    """The mean loss over `data`, in eval mode: of a `Model` what validation measures, of another network the mean of `losses`.

    parts: the examples in batches of one size, so that they need one program; up to a batch less one of them is left out.
    examples: how many are in them.      trained: the Parameters that require a gradient, by name.
    """

    def __init__(self, network: Module, data: Data, losses: Losses | None = None) -> None:
        inputs, *rest = data
        given = (*(inputs if isinstance(inputs, tuple | list) else (inputs,)), *rest)
        batch = [value if isinstance(value, Tensor) else Tensor(np.asarray(value)) for value in given]
        if len({len(value) for value in batch}) > 1 or len(batch) < 2 or not len(batch[0]):
            raise OptionError(
                f"data: arrays of {', '.join(str(len(value)) for value in batch)} examples; expected (inputs, target) with as many in each; "
                "check both"
            )
        self.network, self.losses = network, losses
        self.trained = {name: value for name, value in network.named_parameters() if value.requires_grad}
        if not self.trained:
            raise OptionError(
                f"network: {type(network).__name__} has no Parameters that require a gradient; expected some to move; "
                "call requires_grad_() on it"
            )
        most = network.eval_batch_size if isinstance(network, Model) else MOST_AT_ONCE
        count = -(-len(batch[0]) // most)
        size = len(batch[0]) // count
        self.parts = [[value[i * size : (i + 1) * size] for value in batch] for i in range(count)]
        self.examples = count * size
        self.count = len(batch) - len(rest)  # of inputs

    def answers(self, network: Module) -> Tensor:
        """What `network` answers, of the same kind as the objective's own, for the first of the parts."""
        answer: Callable[..., Tensor] = network.answer if isinstance(network, Model) else network
        return answer(*self.parts[0][: self.count])

    def sums(self, *batch: Tensor) -> tuple[Tensor, Tensor]:
        """The sum () of the losses of a batch, and what it is divided by: as a rule the number of examples."""
        if isinstance(self.network, Model) and self.losses is None:
            values = self.network.evaluation_step(*batch)
            loss = values["loss"]
            return loss.sum(), values["count"].sum() if "count" in values else zeros(()) + len(loss)
        *inputs, target = batch
        answer = self.network.answer if isinstance(self.network, Model) else self.network
        loss = (self.losses or default_losses)(answer(*inputs), target)
        return loss.sum(), zeros(()) + len(loss)

    def slope(self) -> Callable[[], np.ndarray]:
        """The gradient of the mean loss with respect to all that is `trained`, (N,) float64, where the weights stand now."""

        def slope(*batch: Tensor) -> tuple[Tensor, Tensor]:
            total, count = self.sums(*batch)
            return _flat(grad(total, list(self.trained.values()), allow_unused=True), self.trained), count

        run = natively(slope)
        return lambda: _mean([run(*part) for part in self.parts])

    def product(self) -> Callable[[np.ndarray], np.ndarray]:
        """From a direction (N,) to the Hessian of the mean loss times it, (N,) float64."""
        weights = list(self.trained.values())

        def product(v: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
            total, count = self.sums(*batch)
            along = zeros(())
            at = 0
            for g, weight in zip(grad(total, weights, create_graph=True, allow_unused=True), weights, strict=True):
                if g is not None:
                    along = along + (g * v[at : at + weight.numel()].reshape(*weight.shape)).sum()
                at += weight.numel()
            if not along.requires_grad:  # a loss that is linear in all of them
                return v * 0, count
            return _flat(grad(along, weights, allow_unused=True), self.trained), count

        run = natively(product)
        dtype = weights[0].dtype
        return lambda v: _mean([run(Tensor(v.astype(dtype)), *part) for part in self.parts])


class Plane:
    """The mean loss at `centre` + a sum of multiples of directions: `plane(1.0, 0.5)` for two of them.

    The network is written: use it inside `restored`. What no direction changes is not written.
    """

    def __init__(self, objective: Objective, centre: Numbers, directions: Sequence[Numbers]) -> None:
        network = objective.network
        values = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        names = [name for name in centre if any(name in one for one in directions)]
        self.objective = objective
        self.centre = {name: Tensor(centre[name]) for name in names}
        self.directions = [
            {name: Tensor(one.get(name, np.zeros_like(centre[name]))) for name in names} for one in directions
        ]

        def at(shares: Tensor, *batch: Tensor) -> tuple[Tensor, Tensor]:
            for name in names:
                moved = self.centre[name]
                for i, one in enumerate(self.directions):
                    moved = moved + one[name] * shares[i]
                values[name].assign(moved.to(values[name].dtype))
            return objective.sums(*batch)

        self._at = natively(at)

    def __call__(self, *shares: float) -> float:
        where = Tensor(np.array(shares, np.float64))
        return float(_mean([self._at(where, *part) for part in self.objective.parts]))

    def move(self, centre: Numbers, directions: Sequence[Numbers]) -> None:
        """Take another centre and other directions of the same shapes, without compiling again."""
        for name, value in self.centre.items():
            value.assign(centre[name])
        for own, other in zip(self.directions, directions, strict=True):
            for name, value in own.items():
                value.assign(other.get(name, np.zeros_like(centre[name])))


def natively(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled; from the first call on that cannot be, it runs eagerly."""
    if importlib.util.find_spec("llvmlite") is None:
        return function
    compiled: list[Any] = [compile(function)]

    def run(*args: Tensor) -> Any:
        if compiled:
            try:
                return compiled[0](*args)
            except TraceError:  # and nothing has been written
                compiled.clear()
        return function(*args)

    return run


def work(network: Module, data: Data) -> tuple[float, float]:
    """About how many multiplications the loss costs, forward: of any examples, and of each."""
    objective = Objective(network, data)
    total = [0.0]

    def count(module: Module, _: Any, output: Any) -> None:
        value = first_tensor(output)
        own = [p for name, p in module.named_parameters(recurse=False) if p.ndim > 1 and name not in module.undecayed]
        if value is not None and own and not isinstance(module, nn.Embedding):
            shape = own[0].shape
            stacked = isinstance(module, StackedLinear)
            units = shape[0] * shape[1] if stacked else shape[0] if len(own) == 1 else value.shape[-1]
            slow = RECURRENT if len(own) > 1 else 1  # one step after another
            total[0] += slow * value.numel() / units * sum(p.numel() for p in own)

    found = []
    hooks = [module.register_forward_hook(count) for module in network.modules()]
    try:
        with undisturbed(network):
            for rows in (1, 2):
                total[0] = 0.0
                objective.sums(*(value[:rows] for value in objective.parts[0]))
                found.append(total[0])
    finally:
        for hook in hooks:
            hook.remove()
    each = found[1] - found[0]
    return found[0] - each, each


def numbers_of(network: Module, buffers: bool = False) -> Numbers:
    """A copy of the Parameters that require a gradient; with `buffers` all Parameters, and the buffers of real numbers."""
    named: dict[str, Tensor] = dict(network.named_parameters())
    if not buffers:
        return {name: value.detach().numpy().copy() for name, value in named.items() if value.requires_grad}
    named |= {name: value for name, value in network.named_buffers() if value.dtype.kind == "f"}
    return {name: value.detach().numpy().copy() for name, value in named.items()}


def flattened(numbers: Mapping[str, np.ndarray]) -> np.ndarray:
    """(N,) float64, in the order of the names."""
    return np.concatenate([array.reshape(-1) for array in numbers.values()]).astype(np.float64)


def shaped(flat: np.ndarray, like: Numbers) -> Numbers:
    """The opposite of `flattened`, in the shapes and dtypes of `like`."""
    ends = np.cumsum([array.size for array in like.values()])
    parts = np.split(flat, ends[:-1])
    return {
        name: part.reshape(array.shape).astype(array.dtype)
        for part, (name, array) in zip(parts, like.items(), strict=True)
    }


def _mean(parts: Sequence[tuple[Tensor, Tensor]]) -> np.ndarray:
    """Of (sum, count) of each part: the sum of the sums over that of the counts, float64."""
    totals = [total.detach().numpy().astype(np.float64) for total, _ in parts]
    return np.sum(totals, axis=0) / sum(float(count.item()) for _, count in parts)  # type: ignore[no-any-return]


def _flat(gradients: Sequence[Tensor | None], like: Mapping[str, Tensor]) -> Tensor:
    """(N,): gradients one after another, 0 where there is none, off the tape."""
    rows = [
        zeros(value.numel(), dtype=value.dtype) if g is None else g.reshape(-1)
        for g, value in zip(gradients, like.values(), strict=True)
    ]
    return cat(rows).detach()
