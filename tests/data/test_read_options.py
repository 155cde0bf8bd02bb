"""`--read`: how a file is to be read, in one option."""

from __future__ import annotations

import dataclasses

import pytest

from pellucid.data.kinds import kind_named, preprocessor_from_json
from pellucid.data.load import load_problem, open_source
from pellucid.data.table.read_options import PARSERS, ReadOptions
from pellucid.errors import OptionError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("encoding=cp1252,delimiter=;,decimal=,,dates=dayfirst",
         {"encoding": "cp1252", "delimiter": ";", "decimal": ",", "dates": "dayfirst"}),
        ("decimal=,", {"decimal": ","}),
        ("delimiter=,,decimal=.", {"delimiter": ",", "decimal": "."}),
        ("delimiter=tab,thousands=none", {"delimiter": "\t", "thousands": ""}),
        ("delimiter=\t", {"delimiter": "\t"}),
        ("thousands= , decimal=comma", {"thousands": " ", "decimal": ","}),
        ("comment=//,header=3", {"comment": "//", "header": 3}),
        ("header=none,comment=no", {"comment": "", "header": 0}),
        ("missing=unknown,-999|n.d.,decimal=,", {"missing": "unknown,-999|n.d.", "decimal": ","}),
        ("sheet=Q1, 2020,Encoding=latin1", {"sheet": "Q1, 2020", "encoding": "iso8859-1"}),
    ],
)  # fmt: skip
def test_parsed(text, expected):
    options = ReadOptions.parse(text)
    assert {name: value for name, value in dataclasses.asdict(options).items() if value is not None} == expected
    assert ReadOptions.parse(str(options)) == options


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("decmal=,", "'decmal' is no part of .*expected encoding, .*Did you mean 'decimal'"),
        ("", "is no part of how a file is read; expected encoding, "),
        ("delimiter=,decimal=.", "delimiter: no value; expected one character, .*two: --read delimiter=,,"),
        ("sheet=", "sheet: no value; expected the name of a sheet.*write --read sheet=Sheet2$"),
        ("decimal", "decimal: no value; expected a comma or a point; write --read decimal=,"),
        ("dates=day", "'day'; expected dayfirst or monthfirst; write --read dates=dayfirst"),
        ("encoding=utf99", "'utf99'; expected the name of an encoding; write --read encoding=cp1252"),
        ("encoding=base64", "'base64'; expected the name of an encoding"),
        ("header=-1", "'-1'; expected the line .*write --read header=3"),
        ("comment=ab", "'ab'; expected the one to three signs"),
        ("delimiter=ab", "'ab'; expected one character"),
        ("decimal=,,thousands=,", "',' is both decimal and thousands; expected two signs; change one"),
        ("missing=|", "missing=|: '|'; expected words or numbers that stand for a missing value.*unknown|-999"),
        ("header=1,header=2", "header comes twice; expected each once; leave one out"),
    ],
)
def test_refused(text, words):
    with pytest.raises(OptionError, match="^--read .*" + words):
        ReadOptions.parse(text)


def test_every_field_can_be_written():
    assert [field.name for field in dataclasses.fields(ReadOptions)] == list(PARSERS)


def test_new_files_are_read_as_those_of_training_were(tmp_path):
    rows = "".join(f'"{i % 7},5" {i % 3}\n' for i in range(60))
    (tmp_path / "a.csv").write_text(f"x y\n{rows}")
    data = load_problem(str(tmp_path / "a.csv"), target="y", read="delimiter=space,decimal=,")
    assert [column.name for column in data.preprocessor.numbers] == ["x"]
    preprocessor = preprocessor_from_json(data.preprocessor.to_json())
    assert preprocessor.read_options == ReadOptions(delimiter=" ", decimal=",")
    (tmp_path / "new.csv").write_text('x\n"3,5"\n')
    kind = kind_named("table")
    new = kind.read_new(preprocessor, [open_source(str(tmp_path / "new.csv"), kind)])
    assert new.table.parsed(0)[0].tolist() == [3.5]
