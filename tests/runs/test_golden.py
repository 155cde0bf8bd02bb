"""Golden runs: what earlier versions saved is read by this one, and predicts what it predicted then."""

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pellucid.models.base import written_fields
from pellucid.runs import run as runs
from pellucid.runs.records import FORMAT
from pellucid.training import session

GOLDEN = Path(__file__).parent.parent / "golden"
SAVED = sorted(path.parent for path in GOLDEN.glob("format*/*/config.json"))


def maker():
    spec = importlib.util.spec_from_file_location("make_runs", GOLDEN / "make_runs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_a_golden_run_of_every_family_in_the_format_that_is_written_now():
    made = {path.name for path in SAVED if path.parent.name == f"format{FORMAT}"}
    assert made == set(maker().RUNS), "run python tests/golden/make_runs.py"
    families = {family for family, *_ in maker().RUNS.values()}
    assert families == set(runs.models.FAMILIES), "add an entry to RUNS of tests/golden/make_runs.py, and run it"


def test_only_missing_golden_runs_are_made(tmp_path, monkeypatch):
    module, folder = maker(), tmp_path / f"format{FORMAT}"
    for path in GOLDEN.glob("*.*"):
        shutil.copy(path, tmp_path)
    shutil.copytree(GOLDEN / folder.name / "mlp-table", folder / "mlp-table")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "RUNS", {name: module.RUNS[name] for name in ("mlp-table", "lstm-series")})
    monkeypatch.chdir(tmp_path)
    module.main()
    assert {path: path.read_bytes() for path in before} == before
    assert (folder / "lstm-series" / "predictions.json").is_file()


@pytest.mark.parametrize("folder", SAVED, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_golden_run_predicts_what_it_predicted(folder):
    run = runs.load_run(folder)
    recorded = json.loads((folder / "predictions.json").read_text())
    off = 1.01 if run.config.family in ("gan", "diffusion") else 1e-5  # pixels are rounded
    np.testing.assert_allclose(maker().predictions(run), recorded, rtol=1e-4, atol=off)
    assert run.result() is not None and len(run.history()) == 1


@pytest.mark.parametrize(
    "folder",
    [path for path in SAVED if (path / "checkpoint.safetensors").is_file()],
    ids=lambda path: f"{path.parent.name}-{path.name}",
)
def test_a_golden_run_goes_on_from_its_checkpoint(folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path / "run")
    monkeypatch.chdir(GOLDEN)  # where its data are
    run = runs.load_run(tmp_path / "run")
    training = session.resume(run, run.load_problem(), epochs=2)
    for _ in training.events():
        pass
    assert training.learner.state.progress.epoch == 2 and len(run.history()) == 2


def test_a_setting_that_came_later_is_written_only_where_it_says_something():
    """Digests bind a run's files to its network's config, so a new field must not change those of earlier runs."""
    plain, bagged = (
        runs.load_run(SAVED[[path.name for path in SAVED].index("mlp-table")]).config.network.__class__(**given)
        for given in ({}, {"bag_folds": 5, "linear_start": True})
    )
    assert not {"bag_folds", "linear_start"} & written_fields(plain).keys()
    assert written_fields(bagged)["bag_folds"] == 5 and written_fields(bagged)["linear_start"] is True
