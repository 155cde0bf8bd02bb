"""`pellucid blame`: one screen, a page that may be passed on, JSON, and one line where it cannot."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from family_runs import FAMILIES

from pellucid.cli import cli


def blame(run, *words, code=0):
    result = CliRunner().invoke(cli, ["blame", str(run), *map(str, words)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def copied(family_run, tmp_path):
    """A family's run, copied, so that a page may be written."""
    return lambda name: shutil.copytree(family_run(name), tmp_path / "run", dirs_exist_ok=True)


def test_one_screen_and_a_page_without_the_data(copied):
    folder = copied("mlp")
    out = blame(folder, "--example", 3).stdout
    lines = out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines[:-2])) <= 105
    assert lines[0].startswith("test 3: the network says ")
    assert "first order" in out
    assert lines[-1].startswith("next    pellucid blame ")
    page = (folder / "inspect" / "blame.html").read_text(encoding="utf-8")
    assert "holds no row, picture or text" in page
    assert "data:image" not in page
    assert page.count("<svg") == 2
    assert "<script" not in page
    shown = blame(folder, "--example", 3, "--with-examples", "--of", "units").stdout
    assert "layers" in shown
    page = (folder / "inspect" / "blame.html").read_text(encoding="utf-8")
    assert "holds examples of your data" in page
    assert "data:image/png" in page


def test_json_is_what_the_page_stands_on(copied):
    folder = copied("mlp")
    found = json.loads(blame(folder, "--example", 3, "--json", "--top", 5).stdout)
    assert len(found["rows"]) == 5
    assert np.all(np.diff([row["effect"] for row in found["rows"]]) >= 0)
    assert {check["name"] for check in found["checks"]} == {"first order", "removal"}
    saved = json.loads((folder / "inspect" / "blame.json").read_text(encoding="utf-8"))
    assert saved["rows"] == found["rows"]


def test_wrong_answers_and_their_mean(copied):
    folder = copied("mlp")
    found = json.loads(blame(folder, "--wrong", 3, "--json").stdout)
    assert found["examples"] == 3
    assert found["value"] > 0.6  # each is wrong
    assert "3 wrong answers of the test part" in found["example"]
    refused = blame(folder, "--wrong", 3, "--example", 2, code=2)
    assert "--wrong 3: together with DATA, --example or --line" in refused.output
    assert "answers with numbers" in blame(copied("series"), "--wrong", 3, code=2).output


def test_a_page_of_a_text_does_not_hold_it(copied):
    folder = copied("transformer")
    out = blame(folder, "--line", "annab", "--of", "heads").stdout
    assert "right is 'b'" in out
    assert "annab" not in (folder / "inspect" / "blame.html").read_text(encoding="utf-8")
    assert "one token; expected two or more" in blame(folder, "--line", "a", code=2).output
    out = blame(folder, "--example", 3, "--of", "heads").stdout
    assert "the network says" in out
    page = (folder / "inspect" / "blame.html").read_text(encoding="utf-8")
    assert "the network says" not in page


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_its_page(copied, family):
    folder = copied(family)
    assert len(blame(folder, "--example", 3).stdout.splitlines()) <= 40
    assert (folder / "inspect" / "blame.html").is_file()
