"""Several networks that answer together."""

import json

import numpy as np
import pytest

from pellucid.training import run as runs
from pellucid.training.answering import Trained


def test_several_runs_answer_together_by_the_mean_of_their_probabilities(run, people):
    quick = ("--target", "income", "--quiet", "--eager", "--epochs", 2)
    run("train", people, *quick, "--layers", "8")
    run("train", people, *quick, "--layers", "4", "--lr", "0.02")
    names = ("people-mlp-1", "people-mlp-2")
    outputs = [Trained(runs.find(name)).own_test() for name in names]
    mean = np.mean([found.output for found in outputs], axis=0)
    together = json.loads(run("evaluate", names[0], "--with", names[1], "--json").stdout)
    assert together["accuracy"] == pytest.approx((mean.argmax(1) == outputs[0].target).mean())
    losses = -np.log(mean[np.arange(len(mean)), outputs[0].target])
    assert together["log_loss"] == pytest.approx(losses.mean())
    alone = json.loads(run("evaluate", names[0], "--json").stdout)
    assert alone["log_loss"] != together["log_loss"]


def test_runs_with_other_test_rows_do_not_answer_together(run, people):
    quick = ("--target", "income", "--quiet", "--eager", "--epochs", 1, "--layers", "4")
    run("train", people, *quick)
    run("train", people, *quick, "--seed", 1)
    assert (
        "--with people-mlp-2: its test examples are others"
        in run("evaluate", "people-mlp-1", "--with", "people-mlp-2", code=2).stderr
    )
