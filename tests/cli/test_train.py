"""`train`, and what can be done with the run it makes: scores, files, JSON, evaluate, predict, summary, runs."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

QUICK = ("--epochs", 2, "--hidden-sizes", 8, "--quiet")


def pellucid(*words, **more):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen([sys.executable, "-m", "pellucid", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env=environment, **more)  # fmt: skip


def wait_for_epochs(process, folder, epochs):
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        log = folder / "metrics.jsonl"
        if log.exists() and log.read_text().count("\n") >= epochs:
            return
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()


def test_digits_ends_with_four_lines_and_a_complete_run(run, here):
    result = run("train", "digits", "--epochs", 12)
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"test    9\d\.\d% \(2\d\d of 270, \d\d-\d\d\), .* than logistic regression 9\d\.\d%", lines[0])
    assert lines[1] == f"run     {Path('runs/digits-mlp-1')}"
    assert lines[2] == f"report  {Path('runs/digits-mlp-1/report.html')}"
    assert lines[3].startswith("next    pellucid ") and len(lines) == 4
    assert len([line for line in result.stderr.splitlines() if "/12  " in line]) == 12
    files = {path.name for path in (here / "runs/digits-mlp-1").iterdir()}
    assert files == {
        "model.safetensors",
        "config.json",
        "metrics.jsonl",
        "report.html",
        "checkpoint.safetensors",
        "snapshots",
    }
    assert "digits" in (here / "runs/digits-mlp-1/report.html").read_text(encoding="utf-8")


def test_pictures_are_brought_into_the_form_of_the_training_images(run, here):
    from PIL import Image
    from sklearn.datasets import load_digits

    run("train", "digits", "--epochs", 15, "--quiet")
    digits = load_digits()
    for i in range(10):  # large, in colour, dark on light paper, off the centre
        ink = Image.fromarray((digits.images[i] * 15).astype(np.uint8)).resize((120, 120), Image.Resampling.BICUBIC)
        paper = Image.new("RGB", (300, 260), (250, 245, 230))
        paper.paste((20, 20, 80), (100, 30), ink)
        paper.save(here / f"{i}.png")
    result = run("predict", "last", *(f"{i}.png" for i in range(10)), "--preview")
    said = [re.match(r"\d\.png: (\d) \(", line)[1] for line in result.stdout.splitlines()]
    assert sum(answer == str(i) for i, answer in enumerate(said)) >= 8, said
    assert "0.png, read as 8x8" in result.stderr and "@@" in result.stderr
    run("predict", "last", here, "--out", "answers.csv")
    with open(here / "answers.csv", newline="", encoding="utf-8") as file:
        assert [row["prediction"] for row in csv.DictReader(file)] == said


def test_a_table_end_to_end(run, people, here):
    report = run("train", people, "--target", "income", "--json", *QUICK)
    about = json.loads(report.stdout)
    assert about["run"] == str(Path("runs/people-mlp-1")) and about["task"] == "classification" and about["n"] == 18
    assert {"accuracy", "log_loss", "roc_auc", "seconds", "accuracy_95"} <= about.keys()
    assert (
        about["baseline"]["name"] in ("logistic_regression", "majority", "boosted_trees")
        and "accuracy" in about["baseline"]
    )
    again = json.loads(run("evaluate", "last", "--json").stdout)
    assert again["accuracy"] == about["accuracy"] and again["n"] == 18
    run("predict", "last", people, "--out", "answers.csv")
    with open(here / "answers.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120 and rows[0]["city"] in ("Rome", "Oslo", "Bath")
    assert set(rows[0]) == {"age", "city", "hours", "income", "prediction", "probability no", "probability yes"}
    assert all(abs(float(row["probability no"]) + float(row["probability yes"]) - 1) < 2e-4 for row in rows)
    assert "parameters" in run("summary", "last").stdout
    assert "people-mlp-1" in run("runs").stdout


def test_new_rows_need_no_target(run, people, here):
    run("train", people, "--target", "income", *QUICK)
    (here / "new.csv").write_text("hours,age,city\n40,?,Oslo\n12,20,Paris\n", encoding="utf-8")
    rows = list(csv.DictReader(run("predict", "last", "new.csv").stdout.splitlines()))
    assert [row["hours"] for row in rows] == ["40", "12"] and all(row["prediction"] in ("yes", "no") for row in rows)


def test_regression_reports_errors_in_the_targets_units(run, here, write_people):
    write_people(here / "people.csv", label=lambda y: 1000.5 if y else 20.25)
    about = json.loads(run("train", "people.csv", "--target", -1, "--task", "regression", "--json", *QUICK).stdout)
    assert about["task"] == "regression" and {"rmse", "mae", "r2"} <= about.keys()
    assert 50 < about["rmse"] < 1500 and about["baseline"]["name"] in ("mean", "ridge_regression", "boosted_trees")
    rows = list(csv.DictReader(run("predict", "last", "people.csv").stdout.splitlines()))
    assert all(-1000 < float(row["prediction"]) < 3000 for row in rows)


def test_a_config_file_gives_options_and_the_command_line_overrules_it(run, people, here):
    (here / "run.toml").write_text('target = "income"\nhidden_sizes = [5]\nepochs = 1\nlr = 0.01\n', encoding="utf-8")
    run("train", people, "--config", "run.toml", "--epochs", 2, "--quiet")
    config = json.loads((here / "runs/people-mlp-1/config.json").read_text(encoding="utf-8"))
    assert (
        config["network"]["hidden_sizes"] == [5]
        and config["settings"]["epochs"] == 2
        and config["settings"]["lr"] == 0.01
    )


def test_killed_at_any_moment_it_resumes_to_the_same_bits(here):
    words = ("train", "digits", "--epochs", 40, "--quiet", "--run-dir")
    whole = pellucid(*words, "whole")
    cut = pellucid(*words, "cut")
    wait_for_epochs(cut, here / "cut", 2)
    cut.kill()
    cut.communicate()
    again = pellucid("train", "--resume", "cut", "--quiet")
    wait_for_epochs(again, here / "cut", 5)
    again.send_signal(signal.SIGINT)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 130 and out == "", err
    assert "to continue: pellucid train --resume cut" in err
    last = pellucid("train", "--resume", "cut", "--json", "--quiet")
    out, err = last.communicate(timeout=60)
    assert last.returncode == 0, err
    assert whole.wait(timeout=60) == 0
    assert (here / "cut/model.safetensors").read_bytes() == (here / "whole/model.safetensors").read_bytes()
    epochs = [json.loads(line).get("epoch") for line in (here / "cut/metrics.jsonl").read_text().splitlines()]
    assert epochs == [*range(1, 41), None]


def test_killed_before_its_first_checkpoint_a_run_begins_again(run, people, here):
    run("train", people, "--target", "income", *QUICK)
    folder = here / "runs/people-mlp-1"
    weights = (folder / "model.safetensors").read_bytes()
    for name in ("checkpoint.safetensors", "model.safetensors", "report.html"):
        (folder / name).unlink()
    first = (folder / "metrics.jsonl").read_text().splitlines()[0]
    (folder / "metrics.jsonl").write_text(first + "\n")
    run("train", "--resume", "last", "--quiet")
    assert (folder / "model.safetensors").read_bytes() == weights
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3


def test_more_epochs_can_be_asked_of_a_finished_run(run, people, here):
    run("train", people, "--target", "income", *QUICK)
    assert json.loads(run("train", "--resume", "last", "--epochs", 4, "--json", "--quiet").stdout)["epochs"] == 4
    assert "expected --epochs" in run("train", "--resume", "last", "--epochs", 3, code=2).stderr
    assert json.loads((here / "runs/people-mlp-1/config.json").read_text())["settings"]["epochs"] == 4


def test_resuming_under_another_thread_count_warns(run, people):
    run("train", people, "--target", "income", "--num-threads", 1, *QUICK)
    assert "started with 1 threads" in run("train", "--resume", "last", "--num-threads", 2, "--quiet").stderr


def test_a_loss_that_explodes_exits_with_3_and_keeps_weights(run, people, here):
    words = ("train", people, "--target", "income", "--lr", "1e38", "--optimizer", "sgd", "--epochs", 3, "--quiet")
    result = run(*words, code=3)
    assert re.search(r"step \d+ \(.*epoch \d\): BaggedMLP\.(layers|parts)\.", result.stderr)
    assert (here / "runs/people-mlp-1/model.safetensors").exists()
    assert run(*words, "--eager", code=3).stderr == result.stderr


def test_eager_and_compiled_train_the_same(run, here):
    results, histories = [], []
    for i, more in enumerate([(), ("--eager",)]):
        results.append(json.loads(run("train", "digits", "--epochs", 6, "--quiet", "--json", *more).stdout))
        lines = (here / f"runs/digits-mlp-{i + 1}/metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines[:-1]]
        histories.append([[r["train"]["loss"], r["validation"]["loss"], r["learning_rate"]] for r in records])
        config = json.loads((here / f"runs/digits-mlp-{i + 1}/config.json").read_text())
        assert config["settings"]["eager"] is bool(more)
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-3)
    assert abs(results[0]["correct"] - results[1]["correct"]) <= 2


def test_a_resumed_run_keeps_to_eager_or_compiled_steps(run, people, here):
    for eager in (True, False):
        run("train", people, "--target", "income", *QUICK, "--run-dir", f"{eager}", *(["--eager"] if eager else []))
        run("train", "--resume", f"{eager}", "--epochs", 3, "--quiet")
        path = here / f"{eager}/config.json"
        assert json.loads(path.read_text())["settings"]["eager"] is eager
    assert "expected only" in run("train", "--resume", "True", "--eager", code=2).stderr


def test_without_llvmlite_one_line_says_so_and_the_run_stays_eager(run, people, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    result = run("train", people, "--target", "income", *QUICK)
    assert result.stderr.splitlines() == [
        "note: not compiled, so it runs operation by operation, more slowly: llvmlite is not installed; pip install llvmlite"
    ]
    assert json.loads((here / "runs/people-mlp-1/config.json").read_text())["settings"]["eager"] is True


@pytest.mark.parametrize("words", [[], ["--help"], ["train", "--help"], ["predict", "-h"], ["--version"]])
def test_help(run, words):
    assert "pellucid" in run(*words).stdout
