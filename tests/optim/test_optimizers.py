"""Update rules against small NumPy formulas in float64, written from the papers and not from the code under test."""

from __future__ import annotations

import numpy as np
import pytest

import pellucid
from pellucid import Tensor, optim
from pellucid.errors import OptionError, StateError

SHAPES = [(4, 3), (3,), ()]
STEPS = 30


def parameters(dtype=np.float64, seed=0):
    random = np.random.default_rng(seed)
    return [pellucid.tensor(np.asarray(random.standard_normal(shape), dtype)).requires_grad_() for shape in SHAPES]


def gradients(step, dtype=np.float64):
    random = np.random.default_rng(1000 + step)
    return [np.asarray(random.standard_normal(shape), dtype) for shape in SHAPES]


def run(optimizer, params, steps=STEPS, start=0):
    for step in range(start, start + steps):
        for p, g in zip(params, gradients(step, params[0].dtype), strict=True):
            p.grad = pellucid.tensor(g)
        optimizer.step()
    return [p.array for p in params]


def by_formula(rule, steps=STEPS):
    """Each parameter after `steps` of `rule(p, g, memory, t) -> p`, in float64."""
    ends = []
    for i, p in enumerate(parameters()):
        value, memory = p.array, {}
        for step in range(steps):
            value = rule(value, gradients(step)[i], memory, step + 1)
        ends.append(value)
    return ends


def sgd(lr=0.05, momentum=0.0, dampening=0.0, decay=0.0, nesterov=False):
    def rule(p, g, memory, t):
        g = g + decay * p
        if momentum:
            memory["b"] = g if t == 1 else momentum * memory["b"] + (1 - dampening) * g
            g = g + momentum * memory["b"] if nesterov else memory["b"]
        return p - lr * g

    return rule


def adam(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0, decoupled=False, amsgrad=False):
    def rule(p, g, memory, t):
        if decoupled:
            p = p * (1 - lr * decay)
        else:
            g = g + decay * p
        m = memory["m"] = beta1 * memory.get("m", 0) + (1 - beta1) * g
        v = memory["v"] = beta2 * memory.get("v", 0) + (1 - beta2) * g**2
        if amsgrad:
            v = memory["top"] = np.maximum(memory.get("top", 0), v)
        return p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)

    return rule


def rmsprop(lr=0.01, alpha=0.99, eps=1e-8, decay=0.0, momentum=0.0, centered=False):
    def rule(p, g, memory, t):
        g = g + decay * p
        v = memory["v"] = alpha * memory.get("v", 0) + (1 - alpha) * g**2
        if centered:
            memory["a"] = alpha * memory.get("a", 0) + (1 - alpha) * g
            v = v - memory["a"] ** 2
        move = g / (np.sqrt(v) + eps)
        move = memory["b"] = momentum * memory.get("b", 0) + move
        return p - lr * move

    return rule


def adagrad(lr=0.05, lr_decay=0.0, decay=0.0, start=0.0, eps=1e-10):
    def rule(p, g, memory, t):
        g = g + decay * p
        memory["s"] = memory.get("s", start) + g**2
        return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(memory["s"]) + eps)

    return rule


CASES = [
    (optim.SGD, {"lr": 0.05}, sgd()),
    (optim.SGD, {"lr": 0.05, "momentum": 0.9}, sgd(momentum=0.9)),
    (optim.SGD, {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}, sgd(momentum=0.9, dampening=0.3)),
    (optim.SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1},
     sgd(momentum=0.8, nesterov=True, decay=0.1)),
    (optim.Adam, {"lr": 0.01}, adam()),
    (optim.Adam, {"lr": 0.01, "betas": (0.0, 0.5), "eps": 0.1}, adam(beta1=0.0, beta2=0.5, eps=0.1)),
    (optim.Adam, {"lr": 0.01, "betas": (0.5, 0.0)}, adam(beta1=0.5, beta2=0.0)),
    (optim.Adam, {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}, adam(decay=0.1, amsgrad=True)),
    (optim.AdamW, {"lr": 0.01}, adam(decay=0.01, decoupled=True)),
    (optim.AdamW, {"lr": 0.01, "weight_decay": 0.0}, adam()),
    (optim.RMSprop, {"lr": 0.01}, rmsprop()),
    (optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1, "alpha": 0.9},
     rmsprop(momentum=0.5, decay=0.1, alpha=0.9)),
    (optim.RMSprop, {"lr": 0.01, "centered": True}, rmsprop(centered=True)),
    (optim.Adagrad, {"lr": 0.05}, adagrad()),
    (optim.Adagrad, {"lr": 0.05, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 0.01},
     adagrad(lr_decay=0.1, decay=0.1, start=0.5, eps=0.01)),
]  # fmt: skip
METHODS = [(cls, options) for cls, options, _ in CASES]


@pytest.mark.parametrize(("cls", "options", "rule"), CASES)
def test_the_rule_is_the_formula(cls, options, rule):
    params = parameters()
    for got, expected in zip(run(cls(params, **options), params), by_formula(rule), strict=True):
        # The step count is float32, everything else of a float64 group is float64. RMSprop's centred variance is nearly 0 in
        # its first step, which magnifies the rounding.
        np.testing.assert_allclose(got, expected, rtol=1e-6 if options.get("centered") else 1e-10, atol=1e-12)


@pytest.mark.parametrize(("cls", "options", "rule"), [case for case in CASES if not case[1].get("centered")])
def test_float32_stays_within_a_few_units_in_the_last_place(cls, options, rule):
    params = parameters(np.float32)
    for got, expected in zip(run(cls(params, **options), params), by_formula(rule), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=1e-5)


def test_bias_correction_keeps_its_digits_in_the_first_step():
    """1 - 0.999 computed in float32 is wrong from the fifth digit on; the first Adam step must be lr x sign(g) all the same."""
    p = pellucid.tensor([1.0, -2.0]).requires_grad_()
    optimizer = optim.Adam([p], lr=0.1, eps=0.0)
    p.grad = pellucid.tensor([0.3, -0.7])
    optimizer.step()
    np.testing.assert_allclose(p.array, [0.9, -1.9], rtol=3e-7)


@pytest.mark.parametrize("cls", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad])
def test_maximize_climbs(cls):
    down, up = parameters(), parameters()
    descending, climbing = cls(down, lr=0.01), cls(up, lr=0.01, maximize=True)
    for p, q, g in zip(down, up, gradients(0), strict=True):
        p.grad, q.grad = pellucid.tensor(-g), pellucid.tensor(g)
    descending.step()
    climbing.step()
    for p, q in zip(down, up, strict=True):
        np.testing.assert_array_equal(p.array, q.array)


def test_centred_rmsprop_survives_a_constant_gradient():
    """Its variance is then 0, and a little less after rounding: the square root of that would be NaN."""
    p = pellucid.tensor(np.linspace(-1, 1, 101, dtype=np.float32)).requires_grad_()
    optimizer = optim.RMSprop([p], centered=True, alpha=0.5, eps=1e-3)
    p.grad = pellucid.tensor(np.linspace(0.1, 3, 101, dtype=np.float32))
    for _ in range(60):
        optimizer.step()
    assert np.isfinite(p.array).all()


# ---- Muon ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (1, 3)])
def test_muon_moves_along_the_singular_vectors(shape):
    """Its step has the gradient's singular vectors and singular values near 1; here they follow from the polynomial."""
    random = np.random.default_rng(0)
    w, g = random.standard_normal(shape), random.standard_normal(shape)
    p = pellucid.tensor(w).requires_grad_()
    p.grad = pellucid.tensor(g)
    optim.Muon([p], lr=0.1, weight_decay=0.2, momentum=0.9).step()
    u, values, vt = np.linalg.svd(g, full_matrices=False)
    values = values / np.linalg.norm(values)
    for _ in range(5):
        values = 3.4445 * values - 4.775 * values**3 + 2.0315 * values**5
    ratio = max(1, shape[0] / shape[1]) ** 0.5
    np.testing.assert_allclose(p.array, w * (1 - 0.1 * 0.2) - 0.1 * ratio * (u * values) @ vt, rtol=1e-9)


def test_muon_match_rms_adamw_scales_by_the_larger_side():
    moves = []
    for rule in ("original", "match_rms_adamw"):
        p = pellucid.zeros(4, 9).requires_grad_()
        p.grad = pellucid.tensor(np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32))
        optim.Muon([p], lr=0.1, adjust_lr_fn=rule).step()
        moves.append(p.array)
    np.testing.assert_allclose(moves[1], moves[0] * 0.2 * 3, rtol=1e-5)


def test_muon_wants_matrices():
    with pytest.raises(OptionError, match=r"Muon: parameter 1 \(bias\) has shape \(3,\).*second optimizer"):
        optim.Muon([("weight", pellucid.zeros(3, 2)), ("bias", pellucid.zeros(3))])


def test_muon_survives_a_zero_gradient():
    p = pellucid.ones(3, 2).requires_grad_()
    p.grad = pellucid.zeros(3, 2)
    optim.Muon([p], lr=0.1, weight_decay=0.0).step()
    np.testing.assert_array_equal(p.array, np.ones((3, 2)))


# ---- parameters without a gradient -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "options"), METHODS)
def test_a_parameter_without_a_gradient_is_left_alone_and_keeps_its_own_step_count(cls, options):
    """It joins after five steps of the others, and then moves as if it had just begun."""
    together, alone = parameters(), parameters()
    late = together[1]
    optimizer = cls(together, **options)
    for step in range(5):
        for p, g in zip(together, gradients(step), strict=True):
            p.grad = None if p is late else pellucid.tensor(g)
        optimizer.step()
    np.testing.assert_array_equal(late.array, alone[1].array)
    assert all(not t.array.any() or name == "sum" for name, t in optimizer.state[late].items())
    fresh = cls([alone[1]], **options)
    for step in range(3):
        for p, g in zip(together, gradients(step), strict=True):
            p.grad = pellucid.tensor(g)
        alone[1].grad = pellucid.tensor(gradients(step)[1])
        optimizer.step()
        fresh.step()
    np.testing.assert_array_equal(late.array, alone[1].array)


def test_nothing_happens_without_gradients():
    params = parameters()
    optimizer = optim.Adam(params)
    optimizer.step()
    assert optimizer.state[params[0]]["step"].item() == 0
    np.testing.assert_array_equal(params[0].array, parameters()[0].array)


def test_zero_grad_forgets_or_fills():
    params = parameters()
    optimizer = optim.SGD(params)
    params[0].grad = pellucid.ones(4, 3, dtype=pellucid.float64)
    optimizer.zero_grad(set_to_none=False)
    assert params[0].grad is not None
    assert not params[0].grad.array.any()
    assert params[1].grad is None
    optimizer.zero_grad()
    assert params[0].grad is None


# ---- state is Tensors, made in the constructor -------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "options"), METHODS)
def test_a_step_makes_no_new_state(cls, options):
    params = parameters()
    optimizer = cls(params, **options)
    before = {(p, name): t for p in params for name, t in optimizer.state[p].items()}
    scalars = dict(optimizer.param_groups[0].scalars)
    run(optimizer, params, 2)
    after = {(p, name): t for p in params for name, t in optimizer.state[p].items()}
    assert before.keys() == after.keys()
    assert all(after[key] is t for key, t in before.items())
    optimizer.param_groups[0]["lr"] = 0.5
    assert all(optimizer.param_groups[0].scalars[name] is t for name, t in scalars.items())
    assert all(isinstance(t, Tensor) for t in after.values())


def test_lr_reads_as_a_float_and_a_write_reaches_the_tensor():
    p = pellucid.tensor([1.0]).requires_grad_()
    optimizer = optim.SGD([p], lr=0.1)
    group = optimizer.param_groups[0]
    assert group["lr"] == 0.1  # not float32's 0.10000000149
    for write in (
        lambda: group.__setitem__("lr", 0.25),
        lambda: group.update(lr=0.25),
        lambda: group.update({"lr": 0.25}),
    ):
        group["lr"] = 0.1
        write()
        assert group["lr"] == 0.25
        assert group.scalars["minus_lr"].item() == -0.25
    group["lr"] = pellucid.tensor(0.5)
    assert group["lr"] == 0.5
    p.grad = pellucid.tensor([1.0])
    optimizer.step()
    assert p.item() == 0.5


def test_a_refused_write_changes_nothing():
    group = optim.SGD([pellucid.zeros(2)], lr=0.1).param_groups[0]
    with pytest.raises(OptionError, match="SGD: lr is -1"):
        group.update(momentum=0.5, lr=-1)
    assert (group["lr"], group["momentum"], group.scalars["momentum"].item()) == (0.1, 0, 0.0)


def test_momentum_switched_on_later_starts_from_nothing():
    params, always = parameters(), parameters()
    optimizer = optim.SGD(params, lr=0.1)
    optimizer.param_groups[0]["momentum"] = 0.9
    expected = run(optim.SGD(always, lr=0.1, momentum=0.9), always)
    for got, want in zip(run(optimizer, params), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_an_old_array_is_not_written_into():
    params = parameters()
    held = [p.array for p in params]
    copies = [a.copy() for a in held]
    run(optim.Adam(params), params, 3)
    for a, b in zip(held, copies, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_step_leaves_no_tape():
    params = parameters()
    optimizer = optim.Adam(params)
    run(optimizer, params, 2)
    assert all(p.is_leaf and p.requires_grad for p in params)
    assert not any(t.requires_grad for p in params for t in optimizer.state[p].values())


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_groups_have_their_own_options():
    a, b = pellucid.tensor([1.0]).requires_grad_(), pellucid.tensor([1.0]).requires_grad_()
    optimizer = optim.SGD([{"params": [a], "lr": 0.5, "name": "backbone"}, {"params": b}], lr=0.25)
    a.grad = b.grad = pellucid.tensor([1.0])
    optimizer.step()
    assert (a.item(), b.item()) == (0.5, 0.75)
    assert optimizer.param_groups[0]["name"] == "backbone"  # a key of the user's own
    c = pellucid.tensor([1.0]).requires_grad_()
    optimizer.add_param_group({"params": [c], "lr": 1.0})
    c.grad = pellucid.tensor([1.0])
    optimizer.step()
    assert (a.item(), b.item(), c.item()) == (0.0, 0.5, 0.0)


def test_closure_runs_with_the_tape_on():
    p = pellucid.tensor([3.0]).requires_grad_()
    optimizer = optim.SGD([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with pellucid.no_grad():
        assert optimizer.step(closure).item() == 9.0
    np.testing.assert_allclose(p.array, [2.4], rtol=1e-6)


def test_a_subclass_in_pytorchs_manner_works():
    class Sign(optim.Optimizer):
        def __init__(self, params, lr):
            super().__init__(params, {"lr": lr})

        @pellucid.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["seen"] = p.grad
                    p -= group["lr"] * p.grad.sign()

    p = pellucid.tensor([1.0, -1.0]).requires_grad_()
    optimizer = Sign([p], lr=0.5)
    (p * p).sum().backward()
    optimizer.step()
    assert p.tolist() == [0.5, -0.5]


@pytest.mark.parametrize(
    ("old", "new"), [("coefficients", "hyperparameters"), ("moments", "init_state"), ("counts", "counts_steps")]
)
def test_a_method_under_its_former_name_is_refused_with_the_new_one(old, new):
    """It would never be called, and the optimizer would run without state or numbers."""
    with pytest.raises(OptionError, match=rf"Mine\.{old}.*expected {new}"):
        type("Mine", (optim.Optimizer,), {old: lambda self, options: {}})
    type(
        "Own", (optim.Optimizer,), {old: lambda self, options: {}, "step": lambda self: None}
    )  # PyTorch's manner: its own affair


def test_repr_lists_the_options():
    text = repr(optim.SGD([("w", pellucid.zeros(2))], lr=0.1))
    assert text.startswith("SGD (\nParameter Group 0\n")
    assert "    lr: 0.1\n" in text
    assert "params" not in text


# ---- what is refused -------------------------------------------------------------------------------------------------

LEAF = pellucid.zeros(2).requires_grad_()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: optim.Adam([LEAF], lr=-1), r"Adam: lr is -1; expected a number of 0 or more; .*lr=0.001"),
        (lambda: optim.SGD([LEAF], lr=float("nan")), r"SGD: lr is nan"),
        (lambda: optim.SGD([LEAF], lr="0.1"), r"SGD: lr is '0.1'; expected a number"),
        (lambda: optim.SGD([LEAF], lr=True), r"SGD: lr is True"),
        (lambda: optim.AdamW([LEAF], betas=(0.9, 1.0)), r"AdamW: betas\[1\] is 1.0; expected .* not including, 1"),
        (lambda: optim.Adam([LEAF], betas=0.9), r"Adam: betas is 0.9; expected two numbers"),
        (lambda: optim.Adam([LEAF], eps=-1e-8), r"Adam: eps is -1e-08"),
        (lambda: optim.Adam([LEAF], amsgrad=1), r"Adam: amsgrad is 1; expected True or False"),
        (lambda: optim.SGD([LEAF], nesterov=True), r"SGD: nesterov=True with momentum=0"),
        (lambda: optim.RMSprop([LEAF], alpha=2), r"RMSprop: alpha is 2; expected a number from 0 to 1"),
        (lambda: optim.Adagrad([LEAF], lr_decay=-0.1), r"Adagrad: lr_decay is -0.1"),
        (lambda: optim.Muon([pellucid.zeros(2, 2)], ns_steps=0), r"Muon: ns_steps is 0; expected a whole number of at least 1"),
        (lambda: optim.Muon([pellucid.zeros(2, 2)], adjust_lr_fn="orginal"), r"adjust_lr_fn is 'orginal'.*mean 'original'\?"),
        (lambda: optim.SGD([]), r"SGD: params is empty"),
        (lambda: optim.SGD(iter([])), r"SGD: params is empty"),
        (lambda: optim.SGD(LEAF), r"SGD: params is one Tensor \(2,\).*SGD\(\[x\]\)"),
        (lambda: optim.SGD({"w": LEAF}), r"SGD: params is .*; expected Tensors or groups in a list"),
        (lambda: optim.SGD(3), r"SGD: params is 3 \(int\)"),
        (lambda: optim.SGD([np.zeros(2)]), r"SGD: parameter 0 is .*ndarray.*; expected a Tensor"),
        (lambda: optim.SGD([("w", LEAF * 2)]), r"SGD: parameter 0 \(w\) \(2,\) is the result of multiply; expected a leaf"),
        (lambda: optim.SGD([LEAF, LEAF]), r"SGD: parameter 1 \(2,\) comes twice"),
        (lambda: optim.SGD([{"params": [LEAF]}, {"params": [LEAF]}]), r"SGD: parameter 0 \(2,\) comes twice"),
        (lambda: optim.SGD([{"params": {LEAF}}]), r"a set, whose order changes"),
        (lambda: optim.SGD([{"lr": 0.1}]), r"SGD: a parameter group is .*; expected a dict with 'params'"),
        (lambda: optim.SGD([{"params": [LEAF], "weight_decy": 0.1}]), r"'weight_decy'.* Did you mean 'weight_decay'\?"),
    ],
)  # fmt: skip
def test_refused(build, message):
    with pytest.raises(OptionError, match=message):
        build()


def test_a_network_instead_of_its_parameters_is_named():
    class Network:
        def parameters(self):
            return [LEAF]

    with pytest.raises(OptionError, match=r"params is the network Network.*Adam\(model.parameters\(\)\)"):
        optim.Adam(Network())


# ---- saving and loading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cls", "options"), METHODS)
def test_loading_goes_on_bit_for_bit(cls, options):
    params = parameters(np.float32)
    optimizer = cls(params, **options)
    run(optimizer, params, 7)
    optimizer.param_groups[0]["lr"] = 0.02
    saved, weights = optimizer.state_dict(), [p.detach().clone() for p in params]
    expected = run(optimizer, params, 5, start=7)

    again = [w.clone().requires_grad_() for w in weights]
    resumed = cls(again, **{**options, "lr": 0.9})
    held = dict(resumed.state[again[0]].items())
    resumed.load_state_dict(saved)
    assert resumed.param_groups[0]["lr"] == 0.02
    assert all(resumed.state[again[0]][name] is t for name, t in held.items())
    for got, want in zip(run(resumed, again, 5, start=7), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def test_state_dict_is_a_snapshot_in_pytorchs_layout():
    params = parameters()
    optimizer = optim.Adam([("w", params[0]), ("b", params[1])])
    params[0].grad = pellucid.ones(4, 3, dtype=pellucid.float64)
    optimizer.step()
    saved = optimizer.state_dict()
    assert saved["param_groups"][0]["params"] == [0, 1]
    assert saved["param_groups"][0]["param_names"] == ["w", "b"]
    assert set(saved["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    assert (saved["state"][0]["step"].item(), saved["state"][1]["step"].item()) == (1.0, 0.0)
    optimizer.step()
    assert saved["state"][0]["step"].item() == 1.0


def test_loading_understands_json_and_arrays():
    """After a checkpoint: numbers of parameters as text, lists for tuples, arrays for Tensors."""
    params = parameters(np.float32)
    optimizer = optim.Adam(params, betas=(0.8, 0.9))
    run(optimizer, params, 3)
    saved = optimizer.state_dict()
    group = {**saved["param_groups"][0], "betas": [0.8, 0.9], "fused": None}
    state = {str(i): {name: t.numpy() for name, t in kept.items()} for i, kept in saved["state"].items()}
    other = optim.Adam(parameters(np.float32))
    other.load_state_dict({"state": state, "param_groups": [group]})
    assert other.param_groups[0]["betas"] == (0.8, 0.9)
    assert "fused" not in other.param_groups[0]
    assert other.state[other.param_groups[0]["params"][0]]["step"].item() == 3


def test_loading_a_fresh_state_starts_over():
    params = parameters()
    optimizer = optim.Adam(params)
    fresh = optimizer.state_dict()
    run(optimizer, params, 3)
    optimizer.load_state_dict({**fresh, "state": {}})
    assert optimizer.state[params[0]]["step"].item() == 0
    assert not optimizer.state[params[0]]["exp_avg"].array.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {"weight": pellucid.zeros(2)}, r"expected a dict with 'state' and 'param_groups'"),
        (lambda s: {**s, "param_groups": s["param_groups"] * 2}, r"groups hold \[3, 3\] parameters, this optimizer's hold \[3\]"),
        (lambda s: {**s, "state": {0: {"momentum_buffer": pellucid.zeros(4, 3)}}}, r"parameter 0 was saved with \['momentum_buffer'\]"),
        (lambda s: {**s, "state": {0: {**s["state"][0], "exp_avg": pellucid.zeros(3, 4)}}}, r"exp_avg of parameter 0 is \(3, 4\)"),
    ],
)  # fmt: skip
def test_a_state_that_does_not_fit_is_refused_whole(change, message):
    params = parameters()
    optimizer = optim.Adam(params)
    run(optimizer, params, 2)
    moment = optimizer.state[params[0]]["exp_avg"].array
    with pytest.raises(StateError, match=message):
        optimizer.load_state_dict(change(optimizer.state_dict()))
    assert optimizer.state[params[0]]["exp_avg"].array is moment
    assert optimizer.state[params[0]]["step"].item() == 2
