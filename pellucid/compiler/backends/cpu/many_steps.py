"""Many steps of a program in one call: native code runs them without Python in between (floor 4)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ....core.value import Symbol
from ....tensor import Tensor
from . import thread_pool
from .memory_plan import INPUTS, OUTPUTS
from .state_buffers import HeldLocks
from .storage import aligned

if TYPE_CHECKING:
    from .program import Program

CHUNK = 0.05  # seconds of native work without Python in between, about


def run_many(
    program: Program, held: HeldLocks, tensors: Sequence[Tensor], indices: np.ndarray, per_step: Mapping[Tensor, np.ndarray]
) -> tuple[Any, int]:  # fmt: skip
    """The first steps of `indices`, as `Program.run_steps` tells. held: holds the locks of the program."""
    context, state = program.context, program.state
    state.settle(held)
    program.prepare(tensors)
    if per_step:
        context.stale_copies()  # of weights, which each step may change
    count = 1 if per_step and context.plan.keeps_copies else max(1, int(CHUNK / program.backoff.recent))
    count = min(count, len(indices))
    outputs = aligned((count, max(context.plan.output_bytes, 1)), np.uint8)
    moving = {**_moving_inputs(program, len(tensors) - 1, indices, per_step), OUTPUTS: outputs}
    before = {index: int(context.table[index]) for index in moving}
    try:
        for index, values in moving.items():
            context.table[index], context.table[context.stride_offset + index] = values.ctypes.data, values.strides[0]
        began = time.perf_counter()
        thread_pool.run(program.entry_points[0], context.address, program.backoff.threads, 0, count)
        program.backoff.note(began, time.perf_counter(), count)
        context.workspace.raise_flagged()
    finally:
        for index, address in before.items():
            context.table[index], context.table[context.stride_offset + index] = address, 0
    program.inputs.store_written(program.bindings, ())
    return program.unflatten([_stacked(program, symbol, outputs) for symbol in program.graph.outputs], ()), count


def _moving_inputs(
    program: Program, last: int, indices: np.ndarray, per_step: Mapping[Tensor, np.ndarray]
) -> dict[int, np.ndarray]:
    """What stands at another address in each step: an array with one row a step, by index in the context."""
    entries = enumerate(program.graph.inputs)
    moving = {INPUTS + i: indices for i, entry in entries if entry.kind == "argument" and entry.position == last}
    index_of = program.state.index_of
    return moving | {index_of[tensor]: values for tensor, values in per_step.items() if tensor in index_of}


def _stacked(program: Program, symbol: Symbol, outputs: np.ndarray) -> Tensor:
    """An output of all steps, (S, ...)."""
    where = program.context.plan.slices[symbol]
    rows_of_output = outputs[:, where.offset : where.offset + where.size]
    return Tensor(np.ascontiguousarray(rows_of_output).view(symbol.dtype).reshape(len(outputs), *symbol.shape))
