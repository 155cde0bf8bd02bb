"""From a recorded graph to kernels in order and the layout of what they store: all decisions before memory (floor 4)."""

from __future__ import annotations

from .fuse import Kernel, fused, with_copies
from .graph import Graph
from .layout import Layout, laid_out
from .lifting import prepared
from .llvm import Target
from .remaking import remade


def scheduled(
    graph: Graph, target: Target, leave_out: frozenset[str] = frozenset()
) -> tuple[Graph, list[Kernel], Layout]:
    """The graph after all passes, its kernels and their layout.

    leave_out: names of passes, "lifting", "fusion", or "remaking", that a test or a curious reader wants off.
    """
    graph = with_copies(prepared(graph, leave_out))
    fuse = "fusion" not in leave_out
    kernels = fused(graph, fuse)
    if fuse and "remaking" not in leave_out:
        graph, copies = remade(graph, kernels)
        kernels = fused(graph, fuse, copies) if copies else kernels
    kernels, layout = laid_out(graph, kernels, target)
    return graph, kernels, layout
