"""Kernels of single operations: which operations have an emitter of their own (floor 4).

A kernel that fuses nothing computes one operation. To give an operation such a kernel, write its emitter in a file here and
its line in that file's table.
"""

from __future__ import annotations

from collections.abc import Sequence

from .....core.op import Op
from ..kernel_ir import KernelSpec
from ..llvm import Builder, Value
from .attention import ATTENTION_EMITTERS
from .data_movement import MOVEMENT_EMITTERS
from .gather_scatter import INDEXED_EMITTERS
from .random import RANDOM_EMITTERS
from .vector_body import Emitter

SINGLE_OP_EMITTERS: dict[Op, Emitter] = {
    **MOVEMENT_EMITTERS, **INDEXED_EMITTERS, **RANDOM_EMITTERS, **ATTENTION_EMITTERS,
}  # fmt: skip


def emit_single(
    builder: Builder, spec: KernelSpec, pointers: Sequence[Value], flag: Value, thread: Value, threads: Value
) -> None:
    """The kernel of one operation."""
    SINGLE_OP_EMITTERS[spec.instructions[0].op](builder, spec, pointers, flag, thread, threads)
