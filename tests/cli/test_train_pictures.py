"""Pictures from the command line: trained on, scored, predicted for, reported."""

import base64
import csv
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from pellucid.data.image import image_set
from pellucid.data.image.decode import as_seen, read_pixels
from pellucid.inference.predictor import Predictor
from pellucid.runs import run as runs

COLOURS = ("blue", "green", "red")


@pytest.fixture
def folder(here):
    """Noise in which one colour is a little stronger; mixed sizes and formats."""
    chance = np.random.default_rng(0)
    for c, name in enumerate(COLOURS):
        (here / "tints" / name).mkdir(parents=True)
        for i in range(30):
            array = chance.integers(0, 150, (*chance.integers(16, 30, 2), 3)).astype(np.uint8)
            array[:, :, 2 - c] += 80
            Image.fromarray(array).save(here / "tints" / name / f"{i}.{('png', 'jpg', 'bmp')[i % 3]}")
    return here / "tints"


NAMES = ("tints", "--model", "cnn", "--epochs", 1, "--quiet", "--eager", "--set", "channels=4,4", "--set", "depth=1")


def train(run, *words):
    return run(
        "train",
        *words,
        "--model",
        "mlp",
        "--epochs",
        3,
        "--eager",
        "--quiet",
        "--batch-size",
        16,
        "--hidden-sizes",
        "8",
    )


def test_a_folder_end_to_end(run, folder, here):
    result = train(run, "tints")
    assert re.match(
        r"test    \d+\.\d% \(\d+ of \d+, .*\n(.*\n)*next    pellucid explain tints-mlp-1 --example", result.stdout
    )
    report = (here / "runs/tints-mlp-1/report.html").read_text()
    drawn = re.findall(r'src="data:image/png;base64,([^"]*)"', report)
    shown = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in drawn]
    assert shown and all(image.shape == (16, 16, 3) for image in shown)  # tiles, in colour
    files = re.findall(r"<small>((?:blue|green|red)/\d+\.\w+)</small>", report)
    own = Predictor(runs.find_run("last")).predict_test()
    assert len(files) == len(shown)
    for name, image in zip(files, shown, strict=True):
        np.testing.assert_array_equal(image, as_seen(read_pixels(folder / name, name, (3, 16, 16))))
        assert name in own.names

    own = json.loads(run("evaluate", "last", "--json").stdout)
    assert own["n"] == 14 and own["accuracy"] >= 0.8
    other = run("evaluate", "last", "tints")
    assert "on tints" in other.stdout and "note: tints is what tints-mlp-1 was trained on" in other.stderr

    shutil.rmtree(folder / "red")
    (folder / "blue" / "bad.png").write_bytes(b"no")
    result = run("predict", "last", "tints", "--out", "answers.csv")
    assert "note: file: pictures that cannot be read: tints/blue/bad.png\n" in result.stderr
    rows = list(csv.DictReader((here / "answers.csv").read_text().splitlines()))
    assert [row["picture"] for row in rows[:2]] == ["tints/blue/0.png", "tints/blue/1.jpg"] and len(rows) == 60
    assert np.mean([row["prediction"] in row["picture"] for row in rows]) > 0.8
    assert abs(sum(float(rows[0][f"probability {name}"]) for name in COLOURS) - 1) < 1e-4
    result = run("predict", "last", "tints/blue/0.png", "--preview")
    assert result.stdout.startswith("tints/blue/0.png: ") and "read as 16x16" in result.stderr
    assert json.loads(run("evaluate", "last", "tints", "--json").stdout)["n"] == 60


def test_an_archive_is_trained_on_scored_and_predicted_for_like_the_folder(run, folder, here):
    shutil.make_archive("tints", "gztar", ".", "tints")
    train(run, "tints.tar.gz", "--image-size", 8)
    config = json.loads((here / "runs/tints-mlp-1/config.json").read_text())
    assert config["kind"] == "image" and runs.find_run("last").preprocessor().input_spec().size == (3, 8, 8)
    by_archive, by_folder = (
        json.loads(run("evaluate", "last", data, "--json").stdout) for data in ("tints.tar.gz", "tints")
    )
    assert by_archive["n"] == by_folder["n"] == 90 and by_archive["accuracy"] == by_folder["accuracy"]
    predicted = run("predict", "last", "tints.tar.gz")
    assert len(predicted.stdout.splitlines()) == 10
    assert "80 more predictions are not shown; --out predictions.csv writes a table of all" in predicted.stderr


def test_more_pictures_than_memory_train_to_the_same_bits(run, folder, here, monkeypatch):
    words = ["--model", "mlp", "--epochs", 2, "--quiet", "--hidden-sizes", "8"]
    run("train", "tints", *words)
    monkeypatch.setattr(image_set, "MAX_MEMORY", 1000)
    run("train", "tints", *words)
    one, other = ((here / f"runs/tints-mlp-{k}/model.safetensors").read_bytes() for k in (1, 2))
    assert one == other
    run("train", "--resume", "last", "--epochs", 3, "--quiet")
    lazy = [run(command, "tints-mlp-1", "tints").stdout for command in ("evaluate", "predict")]
    assert isinstance(Predictor(runs.find_run("last")).predict(["tints"]).view.__self__.images, image_set.LazyImages)
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert lazy == [run(command, "tints-mlp-1", "tints").stdout for command in ("evaluate", "predict")]


def test_a_size_out_of_range_is_told_by_where_it_stands(run, folder, here):
    (here / "small.toml").write_text("image_size = 2\n")
    for words, said in (
        (("--image-size", 2), "pellucid train: --image-size: 2; expected pixels a side"),
        (("--config", "small.toml"), "pellucid train: small.toml: image_size: 2; expected pixels a side"),
        (("--set", "image_size=2"), "pellucid train: --set image_size: 2; expected pixels a side"),
        (("--set", "lookback=3"), "pellucid train: --set lookback: tints holds images"),
    ):
        assert said in run("train", "tints", *words, code=2).stderr


def test_more_pictures_than_memory_are_drawn_and_judged_to_the_same_scores(run, folder, here, monkeypatch):
    small = [f"--set={name}=2" for name in ("width", "critic_width", "latent")]
    words = ["train", "tints", "--model", "gan", "--epochs", 1, "--quiet", "--eager", "--image-size", 8, *small]
    for most in (image_set.MAX_MEMORY, 100):
        monkeypatch.setattr(image_set, "MAX_MEMORY", most)
        run(*words)
    one, other = (
        json.loads((here / f"runs/tints-gan-{k}/metrics.jsonl").read_text().splitlines()[-1])["test"]["scores"]
        for k in (1, 2)
    )
    for scores in (one, other):
        assert scores.pop("images_per_second") > 0
    assert one == other and one["frechet"] > 0
    run("train", *NAMES, "--image-size", 8)
    assert "conditional_accuracy" in run("evaluate", "tints-gan-1").stdout


def test_what_pictures_cannot_be_used_for(run, folder, here, people):
    train(run, "tints")
    (here / "one" / "red").mkdir(parents=True)
    (here / "one" / "red" / "bad.png").write_bytes(b"no")
    (folder / "blue").rename(folder / "bleu")
    for words, message in (
        (("evaluate", "last", "tints"), "of the class 'bleu', never seen in training; expected blue, green, red"),
        (("evaluate", "last", "people.csv"), "one file; expected a folder or archive of pictures"),
        (
            ("evaluate", "last", "digits"),
            "digits: images 8x8, 10 classes; expected images 3x16x16 with the classes blue, green, red",
        ),
        (("evaluate", "last", "nowhere"), "no such file"),
        (
            ("evaluate", "last", "one"),
            "one: 1 of 1 pictures cannot be read: red/bad.png; expected at most 1% of them",
        ),
        (("predict", "last", "tints/red/0.png", "nowhere.png"), "nowhere.png: no such file"),
        (("predict", "last", "people.csv"), "not a picture that can be read"),
        (("predict", "last", "runs"), "no pictures in it that can be read"),
        (("train", "people.csv", "--target", "income", "--image-size", 8), "--image-size: people.csv holds a table"),
        (("train", "tints", "--target", "red"), "--target red: tints holds pictures and no table"),
    ):
        assert message in run(*words, code=2).stderr
