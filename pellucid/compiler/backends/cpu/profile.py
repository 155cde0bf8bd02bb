"""Profile: the kernels of a compiled step with their operations, layers and lines, cost and time (floor 4).

The times are measured here, by running the program with the processor's clock read around each kernel, on the arguments of
the last call; every Tensor has its old numbers again afterwards. Floating-point operations are additions, multiplications
and function values; the share is of the machine's own peak, which is measured as well.
"""

from __future__ import annotations

import ctypes
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ....threads import compute_threads
from . import thread_pool
from .kernel_cost import flops, is_single_threaded, traffic
from .kernel_ir import KernelSpec
from .llvm import Code, Value, compile_module, i64, ir, new_function, new_module, pointer
from .lower import emit_module
from .memory_plan import ARENA, Launch, iter_launches
from .program import Program
from .target import Target, host

ROUNDS = 20  # runs of a measurement, at least; the smallest time of each kernel counts
MIN_SECONDS = 0.15  # seconds: sooner, the system may still have two threads on one processor


@dataclass(frozen=True)
class KernelInfo:
    """One kernel. operations: each with the layer it belongs to and the line that asked for it. runs: how often it runs in
    a step, which is more than once inside a loop; flops, bytes (read and written, each number once) and microseconds are of
    all runs together. offset: of its first result in the arena, None where it writes into a Tensor. shared: whether threads
    share it. microseconds, share: measured, on all threads; None for an interpreted one."""

    name: str
    kind: str
    shape: tuple[int, ...]
    operations: tuple[tuple[str, str], ...]
    flops: int
    bytes: int
    offset: int | None
    shared: bool
    runs: int
    microseconds: float | None
    share: float | None
    text: Callable[[], str] = field(repr=False, compare=False)

    def llvm(self) -> str:
        """The LLVM text of its inner function."""
        return self.text()


class Kernels(list[KernelInfo]):
    """The kernels of a program, in the order they run. `print` shows a table."""

    def __str__(self) -> str:
        head = (
            f"{'kernel':<9} {'runs over':<18} {'us':>7} {'GFLOP/s':>8} {'peak':>5} {'KB':>8}  operations, layer, line"
        )
        return "\n".join([head, *(_row(kernel) for kernel in self)])


def _row(k: KernelInfo) -> str:
    spent = f"{k.microseconds:.2f}" if k.microseconds is not None else "-"
    rate = f"{k.flops / k.microseconds / 1e3:.1f}" if k.microseconds else "-"
    share = f"{k.share:.0%}" if k.share is not None else "-"
    names = " ".join(name for name, _ in k.operations)
    origins = list(dict.fromkeys(origin for _, origin in k.operations))
    where = origins[0] + (f" and {len(origins) - 1} more" if len(origins) > 1 else "")
    shape = (f"{k.runs} times " if k.runs > 1 else "") + ("x".join(map(str, k.shape)) or "1")
    return f"{k.name:<9} {shape:<18} {spent:>7} {rate:>8} {share:>5} {k.bytes / 1024:>8.1f}  {names}  [{where}]"


def kernels(program: Program, measure: bool = True) -> Kernels:
    """The listing of `program`; measure=False leaves the times out and runs nothing."""
    launches = list(iter_launches(program.plan.launches))
    times = profile(program) if measure and program.is_whole else None
    peak = machine_peak() if times is not None else 0.0
    functions: dict[KernelSpec, int] = {}
    result = Kernels()
    for number, (launch, runs) in enumerate(launches):
        spent = None if times is None else float(times[number])
        result.append(_info(program, launch, runs, functions, spent, peak))
    return result


def _info(
    program: Program, launch: Launch, runs: int, functions: dict[KernelSpec, int], spent: float | None, peak: float
) -> KernelInfo:
    kernel, spec = launch.kernel, launch.spec
    operations = tuple((s.op_name, str(s.origin)) for s in kernel.symbols)
    slices = [program.plan.slices[s] for s in launch.writes if s in program.plan.slices]  # not those inside a loop
    offset = next((p.offset for p in slices if p.region == ARENA), None)
    if spec is None:
        return KernelInfo("python", "interpreted", kernel.domain, operations, 0, 0, offset, False, runs, None, None,
                          lambda: "no native code: this operation runs in the interpreter")  # fmt: skip
    name = f"kernel{functions.setdefault(spec, len(functions))}"
    share = runs * flops(spec) / (spent * 1e3) / peak if spent and peak else None
    shared = not is_single_threaded(spec, program.executable.lowered.target.costs)
    text = lambda: _function_text(str(program.executable.lowered.module()), name)
    return KernelInfo(name, kernel.single_op.name if kernel.single_op else kernel.kind, kernel.domain, operations, runs * flops(spec),
                      runs * traffic(spec), offset, shared, runs, spent, share, text)  # fmt: skip


def _function_text(module: str, name: str) -> str:
    start = module.index(f'@"{name}"')
    start = module.rindex("define", 0, start)
    return module[start : module.index("\n}", start) + 2]


def profile(program: Program) -> np.ndarray:
    """Microseconds of each kernel: the smallest of many runs."""
    launches = list(iter_launches(program.plan.launches))
    code = thread_pool.shielded_from_interrupt(
        lambda: Code(compile_module(emit_module(program.executable.lowered, timed=True), host()), ["program0"])
    )
    entry_point = code.address("program0")
    table = np.zeros(len(launches), np.int64)
    saved = [(storage.memory, storage.memory.copy()) for storage in (t.storage for t in program.state.written)]
    program.context.table[-1] = table.ctypes.data
    best: np.ndarray | None = None
    spent = ticks = 0.0
    try:
        for _ in _measurements():
            table[:] = 0
            began = time.perf_counter()
            thread_pool.run(entry_point, program.context.address)
            spent += time.perf_counter() - began
            ticks += float(table.sum())
            best = table.copy() if best is None else np.minimum(best, table)
    finally:
        program.context.table[-1] = 0
        for memory, before in saved:
            np.copyto(memory, before)
        program.context.workspace.flag.value = 0
    assert best is not None
    return best * (spent * 1e6 / max(ticks, 1.0))


def _measurements() -> Iterator[int]:
    """Numbers of rounds: at least ROUNDS, for about MIN_SECONDS."""
    began, number = time.perf_counter(), 0
    while number < ROUNDS or time.perf_counter() - began < MIN_SECONDS:
        yield number
        number += 1


# ---- the machine's peak --------------------------------------------------------------------------------------------------


@functools.cache
def machine_peak() -> float:
    """GFLOP/s that multiply-adds in registers reach on all threads together."""
    target, turns = host(), 20_000
    chains = target.costs.fma_chains
    code = thread_pool.shielded_from_interrupt(
        lambda: Code(compile_module(_peak_module(target, chains, turns), target), ["peak"])
    )
    word = aligned_word()
    best = 0.0
    for _ in _measurements():
        began = time.perf_counter()
        thread_pool.run(code.address("peak"), ctypes.addressof(word))
        passed = time.perf_counter() - began
        best = max(best, 2.0 * chains * turns * target.lanes * compute_threads() / passed / 1e9)
    return best


def aligned_word() -> ctypes.Array[ctypes.c_float]:
    return (ctypes.c_float * 64)()


def _peak_module(target: Target, chains: int, turns: int) -> ir.Module:
    module = new_module("peak", target)
    _, builder = new_function(module, "peak", [pointer, pointer, i64, i64, i64], target)
    out = builder.function.args[1]
    factor = builder.load_vector(out)  # zeros, but LLVM does not know that

    def turn(_: Value, *sums: Value) -> list[Value]:
        return [builder.multiply_add(x, factor, factor) for x in sums]

    sums = builder.loop(0, turns, 1, turn, [builder.fadd(factor, builder.constant(float(i))) for i in range(chains)])
    total = sums[0]
    for x in sums[1:]:
        total = builder.fadd(total, x)
    builder.store_vector(total, out)
    builder.ret_void()
    return module
