"""One word has one meaning: in the options of all commands, in --set and --config, and for Python."""

import dataclasses
import importlib
import re
from collections import defaultdict
from pathlib import Path

import click
import pytest

import pellucid
from pellucid.cli.data_options import DATA_OPTIONS
from pellucid.cli.options import DOZEN, HEADINGS, HeadedCommand, HeadedOption
from pellucid.cli.shell import COMMANDS
from pellucid.data.kinds import KINDS
from pellucid.data.table.read_options import PARSERS
from pellucid.models import FAMILIES
from pellucid.runs.renamed import NEW_NAMES
from pellucid.runs.settings import Settings

ROOT = Path(pellucid.__file__).parent
PARSED = {name: importlib.import_module(f"pellucid.cli.{name}").command for name in COMMANDS}
OPTIONS = {
    name: {option: p for p in command.params if isinstance(p, click.Option) for option in (*p.opts, *p.secondary_opts)}
    for name, command in PARSED.items()
}
EVERY = {option for own in OPTIONS.values() for option in own} | {"--help", "--help-all", "--version"}

# Settings that several families have, and what the word means in all of them.
SHARED_SETTINGS = {
    "activation": "the function between layers",
    "conditional": "whether the class is told to the generator",
    "context_length": "tokens that a network reads at most",
    "depth": "how deep the network is: layers of a stage (cnn), levels (diffusion); runs have it saved",
    "dropout": "the share of units that a training step drops",
    "embedding_dim": "the length of the vector of a category or token",
    "hidden_sizes": "the size of each hidden layer",
    "label_smoothing": "the share of a label that goes to all classes",
    "shift": "pixels by which training images are moved at most",
    "width": "channels of the level with the fewest",
}
# Keys of --read that are options too, and why.
SHARED_KEYS = {"header": "where the names of the columns stand: in the first row or in none, or in row N"}


def meaning(option):
    return option.help, option.metavar, type(option.type).__name__, option.multiple, option.is_flag


@pytest.mark.parametrize("word", sorted({option for own in OPTIONS.values() for option in own}))
def test_an_option_means_the_same_in_every_command(word):
    found = {name: meaning(own[word]) for name, own in OPTIONS.items() if word in own}
    assert len(set(found.values())) == 1, found


def test_kinds_of_data_share_the_option_of_a_name():
    objects = defaultdict(set)
    for kind in KINDS.values():
        for option in kind.options:
            objects[option.name].add(id(option))
    assert {name for name, own in objects.items() if len(own) > 1} == set()


def settings_by_name():
    found = defaultdict(lambda: defaultdict(list))
    for owner, cls in [("training", Settings), *((name, family.config) for name, family in FAMILIES.items())]:
        for field in dataclasses.fields(cls):
            found[field.name][str(field.type)].append(owner)
    return found


def test_a_setting_has_one_type_and_one_meaning():
    found = settings_by_name()
    assert {name: dict(types) for name, types in found.items() if len(types) > 1} == {}
    shared = {name for name, types in found.items() if sum(map(len, types.values())) > 1}
    assert shared == set(SHARED_SETTINGS), "a word of two families means the same in both: say what, or rename it"
    assert set(found) & set(DATA_OPTIONS) == set(), "a word is about the data, or about the training"
    assert set(PARSERS) & {*DATA_OPTIONS, *found} == set(SHARED_KEYS)


def test_an_option_that_is_a_setting_has_its_type():
    found = settings_by_name()
    forms = {"int": "Whole", "float": "Number", "str": "StringParamType", "bool": "BoolParamType", "tuple[int, ...]": "Numbers",
             "tuple[str, ...]": "Names"}  # fmt: skip
    for name, option in OPTIONS["train"].items():
        for kind in found.get(name.removeprefix("--").replace("-", "_"), ()):
            assert type(option.type).__name__ in (forms[kind], f"{forms[kind]}OrNone"), name


def test_an_old_name_is_no_longer_a_name_of_an_option():
    words = {option.removeprefix("--").replace("-", "_") for option in EVERY}
    still = {old for old in NEW_NAMES if old in words}
    # What is another option of another command, or the setting of another family.
    assert still == {"out", "hidden_sizes", "ensemble", "with"}


def test_messages_and_pages_name_options_that_exist():
    files = [*ROOT.rglob("*.py"), *ROOT.rglob("*.toml"), ROOT.parent / "README.md", ROOT.parent / "docs" / "families.md",
             ROOT.parent / "docs" / "data.md"]  # fmt: skip
    unknown = {
        (path.name, word)
        for path in files
        for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", path.read_text(encoding="utf-8"))
        if word not in EVERY and word != "--no-"
    }
    assert unknown == set()


# ---- help --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name, own in PARSED.items() if sum(p.param_type_name == "option" for p in own.params) > DOZEN]
)
def test_help_shows_a_dozen_options_and_help_all_shows_all_under_headings(run, name):
    assert isinstance(PARSED[name], HeadedCommand)
    shown = re.findall(r"^  (?:-h, )?(--[a-z-]+)", run(name, "--help").stdout, re.M)
    assert len(shown) <= DOZEN + 2 and shown[-2:] == ["--help-all", "--help"]
    full = run(name, "--help-all").stdout
    assert [line for line in full.splitlines() if line[:-1] in HEADINGS] == [
        f"{heading}:" for heading in HEADINGS if any(p.heading == heading for p in OPTIONS[name].values())
    ]
    every = re.findall(r"^  (?:-h, )?(--[a-z-]+)", full, re.M)
    assert len(every) == len(set(every)), "each option stands under one heading"
    assert {f"{p.opts[0]}" for p in OPTIONS[name].values()} | {"--help-all", "--help"} == set(every)
    more = len({id(p) for p in OPTIONS[name].values()}) - (len(shown) - 2)
    assert f"{more} more options: pellucid {name} --help-all" in run(name, "--help").stdout


def test_a_command_with_few_options_shows_all_in_help(run):
    shown = run("predict", "--help").stdout
    assert "--help-all" not in shown and "--json" in shown and "--horizon" in shown


def test_every_option_of_a_long_command_has_a_heading():
    for name, own in OPTIONS.items():
        if len(PARSED[name].params) > DOZEN:
            assert all(isinstance(p, HeadedOption) and p.heading in HEADINGS for p in own.values())
