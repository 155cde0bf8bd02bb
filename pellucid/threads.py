"""How many threads the matrix products use: NumPy's BLAS decides that, so this sets it there (floor 1).

The bits of an eager product may depend on the count; a run stores it, and resuming under another warns.
`PELLUCID_NUM_THREADS` sets it at the start. threadpoolctl (which comes with scikit-learn) speaks to the BLAS.
"""

from __future__ import annotations

import os

from .errors import OptionError

_chosen: int | None = None


def get_num_threads() -> int:
    """The threads a matrix product may use."""
    if _chosen is not None:
        return _chosen
    from threadpoolctl import threadpool_info  # takes 20 ms to import, and few programs ask

    return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)


def set_num_threads(count: int) -> None:
    """Use `count` threads from now on; raises OptionError below 1."""
    global _chosen
    from threadpoolctl import threadpool_limits

    if not isinstance(count, int) or count < 1:
        raise OptionError(f"threads: {count!r}; expected a whole number from 1; leave it out for one a core")
    threadpool_limits(limits=count, user_api="blas")
    _chosen = count


if os.environ.get("PELLUCID_NUM_THREADS"):
    _wish = os.environ["PELLUCID_NUM_THREADS"]
    if not _wish.isdigit():
        raise OptionError(f"PELLUCID_NUM_THREADS: {_wish!r}; expected a whole number from 1; unset it for one a core")
    set_num_threads(int(_wish))
