"""The tape: long chains, memory, hooks, what is refused, and what a Node remembers."""

from __future__ import annotations

import contextvars
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator

import pytest

import pellucid as P
from pellucid.autograd import grad
from pellucid.core.op import Node
from pellucid.core.origin import module_path
from pellucid.core.tape import reachable
from pellucid.errors import GradientError
from pellucid.ops.contraction import matmul
from pellucid.tensor import Tensor

CHAIN = 100_000


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Reference counting alone: what only the garbage collector would free stays, and the test sees it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# ---- long chains -----------------------------------------------------------------------------------------------------


def test_a_chain_of_100_000_operations_goes_forward_backward_and_away() -> None:
    x = P.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(CHAIN):
        y = y + 1.0
    assert y.item() == CHAIN + 1
    y.backward()
    assert x.grad.item() == 1.0
    del y  # the emptied Nodes go; recursion would overflow here


def test_a_chain_never_walked_is_released_without_recursion(no_collector: None) -> None:
    x = P.tensor(1.0, requires_grad=True)
    y = x
    for _ in range(CHAIN):
        y = y * 1.0  # a Node that holds its input, which holds its Node, ...
    first = weakref.ref(reachable([y.node])[-1].inputs[1])
    assert first() is not None
    del y
    assert first() is None


def test_a_wide_graph_adds_up_every_path() -> None:
    x = P.tensor(2.0, requires_grad=True)
    y = x
    for _ in range(30):  # 2**30 paths, 30 Nodes
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**30


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_a_step_s_memory_goes_without_the_collector(no_collector: None) -> None:
    weight = P.ones(4, 4, requires_grad=True)
    arrays: list[weakref.ref[Tensor]] = []

    def step() -> Tensor:
        x = P.ones(2, 4)
        hidden = (x @ weight).relu()
        probabilities = hidden.softmax(-1)
        arrays.extend(weakref.ref(value) for value in (x, hidden, probabilities))
        return (probabilities * hidden).sum()

    loss = step()
    assert arrays[0]() is not None  # the tape needs it
    loss.backward()
    assert [ref() for ref in arrays] == [None, None, None]  # although `loss` is still here
    assert loss.node.inputs is None and loss.node.parents == ()


def test_a_step_that_is_never_walked_is_released_too(no_collector: None) -> None:
    weight = P.ones(4, requires_grad=True)
    hidden = (weight * 2).tanh()
    loss = (hidden * hidden).sum()
    ref, node = weakref.ref(hidden), hidden.node
    del hidden
    assert ref() is not None
    del loss
    assert ref() is None and node.inputs is not None


def test_second_order_leaves_nothing_behind(no_collector: None) -> None:
    x = P.tensor([1.0, 2.0], requires_grad=True)
    (g,) = grad((x**3).sum(), x, create_graph=True)
    penalty = (g * g).sum()
    penalty.backward()
    refs = [weakref.ref(g), weakref.ref(penalty)]
    del g, penalty
    assert [ref() for ref in refs] == [None, None]


def test_gradients_go_as_the_walk_passes(no_collector: None) -> None:
    x = P.ones(3, requires_grad=True)
    early = x * 2
    late = early.exp().tanh()
    seen: list[weakref.ref[Tensor]] = []
    late.register_hook(lambda g: seen.append(weakref.ref(g)))
    alive: list[bool] = []
    early.register_hook(lambda g: alive.append(seen[0]() is not None))
    (late * 3).sum().backward()
    assert alive == [False]


def test_a_loop_of_steps_does_not_grow(no_collector: None) -> None:
    weight = P.ones(8, requires_grad=True)

    def step() -> None:
        loss = ((weight * 3).exp().sum()).log()
        loss.backward()
        weight.grad = None

    step()
    before = sum(isinstance(o, Node | Tensor) for o in gc.get_objects())
    for _ in range(5):
        step()
    assert sum(isinstance(o, Node | Tensor) for o in gc.get_objects()) == before


def test_the_tape_keeps_no_numbers_that_no_rule_reads() -> None:
    x = P.ones(3, requires_grad=True)
    total = x + 1
    assert total.node.array is None and not any(isinstance(v, Tensor) for v in total.node.inputs)
    product = x * 2
    assert any(v is x for v in product.node.inputs)


def test_no_grad_puts_nothing_on_the_tape() -> None:
    x = P.ones(3, requires_grad=True)
    with P.no_grad():
        y = x * 2
        assert not P.is_grad_enabled()
        with P.enable_grad():
            z = x * 2
    assert y.node is None and not y.requires_grad
    assert z.node is not None and z.requires_grad
    assert P.is_grad_enabled()

    @P.no_grad()
    def evaluate() -> Tensor:
        return x * 2

    assert evaluate().node is None and P.is_grad_enabled()
    with P.set_grad_enabled(False):
        assert (x * 2).node is None
    with pytest.raises(ZeroDivisionError), P.no_grad():
        raise ZeroDivisionError
    assert P.is_grad_enabled()


def test_grad_mode_belongs_to_its_thread() -> None:
    seen: list[bool] = []
    with P.no_grad():
        thread = threading.Thread(target=lambda: seen.append(P.is_grad_enabled()))
        thread.start()
        thread.join()
        context = contextvars.Context().run(P.is_grad_enabled)
    assert seen == [True] and context is True


# ---- backward: sums, refusals ----------------------------------------------------------------------------------------


def test_backward_adds_to_what_is_there() -> None:
    x = P.tensor([1.0, 2.0], requires_grad=True)
    (x * 3).sum().backward()
    (x * x).sum().backward()
    assert x.grad.tolist() == [5.0, 7.0]
    x.grad = None
    (x * x).backward(P.tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2.0, 40.0]


def test_a_leaf_is_its_own_loss() -> None:
    x = P.tensor(3.0, requires_grad=True)
    x.backward()
    assert x.grad.item() == 1.0


def test_a_second_backward_is_refused_unless_the_tape_was_retained() -> None:
    x = P.tensor([1.0, 2.0], requires_grad=True)
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert x.grad.tolist() == [4.0, 8.0]
    with pytest.raises(GradientError, match=r"released by an earlier backward\(\).*retain_graph=True"):
        loss.backward()


def test_a_shared_part_that_was_released_is_refused() -> None:
    x = P.tensor(2.0, requires_grad=True)
    shared = x * x
    one, two = shared.exp(), shared.log()
    one.backward()
    with pytest.raises(GradientError, match="multiply"):
        two.backward()


def test_backward_for_some_inputs_computes_nothing_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    x, a, b = (P.ones(3, 3, requires_grad=True) for _ in range(3))
    hidden = x @ a
    hidden.register_hook(lambda g: pytest.fail("off the way"))
    x.register_hook(lambda g: pytest.fail("off the way"))
    loss = ((hidden @ b) * 2).sum()
    products, forward = [], type(matmul).forward
    monkeypatch.setattr(type(matmul), "forward", lambda self, *arrays: products.append(1) or forward(self, *arrays))
    loss.backward(inputs=b, retain_graph=True)
    assert len(products) == 1 and (x.grad, a.grad) == (None, None) and b.grad.tolist() == [[18.0] * 3] * 3
    loss.backward(inputs=[b])
    assert b.grad.tolist() == [[36.0] * 3] * 3
    with pytest.raises(GradientError, match=r"released by an earlier backward\(\)"):
        loss.backward(inputs=[b])


def test_backward_for_a_computed_input_and_for_one_that_is_not_used() -> None:
    x, unused = P.tensor(2.0, requires_grad=True), P.tensor(1.0, requires_grad=True)
    hidden = x * 3
    (hidden * hidden + x).backward(inputs=[hidden, unused])
    assert hidden.grad.item() == 12.0 and x.grad is None and unused.grad is None
    (x * 1).backward(inputs=(x,))
    assert x.grad.item() == 1.0
    for nothing in ([], [P.ones(1)], [3.0]):
        with pytest.raises(GradientError, match=r"backward: inputs.*expected Tensors that do; leave it out"):
            (x * 1).backward(inputs=nothing)


@pytest.mark.parametrize("native", [False, True])
def test_backward_for_some_inputs_in_a_step(native: bool) -> None:
    """A generator and its critic in one step: each loss moves its own."""
    ours, theirs = P.nn.Linear(3, 2), P.nn.Linear(2, 1)

    def step(x: Tensor) -> Tensor:
        loss = theirs(ours(x)).square().mean()
        loss.backward(retain_graph=True, inputs=list(ours.parameters()))
        (-loss).backward(inputs=list(theirs.parameters()))
        return loss

    (P.compile(step, keep_grads=True) if native else step)(P.ones(4, 3))
    y = ours(P.ones(4, 3))
    expected = grad(theirs(y).square().mean(), [*ours.parameters(), *theirs.parameters()])
    for sign, p, g in zip((1, 1, -1, -1), [*ours.parameters(), *theirs.parameters()], expected, strict=True):
        assert (p.grad * sign).allclose(g, rtol=1e-4, atol=1e-6)


def test_what_backward_refuses() -> None:
    x = P.ones(3, requires_grad=True)
    with pytest.raises(GradientError, match=r"shape \(3,\); expected a single number.*mean\(\)"):
        (x * 2).backward()
    with pytest.raises(GradientError, match="does not depend on anything that requires a gradient"):
        P.ones(1).backward()
    with pytest.raises(P.errors.ShapeError, match=r"gradient \(2,\); expected \(3,\)"):
        (x * 2).backward(P.ones(2))
    with pytest.raises(P.errors.DTypeError, match="floating-point"):
        P.arange(3).requires_grad_()
    with pytest.raises(GradientError, match="detach"):
        (x * 2).requires_grad_(False)


def test_overwriting_what_a_gradient_needs_is_refused_with_both_places() -> None:
    w = P.tensor([1.0, 2.0], requires_grad=True)
    x = P.tensor([3.0, 4.0])
    loss = (w * x).sum()
    x.mul_(2)
    with pytest.raises(GradientError, match=r"multiply .*test_tape\.py:\d+.*overwritten at test_tape\.py:\d+"):
        loss.backward()
    assert w.grad is None


def test_overwriting_what_no_gradient_needs_is_fine() -> None:
    w = P.tensor([1.0, 2.0], requires_grad=True)
    x = P.tensor([3.0, 4.0])
    loss = (w + x).sum()
    x.zero_()
    loss.backward()
    assert w.grad.tolist() == [1.0, 1.0]


def test_a_leaf_on_the_tape_is_not_written_in_place() -> None:
    w = P.ones(2, requires_grad=True)
    for write in (lambda: w.add_(1), lambda: w.zero_(), lambda: w.__setitem__(0, 5.0)):
        with pytest.raises(GradientError, match=r"with no_grad\(\)"):
            write()
    with P.no_grad():
        w -= 0.5
    assert w.tolist() == [0.5, 0.5] and w.requires_grad and w.is_leaf


def test_an_in_place_write_on_the_tape_is_differentiated() -> None:
    x = P.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * 2
    y[1] = 10.0
    y *= x
    y.sum().backward()  # 2 x0**2 + 10 x1 + 2 x2**2
    assert x.grad.tolist() == [4.0, 10.0, 12.0]


def test_a_tensor_changed_by_itself_is_differentiated() -> None:
    x = P.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3
    y *= y
    y += y
    y.sum().backward()  # 18 x**2
    assert y.tolist() == [18.0, 72.0] and x.grad.tolist() == [36.0, 72.0]


def test_a_chain_of_assigns_counts_versions() -> None:
    x = P.ones(2)
    assert x.version == 0
    x.assign(3).add_(1)
    assert x.version == 2 and x.tolist() == [4.0, 4.0]


# ---- second order, grad() --------------------------------------------------------------------------------------------


def test_create_graph_gives_gradients_that_can_be_differentiated() -> None:
    x = P.tensor(3.0, requires_grad=True)
    (x**4).backward(create_graph=True)
    first = x.grad
    assert first.item() == 108.0 and first.requires_grad
    x.grad = None
    (second,) = grad(first, x, create_graph=True)
    (third,) = grad(second, x, create_graph=True)
    (fourth,) = grad(third, x)
    assert (second.item(), third.item(), fourth.item()) == (108.0, 72.0, 24.0)
    assert not fourth.requires_grad


def test_without_create_graph_a_gradient_is_off_the_tape() -> None:
    x = P.tensor(3.0, requires_grad=True)
    (x**4).backward()
    assert not x.grad.requires_grad and x.grad.node is None


def test_grad_leaves_the_slots_alone() -> None:
    x, y = P.tensor(2.0, requires_grad=True), P.tensor(5.0, requires_grad=True)
    hidden = x * y
    loss = hidden * hidden
    dx, dh = grad(loss, [x, hidden])
    assert (dx.item(), dh.item()) == (100.0, 20.0)
    assert x.grad is None and y.grad is None
    with pytest.raises(GradientError, match=r"do not depend on input 1 \(\).*allow_unused=True"):
        grad(x * 2, [x, y])
    assert grad(x * 2, [x, y], allow_unused=True)[1] is None
    (both,) = grad([x * 2, x * 3], x)
    assert both.item() == 5.0


# ---- hooks -----------------------------------------------------------------------------------------------------------


def test_retain_grad_keeps_the_gradient_of_a_computed_tensor() -> None:
    x = P.tensor([1.0, 2.0], requires_grad=True)
    hidden = x * 3
    hidden.retain_grad()
    (hidden * hidden).sum().backward()
    assert hidden.grad.tolist() == [6.0, 12.0] and x.grad.tolist() == [18.0, 36.0]


def test_hooks_see_and_change_the_gradient() -> None:
    x = P.tensor([1.0, 2.0], requires_grad=True)
    hidden = x * 3
    seen: list[list[float]] = []
    hidden.register_hook(lambda g: seen.append(g.tolist()))
    hidden.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: g + 1)
    handle = x.register_hook(lambda g: g * 0)
    handle.remove()
    hidden.sum().backward()
    assert seen == [[1.0, 1.0]] and x.grad.tolist() == [31.0, 31.0]


def test_a_hook_sees_the_sum_of_all_paths_once() -> None:
    x = P.tensor(1.0, requires_grad=True)
    hidden = x * 2
    seen: list[float] = []
    hidden.register_hook(lambda g: seen.append(g.item()))
    (hidden * 3 + hidden * 4 + hidden).backward()
    assert seen == [8.0]


def test_a_hook_as_a_context_goes_at_its_end() -> None:
    x = P.tensor(1.0, requires_grad=True)
    with x.register_hook(lambda g: g * 5):
        (x * 1).backward()
    (x * 1).backward()
    assert x.grad.item() == 6.0
    with pytest.raises(GradientError, match="register_hook"):
        P.ones(1).register_hook(print)


# ---- what a Node remembers -------------------------------------------------------------------------------------------


COMPOSITES = {  # one of each file that they stand in
    "standardise": lambda x: P.functional.layer_norm(x, (2,)),
    "divide": lambda x: P.functional.mse_loss(x, x * 2),
    "reshape": lambda x: P.functional.avg_pool1d(x.reshape(1, 2), 2),
    "softplus": lambda x: P.functional.softplus(x),
}


@pytest.mark.parametrize("name", COMPOSITES)
def test_a_node_knows_the_user_s_line_and_the_layer(name: str) -> None:
    x = P.tensor([1.0, 2.0], requires_grad=True)
    line = COMPOSITES[name].__code__.co_firstlineno
    token = module_path.set("net.layer1 (Linear 2→1)")
    try:
        y = COMPOSITES[name](x)
    finally:
        module_path.reset(token)
    for node in reachable([y.node]):
        assert node.origin.file == __file__ and node.origin.line == line
        assert str(node.origin) == f"net.layer1 (Linear 2→1) at test_tape.py:{line}"
    assert repr(y.node).startswith(f"<{name} -> ") and ", net.layer1" in repr(y.node)


def test_backward_nodes_inherit_the_place_of_the_forward() -> None:
    x = P.tensor(2.0, requires_grad=True)
    token = module_path.set("net.layer2")
    try:
        y = x.exp() * x
    finally:
        module_path.reset(token)
    line = y.node.origin.line
    (g,) = grad(y, x, create_graph=True)
    made = [n for n in reachable([g.node]) if n.sequence > y.node.sequence]
    assert made and {n.origin.path for n in made} <= {"net.layer2", ""}
    assert any((n.origin.path, n.origin.line) == ("net.layer2", line) for n in made)


def test_the_tape_can_be_read_number_by_number() -> None:
    w = P.tensor([0.8, 0.3, 0.6], requires_grad=True)
    x = P.tensor([0.7, 0.2, 0.5])
    y = (w * x).sum().sigmoid()
    names = [node.op.name for node in reachable([y.node])]
    assert names == ["sigmoid", "sum", "multiply"]
    assert y.item() == pytest.approx(0.7150, abs=1e-4)
    product = reachable([y.node])[-1]
    assert product.inputs[1] is x and product.shape == (3,)


QUIET = """
import warnings
warnings.simplefilter("error")
import pellucid as P
x = P.tensor([0.0, -1.0, 1e30, float("inf"), float("nan")], requires_grad=True)
for y in (x.log(), x.sqrt(), x.exp(), x * x, x / 0, x**0.5, x.cumsum(0), x.sum(), x.var(), x.softmax(0), x - x, x.max(0).values, x.amax()):
    y.sum().backward()
assert x.grad.isnan().any()
P.tensor([float("inf"), float("-inf")]).sum(), P.tensor([3e38, 3e38]).cumsum(0), P.tensor([3e38, 3e38]).sum()
x.detach().long(), (P.tensor([1]) % 0), P.tensor([1]) // 0, x.detach().norm(), x.detach().sort(), x.reshape(5, 1) @ x.reshape(1, 5)
"""


def test_no_warning_of_numpy_s_reaches_the_user() -> None:
    """In a process of its own: under pytest it is pytest that decides about warnings."""
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
