"""Scheduling: from a traced graph to ordered kernels and their layout (floor 4)."""

from __future__ import annotations

from typing import NamedTuple

from ...ir.graph import Graph
from ...passes.backward_phase import Copies, with_snapshots
from .fusion import copy_results, fuse_operations
from .kernel import Kernel
from .layout import Layout, assign_layouts
from .prepare.pipeline import CPU_PIPELINE
from .rematerialization import rematerialize
from .target import Target

ROUNDS = 3  # rounds: rematerialization may allow fusion, which may allow more rematerialization


class Schedule(NamedTuple):
    """A graph after all passes, its kernels in order, and the layout of what they store."""

    graph: Graph
    kernels: list[Kernel]
    layout: Layout


def schedule(graph: Graph, target: Target, disabled: frozenset[str] = frozenset(), by_row: bool = False) -> Schedule:
    """The kernels of a traced graph.

    disabled: names of passes, "scan hoisting", "fusion", or "rematerialization", that a test or a curious reader wants off.
    by_row: the shape of a row alone decides the order of its sums, so that its bits are the same alone and among others.
    """
    graph = with_snapshots(copy_results(CPU_PIPELINE.run(graph, disabled, by_row)))
    fuse = "fusion" not in disabled
    kernels = fuse_operations(graph, target, fuse)
    copies: Copies = {}
    for _ in range(ROUNDS if fuse and "rematerialization" not in disabled else 0):
        before = copies
        graph, copies = rematerialize(graph, kernels, before, target)
        if copies is before:
            break
        kernels = fuse_operations(graph, target, fuse, copies)
    kernels, layout = assign_layouts(graph, kernels, target, by_row)
    return Schedule(graph, kernels, layout)
