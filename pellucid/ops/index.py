"""Gather and scatter: take, put, index_add, gather, scatter_add, bounds checks and argsort (floor 2).

Indices are int64 values, checked before anything is read; negative ones count from the end. The gradient of a gather adds in
the order of the indices, so the sum over a repeated index has the same bits every time. General indexing, `x[key]`, is
composed of these in `indexing.py`.

Letters: N rows, I any shape of an index.
"""

from __future__ import annotations

import numpy as np

from ..core.op import Op, SampleInputs
from ..core.value import Shaped, Spec
from ..errors import DTypeError, IndexRangeError, OptionError, format_shape
from .elementwise import zeros_like


class Indexing(Op):
    """Reads or writes at the positions of an integer input, which is never promoted with the others and has no gradient.

    Raises DTypeError for an index that is not of integers, IndexRangeError for one out of range.
    """

    kind = "index"
    same_dtype = False
    saves_output = False

    def check_index(self, index: Shaped) -> None:
        """Raise DTypeError unless the index has integers."""
        if index.dtype.kind not in "iu":
            raise DTypeError(f"{self.name}: index is {index.dtype}; expected integers; convert with .long()")

    def check_range(self, index: np.ndarray, size: int, axis: int) -> None:
        """Raise IndexRangeError unless every index lies in -size ... size-1."""
        if index.size and (index.min() < -size or index.max() >= size):
            wrong = index[(index < -size) | (index >= size)].flat[0]
            raise IndexRangeError(
                f"{self.name}: index {wrong} on axis {axis} of size {size}; expected 0 to {size - 1} (or {-size} to -1, from the end); "
                "check the labels or tokens, which count from 0"
            )


class CheckIndex(Indexing):
    """Bounds check: gives the index itself if all numbers of it lie in low ... high - 1, or equal `spare`.

    Floating-point numbers can be checked too; NaN always fails. Run eagerly, a failed check raises IndexRangeError, or
    OptionError for floating-point numbers. A compiled step sets a flag instead and stops before it has written anything;
    the eager step then raises the error. message: the error's text, with {} for the number.
    """

    saves_inputs = False

    def infer(self, index: Shaped, *, low: float, high: float, spare: int | None, message: str) -> Spec:
        if index.dtype.kind != "f":
            self.check_index(index)
        return Spec(index.shape, index.dtype)

    def forward(self, index: np.ndarray, *, low: float, high: float, spare: int | None, message: str) -> np.ndarray:
        if index.size and not (index.min() >= low and index.max() < high):
            outside = ~((index >= low) & (index < high))
            wrong = index[outside if spare is None else outside & (index != spare)]
            if wrong.size:
                error = OptionError if index.dtype.kind == "f" else IndexRangeError
                raise error(message.format(wrong.flat[0]))
        return index

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        for array, spare in [([[0, 3], [-2, 1]], None), ([3, -100], -100), ([], None)]:
            yield [np.array(array, np.int64)], {"low": -2, "high": 4, "spare": spare, "message": "it is {}"}
        yield [random.uniform(0, 1, (2, 3))], {"low": 0.0, "high": 1.5, "spare": None, "message": "it is {}"}


class Take(Indexing):
    """x (N, ...), index (I) -> (I, ...): whole rows of x, as an embedding reads them."""

    saves_inputs = True

    def infer(self, x: Shaped, index: Shaped) -> Spec:
        self.check_index(index)
        if x.ndim < 1:
            raise self.fail("a 0-d value", "expected at least one axis", "reshape it to (1,)")
        return Spec((*index.shape, *x.shape[1:]), x.dtype)

    def forward(self, x: np.ndarray, index: np.ndarray) -> np.ndarray:
        self.check_range(index, x.shape[0], 0)
        return x[index]

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(4, 3)), np.array([0, 3, 3, -1])], {}
        yield [random.normal(size=(5,)), np.array([[1, 1], [4, 0]])], {}
        yield [random.normal(size=(3, 2)), np.array(2)], {}
        yield [random.normal(size=(3, 2)), np.zeros((0,), np.int64)], {}


class TakeRows(Indexing):
    """`take` from data whose number of rows is not part of a program: x (1, ...), index (I), count () -> (I, ...).

    x is the first of `count` rows that lie one after another in memory; the caller guarantees that they do. No gradient.
    """

    def infer(self, x: Shaped, index: Shaped, count: Shaped) -> Spec:
        self.check_index(index)
        if x.shape[:1] != (1,) or count.shape != ():
            raise self.fail(
                f"first row {format_shape(x.shape)}, number of rows {format_shape(count.shape)}",
                "expected (1, ...) and ()",
                "use take",
            )
        return Spec((*index.shape, *x.shape[1:]), x.dtype)

    def forward(self, x: np.ndarray, index: np.ndarray, count: np.ndarray) -> np.ndarray:
        self.check_range(index, int(count), 0)
        strides = (x[0].nbytes, *x.strides[1:])
        return np.lib.stride_tricks.as_strided(x, (int(count), *x.shape[1:]), strides, writeable=False)[index]

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(1, 3)), np.array([0, -1, 0]), np.array(1)], {}
        yield [random.normal(size=(1,)), np.array([[0, 0]]), np.array(1)], {}


class IndexAdd(Indexing):
    """g (I, ...), index (I) -> `shape` (N, ...): zeros with the rows of g added at `index`, in order; the transpose of `take`."""

    saves_inputs = True

    def infer(self, g: Shaped, index: Shaped, *, shape: tuple[int, ...]) -> Spec:
        self.check_index(index)
        return Spec(shape, g.dtype)

    def forward(self, g: np.ndarray, index: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        self.check_range(index, shape[0], 0)
        y = np.zeros(shape, g.dtype)
        np.add.at(y, index, g)
        return y

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(3, 2)), np.array([1, 1, -4])], {"shape": (4, 2)}
        yield [random.normal(size=(2, 2)), np.array([[0, 0], [1, 0]])], {"shape": (3,)}


class IndexPut(Indexing):
    """x (N, ...), index (I), rows (I, ...) -> (N, ...): x with its rows at `index` replaced; the last of a repeated index stays."""

    saves_inputs = True

    def infer(self, x: Shaped, index: Shaped, rows: Shaped) -> Spec:
        self.check_index(index)
        if rows.shape != (*index.shape, *x.shape[1:]):
            raise self.fail(
                f"rows {format_shape(rows.shape)}",
                f"expected {format_shape((*index.shape, *x.shape[1:]))}",
                "expand them",
            )
        return Spec(x.shape, x.dtype)

    def forward(self, x: np.ndarray, index: np.ndarray, rows: np.ndarray) -> np.ndarray:
        self.check_range(index, x.shape[0], 0)
        y = x.copy()
        y[index] = rows
        return y

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(4, 3)), np.array([0, 2]), random.normal(size=(2, 3))], {}
        yield [random.normal(size=(5,)), np.array([[-1, 0]]), random.normal(size=(1, 2))], {}


class Gather(Indexing):
    """y[i][j] = x[i][index[i][j]] along `axis`; the other axes of `index` are those of x, or shorter."""

    saves_inputs = True

    def infer(self, x: Shaped, index: Shaped, *, axis: int) -> Spec:
        self.check_index(index)
        _check_gather(self, x.shape, index.shape, axis)
        return Spec(index.shape, x.dtype)

    def forward(self, x: np.ndarray, index: np.ndarray, *, axis: int) -> np.ndarray:
        self.check_range(index, x.shape[axis], axis)
        return x[_grid(index, axis)]

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(3, 4)), np.array([[0, 0], [3, 1], [2, -1]])], {"axis": 1}
        yield [random.normal(size=(3, 2)), np.array([[2, 0], [1, 1], [2, 2], [0, 0]])], {"axis": 0}
        yield [random.normal(size=(2, 3)), np.array([[1]])], {"axis": 1}


class ScatterAdd(Indexing):
    """x with g added at the positions a gather with `index` reads: y[i][index[i][j]] += g[i][j]."""

    saves_inputs = True

    def infer(self, x: Shaped, index: Shaped, g: Shaped, *, axis: int) -> Spec:
        self.check_index(index)
        _check_gather(self, x.shape, index.shape, axis)
        if g.shape != index.shape:
            raise self.fail(
                f"source {format_shape(g.shape)}, index {format_shape(index.shape)}",
                "expected equal shapes",
                "expand or slice one",
            )
        return Spec(x.shape, x.dtype)

    def forward(self, x: np.ndarray, index: np.ndarray, g: np.ndarray, *, axis: int) -> np.ndarray:
        self.check_range(index, x.shape[axis], axis)
        y = x.copy()
        if index.shape[axis] == 1:  # one position a row, as in cross-entropy: none can repeat
            y[_grid(index, axis)] += g
        else:
            np.add.at(y, _grid(index, axis), g)
        return y

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(3, 4)), np.array([[0, 0], [3, 1], [2, -1]]), random.normal(size=(3, 2))], {"axis": 1}


def _check_gather(op: Op, shape: tuple[int, ...], index: tuple[int, ...], axis: int) -> None:
    """Raise ShapeError unless `index` has as many axes as the values, none but `axis` longer."""
    fits = len(shape) == len(index) and all(
        i == axis or b <= a for i, (a, b) in enumerate(zip(shape, index, strict=True))
    )
    if not fits:
        raise op.fail(
            f"values {format_shape(shape)}, index {format_shape(index)}",
            f"expected as many axes, none but axis {axis} longer than the values'",
            "unsqueeze or slice the index",
        )


def _grid(index: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    """NumPy index arrays for every axis, `index` on `axis` and plain positions on the others."""
    ndim = index.ndim
    return tuple(
        index if i == axis else np.arange(size).reshape((size,) + (1,) * (ndim - 1 - i))
        for i, size in enumerate(index.shape)
    )


class ArgSort(Op):
    """The int64 positions that sort x along `axis`; stable, NaN counts as the largest."""

    kind = "index"

    def infer(self, x: Shaped, *, axis: int, descending: bool) -> Spec:
        return Spec(x.shape, np.dtype(np.int64))

    def forward(self, x: np.ndarray, *, axis: int, descending: bool) -> np.ndarray:
        if not descending:
            return np.argsort(x, axis, stable=True)
        # Sorting the reversed array and reversing again keeps equal numbers in their order.
        backward = np.argsort(np.flip(x, axis), axis, stable=True)
        return x.shape[axis] - 1 - np.flip(backward, axis)

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        for descending in (False, True):
            yield [random.normal(size=(3, 4))], {"axis": 1, "descending": descending}
            yield [random.integers(0, 3, (5,)).astype(float)], {"axis": 0, "descending": descending}


check_index: Op = CheckIndex("check_index")
take: Op = Take("take", [lambda g, y, x, index: index_add(g, index, shape=x.shape), None])
rows: Op = TakeRows("rows")
index_add: Op = IndexAdd("index_add", [lambda h, y, g, index, shape: take(h, index), None])
index_put: Op = IndexPut(
    "index_put",
    [
        lambda g, y, x, index, rows: index_put(g, index, zeros_like(rows)),
        None,
        lambda g, y, x, index, rows: take(g, index),
    ],
)
gather: Op = Gather("gather", [lambda g, y, x, index, axis: scatter_add(zeros_like(x), index, g, axis=axis), None])
scatter_add: Op = ScatterAdd(
    "scatter_add",
    [lambda h, y, x, index, g, axis: h, None, lambda h, y, x, index, g, axis: gather(h, index, axis=axis)],
)
argsort = ArgSort("argsort")
