"""Padding an axis of the arguments: a step recorded at a bucket's size that computes on the true length alone (floor 4).

The step is recorded twice, at the true length n and at the bucket's size L. Whatever differs between the two graphs depends
on the length: a size that is n in one and L in the other is a padded axis, a constant that differs is a number of this
length. The padded graph is the one at L in which nothing of the padding reaches a number that counts:

- Elementwise operations and movements carry the padding along. What stands there may be anything, NaN too.
- A sum, maximum, product or other operation that takes a padded axis away reads what changes no result in its place.
- Constants of the length, masks among them, become slots of kind "length", filled in for every length.

Anything else, such as a reversed axis or a convolution along it, raises TraceError: right or refused.

An axis is described by its factors, such as (8, PADDED) for a batch and a sequence that a reshape has made one axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import TraceError, words
from ..op import Symbol
from ..ops.attention import gradient_shapes, result_shapes
from .graph import Graph, Slot, ordered
from .rewriting import apply, like, number

SMALLEST = 8
PADDED = -1  # the factor that is n of the true length and L of the bucket
Axis = tuple[int, ...]
Axes = tuple[Axis, ...]


class Lengths:
    """The true length and the size of the bucket."""

    def __init__(self, true: int, size: int) -> None:
        self.true, self.size = true, size

    def measure(self, axis: Iterable[int], padded: int) -> int:
        return math.prod(padded if factor == PADDED else factor for factor in axis)

    def fits(self, axis: Axis | None, true: int, size: int) -> bool:
        return axis is not None and (self.measure(axis, self.true), self.measure(axis, self.size)) == (true, size)

    def axis(self, true: int, size: int) -> Axis | None:
        """The axis that has this size at the true length and that one in the bucket; None where that is another."""
        if true == size:
            return simple((true,))
        return (PADDED,) if (true, size) == (self.true, self.size) else None

    def spread(self, array: np.ndarray, axes: Axes) -> np.ndarray:
        """What is there at the true length as it lies in the bucket, zeros behind it."""
        inner = [tuple(self.true if f == PADDED else f for f in axis) for axis in axes]
        outer = [tuple(self.size if f == PADDED else f for f in axis) for axis in axes]
        result = np.zeros([f for axis in outer for f in axis], array.dtype)
        result[self._within(axes)] = array.reshape([f for axis in inner for f in axis])
        return result.reshape([math.prod(axis) for axis in outer])

    def cut(self, array: np.ndarray, axes: Axes) -> np.ndarray:
        """Without the padding: the way back."""
        outer = [self.size if f == PADDED else f for axis in axes for f in axis]
        return array.reshape(outer)[self._within(axes)].reshape([self.measure(axis, self.true) for axis in axes])

    def _within(self, axes: Axes) -> tuple[slice, ...]:
        return tuple(slice(self.true if f == PADDED else None) for axis in axes for f in axis)


def simple(factors: Iterable[int]) -> Axis:
    """The factors in their one form: without ones, plain neighbours as one."""
    found: list[int] = []
    for f in factors:
        if f == 1:
            continue
        if found and f != PADDED and found[-1] != PADDED:
            found[-1] *= f
        else:
            found.append(f)
    return tuple(found)


def is_padded(axis: Axis) -> bool:
    return PADDED in axis


def bucket_of(length: int) -> int:
    """The size that a length is padded to: a quarter of a power of two apart, so at most a quarter is padding."""
    step = max(2 ** ((length - 1).bit_length() - 3), 1)
    return max(-(-length // step) * step, SMALLEST)


@dataclass
class Padding:
    """What a Program does for a padded recording. arguments: the padded ones by position, and the axis. outputs: for each
    its axes."""

    lengths: Lengths
    arguments: dict[int, int]
    outputs: list[Axes]

    def within(self, position: int, room: np.ndarray) -> np.ndarray:
        """The part of an argument's memory that a call fills; the rest stays zeros."""
        if position not in self.arguments:
            return room
        axis = self.arguments[position]
        return room[(slice(None),) * axis + (slice(self.lengths.true),)]

    def cut(self, number: int, array: np.ndarray) -> np.ndarray:
        axes = self.outputs[number]
        return self.lengths.cut(array, axes) if any(map(is_padded, axes)) else array


def padded(true: Graph, bucket: Graph, lengths: Lengths, given: dict[int, int], full: bool) -> tuple[Graph, Padding]:
    """The step at the bucket's size. given: of the arguments that are padded, by position, the axis. full: the length asked
    for is the bucket's own, and `true` another that shows what depends on it.

    Raises TraceError where something depends on the length in a way that is not understood.
    """
    graph, outputs = _Padding(true, bucket, lengths, full).run(given)
    return graph, Padding(Lengths(lengths.size, lengths.size) if full else lengths, given, outputs)


class _Padding:
    """The walk through both graphs side by side."""

    def __init__(self, true: Graph, bucket: Graph, lengths: Lengths, full: bool) -> None:
        self.true, self.bucket, self.lengths, self.full = true, bucket, lengths, full
        self.checks: list[Symbol] = []
        self.seen: dict[tuple[int, int], Axis] = {}  # padded axes by their sizes
        self.twin: dict[Symbol, Symbol] = {}  # of a Symbol of the bucket's graph that of the true length
        self.new: dict[Symbol, Symbol] = {}
        self.axes: dict[Symbol, Axes] = {}  # by Symbol of the new graph
        self.bucket_of: dict[Symbol, Symbol] = {}  # the way back
        self.aliases: dict[
            tuple[Symbol, Symbol], Symbol
        ] = {}  # what only the true length's graph has, on a Symbol of both
        self.packed: dict[Symbol, list[Axis]] = {}  # of what `attention` packs, the pieces
        self.slots: dict[Any, Slot] = {}
        self.at: Symbol  # the operation at hand, of the bucket's graph

    def run(self, given: dict[int, int]) -> tuple[Graph, list[Axes]]:
        self._inputs(given)
        left = iter(self.bucket.symbols)
        b = next(left, None)
        for a in self.true.symbols:
            if (b is None or a.op is not b.op or a.ndim != b.ndim) and self._is_whole(a):
                continue
            if (
                b is None
                or a.op is not b.op
                or a.dtype != b.dtype
                or a.ndim != b.ndim
                or len(a.inputs) != len(b.inputs)
            ):
                raise self._differs(b)
            self.at, self.twin[b] = b, a
            self.bucket_of[a] = b
            self._step(a, b)
            b = next(left, None)
        if b is not None:
            raise self._differs(b)
        outputs = [self._read(a, b) for a, b in zip(self.true.outputs, self.bucket.outputs, strict=True)]
        writes = []
        for (_, a), (slot, b) in zip(self.true.writes, self.bucket.writes, strict=True):
            symbol = self._read(a, b)
            if any(map(is_padded, self.axes[symbol])) or symbol in self.packed:
                raise self._refusal(
                    f"a Tensor {words(a.shape)} with the padded axis is written into the step's state", b
                )
            writes.append((slot, symbol))
        for symbol, b in zip(outputs, self.bucket.outputs, strict=True):
            if symbol in self.packed:
                raise self._refusal("what attention packs is returned", b)
        symbols = ordered([*self.checks, *outputs, *(s for _, s in writes)])
        slots = [*self.bucket.inputs, *self.slots.values()]
        return Graph(slots, symbols, outputs, writes), [self.axes[s] for s in outputs]

    def _inputs(self, given: dict[int, int]) -> None:
        if len(self.true.inputs) != len(self.bucket.inputs) or len(self.true.writes) != len(self.bucket.writes):
            raise self._differs(None)
        for a, b in zip(self.true.inputs, self.bucket.inputs, strict=True):
            same = a.kind == b.kind and (a.kind == "argument" or a.owner is b.owner) and a.position == b.position
            if not same or a.symbol.ndim != b.symbol.ndim:
                raise self._differs(None)
            axis = given.get(b.position) if b.kind == "argument" else None
            axes = tuple((PADDED,) if i == axis else simple((n,)) for i, n in enumerate(b.symbol.shape))
            self.bucket_of[a.symbol] = b.symbol
            self.twin[b.symbol], self.new[b.symbol], self.axes[b.symbol] = a.symbol, b.symbol, axes

    def axis_of(self, true: int, size: int) -> Axis | None:
        """The axis of these sizes: a plain one, the padded one, or one made of it that has been seen. What is the same all
        along, or lies in row order, may take any of the last; where it then meets another one, that is refused."""
        return self.lengths.axis(true, size) or self.seen.get((true, size)) or (() if true == size == 1 else None)

    # ---- what is read ----

    def _read(self, a: Symbol, b: Symbol) -> Symbol:
        """The new Symbol for `b`, which is `a` at the true length."""
        if b.constant is not None:
            if a.constant is None:
                raise self._differs(b)
            return self._constant(a, b)
        if (a, b) in self.aliases:
            return self.aliases[a, b]
        if self.twin.get(b) is not a:
            raise self._differs(b)
        return self.new[b]

    def _is_whole(self, a: Symbol) -> bool:
        """Whether `a`, a slice of a table or its transpose, is the whole table in the bucket, where nothing is recorded."""
        name = a.op.name  # type: ignore[union-attr]
        b = self.bucket_of.get(a.inputs[0]) if name in ("slice", "place") else None
        if b is None or b not in self.new or self.new[b] in self.packed:
            return False
        x, self.at = self.new[b], b
        axes = list(self.axes[x])
        shapes = zip(a.inputs[0].shape, a.shape, b.shape, a.attributes["slices"], strict=True)
        for i, (before, after, size, (start, _, step)) in enumerate(shapes):
            grows = (after, before) if name == "slice" else (before, after)  # the part, the whole
            if (start, step) != (0, 1) or (before != after and grows != (self.lengths.true, size)):
                return False
            if before != after and (size != self.lengths.size or is_padded(axes[i]) == (name == "slice")):
                return False
            if before != after:
                axes[i] = (PADDED,) if name == "slice" else simple((size,))
        changed = [i for i, axis in enumerate(axes) if axis != self.axes[x][i]]
        y = self.without_padding(x, 0, changed) if name == "place" else apply("cast", x, origin=b.origin, dtype=x.dtype)
        self.aliases[a, b], self.axes[y] = y, tuple(axes)
        return True

    def _constant(self, a: Symbol, b: Symbol) -> Symbol:
        assert a.constant is not None and b.constant is not None
        if a.ndim != b.ndim or a.dtype != b.dtype:
            raise self._differs(b)
        if a.shape == b.shape and a.constant.tobytes() == b.constant.tobytes():
            self.axes[b] = tuple(simple((n,)) for n in b.shape)
            return b
        axes = tuple(self.axis_of(*sizes) for sizes in zip(a.shape, b.shape, strict=True))
        if None in axes:
            raise self._refusal(f"a constant {words(a.shape)} depends on the length", b)
        return self._of_length(a.constant, b.constant, axes, b, ("constant", id(b)))  # type: ignore[arg-type]

    def _of_length(self, true: np.ndarray, bucket: np.ndarray, axes: Axes, like_: Symbol, key: Any) -> Symbol:
        """A slot that is filled for every length, from what is there at that one."""
        if key not in self.slots:
            spread = bucket if self.full else self.lengths.spread(true, axes)
            about = {"scalar": True} if spread.ndim == 0 else {}
            symbol = Symbol(None, (), about, spread.shape, spread.dtype, like_.origin)
            self.slots[key] = Slot("length", spread, symbol)
            self.axes[symbol] = axes
        return self.slots[key].symbol

    def _mask(self, axis: Axis) -> Symbol:
        """True where a padded axis counts."""
        true, size = (np.ones(self.lengths.measure(axis, n), np.bool_) for n in (self.lengths.true, self.lengths.size))
        return self._of_length(true, size, (axis,), self.at, ("mask", axis))

    def without_padding(self, x: Symbol, fill: Any, which: Iterable[int] | None = None) -> Symbol:
        """x with `fill` in the padding of its axes `which`, or of all."""
        axes = self.axes[x]
        for i in range(x.ndim) if which is None else which:
            if is_padded(axes[i]):
                shape = tuple(x.shape[i] if k == i else 1 for k in range(x.ndim))
                mask = apply("reshape", self._mask(axes[i]), origin=self.at.origin, shape=shape)
                x = apply("where", mask, x, number(fill, x.dtype, self.at.origin), origin=self.at.origin)
                self.axes[x] = axes
        return x

    # ---- one operation ----

    def _step(self, a: Symbol, b: Symbol) -> None:
        inputs = [self._read(x, y) for x, y in zip(a.inputs, b.inputs, strict=True)]
        name, kind = b.op.name, b.op.kind  # type: ignore[union-attr]
        touched = a.shape != b.shape or any(x in self.packed or any(map(is_padded, self.axes[x])) for x in inputs)
        if not touched:
            if _about(a) != _about(b):
                raise self._refusal(f"{name} depends on the length", b)
            axes: Any = tuple(simple((n,)) for n in b.shape)
        else:
            rule: Callable[..., Any] | None = _elementwise if kind == "elementwise" else RULES.get(name)
            if rule is None:
                raise self._refusal(f"{name} of {words(a.shape)} reads or makes the padded axis", b)
            if _about(a, FREE.get(name, ())) != _about(b, FREE.get(name, ())):
                raise self._refusal(f"{name} depends on the length", b)
            if any(x in self.packed for x in inputs) and name not in ("slice", "attention_gradient", "add"):
                raise self._refusal(f"{name} reads what attention packs", b)
            inputs, axes = rule(self, a, b, inputs)
        symbol = inputs.pop() if len(inputs) > len(b.inputs) and name == "bits" else like(b, tuple(inputs))
        self.new[b] = symbol
        if isinstance(axes, list):  # a packed result's pieces
            self.packed[symbol], self.axes[symbol] = axes, ((),)
            return
        fitting = len(axes) == b.ndim and all(
            self.lengths.fits(axis, n, size) for axis, n, size in zip(axes, a.shape, b.shape, strict=True)
        )
        if not fitting:
            raise self._refusal(f"{name} makes {words(a.shape)}", b)
        self.axes[symbol] = axes
        self.seen |= {(n, size): axis for axis, n, size in zip(axes, a.shape, b.shape, strict=True) if is_padded(axis)}
        if name == "within":
            self.checks.append(symbol)

    # ---- errors ----

    def _refusal(self, what: str, symbol: Symbol) -> TraceError:
        return TraceError(
            f"compile: {symbol.origin}: {what}, in a step with pad=; expected sums, means, maxima, products, elementwise "
            "operations and whole reshapes along the padded axis; do this before the step, or leave pad= out"
        )

    def _differs(self, symbol: Symbol | None) -> TraceError:
        place = "the step" if symbol is None else str(symbol.origin)
        return TraceError(
            f"compile: {place}: with length {self.lengths.size} the step does something else than with {self.lengths.true}; "
            "expected the same operations for every length; leave pad= out, or keep Python's ifs and loops off the length"
        )


def _about(symbol: Symbol, free: Sequence[str] = ()) -> str:
    return repr(sorted((k, v) for k, v in symbol.attributes.items() if k != "message" and k not in free))


FREE = {"reshape": ("shape",), "expand": ("shape",), "bits": ("shape",), "add_at": ("shape",), "slice": ("slices",),
        "place": ("shape", "slices")}  # fmt: skip
Ruled = tuple[list[Symbol], Any]


def _same(p: _Padding, symbol: Symbol, found: Sequence[Axes]) -> Axes:
    """What operands broadcast to."""
    rank = max(len(axes) for axes in found)
    result: list[Axis] = []
    for i in range(rank):
        here = {axes[i - rank] for axes in found if len(axes) >= rank - i} - {()}
        if len(here) > 1:
            raise p._refusal("the padded axis meets another one", symbol)
        result.append(here.pop() if here else ())
    return tuple(result)


def _elementwise(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    if any(x in p.packed for x in inputs):  # gradients of what was packed meet
        pieces = p.packed.get(inputs[0], [])
        if any(p.packed.get(x) != pieces for x in inputs):
            raise p._refusal(f"{b.op.name} reads what attention packs", b)  # type: ignore[union-attr]
        return inputs, pieces
    return inputs, _same(p, b, [p.axes[x] for x in inputs])


def _permute(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    return inputs, tuple(p.axes[inputs[0]][axis] for axis in b.attributes["axes"])


def _expand(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    before = ((),) * (b.ndim - inputs[0].ndim) + p.axes[inputs[0]]
    return inputs, tuple(
        axis if axis else p.axis_of(n, size) for axis, n, size in zip(before, a.shape, b.shape, strict=True)
    )


def _reshape(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    """Factors, in order, are shared out anew."""
    if 0 in b.shape:
        raise p._refusal(f"reshape to {words(a.shape)}", b)
    left = list(simple(f for axis in p.axes[inputs[0]] for f in axis))[::-1]
    found: list[Axis] = []
    for target in zip(a.shape, b.shape, strict=True):
        axis: list[int] = []
        while not p.lengths.fits(tuple(axis), *target):
            if not left:
                raise p._refusal(f"reshape to {words(a.shape)}", b)
            factor = left.pop()
            wanted = target[1] // max(p.lengths.measure(axis, p.lengths.size), 1)
            if factor != PADDED and factor > wanted > 1 and factor % wanted == 0:  # part of it
                left.append(factor // wanted)
                factor = wanted
            axis.append(factor)
            if p.lengths.measure(axis, p.lengths.size) > target[1]:
                raise p._refusal(f"reshape to {words(a.shape)}", b)
        found.append(simple(axis))
    if left:
        raise p._refusal(f"reshape to {words(a.shape)}", b)
    return inputs, tuple(found)


def _slice(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    (x,), found = inputs, list[Any]()
    if x in p.packed:
        return inputs, (_piece(p, a, b, p.packed[x]),)
    pairs = zip(p.axes[x], a.inputs[0].shape, x.shape, _slices(a), _slices(b), strict=True)
    for axis, n, size, true, bucket in pairs:
        if (true, bucket) == ((0, n, 1), (0, size, 1)):
            found.append(axis)
        elif true == bucket and (not is_padded(axis) or axis == (PADDED,)):  # positions that every length has
            found.append(simple((true[1],)))
        elif not is_padded(axis) and (true[0], true[2]) == (bucket[0], bucket[2]) and true[2] > 0:
            found.append(p.lengths.axis(true[1], bucket[1]))
        else:
            raise p._refusal("slice along the padded axis", b)
    return inputs, tuple(found)


def _slices(symbol: Symbol) -> Any:
    return symbol.attributes["slices"]


def _piece(p: _Padding, a: Symbol, b: Symbol, pieces: Sequence[Axis]) -> Axis:
    """The piece of a packed result that a slice takes, or a place puts back."""
    true, bucket = _slices(a)[0], _slices(b)[0]
    start = [0, 0]
    for axis in pieces:
        sizes = [p.lengths.measure(axis, length) for length in (p.lengths.true, p.lengths.size)]
        if (true, bucket) == ((start[0], sizes[0], 1), (start[1], sizes[1], 1)):
            return axis
        start = [x + size for x, size in zip(start, sizes, strict=True)]
    raise p._refusal("slice of what attention packs", b)


def _place(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    (x,), found, clean = inputs, list[Any](), list[int]()
    if a.ndim == 1 and a.shape != b.shape and not p.lengths.axis(*a.shape, *b.shape):
        for pieces in p.packed.values():
            total = tuple(sum(p.lengths.measure(axis, n) for axis in pieces) for n in (p.lengths.true, p.lengths.size))
            if total == (a.shape[0], b.shape[0]) and _piece(p, a, b, pieces) == p.axes[x][0]:
                return inputs, pieces
    into = zip(a.attributes["shape"], b.attributes["shape"], strict=True)
    pairs = zip(p.axes[x], a.inputs[0].shape, x.shape, _slices(a), _slices(b), into, strict=True)
    for i, (axis, n, size, true, bucket, target) in enumerate(pairs):
        whole = (true, bucket) == ((0, n, 1), (0, size, 1))
        if whole and target == (n, size):
            found.append(axis)
        elif is_padded(axis) and whole and target[0] == target[1]:  # the padding stays zeros
            found.append(simple((target[0],)))
            clean.append(i)
        elif not is_padded(axis) and true == bucket:
            found.append(p.lengths.axis(*target))
        else:
            raise p._refusal("place along the padded axis", b)
    return [p.without_padding(x, 0, clean)], tuple(found)


def _concatenate(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    axis = b.attributes["axis"]
    if any(is_padded(p.axes[x][axis]) for x in inputs):
        raise p._refusal("concatenate along the padded axis", b)
    others = [(*p.axes[x][:axis], (), *p.axes[x][axis + 1 :]) for x in inputs]
    if len(set(others)) > 1:
        raise p._refusal("concatenate beside the padded axis", b)
    return inputs, (*others[0][:axis], simple((b.shape[axis],)), *others[0][axis + 1 :])


# ---- what takes axes away ----


def _least(dtype: np.dtype) -> Any:
    return -np.inf if dtype.kind == "f" else False if dtype.kind == "b" else int(np.iinfo(dtype).min)


def _largest(dtype: np.dtype) -> Any:
    return np.inf if dtype.kind == "f" else True if dtype.kind == "b" else int(np.iinfo(dtype).max)


IDENTITIES: dict[str, Callable[[np.dtype], Any]] = {
    "sum": lambda dtype: 0, "amax": _least, "amin": _largest, "any": lambda dtype: 0, "all": lambda dtype: 1,
    "argmax": _least, "argmin": _largest,
}  # fmt: skip


def _reduction(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    (x,), how, name = inputs, b.attributes, b.op.name  # type: ignore[union-attr]
    gone = how["axes"] if "axes" in how else (how["axis"],)
    axes = p.axes[x]
    if "axis" in how and is_padded(axes[gone[0]]) and axes[gone[0]] != (PADDED,):
        raise p._refusal(f"{name} along an axis that the padded one is a part of", b)
    keep = how["keepdims"]
    found = tuple(() if i in gone else axis for i, axis in enumerate(axes) if keep or i not in gone)
    return [p.without_padding(x, IDENTITIES[name](x.dtype), gone)], found


def _cumulative_sum(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    return [p.without_padding(inputs[0], 0, [b.attributes["axis"]])], p.axes[inputs[0]]


def _argsort(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    if is_padded(p.axes[inputs[0]][b.attributes["axis"]]):
        raise p._refusal("a sort along the padded axis", b)
    return inputs, p.axes[inputs[0]]


def _matmul(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    x, y = inputs
    left, right = p.axes[x], p.axes[y]
    if left[-1] != right[-2]:
        raise p._refusal("a product of the padded axis with another", b)
    axes = (*_same(p, b, [left[:-2], right[:-2]]), left[-2], right[-1])
    return [p.without_padding(x, 0, [x.ndim - 1]), p.without_padding(y, 0, [y.ndim - 2])], axes


def _contract(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    sides, result = (b.attributes["a"], b.attributes["b"]), b.attributes["y"]
    known: dict[str, Axis] = {}
    for letters, x in zip(sides, inputs, strict=True):
        for letter, axis in zip(letters, p.axes[x], strict=True):
            if known.setdefault(letter, axis) != axis:
                raise p._refusal("a product of the padded axis with another", b)
    clean = [
        p.without_padding(x, 0, [i for i, letter in enumerate(letters) if letter not in result])
        for letters, x in zip(sides, inputs, strict=True)
    ]
    return clean, tuple(known[letter] for letter in result)


# ---- picking by an index ----


def _within(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    return [p.without_padding(inputs[0], b.attributes["low"])], p.axes[inputs[0]]


def _take(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    x, index = inputs
    if is_padded(p.axes[x][0]):
        raise p._refusal("indexing along the padded axis", b)
    return [x, p.without_padding(index, 0)], p.axes[index] + p.axes[x][1:]


def _add_at(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    g, index = inputs
    axis = p.axis_of(a.shape[0], b.shape[0])
    if axis is None or is_padded(axis):
        raise p._refusal("indexing along the padded axis", b)
    clean = p.without_padding(g, 0, range(index.ndim))
    return [clean, p.without_padding(index, 0)], (axis, *p.axes[g][index.ndim :])


def _gather(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    x, index = inputs
    _check_picks(p, b, x, index)
    return [x, p.without_padding(index, 0)], p.axes[index]


def _scatter_add(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    x, index, g = inputs
    _check_picks(p, b, x, index)
    return [x, p.without_padding(index, 0), p.without_padding(g, 0)], p.axes[x]


def _check_picks(p: _Padding, b: Symbol, x: Symbol, index: Symbol) -> None:
    axis = b.attributes["axis"]
    for i, (one, other) in enumerate(zip(p.axes[x], p.axes[index], strict=True)):
        if is_padded(one) if i == axis else one != other and (is_padded(one) or is_padded(other)):
            raise p._refusal("indexing along the padded axis", b)


# ---- random numbers, convolutions, attention ----


def _bits(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    """The bits of the step at the true length, each where it belongs: they are counted through in row order."""
    axes = tuple(p.axis_of(n, size) for n, size in zip(a.shape, b.shape, strict=True))
    if None in axes:
        raise p._refusal(f"random numbers {words(a.shape)}", b)
    flat = apply("bits", inputs[0], origin=b.origin, shape=(b.size,))
    index = None
    for i in reversed(range(b.ndim)):
        true, size = (np.arange(s.shape[i], dtype=np.int64) * math.prod(s.shape[i + 1 :]) for s in (a, b))
        vector = p._of_length(true, size, (axes[i],), b, ("steps", id(b), i))  # type: ignore[arg-type]
        vector = apply("reshape", vector, origin=b.origin, shape=(b.shape[i], *(1,) * (b.ndim - 1 - i)))
        index = vector if index is None else apply("add", vector, index, origin=b.origin)
    assert index is not None
    return [inputs[0], apply("take", flat, index, origin=b.origin)], axes


def _convolution(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    """Only the batch may be padded."""
    for x in inputs:
        if any(map(is_padded, p.axes[x][1:])):
            raise p._refusal("a convolution along the padded axis", b)
    axes = [simple((n,)) for n in b.shape]
    if b.op.name == "convolution_weight":  # type: ignore[union-attr]
        if p.axes[inputs[0]][0] != p.axes[inputs[1]][0]:
            raise p._refusal("a convolution of the padded axis with another", b)
        return [p.without_padding(x, 0, [0]) for x in inputs], tuple(axes)
    if any(is_padded(p.axes[x][0]) for x in inputs[1:]):
        raise p._refusal("a convolution along the padded axis", b)
    axes[0] = p.axes[inputs[0]][0]
    return inputs, tuple(axes)


class _Shaped:
    """A Symbol with axes in place of sizes."""

    def __init__(self, axes: Axes) -> None:
        self.shape = axes


def _flat(shapes: Sequence[tuple[Axis, ...]]) -> list[Axis]:
    return [simple(f for axis in shape for f in axis) for shape in shapes]


def _attention(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    """Zeros in the padding of q, k and v, so that every number is finite; keys there are masked."""
    q, k, v, *masks = inputs
    _check_attention(p, b, q, k, v)
    clean = [p.without_padding(x, 0, [2]) for x in (q, k, v)]
    return [*clean, *_key_masks(p, b, q, k, masks)], _flat(result_shapes(_Shaped(p.axes[q]), _Shaped(p.axes[v])))  # type: ignore[arg-type]


def _attention_gradient(p: _Padding, a: Symbol, b: Symbol, inputs: list[Symbol]) -> Ruled:
    g, h, q, k, v, packed, *masks = inputs
    _check_attention(p, b, q, k, v)
    clean = [p.without_padding(x, 0, [2]) for x in (g, h, q, k, v)]
    shapes = gradient_shapes(*(_Shaped(p.axes[x]) for x in (q, k, v)))
    return [*clean, packed, *_key_masks(p, b, q, k, masks)], _flat(shapes)  # type: ignore[arg-type]


def _check_attention(p: _Padding, b: Symbol, q: Symbol, k: Symbol, v: Symbol) -> None:
    for x in (q, k, v):
        axes = p.axes[x]
        if any(is_padded(axis) for axis in (*axes[:2], axes[3])) or axes[2] not in ((PADDED,), simple((x.shape[2],))):
            raise p._refusal("attention with the padded axis elsewhere than among queries and keys", b)


def _key_masks(p: _Padding, b: Symbol, q: Symbol, k: Symbol, masks: list[Symbol]) -> list[Symbol]:
    """The mask, with no key of the padding in it."""
    axis = p.axes[k][2]
    if not is_padded(axis):
        return masks
    if not masks:
        if b.attributes["causal"] and p.axes[q][2] == axis:  # no query that counts looks there
            return []
        return [apply("reshape", p._mask(axis), origin=b.origin, shape=(1, 1, 1, k.shape[2]))]
    mask = masks[0]
    fill = False if mask.dtype.kind == "b" else -np.inf
    return [p.without_padding(_with_keys(p, b, mask, axis, k.shape[2]), fill)]


def _with_keys(p: _Padding, b: Symbol, mask: Symbol, axis: Axis, size: int) -> Symbol:
    """A mask that has an axis of keys."""
    if p.axes[mask] and p.axes[mask][-1] == axis:
        return mask
    shape = (*mask.shape[:-1], size) if mask.ndim else (size,)
    wide = apply("expand", mask, origin=b.origin, shape=shape)
    p.axes[wide] = (*p.axes[mask][:-1], axis)
    return wide


RULES: dict[str, Callable[..., Ruled]] = {
    "reshape": _reshape, "permute": _permute, "slice": _slice, "place": _place, "concatenate": _concatenate,
    "expand": _expand, "sum": _reduction, "amax": _reduction, "amin": _reduction, "any": _reduction, "all": _reduction,
    "argmax": _reduction, "argmin": _reduction, "cumulative_sum": _cumulative_sum, "argsort": _argsort,
    "matmul": _matmul, "contract": _contract, "within": _within, "take": _take, "add_at": _add_at, "gather": _gather,
    "scatter_add": _scatter_add, "bits": _bits, "convolution": _convolution, "convolution_input": _convolution,
    "convolution_weight": _convolution, "attention": _attention, "attention_gradient": _attention_gradient,
}  # fmt: skip
