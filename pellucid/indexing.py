"""`x[key]` and `x[key] = value`, put together from the operations (floor 3).

A key is read once into a plan: slices for every axis (`slice`, whole numbers, `...`, None), then the axes picked by
integer or bool Tensors, which become one row number each: picking is a `take` on the flattened axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .arguments import array_of
from .core.op import Op, new_value
from .core.sharing import Path, as_view
from .core.value import Value, current_tracer, refuse_array, traced_or_array
from .errors import DTypeError, IndexRangeError, ShapeError, format_shape
from .ops.elementwise import add, cast, less, multiply, where
from .ops.index import put, take, within
from .ops.movement import Slices, permute, place, reshape, slice_
from .ops.reduce import expand


class Plan(NamedTuple):
    """What a key means for one shape: first slice, then drop and add axes, then pick.

    slices: per axis of x; basic: the shape once the axes of whole numbers are dropped and those of None added;
    picks: {axis of that shape: int64 value}.
    """

    slices: Slices
    basic: tuple[int, ...]
    picks: dict[int, Any]


def index(x: Any, key: Any) -> Any:
    """x[key]: slices and whole numbers are a `slice`, Tensors of positions a `take`; the gradient follows from those."""
    active = current_tracer()
    if active is not None and (mask := _mask(x.shape, key)) is not None:
        return active.selected(x, mask)
    plan = read_key(x.shape, key)
    path, y = _path(x.shape, plan), x
    for op, attributes in path:
        y = op(y, **attributes)
    return _pick(y, plan.picks) if plan.picks else as_view(y, x, path)


def _path(shape: tuple[int, ...], plan: Plan) -> Path:
    """The movements from a Tensor of `shape` to what the plan takes before it picks; a reshape at the end where it does not pick."""
    path: list[tuple[Op, dict[str, Any]]] = []
    if any(s != (0, size, 1) for s, size in zip(plan.slices, shape, strict=True)):
        path.append((slice_, {"slices": plan.slices}))
        shape = tuple([count for _, count, _ in plan.slices])
    if shape != plan.basic or not plan.picks:
        path.append((reshape, {"shape": plan.basic}))
    return tuple(path)


def path_to(x: Any, key: Any, value: Any) -> Path | None:
    """Where `x[key] = value` writes; None where the key picks by Tensors. Raises ShapeError where value does not fit."""
    if current_tracer() is not None and _mask(x.shape, key) is not None:
        return None
    plan = read_key(x.shape, key)
    if plan.picks:
        return None
    _fits(value, plan.basic, x.shape)
    return _path(x.shape, plan)


def with_index(x: Any, key: Any, value: Any) -> Any:
    """A new x in which x[key] is `value` (broadcast)."""
    active = current_tracer()
    if active is not None and (mask := _mask(x.shape, key)) is not None:
        return active.replaced(x, mask, value)
    plan = read_key(x.shape, key)
    taken = tuple(count for _, count, _ in plan.slices)
    if plan.picks:
        part = reshape(slice_(x, slices=plan.slices), shape=plan.basic)
        part = _put(part, plan.picks, value)
    else:
        part = expand(value, shape=_fits(value, plan.basic, x.shape))
    part = reshape(part, shape=taken)
    if taken == x.shape and all(step == 1 for _, _, step in plan.slices):
        return part
    inside = place(expand(new_value(np.asarray(True)), shape=taken), shape=x.shape, slices=plan.slices)
    return where(inside, place(part, shape=x.shape, slices=plan.slices), x)


# ---- reading a key -----------------------------------------------------------------------------------------------------


def read_key(shape: tuple[int, ...], key: Any) -> Plan:
    """The plan of `key` for a Tensor of `shape`; raises IndexRangeError, DTypeError or ShapeError."""
    parts = _with_ellipsis(shape, list(key) if isinstance(key, tuple) else [key])
    slices: list[tuple[int, int, int]] = []
    basic: list[int] = []
    picks: dict[int, Any] = {}
    for part in parts:
        axis = len(slices)
        if part is None:
            basic.append(1)
        elif isinstance(part, slice):
            start, stop, step = _bounds(part, shape[axis])
            slices.append((start, len(range(start, stop, step)), step))
            basic.append(slices[-1][1])
        elif isinstance(part, Value):
            for position in _positions(part, shape, axis):
                picks[len(basic)] = position
                slices.append((0, shape[len(slices)], 1))
                basic.append(slices[-1][1])
        else:
            slices.append((_whole_number(part, shape, axis), 1, 1))
    return Plan(tuple(slices), tuple(basic), picks)


def _bounds(part: slice, size: int) -> tuple[int, int, int]:
    try:
        return part.indices(size)
    except (TypeError, ValueError):
        raise IndexRangeError(
            f"index: {part}; expected whole numbers or nothing around the colons, and a step that is not 0; check them"
        ) from None


def _with_ellipsis(shape: tuple[int, ...], parts: list[Any]) -> list[Any]:
    """The key with `...` spelled out and positions as values, one part per axis (or None for a new one)."""
    parts = [_as_part(part) for part in parts]
    used = sum(_axes_used(part) for part in parts)
    if used > len(shape):
        raise IndexRangeError(
            f"index: {used} positions for shape {format_shape(shape)}; expected at most {len(shape)}; drop some"
        )
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise IndexRangeError(f"index: {len(dots)} times `...`; expected it once; write : for the other axes")
    at = dots[0] if dots else len(parts)
    return parts[:at] + [slice(None)] * (len(shape) - used) + parts[at + (1 if dots else 0) :]


def _axes_used(part: Any) -> int:
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if isinstance(part, Value) and part.dtype.kind == "b" else 1


def _as_part(part: Any) -> Any:
    if isinstance(part, list | np.ndarray):
        refuse_array(part)
        array = array_of(part)
        none = isinstance(part, list) and not array.size
        part = new_value(np.array(array, np.int64 if none else None))  # a copy: the gradient reads it later
    if isinstance(part, Value):
        if part.dtype.kind not in "iub":
            raise DTypeError(f"index: {part.dtype}; expected whole numbers or bool; convert with .long()")
        return part if part.ndim else traced_or_array(part).item()
    return part


def _whole_number(part: Any, shape: tuple[int, ...], axis: int) -> int:
    if isinstance(part, bool) or not isinstance(part, int | np.integer):
        raise DTypeError(
            f"index: {part!r} ({type(part).__name__}); "
            "expected whole numbers, slices, ..., None or integer Tensors; convert it"
        )
    size = shape[axis]
    if not -size <= part < size:
        raise IndexRangeError(
            f"index: {part} on axis {axis} of {format_shape(shape)}; expected {-size} to {size - 1}; check the bounds"
        )
    return int(part) % size


def _positions(part: Any, shape: tuple[int, ...], axis: int) -> list[Any]:
    """The integer positions that a part picks, one value per axis; a bool mask covers as many axes as it has."""
    if part.dtype.kind != "b":
        return [part if part.dtype == np.int64 else cast(part, dtype=np.dtype(np.int64))]
    _check_mask(part, shape, axis)
    return [new_value(found) for found in np.nonzero(traced_or_array(part))]


def _mask(shape: tuple[int, ...], key: Any) -> Any:
    """The mask over the first axes of `shape` that `key` is, or None where it is something else."""
    if isinstance(key, tuple) and len(key) == 1:
        key = key[0]
    if not isinstance(key, Value) or key.dtype.kind != "b" or not key.ndim:
        return None
    _check_mask(key, shape, 0)
    return key


def _check_mask(part: Any, shape: tuple[int, ...], axis: int) -> None:
    if part.shape != shape[axis : axis + part.ndim]:
        raise ShapeError(
            f"index: mask {format_shape(part.shape)} on axes {format_shape(shape[axis : axis + part.ndim])}; "
            "expected equal shapes; build it from the same Tensor"
        )


# ---- picking by Tensors of positions -----------------------------------------------------------------------------------


def _flat_rows(shape: tuple[int, ...], picks: dict[int, Any]) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """Row numbers into the picked axes laid out flat, the axis order that brings those to the front, and their sizes."""
    axes = sorted(picks)
    try:
        picked = np.broadcast_shapes(*(picks[axis].shape for axis in axes))
    except ValueError:
        came = " and ".join(format_shape(picks[axis].shape) for axis in axes)
        raise ShapeError(f"index: positions of shapes {came}; expected shapes that broadcast; reshape one") from None
    rows: Any = None
    for axis in axes:
        size = shape[axis]
        position = _checked(picks[axis], size, axis, shape)
        position = where(less(position, 0), add(position, size), position)
        rows = position if rows is None else add(multiply(rows, size), position)
    order = (*axes, *(axis for axis in range(len(shape)) if axis not in axes))
    return expand(rows, shape=picked), order, tuple(shape[axis] for axis in axes)


def _checked(position: Any, size: int, axis: int, shape: tuple[int, ...]) -> Any:
    message = (
        f"index: {{}} on axis {axis} of {format_shape(shape)}; expected {-size} to {size - 1}; check the positions"
    )
    return within(position, low=-size, high=size, spare=None, message=message)


def _pick(y: Any, picks: dict[int, Any]) -> Any:
    if list(picks) == [0]:  # the embedding look-up: no axis moves
        return take(y, picks[0])
    rows, order, sizes = _flat_rows(y.shape, picks)
    rest = tuple(y.shape[axis] for axis in order[len(sizes) :])
    flat = reshape(permute(y, axes=order), shape=(math.prod(sizes), *rest))
    result = take(flat, rows)  # (picked..., rest...)
    return permute(result, axes=_home(rows.ndim, len(rest), sorted(picks)))


def _home(picked: int, rest: int, axes: Sequence[int]) -> tuple[int, ...]:
    """The order that puts the picked axes where the first of them stood, if they stood together; else they lead."""
    together = axes[-1] - axes[0] + 1 == len(axes)
    front = axes[0] if together else 0
    others = range(picked, picked + rest)
    return (*others[:front], *range(picked), *others[front:])


def _put(x: Any, picks: dict[int, Any], value: Any) -> Any:
    rows, order, sizes = _flat_rows(x.shape, picks)
    rest = tuple(x.shape[axis] for axis in order[len(sizes) :])
    home = _home(rows.ndim, len(rest), sorted(picks))
    shape = tuple((*rows.shape, *rest)[axis] for axis in home)
    values = permute(expand(value, shape=_fits(value, shape, x.shape)), axes=_inverse(home))
    flat = put(reshape(permute(x, axes=order), shape=(math.prod(sizes), *rest)), rows, values)
    return permute(reshape(flat, shape=(*sizes, *rest)), axes=_inverse(order))


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def _fits(value: Any, shape: tuple[int, ...], whole: tuple[int, ...]) -> tuple[int, ...]:
    new = len(shape) - value.ndim
    if new < 0 or any(have not in (1, want) for have, want in zip(value.shape, shape[new:], strict=True)):
        raise ShapeError(
            f"x[...] = value: value {format_shape(value.shape)} into a place of {format_shape(shape)} in {format_shape(whole)}; "
            "expected a shape that broadcasts; reshape it"
        )
    return shape
