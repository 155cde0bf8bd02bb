"""What all tests share: the processes they run in, one folder for compiled programs, and many threads at once."""

import os
import sys
import threading

import pytest

MOST_WORKERS = 8
if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # one thread in each process: more would wait for each other; the bits are the same
    os.environ.setdefault("PELLUCID_NUM_THREADS", "1")


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist and with `-o addopts=` they run in this process
def pytest_xdist_auto_num_workers(config):
    """A process for each processor where all tests run, or a folder's; none beside this one for files that are named."""
    if not any(os.path.isdir(argument) for argument in config.args):
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, MOST_WORKERS) if cores > 1 else 0


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """One folder for the object code of all workers, so that each program is compiled once."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    folder.mkdir(mode=0o700, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(folder))
        yield


@pytest.fixture(scope="session")
def family_run(tmp_path_factory):
    """`family_run("cnn")` -> the folder of a small trained run of a family, a name of `family_runs.FAMILIES`."""
    from family_runs import family_run as trained

    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return lambda name: trained(folder, name)


@pytest.fixture
def at_once():
    """`at_once(job, threads=8)`, see below."""
    return _at_once


def _at_once(job, threads=8):
    """`job(i)` in many threads that change as often as they can; raises what one of them raised."""
    begin, results, errors = threading.Barrier(threads), [None] * threads, []

    def work(i: int) -> None:
        begin.wait(60)
        try:
            results[i] = job(i)
        except BaseException as error:
            errors.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        workers = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
            assert not worker.is_alive(), "a thread hangs"
    finally:
        sys.setswitchinterval(before)
    if errors:
        raise errors[0]
    return results
