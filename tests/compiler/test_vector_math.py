"""Native elementwise arithmetic against NumPy: every operation of the registry, every dtype, every instruction set.

Integers and truths must agree to the bit. The functions of float32 are measured against float64, in units in the last
place, over bit patterns drawn from the whole range; special values must come out as NumPy gives them.
"""

from __future__ import annotations

import ctypes
import functools
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.special import erf

import pellucid  # noqa: F401  # fills the registry
from pellucid.compiler.backends.cpu.kernels.vector_math import VectorMath
from pellucid.compiler.backends.cpu.llvm import Code, compile_module, i64, new_function, new_module, pointer
from pellucid.compiler.backends.cpu.target import TARGETS, Target, host
from pellucid.core.op import REGISTRY

OPERATIONS = {name: op for name, op in REGISTRY.items() if op.kind == "elementwise"}
DTYPES = [np.dtype(name) for name in ("float32", "int64", "int32", "uint32", "uint8", "bool")]
FLOAT = np.dtype(np.float32)

# The host's own set, and those below it that it runs as well.
RUNNABLE = {host().name: host(), "baseline": TARGETS["baseline"]}
if host().name == "avx512":
    RUNNABLE["avx2"] = TARGETS["avx2"]._replace(triple=host().triple)

UNIT = 64  # arrays are padded to a multiple of this, so kernels need no masks

Case = tuple[str, tuple[np.dtype, ...], np.dtype, tuple[tuple[str, Any], ...]]  # operation, inputs, result, attributes


def cases_of(name: str) -> list[Case]:
    """The operation with every dtype it is defined on."""
    op: Any = OPERATIONS[name]
    if name == "where":
        return [(name, (np.dtype(bool), dtype, dtype), dtype, ()) for dtype in DTYPES]
    if name == "cast":
        return [(name, (a,), b, (("dtype", b),)) for a in DTYPES for b in DTYPES]
    found: list[Case] = []
    for dtype in [FLOAT] if op.floating or name in ("add_scaled", "axpby", "ema_square", "adam_update") else DTYPES:
        if dtype.kind == "f" and not op.floats:
            continue
        try:
            op.forward(*[np.ones(1, dtype)] * op.count)
        except TypeError:
            continue  # NumPy does not define it on truths
        found.append((name, (dtype,) * op.count, op.result or dtype, ()))
    return found


def emit(target: Target, cases: Sequence[Case]) -> Any:
    """A module with one loop per case, named by its number: (inputs..., output, count)."""
    module = new_module("arithmetic", target)
    for number, case in enumerate(cases):
        emit_loop(module, target, f"case{number}", case)
    return module


def emit_loop(module: Any, target: Target, label: str, case: Case) -> None:
    name, dtypes, result, attributes = case
    function, builder = new_function(module, label, [pointer] * (len(dtypes) + 1) + [i64], target)
    *inputs, output, count = function.args
    arithmetic = VectorMath(builder, dtypes[-1])
    op: Any = OPERATIONS[name]

    def body(i: Any) -> None:
        pairs = zip(inputs, dtypes, strict=True)
        vectors = [builder.load_vector(builder.at(base, i, dtype), dtype) for base, dtype in pairs]
        value = op.native(arithmetic, *vectors, **dict(attributes))
        builder.store_vector(value, builder.at(output, i, result), result)

    builder.loop(0, count, builder.lanes, body)
    builder.ret_void()


CASES = [case for name in OPERATIONS for case in cases_of(name)]


@functools.cache
def compiled(target: str) -> Code:
    """All cases for one of the instruction sets that run here, compiled once: that takes seconds."""
    return Code(
        compile_module(emit(RUNNABLE[target], CASES), RUNNABLE[target]), [f"case{i}" for i in range(len(CASES))]
    )


def native(target: str, case: Case, *arrays: np.ndarray) -> np.ndarray:
    """What the native loop makes of the arrays."""
    size = arrays[0].size
    padded = -(-size // UNIT) * UNIT
    inputs = [np.resize(array, padded).astype(dtype) for array, dtype in zip(arrays, case[1], strict=True)]
    output = np.empty(padded, case[2])
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(inputs) + 1), ctypes.c_long)
    kernel = signature(compiled(target).address(f"case{CASES.index(case)}"))
    kernel(*[a.ctypes.data for a in [*inputs, output]], padded)
    return output[:size]


def case_of(name: str, dtype: np.dtype = FLOAT) -> Case:
    return next(case for case in CASES if case[0] == name and case[1][-1] == dtype)


# ---- numbers to try --------------------------------------------------------------------------------------------------

SPECIAL = np.array(
    [0, -0.0, 1, -1, 0.5, -0.5, 2, -2, 1.5, -1.5, 2.5, 3, -3, 7, 1e-7, -1e-7, 1e-20, -1e-20, 1.2e-38, 88.7, 88.73,
     -87.3, -88, 104, -104, 9, 20, -20, 8192, 1e5, -1e6, 8388608.5, 16777216, 2e9, -2e9, 1e20, -1e20, 3.4e38, -3.4e38,
     1e-40, -1e-45, np.inf, -np.inf, np.nan],
    np.float32,
)  # fmt: skip


def numbers(dtype: np.dtype, count: int, random: np.random.Generator) -> np.ndarray:
    """Ordinary and extreme numbers of a dtype, in no order."""
    if dtype.kind == "b":
        return random.integers(0, 2, count) > 0
    if dtype.kind == "f":
        drawn = np.concatenate([random.normal(0, 3, count // 2), random.normal(0, 1e3, count - count // 2)])
        drawn[random.integers(0, count, 4 * SPECIAL.size)] = np.tile(SPECIAL, 4)
        return random.permutation(drawn.astype(dtype))
    info = np.iinfo(dtype)
    small = random.integers(max(-9, info.min), 10, count, dtype)
    large = random.integers(info.min, info.max, count, dtype, endpoint=True)
    ends = random.choice(np.array([info.min, info.max, 0, 1, info.max - 1], dtype), count)
    return np.choose(random.integers(0, 3, count), [small, large, ends])


def inputs_of(case: Case, count: int = 4096) -> list[np.ndarray]:
    """Random numbers where NumPy itself has one answer: no integers to negative powers, no casts out of range."""
    name, dtypes, result, _ = case
    random = np.random.default_rng(zlib.crc32(f"{name} {dtypes} {result}".encode()))
    arrays = [numbers(dtype, count, random) for dtype in dtypes]
    if name == "power" and dtypes[1].kind == "i":
        arrays[1] = arrays[1] & np.iinfo(dtypes[1]).max
    if name == "cast" and dtypes[0].kind == "f" and result.kind in "iu":
        info = np.iinfo(result)
        arrays[0] = random.uniform(max(info.min, -(2.0**30)), min(info.max, 2.0**31), count).astype(np.float32)
    if name == "round" and dtypes[0] == np.int64:
        arrays[0] = arrays[0] // 4096  # NumPy rounds integers by way of float64
    if dtypes[0].kind == "f" and len(arrays) == 2:  # every special value with every other
        pairs = np.meshgrid(SPECIAL, SPECIAL)
        arrays = [np.concatenate([a, pair.ravel()]) for a, pair in zip(arrays, pairs, strict=True)]
    return arrays


def distance(result: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How far float32 numbers are from float64 ones, in units in the last place of the truth.

    Where both are NaN or the same it is 0, and so it is where the truth is subnormal and the result 0.
    """
    rounded = truth.astype(np.float32)
    unit = np.spacing(np.maximum(np.abs(rounded), np.float32(2.0**-126))).astype(np.float64)
    far = np.abs(result.astype(np.float64) - truth) / unit
    same = (result == rounded) | (np.isnan(result) & np.isnan(rounded))
    flushed = (np.abs(truth) < 2.0**-126) & (result == 0)
    return np.where(same | flushed, 0, np.where(np.isfinite(far), far, np.inf))


# ---- every operation -------------------------------------------------------------------------------------------------


def test_every_elementwise_operation_has_a_native_rule() -> None:
    assert [name for name, op in OPERATIONS.items() if op.native is None] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_native_code_computes_what_numpy_does(name: str, target: str) -> None:
    for case in cases_of(name):
        arrays = inputs_of(case)
        expected = np.asarray(OPERATIONS[name].forward(*arrays, **dict(case[3]))).astype(case[2])
        result = native(target, case, *arrays)
        if ulps := OPERATIONS[name].ulps:
            far = distance(result, expected.astype(np.float64))
            worst = int(far.argmax())
            assert far[worst] <= ulps, (case, [a[worst] for a in arrays], result[worst], expected[worst])
        elif name in ("add_scaled", "axpby", "ema_square", "adam_update"):
            check_fused(name, arrays, result, expected)
        else:
            same = (result == expected) | ((result != result) & (expected != expected))
            wrong = np.flatnonzero(~same)[:5]
            assert same.all(), (case, [a[wrong] for a in arrays], result[wrong], expected[wrong])


def check_fused(name: str, arrays: list[np.ndarray], result: np.ndarray, expected: np.ndarray) -> None:
    """A fused multiply-add rounds once where NumPy rounds twice: they differ by the size of what is added up."""
    kept = np.ones(result.shape, bool)
    for array in arrays:
        kept &= np.isfinite(array) & (np.abs(array) < 1e6) & ((np.abs(array) > 1e-6) | (array == 0))
    sizes = OPERATIONS[name].forward(*[np.abs(a).astype(np.float64) for a in arrays])
    if name == "adam_update":
        p, size, m, v, eps = (a.astype(np.float64) for a in arrays)
        kept &= (v >= 0) & (eps > 0)
        sizes = np.abs(p) + np.abs(size * m / (np.sqrt(v) + eps))
    assert kept.any()
    assert np.all(np.abs(result - expected)[kept] <= 3e-7 * np.abs(sizes)[kept])
    assert np.all(np.isnan(result) | ~np.isnan(arrays[0]))


# ---- accuracy --------------------------------------------------------------------------------------------------------

TRUTHS = {
    "exp": (np.exp, 2), "expm1": (np.expm1, 3), "log": (np.log, 2), "log1p": (np.log1p, 3), "sqrt": (np.sqrt, 0.51),
    "sin": (np.sin, 2), "cos": (np.cos, 2), "tanh": (np.tanh, 4), "erf": (erf, 2),
    "sigmoid": (lambda x: np.where(x < 0, np.exp(x), 1) / (1 + np.exp(-np.abs(x))), 4),
}  # fmt: skip


@functools.cache
def whole_range(count: int = 200_000) -> np.ndarray:
    """Float32 numbers by bit pattern, NaN and subnormal ones included, and as many again of ordinary size."""
    random = np.random.default_rng(7)
    patterns = random.integers(0, 2**32, count, np.uint32).view(np.float32)
    return np.concatenate([patterns, random.uniform(-100, 100, count), random.normal(0, 1, count)]).astype(np.float32)


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.parametrize("name", TRUTHS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_functions_are_accurate_over_the_whole_range(name: str, target: str) -> None:
    function, bound = TRUTHS[name]
    x = whole_range()
    far = distance(native(target, case_of(name), x), function(x.astype(np.float64)))
    assert far.max() <= bound, (x[far.argmax()], far.max())


@pytest.mark.parametrize("target", RUNNABLE)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_powers_are_accurate_over_the_whole_range(target: str) -> None:
    random = np.random.default_rng(8)
    x = np.exp(random.uniform(-80, 80, 100_000)).astype(np.float32)
    y = (random.uniform(-90, 90, x.size) / np.maximum(np.abs(np.log(x)), 1)).astype(np.float32)
    far = distance(native(target, case_of("power"), x, y), np.power(x.astype(np.float64), y.astype(np.float64)))
    assert far.max() <= 1, (x[far.argmax()], y[far.argmax()])


@pytest.mark.parametrize("target", RUNNABLE)
def test_limits_of_functions_are_exact(target: str) -> None:
    infinity = np.array([np.inf, -np.inf], np.float32)
    limits = {"exp": [np.inf, 0], "expm1": [np.inf, -1], "tanh": [1, -1], "sigmoid": [1, 0], "erf": [1, -1]}
    for name, expected in limits.items():
        assert native(target, case_of(name), infinity).tolist() == expected
    zeros = native(target, case_of("log"), np.array([0.0, -0.0, -1.0], np.float32))
    assert zeros[:2].tolist() == [-np.inf, -np.inf] and np.isnan(zeros[2])
    for name in ("relu", "sign", "exp", "sigmoid", "tanh", "erf", "floor"):
        assert np.isnan(native(target, case_of(name), np.array([np.nan], np.float32))[0]), name


def test_integers_to_negative_powers_are_cut_to_integers() -> None:
    """NumPy refuses them; a kernel cannot, and says what PyTorch says."""
    x, y = np.array([1, -1, -1, 2, -7, 0]), np.array([-3, -3, -2, -1, -2, -1])
    for dtype in (np.int32, np.int64):
        result = native(host().name, case_of("power", np.dtype(dtype)), x, y)
        assert result.tolist() == [1, -1, 1, 0, 0, 0]


# ---- other machines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["avx2", "neon", "baseline"])
def test_every_operation_compiles_for_other_machines(target: str) -> None:
    """Emitted, not run: one dtype of each operation, as the others have been verified above."""
    cases = [cases_of(name)[0] for name in OPERATIONS]
    text = compile_module(emit(TARGETS[target], cases), TARGETS[target], assembly=True)
    assert all(f"case{number}:" in text for number in range(len(cases)))


def test_float64_is_left_to_numpy() -> None:
    _, builder = new_function(new_module("arithmetic", host()), "none", [], host())
    with pytest.raises(TypeError, match="run it with NumPy"):
        VectorMath(builder, np.float64)
