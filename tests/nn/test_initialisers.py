"""Initialisers: the statistics their papers promise, and what they refuse."""

import math

import numpy as np
import pytest

import pellucid as P
from pellucid import nn
from pellucid.errors import OptionError, ShapeError
from pellucid.nn import init


@pytest.fixture(autouse=True)
def seed():
    P.manual_seed(3)


OUT, IN = 300, 200
CASES = {  # name: (call, expected deviation, largest magnitude)
    "uniform": (lambda w: init.uniform_(w, -3, 3), 3 / math.sqrt(3), 3),
    "normal": (lambda w: init.normal_(w, 0, 2), 2, math.inf),
    "xavier_uniform": (init.xavier_uniform_, math.sqrt(2 / (IN + OUT)), math.sqrt(6 / (IN + OUT))),
    "xavier_normal": (lambda w: init.xavier_normal_(w, gain=2), 2 * math.sqrt(2 / (IN + OUT)), math.inf),
    "kaiming_uniform": (lambda w: init.kaiming_uniform_(w, nonlinearity="relu"), math.sqrt(2 / IN), math.sqrt(6 / IN)),
    "kaiming_uniform sqrt 5": (
        lambda w: init.kaiming_uniform_(w, math.sqrt(5)),
        1 / math.sqrt(3 * IN),
        1 / math.sqrt(IN),
    ),
    "kaiming_normal": (
        lambda w: init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu"),
        math.sqrt(2 / OUT),
        math.inf,
    ),
    "trunc_normal": (lambda w: init.trunc_normal_(w, std=1.0), 0.8796, 2),
}


@pytest.mark.parametrize("case", CASES)
def test_mean_deviation_and_range(case):
    fill, deviation, largest = CASES[case]
    weight = nn.Parameter(P.zeros(OUT, IN))
    assert fill(weight) is weight
    values = weight.array.astype(np.float64)
    assert abs(values.mean()) < 4 * deviation / math.sqrt(values.size)
    assert abs(values.std() / deviation - 1) < 0.02
    assert abs(values).max() <= largest * (1 + 1e-6)
    assert weight.requires_grad and weight.node is None and weight.dtype == P.float32
    assert len(np.unique(values)) > 0.9 * min(values.size, 2**15)


def test_constants():
    weight = P.ones(2, 3)
    assert init.zeros_(weight).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert init.ones_(weight).sum().item() == 6
    assert init.constant_(weight, 0.5).tolist()[0] == [0.5] * 3
    assert init.eye_(weight).tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (4, 3, 2)])
def test_orthogonal(shape):
    weight = init.orthogonal_(P.zeros(shape, dtype=P.float64), gain=2.0).array.reshape(shape[0], -1)
    small = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    assert np.allclose(small, 4 * np.eye(len(small)), atol=1e-12)


def test_the_same_seed_gives_the_same_weights_and_a_generator_is_its_own_stream():
    fills = [
        init.normal_,
        init.uniform_,
        init.xavier_normal_,
        init.kaiming_uniform_,
        init.orthogonal_,
        init.trunc_normal_,
    ]
    for fill in fills:
        a, b = (fill(P.zeros(5, 4), generator=P.Generator(7)).array for _ in range(2))
        assert np.array_equal(a, b) and not np.array_equal(a, fill(P.zeros(5, 4), generator=P.Generator(8)).array)


def test_fans_and_gains():
    assert init.fans(P.zeros(8, 3, 5, 5)) == (75, 200)
    assert init.calculate_gain("tanh") == 5 / 3 and init.calculate_gain("leaky_relu", 1) == 1
    with pytest.raises(OptionError, match=r"'leaky'; expected one of .*Did you mean 'leaky_relu'\?"):
        init.calculate_gain("leaky")
    with pytest.raises(OptionError, match='mode: "fan_up"|mode: \'fan_up\'; expected "fan_in" or "fan_out"'):
        init.kaiming_normal_(P.zeros(2, 2), mode="fan_up")
    with pytest.raises(ShapeError, match=r"init: shape \(3,\); expected a weight with two axes or more"):
        init.xavier_uniform_(P.zeros(3))
    with pytest.raises(ShapeError, match="eye_"):
        init.eye_(P.zeros(2, 2, 2))
    with pytest.raises(OptionError, match=r"trunc_normal_: \[10, 11\] holds almost nothing"):
        init.trunc_normal_(P.zeros(100), a=10, b=11)
