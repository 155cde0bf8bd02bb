"""The benchmarks' own side: each shipped recipe builds and takes a compiled step, so that a change of names is noticed here."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[1] / "bench"
NAMES = ["cnn-image-grey", "cnn-image", "lstm-text", "transformer-text", "lstm-series", "gan-image-grey", "diffusion-image-grey"]  # fmt: skip


@pytest.fixture
def ours(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    yield importlib.import_module("recipes_pellucid").Ours
    for name in ("recipes_pellucid", "starts"):
        sys.modules.pop(name, None)


def test_every_recipe_is_listed(ours):
    assert list(importlib.import_module("starts").RECIPES) == NAMES


QUICK = ("lstm-series", "gan-image-grey")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_a_recipe_takes_a_compiled_step(ours, name):
    """With chance, as the recipe has it."""
    side = ours(name, chance=True)
    start = side.start()
    assert start.recipe == name and start.decayed and set(start.decayed) <= set(start.weights)
    losses = [side.step(side.picks[i]) for i in range(2)]
    assert all(np.isfinite(losses))


SCRIPTS = {
    "compiled.py": ["--batch", "32", "--rounds", "1", "--steps", "30"],
    "families.py": ["--network", "cnn", "--rounds", "1", "--steps", "1"],
    "recipes.py": ["--network", "lstm-series", "--rounds", "1", "--steps", "1"],
}


@pytest.mark.parametrize("script", [pytest.param("compiled.py", marks=pytest.mark.slow), "families.py", "recipes.py"])
def test_a_benchmark_runs_without_its_rivals(script):
    """The libraries that pellucid is compared with are named as skipped where they are not installed."""
    command = [sys.executable, "-W", "ignore", BENCH / script, *SCRIPTS[script]]
    environment = {**os.environ, "PYTHONPATH": str(BENCH.parent)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=BENCH.parent)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "pellucid" in result.stdout
