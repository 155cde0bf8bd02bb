"""What a traced step returns: its outputs, and their gradients where `backward()` comes from outside (floor 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core.tape import backward_pass, reachable
from ...core.value import Symbol, traced_or_array
from ...ops.loop import tree_map
from ...tensor import Tensor
from ..ir.graph import Input
from ..ir.scan_body import placeholder
from .outer_tensors import OuterTensors
from .traced_step import OutputRef, ViewRef


@dataclass(frozen=True)
class TracedResults:
    """What a step returns.

    structure: the return value with references to outputs in place of Tensors. outputs, tracked, new_leaves: see
        `TracedStep`. values: the Tensors behind the first outputs. positions: the output of each, by id.
    """

    structure: Any
    outputs: list[Symbol]
    tracked: list[bool]
    values: list[Tensor]
    positions: dict[int, OutputRef]
    new_leaves: dict[int, int | None]


@dataclass(frozen=True)
class OuterGradients:
    """The gradients of what a step returns, traced for a `backward()` outside of it.

    leaves: the Tensors that get one. outputs: these gradients. cotangents: the inputs that they are computed from.
    """

    leaves: list[Tensor]
    outputs: list[Symbol]
    cotangents: list[Input]


def collect_results(result: object, tensors: OuterTensors, gives_views: bool) -> TracedResults:
    """The results of a step, while its trace is active. gives_views: see `trace`."""
    outputs: list[Symbol] = []
    tracked: list[bool] = []
    values: list[Tensor] = []
    positions: dict[int, OutputRef] = {}  # a Tensor that is returned twice is one afterwards, too

    def leaf(value: object) -> Any:
        if not isinstance(value, Tensor):
            return value
        symbol = traced_or_array(value)
        if id(value) in tensors.saved:
            return value
        is_leaf = value.requires_grad and value.node is None
        if gives_views and value.cell is not None and id(value.cell.base()) in tensors.inputs and not is_leaf:
            return ViewRef(value.cell.base(), value.path, value.requires_grad)
        if id(value) not in positions:
            positions[id(value)] = OutputRef(len(outputs))
            values.append(value)
            outputs.append(symbol)
            tracked.append(value.requires_grad and value.node is not None)
        return positions[id(value)]

    structure = tree_map(leaf, result)
    new_leaves: dict[int, int | None] = {}
    for i, value in enumerate(values):
        if isinstance(value._grad, Tensor):
            new_leaves[i] = len(outputs)
            outputs.append(traced_or_array(value._grad))
            tracked.append(False)
        elif value.requires_grad and value.node is None:
            new_leaves[i] = None
    return TracedResults(structure, outputs, tracked, values, positions, new_leaves)


def trace_gradients(values: list[Tensor], tensors: OuterTensors, since: int) -> OuterGradients | None:
    """Trace the gradients of the results `values` with respect to what the step reads.

    since: the number of the step's first Node. None where the step has walked their tape itself, so that it is a
    whole step.
    """
    roots = {i: value for i, value in enumerate(values) if value.node is not None}
    nodes = reachable([value.node for value in roots.values() if value.node is not None], since)
    if any(node.inputs is None for node in nodes):
        return None
    cotangents = [
        Input("cotangent", None, placeholder(value), i, f"gradient of output {i}") for i, value in roots.items()
    ]
    seeds = [Tensor(entry.symbol) for entry in cotangents]
    gradients = backward_pass(list(roots.values()), seeds, since=since)
    owners = {id(saved.rest["node"] or saved.owner): saved.owner for saved in tensors.saved.values()}
    reached = [key for key in gradients if key in owners]
    outputs = [traced_or_array(gradients[key][1]) for key in reached]
    return OuterGradients([owners[key] for key in reached], outputs, cotangents)
