"""`summary`: what it counts, shows and leaves as it was."""

import numpy as np
import pytest

import pellucid as P
from pellucid import nn
from pellucid.errors import OptionError, ShapeError
from pellucid.inspect import summary


def network():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))


def test_the_textbook_network():
    found = summary(network(), (2, 28, 28))
    assert [(row.path, row.kind, row.outputs, row.parameters) for row in found.rows] == [
        ("0", "Flatten", ((2, 784),), 0),
        ("1", "Linear", ((2, 128),), 100_480),
        ("2", "ReLU", ((2, 128),), 0),
        ("3", "Linear", ((2, 64),), 8_256),
        ("4", "ReLU", ((2, 64),), 0),
        ("5", "Linear", ((2, 10),), 650),
    ]
    assert (found.parameters, found.trainable, found.bytes) == (109_386, 109_386, 4 * 109_386)
    assert str(found) == repr(found)
    lines = str(found).splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "parameters"]
    assert lines[3].split() == ["1", "Linear", "(2,", "128)", "100,480"]
    assert lines[-1] == "109,386 parameters, 109,386 of them trained, 437.5 kB"
    assert len({len(line) for line in lines if set(line) == {"-"}}) == 1


def test_shared_layers_and_parameters_count_once():
    layer = nn.Linear(3, 3)
    tied = nn.Linear(3, 3)
    tied.weight = layer.weight
    found = summary(nn.Sequential(layer, layer, tied), P.ones(1, 3))
    assert [(row.path, row.parameters) for row in found.rows] == [("0", 12), ("2", 3)]
    assert found.parameters == 15


def test_frozen_parameters_buffers_and_own_parameters():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(P.ones(2))
            self.norm = nn.BatchNorm1d(2)
            self.unused = nn.Linear(2, 1)
            self.unused.requires_grad_(False)

        def forward(self, x, factor):
            return {"sum": self.norm(x) * self.scale, "parts": [x, factor]}

    found = summary(Net(), (P.ones(4, 2), P.ones(1)))
    rows = {row.path: row for row in found.rows}
    assert rows["Net"].outputs == ((4, 2), (4, 2), (1,)) and rows["Net"].parameters == 2
    assert rows["unused"].outputs == () and rows["unused"].trainable == 0
    assert (found.parameters, found.trainable) == (9, 6)
    assert found.bytes == 4 * 9 + 2 * 2 * 4 + 8  # two float32 buffers and one int64
    assert "not called" in str(found)


def test_everything_is_left_as_it_was():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Dropout())
    net[1].eval()
    before = {name: value.array for name, value in net.state_dict().items()}
    chance = P.get_rng_state().tolist()

    class Noisy(nn.Module):
        def forward(self, x):
            assert not self.training and not P.is_grad_enabled()
            return x + P.randn(*x.shape)

    net.append(Noisy())
    summary(net, (1, 2))  # one example: batch statistics would be refused
    assert [m.training for m in net] == [True, False, True, True] and net.training
    assert all(value.array is before[name] for name, value in net.state_dict().items())
    assert P.get_rng_state().tolist() == chance and P.is_grad_enabled()
    assert not any(module._hooks for module in net.modules())


def test_a_pass_that_fails_tells_the_layer_and_cleans_up():
    net = network()
    with pytest.raises(ShapeError, match=r"^Sequential.1 \(Linear 784→128\): input \(1, 9\)"):
        summary(net, (1, 3, 3))
    assert net.training and not any(module._hooks for module in net.modules())


def test_ways_to_give_the_input():
    embed = nn.Embedding(5, 3)
    assert summary(embed, P.zeros(2, dtype=P.int64)).rows[0].outputs == ((2, 3),)
    assert summary(nn.Linear(3, 1), input_size=(4, 3)).rows[0].outputs == ((4, 1),)
    assert summary(nn.Linear(3, 1), [4, 3]).rows[0].path == "Linear"

    class Two(nn.Module):
        def forward(self, a, b):
            return a @ b

    assert summary(Two(), input_size=[(2, 3), (3, 4)]).rows[0].outputs == ((2, 4),)
    for wrong in ((), 3, [(2, 3), "x"]):
        with pytest.raises(OptionError, match="expected a shape with its batch axis"):
            summary(Two(), input_size=wrong)
    assert np.prod(summary(nn.Identity(), (2, 3)).rows[0].outputs[0]) == 6
