"""Backward pass: reverse-mode differentiation from a loss to every leaf, one Node at a time (floor 1).

A Node that has received dL/dy asks its operation for dL/dx of every input and passes those to its parents. The gradient
rules stand in `ops/`; this file keeps the order and the sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import GradientError, format_shape
from .op import Hook, Node, aside
from .origin import origin
from .value import Value, current_tracer, grad_mode

# Called at each Node with what arrived there, dL/dy, and what leaves it: dL/dx of each input, None where none is needed.
Visit = Callable[[Node, Value, Sequence[Value | None]], None]


def reachable(roots: Sequence[Node], since: int = 0) -> list[Node]:
    """Every Node from number `since` on that `roots` depend on, newest first, so that each stands before what it depends on."""
    nodes: dict[int, Node] = {}
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node.sequence not in nodes:
            nodes[node.sequence] = node
            waiting.extend(p for p in node.parents if isinstance(p, Node) and p.sequence >= since)
    return [nodes[sequence] for sequence in sorted(nodes, reverse=True)]


def backward_pass(
    outputs: Sequence[Value],
    grads: Sequence[Value],
    *,
    keep: bool = False,
    create_graph: bool = False,
    inputs: Sequence[Value] | None = None,
    since: int = 0,
    visit: Visit | None = None,
) -> dict[int, tuple[Any, Value]]:
    """Send `grads` (dL/doutput) back from `outputs`; give `{id: (value, dL/dvalue)}` for the leaves reached.

    keep: keep the tape for another pass, else each Node is emptied once used. create_graph: record the pass itself, for a next one.
    inputs: give dL/dvalue of these values alone, leaves or not; nothing is computed, and no hook called, elsewhere.
    since: end at Nodes older than this number, as if at leaves, and leave the leaves' hooks to a later pass. visit: see Visit.
    Raises GradientError where the tape is gone or an input has been overwritten since it was read.
    """
    pending: dict[int, Value] = {}  # Node.sequence -> dL/d(its output), the sum of what has come so far
    leaves: dict[int, tuple[Any, Value]] = {}
    inner_inputs = {value.node.sequence: value for value in inputs or () if value.node is not None}
    inner_gradients: dict[int, tuple[Any, Value]] = {}
    order = reachable([v.node for v in outputs if v.node is not None and v.node.sequence >= since], since)
    on_path = None if inputs is None else _nodes_leading_to(inputs, order)

    def deliver(parent: Node | Value | None, g: Value) -> None:
        if on_path is not None and id(parent) not in on_path:
            return
        if isinstance(parent, Node) and parent.sequence >= since:
            total = pending.get(parent.sequence)
            pending[parent.sequence] = g if total is None else total + g
        elif parent is not None:
            leaf = leaves.get(id(parent))
            leaves[id(parent)] = (parent, g if leaf is None else leaf[1] + g)

    mode = grad_mode.set(create_graph)
    try:
        for value, g in zip(outputs, grads, strict=True):
            deliver(value.node or value, g)
        for node in order:
            if node.sequence not in pending:
                continue
            g = pending.pop(node.sequence)
            inherited = origin.set(node.origin) if create_graph or current_tracer() is not None else None
            try:
                g = _run_hooks(node.hooks, g)
                if (wanted := inner_inputs.get(node.sequence)) is not None:
                    inner_gradients[id(wanted)] = (wanted, g)
                for parent, parent_g in zip(node.parents, _input_gradients(node, g, on_path, visit), strict=True):
                    if parent_g is not None:
                        deliver(parent, parent_g)
            finally:
                if inherited is not None:
                    origin.reset(inherited)
            if not keep:
                _release(node)
        if not since:
            leaves = {key: (leaf, _run_hooks(leaf.hooks, g)) for key, (leaf, g) in leaves.items()}
    finally:
        grad_mode.reset(mode)
    return leaves | inner_gradients


def _nodes_leading_to(inputs: Sequence[Value], order: Sequence[Node]) -> set[int]:
    """The ids of `inputs` and of the Nodes that depend on them.

    A released Node counts as one that does: `_input_gradients` will refuse it.
    """
    on_path = {id(value.node or value) for value in inputs}
    for node in reversed(order):
        if node.inputs is None or any(id(parent) in on_path for parent in node.parents):
            on_path.add(id(node))
    return on_path


def _input_gradients(node: Node, g: Value, on_path: set[int] | None, visit: Visit | None) -> Sequence[Value | None]:
    """dL/dinput for each input of `node`, None where none is needed. Checks first that what it read is still there."""
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
    leaving = _needed_gradients(node, g, on_path)
    if visit is not None:
        visit(node, g, leaving)
    return leaving


def _needed_gradients(node: Node, g: Value, on_path: set[int] | None) -> Sequence[Value | None]:
    """The gradients of the inputs of `node` that lie on the path, by its operation's rule."""
    if on_path is None:
        return node.op.backward(node, g)
    parents = node.parents
    node.parents = tuple([parent if id(parent) in on_path else None for parent in parents])  # rules run for these alone
    try:
        needed = any(parent is not None for parent in node.parents)
        return node.op.backward(node, g) if needed else [None] * len(parents)
    finally:
        node.parents = parents


def _release(node: Node) -> None:
    """Empty a Node that has been used, so that a step's memory is freed as the pass proceeds."""
    node.inputs = None  # type: ignore[assignment]
    node.array = None
    node.parents = ()
    node.hooks = None


def _run_hooks(hooks: Sequence[Hook] | None, g: Value) -> Value:
    """g after the hooks. Each gets a separate Tensor, which it may write into, since g may be the gradient of others too."""
    for hook in hooks or ():
        g = aside(g)
        changed = hook(g)
        g = g if changed is None else changed
    return g
