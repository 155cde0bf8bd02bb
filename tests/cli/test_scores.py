"""The promised scores, from the command line and the real data; minutes, so on demand with -m slow."""

import json
import os
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("PELLUCID_DATA"), reason="needs the data sets that PELLUCID_DATA points to"),
]


@pytest.mark.parametrize(("data", "least"), [("digits", 0.97), ("mnist", 0.98), ("adult", 0.86)])
def test_the_mean_accuracy_of_three_seeds(run, data, least):
    about = [json.loads(run("train", data, "--seed", seed, "--json", "--quiet").stdout) for seed in range(3)]
    assert sum(result["accuracy"] for result in about) / 3 >= least
    assert all(Path(result["run"], "report.html").exists() for result in about)


@pytest.mark.parametrize("data", ["housing", "abalone"])
def test_the_mean_error_of_three_seeds_is_below_ridge_regression(run, data):
    about = [json.loads(run("train", data, "--seed", seed, "--json", "--quiet").stdout) for seed in range(3)]
    assert sum(result["rmse"] for result in about) < sum(result["baseline"]["rmse"] for result in about)


@pytest.mark.parametrize(
    ("words", "score", "most"),
    [
        (("shakespeare",), "nll_per_char", 1.88),
        (("names",), "nll_per_char", 1.99),
        (("shakespeare", "--model", "lstm"), "nll_per_char", 1.578),  # a Kneser-Ney 5-gram's is 1.579
        (("temperatures",), "rmse", 2.25),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_texts_and_series_are_promised(run, words, score, most):
    about = json.loads(run("train", *words, "--json", "--quiet").stdout)
    assert about[score] <= most


def test_a_cnn_reads_mnist(run):
    about = [
        json.loads(run("train", "mnist", "--model", "cnn", "--seed", seed, "--json", "--quiet").stdout)
        for seed in range(3)
    ]
    assert sum(result["accuracy"] for result in about) / 3 >= 0.995


def test_what_is_drawn_is_judged(run):
    run("train", "mnist", "--model", "cnn", "--epochs", 3, "--quiet")
    drawn = {
        family: json.loads(run("train", "mnist", "--model", family, "--json", "--quiet").stdout)
        for family in ("gan", "diffusion")
    }
    assert drawn["gan"]["frechet_relative"] <= 10 and drawn["diffusion"]["frechet_relative"] <= 5
    assert drawn["gan"]["min_class_share"] >= 0.05 and drawn["gan"]["max_class_share"] <= 0.2
    assert drawn["diffusion"]["conditional_accuracy"] >= 0.95
