"""Views share: what is written through one is written, in both directions, eagerly and compiled."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from view_programs import COMPILED, OWN, PROGRAMS, REFUSED

import pellucid as P
from pellucid import nn
from pellucid.errors import GradientError, PellucidError, ShapeError, TraceError


def numbers(library: Any, x: Any) -> Any:
    return x.detach().tolist()


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    function, expected = PROGRAMS[name]
    assert numbers(P, function(P)) == expected


@pytest.mark.parametrize("disable_passes", [(), ("native",)], ids=["native", "interpreted"])
@pytest.mark.parametrize("name", sorted(COMPILED))
def test_programs_compiled(name: str, disable_passes: tuple[str, ...]) -> None:
    function, expected = PROGRAMS[name]
    step = P.compile(lambda: function(P), disable_passes=disable_passes)
    assert [numbers(P, step()) for _ in range(2)] == [expected, expected]


@pytest.mark.torch
@pytest.mark.parametrize("name", sorted(set(PROGRAMS) - OWN))
def test_the_numbers_are_those_of_pytorch(name: str) -> None:
    import torch

    function, expected = PROGRAMS[name]
    assert numbers(torch, function(torch)) == expected


@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_refused_by_the_line(function: Callable[[Any], None]) -> None:
    with pytest.raises((GradientError, ShapeError)) as caught:
        function(P)
    assert "view_programs.py" in str(caught.value) or "in-place write into a leaf" in str(caught.value)


@pytest.mark.torch
@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_pytorch_refuses_too(function: Callable[[Any], None]) -> None:
    import torch

    with pytest.raises(RuntimeError):
        function(torch)


# ---- ownership and memory ----------------------------------------------------------------------------------------------


def test_a_detached_loss_keeps_no_tape() -> None:
    w = P.ones(1000, requires_grad=True)
    hidden = w * 2
    loss = (hidden * 3).sum()
    logged, tape = loss.detach(), weakref.ref(hidden)
    del loss, hidden
    gc.collect()
    assert tape() is None and logged.item() == 6000


def test_a_view_outlives_its_base() -> None:
    row = P.zeros(2, 2)[1]
    other = row.view(2, 1)
    row.add_(1)
    gc.collect()
    assert other.tolist() == [[1], [1]]


def test_a_row_is_written_in_place_unless_somebody_holds_the_numbers() -> None:
    x = P.zeros(100, 10)
    x[3] = 1
    first = x.array
    address, held = first.ctypes.data, first.copy()
    del first
    x[3].add_(1)
    assert x.array.ctypes.data == address
    snapshot = x.numpy()
    x[3].add_(1)
    assert x.array.ctypes.data != address and (snapshot[3] == 2).all() and (held[3] == 1).all()
    assert x[3].tolist() == [3] * 10


@pytest.mark.parametrize("hold", [
    lambda x: x.numpy(), lambda x: np.asarray(x), lambda x: x.clone(), lambda x: P.compile(lambda: x * 1) and x.clone(),
    lambda x: x.numpy()[1:], lambda x: x.detach().clone(), lambda x: P.tensor(x), lambda x: nn.Parameter(x),
])  # fmt: skip
def test_what_is_independent_stays_as_it_was(hold: Callable[[Any], Any]) -> None:
    x = P.zeros(4, 2)
    x[0] = 1
    kept = hold(x)
    before = np.array(kept)
    x[1] = 5
    x[0].mul_(7)
    assert np.array_equal(np.array(kept), before)


def test_many_views_do_not_pile_up() -> None:
    x = P.zeros(50, 2)
    for _ in range(40):
        for i in range(50):
            x[i].add_(1)
    assert len(x.cell.tensors) < 100 and x.sum().item() == 4000


def test_arrays_of_the_caller_are_not_written() -> None:
    given = np.zeros((2, 2), np.float32)
    x = P.from_numpy(given)
    x[0] = 1
    x[0].add_(1)
    assert not given.any() and x[0].tolist() == [2, 2]


def test_a_module_of_another_dtype_leaves_the_old_numbers_to_its_views() -> None:
    m = nn.Linear(2, 1)
    before = m.weight.data
    old = before.tolist()
    m.to(P.float64)
    with P.no_grad():
        m.weight.zero_()
    assert before.dtype == P.float32 and before.tolist() == old and not m.weight.any()


# ---- random programs: PyTorch, and compiled against eager --------------------------------------------------------------


class Dice:
    """Chance from a seed alone: a compiled step refuses `random.Random`."""

    def __init__(self, seed: int) -> None:
        self.state = (seed * 2 + 1) * 0x9E3779B1 % 2**61

    def random(self) -> float:
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**61
        return (self.state >> 21) / 2**40

    def randrange(self, first: int, end: int | None = None) -> int:
        first, end = (0, first) if end is None else (first, end)
        return first + int(self.random() * (end - first))

    def choice(self, these: Any) -> Any:
        return these[self.randrange(len(these))]


def movements(r: Dice, x: Any) -> Callable[[Any], Any] | None:
    """A random view of something like x."""
    nd = x.ndim
    kind = r.choice(["view", "T", "slice", "int", "unsqueeze", "squeeze", "detach", "halves", "narrow", "flip"])
    if kind == "view":
        return lambda x: x.reshape(-1)
    if kind == "T" and nd > 1:
        return lambda x: x.transpose(0, nd - 1)
    if kind == "slice" and nd and x.shape[0]:
        start, step = r.randrange(x.shape[0]), r.choice([1, 2])
        return lambda x: x[start::step]
    if kind == "int" and nd and x.shape[0]:
        place = r.randrange(-x.shape[0], x.shape[0])
        return lambda x: x[place]
    if kind == "unsqueeze":
        return lambda x: x.unsqueeze(0)
    if kind == "squeeze":
        return lambda x: x.squeeze()
    if kind == "detach":
        return lambda x: x.detach()
    if kind == "halves" and x.numel() % 2 == 0:
        return lambda x: x.reshape(2, -1)
    if kind == "narrow" and nd and x.shape[-1] > 1:
        return lambda x: x.narrow(-1, 1, x.shape[-1] - 1)
    if kind == "flip" and nd:
        return lambda x: x.flip(0)
    return None


def writes(r: Dice, x: Any, no_grad: Any) -> Callable[[Any], Any]:
    c = r.choice([2.0, 0.5, -1.0])
    kind = r.choice(["add", "mul", "fill", "self", "first", "steps", "no_grad"])
    if kind == "add":
        return lambda x: x.add_(c)
    if kind == "mul":
        return lambda x: x.mul_(c)
    if kind == "fill":
        return lambda x: x.fill_(c)
    if kind == "self":
        return lambda x: x.mul_(x.detach().clone())
    if kind == "first" and x.ndim and x.shape[0]:
        return lambda x: x.__setitem__(0, c)
    if kind == "steps" and x.ndim:
        return lambda x: x.__setitem__(slice(None, None, 2), c)

    def quietly(x: Any) -> None:
        with no_grad():
            x.mul_(c)

    return quietly


START = np.arange(12, dtype=np.float32).reshape(3, 4) / 4 + 0.5


@pytest.mark.torch
@pytest.mark.parametrize("tape", [False, True], ids=["plain", "tape"])
@pytest.mark.parametrize("seed", range(150))
def test_random_programs_agree_with_pytorch(seed: int, tape: bool) -> None:
    """Values, errors and gradients. Once PyTorch has refused a line, the program ends."""
    import torch

    r = Dice(seed)
    leaves = torch.tensor(START, requires_grad=tape), P.tensor(START, requires_grad=tape)
    pool = [(leaves[0] * 2, leaves[1] * 2)] if tape else [leaves]
    for _ in range(14):
        t, p = pool[r.randrange(len(pool))]
        state = r.state
        look = r.random() < 0.6
        do = movements(r, t) if look else writes(r, t, torch.no_grad)
        if do is None:
            continue
        end, r.state = r.state, state
        r.random()
        again = movements(r, t) if look else writes(r, t, P.no_grad)
        assert r.state == end and again is not None
        try:
            there = do(t)
        except RuntimeError:
            with pytest.raises(PellucidError):
                again(p)
            return
        here = again(p)
        if look:
            pool.append((there, here))
        for a, b in pool:
            np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-5)
    if not tape:
        return
    try:
        sum((a * a).sum() for a, _ in pool).backward()
    except RuntimeError:
        with pytest.raises(PellucidError):
            sum((b * b).sum() for _, b in pool).backward()
        return
    total = sum((b * b).sum() for _, b in pool)
    if not total.requires_grad:  # everything has been filled: PyTorch stays on the tape, for a gradient of 0
        assert not leaves[0].grad.any()
        return
    total.backward()
    np.testing.assert_allclose(leaves[1].grad.numpy(), leaves[0].grad.numpy(), rtol=1e-4)


def random_step(seed: int, base: Any, row: Any) -> Callable[[Any], list[Any]]:
    """A step that views and writes the state `base`, its view `row` and its argument, and gives all it has made."""

    def step(x: Any) -> list[Any]:
        r = Dice(seed)
        pool = [base, x, row]
        for _ in range(9):
            p = pool[r.randrange(len(pool))]
            do = movements(r, p) if r.random() < 0.5 else writes(r, p, P.no_grad)
            if do is not None and (made := do(p)) is not None and made is not p:
                pool.append(made)
        return [q * 1 for q in pool] + pool[3:]

    return step


@pytest.mark.parametrize("seed", range(120))
def test_random_steps_compiled_as_eager(seed: int) -> None:
    """Results, state, argument and the state's view, over three calls with writes from outside in between."""
    disable_passes = ("native",) if seed % 3 else ()
    states, arguments = [P.tensor(START) for _ in range(2)], [P.tensor(START + 1) for _ in range(2)]
    rows = [state[1] for state in states]
    eager = random_step(seed, states[0], rows[0])
    compiled = P.compile(random_step(seed, states[1], rows[1]), disable_passes=disable_passes)
    for _ in range(3):
        expected, found = eager(arguments[0]), compiled(arguments[1])
        for pair in (states, arguments, rows, *zip(expected, found, strict=True)):
            np.testing.assert_allclose(pair[1].numpy(), pair[0].numpy(), rtol=1e-5)
        for row, state in zip(rows, states, strict=True):
            row.add_(1)
            state.T[0].mul_(0.5)
        for made in (expected, found):  # a returned view of the state, or of the argument, is one in both
            made[-1].mul_(0.75) if len(made) > 3 else None
        for pair in (states, arguments, rows):
            np.testing.assert_allclose(pair[1].numpy(), pair[0].numpy(), rtol=1e-5)


# ---- compiled: state, arguments, gradients -----------------------------------------------------------------------------


def test_a_parameter_trained_by_its_data_and_a_view_from_before() -> None:
    p = nn.Parameter(P.ones(2))
    seen = p.detach()

    @P.compile
    def step(x: Any) -> Any:
        loss = (p * x).sum()
        loss.backward()
        p.data.sub_(0.1 * p.grad)
        p.grad = None
        return loss

    x = P.tensor([1.0, 2.0])
    for _ in range(2):
        step(x)
    np.testing.assert_allclose(seen.numpy(), [0.8, 0.6], rtol=1e-6)
    step(x)
    np.testing.assert_allclose(seen.numpy(), [0.7, 0.4], rtol=1e-6)
    p.data.fill_(1.0)
    step(x)
    np.testing.assert_allclose(seen.numpy(), [0.9, 0.8], rtol=1e-6)
    seen[0] = 5.0
    step(x)
    np.testing.assert_allclose(p.detach().numpy(), [4.9, 0.6], rtol=1e-6)


def test_a_gradient_held_from_before_sees_what_a_compiled_step_does_to_it() -> None:
    for compiled in (False, True):
        p = nn.Parameter(P.ones(2))
        (p * 3).sum().backward()
        held = p.grad

        def step(x: Any, p: Any = p) -> Any:
            p.grad.data.zero_()
            (p * x).sum().backward()
            return p.grad.sum()

        step = P.compile(step) if compiled else step
        assert [step(P.tensor([1.0, 2.0])).item() for _ in range(2)] == [3, 3]
        assert p.grad is held and held.tolist() == [1, 2]


def test_an_argument_that_is_a_view_is_written_in_its_base() -> None:
    @P.compile
    def step(x: Any) -> Any:
        x[0].add_(1)
        return x.sum()

    data = P.zeros(3, 2, 2)
    step(data[1])
    step(data[2].T)
    assert data.tolist() == [[[0, 0], [0, 0]], [[1, 1], [0, 0]], [[1, 0], [1, 0]]]


def test_arguments_that_overlap() -> None:
    @P.compile
    def differences(a: Any, b: Any) -> Any:
        return (b - a).sum()

    @P.compile
    def write(a: Any, b: Any) -> Any:
        a.add_(1)
        return b.sum()

    x = P.arange(5).float()
    assert differences(x[:-1], x[1:]).item() == 4
    assert write(P.zeros(2), P.ones(2)).item() == 2
    with pytest.raises(TraceError, match=r"test_views.py:\d+: the step writes .* shares its numbers"):
        write(x[:2], x[1:3])
    assert x.tolist() == [0, 1, 2, 3, 4]


def test_an_argument_that_is_a_view_of_what_the_step_trains() -> None:
    p = nn.Parameter(P.ones(3))

    @P.compile
    def step(x: Any) -> Any:
        with P.no_grad():
            p.mul_(x.sum())
        return p.sum()

    assert step(P.ones(3)).item() == 9
    with pytest.raises(TraceError, match="shares its numbers"):
        step(p.data)
    with pytest.raises(TraceError, match="shares its numbers"):
        step(p.detach()[1:])
    assert p.tolist() == [3, 3, 3]


def test_a_state_that_is_a_view_of_an_argument_is_read_and_not_written() -> None:
    data = P.arange(6).float()
    train = data[:3]
    read = P.compile(lambda x: x.sum() - train.sum())
    assert read(data).item() == 12
    data[0] = 10
    assert read(data).item() == 12 and read(P.zeros(6)).item() == -13
    write = P.compile(lambda x: train.add_(x.sum()))
    with pytest.raises(TraceError, match="shares its numbers"):
        write(data)


def test_a_returned_view_of_the_state_is_one() -> None:
    hidden = P.zeros(2, 2)

    @P.compile
    def step(x: Any) -> Any:
        hidden.add_(x)
        return hidden.detach()[0], x.view(-1)

    x = P.ones(2, 2)
    row, flat = step(x)
    row.mul_(5)
    flat.zero_()
    assert hidden.tolist() == [[5, 5], [1, 1]] and not x.any()
    step(P.ones(2, 2))
    assert row.tolist() == [6, 6]


def test_data_assigned_in_a_compiled_step() -> None:
    p, q = nn.Parameter(P.ones(2)), nn.Parameter(P.ones(2))

    @P.compile
    def step(x: Any) -> Any:
        p.data = p.data * x
        q.data = x + 1
        return p.sum()

    assert step(P.tensor([2.0, 3.0])).item() == 5 and q.tolist() == [3, 4]
    kept = q.data
    with pytest.raises(TraceError, match=r"test_views.py:\d+: x.data = y inside a compiled step.*copy_"):
        P.compile(lambda x: setattr(q, "data", x))(P.zeros(2))
    assert kept.tolist() == [3, 4]


def test_a_view_of_the_state_is_read_in_a_loop() -> None:
    table = P.arange(4).float()
    row = table[1:3]

    def loop(x: Any) -> Any:
        state, _ = P.scan(lambda h, t: (h * t + row, h), P.zeros(2), x)
        return state + row

    compiled = P.compile(loop)
    x = P.ones(3, 2)
    for _ in range(2):
        np.testing.assert_allclose(compiled(x).numpy(), loop(x).numpy())
        table.mul_(2)


def test_threads_read_a_view_while_another_writes_the_base() -> None:
    """Nobody sees numbers that were never there, and nobody keeps old ones."""
    x = P.zeros(64, 8)
    rows, stop, seen = [x[i] for i in range(64)], threading.Event(), []

    def look() -> None:
        while not stop.is_set():
            for row in rows:
                found = row.numpy()
                if (found != found[0]).any():
                    seen.append(found)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    for k in range(300):
        x.fill_(k) if k % 2 else x[k % 64].fill_(k)
    stop.set()
    for reader in readers:
        reader.join()
    x.fill_(7)
    assert not seen and all((row == 7).all() for row in rows)


def test_views_that_are_made_while_another_thread_writes_follow_too() -> None:
    x, stop, kept = P.zeros(16, 4), threading.Event(), []

    def view() -> None:
        while not stop.is_set():
            kept.extend((x[3], x.detach(), x.view(-1)))
            del kept[:-300]

    makers = [threading.Thread(target=view) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for maker in makers:
            maker.start()
        for k in range(401):
            x.fill_(k)
        stop.set()
        for maker in makers:
            maker.join()
    finally:
        sys.setswitchinterval(interval)
    x.add_(1)
    assert kept and all((v == 401).all() for v in kept)


# ---- seams with gradients, programs and layouts ------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
def test_data_changed_by_an_operator_goes_on_sharing(compiled: bool) -> None:
    p = nn.Parameter(P.ones(2))
    seen = p.detach()

    def step(x: Any) -> None:
        p.data -= x
        p.data *= 2

    step = P.compile(step) if compiled else step
    for _ in range(2):
        step(P.tensor([1.0, 2.0]))
    assert p.tolist() == seen.tolist() == [-2, -8]


def test_data_of_another_dtype_or_shape() -> None:
    p = nn.Parameter(P.ones(2))
    total = P.compile(lambda: p.sum() * 1)
    assert total().item() == 2
    p.data = P.ones(3, dtype=P.float64)
    assert p.dtype == P.float64 and p.shape == (3,) and total().item() == 3
    with pytest.raises(ShapeError, match=r"test_views.py:\d+: x.data = y in a compiled step"):
        P.compile(lambda: setattr(p, "data", P.ones(1)))()


def test_a_view_whose_base_is_gone_is_seen_by_programs() -> None:
    layer = nn.Linear(1, 1, bias=False)
    state, run = layer.state_dict(), P.compile(layer)
    with P.no_grad():
        run(P.ones(1, 1))
    del layer, run
    gc.collect()
    w = state["weight"]
    w.fill_(1)
    read = P.compile(lambda x: x * w)
    assert read(P.ones(1)).item() == 1
    w.fill_(2)
    assert read(P.ones(1)).item() == 2


def test_programs_see_that_a_view_has_left_its_base() -> None:
    base = P.zeros(2, 3)
    row, other = base[1], base[0]
    read = P.compile(lambda x: x + row)
    assert read(P.zeros(3)).tolist() == [0, 0, 0]
    row.data = P.ones(3)
    assert read(P.zeros(3)).tolist() == [1, 1, 1]

    @P.compile
    def add(x: Any) -> Any:
        other.add_(x)
        return other.sum()

    assert add(P.ones(3)).item() == 3
    base.data = P.full((2, 3), 5.0)
    assert add(P.ones(3)).item() == 6 and other.tolist() == [2, 2, 2] and base.tolist() == [[5] * 3] * 2


def test_how_an_argument_lies_decides_whether_reshape_copies() -> None:
    def first(a: Any) -> Any:
        a.reshape(-1)[0] = 9
        return a.sum()

    def before(a: Any) -> Any:
        flat = a.reshape(-1)
        a[0, 0] = 5
        return flat.sum()

    for function in (first, before):
        compiled = P.compile(function)
        for make in (lambda: P.ones(2, 3), lambda: P.ones(3, 2).t(), lambda: P.ones(4, 3).t()[:, ::2]):
            ours, theirs = make(), make()
            assert compiled(ours).item() == function(theirs).item() and ours.tolist() == theirs.tolist()


def test_gradients_that_share_are_refused_by_a_compiled_step() -> None:
    a, b, flat = P.ones(2, requires_grad=True), P.ones(2, requires_grad=True), P.ones(4)
    x = P.ones(2)

    @P.compile
    def step(x: Any) -> Any:
        flat.zero_()
        (a * x).sum().backward()
        return a.grad.sum()

    a.grad = P.ones(2)
    assert step(x).item() == 4 and a.grad.tolist() == [2, 2]
    a.grad = flat[:2]
    with pytest.raises(TraceError, match="shares its numbers"):
        step(x)
    assert flat.tolist() == [0] * 4

    @P.compile
    def both(x: Any) -> Any:
        (b * x).sum().backward()
        return a.grad.sum()

    a.grad = b.grad = P.ones(2)
    with pytest.raises(TraceError, match="shares its numbers"):
        both(x)
    a.grad, b.grad = P.zeros(2), P.zeros(2)
    assert both(x).item() == 0 and b.grad.tolist() == [1, 1]
    with pytest.raises(TraceError, match="shares its numbers"):
        P.compile(lambda x, g: ((a * x).sum().backward(), g.zero_()))(x, a.grad[:1])
    with pytest.raises(TraceError, match="shares its numbers"):
        P.compile(lambda: setattr(a, "grad", flat[:2]))()


def test_a_returned_gradient_is_the_gradient() -> None:
    a = P.ones(2, requires_grad=True)

    @P.compile
    def step(x: Any) -> Any:
        (a * x).sum().backward()
        return a.grad

    found = step(P.tensor([1.0, 2.0]))
    assert found is a.grad and found.tolist() == [1, 2]
    assert step(P.ones(2)) is a.grad and a.grad.tolist() == [2, 3]


@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_are_cleared_and_clipped_in_place(compiled: bool) -> None:
    w = nn.Parameter(P.ones(4))
    w.grad = P.tensor([3.0, 4.0, 0.0, 0.0])
    held, optimizer = w.grad, P.optim.SGD([w], lr=1.0)
    wrap = P.compile if compiled else lambda step: step
    wrap(lambda: nn.utils.clip_grad_norm_([w], 1.0))()
    np.testing.assert_allclose(held.numpy(), [0.6, 0.8, 0, 0], rtol=1e-5)
    wrap(lambda: nn.utils.clip_grad_value_([w], 0.7))()
    np.testing.assert_allclose(held.numpy(), [0.6, 0.7, 0, 0], rtol=1e-5)
    wrap(lambda: optimizer.zero_grad(set_to_none=False))()
    assert held is w.grad and held.tolist() == [0] * 4


def test_a_mask_that_is_a_view_is_made_once() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask: Any = None
            self.whole: Any = None

        def forward(self, x: Any) -> Any:
            if self.mask is None:
                self.whole = P.tril(P.ones(3, 3))
                self.mask = self.whole.view(1, 3, 3)
            return x * self.mask

    eager, net = Masked(), Masked()
    compiled = P.compile(lambda x: net(x).sum())
    for _ in range(2):
        assert compiled(P.ones(2, 3, 3)).item() == eager(P.ones(2, 3, 3)).sum().item() == 12
    for one in (eager, net):
        one.whole[0, 0] = 5
        assert one.mask[0, 0, 0].item() == 5
    assert compiled(P.ones(2, 3, 3)).item() == 20


def test_weights_trained_between_the_chunks_of_run_steps() -> None:
    """Copies of weights that inference keeps are made anew where `progress` runs a program that writes them."""
    net, x = nn.Linear(64, 64), P.randn(32, 64)
    inference = P.compile(lambda x: net(x))
    clear = P.compile(lambda x: [p.mul_(0) for p in net.parameters()] and x)
    seen = []

    def progress(done: int) -> None:
        if not seen:
            with P.no_grad():
                clear(x)
        seen.append(done)

    with P.no_grad():
        inference(x)
        clear(x)
        net.weight.fill_(1)
        found = inference.run_steps(x, P.randint(0, 32, (4000, 4)), progress)
    assert found[0].any() and not found[seen[0] :].any()


def test_a_detached_one_leaves_and_the_base_stays_the_base() -> None:
    x = P.ones(2)
    d, row = x.detach(), x[:1]
    d.data = P.zeros(2)
    assert x.cell.base() is x
    x.add_(1)
    assert (x.tolist(), row.tolist(), d.tolist()) == ([2, 2], [2], [0, 0])
