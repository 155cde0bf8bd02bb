"""Tables in the files that people have: encodings, archives, workbooks, JSON, comments and titles, and what is no table."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import re
import zipfile

import numpy as np
import pytest

from pellucid.data.load import load_problem, open_source
from pellucid.data.table.read import read_table
from pellucid.data.table.read_options import ReadOptions
from pellucid.errors import DataError, OptionError

ROWS = "Größe m²;Ort;Miete €\n138,28;München;546,61\n75,86;Zürich;269,37\n12,5;Köln – Süd;1,5\n"
PLAIN = "a,b\n1,x\n2,y\n"


def same(table):
    return table.names == ["a", "b"] and [c.tolist() for c in table.columns] == [["1", "2"], ["x", "y"]]


def read(path, options=None):
    return read_table(path, options=ReadOptions.parse(options))


def refused(path, options=None, kind=DataError):
    with pytest.raises(kind) as caught:
        read(path, options)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and "tmp" not in message.replace(str(path), "")
    return message


# ---- encodings -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_same_table_in_many_encodings(write, encoding, end):
    table = read(write(ROWS.replace("\n", end).encode(encoding)))
    assert table.names == ["Größe m²", "Ort", "Miete €"] and table.decimal_comma
    assert table.columns[1].tolist() == ["München", "Zürich", "Köln – Süd"]
    assert table.where(2).endswith("people.csv, line 4")
    told = [note for note in table.notes if note.startswith("file: read as")]
    assert bool(told) is ("utf-8" not in encoding) and all("--read encoding=NAME" in note for note in told)


def test_latin1_where_cp1252_has_no_character(write):
    table = read(write("a,b\n1,caf\xe9\n2,x\x81\n".encode("latin-1")))
    assert table.columns[1].tolist() == ["café", "x\x81"] and "Latin-1" in table.notes[0]


@pytest.mark.parametrize(("encoding", "word"), [("cp1251", "Москва"), ("gb18030", "北京城市"), ("shift_jis", "東京都千代田"), ("mac_roman", "Zürich, Zug")])  # fmt: skip
def test_no_western_alphabet_is_not_taken_for_one(write, encoding, word):
    path = write(f"a;b\n1;x\n2;{word}\n".encode(encoding))
    message = refused(path)
    assert "line 3: byte" in message and "no Western alphabet" in message and "--read encoding=cp1251" in message
    assert read(path, f"encoding={encoding}").columns[1].tolist() == ["x", word]


def test_pounds_are_western(write):
    assert read(write("a,b\n1,£££\n2,££\n".encode("cp1252"))).columns[1].tolist() == ["£££", "££"]


def test_an_encoding_that_does_not_fit(write):
    path = write("a,b\n1,é\n".encode("cp1252"))
    assert "which --read encoding names" in refused(path, "encoding=utf-8")
    assert "not all" in refused(write(b"a,b\n1,\x81\n"), "encoding=cp1252")


# ---- comments and titles -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("# by a tool\n# units: EUR\n" + PLAIN, "2 comment lines skipped"),
        ("# by a tool, in May\n" + PLAIN, "1 comment line skipped"),
        ("% by a tool\n" + PLAIN, "1 comment line"),
        ("// by a tool\r\n" + PLAIN.replace("\n", "\r\n"), "1 comment line"),
        ("a,b\n1,x\n# and then\n2,y\n#end, really, of it\n", "2 comment lines skipped, line 3 first ('# and then')"),
        ("Sales of May\n\n" + PLAIN, "1 line above the header skipped, 'Sales of May' first (--read header=1"),
        ("Sales of May\nby region and city\nat noon\n" + PLAIN, "3 lines above the header"),
        ("# tool\nSales\n" + PLAIN, "1 line above the header"),
        ("\ufeff# by a tool\n" + PLAIN, "1 comment line"),
    ],
)
def test_lines_that_are_no_rows(write, content, word):
    table = read(write(content))
    assert same(table)
    assert any(word in note for note in table.notes), table.notes
    last = content.count("\n", 0, content.index("2,y")) + 1
    assert table.where(1).endswith(f", line {last}")
    assert same(read(write(gzip.compress(content.encode()), "people.csv.gz")))
    assert same(read(write(content.encode("utf-16"))))


def test_padded_titles_as_excel_writes_them(write):
    table = read(write("Sales of May,,\n,,\nname,city,n\nann,Rome,1\nbob,Oslo,2\n"))
    assert table.names == ["name", "city", "n"] and len(table) == 2


@pytest.mark.parametrize(
    ("content", "names", "rows"),
    [
        ("colour,n\n#ff0000,1\n#00ff00,2\n", ["colour", "n"], 2),  # data that begin so
        ("#id,label\nx,A\ny,A\n", ["#id", "label"], 2),  # a header that does
        ('text,n\n"first\n# second",1\nz,2\n', ["text", "n"], 2),  # inside quotes
        ("#ff0000,1\n#00ff00,2\n", ["column1", "column2"], 2),
        ("# x,y\n1,2\n3,4\n", ["# x", "y"], 2),
    ],
)
def test_rows_that_look_like_comments(write, content, names, rows):
    table = read(write(content))
    assert (table.names, len(table), table.notes) == (names, rows, [])


def test_comments_and_header_by_option(write):
    path = write("> by a tool\n>a,b\na,b\n1,x\n2,y\n")
    assert same(read(path, "comment=>"))
    assert same(read(path, "header=3"))
    assert read(write("# 1,x\n2,y\n"), "comment=none,header=none").columns[0].tolist() == ["# 1", "2"]
    assert "line 9 of" in refused(path, "header=9", OptionError)
    assert read(write("1,x\n2,y\n"), "header=1").names == ["1", "x"]
    assert read(write(PLAIN), "header=none").names == ["column1", "column2"]


def test_a_named_separator(write):
    assert same(read(write(PLAIN.replace(",", "~")), "delimiter=~"))
    assert same(read(write(PLAIN.replace(",", " ")), "delimiter=space"))


# ---- archives ------------------------------------------------------------------------------------------------------------


def zipped(files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_a_table_in_a_zip_archive(write):
    path = write(
        zipped({"in/people.csv": "# x\n" + PLAIN, "__MACOSX/._people.csv": "x", "readme.txt": "hello"}), "p.zip"
    )
    table = read(path)
    assert same(table) and table.path == path and table.where(1).endswith("p.zip, line 4")
    assert table.notes[0] == "file: in/people.csv read from p.zip; 1 other file left (--read sheet=NAME)"


def test_errors_name_the_member(write):
    path = write(zipped({"people.csv": "a,b\n1,2\n3\n"}), "p.zip")
    assert refused(path).startswith(f"{path}/people.csv, line 3: 1 field; expected 2")


def test_several_tables_in_a_zip_archive(write):
    path = write(zipped({"x.csv": PLAIN, "y.csv": "c,d\n1,2\n"}), "p.zip")
    assert "an archive of 2 files (x.csv, y.csv); expected one table; name it: --read sheet=x.csv" in refused(path)
    assert read(path, "sheet=y.csv").names == ["c", "d"]
    assert "Did you mean 'y.csv'" in refused(path, "sheet=yy.csv", OptionError)


def test_a_zip_archive_as_data(write):
    rows = "".join(f"{i % 7},{'uv'[i % 2]}\n" for i in range(60))
    path = write(zipped({"x.csv": "a,y\n" + rows}), "p.zip")
    data = load_problem(str(path), target="y")
    assert data.kind == "table" and data.preprocessor.classes == ["u", "v"]


# ---- JSON ----------------------------------------------------------------------------------------------------------------

RECORDS = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(RECORDS),
        json.dumps(RECORDS, indent=2),
        "\n".join(map(json.dumps, RECORDS)),
        "\r\n".join(map(json.dumps, RECORDS)) + "\r\n\r\n",
        json.dumps({"a": [1, 2], "b": ["x", "y"]}),
        json.dumps({"a": {"0": 1, "1": 2}, "b": {"0": "x", "1": "y"}}),
        json.dumps({"0": RECORDS[0], "1": RECORDS[1]}),
        json.dumps({"columns": ["a", "b"], "index": [0, 1], "data": [[1, "x"], [2, "y"]]}),
        json.dumps({"count": 2, "results": RECORDS}),
        json.dumps([["a", "b"], [1, "x"], [2, "y"]]),
    ],
)
def test_forms_of_json(write, content):
    assert same(read(write(content, "people.json")))
    assert same(read(write(gzip.compress(content.encode()), "people.json.gz")))
    assert same(read(write(content.encode("utf-16"), "people.json")))
    if content.lstrip().startswith(("{", '[{"', "[\n")):
        assert same(read(write(content, "people.csv")))  # whatever it is called


def test_records_in_records(write):
    records = [
        {"id": k, "at": {"city": "Rome", "geo": {"x": 1}}, "tags": ["u"], "ok": True, "n": None} for k in range(3)
    ]
    del records[1]["at"]
    table = read(write(json.dumps(records), "people.json"))
    assert table.names == ["id", "at.city", "ok", "n"]
    assert table.row(1) == {"id": "1", "at.city": "", "ok": "true", "n": ""}
    assert table.notes == ["columns: at.geo, tags hold lists or records, left out; take them apart to use them"]
    assert table.where(1).endswith("people.json, row 2")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1}\n{"a": 2\n{"a": 3}\n', "line 2: '{\"a\": 2' is no whole JSON record"),
        ('[{"a": 1},\n {"a": 2', "line 2: no JSON from character"),
        ("[]", "an empty list"),
        ("[1, 2]", "record 1: '1'; expected a record"),
        ("[[1, 2], [3]]", "record 2: 1 values; expected 2"),
        ("[" * 100_000, "nested too deep"),
        ('{"a": {"b": 1}, "c": [1]}', "a JSON object with 'a', 'c' in it"),
    ],
)
def test_json_that_is_no_table(write, content, words):
    assert words in refused(write(content, "people.json"))


# ---- workbooks -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def book(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")

    def book(**sheets):
        workbook = openpyxl.Workbook()
        workbook.remove(workbook.active)
        for name, rows in sheets.items():
            sheet = workbook.create_sheet(name)
            for row in rows:
                sheet.append(row)
        workbook.save(tmp_path / "book.xlsx")
        return tmp_path / "book.xlsx"

    return book


def test_a_workbook(book):
    day = datetime.datetime(2021, 3, 15)
    path = book(
        About=[["made by a tool"]],
        Data=[["name", "n", "x", "ok", "day"], ["ann", 1, 1.5, True, day], [], ["bob", 2, None, False, day]],
        Other=[["a"], [1]],
    )
    table = read(path)
    assert table.names == ["name", "n", "x", "ok", "day"]
    assert table.row(0) == {"name": "ann", "n": "1", "x": "1.5", "ok": "TRUE", "day": "2021-03-15"}
    assert table.row(1)["x"] == "" and table.where(1).endswith("book.xlsx, row 4")
    assert table.notes == ["file: sheet 'Data' read; others: About, Other (--read sheet=NAME)"]
    assert read(path, "sheet=Other").names == read(path, "sheet=3").names == ["a"]
    assert "Did you mean 'Other'" in refused(path, "sheet=Othr", OptionError)


def test_titles_and_blank_edges_of_a_sheet(book):
    path = book(Data=[[], [None, "Sales of May"], [], [None, "a", "b"], [None, 1, "x"], [None, 2, "y"]])
    table = read(path)
    assert same(table) and "1 row above the header skipped (--read header=2 keeps them)" in table.notes[0]
    assert table.where(1).endswith("row 6") and same(read(path, "header=4"))


def test_times_keep_midnight_where_others_have_none(book):
    start = datetime.datetime(2021, 3, 15)
    table = read(book(Data=[["t", "n"], *([start + datetime.timedelta(hours=k), k] for k in range(3))]))
    assert table.columns[0].tolist()[:2] == ["2021-03-15 00:00:00", "2021-03-15 01:00:00"]


def test_workbooks_that_are_none(write, book):
    assert "not a whole workbook" in refused(write(zipped({"xl/workbook.xml": "x"}), "book.xlsx"))
    assert "a Word document" in refused(write(zipped({"word/document.xml": "x"}), "book.docx"))
    assert "not a whole workbook" in refused(write(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "book.xls"))
    assert "no sheet with rows" in refused(book(Data=[]))


# ---- what is no table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>", r"a web page \('Sign in'\).*save the table in the page as CSV"),
        (b"\xef\xbb\xbf\n <HTML>\n<table></table></HTML>", "a web page, as comes"),
        (b'<?xml version="1.0"?><rows/>', "XML; expected .*export its table as CSV"),
        (b"GIF89a\x00\x00", "a picture"), (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "a picture"), (b"RIFF\x00\x00\x00\x00WAVEfmt ", "a sound"),
        (b"BM\x36\x00\x00\x00", "a picture"), (b"BZh91AY&SY", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"Rar!\x1a\x07", "rar"), (b"\x80\x04\x95\x00\x00", "Python pickle"), (b"\x89HDF\r\n\x1a\n", "HDF5"), (b"ARROW1\x00\x00", "Arrow"),
        (b"version https://git-lfs.github.com/spec/v1\noid x\n", "git lfs pull"), (b"{\\rtf1 a}", "rich text"),
        (b"SQLite format 3\x00", "SQLite"), (b"x" * 257 + b"ustar\x00", "a tar archive"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_named(write, content, words):
    assert re.search(words, refused(write(content)))


@pytest.mark.parametrize("head", ["BMI,y", "ORCID,y", "ID3,y", "RDA,y"])
def test_names_that_begin_as_other_files_do(write, head):
    assert read(write(f"{head}\n1,x\n2,y\n")).names == head.split(",")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("https://example.org/people.csv?x=1", "curl -L -o people.csv 'https://example.org/people.csv"),
        ("https://github.com/a/b/blob/main/d/x.csv", "'https://raw.githubusercontent.com/a/b/main/d/x.csv'"),
        ("s3://bucket/people.csv", "copy it with that store's own program; then name people.csv"),
        ("file:///data/people.csv", "write /data/people.csv"),
    ],
)
def test_an_address_is_answered_with_what_to_do(address, words):
    for reader in (load_problem, lambda spec: open_source(spec, None)):
        with pytest.raises(DataError, match=re.escape(words)):
            reader(address)


def test_every_note_is_a_short_line(write, book):
    notes = read(
        write(
            "# a comment of a tool that says very much about everything\nTitle\n" + ROWS.replace("\n", "\r\n"), "a" * 60
        )
    ).notes
    notes += read(write(ROWS.encode("utf-16-le"))).notes
    assert notes and all(len(note) <= 118 and note.split(":")[0] in ("file", "columns") for note in notes), notes


def test_the_large_and_clean_is_read_where_it_stands(write, monkeypatch):
    """No copy is made of a file in UTF-8 without comments."""
    monkeypatch.setattr("tempfile.TemporaryDirectory", None)
    assert same(read(write(PLAIN))) and np.array_equal(read(write(PLAIN)).columns[0], ["1", "2"])
