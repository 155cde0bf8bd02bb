"""Numbers that are made again where they are wanted, rather than written, kept and read (floor 4).

A backward pass reads what the forward pass computed in registers on its way: a GELU's erf and exp, a batch norm's
normalised input. Where a kernel can make such numbers from fewer that lie in memory anyway, it does: arithmetic in
registers costs less than memory, and what is not kept needs no room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ....core.value import Symbol
from ...ir.graph import Graph
from ...ir.rewrite import replace_results
from ...ir.views import View, beneath, is_identity, view_of
from ...passes.backward_phase import Copies
from .fusion import LARGE_ARRAY, Kernel, is_movement, operands

MAX_OPERATIONS = 32  # operations that are done again in one kernel


@dataclass(eq=False)
class Rematerialization:
    """What a kernel makes again: the Symbols it would have read (`wanted`), and all that has to be computed for them.

    gain: how many numbers less are moved, in arrays. Where it is 0, one is read in place of another; that is worth it if
    all readers do so, since then nobody writes it.
    """

    wanted: set[Symbol] = field(default_factory=set)
    made: set[Symbol] = field(default_factory=set)
    gain: int = 0


def rematerialize(graph: Graph, kernels: Sequence[Kernel], before: Copies) -> tuple[Graph, Copies]:
    """The graph with copies of operations in front of the kernels that do them again, and those copies, with the ones that
    were there before: each with a word for the kernel it was made for."""
    search = RematerializationPlanner(graph, kernels)
    found = {kernel: search.plans(kernel) for kernel in kernels}
    plans = {kernel: _union(mine) for kernel, mine in search.agreed(found).items() if mine}
    return _with_copies(graph, kernels, plans, before) if plans else (graph, before)


def _views_read(kernel: Kernel, symbol: Symbol) -> list[tuple[View, Symbol]]:
    """What an operation reads number by number, and as whose shape it sees it."""
    if symbol in kernel.reductions:
        return [(view_of(symbol.inputs[0]), symbol.inputs[0])]
    return [(v, symbol) for v in operands(symbol)] if symbol.op.kind == "elementwise" else []  # type: ignore[union-attr]


class RematerializationPlanner:
    def __init__(self, graph: Graph, kernels: Sequence[Kernel]) -> None:
        self.results = set(graph.results)
        self.written = {entry.symbol for entry, _ in graph.writes}
        self.home = {s: kernel for kernel in kernels for s in kernel.symbols}
        self.readers: dict[Symbol, set[Kernel]] = {}
        for kernel in kernels:
            for symbol in kernel.symbols:
                for x in symbol.inputs:
                    source = view_of(x).source
                    if self.home.get(source) is not kernel:
                        self.readers.setdefault(source, set()).add(kernel)

    def plans(self, kernel: Kernel) -> list[Rematerialization]:
        """What `kernel` might make again, for each earlier kernel whose numbers it reads."""
        if kernel.kind not in ("loop", "product"):
            return []
        found: dict[Kernel, set[Symbol]] = {}
        for symbol in kernel.symbols:
            if symbol not in kernel.per_row:
                for v, reader in _views_read(kernel, symbol):
                    home = self.home.get(v.source)
                    if home is not None and home is not kernel and is_identity(v, reader) and self._can(v.source, home):
                        found.setdefault(home, set()).add(v.source)
        made = [self._worth(kernel, home, wanted) for home, wanted in found.items()]
        return [plan for plan in made if plan is not None]

    def agreed(self, found: dict[Kernel, list[Rematerialization]]) -> dict[Kernel, list[Rematerialization]]:
        """The plans that gain something, and those that do so if all readers go along."""
        while True:
            asking: dict[Symbol, set[Kernel]] = {}
            for kernel, plans in found.items():
                for symbol in (s for plan in plans for s in plan.wanted):
                    asking.setdefault(symbol, set()).add(kernel)
            kept = {
                kernel: [plan for plan in plans if plan.gain or all(self.readers[s] <= asking[s] for s in plan.wanted)]
                for kernel, plans in found.items()
            }
            if kept == found:
                return kept
            found = kept

    def _can(self, symbol: Symbol, home: Kernel) -> bool:
        """Whether the symbol is one that another kernel could compute as well."""
        kind = home.kind in ("loop", "product") and symbol.size >= LARGE_ARRAY and symbol not in self.results
        return kind and symbol.op.kind == "elementwise" and not home.is_per_row(symbol)  # type: ignore[union-attr]

    def _worth(self, kernel: Kernel, home: Kernel, wanted: set[Symbol]) -> Rematerialization | None:
        """The plan for all of `wanted`, if it moves fewer numbers than reading them."""
        made: set[Symbol] = set()
        leaves: set[Symbol] = set()
        for symbol in wanted:
            self._expand(symbol, kernel, home, wanted, made, leaves)
        if kernel.in_backward and any(source in self.written for leaf in leaves for source in beneath(leaf)):
            return None  # what stood there is gone when the backward phase runs
        own = {s for s in wanted if self.readers[s] == {kernel}}
        size = max(s.size for s in wanted)
        large = {x for x in leaves if x.size * 4 > size}
        reading = {x for x in large if kernel not in self.readers.get(x, ()) and self.home.get(x) is not kernel}
        storing = {x for x in large if self.home.get(x) is home and not self.readers.get(x) and x not in self.results}
        gain = len(wanted) + len(own) - len(reading) - len(storing)
        return Rematerialization(wanted, made, gain) if gain >= 0 and len(made) <= MAX_OPERATIONS else None

    def _expand(
        self, symbol: Symbol, kernel: Kernel, home: Kernel, wanted: set[Symbol], made: set[Symbol], leaves: set[Symbol]
    ) -> None:
        """Add the operations that make `symbol`, down to what lies in memory or is a product's own result."""
        if symbol in made:
            return
        made.add(symbol)
        for v in operands(symbol):
            x = v.source
            if x.constant is not None:
                continue
            kept = bool(self.readers.get(x, set()) - {kernel}) or x in self.results
            inside = self.home.get(x) is home and self._can(x, home) and is_identity(v, symbol)
            if inside and (x in wanted or not kept):
                self._expand(x, kernel, home, wanted, made, leaves)
            else:
                leaves.add(x)


def _union(plans: list[Rematerialization]) -> Rematerialization:
    return Rematerialization({s for plan in plans for s in plan.wanted}, {s for plan in plans for s in plan.made})


def _with_copies(
    graph: Graph, kernels: Sequence[Kernel], plans: dict[Kernel, Rematerialization], before: Copies
) -> tuple[Graph, Copies]:
    home = {s: kernel for kernel in kernels for s in kernel.symbols}
    new: dict[Symbol, Symbol] = {}
    again: dict[tuple[Kernel, Symbol], Symbol] = {}
    copies: Copies = {}

    def once_more(symbol: Symbol, kernel: Kernel, plan: Rematerialization) -> Symbol:
        """`symbol` as `kernel` reads it: made again, seen through its movements, or as it is."""
        if symbol.op is None or not (
            symbol in plan.made or (is_movement(symbol) and view_of(symbol).source in plan.made)
        ):
            return new.get(symbol, symbol)
        if (kernel, symbol) not in again:
            copy = again[kernel, symbol] = symbol.with_inputs(tuple(once_more(x, kernel, plan) for x in symbol.inputs))
            if symbol in plan.made:
                copies[copy] = plan
        return again[kernel, symbol]

    for symbol in graph.symbols:
        kernel = home.get(symbol)
        plan = plans.get(kernel) if kernel is not None else None
        if plan is None or kernel is None:
            inputs = tuple(new.get(x, x) for x in symbol.inputs)
        else:
            inputs = tuple(once_more(x, kernel, plan) for x in symbol.inputs)
        new[symbol] = symbol if inputs == symbol.inputs else symbol.with_inputs(inputs)
    return replace_results(graph, new), copies | {new.get(s, s): made_for for s, made_for in before.items()}
