"""A kernel as plain data: instructions, where each operand is read and each result stored; no Symbols and no addresses (floor 4).

Two kernels with the same spec are the same native function, called with other pointers: equal layers share their code,
and the specs of a program are the key under which its code is kept on disk.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ....core.value import Symbol
from ...ir.views import View, is_scalar, row_major, squeezed_shape, view_of
from .fusion import Kernel, operands
from .kernel_ir import Constant, Contraction, Instruction, KernelSpec, Load, Scalar, Store
from .layout import CONTAINERS, Layout, domain_axes
from .prepare.contractions import labels


class KernelSpecBuilder:
    """Writes the spec of one kernel, and collects the Symbols that its pointers stand for."""

    def __init__(self, kernel: Kernel, layout: Layout) -> None:
        self.kernel, self.layout = kernel, layout
        self.pointers: list[Symbol] = []
        self.loads: dict[Symbol, int] = {}  # which pointer a Load or a Store goes by
        self.scalars: dict[Symbol, int] = {}
        self.numbers = {s: i for i, s in enumerate(kernel.symbols)}

    def pointer(self, symbol: Symbol) -> int:
        if symbol not in self.loads:
            self.loads[symbol] = len(self.pointers)
            self.pointers.append(symbol)
        return self.loads[symbol]

    def scalar(self, symbol: Symbol) -> int:
        """A pointer apart from that of Loads, of which the symbol may have one too: as an operand of a product."""
        if symbol not in self.scalars:
            self.scalars[symbol] = len(self.pointers)
            self.pointers.append(symbol)
        return self.scalars[symbol]

    @property
    def looping(self) -> bool:
        return self.kernel.kind in ("loop", "product", "copy", "reshape")

    def load(self, seen: View, shape: tuple[int, ...]) -> Load:
        """`seen` by a reader of `shape`; in loops without the axes of size 1."""
        offset, strides = seen.address(self.strides_of(seen.source), len(shape))
        if self.looping:
            strides = tuple(a for a, size in zip(strides, shape, strict=True) if size != 1)
        return Load(self.pointer(seen.source), offset, strides, seen.source.dtype.name)

    def strides_of(self, symbol: Symbol) -> tuple[int, ...]:
        return self.layout.strides.get(symbol) or row_major(symbol.shape)  # constants lie in row order

    def operand(self, seen: View, shape: tuple[int, ...]) -> Any:
        source = seen.source
        if self.looping and source in self.numbers:
            return self.numbers[source]
        if self.looping and source.constant is not None and source.size == 1:
            return Constant(source.constant.item(), source.dtype.name, source.constant.tobytes())
        if self.kernel.kind in ("loop", "product") and is_scalar(source):
            return Scalar(self.scalar(source), source.dtype.name)
        return self.load(seen, shape)

    def spec(self) -> KernelSpec:
        kernel = self.kernel
        if kernel.kind == "reshape":
            return self.row_copy()
        product = self.product() if kernel.kind == "product" else None
        instructions: list[Instruction] = []
        for symbol in kernel.symbols:
            if product is not None and symbol is kernel.root:
                read: tuple[Any, ...] = ()
            elif symbol.op.kind == "elementwise" or symbol.op_name == "within":  # type: ignore[union-attr]
                read = tuple(self.operand(v, symbol.shape) for v in operands(symbol))
            else:
                read = tuple(self.operand(view_of(x), x.shape) for x in symbol.inputs)
            attributes = tuple(sorted((k, _hashable(v)) for k, v in symbol.attributes.items() if k != "message"))
            if kernel.kind in CONTAINERS and self.layout.holds_source_of(symbol):
                attributes += (("inside", padding_extents(symbol)),)
            per_row = kernel.is_per_row(symbol)
            if symbol in kernel.per_row:
                read = tuple(self._in_rows(x) if isinstance(x, Load) else x for x in read)
            instruction = Instruction(symbol.op_name, attributes, symbol.dtype.name, read, 0, per_row)
            instructions.append(instruction._replace(level=_level(instruction, instructions)))
        shapes = () if self.looping else tuple(x.shape for x in (*kernel.root.inputs, kernel.root))
        sums = bool(kernel.axes) and any(_is_float_sum(instruction) for instruction in instructions)
        by_row = self.layout.by_row and (sums or (product is not None and product.dots))
        return KernelSpec(
            kernel.kind, kernel.domain, kernel.axes or (), tuple(instructions), self.stores(), product, shapes, by_row
        )

    def _in_rows(self, load: Load) -> Load:
        """What a row reads once: the same wherever in the row."""
        strides = [0] * len(self.kernel.domain)
        for axis, stride in zip(self.kernel.kept_axes, load.strides, strict=True):
            strides[axis] = stride
        return load._replace(strides=tuple(strides))

    def row_copy(self) -> KernelSpec:
        """A reshape that has to move numbers: a copy into row order, over the shape of what it reads."""
        symbol, x = self.kernel.root, self.kernel.root.inputs[0]
        dtype, domain = symbol.dtype.name, squeezed_shape(x.shape)
        instruction = Instruction("cast", (("dtype", dtype),), dtype, (self.operand(view_of(x), x.shape),))
        store = Store(0, self.pointer(symbol), row_major(domain), dtype)
        return KernelSpec("copy", domain, (), (instruction,), (store,))

    def stores(self) -> tuple[Store, ...]:
        found = []
        for symbol in self.kernel.stored:
            along = [0] * len(self.kernel.domain)
            if self.looping:
                strides = [s for s, size in zip(self.layout.strides[symbol], symbol.shape, strict=True) if size != 1]
                for axis, stride in zip(domain_axes(self.kernel, symbol), strides, strict=True):
                    along[axis] = stride
            else:
                along = list(self.layout.strides[symbol])
            found.append(Store(self.numbers[symbol], self.pointer(symbol), tuple(along), symbol.dtype.name))
        return tuple(found)

    def product(self) -> Contraction:
        kernel, symbol = self.kernel, self.kernel.root
        *sides, whole = labels(symbol)
        summed = [letter for letter in sides[0] if letter is not None and letter not in whole]
        loads = []
        for side, x in enumerate(symbol.inputs):
            copy = self.layout.operand_copies.get((kernel, side))
            seen = view_of(x) if copy is None else view_of(copy, {copy})
            offset, along = seen.address(self.strides_of(seen.source), x.ndim)
            by = dict(zip(sides[side], along, strict=True))
            strides = [by.get(letter, 0) for letter, size in zip(whole, symbol.shape, strict=True) if size != 1]
            strides += [by[letter] for letter in summed]
            loads.append(Load(self.pointer(seen.source), offset, tuple(strides), seen.source.dtype.name))
        long = [axis for axis, size in enumerate(symbol.shape) if size != 1]
        how = self.layout.orientations[kernel]
        rows, lanes = (long.index(axis) if axis in long else None for axis in (how.rows, how.lanes))
        sizes = dict(zip(sides[0], symbol.inputs[0].shape, strict=True))
        splat, vectors = (loads[1 - how.vectors], loads[how.vectors])
        found = Contraction(splat, vectors, tuple(sizes[k] for k in summed), rows, lanes, how.dots)
        return _order_summed_axes(found, self.layout.by_row)


def padding_extents(container: Symbol) -> tuple[tuple[int, int], ...]:
    """Of a Symbol that another is computed into, along each axis: where that begins, and how many numbers it fills; nothing
    where it fills all."""
    if container.op_name == "place":
        filled = tuple((start, count) for start, count, _ in container.attributes["slices"])
    else:
        b, c, p, q, k, l = container.inputs[0].shape
        filled = ((0, b), (0, c), (0, p * k), (0, q * l))
    return () if all(count == n for (_, count), n in zip(filled, container.shape, strict=True)) else filled


def _level(instruction: Instruction, before: list[Instruction]) -> int:
    """A number of the row waits for those of rows that it reads; those of rows stand at the end of their pass."""
    own = [before[x] for x in instruction.operands if isinstance(x, int)]
    return max((x.level + (x.per_row and not instruction.per_row) for x in own), default=0)


def _is_float_sum(instruction: Instruction) -> bool:
    """Whether it adds up numbers that are rounded."""
    return instruction.name == "sum" and np.dtype(instruction.dtype).kind == "f"


def _order_summed_axes(product: Contraction, as_written: bool) -> Contraction:
    """The axes that are summed over in the order in which the numbers read one by one lie, or as they are written; those of
    size 1 left out."""
    inner = len(product.splat.strides) - len(product.sizes)
    stride = lambda k: (-abs(product.splat.strides[inner + k]), -abs(product.vectors.strides[inner + k]))
    order = [k for k, size in enumerate(product.sizes) if size != 1]
    order = order if as_written else sorted(order, key=stride)

    def turned(x: Load) -> Load:
        return x._replace(strides=(*x.strides[:inner], *(x.strides[inner + k] for k in order)))

    sizes = tuple(product.sizes[k] for k in order)
    return product._replace(splat=turned(product.splat), vectors=turned(product.vectors), sizes=sizes)


def _hashable(value: Any) -> Any:
    return (
        tuple(_hashable(v) for v in value)
        if isinstance(value, list | tuple)
        else str(value)
        if hasattr(value, "name")
        else value
    )
