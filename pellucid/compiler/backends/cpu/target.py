"""Instruction sets and caches: what the compiler knows of the processor (floor 4)."""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

import llvmlite.binding as binding

from ....errors import OptionError


class Target(NamedTuple):
    """An instruction set: how many float32 a vector holds, and the tile of accumulators its registers have room for.

    rows, vectors: the tile of a matrix product, `rows` splatted numbers against `vectors` vectors: as large as leaves
    every accumulator in a register (`tests/compiler/test_targets.py` looks for spills).
    """

    name: str
    triple: str
    cpu: str
    features: str
    lanes: int
    rows: int
    vectors: int
    fma: bool


def _features(text: str) -> str:
    return ",".join("+" + name for name in text.split())


TARGETS = {
    "avx512": Target("avx512", "x86_64-unknown-linux-gnu", "x86-64-v4", "", 16, 14, 2, True),
    "avx2": Target("avx2", "x86_64-unknown-linux-gnu", "x86-64-v3", _features("fma avx2"), 8, 6, 2, True),
    "neon": Target("neon", "aarch64-unknown-linux-gnu", "generic", _features("neon"), 4, 8, 3, True),
    # Without a fused multiply-add `llvm.fma` would become a library call per number.
    "baseline": Target("baseline", binding.get_default_triple(), "generic", "", 4, 4, 2, False),
}


@functools.cache
def host() -> Target:
    """The best target that this machine runs, or the one that PELLUCID_TARGET names."""
    triple, cpu, features = binding.get_default_triple(), binding.get_host_cpu_name(), binding.get_host_cpu_features()
    arm = triple.startswith(("aarch64", "arm64"))
    can = {
        "avx512": all(features.get(need) for need in ("avx512f", "avx512vl", "avx512bw", "avx512dq", "fma")),
        "avx2": bool(features.get("avx2") and features.get("fma")),
        "neon": arm,
        "baseline": True,
    }
    wish = os.environ.get("PELLUCID_TARGET", "")
    if wish and not can.get(wish):
        names = ", ".join(name for name, possible in can.items() if possible)
        raise OptionError(f"PELLUCID_TARGET is {wish!r}; expected one that this machine runs: {names}; unset it")
    name = wish or next(name for name, possible in can.items() if possible)
    if name != "avx512" and not arm:  # as if the machine had no more than that
        return TARGETS[name]._replace(triple=triple)
    wide = ",-prefer-256-bit" if name == "avx512" else ""
    return TARGETS[name]._replace(triple=triple, cpu=cpu, features=features.flatten() + wide)
