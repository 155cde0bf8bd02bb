"""`train --ensemble N`: several networks as one run; their mean is the answer, their spread stands beside it."""

import csv
import json
import shutil

import numpy as np
import pytest

from pellucid.inference.predictor import Predictor
from pellucid.models import build_network
from pellucid.runs import run as runs

QUICK = ("--quiet", "--eager", "--epochs", 2, "--hidden-sizes", "4")


@pytest.fixture
def tides(here):
    lines = [f"2024-01-{1 + i // 24:02} {i % 24:02}:00,{np.sin(i / 4) + i / 99:.4f}" for i in range(240)]
    path = here / "tides.csv"
    path.write_text("\n".join(["time,level", *lines]) + "\n")
    return path


def members(name, predictions):
    """What each network of a run answers alone, from its own folder."""
    found = []
    for folder in sorted((runs.RUNS_DIR / name / "members").iterdir()):
        one = Predictor(runs.load_run(folder))
        found.append(one._forward(predictions.inputs))
    return np.array(found)


@pytest.mark.parametrize("target", ["income", "hours", "kinds", "visits", "range"])
def test_an_ensemble_answers_by_the_mean_of_its_networks_and_tells_their_spread(run, people, here, target):
    rows = list(csv.DictReader(people.read_text().splitlines()))
    for i, row in enumerate(rows):
        row["kinds"] = ["news", "sport", "news; sport", "art"][i % 4]
        row["visits"] = str(i % 5)
    with open(people, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    more = {"visits": ("--task", "counts"), "range": ("--interval", 0.8)}.get(target, ())
    run("train", people, "--target", "hours" if target == "range" else target, *more, "--ensemble", 3, *QUICK)
    predictor = Predictor(runs.find_run("people-mlp-1"))
    together = predictor.predict([str(people)])
    singly = members("people-mlp-1", together)
    assert singly.shape[0] == 3 and (singly.std(0) > 0).any(), "the networks have seeds of their own"
    middle = (slice(None), 1) if target == "range" else ()
    if target != "range":  # quantiles that cross are put in order after the mean is taken
        np.testing.assert_allclose(together.output, singly.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together.spread[middle], singly.std(0, ddof=1)[middle], rtol=1e-4, atol=1e-6)
    printed = run("predict", "last", people).stdout.splitlines()
    first = next(csv.DictReader(printed))
    name, k = (
        ("spread", middle[1:] or ())
        if predictor.classes is None
        else (f"spread {predictor.classes[-1]}", (len(predictor.classes) - 1,))
    )
    assert float(first[name]) == pytest.approx(float(together.spread[(0, *k)]), rel=1e-3, abs=1e-6)


def test_the_line_of_an_ensemble_compares_it_with_each_network_on_validation(run, people):
    one_part = ("--set", "bag_folds=0", "--set", "linear_start=false")  # rows that no network of a member learned
    about = json.loads(run("train", people, "--target", "income", "--ensemble", 3, "--json", *QUICK, *one_part).stdout)
    told, trained = about["ensemble"], runs.find_run("last")
    problem = trained.load_problem()
    network = trained.network()
    rows = problem.examples("validation")
    answers = members("people-mlp-1", type("", (), {"inputs": rows.inputs}))
    losses = -np.log(answers[:, np.arange(len(rows)), rows.target])  # (3, rows)
    assert [one["loss"] for one in told["singly"]] == pytest.approx(losses.mean(1).tolist(), rel=1e-4)
    right = answers.mean(0)[np.arange(len(rows)), rows.target]
    assert told["together"]["loss"] == pytest.approx(float(-np.log(right).mean()), rel=1e-4)
    named = answers.argmax(-1)
    assert told["disagreement"] == pytest.approx(float((named != named[0]).any(0).mean()))
    assert len(network.members) == 3
    line = next(note for note in about["notes"] if note.startswith("ensemble: "))
    assert f"loss {told['together']['loss']:.4g} (each alone" in line and "the 3 networks disagree on" in line


def test_an_ensemble_that_was_stopped_goes_on_to_the_same_bits(run, people, here):
    quick = (*QUICK, "--target", "income", "--ensemble", 2)
    run("train", people, *quick)
    whole = runs.find_run("people-mlp-1")
    stopped = here / "runs" / "people-mlp-2"
    shutil.copytree(whole.folder, stopped)
    for name in ("model.safetensors", "metrics.jsonl", "report.html"):
        (stopped / name).unlink()
    for name in ("config.json", "checkpoint.safetensors", "model.safetensors", "metrics.jsonl"):  # a kill in between
        (stopped / "members" / "2" / name).unlink()
    assert "stopped after 0 of 2 networks" in run("runs").stdout
    assert "trained all of its networks" in run("predict", "people-mlp-2", people, code=2).stderr
    run("train", "--resume", "people-mlp-2", "--quiet")
    assert (stopped / "model.safetensors").read_bytes() == whole.weights.read_bytes()
    old, new = whole.result(), runs.find_run("people-mlp-2").result()
    assert new.test == old.test and new.best_epoch == old.best_epoch
    run("train", "--resume", "people-mlp-2", "--quiet", "--epochs", 3)
    assert len(runs.find_run("people-mlp-2").history()) == 3
    assert all(len(runs.load_run(stopped / "members" / k).history()) == 3 for k in "12")


def test_an_ensemble_with_another_seed_shares_no_network(run, people):
    seeds = []
    for seed in (0, 1):
        run("train", people, "--target", "income", "--ensemble", 2, "--seed", seed, *QUICK)
        folder = runs.find_run(f"people-mlp-{seed + 1}").members
        seeds += [runs.load_run(folder / k).config.settings.seed for k in "12"]
    assert seeds == [0, 1, 2, 3]


def test_forecasts_of_an_ensemble_have_a_spread(run, tides):
    run(
        "train",
        tides,
        "--target",
        "level",
        "--time-column",
        "time",
        "--lookback",
        12,
        "--ensemble",
        2,
        "--set",
        "cell=gru",
        *QUICK,
    )
    rows = json.loads(run("predict", "last", "--horizon", 3, "--json").stdout)["predictions"]
    singly = [
        json.loads(run("predict", f"runs/tides-lstm-1/members/{k}", "--horizon", 3, "--json").stdout) for k in "12"
    ]
    values = np.array([[row["prediction"] for row in one["predictions"]] for one in singly])
    assert [row["spread"] for row in rows] == pytest.approx(values.std(0, ddof=1).tolist(), rel=1e-4)
    assert rows[0]["prediction"] == pytest.approx(values.mean(0)[0], rel=1e-5)


def test_an_ensemble_of_convolutions_says_how_sure_each_class_is(run, here):
    from PIL import Image

    chance = np.random.default_rng(0)
    for name in ("dark", "light"):
        (here / "shades" / name).mkdir(parents=True)
        for i in range(20):
            pixels = chance.integers(0, 128, (8, 8)) + 127 * (name == "light")
            Image.fromarray(pixels.astype(np.uint8)).save(here / "shades" / name / f"{i}.png")
    run(
        "train",
        "shades",
        "--model",
        "cnn",
        "--ensemble",
        2,
        "--quiet",
        "--eager",
        "--epochs",
        1,
        "--set",
        "channels=4,4",
    )
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(here / "line.png")
    assert " ± " in run("predict", "last", "line.png").stdout
    row = json.loads(run("predict", "last", "line.png", "--json").stdout)["predictions"][0]
    assert row["spread"].keys() == row["probabilities"].keys() and max(row["spread"].values()) > 0


def test_networks_that_write_or_draw_make_no_ensemble(run, story):
    for words in (("story.txt",), ("digits", "--model", "gan")):
        said = run("train", *words, "--ensemble", 2, "--quiet", code=2).stderr
        assert "--ensemble: 2 networks whose mean is the answer" in said and "leave it out" in said
    assert not runs.RUNS_DIR.exists()


@pytest.mark.parametrize("count", ["0", "-1", "two", "runs/x"])
def test_an_ensemble_takes_a_number(run, people, count):
    assert "--ensemble: " in run("train", people, "--target", "income", "--ensemble", count, code=2).stderr


def test_the_old_ensemble_of_evaluate_says_its_new_name(run):
    said = run("evaluate", "a", "--ensemble", "b", code=2).stderr
    assert "no such option: --ensemble; it is called --average-with; write --average-with" in said


def test_an_ensemble_is_no_start_for_one_network_but_its_members_are(run, people):
    quick = ("--target", "income", *QUICK)
    run("train", people, "--ensemble", 2, *quick)
    said = run("train", people, "--init-from", "people-mlp-1", "--target", "income", "--quiet", code=2).stderr
    assert "an ensemble of 2 networks; expected one network" in said and "members" in said
    run("train", people, "--init-from", "runs/people-mlp-1/members/1", "--target", "income", "--quiet", "--eager", "--epochs", 1)  # fmt: skip


def test_a_wide_mean_of_logits_is_no_overflow():
    """Probabilities of 0 and 1 have a mean of one half: as logits, whatever their size."""
    from pellucid.creation import tensor
    from pellucid.data.input_spec import ImageSpec
    from pellucid.models import mlp

    network = build_network("mlp", ImageSpec((1, 2, 2)), 2, "classification", mlp.Config(), 2)
    y = tensor(np.array([[[500.0, -500.0], [-500.0, 500.0]]], np.float32))  # (1, 2 members, 2 classes)
    for task in ("classification", "multilabel"):
        network.task = task
        logits = network._together(y).array
        assert np.isfinite(logits).all() and np.allclose(logits[0, 0], logits[0, 1])
