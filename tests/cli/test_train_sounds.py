"""Sounds from the command line: trained on, scored, predicted for, reported."""

import base64
import csv
import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))  # made-up sounds
from sounds import KINDS, fill

from pellucid.data.load import load_problem
from pellucid.runs import run as runs


@pytest.fixture
def folder(here):
    return fill(here / "sounds", 24)


def test_a_folder_of_sounds_end_to_end(run, folder, here):
    result = run("train", "sounds/", "--epochs", 8, "--quiet")
    assert "next    pellucid explain sounds-cnn-1 --example" in result.stdout
    config = json.loads((here / "runs/sounds-cnn-1/config.json").read_text())
    assert (config["kind"], config["family"]) == ("audio", "cnn")
    assert runs.find_run("last").preprocessor().input_spec().size == (1, 64, 56)
    scores = json.loads(run("evaluate", "last", "--json").stdout)
    assert scores["n"] == 14 and scores["accuracy"] > 0.9

    report = (here / "runs/sounds-cnn-1/report.html").read_text()
    shown = [
        Image.open(io.BytesIO(base64.b64decode(one)))
        for one in re.findall(r'src="data:image/png;base64,([^"]*)"', report)
    ]
    spectrograms = [np.asarray(image) for image in shown if image.size == (56, 64)]
    test = load_problem("sounds").test.inputs["image"][:, 0]
    files = re.findall(r"<small>((?:falling|noise|rising|tone)/\d+\.wav)</small>", report)
    assert spectrograms and len(files) == len(spectrograms)
    assert all((test == one).all((1, 2)).any() for one in spectrograms)
    assert "pellucid predict sounds-cnn-1 new.wav" in report

    fill(here / "new", 10, seed=9, rate=11_025, width=3, channels=2)
    (here / "new" / "tone" / "bad.wav").write_bytes(b"no")
    result = run("predict", "last", "new", "--out", "answers.csv")
    assert "note: file: sounds that cannot be read: new/tone/bad.wav" in result.stderr
    rows = list(csv.DictReader((here / "answers.csv").read_text().splitlines()))
    assert len(rows) == 40 and list(rows[0]) == ["sound", "prediction", *(f"probability {kind}" for kind in KINDS)]
    assert np.mean([row["prediction"] in row["sound"] for row in rows]) > 0.9
    result = run("predict", "last", "new/tone/00.wav", "--preview")
    assert result.stdout.startswith("new/tone/00.wav: tone (") and "read as 64x56" in result.stderr
    (here / "new" / "tone" / "bad.wav").unlink()
    other = json.loads(run("evaluate", "last", "new", "--json").stdout)
    assert other["n"] == 40 and other["accuracy"] > 0.9
    for words, message in (
        (("predict", "last", "answers.csv"), "answers.csv: not a WAV file"),
        (("predict", "last", "gone.wav"), "gone.wav: no such file"),
        (("predict", "last", "runs"), "runs: no sounds in it that can be read; expected WAV files"),
        (("evaluate", "last", "new/tone/00.wav"), "one file; expected a folder or archive of sounds"),
        (("evaluate", "last", "digits"), "digits: a data set of kind image; expected a folder of WAV files"),
    ):
        assert message in run(*words, code=2).stderr


def test_what_sounds_cannot_be_used_for(run, folder, here):
    for words, message in (
        (
            ("sounds", "--model", "gan"),
            "--model: gan learns from pixels, the data are of kind audio; expected one of mlp, cnn",
        ),
        (("sounds", "--seconds", 0), "--seconds: 0; expected 0.05 to 60"),
        (("sounds", "--set", "seconds=soon"), "seconds: 'soon' is a str; expected a int or float"),
        (("sounds/tone/00.wav",), "sounds/tone/00.wav: a sound; expected a table"),
    ):
        assert message in run("train", *words, code=2).stderr


def test_an_archive_of_sounds_is_the_folder_in_it(run, folder, here):
    shutil.make_archive("sounds", "zip", ".", "sounds")
    one, other = load_problem("sounds"), load_problem("sounds.zip")
    assert other.kind == "audio" and one.preprocessor == other.preprocessor
    np.testing.assert_array_equal(one.test.inputs["image"], other.test.inputs["image"])
