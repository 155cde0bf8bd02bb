"""Tables: what is read, and what each kind of damage says: file, line, what came, what was expected, what to do."""

from __future__ import annotations

import gzip
import os
import random

import duckdb
import numpy as np
import pytest

from pellucid.data.table.delimited import MISSING, looks_like_header, sniff
from pellucid.data.table.read import _fast, _plain, numbers_of, read_table
from pellucid.errors import DataError, OptionError


def lists(table):
    return [list(column) for column in table.columns]


# ---- what is read --------------------------------------------------------------------------------------------------------


def test_plain_csv(write):
    table = read_table(write("age,job\n39,clerk\n50,\n"))
    assert table.names == ["age", "job"] and table.header
    assert lists(table) == [["39", "50"], ["clerk", None]]


@pytest.mark.parametrize(
    "content",
    [
        "a,b\r\n1,x\r\n2,y\r\n",
        "a,b\r1,x\r2,y\r",
        "\ufeffa,b\n1,x\n2,y",
        "a;b\n1;x\n2;y\n",
        "a\tb\n1\tx\n2\ty\n",
        "a|b\n1|x\n2|y\n",
        " a , b \n 1 ,\tx\n2 , y \n",
        "\n\na,b\n\n1,x\n  \n2,y\n,\n\n",
        '"a","b"\n"1","x"\n"2","y"\n',
        'a,b\n1, "x"\n2,y\n',
        "a,b,\n1,x,\n2,y,\n",
    ],
)
def test_the_same_table_in_many_dialects(write, content):
    table = read_table(write(content))
    assert table.names == ["a", "b"]
    assert lists(table) == [["1", "2"], ["x", "y"]]


def test_quoted_fields_hold_separators_quotes_and_line_ends(write):
    path = write('a,b\n1,"x, ""y""\nz"\n2,w\n')
    table = read_table(path)
    assert lists(table) == [["1", "2"], ['x, "y"\nz', "w"]]
    assert table.where(1) == f"{path}, line 4"  # the record before it covers two lines


def test_gzip_is_unpacked(write):
    table = read_table(write(gzip.compress(b"a,b\n1,x\n2,y\n"), "people.csv.gz"))
    assert lists(table) == [["1", "2"], ["x", "y"]]


def test_words_for_missing(write):
    words = sorted(word for word in MISSING if word not in ("", "\\n"))
    table = read_table(write("a,b\n" + "".join(f"{word},1\n{word.upper()},2\n" for word in words)))
    assert all(value is None for value in table.columns[0])


def test_words_that_a_class_may_have_stay(write):
    assert lists(read_table(write("a,b\n1,none\n2,-\n3,+\n")))[1] == ["none", "-", "+"]


def test_decimal_commas_where_semicolons_separate(write):
    table = read_table(write("a;b\n3,14;1\n-2,5;2\n"))
    np.testing.assert_array_equal(numbers_of(table, 0), [3.14, -2.5])
    np.testing.assert_array_equal(numbers_of(read_table(write('a,b\n"3,14",1\n"2,5",2\n')), 0), [3.14, 2.5])


def test_a_name_with_duckdbs_wildcards_is_a_name(write):
    write("a,b\n9,9\n", "dat1.csv")
    assert lists(read_table(write("a,b\n1,x\n2,y\n", "da[t1]*.csv"))) == [["1", "2"], ["x", "y"]]


def test_parquet(tmp_path):
    path = tmp_path / "people.parquet"
    duckdb.sql(
        "SELECT * FROM (VALUES (1, 0.1::FLOAT, ' x ', true, NULL), (2, 'nan'::FLOAT, '?', false, 7)) t(a, b, c, d, e)"
    ).write_parquet(str(path))
    table = read_table(path)
    assert table.names == list("abcde")
    assert lists(table) == [["1", "2"], ["0.1", None], ["x", None], ["true", "false"], [None, "7"]]
    assert table.where(1) == f"{path}, row 2"


def test_duckdb_and_the_plain_reader_agree(write):
    """The fast path is checked against its twin on files made of everything awkward."""
    chance = random.Random(0)
    pieces = [
        "",
        " ",
        "1",
        "-2.5",
        "x",
        "a b",
        '"q"',
        '"a,b"',
        '"a ""b"""',
        '"l\nm"',
        " y ",
        '5" pipe',
        "é",
        "#",
        "?",
        '" z "',
    ]
    fast = 0
    for k in range(120):
        width, end = chance.randint(2, 4), chance.choice(["\n", "\r\n"])
        rows = [chance.choices(pieces, k=width) for _ in range(chance.randint(1, 6))]
        path = write(end.join(",".join(row) for row in rows) + chance.choice(["", end]), f"{k}.csv")
        try:
            dialect = sniff(path)[0]
            plain = _plain(path, dialect)
        except DataError:
            continue  # cut otherwise than meant: a stray quote may swallow separators
        quick = _fast(path, dialect)
        if quick is not None:
            fast += 1
            assert [list(c) for c in quick] == [list(c) for c in plain], path.read_text()
    assert fast > 40


# ---- header --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([["age", "job"], ["39", "clerk"]], True),
        ([["39", "clerk"], ["50", "clerk"]], False),
        ([["M", "0.4"], ["F", "0.5"]], False),
        ([["name", "colour"], ["ann", "red"], ["bob", "red"]], True),
        ([["x", "p"], ["x", "e"], ["y", "p"]], False),  # text alone, and the first row's values come again
        ([["?", "a"], ["1", "b"], ["2", "b"]], True),
        ([["", "a"], ["0", "1"], ["1", "5"]], True),  # how pandas writes its index
    ],
)
def test_header_is_sniffed(rows, expected):
    assert looks_like_header(rows) is expected


def test_header_can_be_overruled(write):
    path = write("39,clerk\n50,cook\n")
    assert read_table(path).names == ["column1", "column2"]
    assert read_table(path, header=True).names == ["39", "clerk"]
    assert len(read_table(write("a,b\n1,2\n"), header=False)) == 2


# ---- columns by name or number ---------------------------------------------------------------------------------------------


def test_positions(write):
    table = read_table(write("age,job,2\n39,clerk,x\n"), header=True)
    assert [table.position(c) for c in ("age", "job", "1", "-1", 3, "2")] == [
        0,
        1,
        0,
        2,
        2,
        2,
    ]  # a name wins over a number


@pytest.mark.parametrize("wrong", ["income", "0", "4", "-4", "1.5", ""])
def test_wrong_column(write, wrong):
    with pytest.raises(OptionError, match="no such column; expected age, job, incomes, or a number from 1 to 3"):
        read_table(write("age,job,incomes\n39,clerk,1\n")).position(wrong)


def test_wrong_column_suggests_the_near_one(write):
    with pytest.raises(OptionError, match="Did you mean 'incomes'"):
        read_table(write("age,job,incomes\n39,clerk,1\n")).position("incmes")


# ---- damage --------------------------------------------------------------------------------------------------------------


def said(path, **options):
    with pytest.raises(DataError) as caught:
        table = read_table(path, **options)
        for i in range(len(table.names)):
            numbers_of(table, i)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    for word in ("Error", "duckdb", "read_csv", "numpy", "codec"):
        assert word not in message
    return message.removeprefix(str(path))


def test_missing_file(tmp_path, write):
    write("a,b\n1,2\n")
    assert said(tmp_path / "peple.csv") == ": no such file; expected a table file. Did you mean 'people.csv'?"


def test_empty_and_blank_files(write):
    assert "empty" in said(write(""))
    assert "only blanks" in said(write("\n \n\t\n"))
    assert "only blanks" in said(write("\ufeff\n"))


def test_a_directory(tmp_path):
    assert "a directory" in said(tmp_path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("row", "words"), [("3,4,5", "3 fields; expected 2"), ("3", "1 field; expected 2")])
def test_ragged_row(write, end, row, words):
    content = end.join(["a,b", "", "1,2", row, "5,6", ""])
    assert said(write(content)).startswith(f", line 4: {words}, as in the first row (separated by ',')")


def test_ragged_row_far_down(write):
    content = "a,b\n" + "1,2\n" * 5000 + "1,2,3\n" + "1,2\n" * 5000
    assert said(write(content)).startswith(", line 5002: 3 fields; expected 2")


def test_a_header_that_lacks_a_name(write):
    """As R writes it, above the names of rows: no title."""
    assert said(write("b,c\nanna,2,3\nkim,5,6\n")).startswith(", line 1: 2 fields, but the rows after it have 3")
    assert said(write("Sales of May\n1,2,3\n4,5,6\n")).startswith(", line 1: 1 field, but the rows after it have 3")


def test_a_quote_never_closed(write):
    assert said(write('a,b\n1,2\n3,"4\n5,6\n7,8\n')).startswith(", line 3: a quote is opened and never closed")
    assert "is a quote on that line opened" in said(write('a,b\n1,2\n3,"' + "4\n" * 70_000))


def test_nul_byte(write):
    assert said(write(b"a,b\n1,2\n3,\x004\n")).startswith(", line 3: a NUL byte")
    assert said(write(b"a,b\n" + b"1,2\n" * 400_000 + b"\x00,2\n")).startswith(", line 400002: a NUL byte")


def test_damaged_utf8(write):
    assert said(write(b"a,b\n1,caf\xc3")).startswith(", line 2: byte 0xc3")  # cut in the middle of a character
    message = said(write("a,b\n1,é\n2,ü\n".encode() + b"3,\xe9\n" + "4,ö\n".encode()))
    assert message.startswith(", line 4: byte 0xe9 is not UTF-8 ('é' in cp1252), where the rest of the text is")
    assert "--read encoding=cp1252" in message


def test_where_pieces_of_the_file_meet(write):
    start = b"a,b\n" + b"1,x\n" * ((1 << 18) - 2)  # the next byte but four is the first of the second piece
    assert len(start) == (1 << 20) - 4
    bad = b"1,x\n" + b"\xe9,2\n" + "é,2\n".encode() * 2
    assert said(write(start + bad)).startswith(f", line {1 << 18 | 1}: byte 0xe9")
    content = start + "1,é\n".encode() * 3  # a sound character cut by the border
    assert len(read_table(write(content))) == (1 << 18) + 1


@pytest.mark.parametrize("number", ["1e400", "-1e400", "inf", "-Infinity", "1e200"])
def test_number_beyond_range(write, number):
    message = said(write(f"a,b\n1,2\n\n3,{number}\n5,6\n"))
    assert message.startswith(f", line 4, column b: {number} is beyond the range of numbers; expected at most 1e+150")


def test_header_and_no_rows(write):
    assert said(write("age,job\n")).startswith(": a header and no rows")


def test_truncated_gzip(write):
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i * i, i) for i in range(5000)))
    assert "the gzip data is cut off or damaged" in said(write(whole[: len(whole) // 2], "people.csv.gz"))
    assert "the gzip data is cut off or damaged" in said(write(whole[:20] + b"xyz" + whole[23:], "people.csv.gz"))


def test_truncated_parquet(tmp_path):
    path = tmp_path / "people.parquet"
    duckdb.sql("SELECT range AS a, range AS b FROM range(1000)").write_parquet(str(path))
    path.write_bytes(path.read_bytes()[:-40])
    assert "not a whole Parquet file" in said(path)


def test_parquet_with_lists(tmp_path):
    path = tmp_path / "people.parquet"
    duckdb.sql("SELECT 1 AS a, [1, 2] AS b, {'x': 1} AS c").write_parquet(str(path))
    table = read_table(path)
    assert table.names == ["a"] and table.notes[0].startswith("columns: b, c hold lists or records, left out")
    duckdb.sql("SELECT [1, 2] AS b").write_parquet(str(path))
    assert "all of its columns hold lists" in said(path)


@pytest.mark.parametrize(
    ("content", "words"), [(b"PK\x03\x04aaaa", "Excel"), (b"\x89PNG\r\n\x1a\n", "a picture"), (b"%PDF-1.7\n", "PDF")]
)
def test_files_that_are_no_tables(write, content, words):
    assert words in said(write(content))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions bind neither root nor Windows so")
def test_no_permission(write):
    path = write("a,b\n1,2\n")
    path.chmod(0)
    assert "cannot be read" in said(path)
