"""Compiled steps and the machine: any number of threads, several at once, forks, and memory that does not grow."""

from __future__ import annotations

import gc
import hashlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_networks import train_step

import pellucid as P
from pellucid import nn, optim
from pellucid.core.state_version import state_version
from pellucid.errors import GradientError
from pellucid.nn.functional import cross_entropy
from pellucid.random import Generator, use_generator
from pellucid.tensor import Tensor


def network(width: int = 96) -> tuple[Any, Any]:
    P.manual_seed(1)
    model = nn.Sequential(nn.Linear(40, width), nn.LayerNorm(width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 10))
    return model, optim.AdamW(model.parameters(), lr=0.01)


def training(width: int = 96) -> tuple[Callable[..., Any], Any]:
    model, optimizer = network(width)

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return step, model


def data(rows: int = 200) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(0)
    return P.tensor(random.normal(size=(rows, 40)).astype(np.float32)), P.tensor(random.integers(0, 10, rows))


def digest(threads: int, steps: int = 6) -> str:
    """SHA-256 of the losses and the weights after some steps."""
    P.set_num_threads(threads)
    step, model = training()
    P.manual_seed(2)
    run = P.compile(step)
    losses = [run(*data()).detach().numpy() for _ in range(steps)]
    weights = [p.detach().numpy() for p in model.state_dict().values()]
    return hashlib.sha256(b"".join(a.tobytes() for a in [*losses, *weights])).hexdigest()


def test_the_same_bits_on_any_number_of_threads_and_in_every_run() -> None:
    before = P.get_num_threads()
    try:
        assert len({digest(threads) for threads in (1, 2, 4, 1, 2, 4, 3, 2, 2, 2)}) == 1
    finally:
        P.set_num_threads(before)


def in_threads(*jobs: Callable[[], Any]) -> list[Any]:
    """The results of all jobs, run at once; raises what one of them raised."""
    results: dict[int, Any] = {}

    def work(number: int, job: Callable[[], Any]) -> None:
        try:
            results[number] = job()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=work, args=pair, daemon=True) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a compiled step hangs"
    for result in results.values():
        if isinstance(result, BaseException):
            raise result
    return [results[i] for i in range(len(jobs))]


def losses_of(run: Callable[..., Any], steps: int = 20) -> list[float]:
    x, y = data()
    return [float(run(x, y)) for _ in range(steps)]


def simple(seed: int) -> Callable[..., Any]:
    """A step without chance, so that several may run side by side with known results."""
    P.manual_seed(seed)
    model = nn.Sequential(nn.Linear(40, 64), nn.Tanh(), nn.Linear(64, 10))
    return train_step(model, optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


def test_a_step_recorded_and_run_in_another_thread() -> None:
    truth = losses_of(simple(3))
    (found,) = in_threads(lambda: losses_of(P.compile(simple(3))))
    np.testing.assert_allclose(found, truth, rtol=1e-3)
    run = P.compile(simple(3))
    first = losses_of(run, 10)  # recorded here, and gone on with there
    (rest,) = in_threads(lambda: losses_of(run, 10))
    np.testing.assert_allclose(first + rest, truth, rtol=1e-3)


def test_two_programs_at_once_give_what_each_gives_alone() -> None:
    alone = [losses_of(P.compile(simple(seed))) for seed in (3, 4)]
    runs = [P.compile(simple(seed)) for seed in (3, 4)]
    together = in_threads(*[lambda run=run: losses_of(run) for run in runs])
    assert together == alone


def test_eager_work_beside_a_recording_is_left_alone() -> None:
    """Recording belongs to its thread: what another computes meanwhile are numbers."""
    started, done = threading.Event(), threading.Event()

    def slow(x: Tensor) -> Tensor:
        started.set()
        assert done.wait(60)
        return x * 2

    def eager() -> list[float]:
        assert started.wait(60)
        try:
            x = P.tensor([1.0, 2], requires_grad=True)
            (x * x).sum().backward()
            return x.grad.tolist()
        finally:
            done.set()

    compiled, numbers = in_threads(lambda: P.compile(slow)(P.ones(2)).tolist(), eager)
    assert (compiled, numbers) == ([2, 2], [2, 4])


def test_one_function_called_from_many_threads_writes_each_time_once() -> None:
    total = P.zeros(3)
    add = P.compile(lambda x: total.add_(x))
    add(P.zeros(3))
    in_threads(*[lambda: [add(P.ones(3)) for _ in range(50)]] * 4)
    assert total.tolist() == [200, 200, 200]


def test_two_functions_that_share_state_called_from_two_threads() -> None:
    """Calls that share state take turns: no addition is lost."""
    total = P.zeros(1000)
    functions = [P.compile(lambda x: total.add_(x).sum()), P.compile(lambda x: total.add_(x * 1).mean())]
    for f in functions:
        f(P.zeros(1000))
    in_threads(*[lambda f=f: [f(P.ones(1000)) for _ in range(300)] for f in functions])
    assert total.tolist() == [600] * 1000


def fit(seed: int, how: str, x: Tensor, y: Tensor) -> list[float]:
    """Losses of a training from its own stream, on data that others may use too."""
    with use_generator(Generator(seed)):
        model = nn.Sequential(nn.Linear(40, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 10))
        step = train_step(model, optim.Adam(model.parameters(), lr=0.01))
        run = {"eager": step, "argument": P.compile(step), "closure": lambda *_: closed()}[how]
        closed = P.compile(lambda: step(x, y))
        losses = [float(run(x, y)) for _ in range(6)]
        return [*losses, float(model.eval()(x).sum())]


def test_trainings_that_share_their_data_come_to_the_bits_of_each_alone(at_once: Any) -> None:
    """Recorded, compiled and eager ones at once: while one records a step, its data are there for the others."""
    x, y = data(64)
    jobs = [(seed, how) for seed in range(2) for how in ("eager", "argument", "closure")]
    alone = [fit(*job, x, y) for job in jobs]
    assert at_once(lambda i: fit(*jobs[i], x, y), threads=len(jobs)) == alone


def test_what_a_thread_writes_while_another_records_is_kept() -> None:
    shared, weight = P.zeros(3), nn.Parameter(P.ones(3))
    traced, written = threading.Event(), threading.Event()

    def step(x: Tensor) -> Tensor:
        y = x + shared * weight
        traced.set()
        assert written.wait(60)
        return y + shared * weight

    def write() -> list[float]:
        assert traced.wait(60)
        try:
            loss = (weight * weight).sum()  # on the tape
            seen = shared.tolist()
            shared.assign(P.full((3,), 2.0))
            with P.no_grad():
                weight.assign(P.full((3,), 5.0))
            with pytest.raises(GradientError, match="overwritten"):
                loss.backward()
            shared.add_(1)
            return [*seen, *shared.tolist(), *weight.tolist()]
        finally:
            written.set()

    compiled, found = in_threads(lambda: P.no_grad()(P.compile(step))(P.ones(3)).tolist(), write)
    assert found == [0.0] * 3 + [3.0] * 3 + [5.0] * 3
    assert shared.tolist() == [3.0] * 3 and weight.tolist() == [5.0] * 3
    assert compiled == [31.0] * 3  # the program runs after the recording
    assert type(shared) is Tensor and type(weight) is nn.Parameter


def test_a_thread_that_looks_at_weights_sees_whole_steps_and_hides_none(at_once: Any) -> None:
    """What it copied in the middle of a step stood in the place of what the step came to."""
    total = P.zeros(1_000_000)
    add = P.compile(lambda x: total.add_(x).sum())
    add(P.zeros(1))
    done = threading.Event()

    def work(i: int) -> None:
        if i:
            while not done.is_set():
                array = total.array
                assert array[0] == array[-1]
            return
        try:
            for step in range(1, 101):
                add(P.ones(1))
                assert total.array[0] == total.array[-1] == step
        finally:
            done.set()

    at_once(work, threads=2)


def test_programs_that_read_each_others_state_as_arguments_do_not_wait_for_ever(at_once: Any) -> None:
    totals = [P.zeros(1000), P.zeros(1000)]
    adds = [P.compile(lambda x, total=total: total.add_(x * 0 + 1).sum()) for total in totals]
    for add in adds:
        add(P.zeros(1000))

    def work(i: int) -> None:
        for _ in range(200):
            adds[i](totals[1 - i])

    at_once(work, threads=2)
    assert [total.tolist() for total in totals] == [[201.0] * 1000] * 2


def test_layers_that_are_switched_in_many_threads_lose_no_switch(at_once: Any) -> None:
    """A lost one would leave a program of training mode in use in evaluation."""
    before = list(state_version)

    def switch(i: int) -> None:
        layer = nn.Dropout()
        for _ in range(500):
            layer.eval()
            layer.p = 0.5
            layer.train()

    at_once(switch)
    assert state_version[1] == before[1]
    assert state_version[0] - before[0] >= 8 * 500


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_process_goes_on_with_the_compiled_step() -> None:
    run = P.compile(simple(3))
    losses_of(run, 3)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, repr(losses_of(run, 3)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    threading.Timer(60, lambda: _end(child)).start()
    with os.fdopen(reader) as file:
        told = file.read()
    os.waitpid(child, 0)
    assert told == repr(losses_of(run, 3))  # the parent's numbers were not touched by the child


def _end(process: int) -> None:
    try:
        os.kill(process, 9)
    except ProcessLookupError:
        return


def resident() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def growth(steps: int) -> int:
    step, _ = training(width=8)
    run = P.compile(step)
    x, y = data(4)
    for _ in range(500):
        run(x, y)
    gc.collect()
    before = resident()
    for _ in range(steps):
        run(x, y)
    return resident() - before


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc here")
def test_memory_does_not_grow() -> None:
    assert growth(20_000) < 1 << 20


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc here")
def test_memory_does_not_grow_over_100_000_steps() -> None:
    assert growth(100_000) < 1 << 20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="no /proc here")
def test_looking_at_state_between_steps_does_not_grow_memory() -> None:
    step, model = training(width=8)
    run = P.compile(step)
    evaluate = P.compile(lambda x: model(x))
    x, y = data(4)

    def look(times: int) -> None:
        for _ in range(times):
            run(x, y)
            evaluate(x)
            model[0].weight.detach().numpy()
            model.load_state_dict(model.state_dict())

    look(200)
    gc.collect()
    before = resident()
    look(1000)
    assert resident() - before < 1 << 20


def test_programs_and_tensors_are_freed_with_the_function() -> None:
    import weakref

    def build() -> tuple[Any, Any]:
        step, model = training(width=8)
        run = P.compile(step)
        run(*data(4))
        program: Any = run.last
        return weakref.ref(program), weakref.ref(model)

    program, model = build()
    gc.collect()
    assert model() is None
    assert program() is None


def test_a_program_that_is_gone_is_told_nothing() -> None:
    """Each program watches the memory of its states. Programs that are gone would make every write slower, for ever."""
    weight = P.ones(4)
    for _ in range(3):
        P.compile(lambda x: x * weight)(P.ones(4))
        gc.collect()
    assert len(weight.storage.watchers) == 0


def test_a_function_dropped_leaves_its_tensors_to_others() -> None:
    """Memory of a Tensor outlives the program that made it."""
    step, model = training(width=8)
    run = P.compile(step)
    run(*data(4))
    weight = model[0].weight
    del run
    gc.collect()
    kept = weight.detach().numpy().copy()
    again = P.compile(step)
    again(*data(4))
    assert not np.array_equal(weight.detach().numpy(), kept)
    assert np.isfinite(weight.detach().numpy()).all()


def test_many_steps_while_another_program_begins_to_write_what_they_read() -> None:
    """No step sees weights that are half written."""
    weight = P.zeros(128, 128)
    read = P.compile(lambda x: x @ weight)
    write = P.compile(lambda k: (weight.copy_(weight * 0 + k), k)[1])
    x, order = P.ones(16, 128), P.zeros(3000, 4).long()
    read.run_steps(x, order[:2])
    stop = threading.Event()

    def writing() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            write(P.tensor(float(number)))

    thread = threading.Thread(target=writing)
    thread.start()
    try:
        found = read.run_steps(x, order).numpy()
    finally:
        stop.set()
        thread.join()
    assert (found.min((1, 2)) == found.max((1, 2))).all()


def test_steps_recorded_in_threads_while_another_collects() -> None:
    """What is alive only until the next collection is no leak, though a collection may be under way elsewhere."""
    stop, gone = threading.Event(), threading.Event()

    class Slow:
        def __del__(self) -> None:
            time.sleep(2e-3)  # in the middle of a collection
            gone.set()

        def __init__(self) -> None:
            self.me = self

    def collecting() -> None:
        while not stop.is_set():
            gone.clear()
            Slow()
            while not gone.is_set():  # one at a time: a collection of the step's own would not come to its end
                gc.collect()
                time.sleep(1e-4)

    thread = threading.Thread(target=collecting)
    gc.collect()
    gc.freeze()  # collections of what was there before would take most of the time
    thread.start()
    try:
        for number in range(12):
            layer = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.2), nn.Linear(4, 1))
            assert P.compile(layer)(P.ones(number + 2, 3)).shape == (number + 2, 1)
    finally:
        stop.set()
        thread.join()
        gc.unfreeze()
