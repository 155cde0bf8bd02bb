"""Reductions along axes, cumulative sums, and `expand` (broadcasting), the transpose of a sum (floor 2).

`axes` is a tuple of non-negative axes; `keepdims` leaves them in place with size 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.op import Attributes, Op, Rule, SampleInputs
from ..core.sharing import Movement, refuse_overlap
from ..core.value import Shaped, Spec, Value
from ..errors import format_shape
from .movement import reshape


class Reducing(Op):
    """Combines all numbers along axes into one, two at a time, in any order.

    identity: `identity(dtype)` is the number that changes nothing when it is combined with another.
    native: `native(e, a, b)` for two vectors of numbers, as `Elementwise.native`: the combined numbers.
    rounds: whether combining floats rounds, so that the order of the numbers shows in the last bits.
    """

    kind = "reduction"

    def __init__(
        self,
        name: str,
        gradients: Sequence[Rule | None] = (),
        *,
        identity: Callable[[np.dtype], Any],
        native: Callable[..., Any],
        rounds: bool = False,
    ) -> None:
        super().__init__(name, gradients)
        self.identity = identity
        self.native = native
        self.rounds = rounds

    def along(self, attributes: Attributes) -> tuple[int, ...]:
        """The axes that it reduces."""
        axes: tuple[int, ...] = attributes["axes"] if "axes" in attributes else (attributes["axis"],)
        return axes


class Reduction(Reducing):
    """One number for all along `axes`.

    saves: which of "inputs" and "output" the gradient rule reads. allow_empty: whether the reduction of no numbers is defined,
    as 0 is the sum; else it raises ShapeError. result: the dtype of the output, from that of the input.
    identity: the number of a dtype that changes nothing when it is combined with another.
    native: `native(e, a, b)` combines two vectors of numbers, as `Elementwise.native` does.
    rounds: whether combining floats rounds, so that the order of the numbers shows in the last bits.
    """

    kind = "reduction"
    reduces = True

    def __init__(
        self,
        name: str,
        function: Callable[..., np.ndarray],
        gradients: Sequence[Rule | None] = (),
        *,
        saves: str = "",
        identity: Callable[[np.dtype], Any],
        native: Callable[..., Any],
        allow_empty: bool = False,
        rounds: bool = False,
        result: Callable[[np.dtype], np.dtype] = lambda dtype: dtype,
    ) -> None:
        super().__init__(name, gradients, identity=identity, native=native, rounds=rounds)
        self.function = function
        self.saves_inputs = "inputs" in saves
        self.saves_output = "output" in saves
        self.allow_empty = allow_empty
        self.result = result

    def infer(self, x: Shaped, *, axes: tuple[int, ...], keepdims: bool) -> Spec:
        shape = x.shape
        if not self.allow_empty and any(shape[axis] == 0 for axis in axes):
            raise self.fail(
                f"shape {format_shape(shape)} has no numbers on axis {axes}",
                "expected at least one",
                "check that the data is not empty",
            )
        if keepdims:
            out = tuple([1 if axis in axes else size for axis, size in enumerate(shape)])
        else:
            out = tuple([size for axis, size in enumerate(shape) if axis not in axes])
        return Spec(out, self.result(x.dtype))

    def forward(self, x: np.ndarray, *, axes: tuple[int, ...], keepdims: bool) -> np.ndarray:
        return self.function(x, axis=axes, keepdims=keepdims)

    def batched(self, attributes: Attributes, size: int) -> Attributes | None:
        return {**attributes, "axes": tuple([axis + 1 for axis in attributes["axes"]])}

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        for shape, axes in [((), ()), ((5,), (0,)), ((2, 3), (1,)), ((2, 3, 2), (0, 2)), ((2, 3), ())]:
            for keepdims in (False, True):
                yield [random.normal(size=shape)], {"axes": axes, "keepdims": keepdims}
        yield [random.normal(size=(3, 4)).T], {"axes": (0,), "keepdims": False}
        if self.allow_empty:
            yield [random.normal(size=(0, 3))], {"axes": (0,), "keepdims": False}


def lowest(dtype: np.dtype) -> Any:
    """The lowest number of a dtype."""
    return -np.inf if dtype.kind == "f" else False if dtype.kind == "b" else int(np.iinfo(dtype).min)


def highest(dtype: np.dtype) -> Any:
    """The highest number of a dtype."""
    return np.inf if dtype.kind == "f" else True if dtype.kind == "b" else int(np.iinfo(dtype).max)


def _sum_gradient(g: Value, x: Value, axes: tuple[int, ...], keepdims: bool) -> Value:
    """g with the reduced axes back in place, repeated to the shape of x."""
    if not keepdims and axes:
        g = reshape(g, shape=tuple([1 if axis in axes else size for axis, size in enumerate(x.shape)]))
    return expand(g, shape=x.shape)


def _extremum_gradient(g: Value, y: Value, x: Value, axes: tuple[int, ...], keepdims: bool) -> Value:
    """g to the extreme numbers, in equal shares where several are equal. By `where`: 0 times an infinite g is NaN."""
    extreme = x == _sum_gradient(y, x, axes, keepdims)
    return _sum_gradient(g, x, axes, keepdims).where(extreme, 0) / sum_(extreme, axes=axes, keepdims=True)


def _counting_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of a sum: int64 for integers and bools."""
    return dtype if dtype.kind == "f" else np.dtype(np.int64)


class Expand(Movement):
    """Axes of size 1, and new ones in front, repeated to `shape`; nothing is copied."""

    is_view = True

    def infer(self, x: Shaped, *, shape: tuple[int, ...]) -> Spec:
        new = len(shape) - x.ndim
        fits = new >= 0 and all(have in (1, want) for have, want in zip(x.shape, shape[new:], strict=True))
        if not fits or min(shape, default=0) < 0:
            raise self.fail(
                f"{format_shape(x.shape)} to {format_shape(shape)}",
                "only axes of size 1 can be repeated",
                "unsqueeze or reshape first",
            )
        return Spec(shape, x.dtype)

    def forward(self, x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        return np.broadcast_to(x, shape)

    def inverse(self, old: Value, part: Value, *, shape: tuple[int, ...]) -> Value:
        return reshape(part, shape=old.shape) if math.prod(old.shape) == math.prod(shape) else refuse_overlap(shape)

    def writable_view(self, array: np.ndarray, **attributes: Any) -> np.ndarray:
        view = self.forward(array, **attributes)
        return np.lib.stride_tricks.as_strided(array, view.shape, view.strides)

    def batched(self, attributes: Attributes, size: int) -> Attributes | None:
        return {**attributes, "shape": (size, *attributes["shape"])}

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(3, 1))], {"shape": (3, 4)}
        yield [random.normal(size=(1, 2))], {"shape": (5, 3, 2)}
        yield [random.normal(size=())], {"shape": (2, 2)}
        yield [random.normal(size=(1, 3))], {"shape": (0, 3)}


sum_: Op = Reduction(
    "sum",
    np.add.reduce,
    [lambda g, y, x, axes, keepdims: _sum_gradient(g, x, axes, keepdims)],
    identity=lambda dtype: 0,
    native=lambda e, a, b: e.add(a, b),
    allow_empty=True,
    rounds=True,
    result=_counting_dtype,
)
"""The sum along `axes`; of integers and bools as int64, 0 of no numbers."""
expand: Movement = Expand("expand", [lambda g, y, x, shape: sum_to(g, x.shape)])
"""expand(x, shape=...): axes of size 1, and new ones in front, repeated; the transpose of a sum."""
amax = Reduction(
    "amax", np.maximum.reduce, [_extremum_gradient], saves="inputs output",
    identity=lowest, native=lambda e, a, b: e.maximum(a, b),
)  # fmt: skip
"""The largest number along `axes`; equal ones share the gradient. ShapeError where there is none."""
amin = Reduction(
    "amin", np.minimum.reduce, [_extremum_gradient], saves="inputs output",
    identity=highest, native=lambda e, a, b: e.minimum(a, b),
)  # fmt: skip
"""The smallest number along `axes`; equal ones share the gradient. ShapeError where there is none."""
any_ = Reduction(
    "any", np.logical_or.reduce, identity=lambda dtype: 0, native=lambda e, a, b: e.bitwise_or(a, b),
    allow_empty=True, result=lambda dtype: np.dtype(bool),
)  # fmt: skip
"""Whether a number along `axes` is not 0: bool."""
all_ = Reduction(
    "all", np.logical_and.reduce, identity=lambda dtype: 1, native=lambda e, a, b: e.bitwise_and(a, b),
    allow_empty=True, result=lambda dtype: np.dtype(bool),
)  # fmt: skip
"""Whether no number along `axes` is 0: bool."""


class ArgReduce(Reducing):
    """The int64 position of an extreme number along `axis`, the first of equal ones; ShapeError where there is none.

    native: `native(e, a, b)` says where the numbers a beat the numbers b.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., np.ndarray],
        identity: Callable[[np.dtype], Any],
        native: Callable[..., Any],
    ) -> None:
        super().__init__(name, identity=identity, native=native)
        self.function = function

    def infer(self, x: Shaped, *, axis: int, keepdims: bool) -> Spec:
        if x.shape[axis] == 0:
            raise self.fail(
                f"shape {format_shape(x.shape)} has no numbers on axis {axis}",
                "expected at least one",
                "check that the data is not empty",
            )
        kept = (1,) if keepdims else ()
        return Spec((*x.shape[:axis], *kept, *x.shape[axis + 1 :]), np.dtype(np.int64))

    def forward(self, x: np.ndarray, *, axis: int, keepdims: bool) -> np.ndarray:
        return self.function(x, axis=axis, keepdims=keepdims)

    def batched(self, attributes: Attributes, size: int) -> Attributes | None:
        return {**attributes, "axis": attributes["axis"] + 1}

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        for shape, axis in [((4,), 0), ((2, 3), 1), ((2, 3, 2), 0)]:
            for keepdims in (False, True):
                yield [random.integers(0, 3, shape).astype(float)], {"axis": axis, "keepdims": keepdims}


argmax = ArgReduce("argmax", np.argmax, lowest, lambda e, a, b: e.greater(a, b))
"""The int64 position of the largest number along `axis`."""
argmin = ArgReduce("argmin", np.argmin, highest, lambda e, a, b: e.less(a, b))
"""The int64 position of the smallest number along `axis`."""


class CumulativeSum(Op):
    """y[i] = x[0] + ... + x[i] along `axis`; from the far end when `reverse`."""

    kind = "reduction"
    saves_inputs = False
    saves_output = False

    def infer(self, x: Shaped, *, axis: int, reverse: bool) -> Spec:
        return Spec(x.shape, _counting_dtype(x.dtype))

    def forward(self, x: np.ndarray, *, axis: int, reverse: bool) -> np.ndarray:
        if reverse:
            return np.flip(np.add.accumulate(np.flip(x, axis), axis), axis)
        return np.add.accumulate(x, axis)

    def batched(self, attributes: Attributes, size: int) -> Attributes | None:
        return {**attributes, "axis": attributes["axis"] + 1}

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        for shape, axis in [((4,), 0), ((2, 3), 1), ((2, 3), 0), ((0, 2), 0)]:
            for reverse in (False, True):
                yield [random.normal(size=shape)], {"axis": axis, "reverse": reverse}


cumulative_sum: Op = CumulativeSum(
    "cumulative_sum", [lambda g, y, x, axis, reverse: cumulative_sum(g, axis=axis, reverse=not reverse)]
)
"""The sum up to each position along `axis`."""


def sum_to(x: Value, shape: tuple[int, ...]) -> Value:
    """x summed to `shape`, over the axes that broadcasting from it repeated or added: the transpose of `expand`."""
    new = x.ndim - len(shape)
    stretched = [new + axis for axis, size in enumerate(shape) if size == 1 and x.shape[new + axis] != 1]
    axes = (*range(new), *stretched)
    if axes:
        x = sum_(x, axes=axes, keepdims=False)
    return x if x.shape == shape else reshape(x, shape=shape)
