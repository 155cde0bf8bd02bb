"""The moving average of weights: its numbers, the swap and back, saving."""

from __future__ import annotations

import numpy as np
import pytest

import pellucid
from pellucid.errors import OptionError, StateError
from pellucid.optim import ExponentialMovingAverage


class Network:
    """What the average asks of a network."""

    def __init__(self):
        self.w = pellucid.tensor([1.0, 2.0]).requires_grad_()
        self.mean = pellucid.tensor([0.0])
        self.seen = pellucid.tensor(0)
        self.noise = pellucid.tensor([0.5])  # not saved: no result of training

    def named_parameters(self):
        return [("w", self.w)]

    def named_buffers(self):
        return [("mean", self.mean), ("seen", self.seen), ("noise", self.noise)]

    def state_dict(self):
        return {"w": self.w, "mean": self.mean, "seen": self.seen}


def move(net, t):
    net.w.assign(np.array([t, -t], np.float32))
    net.mean.assign(np.array([2.0 * t], np.float32))


@pytest.mark.parametrize("warmup", [True, False])
def test_values(warmup):
    net = Network()
    ema = ExponentialMovingAverage(net, decay=0.9, warmup=warmup)
    expected = {"w": net.w.array.astype(np.float64), "mean": net.mean.array.astype(np.float64)}
    for t in range(1, 200):
        move(net, t)
        ema.update()
        d = min(0.9, (1 + t) / (10 + t)) if warmup else 0.9
        expected = {name: d * a + (1 - d) * getattr(net, name).array for name, a in expected.items()}
    assert set(ema.averages) == {"w", "mean"}  # a count of batches is no weight, what is not saved neither
    for name, a in expected.items():
        np.testing.assert_allclose(ema.averages[name].array, a, rtol=1e-5)
        assert not ema.averages[name].requires_grad


def test_equal_weights_stay_bit_for_bit():
    p = pellucid.tensor([0.1, 1 / 3]).requires_grad_()
    ema = ExponentialMovingAverage([p])
    for _ in range(50):
        ema.update()
    np.testing.assert_array_equal(ema.averages["0"].array, p.array)


def test_applied_swaps_and_restores_bit_for_bit():
    net = Network()
    ema = ExponentialMovingAverage(net, decay=0.5, warmup=False)
    move(net, 3)
    ema.update()
    trained = net.w.array.copy()
    with ema.average_parameters():
        np.testing.assert_array_equal(net.w.array, [2.0, -0.5])
        np.testing.assert_array_equal(net.mean.array, [3.0])
        assert net.w.requires_grad
    np.testing.assert_array_equal(net.w.array, trained)
    with pytest.raises(ZeroDivisionError), ema.average_parameters():
        _ = 1 / 0
    np.testing.assert_array_equal(net.w.array, trained)


def test_applied_refuses_what_would_spoil_the_average():
    ema = ExponentialMovingAverage(Network())
    with ema.average_parameters():
        with pytest.raises(StateError, match=r"update\(\) inside average_parameters\(\)"):
            ema.update()
        with (
            pytest.raises(StateError, match=r"average_parameters\(\) inside average_parameters\(\)"),
            ema.average_parameters(),
        ):
            pass


def test_the_former_name_of_the_block_says_the_new_one():
    with pytest.raises(AttributeError, match=r"applied.*average_parameters\(\)"):
        _ = ExponentialMovingAverage(Network()).applied


def test_resuming_goes_on_bit_for_bit():
    net = Network()
    ema = ExponentialMovingAverage(net, decay=0.8)
    for t in range(5):
        move(net, t)
        ema.update()
    saved = ema.state_dict()
    other_net = Network()
    other = ExponentialMovingAverage(other_net, decay=0.3, warmup=False)
    other.load_state_dict(saved)
    for t in range(5, 40):
        move(net, t)
        move(other_net, t)
        ema.update()
        other.update()
    for name in ema.averages:
        np.testing.assert_array_equal(ema.averages[name].array, other.averages[name].array)
    assert saved["count"].item() == 5  # a snapshot


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {}, "expected a dict with 'decay'"),
        (lambda s: {**s, "averages": {"v": pellucid.zeros(2)}}, "mean, v, w stand on one side only"),
        (
            lambda s: {**s, "averages": {**s["averages"], "w": pellucid.zeros(3)}},
            r"w was saved as \(3,\), here it is \(2,\)",
        ),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, message):
    ema = ExponentialMovingAverage(Network())
    with pytest.raises(StateError, match=message):
        ema.load_state_dict(change(ema.state_dict()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([pellucid.zeros(2)], 1.0), r"decay is 1.0; expected a number from 0 up to, but not including, 1"),
        (([],), r"no floating-point Tensors"),
        (([np.zeros(2)],), r"a ndarray at 0; expected Tensors"),
        ((pellucid.zeros(2),), r"source is a Tensor; expected a network or its parameters"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(OptionError, match=message):
        ExponentialMovingAverage(*arguments)
