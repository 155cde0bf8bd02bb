"""Many steps of a program in one call: native code runs them without Python in between (floor 4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
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

CHUNK = 0.05  # seconds of native work between checks for signals


def run_many(
    program: Program, held: HeldLocks, tensors: Sequence[Tensor], indices: np.ndarray,
    per_step: Mapping[Tensor, np.ndarray], progress: Callable[[int], object] | None,
) -> Any:  # fmt: skip
    """One step for each row of `indices`, as `Program.run_steps` tells. held: holds the locks of the program."""
    context, state = program.context, program.state
    outputs = aligned((len(indices), max(context.plan.output_bytes, 1)), np.uint8)
    state.settle(held)
    program.prepare(tensors)
    moving = _moving_inputs(program, len(tensors) - 1, indices, per_step)
    moving[OUTPUTS] = outputs
    before = context.table.copy()
    done, count = 0, max(1, int(CHUNK / program.backoff.fastest))
    try:
        while done < len(indices):
            state.settle(held)
            if state.refreshes_copies or per_step:  # copies of weights, which `progress` or the next step may change
                context.stale_copies()
            for index, values in moving.items():
                context.table[index], context.table[context.stride_offset + index] = (
                    values.ctypes.data,
                    values.strides[0],
                )
            count = min(count, 1 if per_step and context.plan.keeps_copies else len(indices) - done)
            began = time.perf_counter()
            thread_pool.run(program.entry_points[0], context.address, program.backoff.threads, done, count)
            ended = time.perf_counter()
            program.backoff.note(began, ended, count)
            context.workspace.raise_flagged()
            done += count
            count = max(1, int(count * min(8.0, CHUNK / max(ended - began, 1e-6))))
            if progress is not None:
                progress(done)
    finally:
        context.table[context.stride_offset :] = 0
        for index in moving:
            context.table[index] = before[index]
    program.inputs.store_written(program.bindings, ())
    return program.unflatten([_stacked(program, symbol, outputs) for symbol in program.graph.outputs], ())


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
