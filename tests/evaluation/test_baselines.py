"""The baselines learn from training rows alone, take every kind of encoded input, and know what they are worth."""

import warnings

import numpy as np
import pytest
from scipy import sparse

from pellucid.errors import OptionError
from pellucid.evaluation import baselines as baseline
from pellucid.evaluation.baselines import Design, baselines


def rows(n, seed, cardinality=3):
    rng = np.random.default_rng(seed)
    return {
        "numbers": rng.normal(size=(n, 2)).astype(np.float32),
        "categories": rng.integers(0, cardinality, (n, 1)),
    }


def test_classification_learns_from_numbers_and_categories_and_measures_the_network_beside():
    train, test = rows(400, 0), rows(100, 1)
    label = lambda part: ((part["numbers"][:, 0] > 0) ^ (part["categories"][:, 0] == 2)).astype(int)
    easy = lambda part: ((part["numbers"][:, 0] + 2 * (part["categories"][:, 0] == 2)) > 0.5).astype(int)
    result = baselines(
        "classification", train, easy(train), test, easy(test), classes=["no", "yes"], network=np.eye(2)[easy(test)]
    )
    assert list(result) == ["majority", "logistic_regression", "boosted_trees"]
    assert result["logistic_regression"]["accuracy"] > 0.9 > result["majority"]["accuracy"]
    assert result["majority"]["roc_auc"] == 0.5
    value, low, high = result["majority"].gain  # the network here is perfect
    assert value == pytest.approx(1 - result["majority"]["accuracy"]) and 0 < low < high
    hard = baselines("classification", train, label(train), test, label(test), classes=["no", "yes"])
    assert (
        hard["logistic_regression"]["accuracy"] < 0.9 < hard["boosted_trees"]["accuracy"]
        and hard["majority"].gain is None
    )


def test_the_majority_is_that_of_training_not_of_the_test_rows():
    train, test = rows(30, 0), rows(10, 1)
    result = baselines(
        "classification", train, np.zeros(30, dtype=int), test, np.ones(10, dtype=int), classes=["a", "b"]
    )
    assert list(result) == ["majority"]  # one class in training: nothing to regress on
    assert result["majority"]["accuracy"] == 0


def test_a_class_that_training_never_saw_keeps_its_column():
    train, test = rows(60, 0), rows(20, 1)
    target = np.arange(60) % 2 * 2  # classes 0 and 2 of 3
    result = baselines("classification", train, target, test, np.arange(20) % 3, classes=["a", "b", "c"])
    assert result["logistic_regression"].n == 20 and result["logistic_regression"]["accuracy"] <= 14 / 20


def test_regression_recovers_a_straight_line():
    train, test = rows(300, 0), rows(80, 1)
    line = lambda part: 100 + 7 * part["numbers"][:, 0] - 20.0 * (part["categories"][:, 0] == 1)
    result = baselines("regression", train, line(train), test, line(test), network=line(test) + 1)
    assert list(result) == ["mean", "ridge_regression", "boosted_trees"]
    assert result["ridge_regression"]["r2"] > 0.999
    assert result["mean"]["r2"] == pytest.approx(0, abs=0.1) and result["mean"].gain[1] > 0
    assert result["ridge_regression"].gain[2] < 0  # it beats a network that is off by one everywhere


def test_inputs_become_one_matrix():
    images = {"image": np.arange(24, dtype=np.float32).reshape(2, 3, 4)}
    matrix = Design(images)(images)
    assert matrix.shape == (2, 12) and matrix[1, 0] == 12
    known = {"categories": np.array([[0], [1]])}
    assert Design(known)(known).shape == (2, 2)
    assert Design(known)({"categories": np.array([[5]])}).tolist() == [[0, 0]]  # never seen: all zeros
    many = {"numbers": np.zeros((1500, 1), np.float32), "categories": np.arange(1500)[:, None]}
    assert sparse.issparse(Design(many)(many))
    none = {"numbers": np.zeros((4, 1), np.float32), "categories": np.zeros((4, 0), np.int64)}
    assert Design(none)(none).shape == (4, 1)


def test_bytes_are_brought_to_a_scale_near_1():
    images = np.array([0, 128, 255, 64], np.uint8).reshape(2, 1, 1, 2)
    np.testing.assert_array_equal(Design({"image": images})({"image": images}), [[-2, 0], [255 / 64 - 2, -1]])
    assert images.ravel().tolist() == [0, 128, 255, 64]


class Lazy:
    """An array that is only ever asked for few rows at a time, as pictures that memory cannot hold are."""

    def __init__(self, array, most):
        self.array, self.most, self.dtype, self.shape = array, most, array.dtype, array.shape

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        assert len(self.array[rows]) <= self.most
        return self.array[rows]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_test_rows_are_answered_for_block_by_block(monkeypatch, task):
    train, test = np.random.default_rng(0).integers(0, 256, (2, 90, 1, 2, 3)).astype(np.uint8)
    label = lambda images: (images[:, 0, 0, 0] > 128).astype(np.int64 if task == "classification" else float)
    whole = baselines(task, {"image": train}, label(train), {"image": test}, label(test))
    monkeypatch.setattr(baseline, "BLOCK_VALUES", 25 * 6)
    blocks = baselines(task, {"image": train}, label(train), {"image": Lazy(test, 25)}, label(test))
    for name, metrics in whole.items():
        for key in ("accuracy", "log_loss") if task == "classification" else ("rmse", "mae"):
            assert blocks[name][key] == pytest.approx(metrics[key], rel=1e-5)


def test_of_too_many_training_rows_some_from_everywhere_are_used(monkeypatch):
    numbers, target = np.arange(100, dtype=np.float32)[:, None], np.arange(100) // 50
    whole = baselines("classification", {"numbers": numbers}, target, {"numbers": numbers}, target)
    monkeypatch.setattr(baseline, "MOST_VALUES", 20)
    fewer = baselines("classification", {"numbers": numbers}, target, {"numbers": numbers}, target)
    assert fewer["logistic_regression"]["accuracy"] >= 0.95
    assert fewer["logistic_regression"]["log_loss"] != whole["logistic_regression"]["log_loss"]


def test_a_sparse_regression_still_runs():
    rng = np.random.default_rng(0)
    many = {"numbers": rng.normal(size=(1200, 1)).astype(np.float32), "categories": np.arange(1200)[:, None]}
    target = 3 * many["numbers"][:, 0]
    assert baselines("regression", many, target, many, target)["ridge_regression"]["r2"] > 0.9


def test_an_unknown_task_or_no_inputs_is_refused():
    with pytest.raises(OptionError, match="expected 'classification' or 'regression'"):
        baselines("ranking", rows(3, 0), np.zeros(3), rows(3, 0), np.zeros(3))
    with pytest.raises(OptionError, match="no inputs"):
        baselines("regression", {}, np.zeros(3), {}, np.zeros(3))


def test_fits_in_many_threads_leave_the_filters_of_warnings_as_they_were(at_once):
    train = rows(40, 0)
    label = (train["numbers"][:, 0] > 0).astype(int)
    fit = lambda i: baselines("classification", train, label, train, label, classes=["no", "yes"])
    fit(0)  # what is imported for it may set filters of its own
    before = list(warnings.filters)
    at_once(fit)
    assert warnings.filters == before
