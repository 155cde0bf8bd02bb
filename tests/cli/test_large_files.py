"""predict and evaluate on large tables: the same answers as on small ones, a batch at a time."""

import json
from pathlib import Path

import pytest

from pellucid.data.table import large
from pellucid.data.table.read import Table


@pytest.fixture
def small_batches(monkeypatch):
    """small_batches(): from now on every table is large, read in batches of 25 rows."""

    def small_batches():
        monkeypatch.setattr(large, "LARGE_BYTES", 100)
        monkeypatch.setattr(large, "BATCH_CELLS", 100)

    return small_batches


@pytest.fixture
def trained(run, people):
    run("train", people, "--target", "income", "--epochs", 1, "--run-dir", "r")
    return people


def test_predict_writes_the_same_file_a_batch_at_a_time(run, trained, small_batches, monkeypatch):
    run("predict", "r", trained, "--out", "whole.csv")
    shown = run("predict", "r", trained).stdout
    small_batches()
    lengths = []
    to_text = Table.__len__
    monkeypatch.setattr(Table, "__len__", lambda self: lengths.append(to_text(self)) or lengths[-1])
    told = run("predict", "r", trained, "--out", "parts.csv")
    assert "parts.csv: 120 rows with predictions" in told.stdout
    assert Path("parts.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert run("predict", "r", trained).stdout == shown
    assert run("evaluate", "r", trained).stdout.splitlines()[1:] and 25 in lengths


def test_evaluate_gives_the_same_scores(run, trained, small_batches):
    whole = json.loads(run("evaluate", "r", trained, "--json").stdout)
    small_batches()
    parts = json.loads(run("evaluate", "r", trained, "--json").stdout)
    assert "rows of training, so this score flatters" in whole.pop("notes")[0]
    assert (
        "was trained on, so this score flatters" in parts.pop("notes")[0]
    )  # rows are not compared where they are many
    assert parts == whole


def test_a_failure_in_a_later_batch_names_its_line_and_leaves_no_file(run, trained, small_batches):
    lines = Path(trained).read_text().splitlines()
    lines[100] = lines[100].replace(lines[100].split(",")[2], "many")
    Path("broken.csv").write_text("\n".join(lines))
    small_batches()
    assert (
        "broken.csv, line 101, column hours: 'many'"
        in run("predict", "r", "broken.csv", "--out", "p.csv", code=2).stderr
    )
    assert not Path("p.csv").exists() and not list(Path().glob(".p.csv*"))


def test_values_never_seen_are_told_once(run, trained, small_batches):
    lines = Path(trained).read_text().replace("Rome", "Rom").splitlines()
    Path("other.csv").write_text("\n".join(lines))
    small_batches()
    assert run("predict", "r", "other.csv", "--out", "p.csv").stderr.count("columns: city: ") == 1
    assert run("evaluate", "r", "other.csv").stderr.count("columns: city: ") == 1


def test_one_json_object_is_refused(run, trained, small_batches):
    small_batches()
    assert "--out FILE" in run("predict", "r", trained, "--json", code=2).stderr
