"""Networks that cannot learn: one of identities, one of steps, none hidden; each is told, trained, saved and loaded again."""

import json
from pathlib import Path

import numpy as np
import pytest

import pellucid as P
from pellucid.data.input_spec import ImageSpec, TextSpec
from pellucid.models import FAMILIES, cnn, transformer
from pellucid.nn.activation import ACTIVATION_NOTES, ACTIVATIONS
from pellucid.runs.run import load_run
from pellucid.training.session import activation_notes

PLAIN = ("--config", "plain", "--hidden-sizes", 16, "--epochs", 12, "--set", "lr=0.02")


@pytest.fixture(autouse=True)
def cache(here, monkeypatch):
    monkeypatch.setenv("PELLUCID_CACHE", str(here / "cache"))


def trained(run, *words):
    return run("train", "xor", *PLAIN, *words, "--run-dir", "r")


def test_relu_learns_xor_and_data_are_named_everywhere(run, here):
    result = trained(run, "--json")
    assert json.loads(result.stdout)["accuracy"] > 0.95
    assert "activation:" not in result.stderr
    assert json.loads(run("evaluate", "r", "xor", "--json").stdout)["accuracy"] > 0.95
    run("predict", "r", "xor", "--out", "answers.csv")
    assert (here / "answers.csv").read_text().splitlines()[0].startswith("x1,x2,class")
    assert {path.name for path in here.iterdir()} == {"r", "cache", "answers.csv"}


@pytest.mark.parametrize("quiet", [(), ("--quiet",)], ids=["loud", "quiet"])
def test_identity_is_a_line_and_says_why(run, quiet):
    result = trained(run, "--activation", "identity", "--json", *quiet)
    about = json.loads(result.stdout)
    assert about["accuracy"] < 0.8  # a line gets three corners of four right at the most
    assert ACTIVATION_NOTES["identity"] in about["notes"]
    assert "collapse into one" in " ".join(result.stderr.split())


def test_step_learns_its_last_layer_alone_and_says_so(run):
    result = trained(run, "--activation", "step")
    assert "the gradient of step is zero everywhere" in " ".join(result.stderr.split())
    kept = load_run(Path("r"))
    assert ACTIVATION_NOTES["step"] in kept.config.notes and kept.config.network.activation == "step"
    assert "gradient of step" in kept.report.read_text(encoding="utf-8")
    with P.random.use_generator(P.Generator(0)):
        fresh = kept.new_network()
    trained_weights, first = kept.network().state_dict(), fresh.state_dict()
    moved = {name for name in first if not np.array_equal(first[name].array, trained_weights[name].array)}
    assert moved == {"layers.2.weight", "layers.2.bias"}
    run("evaluate", "r", "xor")
    run("train", "--resume", "r", "--epochs", 13)


def test_without_hidden_layers_there_is_nothing_to_tell(run):
    result = run("train", "xor", "--config", "plain", "--hidden-sizes", "none", "--activation", "step", "--epochs", 2)
    assert "activation:" not in result.stderr


def test_every_family_with_an_activation_takes_both():
    having = {name for name, family in FAMILIES.items() if hasattr(family.config(), "activation")}
    assert having == {"mlp", "cnn", "transformer"}
    for name in sorted(having):
        for activation in ("identity", "step"):
            assert activation_notes(FAMILIES[name].config(activation=activation)) == [ACTIVATION_NOTES[activation]]
        assert activation_notes(FAMILIES[name].config()) == []
    assert activation_notes(FAMILIES["lstm"].config()) == []
    assert set(ACTIVATION_NOTES) <= set(ACTIVATIONS)


def test_a_cnn_and_a_transformer_of_steps_learn_above_them_alone():
    P.manual_seed(0)
    network = cnn.build(ImageSpec((8, 8)), 3, "classification", cnn.Config(channels=(4,), activation="step"))
    images = np.random.default_rng(0).integers(0, 255, (4, 8, 8)).astype(np.float32)
    network.training_step(P.tensor(images), P.tensor(np.array([0, 1, 2, 0])))["loss"].backward()
    moving = {name for name, weight in network.named_parameters() if weight.grad.array.any()}
    assert moving == {"head.weight", "head.bias"}
    config = transformer.Config(num_layers=1, num_heads=2, d_model=8, context_length=6, activation="step")
    network = transformer.build(TextSpec(5), 5, "language", config)
    tokens = P.tensor(np.random.default_rng(0).integers(0, 5, (2, 6)))
    network.training_step(tokens, tokens)["loss"].backward()
    still = {name for name, weight in network.named_parameters() if not weight.grad.array.any()}
    assert {name.split(".")[-2] for name in still} >= {"c_fc"} and not any("attn" in name for name in still)
