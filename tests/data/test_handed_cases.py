"""Files that people handed in and that failed, each rebuilt small by code: what is right for its kind, by what they expected."""

from __future__ import annotations

import csv
import datetime
import io
import json
import random
import zipfile

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pellucid.cli import cli
from pellucid.data.description_text import shell_word
from pellucid.data.load import load_problem
from pellucid.errors import DataError

N = 120
CHANCE = np.random.default_rng(7)
VALUES = CHANCE.normal(size=(N, 4))
MONEY = np.round(np.abs(VALUES[:, 0]) * 400_000 + 1000, 2)


@pytest.fixture
def table(tmp_path):
    """table(columns, ...): a file of these columns, by name, as a data module."""

    def table(columns, target, name="data.csv", delimiter=",", encoding="utf-8", above="", **options):
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(
            [columns, *zip(*columns.values(), strict=True)]
        )
        path = tmp_path / name
        path.write_bytes((above + text.getvalue()).encode(encoding))
        return load_problem(str(path), target=target, **options)

    return table


def note(data, words):
    found = [one for one in data.notes if words in one]
    assert found, data.notes
    return found[0]


def inputs_of(data):
    """The columns that are learned from, by their kind."""
    kinds = ("numbers", "dates", "categories", "texts")
    return {kind: [one.name for one in getattr(data.preprocessor, kind)] for kind in kinds}


def everything(data):
    """Inputs and targets of the three splits, in their order."""
    parts = [data.examples(split) for split in ("train", "validation", "test")]
    arrays = {name: np.concatenate([part.inputs[name] for part in parts]) for name in parts[0].inputs}
    return arrays, np.concatenate([part.target for part in parts])


def check_same(one, other):
    (inputs, target), (plain_inputs, plain_target) = everything(one), everything(other)
    assert inputs.keys() == plain_inputs.keys()
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, plain_inputs[name])
    np.testing.assert_array_equal(target, plain_target)


def losses(value):
    return f"(${-value:,.2f})" if value < 0 else f"${value:,.2f}"


# ---- numbers -------------------------------------------------------------------------------------------------------------

# How each column was written, and the number that it means.
WRITTEN = {
    "Price": ([f"${x:,.2f}" for x in MONEY], [f"{x:.2f}" for x in MONEY]),
    "Discount": ([f"{abs(x) * 20:.1f}%" for x in VALUES[:, 1]], [f"{abs(x) * 20:.1f}" for x in VALUES[:, 1]]),
    "Margin": ([losses(round(x * 100, 2)) for x in VALUES[:, 2]], [f"{x * 100:.2f}" for x in VALUES[:, 2]]),
    "Weight": ([f"{abs(x) * 90:.1f} kg" for x in VALUES[:, 3]], [f"{abs(x) * 90:.1f}" for x in VALUES[:, 3]]),
    "Units": ([f"{int(x * 900):,}" for x in np.abs(VALUES[:, 1]) + 1], [str(int(x * 900)) for x in np.abs(VALUES[:, 1]) + 1]),
    "Euro": ([f"€ {x / 1000:.2f}".replace(".", ",") for x in MONEY], [f"{x / 1000:.2f}" for x in MONEY]),
}  # fmt: skip


@pytest.mark.parametrize("target", ["Price", "Margin", "Euro"])
def test_currency_percent_and_units_are_the_numbers_written_plainly(table, target):
    said = table({name: texts for name, (texts, _) in WRITTEN.items()}, target)
    plain = table({name: texts for name, (_, texts) in WRITTEN.items()}, target, "plain.csv")
    assert said.task == "regression" and inputs_of(said) == inputs_of(plain)
    check_same(said, plain)
    assert note(said, "numbers: ").endswith("--read exact=NAME for text")


def german(value):
    return f"{value:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")


def test_a_target_with_points_and_a_decimal_comma_is_numbers(table):
    plain = {"x": [f"{x:.3f}" for x in VALUES[:, 0]], "rent": [f"{x:.2f}" for x in MONEY]}
    said = table({**plain, "rent": [german(x) for x in MONEY]}, "rent")
    check_same(said, table(plain, "rent", "plain.csv"))


def test_words_for_gaps_among_numbers_are_gaps_and_told(table):
    dose = [f"{abs(x):.2f}" for x in VALUES[:, 0]]
    said, plain = list(dose), list(dose)
    for row, word in {3: "unknown", 20: "n/a", 41: "unknown", 60: "nan", 77: "<0.1"}.items():
        said[row], plain[row] = word, ""
    age = [str(int(30 + 9 * x)) for x in VALUES[:, 1]]
    y = [f"{x:.2f}" for x in VALUES[:, 2]]
    data = table({"dose": said, "age": age, "y": y}, "y")
    other = table({"dose": plain, "age": age, "y": y}, "y", "plain.csv")
    assert inputs_of(data)["numbers"] == ["dose", "age"]
    np.testing.assert_array_equal(everything(data)[1], everything(other)[1])
    told = note(data, "numbers: gaps, ")
    assert "'unknown' in 2 rows" in told and "--read exact=NAME" in told


# ---- dates ---------------------------------------------------------------------------------------------------------------

DAYS = [datetime.date(2019, 1, 1) + datetime.timedelta(days=int(d)) for d in CHANCE.integers(0, 1500, N)]


def test_dates_in_four_forms_are_dates(table):
    clock = [f"{h:02d}:{m:02d}" for h, m in zip(CHANCE.integers(0, 24, N), CHANCE.integers(0, 60, N), strict=True)]
    data = table(
        {
            "start": [f"{d:%d.%m.%Y}" for d in DAYS],
            "signed": [f"{d:%b} {d.day}, {d:%Y}" for d in DAYS],
            "ymd": [f"{d:%Y%m%d}" for d in DAYS],
            "clock": clock,
            "y": [f"{x:.3f}" for x in VALUES[:, 0]],
        },
        "y",
    )
    assert inputs_of(data)["dates"] == ["start", "signed", "ymd", "clock"]
    start, signed, ymd, _ = data.preprocessor.dates
    # One and the same day, however it was written.
    again = [one.name for one in (start, signed, ymd)]
    iso = table({**{name: [str(d) for d in DAYS] for name in again}, "clock": clock, "y": [f"{x:.3f}" for x in VALUES[:, 0]]}, "y", "iso.csv")  # fmt: skip
    check_same(data, iso)
    assert "'" in note(data, "dates: ") and "--read exact=NAME" in note(data, "dates: ")


def test_a_date_among_semicolons_and_decimal_commas_is_used(table):
    data = table(
        {
            "Country": [("Peru", "China")[i % 2] for i in range(N)],
            "Location": [f"{x:.5f};{y:.5f}" for x, y in VALUES[:, :2]],
            "Count": [f"{x:.1f}".replace(".", ",") for x in MONEY],
            "Date": [f"{d:%d/%m/%y}" for d in DAYS],
        },
        "Count",
        delimiter=";",
    )
    assert data.task == "regression" and inputs_of(data)["dates"] == ["Date"]
    np.testing.assert_allclose(
        np.sort(data.preprocessor.decode(everything(data)[1])), np.sort(np.round(MONEY, 1)), rtol=1e-5
    )


# ---- files ---------------------------------------------------------------------------------------------------------------


def test_comments_above_the_header_are_skipped_and_told(table):
    columns = {
        "plant": list(range(1000, 1000 + N)),
        "Fuel": ["A", "B"] * (N // 2),
        "Price": [f"{x:.4f}" for x in VALUES[:, 0]],
    }
    said = table(columns, "Price", delimiter=";", above="# exported by tool v2\n# units: EUR\n")
    check_same(said, table(columns, "Price", "plain.csv", delimiter=";"))
    assert "2 comment lines skipped, line 1 first" in note(said, "file: ")


def test_excel_s_export_with_a_euro_sign_is_read_as_cp1252(table):
    columns = {
        "Wohnung Nr.": [f"W{i}" for i in range(N)],
        "Größe m²": [f"{20 + abs(x) * 60:.2f}".replace(".", ",") for x in VALUES[:, 0]],
        "Ort": [("München", "Zürich", "Köln")[i % 3] for i in range(N)],
        "Kaltmiete €": [f"{x / 1000:.2f}".replace(".", ",") for x in MONEY],
    }
    said = table(columns, "Kaltmiete €", delimiter=";", encoding="cp1252")
    assert inputs_of(said) == {"numbers": ["Größe m²"], "dates": [], "categories": ["Ort"], "texts": []}
    assert "cp1252" in note(said, "file: read as") and "--read encoding=NAME" in note(said, "file: read as")
    assert "left out" in note(said, "Wohnung Nr.")
    check_same(said, table(columns, "Kaltmiete €", "utf.csv", delimiter=";"))


ROWS = [
    {"a": round(float(x), 3), "colour": ("red", "blue")[i % 2], "y": ("u", "v")[int(x > 0)]}
    for i, x in enumerate(VALUES[:, 0])
]


def test_json_and_packed_tables_are_the_same_as_csv(table, tmp_path):
    plain = table({key: [row[key] for row in ROWS] for key in ROWS[0]}, "y")
    text = (tmp_path / "data.csv").read_text()
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("train.csv", text)
        archive.writestr("__MACOSX/._train.csv", "x")
    for name in ("a.json", "a.jsonl", "a.csv.zip"):
        check_same(load_problem(str(tmp_path / name), target="y"), plain)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>404</body></html>", "a web page ('Sign in')"),
        ("a.xlsx", b"PK\x03\x04" + bytes(40), "not a whole workbook"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_named_on_the_command_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    result = CliRunner().invoke(cli, ["train", str(tmp_path / name), "--target", "y"])
    assert result.exit_code != 0 and "Traceback" not in result.output
    assert words in result.output and name in result.output


def test_a_workbook_with_parts_missing_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(DataError, match="not a whole workbook.*save the sheet as CSV"):
        load_problem(str(tmp_path / "book.xlsx"), target="y")


def test_line_ends_and_byte_order_marks_are_no_characters_of_a_text(tmp_path):
    line = "the cat sat on the mat"
    (tmp_path / "x.txt").write_bytes(("\ufeff" + f"{line}\r\n" * 300).encode())
    (tmp_path / "plain.txt").write_bytes(f"{line}\n".encode() * 300)
    said, plain = (load_problem(str(tmp_path / name)) for name in ("x.txt", "plain.txt"))
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(said, split).tokens, getattr(plain, split).tokens)
    assert "300 line ends of Windows" in note(said, "line ends") and "byte-order mark" in note(said, "byte-order")


# ---- columns that flatter ------------------------------------------------------------------------------------------------


def labels(of, names=("no", "yes"), wrong=0.3):
    flipped = np.random.default_rng(1).random(N) < wrong
    return [names[int((x > 0) ^ f)] for x, f in zip(of, flipped, strict=True)]


def test_a_recoded_target_is_named_with_the_score_without_it(table):
    outcome = labels(VALUES[:, 0])
    code = [str(int(word == "yes")) for word in outcome]
    features = {f"x{k}": [f"{x:.3f}" for x in VALUES[:, k]] for k in range(3)}
    told = note(table({**features, "code": code, "outcome": outcome}, "outcome"), "leak: ")
    assert "code alone tells the target (100% right)" in told and "without it" in told and "--drop code" in told
    assert "code" not in inputs_of(table({**features, "code": code, "outcome": outcome}, "outcome", drop=["code"]))["numbers"]  # fmt: skip


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "PassengerId", "customer_id"])
def test_an_index_of_a_file_sorted_by_class_is_left_out(table, name):
    label = sorted(labels(VALUES[:, 0]))
    index = list(range(N))
    if name == "customer_id":
        random.Random(2).shuffle(index)
        pairs = sorted(zip(index, label, strict=True), key=lambda pair: pair[0])
        index, label = [p[0] for p in pairs], [p[1] for p in pairs]
        order = list(range(N))
        random.Random(3).shuffle(order)
        index, label = [index[k] for k in order], [label[k] for k in order]
    columns = {name: index, "a": [f"{x:.3f}" for x in VALUES[:, 0]], "label": label}
    data = table(columns, "label")
    assert inputs_of(data)["numbers"] == ["a"]
    told = note(data, "columns: ")
    assert told.startswith(f"columns: {name or 'column1'} holds ") and f"--keep {shell_word(name or 'column1')}" in told
    assert len(inputs_of(table(columns, "label", keep=[name or "column1"]))["numbers"]) == 2


def test_rows_twice_in_a_file_stay_on_one_side(table):
    """Random labels, each row twice: whoever is tested on copies remembers them."""
    once = {"a": [f"{x:.4f}" for x in VALUES[:, 0]], "b": [f"{x:.4f}" for x in VALUES[:, 1]], "y": labels(VALUES[:, 2])}
    data = table({name: values + values for name, values in once.items()}, "y")
    told = note(data, "rows: ")
    assert "kept on one side" in told and "--split random" in told and f"{N} of {2 * N}" in told
    seen = [
        {tuple(data.raw_example(split, i).items()) for i in range(len(data.examples(split)))}
        for split in ("train", "validation", "test")
    ]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_rows_of_a_patient_stay_on_one_side(table):
    patient = [f"p{i // 4}" for i in range(N)]
    data = table({"patient": patient, "a": [f"{x:.4f}" for x in VALUES[:, 0]], "y": labels(VALUES[:, 1])}, "y", group="patient")  # fmt: skip
    seen = [
        {data.raw_example(split, i)["patient"] for i in range(len(data.examples(split)))}
        for split in ("train", "validation", "test")
    ]
    assert all(seen) and not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


# ---- targets -------------------------------------------------------------------------------------------------------------


def test_labels_that_differ_by_blanks_and_case_are_one(table):
    names = ["Adelie", "Gentoo", "Chinstrap"]
    clean = [names[int(k)] for k in CHANCE.integers(0, 3, N)]
    dirty = list(clean)
    for i, change in (
        (3, str.upper),
        (17, str.lower),
        (30, lambda s: f" {s} "),
        (44, str.upper),
        (51, lambda s: s + " "),
    ):
        dirty[i] = change(dirty[i])
    length = [f"{30 + 9 * x:.1f}" for x in VALUES[:, 0]]
    said = table({" Length ": length, "Species": dirty}, "Species")
    assert said.preprocessor.classes == ["Adelie", "Chinstrap", "Gentoo"] and inputs_of(said)["numbers"] == ["Length"]
    assert "--read exact=NAME to keep apart" in note(said, "labels: ")
    check_same(said, table({"Length": length, "Species": clean}, "Species", "plain.csv"))


def test_several_labels_a_row_are_several_labels(table):
    tags = [["none", "news", "sport", "news; sport", "tech", "news; tech"][int(k)] for k in CHANCE.integers(0, 6, N)]
    data = table({"a": [f"{x:.3f}" for x in VALUES[:, 0]], "tags": tags}, "tags")
    assert data.task == "multilabel" and data.preprocessor.classes == ["news", "sport", "tech"]
    target = data.examples("train").target
    for i in range(20):
        said = data.raw_example("train", i)["tags"]
        assert target[i].tolist() == [float(name in said) for name in data.preprocessor.classes]
    assert "--task classification" in note(data, "labels: ")


WORDS = {"positive": ["great", "lovely", "fine", "good"], "negative": ["bad", "poor", "broken", "terrible"]}


@pytest.mark.parametrize("beside", [False, True])
def test_a_review_is_text_to_learn_from(table, beside):
    chance = random.Random(4)
    sentiment = [chance.choice(list(WORDS)) for _ in range(N)]
    reviews = [" ".join(chance.choices(WORDS[s], k=8)) + f", really, {i}." for i, s in enumerate(sentiment)]
    stars = {"stars": [chance.randint(1, 5) for _ in range(N)]} if beside else {}
    data = table({"review": reviews, **stars, "sentiment": sentiment}, "sentiment")
    assert inputs_of(data)["texts"] == ["review"] and inputs_of(data)["numbers"] == list(stars)
    assert "its words and letters are learned" in note(data, "columns: review is text")


def test_rare_positives_can_be_weighed_and_a_threshold_chosen(tmp_path):
    chance = np.random.default_rng(5)
    x = chance.normal(size=(600, 2))
    fraud = (x[:, 0] + 0.3 * chance.normal(size=600) > 1.9).astype(int)
    rows = "".join(f"{a:.3f},{b:.3f},{y}\n" for (a, b), y in zip(x, fraud, strict=True))
    (tmp_path / "t.csv").write_text("a,b,fraud\n" + rows)
    words = ["train", tmp_path / "t.csv", "--target", "fraud", "--class-weight", "balanced", "--metric", "f1", "--epochs", 8, "--run-dir", tmp_path / "run"]  # fmt: skip
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == 0, result.output
    assert "threshold" in result.output and "f1" in result.output


# ---- series --------------------------------------------------------------------------------------------------------------

DATES = [str(datetime.date(2021, 1, 1) + datetime.timedelta(days=d)) for d in range(N)]


def test_several_series_in_one_table_are_named_and_learned_together(table):
    columns = {
        "item_id": [name for name in "ABC" for _ in range(N)],
        "timestamp": DATES * 3,
        "target": [f"{k * 50 + np.sin(d / 7) * 5:.2f}" for k in range(3) for d in range(N)],
    }
    with pytest.raises(DataError, match="write --series item_id"):
        table(columns, "target", time_column="timestamp")
    data = table(columns, "target", time_column="timestamp", series="item_id")
    assert data.kind == "series" and "3 by item_id" in note(data, "series: ")


def test_what_is_known_ahead_and_the_weekday_are_used(table):
    days = [datetime.date.fromisoformat(d) for d in DATES]
    promo = CHANCE.integers(0, 2, N)
    columns = {
        "day": DATES,
        "promo": promo,
        "weekday": [f"{d:%A}" for d in days],
        "sold": [f"{20 + 10 * p + d.weekday():.1f}" for p, d in zip(promo, days, strict=True)],
    }
    data = table(columns, "sold", time_column="day", known=["promo"])
    assert "promo of the step to be predicted" in note(data, "known: ")
    assert "weekday" in note(data, "columns: ") and "left out" not in note(data, "columns: ")


# ---- pictures ------------------------------------------------------------------------------------------------------------


def draw(path, label, i):
    colour = {"cat": (220, 40, 40), "dog": (40, 40, 220)}[label]
    noise = np.random.default_rng([i, len(label)]).integers(-20, 21, (30, 40, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8)).save(path)


def test_labels_in_file_names_and_in_a_table_beside(tmp_path):
    for i in range(40):
        label = ("cat", "dog")[i % 2]
        draw(tmp_path / "flat" / f"{label}.{i}.jpg", label, i)
        draw(tmp_path / "beside" / "images" / f"{i}.jpg", label, i)
    rows = "".join(f"{i}.jpg,{('cat', 'dog')[i % 2]}\n" for i in range(40))
    (tmp_path / "beside" / "labels.csv").write_text("file,label\n" + rows)
    for folder in ("flat", "beside"):
        data = load_problem(str(tmp_path / folder))
        assert data.preprocessor.classes == ["cat", "dog"]
        assert "--labels" in note(data, "labels: ")


def test_forty_one_pictures_of_two_colours_are_learned(tmp_path):
    for i in range(41):
        draw(tmp_path / "p" / f"{('cat', 'dog')[i % 2]}.{i}.png", ("cat", "dog")[i % 2], i)
    words = ["train", tmp_path / "p", "--run-dir", tmp_path / "run", "--quiet"]
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == 0, result.output
    scored = CliRunner().invoke(cli, ["evaluate", str(tmp_path / "run"), "--json"])
    assert json.loads(scored.stdout)["accuracy"] == 1.0
