"""Targets: instruction sets, tile sizes, caches and costs of a processor (floor 4).

Another processor is described by a line of `TARGETS`, with its own numbers where those of `costs.py` do not fit.
"""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

import llvmlite.binding as binding

from ....errors import OptionError
from .costs import CacheSizes, Costs, ProductCosts, TileSizes


class Target(NamedTuple):
    """An instruction set.

    lanes: float32 elements of a vector. rows, vectors: the tile of a matrix product, `rows` broadcast elements times `vectors`
    vectors, as large as its accumulators fit into registers (`tests/compiler/test_targets.py` looks for spills). fma: whether
    it has a fused multiply-add. caches, costs, products, tiles: the same for all so far.
    """

    name: str
    triple: str
    cpu: str
    features: str
    lanes: int
    rows: int
    vectors: int
    fma: bool
    caches: CacheSizes = CacheSizes()
    costs: Costs = Costs()
    products: ProductCosts = ProductCosts()
    tiles: TileSizes = TileSizes()


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
    supported = {
        "avx512": all(features.get(need) for need in ("avx512f", "avx512vl", "avx512bw", "avx512dq", "fma")),
        "avx2": bool(features.get("avx2") and features.get("fma")),
        "neon": arm,
        "baseline": True,
    }
    requested = os.environ.get("PELLUCID_TARGET", "")
    if requested and not supported.get(requested):
        names = ", ".join(name for name, possible in supported.items() if possible)
        raise OptionError(f"PELLUCID_TARGET is {requested!r}; expected one that this machine runs: {names}; unset it")
    name = requested or next(name for name, possible in supported.items() if possible)
    if name != "avx512" and not arm:  # use no more than that
        return TARGETS[name]._replace(triple=triple)
    wide = ",-prefer-256-bit" if name == "avx512" else ""
    return TARGETS[name]._replace(triple=triple, cpu=cpu, features=features.flatten() + wide)
