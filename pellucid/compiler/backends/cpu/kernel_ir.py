"""Kernel IR: a kernel as plain data, without Symbols and without addresses (floor 4)."""

from __future__ import annotations

from typing import Any, NamedTuple


class Load(NamedTuple):
    """An operand in memory: pointers[pointer] + offset + sum of stride * index over the axes of the domain, in elements."""

    pointer: int
    offset: int
    strides: tuple[int, ...]
    dtype: str


class Constant(NamedTuple):
    """An operand that is the same number everywhere and always. bits: what tells 0.0 from -0.0."""

    value: float | int | bool
    dtype: str
    bits: bytes


class Scalar(NamedTuple):
    """An operand that is the same number everywhere in a run: the one at pointers[pointer], read before all else."""

    pointer: int
    dtype: str


class Instruction(NamedTuple):
    """One operation: its operands are Loads, Numbers, Scalars, or the numbers of earlier steps.

    level: how often the row has been gone over before it can be computed. per_row: it gives one number for each row.
    """

    name: str
    attributes: tuple[tuple[str, Any], ...]
    dtype: str
    operands: tuple[Any, ...]
    level: int = 0
    per_row: bool = False


class Store(NamedTuple):
    instruction: int
    pointer: int
    strides: tuple[int, ...]  # along the domain; 0 along an axis that was reduced away
    dtype: str


class Contraction(NamedTuple):
    """A contraction over the domain: result[...] = sum over k of splat[..., k] vectors[..., k].

    splat, vectors: with the strides along k, one for each of `sizes`, behind those along the domain.
    rows, lanes: the axes of the domain that the rows and the vectors of a tile lie along, which belong to `splat` alone and to
        `vectors` alone; None where there is no such axis. dots: vectors lie along k instead, and `lanes` results make one.
    """

    splat: Load
    vectors: Load
    sizes: tuple[int, ...]
    rows: int | None
    lanes: int | None
    dots: bool


class KernelSpec(NamedTuple):
    """kind: what `kernels/` writes it with. domain: the shape it runs over, without axes of size 1; axes: those of it that
    its reductions take away. shapes: for a single operation, the shapes of its operands and of its result, with all axes
    (the strides of its Loads and its Store then have all axes too). by_row: sums are taken in the order of their terms, or the
    lanes of the last axis that is taken away are added up in a tree: see `kernels/`."""

    kind: str
    domain: tuple[int, ...]
    axes: tuple[int, ...]
    instructions: tuple[Instruction, ...]
    stores: tuple[Store, ...]
    contraction: Contraction | None = None
    shapes: tuple[tuple[int, ...], ...] = ()
    by_row: bool = False


REDUCTIONS = {"sum", "amax", "amin", "any", "all", "argmax", "argmin"}
