"""Settings: where they come from, and what is refused."""

import pytest

from pellucid.errors import DataError, OptionError
from pellucid.training.settings import RECIPES, choose, read_config, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_fits(name):
    choose("mlp", RECIPES[name])


def test_the_more_particular_recipe_wins(monkeypatch):
    monkeypatch.setitem(RECIPES, "images", {"epochs": 1, "lr": 0.5})
    monkeypatch.setitem(RECIPES, "mnist", {"epochs": 2})
    monkeypatch.setitem(RECIPES, "images large", {"seed": 7})
    assert recipe("mnist", "images", 9_999) == {"epochs": 2, "lr": 0.5}
    assert recipe("mnist", "images", 10_000) == {"epochs": 2, "lr": 0.5, "seed": 7}


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
