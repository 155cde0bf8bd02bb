"""Sequential, ModuleList, ModuleDict, ParameterList."""

import pytest

import pellucid as P
from pellucid import nn
from pellucid.errors import IndexRangeError, OptionError


def kinds(modules):
    return [type(m).__name__ for m in modules]


def test_sequential_runs_in_order_and_takes_names():
    net = nn.Sequential({"twice": nn.Linear(1, 1), "act": nn.ReLU()})
    net.twice.weight.assign(P.tensor([[2.0]]))
    net.twice.bias.assign(P.tensor([-3.0]))
    assert net(P.tensor([[1.0], [4.0]])).tolist() == [[0.0], [5.0]]
    assert list(net.state_dict()) == ["twice.weight", "twice.bias"]
    assert nn.Sequential()(7) == 7


def test_sequential_is_a_list_too():
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    net.append(nn.Tanh()).insert(0, nn.Flatten())
    assert kinds(net) == ["Flatten", "Linear", "ReLU", "Tanh"] and list(net._modules) == ["0", "1", "2", "3"]
    assert kinds(net[1:3]) == ["Linear", "ReLU"] and net[-1] is net[3]
    del net[0]
    assert list(net.state_dict()) == ["0.weight", "0.bias"] and len(net) == 3
    net[0] = nn.Identity()
    assert list(net.parameters()) == []
    named = nn.Sequential({"a": nn.ReLU(), "b": nn.Tanh()})
    del named[0]
    assert list(named._modules) == ["b"]


@pytest.mark.parametrize("build", [lambda: nn.Sequential(nn.ReLU(), P.relu), lambda: nn.ModuleList([3])])
def test_only_modules_are_members(build):
    with pytest.raises(OptionError, match=r"expected a Module; wrap a function in a Module"):
        build()


def test_module_list():
    members = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    members += [nn.ReLU()]
    members.insert(1, nn.Tanh())
    assert kinds(members) == ["Linear", "Tanh", "Linear", "ReLU"]
    assert [n for n, _ in members.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert members[2] in members and kinds(members[1:]) == ["Tanh", "Linear", "ReLU"]
    with pytest.raises(
        IndexRangeError, match="ModuleList: index 4; expected a number from -4 to 3, as it holds 4 modules"
    ):
        members[4]
    with pytest.raises(IndexError, match="expected none"):
        nn.ModuleList()[0]
    with pytest.raises(NotImplementedError):
        members(P.ones(1))


def test_module_dict():
    members = nn.ModuleDict({"relu": nn.ReLU()})
    members.update([("linear", nn.Linear(1, 1))])
    assert list(members) == list(members.keys()) == ["relu", "linear"]
    assert "relu" in members and kinds(members.values()) == ["ReLU", "Linear"]
    assert members.pop("relu").__class__ is nn.ReLU and len(members) == 1
    with pytest.raises(OptionError, match=r"ModuleDict: 'liner'; expected one of linear.*Did you mean 'linear'\?"):
        members["liner"]
    with pytest.raises(OptionError, match="'keys' is taken"):
        members["keys"] = nn.ReLU()
    with pytest.raises(OptionError, match="'x' is function; expected a Module"):
        members["x"] = P.relu


def test_parameter_list():
    members = nn.ParameterList([P.ones(2), nn.Parameter(P.zeros(3))])
    members[0] = P.full((2,), 4.0)
    assert [n for n, _ in members.named_parameters()] == ["0", "1"]
    assert members[0].tolist() == [4, 4] and members[-1].requires_grad and len(members[1:]) == 1
    assert "(1): Parameter containing: [float32 of size 3]" in repr(members)
    with pytest.raises(IndexRangeError, match="holds 2 parameters"):
        members[2]
