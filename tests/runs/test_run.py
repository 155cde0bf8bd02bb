"""Run folders: their names, how they are found, and what is said of damaged ones."""

import dataclasses
import json

import numpy as np
import pytest
from small_runs import epoch_record, small_config

from pellucid import serialization
from pellucid.errors import DataError, OptionError, StateError
from pellucid.runs import run as runs
from pellucid.runs.records import Metrics, TestRecord
from pellucid.runs.schema import DIGEST, field_digests

CONFIG = small_config()


@pytest.fixture(autouse=True)
def an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_next_number_is_one_more_than_the_highest_there_was():
    assert [runs.create_run(CONFIG).folder.name for _ in range(2)] == ["people-mlp-1", "people-mlp-2"]
    (runs.RUNS_DIR / "people-mlp-9").mkdir()
    (runs.RUNS_DIR / "people-mlp-x").mkdir()
    assert runs.create_run(CONFIG).folder.name == "people-mlp-10"


def test_a_run_is_found_by_name_path_and_last():
    runs.create_run(CONFIG)
    second = runs.create_run(CONFIG)
    elsewhere = runs.create_run(CONFIG, runs.Path("elsewhere"))
    second.log(epoch_record(1))
    assert runs.find_run("people-mlp-1").name == "people-mlp-1"
    assert runs.find_run("runs/people-mlp-1").folder == runs.Path("runs/people-mlp-1")
    assert runs.find_run("last").folder == second.folder
    assert runs.find_run("elsewhere").folder == elsewhere.folder


def test_a_name_that_is_not_there_suggests_the_near_one():
    runs.create_run(CONFIG)
    with pytest.raises(DataError, match="Did you mean 'people-mlp-1'"):
        runs.find_run("peple-mlp-1")


def test_no_runs_at_all_says_how_to_make_one():
    with pytest.raises(DataError, match="no runs here yet; .*pellucid train digits"):
        runs.find_run("last")


def test_a_folder_that_is_there_is_not_written_into():
    runs.Path("there").mkdir()
    with pytest.raises(OptionError, match="--run-dir there: exists already"):
        runs.create_run(CONFIG, runs.Path("there"))
    assert list(runs.Path("there").iterdir()) == []


def resealed(folder, **changes):
    """config.json with `changes` and digests that match them, as a careless tool would write it."""
    path = folder / "config.json"
    record = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    fields = {name: value for name, value in record.items() if name not in ("format", DIGEST)}
    path.write_text(json.dumps({**record, DIGEST: field_digests(fields)}), encoding="utf-8")


CONFIGS = {
    "{": "damaged",
    "[]": "damaged, it names no format",
    "[" * 100_000: "damaged, nested too deep",
    '{"format": 2, "format": 2}': "damaged",
    '{"format": 2, "data": NaN}': "damaged",
    '{"format": 2, "data": 1e999}': "data: a number too large",
    '{"format": 2, "data": 99999999999999999999}': "data: an integer beyond 64 bits",
    '{"format": 99}': "format 99, made by a newer pellucid",
    '{"format": "2"}': "format: it is '2'",
    '{"format": 1, "source": {"spec": "people.csv"}, "family": "mlp"}':
        "format 1, of a pellucid before .* train it again: pellucid train people.csv --model mlp",
    '{"format": 2, "family": "mlp"}': "sha256: missing",
    '{"format": 2, "family": "mpl", "sha256": {}}': "family: it is 'mpl'; expected one of mlp, ",
    '{"format": 2, "family": "mlp", "sha256": {}}': "data: missing",
}  # fmt: skip


@pytest.mark.parametrize("text", CONFIGS, ids=lambda text: text[:60])
def test_a_config_that_cannot_be_read_says_why(text):
    folder = runs.create_run(CONFIG).folder
    (folder / "config.json").write_text(text)
    with pytest.raises(StateError, match=f"config.json: {CONFIGS[text]}"):
        runs.find_run("last")


def changed_network(**changes):
    return {"network": {**dataclasses.asdict(CONFIG.network), **changes}}


FIELDS = [
    ({"task": 3}, "task: it is 3; expected text"),
    ({"notes": {}}, "notes: it is {}; expected a list"),
    ({"notes": ["a", None]}, r"notes\[1\]: it is null; expected text"),
    ({"sort": "of"}, "sort: no such field; expected one of .*Did you mean 'source'|sort: no such field"),
    (changed_network(hidden_sizes=["a"]), r"network.hidden_sizes\[0\]: it is a; expected a whole number"),
    (changed_network(dropout=True), "network.dropout: it is true; expected a number"),
    (changed_network(activation="rely"), "activation: 'rely'.*Did you mean 'relu'"),
    ({"settings": {"lr": -1.0}}, "lr: -1.0; expected a number above 0"),
    ({"settings": {"epochs": 1.5}}, "settings.epochs: it is 1.5; expected a whole number"),
]


@pytest.mark.parametrize(("changes", "words"), FIELDS, ids=lambda value: str(value)[:50])
def test_a_field_of_another_type_is_named(changes, words):
    resealed(runs.create_run(CONFIG).folder, **changes)
    with pytest.raises(StateError, match=f"config.json: ({words})"):
        runs.find_run("last")


def test_a_value_of_the_right_type_that_was_changed_is_named():
    folder = runs.create_run(CONFIG).folder
    path = folder / "config.json"
    path.write_text(path.read_text().replace("60.0", "61.0"))
    with pytest.raises(StateError, match="config.json: preprocessor: changed since pellucid wrote it"):
        runs.find_run("last")


def test_weights_of_another_network_are_named():
    run = runs.create_run(CONFIG)
    weights = {name: np.array(t.array) for name, t in run.new_network().state_dict().items()}
    run.save_weights(weights)
    assert [t.tolist() for t in run.network().state_dict().values()] == [array.tolist() for array in weights.values()]
    weights["layers.0.weight"] = np.zeros((3, 5), np.float32)
    run.save_weights(weights)
    with pytest.raises(StateError, match=r"layers.0.weight is \(3, 5\) float32, but config.json asks for \(3, 4\)"):
        run.network()


def test_weights_of_another_run_are_named_before_a_network_as_large_is_built():
    run = runs.create_run(CONFIG)
    run.save_weights({name: t.array for name, t in run.new_network().state_dict().items()})
    resealed(run.folder, **changed_network(hidden_sizes=[10**12]))
    for use in ("new_network", "network"):
        with pytest.raises(StateError, match="config.json: network: not what model.safetensors was trained with"):
            getattr(runs.find_run("last"), use)()


def test_every_flipped_bit_of_the_weights_is_noticed():
    run = runs.create_run(CONFIG)
    run.save_weights({name: t.array for name, t in run.new_network().state_dict().items()})
    content, saved = run.weights.read_bytes(), [t.tolist() for t in run.network().state_dict().values()]
    for bit in range(0, 8 * len(content), 29):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        run.weights.write_bytes(damaged)
        try:  # a space of the header that became another kind of space says the same
            assert [t.tolist() for t in run.network().state_dict().values()] == saved
        except StateError as error:
            assert "safetensors" in str(error)


@pytest.mark.parametrize("size", [0, 5, 50, 300])
def test_weights_cut_short_are_named(size):
    run = runs.create_run(CONFIG)
    run.save_weights({name: t.array for name, t in run.new_network().state_dict().items()})
    run.weights.write_bytes(run.weights.read_bytes()[:size])
    with pytest.raises(StateError, match="model.safetensors: .*not a whole safetensors file"):
        run.network()


def test_weights_without_a_digest_are_refused():
    run = runs.create_run(CONFIG)
    serialization.save(run.new_network(), run.weights)
    with pytest.raises(StateError, match="it has no SHA-256 of its contents"):
        run.network()


def test_history_goes_back_to_the_checkpoint():
    run = runs.create_run(CONFIG)
    for epoch in (1, 2, 3):
        run.log(epoch_record(epoch))
    scores = Metrics({"accuracy": 0.5, "r2": None}, 3, {"accuracy": (0.25, 0.75)}, 2, gain=(0.1, -0.5, 0.5))
    run.log(TestRecord(scores, {"mean": scores}, 1.5, 2))
    assert run.result() == TestRecord(scores, {"mean": scores}, 1.5, 2)
    run.truncate_log(2)
    assert run.history() == [epoch_record(1), epoch_record(2)] and run.result() is None
    with pytest.raises(StateError, match="metrics.jsonl: it ends after epoch 2; expected 5 epochs"):
        run.truncate_log(5)


def test_a_damaged_line_of_the_log_is_named_and_one_cut_short_left_out():
    run = runs.create_run(CONFIG)
    for epoch in (1, 2):
        run.log(epoch_record(epoch))
    content = run.metrics.read_bytes()
    run.metrics.write_bytes(content[:-20])
    assert run.history() == [epoch_record(1)]
    run.metrics.write_bytes(content.replace(b'"step": 10', b'"step": 11'))
    with pytest.raises(StateError, match="metrics.jsonl: line 1: changed since pellucid wrote it"):
        run.history()
    run.metrics.write_bytes(content[1:])
    with pytest.raises(StateError, match="metrics.jsonl: line 1: damaged"):
        run.history()
    run.metrics.write_bytes(content.splitlines(keepends=True)[1])
    with pytest.raises(StateError, match="metrics.jsonl: line 1: it is of epoch 2; expected epoch 1"):
        run.history()


@pytest.mark.parametrize(
    "picture", ["../../secret.png", "samples/../x.png", "samples/" + "x" * 1000 + ".png", "/etc/passwd"]
)
def test_a_picture_outside_the_run_is_refused(picture):
    run = runs.create_run(CONFIG)
    run.log(epoch_record(1, picture="samples/epoch-001.png"))
    assert run.history()[0].picture == "samples/epoch-001.png"
    run.log(epoch_record(2, picture=picture))
    with pytest.raises(StateError, match="metrics.jsonl: line 2: picture: it is"):
        run.history()
