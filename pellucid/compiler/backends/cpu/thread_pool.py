"""Thread pool: the worker threads of a process, which run native programs together, and their barrier (floor 4).

A program is native code with the signature `program(team, context, thread, threads, step)`, the last three i64. Each
thread of a run calls it with its number, 0..threads-1; thread 0 is the Python thread that called `run`. `team` is the memory
that these threads share. The results of a program must not depend on the number of threads: a run that finds the pool busy
uses its calling thread alone.

The workers live in native code (`serve`): they spin while work flows, yield when it pauses, and fall asleep on a
condition variable after a millisecond. A run is therefore one call from Python, without a lock or the GIL in the way of
waking a worker; and Ctrl-C, which Python delivers between its own instructions, finds a run either not begun or done.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from ....threads import compute_threads
from .costs import CACHE_LINE
from .llvm import Builder, Code, Function, Value, compile_module, i32, i64, ir, new_function, new_module, pointer, void
from .object_cache import object_code
from .target import Target, host

T = TypeVar("T")

# The signature of a program.
PROGRAM = (pointer, pointer, i64, i64, i64)

# The team's memory, in words of 8 bytes. Words written at different times are on different cache lines. The
# barrier's two words are written together: one line to fetch instead of two makes it twice as fast.
LINE = CACHE_LINE // 8  # words
ARRIVED, GENERATION, BUSY = 0, 1, 2 * LINE
HEAD = 4 * LINE
# Behind the head, a mailbox for each worker. A job fits in one line, so that a worker gets all of it at once.
POSTED, PARKED, SERVED, JOB, CONTEXT, THREADS, FIRST, COUNT = range(8)
MUTEX, CONDITION = 2 * LINE, 4 * LINE  # 128 bytes each: more than any POSIX system's take
MAILBOX = 6 * LINE
MAX_THREADS = 256

IDLE_NANOSECONDS = 1_000_000  # of waiting for work, before a worker falls asleep
FLUSH_DENORMALS = 0x8040  # in MXCSR: denormal results and arguments become zero


# ---- waiting, in native code ----


def _word(builder: Builder, base: Value, offset: int) -> Value:
    return builder.at(base, offset, np.int64)


def _read(builder: Builder, address: Value, ordering: str = "acquire") -> Value:
    return builder.load_atomic(address, ordering, 8, typ=i64)


def _write(builder: Builder, value: Value, address: Value, ordering: str = "release") -> None:
    # Builder.store_atomic asks for a typed pointer, which llvmlite itself gives up.
    builder._insert(ir.instructions.StoreAtomicInstr(builder.block, value, address, ordering, 8))


def _until(builder: Builder, done: Callable[[Value], Value], otherwise: Callable[[Value], None]) -> None:
    """while not done(round): otherwise(round); the rounds count from 0."""
    before, function = builder.block, builder.function
    head, body, after = (function.append_basic_block(name) for name in ("wait", "not_yet", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    round = builder.phi(i64)
    round.add_incoming(builder.index(0), before)
    builder.cbranch(done(round), after, body)
    builder.position_at_end(body)
    otherwise(round)
    round.add_incoming(builder.add(round, builder.index(1)), builder.block)
    builder.branch(head)
    builder.position_at_end(after)


def _pause(builder: Builder) -> None:
    """Tell the processor that this thread spins."""
    if builder.target.triple.startswith("x86_64"):
        builder.call(builder.declare("llvm.x86.sse2.pause", void, []), [])
    elif builder.target.triple.startswith(("aarch64", "arm64")):
        builder.call(builder.declare("llvm.aarch64.hint", void, [i32]), [i32(1)])


def _yield(builder: Builder) -> None:
    builder.call(builder.declare("sched_yield", i32, []), [])


def _rest(builder: Builder, round: Value) -> None:
    """Between two reads of a flag: pause, and after some rounds yield, as the awaited thread may need the processor."""
    with builder.if_else(builder.icmp_signed("<", round, builder.index(builder.target.costs.pauses))) as (early, late):
        with early:
            _pause(builder)
        with late:
            _yield(builder)


def _define_barrier(module: ir.Module, target: Target) -> Function:
    """barrier(team, threads): the last to arrive opens a new generation; the others wait for it."""
    function, builder = new_function(module, "barrier", [pointer, i64], target)
    function.linkage = "internal"
    function.attributes.add("noinline")
    team, threads = function.args
    with builder.when(builder.icmp_signed("<=", threads, builder.index(1))):
        builder.ret_void()
    arrived, generation = _word(builder, team, ARRIVED), _word(builder, team, GENERATION)
    mine = _read(builder, generation)  # before arriving: afterwards it may have moved on
    others = builder.atomic_rmw("add", arrived, builder.index(1), "acq_rel")
    last = builder.icmp_signed("==", others, builder.sub(threads, builder.index(1)))
    with builder.when(last):
        _write(builder, builder.index(0), arrived, "monotonic")
        _write(builder, builder.add(mine, builder.index(1)), generation)
        builder.ret_void()
    _until(
        builder,
        lambda _: builder.icmp_signed("!=", _read(builder, generation), mine),
        lambda round: _rest(builder, round),
    )
    builder.ret_void()
    return function


def emit_barrier(builder: Builder, team: Value, threads: Value) -> None:
    """Emit a barrier for all threads of a run. team, threads: the arguments of the program."""
    barrier = builder.module.globals.get("barrier") or _define_barrier(builder.module, builder.target)
    builder.call(barrier, [team, threads])


# ---- the native module: share, launch, serve, stop ----


def _define_share(module: ir.Module, target: Target) -> Function:
    """share(team, program, context, thread, threads, first, count): one thread's part of a run, and a barrier."""
    function, builder = new_function(module, "share", [pointer, i64, pointer, i64, i64, i64, i64], target)
    function.linkage = "internal"
    team, address, context, thread, threads, first, count = function.args
    # llvmlite calls through an address only where its type says what is called.
    program = builder.inttoptr(address, ir.PointerType(ir.FunctionType(void, PROGRAM)))
    x86 = target.triple.startswith("x86_64")
    if x86:
        saved, flushing = builder.alloca(i32), builder.alloca(i32)
        store_control = builder.declare("llvm.x86.sse.stmxcsr", void, [pointer])
        load_control = builder.declare("llvm.x86.sse.ldmxcsr", void, [pointer])
        builder.call(store_control, [saved])
        builder.store(builder.or_(builder.load(saved, typ=i32), i32(FLUSH_DENORMALS)), flushing)
        builder.call(load_control, [flushing])

    def step(number: Value) -> None:
        builder.call(program, [team, context, thread, threads, number])

    builder.loop(first, builder.add(first, count), 1, step)
    emit_barrier(builder, team, threads)
    if x86:
        builder.call(load_control, [saved])
    builder.ret_void()
    return function


def _posix(builder: Builder, name: str, *arguments: Value) -> None:
    """Call a C function and ignore its result."""
    builder.call(builder.declare(name, i32, [argument.type for argument in arguments]), list(arguments))


def _mailbox(builder: Builder, team: Value, thread: Value) -> Value:
    """Workers count from 1."""
    return builder.at(
        team, builder.add(builder.mul(thread, builder.index(MAILBOX)), builder.index(HEAD - MAILBOX)), np.int64
    )


def _define_post(module: ir.Module, target: Target) -> Function:
    """post(mailbox, program, context, threads, first, count): give a worker its job, and wake it if it sleeps."""
    function, builder = new_function(module, "post", [pointer, i64, pointer, i64, i64, i64], target)
    function.linkage = "internal"
    mailbox, *job = function.args
    for offset, value in zip((JOB, CONTEXT, THREADS, FIRST, COUNT), job, strict=True):
        builder.store(value, _word(builder, mailbox, offset), align=8)
    # Each side first writes its own flag, then reads the other's, in the one order that seq_cst gives to all: either
    # the worker sees the job before it sleeps, or we see it parked.
    builder.atomic_rmw("xchg", _word(builder, mailbox, POSTED), builder.index(1), "seq_cst")
    parked = _read(builder, _word(builder, mailbox, PARKED), "seq_cst")
    with builder.when(builder.icmp_signed("!=", parked, builder.index(0))):
        # The worker holds the mutex from its last look at POSTED until it sleeps. Having had it, we can wake it.
        _posix(builder, "pthread_mutex_lock", _word(builder, mailbox, MUTEX))
        _posix(builder, "pthread_mutex_unlock", _word(builder, mailbox, MUTEX))
        _posix(builder, "pthread_cond_signal", _word(builder, mailbox, CONDITION))
    builder.ret_void()
    return function


def _define_launch(module: ir.Module, target: Target, share: Function, post: Function) -> None:
    """launch(team, program, context, threads, first, count): a whole run; alone where the pool is busy."""
    function, builder = new_function(module, "launch", [pointer, i64, pointer, i64, i64, i64], target)
    team, program, context, threads, first, count = function.args
    head = ir.ArrayType(i64, HEAD)
    own = builder.alloca(head)
    own.align = CACHE_LINE
    with builder.when(builder.icmp_signed(">", threads, builder.index(1))):
        taken = builder.atomic_rmw("xchg", _word(builder, team, BUSY), builder.index(1), "acquire")
        with builder.when(builder.icmp_signed("==", taken, builder.index(0))):
            _post_all(builder, post, team, threads, program, context, threads, first, count)
            builder.call(share, [team, program, context, builder.index(0), threads, first, count])
            _write(builder, builder.index(0), _word(builder, team, BUSY))
            builder.ret_void()
    builder.store(ir.Constant(head, None), own, align=CACHE_LINE)
    builder.call(share, [own, program, context, builder.index(0), builder.index(1), first, count])
    builder.ret_void()


def _post_all(builder: Builder, post: Function, team: Value, threads: Value, *job: Value) -> None:
    def body(thread: Value) -> None:
        builder.call(post, [_mailbox(builder, team, thread), *job])

    builder.loop(1, threads, 1, body)


def _define_await_job(module: ir.Module, target: Target) -> Function:
    """await_job(mailbox): returns when a job is there. Spins, then yields, then sleeps."""
    function, builder = new_function(module, "await_job", [pointer], target)
    function.linkage = "internal"
    (mailbox,) = function.args
    flag, parked, mutex, condition = (_word(builder, mailbox, n) for n in (POSTED, PARKED, MUTEX, CONDITION))
    instant = builder.alloca(ir.ArrayType(i64, 2))

    def posted(ordering: str = "acquire") -> Value:
        return builder.icmp_signed("!=", _read(builder, flag, ordering), builder.index(0))

    def now() -> Value:
        """Nanoseconds on a clock that only goes forward."""
        _posix(builder, "clock_gettime", i32(time.CLOCK_MONOTONIC), instant)
        seconds, rest = (builder.load(_word(builder, instant, n), typ=i64) for n in (0, 1))
        return builder.add(builder.mul(seconds, builder.index(10**9)), rest)

    def spun(round: Value) -> Value:
        return builder.or_(posted(), builder.icmp_signed("==", round, builder.index(builder.target.costs.pauses)))

    _until(builder, spun, lambda _: _pause(builder))
    with builder.when(posted()):
        builder.ret_void()
    deadline = builder.add(now(), builder.index(IDLE_NANOSECONDS))

    def idled(_: Value) -> Value:
        return builder.or_(posted(), builder.icmp_signed(">", now(), deadline))

    _until(builder, idled, lambda _: _yield(builder))
    with builder.when(posted()):
        builder.ret_void()
    _posix(builder, "pthread_mutex_lock", mutex)
    builder.atomic_rmw("xchg", parked, builder.index(1), "seq_cst")  # the other half of what `post` tells
    _until(builder, lambda _: posted("seq_cst"), lambda _: _posix(builder, "pthread_cond_wait", condition, mutex))
    _write(builder, builder.index(0), parked)
    _posix(builder, "pthread_mutex_unlock", mutex)
    builder.ret_void()
    return function


def _define_serve(module: ir.Module, target: Target, share: Function, await_job: Function) -> None:
    """serve(team, thread): the loop of a worker. A job without a program ends it."""
    function, builder = new_function(module, "serve", [pointer, i64], target)
    team, thread = function.args
    mailbox = _mailbox(builder, team, thread)
    served = builder.atomic_rmw("xchg", _word(builder, mailbox, SERVED), builder.index(1), "acq_rel")
    with builder.when(builder.icmp_signed("!=", served, builder.index(0))):
        builder.ret_void()  # see Pool.grow
    _posix(builder, "pthread_mutex_init", _word(builder, mailbox, MUTEX), pointer(None))
    _posix(builder, "pthread_cond_init", _word(builder, mailbox, CONDITION), pointer(None))

    def job(_: Value) -> Value:
        """Run the next job. Gives whether it was the last."""
        builder.call(await_job, [mailbox])
        # Nothing is posted again before the barrier that ends this job.
        _write(builder, builder.index(0), _word(builder, mailbox, POSTED), "monotonic")
        program = builder.load(_word(builder, mailbox, JOB), typ=i64)
        return builder.icmp_signed("==", program, builder.index(0))

    def work(_: Value) -> None:
        program, threads, first, count = (
            builder.load(_word(builder, mailbox, n), typ=i64) for n in (JOB, THREADS, FIRST, COUNT)
        )
        context = builder.load(_word(builder, mailbox, CONTEXT), typ=pointer)
        builder.call(share, [team, program, context, thread, threads, first, count])

    _until(builder, job, work)
    builder.ret_void()


def _define_stop(module: ir.Module, target: Target, post: Function) -> None:
    """stop(team, threads): end the workers; 0 where the pool is busy. It stays busy: later runs go alone."""
    function, builder = new_function(module, "stop", [pointer, i64], target, i64)
    team, threads = function.args
    taken = builder.atomic_rmw("xchg", _word(builder, team, BUSY), builder.index(1), "acquire")
    with builder.when(builder.icmp_signed("!=", taken, builder.index(0))):
        builder.ret(builder.index(0))
    nothing = builder.index(0)
    _post_all(builder, post, team, threads, nothing, pointer(None), threads, nothing, nothing)
    builder.ret(builder.index(1))


def native_module(target: Target | None = None) -> ir.Module:
    """The native functions of the pool as a module; `str` gives its text."""
    target = target or host()
    module = new_module("runtime", target)
    share, post = _define_share(module, target), _define_post(module, target)
    _define_launch(module, target, share, post)
    _define_serve(module, target, share, _define_await_job(module, target))
    _define_stop(module, target, post)
    return module


def native_object() -> bytes:
    """The same as object code for this machine."""
    return compile_module(native_module(), host())


class Native(NamedTuple):
    """The native functions, callable from Python. A call releases the GIL."""

    launch: Callable[[int, int, int, int, int, int], None]
    serve: Callable[[int, int], None]
    stop: Callable[[int, int], int]
    code: Code  # keeps the code in memory

    @classmethod
    def load(cls, object_code: bytes) -> Native:
        # c_void_p stands for whole numbers, too: ctypes hands one over 60 ns sooner than a c_int64.
        code, word = Code(object_code, ["launch", "serve", "stop"]), ctypes.c_void_p
        launch = ctypes.CFUNCTYPE(None, *[word] * 6)(code.address("launch"))
        serve = ctypes.CFUNCTYPE(None, word, word)(code.address("serve"))
        return cls(launch, serve, ctypes.CFUNCTYPE(ctypes.c_int64, word, word)(code.address("stop")), code)


@functools.cache
def native() -> Native:
    """The native functions, compiled at the first run of a process. A forked child inherits them."""
    return shielded_from_interrupt(lambda: Native.load(object_code("runtime", native_object)))


def shielded_from_interrupt(work: Callable[[], T]) -> T:
    """The result of `work`, run in another thread, where no KeyboardInterrupt is raised.

    Between two lines of llvmlite's an object may have two owners; an interrupt there frees it twice. Here only the wait
    is interrupted; the work goes on to its end, and Python's exit waits for it.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def body() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=body, name="pellucid-compile")
    try:
        worker.start()
    except RuntimeError:  # no more threads: see Pool.grow
        return work()
    worker.join()
    if errors:
        raise errors[0]
    return results[0]


# ---- the pool ----


class Pool:
    """Worker threads, started when they are needed, and the memory of their team."""

    def __init__(self) -> None:
        self.ready = 0  # threads available without growing, the caller's included
        self.launch: Callable[[int, int, int, int, int, int], None]  # set by the first `grow`
        self.most = MAX_THREADS
        self._growing = threading.Lock()
        self._workers: list[threading.Thread] = []
        self._memory = np.zeros(HEAD + MAX_THREADS * MAILBOX + LINE, np.int64)  # pages are taken as they are touched
        self.team = -(-self._memory.ctypes.data // CACHE_LINE) * CACHE_LINE

    def grow(self, threads: int) -> int:
        """Start workers up to `threads` threads. Returns how many there are to use."""
        with self._growing:
            if not self.ready:
                self._native = native()
                self.launch = self._native.launch
                self.ready = 1
            while self.ready < min(threads, self.most):
                worker = threading.Thread(
                    target=self._serve, args=(self.ready,), daemon=True, name=f"pellucid-{self.ready}"
                )
                # Ctrl-C may strike on any line here. Then the next to come starts a worker for the same mailbox, and
                # of the two the later finds it served and ends.
                self._workers.append(worker)
                try:
                    worker.start()
                except RuntimeError:  # the system gives no more threads, or Python is on its way out
                    self.most = self.ready
                else:
                    self.ready += 1
            return max(1, min(threads, self.ready))

    def _serve(self, thread: int) -> None:
        """The thread function of a worker. A method, so that it keeps memory and code alive."""
        self._native.serve(self.team, thread)

    def close(self, patience: float = 2.0) -> None:
        """End the workers. Later runs use one thread. Waits at most `patience` seconds."""
        with self._growing:
            self.most = 1
            if self.ready > 1:
                workers, self.ready = self.ready, 1
                deadline = time.monotonic() + patience
                while not self._native.stop(self.team, workers) and time.monotonic() < deadline:
                    time.sleep(0.001)
                for worker in self._workers:
                    if worker.is_alive():
                        worker.join(max(0.0, deadline - time.monotonic()))


_pool = Pool()


def run(program: int, context: int, threads: int | None = None, first: int = 0, count: int = 1) -> None:
    """Call the program at address `program` for the steps first..first+count-1 on `threads` threads, to its end.

    context: the address it is given. threads: as many as `compute_threads()` says where it is left out; fewer where the
    system gives no more, one where another Python thread has the pool.
    """
    pool = _pool
    if threads is None:
        threads = compute_threads()
    if not 0 < threads <= pool.ready:
        threads = pool.grow(threads)
    pool.launch(pool.team, program, context, threads, first, count)


def _begin_anew() -> None:
    """In a forked child, start with a new pool: the workers of the parent do not exist there."""
    global _pool
    _pool = Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


@atexit.register
def _close() -> None:
    """End the workers before their code is freed. A program run by a later atexit handler uses one thread."""
    _pool.close()


class ThreadBackoff:
    """Back-off: run on one thread for a while where other processes use the processors and barriers wait for a time slice.

    Each program has one. threads: the argument for `run`; None for all threads. Results do not depend on it.
    """

    SLOW = 2.5  # times the fastest step: beyond it, waiting costs more than a second thread gains
    LONG = 5e-3  # seconds: a step as long as this waits little for its barriers
    SHORTEST, LONGEST = 0.05, 1.0  # seconds on one thread before the next trial; doubled after each failure

    def __init__(self) -> None:
        self.threads: int | None = None
        self.fastest = self.recent = float("inf")
        self.pause = self.SHORTEST
        self.until = 0.0

    def note(self, began: float, ended: float, steps: int = 1) -> None:
        """A run of so many steps took from `began` to `ended`, seconds of `time.perf_counter`."""
        if self.threads is not None:
            if ended > self.until:
                self.threads, self.recent = None, self.fastest
            return
        passed = (ended - began) / steps
        if passed < self.fastest:
            self.fastest = self.recent = passed
        self.recent += (passed - self.recent) / 8
        if self.recent < self.SLOW * self.fastest:
            self.pause = max(self.SHORTEST, self.pause * 0.99)
        elif self.fastest < self.LONG:
            self.threads, self.until = 1, ended + self.pause
            self.pause = min(self.LONGEST, 2 * self.pause)
