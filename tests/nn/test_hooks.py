"""Hooks of Modules: forward, before it, and backward."""

import gc
import weakref

import numpy as np
import pytest

import pellucid as P
from pellucid import nn
from pellucid.errors import GradientError, ShapeError


class Pair(nn.Module):
    """Two inputs, two outputs, one input that may go unused."""

    def forward(self, a, b, use_b=True):
        return a * 2, (a * b if use_b else a * 3)


def test_forward_hooks_see_and_replace():
    layer, seen = nn.Linear(2, 2), []
    layer.register_forward_pre_hook(lambda m, inputs: seen.append(("before", m is layer, inputs[0].shape)))
    layer.register_forward_hook(lambda m, inputs, output: seen.append(("after", m is layer, output.shape)))
    layer(P.ones(3, 2))
    assert seen == [("before", True, (3, 2)), ("after", True, (3, 2))]
    with (
        layer.register_forward_pre_hook(lambda m, inputs: inputs[0] * 0),
        layer.register_forward_hook(lambda m, i, o: o + 1),
    ):
        assert np.allclose(layer(P.ones(1, 2)).detach(), layer.bias.detach() + 1)
    assert not np.allclose(layer(P.ones(1, 2)).detach(), layer.bias.detach() + 1)


def test_a_removed_hook_is_silent_and_others_stay():
    layer, seen = nn.Identity(), []
    first = layer.register_forward_hook(lambda *_: seen.append(1))
    layer.register_forward_hook(lambda *_: seen.append(2))
    layer(P.ones(1))
    first.remove()
    first.remove()  # twice is harmless
    layer(P.ones(1))
    assert seen == [1, 2, 2]


def test_a_backward_hook_sees_the_gradients_of_inputs_and_outputs():
    layer, seen = nn.Linear(3, 2, bias=False), []
    x = P.randn(4, 3, requires_grad=True)
    layer.register_full_backward_hook(lambda m, gi, go: seen.append((m, gi, go)))
    layer(x).sum().backward()
    ((module, (grad_input,), (grad_output,)),) = seen
    assert module is layer
    assert np.array_equal(grad_output.array, np.ones((4, 2)))
    assert np.allclose(grad_input.array, np.ones((4, 2)) @ layer.weight.array)
    assert np.array_equal(x.grad.array, grad_input.array)


def test_a_backward_hook_replaces_the_input_gradient():
    x = P.ones(2, requires_grad=True)
    layer = nn.Identity()
    layer.register_full_backward_hook(lambda m, gi, go: (gi[0] * 10,))
    layer.register_full_backward_hook(lambda m, gi, go: gi[0] + 1)  # sees what the first one gave; needs no tuple
    (layer(x) * 3).sum().backward()
    assert x.grad.tolist() == [31, 31]


def test_two_inputs_and_two_outputs_are_told_together():
    pair, seen = Pair(), []
    pair.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
    a, b = P.tensor([2.0], requires_grad=True), P.tensor([5.0], requires_grad=True)
    c, d = pair(a, b)
    (c + d * 10).sum().backward()
    ((gi, go),) = seen
    assert [g.item() for g in gi] == [52, 20] and [g.item() for g in go] == [1, 10]
    assert (a.grad.item(), b.grad.item()) == (52, 20)


def test_an_input_without_a_gradient_or_unused_is_none():
    pair, seen = Pair(), []
    pair.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))
    a, b = P.tensor([2.0], requires_grad=True), P.tensor([5.0], requires_grad=True)
    pair(a, b, False)[1].sum().backward()
    ((gi, go),) = seen
    assert gi[0].item() == 3 and gi[1:] == (None, None) and go[0] is None and go[1].item() == 1


def test_a_layer_whose_input_needs_no_gradient_is_told_too():
    layer, seen = nn.Linear(2, 1), []
    layer.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go[0].shape)))
    layer(P.ones(3, 2)).sum().backward()
    assert seen == [((None,), (3, 1))]
    assert layer.weight.grad is not None


def test_a_backward_hook_runs_in_every_walk_and_not_off_the_tape():
    layer, seen = nn.Identity(), []
    layer.register_full_backward_hook(lambda *_: seen.append(1))
    x = P.ones(2, requires_grad=True)
    y = layer(x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert len(seen) == 2
    with P.no_grad():
        layer(x)
    layer(P.ones(2))
    assert len(seen) == 2


def test_replacements_that_cannot_be_used_are_refused():
    pair = Pair()
    pair.register_full_backward_hook(lambda m, gi, go: gi)
    a, b = P.ones(1, requires_grad=True), P.ones(1, requires_grad=True)
    with pytest.raises(GradientError, match="replaces the gradients of 2 inputs; expected one"):
        pair(a, b)[1].sum().backward()
    layer = nn.Identity()
    layer.register_full_backward_hook(lambda m, gi, go: (P.ones(3),))
    with pytest.raises(ShapeError, match=r"backward hook of Identity gave \(3,\).*expected a Tensor \(2,\)"):
        layer(P.ones(2, requires_grad=True)).sum().backward()


def test_a_watched_call_leaves_nothing_behind():
    layer = nn.Linear(2, 2)
    layer.register_full_backward_hook(lambda *_: None)
    x = P.ones(2, 2, requires_grad=True)
    y = layer(x).sum()
    y.backward()
    gone = weakref.ref(y)
    gc.disable()
    try:
        del y
        assert gone() is None
    finally:
        gc.enable()
