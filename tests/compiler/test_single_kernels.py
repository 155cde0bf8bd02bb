"""The kernels of single operations against NumPy: moves, picks by index, random bits; every one to the bit.

Each case is a spec written by hand, whose operands lie in memory in some odd way. It runs once for every thread of a
team of 1, 2 and 3, in order and backward: the result must not know. Around the result lie bytes that nobody may touch.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import pellucid  # noqa: F401  # fills the registry
from pellucid.compiler.backends.cpu.kernel_ir import Instruction, KernelSpec, Load, Store
from pellucid.compiler.backends.cpu.kernels.attention import ATTENTION_EMITTERS
from pellucid.compiler.backends.cpu.kernels.gather_scatter import INDEXED_EMITTERS
from pellucid.compiler.backends.cpu.kernels.single import SINGLE_OP_EMITTERS
from pellucid.compiler.backends.cpu.llvm import Code, compile_module, i64, new_function, new_module, pointer
from pellucid.compiler.backends.cpu.target import TARGETS, Target, host
from pellucid.compiler.ir.views import row_major
from pellucid.core.op import REGISTRY

EMITTERS = {op.name: emitter for op, emitter in SINGLE_OP_EMITTERS.items() if op not in ATTENTION_EMITTERS}
RUNNABLE = {host().name: host(), "baseline": TARGETS["baseline"]}
if host().name == "avx512":
    RUNNABLE["avx2"] = TARGETS["avx2"]._replace(triple=host().triple)

FENCE = 256  # bytes on both sides of a result
UNTOUCHED = 0xA5
SIZES = (0, 1, 2, 3, 7, 16, 17, 31, 40, 67)


# ---- how an operand may lie ------------------------------------------------------------------------------------------


def plain(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).reshape(x.shape)


def turned(x: np.ndarray) -> np.ndarray:
    """The first axis contiguous."""
    return np.asfortranarray(x)


def backward(x: np.ndarray) -> np.ndarray:
    """Every axis from its end to its start."""
    return np.flip(np.flip(x).copy())


def spaced(x: np.ndarray) -> np.ndarray:
    """Some elements from the start of a larger array, every number two apart, every row longer than its numbers."""
    larger = np.zeros([2 * n + 3 for n in x.shape], x.dtype)
    part = larger[tuple(slice(1, 1 + 2 * n, 2) for n in x.shape)]
    part[...] = x
    return part


def padded(x: np.ndarray) -> np.ndarray:
    """Rows contiguous, with room behind each."""
    larger = np.zeros((*x.shape[:-1], x.shape[-1] + 5), x.dtype)
    larger[..., : x.shape[-1]] = x
    return larger[..., : x.shape[-1]]


def repeated(x: np.ndarray) -> np.ndarray:
    """The first number of the longest axis all along it, with stride 0."""
    if x.size == 0:
        return x
    first = np.take(x, [0], axis=int(np.argmax(x.shape)))
    return np.broadcast_to(first, x.shape)


LAYOUTS = (plain, turned, backward, spaced, padded, repeated)


# ---- cases -----------------------------------------------------------------------------------------------------------

Sample = tuple[list[np.ndarray], dict[str, Any]]


def numbers(random: np.random.Generator, shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    kind = np.dtype(dtype).kind
    if kind == "f":
        return np.asarray(random.normal(size=shape), dtype)
    return np.asarray(random.integers(0, 2 if kind == "b" else 100, shape), dtype)


def of(random: np.random.Generator, shape: tuple[int, ...], size: int, dtype: str = "int64") -> np.ndarray:
    """Indices into an axis of `size`, negative ones among them where the dtype has any."""
    return np.asarray(random.integers(0 if dtype == "uint8" else -size, max(size, 1), shape), dtype)


def shapes(random: np.random.Generator, count: int, rank: int = 3) -> Iterator[tuple[int, ...]]:
    for _ in range(count):
        yield tuple(int(n) for n in random.choice(SIZES, random.integers(1, rank + 1)))


DTYPES = ("float32", "int64", "int32", "uint32", "uint8", "bool", "float64")
SUMMED = DTYPES[:-1]  # there is no native arithmetic in float64
INDICES = ("int64", "int32", "uint8")
PAIRS = tuple(itertools.product(DTYPES, INDICES))


def pad(random: np.random.Generator) -> Iterator[Sample]:
    for dtype, shape in zip(itertools.cycle(DTYPES), shapes(random, 21), strict=False):
        slices, sizes = [], []
        for count in shape:
            step = int(random.choice([1, 1, 2, 3, -1, -2]))
            low, after = random.integers(0, 20, 2)
            reach = max(count - 1, 0) * abs(step)
            slices.append((int(low if step > 0 else low + reach), count, step))
            sizes.append(int(low + reach + 1 + after))
        yield [numbers(random, shape, dtype)], {"shape": tuple(sizes), "slices": tuple(slices)}
    yield [numbers(random, ())], {"shape": (), "slices": ()}
    yield [numbers(random, (20, 3, 17))], {"shape": (20, 3, 19), "slices": ((0, 20, 1), (0, 3, 1), (1, 17, 1))}


def concatenate(random: np.random.Generator) -> Iterator[Sample]:
    for dtype, shape in zip(itertools.cycle(DTYPES), shapes(random, 14), strict=False):
        axis = int(random.integers(len(shape)))
        along = [(*shape[:axis], int(n), *shape[axis + 1 :]) for n in random.choice(SIZES, random.integers(1, 5))]
        yield [numbers(random, s, dtype) for s in along], {"axis": axis}
    x = numbers(random, (5, 17))
    yield [x, x], {"axis": 1}  # one Symbol twice


def fold(random: np.random.Generator) -> Iterator[Sample]:
    for dtype, *_ in zip(itertools.cycle(("float32", "float32", "int64", "int32")), range(12), strict=False):
        kernel, stride, dilation = [tuple(int(n) for n in random.integers(1, 4, 2)) for _ in range(3)]
        output = tuple(int(n) for n in random.choice([1, 2, 5, 16, 19], 2))
        triples = zip(output, stride, kernel, dilation, strict=True)
        size = tuple(int((p - 1) * s + (k - 1) * d + 1 + random.integers(3)) for p, s, k, d in triples)
        patches = (int(random.integers(0, 4)), int(random.integers(1, 4)), *output, *kernel)
        yield [numbers(random, patches, dtype)], {"size": size, "stride": stride, "dilation": dilation}


def cumulative_sum(random: np.random.Generator) -> Iterator[Sample]:
    for dtype, shape in zip(itertools.cycle(SUMMED), shapes(random, 18), strict=False):
        how = {"axis": int(random.integers(len(shape))), "reverse": bool(random.integers(2))}
        yield [numbers(random, shape, dtype)], how
    yield [np.array([-0.0, 0.0, -0.0], np.float32)], {"axis": 0, "reverse": True}


def take(random: np.random.Generator) -> Iterator[Sample]:
    for (dtype, index), shape in zip(itertools.cycle(PAIRS), shapes(random, 30), strict=False):
        size, *row = shape
        sizes = tuple(int(n) for n in random.choice(SIZES, random.integers(0, 3)))
        yield [numbers(random, (size or 5, *row), dtype), of(random, sizes, size or 5, index)], {}
    yield [numbers(random, (0, 3)), np.zeros((0, 2), np.int64)], {}
    yield [numbers(random, (3, 0)), np.zeros(2, np.int64)], {}


def rows(random: np.random.Generator) -> Iterator[Sample]:
    for (x, index), _ in take(random):  # of one row, as a copy is; test_shared_programs.py has many
        if len(x):
            yield (
                [
                    x[:1],
                    np.asarray(index % 1 if index.dtype == np.uint8 else -(abs(index) % 2), index.dtype),
                    np.array(1),
                ],
                {},
            )


def gather(random: np.random.Generator) -> Iterator[Sample]:
    for (dtype, index), shape in zip(itertools.cycle(PAIRS), shapes(random, 30), strict=False):
        axis = int(random.integers(len(shape)))
        shape = (*shape[:axis], shape[axis] or 3, *shape[axis + 1 :])
        shorter = [int(random.integers(n + 1)) for n in shape]
        shorter[axis] = int(random.choice([1, 3, 18]))
        yield [numbers(random, shape, dtype), of(random, tuple(shorter), shape[axis], index)], {"axis": axis}
    yield [numbers(random, (300, 10)), of(random, (300, 1), 10)], {"axis": 1}  # as cross-entropy does


def scatter_add(random: np.random.Generator) -> Iterator[Sample]:
    for dtype, ((x, index), how) in zip(itertools.cycle(SUMMED), gather(random), strict=False):
        yield [x.astype(dtype), index, numbers(random, index.shape, dtype)], how
    yield [numbers(random, (5,)), of(random, (200,), 5), numbers(random, (200,))], {"axis": 0}
    yield [numbers(random, (40, 5)), of(random, (33, 50), 5), numbers(random, (33, 50))], {"axis": 1}


def index_add(random: np.random.Generator) -> Iterator[Sample]:
    for dtype, ((x, index), _) in zip(itertools.cycle(SUMMED), take(random), strict=False):
        yield [numbers(random, (*index.shape, *x.shape[1:]), dtype), index], {"shape": x.shape}
    yield [numbers(random, (90, 50)), of(random, (90,), 4)], {"shape": (4, 50)}


def index_put(random: np.random.Generator) -> Iterator[Sample]:
    for (x, index), _ in take(random):
        yield [x, index, numbers(random, (*index.shape, *x.shape[1:]), x.dtype.name)], {}
    yield [numbers(random, (4, 50)), of(random, (90,), 4), numbers(random, (90, 50))], {}


def random_bits(random: np.random.Generator) -> Iterator[Sample]:
    for shape in [(), (1,), (3,), (4,), (0, 3), (15,), (16,), (17,), (63,), (64,), (65,), (257,), (3, 5, 29), (640,)]:
        yield [random.integers(-(2**63), 2**63 - 1, (2,))], {"shape": shape}
    yield [np.array([0, 2**32])], {"shape": (7,)}


CASES: dict[str, Callable[[np.random.Generator], Iterator[Sample]]] = {
    "pad": pad, "concatenate": concatenate, "fold": fold, "cumulative_sum": cumulative_sum,
    "take": take, "rows": rows, "gather": gather, "scatter_add": scatter_add, "index_add": index_add, "index_put": index_put, "random_bits": random_bits,
}  # fmt: skip


class Case(NamedTuple):
    arrays: list[np.ndarray]
    attributes: dict[str, Any]
    spec: KernelSpec
    pointers: list[int]  # addresses of the operands; that of the result is left to the caller


def _lowest(x: np.ndarray) -> int:
    """The address of the first byte that belongs to `x`."""
    back = sum((n - 1) * s for n, s in zip(x.shape, x.strides, strict=True) if s < 0)
    return x.ctypes.data + (back if x.size else 0)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


def case_of(name: str, arrays: list[np.ndarray], attributes: dict[str, Any]) -> Case:
    """The spec for operands that lie as the arrays do."""
    op: Any = REGISTRY[name]
    shape, dtype = op.infer(*arrays, **attributes)
    distinct = list({id(x): x for x in arrays}.values())
    loads = []
    for x in arrays:
        number = next(i for i, y in enumerate(distinct) if x is y)
        strides = tuple(0 if n == 1 else s // x.itemsize for n, s in zip(x.shape, x.strides, strict=True))
        loads.append(Load(number, (x.ctypes.data - _lowest(x)) // x.itemsize, strides, x.dtype.name))
    frozen = tuple(sorted((k, _frozen(v)) for k, v in attributes.items()))
    step = Instruction(op, frozen, dtype.name, tuple(loads))
    store = Store(0, len(distinct), row_major(shape), dtype.name)
    domain = tuple(n for n in shape if n != 1)
    spec = KernelSpec("single", domain, (), (step,), (store,), None, (*[x.shape for x in arrays], shape))
    return Case(arrays, attributes, spec, [_lowest(x) for x in distinct])


def _laid_out(arrays: list[np.ndarray], random: np.random.Generator) -> list[np.ndarray]:
    """Each array in some layout; one that comes twice stays one."""
    laid = {id(x): LAYOUTS[random.integers(len(LAYOUTS))](x) if x.ndim else x for x in arrays}
    return [laid[id(x)] for x in arrays]


@functools.cache
def cases(name: str) -> list[Case]:
    random = np.random.default_rng(17)
    op: Any = REGISTRY[name]
    found = []
    for arrays, attributes in op.sample_inputs(random):
        single = [x.astype(np.float32) if x.dtype == np.float64 else x for x in arrays]
        found.append(case_of(name, single, attributes))
    for arrays, attributes in CASES[name](random):
        found.append(case_of(name, arrays, attributes))
        found.append(case_of(name, _laid_out(arrays, random), attributes))
    return found


# ---- running them ----------------------------------------------------------------------------------------------------


def emit(name: str, found: list[Case], target: Target) -> Any:
    """A module with one function per case: (pointers..., flag, thread, threads)."""
    module = new_module(name, target)
    for number, case in enumerate(found):
        count = len(case.pointers) + 1
        function, builder = new_function(module, f"case{number}", [pointer] * (count + 1) + [i64, i64], target)
        *pointers, flag, thread, threads = function.args
        EMITTERS[name](builder, case.spec, pointers, flag, thread, threads)
        builder.ret_void()
    return module


def run(code: Code, number: int, case: Case, order: list[int]) -> tuple[np.ndarray, bool]:
    """The result of all threads in some order, and whether the flag is up; what lies around it must be untouched."""
    store, shape = case.spec.stores[0], case.spec.shapes[-1]
    size = math.prod(shape) * np.dtype(store.dtype).itemsize
    memory = np.full(size + 2 * FENCE, UNTOUCHED, np.uint8)
    flag = np.zeros(3, np.uint8)
    addresses = [*case.pointers, memory.ctypes.data + FENCE, flag.ctypes.data + 1]
    kernel = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(addresses), ctypes.c_int64, ctypes.c_int64)(
        code.address(f"case{number}")
    )
    for thread in order:
        kernel(*addresses, thread, len(order))
    assert (memory[:FENCE] == UNTOUCHED).all() and (memory[FENCE + size :] == UNTOUCHED).all()
    assert flag[0] == flag[2] == 0 and flag[1] in (0, 1)
    return memory[FENCE : FENCE + size].view(store.dtype).reshape(shape), bool(flag[1])


ORDERS = ([0], [0, 1], [0, 1, 2], [2, 1, 0])


@pytest.mark.parametrize("name", EMITTERS)
@pytest.mark.parametrize("target", RUNNABLE)
def test_kernel_equals_numpy(name: str, target: str) -> None:
    found = cases(name)
    code = Code(
        compile_module(emit(name, found, RUNNABLE[target]), RUNNABLE[target]), [f"case{i}" for i in range(len(found))]
    )
    op: Any = REGISTRY[name]
    for number, case in enumerate(found):
        before = [x.tobytes() for x in case.arrays]
        dtype = case.spec.stores[0].dtype
        expected = np.ascontiguousarray(np.asarray(op.forward(*case.arrays, **case.attributes), dtype))
        for order in ORDERS:
            result, flagged = run(code, number, case, order)
            assert not flagged, case.spec
            np.testing.assert_array_equal(result, expected, str((order, case.spec)))
            assert result.tobytes() == expected.tobytes(), case.spec  # -0.0 is not 0.0
        assert before == [x.tobytes() for x in case.arrays], case.spec


@pytest.mark.parametrize("name", EMITTERS)
@pytest.mark.parametrize("target", TARGETS)
def test_kernel_compiles_for(name: str, target: str) -> None:
    found = cases(name)[::5]
    text = compile_module(emit(name, found, TARGETS[target]), TARGETS[target], assembly=True)
    assert text.count("case") >= len(found)


# ---- indices out of range --------------------------------------------------------------------------------------------


def wrong_cases(name: str) -> Iterator[tuple[Case, np.ndarray]]:
    """Cases with one index out of range, and what comes out if 0 is read for it, or nothing is written."""
    random = np.random.default_rng(5)
    for arrays, attributes in CASES[name](random):
        index = arrays[1]
        size = attributes["shape"][0] if name == "index_add" else arrays[0].shape[attributes.get("axis", 0)]
        if index.size == 0 or index.dtype == np.uint8:
            continue
        info = np.iinfo(index.dtype)
        for bad in random.choice([size, -size - 1, info.max, info.min], 2, replace=False):
            at = int(random.integers(index.size))
            wrong = index.copy()
            wrong.flat[at] = bad
            laid = _laid_out([arrays[0], wrong, *arrays[2:]], random)
            laid[1] = wrong  # repeated, the index might lose the wrong number
            yield case_of(name, laid, attributes), without(name, [laid[0], index, *laid[2:]], attributes, at)


def without(name: str, arrays: list[np.ndarray], attributes: dict[str, Any], at: int) -> np.ndarray:
    """The result without what index number `at` writes; with row 0 where it reads."""
    op: Any = REGISTRY[name]
    index = arrays[1].copy()
    if name in ("take", "rows", "gather"):
        index.flat[at] = 0
        return op.forward(arrays[0], index, *arrays[2:], **attributes)
    if name == "index_put":
        x, _, rows = arrays
        rows = rows.reshape(index.size, *x.shape[1:])
        return op.forward(x, np.delete(index.ravel(), at), np.delete(rows, at, 0))
    summand = 0 if name == "index_add" else 2
    arrays = [plain(x.copy()) for x in arrays]
    row = arrays[summand].size // index.size
    arrays[summand].reshape(index.size, row)[at] = -0.0  # what changes no sum
    return op.forward(*arrays, **attributes)


@pytest.mark.parametrize("name", [op.name for op in INDEXED_EMITTERS])
@pytest.mark.parametrize("target", RUNNABLE)
def test_wrong_index_raises_the_flag(name: str, target: str) -> None:
    found = list(wrong_cases(name))
    modules = emit(name, [case for case, _ in found], RUNNABLE[target])
    code = Code(compile_module(modules, RUNNABLE[target]), [f"case{i}" for i in range(len(found))])
    for number, (case, expected) in enumerate(found):
        for order in ORDERS:
            result, flagged = run(code, number, case, order)
            assert flagged, case.spec
            np.testing.assert_array_equal(result, expected, str((order, case.spec)))


NOTHING = [  # an axis of size 0 has no right index
    ("take", [(0,), 3], {}),
    ("take", [(0, 4), 3], {}),
    ("take", [(0, 0), 3], {}),
    ("gather", [(3, 0), (3, 2)], {"axis": 1}),
    ("scatter_add", [(3, 0), (3, 2), (3, 2)], {"axis": 1}),
    ("index_add", [(2, 4), 2], {"shape": (0, 4)}),
    ("index_add", [(2,), 2], {"shape": (0,)}),
    ("index_put", [(0, 4), 2, (2, 4)], {}),
]


@pytest.mark.parametrize(("name", "sizes", "attributes"), NOTHING)
def test_index_into_nothing_raises_the_flag(name: str, sizes: list[Any], attributes: dict[str, Any]) -> None:
    arrays = [np.zeros(shape, np.int64 if i == 1 else np.float32) for i, shape in enumerate(sizes)]
    case = case_of(name, arrays, attributes)
    code = Code(compile_module(emit(name, [case], host()), host()), ["case0"])
    for order in ORDERS:
        assert run(code, 0, case, order)[1]


def test_one_wrong_byte_raises_the_flag() -> None:
    case = case_of("take", [np.ones((3, 5), np.float32), np.array([2, 3, 255], np.uint8)], {})
    code = Code(compile_module(emit("take", [case], host()), host()), ["case0"])
    assert run(code, 0, case, [0])[1]
