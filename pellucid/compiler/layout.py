"""Which axis of each stored Symbol lies contiguous in memory, and which operands are copied for it (floor 4).

A Tensor's own memory is in row order, always: no program converts another's weights. What lies between is free. A matrix
product reads one operand number by number and the other vector by vector; the second, and the result, want their own
axis contiguous. Each product takes the orientation that costs the fewest numbers moved, and elementwise kernels follow
what they read. For a batch of examples this usually stores activations with the batch innermost, so that weights are
read, multiplied and updated where they lie.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..op import Symbol
from .fuse import Kernel, operands
from .graph import Graph
from .llvm import Target
from .passes import apply
from .views import View, core, row_major, view

CROWDED = 512  # bytes: rows a multiple of this apart fall into few sets of the cache, so they are padded by one vector


@dataclass(eq=False)
class Layout:
    """strides: in elements, one per axis of each stored Symbol. vector: for a product, "m" or "n", the axis of its vectors.
    same: a reshape that is the memory of another Symbol."""

    strides: dict[Symbol, tuple[int, ...]]
    vector: dict[Kernel, str]
    same: dict[Symbol, Symbol]
    operand: dict[tuple[Kernel, int], Symbol]  # a copy to read in place of a product's operand


def laid_out(graph: Graph, kernels: list[Kernel], target: Target) -> tuple[list[Kernel], Layout]:
    """The kernels, with the copies that products need put in, and the layout of all they store."""
    worker = _Worker(graph, target)
    result: list[Kernel] = []
    for kernel in kernels:
        result += [*worker.place(kernel), kernel]
    return result, worker.layout


class _Worker:
    def __init__(self, graph: Graph, target: Target) -> None:
        self.target = target
        self.fixed = set(graph.results)  # these have to lie in row order
        self.layout = Layout({slot.symbol: row_major(slot.symbol.shape) for slot in graph.inputs}, {}, {}, {})
        self.copies: dict[tuple[Symbol, str], tuple[Symbol, Kernel]] = {}

    def along(self, seen: View, rank: int) -> tuple[int, ...]:
        return seen.address(self.strides_of(seen.source), rank)[1]

    def strides_of(self, symbol: Symbol) -> tuple[int, ...]:
        return self.layout.strides.get(symbol) or row_major(symbol.shape)

    def place(self, kernel: Kernel) -> list[Kernel]:
        """Decide the layout of what `kernel` stores; give the copies that have to come before it."""
        if kernel.kind == "product":
            return self._product(kernel)
        if kernel.kind == "reshape":
            self._reshape(kernel)
        elif kernel.kind == "loop":
            self._store(kernel, self._order(kernel))
        else:
            for symbol in kernel.stored:
                self.layout.strides[symbol] = row_major(symbol.shape)
        return []

    def _store(self, kernel: Kernel, order: list[int]) -> None:
        """Strides for everything stored: domain axes from the outermost in `order`, except results, which keep row order."""
        for symbol in kernel.stored:
            if symbol in self.fixed:
                self.layout.strides[symbol] = row_major(symbol.shape)
                continue
            axes = domain_axes(kernel, symbol)
            sizes = dict(zip(axes, core(symbol.shape), strict=True))
            step, strides = 1, {}
            for axis in reversed([axis for axis in order if axis in sizes]):
                strides[axis] = step
                step = self._padded(step * sizes[axis], step, symbol)
            values = iter(axes)
            self.layout.strides[symbol] = tuple(0 if size == 1 else strides[next(values)] for size in symbol.shape)

    def _padded(self, step: int, inner: int, symbol: Symbol) -> int:
        bytes_ = step * symbol.dtype.itemsize
        if inner != 1 or step < self.target.lanes:
            return step
        whole = -(-step // 16) * 16
        return whole + 16 if bytes_ % CROWDED == 0 else whole

    def _order(self, kernel: Kernel) -> list[int]:
        """The axes of a loop, outermost first: as its largest operands lie."""
        rank = len(kernel.domain)
        weight = dict.fromkeys(range(rank), 0)
        best: tuple[int, tuple[int, ...]] = (0, ())
        for symbol in kernel.symbols:
            for along in self.reads(kernel, symbol):
                moved = math.prod(n for n, stride in zip(kernel.domain, along, strict=True) if stride)
                if moved > best[0]:
                    best = (moved, along)
        strides = best[1] or tuple(range(rank, 0, -1))
        return sorted(weight, key=lambda axis: (-strides[axis] if strides[axis] else -(1 << 60), axis))

    def reads(self, kernel: Kernel, symbol: Symbol) -> list[tuple[int, ...]]:
        """The strides along the kernel's domain of each operand that `symbol` reads from memory."""
        if symbol.op.kind == "elementwise" or symbol.op.name == "within":  # type: ignore[union-attr]
            seen, shape = operands(symbol), symbol.shape
        else:
            seen, shape = [view(symbol.inputs[0])], symbol.inputs[0].shape
        found = []
        for v in seen:
            if v.source not in kernel.symbols and (v.source.constant is None or v.source.size > 1):
                along = self.along(v, len(shape))
                found.append(tuple(a for a, size in zip(along, shape, strict=True) if size != 1))
        return found

    def _reshape(self, kernel: Kernel) -> None:
        """A reshape of what lies in row order is that memory; another is copied there."""
        symbol = kernel.anchor
        x = symbol.inputs[0]
        seen = view(x)
        self.layout.strides[symbol] = row_major(symbol.shape)
        offset, along = seen.address(self.strides_of(seen.source), x.ndim)
        wanted = row_major(x.shape)
        lies = all(a == w for a, w, size in zip(along, wanted, x.shape, strict=True) if size != 1)
        if lies and offset == 0 and seen.source.constant is None:
            self.layout.same[symbol] = seen.source

    # ---- products ----

    def _product(self, kernel: Kernel) -> list[Kernel]:
        product = kernel.anchor
        a, b = product.inputs
        along_a, along_b = self.along(view(a), a.ndim), self.along(view(b), b.ndim)
        m, n = product.shape[-2:]
        cost = {
            "m": (0 if along_a[-2] == 1 or m == 1 else 2 * a.size) + self._mismatch(kernel, -2),
            "n": (0 if along_b[-1] == 1 or n == 1 else 2 * b.size) + self._mismatch(kernel, -1),
        }
        for name, size in (("m", m), ("n", n)):
            lanes = self.target.lanes
            empty = -(-size // lanes) * lanes - size
            cost[name] += product.size * a.shape[-1] * empty // (3 * max(size, 1))
            if 1 < size < lanes:  # what follows, a softmax say, would run through short rows
                cost[name] += 4 * product.size
        if min(m, n) < self.target.lanes // 2 and along_a[-1] == 1 and along_b[-2] == 1:
            cost["k"] = product.size * a.shape[-1] // 8  # a few rows: vectors along k, nothing to copy
        vector = min(cost, key=lambda name: (cost[name], "nmk".index(name)))
        self.layout.vector[kernel] = vector
        rank = len(kernel.domain)
        order = list(range(rank))
        if vector == "m" and m != 1 and n != 1:
            order[-2:] = [order[-1], order[-2]]
        self._store(kernel, order)
        side, x, along = (0, a, along_a[-2]) if vector == "m" else (1, b, along_b[-1])
        size = 1 if vector == "k" else m if vector == "m" else n
        return self._copied(kernel, side, x) if along != 1 and size != 1 else []

    def _mismatch(self, kernel: Kernel, axis: int) -> int:
        """What it costs that operands and results of the epilogue do not lie along the product's `axis`."""
        product = kernel.anchor
        if product.shape[axis] == 1:
            return 0
        where = sum(1 for size in product.shape[: axis % product.ndim] if size != 1)
        lies = [self.strides_of(s) for s in kernel.stored if s in self.fixed]
        strides = [
            tuple(x for x, size in zip(row, product.shape[-len(row) :], strict=False) if size != 1) for row in lies
        ]
        for symbol in kernel.symbols[1:]:
            strides += [along for along in self.reads(kernel, symbol) if all(along)]
        return 4 * product.size * sum(1 for row in strides if len(row) == len(kernel.domain) and row[where] != 1)

    def _copied(self, kernel: Kernel, side: int, x: Symbol) -> list[Kernel]:
        """A copy of an operand with its own axis contiguous, made once for all products that want it."""
        seen = view(x)
        key = (x if x in self.layout.strides else seen.source, f"{side} {seen.indices}")
        known = self.copies.get(key)
        if known is None:
            copy = apply("cast", x, origin=x.origin, dtype=x.dtype)
            made = Kernel("copy", [copy], core(x.shape), stored=[copy])
            order = list(range(len(made.domain)))
            if side == 0 and 1 not in x.shape[-2:]:
                order[-2:] = [order[-1], order[-2]]
            self._store(made, order)
            self.copies[key] = (copy, made)
            self.layout.operand[kernel, side] = copy
            return [made]
        self.layout.operand[kernel, side] = known[0]
        return []


def domain_axes(kernel: Kernel, symbol: Symbol) -> list[int]:
    """The axes of the kernel's domain that `symbol`'s own axes (those not of size 1) run along."""
    rank = len(kernel.domain)
    if symbol in kernel.reductions and kernel.axes is not None:
        return [axis for axis in range(rank) if axis not in kernel.axes]
    return list(range(rank))
