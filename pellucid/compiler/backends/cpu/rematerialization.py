"""Rematerialization: recompute a value in the kernel that reads it instead of storing it (floor 4).

A backward pass reads what the forward pass computes in registers: the erf and exp of a GELU, the normalised input of a batch
norm. A kernel recomputes such values where that moves fewer numbers than reading them. Arithmetic in registers costs less
than memory traffic, and a value that is not stored takes no memory.
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

MAX_OPERATIONS = 32  # rematerialized operations in one kernel


@dataclass(eq=False)
class Rematerialization:
    """The plan of one kernel. wanted: Symbols that it recomputes instead of reading. made: all operations that this takes.

    gain: how many fewer arrays are moved. At 0 one array is read in place of another, which pays only if all readers do so,
    since then the other is not written.
    """

    wanted: set[Symbol] = field(default_factory=set)
    made: set[Symbol] = field(default_factory=set)
    gain: int = 0


def rematerialize(graph: Graph, kernels: Sequence[Kernel], before: Copies) -> tuple[Graph, Copies]:
    """Copy operations into the kernels that recompute them.

    Returns the graph and all copies, those of earlier rounds (`before`) among them, each with the plan it belongs to.
    """
    planner = RematerializationPlanner(graph, kernels)
    candidates = {kernel: planner.candidates(kernel) for kernel in kernels}
    plans = {
        kernel: _union(plans_of_kernel)
        for kernel, plans_of_kernel in planner.select(candidates).items()
        if plans_of_kernel
    }
    return _with_copies(graph, kernels, plans, before) if plans else (graph, before)


def _views_read(kernel: Kernel, symbol: Symbol) -> list[tuple[View, Symbol]]:
    """The views that an operation reads elementwise, each with the Symbol whose indices it uses."""
    if symbol in kernel.reductions:
        return [(view_of(symbol.inputs[0]), symbol.inputs[0])]
    return [(v, symbol) for v in operands(symbol)] if symbol.op.kind == "elementwise" else []  # type: ignore[union-attr]


class RematerializationPlanner:
    """Finds what each kernel could recompute, and what that gains."""

    def __init__(self, graph: Graph, kernels: Sequence[Kernel]) -> None:
        self.results = set(graph.results)
        self.written = {entry.symbol for entry, _ in graph.writes}
        self.kernel_of = {s: kernel for kernel in kernels for s in kernel.symbols}
        self.readers: dict[Symbol, set[Kernel]] = {}
        for kernel in kernels:
            for symbol in kernel.symbols:
                for x in symbol.inputs:
                    source = view_of(x).source
                    if self.kernel_of.get(source) is not kernel:
                        self.readers.setdefault(source, set()).add(kernel)

    def candidates(self, kernel: Kernel) -> list[Rematerialization]:
        """What `kernel` might recompute, one plan for each earlier kernel that it reads."""
        if kernel.kind not in ("loop", "product"):
            return []
        wanted_from: dict[Kernel, set[Symbol]] = {}
        for symbol in kernel.symbols:
            if symbol not in kernel.per_row:
                for v, reader in _views_read(kernel, symbol):
                    home = self.kernel_of.get(v.source)
                    if home is not None and home is not kernel and is_identity(v, reader) and self._can(v.source, home):
                        wanted_from.setdefault(home, set()).add(v.source)
        made = [self._worth(kernel, home, wanted) for home, wanted in wanted_from.items()]
        return [plan for plan in made if plan is not None]

    def select(self, candidates: dict[Kernel, list[Rematerialization]]) -> dict[Kernel, list[Rematerialization]]:
        """The plans that gain, and those that gain if all readers of their values recompute them too."""
        while True:
            asking: dict[Symbol, set[Kernel]] = {}
            for kernel, plans in candidates.items():
                for symbol in (s for plan in plans for s in plan.wanted):
                    asking.setdefault(symbol, set()).add(kernel)
            selected = {
                kernel: [plan for plan in plans if plan.gain or all(self.readers[s] <= asking[s] for s in plan.wanted)]
                for kernel, plans in candidates.items()
            }
            if selected == candidates:
                return selected
            candidates = selected

    def _can(self, symbol: Symbol, home: Kernel) -> bool:
        """Whether another kernel could compute the symbol."""
        kind = home.kind in ("loop", "product") and symbol.size >= LARGE_ARRAY and symbol not in self.results
        return kind and symbol.op.kind == "elementwise" and not home.is_per_row(symbol)  # type: ignore[union-attr]

    def _worth(self, kernel: Kernel, home: Kernel, wanted: set[Symbol]) -> Rematerialization | None:
        """The plan for all of `wanted`; None if it moves more numbers than reading them."""
        made: set[Symbol] = set()
        leaves: set[Symbol] = set()
        for symbol in wanted:
            self._expand(symbol, kernel, home, wanted, made, leaves)
        if kernel.in_backward and any(source in self.written for leaf in leaves for source in beneath(leaf)):
            return None  # it is overwritten before the backward phase runs
        own = {s for s in wanted if self.readers[s] == {kernel}}
        size = max(s.size for s in wanted)
        large = {x for x in leaves if x.size * 4 > size}
        reading = {x for x in large if kernel not in self.readers.get(x, ()) and self.kernel_of.get(x) is not kernel}
        storing = {
            x for x in large if self.kernel_of.get(x) is home and not self.readers.get(x) and x not in self.results
        }
        gain = len(wanted) + len(own) - len(reading) - len(storing)
        return Rematerialization(wanted, made, gain) if gain >= 0 and len(made) <= MAX_OPERATIONS else None

    def _expand(
        self, symbol: Symbol, kernel: Kernel, home: Kernel, wanted: set[Symbol], made: set[Symbol], leaves: set[Symbol]
    ) -> None:
        """Add the operations that compute `symbol` from values in memory or from the result of a product."""
        if symbol in made:
            return
        made.add(symbol)
        for v in operands(symbol):
            x = v.source
            if x.constant is not None:
                continue
            selected = bool(self.readers.get(x, set()) - {kernel}) or x in self.results
            inside = self.kernel_of.get(x) is home and self._can(x, home) and is_identity(v, symbol)
            if inside and (x in wanted or not selected):
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
    copied: dict[tuple[Kernel, Symbol], Symbol] = {}
    copies: Copies = {}

    def copy_for(symbol: Symbol, kernel: Kernel, plan: Rematerialization) -> Symbol:
        """`symbol` as `kernel` reads it: recomputed, a movement of something recomputed, or unchanged."""
        if symbol.op is None or not (
            symbol in plan.made or (is_movement(symbol) and view_of(symbol).source in plan.made)
        ):
            return new.get(symbol, symbol)
        if (kernel, symbol) not in copied:
            copy = copied[kernel, symbol] = symbol.with_inputs(tuple(copy_for(x, kernel, plan) for x in symbol.inputs))
            if symbol in plan.made:
                copies[copy] = plan
        return copied[kernel, symbol]

    for symbol in graph.symbols:
        kernel = home.get(symbol)
        plan = plans.get(kernel) if kernel is not None else None
        if plan is None or kernel is None:
            inputs = tuple(new.get(x, x) for x in symbol.inputs)
        else:
            inputs = tuple(copy_for(x, kernel, plan) for x in symbol.inputs)
        new[symbol] = symbol if inputs == symbol.inputs else symbol.with_inputs(inputs)
    return replace_results(graph, new), copies | {new.get(s, s): plan_of_copy for s, plan_of_copy in before.items()}
