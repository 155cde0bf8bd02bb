"""Data movement: reshape, permute, slice, pad and concatenate (floor 2).

All are linear, so their gradients need shapes alone, and each is the transpose of another: the gradient of a slice is a pad.
`expand` is a movement too; it stands in `reduce.py` beside its transpose, the sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..core.op import REGISTRY, Attributes, Node, Rule, SampleInputs, new_value
from ..core.sharing import Movement
from ..core.value import Shaped, Spec, Value
from ..errors import format_shape

Slices = tuple[tuple[int, int, int], ...]  # (start, count, step) for every axis; step may be negative


class Reshape(Movement):
    """The same numbers in row-major order in another shape; ShapeError where the counts differ."""

    is_view = True

    def infer(self, x: Shaped, *, shape: tuple[int, ...]) -> Spec:
        if math.prod(shape) != math.prod(x.shape):
            raise self.fail(
                f"{format_shape(x.shape)} holds {math.prod(x.shape)} numbers, {format_shape(shape)} would hold {math.prod(shape)}",
                "expected the same count",
                "use -1 for one size to have it worked out",
            )
        return Spec(shape, x.dtype)

    def forward(self, x: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray:
        return x.reshape(shape)

    def inverse(self, old: Value, part: Value, *, shape: tuple[int, ...]) -> Value:
        return self(part, shape=old.shape)

    def batched(self, attributes: Attributes, size: int) -> Attributes | None:
        return {**attributes, "shape": (size, *attributes["shape"])}

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(2, 6))], {"shape": (3, 4)}
        yield [random.normal(size=(4, 3)).T], {"shape": (12,)}
        yield [random.normal(size=())], {"shape": (1, 1)}
        yield [random.normal(size=(0, 3))], {"shape": (3, 0)}


class Permute(Movement):
    """The axes in another order: axis i of the output is axis `axes[i]` of the input."""

    is_view = True

    def infer(self, x: Shaped, *, axes: tuple[int, ...]) -> Spec:
        if sorted(axes) != list(range(x.ndim)):
            raise self.fail(
                f"axes {axes} for shape {format_shape(x.shape)}", "expected each axis once", "name them all"
            )
        return Spec(tuple([x.shape[axis] for axis in axes]), x.dtype)

    def forward(self, x: np.ndarray, *, axes: tuple[int, ...]) -> np.ndarray:
        return x.transpose(axes)

    def inverse(self, old: Value, part: Value, *, axes: tuple[int, ...]) -> Value:
        return self(part, axes=tuple(sorted(range(len(axes)), key=axes.__getitem__)))

    def batched(self, attributes: Attributes, size: int) -> Attributes | None:
        return {**attributes, "axes": (0, *[axis + 1 for axis in attributes["axes"]])}

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(2, 3))], {"axes": (1, 0)}
        yield [random.normal(size=(2, 3, 4))], {"axes": (2, 0, 1)}
        yield [random.normal(size=())], {"axes": ()}
        yield [random.normal(size=(0, 2))], {"axes": (1, 0)}


class Slice(Movement):
    """`count` numbers from `start` on, `step` apart, along every axis; ShapeError beyond the bounds."""

    is_view = True

    def infer(self, x: Shaped, *, slices: Slices) -> Spec:
        for axis, (start, count, step) in enumerate(slices):
            last = start + (count - 1) * step
            if count and not (0 <= start < x.shape[axis] and 0 <= last < x.shape[axis]):
                raise self.fail(
                    f"{count} from {start} by {step} on axis {axis} of {format_shape(x.shape)}",
                    f"positions 0 to {x.shape[axis] - 1}",
                    "check the bounds",
                )
        return Spec(tuple([count for _, count, _ in slices]), x.dtype)

    def forward(self, x: np.ndarray, *, slices: Slices) -> np.ndarray:
        return x[as_slices(slices)]

    def inverse(self, old: Value, part: Value, *, slices: Slices) -> Value:
        if part.shape == old.shape and all(step == 1 for _, _, step in slices):
            return part
        inside = REGISTRY["expand"](new_value(np.asarray(True)), shape=part.shape)
        inside = pad(inside, shape=old.shape, slices=slices)
        return REGISTRY["where"](inside, pad(part, shape=old.shape, slices=slices), old)

    def batched(self, attributes: Attributes, size: int) -> Attributes | None:
        return {**attributes, "slices": ((0, size, 1), *attributes["slices"])}

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(5,))], {"slices": ((1, 3, 1),)}
        yield [random.normal(size=(4, 6))], {"slices": ((3, 4, -1), (0, 3, 2))}
        yield [random.normal(size=(3, 2))], {"slices": ((0, 0, 1), (1, 1, 1))}
        yield [random.normal(size=())], {"slices": ()}


class Pad(Movement):
    """Zeros of `shape` with x at `slices`: zero padding, also between the numbers; the transpose of `slice`."""

    def infer(self, x: Shaped, *, shape: tuple[int, ...], slices: Slices) -> Spec:
        return Spec(shape, x.dtype)

    def forward(self, x: np.ndarray, *, shape: tuple[int, ...], slices: Slices) -> np.ndarray:
        y = np.zeros(shape, x.dtype)
        y[as_slices(slices)] = x
        return y

    def batched(self, attributes: Attributes, size: int) -> Attributes | None:
        shape, slices = attributes["shape"], attributes["slices"]
        return {**attributes, "shape": (size, *shape), "slices": ((0, size, 1), *slices)}

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(3,))], {"shape": (6,), "slices": ((1, 3, 2),)}
        yield [random.normal(size=(2, 2))], {"shape": (4, 3), "slices": ((3, 2, -2), (1, 2, 1))}
        yield [random.normal(size=(0,))], {"shape": (2,), "slices": ((0, 0, 1),)}


class Concatenate(Movement):
    """Any number of inputs one after another along `axis`; ShapeError where other sizes differ."""

    def infer(self, *inputs: Shaped, axis: int) -> Spec:
        first = inputs[0].shape
        for position, value in enumerate(inputs[1:], start=1):
            if value.shape[:axis] != first[:axis] or value.shape[axis + 1 :] != first[axis + 1 :]:
                raise self.fail(
                    f"input {position} is {format_shape(value.shape)}, input 0 is {format_shape(first)}",
                    f"expected equal sizes on every axis but {axis}",
                    "reshape or slice them",
                )
        total = sum(value.shape[axis] for value in inputs)
        return Spec((*first[:axis], total, *first[axis + 1 :]), inputs[0].dtype)

    def forward(self, *arrays: np.ndarray, axis: int) -> np.ndarray:
        return np.concatenate(arrays, axis)

    def rules(self, node: Node) -> Sequence[Rule]:
        rules, start = [], 0
        for value in node.inputs:
            rules.append(_piece(start, value.shape))
            start += value.shape[node.attributes["axis"]]
        return rules

    def batched(self, attributes: Attributes, size: int) -> Attributes | None:
        return {**attributes, "axis": attributes["axis"] + 1}

    def sample_inputs(self, random: np.random.Generator) -> SampleInputs:
        yield [random.normal(size=(2, 3)), random.normal(size=(4, 3))], {"axis": 0}
        yield [random.normal(size=(2, 1)), random.normal(size=(2, 0)), random.normal(size=(2, 2))], {"axis": 1}
        yield [random.normal(size=(3,))], {"axis": 0}


def _piece(start: int, shape: tuple[int, ...]) -> Rule:
    """The gradient rule of the input that lies at `start`: its slice of g."""

    def rule(g: Value, y: Value, *inputs: Value, axis: int) -> Value:
        return slice_(g, slices=tuple([(start if i == axis else 0, size, 1) for i, size in enumerate(shape)]))

    return rule


def as_slices(slices: Slices) -> tuple[slice, ...]:
    """NumPy's slices for `(start, count, step)` triples (an end before 0 must be spelled None)."""
    result = []
    for start, count, step in slices:
        stop = start + count * step
        result.append(slice(start, stop if stop >= 0 else None, step) if count else slice(0, 0))
    return tuple(result)


reshape: Movement = Reshape("reshape", [lambda g, y, x, shape: reshape(g, shape=x.shape)])
"""reshape(x, shape=...)"""
permute: Movement = Permute(
    "permute", [lambda g, y, x, axes: permute(g, axes=tuple(sorted(range(len(axes)), key=axes.__getitem__)))]
)
"""permute(x, axes=...)"""
slice_: Movement = Slice("slice", [lambda g, y, x, slices: pad(g, shape=x.shape, slices=slices)])
"""slice_(x, slices=((start, count, step), ...))"""
pad: Movement = Pad("pad", [lambda g, y, x, shape, slices: slice_(g, slices=slices)])
"""pad(x, shape=..., slices=...): zero padding."""
concatenate = Concatenate("concatenate", [None])
"""concatenate(*inputs, axis=...)"""
