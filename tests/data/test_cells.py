"""Cells as people write them: numbers, dates and labels read by the whole column, and told."""

from __future__ import annotations

import csv
import datetime
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.kinds import preprocessor_from_json
from pellucid.data.load import load_problem
from pellucid.data.table import dates
from pellucid.data.table.infer import clean_target, fit, sentinels_of
from pellucid.data.table.labels import merge_labels
from pellucid.data.table.number_format import NumberFormat, ReadNumbers, read_column, read_number, split_cell
from pellucid.data.table.read import read_table
from pellucid.data.table.read_options import ReadOptions
from pellucid.errors import DataError, OptionError


def column(*texts):
    return np.array(texts, dtype=object)


def numbers(*texts, others=None, commas=False) -> ReadNumbers | None:
    return read_column(column(*texts), lambda: others, commas)


@pytest.fixture
def table(tmp_path):
    def make(columns: dict[str, list[str]], options: ReadOptions | None = None, name="cells.csv"):
        with open(tmp_path / name, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        return replace(read_table(tmp_path / name), options=options or ReadOptions())

    return make


def fitted(table, target="y", task="regression"):
    return fit(table, np.arange(len(table)), table.position(target), task, [], None)


# ---- numbers: one cell -------------------------------------------------------------------------------------------------


def grouped(digits: str, sign: str) -> str:
    head = len(digits) % 3 or 3
    return sign.join([digits[:head], *(digits[i : i + 3] for i in range(head, len(digits), 3))])


FORMS = {  # how a plain number is written
    "$1,234.00": (",", ".", "${}"),
    "1.234,50 €": (".", ",", "{} €"),
    "€ 52,84": ("", ",", "€ {}"),
    "1 234.5": (" ", ".", "{}"),
    "1'234.5": ("'", ".", "{}"),
    "1\u202f234,5": ("\u202f", ",", "{}"),
    "0.3%": ("", ".", "{}%"),
    "138.3 kg": (",", ".", "{} kg"),
    "22 °C": ("", ",", "{} °C"),
    "CHF 1'200": ("’", ".", "CHF {}"),
}  # fmt: skip


@given(st.decimals(-(10**9), 10**9, places=2, allow_nan=False), st.sampled_from(sorted(FORMS)), st.sampled_from("-(−+"))
@settings(max_examples=400, deadline=None)
def test_a_number_written_in_a_form_is_read_back(number, form, minus):
    thousands, decimal, frame = FORMS[form]
    whole, _, fraction = f"{abs(number):.2f}".partition(".")
    body = frame.format(grouped(whole, thousands) + decimal + fraction)
    negative = number < 0 and minus != "+"
    cell = (f"({body})" if minus == "(" else minus + body) if number < 0 else body
    unit = split_cell(body).unit
    expected = float(f"{'-' if negative else ''}{whole}.{fraction}")
    assert read_number(cell, NumberFormat(decimal, unit)) == expected


@given(
    st.integers(1, 999_999), st.sampled_from([("k", 3), ("M", 6), ("bn", 9), (" million", 6), (" Mio. €", 6), ("B", 9)])
)
@settings(max_examples=100, deadline=None)
def test_words_for_powers_of_ten_are_exact(number, word):
    text, power = word
    cell = f"{number // 10}.{number % 10}{text}"
    assert read_number(cell, NumberFormat(unit="€" if "€" in text else "")) == float(f"{number}e{power - 1}")


@given(st.floats(allow_nan=False, allow_infinity=False))
@settings(deadline=None)
def test_plain_numbers_are_read_as_python_reads_them(number):
    assert read_number(repr(number), NumberFormat()) == number


@pytest.mark.parametrize(
    "text", ["1,234,56", "12/2", "3 - high", "<0.1", "3+", "10.0.0.1", "52.123,13.456", "2021Q1", "08:15", "11.09.2019", "x1", "1-2",
             "-(3)", "(-3)-", "1_000", "007 123 456", "20 Feb 2021", ""]
)  # fmt: skip
def test_what_is_no_number(text):
    assert read_number(text, NumberFormat()) is None and read_number(text, NumberFormat(",")) is None


# ---- numbers: a column -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (("1,234", "12,500.5", "7"), (1234, 12500.5, 7)),
        (("1,234", "1,5", "7"), (1.234, 1.5, 7)),
        (("1.234", "12.500,5", "7"), (1234, 12500.5, 7)),
        (("1.234.567", "1.234", "567"), (1234567, 1234, 567)),
        (("1,234", "567", "89", "912"), (1234, 567, 89, 912)),
        (("1.234", "567", "89", "912"), (1234, 567, 89, 912)),  # whole numbers under 1,000 alone beside it
        (("1.234", "1567", "89", "912"), (1.234, 1567, 89, 912)),
        (("1.234", "2.500", "0.5"), (1.234, 2.5, 0.5)),
        (("0,123", "1,234"), (0.123, 1.234)),
        (("300", "(300)", "300-", "-300", "+300"), (300, -300, -300, -300, 300)),
        (("3.2k", "1.5M", "2bn", "950"), (3200, 1.5e6, 2e9, 950)),
        (("5 m", "12 m", "7m"), (5, 12, 7)),  # metres
        (("$5m", "$1.5bn"), (5e6, 1.5e9)),
        (("5k", "2m", "3k"), (5e3, 2e6, 3e3)),
        (("1 year", "2 years", "3 Years"), (1, 2, 3)),
        (("12%", "0", "8%"), (12, 0, 8)),
        (("12,34,567", "1,00,000.50"), (1234567, 100000.5)),
    ],
)
def test_columns_of_numbers(texts, values):
    found = numbers(*texts)
    assert found is not None and not len(found.strays) and not found.doubtful
    np.testing.assert_array_equal(found.values, values)


def test_units_that_a_column_does_not_share_are_no_numbers():
    assert numbers("5 kg", "500 g", "3 lb", "1 t") is None
    found = numbers("5 kg", "6 kg", "500 g")
    assert found.strays.tolist() == [2]  # and not 500 kg
    assert numbers("12%", "8%", "0.12").strays.tolist() == [2]  # 12 or 0.12?
    assert numbers("$5", "$6", "€7").strays.tolist() == [2]
    assert numbers("5 MW", "3 MW", "7 mW").strays.tolist() == [2]


def test_an_open_column_is_read_as_the_file_says_and_told_otherwise():
    assert numbers("1,234", "2,345").values.tolist() == [1234, 2345] and numbers("1,234", "2,345").doubtful
    found = numbers("1,234", "2,345", others=",")
    assert found.values.tolist() == [1.234, 2.345] and not found.doubtful
    found = numbers("1,234", "2,345", commas=True)  # where semicolons separate
    assert found.values.tolist() == [1.234, 2.345] and found.doubtful
    assert numbers("1.234", "2.345", "0").values.tolist() == [1.234, 2.345, 0]
    assert numbers("1.234", "2.345", others=",").values.tolist() == [1234, 2345]


def test_one_column_decides_for_another_and_the_user_for_both(table):
    german = {"a": ["1.234", "2.345"], "b": ["1,5", "2,5"]}
    assert table(german).parsed(0)[0].tolist() == [1234, 2345]
    assert table(german, ReadOptions(decimal=".")).parsed(0)[0].tolist() == [1.234, 2.345]
    assert table(german, ReadOptions(exact="b")).parsed(1) is None
    open_ones = {"a": ["1,234", "2,345"]}
    assert table(open_ones, ReadOptions(decimal=",")).parsed(0)[0].tolist() == [1.234, 2.345]
    assert table(open_ones, ReadOptions(thousands=".")).parsed(0)[0].tolist() == [1.234, 2.345]


def test_exact_names_columns_that_there_are(table):
    with pytest.raises(OptionError, match=r"--read exact=b\|pric: .* has no column 'pric'; .* Did you mean 'price'"):
        fitted(table({"price": ["1", "2"], "b": ["1", "2"], "y": ["1", "2"]}, ReadOptions(exact="b|pric")))


def test_evidence_at_the_end_of_a_long_column_counts():
    texts = [f"{i},{i % 900 + 100}" for i in range(1, 990)] * 30 + [f"{i}.{i % 1000:03},5" for i in range(1, 900)]
    assert numbers(*texts).values[0] == 1.101
    assert numbers(*texts).format.decimal == ","


WRITTEN = {
    "price": ("${:,.2f}", "{:.2f}"),
    "euro": ("{:_.2f} €", "{:.2f}"),  # 1.234,50 €
    "share": ("{:.1f}%", "{:.1f}"),
    "weight": ("{:.1f} kg", "{:.1f}"),
    "spaced": ("{:,.0f}", "{:.0f}"),  # with narrow blanks
}


def written(rng, plainly: bool):
    made = {}
    for name, (frame, plain) in WRITTEN.items():
        values = np.exp(rng.normal(8, 2, 80)) * (-1 if name == "share" else 1)
        texts = [(plain if plainly else frame).format(v) for v in values]
        if not plainly and name == "euro":
            texts = [text.replace(".", ",").replace("_", ".") for text in texts]
        if not plainly and name == "spaced":
            texts = [text.replace(",", "\u202f") for text in texts]
        if not plainly and name == "share":
            texts = [f"({text[1:]})" for text in texts]
        made[name] = texts
    return made


@pytest.mark.parametrize("target", ["price", "euro"])
def test_the_same_column_written_plainly_gives_the_same_numbers(table, target):
    encoded = []
    for plainly in (False, True):
        raw = table(written(np.random.default_rng(0), plainly))
        known, notes = fitted(raw, target)
        encoded.append((known.encode(raw)["numbers"], known.encode_target(raw), known.mean, known.std))
        assert any(note.startswith("numbers: ") for note in notes) is not plainly
    for one, other in zip(*encoded, strict=True):
        np.testing.assert_array_equal(one, other)


def test_new_rows_are_read_as_those_of_training(table):
    raw = table({"x": ["1.234,50 €", "2,00 €", "3.000,25 €"] * 10, "y": ["1,5 kg", "2,5 kg", "4,5 kg"] * 10})
    known, _ = fitted(raw)
    known = preprocessor_from_json(json.loads(json.dumps(known.to_json())))
    one = known.encode(raw)["numbers"][0]
    np.testing.assert_array_equal(known.encode(table({"x": ["1.234,50"]}))["numbers"][0], one)
    np.testing.assert_array_equal(known.encode(table({"x": ["1.234,5 €"], "y": ["1,5"]}))["numbers"][0], one)
    # alone it would be 1.234; and a file that is written otherwise throughout is read as it says
    assert known.numbers[0].format == NumberFormat(",", "€")
    np.testing.assert_array_equal(
        known.encode(table({"x": ["1.234"]}))["numbers"], known.encode(table({"x": ["1234 €"]}))["numbers"]
    )
    np.testing.assert_array_equal(known.encode(table({"x": ["€1,234.50", "€2.00"]}))["numbers"][0], one)
    assert known.unseen_values(table({"x": ["€1,234.50", "€2.00"]})) == [
        "numbers: written otherwise than in training, x: '€1,234.50' is 1234.5"
    ]
    with pytest.raises(DataError, match=r"'\$1,234.50' is not a number; expected one in € and with a decimal comma"):
        known.encode(table({"x": ["$1,234.50", "$2.00"]}))
    np.testing.assert_array_equal(known.encode_target(table({"x": ["1"], "y": ["2,5"]})), known.encode_target(raw)[1:2])


def test_plain_training_reads_plain_new_rows_as_before(table):
    raw = table({"x": ["1.5", "2.25", "3"] * 10, "y": ["1", "2", "3"] * 10})
    known, _ = fitted(raw)
    new = known.encode(table({"x": ["1.234", "567", "89", "912"]}))["numbers"]
    np.testing.assert_array_equal(new[:1], known.encode(table({"x": ["1.2340"]}))["numbers"])


# ---- gaps --------------------------------------------------------------------------------------------------------------


def test_words_for_gaps_among_numbers_are_gaps_however_many(table):
    raw = table({"x": [str(i * 1.5) if i % 4 else "not given" for i in range(80)], "y": [str(i) for i in range(80)]})
    known, notes = fitted(raw)
    assert known.input_names() == ["x", "x is missing"]
    assert known.encode(raw)["numbers"][:5, 1].tolist() == [1, 0, 0, 0, 1]
    assert "numbers: gaps, x: 'not given' in 20 rows; --read exact=NAME for text" in notes
    few = table({"x": [str(i % 4) if i % 4 else "unknown" for i in range(80)], "y": [str(i) for i in range(80)]})
    assert fitted(few)[0].input_names() == ["x", "x is missing"]  # a word that says so, even among few numbers
    classes = table({"x": [str(i % 4) if i % 4 else "male" for i in range(80)], "y": [str(i) for i in range(80)]})
    assert fitted(classes)[0].categories  # any other word is a category among few numbers
    exact = replace(raw, options=ReadOptions(exact="x"), _numbers={})
    assert (
        "x"
        not in fitted(table({"x": raw.columns[0], "z": raw.columns[1], "y": raw.columns[1]}, exact.options))[0].needed
    )


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1.5, 2, 3.5, 4] * 5 + [-999.0] * 3, [-999]),
        ([1.5, 2, 3.5, 4] * 5 + [-999.0] * 3 + [9999.0] * 3, [-999, 9999]),
        ([-50, 20, 30, 41.5] * 5 + [-999.0] * 3, [-999]),
        ([5, 900, 3000, 5000] * 5 + [-999.0] * 3, [-999]),  # the only ones below zero
        ([-5, 900, 3000, 5000] * 5 + [-999.0] * 3, []),
        ([1, 2, 3, 4, 5] * 5 + [99.0] * 3, [99]),
        ([20, 30, 41, 90] * 5 + [99.0] * 3, []),
        ([0, 5013, 41310, 27828] * 5 + [99999.0] * 9, []),  # the most that could be written down
        ([1.5, 2, 3.5, 4] * 5 + [-999.0], []),  # once: a mistake, or not
        ([np.nan] * 4, []),
    ],
)
def test_sentinels(values, found):
    assert sentinels_of(np.array(values)) == found


def test_sentinels_are_gaps_in_new_rows_too(table):
    cells = {"x": ["1.5", "2", "3.5", "4"] * 5 + ["-999"] * 3, "y": [str(i) for i in range(23)]}
    raw = table(cells)
    known, notes = fitted(raw)
    assert "numbers: gaps, far from all others, x: -999 in 3 rows; --read exact=NAME for numbers" in notes
    new = known.encode(table({"x": ["-999", ""], "y": ["1", "1"]}))["numbers"]
    np.testing.assert_array_equal(new[0], new[1])
    kept, _ = fitted(table(cells, ReadOptions(exact="x")))
    assert kept.input_names() == ["x"]


def test_words_in_a_target_of_numbers_leave_their_rows_out(table):
    raw = table(
        {
            "x": [str(i) for i in range(60)],
            "y": [f"${i}.50" if i % 6 else ("-", "unknown")[i % 12 == 0] for i in range(60)],
        }
    )
    notes: list[str] = []
    kept, _ = clean_target(raw, 1, None, None, notes)
    assert len(kept) == 50 and notes == ["rows: left out, y is 'unknown', '-': 10; --read exact=y for text"]
    known, _ = fitted(kept)
    assert np.isfinite(known.encode_target(kept)).all() and np.isfinite(known.mean)
    classes = table({"x": [str(i) for i in range(60)], "y": [("0", "1", "none")[i % 3] for i in range(60)]})
    assert len(clean_target(classes, 1, None, None, [])[0]) == 60  # a class called none


def test_gaps_in_the_target_of_a_table_to_test_on_leave_their_rows_out(tmp_path):
    rows = [f"{i},{i * i % 97}.5\n" for i in range(60)]
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(rows))
    (tmp_path / "b.csv").write_text("x,y\n" + "".join(rows[:20]) + "3,-\n4,unknown\n")
    data = load_problem(str(tmp_path / "a.csv"), target="y", test_data=str(tmp_path / "b.csv"))
    assert len(data.test) == 20 and any(
        note.startswith("rows: left out, y is '-', 'unknown': 2") for note in data.notes
    )


# ---- dates -------------------------------------------------------------------------------------------------------------

DATE_FORMS = [
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%d/%m/%Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%Y%m%d",
    "%d-%b-%y",
    "%a, %d %b %Y",
    "%Y/%m/%d",
]
TIME_FORMS = ["%H:%M:%S", "%I:%M:%S %p"]


@given(st.datetimes(datetime.datetime(1970, 1, 1), datetime.datetime(2060, 1, 1)), st.sampled_from(DATE_FORMS),
       st.sampled_from(TIME_FORMS), st.sampled_from([" ", ", ", "T"]), st.sampled_from(["", "Z", "+01:00", "-0530", " UTC"]))  # fmt: skip
@settings(max_examples=400, deadline=None)
def test_a_moment_written_in_a_form_is_read_back(moment, day, time, between, zone):
    moment = moment.replace(microsecond=0)
    between = between if day.startswith("%Y") or between != "T" else " "
    text = moment.strftime(day) + between + moment.strftime(time) + zone
    found = dates.read_date(text, True)
    days = (moment - datetime.datetime(1970, 1, 1)) / datetime.timedelta(days=1)
    assert found is not None and round(found[0] * 86400) == round(days * 86400)
    assert found[1] * 24 == {"+01:00": 1, "-0530": -5.5}.get(zone, 0)
    assert dates.read_date(moment.strftime(day), True) == (np.floor(days), 0)


@pytest.mark.parametrize(
    ("text", "day"),
    [("2021-03", "2021-03-01"), ("2021Q1", "2021-01-01"), ("Q3 2021", "2021-07-01"), ("Mar 2021", "2021-03-01"), ("Mar-21", "2021-03-01"),
     ("2021-W05", "2021-02-01"), ("März 2021", "2021-03-01"), ("20. Dez. 2021", "2021-12-20"), ("05/2021", "2021-05-01"),
     ("1/2/99", "1999-02-01"), ("Saturday, February 20, 2021", "2021-02-20")],
)  # fmt: skip
def test_months_quarters_and_names(text, day):
    assert dates.read_date(text, True) == (float(np.datetime64(day).astype(int)), 0)


@pytest.mark.parametrize(
    "text",
    [
        "30.02.2020",
        "2021-02-30",
        "May 21",
        "12 May",
        "2020",
        "10.5",
        "9999-12-31",
        "0001-01-01",
        "hello",
        "1-2",
        "99.99.9999",
        "4711-12",
    ],
)
def test_what_is_no_date(text):
    assert dates.read_date(text, True) is None


@pytest.mark.parametrize(
    ("texts", "order"),
    [
        (("03/04/2021", "13/04/2021"), ("dayfirst", False)),
        (("03/04/2021", "04/13/2021"), ("monthfirst", False)),
        (("03/04/2021", "05/06/2021"), ("monthfirst", True)),
        (("03.04.2021", "05.06.2021"), ("dayfirst", False)),
        (
            ("01/10/2021", "02/10/2021", "03/10/2021", "04/10/2021", "01/11/2021"),
            ("dayfirst", False),
        ),  # ascending so alone
        (("2021-03-04",), (None, False)),
    ],
)
def test_the_order_of_day_and_month(texts, order):
    assert dates.date_order(texts) == order


def days(*texts):
    return np.array([np.datetime64(text) for text in texts], "datetime64[s]").astype(float) / 86400


def test_dates_are_taken_apart_as_far_as_they_vary(table):
    stamps = [datetime.datetime(2019, 1, 1, 6) + datetime.timedelta(hours=31 * i) for i in range(600)]
    raw = table({"at": [f"{at:%d.%m.%Y %H:%M}" for at in stamps], "y": [str(i) for i in range(600)]})
    known, notes = fitted(raw)
    assert [name.removeprefix("at: ") for name in known.input_names()] == [
        "days", "year", "month (sine)", "month (cosine)", "weekday (sine)", "weekday (cosine)", "hour (sine)", "hour (cosine)",
    ]  # fmt: skip
    assert known.input_spec().numbers == 8 == known.encode(raw)["numbers"].shape[1]
    assert "dates: at '01.01.2019 06:00' is 2019-01-01 06:00:00; --read exact=NAME for text" in notes
    again = preprocessor_from_json(json.loads(json.dumps(known.to_json())))
    np.testing.assert_array_equal(again.encode(raw)["numbers"], known.encode(raw)["numbers"])
    with pytest.raises(DataError, match=r"line 2, column at: '13/32/2020' is no date; expected one with the day first"):
        again.encode(table({"at": ["13/32/2020"]}))
    months = table({"at": [f"{2019 + i // 12}-{i % 12 + 1:02}" for i in range(48)], "y": [str(i) for i in range(48)]})
    names = fitted(months)[0].input_names()
    assert names == ["at: days", "at: year", "at: month (sine)", "at: month (cosine)"]  # a month has no weekday


def test_mixed_forms_are_read_each_by_its_own():
    texts = ["11.09.2019", "Feb 20, 2021", "20210321", "2021-03", "2021-03-05T12:00:00+01:00"]
    found = dates.read_moments(texts, dates.DATES, True)
    np.testing.assert_array_equal(
        found.wall, days("2019-09-11", "2021-02-20", "2021-03-21", "2021-03-01", "2021-03-05T12:00")
    )
    np.testing.assert_allclose(found.utc[-1] * 24, days("2021-03-05T11:00")[0] * 24)


def test_other_orders_of_the_same():
    for text in ("Sun Aug 11 10:30:00 +0000 2021", "Aug 11 10:30:00 2021", "11 Aug 2021, 10:30", "11/8/21 10:30 AM"):
        assert dates.read_date(text, True) == (days("2021-08-11T10:30")[0], 0)
    np.testing.assert_array_equal(
        dates.read_moments(["202103", "202104.0"], dates.COMPACT, True).wall, days("2021-03-01", "2021-04-01")
    )


def test_parts_of_dates_by_hand():
    found = dates.read_moments(["2021-03-01 18:00", "2021-06-06 00:00"], dates.DATES, True)  # a Monday, a Sunday
    parts = dates.date_parts(found, dates.DATES, found.utc[0] - 0.75)
    np.testing.assert_allclose(parts["days"], [0.75, 97])
    np.testing.assert_array_equal(parts["year"], [2021, 2021])
    np.testing.assert_allclose(parts["month (sine)"], np.sin(2 * np.pi * np.array([2, 5]) / 12), atol=1e-12)
    np.testing.assert_allclose(parts["weekday (cosine)"], np.cos(2 * np.pi * np.array([0, 6]) / 7), atol=1e-12)
    np.testing.assert_allclose(parts["hour (sine)"], [-1, 0], atol=1e-12)


def test_times_of_day_and_durations(table):
    clock = table({"t": [f"{i % 24:02}:{i % 60:02}" for i in range(60)], "y": [str(i) for i in range(60)]})
    assert fitted(clock)[0].input_names() == ["t: hours", "t: hour (sine)", "t: hour (cosine)"]
    lasting = table({"t": [f"{i}:30:00" for i in range(60)], "y": [str(i) for i in range(60)]})
    assert fitted(lasting)[0].input_names() == ["t: hours"]


@pytest.mark.parametrize(
    ("name", "values", "form"),
    [("x", [20210321, 20191231, 20200101], dates.COMPACT), ("x", [20210321, 20191331], None), ("x", [20210321.5, 20191231], None),
     ("created_at", [1.6e9, 1.61e9], dates.SECONDS), ("timestamp", [1.6e12, 1.61e12], dates.MILLISECONDS), ("x", [1.6e9, 1.61e9], None),
     ("yearmonth", [202103, 201912], dates.COMPACT), ("x", [202103, 201912], None),
     ("rate", [1.6e9, 1.61e9], None), ("date", [2019, 2020], None), ("startTime", [1600000000.5, 1.61e9], dates.SECONDS)],
)  # fmt: skip
def test_numbers_that_are_dates(name, values, form):
    assert dates.form_of_numbers(name, np.array([*values, np.nan], dtype=np.float64)) == form


def test_an_open_order_is_told_and_overruled(table):
    cells = {
        "at": [f"{i * 7 % 12 + 1:02}/{i * 5 % 11 + 1:02}/2021" for i in range(40)],
        "y": [str(i) for i in range(40)],
    }
    known, notes = fitted(table(cells))
    assert "dates: not clear, at '01/01/2021' is 2021-01-01; --read dates=dayfirst for the other order" in notes
    other, notes = fitted(table(cells, ReadOptions(dates="dayfirst")))
    assert known.dates[0].order == "monthfirst" and other.dates[0].order == "dayfirst"
    assert not any("not clear" in note for note in notes)


def test_gaps_among_dates(table):
    raw = table(
        {
            "at": [f"2021-01-{i % 28 + 1:02}" if i % 5 else ("", "unknown")[i % 2] for i in range(60)],
            "y": [str(i) for i in range(60)],
        }
    )
    known, _ = fitted(raw)
    assert known.input_names()[:2] == ["at: days", "at: days is missing"]
    assert np.isfinite(known.encode(raw)["numbers"]).all()
    assert known.encode(raw)["numbers"][:6, 1].tolist() == [1, 0, 0, 0, 0, 1]


# ---- labels ------------------------------------------------------------------------------------------------------------


def test_labels_are_merged_by_blanks_and_case():
    merged = merge_labels({"Adelie": 32, "adelie": 10, "ADELIE": 6, "Gentoo": 40, "New  York": 1, "new york": 5})
    assert merged.names == {"adelie": "Adelie", "ADELIE": "Adelie", "New  York": "new york"}
    assert merged.spellings == {"adelie": "Adelie", "gentoo": "Gentoo", "new york": "new york"}
    assert merge_labels({"a": 3, "b": 4}).spellings == {}


def test_single_letters_whose_case_may_be_meant_stay_apart():
    assert merge_labels({"a": 50, "A": 40, "b": 1}).apart == [["A", "a"]]
    assert merge_labels({"a": 50, "A": 1}).names == {"A": "a"}
    assert merge_labels({"y": 50, "Y": 40, "n": 80}).names == {"Y": "y"}


def test_words_for_yes_and_no_are_two():
    assert merge_labels({"yes": 30, "Y": 5, "no": 30, "N": 7, "n": 1}).names == {"Y": "yes", "N": "no", "n": "no"}
    assert merge_labels({"0": 3, "1": 4}).names == {}
    assert merge_labels({"yes": 3, "no": 4, "maybe": 1, "y": 2}).names == {}


def test_merged_labels_are_classes_and_told(tmp_path):
    words = ["Yes", "No", "yes ", " no", "Yes", "No"]
    path = tmp_path / "buy.csv"
    path.write_text(
        "x,sex,y\n" + "".join(f"{i}.5,{('male', 'Male', 'female')[i % 3]},{words[i % 6]}\n" for i in range(90))
    )
    data = load_problem(str(path), target="y")
    assert data.preprocessor.classes == ["No", "Yes"]
    assert "labels: y: 'yes' is 'Yes', y: 'no' is 'No'; --read exact=NAME to keep apart" in data.notes
    (sex,) = data.preprocessor.categories
    assert len(sex.values) == 2 and any("sex: " in note for note in data.notes)
    known = preprocessor_from_json(json.loads(json.dumps(data.preprocessor.to_json())))
    new = read_table(path)
    assert set(known.encode_target(new).tolist()) == {0, 1} and not known.unseen_values(new)
    assert known.encode(new)["categories"][:3, 0].tolist() == [2, 2, 1]


# ---- notes -------------------------------------------------------------------------------------------------------------


def test_a_note_is_one_line_of_about_110_characters(table):
    columns = {f"a column of money number {i}": [f"${i},{j:03}.50" for j in range(100, 130)] for i in range(1, 30)}
    _, notes = fitted(table(columns | {"y": [str(i) for i in range(30)]}))
    (note,) = [note for note in notes if note.startswith("numbers: ")]
    assert len(note) <= 112 and "(29 in all)" in note


@pytest.mark.parametrize(
    ("cells", "other"),
    [
        (
            [f"2021-{m:02}-{d:02} {h:02}:30" for m in (1, 5, 9) for d in (2, 11, 27) for h in (4, 15)],
            "2030-03-05 01:00",
        ),
        ([f"{h}:{m:02}" for h in (1, 9, 22) for m in (5, 20, 50)], "25:00"),  # training had times of day
    ],
)
def test_a_date_alone_is_encoded_as_among_others(table, cells, other):
    known = fitted(table({"t": cells, "y": [str(i) for i in range(len(cells))]}))[0]
    rows = [*cells, other]
    together = known.encode(table({"t": rows, "y": ["0"] * len(rows)}, name="all.csv"))["numbers"]
    for i, cell in enumerate(rows):
        np.testing.assert_array_equal(
            known.encode(table({"t": [cell], "y": ["0"]}, name="one.csv"))["numbers"], together[i : i + 1]
        )


@pytest.mark.parametrize("skewed", [False, True])
def test_new_numbers_beyond_those_of_training_are_told(table, skewed):
    values = [f"{(i / 10) ** (4 if skewed else 1):.3f}" for i in range(100)]
    known = fitted(table({"x": values, "y": [str(i) for i in range(100)]}))[0]
    assert known.numbers[0].scale == ("quantile" if skewed else "standard")
    assert known.unseen_values(table({"x": values, "y": values}, name="same.csv")) == []
    assert known.unseen_values(table({"x": [values[0], values[-1]], "y": ["1", "2"]}, name="ends.csv")) == []
    (line,) = known.unseen_values(table({"x": ["95000", "22500", values[5]], "y": ["1", "2", "3"]}, name="new.csv"))
    assert line.startswith("numbers: x: 2 of 3 values lie outside those of training (0 to 9") and "95000 first" in line
