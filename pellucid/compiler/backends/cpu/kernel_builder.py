"""Builds the kernel IR of a fused kernel from its Symbols and their layout (floor 4)."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from ....core.value import Symbol
from ....ops.elementwise import cast
from ....ops.index import check_index
from ....ops.movement import pad
from ....ops.reduce import Reducing
from ...ir.views import View, is_scalar, long_axes, row_major, squeezed_shape, view_of
from .kernel import Kernel, operands
from .kernel_ir import Constant, Contraction, Instruction, KernelSpec, Load, Operand, Scalar, Store
from .layout import CONTAINERS, Layout, domain_axes
from .prepare.contractions import labels


class Pointers:
    """The numbers of a kernel's pointers, in the order in which they are asked for, and the Symbols they stand for."""

    def __init__(self) -> None:
        self.symbols: list[Symbol] = []
        self.numbers: dict[tuple[Symbol, bool], int] = {}

    def number(self, symbol: Symbol, is_scalar: bool = False) -> int:
        """The pointer of a Load or Store; or of a Scalar, which is another one: a product may read the Symbol in both ways."""
        if (symbol, is_scalar) not in self.numbers:
            self.numbers[symbol, is_scalar] = len(self.symbols)
            self.symbols.append(symbol)
        return self.numbers[symbol, is_scalar]


def build_spec(kernel: Kernel, layout: Layout) -> tuple[KernelSpec, list[Symbol]]:
    """The spec of a kernel, and the Symbols that its pointers stand for."""
    pointers = Pointers()
    build = _row_copy if kernel.kind == "reshape" else _spec
    return build(kernel, layout, pointers), pointers.symbols


def _is_loop(kernel: Kernel) -> bool:
    return kernel.kind in ("loop", "product", "copy", "reshape")


def _spec(kernel: Kernel, layout: Layout, pointers: Pointers) -> KernelSpec:
    product = _contraction(kernel, layout, pointers) if kernel.kind == "product" else None
    numbers = {s: i for i, s in enumerate(kernel.symbols)}
    instructions: list[Instruction] = []
    for symbol in kernel.symbols:
        read = (
            ()
            if product is not None and symbol is kernel.root
            else _operands(symbol, kernel, numbers, layout, pointers)
        )
        if symbol in kernel.per_row:
            read = tuple(_in_rows(x, kernel) if isinstance(x, Load) else x for x in read)
        assert symbol.op is not None
        attributes = _attributes(symbol, kernel, layout)
        instruction = Instruction(symbol.op, attributes, symbol.dtype.name, read, 0, kernel.is_per_row(symbol))
        instructions.append(instruction._replace(level=_level(instruction, instructions)))
    shapes = () if _is_loop(kernel) else tuple(x.shape for x in (*kernel.root.inputs, kernel.root))
    sums = bool(kernel.axes) and any(_rounds(instruction) for instruction in instructions)
    by_row = layout.by_row and (sums or (product is not None and product.dots))
    stores = _stores(kernel, numbers, layout, pointers)
    return KernelSpec(
        kernel.kind, kernel.domain, kernel.axes or (), tuple(instructions), stores, product, shapes, by_row
    )


def _attributes(symbol: Symbol, kernel: Kernel, layout: Layout) -> tuple[tuple[str, Hashable], ...]:
    attributes = tuple(sorted((k, _hashable(v)) for k, v in symbol.attributes.items() if k != "message"))
    if kernel.single_op in CONTAINERS and layout.holds_source_of(symbol):
        attributes += (("inside", padding_extents(symbol)),)
    return attributes


# ---- operands and stores -------------------------------------------------------------------------------------------------


def _operands(
    symbol: Symbol, kernel: Kernel, numbers: dict[Symbol, int], layout: Layout, pointers: Pointers
) -> tuple[Operand, ...]:
    """What the instruction of `symbol` reads. numbers: of the kernel's instructions."""
    op = symbol.op
    if op is not None and (op.kind == "elementwise" or op is check_index):
        views = [(view, symbol.shape) for view in operands(symbol)]
    else:
        views = [(view_of(x), x.shape) for x in symbol.inputs]
    return tuple(_operand(view, shape, kernel, numbers, layout, pointers) for view, shape in views)


def _operand(
    view: View, shape: tuple[int, ...], kernel: Kernel, numbers: dict[Symbol, int], layout: Layout, pointers: Pointers
) -> Operand:
    source, is_loop = view.source, _is_loop(kernel)
    if is_loop and source in numbers:
        return numbers[source]
    if is_loop and source.constant is not None and source.size == 1:
        return Constant(source.constant.item(), source.dtype.name, source.constant.tobytes())
    if kernel.kind in ("loop", "product") and is_scalar(source):
        return Scalar(pointers.number(source, is_scalar=True), source.dtype.name)
    return _load(view, shape, is_loop, layout, pointers)


def _load(view: View, shape: tuple[int, ...], is_loop: bool, layout: Layout, pointers: Pointers) -> Load:
    """The Load of a view by a reader of `shape`; in loops without the axes of size 1."""
    offset, strides = view.address(layout.strides_of(view.source), len(shape))
    if is_loop:
        strides = tuple(a for a, size in zip(strides, shape, strict=True) if size != 1)
    return Load(pointers.number(view.source), offset, strides, view.source.dtype.name)


def _in_rows(load: Load, kernel: Kernel) -> Load:
    """A Load that is the same everywhere in a row."""
    strides = [0] * len(kernel.domain)
    for axis, stride in zip(kernel.kept_axes, load.strides, strict=True):
        strides[axis] = stride
    return load._replace(strides=tuple(strides))


def _stores(kernel: Kernel, numbers: dict[Symbol, int], layout: Layout, pointers: Pointers) -> tuple[Store, ...]:
    stores = []
    for symbol in kernel.stored:
        along = [0] * len(kernel.domain)
        if _is_loop(kernel):
            strides = [s for s, size in zip(layout.strides_of(symbol), symbol.shape, strict=True) if size != 1]
            for axis, stride in zip(domain_axes(kernel, symbol), strides, strict=True):
                along[axis] = stride
        else:
            along = list(layout.strides_of(symbol))
        stores.append(Store(numbers[symbol], pointers.number(symbol), tuple(along), symbol.dtype.name))
    return tuple(stores)


def _row_copy(kernel: Kernel, layout: Layout, pointers: Pointers) -> KernelSpec:
    """A reshape that copies its input into row-major order."""
    symbol, x = kernel.root, kernel.root.inputs[0]
    dtype, domain = symbol.dtype.name, squeezed_shape(x.shape)
    read = _operand(view_of(x), x.shape, kernel, {}, layout, pointers)
    instruction = Instruction(cast, (("dtype", dtype),), dtype, (read,))
    store = Store(0, pointers.number(symbol), row_major(domain), dtype)
    return KernelSpec("copy", domain, (), (instruction,), (store,))


def _contraction(kernel: Kernel, layout: Layout, pointers: Pointers) -> Contraction:
    symbol = kernel.root
    *sides, whole = labels(symbol)
    summed = [letter for letter in sides[0] if letter is not None and letter not in whole]
    loads = []
    for side, x in enumerate(symbol.inputs):
        copy = layout.operand_copies.get((kernel, side))
        view = view_of(x) if copy is None else view_of(copy, {copy})
        offset, along = view.address(layout.strides_of(view.source), x.ndim)
        by = dict(zip(sides[side], along, strict=True))
        strides = [by.get(letter, 0) for letter, size in zip(whole, symbol.shape, strict=True) if size != 1]
        strides += [by[letter] for letter in summed]
        loads.append(Load(pointers.number(view.source), offset, tuple(strides), view.source.dtype.name))
    long = long_axes(symbol.shape)
    orientation = layout.orientations[kernel]
    rows, lanes = (long.index(axis) if axis in long else None for axis in (orientation.rows, orientation.lanes))
    sizes = dict(zip(sides[0], symbol.inputs[0].shape, strict=True))
    splat, vectors = (loads[1 - orientation.vectors], loads[orientation.vectors])
    contraction = Contraction(splat, vectors, tuple(sizes[k] for k in summed), rows, lanes, orientation.dots)
    return _order_summed_axes(contraction, layout.by_row)


# ---- facts about specs ---------------------------------------------------------------------------------------------------


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
    order = long_axes(product.sizes)
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
