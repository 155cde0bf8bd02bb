"""Random graphs, and the four ways to run a function that have to agree: what `test_random_graphs.py` is made of.

A graph grows by running: each move picks values that are there, computes another with eager operations, and is kept as a
function to be called again, eagerly or while it is recorded. A value is called exact when every way to compute it gives
the same bits (small multiples of 1/4, added, moved, compared); only such values decide anything by a jump, such as a
comparison, so that a last bit never changes the course.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import pellucid as P
from pellucid.compiler.backends.cpu.memory_plan import plan_memory
from pellucid.compiler.backends.cpu.plan_check import run_planned
from pellucid.compiler.backends.cpu.prepare.pipeline import PASSES
from pellucid.compiler.backends.cpu.schedule import schedule
from pellucid.compiler.backends.cpu.target import host
from pellucid.compiler.ir.graph import Graph, interpret
from pellucid.compiler.trace.traced_step import OutputRef, TracedStep, ViewRef
from pellucid.compiler.trace.tracer import trace
from pellucid.errors import PellucidError
from pellucid.ops import contraction, index, movement, reduce
from pellucid.ops.loop import tree_leaves
from pellucid.random import default_generator
from pellucid.tensor import Tensor

DISABLED = [
    (),
    *[(name,) for name in PASSES],
    ("fusion",),
    ("rematerialization",),
    ("reuse",),
    (*PASSES, "fusion", "reuse"),
]
SIZES = [1, 2, 3, 5, 7, 8, 13, 16, 17, 19, 31, 33]
LARGE = [3, 17, 67, 96, 131, 160, 257]  # enough numbers to be shared out among threads
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
TERMS = 4096  # numbers of the longest sums in these tests, about
Arrays = list[np.ndarray]


# ---- the ways to run a function ------------------------------------------------------------------------------------------


def arrays_of(result: Any) -> Arrays:
    return [np.array(leaf.detach().numpy()) for leaf in tree_leaves(result)]


@dataclass
class Trial:
    """A function of `args` that may read and write `states`; `start` is what they hold before every run."""

    function: Callable[..., Any]
    args: Sequence[Tensor]
    states: Sequence[Tensor]

    def __post_init__(self) -> None:
        self.states = [*self.states, default_generator.state]
        self.start = [s.array.copy() for s in self.states]

    def reset(self) -> None:
        for state, array in zip(self.states, self.start, strict=True):
            state.assign(array)

    def run(self, function: Callable[..., Any], times: int = 1) -> Arrays:
        """What `times` calls from the same start give, and leave in the states."""
        self.reset()
        found = [x for _ in range(times) for x in arrays_of(function(*self.args))]
        found += [s.array.copy() for s in self.states]
        self.reset()
        return found

    def inputs(self, graph: Graph) -> Arrays:
        start = {id(s): a for s, a in zip(self.states, self.start, strict=True)}
        given = [start.get(id(slot.owner), slot.owner.array) for slot in graph.inputs]
        return [np.asarray(a) for a in given]

    def spread(self, traced: TracedStep, outputs: Arrays, writes: Arrays) -> Arrays:
        """Results and written states in the order of `run`. A result may be an argument or a state itself."""
        written = {id(slot.owner): a for (slot, _), a in zip(traced.graph.writes, writes, strict=True)}
        start = {id(s): a for s, a in zip(self.states, self.start, strict=True)}

        def now(x: Any) -> np.ndarray:
            if not isinstance(x, ViewRef):
                return written.get(id(x), start.get(id(x), x.array))
            array = now(x.base)
            for op, attributes in x.path:
                array = op.forward(array, **attributes)
            return array

        results = [outputs[x] if isinstance(x, OutputRef) else now(x) for x in tree_leaves(traced.result)]
        return results + [now(s) for s in self.states]


def planned_run(graph: Graph, values: Arrays, disable_passes: Sequence[str] = ()) -> tuple[Arrays, Arrays]:
    """All passes and the memory plan, run in NumPy."""
    graph, kernels, layout = schedule(graph, host(), frozenset(disable_passes))
    plan = plan_memory(graph, kernels, layout, "reuse" not in disable_passes)
    return run_planned(graph, plan, layout, values)


def check(trial: Trial, disable_passes: Sequence[str] = (), scale: float = 1.0, native: bool = True) -> None:
    """Eager, interpreter, memory plan and (twice in a row) native code give the same."""
    with np.errstate(all="ignore"):
        truth = trial.run(trial.function)
    traced = trace(trial.function, (tuple(trial.args), {}), {})
    graph = traced.graph
    values = trial.inputs(graph)
    with np.errstate(all="ignore"):
        same(trial.spread(traced, *interpret(graph, values)), truth, "interpreter", scale)
        same(
            trial.spread(traced, *planned_run(graph, values, disable_passes)),
            truth,
            f"plan without {disable_passes}",
            scale,
        )
    if native:
        compiled = P.compile(trial.function, disable_passes=disable_passes)
        same(trial.run(compiled), truth, f"native without {disable_passes}", scale)
        same(trial.run(compiled, 2), trial.run(trial.function, 2), f"second call without {disable_passes}", 4 * scale)


def same(found: Arrays, truth: Arrays, how: str, scale: float = 1.0) -> None:
    """Whole numbers alike; others to 1e-4 and 2e-5 times `scale`, or to what the order of a long sum may change.

    Two BLAS kernels add in two orders: of TERMS numbers about the root of so many roundings of the largest entry apart.
    """
    assert len(found) == len(truth), f"{how}: {len(found)} results for {len(truth)}"
    for i, (a, b) in enumerate(zip(found, truth, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), (
            f"{how}: result {i} is {a.shape} {a.dtype} for {b.shape} {b.dtype}"
        )
        if b.dtype.kind != "f":
            np.testing.assert_array_equal(a, b, f"{how}: result {i}")
        else:
            fine = 1e-6 if b.dtype == FLOAT64 else 1.0
            rounding = np.finfo(b.dtype).eps * TERMS**0.5 * np.abs(b[np.isfinite(b)]).max(initial=0)
            atol = max(2e-5 * fine * scale, rounding)
            np.testing.assert_allclose(a, b, rtol=1e-4 * fine, atol=atol, err_msg=f"{how}: result {i}")


# ---- growing -------------------------------------------------------------------------------------------------------------

Move = tuple[Callable[..., Any], list[int], bool]  # what computes the value, from which others, whether it is exact


class Grower:
    """A graph while it grows. values: what the moves so far have given; leaves: its inputs, the first of them.

    order: how often its loss is differentiated. dtype: of its leaves, and of all that a floating-point move picks.
    """

    def __init__(
        self, random: np.random.Generator, large: bool = False, order: int = 1, dtype: np.dtype = FLOAT32
    ) -> None:
        self.random, self.large, self.order, self.dtype = random, large, order, dtype
        self.share = 1.0  # that brings the second derivatives to a largest entry of 1
        self.firsts = 0  # results of a replay before the second derivatives
        self.values: list[Tensor] = []
        self.exact: list[bool] = []
        self.moves: list[Move] = []
        shape = self.shape()
        others = [shape, shape[-1:], self.shape()]
        self.leaves = [self.quarters(s) for s in [shape, *others[: random.integers(1, 4)]]]
        for leaf in self.leaves if order == 2 or random.random() < 0.6 else ():
            leaf.requires_grad_(bool(random.random() < 0.8))
        self.values += self.leaves
        self.exact += [True] * len(self.leaves)
        self.states = [self.quarters(shape), self.quarters(shape), self.quarters(())]

    # ---- chance ----

    def shape(self) -> tuple[int, ...]:
        while True:
            rank = int(self.random.choice([2, 2, 3] if self.large else [0, 1, 1, 2, 2, 2, 3, 3, 4]))
            shape = tuple(int(n) for n in self.random.choice(LARGE if self.large else SIZES, rank))
            if math.prod(shape) <= (20_000 if self.large else 1500):
                return tuple(0 if self.random.random() < 0.01 else n for n in shape)

    def quarters(self, shape: tuple[int, ...]) -> Tensor:
        return P.tensor((self.random.integers(-12, 13, shape) / 4).astype(self.dtype))

    def pick(self, wanted: Callable[[int], bool] = lambda i: True) -> int:
        """The position of a value, rather a late one; IndexError where there is none such."""
        found = [i for i in range(len(self.values)) if wanted(i)]
        return found[max(self.random.integers(0, len(found), 2))] if found else [][0]

    def floats(self, i: int) -> bool:
        return self.values[i].dtype == self.dtype

    def sure(self, i: int) -> bool:
        return self.exact[i]

    def any_axes(self, x: Tensor) -> tuple[int, ...]:
        return tuple(axis for axis in range(x.ndim) if self.random.random() < 0.5)

    def axis(self, x: Tensor) -> int:
        return int(self.random.integers(0, x.ndim))

    # ---- moves ----

    def grow(self, moves: int) -> None:
        """Up to `moves` moves; the states are then what they were."""
        start, tries = [s.array for s in self.states], 0
        while len(self.moves) < moves and tries < 8 * moves:
            tries += 1
            self.try_one()
        self.put_back(start)
        if self.order == 2:
            self.settle_second()
            self.put_back(start)

    def settle_second(self) -> None:
        """Bring second derivatives to a largest entry of 1; go without where there are none, or they leave the ordinary."""
        with np.errstate(all="ignore"):
            results = self.replay(self.leaves)
        found = results[self.firsts or len(results) :]
        largest = max((float(np.abs(x.numpy()).max(initial=0)) for x in found if x is not None), default=0.0)
        if 1e-3 < largest < 1e4:
            self.share = 1 / largest
        else:
            self.order = 1

    def try_one(self) -> None:
        """One more move; one that eager operations refuse, or whose numbers leave the ordinary, is not made."""
        kept = [s.array for s in self.states]
        try:
            move = MOVES[self.random.integers(0, len(MOVES))](self)
            value = move[0](*[self.values[i] for i in move[1]])
        except (PellucidError, IndexError, ValueError):
            return self.put_back(kept)
        array = value.array
        if array.size > (40_000 if self.large else 3000) or (
            array.size and not np.abs(array.astype(np.float64)).max() < 100
        ):
            return self.put_back(kept)
        self.moves.append(move)
        self.values.append(value)
        self.exact.append(move[2])

    def put_back(self, states: list[np.ndarray]) -> None:
        for state, array in zip(self.states, states, strict=True):
            state.assign(array)

    def replay(self, given: Sequence[Tensor]) -> list[Any]:
        """The moves once more on `given` leaves: their last values, and the gradients of a loss over these."""
        values = list(given)
        for function, positions, _ in self.moves:
            values.append(function(*[values[i] for i in positions]))
        last = values[-2:]
        tracked = [v for v in values[len(given) :] if v.requires_grad][-2:]
        wanted = [v for v in given if v.requires_grad]
        if not tracked or not wanted:
            return [v.detach() for v in last]
        loss = sum((((v + 0.4) * v).sum() * (1 / max(v.numel(), 1)) for v in tracked), P.tensor(0.0))
        grads = P.autograd.grad(loss, wanted, create_graph=self.order == 2, allow_unused=True)
        found = [*[v.detach() for v in last], loss.detach(), *[g if g is None else g.detach() for g in grads]]
        self.firsts = len(found)
        return [*found, *second_gradients(grads, wanted, self.share)] if self.order == 2 else found


def second_gradients(grads: Sequence[Any], wanted: Sequence[Tensor], share: float = 1.0) -> Sequence[Any]:
    """The gradients of a weighted sum of gradients, times `share`; none where those depend on nothing."""
    terms = [(g * wave(g)).sum() for g in grads if g is not None and g.requires_grad]
    return P.autograd.grad(sum(terms, P.tensor(0.0)) * share, wanted, allow_unused=True) if terms else []


def wave(like: Tensor) -> Tensor:
    """Weights for a sum of the numbers of a Tensor, no two of them alike."""
    numbers = np.cos(np.arange(like.numel()) + 0.5)
    return P.tensor(numbers.tolist(), dtype=like.dtype).reshape(like.shape)


def pack(seed: int, graphs: int, moves: int, large: bool = False, order: int = 1, dtype: np.dtype = FLOAT32) -> Trial:
    """One function that holds many random graphs; its arguments are their leaves."""
    random = np.random.default_rng(seed)
    growers = [Grower(random, large, order, dtype) for _ in range(graphs)]
    for grower in growers:
        grower.grow(int(random.integers(2, moves + 1)))

    def together(*args: Tensor) -> list[Any]:
        found, at = [], 0
        for grower in growers:
            found.append(grower.replay(args[at : at + len(grower.leaves)]))
            at += len(grower.leaves)
        return found

    return Trial(together, [x for g in growers for x in g.leaves], [s for g in growers for s in g.states])


MOVES: list[Callable[[Grower], Move]] = []


def a_move(weight: int) -> Callable[[Callable[[Grower], Move]], Callable[[Grower], Move]]:
    def add(maker: Callable[[Grower], Move]) -> Callable[[Grower], Move]:
        MOVES.extend([maker] * weight)
        return maker

    return add


# ---- elementwise ---------------------------------------------------------------------------------------------------------

SMOOTH: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.exp(), lambda x: x.tanh(), lambda x: x.sigmoid(), lambda x: x.sin(), lambda x: x.cos(),
    lambda x: x.erf(), lambda x: x.square(), lambda x: (x * x + 0.5).sqrt(), lambda x: (x * x + 0.5).log(),
    lambda x: x.expm1(), lambda x: (x * x).log1p(), lambda x: 1 / (x * x + 1), lambda x: x / 3, lambda x: x * 0.7,
    lambda x: P.functional.gelu(x), lambda x: P.functional.softplus(x), lambda x: (x * x + 1) ** 0.7,
]  # fmt: skip
PIECES: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.relu(), lambda x: abs(x), lambda x: x.clamp(-0.6, 0.8), lambda x: -x, lambda x: x + 1,
    lambda x: 2 - x, lambda x: x.maximum(-x), lambda x: x.minimum(1),
]  # fmt: skip
JUMPS: list[Callable[[Tensor], Tensor]] = [
    lambda x: x.floor(), lambda x: x.ceil(), lambda x: x.trunc(), lambda x: x.round(), lambda x: x.sign(),
    lambda x: (x > 0.25).to(x.dtype), lambda x: x % 1.5, lambda x: x // 0.75, lambda x: (x <= 0) & (x != -1),
    lambda x: x.long(), lambda x: x.int(), lambda x: (x * 4).int().to(x.dtype), lambda x: x.isfinite(),
]  # fmt: skip
WHOLE: list[Callable[[Tensor], Tensor]] = [
    lambda n: n + 3, lambda n: n * 2 - 1, lambda n: n // 3, lambda n: n % 5, lambda n: n.to(P.float32) * 0.25,
    lambda n: n > 1, lambda n: ~n, lambda n: n & 6, lambda n: n ^ 9, lambda n: n | 1, lambda n: -n, lambda n: abs(n),
]  # fmt: skip
PAIRS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a.maximum(b), lambda a, b: a.minimum(b),
]  # fmt: skip


@a_move(4)
def smooth(g: Grower) -> Move:
    return SMOOTH[g.random.integers(0, len(SMOOTH))], [g.pick(g.floats)], False


@a_move(3)
def piecewise(g: Grower) -> Move:
    at = g.pick(g.floats)
    return PIECES[g.random.integers(0, len(PIECES))], [at], g.exact[at]


@a_move(2)
def jump(g: Grower) -> Move:
    return JUMPS[g.random.integers(0, len(JUMPS))], [g.pick(lambda i: g.floats(i) and g.sure(i))], True


@a_move(2)
def whole(g: Grower) -> Move:
    return WHOLE[g.random.integers(0, len(WHOLE))], [g.pick(lambda i: g.values[i].dtype.kind in "iub")], True


def partner(g: Grower, at: int) -> tuple[int, Callable[[Tensor], Tensor]]:
    """Another value, and what makes it fit beside the one at `at`: as it is, or a part of it."""
    shape = g.values[at].shape

    def fits(i: int) -> bool:
        other = g.values[i].shape
        low = min(len(shape), len(other))
        pairs = zip(shape[len(shape) - low :], other[len(other) - low :], strict=True)
        return g.floats(i) and all(a == b or 1 in (a, b) for a, b in pairs)

    if g.random.random() < 0.7:
        return g.pick(fits), lambda x: x
    axes = g.any_axes(g.values[at])
    if g.exact[at] or not axes:
        return at, lambda x: x.amax(axes, keepdim=True)
    return at, lambda x: x.logsumexp(
        axes, keepdim=True
    )  # a largest number that another equals to the last bit would jump


@a_move(4)
def pair(g: Grower) -> Move:
    at = g.pick(g.floats)
    other, part = partner(g, at)
    function = PAIRS[g.random.integers(0, len(PAIRS))]
    exact = g.exact[at] and g.exact[other]
    return (
        (lambda a, b: function(a, part(b))) if g.random.random() < 0.5 else (lambda a, b: function(part(b), a)),
        [at, other],
        exact,
    )


@a_move(4)
def product(g: Grower) -> Move:
    at = g.pick(g.floats)
    other, part = partner(g, at)
    if g.random.random() < 0.2:
        return lambda a, b: a / (part(b) * part(b) + 1), [at, other], False
    return lambda a, b: a * part(b), [at, other], False


@a_move(2)
def choice(g: Grower) -> Move:
    judge = g.pick(lambda i: g.floats(i) and g.sure(i))
    level = float(g.random.integers(-4, 5) / 4)
    at, other = judge, g.pick(lambda i: g.floats(i) and g.values[i].shape in (g.values[judge].shape, ()))
    return lambda a, b: P.where(a > level, b, a), [at, other], g.exact[other]


# ---- reductions, normalisations ------------------------------------------------------------------------------------------


@a_move(4)
def reduction(g: Grower) -> Move:
    at = g.pick(g.floats)
    axes, keep = g.any_axes(g.values[at]), bool(g.random.random() < 0.5)
    which = int(g.random.integers(0, 5))
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: reduce.sum_(x, axes=axes, keepdims=keep),
        lambda x: reduce.amax(x, axes=axes, keepdims=keep),
        lambda x: reduce.amin(x, axes=axes, keepdims=keep),
        lambda x: x.mean(axes, keepdim=keep) if axes else x,
        lambda x: x.var(axes, keepdim=keep, correction=0) if axes else x,
    ]
    which = which if g.exact[at] or which not in (1, 2) else 0  # of equals to the last bit, another may be the largest
    return functions[which], [at], g.exact[at] and which < 3


@a_move(2)
def verdict(g: Grower) -> Move:
    at = g.pick(lambda i: g.sure(i) and g.values[i].ndim > 0)
    axis, keep, which = g.axis(g.values[at]), bool(g.random.random() < 0.5), int(g.random.integers(0, 5))
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.argmax(axis, keepdim=keep),
        lambda x: x.argmin(axis, keepdim=keep),
        lambda x: (x > 1).any(axis, keepdim=keep),
        lambda x: (x < 2).all(axis, keepdim=keep),
        lambda x: (x > 0).sum(axis, keepdim=keep),
    ]
    return functions[which], [at], True


@a_move(3)
def normalised(g: Grower) -> Move:
    at = g.pick(lambda i: g.floats(i) and g.values[i].ndim > 0)
    axis, which = g.axis(g.values[at]), int(g.random.integers(0, 7))
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.softmax(axis),
        lambda x: x.log_softmax(axis),
        lambda x: x.logsumexp(axis),
        lambda x: P.functional.layer_norm(x, x.shape[-1:], None, None, 0.1),
        lambda x: x.cumsum(axis),
        lambda x: P.functional.batch_norm(x, None, None, training=True, eps=0.1) if x.ndim > 1 else x,
        lambda x: P.functional.group_norm(x, 1, eps=0.1) if x.ndim > 1 else x,
    ]
    return functions[which], [at], False


@a_move(2)
def cross_entropy(g: Grower) -> Move:
    at = g.pick(lambda i: g.floats(i) and g.values[i].ndim == 2 and 0 not in g.values[i].shape)
    rows, classes = g.values[at].shape
    target = P.tensor(g.random.integers(0, classes, rows))
    if rows > 1 and g.random.random() < 0.4:
        target[0] = -100
    return lambda x: P.functional.cross_entropy(x, target), [at], False


# ---- movements -----------------------------------------------------------------------------------------------------------


@a_move(3)
def reshaped(g: Grower) -> Move:
    at = g.pick(lambda i: g.values[i].numel() > 0)
    size = g.values[at].numel()
    shape: list[int] = []
    while size > 1 and len(shape) < 3 and g.random.random() < 0.7:
        part = int(g.random.choice([n for n in range(1, size + 1) if size % n == 0]))
        shape, size = [*shape, part], size // part
    shape = [*shape, size]
    return lambda x: x.reshape(shape), [at], g.exact[at]


@a_move(3)
def permuted(g: Grower) -> Move:
    at = g.pick(lambda i: g.values[i].ndim > 1)
    axes = tuple(g.random.permutation(g.values[at].ndim).tolist())
    return lambda x: x.permute(axes), [at], g.exact[at]


@a_move(2)
def repeated(g: Grower) -> Move:
    at = g.pick()
    n = int(g.random.integers(1, 5))
    place = int(g.random.integers(0, g.values[at].ndim + 1))
    shape = list(g.values[at].shape)
    shape.insert(place, n)
    return lambda x: x.unsqueeze(place).expand(shape), [at], g.exact[at]


def some_slices(g: Grower, shape: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    found = []
    for size in shape:
        step = int(g.random.choice([1, 1, 1, 2, 3, -1, -2]))
        count = int(g.random.integers(0 if g.random.random() < 0.03 else 1, -(-size // abs(step)) + 1)) if size else 0
        reach = (count - 1) * abs(step) if count else 0
        start = int(g.random.integers(0, size - reach)) if size else 0
        found.append((start if step > 0 else start + reach, count, step))
    return tuple(found)


@a_move(3)
def sliced(g: Grower) -> Move:
    at = g.pick()
    slices = some_slices(g, g.values[at].shape)
    return lambda x: movement.slice_(x, slices=slices), [at], g.exact[at]


@a_move(2)
def placed(g: Grower) -> Move:
    at = g.pick()
    slices, shape = [], []
    for size in g.values[at].shape:
        step = int(g.random.choice([1, 1, 2, -1]))
        before, after = (int(n) for n in g.random.integers(0, 3, 2))
        reach = max(size - 1, 0) * abs(step)
        shape.append(before + reach + 1 + after)
        slices.append((before if step > 0 else before + reach, size, step))
    return lambda x: movement.pad(x, shape=tuple(shape), slices=tuple(slices)), [at], g.exact[at]


@a_move(2)
def joined(g: Grower) -> Move:
    at = g.pick(lambda i: g.values[i].ndim > 0)
    axis, x = g.axis(g.values[at]), g.values[at]

    def fits(i: int) -> bool:
        a, b = g.values[i].shape, x.shape
        return (
            len(a) == len(b)
            and g.values[i].dtype == x.dtype
            and (*a[:axis], *a[axis + 1 :]) == (*b[:axis], *b[axis + 1 :])
        )

    other, third = g.pick(fits), g.pick(fits)
    exact = g.exact[at] and g.exact[other] and g.exact[third]
    return lambda a, b, c: P.cat([a, b, c] if axis else [b, a], axis), [at, other, third], exact


@a_move(2)
def turned(g: Grower) -> Move:
    at = g.pick(lambda i: g.values[i].ndim > 0)
    axis, by = g.axis(g.values[at]), int(g.random.integers(-3, 4))
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.flip(axis), lambda x: x.roll(by, axis), lambda x: x.tril(by) if x.ndim > 1 else x.flip(0),
        lambda x: x.triu(by) if x.ndim > 1 else x.roll(by),
    ]  # fmt: skip
    return functions[g.random.integers(0, len(functions))], [at], g.exact[at]


# ---- products ------------------------------------------------------------------------------------------------------------


@a_move(4)
def matmul(g: Grower) -> Move:
    at = g.pick(lambda i: g.floats(i) and g.values[i].ndim >= 2)
    shape = g.values[at].shape
    n = int(g.random.choice(SIZES))
    axes = (*(shape[:-2] if g.random.random() < 0.2 else ()), n, shape[-1])
    weight = P.tensor((g.random.normal(size=axes) / (1 + shape[-1]) ** 0.5).astype(g.dtype))  # no two sums alike
    which = int(g.random.integers(0, 5))
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: x @ weight.mT,
        lambda x: (weight @ x.mT).mT,
        lambda x: x.mT @ x * (1 / (1 + x.shape[-2])),
        lambda x: x @ x.mT * (1 / (1 + x.shape[-1])),
        lambda x: (x @ weight.mT + 0.1).relu(),
    ]
    return functions[which], [at], False


@a_move(2)
def between(g: Grower) -> Move:
    """A product of two values of the graph, flattened to matrices."""
    at, other = (
        g.pick(lambda i: g.floats(i) and g.values[i].ndim >= 2),
        g.pick(lambda i: g.floats(i) and g.values[i].ndim >= 2),
    )
    k = min(g.values[at].shape[-1], g.values[other].shape[-2])
    return lambda a, b: a[..., :k] @ b[..., :k, :] * (1 / (1 + k)), [at, other], False


# ---- windows, attention, loops -------------------------------------------------------------------------------------------


def images(x: Tensor) -> Tensor:
    """x (..., H, W) as (1, C, H, W)."""
    return x.reshape(1, -1, *x.shape[-2:])


def image_at(g: Grower, sure: bool = False) -> int:
    """A value of at least two by two numbers, on few channels."""
    fits = lambda shape: len(shape) > 1 and min(shape[-2:]) > 1 and 0 < math.prod(shape[:-2]) <= 8
    return g.pick(lambda i: g.floats(i) and fits(g.values[i].shape) and (g.sure(i) or not sure))


WINDOWS = [(2,), ((1, 2),), (2, 1), ((2, 1), 1, (1, 0)), (2, 2, 1)]


@a_move(2)
def pooled(g: Grower) -> Move:
    at, how = image_at(g, sure=True), WINDOWS[g.random.integers(0, len(WINDOWS))]
    function = P.functional.max_pool2d if g.random.random() < 0.7 else P.functional.avg_pool2d
    return lambda x: function(images(x), *how)[0], [at], function is P.functional.max_pool2d


@a_move(1)
def pooled_elsewhere(g: Grower) -> Move:
    """The numbers of one value, window by window, where the largest of another stand."""
    at, (size, *how) = image_at(g, sure=True), WINDOWS[g.random.integers(0, 3)]
    other = g.pick(lambda i: g.floats(i) and g.values[i].shape == g.values[at].shape)
    kernel = (size, size) if isinstance(size, int) else size
    stride = (how[0], how[0]) if how else kernel

    def function(a: Tensor, b: Tensor) -> Tensor:
        a, b = (
            contraction.unfold(images(x), kernel=kernel, stride=stride, dilation=(1, 1)).flatten(-2) for x in (a, b)
        )
        return b.gather(4, a.argmax(4, keepdim=True))[0, ..., 0]

    return function, [at, other], g.exact[other]


@a_move(2)
def convolved(g: Grower) -> Move:
    """A value convolved with numbers of another."""
    at = image_at(g)
    x, o = g.values[at], int(g.random.integers(1, 4))
    size = [int(g.random.integers(1, min(n, 3) + 1)) for n in x.shape[-2:]]
    channels = images(x).shape[1]
    need = o * channels * math.prod(size)
    other = g.pick(lambda i: g.floats(i) and g.values[i].numel() >= need)
    stride, padding = int(g.random.integers(1, 3)), [int(g.random.integers(0, n)) for n in size]

    def function(x: Tensor, w: Tensor) -> Tensor:
        weight = w.reshape(-1)[:need].reshape(o, channels, *size) * (1 / need)
        return P.functional.conv2d(images(x), weight, stride=stride, padding=padding)[0]

    return function, [at, other], False


@a_move(2)
def attended(g: Grower) -> Move:
    matrix = lambda i: g.floats(i) and g.values[i].ndim >= 2 and 0 < g.values[i].numel() <= 600
    at, other = g.pick(matrix), g.pick(matrix)
    width = min(g.values[at].shape[-1], g.values[other].shape[-1])
    causal = bool(g.random.random() < 0.4)

    def function(a: Tensor, b: Tensor) -> Tensor:
        q, k = (x.reshape(-1, x.shape[-1])[:16, :width].tanh() for x in (a, b))
        return P.functional.scaled_dot_product_attention(q, k, k.flip(1), is_causal=causal)

    return function, [at, other], False


@a_move(1)
def scanned(g: Grower) -> Move:
    """A small recurrent cell along the first axis, with numbers of another value in every position."""
    at = g.pick(lambda i: g.floats(i) and g.values[i].ndim >= 2 and 1 <= g.values[i].shape[0] <= 8)
    width = g.values[at].shape[-1]
    other = g.pick(lambda i: g.floats(i) and g.values[i].numel() >= width)
    reverse = bool(g.random.random() < 0.4)

    def function(x: Tensor, b: Tensor) -> Tensor:
        def body(h: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
            h = (h * b.reshape(-1)[:width] + row).tanh()
            return h, h * row

        last, ys = P.scan(body, P.zeros(*x.shape[1:], dtype=x.dtype), x, reverse=reverse)
        return ys + last

    return function, [at, other], False


# ---- picking -------------------------------------------------------------------------------------------------------------


@a_move(2)
def rows(g: Grower) -> Move:
    at = g.pick(lambda i: g.values[i].ndim > 0 and g.values[i].shape[0] > 0)
    size = g.values[at].shape[0]
    where = P.tensor(g.random.integers(-size, size, [(), (3,), (2, 2)][g.random.integers(0, 3)]))
    return lambda x: index.take(x, where), [at], g.exact[at]


@a_move(2)
def gathered(g: Grower) -> Move:
    at = g.pick(lambda i: g.values[i].ndim > 0 and 0 not in g.values[i].shape)
    x = g.values[at]
    axis = g.axis(x)
    size = x.shape[axis]
    shape = list(x.shape)
    shape[axis] = int(g.random.integers(1, 4))
    where = P.tensor(g.random.integers(-size, size, shape))
    if g.random.random() < 0.5 or not g.floats(at):
        return lambda x: x.gather(axis, where), [at], g.exact[at]
    return lambda x: x.scatter_add(axis, where, x.gather(axis, where) * 0.5), [at], False


@a_move(1)
def picked_by_value(g: Grower) -> Move:
    """Positions computed in the graph: the largest numbers along an axis."""
    at = g.pick(lambda i: g.floats(i) and g.sure(i) and g.values[i].ndim > 0)
    axis = g.axis(g.values[at])
    return lambda x: x.gather(axis, x.argmax(axis, keepdim=True)), [at], True


@a_move(2)
def picked_elsewhere(g: Grower) -> Move:
    """The numbers of one value where the largest of another stand, as a second derivative picks them."""
    at = g.pick(lambda i: g.floats(i) and g.sure(i) and g.values[i].ndim > 0)
    other = g.pick(lambda i: g.floats(i) and g.values[i].shape == g.values[at].shape)
    axis, least = g.axis(g.values[at]), bool(g.random.random() < 0.3)
    position = lambda x: (x.argmin if least else x.argmax)(axis, keepdim=True)
    return lambda a, b: b.gather(axis, position(a)), [at, other], g.exact[other]


@a_move(1)
def in_order(g: Grower) -> Move:
    at = g.pick(lambda i: g.floats(i) and g.sure(i) and g.values[i].ndim > 0 and 0 not in g.values[i].shape)
    axis = g.axis(g.values[at])
    k = int(g.random.integers(1, g.values[at].shape[axis] + 1))
    down = bool(g.random.random() < 0.5)
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.sort(axis, down).values, lambda x: x.topk(k, axis, down).values, lambda x: x.max(axis).values,
        lambda x: x.min(axis, keepdim=True).values,
    ]  # fmt: skip
    return functions[g.random.integers(0, len(functions))], [at], True


@a_move(1)
def put(g: Grower) -> Move:
    at = g.pick(lambda i: g.values[i].ndim > 0 and g.values[i].shape[0] > 2 and g.floats(i))
    size = g.values[at].shape[0]
    where = P.tensor(g.random.permutation(size)[:2].copy())
    return lambda x: index.index_put(x, where, index.take(x, where) * -0.5), [at], g.exact[at]


# ---- what single passes look for -----------------------------------------------------------------------------------------


def some_weights(g: Grower, size: int) -> Tensor:
    return P.tensor(g.random.normal(size=(size, 3)).astype(g.dtype))


@a_move(1)
def layer(g: Grower) -> Move:
    """A product between two reshapes, perhaps summed at once, as in a linear layer and its gradient."""
    at = g.pick(lambda i: g.floats(i) and g.values[i].ndim > 1 and 0 not in g.values[i].shape)
    shape, summed = g.values[at].shape, bool(g.random.random() < 0.5)
    weight = some_weights(g, shape[-1])

    def through(x: Tensor) -> Tensor:
        y = (x.reshape(-1, shape[-1]) @ weight).reshape(*shape[:-1], 3)
        return y.sum(0) if summed else y

    return through, [at], False


@a_move(1)
def embedded(g: Grower) -> Move:
    """Rows of a table, more than it has, times a matrix."""
    at = g.pick(lambda i: g.floats(i) and g.values[i].ndim == 2 and 0 not in g.values[i].shape)
    size, width = g.values[at].shape
    where, weight = P.tensor(g.random.integers(0, size, (3, size))), some_weights(g, width)
    return lambda x: x[where] @ weight, [at], False


@a_move(1)
def assembled(g: Grower) -> Move:
    """A Tensor written part by part."""
    at = g.pick(lambda i: g.floats(i) and g.values[i].ndim > 0 and g.values[i].shape[0] > 1)
    half = g.values[at].shape[0] // 2

    def parts(x: Tensor) -> Tensor:
        y = P.zeros_like(x.detach())
        y[:half] = x[half : 2 * half].detach()
        y[half:] = x[half:].detach() * 2
        return y + x

    return parts, [at], False


@a_move(1)
def long_sum(g: Grower) -> Move:
    """A sum of more numbers than one thread adds up."""
    at = g.pick(g.floats)
    angles = P.tensor(np.linspace(0, 3, 40_000).astype(g.dtype))
    return lambda x: (angles * x.mean()).cos().sum() / 40_000, [at], False


# ---- chance and state ----------------------------------------------------------------------------------------------------


@a_move(1)
def chance(g: Grower) -> Move:
    at = g.pick(g.floats)
    which = int(g.random.integers(0, 3))
    functions: list[Callable[[Tensor], Tensor]] = [
        lambda x: x * P.rand(*x.shape),
        lambda x: P.functional.dropout(x, 0.3),
        lambda x: x + P.randint(-3, 4, x.shape).to(P.float32) * 0.25,
    ]
    return functions[which], [at], which == 2 and g.exact[at]


@a_move(3)
def written(g: Grower) -> Move:
    """A write into a state; the value is what stands in it then."""
    first, second, single = g.states
    at = g.pick(lambda i: g.floats(i) and g.values[i].shape == first.shape)
    which = int(g.random.integers(0, 6))

    def write(x: Tensor) -> Tensor:
        with P.no_grad():
            if which == 0:
                first.assign(x.detach())
            elif which == 1:
                first.mul_(0.5).add_(x.detach())
            elif which == 2:
                kept = first.detach()
                first.assign(second)
                second.assign(kept)
            elif which == 3:
                single.add_(0.25)
            elif which == 4:
                second.assign(first + single)
            elif first.ndim:
                first[::2] = x[::2].detach()
        return first.detach() if which < 3 else second.detach() + single

    return write, [at], False
