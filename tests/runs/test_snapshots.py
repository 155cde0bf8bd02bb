"""Snapshots: which epochs are kept, that training does not see them, and that no kill leaves a gap."""

import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from pellucid.cli import cli
from pellucid.cli.train import command as train_command
from pellucid.data.load import load_problem
from pellucid.errors import OptionError, StateError
from pellucid.runs.run import load_run
from pellucid.runs.settings import Settings
from pellucid.runs.snapshots import kept_epochs, load_snapshots, most_snapshots
from pellucid.training import session
from pellucid.training.loop import EpochDone

VALUES = {"hidden_sizes": (8,), "epochs": 7, "snapshots": 3, "batch_size": 256, "eager": True, "dropout": 0.1}


def begin(folder, **changes):
    return session.start(load_problem("digits"), "mlp", {**VALUES, **changes}, folder)


def train(training, epochs=99):
    """Train; stop after so many epochs, as a kill does: right after the checkpoint."""
    for event in training.events():
        if isinstance(event, EpochDone) and event.epoch == epochs:
            return training
    return training


def files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("snapshots/*")}


def test_kept_epochs_are_even_and_few():
    assert list(kept_epochs(3, 3)) == [1, 2, 3]
    assert list(kept_epochs(4, 3)) == [2, 4]
    assert list(kept_epochs(7, 3)) == [2, 4, 6]
    assert list(kept_epochs(9, 3)) == [4, 8]
    assert list(kept_epochs(9, 0)) == []
    before: set[int] = set()
    for done in range(1, 500):
        kept = kept_epochs(done, 40)
        assert len(kept) <= 40 and (done < 40 or len(kept) >= 20)
        assert set(kept) <= before | {done}  # what is thinned out never comes back
        before = set(kept)


def test_training_has_the_same_bits_with_and_without_snapshots(tmp_path):
    for name, most in (("with", 3), ("without", 0)):
        train(begin(tmp_path / name, snapshots=most))
    one, other = (load_run(tmp_path / name) for name in ("with", "without"))
    assert all(np.array_equal(a.array, other.load_weights()[name].array) for name, a in one.load_weights().items())
    assert sorted(files(one.folder)) == [f"epoch-000{epoch}.safetensors" for epoch in (2, 4, 6)]
    assert not other.snapshots.exists()


def test_a_snapshot_is_the_network_of_its_epoch(tmp_path):
    training = train(begin(tmp_path / "run"), epochs=4)
    now = {name: value.array for name, value in training.network.state_dict().items()}
    last = load_snapshots(training.run)[-1]
    assert last.epoch == 4 and 0 < last.learning_rate < training.settings.lr
    for name, array in last.weights.items():
        assert array.dtype == now[name].dtype
        assert np.allclose(array, now[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("stopped", [1, 3, 4, 6])
def test_a_resumed_training_ends_with_the_same_files(tmp_path, stopped):
    whole = train(begin(tmp_path / "whole")).run
    broken = train(begin(tmp_path / "broken"), stopped).run
    # a kill after a later epoch's file, and before its checkpoint
    late = broken.snapshots / f"epoch-000{stopped + 1}.safetensors"
    late.write_bytes(b"half of it")
    run = load_run(broken.folder)
    train(session.resume(run, run.load_problem()))
    assert files(run.folder) == files(whole.folder)


def test_a_damaged_or_foreign_snapshot_is_refused(tmp_path):
    run = train(begin(tmp_path / "run"), 1).run
    (path,) = run.snapshots.glob("*")
    shutil.copy(path, path.with_name("epoch-0009.safetensors"))
    with pytest.raises(StateError, match="epoch 1, learning rate .*; expected epoch 9"):
        load_snapshots(run)
    path.with_name("epoch-0009.safetensors").unlink()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StateError, match="damaged"):
        load_snapshots(run)
    other = train(begin(tmp_path / "other", hidden_sizes=(9,)), 1).run
    shutil.copy(next(other.snapshots.glob("*")), path)
    with pytest.raises(StateError, match="both files of the same run"):
        load_snapshots(run)


def test_large_networks_keep_fewer_by_themselves(tmp_path):
    class Large:
        def named_parameters(self):
            return [("weight", None)]

        def state_dict(self):
            return {"weight": type("T", (), {"array": np.zeros(6_000_000, np.float32)})}

    assert most_snapshots(Settings(), Large()) == 16  # of 12 MB each
    assert most_snapshots(Settings(snapshots=30), Large()) == 30
    with pytest.raises(OptionError, match="snapshots: -2"):
        Settings(snapshots=-2)


def test_the_option_says_none():
    result = CliRunner().invoke(cli, ["train", "digits", "--snapshots", "some"])
    assert result.exit_code == 2 and "expected a whole number from 1" in result.output
    option = next(p for p in train_command.params if p.name == "snapshots")
    assert option.type.convert("none", option, None) == 0 and option.type.convert("12", option, None) == 12
