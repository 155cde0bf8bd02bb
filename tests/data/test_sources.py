"""From what the user names to a Problem: named sets, own tables, directories; splits, notes, and what is refused."""

from __future__ import annotations

import gzip
import json
import struct

import numpy as np
import pytest

from pellucid.data import datasets as shelf
from pellucid.data.input_spec import ImageSpec
from pellucid.data.kinds import preprocessor_from_json
from pellucid.data.load import load_problem
from pellucid.data.table.load import read_rows_for_prediction
from pellucid.errors import DataError, OptionError

here = {dataset.name: dataset.at_hand for dataset in shelf.catalogue()}


def needs(name):
    return pytest.mark.skipif(not here[name], reason=f"{name} is not on this machine (PELLUCID_DATA)")


def people(n=200, header=True, label=lambda i: "high" if i % 4 == 0 else "low", first=0):
    rows = [f"{20 + i % 40},{('clerk', 'cook', 'pilot')[i % 3]},{label(i)}" for i in range(first, first + n)]
    return "\n".join(["age,job,income"] * header + rows) + "\n"


@pytest.fixture
def csv(tmp_path):
    def write(content, name="people.csv"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return str(path)

    return write


# ---- named sets ----------------------------------------------------------------------------------------------------------


def test_digits():
    problem = load_problem("digits")
    assert (problem.name, problem.kind, problem.task) == ("digits", "image", "classification")
    assert [len(part) for part in (problem.train, problem.validation, problem.test)] == [1257, 270, 270]
    assert problem.preprocessor.classes == list("0123456789")
    images = problem.train.inputs["image"]
    assert images.dtype == np.uint8 and images.shape == (1257, 1, 8, 8)
    assert problem.preprocessor.input_spec() == ImageSpec((1, 8, 8), (0.0,), (pytest.approx(images.std()),))
    assert problem.train.target.dtype == np.int64 and np.bincount(problem.test.target).min() >= 25
    raw = problem.raw_example("test", 5)
    assert raw.shape == (8, 8) and raw.dtype == np.uint8 and raw.max() == 255
    np.testing.assert_array_equal(
        problem.preprocessor.encode(raw[None, None])["image"][0], problem.test.inputs["image"][5]
    )


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    bunch, problem = load_digits(), load_problem("digits")
    ours = np.concatenate(
        [
            [problem.raw_example(part, i) for i in range(len(getattr(problem, part)))]
            for part in ("train", "validation", "test")
        ]
    )
    both = [
        sorted(map(bytes, np.rint(images * factor).astype(np.uint8)))
        for images, factor in ((bunch.images, 1), (ours, 16 / 255))
    ]
    assert both[0] == both[1]


def test_the_seed_decides_the_split_and_nothing_else():
    one, same, other = load_problem("digits"), load_problem("digits", seed=0), load_problem("digits", seed=1)
    np.testing.assert_array_equal(one.test.inputs["image"], same.test.inputs["image"])
    assert not np.array_equal(one.test.inputs["image"], other.test.inputs["image"])
    assert one.fingerprint == other.fingerprint and len(one.fingerprint) == 64


@needs("mnist")
def test_mnist():
    problem = load_problem("mnist")
    assert [len(part) for part in (problem.train, problem.validation, problem.test)] == [55_000, 5_000, 10_000]
    assert problem.train.target[:5].tolist() == [5, 0, 4, 1, 9] and problem.test.target[:5].tolist() == [7, 2, 1, 0, 4]
    assert problem.preprocessor.box == 20 / 28 and problem.preprocessor.framing == "ink"


@needs("adult")
def test_adult_knows_its_target_test_file_and_labels():
    problem = load_problem("adult")
    assert [len(part) for part in (problem.train, problem.validation, problem.test)] == [27_677, 4_884, 16_281]
    assert problem.preprocessor.classes == ["<=50K", ">50K"]
    np.testing.assert_allclose(problem.test.target.mean(), 0.2362, atol=1e-4)
    assert problem.preprocessor.input_spec().numbers == 6 and len(problem.preprocessor.categories) == 8
    assert problem.raw_example("test", 0)["workclass"] == "Private"


@needs("adult")
def test_adult_by_its_path_is_the_same_problem():
    files = shelf.locate(shelf.find("adult"))
    train, test = files["tabular/adult-train.csv"], files["tabular/adult-test.csv"]
    with pytest.raises(DataError, match=r"'<=50K\.' of column15 was never seen .* Pass --strip-label \."):
        load_problem(str(train), target="-1", test_data=str(test))
    problem, named = load_problem(str(train), target="-1", test_data=str(test), strip_label="."), load_problem("adult")
    assert problem.name == "adult-train" and problem.preprocessor.target_name == "column15"
    for name, array in named.test.inputs.items():
        np.testing.assert_array_equal(problem.test.inputs[name], array)


@pytest.mark.parametrize(
    ("name", "task", "rows"),
    [("housing", "regression", 506), ("abalone", "regression", 4177), ("pima", "classification", 768)],
)
def test_small_tables(name, task, rows):
    if not here[name]:
        pytest.skip(f"{name} is not on this machine (PELLUCID_DATA)")
    problem = load_problem(name)
    assert problem.task == task and len(problem.train) + len(problem.validation) + len(problem.test) == rows
    assert all(np.isfinite(array).all() for array in problem.train.inputs.values())


# ---- own tables ----------------------------------------------------------------------------------------------------------


def test_own_table(csv):
    problem = load_problem(csv(people()), target="income")
    assert (problem.name, problem.kind, problem.task) == ("people", "table", "classification")
    assert [len(part) for part in (problem.train, problem.validation, problem.test)] == [140, 30, 30]
    assert np.bincount(problem.test.target).tolist() in ([7, 23], [8, 22])  # a quarter is high
    assert "target income: text, 2 different values -> classification" in problem.notes
    assert "split: 70/15/15 by class" in problem.notes
    row = problem.raw_example("test", 3)
    assert list(row) == ["age", "job", "income"]
    assert problem.preprocessor.classes[problem.test.target[3]] == row["income"]


def test_source_loads_the_same_problem_from_anywhere(csv, tmp_path, monkeypatch):
    csv(people()), csv(people(60, first=7), "more.csv")
    monkeypatch.chdir(tmp_path)
    problem = load_problem("people.csv", target="3", test_data="more.csv", drop=["job"], task="classification", seed=3)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = load_problem(**json.loads(json.dumps(problem.source)))
    assert again.fingerprint == problem.fingerprint and again.source == problem.source and again.notes == problem.notes
    np.testing.assert_array_equal(again.train.inputs["numbers"], problem.train.inputs["numbers"])
    assert "categories" not in again.train.inputs and len(again.test) == 60


def test_fingerprint_is_of_the_bytes(csv):
    one = load_problem(csv(people()), target="income").fingerprint
    assert load_problem(csv(people(), "other.csv"), target="income").fingerprint == one
    assert load_problem(csv(people() + "\n"), target="income").fingerprint != one


def test_a_known_name_wins_over_a_path(csv, tmp_path, monkeypatch):
    csv(people(), "digits")
    monkeypatch.chdir(tmp_path)
    assert load_problem("digits").kind == "image"
    assert load_problem("./digits", target="income").kind == "table"


def test_rows_without_a_target_are_left_out(csv):
    content = people().replace(",high\n", ",?\n", 5)
    problem = load_problem(csv(content), target="income")
    assert "rows: left out, without a value of income: 5" in problem.notes
    assert len(problem.train) + len(problem.validation) + len(problem.test) == 195


def test_regression_parts_cover_the_range(csv):
    problem = load_problem(csv("a,b\n" + "".join(f"{i % 7},{i * 1.5}\n" for i in range(400))), target="b")
    for part in (problem.validation, problem.test):
        values = problem.preprocessor.decode(part.target)
        assert len(part) == 60 and values.min() < 60 and values.max() > 540 and abs(values.mean() - 300) < 20


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, OptionError, "--target: missing; .* has the columns age, job, income; expected the one to predict"),
        ({"target": "incme"}, OptionError, "no such column; .* Did you mean 'income'"),
        ({"target": "income", "drop": ["jb"]}, OptionError, "--drop jb: .* Did you mean 'job'"),
        ({"target": "income", "drop": ["income"]}, OptionError, "--drop income: it is the target"),
        ({"target": "income", "drop": ["age", "job"]}, DataError, "no column is left to learn from"),
        (
            {"target": "income", "task": "clasification"},
            OptionError,
            "--task clasification: .* Did you mean 'classification'",
        ),
        (
            {"target": "income", "task": "regression"},
            OptionError,
            "line 2: the target income is 'high'; expected a number",
        ),
        ({"target": "income", "test_data": "no.csv"}, DataError, "no.csv: no such file"),
    ],
)
def test_options_that_do_not_fit(csv, options, error, words):
    with pytest.raises(error, match=words):
        load_problem(csv(people()), **options)


def test_too_few_rows(csv):
    with pytest.raises(DataError, match="9 rows with a target; expected 10 at least"):
        load_problem(csv(people(9)), target="income")
    assert len(load_problem(csv(people(20)), target="income").test) == 3


def test_target_missing_everywhere(csv):
    with pytest.raises(DataError, match="the target income is missing in every row"):
        load_problem(csv(people(label=lambda i: "?")), target="income")


def test_plain_text_is_no_table(csv):
    with pytest.raises(DataError, match=r"one column \(First Citizen:\); expected two at least"):
        load_problem(csv("First Citizen:\n" + "Speak\nHear me\n" * 40, "play.txt"), target="1")


# ---- a test file of its own ------------------------------------------------------------------------------------------------


def test_own_test_file(csv):
    problem = load_problem(csv(people()), target="income", test_data=csv(people(40, first=3), "test.csv"))
    assert [len(part) for part in (problem.train, problem.validation, problem.test)] == [170, 30, 40]
    assert "split: 85/15 by class into training and validation; test: test.csv" in problem.notes


def test_columns_in_another_order_or_with_more(csv):
    lines = [line.split(",") for line in people(40).splitlines()]
    shuffled = "\n".join(",".join([c, "x", a, b]) for a, b, c in lines).replace("income,x", "income,extra")
    plain = load_problem(csv(people()), target="income", test_data=csv(people(40), "test.csv"))
    other = load_problem(csv(people()), target="income", test_data=csv(shuffled, "test.csv"))
    for name, array in plain.test.inputs.items():
        np.testing.assert_array_equal(other.test.inputs[name], array)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            people(40).replace("job", "work", 1),
            "test.csv: column job missing; expected those of training: age, job; the file has age, work",
        ),
        (people(40).replace("income", "incomes", 1), "the target income is missing; .* Did you mean 'incomes'"),
        ("1,2\n3,4\n", "test.csv: 2 columns; expected 3|the target"),
        (people(40, label=lambda i: "High"), "test.csv, line 2: the label 'High' of income was never seen"),
    ],
)
def test_test_files_that_differ(csv, content, words):
    with pytest.raises(DataError, match=words):
        load_problem(csv(people()), target="income", test_data=csv(content, "test.csv"))


# ---- rows to predict -------------------------------------------------------------------------------------------------------


def test_rows_for_prediction(csv, tmp_path):
    known = load_problem(csv(people()), target="income").preprocessor
    full = read_rows_for_prediction(tmp_path / "people.csv", known)
    expected = known.encode(full)
    without = "\n".join(line.rsplit(",", 1)[0] for line in people().splitlines())
    bare = "\n".join(without.splitlines()[1:])
    for content in (without, bare, people(header=False)):
        (tmp_path / "new.csv").write_text(content)
        table = read_rows_for_prediction(tmp_path / "new.csv", known)
        assert len(table) == 200 and table.names[:2] == ["age", "job"]
        for name, array in known.encode(table).items():
            np.testing.assert_array_equal(array, expected[name])


def test_one_column_is_enough_for_a_network_of_one(csv, tmp_path):
    known = load_problem(csv("x,y\n" + "".join(f"{i % 9},{i % 2}\n" for i in range(60))), target="y").preprocessor
    (tmp_path / "new.csv").write_text("x\n3\n\n4\n")
    assert len(known.encode(read_rows_for_prediction(tmp_path / "new.csv", known))["numbers"]) == 2


def test_header_of_numbers_is_known_by_its_names(csv, tmp_path):
    known = load_problem(
        csv("2019,2020\n" + "".join(f"{i % 9},{i % 2}\n" for i in range(60))), target="2020", header=True
    ).preprocessor
    (tmp_path / "new.csv").write_text("2019,x\n3,1\n")
    table = read_rows_for_prediction(tmp_path / "new.csv", known)
    assert table.header and len(table) == 1


# ---- directories -----------------------------------------------------------------------------------------------------------


def idx(array, packed=True):
    data = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    return gzip.compress(data) if packed else data


def mnist_like(folder, n=100, test=40, packed=True):
    folder.mkdir(exist_ok=True)
    images = np.random.default_rng(0).integers(0, 256, (n + test, 6, 5)).astype(np.uint8)
    labels = (np.arange(n + test) % 3).astype(np.uint8)
    for stem, rows in (("train", slice(0, n)), ("t10k", slice(n, None))):
        if stem == "train" or test:
            end = ".gz" if packed else ""
            (folder / f"{stem}-images-idx3-ubyte{end}").write_bytes(idx(images[rows], packed))
            (folder / f"{stem}-labels-idx1-ubyte{end}").write_bytes(idx(labels[rows], packed))
    return folder


def test_a_directory_in_mnists_form(tmp_path):
    problem = load_problem(str(mnist_like(tmp_path / "letters")))
    assert problem.name == "letters" and [len(p) for p in (problem.train, problem.validation, problem.test)] == [
        85,
        15,
        40,
    ]
    assert (
        problem.preprocessor.size == (1, 6, 5)
        and problem.preprocessor.classes == ["0", "1", "2"]
        and problem.preprocessor.framing == "pad"
    )
    unpacked = load_problem(str(mnist_like(tmp_path / "plain", packed=False)))
    assert unpacked.fingerprint == problem.fingerprint
    alone = load_problem(str(mnist_like(tmp_path / "alone", test=0)))
    assert [len(p) for p in (alone.train, alone.validation, alone.test)] == [70, 15, 15]
    back = preprocessor_from_json(json.loads(json.dumps(alone.preprocessor.to_json())))
    assert back == alone.preprocessor


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: f.write_bytes(f.read_bytes()[:60]), "cut off or damaged"),
        (
            lambda f: f.write_bytes(idx(np.zeros((99, 6, 5), np.uint8))),
            "99 images, but train-labels-idx1-ubyte.gz has 100 labels",
        ),
        (lambda f: f.write_bytes(idx(np.zeros(100, np.uint8))), "an array of 1 axes; expected 3"),
        (lambda f: f.write_bytes(gzip.compress(b"hello, world")), "expected an IDX file"),
        (lambda f: f.write_bytes(gzip.compress(gzip.decompress(f.read_bytes())[:-1])), "its header announces 3,016"),
        (lambda f: f.write_bytes(gzip.compress(b"\x00\x00\x08\x03\x00")), "its header announces"),
        (lambda f: f.unlink(), "train-labels-idx1-ubyte.gz is there but train-images-idx3-ubyte"),
    ],
)
def test_damaged_images(tmp_path, damage, words):
    folder = mnist_like(tmp_path / "letters")
    damage(folder / "train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=words):
        load_problem(str(folder))


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "the directory is empty"),
        (["a.png", "b.csv", "c.csv"], "2 table, 1 image files; expected one kind"),
        (["a.png", "b.jpg", "c.csv"], "2 pictures and no class folders"),
        (["a.png", "sub/b.jpeg"], r"one class \(sub\)"),
        (["a.txt", "b.csv"], "1 text, 1 table files; expected one kind"),
        (["a.csv", "b.tsv.gz"], r"2 table files \(a.csv, b.tsv.gz\); expected one"),
        (["a.xyz"], "1 other files"),
    ],
)
def test_directories_say_what_they_hold(tmp_path, names, words):
    folder = tmp_path / "stuff"
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    folder.mkdir(exist_ok=True)
    with pytest.raises(DataError, match=f"stuff: {words}"):
        load_problem(str(folder))


def test_the_one_table_of_a_directory(csv, tmp_path):
    csv(people(), "data/people.csv")
    assert load_problem(str(tmp_path / "data"), target="income").name == "people"


@pytest.mark.parametrize(
    "option", [{"target": "1"}, {"test_data": "x"}, {"strip_label": "."}, {"header": False}, {"drop": ["a"]}]
)
def test_options_for_tables_with_images(option):
    name = next(iter(option)).replace("_", "-")
    with pytest.raises(OptionError, match=f"--{name}: digits holds images"):
        load_problem("digits", **option)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "", "no/such/folder/a.csv"])
def test_names_that_no_file_can_have(name):
    with pytest.raises(DataError):
        load_problem(name, target="1")


def test_unknown_name():
    with pytest.raises(
        DataError, match=r"digts: no data set of that name and no such file; .* Did you mean 'digits'\?"
    ):
        load_problem("digts")
