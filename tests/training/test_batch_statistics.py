"""Batch norm's running statistics where epochs are short: judged are those of the weights as they are."""

import numpy as np
import pytest

import pellucid
from pellucid import functional as F
from pellucid import nn
from pellucid.data.loader import DataLoader, TensorDataset
from pellucid.models.heads.prediction import PredictionModel
from pellucid.runs.settings import Settings
from pellucid.training.batch_statistics import BatchStatistics
from pellucid.training.learner import Learner
from pellucid.training.loop import EpochDone, fit


class Normed(PredictionModel):
    input_names = ("x",)

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(F.relu(self.norm(self.first(x))))


def data(rows=24):
    rng = np.random.default_rng(0)
    x = rng.normal(3, 2, (rows, 3)).astype(np.float32)
    return TensorDataset(pellucid.tensor(x), pellucid.tensor((x[:, 0] > 3).astype(np.int64)))


def network():
    pellucid.manual_seed(0)
    return Normed()


def test_they_are_the_means_over_batches_and_training_keeps_its_own():
    net, dataset = network(), data()
    loader = DataLoader(dataset, batch_size=8)
    before = [b.array.copy() for b in net.norm.buffers()]
    x = net.first(dataset.tensors[0]).array.reshape(3, 8, 4)
    with BatchStatistics(net, loader, True).recomputed():
        np.testing.assert_allclose(net.norm.running_mean.array, x.mean(1).mean(0), rtol=1e-5)
        np.testing.assert_allclose(net.norm.running_var.array, x.var(1, ddof=1).mean(0), rtol=1e-5)
    assert all(np.array_equal(a, b.array) for a, b in zip(before, net.norm.buffers(), strict=True))


def test_frozen_layers_and_long_epochs_keep_theirs():
    net, loader = network(), DataLoader(data(), batch_size=8)
    for statistics in (
        BatchStatistics(net, loader, True, frozen=[net.norm]),
        BatchStatistics(net, DataLoader(data(60), batch_size=1), True),
    ):
        with statistics.recomputed():
            assert not net.norm.running_mean.array.any()


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_what_is_judged_and_saved_has_them_and_training_is_the_same(average):
    settings = Settings(epochs=2, batch_size=8, eager=True, ema_decay=average, lr=0.01)
    seen, weights = [], []
    for recompute in (True, False):
        net = network()
        learner = Learner(net, DataLoader(data(), batch_size=8, shuffle=True, seed=0), settings)
        if not recompute:
            learner.batch_statistics.buffers = []

        def validate(net=net):
            seen.append(net.norm.running_mean.array.copy())
            return {"loss": 0.0}

        for event in fit(learner, validate, epochs=2, is_better=lambda a, b: True):
            assert isinstance(event, EpochDone) or event.step
        assert np.array_equal(learner.state.best["norm.running_mean"], seen[-1])
        weights.append([t.array for t in net.state_dict().values()])
    assert not np.allclose(seen[1], seen[3])
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))
