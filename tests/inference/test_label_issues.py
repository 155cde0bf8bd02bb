"""Suspected wrong labels: planted ones are found, and controls that know nothing do not find them."""

import dataclasses

import numpy as np
import pytest
from family_runs import FAMILIES
from untouched import untouched

from pellucid.data.load import load_problem
from pellucid.errors import OptionError
from pellucid.inference.asked import RunExamples
from pellucid.inference.influences import influence
from pellucid.inference.label_issues import confident, label_issues
from pellucid.runs.run import load_run
from pellucid.training import session


def area(scores, bad):
    """The area under the ROC curve."""
    ranks = np.argsort(np.argsort(scores, kind="stable"), kind="stable") + 1.0
    return (ranks[bad].sum() - bad.sum() * (bad.sum() + 1) / 2) / (bad.sum() * (~bad).sum())


def in_first(scores, bad, count=100):
    return bad[np.argsort(-scores, kind="stable")[:count]].mean()


def planted(problem, share, seed=0):
    """Wrong labels in a share of the training and validation parts; which of the training part are wrong."""
    chance = np.random.default_rng(seed)
    classes, which = len(problem.preprocessor.classes), []
    for part in (problem.train, problem.validation):
        wrong = np.zeros(len(part), bool)
        wrong[chance.choice(len(part), round(share * len(part)), replace=False)] = True
        part.target = np.where(wrong, (part.target + chance.integers(1, classes, len(part))) % classes, part.target)
        which.append(wrong)
    return which[0]


def trained(problem, folder, **values):
    """A run on `problem` as it is now, with its best weights, and what views read of it."""
    training = session.start(problem, "mlp", values, folder)
    for _ in training.events():
        pass
    training.restore_best()
    training.run.save_weights({name: value.array for name, value in training.network.state_dict().items()})
    examples = RunExamples(load_run(folder))
    examples._data = training.problem
    return examples


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A network that has learned 10% wrong labels by heart, and which labels are wrong."""
    problem = load_problem("digits")
    wrong = planted(problem, 0.1)
    values = {"hidden_sizes": (64, 32), "epochs": 20, "batch_size": 32, "lr": 2e-3, "eager": True}
    return trained(problem, tmp_path_factory.mktemp("labels") / "run", **values), wrong


def test_planted_wrong_labels_come_first(digits):
    examples, wrong = digits
    with untouched(examples.network):
        found = label_issues(examples)
    shares = in_first(found.scores, wrong), area(found.scores, wrong), found.expected / found.count
    print("planted among the first 100 {:.2f}, area {:.4f}, estimated {:.3f}".format(*shares))
    assert found.count == found.judged == len(wrong) == 1257
    assert in_first(found.scores, wrong) >= 0.80
    assert area(found.scores, wrong) >= 0.98
    assert abs(found.expected / found.count - 0.1) <= 0.05
    assert [row.index for row in found.rows] == np.argsort(-found.scores, kind="stable")[:30].tolist()
    assert found.rows[0].name == f"train {found.rows[0].index + 1}"
    # controls that must fail: random order, and how much ink a digit has
    ink = np.linalg.norm(examples.data.train.inputs["image"].reshape(1257, -1), axis=1)
    for control in (np.random.default_rng(1).random(1257), ink):
        print(f"control {in_first(control, wrong):.2f}, {area(control, wrong):.2f}")
        assert in_first(control, wrong) < 0.3 and area(control, wrong) < 0.6


def test_a_wrong_label_speaks_against_the_answers_around_it(digits):
    """Among the rows that moved an answer away from what is right, wrong labels are many times more than their share."""
    examples, wrong = digits
    asked = examples.ask(1)
    with untouched(examples.network):
        found = influence(examples, asked)
    assert np.abs(found.every).max() == 1
    assert wrong[[row.index for row in found.away]].mean() > 0.3
    label = examples.data.train.target[[row.index for row in found.towards]] == asked.answer()[0]
    (check,) = found.checks
    assert check.said.startswith(f"{label.sum()} of the {len(label)} strongest") and check.holds == (label.mean() > 0.1)
    assert "TracInCP" in str(found) and "every" not in found.to_dict()


def test_of_clean_digits_hardly_any_is_doubted(tmp_path):
    values = {"hidden_sizes": (64, 32), "epochs": 20, "batch_size": 32, "lr": 2e-3, "eager": True}
    found = label_issues(trained(load_problem("digits"), tmp_path / "run", **values))
    assert found.expected / found.count <= 0.03
    assert found.confident <= found.doubted


def test_a_bagged_network_judges_rows_that_it_has_not_learned(tmp_path, monkeypatch):
    lines = ["age,hours,city,income"]
    chance = np.random.default_rng(0)
    for _ in range(400):
        age, hours, city = chance.integers(18, 80), chance.integers(10, 60), chance.choice(["Rome", "Oslo"])
        lines.append(f"{age},{hours},{city},{'yes' if age / 2 + hours + 15 * (city == 'Oslo') > 65 else 'no'}")
    flipped = chance.choice(np.arange(1, 401), 40, replace=False)
    for i in flipped:
        row, comma, answer = lines[i].rpartition(",")
        lines[i] = row + comma + ("no" if answer == "yes" else "yes")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "people.csv").write_text("\n".join(lines) + "\n")
    problem = load_problem("people.csv", target="income")
    values = {"hidden_sizes": (16,), "epochs": 30, "batch_size": 64, "bag_folds": 5, "linear_start": True, "folds": 0, "lr": 1e-2, "eager": True}  # fmt: skip
    examples = trained(problem, tmp_path / "run", **values)
    examples._data = None  # the file is there to be read again
    with untouched(examples.network):
        found = label_issues(examples, None)
    assert found.out_of_fold and "did not learn" in str(found)
    wrong = {f"row {i}" for i in flipped}  # the names are the rows of the file
    named = [row.name for row in found.rows]
    learned = [name for name in named if name in wrong]
    bad = np.isin(named, list(wrong))
    assert area(np.array([row.loss for row in found.rows]), bad) >= 0.95
    assert bad[: len(learned)].mean() >= 0.7
    assert abs(found.expected / found.judged - 0.1) <= 0.05
    by_row = {row.name: row.label for row in found.rows}
    assert all(lines[int(name[4:])].endswith(label) for name, label in by_row.items())


def test_outliers_of_a_number_have_the_largest_residuals(family_run):
    examples = RunExamples(load_run(family_run("series")))
    data = examples.data
    target = data.train.target.copy()
    target[[5, 50, 100]] += 40.0
    examples._data = dataclasses.replace(data, train=dataclasses.replace(data.train, target=target))
    with untouched(examples.network):
        found = label_issues(examples)
    assert {row.index for row in found.rows[:3]} == {5, 50, 100}
    assert found.is_number and found.doubted >= 3
    plain = label_issues(RunExamples(load_run(family_run("series"))))
    assert plain.doubted <= 0.03 * plain.count
    assert "spreads" in str(plain)


def test_confident_learning_by_hand():
    says = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7], [0.6, 0.4]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    # thresholds: class 0 (0.9 + 0.8 + 0.2) / 3 = 0.633, class 1 (0.9 + 0.7 + 0.4) / 3 = 0.667
    assert confident(says, labels).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_both_views_or_says_why_not(family_run, family):
    examples = RunExamples(load_run(family_run(family)))
    for view in (label_issues, lambda examples: influence(examples, examples.ask(3))):
        with untouched(examples.network):
            try:
                found = view(examples)
                text = str(found)
            except OptionError as error:
                text = str(error)
                assert family in ("gan", "diffusion") or (
                    family in ("transformer", "text lstm") and view is label_issues
                )
                assert "expected" in text
            else:
                assert found.tables() and all(len(table.rows) for table in found.tables())
                assert max(map(len, text.splitlines())) <= 160


def test_without_kept_epochs_the_final_weights_stand_for_all(tmp_path):
    values = {"hidden_sizes": (16,), "epochs": 2, "batch_size": 128, "eager": True, "snapshots": 0}
    examples = trained(load_problem("digits"), tmp_path / "run", **values)
    assert "the final weights alone" in str(label_issues(examples))
    assert "the final weights alone" in str(influence(examples, examples.ask(1)))
