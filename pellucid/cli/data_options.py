"""Options about data, from the registry of kinds: those of `train` and `doctor`, and --read of all commands that read (floor 11)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..data.base import DataOption
from ..data.kinds import data_options
from ..data.table.kind import READ_OPTION
from .options import Decorator, Names, Number, Whole, option

DATA_OPTIONS = data_options()  # --set and a --config file may give them too


def data_option_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options that the registry of kinds of data declares."""
    for one in reversed(DATA_OPTIONS.values()):
        function = _click_option(one)(function)
    return function


def _click_option(one: DataOption) -> Decorator:
    flag = "--" + one.name.replace("_", "-")
    shown: dict[str, Any] = {"heading": one.heading, "common": one.common, "help": one.help}
    if bool in one.types:
        names = f"{flag}/--no-{flag[2:]}" if one.negatable else flag
        return option(names, is_flag=True, default=None, **shown)
    forms: dict[tuple[type, ...], click.ParamType] = {(int,): Whole(), (int, float): Number()}
    if list in one.types:
        return option(flag, one.name, type=Names(), metavar=one.metavar, multiple=True, callback=_flat, **shown)
    return option(flag, one.name, type=forms.get(one.types), metavar=one.metavar, **shown)


def _flat(context: click.Context, param: click.Parameter, value: tuple[tuple[str, ...], ...]) -> tuple[str, ...] | None:
    """The names of an option that may be given several times; None where it is not."""
    return tuple(name for names in value for name in names) or None


READ = _click_option(READ_OPTION)
