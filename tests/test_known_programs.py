"""Well-known programs, eager and compiled, against the numbers PyTorch gives, to 1e-5."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_programs import PROGRAMS

import pellucid as P

# What PyTorch gives, one line a program; `test_pytorch_gives_these_numbers` compares, and says how to write it anew.
EXPECTED = json.loads(Path(__file__).with_name("known_programs.json").read_text())

WAYS: dict[str, Callable[[Any], Any]] = {
    "eager": lambda step: step,
    "compiled": P.compile,
    "interpreted": lambda step: P.compile(step, disable_passes=("native",)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_as_in_pytorch(program: Any, way: str) -> None:
    found = program(P, WAYS[way])
    np.testing.assert_allclose(found, EXPECTED[program.__name__], rtol=1e-5, atol=1e-5)


@pytest.mark.torch
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_pytorch_gives_these_numbers(program: Any) -> None:
    """To write them anew: json.dumps of {program.__name__: program(torch, lambda step: step)}."""
    import torch

    found = program(torch, lambda step: step)
    np.testing.assert_allclose(found, EXPECTED[program.__name__], rtol=1e-6, atol=1e-6)
