"""Splits: sizes, strata, seeds."""

from __future__ import annotations

import numpy as np
import pytest

from pellucid.data.split import THREE_WAY, TWO_WAY, split_rows


@pytest.mark.parametrize("n", [20, 21, 100, 1797])
@pytest.mark.parametrize("fractions", [THREE_WAY, TWO_WAY])
def test_parts_cover_all_rows_once(n, fractions):
    parts = split_rows(np.arange(n) % 3, "classification", 0, fractions)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    assert [len(part) for part in parts[1:]] == [round(n * f) for f in fractions[1:]]
    assert all((np.diff(part) > 0).all() for part in parts)


def test_classes_keep_their_shares():
    target = np.repeat([0, 1, 2], [700, 250, 50])
    for part, share in zip(split_rows(target, "classification", 5), THREE_WAY, strict=True):
        counts = np.bincount(target[part], minlength=3)
        assert np.abs(counts - np.array([700, 250, 50]) * share).max() <= 2


def test_a_rare_class_is_trained_on():
    target = np.array([0] * 50 + [1] * 50 + [2])
    for seed in range(10):
        assert 100 in split_rows(target, "classification", seed)[0]


def test_text_labels_will_do():
    parts = split_rows(np.array(["a", "b"] * 50), "classification", 0)
    assert [len(part) for part in parts] == [70, 15, 15]


def test_a_regressions_parts_cover_its_range():
    target = np.random.default_rng(0).exponential(size=1000)
    for part in split_rows(target, "regression", 0):
        assert abs(np.median(target[part]) - np.median(target)) < 0.1


def test_rows_are_shuffled_and_the_seed_decides():
    target = np.zeros(1000, dtype=np.int64)
    test = split_rows(target, "classification", 0)[2]
    assert len(set(np.diff(test).tolist())) > 5  # not every n-th row
    np.testing.assert_array_equal(test, split_rows(target, "classification", 0)[2])
    assert len(np.intersect1d(test, split_rows(target, "classification", 1)[2])) < 50


def test_the_split_is_the_same_everywhere():
    """Fixed numbers: a change here would change the test rows of everybody's runs."""
    assert split_rows(np.arange(20) % 2, "classification", 0)[2].tolist() == FIXED


FIXED = [5, 12, 19]
