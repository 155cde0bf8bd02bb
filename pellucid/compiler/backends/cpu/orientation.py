"""Orientation of matrix products: which operand is read as vectors, along which axis, by the numbers moved (floor 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...ir.views import AffineIndex, view_of
from .kernel import Kernel
from .prepare.contractions import Labels, contraction_size, labels
from .target import Target


class MatmulOrientation(NamedTuple):
    """How a matrix product is computed.

    vectors: the operand, 0 or 1, that is read as vectors along the axis `lanes`. rows: the axis of the rows of a tile. Both
    are axes of the result. dots: vectors lie along the summed axis instead.
    """

    vectors: int
    lanes: int | None
    rows: int | None
    dots: bool


@dataclass(frozen=True)
class ProductOperands:
    """A product and where its operands lie.

    letters, strides: of each operand, by axis and by letter. own_axes: for each operand the axes of the result that it alone
    has. runs: for each operand how many runs a copy of it serves. crossed: for each axis of the domain how many operands and
    results of the epilogue are not contiguous along it.
    """

    kernel: Kernel
    letters: Sequence[Labels]
    result: Labels
    strides: Sequence[dict[str | None, int]]
    own_axes: Sequence[Sequence[int]]
    runs: Sequence[int]
    crossed: Sequence[int]

    @property
    def summed(self) -> list[str]:
        return [letter for letter in self.letters[0] if letter is not None and letter not in self.result]

    @property
    def size(self) -> int:
        """Multiplications and additions of the product."""
        return self.kernel.root.size * contraction_size(self.kernel.root)


def product_operands(
    kernel: Kernel, along: Sequence[Sequence[int]], runs: Sequence[int], epilogue: Sequence[Sequence[int]]
) -> ProductOperands:
    """along: the strides of each operand. epilogue: those of what the epilogue reads and stores, along the domain."""
    product = kernel.root
    *sides, whole = labels(product)
    own_axes = [
        [
            axis
            for axis, letter in enumerate(whole)
            if product.shape[axis] != 1 and letter in here and letter not in there
        ]
        for here, there in (sides, sides[::-1])
    ]
    strides = [dict(zip(side, row, strict=True)) for side, row in zip(sides, along, strict=True)]
    rank = len(kernel.domain)
    crossed = [sum(len(row) == rank and row[axis] != 1 for row in epilogue) for axis in range(rank)]
    return ProductOperands(kernel, sides, whole, strides, own_axes, runs, crossed)


def orient(operands: ProductOperands, target: Target, by_row: bool) -> MatmulOrientation:
    """The orientation of a product that moves the fewest numbers."""
    options: list[tuple[int, MatmulOrientation]] = []
    for side in (1, 0):
        rows = _rows(operands, 1 - side, target)
        for axis in reversed(operands.own_axes[side]):
            cost = _cost(operands, side, axis, rows, target)
            options.append((cost, MatmulOrientation(side, axis, rows, False)))
    dots = _dot_orientation(operands, target, by_row)
    if dots is not None:
        options.append(dots)
    if not options:
        options.append((0, MatmulOrientation(1, None, None, False)))
    return min(options, key=lambda each: each[0])[1]


def operand_order(operands: ProductOperands, orientation: MatmulOrientation) -> list[int] | None:
    """The order of axes in which a copy of the vectors' operand is read; None if it is read where it lies."""
    side, lanes = orientation.vectors, orientation.lanes
    strides, letters = operands.strides, operands.letters[side]
    if orientation.dots or lanes is None or strides[side][operands.result[lanes]] == 1:
        return None
    summed = sorted(operands.summed, key=lambda letter: -abs(strides[1 - side][letter]))
    inner = [*summed, operands.result[lanes]]
    return [letters.index(letter) for letter in (*(k for k in letters if k not in inner), *inner)]


def _rows(operands: ProductOperands, side: int, target: Target) -> int | None:
    """The axis of the rows of a tile: long enough to fill it, and with the smallest stride in the operand `side`."""
    shape = operands.kernel.root.shape
    strides = {axis: operands.strides[side][operands.result[axis]] for axis in operands.own_axes[side]}
    enough = min(target.rows, max((shape[axis] for axis in strides), default=0))
    fitting = [axis for axis in strides if shape[axis] >= enough]
    return min(fitting, key=lambda axis: (abs(strides[axis]), -axis), default=None)


def _cost(operands: ProductOperands, side: int, axis: int, rows: int | None, target: Target) -> int:
    """The cost of lanes along `axis` of operand `side`: numbers moved, and lanes that stay empty."""
    product, lanes, costs = operands.kernel.root, target.lanes, target.products
    size, products = product.shape[axis], operands.size
    lies = operands.strides[side][operands.result[axis]] == 1
    cost = 0 if lies else _copy_cost(operands, side, target)
    where = sum(1 for size in product.shape[:axis] if size != 1)
    cost += costs.across_lanes * product.size * operands.crossed[where]
    cost += products * (-(-size // lanes) * lanes - size) // (costs.empty_lanes * max(size, 1))
    if size < lanes:  # the epilogue, such as a softmax, would have short rows
        cost += costs.short_rows * product.size
    overlapping = any(len(i.terms) > 1 and axis in dict(i.terms) for i in _indices(operands, side))
    cost += overlapping * products // costs.crossed_lines
    high = 1 if rows is None else product.shape[rows]
    return cost + products * max(0, costs.full_rows - high) // costs.missing_rows


def _copy_cost(operands: ProductOperands, side: int, target: Target) -> int:
    """The cost of copying an operand, in numbers moved."""
    x, costs = operands.kernel.root.inputs[side], target.products
    each = costs.copy_through_memory if x.size > costs.large_copy else costs.copy
    return each * x.size // operands.runs[side]


def _indices(operands: ProductOperands, side: int) -> list[AffineIndex]:
    """The indices of an operand's source, by the axes of the result, with the summed axes behind them."""
    letters = (*operands.result, *(k for k in operands.letters[0] if k not in operands.result))
    axis_of = {letter: axis for axis, letter in enumerate(letters)}
    own_axes = [axis_of.get(letter, -1) for letter in operands.letters[side]]
    return [
        index._replace(terms=tuple((own_axes[axis], step) for axis, step in index.terms))
        for index in view_of(operands.kernel.root.inputs[side]).indices
    ]


def _dot_orientation(operands: ProductOperands, target: Target, by_row: bool) -> tuple[int, MatmulOrientation] | None:
    """For few rows: vectors along the summed axis, if it is contiguous in both operands. Nothing is copied."""
    product, summed, own_axes = operands.kernel.root, operands.summed, operands.own_axes
    sizes = [math.prod(product.shape[axis] for axis in axes) for axes in own_axes]
    if min(sizes) >= target.lanes // 2 or len(summed) != 1 or any(s[summed[0]] != 1 for s in operands.strides):
        return None
    if any(len(axes) > 1 for axes in own_axes):
        return None
    many = 1 if sizes[1] >= sizes[0] else 0
    lanes, rows = (axes[0] if axes else None for axes in (own_axes[many], own_axes[1 - many]))
    # by_row: blocks are transposed in registers, see `_block_in_order` of `kernels/matmul.py`.
    cost = contraction_size(product) * (sizes[many] if by_row else 0) // target.products.transposed_terms
    return cost + operands.size // target.products.dot_terms, MatmulOrientation(many, lanes, rows, True)
