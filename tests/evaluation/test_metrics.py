"""Scores against scikit-learn's, intervals against theory and published values, and the words made of both."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as reference

from pellucid.errors import IndexRangeError, NonFiniteError, OptionError, ShapeError
from pellucid.evaluation import metrics as metrics_module
from pellucid.evaluation.comparison import compare_with_baselines, paired_difference
from pellucid.evaluation.formatting import format_number, score_line
from pellucid.evaluation.metrics import Metrics, classification_metrics, regression_metrics, text_metrics, wilson


def answers(n, k, seed=0, sharp=2.0, dtype=np.float64):
    """Targets, and probabilities that are better than chance."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), target] += sharp
    exp = np.exp(logits)
    return (exp / exp.sum(axis=1, keepdims=True)).astype(dtype), target


@pytest.mark.parametrize("k", [2, 3, 10])
def test_classification_scores_equal_scikit_learns(k):
    probabilities, target = answers(300, k)
    ours = classification_metrics(probabilities, target)
    said = probabilities.argmax(axis=1)
    score = probabilities[:, 1] if k == 2 else probabilities
    assert ours["accuracy"] == reference.accuracy_score(target, said)
    assert ours["log_loss"] == pytest.approx(reference.log_loss(target, probabilities))
    assert ours["f1_macro"] == pytest.approx(reference.f1_score(target, said, average="macro"))
    assert ours["roc_auc"] == pytest.approx(reference.roc_auc_score(target, score, multi_class="ovr"))
    assert (ours.n, ours.correct) == (300, int((said == target).sum()))
    for name, (low, high) in ours.intervals.items():
        assert low < ours[name] < high, name


def test_regression_scores_equal_scikit_learns():
    rng = np.random.default_rng(0)
    target = rng.normal(size=80) * 5 + 100
    prediction = target + rng.normal(size=80)
    ours = regression_metrics(prediction.astype(np.float32), target)
    assert ours["rmse"] == pytest.approx(reference.root_mean_squared_error(target, prediction), rel=1e-5)
    assert ours["mae"] == pytest.approx(reference.mean_absolute_error(target, prediction), rel=1e-5)
    assert ours["r2"] == pytest.approx(reference.r2_score(target, prediction), rel=1e-5)
    for name, (low, high) in ours.intervals.items():
        assert low < ours[name] < high, name


def test_wilson_gives_the_published_interval_and_stays_honest_at_the_ends():
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263 and 0 of 20.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    low, high = wilson(20, 20)
    assert low < 0.85 and high == 1.0


def test_the_roc_interval_is_as_wide_as_repeated_samples_scatter(monkeypatch):
    monkeypatch.setattr(metrics_module, "RESAMPLES", 10)  # of the F1 interval, which is not looked at here
    areas, widths = [], []
    for seed in range(150):
        probabilities, target = answers(200, 2, seed, sharp=0.8)
        one = classification_metrics(probabilities, target)
        areas.append(one["roc_auc"])
        widths.append((one.intervals["roc_auc"][1] - one.intervals["roc_auc"][0]) / (2 * 1.96))
    assert np.mean(widths) == pytest.approx(np.std(areas), rel=0.2)


def test_the_rmse_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(40):
        error = rng.normal(size=100)
        low, high = regression_metrics(error, np.zeros(100)).intervals["rmse"]
        covered += low <= 1 <= high
    assert 33 <= covered <= 40


def covered(name, truth, draw, times=300):
    """How often the interval of a score holds its true value."""
    pairs = [draw().intervals.get(name, (truth, truth)) for _ in range(times)]
    return float(np.mean([low <= truth <= high for low, high in pairs]))


def test_intervals_of_few_rows_hold_the_truth_nearly_as_often_as_they_say(monkeypatch):
    monkeypatch.setattr(metrics_module, "RESAMPLES", 200)
    rng = np.random.default_rng(0)

    def numbers():
        return regression_metrics(rng.normal(size=12), np.zeros(12))

    def classes():
        """Seven positive rows among 75, on average; the ROC area of two normal distributions 1.6 apart is 0.871."""
        target = (rng.random(75) < 0.1).astype(int)
        probability = 1 / (1 + np.exp(-1.6 * (rng.normal(size=75) + 1.6 * target)))
        return classification_metrics(np.stack([1 - probability, probability], axis=1), target)

    assert covered("rmse", 1.0, numbers) > 0.9 and covered("mae", 0.798, numbers) > 0.9
    assert covered("roc_auc", 0.871, classes) > 0.92


def test_scores_that_the_data_cannot_give_are_none_and_intervals_without_evidence_are_missing():
    probabilities, _ = answers(20, 2)
    one_class = classification_metrics(probabilities, np.zeros(20, dtype=int))
    assert one_class["roc_auc"] is None and "roc_auc" not in one_class.intervals
    perfect = classification_metrics(np.eye(2)[[0, 1, 0, 1]], np.array([0, 1, 0, 1]))
    assert perfect["roc_auc"] == 1 and perfect.intervals["roc_auc"][0] < 0.5  # two of each class
    assert perfect.intervals["accuracy"][0] < 0.6  # four of four is little evidence
    assert regression_metrics([1.0, 2.0], [3.0, 3.0])["r2"] is None
    assert regression_metrics([1.0], [3.0]).intervals == {}


def test_a_probability_of_zero_costs_much_but_not_infinity():
    wrong = classification_metrics(np.array([[1, 0], [1, 0]], dtype=np.float32), np.array([0, 1]))
    assert wrong["log_loss"] == pytest.approx(-math.log(np.finfo(np.float32).eps) / 2)


def test_a_class_missing_from_the_test_data_is_left_out_of_the_roc_area():
    probabilities, target = answers(100, 3)
    target = np.where(target == 2, 0, target)
    expected = np.mean([reference.roc_auc_score(target == c, probabilities[:, c]) for c in (0, 1)])
    assert classification_metrics(probabilities, target)["roc_auc"] == pytest.approx(expected)


def test_bad_arrays_are_refused_in_words():
    probabilities, target = answers(5, 3)
    with pytest.raises(ShapeError, match=r"\(5, 3\) and targets \(4,\)"):
        classification_metrics(probabilities, target[:4])
    with pytest.raises(ShapeError, match="2 class names for 3 columns"):
        classification_metrics(probabilities, target, ["a", "b"])
    with pytest.raises(IndexRangeError, match="from 0 to 2"):
        classification_metrics(probabilities, np.array([0, 1, 2, 3, 0]))
    with pytest.raises(NonFiniteError, match="1 of 15 .* row 4"):
        classification_metrics(np.where(np.arange(15).reshape(5, 3) == 12, np.nan, probabilities), target)
    with pytest.raises(ShapeError, match=r"prediction\[:, 0\]"):
        regression_metrics(np.zeros((5, 1)), np.zeros(5))


def test_score_lines():
    metrics = Metrics({"accuracy": 350 / 360}, 360, {"accuracy": wilson(350, 360)}, 350)
    assert score_line(metrics) == "97.2% (350 of 360, 95-98)"
    metrics = Metrics({"accuracy": 0.9812}, 10_000, {"accuracy": wilson(9812, 10_000)}, 9812)
    assert score_line(metrics) == "98.1% (9,812 of 10,000, 97.8-98.4)"
    assert score_line(Metrics({"rmse": 3.2131}, 76, {"rmse": (2.6123, 3.9456)})) == "rmse 3.21 (n 76, 2.61-3.95)"
    assert score_line(Metrics({"rmse": 45123.4}, 9, {"rmse": (41000, 49000)})) == "rmse 45,123 (n 9, 41,000-49,000)"
    assert score_line(Metrics({"rmse": 0.5}, 1)) == "rmse 0.5000 (n 1)"
    with pytest.raises(OptionError, match="one of accuracy, rmse"):
        score_line(Metrics({}, 3))


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (1234567.8, "1,234,568"), (0.0123456, "0.01235"), (1e-9, "1.000e-09")]
)
def test_numbers_are_shown_with_four_digits(value, shown):
    assert format_number(value) == shown


def right_on(count, n=1000):
    """Probabilities that are right on the first `count` of n examples of class 1."""
    return np.eye(2)[(np.arange(n) < count).astype(int)], np.ones(n, dtype=int)


def test_the_paired_gain_sees_what_overlapping_intervals_hide():
    ours, target = right_on(870)
    theirs, _ = right_on(855)
    metrics, other = classification_metrics(ours, target), classification_metrics(theirs, target)
    assert metrics.intervals["accuracy"][0] < other.intervals["accuracy"][1]  # they overlap
    assert compare_with_baselines(metrics, {"majority": other}).level == "unclear"
    value, low, high = paired_difference("classification", ours, theirs, target)
    assert value == pytest.approx(0.015) and 0 < low < value < high
    assert compare_with_baselines(metrics, {"majority": replace(other, gain=(value, low, high))}).level == "better"


def test_the_gain_of_a_regression_is_in_its_units():
    rng = np.random.default_rng(0)
    target = rng.normal(size=200)
    close, far = target + rng.normal(size=200), target + 3 * rng.normal(size=200)
    value, low, high = paired_difference("regression", close, far, target)
    assert 1.5 < low < value < high < 2.6
    assert paired_difference("regression", far, close, target)[0] == pytest.approx(-value)
    assert paired_difference("regression", close[:1], far[:1], target[:1])[1] <= 0  # one example proves nothing


def test_the_gain_of_language_is_in_nats_a_character_and_pairs_the_windows():
    random = np.random.default_rng(0)
    characters = random.integers(30, 60, 400)
    ours = random.gamma(20, 0.1, 400) * characters  # windows differ far more than the two models do
    theirs = ours + random.normal(0.02, 0.05, 400) * characters
    value, low, high = paired_difference("language", ours, theirs, characters)
    one, other = text_metrics(ours, characters), text_metrics(theirs, characters)
    assert value == pytest.approx(other["nll_per_char"] - one["nll_per_char"]) and 0 < low < value < high < 0.04
    assert compare_with_baselines(one, {"unigram": other}).level == "unclear"
    assert compare_with_baselines(one, {"unigram": replace(other, gain=(value, low, high))}).level == "better"
    assert paired_difference("language", ours[:1], theirs[:1] + 9, characters[:1])[1] < 0  # one window proves nothing
    with pytest.raises(ShapeError, match="at least one character in all; give more text"):
        text_metrics(ours, characters * 0)


def test_the_verdict_compares_with_the_strongest_baseline_and_says_so_plainly():
    rng = np.random.default_rng(0)
    target = rng.normal(size=300)
    scores = {size: regression_metrics(target + size * rng.normal(size=300), target) for size in (1, 3, 6)}
    assert compare_with_baselines(scores[1], {}).level == "alone"
    better = compare_with_baselines(scores[1], {"mean": scores[6], "ridge_regression": scores[3]})
    assert (better.level, better.against) == ("better", "ridge_regression")
    assert better.sentence.startswith("Better than ridge regression (")
    worse = compare_with_baselines(scores[6], {"mean": scores[3]})
    assert worse.level == "worse" and "rmse higher by" in worse.sentence and "The simpler model" in worse.sentence
    same = compare_with_baselines(scores[3], {"mean": replace(scores[3], gain=(0.0, -0.1, 0.1))})
    assert same.level == "unclear" and "the same" in same.sentence
