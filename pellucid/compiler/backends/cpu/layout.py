"""Layout assignment: the strides of each stored Symbol, and the copies of matmul operands (floor 4).

The memory of a Tensor is always in row-major order, so that programs can share weights. Intermediate values are free. A
matrix product reads one operand element by element and the other as vectors; the second and the result want their own axis
contiguous. Each product takes the orientation that moves the fewest numbers (`orientation.py`). Elementwise kernels follow
what they read. For a batch of examples this usually stores activations with the batch innermost, so that weights are used
where they lie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ....core.value import Symbol
from ....ops.contraction import fold
from ....ops.index import check_index
from ....ops.movement import concatenate, pad, permute
from ...ir.graph import Graph
from ...ir.rewrite import copy_of
from ...ir.views import is_scalar, long_axes, row_major, squeezed_shape, view_of
from .costs import CACHE_LINE
from .kernel import Kernel, operands
from .orientation import MatmulOrientation, operand_order, orient, product_operands
from .target import Target

FLOAT32_BYTES = 4
ASSUMED_CALLS = 16  # calls with the same weights that a copy of them is expected to serve


@dataclass(frozen=True, eq=False)
class Layout:
    """The layout of a graph.

    strides: in elements, one per axis of each stored Symbol. alias_of: a reshape to the Symbol whose memory it is.
    operand_copies: by product and side, a copy that is read in place of the operand. subview_of: a Symbol to the larger one
    that it is computed into, and its offset there in elements. bodies: of scans, the kernels of each body and their layout.
    by_row: no layout changes the order of a sum.
    """

    strides: dict[Symbol, tuple[int, ...]]
    by_row: bool = False
    orientations: dict[Kernel, MatmulOrientation] = field(default_factory=dict)
    alias_of: dict[Symbol, Symbol] = field(default_factory=dict)
    operand_copies: dict[tuple[Kernel, int], Symbol] = field(default_factory=dict)
    subview_of: dict[Symbol, tuple[Symbol, int]] = field(default_factory=dict)
    bodies: dict[Kernel, tuple[list[Kernel], Layout]] = field(default_factory=dict)

    def strides_of(self, symbol: Symbol) -> tuple[int, ...]:
        return self.strides.get(symbol) or row_major(symbol.shape)  # constants are row-major

    def locate(self, x: Symbol) -> tuple[int, tuple[int, ...]]:
        """Where x, which may be a view, begins in its source, and the strides along its axes, in elements."""
        view = view_of(x)
        return view.address(self.strides_of(view.source), x.ndim)

    def holds_source_of(self, container: Symbol) -> bool:
        """Whether the input of `container` is computed directly into it."""
        return self.subview_of.get(container.inputs[0], (None, 0))[0] is container

    def root_buffer(self, symbol: Symbol) -> Symbol:
        """The Symbol that owns the memory of this one."""
        if symbol in self.alias_of:
            return self.root_buffer(self.alias_of[symbol])
        return self.root_buffer(self.subview_of[symbol][0]) if symbol in self.subview_of else symbol


@dataclass(frozen=True)
class GivenInputs:
    """What is known of the inputs of a graph.

    strides: of each. runs: for how many runs some stay the same. weights: those that stay the same between calls, unless they
    are written.
    """

    strides: dict[Symbol, tuple[int, ...]]
    runs: dict[Symbol, int] = field(default_factory=dict)
    weights: set[Symbol] = field(default_factory=set)


@dataclass(frozen=True)
class Constraints:
    """What is known before any layout is chosen.

    fixed: Symbols that have to be in row-major order. containers: a Symbol to the pad or the windows it is computed into.
    reshape_orders: for a concatenation that a reshape reads in another order of axes, that order.
    """

    target: Target
    given: GivenInputs
    fixed: set[Symbol]
    containers: dict[Symbol, Symbol]
    reshape_orders: dict[Symbol, tuple[int, ...]]


def assign_layouts(
    graph: Graph, kernels: list[Kernel], target: Target, by_row: bool = False, outer: GivenInputs | None = None
) -> tuple[list[Kernel], Layout]:
    """Assign layouts. Returns the kernels, with the copies that products need, and the layout of what they store.

    by_row: see `schedule`. outer: of the body of a scan, what is known of its inputs.
    """
    given = GivenInputs(
        {entry.symbol: row_major(entry.symbol.shape) for entry in graph.inputs} | (outer.strides if outer else {}),
        outer.runs if outer else {},
        outer.weights if outer else _weights(graph, target) if by_row else set(),
    )
    fixed = set(graph.results)
    for kernel in kernels:
        if kernel.scan is not None:  # a scan reads its inputs step by step, in row-major order
            fixed |= {view_of(x).source for x in kernel.root.inputs}
    wanted = Constraints(target, given, fixed, _containers(kernels, fixed), _reshape_orders(kernels))
    layout = Layout(dict(given.strides), by_row)
    copies: dict[tuple[Symbol, str], Symbol] = {}
    result: list[Kernel] = []
    for kernel in kernels:
        if kernel.kind == "product":
            result += _product(kernel, layout, wanted, copies)
        elif kernel.kind == "scan":
            _scan(kernel, layout, wanted, is_nested=outer is not None)
        else:
            _assign(kernel, layout, wanted)
        result.append(kernel)
    return result, layout


# ---- before any layout is chosen -----------------------------------------------------------------------------------------


def _reshape_orders(kernels: list[Kernel]) -> dict[Symbol, tuple[int, ...]]:
    """For a concatenation that a reshape reads in another order of axes: that order."""
    joined = {kernel.root for kernel in kernels if kernel.single_op is concatenate}
    orders: dict[Symbol, tuple[int, ...]] = {}
    for kernel in kernels:
        x = kernel.root.inputs[0] if kernel.kind == "reshape" else None
        below = x.inputs[0] if x is not None and x.op is permute else None
        if x is not None and below in joined:
            orders.setdefault(below, x.attributes["axes"])
    return orders


def _weights(graph: Graph, target: Target) -> set[Symbol]:
    """State that the step only reads, small enough to have memory of its own."""
    written = {id(entry) for entry, _ in graph.writes}
    states = [entry.symbol for entry in graph.inputs if entry.kind == "state" and id(entry) not in written]
    return {s for s in states if s.size * s.dtype.itemsize <= target.costs.copied_input}


CONTAINERS = {pad, fold}


def _containers(kernels: list[Kernel], fixed: set[Symbol]) -> dict[Symbol, Symbol]:
    """Values that can be computed directly into their container: a pad, or windows side by side."""
    computed = {s for kernel in kernels if kernel.kind in ("loop", "product") for s in kernel.stored}
    container_of: dict[Symbol, Symbol] = {}
    for kernel in kernels:
        container = kernel.root
        x = container.inputs[0] if container.inputs else container
        if kernel.single_op not in CONTAINERS or x not in computed or x in container_of or {x, container} & fixed:
            continue
        attributes = container.attributes
        if kernel.single_op is pad:
            fits = all(step == 1 for _, _, step in attributes["slices"])
        else:
            fits = attributes["stride"] == x.shape[4:] and attributes["dilation"] == (1, 1)
        if fits and x.size and x.dtype == container.dtype:
            container_of[x] = container
            if kernel.single_op is fold and container.size == x.size:
                computed.add(container)  # windows side by side fill it, so it may lie in another container
    return container_of


# ---- one kernel ----------------------------------------------------------------------------------------------------------


def _assign(kernel: Kernel, layout: Layout, wanted: Constraints) -> None:
    """The layout of what a kernel stores that is neither a product nor a scan."""
    if kernel.kind == "reshape":
        _reshape(kernel, layout)
    elif kernel.kind == "loop":
        _store(kernel, _loop_order(kernel, layout), layout, wanted)
    elif kernel.root in layout.strides:
        pass  # its input has been computed into it
    elif kernel.single_op in CONTAINERS:
        _store(kernel, _source_order(kernel.root, layout), layout, wanted)
    else:
        for symbol in kernel.stored:
            layout.strides[symbol] = _row_order(symbol, wanted)


def _row_order(symbol: Symbol, wanted: Constraints) -> tuple[int, ...]:
    """Dense strides, with the axes in the order in which a reshape reads them."""
    order = wanted.reshape_orders.get(symbol)
    if order is None or symbol in wanted.fixed:
        return row_major(symbol.shape)
    strides = dict(zip(order, row_major([symbol.shape[axis] for axis in order]), strict=True))
    return tuple(strides[axis] for axis in range(symbol.ndim))


def _source_order(symbol: Symbol, layout: Layout) -> list[int]:
    """The axes of a container, outermost first, in the order of its input."""
    _, along = layout.locate(symbol.inputs[0])
    long = long_axes(symbol.shape)
    return sorted(range(len(long)), key=lambda axis: (-abs(along[long[axis]]), axis))


def _loop_order(kernel: Kernel, layout: Layout) -> list[int]:
    """The axes of a loop, outermost first, in the order of its largest operand."""
    rank = len(kernel.domain)
    largest: tuple[int, tuple[int, ...]] = (0, ())
    for symbol in kernel.symbols:
        for along in _strides_read(kernel, symbol, layout):
            moved = math.prod(n for n, stride in zip(kernel.domain, along, strict=True) if stride)
            if moved > largest[0]:
                largest = (moved, along)
    strides = largest[1] or tuple(range(rank, 0, -1))
    unmoved = -(1 << 60)
    return sorted(range(rank), key=lambda axis: (-strides[axis] if strides[axis] else unmoved, axis))


def _strides_read(kernel: Kernel, symbol: Symbol, layout: Layout) -> list[tuple[int, ...]]:
    """The strides along the kernel's domain of each operand that `symbol` reads from memory."""
    if symbol.op.kind == "elementwise" or symbol.op is check_index:  # type: ignore[union-attr]
        views, shape = operands(symbol), symbol.shape
    else:
        views, shape = [view_of(symbol.inputs[0])], symbol.inputs[0].shape
    strides = []
    for v in views:
        if v.source not in kernel.symbols and not is_scalar(v.source):
            _, whole = v.address(layout.strides_of(v.source), len(shape))
            along = [a for a, size in zip(whole, shape, strict=True) if size != 1]
            if symbol in kernel.per_row:
                by = dict(zip(kernel.kept_axes, along, strict=True))
                along = [by.get(axis, 0) for axis in range(len(kernel.domain))]
            strides.append(tuple(along))
    return strides


def _reshape(kernel: Kernel, layout: Layout) -> None:
    """A reshape of a row-major value is an alias. Any other is copied into row-major order."""
    symbol = kernel.root
    x = symbol.inputs[0]
    source = view_of(x).source
    layout.strides[symbol] = row_major(symbol.shape)
    offset, along = layout.locate(x)
    lies = all(a == w for a, w, size in zip(along, row_major(x.shape), x.shape, strict=True) if size != 1)
    if lies and offset == 0 and source.constant is None:
        layout.alias_of[symbol] = source


# ---- what a kernel stores ------------------------------------------------------------------------------------------------


def _store(kernel: Kernel, order: list[int], layout: Layout, wanted: Constraints) -> None:
    """Strides for what a kernel stores: domain axes from the outermost in `order`. Results are in row-major order."""
    for symbol in kernel.stored:
        if symbol in wanted.fixed:
            layout.strides[symbol] = row_major(symbol.shape)
            continue
        axes = domain_axes(kernel, symbol)
        own_axes = dict(zip(axes, (axis for axis, size in enumerate(symbol.shape) if size != 1), strict=True))
        inner_last = [own_axes[axis] for axis in order if axis in own_axes]
        if symbol in wanted.containers:
            _store_in_container(symbol, wanted.containers[symbol], inner_last, layout, wanted)
        else:
            layout.strides[symbol] = _strides(symbol, inner_last, wanted.target)


def domain_axes(kernel: Kernel, symbol: Symbol) -> list[int]:
    """The axes of the kernel's domain that the axes of `symbol` (those not of size 1) run along."""
    return kernel.kept_axes if kernel.is_per_row(symbol) else list(range(len(kernel.domain)))


def _store_in_container(
    symbol: Symbol, container: Symbol, order: list[int], layout: Layout, wanted: Constraints
) -> None:
    """Store `symbol` directly into `container`: inside its padding, or window by window."""
    long = [axis for axis in range(container.ndim) if container.shape[axis] != 1]
    whole = [axis for axis in long if axis not in order] + [axis for axis in order if axis in long]
    if container in wanted.containers:
        _store_in_container(container, wanted.containers[container], whole, layout, wanted)
    else:
        layout.strides[container] = _strides(container, whole, wanted.target)
    strides, start = layout.strides[container], 0
    if container.op is pad:
        start = sum(s[0] * stride for s, stride in zip(container.attributes["slices"], strides, strict=True))
    else:
        (k, l), (b, c, h, w) = container.attributes["stride"], strides
        strides = (b, c, k * h, l * w, h, w)
    layout.strides[symbol] = tuple(0 if n == 1 else s for n, s in zip(symbol.shape, strides, strict=True))
    layout.subview_of[symbol] = (container, start)


def _strides(symbol: Symbol, order: Sequence[int], target: Target) -> tuple[int, ...]:
    """Strides with the axes from the outermost in `order`; 0 for axes of size 1."""
    strides, step = [0] * symbol.ndim, 1
    for axis in reversed(order):
        strides[axis] = step
        step = _padded(step * symbol.shape[axis], step, symbol, target)
    return tuple(strides)


def _padded(step: int, inner: int, symbol: Symbol, target: Target) -> int:
    """The length of a row, padded to whole cache lines, and by one more where rows would fall into few cache sets."""
    if inner != 1 or step < target.lanes:
        return step
    line = CACHE_LINE // FLOAT32_BYTES
    whole = -(-step // line) * line
    return whole + line if step * symbol.dtype.itemsize % target.caches.conflict_stride == 0 else whole


# ---- products ------------------------------------------------------------------------------------------------------------


def _product(
    kernel: Kernel, layout: Layout, wanted: Constraints, copies: dict[tuple[Symbol, str], Symbol]
) -> list[Kernel]:
    """Orient a product. Returns the copy of an operand that has to run before it. copies: those made so far, by what and how."""
    product = kernel.root
    along = [layout.locate(x)[1] for x in product.inputs]
    runs = [_runs_of_copy(x, product, wanted.given) for x in product.inputs]
    sides = product_operands(kernel, along, runs, _epilogue_strides(kernel, layout, wanted))
    orientation = layout.orientations[kernel] = orient(sides, wanted.target, layout.by_row)
    order = list(range(len(kernel.domain)))
    if orientation.lanes is not None and not orientation.dots:
        lane = sum(1 for size in product.shape[: orientation.lanes] if size != 1)
        order.remove(lane)
        order.append(lane)
    _store(kernel, order, layout, wanted)
    copied = operand_order(sides, orientation)
    return [] if copied is None else _copy_operand(kernel, orientation.vectors, copied, layout, wanted, copies)


def _runs_of_copy(x: Symbol, product: Symbol, given: GivenInputs) -> int:
    """How many runs a copy of an operand serves: all steps of a scan, and for weights many calls, which matters where the rows
    are few."""
    source = view_of(x).source
    is_weight = source in given.weights and x.size >= product.size
    return given.runs.get(source, 1) * (ASSUMED_CALLS if is_weight else 1)


def _epilogue_strides(kernel: Kernel, layout: Layout, wanted: Constraints) -> list[tuple[int, ...]]:
    """The strides along the domain of what the epilogue reads, and of results in row-major order."""
    shape = kernel.root.shape
    lies = [layout.strides_of(s) for s in kernel.stored if s in wanted.fixed]
    strides = [tuple(x for x, size in zip(row, shape[-len(row) :], strict=False) if size != 1) for row in lies]
    for symbol in kernel.symbols[1:]:
        strides += [along for along in _strides_read(kernel, symbol, layout) if all(along)]
    return strides


def _copy_operand(
    kernel: Kernel, side: int, order: list[int], layout: Layout, wanted: Constraints,
    copies: dict[tuple[Symbol, str], Symbol],
) -> list[Kernel]:  # fmt: skip
    """Copy an operand with its axes in this order. Products share the copy."""
    x = kernel.root.inputs[side]
    view = view_of(x)
    key = (x if x in layout.strides else view.source, f"{view.indices} {order}")
    if key in copies:
        layout.operand_copies[kernel, side] = copies[key]
        return []
    copy = copies[key] = layout.operand_copies[kernel, side] = copy_of(x)
    packed = view.source in wanted.given.weights
    made = Kernel("copy", [copy], squeezed_shape(x.shape), stored=[copy], in_backward=kernel.in_backward, packed=packed)
    long = long_axes(x.shape)
    _store(made, [long.index(axis) for axis in order if axis in long], layout, wanted)
    return [made]


# ---- scans ---------------------------------------------------------------------------------------------------------------


def _scan(kernel: Kernel, layout: Layout, wanted: Constraints, is_nested: bool) -> None:
    """The layout of the body of a scan. Carries and stacked values are in row-major order."""
    scan = kernel.scan
    assert scan is not None
    layout.strides.update({symbol: row_major(symbol.shape) for symbol in kernel.stored})
    body, given = scan.body, GivenInputs({})
    for i, (entry, x) in enumerate(zip(scan.graph.inputs, kernel.root.inputs, strict=True)):
        _, along = layout.locate(x)
        if i < body.carries:
            along = row_major(x.shape)
        elif i < body.carries + body.slices:
            along = along[1:]
        else:
            given.runs[entry.symbol] = body.length
            if not is_nested and view_of(x).source in wanted.given.weights:
                given.weights.add(entry.symbol)
        given.strides[entry.symbol] = along
    layout.bodies[kernel] = assign_layouts(scan.graph, scan.kernels, wanted.target, layout.by_row, given)
