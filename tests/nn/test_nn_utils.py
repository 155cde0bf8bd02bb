"""Clipping, and parameters as one vector."""

import math

import numpy as np
import pytest

import pellucid as P
from pellucid import nn
from pellucid.errors import NonFiniteError, OptionError, ShapeError
from pellucid.nn.utils import clip_grad_norm_, clip_grad_value_, parameters_to_vector, vector_to_parameters


def with_grads(*grads):
    parameters = [nn.Parameter(P.zeros(len(g))) for g in grads]
    for p, g in zip(parameters, grads, strict=True):
        p.grad = P.tensor(g)
    return parameters


@pytest.mark.parametrize("norm_type, norm", [(2.0, 13.0), (1.0, 19.0), (math.inf, 12.0)])
def test_the_common_norm_is_brought_down(norm_type, norm):
    parameters = [*with_grads([3.0, 4.0], [12.0]), nn.Parameter(P.zeros(1))]  # the last has no gradient
    total = clip_grad_norm_(iter(parameters), 2.0, norm_type)
    assert math.isclose(total.item(), norm, rel_tol=1e-6)
    assert np.allclose(parameters[0].grad.array, np.array([3, 4]) * 2 / norm, rtol=1e-5)
    assert np.allclose(parameters[1].grad.array, 12 * 2 / norm, rtol=1e-5)


def test_small_gradients_stay():
    (p,) = with_grads([0.3, 0.4])
    assert math.isclose(clip_grad_norm_(p, 1.0).item(), 0.5, rel_tol=1e-6)
    assert np.allclose(p.grad.array, [0.3, 0.4], rtol=1e-5)
    assert clip_grad_norm_([nn.Parameter(P.zeros(1))], 1.0).item() == 0


def test_a_norm_that_is_not_finite():
    (p,) = with_grads([math.inf])
    with pytest.raises(NonFiniteError, match="the norm of the gradients is inf"):
        clip_grad_norm_([p], 1.0, error_if_nonfinite=True)
    assert p.grad.item() == math.inf
    with pytest.raises(OptionError, match="max_norm=-1"):
        clip_grad_norm_([p], -1)
    with pytest.raises(OptionError, match="clip_value=nan"):
        clip_grad_value_([p], math.nan)


def test_values_are_held():
    (p,) = with_grads([-5.0, 0.2, 5.0])
    clip_grad_value_(p, 0.5)
    assert np.allclose(p.grad.array, [-0.5, 0.2, 0.5])


def test_a_vector_and_back():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    vector = parameters_to_vector(net.parameters())
    assert vector.shape == (2 * 3 + 3 + 3 + 1,)
    assert np.array_equal(vector[:6].detach().array, net[0].weight.array.reshape(-1))
    vector_to_parameters(vector * 2, net.parameters())
    assert np.array_equal(parameters_to_vector(net.parameters()).detach().array, (vector * 2).detach().array)
    assert all(p.node is None for p in net.parameters())
    with pytest.raises(ShapeError, match=r"vector \(3,\); expected \(13,\)"):
        vector_to_parameters(P.zeros(3), net.parameters())
