"""Metrics, weights, several labels, counts, intervals and folds, from the command line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pellucid.cli.train import shown_notes
from pellucid.runs.run import load_run


def load_run_of(name):
    return load_run(Path(name))


def write(name, rows, **columns):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=rows).round(3), rng.normal(size=rows).round(3)
    made = {"a": a, "b": b, **{key: make(a, b, rng) for key, make in columns.items()}}
    with open(name, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(made)
        out.writerows(zip(*made.values(), strict=True))
    return name


@pytest.fixture
def rare(here):
    """6% of 600 rows are ill, and `well` comes after `ill` in the alphabet: the rarer class is class 0."""
    return write("rare.csv", 600, y=lambda a, b, rng: np.where(a + 0.5 * rng.normal(size=600) > 1.8, "ill", "well"))


def test_a_rare_class_is_looked_for(run, rare):
    found = run("train", rare, "--target", "y", "--metric", "f1", "--epochs", 40, "--run-dir", "r")
    assert "metric: f1, with 'ill', the rarer class" in found.stderr
    assert "note    threshold: ill from a probability of" in found.stdout and "test    F1 0." in found.stdout
    stored = load_run_of("r").config.decision
    assert stored.positive == 0 and stored.threshold != 0.5
    about = json.loads(run("evaluate", "r", "--json").stdout)
    assert about["f1"] == load_run_of("r").result().test["f1"] > 0.3
    said = json.loads(run("predict", "r", rare, "--json").stdout)["predictions"]
    ill = [row["probabilities"]["ill"] >= stored.threshold for row in said]
    assert [row["prediction"] == "ill" for row in said] == ill
    assert f"threshold: ill from a probability of {stored.threshold:.3g}" in run("predict", "r", rare).stderr


ONE = ("--set", "bag_folds=0", "--set", "linear_start=false")  # one network, which begins with nothing


def test_a_weighted_loss_that_explodes_is_told(run, here):
    file = write(
        "w.csv", 200, y=lambda a, b, rng: np.where(a > 0, "x", "z"), w=lambda a, b, rng: np.arange(200) % 3 + 1
    )
    for more in ((), ONE):
        said = run(
            "train", file, "--target", "y", "--row-weight", "w", "--lr", "1e30", "--epochs", 1, *more, code=3
        ).stderr
        assert "NaN or infin" in said and "train with a lower --lr" in said


def test_validation_selects_by_the_metric(run, rare):
    run("train", rare, "--target", "y", "--metric", "roc_auc", "--lr", 0.02, "--epochs", 10, "--run-dir", "r", *ONE)
    history, result = load_run_of("r").history(), load_run_of("r").result()
    scores = [record.validation["roc_auc"] for record in history]
    assert scores[result.best_epoch - 1] == max(scores)
    losses = [record.validation["loss"] for record in history]
    assert losses.index(min(losses)) != result.best_epoch - 1  # so it was not the loss that chose


def test_the_weights_of_classes_find_more_of_the_rare_one(run, rare):
    recall = {}
    for weight in ("none", "balanced", "ill=15"):
        found = run("train", rare, "--target", "y", "--class-weight", weight, "--epochs", 15, "--run-dir", f"r{weight}")
        said = json.loads(run("predict", f"r{weight}", rare, "--json").stdout)["predictions"]
        recall[weight] = sum(row["prediction"] == "ill" for row in said)
        assert ("weights: classes count ill" in found.stderr) == (weight != "none")
        assert ("to find them try --metric f1" in found.stderr) == (weight == "none")
    assert recall["balanced"] > 1.5 * recall["none"] and recall["ill=15"] > 1.5 * recall["none"]


def test_rows_of_weight_0_are_neither_learned_nor_scored(run, here):
    noise = lambda a, b, rng: np.where(np.arange(600) % 2, a, -a).round(3)
    file = write("w.csv", 600, y=noise, w=lambda a, b, rng: np.arange(600) % 2)
    run("train", file, "--target", "y", "--row-weight", "w", "--epochs", 20, "--run-dir", "r")
    about = json.loads(run("evaluate", "r", "--json").stdout)
    assert about["r2"] > 0.9 and about["baseline"]["r2"] > 0.9
    run("train", file, "--target", "y", "--drop", "w", "--epochs", 20, "--run-dir", "q")
    assert json.loads(run("evaluate", "q", "--json").stdout)["r2"] < 0.1
    bare = write("bare.csv", 50, y=lambda a, b, rng: a)
    assert "the weights w are missing" in run("evaluate", "r", bare, code=2).stderr
    assert len(run("predict", "r", bare).stdout.splitlines()) == 51  # a prediction needs no weight


def test_several_labels_are_learned_and_written_as_they_came(run, here):
    join = lambda a, b, rng: [
        "; ".join(x for x, yes in (("news", s > 0), ("sport", t > 0)) if yes) or "none"
        for s, t in zip(a, b, strict=True)
    ]
    file = write("tags.csv", 600, y=join)
    found = run("train", file, "--target", "y", "--epochs", 20, "--run-dir", "r")
    assert "labels: y has 2 labels with ';' between" in found.stderr and "test    F1 " in found.stdout
    scored = run("evaluate", "r").stdout
    assert "f1 news" in scored and "f1 sport" in scored and "logistic regression" in scored
    rows = list(csv.DictReader(run("predict", "r", file).stdout.splitlines()))
    assert {row["prediction"] for row in rows} == {"news; sport", "news", "sport", "none"}
    assert np.mean([row["prediction"] == row["y"] for row in rows]) > 0.9
    assert "Label by label" in (here / "r" / "report.html").read_text()


def test_counts_are_never_negative_and_beat_their_mean(run, here):
    file = write("c.csv", 600, y=lambda a, b, rng: rng.poisson(np.exp(a)))
    found = run(
        "train", file, "--target", "y", "--task", "counts", "--metric", "deviance", "--epochs", 25, "--run-dir", "r"
    )
    assert "Poisson regression" in found.stdout and "test    deviance" in found.stdout
    test = load_run_of("r").result()
    assert test.test["deviance"] < 0.6 * test.baselines["mean"]["deviance"]
    rows = json.loads(run("predict", "r", file, "--json").stdout)["predictions"]
    assert min(row["prediction"] for row in rows) >= 0
    assert json.loads(run("evaluate", "r", "--json").stdout)["deviance"] == test.test["deviance"]


def test_an_interval_comes_with_its_coverage(run, here):
    spread = lambda a, b, rng: (3 * a + np.exp(b) * rng.normal(size=900)).round(3)
    file = write("i.csv", 900, y=spread)
    found = run("train", file, "--target", "y", "--interval", 0.8, "--epochs", 30, "--run-dir", "r")
    test = load_run_of("r").result().test
    assert 0.7 < test["coverage"] < 0.9 and f"held    {100 * test['coverage']:.1f}% of the test rows" in found.stdout
    said = run("predict", "r", file)
    assert f"it held {100 * test['coverage']:.1f}% of 135 test rows" in said.stderr
    rows = list(csv.DictReader(said.stdout.splitlines()))
    ends = np.array([[float(row[key]) for key in ("lower", "prediction", "upper", "b")] for row in rows])
    assert (ends[:, 0] <= ends[:, 1]).all() and (ends[:, 1] <= ends[:, 2]).all()
    width = ends[:, 2] - ends[:, 0]
    assert width[ends[:, 3] > 1].mean() > 2 * width[ends[:, 3] < -1].mean()  # wide where the data are
    assert json.loads(run("evaluate", "r", "--json").stdout)["coverage"] == test["coverage"]
    assert "Its intervals hold" in (here / "r" / "report.html").read_text()


def test_a_small_table_is_scored_over_folds(run, people):
    found = run("train", people, "--target", "income", "--epochs", 4, "--run-dir", "r")
    assert "so scored over 5 folds; --set folds=0 for none" in found.stderr
    folds = load_run_of("r").result().folds
    assert folds.count == 5 and folds.network.n == 120 and "logistic_regression" in folds.baselines
    line = next(line for line in found.stdout.splitlines() if line.startswith("folds"))
    assert "(mean of 5 folds, 120 rows, " in line and "than" in line
    assert "(mean of 5 folds, 120 rows" in run("evaluate", "r").stdout
    run("train", people, "--target", "income", "--epochs", 4, "--set", "folds=0", "--run-dir", "q")
    assert load_run_of("q").result().folds is None
    assert load_run_of("q").result().test == load_run_of("r").result().test  # the network kept is the same


def test_twelve_rows_are_enough_to_be_told_how_little_they_say(run, write_people):
    found = run("train", write_people("few.csv", rows=12), "--target", "income", "--epochs", 2, "--run-dir", "r")
    folds = load_run_of("r").result().folds
    low, high = folds.network.intervals["accuracy"]
    assert folds.count == 15 and high - low > 0.2 and "(mean of 15 folds, 12 rows" in found.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--metric", "rmse"), "--metric: rmse is no score of a classification task; expected one of accuracy"),
        (("--metric", "acuracy"), "Did you mean 'accuracy'?"),
        (("--class-weight", "yess=3"), "--class-weight: no class 'yess'; expected one of no, yes. Did you mean 'yes'?"),
        (("--class-weight", "yes=0"), "--class-weight: '0' in yes=0; expected a number above 0"),
        (
            ("--class-weight", "much"),
            "--class-weight: much; expected balanced, none, or a weight for classes; write no=1,yes=5",
        ),
        (("--interval", "0.9"), "--interval: the target income is learned as classification"),
        (("--row-weight", "city"), "the weight city is"),
    ],
)
def test_options_that_do_not_fit_are_refused(run, people, words, said):
    assert said in run("train", people, "--target", "income", *words, code=2).stderr


def test_at_most_eight_notes_are_told_those_that_matter_first() -> None:
    notes = [
        *(f"scaled by {i}" for i in range(6)),
        "split: by class",
        "numbers: a",
        "leak: code tells the target",
        "rows: 3 copies",
    ]
    shown = shown_notes(notes)
    assert shown[:4] == ["leak: code tells the target", "rows: 3 copies", "split: by class", "numbers: a"]
    assert len(shown) == 8 and shown[-1] == "notes: 3 more, in the report"
    assert shown_notes(notes[6:]) == ["leak: code tells the target", "rows: 3 copies", "split: by class", "numbers: a"]
