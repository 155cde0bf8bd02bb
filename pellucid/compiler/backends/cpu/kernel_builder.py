"""Builds the kernel IR of a fused kernel from its Symbols and their layout (floor 4)."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from ....core.value import Symbol
from ....ops.elementwise import cast
from ....ops.index import check_index
from ....ops.movement import pad
from ....ops.reduce import Reducing
from ...ir.views import View, is_scalar, row_major, squeezed_shape, view_of
from .fusion import Kernel, operands
from .kernel_ir import Constant, Contraction, Instruction, KernelSpec, Load, Operand, Scalar, Store
from .layout import CONTAINERS, Layout, domain_axes
from .prepare.contractions import labels


class KernelSpecBuilder:
    """Builds the spec of one kernel, and collects the Symbols that its pointers stand for."""

    def __init__(self, kernel: Kernel, layout: Layout) -> None:
        self.kernel, self.layout = kernel, layout
        self.pointers: list[Symbol] = []
        self.loads: dict[Symbol, int] = {}  # the pointer of its Loads and Stores
        self.scalars: dict[Symbol, int] = {}
        self.numbers = {s: i for i, s in enumerate(kernel.symbols)}

    def pointer(self, symbol: Symbol) -> int:
        if symbol not in self.loads:
            self.loads[symbol] = len(self.pointers)
            self.pointers.append(symbol)
        return self.loads[symbol]

    def scalar(self, symbol: Symbol) -> int:
        """The pointer of a Scalar. The symbol may have another one for Loads, as an operand of a product."""
        if symbol not in self.scalars:
            self.scalars[symbol] = len(self.pointers)
            self.pointers.append(symbol)
        return self.scalars[symbol]

    @property
    def is_loop(self) -> bool:
        return self.kernel.kind in ("loop", "product", "copy", "reshape")

    def load(self, view: View, shape: tuple[int, ...]) -> Load:
        """The Load of a view by a reader of `shape`; in loops without the axes of size 1."""
        offset, strides = view.address(self.strides_of(view.source), len(shape))
        if self.is_loop:
            strides = tuple(a for a, size in zip(strides, shape, strict=True) if size != 1)
        return Load(self.pointer(view.source), offset, strides, view.source.dtype.name)

    def strides_of(self, symbol: Symbol) -> tuple[int, ...]:
        return self.layout.strides.get(symbol) or row_major(symbol.shape)  # constants are row-major

    def operand(self, view: View, shape: tuple[int, ...]) -> Operand:
        source = view.source
        if self.is_loop and source in self.numbers:
            return self.numbers[source]
        if self.is_loop and source.constant is not None and source.size == 1:
            return Constant(source.constant.item(), source.dtype.name, source.constant.tobytes())
        if self.kernel.kind in ("loop", "product") and is_scalar(source):
            return Scalar(self.scalar(source), source.dtype.name)
        return self.load(view, shape)

    def spec(self) -> KernelSpec:
        kernel = self.kernel
        if kernel.kind == "reshape":
            return self.row_copy()
        product = self.product() if kernel.kind == "product" else None
        instructions: list[Instruction] = []
        for symbol in kernel.symbols:
            op = symbol.op
            assert op is not None
            if product is not None and symbol is kernel.root:
                read: tuple[Operand, ...] = ()
            elif op.kind == "elementwise" or op is check_index:
                read = tuple(self.operand(v, symbol.shape) for v in operands(symbol))
            else:
                read = tuple(self.operand(view_of(x), x.shape) for x in symbol.inputs)
            attributes = tuple(sorted((k, _hashable(v)) for k, v in symbol.attributes.items() if k != "message"))
            if kernel.single_op in CONTAINERS and self.layout.holds_source_of(symbol):
                attributes += (("inside", padding_extents(symbol)),)
            per_row = kernel.is_per_row(symbol)
            if symbol in kernel.per_row:
                read = tuple(self._in_rows(x) if isinstance(x, Load) else x for x in read)
            instruction = Instruction(op, attributes, symbol.dtype.name, read, 0, per_row)
            instructions.append(instruction._replace(level=_level(instruction, instructions)))
        shapes = () if self.is_loop else tuple(x.shape for x in (*kernel.root.inputs, kernel.root))
        sums = bool(kernel.axes) and any(_rounds(instruction) for instruction in instructions)
        by_row = self.layout.by_row and (sums or (product is not None and product.dots))
        return KernelSpec(
            kernel.kind, kernel.domain, kernel.axes or (), tuple(instructions), self.stores(), product, shapes, by_row
        )

    def _in_rows(self, load: Load) -> Load:
        """A Load that is the same everywhere in a row."""
        strides = [0] * len(self.kernel.domain)
        for axis, stride in zip(self.kernel.kept_axes, load.strides, strict=True):
            strides[axis] = stride
        return load._replace(strides=tuple(strides))

    def row_copy(self) -> KernelSpec:
        """A reshape that copies its input into row-major order."""
        symbol, x = self.kernel.root, self.kernel.root.inputs[0]
        dtype, domain = symbol.dtype.name, squeezed_shape(x.shape)
        instruction = Instruction(cast, (("dtype", dtype),), dtype, (self.operand(view_of(x), x.shape),))
        store = Store(0, self.pointer(symbol), row_major(domain), dtype)
        return KernelSpec("copy", domain, (), (instruction,), (store,))

    def stores(self) -> tuple[Store, ...]:
        stores = []
        for symbol in self.kernel.stored:
            along = [0] * len(self.kernel.domain)
            if self.is_loop:
                strides = [s for s, size in zip(self.layout.strides[symbol], symbol.shape, strict=True) if size != 1]
                for axis, stride in zip(domain_axes(self.kernel, symbol), strides, strict=True):
                    along[axis] = stride
            else:
                along = list(self.layout.strides[symbol])
            stores.append(Store(self.numbers[symbol], self.pointer(symbol), tuple(along), symbol.dtype.name))
        return tuple(stores)

    def product(self) -> Contraction:
        kernel, symbol = self.kernel, self.kernel.root
        *sides, whole = labels(symbol)
        summed = [letter for letter in sides[0] if letter is not None and letter not in whole]
        loads = []
        for side, x in enumerate(symbol.inputs):
            copy = self.layout.operand_copies.get((kernel, side))
            view = view_of(x) if copy is None else view_of(copy, {copy})
            offset, along = view.address(self.strides_of(view.source), x.ndim)
            by = dict(zip(sides[side], along, strict=True))
            strides = [by.get(letter, 0) for letter, size in zip(whole, symbol.shape, strict=True) if size != 1]
            strides += [by[letter] for letter in summed]
            loads.append(Load(self.pointer(view.source), offset, tuple(strides), view.source.dtype.name))
        long = [axis for axis, size in enumerate(symbol.shape) if size != 1]
        orientation = self.layout.orientations[kernel]
        rows, lanes = (long.index(axis) if axis in long else None for axis in (orientation.rows, orientation.lanes))
        sizes = dict(zip(sides[0], symbol.inputs[0].shape, strict=True))
        splat, vectors = (loads[1 - orientation.vectors], loads[orientation.vectors])
        contraction = Contraction(splat, vectors, tuple(sizes[k] for k in summed), rows, lanes, orientation.dots)
        return _order_summed_axes(contraction, self.layout.by_row)


def padding_extents(container: Symbol) -> tuple[tuple[int, int], ...]:
    """For each axis of a container, where the value inside begins and how many elements it fills. Empty where it fills all."""
    if container.op is pad:
        filled = tuple((start, count) for start, count, _ in container.attributes["slices"])
    else:
        b, c, p, q, k, l = container.inputs[0].shape
        filled = ((0, b), (0, c), (0, p * k), (0, q * l))
    return () if all(count == n for (_, count), n in zip(filled, container.shape, strict=True)) else filled


def _level(instruction: Instruction, before: list[Instruction]) -> int:
    """The level of an instruction: one more than that of per-row scalars that it reads for each element."""
    own = [before[x] for x in instruction.operands if isinstance(x, int)]
    return max((x.level + (x.per_row and not instruction.per_row) for x in own), default=0)


def _rounds(instruction: Instruction) -> bool:
    """Whether it combines floats in an order that shows in the result."""
    return isinstance(instruction.op, Reducing) and instruction.op.rounds and np.dtype(instruction.dtype).kind == "f"


def _order_summed_axes(product: Contraction, keep_order: bool) -> Contraction:
    """Order the summed axes by the strides of `splat`, outermost first, or keep their order; drop axes of size 1."""
    inner = len(product.splat.strides) - len(product.sizes)
    stride = lambda k: (-abs(product.splat.strides[inner + k]), -abs(product.vectors.strides[inner + k]))
    order = [k for k, size in enumerate(product.sizes) if size != 1]
    order = order if keep_order else sorted(order, key=stride)

    def reordered(x: Load) -> Load:
        return x._replace(strides=(*x.strides[:inner], *(x.strides[inner + k] for k in order)))

    sizes = tuple(product.sizes[k] for k in order)
    return product._replace(splat=reordered(product.splat), vectors=reordered(product.vectors), sizes=sizes)


def _hashable(value: object) -> Hashable:
    return (
        tuple(_hashable(v) for v in value)
        if isinstance(value, list | tuple)
        else str(value)
        if hasattr(value, "name")
        else value
    )
