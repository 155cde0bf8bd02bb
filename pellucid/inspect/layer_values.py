"""The numbers of a forward pass layer by layer: which layers ran, their units' sums and activations (floor 6)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.op import Node
from ..nn import Module
from ..tensor import Tensor
from .cache import first_tensor
from .chain_rule import Index, Tape, UnitAt, layer_name, links

MOST_UNITS, MOST_LAYERS = 6, 8


@dataclass(frozen=True)
class UnitTrace:
    """name: its index, without the axes of one example.      z, y: its sum and activation.      arriving, at_sum: dL/dy and dL/dz.

    traced: whether the weight belongs to it, or the largest path goes through it.
    """

    name: str
    z: float
    y: float | None
    arriving: float
    at_sum: float
    traced: bool = False


@dataclass(frozen=True)
class LayerTrace:
    """A layer with weights: its units that matter most, by |sum * dL/dz|, in that order but for the traced one, which is first.

    size: how many units there are.      activation: of its sums, "" where none follows.
    """

    path: str
    kind: str
    size: int
    activation: str
    units: tuple[UnitTrace, ...]


@dataclass
class Watched:
    """What was seen of a forward pass. order: paths of the layers with weights of their own, as they were first called.

    outputs: number of a Node -> the output of the layer that it made.
    ran: (path, kind, Node of the output) of those with matrices, a call each.
    """

    order: list[str] = field(default_factory=list)
    outputs: dict[int, np.ndarray] = field(default_factory=dict)
    ran: list[tuple[str, str, Node]] = field(default_factory=list)

    def activation_name(self, tape: Tape, total: Node) -> str:
        """What the network, or the field, calls the step from the sums `total` to their activation; "" where none follows."""
        stretch = tape.stretch(total)
        if not stretch:
            return ""
        kinds = [
            _kind(node)
            for node in stretch
            if _path(node) != _path(total) and not _path(total).startswith(_path(node) + ".")
        ]
        return " and ".join(dict.fromkeys(kinds)) or _function(stretch)

    def value(self, tape: Tape, node: Node, index: Index) -> float | None:
        """One number of a Node's output; None where it was not kept and cannot be computed again."""
        array = self.array(tape, node)
        return None if array is None else float(array[index])

    def array(self, tape: Tape, node: Node) -> np.ndarray | None:
        """A Node's output: kept by it, by a layer or by a reader, or computed again from what it read."""
        if node.array is not None:
            return node.array
        if node.sequence in self.outputs:
            return self.outputs[node.sequence]
        for reader in tape.readers.get(node.sequence, []):
            for parent, value in zip(reader.parents, reader.inputs, strict=True):
                if parent is node and isinstance(value, Tensor):
                    return value.detach().numpy()
        inputs = [
            value.detach().numpy() if isinstance(value, Tensor)
            else parent.detach().numpy() if isinstance(parent, Tensor)
            else self.array(tape, parent) if isinstance(parent, Node) else None
            for parent, value in zip(node.parents, node.inputs, strict=True)
        ]  # fmt: skip
        if any(value is None for value in inputs):
            return None
        return np.asarray(node.op.forward(*inputs, **node.attributes))


@contextmanager
def watched(network: Module) -> Iterator[Watched]:
    """A block in which the layers of `network` are seen as they run."""
    seen = Watched()

    def collect(path: str) -> Callable[[Module, Any, Any], None]:
        def hook(module: Module, _: Any, output: Any) -> None:
            value = first_tensor(output)
            own = list(module.named_parameters(recurse=False))
            if own and path not in seen.order:
                seen.order.append(path)
            if value is None or value.node is None:
                return
            seen.outputs[value.node.sequence] = value.detach().numpy()
            if any(p.ndim > 1 for _, p in own):
                seen.ran.append((path, type(module).__name__, value.node))

        return hook

    hooks = [module.register_forward_hook(collect(path)) for path, module in network.named_modules()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def layers_after(tape: Tape, seen: Watched, unit: UnitAt | None, paths: Any) -> tuple[LayerTrace, ...]:
    """The traced unit's layer and those with weights after it, at most MOST_LAYERS of them: the first ones and the last."""
    if unit is None:
        ran = [one for one in seen.ran if one[2].sequence in tape.arriving]
        marks: dict[int, Index] = {}
    else:
        ran = [one for one in seen.ran if one[2].sequence > unit.exit.sequence and one[2].sequence in tape.arriving]
        ran = [(layer_name(tape, unit.total), _kind(unit.total), unit.total), *ran]
        marks = {unit.total.sequence: unit.index}
        if paths is not None:
            for link, at in zip(links(tape, unit.exit, unit.index), paths.top[0].units, strict=False):
                marks[link.total.sequence] = (*link.lead, at)
    if len(ran) > MOST_LAYERS:
        ran = [*ran[: MOST_LAYERS - 2], *ran[-2:]]
    layers = [_layer(tape, seen, path, kind, node, marks.get(node.sequence)) for path, kind, node in ran]
    return tuple(layer for layer in layers if layer is not None)


def _layer(tape: Tape, seen: Watched, path: str, kind: str, node: Node, mark: Index | None) -> LayerTrace | None:
    """None where its sums were not kept."""
    out = tape.activation(node) or node
    z, y = seen.array(tape, node), seen.array(tape, out)
    if z is None:
        return None
    arriving, at_sum = tape.arriving[out.sequence], tape.arriving[node.sequence]
    order = np.argsort(-np.abs(z * at_sum).reshape(-1), kind="stable")[:MOST_UNITS].tolist()
    first = [] if mark is None else [int(np.ravel_multi_index(mark, z.shape))]
    chosen = [*first, *(i for i in order if i not in first)][:MOST_UNITS]
    units = []
    for i in chosen:
        index = tuple(int(k) for k in np.unravel_index(i, z.shape))
        units.append(UnitTrace(
            unit_name(index, z.shape), float(z[index]), None if y is None else float(y[index]), float(arriving[index]),
            float(at_sum[index]), i in first,
        ))  # fmt: skip
    return LayerTrace(path, kind, math.prod(z.shape), seen.activation_name(tape, node), tuple(units))


def unit_name(index: Index, shape: tuple[int, ...]) -> str:
    """The index without the axes of size one."""
    kept = [str(i) for i, size in zip(index, shape, strict=True) if size > 1]
    return ",".join(kept) or "0"


def _path(node: Node) -> str:
    return node.origin.path.split(" (")[0]


def _kind(node: Node) -> str:
    """`Linear` of an operation of "Net.layers.0 (Linear 64 to 128)"."""
    words = node.origin.path.partition(" (")[2].rstrip(")").split(" ")
    return words[0] or node.op.name


def _function(stretch: Sequence[Node]) -> str:
    """The field's name of a function that a network writes out in operations."""
    names = [node.op.name for node in stretch]
    if set(names) <= {"add", "subtract", "multiply", "divide", "negative"}:
        return "a scaling"
    if names[-1] == "multiply":
        written = {"sigmoid": "SiLU", "tanh": "GELU", "erf": "GELU"}
        found = [title for name, title in written.items() if name in names]
        if found:
            return found[0]
    return " and ".join(dict.fromkeys({"where": "a choice"}.get(name, name) for name in names))
