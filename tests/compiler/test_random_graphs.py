"""The compiler against eager code, the interpreter and its own memory plan: every operation, and thousands of random graphs."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from random_graphs import DISABLED, FLOAT64, Arrays, Trial, check, pack, same, second_gradients, wave

import pellucid as P
from pellucid.compiler.backends.cpu.prepare.pipeline import PASSES
from pellucid.compiler.trace.tracer import trace
from pellucid.core.op import REGISTRY, Op
from pellucid.errors import PellucidError
from pellucid.tensor import Tensor

PACKS, GRAPHS = 80, 25  # 2,000 random graphs
UPDATES = ("add_scaled", "axpby", "ema_square", "adam_update")  # what optimizers are made of
# Of several dtypes; or with products that are not rounded, nor infinite, before they are added.
OTHERWISE = ("where", "cast", "power", *UPDATES)
ZERO_SIGNS = ("relu",)  # NumPy leaves the sign of maximum(-0, 0) open
WHOLE = [np.int64, np.bool_, np.int32, np.uint8]

Call = tuple[list[np.ndarray], dict[str, Any]]


# ---- every operation -----------------------------------------------------------------------------------------------------


def samples_of(op: Op) -> Iterator[Call]:
    """The operation's own samples, in float32 and, where they are defined, in whole numbers and truths."""
    random = np.random.default_rng(zlib.crc32(op.name.encode()))
    for i, (arrays, attributes) in enumerate(op.sample_inputs(random)):
        given = [np.asarray(a) for a in arrays]
        if getattr(op, "floats", True):
            floats = [narrow(a) for a in given]
            yield ([strided(a) for a in floats] if i % 2 else floats), attributes
        if op.name in UPDATES:
            continue  # floats only
        for dtype in WHOLE[i % 2 :: 2] if i < 4 else ():
            yield [np.abs(np.rint(3 * a) + 1).astype(dtype) if a.dtype.kind == "f" else a for a in given], attributes
    yield from odd_shapes(op, random)


def narrow(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def strided(array: np.ndarray) -> np.ndarray:
    """The same numbers, every second of a wider block, the first axis running backwards."""
    wide = np.repeat(array[..., None], 2, axis=-1)
    view = wide[::-1][..., 0] if array.ndim else wide[..., 0]
    return view[::-1] if array.ndim else view


def odd_shapes(op: Op, random: np.random.Generator) -> Iterator[Call]:
    """Sizes that are no multiple of any vector or tile."""
    normal = lambda *shape: np.asarray(random.uniform(0.5, 2.0, shape), np.float32)
    if op.kind == "elementwise" and getattr(op, "floats", True) and op.name not in ("where", "cast"):
        count: int = op.count  # type: ignore[attr-defined]
        for shapes in [((67,), (67,)), ((3, 19), (19,)), ((19, 3), (19, 1)), ((33, 17), ())][: 2 * count]:
            yield [normal(*shape) for shape in [*shapes, *[shapes[-1]] * count][:count]], {}
    if op.kind == "reduction" and op.name not in ("expand", "argmax", "argmin", "cumulative_sum"):
        for shape, axes in [
            ((37, 19), (0,)),
            ((37, 19), (1,)),
            ((5, 1, 23, 7), (0, 2)),
            ((3, 17, 2), (0, 1, 2)),
            ((4, 1), (1,)),
        ]:
            for keepdims in (False, True):
                yield [normal(*shape)], {"axes": axes, "keepdims": keepdims}
    if op.name in ("argmax", "argmin"):
        for shape, axis in [((37, 19), 0), ((37, 19), 1), ((3, 1, 5), 1), ((2, 3, 33), 2)]:
            yield [random.integers(0, 9, shape).astype(np.float32)], {"axis": axis, "keepdims": False}
    if op.name == "matmul":
        for m, k, n in [
            (1, 1, 1),
            (1, 37, 1),
            (17, 1, 19),
            (31, 29, 37),
            (2, 67, 33),
            (33, 0, 5),
            (1, 40, 40),
            (61, 3, 1),
        ]:
            yield [normal(m, k), normal(k, n)], {}
            yield [normal(k, m).T, normal(n, k).T], {}
        yield [normal(3, 1, 5, 7), normal(2, 7, 17)], {}
        yield [normal(0, 5, 7), normal(7, 3)], {}


def defined(op: Op, arrays: list[np.ndarray], attributes: dict[str, Any]) -> bool:
    try:
        op(*[Tensor(a) for a in arrays], **attributes)
    except PellucidError:
        return False
    return True


def all_at_once(op: Op, calls: list[Call]) -> Callable[..., Any]:
    """One function that makes every call, and gives the gradients of a weighted sum of each, and those of these."""

    def function(*args: Tensor) -> list[Any]:
        found, at = [], 0
        for arrays, attributes in calls:
            values = args[at : at + len(arrays)]
            at += len(arrays)
            y = op(*values, **attributes)
            found.append(y.detach())
            if y.requires_grad:
                wanted = [v for v in values if v.requires_grad]
                grads = P.autograd.grad((y * wave(y)).sum(), wanted, create_graph=True, allow_unused=True)
                found += [g if g is None else g.detach() for g in grads]
                found += second_gradients(grads, wanted)
        return found

    return function


@pytest.mark.parametrize("name", list(REGISTRY))
def test_every_operation_compiled_is_what_it_is_eager(name: str) -> None:
    op = REGISTRY[name]
    calls = [call for call in samples_of(op) if defined(op, *call)]
    args = [Tensor(a) for arrays, _ in calls for a in arrays]
    for x in args:
        x.requires_grad = bool(op.gradients) and x.dtype.kind == "f"
    check(Trial(all_at_once(op, calls), args, []))


# No denormals: compiled code flushes them.
# Nothing near the denormals: compiled code flushes them to 0.
SPECIAL = np.array(
    [0, -0.0, 1, -1, 0.5, -2.5, 3, 1e-9, -9, 88.8, -104, 1e20, -3e37, np.inf, -np.inf, np.nan], np.float32
)


SPECIAL_OPS = [
    op
    for op in REGISTRY.values()
    if op.kind == "elementwise" and getattr(op, "floats", False) and op.name not in OTHERWISE
]


def special_calls(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Operations on NaN, infinities and signed zeros, in every mixture and position. x, y: (16, 17)."""
    for op in SPECIAL_OPS:
        yield op(*[x, y, x, y, x][: op.count])  # type: ignore[attr-defined]
    yield P.where(x > y, x, y)
    for z in (x, y, x.T, y[::-1, ::2]):
        for axis in (0, 1):
            yield from (z.amax(axis), z.amin(axis), z.argmax(axis), z.argmin(axis), z.any(axis), z.all(axis))
        yield from (z.amax((0, 1)), z.reshape(-1), z.roll(3, 0), -z, z.unsqueeze(1).expand(-1, 2, -1))
        yield from (P.cat([z, -z], 1), z[1:3] @ z[1:3].T, z.sum(0), z[3] * 0 + z[4])


def test_special_numbers_come_out_as_numpy_gives_them() -> None:
    random = np.random.default_rng(1)
    rows = np.stack([random.permutation(np.append(SPECIAL, 2.0)) for _ in range(16)]).astype(np.float32)
    columns = np.resize(SPECIAL, (17, 16)).T.copy()
    function = lambda x, y: list(special_calls(x, y))
    x, y = Tensor(rows), Tensor(columns)
    with np.errstate(all="ignore"):
        truth = [z.numpy() for z in function(x, y)]
        found = [z.numpy() for z in P.compile(function)(x, y)]
    same(found, truth, "native")
    names = [op.name for op in SPECIAL_OPS]
    for i, (a, b) in enumerate(zip(found, truth, strict=True)):
        if i >= len(names) or names[i] not in ZERO_SIGNS:
            zero = (b == 0) & (a == 0)
            assert not (np.signbit(a) != np.signbit(b))[zero].any(), f"result {i}: the sign of a zero"


# ---- random graphs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(PACKS))
def test_random_graphs_agree_with_every_oracle(seed: int) -> None:
    """With all passes on; every second time with one of them, or fusion, or the reuse of memory, off."""
    disable_passes = DISABLED[seed // 2 % len(DISABLED)] if seed % 2 else ()
    check(pack(seed, GRAPHS, 3 + seed % 4), disable_passes)


def test_each_pass_changes_some_of_the_random_graphs() -> None:
    """Else they say nothing about it."""
    idle = set(PASSES.values())  # one may stand there several times
    for seed in range(PACKS):
        if not idle:
            break
        trial = pack(seed, GRAPHS, 3 + seed % 4)
        graph = trace(trial.function, (tuple(trial.args), {}), {}).graph
        for step in PASSES.values():
            before, graph = graph, step(graph)
            if len(before.symbols) != len(graph.symbols) or str(before) != str(graph):
                idle.discard(step)
    names = [name for name, step in PASSES.items() if step in idle]
    assert not names, "add a move to random_graphs.py that makes what these passes look for"


@pytest.mark.parametrize("disable_passes", DISABLED, ids=lambda names: "+".join(names)[:30] or "nothing")
def test_each_pass_can_be_left_out_of_the_plan(disable_passes: tuple[str, ...]) -> None:
    for seed in (1000, 1001, 1002):
        check(pack(seed, GRAPHS, 9), disable_passes, native=False)


@pytest.mark.parametrize("disable_passes", DISABLED, ids=lambda names: "+".join(names)[:30] or "nothing")
def test_second_derivatives_agree_whatever_pass_is_left_out(disable_passes: tuple[str, ...]) -> None:
    """In float64, where nothing but a wrong rewrite shows: the plan, run in NumPy."""
    for seed in range(2000, 2003):
        check(pack(seed, 12, 7, order=2, dtype=FLOAT64), disable_passes, scale=50, native=False)


@pytest.mark.parametrize("seed", range(8))
def test_second_derivatives_of_random_graphs(seed: int) -> None:
    check(pack(3000 + seed, 10, 6, order=2), scale=50)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_second_derivatives_of_many_random_graphs(seed: int) -> None:
    check(pack(20_000 + seed, 10, 7, order=2), scale=50)
    for other in range(5):
        trial = pack(30_000 + 5 * seed + other, 12, 8, order=2, dtype=FLOAT64)
        check(trial, DISABLED[(5 * seed + other) % len(DISABLED)], scale=50, native=False)


@pytest.mark.parametrize("seed", range(3))
def test_products_reductions_and_state_are_the_same_on_any_number_of_threads(seed: int) -> None:
    random = np.random.default_rng(seed)
    x = P.tensor(random.normal(size=(257, 131)).astype(np.float32), requires_grad=True)
    w = P.tensor((random.normal(size=(131, 67)) / 11).astype(np.float32), requires_grad=True)
    state = P.zeros(131, 67)

    def step(x: Tensor, w: Tensor) -> list[Tensor]:
        h = (x @ w).tanh()
        y = [h.softmax(1), P.functional.layer_norm(h, (67,)), h[::-2] @ h[1:7].T, h.sum(0), h.amax(1), h.T @ h][seed::3]
        loss = sum(((part * part).mean() for part in y), P.tensor(0.0))
        grads = P.autograd.grad(loss, [x, w])
        state.sub_(grads[1].detach())
        return [loss.detach(), *grads, *[part.detach() for part in y], P.rand(300, 200), h.detach().argmax(0)]

    agree_on_threads(Trial(step, [x, w], [state]))


@pytest.mark.parametrize("seed", range(4))
def test_random_graphs_large_enough_for_several_threads(seed: int) -> None:
    agree_on_threads(pack(5000 + seed, 6, 5, large=True))


def agree_on_threads(trial: Trial) -> None:
    """With every oracle on three threads, and bit by bit on any number of them."""
    before = P.get_num_threads()
    run = P.compile(trial.function)
    try:
        P.set_num_threads(3)
        check(trial, scale=20)
        found = [bits_of(threads, trial, run) for threads in (1, 2, 4, 3, 2)]
    finally:
        P.set_num_threads(before)
    assert len(set(found)) == 1


def bits_of(threads: int, trial: Trial, run: Callable[..., Any]) -> str:
    P.set_num_threads(threads)
    results: Arrays = trial.run(run, 2)
    return hashlib.sha256(b"".join(a.tobytes() for a in results)).hexdigest()
