"""What the families of networks are made of, each against eager, interpreter and memory plan; and what the compiler makes of it.

The numbers of every piece are compared in all four ways (`random_graphs.check`), with each pass on and off for some; the
other tests look at the kernels: what is computed in one pass, in place, once more, or not at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from random_graphs import DISABLED, Trial, check

import pellucid as P
from pellucid import functional as F
from pellucid import nn, optim
from pellucid.autograd import grad
from pellucid.compiler.backends.cpu import executable
from pellucid.tensor import Tensor


def normal(*shape: int, seed: int = 0) -> Tensor:
    return P.tensor(np.random.default_rng((seed, *shape)).normal(size=shape).astype(np.float32))


def with_gradients(function: Callable[..., Tensor], weights: Tensor) -> Callable[..., Any]:
    """The function's value, and the gradient of its sum, weighted by `weights`, for every floating argument."""

    def step(*args: Tensor) -> Any:
        own = [x for x in args if x.dtype.kind == "f"]
        y = function(*args)
        return y, *grad((y * weights).sum(), own)

    return step


def trial(function: Callable[..., Tensor], *args: Tensor) -> Trial:
    for x in args:
        x.requires_grad = x.dtype.kind == "f"
    weights = normal(*function(*args).shape, seed=7)
    return Trial(with_gradients(function, weights), args, [])


def kernels(function: Callable[..., Any], *args: Tensor) -> list[Any]:
    compiled = P.compile(function)
    compiled(*args)
    return compiled.kernels(measure=False)


# ---- convolution -------------------------------------------------------------------------------------------------------

CONVOLUTIONS = [  # B, C, O, H, W, kernel, and the rest
    (2, 3, 16, 9, 7, 3, {"padding": 1}),
    (3, 16, 33, 8, 8, 3, {"padding": 1}),
    (2, 4, 20, 11, 10, 3, {"stride": 2, "padding": 1}),
    (2, 4, 6, 12, 9, (2, 3), {"stride": (3, 2), "padding": (1, 0)}),
    (1, 5, 7, 13, 13, 3, {"dilation": 2, "padding": 2}),
    (2, 8, 12, 7, 6, 3, {"groups": 4, "padding": 1}),
    (2, 18, 18, 7, 7, 3, {"groups": 18, "padding": 1}),
    (2, 6, 12, 8, 8, 3, {"groups": 6, "stride": 2}),
    (2, 3, 1, 8, 20, 5, {"padding": 4}),
    (2, 3, 4, 6, 5, 1, {"padding": 1, "stride": 2}),
    (1, 1, 1, 4, 4, 4, {}),
    (40, 2, 17, 12, 12, 3, {}),  # the weight's gradient sums more numbers than are summed in one go
]


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda case: "-".join(map(str, case[:6])))
def test_convolutions_and_their_gradients(case: Any) -> None:
    b, c, o, h, w, kernel, how = case
    k, l = (kernel, kernel) if isinstance(kernel, int) else kernel
    x, weight = normal(b, c, h, w), normal(o, c // how.get("groups", 1), k, l, seed=1)
    bias = normal(o, seed=2)
    check(trial(lambda x, w, b: F.relu(F.conv2d(x, w, b, **how)), x, weight, bias), scale=20)


@pytest.mark.parametrize("disable_passes", DISABLED, ids=lambda names: "-".join(names)[:40] or "all on")
def test_two_convolutions_and_a_pool_with_passes_off(disable_passes: tuple[str, ...]) -> None:
    def network(x: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(F.conv2d(x, a, padding=1)), 2)
        x = F.max_pool2d(F.relu(F.conv2d(x, b, padding=1)), 3, stride=2, padding=1)
        return x.flatten(1) @ c

    args = normal(3, 2, 9, 8), normal(5, 2, 3, 3, seed=1), normal(6, 5, 3, 3, seed=2), normal(24, 4, seed=3)
    check(trial(network, *args), disable_passes, scale=20)


def test_a_padded_convolution_copies_nothing_but_weights() -> None:
    weights = [normal(32, 32, 3, 3, seed=i).requires_grad_() for i in range(3)]

    def step(x: Tensor) -> Any:
        for w in weights:
            x = F.relu(F.conv2d(x, w, padding=1))
        return grad(x.sum(), weights)

    found = kernels(step, normal(4, 32, 16, 16))
    activations = 4 * 32 * 16 * 16
    assert [k for k in found if k.kind in ("copy", "reshape") and np.prod(k.shape) >= activations] == []
    compiled = P.compile(step)
    compiled(normal(4, 32, 16, 16))
    assert compiled.last is not None
    assert (
        len(compiled.last.executable.layout.subview_of) >= 3
    )  # relu, and two gradients, are computed inside their borders


# ---- pooling -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "how"),
    [((8, 8), (2,)), ((9, 7), (2,)), ((9, 9), (3, 2, 1)), ((6, 8), ((1, 3),)), ((5, 5), (5,)), ((12, 12), (5, 1))],
)
def test_max_pool_and_its_gradient(size: tuple[int, int], how: Any) -> None:
    x = P.tensor(np.random.default_rng(3).integers(0, 4, (2, 17, *size)).astype(np.float32))  # many ties
    check(trial(lambda x: F.max_pool2d(x, *how), x))


def test_max_pool_lets_nan_through_and_finds_the_first() -> None:
    array = np.zeros((1, 16, 4, 4), np.float32)
    array[0, 3, 1, 1] = np.nan
    array[0, 4] = -np.inf
    check(trial(lambda x: F.max_pool2d(x, 2), P.tensor(array)))


def test_max_pool_looks_through_each_window_once() -> None:
    x = normal(4, 32, 16, 16).requires_grad_()
    found = kernels(lambda: grad((F.max_pool2d(x * 2, 2) * 3).sum(), [x]))
    assert {k.kind for k in found} == {"loop"}  # no copy of the windows, no gather and no scatter


# ---- rows ----------------------------------------------------------------------------------------------------------------

ROWS = {
    "softmax": lambda x: F.softmax(x, -1),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "over columns": lambda x: F.softmax(x, 0),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:]),
    "two sums": lambda x: (x - x.mean(-1, keepdim=True)) / (x.abs().sum(-1, keepdim=True) + 1),
    "argmax and amax": lambda x: x * (x.argmax(-1, keepdim=True) + x.amax(-1, keepdim=True)),
    "cumulative": lambda x: (x - x.amax(-1, keepdim=True)).exp().cumsum(-1),
}


@pytest.mark.parametrize("shape", [(9, 5), (33, 16), (8, 100), (20, 3, 17), (200, 257), (4, 70), (16, 1)])
@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_gone_over_several_times(name: str, shape: tuple[int, ...]) -> None:
    check(trial(ROWS[name], normal(*shape)), scale=10)


@pytest.mark.parametrize("name", ["over columns", "layer_norm", "two sums"])
def test_rows_too_long_for_the_stack_are_computed_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PELLUCID_CACHE", "off")
    target = executable.host()
    without_stack = target._replace(caches=dataclasses.replace(target.caches, stack=0))
    monkeypatch.setattr(executable, "host", lambda: without_stack)
    check(trial(ROWS[name], normal(40, 33)), scale=10)


def test_a_row_of_minus_infinities_is_what_numpy_makes_of_it() -> None:
    array = np.random.default_rng(0).normal(size=(12, 20)).astype(np.float32)
    array[3] = -np.inf
    array[5, 7] = np.nan
    array[6, 1] = np.inf
    check(trial(lambda x: F.softmax(x, -1), P.tensor(array)))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "layer_norm"])
def test_a_row_operation_is_one_kernel(name: str) -> None:
    assert [k.kind for k in kernels(lambda x: ROWS[name](x) * 2, normal(64, 100))] == ["loop"]


def test_cross_entropy_and_its_gradient_are_one_kernel_over_the_logits() -> None:
    logits, target = normal(64, 65).requires_grad_(), P.randint(0, 65, (64,))
    found = kernels(lambda target: grad(F.cross_entropy(logits, target), [logits]), target)
    assert sum(np.prod(k.shape) == 64 * 65 for k in found) == 1
    assert {k.kind for k in found} == {"loop"}


def test_long_sums_are_summed_in_blocks() -> None:
    x = P.tensor(np.full((1 << 17, 16), 0.1, np.float32))
    assert abs(P.compile(lambda x: x.sum(0))(x).numpy() / (0.1 * (1 << 17)) - 1).max() < 1e-5


# ---- products ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [4095, 4096, 5000, 9000])
@pytest.mark.parametrize("sizes", [(3, 20), (29, 33), (1, 40)])
def test_long_products_are_made_in_parts(terms: int, sizes: tuple[int, int]) -> None:
    m, n = sizes
    check(trial(lambda a, b: F.relu(a.T @ b + 1), normal(terms, m), normal(terms, n, seed=1)), scale=200)


def test_a_batch_of_gradients_is_summed_in_the_product() -> None:
    w = normal(24, 40).requires_grad_()
    found = kernels(lambda x: grad((F.linear(x, w) ** 2).sum(), [w]), normal(6, 32, 40))
    assert not any(name == "sum" and k.kind != "loop" for k in found for name, _ in k.operations)
    assert sum(k.kind == "product" for k in found) == 2
    assert not any(np.prod(k.shape) == 6 * 24 * 40 for k in found)


def test_pieces_side_by_side_are_put_together_once() -> None:
    x = normal(32, 60).requires_grad_()

    def step() -> Any:
        i, f, g = x.chunk(3, -1)
        return grad((i.sigmoid() * f + g.tanh()).sum(), [x])

    *before, last = [k.kind for k in kernels(step)]
    assert set(before) == {"loop"} and last == "concatenate"
    check(Trial(step, [], []))


# ---- lookups -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40,), (6, 9), (3, 4, 5), (2, 3)])
@pytest.mark.parametrize("disable_passes", [(), ("fold reshapes",), ("embedding products",)])
def test_products_with_looked_up_rows(shape: tuple[int, ...], disable_passes: tuple[str, ...]) -> None:
    index = P.tensor(np.random.default_rng(1).integers(-7, 7, shape))

    def network(table: Tensor, w: Tensor, b: Tensor) -> Tensor:
        x = F.embedding(index, table)
        x = x.transpose(0, 1) if index.ndim > 1 else x
        return F.linear(x, w, b).tanh()

    check(trial(network, normal(7, 17), normal(20, 17, seed=1), normal(20, seed=2)), disable_passes, scale=10)


def test_a_layer_behind_an_embedding_multiplies_the_table() -> None:
    table, w = normal(10, 32).requires_grad_(), normal(48, 32, seed=1).requires_grad_()
    index = P.randint(0, 10, (8, 50))
    found = kernels(lambda index: grad((F.linear(F.embedding(index, table), w) ** 2).sum(), [table, w]), index)
    assert sum(k.kind == "product" for k in found) == 3
    assert max(k.flops for k in found if k.kind == "product") < 2 * 2 * 10 * 32 * 48  # not 400 rows


# ---- made again ----------------------------------------------------------------------------------------------------------


def test_what_a_gelu_computes_on_its_way_is_made_again() -> None:
    a, b = normal(256, 64).requires_grad_(), normal(64, 256, seed=1).requires_grad_()

    def step(x: Tensor) -> Any:
        return grad((F.linear(F.gelu(F.linear(x, a)), b) ** 2).sum(), [a, b])

    arena = {}
    for disable_passes in ((), ("rematerialization",)):
        compiled = P.compile(step, disable_passes=disable_passes)
        compiled(normal(128, 64))
        assert compiled.last is not None
        arena[disable_passes] = compiled.last.plan.arena
    assert arena[()] < arena[("rematerialization",)] - 4 * 128 * 256
    check(Trial(step, [normal(128, 64)], []), scale=300)


def test_weight_gradients_are_made_before_their_operands_pile_up() -> None:
    layers = [normal(256, 256, seed=i).requires_grad_() for i in range(8)]

    def step(x: Tensor) -> Any:
        for w in layers:
            x = F.linear(x, w).tanh()
        return grad(x.sum(), layers)

    compiled = P.compile(step)
    compiled(normal(2048, 256))
    assert compiled.last is not None
    activation = 4 * 2048 * 256
    assert compiled.last.plan.arena < (len(layers) + 4) * activation  # not one more gradient for each layer


# ---- whole steps ---------------------------------------------------------------------------------------------------------


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 20, 3, padding=1, bias=False), nn.BatchNorm2d(20), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(20, 24, 3, padding=1, stride=2), nn.GroupNorm(4, 24), nn.GELU(), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(24 * 16, 40), nn.LayerNorm(40), nn.ReLU(), nn.Linear(40, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


def whole_step() -> tuple[Callable[..., Any], Network]:
    P.manual_seed(3)
    model = Network()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, model


BATCH = normal(24, 3, 16, 16, seed=5), P.tensor(np.arange(24) % 10)


def test_a_convolutional_network_trains_as_it_does_eagerly() -> None:
    eager, _ = whole_step()
    compiled = P.compile(whole_step()[0])
    for _ in range(4):
        assert abs(eager(*BATCH).item() - compiled(*BATCH).item()) < 2e-4


def test_a_convolutional_network_has_the_same_bits_on_any_number_of_threads() -> None:
    found = set()
    threads = P.get_num_threads()
    try:
        for count in (1, 2, 3, 4):
            P.set_num_threads(count)
            step, model = whole_step()
            compiled = P.compile(step)
            for _ in range(3):
                compiled(*BATCH)
            state = b"".join(t.numpy().tobytes() for t in model.state_dict().values())
            found.add(hashlib.sha256(state).hexdigest())
    finally:
        P.set_num_threads(threads)
    assert len(found) == 1
