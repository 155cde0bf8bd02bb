"""Kernel IR: a kernel as plain data, without Symbols and without addresses (floor 4).

Kernels with equal specs are one native function, called with other pointers: equal layers share code. The specs of a program
are part of the key of its object code on disk.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from ....core.op import Op


class Load(NamedTuple):
    """An operand in memory: pointers[pointer] + offset + sum of stride * index over the axes of the domain, in elements."""

    pointer: int
    offset: int
    strides: tuple[int, ...]
    dtype: str


class Constant(NamedTuple):
    """A constant operand. bits: to tell 0.0 from -0.0."""

    value: float | int | bool
    dtype: str
    bits: bytes


class Scalar(NamedTuple):
    """A scalar operand that is constant during a run: the number at pointers[pointer], loaded once at the start."""

    pointer: int
    dtype: str


# What an instruction reads; an int is the index of an earlier instruction.
Operand = Load | Constant | Scalar | int


class Instruction(NamedTuple):
    """One operation. operands: Loads, Constants, Scalars, or indices of earlier instructions.

    level: passes over the row that must finish first. per_row: the result is one scalar per row.
    """

    op: Op
    attributes: tuple[tuple[str, Any], ...]
    dtype: str
    operands: tuple[Operand, ...]
    level: int = 0
    per_row: bool = False


class Store(NamedTuple):
    """The result of an instruction, written to pointers[pointer]."""

    instruction: int
    pointer: int
    strides: tuple[int, ...]  # along the domain; 0 along a reduced axis
    dtype: str


class Contraction(NamedTuple):
    """A matrix product over the domain: result[...] = sum over k of splat[..., k] vectors[..., k].

    splat, vectors: Loads whose strides along k, one for each of `sizes`, follow those along the domain.
    rows, lanes: the axes of the domain along which the rows and the vectors of a tile lie; `rows` is an axis of `splat` alone,
        `lanes` one of `vectors` alone. None where there is no such axis.
    dots: vectors lie along k instead, and `lanes` results make one vector.
    """

    splat: Load
    vectors: Load
    sizes: tuple[int, ...]
    rows: int | None
    lanes: int | None
    dots: bool


class KernelSpec(NamedTuple):
    """One kernel.

    kind: selects the emitter in `kernels/`. domain: the shape it runs over, without axes of size 1. axes: those of the domain
        that its reductions reduce. shapes: for a single operation, the shapes of its operands and its result with all axes;
        the strides of its Loads and its Store then have all axes too. by_row: sums are taken in a fixed order, whatever the
        number of rows; see `kernels/elementwise.py`.
    """

    kind: str
    domain: tuple[int, ...]
    axes: tuple[int, ...]
    instructions: tuple[Instruction, ...]
    stores: tuple[Store, ...]
    contraction: Contraction | None = None
    shapes: tuple[tuple[int, ...], ...] = ()
    by_row: bool = False


Access = TypeVar("Access", Load, Store)


def merge_axes(spec: KernelSpec, outer: int, inner: int) -> KernelSpec:
    """The same kernel with axis `outer` of the domain merged into axis `inner`: every access steps through both as one."""

    def without_outer(x: Access) -> Access:
        return x._replace(strides=tuple(stride for axis, stride in enumerate(x.strides) if axis != outer))

    def renumbered(axis: int | None) -> int | None:
        axis = inner if axis == outer else axis
        return None if axis is None else axis - (axis > outer)

    sizes = [n * spec.domain[outer] if axis == inner else n for axis, n in enumerate(spec.domain) if axis != outer]
    instructions = tuple(
        x._replace(operands=tuple(without_outer(y) if isinstance(y, Load) else y for y in x.operands))
        for x in spec.instructions
    )
    contraction = spec.contraction and spec.contraction._replace(
        splat=without_outer(spec.contraction.splat), vectors=without_outer(spec.contraction.vectors),
        rows=renumbered(spec.contraction.rows), lanes=renumbered(spec.contraction.lanes),
    )  # fmt: skip
    return spec._replace(
        domain=tuple(sizes),
        axes=tuple(axis - (axis > outer) for axis in spec.axes if axis != outer),
        instructions=instructions,
        stores=tuple(map(without_outer, spec.stores)),
        contraction=contraction,
    )
