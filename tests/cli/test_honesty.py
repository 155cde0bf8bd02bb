"""Scores that would flatter, and runs that are not what they seem, are said out loud."""

import csv
import os
import subprocess
import sys

from pellucid.runs import run as runs
from pellucid.serialization import load

QUICK = ("--epochs", 2, "--hidden-sizes", 8, "--quiet")


def test_a_file_the_run_was_trained_on_is_noted(run, people, here):
    run("train", people, "--target", "income", *QUICK)
    same = (here / "copy.csv").write_bytes(people.read_bytes()) and here / "copy.csv"
    assert "flatters" in run("evaluate", "last", people).stderr
    assert "flatters" in run("evaluate", "last", same).stderr
    assert run("evaluate", "last").stderr == ""


def test_a_table_is_not_its_own_test(run, people):
    assert (
        "holds the same bytes"
        in run("train", people, "--target", "income", "--test-data", people, *QUICK, code=2).stderr
    )


def test_a_run_that_is_not_finished_says_so(run, people, here):
    run("train", people, "--target", "income", *QUICK)
    log = here / "runs/people-mlp-1/metrics.jsonl"
    log.write_text("".join(line for line in log.read_text().splitlines(True) if '"test"' not in line))
    assert "not finished (2 of 2 epochs)" in run("evaluate", "last").stderr


def test_resuming_a_finished_run_says_that_nothing_is_left(run, people):
    run("train", people, "--target", "income", *QUICK)
    assert "is finished, after 2 of 2 epochs" in run("train", "--resume", "last", "--quiet").stderr


def test_a_ruined_network_answers_nothing(run, people, here):
    run("train", people, "--target", "income", *QUICK)
    weights = here / "runs/people-mlp-1/model.safetensors"
    ruined = {name: t * float("nan") if t.dtype.kind == "f" else t for name, t in load(weights).items()}
    runs.find_run("last").save_weights({name: t.array for name, t in ruined.items()})
    for command in ("predict", "evaluate"):
        words = [command, "last", people, *(["--out", "answers.csv"] if command == "predict" else [])]
        assert "gives NaN or infinity for 120 of 120 examples" in run(*words, code=3).stderr
    assert not (here / "answers.csv").exists()


def test_a_first_epoch_that_explodes_keeps_the_weights_it_began_with(run, people, here):
    run("train", people, "--target", "income", "--lr", "1e30", *QUICK, code=3)
    rows = list(csv.DictReader(run("predict", "last", people).stdout.splitlines()))
    assert all(0.2 < float(row["probability yes"]) < 0.8 for row in rows)


def test_one_name_to_drop_needs_no_list_in_a_config(run, people, here):
    (here / "run.toml").write_text('drop = "age"\n')
    notes = run("train", people, "--target", "income", "--config", "run.toml", "--epochs", 1).stderr
    assert "columns: 1 of numbers, 1 of categories" in notes


def test_a_reader_of_stderr_who_leaves_does_not_stop_the_training(people, here):
    words = [sys.executable, "-m", "pellucid", "train", people, "--target", "income", "--epochs", "3"]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, stderr=write, stdout=subprocess.PIPE, text=True, cwd=here)
    os.close(write)
    assert done.returncode == 0 and done.stdout.startswith("folds ")


def test_values_never_seen_in_training_are_noted(run, people, here):
    run("train", people, "--target", "income", *QUICK)
    (here / "new.csv").write_text("age,city,hours\n30,Rome,40\n40,Atlantis,20\n")
    for command in ("predict", "evaluate"):
        if command == "evaluate":
            (here / "new.csv").write_text("age,city,hours,income\n30,Rome,40,yes\n40,Atlantis,20,no\n")
        told = run(command, "last", "new.csv").stderr
        assert "columns: city: 1 of 2 rows hold values never seen in training, 'Atlantis' first" in told


def test_a_label_in_other_letters_is_recognised(run, people, here):
    run("train", people, "--target", "income", *QUICK)
    (here / "loud.csv").write_text("age,city,hours,income\n30,Rome,40,YES\n40,Oslo,20,NO\n")
    assert "Did you mean 'yes'?" in run("evaluate", "last", "loud.csv", code=2).stderr
