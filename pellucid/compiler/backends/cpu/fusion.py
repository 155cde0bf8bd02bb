"""Fusion: group operations into kernels, and order the kernels (floor 4).

Elementwise operations over one shape fuse into a kernel, so that each element is read once and written once. They may
follow a matrix product, whose result they take from registers. A reduction fuses with them, and so do operations that read
its result row by row: a softmax or a layer norm is one kernel that passes over each row several times while it is in cache.
Two kernels fuse only where no third depends on one and is needed by the other, so that there is never a cycle.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ....core.op import Op
from ....core.value import Symbol
from ....ops.elementwise import cast
from ....ops.index import Indexing, check_index, rows
from ....ops.loop import part
from ....ops.movement import reshape
from ....ops.reduce import Reducing
from ...ir.graph import Graph
from ...ir.rewrite import emit
from ...ir.scan_body import ScanBody
from ...ir.views import AffineIndex, View, beneath, broadcast, is_identity, squeezed_shape, view_of
from ...passes.backward_phase import Copies, backward_phase
from .kernels.single import SINGLE_OP_EMITTERS
from .llvm import MEMORY
from .prepare.contractions import LONG_CONTRACTION, PRODUCTS, contraction_size

if TYPE_CHECKING:
    from .layout import Layout

EARLY_FREE_BYTES = 1 << 20  # a kernel that frees this much runs as early as it can
LARGE_ARRAY = 1 << 14  # elements: larger arrays leave the core's cache before the next kernel
MAX_ROW = 1 << 13  # elements of a row that stay in cache between passes over it
MIN_ROWS = 8  # so that there is work for several threads
NATIVE = set(MEMORY) - {"float64"}


@dataclass(eq=False)
class Kernel:
    """The operations that one native function computes.

    kind: "loop" (elementwise operations and reductions), "product" (a matrix product and elementwise operations on its
        result), "scan" (other kernels, repeated), "reshape" (a copy in row-major order), "single" (one operation with an
        emitter of its own), "interpreted" (no native code).
    symbols: the operations, in order. domain: the shape it runs over, without axes of size 1.
    """

    kind: str
    symbols: list[Symbol]
    domain: tuple[int, ...]
    axes: tuple[int, ...] | None = None  # of the domain, that its reductions reduce
    depends_on: set[Kernel] = field(default_factory=set)  # kernels whose results it reads
    no_fuse: set[Kernel] = field(
        default_factory=set
    )  # kernels that it reads at another index than its own: never fused
    stored: list[Symbol] = field(default_factory=list)  # its symbols that are written to memory
    has_check: bool = False  # whether it checks an index
    in_backward: bool = False  # whether it belongs to the backward phase
    scan_kernels: ScanKernels | None = None  # of a scan, its body
    per_row: set[Symbol] = field(default_factory=set)  # computed from reductions, once for each row
    packed: bool = False  # a copy of weights, reused between calls until they change

    @property
    def root(self) -> Symbol:
        return self.symbols[0]

    @property
    def single_op(self) -> Op | None:
        """The operation of a kernel that computes it alone, with an emitter of its own."""
        return self.root.op if self.kind == "single" else None

    @property
    def reductions(self) -> list[Symbol]:
        return [s for s in self.symbols if isinstance(s.op, Reducing)] if self.kind == "loop" else []

    @property
    def kept_axes(self) -> list[int]:
        """The axes of the domain that its reductions do not reduce."""
        return [axis for axis in range(len(self.domain)) if axis not in (self.axes or ())]

    def is_per_row(self, symbol: Symbol) -> bool:
        """Whether this operation gives one scalar per row: a reduction, or computed from one."""
        return symbol in self.per_row or symbol in self.reductions

    def is_internal(self, symbol: Symbol) -> bool:
        """Whether the kernel computes `symbol` and can read it without memory."""
        return symbol in self.symbols and (self.kind in ("loop", "product") or self.scan_kernels is not None)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.domain}: {' '.join(s.op_name for s in self.symbols)}>"


@dataclass(eq=False)
class ScanKernels:
    """The body of a scan as kernels. layout: of their results, once it is decided."""

    body: ScanBody
    graph: Graph
    kernels: list[Kernel]
    layout: Layout | None = None


def operands(symbol: Symbol) -> list[View]:
    """The inputs of an elementwise operation as views, by the indices of its result."""
    return [broadcast(view_of(x), x.shape, symbol.shape) for x in symbol.inputs]


def is_native(symbol: Symbol) -> bool:
    """Whether its operation and all its dtypes have native code."""
    dtypes = all(s.dtype.name in NATIVE for s in (symbol, *symbol.inputs))
    return dtypes and (symbol.op.kind != "elementwise" or getattr(symbol.op, "native", None) is not None)  # type: ignore[union-attr]


def is_movement(symbol: Symbol) -> bool:
    return symbol.op is None or symbol.op.is_view


def _along(v: View, reader: Symbol, kept_axes: list[int]) -> bool:
    """Whether the reader reads one scalar per row of the source, at every index of the row."""
    axes = [axis for axis, size in enumerate(reader.shape) if size != 1]
    indices = [i for i, size in zip(v.indices, v.source.shape, strict=True) if size != 1]
    return indices == [AffineIndex(0, ((axes[axis], 1),)) for axis in kept_axes]


class Fusion:
    """Builds the kernels of a graph, operation by operation."""

    def __init__(self, graph: Graph, fuse: bool = True, copies: Copies | None = None) -> None:
        self.order = {symbol: i for i, symbol in enumerate(graph.symbols)}
        self.fuse, self.copies = fuse, copies or {}
        self.in_backward = backward_phase(graph, self.copies)
        self.kernels: list[Kernel] = []
        self.home: dict[Symbol, Kernel] = {}

    def add(self, symbol: Symbol) -> None:
        op, kind = symbol.op, symbol.op.kind  # type: ignore[union-attr]
        if kind == "loop":
            self._loop(symbol)
        elif is_movement(symbol):
            if (
                op is reshape and view_of(symbol).source is symbol
            ):  # a reshape that needs row-major memory, by a copy if necessary
                self._single("reshape", symbol)
        elif not is_native(symbol):
            self._single("interpreted", symbol)
        elif kind == "elementwise" or op is check_index:
            self._elementwise(symbol)
        elif isinstance(op, Reducing):
            self._reduction(symbol)
        elif op in PRODUCTS and symbol.dtype == np.float32:
            self._single("product", symbol)
        else:
            self._single("single" if op in SINGLE_OP_EMITTERS else "interpreted", symbol)

    def _single(self, kind: str, symbol: Symbol) -> None:
        kernel = Kernel(kind, [symbol], squeezed_shape(symbol.shape), in_backward=symbol in self.in_backward)
        kernel.depends_on = self._homes(view_of(x) for x in symbol.inputs)
        kernel.no_fuse = set(kernel.depends_on)
        self._register(kernel)

    def _loop(self, symbol: Symbol) -> None:
        """A scan, or a part of one."""
        if symbol.op is part:
            kernel = self.home[symbol.inputs[0]]
            kernel.symbols.append(symbol)
            self.home[symbol] = kernel
            return
        body = symbol.attributes["body"]
        graph = copy_results(body.graph)
        scan = ScanKernels(body, graph, fuse_operations(graph, self.fuse))
        self._single("scan" if all(k.kind != "interpreted" for k in scan.kernels) else "interpreted", symbol)
        kernel = self.home[symbol]
        kernel.domain, kernel.scan_kernels = (body.length,), scan
        kernel.has_check = any(k.has_check for k in scan.kernels)

    def _homes(self, views: object) -> set[Kernel]:
        return {self.home[v.source] for v in views if v.source in self.home}  # type: ignore[attr-defined]

    def _register(self, kernel: Kernel) -> None:
        if kernel not in self.kernels:
            self.kernels.append(kernel)
        for symbol in kernel.symbols:
            self.home[symbol] = kernel

    def _elementwise(self, symbol: Symbol) -> None:
        kernel = Kernel("loop", [symbol], squeezed_shape(symbol.shape), in_backward=symbol in self.in_backward)
        views = operands(symbol)
        kernel.depends_on = self._homes(views)
        self._register(kernel)
        if not self.fuse:
            return
        for v in views:
            home = self.home.get(v.source)
            made_for = self.copies.get(symbol)  # rematerialized for one kernel: it joins no other
            separate = made_for is not None and self.copies.get(v.source) is not made_for
            if home is not None and (separate or not self._aligned(home, v, symbol)):
                kernel.no_fuse.add(home)
        for other in sorted(kernel.depends_on - kernel.no_fuse, key=self.kernels.index, reverse=True):
            if other in self.kernels:
                kernel = self._fuse(other, kernel)

    def _aligned(self, home: Kernel, v: View, symbol: Symbol) -> bool:
        """Whether `symbol`, fused into `home`, would read the source of `v` at its own index or in its own row."""
        if not home.is_per_row(v.source):
            return squeezed_shape(symbol.shape) == home.domain and is_identity(v, symbol)
        rows = math.prod(home.domain[axis] for axis in home.kept_axes)
        if rows < MIN_ROWS:
            return False
        if squeezed_shape(symbol.shape) == tuple(home.domain[axis] for axis in home.kept_axes) and is_identity(
            v, symbol
        ):
            return True
        return squeezed_shape(symbol.shape) == home.domain and _along(v, symbol, home.kept_axes) and (
            math.prod(home.domain) // rows <= MAX_ROW
        )  # fmt: skip

    def _reduction(self, symbol: Symbol) -> None:
        x = symbol.inputs[0]
        attributes = symbol.attributes
        axes = attributes["axes"] if "axes" in attributes else (attributes["axis"],)
        long = [axis for axis, size in enumerate(x.shape) if size != 1]
        along = tuple(i for i, axis in enumerate(long) if axis in axes)
        kernel = Kernel("loop", [symbol], squeezed_shape(x.shape), along, in_backward=symbol in self.in_backward)
        view = view_of(x)
        kernel.depends_on = self._homes([view])
        self._register(kernel)
        source = self.home.get(view.source)
        if source is None or not self.fuse or source.kind != "loop" or source.domain != kernel.domain:
            return
        if is_identity(view, x) and not source.is_per_row(view.source):
            self._fuse(source, kernel)
        else:
            kernel.no_fuse.add(source)

    def _fuse(self, first: Kernel, second: Kernel) -> Kernel:
        """Fuse two kernels where that is allowed. Returns the fused kernel, or `second`."""
        if not self._may_fuse(first, second):
            return second
        whole, merged = (second, first) if second.kind == "product" else (first, second)
        symbols = sorted({*whole.symbols, *merged.symbols}, key=lambda s: self.order[s])
        if whole.kind == "product":
            symbols.remove(whole.root)
            symbols.insert(0, whole.root)
        whole.symbols = symbols
        whole.per_row |= merged.per_row
        if merged.domain != whole.domain:
            whole.per_row |= set(merged.symbols)
        whole.axes = merged.axes if whole.axes is None else whole.axes
        whole.depends_on = (whole.depends_on | merged.depends_on) - {whole, merged}
        whole.no_fuse |= merged.no_fuse
        self.kernels.remove(merged)
        for kernel in self.kernels:
            for kernels in (kernel.depends_on, kernel.no_fuse):
                if merged in kernels:
                    kernels.discard(merged)
                    kernels.add(whole)
        self._register(whole)
        return whole

    def fuse_siblings(self) -> None:
        """Horizontal fusion: reductions over the same axes of the same large array become one kernel."""
        if not self.fuse:
            return
        largest: dict[tuple[Symbol, tuple[int, ...], tuple[int, ...] | None], Kernel] = {}
        for kernel in list(self.kernels):
            for source in external_operands(kernel) if kernel.kind == "loop" and kernel.axes else ():
                if kernel not in self.kernels:
                    break
                about = (source, kernel.domain, kernel.axes)
                other = largest.setdefault(about, kernel) if source.size >= LARGE_ARRAY else kernel
                if other is not kernel and other in self.kernels:
                    whole = self._fuse(other, kernel)
                    kernel = largest[about] = whole

    def _may_fuse(self, first: Kernel, second: Kernel) -> bool:
        kinds = {first.kind, second.kind}
        reducing = [kernel.axes for kernel in (first, second) if kernel.axes is not None]
        if kinds == {"loop"}:
            fitting = len(set(reducing)) <= 1  # fused reductions reduce the same axes
        else:
            fitting = (
                kinds == {"loop", "product"} and not reducing
            )  # one product and elementwise operations on its result
            fitting = fitting and all(
                k.kind == "loop" or contraction_size(k.root) < LONG_CONTRACTION for k in (first, second)
            )
        if first.domain != second.domain:
            rows = [first.domain[axis] for axis in first.kept_axes] if first.axes is not None else None
            fitting = fitting and second.axes is None and rows is not None and tuple(rows) == second.domain
        if not fitting or first.in_backward != second.in_backward or first in second.no_fuse or second in first.no_fuse:
            return False
        return not self._between(first, second) and not self._between(second, first)

    def _between(self, first: Kernel, second: Kernel) -> bool:
        """Whether `second` depends on `first` through a third kernel."""
        return _reaches(second.depends_on - {first}, first, lambda kernel: kernel.depends_on)


def _reaches(starts: Iterable[Kernel], goal: Kernel, below: Callable[[Kernel], Iterable[Kernel]]) -> bool:
    """Whether `goal` can be reached from one of `starts`."""
    waiting, visited = list(starts), set[Kernel]()
    while waiting:
        kernel = waiting.pop()
        if kernel is goal:
            return True
        if kernel not in visited:
            visited.add(kernel)
            waiting.extend(below(kernel))
    return False


def copy_results(graph: Graph) -> Graph:
    """Copy each result that is an input, a constant, a view, or another result, so that every result has its own operation."""
    taken: set[Symbol] = set()
    copies: list[Symbol] = []

    def own(symbol: Symbol) -> Symbol:
        if is_movement(symbol) or symbol in taken or symbol.op.kind == "loop":  # type: ignore[union-attr]
            symbol = emit(cast, symbol, origin=symbol.origin, dtype=symbol.dtype)
            copies.append(symbol)
        taken.add(symbol)
        return symbol

    writes = [(entry, own(s)) for entry, s in graph.writes]
    outputs = [own(s) for s in graph.outputs]
    return Graph(graph.inputs, graph.symbols + copies, outputs, writes)


def fuse_operations(graph: Graph, fuse: bool = True, copies: Copies | None = None) -> list[Kernel]:
    """The kernels of `graph` in an order in which they can run, with the symbols that each stores.

    copies: operations that stand there once more, for the kernel that reads them and not for the one of the original.
    """
    fusion = Fusion(graph, fuse, copies)
    for symbol in graph.symbols:
        fusion.add(symbol)
    fusion.fuse_siblings()
    _mark_stored(graph, fusion)
    _mark_checks(graph, fusion)
    # Dead code may remain. Of its kernels, keep only bounds checks.
    fusion.kernels = [
        k for k in fusion.kernels if k.stored or (has_bounds_check(k) and (k.kind == "loop" or k.scan_kernels))
    ]
    return _in_order(graph, fusion)


def _mark_stored(graph: Graph, fusion: Fusion) -> None:
    needed: set[Symbol] = set(graph.results)
    for kernel in fusion.kernels:
        for symbol in kernel.symbols:
            for x in symbol.inputs:
                view = view_of(x)
                if not kernel.is_internal(view.source):
                    needed.add(view.source)
    for kernel in fusion.kernels:
        kernel.stored = [s for s in kernel.symbols if s in needed]


def _in_order(graph: Graph, fusion: Fusion) -> list[Kernel]:
    """Order the kernels: readers of a Tensor before its writer, bounds checks before all writes, else as traced."""
    before: dict[Kernel, set[Kernel]] = {k: set(k.depends_on) for k in fusion.kernels}
    readers: dict[Symbol, list[Kernel]] = {}
    for kernel in fusion.kernels:
        for source in external_operands(kernel):
            for symbol in beneath(source):
                readers.setdefault(symbol, []).append(kernel)
    for entry, symbol in graph.writes:
        writer = fusion.home[symbol]
        for kernel in readers.get(entry.symbol, ()):
            if kernel is not writer and not _reaches([kernel], writer, before.__getitem__):
                before[writer].add(kernel)
    position = {s: i for i, s in enumerate(graph.symbols)}
    left = sorted(fusion.kernels, key=lambda k: (not has_bounds_check(k), min(position[s] for s in k.symbols)))
    results = set(graph.results)
    return [
        kernel
        for late in (False, True)
        for kernel in _schedule_for_memory([k for k in left if k.in_backward == late], before, results)
    ]


def _schedule_for_memory(left: list[Kernel], before: dict[Kernel, set[Kernel]], results: set[Symbol]) -> list[Kernel]:
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
        kernel = next((k for k in ready if gain(k) >= EARLY_FREE_BYTES), ready[0])
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


def has_bounds_check(kernel: Kernel) -> bool:
    return kernel.has_check


def _mark_checks(graph: Graph, fusion: Fusion) -> None:
    """Mark the kernels that check an index first. A second use of it, as in a gradient, needs no check."""
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
            fusion.home[symbol].has_check = True


def external_operands(kernel: Kernel) -> dict[Symbol, None]:
    """The Symbols that the kernel reads from memory."""
    external: dict[Symbol, None] = {}
    for symbol in kernel.symbols:
        for x in symbol.inputs:
            view = view_of(x)
            if not kernel.is_internal(view.source) and (view.source.constant is None or view.source.size > 1):
                external[view.source] = None
    return external


def dtype_size(symbol: Symbol) -> int:
    return np.dtype(symbol.dtype).itemsize
