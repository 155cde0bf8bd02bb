"""An empty folder to work in, a small table of people, and a runner that never sees a traceback."""

import csv
import random

import pytest
from click.testing import CliRunner

from pellucid.cli import cli


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Each test stands in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here):
    """`run("train", "digits", ...)` -> click's result, after checking what holds for every command."""

    def invoke(*words, code=0):
        result = CliRunner().invoke(cli, [str(word) for word in words])
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        if code:
            assert result.stdout == "", "a failure leaves stdout empty"
            message = result.stderr.strip().splitlines()[-1]
            assert message.startswith("pellucid")
        return result

    return invoke


def _write_people(path, rows=120, header=True, label=lambda y: "yes" if y else "no", missing=True):
    chance = random.Random(0)
    with open(path, "w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        if header:
            out.writerow(["age", "city", "hours", "income"])
        for i in range(rows):
            age, city, hours = chance.randint(18, 80), chance.choice(["Rome", "Oslo", "Bath"]), chance.randint(10, 60)
            rich = age / 2 + hours + (15 if city == "Oslo" else 0) > 70
            out.writerow(["?" if missing and i % 10 == 3 else age, city, hours, label(rich)])
    return path


@pytest.fixture
def write_people():
    """`write_people(path, header=..., label=...)` writes a table of 120 people."""
    return _write_people


@pytest.fixture
def people(here):
    return _write_people(here / "people.csv")


@pytest.fixture
def story(here):
    """A text of 7,500 characters in 400 lines, whose words anybody can learn."""
    chance = random.Random(0)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "ran", "to", "its", "red", "hat"]
    lines = [" ".join(chance.choice(words) for _ in range(chance.randint(3, 7))) for _ in range(400)]
    path = here / "story.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
