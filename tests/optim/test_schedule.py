"""Schedules against their closed formulas, resuming, and what they refuse. Equality with PyTorch: `test_torch.py`."""

from __future__ import annotations

import json
import math

import pytest

import pellucid
from pellucid import optim
from pellucid.errors import OptionError, StateError
from pellucid.optim import lr_scheduler
from pellucid.optim.lr_scheduler import (
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)


def sgd(lr=0.1, **options):
    return optim.SGD([pellucid.zeros(2)], lr=lr, **options)


def rates(schedule, steps):
    found = []
    for _ in range(steps):
        found.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.step()
    return found


CASES = [
    (lambda o: StepLR(o, 4, gamma=0.5), lambda t: 0.1 * 0.5 ** (t // 4)),
    (lambda o: MultiStepLR(o, [3, 7], gamma=0.5), lambda t: 0.1 * 0.5 ** ((t >= 3) + (t >= 7))),
    (lambda o: ExponentialLR(o, 0.9), lambda t: 0.1 * 0.9**t),
    (lambda o: CosineAnnealingLR(o, 20, eta_min=0.01), lambda t: 0.01 + 0.09 * (1 + math.cos(math.pi * t / 20)) / 2),
    (lambda o: LinearLR(o, start_factor=0.1, total_iters=8), lambda t: 0.1 * (0.1 + 0.9 * min(t, 8) / 8)),
    (lambda o: LambdaLR(o, lambda t: 1 / (1 + t)), lambda t: 0.1 / (1 + t)),
    (lambda o: SequentialLR(o, [LinearLR(o, 0.1, total_iters=5), CosineAnnealingLR(o, 40)], [5]),
     lambda t: 0.1 * (0.1 + 0.9 * t / 5) if t < 5 else 0.05 * (1 + math.cos(math.pi * (t - 5) / 40))),
]  # fmt: skip


@pytest.mark.parametrize(("build", "formula"), CASES)
def test_values(build, formula):
    assert rates(build(sgd()), 50) == pytest.approx([formula(t) for t in range(50)], abs=1e-12)


def test_one_cycle_rises_falls_and_turns_momentum_round():
    optimizer = optim.Adam([pellucid.zeros(2)])
    schedule = OneCycleLR(optimizer, max_lr=0.4, total_steps=101, pct_start=0.3)
    group = optimizer.param_groups[0]
    seen, betas = [], []
    for _ in range(101):
        seen.append(group["lr"])
        betas.append(group["betas"][0])
        schedule.step() if len(seen) < 101 else None
    top = max(range(101), key=lambda t: seen[t])
    assert top in (29, 30)
    assert seen[0] == pytest.approx(0.4 / 25)
    assert seen[-1] == pytest.approx(0.4 / 25 / 1e4)
    assert seen[top] == pytest.approx(0.4, rel=1e-2)
    assert (betas[0], betas[-1]) == pytest.approx((0.95, 0.95))
    assert min(betas) == pytest.approx(0.85, abs=1e-2)
    assert group.scalars["beta1"].item() == pytest.approx(group["betas"][0])
    schedule.step()
    with pytest.raises(OptionError, match="OneCycleLR: step 102 of a cycle of total_steps=101"):
        schedule.step()


def test_the_rate_reaches_the_update():
    p = pellucid.tensor([1.0]).requires_grad_()
    optimizer = optim.SGD([p], lr=0.5)
    schedule = ExponentialLR(optimizer, gamma=0.5)
    p.grad = pellucid.tensor([1.0])
    for expected in (0.5, 0.25, 0.125):
        optimizer.step()
        schedule.step()
        assert p.item() == expected


def test_plateau_waits_reduces_and_rests():
    schedule = ReduceLROnPlateau(sgd(1.0), factor=0.5, patience=2, cooldown=2, threshold=0.0)
    found = []
    for loss in [3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1]:
        schedule.step(pellucid.tensor(float(loss)))
        found.append(schedule.get_last_lr()[0])
    assert found == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert schedule.best == 1.0


def test_plateau_takes_nan_for_no_improvement():
    schedule = ReduceLROnPlateau(sgd(1.0), patience=0)
    schedule.step(float("nan"))
    assert schedule.get_last_lr() == [0.1]


@pytest.mark.parametrize("build", [
    *(build for build, _ in CASES),
    lambda o: OneCycleLR(o, max_lr=0.5, total_steps=60),
])  # fmt: skip
def test_resuming_gives_the_same_floats(build):
    """Through JSON, into a schedule made anew over an optimizer made anew."""
    optimizer = sgd(momentum=0.9)
    schedule = build(optimizer)
    rates(schedule, 17)
    saved = json.loads(json.dumps(schedule.state_dict()))
    options = json.loads(json.dumps(optimizer.state_dict()["param_groups"]))
    expected = rates(schedule, 30)

    again = sgd(lr=0.7, momentum=0.9)
    resumed = build(again)
    again.load_state_dict({"state": {}, "param_groups": options})
    resumed.load_state_dict(saved)
    assert resumed.last_epoch == 17
    assert rates(resumed, 30) == expected


def test_plateau_resumes_through_json():
    schedule = ReduceLROnPlateau(sgd(), patience=1)
    saved = json.loads(json.dumps(schedule.state_dict()))  # `best` is infinity here
    other = ReduceLROnPlateau(sgd(), patience=5)
    other.load_state_dict(saved)
    assert (other.best, other.patience) == (math.inf, 1)


def test_a_schedule_of_your_own():
    class Square(LRScheduler):
        def get_lr(self):
            return [base / (1 + self.last_epoch) ** 2 for base in self.base_lrs]

    assert rates(Square(sgd(1.0)), 3) == [1.0, 0.25, 1 / 9]


def test_another_class_s_state_is_refused():
    with pytest.raises(StateError, match=r"StepLR\.load_state_dict"):
        StepLR(sgd(), 3).load_state_dict(ExponentialLR(sgd(), 0.9).state_dict())


def other_optimizer():
    return StepLR(sgd(), 3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda o: StepLR(o, 0), r"StepLR: step_size is 0; expected a whole number of at least 1"),
        (lambda o: StepLR(o, 2.5), r"StepLR: step_size is 2.5"),
        (lambda o: StepLR(o, 3, gamma=0), r"StepLR: gamma is 0; expected a number above 0"),
        (lambda o: StepLR("sgd", 3), r"StepLR: optimizer is a str; expected one of pellucid.optim"),
        (lambda o: StepLR(o, 3, last_epoch=5), r"StepLR: last_epoch is 5, but group 0 of the optimizer has no 'initial_lr'"),
        (lambda o: MultiStepLR(o, [30, 10]), r"MultiStepLR: milestones is \[30, 10\]; expected steps in rising order; write \[10, 30\]"),
        (lambda o: MultiStepLR(o, [-1]), r"MultiStepLR: milestones\[0\] is -1"),
        (lambda o: ExponentialLR(o, float("inf")), r"ExponentialLR: gamma is inf"),
        (lambda o: CosineAnnealingLR(o, T_max=0), r"CosineAnnealingLR: T_max is 0"),
        (lambda o: CosineAnnealingLR(o, 10, eta_min=-1), r"CosineAnnealingLR: eta_min is -1"),
        (lambda o: LinearLR(o, start_factor=0), r"LinearLR: start_factor is 0; expected a number above 0, at most 1"),
        (lambda o: LinearLR(o, total_iters=0), r"LinearLR: total_iters is 0"),
        (lambda o: LambdaLR(o, 0.9), r"LambdaLR: lr_lambda is 0.9; expected one function"),
        (lambda o: LambdaLR(o, [abs, abs]), r"LambdaLR: .*a list of 1"),
        (lambda o: OneCycleLR(o, 0.1), r"OneCycleLR: neither total_steps nor both epochs and steps_per_epoch"),
        (lambda o: OneCycleLR(o, 0.1, total_steps=-3), r"OneCycleLR: total_steps is -3"),
        (lambda o: OneCycleLR(o, [0.1, 0.2], 10), r"OneCycleLR: max_lr has 2 values"),
        (lambda o: OneCycleLR(o, 0.1, 10, pct_start=2.0), r"OneCycleLR: pct_start is 2.0"),
        (lambda o: OneCycleLR(o, 0.1, 10, anneal_strategy="cosine"), r"anneal_strategy is 'cosine'; expected 'cos' or 'linear'"),
        (lambda o: OneCycleLR(optim.Adagrad([pellucid.zeros(1)]), 0.1, 10), r"Adagrad has neither momentum nor betas"),
        (lambda o: ReduceLROnPlateau(o, "mni"), r"ReduceLROnPlateau: mode is 'mni'; expected 'min' or 'max'.*mean 'min'\?"),
        (lambda o: ReduceLROnPlateau(o, factor=1.0), r"ReduceLROnPlateau: factor is 1.0"),
        (lambda o: ReduceLROnPlateau(o, patience=-1), r"ReduceLROnPlateau: patience is -1"),
        (lambda o: SequentialLR(o, [], []), r"SequentialLR: schedulers is empty"),
        (lambda o: SequentialLR(o, [StepLR(o, 3)], [4]), r"1 schedulers with 1 milestones"),
        (lambda o: SequentialLR(o, [ReduceLROnPlateau(o)], []), r"schedulers\[0\] is a ReduceLROnPlateau"),
        (lambda o: SequentialLR(o, [other_optimizer()], []), r"schedulers\[0\] \(StepLR\) belongs to another optimizer"),
        (lambda o: rates(LambdaLR(o, lambda t: 1 - t), 3), r"SGD: lr is -0.1"),
    ],
)  # fmt: skip
def test_refused(build, message):
    with pytest.raises(OptionError, match=message):
        build(sgd())


def test_importable_under_pytorchs_name():
    assert optim.lr_scheduler is lr_scheduler
    assert set(lr_scheduler.__all__) <= set(dir(lr_scheduler))


def test_looking_ahead_names_what_changes_and_moves_the_schedule():
    optimizer = optim.AdamW([pellucid.ones(2, 2).requires_grad_()], lr=0.1, weight_decay=0.5)
    schedule = ExponentialLR(optimizer, 0.5)
    held = optimizer.param_groups[0].scalars
    ahead = lr_scheduler.look_ahead([schedule], 3)
    assert {name for name, t in held.items() if t in ahead} == {"minus_lr", "keep"}  # not the betas
    assert ahead[held["minus_lr"]].tolist() == pytest.approx([-0.1, -0.05, -0.025])
    assert schedule.last_epoch == 3 and optimizer.param_groups[0]["lr"] == 0.0125
    assert held["minus_lr"].item() == pytest.approx(-0.0125)
    constant = lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    assert lr_scheduler.look_ahead([constant], 4) == {}


def test_looking_ahead_at_a_metric_is_refused():
    optimizer = optim.SGD([pellucid.ones(2).requires_grad_()], lr=0.1)
    with pytest.raises(OptionError, match="look_ahead: got a ReduceLROnPlateau; expected .* step this one yourself"):
        lr_scheduler.look_ahead([lr_scheduler.ReduceLROnPlateau(optimizer)], 2)


@pytest.mark.parametrize(
    "make", [lambda w, **o: optim.SGD(w, lr=0.05, **o), lambda w, **o: optim.RMSprop(w, lr=0.05, **o)]
)
def test_looking_ahead_over_another_update_rule_is_refused_and_changes_nothing(make):
    optimizer = make([pellucid.ones(2).requires_grad_()], momentum=0.9)
    schedule = OneCycleLR(optimizer, 0.05, total_steps=16, pct_start=0.5, base_momentum=0.0, max_momentum=0.9)
    group, state = optimizer.param_groups[0], schedule.state_dict()
    held = {name: t.item() for name, t in group.scalars.items()}
    options = {name: group[name] for name in ("lr", "momentum")}
    with pytest.raises(OptionError, match="look_ahead: momentum becomes 0 .* within 12 steps; .* in a loop"):
        lr_scheduler.look_ahead([schedule], 12)
    assert schedule.state_dict() == state and {name: group[name] for name in options} == options
    assert {name: t.item() for name, t in group.scalars.items()} == held
    assert lr_scheduler.look_ahead(iter([schedule]), 4) and schedule.last_epoch == 4  # any iterable
