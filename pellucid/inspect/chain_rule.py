"""The chain rule read off the tape: where a weight is used, what it does there, and what comes back from the loss (floor 6).

    w  ->  z = the weighted sum of its unit  ->  y = the unit's activation  ->  ...  ->  loss
    dL/dw = sum over the places where w is used of  dL/dy * dy/dz * dz/dw

Everything is asked of the operations on the tape and their gradient rules; nothing here knows a layer. A place is an index of
the output of the operation that reads the weight: a position of a convolution, of a sequence, a step of a recurrence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..autograd import grad, walk
from ..core.op import Node
from ..grad_mode import enable_grad
from ..nn import Module
from ..ops.reduce import sum_to
from ..tensor import Tensor

BILINEAR = ("matmul", "convolution", "convolution_input_gradient", "dot_general", "multiply")
CHOOSING = ("gather", "concatenate")  # they hand numbers on, as views do
MOST_PATHS = 100_000
Index = tuple[int, ...]


@dataclass(frozen=True)
class Place:
    """One use of a weight: `node` reads it, and at `index` of its output the sum moves by `local` = dz/dw, and the loss by
    `contribution` = dL/dz * dz/dw."""

    node: Node
    index: Index
    local: float
    contribution: float


@dataclass(frozen=True)
class UnitAt:
    """A unit at one place: `total` made its weighted sum z, `exit` its activation y, the same Node where there is none.

    index: in both.      local: dz/dw.      slope: dy/dz.      arriving: dL/dy.      blocked: why nothing of it goes on, or "".
    """

    total: Node
    exit: Node
    index: Index
    local: float
    slope: float
    arriving: float
    blocked: str = ""


@dataclass(frozen=True)
class Link:
    """A layer on the way to the loss, `y_next[k] = f(sum of weights[j, k] y[j])`: its Nodes and df/dz of each unit.

    lead: the index before the units' axis, the same along the way.
    """

    total: Node
    exit: Node
    weights: np.ndarray
    slopes: np.ndarray
    lead: Index


@dataclass
class Tape:
    """A forward pass with the gradients that came back. steps: of `autograd.walk`.

    last: the number of the Node of the network's output; those after it belong to the loss.
    layers: paths of the network's layers.      arriving: Node number -> dL/dy.      readers: Node number -> the Nodes that read its
    output.      fixed: numbers of the Nodes that are made of weights alone.
    """

    last: int
    nodes: list[Node]
    layers: list[str]
    arriving: dict[int, np.ndarray]
    readers: dict[int, list[Node]] = field(default_factory=dict)
    fixed: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, network: Module, loss: Tensor, output: Tensor) -> Tape:
        """Walk back from `loss` (), which was made of `output` of `network`."""
        steps = walk(loss)
        nodes = sorted((step.node for step in steps), key=lambda node: node.sequence)
        last = output.node.sequence if output.node is not None else -1
        tape = cls(
            last,
            nodes,
            [path for path, _ in network.named_modules()],
            {step.node.sequence: step.arriving.numpy() for step in steps},
        )
        for node in nodes:
            for parent in _distinct(node.parents):
                if isinstance(parent, Node):
                    tape.readers.setdefault(parent.sequence, []).append(node)
            if all(tape.is_fixed(node, i) for i in range(len(node.parents))) and node.op.name != "take":
                tape.fixed.add(node.sequence)
        return tape

    @property
    def flat(self) -> bool:
        """Whether the gradient that comes back to the network's output is zero everywhere, as where it is right already."""
        return self.last in self.arriving and not self.arriving[self.last].any()

    def is_fixed(self, node: Node, i: int) -> bool:
        """Whether input `i` is made of weights alone: a Parameter, what views and sums make of them, or a plain number."""
        parent = node.parents[i]
        if isinstance(parent, Node):
            return parent.sequence in self.fixed
        return parent is not None or not node.inputs[i].shape

    # ---- where a weight is used ------------------------------------------------------------------------------------------

    def places(self, weight: Tensor, index: Index) -> list[Place]:
        """Every place where `weight[index]` is used, in the order of computation."""
        start = np.zeros(weight.shape)
        start[index] = 1
        moved: dict[int, np.ndarray] = {id(weight): start}  # id of a leaf, or number of a Node -> d(it)/dw
        places: list[Place] = []
        for node in self.nodes:
            live = [i for i, parent in enumerate(node.parents) if _key(parent) in moved]
            if not live:
                continue
            moves = [(i, moved[_key(node.parents[i])]) for i in live]
            local = np.sum([pushed(node, i, move) for i, move in moves], axis=0)
            if node.sequence in self.fixed:
                moved[node.sequence] = local
                continue
            meant = local if local.any() else np.sum([pushed(node, i, move, ones=True) for i, move in moves], axis=0)
            at = np.argwhere(meant)
            g = self.arriving[node.sequence]
            places += [Place(node, tuple(p), float(local[tuple(p)]), float(g[tuple(p)] * local[tuple(p)])) for p in at.tolist()]  # fmt: skip
        return places

    def activation(self, total: Node) -> Node | None:
        """The Node of the activation of the weighted sums `total`: the last of `stretch`, None where that is empty."""
        stretch = self.stretch(total)
        return stretch[-1] if stretch else None

    def stretch(self, total: Node) -> list[Node]:
        """The elementwise operations that make the activation of the weighted sums `total`, of them alone, the last one last.

        Empty where there is none: something else reads the sums too, or more than one result goes on.
        """
        stretch: dict[int, Node] = {}
        waiting = self.readers_within(total)
        if len(waiting) != len(self.readers.get(total.sequence, [])):
            return []
        inside = {total.sequence}
        for node in self.nodes:
            reads = [
                i for i, parent in enumerate(node.parents) if isinstance(parent, Node) and parent.sequence in inside
            ]
            if not reads or node.sequence > self.last or node.op.kind != "elementwise" or node.shape != total.shape:
                continue
            others = [i for i in range(len(node.parents)) if i not in reads]
            if all(node.parents[i] is None or self.is_fixed(node, i) for i in others):
                stretch[node.sequence] = node
                inside.add(node.sequence)
        if any(reader.sequence not in inside for reader in waiting) or not stretch:
            return []
        leaves = lambda n: (
            any(r.sequence not in inside for r in self.readers.get(n.sequence, [])) or n.sequence == self.last
        )
        exits = [n for n in stretch.values() if leaves(n)]
        if len(exits) != 1 or _only_sums(stretch.values()):
            return []
        out = exits[0]
        softmax = out.op.name == "exp" and any(r.op.kind == "reduction" for r in self.readers.get(out.sequence, []))
        return [] if softmax else [n for n in stretch.values() if n.sequence <= out.sequence]

    def slopes(self, total: Node, out: Node) -> np.ndarray:
        """dy/dz of each unit between `total` and its activation `out`, of the shape of both."""
        if out is total:
            return np.ones(total.shape)
        pending: dict[int, Any] = {out.sequence: Tensor(np.ones(out.shape))}
        for node in reversed(self.nodes):
            if node.sequence not in pending or node.sequence <= total.sequence:
                continue
            for parent, g in zip(node.parents, node.op.backward(node, pending.pop(node.sequence)), strict=True):
                if isinstance(parent, Node) and g is not None and parent.sequence >= total.sequence:
                    pending[parent.sequence] = pending[parent.sequence] + g if parent.sequence in pending else g
        return np.asarray(pending[total.sequence].detach().numpy())

    def with_bias(self, node: Node) -> Node:
        """The sum that adds the layer's own bias to `node`, or `node` itself."""
        readers = self.readers.get(node.sequence, [])
        if len(readers) == 1 and readers[0].op.name == "add" and readers[0].origin.path == node.origin.path:
            other = 1 - _position(readers[0], node)
            if (
                readers[0].parents[other] is not None
                and self.is_fixed(readers[0], other)
                and readers[0].shape == node.shape
            ):
                return readers[0]
        return node

    def readers_within(self, node: Node) -> list[Node]:
        """The Nodes of the network, not of the loss, that read `node`."""
        return [reader for reader in self.readers.get(node.sequence, []) if reader.sequence <= self.last]


def unit_at(tape: Tape, place: Place) -> UnitAt:
    """The unit that a place belongs to. Between the sum and its activation numbers may be moved, chosen or added to."""
    node, index, local = tape.with_bias(place.node), place.index, place.local
    here = UnitAt(node, node, index, local, 1.0, float(tape.arriving[node.sequence][index]))
    blocked = ""
    while True:
        found = tape.activation(node)
        if found is not None:
            slope = tape.slopes(node, found)[index]
            return UnitAt(node, found, index, local, float(slope), float(tape.arriving[found.sequence][index]))
        readers = tape.readers_within(node)
        if not readers or any(not _hands_on(reader) for reader in readers):
            break
        one = np.zeros(node.shape)
        one[index] = 1
        moves = [(r, pushed(r, _position(r, node), one)) for r in readers]
        live = [(r, move) for r, move in moves if np.count_nonzero(move)]
        if not live and any(r.op.name == "gather" for r in readers):
            blocked = "the pooling after it takes another place, whose number is larger"
        if len(live) != 1 or np.count_nonzero(live[0][1]) != 1:
            break
        node, move = live[0]
        index = tuple(np.argwhere(move)[0].tolist())
        local *= float(move[index])
    return here if not blocked else UnitAt(**{**vars(here), "blocked": blocked})


def links(tape: Tape, exit_node: Node, index: Index) -> list[Link]:
    """The linear layers after `exit_node`, each with its activation, as long as each alone reads the one before it."""
    found: list[Link] = []
    node, lead = exit_node, index[:-1]
    while True:
        readers = tape.readers.get(node.sequence, [])
        fits = len(readers) == 1 and readers[0].sequence <= tape.last and readers[0].op.name == "matmul"
        fits = fits and readers[0].shape[:-1] == node.shape[:-1] and readers[0].parents[0] is node
        if not fits or not tape.is_fixed(readers[0], 1):
            return found
        weights = readers[0].inputs[1].detach().numpy()
        weights = weights[lead[: weights.ndim - 2]] if weights.ndim > 2 else weights
        if weights.ndim != 2:
            return found
        total = tape.with_bias(readers[0])
        out = tape.activation(total) or total
        found.append(Link(total, out, np.array(weights), tape.slopes(total, out)[lead], lead))
        node = out


def pushed(node: Node, i: int, move: np.ndarray, ones: bool = False) -> np.ndarray:
    """How the output of `node` moves when its input `i` moves by `move`.

    ones: as if the other input of a product held ones; it shows which outputs are meant where they do not move.
    """
    op = node.op
    if op.name in BILINEAR:
        other = [np.ones(v.shape) if ones else v.detach().numpy() for v in node.inputs]
        return np.asarray(op.forward(*[move if k == i else v for k, v in enumerate(other)], **node.attributes))
    if op.linear or op.is_view:
        return np.asarray(op.forward(*[move if k == i else np.zeros(v.shape) for k, v in enumerate(node.inputs)], **node.attributes))  # fmt: skip
    if op.name in ("take", "gather") and i == 0:
        return np.asarray(op.forward(move, node.inputs[1].detach().numpy(), **node.attributes))
    return _by_rule(node, i, move)


def _by_rule(node: Node, i: int, move: np.ndarray) -> np.ndarray:
    """`pushed`, by the gradient rule: it is linear in what arrives, and its transpose moves the other way."""
    rule = node.op.rules(node)[i]
    if rule is None:
        return np.zeros(node.shape)
    y = None if node.array is None else Tensor(node.array)
    inputs = [v.detach() if isinstance(v, Tensor) else v for v in node.inputs]
    with enable_grad():
        u = Tensor(np.zeros(node.shape)).requires_grad_(True)
        g = rule(u, y, *inputs, **node.attributes)
        g = g if g.shape == move.shape else sum_to(g, move.shape)  # the input was broadcast
        if not g.requires_grad:
            return np.zeros(node.shape)
        (found,) = grad((g * Tensor(move)).sum(), u, allow_unused=True)
    return np.zeros(node.shape) if found is None else np.array(found.detach().numpy())


def layer_name(tape: Tape, node: Node) -> str:
    """The path of the layer that called an operation; "the network" for the network itself."""
    name = node.origin.path.split(" (")[0].partition(".")[2]
    if name not in tape.layers:  # it was called by a part of the network, whose own path comes first
        name = next((path for path in tape.layers if path.endswith(f".{name}")), name)
    return name or "the network"


def _key(parent: Any) -> int:
    return parent.sequence if isinstance(parent, Node) else id(parent)


def _distinct(parents: Sequence[Any]) -> list[Any]:
    return list({_key(parent): parent for parent in parents}.values())


def _position(node: Node, parent: Node) -> int:
    return next(i for i, one in enumerate(node.parents) if one is parent)


def _hands_on(node: Node) -> bool:
    """Whether a Node gives its input's numbers on as they are, moved, chosen, or with others added."""
    return node.op.is_view or node.op.name in (*CHOOSING, "add", "subtract")


def _only_sums(nodes: Any) -> bool:
    """Whether a stretch adds numbers and does nothing else, which is no activation."""
    return all(node.op.name in ("add", "subtract") for node in nodes)
