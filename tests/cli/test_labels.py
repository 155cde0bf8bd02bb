"""`pellucid labels`: one screen, a page that may be passed on, and a table of all rows."""

import csv
import json

from click.testing import CliRunner

from pellucid.cli import cli
from pellucid.inference.asked import RunExamples
from pellucid.report.examples_view import examples_view
from pellucid.runs.run import load_run


def run(*args):
    return CliRunner().invoke(cli, list(map(str, args)))


def test_the_screen_names_rows_and_ends_with_what_to_do(family_run, tmp_path):
    folder, out = family_run("plain table"), tmp_path / "doubted.csv"
    result = run("labels", folder, "--top", 5, "--out", out)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert len(lines) <= 24 and max(map(len, lines[2:9])) <= 100
    assert lines[-1].startswith("next    look at the first rows of")
    rows = list(csv.DictReader(out.open()))
    people = (folder.parent / "people.csv").read_text().splitlines()
    assert len(rows) > 150
    for row in rows:  # a row's number is that of the file, the header not counted
        assert people[int(row["example"].removeprefix("row "))].endswith(row["label"])
    losses = [float(row["loss"]) for row in rows]
    assert losses == sorted(losses, reverse=True)
    again = run("labels", folder, "--out", out)
    assert again.exit_code == 2 and "exists already" in again.output
    assert "ends in .csv" in run("labels", folder, "--out", tmp_path / "x.txt").output


def test_the_page_holds_nothing_of_the_data_unless_asked(family_run):
    folder = family_run("plain table")
    page = folder / "inspect" / "labels.html"
    assert run("labels", folder).exit_code == 0
    text = page.read_text()
    assert "holds no row, picture or text" in text and "Oslo" not in text and "<svg" in text
    assert run("labels", folder, "--with-examples").exit_code == 0
    text = page.read_text()
    assert "pass it on only" in text and "Oslo" in text
    found = json.loads(run("labels", folder, "--json", "--top", 3).output)
    assert len(found["rows"]) == 3 and found["count"] > 150 and "scores" not in found


def test_networks_without_labels_say_why_in_one_line(family_run):
    for family in ("transformer", "text lstm"):
        result = run("labels", family_run(family))
        assert result.exit_code == 2 and "expected" in result.output and len(result.output.splitlines()) == 1


def test_the_view_of_one_answer_shows_pictures_only_when_asked(family_run):
    examples = RunExamples(load_run(family_run("mlp")))
    asked = examples.ask(2)
    found, sections = examples_view(examples, asked, 6)
    assert len(found.towards) == 6 and "<img" not in "".join(sections)
    assert f"train {found.towards[0].index + 1}" in sections[0]
    _, sections = examples_view(examples, asked, 6, with_examples=True)
    assert "<img" in sections[0]
