"""Rematerialization: recompute a value in the kernel that reads it instead of storing it (floor 4).

A backward pass reads what the forward pass computes in registers: the erf and exp of a GELU, the normalised input of a batch
norm. A kernel recomputes such values where that moves fewer numbers than reading them. Arithmetic in registers costs less
than memory traffic, and a value that is not stored takes no memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ....core.value import Symbol
from ...ir.graph import Graph
from ...ir.rewrite import reading, replace_results
from ...ir.views import View, beneath, is_identity, view_of
from ...passes.backward_phase import Copies
from .fusion import is_movement
from .kernel import Kernel, operands
from .target import Target


@dataclass(frozen=True, eq=False)
class Rematerialization:
    """The plan of one kernel. wanted: Symbols that it recomputes instead of reading. made: all operations that this takes.

    gain: how many fewer arrays are moved. At 0 one array is read in place of another, which pays only if all readers do so,
    since then the other is not written.
    """

    wanted: set[Symbol]
    made: set[Symbol]
    gain: int = 0


@dataclass(frozen=True)
class Dataflow:
    """Which kernel computes a Symbol, which others read it, which Symbols are results, and which inputs are written."""

    kernel_of: dict[Symbol, Kernel]
    readers: dict[Symbol, set[Kernel]]
    results: set[Symbol]
    written: set[Symbol]


def rematerialize(graph: Graph, kernels: Sequence[Kernel], before: Copies, target: Target) -> tuple[Graph, Copies]:
    """Copy operations into the kernels that recompute them.

    Returns the graph and all copies, those of earlier rounds (`before`) among them, each with the plan it belongs to.
    """
    flow = _dataflow(graph, kernels)
    candidates = {kernel: _candidates(kernel, flow, target) for kernel in kernels}
    plans = {kernel: _union(selected) for kernel, selected in _select(candidates, flow).items() if selected}
    return _with_copies(graph, kernels, plans, before) if plans else (graph, before)


def _dataflow(graph: Graph, kernels: Sequence[Kernel]) -> Dataflow:
    kernel_of = {s: kernel for kernel in kernels for s in kernel.symbols}
    readers: dict[Symbol, set[Kernel]] = {}
    for kernel in kernels:
        for symbol in kernel.symbols:
            for x in symbol.inputs:
                source = view_of(x).source
                if kernel_of.get(source) is not kernel:
                    readers.setdefault(source, set()).add(kernel)
    return Dataflow(kernel_of, readers, set(graph.results), {entry.symbol for entry, _ in graph.writes})


def _candidates(kernel: Kernel, flow: Dataflow, target: Target) -> list[Rematerialization]:
    """What `kernel` might recompute, one plan for each earlier kernel that it reads."""
    if kernel.kind not in ("loop", "product"):
        return []
    wanted_from: dict[Kernel, set[Symbol]] = {}
    for symbol in kernel.symbols:
        if symbol not in kernel.per_row:
            for v, reader in _views_read(kernel, symbol):
                home = flow.kernel_of.get(v.source)
                if home is None or home is kernel or not is_identity(v, reader):
                    continue
                if _can(v.source, home, flow, target):
                    wanted_from.setdefault(home, set()).add(v.source)
    made = [_plan(kernel, home, wanted, flow, target) for home, wanted in wanted_from.items()]
    return [plan for plan in made if plan is not None]


def _views_read(kernel: Kernel, symbol: Symbol) -> list[tuple[View, Symbol]]:
    """The views that an operation reads elementwise, each with the Symbol whose indices it uses."""
    if symbol in kernel.reductions:
        return [(view_of(symbol.inputs[0]), symbol.inputs[0])]
    return [(v, symbol) for v in operands(symbol)] if symbol.op.kind == "elementwise" else []  # type: ignore[union-attr]


def _can(symbol: Symbol, home: Kernel, flow: Dataflow, target: Target) -> bool:
    """Whether another kernel could compute the symbol."""
    kind = home.kind in ("loop", "product") and symbol.size >= target.caches.array and symbol not in flow.results
    return kind and symbol.op.kind == "elementwise" and not home.is_per_row(symbol)  # type: ignore[union-attr]


def _plan(
    kernel: Kernel, home: Kernel, wanted: set[Symbol], flow: Dataflow, target: Target
) -> Rematerialization | None:
    """The plan for all of `wanted`; None if it moves more numbers than reading them."""
    made, leaves = _expanded(wanted, kernel, home, flow, target)
    if kernel.in_backward and any(source in flow.written for leaf in leaves for source in beneath(leaf)):
        return None  # it is overwritten before the backward phase runs
    own = {s for s in wanted if flow.readers[s] == {kernel}}
    size = max(s.size for s in wanted)
    large = {x for x in leaves if x.size * target.costs.small_share > size}
    reading = {x for x in large if kernel not in flow.readers.get(x, ()) and flow.kernel_of.get(x) is not kernel}
    storing = {x for x in large if flow.kernel_of.get(x) is home and not flow.readers.get(x) and x not in flow.results}
    gain = len(wanted) + len(own) - len(reading) - len(storing)
    fits = gain >= 0 and len(made) <= target.costs.rematerialized
    return Rematerialization(wanted, made, gain) if fits else None


def _expanded(
    wanted: set[Symbol], kernel: Kernel, home: Kernel, flow: Dataflow, target: Target
) -> tuple[set[Symbol], set[Symbol]]:
    """The operations that compute `wanted`, and what they read: values in memory, or the result of a product."""
    made: set[Symbol] = set()
    leaves: set[Symbol] = set()
    waiting = list(wanted)
    while waiting:
        symbol = waiting.pop()
        if symbol in made:
            continue
        made.add(symbol)
        for v in operands(symbol):
            x = v.source
            if x.constant is not None:
                continue
            selected = bool(flow.readers.get(x, set()) - {kernel}) or x in flow.results
            inside = flow.kernel_of.get(x) is home and _can(x, home, flow, target) and is_identity(v, symbol)
            if inside and (x in wanted or not selected):
                waiting.append(x)
            else:
                leaves.add(x)
    return made, leaves


def _select(candidates: dict[Kernel, list[Rematerialization]], flow: Dataflow) -> dict[Kernel, list[Rematerialization]]:
    """The plans that gain, and those that gain if all readers of their values recompute them too."""
    while True:
        asking: dict[Symbol, set[Kernel]] = {}
        for kernel, plans in candidates.items():
            for symbol in (s for plan in plans for s in plan.wanted):
                asking.setdefault(symbol, set()).add(kernel)
        selected = {
            kernel: [plan for plan in plans if plan.gain or all(flow.readers[s] <= asking[s] for s in plan.wanted)]
            for kernel, plans in candidates.items()
        }
        if selected == candidates:
            return selected
        candidates = selected


def _union(plans: Sequence[Rematerialization]) -> Rematerialization:
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
        new[symbol] = reading(symbol, inputs)
    return replace_results(graph, new), copies | {new.get(s, s): plan_of_copy for s, plan_of_copy in before.items()}
