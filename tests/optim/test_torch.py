"""Trajectories and schedules beside PyTorch's own (on demand: `-m torch`)."""

from __future__ import annotations

import numpy as np
import pytest
from heads import COURSES, OPTIMIZERS, Training

import pellucid
from pellucid import optim
from pellucid.optim import lr_scheduler

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

SHAPES = [(8, 5), (8,), (3, 8), (3,)]
STEPS = 100

CASES = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.05, "momentum": 0.9}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}),
    ("Adam", {"lr": 0.003, "betas": (0.5, 0.9), "eps": 1e-3, "maximize": True}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "weight_decay": 0.2, "amsgrad": True}),
    ("RMSprop", {"lr": 0.003}),
    ("RMSprop", {"lr": 0.001, "momentum": 0.9, "weight_decay": 0.01, "alpha": 0.9}),
    ("RMSprop", {"lr": 0.001, "centered": True, "eps": 1e-4}),
    ("Adagrad", {"lr": 0.02}),  # at 0.05 PyTorch itself leaves its own float64 trajectory by 8e-5
    ("Adagrad", {"lr": 0.05, "lr_decay": 0.01, "weight_decay": 0.01, "initial_accumulator_value": 0.1}),
]  # fmt: skip


def both(seed=0, shapes=SHAPES):
    random = np.random.default_rng(seed)
    arrays = [random.standard_normal(shape).astype(np.float32) * 0.5 for shape in shapes]
    return [pellucid.tensor(a).requires_grad_() for a in arrays], [torch.tensor(a, requires_grad=True) for a in arrays]


def losses(params):
    """A small network's loss, the same expression in both libraries."""
    random = np.random.default_rng(7)
    x, y = random.standard_normal((16, 5)).astype(np.float32), random.standard_normal((16, 3)).astype(np.float32)
    lib = torch if isinstance(params[0], torch.Tensor) else pellucid
    w1, b1, w2, b2 = params
    return (((lib.tensor(x) @ w1.T + b1).tanh() @ w2.T + b2 - lib.tensor(y)) ** 2).mean()


def train(optimizer, params, steps):
    sign = -1 if optimizer.param_groups[0]["maximize"] else 1  # what climbs is given the loss upside down
    for _ in range(steps):
        optimizer.zero_grad()
        (losses(params) * sign).backward()
        optimizer.step()


def assert_close(ours, theirs, tolerance=1e-5):
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.array, q.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_same_trajectory_on_a_network(name, options):
    ours, theirs = both()
    a, b = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    for _ in range(STEPS // 20):
        train(a, ours, 20)
        train(b, theirs, 20)
        assert_close(ours, theirs)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_same_defaults(name, options):
    ours, theirs = both()
    a, b = getattr(optim, name)(ours), getattr(torch.optim, name)(theirs)
    for option, value in a.param_groups[0].items():
        if option != "params":
            assert b.param_groups[0][option] == value, option


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop"])
def test_same_trajectory_where_gradients_come_and_go(name):
    """The third parameter has no gradient in every other step, the last none before step 50."""
    ours, theirs = both()
    a, b = getattr(optim, name)(ours, lr=0.01), getattr(torch.optim, name)(theirs, lr=0.01)
    random = np.random.default_rng(3)
    for step in range(STEPS):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            g = random.standard_normal(SHAPES[i]).astype(np.float32)
            absent = (i == 2 and step % 2) or (i == 3 and step < 50)
            p.grad, q.grad = (None, None) if absent else (pellucid.tensor(g), torch.tensor(g))
        a.step()
        b.step()
    assert_close(ours, theirs)


@pytest.mark.parametrize(
    "options", [{}, {"nesterov": False, "momentum": 0.8}, {"adjust_lr_fn": "match_rms_adamw", "lr": 0.01}]
)
def test_muon(options, monkeypatch):
    """PyTorch iterates in bfloat16; held to float32, as we are, it gives our trajectory."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    shapes = [(8, 5), (3, 8), (6, 6)]
    ours, theirs = both(shapes=shapes)
    a, b = optim.Muon(ours, **options), torch.optim.Muon(theirs, **options)
    random = np.random.default_rng(3)
    for _ in range(STEPS):
        for i, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            g = random.standard_normal(shapes[i]).astype(np.float32)
            p.grad, q.grad = pellucid.tensor(g), torch.tensor(g)
        a.step()
        b.step()
    assert_close(ours, theirs)


@pytest.mark.parametrize("direction", ["from PyTorch", "to PyTorch"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_states_cross_over(name, options, direction):
    ours, theirs = both()
    a, b = getattr(optim, name)(ours, **options), getattr(torch.optim, name)(theirs, **options)
    if direction == "from PyTorch":
        train(b, theirs, 10)
        for p, q in zip(ours, theirs, strict=True):
            p.assign(q.detach().numpy())
        saved = b.state_dict()
        saved["state"] = {
            i: {k: None if v is None else v.numpy() for k, v in kept.items()} for i, kept in saved["state"].items()
        }
        a.load_state_dict(saved)
    else:
        train(a, ours, 10)
        for p, q in zip(ours, theirs, strict=True):
            q.data.copy_(torch.tensor(p.array))
        saved = a.state_dict()
        saved["state"] = {i: {k: torch.tensor(v.array) for k, v in kept.items()} for i, kept in saved["state"].items()}
        full = {**b.param_groups[0], **saved["param_groups"][0]}
        b.load_state_dict({**saved, "param_groups": [full]})
    train(a, ours, 20)
    train(b, theirs, 20)
    assert_close(ours, theirs)


# ---- schedules: the same floats, not merely close ones ---------------------------------------------------------------

SCHEDULES = [
    ("StepLR", {"step_size": 7, "gamma": 0.3}),
    ("MultiStepLR", {"milestones": [3, 10, 10, 40], "gamma": 0.3}),
    ("ExponentialLR", {"gamma": 0.97}),
    ("CosineAnnealingLR", {"T_max": 60}),
    ("CosineAnnealingLR", {"T_max": 13, "eta_min": 0.001}),
    ("LinearLR", {}),
    ("LinearLR", {"start_factor": 0.01, "end_factor": 0.9, "total_iters": 33}),
    ("LambdaLR", {"lr_lambda": lambda step: 0.95**step}),
    ("LambdaLR", {"lr_lambda": [lambda step: 1 / (1 + step), lambda step: 0.9**step]}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 100}),
    ("OneCycleLR", {"max_lr": [0.5, 0.2], "epochs": 10, "steps_per_epoch": 10, "three_phase": True, "pct_start": 0.25}),
    ("OneCycleLR", {"max_lr": 0.5, "total_steps": 120, "anneal_strategy": "linear", "cycle_momentum": False, "div_factor": 10.0}),
]  # fmt: skip


def two_groups(lib_optim, params, name="SGD", **options):
    return getattr(lib_optim, name)([{"params": params[:2]}, {"params": params[2:], "lr": 0.03}], lr=0.1, **options)


def shown(optimizer):
    return [
        {k: v for k, v in g.items() if k in ("lr", "momentum", "betas", "initial_lr")} for g in optimizer.param_groups
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["SGD", "Adam"])
@pytest.mark.parametrize(("schedule", "options"), SCHEDULES)
def test_schedule_values_are_equal(name, schedule, options):
    ours, theirs = both()
    extra = {"momentum": 0.9} if name == "SGD" else {}
    a, b = two_groups(optim, ours, name, **extra), two_groups(torch.optim, theirs, name, **extra)
    mine = getattr(lr_scheduler, schedule)(a, **options)
    yours = getattr(torch.optim.lr_scheduler, schedule)(b, **options)
    for step in range(STEPS):
        assert shown(a) == shown(b), step
        assert mine.get_last_lr() == yours.get_last_lr()
        mine.step()
        yours.step()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "second", ["CosineAnnealingLR", "StepLR", "ExponentialLR", "MultiStepLR", "LinearLR", "LambdaLR"]
)
def test_sequences_are_equal(second):
    ours, theirs = both()
    a, b = two_groups(optim, ours), two_groups(torch.optim, theirs)
    options = {"CosineAnnealingLR": {"T_max": 50}, "StepLR": {"step_size": 5}, "ExponentialLR": {"gamma": 0.9},
               "MultiStepLR": {"milestones": [4, 30]}, "LinearLR": {},
               "LambdaLR": {"lr_lambda": lambda t: 1 / (t + 1)}}[second]  # fmt: skip
    made = []
    for optimizer, lib in ((a, lr_scheduler), (b, torch.optim.lr_scheduler)):
        parts = [lib.LinearLR(optimizer, start_factor=0.1, total_iters=5), getattr(lib, second)(optimizer, **options),
                 lib.ExponentialLR(optimizer, gamma=0.9)]  # fmt: skip
        made.append(lib.SequentialLR(optimizer, parts, milestones=[5, 60]))
    for step in range(STEPS):
        assert shown(a) == shown(b), step
        assert made[0].get_last_lr() == made[1].get_last_lr()
        for schedule in made:
            schedule.step()


@pytest.mark.filterwarnings("ignore")
def test_two_schedules_on_one_optimizer_are_equal():
    ours, theirs = both()
    a, b = two_groups(optim, ours), two_groups(torch.optim, theirs)
    made = []
    for optimizer, lib in ((a, lr_scheduler), (b, torch.optim.lr_scheduler)):
        made += [lib.LinearLR(optimizer, total_iters=10), lib.CosineAnnealingLR(optimizer, T_max=80)]
    for step in range(STEPS):
        assert shown(a) == shown(b), step
        for schedule in made:
            schedule.step()


@pytest.mark.parametrize("options", [
    {}, {"mode": "max", "patience": 2, "factor": 0.5, "cooldown": 3},
    {"threshold_mode": "abs", "threshold": 0.05, "patience": 1, "min_lr": 0.001},
    {"mode": "max", "threshold_mode": "abs", "patience": 0, "min_lr": [0.01, 0.001]},
])  # fmt: skip
def test_plateau_is_equal(options):
    ours, theirs = both()
    a, b = two_groups(optim, ours), two_groups(torch.optim, theirs)
    mine = lr_scheduler.ReduceLROnPlateau(a, **options)
    yours = torch.optim.lr_scheduler.ReduceLROnPlateau(b, **options)
    random = np.random.default_rng(0)
    for step in range(STEPS):
        metric = float(np.exp(-step / 20) + 0.1 * random.standard_normal())
        mine.step(metric)
        yours.step(metric)
        assert shown(a) == shown(b), step
        assert (mine.best, mine.num_bad_epochs) == (yours.best, yours.num_bad_epochs)


def test_default_collate_gives_the_same_dtypes():
    from pellucid.utils.data import default_collate

    examples = [(np.float32(1), 1.5, 2, True, "a", {"x": np.zeros(2, np.float32)}) for _ in range(3)]
    ours, theirs = default_collate(examples), torch.utils.data.default_collate(examples)
    for a, b in zip(ours[:4], theirs[:4], strict=True):
        assert (str(a.dtype), a.shape) == (str(b.dtype).removeprefix("torch."), tuple(b.shape))
    assert ours[4] == list(theirs[4])
    assert ours[5]["x"].shape == tuple(theirs[5]["x"].shape)


# ---- gradients that come and go ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("course", COURSES)
@pytest.mark.parametrize(("name", "options"), OPTIMIZERS)
def test_missing_gradients_are_left_alone_as_in_pytorch(name, options, course, monkeypatch):
    """Losses, weights, and what is kept for each parameter; its step count too, which the rule depends on."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    ours, theirs = Training(pellucid, name, options), Training(torch, name, options)
    for a, b in zip(ours.run(COURSES[course]), theirs.run(COURSES[course]), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for a, b in zip(ours.state(), theirs.state(), strict=True):
        for key in b:
            np.testing.assert_allclose(a[key], b[key], rtol=1e-4, atol=1e-5, err_msg=key)
