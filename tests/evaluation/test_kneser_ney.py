"""N-grams: against dictionaries counted the slow way, sums of one, and what is known of real texts."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest

from pellucid.data import datasets as shelf
from pellucid.data.base import Source
from pellucid.data.load import load_problem
from pellucid.data.text.read import text_module
from pellucid.errors import OptionError
from pellucid.evaluation import kneser_ney
from pellucid.evaluation.comparison import compare_with_baselines
from pellucid.evaluation.kneser_ney import KneserNey, flat_tokens, text_baselines
from pellucid.evaluation.metrics import text_metrics


class Slow:
    """The formula in dictionaries, one line of text at a time."""

    def __init__(self, order, vocabulary, lines):
        self.order, self.vocabulary = order, vocabulary
        counts = [Counter() for _ in range(order + 1)]
        before = [defaultdict(set) for _ in range(order + 1)]
        for line in lines:
            for i in range(1, len(line)):
                for k in range(1, min(order, i + 1) + 1):
                    gram = tuple(line[i - k + 1 : i + 1])
                    if k == order or i - k + 1 == 0:
                        counts[k][gram] += 1
                    else:
                        before[k][gram].add(line[i - k])
        for k in range(1, order):
            counts[k].update({gram: len(others) for gram, others in before[k].items()})
        self.counts = counts
        self.discounts = []
        for k in range(order + 1):
            n1, n2 = (sum(c == n for c in counts[k].values()) for n in (1, 2))
            self.discounts.append(n1 / (n1 + 2 * n2) if n1 else 0.5)
        self.after = [defaultdict(list) for _ in range(order + 1)]
        for k in range(1, order + 1):
            for gram, c in counts[k].items():
                self.after[k][gram[:-1]].append(c)

    def probability(self, history, w):
        p = 1 / self.vocabulary
        for k in range(1, min(self.order, len(history) + 1) + 1):
            h = tuple(history[len(history) - k + 1 :])
            seen = self.after[k].get(h)
            if seen:
                d = self.discounts[k]
                p = (max(self.counts[k][(*h, w)] - d, 0) + d * len(seen) * p) / sum(seen)
        return p


def rows(lines):
    return np.concatenate(lines), np.concatenate([np.arange(len(line)) for line in lines])


def some_lines(seed, count, length, letters=4):
    """Lines that begin with 0 and end with it, as those of names do; letters are likely to come again."""
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(count):
        inside = rng.integers(1, letters + 1, rng.integers(1, length))
        inside[1:] = np.where(rng.random(len(inside) - 1) < 0.5, inside[:-1], inside[1:])
        lines.append([0, *inside.tolist(), 0])
    return lines


@pytest.mark.parametrize("order", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("count", [1, 40])
def test_against_dictionaries(order, count):
    train, test = some_lines(1, count, 200 if count == 1 else 9), some_lines(2, 20, 9, letters=6)
    slow = Slow(order, 8, train)
    nats = KneserNey(order, 8).fit(*rows(train)).nats(*rows(test))
    expected = [-np.log(slow.probability(line[:i], line[i])) for line in test for i in range(len(line))]
    np.testing.assert_allclose(nats, expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 4, 6])
def test_probabilities_add_up_to_one(order):
    model = KneserNey(order, 8).fit(*rows(some_lines(3, 60, 9)))
    rng = np.random.default_rng(4)
    histories = [[0], [0, 1], [0, 1, 1, 1], [0, 7, 7], [0, 7, 1, 2]] + [[0, *rng.integers(0, 8, 7)] for _ in range(50)]
    for history in histories:
        asked = [[*history, w] for w in range(8)]
        nats, depth = model.nats(*rows(asked)), rows(asked)[1]
        np.testing.assert_allclose(np.exp(-nats[depth == len(history)]).sum(), 1, rtol=1e-12)


def test_orders_out_of_range():
    with pytest.raises(OptionError, match="KneserNey: order 0, vocabulary 8; expected both at least 1"):
        KneserNey(0, 8)


def test_a_line_does_not_see_the_one_before():
    model = KneserNey(4, 8).fit(*rows(some_lines(5, 60, 9)))
    one, two = [0, 1, 2, 2, 0], [0, 3, 1, 0]
    both, alone = model.nats(*rows([one, two])), model.nats(*rows([two]))
    np.testing.assert_array_equal(both[5:], alone)


def test_orders_longer_than_every_line_change_nothing():
    lines = [[0, 1 + i % 3, 1 + i % 2, 0] for i in range(30)]  # of two letters
    asked = [[0, 1, 2, 0], [0, 3, 3, 3, 3, 1, 0]]
    found = KneserNey(5, 8).fit(*rows(lines)).nats(*rows(asked))
    np.testing.assert_array_equal(found, KneserNey(4, 8).fit(*rows(lines)).nats(*rows(asked)))
    slow = Slow(5, 8, lines)
    np.testing.assert_allclose(
        found, [-np.log(slow.probability(line[:i], line[i])) for line in asked for i in range(len(line))]
    )


def test_a_long_text_is_scored_piece_by_piece(monkeypatch):
    train, test = rows(some_lines(1, 1, 300)), rows(some_lines(2, 30, 9))
    model = KneserNey(4, 8).fit(*train)
    whole = model.nats(*test)
    for size in (1, 2, 7, len(test[0])):
        monkeypatch.setattr(kneser_ney, "AT_ONCE", size)
        np.testing.assert_array_equal(model.nats(*test), whole)


def against(problem, windows=7, notes=None):
    """The baselines beside a network that is sure of nothing, judged in so many windows."""
    count = (flat_tokens(problem.test)[1] > 0).sum()
    characters = np.diff(np.linspace(0, count, windows + 1).astype(int))
    losses = characters * np.log(problem.preprocessor.tokenizer.size)
    return text_baselines(
        problem.preprocessor, problem.train, problem.test, losses, characters, [] if notes is None else notes
    )


@pytest.mark.parametrize("lines", [True, False])
def test_n_grams_are_scored_on_the_network_s_own_windows(tmp_path, lines):
    path = tmp_path / "words.txt"
    path.write_text(words().replace(" ", "\n"))
    problem = text_module(Source("words", [path]), line_by_line=lines)
    (tokens, depth), known = flat_tokens(problem.test), problem.preprocessor
    nats = KneserNey(2, known.tokenizer.size).fit(*flat_tokens(problem.train)).nats(tokens, depth)[depth > 0]
    characters = np.array([5, 0, 40, 3, 0])  # the last ones: a first token of several characters is not scored
    ends = np.cumsum(characters)
    sums = np.array([part.sum() for part in np.split(nats[-48:], ends[:-1])])
    losses = sums + characters * 0.25  # the same amount worse in every window
    found = text_baselines(known, problem.train, problem.test, losses, characters, [])["bigram"]
    assert found.n == 48 and found["nll_per_char"] == pytest.approx(nats[-48:].mean())
    assert found.gain == pytest.approx([-0.25] * 3)
    low, high = found.intervals["nll_per_char"]
    assert (
        low < found["nll_per_char"] - 0.01 and high > found["nll_per_char"] + 0.01
    )  # by itself it is far from certain
    said = compare_with_baselines(text_metrics(losses, characters), {"bigram": found})
    assert said.level == "worse"


@pytest.mark.parametrize("lines", [True, False])
def test_of_a_long_text_the_end_is_counted_and_that_is_told(tmp_path, monkeypatch, lines):
    path, notes = tmp_path / "words.txt", []
    path.write_text("x" * 5000 + "\n" + words() if not lines else words().replace(" ", "\n"))
    problem = text_module(Source("words", [path]), line_by_line=lines)
    whole = against(problem, notes=notes)
    assert notes == []
    monkeypatch.setattr(kneser_ney, "MOST", 1000)
    cut = against(problem, notes=notes)
    assert whole["bigram"]["nll_per_char"] != cut["bigram"]["nll_per_char"] and len(notes) == 1
    told = f"111 of the {len(problem.train):,} lines" if lines else f"1,000 of the {len(problem.train):,} characters"
    assert notes[0] == f"baselines: n-grams are counted in the last {told} of training"


def words(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    return " ".join(rng.choice(["to", "be", "or", "not", "that", "is", "the", "question"], n).tolist()) + "\n"


def test_baselines_of_a_text(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text(words())
    problem = text_module(Source("words", [path]))
    found = against(problem)
    assert list(found) == ["unigram", "bigram", "kneser_ney_5"]
    assert all(metrics.n == len(problem.test) - 1 for metrics in found.values())
    entropy = np.log(8) / 4.25  # eight words of like chance, 3.25 letters and a blank each
    assert entropy * 0.97 < found["kneser_ney_5"]["nll_per_char"] < entropy * 1.1
    assert (
        found["kneser_ney_5"]["nll_per_char"]
        < found["bigram"]["nll_per_char"]
        < found["unigram"]["nll_per_char"]
        < np.log(20)
    )


needs = {name: pytest.mark.skipif(not shelf.find(name).at_hand, reason=f"{name} is not on this machine (PELLUCID_DATA)")
         for name in ("shakespeare", "names")}  # fmt: skip


@needs["shakespeare"]
def test_shakespeare():
    problem = load_problem("shakespeare")
    found = against(problem)
    assert found["kneser_ney_5"].n == 111_539
    for name, loss in {"unigram": 3.3473, "bigram": 2.4844, "kneser_ney_5": 1.5789}.items():
        assert found[name]["nll_per_char"] == pytest.approx(loss, abs=1e-4)


@needs["names"]
def test_names():
    problem = load_problem("names")
    tokens, depth = flat_tokens(problem.test)
    assert problem.preprocessor.text(tokens[:7]) == "\n" + problem.raw_example("test", 0)["line"][:6]
    assert (depth > 0).sum() == (problem.test.target >= 0).sum()
    found = against(problem)
    for name, loss in {"unigram": 2.8220, "bigram": 2.4574, "kneser_ney_5": 1.9919}.items():
        assert found[name]["nll_per_char"] == pytest.approx(loss, abs=1e-4)
