"""`pellucid doctor`: what it finds is what training would decide, and it fits the screen."""

import csv
import json
import random
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pellucid.data
from pellucid.data.description_text import text_width
from pellucid.data.load import describe_source, load_problem
from pellucid.errors import DataError, OptionError


@pytest.fixture
def write(here):
    def write(name, columns):
        with open(here / name, "w", newline="", encoding="utf-8") as file:
            out = csv.writer(file)
            out.writerow(columns)
            out.writerows(zip(*columns.values(), strict=True))
        return name

    return write


@pytest.fixture
def shop(write):
    """A shop's table: an index, money, dates, gaps, a constant, a copy of the target, labels in two spellings."""
    chance = random.Random(1)
    sold = [chance.random() < 0.5 for _ in range(200)]
    return write(
        "shop.csv",
        {
            "Unnamed: 0": list(range(200)),
            "price": [f"${chance.randint(1000, 9999):,}.50" for _ in sold],
            "day": [f"{chance.randint(1, 28):02d}.{chance.randint(1, 12):02d}.2021" for _ in sold],
            "city": [chance.choice(["Rome", "Oslo", ""]) for _ in sold],
            "shop": ["main"] * 200,
            "code": [int(x) for x in sold],
            "sold out": [("yes" if x else "no") if i % 7 else ("Yes" if x else "no") for i, x in enumerate(sold)],
        },
    )


def columns_of(described):
    return {column.name: column for column in described.columns}


def test_each_column_has_its_role_reading_gaps_and_examples(shop):
    found = columns_of(describe_source(shop, target="sold out"))
    roles = {name: column.role for name, column in found.items()}
    assert roles == {
        "Unnamed: 0": "identifier", "price": "number", "day": "date", "city": "category", "shop": "constant", "code": "number",
        "sold out": "target",
    }  # fmt: skip
    with open(shop, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cells = [row["price"] for row in rows]
    assert found["price"].reading == f"'{cells[0]}' is {float(cells[0].strip('$').replace(',', '')):.12g}"
    assert found["price"].examples[0] == cells[0]
    assert found["day"].reading.startswith("'") and " is 2021-" in found["day"].reading
    cities = [row["city"] for row in rows]
    assert found["city"].gaps == cities.count("") > 0 and found["city"].distinct == 2
    assert found["Unnamed: 0"].reading == "row numbers"


def test_it_says_all_that_training_would_say(shop):
    described = describe_source(shop, target="sold out")
    data = load_problem(shop, target="sold out")
    assert set(data.notes) <= set(described.notes) and len(data.notes) > 8
    assert any(note.startswith("leak: code alone tells the target") for note in described.notes)
    assert any(note.startswith("folds:") for note in described.notes)  # what the command adds
    kinds = [note.split(":")[0].split(" ")[0] for note in described.notes]
    assert kinds.index("leak") == 0 and kinds == sorted(kinds, key=kinds.index), "notes of a kind stand together"
    assert described.splits == {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    assert sum(described.classes.values()) == 200 and set(described.classes) == {"yes", "no"}


def test_the_last_line_is_the_command_that_trains(shop):
    described = describe_source(shop, target="sold out", drop=["code", "city"], task="classification")
    words = shlex.split(described.next)
    assert words == [
        "pellucid",
        "train",
        shop,
        "--target",
        "sold out",
        "--drop",
        "code,city",
        "--task",
        "classification",
    ]


@pytest.mark.parametrize("name", ["price $", "sold `x`", 'a "b"', "plain", "two words", "café"])
def test_a_name_is_one_word_for_a_shell(write, name):
    x = [random.Random(i).random() for i in range(60)]
    path = write("names.csv", {"x": x, name: ["a", "b"] * 30})
    assert shlex.split(describe_source(path, target=name).next)[-1] == name
    x[:] = [i % 2 for i in range(60)]
    path = write("names.csv", {name: x, "z": [i * i % 17 for i in range(60)], "y": ["a", "b"] * 30})
    notes = [note for note in describe_source(path, target="y").notes if note.startswith("leak")]
    assert shlex.split(notes[0].rpartition("; ")[2]) == ["--drop", name]


def test_without_a_target_it_names_what_looks_like_one(run, shop, write):
    found = describe_source(shop)
    assert (
        next(iter(found.candidates)) == "sold out"
        and "2 different values -> classification" in found.candidates["sold out"]
    )
    assert "Unnamed: 0" not in found.candidates and "shop" not in found.candidates
    assert found.next == 'pellucid doctor shop.csv --target "sold out"'
    x = [random.Random(i).random() for i in range(40)]
    first = write("t.csv", {"label": ["a", "b"] * 20, "x": x, "z": x[::-1]})
    assert next(iter(describe_source(first).candidates)) == "label"  # by its name, though another stands last
    none = write("none.csv", {"a": ["same"] * 40, "b": [f"2021-01-{1 + i % 28:02d}" for i in range(40)]})
    assert "no column looks like one" in run("doctor", none).stdout


def test_series_in_a_table_are_named(write):
    day = [f"2021-{1 + i // 28:02d}-{1 + i % 28:02d}" for i in range(100)]
    y = [random.Random(i).random() for i in range(200)]
    one = write("one.csv", {"day": day, "y": y[:100]})
    assert "--time-column day" in describe_source(one).facts["series"]
    both = write("both.csv", {"shop": ["a"] * 100 + ["b"] * 100, "day": day * 2, "y": y})
    assert "--time-column day --series shop" in describe_source(both).facts["series"]
    mixed = write("mixed.csv", {"shop": ["a", "b"] * 50, "day": day[::-1], "y": y[:100]})
    assert "series" not in describe_source(mixed).facts
    described = describe_source(both, target="y", time_column="day", series="shop", lookback=5)
    roles = {name: column.role for name, column in columns_of(described).items()}
    assert described.kind == "series" and roles == {"shop": "series", "day": "time", "y": "target"}
    assert "season" in described.facts and columns_of(described)["day"].reading == "1 day a step"


@pytest.mark.parametrize("width", [80, 200])
def test_no_line_is_wider_than_the_terminal(run, shop, monkeypatch, width, write):
    monkeypatch.setenv("COLUMNS", str(width))
    wide = write("wide.csv", {f"東京 column {k}": [f"{i * k % 97}.5 kg" for i in range(60)] for k in range(30)})
    for words in ([shop, "--target", "sold out"], [shop], ["digits"], [wide, "--target", "2"]):
        *lines, last = run("doctor", *words).stdout.splitlines()
        assert max(map(text_width, lines)) <= width
        assert last.split()[:3] == ["next", "pellucid", "doctor" if words == [shop] else "train"]
    lines = run("doctor", shop, "--target", "sold out").stdout.splitlines()
    start = lines.index("") + 1
    assert (
        len(
            {line.index(role) for line, role in zip(lines[start + 1 :], ["identifier", "number", "date"], strict=False)}
        )
        == 1
    )


def test_many_columns_are_told_by_role_and_json_has_all(run, write):
    rows = np.random.default_rng(0).normal(size=(60, 500)).round(3)
    columns = {f"gene {k}": rows[:, k].tolist() for k in range(500)}
    path = write("genes.csv", {"ward": list("abc") * 20, **columns, "y": ["u", "v"] * 30})
    lines = run("doctor", path, "--target", "y").stdout.splitlines()
    assert len(lines) < 40 and any(line.startswith("number  500 columns: gene 0, gene 1, ") for line in lines)
    assert any(line.startswith("ward  ") for line in lines) and not any(line.startswith("gene ") for line in lines)
    full = json.loads(run("doctor", path, "--target", "y", "--json").stdout)
    assert len(full["columns"]) == 502 and full["columns"][7]["name"] == "gene 6"


def test_json_is_what_python_gives(run, shop):
    printed = json.loads(run("doctor", shop, "--target", "sold out", "--seed", 3, "--json").stdout)
    described = pellucid.data.describe(shop, seed=3, target="sold out")
    assert printed == json.loads(json.dumps(described.to_dict()))
    assert printed["rows"] == 200 and printed["classes"]["no"] == described.classes["no"]
    assert printed["next"].endswith("--seed 3")


def test_data_in_memory():
    x = np.random.default_rng(0).normal(size=40)
    described = pellucid.data.describe({"x": x, "y": ["a", "b"] * 20}, "y", name="mine")
    assert str(described).startswith("mine: a table of separate rows, 40 rows, 2 columns")
    assert described.next == "pellucid.data.problem_from(X, 'y')"
    assert pellucid.data.describe({"x": x}, ["a", "b"] * 20).next == "pellucid.data.problem_from(X, y)"


def test_what_cannot_be_learned_from_is_described_with_the_reason(run, write):
    same = write("same.csv", {"x": [i * 7 % 11 for i in range(30)], "y": ["one"] * 30})
    shown = run("doctor", same, "--target", "y").stdout
    assert "refused  train stops here: same.csv: the target y is 'one' in every row" in shown
    assert describe_source(same, target="y").refusal.startswith("same.csv: the target y is 'one'")
    line = run("train", same, "--target", "y", code=2).stderr
    assert "the target y is 'one' in every row" in line
    text = write("text.csv", {"day": [f"2021-01-{i:02d}" for i in range(1, 29)], "y": ["a"] * 28})
    assert "is not a number" in describe_source(text, target="y", time_column="day").refusal


def test_bad_input_is_one_line(run, shop, people, here):
    assert "--target sold: shop.csv has no such column" in run("doctor", shop, "--target", "sold", code=2).stderr
    assert "--drop x:" in run("doctor", shop, "--target", "sold out", "--drop", "x", code=2).stderr
    assert "no such file" in run("doctor", "nothing.csv", code=2).stderr
    assert "--task nonsense" in run("doctor", shop, "--target", "city", "--task", "nonsense", code=2).stderr
    (here / "page.csv").write_text("<html><title>Sign in</title></html>")
    assert "a web page" in run("doctor", "page.csv", code=2).stderr
    with pytest.raises(DataError):
        pellucid.data.describe("nothing.csv")
    with pytest.raises(OptionError):
        pellucid.data.describe(str(people), target="nobody")


def test_a_run_is_told_from_data(run, people, here):
    run("train", people, "--target", "income", "--epochs", 1, "--quiet", "--run-dir", "runs/one")
    for name in ("runs/one", "one", "last"):
        line = run("doctor", name, code=2).stderr
        assert f"FILE {name}: a run; expected data" in line and f"pellucid summary {name}" in line
    (here / "last").write_bytes(people.read_bytes())  # a file of that name is data
    assert "120 rows" in run("doctor", "last", "--target", "income").stdout


def test_pictures_classes_and_broken_files(run, here):
    chance = np.random.default_rng(0)
    for k, count in (("cat", 30), ("dog", 20)):
        (here / "pets" / k).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(chance.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(here / "pets" / k / f"{i}.png")
    (here / "pets" / "cat" / "3.png").write_bytes(b"\x89PNG broken")
    shown = run("doctor", "pets").stdout
    assert "classes   cat 29 (59%), dog 20 (41%)" in shown and "cannot be read: cat/3.png" in shown
    assert "49 pictures, colour, 2 classes (cat, dog); 20x24" in shown


def test_a_text_and_its_alphabet(run, story):
    facts = describe_source("story.txt").facts
    text = story.read_text()
    assert facts["characters"] == f"{len(text):,}, {len(set(text))} different"
    assert set(facts["alphabet"]) == set(text) - {" ", "\n"} and facts["lines"].startswith("400 that are not blank")
    shown = run("doctor", "story.txt").stdout
    assert "tokens" in shown and shown.rstrip().endswith("pellucid train story.txt")


def test_a_data_set_known_by_name(run):
    shown = run("doctor", "digits").stdout
    assert "1,797 scans 8x8" in shown and shown.rstrip().endswith("pellucid train digits")


def test_text_in_cells_cannot_command_the_terminal(write):
    path = write("odd.csv", {"a\x1b[31m": ["x\x07", "y\x1b[2J"] * 20, "y": [i % 7 for i in range(40)]})
    assert not any(ord(c) < 32 and c != "\n" for c in describe_source(path).text())


def test_the_page_of_the_documentation_is_what_is_printed(capsys):
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    exec(blocks[0], {})
    assert capsys.readouterr().out == re.search(r"^```text\n(.*?)^```", page, re.M | re.S)[1]
