"""A series from the command line: trained, scored beside both its baselines, gone on with."""

import csv
import json
import math
import re
from pathlib import Path

import pytest

from pellucid.data import datasets as catalogue


@pytest.fixture
def tides(here):
    with open(here / "tides.csv", "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["hour", "level"])
        for i in range(600):
            out.writerow([f"2024-03-{1 + i // 24:02} {i % 24:02}:00", round(math.sin(i / 2) + math.sin(i / 3.7), 4)])
    return here / "tides.csv"


def test_a_series_is_trained_scored_and_gone_on_with(run, here, tides):
    result = run(
        "train",
        tides,
        "--target",
        "level",
        "--time-column",
        "hour",
        "--lookback",
        12,
        "--hidden-sizes",
        8,
        "--epochs",
        12,
    )
    share, *lines = result.stdout.splitlines()
    assert re.match(r"note    linear: the answer is \d+% the network's, as validation gains ", share)
    assert re.fullmatch(
        r"test    rmse .* \(n 60, .*\), .* than linear autoregression [\d.]+, the last value again [\d.]+", lines[0]
    )
    assert re.fullmatch(r"next    pellucid explain tides-lstm-1 --example \d+", lines[-1])
    assert "600 steps of 1 hour, 2024-03-01 00:00 to 2024-03-25 23:00" in result.stderr
    gone_on = run("predict", "last", tides, "--horizon", 3).stdout.splitlines()
    assert gone_on[0] == "hour,prediction,lower,upper"
    assert [line.split(",")[0] for line in gone_on[1:]] == ["2024-03-26 00:00", "2024-03-26 01:00", "2024-03-26 02:00"]
    assert run("predict", "last", "--horizon", 3).stdout.splitlines() == gone_on  # after the run's own data
    run("predict", "last", tides, "--horizon", 3, "--out", "next.csv")
    assert (here / "next.csv").read_text().splitlines() == gone_on
    said = json.loads(run("predict", "last", tides, "--json").stdout)
    assert said["n"] == 1 and said["predictions"][0]["hour"] == "2024-03-26 00:00"
    assert f"{said['predictions'][0]['prediction']:.7g}" == gone_on[1].split(",")[1]


def test_a_series_is_scored_again_and_on_other_data(run, here, tides):
    run(
        "train",
        tides,
        "--target",
        "level",
        "--time-column",
        "hour",
        "--lookback",
        12,
        "--hidden-sizes",
        8,
        "--epochs",
        6,
        "--quiet",
    )
    log = (here / "runs/tides-lstm-1/metrics.jsonl").read_text().splitlines()
    own = json.loads(run("evaluate", "last", "--json").stdout)
    assert own["rmse"] == pytest.approx(json.loads(log[-1])["test"]["scores"]["rmse"]) and own["n"] == 60
    other = here / "other.csv"
    other.write_text("\n".join(tides.read_text().splitlines()[:101]))
    assert json.loads(run("evaluate", "last", other, "--json").stdout)["n"] == 100 - 12
    other.write_text("\n".join(tides.read_text().splitlines()[:9]))
    assert "8 steps; expected more than 12" in run("evaluate", "last", other, code=2).stderr
    lines = tides.read_text().splitlines()[:30]
    other.write_text("\n".join(lines[:13] + [line.split(",")[0] + "," for line in lines[13:]]))
    said = run("evaluate", "last", other, code=2).stderr
    assert "other.csv: level is missing in every step after the first 12, the window" in said and "fill them" in said


@pytest.mark.skipif(not catalogue.find("temperatures").at_hand, reason="temperatures is not here (PELLUCID_DATA)")
def test_a_series_known_by_name_is_scored_on_its_test_part(run):
    quick = ("--epochs", 1, "--eager", "--quiet", "--hidden-sizes", 4, "--set", "steps_per_epoch=3")
    run("train", "temperatures", "--lookback", 9, *quick)
    own, named = (json.loads(run("evaluate", "last", *data, "--json").stdout) for data in ((), ("temperatures",)))
    assert named["n"] == own["n"] == 365 and named["rmse"] == own["rmse"]


def test_options_that_belong_to_series_alone(run, people):
    run("train", people, "--target", "income", "--epochs", 1, "--quiet")
    assert (
        "--horizon 3: people-mlp-1 was not trained on a series"
        in run("predict", "last", people, "--horizon", 3, code=2).stderr
    )
    assert "--lookback: " in run("train", people, "--target", "income", "--lookback", 3, code=2).stderr
    Path("past.toml").write_text("lookback = 0\n", encoding="utf-8")
    about = ("train", people, "--target", "income", "--time-column", "age")
    assert "past.toml: lookback: 0; expected a whole number" in run(*about, "--config", "past.toml", code=2).stderr
    assert "--set lookback: 0; expected a whole number" in run(*about, "--set", "lookback=0", code=2).stderr
    assert "--time-column: income; it is the target" in run(*about[:-1], "income", code=2).stderr
