"""`predict` on a table in one file, in two, and row by row: the same answers, to the bit."""

import numpy as np
import pytest

from pellucid.inference.predictor import Predictor
from pellucid.runs import run as runs


@pytest.mark.parametrize("target", ["income", "city"])
def test_a_row_is_answered_alike_in_any_file(run, here, people, target):
    run("train", people, "--target", target, "--epochs", 2, "--hidden-sizes", "33,7", "--run-dir", "apart")
    lines = people.read_text().splitlines()
    head, rows = lines[0], lines[1:]
    parts = {"all": rows, "first": rows[:33], "rest": rows[33:], "one": rows[7:8]}
    for name, some in parts.items():
        (here / f"{name}.csv").write_text("\n".join([head, *some]) + "\n")

    said = {name: run("predict", "apart", f"{name}.csv").stdout.splitlines()[1:] for name in parts}
    assert said["first"] + said["rest"] == said["all"] and said["one"] == said["all"][7:8]

    trained = Predictor(runs.load_run(here / "apart"))
    output = {name: trained.predict([f"{name}.csv"]).output for name in parts}
    assert np.concatenate([output["first"], output["rest"]]).tobytes() == output["all"].tobytes()
    assert output["one"].tobytes() == output["all"][7:8].tobytes()


def test_a_summary_reads_every_kind_of_column(run, here):
    """Numbers scaled by quantiles, which the linear start reads twice, categories and text."""
    words = ("good", "poor", "fine", "bad", "slow", "quick", "loud", "calm", "warm", "cold")
    texts = [
        f"{words[i % 10]} {words[i * 7 % 9]} {words[i * 3 % 8]} and {words[i * 5 % 7]} thing {i}" for i in range(200)
    ]
    rows = [f"{2.0 ** (i % 23 - 5):.4f},{'abc'[i % 3]},{texts[i]},{'yes' if i % 2 else 'no'}" for i in range(200)]
    (here / "all.csv").write_text("size,kind,said,y\n" + "\n".join(rows) + "\n")
    run("train", "all.csv", "--target", "y", "--epochs", 1, "--quiet", "--eager", "--set", "folds=0")
    lines = run("summary", "last").stdout.splitlines()
    for layer in ("embeddings.numbers", "embeddings.categories.table", "embeddings.text.table", "linear_start"):
        assert any(line.startswith(layer) for line in lines), layer
