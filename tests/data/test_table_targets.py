"""Several labels a row, counts, weights of rows, and the folds of small tables."""

import numpy as np
import pytest

from pellucid.data.load import load_problem
from pellucid.data.table.folds import fold_rows
from pellucid.data.table.targets import label_names, label_separator
from pellucid.errors import DataError, OptionError


def column(*values):
    return np.array(list(values) * 20, dtype=object)


@pytest.mark.parametrize("separator", [";", "|", ","])
def test_labels_are_recognised_by_the_whole_column(separator):
    values = [value.replace(";", separator) for value in ("news; sport", "tech", "news", "sport; tech", "none")]
    assert label_separator(column(*values)) == separator
    assert label_names(column(*values), separator) == ["news", "sport", "tech"]


def test_what_only_looks_like_labels():
    assert label_separator(column("1,5", "2,5", "3", "1")) is None  # numbers
    assert label_separator(column("Paris, France", "Lyon, France", "Bonn, Germany")) is None  # always two parts
    assert label_separator(column("yes", "no")) is None
    unlike = [f"{i}x; y{i}" for i in range(50)] + ["a", "b"]
    assert label_separator(np.array(unlike, dtype=object)) is None  # they do not come again
    assert label_separator(column("good", "bad; because late", "bad; because cold")) is None  # `bad` and reasons


def write(path, target, header="x,y,w", weights=None):
    rows = [f"{i % 7}.5,{value},{1 if weights is None else weights[i]}" for i, value in enumerate(target)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def test_labels_become_zeros_and_ones(tmp_path):
    file = write(tmp_path / "t.csv", ["a; b", "b", "none", "a"] * 10)
    problem = load_problem(file, target="y")
    assert problem.task == "multilabel" and problem.preprocessor.classes == ["a", "b"]
    assert problem.train.target.shape[1] == 2 and problem.train.target.dtype == np.float32
    rows = {problem.raw_example("test", i)["y"]: problem.test.target[i].tolist() for i in range(len(problem.test))}
    right = {"a; b": [1, 1], "b": [0, 1], "none": [0, 0], "a": [1, 0]}
    assert rows.items() <= right.items() and len(rows) > 2
    assert any(note.startswith("labels: y has 2 labels") and "--task classification" in note for note in problem.notes)
    assert load_problem(file, target="y", task="classification").preprocessor.classes == ["a", "a; b", "b", "none"]


def test_counts_are_refused_where_they_are_none(tmp_path):
    with pytest.raises(DataError, match=r"line 4: the target y is '-1'; expected a whole number from 0"):
        load_problem(write(tmp_path / "t.csv", [3, 0, -1, 2] * 10), target="y", task="counts")
    with pytest.raises(DataError, match="line 3: the target y is 'many'; expected a whole number from 0"):
        load_problem(write(tmp_path / "u.csv", [3, "many", 1, 2] * 10), target="y", task="counts")


def test_weights_of_rows_are_no_input(tmp_path):
    weights = [1, 2, 3, 4] * 10
    file = write(tmp_path / "t.csv", np.arange(40) * 1.5, weights=weights)
    problem = load_problem(file, target="y", row_weight="w")
    assert problem.preprocessor.needed == ["x"]
    assert problem.train.weight.mean() == pytest.approx(1)
    of_rows = [float(problem.raw_example("test", i)["w"]) for i in range(len(problem.test))]
    assert problem.test.weight / problem.test.weight[0] == pytest.approx(np.array(of_rows) / of_rows[0])


@pytest.mark.parametrize(
    ("wrong", "said"), [("-2", "'-2'"), ("much", "'much'"), ("", "missing"), ("inf", "inf is beyond")]
)
def test_a_weight_that_is_none_is_refused_with_its_line(tmp_path, wrong, said):
    file = write(tmp_path / "t.csv", np.arange(40) * 1.5, weights=[1, 1, wrong, *[1] * 37])
    with pytest.raises(DataError, match=f"line 4.*{said}"):
        load_problem(file, target="y", row_weight="w")


def test_options_that_do_not_fit_the_target(tmp_path):
    words, numbers = write(tmp_path / "w.csv", ["a", "b"] * 20), write(tmp_path / "n.csv", np.arange(40) * 1.5)
    with pytest.raises(OptionError, match="interval: the target y is learned as classification"):
        load_problem(words, target="y", interval=0.9)
    with pytest.raises(OptionError, match="interval: 2; expected the share of rows it holds"):
        load_problem(numbers, target="y", interval=2)
    with pytest.raises(OptionError, match="multilabel; no value of y holds several labels"):
        load_problem(words, target="y", task="multilabel")
    with pytest.raises(OptionError, match="--row-weight y: it is the target"):
        load_problem(numbers, target="y", row_weight="y")


@pytest.mark.parametrize(("n", "repeats"), [(12, 3), (99, 3), (100, 1), (499, 1)])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_every_row_is_tested_on_once_a_repeat(n, repeats, task):
    strata = np.arange(n) % 3 if task == "classification" else np.random.default_rng(0).normal(size=n)
    folds = list(fold_rows(strata, task, 0))
    assert len(folds) == 5 * repeats
    assert np.bincount(np.concatenate([test for _, _, test in folds])).tolist() == [repeats] * n
    for parts in folds:
        assert np.sort(np.concatenate(parts)).tolist() == list(range(n)) and all(map(len, parts))


def test_a_fold_s_statistics_come_from_its_own_training_rows(tmp_path):
    file = write(tmp_path / "t.csv", np.arange(60) * 1.5)
    problem = load_problem(file, target="y")
    for fold in problem.folds():
        target = fold.preprocessor.decode(fold.train.target)
        assert fold.preprocessor.mean == pytest.approx(target.mean(), rel=1e-5)
    assert len({fold.preprocessor.mean for fold in problem.folds()}) > 1
    assert load_problem(write(tmp_path / "u.csv", np.arange(500) * 1.5), target="y").folds is None
