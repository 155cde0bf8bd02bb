"""`compile(model)` is still the model; methods are compiled object by object; programs are not copied."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from small_networks import batch

import pellucid as P
from pellucid import nn, optim
from pellucid.errors import GradientError
from pellucid.nn import functional as F
from pellucid.tensor import Tensor


class Net(nn.Module):
    """A network with a mode, a plain number, a buffer and a compiled method."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(5, width), nn.Dropout(0.5), nn.Linear(width, 3)
        self.scale = 2.0
        self.register_buffer("calls", P.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.last(self.drop(self.first(x).relu())) * self.scale

    @P.compile
    def twice(self, x: Tensor, *, plus: float = 0.0) -> Tensor:
        return self(x) * 2 + plus

    @P.compile(keep_grads=True)
    def learn(self, optimizer: Any = None) -> Tensor:
        return self.calls * 1


def pair(seed: int = 0) -> tuple[Net, Any, Tensor]:
    P.manual_seed(seed)
    model = Net()
    return model, P.compile(model), batch()[0]


def close(a: Tensor, b: Tensor) -> None:
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_it_is_the_model_with_its_names_its_modes_and_its_state() -> None:
    model, net, x = pair()
    assert isinstance(net, Net) and repr(net) == repr(model) and type(net).__name__ == "Net"
    assert [id(p) for p in net.parameters()] == [id(p) for p in model.parameters()]
    assert list(net.state_dict()) == list(model.state_dict())
    assert net.eval() is net and not model.training and not net.drop.training
    close(net(x), model(x))
    assert model.calls.item() == net.calls.item() == 2
    model.train()
    assert net.training and (net(x).detach().numpy() != net(x).detach().numpy()).any()  # dropout
    net.eval().scale = 5.0
    assert model.scale == 5.0
    close(net(x), model(x))
    model.last = nn.Linear(8, 4)
    assert net(x).shape == (8, 4)
    net.load_state_dict({k: v * 0 for k, v in net.state_dict().items()})
    assert not net(x).detach().numpy().any() and not model.last.weight.detach().numpy().any()


def test_modes_through_either_form_find_the_programs_again() -> None:
    model, net, x = pair()
    net(x), net.eval(), net(x)
    known = len(net.programs)
    model.train(), net(x), model.eval(), net(x), net.train(), net(x)
    assert len(net.programs) == known == 2


def test_it_trains_with_the_loss_and_the_optimizer_outside() -> None:
    def losses(compiled: bool) -> list[float]:
        model, net, _ = pair()
        net = net if compiled else model
        optimizer = optim.Adam(net.parameters(), 1e-2)
        found = []
        for seed in range(6):
            x, y = batch(16, seed)
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-5)


def test_it_stands_in_other_networks_and_in_compiled_steps() -> None:
    model, net, x = pair()
    model.eval()
    whole = nn.Sequential(net, nn.ReLU())
    close(whole(x), model(x).relu())
    assert next(name for name, _ in whole.named_parameters()) == "0.first.weight"
    optimizer = optim.SGD(net.parameters(), 0.1)

    @P.compile
    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = whole(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    before = step(x).item()
    assert [step(x).item() for _ in range(20)][-1] < before
    with pytest.raises(Exception, match=r"Sequential\.0\.first|Net\.first"):
        whole(P.rand(8, 4))


def test_hooks_of_the_model_run_and_see_the_same_numbers() -> None:
    model, net, x = pair()
    model.eval()
    model.first.register_forward_hook(lambda module, inputs, output: output * 3)
    close(net(x), model(x))


def test_copies_and_pickles_compile_anew() -> None:
    model, net, x = pair()
    model.eval()
    net(x), model.twice(x)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert isinstance(other, Net) and not other.programs and other.first.weight is not net.first.weight
        close(other(x), net(x))
        assert len(other.programs) == 1
    shallow = copy.copy(net)
    assert shallow.first is net.first and not shallow.programs
    for plain in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(plain) is Net
        close(plain.twice(x), model(x) * 2)
    function = P.compile(model.forward)
    function(x)
    again = copy.deepcopy(function)
    close(again(x), model(x))


def test_compiling_twice_is_compiling_once_with_other_options() -> None:
    model, net, x = pair()
    again = P.compile(net.eval(), disable_passes=["fusion"])
    close(again(x), model(x))
    assert again.function is not net.function and len(again.kernels(measure=False)) >= len(again.graph.symbols) // 4


def test_watched_layers_of_a_network() -> None:
    model, _, x = pair()
    net = P.compile(model.eval(), capture=["first"])
    out = net(x)
    close(net.captured["first"]["output"], model.first(x))
    close(out, model(x))


def test_a_compiled_method_belongs_to_each_object() -> None:
    (one, _, x), (two, _, _) = pair(0), pair(1)
    for model in (one.eval(), two.eval()):
        for plus in (0.0, 1.0):
            close(model.twice(x, plus=plus), model(x) * 2 + plus)
    assert one.twice is one.twice and one.twice is not two.twice
    assert len(one.twice.programs) == 2 and Net.twice.__name__ == "twice" and not Net.twice.programs
    one.twice(x).sum().backward()
    assert one.first.weight.grad is not None and two.first.weight.grad is None
    assert one.learn.keep_grads


def test_the_parts_are_shown() -> None:
    _, net, x = pair()
    net(x)
    assert "first.weight" in str(net.graph) and len(net.kernels(measure=False)) > 2
    with pytest.raises(AttributeError, match="no attribute 'kernel'"):
        _ = net.kernel


@pytest.mark.parametrize("clear", [True, False], ids=["after zero_grad", "gradients used up"])
def test_after_a_compiled_step_a_network_converts(clear: bool) -> None:
    model, _, x = pair()
    optimizer = optim.Adam(model.parameters())

    @P.compile
    def step(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    step(x)
    if clear:
        model.zero_grad()
    weight = model.first.weight.detach().numpy().copy()
    model.double()
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float64)} == {b.dtype for b in model.buffers()}
    np.testing.assert_array_equal(model.first.weight.detach().numpy(), weight.astype(np.float64))
    assert model(x.double()).dtype == np.float64
    model.to(P.float32)
    assert model.first.weight.dtype == np.float32 == model(x).dtype
    step(x)


def test_an_eager_backward_after_a_compiled_step_asks_for_zero_grad_before_it_adds_anything() -> None:
    model, _, x = pair()
    used = P.compile(lambda x: train(x))
    optimizer = optim.SGD(list(model.last.parameters()), 0.1)

    def train(x: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = model.last(model.first(x).detach()).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    used(x)
    with pytest.raises(GradientError, match=r"zero_grad\(\) first"):
        model(x).sum().backward()
    assert model.first.weight.grad is None and model.first.bias.grad is None
    model.zero_grad(set_to_none=False)
    assert not model.last.weight.grad.numpy().any()
    model(x).sum().backward()
    assert model.first.weight.grad.numpy().any()
