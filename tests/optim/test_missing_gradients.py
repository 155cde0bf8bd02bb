"""Parameters without a gradient, which an optimizer leaves alone, in compiled steps as in eager ones."""

from __future__ import annotations

import numpy as np
import pytest
from heads import COURSES, OPTIMIZERS, Training

import pellucid as P
from pellucid import nn, optim
from pellucid.compiler import step as step_module


@pytest.mark.filterwarnings("ignore:.*has been compiled")
@pytest.mark.parametrize("course", COURSES)
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_compiled_steps_are_the_eager_ones(name, options, course):
    eager, compiled = Training(P, name, options), Training(P, name, options, P.compile)
    # Muon's iteration magnifies the last bit of a gradient.
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if name == "Muon" else {"rtol": 1e-4, "atol": 1e-6}
    for a, b in zip(eager.run(COURSES[course]), compiled.run(COURSES[course]), strict=True):
        np.testing.assert_allclose(b, a, **tolerance)
    for a, b in zip(eager.state(), compiled.state(), strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_allclose(b[key], a[key], err_msg=key, **tolerance)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_plain_tensor_frozen_midway_stays(compiled):
    """It is no Parameter, which would tell the compiled step by itself."""
    w, v = P.ones(3).requires_grad_(), P.ones(3).requires_grad_()
    optimizer = optim.Adam([w, v], lr=0.1)

    def step(x):
        optimizer.zero_grad()
        loss = (w * v * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    run = P.compile(step) if compiled else step
    run(P.ones(3))
    w.requires_grad_(False)
    kept = w.tolist()
    run(P.ones(3))
    run(P.ones(3))
    assert w.tolist() == kept
    w.requires_grad = True
    run(P.ones(3))
    assert w.tolist() != kept
    assert [optimizer.state[p]["step"].item() for p in (w, v)] == [2, 4]


def test_freezing_what_a_step_reads_with_the_tape_off_is_not_recorded_again(monkeypatch):
    w, recordings, real = P.ones(3), [], step_module.trace
    monkeypatch.setattr(step_module, "trace", lambda *a, **o: (recordings.append(1), real(*a, **o))[1])

    def step(x):
        with P.no_grad():
            return w * x

    run = P.compile(step)
    for wanted in (False, True, True, True):
        w.requires_grad_(wanted)
        run(P.ones(3))
    assert len(recordings) == 1


def test_random_numbers_are_drawn_once_where_a_step_is_recorded_anew():
    """The first recording finds that the heads need step counts of their own, and is dropped."""
    weights = []
    for compiled in (False, True):
        P.manual_seed(3)
        body, used, unused = nn.Linear(4, 8), nn.Linear(8, 2), nn.Linear(8, 2)
        drop = nn.Dropout(0.5)
        optimizer = optim.Adam([p for layer in (body, used, unused) for p in layer.parameters()], lr=0.1)

        def step(x, body=body, used=used, drop=drop, optimizer=optimizer):
            optimizer.zero_grad()
            loss = used(drop(body(x))).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = P.compile(step) if compiled else step
        for _ in range(3):
            run(P.ones(6, 4))
        weights.append(body.weight.detach().numpy())
    np.testing.assert_allclose(weights[1], weights[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_loading_separates_the_step_counts_that_a_compiled_step_had_shared(compiled):
    """Saved when only one of the two had moved: from there on they no longer share a count."""
    w, v = P.ones(3).requires_grad_(), P.ones(3).requires_grad_()
    optimizer = optim.Adam([w, v], lr=0.1)

    def step(x):
        optimizer.zero_grad()
        loss = (w * v * x).sum()
        loss.backward()
        optimizer.step()
        return loss

    run = P.compile(step) if compiled else step
    run(P.ones(3))
    saved = optimizer.state_dict()
    saved["state"][0]["step"] = P.tensor(7.0)
    optimizer.load_state_dict(saved)
    run(P.ones(3))
    assert [optimizer.state[p]["step"].item() for p in (w, v)] == [8, 2]


def test_dampening_that_begins_midway_counts_the_steps_before():
    """PyTorch asks whether there is a momentum: where there is, the step that follows is not the first."""
    moved, fresh = P.zeros(1).requires_grad_(), P.zeros(1).requires_grad_()
    optimizer = optim.SGD([moved, fresh], lr=1.0, momentum=0.9)
    moved.grad = P.ones(1)
    optimizer.step()
    optimizer.step()
    optimizer.param_groups[0]["dampening"] = 0.5
    fresh.grad = P.ones(1)
    optimizer.step()
    assert moved.item() == pytest.approx(-(1 + 1.9 + 0.9 * 1.9 + 0.5))
    assert fresh.item() == -1


@pytest.mark.parametrize("owner", ["network", "optimizer"])
def test_gradients_that_a_compiled_step_has_used_up_can_be_filled_with_zeros(owner):
    layer = nn.Linear(2, 1)
    optimizer = optim.SGD(layer.parameters(), lr=0.1)

    @P.compile
    def step(x):
        loss = layer(x).sum()
        loss.backward()
        optimizer.step()
        return loss

    step(P.ones(1, 2))
    (layer if owner == "network" else optimizer).zero_grad(set_to_none=False)
    assert layer.weight.grad.tolist() == [[0, 0]]
