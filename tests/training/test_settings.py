"""Settings: where they come from, and what is refused."""

from pathlib import Path

import pytest

from pellucid.errors import DataError, OptionError
from pellucid.training.settings import RECIPES, choose, read_config, recipe


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_every_recipe_fits(name):
    choose(name.split("-")[0], read_config(Path(name)))


def test_the_more_particular_recipe_wins(monkeypatch, tmp_path):
    monkeypatch.setattr("pellucid.training.settings.RECIPES", tmp_path)
    (tmp_path / "mlp-images.toml").write_text("epochs = 1\nlr = 0.5")
    (tmp_path / "mlp-mnist.toml").write_text("epochs = 2")
    (tmp_path / "mlp-images-large.toml").write_text("seed = 7")
    (tmp_path / "cnn-images.toml").write_text("epochs = 9")
    assert recipe("mlp", "mnist", "images", 9_999) == {"epochs": 2, "lr": 0.5}
    assert recipe("mlp", "mnist", "images", 10_000) == {"epochs": 2, "lr": 0.5, "seed": 7}


def test_a_list_and_a_whole_number_will_do():
    settings, config = choose("mlp", {"layers": [7, 5], "lr": 1, "epochs": 3})
    assert config.layers == (7, 5) and settings.lr == 1.0 and settings.epochs == 3


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lr": -1.0}, "lr: -1.0; expected a number above 0"),
        ({"lr": float("nan")}, "lr: nan"),
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"epochs": "3"}, "epochs: '3' is a str; expected a whole number"),
        ({"epochs": True}, "epochs: True"),
        ({"optimizer": "adamww"}, "Did you mean 'adamw'"),
        ({"average": 1.0}, "average: 1.0"),
    ],
)
def test_what_is_refused(values, words):
    with pytest.raises(OptionError, match=words):
        choose("mlp", values)


def test_a_config_file_that_is_not_toml_is_named(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("lr 3")
    with pytest.raises(DataError, match="run.toml: .*expected TOML"):
        read_config(path)
