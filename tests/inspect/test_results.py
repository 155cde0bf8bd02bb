"""Results of views: tables as text, JSON without NaN, HTML that escapes, and pages that load nothing."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

import pellucid as torch
from pellucid.inspect.result import Check, Result, Table
from pellucid.report.inspection import ViewPage, result_sections, write_page


@dataclass(frozen=True)
class Found(Result):
    names: tuple[str, ...]
    values: np.ndarray
    inner: Table
    tensor: torch.Tensor

    checks = (
        Check("sum", "proven", "3 of 3", control="a random order: 1 of 3"),
        Check("size", "measured", "0.2, at least 0.5", False),
    )

    def headline(self):
        return "two <rows> & a check"

    def tables(self):
        return (self.inner,)

    def remarks(self):
        return ("no more than that",)


@pytest.fixture
def found():
    table = Table("parts", ("name", "share", "n"), [("<script>", 0.123456, 1200), ("b", None, 3)])
    return Found(("a",), np.array([1.0, np.nan]), table, torch.tensor([1, 2]))


def test_a_result_prints_its_tables_checks_and_remarks(found):
    assert str(found).splitlines() == [
        "two <rows> & a check", "", "parts", "name       share      n", "<script>  0.1235  1,200", "b                     3", "",
        "check  sum: 3 of 3; a random order: 1 of 3 (proven)", "check  size: 0.2, at least 0.5 (measured) MISSED", "no more than that",
    ]  # fmt: skip


def test_a_result_is_plain_json(found):
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["values"] == [1.0, None]
    assert plain["tensor"] == [1, 2]
    assert plain["inner"]["rows"][0] == ["<script>", 0.123456, 1200]


def test_a_notebook_shows_escaped_tables(found):
    shown = found._repr_html_()
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert "two &lt;rows&gt; &amp; a check" in shown


def test_a_page_says_first_what_it_holds(found, tmp_path):
    path = write_page(
        tmp_path,
        ViewPage("parts", "Which parts?", "these <b>", result_sections(found), "", "pellucid x"),
        found.to_dict(),
    )
    text = path.read_text()
    assert text.index("holds no row, picture or text of your data") < text.index("<h1>")
    assert "<script>" not in text
    assert "these &lt;b&gt;" in text
    assert "http:" not in text and "https:" not in text
    assert json.loads((tmp_path / "inspect" / "parts.json").read_text())["names"] == ["a"]
    write_page(tmp_path, ViewPage("parts", "Which parts?", "x", [], "test 3"), {})
    assert "holds examples of your data (test 3)" in path.read_text()
