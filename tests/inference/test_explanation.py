"""Explanations of answers: how often such sureness was right, the nearest examples, and a page without the data."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from family_runs import FAMILIES
from untouched import untouched

import pellucid as torch
from pellucid.cli import cli
from pellucid.evaluation.sureness import sureness_of_class, sureness_of_number
from pellucid.inference.asked import RunExamples
from pellucid.inference.explanation import explanation
from pellucid.inference.neighbours import nearest
from pellucid.inference.wrong import wrong_answers
from pellucid.runs.records import Decision
from pellucid.runs.run import load_run


def test_sureness_counts_the_rows_that_were_about_as_sure():
    chance = np.random.default_rng(0)
    p = np.linspace(0.5, 1, 4000)
    known = np.stack([p, 1 - p], 1)
    target = (chance.random(4000) > p).astype(np.int64)  # right as often as it says
    for at in (0.6, 0.75, 0.95):
        found = sureness_of_class(at, known, known.argmax(1), target)
        assert found.n == 400
        assert found.interval[0] - 0.02 <= at <= found.interval[1] + 0.02
        assert found.between[0] < at < found.between[1]
    overconfident = sureness_of_class(0.95, known, known.argmax(1), chance.integers(0, 2, 4000))
    assert overconfident.interval[1] < 0.6
    few = sureness_of_class(0.9, known[:7], known[:7].argmax(1), target[:7])
    assert "few rows" in str(few)
    assert "no validation rows" in str(sureness_of_class(0.9, known[:0], target[:0], target[:0]))


def test_sureness_is_of_the_class_that_is_named():
    """With a threshold of 0.2 a class is named that has 0.3: rows of 0.3 are its like, and not those of 0.7."""
    p = np.tile([0.7, 0.95], 100)
    known = np.stack([p, 1 - p], 1)
    named = (known[:, 1] > 0.2).astype(np.int64)
    target = np.where(named == 1, np.arange(200) % 4 == 0, 0).astype(np.int64)
    found = sureness_of_class(0.3, known, named, target)
    assert found.between == pytest.approx((0.3, 0.3))
    assert found.n == 100
    assert found.right == int(((target == 1) & (named == 1)).sum())


def test_sureness_of_a_number_is_how_far_off_its_like_were():
    known = np.arange(1000.0)
    target = known + np.where(known < 500, 1.0, 10.0)
    assert sureness_of_number(100.0, known, target).off == 1.0
    assert sureness_of_number(900.0, known, target).off == 10.0


def test_the_nearest_examples_are_those_of_brute_force():
    chance = np.random.default_rng(0)
    known = {"numbers": chance.normal(size=(50, 3)).astype(np.float32), "categories": chance.integers(0, 3, (50, 2)),
             "straight": np.zeros((50, 1), np.float32)}  # fmt: skip
    row = {name: array[7:8] for name, array in known.items()}
    found, distances = nearest(row, known, 5)
    assert found[0] == 7
    assert distances[0] == 0
    own = [np.sqrt(((known["numbers"][i] - known["numbers"][7]) ** 2).sum() + (known["categories"][i] != known["categories"][7]).sum()) for i in range(50)]  # fmt: skip
    assert found.tolist() == np.argsort(own, kind="stable")[:5].tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_explains_an_answer_and_stays_as_it_was(family_run, family):
    examples = RunExamples(load_run(family_run(family)))
    with untouched(examples.network):
        found = explanation(examples, examples.ask(4))
    assert found.name.startswith("test")
    assert found.answer in str(found)
    assert not found.missing
    if family in ("table", "plain table"):
        assert 1 <= len(found.change.changes) <= 3
        assert len(found.neighbours) == 3
        assert all(now != then for _, now, then in found.change.values)
    if family in ("mlp", "cnn", "table", "plain table"):
        assert found.sureness.n >= 20
        chances = [p for _, p in found.likeliest]
        assert chances == sorted(chances, reverse=True)
        assert sum(chances) <= 1.0001
        assert found.answer == found.likeliest[0][0]


def test_the_change_turns_the_answer_of_predict(family_run, tmp_path):
    """The changed row, written to a file and read again, is answered otherwise."""
    examples = RunExamples(load_run(family_run("table")))
    asked = examples.ask(4)
    found = explanation(examples, asked, fixed=("age",))
    row = dict(asked.raw) | {column: then for column, _, then in found.change.values}
    assert row["age"] == asked.raw["age"]
    columns = [name for name in row if name != "income"]
    path = tmp_path / "row.csv"
    path.write_text(
        ",".join(columns) + "\n" + "\n".join(",".join(str(r[c]) for c in columns) for r in (asked.raw, row)) + "\n"
    )
    result = CliRunner().invoke(cli, ["predict", str(examples.run.folder), str(path), "--json"])
    answers = [one["prediction"] for one in json.loads(result.stdout)["predictions"]]
    assert answers == list(found.change.turned)
    assert answers[0] != answers[1]


def test_the_command_writes_a_page_that_may_be_passed_on(family_run, tmp_path):
    folder = str(family_run("table"))
    result = CliRunner().invoke(cli, ["explain", folder, "--example", "4"])
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) <= 40
    assert result.stdout.splitlines()[-1].startswith("next    pellucid ")
    page = (family_run("table") / "inspect" / "explain.html").read_text()
    assert "holds no row, picture or text of your data" in page
    examples = RunExamples(load_run(family_run("table")))
    change = explanation(examples, examples.ask(4)).change
    for column, now, then in change.values:
        assert column in page
        assert f">{now}<" not in page
        assert f">{then}<" not in page
    numbers = json.loads((family_run("table") / "inspect" / "explain.json").read_text())
    assert numbers["answer"]
    assert numbers["right"] is None
    assert {one["target"] for one in numbers["neighbours"]} == {""}
    assert {tuple(value[1:]) for value in numbers["change"]["values"]} == {("", "")}
    result = CliRunner().invoke(cli, ["explain", folder, "--example", "4", "--with-examples", "--json"])
    assert json.loads(result.stdout)["name"] == "test 4"
    page = (family_run("table") / "inspect" / "explain.html").read_text()
    assert "pass it on only to those who may see them" in page
    assert f">{change.values[0][2]}<" in page


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--example", "4000"], "--example 4000: the test part has"),
        (["--text", "x"], "reads no text; expected a language model"),
        (["--fixed", "height"], "no such column; expected one of age, city, hours"),
        (["--example", "0"], "expected a whole number from 1"),
        (["no.csv"], "no.csv"),
    ],
    ids=["row", "text", "fixed", "zero", "file"],
)
def test_what_cannot_be_asked_is_one_line(family_run, words, said):
    result = CliRunner().invoke(cli, ["explain", str(family_run("table")), *words])
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""


def test_all_views_are_of_the_class_that_is_named_by_a_threshold(family_run):
    """Where a run names a class from a probability of 0.1 on, `predict`, explain, the attribution and --wrong say the same."""
    run = load_run(family_run("table"))
    run.config = dataclasses.replace(
        run.config,
        decision=Decision(positive=1, threshold=0.02),
        settings=dataclasses.replace(run.config.settings, metric="f1"),
    )
    examples = RunExamples(run)
    test = examples.part("test")
    logits = examples.network.answer(*map(torch.tensor, test.arrays(examples.network))).detach().numpy()
    named = examples.named(logits)
    moved = np.flatnonzero(named != logits.argmax(1))
    assert len(moved)
    row = int(moved[0]) + 1
    asked = examples.ask(row)
    assert asked.class_name(asked.answer()[0]) == examples.classes[1]
    found = explanation(examples, asked)
    assert found.answer == found.attribution.target_name == examples.classes[1]
    wrong = (np.flatnonzero(named != test.target) + 1).tolist()
    assert [one.row for one in wrong_answers(examples, len(test))] == wrong


def test_an_answer_that_is_not_known_says_why(family_run, tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("age,city,hours,income\n40,Oslo,50,maybe\n20,Rome,20,no\n")
    examples = RunExamples(load_run(family_run("table")))
    found = explanation(examples, examples.ask_new(str(path), 2))
    assert found.right is None
    assert any(line.startswith("the right answer is not known: ") and "maybe" in line for line in found.remarks())
    path.write_text("age,city,hours\n40,Oslo,50\n")
    assert not any("right answer" in line for line in explanation(examples, examples.ask_new(str(path))).remarks())
