"""`pellucid tune`: trials are drawn, compared on the validation part, and the best one alone is tested."""

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest

from pellucid.cli import tune as tune_command
from pellucid.evaluation.evaluator import PredictionEvaluator
from pellucid.models import FAMILIES
from pellucid.runs import run as runs
from pellucid.runs.settings import resolve_config
from pellucid.runs.space import SPACES, as_toml, load_space, sample
from pellucid.training import tuning
from pellucid.training.tuning import BRACKET, brackets, rung_shares

QUICK = ("--target", "income", "--eager", "--epochs", 3, "--set", "patience=0")


@pytest.fixture
def tested(monkeypatch):
    """The runs whose test part was read, one entry a time."""
    found, test = [], PredictionEvaluator.test
    monkeypatch.setattr(PredictionEvaluator, "test", lambda self: found.append(self.run.name) or test(self))
    return found


def epochs(name):
    tuned = runs.RUNS_DIR / name
    return {path.parent.name: len(runs.load_run(path.parent).history()) for path in tuned.glob("trial-*/config.json")}


def weights(name):
    return {path.parent.name: path.read_bytes() for path in (runs.RUNS_DIR / name).glob("trial-*/model.safetensors")}


# ---- the search --------------------------------------------------------------------------------------------------------


def test_a_third_of_the_trials_goes_on_for_three_times_as_many_epochs(run, people, tested):
    about = json.loads(run("tune", people, "--trials", 9, "--quiet", "--json", *QUICK, "--epochs", 9).stdout)
    assert sorted(epochs("tune-people-mlp-1").values()) == [1] * 6 + [3] * 2 + [9]
    by = {trial["trial"]: trial for trial in about["trials"]}
    best = about["best"]
    assert by[best]["epochs"] == 9 and by[1]["settings"] == {}
    histories = {k: runs.load_run(runs.RUNS_DIR / f"tune-people-mlp-1/trial-{k}").history() for k in by}
    first = {k: history[0].validation["loss"] for k, history in histories.items()}
    assert {k for k in by if by[k]["epochs"] > 1} == set(sorted(first, key=first.__getitem__)[:3])
    second = {k: min(r.validation["loss"] for r in histories[k][:3]) for k in by if by[k]["epochs"] > 1}
    assert best == min(second, key=second.__getitem__)
    assert tested == [about["run"]] and about["run"].endswith(f"trial-{best}")
    assert "folds" not in about, "folds hold rows that settings were chosen by"
    finished = [k for k in by if runs.load_run(runs.RUNS_DIR / f"tune-people-mlp-1/trial-{k}").result()]
    assert finished == [best], "the test part is read once, by the best"


def test_the_file_of_the_best_trial_trains_it_again_to_the_same_bits(run, people):
    said = run("tune", people, "--trials", 3, "--seed", 4, *QUICK)
    lines = dict(line.split(maxsplit=1) for line in said.stdout.splitlines())
    assert lines["config"] == "runs/tune-people-mlp-1/best.toml"
    assert lines["next"] == f"pellucid train {people} --config runs/tune-people-mlp-1/best.toml --ensemble 5"
    run("train", people, "--config", lines["config"], "--quiet")
    best = re.match(r"trial (\d+) of 3", lines["best"])[1]
    assert runs.find_run("people-mlp-1").weights.read_bytes() == weights("tune-people-mlp-1")[f"trial-{best}"]
    settings = tomllib.loads(Path(lines["config"]).read_text())
    assert settings["model"] == "mlp" and settings["target"] == "income" and settings["seed"] == 4


def test_progress_is_one_line_a_trial_on_stderr(run, people):
    said = run("tune", people, "--trials", 3, *QUICK)
    lines = [line for line in said.stderr.splitlines() if line.startswith("trial ")]
    assert [re.match(r"trial +(\d)  round (\d) of 2 +(\d)/3 epochs", line)[0].split()[1] for line in lines[:3]] == list("123")  # fmt: skip
    assert len(lines) == 4 and "the settings that train takes" in lines[0] and " lr 0." in lines[1]
    assert lines[0].count(" * ") == 1
    assert not run("tune", people, "--trials", 1, "--quiet", *QUICK).stderr.count("trial")


def test_one_seed_draws_the_same_trials_and_a_fixed_setting_changes_no_other():
    space = load_space("mlp")
    drawn = [sample(space, 0, k) for k in range(1, 20)]
    assert drawn[0] == {} and drawn == [sample(space, 0, k) for k in range(1, 20)]
    assert drawn[1:] != [sample(space, 1, k) for k in range(2, 20)]
    assert len({one["lr"] for one in drawn[1:]}) == 18
    without = [sample(space, 0, k, {"lr"}) for k in range(2, 20)]
    assert without == [{name: value for name, value in one.items() if name != "lr"} for one in drawn[1:]]
    low, high = space["lr"].values
    assert all(low <= one["lr"] <= high for one in drawn[1:])
    assert sum(one["lr"] < (low * high) ** 0.5 for one in drawn[1:]) in range(4, 15), (
        "log-uniform: half below the middle"
    )


def test_brackets_follow_each_other_where_only_the_time_is_given():
    assert list(brackets(5)) == [[1, 2, 3, 4, 5]]
    endless = brackets(None)
    assert next(endless) == list(range(1, BRACKET + 1)) and next(endless)[0] == BRACKET + 1
    assert rung_shares(1) == [1.0] and rung_shares(8) == pytest.approx([1 / 3, 1])
    assert rung_shares(9) == pytest.approx([1 / 9, 1 / 3, 1])


def test_a_setting_that_is_given_stays(run, people):
    run("tune", people, "--trials", 3, "--quiet", *QUICK, "--set", "lr=0.005", "--set", "hidden_sizes=4")
    for k in (1, 2, 3):
        config = runs.load_run(runs.RUNS_DIR / f"tune-people-mlp-1/trial-{k}").config
        assert config.settings.lr == 0.005 and config.network.hidden_sizes == (4,)
    assert len(set(weights("tune-people-mlp-1").values())) == 3


def test_a_trial_that_blows_up_fails_alone(run, people, here):
    (here / "wild.toml").write_text(
        "lr = { choice = [1e30] }\noptimizer = { choice = ['sgd'] }\nclip_grad_norm = { choice = [0.0] }\n"
    )
    said = run("tune", people, "--trials", 3, "--space", "wild.toml", *QUICK)
    assert said.stderr.count("failed: ") == 2 and said.stdout.startswith("best    trial 1 of 3")
    assert "no trial was better than the settings that train takes" in said.stdout


def test_the_time_is_kept_and_the_best_trial_completed_in_it(run, people, monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 0.5
        return now[0]

    monkeypatch.setattr(tuning.time, "monotonic", clock)
    run("tune", people, "--minutes", 0.5, "--quiet", *QUICK, "--epochs", 9)
    counts = epochs("tune-people-mlp-1")
    assert 2 <= len(counts) < 60 and 9 in counts.values()
    told = json.loads((runs.RUNS_DIR / "tune-people-mlp-1/tuning.json").read_text())
    assert 25 < told["seconds"] < 60 and told["finished"]


def test_the_first_trial_is_trained_however_short_the_time_is(run, people):
    said = run("tune", people, "--minutes", 0.0001, *QUICK)
    assert said.stdout.startswith("best    trial 1 of 1") and epochs("tune-people-mlp-1") == {"trial-1": 3}


def test_the_data_are_loaded_once(run, people, monkeypatch):
    from pellucid.cli import train

    count, load = [], train.load_problem
    monkeypatch.setattr(train, "load_problem", lambda *a, **k: count.append(1) or load(*a, **k))
    monkeypatch.setattr(runs.Run, "load_problem", lambda self: pytest.fail("loaded again"))
    run("tune", people, "--trials", 3, "--quiet", *QUICK)
    assert len(count) == 1


def test_trials_of_equal_shapes_share_compiled_programs(run, people, here, monkeypatch):
    from pellucid.compiler.backends.cpu import executable

    keys, lower = [], executable.lower

    def noted(*words):
        program = lower(*words)
        keys.append(program.key)
        return program

    monkeypatch.setattr(executable, "lower", noted)
    (here / "rate.toml").write_text("lr = { log = [0.001, 0.01] }\nweight_decay = { log = [0.001, 0.1] }\ndropout = { uniform = [0.1, 0.4] }")  # fmt: skip
    compiled = ("--target", "income", "--epochs", 1, "--set", "hidden_sizes=5", "--quiet", "--space", "rate.toml")
    run("tune", people, "--trials", 1, *compiled)
    once = set(keys)
    run("tune", people, "--trials", 2, *compiled)
    assert once and set(keys) == once


# ---- stopping and going on ---------------------------------------------------------------------------------------------


def test_a_search_stopped_by_ctrl_c_keeps_what_there_is_and_goes_on_to_the_same_bits(run, people, monkeypatch):
    run("tune", people, "--trials", 4, "--quiet", *QUICK)

    class Pressed(tune_command.CtrlC):
        count = 0

        @property
        def pressed(self):
            type(self).count += 1
            return type(self).count == 8

        @pressed.setter
        def pressed(self, value):
            pass

    with monkeypatch.context() as patched:
        patched.setattr(tune_command, "CtrlC", Pressed)
        said = run("tune", people, "--trials", 4, "--quiet", *QUICK, code=130).stderr
    assert "everything is saved, the best so far is trial " in said
    assert said.rstrip().endswith("to continue: pellucid tune --resume tune-people-mlp-2")
    assert (runs.RUNS_DIR / "tune-people-mlp-2/best.toml").exists()
    assert len(epochs("tune-people-mlp-2")) < 4
    run("tune", "--resume", "tune-people-mlp-2", "--quiet")
    assert weights("tune-people-mlp-2") == weights("tune-people-mlp-1")


def test_a_search_that_was_killed_goes_on(run, people):
    run("tune", people, "--trials", 4, "--quiet", *QUICK)
    one, two = (runs.RUNS_DIR / f"tune-people-mlp-{k}" for k in (1, 2))
    shutil.copytree(one, two)
    plan = json.loads((two / "tuning.json").read_text())
    (two / "tuning.json").write_text(json.dumps({**plan, "finished": False}))
    for k in (3, 4):  # a kill between making a folder and writing its first file
        shutil.rmtree(two / f"trial-{k}")
    (two / "trial-3").mkdir()
    run("tune", "--resume", str(two), "--quiet")
    assert weights("tune-people-mlp-2") == weights("tune-people-mlp-1")


def test_a_finished_search_reads_its_test_part_no_second_time(run, people, tested):
    run("tune", people, "--trials", 1, "--quiet", *QUICK)
    said = run("tune", "--resume", "tune-people-mlp-1", "--trials", 9, code=2).stderr
    assert "--resume tune-people-mlp-1: it is finished" in said and len(tested) == 1


# ---- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--trials", 0), "--trials: '0'; expected a whole number from 1"),
        (("--minutes", -1), "--minutes -1: expected a number above 0"),
        (("--minutes", "nan"), "--minutes nan: expected a number above 0"),
        (("--set", "lr=x"), "--set lr: 'x' is a str"),
        (("--set", "ensemble=3"), "--set ensemble: 3; expected one network a trial"),
        (("--space", "no.toml"), "no.toml: no such file; expected a TOML file that says how settings are drawn"),
        (("--metric", "rmse"), "metric: rmse is no score of a classification"),
    ],
)
def test_what_tune_refuses_leaves_no_folder(run, people, words, said):
    assert said in run("tune", people, "--target", "income", "--trials", 2, "--quiet", *words, code=2).stderr
    assert not list(runs.RUNS_DIR.glob("*"))


def test_tune_without_data_and_a_tuning_that_is_not_there(run):
    assert "missing argument DATA" in run("tune", code=2).stderr
    assert "nope: no such tuning" in run("tune", "--resume", "nope", code=2).stderr
    assert "--resume: --seed cannot be combined" in run("tune", "--resume", "nope", "--seed", 1, code=2).stderr
    assert "gan has no search space" in run("tune", "digits", "--model", "gan", "--quiet", code=2).stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lr = { log = [1, 0.1] }", "expected two numbers, the lower first, the lower above 0"),
        ("lr = { log = [0, 0.1] }", "the lower above 0"),
        ("lr = { uniform = [0.1] }", "expected two numbers"),
        ("lr = 0.1", "expected how it is drawn"),
        ("lr = { logs = [0.1, 1] }", "Did you mean 'log'"),
        ("lrr = { log = [0.1, 1] }", "no such setting of mlp"),
        ("seed = { choice = [1, 2] }", "seed: not searched"),
        ("batch_size = { uniform = [8, 64] }", "which batch_size does not take"),
        ("activation = { choice = ['rely'] }", "expected one of"),
        ("activation = { choice = [] }", "no values to choose from"),
        ("lr = [", "expected TOML"),
        ("", "nothing is left to draw"),
    ],
)
def test_what_a_space_may_say(run, people, here, line, said):
    (here / "space.toml").write_text(line)
    told = run("tune", people, "--target", "income", "--trials", 2, "--quiet", "--space", "space.toml", code=2).stderr
    assert said in told and not list(runs.RUNS_DIR.glob("*"))


@pytest.mark.parametrize("family", sorted(path.stem for path in SPACES.glob("*.toml")))
def test_every_shipped_space_draws_what_its_family_takes(family):
    space = load_space(family)
    assert family in FAMILIES and "lr" in space
    for k in range(2, 30):
        resolve_config(family, sample(space, 0, k))


def test_settings_as_toml_are_read_again():
    values = {"a": True, "b": 1e-7, "c": [64, 32], "d": 'a "b"\\ \n\t\x7f ü', "e": ["x", "y"], "f": [], "g": 3}
    assert tomllib.loads(as_toml(values)) == values
