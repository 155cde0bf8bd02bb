"""The step function: its gradient is there and exactly zero, eager and compiled, and no optimizer moves what lies below."""

import numpy as np
import pytest

import pellucid as P
from pellucid import nn, optim
from pellucid.functional import cross_entropy, step

OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: optim.Adam(p, lr=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.1),
    "muon": lambda p: optim.Muon([w for w in p if w.dim() == 2], lr=0.1, weight_decay=0.0),
}


def test_values_and_a_gradient_of_zeros():
    x = P.tensor([-np.inf, -1.0, -0.0, 0.0, 1e-30, 2.0, np.inf], requires_grad=True)
    y = step(x)
    assert y.array.tolist() == [0, 0, 0, 0, 1, 1, 1] and y.dtype == x.dtype
    (y * np.inf).sum().backward()
    assert x.grad.array.tolist() == [0] * 7  # not none, and no NaN where what comes from above is infinite
    assert np.isnan(step(P.tensor([np.nan])).array).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_compiled_is_eager_and_only_the_last_layer_moves(name):
    x = P.tensor(np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32))
    classes, ends = P.tensor(np.arange(8) % 3), []
    for way in (lambda function: function, P.compile):
        P.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 7), nn.Step(), nn.Linear(7, 3))
        optimizer = OPTIMIZERS[name](list(model.parameters()))

        def learn(x, y, model=model, optimizer=optimizer):
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

        before, learn = {key: w.numpy().copy() for key, w in model.state_dict().items()}, way(learn)
        for _ in range(3):
            learn(x, classes)
        after = {key: w.numpy().copy() for key, w in model.state_dict().items()}
        assert all(np.array_equal(before[key], after[key]) for key in before if key.startswith("0."))
        assert not np.array_equal(before["2.weight"], after["2.weight"])
        ends.append(after)
    assert all(np.allclose(ends[0][key], ends[1][key], rtol=1e-5, atol=1e-6) for key in ends[0])
