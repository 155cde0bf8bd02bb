"""Fusion: group operations into kernels (floor 4).

Elementwise operations over one shape fuse into a kernel, so that each element is read once and written once. They may
follow a matrix product, whose result they take from registers. A reduction fuses with them, and so do operations that read
its result row by row: a softmax or a layer norm is one kernel that passes over each row several times while it is in cache.
Two kernels fuse only where no third depends on one and is needed by the other, so that there is never a cycle.

Vertical fusion takes the operations one after another: each is a kernel, which then fuses with those it reads. Horizontal
fusion follows. Then it is known what each kernel stores, which of them check an index, and in which order they run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ....core.value import Symbol
from ....ops.index import Indexing, check_index, rows
from ....ops.loop import part
from ....ops.movement import reshape
from ....ops.reduce import Reducing
from ...ir.graph import Graph
from ...ir.rewrite import copy_of
from ...ir.scan_body import body_of
from ...ir.views import AffineIndex, View, is_identity, long_axes, squeezed_shape, view_of
from ...passes.backward_phase import Copies, backward_phase
from .costs import LONG_CONTRACTION
from .kernel import Kernel, ScanKernels, external_operands, operands
from .kernel_order import order_kernels, reaches
from .kernels.single import SINGLE_OP_EMITTERS
from .llvm import MEMORY
from .prepare.contractions import PRODUCTS, contraction_size
from .target import Target

NATIVE = set(MEMORY) - {"float64"}


@dataclass(eq=False)
class Group:
    """A kernel that may still grow. number: its place in the order of the operations it was made from.

    depends_on: groups whose results it reads. no_fuse: those that it reads at another index than its own: never fused.
    """

    kernel: Kernel
    number: int
    depends_on: set[Group]
    no_fuse: set[Group]


class Groups:
    """The groups of a graph, in order, and the one that computes each Symbol."""

    def __init__(self, graph: Graph) -> None:
        self.position = {symbol: i for i, symbol in enumerate(graph.symbols)}
        self.all: dict[Group, None] = {}
        self.of: dict[Symbol, Group] = {}

    def sources(self, views: Iterable[View]) -> set[Group]:
        return {self.of[v.source] for v in views if v.source in self.of}

    def add(self, kernel: Kernel, depends_on: set[Group], no_fuse: Iterable[Group] = ()) -> Group:
        group = Group(kernel, self.position[kernel.root], depends_on, set(no_fuse))
        self.all[group] = None
        self.set_kernel(group, kernel)
        return group

    def set_kernel(self, group: Group, kernel: Kernel) -> None:
        group.kernel = kernel
        for symbol in kernel.symbols:
            self.of[symbol] = group

    def fuse(self, first: Group, second: Group) -> Group:
        """Fuse two groups where that is allowed. Returns the fused group, or `second`."""
        if not _may_fuse(first, second):
            return second
        whole, merged = (second, first) if second.kernel.kind == "product" else (first, second)
        self.set_kernel(whole, self._fused(whole.kernel, merged.kernel))
        whole.depends_on = (whole.depends_on | merged.depends_on) - {whole, merged}
        whole.no_fuse |= merged.no_fuse
        del self.all[merged]
        for group in self.all:
            for groups in (group.depends_on, group.no_fuse):
                if merged in groups:
                    groups.discard(merged)
                    groups.add(whole)
        return whole

    def _fused(self, whole: Kernel, merged: Kernel) -> Kernel:
        symbols = sorted({*whole.symbols, *merged.symbols}, key=self.position.__getitem__)
        if whole.kind == "product":
            symbols.remove(whole.root)
            symbols.insert(0, whole.root)
        per_row = whole.per_row | merged.per_row
        if merged.domain != whole.domain:
            per_row |= set(merged.symbols)
        return replace(whole, symbols=symbols, per_row=per_row, axes=merged.axes if whole.axes is None else whole.axes)


def fuse_operations(graph: Graph, target: Target, fuse: bool = True, copies: Copies | None = None) -> list[Kernel]:
    """The kernels of `graph` in an order in which they can run, with the symbols that each stores.

    copies: operations that stand there once more, for the kernel that reads them and not for the one of the original.
    """
    groups = _fuse_vertically(graph, target, fuse, copies or {})
    if fuse:
        _fuse_horizontally(groups, target)
    needed, checking = _read_from_memory(graph, groups), _checking(graph, groups)
    depends_on: dict[Kernel, set[Kernel]] = {}
    final: dict[Group, Kernel] = {}
    for group in groups.all:
        stored = [s for s in group.kernel.symbols if s in needed]
        kernel = replace(group.kernel, stored=stored, has_check=group.kernel.has_check or group in checking)
        # Dead code may remain. Of its kernels, keep only bounds checks.
        if stored or (kernel.has_check and (kernel.kind == "loop" or kernel.scan is not None)):
            final[group] = kernel
    for group, kernel in final.items():
        depends_on[kernel] = {final[other] for other in group.depends_on}
    return order_kernels(graph, depends_on, target.costs)


# ---- vertical fusion -----------------------------------------------------------------------------------------------------


def _fuse_vertically(graph: Graph, target: Target, fuse: bool, copies: Copies) -> Groups:
    """The operations in order; each fuses with the groups that it reads."""
    groups, late = Groups(graph), backward_phase(graph, copies)
    for symbol in graph.symbols:
        if symbol.op is part:
            group = groups.of[symbol.inputs[0]]
            groups.set_kernel(group, replace(group.kernel, symbols=[*group.kernel.symbols, symbol]))
            continue
        kernel = _alone(symbol, target, fuse)
        if kernel is None:
            continue
        kernel = replace(kernel, in_backward=symbol in late)
        if kernel.kind != "loop":
            sources = groups.sources(view_of(x) for x in symbol.inputs)
            groups.add(kernel, sources, no_fuse=sources)
        elif kernel.axes is None:
            views = operands(symbol)
            group = groups.add(kernel, groups.sources(views))
            if fuse:
                _fuse_elementwise(groups, group, views, target, copies)
        else:
            view = view_of(symbol.inputs[0])
            group = groups.add(kernel, groups.sources([view]))
            if fuse:
                _fuse_reduction(groups, group, view)
    return groups


def _alone(symbol: Symbol, target: Target, fuse: bool) -> Kernel | None:
    """The kernel of one operation; None for a view, which is index arithmetic."""
    op, kind = symbol.op, symbol.op.kind  # type: ignore[union-attr]
    if kind == "loop":
        return _scan_kernel(symbol, target, fuse)
    domain = squeezed_shape(symbol.shape)
    if is_movement(symbol):
        # Some reshapes need row-major memory, by a copy if necessary.
        is_copy = op is reshape and view_of(symbol).source is symbol
        return Kernel("reshape", [symbol], domain) if is_copy else None
    if not is_native(symbol):
        return Kernel("interpreted", [symbol], domain)
    if kind == "elementwise" or op is check_index:
        return Kernel("loop", [symbol], domain)
    if isinstance(op, Reducing):
        return _reduction_kernel(symbol)
    if op in PRODUCTS and symbol.dtype == np.float32:
        return Kernel("product", [symbol], domain)
    return Kernel("single" if op in SINGLE_OP_EMITTERS else "interpreted", [symbol], domain)


def _scan_kernel(symbol: Symbol, target: Target, fuse: bool) -> Kernel:
    body = body_of(symbol)
    graph = copy_results(body.graph)
    scan = ScanKernels(body, graph, fuse_operations(graph, target, fuse))
    kind = "scan" if all(kernel.kind != "interpreted" for kernel in scan.kernels) else "interpreted"
    has_check = any(kernel.has_check for kernel in scan.kernels)
    return Kernel(kind, [symbol], (body.length,), has_check=has_check, scan=scan)


def _reduction_kernel(symbol: Symbol) -> Kernel:
    x, attributes = symbol.inputs[0], symbol.attributes
    axes = symbol.op.along(attributes)  # type: ignore[union-attr]
    long = long_axes(x.shape)
    return Kernel("loop", [symbol], squeezed_shape(x.shape), tuple(i for i, axis in enumerate(long) if axis in axes))


def _fuse_elementwise(groups: Groups, group: Group, views: list[View], target: Target, copies: Copies) -> None:
    symbol = group.kernel.root
    made_for = copies.get(symbol)  # rematerialized for one kernel: it joins no other
    for v in views:
        source = groups.of.get(v.source)
        separate = made_for is not None and copies.get(v.source) is not made_for
        if source is not None and (separate or not _aligned(source.kernel, v, symbol, target)):
            group.no_fuse.add(source)
    for other in sorted(group.depends_on - group.no_fuse, key=lambda g: g.number, reverse=True):
        if other in groups.all:
            group = groups.fuse(other, group)


def _fuse_reduction(groups: Groups, group: Group, view: View) -> None:
    source = groups.of.get(view.source)
    if source is None or source.kernel.kind != "loop" or source.kernel.domain != group.kernel.domain:
        return
    if is_identity(view, group.kernel.root.inputs[0]) and not source.kernel.is_per_row(view.source):
        groups.fuse(source, group)
    else:
        group.no_fuse.add(source)


def _aligned(home: Kernel, v: View, symbol: Symbol, target: Target) -> bool:
    """Whether `symbol`, fused into `home`, would read the source of `v` at its own index or in its own row."""
    domain = squeezed_shape(symbol.shape)
    if not home.is_per_row(v.source):
        return domain == home.domain and is_identity(v, symbol)
    kept = tuple(home.domain[axis] for axis in home.kept_axes)
    count = math.prod(kept)
    if count < target.costs.parallel_rows:
        return False
    if domain == kept and is_identity(v, symbol):
        return True
    whole_rows = domain == home.domain and _along(v, symbol, home.kept_axes)
    return whole_rows and math.prod(home.domain) // count <= target.caches.row


def _along(v: View, reader: Symbol, kept_axes: list[int]) -> bool:
    """Whether the reader reads one scalar per row of the source, at every index of the row."""
    axes = long_axes(reader.shape)
    indices = [i for i, size in zip(v.indices, v.source.shape, strict=True) if size != 1]
    return indices == [AffineIndex(0, ((axes[axis], 1),)) for axis in kept_axes]


# ---- horizontal fusion ---------------------------------------------------------------------------------------------------


def _fuse_horizontally(groups: Groups, target: Target) -> None:
    """Reductions over the same axes of the same large array become one kernel."""
    largest: dict[tuple[Symbol, tuple[int, ...], tuple[int, ...] | None], Group] = {}
    for group in list(groups.all):
        kernel = group.kernel
        for source in external_operands(kernel) if kernel.kind == "loop" and kernel.axes else ():
            if group not in groups.all:
                break
            about = (source, group.kernel.domain, group.kernel.axes)
            other = largest.setdefault(about, group) if source.size >= target.caches.array else group
            if other is not group and other in groups.all:
                group = largest[about] = groups.fuse(other, group)


def _may_fuse(first: Group, second: Group) -> bool:
    if first in second.no_fuse or second in first.no_fuse or not _fitting(first.kernel, second.kernel):
        return False
    return not _between(first, second) and not _between(second, first)


def _fitting(first: Kernel, second: Kernel) -> bool:
    """Whether one kernel can compute both."""
    kinds = {first.kind, second.kind}
    reducing = {kernel.axes for kernel in (first, second) if kernel.axes is not None}
    if kinds == {"loop"}:
        fitting = len(reducing) <= 1  # fused reductions reduce the same axes
    else:  # one product and elementwise operations on its result
        fitting = kinds == {"loop", "product"} and not reducing
        fitting = fitting and all(
            k.kind == "loop" or contraction_size(k.root) < LONG_CONTRACTION for k in (first, second)
        )
    if first.domain != second.domain:
        kept = [first.domain[axis] for axis in first.kept_axes] if first.axes is not None else None
        fitting = fitting and second.axes is None and kept is not None and tuple(kept) == second.domain
    return fitting and first.in_backward == second.in_backward


def _between(first: Group, second: Group) -> bool:
    """Whether `second` depends on `first` through a third group."""
    return reaches(second.depends_on - {first}, first, lambda group: group.depends_on)


# ---- what is known of whole kernels --------------------------------------------------------------------------------------


def _read_from_memory(graph: Graph, groups: Groups) -> set[Symbol]:
    """Results of the graph, and what a kernel reads that another computes."""
    needed: set[Symbol] = set(graph.results)
    for group in groups.all:
        for symbol in group.kernel.symbols:
            for x in symbol.inputs:
                source = view_of(x).source
                if not group.kernel.is_internal(source):
                    needed.add(source)
    return needed


def _checking(graph: Graph, groups: Groups) -> set[Group]:
    """The groups that check an index first. A second use of it, as in a gradient, needs no check."""
    checking: set[Group] = set()
    checked: set[tuple[Symbol, Symbol | int]] = set()
    for symbol in graph.symbols:
        op = symbol.op
        if isinstance(op, Indexing) and op is not check_index:
            shape = symbol.attributes.get("shape", symbol.inputs[0].shape)
            bound = symbol.inputs[2] if op is rows else shape[symbol.attributes.get("axis", 0)]
            use = (symbol.inputs[1], bound)
            first = use not in checked
            checked.add(use)
        else:
            first = op is check_index
        if first:
            checking.add(groups.of[symbol])
    return checking


# ---- single operations ---------------------------------------------------------------------------------------------------


def is_native(symbol: Symbol) -> bool:
    """Whether its operation and all its dtypes have native code."""
    dtypes = all(s.dtype.name in NATIVE for s in (symbol, *symbol.inputs))
    return dtypes and (symbol.op.kind != "elementwise" or getattr(symbol.op, "native", None) is not None)  # type: ignore[union-attr]


def is_movement(symbol: Symbol) -> bool:
    return symbol.op is None or symbol.op.is_view


def copy_results(graph: Graph) -> Graph:
    """Copy each result that is an input, a constant, a view, or another result, so that every result has its own operation."""
    taken: set[Symbol] = set()
    copies: list[Symbol] = []

    def own(symbol: Symbol) -> Symbol:
        if is_movement(symbol) or symbol in taken or symbol.op.kind == "loop":  # type: ignore[union-attr]
            symbol = copy_of(symbol)
            copies.append(symbol)
        taken.add(symbol)
        return symbol

    writes = [(entry, own(s)) for entry, s in graph.writes]
    outputs = [own(s) for s in graph.outputs]
    return Graph(graph.inputs, graph.symbols + copies, outputs, writes)
