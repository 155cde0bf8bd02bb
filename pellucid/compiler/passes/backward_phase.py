"""Forward and backward phase of a graph whose `backward()` is called outside of the compiled function (floor 4).

The forward phase computes the outputs and does the writes. The backward phase runs when `backward()` reaches an output. It
starts from the cotangents, dL/d(output), and computes the gradients of what the function has read. Both phases share one
memory plan, so that the backward phase reads saved values in place. A kernel belongs to one phase. The backward phase reads
nothing that the forward phase overwrites.
"""

from __future__ import annotations

from ...core.value import Symbol
from ..ir.graph import Graph, dependents, users
from ..ir.rewrite import copy_of, with_replaced
from ..ir.views import beneath, is_view, view_of

Copies = dict[Symbol, object]  # rematerialized operations, and the plan each was copied for


def backward_phase(graph: Graph, copies: Copies) -> set[Symbol]:
    """The operations of the backward phase: those that depend on a cotangent, and copies that only they read.

    copies: operations that are rematerialized for one reader.
    """
    late = dependents(graph, "cotangent")
    readers = users(graph) if late else {}
    for symbol in reversed(graph.symbols) if late else ():
        movable = symbol in copies or is_view(symbol)
        if movable and symbol in readers and all(reader in late for reader in readers[symbol]):
            late.add(symbol)
    return late


def with_snapshots(graph: Graph) -> Graph:
    """Copy what the backward phase reads where the forward phase overwrites it.

    A Tensor that is read by the backward phase and written by the forward phase is copied before; so is a value that is
    written into a Tensor and read by the backward phase, since the Tensor may have changed by then.
    """
    late = backward_phase(graph, {})
    read = {source for symbol in late for x in symbol.inputs for source in beneath(view_of(x).source)}
    before = {
        entry.symbol: copy_of(entry.symbol, symbol.origin) for entry, symbol in graph.writes if entry.symbol in read
    }
    new: dict[Symbol, Symbol] = {}
    for symbol in graph.symbols if before else ():
        replacements = before | new if symbol in late or is_view(symbol) else new
        inputs = tuple(replacements.get(x, x) for x in symbol.inputs)
        if inputs != symbol.inputs:
            new[symbol] = symbol.with_inputs(inputs)

    replaced = with_replaced(graph, new, [*before.values(), *(new.get(s, s) for s in graph.symbols)])
    written = [now for (_, s), (_, now) in zip(graph.writes, replaced.writes, strict=True) if s in read]
    after = {s: copy_of(s) for s in written}
    replaced.symbols += after.values()
    replaced.writes = [(entry, after.get(s, s)) for entry, s in replaced.writes]
    return replaced
