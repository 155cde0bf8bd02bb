"""What stands below and between the rows of a table: notes, totals, drawn lines; and blanks that separate fields."""

from __future__ import annotations

import datetime
import gzip

import numpy as np
import pytest

from pellucid.data.load import load_problem
from pellucid.data.table.read import read_table
from pellucid.data.table.read_options import ReadOptions
from pellucid.errors import DataError

SALES = [(("North", "South")[i % 2], "ABC"[i % 3], 3 + i, 10 * i + 7) for i in range(20)]
HEAD = "region,product,units,revenue\n"
BODY = HEAD + "".join(f"{r},{p},{u},{x}\n" for r, p, u, x in SALES)
UNITS, REVENUE = sum(u for _, _, u, _ in SALES), sum(x for *_, x in SALES)


def read(path, options=None):
    return read_table(path, options=ReadOptions.parse(options))


def told(table, words):
    found = [note for note in table.notes if words in note]
    assert found and all(len(note) <= 118 for note in found), table.notes
    return found[0]


# ---- notes below the rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("below", "count", "first"),
    [
        ("\nSource: ERP\n", 1, "Source: ERP"),
        ("Source: ERP, preliminary figures\n", 1, "Source: ERP"),
        ("* not yet booked\nBalance;1;2\n", 2, "* not yet booked"),
        ("\nTotals of May\nby region\n\n", 2, "Totals of May"),
        ("(20 rows)\n", 1, "(20 rows)"),
        (",,,\nSource: ERP,,,\nAll amounts in euros,,,\n", 2, "Source: ERP"),
        ("\n\n© The company, the year, the place, all rights, and more\n", 1, "© The company"),
        ("All amounts are in euros", 1, "All amounts"),
    ],
)
@pytest.mark.parametrize("form", ["plain", "gzip", "utf-16"])
def test_notes_below_the_rows_are_skipped_and_told(write, below, count, first, form):
    text = BODY + below
    content = {"plain": text.encode(), "gzip": gzip.compress(text.encode()), "utf-16": text.encode("utf-16")}[form]
    table = read(write(content, "sales.csv.gz" if form == "gzip" else "sales.csv"))
    assert len(table) == len(SALES) and table.names == HEAD.strip().split(",")
    note = told(table, "below the table skipped")
    assert note.startswith(f"file: {count} line") and first in note and "--read footer=none" in note


def test_the_user_says_how_many_lines_stand_below(write):
    path = write(BODY + "x,y,1,2\nx,y,3,4\n")
    assert len(read(path)) == len(read(path, "footer=none")) == len(SALES) + 2
    assert len(read(path, "footer=2")) == len(SALES)
    assert len(read(write(BODY + "Source: ERP\n\n"), "footer=1")) == len(SALES)
    with pytest.raises(DataError, match="line 22: 1 field; expected 4"):
        read(write(BODY + "Source: ERP\n"), "footer=none")


@pytest.mark.parametrize("below", ["North,A,", "North\n", "N17\n", "12,3\n", "North,A,3,4,5\n"])
def test_a_last_row_that_is_damaged_is_none(write, below):
    with pytest.raises(DataError, match="line 22: . field"):
        read(write(BODY + below))


@pytest.mark.parametrize(
    "rows",
    [
        "a,b,c\n1,2,3\n4,,\n5,,\n",  # numbers alone in their row
        "text,a,b\n" + "this is good,1,2\nthis is bad,,\nso it may be,,\n",  # others are as sparse
        'text,a\n1,x\n2,"it ends\nhere"\n',
        "text,label\ngood it is,1\nbad it is,0\n",
    ],
)
def test_rows_that_look_like_notes(write, rows):
    table = read(write(rows))
    assert not table.notes and len(table) == len(read(write(rows), "footer=none"))


def test_notes_and_totals_of_a_sheet(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Sales, all amounts in euros"])
    sheet.merge_cells("A1:D1")
    for row in ([], HEAD.strip().split(","), *SALES, ["Total", None, UNITS, REVENUE], [], ["Source: ERP"]):
        sheet.append(list(row))
    book.save(tmp_path / "book.xlsx")
    table = read(tmp_path / "book.xlsx")
    assert len(table) == len(SALES) and table.where(19).endswith("row 23")
    assert "'Source: ERP' first" in told(table, "1 row below the table skipped")
    assert "('Total')" in told(table, "the last row is the totals of others")
    assert len(read(tmp_path / "book.xlsx", "footer=none")) == len(SALES) + 2


# ---- totals --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "total",
    [
        f"Total,,{UNITS},{REVENUE}", f"Grand total:,,{UNITS},{REVENUE}", f"Summe,,,{REVENUE}", f",,{UNITS},{REVENUE}", "Total,,,",
        f"Total,All,{UNITS},{REVENUE / len(SALES)}", f"Average,,{UNITS / len(SALES)},", f"Gesamt 2023,,{UNITS},{REVENUE * 1.0004:.0f}",
    ],
)  # fmt: skip
def test_a_row_of_totals_is_no_example(write, total):
    """It would be learned from, and moves mean and deviation."""
    path = write(BODY + total + "\n")
    table = read(path)
    assert len(table) == len(SALES) and "--read footer=none" in told(table, "the last row is the totals of others")
    assert len(read(path, "footer=none")) == len(SALES) + 1
    data, plain = (load_problem(str(p), target="revenue", task="regression") for p in (path, write(BODY, "plain.csv")))
    np.testing.assert_array_equal(data.train.target, plain.train.target)
    assert any("totals" in note for note in data.notes)


def test_subtotals_between_groups_are_left_out(write):
    groups = {"North": [(1, 2), (3, 5), (9, 1)], "South": [(2, 2), (8, 5), (4, 4)]}
    lines, totals = [], np.zeros(2, int)
    for name, rows in groups.items():
        own = np.sum(rows, axis=0)
        totals += own
        lines += [f"{name},{a},{b}" for a, b in rows] + [f"{name} Total,{own[0]},{own[1]}"]
    table = read(write("\n".join(["region,a,b", *lines, f"Grand Total,{totals[0]},{totals[1]}"]) + "\n"))
    assert table.columns[0].tolist() == ["North"] * 3 + ["South"] * 3
    assert told(table, "rows: ").startswith("rows: 3 rows are the totals of others ('Grand Total')")


@pytest.mark.parametrize(
    "rows",
    [
        "brand,n\n" + "Shell,1\nTotal,1\nAral,3\nTotal,2\nEsso,4\nTotal,7\n",  # the name of a company
        "word,n\n" + "sum,5\nmean,6\ntotal,9\nsum,8\nmean,1\n",
        "a,b\n" + "".join(f"{i},{i}\n" for i in range(1, 12)) + "66,66\n",  # without a word, nothing missing
        "a,b,c\n" + "".join(f"x{i},0,1\n" for i in range(12)) + ",0,1\n",
        "a,b\n" + "1,2\n2,4\nTotal,3\n" * 2,  # totals of nothing
    ],
)
def test_rows_that_are_no_totals(write, rows):
    table = read(write(rows))
    assert len(table) == rows.count("\n") - 1 and not table.notes


# ---- drawn lines, and blanks between fields ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "| a | b |\n|---|:--:|\n| 1 | x |\n| 2 | y |\n",  # Markdown
        " a | b\n---+---\n 1 | x\n 2 | y\n(2 rows)\n\n",  # PostgreSQL
        "a,b\n=====\n1,x\n2,y\n",
        "+---+---+\n| a | b |\n+---+---+\n| 1 | x |\n| 2 | y |\n+---+---+\n",  # MySQL
    ],
)
def test_drawn_lines_are_no_rows(write, text):
    table = read(write(text))
    assert table.names == ["a", "b"] and [c.tolist() for c in table.columns] == [["1", "2"], ["x", "y"]]


ALIGNED = "YEAR   RAIN  PLACE\n" + "".join(
    f"{1950 + i}  {i * 1.5:6.2f}   {'xy'[i % 2]}\n" + "\n" * (i == 4) for i in range(12)
)


def test_fields_that_blanks_separate(write):
    table = read(write(ALIGNED, "rain.dat"))
    assert table.names == ["YEAR", "RAIN", "PLACE"] and len(table) == 12
    assert table.where(5).endswith("line 8") and table.row(1) == {"YEAR": "1951", "RAIN": "1.50", "PLACE": "y"}
    assert "--read delimiter=SIGN" in told(table, "file: fields are read as separated by blanks")
    assert not read(write(ALIGNED), "delimiter=space").notes


def test_blanks_a_tab_and_a_quoted_name(write):
    """As UCI's auto-mpg.data has them."""
    rows = "".join(f'{18 + i}.0   8   {300 + i}.0      130.0\t"chevrolet chevelle {i % 3}"\n' for i in range(9))
    table = read(write(rows, "auto-mpg.data"))
    assert not table.header and table.row(2)["column5"] == "chevrolet chevelle 2" and table.row(2)["column1"] == "20.0"


@pytest.mark.parametrize(
    "text",
    [
        "review\nthis is good\nthat was bad\nit is fine\nso was this\nno it was not\n",  # a text of as many words a line
        "n\n1\n2\n3\n4\n5\n6\n",
        "name\tn\n" + "ann may 1\t2\nbob may 2\t3\n" * 4,
    ],
)
def test_blanks_that_do_not_separate(write, text):
    assert len(read(write(text)).names) == text.split("\n")[0].count("\t") + 1


def test_an_empty_text_in_a_column_alone_is_a_row(write):
    """A prediction is given for each row: none may be lost."""
    path = write('review\n"so good"\n""\n\n"so bad"\n')
    table = read(path)
    assert table.columns[0].tolist() == ["so good", None, "so bad"] and table.where(2).endswith("line 5")


# ---- workbooks and other files -------------------------------------------------------------------------------------------


def test_the_sheet_that_is_a_table_is_read(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "README"
    for line in ("Data list", "Updated 2009", "Help: none"):
        book.active.append([line])
    hidden = book.create_sheet("lookup")
    hidden.sheet_state = "hidden"
    data = book.create_sheet("Data")
    for k, row in enumerate([["a", "b"], [1, "x"], [2, "y"]]):
        hidden.append([f"code{k}", f"name{k}"])
        data.append(row)
    data["C1"] = datetime.date(2021, 1, 1)
    book.save(tmp_path / "book.xlsx")
    assert read(tmp_path / "book.xlsx").names[:2] == ["a", "b"]
    assert read(tmp_path / "book.xlsx", "sheet=lookup").names == ["code0", "name0"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"r\x02\x01\x00" + bytes(20), "a Stata file"), (b"q\x02\x01\x00\x0e\x00", "a Stata file"), (b"MATLAB 5.0 MAT-file, x", "MATLAB's data"),
     (bytes(12) + b"\xc2\xea\x81\x60" + bytes(9), "a SAS file"), (b"FEA1\x00\x00", "a Feather file"), (b"CDF\x01\x00\x00", "a NetCDF file"),
     (gzip.compress(b"X\n\x00\x00\x00\x03", mtime=0), "R's data")],
    ids=["stata", "stata older", "matlab", "sas", "feather", "netcdf", "r"],
)  # fmt: skip
def test_data_of_other_programs_are_named(write, content, words):
    with pytest.raises(DataError, match=f"{words}; expected"):
        read(write(content))


# ---- headers with numbers in them ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["country,2019,2020,2021,y", "country,2021,2020,2019,y", "label,0,1,2,y", "country,a,2020,b,y"]
)
def test_years_and_numbers_in_order_may_name_columns(write, header):
    rows = "".join(f"c{i % 4},{i}.5,{i * 3},{i * 7 % 11},{i % 2}\n" for i in range(30))
    table = read(write(f"{header}\n{rows}"))
    assert table.names == header.split(",") and len(table) == 30


@pytest.mark.parametrize(
    "first",
    ["ann,2019,x,1", "ann,5,6,7", "ann,2019,2020,2021", "2019,2020,2021,2022", "ann,3,unknown,5"],
)
def test_numbers_in_a_first_row_of_data(write, first):
    below = {"ann,2019,2020,2021": "bob,2020,2021,2022", "ann,5,6,7": "bob,6,7,8"}.get(first, "bob,2018,y,3")
    assert not read(write(f"{first}\n{below}\ncid,2020,y,2\n")).header


# ---- JSON within JSON ----------------------------------------------------------------------------------------------------


def test_records_deeper_in_a_json_object(write):
    content = '{"meta": {"page": 1}, "data": {"count": 2, "items": [{"a": 1}, {"a": 2}]}}'
    table = read(write(content, "a.json"))
    assert table.columns[0].tolist() == ["1", "2"] and told(table, "'items'")
