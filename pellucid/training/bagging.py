"""Bagged networks: the folds of their rows before training, and what is chosen on held-out answers after it (floor 10)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..creation import tensor
from ..data.problem import DataModule, Examples
from ..evaluation.compiled import CompiledFunction
from ..models.bagged_mlp import BaggedMLP
from ..models.base import Model, map_batches
from ..tensor import Tensor

SHARES = np.linspace(0, 1, 21)  # of the network against the linear models
TEMPERATURES = np.exp(np.linspace(-0.7, 1.5, 111))
PRIOR = 2.0  # rows that speak for a temperature of 1


def bag(problem: DataModule, network: Any) -> tuple[DataModule, Any]:
    """`problem` with folds where `network`, the config of a family, asks for them, and the config with as many as there are."""
    folds = getattr(network, "bag_folds", 0)
    if not folds or problem.kind != "table" or problem.examples("train").fold is not None:
        return problem, network
    if problem.bagged is None:  # of a large table one network learns
        return problem, dataclasses.replace(network, bag_folds=0, linear_start=False)
    found, bagged = problem.bagged(folds)
    return bagged, network if found == folds else dataclasses.replace(network, bag_folds=found)


def choose_mix(network: Model, judged: Examples, eager: bool) -> list[str]:
    """Set the mix with the linear models and the temperature, by the loss of rows answered by the network without them.

    The mean of several networks is less sure than each of them, so half the temperature (of its logarithm) is enough there.
    """
    if not isinstance(network, BaggedMLP) or network.task not in ("classification", "regression") or network.levels:
        return []
    outputs, lines = held_out(network, judged, eager)
    weight = np.ones(len(judged)) if judged.weight is None else judged.weight.astype(np.float64)
    task = network.task

    def losses(answer: np.ndarray) -> float:
        return float((_losses(answer, judged.target, task) * weight).sum() / weight.sum())

    mix = 1.0
    if lines is not None:
        mix = float(min(SHARES[::-1], key=lambda share: losses(share * outputs + (1 - share) * lines)))
        outputs = mix * outputs + (1 - mix) * lines
    network.mix.assign(tensor(np.float32(mix)))
    share = [] if lines is None else [f"linear: the answer is {100 * mix:.0f}% the network's, {100 - 100 * mix:.0f}% its linear start's alone, "
                                      "as held-out rows are answered best"]  # fmt: skip
    if network.task == "regression":
        return share
    cooled = [losses(_tempered(outputs, t)) + PRIOR * np.log(t) ** 2 / len(judged) for t in TEMPERATURES]
    temperature = float(TEMPERATURES[int(np.argmin(cooled))])
    temperature = temperature**0.5 if network.folds > 1 else temperature
    network.temperature.assign(tensor(np.float32(temperature)))
    return share


def held_out(network: BaggedMLP, judged: Examples, eager: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities (N, K) or predictions (N, 1) of each row by the network without its fold, and by the linear model."""
    *arrays, fold = judged.arrays(network)
    native = CompiledFunction(network.fold_outputs, eager)

    def take(rows: range) -> np.ndarray:
        outputs, line = native(*(Tensor(a[rows.start : rows.stop]) for a in arrays))
        both = np.stack([outputs.array] if line is None else [outputs.array, line.array]).astype(np.float64)
        if network.task == "classification":
            shifted = np.exp(both - both.max(axis=3, keepdims=True))
            both = shifted / shifted.sum(axis=3, keepdims=True)
        by_fold = both.reshape(len(both), network.members, network.folds, *both.shape[2:]).mean(axis=1)
        return np.asarray(by_fold[:, fold[rows.start : rows.stop], np.arange(len(rows))].swapaxes(0, 1))

    found = map_batches(len(judged), network.eval_batch_size, take)  # (N, 1 or 2, K)
    return found[:, 0], found[:, 1] if found.shape[1] > 1 else None


def _tempered(answer: np.ndarray, temperature: float) -> np.ndarray:
    raised = np.maximum(answer, 1e-30) ** (1 / temperature)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _losses(answer: np.ndarray, target: np.ndarray, task: str) -> np.ndarray:
    if task == "regression":
        return np.asarray((answer[:, 0] - target) ** 2)
    return np.asarray(-np.log(np.maximum(answer[np.arange(len(target)), target], 1e-30)))
