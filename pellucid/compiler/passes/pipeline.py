"""A pipeline: the passes that a backend runs on a graph, by name and in order (floor 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..ir.graph import Graph


@dataclass(frozen=True)
class Pipeline:
    """The passes of a backend.

    passes: each takes a Graph and gives the next. by_row: names of those that decide the order of a sum; they take
        `by_row=True` where the number of rows may not change it. after_hoisting: names of those that replace a matmul; the
        body of a scan is hoisted from before they run.
    """

    passes: dict[str, Callable[..., Graph]]
    by_row: tuple[str, ...] = ()
    after_hoisting: tuple[str, ...] = ()

    def run(self, graph: Graph, disabled: frozenset[str] = frozenset(), by_row: bool = False) -> Graph:
        """Run all passes but the disabled ones. by_row: the order of a row's sums does not depend on how many rows there are."""
        for name, run in self.passes.items():
            if name not in disabled:
                graph = run(graph, by_row=True) if by_row and name in self.by_row else run(graph)
        return graph
