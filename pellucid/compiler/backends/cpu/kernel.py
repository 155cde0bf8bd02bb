"""Kernels: the operations that one native function computes (floor 4)."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from ....core.op import Op
from ....core.value import Symbol
from ....ops.reduce import Reducing
from ...ir.graph import Graph
from ...ir.scan_body import ScanBody
from ...ir.views import View, broadcast, view_of


@dataclass(frozen=True, eq=False)
class Kernel:
    """The operations that one native function computes.

    kind: "loop" (elementwise operations and reductions), "product" (a matrix product and elementwise operations on its
        result), "scan" (other kernels, repeated), "reshape" (a copy in row-major order), "single" (one operation with an
        emitter of its own), "copy" (of an operand, in another order of axes), "interpreted" (no native code).
    symbols: the operations, in order. domain: the shape it runs over, without axes of size 1. axes: those of the domain that
        its reductions reduce. per_row: operations computed from reductions, once for each row.
    stored: its symbols that are written to memory. has_check: whether it checks an index. in_backward: whether it belongs to
        the backward phase. scan: of a scan, its body. packed: a copy of weights, reused between calls until they change.
    """

    kind: str
    symbols: Sequence[Symbol]
    domain: tuple[int, ...]
    axes: tuple[int, ...] | None = None
    per_row: AbstractSet[Symbol] = frozenset()
    stored: Sequence[Symbol] = ()
    has_check: bool = False
    in_backward: bool = False
    scan: ScanKernels | None = None
    packed: bool = False

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
        return symbol in self.symbols and (self.kind in ("loop", "product") or self.scan is not None)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.domain}: {' '.join(s.op_name for s in self.symbols)}>"


@dataclass(frozen=True, eq=False)
class ScanKernels:
    """The body of a scan as kernels."""

    body: ScanBody
    graph: Graph
    kernels: list[Kernel]


def operands(symbol: Symbol) -> list[View]:
    """The inputs of an elementwise operation as views, by the indices of its result."""
    return [broadcast(view_of(x), x.shape, symbol.shape) for x in symbol.inputs]


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
