"""What is made of the target is named: sums, the next row's target, means by category, counters of sorted rows. And what is no copy, and no group."""

import numpy as np
import pytest

from pellucid.data.load import load_problem

RNG = np.random.default_rng(0)
STATE = RNG.bit_generator.state
N = 240


@pytest.fixture(autouse=True)
def seeded():
    RNG.bit_generator.state = STATE


@pytest.fixture
def notes(tmp_path):
    """notes({"a": values, ..., "y": values}, "leak"): those that begin so."""

    def make(columns, kind):
        rows = zip(*(map(str, values) for values in columns.values()), strict=True)
        path = tmp_path / "some.csv"
        path.write_text("\n".join([",".join(columns), *map(",".join, rows)]) + "\n")
        return [note for note in load_problem(str(path), target="y").notes if note.startswith(kind)]

    return make


def normal(*names):
    return {name: RNG.normal(size=N).round(3) for name in names}


# ---- sums --------------------------------------------------------------------------------------------------------------


def test_a_target_that_is_the_sum_of_columns_is_named(notes):
    casual, registered = RNG.integers(0, 300, N), RNG.integers(0, 900, N)
    found = notes({"casual": casual, "registered": registered, **normal("t"), "y": casual + registered}, "leak")
    (line,) = [note for note in found if " + " in note]
    assert line.startswith("leak: y is casual + registered; without these, a linear model: ") and line.endswith(
        "--drop casual,registered"
    )
    own = normal("u", "v", "w", "z")
    (line,) = notes({**own, "y": (2 * own["u"] - own["v"] + 0.5 * own["w"]).round(3)}, "leak")
    assert line.startswith("leak: y is a weighted sum of u, v and w; ")
    (line,) = notes({**own, "y": (own["u"] - own["v"]).round(2)}, "leak")
    assert line.startswith("leak: y is u - v; ")


def test_what_is_nearly_a_sum_is_learned(notes):
    own = normal("u", "v", "w")
    assert not notes({**own, "y": (own["u"] + own["v"] + 0.05 * RNG.normal(size=N)).round(3)}, "leak")
    assert not notes({**own, "y": (own["u"] + own["v"] + own["w"]).round(3)}, "leak")  # no other column would be left
    assert not notes({**own, "y": (own["u"] * own["v"]).round(3)}, "leak")


# ---- other rows' targets -----------------------------------------------------------------------------------------------


def test_the_target_of_the_next_row_is_named_and_that_of_the_last_is_not(notes):
    walk = RNG.normal(size=N + 2).cumsum().round(3)
    ahead = notes({"next": walk[2:], **normal("z"), "y": walk[1:-1]}, "leak")
    assert ahead == ["leak: next is y of the next row, unknown yet where rows stand in time; --drop next"]
    assert not notes({"last": walk[:-2], **normal("z"), "y": walk[1:-1]}, "leak")
    labels = RNG.choice(list("ab"), N + 1)
    assert notes({"next": labels[1:], **normal("z"), "y": labels[:-1]}, "leak") == ahead
    assert not notes({"other": RNG.permutation(labels[1:]), **normal("z"), "y": np.sort(labels[1:])}, "leak: other")


# ---- means by category -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [2, 6])
def test_the_mean_of_the_target_by_category_is_named(notes, digits):
    zips, own = RNG.integers(0, 60, N), normal("a")
    y = RNG.normal(50, 20, N).round(2)
    means = np.array([y[zips == k].mean() if (zips == k).any() else 0 for k in range(60)]).round(digits)[zips]
    named = "leak: te is the mean of y over the rows that share it, their own too; --drop te"
    assert notes({"zip": [f"z{k}" for k in zips], "te": means, **own, "y": y}, "leak") == [named]
    labels = np.where(y > 50, "yes", "no")
    shares = np.array([(labels[zips == k] == "yes").mean() if (zips == k).any() else 0 for k in range(60)]).round(6)[
        zips
    ]
    assert named in notes({"te": shares, **own, "y": labels}, "leak")
    other = RNG.normal(50, 5, 60).round(digits)[zips]  # of something else than the target
    assert not notes({"zip": [f"z{k}" for k in zips], "te": other, **own, "y": y}, "leak")


# ---- rows that are counted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "first"), [("x1", 1000), ("t", 0), ("seq", 500)])
def test_a_counter_of_rows_that_stand_by_class_is_named(notes, name, first):
    rows, noise = 60, RNG.normal(size=60).round(3)
    sorted_rows = {name: np.arange(first, first + rows), "z": noise, "y": np.repeat(list("abc"), 20)}
    (line,) = notes(sorted_rows, ("leak", "columns: " + name + " holds"))
    assert f" {name} counts the file's rows" in line and line.endswith(f"--drop {name}")
    assert not notes({**sorted_rows, "y": RNG.permutation(sorted_rows["y"])}, "leak")


# ---- no copies, no groups ----------------------------------------------------------------------------------------------


def test_rows_of_one_patient_or_category_are_no_copies(notes):
    for rows_each in (3, 5, 10):
        who = np.repeat(np.arange(N // rows_each), rows_each)
        age, height, sex = (
            RNG.integers(20, 80, N)[who],
            RNG.normal(170, 9, N).round(1)[who],
            RNG.choice(["m", "f"], N)[who],
        )
        own = normal("dose")
        y = (age / 30 + own["dose"] + 0.2 * RNG.normal(size=N)).round(3)
        assert not [
            note
            for note in notes({"age": age, "height": height, "sex": sex, **own, "y": y}, "rows")
            if "but for" in note
        ]
    kind, own = RNG.integers(0, 12, N), normal("a")
    means = RNG.normal(size=12).round(3)[kind]
    columns = {"kind": [f"c{k}" for k in kind], "mean": means, "n": np.bincount(kind)[kind], **own}
    y = (means + own["a"] + 0.3 * RNG.normal(size=N)).round(3)
    assert not [note for note in notes({**columns, "y": y}, "rows") if "but for" in note]


@pytest.mark.parametrize("name", ["Precip (in)", "Precip", "Rain [mm]", "rainfall"])
def test_a_measure_is_no_group(notes, name):
    """Tenths with a T for traces are read as text by nobody; days of as much rain are alike otherwise here."""
    level = RNG.integers(0, 30, N)
    words = [f"{k}" if k else "T" for k in level]
    warmth = RNG.normal(size=30)[level]
    columns = {name: words, **{f"c{i}": (warmth + 0.01 * RNG.normal(size=N)).round(3) for i in range(2)}}
    columns["y"] = RNG.normal(size=30).round(1)[level]
    assert not notes(columns, "split: many rows share")
    assert notes(
        {"patient": [f"p{k}" for k in level], **{k: v for k, v in columns.items() if k != name}},
        "split: many rows share a patient",
    )


def test_whole_numbers_taken_for_classes_say_what_else_they_may_be(notes):
    own = normal("a", "b")
    assert notes({**own, "y": RNG.integers(1, 6, N)}, "target") == [
        "target y: whole numbers, 5 different values -> classification; --task regression where they are amounts"
    ]
    assert "--task" not in notes({**own, "y": RNG.choice(list("ab"), N)}, "target")[0]
