"""Several networks that answer together."""

import json

import numpy as np
import pytest

from pellucid.inference.predictor import Predictor
from pellucid.runs import run as runs


def test_several_runs_answer_together_by_the_mean_of_their_probabilities(run, people):
    quick = ("--target", "income", "--quiet", "--eager", "--epochs", 2, "--set", "linear_start=false")
    run("train", people, *quick, "--hidden-sizes", "8")
    run("train", people, *quick, "--hidden-sizes", "4", "--lr", "0.02")
    names = ("people-mlp-1", "people-mlp-2")
    outputs = [Predictor(runs.find_run(name)).predict_test() for name in names]
    mean = np.mean([found.output for found in outputs], axis=0)
    together = json.loads(run("evaluate", names[0], "--average-with", names[1], "--json").stdout)
    assert together["accuracy"] == pytest.approx((mean.argmax(1) == outputs[0].target).mean())
    losses = -np.log(mean[np.arange(len(mean)), outputs[0].target])
    assert together["log_loss"] == pytest.approx(losses.mean())
    alone = json.loads(run("evaluate", names[0], "--json").stdout)
    assert alone["log_loss"] != together["log_loss"]


def test_runs_with_other_test_rows_do_not_answer_together(run, people):
    quick = ("--target", "income", "--quiet", "--eager", "--epochs", 1, "--hidden-sizes", "4")
    run("train", people, *quick)
    run("train", people, *quick, "--seed", 1)
    assert (
        "--average-with people-mlp-2: its test examples differ"
        in run("evaluate", "people-mlp-1", "--average-with", "people-mlp-2", code=2).stderr
    )


def test_regressions_of_other_splits_answer_together_for_data_that_are_named(run, people):
    """Each standardises the target by its own training rows; what counts is the target itself."""
    quick = ("--target", "hours", "--quiet", "--eager", "--epochs", 1, "--hidden-sizes", "4")
    run("train", people, *quick)
    run("train", people, *quick, "--seed", 1)
    trained = [Predictor(runs.find_run(f"people-mlp-{k}")) for k in (1, 2)]
    assert trained[0].preprocessor.mean != trained[1].preprocessor.mean
    answers = [one.predict_labelled(str(people)) for one in trained]
    together = json.loads(run("evaluate", "people-mlp-1", people, "--average-with", "people-mlp-2", "--json").stdout)
    error = np.mean([found.output for found in answers], axis=0) - trained[0].targets(answers[0])
    assert together["rmse"] == pytest.approx(np.sqrt((error**2).mean())) and together["n"] == 120
    refused = run("evaluate", "people-mlp-1", "--average-with", "people-mlp-2", code=2).stderr
    assert "its test examples differ" in refused


def test_the_same_test_rows_in_other_data_are_other_data(run, people):
    """Fewer rows to learn from, the test part alike: which file it was is told by its bytes."""
    quick = (
        "--target",
        "income",
        "--quiet",
        "--eager",
        "--epochs",
        1,
        "--hidden-sizes",
        "4",
        "--test-data",
        "test.csv",
    )
    lines = people.read_text().splitlines(True)
    people.with_name("test.csv").write_text("".join([lines[0], *lines[-20:]]))
    for name, rows in (("one", lines[:-20]), ("two", lines[:-30])):
        people.with_name(f"{name}.csv").write_text("".join(rows))
        run("train", f"{name}.csv", *quick)
    assert "test examples differ" in run("evaluate", "one-mlp-1", "--average-with", "two-mlp-1", code=2).stderr
    run("evaluate", "one-mlp-1", "test.csv", "--average-with", "two-mlp-1")


def test_what_each_run_has_learned_from_is_noted(run, people):
    quick = ("--target", "income", "--quiet", "--eager", "--epochs", 1, "--hidden-sizes", "4")
    other = people.with_name("other.csv")
    other.write_text("".join(people.read_text().splitlines(True)[:81]))
    for data in (people, other):
        run("train", data, *quick)
    told = run("evaluate", "people-mlp-1", other, "--average-with", "other-mlp-1").stderr
    assert "other.csv is what other-mlp-1 was trained on, so this score flatters it" in told


def test_a_run_that_writes_or_draws_does_not_answer_together_with_others(run, people, story):
    quick = ("--quiet", "--eager", "--epochs", 1, "--set", "steps_per_epoch=1")
    run("train", people, "--target", "income", *quick, "--hidden-sizes", "4", "--run-dir", "answers")
    run("train", story, *quick, "--set", "num_layers=1", "--set", "num_heads=1", "--set", "d_model=8", "--set", "context_length=8", "--run-dir", "w")  # fmt: skip
    for one, other in (("answers", "w"), ("w", "answers")):
        said = run("evaluate", one, "--average-with", other, code=2).stderr
        assert f"--average-with {other}: w predicts nothing; expected runs that do" in said
