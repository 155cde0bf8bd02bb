"""Documentation is run: every Python block of README and docs, in order, and every example."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SHORT = {"adding.py": ["--steps", "60", "--length", "20", "--hidden", "16"]}  # what would train for minutes


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_in_order(page, tmp_path):
    script = tmp_path / "page.py"  # a file, so that an error and a Node's line have a place
    script.write_text("\n".join(python_blocks(page)), encoding="utf-8")
    runpy.run_path(str(script))


def test_what_the_readme_says_is_printed_is_printed(tmp_path):
    """A comment behind a print holds the output."""
    code = "\n".join(python_blocks(ROOT / "README.md")[:3])
    promised = re.findall(r"print\(.*\)  # (.+)", code)
    script = tmp_path / "tour.py"
    script.write_text(code, encoding="utf-8")
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(promised) >= 3
    assert [line for line in printed if line in promised] == promised


def test_every_difference_from_pytorch_that_the_page_names_is_a_test():
    page = (ROOT / "docs" / "pytorch.md").read_text(encoding="utf-8")
    named = {name for row in re.findall(r"^\|.*\| (.*) \|$", page, re.M)[2:] for name in re.findall(r"`(\w+)`", row)}
    tests = set(
        re.findall(r"^def test_(\w+)", (ROOT / "tests" / "test_surprises.py").read_text(encoding="utf-8"), re.M)
    )
    assert len(named) > 15
    assert named <= tests


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs(example):
    words = [sys.executable, example, *SHORT.get(example.name, [])]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_neuron_shows_the_numbers_of_the_textbook():
    shown = subprocess.run(
        [sys.executable, ROOT / "examples" / "neuron.py"], capture_output=True, text=True, check=True
    ).stdout
    assert "0.8x0.7 + 0.3x0.2 + 0.6x0.5 = 0.92" in shown
    assert "0.7150" in shown
    gradients = re.findall(r"= (0\.\d{4})$", shown.split("backward:")[1], re.M)
    assert gradients == re.findall(
        r"0\.\d{4}", shown.splitlines()[-1]
    )  # the product of slopes is what backward() gives


def test_the_gitignore_keeps_runs_and_environments_out():
    ignored = (ROOT / ".gitignore").read_text()
    assert "/runs/" in ignored and ".venv/" in ignored
