"""What the tests of the families that draw share: digits, and their training, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import pellucid as P
from pellucid.data.input_spec import ImageSpec
from pellucid.data.loader import DataLoader, TensorDataset
from pellucid.models.base import Model
from pellucid.runs.settings import Settings
from pellucid.tensor import Tensor
from pellucid.training.learner import Learner

SPECS: dict[str, ImageSpec] = {
    "digits": ImageSpec((8, 8), white=3.0),
    "mnist": ImageSpec((28, 28), white=3.0),
    "pictures": ImageSpec((3, 32, 32), mean=[0.5] * 3, std=[0.25] * 3),
    "odd": ImageSpec((3, 13, 9), mean=[0.5] * 3, std=[0.25] * 3),
}


def batch(spec: ImageSpec, size: int = 6, classes: int = 3) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(0)
    image = random.random((size, *spec.size)).astype(np.float32) * (255 if spec.mean else 3)
    if spec.mean:
        image = image.astype(np.uint8)
    return P.tensor(image), P.tensor(np.arange(size) % classes)


def digits() -> tuple[Tensor, Tensor]:
    """1,797 images of 8x8, float32 from 0 to 3, and their classes."""
    data = load_digits()
    return P.tensor((data.images * (3 / 16)).astype(np.float32)), P.tensor(data.target.astype(np.int64))


def learn(network: Model, data: tuple[Tensor, ...], batches: Any, **settings: Any) -> tuple[Learner, list]:
    """The library's own steps on `batches`, rows of `data`, after one of half the learning rate; and what each told."""
    chosen = Settings(schedule="constant", warmup_fraction=0, weight_decay=0, **settings)
    learner = Learner(network, DataLoader(TensorDataset(*data), len(batches[0])), chosen)
    learner.train_mode()
    told = []
    for rows in batches:
        told.append(learner.run(np.asarray(rows)))
    assert learner.native.eager == chosen.eager
    return learner, told


def check_compiled_step(build: Callable[[], Model], *batch: Tensor) -> None:
    """Three steps do the same eagerly and compiled: what they tell, and where parameters, buffers and averages move.

    By SGD, whose steps are as long as the gradients: Adam makes whole steps of what is nothing but rounding.
    """
    found = []
    for eager in (True, False):
        P.manual_seed(5)
        network = build()
        before = {name: t.array.copy() for name, t in network.state_dict().items()}
        learner, told = learn(network, batch, [range(len(batch[0]))] * 3, optimizer="sgd", lr=0.1, momentum=0.0, clip_grad_norm=0.0,
                              ema_decay=0.5, eager=eager)  # fmt: skip
        assert learner.state.average is not None
        moved = {name: t.array - before[name] for name, t in network.state_dict().items()}
        moved |= {f"average of {name}": t.array - before[name] for name, t in learner.state.average.averages.items()}
        found.append((told, moved))
    (told, moved), (compiled_told, compiled_moved) = found
    for eager_values, native in zip(told, compiled_told, strict=True):
        assert native == pytest.approx(eager_values, rel=1e-4)
    lengths = {name: np.linalg.norm(way) for name, way in moved.items()}
    assert np.mean([length > 1e-4 for length in lengths.values()]) > 0.8  # a bias before a norm stays where it is
    for name, way in moved.items():
        assert np.linalg.norm(compiled_moved[name] - way) <= 1e-3 * lengths[name] + 1e-7, name
