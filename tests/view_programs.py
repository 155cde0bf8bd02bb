"""Small programs of views and writes, written in the names that PyTorch and pellucid share, with what PyTorch gives.

Each takes the library and returns Tensors. `tests/test_views.py` runs them eagerly and compiled; marked `torch`, it asks
PyTorch whether the numbers here are its own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

Program = Callable[[Any], Any]
PROGRAMS: dict[str, tuple[Program, Any]] = {}
COMPILED: set[str] = set()  # those that make sense inside of a compiled step too
OWN = {"overlapping_copy", "a_slice_of_itself"}  # PyTorch refuses to copy between places that overlap


def program(expected: Any, compiled: bool = True) -> Callable[[Program], Program]:
    def keep(function: Program) -> Program:
        PROGRAMS[function.__name__] = function, expected
        if compiled:
            COMPILED.add(function.__name__)
        return function

    return keep


# ---- writes through `.data`, `.grad.data`, `state_dict()` --------------------------------------------------------------


@program([0.5, 0.5], compiled=False)
def data_sub(T: Any) -> Any:
    p = T.nn.Parameter(T.ones(2))
    p.data.sub_(0.5)
    return p


@program([[3.0, 3.0], [3.0, 3.0]], compiled=False)
def init_of_data(T: Any) -> Any:
    m = T.nn.Linear(2, 2)
    m.bias.data.fill_(0)
    T.nn.init.constant_(m.weight.data, 3)
    return m.weight + m.bias


@program([2.0, 1.0])
def gradients_cleared_and_clipped_by_data(T: Any) -> Any:
    p = T.ones(2, requires_grad=True)
    (p * 5).sum().backward()
    p.grad.data.zero_()
    (p * T.tensor([2.0, 9.0])).sum().backward()
    p.grad.data[1].clamp_(0, 1)
    return p.grad


@program([4.0, 4.0])
def a_gradient_held_before_another_backward(T: Any) -> Any:
    p = T.ones(2, requires_grad=True)
    (p * 2).sum().backward()
    held = p.grad
    (p * 2).sum().backward()
    return held * 1


@program([[6.0, 7.0], [6.0, 7.0]], compiled=False)
def state_dict_both_ways(T: Any) -> Any:
    m = T.nn.Linear(2, 1)
    state = m.state_dict()
    state["weight"].copy_(T.tensor([[5.0, 6.0]]))
    with T.no_grad():
        m.weight.add_(1)
    return T.cat([state["weight"], m.weight.detach()])


@program([[1.0, 2.0], [7.0, 8.0]], compiled=False)
def the_data_of_another(T: Any) -> Any:
    """The exponential average of a popular recipe: what was kept by `.data` stays as it was once `.data` is assigned."""
    p = T.nn.Parameter(T.tensor([1.0, 2.0]))
    kept = p.data
    p.data = T.tensor([7.0, 8.0])
    return T.stack([kept, p.data])


@program([[3.0, 4.0], [1.0, 2.0]], compiled=False)
def data_exchanged(T: Any) -> Any:
    x, y = T.nn.Parameter(T.tensor([1.0, 2.0])), T.nn.Parameter(T.tensor([3.0, 4.0]))
    x.data, y.data = y.data, x.data
    return T.stack([x.data, y.data])


@program([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]], compiled=False)
def rows_of_an_embedding(T: Any) -> Any:
    e = T.nn.Embedding(3, 2)
    e.weight.data.fill_(1)
    e.weight.data[0] = 0
    with T.no_grad():
        e.weight[2].fill_(0)
    return e.weight.detach()


# ---- views of views, both ways -----------------------------------------------------------------------------------------


@program([[0.0, 2.0], [1.0, 3.0]])
def rows_and_columns(T: Any) -> Any:
    x = T.zeros(2, 2)
    x[1].add_(1)
    x[:, 1].add_(2)
    return x


@program([[4.0, 4.0, 4.0, 4.0], [4.0, 4.0, 4.0, 4.0]])
def a_view_and_its_base(T: Any) -> Any:
    x = T.ones(2, 2)
    v = x.view(-1)
    x.add_(1)
    v.mul_(2)
    return T.stack([x.reshape(-1), v])


@program([[0.0, 7.0], [0.0, 0.0]])
def a_row_of_a_row(T: Any) -> Any:
    x = T.zeros(2, 2)
    x[0][1] = 7.0
    return x


@program([[0.0, 9.0], [5.0, 0.0], [0.0, 9.0]])
def transposed(T: Any) -> Any:
    x = T.zeros(2, 2)
    x.T[0, 1] = 5.0
    u = x.unsqueeze(0).transpose(1, 2)
    u[0, 1].copy_(T.tensor([9.0, 0.0]))
    return T.cat([x, u[0, 1:].flip(1) * T.tensor([0.0, 1.0])])


@program([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
def pieces(T: Any) -> Any:
    x = T.zeros(6)
    a, b = x.chunk(2)
    a[0].fill_(1)
    x.split([1, 5])[1][0].fill_(2)
    x.view(2, 3).unbind(1)[2].copy_(T.tensor([3.0, 6.0]))
    b.narrow(0, 0, 1).fill_(4)
    T.reshape(x, (3, 2)).select(0, 2)[0] = 5
    return x


@program([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
def rows_by_iteration(T: Any) -> Any:
    x = T.zeros(3, 2)
    for i, row in enumerate(x):
        row.fill_(i)
    return x


@program([0.0, 0.0, 1.0, 2.0])
def overlapping_copy(T: Any) -> Any:
    x = T.arange(4).float()
    x[1:].copy_(x[:-1])
    return x


@program([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
def a_slice_of_itself(T: Any) -> Any:
    x = T.tensor([0.0, 1.0, 2.0])
    x[1:] = x[:-1]
    y = T.arange(3)
    y[1:] = y[:2]
    return T.stack([x, y.float()])


@program([[1.0, 1.0], [1.0, 1.0], [9.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
def what_does_not_share(T: Any) -> Any:
    x = T.ones(2)
    c, d, f, r = x.clone(), copy.deepcopy(x), x.flip(0), x.repeat(1)
    y = T.ones(1, 2)
    x[0] = 9
    y.T.reshape(-1)
    y.expand(3, 2).reshape(-1)[0] = 5
    return T.stack([c, d, x, f, r])


@program([[2.0, 2.0], [2.0, 2.0]])
def an_expanded_one_reads(T: Any) -> Any:
    x = T.ones(1, 2)
    y = x.expand(2, 2)
    x.add_(1)
    return y * 1


@program([5.0, 5.0], compiled=False)  # a TraceError there
def one_place_of_an_expanded_one(T: Any) -> Any:
    z = T.ones(2)
    z.expand(3, 2)[1].fill_(5)
    return z


@program([[0.0, 0.0], [1.0, 1.0]], compiled=False)
def copies_share_among_themselves(T: Any) -> Any:
    w = T.ones(4)
    both = copy.deepcopy({"w": w, "v": w[:2]})
    both["w"].zero_()
    return T.stack([both["v"], w[:2]])


@program([1.0, 2.0, 3.0, 4.0])
def of_the_same_dtype(T: Any) -> Any:
    x = T.zeros(4)
    x.to(T.float32)[0] = 1
    x.float()[1] = 2
    x.cpu()[2] = 3
    x.contiguous()[3] = 4
    return x


@program([[True, False, True]])
def other_dtypes(T: Any) -> Any:
    x = T.zeros(1, 3, dtype=T.bool)
    x[0, ::2] = True
    return x


# ---- on the tape -------------------------------------------------------------------------------------------------------


@program([[6.0, 2.0, 2.0], [6.0, 2.0, 2.0]])
def a_written_element_on_the_tape(T: Any) -> Any:
    w = T.ones(3, requires_grad=True)
    x = w * 2
    x[0].mul_(3)
    x.sum().backward()
    return T.stack([x.detach(), w.grad])


@program([6.0, 6.0, 0.0, 0.0])
def one_view_is_written_and_another_read(T: Any) -> Any:
    w = T.ones(4, requires_grad=True)
    x = w * 2
    v, other = x.view(2, 2), x[0:2]
    v.mul_(3)
    other.sum().backward()
    return w.grad


@program([6.0, 6.0, 6.0, 6.0])
def the_base_is_written_and_a_view_read(T: Any) -> Any:
    w = T.ones(4, requires_grad=True)
    x = w * 2
    v = x.view(2, 2)
    x.mul_(3)
    v.sum().backward()
    return w.grad


@program([18.0, 18.0])
def a_row_becomes_computed(T: Any) -> Any:
    w = T.ones(2, requires_grad=True)
    x = T.zeros(2, 2)
    row = x[1]
    row.copy_(w * 3)
    (x * x).sum().backward()
    return w.grad


@program([[1.0, 4.0, 9.0], [2.0, 4.0, 6.0]])
def outputs_are_collected_row_by_row(T: Any) -> Any:
    w = T.tensor([1.0, 2.0, 3.0], requires_grad=True)
    out = T.zeros(3)
    for i in range(3):
        out[i] = w[i] * w[i]
    out.sum().backward()
    return T.stack([out.detach(), w.grad])


@program([0.0, 0.0])
def a_detached_view_becomes_computed(T: Any) -> Any:
    w = T.ones(2, requires_grad=True)
    x = T.zeros(2, 2)
    v = x.detach()[0]
    v.mul_(w)
    v.sum().backward()
    return w.grad


# ---- programs whose line is refused, in PyTorch too --------------------------------------------------------------------


def write_to_a_view_of_a_leaf(T: Any) -> None:
    T.ones(2, 2, requires_grad=True)[0].add_(1)


def write_to_an_expanded_one(T: Any) -> None:
    T.ones(1, 2).expand(3, 2).add_(1)


def write_to_a_view_made_without_grad(T: Any) -> None:
    w = T.ones(2, 2, requires_grad=True)
    with T.no_grad():
        row = w[0]
    row.mul_(2)


def write_what_backward_needs(T: Any) -> None:
    w = T.ones(2, 2, requires_grad=True)
    x = w * 1
    y = (x * x).sum()
    x[0].mul_(2)
    y.backward()


REFUSED: list[Callable[[Any], None]] = [
    write_to_a_view_of_a_leaf,
    write_to_an_expanded_one,
    write_to_a_view_made_without_grad,
    write_what_backward_needs,
]
