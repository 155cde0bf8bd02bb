"""Bad input: one clear line with file and row or option, exit code 2, and nothing overwritten."""

import errno
import gzip
import json
import os
import re
from pathlib import Path

import pytest

QUICK = ("--epochs", 2, "--hidden-sizes", 8, "--quiet")


ROWS = "age,city,income\n" + "".join(
    f"{20 + i},{'Rome' if i % 3 else 'Oslo'},{'yes' if i % 2 else 'no'}\n" for i in range(30)
)


def refused(run, *words):
    """The one line that the command says before it exits with code 2, leaving no run behind."""
    result = run(*words, code=2)
    lines = [line for line in result.stderr.splitlines() if line.startswith("pellucid")]
    assert len(lines) == 1, result.stderr
    assert not Path("runs").exists() or not any(Path("runs").iterdir())
    return lines[0]


TABLES = {
    "empty file": (b"", "people.csv", "empty"),
    "only a header": (b"age,income\n", "people.csv", "row"),
    "ragged rows": (ROWS.encode() + b"1,2\n", "people.csv", "32"),
    "a NUL byte": (ROWS.encode() + b"3,\0Rome,yes\n", "people.csv", "line 32.*NUL"),
    "an unknown alphabet": (
        ROWS.replace("Oslo", "Москва").encode("cp1251"),
        "people.csv",
        "line 2.*--read encoding=cp1251",
    ),
    "1e400": (ROWS.replace("25,", "1e400,").encode(), "people.csv", "1e400"),
    "a one-class target": (ROWS.replace("no\n", "yes\n").encode(), "income", "yes"),
    "an all-missing target": (ROWS.replace("yes\n", "?\n").replace("no\n", "\n").encode(), "income", "missing"),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_that_cannot_be_read(run, here, case):
    content, named, words = TABLES[case]
    (here / "people.csv").write_bytes(content)
    line = refused(run, "train", "people.csv", "--target", "income", *QUICK)
    assert named in line
    assert re.search(words, line), line


def test_an_all_missing_column_can_be_dropped(run, here):
    (here / "people.csv").write_text(ROWS.replace(",Rome,", ",?,").replace(",Oslo,", ",,"), encoding="utf-8")
    line = refused(run, "train", "people.csv", "--target", "income", *QUICK)
    assert "city" in line and "--drop city" in line
    run("train", "people.csv", "--target", "income", "--drop", "city", *QUICK)


ARGUMENTS = {
    "an address": (
        ["train", "https://github.com/a/b/blob/main/x.csv"],
        "curl -L -o x.csv 'https://raw.githubusercontent.com/a/b/main/x.csv'",
    ),
    "a misspelt way to read": (
        ["train", "people.csv", "--read", "decmal=,"],
        "--read decmal=,.*Did you mean 'decimal'",
    ),
    "a missing file": (["train", "poeple.csv"], "poeple.csv.*people.csv"),
    "a wrong target": (["train", "people.csv", "--target", "incom"], "--target incom.*Did you mean 'income'"),
    "a target number": (["train", "people.csv", "--target", 9], "--target 9"),
    "an empty directory": (["train", "empty"], "empty"),
    "an unknown name": (["train", "mnits"], "Did you mean 'mnist'"),
    "an unknown command": (["trian", "digits"], "no such command: 'trian'. Did you mean 'train'"),
    "an unknown option": (["train", "digits", "--epoch", 3], "no such option: --epoch. Did you mean '--epochs'"),
    "no data": (["train"], "missing argument DATA: a data set"),
    "a negative rate": (["train", "digits", "--lr", -1], "--lr: -1.0; expected a number above 0"),
    "a rate in words": (["train", "digits", "--lr", "fast"], "--lr: 'fast'; expected a number"),
    "an empty layer": (["train", "digits", "--hidden-sizes", 0], "--hidden-sizes: '0'; expected whole numbers from 1"),
    "no epochs": (["train", "digits", "--epochs", 0], "--epochs: '0'; expected a whole number from 1"),
    "dropout of all": (["train", "digits", "--dropout", 1], "--dropout: 1.0"),
    "an unknown activation": (["train", "digits", "--activation", "rely"], "--activation: 'rely'.*Did you mean 'relu'"),
    "an unknown optimizer": (
        ["train", "digits", "--optimizer", "adamww"],
        "--optimizer: 'adamww'.*Did you mean 'adamw'",
    ),
    "an unknown model": (["train", "digits", "--model", "mpl"], "--model: 'mpl'.*Did you mean 'mlp'"),
    "an unknown task": (["train", "people.csv", "--task", "regresion"], "regresion"),
    "an out that is there": (["train", "digits", "--run-dir", "empty"], "--run-dir empty: exists already"),
    "a missing config": (["train", "digits", "--config", "no.toml"], "no.toml: no such file"),
    "a misspelt setting": (
        ["train", "digits", "--config", "bad.toml"],
        "bad.toml: epoch: no such setting.*Did you mean 'epochs'",
    ),
    "a setting without a value": (["train", "digits", "--set", "lr"], "--set lr: no NAME=VALUE"),
    "a setting of another family": (
        ["train", "digits", "--model", "cnn", "--set", "layer=3"],
        "--set layer: no such setting of cnn; expected one of ",
    ),
    "a setting of another kind": (
        ["train", "digits", "--model", "cnn", "--set", "flip=yes"],
        "--set flip: 'yes' is a str; expected true or false; write false",
    ),
    "too large a patch": (
        ["train", "digits", "--model", "cnn", "--set", "whiten=9"],
        "--set whiten: 9; .*at most the 8 pixels",
    ),
    "a family for other data": (["train", "digits", "--model", "lstm"], "--model: lstm learns from text, series"),
    "a recipe that is none": (
        ["train", "digits", "--config", "cnn-imag"],
        "cnn-imag: no such file; .*Did you mean 'cnn-image'",
    ),
    "a recipe for other data": (
        ["train", "people.csv", "--target", "income", "--config", "cnn-image"],
        "cnn-image: model: cnn learns from image, the data are of kind table",
    ),
    "a layer to freeze that is none": (
        ["train", "digits", "--model", "cnn", "--freeze", "stage.0"],
        "--freeze: 'stage.0'; expected the path of a layer.*Did you mean 'stages.0'",
    ),
    "no layer to freeze": (["train", "digits", "--freeze", ","], "--freeze: ','; expected names of layers"),
    "everything frozen": (
        ["train", "digits", "--model", "cnn", "--freeze", "stages,head"],
        "--freeze: stages, head leaves nothing to train",
    ),
    "beginning from nothing": (["train", "digits", "--init-from", "nothing"], "nothing: no such run"),
    "a judge of a table": (["train", "people.csv", "--feature-network", "nothing"], "nothing: no such run"),
    "too short a text": (["train", "short.txt"], "short.txt: 15 characters; expected 1,000 at least"),
    "too wide a window": (
        ["train", "long.txt", "--set", "context_length=5000"],
        "text: 1,600 tokens to learn from; .*--set context_length=160",
    ),
    "too narrow a window": (
        ["train", "long.txt", "--line-by-line", "--set", "context_length=8"],
        "--set context_length: 8; expected at least 10, the tokens of the longest line; write --set context_length=10",
    ),
    "lines of a table": (
        ["train", "people.csv", "--target", "income", "--line-by-line"],
        "--target: people.csv holds text",
    ),
    "lines of images": (
        ["train", "digits", "--line-by-line"],
        "--line-by-line: digits holds images, .*expected a text",
    ),
    "lines by number": (
        ["train", "long.txt", "--set", "line_by_line=3"],
        "--set line_by_line: 3 is a int; expected a bool",
    ),
    "a column by half": (
        ["train", "people.csv", "--set", "target=2.5"],
        "--set target: 2.5 is a float; expected a str or int",
    ),
    "a seed in words": (
        ["train", "digits", "--set", "seed=x"],
        "--set seed: 'x' is a str; expected a whole number; write 0",
    ),
    "a seed below 0": (["train", "digits", "--set", "seed=-1"], "--set seed: -1; expected 0 or more"),
    "a model by number": (["train", "digits", "--set", "model=3"], "--set model: '3' is unknown"),
    "a beginning beside resume": (
        ["train", "--resume", "x", "--init-from", "y"],
        "--init-from cannot be combined with it",
    ),
    "settings beside resume": (["train", "--resume", "x", "--set", "lr=1"], "--set cannot be combined with it"),
    "no such run": (["summary", "nothing"], "nothing: no such run"),
    "options beside resume": (["train", "--resume", "x", "--lr", 1], "--lr cannot be combined with it"),
    "data beside resume": (["train", "digits", "--resume", "x"], "DATA .digits. cannot be combined with it"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments_that_cannot_be_used(run, people, here, case):
    words, expected = ARGUMENTS[case]
    (here / "empty").mkdir()
    (here / "bad.toml").write_text("epoch = 3\n", encoding="utf-8")
    (here / "short.txt").write_text("not much to say", encoding="utf-8")
    (here / "long.txt").write_text("so it was\n" * 200, encoding="utf-8")
    line = refused(run, *words)
    assert re.search(expected, line), line


def test_a_label_of_the_test_file_that_training_never_saw(run, people, here, write_people):
    write_people(here / "test.csv", label=lambda y: "yes." if y else "no.")
    line = refused(run, "train", people, "--target", "income", "--test-data", "test.csv", *QUICK)
    assert "test.csv" in line and "yes." in line and "--strip-label ." in line
    run("train", people, "--target", "income", "--test-data", "test.csv", "--strip-label", ".", *QUICK)


def test_a_gzip_file_cut_short(run, here, monkeypatch):
    folder = here / "data" / "mnist"
    folder.mkdir(parents=True)
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{part}-ubyte.gz").write_bytes(gzip.compress(bytes(1000))[:20])
    monkeypatch.setenv("PELLUCID_DATA", str(here / "data"))
    assert "ubyte.gz" in refused(run, "train", "mnist", *QUICK)


@pytest.fixture
def a_run(run, people):
    run("train", people, "--target", "income", *QUICK)
    return Path("runs/people-mlp-1")


def changed(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def says(run, *words):
    return run(*words, code=2).stderr


@pytest.mark.parametrize("command", ["evaluate", "summary"])
def test_runs_that_cannot_be_used(run, a_run, command):
    weights = (a_run / "model.safetensors").read_bytes()
    (a_run / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    assert "not a whole safetensors file" in says(run, command, "last")
    (a_run / "model.safetensors").write_bytes(weights)
    changed(a_run, network={**json.loads((a_run / "config.json").read_text())["network"], "hidden_sizes": [9]})
    assert "config.json: network: changed since pellucid wrote it" in says(run, command, "last")
    changed(a_run, format=99)
    assert "format 99" in says(run, command, "last")


def test_resuming_after_the_data_changed(run, a_run, people):
    with open(people, "a", encoding="utf-8") as file:
        file.write("30,Rome,20,no\n")
    assert "data have changed" in says(run, "train", "--resume", "last")


def test_resuming_from_a_damaged_checkpoint(run, a_run):
    path = a_run / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    assert "not a whole safetensors file" in says(run, "train", "--resume", "last")


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "no permission")])
def test_a_disk_that_fails_while_training(run, people, monkeypatch, code, words):
    def fail(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    assert words in says(run, "train", people, "--target", "income", *QUICK)


def test_no_permission_to_make_the_run(run, people, monkeypatch):
    def fail(self, *arguments, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", fail)
    assert "runs: no permission to write here" in says(run, "train", people, "--target", "income", *QUICK)


def test_new_rows_without_a_column_that_the_network_reads(run, a_run, here):
    (here / "new.csv").write_text("age,hours\n30,40\n", encoding="utf-8")
    line = says(run, "predict", "last", "new.csv")
    assert "new.csv" in line and "city" in line


def test_predictions_do_not_overwrite_a_file(run, a_run, people):
    before = people.read_bytes()
    assert "people.csv" in says(run, "predict", "last", people, "--out", people)
    assert people.read_bytes() == before


def test_our_own_bug_is_one_line_and_a_saved_traceback(run, monkeypatch):
    from pellucid.runs import run as runs

    monkeypatch.setattr(runs, "folders", lambda: 1 / 0)
    result = run("runs", code=1)
    path = Path(result.stderr.strip().rsplit(" ", 1)[1])
    assert "ZeroDivisionError" in path.read_text(encoding="utf-8")
    path.unlink()
