"""Scores of weighted rows and chosen thresholds against scikit-learn; intervals over folds."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from pellucid.errors import OptionError
from pellucid.evaluation.evaluator import conformal_margin
from pellucid.evaluation.folds import T, fold_interval, fold_scores
from pellucid.evaluation.formatting import score_line
from pellucid.evaluation.scoring import Scoring, best_threshold, decided, rarer_class
from pellucid.runs.records import Decision, Metrics


def two_classes(n=400, seed=0):
    rng = np.random.default_rng(seed)
    target = (rng.random(n) < 0.1).astype(np.int64)
    p = np.clip(0.25 * target + 0.3 * rng.random(n), 0, 1).round(2)  # with ties
    return np.stack([1 - p, p], axis=1), target, rng.random(n) * 3


def test_weighted_scores_are_scikit_learn_s():
    output, target, weight = two_classes()
    decision = Decision(1, 0.3)
    found = Scoring("classification", ["no", "yes"], "f1", decision).metrics(output, target, weight)
    said = (output[:, 1] >= 0.3).astype(int)
    expected = {
        "accuracy": sk.accuracy_score(target, said, sample_weight=weight),
        "f1": sk.f1_score(target, said, sample_weight=weight),
        "f1_macro": sk.f1_score(target, said, sample_weight=weight, average="macro"),
        "balanced_accuracy": sk.balanced_accuracy_score(target, said, sample_weight=weight),
        "roc_auc": sk.roc_auc_score(target, output[:, 1], sample_weight=weight),
        "pr_auc": sk.average_precision_score(target, output[:, 1], sample_weight=weight),
        "log_loss": sk.log_loss(target, output, sample_weight=weight),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found.first == "f1" and all(low < found[name] < high for name, (low, high) in found.intervals.items())


def test_a_row_of_weight_two_is_two_rows():
    rng = np.random.default_rng(0)
    output, target, weight = rng.normal(size=60), rng.normal(size=60), rng.integers(0, 3, 60)
    twice = np.repeat(np.arange(60), weight)
    weighted = Scoring("regression").metrics(output, target, weight)
    repeated = Scoring("regression").metrics(output[twice], target[twice])
    assert weighted.scores == pytest.approx(repeated.scores)


def test_the_threshold_is_the_best_one():
    output, target, weight = two_classes()
    p = output[:, 1]
    for metric, score in (("f1", sk.f1_score), ("balanced_accuracy", sk.balanced_accuracy_score)):
        chosen = best_threshold(p, target == 1, weight, metric)
        best = max(score(target, p >= cut, sample_weight=weight) for cut in np.append(np.unique(p), 2))
        assert score(target, p >= chosen, sample_weight=weight) == pytest.approx(best)
    assert best_threshold(p, np.zeros(400, bool), weight, "f1") == 0.5
    asked = Scoring("classification", ["no", "yes"], "f1", Decision(1))
    assert asked.value(output, target) > asked.metrics(output, target)["f1"]  # at 0.5 little is named


def test_the_class_looked_for_is_the_rarer_one_wherever_it_stands():
    output, target, _ = two_classes()
    assert rarer_class(target) == 1 and rarer_class(1 - target) == 0
    turned = Scoring("classification", ["bad", "good"], "f1", Decision(0, 0.3)).metrics(output[:, ::-1], 1 - target)
    assert turned["f1"] == pytest.approx(sk.f1_score(target, output[:, 1] >= 0.3))
    assert decided(output[:, ::-1], Decision(0, 0.3)).tolist() == (output[:, 1] < 0.3).astype(int).tolist()


def test_scores_of_several_labels():
    rng = np.random.default_rng(0)
    target = (rng.random((200, 3)) < [0.5, 0.3, 0.1]).astype(np.float32)
    output = np.clip(target * 0.4 + rng.random((200, 3)) * 0.5, 0, 1)
    found = Scoring("multilabel", ["a", "b", "c"]).metrics(output, target)
    said = output >= 0.5
    assert found["f1_micro"] == pytest.approx(sk.f1_score(target, said, average="micro"))
    assert found["f1_macro"] == pytest.approx(sk.f1_score(target, said, average="macro"))
    assert [found[f"f1 {name}"] for name in "abc"] == pytest.approx(sk.f1_score(target, said, average=None))
    assert found["exact"] == pytest.approx(sk.accuracy_score(target, said)) and found.first == "f1_micro"


def test_counts_have_a_deviance():
    rng = np.random.default_rng(0)
    target, output = rng.poisson(2.0, 100).astype(float), rng.random(100) * 4 + 0.1
    found = Scoring("counts").metrics(output, target)
    assert found["deviance"] == pytest.approx(sk.mean_poisson_deviance(target, output))


def test_a_gain_is_paired_and_signed():
    rng = np.random.default_rng(0)
    target = rng.normal(size=300)
    good, bad = target + 0.1 * rng.normal(size=300), target + rng.normal(size=300)
    scoring = Scoring("regression", metric="mae")
    value, low, high = scoring.gain("mae", good, bad, scoring, target, None)
    assert 0 < low < value < high


def test_the_conformal_margin_holds_the_share_asked_for():
    rng = np.random.default_rng(0)
    target = rng.normal(size=999)
    ends = np.tile([-0.5, 0.0, 0.5], (999, 1))
    margin = conformal_margin(ends, target, 0.9)
    inside = (target >= -0.5 - margin) & (target <= 0.5 + margin)
    assert inside.sum() == 900
    assert conformal_margin(np.tile([-9.0, 0.0, 9.0], (999, 1)), target, 0.9) < 0  # too wide: moved inwards


def test_a_metric_of_another_task_is_refused():
    with pytest.raises(OptionError, match="rmse is no score of a classification task; expected one of accuracy, f1"):
        Scoring("classification", ["a", "b"], "rmse")


def test_intervals_over_folds():
    for degrees, value in T.items():
        assert value == pytest.approx(stats.t.ppf(0.975, degrees), abs=1e-3)
    values = np.array([0.7, 0.8, 0.9, 0.8, 0.8])
    half = T[4] * values.std(ddof=1) * np.sqrt(1 / 5 + 1 / 4)
    assert fold_interval(values) == pytest.approx((0.8 - half, 0.8 + half))


def test_folds_that_agree_prove_nothing():
    fold = Metrics({"accuracy": 1.0}, 4, {}, 4)
    found = fold_scores([fold] * 5, [{"majority": Metrics({"accuracy": 0.5}, 4, {}, 2)}] * 5)
    low, high = found.network.intervals["accuracy"]
    assert found.network.n == 20 and high == 1 and low == pytest.approx(0.84, abs=0.01)  # Wilson, of 20 rows
    value, low, high = found.baselines["majority"].gain
    assert value == 0.5 and low < 0 < high


def test_thresholds_of_labels_are_best_on_fresh_rows_too():
    rng = np.random.default_rng(0)

    def drawn(shifts, n=2000):
        logit = rng.normal(size=(n, 3)) * 2 - np.array([0.0, 1.0, 2.0])
        truth = rng.random((n, 3)) < 1 / (1 + np.exp(-logit))
        return 1 / (1 + np.exp(-(logit + np.array(shifts)))), truth.astype(np.float32)

    plain = Scoring("multilabel", ["a", "b", "c"], "f1")
    score = lambda scoring, rows: scoring.metrics(*rows)["f1_micro"]
    for shifts, alike in (((0, 0, 0), True), ((-2, -2, -2), True), ((2, -2, 0), False)):
        chosen, fresh = plain.with_threshold(*drawn(shifts)), drawn(shifts)
        assert score(chosen, fresh) > score(plain, fresh) + (0 if shifts == (0, 0, 0) else 0.03)
        spread = max(chosen.thresholds) - min(chosen.thresholds)
        assert spread < 0.2 if alike else spread > 0.3
    few = plain.with_threshold(*drawn((2, -2, 0), 12))
    assert len(set(few.thresholds)) <= 2  # labels that few rows have take the threshold of all
    assert not Scoring("multilabel", ["a", "b", "c"]).has_threshold


# ---- groups ------------------------------------------------------------------------------------------------------------


def of_groups(rng, groups, task):
    """25 rows of each group, whose errors are much alike."""
    unit = np.repeat(np.arange(groups), 25)
    if task == "regression":
        error = rng.normal(size=groups)[unit] + 0.3 * rng.normal(size=len(unit))
        target = rng.normal(size=len(unit))
        return target + error, target, unit
    right, target = rng.random(len(unit)) < rng.uniform(0.6, 1, groups)[unit], rng.integers(0, 2, len(unit))
    probability = np.where(right == (target == 1), 0.8, 0.2)
    return np.stack([1 - probability, probability], axis=1), target, unit


@pytest.mark.parametrize(
    ("task", "name", "truth"), [("classification", "accuracy", 0.8), ("regression", "rmse", 1.09**0.5)]
)
def test_intervals_over_groups_hold_the_truth_and_those_over_rows_do_not(monkeypatch, task, name, truth):
    monkeypatch.setattr("pellucid.evaluation.scoring.RESAMPLES", 100)
    monkeypatch.setattr("pellucid.evaluation.metrics.RESAMPLES", 100)
    rng, scoring = np.random.default_rng(0), Scoring(task, ["a", "b"] if task == "classification" else None)
    held = {True: 0, False: 0}
    for _ in range(100):
        output, target, unit = of_groups(rng, 10, task)
        for known in held:
            found = scoring.metrics(output, target, None, unit if known else None)
            assert found.groups == (10 if known else None)
            held[known] += found.intervals[name][0] <= truth <= found.intervals[name][1]
    assert held[True] >= 87 and held[False] < 82


def test_rows_that_are_nearly_all_their_own_are_scored_as_rows():
    output, target, _ = of_groups(np.random.default_rng(0), 4, "regression")
    unit = np.arange(100)
    unit[:3] = 0
    plain = Scoring("regression").metrics(output, target)
    assert Scoring("regression").metrics(output, target, None, unit) == plain


def test_a_score_line_counts_groups():
    output, target, unit = of_groups(np.random.default_rng(0), 12, "regression")
    assert "(n 300 rows in 12 groups, " in score_line(Scoring("regression").metrics(output, target, None, unit))
