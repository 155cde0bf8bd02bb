"""`compile(pad=)`: few programs for many lengths, each computing on the true length alone; right or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import pellucid as P
import pellucid.functional as F
from pellucid import Tensor, nn, optim
from pellucid.compiler.backends.cpu import executable, lower
from pellucid.compiler.backends.cpu.memory_plan import INPUTS
from pellucid.compiler.passes.padded_axes import bucket_size
from pellucid.errors import OptionError, PellucidError, TraceError

LENGTHS = (13, 9, 16, 15, 8, 3, 5, 11, 14, 1)
T = 1  # the padded axis of the samples


def sequence(n: int) -> tuple[Tensor]:
    return (P.tensor(np.random.default_rng(n).normal(size=(3, n, 4)).astype(np.float32)),)


def tokens(n: int) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(n)
    return P.tensor(random.integers(0, 20, (3, n))), P.tensor(random.integers(0, 20, (3, n)))


def poison(program: Any) -> None:
    """Garbage in the padding of every argument: NaN, or an index out of every range."""
    for number, slot in enumerate(program.graph.inputs):
        if slot.kind == "argument" and slot.position in program.padding.arguments:
            room = program.context.regions[INPUTS + number].view(slot.symbol.dtype).reshape(slot.symbol.shape)
            kept = program.padding.within(slot.position, room).copy()
            room[...] = np.nan if room.dtype.kind == "f" else 10**6
            program.padding.within(slot.position, room)[...] = kept


def compare(expected: Any, found: Any, **near: float) -> None:
    expected, found = ([x] if isinstance(x, Tensor) else list(x) for x in (expected, found))
    assert [x.shape for x in expected] == [x.shape for x in found]
    for a, b in zip(expected, found, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), **({"rtol": 2e-5, "atol": 2e-6} | near))


weight, bias, kernel = (
    P.tensor(np.random.default_rng(7).normal(size=s).astype(np.float32)) for s in ((4, 5), (5,), (8, 4, 3))
)
positions = P.tensor(np.random.default_rng(8).normal(size=(40, 4)).astype(np.float32))

FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "elementwise": lambda x: (x * 2 + 1, x.exp(), x.relu(), (x > 0)),
    "reductions": lambda x: (x.sum(), x.sum(1), x.mean((0, 1)), x.amax(1), x.amin((1, 2)), x.std(1), x.var()),
    "truths": lambda x: ((x > 2).any(1), (x < 9).all(1), (x > 0).sum(1)),
    "positions": lambda x: (x.argmax(1), x.argmin(1), x.argmax(2)),
    "softmax": lambda x: (F.softmax(x, dim=1), F.log_softmax(x, dim=1), F.softmax(x, dim=2)),
    "not finite": lambda x: (x.log().exp().nansum() if hasattr(x, "nansum") else (1 / x).sum(1), (x / x).mean(1)),
    "merged": lambda x: (x.reshape(-1, 4).mean(0), x.reshape(-1, 2).relu(), x.flatten().sum(), x.reshape(3, -1).sum(1)),
    "split": lambda x: (x.reshape(3, x.shape[1], 2, 2).permute(0, 2, 1, 3).sum(2), x.unsqueeze(1).squeeze(1)),
    "products": lambda x: (x @ weight + bias, x.transpose(1, 2) @ x, x @ x.transpose(1, 2)),
    "merged product": lambda x: (x.reshape(-1, 4).transpose(0, 1) @ x.reshape(-1, 4)),
    "cumulative": lambda x: (x.cumsum(1), x.reshape(-1, 4).cumsum(0)),
    "norm": lambda x: (F.layer_norm(x, (4,)), (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)),
    "length": lambda x: (x * x.shape[1], x.sum() / x.shape[1] ** 0.5, x + P.arange(x.shape[1])[None, :, None]),
    "length in a product": lambda x: (x @ P.full((4, 4), x.shape[1])) * x.shape[1] + P.full((4,), x.shape[1]),
    "table": lambda x: x + positions[: x.shape[1]],
    "first": lambda x: (x[:, 0], x[:, 0].sum(0)),
    "other axes": lambda x: (x.flip(2), P.cat([x, x], dim=2), x[:, :, 1:], P.sort(x, dim=2)[0]),
    "causal": lambda x: F.softmax(
        (x @ x.transpose(1, 2)).masked_fill(P.triu(P.ones(x.shape[1], x.shape[1]), 1) > 0, float("-inf")), dim=2
    ) @ x,
    "attention": lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None]),
    "causal attention": lambda x: F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], is_causal=True),
    "masked attention": lambda x: F.scaled_dot_product_attention(
        x[:, None], x[:, None], x[:, None], attn_mask=(x[:, None, :, :1] @ x[:, None, :, :1].transpose(2, 3)) > -0.5
    ),
    "biased attention": lambda x: F.scaled_dot_product_attention(
        x[:, None], x[:, None], x[:, None], attn_mask=x[:, None, :, :1] @ x[:, None, :, :1].transpose(2, 3)
    ),
    "cross attention": lambda x: F.scaled_dot_product_attention(kernel[:3].transpose(1, 2)[:, None], x[:, None], x[:, None]),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_are_those_of_the_true_length(name: str) -> None:
    function = FUNCTIONS[name]
    run = P.compile(lambda x: function(x), pad={"x": T})
    for n in LENGTHS:
        (x,) = sequence(n)
        compare(function(x), run(x))
        if n > 1:
            assert run.last.padding is not None
            poison(run.last)
            compare(function(x), run(x))


class Network(nn.Module):
    """Embedding, positions, attention, a feed-forward part with dropout, and a head over the tokens."""

    def __init__(self, causal: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(20, 16), nn.Parameter(P.randn(40, 16) * 0.1)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm, self.feed = nn.LayerNorm(16), nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(dropout))
        self.back, self.head, self.causal = nn.Linear(32, 16), nn.Linear(16, 20), causal

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        mask = P.triu(P.ones(x.shape[1], x.shape[1]), 1) > 0 if self.causal else None
        y, _ = self.attention(x, x, x, need_weights=False, attn_mask=mask)
        x = self.norm(x + y)
        return self.head(x + self.back(self.feed(x)))


def training(causal: bool, dropout: float) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    P.manual_seed(1)
    model = Network(causal, dropout)
    optimizer = optim.SGD(model.parameters(), lr=0.3, momentum=0.9)

    def step(tokens: Tensor, targets: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(tokens).reshape(-1, 20), targets.reshape(-1), label_smoothing=0.1)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return model, step


@pytest.mark.parametrize(
    ("causal", "dropout"),
    [(False, 0.3), *(pytest.param(causal, 0.0, marks=pytest.mark.slow) for causal in (False, True))],
)
def test_training_is_that_of_the_eager_step(causal: bool, dropout: float, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    compile_module = lower.compile_module
    monkeypatch.setattr(lower, "compile_module", lambda *a, **k: compiled.append(1) or compile_module(*a, **k))
    monkeypatch.setenv("PELLUCID_CACHE", "off")
    executable._cached.clear()
    plain, eager = training(causal, dropout)
    model, step = training(causal, dropout)
    run = P.compile(step, pad={"tokens": 1, "targets": 1})
    for n in (*LENGTHS, *LENGTHS):
        batch = tokens(n)
        P.manual_seed(n)  # the dropout is the same, number for number
        expected = eager(*batch).item()
        P.manual_seed(n)
        np.testing.assert_allclose(run(*batch).item(), expected, rtol=1e-4)
        for a, b in zip(plain.parameters(), model.parameters(), strict=True):
            np.testing.assert_allclose(b.detach().numpy(), a.detach().numpy(), rtol=1e-3, atol=2e-4)
        if n > 1:
            poison(run.last)
    assert len(compiled) <= len({bucket_size(n) for n in LENGTHS}) + 1 == 6  # and one for length 1


def test_buckets_are_few_and_little_larger() -> None:
    for n in range(2, 3000):
        assert n <= bucket_size(n) <= max(8, 1.25 * n)
        assert bucket_size(bucket_size(n)) == bucket_size(n)
    assert len({bucket_size(n) for n in range(2, 1025)}) == 29


def test_dropout_drops_what_the_eager_step_drops() -> None:
    function = lambda x: (F.dropout(x, 0.5), P.rand(x.shape[1]), F.dropout(x.reshape(-1, 4), 0.5))
    run = P.compile(function, pad={0: 1})
    for n in LENGTHS:
        (x,) = sequence(n)
        P.manual_seed(n)
        expected = function(x)
        P.manual_seed(n)
        compare(expected, run(x), rtol=1e-6)


def test_the_last_batch_may_be_shorter() -> None:
    layer = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    with P.no_grad():
        run = P.compile(layer, pad={0: 0})
        for n in (2, 7, 8, 30):
            x = P.tensor(np.random.default_rng(n).normal(size=(n, 1, 8, 8)).astype(np.float32))
            compare(layer(x), run(x), rtol=1e-4, atol=1e-5)
            assert run.last.padding is not None


def test_plain_numbers_of_the_length_are_those_of_this_length() -> None:
    run = P.compile(lambda x: (x.sum() * min(x.shape[1], 12), x.sum() * (x.shape[1] % 3), x * len(x[0])), pad={"x": 1})
    for n in (9, 10, 11, 12, 13, 14, 15, 16):
        (x,) = sequence(n)
        compare((x.sum() * min(n, 12), x.sum() * (n % 3), x * n), run(x))


def test_an_index_out_of_range_is_named_as_in_the_eager_step() -> None:
    model = Network()
    run = P.compile(model, pad={"tokens": 1})
    with P.no_grad():
        assert run(P.zeros(2, 5).long()).shape == (2, 5, 20)
        with pytest.raises(PellucidError, match="holds 20; expected row numbers"):
            run(P.full((2, 6), 20))
        assert run(P.zeros(2, 7).long()).shape == (2, 7, 20)


REFUSED: dict[str, Callable[[Tensor], Any]] = {
    "flip": lambda x: x.flip(1),
    "sort": lambda x: P.sort(x, dim=1)[0],
    "cat": lambda x: P.cat([x, x], dim=1),
    "shift": lambda x: x[:, 1:],
    "last": lambda x: x[:, -1],
    "convolution": lambda x: F.conv1d(x.transpose(1, 2), kernel),
    "index": lambda x: x[:, P.tensor([0, 1])],
    "from the end": lambda x: x[:, P.tensor([-1])],
    "argmax of merged": lambda x: x.reshape(-1, 4).argmax(0),
    "other order": lambda x: x.reshape(-1, 4) + x.permute(1, 0, 2).reshape(-1, 4),
    "course": lambda x: x.exp() if x.shape[1] % 2 else x,
    "loop": lambda x: sum(x[:, t] for t in range(x.shape[1])),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused(name: str) -> None:
    function = REFUSED[name]
    with pytest.raises(TraceError, match=r"pad=") as error:
        P.compile(lambda x: function(x), pad={"x": 1})(*sequence(13))
    assert "test_padding.py" in str(error.value) or "with length" in str(error.value)


def test_a_bucket_may_be_the_whole_table() -> None:
    table = nn.Parameter(positions.clone())
    other = nn.Parameter(positions.clone())
    function = lambda x, table: ((x + table[: x.shape[1]]) ** 2).mean().backward()
    run = P.compile(lambda x: function(x, table), pad={"x": 1})
    for n in (39, 36, 40, 37, 21):
        table.grad = other.grad = None
        (x,) = sequence(n)
        function(x, other)
        run(x)
        assert run.last.padding is not None
        poison(run.last)
        compare(other.grad, table.grad)
        table.grad = None
        run(x)
        compare(other.grad, table.grad)


def test_a_length_whose_bucket_the_step_cannot_run_at_is_a_program_of_its_own() -> None:
    run = P.compile(lambda x: x + positions[:35][: x.shape[1]], pad={"x": 1})
    (x,) = sequence(34)  # of 40, say
    compare(x + positions[:34], run(x))
    assert run.last.padding is None


def test_options_that_do_not_fit() -> None:
    f = lambda x, y: x + y
    for pad, words in [({"z": 1}, "pad names 'z'; expected one of x, y"), ({}, "expected {argument"), (1, "pad is 1")]:
        with pytest.raises(OptionError, match=words):
            P.compile(f, pad=pad)
    with pytest.raises(OptionError, match="expected a Tensor with that axis"):
        P.compile(f, pad={"x": 2})(P.ones(2, 2), P.ones(2, 2))
    with pytest.raises(OptionError, match="one length in a call"):
        P.compile(f, pad={"x": 0, "y": 0})(P.ones(1), P.ones(2))
    with pytest.raises(OptionError, match="requires a gradient"):
        P.compile(f, pad={"x": 0})(P.ones(2, requires_grad=True), P.ones(1))
    with pytest.raises(OptionError, match="beside capture"):
        P.compile(nn.Linear(2, 2), pad={0: 0}, capture="weight")


def test_an_argument_that_is_given_back_is_the_one_of_the_call() -> None:
    run = P.compile(lambda x, y: (x, y * 2, {"both": (x, 3)}), pad={"x": 1})
    for n in (5, 6):
        (x,) = sequence(n)
        found = run(x, y=P.ones(2))
        assert found[0] is x and found[2]["both"][0] is x


@pytest.mark.parametrize("ordered", [True, False], ids=["alike", "another order"])
def test_scattered_values_stand_in_the_order_of_their_index(ordered: bool) -> None:
    """The padding of values (2, n) merged is not where that of an index (n, 2) merged is."""

    def step(x: Tensor) -> Tensor:
        index = ((x if ordered else x.T).reshape(-1) > 0).long()
        return P.zeros(2).scatter_add(0, index, x.reshape(-1))

    run = P.compile(step, pad={"x": 1})
    for length in (3, 5, 13):
        x = P.tensor(np.random.default_rng(length).normal(size=(2, length)).astype(np.float32))
        if ordered:
            compare(step(x), run(x))
        else:
            with pytest.raises(TraceError, match="scatter_add of values in another order than their index"):
                run(x)
