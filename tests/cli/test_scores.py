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
