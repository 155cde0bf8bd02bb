"""The registry: what it says of each kind of data is what the rest of the library finds there."""

from __future__ import annotations

import click
import pytest

from pellucid.cli.train import command
from pellucid.data import kinds
from pellucid.data.base import DataKind, PredictionForm, Source
from pellucid.data.datasets import catalogue
from pellucid.data.kinds import KINDS, data_options, kind_named, preprocessor_from_json
from pellucid.data.load import load_problem, open_source
from pellucid.errors import DataError, OptionError, StateError
from pellucid.models import FAMILIES


def test_names_agree():
    for name, kind in KINDS.items():
        assert name == kind.name == kind.preprocessor.kind
        assert kind.default_family in FAMILIES and set(kind.inputs) & set(FAMILIES[kind.default_family].inputs)
    assert {dataset.kind for dataset in catalogue()} <= set(KINDS)


def test_every_option_about_data_is_one_of_the_command():
    offered = {p.name: p for p in command.params if isinstance(p, click.Option)}
    for name, option in data_options().items():
        assert offered[name].help == option.help
        assert (offered[name].is_flag, bool(offered[name].secondary_opts)) == (bool in option.types, option.negatable)
    text = command.help or ""
    assert all(kind.container in text for kind in KINDS.values() if kind.endings)


def test_kinds_that_share_an_option_mean_the_same_by_it():
    for kind in KINDS.values():
        for option in kind.options:
            assert data_options()[option.name] is option


def test_a_kind_that_is_none():
    with pytest.raises(StateError, match=r"kind of data 'smells'; expected one of .*image.*another version"):
        kind_named("smells")
    for old in ("images", "pictures"):
        with pytest.raises(StateError, match=f"{old!r}: the run is of an earlier version .* train it again"):
            preprocessor_from_json({"kind": old})


def test_an_option_that_is_none():
    with pytest.raises(
        OptionError, match=r"^tagret: no such option about data; expected one of .*Did you mean 'target'"
    ):
        load_problem("digits", tagret=1)


class Smells(DataKind):
    """A kind that is only its own file: nothing else of the library knows it."""

    name, title, container, folder_form, noun = "smells", "smells", "a folder of smells", "smells", "smell"
    endings, default_family, inputs = frozenset({".nose"}), "cnn", ("image",)
    prediction = PredictionForm.FILES
    preprocessor = KINDS["image"].preprocessor

    def recognises(self, content, options):
        return content.share(self.endings) == 1

    def load(self, source):
        return f"{source.name}, {source.seed}"


def test_a_new_kind_needs_one_line_in_the_registry(tmp_path, monkeypatch):
    (tmp_path / "rose.nose").write_text("sweet")
    with pytest.raises(DataError, match="1 other files; expected one kind"):
        load_problem(str(tmp_path))
    monkeypatch.setattr(kinds, "KINDS", {"smells": Smells(), **KINDS})
    assert load_problem(str(tmp_path), seed=3) == f"{tmp_path.name}, 3"
    with pytest.raises(OptionError, match="--target: .* holds smells; expected a table with this option"):
        load_problem(str(tmp_path), target="x")


def test_data_of_another_kind_than_the_run_s():
    with pytest.raises(DataError, match="digits: a data set of kind image; expected a table, as in training"):
        open_source("digits", KINDS["table"])
    with pytest.raises(DataError, match=r"digits: .* expected a series \(a table with --time-column\), as in training"):
        open_source("digits", KINDS["series"])
    source = open_source("digits", KINDS["image"], 5)
    assert isinstance(source, Source) and source.seed == 5 and source.dataset is not None
