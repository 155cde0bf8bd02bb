"""What every command shares: light imports, `python -m pellucid`, a reader that goes away."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pellucid.cli import shell
from pellucid.cli.tables import print_table

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


@pytest.mark.parametrize("words", [["--help"], ["runs"], ["datasets"]])
def test_small_commands_import_no_large_libraries(here, words):
    code = (
        "import sys\nfrom pellucid.cli import cli\n"
        f"try: cli.main({words!r})\n"
        "except SystemExit: print([m for m in ('sklearn', 'scipy', 'duckdb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_every_command_is_listed():
    files = {path.stem for path in Path(shell.__file__).parent.glob("*.py") if "@click.command(" in path.read_text()}
    assert files == set(shell.COMMANDS), "give each command its line in COMMANDS of pellucid/cli/shell.py"


def test_python_dash_m(here):
    done = subprocess.run([sys.executable, "-m", "pellucid", "trian"], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "pellucid: no such command: 'trian'. Did you mean 'train'?\n"


def test_a_warning_is_one_line_without_pythons_file_and_line(run, monkeypatch):
    import warnings

    from pellucid.runs import run as runs

    monkeypatch.setattr(runs, "folders", lambda: warnings.warn("softmax before cross-entropy", stacklevel=1) or [])
    assert run("runs").stderr == "note: softmax before cross-entropy\n"


def test_a_table_in_a_pipe_has_every_cell_whole_and_one_line_a_row(capsys):
    long = "a run of " + "very " * 60 + "many words [bold]and brackets[/bold]"
    print_table(["name", "what"], [["one", long], ["another", "short"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["name     what", f"one      {long}", "another  short"]


def test_a_table_on_a_terminal_is_as_wide_as_it_is(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "50")
    print_table(["name", "what"], [["one", "word " * 40]])
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in terminal.getvalue().splitlines()]
    assert len(lines) > 4 and max(map(len, lines)) <= 50
    assert " ".join(lines[2:]).count("word") == 40
