"""The reverse walk: from a loss back to every leaf, one Node at a time (floor 1).

The chain rule is all there is to it: a Node that received dL/dy asks its operation for dL/dx of every input and hands
those to its parents. What each operation answers stands in `ops/`; this file only keeps the order and the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import GradientError, format_shape
from .op import Node, aside
from .origin import origin
from .value import Value, current_tracer, grad_mode


def reachable(roots: Sequence[Node], since: int = 0) -> list[Node]:
    """Every Node from number `since` on that `roots` depend on, newest first, which is an order the walk can follow."""
    found: dict[int, Node] = {}
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node.sequence not in found:
            found[node.sequence] = node
            waiting.extend(p for p in node.parents if isinstance(p, Node) and p.sequence >= since)
    return [found[sequence] for sequence in sorted(found, reverse=True)]


def backward_pass(
    outputs: Sequence[Any],
    grads: Sequence[Any],
    *,
    keep: bool = False,
    create_graph: bool = False,
    wanted: Sequence[Any] | None = None,
    since: int = 0,
) -> dict[int, tuple[Any, Any]]:
    """Send `grads` (dL/doutput) back from `outputs`; give `{id: (value, dL/dvalue)}` for the leaves reached.

    keep: keep the tape for another walk; otherwise each Node is emptied as soon as it has been used.
    create_graph: record the walk itself, so that its results can be differentiated again.
    wanted: give dL/dvalue of these values alone, leaves or not; nothing is computed, and no hook called, off the way there.
    since: end at Nodes older than this number, as if at leaves, and leave the leaves' hooks to a later walk.
    Raises GradientError where the tape is gone or an input has been overwritten since it was read.
    """
    arrived: dict[int, Any] = {}  # Node.sequence -> dL/d(its output), the sum of what has come so far
    leaves: dict[int, tuple[Any, Any]] = {}
    watched = {value.node.sequence: value for value in wanted or () if value.node is not None}
    found: dict[int, tuple[Any, Any]] = {}
    order = reachable([v.node for v in outputs if v.node is not None and v.node.sequence >= since], since)
    way = None if wanted is None else _way_to(wanted, order)

    def deliver(parent: Node | Value | None, g: Any) -> None:
        if way is not None and id(parent) not in way:
            return
        if isinstance(parent, Node) and parent.sequence >= since:
            known = arrived.get(parent.sequence)
            arrived[parent.sequence] = g if known is None else known + g
        elif parent is not None:
            known = leaves.get(id(parent))
            leaves[id(parent)] = (parent, g if known is None else known[1] + g)

    mode = grad_mode.set(create_graph)
    try:
        for value, g in zip(outputs, grads, strict=True):
            deliver(value.node or value, g)
        for node in order:
            g = arrived.pop(node.sequence, None)
            if g is None:
                continue
            place = origin.set(node.origin) if create_graph or current_tracer() is not None else None
            try:
                g = _hooked(node.hooks, g)
                if node.sequence in watched:
                    found[id(watched[node.sequence])] = (watched[node.sequence], g)
                for parent, parent_g in zip(node.parents, _step(node, g, way), strict=True):
                    if parent_g is not None:
                        deliver(parent, parent_g)
            finally:
                if place is not None:
                    origin.reset(place)
            if not keep:
                _release(node)
        if not since:
            leaves = {key: (leaf, _hooked(leaf.hooks, g)) for key, (leaf, g) in leaves.items()}
    finally:
        grad_mode.reset(mode)
    return leaves | found


def _way_to(wanted: Sequence[Any], order: Sequence[Node]) -> set[int]:
    """The ids of `wanted` and of the Nodes that depend on them. One that is released may have: `_step` will say so."""
    way = {id(value.node or value) for value in wanted}
    for node in reversed(order):
        if node.inputs is None or any(id(parent) in way for parent in node.parents):
            way.add(id(node))
    return way


def _step(node: Node, g: Any, way: set[int] | None) -> list[Any]:
    """One Node's share of the chain rule, after making sure that what it read is still there."""
    if node.inputs is None:
        raise GradientError(
            f"{node.op.name} ({node.origin}): its part of the tape was released by an earlier backward(); to walk it "
            "twice, pass retain_graph=True the first time"
        )
    active = current_tracer()
    if active is not None:
        active.refuse_older(node)
    for value, version in zip(node.inputs, node.versions, strict=False):
        if value.version != version:
            raise GradientError(
                f"{node.op.name} ({node.origin}): the Tensor {format_shape(value.shape)} it read was overwritten at "
                f"{value.written_at} before backward(); its gradient needs the old numbers, so call backward() first, "
                "or write to a clone()"
            )
    if way is None:
        return node.op.backward(node, g)
    parents = node.parents
    node.parents = tuple([parent if id(parent) in way else None for parent in parents])  # what rules compute for
    try:
        further = any(parent is not None for parent in node.parents)
        return node.op.backward(node, g) if further else [None] * len(parents)
    finally:
        node.parents = parents


def _release(node: Node) -> None:
    """Empty a Node that has been used, so that a step's memory goes as the walk proceeds."""
    node.inputs = None  # type: ignore[assignment]
    node.array = None
    node.parents = ()
    node.hooks = None


def _hooked(hooks: Sequence[Any] | None, g: Any) -> Any:
    """What the hooks make of g. Each gets a Tensor of its own, which it may write into: g may be on other ways too."""
    for hook in hooks or ():
        g = aside(g)
        changed = hook(g)
        g = g if changed is None else changed
    return g
