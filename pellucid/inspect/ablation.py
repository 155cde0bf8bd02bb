"""Ablation: what an answer's loss would be with one part of the network set to zero (floor 6).

A weight of a linear layer changes one number of the layer's output (at each position). So many weights are removed at once:
the layer's output is put in as a batch, a row for each removed weight, and the rest of the network runs once for all of them.
Where a layer cannot be treated so, each weight is written into the network and taken back.

Shapes: K removed parts, P positions, I inputs and O outputs of a layer, M copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn
from ..autograd import TapeStep, walk
from ..core.op import Node
from ..errors import PellucidError, ShapeError
from ..models.blocks.stacked import StackedLinear
from ..nn import Module
from ..tensor import Tensor
from .cache import _with_first, first_tensor
from .question import Question
from .undisturbed import restored, undisturbed

Measure = Callable[[Question, Tensor], Tensor]  # of the answers (B, ...) to a question: what is blamed, (B,)
CHUNK = 2**21  # numbers of a layer's output that are put in at once
MOST = 4096  # parts that are removed at once


@dataclass(frozen=True)
class Call:
    """One call of a layer: its path and module, the first Tensor that it read, and the first that it gave, on the tape."""

    path: str
    module: Module
    read: Tensor | None
    gave: Tensor

    @property
    def work(self) -> float:
        """About how many multiplications the layer's own parameters took part in."""
        total = float(self.gave.numel())
        for value in self.module.parameters(recurse=False):
            if value.ndim > 1 and not isinstance(self.module, nn.Embedding):
                units = value.numel() // value.shape[-1] if value.ndim == 3 else value.shape[0]
                total += value.numel() * max(1, self.gave.numel() // max(1, units))
        return total


@dataclass(frozen=True)
class Observed:
    """One run of a network forward and back: the calls of its layers in order, what is blamed, and every step of the tape."""

    question: Question
    calls: list[Call]
    value: float
    steps: list[TapeStep]
    output: Tensor

    def gradients(self) -> dict[str, tuple[np.ndarray, int]]:
        """For each Parameter that the answer depends on: its gradient, and in how many steps it is read."""
        names = {id(value): name for name, value in self.question.network.named_parameters()}
        found: dict[str, tuple[np.ndarray, int]] = {}
        for step in self.steps:
            for parent, leaving in zip(step.node.parents, step.leaving, strict=True):
                name = names.get(id(parent))
                if name is not None and leaving is not None:
                    before, uses = found.get(name, (0.0, 0))
                    found[name] = (before + leaving.detach().numpy(), uses + 1)
        return found

    def gradient(self, call: Call) -> np.ndarray:
        """Of what a layer gave; zeros where the answer does not depend on it."""
        for step in self.steps:
            if step.node is call.gave.node:
                return step.arriving.detach().numpy()
        return np.zeros(call.gave.shape)

    def work(self, after: Call | None = None) -> float:
        """About how many multiplications the layers take that are called `after` one, by default all."""
        first = 0 if after is None else next(i for i, call in enumerate(self.calls) if call is after) + 1
        return sum(call.work for call in self.calls[first:] if next(call.module.children(), None) is None)


def observe(question: Question, measure: Measure) -> Observed:
    """Run `question`'s network once with hooks on all its layers, and back from what `measure` says."""
    calls: list[Call] = []
    hooks = []
    for path, module in question.network.named_modules():

        def collect(module: Module, given: tuple[Any, ...], output: Any, path: str = path) -> None:
            gave = first_tensor(output)
            if gave is not None and gave.dtype.kind == "f":
                calls.append(Call(path, module, first_tensor(given), gave))

        hooks.append(module.register_forward_hook(collect))
    try:
        with undisturbed(question.network, grad=True):
            output = question.output()
            value = measure(question, output).sum()
            steps = walk(value) if value.requires_grad else []
    finally:
        for hook in hooks:
            hook.remove()
    return Observed(question, calls, float(value.item()), steps, output.detach())


@dataclass(frozen=True)
class Site:
    """Where parts are removed: in what a layer gives.

    changed: from the numbers of K parts to what the layer would give without each, (K, *shape of what it gives).
    axis: which of that shape is the batch.      idle: (parts,), True where the removal changes nothing.
    """

    call: Call
    axis: int
    changed: Callable[[np.ndarray], np.ndarray]
    idle: np.ndarray


def weight_sites(observed: Observed, uses: dict[str, int]) -> dict[str, Site]:
    """The sites of Parameters that are read once, by a layer that is called once and treats them as WEIGHTS says.

    Not those of a layer whose output a hook of the user's own may change, or that the answer does not depend on.
    """
    names = {id(value): name for name, value in observed.question.network.named_parameters()}
    times: dict[int, int] = {}
    for call in observed.calls:
        times[id(call.module)] = times.get(id(call.module), 0) + 1
    reached = {id(step.node) for step in observed.steps}
    sites = {}
    for call in observed.calls:
        if type(call.module) not in WEIGHTS or times[id(call.module)] > 1 or call.read is None:
            continue
        if call.module._hooks or id(call.gave.node) not in reached:
            continue
        for own, value in call.module.named_parameters(recurse=False):
            name = names[id(value)]
            if uses.get(name) == 1 and getattr(call.module, own) is value:
                site = WEIGHTS[type(call.module)](call, own, value.detach().numpy())
                if site is not None:
                    sites[name] = site
    return sites


def _linear(call: Call, own: str, values: np.ndarray) -> Site | None:
    """W (O, I) or b (O,) of x (1, *, I): entry (i, j) adds w x_j to output i at each of P positions."""
    assert call.read is not None
    if call.gave.shape[0] != 1:
        return None
    x = call.read.detach().numpy().reshape(-1, call.read.shape[-1])  # (P, I)
    y = call.gave.detach().numpy()
    flat, width = values.reshape(-1), 1 if own == "bias" else values.shape[1]
    read = np.ones((len(x), 1)) if own == "bias" else x

    def changed(parts: np.ndarray) -> np.ndarray:
        unit, source = np.divmod(parts, width)
        out = np.repeat(y.reshape(1, len(x), -1), len(parts), 0)  # (K, P, O)
        out[np.arange(len(parts)), :, unit] -= flat[parts, None] * read[:, source].T
        return out.reshape(len(parts), *y.shape)

    silent = np.broadcast_to(~read.any(0), (len(values), width)).reshape(-1)
    return Site(call, 0, changed, silent | (flat == 0))


def _stacked(call: Call, own: str, values: np.ndarray) -> Site | None:
    """W (M, O, I) or b (M, O) of x (M, 1, I): entry (m, i, j) adds w x_mj to output i of copy m."""
    assert call.read is not None
    y = call.gave.detach().numpy()  # (M, 1, O)
    if y.ndim != 3 or y.shape[1] != 1:
        return None
    x = np.broadcast_to(call.read.detach().numpy(), (len(y), 1, call.read.shape[-1]))[:, 0]  # (M, I)
    read = np.ones((len(y), 1)) if own == "bias" else x
    flat, shape = values.reshape(-1), (*values.shape[:2], read.shape[1])

    def changed(parts: np.ndarray) -> np.ndarray:
        copy, unit, source = np.unravel_index(parts, shape)
        out = np.repeat(y[None], len(parts), 0)  # (K, M, 1, O)
        out[np.arange(len(parts)), copy, 0, unit] -= flat[parts] * read[copy, source]
        return out

    silent = np.broadcast_to((read == 0)[:, None], shape).reshape(-1)
    return Site(call, 1, changed, silent | (flat == 0))


def _embedding(call: Call, own: str, values: np.ndarray) -> Site | None:
    """A table (V, C) of indices (*): entry (v, c) is number c of what is looked up for v."""
    assert call.read is not None
    indices, y = call.read.detach().numpy(), call.gave.detach().numpy()
    axis = next((i for i, size in enumerate(indices.shape) if size == 1), None)
    if axis is None:
        return None
    flat, rows, width = values.reshape(-1), indices.reshape(-1), values.shape[1]

    def changed(parts: np.ndarray) -> np.ndarray:
        row, channel = np.divmod(parts, width)
        out = np.repeat(y.reshape(1, len(rows), width), len(parts), 0)  # (K, P, C)
        out[np.arange(len(parts)), :, channel] -= flat[parts, None] * (rows == row[:, None])
        return out.reshape(len(parts), *y.shape)

    silent = np.repeat(~np.isin(np.arange(len(values)), rows), width)
    return Site(call, axis, changed, silent | (flat == 0))


WEIGHTS: dict[type[Module], Callable[[Call, str, np.ndarray], Site | None]] = {
    nn.Linear: _linear,
    StackedLinear: _stacked,
    nn.Embedding: _embedding,
}


def unit_site(call: Call, axes: Sequence[int], axis: int) -> Site:
    """Each unit of what a layer gives, set to 0: one for each place along `axes`, at all positions. axis: the batch."""
    y = call.gave.detach().numpy()
    shape = tuple(y.shape[a] for a in axes)

    def changed(parts: np.ndarray) -> np.ndarray:
        out = np.repeat(y[None], len(parts), 0)
        for k, place in enumerate(zip(*np.unravel_index(parts, shape), strict=True)):
            where: list[Any] = [slice(None)] * y.ndim
            for a, i in zip(axes, place, strict=True):
                where[a] = i
            out[(k, *where)] = 0
        return out

    others = tuple(a for a in range(y.ndim) if a not in axes)
    return Site(call, axis, changed, ~y.any(others).reshape(-1))


def head_site(call: Call, heads: int) -> Site | None:
    """Each head, left out of what the projection after it reads: an nn.Linear of x (1, *, H D)."""
    assert call.read is not None
    weight = call.module.get_parameter("weight").detach().numpy()
    x, y = call.read.detach().numpy(), call.gave.detach().numpy()
    size = weight.shape[1] // heads
    axis = next((i for i, length in enumerate(y.shape[:-1]) if length == 1), None)
    if axis is None:
        return None

    def changed(parts: np.ndarray) -> np.ndarray:
        own = [slice(head * size, (head + 1) * size) for head in parts]
        return np.stack([y - x[..., one] @ weight[:, one].T for one in own])

    return Site(call, axis, changed, np.zeros(heads, bool))


def remove(observed: Observed, measure: Measure, site: Site, parts: np.ndarray) -> np.ndarray:
    """What `measure` says without each of `parts` (K,), minus what it says now."""
    effects = np.zeros(len(parts))
    live = np.flatnonzero(~site.idle[parts])
    most = max(1, min(MOST, CHUNK // max(1, site.call.gave.numel())))
    repeated = False
    if most > 1 and len(live) > 1:
        few = parts[live[[0, -1]]]
        alone = np.concatenate([_without(observed, measure, site, few[i : i + 1], False) for i in range(2)])
        fits = [way for way in (False, True) if _same_together(observed, measure, site, few, alone, way)]
        most, repeated = (most, fits[0]) if fits else (1, False)
    for start in range(0, len(live), most):
        rows = live[start : start + most]
        effects[rows] = _without(observed, measure, site, parts[rows], repeated) - observed.value
    return effects


def _same_together(
    observed: Observed, measure: Measure, site: Site, few: np.ndarray, alone: np.ndarray, repeated: bool
) -> bool:
    """Whether rows put in together give what each gave `alone`: the layers keep the rows of a batch apart."""
    try:
        together = _without(observed, measure, site, few, repeated)
    except PellucidError:
        return False
    return bool(np.allclose(together, alone, rtol=1e-5, atol=1e-6))


def _without(observed: Observed, measure: Measure, site: Site, parts: np.ndarray, repeated: bool) -> np.ndarray:
    """What `measure` says without each of `parts`, from one run of the layers after the site.

    repeated: the layers before it get K examples too. Without it they run once, which some networks do not allow.
    """
    question, call = observed.question, site.call
    rows = np.moveaxis(site.changed(parts).squeeze(site.axis + 1), 0, site.axis)
    new = Tensor(np.ascontiguousarray(rows, call.gave.dtype))
    inputs = question.repeated(len(parts)) if repeated else question.inputs
    hook = call.module.register_forward_hook(lambda _, __, output: _with_first(output, new)[0])
    try:
        with undisturbed(question.network):
            said = measure(question, question.forward(*inputs)).numpy()
    finally:
        hook.remove()
    if said.shape != (len(parts),):
        raise ShapeError(
            f"{call.path}: {said.shape} answers; expected {len(parts)}, one for each row; keep the batch axis"
        )
    return said


def write_zero(questions: Sequence[Question], measure: Measure, name: str, parts: np.ndarray) -> np.ndarray:
    """The mean over all examples of what `measure` says with number `k` of Parameter `name` set to 0, for each k of `parts`.

    questions: to one network; each may have several examples.
    """
    network = questions[0].network
    parameter = network.get_parameter(name)
    count = sum(len(question.inputs[0]) for question in questions)
    said = np.empty(len(parts))
    with restored(network):
        numbers = parameter.detach().numpy().copy()
        flat = numbers.reshape(-1)
        for i, k in enumerate(parts.tolist()):
            kept, flat[k] = flat[k].copy(), 0
            parameter.assign(numbers)
            said[i] = sum(float(measure(one, one.output()).sum().item()) for one in questions) / count
            flat[k] = kept
    return said


def replaced(
    questions: Sequence[Question], measure: Measure, module: Module, put: Callable[[Any, Any], Tensor]
) -> float:
    """The mean of what `measure` says where `module` gives `put(what it read, what it gives)`."""
    network = questions[0].network
    hook = module.register_forward_hook(
        lambda _, given, output: _with_first(output, put(first_tensor(given), first_tensor(output)))[0]
    )
    try:
        with undisturbed(network):
            said = [measure(one, one.output()).numpy() for one in questions]
    finally:
        hook.remove()
    return float(np.concatenate(said).mean())


def adds_its_input(call: Call) -> bool:
    """Whether what a layer gives is what it read plus something: a residual block."""
    seen = [call.gave.node]
    wanted = None if call.read is None else call.read.node
    while seen and wanted is not None:
        node = seen.pop()
        if node is wanted:
            return node is not call.gave.node
        if isinstance(node, Node) and node.op.name == "add":
            seen += [parent for parent in node.parents if isinstance(parent, Node)]
    return False


def is_added(observed: Observed, call: Call) -> bool:
    """Whether what a layer gives is added to activations of its shape that do not come from it: a branch of a residual block."""
    for step in observed.steps:
        if step.node.op.name == "add" and any(parent is call.gave.node for parent in step.node.parents):
            others = [parent for parent in step.node.parents if parent is not call.gave.node]
            if any(
                isinstance(parent, Node) and parent.shape == call.gave.shape and not _comes_from(parent, call)
                for parent in others
            ):
                return True
    return False


def _comes_from(node: Node, call: Call) -> bool:
    """Whether `node` depends on what the layer gave."""
    wanted = call.gave.node
    seen, left = set[int](), [node]
    while left and wanted is not None:
        one = left.pop()
        if one is wanted:
            return True
        if one.sequence > wanted.sequence and id(one) not in seen:
            seen.add(id(one))
            left += [parent for parent in one.parents if isinstance(parent, Node)]
    return False


def entry_name(name: str, shape: Sequence[int], index: int) -> str:
    """`layers.0.weight[5,123]` for a flat index."""
    return f"{name}[{','.join(map(str, np.unravel_index(index, tuple(shape))))}]" if math.prod(shape) > 1 else name
