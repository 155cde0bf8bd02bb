"""Units of two networks matched, so that the same unit stands at the same place in both: weight matching (floor 6).

Hidden units can change places without a change of what a network answers, so two trainings never agree on them. For each layer in
turn the order is taken that makes its weights, before and after, most alike (Ainsworth, Hayase & Srinivasa 2022, algorithm 1),
until none changes. The first pass, from the input on, looks at what stands before alone: it undoes any change of places exactly.

For stacks of Linear, Conv2d and the like, with batch norms between, and for `StackedLinear`, in which each network is matched on
its own. Shapes: M networks side by side (1 as a rule), O units, C units of the layer before, W weights from each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import nn
from ..errors import OptionError
from ..models.blocks.stacked import StackedLinear
from ..nn import Module
from .objective import Numbers, Objective
from .undisturbed import restored, undisturbed

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, StackedLinear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm)
UNMATCHED = (nn.RNN, nn.LSTM, nn.GRU, nn.MultiheadAttention)
MOST_PASSES = 100
SAME = 1e-3  # of the answers: float32 adds up in another order
Orders = list[np.ndarray]  # of each hidden layer: (M, O)


@dataclass(frozen=True)
class Link:
    """A layer of a stack.

    weight: the name of its weight.      beside: names of what has a number for each unit, its bias and that of norms after it.
    units: O.      networks: M.
    """

    weight: str
    beside: tuple[str, ...]
    units: int
    networks: int


def matched(a: Numbers, b: Numbers, links: Sequence[Link]) -> Orders:
    """For each hidden layer the places (M, O) that units of `b` must be taken from to stand where those of `a` do."""
    orders = [np.tile(np.arange(link.units), (link.networks, 1)) for link in links[:-1]]
    for i in range(len(orders)):
        orders[i] = _best(_alike(a, b, links, orders, i, before_alone=True))
    for _ in range(MOST_PASSES):
        moved = False
        for i in np.random.default_rng(0).permutation(len(orders)).tolist():
            scores = _alike(a, b, links, orders, i)
            new = _best(scores)
            better = _total(scores, new) > _total(scores, orders[i]) * (1 + 1e-9)
            moved |= better and not np.array_equal(new, orders[i])
            orders[i] = new if better else orders[i]
        if not moved:
            break
    return orders


def reordered(b: Numbers, links: Sequence[Link], orders: Orders) -> Numbers:
    """`b` with the units of each hidden layer in the order given; the network answers as before."""
    result = dict(b)
    for i, link in enumerate(links):
        result[link.weight] = _moved(b, links, orders, i).reshape(b[link.weight].shape)
        if i < len(orders):
            for name in link.beside:
                shape = b[name].shape
                rows = b[name].reshape(link.networks, -1)
                result[name] = np.take_along_axis(rows, orders[i], 1).reshape(shape)
    return result


def shuffled(links: Sequence[Link], seed: int = 0) -> Orders:
    """A random order of each hidden layer: the control."""
    random = np.random.default_rng(seed)
    return [np.stack([random.permutation(link.units) for _ in range(link.networks)]) for link in links[:-1]]


def links_of(objective: Objective) -> list[Link]:
    """The stack of layers that a network is. Raises OptionError for another, and says what does not fit."""
    network = objective.network
    names = {id(module): path for path, module in network.named_modules()}
    called: dict[int, Module] = {}

    def seen(module: Module, *_: Any) -> None:
        called.setdefault(id(module), module)

    own = [module for module in network.modules() if any(True for _ in module.parameters(recurse=False))]
    hooks = [module.register_forward_hook(seen) for module in own]
    try:
        with undisturbed(network):
            objective.sums(*(value[:2] for value in objective.parts[0]))
    finally:
        for hook in hooks:
            hook.remove()
    links: list[Link] = []
    for key, module in called.items():
        path = names[key]
        parts = {name: f"{path}.{name}" if path else name for name, _ in module.named_parameters(recurse=False)}
        if isinstance(module, LAYERS) and getattr(module, "groups", 1) == 1:
            shape = module.weight.shape
            networks, units = shape[:2] if isinstance(module, StackedLinear) else (1, shape[0])
            if links and (
                links[-1].networks != networks or module.weight.numel() % (networks * units * links[-1].units)
            ):
                raise _unfit(network, path, module)
            links.append(
                Link(parts["weight"], tuple(parts[name] for name in parts if name != "weight"), units, networks)
            )
        elif links and isinstance(module, NORMS):
            parts |= {name: f"{path}.{name}" for name in ("running_mean", "running_var") if hasattr(module, name)}
            kept = [parts[name] for name in parts if getattr(module, name).numel() > 1]
            links[-1] = replace(links[-1], beside=(*links[-1].beside, *kept))
        elif links or isinstance(module, UNMATCHED):
            raise _unfit(network, path, module)
    if len(links) < 2 or len(called) < len(own):
        raise _unfit(network, *next(((names[id(m)], m) for m in own if id(m) not in called), ("", network)))
    return links


def check_same(objective: Objective, b: Module, aligned: Numbers) -> float:
    """How far answers of `b` move with the weights `aligned`, of their size. Raises OptionError where that is more than rounding."""
    values = {**dict(b.named_parameters()), **dict(b.named_buffers())}
    with restored(b):
        before = objective.answers(b).numpy()
        for name, array in aligned.items():
            values[name].assign(array)
        after = objective.answers(b).numpy()
    missed = float(np.abs(after - before).max() / max(np.abs(before).max(), 1e-12))
    if missed > SAME:
        raise OptionError(
            f"align: {type(b).__name__} answers otherwise ({missed:.1%}) once its units change places; expected a stack in which each layer "
            "reads the one before alone, without skip connections; leave align out"
        )
    return missed


def _unfit(network: Module, path: str, module: Module) -> OptionError:
    return OptionError(
        f"align: {type(network).__name__} has {type(module).__name__} at {path or 'its top'}; expected a stack of Linear or Conv2d layers, with "
        "batch norms between; leave align out"
    )


def _weights(numbers: Numbers, links: Sequence[Link], i: int) -> np.ndarray:
    """The weight of layer i, (M, O, C, W) float64, C the units of the layer before; of the first (M, O, 1, W)."""
    link = links[i]
    before = links[i - 1].units if i else 1
    return numbers[link.weight].reshape(link.networks, link.units, before, -1).astype(np.float64)


def _moved(numbers: Numbers, links: Sequence[Link], orders: Orders, i: int, own: bool = True) -> np.ndarray:
    """`_weights` with the units of the layer before in their order, and with `own` those of layer i too."""
    weights = _weights(numbers, links, i)
    if i:
        weights = np.take_along_axis(weights, orders[i - 1][:, None, :, None], 2)
    if own and i < len(orders):
        weights = np.take_along_axis(weights, orders[i][:, :, None, None], 1)
    return weights


def _alike(
    a: Numbers, b: Numbers, links: Sequence[Link], orders: Orders, i: int, before_alone: bool = False
) -> np.ndarray:
    """(M, O, O): how alike the weights of each unit of `a` in layer i are to those of each unit of `b`, as scalar products."""
    link = links[i]
    rows = lambda weights: weights.reshape(link.networks, link.units, -1)
    scores: np.ndarray = rows(_weights(a, links, i)) @ rows(_moved(b, links, orders, i, own=False)).transpose(0, 2, 1)
    for name in link.beside:
        if not name.endswith(("running_mean", "running_var")):
            one, other = (numbers[name].reshape(link.networks, -1).astype(np.float64) for numbers in (a, b))
            scores = scores + one[:, :, None] * other[:, None, :]
    if not before_alone:
        after = _weights(b, links, i + 1)
        if i + 1 < len(orders):
            after = np.take_along_axis(after, orders[i + 1][:, :, None, None], 1)
        columns = [
            np.moveaxis(weights, 2, 1).reshape(link.networks, link.units, -1)
            for weights in (_weights(a, links, i + 1), after)
        ]
        scores = scores + columns[0] @ columns[1].transpose(0, 2, 1)
    return scores


def _best(scores: np.ndarray) -> np.ndarray:
    """(M, O): for each unit of the first network one of the second, so that the sum of the scores is greatest."""
    from scipy.optimize import linear_sum_assignment

    return np.stack([linear_sum_assignment(one, maximize=True)[1] for one in scores])


def _total(scores: np.ndarray, order: np.ndarray) -> float:
    return float(np.take_along_axis(scores, order[:, :, None], 2).sum())
