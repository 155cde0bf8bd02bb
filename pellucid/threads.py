"""How many threads the matrix products use: NumPy's BLAS decides that, so this sets it there (floor 1).

The bits of an eager product may depend on the count; a run stores it, and resuming under another warns.
`PELLUCID_NUM_THREADS` sets it at the start. threadpoolctl (which comes with scikit-learn) speaks to the BLAS.
"""

from __future__ import annotations

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


def set_num_threads(count: int) -> None:
    """Use `count` threads from now on; raises OptionError below 1."""
    global _chosen
    from threadpoolctl import threadpool_limits

    if not isinstance(count, int) or count < 1:
        raise OptionError(f"threads: {count!r}; expected a whole number from 1; leave it out for one a core")
    threadpool_limits(limits=count, user_api="blas")
    _chosen = count


def _from_environment() -> None:
    wish = os.environ.get("PELLUCID_NUM_THREADS", "")
    if wish.isdigit() and int(wish):
        set_num_threads(int(wish))
    elif wish:  # a warning: an import that fails would leave no one to say so in plain words
        warnings.warn(
            f"PELLUCID_NUM_THREADS is {wish!r}; expected a whole number from 1; it is ignored, unset it or mend it",
            stacklevel=2,
        )


_from_environment()
