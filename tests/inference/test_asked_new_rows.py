"""A row of new data that is asked about: its name, its missing cells, and large data that are read in parts."""

import csv

import numpy as np
import pytest

from pellucid.data.table import large
from pellucid.inference.asked import RunExamples
from pellucid.inference.explanation import explanation
from pellucid.runs.run import load_run


@pytest.fixture
def asked(family_run, tmp_path):
    """A run on a table, and new rows of it of which the second misses a cell."""
    folder = family_run("plain table")
    with open(folder.parent / "people.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    hours = rows[0].index("hours")
    rows[2][hours] = ""
    path = tmp_path / "new.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return RunExamples(load_run(folder)), str(path)


def test_a_row_has_its_name_and_a_missing_cell_is_empty(asked):
    examples, path = asked
    found = examples.ask_new(path, 2)
    assert found.name == "row 2"
    assert found.raw["hours"] == ""


def test_a_row_of_a_large_table_is_the_same_row(asked, monkeypatch):
    examples, path = asked
    whole = examples.ask_new(path, 60)
    monkeypatch.setattr(large, "LARGE_BYTES", 100)
    monkeypatch.setattr(large, "BATCH_CELLS", 100)
    part = examples.ask_new(path, 60)
    assert part.name == whole.name == "row 60"
    assert part.raw == whole.raw
    for one, other in zip(part.question.inputs, whole.question.inputs, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert explanation(examples, part).answer == explanation(examples, whole).answer
