"""What a compiled step shows of itself: kernels, graph, native text, watched layers; and the cache and interpreter behind it."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid import nn, optim
from pellucid.compiler.backends.cpu import llvm, object_cache
from pellucid.compiler.backends.cpu.thread_pool import ThreadBackoff
from pellucid.compiler.backends.interpreter import InterpretedProgram
from pellucid.errors import OptionError
from pellucid.nn import functional as F


def training(seed: int = 0) -> tuple[nn.Module, Any]:
    P.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 33), nn.ReLU(), nn.Linear(33, 5))
    optimizer = optim.Adam(model.parameters(), lr=1e-2)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return model, step


def batch() -> tuple[Any, Any]:
    P.manual_seed(1)
    return P.rand(18, 20), P.randint(0, 5, (18,))


def test_the_listing_names_operations_layers_and_lines_and_leaves_the_state_alone() -> None:
    model, step = training()
    compiled = P.compile(step)
    x, y = batch()
    compiled(x, y)
    before = [p.numpy().copy() for p in (q.detach() for q in model.parameters())]
    listing = compiled.kernels()
    for p, kept in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), kept)
    update = next(k for k in listing if [name for name, _ in k.operations][-1] == "adam_update" and k.kind == "product")
    assert [name for name, _ in update.operations] == ["matmul", "axpby", "ema_square", "adam_update"]
    assert any("Linear 20→33" in place for _, place in update.operations)
    assert any(Path(__file__).name in place for _, place in update.operations)
    assert update.flops == 33 * 20 * (2 * 18 + 3)
    assert update.offset is None and update.microseconds is not None and update.microseconds > 0
    assert ("define internal void" in update.llvm() and "llvm.fma" in update.llvm()) or not llvm.host().fma
    table = str(listing)
    assert len(table.splitlines()) == len(listing) + 1 and "GFLOP/s" in table


def test_leaving_fusion_out_gives_more_kernels_and_the_same_numbers() -> None:
    x, y = batch()
    fused, plain = (P.compile(training()[1], disable_passes=names) for names in ((), ("fusion",)))
    for _ in range(3):
        assert abs(fused(x, y).item() - plain(x, y).item()) < 1e-6
    assert len(plain.kernels(measure=False)) > 2 * len(fused.kernels(measure=False))


def test_the_graph_prints_every_operation_with_its_line() -> None:
    compiled = P.compile(training()[1])
    compiled(*batch())
    text = str(compiled.graph)
    assert "state 0.weight (33, 20) float32" in text and "matmul(" in text and f"{Path(__file__).name}:" in text
    assert "state 0.weight <- " in text


def test_watched_layers_give_outputs_and_gradients_and_change_nothing() -> None:
    x, y = batch()
    (model, step), (_, twin) = training(), training()
    watching, plain = P.compile(step, capture=["0", "2"]), P.compile(twin)
    hidden = model[0](x).detach()
    for _ in range(3):
        assert watching(x, y).item() == plain(x, y).item()
        if hidden is not None:
            watched = watching.captured["0"]["output"].numpy()
            np.testing.assert_allclose(watched, hidden.numpy(), rtol=1e-5, atol=1e-5)
            hidden = None
    assert watching.captured["2"]["grad"].shape == (18, 5)
    assert len(watching.made) == 1  # looking costs one program, not one at every call
    with pytest.raises(OptionError, match="capture names '3'.*one of 0, 1, 2"):
        P.compile(step, capture=["3"])


RUN = """
import pellucid as P
from tests.compiler.test_looking_inside import batch, training
step = P.compile(training()[1])
print([step(*batch()).item() for _ in range(3)])
"""


def run_with_cache(folder: Path | str) -> str:
    environment = {**os.environ, "PELLUCID_CACHE": str(folder)}
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_object_code_is_kept_used_again_and_never_trusted_blindly(tmp_path: Path) -> None:
    expected = run_with_cache("off")
    assert run_with_cache(tmp_path) == expected
    files = sorted(tmp_path.glob("*.o"))
    assert len(files) == 2  # the program's and the runtime's
    times = [file.stat().st_mtime_ns for file in files]
    assert run_with_cache(tmp_path) == expected
    assert [file.stat().st_mtime_ns for file in files] == times
    for file in files:  # a damaged file is made anew
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    assert run_with_cache(tmp_path) == expected
    assert all(file.stat().st_mtime_ns != time for file, time in zip(files, times, strict=True))


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path))
    assert object_cache.folder() == tmp_path
    tmp_path.chmod(0o777)
    assert object_cache.folder() is None


def test_without_llvmlite_a_step_is_interpreted_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = batch()
    expected = [training()[1](x, y).item()]
    error = ModuleNotFoundError("No module named 'llvmlite'", name="llvmlite")

    class Missing:
        def __getattr__(self, name: str) -> Any:
            raise error

    monkeypatch.setitem(sys.modules, "pellucid.compiler.backends.cpu.program", Missing())
    step = P.compile(training()[1])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert [step(x, y).item()] == expected
    assert any("llvmlite is not installed" in str(w.message) for w in seen)
    assert isinstance(step.last, InterpretedProgram)


def test_a_step_goes_alone_while_others_hold_the_processors_and_tries_again() -> None:
    pace, now = ThreadBackoff(), 0.0
    for _ in range(20):
        pace.note(now, now + 100e-6)
        now += 100e-6
    assert pace.threads is None
    for _ in range(20):  # a neighbour: barriers wait for a time slice
        pace.note(now, now + 3e-3)
        now += 3e-3
    assert pace.threads == 1
    now += 10
    pace.note(now, now + 200e-6)
    assert pace.threads is None


def test_kernels_of_an_interpreted_program_are_refused_by_name() -> None:
    step = P.compile(lambda x: x * 2, disable_passes="native")
    step(P.ones(3))
    with pytest.raises(OptionError, match="interpreted, without native code; expected llvmlite"):
        step.kernels()
