"""The kernels of attention against NumPy in float64, over odd shapes and layouts, for every instruction set at hand."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import pytest
from test_single_kernels import LAYOUTS, ORDERS, RUNNABLE, Case, case_of, run
from test_targets import MULTIPLY_ADD, STACK, loops

from pellucid.compiler.backends.cpu.kernels.attention import ATTENTION_EMITTERS
from pellucid.compiler.backends.cpu.llvm import Code, compile_module, i64, new_function, new_module, pointer
from pellucid.compiler.backends.cpu.target import TARGETS, Target
from pellucid.core.op import REGISTRY

EXPONENTIAL = re.compile(r"vpsll|\bshl\s+v")  # its powers of two; it has more constants than some machines registers

SHAPES = [  # B, H, G, T, S, D, E, shape of the mask
    (1, 1, 1, 1, 1, 1, 1, None),
    (2, 2, 2, 16, 16, 16, 16, None),
    (1, 3, 1, 17, 31, 7, 19, (17, 31)),
    (2, 4, 2, 35, 130, 5, 3, (2, 1, 1, 130)),
    (3, 2, 1, 1, 150, 33, 16, None),
    (1, 2, 2, 150, 9, 16, 40, (1, 2, 150, 1)),
    (1, 1, 1, 48, 260, 32, 32, None),
    (0, 2, 2, 3, 3, 4, 4, None),
    (2, 2, 2, 0, 3, 4, 4, None),
    (2, 2, 2, 3, 0, 4, 4, None),
    (1, 2, 2, 3, 5, 0, 4, None),
    (1, 2, 2, 3, 5, 4, 0, None),
]


@functools.cache
def cases(name: str) -> list[Case]:
    random = np.random.default_rng(3)
    op: Any = REGISTRY[name]
    found = []
    for number, (b, h, g, t, s, d, e, mask) in enumerate(SHAPES):
        arrays = [random.normal(size=size).astype(np.float32) for size in ((b, h, t, d), (b, g, s, d), (b, g, s, e))]
        if mask is not None:
            m = random.normal(size=mask).astype(np.float32)
            arrays.append(m > 0.8 if number % 2 else m)
        for causal in (False, True):
            laid = [LAYOUTS[random.integers(len(LAYOUTS))](x) for x in arrays]
            given, how = op.sample(random, laid, {"causal": causal, "scale": 0.4})
            given = [x.astype(np.float32) if x.dtype == np.float64 else x for x in given]
            found.append(case_of(name, given, how))
    return found


def module(name: str, found: list[Case], target: Target) -> Any:
    module = new_module(name, target)
    for number, case in enumerate(found):
        count = len(case.pointers) + 1
        function, builder = new_function(module, f"case{number}", [pointer] * (count + 1) + [i64, i64], target)
        *pointers, flag, thread, threads = function.args
        ATTENTION_EMITTERS[REGISTRY[name]](builder, case.spec, pointers, flag, thread, threads)
        builder.ret_void()
    return module


@pytest.mark.parametrize("name", [op.name for op in ATTENTION_EMITTERS])
@pytest.mark.parametrize("target", RUNNABLE)
def test_kernel_equals_numpy_with_any_threads(name: str, target: str) -> None:
    found, op = cases(name), REGISTRY[name]
    code = Code(
        compile_module(module(name, found, RUNNABLE[target]), RUNNABLE[target]), [f"case{i}" for i in range(len(found))]
    )
    for number, case in enumerate(found):
        exact = [x.astype(np.float64) if x.dtype == np.float32 else x for x in case.arrays]
        expected = op.forward(*exact, **case.attributes)
        results = [run(code, number, case, order)[0] for order in ORDERS]
        size = max(abs(expected).max(initial=0.0), 1.0)
        np.testing.assert_allclose(results[0], expected, rtol=1e-5, atol=2e-6 * size, err_msg=str(case.spec))
        assert len({x.tobytes() for x in results}) == 1, case.spec


@pytest.mark.parametrize("target", ["avx512", "avx2", "neon"])
@pytest.mark.parametrize("name", [op.name for op in ATTENTION_EMITTERS])
def test_microkernels_keep_their_sums_in_registers(name: str, target: str) -> None:
    random = np.random.default_rng(0)
    op: Any = REGISTRY[name]
    qkv = random.normal(size=(2, 64, 3, 2, 32)).astype(np.float32).transpose(2, 0, 3, 1, 4)
    given, how = op.sample(random, list(qkv), {"causal": True, "scale": 0.2})
    case = case_of(name, [x.astype(np.float32) for x in given], how)
    text = compile_module(module(name, [case], TARGETS[target]), TARGETS[target], assembly=True)
    bodies = [body_of(block) for block in loops(text)]
    tiles = [b for b in bodies if len(MULTIPLY_ADD.findall(b)) >= 6 and not EXPONENTIAL.search(b)]
    assert len(tiles) >= (2 if name == "attention" else 5)
    for tile in tiles:
        assert not [line for line in tile.splitlines() if STACK.search(line)]


def body_of(block: str) -> str:
    """A loop without what follows it."""
    label, _, text = block.partition(":")
    return text[: [jump.end() for jump in re.finditer(rf"\s{re.escape(label.strip())}\b", text)][-1]]
