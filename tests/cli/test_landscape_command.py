"""`pellucid landscape`: its page, its numbers, the line to another run, and what it cannot show."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from family_runs import FAMILIES

from pellucid.cli import cli
from pellucid.inspect.landscape import Slice
from pellucid.report.landscape_view import contour_levels, segments


def call(*words):
    return CliRunner().invoke(cli, ["landscape", *map(str, words)])


@pytest.fixture
def run(family_run, tmp_path):
    """A copy of the run of a family, of which pages may be written."""

    def copied(family, name="run"):
        return shutil.copytree(family_run(family), tmp_path / name)

    return copied


def test_the_page_and_the_numbers_are_written(run):
    folder = run("mlp")
    done = call(folder, "--examples", 100)
    assert done.exit_code == 0, done.output
    assert len(done.output.splitlines()) <= 40
    assert (
        "greatest eigenvalue" in done.output
        and "2 of" in done.output
        and done.output.splitlines()[-1].startswith("next")
    )
    page = (folder / "inspect" / "landscape.html").read_text(encoding="utf-8")
    assert "no row, picture or text of your data" in page
    assert page.count("<svg") == 3 and "<script" not in page and "shows 2 of" in page
    numbers = json.loads((folder / "inspect" / "landscape.json").read_text())
    assert np.shape(numbers["slice"]["losses"]) == (21, 21)
    assert numbers["curvature"]["examples"] == 100


def test_the_line_to_another_run_and_its_units_matched(run):
    ours, theirs = run("mlp"), run("mlp", "other")
    done = call(ours, "--with", theirs, "--align", "--examples", 100, "--json")
    assert done.exit_code == 0, done.output
    line = json.loads(done.output)["line"]
    assert np.allclose(line["losses"], line["losses"][0], rtol=1e-5)  # a copy
    assert np.allclose(line["aligned"], line["losses"], rtol=1e-5)
    assert max(line["shuffled"]) > 2 * line["losses"][0]
    assert (ours / "inspect" / "landscape.html").read_text().count("<svg") == 4


@pytest.mark.parametrize(
    ("family", "words", "said"),
    [
        ("mlp", ["--align"], "--align: given without --with"),
        ("transformer", ["--with", "same", "--align"], "leave align out"),
        ("mlp", ["--with", "cnn"], "two trainings of one architecture"),
        ("mlp", ["--with", "series"], "it reads its data otherwise"),
    ],
    ids=["align alone", "no stack", "another network", "other data"],
)
def test_what_cannot_be_shown_is_one_line(run, family, words, said):
    words = [run(family if w == "same" else w, "other") if w in ("same", *FAMILIES) else w for w in words]
    done = call(run(family), *words, "--examples", 20)
    assert done.exit_code == 2
    assert said in done.output and len(done.output.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gets_its_page(run, family):
    folder = run(family)
    done = call(folder, "--examples", 20)
    assert done.exit_code == 0, done.output
    assert (folder / "inspect" / "landscape.html").exists()


def test_a_contour_of_a_bowl_is_a_circle():
    axis = np.linspace(-1, 1, 41)
    bowl = axis[None, :] ** 2 + axis[:, None] ** 2
    found = np.array(segments(axis, axis, bowl, 0.5))
    radius = np.hypot(found[:, [0, 2]], found[:, [1, 3]])
    assert np.allclose(radius, np.sqrt(0.5), atol=0.001)
    length = np.hypot(found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]).sum()
    assert length == pytest.approx(2 * np.pi * np.sqrt(0.5), rel=0.01)
    assert segments(axis, axis, bowl, 5.0) == []
    levels = contour_levels(bowl + 0.01)
    assert len(levels) == 10 and levels[0] > 0.01 and np.allclose(np.diff(np.log(levels), 2), 0)
    assert contour_levels(np.ones((3, 3))) == []


def test_a_flat_picture_says_so():
    flat = Slice(np.arange(3.0), np.arange(3.0), np.full((3, 3), 0.5), 0.5, 0.0, 10, 10)
    assert "hardly changes" in flat.headline()
