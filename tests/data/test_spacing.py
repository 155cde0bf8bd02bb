"""Series as people write them: cells read as in tables, copies, clocks that change, and new rows that are not as in training."""

import datetime
import json
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from pellucid.data.kinds import KINDS, preprocessor_from_json
from pellucid.data.load import load_problem, open_source
from pellucid.errors import DataError
from pellucid.inference.forecast import forecast

FIRST = datetime.date(2021, 1, 1)
BERLIN = ZoneInfo("Europe/Berlin")
OPTIONS = {"target": "y", "time_column": "day", "lookback": 5}


def day(i, step=1):
    return str(FIRST + datetime.timedelta(days=i * step))


def level(i):
    return round(10 + 3 * np.sin(i / 3) + i % 7 / 3, 2)


@pytest.fixture
def save(tmp_path):
    def save(header, rows, name="series.csv", separator=","):
        lines = [header, *(separator.join(map(str, row)) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(tmp_path / name)

    return save


def learned(path, **options):
    problem = load_problem(path, **{**OPTIONS, **options})
    known = preprocessor_from_json(json.loads(json.dumps(problem.preprocessor.to_json())))
    assert known == problem.preprocessor
    return problem.notes, known


def new(known, path):
    """The name of each step that comes next, and what is told."""
    found = KINDS["series"].read_new(known, [open_source(path, KINDS["series"])])
    return found.names, found.notes


def told(notes, kind):
    assert all(len(note) <= 115 for note in notes)
    return [note for note in notes if note.startswith(f"{kind}: ")]


DAILY = [(day(i), level(i)) for i in range(100)]


# ---- cells -------------------------------------------------------------------------------------------------------------


def test_how_numbers_are_written_is_told_and_makes_no_difference(save):
    plain = save("day;y;price", [(day(i), 1000 + level(i), 1100.5 + i) for i in range(100)], "plain.csv", ";")
    euro = lambda x: f"{x:,.2f}".translate(str.maketrans(",.", ".,"))
    rows = [(day(i), euro(1000 + level(i)) + " €", euro(1100.5 + i)) for i in range(100)]
    written = save("day;y;price", rows, "written.csv", ";")
    notes, known = learned(written)
    assert told(notes, "numbers") == [
        "numbers: y '1.010,00 €' is 1010, price '1.100,50' is 1100.5; --read exact=NAME for text"
    ]
    one, other = (load_problem(path, **OPTIONS) for path in (plain, written))
    np.testing.assert_array_equal(one.train.inputs["series"], other.train.inputs["series"])
    assert new(known, plain)[1][0].startswith("numbers: y written otherwise than in training, '1010.0' is 1010")


def test_numbers_and_words_that_stand_for_gaps_are_gaps(save):
    odd = lambda i, x, gap, every: gap if i % every == 7 else x
    rows = [(day(i), odd(i, level(i), -999, 25), odd(i, level(i + 3), "unknown", 30)) for i in range(200)]
    path = save("day,y,temp", rows)
    notes, known = learned(path)
    assert "numbers: gaps, far from all others, y: -999 in 8 rows; --read exact=NAME for numbers" in notes
    assert "numbers: gaps, temp: 'unknown' in 7 rows; --read exact=NAME for text" in notes
    assert "rows: 8 missing values of y are not predicted; windows hold the last one before" in notes
    assert known.columns[0].mean == pytest.approx(np.mean([level(i) for i in range(160) if i % 25 != 7]))
    assert known.encoding()["columns"][0]["sentinels"] == [-999.0]
    table = KINDS["series"].read_table(known, open_source(path, KINDS["series"]))
    assert np.isnan(known.read(table).values[7]).all()
    exact = learned(path, read="exact=y", drop=["temp"])[1]
    assert exact.columns[0].mean < 0 and "sentinels" not in exact.encoding()["columns"][0]


def test_labels_but_for_case_are_one_and_new_ones_are_told(save):
    kinds = ("rain", "Rain", "sun", "SUN", "sun")
    notes, known = learned(save("day,y,sky", [(day(i), level(i), kinds[i * i % 5]) for i in range(100)]))
    (note,) = told(notes, "labels")
    assert note.endswith("; --read exact=NAME to keep apart") and known.categories[0].values == ["Rain", "sun"]
    rows = [(day(i), level(i), ("RAIN", "hail", "-")[i % 3]) for i in range(20)]
    _, notes = new(known, save("day,y,sky", rows, "new.csv"))
    assert notes == ["labels: sky 'hail' never seen in training, taken for missing"]
    line = known.read(
        KINDS["series"].read_table(known, open_source(save("day,y,sky", rows, "new.csv"), KINDS["series"]))
    )
    assert line.codes[:3, 0].tolist() == [0, -1, -1]


def test_names_of_series_but_for_case_are_one(save):
    rows = [(day(i), ("north", "North")[i % 2], level(i)) for i in range(100)] + [
        (day(i), "south", i) for i in range(100)
    ]
    notes, known = learned(save("day,shop,y", rows), series="shop")
    assert "labels: shop: 'North' is 'north'; --read exact=NAME to keep apart" in notes
    assert "series: 2 by shop, of 100 steps each; each is scaled by itself, one model learns all" in notes
    later = save("day,shop,y", [(day(i), "NORTH", level(i)) for i in range(20)], "new.csv")
    assert new(known, later) == ([f"north {day(20)}"], [])
    both = [(day(i), name, level(i) * scale) for i in range(100) for name, scale in (("north", 1), ("North", 9))]
    notes, known = learned(save("day,shop,y", both, "both.csv"), series="shop")
    assert [scale.name for scale in known.scales] == ["north", "North"]
    assert (
        "labels: kept apart, though but for case one, shop: 'North' and 'north'; rename them if they are one" in notes
    )
    tickers = [(day(i), name, level(i)) for i in range(100) for name in "TFYN"]  # not answers to a question
    assert len(learned(save("day,shop,y", tickers, "tickers.csv"), series="shop")[1].scales) == 4


# ---- rows --------------------------------------------------------------------------------------------------------------


def test_rows_that_come_twice_are_left_out_and_of_others_the_mean_is_told(save):
    notes, known = learned(save("day,y", DAILY + DAILY))
    assert told(notes, "rows") == ["rows: 100 repeat another of the same time, left out (first at line 102)"]
    assert known == learned(save("day,y", DAILY, "once.csv"))[1]
    few = save("day,y", [*DAILY, (day(50), 99), DAILY[20]], "few.csv")
    rows = told(learned(few)[0], "rows")
    assert [note.split(" (")[0] for note in rows] == [
        "rows: 1 repeat another of the same time, left out",
        "rows: not in the order of time; sorted",
        "rows: 1 with the time of another",
    ]
    assert new(known, few)[1] == rows  # predict tells them too
    assert told(learned(save("day,y", DAILY[::-1], "back.csv"))[0], "rows") == [
        "rows: newest first; sorted (first at line 3)"
    ]


def test_rows_of_two_series_of_one_value_are_no_copies(save):
    rows = [(day(i), shop, 5 if i < 90 else i) for i in range(100) for shop in "ab"]
    with pytest.raises(DataError, match="100 of 200 rows have a time that another has.*write --series shop"):
        load_problem(save("day,shop,y", rows), **OPTIONS)


def berlin(first, zone):
    """400 hours from a day on, by the clocks of Berlin."""
    start = datetime.datetime.fromisoformat(first).replace(tzinfo=datetime.UTC)
    hours = [(start + datetime.timedelta(hours=i)).astimezone(BERLIN) for i in range(400)]
    return [(t.isoformat() if zone else t.strftime("%Y-%m-%d %H:%M"), level(i)) for i, t in enumerate(hours)]


def test_clocks_that_change_are_named(save):
    notes, _ = learned(save("day,y", berlin("2021-10-25", False)))
    assert told(notes, "rows") == [
        "rows: 1 with the time of another (line 147), as when daylight saving ends; their mean is taken"
    ]
    notes, _ = learned(save("day,y", berlin("2021-03-20", False)))
    gap = "dates: 1 gap, as when daylight saving begins (after 2021-03-28 01:00, line 195), stepped over"
    assert gap in notes
    notes, known = learned(save("day,y", berlin("2021-10-25", True)))
    assert not told(notes, "rows") and not any("gap" in note for note in notes)
    assert any("offsets +01:00 and +02:00, as with daylight saving" in note for note in notes)
    summer = save("day,y", berlin("2021-05-01", True), "summer.csv")
    assert new(known, summer)[0] == ["2021-05-17T18:00:00+02:00"]  # training ended in winter
    last = lambda x: x[:, -1, 0]
    table = KINDS["series"].read_table(known, open_source(summer, KINDS["series"]))
    assert [step.time for step in forecast(last, known, table, 2)][1] == "2021-05-17T19:00:00+02:00"


# ---- times -------------------------------------------------------------------------------------------------------------


def of_days(form, n=100, step=1):
    return [(form(FIRST + datetime.timedelta(days=i * step)), level(i)) for i in range(n)]


def iso_week(date):
    return "{}-W{:02}".format(*date.isocalendar()[:2])


MONTHS = (
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
)


@pytest.mark.parametrize(
    ("rows", "following", "note"),
    [
        (of_days(iso_week, 104, 7), "2022-W52", "dates: 104 steps of 7 days, 2020-W53 to 2022-W51"),
        (of_days(lambda d: iso_week(d).replace("-W", ""), 104, 7), "202252", "dates: day '202251' is 2022-12-19"),
        (of_days(lambda d: d.strftime("%a %d %b %Y")), "2021-04-11", "dates: day 'Sat 10 Apr 2021' is 2021-04-10"),
        (of_days(lambda d: f"{d.day}. {MONTHS[d.month - 1]} {d.year}"), "2021-04-11", "dates: day '10. April 2021' is 2021-04-10"),
        (of_days(lambda d: d.strftime("%m/%d/%Y")), "04/11/2021", "dates: day '04/10/2021' is 2021-04-10"),
        ([(1609459200 + 3600 * i, level(i)) for i in range(100)], "1609819200", "dates: day '1609815600' is 2021-01-05 03:00:00"),
        ([(1609459200000 + 3600000 * i, level(i)) for i in range(100)], "1609819200000", "dates: 100 steps of 1 hour, 1609459200000 to 1609815600000"),
        ([(f"{2000 + i // 12}{1 + i % 12:02}", level(i)) for i in range(100)], "200805", "dates: 100 steps of 1 month, 200001 to 200804"),
        ([(d if i % 2 else FIRST.fromisoformat(d).strftime("%d.%m.%Y"), y) for i, (d, y) in enumerate(DAILY)], "2021-04-11",
         "dates: day in 2 forms, '01.01.2021' is 2021-01-01; forecasts are written as '2021-04-10'"),
    ],
)  # fmt: skip
def test_times_in_other_forms_are_read_told_and_gone_on_with(save, rows, following, note):
    path = save("day,y", rows)
    notes, known = learned(path)
    assert note in notes
    assert new(known, path)[0] == [following] and new(known, path)[1] == []


def test_the_other_order_of_day_and_month_is_offered_where_it_can_be_read(save):
    rows = [(f"{1 + i % 12}/1/{2010 + i // 12}", level(i)) for i in range(100)]
    notes, _ = learned(save("day,y", rows))
    assert "dates: day '4/1/2018' is 2018-04-01; --read dates=dayfirst for the other order" in notes


@pytest.mark.parametrize("zones", [("+01:00", ""), ("Z", "", "+02:00")])
def test_a_time_without_a_zone_among_others_is_refused(save, zones):
    rows = [(f"{day(i)}T08:00{zones[i % len(zones)]}", level(i)) for i in range(100)]
    with pytest.raises(
        DataError, match="line 3: the time day is '2021-01-02T08:00', without a time zone, where others have one"
    ):
        load_problem(save("day,y", rows), **OPTIONS)


def test_a_last_business_day_of_the_month_stays_one(save):
    ends = [str(np.busday_offset(np.datetime64("2010-01") + i + 1, -1, roll="forward")) for i in range(60)]
    path = save("day,y", [(end, level(i)) for i, end in enumerate(ends)])
    first = save("day,y", [(f"{2010 + i // 12}-{1 + i % 12:02}-01", level(i)) for i in range(60)], "first.csv")
    for one, other, following in ((path, first, "2015-01-01"), (first, path, "2015-01-30")):
        _, known = learned(one)
        assert new(known, other)[0] == [following]


# ---- rows that are not as in training's --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trained", "came", "words"),
    [
        (DAILY, [(day(i, 7), i) for i in range(50)], "most steps are 7 days; expected 1 day, as in training.*train a run on rows like"),
        (DAILY, [(f"{2000 + i // 12}-{1 + i % 12:02}-01", i) for i in range(50)], "most steps are 1 month; expected 1 day"),
        ([(day(i, 7), level(i)) for i in range(100)], DAILY, "most steps are 1 day; expected 7 days"),
        ([(f"{2000 + i // 12}-{1 + i % 12:02}-01", level(i)) for i in range(100)], DAILY, "most steps are 1 day; expected 1 month"),
        ([(i, level(i)) for i in range(100)], [(2 * i, i) for i in range(50)], "most steps are 2; expected 1"),
        ([(f"{day(i // 24)} {i % 24:02}:00", level(i)) for i in range(100)], [(f"{day(i // 48)} {i // 2 % 24:02}:{i % 2 * 3}0", i) for i in range(99)],
         "most steps are 30 minutes; expected 1 hour"),
        (DAILY, [(i, level(i)) for i in range(100)], "the times day are numbers; expected dates, as in training"),
        (berlin("2021-10-25", True), berlin("2021-05-01", False), "the times day have no time zone, as '2021-05-01 02:00'; expected one"),
        (berlin("2021-05-01", False), berlin("2021-05-01", True), "the times day have a time zone, as .*; expected none, as in training"),
    ],
)  # fmt: skip
def test_steps_and_zones_other_than_in_training_are_refused(save, trained, came, words):
    _, known = learned(save("day,y", trained))
    other = save("day,y", came, "other.csv")
    with pytest.raises(DataError, match=words):
        new(known, other)
    with pytest.raises(DataError, match=words):  # to score on it as well
        KINDS["series"].read_labelled(known, open_source(other, KINDS["series"]))


def test_uneven_steps_and_weekends_are_told_and_gaps_are_no_other_step(save):
    _, known = learned(save("day,y", DAILY))
    gaps = save("day,y", [row for i, row in enumerate(DAILY) if i % 4], "gaps.csv")
    assert new(known, gaps) == ([day(100)], [])
    odd = np.cumsum(np.random.default_rng(0).integers(1, 6, 60))
    (note,) = new(known, save("day,y", [(day(int(i)), level(i)) for i in odd], "odd.csv"))[1]
    assert note.startswith("dates: most steps are ") and note.endswith("as in training 1 day, by which forecasts step")
    work = [(str(np.busday_offset("2021-01-01", i)), level(i)) for i in range(60)]
    (note,) = new(known, save("day,y", work, "work.csv"))[1]
    assert note == "dates: none falls on Saturday, Sunday; as in training steps fall on all days, and so do forecasts"


def test_series_of_several_steps_are_no_one_model(save):
    rows = [
        (day(i * step), shop, level(i))
        for shop, step, n in (("a", 1, 100), ("b", 1, 100), ("c", 7, 30))
        for i in range(n)
    ]
    with pytest.raises(
        DataError, match="shop c, most steps are 7 days; expected 1 day, as in most other series.*leave it out"
    ):
        load_problem(save("day,shop,y", rows), **OPTIONS, series="shop")
    between = [
        (f"{day(i // 24)} {i % 24:02}:{minute}", shop, level(i))
        for shop, minute in (("a", "00"), ("b", "30"))
        for i in range(200)
    ]
    notes, known = learned(save("day,shop,y", between, "between.csv"), series="shop")
    assert "dates: 200 steps of 1 hour, 2021-01-01 00:00 to 2021-01-09 07:00" in notes  # not the half hours of both
    assert new(known, save("day,shop,y", between, "between.csv"))[0] == ["a 2021-01-09 08:00", "b 2021-01-09 08:30"]


def test_rows_to_come_alone_are_no_series(save):
    rows = [(day(i), shop, level(i), i % 2) for i in range(60) for shop in "ab"]
    _, known = learned(save("day,shop,y,promo", rows), series="shop", known=["promo"])
    to_come = save("day,shop,promo", [(day(60), shop, 1) for shop in "ab"], "to_come.csv")
    words = (r"the target y is missing; expected past steps with day, shop, y, promo, .* and behind these any steps to come with y empty; "
             r"the file has day, shop, promo; put both into one file")  # fmt: skip
    with pytest.raises(DataError, match=words):
        new(known, to_come)
    with pytest.raises(
        DataError, match="columns 'shop', 'promo' are missing; expected those of training: day, shop, y, promo;"
    ):
        new(known, save("day,y", DAILY, "other.csv"))


def test_an_older_run_knows_no_cells_and_encodes_alike(save):
    path = save("day,shop,y,sky", [(day(i), "a", level(i), "ab"[i % 2]) for i in range(60)])
    _, known = learned(path, series="shop")
    old = known.to_json()
    for column in old["columns"]:
        del column["strays"], column["sentinels"]
    for one in (*old["categories"], *old["scales"]):
        one.pop("spellings", None), one.pop("folded", None)
    assert preprocessor_from_json(old) == known
    assert preprocessor_from_json(old).encoding() == known.encoding()
    assert "spellings" not in known.encoding()["categories"][0] and Path(path).exists()
