"""Data sets that are made: the same bytes each time, at hand without a network, and usable as files of that name are."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pellucid.data import generated
from pellucid.data.datasets import catalogue, find, locate
from pellucid.data.generated import GENERATORS
from pellucid.data.load import describe_source, load_problem
from pellucid.errors import DataError

NAMES = ("xor", "moons", "circles", "spiral")


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache, no PELLUCID_DATA, and an empty folder to stand in."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("PELLUCID_DATA", raising=False)
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def points(name):
    rows = [line.split(",") for line in GENERATORS[name]().decode().splitlines()]
    return np.array([row[:2] for row in rows], float), np.array([row[2] for row in rows])


def test_the_catalogue_lists_what_can_be_made():
    assert tuple(GENERATORS) == NAMES == tuple(dataset.name for dataset in catalogue() if dataset.generated)


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_are_those_of_the_catalogue(name):
    data, (file,) = GENERATORS[name](), find(name).files
    assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256)
    x, classes = points(name)
    counts = np.unique(classes, return_counts=True)[1]
    assert x.shape == (1000, 2) and counts.sum() == 1000 and counts.max() - counts.min() <= 1


def test_a_line_does_not_tell_them_apart():
    scores = {name: LogisticRegression().fit(*points(name)).score(*points(name)) for name in NAMES}
    assert 0.4 < scores["xor"] < 0.6 and 0.4 < scores["circles"] < 0.6  # chance is 0.5
    assert scores["spiral"] < 0.6 and 0.8 < scores["moons"] < 0.92


def test_the_corners_of_xor():
    x, classes = points("xor")
    corner = x.round().clip(0, 1).astype(int)
    right = (corner[:, 0] ^ corner[:, 1]).astype(str) == classes
    assert right.mean() > 0.99  # noise carries a few over
    assert np.abs(x - corner).std() < 0.2


def test_they_are_at_hand_and_made_once_in_the_cache(cache, monkeypatch):
    dataset = find("xor")
    assert dataset.at_hand and not cache.exists()
    path = locate(dataset)["generated/xor.csv"]
    assert path == cache / "generated" / "xor.csv" and [p.name for p in path.parent.iterdir()] == ["xor.csv"]
    monkeypatch.setitem(generated.GENERATORS, "xor", lambda: pytest.fail("made twice"))
    assert locate(dataset)["generated/xor.csv"] == path


def test_what_was_changed_in_the_cache_is_made_again(cache):
    path = locate(find("moons"))["generated/moons.csv"]
    path.write_bytes(b"1,2,upper\n")
    assert locate(find("moons"))["generated/moons.csv"].read_bytes() == GENERATORS["moons"]()


def test_a_cache_that_cannot_be_written(cache):
    cache.write_text("a file, no folder")
    with pytest.raises(DataError, match="cannot be written .* set PELLUCID_CACHE to a folder"):
        locate(find("xor"))


@pytest.mark.parametrize("name", NAMES)
def test_they_load_as_tables_with_a_target(name, tmp_path):
    problem = load_problem(name)
    assert problem.task == "classification" and problem.preprocessor.target_name == "class"
    assert [len(part.target) for part in (problem.train, problem.validation, problem.test)] == [700, 150, 150]
    found = describe_source(name)
    assert [column.name for column in found.columns] == ["x1", "x2", "class"] and found.next.endswith(f"train {name}")
    assert not list((tmp_path / "here").iterdir())


def test_a_file_of_that_name_is_not_taken_in_silence(tmp_path):
    (tmp_path / "here" / "circles").mkdir()
    assert any("the data set of that name, not the folder" in note for note in load_problem("circles").notes)
    assert any("the data set of that name, not the folder" in note for note in describe_source("circles").notes)
    assert not any(note.startswith("file:") for note in load_problem("xor").notes)
