"""Settings: where they come from, and what is refused."""

from pathlib import Path

import pytest

from pellucid.data.kinds import KINDS
from pellucid.errors import DataError, OptionError
from pellucid.models import FAMILIES, family, family_for
from pellucid.runs.settings import RECIPES, RENAMED_RECIPES, load_recipe, parse_overrides, read_config, resolve_config


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_every_recipe_fits(name):
    resolve_config(name.split("-")[0], read_config(RECIPES / f"{name}.toml"))


def test_the_more_particular_recipe_wins(monkeypatch, tmp_path):
    monkeypatch.setattr("pellucid.runs.settings.RECIPES", tmp_path)
    (tmp_path / "mlp-image-grey.toml").write_text("epochs = 1\nlr = 0.5")
    (tmp_path / "mlp-mnist.toml").write_text("epochs = 2")
    (tmp_path / "mlp-image-grey-over-10k.toml").write_text("seed = 7")
    (tmp_path / "cnn-image-grey.toml").write_text("epochs = 9")
    assert load_recipe("mlp", "mnist", "image-grey", 9_999) == {"epochs": 2, "lr": 0.5}
    assert load_recipe("mlp", "mnist", "image-grey", 10_000) == {"epochs": 2, "lr": 0.5, "seed": 7}


def test_a_list_and_a_whole_number_will_do():
    settings, config = resolve_config("mlp", {"hidden_sizes": [7, 5], "lr": 1, "epochs": 3})
    assert config.hidden_sizes == (7, 5) and settings.lr == 1.0 and settings.epochs == 3


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lr": -1.0}, "lr: -1.0; expected a number above 0"),
        ({"lr": float("nan")}, "lr: nan"),
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"epochs": "3"}, "epochs: '3' is a str; expected a whole number"),
        ({"epochs": True}, "epochs: True"),
        ({"optimizer": "adamww"}, "Did you mean 'adamw'"),
        ({"ema_decay": 1.0}, "ema_decay: 1.0"),
    ],
)
def test_what_is_refused(values, words):
    with pytest.raises(OptionError, match=words):
        resolve_config("mlp", values)


def test_a_config_file_that_is_not_toml_is_named(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("lr 3")
    with pytest.raises(DataError, match="run.toml: .*expected TOML"):
        read_config(path)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("lr=0.5", {"lr": 0.5}),
        ("steps-per-epoch = 7", {"steps_per_epoch": 7}),
        ("hidden_sizes=128,64", {"hidden_sizes": [128, 64]}),
        ("hidden_sizes=[128, 64]", {"hidden_sizes": [128, 64]}),
        ("freeze=stages.0,head", {"freeze": ["stages.0", "head"]}),
        ("optimizer=muon", {"optimizer": "muon"}),
        ('optimizer="muon"', {"optimizer": "muon"}),
        ("flip=true", {"flip": True}),
        ("out=a=b", {"out": "a=b"}),
    ],
)
def test_a_setting_is_said_as_in_toml_or_without_its_marks(written, expected):
    assert parse_overrides([written]) == expected


def test_of_two_settings_of_one_name_the_later_counts():
    assert parse_overrides(["lr=1", "epochs=2", "lr=3"]) == {"lr": 3, "epochs": 2}


@pytest.mark.parametrize("written", ["lr", "=3", "lr=", ""])
def test_what_is_no_setting_is_shown(written):
    with pytest.raises(OptionError, match=rf"^--set {written}: no NAME=VALUE; .*write --set lr=0.001"):
        parse_overrides([written])


def test_settings_of_the_network_are_typed_like_those_of_training():
    settings, config = resolve_config(
        "cnn", parse_overrides(["channels=8,16", "flip=true", "zoom=0", "freeze=stages", "lr=1"])
    )
    assert (config.channels, config.flip, config.zoom) == ((8, 16), True, 0.0)
    assert settings.freeze == ("stages",) and settings.lr == 1.0
    assert resolve_config("lstm", {"hidden_sizes": 5})[1].hidden_sizes == (5,)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"flip": "yes"}, "flip: 'yes' is a str; expected true or false; write false"),
        ({"channels": "a"}, r"channels: \('a',\); expected whole numbers from 1"),
        ({"depth": 1.5}, "depth: 1.5 is a float; expected a whole number; write 2"),
        ({"freeze": [3]}, r"freeze: \[3\]; expected paths of layers"),
        ({"lr": "fast"}, "lr: 'fast' is a str; expected a number; write 0.002"),
        ({"channel": 3}, "channel: no such setting of cnn; .*Did you mean 'channels'"),
    ],
)
def test_values_of_another_kind_are_named_with_one_that_would_do(values, words):
    with pytest.raises(OptionError, match=words):
        resolve_config("cnn", values)


def test_a_recipe_by_its_name_brings_its_family_unless_there_is_such_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_config(Path("cnn-image-grey")) == {"model": "cnn", **read_config(RECIPES / "cnn-image-grey.toml")}
    Path("cnn-image-grey").write_text("epochs = 1")
    assert read_config(Path("cnn-image-grey")) == {"epochs": 1}
    with pytest.raises(DataError, match="cnn-imag: no such file; .*mlp-table.*Did you mean 'cnn-image'"):
        read_config(Path("cnn-imag"))
    with pytest.raises(DataError, match="a directory; expected a TOML file"):
        read_config(tmp_path)


# ---- families by kind of data --------------------------------------------------------------------------------------------


def test_every_kind_of_data_has_a_family_that_learns_from_it():
    for kind in KINDS.values():
        assert family_for(kind.name, kind.inputs, kind.default_family, None) == kind.default_family
    taken = {encoding for name in FAMILIES for encoding in family(name).inputs}
    assert taken == {encoding for kind in KINDS.values() for encoding in kind.inputs}
    image = KINDS["image"]
    assert family_for("image", image.inputs, image.default_family, "gan") == "gan"


def test_recipes_by_their_earlier_names_say_the_new_one():
    for old, new in RENAMED_RECIPES.items():
        assert (RECIPES / f"{new}.toml").is_file() and not (RECIPES / f"{old}.toml").exists()
        with pytest.raises(DataError, match=f"{old}: this recipe is now called {new}; .* write --config {new}"):
            read_config(Path(old))


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        (
            "text",
            "cnn",
            "model: cnn learns from image, the data are of kind text; expected one of lstm, transformer.*; leave",
        ),
        ("table", "lstm", "expected one of mlp.*; leave --model out for mlp"),
        ("text", "trasformer", "Did you mean 'transformer'"),
    ],
)
def test_a_family_for_other_data_is_refused_with_those_that_fit(kind, name, words):
    with pytest.raises(OptionError, match=words):
        family_for(kind, KINDS[kind].inputs, KINDS[kind].default_family, name)
