"""Options about training that `train` and `tune` share (floor 11)."""

from __future__ import annotations

from pathlib import Path

import click

from ..models import FAMILIES
from ..runs.metric_names import METRIC_TASKS
from .options import Decorator, Whole, option

MODEL = option(
    "--model", metavar="NAME", heading="Network", common=True, help=f"The family of network: {', '.join(FAMILIES)}."
)
EAGER = option(
    "--eager",
    is_flag=True,
    default=None,
    heading="Training",
    help="Run operation by operation: slower, but without compiling first.",
)
SET = option(
    "--set",
    "more",
    multiple=True,
    metavar="NAME=VALUE",
    heading="Training",
    common=True,
    help="Any other setting of the training or the network.",
)
METRIC = option(
    "--metric",
    metavar="NAME",
    heading="Splits and scores",
    common=True,
    help=f"The score to select by and to tell first: {', '.join(METRIC_TASKS)}.",
)
RESUME = option("--resume", metavar="RUN", heading="Run", common=True, help="Continue a run that was stopped.")
CONFIG = option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    heading="Run",
    help="A TOML file of options and settings, or the name of a shipped recipe.",
)
NUM_THREADS = option(
    "--num-threads", type=Whole(), heading="Run", help="Threads for compiled steps and matrix products."
)
QUIET = option("--quiet", is_flag=True, help="Show no progress; warnings are still told.")


def epochs_option(common: bool) -> Decorator:
    """--epochs. common: whether --help shows it, where a command has many options."""
    return option("--epochs", type=Whole(), heading="Training", common=common, help="Passes over the training data.")
