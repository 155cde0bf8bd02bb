"""Rows to score on that a run has learned from: the score on the others is the one to go by (floor 8)."""

from __future__ import annotations

import numpy as np

from ..data.problem import DataModule, Inputs

BY_CHANCE = 0.05  # of the rows, beyond those that coarse values make equal


def rows_of_training(data: DataModule, inputs: Inputs, target: np.ndarray) -> np.ndarray | None:
    """Which of the encoded examples (N,) the training or validation part has too, target included: bool (N,).

    None where they cannot be compared, and where the run's own test rows are found there nearly as often: then values are so
    coarse that chance makes equal rows.
    """
    parts = [data.examples(split) for split in ("train", "validation", "test")]
    names = sorted(inputs)
    if not all(isinstance(part.inputs.get(name), np.ndarray) for part in parts for name in names):
        return None
    if not all(isinstance(inputs[name], np.ndarray) for name in names):
        return None
    keys = [_keys([part.inputs[name] for name in names], part.target) for part in parts]
    asked = _keys([inputs[name] for name in names], target)
    if len({key.dtype for key in (*keys, asked)}) > 1:
        return None
    known = np.concatenate(keys[:2])
    found, chance = np.isin(asked, known), float(np.isin(keys[2], known).mean())
    return found if found.mean() > 2 * chance + BY_CHANCE * (chance > 0) and found.any() else None


def _keys(arrays: list[np.ndarray], target: np.ndarray) -> np.ndarray:
    """The bytes of each example, as one value that can be compared: (N,)."""
    flat = [np.ascontiguousarray(array.reshape(len(target), -1)) for array in (*arrays, target)]
    joined = np.concatenate([part.view(np.uint8).reshape(len(target), -1) for part in flat], axis=1)
    return np.ascontiguousarray(joined).view(f"V{joined.shape[1]}").reshape(-1)
