"""Indexing: `x[key]` and `x[key] = value`, composed of slices, gathers and scatters (floor 3).

A key is read once into a `Plan`: a slice for every axis (from slices, whole numbers, `...` and None), then the axes indexed by
integer or bool Tensors. Those axes are flattened into one and their positions into row numbers, which `take` and `put` read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .arguments import array_of
from .core.op import Attributes, new_value
from .core.sharing import Movement, Path, as_view
from .core.value import V, Value, current_tracer, refuse_array, traced_or_array
from .errors import DTypeError, IndexRangeError, ShapeError, format_shape
from .ops.elementwise import add, cast, less, multiply, where
from .ops.index import check_index, index_put, take
from .ops.movement import Slices, pad, permute, reshape, slice_
from .ops.reduce import expand

# What stands in the brackets: a whole number, a slice, None, `...`, a Tensor, an array, a list, or a tuple of these.
Key = Any


class Plan(NamedTuple):
    """What a key means for one shape: first slice, then drop and add axes, then gather.

    slices: per axis of x; basic: the shape once the axes of whole numbers are dropped and those of None added;
    picks: {axis of that shape: int64 positions}.
    """

    slices: Slices
    basic: tuple[int, ...]
    picks: dict[int, Value]


def index(x: Value, key: Key) -> Any:
    """x[key]: a view where no Tensor picks, else a `take`. See `Tensor.__getitem__` for keys and errors."""
    active = current_tracer()
    if active is not None and (mask := _mask(x.shape, key)) is not None:
        return active.selected(x, mask)
    plan = read_key(x.shape, key)
    path, y = _path(x.shape, plan), x
    for op, attributes in path:
        y = op(y, **attributes)
    return _pick(y, plan.picks) if plan.picks else as_view(y, x, path)


def _path(shape: tuple[int, ...], plan: Plan) -> Path:
    """The movements from a Tensor of `shape` to what the plan slices; they end in a reshape where nothing is picked."""
    path: list[tuple[Movement, Attributes]] = []
    if any(s != (0, size, 1) for s, size in zip(plan.slices, shape, strict=True)):
        path.append((slice_, {"slices": plan.slices}))
        shape = tuple([count for _, count, _ in plan.slices])
    if shape != plan.basic or not plan.picks:
        path.append((reshape, {"shape": plan.basic}))
    return tuple(path)


def path_to(x: Value, key: Key, value: Value) -> Path | None:
    """The path of the view that `x[key] = value` writes; None where the key picks by Tensors. ShapeError for a value that does
    not fit.
    """
    if current_tracer() is not None and _mask(x.shape, key) is not None:
        return None
    plan = read_key(x.shape, key)
    if plan.picks:
        return None
    _fits(value, plan.basic, x.shape)
    return _path(x.shape, plan)


def with_index(x: V, key: Key, value: Value) -> V:
    """A new x in which x[key] is `value` (broadcast)."""
    active = current_tracer()
    if active is not None and (mask := _mask(x.shape, key)) is not None:
        return active.replaced(x, mask, value)
    plan = read_key(x.shape, key)
    taken = tuple(count for _, count, _ in plan.slices)
    if plan.picks:
        sliced = reshape(slice_(x, slices=plan.slices), shape=plan.basic)
        written = _put(sliced, plan.picks, value)
    else:
        written = expand(value, shape=_fits(value, plan.basic, x.shape))
    written = reshape(written, shape=taken)
    if taken == x.shape and all(step == 1 for _, _, step in plan.slices):
        return written
    inside = pad(expand(new_value(np.asarray(True)), shape=taken), shape=x.shape, slices=plan.slices)
    return where(inside, pad(written, shape=x.shape, slices=plan.slices), x)


# ---- reading a key -----------------------------------------------------------------------------------------------------


def read_key(shape: tuple[int, ...], key: Key) -> Plan:
    """The plan of `key` for a Tensor of `shape`; raises IndexRangeError, DTypeError or ShapeError."""
    items = _with_ellipsis(shape, list(key) if isinstance(key, tuple) else [key])
    slices: list[tuple[int, int, int]] = []
    basic: list[int] = []
    picks: dict[int, Value] = {}
    for item in items:
        axis = len(slices)
        if item is None:
            basic.append(1)
        elif isinstance(item, slice):
            start, stop, step = _bounds(item, shape[axis])
            slices.append((start, len(range(start, stop, step)), step))
            basic.append(slices[-1][1])
        elif isinstance(item, Value):
            for position in _positions(item, shape, axis):
                picks[len(basic)] = position
                slices.append((0, shape[len(slices)], 1))
                basic.append(slices[-1][1])
        else:
            slices.append((_whole_number(item, shape, axis), 1, 1))
    return Plan(tuple(slices), tuple(basic), picks)


def _bounds(item: slice, size: int) -> tuple[int, int, int]:
    """(start, stop, step) of a slice; raises IndexRangeError for bounds that are not whole numbers."""
    try:
        return item.indices(size)
    except (TypeError, ValueError):
        raise IndexRangeError(
            f"index: {item}; expected whole numbers or nothing around the colons, and a step that is not 0; check them"
        ) from None


def _with_ellipsis(shape: tuple[int, ...], items: list[Any]) -> list[Any]:
    """The key with `...` spelled out and positions as values, one item per axis (or None for a new one)."""
    items = [_as_item(item) for item in items]
    used = sum(_axes_used(item) for item in items)
    if used > len(shape):
        raise IndexRangeError(
            f"index: {used} positions for shape {format_shape(shape)}; expected at most {len(shape)}; drop some"
        )
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise IndexRangeError(f"index: {len(dots)} times `...`; expected it once; write : for the other axes")
    at = dots[0] if dots else len(items)
    return items[:at] + [slice(None)] * (len(shape) - used) + items[at + (1 if dots else 0) :]


def _axes_used(item: object) -> int:
    """How many axes of x an item indexes."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, Value) and item.dtype.kind == "b" else 1


def _as_item(item: Any) -> Any:
    """An item of a key with arrays and lists as values, and 0-d Tensors as numbers."""
    if isinstance(item, list | np.ndarray):
        refuse_array(item)
        array = array_of(item)
        none = isinstance(item, list) and not array.size
        item = new_value(np.array(array, np.int64 if none else None))  # a copy: the gradient reads it later
    if isinstance(item, Value):
        if item.dtype.kind not in "iub":
            raise DTypeError(f"index: {item.dtype}; expected whole numbers or bool; convert with .long()")
        return item if item.ndim else traced_or_array(item).item()
    return item


def _whole_number(item: object, shape: tuple[int, ...], axis: int) -> int:
    """An index counted from 0; raises DTypeError for anything but a whole number, IndexRangeError out of range."""
    if isinstance(item, bool) or not isinstance(item, int | np.integer):
        raise DTypeError(
            f"index: {item!r} ({type(item).__name__}); "
            "expected whole numbers, slices, ..., None or integer Tensors; convert it"
        )
    size = shape[axis]
    if not -size <= item < size:
        raise IndexRangeError(
            f"index: {item} on axis {axis} of {format_shape(shape)}; expected {-size} to {size - 1}; check the bounds"
        )
    return int(item) % size


def _positions(item: Value, shape: tuple[int, ...], axis: int) -> list[Value]:
    """The integer positions that an item picks, one value per axis; a bool mask covers as many axes as it has."""
    if item.dtype.kind != "b":
        return [item if item.dtype == np.int64 else cast(item, dtype=np.dtype(np.int64))]
    _check_mask(item, shape, axis)
    return [new_value(positions) for positions in np.nonzero(traced_or_array(item))]


def _mask(shape: tuple[int, ...], key: Key) -> Value | None:
    """The mask over the first axes of `shape` that `key` is, or None where it is something else."""
    if isinstance(key, tuple) and len(key) == 1:
        key = key[0]
    if not isinstance(key, Value) or key.dtype.kind != "b" or not key.ndim:
        return None
    _check_mask(key, shape, 0)
    return key


def _check_mask(item: Value, shape: tuple[int, ...], axis: int) -> None:
    """Raise ShapeError unless the mask has the sizes of the axes from `axis` on."""
    if item.shape != shape[axis : axis + item.ndim]:
        raise ShapeError(
            f"index: mask {format_shape(item.shape)} on axes {format_shape(shape[axis : axis + item.ndim])}; "
            "expected equal shapes; build it from the same Tensor"
        )


# ---- picking by Tensors of positions -----------------------------------------------------------------------------------


def _flat_rows(shape: tuple[int, ...], picks: dict[int, Value]) -> tuple[Value, tuple[int, ...], tuple[int, ...]]:
    """Row numbers into the picked axes laid out flat, the axis order that brings those to the front, and their sizes."""
    axes = sorted(picks)
    try:
        picked = np.broadcast_shapes(*(picks[axis].shape for axis in axes))
    except ValueError:
        came = " and ".join(format_shape(picks[axis].shape) for axis in axes)
        raise ShapeError(f"index: positions of shapes {came}; expected shapes that broadcast; reshape one") from None
    rows: Value | None = None
    for axis in axes:
        size = shape[axis]
        position = _checked(picks[axis], size, axis, shape)
        position = where(less(position, 0), add(position, size), position)
        rows = position if rows is None else add(multiply(rows, size), position)
    assert rows is not None  # something is picked
    order = (*axes, *(axis for axis in range(len(shape)) if axis not in axes))
    return expand(rows, shape=picked), order, tuple(shape[axis] for axis in axes)


def _checked(position: Value, size: int, axis: int, shape: tuple[int, ...]) -> Value:
    """`position` with a bounds check."""
    message = (
        f"index: {{}} on axis {axis} of {format_shape(shape)}; expected {-size} to {size - 1}; check the positions"
    )
    return check_index(position, low=-size, high=size, spare=None, message=message)


def _pick(y: V, picks: dict[int, Value]) -> V:
    """y at the positions of `picks`, whose axes stand together in the result."""
    if list(picks) == [0]:  # the embedding look-up: no axis moves
        return take(y, picks[0])
    rows, order, sizes = _flat_rows(y.shape, picks)
    rest = tuple(y.shape[axis] for axis in order[len(sizes) :])
    flat = reshape(permute(y, axes=order), shape=(math.prod(sizes), *rest))
    result = take(flat, rows)  # (picked..., rest...)
    return permute(result, axes=_picked_axes_order(rows.ndim, len(rest), sorted(picks)))


def _picked_axes_order(picked: int, rest: int, axes: Sequence[int]) -> tuple[int, ...]:
    """The order that puts the picked axes where the first of them stood, if they stood together; else they lead."""
    together = axes[-1] - axes[0] + 1 == len(axes)
    front = axes[0] if together else 0
    others = range(picked, picked + rest)
    return (*others[:front], *range(picked), *others[front:])


def _put(x: Value, picks: dict[int, Value], value: Value) -> Value:
    """x with `value` written at the positions of `picks`."""
    rows, order, sizes = _flat_rows(x.shape, picks)
    rest = tuple(x.shape[axis] for axis in order[len(sizes) :])
    order_back = _picked_axes_order(rows.ndim, len(rest), sorted(picks))
    shape = tuple((*rows.shape, *rest)[axis] for axis in order_back)
    values = permute(expand(value, shape=_fits(value, shape, x.shape)), axes=_inverse(order_back))
    flat = index_put(reshape(permute(x, axes=order), shape=(math.prod(sizes), *rest)), rows, values)
    return permute(reshape(flat, shape=(*sizes, *rest)), axes=_inverse(order))


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    """The order of axes that undoes `order`."""
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def _fits(value: Value, shape: tuple[int, ...], whole: tuple[int, ...]) -> tuple[int, ...]:
    """`shape`; raises ShapeError unless `value` broadcasts to it."""
    new = len(shape) - value.ndim
    if new < 0 or any(have not in (1, want) for have, want in zip(value.shape, shape[new:], strict=True)):
        raise ShapeError(
            f"x[...] = value: value {format_shape(value.shape)} into a place of {format_shape(shape)} in {format_shape(whole)}; "
            "expected a shape that broadcasts; reshape it"
        )
    return shape
