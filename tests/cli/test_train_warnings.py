"""Warnings are told with --quiet, notes stand in the JSON, and labels have thresholds that validation chose."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pellucid.cli.train import WARNINGS, shown_notes, warnings_among
from pellucid.runs.run import load_run

QUICK = ("--epochs", 1, "--hidden-sizes", 4, "--set", "folds=0")


def write(name, **columns):
    with open(name, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(columns)
        out.writerows(zip(*columns.values(), strict=True))
    return name


@pytest.fixture
def doubtful(here):
    """A column that may be thousands, one of ages as limits, a copy of the target, and a target with gaps."""
    y = [-999 if i % 20 == 3 else i for i in range(200)]
    x = [f"{10 + i}.{i * 7 % 900 + 100}" for i in range(200)]
    return write("d.csv", x=x, age=[("<7", "8-15", "16+")[i % 3] for i in range(200)], copy=y, y=y)


def test_quiet_still_tells_what_makes_a_score_untrue_or_a_reading_doubtful(run, doubtful):
    found = run("train", doubtful, "--target", "y", *QUICK, "--quiet")
    kinds = (
        "leak: copy",
        "rows: left out, y is -999",
        "numbers: not clear, x '10.100' is 10.1",
        "numbers: limits, age",
    )
    lines = found.stderr.splitlines()
    assert all(any(line.startswith(kind) for line in lines) for kind in kinds)
    assert all(line.startswith((*WARNINGS, "notes:")) for line in lines)
    merged = write("m.csv", x=range(200), y=[("Yes", "yes", "Yes", "No")[i % 4] for i in range(200)])
    assert "labels: y: 'yes' is 'Yes'" in run("train", merged, "--target", "y", *QUICK, "--quiet").stderr
    clean = write("c.csv", x=[i / 7 for i in range(200)], y=["ab"[i % 2] for i in range(200)])
    assert run("train", clean, "--target", "y", *QUICK, "--quiet").stderr == ""


def test_notes_stand_in_the_json(run, doubtful):
    about = json.loads(run("train", doubtful, "--target", "y", *QUICK, "--quiet", "--json", "--run-dir", "r").stdout)
    assert about["notes"][: len(load_run(Path("r")).config.notes)] == load_run(Path("r")).config.notes
    assert any(note.startswith("leak: copy") for note in about["notes"])
    new = write("new.csv", x=["12.345"], age=["16+"], copy=["3"])
    said = json.loads(run("predict", "r", new, "--json").stdout)
    assert any(note.startswith("numbers: not clear, x: '12.345' is 12.345") for note in said["notes"])
    new = write("new.csv", x=["12,345", "11,1"], age=["16+", "<7"], copy=["3", "4"], y=["3", "4"])
    scored = json.loads(run("evaluate", "r", new, "--json").stdout)
    assert "numbers: written otherwise than in training, x: '12,345' is 12.345" in scored["notes"]


def test_of_many_notes_the_warnings_are_kept():
    notes = [
        *(f"columns: {i} left out" for i in range(9)),
        "numbers: not clear, x",
        "dates: not clear, t",
        "columns: units mixed",
    ]
    shown = shown_notes(notes)
    assert len(shown) == 8 and shown[-1] == "notes: 5 more, in the report"
    assert {"numbers: not clear, x", "dates: not clear, t", "columns: units mixed"} <= set(shown)
    assert warnings_among(notes) == notes[-3:]


def test_labels_have_thresholds_that_validation_chose(run, here):
    rng = np.random.default_rng(0)
    a, b, noise = rng.normal(size=(3, 1200)).round(3)
    tags = [
        "; ".join(x for x, yes in (("news", s > 0), ("rare", t + 0.7 * e > 1.8)) if yes) or "none"
        for s, t, e in zip(a, b, noise, strict=True)
    ]
    file = write("tags.csv", a=a, b=b, y=tags)
    for metric in ("f1", ""):
        words = ("--metric", metric) if metric else ()
        found = run("train", file, "--target", "y", *words, "--epochs", 12, "--run-dir", f"r{metric}")
        assert ("note    threshold: " in found.stdout) == bool(metric)
    chosen, result = load_run(Path("rf1")).config.thresholds, load_run(Path("rf1")).result()
    assert len(chosen) == 2 and set(chosen) != {0.5} and load_run(Path("r")).config.thresholds == []
    said = run("predict", "rf1", file, "--json")
    assert "threshold: " in said.stderr and "best f1 on validation" in said.stderr
    for row in json.loads(said.stdout)["predictions"]:
        named = [
            name for name, least in zip(("news", "rare"), chosen, strict=True) if row["probabilities"][name] >= least
        ]
        assert row["prediction"] == ("; ".join(named) or "none")
    assert json.loads(run("evaluate", "rf1", "--json").stdout)["f1_micro"] == result.test["f1_micro"]
