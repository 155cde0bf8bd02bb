"""What a kernel costs: its operations, the bytes it moves, and whether threads share it (floor 4)."""

from __future__ import annotations

import math

import numpy as np

from .costs import Costs
from .kernel_ir import KernelSpec
from .kernels import attention
from .kernels.attention import ATTENTION_EMITTERS
from .kernels.elementwise import accesses


def flops(spec: KernelSpec) -> int:
    """Additions, multiplications and function values of one launch."""
    size = math.prod(spec.domain)
    if spec.contraction is not None:
        return size * (2 * math.prod(spec.contraction.sizes) + len(spec.instructions) - 1)
    if spec.kind == "single" and spec.instructions[0].op in ATTENTION_EMITTERS:
        return attention.flops(spec)
    return 0 if spec.kind == "copy" else size * len(spec.instructions)


def traffic(spec: KernelSpec) -> int:
    """Bytes of the domain read and written, each operand once."""
    total = 0
    for x in accesses(spec):
        moved = math.prod(n for n, stride in zip(spec.domain, x.strides, strict=False) if stride)
        total += moved * np.dtype(x.dtype).itemsize
    return total


def is_single_threaded(spec: KernelSpec, costs: Costs) -> bool:
    """Whether one thread runs the whole kernel, since that is faster than sharing it."""
    if spec.contraction is not None:
        return flops(spec) < costs.parallel_product_flops
    largest = max((math.prod(shape) for shape in spec.shapes), default=0)
    return max(flops(spec), traffic(spec) // costs.flop_bytes, largest) < costs.parallel_flops
