"""Damaged runs: every command ends with 0 or with one line that names a file, never with a traceback or "a bug"."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from damage import damaged_configs, damaged_files, damaged_logs, resealed_configs

from pellucid.cli import cli
from pellucid.creation import tensor
from pellucid.runs.run import load_run
from pellucid.runs.tensor_file import load_tensors, save_tensors

QUICK = ("--epochs", "1", "--quiet", "--eager", "--set", "steps_per_epoch=2", "--set", "batch_size=8")
FAMILIES = {  # what each is trained on, and what it is asked afterwards
    "mlp": (("people.csv", "--target", "income", "--hidden-sizes", "3"), ("predict", "RUN", "people.csv")),
    "cnn": (("digits", "--model", "cnn", "--set", "channels=2,2", "--set", "depth=1"), ("predict", "RUN", "seven.png")),
    "transformer": (("story.txt", "--set", "num_layers=1", "--set", "num_heads=1", "--set", "d_model=4", "--set", "context_length=8"),
                    ("sample", "RUN", "--length", "5")),
    "lstm": (("tides.csv", "--target", "level", "--time-column", "hour", "--lookback", "6", "--hidden-sizes", "2"), ("predict", "RUN")),
    "gan": (("digits", "--model", "gan", "--set", "width=2", "--set", "critic_width=2", "--set", "latent=2"),
            ("sample", "RUN", "--n", "2", "--json", "--out", "drawn.png")),
    "diffusion": (("digits", "--model", "diffusion", "--set", "width=8", "--set", "depth=1", "--set", "sampling_steps=2"),
                  ("sample", "RUN", "--n", "2", "--json", "--out", "drawn.png")),
}  # fmt: skip


def write_data(folder):
    """A table, a text, a series and a picture."""
    chance = np.random.default_rng(0)
    rows = [f"{age},{city},{'yes' if age > 45 else 'no'}" for age, city in zip(chance.integers(18, 80, 60), chance.choice(["Rome", "Oslo"], 60), strict=True)]  # fmt: skip
    (folder / "people.csv").write_text("\n".join(["age,city,income", *rows]) + "\n", encoding="utf-8")
    (folder / "story.txt").write_text("the cat sat on the mat and ran to its red hat\n" * 40, encoding="utf-8")
    steps = [f"2024-03-{1 + i // 24:02} {i % 24:02}:00,{np.sin(i / 3):.4f}" for i in range(120)]
    (folder / "tides.csv").write_text("\n".join(["hour,level", *steps]) + "\n", encoding="utf-8")
    shutil.copy(Path(__file__).parent.parent / "golden" / "seven.png", folder / "seven.png")


def command(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


@pytest.fixture(scope="module", params=FAMILIES)
def a_run(request, tmp_path_factory):
    """(family, folder with the data and `whole`, a run of that family)."""
    folder = tmp_path_factory.mktemp(request.param)
    write_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = command("train", *FAMILIES[request.param][0], *QUICK, "--run-dir", "whole")
    assert result.exit_code == 0, result.output
    return request.param, folder


def judge(words, file, name):
    """What is wrong with how a command ended on a run damaged in the way `name`; None where nothing is."""
    shutil.rmtree("drawn.png", ignore_errors=True)
    Path("drawn.png").unlink(missing_ok=True)
    result = command(*words)
    lines = [line for line in result.stderr.splitlines() if line.startswith("pellucid")]
    told = f"{words[0]} {file} {name}: exit {result.exit_code}, {result.stderr[-300:]!r}"
    if result.exit_code == 0:
        return None
    named = len(lines) == 1 and any(
        part in lines[0] for part in ("config.json", "metrics.jsonl", ".safetensors", "RUN: no")
    )
    gone = name == ("gone",) and file == "config.json"  # then it is no run
    return None if result.exit_code == 2 and (named or gone) else told


def try_all(a_run, damages, take, monkeypatch, first=0):
    """Damage a copy in each `take`-th way from `first` on; ask for a prediction, a score and to go on training."""
    family, folder = a_run
    monkeypatch.chdir(folder)
    asked = [FAMILIES[family][1], ("evaluate", "RUN"), ("train", "--resume", "RUN", "--quiet")]
    wrong, count = [], 0
    for i, (file, name, content) in enumerate(damages(folder / "whole")):
        if i % take != first:
            continue
        for words in asked:
            shutil.rmtree("RUN", ignore_errors=True)
            shutil.copytree("whole", "RUN")
            if content is None:
                Path("RUN", file).unlink()
            elif isinstance(content, bytes):
                Path("RUN", file).write_bytes(content)
            else:
                Path("RUN", file).write_text(content, encoding="utf-8")
            count += 1
            wrong += [told] if (told := judge(words, file, name)) else []
    print(f"{family}: {count} commands on damaged runs, {len(wrong)} ended badly")
    assert count > 3 and not wrong, f"{len(wrong)} of {count}:\n" + "\n".join(wrong[:20])


KINDS = {
    "configs": damaged_configs, "resealed configs": resealed_configs, "files": damaged_files, "logs": damaged_logs,
    "resealed logs": lambda folder: damaged_logs(folder, reseal=True),
}  # fmt: skip
SOME = {
    "configs": 151,
    "resealed configs": 149,
    "files": 37,
    "logs": 223,
    "resealed logs": 181,
}  # each so-manieth by default


@pytest.mark.parametrize("kind", KINDS)
def test_some_damaged_runs_are_refused_in_one_line(a_run, kind, monkeypatch):
    try_all(a_run, KINDS[kind], SOME[kind], monkeypatch)


PARTS = 20  # of all ways, so that no test runs into the limit of time for one


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", KINDS)
def test_every_damaged_run_is_refused_in_one_line(a_run, kind, part, monkeypatch):
    try_all(a_run, KINDS[kind], PARTS, monkeypatch, part)


def test_a_flipped_bit_in_any_number_is_noticed(a_run):
    """Also where the number stays finite and the run would go on with it."""
    _, folder = a_run
    for file in ("model.safetensors", "checkpoint.safetensors"):
        content = (folder / "whole" / file).read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        for k in range(20):
            at = start + (k * 977) % (len(content) - start)
            flipped = bytearray(content)
            flipped[at] ^= 1 << k % 8
            (folder / "flipped").write_bytes(flipped)
            with pytest.raises(Exception, match="flipped: damaged, its contents are not those that were written"):
                load_tensors(folder / "flipped")


def test_a_checkpoint_whose_state_was_changed_is_refused(a_run, monkeypatch):
    """Changed by something that also writes the digest anew."""
    _, folder = a_run
    monkeypatch.chdir(folder)
    arrays, metadata = load_tensors(Path("whole/checkpoint.safetensors"))
    state = json.loads(metadata["state"])
    changes = {
        "progress": None, "groups": [], "loader": {}, "schedules": [{}],
        "progress.epoch": {**state["progress"], "epoch": "1"}, "progress.step": {**state["progress"], "step": 10**9},
    }  # fmt: skip
    for name, value in changes.items():
        shutil.rmtree("RUN", ignore_errors=True)
        shutil.copytree("whole", "RUN")
        changed = json.dumps({**state, name.partition(".")[0]: value})
        save_tensors(Path("RUN/checkpoint.safetensors"), arrays, {**metadata, "state": changed})
        result = command("train", "--resume", "RUN", "--quiet")
        assert result.exit_code == 2 and f"checkpoint.safetensors: state: {name.partition('.')[0]}" in result.stderr, (
            result.stderr
        )
    first = next(iter(arrays))
    for others in (
        {**arrays, first: tensor(np.zeros((3, 1, 2), np.float32)).array},
        {n: a for n, a in arrays.items() if n != first},
    ):
        save_tensors(Path("RUN/checkpoint.safetensors"), others, metadata)
        result = command("train", "--resume", "RUN", "--quiet")
        assert result.exit_code == 2 and f"RUN/checkpoint.safetensors: {first} is" in result.stderr, result.stderr


def test_a_checkpoint_of_another_run_is_refused(a_run, monkeypatch):
    _, folder = a_run
    monkeypatch.chdir(folder)
    shutil.rmtree("RUN", ignore_errors=True)
    shutil.copytree("whole", "RUN")
    run = load_run(Path("RUN"))
    run.update_config(fingerprint="0" * 64)
    result = command("evaluate", "RUN")
    assert result.exit_code == 2 and "fingerprint: not what model.safetensors was trained with" in result.stderr
