"""From operations to kernels: what is computed in one pass over memory, and in which order the kernels run (floor 4).

Elementwise operations over one shape join a kernel, so that a number is read once, worked on in registers and written
once. They may follow a matrix product, whose results they take while those are still in registers. A reduction joins
them, and what is computed with its result joins too, row by row: a softmax or a layer norm goes over each row several
times while it is near. Two kernels join only where no third stands between them, so the order never becomes a circle.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ....core.value import Symbol
from ....ops.loop import part
from ...ir.graph import Graph
from ...ir.rewrite import emit
from ...ir.scan_body import ScanBody
from ...ir.views import VIEWS, AffineIndex, View, beneath, broadcast, is_identity, squeezed_shape, view_of
from ...passes.backward_phase import Copies, backward_phase
from .kernel_ir import REDUCTIONS
from .llvm import MEMORY
from .prepare.contractions import LONG_CONTRACTION, PRODUCTS, contraction_size

EARLY_FREE_BYTES = 1 << 20  # bytes that are worth an earlier turn
LARGE_ARRAY = 1 << 14  # numbers that do not stay near a core until the next kernel
MAX_ROW = 1 << 13  # numbers of a row that stay near while it is gone over again
MIN_ROWS = 8  # rows at least, so that threads have something to share
NATIVE = set(MEMORY) - {"float64"}


@dataclass(eq=False)
class Kernel:
    """What one native function computes.

    kind: "loop" (elementwise, perhaps ending in reductions), "product" (a matrix product and what follows it
        elementwise), "scan" (other kernels, repeated), or the name of a single operation; "interpreted" where there is no
        native rule for it.
    symbols: the operations, in order. domain: the shape it runs over, without axes of size 1.
    """

    kind: str
    symbols: list[Symbol]
    domain: tuple[int, ...]
    axes: tuple[int, ...] | None = None  # of the domain, that its reductions take away
    depends_on: set[Kernel] = field(default_factory=set)  # kernels whose results it reads
    no_fuse: set[Kernel] = field(default_factory=set)  # those it reads elsewhere than at its own position: never joined
    stored: list[Symbol] = field(default_factory=list)  # those of its symbols that have a place in memory
    has_check: bool = False  # whether it may find an index out of range
    in_backward: bool = False  # whether it belongs to the backward phase of a function that is run in two
    scan_kernels: ScanKernels | None = None  # what a loop repeats
    per_row: set[Symbol] = field(default_factory=set)  # computed from reductions, once for each row
    packed: bool = False  # a copy of weights, kept from call to call until they change

    @property
    def root(self) -> Symbol:
        return self.symbols[0]

    @property
    def reductions(self) -> list[Symbol]:
        return [s for s in self.symbols if s.op_name in REDUCTIONS] if self.kind == "loop" else []

    @property
    def kept_axes(self) -> list[int]:
        """The axes of the domain that its reductions leave."""
        return [axis for axis in range(len(self.domain)) if axis not in (self.axes or ())]

    def is_per_row(self, symbol: Symbol) -> bool:
        """Whether this operation gives one number for each row: a reduction, or computed from one."""
        return symbol in self.per_row or symbol in self.reductions

    def is_internal(self, symbol: Symbol) -> bool:
        """Whether `symbol` is made in here, and needs no memory for what else is made in here."""
        return symbol in self.symbols and (self.kind in ("loop", "product") or self.scan_kernels is not None)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.domain}: {' '.join(s.op_name for s in self.symbols)}>"


@dataclass(eq=False)
class ScanKernels:
    """The body of a loop as kernels. layout: of what they store, once it is decided."""

    body: ScanBody
    graph: Graph
    kernels: list[Kernel]
    layout: Any = None


def operands(symbol: Symbol) -> list[View]:
    """What an elementwise operation reads, as seen from its own shape."""
    return [broadcast(view_of(x), x.shape, symbol.shape) for x in symbol.inputs]


def is_native(symbol: Symbol) -> bool:
    """Whether every dtype it meets, and its operation, have native code."""
    known = all(s.dtype.name in NATIVE for s in (symbol, *symbol.inputs))
    return known and (symbol.op.kind != "elementwise" or getattr(symbol.op, "native", None) is not None)  # type: ignore[union-attr]


def is_movement(symbol: Symbol) -> bool:
    return symbol.op is None or symbol.op_name in VIEWS


def _along(v: View, reader: Symbol, kept: list[int]) -> bool:
    """Whether the reader finds one number of the source in each row, wherever it stands in it."""
    axes = [axis for axis, size in enumerate(reader.shape) if size != 1]
    indices = [i for i, size in zip(v.indices, v.source.shape, strict=True) if size != 1]
    return indices == [AffineIndex(0, ((axes[axis], 1),)) for axis in kept]


class Fusion:
    """The kernels of a graph while they grow."""

    def __init__(self, graph: Graph, fuse: bool = True, copies: Copies | None = None) -> None:
        self.order = {symbol: i for i, symbol in enumerate(graph.symbols)}
        self.fuse, self.copies = fuse, copies or {}
        self.in_backward = backward_phase(graph, self.copies)
        self.kernels: list[Kernel] = []
        self.home: dict[Symbol, Kernel] = {}

    def add(self, symbol: Symbol) -> None:
        name, kind = symbol.op_name, symbol.op.kind  # type: ignore[union-attr]
        if kind == "loop":
            self._loop(symbol)
        elif is_movement(symbol):
            if (
                name == "reshape" and view_of(symbol).source is symbol
            ):  # memory in row order; a kernel of its own may copy
                self._single("reshape", symbol)
        elif not is_native(symbol):
            self._single("interpreted", symbol)
        elif kind == "elementwise" or name == "within":
            self._elementwise(symbol)
        elif name in REDUCTIONS:
            self._reduction(symbol)
        elif name in PRODUCTS and symbol.dtype == np.float32:
            self._single("product", symbol)
        else:
            self._single(name if name in SINGLE_OP_KERNELS else "interpreted", symbol)

    def _single(self, kind: str, symbol: Symbol) -> None:
        kernel = Kernel(kind, [symbol], squeezed_shape(symbol.shape), in_backward=symbol in self.in_backward)
        kernel.depends_on = self._homes(view_of(x) for x in symbol.inputs)
        kernel.no_fuse = set(kernel.depends_on)
        self._register(kernel)

    def _loop(self, symbol: Symbol) -> None:
        """A loop, or a part of one."""
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
        seen = operands(symbol)
        kernel.depends_on = self._homes(seen)
        self._register(kernel)
        if not self.fuse:
            return
        for v in seen:
            home = self.home.get(v.source)
            made_for = self.copies.get(symbol)  # to join anything else would be to keep it after all
            remade = made_for is not None and self.copies.get(v.source) is not made_for
            if home is not None and (remade or not self._aligned(home, v, symbol)):
                kernel.no_fuse.add(home)
        for other in sorted(kernel.depends_on - kernel.no_fuse, key=self.kernels.index, reverse=True):
            if other in self.kernels:
                kernel = self._fuse(other, kernel)

    def _aligned(self, home: Kernel, v: View, symbol: Symbol) -> bool:
        """Whether `symbol`, in the kernel that computes what `v` sees, would find it at its own place, or in its own row."""
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
        how = symbol.attributes
        axes = how["axes"] if "axes" in how else (how["axis"],)
        long = [axis for axis, size in enumerate(x.shape) if size != 1]
        along = tuple(i for i, axis in enumerate(long) if axis in axes)
        kernel = Kernel("loop", [symbol], squeezed_shape(x.shape), along, in_backward=symbol in self.in_backward)
        seen = view_of(x)
        kernel.depends_on = self._homes([seen])
        self._register(kernel)
        source = self.home.get(seen.source)
        if source is None or not self.fuse or source.kind != "loop" or source.domain != kernel.domain:
            return
        if is_identity(seen, x) and not source.is_per_row(seen.source):
            self._fuse(source, kernel)
        else:
            kernel.no_fuse.add(source)

    def _fuse(self, first: Kernel, second: Kernel) -> Kernel:
        """Both as one kernel, where that is allowed; else `second` as it was."""
        if not self._may_fuse(first, second):
            return second
        whole, part = (second, first) if second.kind == "product" else (first, second)
        symbols = sorted({*whole.symbols, *part.symbols}, key=lambda s: self.order[s])
        if whole.kind == "product":
            symbols.remove(whole.root)
            symbols.insert(0, whole.root)
        whole.symbols = symbols
        whole.per_row |= part.per_row
        if part.domain != whole.domain:
            whole.per_row |= set(part.symbols)
        whole.axes = part.axes if whole.axes is None else whole.axes
        whole.depends_on = (whole.depends_on | part.depends_on) - {whole, part}
        whole.no_fuse |= part.no_fuse
        self.kernels.remove(part)
        for kernel in self.kernels:
            for known in (kernel.depends_on, kernel.no_fuse):
                if part in known:
                    known.discard(part)
                    known.add(whole)
        self._register(whole)
        return whole

    def fuse_siblings(self) -> None:
        """Reductions that take the same axes away and read the same large numbers read them once."""
        if not self.fuse:
            return
        largest: dict[tuple[Any, ...], Kernel] = {}
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
            fitting = len(set(reducing)) <= 1  # reductions that join take the same axes away
        else:
            fitting = kinds == {"loop", "product"} and not reducing  # one product, and what follows it number by number
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
        """Whether `second` needs something that needs `first`, other than by reading `first` itself."""
        return _reaches(second.depends_on - {first}, first, lambda kernel: kernel.depends_on)


def _reaches(starts: Iterable[Kernel], goal: Kernel, below: Callable[[Kernel], Iterable[Kernel]]) -> bool:
    """Whether a way down from one of `starts` comes to `goal`."""
    waiting, seen = list(starts), set[Kernel]()
    while waiting:
        kernel = waiting.pop()
        if kernel is goal:
            return True
        if kernel not in seen:
            seen.add(kernel)
            waiting.extend(below(kernel))
    return False


INDEXED = {"take", "rows", "gather", "scatter_add", "add_at", "put"}
SINGLE_OP_KERNELS = {"place", "concatenate", "add_windows", "bits", "take", "rows", "gather", "scatter_add", "add_at", "put",
          "cumulative_sum", "reshape", "attention", "attention_gradient"}  # fmt: skip


def copy_results(graph: Graph) -> Graph:
    """Give every result an operation of its own: an input, a constant or a view that is returned or written is copied."""
    taken: set[Symbol] = set()
    copies: list[Symbol] = []

    def own(symbol: Symbol) -> Symbol:
        if is_movement(symbol) or symbol in taken or symbol.op.kind == "loop":  # type: ignore[union-attr]
            symbol = emit("cast", symbol, origin=symbol.origin, dtype=symbol.dtype)
            copies.append(symbol)
        taken.add(symbol)
        return symbol

    writes = [(entry, own(s)) for entry, s in graph.writes]
    outputs = [own(s) for s in graph.outputs]
    return Graph(graph.inputs, graph.symbols + copies, outputs, writes)


def fuse_operations(graph: Graph, fuse: bool = True, copies: Copies | None = None) -> list[Kernel]:
    """The kernels of `graph`, in an order in which they can run, with what each has to store.

    copies: operations that stand there once more, for the kernel that reads them and not for the one of the original.
    """
    fusion = Fusion(graph, fuse, copies)
    for symbol in graph.symbols:
        fusion.add(symbol)
    fusion.fuse_siblings()
    _mark_stored(graph, fusion)
    _mark_checks(graph, fusion)
    # Dead code may have been left in; of that, only checks that stand for themselves remain.
    fusion.kernels = [
        k for k in fusion.kernels if k.stored or (has_bounds_check(k) and (k.kind == "loop" or k.scan_kernels))
    ]
    return _in_order(graph, fusion)


def _mark_stored(graph: Graph, fusion: Fusion) -> None:
    needed: set[Symbol] = set(graph.results)
    for kernel in fusion.kernels:
        for symbol in kernel.symbols:
            for x in symbol.inputs:
                seen = view_of(x)
                if not kernel.is_internal(seen.source):
                    needed.add(seen.source)
    for kernel in fusion.kernels:
        kernel.stored = [s for s in kernel.symbols if s in needed]


def _in_order(graph: Graph, fusion: Fusion) -> list[Kernel]:
    """Readers of a Tensor before the kernel that writes it, checks before all that write, else as recorded."""
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
    """The kernels in an order that `before` allows: as they come, but one that lets go of much more memory than it takes,
    such as the gradient of a weight, as soon as it can run."""
    own = {s: s.size * dtype_size(s) for kernel in left for s in kernel.stored if s not in results}
    reads = {kernel: [s for s in external_operands(kernel) if s in own] for kernel in left}
    waiting: dict[Symbol, int] = {}  # kernels that still have to read it
    for kernel in left:
        for s in reads[kernel]:
            waiting[s] = waiting.get(s, 0) + 1
    after: dict[Kernel, list[Kernel]] = {}
    among = set(left)  # what belongs to the forward phase has run when the backward phase begins
    missing = {kernel: len(before[kernel] & among) for kernel in left}
    for kernel in left:
        for earlier in before[kernel]:
            after.setdefault(earlier, []).append(kernel)
    place = {kernel: i for i, kernel in enumerate(left)}
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
                bisect.insort(ready, later, key=place.__getitem__)
    assert len(done) == len(left), "kernels wait for each other"
    return done


def has_bounds_check(kernel: Kernel) -> bool:
    return kernel.has_check


def _mark_checks(graph: Graph, fusion: Fusion) -> None:
    """Note which kernels look at an index first; what picks by it again, as gradients do, finds nothing new."""
    known: set[tuple[Symbol, Any]] = set()
    for symbol in graph.symbols:
        name = symbol.op_name
        if name in INDEXED:
            shape = symbol.attributes.get("shape", symbol.inputs[0].shape)
            bound = symbol.inputs[2] if name == "rows" else shape[symbol.attributes.get("axis", 0)]
            about = (symbol.inputs[1], bound)
            first = about not in known
            known.add(about)
        else:
            first = name == "within"
        if first:
            fusion.home[symbol].has_check = True


def external_operands(kernel: Kernel) -> dict[Symbol, None]:
    """The Symbols outside the kernel that it reads memory of."""
    found: dict[Symbol, None] = {}
    for symbol in kernel.symbols:
        for x in symbol.inputs:
            seen = view_of(x)
            if not kernel.is_internal(seen.source) and (seen.source.constant is None or seen.source.size > 1):
                found[seen.source] = None
    return found


def dtype_size(symbol: Symbol) -> int:
    return np.dtype(symbol.dtype).itemsize
