"""Run folders: their names, how they are found, and what is said of damaged ones."""

import json

import numpy as np
import pytest

from pellucid.errors import DataError, OptionError, StateError
from pellucid.runs import run as runs

CONFIG = {
    "data": "people", "kind": "image", "task": "classification", "family": "mlp", "network": {"layers": [3]},
    "settings": {}, "inputs": {"image": [2, 2]}, "outputs": 2, "preprocessor": {}, "source": {}, "notes": [],
}  # fmt: skip


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_next_number_is_one_more_than_the_highest_there_was():
    assert [runs.create(CONFIG).folder.name for _ in range(2)] == ["people-mlp-1", "people-mlp-2"]
    (runs.RUNS_DIR / "people-mlp-9").mkdir()
    (runs.RUNS_DIR / "people-mlp-x").mkdir()
    assert runs.create(CONFIG).folder.name == "people-mlp-10"


def test_a_run_is_found_by_name_path_and_last():
    runs.create(CONFIG)
    second = runs.create(CONFIG)
    elsewhere = runs.create(CONFIG, runs.Path("elsewhere"))
    second.log({"epoch": 1})
    assert runs.find("people-mlp-1").name == "people-mlp-1"
    assert runs.find("runs/people-mlp-1").folder == runs.Path("runs/people-mlp-1")
    assert runs.find("last").folder == second.folder
    assert runs.find("elsewhere").folder == elsewhere.folder


def test_a_name_that_is_not_there_suggests_the_near_one():
    runs.create(CONFIG)
    with pytest.raises(DataError, match="Did you mean 'people-mlp-1'"):
        runs.find("peple-mlp-1")


def test_no_runs_at_all_says_how_to_make_one():
    with pytest.raises(DataError, match="no runs here yet; .*pellucid train digits"):
        runs.find("last")


def test_a_folder_that_is_there_is_not_written_into():
    runs.Path("there").mkdir()
    with pytest.raises(OptionError, match="--out there: there is something of that name already"):
        runs.create(CONFIG, runs.Path("there"))
    assert list(runs.Path("there").iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "damaged"),
        ("[]", "damaged"),
        (json.dumps({**CONFIG, "format": 99}), "format 99, made by a newer pellucid"),
        (json.dumps({"format": 1, "data": "people"}), "family, .* missing"),
    ],
)
def test_a_config_that_cannot_be_used_says_why(text, words):
    folder = runs.create(CONFIG).folder
    (folder / "config.json").write_text(text)
    with pytest.raises(StateError, match=f"config.json: .*{words}"):
        runs.find("last")


def test_weights_of_another_network_are_named():
    run = runs.create(CONFIG)
    state = run.new_network().state_dict()
    weights = {name: np.array(t.array) for name, t in state.items()}
    run.save_weights(weights)
    assert [t.tolist() for t in run.network().state_dict().values()] == [array.tolist() for array in weights.values()]
    weights["layers.0.weight"] = np.zeros((3, 5), np.float32)
    run.save_weights(weights)
    with pytest.raises(StateError, match=r"layers.0.weight is \(3, 5\), but config.json asks for \(3, 4\)"):
        run.network()


def test_weights_cut_short_are_named():
    run = runs.create(CONFIG)
    run.save_weights({name: t.array for name, t in run.new_network().state_dict().items()})
    run.weights.write_bytes(run.weights.read_bytes()[:50])
    with pytest.raises(StateError, match="not a whole safetensors file"):
        run.network()


def test_history_goes_back_to_the_checkpoint():
    run = runs.create(CONFIG)
    for epoch in (1, 2, 3):
        run.log({"epoch": epoch})
    run.log({"test": {}})
    run.keep_history_to(2)
    assert run.history() == [{"epoch": 1}, {"epoch": 2}] and run.result() is None
