"""Scores that would flatter, and runs that are not what they seem, are said out loud."""

import csv
import os
import random
import subprocess
import sys

import pytest

from pellucid.data.datasets import find
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
    run("train", people, "--target", "income", "--lr", "1e30", "--set", "linear_start=false", *QUICK, code=3)
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
    assert done.returncode == 0 and "\nfolds " in done.stdout


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


def _patients(path, groups=12, seed=0):
    """20 rows of each patient; the rows of one are alike."""
    chance = random.Random(seed)
    lines = ["patient,a,b,y"]
    for patient in range(groups):
        middle = chance.gauss(0, 1)
        for _ in range(20):
            a, b = middle + chance.gauss(0, 1), chance.gauss(0, 1)
            lines.append(f"P{patient},{a:.4f},{b:.4f},{'yes' if a + chance.gauss(0, 1) > 0 else 'no'}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_scores_of_groups_say_so_and_rows_of_training_are_told(run, here):
    path = _patients(here / "all.csv")
    told = run("train", path, "--target", "y", "--group", "patient", "--set", "folds=0", *QUICK).stdout
    assert "rows in 2 groups" in told
    own = run("evaluate", "last")
    (here / "some.csv").write_text("\n".join(path.read_text().splitlines()[::2]) + "\n")
    told = run("evaluate", "last", "some.csv")
    assert "rows in 12 groups" in told.stdout
    note = next(line for line in told.stderr.splitlines() if "rows: " in line)
    count = int(note.split("rows: ")[1].split()[0])
    assert (
        f"rows: {count} of 120 are rows of training, so this score flatters; on the others" in note
        and 70 <= count < 120
    )
    whole = run("evaluate", "last", path).stderr
    assert f"on the others {own.stdout.split(': ')[1].splitlines()[0]}" in whole and whole.count("flatters") == 1
    _patients(here / "fresh.csv", seed=1)
    assert "flatters" not in run("evaluate", "last", "fresh.csv").stderr


def test_coarse_rows_are_no_rows_of_training(run, here):
    chance = random.Random(0)
    lines = [f"{chance.choice('ab')},{chance.choice('cde')},{chance.choice(['no', 'yes'])}" for _ in range(300)]
    (here / "a.csv").write_text("\n".join(["k,l,y", *lines[:200]]) + "\n")
    (here / "b.csv").write_text("\n".join(["k,l,y", *lines[200:]]) + "\n")
    run("train", "a.csv", "--target", "y", "--set", "folds=0", *QUICK)
    assert "flatters" not in run("evaluate", "last", "b.csv").stderr


@pytest.mark.skipif(not find("pima").at_hand, reason="pima is not here (PELLUCID_DATA)")
def test_a_named_set_is_scored_on_the_rows_that_the_run_held_back(run):
    run("train", "pima", "--group", "age", "--set", "folds=0", *QUICK)
    own, named = (run("evaluate", "last", *words).stdout for words in ([], ["pima"]))
    assert own.split(": ")[1].splitlines()[0] == named.split(": ")[1].splitlines()[0]
