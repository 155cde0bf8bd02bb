"""TracInCP: the closed form of a linear layer's gradients is what gradients of each example, one by one, give."""

import numpy as np
import pytest
from family_runs import FAMILIES
from untouched import untouched

import pellucid as torch
from pellucid import nn
from pellucid.autograd import grad
from pellucid.creation import tensor
from pellucid.errors import OptionError
from pellucid.inference.asked import RunExamples
from pellucid.inference.learned import learned_data, learned_networks, training_rows
from pellucid.inspect import TrainingRows, WeightSet, restored, tracin
from pellucid.inspect.influence import last_linear
from pellucid.inspect.question import score
from pellucid.runs.run import load_run


class Steps(nn.Module):
    """A layer that is applied at several steps, and twice."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2, bias=False)

    def forward(self, x):  # (B, T, 3)
        hidden = self.first(x).tanh()
        return self.last(hidden).mean(1) + self.last(hidden * hidden).sum(1)


def drawn_sets(network, count=3):
    chance = np.random.default_rng(0)
    state = {name: value.array for name, value in network.state_dict().items()}
    draw = lambda array: chance.normal(0, 0.5, array.shape).astype(array.dtype) if array.dtype.kind == "f" else array
    return [WeightSet({name: draw(array) for name, array in state.items()}, 0.1 * k) for k in range(1, count + 1)]


def one_by_one(network, rows, of, sets, layer):
    """The same sum from the gradient of each example alone."""
    module = dict(network.named_modules())[layer]
    weights = [value for value in (module.weight, getattr(module, "bias", None)) if value is not None]
    total = np.zeros(rows.count)
    with restored(network, grad=True):
        for one in sets:
            network.load_state_dict({name: tensor(array) for name, array in one.weights.items()})
            flat = lambda number: np.concatenate([g.numpy().ravel().astype(np.float64) for g in grad(number, weights)])
            towards = flat(of().sum())
            for i in range(rows.count):
                total[i] -= one.learning_rate * towards @ flat(rows.losses(*rows.batch(np.array([i]))).sum())
    return total


def close(found, expected):
    return np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    "network", [nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)), Steps()], ids=["mlp", "steps"]
)
def test_influence_is_the_sum_of_products_of_gradients(network):
    chance = np.random.default_rng(1)
    shape = (9, 5, 3) if isinstance(network, Steps) else (9, 3)
    x, y = torch.tensor(chance.normal(size=shape).astype(np.float32)), torch.tensor(chance.integers(0, 2, 9))
    losses = lambda x, y: nn.functional.cross_entropy(network(x), y, reduction="none")
    rows = TrainingRows(9, lambda picked: (x[picked], y[picked]), losses)
    of = lambda: network(x[:1]).log_softmax(-1)[:, 1]
    sets = drawn_sets(network)
    with untouched(network):
        found = tracin(network, rows, of, sets, most=4)
    expected = one_by_one(network, rows, of, sets, last_linear(network))
    assert close(found, expected)
    assert not close(tracin(network, rows, of, sets[:2]), expected)  # the control: an epoch is missing
    assert not close(tracin(network, rows, of, [WeightSet(s.weights, 0.2) for s in sets]), expected)


def test_training_on_a_row_moves_the_answer_as_its_influence_says():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    chance = np.random.default_rng(2)
    x, y = torch.tensor(chance.normal(size=(20, 3)).astype(np.float32)), torch.tensor(chance.integers(0, 2, 20))
    losses = lambda x, y: nn.functional.cross_entropy(network(x), y, reduction="none")
    rows = TrainingRows(20, lambda picked: (x[picked], y[picked]), losses)
    of = lambda: network(x[:1]).log_softmax(-1)[:, 1]
    state = {name: value.array for name, value in network.state_dict().items()}
    rate = 1e-2
    found = tracin(network, rows, of, [WeightSet(state, rate)])
    last = network[2]
    for i in range(20):
        with restored(network, grad=True):
            before = float(of().detach().numpy()[0])
            for value, g in zip((last.weight, last.bias), grad(losses(x[i : i + 1], y[i : i + 1]).sum(), (last.weight, last.bias)), strict=True):  # fmt: skip
                value.assign(value.detach() - g * rate)
            assert np.isclose(float(of().detach().numpy()[0]) - before, found[i], rtol=0.1, atol=1e-5)


def test_it_refuses_what_has_no_linear_layer_and_restores_after_an_error():
    network = nn.Sequential(nn.Conv2d(1, 2, 3))
    rows = TrainingRows(1, lambda picked: (torch.zeros(1, 1, 3, 3),), lambda x: network(x).flatten(1).sum(1))
    state = WeightSet({name: value.array * 0 for name, value in network.state_dict().items()}, 1.0)
    with pytest.raises(OptionError, match="no linear layer"):
        tracin(network, rows, lambda: network(torch.zeros(1, 1, 3, 3)).sum(), [state])
    network = nn.Sequential(nn.Linear(3, 2))

    def fails(x):
        raise ValueError("stop")

    state = WeightSet({name: value.array * 0 for name, value in network.state_dict().items()}, 1.0)
    with untouched(network), pytest.raises(ValueError, match="stop"):
        tracin(
            network,
            TrainingRows(1, lambda picked: (torch.zeros(1, 3),), fails),
            lambda: network(torch.zeros(1, 3)).sum(),
            [state],
        )
    with pytest.raises(OptionError, match="no layer 'head'"):
        tracin(network, rows, lambda: network(torch.zeros(1, 3)).sum(), [state], layer="head")


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("gan", "diffusion")])
def test_every_family_agrees_with_gradients_one_by_one(family_run, family):
    examples = RunExamples(load_run(family_run(family)))
    asked, data = examples.ask(3), learned_data(examples)
    (learned,) = learned_networks(examples.run, len(data.train))
    assert learned.epochs != [None]  # kept by default
    network, sets = learned.network, learned.sets[-2:]
    every = training_rows(network, data.train)
    few = np.linspace(0, every.count - 1, 6).astype(np.int64)
    rows = TrainingRows(6, lambda picked: every.batch(few[picked]), every.losses)
    of = lambda: score(network.answer(*asked.question.inputs), 0).sum()
    with untouched(network):
        found = tracin(network, rows, of, sets)
    assert close(found, one_by_one(network, rows, of, sets, last_linear(network)))
    assert np.abs(found).max() > 0
