"""Headers that are no plain row of names: two rows of them, and names that come twice."""

import numpy as np
import pytest

from pellucid.data.load import load_problem
from pellucid.data.table.read import read_table
from pellucid.data.table.read_options import ReadOptions

RNG = np.random.default_rng(0)
ROWS = [f"p{i},{a:.2f},{b:.2f},{'ab'[i % 2]}" for i, (a, b) in enumerate(RNG.normal(size=(40, 2)))]


@pytest.fixture
def read(tmp_path):
    def make(*lines, options=None):
        path = tmp_path / "t.csv"
        path.write_text("\n".join(lines) + "\n")
        return read_table(path, options=ReadOptions.parse(options))

    return make


@pytest.mark.parametrize(
    ("head", "names", "note"),
    [
        (("id,height,weight,y", ",cm,kg,"), ["id", "height", "weight", "y"], "a second row of header, 'cm, kg', skipped"),
        (("id,height,weight,y", "id,height,weight,y"), ["id", "height", "weight", "y"], "a second row of header"),
        (("who,body,,what", "id,height,weight,y"), ["id", "height", "weight", "y"], "the first row of header, 'who, body, what', skipped"),
        (("who,before,after,what", "id,height,height,y"), ["who", "before", "after", "what"], "a second row of header"),
        (("who,body,,what", ",height,weight,"), ["who", "body height", "body weight", "what"], "two rows of header, read together"),
    ],
)  # fmt: skip
def test_two_rows_of_header_are_read(read, head, names, note):
    table = read(*head, *ROWS)
    assert table.names == names and len(table) == 40 and table.columns[0][0] == "p0"
    assert any(one.startswith(f"file: {note}") and len(one) <= 118 for one in table.notes), table.notes
    assert table.parsed(1) is not None and not len(table.parsed(1)[1])
    assert table.where(0).endswith("line 3") and table.take(np.array([5])).where(0).endswith("line 8")
    assert len(read(*head, *ROWS, options="header=1")) == 41


def test_a_first_row_with_gaps_or_words_is_data(read):
    for first in (",,,", "p,unknown,3.1,a", "p,none,missing,a", "p,1.2,3.4,a"):
        assert len(read("id,height,weight,y", first, *ROWS)) == 40 + bool(first.strip(","))


def test_the_label_row_is_no_class_any_more(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["id,height,weight,y", "Name,Height in cm,Weight in kg,Label", *ROWS]) + "\n")
    assert load_problem(str(path), target="y").preprocessor.classes == ["a", "b"]


def test_a_sheet_with_two_rows_of_header_is_read(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [["body", "", "what"], ["height", "weight", "y"], *([i + 0.5, i * 2.5, "ab"[i % 2]] for i in range(30))]:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    table = read_table(tmp_path / "t.xlsx")
    assert table.names == ["height", "weight", "y"] and len(table) == 30
    assert table.where(0).endswith("row 3")


def test_names_that_come_twice_are_told_apart(read, tmp_path):
    table = read("x,y,x,x.2,x", *(f"{i},{i % 2},{i * 7 % 5},3.5,{i}" for i in range(40)))
    assert table.names == ["x", "y", "x.3", "x.2", "x.4"]
    assert table.notes == [
        "file: the header has 'x' 3 times, read as 'x.3' in column 3, 'x.4' in column 5; --no-header if the first row is data"
    ]
    assert "x.3" not in load_problem(str(tmp_path / "t.csv"), target="y", drop=["x.3"]).preprocessor.needed
