"""Windows of running text: what is in them, that all is scored once, and that a compiled step can take its own."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import pellucid
from pellucid.data import DataLoader, WindowDataset
from pellucid.data.loader import IGNORE_INDEX
from pellucid.data.problem import TokenSequence
from pellucid.errors import DataError, OptionError


@dataclasses.dataclass
class Reader:
    """What a Passage asks of a network."""

    context_length: int = 8
    eval_context_length: int = 8
    burn_in: int = 0


def text(length, dtype=np.uint8):
    return np.random.default_rng(length).integers(0, 200, length).astype(dtype)


def everything(dataset):
    return [x.array for x in dataset.gather(np.arange(len(dataset)))]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64])
def test_windows_to_learn_from(dtype):
    tokens = text(50, dtype)
    dataset = WindowDataset(tokens, 8)
    assert len(dataset) == 42
    x, y = everything(dataset)
    assert x.dtype == y.dtype == np.int64 and x.shape == y.shape == (42, 8)
    for i in range(42):
        np.testing.assert_array_equal(x[i], tokens[i : i + 8])
        np.testing.assert_array_equal(y[i], tokens[i + 1 : i + 9])
    one = dataset[-1]
    np.testing.assert_array_equal(one[0].array, x[41])
    np.testing.assert_array_equal(one[1].array, y[41])
    with pytest.raises(IndexError):
        dataset[42]


def test_text_of_few_tokens_stays_bytes():
    assert WindowDataset(text(50), 8).stream.dtype == np.uint8
    assert WindowDataset(text(50, np.uint16), 8).stream.dtype == np.int32


@pytest.mark.parametrize(("length", "context", "warm"), [
    (50, 8, 0), (49, 8, 0), (50, 8, 3), (50, 8, 7), (9, 8, 0), (9, 8, 5), (10, 8, 0), (10, 8, 6), (17, 8, 0), (18, 8, 0), (300, 7, 2),
])  # fmt: skip
def test_every_token_after_the_first_is_scored_once(length, context, warm):
    tokens = text(length)
    dataset = WindowDataset(tokens, context, strided=True, warm=warm)
    x, y = everything(dataset)
    assert x.shape == (len(dataset), context)
    begins, skipped = (t.array for t in dataset.windows)
    times = np.zeros(length, int)
    for i, (begin, first) in enumerate(zip(begins, skipped, strict=True)):
        np.testing.assert_array_equal(x[i], tokens[begin : begin + context])
        assert (y[i, :first] == IGNORE_INDEX).all()
        np.testing.assert_array_equal(y[i, first:], tokens[begin + 1 + first : begin + 1 + context])
        times[begin + 1 + first : begin + 1 + context] += 1
        assert first >= warm or i == 0
    assert times.tolist() == [0] + [1] * (length - 1)


def test_passage():
    train = TokenSequence(text(50))
    assert len(train) == 50 and len(train.dataset(Reader())) == 42
    assert (
        len(train.eval_dataset(Reader())) == 7
        and len(train.eval_dataset(Reader(eval_context_length=16, burn_in=8))) == 6
    )
    short = TokenSequence(text(6)).eval_dataset(Reader(eval_context_length=16, burn_in=8))
    assert (everything(short)[1] != IGNORE_INDEX).sum() == 5
    with pytest.raises(DataError, match=r"text: 8 tokens to learn from; expected more than the 8 of a window"):
        TokenSequence(text(8)).dataset(Reader())


@pytest.mark.parametrize(("length", "options", "words"), [
    (0, {}, r"length 0 of 50 tokens; expected 1 up to 49"), (50, {}, "length 50 of 50 tokens; expected 1 up to 49"),
    (8, {"strided": True, "warm": 8}, "warm 8 of length 8; expected 0 up to 7"), (8, {"strided": True, "warm": -1}, "warm -1"),
])  # fmt: skip
def test_options_out_of_range(length, options, words):
    with pytest.raises(OptionError, match=words):
        WindowDataset(text(50), length, **options)


def test_the_loader_takes_whole_batches():
    dataset = WindowDataset(text(50), 8)
    batches = list(DataLoader(dataset, batch_size=16, shuffle=True, seed=3))
    assert [batch[0].shape for batch in batches] == [(16, 8), (16, 8), (10, 8)]
    order = DataLoader(dataset, batch_size=16, shuffle=True, seed=3).indices(0)
    np.testing.assert_array_equal(batches[1][1].array, everything(dataset)[1][order[16:32]])


@pytest.mark.parametrize("strided", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_picking_is_part_of_one_compiled_program(dtype, strided):
    dataset = WindowDataset(text(300, dtype), 12, strided=strided, warm=5 * strided)
    rng = np.random.default_rng(0)

    def step(picked):
        tokens, target = dataset.gather_op(picked)
        return {"sum": tokens.sum(), "target": target}

    compiled = pellucid.compile(step)
    for _ in range(3):
        picked = pellucid.tensor(rng.integers(0, len(dataset), 16))
        out, (x, y) = compiled(picked), dataset.gather(picked.array)
        assert out["sum"].item() == x.array.sum()
        np.testing.assert_array_equal(out["target"].array, y.array)
    assert len(compiled.programs) == 1 and compiled.last.is_whole
