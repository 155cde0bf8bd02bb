"""Other instruction sets: code is made for each, its microkernels keep their tile in registers, and AVX2 runs here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid import nn, optim
from pellucid.compiler.backends.cpu import llvm, lower, memory_plan, schedule
from pellucid.compiler.backends.cpu import target as targets
from pellucid.compiler.trace import tracer

MULTIPLY_ADD = re.compile(r"\b(vfmadd\w+|fmla|mulps)\b")
LEAVES_THE_TILE = re.compile(r"sqrt|div|sll|\bshl\b|cvt")  # an optimizer's update, a softmax: no microkernel
STACK = re.compile(r"\b(zmm|ymm|xmm|v|q)\d+.*(\(%rsp\)|\[sp)|(\(%rsp\)|\[sp).*\b(zmm|ymm|xmm|v|q)\d+")


def training_step() -> tuple[Callable[..., Any], Any, Any]:
    P.manual_seed(0)
    model = nn.Sequential(nn.Linear(50, 37), nn.ReLU(), nn.Linear(37, 10))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, P.rand(48, 50), P.randint(0, 10, (48,))


def assembly(target: targets.Target) -> str:
    step, x, y = training_step()
    traced = tracer.trace(step, ((x, y), {}), {})
    graph, kernels, places = schedule.schedule(traced.graph, target)
    program = lower.lower(memory_plan.plan_memory(graph, kernels, places), target)
    return llvm.compile_module(program.module(), target, assembly=True)


def loops(text: str) -> list[str]:
    """The blocks that jump back to their own start."""
    blocks = re.split(r"\n(?=\.?L[A-Za-z0-9_]+:)", text)
    return [b for b in blocks if re.search(r"\b(j\w+|b\.\w+|t?bn?z|cbn?z)\s.*" + re.escape(b.split(":")[0]) + r"\b", b)]


@pytest.mark.parametrize("name", ["avx512", "avx2", "neon"])
def test_microkernels_keep_their_tile_in_registers(name: str) -> None:
    found = [b for b in loops(assembly(targets.TARGETS[name])) if len(MULTIPLY_ADD.findall(b)) >= 6]
    tiles = [b for b in found if not LEAVES_THE_TILE.search(b)]
    assert tiles
    for tile in tiles:
        assert not [line for line in tile.splitlines() if STACK.search(line)]


def test_code_is_made_for_any_machine() -> None:
    assert "program0" in assembly(targets.TARGETS["baseline"])


RUN = """
import pellucid as P
from tests.compiler.test_targets import training_step
step, x, y = training_step()
compiled = P.compile(step)
print(*[compiled(x, y).item() for _ in range(5)])
"""


@pytest.mark.parametrize("name", ["avx2", "baseline"])
def test_another_target_runs_here_and_trains_alike(name: str) -> None:
    if targets.host().name not in ("avx512", "avx2"):
        pytest.skip("this machine is no x86 with AVX2")
    environment = {**os.environ, "PELLUCID_TARGET": name, "PELLUCID_CACHE": "off"}
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    step, x, y = training_step()
    expected = [step(x, y).item() for _ in range(5)]
    assert np.allclose([float(word) for word in done.stdout.split()], expected, rtol=1e-5)
