"""What all tests share: one folder for compiled programs, so that each is compiled once a session; and many threads."""

import sys
import threading

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


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
