"""What every command shares: light imports, `python -m pellucid`, a reader that goes away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pellucid.cli import shell

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
