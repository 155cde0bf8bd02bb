"""A pipeline: the passes that a backend runs on a graph, by name and in order (floor 4).

A pass is a function from Graph to Graph. To add one, write it in a file and name it in the pipeline of the backends that
want it (`PASSES` in `backends/cpu/prepare/pipeline.py`), at its place in the order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...ops.loop import loop
from ..ir.graph import Graph
from ..ir.rewrite import Pass
from ..ir.scan_body import ScanBody, body_of
from .scan_hoisting import hoist
from .simplify import dead_code


@dataclass(frozen=True)
class Pipeline:
    """The passes of a backend, by name and in order.

    by_row: by the same names, those that take the place of others where the number of rows may not change the order of a
        row's sums. after_hoisting: names of those that replace a matmul; the body of a scan is hoisted from before they run.
    """

    passes: Mapping[str, Pass]
    by_row: Mapping[str, Pass]
    after_hoisting: frozenset[str] = frozenset()

    def run(self, graph: Graph, disabled: frozenset[str] = frozenset(), by_row: bool = False) -> Graph:
        """Hoist from the scans of a graph, and run all passes on it and on the bodies of its scans.

        disabled: names of passes to leave out; "scan hoisting" leaves out the hoisting. by_row: the order of a row's sums does
        not depend on how many rows there are.
        """
        passes = {name: self.by_row.get(name, step) if by_row else step for name, step in self.passes.items()}

        def run_passes(graph: Graph) -> Graph:
            for name, step in passes.items():
                if name not in disabled:
                    graph = step(graph)
            return graph

        def run_early(graph: Graph) -> Graph:
            return self.run(graph, disabled | self.after_hoisting, by_row)

        graph = dead_code(graph)
        done: set[ScanBody] = set()  # bodies that are rewritten already
        while loops := [s for s in graph.symbols if s.op is loop and body_of(s) not in done]:
            # The last one first: a scan may read the outputs of an earlier scan, and only those that are read are kept.
            graph, body = hoist(graph, loops[-1], run_early, run_passes, "scan hoisting" not in disabled)
            done.add(body)
        return run_passes(graph)
