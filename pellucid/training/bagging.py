"""Bagged networks: the folds of their rows before training, and what is chosen on held-out answers after it (floor 10)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..creation import tensor
from ..data.problem import DataModule, Examples
from ..evaluation.compiled import CompiledFunction
from ..models.bagged_mlp import LEAST, BaggedMLP
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
    if not isinstance(network, BaggedMLP):
        return []
    outputs, lines = held_out(network, judged, eager)
    weight = row_weights(network, judged)

    def loss(answer: np.ndarray) -> float:
        return float((row_losses(network, answer, judged.target) * weight).sum() / weight.sum())

    mix = 1.0
    if lines is not None:
        mix = float(min(SHARES[::-1], key=lambda share: loss(share * outputs + (1 - share) * lines)))
        outputs = mix * outputs + (1 - mix) * lines
    network.mix.assign(tensor(np.float32(mix)))
    share = [] if lines is None else [f"linear: the answer is {100 * mix:.0f}% the network's, {100 - 100 * mix:.0f}% its linear start's alone, "
                                      "as held-out rows are answered best"]  # fmt: skip
    if network.task not in ("classification", "multilabel"):
        return share
    cooled = [loss(_tempered(network, outputs, t)) + PRIOR * np.log(t) ** 2 / len(judged) for t in TEMPERATURES]
    temperature = float(TEMPERATURES[int(np.argmin(cooled))])
    temperature = temperature**0.5 if network.folds > 1 else temperature
    network.temperature.assign(tensor(np.float32(temperature)))
    return share


def held_out(network: BaggedMLP, judged: Examples, eager: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Probabilities, rates or predictions (N, K) of each row by the network without its fold, and by the linear model."""
    *arrays, fold = judged.arrays(network)
    native = CompiledFunction(network.fold_outputs, eager)

    def take(rows: range) -> np.ndarray:
        outputs, line = native(*(Tensor(a[rows.start : rows.stop]) for a in arrays))
        both = natural(network, np.stack([outputs.array] if line is None else [outputs.array, line.array]))
        by_fold = both.reshape(len(both), network.members, network.folds, *both.shape[2:]).mean(axis=1)
        return np.asarray(by_fold[:, fold[rows.start : rows.stop], np.arange(len(rows))].swapaxes(0, 1))

    found = map_batches(len(judged), network.eval_batch_size, take)  # (N, 1 or 2, K)
    return found[:, 0], found[:, 1] if found.shape[1] > 1 else None


def natural(network: BaggedMLP, outputs: np.ndarray) -> np.ndarray:
    """Logits (..., K) as probabilities, logarithms of rates as rates; other numbers as they are. float64."""
    outputs = outputs.astype(np.float64)
    if network.task == "classification":
        outputs = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        outputs /= outputs.sum(axis=-1, keepdims=True)
    elif network.task == "multilabel":
        outputs = (1 + np.tanh(outputs / 2)) / 2
    elif network.task == "counts":
        outputs = np.exp(outputs if network.log_rates is None else outputs.clip(*network.log_rates.array))
    return outputs


def row_losses(network: BaggedMLP, answer: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The losses (N,) that `PredictionModel.losses` gives, without smoothing, of natural answers (N, K)."""
    if network.task == "classification":
        return np.asarray(-np.log(np.maximum(answer[np.arange(len(target)), target], LEAST)))
    if network.task == "multilabel":
        return np.asarray(-np.log(np.maximum(np.where(target > 0.5, answer, 1 - answer), LEAST)).mean(axis=1))
    if network.task == "counts":
        return np.asarray(answer[:, 0] - target * np.log(np.maximum(answer[:, 0], LEAST)))
    over = target[:, None] - answer  # (N, K)
    if network.levels:
        return np.asarray(np.maximum(over * network.levels, over * (np.array(network.levels) - 1)).sum(axis=1))
    return np.asarray(over[:, 0] ** 2)


def row_weights(network: BaggedMLP, examples: Examples) -> np.ndarray:
    """How much each row counts in the losses, by its own weight and that of its class, float64 (N,)."""
    weight = np.ones(len(examples)) if examples.weight is None else examples.weight.astype(np.float64)
    return weight if network.class_weight is None else weight * network.class_weight.array[examples.target]


def _tempered(network: BaggedMLP, answer: np.ndarray, temperature: float) -> np.ndarray:
    raised = np.maximum(answer, LEAST) ** (1 / temperature)
    if network.task == "multilabel":
        return np.asarray(raised / (raised + np.maximum(1 - answer, LEAST) ** (1 / temperature)))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
