"""Chance: the bits are Philox's and pinned, the distributions are what they say, seeds and states reproduce."""

from __future__ import annotations

import ast
import copy
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pellucid as P
from pellucid import nn
from pellucid.data.loader import DataLoader, TensorDataset, random_split
from pellucid.errors import DTypeError, OptionError, ShapeError
from pellucid.ops.random import philox, rounds
from pellucid.random import Generator, fork_rng, keep_mask, use_generator

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers that Random123 publishes with Philox-4x32-10
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, int], expected: tuple[int, ...]) -> None:
    words = [np.array([word], np.uint64) for word in counter]
    assert tuple(int(word[0]) for word in rounds(words, *key)) == expected


def test_the_counter_is_block_and_call_and_the_key_is_the_seed() -> None:
    assert philox(0, 0, 1).tolist() == [[0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]]
    seed, call = 0x299F31D0A4093822, 0x0370734413198A2E
    by_hand = rounds([np.array([w], np.uint64) for w in (5, 0, 0x13198A2E, 0x03707344)], 0xA4093822, 0x299F31D0)
    assert philox(seed, call, 6)[5].tolist() == [int(w[0]) for w in by_hand]
    assert philox(-1, 0, 1).tolist() == philox(2**64 - 1, 0, 1).tolist()


def test_the_bits_are_pinned() -> None:
    """Saved runs and published results depend on these: they change only with a new format version."""
    g = Generator(2024)
    assert g.bits(5).tolist() == [0x9A8B6B73, 0x44C09046, 0xFC0EA9B9, 0x15668C92, 0x58A614EF]
    uniform = ["0x1.30b2f4p-2", "0x1.43523ap-1", "0x1.cba2d4p-2", "0x1.72f388p-3"]
    assert P.rand(4, generator=g).tolist() == [float.fromhex(x) for x in uniform]
    double = ["0x1.5fee868ef0f24p-1", "0x1.7b54b64a4ca06p-2"]
    assert P.rand(2, dtype=P.float64, generator=g).tolist() == [float.fromhex(x) for x in double]
    assert P.randint(100, (8,), generator=g).tolist() == [68, 56, 34, 53, 74, 90, 38, 36]
    assert P.randint(-5, 5, (8,), generator=g).tolist() == [-1, -1, 3, -1, 0, 3, 2, -2]
    assert P.randperm(10, generator=g).tolist() == [2, 4, 6, 7, 9, 0, 5, 1, 3, 8]
    normal = [-0.12205665558576584, -0.2171044498682022, 0.9175390005111694, -0.3834916949272156]
    assert P.randn(4, generator=g).tolist() == pytest.approx(normal, rel=1e-6)
    assert P.bernoulli(P.full((12,), 0.3), generator=g).tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0]
    assert keep_mask((12,), 0.7, g).tolist() == [True, True, False, False, *[True] * 8]
    assert P.multinomial(P.tensor([1.0, 2.0, 3.0, 4.0]), 3, generator=g).tolist() == [3, 1, 0]
    assert g.get_state().tolist() == [2024, 11]


def test_an_element_depends_on_its_position_alone() -> None:
    long, short = Generator(3).bits(1000), Generator(3).bits(7)
    assert long[:7].tolist() == short.tolist()
    assert Generator(3).bits(2, 5).reshape(-1).tolist() == long[:10].tolist()


# ---- seeds and states ------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_numbers() -> None:
    P.manual_seed(7)
    first = [P.rand(3).tolist(), P.randn(3).tolist(), P.randperm(5).tolist()]
    P.manual_seed(7)
    assert first == [P.rand(3).tolist(), P.randn(3).tolist(), P.randperm(5).tolist()]
    P.manual_seed(8)
    assert P.rand(3).tolist() != first[0]


def test_a_stored_state_continues_where_it_stood() -> None:
    P.manual_seed(1)
    P.rand(4)
    state = P.get_rng_state()
    expected = P.randn(5).tolist()
    P.rand(100)
    P.set_rng_state(state)
    assert P.randn(5).tolist() == expected
    assert (state.shape, state.dtype, state.tolist()) == ((2,), P.int64, [1, 1])


def test_a_generator_does_not_move_the_default_stream() -> None:
    P.manual_seed(5)
    expected = P.rand(2).tolist()
    P.manual_seed(5)
    own = Generator(9)
    P.rand(3, generator=own)
    P.ones(3).uniform_(generator=own)
    P.functional.dropout(P.ones(3), 0.5, generator=own)
    assert P.rand(2).tolist() == expected
    assert own.initial_seed() == 9 and own.get_state().tolist() == [9, 3]


def test_every_call_draws_new_numbers() -> None:
    P.manual_seed(0)
    draws = [tuple(P.rand(4).tolist()) for _ in range(50)]
    assert len(set(draws)) == 50
    P.manual_seed(0)
    P.rand(0)  # even a call for nothing counts
    assert P.get_rng_state().tolist() == [0, 1]


def test_seeds_of_any_size_and_sign() -> None:
    for seed in (0, -1, 2**63, 2**64 - 1, 2**70, np.int64(4)):
        assert P.manual_seed(seed).get_state().shape == (2,)
    assert Generator(2**64 - 1).bits(4).tolist() == Generator(-1).bits(4).tolist()
    fresh = Generator(0)
    seed = fresh.seed()
    assert fresh.bits(3).tolist() == Generator(seed).bits(3).tolist()


# ---- which stream is drawn from ------------------------------------------------------------------------------------------


def everything_that_draws() -> list[float]:
    """A number of each function that draws without being given a Generator."""
    layers = [nn.Linear(3, 2), nn.Conv2d(1, 2, 2), nn.Embedding(3, 2), nn.LSTM(2, 2), nn.MultiheadAttention(4, 2)]
    layers += [nn.Bilinear(2, 2, 2)] if hasattr(nn, "Bilinear") else []
    drawn = [p for layer in layers for p in layer.parameters()]
    drawn += [P.rand(3), P.randn(3), P.randint(9, (3,)), P.randperm(9), P.rand_like(P.ones(3)), P.randn_like(P.ones(3))]
    drawn += [P.bernoulli(P.full((9,), 0.5)), P.multinomial(P.ones(9), 3), P.ones(3).uniform_(), P.ones(3).normal_()]
    drawn += [keep_mask((9,), 0.5), nn.Dropout(0.5)(P.ones(9)), nn.init.orthogonal_(P.empty(3, 3))]
    drawn += [nn.init.trunc_normal_(P.empty(3)), nn.utils.spectral_norm(nn.Linear(3, 3)).weight_u]
    data = TensorDataset(P.arange(9))
    drawn += [batch[0] for batch in DataLoader(data, 3, shuffle=True)]
    drawn += [part[0][0] for part in random_split(data, [4, 5])]
    return [float(t.double().sum()) for t in drawn]


def test_inside_a_block_everything_draws_from_its_generator() -> None:
    P.manual_seed(3)
    truth = everything_that_draws()
    after = P.get_rng_state().tolist()
    P.manual_seed(99)
    own = Generator(3)
    with use_generator(own):
        assert everything_that_draws() == truth
    assert own.get_state().tolist() == after
    assert P.get_rng_state().tolist() == [99, 0]
    assert use_generator(Generator(3))(everything_that_draws)() == truth
    assert P.get_rng_state().tolist() == [99, 0]


def test_the_seed_and_state_are_those_of_the_stream_in_use() -> None:
    P.manual_seed(4)
    with use_generator(Generator(5)):
        assert P.initial_seed() == 5
        P.manual_seed(6)
        assert P.rand(2).tolist() == P.rand(2, generator=Generator(6)).tolist()
        state = P.get_rng_state()
        expected = P.rand(2).tolist()
        P.set_rng_state(state)
        assert P.rand(2).tolist() == expected
        assert P.seed() == P.initial_seed()
    assert P.initial_seed() == 4 and P.default_generator.get_state().tolist() == [4, 0]


def test_a_generator_given_by_name_comes_before_the_one_in_use() -> None:
    with use_generator(Generator(1)):
        given = P.rand(2, generator=Generator(2)).tolist()
        with use_generator(Generator(2)):
            assert P.rand(2).tolist() == given
        assert P.rand(2).tolist() == P.rand(2, generator=Generator(1)).tolist() != given


def test_a_fork_gives_the_same_numbers_and_moves_nothing() -> None:
    P.manual_seed(8)
    with fork_rng():
        expected = P.rand(3).tolist()
        P.manual_seed(1)
    assert P.rand(3).tolist() == expected


def test_a_copy_goes_its_own_way() -> None:
    own = Generator(3)
    own.bits(2)
    copies = [own.clone_state(), copy.deepcopy(own), pickle.loads(pickle.dumps(own))]
    expected = own.bits(3).tolist()
    assert [c.bits(3).tolist() for c in copies] == [expected] * 3
    assert repr(own) == "Generator(seed=3, calls=2)"


@pytest.mark.parametrize("what", [5, "3", P.ones(2)])
def test_what_is_no_generator(what: object) -> None:
    for call in (
        lambda: P.rand(2, generator=what), lambda: P.randperm(2, generator=what), lambda: use_generator(what),
        lambda: P.randint(2, (1,), generator=what), lambda: nn.init.uniform_(P.ones(2), generator=what),
        lambda: keep_mask((2,), 0.5, what),
    ):  # fmt: skip
        with pytest.raises(OptionError, match="generator: .*expected a Generator"):
            call()


def test_threads_that_draw_from_one_generator_never_draw_the_same(at_once: Any) -> None:
    own = Generator(1)
    drawn = at_once(lambda i: [own.bits(2).tolist() for _ in range(300)], threads=4)
    assert len({tuple(bits) for part in drawn for bits in part}) == 1200
    assert own.get_state().tolist() == [1, 1200]


@pytest.mark.parametrize("disable_passes", [(), ("native",)])
def test_compiled_draws_beside_eager_ones_never_draw_the_same(disable_passes: tuple[str, ...], at_once: Any) -> None:
    """A compiled program moves the state in native memory, an eager draw reads and writes it as an array."""
    own = Generator(1)

    def draws(i: int) -> list[tuple[float, ...]]:
        run = P.compile(lambda x: x + P.rand(2 + i // 2, generator=own), disable_passes=disable_passes)
        draw = (lambda: run(P.zeros(1))) if i % 2 else lambda: P.rand(2 + i // 2, generator=own)
        return [tuple(draw()[:2].tolist()) for _ in range(200)]

    drawn = [pair for part in at_once(draws, threads=4) for pair in part]
    assert own.get_state().tolist() == [1, 800]
    assert len(set(drawn)) == 800


def test_a_compiled_step_draws_from_the_generator_in_use() -> None:
    run = P.compile(lambda x: x + P.rand(3))
    own, other = Generator(1), Generator(2)
    for _ in range(2):
        for generator in (own, other):
            expected = P.rand(3, generator=generator.clone_state()).tolist()
            with use_generator(generator):
                assert run(P.zeros(3)).tolist() == expected
    P.manual_seed(7)
    expected = P.rand(3).tolist()
    P.manual_seed(7)
    assert run(P.zeros(3)).tolist() == expected
    assert [g.get_state().tolist() for g in (own, other)] == [[1, 2], [2, 2]]


def test_neither_numpys_nor_pythons_chance_is_used() -> None:
    """Read from the source, since a draw on some rare path would be found by no run."""
    wrong = []
    names_others = Path(P.__file__).parent / "compiler" / "guards" / "impure.py"  # in order to refuse them
    for file in sorted(set(Path(P.__file__).parent.rglob("*.py")) - {names_others}):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import) and any(name.name == "random" for name in node.names):
                wrong.append(f"{file}:{node.lineno} import random")
            numpys = isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np.random", "numpy.random")
            if numpys and node.attr not in ("default_rng", "Generator"):
                wrong.append(f"{file}:{node.lineno} {ast.unparse(node)}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.random.default_rng" and not node.args:
                wrong.append(f"{file}:{node.lineno} without a seed")
    assert not wrong


# ---- distributions ---------------------------------------------------------------------------------------------------


def test_bits_are_fair() -> None:
    words = Generator(1).bits(20_000).array
    for bit in range(32):
        share = ((words >> np.uint32(bit)) & 1).mean()
        assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(20_000), bit


def test_uniform() -> None:
    for dtype, steps in ((P.float32, 2**24), (P.float64, 2**53)):
        x = P.rand(20_000, dtype=dtype, generator=Generator(2)).array
        assert x.dtype == dtype and x.min() >= 0 and x.max() < 1
        assert np.array_equal(x * steps, np.floor(x * steps))  # multiples of 2**-24 (2**-53): all equally likely
        assert abs(x.mean() - 0.5) < 0.01 and abs(x.var() - 1 / 12) < 0.003
        assert np.histogram(x, 10, (0, 1))[0].min() > 1850
    wide = P.empty(5000).uniform_(-3, 5, generator=Generator(3)).array
    assert wide.min() >= -3 and wide.max() < 5 and abs(wide.mean() - 1) < 0.15


def test_normal() -> None:
    x = P.randn(200, 100, generator=Generator(4))
    assert x.shape == (200, 100) and x.dtype == P.float32 and np.isfinite(x.array).all()
    z = x.double().array.reshape(-1)
    assert abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.02
    assert abs((z**3).mean()) < 0.08 and abs((z**4).mean() - 3) < 0.2
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 0.03
    moved = P.empty(20_000).normal_(2.0, 0.5, generator=Generator(4)).array
    assert abs(moved.mean() - 2) < 0.02 and abs(moved.std() - 0.5) < 0.01
    assert P.randn(3, dtype=P.float64).dtype == P.float64


def test_whole_numbers() -> None:
    x = P.randint(-3, 4, (7000,), generator=Generator(5))
    counts = np.bincount(x.array + 3)
    assert x.dtype == P.int64 and len(counts) == 7 and counts.min() > 850
    assert P.randint(10, (2, 3)).shape == (2, 3)
    assert P.randint(3, size=(4,)).array.max() < 3
    assert P.randint(low=5, high=6, size=(4,)).tolist() == [5] * 4
    assert P.randint(2, (3,), dtype=P.float32).dtype == P.float32


def test_permutations() -> None:
    for n in (0, 1, 2, 1000):
        assert sorted(P.randperm(n, generator=Generator(n)).tolist()) == list(range(n))
    g = Generator(6)
    found = [tuple(P.randperm(3, generator=g).tolist()) for _ in range(1200)]
    assert len(set(found)) == 6 and min(found.count(order) for order in set(found)) > 140


def test_bernoulli_and_masks() -> None:
    g = Generator(7)
    for p in (0.0, 0.2, 1.0):
        assert abs(P.bernoulli(P.full((5000,), p), generator=g).mean().item() - p) < (0.03 if 0 < p < 1 else 1e-9)
        assert abs(keep_mask((5000,), p, g).float().mean().item() - p) < (0.03 if 0 < p < 1 else 1e-9)
    assert keep_mask((3, 4), 0.5, g).dtype == P.bool


def test_multinomial() -> None:
    g = Generator(8)
    weights = P.tensor([0.0, 1.0, 3.0])
    drawn = P.multinomial(weights, 4000, replacement=True, generator=g)
    assert drawn.shape == (4000,) and 0 not in drawn.tolist()
    assert abs((drawn == 2).float().mean().item() - 0.75) < 0.03
    first = [P.multinomial(weights + 1, 3, generator=g).tolist() for _ in range(600)]
    assert all(sorted(order) == [0, 1, 2] for order in first)
    assert abs(sum(order[0] == 2 for order in first) / 600 - 4 / 7) < 0.08
    rows = P.multinomial(P.tensor([[1.0, 0.0], [0.0, 1.0]]), 3, replacement=True, generator=g)
    assert rows.tolist() == [[0, 0, 0], [1, 1, 1]]


def test_dropout_keeps_the_mean_and_the_right_share() -> None:
    P.manual_seed(0)
    x = P.ones(10_000, requires_grad=True)
    y = P.functional.dropout(x, 0.25)
    kept = y.array != 0
    assert abs(kept.mean() - 0.75) < 0.02
    assert np.allclose(y.array[kept], 1 / 0.75)
    y.sum().backward()
    assert np.array_equal(x.grad.array, y.array)  # the same mask on the way back
    assert P.functional.dropout(x, 0.25, training=False) is x
    assert P.functional.dropout(P.ones(5), 1.0).tolist() == [0.0] * 5


def test_like() -> None:
    x = P.zeros(2, 3, dtype=P.float64)
    assert P.rand_like(x).shape == P.randn_like(x).shape == (2, 3)
    assert P.rand_like(x).dtype == P.float64 and P.randn_like(x, dtype=P.float32).dtype == P.float32
    assert P.rand(2, requires_grad=True).requires_grad and P.randn(2, requires_grad=True).is_leaf


def test_refusals() -> None:
    for error, call in [
        (OptionError, lambda: P.randint(5, 5, (2,))),
        (OptionError, lambda: P.randint(0, 10, 5)),
        (OptionError, lambda: P.randint(0, 2**40, (5,))),
        (OptionError, lambda: P.manual_seed(1.5)),
        (OptionError, lambda: P.manual_seed(True)),
        (OptionError, lambda: P.set_rng_state(P.ones(2))),
        (OptionError, lambda: P.multinomial(P.ones(2), 3)),
        (OptionError, lambda: P.functional.dropout(P.ones(2), 1.5)),
        (DTypeError, lambda: P.rand(2, dtype=P.int64)),
        (DTypeError, lambda: P.arange(3).normal_()),
        (ShapeError, lambda: P.rand(-1)),
        (ShapeError, lambda: P.randperm(-1)),
    ]:
        with pytest.raises(error, match="expected"):
            call()
