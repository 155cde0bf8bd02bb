"""Layout assignment: the strides of each stored Symbol, and the copies of matmul operands (floor 4).

The memory of a Tensor is always in row-major order, so that programs can share weights. Intermediate values are free. A
matrix product reads one operand element by element and the other as vectors; the second and the result want their own axis
contiguous. Each product takes the orientation that moves the fewest numbers. Elementwise kernels follow what they read. For
a batch of examples this usually stores activations with the batch innermost, so that weights are used where they lie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ....core.value import Symbol
from ....ops.contraction import fold
from ....ops.elementwise import cast
from ....ops.index import check_index
from ....ops.movement import concatenate, pad, permute
from ...ir.graph import Graph
from ...ir.rewrite import emit
from ...ir.views import AffineIndex, View, is_scalar, row_major, squeezed_shape, view_of
from .fusion import Kernel, operands
from .prepare.contractions import Labels, contraction_size, labels
from .storage import LARGE_BYTES
from .target import CONFLICT_STRIDE, Target

LARGE_COPY = 1 << 20  # elements: a larger copy goes through memory, which takes four times as long
ASSUMED_CALLS = 16  # calls with the same weights that a copy of them is expected to serve


class MatmulOrientation(NamedTuple):
    """How a matrix product is computed.

    vectors: the operand, 0 or 1, that is read as vectors along the axis `lanes`. rows: the axis of the rows of a tile. Both
    are axes of the result. dots: vectors lie along the summed axis instead.
    """

    vectors: int
    lanes: int | None
    rows: int | None
    dots: bool


@dataclass(eq=False)
class Layout:
    """The layout of a graph.

    strides: in elements, one per axis of each stored Symbol. alias_of: a reshape to the Symbol whose memory it is.
    subview_of: a Symbol to the larger one that it is computed into, and its offset there in elements.
    """

    strides: dict[Symbol, tuple[int, ...]]
    orientations: dict[Kernel, MatmulOrientation]
    alias_of: dict[Symbol, Symbol]
    operand_copies: dict[tuple[Kernel, int], Symbol]  # a copy that is read in place of a product's operand
    subview_of: dict[Symbol, tuple[Symbol, int]] = field(default_factory=dict)
    by_row: bool = False  # no layout changes the order of a sum

    def holds_source_of(self, container: Symbol) -> bool:
        """Whether the input of `container` is computed directly into it."""
        return self.subview_of.get(container.inputs[0], (None, 0))[0] is container

    def root_buffer(self, symbol: Symbol) -> Symbol:
        """The Symbol that owns the memory of this one."""
        if symbol in self.alias_of:
            return self.root_buffer(self.alias_of[symbol])
        return self.root_buffer(self.subview_of[symbol][0]) if symbol in self.subview_of else symbol


def assign_layouts(
    graph: Graph, kernels: list[Kernel], target: Target, by_row: bool = False,
    given: dict[Symbol, tuple[int, ...]] | None = None, repeated: dict[Symbol, int] | None = None,
    constant_inputs: set[Symbol] | None = None,
) -> tuple[list[Kernel], Layout]:  # fmt: skip
    """Assign layouts. Returns the kernels, with the copies that products need, and the layout of what they store.

    by_row: see `schedule`. given: strides of inputs that are not row-major. repeated: how many runs an input stays the same
    for. constant_inputs: inputs that stay the same between calls, unless they are written.
    """
    assigner = LayoutAssigner(graph, target)
    assigner.layout.strides |= given or {}
    assigner.layout.by_row = by_row
    assigner.repeated = repeated or {}
    assigner.outermost = given is None
    assigner.constant_inputs = (_weights(graph) if by_row else set()) if constant_inputs is None else constant_inputs
    for kernel in kernels:
        if kernel.scan_kernels is not None:  # a scan reads its inputs step by step, in row-major order
            assigner.fixed |= {view_of(x).source for x in kernel.root.inputs}
    assigner.containers = containers(kernels, assigner.fixed)
    assigner.reshape_orders = _reshape_orders(kernels)
    result: list[Kernel] = []
    for kernel in kernels:
        result += [*assigner.assign(kernel), kernel]
    return result, assigner.layout


class LayoutAssigner:
    def __init__(self, graph: Graph, target: Target) -> None:
        self.target = target
        self.fixed = set(graph.results)  # these have to be in row-major order
        self.layout = Layout({entry.symbol: row_major(entry.symbol.shape) for entry in graph.inputs}, {}, {}, {})
        self.repeated: dict[Symbol, int] = {}
        self.constant_inputs: set[Symbol] = set()
        self.outermost = True  # not the body of a scan
        self.copies: dict[tuple[Symbol, str], tuple[Symbol, Kernel]] = {}
        self.containers: dict[Symbol, Symbol] = {}
        self.reshape_orders: dict[Symbol, tuple[int, ...]] = {}

    def along(self, view: View, rank: int) -> tuple[int, ...]:
        return view.address(self.strides_of(view.source), rank)[1]

    def strides_of(self, symbol: Symbol) -> tuple[int, ...]:
        return self.layout.strides.get(symbol) or row_major(symbol.shape)

    def assign(self, kernel: Kernel) -> list[Kernel]:
        """Decide the layout of what `kernel` stores. Returns the copies that have to run before it."""
        if kernel.kind == "product":
            return self._product(kernel)
        if kernel.kind == "reshape":
            self._reshape(kernel)
        elif kernel.kind == "scan":
            self._loop(kernel)
        elif kernel.kind == "loop":
            self._store(kernel, self._order(kernel))
        elif kernel.root in self.layout.strides:
            pass  # its input has been computed into it
        elif kernel.single_op in CONTAINERS:
            self._store(kernel, self._source_order(kernel.root))
        else:
            for symbol in kernel.stored:
                self.layout.strides[symbol] = self._row_order(symbol)
        return []

    def _row_order(self, symbol: Symbol) -> tuple[int, ...]:
        """Dense strides, with the axes in the order in which a reshape reads them."""
        order = self.reshape_orders.get(symbol)
        if order is None or symbol in self.fixed:
            return row_major(symbol.shape)
        strides = dict(zip(order, row_major([symbol.shape[axis] for axis in order]), strict=True))
        return tuple(strides[axis] for axis in range(symbol.ndim))

    def _source_order(self, symbol: Symbol) -> list[int]:
        """The axes of a container, outermost first, in the order of its input."""
        x = symbol.inputs[0]
        along = self.along(view_of(x), x.ndim)
        long = [axis for axis, size in enumerate(symbol.shape) if size != 1]
        return sorted(range(len(long)), key=lambda axis: (-abs(along[long[axis]]), axis))

    def _store(self, kernel: Kernel, order: list[int]) -> None:
        """Strides for what a kernel stores: domain axes from the outermost in `order`. Results are in row-major order."""
        for symbol in kernel.stored:
            if symbol in self.fixed:
                self.layout.strides[symbol] = row_major(symbol.shape)
                continue
            axes = domain_axes(kernel, symbol)
            own_axes = dict(zip(axes, (axis for axis, size in enumerate(symbol.shape) if size != 1), strict=True))
            inner_last = [own_axes[axis] for axis in order if axis in own_axes]
            if symbol in self.containers:
                self._store_in_container(symbol, self.containers[symbol], inner_last)
            else:
                self.layout.strides[symbol] = self._strides(symbol, inner_last)

    def _strides(self, symbol: Symbol, order: Sequence[int]) -> tuple[int, ...]:
        """Strides with the axes from the outermost in `order`; 0 for axes of size 1."""
        strides, step = [0] * symbol.ndim, 1
        for axis in reversed(order):
            strides[axis] = step
            step = self._padded(step * symbol.shape[axis], step, symbol)
        return tuple(strides)

    def _store_in_container(self, symbol: Symbol, container: Symbol, order: list[int]) -> None:
        """Store `symbol` directly into `container`: inside its padding, or window by window."""
        long = [axis for axis in range(container.ndim) if container.shape[axis] != 1]
        whole = [axis for axis in long if axis not in order] + [axis for axis in order if axis in long]
        if container in self.containers:
            self._store_in_container(container, self.containers[container], whole)
        else:
            self.layout.strides[container] = self._strides(container, whole)
        strides, start = self.layout.strides[container], 0
        if container.op is pad:
            start = sum(s[0] * stride for s, stride in zip(container.attributes["slices"], strides, strict=True))
        else:
            (k, l), (b, c, h, w) = container.attributes["stride"], strides
            strides = (b, c, k * h, l * w, h, w)
        self.layout.strides[symbol] = tuple(0 if n == 1 else s for n, s in zip(symbol.shape, strides, strict=True))
        self.layout.subview_of[symbol] = (container, start)

    def _padded(self, step: int, inner: int, symbol: Symbol) -> int:
        bytes_ = step * symbol.dtype.itemsize
        if inner != 1 or step < self.target.lanes:
            return step
        whole = -(-step // 16) * 16
        return whole + 16 if bytes_ % CONFLICT_STRIDE == 0 else whole

    def _order(self, kernel: Kernel) -> list[int]:
        """The axes of a loop, outermost first, in the order of its largest operand."""
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
        if symbol.op.kind == "elementwise" or symbol.op is check_index:  # type: ignore[union-attr]
            view, shape = operands(symbol), symbol.shape
        else:
            view, shape = [view_of(symbol.inputs[0])], symbol.inputs[0].shape
        strides = []
        for v in view:
            if v.source not in kernel.symbols and not is_scalar(v.source):
                along = [a for a, size in zip(self.along(v, len(shape)), shape, strict=True) if size != 1]
                if symbol in kernel.per_row:
                    by = dict(zip(kernel.kept_axes, along, strict=True))
                    along = [by.get(axis, 0) for axis in range(len(kernel.domain))]
                strides.append(tuple(along))
        return strides

    def _reshape(self, kernel: Kernel) -> None:
        """A reshape of a row-major value is an alias. Any other is copied into row-major order."""
        symbol = kernel.root
        x = symbol.inputs[0]
        view = view_of(x)
        self.layout.strides[symbol] = row_major(symbol.shape)
        offset, along = view.address(self.strides_of(view.source), x.ndim)
        wanted = row_major(x.shape)
        lies = all(a == w for a, w, size in zip(along, wanted, x.shape, strict=True) if size != 1)
        if lies and offset == 0 and view.source.constant is None:
            self.layout.alias_of[symbol] = view.source

    def _loop(self, kernel: Kernel) -> None:
        """The layout of the body of a scan. Carries and stacked values are in row-major order."""
        loop = kernel.scan_kernels
        assert loop is not None
        self.layout.strides |= {symbol: row_major(symbol.shape) for symbol in kernel.stored}
        body, given, repeated, constant_inputs = loop.body, {}, {}, set()
        for i, (entry, x) in enumerate(zip(loop.graph.inputs, kernel.root.inputs, strict=True)):
            along = self.along(view_of(x), x.ndim)
            if i < body.carries:
                along = row_major(x.shape)
            elif i < body.carries + body.slices:
                along = along[1:]
            else:
                repeated[entry.symbol] = body.length
                if self.outermost and view_of(x).source in self.constant_inputs:
                    constant_inputs.add(entry.symbol)
            given[entry.symbol] = along
        loop.kernels, loop.layout = assign_layouts(
            loop.graph, loop.kernels, self.target, self.layout.by_row, given, repeated, constant_inputs
        )

    # ---- products ----

    def _copy_cost(self, x: Symbol, product: Symbol) -> int:
        """The cost of copying an operand, in numbers moved. One copy serves all steps of a scan, and a copy of weights serves
        many calls, which matters where the rows are few."""
        source = view_of(x).source
        is_weight = source in self.constant_inputs and x.size >= product.size
        times = self.repeated.get(source, 1) * (ASSUMED_CALLS if is_weight else 1)
        return (8 if x.size > LARGE_COPY else 2) * x.size // times

    def _product(self, kernel: Kernel) -> list[Kernel]:
        product = kernel.root
        *sides, whole = labels(product)
        strides = [
            dict(zip(side, self.along(view_of(x), x.ndim), strict=True))
            for side, x in zip(sides, product.inputs, strict=True)
        ]
        own_axes = [
            [
                axis
                for axis, letter in enumerate(whole)
                if product.shape[axis] != 1 and letter in here and letter not in there
            ]
            for here, there in (sides, sides[::-1])
        ]
        options: list[tuple[int, MatmulOrientation]] = []
        for side in (1, 0):
            along = {axis: strides[side][whole[axis]] for axis in own_axes[side]}
            rows = self._rows({axis: strides[1 - side][whole[axis]] for axis in own_axes[1 - side]}, product.shape)
            for axis in reversed(own_axes[side]):
                options.append(
                    (self._cost(kernel, side, axis, along[axis], rows), MatmulOrientation(side, axis, rows, False))
                )
        dots = self._dot_orientation(product, sides, strides, own_axes)
        if dots is not None:
            options.append(dots)
        if not options:
            options.append((0, MatmulOrientation(1, None, None, False)))
        orientation = self.layout.orientations[kernel] = min(options, key=lambda each: each[0])[1]
        order = list(range(len(kernel.domain)))
        if orientation.lanes is not None and not orientation.dots:
            lane = sum(1 for size in product.shape[: orientation.lanes] if size != 1)
            order.remove(lane)
            order.append(lane)
        self._store(kernel, order)
        if orientation.dots or orientation.lanes is None or strides[orientation.vectors][whole[orientation.lanes]] == 1:
            return []
        summed = [letter for letter in sides[0] if letter is not None and letter not in whole]
        summed.sort(key=lambda letter: -abs(strides[1 - orientation.vectors][letter]))
        inner = [*summed, whole[orientation.lanes]]
        letters = [letter for letter in sides[orientation.vectors] if letter not in inner]
        order = [sides[orientation.vectors].index(letter) for letter in (*letters, *inner)]
        return self._copied(kernel, orientation.vectors, product.inputs[orientation.vectors], order)

    def _rows(self, strides: dict[int, int], shape: tuple[int, ...]) -> int | None:
        """The axis of the rows of a tile: long enough to fill it, and with the smallest stride."""
        enough = min(self.target.rows, max((shape[axis] for axis in strides), default=0))
        fitting = [axis for axis in strides if shape[axis] >= enough]
        return min(fitting, key=lambda axis: (abs(strides[axis]), -axis), default=None)

    def _cost(self, kernel: Kernel, side: int, axis: int, stride: int, rows: int | None) -> int:
        """The cost of lanes along `axis` of operand `side`: numbers moved, and lanes that stay empty."""
        product, lanes = kernel.root, self.target.lanes
        size, long = product.shape[axis], contraction_size(product)
        cost = (0 if stride == 1 else self._copy_cost(product.inputs[side], product)) + self._mismatch(kernel, axis)
        cost += product.size * long * (-(-size // lanes) * lanes - size) // (3 * max(size, 1))
        if size < lanes:  # the epilogue, such as a softmax, would have short rows
            cost += 4 * product.size
        overlapping = any(len(i.terms) > 1 and axis in dict(i.terms) for i in self._indices(product, side))
        cost += overlapping * product.size * long // 16  # vectors of overlapping windows cross cache lines
        high = 1 if rows is None else product.shape[rows]
        return cost + product.size * long * max(0, 6 - high) // 64  # a tile of few rows loads more than it multiplies

    def _indices(self, product: Symbol, side: int) -> list[AffineIndex]:
        """The indices of an operand's source, by the axes of the result, with the summed axes behind them."""
        *sides, whole = labels(product)
        axis_of = {letter: axis for axis, letter in enumerate((*whole, *(k for k in sides[0] if k not in whole)))}
        own_axes = [axis_of.get(letter, -1) for letter in sides[side]]
        return [
            index._replace(terms=tuple((own_axes[axis], step) for axis, step in index.terms))
            for index in view_of(product.inputs[side]).indices
        ]

    def _dot_orientation(
        self, product: Symbol, sides: list[Labels], strides: list[dict[str | None, int]], own_axes: list[list[int]]
    ) -> tuple[int, MatmulOrientation] | None:
        """For few rows: vectors along the summed axis, if it is contiguous in both operands. Nothing is copied."""
        summed = [letter for letter in sides[0] if letter is not None and letter not in labels(product)[2]]
        sizes = [math.prod(product.shape[axis] for axis in axes) for axes in own_axes]
        if min(sizes) >= self.target.lanes // 2 or len(summed) != 1 or any(s[summed[0]] != 1 for s in strides):
            return None
        if any(len(axes) > 1 for axes in own_axes):
            return None
        many = 1 if sizes[1] >= sizes[0] else 0
        lanes, rows = (axes[0] if axes else None for axes in (own_axes[many], own_axes[1 - many]))
        cost = (
            contraction_size(product) * (sizes[many] if self.layout.by_row else 0) // 6
        )  # to transpose blocks in registers, see `_block_in_order` of `kernels/matmul.py`
        return cost + product.size * contraction_size(product) // 8, MatmulOrientation(many, lanes, rows, True)

    def _mismatch(self, kernel: Kernel, axis: int) -> int:
        """The cost of epilogue operands and results that are not contiguous along `axis`."""
        product = kernel.root
        where = sum(1 for size in product.shape[:axis] if size != 1)
        lies = [self.strides_of(s) for s in kernel.stored if s in self.fixed]
        strides = [
            tuple(x for x, size in zip(row, product.shape[-len(row) :], strict=False) if size != 1) for row in lies
        ]
        for symbol in kernel.symbols[1:]:
            strides += [along for along in self.reads(kernel, symbol) if all(along)]
        return 4 * product.size * sum(1 for row in strides if len(row) == len(kernel.domain) and row[where] != 1)

    def _copied(self, kernel: Kernel, side: int, x: Symbol, order: list[int]) -> list[Kernel]:
        """A copy of an operand with its axes in this order. Products share it."""
        view = view_of(x)
        key = (x if x in self.layout.strides else view.source, f"{view.indices} {order}")
        copied = self.copies.get(key)
        if copied is None:
            copy = emit(cast, x, origin=x.origin, dtype=x.dtype)
            made = Kernel("copy", [copy], squeezed_shape(x.shape), stored=[copy], in_backward=kernel.in_backward)
            made.packed = view.source in self.constant_inputs
            long = [axis for axis, size in enumerate(x.shape) if size != 1]
            self._store(made, [long.index(axis) for axis in order if axis in long])
            self.copies[key] = (copy, made)
            self.layout.operand_copies[kernel, side] = copy
            return [made]
        self.layout.operand_copies[kernel, side] = copied[0]
        return []


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


def _weights(graph: Graph) -> set[Symbol]:
    """State that the step only reads, small enough to have memory of its own."""
    written = {id(entry) for entry, _ in graph.writes}
    states = [entry.symbol for entry in graph.inputs if entry.kind == "state" and id(entry) not in written]
    return {s for s in states if s.size * s.dtype.itemsize <= LARGE_BYTES}


CONTAINERS = {pad, fold}


def containers(kernels: list[Kernel], fixed: set[Symbol]) -> dict[Symbol, Symbol]:
    """Values that can be computed directly into their container: a pad, or windows side by side."""
    computed = {s for kernel in kernels if kernel.kind in ("loop", "product") for s in kernel.stored}
    container_of: dict[Symbol, Symbol] = {}
    for kernel in kernels:
        container = kernel.root
        x = container.inputs[0] if container.inputs else container
        if kernel.single_op not in CONTAINERS or x not in computed or x in container_of or {x, container} & fixed:
            continue
        orientation = container.attributes
        if kernel.single_op is pad:
            fits = all(step == 1 for _, _, step in orientation["slices"])
        else:
            fits = orientation["stride"] == x.shape[4:] and orientation["dilation"] == (1, 1)
        if fits and x.size and x.dtype == container.dtype:
            container_of[x] = container
            if kernel.single_op is fold and container.size == x.size:
                computed.add(container)  # windows side by side fill it, so it may lie in another container
    return container_of


def domain_axes(kernel: Kernel, symbol: Symbol) -> list[int]:
    """The axes of the kernel's domain that the axes of `symbol` (those not of size 1) run along."""
    return kernel.kept_axes if kernel.is_per_row(symbol) else list(range(len(kernel.domain)))
