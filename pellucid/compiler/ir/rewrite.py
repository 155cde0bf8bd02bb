"""The graph rewriter: visit the operations in order, and replace each by what a rule gives (floor 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.op import Op
from ...core.origin import Origin
from ...core.value import Symbol
from ...ops.elementwise import cast
from ...ops.index import check_index
from ...ops.reduce import expand
from .graph import Graph, topological_order

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

Pass = Callable[[Graph], Graph]
Rule = Callable[[Symbol, tuple[Symbol, ...]], Symbol | None]


def rewrite(graph: Graph, rule: Rule) -> Graph:
    """The graph with `rule(symbol, its new inputs)` in place of each symbol; None keeps it as it is.

    A rule may give an input, or one Symbol for several. Operations that no result needs any more are left out. The graph that
    came in stays as it is, as for every pass.
    """
    new: dict[Symbol, Symbol] = {}
    for symbol in graph.symbols:
        inputs = tuple(new.get(x, x) for x in symbol.inputs)
        replacement = rule(symbol, inputs)
        new[symbol] = reading(symbol, inputs) if replacement is None else replacement
    return replace_results(graph, new)


def reading(symbol: Symbol, inputs: tuple[Symbol, ...]) -> Symbol:
    """The same operation on these inputs: `symbol` itself where they are its own."""
    return symbol if inputs == symbol.inputs else symbol.with_inputs(inputs)


def replace_results(graph: Graph, new: Mapping[Symbol, Symbol]) -> Graph:
    """The graph with replaced results, and only the operations that they need. Bounds checks stay."""
    checks = [new.get(s, s) for s in graph.symbols if s.op is check_index]
    replaced = with_replaced(graph, new, [])
    replaced.symbols = topological_order([*checks, *replaced.results])
    return replaced


def with_replaced(graph: Graph, new: Mapping[Symbol, Symbol], symbols: list[Symbol]) -> Graph:
    """The graph with replaced results and these operations."""
    outputs = [new.get(s, s) for s in graph.outputs]
    writes = [(entry, new.get(s, s)) for entry, s in graph.writes]
    return Graph(list(graph.inputs), symbols, outputs, writes)


def emit(op: Op, *inputs: Symbol, origin: Origin, **attributes: Any) -> Symbol:
    """A new operation. Its shape and dtype follow from the shape rule of the operation."""
    shape, dtype = op.infer(*[_ShapeOnly(x) for x in inputs], **attributes)
    return Symbol(op, inputs, attributes, tuple(shape), dtype, origin)


class _ShapeOnly:
    """A Symbol with the attributes of a value that shape rules read."""

    def __init__(self, symbol: Symbol) -> None:
        self.array, self.shape, self.dtype, self.ndim = symbol, symbol.shape, symbol.dtype, symbol.ndim


def copy_of(x: Symbol, origin: Origin | None = None) -> Symbol:
    """An operation that copies x. origin: if it is not that of x."""
    return emit(cast, x, origin=origin or x.origin, dtype=x.dtype)


def constant(value: ArrayLike, dtype: DTypeLike, origin: Origin) -> Symbol:
    """A constant Symbol."""
    array = np.asarray(value, dtype)
    return Symbol(None, (), {}, array.shape, array.dtype, origin, array)


def is_zeros(x: Symbol) -> bool:
    """Whether it is known to hold zeros only: a constant, or one that is repeated."""
    x = x.inputs[0] if x.op is expand else x
    return x.constant is not None and not x.constant.any()
