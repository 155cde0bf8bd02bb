"""Old names of options and settings are refused, with the new name and the words to write."""

from dataclasses import fields

import pytest

from pellucid.cli import evaluate, predict, train
from pellucid.models import FAMILIES
from pellucid.runs.renamed import NEW_NAMES
from pellucid.runs.settings import Settings

OPTIONS = {
    option.removeprefix("--").replace("-", "_")
    for module in (train, evaluate, predict)
    for parameter in module.command.params
    for option in parameter.opts
}
SETTINGS = {
    name: {field.name for field in (*fields(Settings), *fields(family.config))} for name, family in FAMILIES.items()
}


@pytest.mark.parametrize("old", NEW_NAMES)
def test_every_new_name_exists(old):
    assert all(new in OPTIONS or any(new in names for names in SETTINGS.values()) for new in NEW_NAMES[old])


@pytest.mark.parametrize("words", [
    ["train", "digits", "--threads", 2, "--num-threads"], ["train", "digits", "--judge=x", "--feature-network"],
    ["train", "digits", "--layers", "8", "--hidden-sizes"], ["train", "digits", "--out", "x", "--run-dir"],
    ["evaluate", "last", "--with", "x", "--average-with"], ["predict", "last", "a.png", "--show", "--preview"],
], ids=lambda words: words[2 if words[0] != "predict" else 3])  # fmt: skip
def test_an_old_option_is_refused_with_the_new_one(run, words):
    *words, new = words
    line = run(*words, code=2).stderr
    assert "no such option: --" in line and f"it is called {new}; write {new}" in line


@pytest.mark.parametrize(("family", "old", "new"), [
    ("transformer", "width", "d_model"), ("transformer", "layers", "num_layers"), ("lstm", "layers", "hidden_sizes"),
    ("mlp", "average", "ema_decay"), ("cnn", "mirror", "flip_tta"), ("diffusion", "steps", "sampling_steps"),
    ("mlp", "time", "time_column"), ("mlp", "judge", "feature_network"),
])  # fmt: skip
def test_an_old_setting_is_refused_with_the_new_one(run, here, family, old, new):
    line = run("train", "digits", "--model", family, "--set", f"{old}=2", code=2).stderr
    assert f"--set {old}: no such " in line and f"it is called {new}; write {new}=2" in line
    (here / "old.toml").write_text(f"{old} = 2\n")
    line = run("train", "digits", "--model", family, "--config", "old.toml", code=2).stderr
    assert f"old.toml: {old}: no such " in line and f"it is called {new}; write {new}=2" in line


def test_hidden_sizes_of_a_network_that_counts_layers(run):
    line = run("train", "digits", "--model", "transformer", "--hidden-sizes", "4", code=2).stderr
    assert "--hidden-sizes: no such setting; it is called num_layers; write num_layers=4" in line


def test_a_name_that_one_family_keeps_is_no_old_name_there():
    assert "width" in SETTINGS["gan"] and "width" not in SETTINGS["transformer"]
