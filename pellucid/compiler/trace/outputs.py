"""Outputs of a compiled call: unflatten arrays into the traced structure, and leave gradients in `.grad` (floor 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...core.op import Node, new_value
from ...core.sharing import viewed
from ...errors import TraceError, format_shape
from ...tensor import ConsumedGradient, Tensor
from ..ir.graph import Input
from .tape_node import refusing_node
from .traced_step import GIVEN_GRADIENT, SHARED_GRADIENT, OutputRef, TracedStep, ViewRef

CONSUMED = ConsumedGradient()


class GradientBindings:
    """Binds traced gradients to Tensors: to one that the step finds by itself, or to the argument of the present call."""

    def __init__(self, traced: TracedStep) -> None:
        entries = traced.graph.inputs
        self.positions = {id(entry.owner): entry.position for entry in entries if entry.kind == "argument"}
        self.changes = traced.gradient_changes
        self.read = [entry.owner for entry in entries if entry.kind == "gradient"]
        self.states = [entry.owner for entry in entries if entry.kind == "state"]

    def refuse_shared_gradients(self, tensors: Sequence[Tensor]) -> None:
        """Raise TraceError where a `.grad` that the step uses is an argument too, or shares memory with an argument, with
        another gradient, or with a Tensor that the step reads."""
        given = set(map(id, tensors))
        used = {id(x if x.cell is None else x.cell) for x in (*tensors, *self.states)}
        for owner in self.read:
            grad = self.resolve(owner, tensors)._grad
            if not isinstance(grad, Tensor):
                continue
            if id(grad) in given:
                raise TraceError(GIVEN_GRADIENT.format(format_shape(owner.shape)))
            memory = id(grad if grad.cell is None else grad.cell)
            if memory in used:
                raise TraceError(SHARED_GRADIENT.format(format_shape(owner.shape)))
            used.add(memory)

    def store_grad(self, entry: Input, array: np.ndarray, tensors: Sequence[Tensor]) -> None:
        """Store a gradient that the step has written."""
        owner = self.resolve(entry.owner, tensors)
        if entry.in_place and isinstance(owner._grad, Tensor):
            owner._grad.rebind(array)
        else:
            owner._grad = new_value(array)

    def resolve(self, owner: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        position = self.positions.get(id(owner))
        return owner if position is None else tensors[position]

    def apply_grad_state(self, tensors: Sequence[Tensor]) -> None:
        """Clear gradients, mark those that the optimizer consumed, and set `requires_grad`, as the step did."""
        for owner in self.changes.cleared:
            self.resolve(owner, tensors)._grad = None
        for owner in self.changes.consumed:
            self.resolve(owner, tensors)._grad = CONSUMED
        for owner, requires_grad in self.changes.requires_grad:
            self.resolve(owner, tensors).requires_grad = requires_grad


def refusing_nodes(traced: TracedStep) -> list[Node | None]:
    """For each output a Node that refuses `backward()` where it was on the tape at the end, else None."""
    outputs = zip(traced.graph.outputs, traced.tracked, strict=False)
    return [refusing_node(symbol) if tracked else None for symbol, tracked in outputs]


def output_tensor(array: np.ndarray, node: Node | None) -> Tensor:
    """The Tensor of one output. node: its Node on the tape."""
    value = new_value(array)
    if node is not None:
        value.node, value.requires_grad = node, True
    return value


Unflatten = Callable[[Sequence[Tensor], Sequence[Tensor]], Any]


def make_unflatten(traced: TracedStep, bindings: GradientBindings) -> Unflatten:
    """A function of (the outputs as Tensors, the Tensors of a call) that gives the return value of the step."""
    make, new_leaves, returned_grads = (
        _unflatten_part(traced.result, bindings),
        traced.new_leaves,
        traced.returned_grads,
    )
    if not new_leaves and not returned_grads:
        return make

    def unflatten(outputs: Sequence[Tensor], tensors: Sequence[Tensor]) -> Any:
        for position, gradient in new_leaves.items():
            leaf = outputs[position]
            leaf.requires_grad, leaf._grad = True, None if gradient is None else outputs[gradient]
        if returned_grads:
            outputs = list(outputs)
            for position, owner in returned_grads:
                outputs[position] = bindings.resolve(owner, tensors)._grad
        return make(outputs, tensors)

    return unflatten


def _viewed(base: Tensor, view: ViewRef) -> Tensor:
    result = base if view.tracked else base.detach()
    for op, attributes in view.path:
        result = viewed(op, result, **attributes)
    return result


def _unflatten_part(result: object, bindings: GradientBindings) -> Unflatten:
    """The function for one part of the return value."""
    if isinstance(result, OutputRef):
        return lambda outputs, tensors: outputs[result]
    if isinstance(result, ViewRef):
        return lambda outputs, tensors: _viewed(bindings.resolve(result.base, tensors), result)
    if isinstance(result, Tensor):  # an argument, or a Tensor that was there before: the same one is given back
        return lambda outputs, tensors: bindings.resolve(result, tensors)
    if isinstance(result, dict):
        parts = {key: _unflatten_part(value, bindings) for key, value in result.items()}
        return lambda *call: {key: make(*call) for key, make in parts.items()}
    if isinstance(result, tuple | list):
        items = [_unflatten_part(value, bindings) for value in result]
        if hasattr(result, "_fields"):
            return lambda *call: type(result)(*[make(*call) for make in items])
        return lambda *call: type(result)([make(*call) for make in items])
    if result is None or isinstance(result, int | float | str | bool):
        return lambda *_: result
    raise TraceError(
        f"compile: the step returns a {type(result).__name__}; expected Tensors, or dicts, lists and tuples of them; "
        "return those, and compute the rest outside"
    )
