"""Number of threads of matrix products and compiled programs (floor 1).

An eager product uses the threads of NumPy's BLAS, which threadpoolctl sets. Its bits may depend on their number; a run stores
it, and resuming with another one warns. Compiled programs have a separate pool (`compiler/backends/cpu/thread_pool.py`) and the same bits for
every number. The environment variable `PELLUCID_NUM_THREADS` sets both at the start.
"""

from __future__ import annotations

import contextlib
import functools
import os
import warnings

from .errors import OptionError

_chosen: int | None = None


def get_num_threads() -> int:
    """The threads a matrix product may use."""
    if _chosen is not None:
        return _chosen
    from threadpoolctl import threadpool_info  # takes 20 ms to import, and few programs ask

    return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)


def compute_threads() -> int:
    """The threads a compiled program uses: those chosen, or one for each processor this process may use."""
    return _chosen if _chosen is not None else _processors()


@functools.cache  # asked at every run
def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_num_threads(count: int) -> None:
    """Use `count` threads from now on, eager and compiled. Raises OptionError below 1."""
    global _chosen
    from threadpoolctl import threadpool_limits

    if not isinstance(count, int) or count < 1:
        raise OptionError(f"threads: {count!r}; expected a whole number from 1; leave it out for one a core")
    threadpool_limits(limits=count, user_api="blas")
    _chosen = count


def one_openmp_thread() -> contextlib.AbstractContextManager[object]:
    """A context in which OpenMP uses one thread: sums then have the same bits everywhere, and none waits for busy processors."""
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[object] = threadpool_limits(limits=1, user_api="openmp")
    return limits


def one_thread() -> contextlib.AbstractContextManager[object]:
    """A context in which BLAS and OpenMP use one thread: what is fitted in it has the same bits for every number of threads."""
    from threadpoolctl import threadpool_limits

    limits: contextlib.AbstractContextManager[object] = threadpool_limits(limits=1)
    return limits


def _from_environment() -> None:
    value = os.environ.get("PELLUCID_NUM_THREADS", "")
    if value.isdigit() and int(value):
        set_num_threads(int(value))
    elif value:  # a warning, not an error: an error at import would end in a traceback
        warnings.warn(
            f"PELLUCID_NUM_THREADS is {value!r}; expected a whole number from 1; it is ignored, unset it or mend it",
            stacklevel=2,
        )


_from_environment()
