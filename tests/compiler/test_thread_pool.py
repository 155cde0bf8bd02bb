"""The pool of native workers: every thread does its part, one run at a time, through forks, signals and exits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pellucid.compiler.backends.cpu import thread_pool
from pellucid.compiler.backends.cpu.llvm import Code, compile_module, f32, i64, new_function, new_module
from pellucid.compiler.backends.cpu.target import TARGETS, host
from pellucid.compiler.backends.cpu.thread_pool import PROGRAM, emit_barrier, run
from pellucid.threads import compute_threads

ROUNDS = 20_000
MOST = 8


def summing_program():
    """slots[8 thread] += (thread + 1)(step + 1); thread 0 adds all slots, and the count of threads, to two sums."""
    module = new_module("summing", host())
    function, builder = new_function(module, "summing", PROGRAM, host())
    team, context, thread, threads, step = function.args
    slot = lambda number: builder.at(context, builder.mul(number, builder.index(8)), np.int64)
    add = lambda address, value: builder.store(builder.add(builder.load(address, typ=i64), value), address)
    one = builder.index(1)
    add(slot(thread), builder.mul(builder.add(thread, one), builder.add(step, one)))
    emit_barrier(builder, team, threads)
    with builder.when(builder.icmp_signed("==", thread, builder.index(0))):
        (total,) = builder.loop(
            0, threads, 1, lambda i, total: builder.add(total, builder.load(slot(i), typ=i64)), [builder.index(0)]
        )
        add(builder.at(context, 8 * MOST, np.int64), total)
        add(builder.at(context, 8 * MOST + 1, np.int64), threads)
    emit_barrier(builder, team, threads)
    builder.ret_void()
    return Code(compile_module(module, host()), ["summing"])


CODE = summing_program()
SUMMING = CODE.address("summing")


class Sums:
    """The program's memory, and what it must come to."""

    def __init__(self):
        self.memory = np.zeros(8 * MOST + 8, np.int64)
        self.address = self.memory.ctypes.data

    @property
    def slots(self):
        return self.memory[: 8 * MOST : 8].tolist()

    @property
    def total(self):
        return int(self.memory[8 * MOST])

    @property
    def threads(self):
        """The threads of all steps together."""
        return int(self.memory[8 * MOST + 1])


def triangle(n):
    return n * (n + 1) // 2


def word(offset):
    """A word of the pool's team memory."""
    pool = thread_pool._pool
    return int(pool._memory[(pool.team - pool._memory.ctypes.data) // 8 + offset])


def script(text, *, first="", timeout=30.0, expect=0, environment=None):
    """Run a script that has this file's names in another Python; its output. first: what stands above the import."""
    head = f"{first}\nimport sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_thread_pool import *\n"
    done = subprocess.run(
        [sys.executable, "-c", head + text],
        capture_output=True, text=True, timeout=timeout, env={**os.environ, **(environment or {})},
    )  # fmt: skip
    assert done.returncode == expect, (done.returncode, done.stdout, done.stderr)
    return done.stdout


# ---- running ----


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_every_thread_does_its_part_in_every_run(threads):
    sums = Sums()
    rounds = ROUNDS if threads <= compute_threads() else ROUNDS // 20  # more threads than processors wait for slices
    for _ in range(rounds):
        run(SUMMING, sums.address, threads)
    assert sums.slots == [rounds * (t + 1) if t < threads else 0 for t in range(MOST)]
    assert sums.total == triangle(threads) * triangle(rounds)
    assert sums.threads == threads * rounds


def test_thread_counts_may_change_from_run_to_run():
    sums = Sums()
    counts = [1, 4, 2, 3, 2, 1, 4, 3] * 25
    for threads in counts:
        run(SUMMING, sums.address, threads)
    assert sums.slots[:4] == [sum(n > t for n in counts) * (t + 1) for t in range(4)]


@pytest.mark.parametrize("threads", [1, 2])
def test_steps_count_from_first(threads):
    sums = Sums()
    run(SUMMING, sums.address, threads, first=10, count=1000)
    steps = sum(range(11, 1011))
    assert sums.slots[:threads] == [steps * (t + 1) for t in range(threads)]
    assert sums.threads == 1000 * threads
    run(SUMMING, sums.address, threads, first=5, count=0)
    assert sums.threads == 1000 * threads


def test_threads_left_out_are_those_chosen():
    sums = Sums()
    run(SUMMING, sums.address)
    assert sums.threads == min(compute_threads(), thread_pool.MAX_THREADS)


def test_more_threads_than_the_pool_has_room_for_are_fewer():
    pool = thread_pool.Pool()
    pool.most = 2
    assert [pool.grow(n) for n in (0, 1, 2, 3)] == [1, 1, 2, 2]
    pool.close()
    assert pool.grow(2) == 1


def test_where_the_system_gives_no_thread_a_run_goes_on_without(monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    pool = thread_pool.Pool()
    monkeypatch.setattr(threading.Thread, "start", start)
    assert pool.grow(3) == 1
    pool.close()


def test_two_python_threads_at_once():
    """One has the pool, the other goes alone; neither disturbs the other."""
    both = [Sums(), Sums()]

    def work(sums):
        for _ in range(5000):
            run(SUMMING, sums.address, 2)

    workers = [threading.Thread(target=work, args=(sums,)) for sums in both]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
        assert not worker.is_alive()
    for sums in both:
        assert sums.slots[0] == 5000
        assert sums.slots[1] == 2 * (sums.threads - 5000)  # each run had one thread or two
    assert word(thread_pool.BUSY) == 0


def test_an_interrupted_growth_leaves_no_two_workers_for_one_mailbox():
    pool = thread_pool.Pool()
    assert pool.grow(2) == 2
    pool.ready = 1  # as after Ctrl-C between the start of the worker and its counting
    assert pool.grow(2) == 2
    sums = Sums()
    for _ in range(100):
        pool.launch(pool.team, SUMMING, sums.address, 2, 0, 1)
    assert sums.slots[:2] == [100, 200]
    pool.close()
    assert not any(worker.is_alive() for worker in pool._workers)


# ---- numbers ----


def denormal_program():
    """slots[thread] = 2^-100 * 2^-40, which float32 holds only as a denormal."""
    module = new_module("denormal", host())
    function, builder = new_function(module, "denormal", PROGRAM, host())
    _, context, thread, _, _ = function.args
    source = builder.load(builder.at(context, 8), typ=f32)
    product = builder.fmul(source, builder.load(builder.at(context, 9), typ=f32))
    builder.store(product, builder.at(context, thread))
    builder.ret_void()
    return Code(compile_module(module, host()), ["denormal"])


@pytest.mark.skipif(not host().triple.startswith("x86_64"), reason="other machines keep their way with denormals")
def test_denormals_are_flushed_on_every_thread_and_kept_outside():
    code = denormal_program()
    memory = np.full(16, 7, np.float32)
    memory[8:10] = 2.0**-100, 2.0**-40
    run(code.address("denormal"), memory.ctypes.data, 2)
    assert memory[:3].tolist() == [0, 0, 7]
    assert memory[8] * memory[9] == 2.0**-140


@pytest.mark.parametrize("name", ["avx2", "neon", "baseline"])
def test_compiles_for_other_machines(name):
    text = compile_module(thread_pool.native_module(TARGETS[name]), TARGETS[name], assembly=True)
    assert all(word in text for word in ("launch", "serve", "stop", "sched_yield"))


def test_object_code_is_the_same_each_time():
    """So that it may be kept."""
    assert thread_pool.native_object() == thread_pool.native_object()


# ---- sleeping, and being woken ----


def test_workers_sleep_when_idle():
    run(SUMMING, Sums().address, 2)
    until = time.monotonic() + 10
    while not word(thread_pool.HEAD + thread_pool.PARKED):
        assert time.monotonic() < until
        time.sleep(0.01)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


def test_no_wake_up_is_lost():
    """Pauses about as long as a worker's patience, so that jobs come just as it falls asleep."""
    sums = Sums()
    for i in range(300):
        until = time.perf_counter() + 0.0008 + 0.000002 * i
        while time.perf_counter() < until:
            pass
        run(SUMMING, sums.address, 2)
    assert sums.slots[:2] == [300, 600]


def test_busy_neighbours_slow_it_down_but_do_not_stop_it():
    neighbours = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        sums = Sums()
        for _ in range(100):
            run(SUMMING, sums.address, 2)
        assert sums.slots[:2] == [100, 200]
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


# ---- forks ----

FORKS = """
import warnings; warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 on: fork beside threads
import multiprocessing

def again():
    sums = Sums()
    for _ in range(200):
        run(SUMMING, sums.address, 2)
    assert sums.slots[:2] == [200, 400] and sums.threads == 400

again()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_a_pool_of_its_own():
    script(
        FORKS
        + """
child = os.fork()
again()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forking_while_another_thread_runs():
    script(
        FORKS
        + """
over = threading.Event()

def work():
    sums = Sums()
    while not over.is_set():
        run(SUMMING, sums.address, 2, count=50)

worker = threading.Thread(target=work)
worker.start()
for _ in range(5):
    children = [multiprocessing.get_context("fork").Process(target=again) for _ in range(2)]
    for child in children: child.start()
    for child in children:
        child.join(20)
        assert child.exitcode == 0, child.exitcode
over.set()
worker.join()
"""
    )


# ---- the end ----


@pytest.mark.parametrize("before", ["", "time.sleep(0.1)"], ids=["spinning", "asleep"])
def test_exits_cleanly(before):
    assert script(f"run(SUMMING, Sums().address, 3); print('last'); {before}", timeout=15) == "last\n"


def test_runs_at_exit_and_beside_daemons():
    """Run by an exit function after the pool is closed, and by a daemon thread that never ends."""
    text = """
def last():
    sums = Sums()
    run(SUMMING, sums.address, 2)
    print(sums.threads, sums.slots[0])

def work():
    sums = Sums()
    while True:
        run(SUMMING, sums.address, 2)

threading.Thread(target=work, daemon=True).start()
time.sleep(0.05)
"""
    # Registered before the import, it is called after the pool's own.
    assert script(text, first="import atexit; atexit.register(lambda: last())", timeout=20) == "1 1\n"


def test_a_first_run_from_another_thread_and_a_thread_that_outlives_main():
    out = script(
        """
def work():
    sums = Sums()
    time.sleep(0.1)
    for _ in range(100):
        run(SUMMING, sums.address, 2)
    print(sums.slots[:2])

threading.Thread(target=work).start()
"""
    )
    assert out == "[100, 200]\n"


STRIKES = """
signal.signal(signal.SIGINT, signal.default_int_handler)
armed = False  # a plain flag: the lock in an Event may itself be struck halfway

def strike(delays):
    global armed
    for delay in delays:
        while not armed:
            time.sleep(0.0001)
        armed = False
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGINT)

def struck(delays, work):  # do it again and again, and strike once for each delay
    global armed
    striker = threading.Thread(target=strike, args=(delays,), daemon=True)
    striker.start()
    for _ in delays:
        try:
            armed = True
            while True:
                work()
        except KeyboardInterrupt:
            pass
"""


def test_interrupted_by_the_keyboard_the_pool_goes_on():
    text = """
sums = Sums()
run(SUMMING, sums.address, 2)
struck([0.00001 * i for i in range(200)], lambda: run(SUMMING, sums.address, 2))
before = sums.slots[0]
assert before > 200
assert sums.slots[1] == 2 * before and sums.threads == 2 * before  # each run went to its end, and none alone
for _ in range(1000):
    run(SUMMING, sums.address, 2)
assert sums.slots[:2] == [before + 1000, 2 * before + 2000]
"""
    script(STRIKES + text)


def test_interrupted_by_the_keyboard_while_it_compiles_and_grows():
    text = """
sums = Sums()

def anew():
    thread_pool.native.cache_clear()
    thread_pool._pool = pool = thread_pool.Pool()
    run(SUMMING, sums.address, 2)
    pool.close()

struck([0.003 * i for i in range(25)], anew)
before = sums.slots[0]
run(SUMMING, sums.address, 2)
assert sums.slots[0] == before + 1
"""
    script(STRIKES + text)


def test_interrupted_by_the_keyboard_python_ends():
    text = """
os.kill(os.getpid(), signal.SIGINT)
while True:
    run(SUMMING, Sums().address, 2)
"""
    script(STRIKES + text, expect=-signal.SIGINT)


def test_errors_pass_through_an_undisturbed_thread():
    assert thread_pool.shielded_from_interrupt(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        thread_pool.shielded_from_interrupt(lambda: 1 // 0)


# ---- how many ----


@pytest.mark.parametrize(("wish", "count"), [("3", "3"), ("", None)])
def test_compute_threads(wish, count):
    out = script(
        "print(compute_threads(), len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count())",
        environment={"PELLUCID_NUM_THREADS": wish},
    )
    threads, processors = out.split()
    assert threads == (count or processors)


def test_an_engine_that_another_thread_has_just_freed_is_no_error(monkeypatch):
    class Emptied(list):
        """Of two threads that saw one engine left, the one that came second."""

        def __bool__(self):
            return True

    monkeypatch.setattr("pellucid.compiler.backends.cpu.llvm._gone", Emptied())
    assert summing_program().address("summing")
