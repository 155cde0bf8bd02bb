"""The thread count of matrix products: set, read back, taken from the environment, and refused where it is none."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

import pellucid as P
from pellucid.errors import OptionError


def told(code: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_count_reaches_the_blas_and_comes_back() -> None:
    code = (
        "import pellucid as P, threadpoolctl as t; P.set_num_threads(1); "
        "print(P.get_num_threads(), {p['num_threads'] for p in t.threadpool_info() if p['user_api'] == 'blas'})"
    )
    assert told(code) == (0, "1 {1}\n")


def test_the_environment_sets_it_at_the_start() -> None:
    code = "import pellucid as P; print(P.get_num_threads())"
    assert told(code, PELLUCID_NUM_THREADS="1") == (0, "1\n")
    status, text = told(code, PELLUCID_NUM_THREADS="many")
    assert status == 0 and "PELLUCID_NUM_THREADS is 'many'; expected a whole number from 1" in text


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", None])
def test_what_is_no_count(count: Any) -> None:
    before = P.get_num_threads()
    with pytest.raises(OptionError, match="threads: .*expected a whole number from 1"):
        P.set_num_threads(count)
    assert P.get_num_threads() == before >= 1


def test_the_same_seed_and_count_give_the_same_bits() -> None:
    """A training step twice over, in processes of their own."""
    code = """
import hashlib
import pellucid as P
P.set_num_threads(2)
P.manual_seed(3)
w = P.randn(64, 32, requires_grad=True)
for step in range(3):
    x, y = P.randn(128, 64), P.randint(32, (128,))
    loss = P.functional.cross_entropy(P.functional.dropout(x @ w, 0.1), y)
    w.grad = None
    loss.backward()
    with P.no_grad():
        w -= 0.1 * w.grad
print(hashlib.sha256(w.array.tobytes()).hexdigest())
"""
    first, second = told(code), told(code)
    assert first[0] == 0 and first == second
