"""The command that a view ends with is about the same example, and a shell takes it as it is printed."""

import shlex
import shutil

import pytest
from click.testing import CliRunner

from pellucid.cli import cli
from pellucid.cli.inspecting import pasted


def following(*words):
    result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return shlex.split(result.output.splitlines()[-1].removeprefix("next    "))


@pytest.mark.parametrize("text", ['say "so" ', "$HOME `ls` ", "two  words", ""])
def test_a_shell_gives_back_each_word(text):
    line = pasted("blame", "my run", "my data.csv", 3, text, "--of", "units")
    assert shlex.split(line) == [
        "pellucid",
        "blame",
        "my run",
        "my data.csv",
        "--example",
        "3",
        "--text",
        text,
        "--of",
        "units",
    ]


def test_the_next_view_is_of_the_same_row(family_run, tmp_path):
    folder = shutil.copytree(family_run("plain table"), tmp_path / "a run")
    data = shutil.copy(family_run("plain table").parent / "people.csv", tmp_path / "new people.csv")
    assert following("explain", folder, data, "--example", 2) == [
        "pellucid",
        "trace",
        str(folder),
        str(data),
        "--example",
        "2",
    ]
    assert following("trace", folder, data, "--example", 2) == [
        "pellucid",
        "explain",
        str(folder),
        str(data),
        "--example",
        "2",
    ]
    assert following("blame", folder, data, "--example", 2)[:4] == ["pellucid", "blame", str(folder), str(data)]
    assert following("labels", folder) == ["pellucid", "labels", str(folder), "--out", "doubted.csv"]
