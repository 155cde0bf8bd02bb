"""Every family through `pellucid train`: that it learns with the compiled step, and that a killed run resumes to the same bits."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Kills its own process at the N-th checkpoint of a training, when the epoch is already logged and its picture drawn.
DYING = """
import os, signal, sys
from pellucid.training import session
save, left = session.save_checkpoint, [int(sys.argv[1])]
def dies(*arguments):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    save(*arguments)
session.save_checkpoint = dies
from pellucid.cli import cli
cli.main(sys.argv[2:])
"""
# What is trained, and with which of its settings beside --epochs 3; all but the Transformer eagerly, to save compiling.
FAMILIES = {
    "cnn": ("digits", "channels=4,4", "depth=1", "whiten=2", "dropout=0.1", "eager=true"),
    "gan": ("digits", "width=2", "critic_width=2", "latent=3", "ema_decay=0.5", "eager=true"),
    "diffusion": ("digits", "width=8", "depth=1", "sampling_steps=2", "ema_decay=0.5", "eager=true"),
    "transformer": ("story.txt", "num_layers=1", "num_heads=1", "d_model=8", "context_length=8", "dropout=0.1"),
    "lstm": ("story.txt", "hidden_sizes=6,5", "embedding_dim=4", "context_length=8", "dropout=0.1", "eager=true"),
}


def as_options(values):
    return [word for value in values for word in ("--set", value)]


def killed(words, at):
    """Run `pellucid WORDS` in a process of its own, until it kills itself at checkpoint number `at`."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", DYING, str(at), *map(str, words)], env=environment, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


def lines_of(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{name: value for name, value in line.items() if "second" not in name} for line in lines]


def same_lines(one, other):
    """Whether two logs are the same, but for how long it all took."""
    for line in [*one, *other]:
        line.get("test", {}).get("scores", {}).pop("images_per_second", None)
        line.pop("sha256")  # it covers the seconds
    return one == other


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize(
    ("family", "at"), [("cnn", 1), ("cnn", 2), ("gan", 2), ("diffusion", 2), ("transformer", 2), ("lstm", 2)]
)
def test_killed_between_log_and_checkpoint_it_resumes_to_the_same_bits(run, story, here, family, at):
    data, *values = FAMILIES[family]
    words = ["train", data, "--model", family, "--epochs", 3, "--quiet", *as_options(["steps_per_epoch=4", "batch_size=8", *values])]  # fmt: skip
    run(*words, "--run-dir", "whole")
    killed([*words, "--run-dir", "cut"], at)
    whole, cut = here / "whole", here / "cut"
    assert len(lines_of(cut)) == at and (cut / "checkpoint.safetensors").exists() == (at > 1)
    for picture in cut.glob(f"samples/epoch-{at:03}.png"):
        picture.write_bytes(b"half a picture")  # what was drawn after the checkpoint is drawn again
    run("train", "--resume", "cut", "--quiet")
    assert (cut / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert [line.get("epoch") for line in lines_of(cut)] == [1, 2, 3, None]
    assert same_lines(lines_of(cut), lines_of(whole))
    pictures = [{path.name: path.read_bytes() for path in folder.glob("samples/*")} for folder in (cut, whole)]
    assert pictures[0] == pictures[1] and len(pictures[0]) == (3 if family in ("gan", "diffusion") else 0)


# What is trained, with what, and the validation value that says it has learned: what chance has, and what is asked for.
LEARNS = {
    "mlp": ("digits", ["hidden_sizes=16", "epochs=8", "lr=0.01"], "loss", 2.3, 0.6),
    "cnn": ("digits", ["channels=8,16", "depth=1", "rotate=0", "zoom=0", "shift=1", "ema_decay=0.9", "lr=0.02", "epochs=8"],
            "loss", 2.3, 0.9),
    "gan": ("digits", ["width=8", "critic_width=8", "latent=16", "ema_decay=0.9", "lr=0.002", "epochs=8"], "loss", 0.8, 0.5),
    "diffusion": ("digits", ["width=8", "depth=1", "sampling_steps=4", "ema_decay=0.9", "lr=0.02", "epochs=20"], "loss", 1.4, 1.0),
    "transformer": ("story.txt", ["num_layers=1", "num_heads=2", "d_model=32", "context_length=16", "steps_per_epoch=40", "epochs=3", "lr=0.01"],
                    "nll_per_char", 2.7, 1.3),
    "lstm": ("story.txt", ["hidden_sizes=24", "context_length=24", "embedding_dim=8", "steps_per_epoch=40", "epochs=3", "lr=0.02", "ema_decay=0.9"],
             "nll_per_char", 2.7, 1.1),
}  # fmt: skip


@pytest.mark.parametrize("family", LEARNS)
def test_every_family_learns_with_the_compiled_step(run, story, here, family):
    data, values, name, chance, asked = LEARNS[family]
    result = run("train", data, "--model", family, "--run-dir", "made", *as_options(values))
    assert "not compiled" not in result.stderr
    *epochs, last = lines_of(here / "made")
    assert epochs[0]["validation"][name] < 1.1 * chance
    assert epochs[-1]["validation"][name] < asked
    assert json.loads((here / "made/config.json").read_text())["settings"]["eager"] is False
    report = (here / "made/report.html").read_text(encoding="utf-8")
    assert ("What it draws" in report) == (family in ("gan", "diffusion"))
    assert ("What it writes" in report) == (name == "nll_per_char")
    if family in ("gan", "diffusion"):
        assert last["test"]["scores"]["frechet"] > 0 and last["test"]["scores"]["nearest_train_distance"] > 0
        with Image.open(here / "made" / epochs[-1]["picture"]) as picture:
            assert np.asarray(picture).shape == (6 * 9 - 1, 10 * 9 - 1)
    elif name == "nll_per_char":
        assert all(len(line["sample"]) == 300 for line in epochs) and "cat" in epochs[-1]["sample"]
        assert last["test"]["scores"]["nll_per_char"] < asked and last["baselines"].keys() == {
            "unigram",
            "bigram",
            "kneser_ney_5",
        }
