"""What the tests of guards share: a program of three calls or more, run eagerly and compiled, gives the same or is refused."""

from __future__ import annotations

import inspect
import linecache
import os
import random
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid.errors import TraceError

Step = Callable[[Callable[..., Any]], Callable[..., Any]]  # `P.compile`, or what gives the function back
Program = Callable[[Step], "list[P.Tensor] | None"]


class Box:
    """A plain object."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class ReplayBuffer:
    def __init__(self) -> None:
        self.data: list[Any] = []

    def push(self, x: Any) -> None:
        self.data.append(x)

    def sample(self, n: int) -> list[Any]:
        return random.sample(self.data, n)

    def __len__(self) -> int:
        return len(self.data)


def vector() -> P.Tensor:
    return P.tensor([1.0, -2.0, 3.0])


def calls(step: Callable[..., Any], change: Callable[[int], Any], n: int = 3) -> list[P.Tensor]:
    """What `n` calls of `step` give, with `change(i)` before call i."""
    results = []
    for i in range(n):
        change(i)
        results.append(step(vector()))
    return results


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder, and the environment, arguments and settings as they were afterwards."""
    monkeypatch.chdir(tmp_path)
    environ, argv, limit, settings = dict(os.environ), list(sys.argv), sys.getrecursionlimit(), np.geterr()
    yield
    os.environ.clear()
    os.environ.update(environ)
    sys.argv[:] = argv
    sys.setrecursionlimit(limit)
    np.seterr(**settings)


def kind(program: Program) -> Callable[[], None]:
    """A test that `program` gives the same compiled as eagerly."""

    def test() -> None:
        try:
            want = eager(program)
        except ModuleNotFoundError as error:
            pytest.skip(f"{error.name} is not installed")
        got = [x.numpy() for x in program(P.compile) or ()]
        assert len(got) == len(want) > 0
        for i, (a, b) in enumerate(zip(got, want, strict=True)):
            assert a.dtype == b.dtype, f"result {i}"
            np.testing.assert_allclose(a, b, rtol=1e-6, err_msg=f"result {i}")
            assert (np.signbit(a) == np.signbit(b)).all(), f"result {i}"

    return _called_as(program, test)


def refused(line: str, what: str) -> Callable[[Program], Callable[[], None]]:
    """A test that `program`, which runs eagerly, is refused where it is compiled: the error names the line that reads
    `line`, and says `what`."""

    def decorate(program: Program) -> Callable[[], None]:
        def test() -> None:
            try:
                eager(program)
            except ModuleNotFoundError as error:
                pytest.skip(f"{error.name} is not installed")
            with pytest.raises(TraceError, match=re.escape(what)) as error:
                program(P.compile)
            files = {os.path.basename(file): file for file in (inspect.getfile(program), __file__)}
            places = [(files.get(name), int(n)) for name, n in re.findall(r"(\w+\.py):(\d+)", str(error.value))]
            assert any(line in linecache.getline(file, n) for file, n in places if file), error.value

        return _called_as(program, test)

    return decorate


def eager(program: Program) -> list[Any]:
    """What a program gives without being compiled; each of its calls that is to be refused still runs."""
    return [x.numpy() for x in program(lambda function: function) or ()]


def _called_as(program: Program, test: Callable[[], None]) -> Callable[[], None]:
    test.__name__, test.__doc__, test.__module__ = program.__name__, program.__doc__, program.__module__
    return test
