"""The order of kernels: as traced where their results and memory allow (floor 4)."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from typing import TypeVar

from ....core.value import Symbol
from ...ir.graph import Graph
from ...ir.views import beneath
from .costs import Costs
from .kernel import Kernel, dtype_size, external_operands

Node = TypeVar("Node")


def reaches(starts: Iterable[Node], goal: Node, below: Callable[[Node], Iterable[Node]]) -> bool:
    """Whether `goal` can be reached from one of `starts`."""
    waiting, visited = list(starts), set[Node]()
    while waiting:
        node = waiting.pop()
        if node is goal:
            return True
        if node not in visited:
            visited.add(node)
            waiting.extend(below(node))
    return False


def order_kernels(graph: Graph, depends_on: dict[Kernel, set[Kernel]], costs: Costs) -> list[Kernel]:
    """The kernels in order: readers of a Tensor before its writer, bounds checks before all writes, else as traced."""
    before = {kernel: set(others) for kernel, others in depends_on.items()}
    readers: dict[Symbol, list[Kernel]] = {}
    writer_of = {s: kernel for kernel in depends_on for s in kernel.symbols}
    for kernel in depends_on:
        for source in external_operands(kernel):
            for symbol in beneath(source):
                readers.setdefault(symbol, []).append(kernel)
    for entry, symbol in graph.writes:
        writer = writer_of[symbol]
        for kernel in readers.get(entry.symbol, ()):
            if kernel is not writer and not reaches([kernel], writer, before.__getitem__):
                before[writer].add(kernel)
    position = {s: i for i, s in enumerate(graph.symbols)}
    left = sorted(depends_on, key=lambda k: (not k.has_check, min(position[s] for s in k.symbols)))
    results = set(graph.results)
    return [
        kernel
        for late in (False, True)
        for kernel in _schedule_for_memory([k for k in left if k.in_backward == late], before, results, costs)
    ]


def _schedule_for_memory(
    left: list[Kernel], before: dict[Kernel, set[Kernel]], results: set[Symbol], costs: Costs
) -> list[Kernel]:
    """List scheduling: the kernels in the given order as far as `before` allows, but a kernel that frees much more memory than
    it takes, such as the gradient of a weight, as soon as it can run."""
    own = {s: s.size * dtype_size(s) for kernel in left for s in kernel.stored if s not in results}
    reads = {kernel: [s for s in external_operands(kernel) if s in own] for kernel in left}
    waiting: dict[Symbol, int] = {}  # how many kernels still have to read it
    for kernel in left:
        for s in reads[kernel]:
            waiting[s] = waiting.get(s, 0) + 1
    after: dict[Kernel, list[Kernel]] = {}
    among = set(left)  # the forward phase has run when the backward phase begins
    missing = {kernel: len(before[kernel] & among) for kernel in left}
    for kernel in left:
        for earlier in before[kernel]:
            after.setdefault(earlier, []).append(kernel)
    index = {kernel: i for i, kernel in enumerate(left)}
    ready = [kernel for kernel in left if not missing[kernel]]
    done: list[Kernel] = []

    def gain(kernel: Kernel) -> int:
        freed = sum(own[s] for s in reads[kernel] if waiting[s] == 1)
        return freed - sum(own.get(s, 0) for s in kernel.stored)

    while ready:
        kernel = next((k for k in ready if gain(k) >= costs.early_free), ready[0])
        ready.remove(kernel)
        done.append(kernel)
        for s in reads[kernel]:
            waiting[s] -= 1
        for later in after.get(kernel, ()):
            missing[later] -= 1
            if not missing[later]:
                bisect.insort(ready, later, key=index.__getitem__)
    assert len(done) == len(left), "kernels wait for each other"
    return done
