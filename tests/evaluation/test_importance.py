"""Permutation importance: what was planted is found, noise is 0 within its interval, and columns that share are told."""

import numpy as np
import pytest

from pellucid import threads
from pellucid.data.load import load_problem
from pellucid.data.problem import Examples
from pellucid.evaluation import importance
from pellucid.evaluation.formatting import importance_line
from pellucid.evaluation.importance import permutation_importance
from pellucid.evaluation.scoring import Scoring
from pellucid.training import session

N = 600


def planted(seed=0, copies=0):
    """Numbers (N, 3 + copies), of which the first decides, the second helps and the third is noise, and what follows from them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, 3))
    y = 2 * x[:, 0] + 0.5 * x[:, 1] + 0.3 * rng.normal(size=N)
    return np.column_stack([x] + [x[:, 0] + 0.05 * rng.normal(size=N)] * copies), y


def places(*names):
    return {name: [("numbers", 1, i)] for i, name in enumerate(names)}


def linear(*weights):
    return lambda part: part.inputs["numbers"] @ np.array(weights)


def probabilities(score):
    p = 1 / (1 + np.exp(-4 * score))
    return np.stack([1 - p, p], axis=1)


@pytest.mark.parametrize("score", ["rmse", "mae", "r2"])
def test_what_decides_comes_first_and_noise_is_nothing(score):
    x, y = planted()
    found = permutation_importance(linear(2, 0.5, 0.05), Scoring("regression"), score, places("decides", "helps", "noise"), Examples({"numbers": x}, y))  # fmt: skip
    assert [one.name for one in found.columns] == ["decides", "helps", "noise"]
    decides, helps, noise = found.columns
    assert decides.mattered and helps.mattered and not noise.mattered and noise.interval[0] <= 0 <= noise.interval[1]
    assert decides.interval[0] > helps.interval[1] and (found.rows, found.shuffles, found.of) == (N, 10, 3)
    if score == "rmse":  # by hand: what a shuffled column adds to the squared error is 2 w^2 var(x)
        assert decides.worse == pytest.approx(np.sqrt(0.09 + 2 * 4 * x[:, 0].var()) - 0.3, rel=0.1)
        assert decides.interval[0] < np.sqrt(0.09 + 8) - 0.3 < decides.interval[1]


@pytest.mark.parametrize("score", ["accuracy", "roc_auc", "log_loss"])
def test_of_classes(score):
    x, y = planted()
    predict = lambda part: probabilities(part.inputs["numbers"] @ [2, 0.5, 0.05])
    part = Examples({"numbers": x}, (y > 0).astype(np.int64))
    found = permutation_importance(predict, Scoring("classification", ["a", "b"]), score, places("decides", "helps", "noise"), part)  # fmt: skip
    assert [(one.name, one.mattered) for one in found.columns] == [("decides", True), ("helps", True), ("noise", False)]
    if score == "accuracy":
        line = importance_line(found)
        assert line.startswith("that mattered: decides ") and " points (" in line and "noise" not in line
        assert line.endswith("(accuracy lost when shuffled, 600 validation rows)")


def test_noise_holds_0_as_often_as_said():
    held = 0
    for seed in range(100):
        x, y = planted(seed)
        part = Examples({"numbers": x[:80]}, y[:80])
        found = permutation_importance(linear(2, 0.5, 0.3), Scoring("regression"), "rmse", places("a", "b", "noise"), part, seed=seed)  # fmt: skip
        noise = next(one for one in found.columns if one.name == "noise")
        # A network that leans on noise is as bad with it shuffled: of another row it is noise too.
        held += noise.interval[0] <= 0 <= noise.interval[1]
    assert held >= 85


def test_columns_that_share_what_they_say_are_told_and_shuffled_together():
    x, y = planted(copies=1)
    found = permutation_importance(linear(1, 0.5, 0, 1), Scoring("regression"), "rmse", places("a", "helps", "noise", "copy"), Examples({"numbers": x}, y))  # fmt: skip
    by_name = {one.name: one for one in found.columns}
    assert (
        by_name["a"].shared_with == ("copy",)
        and by_name["copy"].shared_with == ("a",)
        and not by_name["helps"].shared_with
    )
    (together,) = found.together
    assert together.names == ("a", "copy") and together.interval[0] > by_name["a"].interval[1] * 1.2
    assert "a and copy together" in importance_line(found)


def test_a_category_shares_with_the_number_it_stands_for():
    rng = np.random.default_rng(0)
    level = rng.integers(0, 6, N)
    inputs = {"numbers": (level + 0.1 * rng.normal(size=N))[:, None], "categories": np.stack([(level * 5) % 6, rng.integers(0, 4, N)], 1)}  # fmt: skip
    columns = {"years": [("numbers", 1, 0)], "degree": [("categories", 1, 0)], "other": [("categories", 1, 1)]}
    found = permutation_importance(lambda part: part.inputs["numbers"][:, 0], Scoring("regression"), "mae", columns, Examples(inputs, level.astype(float)))  # fmt: skip
    assert {one.name: one.shared_with for one in found.columns} == {
        "years": ("degree",),
        "degree": ("years",),
        "other": (),
    }


def test_of_many_columns_those_that_move_the_answers_are_measured_and_predictions_are_few(monkeypatch):
    monkeypatch.setattr(importance, "BUDGET", 20_000)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 500))
    weights = np.zeros(500)
    weights[[7, 490]] = 1
    predicted = []

    def predict(part):
        predicted.append(len(part))
        return part.inputs["numbers"] @ weights

    part = Examples({"numbers": x}, x @ weights)
    found = permutation_importance(predict, Scoring("regression"), "rmse", places(*map(str, range(500))), part)
    assert {one.name for one in found.columns if one.mattered} == {"7", "490"}
    assert len(found.columns) == importance.MOST_COLUMNS and found.of == 500 and sum(predicted) < 3 * 20_000


def test_rows_of_a_group_are_drawn_together():
    x, y = planted()
    own = {"numbers": np.repeat(x[:60], 10, axis=0)}, np.repeat(y[:60], 10)
    args = linear(2, 0.5, 0.05), Scoring("regression"), "rmse", places("a", "b", "noise")
    apart, together = (permutation_importance(*args, Examples(*own, unit=unit)).columns[0] for unit in (None, np.arange(N) // 10))  # fmt: skip
    width = lambda one: one.interval[1] - one.interval[0]
    assert width(together) > 1.5 * width(apart)


def test_what_the_rows_cannot_give_is_none():
    x, y = planted()
    one_class = Examples({"numbers": x}, np.zeros(N, np.int64))
    predict = lambda part: probabilities(part.inputs["numbers"][:, 0])
    assert permutation_importance(predict, Scoring("classification", ["a", "b"]), "roc_auc", places("a", "b", "c"), one_class) is None  # fmt: skip
    assert (
        permutation_importance(linear(1, 1, 1), Scoring("regression"), "rmse", {}, Examples({"numbers": x}, y)) is None
    )
    assert permutation_importance(linear(1, 1, 1), Scoring("regression"), "rmse", places("a", "b", "c"), Examples({"numbers": x[:1]}, y[:1])) is None  # fmt: skip


# ---- columns of a file ----------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path):
    """A table with a number with gaps, a date, a category, a text, and noise; the date's year decides."""
    rng = np.random.default_rng(0)
    lines = ["gaps,when,kind,said,noise,y"]
    words = ["the sun is out", "it rains all day", "a cold wind blew", "snow fell at night"]
    for i in range(500):
        year, gap, kind = rng.integers(2010, 2020), rng.normal(), rng.choice(["u", "v"])
        y = year - 2015 + (kind == "u") * 2 + 0.2 * rng.normal()
        text = f"{words[rng.integers(4)]} in place {i} and more of it"
        lines.append(f"{'' if rng.random() < 0.2 else f'{gap:.3f}'},{year}-0{rng.integers(1, 10)}-1{rng.integers(0, 9)},{kind},{text},{rng.normal():.3f},{y:.3f}")  # fmt: skip
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_each_place_of_what_is_encoded_is_of_one_column(table):
    problem = load_problem(table, target="y")
    columns = problem.preprocessor.column_parts()
    assert set(columns) == {"gaps", "when", "kind", "said", "noise"}
    assert len(columns["gaps"]) == 2 and len(columns["when"]) >= 3 and {name for name, *_ in columns["said"]} == {"text", "text_weights"}  # fmt: skip
    of_inputs = [
        (name, 1, i) for name, array in problem.examples("train").inputs.items() for i in range(array.shape[1])
    ]
    assert sorted(place for parts in columns.values() for place in parts) == sorted(of_inputs)


def test_a_date_matters_as_one_column_with_the_same_bits_at_any_thread_count(table, tmp_path):
    problem = load_problem(table, target="y")
    values = {"epochs": 30, "hidden_sizes": [32], "folds": 0}
    training = session.start(problem, "mlp", values, tmp_path / "run")
    for _ in training.events():
        pass
    result = training.finish()
    assert result.importances.columns[0].name == "when" and result.importances.columns[0].mattered
    noise = next(one for one in result.importances.columns if one.name == "noise")
    assert noise.worse < result.importances.columns[0].worse / 4
    before = threads.compute_threads()
    try:
        found = []
        for count in (1, 2):
            threads.set_num_threads(count)
            found.append(training.evaluator.importance("rmse"))
    finally:
        threads.set_num_threads(before)
    assert found[0] == found[1] == result.importances
    assert "Inputs that mattered" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_of_a_series_each_column_with_its_window(tmp_path):
    rng = np.random.default_rng(0)
    drives, noise = rng.normal(size=(2, 401)).round(3)
    kind = rng.choice(["u", "v"], 401)
    value = np.append(0, drives[:-1] + (kind[:-1] == "u")) + 0.05 * rng.normal(size=401)
    days = np.arange("2020-01-01", "2021-02-05", dtype="datetime64[D]")[:401]
    rows = zip(days, value.round(3), drives, noise, kind, strict=False)
    (tmp_path / "s.csv").write_text(
        "day,value,drives,noise,kind\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    )
    problem = load_problem(str(tmp_path / "s.csv"), target="value", time_column="day")
    columns = problem.preprocessor.column_parts()
    places = sorted(place for parts in columns.values() for _, _, place in parts)
    assert set(columns) == {"value", "drives", "noise", "kind"} and places == list(range(len(problem.preprocessor.input_names())))  # fmt: skip
    training = session.start(problem, "lstm", {"epochs": 15, "hidden_sizes": [16]}, tmp_path / "run")
    for _ in training.events():
        pass
    training.restore_best()
    found = training.evaluator.importance("rmse")
    assert found.columns[0].name == "drives" and found.columns[0].mattered
    assert next(one for one in found.columns if one.name == "noise").worse < found.columns[0].worse / 4
